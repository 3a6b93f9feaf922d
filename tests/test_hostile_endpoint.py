"""An evaluation against a server that fails in some ninety ways: nothing lost, doubled, made up or given away."""

import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from functools import cache

import pytest
from hostile import AGAIN, ANSWERS, AT_ONCE, MODES, HostileServer, http

from nsr_trl import Problem, evaluate
from nsr_trl.evaluation import endpoint_sampler
from nsr_trl.evaluation.endpoint_sampler import EndpointError, EndpointSampler
from nsr_trl.evaluation.records import read_samples
from nsr_trl.evaluation.samplers import Request, request_seed


KEY = "planted-key-0123456789"
PASSWORD, TOKEN = "planted-password", "planted-token"
PROBLEM = Problem("1 + 1", "2")
WAITS = endpoint_sampler.WAITS
one_ssl_context = cache(endpoint_sampler.httpx.create_ssl_context)  # to read the certificates takes longer than a test
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\U000e0000-\U000e0fff]")


@pytest.fixture
def server():
    with HostileServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture(autouse=True)
def impatience(monkeypatch):
    monkeypatch.setattr(endpoint_sampler, "WAITS", (0.0,) * len(endpoint_sampler.WAITS))
    monkeypatch.setattr(endpoint_sampler, "ANSWER_SECONDS", 0.25)
    monkeypatch.setattr(endpoint_sampler, "POLL_SECONDS", 0.01)
    monkeypatch.setattr(endpoint_sampler.httpx, "create_ssl_context", one_ssl_context)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)


def run(server, folder, num_samples=12, **settings):
    address = server.url.replace("://", f"://user:{PASSWORD}@") + f"/v1?api-key={TOKEN}"
    settings = {"max_new_tokens": 8, "api_key": KEY, "max_concurrency": 4} | settings
    sampler = EndpointSampler("policy", settings.pop("base_url", address), **settings)
    return evaluate(
        sampler, [PROBLEM], num_samples=num_samples, template="plain", output_dir=folder, show_progress=False
    )


def seed_of(index):
    return request_seed(Request(PROBLEM.id, index, ""), 0)


def check_recorded(folder, num_samples=12):
    samples = list(read_samples(folder))
    assert sorted(sample.sample_index for sample in samples) == list(range(num_samples))
    assert all(sample.completion == rf"\boxed{{{seed_of(sample.sample_index)}}}" for sample in samples)
    assert {(sample.num_tokens, sample.truncated) for sample in samples} == {(7, False)}


def check_nothing_is_given_away(folder, *texts):
    texts = [*texts, *(path.read_text() for path in folder.rglob("*") if path.is_file())]
    for text in texts:
        assert not [secret for secret in (KEY, PASSWORD, TOKEN, "secret-word") if secret in text]


@pytest.mark.parametrize("mode", AGAIN)
def test_what_is_no_answer_is_asked_for_again_and_in_the_end_told(server, tmp_path, mode, caplog, capfd):
    caplog.set_level("INFO")
    first = {seed_of(index) for index in (0, 5, 11)}

    def once(seed):
        if seed in first:
            first.remove(seed)
            return mode
        return None

    server.mode_of = once
    run(server, tmp_path / "once")
    assert not first
    check_recorded(tmp_path / "once")

    last = seed_of(11)
    server.mode_of = lambda seed: mode if seed == last else None
    with pytest.raises(EndpointError) as told:
        run(server, tmp_path / "always")
    sentence = str(told.value)
    assert re.search(AGAIN[mode][1], sentence)
    assert f"(9 times, {server.url}/v1). Start" in sentence
    assert not CONTROL.search(sentence)
    assert "\n" not in sentence
    assert len(sentence) < 900
    kept = [sample.sample_index for sample in read_samples(tmp_path / "always")]
    assert sorted(kept) == list(range(11))  # what was answered is on disk
    server.mode_of = lambda seed: None
    run(server, tmp_path / "always")  # and the folder is as good as new
    check_recorded(tmp_path / "always")
    check_nothing_is_given_away(tmp_path, sentence, caplog.text, *capfd.readouterr())


@pytest.mark.parametrize("mode", AT_ONCE)
def test_what_another_try_cannot_mend_is_told_at_once(server, tmp_path, mode, caplog, capfd):
    caplog.set_level("INFO")
    asked = []
    server.mode_of = lambda seed: asked.append(seed) or (mode if seed == seed_of(3) else None)
    with pytest.raises(EndpointError) as told:
        run(server, tmp_path, max_concurrency=1)
    assert re.search(AT_ONCE[mode][1], str(told.value))
    assert server.url in str(told.value)
    assert not CONTROL.search(str(told.value))
    assert asked == [seed_of(index) for index in range(4)]
    server.mode_of = lambda seed: None
    run(server, tmp_path)
    check_recorded(tmp_path)
    check_nothing_is_given_away(tmp_path, str(told.value), caplog.text, *capfd.readouterr())


@pytest.mark.parametrize("mode", ANSWERS)
def test_an_unusual_answer_is_an_answer(server, tmp_path, mode):
    server.mode_of = lambda seed: f"answer: {mode}"
    run(server, tmp_path)
    assert sorted(sample.sample_index for sample in read_samples(tmp_path)) == list(range(12))


def test_there_are_at_least_fifty_ways_to_fail():
    assert len(AGAIN) + len(AT_ONCE) >= 50


def test_an_answer_that_echoes_the_request_gives_no_key_away(server, tmp_path, caplog, monkeypatch):
    monkeypatch.setitem(MODES, "echo", lambda seed: http(server.heads[-1].encode(), "400 Bad Request"))
    server.mode_of = lambda seed: "echo"
    with pytest.raises(EndpointError) as told:
        run(server, tmp_path)
    assert "Authorization: Bearer ..." in str(told.value) or "authorization: Bearer ..." in str(told.value)
    with pytest.raises(EndpointError) as told_basic:
        run(server, tmp_path, api_key="")
    check_nothing_is_given_away(tmp_path, str(told.value), str(told_basic.value), caplog.text)
    assert "dXNlcjpwbGFudGVk" not in str(told_basic.value)  # user:planted..., in base64


# --- keys and addresses ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("around", ["\n", "\r\n", " ", "\t\n"])
def test_space_around_a_key_is_no_part_of_it(server, tmp_path, around, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", f"{around}{KEY}{around}")
    run(server, tmp_path, api_key=None)
    assert all(f"Bearer {KEY}\r\n" in head for head in server.heads)


@pytest.mark.parametrize("strange", ["\n", " ", "\u00e9", "\u0142", "\x00", "\ud800"])
def test_a_key_that_cannot_be_sent_is_told_and_not_shown(strange):
    with pytest.raises(EndpointError, match=r"character 23 of the 27 given is not \(the key is not shown\)") as told:
        EndpointSampler("policy", "http://host", max_new_tokens=1, api_key=f"{KEY}{strange}tail")
    assert KEY not in str(told.value)


def test_user_and_password_are_sent_without_a_key_and_netrc_never(server, tmp_path, monkeypatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login someone password else\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    (tmp_path / "netrc").chmod(0o600)
    run(server, tmp_path / "key")
    assert all(f"Bearer {KEY}\r\n" in head for head in server.heads)
    server.heads.clear()
    run(server, tmp_path / "basic", api_key="")
    assert all("Basic dXNlcjpwbGFudGVkLXBhc3N3b3Jk\r\n" in head for head in server.heads)  # base64 of user:planted-...
    server.heads.clear()
    run(server, tmp_path / "none", api_key="", base_url=server.url)
    assert not [head for head in server.heads if "authorization" in head.lower()]


def test_the_query_of_an_address_goes_with_every_request(server, tmp_path):
    run(server, tmp_path)
    assert {head.split(" ")[1].partition("?")[2] for head in server.heads} == {f"api-key={TOKEN}"}


@pytest.mark.parametrize(
    "address",
    [
        f"user:{PASSWORD}@host:8000",
        f"ftp://user:{PASSWORD}@host",
        f"http://user:{PASSWORD}@",
        f"http://user:{PASSWORD}@host:99999/v1?api_key={TOKEN}",
        f"http://user:{PASSWORD}@host:port",
        f"http://user:{PASSWORD}@[::1/v1",
        f"http://user:{PASSWORD}@ho st\x1b[2J/",
        f"https:/host?api_key={TOKEN}",
    ],
)
def test_an_address_that_is_none_is_shown_without_its_secrets(address):
    with pytest.raises(EndpointError, match=r"must begin with http:// or https://; got '") as told:
        EndpointSampler("policy", address, max_new_tokens=1)
    assert not [secret for secret in (PASSWORD, TOKEN, "\x1b") if secret in str(told.value)]


# --- the list of models ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("models", "sentence"),
    [
        (http(b"hello \x1b[2J"), r"must speak OpenAI's protocol; .* answered .*hello"),
        (http({}), "must speak OpenAI's protocol"),
        (http({"data": None}), "must speak OpenAI's protocol"),
        (http({"data": [7]}), "must speak OpenAI's protocol"),
        (http({"data": [{"name": "policy"}]}), "must speak OpenAI's protocol"),
        (http(b"[" * 200_000), "must speak OpenAI's protocol"),
        (http({"data": [{"id": 7}, {"id": None}]}), "serves none, and not 'policy'"),
        (http({"data": [{"id": "\x1b[2Jx"}]}), r"serves \\x1b\[2Jx, and not"),
        (http({"data": [{"id": f"m{i}"} for i in range(10_000)]}), "serves m0, m1, "),
        (http(b"", "302 Found", ["Location: http://elsewhere"]), "not followed"),
        (http(b"", "503 Busy"), r"said 503: nothing \(3 times"),
        (http(b"", "401 Unauthorized"), "must accept the API key"),
    ],
)
def test_a_list_of_models_that_is_none_is_told(server, tmp_path, models, sentence):
    server.models = models
    with pytest.raises(EndpointError, match=sentence) as told:
        run(server, tmp_path)
    assert not CONTROL.search(str(told.value))
    assert len(str(told.value)) < 1_000


@pytest.mark.parametrize("status", ["404 Not Found", "405 Method Not Allowed", "501 Not Implemented"])
def test_a_server_may_have_no_list_of_models(server, tmp_path, status):
    server.models = http(b"", status)
    run(server, tmp_path)
    check_recorded(tmp_path)


# --- waiting, and leaving --------------------------------------------------------------------------------------------


def test_a_server_that_asks_for_a_day_gets_a_minute(server, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr(endpoint_sampler, "MAX_WAIT", 0.2)
    monkeypatch.setattr(endpoint_sampler, "MAX_WAITED", 0.5)
    a_day = http(b"", "429 Too Many Requests", ["Retry-After: 86400"])
    monkeypatch.setitem(MODES, "a day", lambda seed: a_day)
    server.mode_of = lambda seed: "a day" if seed == seed_of(0) else None
    start = time.monotonic()
    with pytest.raises(EndpointError, match=r"said 429: nothing \(4 times"):  # after 0, 0.2, 0.4 and 0.6 seconds
        run(server, tmp_path)
    assert 0.6 <= time.monotonic() - start < 5
    assert "said 429: nothing; asking again" in caplog.text


def test_the_waits_are_the_three_minutes_that_are_documented():
    assert 180 <= sum(WAITS) <= 190
    assert endpoint_sampler.MAX_WAITED == 180
    assert endpoint_sampler.MAX_WAIT <= 60


def test_answers_are_handed_on_while_a_straggler_is_under_way_and_it_is_left_at_once(server, monkeypatch):
    monkeypatch.setattr(endpoint_sampler, "ANSWER_SECONDS", 60)
    server.mode_of = lambda seed: "stalled" if seed == request_seed(Request("p", 0, ""), 0) else None
    sampler = EndpointSampler("policy", server.url, max_new_tokens=8)
    arriving = sampler.sample([Request("p", index, "1 + 1 =") for index in range(64)], seed=0)
    start, arrived = time.monotonic(), []
    while len(arrived) < 63:
        arrived += next(arriving)
    assert time.monotonic() - start < 5
    arriving.close()
    assert time.monotonic() - start < 7
    assert threading.active_count() < 80


@pytest.mark.processes
def test_ctrl_c_leaves_at_once_with_what_was_answered_on_disk(server, tmp_path):
    (tmp_path / "p.jsonl").write_text(json.dumps({"question": "1 + 1", "answer": "2"}) + "\n")
    slow = seed_of(7)
    server.mode_of = lambda seed: "stalled" if seed == slow else None
    command = [sys.executable, "-m", "nsr_trl", "evaluate", "--model", "policy", "--base-url", server.url]
    command += ["--dataset", str(tmp_path / "p.jsonl"), "--output-dir", str(tmp_path / "run"), "--template", "plain"]
    command += ["--num-samples", "64", "--max-new-tokens", "8", "--k", "1"]
    env = os.environ | {"OPENAI_API_KEY": f"{KEY}\n"}
    samples = tmp_path / "run" / "p" / "samples.jsonl"
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, env=env, stdout=pipe, stderr=pipe, text=True)
    try:
        deadline = time.monotonic() + 90
        while time.monotonic() < deadline and not (samples.exists() and samples.read_text().count("\n") == 63):
            time.sleep(0.05)
        assert samples.read_text().count("\n") == 63  # stragglers or not
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        assert time.monotonic() - start < 15  # the straggler would take 20
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Stopped; the same command resumes" in err
    assert samples.read_text().count("\n") == 63
    check_nothing_is_given_away(tmp_path, out, err)


@pytest.mark.slow
def test_twenty_thousand_requests_with_random_faults_lose_and_double_nothing(server, tmp_path, monkeypatch):
    monkeypatch.setattr(endpoint_sampler, "ANSWER_SECONDS", 20)
    rng, lock, faults = random.Random(0), threading.Lock(), []
    costly = ("endless", "too long", "stalled", "trickling", "a compressed bomb", "long", "deep")
    modes = [mode for mode in AGAIN if mode not in costly]

    def sometimes(seed):
        with lock:
            mode = rng.choice(modes) if rng.random() < 0.1 else None
            faults.append(mode)
            return mode

    server.mode_of = sometimes
    run(server, tmp_path, num_samples=20_000, max_concurrency=64)
    check_recorded(tmp_path, 20_000)
    assert sum(mode is None for mode in faults) == 20_000
    assert sum(mode is not None for mode in faults) > 1_500
    assert len({json.loads(line)["sample_index"] for line in (tmp_path / "samples.jsonl").open()}) == 20_000
