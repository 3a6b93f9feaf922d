"""`nsr-trl evaluate`, `merge`, `import` and `export`: runs made here, on several machines, or by other programs."""

import argparse
import os
import shlex
import sys
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import GRADERS, LOG_FORMATS
from ..evaluation.engines import ENGINES, PLACEMENT, build_on_devices, choose_engine
from ..evaluation.presets import PRESETS
from .numbers import positive


if TYPE_CHECKING:
    from ..evaluation.results import Evaluation
    from ..evaluation.series import Metric
    from ..problem import Problem
    from ..task import Task


SLURM = "slurm"
QUICKSTART = "quickstart"  # the shipped model, as in `nsr-trl train`

SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 3_072, "num_samples": 256}
"""What holds where neither a flag nor a preset says otherwise: the model's own distribution."""


def add_parsers(commands: Any) -> None:
    """Adds the four commands."""
    evaluate = commands.add_parser(
        "evaluate",
        help="sample a model on datasets, verify the answers and estimate Pass@k with intervals",
        description="Samples completions of each problem, verifies them and estimates Pass@k, with 95% intervals. "
        "Writes a folder per dataset with the samples and the result. Run again after a crash, the same command "
        "resumes where it stopped; with a larger --num-samples it draws only what is missing.",
    )
    model = evaluate.add_mutually_exclusive_group(required=True)
    model.add_argument(
        "--model",
        help="Hub id, folder, or quickstart for the shipped one; with --base-url, its name on the server",
    )
    model.add_argument("--checkpoints", metavar="RUN", help="evaluate the checkpoints of a training run instead")
    evaluate.add_argument(
        "--task",
        nargs="+",
        metavar="TASK",
        help="name or YAML file of a task (`nsr-trl tasks` lists them), a Hub id, or a parquet, JSON or CSV file; "
        "several are taken in turn",
    )
    evaluate.add_argument(
        "--dataset",
        nargs="+",
        metavar="DATASET",
        help="the same without --task; with it, a Hub id or file in the place of the task's dataset",
    )
    evaluate.add_argument("--output-dir", required=True, metavar="RUN", help="folder to write or to resume")

    data = evaluate.add_argument_group("problems")
    data.add_argument("--split", help="split of the datasets (default: the task's, or the only one)")
    data.add_argument("--dataset-config", metavar="NAME", help="config of the datasets, where they have several")
    data.add_argument("--question-column", help="column of the question (default: problem, question or prompt)")
    data.add_argument("--answer-column", help="column of the reference (default: answer, final_answer, solution, ...)")
    data.add_argument("--num-problems", type=positive, metavar="N", help="only the first N of each, to try things out")
    data.add_argument(
        "--shard",
        type=_shard,
        metavar="i/n",
        help="only the i-th of n parts, which `nsr-trl merge` joins; or slurm, for the part of a task that srun "
        "started, in a folder of its own",
    )

    sampling = evaluate.add_argument_group("prompt and sampling")
    sampling.add_argument("--preset", choices=PRESETS, help="the paper's settings for a model; other flags override")
    sampling.add_argument(
        "--template", help="prompt template: qwen, llama, ... or a text with {input} (default: the task's)"
    )
    sampling.add_argument("--system-prompt", metavar="TEXT", help="system message (default: the task's)")
    sampling.add_argument("--instruction", metavar="TEXT", help="line below each question (default: the task's)")
    sampling.add_argument(
        "--num-samples", type=positive, metavar="n", help=_default("num_samples", "completions per problem")
    )
    sampling.add_argument("--k", type=positive, nargs="+", help="the k of Pass@k (default: powers of two up to n)")
    sampling.add_argument(
        "--temperature", type=float, help=_default("temperature", "sampling temperature, 0 is greedy")
    )
    sampling.add_argument("--top-p", type=float, help=_default("top_p", "probability mass of the tokens to draw from"))
    sampling.add_argument("--top-k", type=int, help=_default("top_k", "number of tokens to draw from, 0 is all"))
    sampling.add_argument(
        "--max-new-tokens", type=positive, help=_default("max_new_tokens", "length limit of a completion")
    )
    sampling.add_argument("--seed", type=int, default=0, help="of each (problem, sample) (default: %(default)s)")
    sampling.add_argument("--grader", choices=GRADERS, help="the verifier's rules (default: the task's)")
    sampling.add_argument(
        "--answer-format",
        metavar="FORMAT",
        help="where the answer is: boxed, gsm8k, xml, last, auto or a regular expression (default: the task's)",
    )
    sampling.add_argument(
        "--reward", metavar="MODULE:FUNCTION", help="a reward function that scores in the verifier's place"
    )

    steps = evaluate.add_argument_group("checkpoints of a run")
    steps.add_argument("--every", type=positive, metavar="N", help="only checkpoints whose step is a multiple of N")
    steps.add_argument(
        "--watch",
        type=positive,
        nargs="?",
        const=30,
        metavar="SECONDS",
        help="look for new ones so often, until the run has written its model (default: %(const)s)",
    )
    steps.add_argument("--keep-best", metavar="pass@k", help="keep the model that is best by it in RUN/best")
    steps.add_argument(
        "--report-to", nargs="+", choices=("tensorboard", "wandb"), default=[], help="hand the scalars on by step"
    )

    where = evaluate.add_argument_group("where to sample")
    where.add_argument(
        "--sampler",
        choices=("auto", "transformers", "vllm"),
        default="auto",
        help="auto is vllm where it is installed and there is a CUDA device (default: %(default)s)",
    )
    where.add_argument("--base-url", metavar="URL", help="an OpenAI-compatible endpoint to sample from instead")
    where.add_argument("--dtype", help="precision (default: that of the weights)")
    where.add_argument("--device", help="transformers: where to put the model (default: the accelerator, or the CPU)")
    where.add_argument("--batch-size", type=positive, help="transformers: completions at once (default: 256)")
    where.add_argument("--tensor-parallel-size", type=positive, help="vllm: devices per copy of the model")
    where.add_argument("--num-gpus", type=positive, metavar="N", help="GPUs to use (default: all that can be seen)")
    where.add_argument(
        "--data-parallel-size",
        type=positive,
        metavar="N",
        help="copies of the model, each in a process of its own (default: one per GPU, or per tensor-parallel group)",
    )
    where.add_argument(
        "--worker-timeout",
        type=positive,
        metavar="SECONDS",
        help="kill a copy's process that brings no token for so long; the others answer in its place (default: 3600)",
    )
    where.add_argument("--gpu-memory-utilization", type=float, help="vllm: share of the memory to take")
    where.add_argument("--max-concurrency", type=positive, help="endpoint: requests at once")
    evaluate.set_defaults(run=run_evaluate)

    merge = commands.add_parser(
        "merge",
        help="join the shards of an evaluation",
        description="Joins the output folders of `nsr-trl evaluate --shard i/n` into the one that a run without "
        "--shard would have written.",
    )
    merge.add_argument("output_dir", metavar="OUT", help="folder to write; must be new or empty")
    merge.add_argument("shards", metavar="SHARD", nargs="+", help="output folders of the shards, all of them")
    merge.set_defaults(run=run_merge)

    imports = commands.add_parser(
        "import",
        help="make a run of a log of lm-evaluation-harness or inspect_ai",
        description="Makes a run of another program's log, its completions verified anew, so that `compare`, `plot` "
        "and `show` work on runs that were made elsewhere.",
    )
    imports.add_argument(
        "log", metavar="LOG", help="samples_*.jsonl of lm_eval --log_samples, or .eval or .json of inspect"
    )
    imports.add_argument("--output-dir", required=True, metavar="RUN", help="folder to write")
    imports.add_argument("--name", help="name of the dataset (default: the log's)")
    imports.add_argument("--grader", choices=GRADERS, default="default", help="the rules (default: %(default)s)")
    imports.add_argument(
        "--answer-format", default="auto", metavar="FORMAT", help="where the answer is (default: %(default)s)"
    )
    imports.set_defaults(run=run_import)

    export = commands.add_parser(
        "export",
        help="write a run as a log of lm-evaluation-harness or inspect_ai",
        description="Writes the samples and results of a run in the format of another program.",
    )
    export.add_argument("folder", metavar="RUN", help="output folder of an evaluation")
    export.add_argument("--format", required=True, choices=LOG_FORMATS, help="whose format")
    export.add_argument("--output-dir", required=True, metavar="DIR", help="folder to write into")
    export.set_defaults(run=run_export)


def run_evaluate(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Checks and loads everything cheap, then the model or one checkpoint after the other, then evaluates."""
    try:
        _fill_in(args)
        _check(args)
        tasks = _find_tasks(args)
        problems = {name: task.problems("test", args.num_problems, with_columns=True) for name, task in tasks.items()}
        if args.checkpoints:
            _evaluate_checkpoints(args, tasks, problems)
        else:
            _evaluate_model(args, tasks, problems, args.model, Path(args.output_dir), set())
    except (ValueError, OSError, ImportError, MemoryError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "\nStopped; the same command resumes where it was.\n")
    print(f"\nThe samples and summaries are in {args.output_dir}/")


def _check(args: argparse.Namespace) -> None:
    """What can be wrong before anything is loaded."""
    from ..evaluation.records import check_folder
    from ..evaluation.runner import resolve_ks
    from ..evaluation.samplers import check_placement, check_sampling

    args.k = resolve_ks(args.k, args.num_samples)
    check_sampling(**_sampling(args))
    check_placement(args.device, args.dtype or "auto")
    check_folder(args.output_dir, {})
    if args.checkpoints and args.base_url:
        raise ValueError("--checkpoints must be sampled from on this machine; got --base-url. Leave one of them out.")
    if not args.checkpoints and (args.every or args.watch or args.keep_best or args.report_to):
        raise ValueError(
            "--every, --watch, --keep-best and --report-to must go with --checkpoints; got --model. Leave them out, "
            "or name the training run."
        )


def _evaluate_model(
    args: argparse.Namespace,
    tasks: "Mapping[str, Task]",
    problems: "Mapping[str, list[Problem]]",
    model: str,
    output_dir: Path,
    said: set[str],
) -> "dict[str, Evaluation]":
    """Evaluates one model on all tasks, printing each result, and what is to be said of the model unless it was."""
    from ..evaluation.records import check_folder
    from ..evaluation.runner import check_template, context_doubt, describe, evaluate, select_problems
    from ..evaluation.samplers import find_context, load_tokenizer

    sampling = _sampling(args)
    tokenizer, context = (None, None) if args.base_url else (load_tokenizer(model), find_context(model))
    for name, task in tasks.items():
        select_problems(problems[name], args.shard)
        known = describe(problems[name], task.prompting, task.judge, args.seed, args.shard)
        check_folder(output_dir / name, known | {"sampler": sampling})
        check_template(task.prompting, tokenizer)
        doubt = context_doubt(problems[name], task.prompting, tokenizer, context, args.max_new_tokens)
        if doubt and f"{name}: {doubt}" not in said:
            said.add(f"{name}: {doubt}")
            print(f"{name}: {doubt}", file=sys.stderr)
    engine, options = _engine_options(args)
    evaluations = {}
    with ExitStack() as stack:
        sampler = build_on_devices(
            engine,
            model,
            options,
            args.num_gpus,
            args.data_parallel_size,
            args.worker_timeout,
            # vLLM gives its memory back when its process ends
            in_this_process=not (args.checkpoints and engine == "vllm"),
        )
        if isinstance(sampler, AbstractContextManager):
            stack.enter_context(sampler)
        for name, task in tasks.items():
            evaluations[name] = evaluate(
                sampler,
                problems[name],
                num_samples=args.num_samples,
                k=args.k,
                prompting=task.prompting,
                judge=task.judge,
                output_dir=output_dir / name,
                seed=args.seed,
                shard=args.shard,
            )
            _print(name, evaluations[name])
            for sentence in _advice(task, output_dir / name, evaluations[name]):
                print(f"\n{name}: {sentence}", file=sys.stderr)
    return evaluations


def _advice(task: "Task", folder: Path, evaluation: "Evaluation") -> list[str]:
    """What to change where the samples look as if they were asked for, read or cut wrongly."""
    from ..evaluation.records import read_samples
    from ..run.first_look import MOSTLY, advise, as_flag

    num_samples = evaluation.num_samples * len(evaluation.num_correct)
    if sum(evaluation.num_correct.values()) >= MOSTLY * num_samples and evaluation.truncation_rate <= MOSTLY:
        return []  # said without reading them all again
    samples = read_samples(folder, with_completions=False)
    return advise(samples, task.answer_format, as_flag, f"some (nsr-trl show {shlex.quote(str(folder))})")


def _evaluate_checkpoints(
    args: argparse.Namespace, tasks: "Mapping[str, Task]", problems: "Mapping[str, list[Problem]]"
) -> None:
    """Evaluates the checkpoints of a run that are not evaluated yet and, with --watch, those that come."""
    from ..evaluation.series import Metric, has_ended, whole_checkpoints

    metric = Metric.parse(args.keep_best) if args.keep_best else None
    if metric is not None and metric.k not in args.k:
        raise ValueError(f"--keep-best must be by a k that is evaluated; got {args.keep_best} and --k {args.k}.")
    said: set[str] = set()
    while True:
        is_last_look = has_ended(args.checkpoints)  # asked first: what is written meanwhile is seen by the next look
        found = whole_checkpoints(args.checkpoints, args.every or 1)
        num_evaluated = sum(
            _evaluate_checkpoint(args, tasks, problems, checkpoint, metric, said) for checkpoint in found
        )
        if not args.watch or (is_last_look and not num_evaluated):
            break
        if not num_evaluated:
            time.sleep(args.watch)
    if not found:
        raise ValueError(
            f"--checkpoints must name a training run with checkpoints; {args.checkpoints!r} holds none that is whole"
            f"{f' and of a step that is a multiple of {args.every}' if args.every else ''}. Wait for one with --watch."
        )


def _evaluate_checkpoint(
    args: argparse.Namespace,
    tasks: "Mapping[str, Task]",
    problems: "Mapping[str, list[Problem]]",
    checkpoint: Path,
    metric: "Metric | None",
    said: set[str],
) -> bool:
    """Evaluates a checkpoint and keeps its model if it is the best; returns whether there was something to do."""
    from ..checkpoints import number
    from ..decoration import decorating
    from ..evaluation.runs import read_summary
    from ..evaluation.series import best_value, is_evaluated, keep_if_best, record_tokens, report

    output_dir, first = Path(args.output_dir) / checkpoint.name, next(iter(tasks))
    evaluations: dict[str, Evaluation] = {}

    def evaluate() -> "Evaluation":
        print(f"\n## {checkpoint.name}")
        record_tokens(checkpoint, output_dir)
        evaluations.update(_evaluate_model(args, tasks, problems, str(checkpoint), output_dir, said))
        return evaluations[first]

    try:
        if all(is_evaluated(checkpoint, output_dir / name, args.num_samples, args.k) for name in tasks):
            known = read_summary(output_dir / first)
            if metric is None or metric.of(known) <= best_value(args.output_dir):
                return False
            is_best = keep_if_best(args.output_dir, checkpoint, lambda: known, metric, first)
        elif metric is None:
            evaluate()
            is_best = False
        else:
            is_best = keep_if_best(args.output_dir, checkpoint, evaluate, metric, first)
    except (ValueError, OSError):
        if checkpoint.exists():
            raise
        print(f"{checkpoint} was deleted by its run before it was evaluated; it is passed over.")
        return True
    if is_best:
        print(f"\nThe best so far by {args.keep_best} on {first} is {checkpoint.name}: {args.output_dir}/best/")
    with decorating("The scalars", args.output_dir, args.checkpoints):
        report(args.report_to, args.output_dir, args.checkpoints, number(checkpoint), evaluations)
    return True


def run_merge(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Merges and prints the result."""
    from ..evaluation.merge import merge_runs

    try:
        merged = merge_runs(args.output_dir, args.shards)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for name, evaluation in merged.items():
        _print(name, evaluation)


def run_import(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Imports a log and prints the result."""
    from ..evaluation.exchange import import_log

    stem = Path(args.log).stem
    name = args.name or (stem.removeprefix("samples_").rpartition("_")[0] if stem.startswith("samples_") else stem)
    try:
        evaluation = import_log(args.log, Path(args.output_dir) / name, args.grader, args.answer_format)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    _print(name, evaluation)


def run_export(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Writes the logs and names them."""
    from ..evaluation.exchange import export_run

    try:
        written = export_run(args.folder, args.output_dir, args.format)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    print(*written, sep="\n")


def _fill_in(args: argparse.Namespace) -> None:
    """Sets what no flag said to the preset's value, or to the default."""
    if args.shard == SLURM:
        args.shard = _shard_of_task()
        args.output_dir = os.path.join(args.output_dir, "shard-{}-of-{}".format(*args.shard))
    values: dict[str, Any] = dict(SAMPLING)
    if args.model == QUICKSTART and not args.base_url:
        from ..quickstart.model import model_path

        args.model = str(model_path())
    if args.preset:
        preset = PRESETS[args.preset]
        values |= {name: getattr(preset, name) for name in (*SAMPLING, "template")}
    for name, value in values.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def _find_tasks(args: argparse.Namespace) -> "dict[str, Task]":
    """Returns the tasks by the name of their folder: a task's, a file's stem or the last part of a Hub id."""
    from ..task import find_task

    names, dataset = args.task or args.dataset or [], None
    if not names:
        raise ValueError("An evaluation needs problems; got none. Name them with --task.")
    if args.task and args.dataset:
        if len(args.task) > 1 or len(args.dataset) > 1:
            raise ValueError(
                f"--dataset beside --task must be one dataset in the place of one task's; got {len(args.dataset)} "
                f"datasets and {len(args.task)} tasks. Name one of each, or all of them with --task."
            )
        [dataset] = args.dataset
    tasks: dict[str, Task] = {}
    for name in names:
        task = find_task(name)
        if task.name in tasks:
            raise ValueError(
                f"Tasks evaluated together need different names; two are named {task.name!r}. "
                "Evaluate them one by one, each with its own --output-dir."
            )
        if task.name in ("", ".", ".."):
            raise ValueError(
                f"The name of a task is that of its folder; {name!r} would be {task.name!r}. Rename the file."
            )
        overridden = ("split", "question_column", "answer_column", "template", "system_prompt", "instruction")
        tasks[task.name] = task.override(
            dataset=dataset,
            config=args.dataset_config,
            **{field: getattr(args, field) for field in (*overridden, "grader", "answer_format", "reward")},
        )
    return tasks


def _engine_options(args: argparse.Namespace) -> tuple[str, dict[str, Any]]:
    """The engine asked for, and the options that are its own."""
    engine = "endpoint" if args.base_url else choose_engine() if args.sampler == "auto" else args.sampler
    names = ENGINES[engine][2]
    others = {name for _, _, options in ENGINES.values() for name in options} | set(PLACEMENT)
    for name in sorted(others - set(names) - (set() if engine == "endpoint" else set(PLACEMENT))):
        if getattr(args, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} must go with its own sampler; this run samples with {engine}. "
                "Leave it out, or choose with --sampler or --base-url."
            )
    return engine, _sampling(args) | {name: getattr(args, name) for name in names if getattr(args, name) is not None}


def _sampling(args: argparse.Namespace) -> dict[str, Any]:
    """What each sample is drawn with."""
    return {name: getattr(args, name) for name in SAMPLING if name != "num_samples"}


def _print(name: str, evaluation: "Evaluation") -> None:
    print(f"\n{name}\n{evaluation.table()}")
    if breakdown := evaluation.breakdown():
        print(f"\n{breakdown}")


def _default(name: str, text: str) -> str:
    return f"{text} (default: the preset's, or {SAMPLING[name]})"


def _shard(text: str) -> tuple[int, int] | str:
    index, _, count = text.partition("/")
    if text == SLURM:
        return text
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"must be i/n with 1 <= i <= n, such as 1/4, or {SLURM}; got {text!r}")
    return int(index), int(count)


def _shard_of_task() -> tuple[int, int]:
    """The part of this task among those that srun started."""
    task, count = os.environ.get("SLURM_PROCID", ""), os.environ.get("SLURM_NTASKS", "")
    if not (task.isdecimal() and count.isdecimal()):
        raise ValueError(
            f"`--shard {SLURM}` needs SLURM_PROCID and SLURM_NTASKS; got {task!r} and {count!r}. Start it with srun, "
            "or name the part as in 1/4."
        )
    return int(task) + 1, int(count)
