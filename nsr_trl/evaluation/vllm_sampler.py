"""Sampling with vLLM in this process: requests go in, completions come out as they are finished."""

import hashlib
import importlib.util
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from transformers import AutoConfig, GenerationConfig

from .samplers import (
    Completion,
    Request,
    check_placement,
    check_sampling,
    load_tokenizer,
    paced,
    request_seed,
    tokenize_all,
)


if TYPE_CHECKING:
    from vllm import LLM, SamplingParams


MAX_WAITING = 2048
"""Requests inside the engine at a time: more than it runs at once on any GPU, so that it never waits for the next."""


class VLLMSampler:
    """
    Samples with vLLM on the GPUs of this machine (or with its CPU build).

    Every sample is a request of its own with a seed of its own, and the samples of a problem share the computation of
    its prompt (prefix caching). The engine is always given more requests than it can run, and finished ones are handed
    on at once, so that verification overlaps generation and memory does not grow with the number of requests. It is
    started by the first request: an evaluation that finds nothing left to sample does not load the model.

    For more GPUs than one engine uses see [`~evaluation.engines.build_on_devices`].

    Args:
        model (`str`):
            Id on the Hub, or a folder.
        max_new_tokens (`int`):
            Length limit of a completion.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature; 0 is greedy.
        top_p (`float`, *optional*, defaults to `1.0`):
            Probability mass of the tokens to draw from.
        top_k (`int`, *optional*, defaults to `0`):
            Number of tokens to draw from; 0 is all.
        tensor_parallel_size (`int`, *optional*, defaults to `1`):
            GPUs that share one copy of the model.
        gpu_memory_utilization (`float`, *optional*, defaults to `0.9`):
            Share of the GPU's memory to use.
        dtype (`str`, *optional*, defaults to `"auto"`):
            Data type of the weights; `"auto"` is the model's own.
        max_model_len (`int`, *optional*):
            Tokens of prompt and completion together. Defaults to what the model's config says.

    Raises:
        ImportError: If vLLM is not installed.
        ValueError: If a parameter is out of range, there is no such model or, before anything is sampled, a prompt
            leaves no room for a completion.
    """

    def __init__(
        self,
        model: str,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        tensor_parallel_size: int = 1,
        gpu_memory_utilization: float = 0.9,
        dtype: str = "auto",
        max_model_len: int | None = None,
    ) -> None:
        check_sampling(temperature, top_p, top_k, max_new_tokens)
        check_placement(None, dtype)
        if not 0 < gpu_memory_utilization <= 1:
            raise ValueError(
                f"`gpu_memory_utilization` must be above 0 and at most 1; got {gpu_memory_utilization}. "
                "It is the share of the GPU's memory to take."
            )
        if importlib.util.find_spec("vllm") is None:
            raise ImportError(
                "VLLMSampler needs vLLM, which is not installed. Install it with `pip install nsr-trl[vllm]`, or "
                "sample with transformers or from an endpoint."
            )
        self.model = str(model)
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.top_k = top_k
        self.tensor_parallel_size = tensor_parallel_size
        self.gpu_memory_utilization = gpu_memory_utilization
        self.dtype = dtype
        self.max_model_len = max_model_len
        self.on_step: Callable[[], None] | None = None
        self.tokenizer = load_tokenizer(self.model)
        self.revision: str | None = AutoConfig.from_pretrained(self.model)._commit_hash

    @property
    def settings(self) -> dict[str, Any]:
        """The model and the sampling parameters; not how many GPUs and how much memory serve it."""
        return {
            "engine": "vllm",
            "model": self.model,
            "weights": self.revision or fingerprint(Path(self.model)),
            "stop_token_ids": self.stop_token_ids,
            "dtype": self.dtype,
            "max_model_len": self.max_model_len,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
        }

    @property
    def stop_token_ids(self) -> list[int]:
        """Where vLLM ends a completion: the tokenizer's end-of-sequence token and those of the generation config."""
        try:
            of_config = GenerationConfig.from_pretrained(self.model).eos_token_id
        except OSError:  # a model without one
            of_config = None
        ids = {self.tokenizer.eos_token_id, *(of_config if isinstance(of_config, list) else [of_config])}
        return sorted(id for id in ids if id is not None)

    @cached_property
    def llm(self) -> "LLM":
        """The engine, started when first asked for."""
        from vllm import LLM
        from vllm.platforms import current_platform

        return LLM(
            self.model,
            revision=self.revision,
            tensor_parallel_size=self.tensor_parallel_size,
            gpu_memory_utilization=self.gpu_memory_utilization,
            dtype=cast(Any, self.dtype),
            max_model_len=self.max_model_len,
            enable_prefix_caching=True,
            # on a CPU vLLM 0.31 cannot take back the draw of a seeded request whose prompt it has read in part
            # ("CPU Generator does not use offset")
            **({"enable_chunked_prefill": False} if current_platform.is_cpu() else {}),
        )

    def sample(self, requests: Sequence[Request], seed: int) -> Iterator[list[Completion]]:
        """
        Answers the requests in the order in which they are finished.

        Args:
            requests (`Sequence[Request]`):
                The requests, those of a problem best in a row. None at all start the engine.
            seed (`int`):
                Seed; each request draws from a generator seeded by it, its problem and its sample index.

        Yields:
            `list[Completion]`: what was finished since the last list.

        Raises:
            ValueError: If a prompt leaves no room for a completion.
        """
        yield from paced(self._generate(requests, seed))

    def _generate(self, requests: Sequence[Request], seed: int) -> Iterator[list[Completion]]:
        """The completions that each step of the engine finishes."""
        prompt_ids = self._tokenize(requests)
        # `LLM.generate` answers when all is done, and in waves it would idle at the end of each; `add_request` and
        # `step` are what it consists of
        engine = self.llm.llm_engine
        waiting = iter(enumerate(requests))
        under_way: dict[str, Request] = {}
        try:
            while True:
                for number, request in islice(waiting, MAX_WAITING - len(under_way)):
                    under_way[str(number)] = request
                    # the form into which vLLM's renderer brings a prompt of token ids
                    prompt: Any = {"type": "token", "prompt_token_ids": prompt_ids[request.problem_id]}
                    engine.add_request(str(number), prompt, self.sampling_params(request, seed))
                if not under_way:
                    break
                yield [self._read(under_way.pop(o.request_id), cast(Any, o).outputs[0]) for o in engine.step()]
                if self.on_step is not None:
                    self.on_step()
        finally:  # stopped early: the engine is left empty for the next call
            engine.abort_request(list(under_way))

    def _tokenize(self, requests: Sequence[Request]) -> dict[str, list[int]]:
        """Token ids of each problem's prompt."""
        prompt_ids = tokenize_all(self.tokenizer, requests)
        limit = self.llm.llm_engine.model_config.max_model_len
        for problem_id, ids in prompt_ids.items():
            if len(ids) >= limit:
                raise ValueError(
                    f"A prompt must be shorter than the {limit} tokens of the model's context; that of problem "
                    f"{problem_id!r} has {len(ids)}. Leave the problem out, or raise `max_model_len` if the model "
                    "allows it."
                )
        return prompt_ids

    def sampling_params(self, request: Request, seed: int) -> "SamplingParams":
        """A request in vLLM's terms."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        return SamplingParams(
            max_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            seed=request_seed(request, seed),
            detokenize=False,  # once, at the end, rather than token by token
            output_kind=RequestOutputKind.FINAL_ONLY,
        )

    def _read(self, request: Request, output: Any) -> Completion:
        text = cast(str, self.tokenizer.decode(output.token_ids, skip_special_tokens=True))
        return Completion(request, text, len(output.token_ids), truncated=output.finish_reason == "length")


def fingerprint(folder: Path) -> str:
    """Tells the weights in a folder from any others: a hash of the bytes of its files, which are read side by side."""

    def digest(path: Path) -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    paths = sorted(path for path in folder.iterdir() if path.suffix in {".safetensors", ".bin", ".gguf"})
    with ThreadPoolExecutor() as pool:
        lines = [f"{path.name} {each}" for path, each in zip(paths, pool.map(digest, paths), strict=True)]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]
