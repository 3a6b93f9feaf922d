"""Sampling from an OpenAI-compatible endpoint: requests go in, completions come out as they arrive.

What the server says is believed only where it is what the protocol says. All else is a failure: asked again for a
while, and then told in one sentence. All requests run in one event loop, so that what is under way can end at once.
"""

import asyncio
import json
import logging
import os
import random
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from email.utils import parsedate_to_datetime
from queue import Empty, SimpleQueue
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import httpx
from transformers import PreTrainedTokenizerBase

from ..secrets import HIDDEN, without_secrets
from .samplers import Completion, Request, check_sampling, paced, request_seed
from .visible import one_line


logger = logging.getLogger(__name__)

T = TypeVar("T")

WAITS = (1, 2, 4, 8, 16, 32, 60, 60)
"""Seconds before a request is sent again: three minutes in all."""
MAX_WAIT = 60
"""Seconds that a server's Retry-After is obeyed for at most, each time."""
MAX_WAITED = 180
"""Seconds after which a request is not sent again, whatever the server asks for."""
CONNECT_SECONDS, ANSWER_SECONDS = 10, 3600
MAX_BYTES = 2**24
"""Length of the longest answer that is read."""
POLL_SECONDS = 0.1
"""After so long without an answer an empty list is handed on, and whether all have been answered is looked at."""

_AGAIN = "run the same again: what is recorded is not sampled twice."


class EndpointError(ValueError):
    """An endpoint that cannot be sampled from, with what to do about it."""


class _Failure(Exception):
    """An answer that is none, worth asking for again: what must hold, and what came."""

    def __init__(self, must: str, came: str, retry_after: float = 0.0) -> None:
        super().__init__(must, came)
        self.must, self.came, self.retry_after = must, came, retry_after


class EndpointSampler:
    """
    Samples from any server that speaks OpenAI's protocol, such as `vllm serve` on another machine.

    Every sample is a request of its own with a seed of its own. Conversations go to `/chat/completions`, where the
    server applies the model's chat template, plain prompts to `/completions`. A request that meets an overloaded or
    restarting server, a broken connection or an answer that is not one is sent again for about three minutes.
    Redirects are not followed, and nothing is taken for an answer that did not end with "stop" or "length".

    A vLLM server would fill in what a request leaves open from the model's `generation_config.json`; it is told all
    that changes the distribution. Other servers are told temperature and top-p, and top-k where it is not 0.

    Args:
        model (`str`):
            Name under which the model is served.
        base_url (`str`):
            Address of the server, with the path of its API if that is not `/v1`. A user and password in it are sent
            where there is no key, its query with every request; neither is recorded or shown.
        max_new_tokens (`int`):
            Length limit of a completion.
        temperature (`float`, *optional*, defaults to `1.0`):
            Sampling temperature; 0 is greedy.
        top_p (`float`, *optional*, defaults to `1.0`):
            Probability mass of the tokens to draw from.
        top_k (`int`, *optional*, defaults to `0`):
            Number of tokens to draw from; 0 is all.
        api_key (`str`, *optional*):
            Key; the environment's `OPENAI_API_KEY` when not given. It is sent to the server, and recorded and shown
            nowhere.
        max_concurrency (`int`, *optional*, defaults to `64`):
            Requests under way at a time.
        tokenizer (`PreTrainedTokenizerBase`, *optional*):
            Tokenizer of the model. With plain-text prompts it tells whether the server adds a BOS token that the
            template begins with as well.

    Raises:
        EndpointError: If address or key cannot be sent. While sampling, if the server cannot be reached, refuses the
            key or a request, does not serve the model, or keeps answering what is no completion.
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
        check_sampling(temperature, top_p, top_k, max_new_tokens)
        self.model = model
        self.max_new_tokens = max_new_tokens
        self.temperature = temperature
        self.top_p = top_p
        self.top_k = top_k
        self.max_concurrency = max_concurrency
        self.tokenizer = tokenizer
        self._query: list[tuple[str, Any]] = []
        self._headers = {"Accept-Encoding": "identity", "User-Agent": "nsr-trl"}
        self._secrets: set[str] = set()
        self.base_url = self._address(base_url)
        key = (os.environ.get("OPENAI_API_KEY", "") if api_key is None else api_key).strip()
        if key:
            strange = next((i for i, c in enumerate(key, start=1) if not "!" <= c <= "~"), None)
            if strange is not None:
                raise EndpointError(
                    "An API key must be of printable ASCII characters without spaces; character "
                    f"{strange} of the {len(key)} given is not (the key is not shown). Set OPENAI_API_KEY anew."
                )
            self._authorize("Bearer", key, [key])
        self._ssl_context = httpx.create_ssl_context()
        self._last_said = -float(MAX_WAIT)

    def _address(self, given: str) -> str:
        """The address without user, password and query, which are kept as what each request sends."""
        shown = _without_credentials(given)
        try:
            url = urlsplit(given.strip())
            httpx.URL(given.strip())
            host = url.hostname or ""
            netloc = (f"[{host}]" if ":" in host else host) + (f":{url.port}" if url.port is not None else "")
        except (ValueError, httpx.InvalidURL):
            url, netloc = urlsplit(""), ""
        if url.scheme not in ("http", "https") or not netloc:
            raise EndpointError(
                f"The address of an endpoint must begin with http:// or https://; got {shown!r}. "
                "Write it as in http://localhost:8000/v1."
            )
        if url.username or url.password:
            pair = f"{unquote(url.username or '')}:{unquote(url.password or '')}"
            secrets = [url.username or "", url.password or "", unquote(url.password or "")]
            self._authorize("Basic", b64encode(pair.encode()).decode(), secrets)
        self._query = list(parse_qsl(url.query, keep_blank_values=True))
        self._secrets |= {value for _, value in self._query if value}
        if self._query:  # httpx logs every address in full
            logging.getLogger("httpx").setLevel(logging.WARNING)
        return f"{url.scheme}://{netloc}{url.path.rstrip('/') or '/v1'}"

    def _authorize(self, scheme: str, credentials: str, secrets: Sequence[str]) -> None:
        self._headers["Authorization"] = f"{scheme} {credentials}"
        self._secrets |= {secret for secret in (credentials, *secrets) if secret}

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
            EndpointError: If the server cannot be reached, refuses the key or a request, does not serve the model, or
                keeps answering what is no completion.
        """
        if requests:
            yield from paced(self._arrivals(requests, seed))

    def _arrivals(self, requests: Sequence[Request], seed: int) -> Iterator[list[Completion]]:
        """Several times a second the answers since the last time, even if none; then the error, if one ended it."""
        arrived: SimpleQueue[Completion] = SimpleQueue()
        loop = asyncio.new_event_loop()
        task = loop.create_task(self._ask_all(requests, seed, arrived))

        def run() -> None:
            loop.run_until_complete(asyncio.wait([task]))
            loop.close()

        thread = threading.Thread(target=run, name="endpoint", daemon=True)
        thread.start()
        try:
            while thread.is_alive():
                yield _drain(arrived, POLL_SECONDS)
            yield _drain(arrived, 0)
        finally:  # stopped early: what is on its way is given up
            if thread.is_alive():
                loop.call_soon_threadsafe(task.cancel)
                thread.join(CONNECT_SECONDS)
        if error := task.exception():
            raise _first(error)

    async def _ask_all(self, requests: Sequence[Request], seed: int, arrived: "SimpleQueue[Completion]") -> None:
        waiting = iter(requests)
        async with self._client() as client:
            parameters = await self._parameters(client)

        async def work() -> None:
            # a client for each request under way: in a pool of many connections httpx looks at all for every request
            async with self._client() as client:
                for request in waiting:
                    arrived.put(await self._complete(client, request, parameters, seed))
                    while arrived.qsize() > 4 * self.max_concurrency:  # answers that nobody has taken yet
                        await asyncio.sleep(0.05)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self.max_concurrency, len(requests))):
                group.create_task(work())

    def _client(self) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            headers=self._headers,
            params=self._query,
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS),
            follow_redirects=False,
            verify=self._ssl_context,
        )

    async def _parameters(self, client: httpx.AsyncClient) -> dict[str, Any]:
        """What every request says; asks the server whether it is there and serves the model."""
        parameters: dict[str, Any] = {
            "model": self.model,
            "max_tokens": self.max_new_tokens,
            "temperature": self.temperature,
            "top_p": self.top_p,
        }
        # asked a few times only: a wrong address is told at once
        status, content = await self._persist(
            client, "GET", "/models", None, "its list of models", WAITS[:2], lambda status, content: (status, content)
        )
        if status >= 400:  # some servers have no list
            models: dict[str, Any] = {self.model: {}}
        else:
            try:
                models = {entry["id"]: entry for entry in json.loads(content)["data"] if isinstance(entry["id"], str)}
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise EndpointError(
                    f"The endpoint must speak OpenAI's protocol; {self.base_url}/models answered "
                    f"{self._shown(repr(_decoded(content)), 100)}. Correct the address: it mostly ends in /v1."
                ) from error
        if self.model not in models:
            served = ", ".join(self._shown(name, 100) for name in list(models)[:20]) or "none"
            raise EndpointError(
                f"The endpoint must serve the model; {self.base_url} serves {served}, and not {self.model!r}. "
                "Give one of these names, or start the server with the model."
            )
        if models[self.model].get("owned_by") == "vllm":
            return parameters | {"top_k": self.top_k, "min_p": 0.0, "repetition_penalty": 1.0}
        return parameters | ({"top_k": self.top_k} if self.top_k else {})

    async def _complete(
        self, client: httpx.AsyncClient, request: Request, parameters: dict[str, Any], seed: int
    ) -> Completion:
        is_plain = isinstance(request.prompt, str)
        prompt = {"prompt" if is_plain else "messages": request.prompt, "seed": request_seed(request, seed)}
        path = "/completions" if is_plain else "/chat/completions"
        what = f"problem {request.problem_id!r}"

        def read(status: int, content: bytes) -> Completion:
            text, num_tokens, truncated = read_answer(content, is_plain, self.max_new_tokens)
            return Completion(request, text, num_tokens, truncated)

        return await self._persist(client, "POST", path, parameters | prompt, what, WAITS, read)

    async def _persist(
        self,
        client: httpx.AsyncClient,
        method: str,
        path: str,
        body: dict[str, Any] | None,
        what: str,
        waits: Sequence[float],
        read: Callable[[int, bytes], T],
    ) -> T:
        """Sends a request until its answer can be read, or it is refused for good, or the waits are used up."""
        times, waited = 0, 0.0
        while True:
            times += 1
            try:
                return read(*await self._send(client, method, path, body, what))
            except _Failure as failure:
                if times > len(waits) or waited >= MAX_WAITED:
                    raise EndpointError(
                        f"{failure.must}; for {what} it {self._shown(failure.came)} ({times} times, "
                        f"{self.base_url}). Start or mend the server, or correct the address, then {_AGAIN}"
                    ) from None
                self._say(self._shown(failure.came))
                pause = max(waits[times - 1] * random.uniform(0.5, 1), min(failure.retry_after, MAX_WAIT))
            await asyncio.sleep(pause)
            waited += pause

    async def _send(
        self, client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None, what: str
    ) -> tuple[int, bytes]:
        """Sends a request once and returns status and content, where there may be another answer the next time."""
        try:
            async with (
                asyncio.timeout(ANSWER_SECONDS),
                client.stream(method, self.base_url + path, json=body) as reply,
            ):
                content = await _read(reply)
        except TimeoutError:
            raise _Failure("An endpoint must answer", f"had not answered after {ANSWER_SECONDS} s") from None
        except (httpx.HTTPError, httpx.InvalidURL, httpx.StreamError, OSError) as error:
            raise _Failure("The endpoint must be up", f"cannot be reached ({_cause(error)})") from None
        said = f"said {reply.status_code}: {_decoded(content).strip() or 'nothing'}"
        if reply.is_redirect:
            raise EndpointError(
                f"An endpoint must answer for itself; {self.base_url} sends {what} on to "
                f"{self._shown(_without_credentials(reply.headers.get('Location', 'nowhere')))}, which is not "
                "followed. If you trust that address, give it as the base URL."
            )
        if reply.status_code in (401, 403):
            raise EndpointError(
                f"The endpoint must accept the API key; {self.base_url} refused "
                f"{'it' if 'Authorization' in self._headers else 'a request without one'} "
                f"({reply.status_code}). Set OPENAI_API_KEY to a key of that server."
            )
        if reply.status_code in (408, 425, 429) or (reply.status_code >= 500 and reply.status_code != 501):
            raise _Failure("The endpoint must answer every request", said, _retry_after(reply))
        if method == "POST" and not reply.is_success:
            raise EndpointError(
                f"The endpoint must answer every request; for {what} it {self._shown(said, 500)} ({self.base_url}). "
                f"Correct what it names, then {_AGAIN}"
            )
        return reply.status_code, content

    def _shown(self, text: str, limit: int = 300) -> str:
        """A text of the server: without what it may have been told in confidence, and without control characters."""
        for secret in sorted(self._secrets, key=len, reverse=True):
            for spelling in {secret, quote(secret), quote(secret, safe="")}:
                text = text.replace(spelling, HIDDEN)
        return one_line(without_secrets(text), limit)

    def _say(self, text: str) -> None:
        """Tells, once a minute at most, why nothing is moving."""
        if time.monotonic() - self._last_said >= MAX_WAIT:
            self._last_said = time.monotonic()
            logger.warning(f"The endpoint {self.base_url} {text}; asking again for about three minutes.")


def read_answer(content: bytes, is_plain: bool, max_new_tokens: int) -> tuple[str, int, bool]:
    """
    Reads a completion from what a server answered, if it is one.

    Args:
        content (`bytes`):
            The body of the answer.
        is_plain (`bool`):
            Whether it is of `/completions` rather than of `/chat/completions`.
        max_new_tokens (`int`):
            Length limit that was asked for.

    Returns:
        `tuple[str, int, bool]`: text, number of tokens, and whether it ran into the limit

    Raises:
        _Failure: If it is something else; the first field that is wrong is named with its value.
    """
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        raise _Failure("An answer must be JSON", f"answered {_decoded(content)!r:.200}") from None
    if isinstance(body, dict) and body.get("error"):
        raise _Failure("An answer must not be an error", f"answered error = {_quoted(body['error'])}")
    choice = _field(body, "choices", "a list of completions", lambda value: isinstance(value, list) and value)[0]
    within = "choices[0]."
    end = _field(choice, "finish_reason", '"stop" or "length"', lambda value: value in ("stop", "length"), within)
    if is_plain:
        text = _field(choice, "text", "a text", lambda value: isinstance(value, str), within)
    else:
        message = _field(choice, "message", "an object", lambda value: isinstance(value, dict), within)
        # a reasoning parser leaves no content where the thinking took all of the tokens
        thought = message.get("reasoning_content") or message.get("reasoning")
        if message.get("content") is None and thought and isinstance(thought, str):
            text = ""
        else:
            within += "message."
            text = _field(message, "content", "a text", lambda value: isinstance(value, str), within)
    usage = _field(body, "usage", "an object", lambda value: isinstance(value, dict))
    num_tokens = _field(
        usage,
        "completion_tokens",
        f"a whole number from 0 to {max_new_tokens}, the limit asked for",
        lambda value: type(value) is int and 0 <= value <= max_new_tokens,
        "usage.",
    )
    return text, num_tokens, end == "length"


def _field(container: Any, name: str, expected: str, holds: Callable[[Any], object], within: str = "") -> Any:
    """The value of a field, if it is what it must be."""
    path = within + name
    if not isinstance(container, dict) or name not in container:
        came = "answered none" if isinstance(container, dict) else f"answered {_quoted(container)} in its place"
        raise _Failure(f"{path} of an answer must be {expected}", came)
    value = container[name]
    if not holds(value):
        raise _Failure(f"{path} of an answer must be {expected}", f"answered {path} = {_quoted(value)}")
    return value


def _quoted(value: Any) -> str:
    return repr(value)[:200]


async def _read(reply: httpx.Response) -> bytes:
    """The body, if it is neither packed nor longer than any answer."""
    encoding = reply.headers.get("Content-Encoding", "identity")
    if encoding.strip().lower() not in ("", "identity"):
        raise _Failure("An answer must not be compressed", f"answered Content-Encoding {encoding!r:.50}")
    content = bytearray()
    async for chunk in reply.aiter_raw():
        content += chunk
        if len(content) > MAX_BYTES:
            raise _Failure(f"An answer must not be longer than {MAX_BYTES:,} bytes", "answered more")
    return bytes(content)


def _retry_after(reply: httpx.Response) -> float:
    """Seconds that the server asks to wait: a number or a date; 0 where it asks for nothing that can be read."""
    value = reply.headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError, OSError):
        return 0.0


def _decoded(content: bytes) -> str:
    return content[:2_000].decode(errors="replace")


def _drain(arrived: "SimpleQueue[Completion]", seconds: float) -> list[Completion]:
    """Takes what is there, and waits so long if it is nothing."""
    taken: list[Completion] = []
    try:
        taken.append(arrived.get(timeout=seconds) if seconds else arrived.get_nowait())
        while True:
            taken.append(arrived.get_nowait())
    except Empty:
        return taken


def _first(error: BaseException) -> BaseException:
    """The error of a group of tasks that ended all the others."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _cause(error: BaseException) -> str:
    """The innermost reason, such as "Connection refused"; the outer ones repeat it in other words."""
    cause = error
    while (inner := cause.__cause__ or cause.__context__) is not None:
        cause = inner
    if isinstance(cause, OSError) and cause.errno:
        return os.strerror(cause.errno) if cause.errno > 0 else cause.strerror or str(cause)
    return str(cause) or str(error) or type(error).__name__


def _without_credentials(address: str) -> str:
    """An address to show: without user, password, query and fragment, be it well-formed or not."""
    shown = address.strip().partition("?")[0].partition("#")[0]
    scheme, separator, rest = shown.partition("://") if "://" in shown else ("", "", shown)
    return scheme + separator + (f"{HIDDEN}@{rest.rpartition('@')[2]}" if "@" in rest else rest)
