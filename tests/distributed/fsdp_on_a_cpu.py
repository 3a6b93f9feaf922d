"""
`nsr_trl.train` under FSDP2 on a CPU.

    accelerate launch --config_file fsdp2.yaml fsdp_on_a_cpu.py --config quickstart ...
"""

from sharding import ShardedTrainer

from nsr_trl import train


if __name__ == "__main__":
    train.SignedRewardTrainer = ShardedTrainer
    train.main()
