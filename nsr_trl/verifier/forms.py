r"""Questions to tokens: where a bracket closes, what a comma parts, whether `x` is a name or a side of an equation."""

import re
from itertools import accumulate, pairwise

from . import words
from .expressions import DIGITS, GREEK, NAMED_FUNCTIONS
from .normal_form import Form, is_word
from .units import NOT_UNITS, scale_of


OPEN = frozenset(["(", "[", "{", "\\{", "\\begin", "\\lfloor", "\\lceil"])
_CLOSE = frozenset([")", "]", "}", "\\}", "\\end", "\\rfloor", "\\rceil"])
TURNED = {"<": ">", ">": "<", "\\le": "\\ge", "\\ge": "\\le"}
ORDERS = frozenset([*TURNED, "\\ne"])
EQUALITIES = frozenset(["=", "\\approx", "\\equiv"])
RELATIONS = EQUALITIES | ORDERS | {"\\in", "\\notin", "\\to"}
"""Signs between the sides of a relation."""
APPROXIMATELY = frozenset("approximately about roughly nearly around approx circa".split())
_CURRENCIES = frozenset(["\\$", "€", "£", "¥", "₹", "¢"])
_SUFFIX_UNITS = _CURRENCIES | {"\\%", "\\degree"}
_BASES = {word: number for number, word in enumerate("zero one two three four five six seven eight nine ten".split())}
_BASES |= {"eleven": 11, "twelve": 12, "sixteen": 16, "binary": 2, "octal": 8, "hexadecimal": 16}
_ANGLE_SIGNS = frozenset(["\\angle", "\\triangle", "\\overline", "\\vec", "\\hat", "\\bar"])


def is_word_of(token: str, group: frozenset[str]) -> bool:
    """Whether a token is a word of a group, however capitalised."""
    return token.lower() in group


def letters_of(form: Form) -> set[str]:
    """The letters in a form, without `e`, `i` and those in indices."""
    return {
        token
        for before, token in pairwise(("", *form))
        if before != "_" and ((len(token) == 1 and token.isalpha() and token not in "ei") or _is_greek(token))
    }


def _is_greek(token: str) -> bool:
    return token in GREEK and token != "\\pi"


def trim(form: Form) -> Form:
    """A form without separators at its ends."""
    while form and form[0] in (",", " ", ";"):
        form = form[1:]
    while form and form[-1] in (",", " ", ";"):
        form = form[:-1]
    return form


def without(form: Form, *tokens: str) -> Form:
    """A form without some tokens."""
    return tuple(token for token in form if token not in tokens)


def depth_of(form: Form) -> int:
    """How many brackets are open at the end of a form."""
    return sum((token in OPEN) - (token in _CLOSE) for token in form)


def deepest(form: Form) -> int:
    """How many brackets are open where most are."""
    return max(accumulate((token in OPEN) - (token in _CLOSE) for token in form), default=0)


def split(
    form: Form, separators: "set[str] | frozenset[str]", is_strict: bool = False, are_brackets_loose: bool = False
) -> list[Form]:
    """Pieces between separators outside all brackets, empty ones left out unless strict."""
    pieces: list[Form] = []
    depth = start = 0
    for i, token in enumerate(form):
        if not (are_brackets_loose and token in "[]()"):
            depth += (token in OPEN) - (token in _CLOSE)
        if (token in separators or token.lower() in separators) and depth == 0:
            pieces.append(form[start:i])
            start = i + 1
    pieces.append(form[start:])
    return pieces if is_strict else [piece for piece in pieces if piece]


def partition(form: Form, token: str) -> tuple[Form, Form, Form]:
    """What stands before a token, the token, and what stands behind it."""
    if token not in form:
        return form, (), ()
    place = form.index(token)
    return form[:place], (token,), form[place + 1 :]


def sides_of(form: Form) -> tuple[list[Form], list[str]]:
    """The sides of a relation, and the signs between them."""
    sides: list[Form] = []
    operators: list[str] = []
    depth = start = 0
    for i, token in enumerate(form):
        depth += (token in OPEN) - (token in _CLOSE)
        if depth == 0 and token in RELATIONS:
            sides.append(form[start:i])
            operators.append(token)
            start = i + 1
    return [*sides, form[start:]], operators


def end_of_group(form: Form) -> int:
    """Where the bracket closes that a form begins with."""
    depth = 0
    for i, token in enumerate(form):
        depth += (token in OPEN) - (token in _CLOSE)
        if depth == 0:
            return i + (token == "\\end")
    return -1


def start_of_last_group(form: Form) -> int:
    """Where the parenthesis opens that a form ends with; -1 if it ends otherwise."""
    depth = 0
    for i in range(len(form) - 1, -1, -1):
        depth += (form[i] in _CLOSE) - (form[i] in OPEN)
        if depth == 0:
            return i if form[-1] == ")" and form[i] == "(" else -1
    return -1


def is_letter(form: Form) -> bool:
    """Whether this is one letter, with an index or a prime or without."""
    if form[:1] and form[0] in _ANGLE_SIGNS:
        form = form[1:]
    form = without(form, "'")
    if not form or is_word(form[0]) or not (form[0].isalpha() or _is_greek(form[0])):
        return False
    return len(form) == 1 or (form[1] == "_" and (len(form) == 3 or (form[2:3] == ("{",) and form[-1] == "}")))


def has_letters(form: Form) -> bool:
    """Whether there are letters or words in a form."""
    return bool(letters_of(form)) or any(map(is_word, form))


def is_name(form: Form, others: list[Form]) -> bool:
    """Whether this is what an answer is called (`x`, `f(x)`, `|AB|`, `Area`) rather than a side of an equation."""
    if is_letter(form) or _is_call(form) or _is_named_figure(form):
        return True
    if is_word(form[0]) and all(token.isalpha() or token in "()'_" or token in _ANGLE_SIGNS for token in form):
        return True
    if all(token.isalpha() for token in form):
        return len(form) > 1 and all(map(str.isupper, form))
    return not any(map(has_letters, others)) and _is_quantity_with_a_name(form)


def _is_call(form: Form) -> bool:
    """`f(x)`, `P(A)`, `f^{-1}(x)`, `(x, y)`."""
    start = start_of_last_group(form)
    if start < 0:
        return False
    if start == 0:
        return all(map(is_letter, split(form[1:-1], {","})))
    head = form[:start]
    if head[-5:] == ("^", "{", "-", "1", "}"):
        head = head[:-5]
    return is_letter(head) or (len(head) == 1 and is_word(head[0]))


def _is_named_figure(form: Form) -> bool:
    r"""`|AB|`, `[ABC]`, `m\angle A`, `\overline{AB}`, `A^{-1}`, `\Delta p`, `V_1:V_2`."""
    plain = without(form, "|", "[", "]", "{", "}", "m", "d", *_ANGLE_SIGNS, "\\Delta", "\\max", "\\min")
    if plain != form and (is_letter(plain) or (bool(plain) and all(token.isupper() for token in plain))):
        return form[0] != "|" or all(token.isupper() for token in plain)
    if form[:3] == ("\\frac", "{", "d") and form[5:7] == ("{", "d"):  # \frac{dy}{dx}
        return True
    if len(form) > 2 and form[0].isupper() and form[1] == "^" and form[2:] in (("{", "-", "1", "}"), ("T",)):
        return True
    return ":" in form and all(map(is_letter, split(form, {":"})))


def _is_quantity_with_a_name(form: Form) -> bool:
    r"""`\sin A`, `\cos^2 x`, `\frac{AB}{CD}`: what a number may be said of without being solved for."""
    if form[0] in ("\\lim", "\\sum", "\\int", "\\prod", "\\max", "\\min"):
        return True
    is_function = form[0] in NAMED_FUNCTIONS and letters_of(form) != set()
    letters = [token for token in form if token.isalpha()]
    is_of_segments = form[0] == "\\frac" and len(letters) > 2 and all(map(str.isupper, letters))
    return (is_function and not {"+", "-"} & set(form)) or (
        is_of_segments and set(form) <= {"\\frac", "{", "}", *letters}
    )


def with_decimal_points(form: Form) -> Form | None:
    """`0,5; 1` with its commas as points, beside the semicolon that parts the numbers; else `None`."""
    pieces = split(form, {";"})
    of_commas = [with_decimal_point(piece) for piece in pieces if "," in piece]
    if len(pieces) < 2 or not of_commas or None in of_commas:
        return None
    return tuple("." if token == "," else token for token in form if token != ".")


def with_decimal_point(form: Form) -> Form | None:
    r"""`0,5`, `x = 0,5` or `1.234,5\text{ cm}`, which may be lists of two, with the comma as a point; else `None`."""
    text = "".join("," if token == "{,}" else token for token in form)
    if text.count(",") != 1 or len(split(form, {",", "{,}", ";", "and", "or"})) != 2:
        return None
    match = _DECIMAL_COMMA.search(text)
    if match is None or text.count(".") != match[1].count("."):
        return None
    return tuple("." if token in (",", "{,}") else token for token in form if token != ".")


_DECIMAL_COMMA = re.compile(r"(?<![0-9.^_])([0-9]{1,3}(?:\.[0-9]{3})+|[0-9]+),[0-9]+(?![0-9.])")


def is_mixed_with_hyphen(form: Form) -> bool:
    """`4-1/2`, which may be four and a half."""
    match = _HYPHENATED.fullmatch("".join(form)) if "-" in form[1:] and "/" in form else None
    return match is not None and int(match[1]) < int(match[2])


_HYPHENATED = re.compile("[1-9][0-9]{0,3}-([1-9][0-9]?)/([1-9][0-9]?)")


def letter_in_front(form: Form) -> Form:
    """The tokens of an option in front of a form: `(B)`, `B)`, `B.`, `B:`, or a lone `B`."""
    if form[:1] == ("(",) and len(form) > 2 and form[2] == ")" and _is_capital(form[1]):
        return form[:3]
    if _is_capital(form[0]):
        if len(form) == 1:
            return form
        if form[1] == ")" or (form[1] in (".", ":") and len(form) > 2 and not _is_capital(form[2])):
            return form[:2]
    return ()


def _is_capital(token: str) -> bool:
    return len(token) == 1 and token.isascii() and token.isupper()


def french_interval(form: Form) -> tuple[list[Form], str] | None:
    """The ends of `]0, 1[`, and its brackets as others write them."""
    if len(form) < 5 or not (form[0] == "]" or form[-1] == "[") or form[0] not in "][(" or form[-1] not in "][)":
        return None
    ends = split(form[1:-1], {",", ";"}, is_strict=True)
    brackets = {"]": "(", "(": "("}.get(form[0], "[") + {"[": ")", ")": ")"}.get(form[-1], "]")
    return (ends, brackets) if len(ends) == 2 and all(ends) else None


def drop_plus(form: Form) -> Form:
    """A form without a plus sign in front."""
    return form[1:] if form[:1] == ("+",) else form


def base_of(form: Form) -> int | None:
    """The base that an index names, in digits or words."""
    tokens = without(form, "{", "}", "(", ")", "base", " ")
    if len(tokens) == 1 and tokens[0].lower() in _BASES:
        return _BASES[tokens[0].lower()]
    text = "".join(tokens)
    return int(text) if len(text) <= 2 and text.isdecimal() and 2 <= int(text) <= 36 else None


def are_digits(text: str, base: int) -> bool:
    """Whether a text is a number in a base."""
    text = text.removeprefix("-").replace(".", "", 1)
    if not text.isascii() or not text.isalnum() or not any(map(str.isdecimal, text)):
        return False
    return all(int(digit, 36) < base for digit in text) or text.isdecimal()


def are_written_differently(head: Form, inside: Form) -> bool:
    """Whether both may be one number in two notations: a decimal, a share or words beside something else."""
    if has_letters(head) and not all(map(is_word, head)):
        return False
    if "." in head and DIGITS.issuperset(inside):  # 0.(3)
        return False
    if inside[0] == "\\approx" or is_word_of(inside[0], APPROXIMATELY):
        return True
    notations = [
        "words"
        if words.number_of(words.phrase_of(form)) is not None
        else "percent"
        if form[-1] == "\\%"
        else "decimal"
        if "." in form
        else "exact"
        for form in (head, inside)
    ]
    return notations[0] != notations[1] and not (has_letters(inside) and notations[1] != "words")


def split_unit(form: Form) -> tuple[Form, Form | None]:
    """A number and the tokens of its unit; `None` for those if there are words that are no unit."""
    unit: Form = ()
    if form[0] in _CURRENCIES:
        unit, form = form[:1], form[1:]
    elif form[0] == "-" and len(form) > 1 and form[1] in _CURRENCIES:
        unit, form = form[1:2], ("-", *form[2:])
    start = next((i for i, token in enumerate(form) if is_word(token) and not scale_of(token)), len(form))
    start = next((i for i, token in enumerate(form[:start]) if token.startswith("\\unit")), start)
    while start and form[start - 1] in _SUFFIX_UNITS:
        start -= 1
    head, tail = form[:start], form[start:]
    if not head or not _is_unit_tail(tail):
        return form, None
    return head, unit or tail


def _is_unit_tail(tail: Form) -> bool:
    if any(is_word_of(token, NOT_UNITS) for token in tail):
        return False
    return all(
        token.isalpha()
        or token in "^/.-(){}"
        or token in _SUFFIX_UNITS
        or token == "\\cdot"
        or token.startswith("\\unit")
        if token not in DIGITS
        else tail[i - 1] in ("^", "-")
        for i, token in enumerate(tail)
    )


def split_scale(form: Form) -> tuple[Form, int]:
    """A number and what `million` behind it multiplies by."""
    scale = 1
    while form and (factor := scale_of(form[-1])):
        scale, form = scale * factor, form[:-1]
    return form, scale
