"""Arguments of a run: a command line goes in; fields, where each came from, and the launcher's flags come out.

Three dataclasses hold the fields: [`ScriptArguments`], [`SignedRewardConfig`] and TRL's `ModelConfig`. A recipe or
file given with `--config` sets their defaults, flags override it. What is not a field must be a flag of `accelerate
launch`; what is neither is an error that names the nearest.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from functools import partial, update_wrapper
from typing import Any, NoReturn

from accelerate.commands.launch import launch_command_parser
from trl import ModelConfig, TrlParser

from .config import SignedRewardConfig
from .data import PROMPT_TEMPLATES, Problem, load_problems
from .quickstart.model import model_path
from .quickstart.problems import generate_problems
from .recipe import load_recipe
from .resources import did_you_mean, import_function
from .rewards import math_reward
from .verifier.verify import GRADERS


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
        return import_function(self.reward, "reward")


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

    def build(self, num_processes: int) -> tuple[ScriptArguments, SignedRewardConfig, ModelConfig]:
        """
        Returns the checked dataclasses of one of `num_processes` processes.

        Raises:
            ValueError: If a value is out of range, or the batches do not divide over the processes.
        """
        values = self._schedule(num_processes)
        return tuple(cls(**{f.name: values[f.name] for f in fields(cls) if f.init}) for cls in CLASSES)  # type: ignore[return-value]

    def preview(self, num_processes: int) -> tuple[ScriptArguments, SignedRewardConfig, ModelConfig]:
        """As [`build`], in a single process, on a machine that need not have a GPU."""
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
    from_recipe = {} if recipe is None else load_recipe(recipe)
    for name, value in (from_recipe.pop("env", None) or {}).items():
        os.environ[name] = str(value)

    launch: dict[str, str] = {}
    sources: dict[str, str] = {}
    for name, value in from_recipe.items():
        if f"--{name}" in dests:
            sources[name] = str(recipe)
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
