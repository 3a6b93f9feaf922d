"""How full micro-batches may be, measured: with a meter that tells of a device's memory, and without a device."""

import pytest
import torch
from test_compacted_training import Logs, thirds, varied
from test_resume import parameters

from nsr_trl.budget import NO_LIMIT, NUM_OBSERVED, MeasuredBudget, places_per_micro_step


class FakeMeter:
    """A device of 1,000 bytes of which weights take 100, gradients 50 once there are any, and a place 0.5."""

    def __init__(self, capacity=1000):
        self.capacity, self.gradients = capacity, 0
        self.waits = 0

    def begin(self):
        self.allocated = 100 + self.gradients
        return self.allocated

    def run(self, places):
        self.gradients = 50
        self.highest = 150 + places // 2
        if self.highest > self.capacity:
            raise torch.cuda.OutOfMemoryError

    def peak(self):
        return self.highest

    def available(self):
        return self.capacity

    def wait(self):
        self.waits += 1


def alone(tensor):
    return tensor


def run_generation(budget, meter, default, micro_steps=2):
    """Micro-steps of a generation, each as full as it may be; places of one."""
    budget.begin_rollout(alone)
    meter.gradients = 0  # the optimizer has stepped
    places = budget.of(default)
    for _ in range(micro_steps):
        with budget.measured(places):
            meter.run(places)
    return places


def test_the_budget_doubles_until_it_fills_its_share_of_the_memory():
    """0.85 x 1,000 bytes less 150 of weights and gradients leave 700, at half a byte each 1,400 places."""
    meter = FakeMeter()
    budget = MeasuredBudget(meter)
    sizes = [run_generation(budget, meter, default=100) for _ in range(8)]
    assert sizes == [100, 100, 200, 400, 800, 1400, 1400, 1400]  # the first generation is not looked at
    assert meter.highest == 850


def test_a_small_generation_does_not_shrink_it_and_one_that_takes_too_much_does():
    budget = MeasuredBudget(FakeMeter())
    budget.see(400, before=150, peak=350, available=1000)
    assert budget.of(100) == 800
    budget.see(10, before=150, peak=155, available=1000)
    assert budget.of(100) == 800
    assert budget.of(900) == 900
    # 900 bytes are 50 more than the share: (850 - 150) / (900 - 150) of the 1,000 places
    budget.see(1000, before=150, peak=900, available=1000)
    assert budget.of(1000) == 933


def test_where_memory_ran_out_it_never_grows_again_beyond_half_of_that():
    meter = FakeMeter()
    budget = MeasuredBudget(meter)
    assert run_generation(budget, meter, default=1600) == 1600
    meter.capacity = 700  # something else has come
    with pytest.raises(torch.cuda.OutOfMemoryError):
        run_generation(budget, meter, default=1600)
    assert budget.halve(1600) == 800
    assert [run_generation(budget, meter, default=1600) for _ in range(3)] == [800, 800, 800]


def test_ranks_agree_on_the_least_budget_and_on_the_seconds_of_all():
    budget = MeasuredBudget(FakeMeter())
    budget.see(400, before=150, peak=350, available=1000)
    budget.begin_rollout(lambda mine: torch.cat([mine, torch.tensor([[600, 500]])]))
    assert (budget.grown, budget.most) == (600, 500)


def test_what_a_micro_step_costs_is_told_from_seconds_though_some_were_held_up():
    places = torch.tensor([100.0, 200, 300, 400, 500, 600, 700, 800, 900])
    seconds = 0.3 + 0.002 * places  # 150 places each
    seconds[4] += 5
    assert places_per_micro_step(torch.stack([places, seconds], 1)) == pytest.approx(150, rel=0.02)
    assert places_per_micro_step(torch.stack([places, 0.002 * places - 0.01], 1)) == 0.0
    assert places_per_micro_step(torch.stack([places, torch.ones(9)], 1)) == NO_LIMIT
    assert places_per_micro_step(torch.ones(9, 2)) == NO_LIMIT  # of one size alone: nothing to choose from


def test_the_cost_is_learned_from_trial_cuts_then_stays_and_goes_with_a_checkpoint(monkeypatch):
    monkeypatch.setattr("nsr_trl.budget.time.perf_counter", lambda: now[0])
    now, budget, tried = [0.0], MeasuredBudget(), []
    for _ in range(4):
        budget.begin_rollout(alone)
        tried.append(budget.trial_places)
        for places in range(100, 100 * (NUM_OBSERVED // 2 + 1), 100):
            with budget.measured(places):
                now[0] += 0.5 + 0.01 * places
    assert tried[:3] == [None, 0.0, None]
    assert tried[3] == pytest.approx(50, rel=1e-3)
    resumed = MeasuredBudget()
    resumed.load(budget.state())
    resumed.begin_rollout(alone)
    assert resumed.trial_places == tried[3]
    assert resumed.state() == budget.state() | {"num_rollouts": 5}


RUN = {
    "reward_funcs": thirds,
    "rollout_func": varied,
    "objective": "w_reinforce",
    "per_device_train_batch_size": 4,
    "gradient_accumulation_steps": 4,
    "optim": "adamw_torch",
    "learning_rate": 1e-3,
    "max_steps": 3,
}


def train(make_trainer, fail_above=None, **settings):
    """A run in which a backward pass over more rows than `fail_above` runs out of memory, half of it done."""
    logs, failures = Logs(), []
    trainer = make_trainer(**RUN | settings, callbacks=[logs])
    first = trainer.model.model.layers[0].self_attn.q_proj
    rows = [0]

    def note(module, inputs):
        rows[0] = len(inputs[0])

    def fail(module, grads, outputs):
        if fail_above is not None and rows[0] > fail_above:
            failures.append(rows[0])
            raise torch.cuda.OutOfMemoryError

    first.register_forward_pre_hook(note)
    first.register_full_backward_hook(fail)
    trainer.train()
    return trainer, logs.rows[:-1], failures


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"fail_above": 4},  # not the first micro-step, which holds four of the longest rows
        {"fail_above": 4, "entropy_coef": 1.0, "lambda_controller": "entropy"},
        {"num_iterations": 2},
        {"gradient_accumulation_steps": 1, "per_device_train_batch_size": 16},
        {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 8, "steps_per_generation": 4},
        {"entropy_coef": 1.0},
        {"use_adaptive_entropy": True, "entropy_coef": 0.1, "entropy_target": 99.0},
        {"lambda_controller": "entropy"},
        {"objective": "nsr", "dropped_rows": "reference", "steps_per_generation": 8},
    ],
    ids=str,
)
def test_where_memory_runs_out_the_optimizer_step_begins_anew_and_ends_the_same(make_trainer, more):
    """Gradients that the failed backward pass has left would show at once."""
    trainer, our_logs, failures = train(make_trainer, max_tokens_per_microbatch="auto", **{"fail_above": 2} | more)
    expected, their_logs, none = train(make_trainer, **more | {"fail_above": None})
    assert not none
    assert failures
    theirs = parameters(expected)
    assert (parameters(trainer) - theirs).norm() <= 1e-5 * theirs.norm()
    assert trainer._step == expected._step
    assert trainer.entropy_coef == pytest.approx(expected.entropy_coef)
    for ours, wanted in zip(our_logs, their_logs, strict=True):
        assert ours == pytest.approx(wanted, rel=1e-3, abs=1e-6)


def test_a_step_in_which_a_single_row_does_not_fit_ends_the_run_and_says_why(make_trainer):
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        train(make_trainer, fail_above=0, max_tokens_per_microbatch="auto")
    assert "cannot begin anew in smaller micro-batches: a single row did not fit" in caught.value.__notes__[0]
    with pytest.raises(torch.cuda.OutOfMemoryError) as caught:
        train(make_trainer, fail_above=2)
    assert not hasattr(caught.value, "__notes__")


def test_on_a_cpu_auto_says_once_what_it_measures_and_trains_the_same(make_trainer, caplog):
    expected, _, _ = train(make_trainer, max_steps=8)
    caplog.clear()
    trainer, _, _ = train(make_trainer, max_steps=8, max_tokens_per_microbatch="auto")
    assert caplog.text.count("'auto' measures no memory on a cpu device") == 1
    theirs = parameters(expected)
    assert (parameters(trainer) - theirs).norm() <= 1e-5 * theirs.norm()
    assert trainer._budget.micro_step_places is not None
    prompts = {len(trainer.processing_class(text=row["prompt"])["input_ids"]) for row in trainer.train_dataset}
    budgets = {log["cost/tokens_per_microbatch"] for log in trainer.state.log_history if "loss" in log}
    assert budgets <= {4 * (length + 8) for length in prompts}  # nothing is measured: four rows of full length
    for obstacle in ({"compact": "off"}, {"loss_type": "grpo"}):
        caplog.clear()
        trainer = make_trainer(max_tokens_per_microbatch="auto", **obstacle)
        assert "max_tokens_per_microbatch='auto' has no effect: " in caplog.text
        assert trainer._budget is None


def test_once_the_cost_is_known_a_resumed_run_is_the_run_that_was_not_stopped(make_trainer, tmp_path):
    settings = RUN | {"max_tokens_per_microbatch": "auto", "max_steps": 10, "save_strategy": "steps", "save_steps": 1}
    del settings["rollout_func"]  # whose generator does not go with a checkpoint
    whole = make_trainer(**settings)
    whole.train()
    for step in (7, 9):
        resumed = make_trainer(**settings, output_dir=str(tmp_path / "again"))
        resumed.train(resume_from_checkpoint=str(tmp_path / f"checkpoint-{step}"))
        assert torch.equal(parameters(resumed), parameters(whole))
        assert resumed._budget.micro_step_places == whole._budget.micro_step_places is not None


@pytest.mark.parametrize(("given", "taken"), [("auto", "auto"), ("4096", 4096), (4096, 4096), (None, None)])
def test_a_budget_is_auto_or_a_number(make_config, given, taken):
    assert make_config(max_tokens_per_microbatch=given).max_tokens_per_microbatch == taken
    with pytest.raises(
        ValueError, match="`max_tokens_per_microbatch` must be a whole number of tokens, 1 or more, 'auto'"
    ):
        make_config(max_tokens_per_microbatch="much")
