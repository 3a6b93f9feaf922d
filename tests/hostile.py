"""A server that speaks the protocol, but for what a mode makes of an answer: some sixty ways in which servers fail."""

import gzip
import json
import socketserver
import struct
import time
from socket import SO_LINGER, SOL_SOCKET


def answer(seed, **others):
    """What a good server answers to a plain prompt: the seed that it was sent, and 7 tokens."""
    choice = {"text": rf"\boxed{{{seed}}}", "finish_reason": "stop"}
    return {"choices": [choice], "usage": {"completion_tokens": 7}} | others


def http(body, status="200 OK", headers=()):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + content


def without(name):
    return lambda seed: http({key: value for key, value in answer(seed).items() if key != name})


def choice(**fields):
    """An answer whose choice has other fields; `...` takes one away."""

    def reply(seed):
        fresh = answer(seed)["choices"][0] | fields
        return http(answer(seed, choices=[{key: value for key, value in fresh.items() if value is not ...}]))

    return reply


def usage(value):
    return lambda seed: http(answer(seed, usage={"completion_tokens": value}))


def raw(text):
    return lambda seed: text if isinstance(text, bytes) else text.encode()


def body(content, status="200 OK", *headers):
    return lambda seed: http(content, status, headers)


ESCAPES = "\x1b]0;owned\x07\x1b[2J\u202e\U000e0101"

# an answer that is none: worth asking again. Mode -> (reply, what the sentence must say of it)
AGAIN = {
    "no json": (body(b"hello"), "JSON"),
    "empty": (body(b""), "JSON"),
    "html": (body(b"<html><body>Bad gateway</body></html>"), "JSON"),
    "half a json": (lambda seed: http(json.dumps(answer(seed)).encode()[:-9]), "JSON"),
    "not utf-8": (body(b'{"choices": "\xff\xfe"}'), "JSON"),
    "deep": (body(b"[" * 200_000), "JSON"),
    "null": (body(None), "choices"),
    "a list": (body([1]), "choices"),
    "a number": (body(7), "choices"),
    "a text": (body("text"), "choices"),
    "an empty object": (body({}), "choices"),
    "an error within 200": (body({"error": {"message": f"overloaded {ESCAPES}"}}), "overloaded"),
    "an error as a text": (body({"error": "no"}), "error = 'no'"),
    "no choices": (without("choices"), "choices"),
    "choices null": (lambda seed: http(answer(seed, choices=None)), "choices = None"),
    "choices empty": (lambda seed: http(answer(seed, choices=[])), r"choices = \[\]"),
    "choices an object": (lambda seed: http(answer(seed, choices={})), "choices = {}"),
    "a choice null": (lambda seed: http(answer(seed, choices=[None])), "finish_reason"),
    "a choice a text": (lambda seed: http(answer(seed, choices=["x"])), "finish_reason"),
    "no text": (choice(text=...), "text"),
    "text null": (choice(text=None), "text = None"),
    "text a number": (choice(text=7), "text = 7"),
    "text a list": (choice(text=["a"]), "text = "),
    "text an object": (choice(text={"a": 1}), "text = "),
    "no finish reason": (choice(finish_reason=...), "finish_reason"),
    "finish reason null": (choice(finish_reason=None), "finish_reason = None"),
    "abort": (choice(finish_reason="abort"), "finish_reason = 'abort'"),
    "content filter": (choice(finish_reason="content_filter"), "finish_reason = 'content_filter'"),
    "tool calls": (choice(finish_reason="tool_calls"), "finish_reason = 'tool_calls'"),
    "finish reason a number": (choice(finish_reason=1), "finish_reason = 1"),
    "finish reason a list": (choice(finish_reason=["stop"]), "finish_reason = "),
    "finish reason shouted": (choice(finish_reason="STOP"), "finish_reason = 'STOP'"),
    "no usage": (without("usage"), "usage"),
    "usage null": (lambda seed: http(answer(seed, usage=None)), "usage = None"),
    "usage a list": (lambda seed: http(answer(seed, usage=[7])), "usage = "),
    "no count": (lambda seed: http(answer(seed, usage={})), "usage.completion_tokens"),
    "count a text": (usage("7"), "usage.completion_tokens = '7'"),
    "count null": (usage(None), "usage.completion_tokens = None"),
    "count negative": (usage(-1), "usage.completion_tokens = -1"),
    "count a fraction": (usage(1.5), "usage.completion_tokens = 1.5"),
    "count a float": (usage(7.0), "usage.completion_tokens = 7.0"),
    "count a truth": (usage(True), "usage.completion_tokens = True"),
    "count not a number": (usage(float("nan")), "usage.completion_tokens = nan"),
    "count infinite": (usage(float("inf")), "completion_tokens = inf"),
    "count beyond the limit": (usage(9), "usage.completion_tokens = 9"),
    "count beyond all": (usage(10**40), "usage.completion_tokens = 1000"),
    "no content": (raw("HTTP/1.1 204 No Content\r\n\r\n"), "JSON"),
    "compressed": (body(gzip.compress(b"{}"), "200 OK", "Content-Encoding: gzip"), "compressed"),
    "a compressed bomb": (body(gzip.compress(bytes(10**8)), "200 OK", "Content-Encoding: gzip"), "compressed"),
    "timed out": (body(b"", "408 Request Timeout"), "said 408"),
    "too early": (body(b"", "425 Too Early"), "said 425"),
    "too many": (body(b"slow down", "429 Too Many Requests", "Retry-After: 0"), "said 429: slow down"),
    "soon": (body(b"", "429 Too Many Requests", "Retry-After: soon"), "said 429"),
    "before": (body(b"", "429 Too Many Requests", "Retry-After: -5"), "said 429"),
    "a past date": (body(b"", "503 Busy", "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"), "said 503"),
    "no date": (body(b"", "503 Busy", "Retry-After: Wed, 99 Oct 99999 07:28:00 GMT"), "said 503"),
    "not a number": (body(b"", "503 Busy", "Retry-After: NaN"), "said 503"),
    "escapes": (body(ESCAPES.encode(), "500 Oops"), r"said 500: \\x1b\]0;owned\\x07"),
    "long": (body(b"x" * 1_000_000, "500 Oops"), "said 500: xxx"),
    "gateway": (body(b"<html>", "502 Bad Gateway"), "said 502"),
    "of a proxy": (body(b"", "520 Unknown"), "said 520"),
    "gone at once": (raw(b""), "cannot be reached"),
    "reset": (raw(b"RESET"), "cannot be reached"),
    "gone amid the head": (raw("HTTP/1.1 200 OK\r\nContent-Le"), "cannot be reached"),
    "gone amid the body": (lambda seed: http(answer(seed))[:-20], "cannot be reached"),
    "gone amid a chunk": (
        raw('HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\n{"cho'),
        "cannot be reached",
    ),
    "a chunk without a length": (raw("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}"), "cannot be"),
    "not http": (raw("SSH-2.0-OpenSSH_9.2\r\n"), "cannot be reached"),
    "http of the future": (raw("HTTP/9.9 200 OK\r\n\r\n{}"), "choices"),
    "a negative length": (raw("HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n{}"), "cannot be reached"),
    "two lengths": (raw("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{} "), "cannot be"),
    "an endless head": (raw("HTTP/1.1 200 OK\r\nX: " + "x" * 200_000), "cannot be reached"),
    "no status": (raw("HTTP/1.1 OK\r\n\r\n"), "cannot be reached"),
    "too long": (lambda seed: http(b" " * (2**24 + 1)), "longer than"),
    "endless": (raw(b"ENDLESS"), "longer than"),
    "stalled": (raw(b"STALLED"), "not answered after"),
    "trickling": (raw(b"TRICKLING"), "not answered after"),
}

# told at once, without asking again
AT_ONCE = {
    "bad request": (body(f"your prompt {ESCAPES}".encode(), "400 Bad Request"), "said 400: your prompt"),
    "the key": (body(b"", "401 Unauthorized"), "must accept the API key"),
    "forbidden": (body(b"", "403 Forbidden"), "must accept the API key"),
    "not found": (body(b"", "404 Not Found"), "said 404"),
    "a teapot": (body(b"", "418 I'm a teapot"), "said 418"),
    "not made": (body(b"", "501 Not Implemented"), "said 501"),
    "moved": (
        body(b"", "301 Moved", "Location: http://elsewhere:1/v1"),
        "on to http://elsewhere:1/v1, .*not followed",
    ),
    "found": (body(b"", "302 Found", "Location: http://u:secret-word@elsewhere:1/?k=v"), "on to http://...@elsewhere"),
    "see other": (body(b"", "303 See Other", "Location: /v1/models"), "on to /v1/models"),
    "sent on": (body(b"", "307 Temporary Redirect", "Location: http://elsewhere:1"), "not followed"),
    "sent on for good": (body(b"", "308 Permanent Redirect", "Location: /v1/completions"), "not followed"),
    "sent nowhere": (body(b"", "302 Found"), "on to nowhere"),
    "not modified": (raw("HTTP/1.1 304 Not Modified\r\n\r\n"), "not followed"),
}

# unusual, and an answer all the same
ANSWERS = {
    "an empty text": choice(text=""),
    "escapes": choice(text=ESCAPES),
    "half a character": choice(text="\ud83d"),
    "no tokens": usage(0),
    "more fields": lambda seed: http(answer(seed, error=None, extra={"a": [1]})),
    "two choices": lambda seed: http(answer(seed, choices=answer(seed)["choices"] * 2)),
    "chunks": lambda seed: (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        + b"".join(b"1\r\n%c\r\n" % byte for byte in json.dumps(answer(seed)).encode())
        + b"0\r\n\r\n"
    ),
    "early hints": lambda seed: b"HTTP/1.1 103 Early Hints\r\n\r\n" * 5 + http(answer(seed)),
    "until it closes": lambda seed: b"HTTP/1.1 200 OK\r\n\r\n" + json.dumps(answer(seed)).encode(),
    "created": lambda seed: http(answer(seed), "201 Created"),
}

MODES = {name: reply for table in (AGAIN, AT_ONCE) for name, (reply, _) in table.items()}
MODES |= {f"answer: {name}": reply for name, reply in ANSWERS.items()}


class HostileServer(socketserver.ThreadingTCPServer):
    """Answers as `mode_of`, given the seed of a request, says; `None` is a good answer."""

    daemon_threads = allow_reuse_address = True
    request_queue_size = 256
    block_on_close = False

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.mode_of = lambda seed: None
        self.models = http({"data": [{"id": "policy", "owned_by": "vllm"}]})
        self.heads = []
        self.num_answered = 0


class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        try:
            while head := self.read_head():
                self.server.heads.append(head)
                if head.startswith("GET"):
                    self.wfile.write(self.server.models)
                    continue
                length = int(head.lower().split("content-length: ")[1].split("\r\n")[0])
                seed = json.loads(self.rfile.read(length))["seed"]
                mode = self.server.mode_of(seed)
                reply = http(answer(seed))
                if (
                    mode is not None
                ):  # the connection will be closed; were that not said, the next request would meet it
                    reply = MODES[mode](seed).replace(b"\r\n", b"\r\nConnection: close\r\n", 1)
                self.server.num_answered += mode is None
                if not self.act(reply) or mode is not None:
                    return
        except OSError:  # the client has had enough
            pass

    def read_head(self):
        lines = []
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            lines.append(line.decode())
        return "".join(lines)

    def act(self, reply):
        if reply == b"RESET":
            self.connection.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()
        elif reply == b"STALLED":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n")
            time.sleep(20)
        elif reply == b"TRICKLING":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 9999\r\n\r\n")
            for _ in range(400):
                self.wfile.write(b" ")
                time.sleep(0.05)
        elif reply == b"ENDLESS":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            while True:
                self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        else:
            self.wfile.write(reply)
            return True
        return False
