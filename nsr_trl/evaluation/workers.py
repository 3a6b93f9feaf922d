"""Sampling in processes of their own, one per copy of the model: requests are dealt out, completions come back.

The process that evaluates keeps the run folder, the verdicts and the progress, so that there is one of each. A request
has random numbers of its own, so that it does not matter which worker answers it: what one leaves unanswered when it
dies, the others answer.
"""

import logging
import multiprocessing
import os
import signal
import traceback
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from transformers import PreTrainedTokenizerBase

from .records import differences
from .samplers import Completion, Request, Sampler, in_batches, paced


logger = logging.getLogger(__name__)

SPAWN = multiprocessing.get_context("spawn")
MIN_SHARE = 256
"""Requests that a worker is dealt at least, where they come singly: enough to keep an engine busy."""

Unit = list[Request]
"""Requests that one worker answers together."""


class _Worker:
    """A process with a sampler, and what it has been dealt and not answered yet."""

    def __init__(self, number: int, build: Callable[[], Sampler], environment: Mapping[str, str]) -> None:
        self.connection, theirs = SPAWN.Pipe()
        place = ", ".join(f"{name}={value}" for name, value in environment.items())
        self.name = f"worker {number}{f' ({place})' if place else ''}"
        self.process = SPAWN.Process(target=_serve, args=(theirs, build), name=self.name)
        with _environment(environment):
            self.process.start()
        theirs.close()
        self.settings: dict[str, Any] | None = None
        self.units: list[Unit] = []
        self.unanswered: dict[tuple[str, int], Request] = {}

    @property
    def is_free(self) -> bool:
        return self.settings is not None and not self.units

    def give(self, units: list[Unit], seed: int) -> None:
        self.units = units
        self.unanswered = {_key(request): request for unit in units for request in unit}
        self.connection.send((seed, units))

    def end(self) -> None:
        """Ends the process, whatever it is doing."""
        self.process.terminate()
        self.process.join(5)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.connection.close()


class WorkersSampler:
    """
    Samples with several copies of a sampler, each in a process of its own.

    The processes are started by the first request, and live until the sampler is closed or this process ends. Requests
    are dealt out in shares that get smaller towards the end, so that the workers end together.

    Args:
        build (`Callable`):
            Builds the sampler of one worker; must be picklable.
        environments (`Sequence[Mapping[str, str]]`):
            Environment variables of each worker, such as its `CUDA_VISIBLE_DEVICES`; there are as many workers.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            The model's tokenizer.

    Raises:
        ChildProcessError: While sampling, if the last worker has died.
    """

    def __init__(
        self,
        build: Callable[[], Sampler],
        environments: Sequence[Mapping[str, str]],
        tokenizer: PreTrainedTokenizerBase | None,
    ) -> None:
        self.build = build
        self.environments = environments
        self.tokenizer = tokenizer
        self._workers: list[_Worker] = []
        weakref.finalize(self, _end_all, self._workers)  # else Python waits for them at its end

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
            while waiting or any(worker.units for worker in self._workers):
                for worker in list(self._workers):
                    if worker.is_free and waiting:
                        units = self._share(waiting)
                        try:
                            worker.give(units, seed)
                        except OSError:  # it has died since it was last heard of
                            self._bury(worker, waiting)
                yield self._receive(waiting)
            is_done = True
        finally:
            if not is_done:  # stopped early: what is under way is not waited for
                self.close()

    def _start(self) -> list[_Worker]:
        if not self._workers:
            for number, environment in enumerate(self.environments, start=1):
                self._workers.append(_Worker(number, self.build, environment))
        return self._workers

    def _receive(self, waiting: deque[Unit]) -> list[Completion]:
        """Takes what workers have sent, and waits a moment if it is nothing."""
        arrived: list[Completion] = []
        by_connection = {worker.connection: worker for worker in self._workers}
        for connection in wait(list(by_connection), timeout=0.2):
            worker = by_connection[connection]  # type: ignore[index]
            try:
                kind, content = worker.connection.recv()
            except (EOFError, OSError):
                self._bury(worker, waiting)
                continue
            if kind == "completions":
                for key, text, num_tokens, truncated in content:
                    arrived.append(Completion(worker.unanswered.pop(key), text, num_tokens, truncated))
            elif kind == "ready":
                self._check_alike(worker, content)
            elif kind == "done":
                worker.units = []
            else:
                raise content
        return arrived

    def _check_alike(self, worker: _Worker, settings: dict[str, Any]) -> None:
        other = next((w for w in self._workers if w.settings is not None), None)
        if other is not None and (changes := differences(other.settings or {}, settings)):
            raise ValueError(
                f"All workers must sample from one model; {worker.name} differs from {other.name} in "
                f"{'; '.join(changes)}. Leave the model as it is while it is evaluated."
            )
        worker.settings = settings

    def _bury(self, worker: _Worker, waiting: deque[Unit]) -> None:
        """Takes a dead worker's unanswered requests back."""
        self._workers.remove(worker)
        worker.end()
        how = f"{worker.name} ended (exit status {worker.process.exitcode})"
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
        batch_size: int,
    ) -> None:
        super().__init__(build, environments, tokenizer)
        self.batches = lambda requests: in_batches(tokenizer, requests, batch_size)

    def _units(self, requests: Sequence[Request]) -> deque[Unit]:
        return deque(self.batches(requests))

    def _share(self, waiting: deque[Unit]) -> list[Unit]:
        return [waiting.popleft()]

    def _unanswered(self, units: list[Unit], unanswered: Mapping[tuple[str, int], Request]) -> list[Unit]:
        return units  # whole, so that they come out as they would have


def _end_all(workers: list[_Worker]) -> None:
    while workers:
        workers.pop().end()


def _key(request: Request) -> tuple[str, int]:
    return request.problem_id, request.sample_index


def _serve(connection: Connection, build: Callable[[], Sampler]) -> None:
    """The life of a worker: answers what it is dealt until the other side is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that evaluates, which ends this one
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        try:
            sampler = build()
            connection.send(("ready", sampler.settings))
            while True:
                seed, units = connection.recv()
                for unit in units:
                    for batch in sampler.sample(unit, seed):
                        rows = [(_key(c.request), c.text, c.num_tokens, c.truncated) for c in batch]
                        connection.send(("completions", rows))
                connection.send(("done", None))
        except (ValueError, MemoryError, ImportError) as error:
            connection.send(("error", type(error)(str(error))))
        except (EOFError, OSError):
            raise
        except Exception as error:  # noqa: BLE001, told by the process that evaluates
            told = f"A worker failed: {error!r}\n{traceback.format_exc()}"
            connection.send(("error", RuntimeError(told)))


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
