"""The prompts of a run: whether there are enough, whether the model can read each, and what tells them apart."""

import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any


SPECIAL_TOKENS_PER_MESSAGE = 32
"""Tokens that a chat template may put around a message: a generous guess, to know which prompts need counting."""

SAMPLED_ROWS = 32


def check_prompts(dataset: Any, tokenizer: Any, num_needed: int, context: int | None) -> None:
    """
    Checks that a dataset has enough prompts for one generation, and that the model can read each of them.

    Args:
        dataset (`datasets.Dataset` or another):
            What is to be trained or evaluated on. Of a stream only the columns are checked.
        tokenizer:
            The model's.
        num_needed (`int`):
            Prompts of one generation.
        context (`int`, *optional*):
            Tokens that the model can attend to.

    Raises:
        ValueError: If there is no column of prompts, there are too few prompts, or some leave no room for a token of
            an answer.
    """
    columns = getattr(dataset, "column_names", None)
    if columns and "prompt" not in columns:
        raise ValueError(
            f"A dataset must have its prompts in a column named 'prompt'; the columns are {', '.join(columns)}. "
            "Rename the one that holds them (`dataset.rename_column`), or make the dataset of problems (`to_dataset`)."
        )
    if not hasattr(dataset, "__len__"):
        return
    if len(dataset) < num_needed:
        raise ValueError(
            f"One generation takes {num_needed} prompts (generation_batch_size / num_generations); the dataset has "
            f"{len(dataset)}. Give more prompts, or lower per_device_train_batch_size or steps_per_generation."
        )
    for row, prompt in enumerate(_prompts(dataset)):
        if not is_prompt(prompt):
            raise ValueError(
                "A prompt must be a text, or messages of which each has a role; that of row "
                f"{row} is {prompt!r:.80}. Correct the row, or leave it out (`dataset.filter`)."
            )
    overlong = {} if context is None else overlong_prompts(dataset, tokenizer, context)
    if overlong:
        row, length = max(overlong.items(), key=lambda item: item[1])
        raise ValueError(
            f"A prompt must be shorter than the model's context of {context} tokens; {len(overlong)} of "
            f"{len(dataset)} are not, row {row} with {length} tokens. Leave such rows out "
            "(`dataset.filter`), or shorten them."
        )


def is_prompt(prompt: Any) -> bool:
    """Whether a model can be asked this: a text that is not empty, or messages of which each has a role."""
    if isinstance(prompt, str):
        return bool(prompt)
    return isinstance(prompt, list) and bool(prompt) and all(isinstance(m, Mapping) and m.get("role") for m in prompt)


def leave_out_overlong(dataset: Any, tokenizer: Any, context: int | None, say: Callable[[str], object]) -> Any:
    """
    Leaves out the prompts that fill the model's context.

    Args:
        dataset (`datasets.Dataset` or `datasets.IterableDataset`):
            Rows with a `prompt`. Those of a stream are looked at as they are read.
        tokenizer:
            The model's.
        context (`int`, *optional*):
            Tokens that the model can attend to.
        say (`Callable`):
            Called with a sentence that has their number, if there are any; of a stream it is not known.

    Returns:
        As `dataset`.
    """
    if context is None:
        return dataset
    if not hasattr(dataset, "__len__"):
        return dataset.filter(lambda row: not overlong_prompts([row], tokenizer, context))
    overlong = overlong_prompts(dataset, tokenizer, context)
    if not overlong:
        return dataset
    counts = f"{len(overlong):,} of {len(dataset):,}"
    say(f"Left out {counts} problems, whose prompts fill the context of {context:,} tokens.")
    return dataset.select([row for row in range(len(dataset)) if row not in overlong])


def context_of(config: Any) -> int | None:
    """Tokens that a model of this config can attend to, or `None` where the config does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def overlong_prompts(dataset: Any, tokenizer: Any, context: int) -> dict[int, int]:
    """
    Prompts that fill the model's context.

    Args:
        dataset (`datasets.Dataset` or another):
            Rows with a `prompt`, a text or a list of messages.
        tokenizer:
            The model's. Only the prompts that may be too long, by the bytes of their text, are counted with it.
        context (`int`):
            Tokens that the model can attend to.

    Returns:
        `dict[int, int]`: number of the row to tokens of its prompt, where these are `context` or more
    """
    found = {}
    for row, prompt in enumerate(_prompts(dataset)):
        messages = [{"content": prompt}] if isinstance(prompt, str) else prompt
        texts: list[Any] = [message.get("content") for message in messages]
        if not all(isinstance(text, str) for text in texts):  # images among them
            continue
        num_bytes = len("".join(texts).encode())  # a token is a byte at least
        if num_bytes + SPECIAL_TOKENS_PER_MESSAGE * (len(texts) + 1) < context:
            continue
        text = prompt if isinstance(prompt, str) else tokenizer.apply_chat_template(prompt, tokenize=False)
        length = len(tokenizer(text=text)["input_ids"])
        if length >= context:
            found[row] = length
    return found


def describe_dataset(dataset: Any) -> str | None:
    """
    Tells datasets apart: how many rows, and a hash over some of the prompts.

    Returns:
        `str` or `None`: the same for the same rows, whatever machine; `None` for a stream
    """
    if not hasattr(dataset, "__len__") or not len(dataset):
        return None
    step = max(len(dataset) // SAMPLED_ROWS, 1)
    rows = [dataset[index] for index in range(0, len(dataset), step)]
    prompts = [row.get("prompt") if isinstance(row, Mapping) else None for row in rows]
    digest = hashlib.sha256(json.dumps(prompts, sort_keys=True, default=_kind_of).encode()).hexdigest()
    return f"of {len(dataset):,} rows ({digest[:8]})"


def _prompts(dataset: Any) -> Any:
    names = getattr(dataset, "column_names", None)
    if names is not None:
        return dataset["prompt"] if "prompt" in names else ()
    return (row.get("prompt") or "" for row in dataset)


def _kind_of(value: Any) -> str:
    return type(value).__name__  # an image, say
