"""The command, run as a user runs it."""

import subprocess
import sys
import time

import pytest

import nsr_trl
from nsr_trl.cli import OBJECTIVES, main
from nsr_trl.objective import OBJECTIVE_NAMES


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "nsr_trl", *arguments], capture_output=True, text=True, timeout=120)


def test_help_answers_in_under_half_a_second():
    times = []
    for _ in range(3):
        start = time.perf_counter()
        done = run("--help")
        times.append(time.perf_counter() - start)
        assert done.returncode == 0
        assert "quickstart" in done.stdout
    assert min(times) < 0.5  # the best of three: a shared machine may stall one


def test_version_is_the_packages():
    assert run("--version").stdout.split() == ["nsr-trl", nsr_trl.__version__]


def test_help_loads_nothing_heavy():
    code = "import sys, nsr_trl.cli as c; c.build_parser(); print({'torch', 'trl', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_the_objectives_offered_are_those_of_the_table():
    assert OBJECTIVES == OBJECTIVE_NAMES


@pytest.mark.parametrize("arguments", [[], ["quickstrat"], ["quickstart", "--objective", "nrs"]])
def test_a_wrong_command_ends_with_its_sentence_and_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    assert capsys.readouterr().err.startswith("usage: nsr-trl")


def test_quickstart_never_overwrites_a_folder(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit) as ended:
        main(["quickstart", "--output-dir", str(tmp_path)])
    assert ended.value.code == 2
    assert "must be new or empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
