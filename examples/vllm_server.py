"""
Rollouts on a vLLM server, which has GPUs of its own.

On the machine of the server, vLLM with the flags that TRL needs to send it weights:

    VLLM_SERVER_DEV_MODE=1 vllm serve Qwen/Qwen2.5-Math-1.5B --weight-transfer-config '{"backend": "nccl"}' \
        --logprobs-mode processed_logprobs --max-logprobs -1

and on the machine of the trainer:

    accelerate launch examples/vllm_server.py --model_name_or_path Qwen/Qwen2.5-Math-1.5B --output_dir out \
        --objective nsr --vllm_server_base_url http://HOST:8000
"""

from trl import ModelConfig, TrlParser

from nsr_trl import SignedRewardConfig, SignedRewardTrainer, load_problems, math_reward, to_dataset


def main(args: SignedRewardConfig, model: ModelConfig) -> None:
    problems = load_problems("DigitalLearningGmbH/MATH-lighteval", split="train")
    trainer = SignedRewardTrainer(model.model_name_or_path, math_reward, args, to_dataset(problems))
    trainer.train()
    trainer.save_model()


def parse() -> tuple[SignedRewardConfig, ModelConfig]:
    parser = TrlParser((SignedRewardConfig, ModelConfig))
    parser.set_defaults(use_vllm=True, vllm_mode="server")
    return parser.parse_args_and_config()


if __name__ == "__main__":
    main(*parse())
