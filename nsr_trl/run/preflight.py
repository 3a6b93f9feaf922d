"""What must hold before a run starts: its arguments go in; findings come out, those that fail end it.

The launcher asks once, before any process is started, and lists all faults together; the doctor asks the same.
"""

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from ..checkpoints import check_folder, find_checkpoint
from ..config import SignedRewardConfig
from ..grading import check_references
from ..problem import ANSWER_MARKS, Problem, asked_formats
from ..prompts import context_of
from ..reward_functions import MATH_REWARD, name_of
from ..task import Task
from ..weighing import Weighing
from .arguments import RunArguments, resolve_model
from .costs import checkpoint_bytes, find_shape
from .script import ScriptArguments


NUM_REFERENCES = 64
"""References that are read before a run."""

SENTENCE = "a sentence"
"""The kind of a reference that is a text of many words: a solution, most likely, and not its answer."""

OF_TRAINER = {
    "prompts",
    "completions",
    "completion_ids",
    "trainer_state",
    "environments",
    "log_extra",
    "log_metric",
    "self",
}
"""Arguments that a trainer passes to a reward function besides the columns of the dataset."""


@dataclass(frozen=True)
class Finding:
    """
    Something that was looked at.

    Attributes:
        level (`str`):
            `"ok"`, `"warn"` or `"fail"`.
        subject (`str`):
            What was looked at.
        found (`str`):
            What it is, and what to do where it is not well.
    """

    level: Literal["ok", "warn", "fail"]
    subject: str
    found: str


def check_run(run: RunArguments) -> list[Finding]:
    """
    All that can be told of a run before its processes start, but for the machine.

    Args:
        run ([`RunArguments`]):
            The resolved arguments.

    Returns:
        `list[Finding]`: what fails would end the run later, in a worse place
    """
    try:
        script, args, _ = run.preview()
        assert run.num_machines
    except ValueError as error:
        return [Finding("fail", "settings", one_line(error))]
    findings = [*check_task(script, args), *check_prompt(run, script, args)]
    try:
        check_output(run, args)
    except (ValueError, OSError) as error:
        findings.append(Finding("fail", "output", one_line(error)))
    return findings


def refuse_faults(findings: Iterable[Finding]) -> None:
    """
    Ends what cannot go well.

    Raises:
        ValueError: With all that fails, as a list.
    """
    faults = list({finding.found: finding for finding in findings if finding.level == "fail"}.values())
    if len(faults) == 1:
        raise ValueError(faults[0].found)
    if faults:
        lines = [f"  {number}. {fault.subject}: {fault.found}" for number, fault in enumerate(faults, start=1)]
        raise ValueError("\n".join([f"{len(faults)} things stand in the way of this run:", *lines]))


def check_task(
    script: ScriptArguments, args: SignedRewardConfig, num_references: int = NUM_REFERENCES
) -> list[Finding]:
    """The problems, their references, and the reward functions that read them."""
    findings = []
    rewards = None
    try:
        rewards = script.rewards()
        weighing = Weighing(args, [name_of(reward) for reward in rewards])
        outcome = weighing.outcome_reward
        if doubt := weighing.doubt():
            findings.append(Finding("warn", "rewards", doubt))
    except ValueError as error:
        findings.append(Finding("fail", "rewards", one_line(error)))
        outcome = None
    try:
        task = script.train_task()
        problems = task.problems("train", num_references, args.seed)
        columns = _columns(task, args.seed)
    except (ValueError, OSError, ImportError) as error:
        return [*findings, Finding("fail", "problems", one_line(error))]
    findings.append(Finding("ok", "problems", f"{task.facts()['train']}, such as {problems[0].question!r:.60}"))
    for reward in rewards or []:
        findings += _check_signature(reward, columns)
    if args.eval_strategy != "no":
        try:
            script.test_task().problems("test", 1, args.seed)
        except (ValueError, OSError, ImportError) as error:
            findings.append(Finding("fail", "evaluation", one_line(error)))
    if outcome == MATH_REWARD:
        findings.append(_check_references(problems))
    return findings


def check_prompt(run: RunArguments, script: ScriptArguments, args: SignedRewardConfig) -> list[Finding]:
    """The model's tokenizer and context, and whether the prompt asks for the form of answer that is read."""
    from transformers import AutoConfig, AutoTokenizer

    name = str(run.values["model_name_or_path"])
    try:
        path = resolve_model(name)
        tokenizer = AutoTokenizer.from_pretrained(path, revision=run.values["model_revision"])
        config = AutoConfig.from_pretrained(path, revision=run.values["model_revision"])
    except (OSError, ValueError) as error:
        found = (
            f"A model must be the id of one on the Hub, or a folder; {name!r} cannot be loaded "
            f"({one_line(error)[:120]}). Check the name and the network."
        )
        return [Finding("fail", "model", found)]
    findings = [check_context(args, context_of(config))]
    try:
        task = script.train_task()
        problem = task.problems("train", 1, args.seed)[0]
    except (ValueError, OSError, ImportError):  # found by `check_task`
        return findings
    if task.prompting.template is None and not tokenizer.chat_template:
        found = f"{name!r} has no chat template, and the prompt is a conversation. Set template, such as simple."
        return [*findings, Finding("fail", "prompt", found)]
    return [*findings, check_asking(task, problem)]


def check_asking(task: Task, problem: Problem) -> Finding:
    """Whether the prompt of a problem asks for the form of answer that is read."""
    prompt = task.prompting.prompt(problem)
    asked = asked_formats(prompt if isinstance(prompt, str) else "".join(message["content"] for message in prompt))
    wanted = task.answer_format
    if task.is_verified and asked and wanted in ANSWER_MARKS and wanted not in asked:
        reading = r"'Answer:\s*([^\n]+)'" if asked == ["answer:"] else asked[0]
        found = (
            f"the prompt asks for {' and '.join(asked)} and the answer is read from {wanted!r}: a completion that "
            f"does as it is told is incorrect. Set answer_format={reading}, or change instruction, system_prompt or "
            "template."
        )
        return Finding("warn", "prompt", found)
    template = task.prompting.template
    kind = "the model's chat template" if template is None else f"the template {template!r:.60}"
    return Finding("ok", "prompt", f"{kind}, answers read from {wanted}")


def check_context(args: SignedRewardConfig, context: int | None) -> Finding:
    """Whether completions, and what vLLM may hold, are within what the model can attend to."""
    for name in ("max_completion_length", "vllm_max_model_length"):
        length = getattr(args, name)
        if context is not None and length is not None and length > context - (name == "max_completion_length"):
            found = f"`{name}` must be within the model's context of {context} tokens; got {length}. Lower it."
            return Finding("fail", "context", found)
    return Finding(
        "ok", "context", f"completions of {args.max_completion_length} tokens, of {context or 'any number'}"
    )


def one_line(error: BaseException) -> str:
    """The message of an error on one line."""
    return " ".join(str(error).split())


def _columns(task: Task, seed: int) -> list[str]:
    dataset = task.dataset("train", limit=2, seed=seed)
    return list(dataset.column_names or next(iter(dataset)))


def _check_signature(reward: Callable, columns: Sequence[str]) -> list[Finding]:
    """Whether the trainer can call a reward function: it passes every column by name."""
    name = name_of(reward)
    try:
        parameters = inspect.signature(reward).parameters.values()
    except (ValueError, TypeError):  # a built-in
        return []
    needed = [
        p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    missing = [column for column in needed if column not in OF_TRAINER and column not in columns]
    findings = []
    if missing:
        found = (
            f"{name} needs the column {' and '.join(map(repr, missing))}; the dataset has {', '.join(columns)}. Name "
            "another function, or add the column."
        )
        findings.append(Finding("fail", "rewards", found))
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        found = f"{name} must take **kwargs: every column of the dataset is passed by name. Add it."
        findings.append(Finding("fail", "rewards", found))
    return findings


def _check_references(problems: Sequence[Problem]) -> Finding:
    checks = check_references([problem.answer for problem in problems])
    unusable = [check for check in checks if not check.is_usable or check.reference.kind == SENTENCE]
    if not unusable:
        return Finding("ok", "references", f"{len(checks)} read, each is correct as an answer to itself")
    first = unusable[0]
    shown = (
        f"{len(unusable)} of {len(checks)} references cannot be used, such as {first.reference.text!r:.60} "
        f"({first.reference.problem or 'it is ' + (first.reference.kind or 'not correct as an answer to itself')})"
    )
    if 2 * len(unusable) > len(checks):
        return Finding(
            "fail",
            "references",
            f"{shown}. Name the right column with answer_column; nsr-trl verify --gold lists them.",
        )
    return Finding(
        "warn", "references", f"{shown}: every response to them is undecided. nsr-trl verify --gold lists them"
    )


def check_output(run: RunArguments, args: SignedRewardConfig) -> None:
    """
    Checks, before a model is loaded, that a run can write to its output folder and resume from it if it is to.

    Raises:
        ValueError: If the folder cannot be written, a checkpoint does not fit on its disk, or there is none to resume
            from.
    """
    if args.save_strategy != "no":
        shape = find_shape(run.values["model_name_or_path"], run.values["model_revision"])
        check_folder(args.output_dir, 0 if shape is None else checkpoint_bytes(run, shape))
    find_checkpoint(resume_wish(args), args.output_dir, say=lambda line: None)


def resume_wish(args: SignedRewardConfig) -> str | bool | None:
    """The checkpoint that `train` should resume from; `True` for the last one in the output folder."""
    value = args.resume_from_checkpoint
    return {"true": True, "false": None, "none": None}.get(str(value).lower(), value)
