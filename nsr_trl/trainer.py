"""SignedRewardTrainer: TRL's `GRPOTrainer` with the advantage replaced by the sign of a verified answer.

The only module that touches TRL's private surface. It wraps these methods (`super()` plus before and after):

| method | what is added |
|---|---|
| `_calculate_rewards` | outcomes and signed weights of all rows, their metrics and completion-table columns |
| `_generate_and_score_completions` | the weights take the place of the advantages |
| `_get_per_token_logps_and_entropies` | the last log-probs and entropies are kept for the metrics |
| `_compute_loss` | metrics by sign, reduced over ranks once per optimizer step |
| `log` | sums over counts |
| `create_model_card` | replaced by this package's card |
| `_generate` | with compaction, rewards are computed here, before the log-probs of rows that will not train |
| `_prepare_inputs` | with compaction, owned: the rows are dealt by the plan |
| `training_step` | with compaction, a micro-step without rows is skipped |
| `train` | resumes from a checkpoint that is complete; saves and stops on SIGTERM |
| `_save_rng_state`, `_load_rng_state` | rollouts that are not trained on yet, and counters, go with a checkpoint |
| `_get_train_sampler` | a resumed run goes on in the order of its epoch |

P problems, G completions per problem, B = P*G rows over all ranks; a rank holds a contiguous slice of them.
"""

import contextlib
import dataclasses
import functools
import inspect
import logging
import math
import os
import sys
import textwrap
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
import transformers
import trl
from torch import Tensor
from transformers import AutoConfig, PreTrainedConfig, TrainerState
from transformers.utils.generic import is_flash_attention_requested
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import get_config_model_id

from .card import CardFacts
from .checkpoints import SaveOnSigterm, is_complete, last_complete_checkpoint, load_rank_state, save_rank_state
from .compaction import (
    DUMMY,
    cut_micro_batches,
    make_plan,
    renumber,
    run_aligned,
    run_at_safe_width,
    run_unpadded,
    take_rows,
    token_shares,
)
from .config import SignedRewardConfig
from .evaluation.pass_at_k import pass_at_k
from .metrics import (
    PHASES,
    POLICY_METRICS,
    SIGNS,
    SURROGATE_METRICS,
    correction_metrics,
    cost_metrics,
    outcome_metrics,
    token_metrics,
)
from .objective import CORRECT, UNDECIDED, check_outcome_rewards, outcomes_from_rewards
from .run_card import command_line, write_card


logger = logging.getLogger(__name__)

HOOKS: dict[str, tuple[str, ...]] = {
    "_calculate_rewards": ("inputs", "prompts", "completions", "completion_ids_list"),
    "_generate_and_score_completions": ("inputs",),
    "_get_per_token_logps_and_entropies": ("model", "input_ids", "attention_mask", "logits_to_keep"),
    "_compute_loss": ("model", "inputs"),
    "_generate": ("prompts",),
    "_prepare_inputs": ("generation_batch",),
    "training_step": ("model", "inputs", "num_items_in_batch"),
    "train": ("resume_from_checkpoint", "trial", "ignore_keys_for_eval"),
    "_save_rng_state": ("output_dir",),
    "_load_rng_state": ("checkpoint",),
    "_get_train_sampler": ("dataset",),
    "_log_completion_extra": ("column", "values"),
    "log": ("logs", "start_time"),
    "create_model_card": ("model_name", "dataset_name", "tags"),
}
"""TRL's methods that this module wraps or calls, with the leading parameters it relies on."""

TOKEN_SUM_LOSSES = ("dapo", "cispo", "vespo")
"""TRL's loss types that divide a sum over tokens by a constant; the others divide by the rows of a micro-batch."""

CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
"""TRL's loss types that are the clipped surrogate; the others stop no gradient."""

SHAPE_FIELDS = tuple(
    "model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
    "head_dim".split()
)
"""What the shapes of a language model's weights follow from."""

OUTCOME_NAMES = {sign: side for side, sign in SIGNS.items()} | {UNDECIDED: "undecided"}


class SignedRewardTrainer(GRPOTrainer):
    """
    Trains on the sign of a verified answer (PSR, NSR, W-REINFORCE; arXiv 2506.01347).

    A [`~trl.GRPOTrainer`] with one difference: the advantage of a completion is a signed weight, `+positive_weight`
    when its outcome reward says correct, `-negative_weight` when it says incorrect and 0 when it says neither
    (`None`). It is never normalised over the group, so a group that is all wrong, or all right, trains as it should.
    The constructor, the datasets, reward functions, callbacks, PEFT, DeepSpeed, FSDP and vLLM are those of
    `GRPOTrainer`; only `args` is a [`SignedRewardConfig`] (a plain `GRPOConfig` is upgraded).

    Example:
    ```python
    from datasets import load_dataset
    from nsr_trl import SignedRewardTrainer, math_reward

    trainer = SignedRewardTrainer(
        model="Qwen/Qwen2.5-0.5B-Instruct",
        reward_funcs=math_reward,
        train_dataset=load_dataset("trl-lib/DeepMath-103K", split="train"),
    )
    trainer.train()
    ```

    The sign comes from one reward function: the only one, or the one that `args.outcome_reward` names.

    Raises:
        ValueError: If the outcome reward is not named among several, or names none; and, while training, if the
            outcome reward takes several values of which none is above `args.correct_threshold`.
        NotImplementedError: For vision-language models.
        RuntimeError: If the installed TRL lacks a method that this class wraps.
    """

    _tag_names = ["trl", "nsr-trl"]  # noqa: RUF012 (TRL's idiom)
    _name = "Signed Reward"
    _paper = {  # noqa: RUF012
        "title": "The Surprising Effectiveness of Negative Reinforcement in LLM Reasoning",
        "id": "2506.01347",
        "citation": textwrap.dedent("""\
            @inproceedings{zhu2025surprising,
                title        = {{The Surprising Effectiveness of Negative Reinforcement in LLM Reasoning}},
                author       = {Xinyu Zhu and Mengzhou Xia and Zhepei Wei and Wei-Lin Chen and Danqi Chen and Yu Meng},
                year         = 2025,
                booktitle    = {Advances in Neural Information Processing Systems},
                note         = {arXiv:2506.01347},
            }"""),
    }

    entropy_coef: float  # TRL's, and with `use_adaptive_entropy` its controller's
    _last_world_entropy: float

    # help() and editors show the signature of `GRPOTrainer`
    @functools.wraps(GRPOTrainer.__init__, assigned=(), updated=())  # type: ignore[misc]
    def __init__(
        self, model: Any, reward_funcs: Any = None, args: GRPOConfig | None = None, *rest: Any, **kwargs: Any
    ):
        check_hooks()
        if args is None:
            model_id = model if isinstance(model, str) else get_config_model_id(model.config)
            args = SignedRewardConfig(f"{model_id.split('/')[-1]}-SignedReward")
        elif not isinstance(args, SignedRewardConfig):
            args = SignedRewardConfig.from_grpo_config(args)
            logger.warning(
                f"Got a `GRPOConfig`: training with objective={args.objective!r}. "
                "Pass a `SignedRewardConfig` to choose the objective."
            )
        self.signed_objective = args.build_objective()
        self._tag_names = [*self._tag_names, self.signed_objective.name]
        # (outcomes, weights) of the rollout under way, shape (B,) over all ranks; None where no reward gives a sign
        self._rollout: tuple[Tensor, Tensor | None] | None = None
        self._forward: tuple[Tensor, Tensor] | None = None  # (log-probs, entropies) of the last forward, (rows, T)
        self._seen_correct = False
        self._totals: dict[str, dict[str, list[float]]] = {
            mode: defaultdict(lambda: [0.0, 0.0]) for mode in ("train", "eval")
        }
        self._run_totals: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])  # of the training so far
        self._token_totals: Tensor | None = None  # (metrics, 2), this rank's part of an optimizer step
        self._inner_seconds = 0.0  # of the phases inside the one that is being timed
        self._scored_inputs: list[dict] = []  # the examples of the rollout under way
        self._rewards: Tensor | None = None  # of the rollout under way, where they were computed ahead of TRL's call
        self._buffered_inputs: list[dict[str, Any] | None] | None = None
        self._buffered_step: int | None = None  # the micro-step at which the buffered rows were generated
        self._num_epochs_done = 0  # by the run that is being resumed

        super().__init__(model, reward_funcs, args, *rest, **kwargs)

        if self._is_vlm:
            raise NotImplementedError(
                "SignedRewardTrainer trains text-only models; got a vision-language processor. "
                "Pass `processing_class=AutoTokenizer.from_pretrained(...)` to train on text, or use GRPOTrainer."
            )
        if self.use_vllm and self.vllm_mode == "server" and self.accelerator.is_main_process:
            self._check_served_model()
        self._outcome_index = self._find_outcome_reward()
        self._compacts = self._decide_compaction()
        # flash-attention takes rows of any length in one sequence; a recurrent state would run on from row to row
        is_recurrent = getattr(self.model, "_is_stateful", False)
        self._unpads = self._compacts and is_flash_attention_requested(self.model.config) and not is_recurrent
        self._token_metrics = POLICY_METRICS + (SURROGATE_METRICS if self.loss_type in CLIPPED_LOSSES else ())
        self._sigterm = SaveOnSigterm(self._any_rank, is_on=self.args.save_strategy != "no")
        self.add_callback(self._sigterm)

    def _find_outcome_reward(self) -> int | None:
        """Column of the outcome reward; `None` under `grpo` with several rewards, where no sign is needed."""
        names, chosen = self.reward_func_names, self.args.outcome_reward
        if chosen is None and len(names) == 1:
            return 0
        if chosen is None and self.signed_objective.weigh is None:
            return None
        if names.count(chosen) != 1:
            raise ValueError(
                f"objective={self.signed_objective.name!r} takes the sign from exactly one of the reward functions "
                f"{', '.join(names)}; got outcome_reward={chosen!r}. Set `outcome_reward` to the name of the one that "
                "says whether the answer is correct."
            )
        return names.index(chosen)

    def _check_served_model(self) -> None:
        """Checks that vLLM's server has a model that the trained weights fit: they are sent to it unasked."""
        client = self.vllm_generation.vllm_client
        served, trained = client.get_server_info()["model_config"]["model"], self.model.config
        if served == trained.name_or_path:
            return
        try:
            differing = differing_shapes(AutoConfig.from_pretrained(served), trained)
        except OSError:  # a path of the server's machine
            logger.warning(
                f"The vLLM server at {client.base_url} serves {served}, whose config cannot be read from here: make "
                f"sure that it is the model in training, {trained.name_or_path}."
            )
            return
        if differing:
            raise ValueError(
                f"The vLLM server must serve the model in training; {client.base_url} serves {served} and not "
                f"{trained.name_or_path} (theirs and ours: {', '.join(differing)}). Start `vllm serve` with the model "
                "that the trainer is given."
            )

    def _decide_compaction(self) -> bool:
        """Whether updates are compacted; says so where a setting forbids it."""
        obstacle = self.args.compaction_obstacle()
        if obstacle is None and self.aux_loss_enabled:
            obstacle = "the model's auxiliary loss"
        if obstacle is None or self.args.compact == "off":
            return self.args.compact != "off"
        if self.args.compact == "on" or self.args.dropped_rows == "reference":
            raise ValueError(
                f"Compaction must not change the loss; under {obstacle} it would, and got "
                f"compact={self.args.compact!r}, dropped_rows={self.args.dropped_rows!r}. Change that setting, or set "
                "compact='auto' and dropped_rows='objective' to run every row."
            )
        logger.warning(f"Updates run every row: compaction would change the loss under {obstacle}.")
        return False

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """
        Trains as `GRPOTrainer` does, and survives being stopped.

        SIGTERM, which schedulers send before they kill, saves a checkpoint at the end of the optimizer step and
        returns; `stopped_by_signal` is then `True`. A resumed run goes on with the rollouts, random numbers and
        counters of the checkpoint: on a CPU its parameters equal those of a run that was not stopped, bit for bit.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint folder, or `True` for the last complete one of `args.output_dir`.
            trial (`optuna.Trial` or `dict[str, Any]`, *optional*):
                As in [`~transformers.Trainer.train`].
            ignore_keys_for_eval (`list[str]`, *optional*):
                As in [`~transformers.Trainer.train`].

        Raises:
            ValueError: If there is no complete checkpoint to resume from.
        """
        checkpoint = resume_from_checkpoint or None
        if checkpoint is True:
            checkpoint = last_complete_checkpoint(self.args.output_dir)
        if resume_from_checkpoint and (checkpoint is None or not is_complete(checkpoint)):
            raise ValueError(
                "A run resumes from a checkpoint that was written to its end; got "
                f"resume_from_checkpoint={resume_from_checkpoint!r} and output_dir={self.args.output_dir!r}, where "
                "there is none. Name a folder that has a `trainer_state.json`, or start without it."
            )
        if checkpoint is not None:
            state = TrainerState.load_from_json(os.path.join(checkpoint, "trainer_state.json"))
            self._num_epochs_done = int(state.epoch or 0)
        try:
            with self._sigterm:
                return super().train(checkpoint, trial, ignore_keys_for_eval)
        finally:
            self._num_epochs_done = 0

    @property
    def stopped_by_signal(self) -> bool:
        """Whether the last `train` ended early, with a checkpoint, because SIGTERM came."""
        return self._sigterm.stopped

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        sampler = super()._get_train_sampler(dataset)
        for _ in range(self._num_epochs_done):
            next(iter(sampler), None)  # draws the order of an epoch
        return sampler

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        is_due = self._step % (self.args.steps_per_generation * self.num_iterations) == 0
        state = {
            "num_ranks": self.accelerator.num_processes,
            "step": self._step,
            "buffered_inputs": None if is_due else self._buffered_inputs,
            "seen_correct": self._seen_correct,
            "entropy": [self.entropy_coef, self._last_world_entropy],
            "totals": dict(self._totals["train"]),
            "run_totals": dict(self._run_totals),
            "metrics": dict(self._metrics["train"]),
        }
        save_rank_state(output_dir, self.accelerator.process_index, state)
        # the main process writes `trainer_state.json` next, which says that the files of all ranks are there
        self.accelerator.wait_for_everyone()

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        state = load_rank_state(checkpoint, self.accelerator.process_index, self.accelerator.device)
        if state is None or state["num_ranks"] != self.accelerator.num_processes:
            logger.warning(
                f"{checkpoint} holds no rollouts for {self.accelerator.num_processes} processes: this run goes on "
                "with new ones, and differs from one that was not stopped."
            )
            return
        self._step, self._buffered_inputs = state["step"], state["buffered_inputs"]
        self._seen_correct = state["seen_correct"]
        self.entropy_coef, self._last_world_entropy = state["entropy"]
        self._totals["train"].update(state["totals"])
        self._run_totals.update(state["run_totals"])
        self._metrics["train"].update(state["metrics"])

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    def _generate(self, prompts: list) -> tuple:
        with self._timed("generation"):
            output = super()._generate(prompts)
        if self._compacts and self._mode == "train" and self.signed_objective.weigh is not None:
            _, completion_ids, _, completions, _, extra_fields, _, _ = output
            for row, example in enumerate(self._scored_inputs):
                example |= {  # as TRL does it a moment later
                    key: values[row] if isinstance(values, list) else values
                    for key, values in extra_fields.items()
                    if not isinstance(values, list) or row < len(values)
                }
            self._rewards = self._calculate_rewards(self._scored_inputs, prompts, completions, completion_ids)
        return output

    def _calculate_rewards(
        self, inputs: list[dict], prompts: list, completions: list, completion_ids_list: list
    ) -> Tensor:
        if self._rewards is not None:
            rewards, self._rewards = self._rewards, None
            return rewards
        with _none_is_expected(), self._timed("rewards"):
            rewards = super()._calculate_rewards(inputs, prompts, completions, completion_ids_list)
        if self._outcome_index is None:
            return rewards
        outcome_rewards = rewards[:, self._outcome_index]  # (B,)
        outcomes = outcomes_from_rewards(
            outcome_rewards, self.args.correct_threshold, self.args.undecided_as_incorrect
        )
        if outcome_rewards.isnan().all():
            logger.warning(
                f"The outcome reward decided none of {len(outcomes)} completions. "
                "If this goes on, check that the dataset's column of references is the one it reads."
            )
        weights = None
        group_size = self.num_generations if self._mode == "train" else self.num_generations_eval
        groups = outcomes.view(-1, group_size)  # (P, G)
        if self.signed_objective.weigh is not None:
            self._seen_correct |= bool((outcomes == CORRECT).any())
            if not self._seen_correct:
                check_outcome_rewards(outcome_rewards, self.args.correct_threshold)
            weights = self.signed_objective.weigh(groups).view(-1)
        self._rollout = (outcomes, weights)

        lengths = torch.tensor([len(ids) for ids in completion_ids_list], device=outcomes.device)
        self._add(outcome_metrics(groups, self.accelerator.gather(lengths).view_as(groups)))
        if self._mode == "eval":
            num_correct = (groups == CORRECT).sum(dim=1).cpu().numpy()
            for k in sorted({*(2**i for i in range(group_size.bit_length())), group_size}):
                estimates = pass_at_k([group_size] * len(groups), num_correct, k)
                self._add({f"pass@{k}": (estimates.sum(), len(estimates))})

        self._log_completion_extra("outcome", [OUTCOME_NAMES[o] for o in self._local(outcomes, len(prompts)).tolist()])
        if weights is not None:
            self._log_completion_extra("weight", self._local(weights, len(prompts)).tolist())
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict[str, Any]:
        self._scored_inputs = inputs
        batch = super()._generate_and_score_completions(inputs)
        self._scored_inputs = []
        if self._rollout is None:
            return batch
        (outcomes, weights), self._rollout = self._rollout, None
        num_rows = len(batch["advantages"])
        batch["outcomes"] = self._local(outcomes, num_rows)
        if weights is not None:
            batch["advantages"] = self._local(weights, num_rows)
            logged = self._logs["advantages"]  # the parent appended GRPO's advantages, as many as fit
            for _ in range(min(len(weights), len(logged))):
                logged.pop()
            logged.extend(weights.tolist())
        self._count_corrections(batch)
        return batch

    def _count_corrections(self, batch: Mapping[str, Any]) -> None:
        """Counts what vLLM's importance-sampling correction takes from the rows that train."""
        if "importance_sampling_ratio" not in batch:
            return
        mask = batch["completion_mask"] * batch.get("tool_mask", 1) * (batch["advantages"] != 0).unsqueeze(1)
        limits = self.vllm_importance_sampling_clip_min, self.vllm_importance_sampling_clip_max
        sums = correction_metrics(batch["outcomes"], mask, batch["importance_sampling_ratio"], *limits)
        counts = torch.stack([torch.stack(sums[name]) for name in sums])
        self._add(dict(zip(sums, self.accelerator.reduce(counts, reduction="sum").tolist(), strict=True)))

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any] | None:
        if not (self._compacts and self._mode == "train"):
            return super()._prepare_inputs(generation_batch)
        is_due = self._step % (self.args.steps_per_generation * self.num_iterations) == 0
        # `training_step` asks for the inputs of a micro-step before Trainer does
        if (is_due or self._buffered_inputs is None) and self._buffered_step != self._step:
            self._buffered_inputs = self._compact(self._generate_and_score_completions(generation_batch))
            self._buffered_step = self._step
        assert self._buffered_inputs is not None
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Runs a micro-step, or skips one that has no rows to train."""
        model.train()
        if self.accelerator.sync_gradients:  # the denominator of the seconds per optimizer step
            self._add({f"cost/seconds/{phase}": (0, 1) for phase in PHASES})
        if self._compacts:
            start = time.perf_counter()
            is_empty = self._prepare_inputs(inputs) is None
            self._current_train_step_time += time.perf_counter() - start
            if is_empty:
                self._step += 1
                return torch.zeros((), device=self.accelerator.device)
        with self._timed("update"):
            return super().training_step(model, inputs, num_items_in_batch)

    def _compact(self, batch: dict[str, Any]) -> list[dict[str, Any] | None]:
        """Deals a generation batch over ranks and micro-steps: one entry per micro-step, `None` where nothing runs."""
        args, accelerator = self.args, self.accelerator
        rows = {key: value for key, value in batch.items() if isinstance(value, Tensor) and value.ndim > 0}
        num_windows = max(args.steps_per_generation // args.gradient_accumulation_steps, 1)
        # the draw with which TRL shuffles: a row trains in the window where it would without compaction
        place = torch.randperm(len(rows["advantages"])).argsort()
        windows = (place // (len(place) // num_windows)).to(accelerator.device)
        scalars = {key: value for key, value in batch.items() if key not in rows}
        loss_mask = rows["completion_mask"] * rows.get("tool_mask", 1)
        is_kept = (rows["advantages"] != 0) & (loss_mask.sum(1) > 0)
        lengths = [rows["prompt_mask"].sum(1), rows["completion_mask"].sum(1), loss_mask.sum(1)]
        table = accelerator.gather(torch.stack([*lengths, windows, is_kept.long()], dim=1)).cpu()  # (N, 5)
        prompt_lengths, completion_lengths, loss_lengths, windows, kept = table.unbind(1)
        kept = kept.bool()
        full_length = int(prompt_lengths.max()) + self.max_completion_length
        plan = make_plan(
            prompt_lengths + completion_lengths,
            windows,
            kept,
            num_ranks=accelerator.num_processes,
            num_micro_steps=args.steps_per_generation,
            num_windows=num_windows,
            rows_per_micro_batch=args.per_device_train_batch_size,
            max_tokens=(args.max_tokens_per_microbatch or args.per_device_train_batch_size * full_length)
            if self.loss_type in TOKEN_SUM_LOSSES
            else None,
            is_packed=self._unpads,
            fill_in_order=args.dropped_rows == "reference",
        )
        tokens_per_window = None
        if args.dropped_rows == "reference" and plan.num_kept:
            num_items = loss_lengths[kept].float().mean() * len(table)
            scalars["num_items_in_batch"] = num_items.to(accelerator.device)
            tokens_per_window = float(num_items) / num_windows
        self._add(cost_metrics(plan.micro_steps, prompt_lengths + completion_lengths, self._unpads))
        # the rows that this rank runs, numbered among the kept rows of all ranks
        number = kept.cumsum(0) - 1
        rank = accelerator.process_index
        mine = [None if step is None else renumber(step[rank], number) for step in plan.micro_steps]
        taken = torch.cat([numbers for numbers in mine if numbers is not None] or [number[:0]])
        rows = self._exchange({key: values[is_kept] for key, values in rows.items()}, kept, taken)
        micro_batches = cut_micro_batches(rows, mine)
        shares = token_shares(plan, loss_lengths, num_windows, tokens_per_window)
        for step, micro_batch, share in zip(plan.micro_steps, micro_batches, shares, strict=True):
            if step is not None and micro_batch is not None and share is not None:
                token_weight = float(share[rank]) * len(plan.micro_steps) / num_windows
                micro_batch |= scalars | {"is_empty": bool((step == DUMMY).all()), "token_weight": token_weight}
        return micro_batches

    def _exchange(self, rows: dict[str, Tensor], kept: Tensor, taken: Tensor) -> dict[str, Tensor]:
        """Sends this rank's kept rows to all ranks, and takes from all of theirs the rows that it runs."""
        accelerator = self.accelerator
        taken = taken.to(accelerator.device)
        if accelerator.num_processes == 1:
            return {key: take_rows(values, taken) for key, values in rows.items()}
        counts = kept.view(accelerator.num_processes, -1).sum(1).tolist()  # (R,)
        most = max(*counts, 1)
        place = torch.cat([torch.arange(count) + rank * most for rank, count in enumerate(counts)])
        taken = renumber(taken, place.to(taken.device))
        keys = sorted(rows)  # every rank sends them in the same order
        own_widths = torch.tensor([[rows[key].size(-1) for key in keys]], device=accelerator.device)
        received = {}
        for key, width in zip(keys, accelerator.gather(own_widths).amax(0).tolist(), strict=True):
            sent = rows[key]
            missing = width - sent.size(-1) if sent.ndim == 2 else 0  # every rank padded to its own longest
            columns = (missing, 0) if key.startswith("prompt_") else (0, missing)
            below = (0, most - len(sent))
            sent = torch.nn.functional.pad(sent, (*columns, *below) if sent.ndim == 2 else below)
            received[key] = take_rows(accelerator.gather(sent.contiguous()), taken)
        return received

    def _get_per_token_logps_and_entropies(
        self, model: Any, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        runs = run_unpadded if self._unpads else run_aligned if self._compacts else run_at_safe_width
        model = functools.partial(runs, model)
        if self._compacts and self._rollout is not None and self._mode == "train" and not torch.is_grad_enabled():
            with self._timed("logps"):
                return self._logps_of_weighted_rows(model, *args, **kwargs), None, None
        with self._timed("update" if torch.is_grad_enabled() else "logps"):
            logps, entropies, aux_loss = super()._get_per_token_logps_and_entropies(model, *args, **kwargs)
        if entropies is not None:  # only the loss asks for them
            self._forward = logps, entropies
        return logps, entropies, aux_loss

    def _logps_of_weighted_rows(
        self,
        model: Any,
        input_ids: Tensor,
        attention_mask: Tensor,
        logits_to_keep: int,
        batch_size: int,
        **kwargs: Any,
    ) -> Tensor:
        """Log-probs of shape `(rows, logits_to_keep)` of the rows that train; NaN, read as a ratio of 1, elsewhere."""
        assert self._rollout is not None
        assert self._rollout[1] is not None
        weights = self._local(self._rollout[1], len(input_ids))
        logps = torch.full((len(input_ids), logits_to_keep), torch.nan, device=input_ids.device)
        # longest first, so that a chunk holds rows of like length; every rank runs as many chunks as the others
        rows = weights.nonzero().flatten()
        logps[rows] = 0.0  # padding is multiplied by a mask of 0, which a NaN would survive
        rows = rows[attention_mask[rows].sum(1).argsort(descending=True)]
        num_rows = int(self.accelerator.gather(torch.tensor([len(rows)], device=rows.device)).max())
        rows = torch.cat([rows, rows.new_zeros(num_rows - len(rows))])
        num_prompt = input_ids.size(1) - logits_to_keep
        for chunk in rows.split(batch_size) if num_rows else ():
            mask = attention_mask[chunk]
            start = num_prompt - max(int(mask[:, :num_prompt].sum(1).max()), 1)
            kept = max(int(mask[:, num_prompt:].sum(1).max()), 1)
            window = slice(start, num_prompt + kept)
            found, _, _ = super()._get_per_token_logps_and_entropies(
                model, input_ids[chunk, window], mask[:, window], kept, **kwargs
            )
            logps[chunk, :kept] = found.to(logps.dtype)
        return logps

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        num_values = {name: len(values) for name, values in self._metrics[self._mode].items()}
        controller = self.entropy_coef, self._last_world_entropy
        loss = super()._compute_loss(model, inputs)
        assert self._forward is not None, "TRL's loss asks for log-probs and entropies"
        (logps, entropies), self._forward = self._forward, None
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)
        if inputs.get("is_empty"):  # a window without rows has no entropy and no clip fraction; TRL reads 0
            self.entropy_coef, self._last_world_entropy = controller
            for name, values in self._metrics[self._mode].items():
                values[num_values.get(name, 0) :] = [math.nan] * (len(values) - num_values.get(name, 0))
        elif self._entropy_bonus_enabled and "token_weight" in inputs:
            # TRL weighs all micro-batches of a window alike; compacted ones differ in tokens, and some do not run
            coef, last_entropy = controller
            if not self.use_adaptive_entropy or last_entropy <= self.args.entropy_target:
                mean_entropy = (entropies * mask).sum() / mask.sum().clamp(min=1)
                missing = (inputs["token_weight"] - 1) / self.current_gradient_accumulation_steps
                loss = loss - coef * missing * mean_entropy
        logps, entropies = logps.detach(), entropies.detach()
        if "outcomes" not in inputs:
            return loss
        log_ratio = logps - inputs.get("old_per_token_logps", logps)
        if self.importance_sampling_level == "sequence":
            log_ratio = (log_ratio * mask).sum(1, keepdim=True) / mask.sum(1, keepdim=True).clamp(min=1)
        sums = token_metrics(
            inputs["outcomes"],
            inputs["advantages"],
            mask,
            logps,
            entropies,
            log_ratio,
            self.epsilon_low,
            self.epsilon_high,
        )
        totals = torch.stack([torch.stack(sums[name]).float() for name in self._token_metrics])
        self._token_totals = totals if self._token_totals is None else self._token_totals + totals
        if self._mode == "eval" or self.accelerator.sync_gradients:
            reduced = self.accelerator.reduce(self._token_totals, reduction="sum").tolist()
            self._add(dict(zip(self._token_metrics, reduced, strict=True)))
            self._token_totals = None
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs what TRL logs and this trainer's metrics, each a sum over its count."""
        totals = self._totals[self._mode]
        for name, (total, count) in totals.items():
            if count:  # no incorrect completion, no mean length of incorrect completions
                self._metrics[self._mode][name] = [total / count]
        totals.clear()
        super().log(logs, start_time)

    def card_facts(self, model_name: str | None = None, dataset_name: str | None = None) -> CardFacts:
        """What this run knows of itself for its model card."""
        args = self.args
        base = get_config_model_id(self.model.config)
        is_local = not base or os.path.exists(base)
        num_prompts = args.generation_batch_size // self.num_generations
        return CardFacts(
            model_name=model_name or os.path.basename(os.path.normpath(args.output_dir)),
            objective=self.signed_objective.name,
            formula=self.signed_objective.formula,
            is_signed=self.signed_objective.weigh is not None,
            citation=self._paper["citation"],
            tags=tuple(self._tag_names),
            settings={
                "optimizer steps": self.state.global_step,
                "prompts x completions per generation": f"{num_prompts} x {self.num_generations}",
                "learning rate": f"{args.learning_rate:g}",
                "loss": f"{self.loss_type}, epsilon {self.epsilon_low:g} and {self.epsilon_high:g}, KL {self.beta:g}",
                "sampling temperature": self.temperature,
                "completion tokens at most": self.max_completion_length,
                "outcome reward": None if self._outcome_index is None else self.reward_func_names[self._outcome_index],
                "correct above": args.correct_threshold,
                "undecided trained as": "incorrect" if args.undecided_as_incorrect else None,
                "seed": args.seed,
            },
            base_model=None if is_local else base,
            local_base=os.path.basename(os.path.normpath(base)) if base and is_local else None,
            dataset_name=dataset_name,
            hub_model_id=self.hub_model_id,
            command=command_line(sys.argv),
            trained=self._trained(),
        )

    def _trained(self) -> dict[str, str]:
        """What the updates were made of and what they cost, over all resumes, to be read."""
        totals = {name: entry for name, entry in self._run_totals.items() if entry[1]}
        rows = {
            "completions sampled": ("signed/correct_ratio", lambda total, count: f"{count:,.0f}"),
            "of them correct": ("signed/correct_ratio", _amount),
            "incorrect": ("signed/incorrect_ratio", _amount),
            "undecided": ("signed/undecided_ratio", _amount),
            "completions that the updates ran": ("cost/rows", _amount),
            "tokens that the updates ran, prompts included": ("cost/tokens", _amount),
        } | {f"time in {phase}": (f"cost/seconds/{phase}", _duration) for phase in PHASES}
        return {label: show(*totals[name]) for label, (name, show) in rows.items() if name in totals}

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """
        Writes the model card of this run to `output_dir/README.md`, as every checkpoint and `push_to_hub` do.

        It shows the evaluations in `output_dir/evaluation/before` and `after`, where there are any, and draws the
        figures beside it; `nsr-trl card` writes it anew.

        Args:
            model_name (`str`, *optional*):
                Title of the card; the name of the output folder when not given.
            dataset_name (`str`, *optional*):
                What the model was trained on.
            tags (`str` or `list[str]`, *optional*):
                More Hub tags.
        """
        if not self.is_world_process_zero():
            return
        facts = self.card_facts(model_name, dataset_name)
        more = (tags,) if isinstance(tags, str) else tuple(tags or ())
        facts = dataclasses.replace(facts, tags=tuple(dict.fromkeys((*facts.tags, *more))))
        write_card(self.args.output_dir, facts, self.state.log_history)

    @contextlib.contextmanager
    def _timed(self, phase: str) -> Iterator[None]:
        """Adds the seconds inside it to a phase of the training step, less those of the phases that it contains."""
        outer, self._inner_seconds = self._inner_seconds, 0.0
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            if self._mode == "train":
                self._add({f"cost/seconds/{phase}": (seconds - self._inner_seconds, 0)})
            self._inner_seconds = outer + seconds

    def _add(self, sums: Mapping[str, Sequence]) -> None:
        """Adds sums and counts, over all ranks, to what the next `log` reports."""
        for name, (total, count) in sums.items():
            entries = [self._totals[self._mode][name]]
            if self._mode == "train":
                entries.append(self._run_totals[name])
            for entry in entries:
                entry[0] += float(total)
                entry[1] += float(count)

    def _any_rank(self, claim: bool) -> bool:
        """Whether any rank says so."""
        return bool(self.accelerator.gather(torch.tensor([claim], device=self.accelerator.device)).any())

    def _local(self, rows: Tensor, num_rows: int) -> Tensor:
        """Returns the slice of a tensor over all ranks that is this rank's."""
        start = self.accelerator.process_index * num_rows
        return rows[start : start + num_rows]


def _amount(total: float, count: float) -> str:
    return f"{total:,.0f} ({total / count:.1%})"


def _duration(seconds: float, count: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 3600 else f"{seconds:.0f} s"


@contextlib.contextmanager
def _none_is_expected() -> Iterator[None]:
    """Holds back TRL's advice on rows without any reward: undecided is an outcome here, counted in the metrics."""
    trl_logger = logging.getLogger("trl.trainer.grpo_trainer")

    def keep(record: logging.LogRecord) -> bool:
        return "All reward functions returned None" not in record.getMessage()

    trl_logger.addFilter(keep)
    try:
        yield
    finally:
        trl_logger.removeFilter(keep)


def differing_shapes(served: PreTrainedConfig, trained: PreTrainedConfig) -> list[str]:
    """Where two models differ so that the weights of one do not fit the other."""
    theirs, ours = served.get_text_config(), trained.get_text_config()
    return [
        f"{name} {getattr(theirs, name, None)} and {getattr(ours, name, None)}"
        for name in SHAPE_FIELDS
        if getattr(theirs, name, None) != getattr(ours, name, None)
    ]


def check_hooks() -> None:
    """
    Checks that the installed TRL has every method that this module wraps, with the parameters it relies on.

    Raises:
        RuntimeError: If one is missing, with the versions that are installed.
    """
    for name, parameters in HOOKS.items():
        method = getattr(GRPOTrainer, name, None)
        found = () if method is None else tuple(inspect.signature(method).parameters)[1:]
        if found[: len(parameters)] != parameters:
            came = f"{name}({', '.join(found)})" if method is not None else "no such method"
            raise RuntimeError(
                f"nsr-trl needs TRL's `GRPOTrainer.{name}({', '.join(parameters)}, ...)`; trl {trl.__version__} with "
                f"transformers {transformers.__version__} has {came}. Install a supported version: "
                "pip install 'trl>=1.16,<1.17'."
            )
