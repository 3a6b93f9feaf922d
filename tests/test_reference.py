r"""References of every shape that a dataset has, what is said of them, and wrong answers close to them."""

import json
from decimal import Decimal
from fractions import Fraction

import numpy as np
import pytest
import torch

from nsr_trl.verifier import Outcome, read_reference, verify
from nsr_trl.verifier.equivalence import compare
from nsr_trl.verifier.reference import Reference, near_miss


@pytest.mark.parametrize(
    ("reference", "answer"),
    [
        (5, "5"),
        (2.5, "2.5"),
        (1e22, "10000000000000000000000"),
        (1e-7, "0.0000001"),
        (Decimal("2.50"), "2.50"),
        (Fraction(1, 3), "1/3"),
        (float("inf"), r"\infty"),
        (float("-inf"), r"-\infty"),
        (True, "True"),
        (np.float64(2.5), "2.5"),  # as a column of pandas has them: a float whose `repr` is no number
        (np.int64(5), "5"),
        (np.array([5]), "5"),
        (torch.tensor(3), "3"),
        ([7], "7"),
        ({"solution": r"It is $\boxed{4}$.", "level": 1}, "4"),
        ({"answer": 5, "solution": r"\boxed{4}"}, "5"),
        (" 7\n", "7"),
        ("48 / 2 = 24\n#### 24", "24"),
    ],
)
def test_a_reference_may_be_of_many_types(reference, answer):
    assert read_reference(reference) == Reference(answer)
    assert verify(rf"\boxed{{{answer}}}", reference).outcome == Outcome.CORRECT


@pytest.mark.parametrize("reference", [["3", 4], (3, 4), np.array([3, 4]), '["3", "4"]', "['3', '4']"])
def test_a_list_of_several_is_all_of_them(reference):
    found = read_reference(reference)
    assert (found.choices, found.text, found.kind) == (("3", "4"), "3, 4", "list")
    assert read_reference(found.answer) == found


def test_all_boxes_of_a_solution_are_kept_beside_the_last():
    assert read_reference(r"\boxed{1} papers and \boxed{2} bins") == Reference("2", together="1, 2")


@pytest.mark.parametrize(
    ("reference", "why"),
    [
        (None, "it is missing"),
        (float("nan"), "it is missing"),
        ("", "it is missing"),
        ("null", "it is missing"),
        ({"level": 1}, "it is missing"),
        ([], "it is an empty list"),
        ([1, None], "a part of the list is missing"),
        (b"5", "it is of type bytes"),
        (object(), "it is of type object"),
        (r"\boxed{}", "its box is empty or does not close"),
        ("word " * 13, "it is a text of 13 words"),
        ("2{3}", "it is not understood as a whole"),
        ("['3', 4]", "it is not understood as a whole"),
        ("['3' '4']", "it is not understood as a whole"),
        ("9" * 10_001, "it is too large"),
    ],
)
def test_why_a_reference_is_not_understood_is_told(reference, why):
    found = read_reference(reference)
    assert (found.problem, found.kind) == (why, "")
    assert near_miss(found) is None


NEAR_MISSES = {  # reference: kind, a wrong answer with one thing changed in it
    "4": ("number", "5"),
    r"\pi": ("number", r"\left(\pi +1\right)"),
    "x+1": ("expression", r"\left(\left(x+1\right)+1\right)"),
    "A": ("expression", "B"),
    "B": ("expression", "A"),
    "5\\text{ cm}": ("quantity", r"6 \text{cm}"),
    "x = 3": ("number", "4"),
    "1+2=3": ("number", "4"),
    r"\frac1x, x \ne 0": ("expression", r"\left(\frac{1}{x}+1\right)"),
    r"\infty": ("infinity", r"-\infty"),
    "even": ("words", r"\text{odd}"),
    r"\text{Tom}": ("words", r"\text{james}"),
    r"\text{James}": ("words", r"\text{maria}"),
    r"\mathbb{R}": ("interval", "1"),
    "12_8": ("number with a base", "121_{8}"),
    "3:59 pm": ("time of day", r"4:00 \text{ pm}"),
    "11:59 am": ("time of day", r"0:00 \text{ am}"),
    "(B) 5": ("option", r"\text{(A)}"),
    r"\text{(A)}": ("option", r"\text{(B)}"),
    "1, 2": ("list", "1, 3"),
    "(1,2)": ("tuple", "(1, 3)"),
    r"\emptyset": ("list", "1"),
    "2:3": ("ratio", "2:4"),
    r"(0,1) \cup (2,3)": ("interval", "(0, 1)"),
    r"\mathbb{R}\setminus\{1\}": ("interval", r"\mathbb{R}"),
    "x > 5": ("interval", "6 < x"),
    "x < 5": ("interval", "x < 6"),
    r"3 \pmod 7": ("remainder", "4"),
    "x^2+y^2=4": ("equation", r"\left({x}^{2}+{y}^{2}\right) = 5"),
    r"\begin{pmatrix}1&2\\3&4\end{pmatrix}": ("matrix", r"\begin{pmatrix} 2 & 2 \\ 3 & 4 \end{pmatrix}"),
}


@pytest.mark.parametrize(("text", "kind", "missed"), [(text, *rest) for text, rest in NEAR_MISSES.items()])
def test_a_near_miss_is_wrong(text, kind, missed):
    reference = read_reference(text)
    assert (reference.problem, reference.kind) == ("", kind)
    assert near_miss(reference) == missed
    assert compare(missed, text).outcome == Outcome.INCORRECT


@pytest.mark.parametrize("text", ["sherbet", json.dumps(["1", "sherbet"]), "9^{9^{9^9}}"])
def test_of_words_that_nothing_excludes_and_of_huge_numbers_no_near_miss_is_known(text):
    assert near_miss(read_reference(text)) is None
