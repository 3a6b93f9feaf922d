r"""Texts of others for a terminal or a page: what a terminal would obey or a reader could not see is spelled out."""

import re
from functools import cache
from unicodedata import category


_SUSPECT = re.compile(r"[^\n\t -~]")
_BLANK = frozenset(
    {0x034F, 0x115F, 0x1160, 0x17B4, 0x17B5, 0x2800, 0x3164, 0xFFA0}
    | {*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0000, 0xE1000)}
)
"""Letters and marks that leave no ink: Unicode's Default_Ignorable_Code_Point, and the blank pattern of Braille."""


def spell_out(text: object) -> str:
    r"""
    Writes characters that a terminal would obey or a reader could not see as escapes.

    These are controls but for newline and tab, marks that reorder or hide text, line and paragraph separators, lone
    surrogates, unassigned and private characters, and letters and selectors without a shape of their own.

    Args:
        text (`object`):
            A text, or anything that is written as one.

    Returns:
        `str`

    Example:
    ```python
    >>> print(spell_out("\x1b[2J caf\u00e9 \u202e"))
    \x1b[2J café \u202e
    ```
    """
    return _SUSPECT.sub(lambda match: _spelled(match[0]), str(text))


def one_line(text: object, limit: int = 300) -> str:
    r"""As [`spell_out`], on one line and cut after so many characters: for a text of others within a sentence."""
    shown = spell_out(str(text)[: limit + 1]).replace("\n", r"\n").replace("\t", r"\t")
    return shown if len(shown) <= limit else shown[:limit] + "..."


@cache
def _spelled(character: str) -> str:
    hides = ord(character) in _BLANK or category(character) in ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")
    return character.encode("unicode_escape").decode() if hides else character
