"""`nsr-trl doctor`: a machine, and a run on it, go in; findings come out, each with what to do.

One function per question, each returning its findings; `examine` asks them all.
"""

import importlib.util
import os
import platform
import re
import shutil
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Literal

import torch
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from ..config import SignedRewardConfig, compaction_obstacle, sampling_bias, threshold_of
from ..evaluation.judges import RewardJudge
from ..problem import ANSWER_WRITINGS, Problem
from ..reward_functions import MATH_REWARD, name_of
from ..verifier import Outcome, read_reference, verify
from ..verifier.reference import near_miss
from .arguments import RunArguments, parse, resolve_model
from .costs import disk_bytes, estimate_run, find_shape
from .first_look import Look, advise, format_looks
from .memory import GIB, ModelShape
from .preflight import Finding, check_prompt, check_task, one_line
from .schedule import make_schedule
from .script import ScriptArguments


def examine(arguments: Sequence[str]) -> list[Finding]:
    """
    Examines this machine and, if `arguments` name a recipe or a model, a run on it.

    Args:
        arguments (`Sequence[str]`):
            As of `nsr-trl train`.

    Raises:
        ValueError: If the arguments do not name a recipe, fields and flags that exist.
    """
    run = parse(arguments, "nsr-trl doctor")
    has_run = run.values["model_name_or_path"] is not None
    about = run if has_run else None
    findings = [check_python(), *check_versions(), check_verifier()]
    findings += check_gpus(about)
    findings += check_engines(about)
    if not has_run:
        return findings
    try:
        script, args, _ = run.preview()
    except ValueError as error:
        return [*findings, Finding("fail", "batches", str(error))]
    findings.append(check_batches(args, run.num_processes))
    if bias := sampling_bias(args):
        findings.append(Finding("warn", "sampling", bias))
    findings += check_prompt(run, script, args)
    findings += check_eos(str(run.values["model_name_or_path"]), run.values["model_revision"])
    findings += check_task(script, args)
    findings += check_scoring(script, args)
    shape = find_shape(run.values["model_name_or_path"], run.values["model_revision"])
    findings.append(check_memory(run, args, shape))
    if shape is not None:
        findings.append(check_disk(args, *disk_bytes(run, args, shape)))
    if args.push_to_hub:
        findings.append(check_hub_login())
    return findings


def format_findings(findings: Sequence[Finding]) -> str:
    """One line per finding."""
    width = max(len(finding.subject) for finding in findings)
    lines = [f"{finding.level:<4}  {finding.subject:<{width}}  {finding.found}" for finding in findings]
    counts = {level: sum(f.level == level for f in findings) for level in ("ok", "warn", "fail")}
    return "\n".join([*lines, ", ".join(f"{count} {level}" for level, count in counts.items())])


def check_python() -> Finding:
    """The Python that runs this."""
    return Finding("ok", "python", f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def check_versions() -> list[Finding]:
    """Every dependency against the range that this package's own metadata asks for."""
    findings = []
    for line in requires("nsr-trl") or ():
        requirement = Requirement(line)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        installed = installed_version(requirement.name)
        if installed is None:
            findings.append(
                Finding("fail", requirement.name, f"is not installed. Run: pip install '{requirement.name}'")
            )
        elif not requirement.specifier.contains(installed, prereleases=True):
            findings.append(
                Finding(
                    "fail",
                    requirement.name,
                    f"must be {requirement.specifier}; {installed} is installed. "
                    f"Run: pip install '{requirement.name}{requirement.specifier}'",
                )
            )
        else:
            findings.append(Finding("ok", requirement.name, f"{installed} ({requirement.specifier or 'any'})"))
    return findings


def check_verifier() -> Finding:
    """Grades a sum, which needs a worker process and its parser, against its value and a near miss."""
    antlr = installed_version("antlr4-python3-runtime")
    for gold, wanted in ((r"\frac{n(n+1)}{2}", Outcome.CORRECT), (r"\frac{n(n+1)}{3}", Outcome.INCORRECT)):
        try:
            verdict = verify(r"\boxed{\sum_{k=1}^{n} k}", gold)
        except ImportError as error:
            return Finding("fail", "verifier", str(error))
        if verdict.outcome is not wanted:
            found = (
                f"says {verdict.outcome} by the rule {verdict.rule} where {wanted} is true (antlr4 runtime {antlr})"
            )
            return Finding("fail", "verifier", f"{found}. Run: pip install --force-reinstall latex2sympy2_extended")
    return Finding("ok", "verifier", f"grades by computer algebra (antlr4 runtime {antlr})")


def check_gpus(run: RunArguments | None = None) -> list[Finding]:
    """The GPUs of this machine, against the processes of the run."""
    count = torch.cuda.device_count()
    if count == 0:
        if run is not None and run.is_on_cpu:
            return [Finding("ok", "gpu", "none, and the run asks for the CPU")]
        level: Literal["warn", "fail"] = "warn" if run is None else "fail"
        return [
            Finding(level, "gpu", "PyTorch sees none. Install a CUDA build of torch, or try things with --use_cpu")
        ]
    found = []
    for index in range(count):
        free, total = torch.cuda.mem_get_info(index)
        level2: Literal["ok", "warn"] = "ok" if free > 0.9 * total else "warn"
        advice = "" if level2 == "ok" else ". Another program uses it: nvidia-smi says which"
        name = torch.cuda.get_device_name(index)
        found.append(
            Finding(level2, f"gpu {index}", f"{name}, {free / GIB:.1f} of {total / GIB:.1f} GiB free{advice}")
        )
    if run is not None:
        needed = run.num_processes // run.num_machines
        if needed > count:
            advice = f"the run starts {needed} processes on a machine that has {count}. Pass --num_processes {count}"
            found.append(Finding("fail", "gpu", advice))
    return found


def check_engines(run: RunArguments | None = None) -> list[Finding]:
    """VLLM and DeepSpeed: whether they are there, of a version that TRL drives, and needed."""
    needs_vllm = run is not None and bool(run.values["use_vllm"]) and run.values["vllm_mode"] == "colocate"
    needs_deepspeed = run is not None and run.sharding.startswith("zero")
    return [
        _check_engine("vllm", needs_vllm, _trl_range("vllm")),
        _check_engine("deepspeed", needs_deepspeed, _trl_range("deepspeed")),
    ]


def _check_engine(name: str, is_needed: bool, wanted: SpecifierSet) -> Finding:
    installed = installed_version(name)
    if installed is None or importlib.util.find_spec(name) is None:
        if is_needed:
            return Finding("fail", name, f"is not installed, and the run needs it. Run: pip install 'nsr-trl[{name}]'")
        return Finding("ok", name, "is not installed, and not needed")
    if not wanted.contains(installed.split("+")[0], prereleases=True):
        advice = f"{installed} is installed; TRL {version('trl')} drives {wanted}. Run: pip install 'nsr-trl[{name}]'"
        return Finding("fail" if is_needed else "warn", name, advice)
    return Finding("ok", name, f"{installed} ({wanted or 'any'})")


def _trl_range(name: str) -> SpecifierSet:
    """The versions of an optional package that TRL's metadata names."""
    for line in requires("trl") or ():
        requirement = Requirement(line)
        if requirement.name == name and requirement.specifier:
            return requirement.specifier
    return SpecifierSet()


def check_batches(args: SignedRewardConfig, num_processes: int) -> Finding:
    """Whether the batches divide; that they do is what `preview` has checked."""
    schedule = make_schedule(args, num_processes)
    found = (
        f"{schedule.num_prompts:,} prompts x {schedule.num_generations} in {schedule.optimizer_steps:g} optimizer "
        f"steps on {num_processes} processes"
    )
    if schedule.optimizer_steps % 1:
        return Finding("warn", "batches", f"{found}: a step ends inside a generation. See nsr-trl train --dry-run")
    obstacle = compaction_obstacle(args)
    if obstacle and args.objective != "grpo":
        return Finding("warn", "batches", f"{found}; updates are not compacted under {obstacle}")
    return Finding("ok", "batches", found)


def check_eos(model_name: str, revision: str | None = None) -> list[Finding]:
    """An end of sequence that generation can stop at."""
    from transformers import AutoTokenizer, GenerationConfig

    path = resolve_model(model_name)
    try:
        tokenizer = AutoTokenizer.from_pretrained(path, revision=revision)
    except (OSError, ValueError):  # found by `check_prompt`
        return []
    findings = []
    if tokenizer.eos_token_id is None:
        findings.append(Finding("fail", "eos", "the tokenizer has no EOS token: no completion ends. Set eos_token"))
        return findings
    try:
        stops = GenerationConfig.from_pretrained(path, revision=revision).eos_token_id
    except OSError:
        stops = None
    stops = {stops} if isinstance(stops, int) else set(stops or ())
    if stops and tokenizer.eos_token_id not in stops:
        advice = (
            f"the tokenizer ends with {tokenizer.eos_token_id}, generation stops at {sorted(stops)}: "
            "TRL masks by the tokenizer's. Make the two agree"
        )
        findings.append(Finding("warn", "eos", advice))
    else:
        findings.append(Finding("ok", "eos", f"{tokenizer.eos_token!r}"))
    return findings


def check_scoring(script: ScriptArguments, args: SignedRewardConfig, num_rows: int = 5) -> list[Finding]:
    """
    The deciding reward function on the references of a few problems.

    Each reference, written as the answer format has it, must be correct, and a near miss of it must not be.
    """
    try:
        task = script.train_task()
        rewards = script.rewards()
        problems = task.problems("train", num_rows, args.seed, with_columns=True)
    except (ConnectionError, ImportError, OSError, ValueError):  # found by `check_task`
        return []
    names = [name_of(reward) for reward in rewards]
    reward = rewards[names.index(args.outcome_reward)] if args.outcome_reward in names else rewards[0]
    writing = ANSWER_WRITINGS.get(task.answer_format)
    if writing is None or not all(problem.answer for problem in problems):
        return []
    judge = RewardJudge(reward, task.prompting, threshold_of(args))

    def outcomes(answers: Sequence[tuple[Problem, str]]) -> list[str]:
        judged = judge.judge([writing % answer for _, answer in answers], [problem for problem, _ in answers])
        return [judgement.outcome for judgement in judged]

    try:
        found = outcomes([(problem, problem.answer) for problem in problems])
    except Exception as error:  # noqa: BLE001 (a user's function may raise anything)
        sentence = f"{name_of(reward)} raised {type(error).__name__}: {one_line(error)[:120]}. Correct it"
        return [Finding("fail", "rewards", sentence)]
    if set(found) != {"correct"}:
        level: Literal["warn", "fail"] = "fail" if name_of(reward) == MATH_REWARD else "warn"
        advice = f"references, written as {task.answer_format}, must be correct; got {', '.join(found)}"
        return [Finding(level, "rewards", f"{advice}. {_CHECK_REFERENCES}")]
    good = Finding("ok", "rewards", f"{len(problems)} references, written as {task.answer_format}, are correct")
    return [good, _check_near_misses(problems, outcomes)]


_CHECK_REFERENCES = "Check the answer column with nsr-trl verify --gold"


def _check_near_misses(
    problems: Sequence[Problem], outcomes: Callable[[Sequence[tuple[Problem, str]]], list[str]]
) -> Finding:
    """Whether the reward tells wrong answers: one that gives 1 to every answer passes all that has gone before."""
    misses = [(problem, near_miss(read_reference(problem.answer))) for problem in problems]
    known = [(problem, miss) for problem, miss in misses if miss is not None]
    if not known:
        return Finding(
            "warn", "near misses", f"no reference is one of which a wrong answer is known. {_CHECK_REFERENCES}"
        )
    found = outcomes(known)
    shown = f"{known[0][1]!r:.40} for {known[0][0].answer!r:.40}"
    if "correct" in found:
        advice = f"wrong answers, such as {shown}, must not be correct; got {', '.join(found)}"
        return Finding("fail", "near misses", f"{advice}. Check the reward function")
    if "undecided" in found:
        advice = f"wrong answers, such as {shown}, should be incorrect; got {', '.join(found)}"
        return Finding("warn", "near misses", f"{advice}. {_CHECK_REFERENCES}")
    return Finding("ok", "near misses", f"{len(known)} wrong answers, such as {shown}, are incorrect")


def sample(arguments: Sequence[str], number: int) -> str:
    """
    Lets the model of a run answer problems of its task, without training.

    Args:
        arguments (`Sequence[str]`):
            As of `nsr-trl train`.
        number (`int`):
            How many problems, one completion each.

    Returns:
        `str`: the table of [`format_looks`], and what to change

    Raises:
        ValueError: If the model or the problems cannot be loaded.
    """
    from ..evaluation.samplers import Request, TransformersSampler

    run = parse(arguments, "nsr-trl doctor")
    script, args, _ = run.preview()
    task = script.train_task()
    problems = {problem.id: problem for problem in task.problems("train", number, args.seed, with_columns=True)}
    sampler = TransformersSampler.from_pretrained(
        resolve_model(run.values["model_name_or_path"]),
        revision=run.values["model_revision"],
        max_new_tokens=args.max_completion_length,
        temperature=args.temperature,
        top_p=args.top_p,
        top_k=args.top_k,
        batch_size=number,
    )
    requests = [
        Request(id, 0, task.prompting.rendered(problem, sampler.tokenizer)) for id, problem in problems.items()
    ]
    completions = [completion for batch in sampler.sample(requests, args.seed) for completion in batch]
    asked = [problems[completion.request.problem_id] for completion in completions]
    judgements = task.judge.judge([completion.text for completion in completions], asked)
    looks = [
        Look(
            completion.text,
            judged.outcome,
            judged.answer or "",
            judged.reason,
            judged.rule,
            truncated=completion.truncated,
            reference=read_reference(problem.answer).text,
        )
        for completion, problem, judged in zip(completions, asked, judgements, strict=True)
    ]
    return "\n".join([format_looks(looks, number), *advise(looks, task.answer_format)])


def check_memory(run: RunArguments, args: SignedRewardConfig, shape: ModelShape | None) -> Finding:
    """The estimate against the smallest GPU, or main memory for a run on the CPU."""
    if torch.cuda.is_available():
        available = min(torch.cuda.get_device_properties(i).total_memory for i in range(torch.cuda.device_count()))
    elif not run.is_on_cpu:
        return Finding("warn", "memory", "no GPU to compare the estimate with. See nsr-trl train --dry-run")
    else:
        available = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // run.num_processes
    if shape is None:
        return Finding("warn", "memory", "no estimate: the model's config is not at hand")
    estimate = estimate_run(run, args, shape, available)
    found = f"about {estimate.peak / GIB:.1f} of {available / GIB:.1f} GiB a process (nsr-trl train --dry-run)"
    if estimate.peak < 0.95 * available:
        return Finding("ok", "memory", found)
    advice = f"{found}. Lower per_device_train_batch_size or max_tokens_per_microbatch, or shard more"
    return Finding("warn", "memory", advice)


def check_disk(args: SignedRewardConfig, kept: int, needed: float) -> Finding:
    """Room for the checkpoints that are there at once, and the model at the end."""
    folder = next(
        p for p in [Path(args.output_dir).absolute(), *Path(args.output_dir).absolute().parents] if p.exists()
    )
    free = shutil.disk_usage(folder).free
    found = (
        f"{free / 1e9:.0f} GB free in {folder}, {kept} checkpoints of {needed / (kept + 1) / 1e9:.1f} GB and the model"
    )
    if free < needed:
        advice = f"{found} need {needed / 1e9:.0f} GB. Change --output_dir or --save_total_limit"
        return Finding("fail", "disk", advice)
    if args.save_strategy != "no" and args.save_total_limit is None and needed > free / 10:
        return Finding("warn", "disk", f"{found}; none is ever removed. Set --save_total_limit")
    return Finding("ok", "disk", found)


def check_hub_login() -> Finding:
    """Whether the Hub knows who pushes."""
    from huggingface_hub import whoami
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        return Finding("ok", "hub", f"logged in as {whoami()['name']}")
    except (LocalTokenNotFoundError, HfHubHTTPError, OSError) as error:
        advice = f"the run pushes, and the Hub does not know you ({type(error).__name__}). Run: hf auth login"
        return Finding("fail", "hub", advice)


def installed_version(name: str) -> str | None:
    """Version of a distribution, or `None`."""
    try:
        return version(re.sub(r"[-_.]+", "-", name))
    except PackageNotFoundError:
        return None
