"""What of the vLLM sampler needs no vLLM; the rest is in tests/with_vllm."""

import importlib.util
import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM

from nsr_trl.evaluation.vllm_sampler import VLLMSampler, fingerprint


@pytest.mark.skipif(importlib.util.find_spec("vllm") is not None, reason="vLLM is installed")
def test_without_vllm_it_says_what_to_install(tiny_model):
    with pytest.raises(ImportError, match=r"pip install nsr-trl\[vllm\]"):
        VLLMSampler(tiny_model, max_new_tokens=1)


def test_the_fingerprint_tells_weights_after_one_small_step_from_those_before(tiny_model, tmp_path):
    copy, trained = tmp_path / "copy", tmp_path / "trained"
    shutil.copytree(tiny_model, copy)
    model = AutoModelForCausalLM.from_pretrained(tiny_model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.001)
    model.save_pretrained(trained)
    assert fingerprint(copy) == fingerprint(Path(tiny_model))
    assert fingerprint(copy) != fingerprint(trained)
