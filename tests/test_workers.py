"""Sampling with several processes: the samples of one, whoever dies on the way."""

import json
import logging
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from forks import FORKS, Worker

from nsr_trl.cli import main
from nsr_trl.evaluation import engines
from nsr_trl.evaluation.engines import build_on_devices, build_sampler, plan_workers, visible_gpus
from nsr_trl.evaluation.records import read_samples
from nsr_trl.evaluation.runner import evaluate
from nsr_trl.evaluation.samplers import Completion, Request, load_tokenizer
from nsr_trl.evaluation.workers import TIMEOUT, WorkersSampler
from nsr_trl.problem import Problem
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems


pytestmark = pytest.mark.processes


class Slow:
    """
    Answers its process id after a while, and obeys prompts that tell it to die, stop or sleep; the others wait until
    it has. As an engine does, it starts a process of its own; it writes the ids of both into a file.
    """

    settings = {"model": "slow"}  # noqa: RUF012
    tokenizer = None

    def __init__(self, folder=None, dies_at_start=False, grave=None, loads=0.0, pids=None):
        self.folder, self.grave = folder, grave
        if pids:
            engine = os.fork()  # holds all that is open here, as vLLM's does
            if not engine:
                time.sleep(600)
                os._exit(0)
            (pids / str(os.getpid())).write_text(str(engine))
        if os.environ.get("NUMBER") == "2":
            time.sleep(loads)
        if dies_at_start and os.environ.get("NUMBER") == "2":
            os._exit(3)
        if os.environ.get("NUMBER") == "2" and folder == "other":
            self.settings = {"model": "another"}

    def sample(self, requests, seed):
        for request in requests:
            time.sleep(0.005)
            text = f"\\boxed{{{os.getpid()}}}"
            prompt = request.prompt if isinstance(request.prompt, str) else request.prompt[0]["content"]
            order, *numbers = prompt.split()
            if order in ("die", "break", "stop", "sleep") and os.environ.get("NUMBER") in numbers:
                if self.grave:
                    self.grave.touch()
                if order == "break":
                    raise RuntimeError("CUDA error: uncorrectable ECC error encountered")
                if order == "sleep":
                    time.sleep(600)
                os.kill(os.getpid(), signal.SIGKILL if order == "die" else signal.SIGSTOP)
            while self.grave and not self.grave.exists():
                time.sleep(0.01)
            if prompt.startswith("raise"):
                raise json.JSONDecodeError("one sentence", prompt, 0)  # which cannot be made of a text alone
            yield [Completion(request, text, 1, False)]


class Stepping(Slow):
    """Takes three seconds for a completion, and shows that it is at work meanwhile."""

    on_step = None

    def sample(self, requests, seed):
        for request in requests:
            for _ in range(30):
                time.sleep(0.1)
                self.on_step()
            yield [Completion(request, "", 30, False)]


@pytest.fixture(autouse=True)
def forked(request, monkeypatch):
    """Has workers start at once, as forks of a Python that has imported what they need; but for the command's."""
    if "the_command" not in request.node.name:
        monkeypatch.setattr("nsr_trl.evaluation.workers.SPAWN", SimpleNamespace(Process=Worker, Pipe=FORKS.Pipe))


def workers(num_workers=2, kind=Slow, timeout=TIMEOUT, **settings):
    environments = [{"NUMBER": str(i + 1)} for i in range(num_workers)]
    return WorkersSampler(partial(kind, **settings), environments, None, timeout)


def wait_until_gone(pids, seconds=20):
    """Processes that are zombies only because nobody waits for them here are gone."""
    deadline = time.monotonic() + seconds
    while left := [pid for pid in pids if is_running(pid)]:
        assert time.monotonic() < deadline, f"{left} are left behind"
        time.sleep(0.1)


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def written_pids(folder):
    return [int(pid) for path in folder.iterdir() for pid in (path.name, path.read_text())]


def run(sampler, question="1 + 1", num_samples=600, folder=None):
    with sampler:
        return evaluate(
            sampler,
            [Problem(question, "2")],
            num_samples=num_samples,
            template="plain",
            output_dir=folder,
            show_progress=False,
        )


def test_all_workers_answer_and_every_request_is_answered_once(tmp_path):
    run(workers(), folder=tmp_path)
    samples = list(read_samples(tmp_path))
    assert sorted(sample.sample_index for sample in samples) == list(range(600))
    assert len({sample.answer for sample in samples} - {str(os.getpid())}) == 2


@pytest.mark.parametrize(("order", "status"), [("die", -9), ("break", 1)])
def test_the_others_take_over_what_a_dead_worker_leaves(tmp_path, caplog, order, status):
    with caplog.at_level(logging.WARNING):
        run(
            workers(3, grave=tmp_path / "grave"), f"{order} 2", num_samples=3 * 256, folder=tmp_path / "run"
        )  # 256 to each
    assert f"worker 2 (NUMBER=2) ended (exit status {status}); the others take over its 256 samples" in caplog.text
    assert sorted(sample.sample_index for sample in read_samples(tmp_path / "run")) == list(range(3 * 256))


@pytest.mark.slow
def test_a_worker_that_dies_at_its_start_is_done_without(tmp_path):
    run(workers(dies_at_start=True), folder=tmp_path)
    assert len({sample.answer for sample in read_samples(tmp_path)}) == 1


@pytest.mark.parametrize("order", ["stop", "sleep"])
def test_the_others_take_over_what_a_hung_worker_leaves(tmp_path, caplog, order):
    (tmp_path / "pids").mkdir()
    with caplog.at_level(logging.WARNING):
        sampler = workers(timeout=2, grave=tmp_path / "grave", pids=tmp_path / "pids")
        run(sampler, f"{order} 2", num_samples=2 * 256, folder=tmp_path / "run")  # 256 to each
    assert (
        "worker 2 (NUMBER=2) brought no token in 2 s and was killed (--worker-timeout); the others take over its 256"
        in caplog.text
    )
    assert sorted(sample.sample_index for sample in read_samples(tmp_path / "run")) == list(range(2 * 256))
    assert len(written_pids(tmp_path / "pids")) == 4
    wait_until_gone(written_pids(tmp_path / "pids"))


def test_a_worker_that_was_stopped_while_idle_and_takes_no_work_is_not_waited_for(caplog):
    requests = [Request(str(number), 0, "q" * 4_000) for number in range(600)]  # more than a pipe holds
    with workers(timeout=2) as sampler, caplog.at_level(logging.WARNING):
        assert sum(map(len, sampler.sample(requests, 0))) == 600
        os.kill(sampler._workers[1].process.pid, signal.SIGSTOP)
        assert sum(map(len, sampler.sample(requests, 0))) == 600
    assert "worker 2 (NUMBER=2) brought no token in 2 s and was killed" in caplog.text


def test_a_dead_worker_is_noticed_though_its_engine_lives_on(tmp_path, caplog):
    (tmp_path / "pids").mkdir()
    with caplog.at_level(logging.WARNING):
        sampler = workers(grave=tmp_path / "grave", pids=tmp_path / "pids")
        run(sampler, "die 2", num_samples=2 * 256, folder=tmp_path / "run")
    assert "worker 2 (NUMBER=2) ended (exit status -9); the others take over its 256 samples" in caplog.text
    wait_until_gone(written_pids(tmp_path / "pids"))


def test_slow_is_not_hung(tmp_path, caplog):
    # 1 s without a token is allowed: worker 2 loads for 3 s, and a completion takes 3 s
    with caplog.at_level(logging.WARNING):
        run(workers(kind=Stepping, timeout=1, loads=3), num_samples=2, folder=tmp_path)
    assert not caplog.records
    assert len(list(read_samples(tmp_path))) == 2


@pytest.mark.slow
def test_a_worker_that_never_starts_holds_nothing_back(tmp_path):
    (tmp_path / "pids").mkdir()
    run(workers(loads=600, pids=tmp_path / "pids"), folder=tmp_path / "run")
    assert len({sample.answer for sample in read_samples(tmp_path / "run")}) == 1
    wait_until_gone(written_pids(tmp_path / "pids"))


def test_when_all_hang_a_sentence_says_so(tmp_path):
    with pytest.raises(ChildProcessError, match=r"brought no token in 1 s .*--worker-timeout\), the last of 2\."):
        run(workers(timeout=1), "sleep 1 2", folder=tmp_path)


def test_workers_and_their_engines_end_with_the_process_that_evaluates_though_it_is_killed(tmp_path):
    (tmp_path / "pids").mkdir()
    script = (
        "from pathlib import Path; from test_workers import run, workers\n"
        f"if __name__ == '__main__': run(workers(pids=Path({str(tmp_path / 'pids')!r})), 'sleep 1 2')"
    )
    (tmp_path / "script.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    with subprocess.Popen([sys.executable, str(tmp_path / "script.py")], env=environment) as evaluating:
        deadline = time.monotonic() + 120
        while len(list((tmp_path / "pids").glob("*"))) < 2 or not all(
            path.read_text() for path in (tmp_path / "pids").iterdir()
        ):
            assert evaluating.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        evaluating.kill()
    pids = written_pids(tmp_path / "pids")
    assert len(pids) == 4
    wait_until_gone(pids)


def test_the_last_one_to_die_ends_the_evaluation_with_a_sentence(tmp_path):
    with pytest.raises(ChildProcessError, match=r"the last of 2\. See above .* not sampled twice"):
        run(workers(), "die 1 2", folder=tmp_path)


def test_an_error_of_a_worker_is_the_evaluations(tmp_path):
    with pytest.raises(ValueError, match=r"^one sentence: line 1"):
        run(workers(), "raise")


def test_a_timeout_must_be_some_time():
    with pytest.raises(ValueError, match=r"must be above 0 seconds; got 0\. Leave it out"):
        workers(timeout=0)


@pytest.mark.slow
def test_workers_with_different_models_are_refused(tmp_path):
    with pytest.raises(
        ValueError, match=r"worker \d .* differs from worker \d .* in model: 'another' -> 'slow'|'slow' -> "
    ):
        run(workers(folder="other"))


def test_no_process_outlives_the_sampler():
    sampler = workers()
    arriving = sampler.sample([], 0)
    assert list(arriving) == []
    assert sampler.settings == {"model": "slow"}
    pids = [worker.process.pid for worker in sampler._workers]
    sampler.close()
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


# --- a model ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def problems():
    return [Problem(row["question"], row["answer"]) for row in generate_problems(6, seed=0, split="test")]


def completions(folder):
    return {(s.problem_id, s.sample_index): s.completion for s in read_samples(folder)}


def test_two_processes_with_a_model_give_the_samples_of_one_though_one_is_killed(problems, tmp_path, caplog):
    options = {"max_new_tokens": 24, "batch_size": 8, "device": "cpu"}
    settings = {"num_samples": 64, "template": "plain", "show_progress": False}
    alone = build_sampler("transformers", str(model_path()), options)
    evaluate(alone, problems, output_dir=tmp_path / "alone", **settings)
    with build_on_devices("transformers", str(model_path()), options, data_parallel_size=2) as pair:
        first, second = pair._start()
        while first.settings is None or second.settings is None:
            pair._receive(None)
        killed = []
        receive = pair._receive

        def receive_and_kill(waiting):
            if second in pair._workers and second.unanswered and not killed:
                os.kill(second.process.pid, signal.SIGKILL)
                killed.append(second)
            return receive(waiting)

        pair._receive = receive_and_kill
        with caplog.at_level(logging.WARNING):
            evaluate(pair, problems, output_dir=tmp_path / "pair", **settings)
    assert killed
    assert "the others take over its 8 samples" in caplog.text
    assert completions(tmp_path / "pair") == completions(tmp_path / "alone")
    config = (tmp_path / "pair" / "config.json").read_text()
    assert config == (tmp_path / "alone" / "config.json").read_text()


def test_the_command_samples_with_as_many_copies_as_it_is_told(problems, tmp_path, capsys):
    dataset = tmp_path / "sums.jsonl"
    dataset.write_text("".join(json.dumps({"question": p.question, "answer": p.answer}) + "\n" for p in problems))
    command = [
        "evaluate",
        "--model",
        "quickstart",
        "--dataset",
        str(dataset),
        "--template",
        "plain",
        "--device",
        "cpu",
    ]
    command += ["--num-samples", "8", "--max-new-tokens", "24", "--batch-size", "8"]
    main([*command, "--output-dir", str(tmp_path / "one")])
    main([*command, "--output-dir", str(tmp_path / "two"), "--data-parallel-size", "2"])
    assert completions(tmp_path / "one" / "sums") == completions(tmp_path / "two" / "sums")
    summaries = [(tmp_path / name / "sums" / "summary.json").read_text() for name in ("one", "two")]
    assert summaries[0] == summaries[1]
    with pytest.raises(SystemExit):
        main([*command, "--output-dir", str(tmp_path / "three"), "--num-gpus", "64"])
    assert "`num_gpus` must be at most the GPUs that can be seen here; got 64" in capsys.readouterr().err


# --- who gets which GPU ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ({}, ["0", "1", "2", "3"]),
        ({"num_gpus": 2}, ["0", "1"]),
        ({"num_per_copy": 2}, ["0,1", "2,3"]),
        ({"num_per_copy": 2, "num_gpus": 3}, ["0,1"]),
        ({"num_per_copy": 4, "data_parallel_size": 1}, ["0,1,2,3"]),
        ({"data_parallel_size": 3}, ["0", "1", "2"]),
    ],
)
def test_every_copy_gets_its_own_gpus(asked, expected):
    arguments = {"num_gpus": None, "data_parallel_size": None, "num_per_copy": 1} | asked
    planned = plan_workers(["0", "1", "2", "3"], **arguments)
    assert [environment["CUDA_VISIBLE_DEVICES"] for environment in planned] == expected


def test_too_many_copies_or_gpus_are_refused():
    with pytest.raises(ValueError, match=r"needs 2 GPUs of its own; got 3 copies for 4 GPUs"):
        plan_workers(["0", "1", "2", "3"], None, 3, 2)
    with pytest.raises(ValueError, match=r"`num_gpus` must be at most .*; got 5, and there are 4"):
        plan_workers(["0", "1", "2", "3"], 5, None, 1)
    assert plan_workers([], None, 2, 1) == [{}, {}]
    assert plan_workers(["0", "1"], None, None, 1, is_placed=True) == [{}]


@pytest.mark.parametrize(
    ("variable", "count", "expected"),
    [(None, 2, ["0", "1"]), ("3,5", 2, ["3", "5"]), ("GPU-a, GPU-b", 2, ["GPU-a", "GPU-b"]), ("", 0, [])],
)
def test_the_gpus_are_those_that_can_be_seen(monkeypatch, variable, count, expected):
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    if variable is None:
        monkeypatch.delenv(engines.VISIBLE, raising=False)
    else:
        monkeypatch.setenv(engines.VISIBLE, variable)
    assert visible_gpus() == expected


def test_a_tokenizer_that_is_none_is_told_as_a_model_that_is_none():
    with pytest.raises(ValueError, match="A model must be the id of one on the Hub"):
        load_tokenizer("no/model")
