"""
The memory model beside measurements: peak bytes of an optimizer step with two micro-batches, at three model sizes.

    OMP_NUM_THREADS=1 python benchmarks/memory.py

Measured is what torch allocates on the CPU for storages that some tensor holds, counted at every operator and at
autograd's saved tensors, in the second optimizer step, when AdamW's moments exist. The program is the
forward and backward pass of the trainer: TRL's fused LM head, gradient checkpointing or none, float32 or bfloat16.
`layers` leaves the LM head out, whose temporaries on a CPU are larger than on a GPU.
What a GPU adds is not in it: workspaces of kernels, fragmentation, NCCL, the CUDA context.
"""

import argparse
import contextlib
import itertools
import weakref

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter
from transformers import LlamaConfig, LlamaForCausalLM
from trl.trainer.utils import add_fused_lm_head

from nsr_trl.run.memory import ModelShape, estimate_memory


SHAPES = {
    "4M": ModelShape(4, 256, 688, 4, 2, 64, 4096, is_tied=True),
    "28M": ModelShape(6, 512, 1376, 8, 2, 64, 16384),
    "71M": ModelShape(12, 576, 1536, 9, 3, 64, 49152, is_tied=True),  # SmolLM2's layers, fewer of them
}
MIB = 2**20
SETTINGS = ((True, False), (False, False), (True, True), (False, True))  # gradient checkpointing, bfloat16


class PeakMemory(TorchDispatchMode):
    """Bytes of the storages that are alive, and the most that they were."""

    def __init__(self, held):
        self.sizes = {}
        self.live = self.peak = 0
        for tensor in held:
            self.count(tensor)

    def count(self, tensor):
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self.sizes:
            return
        self.sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self.free, key)

    def free(self, key):
        self.live -= self.sizes.pop(key)

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in tree_iter(result):
            if isinstance(value, torch.Tensor):
                self.count(value)
        return result


def measure(shape, num_tokens, checkpointing, is_bf16, with_head):
    config = LlamaConfig(
        hidden_size=shape.hidden_size,
        intermediate_size=shape.intermediate_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_key_value_heads,
        head_dim=shape.head_dim,
        vocab_size=shape.vocab_size,
        tie_word_embeddings=shape.is_tied,
        attn_implementation="sdpa",
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config)
    assert abs(sum(p.numel() for p in model.parameters()) - shape.num_parameters) == 0
    model.train()
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, foreach=False, fused=True)
    ids = torch.randint(shape.vocab_size, (num_tokens // 256, 256))

    def optimizer_step():
        for _ in range(2):
            autocast = torch.autocast("cpu", torch.bfloat16) if is_bf16 else contextlib.nullcontext()
            with autocast:
                if with_head:
                    output = model(input_ids=ids, labels=ids, fused_lm_head=True)
                    ratio = torch.exp(output.log_probs - output.log_probs.detach())
                    loss = -(ratio * output.label_mask).sum() / output.label_mask.sum()
                else:
                    loss = model.model(input_ids=ids, use_cache=False).last_hidden_state.float().mean()
            loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    optimizer_step()
    moments = [t for state in optimizer.state.values() for t in state.values() if isinstance(t, torch.Tensor)]
    tracker = PeakMemory([*model.parameters(), *model.buffers(), *moments])
    with tracker:
        optimizer_step()
    return tracker.peak


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--tokens", type=int, nargs="+", default=[2048])
    parser.add_argument("--parts", nargs="+", default=["layers", "all"], choices=["layers", "all"])
    parser.add_argument("--sizes", nargs="+", default=list(SHAPES), choices=list(SHAPES))
    arguments = parser.parse_args()
    print(f"{'size':>5} {'tokens':>6} {'part':<6}  checkpointing  compute   measured   estimated  difference")
    for name, num_tokens in itertools.product(arguments.sizes, arguments.tokens):
        for part, (checkpointing, is_bf16) in itertools.product(arguments.parts, SETTINGS):
            with_head = part == "all"
            shape = SHAPES[name]
            measured = measure(shape, num_tokens, checkpointing, is_bf16, with_head)
            estimate = estimate_memory(
                shape,
                num_tokens=num_tokens,
                compute_bytes=2 if is_bf16 else 4,
                gradient_checkpointing=checkpointing,
                has_triton=False,
            )
            estimated = estimate.update - (0 if with_head else estimate.head)
            if not with_head and not shape.is_tied:  # the head is there and gets no gradient
                estimated -= 12 * shape.num_embedding
            print(
                f"{name:>5} {num_tokens:>6} {part:<6}  {checkpointing!s:<13}  "
                f"{'bf16' if is_bf16 else 'fp32':<7} {measured / MIB:8.1f} M  {estimated / MIB:8.1f} M  "
                f"{estimated / measured - 1:+9.1%}",
                flush=True,
            )


if __name__ == "__main__":
    main()
