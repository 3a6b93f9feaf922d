"""The base model of the countdown world: a Llama of 0.16M parameters, pretrained on an author's texts from a seed.

    python examples/countdown/model.py --output-dir countdown-base

takes some six minutes on one core; the study makes it when it is not there.
"""

import argparse
from pathlib import Path

from problems import MAX_VALUE, OPERATORS, author_texts

from nsr_trl.quickstart.model import build_model, build_tokenizer, pretrain, pretraining_steps


TOKENS = (
    *map(str, range(1, MAX_VALUE + 1)),
    *(f"={value}" for value in range(1, MAX_VALUE + 1)),
    *OPERATORS,
    ",",
    ":",
)


def make_base(output_dir: Path, seed: int = 0, num_steps: int = 3500) -> None:
    """Pretrains the model and writes it with its tokenizer."""
    tokenizer = build_tokenizer(TOKENS, pattern=r"=\d+|\d+|.")
    model = build_model(
        seed, tokenizer, hidden_size=64, intermediate_size=160, head_dim=16, max_position_embeddings=32
    )
    print(f"Pretraining {sum(p.numel() for p in model.parameters()):,} parameters on {num_steps} x 128 texts")
    steps = pretraining_steps(author_texts(seed), tokenizer, batch_size=128, micro_batch_size=128)
    pretrain(model, steps, num_steps, learning_rate=3e-3)
    model.save_pretrained(output_dir)
    tokenizer.save_pretrained(output_dir)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output-dir", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--num-steps", type=int, default=3500)
    arguments = parser.parse_args()
    make_base(arguments.output_dir, arguments.seed, arguments.num_steps)
