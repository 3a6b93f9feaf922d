"""Samplers: prompts go in, completions come out, batch by batch. No verifying, no writing.

B requests per batch, T prompt tokens, N new tokens.
"""

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, cast

import torch
from transformers import BatchEncoding, GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase


Prompt = str | list[dict[str, str]]
"""A plain text or a conversation."""


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
    """What an evaluation asks of a source of completions."""

    tokenizer: PreTrainedTokenizerBase

    @property
    def settings(self) -> dict[str, Any]:
        """What the distribution of completions depends on, as JSON values: recorded, and compared on resume."""

    def sample(self, requests: Sequence[Request], seed: int) -> Iterator[list[Completion]]:
        """Answers every request, in any order, yielding completions as they are finished."""


def request_seed(request: Request, seed: int) -> int:
    """A seed of 31 bits for one request alone, so that it is answered alike in whatever company it is sampled."""
    key = f"{seed}/{request.problem_id}/{request.sample_index}"
    return int.from_bytes(hashlib.sha256(key.encode()).digest()[:4]) >> 1


def tokenize(tokenizer: PreTrainedTokenizerBase, prompt: Prompt) -> list[int]:
    """Token ids of a prompt: a conversation through the chat template, a plain text with special tokens."""
    if isinstance(prompt, str):
        return tokenizer(prompt).input_ids
    encoding = tokenizer.apply_chat_template(prompt, add_generation_prompt=True, tokenize=True, return_dict=True)
    return cast(BatchEncoding, encoding).input_ids


def paced(batches: Iterable[list[Completion]], seconds: float = 0.5) -> Iterator[list[Completion]]:
    """Joins lists that come in quick succession: soon enough to be verified meanwhile, long enough to be written."""
    gathered: list[Completion] = []
    handed_on = time.monotonic()
    for batch in batches:
        gathered += batch
        if gathered and time.monotonic() - handed_on >= seconds:
            yield gathered
            gathered, handed_on = [], time.monotonic()
    if gathered:
        yield gathered


class TransformersSampler:
    """
    Samples with `model.generate`, wherever the model is.

    A model that is being trained can be sampled from: it is put into evaluation mode for each batch only, and the
    global random state is left as it was.

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
        batch_size: int = 256,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.top_k = top_k
        self.batch_size = batch_size

    @property
    def settings(self) -> dict[str, Any]:
        """The model and the sampling parameters; not the batch size, which only changes the speed."""
        return {
            "model": self.model.config.name_or_path,
            "weights": _fingerprint(self.model),
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
        }

    def sample(self, requests: Sequence[Request], seed: int) -> Iterator[list[Completion]]:
        """
        Answers the requests in batches, those with the longest prompts first.

        Args:
            requests (`Sequence[Request]`):
                The requests.
            seed (`int`):
                Seed; equal requests with equal batch size and seed give equal completions.

        Yields:
            `list[Completion]`: the completions of a batch.
        """
        prompts = {request.problem_id: request.prompt for request in requests}
        prompt_ids = {problem_id: tokenize(self.tokenizer, prompt) for problem_id, prompt in prompts.items()}
        # longest first: little padding, and memory runs out in the first batch or never
        ordered = sorted(requests, key=lambda request: len(prompt_ids[request.problem_id]), reverse=True)
        for start in range(0, len(ordered), self.batch_size):
            batch = ordered[start : start + self.batch_size]
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
            # the seed is the first request's own, so that a resumed evaluation does not repeat a batch's randomness
            with _seeded(f"{seed}/{batch[0].problem_id}/{batch[0].sample_index}", device):
                generate: Callable[..., torch.Tensor] = self.model.generate
                sequences = generate(
                    input_ids=torch.tensor(rows, device=device),  # (B, T)
                    attention_mask=torch.tensor(masks, device=device),  # (B, T)
                    generation_config=config,
                )  # (B, T + N)
        finally:
            self.model.train(was_training)
        return [
            self._read(request, ids, config.eos_token_id)
            for request, ids in zip(batch, sequences[:, width:].tolist(), strict=True)
        ]

    def _generation_config(self) -> GenerationConfig:
        eos_token_id = self.model.generation_config.eos_token_id
        if eos_token_id is None:
            eos_token_id = self.tokenizer.eos_token_id
        eos_token_ids = eos_token_id if isinstance(eos_token_id, list) else [eos_token_id]
        pad_token_id = self.tokenizer.pad_token_id
        sampling = {"temperature": self.temperature, "top_p": self.top_p, "top_k": self.top_k}
        return GenerationConfig(
            max_new_tokens=self.max_new_tokens,
            do_sample=self.temperature > 0,
            **(sampling if self.temperature > 0 else {}),
            repetition_penalty=1.0,  # what is left unset, the model's own defaults fill in
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


def _fingerprint(model: PreTrainedModel) -> str:
    """Tells a model from itself after training, at little cost: a hash of the first values of every parameter."""
    digest = hashlib.sha256()
    for parameter in model.parameters():
        digest.update(parameter.detach().flatten()[:64].float().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]


@contextmanager
def _seeded(key: str, device: torch.device) -> Iterator[None]:
    """Seeds the random generators that sampling on `device` draws from, and restores them afterwards."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:7])
    is_cuda = device.type == "cuda"
    with torch.random.fork_rng(devices=[device] if is_cuda else []):
        torch.default_generator.manual_seed(seed)
        if is_cuda:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
