"""The model that a vLLM server serves: it must fit the one in training, whose weights will overwrite it unasked."""

import logging
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from .secrets import without_secrets


logger = logging.getLogger(__name__)

SHAPE_FIELDS = tuple(
    "model_type vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads "
    "head_dim".split()
)
"""Config fields that determine the shapes of a model's weights."""


def check_served_model(client: Any, trained: PreTrainedConfig) -> None:
    """
    Checks that the server's model has the weight shapes of the one in training.

    Args:
        client (`trl.generation.vllm_client.VLLMClient`):
            TRL's client of the server.
        trained (`transformers.PreTrainedConfig`):
            The model in training.

    Raises:
        ValueError: If it has others.
    """
    address, served = without_secrets(client.base_url), client.get_server_info()["model_config"]["model"]
    if served == trained.name_or_path:
        return
    try:
        differing = differing_shapes(AutoConfig.from_pretrained(served), trained)
    except OSError:  # a path of the server's machine
        logger.warning(
            f"The vLLM server at {address} serves {served}, whose config cannot be read from here: make sure that it "
            f"is the model in training, {trained.name_or_path}."
        )
        return
    if differing:
        raise ValueError(
            f"The vLLM server must serve the model in training; {address} serves {served} and not "
            f"{trained.name_or_path} (theirs and ours: {', '.join(differing)}). Start `vllm serve` with the model "
            "that the trainer is given."
        )


def differing_shapes(served: PreTrainedConfig, trained: PreTrainedConfig) -> list[str]:
    """Where two models differ so that the weights of one do not fit the other."""
    theirs, ours = served.get_text_config(), trained.get_text_config()
    return [
        f"{name} {getattr(theirs, name, None)} and {getattr(ours, name, None)}"
        for name in SHAPE_FIELDS
        if getattr(theirs, name, None) != getattr(ours, name, None)
    ]
