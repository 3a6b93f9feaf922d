"""The study's world: problems that strategies solve, an author who wrote about them, the texts that were published.

A problem is 30 random bits. Which of 40 strategies work on it depends on a few of the bits and their products, and on
chance, so that a network learns a part of it. An answer is two tokens: a strategy, and how it was carried out, which
is cleanly or with one of three slips, which are always wrong.

It is a toy, chosen after seeing that it shows the paper's effect: a few strategies are popular, rare ones are needed,
and there are errors that are always errors.

P problems, S = 40 strategies.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


NUM_BITS = 30
NUM_STRATEGIES = 40
NUM_EXECUTIONS = 4  # the first is clean, the others are slips
CLEAN = 0

BITS_PER_STRATEGY = 3  # and as many products of two bits
LEARNABLE = 1.5  # what those bits weigh in whether a strategy works
AUTHOR_POPULARITY = 3.0  # what popularity weighs in the author's choice,
AUTHOR_INSIGHT = 3.0  # and that a strategy works
POPULAR_WORK = 0.5  # popular strategies work more often
PUBLISHED_FAILURES = 0.1  # of the texts with a strategy that fails
SLIPS = 0.6  # of the texts

PURPOSES = ("world", "base", "training problems", "test problems", "training")


class Problems(NamedTuple):
    """
    Problems.

    Attributes:
        bits (`torch.Tensor` of shape `(P, 30)`):
            What a policy sees of them, +1 and -1.
        works (`torch.Tensor` of shape `(P, S)` and dtype `bool`):
            Which strategies solve them, at least one.
    """

    bits: Tensor
    works: Tensor


@dataclass
class World:
    """
    One draw of strategies.

    Args:
        seed (`int`):
            Of everything that is drawn.
        author_success (`float`):
            How often the author chooses a strategy that works, between 0 and 1. The difficulty of the problems is set
            so that this holds.
    """

    seed: int
    author_success: float

    def __post_init__(self) -> None:
        generator = self.generator("world")
        self._popularity = torch.randn(NUM_STRATEGIES, generator=generator)
        chosen = torch.rand(NUM_STRATEGIES, 2, NUM_BITS, generator=generator).argsort(-1)  # (S, 2, 30)
        self._singles = chosen[:, 0, :BITS_PER_STRATEGY]
        self._pairs = chosen[:, 1, : 2 * BITS_PER_STRATEGY].view(NUM_STRATEGIES, BITS_PER_STRATEGY, 2)
        weights = torch.randn(NUM_STRATEGIES, 2 * BITS_PER_STRATEGY, generator=generator)
        self._weights = weights / math.sqrt(2 * BITS_PER_STRATEGY)
        easy, hard = 15.0, -20.0
        for _ in range(24):
            self.difficulty = (easy + hard) / 2
            works = self.problems(4000, generator).works
            success = (self._author(works) * works).sum(1).mean()
            easy, hard = (self.difficulty, hard) if success > self.author_success else (easy, self.difficulty)

    def generator(self, purpose: str) -> torch.Generator:
        """Random numbers of this world for one purpose: what one of them uses up does not move the others."""
        return torch.Generator().manual_seed(len(PURPOSES) * self.seed + PURPOSES.index(purpose))

    def problems(self, num: int, generator: torch.Generator) -> Problems:
        """Draws problems."""
        bits = 2.0 * torch.randint(2, (num, NUM_BITS), generator=generator) - 1
        features = torch.cat([bits[:, self._singles], bits[:, self._pairs].prod(-1)], dim=-1)  # (P, S, 6)
        affinity = (features * self._weights).sum(-1)  # (P, S), variance 1 on average
        chance = torch.sigmoid(LEARNABLE * affinity + POPULAR_WORK * self._popularity + self.difficulty)
        works = torch.rand(num, NUM_STRATEGIES, generator=generator) < chance
        likely = torch.multinomial(chance, 1, generator=generator)  # (P, 1)
        works |= torch.zeros_like(works).scatter(1, likely, ~works.any(1, keepdim=True))  # at least one
        return Problems(bits, works)

    def texts(self, num: int, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """
        Draws published texts, to pretrain on.

        Returns:
            `tuple` of the problems' bits `(num, 30)`, the strategies `(num,)` and the executions `(num,)`.
        """
        bits, works = self.problems(num, generator)
        published = self._author(works) * torch.where(works, 1.0, PUBLISHED_FAILURES)
        strategies = torch.multinomial(published, 1, generator=generator)[:, 0]
        slips = torch.randint(1, NUM_EXECUTIONS, (num,), generator=generator)
        is_slip = torch.rand(num, generator=generator) < SLIPS
        return bits, strategies, torch.where(is_slip, slips, CLEAN)

    def _author(self, works: Tensor) -> Tensor:
        """What the author chooses: the probability of each strategy, `(P, S)`."""
        return torch.softmax(AUTHOR_POPULARITY * self._popularity + AUTHOR_INSIGHT * works, dim=1)
