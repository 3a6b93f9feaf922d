"""`nsr-trl train --help` and `doctor --help`: the fields that a person sets, by group, on two screens.

Fields of this package are read from the source of their classes, which needs neither torch nor TRL and takes
milliseconds; of TRL's and accelerate's, the table below names those that most runs set. `--help-all` has the rest.
"""

import ast
import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from ..resources import resource


class Line(NamedTuple):
    """A flag, its default as written, and what it is."""

    name: str
    default: str
    help: str


LAUNCHER = (
    Line("config RECIPE|FILE", "", "settings; `nsr-trl recipes` lists what ships"),
    Line("dry-run", "", "show settings, schedule, costs and memory; start nothing"),
    Line("accelerate_config NAME|FILE", "single_gpu", "zero2, zero3, fsdp2, multi_gpu, multi_cpu, ... or a file"),
    Line("num_processes N", "the config's", "of all machines"),
    Line("num_machines N", "1", "with --machine_rank, --main_process_ip, --main_process_port"),
)

DOCTOR = (
    Line("sample N", "", "let the model answer N problems, and show what was read of them"),
    *(line for line in LAUNCHER if line.name not in ("dry-run", "num_machines N")),
)

TRAIN_USAGE = (
    "usage: nsr-trl train --config RECIPE|FILE [--FIELD VALUE ...]",
    "       nsr-trl train --task TASK --model_name_or_path MODEL --output_dir DIR [--FIELD VALUE ...]",
)
DOCTOR_USAGE = (
    "usage: nsr-trl doctor [--config RECIPE|FILE] [--FIELD VALUE ...]",
    "       nsr-trl doctor --task TASK --model_name_or_path MODEL --sample 8 [--FIELD VALUE ...]",
    "",
    "Checks the machine and the verifier; of a run also batches, prompt, references,",
    "rewards, memory and disk. The exit status is 1 when one fails.",
)

OF_TRL: dict[str, tuple[Line, ...]] = {
    "model": (
        Line("model_name_or_path", "None", "Hub id, folder, or quickstart for the shipped one"),
        Line("dtype", "float32", "of the weights"),
        Line("use_peft", "False", "train an adapter; with lora_r, lora_alpha, lora_target_modules"),
    ),
    "batches and steps": (
        Line("num_generations", "8", "completions of each prompt"),
        Line("generation_batch_size", "None", "completions of a generation, over all processes"),
        Line("per_device_train_batch_size", "8", "rows of a micro-step"),
        Line("gradient_accumulation_steps", "1", "micro-steps of an optimizer step"),
        Line("max_steps", "-1", "optimizer steps; or num_train_epochs"),
        Line("learning_rate", "1e-06", "with lr_scheduler_type, warmup_steps, weight_decay"),
    ),
    "sampling": (
        Line("max_completion_length", "512", "tokens of an answer"),
        Line("temperature", "1.0", "with top_p, top_k"),
        Line("use_vllm", "False", "with vllm_mode, vllm_gpu_memory_utilization"),
    ),
    "evaluation, log, checkpoints": (
        Line("eval_strategy", "no", "steps, with eval_steps and num_generations_eval"),
        Line("metric_for_best_model", "None", "eval_pass@8, say, with load_best_model_at_end"),
        Line("logging_steps", "10", "with report_to, log_completions"),
        Line("save_steps", "500", "with save_total_limit"),
        Line("resume_from_checkpoint", "None", "true for the last one in output_dir"),
        Line("output_dir", "None", "folder of the run"),
        Line("push_to_hub", "False", "with hub_model_id"),
    ),
}
"""Fields of TRL and transformers that most runs set."""


COLUMN = 33
"""Where the help of a flag begins."""


def train_help(width: int | None = None) -> str:
    """The help of `nsr-trl train`."""
    return _help_of_a_run(TRAIN_USAGE, LAUNCHER, width)


def doctor_help(width: int | None = None) -> str:
    """The help of `nsr-trl doctor`."""
    return _help_of_a_run(DOCTOR_USAGE, DOCTOR, width)


def _help_of_a_run(usage: Sequence[str], start: Sequence[Line], width: int | None) -> str:
    groups = {
        "start": start,
        "task (fields of this package)": fields_of(resource("run", "script.py"), "ScriptArguments"),
        "objective (fields of this package)": fields_of(resource("config.py"), "SignedRewardConfig"),
        **OF_TRL,
    }
    width = width or min(shutil.get_terminal_size((100, 24)).columns, 120)
    lines = [*usage]
    for title, group in groups.items():
        lines += ["", title, *(part for line in group for part in _shown(line, width))]
    lines += [
        "",
        "All fields of GRPOConfig, ModelConfig and all flags of accelerate launch: nsr-trl train --help-all",
    ]
    return "\n".join(lines) + "\n"


def listing(rows: dict[str, str], width: int = 80) -> str:
    """Names with a line or two on each, none wider than a terminal."""
    indent = " " * 4
    return "\n".join(
        f"{name}\n{textwrap.fill(about, width, initial_indent=indent, subsequent_indent=indent)}"
        for name, about in rows.items()
    )


def fields_of(path: Path, name: str) -> list[Line]:
    """The fields of a dataclass, from the source of its module: name, default and the first sentence of its help."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    cls = next(node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name)
    return [
        Line(node.target.id, _default(node.value), _help(node.value))
        for node in cls.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and isinstance(node.value, ast.Call)
    ]


def _default(call: ast.Call) -> str:
    given = next((keyword.value for keyword in call.keywords if keyword.arg == "default"), None)
    given = given or (call.args[1] if len(call.args) > 1 else None)
    return "None" if given is None else str(given.value) if isinstance(given, ast.Constant) else ast.unparse(given)


def _help(call: ast.Call) -> str:
    metadata = next((keyword.value for keyword in call.keywords if keyword.arg == "metadata"), None)
    if isinstance(metadata, ast.Dict):
        entries = zip(metadata.keys, metadata.values, strict=True)
        found = next((value for key, value in entries if isinstance(key, ast.Constant) and key.value == "help"), None)
    else:
        found = call.args[0] if call.args else None
    if isinstance(found, ast.Constant):
        return str(found.value)
    parts = found.values if isinstance(found, ast.JoinedStr) else []
    return "".join(str(part.value) if isinstance(part, ast.Constant) else "..." for part in parts)


def _shown(line: Line, width: int) -> list[str]:
    """A flag with the first sentence of its help and its default, on two lines at most beside it."""
    default = "" if line.default in ("", "None") else f" ({line.default})"
    head = f"  --{line.name} "
    help = textwrap.shorten(line.help.rstrip(".").split(". ")[0], 2 * (width - COLUMN) - 20, placeholder=" ...")
    text = textwrap.wrap(help + default, width - COLUMN)
    if len(head) > COLUMN:
        return [head.rstrip(), *(" " * COLUMN + part for part in text)]
    return [f"{head:<{COLUMN}}{text[0]}", *(" " * COLUMN + part for part in text[1:])]
