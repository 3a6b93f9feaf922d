r"""What an answer is made of: a normal form goes in, a tree of nodes comes out.

The separators (commas, `and`, `or`) are split first, then set operations, relations, brackets and units, until
numbers, expressions and words are left. Nothing is compared here. What is not understood becomes an `Opaque` node, and
where people read one text in two ways the reader asks which way to take (`expressions.Ambiguity`), so that a text has
one tree per combination of choices.
"""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

from . import words
from .algebra import value_of
from .expressions import (
    DIGITS,
    MAX_DEPTH,
    Ambiguity,
    Choices,
    NotUnderstoodError,
    TooLargeError,
    is_count,
    parse,
)
from .forms import (
    APPROXIMATELY,
    EQUALITIES,
    OPEN,
    ORDERS,
    RELATIONS,
    TURNED,
    are_digits,
    are_written_differently,
    base_of,
    depth_of,
    drop_plus,
    end_of_group,
    french_interval,
    is_letter,
    is_mixed_with_hyphen,
    is_name,
    is_word_of,
    letter_in_front,
    letters_of,
    partition,
    sides_of,
    split,
    split_scale,
    split_unit,
    start_of_last_group,
    trim,
    with_decimal_point,
    with_decimal_points,
    without,
)
from .nodes import (
    Based,
    Cases,
    Chain,
    Clock,
    Collection,
    Conditioned,
    Difference,
    Equation,
    Inequality,
    Infinite,
    Intersection,
    Matrix,
    Modular,
    Named,
    Node,
    Numbers,
    Opaque,
    Option,
    Prose,
    Ratio,
    Scalar,
    Union,
    Words,
    is_interval,
    is_pair,
    is_whole,
)
from .normal_form import Form, is_word
from .terms import Number, Product, Term
from .units import read_unit


MAX_PARTS = 32
"""Most parts of a list, a tuple or a chain."""

_SEPARATORS = frozenset([",", ";", "and", "or"])
_SET_OPERATIONS = ("\\cup", "\\cap", "\\setminus")
_MATRICES = {"pmatrix": "", "bmatrix": "", "vmatrix": "det", "matrix": "layout", "array": "layout"}
_NUMBER_SETS = {"\\R": "R", "\\Z": "Z", "\\N": "N", "\\Q": "Q", "\\C": "C"}
_SETS_AS_LETTERS = frozenset([("R",), ("Z",), ("N",), ("Q",)])
_SETS_IN_WORDS = {
    "all real numbers": "R",
    "all reals": "R",
    "all real": "R",
    "real numbers": "R",
    "set of all real numbers": "R",
    "set of real numbers": "R",
    "all real x": "R",
    "any real number": "R",
    "every real number": "R",
    "real": "R",
    "real number": "R",
    "reals": "R",
    "integer": "Z",
    "integers": "Z",
    "any integer": "Z",
    "all integers": "Z",
    "every integer": "Z",
}
_LEADING = frozenset(
    "the point points exactly set interval line equation vector matrix value values answer answers number equal to of "
    "a an so thus therefore hence we get have final solution solutions root roots only total function ratio ans it "
    "is are option choice either both all real every any numbers".split()
)
_THEREFORE = frozenset(["=", ":", "\\to", "\\therefore", "\\iff"])
_REASON_WORDS = frozenset(["since", "because"])
_TRAILING = frozenset("exactly only altogether respectively total exact just precisely".split())
_NUMBER_TOKENS = 64  # of a number in words, at most
_COPULAS = frozenset(["is", "are", "was", "be", "equals"])
_DENIALS = frozenset("not no cannot never none isn".split())
_CONDITION_WORDS = frozenset("where for if when with provided given such whenever assuming".split())
_CONDITION_FILLERS = frozenset("that all any every each some is are an a the where for and".split())
_EXCEPTIONS = frozenset(["except", "excluding", "besides"])
_BASE_LETTERS = {"b": 2, "o": 8, "x": 16}
_OPTION_WORDS = frozenset(["option", "choice", "answer"])


def read(form: Form, choices: Choices) -> Node:
    """
    Takes an answer apart.

    Args:
        form (`tuple[str, ...]`):
            Normal form.
        choices ([`~expressions.Choices`]):
            Which readings to take; those met are added to it.

    Returns:
        [`Node`]

    Raises:
        TooLargeError: If there are too many parts, or they nest too deep.
    """
    return _Reader(choices).node(form)


class _Reader:
    """Each method tries one form and returns a node, or `None` if the tokens are of another form."""

    def __init__(self, choices: Choices) -> None:
        self.choices = choices
        self.depth = 0

    def node(self, form: Form) -> Node:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise TooLargeError
        form = trim(form)
        found = self.first_of(_READINGS, form) if form else Opaque(form)
        self.depth -= 1
        return found

    def first_of(self, readings: "tuple[Reading, ...]", form: Form) -> Node:
        for reading in readings:
            found = reading(self, form)
            if found is not None:
                return found
        return Opaque(form)

    def nodes(self, forms: list[Form]) -> tuple[Node, ...]:
        if len(forms) > MAX_PARTS:
            raise TooLargeError
        return tuple(self.node(form) for form in forms)

    # --- Words around an answer ---

    def lead_in(self, form: Form) -> Node | None:
        """`= 5`, `The answer is 5`, `Answer: 5`, `the point (1, 2)`."""
        if form[0] in _THEREFORE or (form[0].lower() in ("ans", "answer") and form[1:2] == ("=",)):
            return self.node(form[1:])
        if form[0].lower() in ("minus", "negative") and not all(map(is_word, form)):
            return self.node(("-", *form[1:]))
        if form[0] == "\\approx" or (form[0].lower() in APPROXIMATELY and len(form) > 1):
            return Chain(form, (), (self.node(form[1:]),))
        if not (is_word(form[0]) or (len(form) > 1 and (form[1] in _COPULAS or is_word_of(form[1], _LEADING)))):
            return None
        for i, token in enumerate(form[:-1]):
            if token == ":" and all(map(is_word, form[:i])):
                return Named(form, (form[:i],), self.node(form[i + 1 :]))
            if token in _COPULAS and i and not is_word_of(form[i + 1], _DENIALS):
                said = self.said_to_be(form, i)
                return said if is_whole(said) or not words.is_prose(form) else None
            if is_word_of(token, _DENIALS) or token in _SEPARATORS:
                break
        if form[0].lower() in _LEADING and not all(map(is_word, form)) and _EXCEPTIONS.isdisjoint(form):
            return self.node(form[1:])
        return None

    def said_to_be(self, form: Form, place: int) -> Node:
        """`The area is 5`, `It is even`, `k is an integer`."""
        name, value = form[:place], self.node(form[place + 1 :])
        while isinstance(value, Named) and value.names == ((),):
            value = value.value
        return Named(form, (name,), value)

    def trailing_words(self, form: Form) -> Node | None:
        """`5 exactly`."""
        if len(form) > 1 and is_word_of(form[-1], _TRAILING) and not all(map(is_word, form)):
            return self.node(form[:-2] if form[-2:-1] == ("in",) else form[:-1])
        return None

    def prose(self, form: Form) -> Node | None:
        """A sentence: one that says that there is nothing, or any other."""
        if words.is_denial(form):
            return Words(form, ("no", "solution"))
        return Prose(form) if self.depth == 1 and words.is_prose(form) else None

    def phrase(self, form: Form) -> Node | None:
        """Words and nothing else: a number in words, a set, or words that the tables may know."""
        phrase = words.phrase_of(form)
        if not phrase or not any(is_word(token) or not token.isascii() for token in form):
            return None
        number = words.number_of(tuple(word for word in phrase if word not in _TRAILING))
        if number is not None:
            return Scalar(form, Number(number))
        text = " ".join(phrase)
        if text in _SETS_IN_WORDS:
            return Numbers(form, _SETS_IN_WORDS[text])
        if words.concepts_of(phrase):
            return Words(form, phrase)
        return self.counted_in_words(form) or Words(form, phrase) if _SEPARATORS.isdisjoint(form) else None

    def counted_in_words(self, form: Form) -> Node | None:
        """`five apples`."""
        for end in range(min(len(form) - 1, _NUMBER_TOKENS), 0, -1):
            number = words.number_of(words.phrase_of(form[:end]))
            if number is not None:
                return Scalar(form, Number(number), read_unit(form[end:]))
        return None

    def option(self, form: Form) -> Node | None:
        r"""`(B)`, `\textbf{(B)}\ 17`, `B) 17`, `Option B`."""
        if form[0].lower() in _OPTION_WORDS and len(form) > 1 and (letter := letter_in_front(form[1:])):
            return self.option_of(form, letter, form[1 + len(letter) :])
        if (letter := letter_in_front(form)) and len(letter) > 1:
            return self.option_of(form, letter, form[len(letter) :])
        return None

    def option_of(self, form: Form, letter: Form, rest: Form) -> Node | None:
        if rest and (
            rest[0] in RELATIONS
            or rest[0].lower() in _SEPARATORS
            or rest[0] in "+-*/^_(["
            or rest[0] in ("\\cdot", "\\times")
        ):
            return None
        return Option(form, next(token for token in letter if token.isalpha()), self.node(rest) if rest else None)

    def conditioned(self, form: Form) -> Node | None:
        r"""`4k` with `where k is an integer` behind it."""
        for i, token in enumerate(form):
            is_reason = is_word_of(token, _REASON_WORDS)
            if i and (is_reason or is_word_of(token, _CONDITION_WORDS)) and depth_of(form[:i]) == 0:
                if is_reason:
                    return self.node(form[:i])
                if is_letter(trim(form[:i])):
                    return self.node(_without_fillers(form[i + 1 :]))
                return self.with_conditions(form, form[:i], form[i + 1 :])
        return None

    def with_conditions(self, form: Form, value: Form, condition: Form) -> Node:
        pieces = split(_without_fillers(condition), {",", "and"})
        return Conditioned(form, self.node(value), tuple(self.condition(piece) for piece in pieces))

    def condition(self, form: Form) -> Node:
        """One condition; `integer k` and `k an integer` are memberships."""
        kept = [token for token in form if token.lower() not in _CONDITION_FILLERS]
        names = [token for token in kept if len(token) == 1 and token.isalpha()]
        letter = _SETS_IN_WORDS.get(" ".join(token.lower() for token in kept if is_word(token)))
        if letter and len(names) == 1 and len(kept) == 1 + sum(map(is_word, kept)):
            return Named(form, ((names[0],),), Numbers(form, letter))
        return self.node(form)

    # --- Several parts ---

    def separated(self, form: Form) -> Node | None:
        """Parts between commas, semicolons, `and` and `or`."""
        if len(split(form, {"{,}"})) > 1 and self.choices.take(Ambiguity.THOUSANDS):
            form = tuple("," if token == "{,}" else token for token in form)
        decimal = with_decimal_point(form) or with_decimal_points(form)
        if decimal is not None and self.choices.take(Ambiguity.DECIMAL_COMMA):
            return self.node(decimal)
        pieces = split(form, _SEPARATORS)
        if len(pieces) < 2:
            return self.node(pieces[0]) if pieces and pieces[0] != form else None
        if (nested := self.nested(form)) is not None:
            return nested
        items = self.nodes(pieces)
        if all(map(_is_of_a_letter, items)):
            return self.gathered(form, items, "or" in form)
        first_condition = next((i for i, item in enumerate(items) if i and _is_condition(item)), 0)
        if first_condition and _are_conditions(items[:first_condition], items[first_condition:]):
            value = self.gathered(form, items[:first_condition])
            return Conditioned(form, value, items[first_condition:])
        return self.gathered(form, items, "or" in form)

    def nested(self, form: Form) -> Node | None:
        """`x = 1, y = 2; x = 2, y = 1`: parts that have commas of their own."""
        for separator in (";", "or"):
            outer = split(form, {separator})
            if len(outer) > 1 and all(len(split(piece, {",", "and"})) > 1 for piece in outer):
                items = self.nodes(outer)
                if separator == ";" or all(isinstance(item, Collection) for item in items):
                    return Collection(form, items)
        return None

    def gathered(self, form: Form, items: tuple[Node, ...], is_choice: bool = False) -> Node:
        """Several parts as a list, a union, an intersection; a name of all is put before the list."""
        if len(items) == 1:
            return items[0]
        if all(map(_is_of_a_letter, items)):
            return (Union if is_choice else Intersection)(form, items)
        if isinstance(items[0], Inequality) and all(isinstance(item, Scalar) for item in items[1:]):
            return _all_left_out(form, items[0], items[1:])
        if is_choice and all(map(is_pair, items)) and any(map(is_interval, items)):
            return Union(form, items)
        if is_pair(items[0]) and all(isinstance(item, Inequality) for item in items[1:]):
            return Intersection(form, items)
        if (total := _total(form, items)) is not None:
            return total
        names = {item.names for item in items if isinstance(item, Named)}
        if len(names) == 1 and (isinstance(items[0], Named) and (len(items) > 1)):
            is_of_all = all(isinstance(item, Named) for item in items) or not any(
                isinstance(item, Named) for item in items[1:]
            )
            if is_of_all:
                values = tuple(item.value if isinstance(item, Named) else item for item in items)
                return Named(form, names.pop(), Collection(form, _flat(values)))
        return Collection(form, _flat(items))

    def set_operation(self, form: Form) -> Node | None:
        r"""`(0, 1) \cup (2, 3)`, `\R \setminus \{2\}`, `all real numbers except 2`."""
        form = _with_signs_for_unions(form)
        for operation in _SET_OPERATIONS:
            pieces = split(form, {operation})
            if len(pieces) == 1 and operation in form and ("]" in form or "[" in form):  # [0, 1[ \cup ]2, 3]
                pieces = split(form, {operation}, are_brackets_loose=True)
            if len(pieces) > 1 and operation == "\\setminus":
                removed = self.node(pieces[-1])
                return Difference(form, self.node(form[: -len(pieces[-1]) - 1]), _as_set(removed))
            if len(pieces) > 1:
                return (Union if operation == "\\cup" else Intersection)(form, self.nodes(pieces))
        if form[0] in _NUMBER_SETS and form[1:2] == ("-",):
            return Difference(form, self.node(form[:1]), _as_set(self.node(form[2:])))
        for i, token in enumerate(form[:-1]):
            if i and token.lower() in _EXCEPTIONS:
                rest = form[i + 1 :]
                rest = rest[1:] if rest[0] in ("for", "at") else rest
                return Difference(form, self.node(form[:i]), _as_set(self.node(rest)))
        return None

    # --- Relations ---

    def relation(self, form: Form) -> Node | None:
        """Sides between relation signs."""
        sides, operators = sides_of(form)
        if not operators:
            return None
        if not all(sides) or len(sides) > MAX_PARTS:
            return Opaque(form)
        if operators == ["\\in"]:
            domain = (f"\\{sides[1][0]}",) if sides[1] in _SETS_AS_LETTERS else sides[1]
            return Named(form, (sides[0],), self.node(domain))
        if set(operators) <= EQUALITIES:
            return self.equalities(form, sides, operators)
        if set(operators) <= ORDERS:
            return self.inequality(form, sides, operators)
        return Opaque(form)

    def inequality(self, form: Form, sides: list[Form], operators: list[str]) -> Node:
        if set(operators) <= {">", "\\ge"}:
            sides, operators = sides[::-1], [TURNED[operator] for operator in operators[::-1]]
        if not set(operators) <= {"<", "\\le"} and operators != ["\\ne"]:
            return Opaque(form)
        return Inequality(form, tuple(self.first_of(_OBJECTS, side) for side in sides), tuple(operators))

    def equalities(self, form: Form, sides: list[Form], operators: list[str]) -> Node:
        r"""`x = 5`, `S = 2 + 3 = 5`, `2 + 3 = 5`, `x = \frac13 \approx 0.33`, `x^2 + y^2 = 1`."""
        num_exact = 1 + next((i for i, operator in enumerate(operators) if operator == "\\approx"), len(operators))
        exact, rounded = sides[:num_exact], sides[num_exact:]
        names: list[Form] = []
        while len(exact) + len(rounded) > 1 and exact and is_name(exact[0], exact[1:] + rounded):
            names.append(exact.pop(0))
        if not names and len(exact) == 2 and not rounded and is_letter(exact[1]):
            names.append(exact.pop())
        values = self.nodes(exact)
        if rounded:
            value: Node = Chain(form, values, self.nodes(rounded))
        elif len(values) == 1:
            value = values[0]
        elif not names and len(values) == 2 and any(map(letters_of, exact)):
            return Equation(form, *values)
        else:
            value = Chain(form, values)
        return Named(form, tuple(names), value) if names else value

    # --- Objects ---

    def infinite(self, form: Form) -> Node | None:
        sign = {("\\infty",): 1, ("+", "\\infty"): 1, ("-", "\\infty"): -1}.get(form)
        return None if sign is None else Infinite(form, sign)

    def numbers(self, form: Form) -> Node | None:
        r"""`\R`, and the empty set."""
        if form == ("\\emptyset",):
            return Collection(form, (), "\\{\\}")
        return Numbers(form, _NUMBER_SETS[form[0]]) if len(form) == 1 and form[0] in _NUMBER_SETS else None

    def environment(self, form: Form) -> Node | None:
        """A matrix, with brackets around it or without, or a system of rows."""
        if form[-2:] in (("^", "T"), ("^", "\\top")) and end_of_group(form) == len(form) - 3:
            inner = self.first_of(_OBJECTS, form[:-2])
            return _transposed(form, inner)
        if len(form) < 4 or form[0] not in ("\\begin", "(", "[", "|"):
            return None
        kind = ""
        inside = form
        if form[0] != "\\begin" and form[1] == "\\begin":
            kind, inside = ("det" if form[0] == "|" else "brackets"), form[1:-1]
        if inside[0] != "\\begin" or inside[-2] != "\\end" or end_of_group(inside) != len(inside) - 1:
            return None
        if inside[1] == "cases":
            rows = split(inside[2:-2], {"\\\\"})
            is_system = "&" not in inside and not any(map(is_word, inside[2:-2]))
            return self.gathered(form, self.nodes(rows)) if is_system else Cases(form)
        if inside[1] not in _MATRICES:
            return Opaque(form)
        own = _MATRICES[inside[1]]
        return self.matrix(form, inside, own if own != "layout" or not kind else kind.replace("brackets", ""))

    def multiple_of_matrix(self, form: Form) -> Node | None:
        r"""`\frac12 \begin{pmatrix} 2 \\ 4 \end{pmatrix}`."""
        start = form.index("\\begin") if "\\begin" in form[1:] else 0
        head = without(form[:start], "\\cdot", "\\times", "*")
        if not head or depth_of(head):
            return None
        factor, matrix = self.scalar(head), self.environment(form[start:])
        if not isinstance(factor, Scalar) or not isinstance(matrix, Matrix):
            return None
        rows = tuple(tuple(_multiple(factor, cell) for cell in row) for row in matrix.rows)
        return Matrix(form, rows, matrix.kind)

    def matrix(self, form: Form, inside: Form, kind: str) -> Node:
        body = inside[2:-2]
        if inside[1] == "array":
            body = body[end_of_group(body) + 1 :] if body[:1] == ("{",) else body[1:]
        rows = [split(row, {"&"}, is_strict=True) for row in split(body, {"\\\\"})]
        if sum(map(len, rows)) > MAX_PARTS**2 // 4:
            raise TooLargeError
        return Matrix(form, tuple(tuple(self.node(cell) for cell in row) for row in rows if any(row)), kind)

    def bracketed(self, form: Form) -> Node | None:
        """What stands in brackets as a whole."""
        if (french := french_interval(form)) is not None:
            ends, brackets = french
            return _collection(form, self.nodes(ends), brackets)
        if form[0] not in OPEN or form[0] == "\\begin" or end_of_group(form) != len(form) - 1:
            return None
        brackets, content = form[0] + form[-1], form[1:-1]
        if brackets == "\\{\\}":
            return self.set_of(form, content)
        if brackets not in ("()", "[]", "(]", "[)", "{}"):
            return None
        may_be_number = "{,}" in content and self.depth == 1
        if not (may_be_number and self.choices.take(Ambiguity.THOUSANDS_IN_BRACKETS)):
            content = tuple("," if token == "{,}" else token for token in content)
        content = self.pointed(content)
        pieces = split(content, {",", ";"})
        if len(pieces) > 1 and brackets != "{}":
            return _collection(form, self.nodes(pieces), brackets)
        inner = self.node(content)
        return Collection(form, (inner,), "[]") if brackets == "[]" else inner

    def set_of(self, form: Form, content: Form) -> Node:
        r"""`\{1, 2\}`, `\{x \mid x > 2\}`."""
        for sign in (":", "|"):
            sides = split(content, {sign}, is_strict=True)
            if len(sides) == 2 and content.count(sign) == 1:
                return self.set_with_conditions(form, *sides)
        return Collection(form, _flat(self.nodes(split(self.pointed(content), _SEPARATORS))), "\\{\\}")

    def pointed(self, content: Form) -> Form:
        """What brackets or braces hold, the commas within its numbers as points where it is read so: `0,5; 1`."""
        decimal = with_decimal_points(content)
        return decimal if decimal is not None and self.choices.take(Ambiguity.DECIMAL_COMMA) else content

    def set_with_conditions(self, form: Form, element: Form, condition: Form) -> Node:
        inner = self.node(condition)
        head, _, domain = partition(element, "\\in")
        if is_letter(head) and domain in ((), ("\\R",)):
            return inner
        return Conditioned(form, self.node(element), (inner,))

    def ratio(self, form: Form) -> Node | None:
        """`2:3`, `2 to 3`, and times of day."""
        if (clock := _clock(form)) is not None:
            return clock
        pieces = split(form, {":", "to"})
        return Ratio(form, self.nodes(pieces)) if len(pieces) > 1 else None

    def named_point(self, form: Form) -> Node | None:
        """`B(3, 4)`."""
        if len(form) < 5 or not (len(form[0]) == 1 and form[0].isupper()) or form[1] != "(" or "," not in form:
            return None
        if end_of_group(form[1:]) != len(form) - 2 or is_count(form[0], self.choices):
            return None
        return Named(form, (form[:1],), self.node(form[1:]))

    def plus_minus(self, form: Form) -> Node | None:
        r"""`1 \pm \sqrt2` is a list of two."""
        if "\\pm" not in form and "\\mp" not in form:
            return None
        both = [tuple(signs.get(token, token) for token in form) for signs in _PLUS_MINUS]
        return Collection(form, _flat(tuple(self.node(drop_plus(one)) for one in both)))

    def modular(self, form: Form) -> Node | None:
        r"""`3 \pmod{17}`."""
        for i, token in enumerate(form):
            if i and token in ("\\pmod", "\\mod", "mod"):
                head, modulus = form[:i], form[i + 1 :]
                if head[-1:] == ("(",) and modulus[-1:] == (")",):
                    head, modulus = head[:-1], modulus[:-1]
                return Modular(form, self.node(head), self.node(modulus))
        return None

    def based(self, form: Form) -> Node | None:
        r"""`2516_8`, `(1204)_{9}`, `1204_{\text{nine}}`, `1204 in base 9`, `0b101`."""
        if form[0] == "0" and form[1:2] and form[1].lower() in _BASE_LETTERS:
            digits, known = "".join(form[2:]), _BASE_LETTERS[form[1].lower()]
            return Based(form, digits, known) if digits and are_digits(digits, known) else None
        for i, token in enumerate(form):
            if i and (token == "_" or token.lower() == "base"):
                base = base_of(form[i + 1 :])
                digits = "".join(without(form[:i], "(", ")", "{", "}", " ", "in", "{,}"))
                if base and are_digits(digits, base):
                    return Based(form, digits, base)
                return None
        return None

    def second_form(self, form: Form) -> Node | None:
        r"""`\frac12 (0.5)`, `5 (five)`, `4k\ (k \in \Z)`: something in brackets behind an answer."""
        start = start_of_last_group(form)
        head, inside = form[:start], form[start + 1 : -1]
        if start <= 0 or not inside or head[-1] in _OPERATORS_BEFORE or split(inside, {",", ";"})[1:]:
            return None
        if any(token in RELATIONS and token != "\\approx" for token in inside):
            inner = self.node(inside)
            return Conditioned(form, self.node(head), (inner,)) if _is_condition(inner) else None
        if are_written_differently(head, inside):
            return Chain(form, (self.node(head),), (self.node(inside),))
        return None

    def compound(self, form: Form) -> Node | None:
        """`5 feet 6 inches`."""
        starts = [
            i
            for i, token in enumerate(form)
            if i and token in DIGITS and (is_word(form[i - 1]) or form[i - 1].startswith("\\unit"))
        ]
        if not starts:
            return None
        pieces = [form[start:end] for start, end in pairwise([0, *starts, len(form)])]
        items = tuple(self.first_of((_Reader.scalar,), piece) for piece in pieces)
        return _total(form, items)

    def scalar(self, form: Form) -> Node | None:
        """A number or an expression, with its unit."""
        body, unit = split_unit(form)
        if unit is None:
            return None
        try:
            body, scale = split_scale(body)
            if is_mixed_with_hyphen(body) and self.choices.take(Ambiguity.MIXED_HYPHEN):
                body = tuple(" " if token == "-" else token for token in body)
            term = parse(body, self.choices)
        except NotUnderstoodError:
            return None
        return Scalar(form, _scaled(term, scale), read_unit(unit) if unit else None)

    def sentence(self, form: Form) -> Node | None:
        """Words with signs between them."""
        phrase = words.phrase_of(without(form, *_SIGNS))
        return Words(form, phrase) if phrase and any(map(is_word, form)) else None


Reading = Callable[[_Reader, Form], Node | None]

_OBJECTS: tuple[Reading, ...] = (
    _Reader.option,
    _Reader.infinite,
    _Reader.numbers,
    _Reader.environment,
    _Reader.bracketed,
    _Reader.ratio,
    _Reader.named_point,
    _Reader.plus_minus,
    _Reader.modular,
    _Reader.based,
    _Reader.second_form,
    _Reader.multiple_of_matrix,
    _Reader.compound,
    _Reader.scalar,
    _Reader.sentence,
)
_READINGS: tuple[Reading, ...] = (
    _Reader.option,
    _Reader.lead_in,
    _Reader.phrase,
    _Reader.prose,
    _Reader.trailing_words,
    _Reader.conditioned,
    _Reader.separated,
    _Reader.set_operation,
    _Reader.relation,
    *_OBJECTS,
)
_PLUS_MINUS = ({"\\pm": "+", "\\mp": "-"}, {"\\pm": "-", "\\mp": "+"})
_OPERATORS_BEFORE = frozenset(["+", "-", "*", "/", "^", "_", "(", "[", "{", "=", ",", "|", "!", "\\cdot", "\\times"])
_SIGNS = (",", ".", ":", ";", "(", ")", "-", "!", "?")


# --- Nodes that are made of others ---


def _collection(form: Form, items: tuple[Node, ...], brackets: str) -> Collection:
    """Parts in brackets; at infinity a bracket is open however it is written."""
    if len(items) == 2 and isinstance(items[0], Infinite):
        brackets = "(" + brackets[1]
    if len(items) == 2 and isinstance(items[1], Infinite):
        brackets = brackets[0] + ")"
    return Collection(form, items, brackets)


def _flat(items: tuple[Node, ...]) -> tuple[Node, ...]:
    r"""Parts, with those of bare lists among them: `\pm 1` is two."""
    flat: list[Node] = []
    for item in items:
        flat.extend(item.items if isinstance(item, Collection) and not item.brackets else [item])
    if len(flat) > MAX_PARTS:
        raise TooLargeError
    return tuple(flat)


def _without_fillers(form: Form) -> Form:
    while form and form[0].lower() in _CONDITION_FILLERS:
        form = form[1:]
    return form


def _with_signs_for_unions(form: Form) -> Form:
    """A form with the sign for a union in the place of a letter: `(0, 1) U (2, 3)`."""
    return tuple(
        "\\cup" if token == "U" and 0 < i < len(form) - 1 and form[i - 1] in ")]" and form[i + 1] in "([" else token
        for i, token in enumerate(form)
    )


def _is_of_a_letter(node: Node) -> bool:
    """Whether a node says which values a letter may have."""
    if isinstance(node, Named):
        return "\\in" in node.tokens and (isinstance(node.value, Numbers | Union) or is_interval(node.value))
    return isinstance(node, Inequality)


def _all_left_out(form: Form, first: Inequality, others: tuple[Node, ...]) -> Node:
    r"""`x \ne 1, 2` leaves both out."""
    if first.operators != ("\\ne",):
        return Opaque(form)
    return Difference(form, Numbers(form, "R"), Collection(form, (first.sides[1], *others), "\\{\\}"))


def _multiple(factor: Scalar, cell: Node) -> Node:
    if not isinstance(cell, Scalar):
        return Opaque(cell.tokens)
    product = Product((factor.term, cell.term))
    value = value_of(product)
    return Scalar(cell.tokens, product if value is None else Number(value))


def _is_condition(node: Node) -> bool:
    """Whether a node says what has to hold: an inequality, or that a letter is in a set."""
    if isinstance(node, Inequality):
        return True
    return isinstance(node, Named) and isinstance(node.value, Numbers)


def _are_conditions(values: tuple[Node, ...], conditions: tuple[Node, ...]) -> bool:
    """Whether the last parts say something of the letters in the first ones."""
    if not all(map(_is_condition, conditions)) or isinstance(values[0], Inequality):
        return False
    about = set().union(*(letters_of(condition.tokens) for condition in conditions))
    return about <= set().union(*(letters_of(value.tokens) for value in values))


def _total(form: Form, items: tuple[Node, ...]) -> Node | None:
    """One quantity of `2 hours and 30 minutes`."""
    if set(form) & {",", ";", "or"}:
        return None
    units = [item.unit for item in items if isinstance(item, Scalar) and item.unit and item.unit.dimension]
    if len(units) < len(items) or len({unit.dimension for unit in units}) > 1 or len({u.factor for u in units}) == 1:
        return None
    smallest = min(units, key=lambda unit: unit.factor)
    total = Fraction(0)
    for item, unit in zip(items, units, strict=True):
        if not (isinstance(item, Scalar) and isinstance(item.term, Number)):
            return None
        total += item.term.value * unit.factor / smallest.factor
    return Scalar(form, Number(total), smallest)


def _as_set(node: Node) -> Node:
    """What is left out of a set: a number, or several."""
    if isinstance(node, Named):
        node = node.value
    if isinstance(node, Collection):
        return node if node.brackets else replace(node, brackets="\\{\\}")
    return Collection(node.tokens, (node,), "\\{\\}") if isinstance(node, Scalar) else node


def _transposed(form: Form, node: Node) -> Node | None:
    if isinstance(node, Collection) and node.brackets in ("()", "[]"):
        return Matrix(form, tuple((item,) for item in node.items))
    if isinstance(node, Matrix) and len({len(row) for row in node.rows}) == 1:
        return Matrix(form, tuple(zip(*node.rows, strict=True)), node.kind)
    return None


def _clock(form: Form) -> Clock | None:
    """`4:30 p.m.`, `9 am`."""
    tail = next((i for i, token in enumerate(form) if token.isalpha()), len(form))
    half = "".join(token for token in form[tail:] if token != ".").lower()
    if half not in ("am", "pm") or not tail:
        return None
    numbers = "".join(form[:tail]).strip().split(":")
    if len(numbers) > 3 or not all(number.strip().isdecimal() and len(number) < 5 for number in numbers):
        return None
    hours, minutes, seconds = [*map(int, numbers), 0, 0][:3]
    if hours > 23 or max(minutes, seconds) > 59:
        return None
    return Clock(form, Fraction(seconds, 60) + 60 * (hours % 12 + 12 * (half == "pm")) + minutes, half)


def _scaled(term: Term, scale: int) -> Term:
    if scale == 1:
        return term
    if isinstance(term, Number):
        return Number(term.value * scale, term.resolution * scale)
    return Product((term, Number(Fraction(scale))))
