"""The wheel, built from the sdist, holds what the repository does."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest


pytestmark = pytest.mark.processes


ROOT = Path(__file__).parent.parent


def test_the_wheel_holds_every_file_of_the_package(tmp_path):
    pytest.importorskip("build")
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", str(tmp_path), str(ROOT)],  # the wheel from the sdist, as released
        check=True,
        capture_output=True,
        timeout=240,
    )
    (wheel,) = tmp_path.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("nsr_trl/")}
    tracked = subprocess.run(["git", "ls-files", "nsr_trl"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert packed == set(tracked.stdout.split())
    data = {"py.typed", "quickstart/model/model.safetensors", "templates/viewer.html"}
    assert {f"nsr_trl/{name}" for name in data} <= packed
