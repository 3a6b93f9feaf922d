"""What a micro-batch may hold, measured: memory and seconds of micro-steps go in, limits for the next ones come out.

Behind `max_tokens_per_microbatch="auto"`. On a GPU the budget of tokens grows until a micro-batch fills a share of the
memory. On any device the seconds say what one more micro-step costs, in token places: as many places of padding as it
may save, and no more, is what fewer micro-batches are worth.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor


MEMORY_SHARE = 0.85
"""Of the memory that this process can have, what an update may fill."""

MOST_GROWTH = 2
"""Times the largest micro-batch that ran, how large the next one may be."""

NUM_OBSERVED = 8
"""Micro-steps whose seconds settle what one costs."""

NO_LIMIT = 2**62


class MemoryMeter(Protocol):
    """What a device tells of its memory, in bytes."""

    def begin(self) -> int:
        """Forgets the peak; what is allocated now."""

    def peak(self) -> int:
        """The most that was allocated since."""

    def available(self) -> int:
        """All that this process has or can still get."""

    def wait(self) -> None:
        """Waits for the end of what the device was given."""


class CudaMeter:
    """The [`MemoryMeter`] of a GPU; what other processes hold is not available."""

    def __init__(self, device: torch.device) -> None:
        self._device = device

    def begin(self) -> int:
        """Forgets the peak; bytes allocated now."""
        torch.cuda.reset_peak_memory_stats(self._device)
        return torch.cuda.memory_allocated(self._device)

    def peak(self) -> int:
        """Most bytes allocated since."""
        return torch.cuda.max_memory_allocated(self._device)

    def available(self) -> int:
        """Bytes that this process has, and those that are free."""
        return torch.cuda.mem_get_info(self._device)[0] + torch.cuda.memory_reserved(self._device)

    def wait(self) -> None:
        """Waits for all kernels."""
        torch.cuda.synchronize(self._device)


class MeasuredBudget:
    """
    Learns how full micro-batches may be, and what it costs to run one more.

    The micro-steps of a process's first generation are not looked at: the optimizer has no state yet, and the first
    ones of any shape are slow.

    Args:
        meter ([`MemoryMeter`], *optional*):
            Of the device; `None` where it has none, and the budget of tokens stays as it is.

    Attributes:
        grown (`int`):
            Tokens that are known to fit: the budget, where it is more than without measuring.
        most (`int`):
            Tokens that are known not to be exceeded.
        micro_step_places (`float`, *optional*):
            What a micro-step costs besides its places, in places, once that is known; it then stays.
    """

    def __init__(self, meter: MemoryMeter | None = None) -> None:
        self.grown, self.most = 0, NO_LIMIT
        self.micro_step_places: float | None = None
        self._meter = meter
        self._observed: list[list[float]] = []  # (places, seconds) of micro-steps
        self._num_rollouts = 0  # of this process

    def of(self, default: int) -> int:
        """Tokens that a micro-batch may hold, where without measuring it would be `default`."""
        return max(min(max(default, self.grown), self.most), 1)

    @property
    def trial_places(self) -> float | None:
        """The cost of a micro-step to plan with: until it is known, nothing and everything (`None`) in turns."""
        if self.micro_step_places is not None:
            return self.micro_step_places
        return 0.0 if self._num_rollouts % 2 == 0 else None

    def begin_rollout(self, gather: Callable[[Tensor], Tensor], device: torch.device | str = "cpu") -> None:
        """
        Agrees with the other ranks, before a generation is dealt: the least of the budgets, and one cost for all.

        Args:
            gather (`Callable`):
                Gathers a tensor of each rank on all, as in [`deal`].
            device (`torch.device`, *optional*, defaults to `"cpu"`):
                Where the tensors to gather must be.
        """
        self._num_rollouts += 1
        if self._meter is not None:
            limits = gather(torch.tensor([[self.grown, self.most]], device=device))  # (R, 2)
            self.grown, self.most = limits.amin(0).tolist()
        if self.micro_step_places is None and len(self._observed) >= NUM_OBSERVED:
            observed = torch.tensor(self._observed, dtype=torch.float32, device=device)
            cost = places_per_micro_step(gather(observed).double().cpu())
            # should the ranks' arithmetic differ by a bit, what the first one found holds
            self.micro_step_places = float(gather(torch.tensor([cost], dtype=torch.float32, device=device))[0])
            self._observed = []

    @contextlib.contextmanager
    def measured(self, num_places: int) -> Iterator[None]:
        """
        Measures the micro-step that runs inside it.

        Args:
            num_places (`int`):
                Token places of its micro-batch, padding included: of the rank that has most.
        """
        is_looked_at = self._num_rollouts > 1
        is_timed = is_looked_at and self.micro_step_places is None
        if not is_looked_at or (self._meter is None and not is_timed):
            yield
            return
        before = 0 if self._meter is None else self._meter.begin()
        if is_timed and self._meter is not None:
            self._meter.wait()
        start = time.perf_counter()
        yield
        if is_timed:
            if self._meter is not None:
                self._meter.wait()
            self._observed.append([num_places, time.perf_counter() - start])
        if self._meter is not None:
            self.see(num_places, before, self._meter.peak(), self._meter.available())

    def see(self, num_places: int, before: int, peak: int, available: int) -> None:
        """
        Learns from the memory of a micro-step.

        What it took is taken to be in proportion to its places. Part of it is not, the gradients of the first
        micro-step above all, so the estimate is too high and the budget comes to the share from below.

        Args:
            num_places (`int`):
                Token places of its micro-batch.
            before (`int`):
                Bytes that were allocated before it.
            peak (`int`):
                Bytes that were allocated at most.
            available (`int`):
                Bytes that the process can have.
        """
        if peak <= before:
            return
        fitting = int(num_places * (MEMORY_SHARE * available - before) / (peak - before))
        if fitting < num_places:
            self.most = min(self.most, max(fitting, 1))
        else:
            self.grown = max(self.grown, min(fitting, MOST_GROWTH * num_places))

    def halve(self, num_places: int) -> int:
        """Learns that a micro-batch of so many places ran out of memory; the most that one may hold from now on."""
        self.most = min(self.most, max(num_places // 2, 1))
        return self.most

    def begin_anew(self) -> "MeasuredBudget":
        """One that knows nothing yet, for another training."""
        return MeasuredBudget(self._meter)

    def state(self) -> dict[str, Any]:
        """What goes with a checkpoint."""
        return {
            "grown": self.grown,
            "most": self.most,
            "micro_step_places": self.micro_step_places,
            "observed": self._observed,
            "num_rollouts": self._num_rollouts,
        }

    def load(self, state: Mapping[str, Any]) -> None:
        """Goes on from what [`state`] gave."""
        self.grown, self.most = state["grown"], state["most"]
        self.micro_step_places = state["micro_step_places"]
        self._observed, self._num_rollouts = state["observed"], state["num_rollouts"]


def places_per_micro_step(observed: Tensor) -> float:
    """
    What a micro-step costs besides its places, in places.

    Seconds are taken to be `fixed + per_place * places`. The slope is the median of those between pairs of micro-steps
    that differ in size, the constant the median of what is left (Theil and Sen): a micro-step that something else held
    up does not count for more than another.

    Args:
        observed (`torch.Tensor` of shape `(micro-steps, 2)`):
            Places and seconds.

    Returns:
        `float`: `fixed / per_place`; 0 where nothing is fixed, and `NO_LIMIT` where places cost nothing that shows

    Example:
    ```python
    >>> places_per_micro_step(torch.tensor([[100.0, 1.5], [200.0, 2.5], [300.0, 3.5]]))  # 0.5 s and 0.01 s a place
    50.0
    ```
    """
    places, seconds = observed.unbind(1)
    first, second = torch.triu_indices(len(places), len(places), offset=1)
    differs = (places[first] - places[second]).abs() > 0.1 * places[first]
    first, second = first[differs], second[differs]
    slopes = (seconds[first] - seconds[second]) / (places[first] - places[second])
    per_place = float(slopes.quantile(0.5)) if len(slopes) else 0.0
    if per_place <= 0:
        return float(NO_LIMIT)
    fixed = float((seconds - per_place * places).quantile(0.5))
    return max(fixed / per_place, 0.0)
