"""Compaction checks the facts that it stands on, and where one does not hold it is off and says so."""

import re
from pathlib import Path

import pytest
import torch
from test_compacted_training import Logs as LossLogs
from test_compacted_training import thirds, varied
from transformers import Lfm2Config, Lfm2ForCausalLM, LlamaConfig, LlamaForCausalLM, TrainerCallback
from trl import GRPOTrainer
from trl.experimental.gmpo import GMPOConfig, GMPOTrainer
from trl.trainer.utils import add_fused_lm_head

from nsr_trl import SignedRewardConfig, SignedRewardTrainer
from nsr_trl import trainer as trainer_module
from nsr_trl.compaction import packs_apart
from nsr_trl.metrics import CORRECTED, OFF, RUN, SAME, TRL_METRICS
from nsr_trl.objective import build_objective


class Logs(TrainerCallback):
    def __init__(self):
        self.rows = []

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.rows.append(dict(logs))


def even(completion_ids, **kwargs):
    return [float(sum(ids) % 2 == 0) for ids in completion_ids]


# --- nobody else overrides what it wraps ----------------------------------------------------------------------------


class Flipped(SignedRewardTrainer):
    """Rewards that a subclass turns round."""

    calls = 0

    def _calculate_rewards(self, *args, **kwargs):
        type(self).calls += 1
        return 1 - super()._calculate_rewards(*args, **kwargs)


class Cut(SignedRewardTrainer):
    """Completions that a subclass cuts."""

    def _generate(self, prompts):
        prompt_ids, completion_ids, *rest = super()._generate(prompts)
        return prompt_ids, [ids[:2] for ids in completion_ids], *rest


class Weighed(SignedRewardTrainer):
    """Rows of weight 0 that a subclass trains all the same."""

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        batch["advantages"] = torch.where(batch["advantages"] == 0, 0.5, batch["advantages"])
        return batch


class PerToken(SignedRewardTrainer):
    """Advantages of tokens, which TRL's loss takes."""

    def _generate_and_score_completions(self, inputs):
        batch = super()._generate_and_score_completions(inputs)
        batch["advantages"] = batch["advantages"].unsqueeze(1).expand_as(batch["completion_ids"]).contiguous()
        return batch


class OwnLoss(SignedRewardTrainer):
    """A mean over the rows of a micro-batch."""

    def _compute_loss(self, model, inputs):
        return super()._compute_loss(model, inputs) / len(inputs["completion_ids"])


class Counted(SignedRewardTrainer):
    calls = 0

    def _prepare_inputs(self, generation_batch):
        type(self).calls += 1
        return super()._prepare_inputs(generation_batch)


class LogProbs(SignedRewardTrainer):
    def _get_per_token_logps_and_entropies(self, *args, **kwargs):
        return super()._get_per_token_logps_and_entropies(*args, **kwargs)


class Mixin:
    def _generate(self, prompts):
        return super()._generate(prompts)


class Mixed(Mixin, SignedRewardTrainer):
    pass


class WithGMPO(SignedRewardTrainer, GMPOTrainer):
    """TRL's own subclass, between this package's and its base."""


OVERRIDES = {
    Flipped: "`Flipped._calculate_rewards`",
    Cut: "`Cut._generate`",
    Weighed: "`Weighed._generate_and_score_completions`",
    PerToken: "`PerToken._generate_and_score_completions`",
    OwnLoss: "`OwnLoss._compute_loss`",
    Counted: "`Counted._prepare_inputs`",
    LogProbs: "`LogProbs._get_per_token_logps_and_entropies`",
    Mixed: "`Mixin._generate`",
    WithGMPO: "`GMPOTrainer._compute_loss`",
}


@pytest.mark.parametrize("cls", OVERRIDES, ids=lambda cls: cls.__name__)
def test_an_override_of_what_it_wraps_turns_compaction_off_and_is_named(make_trainer, caplog, cls):
    trainer = make_trainer(cls)
    assert trainer._compacts is False
    assert f"without compaction, because of {OVERRIDES[cls]}, which takes the place of a method" in caplog.text
    with pytest.raises(ValueError, match=rf"because of {OVERRIDES[cls]}, .*; got compact='on'"):
        make_trainer(cls, compact="on")
    with pytest.raises(ValueError, match="dropped_rows='reference'"):
        make_trainer(cls, dropped_rows="reference")
    assert make_trainer(cls, compact="off")._compacts is False


def test_a_patched_trl_turns_compaction_off(make_trainer, caplog, monkeypatch):
    monkeypatch.setattr(GRPOTrainer, "_compute_loss", lambda self, model, inputs: None)  # as patching libraries do
    assert make_trainer()._compacts is False
    assert "because of a patched `GRPOTrainer._compute_loss`" in caplog.text


def test_overrides_that_wrap_a_step_or_a_log_leave_it_on(make_trainer):
    class Wrapped(SignedRewardTrainer):
        def training_step(self, *args, **kwargs):
            return super().training_step(*args, **kwargs)

        def compute_loss(self, *args, **kwargs):
            return super().compute_loss(*args, **kwargs)

        def log(self, *args, **kwargs):
            return super().log(*args, **kwargs)

    trainer = make_trainer(Wrapped, compact="on")
    assert trainer._compacts is True
    trainer.train()


def test_the_sign_is_taken_from_what_the_most_derived_rewards_are(make_trainer):
    Flipped.calls = 0
    rewards, logs = [1.0, 1.0, 1.0, 0.0], Logs()
    trainer = make_trainer(
        Flipped,
        reward_funcs=lambda completions, **kwargs: rewards * (len(completions) // 4),
        objective="reinforce",
        max_steps=1,
        callbacks=[logs],
    )
    trainer.train()
    assert Flipped.calls == 1
    assert logs.rows[0]["reward"] == 0.25
    assert logs.rows[0]["signed/correct_ratio"] == 0.25
    (batch,) = trainer._buffered_inputs
    assert sorted(batch["advantages"].tolist()) == [-1.0] * 6 + [1.0] * 2


def test_the_verdict_is_of_the_text_that_trains(make_trainer):
    seen = []

    def reward(completion_ids, **kwargs):
        seen.extend(map(len, completion_ids))
        return even(completion_ids)

    make_trainer(Cut, reward_funcs=reward, max_steps=1).train()
    assert set(seen) <= {1, 2}


@pytest.mark.parametrize("cls", [Weighed, PerToken, OwnLoss], ids=lambda cls: cls.__name__)
def test_a_subclass_trains_off_policy_as_without_compaction(make_trainer, cls):
    ends = []
    for compact in ("auto", "off"):
        settings = {"rollout_func": varied, "reward_funcs": thirds, "num_iterations": 2, "compact": compact}
        trainer = make_trainer(cls, **settings)
        trainer.train()
        ends.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert ends[0].isfinite().all()
    assert torch.equal(*ends)


@pytest.mark.parametrize("objective", ["grpo", "w_reinforce"])
def test_advantages_of_tokens_train_as_those_of_their_row(make_trainer, objective):
    ends = []
    for cls in (PerToken, SignedRewardTrainer):
        trainer = make_trainer(cls, rollout_func=varied, reward_funcs=thirds, objective=objective, compact="off")
        trainer.train()
        ends.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.equal(*ends)


def test_inputs_are_asked_for_once_per_micro_step(make_trainer):
    Counted.calls = 0
    make_trainer(Counted, gradient_accumulation_steps=2, per_device_train_batch_size=4, max_steps=3).train()
    assert Counted.calls == 6


def test_trls_own_subclass_computes_its_loss(make_trainer):
    """GMPO's mean over a micro-batch must be over the rows that TRL gives it."""
    settings = {"rollout_func": varied, "reward_funcs": even, "num_iterations": 2}
    ends = []
    for cls, config in ((GMPOTrainer, GMPOConfig), (WithGMPO, GMPOConfig)):
        trainer = make_trainer(cls, config, **settings)
        if cls is WithGMPO:
            assert trainer.signed_objective.name == "w_reinforce"
            trainer.weighing.controller.objective = build_objective("grpo")
        trainer.train()
        ends.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    assert torch.equal(*ends)


# --- rows that are packed do not see each other ---------------------------------------------------------------------


def tiny(config_class, model_class, **settings):
    torch.manual_seed(0)
    sizes = {"vocab_size": 97, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    config = config_class(**sizes, num_attention_heads=2, num_key_value_heads=1, **settings)
    model = model_class(config)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_keeps_packed_rows_apart_and_a_convolution_does_not(dtype):
    """Plain attention tells packed rows apart by their positions, as flash-attention does; LFM2 has convolutions."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype is torch.bfloat16):
        assert packs_apart(tiny(LlamaConfig, LlamaForCausalLM), 97, dtype, torch.device("cpu"))
        lfm2 = tiny(Lfm2Config, Lfm2ForCausalLM, layer_types=["conv", "full_attention"])
        for parameter in lfm2.parameters():  # as large as trained ones are
            parameter.mul_(20 if parameter.ndim == 2 else 1)
        assert not packs_apart(lfm2, 97, dtype, torch.device("cpu"))


def test_a_model_whose_packed_rows_see_each_other_keeps_its_padding(make_trainer, caplog, monkeypatch):
    monkeypatch.setattr(trainer_module, "takes_packed_rows", lambda config: True)
    monkeypatch.setattr(trainer_module, "packs_apart", lambda *args: False)
    trainer = make_trainer(rollout_func=varied, reward_funcs=thirds)
    trainer.train()
    assert trainer._packs is False
    assert (
        caplog.text.count("Micro-batches keep their padding: packed into one, this model's rows see each other") == 1
    )


# --- TRL's metrics are of what ran ----------------------------------------------------------------------------------


def logged(make_trainer, trainer_class=SignedRewardTrainer, config_class=SignedRewardConfig, **settings):
    logs = Logs()
    settings = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 4, "max_steps": 2} | settings
    trainer = make_trainer(
        trainer_class, config_class, rollout_func=varied, reward_funcs=thirds, callbacks=[logs], **settings
    )
    trainer.train()
    return logs.rows[:-1], trainer


def trls(row):
    """TRL's own metrics of a log, the names of the reward function generalised."""
    found = {name.replace("thirds", "NAME"): value for name, value in row.items()}
    ours = ("signed/", "cost/", "train_")
    own = {"loss", "grad_norm", "learning_rate", "epoch", "step"}
    return {name: value for name, value in found.items() if not name.startswith(ours) and name not in own}


SETTINGS = [
    {"objective": "w_reinforce"},
    {"objective": "nsr", "num_iterations": 2},
    {"objective": "nsr", "loss_type": "cispo", "epsilon_high": 1.0},
    {"objective": "nsr", "loss_type": "vespo"},
    {"objective": "w_reinforce", "importance_sampling_level": "sequence", "num_iterations": 2, "epsilon": 1e-4},
    {"objective": "w_reinforce", "loss_type": "grpo", "entropy_coef": 0.01},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda s: "-".join(map(str, s.values())))
def test_every_metric_of_trl_is_in_the_table_and_is_what_it_says(make_trainer, settings):
    plain, _ = logged(make_trainer, compact="off", **settings)
    compact, _ = logged(make_trainer, compact="on", **settings)
    for ours, theirs in zip(map(trls, compact), map(trls, plain), strict=True):
        assert ours.keys() <= theirs.keys() <= TRL_METRICS.keys()
        for name, value in ours.items():
            if TRL_METRICS[name] == SAME and name not in ("step_time", "policy_loss"):
                assert value == theirs[name], name
            elif name == "policy_loss" and settings["objective"] == "w_reinforce":
                assert value == pytest.approx(theirs[name], rel=1e-4), name
            assert TRL_METRICS[name] != OFF


def test_the_entropy_is_the_token_mean_over_the_rows_that_run(make_trainer):
    """By hand from the log-probs of the last micro-batches: `sum over tokens / tokens`, whatever they are cut into."""
    kept = []
    compute = trainer_module.GRPOTrainer._get_per_token_logps_and_entropies

    def keep(self, model, input_ids, attention_mask, logits_to_keep, *args, **kwargs):
        found = compute(self, model, input_ids, attention_mask, logits_to_keep, *args, **kwargs)
        if found[1] is not None:
            mask = attention_mask[:, -logits_to_keep:]
            kept.append((float((found[1].detach() * mask).sum()), int(mask.sum())))
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(GRPOTrainer, "_get_per_token_logps_and_entropies", keep)
        keep.__module__ = GRPOTrainer.__module__
        (row,), _ = logged(make_trainer, max_steps=1, max_tokens_per_microbatch=40)
    assert len({tokens for _, tokens in kept}) > 1  # a mean of means would be another number
    assert row["entropy"] == pytest.approx(sum(e for e, _ in kept) / sum(n for _, n in kept), rel=1e-5)


def test_the_entropy_bonus_weighs_several_windows_of_a_generation_alike(make_trainer):
    """Two windows of 16 rows in one generation: the token mean of each counts once, as if each were one batch."""
    settings = {"objective": "w_reinforce", "steps_per_generation": 8, "max_steps": 2, "entropy_coef": 10.0}
    ends = []
    for rows, micro_steps, budget in ((4, 4, 40), (16, 1, 10_000)):
        logs = LossLogs()
        trainer = make_trainer(
            rollout_func=varied,
            reward_funcs=thirds,
            callbacks=[logs],
            **settings
            | {
                "per_device_train_batch_size": rows,
                "gradient_accumulation_steps": micro_steps,
                "steps_per_generation": 2 * micro_steps,
                "max_tokens_per_microbatch": budget,
            },
        )
        trainer.train()
        ends.append((torch.cat([p.detach().flatten() for p in trainer.model.parameters()]), logs.rows[0]["loss"]))
    (many, loss), (one, loss_of_one) = ends
    assert loss == pytest.approx(loss_of_one, rel=1e-4)
    assert (many - one).norm() <= 1e-4 * one.norm()


def test_the_documented_table_is_the_codes():
    text = (Path(__file__).parent.parent / "docs" / "trainer.md").read_text()
    section = text[text.index("### TRL's metrics") : text.index("### Metrics of the verifier")]
    rows = dict(re.findall(r"^\| `([^`]+)` \| ([^|]+?) \|", section, re.MULTILINE))
    assert rows == TRL_METRICS
    assert set(TRL_METRICS.values()) == {SAME, RUN, CORRECTED, OFF}
