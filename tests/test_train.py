"""The program of a run: what it refuses before a model is loaded."""

import pytest
from accelerate.utils import DeepSpeedPlugin

from nsr_trl.train import _without_resuming, check_that_a_model_is_saved, main


def test_a_bad_argument_ends_with_its_sentence_and_status_2(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--config", "quickstart", "--objective", "nrs"])
    assert ended.value.code == 2
    assert "nsr-trl train: error: `objective` must be one of psr, nsr" in capsys.readouterr().err


@pytest.mark.parametrize(
    "given",
    [
        ["--resume_from_checkpoint"],
        ["--resume_from_checkpoint=true"],
        ["--resume-from-checkpoint", "out/checkpoint-4"],
    ],
)
def test_the_command_that_goes_on_names_its_checkpoint_once(given):
    assert _without_resuming(["--max_steps", "8", *given, "--use_cpu"]) == ["--max_steps", "8", "--use_cpu"]


@pytest.mark.parametrize(("gathers", "is_refused"), [(False, True), (None, True), (True, False)])
def test_zero3_must_gather_the_weights_to_save_a_model(make_config, gathers, is_refused):
    pytest.importorskip("deepspeed")
    args = make_config()
    args.deepspeed_plugin = DeepSpeedPlugin(zero_stage=3, zero3_save_16bit_model=gathers, zero3_init_flag=False)
    if is_refused:
        with pytest.raises(ValueError, match="ZeRO-3 must gather the weights to save a model"):
            check_that_a_model_is_saved(args)
    else:
        check_that_a_model_is_saved(args)


def test_zero2_has_whole_weights_to_save(make_config):
    pytest.importorskip("deepspeed")
    args = make_config()
    args.deepspeed_plugin = DeepSpeedPlugin(zero_stage=2)
    check_that_a_model_is_saved(args)


@pytest.mark.parametrize(("kind", "is_refused"), [("SHARDED_STATE_DICT", True), ("FULL_STATE_DICT", False)])
def test_fsdp_must_save_a_full_state_dict(make_config, monkeypatch, kind, is_refused):
    args = make_config()
    for name, value in {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2", "FSDP_STATE_DICT_TYPE": kind}.items():
        monkeypatch.setenv(name, value)
    if is_refused:
        with pytest.raises(ValueError, match="FSDP must save a full state dict; got SHARDED_STATE_DICT"):
            check_that_a_model_is_saved(args)
    else:
        check_that_a_model_is_saved(args)
