"""Samplers: prompts go in, completions come out, batch by batch. No verifying, no writing.

B requests per batch, T prompt tokens, N new tokens, V tokens in the vocabulary.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BatchEncoding,
    GenerationConfig,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from ..prompts import context_of


Prompt = str | list[dict[str, str]]
"""A plain text or a conversation."""

DEFAULT_BATCH_SIZE = 256

WAVE = 64
"""Samples that each problem gets before any problem gets more."""


@dataclass(frozen=True, slots=True)
class Request:
    """
    One sample to draw.

    Attributes:
        problem_id (`str`):
            Id of the problem; requests of one problem share its prompt.
        sample_index (`int`):
            Number of the sample within the problem.
        prompt (`str` or `list[dict[str, str]]`):
            The prompt.
    """

    problem_id: str
    sample_index: int
    prompt: Prompt


@dataclass(frozen=True, slots=True)
class Completion:
    """
    What a request brought.

    Attributes:
        request ([`Request`]):
            The request.
        text (`str`):
            The completion without special tokens.
        num_tokens (`int`):
            Its length in tokens, the end-of-sequence token included.
        truncated (`bool`):
            Whether it ended at the length limit rather than with an end-of-sequence token.
    """

    request: Request
    text: str
    num_tokens: int
    truncated: bool


class Sampler(Protocol):
    """A source of completions for an evaluation."""

    @property
    def tokenizer(self) -> PreTrainedTokenizerBase | None:
        """Tells whether the model has a chat template and adds a BOS token itself; `None` where a server knows."""

    @property
    def settings(self) -> dict[str, Any]:
        """Settings that completions depend on, as JSON values: recorded, and compared on resume."""

    def sample(self, requests: Sequence[Request], seed: int) -> Iterator[list[Completion]]:
        """Answers every request, in any order, yielding completions as they are finished."""


@runtime_checkable
class Batched(Protocol):
    """Implemented by samplers whose samples depend on their batch-mates, even if only by rounding."""

    def batches(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """Cuts requests into batches. If one of a batch is asked for, so are the others, recorded or not."""


@runtime_checkable
class Stepwise(Protocol):
    """Implemented by samplers that can show that they are at work long before a completion is finished."""

    on_step: Callable[[], None] | None
    """Called at every token."""


def request_key(request: Request, seed: int) -> str:
    """Seed of one request, as text: from the request alone, so its completion does not depend on other requests."""
    return f"{seed}/{request.problem_id}/{request.sample_index}"


def request_seed(request: Request, seed: int) -> int:
    """A 31-bit seed of one request."""
    return int.from_bytes(hashlib.sha256(request_key(request, seed).encode()).digest()[:4]) >> 1


def tokenize(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """Token ids of a prompt: a conversation through the chat template, a plain text with special tokens."""
    if isinstance(prompt, str):
        return tokenizer(prompt).input_ids
    encoding = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)
    return cast(BatchEncoding, encoding).input_ids


def tokenize_all(tokenizer: PreTrainedTokenizerBase, requests: Iterable[Request]) -> dict[str, list[int]]:
    """Token ids of each problem's prompt."""
    prompts = {request.problem_id: request.prompt for request in requests}
    return {problem_id: tokenize(tokenizer, prompt) for problem_id, prompt in prompts.items()}


def in_batches(
    tokenizer: PreTrainedTokenizerBase, requests: Sequence[Request], batch_size: int
) -> Iterator[list[Request]]:
    """Cuts requests as [`TransformersSampler.batches`] says."""
    lengths = {id: len(ids) for id, ids in tokenize_all(tokenizer, requests).items()}

    def place(request: Request) -> tuple[int, int, str, int]:
        # longest first: little padding, and memory runs out in the first batch or never
        id = request.problem_id
        return request.sample_index // WAVE, -lengths[id], id, request.sample_index

    for _, group in groupby(sorted(requests, key=place), key=lambda request: request.sample_index // WAVE):
        wave = list(group)
        for start in range(0, len(wave), batch_size):
            yield wave[start : start + batch_size]


def check_sampling(temperature: float, top_p: float, top_k: int, max_new_tokens: int) -> None:
    """Raises a ValueError that names the first sampling parameter outside its range."""
    for name, value, holds, expected in (
        ("temperature", temperature, 0 <= temperature < math.inf, "0 (greedy) or more"),
        ("top_p", top_p, 0 < top_p <= 1, "above 0 and at most 1"),
        ("top_k", top_k, top_k >= 0, "0 (all tokens) or more"),
        ("max_new_tokens", max_new_tokens, max_new_tokens >= 1, "at least 1"),
    ):
        if not holds:
            raise ValueError(f"`{name}` must be {expected}; got {value}. Correct it, or leave it out.")


def check_placement(device: str | None, dtype: str) -> None:
    """Raises a ValueError if there is no such device here, or no such precision."""
    if dtype not in ("auto", "float32", "float16", "bfloat16"):
        raise ValueError(
            f"`dtype` must be auto, float32, float16 or bfloat16; got {dtype!r}. "
            "Leave it out to take that of the weights."
        )
    if device is None:
        return
    accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    count = torch.accelerator.device_count() if accelerator else 0
    try:
        asked = torch.device(device)
        is_here = asked.type == "cpu" or (
            accelerator is not None and asked.type == accelerator.type and (asked.index or 0) < count
        )
    except RuntimeError:  # not the name of a device
        is_here = False
    if not is_here:
        here = ["cpu", *(f"{accelerator.type}:{i}" for i in range(count) if accelerator)]
        raise ValueError(
            f"`device` must be one of this machine's, {', '.join(here)}; got {device!r}. "
            "Leave it out to take the accelerator, or the CPU."
        )


def load_tokenizer(model: str, revision: str | None = None) -> PreTrainedTokenizerBase:
    """The tokenizer of a model; a ValueError tells that there is no such model."""
    try:
        return cast(PreTrainedTokenizerBase, AutoTokenizer.from_pretrained(model, revision=revision))
    except (OSError, ValueError) as error:
        raise _no_model(model, error) from error


def find_context(model: str, revision: str | None = None) -> int | None:
    """Tokens that a model can attend to, as its config says; `None` where that cannot be known."""
    try:
        return context_of(AutoConfig.from_pretrained(model, revision=revision))
    except (OSError, ValueError):  # an adapter's folder has none
        return None


def _no_model(model: str, error: Exception) -> ValueError:
    return ValueError(
        "A model must be the id of one on the Hub, or a folder that `save_pretrained` wrote; "
        f"{model!r} cannot be loaded ({(str(error).splitlines() or [type(error).__name__])[0]}). Correct the name, or "
        "connect to the Hub."
    )


def paced(batches: Iterable[list[Completion]], seconds: float = 0.5) -> Iterator[list[Completion]]:
    """
    Joins lists that come in quick succession: soon enough to be verified meanwhile, long enough to be written.

    Empty lists are waited through, not handed on: a source that sends them while nothing comes has what came before
    handed on in time. What came before an error is handed on before the error.
    """
    gathered: list[Completion] = []
    handed_on = time.monotonic()
    try:
        for batch in batches:
            gathered += batch
            if gathered and time.monotonic() - handed_on >= seconds:
                ready, gathered = gathered, []
                yield ready
                handed_on = time.monotonic()
    except GeneratorExit:
        raise
    except BaseException:
        if gathered:
            yield gathered
        raise
    if gathered:
        yield gathered


class TransformersSampler:
    """
    Samples with `model.generate`, wherever the model is.

    Each sample has random numbers of its own, from the seed, its problem and its index: it does not matter what else
    is sampled, nor in what order. A model that is being trained can be sampled from: it is put into evaluation mode
    for each batch only, and the global random state is left alone.

    Args:
        model (`PreTrainedModel`):
            The model.
        tokenizer (`PreTrainedTokenizerBase`):
            Its tokenizer. Plain prompts are tokenized with special tokens, as TRL does.
        max_new_tokens (`int`):
            Length limit of a completion.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature; 0 is greedy.
        top_p (`float`, *optional*, defaults to `1.0`):
            Probability mass of the tokens to draw from.
        top_k (`int`, *optional*, defaults to `0`):
            Number of tokens to draw from; 0 is all.
        batch_size (`int`, *optional*, defaults to `256`):
            Completions generated at once. Halve it if memory runs out.
    """

    def __init__(
        self,
        model: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        check_sampling(temperature, top_p, top_k, max_new_tokens)
        self.model = model
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.top_k = top_k
        self.batch_size = batch_size
        self.on_step: Callable[[], None] | None = None

    @classmethod
    def from_pretrained(
        cls,
        model: str,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | None = None,
        **sampling: Any,
    ) -> "TransformersSampler":
        """
        Loads a model and its tokenizer.

        Args:
            model (`str`):
                Id on the Hub, or folder.
            revision (`str`, *optional*):
                Revision on the Hub.
            dtype (`str`, *optional*, defaults to `"auto"`):
                Precision, such as `"bfloat16"`. By default that of the weights.
            device (`str`, *optional*):
                Where to put it. Defaults to the accelerator if there is one, else the CPU.
            sampling (`Any`):
                The other arguments of the class.

        Raises:
            ValueError: If there is no such model, device or precision.
        """
        check_placement(device, dtype)
        tokenizer = load_tokenizer(model, revision)
        try:
            loaded = AutoModelForCausalLM.from_pretrained(model, revision=revision, dtype=dtype)
        except (OSError, ValueError, SafetensorError) as error:  # the last: of a file that is cut
            raise _no_model(model, error) from error
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu"
        return cls(loaded.to(device or accelerator), tokenizer, **sampling)

    @property
    def settings(self) -> dict[str, Any]:
        """The model and the sampling parameters; not the batch size, which changes the last bits at most."""
        return {
            "model": self.model.config.name_or_path,
            "weights": weights_digest(self.model),
            "stop_token_ids": self._stop_token_ids(),
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
        }

    def batches(self, requests: Sequence[Request]) -> Iterator[list[Request]]:
        """
        Cuts requests into batches, those with the longest prompts first.

        The first `WAVE` samples of every problem come before the others, so that a greater number of samples leaves
        the batches of complete waves as they are. The order of the requests does not matter.
        """
        return in_batches(self.tokenizer, requests, self.batch_size)

    def sample(self, requests: Sequence[Request], seed: int) -> Iterator[list[Completion]]:
        """
        Answers the requests, batch by batch.

        Args:
            requests (`Sequence[Request]`):
                The requests.
            seed (`int`):
                Seed; equal batches and seeds give equal completions.

        Yields:
            `list[Completion]`: the completions of a batch.
        """
        prompt_ids = tokenize_all(self.tokenizer, requests)
        for batch in self.batches(requests):
            yield self._sample_batch(batch, [prompt_ids[request.problem_id] for request in batch], seed)

    def _sample_batch(self, batch: list[Request], prompt_ids: list[list[int]], seed: int) -> list[Completion]:
        config = self._generation_config()
        width = max(map(len, prompt_ids))
        rows = [[config.pad_token_id] * (width - len(ids)) + ids for ids in prompt_ids]
        masks = [[0] * (width - len(ids)) + [1] * len(ids) for ids in prompt_ids]
        device = self.model.device
        was_training = self.model.training
        self.model.eval()
        try:
            generate: Callable[..., torch.Tensor] = self.model.generate
            sequences = generate(
                input_ids=torch.tensor(rows, device=device),  # (B, T)
                attention_mask=torch.tensor(masks, device=device),  # (B, T)
                generation_config=config,
                logits_processor=self._logits_processors(batch, seed, width),
            )  # (B, T + N)
        except torch.OutOfMemoryError as error:
            raise MemoryError(
                f"A batch must fit in the memory of the device; {len(batch)} completions did not. "
                "Halve the batch size: what is recorded is kept."
            ) from error
        finally:
            self.model.train(was_training)
        return [
            self._read(request, ids, config.eos_token_id)
            for request, ids in zip(batch, sequences[:, width:].tolist(), strict=True)
        ]

    def _logits_processors(self, batch: list[Request], seed: int, width: int) -> LogitsProcessorList:
        """Logits processors that draw a token and mask all others; `generate`, being greedy, takes it."""
        processors = LogitsProcessorList()
        if self.on_step is not None:
            processors.append(Announced(self.on_step))
        if self.temperature > 0:
            if self.temperature != 1:
                processors.append(TemperatureLogitsWarper(self.temperature))
            if self.top_k > 0:
                processors.append(TopKLogitsWarper(self.top_k))
            if self.top_p < 1:
                processors.append(TopPLogitsWarper(self.top_p))
            keys = [request_key(request, seed) for request in batch]
            processors.append(OwnDraws(keys, self.max_new_tokens, width, self.model.device))
        return processors

    def _stop_token_ids(self) -> list[int]:
        generation_config = self.model.generation_config
        eos_token_id = None if generation_config is None else generation_config.eos_token_id
        if eos_token_id is None:
            eos_token_id = self.tokenizer.eos_token_id
        return eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]

    def _generation_config(self) -> GenerationConfig:
        eos_token_ids = self._stop_token_ids()
        pad_token_id = self.tokenizer.pad_token_id
        return GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=False,  # the sampling is in the logits processors
            repetition_penalty=1.0,  # what is left unset, the model's own defaults fill in
            temperature=1.0,
            top_p=1.0,
            top_k=50,
            eos_token_id=eos_token_ids,
            pad_token_id=eos_token_ids[0] if pad_token_id is None else pad_token_id,
            use_cache=True,  # a trainer with gradient checkpointing has turned it off in the model's config
        )

    def _read(self, request: Request, ids: list[int], eos_token_ids: list[int]) -> Completion:
        ends = [position for position, token in enumerate(ids) if token in eos_token_ids]
        if ends:
            ids = ids[: ends[0] + 1]
        text = cast(str, self.tokenizer.decode(ids, skip_special_tokens=True))
        return Completion(request, text, num_tokens=len(ids), truncated=not ends)


class Announced(LogitsProcessor):
    """Leaves the scores as they are, and tells that they have come."""

    def __init__(self, on_step: Callable[[], None]) -> None:
        self.on_step = on_step

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Takes scores of shape (B, V) and returns them."""
        self.on_step()
        return scores


class OwnDraws(LogitsProcessor):
    """
    Leaves one token per row, drawn from the row's distribution with the row's own random numbers.

    The number of a row at a position is the position's in a counter-based stream keyed by the row, and the token is
    where the cumulative distribution passes it.

    Args:
        keys (`Sequence[str]`):
            One per row; equal keys draw alike.
        max_new_tokens (`int`):
            N.
        width (`int`):
            T, the tokens of the padded prompts.
        device (`torch.device`):
            Where the logits are.
    """

    def __init__(self, keys: Sequence[str], max_new_tokens: int, width: int, device: torch.device) -> None:
        hashes = [int.from_bytes(hashlib.sha256(key.encode()).digest()[:16]) for key in keys]
        uniform = [np.random.Generator(np.random.Philox(key=h)).random(max_new_tokens, np.float32) for h in hashes]
        self.uniform = torch.from_numpy(np.stack(uniform, axis=1)).to(device)  # (N, B)
        self.width = width

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Takes scores of shape (B, V) and returns them with all but the drawn token at minus infinity."""
        uniform = self.uniform[input_ids.shape[1] - self.width].unsqueeze(1)  # (B, 1), in [0, 1)
        cumulative = scores.float().softmax(dim=-1).cumsum(dim=-1)  # (B, V)
        total = cumulative[:, -1:]
        # below the total, which the product may round to: the token found then has a probability
        threshold = torch.minimum(uniform * total, torch.nextafter(total, torch.zeros_like(total)))
        token = torch.searchsorted(cumulative, threshold, right=True)  # (B, 1)
        return cast(torch.FloatTensor, torch.full_like(scores, -torch.inf).scatter_(1, token, 0.0))


def weights_digest(model: PreTrainedModel) -> str:
    """Tells a model from any other, itself after training included: a hash of every bit of its parameters."""
    digest = hashlib.sha256()
    for name, parameter in model.named_parameters():
        digest.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}".encode())
        digest.update(parameter.detach().contiguous().flatten().view(torch.uint8).cpu().numpy())
    return digest.hexdigest()[:16]
