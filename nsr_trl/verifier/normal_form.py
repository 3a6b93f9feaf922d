r"""Harmless differences of form: TeX text goes in, the tokens that are left come out.

Dropped are math delimiters, spaces (but `2 3` is not `23`), fonts such as `\text{}`, colours, sizes such as `\left`,
braces around a single token or the whole, `{,}` and `,\!` between digits, and a final full stop. Synonyms get one
spelling: `\dfrac`, `\leq`, U+2212, `°`, `percent`, full-width digits. A blank line separates as a comma does.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from .expressions import DIGITS
from .vocabulary import SHORT_WORDS, WORD_SYNONYMS


Form = tuple[str, ...]
"""A normal form: TeX tokens, that is commands, escaped characters, words and single characters, digits included."""

_TOKEN = re.compile(r"\\[A-Za-z]+|\\.|\s+|[A-Za-z]+|.", re.DOTALL)

# --- Characters and passages that are rewritten before the text is cut into tokens ---

_CHARACTERS = {
    **dict.fromkeys("\u2212\u2013\u2014\u2010\u2011\ufe63", "-"),
    **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", ""),
    **dict.fromkeys("\u00a0\u2009\u202f\u3000\u2002\u2003", " "),
    **dict.fromkeys("“”„‘`", ""),
    **dict.fromkeys("’′", "'"),
    **dict.fromkeys("·⋅∙", "\\cdot "),
    **dict.fromkeys("⁄∕", "/"),
    **dict.fromkeys("，、", ","),
    "。": ".",
    "√": "\\sqrt ",
    "∛": "\\sqrt[3]",
    "∞": "\\infty ",
    "≤": "\\le ",
    "≥": "\\ge ",
    "⩽": "\\le ",
    "⩾": "\\ge ",
    "≠": "\\ne ",
    "≈": "\\approx ",
    "≡": "\\equiv ",
    "∈": "\\in ",
    "∪": "\\cup ",
    "∩": "\\cap ",
    "∖": "\\setminus ",
    "∅": "\\emptyset ",
    "×": "\\times ",
    "÷": "\\div ",
    "±": "\\pm ",
    "∓": "\\mp ",
    "°": "\\degree ",
    "º": "\\degree ",
    "∘": "\\circ ",
    "∠": "\\angle ",
    "△": "\\triangle ",
    "⟨": "(",
    "⟩": ")",
    "∣": "|",
    "∶": ":",
    "→": "\\to ",
    "∑": "\\sum ",
    "∏": "\\prod ",
    "∫": "\\int ",
    "…": "\\ldots ",
    "⋯": "\\ldots ",
    "ℝ": "\\R ",
    "ℤ": "\\Z ",
    "ℕ": "\\N ",
    "ℚ": "\\Q ",
    "ℂ": "\\C ",
    "ϕ": "\\phi ",
    "∧": " and ",
    "∨": " or ",
}
_GREEK_LETTERS = dict(
    zip(
        "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩ",
        "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon phi chi "
        "psi omega Gamma Delta Theta Lambda Xi Pi Sigma Phi Psi Omega".split(),
        strict=True,
    )
)
_UNICODE = str.maketrans(_CHARACTERS | {letter: f"\\{name} " for letter, name in _GREEK_LETTERS.items()})
_SCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ₀₁₂₃₄₅₆₇₈₉₊₋₍₎", "0123456789+-()ni0123456789+-()")
_SUPERSCRIPTS = re.compile("[⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁽⁾ⁿⁱ]+")
_SUBSCRIPTS = re.compile("[₀₁₂₃₄₅₆₇₈₉₊₋₍₎]+")
_UNICODE_ROOT = re.compile("√\\s*([0-9]+|[a-z])")

_SURE_THOUSANDS = re.compile(r"(?<=[0-9])\s*(?:,\s*\\!|\{\s*,\s*\})\s*(?=[0-9]{3})")
_THOUSANDS = re.compile(r"(?<![0-9.])(?<!(?<!\\),)[1-9][0-9]{0,2}(?:,[0-9]{3})+(?![0-9])(?!,[0-9])")
_LAKHS = re.compile(r"(?<![0-9.])(?<!(?<!\\),)[1-9][0-9]?(?:,[0-9]{2})+,[0-9]{3}(?![0-9])(?!,[0-9])")
_POINTED_THOUSANDS = re.compile(r"(?<![0-9.,])[1-9][0-9]{0,2}(?:\.[0-9]{3}){2,}(?![0-9.,])")
_E_NOTATION = re.compile(r"(?<=[0-9])[eE](?=[+-]?[0-9]+(?![0-9.A-Za-z\\^_]))")
_DOUBLED_BACKSLASH = re.compile(r"\\\\(?=[A-Za-z{}])")
_BLANK_LINE = re.compile(r"\n[^\S\n]*\n\s*")
_DIGRAPHS = re.compile(r"<=|>=|(?<=\s)!=|==|\+/-|\*\*|\.\.\.+|->|=>|&nbsp;|<br ?/?>")
_DIGRAPH_MEANINGS = {"<=": "\\le ", ">=": "\\ge ", "!=": "\\ne ", "==": "=", "+/-": "\\pm ", "**": "^", "->": "\\to "}
_DIGRAPH_MEANINGS |= {"=>": "\\to ", "&nbsp;": " "}
_UNIT = r"\\(?:text|mathrm)\{[^{}]*\}"
_FRACTION_OF_UNITS = re.compile(rf"\\[dt]?frac\{{({_UNIT})\}}\{{({_UNIT}(?:\^\{{?[1-4]\}}?)?)\}}")
_ENVIRONMENT = re.compile(r"\\(begin|end)\s*\{\s*([A-Za-z]+)\*?\s*\}")
_ROW_SPACE = re.compile(r"\\\\\s*\[-?[0-9.]+\s*(?:pt|em|ex|mm|cm)\]")
_BOLD = re.compile(r"(\*\*|__)(?!\s)(.+?)(?<!\s)\1", re.DOTALL)
_ITALIC = re.compile(r"\s*[*_](?![\s*_])(.+?)(?<![\s*_])[*_]([.!]?)\s*", re.DOTALL)

# --- Tokens ---

_SYNONYMS = {
    **dict.fromkeys(["\\dfrac", "\\tfrac", "\\cfrac", "\\nicefrac", "\\sfrac", "\\flatfrac"], "\\frac"),
    **dict.fromkeys(["\\dbinom", "\\tbinom"], "\\binom"),
    **dict.fromkeys(["\\leq", "\\leqslant", "\\leqq"], "\\le"),
    **dict.fromkeys(["\\geq", "\\geqslant", "\\geqq"], "\\ge"),
    "\\lt": "<",
    "\\gt": ">",
    "\\neq": "\\ne",
    "\\simeq": "\\approx",
    **dict.fromkeys(["\\dots", "\\cdots", "\\dotsc", "\\dotso"], "\\ldots"),
    "\\varnothing": "\\emptyset",
    "\\varphi": "\\phi",
    "\\varepsilon": "\\epsilon",
    "\\lbrace": "\\{",
    "\\rbrace": "\\}",
    "\\lbrack": "[",
    "\\rbrack": "]",
    "\\langle": "(",
    "\\rangle": ")",
    **dict.fromkeys(["\\lvert", "\\rvert", "\\vert"], "|"),
    "\\mid": "|",
    "\\bigcup": "\\cup",
    "\\imath": "i",
    "\\bullet": "\\cdot",
    "\\cr": "\\\\",
    "\\&": "and",
    "\\ast": "*",
    "\\colon": ":",
    "%": "\\%",
    "\\textdegree": "\\degree",
    "\\bmod": "\\mod",
    "\\backslash": "\\setminus",
    "\\smallsetminus": "\\setminus",
    **dict.fromkeys(["\\land", "\\wedge"], "and"),
    **dict.fromkeys(["\\lor", "\\vee"], "or"),
    **dict.fromkeys(["\\rightarrow", "\\Rightarrow", "\\implies", "\\longrightarrow"], "\\to"),
    "\\prime": "'",
    "\\Reals": "\\R",
    "\\pounds": "£",
    "\\euro": "€",
    "\\texteuro": "€",
    "\\yen": "¥",
    "￥": "¥",
    "\\dollar": "\\$",
    "\\textdollar": "\\$",
    "smallmatrix": "matrix",
    "Bmatrix": "bmatrix",
}
_SPACES = {"\\,", "\\;", "\\:", "\\ ", "~", "\\quad", "\\qquad", "\\thinspace", "\\enspace", "\\space"}
_INVISIBLE = frozenset(
    [
        *("$", "`", '"', "\\!", "\\(", "\\)", "\\[", "\\]", ""),
        *(
            "\\" + name
            for name in (
                "left right middle displaystyle textstyle scriptstyle limits nolimits big Big bigl bigr Bigl Bigr "
                "bigg Bigg biggl biggr Biggl Biggr bf rm it sf tt bfseries itshape large Large LARGE huge small "
                "normalsize strut mathstrut noindent par relax null hfill hline centering square blacksquare qed "
                "checkmark nonumber"
            ).split()
        ),
    ]
)
_TEXT_FONTS = {
    "\\text",
    "\\textbf",
    "\\textit",
    "\\textrm",
    "\\textnormal",
    "\\textsf",
    "\\texttt",
    "\\textup",
    "\\mbox",
}
_TEXT_FONTS |= {"\\hbox", "\\emph", "\\mathrm", "\\operatorname", "\\textsc"}
_FONTS = _TEXT_FONTS | {
    "\\mathbf",
    "\\mathit",
    "\\mathsf",
    "\\mathtt",
    "\\mathcal",
    "\\mathbb",
    "\\boldsymbol",
    "\\bm",
}
_FONTS |= {"\\pmb", "\\boxed", "\\fbox", "\\underline", "\\ensuremath", "\\mathop", "\\mathord", "\\framebox"}
_NUM_DROPPED = {"\\color": 1, "\\textcolor": 1, "\\colorbox": 1, "\\hspace": 1, "\\vspace": 1, "\\phantom": 1}
_NUM_DROPPED |= {"\\hphantom": 1, "\\vphantom": 1, "\\label": 1, "\\tag": 1, "\\kern": 1}
"""Commands with how many of their arguments say nothing."""
_FRACTIONS = (["\\frac"], ["\\binom"])
_INFIX = {"\\over": "\\frac", "\\choose": "\\binom"}
_NUMBER_SETS = frozenset("RZNQC")
_MARKS = {"\ue000": "{,}", "\ue001": "\\E"}
"""What marks a comma that may part thousands, and the e of `1e-2`."""
_UNIT_LETTERS = frozenset("mgshlLJNWVKCFtAcBMHT")
_BEFORE_UNITS = frozenset(["}", ")", "/", "\\pi", "\\degree", "square", "cubic", "sq", "cu"])
_WRAPPERS = frozenset("align aligned equation split gather gathered multline displaymath math center".split())
_ORDINALS = {"1": "st", "2": "nd", "3": "rd"}
_SHORTEST_WORD = 4
r"""Outside `\text{}`: `abc` is a product, `even` is a word. In a sentence, all are."""
_SENTENCE_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_WORDS_IN_A_ROW = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{2,}(?: [A-Za-z]{2,}){2}")


@lru_cache(maxsize=2_048)
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
    text = _rewrite(text)
    lexer = _Lexer(len(_SENTENCE_WORD.findall(text)) >= 2 or _WORDS_IN_A_ROW.search(text) is not None)
    for token in _TOKEN.findall(text):
        lexer.read(token)
    tokens = lexer.finish()
    if "\\begin" in tokens or "\\\\" in tokens:
        tokens = _without_full_stop(list(_unwrap(tokens)))
    return tuple(tokens)


def spell(form: Form) -> str:
    """A normal form as text, which is the same for forms that differ in nothing; a space after a comma is nothing."""
    return "".join(form).replace(", ", ",")


def is_word(token: str) -> bool:
    """Whether a token is a word rather than a letter, a command or a sign."""
    return token.isalpha() and (len(token) > 1 or not token.isascii())


def _rewrite(text: str) -> str:
    """Gives characters and passages one spelling."""
    if not text.isascii():
        text = _rewrite_characters(text)
    if "**" in text or "__" in text or text[:1] in "*_ ":
        text = _drop_markdown(text)
    if "," in text:
        text = _SURE_THOUSANDS.sub("", text).replace("{,}", ",")
        text = _THOUSANDS.sub(_mark_separators, _LAKHS.sub(_mark_separators, text))
    if text.count(".") > 1:
        text = _POINTED_THOUSANDS.sub(lambda match: match[0].replace(".", ""), text)
    if "\\begin" not in text:  # there, a doubled backslash ends a row
        text = _BLANK_LINE.sub(", ", _DOUBLED_BACKSLASH.sub(r"\\", text))
        text = text.replace("&", " and ") if "&" in text.replace("&nbsp;", "") else text
    else:
        text = _ROW_SPACE.sub(r"\\\\", _ENVIRONMENT.sub(r"\\\1{\2}", text))
    if "frac" in text and ("text" in text or "mathrm" in text):
        text = _FRACTION_OF_UNITS.sub(r"\1/\2", text)
    if "e" in text or "E" in text:
        text = _E_NOTATION.sub("\ue001", text)
    return _DIGRAPHS.sub(
        lambda match: _DIGRAPH_MEANINGS.get(match[0], "\\ldots " if match[0][0] == "." else " "), text
    )


def _rewrite_characters(text: str) -> str:
    text = _UNICODE_ROOT.sub(r"\\sqrt{\1}", text).translate(_UNICODE)
    if text.isascii():
        return text
    text = _SUPERSCRIPTS.sub(lambda match: f"^{{{match[0].translate(_SCRIPTS)}}}", text)
    text = _SUBSCRIPTS.sub(lambda match: f"_{{{match[0].translate(_SCRIPTS)}}}", text)
    return "".join(character if character.isascii() else _plain_character(character) for character in text)


@lru_cache(maxsize=512)
def _plain_character(character: str) -> str:
    """A digit of any script, a fraction such as ½, a full-width character as its plain form; else as it is."""
    digit = unicodedata.decimal(character, None)
    if digit is not None:
        return str(digit)
    if unicodedata.decomposition(character).startswith("<fraction>"):
        top, _, bottom = unicodedata.normalize("NFKC", character).partition("\u2044")
        return rf"\frac{{{top}}}{{{bottom}}}"
    if unicodedata.decomposition(character).startswith("<wide>"):
        return unicodedata.normalize("NFKC", character)
    return character


def _drop_markdown(text: str) -> str:
    text = _BOLD.sub(r"\2", text) if not re.search(r"[0-9A-Za-z)}]\*\*[0-9A-Za-z({-]", text) else text
    match = _ITALIC.fullmatch(text)
    return match[1] + match[2] if match else text


def _mark_separators(match: re.Match[str]) -> str:
    """Commas that may part thousands; whether they do is for the reader to say."""
    return match[0].replace(",", "\ue000")


class _Lexer:
    """Takes raw tokens one by one and keeps what says something."""

    def __init__(self, is_sentence: bool) -> None:
        self.tokens: list[str] = []
        self.shortest_word = 2 if is_sentence else _SHORTEST_WORD
        self.open_groups: list[tuple[int | None, bool]] = []  # where the brace stands, None for a dropped one; if text
        self.whole_ends = -1
        self.font = ""
        self.is_apart = self.is_text = False
        self.is_blackboard = False  # in \mathbb{}
        self.before = ""  # the raw token before
        self.num_dropped = 0  # arguments of a command that are still to be dropped
        self.dropped_depth = 0  # braces that are open within one

    def read(self, token: str) -> None:
        """Takes the next raw token."""
        if self.dropped_depth or self.num_dropped:
            self.drop(token)
            return
        token = _SYNONYMS.get(token, token)
        if token in _SPACES or token.isspace():
            self.is_apart = True
        elif token in _FONTS:
            self.font = token
        elif token in _NUM_DROPPED:
            self.num_dropped = _NUM_DROPPED[token]
        elif token == "{":
            self.open_group()
        elif token == "}" and self.open_groups:
            self.close_group()
        elif token not in _INVISIBLE and not (token == "." and self.is_full_stop()):
            self.put_any(token)
            self.font, self.is_apart = "", False
        self.before = token

    def is_full_stop(self) -> bool:
        r"""Whether a point says nothing: in `\left.` and `Rs. 5`."""
        return self.before in ("\\left", "\\right") or self.tokens[-1:] == ["₹"]

    def drop(self, token: str) -> None:
        """Passes over an argument: a group, an option in brackets before it, or one token."""
        if token == "{" or (self.dropped_depth and token == "["):
            self.dropped_depth += 1
        elif self.dropped_depth:
            self.dropped_depth -= token == "}"
            self.num_dropped -= self.dropped_depth == 0
        elif not token.isspace():
            self.num_dropped -= 1

    def open_group(self) -> None:
        self.open_groups.append((None if self.font else len(self.tokens), self.is_text))
        if not self.font:
            self.tokens.append("{")
        self.is_text |= self.font in _TEXT_FONTS
        self.is_blackboard = self.font == "\\mathbb"
        self.font, self.is_apart = "", True

    def close_group(self) -> None:
        (start, self.is_text), self.is_apart = self.open_groups.pop(), True
        if start is None:
            return
        if len(self.tokens) == start + 2:  # braces around a single token
            del self.tokens[start]
            self.put(self.tokens.pop())
        elif len(self.tokens) == start + 1:  # empty braces
            del self.tokens[start]
            self.drop_caret()
        else:
            self.close_braces(start)

    def close_braces(self, start: int) -> None:
        inner = self.tokens[start + 1 :]
        self.tokens[start:] = _without_infix(inner) or ["{", *inner, "}"]
        self.whole_ends = len(self.tokens) if start == 0 and self.tokens[0] == "{" else self.whole_ends

    def put_any(self, token: str) -> None:
        """Puts a command, a sign, a word or letters."""
        if token in _MARKS:
            self.tokens.append(_MARKS[token])
        elif (self.font == "\\mathbb" or self.is_blackboard) and token in _NUMBER_SETS:
            self.tokens.append(f"\\{token}")
            self.is_blackboard = False
        elif self.is_unit(token):
            self.tokens.append(f"\\unit{{{token}}}")
        elif len(token) == 1 or token[0] == "\\":
            self.put(token)
        elif self.is_ordinal(token):
            self.drop_caret()
        elif word := WORD_SYNONYMS.get(token.lower(), ""):
            self.put(word)
        elif self.is_text or len(token) >= self.shortest_word or token.lower() in SHORT_WORDS:
            self.put(token)
        else:
            self.tokens.extend(token)

    def put(self, token: str) -> None:
        tokens = self.tokens
        # digits that were apart stay apart, except the two of \frac 1 2
        if self.is_apart and token in DIGITS and tokens and _part_digits(tokens):
            tokens.append(" ")
        if token == "\\circ" and tokens[-1:] == ["^"]:
            tokens[-1] = "\\degree"
        elif token == "\\degree" and tokens[-1:] == ["^"]:
            tokens[-1] = token
        else:
            tokens.append(token)

    def is_unit(self, token: str) -> bool:
        r"""Whether this is the letter of a unit: `5\text{ m}`, `5^\circ C`."""
        if self.tokens[-1:] == ["\\degree"] and token in ("C", "F"):
            return True
        if not (token in _UNIT_LETTERS and (self.is_text or self.font in _TEXT_FONTS) and self.tokens):
            return False
        before = self.tokens[-1]
        return before in DIGITS or before in _BEFORE_UNITS or before.startswith("\\unit")

    def is_ordinal(self, token: str) -> bool:
        """Whether `th` and its like follow a number, raised or not."""
        raised = 2 if self.tokens[-2:] == ["^", "{"] else int(self.tokens[-1:] == ["^"])
        digit = self.tokens[-1 - raised] if len(self.tokens) > raised else ""
        return digit in DIGITS and token in (_ORDINALS.get(digit, "th"), "th")

    def drop_caret(self) -> None:
        """Drops a caret with nothing behind it."""
        if self.tokens[-1:] == ["^"]:
            self.tokens.pop()

    def finish(self) -> list[str]:
        """The tokens, without braces around the whole and a final full stop."""
        tokens = self.tokens
        tokens = _without_full_stop(tokens)
        if tokens and self.whole_ends == len(tokens):
            tokens = _without_full_stop(tokens[1:-1])
        return tokens if {"{", "("} & set(tokens) else _without_infix(tokens) or tokens


def _without_infix(tokens: list[str]) -> list[str]:
    r"""`a \over b` and `n \choose k` with the command in front; nothing if there is not just one of them."""
    places = [i for i, token in enumerate(tokens) if token in _INFIX]
    if len(places) != 1:
        return []
    [place] = places
    return [_INFIX[tokens[place]], *_grouped(tokens[:place]), *_grouped(tokens[place + 1 :])]


def _without_full_stop(tokens: list[str]) -> list[str]:
    while tokens[-1:] == ["."]:
        tokens.pop()
    return tokens


def _part_digits(tokens: list[str]) -> bool:
    """Whether a space behind these tokens, before a digit, says something."""
    before = tokens[-1] if tokens[-1] != "," or len(tokens) == 1 else tokens[-2]
    return before in DIGITS and tokens[-2:-1] not in _FRACTIONS


def _grouped(tokens: list[str]) -> list[str]:
    return tokens if len(tokens) == 1 else ["{", *tokens, "}"]


def _unwrap(tokens: list[str]) -> Iterable[str]:
    """Drops environments that only lay out, whose rows are separated as by commas."""
    environments: list[str] = []
    position = 0
    while position < len(tokens):
        token = tokens[position]
        name = tokens[position + 1] if position + 1 < len(tokens) else ""
        position += 1
        if token == "\\begin":
            environments.append(name)
        if token in ("\\begin", "\\end") and name in _WRAPPERS:
            position += 1
        elif token == "\\\\" and not (environments and environments[-1] not in _WRAPPERS):
            yield ","
        elif not (token == "&" and environments and environments[-1] in _WRAPPERS):
            yield token
        if token == "\\end" and environments:
            environments.pop()
