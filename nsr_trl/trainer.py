"""SignedRewardTrainer: TRL's `GRPOTrainer` with the advantage replaced by the sign of a verified answer.

The only module that touches TRL's private surface, of which `trl_surface` has the list. It wraps these methods
(`super()` plus before and after):

| method | what is added |
|---|---|
| `_generate_and_score_completions` | a [`Rollout`]; the weights take the place of the advantages |
| `_generate` | with compaction, rewards are computed here, before the log-probs of rows that will not train |
| `_get_per_token_logps_and_entropies` | how a micro-batch runs: aligned, packed, at a safe width |
| `_compute_loss` | metrics by sign, reduced over ranks once per optimizer step |
| `_prepare_inputs` | prompts that carry a signal; with compaction, owned: the rows are dealt by the plan |
| `training_step` | with compaction, a micro-step without rows is skipped; with a measured budget, measured |
| `log` | sums over counts; what decorates stops nothing |
| `train`, `evaluate` | begin with a clean slate; resume from a checkpoint that is whole; save and stop on a signal |
| `get_batch_samples` | a run that has reached its last step takes no other |
| `_save_checkpoint`, `_save_rng_state`, `_load_rng_state` | rollouts, counters and a manifest go with a checkpoint |
| `_save`, `_push_from_checkpoint` | no secret is stored with the arguments |
| `_get_train_sampler` | a resumed run goes on in the order of its epoch; where prompts are drawn from |
| `create_model_card` | replaced by this package's card |

P problems, G completions per problem, B = P*G rows over all ranks; a rank holds a contiguous slice of them.
"""

import contextlib
import copy
import functools
import logging
import math
import os
import signal
import textwrap
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import transformers
from accelerate import DistributedType
from torch import Tensor
from transformers import TrainerState
from transformers.utils.generic import is_flash_attention_requested
from trl import GRPOConfig, GRPOTrainer
from trl.trainer.utils import get_config_model_id

from . import checkpoints
from .alarms import METRIC, AlarmWatch, describe_stop
from .allocation import Draw, PromptAllocation
from .budget import CudaMeter, MeasuredBudget
from .compaction import logps_of_rows, packs_apart, run_aligned, run_at_safe_width, run_unpadded
from .config import (
    SignedRewardConfig,
    adopt,
    allocation_doubt,
    compaction_obstacle,
    default_tokens,
    sampling_bias,
)
from .dealing import deal, split
from .decoration import decorating
from .evaluation.pass_at_k import pass_at_k
from .gradients import FiniteGradients, describe_update
from .metrics import (
    PHASES,
    POLICY_METRICS,
    RATE,
    SIGNS,
    SURROGATE_METRICS,
    Ledger,
    correct_means,
    correction_metrics,
    outcome_metrics,
    repetition,
    sampling_metrics,
    sampling_values,
    token_metrics,
)
from .objective import CORRECT, Objective, rule_of
from .outcome_reward import none_is_expected
from .prompts import check_prompts, context_of, describe_dataset
from .rewards import NO_ANSWER_METRIC, completion_text
from .rollout import Rollout
from .run_card import CardFacts, describe_run, write_card
from .secrets import stored_without_secrets
from .served_model import check_served_model
from .stopping import StopOnSignal
from .trl_surface import check_attributes, check_methods, check_rollout, overridden_method
from .weighing import Weighing


logger = logging.getLogger(__name__)

TOKEN_SUM_LOSSES = ("dapo", "cispo", "vespo")
"""TRL's loss types that divide a sum over tokens by a constant; the others divide by the rows of a micro-batch."""

CLIPPED_LOSSES = ("grpo", "bnpo", "dr_grpo", "dapo", "luspo")
"""TRL's loss types that are the clipped surrogate; the others stop no gradient."""

ENTROPIES = tuple(f"signed/entropy/{side}" for side in SIGNS)


@dataclass
class Window:
    """
    An optimizer step under way, as far as it takes to begin it anew.

    Attributes:
        number (`int`):
            Optimizer steps of the training before it.
        loss (`torch.Tensor`):
            Sum of what its micro-steps have returned.
        counted (`dict[str, Any]`):
            What had been counted before it.
    """

    number: int
    loss: Tensor
    counted: dict[str, Any]


class SignedRewardTrainer(GRPOTrainer):
    """
    Trains on the sign of a verified answer (PSR, NSR, W-REINFORCE; arXiv 2506.01347).

    A [`~trl.GRPOTrainer`] with one difference: the advantage of a completion is a signed weight, `+positive_weight`
    when its outcome reward says correct, `-negative_weight` when it says incorrect and 0 when it says neither
    (`None`). It is never normalised over the group, so a group that is all wrong, or all right, trains as it should.
    The constructor, the datasets, reward functions, callbacks, PEFT, DeepSpeed, FSDP, vLLM and images are those of
    `GRPOTrainer`; only `args` is a [`SignedRewardConfig`] (a `GRPOConfig` is given the fields that it lacks).

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
        ValueError: If the outcome reward is not named among several, or names none; if the output folder cannot be
            written; if the dataset has fewer prompts than one generation takes, or prompts longer than the model's
            context; and, while training, if the outcome reward looks shifted (see [`check_outcome_rewards`]).
        TypeError: If `args` is no `GRPOConfig`.
        RuntimeError: If the installed TRL lacks something that this class relies on.
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

    args: Any  # a SignedRewardConfig, or a GRPOConfig with its fields
    task: Any = None  # the `Task` of a run that has one, for its card
    entropy_coef: float  # TRL's, and with `use_adaptive_entropy` its controller's
    _last_world_entropy: float

    # help() and editors show the signature of `GRPOTrainer`
    @functools.wraps(GRPOTrainer.__init__, assigned=(), updated=())  # type: ignore[misc]
    def __init__(
        self, model: Any, reward_funcs: Any = None, args: GRPOConfig | None = None, *rest: Any, **kwargs: Any
    ):
        check_methods(GRPOTrainer)
        if args is None:
            model_id = model if isinstance(model, str) else get_config_model_id(model.config)
            args = SignedRewardConfig(f"{model_id.split('/')[-1]}-SignedReward")
        elif not hasattr(args, "objective"):
            logger.warning(
                f"Got a `{type(args).__name__}`: training with objective={SignedRewardConfig.objective!r}. "
                "Pass a `SignedRewardConfig` to choose the objective."
            )
        args = adopt(args)
        if args.should_save and args.save_strategy != "no":
            checkpoints.check_folder(args.output_dir)
        self._tag_names = [*self._tag_names, args.objective.rpartition(":")[2]]
        self._ledger = Ledger()
        self._rollout: Rollout | None = None  # the one under way
        self._draw: Draw | None = None  # the prompts of the one that is about to begin
        self._train_rows: Any = None  # the dataset as the dataloader reads it
        self._tokens_per_micro_step = 0.0  # of the rollout that is trained on, over all ranks
        self._forward: tuple[Tensor, Tensor] | None = None  # (log-probs, entropies) of a loss under way, (rows, T)
        self._buffered_inputs: list[dict[str, Any] | None] | None = None
        self._buffered_step: int | None = None  # the micro-step at which the buffered rows were generated
        self._window: Window | None = None  # the optimizer step under way, where it may have to begin anew
        self._part: dict[str, Any] | None = None  # what runs in the place of a micro-batch that was too large
        self._num_steps_done = 0  # micro-steps, counted as `_step` is, whose rows have run in one before
        self._num_epochs_done = 0  # by the run that is being resumed
        self._is_saving = False  # a checkpoint
        self.stopped_by_alarm: str | None = None

        super().__init__(model, reward_funcs, args, *rest, **kwargs)
        check_attributes(self)

        if self.use_vllm and self.vllm_mode == "server" and self.accelerator.is_main_process:
            check_served_model(self.vllm_generation.vllm_client, self.model.config)
        self._check_prompts()
        self.weighing = Weighing(args, self.reward_func_names)
        self._allocation = self._decide_allocation()
        self._alarms = AlarmWatch(args.alarm_thresholds, args.generation_batch_size // self.num_generations)
        self._say(filter(None, [self.weighing.doubt(), sampling_bias(args)]))
        self._compacts = self._decide_compaction()
        self._budget = self._decide_budget()
        # flash-attention takes rows of any length in one sequence; whether the model keeps them apart is tried once
        self._packs: bool | None = None if is_flash_attention_requested(self.model.config) else False
        self._token_metrics = POLICY_METRICS + (SURROGATE_METRICS if self.loss_type in CLIPPED_LOSSES else ())
        self._gradients = FiniteGradients(self.accelerator, self._describe_window)
        self._stop = StopOnSignal(
            self._largest, is_on=args.save_strategy != "no", speaks=self.accelerator.is_main_process
        )
        for callback in (self._gradients, self._stop):
            self.add_callback(callback)

    @property
    def signed_objective(self) -> Objective:
        """The objective in force."""
        return self.weighing.controller.objective

    # --- before a run -------------------------------------------------------------------------------------------

    def _check_prompts(self) -> None:
        context = context_of(self.model.config)
        num_needed = self.args.generation_batch_size // self.num_generations
        check_prompts(self.train_dataset, self.processing_class, num_needed, context)
        evaluated = self.eval_dataset if isinstance(self.eval_dataset, dict) else {"": self.eval_dataset}
        for dataset in evaluated.values():
            check_prompts(dataset, self.processing_class, 0, context)

    def _decide_allocation(self) -> PromptAllocation | None:
        """Draws the prompts, unless they are taken in turn."""
        args = self.args
        if args.prompt_allocation == "none":
            return None
        self._train_rows = self.train_dataset
        if not hasattr(self._train_rows, "__len__"):
            raise ValueError(
                f"`prompt_allocation` draws from all prompts, so the dataset must have a length; got "
                f"{args.prompt_allocation!r} and a {type(self._train_rows).__name__}. Leave it out, or load the "
                "dataset without streaming."
            )
        self._say(filter(None, [allocation_doubt(args, len(self._train_rows))]))
        return PromptAllocation(len(self._train_rows), args.allocation_floor, args.seed)

    def _decide_compaction(self) -> bool:
        """Whether updates are compacted; says so where something forbids it."""
        obstacle = compaction_obstacle(self.args) or overridden_method(type(self), SignedRewardTrainer, GRPOTrainer)
        if obstacle is None and self.aux_loss_enabled:
            obstacle = "the model's auxiliary loss"
        if obstacle is None and self._is_vlm:
            obstacle = "images, in a vision-language model"
        if obstacle is None or self.args.compact == "off":
            return self.args.compact != "off"
        if self.args.compact == "on" or self.args.dropped_rows == "reference":
            raise ValueError(
                f"Updates must run every row because of {obstacle}; got compact={self.args.compact!r}, "
                f"dropped_rows={self.args.dropped_rows!r}. Change that, or set compact='auto' and "
                "dropped_rows='objective'."
            )
        logger.warning(f"Updates run every row, without compaction, because of {obstacle}.")
        return False

    def _decide_budget(self) -> MeasuredBudget | None:
        """What measures how full micro-batches may be, where that is wanted; says so where it can measure nothing."""
        if self.args.max_tokens_per_microbatch != "auto":
            return None
        because = None if self._compacts else "updates run every row"
        if because is None and self.loss_type not in TOKEN_SUM_LOSSES:
            because = f"loss_type={self.loss_type!r} divides by the rows of a micro-batch"
        if because is not None:
            self._say([f"max_tokens_per_microbatch='auto' has no effect: {because}."])
            return None
        device = self.accelerator.device
        if device.type == "cuda":
            return MeasuredBudget(CudaMeter(device))
        nothing_measured = (
            f"max_tokens_per_microbatch='auto' measures no memory on a {device.type} device: micro-batches hold what "
            "per_device_train_batch_size rows of full length take, and are cut by the seconds that they need."
        )
        self._say([nothing_measured])
        return MeasuredBudget()

    @functools.cached_property
    def _run(self) -> dict[str, str]:
        """The facts that a checkpoint of this run must share."""
        base = get_config_model_id(self.model.config) or "unnamed"
        data = describe_dataset(self.train_dataset)
        run = {
            "objective": self.signed_objective.formula,
            "base model": os.path.basename(os.path.normpath(base)) if os.path.exists(base) else base,
            "seed": str(self.args.seed),
        }
        return run if data is None else run | {"data": data}

    # --- a run --------------------------------------------------------------------------------------------------

    def train(
        self,
        resume_from_checkpoint: str | bool | None = None,
        trial: Any = None,
        ignore_keys_for_eval: list[str] | None = None,
    ) -> Any:
        """
        Trains as `GRPOTrainer` does, and survives being stopped.

        SIGTERM, which schedulers send before they kill, and SIGINT (Ctrl-C) save a checkpoint at the end of the
        optimizer step and return; `stopped_by_signal` is then `True`, and a second signal stops at once. A resumed run
        goes on with the rollouts, random numbers and counters of the checkpoint: on a CPU its parameters equal those
        of a run that was not stopped, bit for bit. A run that has reached its last step takes no other. Where an alarm
        ends it (`args.on_alarm="stop"`), the weights are those of the last good checkpoint, and `stopped_by_alarm`
        says so.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                A checkpoint folder, or `True` for the last whole one of `args.output_dir`; those that are not whole
                are passed over.
            trial (`optuna.Trial` or `dict[str, Any]`, *optional*):
                As in [`~transformers.Trainer.train`].
            ignore_keys_for_eval (`list[str]`, *optional*):
                As in [`~transformers.Trainer.train`].

        Raises:
            ValueError: If there is no whole checkpoint to resume from, or a checkpoint is another run's.
            NonFiniteGradientError: If the gradient was not finite in three optimizer steps in a row.
        """
        args = self.args
        checkpoint = self.check_resuming(resume_from_checkpoint)
        self._begin_anew()
        if checkpoint is None and not args.overwrite_output_dir:
            self._say(filter(None, [checkpoints.leftovers(args.output_dir)]))
        if checkpoint is not None:
            state = TrainerState.load_from_json(os.path.join(checkpoint, checkpoints.STATE))
            self._num_epochs_done = int(state.epoch or 0)
        try:
            with self._stop:
                output = super().train(checkpoint, trial, ignore_keys_for_eval)
        finally:
            self._num_epochs_done = 0
        self._gradients.check(checkpoints.last_complete_checkpoint(args.output_dir))
        if self.stopped_by_alarm is not None:
            self._go_back()
        if self.stop_signal is not None and self.accelerator.is_main_process:
            logger.warning(
                f"Stopped by {self.stop_signal.name} after {self.state.global_step} optimizer steps; "
                f"resume_from_checkpoint=True goes on from the checkpoint in {args.output_dir}."
            )
        return output

    @property
    def stopped_by_signal(self) -> bool:
        """Whether the last training ended because of a signal, after a checkpoint."""
        return self.stop_signal is not None

    @property
    def stop_signal(self) -> signal.Signals | None:
        """The signal that ended the last training, after a checkpoint, if one did."""
        return self._stop.signal

    def _go_back(self) -> None:
        """Loads the last good checkpoint, after an alarm has stopped the training."""
        good, best = self._last_good_checkpoint(), self.state.best_model_checkpoint
        if good is not None:
            self.state.best_model_checkpoint = good
            self._load_best_model()
            self.state.best_model_checkpoint = best
        if self.accelerator.is_main_process:
            logger.warning(describe_stop(self.stopped_by_alarm, good))
        self.stopped_by_alarm = f"{self.stopped_by_alarm}, weights of {os.path.basename(good or 'the last step')}"

    def _last_good_checkpoint(self) -> str | None:
        step = self._alarms.good_until(self.state.log_history)
        return None if step is None else checkpoints.last_complete_checkpoint(self.args.output_dir, before=step)

    def check_resuming(self, resume_from_checkpoint: str | bool | None = None) -> str | None:
        """
        Finds the checkpoint that `train` would resume from, and sees to it that no other run's is in the way.

        Args:
            resume_from_checkpoint (`str` or `bool`, *optional*):
                As in [`train`].

        Returns:
            `str` or `None`: its folder; `None` for a run that starts anew, for which another run's checkpoints are
            deleted from the output folder where `args.overwrite_output_dir` says so

        Raises:
            ValueError: If there is none that is whole, or a checkpoint is another run's.
        """
        args = self.args
        found = checkpoints.find_checkpoint(resume_from_checkpoint, args.output_dir, logger.warning)
        strangers = checkpoints.find_strangers(self._run, found, args.output_dir, args.overwrite_output_dir)
        for path in strangers if args.should_save else ():
            checkpoints.delete(path)
        return found

    def _begin_anew(self) -> None:
        """Forgets what an earlier training left, which may have ended anywhere."""
        self._step, self._buffered_inputs, self._buffered_step = 0, None, None
        self._current_train_step_time = 0.0
        self.entropy_coef, self._last_world_entropy = self.args.entropy_coef, math.inf
        self._entropy_window_stats = None
        self._forward, self._draw, self.stopped_by_alarm = None, None, None
        self._window, self._part, self._num_steps_done = None, None, 0
        if self._budget is not None:
            self._budget = self._budget.begin_anew()
        self.weighing.begin_anew()
        if self._allocation is not None:
            self._allocation.begin_anew()
        self._forget("train")
        self._forget_rollout()

    def _forget(self, mode: str) -> None:
        """Forgets what was counted."""
        self._ledger.forget(mode)
        self._metrics[mode].clear()

    def _forget_rollout(self) -> None:
        """Forgets what TRL has noted of a rollout that did not come to its end, in part of its tables only."""
        self._pending_extra_logs.clear()
        self._pending_metrics.clear()
        for kept in self._logs.values():
            kept.clear()

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """As [`~transformers.Trainer.evaluate`], with all that was logged: `eval_pass@8`, say."""
        self._forget("eval")
        metrics = super().evaluate(*args, **kwargs)
        # TRL logs what it measured and does not return it: `metric_for_best_model` looks here
        return {**self.state.log_history[-1], **metrics} if self.state.log_history else metrics

    def get_batch_samples(self, epoch_iterator: Iterator, num_batches: int, device: Any) -> tuple[list, Any]:
        """As [`~transformers.Trainer.get_batch_samples`]; none once the last step is taken, as resuming there asks."""
        if self.state.global_step >= self.state.max_steps:
            self.control.should_training_stop = True
            return [], None
        return super().get_batch_samples(epoch_iterator, num_batches, device)

    def _get_train_sampler(self, dataset: Any = None) -> Any:
        """TRL's sampler, at the place in its permutations where the epoch that is resumed began."""
        sampler = super()._get_train_sampler(dataset)
        self._train_rows = self.train_dataset if dataset is None else dataset
        generator = getattr(sampler, "generator", None)
        for _ in range(self._num_epochs_done if generator is not None else 0):
            torch.randperm(len(self._train_rows), generator=generator)
        return sampler

    # --- checkpoints --------------------------------------------------------------------------------------------

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        folder = Path(self._get_output_dir(trial=trial), f"checkpoint-{self.state.global_step}")
        self._is_saving = True
        try:
            with checkpoints.being_written(folder, self.args, self.accelerator):
                super()._save_checkpoint(model, trial)
        finally:
            self._is_saving = False
        if self.args.should_save:
            checkpoints.mark_complete(folder, self._run)
            good = self._last_good_checkpoint() if self.args.on_alarm == "stop" else None
            kept = folder, self.state.best_model_checkpoint, good
            checkpoints.rotate(folder.parent, self.args.save_total_limit, kept)

    def _save_rng_state(self, output_dir: str) -> None:
        super()._save_rng_state(output_dir)
        state = {
            "num_ranks": self.accelerator.num_processes,
            "step": self._step,
            "buffered_inputs": None if self._is_rollout_due else self._buffered_inputs,
            "allocation": None if self._allocation is None else self._allocation.state(),
            "budget": None if self._budget is None else self._budget.state(),
            "tokens": self._tokens_per_micro_step,
            **self._counted(),
        }
        checkpoints.save_rank_state(output_dir, self.accelerator.process_index, state)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        super()._load_rng_state(checkpoint)
        if checkpoint is None:
            return
        self._step = self.state.global_step * self.args.gradient_accumulation_steps
        rank, device = self.accelerator.process_index, self.accelerator.device
        state = checkpoints.load_rank_state(checkpoint, rank, device)
        if (known := state or checkpoints.load_rank_state(checkpoint, 0, device)) is not None:
            self.weighing.load(known["weighing"])  # the same on all ranks
            if self._allocation is not None and known.get("allocation") is not None:
                self._allocation.load(known["allocation"])
            if self._budget is not None and known.get("budget") is not None:
                self._budget.load(known["budget"])
        if state is None or state["num_ranks"] != self.accelerator.num_processes:
            logger.warning(
                f"{checkpoint} holds no rollouts for {self.accelerator.num_processes} processes: this run goes on "
                "with new ones, and differs from one that was not stopped."
            )
            return
        self._step, self._buffered_inputs = state["step"], state["buffered_inputs"]
        self.entropy_coef, self._last_world_entropy = state["entropy"]
        self._ledger.load(state["ledger"])
        self._metrics["train"].update(state["metrics"])
        self._tokens_per_micro_step = state.get("tokens", 0.0)

    def _save(self, *args: Any, **kwargs: Any) -> None:
        with stored_without_secrets(self):
            super()._save(*args, **kwargs)

    def _push_from_checkpoint(self, checkpoint_folder: str) -> None:
        with stored_without_secrets(self):
            super()._push_from_checkpoint(checkpoint_folder)

    # --- a rollout ----------------------------------------------------------------------------------------------

    @property
    def _mode(self) -> str:
        return "train" if self.model.training else "eval"

    @property
    def _is_rollout_due(self) -> bool:
        """Whether the next micro-step generates anew: all that is buffered has been trained on."""
        return self._step % (self.args.steps_per_generation * self.num_iterations) == 0

    def _generate_and_score_completions(self, inputs: list[dict]) -> dict[str, Any]:
        draw, self._draw = self._draw if self._mode == "train" else None, None
        with self._rolling_out(Rollout(inputs, draw)) as rollout:
            batch = super()._generate_and_score_completions(inputs)
            if rollout.outcomes is None:
                return batch
            num_rows = len(batch["advantages"])
            batch["outcomes"] = self._local(rollout.outcomes, num_rows)
            if rollout.weights is not None:
                batch["advantages"] = self._local(rollout.weights, num_rows)
                logged = self._logs["advantages"]  # the parent appended GRPO's advantages, as many as fit
                for _ in range(min(len(rollout.weights), len(logged))):
                    logged.pop()
                logged.extend(rollout.weights.tolist())
            elif rollout.scales is not None:
                batch["advantages"] = batch["advantages"] * self._local(rollout.scales, num_rows)
            if rollout.has_logps is not None:
                assert not (batch["advantages"] != 0)[~rollout.has_logps].any(), "a row trains without log-probs"
            self._count_corrections(batch, rollout)
            return batch

    @contextlib.contextmanager
    def _rolling_out(self, rollout: Rollout) -> Iterator[Rollout]:
        """Has TRL's call of `_calculate_rewards` reach the most derived one, whose rewards the rollout keeps."""
        own = self.__dict__.get("_calculate_rewards")
        self.__dict__["_calculate_rewards"] = functools.partial(self._score, rollout, self._calculate_rewards)
        self._rollout = rollout
        try:
            yield rollout
        except BaseException:
            self._forget_rollout()
            raise
        finally:
            self._rollout = None
            del self.__dict__["_calculate_rewards"]
            if own is not None:
                self.__dict__["_calculate_rewards"] = own

    def _generate(self, prompts: list) -> tuple:
        num_tokens = self.state.num_input_tokens_seen
        with self._ledger.timed(self._mode, "generation"):
            output = super()._generate(prompts)
        if self._mode == "train":
            num_tokens = self.state.num_input_tokens_seen - num_tokens  # prompts and completions of all ranks
            self._tokens_per_micro_step = num_tokens / self.args.steps_per_generation
            num_rows = len(prompts) * self.accelerator.num_processes
            mean_length = self._metrics["train"]["completions/mean_length"][-1]
            self._add({f"{RATE}generation": (mean_length * num_rows, 0)})
        is_training_rollout = self._rollout is not None and self._mode == "train"
        if self._compacts and is_training_rollout and self.signed_objective.weigh is not None:
            _, completion_ids, _, completions, _, extra_fields, _, _ = check_rollout(output)
            assert self._rollout is not None
            inputs = self._rollout.inputs
            for row, example in enumerate(inputs):
                example |= {  # as TRL does it a moment later
                    key: values[row] if isinstance(values, list) else values
                    for key, values in extra_fields.items()
                    if not isinstance(values, list) or row < len(values)
                }
            self._calculate_rewards(inputs, prompts, completions, completion_ids)
        return output

    def _score(
        self,
        rollout: Rollout,
        calculate: Any,
        inputs: list[dict],
        prompts: list,
        completions: list,
        completion_ids: list,
    ) -> Tensor:
        """Rewards `(B, functions)` of a rollout's completions, and with them outcomes, weights and metrics, once."""
        if (known := rollout.rewards_of(completion_ids)) is not None:
            return known
        expectation = contextlib.nullcontext() if self.signed_objective.weigh is None else none_is_expected()
        with expectation, self._ledger.timed(self._mode, "rewards"):
            rewards = calculate(inputs, prompts, completions, completion_ids)
        rollout.keep(rewards, completion_ids)
        is_training = self._mode == "train"
        group_size = self.num_generations if is_training else self.num_generations_eval
        progress = (self.state.global_step, self.state.max_steps) if is_training else None
        unanswered = self._pending_metrics.get(NO_ANSWER_METRIC) or [0.0]
        draw = rollout.draw
        scales = None if draw is None else draw.scales
        weighed = self.weighing.weigh(rewards, group_size, progress, sum(unanswered) / len(unanswered), scales)
        if weighed is None:
            return rewards
        self._say(weighed.sentences)
        rollout.outcomes, rollout.weights, rollout.scales = weighed.outcomes, weighed.weights, weighed.scales
        if self._allocation is not None and draw is not None:
            self._allocation.rates.see(draw.prompts, weighed.outcomes.view(-1, group_size))
        self._add(weighed.sums)
        self._count_outcomes(weighed.outcomes.view(-1, group_size), completion_ids)
        for column, values in weighed.columns.items():
            self._log_completion_extra(column, self._local(values, len(prompts)))
        return rewards

    def _count_outcomes(self, groups: Tensor, completion_ids: list) -> None:
        """Counts the outcomes `(P, G)` of a rollout."""
        again = torch.stack(repetition(completion_ids))
        told = torch.cat([torch.tensor([len(ids) for ids in completion_ids]), again]).to(groups.device)
        told = self.accelerator.gather(told).view(self.accelerator.num_processes, -1)  # (ranks, rows + 2)
        self._add(outcome_metrics(groups, told[:, :-2].reshape(groups.shape)))
        self._add({"signed/repetition": told[:, -2:].sum(0).tolist()})
        if self._mode == "eval":
            group_size = groups.size(1)
            num_correct = (groups == CORRECT).sum(dim=1).cpu().numpy()
            for k in sorted({*(2**i for i in range(group_size.bit_length())), group_size}):
                estimates = pass_at_k([group_size] * len(groups), num_correct, k)
                self._add({f"pass@{k}": (estimates.sum(), len(estimates))})

    def _count_corrections(self, batch: Mapping[str, Any], rollout: Rollout) -> None:
        """Counts what vLLM's importance-sampling correction takes from the rows that train."""
        if "importance_sampling_ratio" not in batch:
            return
        ratio = batch["importance_sampling_ratio"]
        loss_mask = batch["completion_mask"] * batch.get("tool_mask", 1)  # (rows, T)
        mask = loss_mask * (batch["advantages"] != 0).unsqueeze(1)
        limits = self.vllm_importance_sampling_clip_min, self.vllm_importance_sampling_clip_max
        self._add(self._reduce(correction_metrics(batch["outcomes"], mask, ratio, *limits)))
        if rollout.has_logps is None:
            return
        # TRL has counted the rows without log-probs as well
        mask = loss_mask * rollout.has_logps.unsqueeze(1)
        sums, largest = sampling_metrics(batch["old_per_token_logps"], batch["sampling_per_token_logps"], mask, ratio)
        largest = self.accelerator.gather(largest.unsqueeze(0)).amax(0)
        for name, value in sampling_values(self._reduce(sums), largest).items():
            self._metrics[self._mode][name][-1] = value

    # --- an update ----------------------------------------------------------------------------------------------

    def _prepare_inputs(self, generation_batch: Any) -> dict[str, Any] | None:
        if self._mode != "train":
            return super()._prepare_inputs(generation_batch)
        if self._part is not None:
            return self._part
        # with compaction `training_step` asks for the inputs of a micro-step before Trainer does
        is_due = (self._is_rollout_due or self._buffered_inputs is None) and self._buffered_step != self._step
        if is_due and self._allocation is not None:
            generation_batch = self._draw_prompts(self._allocation, len(generation_batch))
        if not self._compacts:
            return super()._prepare_inputs(generation_batch)
        if is_due:
            self._buffered_inputs = self._compact(self._generate_and_score_completions(generation_batch))
            self._buffered_step = self._step
        assert self._buffered_inputs is not None
        return self._buffered_inputs[self._step % self.args.steps_per_generation]

    def _draw_prompts(self, allocation: PromptAllocation, num_rows: int) -> list[dict[str, Any]]:
        """
        Examples of the rollout that is about to begin, this rank's, in the place of those that the dataloader read.

        They are drawn now, and not by the sampler: a dataloader reads ahead, before the last rollout's outcomes are
        known, and reads again when a run is resumed.
        """
        group_size = self.num_generations
        num_prompts = num_rows * self.accelerator.num_processes // group_size
        drawn = allocation.draw(num_prompts, group_size, rule_of(self.signed_objective))
        # all ranks draw alike; should their arithmetic differ by a bit, what the first one drew holds
        device = self.accelerator.device
        parts = (self.accelerator.gather(part.to(device)) for part in (drawn.prompts, drawn.scales))
        self._draw = Draw(*(part[:num_prompts].cpu() for part in parts))
        rows = self._local(self._draw.prompts.repeat_interleave(group_size).tolist(), num_rows)
        return [self._train_rows[row] for row in rows]

    def training_step(self, model: Any, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Runs a micro-step, or skips one that has no rows to train."""
        model.train()
        if self.accelerator.sync_gradients:  # the denominator of the seconds per optimizer step
            self._add({f"cost/seconds/{phase}": (0, 1) for phase in PHASES})
        if self._step < self._num_steps_done:
            self._step += 1
            loss = torch.zeros((), device=self.accelerator.device)
        elif self._compacts and self._is_without_rows(inputs):
            loss = self._skip(model)
        else:
            with self._ledger.timed(self._mode, "update"):
                if self._budget is None:
                    loss = super().training_step(model, inputs, num_items_in_batch)
                else:
                    loss = self._train_measured(self._budget, model, inputs, num_items_in_batch)
        self._add({f"{RATE}{of}": (self._tokens_per_micro_step, 0) for of in ("update", "step")})
        return loss

    def _is_without_rows(self, inputs: Any) -> bool:
        start = time.perf_counter()
        is_without_rows = self._prepare_inputs(inputs) is None
        self._current_train_step_time += time.perf_counter() - start
        return is_without_rows

    def _train_measured(self, budget: MeasuredBudget, model: Any, inputs: Any, num_items_in_batch: Any) -> Tensor:
        """Runs a micro-step and learns from it; where memory runs out, the optimizer step begins anew in halves."""
        micro_batch = self._prepare_inputs(inputs)
        assert micro_batch is not None
        number = self._step // self.args.gradient_accumulation_steps
        if self._window is None or self._window.number != number:
            nothing = torch.zeros((), device=self.accelerator.device)
            self._window = Window(number, nothing, copy.deepcopy(self._counted()))
        window = self._window
        try:
            with budget.measured(micro_batch["token_places"]):
                loss = super().training_step(model, inputs, num_items_in_batch)
        except torch.cuda.OutOfMemoryError as error:
            self._check_beginning_anew(error, micro_batch)
            loss = None  # outside of this block the error holds no tensors any more
        if loss is None:
            loss = self._begin_step_anew(window, budget, model, micro_batch, num_items_in_batch) - window.loss
        window.loss += loss
        return loss

    def _counted(self) -> dict[str, Any]:
        """What a micro-step adds to."""
        return {
            "ledger": self._ledger.state(),
            "metrics": dict(self._metrics["train"]),
            "entropy": [self.entropy_coef, self._last_world_entropy],
            "weighing": self.weighing.state(),
        }

    def _take_back(self, counted: dict[str, Any]) -> None:
        """Forgets what was counted since [`_counted`] gave this."""
        counted = copy.deepcopy(counted)
        self._ledger.take_back(counted["ledger"])
        self._metrics["train"].clear()
        self._metrics["train"].update(counted["metrics"])
        self.entropy_coef, self._last_world_entropy = counted["entropy"]
        self._entropy_window_stats = None
        self.weighing.load(counted["weighing"])

    def _check_beginning_anew(self, error: BaseException, micro_batch: Mapping[str, Any]) -> None:
        """Raises an error of memory where nothing smaller can be tried."""
        args, accelerator = self.args, self.accelerator
        because = None
        if len(micro_batch["advantages"]) == 1:
            because = "a single row did not fit"
        elif accelerator.num_processes > 1 or accelerator.distributed_type != DistributedType.NO:
            because = "other processes may be amid the same one"
        elif args.steps_per_generation % args.gradient_accumulation_steps:
            because = "it began in another generation"
        if because is not None:
            error.add_note(f"The optimizer step cannot begin anew in smaller micro-batches: {because}.")
            raise error

    def _begin_step_anew(
        self, window: Window, budget: MeasuredBudget, model: Any, too_large: Mapping[str, Any], num_items_in_batch: Any
    ) -> Tensor:
        """
        Runs a whole optimizer step's rows in this micro-step, in parts that hold half of what did not fit, or less.

        Gradients are zeroed, and what was counted is taken back. The micro-steps of the optimizer step that are left
        then have nothing to do. Returns the loss of the optimizer step.
        """
        size, step = self.args.gradient_accumulation_steps, self._step
        end, is_synced = (window.number + 1) * size, self.accelerator.sync_gradients
        assert self._buffered_inputs is not None
        start = window.number * size % self.args.steps_per_generation
        micro_batches = [batch for batch in self._buffered_inputs[start : start + size] if batch is not None]
        failed: Mapping[str, Any] | None = too_large
        while failed is not None:
            most = budget.halve(failed["token_places"])
            self._say([f"Memory ran out: micro-batches hold {most:,} tokens from now on, and the step begins anew."])
            model.zero_grad()
            torch.cuda.empty_cache()
            self._take_back(window.counted)
            *parts, last = (part for batch in micro_batches for part in split(batch, most))
            begin, loss = time.perf_counter(), torch.zeros_like(window.loss)
            try:
                self.accelerator.gradient_state._set_sync_gradients(False)
                for self._part in parts:  # as TRL does it, without its count of micro-steps
                    loss += super(GRPOTrainer, self).training_step(model, self._part, num_items_in_batch)
                self.accelerator.gradient_state._set_sync_gradients(True)
                self._part, self._step = last, end - 1
                self._current_train_step_time += time.perf_counter() - begin
                loss += super().training_step(model, last, num_items_in_batch)
                failed = None
            except torch.cuda.OutOfMemoryError as error:
                assert self._part is not None
                failed = self._part
                self._check_beginning_anew(error, failed)
            finally:
                self._part = None
                self.accelerator.gradient_state._set_sync_gradients(is_synced)
        self._step, self._num_steps_done = step + 1, end
        return loss

    def _skip(self, model: Any) -> Tensor:
        """Passes over a micro-step in which no rank runs anything."""
        self._step += 1
        if self._entropy_bonus_enabled:
            self._metrics["train"]["policy_loss"].append(0.0)  # TRL means it over all micro-steps
        if self.accelerator.sync_gradients:  # the last micro-step of a window is skipped with all the others alone
            self._gradients.expect_nothing(model)
        return torch.zeros((), device=self.accelerator.device)

    def _compact(self, batch: dict[str, Any]) -> list[dict[str, Any] | None]:
        """Deals a generation batch: one entry per micro-step, `None` where nothing runs."""
        args = self.args
        num_windows = max(args.steps_per_generation // args.gradient_accumulation_steps, 1)
        # the draw with which TRL shuffles: a row trains in the window where it would without compaction
        place = torch.randperm(len(batch["advantages"])).argsort()  # (rows,)
        micro_batches, costs = deal(
            batch,
            place // (len(place) // num_windows),
            gather=self.accelerator.gather,
            rank=self.accelerator.process_index,
            num_ranks=self.accelerator.num_processes,
            num_micro_steps=args.steps_per_generation,
            num_windows=num_windows,
            rows_per_micro_batch=args.per_device_train_batch_size,
            max_completion_length=self.max_completion_length,
            max_tokens=default_tokens(args),
            by_rows=self.loss_type not in TOKEN_SUM_LOSSES,
            is_packed=self._decide_packing(),
            as_reference=args.dropped_rows == "reference",
            budget=self._budget,
        )
        self._add(costs)
        return micro_batches

    def _decide_packing(self) -> bool:
        """Whether micro-batches run as one sequence: with flash-attention, once two rows were seen to stay apart."""
        if self._packs is None:
            device = self.accelerator.device
            with torch.no_grad(), self.accelerator.autocast():
                is_mixed = torch.is_autocast_enabled(device.type)
                dtype = torch.get_autocast_dtype(device.type) if is_mixed else self.model.dtype
                vocab_size = self.model.config.get_text_config().vocab_size
                stay_apart = packs_apart(self.model_wrapped, vocab_size, dtype, device)
            self._packs = not self._largest(int(not stay_apart))
            if not self._packs:
                logger.warning("Micro-batches keep their padding: packed into one, this model's rows see each other.")
        return self._packs

    def _get_per_token_logps_and_entropies(
        self, model: Any, *args: Any, **kwargs: Any
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        runs = run_at_safe_width if not self._compacts else run_unpadded if self._packs else run_aligned
        model = functools.partial(runs, model)
        is_scored = self._rollout is not None and self._rollout.weights is not None
        if self._compacts and is_scored and self._mode == "train" and not torch.is_grad_enabled():
            with self._ledger.timed(self._mode, "logps"):
                return self._logps_of_weighted_rows(model, *args, **kwargs), None, None
        with self._ledger.timed(self._mode, "update" if torch.is_grad_enabled() else "logps"):
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
        """Log-probs of shape `(rows, logits_to_keep)` of the rows that train; 0 elsewhere."""
        assert self._rollout is not None
        assert self._rollout.weights is not None
        has_weight = self._local(self._rollout.weights, len(input_ids)) != 0  # (rows,)
        self._rollout.has_logps = has_weight
        compute = functools.partial(super()._get_per_token_logps_and_entropies, model, **kwargs)
        # every rank runs as many rows as the others
        num_rows = self._largest(int(has_weight.sum()))
        return logps_of_rows(compute, has_weight, num_rows, input_ids, attention_mask, logits_to_keep, batch_size)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Tensor:
        if inputs is None:
            raise RuntimeError(
                "A micro-step without rows must be skipped by SignedRewardTrainer.training_step; it reached the loss. "
                "Call super().training_step in the override, or set compact='off'."
            )
        num_values = {name: len(values) for name, values in self._metrics[self._mode].items()}
        controller = self.entropy_coef, self._last_world_entropy
        try:
            loss = super()._compute_loss(model, inputs)
            assert self._forward is not None, "TRL's loss asks for log-probs and entropies"
            logps, entropies = self._forward
        finally:
            self._forward = None
        mask = inputs["completion_mask"] * inputs.get("tool_mask", 1)  # (rows, T)
        if "num_tokens" in inputs:  # dealt
            counts = {name: inputs[name] for name in ("num_tokens", "num_rows", "num_places")}
            is_sequence_level = self.importance_sampling_level == "sequence"
            self._add(correct_means(self._metrics["train"], num_values, **counts, is_sequence_level=is_sequence_level))
            if inputs["is_empty"]:  # a window without rows has no entropy; TRL reads 0
                self.entropy_coef, self._last_world_entropy = controller
            elif self._entropy_bonus_enabled:
                # TRL weighs all micro-batches of a window alike; compacted ones differ in tokens, and some do not run
                coef, last_entropy = controller
                if not self.use_adaptive_entropy or last_entropy <= self.args.entropy_target:
                    mean_entropy = (entropies * mask).sum() / mask.sum().clamp(min=1)
                    missing = (inputs["token_weight"] - 1) / self.current_gradient_accumulation_steps
                    loss = loss - coef * missing * mean_entropy
        if "outcomes" in inputs:
            self._count_tokens(inputs, mask, logps.detach(), entropies.detach())
        return loss

    def _count_tokens(self, inputs: Mapping[str, Any], mask: Tensor, logps: Tensor, entropies: Tensor) -> None:
        """Counts by sign what the policy does to the tokens of a micro-batch, `(rows, T)`."""
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
        self._ledger.pend(torch.stack([torch.stack(sums[name]).float() for name in self._token_metrics]))
        if self._mode == "eval" or self.accelerator.sync_gradients:
            totals = self._ledger.take_pending()
            reduced = self.accelerator.reduce(totals, reduction="sum").tolist()
            by_name = dict(zip(self._token_metrics, reduced, strict=True))
            self._add(by_name)
            total, count = (sum(of_side) for of_side in zip(*(by_name[name] for name in ENTROPIES), strict=True))
            if count and self._mode == "train":
                self.weighing.controller.see_entropy(total / count)

    def _describe_window(self) -> dict[str, Any]:
        """Describes the micro-batches of the current optimizer step."""
        size = self.args.gradient_accumulation_steps
        start = (self._step - 1) // size * size % self.args.steps_per_generation
        micro_batches = (self._buffered_inputs or [])[start : start + size]
        precision = self.accelerator.mixed_precision
        return describe_update(
            self.signed_objective.formula, self.loss_type, precision, self.model.config, micro_batches
        )

    # --- logs and the card --------------------------------------------------------------------------------------

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Logs what TRL logs and this trainer's metrics, each a sum over its count; none without anything to count."""
        metrics = self._metrics[self._mode]
        metrics.update({name: [value] for name, value in self._ledger.drain(self._mode).items()})
        for name in [name for name, values in metrics.items() if all(map(math.isnan, values))]:
            del metrics[name]
        if self._mode == "train" and "loss" in logs:
            self._heed_alarms(logs, metrics)
        folder = self.args.output_dir
        # what comes out of transformers' `log` is a tracker's or a callback's
        with decorating("The table of completions", f"{folder}/completions", folder, transformers.Trainer.log):
            super().log(logs, start_time)

    def _heed_alarms(self, logs: Mapping[str, float], metrics: dict[str, list[float]]) -> None:
        """Says which alarms ring at this log, adds them to it, and does what `on_alarm` says where one is grave."""
        means = {name: fmean(v for v in values if not math.isnan(v)) for name, values in metrics.items()}
        rings = self._alarms.look([*self.state.log_history, {"step": self.state.global_step, **logs, **means}])
        metrics.update({f"{METRIC}{ring.name}": [ring.extent] for ring in rings})
        sentences = [ring.sentence for ring in rings if ring.is_new]
        grave = next((ring.name for ring in rings if ring.is_grave), None)
        if grave and self.args.on_alarm == "handover":
            sentences += filter(None, [self.weighing.controller.hand_over(f"the alarm {grave}")])
        self._say(sentences)
        if self.args.on_alarm == "stop" and self._largest(int(grave is not None)):  # all ranks stop, or none
            self.stopped_by_alarm = f"{grave} at step {self.state.global_step}"
            self.control.should_training_stop, self.control.should_save = True, False

    def card_facts(self, model_name: str | None = None, dataset_name: str | None = None) -> CardFacts:
        """The facts of this run for its model card."""
        return describe_run(
            self, get_config_model_id(self.model.config), self._ledger.of_training, model_name, dataset_name
        )

    def create_model_card(
        self, model_name: str | None = None, dataset_name: str | None = None, tags: str | list[str] | None = None
    ) -> None:
        """
        Writes the model card of this run to `output_dir/README.md`, as every checkpoint and `push_to_hub` do.

        It shows the evaluations in `output_dir/evaluation/before` and `after`, where there are any, and draws the
        figures beside it, except at a checkpoint, which is not to wait for them. `nsr-trl card` writes it anew.
        Whatever goes wrong with it is logged and stops nothing.

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
        folder = self.args.output_dir
        with decorating("The card", f"{folder}/README.md", folder):
            facts = self.card_facts(model_name, dataset_name)
            write_card(folder, facts.with_tags(tags), self.state.log_history, draws=not self._is_saving)

    def last_completions(self) -> list[dict[str, Any]]:
        """The last completions of all ranks: text, rewards by function and the columns that functions logged."""
        logs = self._logs
        columns = {"completion": logs["completion"], **logs["rewards"], **logs["extra"]}
        width = min((len(values) for values in columns.values()), default=0)
        rows = [
            dict(zip(columns, row, strict=True))
            for row in zip(*(list(v)[-width:] for v in columns.values()), strict=True)
        ]
        return [row | {"completion": completion_text(row["completion"]) or ""} for row in rows]

    # --- over ranks ---------------------------------------------------------------------------------------------

    def _say(self, sentences: Iterable[str]) -> None:
        """Tells a person, once for all ranks."""
        for sentence in sentences if self.accelerator.is_main_process else ():
            logger.warning(sentence)

    def _add(self, sums: Mapping[str, Any]) -> None:
        """Adds sums and counts, over all ranks, to what the next `log` reports."""
        self._ledger.add(self._mode, sums)

    def _reduce(self, sums: Mapping[str, tuple[Tensor, Tensor]]) -> dict[str, list[float]]:
        """Sums and counts of this rank to those of all ranks."""
        totals = torch.stack([torch.stack([part.float() for part in sums[name]]) for name in sums])
        return dict(zip(sums, self.accelerator.reduce(totals, reduction="sum").tolist(), strict=True))

    def _largest(self, number: int) -> int:
        """The largest of the ranks' numbers."""
        return int(self.accelerator.gather(torch.tensor([number], device=self.accelerator.device)).max())

    def _local(self, rows: Any, num_rows: int) -> Any:
        """Returns the slice of a tensor or list over all ranks that is this rank's."""
        start = self.accelerator.process_index * num_rows
        return rows[start : start + num_rows]
