r"""What an answer is made of: a normal form goes in, a tree of parts comes out.

The separators (commas, `and`, `or`) are split first, then `\cup`, relations, brackets and units, until scalars and
words are left. Nothing is evaluated here.
"""

from dataclasses import dataclass, replace
from enum import Enum

from .arithmetic import DIGITS, MAX_DEPTH, TooLargeError
from .normal_form import Form, is_word


MAX_PARTS = 32
"""Most parts of a list, a tuple or a chain."""


class Kind(Enum):
    """What a part is."""

    SCALAR = "scalar"
    """A number or an expression."""
    LIST = "list"
    r"""Unordered: `1, 2`, `\{1, 2\}`, `\pm 1`, the one-element `[5]`."""
    TUPLE = "tuple"
    """Ordered in brackets, which count: a point, a vector, an interval."""
    UNION = "union"
    MATRIX = "matrix"
    """A list of rows; `label` is its environment, empty where the brackets do not matter."""
    RELATION = "relation"
    """An equation or inequality that is no interval; `label` is the operator."""
    RATIO = "ratio"
    BASE = "base"
    """A number with its base, which is the `label`."""
    WORDS = "words"


@dataclass(frozen=True, slots=True)
class Part:
    r"""
    A part of an answer.

    Attributes:
        kind ([`Kind`]):
            What it is.
        tokens (`tuple[str, ...]`):
            Its normal form without name and unit.
        items (`tuple[Part, ...]`):
            What it is made of.
        label (`str`):
            Brackets, operator, base or environment.
        name (`tuple[str, ...]`):
            What it is called: `x` of `x = 5`.
        unit (`tuple[str, ...]`):
            `("\%",)`, `("\$",)`, `("cm", "^", "2")`.
        is_inequality (`bool`):
            An interval that was written as an inequality.
        is_chain (`bool`):
            The end of `a = b = c`, whose names are left out.
    """

    kind: Kind
    tokens: Form
    items: tuple["Part", ...] = ()
    label: str = ""
    name: Form = ()
    unit: Form = ()
    is_inequality: bool = False
    is_chain: bool = False


_OPEN = frozenset(["(", "[", "{", "\\{", "\\begin"])
_CLOSE = frozenset([")", "]", "}", "\\}", "\\end"])
_SEPARATORS = frozenset([",", ";", "and", "or"])
_EQUALITIES = frozenset(["=", "\\approx"])
_TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
_OPERATORS = _EQUALITIES | _TURNED.keys() | {"\\ne", "\\in"}
_MATRICES = {"pmatrix": "", "bmatrix": "", "vmatrix": "det", "matrix": "layout", "array": "layout"}
_SUFFIX_UNITS = ("\\%", "\\degree")
_NO_UNITS = frozenset(
    "no not none undefined impossible exist exists solution solutions infinite infinitely is are cannot the "
    "plus minus times divided over squared cubed half thousand million billion dozen hundred".split()
)
_INFINITY = ("\\infty",)


def read(form: Form, depth: int = 0) -> Part:
    """
    Takes an answer apart.

    Args:
        form (`tuple[str, ...]`):
            Normal form.
        depth (`int`, *optional*, defaults to `0`):
            Nesting so far.

    Returns:
        [`Part`]

    Raises:
        TooLargeError: If there are too many parts, or they nest too deep.
    """
    if depth > MAX_DEPTH:
        raise TooLargeError
    form = _trim(form)
    words = [token for token in form if is_word(token) and token not in _SEPARATORS]
    if len(words) >= 3 and any(word.lower() in _NO_UNITS for word in words) and "=" not in form:
        return Part(Kind.WORDS, form)  # a sentence, whatever its commas
    pieces = _split(form, _SEPARATORS)
    if len(pieces) > 1:
        parts = [read(piece, depth + 1) for piece in pieces]
        is_system = all(part.is_inequality for part in parts) and "or" not in form
        if is_system or len({token for token in form if token in (",", ";")}) > 1:
            return Part(Kind.SCALAR, form)  # x > 2 and x < 5; x = 1, y = 2; x = 2, y = 1
        if "or" in form and all(part.is_inequality for part in parts):
            return Part(Kind.UNION, form, tuple(parts), name=parts[0].name, is_inequality=True)
        return _list(form, parts)
    form = pieces[0] if pieces else ()
    if len(pieces := _split(form, {"\\cup"})) > 1:
        return Part(Kind.UNION, form, tuple(read(piece, depth + 1) for piece in pieces))
    if any(token in _OPERATORS for token in form):
        sides, operators = _sides(form)
        if operators:
            return _read_relation(form, sides, operators, depth)
    return _read_object(form, depth)


def _read_object(form: Form, depth: int) -> Part:
    if form[:1] == ("\\begin",) and form[-2:-1] == ("\\end",) and len(form) > 4 and form[1] in _MATRICES:
        rows = _split(form[2:-2] if form[1] != "array" else _skip_columns(form[2:-2]), {"\\\\"})
        parts = tuple(
            Part(Kind.TUPLE, row, tuple(read(cell, depth + 1) for cell in _split(row, {"&"}, is_strict=True)))
            for row in rows
        )
        return Part(Kind.MATRIX, form, parts, label=_MATRICES[form[1]])
    if form[:1] == ("\\begin",):  # a case distinction
        return Part(Kind.SCALAR, form)
    if form and form[0] in _OPEN and _end_of_group(form) == len(form) - 1:
        return _read_brackets(form, depth)
    if ":" in form and len(pieces := _split(form, {":"})) > 1:
        if all(map(is_word, pieces[0])):  # Answer: 5
            rest = form[len(pieces[0]) + 1 :]
            return replace(read(rest, depth + 1), name=pieces[0])
        return Part(Kind.RATIO, form, tuple(read(piece, depth + 1) for piece in pieces))
    for sign in ("\\pm", "\\mp"):
        if sign in form:
            if "," in form:
                return Part(Kind.SCALAR, form)
            turned = {"\\pm": "-", "\\mp": "+"}
            straight = {"\\pm": "+", "\\mp": "-"}
            both = [tuple(signs.get(token, token) for token in form) for signs in (straight, turned)]
            return _list(form, [read(_drop_plus(one), depth + 1) for one in both])
    if "_" in form and (based := _read_base(form)):
        return based
    return _read_scalar(form)


def _read_brackets(form: Form, depth: int) -> Part:
    content = form[1:-1]
    pieces = _split(content, _SEPARATORS)
    brackets = form[0] + form[-1]
    if brackets in ("\\{\\}", "{}"):
        if not pieces:
            return Part(Kind.SCALAR, ("\\emptyset",))
        if brackets == "{}" and len(pieces) <= 1:
            return replace(read(content, depth + 1), tokens=form)
        if any(token in ("\\mid", "|", ":") for token in content):  # x such that
            return Part(Kind.SCALAR, form)
        return _list(form, [read(piece, depth + 1) for piece in pieces], "\\{\\}")
    if len(pieces) > 1:
        parts = tuple(read(piece, depth + 1) for piece in pieces)
        _check_number(parts)
        return Part(Kind.TUPLE, form, parts, label=brackets)
    if brackets == "[]":
        return _list(form, [read(content, depth + 1)], "[]")
    inner = read(content, depth + 1)
    return replace(inner, tokens=form) if inner.kind is Kind.SCALAR else inner


def _list(form: Form, parts: list[Part], label: str = "") -> Part:
    items: list[Part] = []
    for part in parts:
        is_flat = part.kind is Kind.LIST and not part.label
        items.extend(part.items if is_flat else [part])
    _check_number(items)
    # the name of a bare list stands before its first item
    name = items[0].name if items and not any(item.name for item in items[1:]) else ()
    return Part(Kind.LIST, form, tuple(items), label=label, name=name)


def _check_number(parts: "tuple[Part, ...] | list[Part]") -> None:
    if len(parts) > MAX_PARTS:
        raise TooLargeError


def _read_relation(form: Form, sides: list[Form], operators: list[str], depth: int) -> Part:
    if operators[-1] == "\\approx" and len(sides) > 2:  # x = 1/3 \approx 0.33: the exact value comes first
        sides, operators = sides[:-1], operators[:-1]
    first, last = sides[0], sides[-1]
    if not first or not last:
        return Part(Kind.SCALAR, form)
    if operators == ["\\in"]:
        return replace(read(last, depth + 1), name=first)
    if set(operators) <= _EQUALITIES:
        if _is_name(first):
            value = read(last, depth + 1)
            return replace(value, name=first) if len(sides) == 2 else replace(value, name=(), is_chain=True)
        if operators == ["\\approx"]:
            return read(first, depth + 1)
        if len(sides) == 2 and _is_letter(last):
            return replace(read(first, depth + 1), name=last)
    elif interval := _read_interval(form, sides, operators):
        return interval
    if len(sides) > 2:
        return Part(Kind.SCALAR, form)
    operator = operators[0]
    if operator in (">", "\\ge"):
        operator, sides = _TURNED[operator], [last, first]
    return Part(Kind.RELATION, form, tuple(_read_scalar(side) for side in sides), label=operator)


def _read_interval(form: Form, sides: list[Form], operators: list[str]) -> Part | None:
    r"""`x \le 5` or `2 < x \le 5` as an interval with the name `x`."""
    if any(operator not in _TURNED for operator in operators):
        return None
    if operators[0] in (">", "\\ge"):
        sides, operators = sides[::-1], [_TURNED[operator] for operator in operators[::-1]]
    if any(operator not in ("<", "\\le") for operator in operators):
        return None
    if len(sides) == 2 and _is_letter(sides[0]):
        sides, operators = [("-", *_INFINITY), *sides], ["<", *operators]
    elif len(sides) == 2 and _is_letter(sides[1]):
        sides, operators = [*sides, _INFINITY], [*operators, "<"]
    if len(sides) != 3 or not _is_letter(sides[1]):
        return None
    brackets = {"<": "(", "\\le": "["}[operators[0]] + {"<": ")", "\\le": "]"}[operators[1]]
    ends = (_read_scalar(sides[0]), _read_scalar(sides[2]))
    return Part(Kind.TUPLE, form, ends, label=brackets, name=sides[1], is_inequality=True)


def _read_base(form: Form) -> Part | None:
    start = form.index("_")
    digits, base = form[:start], [token for token in form[start + 1 :] if token not in ("{", "}")]
    sign = digits[:1] == ("-",)
    is_number = digits[sign:] and all(
        token.isascii() and token.isalnum() and len(token) == 1 for token in digits[sign:]
    )
    if is_number and digits[sign] in DIGITS and 1 <= len(base) <= 2 and DIGITS.issuperset(base):
        return Part(Kind.BASE, digits, label="".join(base))
    return None


def _read_scalar(form: Form) -> Part:
    unit: Form = ()
    if form[:1] == ("\\$",):
        unit, form = form[:1], form[1:]
    elif form[:2] == ("-", "\\$"):
        unit, form = form[1:2], ("-", *form[2:])
    start = next((i for i, token in enumerate(form) if is_word(token)), len(form))
    if start < len(form):
        tail = form[start:]
        while tail[-1:] == (".",):
            tail = tail[:-1]
        is_quantity = any(token in DIGITS or token[0] == "\\" for token in form[:start])
        is_unit = is_quantity and all(token not in DIGITS or tail[i - 1] in "^-" for i, token in enumerate(tail))
        is_plain = all(is_word(token) or token in "^/.-()\\cdot" or token.isalnum() for token in tail)
        if not (is_unit and is_plain) or not _NO_UNITS.isdisjoint(token.lower() for token in tail):
            return Part(Kind.WORDS, form)
        unit, form = unit or tail, form[:start]
    if form[-1:] == ("\\$",) and not unit:
        unit, form = form[-1:], form[:-1]
    if form[-1:] and form[-1] in _SUFFIX_UNITS:
        unit, form = unit or form[-1:], form[:-1]
    return Part(Kind.SCALAR, form, unit=tuple(token.lower() for token in unit))


def _trim(form: Form) -> Form:
    while form and form[0] in (",", " "):
        form = form[1:]
    while form and form[-1] in (",", " "):
        form = form[:-1]
    return form


def _split(form: Form, separators: "set[str] | frozenset[str]", is_strict: bool = False) -> list[Form]:
    """Pieces between separators outside all brackets, empty ones left out unless strict."""
    pieces: list[Form] = []
    depth = start = 0
    for i, token in enumerate(form):
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth == 0 and token in separators:
            pieces.append(form[start:i])
            start = i + 1
    pieces.append(form[start:])
    return [piece for piece in pieces if piece or is_strict]


def _sides(form: Form) -> tuple[list[Form], list[str]]:
    sides: list[Form] = []
    operators: list[str] = []
    depth = start = 0
    for i, token in enumerate(form):
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth == 0 and token in _OPERATORS:
            sides.append(form[start:i])
            operators.append(token)
            start = i + 1
    return [*sides, form[start:]], operators


def _end_of_group(form: Form) -> int:
    depth = 0
    for i, token in enumerate(form):
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth == 0:
            return i
    return -1


def _is_name(form: Form) -> bool:
    """Whether this is what an answer is called (`x`, `f(x)`, `|AB|`) rather than a side of an equation."""
    depth = 0
    for i, token in enumerate(form):
        depth += (token in _OPEN) - (token in _CLOSE)
        if depth == 0 and i > 0 and token in ("+", "-", "\\pm", "\\cdot"):
            return False
    return any(token.isalpha() or (token[0] == "\\" and token[1:].isalpha() and token != "\\frac") for token in form)


def _is_letter(form: Form) -> bool:
    is_alone = len(form) == 1 or (len(form) == 3 and form[1] == "_")
    return is_alone and not is_word(form[0]) and form[0].lstrip("\\").isalpha() and form != _INFINITY


def _drop_plus(form: Form) -> Form:
    return form[1:] if form[:1] == ("+",) else form


def _skip_columns(form: Form) -> Form:
    """The content of an array without its column specification."""
    return form[_end_of_group(form) + 1 :] if form[:1] == ("{",) else form[1:]
