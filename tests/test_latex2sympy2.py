"""The parser `latex2sympy2`, in an environment of its own: pip refuses it beside math-verify."""

import subprocess
import sys
from pathlib import Path

import pytest

import nsr_trl


PROGRAM = r"""
import sys

import sympy

from nsr_trl.verifier.symbolic import compare_symbolic

for answer, gold in [
    (r"\frac{1}{\tan x}", r"\cot x"),
    (r"\sqrt{24\sqrt{2} + 41}", r"3 + 4\sqrt2"),
    (r"2 \sin 4x \cos x", r"2 \sin 5x \cos x"),
    (r"X \sin y", r"x \sin y"),
    (r"\frac{\sin x}{x}", r"\frac{\sin 5}{5}"),  # after an assignment, x would stay 5
]:
    print(compare_symbolic(answer, gold, parser="latex2sympy2")[0])
    latex2sympy2 = sys.modules["latex2sympy2"]
    latex2sympy2.set_variances({sympy.Symbol("x"): sympy.Integer(5)})
    latex2sympy2.VARIABLE_VALUES = {"x": 5}
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory):
    folder = tmp_path_factory.mktemp("latex2sympy2")
    python = folder / "bin" / "python"
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    commands = [
        [sys.executable, "-m", "venv", folder],
        [*pip, "sympy", "antlr4-python3-runtime==4.9.3"],
        [*pip, "--no-deps", "latex2sympy2==1.9.1"],  # it pins antlr 4.7.2, but runs with 4.9.3
    ]
    for command in commands:
        result = subprocess.run(command, capture_output=True, text=True)
        if result.returncode:
            pytest.skip(f"latex2sympy2 cannot be installed here: {result.stderr.strip()[-200:]}")
    return python


@pytest.mark.processes
@pytest.mark.slow
def test_latex2sympy2_decides_as_the_default_parser_does_and_carries_nothing_over(python):
    environment = {"PYTHONPATH": str(Path(nsr_trl.__file__).parents[1])}
    result = subprocess.run([python, "-c", PROGRAM], capture_output=True, text=True, env=environment)
    assert result.stdout.split() == ["correct", "correct", "incorrect", "undecided", "incorrect"], result.stderr
