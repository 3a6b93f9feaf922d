r"""The nodes of which an answer is made: numbers, lists, intervals, equations, words."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from . import words
from .normal_form import Form
from .terms import Term
from .units import Unit


@dataclass(frozen=True, slots=True)
class Node:
    """
    A part of an answer.

    Attributes:
        tokens (`tuple[str, ...]`):
            Its normal form.
    """

    tokens: Form


@dataclass(frozen=True, slots=True)
class Scalar(Node):
    """A number or an expression, with its unit."""

    term: Term
    unit: Unit | None = None


@dataclass(frozen=True, slots=True)
class Infinite(Node):
    """Infinity; `sign` is 1 or -1."""

    sign: int


@dataclass(frozen=True, slots=True)
class Words(Node):
    """Words, of which the tables may know what they mean."""

    phrase: words.Phrase


@dataclass(frozen=True, slots=True)
class Prose(Node):
    """A sentence that names no concept of the tables."""


@dataclass(frozen=True, slots=True)
class Collection(Node):
    r"""
    Several parts. `brackets` are `""` of a bare list and `"\\{\\}"` of a set, which have no order, and else as they
    written: `"()"`, `"[]"`, `"[)"`. The open ends of French intervals, `]0, 1[`, are parentheses.
    """

    items: tuple[Node, ...]
    brackets: str = ""


@dataclass(frozen=True, slots=True)
class Numbers(Node):
    r"""A set of numbers, `\R`, `\Z`, by its `letter`."""

    letter: str


@dataclass(frozen=True, slots=True)
class Union(Node):
    """Sets or conditions of which one holds."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Intersection(Node):
    """Sets or conditions that all hold."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Difference(Node):
    """A set without another."""

    whole: Node
    removed: Node


@dataclass(frozen=True, slots=True)
class Inequality(Node):
    r"""Sides with the operators between them, of `<`, `\le`, `\ne`: `>` is turned."""

    sides: tuple[Node, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Equation(Node):
    """Two sides, neither of which is a name."""

    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Chain(Node):
    """Sides that are said to be equal, the last of which is the answer; `roundings` come after it."""

    sides: tuple[Node, ...]
    roundings: tuple[Node, ...] = ()


@dataclass(frozen=True, slots=True)
class Named(Node):
    """A value with what it is called, `x` of `x = 5`; with all names of `x = y = 0`."""

    names: tuple[Form, ...]
    value: Node


@dataclass(frozen=True, slots=True)
class Conditioned(Node):
    r"""A value with what has to hold: `\frac1x, x \ne 0`."""

    value: Node
    conditions: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Matrix(Node):
    """Rows of cells; `kind` is `""` where the brackets do not matter, `"det"` between bars, else `"layout"`."""

    rows: tuple[tuple[Node, ...], ...]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Cases(Node):
    """A case distinction."""


@dataclass(frozen=True, slots=True)
class Ratio(Node):
    """Parts between colons."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Based(Node):
    """Digits with the base that they are written in."""

    digits: str
    base: int


@dataclass(frozen=True, slots=True)
class Modular(Node):
    """A remainder with its modulus."""

    value: Node
    modulus: Node


@dataclass(frozen=True, slots=True)
class Option(Node):
    """A letter to choose, with what it stands for if that is told."""

    letter: str
    value: Node | None = None


@dataclass(frozen=True, slots=True)
class Clock(Node):
    """A time of day in minutes after midnight; `half` is `"am"`, `"pm"` or empty."""

    minutes: Fraction
    half: str


@dataclass(frozen=True, slots=True)
class Opaque(Node):
    """What is not understood."""


def parts_of(node: Node) -> Iterator[Node]:
    """The nodes that a node is made of."""
    match node:
        case Collection() | Union() | Intersection() | Ratio():
            yield from node.items
        case Difference(_, first, second) | Equation(_, first, second) | Modular(_, first, second):
            yield from (first, second)
        case Inequality():
            yield from node.sides
        case Chain():
            yield from node.sides
        case Named():
            yield node.value
        case Conditioned():
            yield from (node.value, *node.conditions)
        case Matrix():
            for row in node.rows:
                yield from row
        case Option() if node.value is not None:
            yield node.value


def is_whole(node: Node) -> bool:
    """Whether a reading is whole: there is nothing in it that is not understood."""
    if isinstance(node, Opaque):
        return False
    if isinstance(node, Words):
        return bool(words.concepts_of(node.phrase))
    return all(map(is_whole, parts_of(node)))


def is_pair(node: Node) -> bool:
    """Whether this is a point of two coordinates or an interval."""
    return isinstance(node, Collection) and len(node.items) == 2 and node.brackets in ("()", "[]", "(]", "[)")


def is_interval(node: Node) -> bool:
    """Whether this is an interval and no point: half open, or endless."""
    if not (isinstance(node, Collection) and is_pair(node)):
        return False
    return node.brackets in ("(]", "[)") or any(isinstance(item, Infinite) for item in node.items)
