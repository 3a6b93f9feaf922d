"""What exact algebra leaves open and computer algebra decides, or leaves open too."""

import pytest

from nsr_trl.verifier import verify_batch
from nsr_trl.verifier.equivalence import compare


PAIRS = [  # answer, reference, outcome
    (r"\frac{1}{\tan x}", r"\cot x", "correct"),
    (r"\sec^2(y)", r"\tan^2(y) + 1", "correct"),
    (r"\sqrt{24\sqrt{2} + 41}", r"3 + 4\sqrt2", "correct"),
    (r"\sqrt{5 - \sqrt{21}} + \sqrt{\sqrt{21} + 5}", r"\sqrt{14}", "correct"),
    (r"\left(\cot x, \ln 8\right)", r"(\frac{\cos x}{\sin x}, 3\ln 2)", "correct"),  # part by part
    (r"|x - 1|", r"|1 - x|", "correct"),
    (r"2 \sin 4x \cos x", r"2 \sin 5x \cos x", "incorrect"),
    (r"-\sqrt{x - 2} + 3", r"-\sqrt{x - 3} + 3", "incorrect"),
    (r"-10\sqrt{1250 + 10\sqrt{15634}}", "9", "incorrect"),
    (r"\ln 2, \ln 3", r"\ln 3, \ln 5", "incorrect"),
    (r"\sqrt{x^2}", "x", "undecided"),  # equal where x is positive
    (r"\ln(x-2) + \ln(x-3)", r"\ln((x-2)(x-3))", "undecided"),  # equal where both are real
    (r"\sin^2 x + \cos^2 x", "1", "undecided"),  # work left to do
    (r"0.6931", r"\ln 2", "undecided"),  # a rounding
    (r"|x|", "|x| + 1", "undecided"),  # one reader is not enough to say incorrect
    (r"\sum_{k=0}^{n} F_k", r"\sum_{k=1}^{n} F_k", "undecided"),
    ("1/2x + \\sin x", r"\frac{x}{2} + \sin x", "undecided"),  # two readings
    (r"\sin(9^{9^{9}})", "2", "undecided"),
]


@pytest.fixture(scope="module")
def verdicts():
    responses = [rf"\boxed{{{answer}}}" for answer, _, _ in PAIRS]
    return dict(zip(PAIRS, verify_batch(responses, [gold for _, gold, _ in PAIRS]), strict=True))


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair[0])
def test_computer_algebra_decides_only_what_is_certain(pair, verdicts):
    answer, gold, outcome = pair
    assert compare(answer, gold)[0] == "undecided"
    assert verdicts[pair].outcome == outcome
