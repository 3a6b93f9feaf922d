r"""The answer in a response: its last `\boxed{...}`. Text goes in, text comes out, nothing else is tried.

A last number or a last formula would be a guess, and a guess graded as wrong trains the policy against a response
that may be right.
"""

import re


# A box command before its brace or before bare content, any other escaped character (so `\{` is no brace), a brace.
# `\s*+` does not backtrack, which keeps the scan linear. `\\boxed` is how a box reads in text that was escaped twice.
_TOKEN = re.compile(
    r"\\{1,2}(?:boxed|fbox)(?![A-Za-z])\s*+(?:(?P<box>\{)|(?P<bare>(?=[^$}])))|\\.|(?P<open>\{)|(?P<close>\})",
    re.DOTALL,
)
_END_OF_BARE_BOX = re.compile(r"[$\n]|\\[)\]]|\Z")


def extract_answer(text: str) -> str | None:
    r"""
    Content of the last balanced `\boxed{}` or `\fbox{}` after the last `</think>`, in time linear in the text.

    Boxes may nest (the inner one counts), span lines and hold escaped braces. An empty box holds no answer and is
    passed over, as is an unclosed one. A box without braces, as in `$\boxed 5$`, is read up to the next `$`, `\)`,
    `\]` or line break, and only where no box has braces.

    Args:
        text (`str`):
            Response of a model, or a reference solution.

    Returns:
        `str` or `None`:
            The answer, stripped, or `None` if there is none.
    """
    text = text.rpartition("</think>")[2]
    open_groups: list[int | None] = []  # where the content of a box starts; None for any other brace
    answer, answer_start, bare_start = None, -1, -1
    for token in _TOKEN.finditer(text):
        if token.lastgroup == "box":
            open_groups.append(token.end())
        elif token.lastgroup == "open":
            open_groups.append(None)
        elif token.lastgroup == "bare":
            bare_start = token.end()
        elif token.lastgroup == "close" and open_groups:
            start = open_groups.pop()
            # inner boxes close first; skipping those around them also keeps deep nesting linear
            if start is not None and start > answer_start and (content := text[start : token.start()].strip()):
                answer, answer_start = content, start
    if answer is None and bare_start >= 0:
        end = _END_OF_BARE_BOX.search(text, bare_start)
        assert end is not None  # the end of the text matches
        return text[bare_start : end.start()].strip() or None
    return answer


def extract_gold(gold: str | int | float | None) -> str:
    r"""
    The bare reference answer in a reference: the content of its last box if it mentions one, else all of it.

    Args:
        gold (`str`, `int`, `float` or `None`):
            A bare answer, or a solution that holds it in a box. `None` is a missing reference.

    Returns:
        `str`:
            The reference answer, stripped; empty if there is none.
    """
    text = "" if gold is None else str(gold)
    return (extract_answer(text) or "") if "boxed" in text or "fbox" in text else text.strip()
