"""
`nsr_trl.train` under FSDP2 on a CPU, where accelerate would run DDP and not say so: it shards for GPUs only.

    accelerate launch --config_file fsdp2.yaml fsdp_on_a_cpu.py --config quickstart ...
"""

from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from nsr_trl import train


class ShardedTrainer(train.SignedRewardTrainer):
    """Sees to it that the parameters are shards."""

    def __init__(self, *args, **kwargs):
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        super().__init__(*args, **kwargs)

    def training_step(self, *args, **kwargs):
        assert all(isinstance(parameter, DTensor) for parameter in self.model_wrapped.parameters())
        return super().training_step(*args, **kwargs)


if __name__ == "__main__":
    train.SignedRewardTrainer = ShardedTrainer
    train.main()
