"""The log a person reads, and the first look at completions."""

import io

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from nsr_trl.run.first_look import Look, advise, as_flag, format_looks
from nsr_trl.training_log import TrainingLog, duration, evaluation_line, step_line


LOGS = {
    "loss": 0.5,
    "signed/correct_ratio": 0.4512,
    "signed/undecided_ratio": 0.0,
    "verifier/no_answer": 0.25,
    "entropy": 0.1056,
    "completions/mean_length": 1024.5,
    "grad_norm": 0.1861,
    "cost/rows": 1.0,
}


def test_a_step_is_a_line_of_six_to_eight_numbers():
    line = step_line(LOGS, 12, 440, tokens_per_second=2310.4, seconds_left=7500)
    assert line == (
        "step 12/440  correct 45.1%  no answer 25.0%  entropy 0.106  length 1,024  grad norm 0.186  2,310 tokens/s  "
        "2 h 5 min left"
    )


def test_an_evaluation_is_a_line_of_its_own():
    assert evaluation_line({"eval_pass@1": 0.5, "eval_pass@8": 0.75, "eval_loss": 0}, 7) == (
        "step 7  evaluated: pass@1 50.0%  pass@8 75.0%"
    )
    assert evaluation_line(LOGS, 7) is None


@pytest.mark.parametrize(("seconds", "text"), [(12, "12 s"), (90, "2 min"), (7200, "2 h 0 min"), (7100, "118 min")])
def test_time_is_said_as_a_person_says_it(seconds, text):
    assert duration(seconds) == text


def test_a_run_shorter_than_logging_steps_ends_with_a_log(make_trainer):
    lines = io.StringIO()
    trainer = make_trainer(max_steps=3, logging_steps=10)
    trainer.add_callback(TrainingLog(lines, io.StringIO()))
    trainer.train()
    assert lines.getvalue().startswith("step 3/3  correct ")
    assert sum("signed/correct_ratio" in log for log in trainer.state.log_history) == 1


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()], ids=["file", "terminal"])
def test_only_a_terminal_has_a_bar(stream):
    log = TrainingLog(stream, stream)
    state = TrainerState(max_steps=2, is_world_process_zero=True)
    log.on_train_begin(None, state, TrainerControl())
    for step in (1, 2):
        state.global_step = step
        log.on_step_end(TrainingArguments("out"), state, TrainerControl())
        log.on_log(None, state, TrainerControl(), logs=LOGS | {"num_tokens": 100.0 * step})
    log.on_train_end(None, state, TrainerControl())
    text = stream.getvalue()
    assert ("\r" in text) == stream.isatty()
    assert "step 2/2  correct 45.1%" in text
    assert text.count("step 1/2") == 1


def test_other_processes_write_nothing():
    stream = io.StringIO()
    log = TrainingLog(stream, stream)
    state = TrainerState(max_steps=2, is_world_process_zero=False)
    log.on_train_begin(None, state, TrainerControl())
    log.on_log(None, state, TrainerControl(), logs=LOGS)
    assert stream.getvalue() == ""


def test_the_table_has_one_line_a_completion_and_nothing_that_steers_a_terminal():
    looks = [
        Look(f"so\n\x1b[31m it is \\boxed{{{n}}}", "correct", str(n), "string", "text.same", 0.1, reference=f"{n}.0")
        for n in range(20)
    ]
    lines = format_looks(looks).splitlines()
    assert len(lines) == 9
    assert lines[1] == (
        "correct      +0.10  0               0.0             text.same             so ·[31m it is \\boxed{0}"
    )


RIGHT = Look("x", "correct", "1", "number")
WRONG = Look("x", "incorrect", "2", "number")
UNDECIDED = Look("x", "undecided", "2", "not comparable")
NO_ANSWER = Look("x", "incorrect", "", "no answer")
ELSEWHERE = Look("x", "incorrect", "", "answer elsewhere", truncated=True)


@pytest.mark.parametrize(
    ("looks", "fields"),
    [
        ([RIGHT, WRONG, WRONG], []),
        ([], []),
        ([WRONG, WRONG], ["answer_column"]),
        ([UNDECIDED, UNDECIDED], ["answer_column"]),
        ([RIGHT, NO_ANSWER, NO_ANSWER], ["answer_format"]),
        ([RIGHT, ELSEWHERE, ELSEWHERE], ["67% have one in another form", "max_completion_length"]),
    ],
)
def test_what_most_completions_say_is_said_with_the_field_to_change(looks, fields):
    sentences = advise(looks)
    assert len(sentences) == len(fields)
    assert all(field in sentence for field, sentence in zip(fields, sentences, strict=True))


def test_an_evaluations_reader_is_told_flags():
    (sentence,) = advise([NO_ANSWER, NO_ANSWER, RIGHT], name=as_flag)
    assert "67% of 3 completions have no answer in the form 'boxed'. Change --answer-format (auto" in sentence
    assert "--template, --instruction or --system-prompt" in sentence
    (sentence,) = advise([NO_ANSWER], "auto", name=as_flag)  # which reads all forms already
    assert sentence.startswith("100% of 1 completions have no answer in any form. Change what asks for it: --template")
    format_sentence, limit_sentence = advise(iter([ELSEWHERE]), name=as_flag)
    assert "100% have one in another form" in format_sentence
    assert "Raise --max-new-tokens" in limit_sentence
    (sentence,) = advise([WRONG], name=as_flag, table="some (nsr-trl show RUN)")
    assert "Look at some (nsr-trl show RUN): are the references" in sentence


def test_the_best_checkpoint_by_pass_at_k_is_kept(make_trainer, prompts):
    trainer = make_trainer(
        eval_dataset=prompts,
        eval_strategy="steps",
        eval_steps=1,
        save_strategy="steps",
        save_steps=1,
        max_steps=2,
        num_generations_eval=4,
        metric_for_best_model="eval_pass@4",
        load_best_model_at_end=True,
    )
    trainer.train()
    assert trainer.state.best_metric == max(
        entry["eval_pass@4"] for entry in trainer.state.log_history if "eval_pass@4" in entry
    )
    assert trainer.evaluate().keys() >= {"eval_pass@1", "eval_pass@4", "eval_runtime"}


def test_the_first_rollout_is_shown_once(make_trainer, capsys):
    from nsr_trl.training_log import FirstRollout

    trainer = make_trainer(max_steps=2)
    trainer.add_callback(FirstRollout(trainer))
    trainer.train()
    printed = capsys.readouterr().out
    assert printed.count("first rollout, 8 of") == 1
    assert printed.count("outcome     weight") == 1
    rows = trainer.last_completions()
    assert rows[0].keys() >= {"completion", "signed/outcome", "signed/weight"}
