r"""A problem and the prompt that asks it: plain Python, for what trains, evaluates and shows alike."""

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."
"""The paper's instruction, one line below the question."""

_CHATML = (
    "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    f"<|im_start|>user\n{{input}}\n{INSTRUCTION}<|im_end|>\n<|im_start|>assistant\n"
)
PROMPT_TEMPLATES: dict[str, str] = {
    "qwen": _CHATML,
    "qwen3_no_thinking": _CHATML + "<think>\n\n</think>\n",
    "llama": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nYou are a helpful assistant.<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{{input}}\n{INSTRUCTION}<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    ),
    "simple": "Question:\n{input}\nAnswer:\nLet's think step by step.\n",
    "plain": "{input}",
}
"""Plain-text prompts, `{input}` being the question: the four of the paper's code, verbatim, and the bare question."""


@dataclass(frozen=True, slots=True)
class Problem:
    """
    A question and its reference answer.

    Attributes:
        question (`str`):
            The question, without instruction or chat markup.
        answer (`str`):
            The bare reference answer. Empty where the source has none (two MATH solutions have an empty box): every
            response to such a problem is undecided.
        level (`str`, *optional*):
            Difficulty, as the source writes it.
        subject (`str`, *optional*):
            Field of mathematics, as the source writes it.
    """

    question: str
    answer: str
    level: str | None = None
    subject: str | None = None

    @property
    def id(self) -> str:
        """First 16 hexadecimal digits of SHA-256 over question, a zero byte and answer: stable across files."""
        return hashlib.sha256(f"{self.question}\0{self.answer}".encode()).hexdigest()[:16]


def format_prompt(
    question: str, template: str | None = None, tokenizer: "PreTrainedTokenizerBase | None" = None
) -> str | list[dict[str, str]]:
    """
    Puts a question into the form the policy is prompted with.

    Args:
        question (`str`):
            The question.
        template (`str`, *optional*):
            Name of one of `PROMPT_TEMPLATES`, for a plain-text prompt. By default the prompt is a conversation of one
            user message with the question and `INSTRUCTION`, and the model's own chat template applies.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Tokenizer the plain text is meant for. If it adds a BOS token itself, as TRL lets it, one that the template
            begins with is left out, so that there are not two.

    Returns:
        `str` or `list[dict[str, str]]`:
            The plain text, or the conversation.

    Raises:
        ValueError: If there is no such template.
    """
    if template is None:
        return [{"role": "user", "content": f"{question}\n{INSTRUCTION}"}]
    if template not in PROMPT_TEMPLATES:
        raise ValueError(
            f"`template` must be one of {', '.join(PROMPT_TEMPLATES)}; got {template!r}. "
            "Leave it out to use the chat template of the model."
        )
    prompt = PROMPT_TEMPLATES[template].replace("{input}", question)
    if tokenizer is not None and tokenizer.bos_token and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:
        prompt = prompt.removeprefix(tokenizer.bos_token)
    return prompt
