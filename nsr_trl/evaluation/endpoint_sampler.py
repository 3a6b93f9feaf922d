"""Sampling from an OpenAI-compatible endpoint: requests go in, completions come out as they arrive."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

import requests as http
from requests.adapters import HTTPAdapter
from transformers import PreTrainedTokenizerBase
from urllib3.util.retry import Retry

from .samplers import Completion, Request, paced, request_seed


RETRIES = Retry(
    total=8,  # about three minutes in all
    backoff_factor=1,
    backoff_max=60,
    backoff_jitter=1,
    status_forcelist=(408, 429, 500, 502, 503, 504),
    allowed_methods=None,  # all: a request with a seed may be sent twice
    raise_on_status=False,
)
CONNECT_SECONDS, READ_SECONDS = 10, 3600


class EndpointError(ValueError):
    """An endpoint that cannot be sampled from, with what to do about it."""


class EndpointSampler:
    """
    Samples from any server that speaks OpenAI's protocol, such as `vllm serve` on another machine.

    Every sample is a request of its own with a seed of its own. Conversations go to `/chat/completions`, where the
    server applies the model's chat template, plain prompts to `/completions`. Requests that meet an overloaded or
    restarting server are sent again for about three minutes.

    A vLLM server would fill in what a request leaves open from the model's `generation_config.json`; it is told all
    that changes the distribution. Other servers are told temperature and top-p, and top-k where it is not 0.

    Args:
        model (`str`):
            Name under which the model is served.
        base_url (`str`):
            Address of the server, with the path of its API if that is not `/v1`.
        max_new_tokens (`int`):
            Length limit of a completion.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature; 0 is greedy.
        top_p (`float`, *optional*, defaults to `1.0`):
            Probability mass of the tokens to draw from.
        top_k (`int`, *optional*, defaults to `0`):
            Number of tokens to draw from; 0 is all.
        api_key (`str`, *optional*):
            Key; the environment's `OPENAI_API_KEY` when not given. It is sent to the server and recorded nowhere.
        max_concurrency (`int`, *optional*, defaults to `64`):
            Requests under way at a time.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Tokenizer of the model. With plain-text prompts it tells whether the server adds a BOS token that the
            template begins with as well.

    Raises:
        EndpointError: While sampling, if the server cannot be reached, refuses the key or a request, or does not serve
            the model.
    """

    def __init__(
        self,
        model: str,
        base_url: str,
        *,
        max_new_tokens: int,
        temperature: float = 1.0,
        top_p: float = 1.0,
        top_k: int = 0,
        api_key: str | None = None,
        max_concurrency: int = 64,
        tokenizer: PreTrainedTokenizerBase | None = None,
    ) -> None:
        url = urlsplit(base_url)
        if url.scheme not in ("http", "https") or not url.netloc:
            raise EndpointError(
                f"The address of an endpoint must begin with http:// or https://; got {base_url!r}. "
                "Write it as in http://localhost:8000/v1."
            )
        self.base_url = base_url.rstrip("/") + ("" if url.path.strip("/") else "/v1")
        self.model = model
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.top_k = top_k
        self.max_concurrency = max_concurrency
        self.tokenizer = tokenizer
        self._session = http.Session()
        self._session.mount(self.base_url, HTTPAdapter(max_retries=RETRIES, pool_maxsize=max_concurrency))
        # asked first: a wrong address is told at once
        self._session.mount(self.base_url + "/models", HTTPAdapter(max_retries=RETRIES.new(total=2)))
        if api_key := api_key or os.environ.get("OPENAI_API_KEY"):
            self._session.headers["Authorization"] = f"Bearer {api_key}"

    @property
    def settings(self) -> dict[str, Any]:
        """The model's name and the sampling parameters; not the address, where another server may take over."""
        return {
            "engine": "endpoint",
            "model": self.model,
            "max_new_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
            "top_k": self.top_k,
        }

    def sample(self, requests: Sequence[Request], seed: int) -> Iterator[list[Completion]]:
        """
        Answers the requests in the order in which the server does.

        Args:
            requests (`Sequence[Request]`):
                The requests, those of a problem best in a row.
            seed (`int`):
                Seed; each request carries one of its own, made of it, its problem and its sample index.

        Yields:
            `list[Completion]`: what arrived since the last list.

        Raises:
            EndpointError: If the server cannot be reached, refuses the key or a request, or does not serve the model.
        """
        if requests:
            yield from paced(self._generate(requests, seed))

    def _generate(self, requests: Sequence[Request], seed: int) -> Iterator[list[Completion]]:
        parameters = self._parameters()
        waiting = iter(requests)
        pool = ThreadPoolExecutor(self.max_concurrency)
        try:
            # twice as many as there are threads, so that none waits for this one
            under_way = {
                pool.submit(self._complete, request, parameters, seed)
                for request in islice(waiting, 2 * self.max_concurrency)
            }
            while under_way:
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                under_way |= {
                    pool.submit(self._complete, request, parameters, seed) for request in islice(waiting, len(done))
                }
                yield [future.result() for future in done]
        finally:  # stopped early: what is on its way is not waited for
            pool.shutdown(wait=False, cancel_futures=True)

    def _parameters(self) -> dict[str, Any]:
        """What every request says; asks the server whether it is there and serves the model."""
        parameters: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        reply = self._send("GET", "/models")
        try:  # some servers have no list
            models = {entry["id"]: entry for entry in reply.json()["data"]} if reply.ok else {self.model: {}}
        except (ValueError, KeyError, TypeError) as error:
            raise EndpointError(
                f"The endpoint must speak OpenAI's protocol; {reply.url} answered {reply.text!r:.80}. "
                "Correct the address: it mostly ends in /v1."
            ) from error
        if self.model not in models:
            raise EndpointError(
                f"The endpoint must serve the model; {self.base_url} serves {', '.join(models) or 'none'}, and not "
                f"{self.model!r}. Give one of these names, or start the server with the model."
            )
        if models[self.model].get("owned_by") == "vllm":
            return parameters | {"top_k": self.top_k, "min_p": 0.0, "repetition_penalty": 1.0}
        return parameters | ({"top_k": self.top_k} if self.top_k else {})

    def _complete(self, request: Request, parameters: dict[str, Any], seed: int) -> Completion:
        is_plain = isinstance(request.prompt, str)
        prompt = {"prompt" if is_plain else "messages": request.prompt, "seed": request_seed(request, seed)}
        reply = self._send("POST", "/completions" if is_plain else "/chat/completions", parameters | prompt)
        if not reply.ok:
            raise EndpointError(
                f"The endpoint must answer every request; for problem {request.problem_id!r} it said "
                f"{reply.status_code}: {reply.text:.500}. Correct what it names, then run the same again: what is "
                "recorded is not sampled twice."
            )
        body = reply.json()
        choice = body["choices"][0]
        text = choice["text"] if is_plain else choice["message"]["content"]
        return Completion(
            request, text or "", body["usage"]["completion_tokens"], truncated=choice["finish_reason"] == "length"
        )

    def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> http.Response:
        try:
            reply = self._session.request(
                method, self.base_url + path, json=body, timeout=(CONNECT_SECONDS, READ_SECONDS)
            )
        except http.RequestException as error:
            raise EndpointError(
                f"The endpoint must be up; {self.base_url} cannot be reached ({_cause(error)}). Start the server, or "
                "correct the address, then run the same again: what is recorded is not sampled twice."
            ) from error
        if reply.status_code in (401, 403):
            raise EndpointError(
                f"The endpoint must accept the API key; {self.base_url} refused "
                f"{'it' if 'Authorization' in self._session.headers else 'a request without one'} "
                f"({reply.status_code}). Set OPENAI_API_KEY to a key of that server."
            )
        return reply


def _cause(error: http.RequestException) -> str:
    """The innermost reason, such as "Connection refused"; the outer ones repeat address and retries."""
    cause: BaseException = error
    while inner := getattr(cause, "reason", None) or cause.__cause__ or (cause.args and cause.args[0]):
        if not isinstance(inner, BaseException):
            break
        cause = inner
    return str(cause)
