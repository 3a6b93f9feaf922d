import re
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsr_trl.verifier import Outcome, Reason, Verdict, verify, verify_batch
from nsr_trl.verifier.arithmetic import evaluate
from nsr_trl.verifier.equivalence import compare, normalize
from nsr_trl.verifier.extract import extract_answer


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{1} and then \boxed{2}", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"$\boxed{\left\{1, \{2\}\right\}}$", r"\left\{1, \{2\}\right\}"),
        ("$$\\boxed{\n42\n}$$", "42"),
        (r"\fbox{7}", "7"),
        (r"\boxed {17}", "17"),
        (r"\\boxed{42}", "42"),
        (r"new line \\\boxed{42}", "42"),
        (r"\boxed{42}}", "42"),
        (r"\boxed{x = \boxed{5}}", "5"),
        (r"\boxed{5}, that is \boxed{6", "5"),  # the last one is cut off
        (r"\boxed{5}, put into \boxed{} as asked", "5"),
        (r"$\boxed 9$.", "9"),
        (r"\(\boxed 9\)", "9"),
        (r"\boxed{5}, the \boxed form as asked", "5"),
        (r"<think>\boxed{5}</think>\boxed{6}", "6"),
        (r"<think>\boxed{5}</think>6", None),
        (r"\boxed{5", None),
        (r"\boxed{}", None),
        (r"\boxed{ }", None),
        (r"\boxed", None),
        (r"\boxedin{5}", None),
        ("the answer is 5", None),
        ("", None),
    ],
)
def test_the_answer_is_the_last_balanced_box_that_holds_something(text, answer):
    assert extract_answer(text) == answer


@pytest.mark.parametrize(
    "text",
    [
        "\\boxed{" * 300_000,
        "\\boxed{" * 150_000 + "}" * 150_000,
        "\\boxed{1}" * 200_000,
        "\\boxed " * 300_000,
        "\\boxed" + " " * 2_000_000,
        "\\" * 2_000_001 + "{",
        "{" * 2_000_000,
        "}" * 2_000_000,
    ],
)
def test_extraction_is_linear_in_the_text(text):
    start = time.perf_counter()
    extract_answer(text)
    assert time.perf_counter() - start < 10  # quadratic time would be hours


CORRECT_AS_STRINGS = [
    (r"$42$", "42"),
    (r"\(42\)", "42"),
    (r"\dfrac{1}{2}", r"\frac12"),
    (r"\frac 1 2", r"\tfrac{1}{2}"),
    (r"\frac{n}2", r"\frac{n}{2}"),
    (r"\left( 1,\,2 \right)", "(1,2)"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"\mathbf{147}", "147"),
    ("{2800}", "2800"),
    ("764.", "764"),
    ("\u22125", "-5"),
    (r"11,\! 111,\! 100", "11111100"),
    ("50{,}000", "50000"),
    ("x = 5", "5"),
    ("a_n=2n+1", "a_{n} =2 n +1"),
    (r"2\sqrt2", r"2\sqrt{2}"),
    (r"20\%", r"20 \%"),
    (r"x^{2} \leq 3", r"x^2\le3"),
    (r"\{1, 2\}", r"\{1,2\}"),
]
CORRECT_AS_NUMBERS = [
    ("0.5", r"\frac{1}{2}"),
    ("12.0", "12"),
    (".185", "0.185"),
    ("1,000", "1000"),
    (r"x = \$-15,000", "-15000"),
    ("1,234,567.5", "1234567.5"),
    (r"\frac{-40}{153}", r"-\frac{40}{153}"),
    (r"\frac{6}{8}", "3/4"),
    (r"3\frac{1}{2}", "3.5"),
    (r"-3\frac12", "-3.5"),
    (r"7.1 \times 10^{5}", "710000"),
    ("1024", "2^{10}"),
    (r"4 \cdot 5 - (3 + 2)^2", r"-5 \cdot 1"),  # 20 - 25 = -5
    (r"36^\circ", "36"),
    (r"45.0^{\circ}", "45°"),
    (r"\$36.00", "36"),
    ("-0", "0"),
]
INCORRECT_AS_NUMBERS = [
    ("3", "4"),
    ("x = 3", "4"),
    (r"\frac{7}{8}", r"\frac{8}{7}"),
    (r"3\frac{1}{2}", r"\frac{3}{2}"),
    ("5^2", "52"),
    ("100", "1"),  # no factor of 100
    (r"1 \times 5 + 5", "5.0"),  # 10
    ("2^{10}", "1000"),
    (r"20\%", r"30\%"),
    (r"60^\circ", r"120^\circ"),
    ("123456", "123457"),
]
UNDECIDED = [
    (r"\sqrt{4}", "3", Reason.NOT_COMPARABLE),
    ("2x", "3", Reason.NOT_COMPARABLE),
    ("x = 2", "y = 2", Reason.NOT_COMPARABLE),
    ("(1,2)", "(2,1)", Reason.NOT_COMPARABLE),
    ("1,2", "12", Reason.NOT_COMPARABLE),
    ("100, 200", "100200", Reason.NOT_COMPARABLE),
    ("(1,000)", "1000", Reason.NOT_COMPARABLE),
    ("1 000", "1000", Reason.NOT_COMPARABLE),
    ("0,111", "0.111", Reason.NOT_COMPARABLE),
    ("2^10", "1024", Reason.NOT_COMPARABLE),  # 20 to TeX
    ("2{3}", "23", Reason.NOT_COMPARABLE),
    (r"\frac{1}{0}", "5", Reason.NOT_COMPARABLE),
    ("0^0", "1", Reason.NOT_COMPARABLE),
    (r"8^{1/3}", "2", Reason.NOT_COMPARABLE),
    (r"\pm 5", "5", Reason.NOT_COMPARABLE),
    ("5 = 6", "5", Reason.NOT_COMPARABLE),
    ("5...", "5", Reason.NOT_COMPARABLE),
    ("5 cm", "6", Reason.NOT_COMPARABLE),
    ("12_8", "12", Reason.NOT_COMPARABLE),
    ("0x5", "5", Reason.NOT_COMPARABLE),
    ("5e0", "5", Reason.NOT_COMPARABLE),
    ("\u0665", "5", Reason.NOT_COMPARABLE),
    ("nan", "5", Reason.NOT_COMPARABLE),
    (r"50\%", "50", Reason.CONTESTED),
    (r"50\%", "0.5", Reason.CONTESTED),
    (r"\$5", "500", Reason.CONTESTED),  # dollars and cents
    (r"50^\circ", "40", Reason.CONTESTED),
    ("0.333", r"\frac{1}{3}", Reason.CONTESTED),
    ("0.43", "0.429", Reason.CONTESTED),
    ("240,120", "120,240", Reason.CONTESTED),  # may be lists
    ("3+4", "7", Reason.CONTESTED),  # the problem, not its answer
    ("8/2", "4", Reason.CONTESTED),
    ("9^{9^{9^9}}", "2", Reason.TOO_LARGE),
    ("0.1^{10^{10}}", "2", Reason.TOO_LARGE),
    ("7" * 5_000, "7", Reason.TOO_LARGE),
    ("7" * 1_000_000, "7", Reason.TOO_LARGE),
    ("(" * 1_000 + "5" + ")" * 1_000, "6", Reason.TOO_LARGE),
    (r"\frac{1}{" * 300 + "5" + "}" * 300, "6", Reason.TOO_LARGE),
    ("5", "$$", Reason.GOLD_UNPARSABLE),
]


@pytest.mark.parametrize(("answer", "gold"), CORRECT_AS_STRINGS)
def test_harmless_forms_are_equal(answer, gold):
    assert compare(answer, gold) == compare(gold, answer) == (Outcome.CORRECT, Reason.STRING)


@pytest.mark.parametrize(("answer", "gold"), CORRECT_AS_NUMBERS)
def test_equal_numbers_are_correct(answer, gold):
    assert compare(answer, gold) == (Outcome.CORRECT, Reason.NUMBER)


@pytest.mark.parametrize(("answer", "gold"), INCORRECT_AS_NUMBERS)
def test_different_numbers_are_incorrect(answer, gold):
    assert compare(answer, gold) == (Outcome.INCORRECT, Reason.NUMBER)


@pytest.mark.parametrize(("answer", "gold", "reason"), UNDECIDED)
def test_what_is_not_known_for_sure_is_undecided(answer, gold, reason):
    assert compare(answer, gold) == (Outcome.UNDECIDED, reason)


def test_the_limits_bound_the_time():
    start = time.perf_counter()
    for answer in ["1+" * 4_999 + "1", r"\frac{1}{3}*" * 900 + "1", "2^{64}*" * 1_000 + "1", "{" * 9_999]:
        compare(answer, "5")
    assert time.perf_counter() - start < 10


NUMBERS = st.fractions(max_denominator=10**6)


@given(NUMBERS, NUMBERS)
def test_fractions_are_judged_as_python_judges_them(answer, gold):
    written = f"\\frac{{{answer.numerator}}}{{{answer.denominator}}}"
    outcome, _ = compare(written, f"{gold.numerator}/{gold.denominator}")
    if answer == gold:
        assert outcome != Outcome.INCORRECT
    else:
        assert outcome != Outcome.CORRECT


@given(st.text(alphabet="0123456789.,+-*/^(){}\\$% =xfracdegbo", max_size=60))
def test_any_text_gets_a_verdict_and_is_never_incorrect_against_itself(text):
    assert verify(f"\\boxed{{{text}}}", text).outcome in Outcome
    assert compare(text, text)[0] != Outcome.INCORRECT


INTEGERS = st.integers(0, 99).map(lambda i: (str(i), Fraction(i)))
DECIMALS = st.integers(0, 999).map(lambda i: (f"{i // 100}.{i % 100:02}", Fraction(i, 100)))
ARITHMETIC = st.recursive(
    INTEGERS | DECIMALS,
    lambda part: st.one_of(
        st.tuples(part, part).map(lambda p: (f"({p[0][0]} + {p[1][0]})", p[0][1] + p[1][1])),
        st.tuples(part, part).map(lambda p: (rf"\left({p[0][0]} - {p[1][0]}\right)", p[0][1] - p[1][1])),
        st.tuples(part, part).map(lambda p: (rf"({p[0][0]}) \cdot ({p[1][0]})", p[0][1] * p[1][1])),
        st.tuples(part, part.filter(lambda p: p[1])).map(
            lambda p: (rf"\frac{{{p[0][0]}}}{{{p[1][0]}}}", p[0][1] / p[1][1])
        ),
        part.map(lambda p: (f"({p[0]})^2", p[1] ** 2)),
        part.map(lambda p: (f"(-{p[0]})" if p[0][0] != "-" else p[0], -p[1])),
    ),
    max_leaves=6,
)


@given(ARITHMETIC)
def test_arithmetic_is_evaluated_as_fractions_are(pair):
    written, value = pair
    assert evaluate(normalize(written)).value == value


def test_no_answer_is_incorrect():
    assert verify("I give up.", "5") == Verdict(Outcome.INCORRECT, None, Reason.NO_ANSWER)


@pytest.mark.parametrize("gold", ["", "  ", None, r"so \boxed{}", r"so \boxed{5"])
def test_a_missing_reference_is_undecided_whatever_the_response(gold):
    assert verify(r"\boxed{5}", gold) == Verdict(Outcome.UNDECIDED, "5", Reason.GOLD_UNPARSABLE)
    assert verify("I give up.", gold).outcome == Outcome.UNDECIDED


@pytest.mark.parametrize("gold", ["5", 5, 5.0, r"2 + 3 = \boxed{5}, so $\boxed{5}$."])
def test_the_reference_may_be_bare_a_number_or_a_solution(gold):
    assert verify(r"\boxed{5}", gold).outcome == Outcome.CORRECT


def test_a_response_that_is_not_text_is_undecided():
    assert verify(None, "5") == Verdict(Outcome.UNDECIDED, None, Reason.NOT_TEXT)


def test_a_batch_is_judged_in_order():
    assert verify_batch([r"\boxed{1}", r"\boxed{2}"], ["1", "1"]) == [
        Verdict(Outcome.CORRECT, "1", Reason.STRING),
        Verdict(Outcome.INCORRECT, "2", Reason.NUMBER),
    ]


def test_a_batch_needs_one_reference_per_response():
    with pytest.raises(ValueError, match=r"2 responses and 1 references\. Repeat"):
        verify_batch(["a", "b"], ["1"])


def test_every_reason_is_documented():
    text = (Path(__file__).parents[1] / "docs" / "verifier.md").read_text(encoding="utf-8")
    documented = re.findall(r"^\| `([^`]+)` \| (?:correct|incorrect|undecided)", text, flags=re.MULTILINE)
    assert documented == [str(reason) for reason in Reason]
