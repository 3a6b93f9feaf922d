"""Prompts that carry a signal: the draw by hand, unbiased by enumeration, and in the trainer."""

import itertools

import pytest
import torch
from trl import GRPOConfig, GRPOTrainer

from nsr_trl.allocation import (
    HALF_LIFE,
    PassRates,
    PromptAllocation,
    expected_signal,
    inclusion_chances,
    pick,
)
from nsr_trl.metrics import allocation_metrics, unbiased_metrics
from nsr_trl.objective import OBJECTIVE_NAMES, build_objective, rule_of


def float64(*values):
    return torch.tensor(values, dtype=torch.float64)


def weigh(name, *args):
    return rule_of(build_objective(name, *args))


# --- the signal to expect ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("group_size", [2, 8, 64])
def test_the_signal_of_a_sign_is_the_root_of_the_expected_rate(group_size):
    a, b = float64(3, 1, 0.5), float64(1, 1, 4.5)  # E[p] = .75, .5, .1
    right, wrong = float64(0.75, 0.5, 0.1), float64(0.25, 0.5, 0.9)
    for name, expected in {
        "nsr": wrong,
        "psr": right,
        "w_reinforce": 0.1**2 * right + wrong,
        "reinforce": torch.ones(3).double(),
    }.items():
        torch.testing.assert_close(expected_signal(a, b, group_size, weigh(name)), expected.sqrt(), msg=name)


def test_the_signal_of_a_member_of_the_family_by_hand():
    # of two completions 0, 1 or 2 are right, a third each under Beta(1, 1); MaxRL weighs them 0, (1, -1) and 0
    torch.testing.assert_close(expected_signal(float64(1), float64(1), 2, weigh("maxrl")), float64(1 / 3).sqrt())
    # Beta(2, 1): chances of c = 0, 1, 2 are 1/6, 1/3, 1/2 (B(2+c, 3-c) C(2, c) / B(2, 1))
    torch.testing.assert_close(expected_signal(float64(2), float64(1), 2, weigh("maxrl")), float64(1 / 3).sqrt())
    # Dr. GRPO weighs one of two right by +1/2, -1/2: a mean square of 1/4
    torch.testing.assert_close(expected_signal(float64(2), float64(1), 2, weigh("dr_grpo")), float64(1 / 12).sqrt())


@pytest.mark.parametrize("name", OBJECTIVE_NAMES)
def test_every_objective_has_a_finite_signal(name):
    signal = expected_signal(float64(1e-3, 0.5, 99), float64(99, 0.5, 1e-3), 8, weigh(name))
    assert signal.isfinite().all()
    assert (signal >= 0).all()
    assert signal.max() > 0


def test_pass_rates_by_hand():
    rates = PassRates(4)
    assert [p.tolist() for p in rates.posterior()] == [[0.5] * 4, [0.5] * 4]  # nothing is known
    rates.see(torch.tensor([2, 0]), torch.tensor([[1, 1, 1, -1], [-1, -1, 0, 0]], dtype=torch.int8))
    assert rates.right.tolist() == [0, 0, 3, 0]
    assert rates.wrong.tolist() == [2, 0, 1, 0]  # what is undecided counts for neither
    # the mean rate of those seen, 3/4 and 0, with one more right and one more wrong prompt: 1.75 / 4
    assert rates.posterior()[0].tolist() == [0.4375, 0.4375, 3.4375, 0.4375]
    assert rates.posterior()[1].tolist() == [2.5625, 0.5625, 1.5625, 0.5625]
    for _ in range(int(HALF_LIFE) * 2 - 1):  # two prompts of four: half a pass
        rates.see(torch.tensor([1, 3]), torch.zeros(2, 4, dtype=torch.int8))
    assert rates.right[2] == pytest.approx(3 * 0.5 ** ((2 * HALF_LIFE - 1) * 0.5 / HALF_LIFE))
    rates.see(torch.tensor([1, 3]), torch.zeros(2, 4, dtype=torch.int8))
    assert rates.right[2] == pytest.approx(1.5)  # half of three, after HALF_LIFE passes


# --- the draw ---------------------------------------------------------------------------------------------------


def test_chances_by_hand():
    # shares 3/4, 1/4, 0; .7 of them and .3 of a third: .625, .275, .1
    torch.testing.assert_close(inclusion_chances(float64(3, 1, 0), 1, 0.3), float64(0.625, 0.275, 0.1))
    # twice that is above 1 for the first, and the others share the second draw: .275/.375, .1/.375
    torch.testing.assert_close(inclusion_chances(float64(3, 1, 0), 2, 0.3), float64(1, 11 / 15, 4 / 15))
    torch.testing.assert_close(inclusion_chances(float64(3, 1, 0), 3, 0.3), float64(1, 1, 1))
    torch.testing.assert_close(inclusion_chances(float64(0, 0, 0), 2, 0.3), float64(2, 2, 2) / 3)  # no signal at all
    torch.testing.assert_close(inclusion_chances(float64(3, 1, 0), 2, 1.0), float64(2, 2, 2) / 3)  # a floor of all


def test_chances_keep_the_floor_and_sum_to_what_is_drawn():
    torch.manual_seed(0)
    for num in (1, 7, 63, 64):
        chances = inclusion_chances(torch.rand(64).double() ** 8, num, 0.2)
        assert chances.sum().item() == pytest.approx(num)
        assert chances.min() >= 0.2 * num / 64 - 1e-12
        assert chances.max() <= 1


def draws(chances, num):
    """Every draw there is, `(probability, prompts)`: all orders, and the starts between which the draw changes."""
    orders = list(itertools.permutations(range(len(chances))))
    for order in map(torch.tensor, orders):
        cuts = sorted({0.0, 1.0, *(chances[order].cumsum(0) % 1).tolist()})
        for low, high in itertools.pairwise(cuts):
            if high - low < 1e-12:  # the same cut, but for the last bit
                continue
            yield (high - low) / len(orders), pick(chances, num, order, (low + high) / 2)


@pytest.mark.parametrize("num", [1, 2, 3, 4])
def test_a_prompt_is_drawn_by_its_chance_and_once_at_most(num):
    chances = inclusion_chances(float64(4, 1, 0.5, 2, 0), num, 0.1)
    found = torch.zeros(5).double()
    for probability, prompts in draws(chances, num):
        assert len(set(prompts.tolist())) == num
        found[prompts] += probability
    torch.testing.assert_close(found, chances)


LOGITS = float64(2.0, 0.0, -3.0, 1.0)
"""A bandit: at each of four prompts one parameter, the log-odds of a right answer."""


def group_gradients(prompt, objective, group_size=2):
    """(Probability, gradient of the loss with respect to `LOGITS`, mean squared weight) of each group of a prompt."""
    p = LOGITS[prompt].sigmoid().item()
    for outcomes in itertools.product((1, -1), repeat=group_size):
        weights = weigh(objective)(torch.tensor([outcomes], dtype=torch.int8))[0].double()
        scores = torch.tensor([1 - p if outcome > 0 else -p for outcome in outcomes], dtype=torch.float64)
        gradient = torch.zeros_like(LOGITS)
        gradient[prompt] = -(weights * scores).mean()
        chance = torch.tensor([p if outcome > 0 else 1 - p for outcome in outcomes], dtype=torch.float64).prod()
        yield chance, gradient, weights.square().mean()


@pytest.mark.parametrize("objective", ["nsr", "psr", "w_reinforce", "maxrl", "rloo"])
@pytest.mark.parametrize("num", [1, 2, 3])
def test_the_gradient_is_unbiased_by_enumeration(objective, num):
    """Over every draw and every group the mean is the mean gradient of the four prompts."""
    signal = expected_signal(float64(3, 1, 0.2, 2), float64(0.4, 1, 3, 1), 2, weigh(objective))
    chances = inclusion_chances(signal, num, 0.2)
    expected = [sum(chance * gradient for chance, gradient, _ in group_gradients(i, objective)) for i in range(4)]
    found, alike = torch.zeros(4).double(), torch.zeros(4).double()
    for probability, prompts in draws(chances, num):
        scales = num / 4 / chances[prompts]
        for prompt, scale in zip(prompts.tolist(), scales, strict=True):
            found += probability * scale * expected[prompt] / num
            alike += probability * expected[prompt] / num
    torch.testing.assert_close(found, torch.stack(expected).mean(0))
    assert not torch.allclose(alike, found)  # greedy is another objective


def test_the_variance_is_that_of_the_closed_form():
    """
    One prompt drawn, NSR: E[(g/q)^2] is mean of s^2/q, least at q = s / mean s, where it is (mean s)^2.

    By enumeration over draws and groups, of the squared weights as the measure of a gradient.
    """
    p = LOGITS.sigmoid()
    signal = (1 - p).sqrt()  # what is known is true
    chances = inclusion_chances(signal, 1, 1e-9)
    alike = saved = 0.0
    for probability, prompts in draws(chances, 1):
        for chance, _, square in group_gradients(prompts.item(), "nsr"):
            scale = 1 / 4 / chances[prompts.item()]
            alike += probability * chance * scale * square
            saved += probability * chance * (scale * square - scale**2 * square)
    assert alike == pytest.approx((1 - p).mean().item())  # (.119 + .5 + .953 + .269) / 4 = .460
    assert alike - saved == pytest.approx(signal.mean().item() ** 2)  # (.345 + .707 + .976 + .519)^2 / 16 = .405
    assert saved / alike == pytest.approx(1 - signal.mean().item() ** 2 / (1 - p).mean().item(), rel=1e-6)
    assert saved / alike == pytest.approx(0.119, abs=1e-3)


def test_metrics_by_hand():
    outcomes = torch.tensor([[1, 1, 1, 1], [1, -1, -1, 0], [-1, -1, -1, -1]], dtype=torch.int8)
    scales = torch.tensor([2.0, 0.5, 0.5])
    found = {name: (total / count).item() for name, (total, count) in allocation_metrics(outcomes, scales).items()}
    assert found == {
        "signed/allocation/correct_ratio": pytest.approx((2 * 1 + 0.5 * 0.25) / 3),
        "signed/allocation/held_back_ratio": pytest.approx(1 / 3),
        "signed/allocation/held_back_correct_ratio": 1.0,
    }
    found = {
        name: (total / count).item()
        for name, (total, count) in unbiased_metrics(weigh("nsr")(outcomes), scales).items()
    }
    assert found == {
        "signed/allocation/effective_prompts": pytest.approx(3**2 / (3 * (4 + 0.25 + 0.25))),
        # mean squares 0, 1/2, 1: alike .5 x 1.5 = .75, as drawn .25 x 1.5 = .375
        "cost/generation_saved": pytest.approx(0.5),
    }


def test_a_prompt_that_is_forgotten_comes_back():
    """Solved prompts are drawn rarely; one of them is then always wrong, is found at the floor, and drawn often."""
    allocation = PromptAllocation(32, floor=0.2, seed=0)
    rule = weigh("nsr")

    def count(num_rollouts, is_forgotten):
        num = 0
        for _ in range(num_rollouts):
            draw = allocation.draw(8, 4, rule)
            right = (draw.prompts < 24) & ~((draw.prompts == 0) & is_forgotten)  # a quarter is never solved
            allocation.rates.see(draw.prompts, torch.where(right, 1, -1).unsqueeze(1).expand(-1, 4))
            num += int((draw.prompts == 0).sum())
        return num / num_rollouts

    count(40, False)
    solved = count(400, False)
    count(40, True)
    forgotten = count(400, True)
    assert 0.2 * 8 / 32 < solved < 0.8 * 8 / 32  # above the floor, below the average
    assert forgotten > 1.5 * 8 / 32
    assert forgotten > 3 * solved


# --- in the trainer ---------------------------------------------------------------------------------------------


def parity(prompts, completion_ids, **kwargs):
    """Right at even prompts, wrong at odd ones, with one undecided in a while."""
    return [
        None if sum(ids) % 7 == 0 else float(int(p[0]) % 2 == 0)
        for p, ids in zip(prompts, completion_ids, strict=True)
    ]


def watch(trainer):
    """Keeps the rollouts of a trainer: its draws, the prompts of its inputs, and the batches."""
    kept = []
    generate = type(trainer)._generate_and_score_completions

    def generate_and_keep(inputs):
        draw = trainer._draw
        known = (
            None if trainer._allocation is None else trainer._allocation.rates.right + trainer._allocation.rates.wrong
        )
        known = None if known is None else known.clone()
        batch = generate(trainer, inputs)
        kept.append((draw, [row["prompt"] for row in inputs], batch, known))
        return batch

    trainer._generate_and_score_completions = generate_and_keep
    return kept


SETTINGS = {"reward_funcs": parity, "per_device_train_batch_size": 16, "max_steps": 8, "objective": "w_reinforce"}


@pytest.mark.parametrize("compact", ["on", "off"])
def test_the_prompts_drawn_are_those_that_are_generated_for_and_they_weigh_by_their_chance(make_trainer, compact):
    trainer = make_trainer(**SETTINGS, prompt_allocation="unbiased", compact=compact)
    kept = watch(trainer)
    trainer.train()
    assert len(kept) == 8
    scales = torch.cat([draw.scales for draw, *_ in kept])
    assert scales.min() < 0.9
    assert 1.1 < scales.max() <= 5  # the floor of 0.2
    for draw, prompts, batch, _ in kept:
        assert prompts == [f"{n}+{n}=" for n in draw.prompts.tolist() for _ in range(4)]
        signs = {1: 0.1, -1: -1.0, 0: 0.0}
        expected = torch.tensor([signs[outcome] for outcome in batch["outcomes"].tolist()])
        torch.testing.assert_close(batch["advantages"], expected * draw.scales.repeat_interleave(4))
    drawn = torch.cat([draw.prompts for draw, *_ in kept[2:]])
    assert (drawn % 2 == 1).float().mean() > 0.6  # the unsolved ones
    log = trainer.state.log_history[3]
    assert {"cost/generation_saved", "signed/allocation/effective_prompts"} <= log.keys()
    assert log["signed/allocation/correct_ratio"] > log["signed/correct_ratio"]
    facts = trainer.card_facts()
    assert facts.settings["prompts drawn"] == "unbiased, by the signal expected, floor 0.2"
    assert facts.trained["generation saved at equal variance of the gradient"].endswith("%")


def test_greedy_draws_unequally_and_weighs_alike(make_trainer):
    trainer = make_trainer(**SETTINGS, prompt_allocation="greedy")
    kept = watch(trainer)
    trainer.train()
    assert len({scale for draw, *_ in kept for scale in draw.scales.tolist()}) > 2
    assert {round(w, 6) for *_, batch, _ in kept for w in batch["advantages"].tolist()} <= {-1.0, 0.0, 0.1}
    assert "cost/generation_saved" not in trainer.state.log_history[3]
    assert "signed/allocation/held_back_ratio" in trainer.state.log_history[3]


def test_grpo_keeps_trls_advantages_times_the_weights(make_trainer):
    trainer = make_trainer(**(SETTINGS | {"objective": "grpo", "reward_funcs": mixed}), prompt_allocation="unbiased")
    kept = watch(trainer)
    trainer.train()
    for draw, _, batch, _ in kept:
        rewards = torch.where(batch["outcomes"] > 0, 1.0, 0.0).view(-1, 4)
        advantages = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
        torch.testing.assert_close(batch["advantages"], advantages.view(-1) * draw.scales.repeat_interleave(4))
    assert any((batch["advantages"] != 0).any() for *_, batch, _ in kept)


def mixed(prompts, completion_ids, **kwargs):
    return [float((int(p[0]) + sum(ids)) % 3 == 0) for p, ids in zip(prompts, completion_ids, strict=True)]


def test_compaction_is_exact_with_weights_of_any_size(make_trainer):
    parameters = []
    for compact in ("on", "off"):
        trainer = make_trainer(**(SETTINGS | {"reward_funcs": mixed}), prompt_allocation="unbiased", compact=compact)
        trainer.train()
        parameters.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(*parameters, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("settings", [{}, {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 2}])
def test_prompts_are_drawn_of_all_that_was_seen_however_far_the_dataloader_reads_ahead(make_trainer, settings):
    """The draw of a rollout knows the outcomes of the last one: 16 completions more than that one knew, 7/8 fading."""
    trainer = make_trainer(**(SETTINGS | {"reward_funcs": mixed}), prompt_allocation="unbiased", **settings)
    kept = watch(trainer)
    trainer.train()
    fading = 0.5 ** (4 / 8 / HALF_LIFE)
    for (_, _, _, before), (_, _, _, after) in itertools.pairwise(kept):
        assert after.sum().item() == pytest.approx(before.sum().item() * fading + 16)


def test_evaluation_takes_every_prompt(make_trainer, prompts):
    trainer = make_trainer(
        **SETTINGS,
        prompt_allocation="unbiased",
        eval_dataset=prompts,
        num_generations_eval=2,
        per_device_eval_batch_size=4,
    )
    kept = watch(trainer)
    trainer.train()
    del kept[:]
    trainer.evaluate()
    found = [prompt for draw, rows, _, _ in kept for prompt in rows if draw is None]
    assert sorted(found) == sorted(2 * list(prompts["prompt"]))


def test_a_second_training_knows_nothing_of_the_first(make_trainer):
    trainer = make_trainer(**(SETTINGS | {"max_steps": 2}), prompt_allocation="unbiased")
    kept = watch(trainer)
    trainer.train()
    trainer.train()
    assert [draw.prompts.tolist() for draw, *_ in kept[:1]] == [draw.prompts.tolist() for draw, *_ in kept[2:3]]
    assert kept[2][3].sum() == 0


def test_another_dataset_is_refused_when_a_run_is_resumed(make_trainer, prompts):
    allocation = make_trainer(**SETTINGS, prompt_allocation="greedy")._allocation
    other = make_trainer(**SETTINGS, prompt_allocation="greedy", train_dataset=prompts.select(range(7)))._allocation
    with pytest.raises(ValueError, match="the checkpoint's dataset has 8 and this one 7"):
        other.load(allocation.state())


def test_what_cannot_be_drawn_from_is_refused(make_trainer, make_config, prompts):
    with pytest.raises(ValueError, match="must have a length; got 'unbiased' and a IterableDataset"):
        make_trainer(prompt_allocation="unbiased", train_dataset=prompts.to_iterable_dataset())
    with pytest.raises(ValueError, match="`prompt_allocation` must be one of none, unbiased, greedy; got 'dynamic'"):
        make_config(prompt_allocation="dynamic")
    for floor in (0, -0.1, 1.1, "0.2", True, float("nan")):
        with pytest.raises(ValueError, match="`allocation_floor` must be a number above 0, at most 1"):
            make_config(allocation_floor=floor)
    for settings in (
        {"objective": "a_grae"},
        {"lambda_controller": "balance"},
        {"objective": "nsr", "lambda_controller": "handover"},
    ):
        with pytest.raises(ValueError, match="moves by the mean over a batch"):
            make_config(prompt_allocation="unbiased", **settings)
    make_config(prompt_allocation="unbiased", lambda_controller={"kind": "handover", "rise": None}, objective="nsr")
    make_config(prompt_allocation="unbiased", lambda_controller="entropy")
    with pytest.raises(ValueError, match="exactly one of the reward functions parity, mixed"):
        make_trainer(**(SETTINGS | {"objective": "grpo", "reward_funcs": [parity, mixed]}), prompt_allocation="greedy")


def test_a_run_that_sees_no_prompt_twice_is_told_so(make_trainer, caplog):
    make_trainer(**(SETTINGS | {"max_steps": 2}), prompt_allocation="unbiased")  # 2 x 4 of 8 prompts
    assert "gains nothing here: the run takes 1 passes over its 8 prompts" in caplog.text
    caplog.clear()
    make_trainer(**(SETTINGS | {"per_device_train_batch_size": 32}), prompt_allocation="unbiased")
    assert "gains nothing here: every generation takes all of the 8 prompts" in caplog.text
    caplog.clear()
    make_trainer(**SETTINGS, prompt_allocation="unbiased")
    make_trainer(**(SETTINGS | {"max_steps": 1}))
    assert "gains nothing" not in caplog.text


def test_without_it_the_prompts_are_trls(make_trainer):
    ours, theirs = make_trainer(**SETTINGS), make_trainer(GRPOTrainer, GRPOConfig, per_device_train_batch_size=16)
    sampled = [list(trainer._get_train_sampler()) for trainer in (ours, theirs)]
    assert sampled[0] == sampled[1]
