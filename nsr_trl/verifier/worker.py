"""The worker of a sandbox: tasks come in on stdin, one reply each goes out on stdout, as lines of JSON.

A worker is a fresh interpreter that loads one function, exercises it, and says `{"ready": true}`. It never runs the
function on a task itself. For each task it has a child, forked from this clean, single-threaded state, which answers
that task alone under limits of its own and ends. So no task can leave anything behind for another: not a cache, not a
setting, not a leak. A task is `{"cpu_seconds": 1, "arguments": [...]}`, a reply `{"value": ...}` or
`{"failure": "time-out" | "worker died"}`, with `"again"` where the child was killed from outside.
"""

import contextlib
import gc
import json
import os
import resource
import select
import signal
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from .verdict import Reason


MAX_REPLY_BYTES = 512
"""What POSIX writes to a pipe in one piece: a reply comes whole or not at all."""


def main(target: str, warm_up: str, memory_bytes: str) -> None:
    """
    Serves until stdin ends, as it does when the parent closes it or is gone, however it went.

    Args:
        target (`str`):
            The function, as `"package.module:name"`.
        warm_up (`str`):
            JSON list of argument lists to call it with first, so that each child finds everything loaded.
        memory_bytes (`str`):
            Address space of a child.
    """
    # a parent may ignore or block these, and children inherit that
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    # where memory runs out, the kernel is to end a worker rather than the training that asked it
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:
        file.write("1000")
    # what libraries print must not come between the replies
    replies = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)

    module, _, name = target.partition(":")
    function = getattr(import_module(module), name)
    for arguments in json.loads(warm_up):
        function(*arguments)
    gc.collect()
    gc.freeze()  # the children's collections leave these pages shared
    os.write(replies, b'{"ready": true}\n')
    os.dup2(1, 2)  # so far stderr said why a worker does not start; nobody reads it from here on

    while True:
        child = _Child(function, int(memory_bytes))  # before its task comes: the fork costs the parent no time
        task = sys.stdin.buffer.readline()
        if not task:
            child.end()
            return
        os.write(replies, child.ask(task))
        child.end()


class _Child:
    """A process for one task, with the worker's loaded modules and none of its pipes."""

    def __init__(self, function: Callable[..., Any], memory_bytes: int) -> None:
        task_out, self._task_in = os.pipe()
        self._reply_out, reply_in = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.dup2(task_out, 0)
                os.dup2(reply_in, 3)
                os.closerange(4, 256)
                _answer(function, memory_bytes)
            finally:
                os._exit(1)
        os.close(task_out)
        os.close(reply_in)

    def ask(self, task: bytes) -> bytes:
        """Returns the reply as a line."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._task_in, task)
        stdin = sys.stdin.fileno()
        readable, _, _ = select.select([self._reply_out, stdin], [], [])
        if self._reply_out not in readable:  # no second task comes before the reply: this is the end of stdin
            self.end()
            sys.exit()
        if reply := os.read(self._reply_out, MAX_REPLY_BYTES):
            return reply
        cpu_seconds = json.loads(task)["cpu_seconds"]
        _, status, usage = os.wait4(self.pid, 0)
        self.pid = 0
        if usage.ru_utime + usage.ru_stime > 0.9 * cpu_seconds:  # the kernel's two clocks differ a little
            return _line({"failure": Reason.TIME_OUT})
        if os.waitstatus_to_exitcode(status) == -signal.SIGKILL:
            return _line({"failure": Reason.WORKER_DIED, "again": True})
        return _line({"failure": Reason.WORKER_DIED})

    def end(self) -> None:
        """Kills and reaps it."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._task_in)
        os.close(self._reply_out)


def _answer(function: Callable[..., Any], memory_bytes: int) -> None:
    """Answers one task, in the child: it comes on descriptor 0, the reply leaves on 3."""
    with open(0, "rb") as stdin:
        line = stdin.readline()
    if not line:  # the worker is gone
        return
    task = json.loads(line)
    # CPU time, not wall time: a busy machine does not change the verdict. The kernel ends the process, whatever it
    # does; a Python signal handler would wait for a big-integer power to return.
    _limit(resource.RLIMIT_CPU, task["cpu_seconds"])
    _limit(resource.RLIMIT_AS, memory_bytes)
    _limit(resource.RLIMIT_FSIZE, 0)
    _limit(resource.RLIMIT_CORE, 0)
    reply = _line({"value": function(*task["arguments"])})
    assert len(reply) <= MAX_REPLY_BYTES, "a reply is an outcome and a reason"
    os.write(3, reply)


def _limit(kind: int, value: int) -> None:
    hard = resource.getrlimit(kind)[1]
    value = value if hard == resource.RLIM_INFINITY else min(value, hard)
    with contextlib.suppress(ValueError, OSError):  # macOS refuses RLIMIT_AS
        resource.setrlimit(kind, (value, value))


def _line(message: dict[str, Any]) -> bytes:
    return json.dumps(message).encode() + b"\n"
