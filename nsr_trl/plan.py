"""The plan of a run, before it starts: its arguments go in; schedule and memory come out, as text.

Nothing is downloaded but the model's config, where it is not at hand, and nothing is started.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from .arguments import QUICKSTART, RunArguments, resolve_model
from .checkpoints import check_folder, find_checkpoint
from .config import SignedRewardConfig, compaction_obstacle
from .memory import GIB, KNOWN_SHAPES, MemoryEstimate, ModelShape, estimate_memory
from .resources import find_yaml


PROMPT_TOKENS = 1024
"""Prompt tokens assumed where `vllm_max_model_length` does not say: the paper's limit."""


@dataclass(frozen=True)
class Schedule:
    """
    What a configuration amounts to on a number of processes.

    Attributes:
        num_processes (`int`):
            Processes, one per GPU.
        num_prompts (`int`), num_generations (`int`):
            Prompts of a generation batch, completions of each.
        rows_per_micro_step (`int`):
            `per_device_train_batch_size`: rows of one process in a micro-step, before compaction fills it by tokens.
        micro_steps (`int`):
            `gradient_accumulation_steps`: micro-steps of an optimizer step.
        optimizer_steps (`float`):
            Optimizer steps per generation batch; below 1 where one optimizer step takes several.
        max_steps (`int`, *optional*):
            Optimizer steps of the run; `None` where the epochs say and the number of problems is not known.
        num_epochs (`float`, *optional*):
            Passes over the problems; `None` where their number is not known.
        max_tokens_per_row (`int`):
            Prompt and completion, at most.
    """

    num_processes: int
    num_prompts: int
    num_generations: int
    rows_per_micro_step: int
    micro_steps: int
    optimizer_steps: float
    max_steps: int | None
    num_epochs: float | None
    max_tokens_per_row: int

    @property
    def rows_per_optimizer_step(self) -> int:
        """Rows over all processes."""
        return self.rows_per_micro_step * self.micro_steps * self.num_processes

    @property
    def max_tokens_per_optimizer_step(self) -> int:
        """Tokens over all processes, if every row were of full length."""
        return self.rows_per_optimizer_step * self.max_tokens_per_row


def make_schedule(args: SignedRewardConfig, num_processes: int, num_problems: int | None = None) -> Schedule:
    """
    Works out the schedule.

    Args:
        args ([`SignedRewardConfig`]):
            Configuration, as one of `num_processes` builds it.
        num_processes (`int`):
            Processes over all machines.
        num_problems (`int`, *optional*):
            Problems of the dataset, where it is known.
    """
    num_prompts = args.generation_batch_size // args.num_generations
    optimizer_steps = args.steps_per_generation * args.num_iterations / args.gradient_accumulation_steps
    generations_per_epoch = num_problems // num_prompts if num_problems else None  # an incomplete batch is dropped
    max_steps: int | None = args.max_steps if args.max_steps > 0 else None
    num_epochs: float | None = None if max_steps else args.num_train_epochs
    if generations_per_epoch and max_steps:
        num_epochs = max_steps / optimizer_steps / generations_per_epoch
    elif generations_per_epoch:
        max_steps = math.ceil(args.num_train_epochs * generations_per_epoch * optimizer_steps)
    prompt = (args.vllm_max_model_length or args.max_completion_length + PROMPT_TOKENS) - args.max_completion_length
    return Schedule(
        num_processes,
        num_prompts,
        args.num_generations,
        args.per_device_train_batch_size,
        args.gradient_accumulation_steps,
        optimizer_steps,
        max_steps,
        num_epochs,
        prompt + args.max_completion_length,
    )


def find_accelerate_config(run: RunArguments) -> tuple[str, dict[str, Any]]:
    """(Path, values) of the accelerate config of a run; `single_gpu` where none is named."""
    name = run.launch.get("accelerate_config") or run.launch.get("config_file") or "single_gpu"
    path = find_yaml("accelerate_configs", name)
    return str(path), yaml.safe_load(path.read_text(encoding="utf-8")) or {}


def count_processes(run: RunArguments) -> int:
    """Processes over all machines that a run starts."""
    _, config = find_accelerate_config(run)
    return int(run.launch.get("num_processes") or config.get("num_processes") or 1)


def sharding_of(config: dict[str, Any]) -> tuple[str, bool]:
    """(A name in `SHARDED`, whether weights are offloaded) of an accelerate config."""
    match config.get("distributed_type"):
        case "DEEPSPEED":
            deepspeed = config.get("deepspeed_config", {})
            return f"zero{deepspeed.get('zero_stage', 2)}", deepspeed.get("offload_param_device", "none") != "none"
        case "FSDP":
            return "fsdp", bool(config.get("fsdp_config", {}).get("fsdp_offload_params", False))
        case "MULTI_GPU":
            return "ddp", False
        case _:
            return "none", False


def find_shape(model_name: str | None) -> ModelShape | None:
    """Shape of a model from its config: a local folder's, the cached or the Hub's; `None` where none can be had."""
    if model_name in KNOWN_SHAPES:
        return KNOWN_SHAPES[model_name]
    file = Path(resolve_model(model_name)) / "config.json"
    try:
        if not file.is_file():
            from huggingface_hub import hf_hub_download

            file = Path(hf_hub_download(str(model_name), "config.json"))
        return ModelShape.from_config(json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError):  # no network, no such model, or none of this family
        return None


def estimate_run(run: RunArguments, args: SignedRewardConfig, gpu_bytes: float) -> MemoryEstimate | None:
    """Memory of one GPU of this size under a run; `None` where the model's shape cannot be had."""
    shape = find_shape(run.values["model_name_or_path"])
    if shape is None:
        return None
    _, config = find_accelerate_config(run)
    sharding, offload = sharding_of(config)
    schedule = make_schedule(args, count_processes(run))
    is_colocated = args.use_vllm and args.vllm_mode == "colocate"
    return estimate_memory(
        shape,
        num_tokens=args.max_tokens_per_microbatch or args.per_device_train_batch_size * schedule.max_tokens_per_row,
        num_processes=schedule.num_processes,
        sharding=sharding,
        weight_bytes=2 if run.values["dtype"] in ("bfloat16", "float16") else 4,
        compute_bytes=2 if args.bf16 or args.fp16 else 4,
        lora_rank=run.values["lora_r"] if run.values["use_peft"] else None,
        gradient_checkpointing=args.gradient_checkpointing,
        has_reference=args.beta != 0,
        offload=offload,
        vllm_bytes=args.vllm_gpu_memory_utilization * gpu_bytes if is_colocated else 0.0,
        vllm_sleeps=args.vllm_enable_sleep_mode,
    )


def checkpoint_bytes(run: RunArguments, shape: ModelShape) -> float:
    """Bytes of a checkpoint: the weights as they are saved, and what the optimizer keeps of each that trains."""
    saved = 4 if run.values["dtype"] == "float32" and not run.values["bf16"] else 2
    if run.values["use_peft"]:
        return shape.num_lora(run.values["lora_r"]) * (4 + 8)
    optimizer = 12 if sharding_of(find_accelerate_config(run)[1])[0].startswith("zero") else 8
    return shape.num_parameters * (saved + (0 if run.values["save_only_model"] else optimizer))


def check_output(run: RunArguments, args: SignedRewardConfig) -> None:
    """
    Checks, before a model is loaded, that a run can write to its output folder and resume from it if it is to.

    Raises:
        ValueError: If the folder cannot be written, a checkpoint does not fit on its disk, or there is none to resume
            from.
    """
    if args.save_strategy != "no":
        shape = find_shape(run.values["model_name_or_path"])
        check_folder(args.output_dir, 0 if shape is None else checkpoint_bytes(run, shape))
    find_checkpoint(resume_wish(args), args.output_dir, say=lambda line: None)


def resume_wish(args: SignedRewardConfig) -> str | bool | None:
    """What `train` is to resume from: `true` is the last checkpoint in the output folder."""
    value = args.resume_from_checkpoint
    return {"true": True, "false": None, "none": None}.get(str(value).lower(), value)


def num_problems_without_loading(run: RunArguments) -> int | None:
    """Problems of a run, where that is known without loading them."""
    known = {"DigitalLearningGmbH/MATH-lighteval": 7500, QUICKSTART: 1024}.get(run.values["dataset"])
    limit = run.values["num_problems"]
    return limit if known is None else min(known, limit or known)


def format_plan(run: RunArguments, gpu_bytes: float = 80e9) -> str:
    """
    The dry run: settings with their sources, schedule and memory.

    Args:
        run ([`RunArguments`]):
            The resolved arguments.
        gpu_bytes (`float`, *optional*, defaults to `80e9`):
            Memory of a GPU.

    Raises:
        ValueError: If the arguments do not hold together on the number of processes.
    """
    num_processes = count_processes(run)
    _, args, _ = run.preview(num_processes)
    schedule = make_schedule(args, num_processes, num_problems_without_loading(run))
    path, config = find_accelerate_config(run)

    lines = ["settings (fields left out have their defaults)"]
    shown = [(source, name, run.values[name]) for name, source in run.sources.items()]
    shown += [("launcher", name, value) for name, value in run.launch.items()]
    source_width, width = (max(len(row[column]) for row in shown) for column in (0, 1))
    lines += [f"  {source:<{source_width}}  {name:<{width}}  {value}" for source, name, value in shown]

    kind = config.get("distributed_type", "NO")
    lines += ["", f"launch: {Path(path).stem} ({kind}), {num_processes} processes on {_machines(run, config)}", ""]
    lines += [
        "schedule",
        f"  a generation       {schedule.num_prompts:,} prompts x {schedule.num_generations} completions "
        f"= {schedule.num_prompts * schedule.num_generations:,} rows",
        f"  trained on in      {schedule.optimizer_steps:g} optimizer steps of "
        f"{schedule.rows_per_optimizer_step:,} rows "
        f"({schedule.rows_per_optimizer_step / schedule.num_generations:g} prompts), "
        + ("off-policy after the first" if schedule.optimizer_steps > 1 else "on-policy"),
        f"  an optimizer step  {schedule.micro_steps:,} micro-steps of {schedule.rows_per_micro_step} rows "
        f"on each of {num_processes} processes",
        f"  tokens             at most {schedule.max_tokens_per_row:,} a row, "
        f"{schedule.max_tokens_per_optimizer_step:,} an optimizer step",
    ]
    epochs = "" if schedule.num_epochs is None else f", {schedule.num_epochs:.1f} passes over the problems"
    if schedule.max_steps:
        generations = schedule.max_steps / schedule.optimizer_steps
        lines.append(
            f"  the run            {schedule.max_steps:,} optimizer steps, {generations:g} generations{epochs}"
        )
    else:
        lines.append(f"  the run            {schedule.num_epochs:g} passes over the problems")
    obstacle = compaction_obstacle(args)
    lines.append(f"  compaction         {'off under ' + obstacle if obstacle else args.compact}")

    lines.append("")
    estimate = estimate_run(run, args, gpu_bytes)
    if estimate is None:
        lines.append(f"memory: no estimate, the config of {run.values['model_name_or_path']} is not at hand")
        return "\n".join(lines)
    lines.append(
        f"memory of each process, estimated (a GPU of {gpu_bytes / 1e9:.0f} GB has {gpu_bytes / GIB:.1f} GiB)"
    )
    lines += [f"  {name:<12} {size / GIB:8.2f} GiB" for name, size in estimate.rows()]
    if not run.values["use_cpu"]:
        fits = "fits" if estimate.peak < 0.95 * gpu_bytes else "DOES NOT FIT"
        lines.append(f"  it {fits}")
    return "\n".join(lines)


def _machines(run: RunArguments, config: dict[str, Any]) -> str:
    number = int(run.launch.get("num_machines") or config.get("num_machines") or 1)
    return "one machine" if number == 1 else f"{number} machines"
