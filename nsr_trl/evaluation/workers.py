"""Sampling in processes of their own, one per copy of the model: requests are dealt out, completions come back.

The process that evaluates keeps the run folder, the verdicts and the progress, so that there is one of each. A request
has random numbers of its own, so that it does not matter which worker answers it: what one leaves unanswered when it
dies, or hangs, the others answer.
"""

import logging
import multiprocessing
import os
import select
import signal
import socket
import struct
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.util import Finalize
from typing import Any, cast

from transformers import PreTrainedTokenizerBase

from .records import differences
from .samplers import Completion, Request, Sampler, Stepwise, in_batches, paced


logger = logging.getLogger(__name__)

SPAWN = multiprocessing.get_context("spawn")
MIN_SHARE = 256
"""Requests that a worker is dealt at least, where they come singly: enough to keep an engine busy."""

TIMEOUT = 3600
"""Seconds without a token after which a worker hangs: a token takes seconds, the first of a large batch minutes."""

SIGN_EVERY = 0.5
"""Seconds between a worker's signs of life, and between looks for them."""

FATAL = (ValueError, MemoryError, ImportError)
"""Errors that another worker would meet alike; after any other one the rest go on."""

Unit = list[Request]
"""Requests that one worker answers together."""

START: list[Unit] = [[]]
"""What a worker is dealt first: nothing, so that its engine is up before it is dealt what others could answer."""


class _Worker:
    """
    A process with a sampler, and what it has been dealt and not answered yet.

    Attributes:
        silence (`float`):
            Seconds that its answers have been waited for since it last brought anything.
    """

    def __init__(
        self, number: int, build: Callable[[], Sampler], environment: Mapping[str, str], timeout: float
    ) -> None:
        self.connection, theirs = SPAWN.Pipe()
        place = ", ".join(f"{name}={value}" for name, value in environment.items())
        self.name = f"worker {number}{f' ({place})' if place else ''}"
        self.process = SPAWN.Process(target=_serve, args=(theirs, build), name=self.name)
        with _environment(environment):
            self.process.start()
        theirs.close()
        # neither a stopped worker that is sent much, nor one that was stopped amid an answer, is waited for any longer
        with socket.socket(fileno=os.dup(self.connection.fileno())) as ours:
            for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
                ours.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", int(timeout), int(timeout % 1 * 1e6)))
        self.settings: dict[str, Any] | None = None
        self.has_started = False
        self.units: list[Unit] = []
        self.unanswered: dict[tuple[str, int], Request] = {}
        self.silence = 0.0

    def give(self, units: list[Unit], seed: int) -> None:
        self.silence = 0.0
        self.units = units
        self.unanswered = {_key(request): request for unit in units for request in unit}
        self.connection.send((seed, units))

    def kill(self) -> None:
        """Kills the process and what it has started, whatever they are doing: stopped ones as well."""
        with suppress(ProcessLookupError, PermissionError):  # no group of its own yet, or not any more
            os.killpg(cast(int, self.process.pid), signal.SIGKILL)
        self.process.kill()

    def end(self) -> None:
        """Lets a process that has nothing to do end by itself, and kills any other."""
        self.connection.close()
        if self.has_started and not self.unanswered:
            self.process.join(5)
        self.kill()
        self.process.join(10)
        if self.process.is_alive():
            logger.warning(
                f"{self.name} was killed and is still there: a driver or a file system holds it. Its GPU needs a "
                "reset. This command waits for it at its end, after everything is written."
            )


class WorkersSampler:
    """
    Samples with several copies of a sampler, each in a process of its own.

    The processes are started by the first request, and live until the sampler is closed or this process ends. Requests
    are dealt out in shares that get smaller towards the end, so that the workers end together, and only to workers
    whose engines are up: one that takes long to load, or never does, holds nothing back while another works.

    Args:
        build (`Callable`):
            Builds the sampler of one worker; must be picklable.
        environments (`Sequence[Mapping[str, str]]`):
            Environment variables of each worker, such as its `CUDA_VISIBLE_DEVICES`; there are as many workers.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            The model's tokenizer.
        timeout (`float`, *optional*, defaults to `TIMEOUT`):
            Seconds after which a worker that was dealt something and brings nothing is killed. A sampler with
            `on_step` brings every token, any other one its completions.

    Raises:
        ValueError: If `timeout` is not above 0.
        ChildProcessError: While sampling, if the last worker has died.
    """

    def __init__(
        self,
        build: Callable[[], Sampler],
        environments: Sequence[Mapping[str, str]],
        tokenizer: PreTrainedTokenizerBase | None,
        timeout: float = TIMEOUT,
    ) -> None:
        if timeout <= 0:
            raise ValueError(f"`timeout` must be above 0 seconds; got {timeout}. Leave it out for {TIMEOUT}.")
        self.build = build
        self.environments = environments
        self.tokenizer = tokenizer
        self.timeout = timeout
        self._workers: list[_Worker] = []
        Finalize(self, _end_all, args=(self._workers,), exitpriority=10)  # before Python waits for them at its end

    def __enter__(self) -> "WorkersSampler":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Ends the workers and frees what they hold. The next request starts new ones."""
        _end_all(self._workers)

    @property
    def settings(self) -> dict[str, Any]:
        """The description by the first worker that is ready; the others must give the same."""
        while (ready := next((w.settings for w in self._start() if w.settings is not None), None)) is None:
            self._receive(deque())
        return ready

    def sample(self, requests: Sequence[Request], seed: int) -> Iterator[list[Completion]]:
        """Answers the requests, in any order, as [`~evaluation.samplers.Sampler`] says."""
        if requests:
            yield from paced(self._arrivals(self._units(requests), seed))

    def _units(self, requests: Sequence[Request]) -> deque[Unit]:
        return deque([request] for request in requests)

    def _share(self, waiting: deque[Unit]) -> list[Unit]:
        """The next worker's share: half of its part of the remaining requests, as one list."""
        size = max(MIN_SHARE, len(waiting) // (2 * len(self._workers)))
        return [[request for _ in range(min(size, len(waiting))) for request in waiting.popleft()]]

    def _arrivals(self, waiting: deque[Unit], seed: int) -> Iterator[list[Completion]]:
        self._start()
        is_done = False
        try:
            while waiting or any(worker.unanswered for worker in self._workers):
                for worker in list(self._workers):
                    if waiting and not worker.units:
                        units = self._share(waiting) if worker.has_started else START
                        try:
                            worker.give(units, seed)
                        except OSError as error:  # it has died since it was last heard of, or takes nothing
                            self._bury(worker, waiting, hangs=isinstance(error, BlockingIOError))
                yield self._receive(waiting)
            is_done = True
        finally:
            if not is_done:  # stopped early: what is under way is not waited for
                self.close()

    def _start(self) -> list[_Worker]:
        if not self._workers:
            for number, environment in enumerate(self.environments, start=1):
                self._workers.append(_Worker(number, self.build, environment, self.timeout))
        return self._workers

    def _receive(self, waiting: deque[Unit]) -> list[Completion]:
        """Takes what workers have sent, and waits a moment if it is nothing."""
        arrived: list[Completion] = []
        begun = time.monotonic()
        heard = wait([worker.connection for worker in self._workers], timeout=SIGN_EVERY)
        waited = min(time.monotonic() - begun, 2 * SIGN_EVERY)  # if it was more, this process was stopped itself
        for worker in list(self._workers):
            if worker.process.exitcode is not None:
                worker.kill()  # what it has started holds the connection open, and would be waited for
            if worker.connection in heard:
                worker.silence = 0.0
                try:
                    arrived += self._take(worker)
                except (EOFError, OSError) as error:
                    self._bury(worker, waiting, hangs=isinstance(error, BlockingIOError))
            elif worker.unanswered:
                worker.silence += waited
                if worker.silence > self.timeout:
                    self._bury(worker, waiting, hangs=True)
        return arrived

    def _take(self, worker: _Worker) -> list[Completion]:
        """One message of a worker."""
        kind, content = worker.connection.recv()
        if kind == "completions":
            return [Completion(worker.unanswered.pop(key), *rest) for key, *rest in content]
        if kind == "ready":
            self._check_alike(worker, content)
        elif kind == "done":
            worker.has_started = True
            worker.units = []
        elif kind == "error":
            raise content
        return []

    def _check_alike(self, worker: _Worker, settings: dict[str, Any]) -> None:
        other = next((w for w in self._workers if w.settings is not None), None)
        if other is not None and (changes := differences(other.settings or {}, settings)):
            raise ValueError(
                f"All workers must sample from one model; {worker.name} differs from {other.name} in "
                f"{'; '.join(changes)}. Leave the model as it is while it is evaluated."
            )
        worker.settings = settings

    def _bury(self, worker: _Worker, waiting: deque[Unit], hangs: bool) -> None:
        """Ends a worker that is dead, or as good as, and takes its unanswered requests back."""
        self._workers.remove(worker)
        if not hangs:
            worker.process.join(2)  # it may be about to end with a status of its own
        worker.end()
        how = (
            f"{worker.name} brought no token in {self.timeout:,} s and was killed (--worker-timeout)"
            if hangs
            else f"{worker.name} ended (exit status {worker.process.exitcode})"
        )
        if not self._workers:
            raise ChildProcessError(
                f"Sampling needs a worker that lives; {how}, the last of {len(self.environments)}. See above for why "
                "(memory, mostly), then run the same again: what is recorded is not sampled twice."
            )
        left = [unit for unit in worker.units if any(_key(request) in worker.unanswered for request in unit)]
        waiting.extendleft(reversed(self._unanswered(left, worker.unanswered)))
        logger.warning(f"{how}; the others take over its {len(worker.unanswered)} samples.")

    def _unanswered(self, units: list[Unit], unanswered: Mapping[tuple[str, int], Request]) -> list[Unit]:
        return [[request] for unit in units for request in unit if _key(request) in unanswered]


class BatchedWorkersSampler(WorkersSampler):
    """
    As [`WorkersSampler`], for samplers whose samples depend on their batch, be it in the last bit only.

    Args:
        batch_size (`int`):
            Requests of a batch. The other arguments are those of [`WorkersSampler`].
    """

    def __init__(
        self,
        build: Callable[[], Sampler],
        environments: Sequence[Mapping[str, str]],
        tokenizer: PreTrainedTokenizerBase,
        timeout: float = TIMEOUT,
        *,
        batch_size: int,
    ) -> None:
        super().__init__(build, environments, tokenizer, timeout)
        self.batches = lambda requests: in_batches(tokenizer, requests, batch_size)

    def _units(self, requests: Sequence[Request]) -> deque[Unit]:
        return deque(self.batches(requests))

    def _share(self, waiting: deque[Unit]) -> list[Unit]:
        return [waiting.popleft()]

    def _unanswered(self, units: list[Unit], unanswered: Mapping[tuple[str, int], Request]) -> list[Unit]:
        return units  # whole, so that they come out as they would have


def _end_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.connection.close()  # so that they end side by side
    while workers:
        workers.pop().end()


def _key(request: Request) -> tuple[str, int]:
    return request.problem_id, request.sample_index


def _serve(connection: Connection, build: Callable[[], Sampler]) -> None:
    """The life of a worker: answers what it is dealt until the other side is gone."""
    os.setsid()  # a group of its own: Ctrl-C is for the process that evaluates, which ends this one and its engine
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            sampler = build()
            if isinstance(sampler, Stepwise):
                sampler.on_step = _SignsOfLife(connection)
            connection.send(("ready", sampler.settings))
            while True:
                seed, units = connection.recv()
                for unit in units:
                    for batch in sampler.sample(unit, seed):
                        rows = [(_key(c.request), c.text, c.num_tokens, c.truncated) for c in batch]
                        connection.send(("completions", rows))
                connection.send(("done", None))
        except FATAL as error:
            kind = next(
                kind for kind in FATAL if isinstance(error, kind)
            )  # some of its own kinds need more than a text
            connection.send(("error", kind(str(error))))


def _end_with_parent() -> None:
    """Ends this process and what it has started when the one that evaluates is gone, in whatever way it went."""
    parent = multiprocessing.parent_process()
    assert parent is not None, "a worker is started by multiprocessing"
    parent.join()
    os.killpg(0, signal.SIGKILL)


class _SignsOfLife:
    """Called at every token, it tells the other side now and then."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.told = time.monotonic()

    def __call__(self) -> None:
        is_due = time.monotonic() - self.told > SIGN_EVERY
        if is_due and select.select([], [self.connection], [], 0)[1]:  # a sign that would have to wait is none
            self.connection.send(("alive", None))
            self.told = time.monotonic()


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets variables for the processes that are started meanwhile."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
