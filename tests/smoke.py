"""Installs a wheel or an sdist into a new environment and uses it from there: `python tests/smoke.py FILE`.

The new environment borrows the dependencies of this one by path, so that it takes seconds; the package itself comes
from FILE and nowhere else.
"""

import subprocess
import sys
import tempfile
import venv
from pathlib import Path


PROGRAM = r"""
import sys, time
started = time.process_time()
import nsr_trl
from nsr_trl.cli import build_parser
build_parser()
assert time.process_time() - started < 1, "importing the command takes a second of CPU time"
assert "torch" not in sys.modules
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
folder = Path(str(files(nsr_trl)))
assert folder.is_relative_to(sys.prefix), f"imported from {folder}"
assert version("nsr-trl") == nsr_trl.__version__
assert nsr_trl.verify(r"so $\boxed{\frac{1}{2}}$", "0.5").outcome == "correct"
assert nsr_trl.verify(r"so $\boxed{2\cos^2 x}$", r"1+\cos 2x").outcome == "correct"  # decided in a worker process
for name in sys.argv[1:]:
    assert (folder / name).is_file(), f"{name} is missing"
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(folder / "quickstart" / "model")
tokenizer = AutoTokenizer.from_pretrained(folder / "quickstart" / "model")
model.generate(**tokenizer("What is 1+2?", return_tensors="pt"), max_new_tokens=2)
for name in nsr_trl.__all__:
    getattr(nsr_trl, name)
"""


def main(file: str) -> None:
    """Raises where a step fails."""
    root = Path(__file__).parent.parent
    tracked = subprocess.run(["git", "ls-files", "nsr_trl"], cwd=root, capture_output=True, text=True, check=True)
    data = [name.removeprefix("nsr_trl/") for name in tracked.stdout.split() if not name.endswith(".py")]
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=False)
        python = f"{folder}/bin/python"
        site = subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True
        ).stdout.strip()
        borrowed = [path for path in sys.path if path.endswith("-packages")]
        Path(site, "borrowed.pth").write_text("\n".join(borrowed), encoding="utf-8")
        install = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet"]
        subprocess.run([*install, "--no-deps", "--ignore-installed", "--no-build-isolation", file], check=True)
        printed = subprocess.run([f"{folder}/bin/nsr-trl", "--version"], capture_output=True, text=True, check=True)
        subprocess.run([python, "-I", "-c", PROGRAM, *data], cwd=folder, check=True)
    print(f"{Path(file).name}: {printed.stdout.strip()} works, with {len(data)} data files")


if __name__ == "__main__":
    main(sys.argv[1])
