r"""The answer in a response: in a box, and in the other formats."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsr_trl.choices import ANSWER_FORMATS
from nsr_trl.verifier.extract import Extracted, extract, extract_answer


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
        (r"\boxed{\boxed{}}", None),  # nor does a box around an empty one
        (r"\boxed{\boxed{}\boxed{} \boxed{\boxed{}\boxed{}}}", None),  # or around several
        (r"\boxed{5} so \boxed{} \boxed{\boxed{}\boxed{}}", "5"),
        (r"\boxed{}\boxed{\boxed{}7}", r"\boxed{}7"),
        (r"\boxed{ \boxed{\fbox{ }} }", None),
        (r"\boxed{3} \boxed{\boxed{}}", "3"),
        (r"\boxed{3}" + r" \boxed{}" * 40, "3"),
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
    start = time.process_time()
    extract_answer(text)
    assert time.process_time() - start < 10  # quadratic time would be hours


FORMATS = [  # format, response, answer
    ("gsm8k", "She sold 48 / 2 = 24 clips.\n#### 24", "24"),
    ("gsm8k", "#### 1\nno: #### 2 apples\n", "2 apples"),
    ("gsm8k", r"\boxed{5}", None),
    ("gsm8k", "###### 5", "5"),
    ("xml", "<think>3</think><answer> 42 </answer>", "42"),
    ("xml", "<reasoning>5</reasoning>\n<answer>\n7\n</answer>\n", "7"),
    ("xml", "<Answer>1</Answer> and <ANSWER>2</ANSWER>", "2"),
    ("xml", "<final>8</final>", "8"),
    ("xml", "<first>7</first><second>8</second><b>9</b>", "8"),
    ("xml", "<reasoning>5</reasoning>", None),
    ("xml", "5</answer>", None),
    ("last", "First 3. So the answer is **42**.", "42"),
    ("last", "The answer is: $x+1$.\n", "x+1"),
    ("last", "First 3, then 1,234.5 apples.", "1,234.5"),
    ("last", "So it is $\\frac12$. I hope this helps!", "\\frac12"),
    ("last", "", None),
    ("auto", r"\boxed{7}, not 8", "7"),
    ("auto", "7\n#### 8", "8"),
    ("auto", "<answer>9</answer>", "9"),
    ("auto", "So the answer is 10.", "10"),
    (r"ANSWER: (\S+)", "ANSWER: 1 ANSWER: 2", "2"),
    (r"ANSWER: (\S+)", "ANSWER: 1", "1"),
    (r"ANSWER: (\S+)|END", "ANSWER: 1 ANSWER: 2 END", "END"),
    (r"[0-9]+ apples", "3 apples, 4 apples and 5 apples", "5 apples"),
    (r"A(?:NSWER)?: (.+)\.", "no", None),
]


@pytest.mark.parametrize(("answer_format", "response", "answer"), FORMATS)
def test_the_answer_in_each_format(answer_format, response, answer):
    assert extract(response, answer_format).answer == answer


BOXED_32 = " ".join(rf"\boxed{{{i}}} is." for i in range(32))


@pytest.mark.parametrize(
    ("answer_format", "response", "found"),
    [
        # names are read if they stand right before the box
        ("boxed", r"$x = \boxed{3}$ and $y_1=\boxed{4}$", Extracted("4", ("x = 3", "y_1 = 4"))),
        ("boxed", r"\boxed{3} is \boxed{3}", Extracted("3")),
        # of 60 characters: a comma and 59 spaces
        ("boxed", r"\boxed{1}," + " " * 59 + r"\boxed{2}", Extracted("1, 2", ("1", "2"))),
        ("boxed", r"\boxed{1}," + " " * 60 + r"\boxed{2}", Extracted("2", ("1", "2"))),
        # 32 boxes may be parts of an answer; more are a table or a loop
        ("boxed", BOXED_32, Extracted("31", tuple(map(str, range(32))))),
        ("boxed", BOXED_32 + r" \boxed{32}", Extracted("32")),
        # what a sentence says to be the answer comes first, what it sets apart otherwise last
        ("last", "The answer is $5$ or $6$.", Extracted("5", ("5", "6"), ("6",))),
        ("last", "So $x = 5$ and $y = 6$.", Extracted("y = 6", ("x = 5", "y = 6"), ("x = 5",))),
        ("last", "So **4** of 5 apples, 7 in all.", Extracted("4", (), ("5", "7"))),
        ("last", "5 apples and 7 pears", Extracted("7", ("5", "7"), ("5",))),
        ("last", "The answer is **5**, not 6.", Extracted("5")),
        ("last", "x+1 = 2y", Extracted("x+1 = 2y")),
        ("auto", r"\boxed{5}", Extracted("5")),
        ("auto", "It is 5.", Extracted("5", is_guess=True)),
    ],
)
def test_what_else_may_be_the_answer_is_told(answer_format, response, found):
    assert extract(response, answer_format) == found


@pytest.mark.parametrize(
    ("answer_format", "response", "is_elsewhere"),
    [
        ("boxed", "#### 5", True),
        ("boxed", "<answer>5</answer>", True),
        ("boxed", "It is 5.", True),
        ("boxed", "The answer is yes.", True),
        ("boxed", "It is **true**.", True),
        ("boxed", "I give up.", False),
        ("gsm8k", r"\boxed{5}", True),
        ("gsm8k", "I give up.", False),
        ("xml", "#### five", True),
        ("last", "", False),
    ],
)
def test_an_answer_in_another_format_is_noticed(answer_format, response, is_elsewhere):
    assert extract(response, answer_format) == Extracted(None, is_elsewhere=is_elsewhere)


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        ("one two three four five six seven eight.", "one two three four five six seven eight"),
        ("one two three four five six seven eight nine.", None),  # too long to state something without a number
        ("one two three four five six seven eight 9.", "9"),
        ("x" * 150 + ". " + "It is 7 " + "x" * 40, "7"),  # 200 characters: not cut off
        ("x" * 150 + ". " + "It is 7 " + "x" * 41, None),
        ("x" * 200 + ". It is 7", None),
        ("x" * 200 + ". It is 7.", "7"),
        ("x" * 200 + ". It is 7!", "7"),
        ("x" * 200 + ". The answer is 7", "7"),  # stated
        ("The answer is 7. " + "x" * 2_000, None),  # long before the end
        ("It is $50$. I hope this helps! Let me know if you have questions. <|im_end|>", "50"),
        ("Therefore A: 5", "5"),
        ("A: 5", "5"),
    ],
)
def test_a_last_sentence_that_is_whole_is_guessed_to_hold_the_answer(response, answer):
    assert extract(response, "auto").answer == answer


def test_the_last_twenty_pairs_of_tags_are_looked_at():
    bold = "<b>2</b>"
    assert extract("<final>1</final>" + bold * 19, "xml").answer == "1"
    assert extract("<final>1</final>" + bold * 20, "xml").answer is None
    assert extract("<answer></answer><final>3</final>", "xml").answer == "3"
    assert extract("<answer>1</answer><final>3</final>", "xml").answer == "1"
    assert extract("<THINKING>3</THINKING>", "xml").answer is None


@pytest.mark.parametrize("answer_format", ANSWER_FORMATS)
def test_the_thoughts_are_not_read_in_any_format(answer_format):
    thoughts = r"<think>\boxed{5} #### 5 <answer>5</answer> The answer is 5.</think>"
    assert extract(thoughts, answer_format) == Extracted(None)


@pytest.mark.parametrize("answer_format", ["box", "json", "last line", "BOXED", "", None, 5, "(["])
def test_a_format_that_is_none_is_refused_with_those_there_are(answer_format):
    with pytest.raises(ValueError, match=r"boxed, gsm8k, xml, last, auto"):
        extract("5", answer_format)


@pytest.mark.parametrize(
    "part", ["#", "#### ", "<", "<answer>", "</answer>", "a. ", "**", "$", "answer is ", "1,", "\n"]
)
@pytest.mark.parametrize("answer_format", ANSWER_FORMATS)
def test_every_format_is_read_in_linear_time(part, answer_format):
    start = time.process_time()
    extract(part * (1_000_000 // len(part)), answer_format)
    assert time.process_time() - start < 10  # quadratic time would be hours


PIECES = st.lists(
    st.sampled_from(
        r"\boxed{ { } \{ $ \( \) 5 x , and . ! ** #### <answer> </answer> <think> </think> the answer is : = \\".split(
            " "
        )
    ),
    max_size=25,
).map(" ".join)


@given(PIECES, st.sampled_from(ANSWER_FORMATS))
def test_any_text_can_be_read_in_any_format(text, answer_format):
    answer = extract(text, answer_format).answer
    assert answer is None or answer.strip() == answer != ""


@given(PIECES)
def test_a_box_is_found_whatever_follows(text):
    after = text.replace("boxed", "").replace("</think>", "")
    assert extract_answer(rf"so \boxed{{5}} {after}") is not None
