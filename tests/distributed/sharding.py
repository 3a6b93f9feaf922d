"""FSDP2 on a CPU, where accelerate runs DDP and does not say so: it shards for GPUs only."""

import os

from accelerate import PartialState
from accelerate.utils import DistributedType
from torch.distributed.tensor import DTensor

from nsr_trl import SignedRewardTrainer


class ShardedTrainer(SignedRewardTrainer):
    """Where FSDP is asked for, makes accelerate shard on a CPU, and sees to it that the parameters are shards."""

    def __init__(self, *args, **kwargs):
        self.is_sharded = os.environ.get("ACCELERATE_USE_FSDP") == "true"
        if self.is_sharded:
            PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
        super().__init__(*args, **kwargs)

    def training_step(self, *args, **kwargs):
        if self.is_sharded:
            # those of the root stay whole after a forward pass without a backward one
            assert any(isinstance(parameter, DTensor) for parameter in self.model_wrapped.parameters())
        return super().training_step(*args, **kwargs)
