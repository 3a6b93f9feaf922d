"""Compacted training is uncompacted training: same loss, gradient norm and parameters, for less work."""

import pytest
import torch
from transformers import TrainerCallback

from nsr_trl import SignedRewardTrainer
from nsr_trl import trainer as trainer_module


class Logs(TrainerCallback):
    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.rows.append({k: v for k, v in logs.items() if k in ("loss", "grad_norm")})


def varied(prompts, trainer):
    """Completions of 1 to 8 tokens from a generator of their own, so that two runs see the same rows."""
    generator = trainer.__dict__.setdefault("rollout_generator", torch.Generator().manual_seed(7))
    lengths = torch.randint(1, 9, (len(prompts),), generator=generator).tolist()
    ids = [torch.randint(5, 60, (length,), generator=generator).tolist() for length in lengths]
    prompt_ids = trainer.processing_class(text=prompts)["input_ids"]
    return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": [[0.0] * len(row) for row in ids]}


def thirds(completion_ids, **kwargs):
    return [[1.0, 0.0, None, 0.0][sum(ids) % 4] for ids in completion_ids]


def form(completion_ids, **kwargs):
    """Another reward, alike in the groups that begin with an even prompt."""
    return [0.5 if ids[0] % 3 else 0.0 for ids in completion_ids]


def run(make_trainer, **settings):
    logs = Logs()
    trainer = make_trainer(
        rollout_func=varied,
        callbacks=[logs],
        **(
            {
                "reward_funcs": thirds,
                "per_device_train_batch_size": 4,
                "gradient_accumulation_steps": 4,
                "max_steps": 3,
            }
            | settings
        ),
    )
    forwarded = []
    log_probs = trainer.__class__.__mro__[1]._get_per_token_logps_and_entropies

    def count(self, model, input_ids, *args, **kwargs):
        forwarded.append((torch.is_grad_enabled(), *input_ids.shape))
        return log_probs(self, model, input_ids, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trl.GRPOTrainer._get_per_token_logps_and_entropies", count)
        start = [p.detach().clone() for p in trainer.model.parameters()]
        trainer.train()
    change = torch.cat([(p.detach() - q).flatten() for p, q in zip(trainer.model.parameters(), start, strict=True)])
    return change, logs.rows[:-1], forwarded


OBJECTIVES = ("psr", "nsr", "w_reinforce", "grpo")

SETTINGS = [
    *({"objective": objective, "loss_type": loss} for objective in OBJECTIVES for loss in ("dapo", "cispo", "grpo")),
    *({"objective": o, "num_iterations": 2} for o in ("psr", "nsr", "w_reinforce")),
    *({"objective": objective} for objective in ("qae", "maxrl", "ngrpo")),
    {"objective": "pkpo", "objective_args": {"k": 2}, "num_iterations": 2},
    {"objective": "grpo", "focal_gamma": 0.5},
    *({"lambda_controller": name, "max_steps": 4} for name in ("balance", "entropy")),
    {"objective": "nsr", "outcome_requires": ["form"], "outcome_reward": "thirds", "reward_funcs": [thirds, form]},
    {"objective": "nsr", "auxiliary_weight": 0.3, "outcome_reward": "thirds", "reward_funcs": [thirds, form]},
    {"objective": "nsr", "loss_type": "dr_grpo"},
    {"objective": "nsr", "loss_type": "luspo", "importance_sampling_level": "sequence"},
    {"objective": "nsr", "loss_type": "sapo"},
    {"objective": "nsr", "optim": "adamw_torch", "learning_rate": 1e-3},
    {"objective": "nsr", "steps_per_generation": 2},  # a window of two generations
    *({"objective": o, "steps_per_generation": 8, "max_steps": 4} for o in OBJECTIVES),  # two windows a generation
    {"objective": "nsr", "steps_per_generation": 8, "num_iterations": 2, "loss_type": "grpo", "max_steps": 5},
    {"objective": "nsr", "mask_truncated_completions": True},
    {"objective": "w_reinforce", "max_tokens_per_microbatch": 40},
]


def name(settings):
    """Alike in every process that collects the tests: a function's repr is its address."""
    return "-".join(f"{k}={v}" for k, v in settings.items() if k != "reward_funcs")


@pytest.mark.parametrize("settings", SETTINGS, ids=name)
def test_compaction_leaves_loss_gradient_and_parameters_unchanged(make_trainer, settings):
    plain, their_logs, all_rows = run(make_trainer, compact="off", **settings)
    compact, our_logs, kept_rows = run(make_trainer, compact="on", **settings)
    assert plain.norm() > 0 or settings.get("mask_truncated_completions")
    assert (compact - plain).norm() <= 1e-5 * plain.norm()
    for ours, theirs in zip(our_logs, their_logs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)
    assert sum(rows * width for _, rows, width in kept_rows) < sum(rows * width for _, rows, width in all_rows)


@pytest.mark.parametrize("loss_type", ["dapo", "grpo"])
@pytest.mark.parametrize("objective", ["nsr", "w_reinforce"])
def test_the_entropy_bonus_is_the_token_mean_over_the_rows_that_train(make_trainer, objective, loss_type):
    """As if those rows were one micro-batch: uncompacted, 16 rows at once, the bonus masked to them."""
    settings = {"objective": objective, "loss_type": loss_type, "entropy_coef": 10.0, "max_steps": 1}

    def masked(self, model, inputs):
        trains = (inputs["advantages"] != 0).unsqueeze(1)
        tokens = inputs["completion_mask"] * trains
        of_policy = trainer_module.GRPOTrainer._compute_loss
        self.entropy_coef = 0.0
        loss = of_policy(self, model, inputs)
        self.entropy_coef = 10.0
        return loss - 10.0 * (self._forward[1] * tokens).sum() / tokens.sum()

    whole = {"per_device_train_batch_size": 16, "gradient_accumulation_steps": 1, "compact": "off"}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SignedRewardTrainer, "_compute_loss", masked)
        expected, their_logs, _ = run(make_trainer, **settings, **whole)
    found, our_logs, _ = run(make_trainer, compact="on", **settings)
    assert (found - expected).norm() <= 1e-5 * expected.norm()
    assert our_logs[0] == pytest.approx(their_logs[0], rel=1e-4)
    without, _, _ = run(make_trainer, compact="on", **(settings | {"entropy_coef": 0.0}))
    assert (found - without).norm() > 0.1 * expected.norm()


def test_an_empty_window_leaves_the_entropy_controller_alone(make_trainer):
    settings = {"use_adaptive_entropy": True, "entropy_coef": 0.1, "entropy_coef_delta": 0.01, "entropy_target": 99.0}
    rewards = iter([[0.0] * 16, [1.0] * 16, [1.0] * 16])
    trainer = make_trainer(
        rollout_func=varied,
        reward_funcs=lambda completions, **kwargs: next(rewards),
        per_device_train_batch_size=16,
        objective="psr",
        max_steps=3,
        **settings,
    )
    trainer.train()
    assert trainer.entropy_coef == pytest.approx(0.12)  # raised once for each window that has an entropy


@pytest.mark.parametrize(
    "settings",
    [{}, {"num_iterations": 2}, {"entropy_coef": 0.1}, {"gradient_checkpointing": True}],
    ids=str,
)
def test_rows_packed_into_one_sequence_train_as_padded_ones_do(make_trainer, settings, monkeypatch):
    padded, their_logs, _ = run(make_trainer, objective="w_reinforce", **settings)
    monkeypatch.setattr(trainer_module, "run_aligned", None)  # would be called if the rows were not packed
    varlen = {"model_init_kwargs": {"attn_implementation": "varlen"}}
    packed, our_logs, _ = run(make_trainer, objective="w_reinforce", **settings, **varlen)
    assert padded.norm() > 0
    assert (packed - padded).norm() <= 1e-5 * padded.norm()
    for ours, theirs in zip(our_logs, their_logs, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4, abs=1e-6)


def test_compaction_is_exact_with_lora(make_trainer):
    peft = pytest.importorskip("peft")
    changes = []
    for compact in ("off", "on"):
        lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
        changes.append(run(make_trainer, compact=compact, objective="nsr", peft_config=lora)[0])
    plain, compact = changes
    assert plain.norm() > 0
    assert (compact - plain).norm() <= 1e-5 * plain.norm()


def test_old_log_probs_are_computed_for_rows_with_a_weight_alone(make_trainer):
    _, _, forwarded = run(make_trainer, compact="on", objective="psr", num_iterations=2, max_steps=1)
    no_grad = sum(rows for is_grad, rows, _ in forwarded if not is_grad)
    with_grad = sum(rows for is_grad, rows, _ in forwarded if is_grad)
    assert 0 < no_grad <= with_grad < 16


def test_a_window_without_rows_steps_on_a_gradient_of_zero_as_it_does_uncompacted(make_trainer):
    """Momentum and weight decay go on: AdamW moves on a zero gradient, and so must the compacted run."""
    rewards = iter([[1.0] * 16, [0.0] * 16, [0.0] * 16] * 2)
    settings = {"objective": "psr", "optim": "adamw_torch", "learning_rate": 1e-3, "weight_decay": 0.1}

    def change(compact):
        logs = Logs()
        trainer = make_trainer(
            rollout_func=varied,
            reward_funcs=lambda completions, **kwargs: next(rewards),
            callbacks=[logs],
            per_device_train_batch_size=16,
            max_steps=3,
            compact=compact,
            **settings,
        )
        start = torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])
        trainer.train()
        return torch.cat([p.detach().flatten() for p in trainer.model.parameters()]) - start

    plain, compact = change("off"), change("on")
    assert (compact - plain).norm() <= 1e-3 * plain.norm()  # without the two steps it would be two thirds of it


@pytest.mark.parametrize(
    "settings",
    [{"beta": 0.1}, {"loss_type": "bnpo"}, {"top_entropy_quantile": 0.5}],
    ids=str,
)
def test_compaction_turns_itself_off_where_it_is_not_exact(make_trainer, caplog, settings):
    with caplog.at_level("WARNING"):
        trainer = make_trainer(**settings)
    (name,) = settings
    assert trainer._compacts is False
    assert f"Updates run every row, without compaction, because of {name}=" in caplog.text
    with pytest.raises(ValueError, match=f"Updates must run every row because of {name}="):
        make_trainer(compact="on", **settings)


def test_the_reference_meaning_fills_the_optimizer_steps_in_order(make_trainer):
    """32 rows in 4 windows of 8, n of them kept: ceil(n / 8) optimizer steps, each a token mean times its share."""
    settings = {"objective": "psr", "steps_per_generation": 8, "gradient_accumulation_steps": 2, "max_steps": 4}
    logs = Logs()
    trainer = make_trainer(
        rollout_func=varied,
        reward_funcs=thirds,
        callbacks=[logs],
        dropped_rows="reference",
        per_device_train_batch_size=4,
        **settings,
    )
    trainer.train()
    steps = [row["grad_norm"] > 0 for row in logs.rows[:4]]
    batch = [b for b in trainer._buffered_inputs if b is not None]
    num_kept = sum(int((b["advantages"] != 0).sum()) for b in batch)
    assert 0 < num_kept < 24
    assert steps == [i < -(-num_kept // 8) for i in range(4)]
    kept_tokens = sum(int(b["completion_mask"].sum()) for b in batch)
    assert batch[0]["num_items_in_batch"].item() == pytest.approx(kept_tokens / num_kept * 32)
    # on-policy, every kept token has loss -1: the first step's loss is -(tokens / (mean length * 8))
    first = sum(int(b["completion_mask"].sum()) for b in trainer._buffered_inputs[:2] if b is not None)
    assert logs.rows[0]["loss"] == pytest.approx(-first / (kept_tokens / num_kept * 8), rel=1e-3)
