"""Whatever stops a run, and whenever: it goes on, and ends as one that nothing stopped, bit for bit."""

import contextlib
import os
import random
import signal
import sys
import threading
from functools import partial

import pytest
import torch
from forks import start_cold
from test_resume import finish, start
from test_two_processes import ZERO3, accelerate_config


pytestmark = [pytest.mark.distributed, pytest.mark.slow]

METHODS = [
    "_generate",
    "_generate_and_score_completions",
    "_calculate_rewards",
    "_get_per_token_logps_and_entropies",
    "_compute_loss",
    "training_step",
    "log",
    "_save_checkpoint",
    "_save_rng_state",
    "_save_optimizer_and_scheduler",
]
MOST_ATTEMPTS = 60
TORCHRUN = ("-m", "torch.distributed.run", "--nproc_per_node", "2")


class Evaluating:
    """Another job that writes an evaluation into the run's folder: torn, unfinished, gone, again and again."""

    def __init__(self, folder, rng):
        self.file, self.rng, self.stop = (
            folder / "evaluation" / "after" / "math" / "summary.json",
            rng,
            threading.Event(),
        )
        self.thread = threading.Thread(target=self.write)

    def write(self):
        while not self.stop.wait(self.rng.uniform(0, 0.05)):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            if self.rng.random() < 0.3:
                self.file.unlink(missing_ok=True)
            else:
                self.file.write_text('{"pass@1": {"value": 0.'[: self.rng.randint(0, 24)])

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *args):
        self.stop.set()
        self.thread.join()


def attempt(tiny_model, out, launch, how, rng, settings):
    """Starts the run, and stops it in some way; returns whether it had come to its end."""
    crash = [rng.choice(METHODS), rng.randint(1, 12)] if how == "crash" else None
    process = start(tiny_model, out, launch, **settings, **({"crash": crash} if crash else {}))
    delay, after = rng.uniform(0, 0.15), rng.randint(0, 4)
    for line in process.stdout:
        if how not in (None, "crash") and line.startswith("step ") and (after := after - 1) < 0:
            rank = int(line.split()[-1])
            threading.Event().wait(delay)
            for _ in range(2 if how == "twice" else 1):
                if how == "kill":
                    with contextlib.suppress(ProcessLookupError):  # it has just ended
                        os.kill(rank, signal.SIGKILL)
                else:
                    process.send_signal(signal.SIGTERM if how == "term" else signal.SIGINT)
            how = None
    process.wait(timeout=240)
    (out / "stopped").unlink(missing_ok=True)
    return process.returncode == 0 and any(out.glob("parameters-*.pt"))


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("processes", "num_attempts"), [("one", 120), ("two", 40), ("zero3", 40)], ids=["one", "two", "zero3"]
)
def test_runs_that_are_stopped_anyhow_end_as_one_that_was_not(tiny_model, tmp_path, processes, num_attempts):
    launcher = {"one": (), "two": TORCHRUN}.get(processes)
    if processes == "zero3":
        launcher = ("-m", "accelerate.commands.launch", "--config_file", accelerate_config(ZERO3, tmp_path))
    launch = partial(start_cold, *launcher)
    settings = {"max_steps": 8, "lr_scheduler_type": "constant", "num_iterations": 1}
    expected = finish(start(tiny_model, tmp_path / "whole", launch, **settings), tmp_path / "whole")
    rng, attempts, finished = random.Random(processes), 0, 0
    while attempts < num_attempts:
        out = tmp_path / f"run-{finished}"
        out.mkdir()
        with Evaluating(out / "run", random.Random(attempts)):
            for _ in range(MOST_ATTEMPTS):
                how = rng.choice(["kill", "kill", "term", "int", "twice", "crash", "crash", None])
                attempts += 1
                if attempt(tiny_model, out, launch, how, rng, settings):
                    break
            else:
                pytest.fail(f"run {finished} did not come to its end: {(out / 'stderr').read_text()[-4000:]}")
        found = [torch.load(path) for path in sorted(out.glob("parameters-*.pt"))]
        assert len(found) == len(expected) > 0
        for ours, theirs in zip(found, expected, strict=True):
            assert all(torch.equal(ours[name], theirs[name]) for name in theirs), f"run {finished}"
        finished += 1
    print(f"{processes}: {attempts} attempts, {finished} runs came to their end", file=sys.stderr)
    assert finished >= 3
