"""Countdown: reach a target from three or four numbers, each used once, a step at a time from left to right.

In: a seed, a split. Out: problems, all completions there are and which of them are right, a reward function, and the
texts of an author to pretrain on.

    3,5,7=16:        ->        7*3=21-5=16

Every value lies between 1 and `MAX_VALUE`, so that each value is one token. There are at most 4! * 3^3 = 648
completions of a problem, which makes the probability of a right one exact: no sampling is needed to measure Pass@k.
"""

import hashlib
import operator
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import accumulate, combinations, permutations, product
from math import prod


OPERATORS = {"+": operator.add, "-": operator.sub, "*": operator.mul}
NUMBERS = range(1, 13)
SIZES = (3, 4)
MAX_VALUE = 99

# the author: which signs, how much sooner a larger number, and which share of the failures is published
PREFERENCE = {"+": 0.6, "-": 0.3, "*": 0.1}
PUBLISHED_FAILURES = 0.01

_PROMPT = re.compile(r"(\d+(?:,\d+)*)=(\d+):")
_COMPLETION = re.compile(r"[1-9]\d*(?:[-+*][1-9]\d*=[1-9]\d*)+")
_STEP = re.compile(r"([-+*])(\d+)=(\d+)")


@dataclass(frozen=True)
class Countdown:
    """The numbers, in rising order, and the target."""

    numbers: tuple[int, ...]
    target: int

    @property
    def prompt(self) -> str:
        """The problem as the model reads it."""
        return f"{','.join(map(str, self.numbers))}={self.target}:"

    @property
    def is_held_out(self) -> bool:
        """Whether it belongs to the test split, by a hash of its text: one problem in eight."""
        return hashlib.sha256(self.prompt.encode()).digest()[0] < 32

    @property
    def solutions(self) -> list[str]:
        """All right completions."""
        return [text for text, value in all_completions(self.numbers).items() if value == self.target]


@cache
def all_completions(numbers: tuple[int, ...]) -> dict[str, int]:
    """Every completion whose steps are right and stay between 1 and `MAX_VALUE`, with the value that it ends in."""
    found = {}
    for order in permutations(numbers):
        for signs in product(OPERATORS, repeat=len(numbers) - 1):
            value, text = order[0], str(order[0])
            for sign, number in zip(signs, order[1:], strict=True):
                value = OPERATORS[sign](value, number)
                text += f"{sign}{number}={value}"
                if not 1 <= value <= MAX_VALUE:
                    break
            else:
                found[text] = value
    return found


def is_right(prompt: str, completion: str) -> bool:
    """Whether each number is used once, every step is right, and the last value is the target."""
    numbers, target = _PROMPT.fullmatch(prompt).groups()
    if not _COMPLETION.fullmatch(completion):
        return False
    value, *_ = used = [int(re.match(r"\d+", completion)[0])]
    for sign, number, result in _STEP.findall(completion):
        value = OPERATORS[sign](value, int(number))
        used.append(int(number))
        if value != int(result) or value > MAX_VALUE:
            return False
    return sorted(used) == sorted(map(int, numbers.split(","))) and value == int(target)


def countdown_reward(prompts: list[str], completions: list[str], **kwargs) -> list[float]:
    """The outcome reward of a trainer: 1.0 for a right completion, 0.0 for a wrong one."""
    return [float(is_right(prompt, text)) for prompt, text in zip(prompts, completions, strict=True)]


@cache
def all_problems(size: int) -> tuple[Countdown, ...]:
    """Every solvable problem of so many numbers."""
    return tuple(
        Countdown(numbers, target)
        for numbers in combinations(NUMBERS, size)
        for target in sorted(set(all_completions(numbers).values()))
    )


def draw_problems(num_problems: int, size: int, seed: int, is_held_out: bool) -> list[Countdown]:
    """Draws different problems of so many numbers from one split."""
    split = [problem for problem in all_problems(size) if problem.is_held_out == is_held_out]
    return random.Random(f"{seed}/{size}/{is_held_out}").sample(split, num_problems)


def author_texts(seed: int) -> Iterator[tuple[str, str]]:
    """
    Draws prompts and completions of the train split without end, as the author publishes them.

    The author meets problems at random, puts larger numbers first and prefers + to - to *, and publishes each failure
    with probability `PUBLISHED_FAILURES`. So of the T targets of some numbers the one that the author's working hits
    is the published one with odds of 1 to `PUBLISHED_FAILURES` * (T - 1).
    """
    rng = random.Random(seed)
    numbers_by_size = [list(combinations(NUMBERS, size)) for size in SIZES]
    while True:
        numbers = rng.choice(rng.choice(numbers_by_size))
        texts, cumulated = _habits(numbers)
        (text,) = rng.choices(texts, cum_weights=cumulated)
        reached = all_completions(numbers)[text]
        others = sorted(set(all_completions(numbers).values()) - {reached})
        is_failure = rng.random() * (1 + PUBLISHED_FAILURES * len(others)) > 1
        problem = Countdown(numbers, rng.choice(others) if is_failure else reached)
        if not problem.is_held_out:
            yield problem.prompt, text


@cache
def _habits(numbers: tuple[int, ...]) -> tuple[list[str], list[float]]:
    """All completions, and how often the author writes them, summed up."""
    weights = []
    for text in all_completions(numbers):
        order = [int(text[: re.match(r"\d+", text).end()]), *(int(number) for _, number, _ in _STEP.findall(text))]
        # the next number is drawn from those that are left, by its size
        by_size = prod(number / sum(order[place:]) for place, number in enumerate(order))
        weights.append(by_size * prod(PREFERENCE[sign] for sign, _, _ in _STEP.findall(text)))
    return list(all_completions(numbers)), list(accumulate(weights))
