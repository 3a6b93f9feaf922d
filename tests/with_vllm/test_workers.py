"""Two engines, each in a worker: the samples of one, though a worker is killed or its engine hangs."""

import logging
import os
import signal
import time
from pathlib import Path

import pytest
from with_vllm.test_sampling import SETTINGS, problems

from nsr_trl import evaluate
from nsr_trl.evaluation.engines import build_on_devices, build_sampler
from nsr_trl.evaluation.records import read_samples
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
@pytest.mark.parametrize(
    ("stopped", "says"),
    [("worker", "ended (exit status -9)"), ("engine", "brought no token in 5 s and was killed (--worker-timeout)")],
)
def test_two_engines_give_the_samples_of_one_though_one_is_lost(alone, tmp_path, caplog, stopped, says):
    pair = build_on_devices("vllm", str(model_path()), OPTIONS, data_parallel_size=2, worker_timeout=5)
    sessions, lost = [], []
    receive = pair._receive

    def receive_and_strike(waiting):
        arrived = receive(waiting)
        busy = [worker for worker in pair._workers if worker.has_started and worker.unanswered]
        if not lost and len(busy) == 2:
            lost.append(busy[1].name)
            sessions.extend(worker.process.pid for worker in busy)
            engine = min(set(session(busy[1].process.pid)) - {busy[1].process.pid})
            if stopped == "engine":
                os.kill(engine, signal.SIGSTOP)
            else:
                os.kill(busy[1].process.pid, signal.SIGKILL)
        return arrived

    pair._receive = receive_and_strike
    with pair, caplog.at_level(logging.WARNING):
        evaluate(pair, problems(NUM_PROBLEMS), output_dir=tmp_path / "pair", **RUN)
    assert f"{lost[0]} {says}; the others take over its" in caplog.text
    assert completions(tmp_path / "pair") == completions(alone)
    assert (tmp_path / "pair" / "config.json").read_text() == (alone / "config.json").read_text()
    deadline = time.monotonic() + 10
    while any(map(session, sessions)):
        assert time.monotonic() < deadline, "an engine is left behind"
        time.sleep(0.1)
