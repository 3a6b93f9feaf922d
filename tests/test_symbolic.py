"""What exact algebra leaves open and computer algebra decides, or leaves open too."""

import pytest

from nsr_trl.verifier import Rule, verify_batch
from nsr_trl.verifier.equivalence import compare


pytestmark = pytest.mark.xdist_group("symbolic")

PAIRS = {  # answer and reference, and the rule that decides in the end
    (r"\sqrt{24\sqrt{2} + 41}", r"3 + 4\sqrt2"): Rule.EXPRESSION_PROVED,
    (r"\sqrt{5 - \sqrt{21}} + \sqrt{\sqrt{21} + 5}", r"\sqrt{14}"): Rule.EXPRESSION_PROVED,
    (r"\sin\frac{\pi}{5}", r"\sqrt{\frac{5-\sqrt5}{8}}"): Rule.EXPRESSION_PROVED,
    (r"\frac{\sqrt{x+1}}{x+1}", r"\frac{1}{\sqrt{x+1}}"): Rule.EXPRESSION_PROVED,
    ("n!", "n(n-1)!"): Rule.EXPRESSION_PROVED,
    (r"\left(\sqrt{3+2\sqrt2}, 2\right)", r"(1+\sqrt2, 2)"): Rule.TUPLE_SAME,  # part by part
    (r"\sum_{k=1}^{n} k", r"\frac{n(n+1)}{2}"): Rule.EXPRESSION_PROVED,
    (r"\sum_{k=1}^{n} k", r"\frac{n(n-1)}{2}"): Rule.EXPRESSION_DIFFERS,
    (r"\int_0^1 x^2 dx", r"\frac13"): Rule.NUMBER_WORK_LEFT,
    (r"\cos 20^\circ \cos 40^\circ \cos 80^\circ", r"\frac18"): Rule.NUMBER_WORK_LEFT,
    (r"\ln(x-2) + \ln(x-3)", r"\ln((x-2)(x-3))"): Rule.EXPRESSION_OPEN,  # equal where both are real
    (r"\sqrt{x^2}", "x"): Rule.EXPRESSION_OPEN,  # equal where x is positive
    (r"\int x dx", r"\frac{x^2}{2} + C"): Rule.EXPRESSION_OPEN,  # equal but for a constant
    (r"\sum_{k=0}^{n} F_k", r"\sum_{k=1}^{n} F_k"): Rule.EXPRESSION_OPEN,  # of which nothing is known
}


@pytest.fixture(scope="module")
def verdicts():
    responses = [rf"\boxed{{{answer}}}" for answer, _ in PAIRS]
    return dict(zip(PAIRS, verify_batch(responses, [gold for _, gold in PAIRS]), strict=True))


@pytest.mark.parametrize("pair", PAIRS, ids=" | ".join)
def test_computer_algebra_decides_only_what_is_certain(pair, verdicts):
    assert compare(*pair).outcome == "undecided"
    assert verdicts[pair].rule is PAIRS[pair]
