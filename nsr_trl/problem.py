r"""A problem and the prompt that asks it: plain Python, for what trains, evaluates and shows alike."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


QUESTION_COLUMNS = ("problem", "question", "prompt", "messages")
"""Names under which a question is looked for, in this order."""
ANSWER_COLUMNS = ("answer", "final_answer", "solution", "target", "expected_answer", "ground_truth")
"""Names under which a reference is looked for, in this order."""

INSTRUCTION = r"Please reason step by step, and put your final answer within \boxed{}."
"""The paper's instruction, one line below the question."""

_REASON = "Please reason step by step, and "
INSTRUCTIONS: dict[str, str] = {
    "boxed": INSTRUCTION,
    "auto": INSTRUCTION,
    "gsm8k": f"{_REASON}put your final answer on the last line, after ####.",
    "xml": f"{_REASON}put your final answer within <answer></answer>.",
    "last": f"{_REASON}state your final answer in the last sentence.",
}
"""What asks for an answer of each format; a regular expression is asked for by an instruction of one's own."""

ANSWER_WRITINGS: dict[str, str] = {
    "boxed": "\\boxed{%s}",
    "auto": "\\boxed{%s}",
    "gsm8k": "#### %s",
    "xml": "<answer>%s</answer>",
    "last": "The answer is %s.",
}
"""A completion that is nothing but an answer, by format."""

ANSWER_MARKS: dict[str, str] = {"boxed": "\\boxed", "gsm8k": "####", "xml": "<answer>"}
"""Words by which a prompt is known to ask for a format."""

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
        messages (`tuple[Mapping[str, str], ...]`):
            The conversation that asks it, where the source has one.
        columns (`Mapping[str, Any]`):
            The source's other columns, for reward functions that read them.
    """

    question: str
    answer: str
    level: str | None = None
    subject: str | None = None
    messages: tuple[Mapping[str, str], ...] = field(default=(), compare=False, repr=False)
    columns: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    @property
    def id(self) -> str:
        """First 16 hexadecimal digits of SHA-256 over question, a zero byte and answer: stable across files."""
        return hashlib.sha256(f"{self.question}\0{self.answer}".encode()).hexdigest()[:16]

    def to_dict(self) -> dict[str, Any]:
        """Id, question, answer, level and subject, as an evaluation records them: texts, whatever they were."""
        values = {name: getattr(self, name) for name in ("question", "answer", "level", "subject")}
        return {"id": self.id} | {name: None if value is None else str(value) for name, value in values.items()}


@dataclass(frozen=True)
class Prompting:
    """
    How problems are asked.

    Attributes:
        answer_format (`str`):
            Where the answer is read, as in [`verify`].
        template (`str`, *optional*):
            Name of one of `PROMPT_TEMPLATES`, or a text with `{input}` in the place of the question: the prompt is
            plain text. When not set it is a conversation, and the model's own chat template applies.
        system_prompt (`str`, *optional*):
            System message of the conversation. It takes the place of one that the source has.
        instruction (`str`, *optional*):
            Line below the question. When not set, that of `INSTRUCTIONS` for the answer format, unless a conversation
            of the source asks for some form of answer itself. Empty for none.
        chat_template_kwargs (`Mapping[str, Any]`):
            Arguments of the chat template, such as `{"enable_thinking": False}`.

    Raises:
        ValueError: If the template is neither a name nor a text with `{input}`, or there is a system prompt beside it.
    """

    answer_format: str = "boxed"
    template: str | None = None
    system_prompt: str | None = None
    instruction: str | None = None
    chat_template_kwargs: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.template is None:
            return
        if self.template not in PROMPT_TEMPLATES and "{input}" not in self.template:
            raise ValueError(
                f"`template` must be one of {', '.join(PROMPT_TEMPLATES)}, or a text with {{input}}; got "
                f"{self.template!r}. Leave it out to use the chat template of the model."
            )
        if self.system_prompt is not None:
            raise ValueError(
                f"A system prompt needs a conversation; got system_prompt={self.system_prompt!r:.40} and "
                f"template={self.template!r:.40}, which is plain text. Write it into the template, or leave one out."
            )

    def prompt(
        self, problem: Problem, tokenizer: "PreTrainedTokenizerBase | None" = None
    ) -> str | list[dict[str, str]]:
        """
        The prompt of a problem.

        Args:
            problem ([`Problem`]):
                The problem.
            tokenizer (`PreTrainedTokenizerBase`, *optional*):
                Tokenizer a plain text is meant for. If it adds a BOS token itself, as TRL lets it, one that the text
                begins with is left out, so that there are not two.

        Returns:
            `str` or `list[dict[str, str]]`:
                The plain text, or the conversation.
        """
        if self.template is not None:
            text = PROMPT_TEMPLATES.get(self.template, self.template).replace("{input}", problem.question)
            return _without_bos(text, tokenizer)
        messages = [dict(message) for message in problem.messages] or [{"role": "user", "content": problem.question}]
        if self.system_prompt is not None:
            messages = [message for message in messages if message["role"] != "system"]
            messages.insert(0, {"role": "system", "content": self.system_prompt})
        if instruction := self._instruction(messages):
            asking = max(index for index, message in enumerate(messages) if message["role"] == "user")
            messages[asking]["content"] += f"\n{instruction}"
        return messages

    def rendered(
        self, problem: Problem, tokenizer: "PreTrainedTokenizerBase | None" = None
    ) -> str | list[dict[str, str]]:
        """As [`prompt`], with a conversation as plain text where the chat template takes arguments."""
        prompt = self.prompt(problem, tokenizer)
        if isinstance(prompt, str) or not self.chat_template_kwargs:
            return prompt
        if tokenizer is None:
            raise ValueError(
                f"Arguments of the chat template need the model's tokenizer; got {dict(self.chat_template_kwargs)} "
                "for a server that applies its own. Set them on the server and leave chat_template_kwargs out."
            )
        text = tokenizer.apply_chat_template(
            prompt, tokenize=False, add_generation_prompt=True, **self.chat_template_kwargs
        )
        return _without_bos(str(text), tokenizer)

    def _instruction(self, messages: list[dict[str, str]]) -> str:
        if self.instruction is not None:
            return self.instruction
        text = "".join(message["content"] for message in messages)
        if self.system_prompt is not None or asked_formats(text):
            return ""
        return INSTRUCTIONS.get(self.answer_format, "")


def find_column(columns: Iterable[str], role: str, name: str | None, candidates: Sequence[str]) -> str:
    """
    The column of a role: the one named, or the first candidate that is there.

    Raises:
        ValueError: If there is none.
    """
    columns = list(columns)
    for candidate in candidates if name is None else (name,):
        if candidate in columns:
            return candidate
    expected = f"one of {', '.join(candidates)}" if name is None else repr(name)
    raise ValueError(
        f"The {role} must be in a column named {expected}; the columns are {', '.join(columns)}. "
        f"Name the right one with `{role}_column`."
    )


def asked_formats(text: str) -> list[str]:
    """The formats of answer that a prompt asks for; `"answer:"` stands for any line that begins so."""
    found = [name for name, mark in ANSWER_MARKS.items() if mark in text]
    return found or (["answer:"] if re.search(r"\b(?:final )?answer: ?[$<\[{]", text, re.IGNORECASE) else [])


def format_prompt(
    question: str, template: str | None = None, tokenizer: "PreTrainedTokenizerBase | None" = None
) -> str | list[dict[str, str]]:
    """
    Puts a question into the form the policy is prompted with.

    Args:
        question (`str`):
            The question.
        template (`str`, *optional*):
            As in [`Prompting`]. By default the prompt is a conversation of one user message with the question and
            `INSTRUCTION`.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            As in [`Prompting.prompt`].

    Raises:
        ValueError: If there is no such template.
    """
    return Prompting(template=template).prompt(Problem(question, ""), tokenizer)


def _without_bos(text: str, tokenizer: "PreTrainedTokenizerBase | None") -> str:
    if tokenizer is not None and tokenizer.bos_token and tokenizer("").input_ids[:1] == [tokenizer.bos_token_id]:
        return text.removeprefix(tokenizer.bos_token)
    return text
