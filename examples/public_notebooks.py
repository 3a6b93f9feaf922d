"""
Three kinds of public GRPO notebook on this trainer: what they have stays, and two or three lines change.

    python examples/public_notebooks.py --notebook xml --model_name_or_path Qwen/Qwen2.5-1.5B-Instruct --output_dir out

`accuracy`: one function says whether the answer is right, as in TRL's quick start.
`xml`: a system prompt asks for <reasoning> and <answer>, and five rewards are added up, most of them for the form.
`graded`: a reward from 0 to 1 that gives a part for an answer near the right one.

`--warm_up_steps 12` shows a model the form of an answer first, on supervised steps, as some such notebooks do: one
that never writes the form is never correct, and there is nothing to learn from.
"""

import re
from dataclasses import dataclass, field

from datasets import Dataset, load_dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import ModelConfig, SFTConfig, SFTTrainer, TrlParser

from nsr_trl import SignedRewardConfig, SignedRewardTrainer, math_reward
from nsr_trl.quickstart.problems import generate_problems


SYSTEM_PROMPT = "Think first. Respond as\n<reasoning>\n...\n</reasoning>\n<answer>\n...\n</answer>"


# --- what such notebooks have -------------------------------------------------------------------------------------


def text_of(completion: list[dict]) -> str:
    return completion[0]["content"]


def between_tags(text: str) -> str:
    found = re.search(r"<answer>(.*?)</answer>", text, re.DOTALL)
    return found[1].strip() if found else ""


def correctness_reward(completions, answer, **kwargs) -> list[float]:
    """2 for the right text between the tags."""
    return [2.0 if between_tags(text_of(c)) == a else 0.0 for c, a in zip(completions, answer, strict=True)]


def whole_number_reward(completions, **kwargs) -> list[float]:
    return [0.5 if between_tags(text_of(c)).lstrip("-").isdigit() else 0.0 for c in completions]


def strict_form_reward(completions, **kwargs) -> list[float]:
    form = r"<reasoning>\n.*?\n</reasoning>\n<answer>\n.*?\n</answer>\n"
    return [0.5 if re.fullmatch(form, text_of(c), re.DOTALL) else 0.0 for c in completions]


def loose_form_reward(completions, **kwargs) -> list[float]:
    form = r"<reasoning>.*?</reasoning>\s*<answer>.*?</answer>"
    return [0.5 if re.search(form, text_of(c), re.DOTALL) else 0.0 for c in completions]


def tag_count_reward(completions, **kwargs) -> list[float]:
    """An eighth for each of the four tags that stands there once."""
    tags = ("<reasoning>", "</reasoning>", "<answer>", "</answer>")
    return [sum(text_of(c).count(tag) == 1 for tag in tags) / 8 for c in completions]


def near_reward(completions, answer, **kwargs) -> list[float]:
    """1 for the last number of a completion if it is right, less the further it is off, 0 from a tenth on."""
    rewards = []
    for completion, truth in zip(completions, answer, strict=True):
        numbers = re.findall(r"-?\d+", text_of(completion))
        error = abs(int(numbers[-1]) - int(truth)) / max(abs(int(truth)), 1) if numbers else 1.0
        rewards.append(max(0.0, 1 - 10 * error))
    return rewards


# --- what changes -------------------------------------------------------------------------------------------------

NOTEBOOKS = {
    # name: (reward functions, system prompt, settings that a sum of rewards did not need)
    "accuracy": ([math_reward], "Put the final answer within \\boxed{}.", {}),
    "xml": (
        [correctness_reward, whole_number_reward, strict_form_reward, loose_form_reward, tag_count_reward],
        SYSTEM_PROMPT,
        {"outcome_reward": "correctness_reward", "auxiliary_weight": 0.2},  # the sign; the form beside it
    ),
    "graded": ([near_reward], "Answer with the number.", {"correct_threshold": 0.99}),  # 1 is right, near is not
}

FORMS = {
    "accuracy": "\\boxed{{{answer}}}",
    "xml": "<reasoning>\n{question}\n</reasoning>\n<answer>\n{answer}\n</answer>\n",
    "graded": "{answer}",
}
"""How each asks for an answer to be written."""


@dataclass
class NotebookArguments:
    notebook: str = field(default="xml", metadata={"choices": list(NOTEBOOKS)})
    problems: str | None = field(default=None, metadata={"help": "JSON lines of `question` and `answer`."})
    warm_up_steps: int = field(default=0, metadata={"help": "Supervised steps that show the form of an answer."})


def warm_up(name: str, rows: list[dict], form: str, args: SignedRewardConfig, num_steps: int) -> SFTTrainer:
    """Shows a model how an answer is written, on the problems it will train on."""
    written = [
        {
            "prompt": row["prompt"],
            "completion": [
                {"role": "assistant", "content": form.format(question=row["question"], answer=row["answer"])}
            ],
        }
        for row in rows
    ]
    settings = SFTConfig(
        args.output_dir + "/warm-up",
        max_steps=num_steps,
        per_device_train_batch_size=8,
        learning_rate=5e-5,
        save_strategy="no",
        report_to="none",
        use_cpu=args.use_cpu,
        bf16=args.bf16,
        seed=args.seed,
    )
    model = AutoModelForCausalLM.from_pretrained(name, dtype="float32")
    trainer = SFTTrainer(model, settings, train_dataset=Dataset.from_list(written))
    trainer.train()
    return trainer


def main(script: NotebookArguments, args: SignedRewardConfig, model: ModelConfig) -> None:
    rewards, system_prompt, settings = NOTEBOOKS[script.notebook]
    for name, value in settings.items():
        setattr(args, name, value)
    if script.problems is None:
        problems = generate_problems(200, seed=0)
    else:
        problems = load_dataset("json", data_files=script.problems, split="train")
    rows = [
        {
            "prompt": [{"role": "system", "content": system_prompt}, {"role": "user", "content": row["question"]}],
            **row,
        }
        for row in problems
    ]
    started = model.model_name_or_path
    if script.warm_up_steps:
        started = warm_up(started, rows, FORMS[script.notebook], args, script.warm_up_steps).model
    tokenizer = AutoTokenizer.from_pretrained(model.model_name_or_path, padding_side="left")
    trainer = SignedRewardTrainer(started, rewards, args, Dataset.from_list(rows), processing_class=tokenizer)
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main(*TrlParser((NotebookArguments, SignedRewardConfig, ModelConfig)).parse_args_and_config())
