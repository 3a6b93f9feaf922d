"""Presets: how the paper samples each of its models in an evaluation. A table, which imports nothing."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Preset:
    """
    Prompt and sampling parameters of an evaluation.

    Attributes:
        template (`str`):
            Name of the prompt template.
        temperature (`float`):
            Sampling temperature.
        top_p (`float`):
            Probability mass of the tokens to draw from.
        top_k (`int`):
            Number of tokens to draw from; 0 is all.
        max_new_tokens (`int`):
            Length limit: the paper's context less 1,024 tokens for the prompt, as in training.
        num_samples (`int`):
            Samples per problem.
    """

    template: str
    temperature: float
    top_p: float
    top_k: int
    max_new_tokens: int
    num_samples: int


PRESETS: dict[str, Preset] = {
    "qwen2.5-math": Preset("qwen", 0.6, 0.95, 0, 4_096 - 1_024, 256),
    "llama-3.1": Preset("llama", 0.6, 0.95, 0, 4_096 - 1_024, 256),
    "qwen3": Preset("qwen3_no_thinking", 0.7, 0.8, 20, 32_768 - 1_024, 64),
}
"""Presets by model family."""
