"""
Changes one thing of a module at a time and runs its tests, which should notice: `make mutation`.

    python tests/mutation.py [MODULE ...] [--num-mutants 40] [--seed 0]

A mutant is a copy of the package with one comparison, operator, number, condition, result or call changed. Those that
no test notices are printed: a test is missing, or what changed makes no difference.
"""

import argparse
import ast
import os
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from copy import deepcopy
from importlib.util import cache_from_source
from pathlib import Path

from forks import FORKS


ROOT = Path(__file__).parent.parent
TESTS = {
    "objective": "objective family weighing",
    "compaction": "compaction compaction_facts dealing varlen",
    "metrics": "metrics",
    "evaluation/pass_at_k": "pass_at_k comparison",
    "verifier/verdict": "equivalence verify",
    "verifier/decision": "decision equivalence",
    "verifier/equivalence": "equivalence corpus generated_pairs",
    "verifier/extract": "extract rewards",
}
"""The tests of a module, quick ones: each mutant runs them to the first that fails."""
SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
NOT_RUN = ("annotation", "returns", "decorator_list", "type_params")


def changes(node: ast.AST) -> Iterator[ast.AST]:
    """What `node` may be changed into."""
    changed = deepcopy(node)
    match changed:
        case ast.Compare(ops=[op]) | ast.BoolOp(op=op) | ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in SWAPS:
            swapped = SWAPS[type(op)]()
            setattr(changed, *(("ops", [swapped]) if isinstance(changed, ast.Compare) else ("op", swapped)))
            yield changed
        case ast.UnaryOp(op=ast.Not() | ast.USub(), operand=operand):
            yield operand
        case ast.Constant(value=bool() as value):
            yield ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield ast.Constant(value + 1)
        case ast.If() | ast.IfExp() | ast.While():
            changed.test = ast.UnaryOp(ast.Not(), changed.test)
            yield changed
        case ast.Return(value=ast.expr() as value) if not (isinstance(value, ast.Constant) and value.value is None):
            yield ast.Return(ast.Constant(None))
        case ast.Expr(value=ast.Call()) | ast.Raise() | ast.Continue():
            yield ast.Pass()


def mutants(node: ast.AST) -> Iterator[tuple[ast.AST, str, int | None, ast.AST]]:
    """All changes of a module, each as (parent, field, index, changed node)."""
    for field, value in ast.iter_fields(node):
        for index, child in enumerate(value) if isinstance(value, list) else [(None, value)]:
            if not isinstance(child, ast.AST) or field in NOT_RUN:
                continue
            yield from ((node, field, index, changed) for changed in changes(child))
            yield from mutants(child)


def write_mutant(tree: ast.Module, mutant: tuple[ast.AST, str, int | None, ast.AST], path: Path) -> str:
    """Writes the module with the change, and leaves `tree` as it was; returns the place, before and after."""
    parent, field, index, changed = mutant
    place, key = (vars(parent), field) if index is None else (getattr(parent, field), index)
    original, place[key] = place[key], changed
    path.write_text(ast.unparse(ast.fix_missing_locations(tree)))
    place[key] = original
    Path(cache_from_source(str(path))).unlink(missing_ok=True)
    before, after = (ast.unparse(node).splitlines()[0] for node in (original, changed))
    return f"{original.lineno}:{original.col_offset}: {before}  ->  {after}"


def run_tests(package: Path, names: str) -> None:
    """Runs test files against the package in a folder, up to the first that fails."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    os.environ["PYTHONPATH"] = str(package)
    sys.path.insert(0, str(package))
    import pytest

    files = [str(ROOT / "tests" / f"test_{name}.py") for name in names.split()]
    sys.exit(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", "--timeout", "60", *files]))


def survives(package: Path, names: str, seconds: float) -> bool:
    process = FORKS.Process(target=run_tests, args=(package, names))
    process.start()
    process.join(seconds)
    process.kill()
    process.join()
    return process.exitcode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"some of {', '.join(TESTS)}; else all")
    parser.add_argument("--num-mutants", type=int, default=40, help="of each module at most")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--seconds", type=float, default=180, help="for the tests of a mutant")
    options = parser.parse_args()
    FORKS.set_forkserver_preload(["trl.trainer.grpo_trainer", "pytest", "hypothesis", "sympy"])  # not the package
    for module in options.modules or TESTS:
        with tempfile.TemporaryDirectory() as folder:
            shutil.copytree(ROOT / "nsr_trl", Path(folder) / "nsr_trl")
            path = Path(folder) / "nsr_trl" / f"{module}.py"
            assert survives(Path(folder), TESTS[module], options.seconds), f"the tests of {module} must pass"
            tree = ast.parse(path.read_text())
            every = list(mutants(tree))
            sample = random.Random(options.seed).sample(every, min(options.num_mutants, len(every)))
            told = []
            for mutant in sample:
                line = write_mutant(tree, mutant, path)
                if survives(Path(folder), TESTS[module], options.seconds):
                    told.append(line)
                    print(f"  nsr_trl/{module}.py:{line}", flush=True)
            print(f"{module}: {len(sample) - len(told)} of {len(sample)} mutants killed, of {len(every)}", flush=True)


if __name__ == "__main__":
    main()
