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

from nsr_trl.verifier import Outcome, Reason, Verdict, verify, verify_batch
from nsr_trl.verifier.sandbox import Sandbox
from nsr_trl.verifier.verify import _sandbox, forget_decisions


PAIRS = [
    (r"\frac12", "0.5"),
    ("4", "5"),
    (r"\sec^2(x)", r"\tan^2(x) + 1"),  # for the workers, as the following are
    (r"\log_2(x)", r"\frac{\ln x}{\ln 2}"),
    (r"2\sin 4x\cos x", r"2\sin 5x\cos x"),
    (r"\frac{1}{\tan x}", r"\cot x"),
    (r"\int_0^1 x dx", "7"),
    ("0.333", r"\frac13"),
]
RESPONSES, GOLDS = [rf"So $\boxed{{{answer}}}$." for answer, _ in PAIRS], [gold for _, gold in PAIRS]


@pytest.fixture(autouse=True)
def _empty_cache():
    forget_decisions()


def test_computer_algebra_decides_what_is_left():
    verdicts = verify_batch(RESPONSES[2:4], GOLDS[2:4])
    assert [(verdict.outcome, verdict.reason) for verdict in verdicts] == [(Outcome.CORRECT, Reason.SYMBOLIC)] * 2


def test_a_verdict_depends_on_its_pair_alone():
    one_by_one = [verify(response, gold) for response, gold in zip(RESPONSES, GOLDS, strict=True)]
    assert verify_batch(RESPONSES, GOLDS) == one_by_one  # remembered
    order = random.Random(0).sample(range(24), 24)  # each pair three times
    shuffled = [RESPONSES[i % 8] for i in order], [GOLDS[i % 8] for i in order]
    for num_workers in (1, 8):
        forget_decisions()
        assert verify_batch(*shuffled, num_workers=num_workers) == [one_by_one[i % 8] for i in order]


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
    verdict = Verdict(Outcome.UNDECIDED, PAIRS[2][0], Reason.TIME_OUT)
    assert [verify(RESPONSES[2], GOLDS[2]) for _ in range(2)] == [verdict] * 2
    assert len(asked) == 1


def test_a_death_is_undecided_and_tried_again_the_next_time(bad_sandbox):
    asked = bad_sandbox(["exit", "1"])
    verdict = Verdict(Outcome.UNDECIDED, PAIRS[2][0], Reason.WORKER_DIED)
    assert [verify(RESPONSES[2], GOLDS[2]) for _ in range(2)] == [verdict] * 2
    assert len(asked) == 2


@pytest.mark.parametrize("text", ["\ud800", "\x00", "\udfff\\frac", "é" * 5_000, "\\sqrt{" * 2_000, "9^" * 3_000])
def test_no_text_raises(text):
    assert verify(f"\\boxed{{{text}}}", r"\sqrt[3]{x+1}").outcome != Outcome.CORRECT
    assert verify(r"\boxed{\sqrt[3]{x+1}}", text).outcome != Outcome.CORRECT


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


def test_a_fall_back_reads_a_response_without_a_box():
    assert verify("It is 5.", "5").reason == Reason.NO_ANSWER
    assert verify("It is 5.", "5", fallbacks=["last number"]).outcome == Outcome.CORRECT


def test_an_unknown_parser_is_an_error_and_not_a_verdict():
    with pytest.raises(RuntimeError, match="The parser must be one of"):
        verify(RESPONSES[2], GOLDS[2], parser="sympy")
    _sandbox.cache_clear()


@pytest.mark.slow
def test_ten_thousand_verdicts_from_many_threads_survive_workers_that_are_killed_at_random():
    rows = []
    for i in range(5_000):
        rows.append((rf"\boxed{{\frac{{{8 * i + 1}}}{{8}}}}", str(i + 1 / 8), Outcome.CORRECT))
        if i % 10:
            rows.append((rf"\boxed{{{i}}}", str(i + 1), Outcome.INCORRECT))
        elif i % 20:
            rows.append((rf"\boxed{{\frac{{1}}{{\tan x}} + {i}}}", rf"\tan x + {i}", Outcome.INCORRECT))
        else:
            rows.append((rf"\boxed{{\frac{{1}}{{\tan x}} + {i}}}", rf"\cot x + {i}", Outcome.CORRECT))
    sandbox = _sandbox("latex2sympy2_extended")
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
