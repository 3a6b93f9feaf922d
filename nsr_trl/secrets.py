"""Tokens, passwords and keys: texts, settings and command lines come in, the same without them come out.

A secret is what stands under a name such as `hub_token`, `api_key` or `password`, the user and password in an address,
and what has the shape of a known kind of token, wherever it stands.
"""

import contextlib
import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn


HIDDEN = "..."
"""Replaces a secret."""

_NAME = r"(?:[\w.-]*[_.-])?(?:token|password|passwd|passphrase|secret|credentials?|key)"
_IS_SECRET_NAME = re.compile(rf"-*{_NAME}", re.IGNORECASE)
_PATTERNS = (
    # user:password@ or token@ in an address
    (re.compile(r"(?<=://)[^/@\s'\"]+(?=@)"), HIDDEN),
    # "token": "value", token=value, token: value
    (
        re.compile(rf"""(?i)(?<![\w-])(["']?{_NAME}["']?\s*[:=]\s*)(["']?)(?!\.\.\.)[^"'\s,;&}}\]]+\2"""),
        rf"\1\2{HIDDEN}\2",
    ),
    # Hugging Face, OpenAI and its kin, GitHub, GitLab, AWS
    (re.compile(r"\b(?:hf_\w{8,}|sk-[\w-]{16,}|gh[pousr]_\w{16,}|glpat-[\w-]{16,}|AKIA[0-9A-Z]{16})"), HIDDEN),
)

_ENVIRONMENT = "NSR_TRL_HIDDEN_ARGUMENTS"


def is_secret_name(name: str) -> bool:
    """Whether what stands under this name is a secret: `hub_token`, `--api-key`; not `pad_token_id`."""
    return _IS_SECRET_NAME.fullmatch(name) is not None


def without_secrets(value: Any) -> Any:
    """
    Takes the secrets out of a text, or out of the texts of nested dictionaries, lists and tuples.

    Args:
        value (`Any`):
            What is to be shown.

    Returns:
        The same with [`HIDDEN`] in the place of each secret; what is no text stays as it is.

    Example:
    ```python
    >>> without_secrets("vllm at http://me:pw@host:8000")
    'vllm at http://...@host:8000'
    >>> without_secrets({"model": "m", "token": "abc"})
    {'model': 'm', 'token': '...'}
    ```
    """
    if isinstance(value, str):
        for pattern, replacement in _PATTERNS:
            value = pattern.sub(replacement, value)
        return value
    if isinstance(value, Mapping):
        return {
            key: HIDDEN if item and isinstance(key, str) and is_secret_name(key) else without_secrets(item)
            for key, item in value.items()
        }
    if type(value) in (list, tuple):
        return type(value)(without_secrets(item) for item in value)
    return value


def words_without_secrets(words: Sequence[str]) -> list[str]:
    """Takes the secrets out of a command line: `--hub_token X`, `--hub_token=X`, and those within other words."""
    shown: list[str] = []
    hides_next = False
    for word in words:
        flag, equals, _ = word.partition("=")
        is_secret = word.startswith("-") and is_secret_name(flag)
        if hides_next and not word.startswith("--"):
            shown.append(HIDDEN)
        else:
            shown.append(f"{flag}={HIDDEN}" if is_secret and equals else without_secrets(word))
        hides_next = is_secret and not equals
    return shown


def hide_from_process_list(arguments: Sequence[str], program: Sequence[str]) -> None:
    """
    Starts the program anew, in the place of this process, with the arguments that hold secrets in its environment.

    Other users of a machine can read the command line of a process, and not its environment. Returns where there is
    nothing to hide.

    Args:
        arguments (`Sequence[str]`):
            Command line of the program.
        program (`Sequence[str]`):
            What precedes it: the interpreter and its own arguments.
    """
    shown: list[str] = []
    hidden: list[str] = []
    groups: list[list[str]] = []
    for word in arguments:  # a flag and its values
        if word.startswith("--") or not groups:
            groups.append([word])
        else:
            groups[-1].append(word)
    for group in groups:
        (shown if words_without_secrets(group) == group else hidden).extend(group)
    if hidden:
        os.environ[_ENVIRONMENT] = json.dumps(hidden)
        _replace_process([*program, *shown])


def hidden_arguments() -> list[str]:
    """The arguments that [`hide_from_process_list`] took from the command line."""
    return list(json.loads(os.environ.get(_ENVIRONMENT, "[]")))


def _replace_process(command: list[str]) -> NoReturn:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def pickled_without_secrets(settings: Any) -> Any:
    """
    A copy of an object that is pickled without its secrets, as an object of the same class.

    Args:
        settings (`Any`):
            An object with attributes, such as training arguments. It is left as it is.

    Returns:
        `Any`: an object with the same attributes, of a subclass
    """
    cls = type(settings)

    def reduce(self: Any, protocol: Any) -> tuple:
        state = {key: None if is_secret_name(key) else without_secrets(value) for key, value in vars(self).items()}
        return object.__new__, (cls,), state

    twin: Any = object.__new__(type(cls.__name__, (cls,), {"__reduce_ex__": reduce}))
    twin.__dict__.update(vars(settings))
    return twin


@contextlib.contextmanager
def stored_without_secrets(trainer: Any) -> Iterator[None]:
    """While transformers stores a trainer's arguments beside a model, which may be published, they are stored so."""
    args = trainer.args
    trainer.args = pickled_without_secrets(args)
    try:
        yield
    finally:
        trainer.args = args
