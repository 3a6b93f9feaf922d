"""Engines in workers give the samples of one, whatever becomes of some of them."""

import logging
import os
import signal
import time
from collections import deque
from pathlib import Path

import pytest
from with_vllm.test_sampling import SETTINGS, problems

from nsr_trl import evaluate
from nsr_trl.evaluation.engines import build_on_devices, build_sampler
from nsr_trl.evaluation.records import read_samples
from nsr_trl.evaluation.workers import START
from nsr_trl.quickstart.model import model_path


pytestmark = pytest.mark.vllm
OPTIONS = SETTINGS | {"max_new_tokens": 60}
NUM_PROBLEMS, NUM_SAMPLES = 20, 64
RUN = {"num_samples": NUM_SAMPLES, "template": "plain", "show_progress": False}


def session(leader):
    """A worker and all that it has started, as far as they run."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, of_session = path.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(of_session) == leader and state != "Z":
            pids.append(int(path.parent.name))
    return pids


def completions(folder):
    return {(s.problem_id, s.sample_index): s.completion for s in read_samples(folder)}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one engine in this process samples."""
    folder = tmp_path_factory.mktemp("alone")
    evaluate(build_sampler("vllm", str(model_path()), OPTIONS), problems(NUM_PROBLEMS), output_dir=folder, **RUN)
    return folder


@pytest.mark.timeout(300)
def test_three_engines_give_the_samples_of_one_though_a_worker_is_killed_and_an_engine_hangs(alone, tmp_path, caplog):
    three = build_on_devices("vllm", str(model_path()), OPTIONS, data_parallel_size=3, worker_timeout=15)
    for worker in three._start():
        worker.give(START, seed=0)
    while not all(worker.has_started for worker in three._workers):  # so that all are dealt something
        three._receive(deque())
    struck = []
    receive = three._receive

    def receive_and_strike(waiting):
        if not struck:
            struck.extend(three._workers)
            assert all(worker.unanswered for worker in struck)
            os.kill(struck[1].process.pid, signal.SIGKILL)
            engine = min(set(session(struck[2].process.pid)) - {struck[2].process.pid})
            os.kill(engine, signal.SIGSTOP)
        return receive(waiting)

    three._receive = receive_and_strike
    with three, caplog.at_level(logging.WARNING):
        evaluate(three, problems(NUM_PROBLEMS), output_dir=tmp_path / "three", **RUN)
    assert f"{struck[1].name} ended (exit status -9); the others take over its" in caplog.text
    assert f"{struck[2].name} brought no token in 15 s and was killed (--worker-timeout); the others" in caplog.text
    assert completions(tmp_path / "three") == completions(alone)
    assert (tmp_path / "three" / "config.json").read_text() == (alone / "config.json").read_text()
    deadline = time.monotonic() + 10
    while any(session(worker.process.pid) for worker in struck):
        assert time.monotonic() < deadline, "an engine is left behind"
        time.sleep(0.1)
