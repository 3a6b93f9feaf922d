"""The sandbox: texts go to worker processes, an answer or the reason why there is none comes back for each.

What it covers:

- **Time.** Each task has a deadline in CPU time of its own process, so a busy machine does not change what comes back,
  and a wall-clock backstop for a process that is stuck without computing. The kernel kills, so nothing can refuse.
- **Memory.** The address space of each task's process is limited on Linux, and where the machine runs out of memory
  the kernel ends these processes first.
- **Crashes.** A process that dies is replaced, and the tasks beside it do not notice. One that was killed from outside
  has its task tried again, so that the task is not lost.
- **History.** Each task runs in a fresh copy of the same state, so its result depends on its arguments alone: not on
  the tasks before it, on their order or on the number of workers.
- **The caller.** Workers are started as new interpreters, never forked from the caller: they load neither its main
  module nor torch, so it works in notebooks, scripts without a main guard, threads, forked processes, under torchrun
  and beside CUDA. They end when their stdin does, so none outlives its parent, whatever ended that.

What it does not cover:

- It is no wall against hostile *code*: a worker can read files and open sockets with the rights of its user. The
  verifier executes no text, and the sandbox is there for text that is slow, large or crashes a parser.
- On macOS the kernel does not enforce the memory limit.
- A task whose process is killed from outside `MAX_ATTEMPTS` times in a row is given up, and reported as such.
"""

import contextlib
import json
import logging
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .verdict import Reason


logger = logging.getLogger(__name__)

CPU_SECONDS = 1
"""Default deadline of a task, in whole seconds of CPU time, as the kernel counts limits."""
WALL_SECONDS = 60.0
"""The backstop: a worker that has not replied by then is stuck."""
MEMORY_BYTES = 2**30
"""Address space of a task's process."""
MAX_TASK_BYTES = 60_000
"""Longer tasks are refused; what is shorter fits into a pipe, so that handing it over never blocks."""
SLOW_START_SECONDS = 1.0
"""From here on the first start of a worker is told."""
MAX_ATTEMPTS = 10
"""Processes killed from outside before their task is given up."""

_BOOTSTRAP = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]); "
    "from nsr_trl.verifier.worker import main; main(*sys.argv[2:])"
)


class WorkerStartError(RuntimeError):
    """No worker can be started, which is a fault of the installation and not of a text."""


class _NoRoomError(OSError):
    """The machine has no room for another process."""


class Sandbox:
    """
    A pool of workers that run one function, started as tasks need them and kept for the next.

    All methods may be called from any thread. A forked child of the process has the sandbox without its workers, and
    starts its own.

    Args:
        target (`str`):
            The function, as `"package.module:name"`: it takes strings and returns what JSON can say.
        warm_up (`Sequence[Sequence[str]]`, *optional*):
            Arguments to call it with in each worker before the first task, which saves every task the time of what is
            loaded or cached on first use.
        num_workers (`int`, *optional*):
            Most workers, unless a call of `run` asks for more. Defaults to [`default_num_workers`].
        wall_seconds (`float`, *optional*, defaults to `60.0`):
            The wall-clock backstop of a task; the start of its worker counts.
        memory_bytes (`int`, *optional*, defaults to 1 GiB):
            Address space of a task's process.
    """

    def __init__(
        self,
        target: str,
        warm_up: Sequence[Sequence[str]] = (),
        num_workers: int | None = None,
        wall_seconds: float = WALL_SECONDS,
        memory_bytes: int = MEMORY_BYTES,
    ) -> None:
        self.num_workers = num_workers or default_num_workers()
        self._wall_seconds = wall_seconds
        self._command = [target, json.dumps([list(arguments) for arguments in warm_up]), str(memory_bytes)]
        self._lock = threading.Condition()
        self._workers: set[_Worker] = set()
        self._idle: list[_Worker] = []
        self._has_started = False
        _SANDBOXES.add(self)
        weakref.finalize(self, _kill_all, self._workers)  # runs at exit, too

    def run(
        self,
        tasks: Sequence[Sequence[str]],
        cpu_seconds: int = CPU_SECONDS,
        num_workers: int | None = None,
        on_reply: Callable[[], object] | None = None,
    ) -> list[Any]:
        """
        Runs every task and waits for all.

        Args:
            tasks (`Sequence[Sequence[str]]`):
                The arguments of each call.
            cpu_seconds (`int`, *optional*, defaults to `1`):
                Deadline of each task.
            num_workers (`int`, *optional*):
                Most workers for these tasks, if not the sandbox's.
            on_reply (`Callable`, *optional*):
                Called after each task, to show progress.

        Returns:
            `list`: for each task the value returned, or `Reason.TIME_OUT`, `Reason.WORKER_DIED` or `Reason.TOO_LARGE`.

            The second also where the machine has no room for a worker: no process or file descriptor left.

        Raises:
            WorkerStartError: If no worker can be started at all, with what it said.
        """
        limit = num_workers or self.num_workers
        lines = [
            json.dumps({"cpu_seconds": cpu_seconds, "arguments": list(arguments)}).encode() + b"\n"
            for arguments in tasks
        ]
        replies: list[Any] = [Reason.TOO_LARGE] * len(tasks)
        waiting = deque(_Job(index) for index, line in enumerate(lines) if len(line) <= MAX_TASK_BYTES)
        busy: dict[_Worker, _Job] = {}
        with _selector() as selector:
            try:
                while waiting or busy:
                    while waiting and len(busy) < limit and (worker := self._borrow(limit, wait=not busy)):
                        busy[worker] = job = waiting.popleft()
                        job.attempt += 1
                        job.wall_end = time.monotonic() + self._wall_seconds
                        selector.register(worker.replies, selectors.EVENT_READ, worker)
                        worker.send(lines[job.index])
                    for worker, reply in _receive(selector, busy):
                        job = busy.pop(worker)
                        selector.unregister(worker.replies)
                        self._give_back(worker)
                        if not self._has_started and (worker.process.returncode or 0) > 0:
                            raise WorkerStartError(worker.why_it_did_not_start())
                        if "again" in reply and job.attempt < MAX_ATTEMPTS:
                            waiting.append(job)
                            continue
                        failure = reply.get("failure")
                        replies[job.index] = Reason(failure) if failure else reply["value"]
                        if on_reply is not None:
                            on_reply()
            except _NoRoomError as error:
                logger.warning("There must be room for a process of the verifier; there is none: %s.", error)
                for job in waiting:
                    replies[job.index] = Reason.WORKER_DIED
            finally:
                for worker in busy:  # interrupted
                    worker.kill()
                    self._give_back(worker)
        return replies

    def start(self) -> None:
        """Starts a worker if there is none, without waiting for it."""
        with self._lock:
            if not self._workers:
                with contextlib.suppress(OSError):  # `run` will meet it again
                    self._idle.append(self._new_worker())

    def close(self) -> None:
        """Ends the idle workers; later tasks start new ones."""
        with self._lock:
            idle, self._idle = self._idle, []
            self._workers.difference_update(idle)
        for worker in idle:
            worker.kill()

    def _borrow(self, limit: int, wait: bool) -> "_Worker | None":
        """Takes an idle worker, or starts one, or waits for one that another thread gives back."""
        with self._lock:
            while True:
                if self._idle:
                    return self._idle.pop()
                if len(self._workers) < max(limit, self.num_workers):
                    try:
                        return self._new_worker()
                    except OSError as error:
                        if not self._workers:
                            raise _NoRoomError(error) from error
                if not wait:
                    return None
                self._lock.wait()

    def _new_worker(self) -> "_Worker":
        worker = _Worker(self._command)
        self._workers.add(worker)
        return worker

    def _give_back(self, worker: "_Worker") -> None:
        with self._lock:
            if worker.is_ready and not self._has_started:
                self._has_started = True
                seconds = time.monotonic() - worker.start
                if seconds > SLOW_START_SECONDS:
                    logger.info(
                        "The first process of the verifier took %.1f s to start; later pairs find it.", seconds
                    )
            if worker.is_usable:
                self._idle.append(worker)
            else:
                self._workers.discard(worker)
            self._lock.notify()

    def _forget(self) -> None:
        """Starts from nothing, as a forked child does: the workers belong to its parent."""
        self._lock = threading.Condition()  # another thread may have held the old one
        self._idle.clear()
        for worker in self._workers:
            worker.disown()
        self._workers.clear()


@dataclass
class _Job:
    """A task under way."""

    index: int
    attempt: int = 0
    wall_end: float = 0.0


def _selector() -> selectors.BaseSelector:
    try:
        return selectors.DefaultSelector()
    except OSError:  # no file descriptor left
        return selectors.SelectSelector()


def _receive(selector: selectors.BaseSelector, busy: "dict[_Worker, _Job]") -> "list[tuple[_Worker, dict[str, Any]]]":
    """Waits until some workers have replied, and kills those that should have by now."""
    end = min(job.wall_end for job in busy.values())
    readable = {key.data for key, _ in selector.select(max(0.0, end - time.monotonic()))}
    replies = [(worker, reply) for worker in readable if (reply := worker.receive()) is not None]
    for worker, job in busy.items():
        if worker not in readable and job.wall_end <= time.monotonic():
            worker.kill()
            replies.append((worker, {"failure": Reason.WORKER_DIED}))
    return replies


class _Worker:
    """The parent's end of a worker."""

    def __init__(self, arguments: Sequence[str]) -> None:
        path = json.dumps([entry for entry in sys.path if isinstance(entry, str)])
        self.process = subprocess.Popen(
            [sys.executable, "-c", _BOOTSTRAP, path, *arguments],
            bufsize=0,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            # equal hashes order sets equally, in sympy too: the same steps in every worker and every run
            env={**os.environ, "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore", "OMP_NUM_THREADS": "1"},
            start_new_session=True,  # Ctrl-C is the parent's; and the group can be killed as one
        )
        pipes = (self.process.stdin, self.process.stdout, self.process.stderr)
        self.tasks, self.replies, self._words = (pipe for pipe in pipes if pipe is not None)
        self.start = time.monotonic()
        self.is_ready, self.is_usable = False, True
        self.last_words = ""

    def send(self, line: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # it is gone, as its replies will show
            self.tasks.write(line)

    def receive(self) -> dict[str, Any] | None:
        """Returns its reply, once its replies can be read; `None` if it says that it is ready."""
        lines = self.replies.read(2**16).splitlines()
        if lines and not self.is_ready:
            self.is_ready = True
            del lines[0]
        elif not lines:
            self.kill()
            return {"failure": Reason.WORKER_DIED, "again": True}
        return json.loads(lines[0]) if lines else None

    def kill(self) -> None:
        """Kills and reaps it with its child."""
        with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS has the second for what just died
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.is_usable and not self.is_ready:
            words = self._words.read().decode(errors="replace").split("\n")
            self.last_words = next((line for line in reversed(words) if line.strip()), "")
        self.process.wait()
        self.disown()

    def why_it_did_not_start(self) -> str:
        """An error message."""
        return (
            "The worker of the verifier must be able to start; it ended with status "
            f"{self.process.returncode}, saying {self.last_words!r}. "
            f"Check that {sys.executable} can import sympy and the LaTeX parser."
        )

    def disown(self) -> None:
        """Lets go of it without ending it."""
        self.is_usable = False
        self.process.returncode = self.process.returncode or 0  # nothing left to wait for
        for pipe in (self.tasks, self.replies, self._words):
            pipe.close()


def default_num_workers() -> int:
    """Returns this process's share of the machine's cores, among the processes that torchrun started; 8 at most."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(8, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))


def _kill_all(workers: set[_Worker]) -> None:
    for worker in list(workers):
        worker.kill()


_SANDBOXES: "weakref.WeakSet[Sandbox]" = weakref.WeakSet()


def _forget_all() -> None:
    for sandbox in _SANDBOXES:
        sandbox._forget()


os.register_at_fork(after_in_child=_forget_all)
