"""An exception anywhere leaves a trainer as good as new: nothing of a rollout outlives it."""

import pytest
import torch
import trl
from transformers import TrainerCallback, set_seed

from nsr_trl import SignedRewardTrainer
from nsr_trl.rollout import Rollout


class Crash(Exception):
    """What a user's Ctrl-C, a time-out of NCCL or a lack of memory is to the trainer."""


class Logs(TrainerCallback):
    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.rows.append({k: v for k, v in logs.items() if not k.endswith(("_time", "runtime")) and "second" not in k})


# where it happens: TRL's and transformers' methods around every hook, and what they call
PLACES = [
    "_generate_and_score_completions",
    "_generate",
    "_generate_single_turn",
    "_calculate_rewards",
    "_get_per_token_logps_and_entropies",
    "_log_completion_extra",
    "_log_metric",
    "_compute_loss",
    "compute_loss",
    "_prepare_inputs",
    "training_step",
    "_save_checkpoint",
    "_save_rng_state",
    "get_batch_samples",
    "_get_train_sampler",
]


def reward(completions, completion_ids, log_extra, log_metric, **kwargs):
    log_extra("length", [len(ids) for ids in completion_ids])
    log_metric("mean", 0.5)
    return [float(sum(ids) % 2) for ids in completion_ids]


def build(make_trainer, prompts, tmp_path, compact, saves=True):
    logs = Logs()
    trainer = make_trainer(
        reward_funcs=reward,
        eval_dataset=prompts,
        callbacks=[logs],
        compact=compact,
        num_iterations=2,
        gradient_accumulation_steps=2,
        per_device_train_batch_size=4,
        entropy_coef=0.1,
        use_adaptive_entropy=True,
        log_completions=True,
        num_completions_to_print=0,
        max_steps=2,
        save_strategy="steps" if saves else "no",
        save_steps=1,
        output_dir=str(tmp_path),
    )
    return trainer, logs


def outcome(trainer, logs):
    """What a training and an evaluation come to."""
    logs.rows.clear()
    set_seed(0)
    trainer.train()
    trainer.evaluate()
    return logs.rows, [p.detach().clone() for p in trainer.model.parameters()]


EXPECTED = {}


@pytest.mark.parametrize("call", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("compact", "after"), [("auto", False), ("auto", True), ("off", True)])
@pytest.mark.parametrize("place", PLACES)
def test_an_exception_anywhere_leaves_nothing_behind(make_trainer, prompts, tmp_path, place, compact, after, call):
    """Before and after TRL's own part of each method, in its first or second call; then training is as if anew."""
    if compact not in EXPECTED:
        EXPECTED[compact] = outcome(*build(make_trainer, prompts, tmp_path / "fresh", compact))
    expected, parameters = EXPECTED[compact]
    trainer, logs = build(make_trainer, prompts, tmp_path / "again", compact, saves=place.startswith("_save"))
    start = [p.detach().clone() for p in trainer.model.parameters()]
    original, calls = getattr(trl.GRPOTrainer, place), []

    def crash(self, *args, **kwargs):
        calls.append(place)
        if len(calls) == call and not after:
            raise Crash
        result = original(self, *args, **kwargs)
        if len(calls) == call:
            raise Crash
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trl.GRPOTrainer, place, crash)
        set_seed(1)
        try:
            trainer.train()
        except Crash:
            assert trainer._rollout is None
            assert trainer._forward is None
            assert "_calculate_rewards" not in vars(trainer)
        else:
            assert len(calls) < call  # a method that is not called so often, or not at all, here
    with torch.no_grad():
        for parameter, value in zip(trainer.model.parameters(), start, strict=True):
            parameter.copy_(value)
    found, ends = outcome(trainer, logs)
    assert found == expected
    assert all(torch.equal(a, b) for a, b in zip(ends, parameters, strict=True))


def test_an_interrupted_evaluation_does_not_flow_into_the_next(make_trainer, prompts, tmp_path):
    """Rewards of 1 until Ctrl-C comes in the second batch; then 0 for all."""
    values = iter([1.0, None])

    def reward(completions, **kwargs):
        value = next(values, 0.0)
        if value is None:
            raise KeyboardInterrupt
        return [value] * len(completions)

    logs = Logs()
    trainer = make_trainer(reward_funcs=reward, eval_dataset=prompts, callbacks=[logs])
    with pytest.raises(KeyboardInterrupt):
        trainer.evaluate()
    trainer.evaluate()
    assert logs.rows[-1]["eval_reward"] == 0
    assert logs.rows[-1]["eval_pass@1"] == 0
    assert logs.rows[-1]["eval_signed/correct_ratio"] == 0


def test_rewards_are_kept_for_the_completions_that_they_are_of_alone():
    rollout = Rollout([])
    completion_ids = [[1, 2, 3], [4]]
    rewards = torch.ones(2, 1)
    rollout.keep(rewards, completion_ids)
    assert rollout.rewards_of([[1, 2, 3], [4]]) is rewards
    completion_ids[0].pop()  # cut in place
    assert rollout.rewards_of(completion_ids) is None
    assert rollout.rewards_of([[1, 2, 3]]) is None


def test_outcomes_after_an_interruption_are_of_the_new_completions(make_trainer):
    """As in a notebook: out of memory in the old log-probs of the first rollout, then `train()` again."""
    seen = []

    def reward(completion_ids, **kwargs):
        seen.append([float(sum(ids) % 2) for ids in completion_ids])
        return seen[-1]

    trainer = make_trainer(reward_funcs=reward, num_iterations=2, objective="reinforce", max_steps=1)
    log_probs = SignedRewardTrainer._logps_of_weighted_rows
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SignedRewardTrainer, "_logps_of_weighted_rows", lambda *args, **kwargs: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            trainer.train()
    assert SignedRewardTrainer._logps_of_weighted_rows is log_probs
    trainer.train()
    rows = [(b["completion_ids"], b["completion_mask"], b["advantages"]) for b in trainer._buffered_inputs if b]
    weights = [float(a) for ids, mask, advantages in rows for a in advantages]
    sums = [int((i * m).sum()) for ids, mask, _ in rows for i, m in zip(ids, mask, strict=True)]
    assert weights == [1.0 if total % 2 else -1.0 for total in sums]
    assert len(seen) == 2
