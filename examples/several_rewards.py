"""
Several reward functions: one decides the sign, the others are watched, or train beside it.

    python examples/several_rewards.py --model_name_or_path Qwen/Qwen2.5-0.5B-Instruct --output_dir out --objective nsr

Under a signed objective a sum of rewards has no sign to take. `outcome_reward` names the function that says whether
the answer is correct; what the others return is logged as `rewards/NAME/mean` and trains nothing by itself. Two flags
change that, alone or together:

    --outcome_requires shows_working                      # an answer without working is not correct
    --auxiliary_weight 0.1 --reward_weights 1 1 0.01      # their advantages, a tenth of them, beside the sign
"""

from trl import ModelConfig, TrlParser

from nsr_trl import Problem, SignedRewardConfig, SignedRewardTrainer, math_reward, to_dataset
from nsr_trl.quickstart.problems import generate_problems


def shows_working(completions: list, **kwargs) -> list[float]:
    """Whether there is a line of working before the boxed answer."""
    return [float("=" in completion[-1]["content"].partition("\\boxed")[0]) for completion in completions]


def brevity(completion_ids: list[list[int]], **kwargs) -> list[float]:
    """Minus the number of tokens."""
    return [-float(len(ids)) for ids in completion_ids]


def main(args: SignedRewardConfig, model: ModelConfig) -> None:
    args.outcome_reward = "math_reward"
    problems = [Problem(**row) for row in generate_problems(200, seed=0)]
    trainer = SignedRewardTrainer(
        model.model_name_or_path, [math_reward, shows_working, brevity], args, to_dataset(problems)
    )
    trainer.train()
    trainer.save_model()


if __name__ == "__main__":
    main(*TrlParser((SignedRewardConfig, ModelConfig)).parse_args_and_config())
