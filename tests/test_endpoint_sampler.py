"""The endpoint sampler against a server in this process that answers, hesitates and fails as real ones do."""

import json
import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nsr_trl import Problem, evaluate
from nsr_trl.evaluation import endpoint_sampler
from nsr_trl.evaluation.endpoint_sampler import EndpointError, EndpointSampler
from nsr_trl.evaluation.samplers import Request, request_seed


class Server(ThreadingHTTPServer):
    """Speaks the protocol. Answers the seed it was sent, so that a test sees which request an answer is of."""

    request_queue_size = 128  # a connection that finds the queue full tries again after a second

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.model = {"id": "policy", "owned_by": "vllm"}
        self.key = None
        self.failures = []  # what the next requests for a completion meet: a status, or "reset"
        self.seconds = 0.0
        self.bodies = []
        self.num_at_once = self.most_at_once = 0
        self.lock = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def reply(self, status, body, **headers):
        content = json.dumps(body).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def is_refused(self):
        key = self.server.key
        if key and self.headers["Authorization"] != f"Bearer {key}":
            self.reply(401, {"error": "no such key"})
            return True
        return False

    def do_GET(self):
        if not self.is_refused():
            self.reply(200, {"data": [self.server.model]} if self.server.model else "<html>hello</html>")

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.num_at_once += 1
            self.server.most_at_once = max(self.server.most_at_once, self.server.num_at_once)
            failure = self.server.failures.pop(0) if self.server.failures else None
        time.sleep(self.server.seconds)
        with self.server.lock:
            self.server.num_at_once -= 1
        if failure == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close_connection = True
            self.connection.close()
        elif failure:
            self.reply(failure, {"error": "something about it"}, Retry_After="0")
        elif not self.is_refused():
            self.server.bodies.append((self.path, body))
            text, reason = rf"\boxed{{{body['seed']}}}", "length" if body["max_tokens"] < 5 else "stop"
            answer = {"text": text} if self.path == "/v1/completions" else {"message": {"content": text}}
            self.reply(
                200,
                {"choices": [answer | {"finish_reason": reason}], "usage": {"completion_tokens": body["max_tokens"]}},
            )


@pytest.fixture
def server():
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    """Retries as in life, without the waiting."""
    monkeypatch.setattr(endpoint_sampler, "WAITS", (0.0,) * len(endpoint_sampler.WAITS))
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def requests(num_samples, prompt="1 + 1 ="):
    return [Request("p", index, prompt) for index in range(num_samples)]


def sample(server, requests, **settings):
    sampler = EndpointSampler("policy", server.url, **({"max_new_tokens": 7} | settings))
    return [completion for batch in sampler.sample(requests, seed=3) for completion in batch]


def test_every_request_is_answered_once_with_its_own_seed(server):
    completions = sample(server, requests(150))
    assert sorted(c.request.sample_index for c in completions) == list(range(150))
    assert all(c.text == rf"\boxed{{{request_seed(c.request, 3)}}}" for c in completions)
    assert len({c.text for c in completions}) == 150
    assert {(c.num_tokens, c.truncated) for c in completions} == {(7, False)}


def test_a_completion_that_ran_into_its_limit_is_truncated(server):
    assert sample(server, requests(1), max_new_tokens=4)[0].truncated


def test_conversations_go_to_chat_and_plain_prompts_to_completions(server):
    conversation = [{"role": "user", "content": "1 + 1"}]
    sample(server, requests(1, conversation))
    sample(server, requests(1))
    (chat_path, chat), (plain_path, plain) = server.bodies
    assert (chat_path, chat["messages"]) == ("/v1/chat/completions", conversation)
    assert (plain_path, plain["prompt"]) == ("/v1/completions", "1 + 1 =")


def test_vllm_is_told_everything_and_others_what_is_in_the_protocol(server):
    sample(server, requests(1), temperature=0.6, top_p=0.95)
    server.model = {"id": "policy", "owned_by": "someone"}
    sample(server, requests(1), temperature=0.6, top_p=0.95)
    sample(server, requests(1), top_k=20)
    of_vllm, of_other, with_top_k = (body for _, body in server.bodies)
    # left open, vLLM would take top-k 20 and a repetition penalty of 1.05 from Qwen's generation config
    assert {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0}.items() <= of_vllm.items()
    assert of_other.keys() == {"model", "prompt", "seed", "max_tokens", "temperature", "top_p"}
    assert (of_other["temperature"], of_other["top_p"]) == (0.6, 0.95)
    assert with_top_k["top_k"] == 20


def test_no_more_requests_are_under_way_than_allowed(server):
    server.seconds = 0.02
    sample(server, requests(40), max_concurrency=3)
    assert server.most_at_once == 3


def test_completions_are_handed_on_while_others_are_under_way(server):
    server.seconds = 0.2
    sampler = EndpointSampler("policy", server.url, max_new_tokens=7, max_concurrency=2)
    first = next(sampler.sample(requests(20), seed=0))
    assert 1 <= len(first) <= 8  # half a second's worth of 20


@pytest.mark.parametrize("failure", [429, 500, 503, "reset"])
def test_an_overloaded_or_restarting_server_is_asked_again(server, failure):
    server.failures = [failure] * 5
    assert len(sample(server, requests(8))) == 8
    assert not server.failures


def test_a_server_that_stays_overloaded_ends_with_its_words(server):
    server.failures = [503] * 1000
    with pytest.raises(
        EndpointError,
        match=r"for problem 'p' it said 503: .*something about it.* \(9 times, .*not sampled twice",
    ):
        sample(server, requests(2))


def test_a_refused_request_is_told_at_once(server):
    server.failures = [400]
    with pytest.raises(EndpointError, match=r"for problem 'p' it said 400: .*something about it"):
        sample(server, requests(1))


def test_a_model_that_is_not_served_is_told_with_those_that_are(server):
    sampler = EndpointSampler("polciy", server.url, max_new_tokens=7)
    with pytest.raises(EndpointError, match=r"/v1 serves policy, and not 'polciy'. Give one of these names"):
        next(sampler.sample(requests(1), seed=0))


def test_a_server_of_another_kind_is_told(server):
    server.model = None
    with pytest.raises(EndpointError, match=r"must speak OpenAI's protocol; .*/v1/models answered .*hello.*/v1\."):
        sample(server, requests(1))


def test_a_server_that_is_down_is_told_before_anything_is_sampled():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(EndpointError, match=r"must be up; .* cannot be reached .*Connection refused.*Start"):
        next(EndpointSampler("policy", url, max_new_tokens=7).sample(requests(1), seed=0))


def test_the_key_comes_from_the_argument_or_the_environment_and_is_recorded_nowhere(server, monkeypatch):
    server.key = "sk-secret"
    with pytest.raises(EndpointError, match=r"refused a request without one \(401\). Set OPENAI_API_KEY"):
        sample(server, requests(1))
    with pytest.raises(EndpointError, match=r"refused it \(401\)"):
        sample(server, requests(1), api_key="sk-wrong")
    assert len(sample(server, requests(1), api_key="sk-secret")) == 1
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    assert len(sample(server, requests(1))) == 1
    assert "secret" not in json.dumps(EndpointSampler("policy", server.url, max_new_tokens=7).settings)


def test_an_address_may_have_a_path_and_must_have_a_scheme():
    assert EndpointSampler("m", "http://host:8000/", max_new_tokens=1).base_url == "http://host:8000/v1"
    assert EndpointSampler("m", "https://host/api/v2/", max_new_tokens=1).base_url == "https://host/api/v2"
    with pytest.raises(EndpointError, match="must begin with http:// or https://; got 'localhost:8000'"):
        EndpointSampler("m", "localhost:8000", max_new_tokens=1)


def test_an_evaluation_samples_from_an_endpoint(server, tmp_path):
    problem = Problem("1 + 1", "2")
    sampler = EndpointSampler("policy", server.url, max_new_tokens=7)
    result = evaluate(sampler, [problem], num_samples=8, output_dir=tmp_path, show_progress=False)
    assert result.num_correct == {problem.id: 0}  # the server answers seeds
    samples = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    expected = {str(request_seed(Request(problem.id, index, ""), 0)) for index in range(8)}
    assert {sample["answer"] for sample in samples} == expected
