"""The two stages together: what is decided here, what by workers, and that nothing but the pair matters."""

import itertools
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from test_sandbox import kill_at_random

from nsr_trl.verifier import Outcome, Reason, Rule, Verdict, verify, verify_batch
from nsr_trl.verifier.explain import explain
from nsr_trl.verifier.sandbox import Sandbox
from nsr_trl.verifier.verify import _sandbox, forget_decisions


PAIRS = [
    (r"\frac12", "0.5"),
    ("4", "5"),
    (r"\sqrt{3+2\sqrt2}", r"1+\sqrt2"),  # for the workers, as the following are
    (r"\sin\frac{\pi}{5}", r"\sqrt{\frac{5-\sqrt5}{8}}"),
    (r"\sum_{k=1}^{n} k", r"\frac{n(n-1)}{2}"),
    (r"\frac{\sqrt{x+1}}{x+1}", r"\frac{1}{\sqrt{x+1}}"),
    (r"\ln(x-2) + \ln(x-3)", r"\ln((x-2)(x-3))"),
    ("0.333", r"\frac13"),
]
RESPONSES, GOLDS = [rf"So $\boxed{{{answer}}}$." for answer, _ in PAIRS], [gold for _, gold in PAIRS]


@pytest.fixture(autouse=True)
def _empty_cache():
    forget_decisions()


def test_no_answer_is_incorrect():
    assert verify("I give up.", "5") == Verdict.by(Rule.NO_BOX, None)


@pytest.mark.parametrize("gold", ["", "  ", None, r"so \boxed{}", r"so \boxed{5"])
def test_a_missing_reference_is_undecided_whatever_the_response(gold):
    assert verify(r"\boxed{5}", gold) == Verdict.by(Rule.REFERENCE_MISSING, "5")
    assert verify("I give up.", gold).outcome == Outcome.UNDECIDED


@pytest.mark.parametrize("gold", ["5", 5, 5.0, r"2 + 3 = \boxed{5}, so $\boxed{5}$."])
def test_the_reference_may_be_bare_a_number_or_a_solution(gold):
    assert verify(r"\boxed{5}", gold).outcome == Outcome.CORRECT


def test_a_response_that_is_not_text_is_undecided():
    assert verify(None, "5") == Verdict.by(Rule.NOT_TEXT, None)


def test_a_batch_is_judged_in_order():
    assert verify_batch([r"\boxed{1}", r"\boxed{2}"], ["1", "1"]) == [
        Verdict.by(Rule.TEXT_SAME, "1"),
        Verdict.by(Rule.NUMBER_DIFFERS, "2"),
    ]


def test_a_batch_needs_one_reference_per_response():
    with pytest.raises(ValueError, match=r"2 responses and 1 references\. Repeat"):
        verify_batch(["a", "b"], ["1"])


def test_computer_algebra_decides_what_is_left():
    verdicts = verify_batch(RESPONSES[2:4], GOLDS[2:4])
    assert [verdict.rule for verdict in verdicts] == [Rule.EXPRESSION_PROVED] * 2


def test_a_verdict_depends_on_its_pair_alone():
    one_by_one = [verify(response, gold) for response, gold in zip(RESPONSES, GOLDS, strict=True)]
    assert verify_batch(RESPONSES, GOLDS) == one_by_one  # remembered
    order = random.Random(0).sample(range(24), 24)  # each pair three times
    shuffled = [RESPONSES[i % 8] for i in order], [GOLDS[i % 8] for i in order]
    for num_workers in (1, 8):
        forget_decisions()
        assert verify_batch(*shuffled, num_workers=num_workers) == [one_by_one[i % 8] for i in order]


@pytest.mark.processes
def test_a_busy_machine_changes_no_verdict():
    expected = verify_batch(RESPONSES, GOLDS)
    forget_decisions()
    spinners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(4)]
    try:
        assert verify_batch(RESPONSES, GOLDS) == expected
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def test_threads_get_the_verdicts_of_the_main_thread():
    expected = verify_batch(RESPONSES, GOLDS)
    forget_decisions()
    results = []
    threads = [threading.Thread(target=lambda: results.append(verify_batch(RESPONSES, GOLDS))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [expected] * 4


def test_equal_pairs_are_compared_once_and_remembered(monkeypatch):
    tasks = []
    run = Sandbox.run
    monkeypatch.setattr(Sandbox, "run", lambda self, given, *rest: tasks.extend(given) or run(self, given, *rest))
    for _ in range(2):
        verify_batch([RESPONSES[2], RESPONSES[2], "a" + RESPONSES[2]], [GOLDS[2]] * 3)
    assert len(tasks) == 1


@pytest.fixture
def bad_sandbox(monkeypatch):
    """Has the workers loop, or end, instead of comparing; returns what does it and how often a worker was asked."""
    asked = []

    def use(what):
        sandbox = Sandbox("misbehaving:act", num_workers=1)
        run = sandbox.run

        def instead(tasks, *rest):
            asked.extend(tasks)
            return run([what] * len(tasks), *rest)

        monkeypatch.setattr(sandbox, "run", instead)
        # the package has a function of the module's name
        monkeypatch.setattr(sys.modules["nsr_trl.verifier.verify"], "_sandbox", lambda parser: sandbox)
        return asked

    return use


def test_a_time_out_is_undecided_and_remembered(bad_sandbox):
    asked = bad_sandbox(["spin"])
    verdict = Verdict.by(Rule.TIME_OUT, PAIRS[2][0])
    assert [verify(RESPONSES[2], GOLDS[2]) for _ in range(2)] == [verdict] * 2
    assert len(asked) == 1


def test_a_death_is_undecided_and_tried_again_the_next_time(bad_sandbox):
    asked = bad_sandbox(["exit", "1"])
    verdict = Verdict.by(Rule.WORKER_DIED, PAIRS[2][0])
    assert [verify(RESPONSES[2], GOLDS[2]) for _ in range(2)] == [verdict] * 2
    assert len(asked) == 2


@pytest.mark.parametrize("text", ["\ud800", "\x00", "\udfff\\frac", "é" * 5_000, "\\sqrt{" * 2_000, "9^" * 3_000])
def test_no_text_raises(text):
    assert verify(f"\\boxed{{{text}}}", r"\sqrt[3]{x+1}").outcome != Outcome.CORRECT
    assert verify(r"\boxed{\sqrt[3]{x+1}}", text).outcome != Outcome.CORRECT


@pytest.mark.processes
def test_workers_start_only_for_a_pair_that_needs_one():
    program = (
        "from nsr_trl.verifier import verify_batch; from nsr_trl.verifier.verify import _sandbox; "
        r"print(verify_batch([r'\boxed{5}', 'x'] * 50, ['5'] * 100)[0].outcome, _sandbox.cache_info().currsize)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["correct", "0"]


def test_a_progress_line_counts_the_distinct_pairs(capsys):
    verify_batch(RESPONSES * 2, GOLDS * 2, show_progress=True)
    assert f"{len(PAIRS)}/{len(PAIRS)}" in capsys.readouterr().err
    verify_batch(RESPONSES, GOLDS)
    assert capsys.readouterr().err == ""


def test_a_decided_pair_takes_a_tenth_of_a_millisecond():
    times = []
    for i in range(200):
        start = time.perf_counter()
        verify(rf"So it is $\boxed{{\frac{{{i}}}{{7}}}}$.", "3.5")
        times.append(time.perf_counter() - start)
    assert sorted(times)[100] < 0.001  # ten times that: machines differ, and this one may be busy


def test_the_graders_differ_in_their_rules():
    assert verify(r"\boxed{50}", "0.5").outcome == Outcome.INCORRECT
    assert verify(r"\boxed{50}", "0.5", grader="paper").outcome == Outcome.CORRECT  # a factor of 100
    assert verify(r"\boxed{50}", "0.5", grader="paper-competition").outcome == Outcome.INCORRECT
    with pytest.raises(ValueError, match="must be one of default, paper, paper-competition; got 'papers'"):
        verify("x", "5", grader="papers")


BOXES = [  # response, reference, rule
    (r"\boxed{1} so far, and also \boxed{2}.", "1, 2", Rule.BOXES_TOGETHER),
    (r"$x = \boxed{3}$ and $y = \boxed{4}$", "(3, 4)", Rule.BOXES_TOGETHER),
    (r"First \boxed{1}, then \boxed{2}, then \boxed{7}.", "1, 2", Rule.BOXES_APART),
    (r"First \boxed{1}, then \boxed{2}.", "2", Rule.TEXT_SAME),
    (r"First \boxed{2}, then \boxed{1}.", "2", Rule.NUMBER_DIFFERS),
]


@pytest.mark.parametrize(("response", "gold", "rule"), BOXES)
def test_several_boxes_are_the_parts_of_a_list_and_else_the_last_one_counts(response, gold, rule):
    assert verify(response, gold).rule is rule


@pytest.mark.parametrize("answer", ["1, 2", r"(1,2)"])
def test_a_reference_of_several_boxes_leaves_all_of_them_undecided(answer):
    gold = r"\boxed{1} papers and \boxed{2} bins"
    assert verify(rf"\boxed{{{answer}}}", gold).rule is Rule.REFERENCE_CHOICE
    assert verify(r"\boxed{2}", gold).rule is Rule.TEXT_SAME
    assert verify(r"\boxed{3}", gold).rule is Rule.NUMBER_DIFFERS


def test_a_reference_of_several_leaves_one_of_them_undecided():
    assert verify(r"\boxed{5}", ["5", "6"]).rule is Rule.REFERENCE_CHOICE
    assert verify(r"\boxed{5, 6}", ["5", "6"]).outcome == Outcome.CORRECT
    assert verify(r"\boxed{7}", ["5", "6"]).outcome == Outcome.INCORRECT


def test_a_fault_of_ours_is_undecided_and_logged(monkeypatch, caplog):
    def fail(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(sys.modules["nsr_trl.verifier.verify"], "compare", fail)
    assert verify(r"\boxed{5}", "6").rule is Rule.FAULT
    assert "'5' against '6' did" in caplog.text


@pytest.mark.parametrize(
    ("answer_format", "response", "outcome", "reason"),
    [
        ("boxed", "It is 5.", "incorrect", Reason.ANSWER_ELSEWHERE),
        ("boxed", "#### 6", "incorrect", Reason.ANSWER_ELSEWHERE),
        ("boxed", "Let me think about it.", "incorrect", Reason.NO_ANSWER),
        ("gsm8k", "#### 5", "correct", Reason.STRING),
        ("gsm8k", r"\boxed{5}", "incorrect", Reason.ANSWER_ELSEWHERE),
        ("auto", "It is 5.", "correct", Reason.STRING),
        ("auto", "It is 6.", "undecided", Reason.ANSWER_ELSEWHERE),  # a guess trains nothing where it is wrong
        ("auto", "#### 6", "incorrect", Reason.NUMBER),
        ("last", "It is 6.", "incorrect", Reason.NUMBER),  # asked for there
    ],
)
def test_an_answer_is_looked_for_where_it_was_asked_for(answer_format, response, outcome, reason):
    verdict = verify(response, "5", answer_format=answer_format)
    assert (verdict.outcome, verdict.reason) == (outcome, reason)


def test_an_unknown_parser_is_an_error_and_not_a_verdict():
    with pytest.raises(ValueError, match="The parser must be one of latex2sympy2_extended, latex2sympy2; got 'sympy'"):
        verify(RESPONSES[2], GOLDS[2], parser="sympy")


@pytest.mark.slow
def test_ten_thousand_verdicts_from_many_threads_survive_workers_that_are_killed_at_random():
    rows = []
    for i in range(5_000):
        rows.append((rf"\boxed{{\frac{{{8 * i + 1}}}{{8}}}}", str(i + 1 / 8), Outcome.CORRECT))
        if i % 10:
            rows.append((rf"\boxed{{{i}}}", str(i + 1), Outcome.INCORRECT))
        elif i % 20:  # these two need a worker
            rows.append((rf"\boxed{{\sum_{{k=1}}^n k + {i}}}", rf"\frac{{n(n-1)}}{{2}} + {i}", Outcome.INCORRECT))
        else:
            rows.append((rf"\boxed{{n! + {i}}}", f"n(n-1)! + {i}", Outcome.CORRECT))
    sandbox = _sandbox("")
    stop = threading.Event()
    chunks = [rows[start : start + 100] for start in range(0, len(rows), 100)]
    with ThreadPoolExecutor(9) as pool:
        kills = pool.submit(kill_at_random, sandbox, stop, 0.25, worker_share=0.05)
        verdicts = list(pool.map(lambda chunk: verify_batch(*list(zip(*chunk, strict=True))[:2]), chunks))
        stop.set()
    wrong = [
        (row, verdict)
        for row, verdict in zip(rows, itertools.chain.from_iterable(verdicts), strict=True)
        if verdict.outcome != row[2]
    ]
    assert wrong == []
    assert kills.result() > 20


def test_an_explanation_says_in_which_form_the_answer_stands_where_it_is_not_in_the_one_asked_for():
    told = explain("#### 42", "#### 42").splitlines()
    assert told[-2:] == [
        "elsewhere  42: not in the form 'boxed'; the form 'auto' reads it",
        "verdict    incorrect by no_box: the response has no box",
    ]
    assert not any(line.startswith("elsewhere") for line in explain("no idea", "42").splitlines())
