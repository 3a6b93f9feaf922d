"""The memory model: the sizes it starts from, and the arithmetic it does."""

import pytest
from transformers import AutoModelForCausalLM

from nsr_trl.quickstart.model import model_path
from nsr_trl.run.memory import GIB, KNOWN_SHAPES, ModelShape, estimate_memory


SHAPE = ModelShape(2, 64, 128, 2, 1, 32, 1000)


@pytest.mark.parametrize(
    ("name", "billions"),  # as the model cards state them
    [
        ("Qwen/Qwen2.5-Math-7B", 7.61),
        ("Qwen/Qwen2.5-Math-1.5B", 1.54),
        ("Qwen/Qwen3-4B", 4.02),
        ("meta-llama/Llama-3.1-8B-Instruct", 8.03),
    ],
)
def test_the_known_shapes_have_as_many_parameters_as_their_cards_say(name, billions):
    assert KNOWN_SHAPES[name].num_parameters / 1e9 == pytest.approx(billions, abs=0.01)


def test_the_parameters_of_a_model_are_counted_from_its_config():
    model = AutoModelForCausalLM.from_pretrained(model_path())
    shape = ModelShape.from_config(model.config.to_dict())
    assert shape.num_parameters == sum(p.numel() for p in model.parameters())


def test_an_adapter_is_counted_by_hand():
    # rank 4, 2 layers; q and o: 64 x 64 each, k and v: 64 x 32 each, three MLP matrices 64 x 128
    assert SHAPE.num_lora(4) == 4 * 2 * (2 * 128 + 2 * 96 + 3 * 192)


def test_states_are_sixteen_bytes_a_parameter_over_the_processes_that_share_them():
    n = SHAPE.num_parameters
    sizes = {
        sharding: estimate_memory(SHAPE, num_tokens=8, num_processes=4, sharding=sharding).states / n
        for sharding in ("ddp", "zero2", "zero3", "fsdp")
    }
    # ZeRO-2: 2 for the weights, (2 + 12) / 4 for the rest
    assert sizes == pytest.approx({"ddp": 16, "zero2": 2 + 14 / 4, "zero3": 16 / 4, "fsdp": 16 / 4})


def test_a_sleeping_vllm_leaves_its_memory_to_the_update():
    settings = {"num_tokens": 8, "vllm_bytes": 10 * GIB}
    awake, asleep = (estimate_memory(SHAPE, **settings, vllm_sleeps=sleeps) for sleeps in (False, True))
    assert awake.update - asleep.update == 10 * GIB
    assert awake.generation == asleep.generation


def test_checkpointing_keeps_the_inputs_of_layers_only():
    kept, all_of_it = (
        estimate_memory(SHAPE, num_tokens=4096, gradient_checkpointing=flag).activations for flag in (True, False)
    )
    assert kept < all_of_it


def test_another_family_of_models_is_an_error_that_names_what_is_missing():
    with pytest.raises(ValueError, match="'num_attention_heads'"):
        ModelShape.from_config({"hidden_size": 64})
