"""What this package relies on in TRL that TRL does not promise: one list, one range of versions, one sentence.

`METHODS` are wrapped or called by `trainer`, with the leading parameters that it relies on; `ATTRIBUTES` are read or
set there. A test generates both from the source of `trainer`, so that nothing is missing here, and tries them on a
trainer of TRL's own. A new TRL that lacks one is refused when a trainer is constructed.
"""

import inspect
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any


TRL_VERSIONS = ">=1.16,<2"
"""What `pyproject.toml`, the documentation and the errors say."""

METHODS: dict[str, tuple[str, ...]] = {
    "_compute_loss": ("model", "inputs"),
    "_generate": ("prompts",),
    "_generate_and_score_completions": ("inputs",),
    "_get_output_dir": ("trial",),
    "_get_per_token_logps_and_entropies": ("model", "input_ids", "attention_mask", "logits_to_keep"),
    "_get_train_sampler": ("dataset",),
    "_calculate_rewards": ("inputs", "prompts", "completions", "completion_ids_list"),
    "_load_best_model": (),
    "_load_rng_state": ("checkpoint",),
    "_log_completion_extra": ("column", "values"),
    "_prepare_inputs": ("generation_batch",),
    "_push_from_checkpoint": ("checkpoint_folder",),
    "_save": ("output_dir", "state_dict"),
    "_save_checkpoint": ("model", "trial"),
    "_save_rng_state": ("output_dir",),
    "add_callback": ("callback",),
    "create_model_card": ("model_name", "dataset_name", "tags"),
    "evaluate": ("eval_dataset", "ignore_keys", "metric_key_prefix"),
    "get_batch_samples": ("epoch_iterator", "num_batches", "device"),
    "is_world_process_zero": (),
    "log": ("logs", "start_time"),
    "train": ("resume_from_checkpoint", "trial", "ignore_keys_for_eval"),
    "training_step": ("model", "inputs", "num_items_in_batch"),
}

ATTRIBUTES: tuple[str, ...] = tuple(
    (
        "_buffered_inputs _current_train_step_time _entropy_bonus_enabled _entropy_window_stats _is_vlm "
        "_last_world_entropy _logs _metrics _pending_extra_logs _pending_metrics _step accelerator args "
        "aux_loss_enabled control entropy_coef epsilon_high epsilon_low eval_dataset hub_model_id "
        "importance_sampling_level loss_type max_completion_length model model_wrapped num_generations "
        "num_generations_eval num_iterations processing_class reward_func_names state temperature "
        "train_dataset use_adaptive_entropy use_vllm vllm_importance_sampling_clip_max "
        "vllm_importance_sampling_clip_min vllm_mode"
    ).split()
)

LATER_ATTRIBUTES: tuple[str, ...] = ("current_gradient_accumulation_steps", "vllm_generation")
"""Set when a training begins, or with vLLM alone."""

ROLLOUT_LENGTH = 8
"""Values that `_generate` returns: two of ids, tool mask, completions, log-probs, extra fields, two of images."""

COMPACTION_RELIES_ON = (
    "_generate_and_score_completions",
    "_generate",
    "_calculate_rewards",
    "_get_per_token_logps_and_entropies",
    "_compute_loss",
    "_prepare_inputs",
)
"""Methods that must be TRL's own, wrapped by `trainer` alone, for an update to be compacted."""


def check_methods(trl_trainer: type) -> None:
    """
    Checks that TRL's trainer has the methods of `METHODS`, before one is constructed.

    Raises:
        RuntimeError: If one is missing, or has other parameters.
    """
    for name, parameters in METHODS.items():
        method = getattr(trl_trainer, name, None)
        found = () if method is None else tuple(inspect.signature(method).parameters)[1:]
        if method is None or found[: len(parameters)] != parameters:
            came = f"{name}({', '.join(found)})" if method is not None else "no such method"
            raise _unsupported(f"`GRPOTrainer.{name}({', '.join(parameters)}, ...)`", came)


def check_attributes(trainer: Any) -> None:
    """
    Checks that a trainer has the attributes of `ATTRIBUTES`, which TRL's constructor sets.

    Raises:
        RuntimeError: If one is missing.
    """
    for name in ATTRIBUTES:
        if not hasattr(trainer, name):
            raise _unsupported(f"the attribute `{name}` of a GRPOTrainer", "none")


def check_rollout(output: Sequence[Any]) -> Sequence[Any]:
    """
    Checks the length of what TRL's `_generate` returns.

    Raises:
        RuntimeError: If it is another one.
    """
    if len(output) != ROLLOUT_LENGTH:
        raise _unsupported(f"{ROLLOUT_LENGTH} values from `GRPOTrainer._generate`", f"{len(output)} values")
    return output


def overridden_method(cls: type, known: type, trl_trainer: type) -> str | None:
    """
    The first override of a method that compaction relies on.

    Args:
        cls (`type`):
            Class of a trainer.
        known (`type`):
            The class whose overrides are meant.
        trl_trainer (`type`):
            TRL's trainer, where the methods come from.

    Returns:
        `str` or `None`: class and method, in words
    """
    for owner in cls.__mro__[: cls.__mro__.index(trl_trainer)]:
        for name in COMPACTION_RELIES_ON:
            if owner is not known and name in vars(owner):
                return f"`{owner.__name__}.{name}`, which takes the place of a method that compaction relies on"
    for name in COMPACTION_RELIES_ON:
        if getattr(trl_trainer, name).__module__ != trl_trainer.__module__:
            return f"a patched `{trl_trainer.__name__}.{name}`"
    return None


def _unsupported(needed: str, came: str) -> RuntimeError:
    return RuntimeError(
        f"nsr-trl needs {needed}; trl {version('trl')} with transformers {version('transformers')} has {came}. "
        f"Install a supported version: pip install 'trl{TRL_VERSIONS}'."
    )
