"""What a run costs: its arguments go in; memory of each GPU and bytes of a checkpoint come out.

Nothing is downloaded but the model's config, where it is not at hand.
"""

import json
from pathlib import Path

from ..config import SignedRewardConfig, default_tokens
from .arguments import RunArguments, resolve_model
from .memory import KNOWN_SHAPES, MemoryEstimate, ModelShape, estimate_memory
from .schedule import make_schedule


def find_shape(model_name: str | None, revision: str | None = None) -> ModelShape | None:
    """Shape of a model from its config: a local folder's, the cached or the Hub's; `None` where none can be had."""
    if model_name in KNOWN_SHAPES:
        return KNOWN_SHAPES[model_name]
    file = Path(resolve_model(model_name)) / "config.json"
    try:
        if not file.is_file():
            from huggingface_hub import hf_hub_download

            file = Path(hf_hub_download(str(model_name), "config.json", revision=revision))
        return ModelShape.from_config(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # no network, no such model, or none of this family
        return None


def estimate_run(run: RunArguments, args: SignedRewardConfig, shape: ModelShape, gpu_bytes: float) -> MemoryEstimate:
    """Memory of one GPU of this size under a run."""
    schedule = make_schedule(args, run.num_processes, context=shape.context)
    is_colocated = args.use_vllm and args.vllm_mode == "colocate"
    return estimate_memory(
        shape,
        num_tokens=default_tokens(args) or args.per_device_train_batch_size * schedule.max_tokens_per_row,
        num_processes=schedule.num_processes,
        sharding=run.sharding,
        weight_bytes=2 if run.values["dtype"] in ("bfloat16", "float16") else 4,
        compute_bytes=2 if args.bf16 or args.fp16 else 4,
        lora_rank=run.values["lora_r"] if run.values["use_peft"] else None,
        gradient_checkpointing=args.gradient_checkpointing,
        has_reference=args.beta != 0,
        offload=run.is_offloaded,
        vllm_bytes=args.vllm_gpu_memory_utilization * gpu_bytes if is_colocated else 0.0,
        vllm_sleeps=args.vllm_enable_sleep_mode,
    )


def checkpoint_bytes(run: RunArguments, shape: ModelShape) -> float:
    """Bytes of a checkpoint: the weights as they are saved, and what the optimizer keeps of each that trains."""
    saved = 4 if run.values["dtype"] == "float32" and not run.values["bf16"] else 2
    if run.values["use_peft"]:
        return shape.num_lora(run.values["lora_r"]) * (4 + 8)
    optimizer = 12 if run.sharding.startswith("zero") else 8
    return shape.num_parameters * (saved + (0 if run.values["save_only_model"] else optimizer))


def disk_bytes(run: RunArguments, args: SignedRewardConfig, shape: ModelShape) -> tuple[int, float]:
    """(Checkpoints at once, bytes of them and of the model): those that are kept, the best, and one being written."""
    if args.save_strategy == "no":
        kept = 0
    else:
        kept = (args.save_total_limit or 1) + 1 + (args.metric_for_best_model is not None)
    return kept, (kept + 1) * checkpoint_bytes(run, shape)
