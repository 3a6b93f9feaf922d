"""The help of the command that trains: two screens, quickly, and it says what the classes say."""

import subprocess
import sys
from dataclasses import fields

import pytest
from trl import ModelConfig

from nsr_trl.config import SIGNED_FIELDS, SignedRewardConfig
from nsr_trl.resources import resource
from nsr_trl.run.help import OF_TRL, doctor_help, fields_of, train_help
from nsr_trl.run.script import ScriptArguments


@pytest.mark.parametrize("show", [train_help, doctor_help])
def test_the_help_is_two_screens_at_most(show):
    assert len(show(100).splitlines()) <= 2 * 56
    assert max(map(len, show(80).splitlines()[2:])) <= 100


@pytest.mark.processes
@pytest.mark.parametrize(("command", "flag"), [("train", "--dry-run"), ("doctor", "--sample N")])
def test_the_help_is_shown_without_torch_and_trl(command, flag):
    code = (
        "import sys, nsr_trl.cli as c\n"
        f"try: c.main(['{command}', '--help'])\n"
        "except SystemExit: print({'torch', 'trl', 'transformers', 'accelerate'} & set(sys.modules))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    assert out.splitlines()[-1] == "set()"
    assert flag in out


@pytest.mark.parametrize(
    ("path", "cls", "names"),
    [
        (("run", "script.py"), ScriptArguments, [field.name for field in fields(ScriptArguments)]),
        (("config.py",), SignedRewardConfig, list(SIGNED_FIELDS)),
    ],
)
def test_what_is_read_from_the_source_is_what_the_class_has(path, cls, names):
    lines = fields_of(resource(*path), cls.__name__)
    assert [line.name for line in lines] == names
    declared = cls.__dataclass_fields__
    for line in lines:
        assert line.help.split("...")[0] in declared[line.name].metadata["help"]
        assert line.help
    assert all(line.default == str(declared[line.name].default) for line in lines if "(" not in line.default)


def test_the_defaults_of_trls_fields_are_trls():
    declared = SignedRewardConfig.__dataclass_fields__ | ModelConfig.__dataclass_fields__
    for line in (line for group in OF_TRL.values() for line in group):
        default = getattr(declared[line.name].default, "value", declared[line.name].default)
        assert line.default == str(default), line.name
