"""`nsr-trl evaluate` and `nsr-trl merge`: Pass@k of a model on datasets, on one machine or several."""

import argparse
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..choices import GRADERS
from ..evaluation.presets import PRESETS


if TYPE_CHECKING:
    from ..evaluation.samplers import Sampler
    from ..task import Task


SAMPLING = {"temperature": 1.0, "top_p": 1.0, "top_k": 0, "max_new_tokens": 3_072, "num_samples": 256}
"""What holds where neither a flag nor a preset says otherwise: the model's own distribution."""


SAMPLERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "transformers": ("samplers", "TransformersSampler.from_pretrained", ("batch_size", "dtype", "device")),
    "vllm": (
        "vllm_sampler",
        "VLLMSampler",
        ("tensor_parallel_size", "data_parallel_size", "gpu_memory_utilization", "dtype"),
    ),
    "endpoint": ("endpoint_sampler", "EndpointSampler", ("base_url", "max_concurrency")),
}
"""What builds a sampler, by its name: module, callable and the options that it takes besides model and sampling."""


def add_parsers(commands: Any) -> None:
    """Adds the two commands."""
    evaluate = commands.add_parser(
        "evaluate",
        help="sample a model on datasets, verify the answers and estimate Pass@k with intervals",
        description="Samples completions of each problem, verifies them and estimates Pass@k, with 95% intervals. "
        "Writes a folder per dataset with the samples and the result. Run again after a crash, the same command "
        "resumes where it stopped; with a larger --num-samples it draws only what is missing.",
    )
    evaluate.add_argument("--model", required=True, help="Hub id or folder; with --base-url, its name on the server")
    evaluate.add_argument(
        "--task",
        "--dataset",
        dest="tasks",
        required=True,
        nargs="+",
        metavar="TASK",
        help="name or YAML file of a task (`nsr-trl tasks` lists them), a Hub id, or a parquet, JSON or CSV file; "
        "several are taken in turn",
    )
    evaluate.add_argument("--output-dir", required=True, metavar="RUN", help="folder to write or to resume")

    data = evaluate.add_argument_group("problems")
    data.add_argument("--split", help="split of the datasets (default: the task's, or the only one)")
    data.add_argument("--dataset-config", metavar="NAME", help="config of the datasets, where they have several")
    data.add_argument("--question-column", help="column of the question (default: problem, question or prompt)")
    data.add_argument("--answer-column", help="column of the reference (default: answer, final_answer, solution, ...)")
    data.add_argument(
        "--num-problems", type=_positive, metavar="N", help="only the first N of each, to try things out"
    )
    data.add_argument(
        "--shard", type=_shard, metavar="i/n", help="only the i-th of n parts; `nsr-trl merge` joins them"
    )

    sampling = evaluate.add_argument_group("prompt and sampling")
    sampling.add_argument("--preset", choices=PRESETS, help="the paper's settings for a model; other flags override")
    sampling.add_argument(
        "--template", help="prompt template: qwen, llama, ... or a text with {input} (default: the task's)"
    )
    sampling.add_argument("--system-prompt", metavar="TEXT", help="system message (default: the task's)")
    sampling.add_argument("--instruction", metavar="TEXT", help="line below each question (default: the task's)")
    sampling.add_argument(
        "--num-samples", type=_positive, metavar="n", help=_default("num_samples", "completions per problem")
    )
    sampling.add_argument("--k", type=_positive, nargs="+", help="the k of Pass@k (default: powers of two up to n)")
    sampling.add_argument(
        "--temperature", type=float, help=_default("temperature", "sampling temperature, 0 is greedy")
    )
    sampling.add_argument("--top-p", type=float, help=_default("top_p", "probability mass of the tokens to draw from"))
    sampling.add_argument("--top-k", type=int, help=_default("top_k", "number of tokens to draw from, 0 is all"))
    sampling.add_argument(
        "--max-new-tokens", type=_positive, help=_default("max_new_tokens", "length limit of a completion")
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
    where.add_argument("--batch-size", type=_positive, help="transformers: completions at once (default: 256)")
    where.add_argument("--tensor-parallel-size", type=_positive, help="vllm: devices per copy of the model")
    where.add_argument("--data-parallel-size", type=_positive, help="vllm: copies of the model")
    where.add_argument("--gpu-memory-utilization", type=float, help="vllm: share of the memory to take")
    where.add_argument("--max-concurrency", type=_positive, help="endpoint: requests at once")
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


def run_evaluate(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Checks and loads everything cheap, then the model, then evaluates dataset after dataset."""
    _fill_in(args)
    try:
        from ..evaluation.runner import evaluate, resolve_ks

        ks = resolve_ks(args.k, args.num_samples)
        tasks = _find_tasks(args)
        judges = {name: task.judge for name, task in tasks.items()}
        problems = {name: task.problems("test", args.num_problems, with_columns=True) for name, task in tasks.items()}
        sampler = _build_sampler(args)
        for name, task in tasks.items():
            evaluation = evaluate(
                sampler,
                problems[name],
                num_samples=args.num_samples,
                k=ks,
                prompting=task.prompting,
                judge=judges[name],
                output_dir=Path(args.output_dir) / name,
                seed=args.seed,
                shard=args.shard,
            )
            _print(name, evaluation)
    except (ValueError, OSError, ImportError, MemoryError) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "\nStopped; the same command resumes where it was.\n")
    print(f"\nThe samples and summaries are in {args.output_dir}/")


def run_merge(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Merges and prints the result."""
    from ..evaluation.merge import merge_runs

    try:
        merged = merge_runs(args.output_dir, args.shards)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    for name, evaluation in merged.items():
        _print(name, evaluation)


def _fill_in(args: argparse.Namespace) -> None:
    """Sets what no flag said to the preset's value, or to the default."""
    values: dict[str, Any] = dict(SAMPLING)
    if args.preset:
        preset = PRESETS[args.preset]
        values |= {name: getattr(preset, name) for name in (*SAMPLING, "template")}
    for name, value in values.items():
        if getattr(args, name) is None:
            setattr(args, name, value)


def _find_tasks(args: argparse.Namespace) -> "dict[str, Task]":
    """Returns the tasks by the name of their folder: a task's, a file's stem or the last part of a Hub id."""
    from ..task import find_task

    tasks: dict[str, Task] = {}
    for name in args.tasks:
        task = find_task(name)
        if task.name in tasks:
            raise ValueError(
                f"Tasks evaluated together need different names; two are named {task.name!r}. "
                "Evaluate them one by one, each with its own --output-dir."
            )
        overridden = ("split", "question_column", "answer_column", "template", "system_prompt", "instruction")
        tasks[task.name] = task.override(
            config=args.dataset_config,
            **{field: getattr(args, field) for field in (*overridden, "grader", "answer_format", "reward")},
        )
    return tasks


def _build_sampler(args: argparse.Namespace) -> "Sampler":
    """Builds the sampler asked for, with the options that are its own."""
    kind = "endpoint" if args.base_url else args.sampler
    if kind == "auto":
        kind = "vllm" if _has_vllm() else "transformers"
    module, builder, names = SAMPLERS[kind]
    for name in sorted({name for _, _, others in SAMPLERS.values() for name in others} - set(names)):
        if getattr(args, name) is not None:
            raise ValueError(
                f"--{name.replace('_', '-')} must go with its own sampler; this run samples with {kind}. "
                "Leave it out, or choose with --sampler or --base-url."
            )
    options = {name: getattr(args, name) for name in names if getattr(args, name) is not None}
    sampling = {name: getattr(args, name) for name in SAMPLING if name != "num_samples"}
    build = attrgetter(builder)(import_module(f"..evaluation.{module}", __package__))
    return build(args.model, **sampling, **options)


def _has_vllm() -> bool:
    from importlib.util import find_spec

    import torch

    return find_spec("vllm") is not None and torch.cuda.is_available()


def _print(name: str, evaluation: Any) -> None:
    print(f"\n{name}\n{evaluation.table()}")
    if breakdown := evaluation.breakdown():
        print(f"\n{breakdown}")


def _default(name: str, text: str) -> str:
    return f"{text} (default: the preset's, or {SAMPLING[name]})"


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {number}")
    return number


def _shard(text: str) -> tuple[int, int]:
    index, _, count = text.partition("/")
    if not (index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"must be i/n with 1 <= i <= n, such as 1/4; got {text!r}")
    return int(index), int(count)
