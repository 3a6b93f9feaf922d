"""Arguments of a run: a command line goes in; fields, where each came from, and the launcher's flags come out.

Three dataclasses hold the fields: [`ScriptArguments`], [`SignedRewardConfig`] and TRL's `ModelConfig`. A recipe or
file given with `--config` sets their defaults, flags override it. What is not a field must be a flag of `accelerate
launch`; what is neither is an error that names the nearest.
"""

import importlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, partial, update_wrapper
from pathlib import Path
from typing import Any, NoReturn

import yaml
from accelerate.commands.launch import launch_command_parser
from trl import ModelConfig, TrlParser

from ..choices import GRADERS
from ..config import SignedRewardConfig
from ..data import load_problems
from ..problem import PROMPT_TEMPLATES, Problem
from ..quickstart.model import model_path
from ..quickstart.problems import generate_problems
from ..resources import did_you_mean, find_yaml
from ..rewards import math_reward
from .recipe import read_recipe


QUICKSTART = "quickstart"
"""Name of the model and of the problems that ship with the package."""


@dataclass
class ScriptArguments:
    """
    What to train on and how answers are graded.

    Attributes:
        dataset (`str`):
            Hub dataset id, a local parquet, JSON or CSV file, or `"quickstart"` for the shipped arithmetic.
        split (`str`, *optional*):
            Split of the dataset, where it has several.
        question_column (`str`, *optional*), answer_column (`str`, *optional*):
            Columns to read; looked for under the usual names when not set.
        num_problems (`int`, *optional*):
            Train on the first so many problems.
        template (`str`, *optional*):
            Prompt template by name; the model's own chat template when not set.
        eval_dataset (`str`, *optional*), eval_split (`str`, *optional*), num_eval_problems (`int`, *optional*):
            Problems for `eval_strategy`, as above.
        grader (`str`, *optional*, defaults to `"default"`):
            Rules of the verifier, as in [`verify`].
        reward (`str`, *optional*):
            `module:function` of a reward function that takes the place of [`math_reward`].
        optimizer_steps_per_generation (`int`, *optional*):
            Mini-batches that a generation batch is cut into. With `generation_batch_size` and the number of processes
            it fixes `gradient_accumulation_steps`, so that a recipe means the same on any number of GPUs.
    """

    dataset: str = field(
        default="DigitalLearningGmbH/MATH-lighteval",
        metadata={"help": "Hub dataset id, a local parquet, JSON or CSV file, or 'quickstart' for shipped problems."},
    )
    split: str | None = field(default=None, metadata={"help": "Split of the dataset, where it has several."})
    question_column: str | None = field(default=None, metadata={"help": "Column of the questions."})
    answer_column: str | None = field(default=None, metadata={"help": "Column of the reference answers."})
    num_problems: int | None = field(default=None, metadata={"help": "Train on the first so many problems."})
    template: str | None = field(
        default=None,
        metadata={"help": f"Prompt template, one of {', '.join(PROMPT_TEMPLATES)}; the chat template if not set."},
    )
    eval_dataset: str | None = field(default=None, metadata={"help": "Problems for `eval_strategy`."})
    eval_split: str | None = field(default=None, metadata={"help": "Split of the evaluation problems."})
    num_eval_problems: int | None = field(default=None, metadata={"help": "Evaluate on the first so many problems."})
    grader: str = field(default="default", metadata={"help": "Rules of the verifier.", "choices": list(GRADERS)})
    reward: str | None = field(
        default=None, metadata={"help": "Reward function as module:function, rather than the verifier."}
    )
    optimizer_steps_per_generation: int | None = field(
        default=None,
        metadata={
            "help": "Mini-batches of a generation batch; with `generation_batch_size` and the number of processes it "
            "fixes `gradient_accumulation_steps`."
        },
    )

    def load_problems(self, seed: int) -> list[Problem]:
        """The problems to train on."""
        if self.dataset == QUICKSTART:
            return [Problem(**row) for row in generate_problems(self.num_problems or 1024, seed, "train")]
        return load_problems(self.dataset, self.split, self.num_problems, self.question_column, self.answer_column)

    def load_eval_problems(self, seed: int) -> list[Problem] | None:
        """The problems to evaluate on while training, where there are any."""
        if self.eval_dataset is None:
            return None
        if self.eval_dataset == QUICKSTART:
            return [Problem(**row) for row in generate_problems(self.num_eval_problems or 128, seed, "test")]
        return load_problems(
            self.eval_dataset, self.eval_split, self.num_eval_problems, self.question_column, self.answer_column
        )

    def load_reward(self) -> Callable:
        """The reward function."""
        if self.reward is None:
            if self.grader == "default":
                return math_reward
            graded = partial(math_reward, grader=self.grader)
            return update_wrapper(graded, math_reward)  # it is logged by its name
        module_name, _, name = self.reward.partition(":")
        sys.path.insert(0, os.getcwd())  # a module beside the user's files, as `python -m` finds it
        try:
            return getattr(importlib.import_module(module_name), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(
                f"`reward` must be module:function of something that can be imported; got {self.reward!r} ({error}). "
                "Write my_rewards:score for the function score in my_rewards.py."
            ) from error


CLASSES = (ScriptArguments, SignedRewardConfig, ModelConfig)


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
        try:
            values = yaml.safe_load(self.accelerate_path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            values = error
        if not isinstance(values, dict):
            raise ValueError(
                f"An accelerate config must be `field: value` lines; {str(self.accelerate_path)!r} is {values!r:.99}. "
                "Write one with `accelerate config`, or name one that ships with the package."
            )
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
        values = self._schedule(num_processes)
        return tuple(cls(**{f.name: values[f.name] for f in fields(cls) if f.init}) for cls in CLASSES)  # type: ignore[return-value]

    def preview(self, num_processes: int | None = None) -> tuple[ScriptArguments, SignedRewardConfig, ModelConfig]:
        """As [`build`], for the processes that will run, in a single one, on a machine that need not have a GPU."""
        num_processes = num_processes or self.num_processes
        values = self._schedule(num_processes) | {"use_cpu": True}

        class Preview(SignedRewardConfig):
            world_size = property(lambda self: num_processes)

        classes = (ScriptArguments, Preview, ModelConfig)
        return tuple(cls(**{f.name: values[f.name] for f in fields(cls) if f.init}) for cls in classes)  # type: ignore[return-value]

    def _schedule(self, num_processes: int) -> dict[str, Any]:
        """The fields, with `gradient_accumulation_steps` as `optimizer_steps_per_generation` asks for."""
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
    if {"-h", "--help"} & set(arguments):
        parser.print_help()
        sys.exit(0)
    dests = {option: action.dest for action in parser._actions for option in action.option_strings}
    launch_flags = {option for action in launch_command_parser()._actions for option in action.option_strings} | {
        "--accelerate_config"
    }
    known = [*dests, *launch_flags, "--config"]

    flags = list(_flags(arguments))
    recipe = next((group[1] for group in reversed(flags) if group[0] == "--config" and len(group) == 2), None)
    read = None if recipe is None else read_recipe(recipe)
    from_recipe = {} if read is None else dict(read.values)
    env = from_recipe.pop("env", None) or {}
    if not isinstance(env, dict):
        raise ValueError(f"`env` of a recipe must be `NAME: value` lines; {recipe!r} has {env!r:.60}. Indent them.")
    os.environ.update({name: str(value) for name, value in env.items()})

    launch: dict[str, str] = {}
    sources: dict[str, str] = {}
    for name, value in from_recipe.items():
        if f"--{name}" in dests:
            sources[name] = read.sources[name]  # type: ignore[union-attr]
        elif f"--{name}" in launch_flags:
            launch[name] = str(value)
        else:
            raise ValueError(_unknown(name, f"the recipe {recipe!r} has {name!r}", known))
    own: list[str] = []
    for option, *values in flags:
        if option in dests:
            sources[dests[option]] = "flag"
            own += [option, *values]
        elif option in launch_flags:
            launch[option.removeprefix("--").replace("-", "_")] = " ".join(values)
        elif option != "--config":
            raise ValueError(_unknown(option, f"got {option}", known))

    parser.set_defaults_with_config(**from_recipe)
    namespace, rest = parser.parse_known_args(own)
    if rest:
        raise ValueError(f"Every argument must belong to a flag; got {' '.join(rest)!r}. Put --FIELD before it.")
    return RunArguments(vars(namespace), sources, launch)


def _flags(arguments: Sequence[str]) -> Iterator[list[str]]:
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


def _unknown(name: str, found: str, known: list[str]) -> str:
    nearest = did_you_mean(f"--{name.removeprefix('--')}", known)
    return f"A name must be a field of the run (see --help) or a flag of `accelerate launch`; {found}. {nearest}"


def resolve_model(name: str | None) -> str:
    """Path of the shipped model for `"quickstart"`, any other name as it is."""
    if name is None:
        raise ValueError("A run needs a model; got none. Name one with --model_name_or_path.")
    return str(model_path()) if name == QUICKSTART else name
