"""What holds for every source file of the package."""

import ast
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import nsr_trl


PACKAGE = Path(nsr_trl.__file__).parent
FORBIDDEN_CALLS = {"eval", "exec", "parse_expr", "sympify"}


def called_names(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.func.id
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr != "eval":
            yield node.func.attr  # `model.eval()` is no evaluation of text


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_module_turns_text_into_code(path):
    assert FORBIDDEN_CALLS.isdisjoint(called_names(ast.parse(path.read_text(encoding="utf-8"))))


@pytest.mark.processes
@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("nsr_trl.verifier", ["torch", "trl", "transformers", "datasets", "sympy", "numpy"]),
        ("nsr_trl.evaluation.pass_at_k", ["torch", "trl", "transformers", "datasets", "matplotlib"]),
        ("nsr_trl.evaluation.records", ["torch", "trl", "transformers", "datasets", "numpy"]),
        ("nsr_trl.evaluation.series", ["torch", "trl", "transformers", "datasets"]),
        ("nsr_trl.dynamics", ["torch", "trl", "transformers", "datasets"]),
        ("nsr_trl.data", ["trl"]),
    ],
)
def test_importing_a_module_loads_nothing_heavier_than_it_needs(module, unwanted):
    program = f"import sys, {module}; print(*(set({unwanted}) & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.split() == []


def test_no_two_test_files_share_a_name():
    """Pytest imports them all into one process, the second of a name as the first."""
    names = Counter(path.name for path in Path(__file__).parent.rglob("test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []
