"""The sandbox against a function that loops, sleeps, crashes, fills memory and is killed (`misbehaving.act`)."""

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nsr_trl.verifier import Reason
from nsr_trl.verifier.sandbox import MAX_TASK_BYTES, Sandbox, WorkerStartError


pytestmark = pytest.mark.processes


HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox("misbehaving:act", warm_up=[["echo", "x"]], num_workers=2)
    yield sandbox
    sandbox.close()


def echoes(count):
    return [["echo", str(number)] for number in range(count)]


def values(count):
    return [str(number) for number in range(count)]


def pids_of(sandbox):
    return [pid for reply in sandbox.run([["pids"]] * 4) for pid in reply]


def is_running(pid):
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return state != "" and state[0] != "Z"


def are_gone(pids, seconds=20):
    end = time.monotonic() + seconds
    while any(map(is_running, pids)) and time.monotonic() < end:
        time.sleep(0.05)
    return not any(map(is_running, pids))


def run_script(text, *arguments):
    """Starts a script; it finds the package and this folder as the tests do."""
    path = os.pathsep.join([str(HERE.parent), str(HERE)])
    return subprocess.Popen(
        [sys.executable, "-c", text, *arguments],
        env={**os.environ, "PYTHONPATH": path},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


# --- Replies ---------------------------------------------------------------------------------------------------------


def test_replies_come_in_the_order_of_the_tasks(sandbox):
    assert sandbox.run(echoes(50)) == values(50)
    assert sandbox.run([]) == []


@pytest.mark.parametrize("text", ["", "é\n\r\x00", "\ud800", "\u2028", '"}\n{"value": 1}'])
def test_any_text_arrives_as_it_was(sandbox, text):
    assert sandbox.run([["echo", text]]) == [text]


def test_what_a_library_prints_does_not_come_between_the_replies(sandbox):
    assert sandbox.run([["print", '{"value": 1}\n']] * 3) == ['{"value": 1}\n'] * 3


def test_a_task_too_long_for_the_pipe_is_refused(sandbox):
    assert sandbox.run([["echo", "x" * MAX_TASK_BYTES], ["echo", "x"]]) == [Reason.TOO_LARGE, "x"]


def test_no_task_leaves_anything_for_the_next(sandbox):
    assert sandbox.run([["remember", "x"]] * 4) == [1] * 4


def test_every_reply_is_counted_for_a_progress_bar(sandbox):
    seen = []
    sandbox.run([*echoes(5), ["exit", "1"]], on_reply=lambda: seen.append(1))
    assert len(seen) == 6


# --- Limits ----------------------------------------------------------------------------------------------------------


def test_a_task_is_killed_at_its_deadline_and_its_neighbours_are_not(sandbox):
    assert sandbox.run([["echo", "a"], ["spin"], ["echo", "b"], ["power"], ["echo", "c"]]) == [
        "a",
        Reason.TIME_OUT,
        "b",
        Reason.TIME_OUT,
        "c",
    ]


def test_waiting_costs_no_cpu_time(sandbox):
    assert sandbox.run([["sleep", "1.5"]], cpu_seconds=1) == ["1.5"]


def test_a_busy_machine_does_not_change_what_is_a_time_out(sandbox):
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        assert sandbox.run([["compute", "0.5"], ["compute", "20"]]) == ["0.5", Reason.TIME_OUT]
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def test_a_task_that_is_stuck_without_computing_is_killed_too():
    sandbox = Sandbox("misbehaving:act", num_workers=2, wall_seconds=3)
    assert sandbox.run([["sleep", "3600"], ["echo", "a"]]) == [Reason.WORKER_DIED, "a"]
    assert sandbox.run(echoes(4)) == values(4)


@pytest.mark.skipif(sys.platform != "linux", reason="macOS does not enforce the limit")
def test_memory_is_limited(sandbox):
    assert sandbox.run([["fill", str(2**31)], ["fill", str(2**27)]]) == [Reason.WORKER_DIED, 2**27]


def test_a_task_writes_no_file(sandbox, tmp_path):
    assert sandbox.run([["write", str(tmp_path / "file")]]) == [Reason.WORKER_DIED]
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("task", [["exit", "0"], ["exit", "3"], ["raise", "x"], ["long", "100000"]])
def test_a_crash_is_reported_and_costs_no_other_task_its_reply(sandbox, task):
    assert sandbox.run([["echo", "a"], task, ["echo", "b"]]) == ["a", Reason.WORKER_DIED, "b"]


def test_a_worker_that_cannot_start_says_why():
    with pytest.raises(WorkerStartError, match=r"saying .*No module named 'no_such_module'.* Check that"):
        Sandbox("no_such_module:function").run([["x"]])


# --- Where it is called ----------------------------------------------------------------------------------------------


def test_many_threads_share_the_workers(sandbox):
    with ThreadPoolExecutor(16) as pool:
        results = list(pool.map(lambda _: sandbox.run(echoes(5)), range(40)))
    assert results == [values(5)] * 40
    assert len(sandbox._workers) <= 2


def test_a_forked_process_starts_its_own_workers(sandbox):
    before = set(pids_of(sandbox)[::2])
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ok = sandbox.run(echoes(4)) == values(4) and before.isdisjoint(pids_of(sandbox))
            sandbox.close()
            os.write(writer, b"ok" if ok else b"wrong")
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert os.read(reader, 10) == b"ok"
    assert sandbox.run(echoes(4)) == values(4)
    assert all(map(is_running, before))


SCRIPT = """
import sys, time
from nsr_trl.verifier.sandbox import Sandbox
print("main", flush=True)
sandbox = Sandbox("misbehaving:act", num_workers=2)
print(*sandbox.run([["pids"]] * 4)[0], *sandbox.run([["modules", "torch"]]), flush=True)
{then}
"""


def test_a_script_without_main_guard_runs_once_and_leaves_no_process():
    script = run_script(SCRIPT.format(then=""))
    out, err = script.communicate(timeout=60)
    assert err == ""
    assert out.count("main") == 1
    worker, child, has_torch = out.split()[1:]
    assert has_torch == "False"
    assert are_gone([int(worker), int(child)])


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_parent_that_is_killed_leaves_no_orphan(number):
    busy = 'print(sandbox.run([["spin"], ["sleep", "600"]], cpu_seconds=600))'
    script = run_script(SCRIPT.format(then=busy))
    try:
        assert script.stdout.readline() == "main\n"
        worker = script.stdout.readline().split()[0]
        time.sleep(0.5)
        group = subprocess.run(["pgrep", "-g", worker], capture_output=True, text=True).stdout.split()
        assert len(group) >= 2  # the worker and the child that spins or sleeps
        script.send_signal(number)
        script.wait(timeout=20)
        assert are_gone([int(pid) for pid in group])
    finally:
        script.kill()
        script.communicate()


def test_closing_ends_the_workers_and_the_next_task_starts_new_ones():
    sandbox = Sandbox("misbehaving:act", num_workers=2)
    before = pids_of(sandbox)
    sandbox.close()
    assert are_gone(before)
    assert sandbox.run(echoes(2)) == values(2)
    workers = pids_of(sandbox)[::2]
    del sandbox
    assert are_gone(workers)


def test_an_interrupted_batch_leaves_no_reply_behind_for_the_next(sandbox):
    def interrupt():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sandbox.run([["echo", "a"], ["sleep", "60"]], on_reply=interrupt)
    assert sandbox.run(echoes(6)) == values(6)


# --- Fault injection -------------------------------------------------------------------------------------------------


def kill_at_random(sandbox, stop, interval, worker_share=0.5):
    """Kills workers, and more or less often their children, until told to stop; returns how many."""
    rng, count = random.Random(0), 0
    while not stop.wait(rng.uniform(0, 2 * interval)):
        workers = [worker.process.pid for worker in list(sandbox._workers)]
        group = subprocess.run(["pgrep", "-g", ",".join(map(str, workers))], capture_output=True, text=True).stdout
        children = [pid for pid in map(int, group.split()) if pid not in workers]
        if victims := workers if rng.random() < worker_share else children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(rng.choice(victims), signal.SIGKILL)
                count += 1
    return count


def survive(num_tasks, interval):
    sandbox = Sandbox("misbehaving:act", num_workers=2)
    stop = threading.Event()
    with ThreadPoolExecutor(1) as killer:
        kills = killer.submit(kill_at_random, sandbox, stop, interval)
        replies = sandbox.run(echoes(num_tasks))
        stop.set()
        assert replies == values(num_tasks)
    assert len(sandbox._workers) <= 2
    return kills.result()


def test_workers_killed_at_random_lose_no_reply():
    assert survive(500, interval=0.1) > 0


@pytest.mark.slow
def test_workers_killed_at_random_lose_no_reply_of_ten_thousand():
    assert survive(10_000, interval=0.1) > 50
