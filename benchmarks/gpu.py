"""
What only a GPU can tell, in one command: tests, costs, memory, whole steps and a profile of one GPU.

    python benchmarks/gpu.py [--parts tests update memory step profile] [--minutes 8] [--output-dir gpu-report]
    python benchmarks/gpu.py --dry-run    # the same program with tiny shapes, on a CPU too

Needs torch, transformers, trl, datasets, pytest and this package; no network, no vLLM, no DeepSpeed, no
flash-attention. Models have Qwen2.5's shapes, the real size of its vocabulary and random weights. The contenders (see
`contenders.py`) take turns, and each begins with a generation that is not counted.

Three files, written anew after every measurement, so that a run which is cut off has told what it had found: `gpu.json`,
`gpu.md` (the tables) and `tests.txt` (what pytest printed). The most important comes first; what the time does not
suffice for is listed as left out.
"""

import argparse
import dataclasses
import gc
import importlib.metadata
import importlib.util
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
from torch.profiler import ProfilerActivity, profile
from transformers import AutoTokenizer, TrainerCallback
from transformers.utils import logging

from nsr_trl.memory import GIB, KNOWN_SHAPES, ModelShape, estimate_memory
from nsr_trl.quickstart.model import model_path


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


# --- the parts --------------------------------------------------------------------------------------------------------


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
            entry["status"] = process.wait(timeout=max(report.seconds_left, 1))
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
    report: Report, part: str, name: str, size: str, contenders: dict[str, dict], workload: Workload, rounds: int
) -> None:
    """Costs of contenders on one workload, in turns: label -> further settings. A label is a contender and a remark."""
    entry = report.begin(part, name, size=size, workload=dataclasses.asdict(workload), contenders={})
    if entry is None:
        return
    shape, tokenizer = TINY if report.is_dry_run else SHAPES[size], AutoTokenizer.from_pretrained(model_path())
    for round_index in range(rounds):
        for label, settings in contenders.items():
            if report.seconds_left <= 0:
                report.left_out.append(f"{part}: {name}, {label}, round {round_index + 1}")
                continue
            found = entry["contenders"].setdefault(label, {"seconds": [], "peak_gib": []})
            try:
                timing = time_generations(
                    label.split()[0], build_model(shape, tokenizer), workload, 2, tokenizer, **settings
                )
            except torch.OutOfMemoryError as error:
                found["error"] = str(error).splitlines()[0]
                free_memory()
                continue
            found["seconds"] += timing.seconds
            found["peak_gib"].append(timing.peak_bytes / GIB)
            found["tokens"], found["costs"] = timing.num_tokens, timing.costs
            budget = settings.get("max_tokens_per_microbatch") or workload.rows * (workload.limit + PROMPT_TOKENS)
            estimate = estimate_memory(
                shape,
                num_tokens=budget,
                gradient_checkpointing=workload.gradient_checkpointing,
                compute_bytes=2 if torch.cuda.is_available() else 4,
                has_triton=importlib.util.find_spec("triton") is not None,
            )
            found["estimate_gib"] = estimate.update / GIB
            report.say(f"{name}, {label}: {timing.seconds[-1]:.2f} s, {timing.peak_bytes / GIB:.1f} GiB")
            report.save()
    report.save()


def free_memory() -> None:
    """Gives the GPU's memory back, where no name holds it any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def update(report: Report, size: str, names: str, **differences: Any) -> None:
    """Seconds per update of 256 completions of log-normal length, TRL's and ours."""
    large = {"limit": 2048, "rows": 16, "micro_steps": 16}
    tiny = {"limit": 32, "rows": 4, "micro_steps": 4}
    settings = {"correct_ratio": 0.6, "gradient_checkpointing": True} | (tiny if report.is_dry_run else large)
    workload = Workload(**(settings | differences))
    name = f"{size}, {workload.correct_ratio:.0%} correct"
    name += "" if workload.gradient_checkpointing else ", no checkpointing"
    name += "" if workload.updates == 1 else f", {workload.updates} updates per generation"
    compare(
        report, "update", name, size, {label: {} for label in names.split()}, workload, 1 if report.is_dry_run else 2
    )


def paper_schedule(report: Report) -> None:
    """The update under the paper's schedule: four clipped updates for each generation."""
    micro_steps = 2 if report.is_dry_run else 4
    update(report, "0.5B", "trl nsr w_reinforce", updates=4, micro_steps=micro_steps)


def memory(report: Report, size: str, names: str, budgets: tuple[int, ...], checkpointing: bool = True) -> None:
    """Peak memory and speed by the tokens that a micro-batch may hold."""
    limit, rows, micro_steps = (32, 4, 4) if report.is_dry_run else (2048, 16, 16)
    workload = Workload(limit, rows, micro_steps, 0.6, gradient_checkpointing=checkpointing)
    if report.is_dry_run:
        budgets = tuple(budget // 512 for budget in budgets)
    contenders = {
        f"{name} {budget:,}": {"max_tokens_per_microbatch": budget} for budget in budgets for name in names.split()
    }
    name = f"{size}, tokens of a micro-batch" + ("" if checkpointing else ", no checkpointing")
    compare(report, "memory", name, size, contenders, workload, 1)


def step(report: Report) -> None:
    """Whole steps: 64 prompts x 8 completions of 256 tokens by transformers, rewards, update."""
    limit, rows, micro_steps = (8, 8, 2) if report.is_dry_run else (256, 64, 8)
    workload = Workload(limit, rows, micro_steps, 0.6, gradient_checkpointing=True, generates=True)
    compare(report, "step", "0.5B, 64 x 8 completions", "0.5B", {"trl": {}, "nsr": {}, "w_reinforce": {}}, workload, 1)


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
    limit, rows, micro_steps = (32, 4, 2) if report.is_dry_run else (2048, 16, 4)
    workload = Workload(limit, rows, micro_steps, 0.6, gradient_checkpointing=True)
    tokenizer, profiled = AutoTokenizer.from_pretrained(model_path()), ProfiledStep()
    model = build_model(TINY if report.is_dry_run else SHAPES["0.5B"], tokenizer)
    timing = time_generations("w_reinforce", model, workload, 2, tokenizer, [profiled])
    events = profiled.profile.key_averages()
    entry["busy"] = sum(event.self_device_time_total for event in events) / 1e6
    for side in ("device", "cpu"):
        key = f"self_{side}_time_total"
        top = sorted(events, key=lambda event: -getattr(event, key))[:10]
        entry[f"top {side}"] = [(event.key[:60], getattr(event, key) / 1e6, event.count) for event in top]
    entry |= {
        "seconds": profiled.seconds,
        "seconds without profiler, other step": timing.seconds[-1],
        "micro_steps": timing.costs.get("micro_steps", 1) * micro_steps,
        "calls": sum(event.count for event in events),
    }
    report.save()


MEASUREMENTS: tuple[tuple[str, Callable[[Report], None]], ...] = (  # the most important first
    ("tests", run_tests),
    ("update", lambda report: update(report, "0.5B", "trl nsr w_reinforce grpo")),
    ("update", lambda report: update(report, "1.5B", "trl nsr w_reinforce")),
    ("memory", lambda report: memory(report, "0.5B", "nsr w_reinforce", (16_384, 65_536, 131_072))),
    ("step", step),
    ("profile", profile_update),
    ("update", lambda report: update(report, "0.5B", "trl nsr w_reinforce", correct_ratio=0.85)),
    ("update", paper_schedule),
    ("update", lambda report: update(report, "0.5B", "trl nsr w_reinforce", gradient_checkpointing=False)),
    ("memory", lambda report: memory(report, "1.5B", "nsr", (65_536,))),
    ("memory", lambda report: memory(report, "1.5B", "nsr", (8_192, 16_384), checkpointing=False)),
    ("update", lambda report: update(report, "1.5B", "trl nsr w_reinforce", correct_ratio=0.85)),
)


# --- the tables -------------------------------------------------------------------------------------------------------


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
        costs, workload = values["costs"], entry["workload"]
        speedup = f"{reference / seconds:.1f}" if reference and label != "trl" else ""
        micro_steps = f"{costs.get('micro_steps', 1) * workload['micro_steps']:.1f}"
        padding = f"{costs['padding']:.0%}" if "padding" in costs else ""
        yield (
            f"| {entry['name']} | {label} | {seconds:.2f}{spread} | {speedup} | {values['tokens'] / seconds:,.0f} | "
            f"{micro_steps} | {padding} | {max(values['peak_gib']):.1f} | {values['estimate_gib']:.1f} |"
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
