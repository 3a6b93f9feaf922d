"""No token, password or key is shown, stored or listed."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from nsr_trl.secrets import is_secret_name, pickled_without_secrets, without_secrets, words_without_secrets


@pytest.mark.parametrize(
    "name", ["token", "hub_token", "--hub_token", "--api-key", "api_key", "password", "client.secret"]
)
def test_these_names_hold_secrets(name):
    assert is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["pad_token_id", "max_tokens", "num_tokens", "keys", "monkey", "tokenizer", "--objective"]
)
def test_these_names_do_not(name):
    assert not is_secret_name(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:pw@host:8000/v1", "http://...@host:8000/v1"),
        ("https://oauth2@host/x", "https://...@host/x"),
        ('{"token": "abc", "revision": "main"}', '{"token": "...", "revision": "main"}'),
        ("{'hub_token': 'abc'}", "{'hub_token': '...'}"),
        ("http://host/?api_key=abc&x=1", "http://host/?api_key=...&x=1"),
        ("password: abc", "password: ..."),
        ("with hf_abcdefghij12345 inside", "with ... inside"),
        ("sk-abcdefghijklmnopqrstuvwx", "..."),
        ("nothing here: 2 tokens, mail a@b.c", "nothing here: 2 tokens, mail a@b.c"),
        ("pad_token=<pad>", "pad_token=..."),  # on the safe side
    ],
)
def test_a_text_is_shown_without_its_secrets(text, shown):
    assert without_secrets(text) == shown
    assert without_secrets(shown) == shown


def test_nested_settings_are_shown_without_their_secrets():
    settings = {"kwargs": {"token": "abc", "dtype": "auto"}, "urls": ["http://u:p@h"], "pair": ("sk-" + "a" * 20, 1)}
    assert without_secrets(settings) == {
        "kwargs": {"token": "...", "dtype": "auto"},
        "urls": ["http://...@h"],
        "pair": ("...", 1),
    }


def test_a_command_line_is_shown_without_its_secrets():
    words = ["--hub_token", "abc", "--wandb-key=abc", "--model_init_kwargs", '{"token": "abc"}', "--objective", "nsr"]
    assert words_without_secrets(words) == [
        "--hub_token",
        "...",
        "--wandb-key=...",
        "--model_init_kwargs",
        '{"token": "..."}',
        "--objective",
        "nsr",
    ]
    assert words_without_secrets(["--hub_token", "--objective", "nsr"]) == ["--hub_token", "--objective", "nsr"]


@dataclass
class Arguments:
    hub_token: str | None = "abc"
    model_init_kwargs: dict = field(default_factory=lambda: {"token": "abc", "dtype": "auto"})
    url: str = "http://u:abc@h"
    steps: int = 3


def test_what_is_pickled_has_no_secrets_and_the_same_class():
    arguments = Arguments()
    twin = pickled_without_secrets(arguments)
    assert twin.hub_token == arguments.hub_token == "abc"
    assert isinstance(twin, Arguments)
    data = pickle.dumps(twin, protocol=2)  # torch.save's
    assert b"abc" not in data
    loaded = pickle.loads(data)
    assert type(loaded) is Arguments
    assert (loaded.hub_token, loaded.url, loaded.steps) == (None, "http://...@h", 3)


@pytest.mark.processes
def test_secrets_leave_the_process_list_and_reach_the_program():
    program = "import json, sys; from nsr_trl import secrets as s; s.hide_from_process_list(sys.argv[1:], {0}); "
    program = program.format("[sys.executable, '-c', sys.orig_argv[2]]")
    program += "listed = open('/proc/self/cmdline').read() if sys.platform == 'linux' else ''; "
    program += "print(json.dumps([listed, sys.argv[1:], s.hidden_arguments()]))"
    given = ["--objective", "nsr", "--hub_token", "abcxyz", "--steps", "3", "--url=http://u:abcxyz@h"]
    environment = {name: value for name, value in os.environ.items() if "NSR_TRL" not in name}
    done = subprocess.run([sys.executable, "-c", program, *given], capture_output=True, text=True, env=environment)
    listed, shown, hidden = json.loads(done.stdout)
    assert "abcxyz" not in listed
    assert shown == ["--objective", "nsr", "--steps", "3"]
    assert hidden == ["--hub_token", "abcxyz", "--url=http://u:abcxyz@h"]


PLANTED = "planted0123456789"


def test_no_file_and_no_line_of_a_run_has_a_secret(make_trainer, tmp_path, caplog, capfd, monkeypatch):
    """Token, password and key, in fields, nested arguments, an address and the command line."""
    argv = ["/x/nsr_trl/train.py", "--hub_token", PLANTED, "--wandb_api_key=" + PLANTED, "--objective", "nsr"]
    argv += [
        "--model_init_kwargs",
        json.dumps({"token": PLANTED}),
        "--vllm_server_base_url",
        f"http://u:{PLANTED}@h:1",
    ]
    monkeypatch.setattr(sys, "argv", argv)
    trainer = make_trainer(
        hub_token=PLANTED,
        model_init_kwargs={"token": PLANTED},
        vllm_server_base_url=f"http://user:{PLANTED}@host:8000",
        report_to=["tensorboard"],
        save_strategy="steps",
        save_steps=1,
        log_completions=True,
        num_completions_to_print=0,
    )
    monkeypatch.setenv("TENSORBOARD_LOGGING_DIR", str(tmp_path / "tensorboard"))
    trainer.train()
    trainer.save_model()
    trainer.create_model_card()
    assert trainer.args.hub_token == PLANTED  # and pushing still works
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"README.md", "nsr_trl_run.json", "training_args.bin"} <= {path.name for path in files}
    assert any("tfevents" in path.name for path in files)
    assert [str(path) for path in files if PLANTED.encode() in path.read_bytes()] == []
    assert PLANTED not in caplog.text
    printed = capfd.readouterr()
    assert PLANTED not in printed.out + printed.err
    assert "--hub_token ..." in (tmp_path / "README.md").read_text()


def test_arguments_that_are_pushed_amid_a_training_have_no_secret(make_trainer, monkeypatch):
    trainer = make_trainer(hub_token=PLANTED)
    seen = []
    monkeypatch.setattr(
        "transformers.Trainer._push_from_checkpoint",
        lambda self, folder: seen.extend([self.args.hub_token, pickle.dumps(self.args)]),
    )
    trainer._push_from_checkpoint("checkpoint-1")
    token, stored = seen
    assert token == PLANTED  # what the upload itself needs
    assert PLANTED.encode() not in stored
    assert type(pickle.loads(stored)) is type(trainer.args)
