"""Attention over rows that are packed into one sequence."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from transformers import AutoModelForCausalLM, AutoTokenizer, MistralConfig, MistralForCausalLM

from nsr_trl import varlen
from nsr_trl.compaction import run_unpadded
from nsr_trl.quickstart.model import model_path
from nsr_trl.varlen import attend, takes_packed_rows


def test_each_row_attends_to_itself_alone_and_to_nothing_that_comes_later():
    """Of rows of 2 and 3 tokens the first token of each sees one value, its own; the last sees all of its row."""
    values = torch.tensor([1.0, 2.0, 10.0, 20.0, 60.0]).view(1, 1, 5, 1)
    same = torch.ones(1, 1, 5, 1)  # all scores alike: attention is a mean
    ends = torch.tensor([0, 2, 5], dtype=torch.int32)
    found, _ = attend(torch.nn.Module(), same, same, values, None, cu_seq_lens_q=ends, max_length_q=3)
    assert found.flatten().tolist() == [1.0, 1.5, 10.0, 15.0, 30.0]  # (1, 5, 1, 1)


def test_heads_share_keys_and_scores_are_scaled_as_in_sdpa():
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(1, 4, 7, 8, generator=generator)
    key, value = torch.randn(2, 1, 2, 7, 8, generator=generator)
    ends = torch.tensor([0, 7], dtype=torch.int32)
    found, _ = attend(torch.nn.Module(), query, key, value, None, scaling=0.3, cu_seq_lens_q=ends, max_length_q=7)
    key, value = (states.repeat_interleave(2, dim=1) for states in (key, value))
    expected = scaled_dot_product_attention(query, key, value, is_causal=True, scale=0.3)
    torch.testing.assert_close(found, expected.transpose(1, 2))


def test_no_mask_of_all_tokens_by_all_tokens_is_made_for_packed_rows(monkeypatch):
    model = AutoModelForCausalLM.from_pretrained(model_path(), attn_implementation="varlen")
    ids = torch.arange(10, 22).view(2, 6)
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    monkeypatch.setattr(varlen, "sdpa_mask", None)  # which would make it
    run_unpadded(model, **inputs, use_cache=False)
    with pytest.raises(TypeError, match="not callable"):
        model(**inputs, use_cache=False)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_a_model_generates_as_with_sdpa(cache):
    tokenizer = AutoTokenizer.from_pretrained(model_path(), padding_side="left")
    prompts = tokenizer(["What is 3+4?", "What is (12-5)*3?"], return_tensors="pt", padding=True)
    found = [
        AutoModelForCausalLM.from_pretrained(model_path(), attn_implementation=name).generate(
            **prompts, max_new_tokens=24, do_sample=False, cache_implementation=cache, disable_compile=True
        )
        for name in ("sdpa", "varlen")
    ]
    assert torch.equal(*found)


def test_a_model_whose_layers_see_a_window_is_refused():
    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = MistralConfig(vocab_size=50, num_key_value_heads=1, sliding_window=4, **sizes)
    model = MistralForCausalLM._from_config(config, attn_implementation="varlen")
    ids, ones = torch.arange(6).view(1, 6), torch.ones(1, 6, dtype=torch.long)
    with pytest.raises(ValueError, match="'varlen' is plain causal attention; this model's has sliding_window"):
        run_unpadded(model, input_ids=ids, attention_mask=ones, labels=ids)
    with pytest.raises(ValueError, match="this model's has sliding_window"):
        takes_packed_rows(model.config)  # so a trainer refuses it before the first rollout
    config.layer_types = ["full_attention"]  # a window is set, and no layer sees it
    assert takes_packed_rows(config)
