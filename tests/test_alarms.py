"""Alarms: each by a log by hand that provokes it and one that does not, and in runs that go wrong."""

import re
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from nsr_trl import Problem, SignedRewardTrainer, math_reward, to_dataset
from nsr_trl.alarms import ALARMS, METRIC, AlarmWatch, check_thresholds
from nsr_trl.config import sampling_bias
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems
from nsr_trl.quickstart.run import quickstart_config


def log_of(series):
    """A log of training, one entry for each value of the series, at steps 10, 20, ..."""
    rows = zip(*series.values(), strict=True)
    return [{"step": 10 * i, "loss": 0.0} | dict(zip(series, row, strict=True)) for i, row in enumerate(rows, start=1)]


def ringing(log, thresholds=None, num_prompts=1024):
    return {ring.name: ring for ring in AlarmWatch(thresholds, num_prompts).look(log)}


# (alarm, a log that is well, one that is not). Means of three logs count.
CASES = {
    # 0.3 x 1.0: the last three mean .3
    "entropy_collapse": ({"entropy": [1, 1, 1, 0.5, 0.4, 0.3]}, {"entropy": [1, 1, 1, 0.4, 0.3, 0.2]}),
    "entropy_explosion": ({"entropy": [0.5, 0.5, 0.5, 0.9, 0.9]}, {"entropy": [0.5, 0.5, 0.5, 0.9, 1.0, 1.1]}),
    # best .5; lost .4 of it at .3
    "correct_falling": (
        {"signed/correct_ratio": [0.5, 0.5, 0.5, 0.4, 0.3, 0.3]},
        {"signed/correct_ratio": [0.5, 0.5, 0.5, 0.35, 0.3, 0.24]},
    ),
    "none_correct": ({"signed/correct_ratio": [0, 0, 0, 0]}, {"signed/correct_ratio": [0, 0, 0, 0, 0]}),
    "unsolved_rising": (  # they rise, and so do the solved in the second alone
        {"signed/groups_unsolved": [0.2] * 3 + [0.4] * 3, "signed/groups_solved": [0.4] * 6},
        {"signed/groups_unsolved": [0.2] * 3 + [0.4] * 3, "signed/groups_solved": [0.4] * 3 + [0.5] * 3},
    ),
    "length": (
        {"completions/mean_length": [100] * 3 + [190] * 3},
        {"completions/mean_length": [100] * 3 + [200] * 3},
    ),
    "truncation": (
        {"completions/clipped_ratio": [0.1] * 3 + [0.35] * 3},
        {"completions/clipped_ratio": [0.1] * 3 + [0.45] * 3},
    ),
    "repetition": ({"signed/repetition": [0.1] * 3 + [0.25] * 3}, {"signed/repetition": [0.1] * 3 + [0.35] * 3}),
    "undecided_rising": (
        {"signed/undecided_ratio": [0.01] * 3 + [0.1] * 3},
        {"signed/undecided_ratio": [0.01] * 3 + [0.2] * 3},
    ),
    "clip": ({"signed/clip_ratio/incorrect": [0.1] * 3}, {"signed/clip_ratio/incorrect": [0.1, 0.3, 0.3]}),
    "correction": (
        {"signed/vllm_clip_ratio/correct": [0.1] * 3},
        {"signed/vllm_clip_ratio/correct": [0.0] * 3, "signed/vllm_clip_ratio/incorrect": [0.3] * 3},
    ),
    "pass_at_k_falling": (  # both fall; and Pass@8 from .9 to .86 while Pass@1 rises
        {"eval_pass@1": [0.5, 0.4], "eval_pass@8": [0.9, 0.8]},
        {"eval_pass@1": [0.4, 0.5, 0.6], "eval_pass@8": [0.8, 0.9, 0.86]},
    ),
}


def test_where_prompts_are_drawn_unequally_correct_answers_are_those_over_all_of_them():
    drawn = {"signed/correct_ratio": [0.5, 0.5, 0.5, 0.35, 0.3, 0.24]}  # ever harder prompts
    assert "correct_falling" in ringing(log_of(drawn))
    assert "correct_falling" not in ringing(log_of(drawn | {"signed/allocation/correct_ratio": [0.5] * 6}))


@pytest.mark.parametrize("name", ALARMS)
def test_an_alarm_rings_where_its_definition_says_and_not_before(name):
    well, unwell = CASES[name]
    assert name not in ringing(log_of(well))
    ring = ringing(log_of(unwell))[name]
    assert ring.extent >= 1
    assert ring.is_grave == ALARMS[name].is_grave
    assert name not in ringing(log_of(unwell), {name: None})


def test_the_sentence_has_the_number_the_field_to_change_and_the_page():
    sentence = ringing(log_of({"entropy": [1, 1, 1, 0.1, 0.1, 0.1]}))["entropy_collapse"].sentence
    assert sentence == (
        "Alarm entropy_collapse at step 60: the entropy is 0.1 nats, 1 at the beginning. Lower `positive_weight` or "
        "`learning_rate`, or hold it with lambda_controller='entropy'. docs/alarms.md#entropy-collapse"
    )


def test_every_alarm_names_a_heading_and_stands_in_the_table():
    page = Path(__file__).parent.parent / "docs" / "alarms.md"
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    assert {name.replace("_", " ") for name in ALARMS} <= {*headings}
    rows = re.findall(r"^\| \[`(\w+)`\]\(#([\w-]+)\) \| (.+?) \| ([\d.]+) \| (stops|warns) \|", page.read_text(), re.M)
    assert [(name, text, float(number), what == "stops") for name, _, text, number, what in rows] == [
        (name, alarm.definition, alarm.threshold, alarm.is_grave) for name, alarm in ALARMS.items()
    ]
    assert all(name.replace("_", "-") == anchor for name, anchor, *_ in rows)


def test_a_log_may_hold_anything():
    log = [{"step": 1, "loss": 0.0, "entropy": None, "signed/correct_ratio": float("nan")}, {"eval_pass@1": None}]
    log += [{"step": 2, "eval_pass@best": 1.0, "eval_pass@1": 0.5, "loss": "nan"}, {"step": 2, "train_runtime": 1.0}]
    assert ringing(log) == {}
    assert ringing([]) == {}


def test_what_chance_makes_of_few_prompts_rings_nothing():
    log = log_of({"signed/correct_ratio": [0.5] * 3 + [0.25] * 3})  # half is lost
    assert "correct_falling" in ringing(log, num_prompts=64)  # 3 standard errors are 1.5 x sqrt(1/64 + 1/192) = .22
    assert "correct_falling" not in ringing(log, num_prompts=4)  # and 1.5 x sqrt(1/4 + 1/12) = .87


def test_an_alarm_is_new_once():
    log = log_of({"entropy": [1, 1, 1, 0.1, 0.1, 0.1, 0.1]})
    assert ringing(log[:-1])["entropy_collapse"].is_new
    log[-2][f"{METRIC}entropy_collapse"] = 2.0
    assert not ringing(log)["entropy_collapse"].is_new


def test_a_step_is_good_until_an_alarm_is_a_quarter_of_its_way():
    watch = AlarmWatch(None, 1024)
    # means .5 .5 .5 .5 .44 .34 .24: of the .2 that may be lost 0, .3, .8, 1.3 at steps 40, 50, 60, 70
    log = log_of({"signed/correct_ratio": [0.5, 0.5, 0.5, 0.5, 0.32, 0.2, 0.2]})
    assert "correct_falling" in {ring.name for ring in watch.look(log)}
    assert watch.good_until(log) == 40
    assert watch.good_until([]) is None


@pytest.mark.parametrize(
    ("thresholds", "sentence"),
    [
        ({"entropy_colapse": 0.2}, "must be of the alarms entropy_collapse.*Did you mean 'entropy_collapse'"),
        ({"entropy_collapse": 2}, "must be a number between 0 and 1, or null for none; got 2. Leave it out for 0.3"),
        ({"length": 1}, "must be above 1, or null for none; got 1"),
        ({"clip": -1}, "must be a number above 0, or null for none; got -1"),
        ({"clip": "high"}, "got 'high'"),
    ],
)
def test_a_wrong_threshold_is_refused(thresholds, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_thresholds(thresholds)


def test_sampling_that_cuts_the_vocabulary_biases_vllms_correction(make_config):
    vllm = {"use_vllm": True, "vllm_mode": "colocate"}
    assert "biased under top_p=0.95, top_k=20" in sampling_bias(make_config(**vllm, top_p=0.95, top_k=20))
    assert "biased under min_p=0.1" in sampling_bias(make_config(**vllm, generation_kwargs={"min_p": 0.1}))
    assert sampling_bias(make_config(**vllm)) is None
    assert sampling_bias(make_config(top_p=0.95)) is None
    assert sampling_bias(make_config(**vllm, top_p=0.95, vllm_importance_sampling_correction=False)) is None


# --- What a run does ------------------------------------------------------------------------------------------------


@pytest.mark.trains
def test_positive_reinforcement_on_few_problems_collapses_the_entropy_of_the_shipped_model(tmp_path, caplog):
    problems = [Problem(**row) for row in generate_problems(16, 0, "train")]
    settings = {"max_steps": 20, "per_device_train_batch_size": 128, "learning_rate": 3e-4, "log_completions": False}
    trainer = SignedRewardTrainer(
        str(model_path()),
        math_reward,
        quickstart_config("psr", 0, tmp_path, **settings, save_strategy="no", on_alarm="stop"),
        to_dataset(problems, template="plain"),
    )
    trainer.train()
    assert "Alarm entropy_collapse at step" in caplog.text
    assert trainer.state.global_step < 20


def right_for(num_rollouts):
    """A reward that is 1 for one of two completions, and after so many rollouts for none."""
    seen = [0]

    def reward(completions, **kwargs):
        seen[0] += 1
        return [float(seen[0] <= num_rollouts and i % 2 == 0) for i in range(len(completions))]

    return reward


GOING_WRONG = {
    "max_steps": 9,
    "save_strategy": "steps",
    "save_steps": 1,
    "save_total_limit": 2,
    "alarm_thresholds": {"none_correct": 3},
    "check_after_rollouts": 0,
}


def test_stop_ends_the_run_and_goes_back_to_the_last_good_checkpoint(make_trainer, tmp_path, caplog):
    trainer = make_trainer(**GOING_WRONG, on_alarm="stop", reward_funcs=right_for(4))
    trainer.train()
    # none right at steps 5, 6 and 7: a third, two thirds and all of the way; what step 4 saw was checkpoint-3
    assert trainer.state.global_step == 7
    assert trainer.stopped_by_alarm == "none_correct at step 7, weights of checkpoint-3"
    assert "Alarm none_correct at step 7: no completion was correct in 3 logs in a row." in caplog.text
    assert f"the weights are those of {tmp_path / 'checkpoint-3'} now" in caplog.text
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "checkpoint-3")
    assert all(torch.equal(a, b) for a, b in zip(trainer.model.parameters(), saved.parameters(), strict=True))
    names = {path.name for path in tmp_path.glob("checkpoint-*")}
    assert names == {"checkpoint-3", "checkpoint-6"}  # kept, though the limit is two, and none was saved at the alarm
    facts = trainer.card_facts()
    assert facts.settings["stopped by the alarm"] == trainer.stopped_by_alarm


def test_without_a_checkpoint_stop_ends_the_run_all_the_same(make_trainer, caplog):
    settings = GOING_WRONG | {"save_strategy": "no"}
    trainer = make_trainer(**settings, on_alarm="stop", reward_funcs=right_for(4))
    trainer.train()
    assert trainer.state.global_step == 7
    assert "there is no good checkpoint to go back to" in caplog.text


def test_warn_says_it_once_and_marks_the_log_while_it_rings(make_trainer, tmp_path, caplog):
    make_trainer(**GOING_WRONG, reward_funcs=right_for(4)).train()
    assert caplog.text.count("Alarm none_correct") == 1
    caplog.clear()
    resumed = make_trainer(**GOING_WRONG, reward_funcs=right_for(0), output_dir=str(tmp_path / "again"))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    marks = [entry.get(f"{METRIC}none_correct") for entry in resumed.state.log_history if "loss" in entry]
    assert marks == pytest.approx([None] * 6 + [1, 4 / 3, 5 / 3])
    assert "Alarm none_correct" not in caplog.text  # the log of the checkpoint has it


def test_handover_changes_the_objective_once(make_trainer, tmp_path, caplog):
    settings = GOING_WRONG | {"objective": "nsr", "on_alarm": "handover"}
    trainer = make_trainer(**settings, reward_funcs=right_for(4))
    trainer.train()
    assert caplog.text.count("Handed over from nsr to w_reinforce: the alarm none_correct.") == 1
    assert trainer.signed_objective.name == "w_reinforce"
    assert trainer.state.global_step == 9
    resumed = make_trainer(**settings, reward_funcs=right_for(0), output_dir=str(tmp_path / "again"))
    resumed.train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))
    assert resumed.signed_objective.name == "w_reinforce"
    lambdas = [entry["signed/positive_weight"] for entry in resumed.state.log_history if "loss" in entry]
    assert lambdas == pytest.approx([0] * 7 + [0.1] * 2)  # from the rollout after the alarm


def test_stop_goes_back_to_the_adapter_of_the_last_good_checkpoint(make_trainer, tmp_path):
    peft = pytest.importorskip("peft")
    safetensors = pytest.importorskip("safetensors.torch")
    lora = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    trainer = make_trainer(**GOING_WRONG, on_alarm="stop", reward_funcs=right_for(4), peft_config=lora)
    trainer.train()
    saved = safetensors.load_file(tmp_path / "checkpoint-3" / "adapter_model.safetensors")
    left = safetensors.load_file(tmp_path / "checkpoint-6" / "adapter_model.safetensors")
    found = peft.get_peft_model_state_dict(trainer.model)
    assert found.keys() == saved.keys()
    assert all(torch.equal(found[name], saved[name]) for name in saved)
    assert not all(torch.equal(left[name], saved[name]) for name in saved)
