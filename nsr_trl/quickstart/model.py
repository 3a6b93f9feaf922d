"""The quickstart's language model: a Llama of half a million parameters, pretrained on worked solutions that slip.

In: a seed. Out: a folder with the model and its tokenizer, as `from_pretrained` reads it. The folder `model/` beside
this file was written by

    python -m nsr_trl.quickstart.model --output-dir nsr_trl/quickstart/model --seed 0

B rows, T tokens per row.
"""

import argparse
import random
import string
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from nsr_trl.quickstart.problems import NATURAL_SLIPS, sample_problems, worked_solution

SPECIAL_TOKENS = ("<pad>", "<eos>", "<unk>")
# whole tokens keep the rows short: a prompt starts with one of these, every answer with the other
WORDS = ("What is ", "\\boxed{")
CHAT_TEMPLATE = """{%- for message in messages -%}
{{ message['content'] }}
{%- if message['role'] == 'assistant' -%}{{ eos_token }}{%- endif -%}
{%- if message['role'] == 'system' -%}{{ '\\n' }}{%- endif -%}
{%- endfor -%}"""


def model_path() -> Path:
    """The folder of the shipped model."""
    return Path(__file__).parent / "model"


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Build the tokenizer: one token per printable ASCII character, newline, and each of `WORDS`.

    Its chat template writes the messages one after the other, so a conversation of one user message is tokenized as
    the plain prompt is.
    """
    characters = [*string.printable[:95], "\n"]
    vocabulary = {token: index for index, token in enumerate([*SPECIAL_TOKENS, *WORDS, *characters])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    pattern = "|".join([*(word.replace("\\", r"\\").replace("{", r"\{") for word in WORDS), r"[\s\S]"])
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


def build_model(seed: int, tokenizer: PreTrainedTokenizerFast | None = None) -> LlamaForCausalLM:
    """Build the untrained model, float32, its weights drawn from the seed."""
    tokenizer = tokenizer or build_tokenizer()
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=4,
        head_dim=32,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(seed)
    return LlamaForCausalLM(config)


def pretraining_batches(
    tokenizer: PreTrainedTokenizerFast, seed: int, batch_size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Yield `(input_ids, attention_mask, labels)`, each of shape (B, T), without end.

    Problems are of the train split, each written once, with natural slips. Rows of like length share a batch. Only
    the solution is learned: the label of the prompt and of the padding is -100.
    """
    rng = random.Random(seed)
    problems = sample_problems(seed, "train")
    batches_per_pool = 32
    while True:
        rows = []
        for problem in islice(problems, batches_per_pool * batch_size):
            prompt = tokenizer.encode(problem.question)
            solution = [*tokenizer.encode(worked_solution(problem, rng, NATURAL_SLIPS)), tokenizer.eos_token_id]
            rows.append((prompt + solution, len(prompt)))
        rows.sort(key=lambda row: len(row[0]))
        starts = list(range(0, len(rows), batch_size))
        rng.shuffle(starts)
        for start in starts:
            batch = rows[start : start + batch_size]
            width = max(len(ids) for ids, _ in batch)
            input_ids = torch.full((len(batch), width), tokenizer.pad_token_id)
            labels = torch.full((len(batch), width), -100)
            attention_mask = torch.zeros((len(batch), width), dtype=torch.long)
            for index, (ids, prompt_length) in enumerate(batch):
                input_ids[index, : len(ids)] = torch.tensor(ids)
                labels[index, prompt_length : len(ids)] = torch.tensor(ids[prompt_length:])
                attention_mask[index, : len(ids)] = 1
            yield input_ids, attention_mask, labels


def pretrain(
    output_dir: Path, seed: int = 0, num_steps: int = 4500, batch_size: int = 64, learning_rate: float = 2e-3
) -> LlamaForCausalLM:
    """Pretrain from scratch on one thread and save the model and its tokenizer.

    The same seed on the same machine gives the same weights.

    Args:
        output_dir (`Path`):
            Folder to write.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the weights and of the text.
        num_steps (`int`, *optional*, defaults to `4500`):
            Optimizer steps. The learning rate warms up over the first 100 and falls linearly to zero.
        batch_size (`int`, *optional*, defaults to `64`):
            Solutions per step.
        learning_rate (`float`, *optional*, defaults to `2e-3`):
            The highest learning rate.

    Returns:
        `LlamaForCausalLM`: the trained model.
    """
    torch.set_num_threads(1)  # sums of one thread have one order
    tokenizer = build_tokenizer()
    model = build_model(seed, tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / 100, (num_steps - step) / num_steps)
    )
    started = time.monotonic()
    for step, (input_ids, attention_mask, labels) in enumerate(
        islice(pretraining_batches(tokenizer, seed, batch_size), num_steps), start=1
    ):
        loss = model(input_ids=input_ids, attention_mask=attention_mask, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0:
            print(f"step {step}/{num_steps}  loss {loss.item():.4f}  {time.monotonic() - started:.0f} s", flush=True)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)
    return model


def main() -> None:
    """Pretrain from the command line."""
    parser = argparse.ArgumentParser(description=pretrain.__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-steps", type=int, default=4500)
    arguments = parser.parse_args()
    pretrain(arguments.output_dir, seed=arguments.seed, num_steps=arguments.num_steps)


if __name__ == "__main__":
    main()
