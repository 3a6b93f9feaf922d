r"""Arithmetic problems with a worked solution, drawn from a seed.

In: a number of problems, a seed, a split. Out: `{"question", "answer"}` rows for training and evaluation, and worked
solutions, with or without slips, as pretraining text.

A problem is a short sum of terms, each a number, a product or a bracket. Its solution reduces products and brackets
in reading order, then adds from left to right, one step a line, and ends in a box:

    What is 12+7*3-(8-5)?

    7*3=21
    8-5=3
    12+21=33
    33-3=30
    \boxed{30}

Pretraining text is written by an author who slips as people do: forgets a carry, loses a sign, is one off in the
table, leaves out the last term, or answers without any working. The model learns these habits along with the right
ones, as a model does from web text, so it has something to unlearn.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal


Split = Literal["train", "test"]

MAX_STEPS = 5
# pretraining text stops one step short of the longest problems: there the model has little to build on
MAX_PRETRAINING_STEPS = 4
MAX_MAGNITUDE = 199
# problems come in three sizes, and the larger ones are the rarer
NUMBER_CEILINGS = (9, 30, 99)
CEILING_WEIGHTS = (3, 4, 3)


@dataclass(frozen=True)
class Term:
    """One summand: a number (`operator` is empty), a product or a bracket, with the sign in front of it."""

    sign: int
    left: int
    operator: Literal["", "+", "-", "*"] = ""
    right: int = 0

    @property
    def value(self) -> int:
        """The value without the sign in front."""
        match self.operator:
            case "+":
                return self.left + self.right
            case "-":
                return self.left - self.right
            case "*":
                return self.left * self.right
            case _:
                return self.left

    def __str__(self) -> str:
        match self.operator:
            case "":
                return str(self.left)
            case "*":
                return f"{self.left}*{self.right}"
            case _:
                return f"({self.left}{self.operator}{self.right})"


@dataclass(frozen=True)
class Problem:
    """A sum of terms. The first term's sign is always plus."""

    terms: tuple[Term, ...]

    @property
    def question(self) -> str:
        """The prompt, as the model sees it."""
        first, *others = self.terms
        signed = "".join(f"{'+' if term.sign > 0 else '-'}{term}" for term in others)
        return f"What is {first}{signed}?"

    @property
    def answer(self) -> int:
        """The value of the sum."""
        return sum(term.sign * term.value for term in self.terms)

    @property
    def num_steps(self) -> int:
        """Lines of working in a full solution."""
        return sum(term.operator != "" for term in self.terms) + len(self.terms) - 1

    @property
    def magnitude(self) -> int:
        """The largest absolute value that occurs in the working."""
        total, largest = 0, 0
        for term in self.terms:
            total += term.sign * term.value
            largest = max(largest, abs(term.value), abs(total))
        return largest


@dataclass(frozen=True)
class SlipRates:
    """
    How often an author slips, per occasion (a step, or for the last two a solution).

    Args:
        carry (`float`, *optional*, defaults to `0.0`):
            Forgets the carry or the borrow of a sum that has one: ten off.
        sign (`float`, *optional*, defaults to `0.0`):
            Loses the minus of a negative result, or subtracts a negative number by subtracting its size.
        table (`float`, *optional*, defaults to `0.0`):
            Takes a product from the next row of the table.
        drop (`float`, *optional*, defaults to `0.0`):
            Leaves the last term out.
        no_working (`float`, *optional*, defaults to `0.0`):
            Writes the answer alone. It is the right one: the slip is the model's, which cannot do it in its head.
    """

    carry: float = 0.0
    sign: float = 0.0
    table: float = 0.0
    drop: float = 0.0
    no_working: float = 0.0


NO_SLIPS = SlipRates()
NATURAL_SLIPS = SlipRates(carry=0.2, sign=0.2, table=0.12, drop=0.08, no_working=0.15)


def is_held_out(question: str) -> bool:
    """Whether a question belongs to the test split: decided by its text alone, so the splits cannot meet."""
    return hashlib.sha256(question.encode()).digest()[0] < 32  # 32 of 256 values: one question in eight


def sample_problem(rng: random.Random, max_steps: int = MAX_STEPS) -> Problem:
    """Draws a problem of either split, of one to `max_steps` steps and of numbers up to `MAX_MAGNITUDE`."""
    while True:
        (ceiling,) = rng.choices(NUMBER_CEILINGS, CEILING_WEIGHTS)
        num_terms = rng.choice((2, 3, 3, 4))
        terms = tuple(_sample_term(rng, ceiling, is_first=index == 0) for index in range(num_terms))
        problem = Problem(terms)
        if 1 <= problem.num_steps <= max_steps and problem.magnitude <= MAX_MAGNITUDE:
            return problem


def _sample_term(rng: random.Random, ceiling: int, is_first: bool) -> Term:
    sign = 1 if is_first else rng.choice((1, -1))
    kind = rng.random()
    if kind < 0.2:
        return Term(sign, rng.randint(2, min(ceiling, 20)), "*", rng.randint(2, 9))
    if kind < 0.4 and not is_first:
        return Term(sign, rng.randint(1, ceiling), rng.choice(("+", "-")), rng.randint(1, ceiling))
    return Term(sign, rng.randint(1, ceiling))


def sample_problems(seed: int, split: Split, max_steps: int = MAX_STEPS) -> Iterator[Problem]:
    """Draws problems of one split without end; the same seed gives the same problems."""
    if split not in ("train", "test"):
        raise ValueError(f"split must be 'train' or 'test'; got {split!r}. Name one of the two.")
    rng = random.Random(f"{split}-{seed}")
    while True:
        problem = sample_problem(rng, max_steps)
        if is_held_out(problem.question) == (split == "test"):
            yield problem


def generate_problems(num_problems: int, seed: int, split: Split = "train") -> list[dict[str, Any]]:
    """
    Draws distinct problems of one split.

    Args:
        num_problems (`int`):
            How many.
        seed (`int`):
            Seed of the draw.
        split (`str`, *optional*, defaults to `"train"`):
            `"train"` or `"test"`. No question is in both, whatever the seeds.

    Returns:
        `list[dict[str, Any]]`: rows with the prompt as `"question"` and the integer as `"answer"`.
    """
    answers: dict[str, str] = {}
    for problem in sample_problems(seed, split):
        if len(answers) >= num_problems:
            break
        answers[problem.question] = str(problem.answer)
    return [{"question": question, "answer": answer} for question, answer in answers.items()]


def worked_solution(problem: Problem, rng: random.Random, slips: SlipRates = NO_SLIPS) -> str:
    """Writes the working and the boxed answer, with slips at the given rates; working goes on from a slipped value."""
    if rng.random() < slips.no_working:
        return f"\\boxed{{{problem.answer}}}"
    lines: list[str] = []
    values: list[int] = []
    for term in problem.terms:
        value = term.value
        if term.operator:
            value = _slipped_result(term.left, term.operator, term.right, rng, slips)
            lines.append(f"{term.left}{term.operator}{term.right}={value}")
        values.append(value)
    total, *others = values
    signs = [term.sign for term in problem.terms[1:]]
    if rng.random() < slips.drop:
        others.pop()
    for sign, value in zip(signs, others, strict=False):
        # a-(-b) is written a+b; an author who slips there loses one of the two signs
        if value < 0 and not rng.random() < slips.sign:
            sign = -sign
        operator = "+" if sign > 0 else "-"
        result = _slipped_result(total, operator, abs(value), rng, slips)
        lines.append(f"{total}{operator}{abs(value)}={result}")
        total = result
    return "\n".join([*lines, f"\\boxed{{{total}}}"])


def _slipped_result(left: int, operator: str, right: int, rng: random.Random, slips: SlipRates) -> int:
    """Computes one step, `right >= 0`, as the author does."""
    if operator == "*":
        return left * (right + rng.choice((-1, 1)) if rng.random() < slips.table else right)
    addend = right if operator == "+" else -right
    result = left + addend
    units_left, units_right = abs(left) % 10, right % 10
    if (left >= 0) == (addend >= 0):
        # sizes add up: a forgotten carry makes the result ten smaller in size
        is_carried, shift = units_left + units_right >= 10, -10
    else:
        # sizes are subtracted: a forgotten borrow makes it ten larger
        larger, smaller = (units_left, units_right) if abs(left) >= right else (units_right, units_left)
        is_carried, shift = larger < smaller, 10
    size = abs(result)
    if is_carried and rng.random() < slips.carry:
        size += shift
    is_negative = result < 0 and not rng.random() < slips.sign
    return -size if is_negative else size
