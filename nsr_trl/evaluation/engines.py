"""What a model is sampled with on this machine: the name of an engine and its options go in, a sampler comes out."""

import os
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from typing import TYPE_CHECKING, Any


if TYPE_CHECKING:
    from .samplers import Sampler


ENGINES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "transformers": ("samplers", "TransformersSampler.from_pretrained", ("batch_size", "dtype", "device")),
    "vllm": ("vllm_sampler", "VLLMSampler", ("tensor_parallel_size", "gpu_memory_utilization", "dtype")),
    "endpoint": ("endpoint_sampler", "EndpointSampler", ("base_url", "max_concurrency")),
}
"""Builders of samplers by name: module, callable, and their options besides model and sampling."""

PLACEMENT = ("num_gpus", "data_parallel_size", "worker_timeout")
"""Options of where to sample that no single sampler takes."""

VISIBLE = "CUDA_VISIBLE_DEVICES"


def choose_engine() -> str:
    """VLLM where it is installed and there is a CUDA device, transformers anywhere else."""
    import torch

    return "vllm" if find_spec("vllm") is not None and torch.cuda.is_available() else "transformers"


def build_sampler(engine: str, model: str, options: Mapping[str, Any]) -> "Sampler":
    """
    Builds a sampler in this process.

    Args:
        engine (`str`):
            One of [`ENGINES`].
        model (`str`):
            Id on the Hub, folder, or name on a server.
        options (`Mapping[str, Any]`):
            Its other arguments.
    """
    module, builder, _ = ENGINES[engine]
    return attrgetter(builder)(import_module(f".{module}", __package__))(model, **options)


def build_on_devices(
    engine: str,
    model: str,
    options: Mapping[str, Any],
    num_gpus: int | None = None,
    data_parallel_size: int | None = None,
    worker_timeout: float | None = None,
    in_this_process: bool = True,
) -> "Sampler":
    """
    Builds a sampler that uses all GPUs of this machine, with a copy of the model in a process of its own on each.

    Args:
        engine (`str`):
            As in [`build_sampler`], and so are `model` and `options`.
        model (`str`):
            Id on the Hub, folder, or name on a server.
        options (`Mapping[str, Any]`):
            The other arguments of each copy.
        num_gpus (`int`, *optional*):
            GPUs to use. Defaults to all that `CUDA_VISIBLE_DEVICES` leaves.
        data_parallel_size (`int`, *optional*):
            Copies of the model. Defaults to one per GPU or, with `tensor_parallel_size`, per so many of them.
        worker_timeout (`float`, *optional*):
            Seconds without a token after which a copy in a process of its own is killed. Defaults to an hour.
        in_this_process (`bool`, *optional*, defaults to `True`):
            Whether a single copy may be in this process, which keeps its memory until it ends.

    Raises:
        ValueError: If there are not so many GPUs.
    """
    environments = plan_workers(
        visible_gpus(),
        num_gpus,
        data_parallel_size,
        options.get("tensor_parallel_size") or 1,
        is_placed=options.get("device") is not None,
    )
    if engine == "endpoint" or (len(environments) == 1 and in_this_process):
        return build_sampler(engine, model, options)
    from .samplers import DEFAULT_BATCH_SIZE, load_tokenizer
    from .workers import TIMEOUT, BatchedWorkersSampler, WorkersSampler

    build = partial(build_sampler, engine, model, dict(options))
    arguments = build, environments, load_tokenizer(model), TIMEOUT if worker_timeout is None else worker_timeout
    if engine == "transformers":
        return BatchedWorkersSampler(*arguments, batch_size=options.get("batch_size") or DEFAULT_BATCH_SIZE)
    return WorkersSampler(*arguments)


def visible_gpus() -> list[str]:
    """The GPUs of this machine, as `CUDA_VISIBLE_DEVICES` names them: numbers, or what it is set to."""
    import torch

    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get(VISIBLE, "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def plan_workers(
    gpus: list[str], num_gpus: int | None, data_parallel_size: int | None, num_per_copy: int, is_placed: bool = False
) -> list[dict[str, str]]:
    """
    Says which GPUs each copy of the model gets, as the environment of its process.

    Args:
        gpus (`list[str]`):
            The GPUs there are.
        num_gpus (`int`, *optional*):
            How many of them to use; all by default.
        data_parallel_size (`int`, *optional*):
            Copies; as many as fit by default, and one without a GPU.
        num_per_copy (`int`):
            GPUs of each copy.
        is_placed (`bool`, *optional*, defaults to `False`):
            Whether the copies have been told their device already: then each sees all of them.

    Returns:
        `list[dict[str, str]]`: one environment per copy, at least one

    Raises:
        ValueError: If there are not so many.

    Example:
    ```python
    >>> plan_workers(["0", "1", "2", "3"], None, None, num_per_copy=2)
    [{'CUDA_VISIBLE_DEVICES': '0,1'}, {'CUDA_VISIBLE_DEVICES': '2,3'}]
    ```
    """
    if num_gpus is not None and num_gpus > len(gpus):
        raise ValueError(
            f"`num_gpus` must be at most the GPUs that can be seen here; got {num_gpus}, and there are {len(gpus)}. "
            f"Leave it out to take all, or correct {VISIBLE}."
        )
    if is_placed or not gpus:
        return [{} for _ in range(data_parallel_size or 1)]
    gpus = gpus[:num_gpus]
    copies = data_parallel_size or max(1, len(gpus) // num_per_copy)
    if copies * num_per_copy > len(gpus):
        raise ValueError(
            f"Every copy of the model needs {num_per_copy} GPU{'s' * (num_per_copy > 1)} of its own; got {copies} "
            f"copies for {len(gpus)} GPUs. Ask for fewer copies with --data-parallel-size, or for smaller ones with "
            "--tensor-parallel-size."
        )
    return [{VISIBLE: ",".join(gpus[i * num_per_copy : (i + 1) * num_per_copy])} for i in range(copies)]
