"""The quickstart's language model: a Llama of half a million parameters, pretrained on worked solutions that slip.

In: a seed. Out: a folder with the model and its tokenizer, as `from_pretrained` reads it. The folder `model/` beside
this file was written by

    python -m nsr_trl.quickstart.model --output-dir nsr_trl/quickstart/model --seed 0

Other small worlds pretrain with the same functions, on texts and with tokens of their own.

B rows, T tokens per row.
"""

import argparse
import random
import string
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .problems import MAX_PRETRAINING_STEPS, NATURAL_SLIPS, sample_problems, worked_solution


SPECIAL_TOKENS = ("<pad>", "<eos>", "<unk>")
# whole tokens keep the rows short: a prompt starts with one of these, every answer with the other
WORDS = ("What is ", "\\boxed{")
PATTERN = r"What is |\\boxed\{|[\s\S]"
CHAT_TEMPLATE = """{%- for message in messages -%}
{{ message['content'] }}
{%- if message['role'] == 'assistant' -%}{{ eos_token }}{%- endif -%}
{%- if message['role'] == 'system' -%}{{ '\\n' }}{%- endif -%}
{%- endfor -%}"""


def model_path() -> Path:
    """The folder of the shipped model."""
    return Path(__file__).parent / "model"


def build_tokenizer(
    tokens: Sequence[str] = (*WORDS, *string.printable[:95], "\n"), pattern: str = PATTERN
) -> PreTrainedTokenizerFast:
    """
    Builds a tokenizer of few tokens.

    Its chat template writes the messages one after the other, so a conversation of one user message is tokenized as
    the plain prompt is.

    Args:
        tokens (`Sequence[str]`, *optional*):
            The tokens beside `SPECIAL_TOKENS`. Defaults to the quickstart's: `WORDS`, each printable ASCII character
            and newline.
        pattern (`str`, *optional*, defaults to `PATTERN`):
            Regular expression that finds the tokens in a text.
    """
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *tokens])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="<eos>",
        unk_token="<unk>",
        padding_side="left",
        clean_up_tokenization_spaces=False,
        chat_template=CHAT_TEMPLATE,
        model_max_length=256,
    )


def build_model(seed: int, tokenizer: PreTrainedTokenizerFast | None = None, **sizes: Any) -> LlamaForCausalLM:
    """Builds the untrained model, float32, its weights drawn from the seed; `sizes` are fields of `LlamaConfig`."""
    tokenizer = tokenizer or build_tokenizer()
    settings: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 256,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    torch.manual_seed(seed)
    return LlamaForCausalLM(LlamaConfig(**(settings | sizes)))


@dataclass(frozen=True)
class MicroBatch:
    """Rows of like length, each tensor of shape (B, T); the labels of the prompt and of the padding are -100."""

    input_ids: torch.Tensor
    attention_mask: torch.Tensor
    labels: torch.Tensor


def collate(rows: list[tuple[list[int], list[int]]], pad_token_id: int) -> MicroBatch:
    """Pads `(prompt, solution)` token rows on the right. Only the solutions carry labels."""
    shape = len(rows), max(len(prompt) + len(solution) for prompt, solution in rows)
    input_ids = torch.full(shape, pad_token_id)
    attention_mask = torch.zeros(shape, dtype=torch.long)
    labels = torch.full(shape, -100)
    for index, (prompt, solution) in enumerate(rows):
        end = len(prompt) + len(solution)
        input_ids[index, :end] = torch.tensor(prompt + solution)
        attention_mask[index, :end] = 1
        labels[index, len(prompt) : end] = torch.tensor(solution)
    return MicroBatch(input_ids, attention_mask, labels)


def slipping_texts(seed: int) -> Iterator[tuple[str, str]]:
    """Draws prompts and solutions of the train split without end, of at most `MAX_PRETRAINING_STEPS` steps."""
    rng = random.Random(seed)
    for problem in sample_problems(seed, "train", MAX_PRETRAINING_STEPS):
        yield problem.question, worked_solution(problem, rng, NATURAL_SLIPS)


def pretraining_steps(
    texts: Iterator[tuple[str, str]], tokenizer: PreTrainedTokenizerFast, batch_size: int, micro_batch_size: int = 32
) -> Iterator[list[MicroBatch]]:
    """Yields the micro-batches of one optimizer step after the other, as long as there are prompts and solutions.

    Rows are sorted by length inside a step only: over several steps, the short solutions, which have no working, would
    come together and be learned too well.
    """
    while texts_of_step := list(islice(texts, batch_size)):
        rows = [
            (tokenizer.encode(prompt), [*tokenizer.encode(solution), tokenizer.eos_token_id])
            for prompt, solution in texts_of_step
        ]
        rows.sort(key=lambda row: len(row[0]) + len(row[1]))
        yield [
            collate(rows[start : start + micro_batch_size], tokenizer.pad_token_id)
            for start in range(0, len(rows), micro_batch_size)
        ]


def pretrain(
    model: LlamaForCausalLM,
    steps: Iterator[list[MicroBatch]],
    num_steps: int = 4500,
    learning_rate: float = 2e-3,
) -> None:
    """
    Pretrains a model, on one thread.

    The same model and text on the same machine give the same weights.

    Args:
        model (`LlamaForCausalLM`):
            As [`build_model`] makes it; trained in place.
        steps (`Iterator[list[MicroBatch]]`):
            What each optimizer step trains on.
        num_steps (`int`, *optional*, defaults to `4500`):
            Optimizer steps. The learning rate warms up over the first 100 and falls linearly to zero.
        learning_rate (`float`, *optional*, defaults to `2e-3`):
            The highest learning rate.
    """
    torch.set_num_threads(1)  # sums of one thread have one order
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, (num_steps - step) / num_steps)
    )
    started = time.monotonic()
    recent_losses: list[float] = []
    for step, micro_batches in enumerate(islice(steps, num_steps), start=1):
        num_tokens = sum(int((micro.labels != -100).sum()) for micro in micro_batches)
        step_loss = 0.0
        for micro in micro_batches:
            loss = model(**vars(micro), use_cache=False, num_items_in_batch=num_tokens).loss
            loss.backward()
            step_loss += loss.item()
        recent_losses.append(step_loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0:
            mean_loss = sum(recent_losses) / len(recent_losses)
            recent_losses.clear()
            print(f"step {step}/{num_steps}  loss {mean_loss:.4f}  {time.monotonic() - started:.0f} s", flush=True)


def main() -> None:
    """Pretrains from the command line."""
    parser = argparse.ArgumentParser(description="Pretrain the quickstart's model and save it with its tokenizer.")
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to write")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the text")
    parser.add_argument("--num-steps", type=int, default=4500, help="optimizer steps")
    arguments = parser.parse_args()
    tokenizer = build_tokenizer()
    model = build_model(arguments.seed, tokenizer)
    steps = pretraining_steps(slipping_texts(arguments.seed), tokenizer, batch_size=64)
    pretrain(model, steps, arguments.num_steps)
    model.save_pretrained(arguments.output_dir)
    tokenizer.save_pretrained(arguments.output_dir)


if __name__ == "__main__":
    main()
