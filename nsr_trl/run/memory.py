"""Memory that a run needs per GPU: the shape of a model and the settings go in, bytes by purpose come out.

N parameters, L layers, H hidden size, I intermediate size, V vocabulary, T tokens of a micro-batch, R processes.
Formulas, not a simulation: `benchmarks/memory.py` sets them beside measurements.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any


GIB = 2**30

HEAD_TOKENS, HEAD_VOCABULARY = 4096, 32768
"""Tile of logits that TRL's fused LM head holds at once, however small the vocabulary."""

HEAD_TEMPORARIES = 7
"""Further float32 tiles that it needs where there is no Triton."""

DEEPSPEED_BUCKET = 500_000_000
"""Elements of DeepSpeed's bucket for the gradients of a reduction."""

SHARDED = {
    # what is divided by the number of processes: weights, gradients, optimizer
    "none": (False, False, False),
    "ddp": (False, False, False),
    "zero1": (False, False, True),
    "zero2": (False, True, True),
    "zero3": (True, True, True),
    "fsdp": (True, True, True),
}


@dataclass(frozen=True)
class ModelShape:
    """
    The sizes of a Llama- or Qwen-like decoder.

    Attributes:
        num_layers (`int`), hidden_size (`int`), intermediate_size (`int`), vocab_size (`int`):
            L, H, I and V.
        num_heads (`int`), num_key_value_heads (`int`), head_dim (`int`):
            Of the attention.
        is_tied (`bool`):
            Whether the LM head is the embedding.
        context (`int`, *optional*):
            Tokens that it can attend to, where its config says.
    """

    num_layers: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int
    vocab_size: int
    is_tied: bool = False
    context: int | None = None

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "ModelShape":
        """
        Reads a model's `config.json`.

        Raises:
            ValueError: If it is no decoder of this family.
        """
        try:
            num_heads = config["num_attention_heads"]
            return cls(
                num_layers=config["num_hidden_layers"],
                hidden_size=config["hidden_size"],
                intermediate_size=config["intermediate_size"],
                num_heads=num_heads,
                num_key_value_heads=config.get("num_key_value_heads") or num_heads,
                head_dim=config.get("head_dim") or config["hidden_size"] // num_heads,
                vocab_size=config["vocab_size"],
                is_tied=bool(config.get("tie_word_embeddings", False)),
                context=config.get("max_position_embeddings"),
            )
        except KeyError as error:
            raise ValueError(
                f"The estimate knows Llama- and Qwen-like decoders; the model's config has no {error}. "
                "Go without the estimate."
            ) from error

    @property
    def num_embedding(self) -> int:
        """Parameters of the embedding, and so of the LM head."""
        return self.vocab_size * self.hidden_size

    @property
    def num_layer(self) -> int:
        """Parameters of one layer: attention, MLP and two norms (biases and norms of heads are left out)."""
        attention = self.hidden_size * self.head_dim * (2 * self.num_heads + 2 * self.num_key_value_heads)
        return attention + 3 * self.hidden_size * self.intermediate_size + 2 * self.hidden_size

    @property
    def num_parameters(self) -> int:
        """N."""
        head = 0 if self.is_tied else self.num_embedding
        return self.num_embedding + head + self.num_layers * self.num_layer + self.hidden_size

    def num_lora(self, rank: int) -> int:
        """Parameters of a LoRA adapter of this rank on every linear layer."""
        queries, keys = self.num_heads * self.head_dim, self.num_key_value_heads * self.head_dim
        sizes = 2 * (self.hidden_size + queries) + 2 * (self.hidden_size + keys)
        return rank * self.num_layers * (sizes + 3 * (self.hidden_size + self.intermediate_size))


KNOWN_SHAPES: dict[str, ModelShape] = {
    "Qwen/Qwen2.5-Math-7B": ModelShape(28, 3584, 18944, 28, 4, 128, 152064, context=4096),
    "Qwen/Qwen2.5-Math-1.5B": ModelShape(28, 1536, 8960, 12, 2, 128, 151936, is_tied=True, context=4096),
    "Qwen/Qwen3-4B": ModelShape(36, 2560, 9728, 32, 8, 128, 151936, is_tied=True, context=40960),
    "meta-llama/Llama-3.1-8B-Instruct": ModelShape(32, 4096, 14336, 32, 8, 128, 128256, context=131072),
}
"""Shapes of the recipes' models, for an estimate without a network."""


@dataclass(frozen=True)
class MemoryEstimate:
    """
    Bytes of one GPU by purpose.

    Attributes:
        weights (`float`), gradients (`float`), optimizer (`float`), reference (`float`):
            What stays for the whole run; `reference` is the frozen model of a KL term.
        buffers (`float`):
            Gathered parameters and communication.
        activations (`float`):
            Inputs of all layers and the working set of one (gradient checkpointing), or of all.
        head (`float`):
            Log-probabilities: tiles of logits and the gradient of the LM head.
        vllm (`float`):
            What colocated vLLM takes while it generates.
        vllm_sleeps (`bool`):
            Whether it gives that back during the update.
    """

    weights: float
    gradients: float
    optimizer: float
    reference: float
    buffers: float
    activations: float
    head: float
    vllm: float = 0.0
    vllm_sleeps: bool = False

    @property
    def states(self) -> float:
        """Bytes that stay allocated for the whole run."""
        return self.weights + self.gradients + self.optimizer + self.reference

    @property
    def update(self) -> float:
        """Peak of an update. The head's working set is gone when the layers' begins: the larger counts."""
        return self.states + self.buffers + self.activations + self.head + (0 if self.vllm_sleeps else self.vllm)

    @property
    def generation(self) -> float:
        """Peak of a generation: gradients are freed after each optimizer step."""
        return self.weights + self.optimizer + self.reference + self.vllm

    @property
    def peak(self) -> float:
        """The larger of the two."""
        return max(self.update, self.generation)

    def rows(self) -> list[tuple[str, float]]:
        """(Purpose, bytes) of what is not zero, the peaks last."""
        parts = [(f.name, getattr(self, f.name)) for f in fields(self) if f.name != "vllm_sleeps"]
        peaks = [("update", self.update), ("generation", self.generation)]
        return [*((name, size) for name, size in parts if size), *peaks]


def estimate_memory(
    shape: ModelShape,
    *,
    num_tokens: int,
    num_processes: int = 1,
    sharding: str = "none",
    weight_bytes: int = 4,
    compute_bytes: int = 2,
    lora_rank: int | None = None,
    gradient_checkpointing: bool = True,
    has_reference: bool = False,
    offload: bool = False,
    vllm_bytes: float = 0.0,
    vllm_sleeps: bool = False,
    has_triton: bool = True,
) -> MemoryEstimate:
    """
    Estimates what an update and a generation take of one GPU. AdamW; attention that holds no T x T matrix.

    Args:
        shape ([`ModelShape`]):
            Sizes of the model.
        num_tokens (`int`):
            T: tokens of a micro-batch on one GPU, padding included.
        num_processes (`int`, *optional*, defaults to `1`):
            R.
        sharding (`str`, *optional*, defaults to `"none"`):
            One of `SHARDED`.
        weight_bytes (`int`, *optional*, defaults to `4`):
            Bytes of a weight as it is loaded (`dtype`).
        compute_bytes (`int`, *optional*, defaults to `2`):
            Bytes of a number in matrix products: 2 with bf16.
        lora_rank (`int`, *optional*):
            Rank of an adapter; the whole model trains when not set.
        gradient_checkpointing (`bool`, *optional*, defaults to `True`):
            Whether only the inputs of layers are kept.
        has_reference (`bool`, *optional*, defaults to `False`):
            Whether a KL term needs a second, frozen model (none with an adapter).
        offload (`bool`, *optional*, defaults to `False`):
            Whether weights and optimizer live in main memory.
        vllm_bytes (`float`, *optional*, defaults to `0.0`):
            What colocated vLLM is given of this GPU.
        vllm_sleeps (`bool`, *optional*, defaults to `False`):
            Whether vLLM gives it back during the update.
        has_triton (`bool`, *optional*, defaults to `True`):
            Whether log-probabilities are computed by TRL's kernels; `False` on a CPU.

    Returns:
        [`MemoryEstimate`]

    Raises:
        ValueError: If `sharding` is unknown.
    """
    if sharding not in SHARDED:
        raise ValueError(f"`sharding` must be one of {', '.join(SHARDED)}; got {sharding!r}. Choose one of them.")
    splits = [num_processes if is_sharded else 1 for is_sharded in SHARDED[sharding]]
    is_deepspeed = sharding.startswith("zero")
    n, trained = shape.num_parameters, shape.num_parameters if lora_rank is None else shape.num_lora(lora_rank)
    if is_deepspeed and compute_bytes == 2:
        # weights in the compute type, a float32 copy of what trains beside AdamW's two moments
        weight_bytes = stream_bytes = gradient_bytes = 2
        optimizer_bytes = 12
    else:
        stream_bytes = 4 if lora_rank is None else weight_bytes  # the embedding's output under autocast
        gradient_bytes = 4
        optimizer_bytes = 8
    weights = weight_bytes * n / splits[0] + (4 * trained if lora_rank is not None else 0)
    gradients = gradient_bytes * trained / splits[1]
    optimizer = optimizer_bytes * trained / splits[2]
    if offload:
        weights = optimizer = 0.0

    buffers = 0.0
    if splits[0] > 1:  # two layers, gathered: the one that runs and the next; and the embedding
        buffers += compute_bytes * (2 * shape.num_layer + shape.num_embedding)
    elif weight_bytes > compute_bytes:  # autocast's copy of the weights
        buffers += compute_bytes * (n - (0 if shape.is_tied else shape.num_embedding))
    if is_deepspeed:
        buffers += gradient_bytes * min(DEEPSPEED_BUCKET, trained)
    elif sharding == "ddp":
        buffers += gradient_bytes * trained

    saved, gradient = (num_tokens * size for size in _layer_bytes_per_token(shape, stream_bytes, compute_bytes))
    inputs = num_tokens * stream_bytes * shape.hidden_size
    kept = shape.num_layers * (inputs if gradient_checkpointing else saved)
    layer = saved + gradient if gradient_checkpointing else gradient
    activations = kept + layer

    hidden = num_tokens * shape.hidden_size
    rows = min(num_tokens, HEAD_TOKENS)
    tiles = rows * HEAD_VOCABULARY * compute_bytes
    if not has_triton:
        tiles += HEAD_TEMPORARIES * 4 * rows * min(shape.vocab_size, HEAD_VOCABULARY)
    head_weight = 0 if lora_rank is not None else shape.num_embedding * (4 + (gradient_bytes if is_deepspeed else 0))
    head = float(hidden * (stream_bytes + 4) + tiles + head_weight)
    # the head's backward comes first: of its working set only what exceeds a layer's adds to the peak
    head = max(0.0, head - layer)

    return MemoryEstimate(
        weights=weights,
        gradients=gradients,
        optimizer=optimizer,
        reference=weight_bytes * n / splits[0] if has_reference and lora_rank is None else 0.0,
        buffers=buffers,
        activations=activations,
        head=head,
        vllm=vllm_bytes,
        vllm_sleeps=vllm_sleeps,
    )


def _layer_bytes_per_token(shape: ModelShape, stream_bytes: int, compute_bytes: int) -> tuple[int, int]:
    """(Saved for the backward pass, gradients during it) by one layer, per token."""
    h, queries, i = shape.hidden_size, shape.num_heads * shape.head_dim, shape.intermediate_size
    norms = 2 * (4 + compute_bytes) * h  # float32 inside, an input of the products outside
    attention = compute_bytes * 4 * queries  # queries, keys and values (expanded), output
    mlp = compute_bytes * 4 * i  # gate, its activation, up, their product
    return norms + attention + mlp + 2 * stream_bytes * h, compute_bytes * 2 * (queries + i)
