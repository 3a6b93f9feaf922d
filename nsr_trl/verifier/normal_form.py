r"""Harmless differences of form: TeX text goes in, the tokens that are left come out.

Dropped are dollar signs and other math delimiters, spaces (but `2 3` is not `23`), fonts such as `\text{}`, sizes such
as `\left`, braces around a single token or the whole, `{,}` and `,\!` between digits, and a final full stop.
Synonyms get one spelling: `\dfrac`, `\leq`, U+2212, `°`, `percent`. A blank line separates as a comma does.
"""

import re

from .arithmetic import DIGITS


Form = tuple[str, ...]
"""A normal form: TeX tokens, that is commands, escaped characters, words and single characters, digits included."""

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|[A-Za-z]+|.", re.DOTALL)
_EXPLICIT_SEPARATOR = re.compile(r"(?<=[0-9])\s*(?:,\s*\\!|\{\s*,\s*\})\s*(?=[0-9]{3})")
_DOUBLED_BACKSLASH = re.compile(r"\\\\(?=[A-Za-z{}])")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_UNICODE_ROOT = re.compile("√\\s*([0-9]+|[a-z])")
_UNICODE = str.maketrans(
    {
        "\u2212": "-",
        "–": "-",
        "√": "\\sqrt ",
        "π": "\\pi ",
        "θ": "\\theta ",
        "∞": "\\infty ",
        "≤": "\\le ",
        "≥": "\\ge ",
        "≠": "\\ne ",
        "≈": "\\approx ",
        "∈": "\\in ",
        "∪": "\\cup ",
        "∅": "\\emptyset ",
        "×": "\\times ",
        "·": "\\cdot ",
        "÷": "\\div ",
        "±": "\\pm ",
        "°": "\\degree ",
        "²": "^2",
        "³": "^3",
        "½": "\\frac{1}{2}",
        "\u00a0": " ",
        "\u200b": "",
    }
)
_SYNONYMS = {
    "\\dfrac": "\\frac",
    "\\tfrac": "\\frac",
    "\\cfrac": "\\frac",
    "\\dbinom": "\\binom",
    "\\tbinom": "\\binom",
    "\\leq": "\\le",
    "\\leqslant": "\\le",
    "\\geq": "\\ge",
    "\\geqslant": "\\ge",
    "\\lt": "<",
    "\\gt": ">",
    "\\neq": "\\ne",
    "\\simeq": "\\approx",
    "\\dots": "\\ldots",
    "\\cdots": "\\ldots",
    "\\varnothing": "\\emptyset",
    "\\varphi": "\\phi",
    "\\varepsilon": "\\epsilon",
    "\\lbrace": "\\{",
    "\\rbrace": "\\}",
    "\\lbrack": "[",
    "\\rbrack": "]",
    "\\langle": "(",
    "\\rangle": ")",
    "\\lvert": "|",
    "\\rvert": "|",
    "\\vert": "|",
    "\\ast": "*",
    "\\colon": ":",
    "%": "\\%",
    "\\textdegree": "\\degree",
}
_SPACES = {"\\,", "\\;", "\\:", "\\ ", "~", "\\quad", "\\qquad", "\\thinspace"}
_INVISIBLE = {
    *("$", "\\!", "\\(", "\\)", "\\[", "\\]", "\\left", "\\right", "\\displaystyle", "\\textstyle", "\\limits"),
    *("\\big", "\\Big", "\\bigl", "\\bigr", "\\Bigl", "\\Bigr", "\\bigg", "\\Bigg"),
}
_TEXT_FONTS = {"\\text", "\\textbf", "\\textit", "\\textrm", "\\textnormal", "\\mbox", "\\mathrm", "\\operatorname"}
_FRACTIONS = (["\\frac"], ["\\binom"])
_FONTS = _TEXT_FONTS | {"\\mathbf", "\\mathit", "\\mathsf", "\\boldsymbol", "\\boxed", "\\fbox"}
_WORD_SYNONYMS = {
    **{name: f"\\{name}" for name in "sin cos tan cot csc arcsin arccos arctan log ln exp sqrt pi infty".split()},
    "infinity": "\\infty",
    **dict.fromkeys(["percent", "percentage", "pct"], "\\%"),
    **dict.fromkeys(["degree", "degrees", "deg"], "\\degree"),
}
_SHORT_WORDS = frozenset(
    "and or cm mm km dm kg mg gm ml ft lb lbs oz mph kph hr hrs min mins sec am pm yd mi yes no odd one two six "
    "ten".split()
)
_ORDINALS = {"1": "st", "2": "nd", "3": "rd"}
_SHORTEST_WORD = 4
r"""Outside `\text{}`: `abc` is a product, `even` is a word. In a sentence, all are."""
_SENTENCE_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")


_NUM_ARGUMENTS = {"\\frac": 2, "\\binom": 2, "\\sqrt": 1, "^": 1, "_": 1}


def normalize(text: str) -> Form:
    r"""
    Normal form of an answer: what is left once harmless differences of form are gone.

    Args:
        text (`str`):
            A bare answer.

    Returns:
        `tuple[str, ...]`

    Example:
    ```python
    >>> normalize(r"$x = \dfrac{1}{2}\text{ miles}$.")
    ('x', '=', '\\frac', '1', '2', 'miles')
    ```
    """
    if not text.isascii():
        text = _UNICODE_ROOT.sub(r"\\sqrt{\1}", text).translate(_UNICODE)
    text = _EXPLICIT_SEPARATOR.sub("", text)
    if "\\begin" not in text:  # there, a doubled backslash ends a row
        text = _BLANK_LINE.sub(", ", _DOUBLED_BACKSLASH.sub(r"\\", text))

    shortest_word = 2 if len(_SENTENCE_WORD.findall(text)) >= 3 else _SHORTEST_WORD

    tokens: list[str] = []
    open_groups: list[tuple[int | None, bool]] = []  # where the brace stands, None for a dropped one; whether text
    whole_ends, font, is_apart, is_text = -1, "", False, False

    def put(token: str) -> None:
        # digits that were apart stay apart, except the two of \frac 1 2
        if is_apart and token in DIGITS and tokens and tokens[-1] in DIGITS and tokens[-2:-1] not in _FRACTIONS:
            tokens.append(" ")
        if token == "\\circ" and tokens[-1:] == ["^"]:
            tokens[-1] = "\\degree"
        else:
            tokens.append(token)

    def is_ordinal(token: str) -> bool:
        return bool(tokens) and tokens[-1] in DIGITS and token == _ORDINALS.get(tokens[-1], "th")

    for token in _TOKEN.findall(text):
        token = _SYNONYMS.get(token, token)
        if token in _SPACES or token.isspace():
            is_apart = True
        elif token in _FONTS:
            font = token
        elif token == "{":
            open_groups.append((None if font else len(tokens), is_text))
            if not font:
                tokens.append(token)
            is_text |= font in _TEXT_FONTS
            font, is_apart = "", True
        elif token == "}" and open_groups:
            (start, is_text), is_apart = open_groups.pop(), True
            if start is not None and len(tokens) == start + 2:
                del tokens[start]
                put(tokens.pop())
            elif start is not None:
                tokens.append(token)
                whole_ends = len(tokens) if start == 0 else whole_ends
        elif token not in _INVISIBLE:
            if len(token) == 1 or token[0] == "\\":
                put(token)
            elif word := _WORD_SYNONYMS.get(token.lower(), ""):
                put(word)
            elif is_text or len(token) >= shortest_word or token.lower() in _SHORT_WORDS or is_ordinal(token):
                put(token)
            else:
                tokens.extend(token)
            font, is_apart = "", False
    if tokens and whole_ends == len(tokens):
        tokens = tokens[1:-1]
    if tokens[-1:] == ["."] and tokens[-2:-1] != ["."]:
        tokens.pop()
    return tuple(tokens)


def is_word(token: str) -> bool:
    """Whether a token is a word rather than a letter, a command or a sign."""
    return len(token) > 1 and token[0] != "\\"


def write(form: Form) -> str:
    r"""TeX text of a normal form, every argument in braces: some parsers read `\frac 1{x}` only so."""
    parts: list[str] = []
    open_groups: list[int] = []
    num_arguments = 0  # still expected
    for token in form:
        if token == "{":
            open_groups.append(max(num_arguments - 1, 0))
            num_arguments = 0
            parts.append(token)
        elif token == "}" and open_groups:
            num_arguments = open_groups.pop()
            parts.append(token)
        elif num_arguments and token not in _NUM_ARGUMENTS and token != "[":
            num_arguments -= 1
            parts.append("{" + token + "}")
        else:
            num_arguments = _NUM_ARGUMENTS.get(token, num_arguments if token == "[" else 0)
            parts.append(token + " " if token[0] == "\\" and token[-1].isalpha() else token)
    return "".join(parts).strip()
