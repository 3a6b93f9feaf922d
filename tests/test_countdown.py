"""The countdown example: its grader against enumeration, its exact Pass@k, its tables, and a slice of the study."""

import json
import operator
import os
import signal
import subprocess
import sys
import time
from itertools import islice, permutations, product
from pathlib import Path

import numpy as np
import pytest
import torch


EXAMPLE = Path(__file__).parent.parent / "examples" / "countdown"


@pytest.fixture(autouse=True)
def as_a_program(monkeypatch):
    """A program finds the modules beside it."""
    monkeypatch.syspath_prepend(str(EXAMPLE))
    own = ("driver", "model", "problems", "study")
    for name in own:  # another folder may have a module of that name
        sys.modules.pop(name, None)
    yield
    for name in own:
        sys.modules.pop(name, None)


def every_text(numbers):
    """Each order, with each sign between, worked out without any limit; and the value it ends in."""
    signs = {"+": operator.add, "-": operator.sub, "*": operator.mul}
    for order in permutations(numbers):
        for chosen in product(signs, repeat=len(numbers) - 1):
            values = [order[0]]
            for sign, number in zip(chosen, order[1:], strict=True):
                values.append(signs[sign](values[-1], number))
            steps = zip(chosen, order[1:], values[1:], strict=True)
            yield str(order[0]) + "".join(f"{s}{n}={v}" for s, n, v in steps), values


@pytest.mark.parametrize("numbers", [(2, 5, 7), (1, 3, 12), (3, 4, 6, 11), (1, 2, 3, 4)])
def test_the_grader_and_the_enumeration_agree(numbers):
    from problems import MAX_VALUE, Countdown, all_completions, is_right

    texts = dict(every_text(numbers))
    assert len(texts) == {3: 6 * 9, 4: 24 * 27}[len(numbers)]
    for target in (1, 10, 14, 24):
        problem = Countdown(numbers, target)
        graded = {text for text in texts if is_right(problem.prompt, text)}
        by_hand = {t for t, v in texts.items() if v[-1] == target and all(1 <= each <= MAX_VALUE for each in v)}
        assert graded == by_hand == set(problem.solutions)
    assert set(all_completions(numbers)) <= texts.keys()


@pytest.mark.parametrize(
    ("completion", "right"),
    [
        ("7*3=21-5=16", True),
        ("3*7=21-5=16", True),
        ("7*3=20-5=16", False),  # a wrong step
        ("7*3=21-5=15", False),
        ("7*3=21", False),  # 5 is not used
        ("7*3=21-5=16+0=16", False),
        ("7+7=14+5=19-3=16", False),  # 7 used twice
        ("8*2=16", False),
        ("16", False),
        ("", False),
        ("7*3=21-5=16 ", False),
        ("07*3=21-5=16", False),
        ("7*3=21-5=__import__('os')", False),
    ],
)
def test_a_completion_is_right_when_it_reaches_the_target_with_each_number_once(completion, right):
    from problems import countdown_reward

    assert countdown_reward(["3,5,7=16:"], [completion], answer=["16"]) == [float(right)]


def test_the_author_publishes_few_failures_and_nothing_that_is_held_out():
    from problems import Countdown, all_completions, author_texts, draw_problems, is_right

    texts = list(islice(author_texts(0), 3000))
    assert texts == list(islice(author_texts(0), 3000))
    held_out = {problem.prompt for size in (3, 4) for problem in draw_problems(100, size, 0, is_held_out=True)}
    assert not held_out & {prompt for prompt, _ in texts}
    for size in (3, 4):
        mine = [(prompt, text) for prompt, text in texts if prompt.count(",") == size - 1]
        # T targets: right with probability 1 / (1 + 0.01 (T - 1)), and the split leaves both alike
        sets = [tuple(map(int, prompt.partition("=")[0].split(","))) for prompt, _ in mine]
        expected = np.mean([1 / (1 + 0.01 * (len(set(all_completions(each).values())) - 1)) for each in sets])
        assert np.mean([is_right(*each) for each in mine]) == pytest.approx(expected, abs=0.04)
    plus, times = (sum(text.count(sign) for _, text in texts) for sign in "+*")
    assert plus > 3 * times
    assert Countdown((3, 5, 7), 16).prompt == "3,5,7=16:"


def test_the_probability_of_a_right_completion_is_that_of_its_tokens():
    from model import TOKENS
    from problems import draw_problems
    from study import solution_probabilities

    from nsr_trl.quickstart.model import build_model, build_tokenizer

    tokenizer = build_tokenizer(TOKENS, pattern=r"=\d+|\d+|.")
    model = build_model(0, tokenizer, hidden_size=64).double()
    problems = [*draw_problems(2, 3, 0, True), *draw_problems(2, 4, 0, True)]
    found, kept = solution_probabilities(model, tokenizer, problems)
    for problem, probability, number in zip(problems, found, kept, strict=True):
        each = []
        for text in problem.solutions:
            prompt, ids = tokenizer.encode(problem.prompt), [*tokenizer.encode(text), tokenizer.eos_token_id]
            assert len(ids) == {3: 8, 4: 11}[len(problem.numbers)]
            with torch.no_grad():
                logps = model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].log_softmax(-1)
            each.append(logps[range(len(ids)), ids].sum().exp().item())
        assert probability.item() == pytest.approx(sum(each), rel=1e-4)
        shares = np.array(each) / sum(each)
        assert number.item() == pytest.approx(np.exp(-(shares * np.log(shares)).sum()), rel=1e-4)


def test_objectives_are_compared_at_equal_steps_and_where_they_have_the_same_pass_at_1(tmp_path, capsys):
    from driver import Measurement, read_measurements, report, write_measurements

    curves = {"psr": ([0.1, 0.2, 0.3], [0.4, 0.5, 0.6]), "nsr": ([0.1, 0.15, 0.2], [0.4, 0.6, 0.7])}
    runs = {}
    for objective, (pass_at_1, pass_at_4) in curves.items():
        by_step = {
            10 * index: Measurement({1: [one, one], 4: [four, four]}, {"tokens": 5.0})
            for index, (one, four) in enumerate(zip(pass_at_1, pass_at_4, strict=True))
        }
        write_measurements(tmp_path / f"{objective}.jsonl", by_step)
        runs[objective] = {0: read_measurements(tmp_path / f"{objective}.jsonl")}
    report(runs, tmp_path)
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert "## At equal steps: 20" in lines
    assert "| psr | 30.0 | 60.0 | +20.0 [+20.0, +20.0] | 5.00 |" in lines
    # the level: 0.1 + 0.9 (0.2 - 0.1) = 0.19. psr is there at step 9, with 0.49; nsr between steps 10 and 20, 4/5 of
    # the way: step 18, 0.68, which is 0.19 more
    assert "## At equal Pass@1: 19.0" in lines
    assert any(line.startswith("| psr | 9 | 49.0 |") for line in lines)
    assert any(line.startswith("| nsr | 18 | 68.0 | +19.0 [+19.0, +19.0] |") for line in lines)
    assert json.loads((tmp_path / "results.json").read_text())["matched_pass_at_1"] == pytest.approx(0.19)
    assert (tmp_path / "along_the_run.png").exists()


def test_a_folder_of_another_study_is_refused(tmp_path):
    from driver import check_world
    from study import CountdownWorld

    path = tmp_path / "out" / "world.json"
    check_world(CountdownWorld(tmp_path), path)
    check_world(CountdownWorld(tmp_path / "moved"), path)
    with pytest.raises(ValueError, match=r"learning_rate was 5e-05 and is 0\.0005"):
        check_world(CountdownWorld(tmp_path, learning_rate=5e-4), path)


def study(output_dir, *arguments, objectives=("psr", "nsr")):
    sizes = ("--seeds", "0", "--steps", "30", "--pretraining-steps", "400")
    return subprocess.Popen(
        [sys.executable, EXAMPLE / "study.py", "--output-dir", output_dir, "--objectives", *objectives, *sizes],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_study_that_is_stopped_goes_on_to_the_result_of_one_that_was_not(tmp_path):
    whole = study(tmp_path / "whole")
    printed, _ = whole.communicate()
    assert whole.returncode == 0
    assert "At equal Pass@1" in printed

    from driver import read_measurements

    whole_study = json.loads((tmp_path / "whole" / "results.json").read_text())
    before, *_, after = whole_study["curves"]["psr"]
    assert 0 < before[0] < before[-1]  # it solves some, so that there is something to train on
    assert before != after
    (tmp_path / "stopped").mkdir()
    (tmp_path / "stopped" / "base").symlink_to(tmp_path / "whole" / "base")
    stopped = study(tmp_path / "stopped")
    measured = tmp_path / "stopped" / "psr-0.jsonl"
    while stopped.poll() is None and 15 not in read_measurements(measured):
        time.sleep(0.2)
    stopped.send_signal(signal.SIGTERM)
    stopped.communicate()
    assert 30 not in read_measurements(measured)
    assert study(tmp_path / "stopped").wait() == 0
    for name in ("psr-0.jsonl", "nsr-0.jsonl"):
        first, second = (read_measurements(tmp_path / folder / name) for folder in ("whole", "stopped"))
        assert first.keys() == second.keys() == {0, 15, 30}
        for step in first:
            assert first[step].pass_at_k[1] == pytest.approx(second[step].pass_at_k[1], abs=1e-5)
