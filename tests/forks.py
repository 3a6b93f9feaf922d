"""
Programs in processes of their own, started at once: forks of a Python that has already imported torch, TRL and this
package, which alone takes longer than most of the runs that the tests start.

What a user types is started cold by some tests: the command, torchrun, accelerate, an example.
"""

import multiprocessing
import os
import runpy
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from multiprocessing.connection import Connection
from pathlib import Path

from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import prepare_deepspeed_cmd_env, prepare_multi_gpu_env


FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["trl.trainer.grpo_trainer", "nsr_trl.train", "nsr_trl.evaluation.runner"])
ON_A_CPU = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}


def _run(arguments: list[str], environment: dict[str, str], folder: str, stdout: Connection, stderr: Connection):
    """Does in a fork what `python` does with its arguments."""
    sys.stdout.flush()
    os.dup2(stdout.fileno(), 1)
    os.dup2(stderr.fileno(), 2)
    stdout.close()
    stderr.close()
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))
    os.chdir(folder)
    program, *sys.argv = arguments
    if program == "-m":
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.argv.insert(0, program)
        sys.path.insert(0, str(Path(program).parent))
        runpy.run_path(program, run_name="__main__")


class Fork:
    """A program in a fork, with what the tests use of `subprocess.Popen`: `Fork("-m", "nsr_trl", "tasks")`."""

    def __init__(self, *arguments: object, env: Mapping[str, str] = ON_A_CPU, cwd: object = ".", stderr=None):
        reader, writer = os.pipe()
        self.stdout = open(reader, encoding="utf-8")  # noqa: SIM115
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        ends = [Connection(fd, readable=False) for fd in (writer, os.dup((stderr or self._errors).fileno()))]
        given = list(map(str, arguments)), dict(os.environ | env), str(cwd), *ends
        self._process = FORKS.Process(target=_run, args=given, daemon=True)
        self._process.start()
        for end in ends:
            end.close()

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        if self.returncode is None:
            os.kill(self._process.pid, number)

    def communicate(self, timeout: float = 240) -> tuple[str, str]:
        """What it prints until it ends; after `timeout` seconds it is killed."""
        killer = threading.Timer(timeout, self._process.kill)
        killer.start()
        printed = self.stdout.read()
        self._process.join()
        killer.cancel()
        self._errors.seek(0)
        return printed, self._errors.read()


def start_cold(*arguments: object, env: Mapping[str, str] = ON_A_CPU, stderr=None) -> subprocess.Popen:
    """Starts a program as a user does, in a Python that has imported nothing."""
    command = [sys.executable, *map(str, arguments)]
    return subprocess.Popen(command, env=os.environ | env, stdout=subprocess.PIPE, stderr=stderr, text=True)


def run(*arguments: object, timeout: float = 240, **kwargs) -> tuple[str, str]:
    """Runs a program in a fork to its end, which must be a good one; returns what it printed, and its errors."""
    return _finish([Fork(*arguments, **kwargs)], timeout)


def run_ranks(*arguments: object, config: object = None, timeout: float = 240) -> tuple[str, str]:
    """Runs a program on two ranks, as torchrun does, or `accelerate launch` with the file `config`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    shared = ON_A_CPU | {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    if config is not None:
        shared |= accelerate_environment(config)
    ranks = [{"RANK": rank, "LOCAL_RANK": rank} for rank in "01"]
    return _finish([Fork(*arguments, env=shared | rank) for rank in ranks], timeout)


def _finish(forks: list[Fork], timeout: float) -> tuple[str, str]:
    """A rank that waits for another one for good is a failure, not a hang."""
    printed = [fork.communicate(timeout) for fork in forks]
    for fork, (_, errors) in zip(forks, printed, strict=True):
        assert fork.returncode == 0, errors[-4000:]
    out, errors = zip(*printed, strict=True)
    return "".join(out), "".join(errors)


class Worker(FORKS.Process):
    """A process of `multiprocessing` in a fork, with the environment of its start, as a spawned one has."""

    def start(self) -> None:
        self._environment = dict(os.environ)
        super().start()

    def run(self) -> None:
        os.environ.update(self._environment)
        super().run()


def accelerate_environment(config: object) -> dict[str, str]:
    """The variables that `accelerate launch` sets."""
    args = launch_command_parser().parse_args(["--config_file", str(config), "--main_process_port", "0", "script"])
    args, _, _ = _validate_launch_command(args)
    args.deepspeed_fields_from_accelerate_config = ""
    environment = prepare_deepspeed_cmd_env(args)[1] if args.use_deepspeed else prepare_multi_gpu_env(args)
    return {name: value for name, value in environment.items() if name.startswith(("ACCELERATE_", "FSDP_"))}
