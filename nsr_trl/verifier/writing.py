r"""Readings written out: a tree goes in, TeX text with every bracket comes out, and what kind of thing it is.

What is written reads back to the same tree, so that a person can see what the verifier read.
"""

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
)
from .normal_form import Form
from .regions import is_region
from .terms import letters
from .terms import write as write_term


def write(node: Node) -> str:
    """
    Writes a reading out.

    Args:
        node ([`~nodes.Node`]):
            A reading.

    Returns:
        `str`
    """
    match node:
        case Scalar():
            return write_term(node.term) + (f" {_spelled(node.unit.tokens)}" if node.unit else "")
        case Infinite():
            return "\\infty" if node.sign > 0 else "-\\infty"
        case Words():
            return rf"\text{{{' '.join(node.phrase)}}}"
        case Collection():
            inside = ", ".join(map(write, node.items))
            left, right = _BRACKETS.get(node.brackets, (node.brackets[:1], node.brackets[1:]))
            return f"{left}{inside}{right}"
        case Numbers():
            return rf"\mathbb{{{node.letter}}}"
        case Union():
            return r" \cup ".join(map(write, node.items)) if is_union_of_sets(node) else _joined(node, "or")
        case Intersection():
            return _joined(node, "and")
        case Difference():
            return rf"{write(node.whole)} \setminus {write(node.removed)}"
        case Inequality():
            texts = [write(side) for side in node.sides]
            return texts[0] + "".join(f" {sign} {text}" for sign, text in zip(node.operators, texts[1:], strict=True))
        case Equation():
            return f"{write(node.left)} = {write(node.right)}"
    return _write_other(node)


def _write_other(node: Node) -> str:
    match node:
        case Chain():
            exact = " = ".join(map(write, node.sides))
            return exact + "".join(rf" \approx {write(rounding)}" for rounding in node.roundings)
        case Named():
            return " = ".join([*map(_spelled, node.names), write(node.value)])
        case Conditioned():
            return ", ".join(map(write, (node.value, *node.conditions)))
        case Matrix():
            rows = r" \\ ".join(" & ".join(map(write, row)) for row in node.rows)
            name = _ENVIRONMENTS[node.kind]
            return rf"\begin{{{name}}} {rows} \end{{{name}}}"
        case Ratio():
            return ":".join(map(write, node.items))
        case Based():
            return f"{node.digits}_{{{node.base}}}"
        case Modular():
            return rf"{write(node.value)} \pmod{{{write(node.modulus)}}}"
        case Option():
            return rf"\text{{({node.letter})}}" + ("" if node.value is None else f" {write(node.value)}")
        case Clock():
            return rf"{int(node.minutes // 60 % 12)}:{int(node.minutes % 60):02} \text{{ {node.half}}}"
    return _spelled(node.tokens)


_BRACKETS = {"": ("", ""), "\\{\\}": ("\\{", "\\}")}
_ENVIRONMENTS = {"": "pmatrix", "det": "vmatrix", "layout": "matrix"}


def is_union_of_sets(node: Union) -> bool:
    """Whether the parts are sets rather than conditions."""
    return not any(isinstance(item, Inequality) for item in node.items)


def _joined(node: Union | Intersection, word: str) -> str:
    return rf" \text{{ {word} }} ".join(map(write, node.items))


def _spelled(form: Form) -> str:
    return "".join(
        rf"\text{{{token}}}" if len(token) > 1 and token.isalpha() else f"{token} " for token in form
    ).strip()


def kind_of(node: Node) -> str:
    """What a reading is, in a word or two."""
    match node:
        case Named():
            return "equation" if isinstance(node.value, Scalar) and letters(node.value.term) else kind_of(node.value)
        case Conditioned():
            return kind_of(node.value)
        case Chain() if node.sides:
            return kind_of(node.sides[-1])
        case Scalar():
            return "expression" if letters(node.term) else "number" if node.unit is None else "quantity"
        case Collection() if not is_region(node):
            return "list" if node.brackets in ("", "\\{\\}") else "tuple"
    return "interval" if is_region(node) else _KINDS[type(node)]


_KINDS: dict[type[Node], str] = {
    Based: "number with a base",
    Cases: "case distinction",
    Chain: "rounding",
    Clock: "time of day",
    Equation: "equation",
    Infinite: "infinity",
    Matrix: "matrix",
    Modular: "remainder",
    Opaque: "not understood",
    Option: "option",
    Prose: "a sentence",
    Ratio: "ratio",
    Words: "words",
}
