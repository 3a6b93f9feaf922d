"""Words and options: two of them go in, a decision comes out, by the tables of `words`."""

from . import algebra, words
from .decision import Compare, Decision, differ, same, unknown
from .expressions import DIGITS
from .nodes import Collection, Infinite, Node, Opaque, Option, Prose, Scalar, Words
from .terms import letters
from .verdict import Rule


_TRUTHS = frozenset(["yes", "no", "true", "false"])


def compare_words(answer: Words, gold: Words) -> Decision:
    """The same words, words of one meaning, or words that exclude each other."""
    singular = [[words.singular(word) for word in node.phrase] for node in (answer, gold)]
    if singular[0] == singular[1]:
        return same(Rule.WORDS_SAME, answer, gold)
    concepts = words.concepts_of(answer.phrase), words.concepts_of(gold.phrase)
    if concepts[0] & concepts[1]:
        return same(Rule.WORDS_SYNONYMS, answer, gold)
    if words.exclude(*concepts):
        return differ(Rule.WORDS_EXCLUSIVE, answer, gold)
    return unknown(Rule.WORDS_UNKNOWN, answer, gold)


def compare_words_with_value(answer: Node, gold: Node) -> Decision:
    """`even` is no number, and `no solution` is none either, unless it is zero; it is the empty set."""
    phrase, other = (answer, gold) if isinstance(answer, Words) else (gold, answer)
    assert isinstance(phrase, Words)
    concepts = words.concepts_of(phrase.phrase)
    if isinstance(other, Scalar) and set(_numerals(phrase)) & set(_numerals(other)):
        return unknown(Rule.WORDS_UNKNOWN, answer, gold)
    is_nothing = "nothing" in concepts
    if isinstance(other, Collection) and not other.items:
        return same(Rule.WORDS_SYNONYMS, answer, gold) if is_nothing else unknown(Rule.WORDS_UNKNOWN, answer, gold)
    if isinstance(other, Scalar):
        is_excluded = not letters(other.term) and _excludes_number(concepts, other)
    else:
        is_excluded = is_nothing and not isinstance(other, Infinite | Opaque | Option)
    return differ(Rule.WORDS_NO_VALUE, answer, gold) if is_excluded else unknown(Rule.WORDS_UNKNOWN, answer, gold)


def _excludes_number(concepts: frozenset[str], scalar: Scalar) -> bool:
    value = algebra.value_of(scalar.term)
    if value == 0 and "nothing" in concepts:
        return False
    if value in (0, 1) and concepts & _TRUTHS:
        return False
    return words.is_no_number(concepts)


def _numerals(node: Node) -> list[str]:
    return "".join(token if token in DIGITS else " " for token in node.tokens).split()


def compare_prose(answer: Node, gold: Node) -> Decision:
    """A sentence does not state a number of which it has nothing."""
    prose, other = (answer, gold) if isinstance(answer, Prose) else (gold, answer)
    if isinstance(other, Scalar) and not letters(other.term) and not words.may_state(prose.tokens, other.tokens):
        return differ(Rule.WORDS_NO_VALUE, answer, gold)
    return unknown(Rule.WORDS_UNKNOWN, answer, gold)


def compare_options(compare: Compare, answer: Node, gold: Node) -> Decision:
    r"""Options by their letters, or by their value for a reference without a letter: `\textbf{(B)}\ 17`."""
    choices = _letter(answer), _letter(gold)
    values = [node.value if isinstance(node, Option) else node for node in (answer, gold)]
    if choices[0] and choices[1]:
        if choices[0] == choices[1]:
            return same(Rule.OPTION_SAME, answer, gold)
        told = [node.value for node in (answer, gold) if isinstance(node, Option) and node.value is not None]
        if len(told) == 2 and not compare(*told).is_incorrect:
            return unknown(Rule.OPTION_VALUE, answer, gold)
        return differ(Rule.OPTION_DIFFERS, answer, gold)
    if values[0] is None or values[1] is None:
        return unknown(Rule.OPTION_VALUE, answer, gold)
    return compare(values[0], values[1])


def _letter(node: Node) -> str:
    """The letter of an option, or a lone capital."""
    if isinstance(node, Option):
        return node.letter
    is_lone = isinstance(node, Scalar) and len(node.tokens) == 1 and node.tokens[0].isupper()
    return node.tokens[0] if is_lone else ""
