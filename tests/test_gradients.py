"""A gradient that is not finite never reaches the weights."""

import json

import pytest
import torch
from transformers import TrainerCallback

from nsr_trl.gradients import REPORT, NonFiniteGradientError


class Poison(TrainerCallback):
    """Puts NaN or infinity into a gradient, in some optimizer steps."""

    def __init__(self, steps, value=float("nan")):
        self.steps, self.value = steps, value
        self.handle = None

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step in self.steps:
            parameter = next(iter(model.parameters()))
            self.handle = parameter.register_hook(lambda gradient: torch.full_like(gradient, self.value))

    def on_step_end(self, args, state, control, **kwargs):
        if self.handle is not None:
            self.handle.remove()
            self.handle = None


def parameters(trainer):
    return torch.cat([p.detach().flatten().clone() for p in trainer.model.parameters()])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("settings", [{}, {"max_grad_norm": 0.0}, {"bf16": True}, {"compact": "off"}], ids=str)
def test_a_step_on_a_gradient_that_is_not_finite_is_not_taken(make_trainer, tmp_path, caplog, value, settings):
    """With AdamW, whose momentum and weight decay move the weights on a gradient of zero too."""
    settings = settings | {"optim": "adamw_torch", "learning_rate": 1e-2, "weight_decay": 0.1, "max_steps": 3}
    before = []

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            before.append(parameters(trainer))

    trainer = make_trainer(callbacks=[Poison([1], value), Watch()], **settings)
    trainer.train()
    after = [*before[1:], parameters(trainer)]
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert moved == [True, False, True]
    assert after[-1].isfinite().all()
    assert caplog.text.count("The gradient was not finite, and its optimizer step is not taken") == 1
    report = json.loads((tmp_path / REPORT).read_text())
    assert report["optimizer step"] == 2
    assert report["objective"] == "0.1 L_PSR + L_NSR"
    assert report["attention"] == "sdpa"
    (shape,) = report["micro-batches, rows x (prompt + completion)"]
    assert shape.endswith(" + 8)")


def test_three_in_a_row_stop_the_run_with_its_last_good_checkpoint(make_trainer, tmp_path):
    trainer = make_trainer(callbacks=[Poison([2, 3, 4])], max_steps=9, save_strategy="steps", save_steps=2)
    with pytest.raises(NonFiniteGradientError, match="not finite in 3 optimizer steps in a row") as error:
        trainer.train()
    assert str(tmp_path / "checkpoint-4") in str(error.value)  # of weights that were good: no step was taken since 2
    assert trainer.state.global_step == 5
    assert parameters(trainer).isfinite().all()


def test_two_in_a_row_and_one_later_do_not(make_trainer):
    trainer = make_trainer(callbacks=[Poison([0, 1, 3])], max_steps=5)
    trainer.train()
    assert trainer.state.global_step == 5
    assert parameters(trainer).isfinite().all()


def test_a_report_that_cannot_be_written_stops_nothing(make_trainer, tmp_path, caplog):
    (tmp_path / REPORT).mkdir()
    trainer = make_trainer(callbacks=[Poison([0])])
    trainer.train()
    assert trainer.state.global_step == 2
    assert f"{REPORT} could not be written" in caplog.text


def test_under_fp16_windows_without_rows_take_no_step(make_trainer, monkeypatch):
    """A scaler that saw no gradient refuses to step; `dropped_rows="reference"` leaves windows without any."""
    rewards = iter([[1.0] * 8 + [0.0] * 8, [0.0] * 16])
    trainer = make_trainer(
        objective="psr",
        dropped_rows="reference",
        reward_funcs=lambda completions, **kwargs: next(rewards),
        per_device_train_batch_size=4,
        gradient_accumulation_steps=2,
        steps_per_generation=4,
        optim="adamw_torch",
        max_steps=4,
    )
    trainer.accelerator.scaler = torch.amp.GradScaler("cpu")  # as accelerate sets one up where fp16 is asked for
    trainer.accelerator.native_amp = True
    monkeypatch.setattr(type(trainer.accelerator), "mixed_precision", property(lambda self: "fp16"))
    before = []

    class Watch(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            before.append(parameters(trainer))

    trainer.add_callback(Watch())
    trainer.train()
    moved = [not torch.equal(a, b) for a, b in zip(before, [*before[1:], parameters(trainer)], strict=True)]
    assert moved == [True, False, False, False]  # 8 rows fill one window of 8; the second generation fills none
