"""A vLLM plugin: the CPU back end keeps weights as they are loaded, so that a trainer can load others into them.

It otherwise packs them for its kernels and drops the originals, and weight sync fails with `'Parameter' object has no
attribute 'weight_loader'`. On a GPU nothing is packed, and nothing of this is needed.
"""

import torch


def keep_weights(layer: torch.nn.Module, remove_weight: bool) -> None:
    """Stands in for vLLM's `dispatch_cpu_unquantized_gemm`."""
    layer.cpu_linear = torch.nn.functional.linear


def register() -> None:
    """What vLLM calls in each of its processes."""
    from vllm.model_executor.layers import linear, utils, vocab_parallel_embedding

    for module in (utils, linear, vocab_parallel_embedding):
        module.dispatch_cpu_unquantized_gemm = keep_weights
