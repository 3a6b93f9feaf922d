import re
import time
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nsr_trl.verifier.arithmetic import evaluate

from nsr_trl.verifier import Outcome, Reason, Verdict, verify, verify_batch
from nsr_trl.verifier.equivalence import compare
from nsr_trl.verifier.extract import FALLBACKS, extract_answer
from nsr_trl.verifier.normal_form import normalize


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
        (r"\boxed{1}, $\boxed{2}$ \text{and} \boxed{3}", "1, 2, 3"),
        (r"\boxed{5} or \boxed{5}", "5"),
        (r"\boxed{1} = \boxed{2}", "2"),
        (r"\boxed{1} \boxed{2}", "2"),
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
    (r"50\%", "50"),
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
    (r"50^\circ", "40"),
    ("5 cm", "6"),
    ("123456", "123457"),
    ("262145", "262144"),  # no tolerance
    ("0.3", r"\frac{1}{3}"),  # one digit is no rounding
    ("9^{9^{9^9}}", "2"),  # too large to write, so larger than 2
    (r"3\sqrt{13}", "3"),
    (r"\sqrt{4}", "3"),
    ("12_8", "12_9"),
]
GOLDEN = [  # one row per rule: answer, reference, outcome, reason
    # lists: any order, repetitions counted once
    ("3, 1, 2, 2", "1,2,3", "correct", "structure"),
    (r"\{1, 2\}", "2, 1", "correct", "structure"),
    ("19, 46, and 82", r"82, 46, \text{ and } 19", "correct", "structure"),
    (r"2 \pm \sqrt3", r"2 - \sqrt3, 2 + \sqrt3", "correct", "structure"),
    (r"x = 1 \text{ or } x = -1", r"\pm 1", "correct", "structure"),
    ("1, 2", "1, 2, 3", "incorrect", "structure"),
    ("1, 2, 97", "1, 2", "incorrect", "structure"),
    (r"\pm 5", "5", "incorrect", "structure"),
    ("1,2", "12", "incorrect", "structure"),
    ("5", "[3]", "incorrect", "structure"),
    ("[5]", "5", "undecided", "contested form"),
    (r"2\text{ hours and }30\text{ minutes}", "2.5", "undecided", "contested form"),
    # tuples and intervals: in order, a bracket is a bracket
    ("(1, 4.5)", r"\left(1, \frac92\right)", "correct", "structure"),
    ("(1,2)", "(2,1)", "incorrect", "structure"),
    ("[1, 2)", "[1, 2]", "incorrect", "structure"),
    (r"[3, -\infty)", r"[3, \infty)", "incorrect", "structure"),
    ("1, 3", "(1, 3)", "correct", "structure"),  # the brackets left out
    ("(1, 3)", "1, 3", "undecided", "contested form"),
    ("x = 1, y = 2", "(1, 2)", "correct", "structure"),
    ("y = 2, x = 1", "x = 1, y = 2", "correct", "structure"),
    ("y = 1, x = 2", "x = 1, y = 2", "incorrect", "structure"),
    (r"(-\infty, 0) \cup (0, 1]", r"(-\infty, 1]", "incorrect", "structure"),
    (r"(-\infty, 0] \cup (0, 1]", r"(-\infty, 1]", "correct", "structure"),
    (r"x \in [-2, 7]", "[-2,7]", "correct", "string"),
    # inequalities
    (r"5 \ge x", r"x \leq 5", "correct", "structure"),
    ("x < 5", r"x \le 5", "incorrect", "structure"),
    (r"[-2, 7]", r"-2 \le x \le 7", "correct", "structure"),
    (r"-2 \le x \le 7", "[-2, 7]", "undecided", "contested form"),  # the interval was asked for
    ("x > 5", "5", "incorrect", "structure"),
    # matrices
    (r"\begin{bmatrix} 1 \\ 0.5 \end{bmatrix}", r"\begin{pmatrix} 1 \\ 1/2 \end{pmatrix}", "correct", "structure"),
    (r"\begin{pmatrix} 1 & 2 \end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "incorrect", "structure"),
    (r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}", "(1, 2)", "undecided", "contested form"),
    # names and equations
    ("11", "|AB| = 11", "correct", "string"),
    ("y = 2x + 1", "1 + 2x", "correct", "symbolic"),
    ("2x - y + 1 = 0", "y = 2x + 1", "correct", "symbolic"),
    ("x = 2y", r"y = \frac{x}{2}", "correct", "symbolic"),
    ("x + y - z + 2 = 0", "5x - 7y + 11z + 4 = 0", "incorrect", "symbolic"),
    ("1", "2x + z = 1", "incorrect", "structure"),
    ("a + b = 5", "5", "undecided", "contested form"),
    ("x = 2", "y = 2", "undecided", "not comparable"),
    ("x = 3", "y = 2", "incorrect", "number"),
    ("5 = 6", "5", "incorrect", "structure"),
    # expressions
    (r"\sqrt{117}", r"3\sqrt{13}", "correct", "number"),
    (r"\frac{1}{\sqrt{6}}", r"\frac{\sqrt6}{6}", "correct", "number"),
    (r"(\frac{5}{12})^{\frac13}", r"\sqrt[3]{\frac5{12}}", "correct", "number"),
    (r"\frac{1}{1 + \sqrt2}", r"\sqrt2 - 1", "correct", "number"),
    (r"6 + 9i", "6 - 9i", "incorrect", "number"),
    (r"100 + 25\pi", r"100 - 25\pi", "incorrect", "number"),
    ("ab + 5b + 2a + 10", "(a+5)(b+2)", "correct", "symbolic"),
    ("x - y", "y - x", "incorrect", "symbolic"),
    ("2x", "3", "incorrect", "symbolic"),
    (r"\frac{\pi}{2} + 2\pi k", r"\frac{\pi}{2} + 2\pi n", "undecided", "contested form"),
    ("x^2 + C", "x^2", "undecided", "contested form"),
    (r"\cos 58", r"\cos 58^\circ", "correct", "string"),
    (r"60^\circ", r"\frac{\pi}{3}", "undecided", "contested form"),
    (r"\sqrt{x^2}", "x", "undecided", "not comparable"),
    ("1/2x", r"\frac{x}{2}", "undecided", "not comparable"),  # or 1/(2x)
    ("f(2x)", "2f(x)", "undecided", "not comparable"),
    # number bases
    ("2516_8", "2516_{8}", "correct", "string"),
    ("12_8", "10", "undecided", "contested form"),
    # units
    (r"85\text{ feet}", "85", "correct", "string"),
    (r"28 percent", r"28\%", "correct", "string"),
    (r"\$5", r"5\text{ cents}", "undecided", "contested form"),
    (r"5\text{ m}", "500", "undecided", "contested form"),
    (r"864\text{ inches}^2", "72", "incorrect", "number"),
    ("5m", "5", "undecided", "contested form"),
    # floats
    ("0.0833333333333333", r"\frac{1}{12}", "correct", "number"),
    ("0.0833", r"\frac{1}{12}", "undecided", "contested form"),
    # ratios
    ("11:21", "V_1:V_2 = 11:21", "correct", "string"),
    ("2:3", "3:2", "incorrect", "structure"),
    ("4:6", "2:3", "undecided", "contested form"),
    # names before a colon, chains, ordinals
    (r"\text{Answer: } \{1 \pm \sqrt5, -2\}", r"-2, 1 + \sqrt5, 1 - \sqrt5", "correct", "structure"),
    ("S = 1 + 2 + 3 = 6", "6", "correct", "string"),
    (r"x = \frac13 \approx 0.33", "1/3", "correct", "number"),
    ("x = y = 2x + 1", "y = 2x + 1", "correct", "string"),
    ("P(x) = x^2", "P(t) = t^2", "undecided", "not comparable"),
    ("4th", "4", "correct", "string"),
    # systems and mixed numbers that may be read otherwise
    (r"x < 5 \text{ and } x > 2", "(2, 5)", "undecided", "not comparable"),
    ("x = 2, y = 3; x = 3, y = 2", "(2, 3), (3, 2)", "undecided", "not comparable"),
    ("6(3/4)", r"6\frac{3}{4}", "undecided", "not comparable"),
    ("i + 2j", "(1, 2)", "undecided", "not comparable"),
    # words and options
    (r"\text{south}", r"\text{east}", "incorrect", "structure"),
    ("circles", "circle", "undecided", "not comparable"),
    ("listen", "silent", "undecided", "not comparable"),
    (r"\text{all real numbers}", r"(-\infty, \infty)", "undecided", "not comparable"),
    (r"\text{no solution}", "4", "incorrect", "structure"),
    (r"\text{no solution}", "0", "undecided", "not comparable"),
    ("five", "5", "undecided", "not comparable"),
    ("(B)", "B", "correct", "symbolic"),
    (r"\text{(B) Circle}", r"\text{(E)}", "incorrect", "structure"),
    ("B", "12", "undecided", "not comparable"),
]
UNDECIDED = [
    # a number word is no product of its letters
    ("six", "6", "not comparable"),
    ("Two", "2", "not comparable"),
    # either side of an approximation may be meant
    (r"9.99 \approx 10", "10", "contested form"),
    # a sentence that may lead to the number
    (r"\text{the positive square root of the number 144 as required here}", "12", "not comparable"),
    ("(1,000)", "1000", Reason.NOT_COMPARABLE),
    ("1 000", "1000", Reason.NOT_COMPARABLE),
    ("0,111", "0.111", Reason.CONTESTED),
    ("2^10", "1024", Reason.NOT_COMPARABLE),  # 20 to TeX
    ("2{3}", "23", Reason.NOT_COMPARABLE),
    (r"\frac{1}{0}", "5", Reason.NOT_COMPARABLE),
    ("0^0", "1", Reason.NOT_COMPARABLE),
    (r"\infty - \infty", "0", Reason.NOT_COMPARABLE),
    (r"\sqrt[3]{-8}", "-2", Reason.NOT_COMPARABLE),
    ("5...", "5", Reason.NOT_COMPARABLE),
    ("12_8", "12", Reason.CONTESTED),
    ("0x5", "5", Reason.NOT_COMPARABLE),
    ("5e0", "5", Reason.NOT_COMPARABLE),
    ("\u0665", "5", Reason.NOT_COMPARABLE),
    (r"50\%", "0.5", Reason.CONTESTED),
    (r"\$5", "500", Reason.CONTESTED),  # dollars and cents
    ("0.333", r"\frac{1}{3}", Reason.CONTESTED),
    ("0.43", "0.429", Reason.CONTESTED),
    ("240,120", "120,240", Reason.CONTESTED),  # may be lists
    ("3+4", "7", Reason.CONTESTED),  # the problem, not its answer
    ("8/2", "4", Reason.CONTESTED),
    (r"8^{1/3}", "2", Reason.CONTESTED),
    ("0.1^{10^{10}}", "2", Reason.TOO_LARGE),
    ("7" * 5_000, "7", Reason.TOO_LARGE),
    ("7" * 1_000_000, "7", Reason.TOO_LARGE),
    ("(" * 1_000 + "5" + ")" * 1_000, "6", Reason.TOO_LARGE),
    (r"\frac{1}{" * 300 + "5" + "}" * 300, "6", Reason.TOO_LARGE),
    ("(x+1)^{100000}", "(1+x)^{100001}", Reason.TOO_LARGE),
    ("5", "$$", Reason.GOLD_UNPARSABLE),
]


@pytest.mark.parametrize(("answer", "gold", "outcome", "reason"), GOLDEN)
def test_each_rule_has_an_example(answer, gold, outcome, reason):
    assert compare(answer, gold) == (Outcome(outcome), Reason(reason))


@pytest.mark.parametrize(("answer", "gold"), CORRECT_AS_STRINGS)
def test_harmless_forms_are_equal(answer, gold):
    assert compare(answer, gold) == compare(gold, answer) == (Outcome.CORRECT, Reason.STRING)


@pytest.mark.parametrize(("answer", "gold"), CORRECT_AS_NUMBERS)
def test_equal_numbers_are_correct(answer, gold):
    outcome, reason = compare(answer, gold)
    assert outcome == Outcome.CORRECT
    assert reason in (Reason.NUMBER, Reason.STRING)


@pytest.mark.parametrize(("answer", "gold"), INCORRECT_AS_NUMBERS)
def test_different_numbers_are_incorrect(answer, gold):
    assert compare(answer, gold) == (Outcome.INCORRECT, Reason.NUMBER)


@pytest.mark.parametrize(("answer", "gold", "reason"), UNDECIDED)
def test_what_is_not_known_for_sure_is_undecided(answer, gold, reason):
    assert compare(answer, gold) == (Outcome.UNDECIDED, reason)


def test_the_limits_bound_the_time():
    start = time.perf_counter()
    heavy = "(a+b+c+1)^6"
    lists = ["".join(f"{heavy}+{i}," for i in range(start, start + 32)) for start in (0, 50)]
    assert compare(*lists)[0] != Outcome.CORRECT
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
@settings(deadline=None)  # the first may start a worker
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


@given(
    st.text(alphabet="\\{}[]()^_,=<>&;:!|'+-*/. \n0123456789abixyzABC√π∞", max_size=80),
    st.sampled_from(["5", "(1,2)", "x+1"]),
)
@settings(deadline=None)
def test_any_text_can_be_compared(text, gold):
    assert compare(text, gold)[0] in Outcome
    assert compare(gold, text)[0] in Outcome


TEX = st.lists(
    st.sampled_from(
        r"\frac \sqrt \text{ \text{cm} \pi \infty \cup \pm \le = ( ) [ ] \{ \} { } , and or ^ _ ^\circ \% \$ +"
        r" - / x n i e 1 2 10 0.5 \sin \log \begin{pmatrix} \end{pmatrix} & \\ ! : | ; \in \boxed{ . no".split(" ")
    ),
    max_size=25,
).map(" ".join)


@given(TEX, TEX)
@settings(deadline=None)
def test_any_tex_can_be_compared_and_is_never_incorrect_against_itself(answer, gold):
    assert compare(answer, gold)[0] in Outcome
    assert compare(f"x = {answer}", answer)[0] in Outcome
    assert compare(answer, answer)[0] != Outcome.INCORRECT


@given(TEX)
@settings(deadline=None)
def test_any_tex_can_be_extracted(text):
    assert extract_answer(text, FALLBACKS) is None or extract_answer(text, FALLBACKS)
    assert extract_answer(rf"so \boxed{{5}} {text.replace('boxed', '')}") is not None


@pytest.mark.parametrize(
    "part", ["{", "\\text{", "(", "a", "√", "\n\n", "1,", "\\frac", "$", "\\\\", "^", "word ", "=", "5\\text{ m} "]
)
def test_normalisation_is_linear_in_the_text(part):
    start = time.perf_counter()
    normalize(part * (1_000_000 // len(part)))
    assert time.perf_counter() - start < 20  # quadratic time would be hours


@pytest.mark.parametrize(
    ("text", "fallbacks", "answer"),
    [
        ("So the answer is **42**.", ["answer is"], "42"),
        ("The answer is: $x+1$.\n", ["answer is"], "x+1"),
        ("First 3, then 1,234.5 apples.", ["last number"], "1,234.5"),
        (r"\boxed{7}, not 8", ["answer is", "last number"], "7"),
        ("no number", ["answer is", "last number"], None),
        ("The answer is 5", [], None),
    ],
)
def test_fallbacks_are_tried_where_there_is_no_box(text, fallbacks, answer):
    assert extract_answer(text, fallbacks) == answer


def test_an_unknown_fallback_is_refused():
    with pytest.raises(ValueError, match="must be among answer is, last number; got 'last line'"):
        extract_answer("5", ["last line"])


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
