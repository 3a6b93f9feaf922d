r"""Rewrite families: small functions that take a reference answer and return a way in which somebody might write it.

A preserving family keeps the meaning, so its rewrites must never be incorrect; a changing family yields another
answer, so its rewrites must never be correct. Each is registered for the kinds of reference that it applies to and
returns `None` where it does not. Most rewrites go into a box; those of a `whole` family are a response as it stands.

The families were written from what models and datasets write, before it was looked at which of them fail.
"""

import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import gcd


Rewrite = Callable[[str], "str | None"]


@dataclass(frozen=True)
class Family:
    """A named rewrite, the kinds of reference it is for, whether it keeps the meaning, whether it is a response."""

    name: str
    kinds: frozenset[str]
    rewrite: Rewrite
    keeps: bool
    whole: bool = False

    def response(self, reference: str) -> str | None:
        text = self.rewrite(reference)
        return text if text is None or self.whole else rf"So the answer is $\boxed{{{text}}}$."


FAMILIES: list[Family] = []


def _register(keeps: bool, kinds: str, whole: bool) -> Callable[[Rewrite], Rewrite]:
    def add(rewrite: Rewrite) -> Rewrite:
        FAMILIES.append(Family(rewrite.__name__, frozenset(kinds.split()), rewrite, keeps, whole))
        return rewrite

    return add


def keeps(kinds: str, whole: bool = False) -> Callable[[Rewrite], Rewrite]:
    return _register(True, kinds, whole)


def changes(kinds: str, whole: bool = False) -> Callable[[Rewrite], Rewrite]:
    return _register(False, kinds, whole)


def template(name: str, kinds: str, text: str, whole: bool = False) -> None:
    """A preserving family that puts the reference into a text, at `@`."""

    def rewrite(reference: str) -> str:
        return text.replace("@", reference)

    rewrite.__name__ = name
    FAMILIES.append(Family(name, frozenset(kinds.split()), rewrite, True, whole))


# --- Kinds of reference ----------------------------------------------------------------------------------------------

_INTEGER = r"-?[0-9]+"
_FRACTION = re.compile(r"(-?)\\[dt]?frac\{(-?[0-9]+)\}\{([0-9]+)\}")
_KINDS = {
    "integer": re.compile(_INTEGER),
    "decimal": re.compile(r"-?[0-9]*\.[0-9]+"),
    "fraction": _FRACTION,
    "percent": re.compile(r"[0-9.]+ ?\\%"),
    "degrees": re.compile(r"-?[0-9.]+\^(?:\\circ|\{\\circ\})"),
    "money": re.compile(r"\\\$ ?[0-9]+(?:\.[0-9]+)?"),
    "quantity": re.compile(r"[0-9.]+ ?(?:\\ )?\\(?:text|mbox|textnormal)\{ ?[a-z ]+\}(?:\^[23])?"),
    "point": re.compile(r"(?:\\left)? ?\((?:[^()\[\]]*,)+[^()\[\]]*\)"),
    "matrix": re.compile(r"\\begin\{pmatrix\}[^A-Za-z]*\\end\{pmatrix\}"),
    "option": re.compile(r"\\text\{\(?([A-F])\)?\}"),
    "based": re.compile(r"([0-9]+)_\{?([0-9]+)\}?"),
    "ratio": re.compile(r"([0-9]+) ?: ?([0-9]+)"),
    "linear": re.compile(r"y ?= ?(.*x.*)"),
    "named": re.compile(rf"([a-z]) ?= ?({_INTEGER})"),
    "words": re.compile(
        r"\\text\{(even|odd|circle|ellipse|parabola|east|gray|neither|orange|(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day)\}"
    ),
    "complex": re.compile(r"(-?[0-9]+) ?([+-]) ?([0-9]*)i"),
    "polynomial": re.compile(r"-?[0-9]*[a-z](?:\^[0-9])?(?: ?[+-] ?[0-9]*[a-z]?(?:\^[0-9])?)+"),
    "list": re.compile(rf"{_INTEGER}(?:, ?(?:\\[,;] ?)?{_INTEGER})+"),
    "radical": re.compile(r"([0-9]*) ?\\sqrt\{([0-9]+)\}"),
    "pi": re.compile(r"([0-9]+) ?\\pi"),
    "surds": re.compile(r"([0-9]+) ?([+-]) ?([0-9]*) ?\\sqrt\{([0-9]+)\}"),
}
_END = r"(-?(?:[0-9]+|\\infty|\\[dt]?frac\{[0-9]+\}\{[0-9]+\}))"
_INTERVAL = re.compile(rf"(?:\\left)? ?([\[(]) ?{_END} ?, ?{_END} ?(?:\\right)?([\])])")


def kinds_of(reference: str) -> set[str]:
    """The kinds of a reference; every one is of kind `any`."""
    kinds = {kind for kind, pattern in _KINDS.items() if pattern.fullmatch(reference)}
    if "list" in kinds and re.fullmatch(r"-?[0-9]{1,3}(?:,[0-9]{3})+", reference):
        kinds.remove("list")  # one number, or nobody knows
    if (match := _INTERVAL.fullmatch(reference)) and _is_interval(match):
        kinds = {"interval"}
    pieces = reference.split(r"\cup")
    if len(pieces) > 1 and all(_INTERVAL.fullmatch(piece.strip()) for piece in pieces):
        kinds = {"union"}
    if not kinds and re.fullmatch(r"[^A-Za-z,]*(?:\\(?:frac|sqrt|pi|cdot)[^A-Za-z,]*)+", reference):
        kinds.add("expression")
    return kinds | {"any"}


def _is_interval(match: re.Match[str]) -> bool:
    """Whether it is an interval for certain, and no point."""
    return "\\infty" in match[0] or {match[1], match[4]} != {"(", ")"}


def rewrites(reference: str, keeps: bool) -> Iterator[tuple[Family, str]]:
    """Family and response for each rewrite of a reference."""
    kinds = kinds_of(reference)
    for family in FAMILIES:
        if family.keeps == keeps and not family.kinds.isdisjoint(kinds):
            response = family.response(reference)
            if response is not None:
                yield family, response


def _match(kind: str, reference: str) -> re.Match[str]:
    match = _KINDS[kind].fullmatch(reference)
    assert match is not None
    return match


def _fraction(reference: str) -> Fraction:
    sign, top, bottom = _match("fraction", reference).groups()
    return Fraction(int(sign + top) if top[0] != "-" or not sign else -int(top), int(bottom))


def _exact_decimal(value: Fraction) -> str | None:
    bottom = value.denominator
    for prime in (2, 5):
        while bottom % prime == 0:
            bottom //= prime
    if bottom != 1 or value.denominator == 1:
        return None
    text = format(float(value), ".10f").rstrip("0")
    return text if Fraction(text) == value else None


def _items(reference: str) -> list[str]:
    return [item.strip() for item in re.split(r",(?:\s|\\[,;])*", reference)]


def _inside(reference: str) -> list[str]:
    """The coordinates of a point."""
    text = re.sub(r"\\(?:left|right)", "", reference).strip()
    return [item.strip() for item in text[1:-1].split(",")]


def _ends(reference: str) -> tuple[str, str, str, str]:
    match = _INTERVAL.fullmatch(reference.strip())
    assert match is not None
    return match[1], match[2], match[3], match[4]


def _inequality(reference: str, letter: str = "x") -> str:
    left, low, high, right = _ends(reference)
    text = letter
    if low != r"-\infty":
        text = f"{low} {'<' if left == '(' else chr(92) + 'le'} {text}"
    if high != r"\infty":
        text = f"{text} {'<' if right == ')' else chr(92) + 'le'} {high}"
    return text


def _rows(reference: str) -> list[list[str]]:
    body = reference.removeprefix(r"\begin{pmatrix}").removesuffix(r"\end{pmatrix}")
    return [[cell.strip() for cell in row.split("&")] for row in body.split(r"\\") if row.strip()]


# --- Preserving: wrappers of any answer ------------------------------------------------------------------------------

template("dollars", "any", "$@$")
template("two_dollars", "any", "$$@$$")
template("parentheses_delimiters", "any", r"\(@\)")
template("bracket_delimiters", "any", r"\[@\]")
template("spaces_around", "any", "  @ ")
template("newlines_around", "any", "\n@\n")
template("full_stop", "any", "@.")
template("display_style", "any", r"\displaystyle @")
template("group", "any", "{@}")
template("boxed_twice", "any", r"\boxed{@}")
template("thin_space_before", "any", r"\,@")
template("quad_after", "any", r"@\quad")
template("tilde_after", "any", "@~")
template("negative_space", "any", r"\!@")
template("color", "any", r"\color{red}{@}")
template("text_color", "any", r"\textcolor{blue}{@}")
template("color_group", "any", r"{\color{red}@}")
template("underlined", "any", r"\underline{@}")
template("bold_markdown", "integer decimal fraction point interval list", "**@**")
template("aligned", "any", r"\begin{aligned}@\end{aligned}")
template("the_answer_is", "any", r"\text{The answer is }@")
template("the_answer_is_bare", "integer decimal fraction radical pi", "The answer is @")
template("answer_colon", "any", r"\text{Answer: }@")
template("final_answer_colon", "integer decimal fraction radical interval list point", "Final answer: @")
template("leading_equals", "integer decimal fraction radical pi expression complex", "= @")
template("bold_old", "integer decimal fraction", r"{\bf @}")
template("mathbf", "integer decimal", r"\mathbf{@}")
template("boldsymbol", "integer decimal fraction radical pi", r"\boldsymbol{@}")
template("mathrm", "integer decimal", r"\mathrm{@}")
template("text", "integer decimal", r"\text{@}")
template("textbf", "integer decimal", r"\textbf{@}")
template("mbox", "integer decimal", r"\mbox{@}")
template("mathit", "integer decimal", r"\mathit{@}")
template("hspace", "any", r"@\hspace{1cm}")
template("fbox_after_text", "integer decimal fraction radical", r"We get \fbox{@} in the end.", whole=True)
template("box_in_display_math", "any", "Hence\n$$\\boxed{@}$$\nas claimed.", whole=True)
template("box_twice_in_response", "any", r"First \boxed{@}. Checking: it is \boxed{@}.", whole=True)
template("box_after_thinking", "any", r"<think>maybe \boxed{999}</think> It is \boxed{@}", whole=True)
template("left_right_group", "integer fraction radical", r"\left(@\right)")
template("brackets_around", "integer fraction decimal radical pi expression", "(@)")


# --- Preserving: names -----------------------------------------------------------------------------------------------

_VALUES = "integer decimal fraction radical pi expression complex"

template("named_x", f"{_VALUES} degrees percent money", "x = @")
template("named_tight", f"{_VALUES} degrees", "x=@")
template("named_n", "integer", "n = @")
template("named_subscript", _VALUES, "x_1 = @")
template("named_long_subscript", _VALUES, r"S_{10} = @")
template("named_function", _VALUES, "f(3) = @")
template("named_probability", "fraction decimal", "P(A) = @")
template("named_area", "integer decimal fraction radical pi", r"\text{Area} = @")
template("named_words", "integer fraction", r"\text{Total cost} = @")
template("named_segment", "integer decimal fraction radical", "AB = @")
template("named_length", "integer radical", "|AB| = @")
template("named_angle", "degrees", r"\angle ABC = @")
template("named_greek", "degrees fraction", r"\theta = @")
template("named_sine", "fraction", r"\sin A = @")
template("named_prime", "integer fraction", "f'(2) = @")
template("value_named", "integer fraction decimal radical", "@ = x")
template("named_and_integer", "integer", r"n = @,\ n \in \mathbb{Z}")
template("area_is", "integer radical pi", r"\text{The area is }@")
template("named_set", "list", r"x \in \{@\}")


# --- Preserving: numbers ---------------------------------------------------------------------------------------------


@keeps("integer")
def point_zero(reference: str) -> str:
    return reference + ".0"


@keeps("integer")
def two_decimals(reference: str) -> str:
    return reference + ".00"


@keeps("integer decimal")
def plus_sign(reference: str) -> str | None:
    return None if reference[0] == "-" else "+" + reference


@keeps("integer")
def over_one(reference: str) -> str:
    return rf"\frac{{{reference}}}{{1}}"


@keeps("integer decimal fraction")
def unicode_minus(reference: str) -> str | None:
    return reference.replace("-", "\u2212") if "-" in reference else None


@keeps("integer decimal")
def full_width_digits(reference: str) -> str:
    return "".join(chr(ord(c) + 0xFEE0) if c.isdigit() else c for c in reference)


def _grouped(reference: str, separator: str) -> str | None:
    return f"{int(reference):,}".replace(",", separator) if len(reference.strip("-")) > 3 else None


@keeps("integer")
def thousands_comma(reference: str) -> str | None:
    return _grouped(reference, ",")


@keeps("integer")
def thousands_braced_comma(reference: str) -> str | None:
    return _grouped(reference, "{,}")


@keeps("integer")
def thousands_comma_negative_space(reference: str) -> str | None:
    return _grouped(reference, ",\\!")


@keeps("integer")
def thousands_thin_space(reference: str) -> str | None:
    return _grouped(reference, "\\,")


@keeps("integer")
def thousands_space(reference: str) -> str | None:
    return _grouped(reference, " ") if len(reference.strip("-")) > 4 else None


_SMALL = "zero one two three four five six seven eight nine ten eleven twelve".split()
_TENS = {20: "twenty", 30: "thirty", 40: "forty", 50: "fifty", 60: "sixty", 70: "seventy", 80: "eighty", 90: "ninety"}


@keeps("integer")
def in_words(reference: str) -> str | None:
    value = int(reference)
    if 0 <= value <= 12:
        return rf"\text{{{_SMALL[value]}}}"
    if value % 10 == 0 and value in _TENS:
        return rf"\text{{{_TENS[value]}}}"
    tens = value // 10 * 10
    return rf"\text{{{_TENS[tens]}-{_SMALL[value % 10]}}}" if tens in _TENS else None


@keeps("integer")
def digits_and_words(reference: str) -> str | None:
    value = int(reference)
    return rf"{value} \text{{ ({_SMALL[value]})}}" if 0 <= value <= 12 else None


@keeps("integer")
def power_of_ten(reference: str) -> str | None:
    digits = reference.rstrip("0")
    zeros = len(reference) - len(digits)
    return rf"{digits} \times 10^{{{zeros}}}" if zeros >= 2 and digits not in ("", "-") else None


@keeps("integer")
def e_notation(reference: str) -> str | None:
    digits = reference.rstrip("0")
    zeros = len(reference) - len(digits)
    return f"{digits}e{zeros}" if zeros >= 2 and digits not in ("", "-") else None


@keeps("integer")
def in_millions(reference: str) -> str | None:
    value = int(reference)
    return rf"{value // 10**6} \text{{ million}}" if value and value % 10**6 == 0 else None


@keeps("integer")
def sum_that_ends_in_it(reference: str) -> str:
    value = int(reference)
    return f"{value - 3}+3={value}"


@keeps("integer")
def difference_that_ends_in_it(reference: str) -> str:
    value = int(reference)
    return f"{value + 4} - 4 = {value}"


@keeps("integer")
def product_that_ends_in_it(reference: str) -> str | None:
    value = int(reference)
    return rf"2 \times {value // 2} = {value}" if value > 0 and value % 2 == 0 else None


@keeps("integer fraction decimal radical pi")
def equal_to_itself(reference: str) -> str:
    return f"{reference} = {reference}"


@keeps("integer")
def named_chain(reference: str) -> str:
    value = int(reference)
    return f"S = {value - 5} + 5 = {value}"


@keeps("integer")
def sum_with_unit(reference: str) -> str | None:
    value = int(reference)
    return rf"{value - 2}+2={value}\text{{ cm}}" if value > 2 else None


@keeps("integer")
def ordinal(reference: str) -> str | None:
    value = int(reference)
    if value <= 0:
        return None
    ending = {1: "st", 2: "nd", 3: "rd"}.get(value % 10, "th") if value % 100 not in (11, 12, 13) else "th"
    return rf"{value}^{{\text{{{ending}}}}}"


template("with_centimetres", "integer decimal fraction radical", r"@\text{ cm}")
template("with_square_feet", "integer radical pi", r"@\text{ square feet}")
template("with_apples", "integer", r"@\text{ apples}")
template("with_ways", "integer", r"@\text{ ways}")
template("with_units_squared", "integer", r"@\text{ units}^2")
template("with_dollar_sign", "integer", r"\$@")
template("with_dollars_word", "integer", r"@\text{ dollars}")
template("with_degree_sign", "integer", r"@^\circ")
template("with_euro_sign", "integer", "€@")
template("with_percent", "integer", r"@\%")
template("exactly", "integer", r"\text{exactly }@")


@keeps("decimal")
def trailing_zeros(reference: str) -> str:
    return reference + "00"


@keeps("decimal")
def leading_zero(reference: str) -> str | None:
    whole, _, decimals = reference.partition(".")
    if whole in ("", "-"):
        return f"{whole}0.{decimals}"
    return f"{whole.removesuffix('0')}.{decimals}" if whole in ("0", "-0") else None


@keeps("decimal")
def decimal_as_fraction(reference: str) -> str:
    value = Fraction(reference)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}"


@keeps("decimal")
def decimal_as_slash(reference: str) -> str:
    value = Fraction(reference)
    return f"{value.numerator}/{value.denominator}"


@keeps("decimal")
def decimal_scientific(reference: str) -> str:
    return rf"{Fraction(reference) and reference} \times 10^{{0}}"


@keeps("decimal")
def decimal_and_fraction(reference: str) -> str:
    value = Fraction(reference)
    return rf"{reference} = \frac{{{value.numerator}}}{{{value.denominator}}}"


@keeps("fraction")
def slash(reference: str) -> str:
    value = re.sub(r"\\[dt]?frac\{(-?[0-9]+)\}\{([0-9]+)\}", r"\1/\2", reference)
    return value


@keeps("fraction")
def slash_with_spaces(reference: str) -> str:
    return re.sub(r"\\[dt]?frac\{(-?[0-9]+)\}\{([0-9]+)\}", r"\1 / \2", reference)


@keeps("fraction expression")
def dfrac(reference: str) -> str:
    return re.sub(r"\\[dt]?frac", r"\\dfrac", reference)


@keeps("fraction expression")
def tfrac(reference: str) -> str:
    return re.sub(r"\\[dt]?frac", r"\\tfrac", reference)


@keeps("fraction")
def cfrac(reference: str) -> str:
    return re.sub(r"\\[dt]?frac", r"\\cfrac", reference)


@keeps("fraction")
def over(reference: str) -> str:
    return re.sub(r"\\[dt]?frac\{(-?[0-9]+)\}\{([0-9]+)\}", r"{\1 \\over \2}", reference)


@keeps("fraction")
def short_fraction(reference: str) -> str | None:
    text = re.sub(r"\\[dt]?frac\{([0-9])\}\{([0-9])\}", r"\\frac\1\2", reference)
    return text if text != reference else None


@keeps("fraction")
def nicefrac(reference: str) -> str:
    return re.sub(r"\\[dt]?frac", r"\\nicefrac", reference)


@keeps("fraction")
def sfrac(reference: str) -> str:
    return re.sub(r"\\[dt]?frac", r"\\sfrac", reference)


@keeps("fraction")
def unreduced(reference: str) -> str:
    value = _fraction(reference)
    return rf"\frac{{{value.numerator * 3}}}{{{value.denominator * 3}}}"


@keeps("fraction")
def minus_inside(reference: str) -> str | None:
    value = _fraction(reference)
    return rf"\frac{{{value.numerator}}}{{{value.denominator}}}" if value < 0 else None


@keeps("fraction")
def minus_below(reference: str) -> str | None:
    value = _fraction(reference)
    return rf"\frac{{{-value.numerator}}}{{-{value.denominator}}}" if value < 0 else None


@keeps("fraction")
def as_decimal(reference: str) -> str | None:
    return _exact_decimal(_fraction(reference))


@keeps("fraction")
def fraction_and_decimal(reference: str) -> str | None:
    decimal = _exact_decimal(_fraction(reference))
    return decimal and f"{reference} = {decimal}"


@keeps("fraction")
def fraction_and_decimal_in_brackets(reference: str) -> str | None:
    decimal = _exact_decimal(_fraction(reference))
    return decimal and rf"{reference}\ ({decimal})"


@keeps("fraction")
def fraction_or_decimal(reference: str) -> str | None:
    decimal = _exact_decimal(_fraction(reference))
    return decimal and rf"{reference} \text{{ or }} {decimal}"


@keeps("fraction")
def fraction_and_rounding(reference: str) -> str | None:
    value = _fraction(reference)
    return None if _exact_decimal(value) or value.denominator == 1 else rf"{reference} \approx {float(value):.4f}"


@keeps("fraction")
def unreduced_chain(reference: str) -> str:
    value = _fraction(reference)
    return rf"\frac{{{value.numerator * 2}}}{{{value.denominator * 2}}} = {reference}"


def _mixed(reference: str) -> tuple[int, Fraction] | None:
    value = _fraction(reference)
    whole = int(value)
    return None if value < 1 or value.denominator == 1 else (whole, value - whole)


@keeps("fraction")
def mixed(reference: str) -> str | None:
    parts = _mixed(reference)
    return parts and rf"{parts[0]}\frac{{{parts[1].numerator}}}{{{parts[1].denominator}}}"


@keeps("fraction")
def mixed_plain(reference: str) -> str | None:
    parts = _mixed(reference)
    return parts and f"{parts[0]} {parts[1].numerator}/{parts[1].denominator}"


@keeps("fraction")
def mixed_with_space(reference: str) -> str | None:
    parts = _mixed(reference)
    return parts and rf"{parts[0]}\ \frac{{{parts[1].numerator}}}{{{parts[1].denominator}}}"


def _repeating(value: Fraction) -> tuple[str, str, str] | None:
    """Whole part, digits before the period, period."""
    if value < 0 or value.denominator == 1 or _exact_decimal(value):
        return None
    whole, rest = divmod(value.numerator, value.denominator)
    digits, seen = "", {}
    while rest not in seen:
        seen[rest] = len(digits)
        rest *= 10
        digits += str(rest // value.denominator)
        rest %= value.denominator
        if len(digits) > 12:
            return None
    start = seen[rest]
    return str(whole), digits[:start], digits[start:]


@keeps("fraction")
def repeating_overline(reference: str) -> str | None:
    parts = _repeating(_fraction(reference))
    return parts and rf"{parts[0]}.{parts[1]}\overline{{{parts[2]}}}"


@keeps("fraction")
def repeating_dot(reference: str) -> str | None:
    parts = _repeating(_fraction(reference))
    return rf"{parts[0]}.{parts[1]}\dot{{{parts[2]}}}" if parts and len(parts[2]) == 1 else None


@keeps("fraction")
def repeating_dots(reference: str) -> str | None:
    parts = _repeating(_fraction(reference))
    return rf"{parts[0]}.{parts[1]}{parts[2] * 4}\ldots" if parts and len(parts[2]) <= 2 else None


_FRACTION_WORDS = {
    Fraction(1, 2): "one half",
    Fraction(1, 3): "one third",
    Fraction(2, 3): "two-thirds",
    Fraction(1, 4): "one quarter",
    Fraction(3, 4): "three fourths",
    Fraction(2, 5): "two fifths",
}


@keeps("fraction")
def fraction_in_words(reference: str) -> str | None:
    words = _FRACTION_WORDS.get(_fraction(reference))
    return words and rf"\text{{{words}}}"


@keeps("fraction")
def vulgar(reference: str) -> str | None:
    signs = {Fraction(1, 2): "½", Fraction(1, 3): "⅓", Fraction(1, 4): "¼", Fraction(3, 4): "¾", Fraction(2, 3): "⅔"}
    return signs.get(_fraction(reference))


@keeps("fraction")
def python_fraction(reference: str) -> str:
    value = _fraction(reference)
    return f"({value.numerator})/({value.denominator})"


@keeps("percent")
def percent_word(reference: str) -> str:
    return reference.replace("\\%", r"\text{ percent}")


@keeps("percent")
def percent_bare(reference: str) -> str:
    return reference.replace("\\%", "%")


@keeps("percent")
def percent_dropped(reference: str) -> str:
    return reference.replace("\\%", "").strip()


@keeps("percent")
def percent_decimal(reference: str) -> str | None:
    return reference.replace("\\%", ".0\\%").replace(" .0", ".0") if "." not in reference else None


@keeps("degrees")
def degrees_word(reference: str) -> str:
    return re.sub(r"\^(?:\\circ|\{\\circ\})", r"\\text{ degrees}", reference)


@keeps("degrees")
def degrees_braced(reference: str) -> str:
    return re.sub(r"\^(?:\\circ|\{\\circ\})", r"^{\\circ}", reference)


@keeps("degrees")
def degrees_unicode(reference: str) -> str:
    return re.sub(r"\^(?:\\circ|\{\\circ\})", "°", reference)


@keeps("degrees")
def degrees_dropped(reference: str) -> str:
    return re.sub(r"\^(?:\\circ|\{\\circ\})", "", reference)


@keeps("money")
def dollars_word(reference: str) -> str:
    return reference.replace("\\$", "").strip() + r"\text{ dollars}"


@keeps("money")
def dollar_dropped(reference: str) -> str:
    return reference.replace("\\$", "").strip()


@keeps("money")
def usd(reference: str) -> str:
    return reference.replace("\\$", "").strip() + r"\text{ USD}"


@keeps("money")
def cents_written_out(reference: str) -> str | None:
    return reference + ".00" if "." not in reference else None


_NUMBER_AND_UNIT = re.compile(r"([0-9.]+) ?(?:\\ )?\\(?:text|mbox|textnormal)\{ ?([a-z ]+)\}(\^[23])?")


def _quantity(reference: str) -> tuple[str, str, str]:
    match = _NUMBER_AND_UNIT.fullmatch(reference)
    assert match is not None
    return match[1], match[2].strip(), match[3] or ""


@keeps("quantity")
def unit_dropped(reference: str) -> str:
    return _quantity(reference)[0]


@keeps("quantity")
def unit_in_mathrm(reference: str) -> str | None:
    number, unit, power = _quantity(reference)
    return rf"{number}\ \mathrm{{{unit}}}{power}" if " " not in unit else None


@keeps("quantity")
def unit_after_tilde(reference: str) -> str:
    number, unit, power = _quantity(reference)
    return rf"{number}~\text{{{unit}}}{power}"


_ABBREVIATIONS = {"feet": "ft", "inches": "in", "cm": "centimeters", "miles": "mi", "pounds": "lb", "hours": "h"}
_ABBREVIATIONS |= {"square feet": "ft^2", "square inches": "in^2", "minutes": "min", "meters": "m", "degrees": "°"}


@keeps("quantity")
def unit_abbreviated(reference: str) -> str | None:
    number, unit, power = _quantity(reference)
    return rf"{number} \text{{ {_ABBREVIATIONS[unit]}}}" if unit in _ABBREVIATIONS and not power else None


_CONVERSIONS = {"feet": (12, "inches"), "hours": (60, "minutes"), "cm": (10, "mm"), "days": (24, "hours")}


@keeps("quantity")
def unit_converted(reference: str) -> str | None:
    number, unit, power = _quantity(reference)
    if unit not in _CONVERSIONS or power:
        return None
    factor, other = _CONVERSIONS[unit]
    value = Fraction(number) * factor
    return rf"{value} \text{{ {other}}}" if value.denominator == 1 else None


# --- Preserving: expressions -----------------------------------------------------------------------------------------


@keeps("radical expression")
def sqrt_sign(reference: str) -> str | None:
    return re.sub(r"\\sqrt\{([0-9]+)\}", r"√\1", reference) if r"\sqrt{" in reference else None


@keeps("radical")
def sqrt_plain(reference: str) -> str:
    number, radicand = _match("radical", reference).groups()
    return f"{number}*sqrt({radicand})" if number else f"sqrt({radicand})"


@keeps("radical")
def sqrt_cdot(reference: str) -> str | None:
    number, radicand = _match("radical", reference).groups()
    return rf"{number} \cdot \sqrt{{{radicand}}}" if number else None


@keeps("radical")
def sqrt_times(reference: str) -> str | None:
    number, radicand = _match("radical", reference).groups()
    return rf"{number} \times \sqrt{{{radicand}}}" if number else None


@keeps("radical")
def sqrt_first(reference: str) -> str | None:
    number, radicand = _match("radical", reference).groups()
    return rf"\sqrt{{{radicand}}} \cdot {number}" if number else None


@keeps("radical")
def sqrt_as_power(reference: str) -> str:
    number, radicand = _match("radical", reference).groups()
    return rf"{number} \cdot {radicand}^{{1/2}}" if number else rf"{radicand}^{{\frac12}}"


@keeps("radical")
def sqrt_with_index(reference: str) -> str:
    return reference.replace(r"\sqrt{", r"\sqrt[2]{")


@keeps("radical")
def under_one_root(reference: str) -> str | None:
    number, radicand = _match("radical", reference).groups()
    return rf"\sqrt{{{int(number) ** 2 * int(radicand)}}}" if number else None


@keeps("radical")
def rationalized(reference: str) -> str | None:
    number, radicand = _match("radical", reference).groups()
    return rf"\frac{{{int(number or 1) * int(radicand)}}}{{\sqrt{{{radicand}}}}}"


@keeps("radical pi surds")
def doubled_and_halved(reference: str) -> str:
    return rf"\frac{{2({reference})}}{{2}}"


@keeps("pi")
def pi_sign(reference: str) -> str:
    return reference.replace("\\pi", "π")


@keeps("pi")
def pi_word(reference: str) -> str:
    return reference.replace("\\pi", "pi")


@keeps("pi")
def pi_cdot(reference: str) -> str:
    return rf"{_match('pi', reference)[1]} \cdot \pi"


@keeps("pi")
def pi_star(reference: str) -> str:
    return f"{_match('pi', reference)[1]}*pi"


@keeps("pi")
def pi_first(reference: str) -> str:
    return rf"\pi \cdot {_match('pi', reference)[1]}"


@keeps("pi")
def pi_chain(reference: str) -> str:
    number = int(_match("pi", reference)[1])
    return rf"A = \pi r^2 = {number}\pi" if number else reference


@keeps("surds")
def summands_swapped(reference: str) -> str:
    first, sign, factor, radicand = _match("surds", reference).groups()
    return rf"{'-' if sign == '-' else ''}{factor}\sqrt{{{radicand}}} + {first}"


@keeps("surds")
def surd_common_factor(reference: str) -> str | None:
    first, sign, factor, radicand = _match("surds", reference).groups()
    common = gcd(int(first), int(factor or 1))
    if common == 1:
        return None
    return rf"{common}({int(first) // common} {sign} {int(factor) // common}\sqrt{{{radicand}}})"


@keeps("surds")
def surd_over_two(reference: str) -> str:
    first, sign, factor, radicand = _match("surds", reference).groups()
    return rf"\frac{{{2 * int(first)} {sign} {2 * int(factor or 1)}\sqrt{{{radicand}}}}}{{2}}"


@keeps("complex")
def imaginary_first(reference: str) -> str:
    real, sign, factor = _match("complex", reference).groups()
    sign = "-" if sign == "-" else ""
    return f"{sign}{factor}i + {real}" if real[0] != "-" else f"{sign}{factor}i - {real[1:]}"


@keeps("complex")
def imaginary_upright(reference: str) -> str:
    return reference.replace("i", r"\mathrm{i}")


@keeps("complex")
def imaginary_thin_space(reference: str) -> str:
    return reference.replace("i", r"\,i")


@keeps("complex")
def imaginary_cdot(reference: str) -> str | None:
    real, sign, factor = _match("complex", reference).groups()
    return rf"{real} {sign} {factor} \cdot i" if factor else None


@keeps("complex")
def imaginary_in_brackets(reference: str) -> str:
    real, sign, factor = _match("complex", reference).groups()
    return f"{real} + ({'-' if sign == '-' else ''}{factor}i)"


def _terms(reference: str) -> list[str]:
    return re.findall(r"[+-]?[^+-]+", reference.replace(" ", ""))


@keeps("polynomial")
def terms_reversed(reference: str) -> str:
    terms = _terms(reference)[::-1]
    return "".join(term if term[0] in "+-" else "+" + term for term in terms).removeprefix("+")


@keeps("polynomial")
def no_spaces(reference: str) -> str:
    return reference.replace(" ", "")


@keeps("polynomial")
def spaces_everywhere(reference: str) -> str:
    return re.sub(r"([+*/=()-])", r" \1 ", reference.replace(" ", ""))


@keeps("polynomial")
def stars(reference: str) -> str | None:
    text = re.sub(r"([0-9])([a-z])", r"\1*\2", reference)
    return text if text != reference else None


@keeps("polynomial")
def double_stars(reference: str) -> str | None:
    return reference.replace("^", "**") if "^" in reference else None


@keeps("polynomial")
def braced_exponents(reference: str) -> str | None:
    text = re.sub(r"\^([0-9])", r"^{\1}", reference)
    return text if text != reference else None


@keeps("polynomial")
def unicode_squares(reference: str) -> str | None:
    return reference.replace("^2", "²").replace("^3", "³") if re.search(r"\^[23]", reference) else None


@keeps("polynomial")
def cdots(reference: str) -> str | None:
    text = re.sub(r"([0-9])([a-z])", r"\1 \\cdot \2", reference)
    return text if text != reference else None


@keeps("polynomial")
def minus_taken_out(reference: str) -> str:
    turned = "".join({"+": "-", "-": "+"}[t[0]] + t[1:] if t[0] in "+-" else "-" + t for t in _terms(reference))
    return f"-({turned.removeprefix('+')})"


@keeps("polynomial")
def polynomial_named(reference: str) -> str:
    return f"P(x) = {reference}"


@keeps("polynomial")
def polynomial_for_all(reference: str) -> str:
    letter = next(c for c in reference if c.isalpha())
    return rf"{reference},\ {letter} \in \mathbb{{R}}"


@keeps("polynomial")
def polynomial_times_one(reference: str) -> str:
    return rf"\left({reference}\right) \cdot 1"


@keeps("polynomial")
def polynomial_common_denominator(reference: str) -> str:
    return rf"\frac{{2({reference})}}{{2}}"


# --- Preserving: lists, points, intervals ----------------------------------------------------------------------------


@keeps("list")
def list_reversed(reference: str) -> str:
    return ", ".join(_items(reference)[::-1])


@keeps("list")
def list_in_braces(reference: str) -> str:
    return rf"\{{{', '.join(_items(reference))}\}}"


@keeps("list")
def list_and(reference: str) -> str:
    *first, last = _items(reference)
    return rf"{', '.join(first)} \text{{ and }} {last}"


@keeps("list")
def list_comma_and(reference: str) -> str | None:
    *first, last = _items(reference)
    return rf"{', '.join(first)}, \text{{ and }} {last}" if len(first) > 1 else None


@keeps("list")
def list_or(reference: str) -> str:
    return r" \text{ or } ".join(_items(reference))


@keeps("list")
def list_semicolons(reference: str) -> str:
    return "; ".join(_items(reference))


@keeps("list")
def list_named_each(reference: str) -> str:
    return r" \text{ or } ".join(f"x = {item}" for item in _items(reference))


@keeps("list")
def list_named_once(reference: str) -> str:
    return "x = " + ", ".join(_items(reference))


@keeps("list")
def list_subscripts(reference: str) -> str:
    return ", ".join(f"x_{i} = {item}" for i, item in enumerate(_items(reference), start=1))


@keeps("list")
def list_quads(reference: str) -> str:
    return r",\quad ".join(_items(reference))


@keeps("list")
def list_repeated(reference: str) -> str:
    items = _items(reference)
    return ", ".join([*items, items[0]])


@keeps("list")
def list_plus_minus(reference: str) -> str | None:
    items = _items(reference)
    if len(items) != 2 or int(items[0]) != -int(items[1]):
        return None
    return rf"\pm {abs(int(items[0]))}"


@keeps("list", whole=True)
def list_boxes_comma(reference: str) -> str:
    return "Hence " + ", ".join(rf"$\boxed{{{item}}}$" for item in _items(reference)) + "."


@keeps("list", whole=True)
def list_boxes_with_names(reference: str) -> str | None:
    items = _items(reference)
    return (
        rf"Hence $x_1=\boxed{{{items[0]}}}$ and $x_2=\boxed{{{items[1]}}}$."
        if len(set(items)) == 2 == len(items)
        else None
    )


@keeps("list", whole=True)
def list_boxes_on_lines(reference: str) -> str | None:
    items = _items(reference)
    if len(set(items)) != len(items):
        return None
    return "\n".join(rf"{i}. $\boxed{{{item}}}$" for i, item in enumerate(items, start=1))


@keeps("list", whole=True)
def list_boxes_with_words(reference: str) -> str | None:
    items = _items(reference)
    if len(set(items)) != len(items):
        return None
    return " The other one: ".join(rf"We find \boxed{{{item}}}." for item in items)


@keeps("point")
def point_left_right(reference: str) -> str:
    return rf"\left({', '.join(_inside(reference))}\right)"


@keeps("point")
def point_spaces(reference: str) -> str:
    return f"( {' , '.join(_inside(reference))} )"


@keeps("point")
def point_tight(reference: str) -> str:
    return f"({','.join(_inside(reference))})"


@keeps("point")
def point_big(reference: str) -> str:
    return rf"\bigl({', '.join(_inside(reference))}\bigr)"


@keeps("point")
def point_angle_brackets(reference: str) -> str:
    return rf"\langle {', '.join(_inside(reference))} \rangle"


@keeps("point")
def point_named(reference: str) -> str | None:
    items = _inside(reference)
    names = "xyz"[: len(items)]
    return f"({','.join(names)}) = ({', '.join(items)})" if len(items) in (2, 3) else None


@keeps("point")
def point_by_names(reference: str) -> str | None:
    items = _inside(reference)
    return ", ".join(f"{n} = {item}" for n, item in zip("xyz", items, strict=False)) if len(items) in (2, 3) else None


@keeps("point")
def point_by_names_and(reference: str) -> str | None:
    items = _inside(reference)
    return rf"x = {items[0]} \text{{ and }} y = {items[1]}" if len(items) == 2 else None


@keeps("point")
def point_semicolon(reference: str) -> str:
    return f"({'; '.join(_inside(reference))})"


@keeps("point")
def point_without_brackets(reference: str) -> str:
    return ", ".join(_inside(reference))


@keeps("point", whole=True)
def point_boxes(reference: str) -> str | None:
    items = _inside(reference)
    if len(items) != 2 or items[0] == items[1]:
        return None
    return rf"We get $x=\boxed{{{items[0]}}}$ and $y=\boxed{{{items[1]}}}$."


@keeps("point")
def point_column(reference: str) -> str:
    return rf"\begin{{pmatrix}} {(chr(92) * 2 + ' ').join(_inside(reference))} \end{{pmatrix}}"


@keeps("point")
def the_point(reference: str) -> str:
    return rf"\text{{the point }}{reference}"


@keeps("interval union")
def plus_infinity(reference: str) -> str | None:
    text = re.sub(r"(?<!-)\\infty", r"+\\infty", reference)
    return text if text != reference else None


@keeps("interval union")
def infinity_sign(reference: str) -> str | None:
    return reference.replace("\\infty", "∞") if "\\infty" in reference else None


@keeps("interval")
def in_interval(reference: str) -> str:
    return rf"x \in {reference}"


@keeps("interval")
def as_inequality(reference: str) -> str | None:
    text = _inequality(reference)
    return text if text != "x" else None


@keeps("interval")
def as_inequality_other_letter(reference: str) -> str | None:
    text = _inequality(reference, "a")
    return text if text != "a" else None


@keeps("interval")
def as_set(reference: str) -> str | None:
    text = _inequality(reference)
    return rf"\{{x \mid {text}\}}" if text != "x" else None


@keeps("interval")
def as_set_of_reals(reference: str) -> str | None:
    text = _inequality(reference)
    return rf"\{{x \in \mathbb{{R}} : {text}\}}" if text != "x" else None


@keeps("interval")
def french_interval(reference: str) -> str:
    left, low, high, right = _ends(reference)
    return f"{']' if left == '(' else '['}{low}, {high}{'[' if right == ')' else ']'}"


@keeps("interval")
def interval_left_right(reference: str) -> str:
    left, low, high, right = _ends(reference)
    return rf"\left{left}{low}, {high}\right{right}"


@keeps("interval")
def two_inequalities(reference: str) -> str | None:
    left, low, high, right = _ends(reference)
    if "\\infty" in low + high:
        return None
    above, below = ">" if left == "(" else r"\ge", "<" if right == ")" else r"\le"
    return rf"x {above} {low} \text{{ and }} x {below} {high}"


@keeps("union")
def union_or(reference: str) -> str:
    return reference.replace(r"\cup", r"\text{ or }")


@keeps("union")
def union_reversed(reference: str) -> str:
    return r" \cup ".join(piece.strip() for piece in reference.split(r"\cup")[::-1])


@keeps("union")
def union_sign(reference: str) -> str:
    return reference.replace(r"\cup", "∪")


@keeps("union")
def union_of_inequalities(reference: str) -> str:
    return r" \text{ or } ".join(_inequality(piece) for piece in reference.split(r"\cup"))


@keeps("union")
def union_in(reference: str) -> str:
    return rf"x \in {reference}"


def _hole(reference: str) -> str | None:
    """The one point that a union leaves out of the real line."""
    pieces = [_ends(piece) for piece in reference.split(r"\cup")]
    if len(pieces) != 2 or pieces[0][:2] != ("(", r"-\infty") or pieces[1][2:] != (r"\infty", ")"):
        return None
    is_hole = pieces[0][2] == pieces[1][1] and pieces[0][3] == ")" and pieces[1][0] == "("
    return pieces[0][2] if is_hole else None


@keeps("union")
def reals_without(reference: str) -> str | None:
    hole = _hole(reference)
    return hole and rf"\mathbb{{R}} \setminus \{{{hole}\}}"


@keeps("union")
def not_equal(reference: str) -> str | None:
    hole = _hole(reference)
    return hole and rf"x \neq {hole}"


@keeps("union")
def all_reals_except(reference: str) -> str | None:
    hole = _hole(reference)
    return hole and rf"\text{{all real numbers except }}{hole}"


# --- Preserving: matrices, words, options, bases, ratios, equations --------------------------------------------------


@keeps("matrix")
def bmatrix(reference: str) -> str:
    return reference.replace("pmatrix", "bmatrix")


@keeps("matrix")
def array_in_brackets(reference: str) -> str:
    columns = "c" * len(_rows(reference)[0])
    body = reference.removeprefix(r"\begin{pmatrix}").removesuffix(r"\end{pmatrix}")
    return rf"\left[\begin{{array}}{{{columns}}}{body}\end{{array}}\right]"


@keeps("matrix")
def matrix_in_parentheses(reference: str) -> str:
    return r"\left(" + reference.replace("pmatrix", "matrix") + r"\right)"


@keeps("matrix")
def small_matrix(reference: str) -> str:
    return r"\left(" + reference.replace("pmatrix", "smallmatrix") + r"\right)"


@keeps("matrix")
def nested_lists(reference: str) -> str | None:
    rows = _rows(reference)
    return f"[{', '.join('[' + ', '.join(row) + ']' for row in rows)}]" if len(rows[0]) > 1 else None


@keeps("matrix")
def trailing_row_end(reference: str) -> str:
    return reference.replace(r"\end", r"\\ \end")


@keeps("matrix")
def matrix_tight(reference: str) -> str:
    rows = _rows(reference)
    return rf"\begin{{pmatrix}}{(chr(92) * 2).join('&'.join(row) for row in rows)}\end{{pmatrix}}"


@keeps("matrix")
def column_as_point(reference: str) -> str | None:
    rows = _rows(reference)
    return f"({', '.join(row[0] for row in rows)})" if len(rows[0]) == 1 else None


@keeps("matrix")
def matrix_named(reference: str) -> str:
    return rf"A^{{-1}} = {reference}"


@keeps("words")
def word_bare(reference: str) -> str:
    return _match("words", reference)[1]


@keeps("words")
def word_bold(reference: str) -> str:
    return rf"\textbf{{{_match('words', reference)[1]}}}"


@keeps("words")
def word_capital(reference: str) -> str:
    return rf"\text{{{_match('words', reference)[1].capitalize()}}}"


@keeps("words")
def word_upper(reference: str) -> str:
    return rf"\text{{{_match('words', reference)[1].upper()}}}"


@keeps("words")
def word_quoted(reference: str) -> str:
    return rf"\text{{“{_match('words', reference)[1]}”}}"


@keeps("words")
def word_sentence(reference: str) -> str:
    return rf"\text{{It is {_match('words', reference)[1]}.}}"


@keeps("words")
def word_with_article(reference: str) -> str | None:
    word = _match("words", reference)[1]
    article = {"circle": "a", "ellipse": "an", "parabola": "a"}.get(word)
    return article and rf"\text{{{article} {word}}}"


@keeps("words")
def word_plural(reference: str) -> str | None:
    word = _match("words", reference)[1]
    return rf"\text{{{word}s}}" if word in ("circle", "ellipse", "parabola") else None


@keeps("option")
def option_letter(reference: str) -> str:
    return _match("option", reference)[1]


@keeps("option")
def option_in_brackets(reference: str) -> str:
    return f"({_match('option', reference)[1]})"


@keeps("option")
def option_bold(reference: str) -> str:
    return rf"\textbf{{({_match('option', reference)[1]})}}"


@keeps("option")
def option_upright(reference: str) -> str:
    return rf"\mathrm{{({_match('option', reference)[1]})}}"


@keeps("option")
def option_word(reference: str) -> str:
    return rf"\text{{Option {_match('option', reference)[1]}}}"


@keeps("option")
def option_with_value(reference: str) -> str:
    return rf"\textbf{{({_match('option', reference)[1]})}}\ 17"


@keeps("option")
def option_parenthesis(reference: str) -> str:
    return f"{_match('option', reference)[1]}) 17"


@keeps("option")
def option_full_stop(reference: str) -> str:
    return rf"\text{{{_match('option', reference)[1]}. a circle}}"


@keeps("based")
def base_braced(reference: str) -> str:
    digits, base = _match("based", reference).groups()
    return f"{digits}_{{{base}}}"


@keeps("based")
def base_in_brackets(reference: str) -> str:
    digits, base = _match("based", reference).groups()
    return f"({digits})_{{{base}}}"


@keeps("based")
def base_bracketed(reference: str) -> str:
    digits, base = _match("based", reference).groups()
    return f"{digits}_{{({base})}}"


@keeps("based")
def base_in_words(reference: str) -> str | None:
    digits, base = _match("based", reference).groups()
    return rf"{digits}_{{\text{{{_SMALL[int(base)]}}}}}" if int(base) <= 12 else None


@keeps("based")
def base_spelled_out(reference: str) -> str:
    digits, base = _match("based", reference).groups()
    return rf"{digits} \text{{ (base {base})}}"


@keeps("based")
def base_after_in(reference: str) -> str:
    digits, base = _match("based", reference).groups()
    return rf"{digits}\text{{ in base }}{base}"


@keeps("ratio")
def ratio_colon(reference: str) -> str:
    left, right = _match("ratio", reference).groups()
    return rf"{left} \colon {right}"


@keeps("ratio")
def ratio_spaces(reference: str) -> str:
    left, right = _match("ratio", reference).groups()
    return f"{left} : {right}"


@keeps("ratio")
def ratio_to(reference: str) -> str:
    left, right = _match("ratio", reference).groups()
    return rf"{left} \text{{ to }} {right}"


@keeps("linear")
def sides_swapped(reference: str) -> str:
    return f"{_match('linear', reference)[1]} = y"


@keeps("linear")
def moved_to_one_side(reference: str) -> str:
    return f"y - ({_match('linear', reference)[1]}) = 0"


@keeps("linear")
def name_left_out(reference: str) -> str:
    return _match("linear", reference)[1]


@keeps("linear")
def doubled_equation(reference: str) -> str:
    return f"2y = 2({_match('linear', reference)[1]})"


@keeps("linear")
def function_for_y(reference: str) -> str:
    return f"f(x) = {_match('linear', reference)[1]}"


@keeps("named")
def named_value_only(reference: str) -> str:
    return _match("named", reference)[2]


@keeps("named")
def named_value_first(reference: str) -> str:
    name, value = _match("named", reference).groups()
    return f"{value} = {name}"


# --- Changing --------------------------------------------------------------------------------------------------------


@changes("integer")
def plus_one(reference: str) -> str:
    return str(int(reference) + 1)


@changes("integer")
def minus_one(reference: str) -> str:
    return str(int(reference) - 1)


@changes("integer")
def negated(reference: str) -> str | None:
    return str(-int(reference)) if int(reference) else None


@changes("integer")
def ten_times(reference: str) -> str | None:
    return reference + "0" if int(reference) else None


@changes("integer")
def hundredth(reference: str) -> str | None:
    return rf"\frac{{{reference}}}{{100}}" if int(reference) else None


@changes("integer")
def digits_swapped(reference: str) -> str | None:
    return (
        reference[:-2] + reference[-1] + reference[-2]
        if len(reference) > 2 and reference[-1] != reference[-2]
        else None
    )


@changes("integer")
def last_digit_lost(reference: str) -> str | None:
    return reference[:-1] if len(reference.strip("-")) > 1 else None


@changes("integer")
def chain_to_another(reference: str) -> str:
    value = int(reference)
    return f"{value - 3}+4={value + 1}"


@changes("integer")
def with_another_value(reference: str) -> str:
    return f"{reference}, {int(reference) + 7}"


@changes("integer")
def or_another_value(reference: str) -> str:
    return rf"{reference} \text{{ or }} {int(reference) + 2}"


@changes("integer")
def plus_minus(reference: str) -> str | None:
    return rf"\pm {reference}" if int(reference) > 0 else None


@changes("integer")
def as_bound(reference: str) -> str:
    return f"x > {reference}"


@changes("integer")
def times_a_letter(reference: str) -> str | None:
    return f"{reference}x" if int(reference) else None


@changes("integer")
def times_pi(reference: str) -> str | None:
    return rf"{reference}\pi" if int(reference) else None


@changes("integer")
def as_its_root(reference: str) -> str | None:
    return rf"\sqrt{{{reference}}}" if int(reference) > 1 else None


@changes("integer")
def squared(reference: str) -> str | None:
    return f"({reference})^2" if abs(int(reference)) > 1 else None


@changes("integer")
def half_more(reference: str) -> str | None:
    return rf"{reference}\frac12" if int(reference) > 0 else None


@changes("integer")
def in_a_pair(reference: str) -> str:
    return f"({reference}, 0)"


@changes("integer", whole=True)
def no_box_at_all(reference: str) -> str:
    return "I do not know the answer."


@changes("integer", whole=True)
def last_box_wrong(reference: str) -> str:
    return rf"First \boxed{{{reference}}}, but a check shows that it is \boxed{{{int(reference) + 1}}}."


@changes("integer")
def words_of_another(reference: str) -> str | None:
    value = int(reference)
    return rf"\text{{{_SMALL[value - 1]}}}" if 1 <= value <= 12 else None


@changes("fraction")
def numerator_plus_one(reference: str) -> str:
    value = _fraction(reference)
    return rf"\frac{{{value.numerator + 1}}}{{{value.denominator}}}"


@changes("fraction")
def denominator_plus_one(reference: str) -> str | None:
    value = _fraction(reference)
    return rf"\frac{{{value.numerator}}}{{{value.denominator + 1}}}" if value else None


@changes("fraction")
def turned_over(reference: str) -> str | None:
    value = _fraction(reference)
    return rf"\frac{{{value.denominator}}}{{{value.numerator}}}" if value and abs(value) != 1 else None


@changes("fraction radical pi complex")
def sign_changed(reference: str) -> str:
    return f"-({reference})"


@changes("fraction")
def decimal_off_by_one(reference: str) -> str | None:
    decimal = _exact_decimal(_fraction(reference))
    return decimal and f"{float(decimal) + 1}"


@changes("decimal")
def decimal_point_moved(reference: str) -> str | None:
    value = Fraction(reference) * 10
    return f"{float(value):.10f}".rstrip("0") + "0" if value else None


@changes("decimal")
def last_decimal_changed(reference: str) -> str:
    # by three units: one could be said to be a rounding
    return reference[:-1] + str((int(reference[-1]) + 5) % 10)


@changes("percent degrees")
def number_plus_one(reference: str) -> str:
    return re.sub(r"^-?[0-9]+", lambda match: str(int(match[0]) + 1), reference)


@changes("money")
def one_dollar_more(reference: str) -> str:
    return re.sub(r"[0-9]+", lambda match: str(int(match[0]) + 1), reference, count=1)


@changes("quantity")
def quantity_plus_one(reference: str) -> str:
    return re.sub(r"[0-9]+", lambda match: str(int(match[0]) + 1), reference, count=1)


@changes("quantity")
def unit_ten_times(reference: str) -> str | None:
    number, unit, power = _quantity(reference)
    return rf"{number} \text{{ mm}}" if unit == "cm" and not power else None


@changes("quantity")
def hours_for_minutes(reference: str) -> str | None:
    number, unit, _ = _quantity(reference)
    other = {"hours": "minutes", "minutes": "hours", "feet": "inches", "inches": "feet", "days": "hours"}.get(unit)
    return other and rf"{number} \text{{ {other}}}"


@changes("quantity")
def wrong_power_of_unit(reference: str) -> str | None:
    number, unit, power = _quantity(reference)
    return rf"{number}\text{{ cm}}^3" if unit == "cm" and power != "^3" else None


@changes("radical")
def radicand_plus_one(reference: str) -> str:
    number, radicand = _match("radical", reference).groups()
    return rf"{number}\sqrt{{{int(radicand) + 1}}}"


@changes("radical")
def root_left_out(reference: str) -> str:
    number, radicand = _match("radical", reference).groups()
    return rf"{number} \cdot {radicand}" if number else radicand


@changes("radical")
def cube_root(reference: str) -> str:
    return reference.replace(r"\sqrt{", r"\sqrt[3]{")


@changes("pi")
def pi_left_out(reference: str) -> str:
    return _match("pi", reference)[1]


@changes("pi")
def pi_squared(reference: str) -> str | None:
    return reference + "^2" if int(_match("pi", reference)[1]) else None


@changes("surds complex polynomial")
def inner_sign_changed(reference: str) -> str | None:
    head, rest = reference[0], reference[1:]
    return head + rest.translate(str.maketrans("+-", "-+")) if set(rest) & set("+-") else None


@changes("complex")
def parts_swapped(reference: str) -> str | None:
    real, sign, factor = _match("complex", reference).groups()
    if (sign + (factor or "1")).removeprefix("+") == real or not int(real):
        return None
    return f"{sign.removeprefix('+')}{factor or 1} {'-' if real[0] == '-' else '+'} {real.lstrip('-')}i"


@changes("polynomial")
def constant_added(reference: str) -> str:
    return reference + " + 1"


@changes("polynomial")
def letter_squared_added(reference: str) -> str:
    letter = next(c for c in reference if c.isalpha())
    return f"{reference} + {letter}^2"


@changes("polynomial")
def whole_negated(reference: str) -> str:
    return f"-({reference})"


@changes("polynomial")
def first_term_lost(reference: str) -> str:
    return "".join(_terms(reference)[1:]).removeprefix("+")


@changes("polynomial")
def set_to_zero_and_doubled(reference: str) -> str:
    return f"2({reference})"


@changes("list")
def list_one_lost(reference: str) -> str | None:
    items = _items(reference)
    return ", ".join(items[1:]) if items[0] not in items[1:] else None


@changes("list")
def list_one_more(reference: str) -> str:
    return f"{reference}, {max(map(int, _items(reference))) + 10}"


@changes("list")
def list_one_changed(reference: str) -> str:
    items = _items(reference)
    return ", ".join([*items[:-1], str(max(map(int, items)) + 9)])


@changes("list", whole=True)
def list_box_changed(reference: str) -> str:
    items = _items(reference)
    boxes = [*items[:-1], str(max(map(int, items)) + 3)]
    return " and then ".join(rf"$\boxed{{{item}}}$" for item in boxes)


@changes("point")
def point_reversed(reference: str) -> str | None:
    items = _inside(reference)
    return f"({', '.join(items[::-1])})" if items != items[::-1] and "x" not in "".join(items) else None


@changes("point")
def point_one_lost(reference: str) -> str:
    return f"({', '.join(_inside(reference)[:-1])})"


@changes("point")
def point_one_more(reference: str) -> str:
    return f"({', '.join(_inside(reference))}, 0)"


@changes("point")
def point_last_changed(reference: str) -> str:
    *first, last = _inside(reference)
    return f"({', '.join(first)}, {last} + 1)"


@changes("interval")
def upper_end_moved(reference: str) -> str | None:
    left, low, high, right = _ends(reference)
    return f"{left}{low}, {int(high) + 1}{right}" if re.fullmatch(_INTEGER, high) else None


@changes("interval")
def lower_end_moved(reference: str) -> str | None:
    left, low, high, right = _ends(reference)
    return f"{left}{int(low) - 1}, {high}{right}" if re.fullmatch(_INTEGER, low) else None


@changes("interval")
def bracket_of_half_line(reference: str) -> str | None:
    left, low, high, right = _ends(reference)
    if high == r"\infty" and low != r"-\infty":
        return f"{'[' if left == '(' else '('}{low}, {high})"
    return f"({low}, {high}{')' if right == ']' else ']'}" if low == r"-\infty" and high != r"\infty" else None


@changes("interval")
def half_line_turned(reference: str) -> str | None:
    left, low, high, right = _ends(reference)
    if high == r"\infty" and low != r"-\infty":
        return rf"(-\infty, {low}{']' if left == '[' else ')'}"
    return rf"{'[' if right == ']' else '('}{high}, \infty)" if low == r"-\infty" and high != r"\infty" else None


@changes("interval")
def infinity_negated(reference: str) -> str | None:
    left, low, high, _ = _ends(reference)
    return rf"{left}{low}, -\infty)" if high == r"\infty" else None


@changes("interval")
def end_only(reference: str) -> str | None:
    _, low, high, _ = _ends(reference)
    return next((end for end in (low, high) if "\\infty" not in end), None)


@changes("interval")
def other_inequality(reference: str) -> str | None:
    text = _inequality(reference)
    turned = {"<": r"\ge", r"\le": ">"}
    parts = text.split(" ")
    return " ".join(turned.get(part, part) for part in parts) if len(parts) == 3 else None


@changes("union")
def half_of_union(reference: str) -> str:
    return reference.split(r"\cup")[0].strip()


@changes("union")
def intersection(reference: str) -> str:
    return r" \cup ".join(piece.strip() for piece in reference.split(r"\cup")[1:]) + r" \cup (1000, 1001)"


@changes("matrix")
def first_entry_changed(reference: str) -> str:
    rows = _rows(reference)
    rows[0][0] += " + 1"
    return rf"\begin{{pmatrix}}{(chr(92) * 2).join('&'.join(row) for row in rows)}\end{{pmatrix}}"


@changes("matrix")
def transposed(reference: str) -> str | None:
    rows = _rows(reference)
    turned = [list(column) for column in zip(*rows, strict=True)]
    if turned == rows or len(rows) != len(rows[0]):
        return None
    return rf"\begin{{pmatrix}}{(chr(92) * 2).join('&'.join(row) for row in turned)}\end{{pmatrix}}"


@changes("matrix")
def row_lost(reference: str) -> str | None:
    rows = _rows(reference)
    return (
        rf"\begin{{pmatrix}}{(chr(92) * 2).join('&'.join(row) for row in rows[1:])}\end{{pmatrix}}"
        if len(rows) > 1
        else None
    )


@changes("words")
def another_word(reference: str) -> str:
    word = _match("words", reference)[1]
    others = {"even": "odd", "odd": "even", "circle": "ellipse", "ellipse": "hyperbola", "parabola": "circle"}
    others |= {"east": "west", "gray": "red", "neither": "both", "orange": "blue"}
    return rf"\text{{{others.get(word, 'Monday' if word != 'Monday' else 'Friday')}}}"


@changes("option")
def another_letter(reference: str) -> str:
    letter = _match("option", reference)[1]
    return rf"\text{{({'ABCDEF'[('ABCDEF'.index(letter) + 1) % 6]})}}"


@changes("option")
def another_option_with_value(reference: str) -> str:
    letter = _match("option", reference)[1]
    return rf"\textbf{{({'ABCDEF'[('ABCDEF'.index(letter) + 2) % 6]})}}\ 17"


@changes("based")
def another_base(reference: str) -> str | None:
    digits, base = _match("based", reference).groups()
    return f"{digits}_{{{int(base) + 1}}}" if len(digits) > 1 else None


@changes("based")
def based_digit_changed(reference: str) -> str:
    digits, base = _match("based", reference).groups()
    return f"{digits}0_{{{base}}}"


@changes("ratio")
def ratio_turned(reference: str) -> str | None:
    left, right = _match("ratio", reference).groups()
    return f"{right}:{left}" if left != right else None


@changes("ratio")
def ratio_plus_one(reference: str) -> str:
    left, right = _match("ratio", reference).groups()
    return f"{left}:{int(right) + 1}"


@changes("linear")
def constant_of_line(reference: str) -> str:
    return reference + " + 1"


@changes("linear")
def line_negated(reference: str) -> str:
    return f"y = -({_match('linear', reference)[1]})"


@changes("named")
def named_value_changed(reference: str) -> str:
    name, value = _match("named", reference).groups()
    return f"{name} = {int(value) + 1}"


# --- References ------------------------------------------------------------------------------------------------------

_UNITS = ("cm", "inches", "hours", "square feet", "miles per hour", "kilograms", "apples", "square units")
_WORDS = ("even", "odd", "circle", "ellipse", "parabola", "east", "neither", "orange", "Tuesday", "Sunday")


def _integer(rng: random.Random) -> str:
    if rng.random() < 0.2:
        return str(rng.randint(1, 9) * 10 ** rng.randint(2, 8))
    size = rng.choice((10, 100, 1_000, 100_000, 10_000_000))
    return str(rng.randrange(-size // 3, size))


def _proper(rng: random.Random) -> str:
    largest = rng.choice((5, 60))
    top, bottom = rng.randint(1, largest), rng.randint(2, largest)
    divisor = gcd(top, bottom)
    if bottom == divisor:
        return _proper(rng)
    return rf"{rng.choice(('', '-'))}\{rng.choice(('frac', 'dfrac'))}{{{top // divisor}}}{{{bottom // divisor}}}"


def _decimal(rng: random.Random) -> str:
    return f"{rng.choice(('', '-'))}{rng.randrange(40)}.{rng.randint(1, 999)}"


def _square_free(rng: random.Random) -> int:
    return rng.choice((2, 3, 5, 6, 7, 10, 11, 13, 14, 15, 17, 19, 21, 22, 23, 26))


def _polynomial(rng: random.Random) -> str:
    terms = []
    for power in sorted(rng.sample(range(4), rng.randint(2, 4)), reverse=True):
        size = rng.randint(1, 15)
        letters = ("", "x", "x^2", "x^3")[power]
        terms.append(f"{rng.choice('+-')} {'' if size == 1 and power else size}{letters}")
    text = " ".join(terms).removeprefix("+ ")
    return "-" + text[2:] if text[:2] == "- " else text


def _ends_of(rng: random.Random) -> tuple[str, str]:
    low = rng.randint(-20, 10)
    high = low + rng.randint(1, 20)
    return str(low), str(high)


def _interval(rng: random.Random) -> str:
    low, high = _ends_of(rng)
    form = rng.randrange(4)
    if form == 0:
        return rf"(-\infty,{high}{rng.choice(')]')}"
    if form == 1:
        return rf"{rng.choice('([')}{low},\infty)"
    return f"{rng.choice('([')}{low}, {high}{rng.choice(')]')}"


def _union(rng: random.Random) -> str:
    low, high = _ends_of(rng)
    if rng.random() < 0.2:
        return rf"(-\infty,{low}) \cup ({low},\infty)"
    return rf"(-\infty,{low}{rng.choice(')]')} \cup {rng.choice('([')}{high},\infty)"


def _point(rng: random.Random) -> str:
    return f"({', '.join(str(rng.randint(-12, 12)) for _ in range(rng.choice((2, 2, 3))))})"


def _list(rng: random.Random) -> str:
    if rng.random() < 0.2:
        size = rng.randint(1, 40)
        return f"{-size}, {size}"
    return ", ".join(map(str, rng.sample(range(-30, 60), rng.randint(2, 4))))


def _matrix(rng: random.Random) -> str:
    width = rng.randint(1, 3)
    rows = [" & ".join(str(rng.randint(-9, 9)) for _ in range(width)) for _ in range(rng.randint(2, 3))]
    body = r" \\ ".join(rows)
    return rf"\begin{{pmatrix}} {body} \end{{pmatrix}}"


def _based(rng: random.Random) -> str:
    base = rng.choice((2, 3, 5, 7, 8, 9))
    return f"{''.join(str(rng.randint(int(not i), base - 1)) for i in range(rng.randint(2, 6)))}_{{{base}}}"


_GENERATORS: dict[str, Callable[[random.Random], str]] = {
    "integer": _integer,
    "decimal": _decimal,
    "fraction": _proper,
    "percent": lambda rng: rf"{rng.randint(1, 99)}\%",
    "degrees": lambda rng: rf"{rng.randint(1, 359)}^\circ",
    "money": lambda rng: rf"\${rng.randint(1, 900)}{rng.choice(('', f'.{rng.randint(10, 99)}'))}",
    "quantity": lambda rng: rf"{rng.randint(2, 90)} \text{{ {rng.choice(_UNITS)}}}",
    "point": _point,
    "interval": _interval,
    "union": _union,
    "matrix": _matrix,
    "option": lambda rng: rf"\text{{({rng.choice('ABCDE')})}}",
    "based": _based,
    "ratio": lambda rng: f"{rng.randint(1, 40)}:{rng.randint(1, 40)}",
    "linear": lambda rng: f"y = {rng.randint(2, 12)}x {rng.choice('+-')} {rng.randint(1, 20)}",
    "named": lambda rng: f"{rng.choice('abknpx')} = {rng.randint(-40, 90)}",
    "words": lambda rng: rf"\text{{{rng.choice(_WORDS)}}}",
    "complex": lambda rng: f"{rng.randint(-12, 12) or 5} {rng.choice('+-')} {rng.randint(2, 12)}i",
    "polynomial": _polynomial,
    "list": _list,
    "radical": lambda rng: rf"{rng.choice(('', '2', '3', '12'))}\sqrt{{{_square_free(rng)}}}",
    "pi": lambda rng: rf"{rng.randint(2, 60)}\pi",
    "surds": lambda rng: rf"{rng.randint(1, 30)} {rng.choice('+-')} {rng.randint(2, 9)}\sqrt{{{_square_free(rng)}}}",
}


def generated_references(rng: random.Random, num_of_each: int) -> list[str]:
    """References of every kind, which no dataset has to be there for."""
    return [generate(rng) for generate in _GENERATORS.values() for _ in range(num_of_each)]
