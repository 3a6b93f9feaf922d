"""
What only a GPU can tell, in one command: tests, costs, memory, whole steps and a profile of one GPU.

    python benchmarks/gpu.py [--parts tests update memory step profile] [--minutes 8] [--output-dir gpu-report]
    python benchmarks/gpu.py --dry-run    # the same program with tiny shapes, on a CPU too

Needs torch, transformers, trl, datasets, pytest and this package; no network, no vLLM, no DeepSpeed, no
flash-attention. Models have Qwen2.5's shapes, the real size of its vocabulary and random weights. The contenders (see
`contenders.py`) take turns, and each begins with a generation that is not counted.

Three files, written anew after every measurement, so that a run which is cut off has told what it had found:
`gpu.json`, `gpu.md` (the tables) and `tests.txt` (what pytest printed). The most important comes first; what the time
does not suffice for is listed as left out.
"""

import argparse
import dataclasses
import gc
import importlib.metadata
import importlib.util
import itertools
import json
import os
import platform
import re
import shlex
import statistics
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from contenders import Workload, build_model, time_generations
from datasets import disable_progress_bars
from torch.autograd import DeviceType
from torch.profiler import ProfilerActivity, profile
from transformers import AutoTokenizer, TrainerCallback
from transformers.utils import logging

from nsr_trl.quickstart.model import model_path
from nsr_trl.run.memory import GIB, KNOWN_SHAPES, ModelShape, estimate_memory


PARTS = ("tests", "update", "memory", "step", "profile")
SHAPES = {
    "0.5B": ModelShape(24, 896, 4864, 14, 2, 64, 151936, is_tied=True),
    "1.5B": KNOWN_SHAPES["Qwen/Qwen2.5-Math-1.5B"],
}
TINY = ModelShape(2, 64, 128, 2, 1, 32, 512, is_tied=True)
PROMPT_TOKENS = 16  # of a prompt of the workload, at most
RESERVE = 25  # seconds: a measurement that has begun is not cut off
PACKAGES = ("nsr-trl", "torch", "transformers", "trl", "accelerate", "datasets", "peft", "triton", "flash-attn")


class Report:
    """What has been found so far, in memory and on disk."""

    def __init__(self, folder: Path, options: argparse.Namespace) -> None:
        self.folder, self.start, self.minutes = folder, time.monotonic(), options.minutes
        self.is_dry_run = options.dry_run
        self.left_out: list[str] = []
        folder.mkdir(parents=True, exist_ok=True)
        self.data: dict[str, Any] = {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else platform.processor() or "CPU",
            "date": time.strftime("%Y-%m-%d"),
            "command": shlex.join(["python", "benchmarks/gpu.py", *sys.argv[1:]]),
            "versions": dict(_versions()),
            "parts": {},
            "left out": self.left_out,
        }

    @property
    def seconds_left(self) -> float:
        """Until no measurement may begin any more."""
        return self.minutes * 60 - RESERVE - (time.monotonic() - self.start)

    def begin(self, part: str, name: str, **facts: Any) -> dict[str, Any] | None:
        """An entry to fill in, or `None` if the time is up."""
        if self.seconds_left <= 0:
            self.left_out.append(f"{part}: {name}")
            self.save()
            return None
        entry: dict[str, Any] = {"name": name} | facts
        self.data["parts"].setdefault(part, []).append(entry)
        self.save()
        return entry

    def save(self) -> None:
        """Writes both files."""
        self.data["seconds"] = round(time.monotonic() - self.start)
        (self.folder / "gpu.json").write_text(json.dumps(self.data, indent=1) + "\n")
        (self.folder / "gpu.md").write_text("\n".join(markdown(self.data)) + "\n")

    def say(self, text: str) -> None:
        """Prints a line with the time."""
        print(f"[{time.monotonic() - self.start:5.0f} s] {text}", flush=True)


def _versions() -> Iterator[tuple[str, str]]:
    yield "python", platform.python_version()
    for name in PACKAGES:
        try:
            yield name, importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    if torch.cuda.is_available():
        yield "cuda", str(torch.version.cuda)
        yield "cudnn", str(torch.backends.cudnn.version())


# --- the parts -------------------------------------------------------------------------------------------------------


def run_tests(report: Report) -> None:
    """The tests marked `gpu`, in a process of their own: an assertion on the GPU ends every use of it in a process."""
    entry = report.begin("tests", "pytest -m gpu")
    if entry is None:
        return
    root, log = Path(__file__).parents[1], report.folder / "tests.txt"
    command = [sys.executable, "-m", "pytest", "tests/test_gpu.py", "-m", "gpu", "-v", "--tb=short", "-rfEs"]
    environment = os.environ | ({"NSR_TRL_GPU_DRY_RUN": "1"} if report.is_dry_run else {})
    with log.open("w") as file:
        process = subprocess.Popen(
            [*command, "-p", "no:cacheprovider"], cwd=root, env=environment, stdout=file, stderr=subprocess.STDOUT
        )
        try:
            entry["status"] = process.wait(timeout=min(report.seconds_left, report.minutes * 30))  # half of the time
        except subprocess.TimeoutExpired:
            process.kill()
            entry["status"] = "cut off"
        except BaseException:
            process.kill()
            raise
    text = log.read_text()
    outcomes = re.findall(r"^tests/.*::.* (PASSED|SKIPPED|FAILED|ERROR)\b", text, re.MULTILINE)
    entry["counts"] = {word: outcomes.count(word.upper()) for word in ("passed", "skipped")}
    entry["failed"] = sorted(set(re.findall(r"^(?:FAILED|ERROR) (\S+.*)$", text, re.MULTILINE)))
    entry["said"] = re.findall(r"^cuDNN .*$", text, re.MULTILINE)
    entry["skipped because"] = sorted(set(re.findall(r"^SKIPPED \[\d+\] \S+ (.*)$", text, re.MULTILINE)))
    report.say(f"tests: {entry['counts']}, failed {len(entry['failed'])}")
    report.save()


def compare(
    report: Report, part: str, size: str, remark: str, workload: Workload, contenders: dict[str, dict], rounds: int = 1
) -> None:
    """
    Measures contenders on one workload, in turns, each round with other rows.

    Args:
        report ([`Report`]):
            Where the figures go.
        part (`str`), size (`str`), remark (`str`):
            The part, the model and what is particular.
        workload ([`Workload`]):
            What is dealt.
        contenders (`dict[str, dict]`):
            Label, which begins with the contender, to what differs: fields of the workload and of the config, and the
            model's `attention`. With a measured budget of tokens (`AUTO`) the last of eight generations counts, or of
            four in a dry run.
        rounds (`int`, *optional*, defaults to `1`):
            Turns of each.
    """
    name = f"{size}{remark}"
    entry = report.begin(part, name, size=size, workload=dataclasses.asdict(workload), contenders={})
    if entry is None:
        return
    shape, tokenizer = TINY if report.is_dry_run else SHAPES[size], AutoTokenizer.from_pretrained(model_path())
    for round_index, (label, differences) in itertools.product(range(rounds), contenders.items()):
        if report.seconds_left <= 0:
            report.left_out.append(f"{part}: {name}, {label}, round {round_index + 1}")
            continue
        found = entry["contenders"].setdefault(label, {"seconds": [], "peak_gib": []})
        own = {key: value for key, value in differences.items() if hasattr(workload, key)}
        settings = {key: value for key, value in differences.items() if key not in own}
        load = dataclasses.replace(workload, **own)
        model = build_model(shape, tokenizer)
        model.set_attn_implementation(settings.pop("attention", "sdpa"))
        is_measured = settings.get("max_tokens_per_microbatch") == "auto"
        num_generations = (4 if report.is_dry_run else 8) if is_measured else 2
        try:
            timing = time_generations(
                label.split()[0],
                model,
                load,
                num_generations,
                tokenizer,
                seed=round_index,
                **settings,
            )
        except torch.OutOfMemoryError as error:
            found["error"] = str(error).splitlines()[0]
            free_memory()
            continue
        found["seconds"].append(timing.seconds[-1])
        found["by_generation"] = timing.seconds
        found["peak_gib"].append(timing.peak_bytes / GIB)
        found["tokens"] = timing.num_tokens
        found["micro_steps"] = timing.costs.get("micro_steps", 1) * load.micro_steps
        found["padding"] = timing.costs.get("padding")
        found["phases"] = {key: value for key, value in timing.costs.items() if key.startswith("seconds/")}
        default = load.rows * (load.limit + PROMPT_TOKENS)
        budget = default if is_measured else settings.get("max_tokens_per_microbatch", default)
        estimate = estimate_memory(
            shape,
            num_tokens=budget,
            gradient_checkpointing=load.gradient_checkpointing,
            compute_bytes=2 if torch.cuda.is_available() else 4,
            has_triton=importlib.util.find_spec("triton") is not None,
        )
        found["estimate_gib"] = estimate.update / GIB
        report.say(f"{name}, {label}: {timing.seconds[-1]:.2f} s, {timing.peak_bytes / GIB:.1f} GiB")
        report.save()


def free_memory() -> None:
    """Gives the GPU's memory back, where no name holds it any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def deal(report: Report, **differences: Any) -> Workload:
    """256 completions of log-normal length up to 2,048 tokens, 60% of them correct, where nothing differs."""
    size = (
        {"limit": 32, "rows": 4, "micro_steps": 4}
        if report.is_dry_run
        else {"limit": 2048, "rows": 16, "micro_steps": 16}
    )
    return Workload(**(size | {"correct_ratio": 0.6, "gradient_checkpointing": True} | differences))


def update(report: Report, size: str, labels: dict[str, dict], rounds: int = 1, remark: str = "", **more: Any) -> None:
    """Seconds per update, TRL's and ours."""
    compare(report, "update", size, remark, deal(report, **more), labels, 1 if report.is_dry_run else rounds)


def paper_schedule(report: Report) -> None:
    """The update under the paper's schedule: four clipped updates for each generation."""
    micro_steps = deal(report).micro_steps // 4
    update(
        report, "0.5B", THREE | PACKED | AUTO, remark=", 4 updates per generation", updates=4, micro_steps=micro_steps
    )


def memory(report: Report, size: str, names: str, budgets: tuple[int, ...], checkpointing: bool = True) -> None:
    """Peak memory and speed by the tokens that a micro-batch may hold."""
    budgets = tuple(budget // 512 for budget in budgets) if report.is_dry_run else budgets
    labels = {
        f"{name} {budget:,}": {"max_tokens_per_microbatch": budget} for budget in budgets for name in names.split()
    }
    remark = ", by tokens of a micro-batch" + ("" if checkpointing else ", no checkpointing")
    compare(report, "memory", size, remark, deal(report, gradient_checkpointing=checkpointing), labels)


def step(report: Report) -> None:
    """Whole steps: 64 prompts x 8 completions of 256 tokens by transformers, rewards, update."""
    limit, rows, micro_steps = (8, 8, 2) if report.is_dry_run else (256, 64, 8)
    workload = Workload(limit, rows, micro_steps, 0.6, gradient_checkpointing=True, generates=True)
    compare(
        report,
        "step",
        "0.5B",
        ", whole steps of 64 x 8",
        workload,
        {"trl": {}, "nsr": {}},
        rounds=1 if report.is_dry_run else 2,
    )


class ProfiledStep(TrainerCallback):
    """Profiles the second optimizer step."""

    def __init__(self) -> None:
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])
        self.profile = profile(activities=activities)
        self.seconds = 0.0

    def on_step_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 1:
            self.profile.start()
            self.seconds = -time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 2:
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            self.seconds += time.perf_counter()
            self.profile.stop()


def profile_update(report: Report) -> None:
    """Where the time of an update goes: the ten operations that take most, and what the device was busy for."""
    entry = report.begin("profile", "w_reinforce, 0.5B")
    if entry is None:
        return
    workload = deal(report, micro_steps=4)
    tokenizer, profiled = AutoTokenizer.from_pretrained(model_path()), ProfiledStep()
    model = build_model(TINY if report.is_dry_run else SHAPES["0.5B"], tokenizer)
    timing = time_generations("w_reinforce", model, workload, 2, tokenizer, [profiled])
    events = [event for event in profiled.profile.key_averages() if event.device_type == DeviceType.CPU]
    entry["busy"] = sum(event.self_device_time_total for event in events) / 1e6  # kernels, by what launched them
    for side in ("device", "cpu"):
        key = f"self_{side}_time_total"
        top = sorted(events, key=lambda event: -getattr(event, key))[:10]
        entry[f"top {side}"] = [(event.key[:60], getattr(event, key) / 1e6, event.count) for event in top]
    entry |= {
        "seconds": profiled.seconds,
        "micro_steps": timing.costs.get("micro_steps", 1) * workload.micro_steps,
        "calls": sum(event.count for event in events),
    }
    report.save()


ALL = {"trl": {}, "nsr": {}, "w_reinforce": {}, "grpo": {}}
AUTO = {f"{name} auto": {"max_tokens_per_microbatch": "auto"} for name in ("nsr", "w_reinforce")}
PACKED = {f"{name} varlen": {"attention": "varlen"} for name in ("nsr", "w_reinforce")}
AT_85 = {"nsr 85%": {"correct_ratio": 0.85}, "w_reinforce 85%": {"correct_ratio": 0.85}}  # TRL's is the same at any
THREE = {name: ALL[name] for name in ("trl", "nsr", "w_reinforce")}

MEASUREMENTS: tuple[tuple[str, Callable[[Report], None]], ...] = (  # the most important first
    ("tests", run_tests),
    ("update", lambda report: update(report, "0.5B", ALL | PACKED)),
    ("update", paper_schedule),
    ("step", step),
    ("memory", lambda report: memory(report, "0.5B", "nsr w_reinforce", (16_384, 65_536, 131_072))),
    ("profile", profile_update),
    ("update", lambda report: update(report, "1.5B", THREE)),
    ("update", lambda report: update(report, "0.5B", AT_85)),
    ("memory", lambda report: memory(report, "1.5B", "nsr", (65_536,))),
    (
        "update",
        lambda report: update(report, "0.5B", THREE, remark=", no checkpointing", gradient_checkpointing=False),
    ),
    ("memory", lambda report: memory(report, "1.5B", "nsr", (8_192, 16_384), checkpointing=False)),
)


# --- the tables ------------------------------------------------------------------------------------------------------


def markdown(data: dict[str, Any]) -> Iterator[str]:
    """The report as Markdown, line by line."""
    versions = ", ".join(f"{name} {version}" for name, version in data["versions"].items())
    yield f"# {data['device']}, {data['date']}\n"
    yield f"`{data['command']}`, {data['seconds']} s; {versions}.\n"
    for entry in data["parts"].get("tests", ()):
        counts = ", ".join(f"{count} {word}" for word, count in entry.get("counts", {}).items())
        yield f"Tests: {counts}, {len(entry.get('failed', ()))} failed; status {entry.get('status', 'running')}.\n"
        yield from (f"- {line}" for kind in ("failed", "said", "skipped because") for line in entry.get(kind, ()))
        yield ""
    entries = [entry for part in ("update", "memory", "step") for entry in data["parts"].get(part, ())]
    if entries:
        yield "| model | contender | s | TRL / ours | tokens/s | micro-steps | padding | peak GiB | estimate |"
        yield "|---|---|---|---|---|---|---|---|---|"
        for entry in entries:
            yield from _rows(entry)
        yield ""
    for entry in data["parts"].get("profile", ()):
        if "calls" in entry:
            yield (
                f"Profile of {entry['name']}: {entry['seconds']:.2f} s, the device busy for {entry['busy']:.2f} s, "
                f"{entry['micro_steps']:.0f} micro-steps, {entry['calls']:,} calls.\n"
            )
            yield "| on the device | s | calls | on the host | s | calls |"
            yield "|---|---|---|---|---|---|"
            for both in zip(entry["top device"], entry["top cpu"], strict=True):
                yield "".join(f"| `{name}` | {seconds:.3f} | {count:,} " for name, seconds, count in both) + "|"
            yield ""
    errors = [(entry["name"], entry["error"]) for part in data["parts"].values() for entry in part if "error" in entry]
    yield from (f"- {name} failed: {error}" for name, error in errors)
    yield from (f"- left out: {name}" for name in data["left out"])


def _rows(entry: dict[str, Any]) -> Iterator[str]:
    found = entry.get("contenders", {})
    reference = statistics.median(found["trl"]["seconds"]) if found.get("trl", {}).get("seconds") else None
    for label, values in found.items():
        if not values["seconds"]:
            yield f"| {entry['name']} | {label} | {values.get('error', '')} | | | | | | |"
            continue
        seconds = statistics.median(values["seconds"])
        spread = f" ({min(values['seconds']):.2f}-{max(values['seconds']):.2f})" if len(values["seconds"]) > 1 else ""
        speedup = f"{reference / seconds:.1f}" if reference and label != "trl" else ""
        padding = "" if values["padding"] is None else f"{values['padding']:.0%}"
        yield (
            f"| {entry['name']} | {label} | {seconds:.2f}{spread} | {speedup} | {values['tokens'] / seconds:,.0f} | "
            f"{values['micro_steps']:.1f} | {padding} | {max(values['peak_gib']):.1f} | {values['estimate_gib']:.1f} |"
        )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=PARTS)
    parser.add_argument("--minutes", type=float, default=8, help="the time after which nothing more is begun")
    parser.add_argument("--output-dir", type=Path, default=Path("gpu-report"))
    parser.add_argument("--dry-run", action="store_true", help="tiny shapes, to see that the program runs")
    options = parser.parse_args()
    if not torch.cuda.is_available() and not options.dry_run:
        print(
            f"This program measures a GPU; torch {torch.__version__} sees none. "
            "Run it where nvidia-smi lists one, or add --dry-run to see that it runs.",
            file=sys.stderr,
        )
        return 2
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    disable_progress_bars()
    report = Report(options.output_dir, options)
    for part, measure in MEASUREMENTS:
        if part not in options.parts:
            continue
        try:
            measure(report)
        except Exception as error:  # noqa: BLE001 (what is left is measured all the same)
            name = (report.data["parts"].get(part) or [{"name": part}])[-1]
            name |= {"error": f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"}
            name["traceback"] = traceback.format_exc()
            report.say(f"{part}: {name['error']}")
            report.save()
        free_memory()
    report.say(f"done; {len(report.left_out)} measurements left out")
    print((options.output_dir / "gpu.md").read_text())
    entries = [entry for part in report.data["parts"].values() for entry in part]
    return int(any("error" in entry or entry.get("status", 0) != 0 for entry in entries))


if __name__ == "__main__":
    sys.exit(main())
