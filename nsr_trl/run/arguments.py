"""Arguments of a run: a command line goes in; fields, where each came from, and the launcher's flags come out.

Three dataclasses hold the fields: [`ScriptArguments`], [`SignedRewardConfig`] and TRL's `ModelConfig`. A recipe or
file given with `--config` sets their defaults, flags override it. What is not a field must be a flag of `accelerate
launch`; what is neither is an error that lists them all, each with the nearest name where one is near. The names of
`trl grpo` are understood.
"""

import json
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from accelerate.commands.launch import launch_command_parser
from transformers.integrations import get_reporting_integration_callbacks
from trl import ModelConfig, TrlParser

from ..checks import is_number
from ..config import SignedRewardConfig
from ..quickstart.model import model_path
from ..resources import find_yaml, nearest
from ..settings_file import read_settings
from ..task import QUICKSTART
from .recipe import read_recipe
from .script import ScriptArguments


CLASSES = (ScriptArguments, SignedRewardConfig, ModelConfig)

LOSS_TYPES = ("dapo", "grpo", "bnpo", "dr_grpo", "luspo", "cispo", "sapo", "vespo")
"""TRL's, which it checks at the first update."""

_AT_LEAST_ONE = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "optimizer_steps_per_generation",
    "gradient_accumulation_steps",
    "steps_per_generation",
    "generation_batch_size",
    "num_generations",
    "num_generations_eval",
    "num_iterations",
    "max_completion_length",
)
_MUST_BE: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(_AT_LEAST_ONE, (lambda value: value >= 1, "1 or more")),
    "max_steps": (lambda value: value != 0, "1 or more, or -1 for what num_train_epochs says"),
    "num_train_epochs": (lambda value: value > 0, "above 0"),
    "learning_rate": (lambda value: is_number(value) and value >= 0, "a finite number, 0 or more"),
    "temperature": (lambda value: is_number(value) and value > 0, "a number above 0: training samples"),
    "top_p": (lambda value: 0 < value <= 1, "above 0 and at most 1"),
    "output_dir": (lambda value: bool(value.strip()), "the path of a folder"),
}
"""What fields of TRL's and transformers' must be, which they check late or not at all."""


@dataclass(frozen=True)
class RunArguments:
    """
    The fields of a run before they are checked: what each is set to, and by whom.

    Attributes:
        values (`dict[str, Any]`):
            Every field of the three dataclasses.
        sources (`dict[str, str]`):
            Where a field that is set came from: the recipe or file, or `"flag"`.
        launch (`dict[str, str]`):
            Flags of the launcher; `accelerate_config` among them.
    """

    values: dict[str, Any]
    sources: dict[str, str]
    launch: dict[str, str]

    @cached_property
    def accelerate_path(self) -> Path:
        """The accelerate config; `single_gpu` where none is named."""
        name = self.launch.get("accelerate_config") or self.launch.get("config_file") or "single_gpu"
        return find_yaml("accelerate_configs", name)

    @cached_property
    def accelerate(self) -> dict[str, Any]:
        """The values of the accelerate config."""
        _, values = read_settings("accelerate config", self.accelerate_path, self.accelerate_path)
        return values

    @property
    def num_processes(self) -> int:
        """Processes over all machines."""
        return self._count("num_processes")

    @property
    def num_machines(self) -> int:
        """Machines that the processes run on."""
        return self._count("num_machines")

    @property
    def sharding(self) -> str:
        """A name in `memory.SHARDED`."""
        match self.accelerate.get("distributed_type"):
            case "DEEPSPEED":
                return f"zero{self._of_kind('deepspeed_config').get('zero_stage', 2)}"
            case "FSDP":
                return "fsdp"
            case "MULTI_GPU":
                return "ddp"
            case _:
                return "none"

    @property
    def is_offloaded(self) -> bool:
        """Whether weights and optimizer live in main memory."""
        return self._of_kind("deepspeed_config").get("offload_param_device", "none") != "none" or bool(
            self._of_kind("fsdp_config").get("fsdp_offload_params")
        )

    @property
    def is_on_cpu(self) -> bool:
        """Whether the run asks for the CPU."""
        return bool(self.values["use_cpu"] or self.accelerate.get("use_cpu"))

    def _count(self, name: str) -> int:
        value = self.launch.get(name, self.accelerate.get(name)) or 1
        if not str(value).isdecimal() or int(value) < 1:
            raise ValueError(
                f"`{name}` must be a whole number, 1 or more; got {value!r}. Correct it, or leave it out."
            )
        return int(value)

    def _of_kind(self, name: str) -> dict[str, Any]:
        return self.accelerate.get(name) or {}

    def build(self, num_processes: int) -> tuple[ScriptArguments, SignedRewardConfig, ModelConfig]:
        """
        Returns the checked dataclasses of one of `num_processes` processes.

        Raises:
            ValueError: If a value is out of range, or the batches do not divide over the processes.
        """
        return _fill(CLASSES, self._schedule(num_processes))

    def preview(self, num_processes: int | None = None) -> tuple[ScriptArguments, SignedRewardConfig, ModelConfig]:
        """
        As [`build`], for the processes that will run, in a single one, on a machine that need not have a GPU.

        Names that the trainer would look up only later are checked too.
        """
        num_processes = num_processes or self.num_processes

        class Preview(SignedRewardConfig):
            world_size = property(lambda self: num_processes)

        values = self._schedule(num_processes) | {"use_cpu": True}
        script, args, model = _fill((ScriptArguments, Preview, ModelConfig), values)
        get_reporting_integration_callbacks(args.report_to)
        if args.loss_type not in LOSS_TYPES:
            raise ValueError(
                f"`loss_type` must be one of {', '.join(LOSS_TYPES)}; got {args.loss_type!r}. Leave it out for 'dapo'."
            )
        return script, args, model

    def _schedule(self, num_processes: int) -> dict[str, Any]:
        """The fields, with `gradient_accumulation_steps` as `optimizer_steps_per_generation` asks for."""
        for name, (holds, must_be) in _MUST_BE.items():
            if self.values[name] is not None and not holds(self.values[name]):
                raise ValueError(f"`{name}` must be {must_be}; got {self.values[name]!r}. Correct it.")
        for name in SignedRewardConfig._VALID_DICT_FIELDS:
            _check_json(name, self.values.get(name))
        num_steps, rows = self.values["optimizer_steps_per_generation"], self.values["generation_batch_size"]
        if num_steps is None:
            return self.values
        if rows is None or "gradient_accumulation_steps" in self.sources:
            raise ValueError(
                "`optimizer_steps_per_generation` needs `generation_batch_size` and takes the place of "
                f"`gradient_accumulation_steps`; got generation_batch_size={rows} and "
                f"{num_steps} optimizer steps. Set optimizer_steps_per_generation=none to give the steps yourself."
            )
        per_device = int(self.values["per_device_train_batch_size"])
        per_micro_step = per_device * num_processes
        if rows % (per_micro_step * num_steps):
            raise ValueError(
                f"A generation of {rows} rows must divide into {num_steps} optimizer steps of whole micro-steps; "
                f"{num_processes} processes x per_device_train_batch_size={per_device} are {per_micro_step} rows a "
                "micro-step. Change --generation_batch_size, "
                "--per_device_train_batch_size or the number of processes."
            )
        return self.values | {"gradient_accumulation_steps": rows // (per_micro_step * num_steps)}


def _check_json(name: str, value: Any) -> None:
    """Refuses a mapping in JSON, as a flag has it, that is torn; transformers would not say of which field."""
    if not (isinstance(value, str) and value.startswith("{")):
        return
    try:
        json.loads(value)
    except ValueError as error:
        raise ValueError(
            f"`{name}` must be a mapping in JSON; got {value!r:.80} ({error}). Put it in single quotes, and its names "
            """in double ones: '{"name": 1}'."""
        ) from error


def _fill(classes: Sequence[Any], values: Mapping[str, Any]) -> Any:
    """Each of the dataclasses with its fields."""
    return tuple(cls(**{f.name: values[f.name] for f in fields(cls) if f.init}) for cls in classes)


class FieldParser(TrlParser):
    """Parser of the fields of a run, whose errors are one sentence."""

    def __init__(self, prog: str):
        super().__init__(
            CLASSES, prog=prog, usage=f"{prog} --config RECIPE|FILE [--FIELD VALUE ...]", allow_abbrev=False
        )

    def error(self, message: str) -> NoReturn:
        """Raises rather than exits."""
        raise ValueError(f"A flag must have a value that its field takes; {message}. See {self.prog} --help.")


def parse(arguments: Sequence[str], prog: str) -> RunArguments:
    """
    Resolves recipe and flags.

    Args:
        arguments (`Sequence[str]`):
            Command line: `--config RECIPE|FILE`, fields, and flags of `accelerate launch`.
        prog (`str`):
            Name of the program in `--help`.

    Returns:
        [`RunArguments`]

    Raises:
        ValueError: If the recipe does not exist, or a name is neither a field nor a flag of the launcher.
    """
    parser = FieldParser(prog)
    if {"-h", "--help", "--help-all"} & set(arguments):
        parser.print_help()
        sys.exit(0)
    dests = {option: action.dest for action in parser._actions for option in action.option_strings}
    launch_flags = {option for action in launch_command_parser()._actions for option in action.option_strings} | {
        "--accelerate_config"
    }
    flags = list(flag_groups(arguments))
    recipe = next((group[1] for group in reversed(flags) if group[0] == "--config" and len(group) == 2), None)
    read = None if recipe is None else read_recipe(recipe)
    from_recipe = {} if read is None else {OF_TRL.get(name, name): value for name, value in read.values.items()}
    written = {} if read is None else {OF_TRL.get(name, name): source for name, source in read.sources.items()}
    env = from_recipe.pop("env", None) or {}
    if not isinstance(env, dict):
        raise ValueError(f"`env` of a recipe must be `NAME: value` lines; {recipe!r} has {env!r:.60}. Indent them.")
    os.environ.update({name: str(value) for name, value in env.items()})

    launch: dict[str, str] = {}
    sources: dict[str, str] = {}
    unknown: list[str] = []
    for name, value in from_recipe.items():
        if f"--{name}" in dests:
            sources[name] = written[name]
            _check_kind(name, value)
        elif f"--{name}" in launch_flags:
            launch[name] = str(value)
        else:
            unknown.append(name)
    own_groups: list[list[str]] = []
    for given, *values in flags:
        option = f"--{OF_TRL.get(field_name(given), given.removeprefix('--'))}"
        if option in dests:
            sources[dests[option]] = "flag"
            own_groups.append([option, *(values or BARE.get(option, []))])
        elif option in launch_flags:
            launch[field_name(option)] = " ".join(values)
        elif option != "--config":
            unknown.append(given)
    if unknown:
        raise ValueError(_say_unknown(unknown, [*dests, *launch_flags, "--config"]))

    if sources.get("objective") == "flag" and ["--objective", from_recipe.get("objective")] not in own_groups:
        for name in OF_OBJECTIVE & from_recipe.keys():
            del from_recipe[name]
            if sources[name] != "flag":
                del sources[name]
    set_by_recipe = {name: value for name, value in from_recipe.items() if name not in launch}
    parser.set_defaults_with_config(**DEFAULTS | set_by_recipe)
    namespace, rest = parser.parse_known_args([word for group in own_groups for word in group])
    if rest:
        raise ValueError(f"Every argument must belong to a flag; got {' '.join(rest)!r}. Put --FIELD before it.")
    return RunArguments(vars(namespace), sources, launch)


DEFAULTS: dict[str, Any] = {"num_completions_to_print": 0}
"""Defaults of a command that prints lines: of `log_completions` the files, and no table of every completion."""

BARE: Mapping[str, list[str]] = {"--resume_from_checkpoint": ["true"]}
"""What a flag without a value means, beside the switches that argparse knows."""

OF_OBJECTIVE = {
    "positive_weight",
    "negative_weight",
    "objective_args",
    "positive_weight_schedule",
    "lambda_controller",
}
"""Fields that a recipe sets for its objective: a flag that names another one leaves them behind."""

OF_TRL: Mapping[str, str] = {
    "dataset_name": "dataset",
    "dataset_train_split": "split",
    "dataset_test_split": "eval_split",
    "torch_dtype": "dtype",
    "reward": "reward_funcs",  # its name in version 0.1
    "model": "model_name_or_path",  # as `nsr-trl evaluate` has it
}
"""Names of fields in `trl grpo`, in older versions and in other commands."""

GONE: Mapping[str, str] = {
    "datasets": "a mixture is a task with several sources: write its YAML and name it with task",
    "reward_model_name_or_path": "a reward model has no sign; name functions with reward_funcs",
    "max_prompt_length": "TRL 1 has none: prompts that fill the model's context are left out",
    "warmup_ratio": "set warmup_steps",
    "use_liger_kernel": "TRL 1.16's fused LM head needs none",
    "ignore_bias_buffers": "leave it out",
    "gradient_checkpointing_use_reentrant": "set gradient_checkpointing_kwargs",
    "lr": "set learning_rate",
    "lambda": "set positive_weight",
    "batch_size": "set per_device_train_batch_size",
    "epochs": "set num_train_epochs",
    "dry_run": "it is a flag of nsr-trl train: --dry-run",
}
"""Names that people write, and what to do in their place."""


def _check_kind(name: str, value: Any) -> None:
    """Refuses a list or a mapping where a field takes one value: argparse checks text alone."""
    # as written: the parser changes the types of the fields
    written = (vars(owner).get("__annotations__", {}) for cls in CLASSES for owner in cls.__mro__)
    declared = str(next(annotations[name] for annotations in written if name in annotations)).lower()
    kind = type(value).__name__
    if kind in ("list", "dict") and kind not in declared:
        raise ValueError(f"`{name}` must be one value; got {value!r:.60}. Write `{name}: VALUE`.")


def field_name(option: str) -> str:
    """The field that an option sets, such as `output_dir` for `--output-dir`."""
    return option.removeprefix("--").replace("-", "_")


def _say_unknown(names: Sequence[str], known: Sequence[str]) -> str:
    """One sentence on all names that are no fields."""
    fields = sorted({field_name(option) for option in known})
    found = []
    for name in names:
        plain = field_name(name)
        near = nearest(plain, fields)
        advice = GONE.get(plain) or (f"did you mean {near!r}?" if near else "")
        found.append(f"{plain!r} ({advice})" if advice else repr(plain))
    return (
        "A name must be a field of the run (see --help-all) or a flag of `accelerate launch`; "
        f"got {', '.join(found)}. Correct or remove them."
    )


def flag_groups(arguments: Sequence[str]) -> Iterator[list[str]]:
    """Cuts a command line into flags with their values; `--flag=value` is read as `--flag value`."""
    group: list[str] = []
    for argument in arguments:
        if argument.startswith("--"):
            if group:
                yield group
            option, is_assigned, value = argument.partition("=")
            group = [option, value] if is_assigned else [option]
        elif group:
            group.append(argument)
        else:
            raise ValueError(
                f"The command line must begin with a flag; got {argument!r}. Name a recipe with --config {argument}."
            )
    if group:
        yield group


def resolve_model(name: str | None) -> str:
    """Path of the shipped model for `"quickstart"`, any other name as it is."""
    if name is None:
        raise ValueError("A run needs a model; got none. Name one with --model_name_or_path.")
    return str(model_path()) if name == QUICKSTART else name
