"""The study: its loss is the trainer's, its exact gradient the expectation, and its words follow from its numbers."""

import importlib
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from test_trainer import worked_inputs

from nsr_trl.cli import main
from nsr_trl.commands import study as command
from nsr_trl.objective import CORRECT, INCORRECT, OBJECTIVE_NAMES, build_objective
from nsr_trl.study import policy
from nsr_trl.study.policy import LogProbs, controls, log_probs, pass_at_k, pretrain, solve_rate
from nsr_trl.study.report import words
from nsr_trl.study.run import OBJECTIVES, PRESETS, build_objectives, run_study
from nsr_trl.study.summary import mean_over_worlds, summarize, t_quantile
from nsr_trl.study.training import (
    KS,
    OPTIMIZERS,
    Settings,
    draw_tokens,
    expected_loss,
    expected_weights,
    logps_of_tokens,
    surrogate,
    train,
    weigh,
)
from nsr_trl.study.world import CLEAN, World


pytestmark = pytest.mark.xdist_group("study")


@pytest.fixture(scope="module")
def world():
    return World(0, PRESETS["low"].author_success)


@pytest.fixture(scope="module")
def base(world):
    return pretrain(world)


# --- The loss and the gradient ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("objective", ["psr", "nsr", "w_reinforce", "maxrl", "grpo"])
def test_the_loss_is_the_trainers(make_trainer, world, base, objective):
    """The same rows through TRL's loss and through the study's: one loss, one gradient of the parameters."""
    problems = world.problems(4, torch.Generator())
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        of = log_probs(base, problems.bits)
        tokens = [draw_tokens(logps, torch.rand(1, 4, 8, generator=generator)) for logps in of]
        old_logps = logps_of_tokens(of, tokens)  # (1, 4, 8, 2)
    outcomes = torch.tensor([[1] * c + [-1] * (8 - c) for c in (0, 1, 4, 8)], dtype=torch.int8)
    parameters = [(p + 0.02 * torch.randn(p.shape, generator=generator)).requires_grad_() for p in base]
    logps = logps_of_tokens(log_probs(parameters, problems.bits), tokens)
    ratio = (logps - old_logps).exp()
    assert (ratio > 1.2).any()  # the clip acts
    assert (ratio < 0.8).any()
    weights = weigh([build_objective(objective)], outcomes[None])

    loss = surrogate(logps, old_logps, weights)[0]
    own = torch.autograd.grad(loss, parameters, retain_graph=True)

    trainer = make_trainer(objective=objective)
    rows = logps.view(32, 2)
    inputs = worked_inputs(torch.zeros(3)) | {
        "prompt_ids": torch.ones(32, 2, dtype=torch.long),
        "prompt_mask": torch.ones(32, 2, dtype=torch.long),
        "completion_ids": torch.ones(32, 2, dtype=torch.long),
        "completion_mask": torch.ones(32, 2, dtype=torch.long),
        "advantages": weights.view(32),
        "outcomes": outcomes.view(32),
        "num_items_in_batch": torch.tensor(64),
        "old_per_token_logps": old_logps.view(32, 2),
    }

    def hand_over(*args, **kwargs):
        trainer._forward = (rows.detach(), torch.ones(32, 2))
        return rows, torch.ones(32, 2), None

    trainer._get_per_token_logps_and_entropies = hand_over
    trainer.current_gradient_accumulation_steps = 1
    trainer.model.train()
    of_trainer = trainer.compute_loss(trainer.model, inputs)
    torch.testing.assert_close(loss, of_trainer)
    for one, other in zip(own, torch.autograd.grad(of_trainer, parameters), strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("has_slips", [True, False])
def test_the_exact_loss_has_the_gradient_of_all_answers_together(world, base, has_slips):
    """Each of the 40 x 4 answers as a row, with its probability and its weight in groups of one."""
    problems = world.problems(3, torch.Generator())
    parameters = [parameter.clone().requires_grad_() for parameter in base]
    of = log_probs(parameters, problems.bits)
    num_tokens = 2 if has_slips else 1
    logps = of.strategy[..., None] + (of.execution[..., None, :] if has_slips else 0)  # (1, 3, 40, 4 or 1)
    is_right = problems.works[..., None] & (torch.arange(logps.shape[-1]) == CLEAN)  # (3, 40, 4 or 1)
    weights = torch.where(is_right, 0.5, -1.0)
    # the mean over tokens of weight x score: a row's T tokens share its weight
    by_hand = -(logps.exp().detach() * weights * logps).sum((-1, -2)).mean() / num_tokens
    rates = solve_rate(of, problems.works, has_slips)
    objective = build_objective("w_reinforce", positive_weight=0.5)
    exact = expected_loss(rates, expected_weights(objective, rates.detach(), group_size=8), num_tokens)
    for one, other in zip(
        torch.autograd.grad(by_hand, parameters, retain_graph=True),
        torch.autograd.grad(exact.sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-6, rtol=1e-4)


def test_expected_weights_average_over_the_rest_of_the_group():
    """GRPO in groups of 2: one right has s = sqrt(1/4 x 2) = .7071, right .5/.7071 = .7071, and 0 where both agree."""
    p = torch.tensor([0.0, 0.25, 1.0])
    right, wrong = expected_weights(build_objective("grpo"), p, group_size=2).unbind(-1)
    torch.testing.assert_close(right, 0.5**0.5 * (1 - p), atol=1e-5, rtol=1e-5)  # the other one is wrong
    torch.testing.assert_close(wrong, -(0.5**0.5) * p, atol=1e-5, rtol=1e-5)  # the other one is right


def test_an_objective_that_reads_the_batch_has_no_exact_gradient_here():
    with pytest.raises(ValueError, match=r"one group at a time; those of 'a_grae'"):
        expected_weights(build_objective("a_grae"), torch.tensor([0.5]), group_size=8)


def test_tokens_fall_where_the_numbers_are():
    logps = torch.tensor([[[0.25, 0.5, 0.25]]]).log()
    numbers = torch.tensor([[[0.0, 0.2, 0.3, 0.74, 0.76, 0.9999999]]])
    assert draw_tokens(logps, numbers).tolist() == [[[0, 0, 1, 1, 2, 2]]]


# --- The world and what is measured ----------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", PRESETS)
def test_the_author_succeeds_as_often_as_asked_and_slips_in_six_of_ten_texts(preset):
    world = World(1, PRESETS[preset].author_success)
    _, works = world.problems(8000, world.generator("test problems"))
    assert works.any(1).all()
    success = (world._author(works) * works).sum(1).mean()
    assert success == pytest.approx(world.author_success, abs=0.03)
    _, _, executions = world.texts(4000, world.generator("base"))
    assert (executions != CLEAN).float().mean() == pytest.approx(0.6, abs=0.03)


def test_measures_by_hand():
    """Strategies .5, .25, .25, of which the first two work; clean .4: p = .75 x .4 = .3."""
    of = LogProbs(torch.tensor([[[0.5, 0.25, 0.25]]]).log(), torch.tensor([[[0.4, 0.6]]]).log())
    even = LogProbs(torch.full((1, 1, 3), 1 / 3).log(), torch.full((1, 1, 2), 0.5).log())
    works = torch.tensor([[True, True, False]])
    rates = solve_rate(of, works)
    torch.testing.assert_close(rates, torch.tensor([[0.3]]))
    torch.testing.assert_close(pass_at_k(rates, (1, 2)), torch.tensor([[0.3, 0.51]], dtype=torch.float64))  # 1 - .7^2
    found = {name: value.item() for name, value in controls(of, even, works).items()}
    strategy = 0.5 * math.log(2) + 0.5 * math.log(4)
    execution = -(0.4 * math.log(0.4) + 0.6 * math.log(0.6))
    assert found["entropy"] == pytest.approx(strategy + execution)
    assert found["kl"] == pytest.approx(math.log(3) - strategy + math.log(2) - execution)
    assert found["strategies"] == pytest.approx(math.exp(2 / 3 * math.log(3 / 2) + 1 / 3 * math.log(3)))  # 2/3, 1/3
    assert found["clean"] == pytest.approx(0.4)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_runs_in_one_tensor_do_not_touch_each_other(world, base, optimizer):
    settings = Settings(steps=6, optimizer=optimizer, num_problems=8)

    def trained(*names):
        of = train(world, build_objectives(names), 2, settings, base)
        return dict(zip(names, of.pass_at_k[-1], strict=True))

    alone, together = trained("psr"), trained("nsr", "psr", "w_reinforce")
    np.testing.assert_allclose(alone["psr"], together["psr"], atol=1e-6)
    assert np.abs(together["nsr"] - together["psr"]).max() > 1e-4
    assert np.abs(alone["psr"][0] - alone["psr"][1]).max() > 1e-4  # seeds differ


def test_with_exact_gradients_the_four_are_one_curve(world, base):
    """What tells PSR, NSR, W-REINFORCE and REINFORCE apart is estimation: their expected gradients are parallel."""
    names = ["psr", "nsr", "w_reinforce", "reinforce"]
    of = train(world, build_objectives(names), 1, Settings(steps=60, is_exact=True), base)
    last = of.pass_at_k[-1, :, 0]  # (O, K)
    assert np.abs(last - last[0]).max() < 1e-3
    assert last[0, 0] > of.pass_at_k[0, 0, 0, 0] + 0.05  # and they learn
    assert last[0, -1] < of.pass_at_k[0, 0, 0, -1] - 0.05  # and lose Pass@256


def test_every_objective_trains(world, base):
    of = train(world, build_objectives(OBJECTIVE_NAMES), 1, Settings(steps=5, num_problems=8), base)
    moved = np.abs(of.pass_at_k[-1] - of.pass_at_k[0]).max(axis=(1, 2))  # (O,)
    assert (moved > 0).all()


def test_runs_off_policy_are_measured_as_often_as_whole_batches_allow(world, base):
    """4 updates per batch: after 8 steps, the first whole batches that make 5 or more, and at the end."""
    of = train(world, build_objectives(["nsr"]), 1, Settings(steps=18, num_updates=4, num_problems=8), base)
    assert of.steps == [0, 8, 16, 18]


def test_a_run_that_diverges_is_named(world, base):
    settings = Settings(steps=5, optimizer="sgd", learning_rate=1e30)
    with pytest.raises(ValueError, match="psr diverged before step 5 at learning rate 1e"):
        train(world, build_objectives(["psr"]), 1, settings, base)


def test_the_benchmarks_adam_is_torchs_and_turns_back(monkeypatch):
    """`benchmarks/study.py` varies it: as it is it equals AdamW, and a rotated basis is left as it was entered."""
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "benchmarks")
    benchmark = importlib.import_module("study")
    generator = torch.Generator().manual_seed(0)
    start = [torch.randn(2, 5, 3, generator=generator), torch.randn(2, 3, generator=generator)]
    gradients = [[torch.randn(p.shape, generator=generator) for p in start] for _ in range(4)]
    ends = []
    for make in (lambda p: benchmark.Adam(p, lr=0.1), lambda p: torch.optim.AdamW(p, lr=0.1, weight_decay=0.01)):
        parameters = [p.clone().requires_grad_() for p in start]
        optimizer = make(parameters)
        for of_step in gradients:
            for parameter, gradient in zip(parameters, of_step, strict=True):
                parameter.grad = gradient.clone()
            optimizer.step()
        ends.append(parameters)
    for one, other in zip(*ends, strict=True):
        torch.testing.assert_close(one, other)
    bases = benchmark.Adam([p.clone().requires_grad_() for p in start], lr=0.1, rotates=True).bases
    for values, basis in zip(start, bases, strict=True):
        turned = benchmark._turn(values, basis)
        assert (turned - values).abs().max() > 0.1
        torch.testing.assert_close(benchmark._turn(turned, [side.T for side in basis]), values, atol=1e-5, rtol=1e-5)


# --- What the study shows --------------------------------------------------------------------------------------------


def assert_the_picture_shows(pass_at_k):
    """In each world, `(M, O, N, K)`, what the docs say of AdamW at a low pass rate; seeds averaged."""
    points = 100 * pass_at_k.mean(axis=2)  # (M, O, K)
    lost = {name: points[-1, i, -1] - points[0, i, -1] for i, name in enumerate(OBJECTIVES)}
    assert lost["psr"] < -3
    assert lost["nsr"] > -3
    assert lost["nsr"] > lost["reinforce"] > lost["grpo"] > lost["psr"]


def test_at_equal_steps_psr_loses_what_nsr_keeps_and_at_equal_pass_at_1_the_gap_is_small(world, base):
    of = train(world, build_objectives(OBJECTIVES), 2, Settings(steps=200), base)
    assert_the_picture_shows(of.pass_at_k)
    summary = summarize(OBJECTIVES, KS, of.steps, of.pass_at_k[None], {k: v[None] for k, v in of.controls.items()})
    equal, matched = summary.equal_pairs["nsr", "psr"][-1].value, summary.matched_pairs["nsr", "psr"][-1].value
    assert 0 < matched < equal / 2
    assert summary.matched_steps["nsr"].value > 2 * summary.matched_steps["psr"].value


@pytest.mark.slow
def test_the_default_study_says_what_the_docs_say(tmp_path):
    said = []
    summary = run_study(build_objectives(OBJECTIVES), output_dir=tmp_path / "out", say=said.append)
    content = json.loads((tmp_path / "out" / "study.json").read_text())
    for of_world in np.array(content["pass_at_k"]):
        assert_the_picture_shows(of_world)
    assert "PSR gives up Pass@256 that NSR and W-REINFORCE keep, as in the paper" in said[1]
    assert summary.matched_pairs["nsr", "psr"][-1].is_above
    assert summary.matched_pairs["nsr", "psr"][-1].value < summary.equal_pairs["nsr", "psr"][-1].value / 2
    assert "Minus NSR there" in said[1]


@pytest.mark.slow
def test_with_sgd_no_such_claim_is_printed():
    said = []
    run_study(build_objectives(OBJECTIVES), settings=Settings(steps=200, optimizer="sgd"), say=said.append)
    assert "as in the paper" not in said[1]
    assert "points of Pass@256 behind NSR" not in said[1]


# --- Its numbers and words -------------------------------------------------------------------------------------------


def test_the_t_quantiles_are_those_of_the_table():
    expected = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 9: 2.262, 30: 2.042}
    assert {df: round(t_quantile(df), 3) for df in expected} == expected


def test_seeds_are_averaged_inside_a_world_and_the_interval_is_over_worlds():
    mean = mean_over_worlds(np.array([[0.0, 2.0], [2.0, 4.0], [5.0, 5.0]]))  # 1, 3, 5: sd 2, t of two df 4.303
    assert mean.value == 3
    assert mean.half_width == pytest.approx(4.303 * 2 / 3**0.5, abs=1e-3)
    assert not mean.is_above
    assert not mean.is_below
    alone = mean_over_worlds(np.array([[1.0, 3.0]]))
    assert (alone.value, alone.text("+")) == (2, "+2.0")
    assert not alone.is_above


FACTS = {"preset": "low", "worlds": 3, "seeds": 1, "seconds": 1.0, "optimizer": "adamw", "learning_rate": 1e-3}
FACTS |= {"is_exact": False, "has_slips": True}


def summary_of(**curves):
    """A study of three worlds that differ by a hair: Pass@1 and Pass@256 in percent by step and objective."""
    by_objective = np.array(list(curves.values())) / 100  # (O, M, 2)
    worlds = by_objective.transpose(1, 0, 2)[None, :, :, None] + np.array([0.0, 1e-4, 2e-4])[:, None, None, None, None]
    worlds = (
        worlds + 1e-5 * np.arange(3)[:, None, None, None, None] * np.arange(len(curves))[None, None, :, None, None]
    )
    names = ("entropy", "kl", "strategies", "clean", "rows")
    return summarize(list(curves), (1, 256), [0, 5, 10], worlds, {name: np.zeros(worlds.shape[:-1]) for name in names})


def test_runs_are_matched_where_they_first_have_the_pass_at_1():
    """Peaks 30 and 20, start 10: the level is 10 + .9 x 10 = 19. PSR is there at 45% of its first 5 steps."""
    summary = summary_of(psr=[(10, 80), (30, 60), (30, 50)], nsr=[(10, 80), (15, 80), (20, 75)])
    assert summary.level.value == pytest.approx(19, abs=0.05)
    assert summary.matched_steps["psr"].value == pytest.approx(0.45 * 5, abs=0.01)
    assert summary.matched_steps["nsr"].value == pytest.approx(5 + 0.8 * 5, abs=0.01)
    assert summary.matched["psr"][-1].value == pytest.approx(80 - 0.45 * 20, abs=0.05)  # 71
    assert summary.matched["nsr"][-1].value == pytest.approx(80 - 0.8 * 5, abs=0.05)  # 76
    assert summary.matched_pairs["nsr", "psr"][-1].value == pytest.approx(5, abs=0.05)
    assert summary.num_ahead["nsr", "psr"] == 3
    said = " ".join(words(summary, FACTS))
    assert "PSR gives up Pass@256 that NSR keeps" not in said  # it is 5 below its base
    assert "NSR loses 25.0 ±0.0 points of Pass@256 less than PSR, and does not keep it" in said
    assert "80% of the difference is gone and PSR is 5.0 ±0.0 points of Pass@256 behind NSR" in said


@pytest.mark.parametrize(
    ("nsr", "shown", "not_shown"),
    [
        ([(10, 80), (15, 80), (20, 80.2)], "PSR gives up Pass@256 that NSR keeps, as in the paper", "does not keep"),
        ([(10, 80), (15, 60), (20, 40)], "The paper's picture does not show at equal steps", "as in the paper"),
        ([(10, 80), (15, 60), (20, 55)], "it is NSR that is behind", "PSR is"),
        ([(10, 80), (9, 70), (8, 60)], "Not matched, as they gain too little at k = 1: NSR", "At equal Pass@1"),
    ],
)
def test_the_words_follow_from_the_numbers(nsr, shown, not_shown):
    said = " ".join(words(summary_of(psr=[(10, 80), (30, 60), (30, 50)], nsr=nsr), FACTS))
    assert shown in said
    assert not_shown not in said


def test_one_world_says_nothing_of_what_it_shows():
    summary = summary_of(psr=[(10, 80), (30, 60), (30, 50)], nsr=[(10, 80), (15, 80), (20, 80.2)])
    assert "One world has no interval" in words(summary, FACTS | {"worlds": 1})[-1]
    assert len(words(summary, FACTS | {"worlds": 1})) == 2


# --- The command -----------------------------------------------------------------------------------------------------


def test_the_command_writes_tables_numbers_and_figures(tmp_path, capsys, monkeypatch):
    (tmp_path / "own_rule.py").write_text("def signs(outcomes, scale=1.0):\n    return scale * outcomes.float()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(policy, "PRETRAINING_STEPS", 40)
    out = tmp_path / "out"
    line = "study --worlds 2 --seeds 1 --steps 7 --objectives psr own_rule.py:signs pkpo --output-dir out"
    main(
        [
            *line.split(),
            "--objective-args",
            "own_rule.py:signs",
            '{"scale": 0.5}',
            "--objective-args",
            "pkpo",
            '{"k": 2}',
        ]
    )
    printed = capsys.readouterr().out
    for heading in ("Equal steps: after 7 steps of AdamW at 0.001", "Controls, after the last step"):
        assert heading in printed
    content = json.loads((out / "study.json").read_text())
    assert np.shape(content["pass_at_k"]) == (2, 3, 3, 1, 9)  # worlds, steps 0, 5 and 7, objectives, seeds, k
    assert content["measured_steps"] == [0, 5, 7]
    assert content["objectives"]["own_rule.py:signs"] == "own_rule.py:signs (scale=0.5)"
    report = (out / "README.md").read_text()
    assert "toy world, chosen after seeing that it shows the effect" in report
    for figure in ("pass_at_k.png", "over_pass_at_1.png"):
        assert (out / figure).read_bytes().startswith(b"\x89PNG")
        assert f"]({figure})" in report
    with pytest.raises(SystemExit):
        main(line.split())
    assert "must be new or empty" in capsys.readouterr().err


def test_the_same_study_gives_the_same_numbers(world, base):
    settings = Settings(steps=5, num_problems=8)
    one, other = (train(world, build_objectives(["nsr"]), 1, settings, base) for _ in range(2))
    assert (one.pass_at_k == other.pass_at_k).all()


def test_the_choices_offered_are_those_there_are():
    assert (*PRESETS,) == command.PRESET_NAMES
    assert (*OPTIMIZERS,) == command.OPTIMIZER_NAMES


def test_outcomes_are_decided_by_strategy_and_execution(world, base):
    """The share of right rows is p, within 5 standard errors of what was drawn."""
    problems = world.problems(200, torch.Generator())
    with torch.no_grad():
        of = log_probs(base, problems.bits)
    numbers = torch.rand(1, 200, 64, 2, generator=torch.Generator().manual_seed(1))
    strategy, execution = (draw_tokens(logps, numbers[..., i]) for i, logps in enumerate(of))
    is_right = problems.works[None].gather(-1, strategy) & (execution == CLEAN)
    assert {CORRECT, INCORRECT} == {1, -1}
    expected = solve_rate(of, problems.works).mean().item()
    assert is_right.float().mean().item() == pytest.approx(expected, abs=5 * (expected / 12800) ** 0.5)
