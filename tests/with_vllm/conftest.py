"""What the tests with vLLM share: its settings for a machine without a GPU, and a server."""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path


os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", "1")  # GB
os.environ["CUDA_VISIBLE_DEVICES"] = ""


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


@contextmanager
def vllm_serve(log: Path, model: str, *flags: str, **environment: str):
    """Runs `vllm serve` and yields its address once it is up."""
    port = free_port()
    command = [str(Path(sys.executable).with_name("vllm")), "serve", model, "--host", "127.0.0.1", "--port", str(port)]
    with log.open("w") as output:
        server = subprocess.Popen([*command, *flags], stdout=output, stderr=output, env=os.environ | environment)
        try:
            deadline = time.monotonic() + 200
            while not is_up(f"http://127.0.0.1:{port}/health"):
                ended = server.poll() is not None or time.monotonic() > deadline
                assert not ended, log.read_text()[-4000:]
                time.sleep(0.5)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            try:
                server.wait(30)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def is_up(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as reply:
            return reply.status == 200
    except (urllib.error.URLError, OSError):
        return False
