"""What `import nsr_trl` offers."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

import nsr_trl


def test_the_public_names_are_exactly_these():
    assert nsr_trl.__all__ == [
        "Evaluation",
        "Outcome",
        "Problem",
        "Reason",
        "SignedRewardConfig",
        "SignedRewardTrainer",
        "Verdict",
        "__version__",
        "evaluate",
        "load_problems",
        "math_reward",
        "pass_at_k",
        "register_objective",
        "to_dataset",
        "verify",
        "verify_batch",
    ]


@pytest.mark.parametrize("name", nsr_trl.__all__)
def test_every_public_name_loads_and_is_documented(name):
    value = getattr(nsr_trl, name)
    assert name == "__version__" or value.__doc__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'SignedTrainer'"):
        nsr_trl.SignedTrainer  # noqa: B018


@pytest.mark.processes
def test_importing_the_package_loads_nothing():
    code = "import sys, nsr_trl; print(len({'torch', 'trl', 'transformers', 'numpy', 'datasets'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "0"


def test_the_changelog_begins_with_this_version():
    changelog = (Path(__file__).parent.parent / "CHANGELOG.md").read_text()
    assert re.search(r"^## \[(.+?)\]", changelog, re.MULTILINE).group(1) == nsr_trl.__version__
