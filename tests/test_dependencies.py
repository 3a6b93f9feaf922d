"""What the package imports is what it declares: it does not live on what its dependencies happen to bring."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import nsr_trl


PACKAGE = Path(nsr_trl.__file__).parent
PROJECT = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text())["project"]
# the names of modules that are not those of their distributions
MODULES = {"pyyaml": "yaml"}
# imported only where a user has them already
OF_THE_USER = {"latex2sympy2", "wandb"}
# TRL's `accuracy_reward`, which a user names, imports it
OF_TRL = {"math_verify"}


def modules_of(requirements: list[str]) -> set[str]:
    """The modules that requirements such as `trl[vllm]>=1.16,<2` bring under their own names, extras among them."""
    found = set()
    for requirement in requirements:
        name, extras = re.match(r"([\w.-]+)(?:\[(.+?)\])?", requirement).groups()
        name = name.lower()
        found.add(MODULES.get(name, name.replace("-", "_")))
        found |= set((extras or "").split(","))
    return found - {""}


def imported() -> dict[str, str]:
    """Top-level module -> a file that imports it, at any depth and under any condition."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            else:
                continue
            found |= {name.partition(".")[0]: str(path.relative_to(PACKAGE)) for name in names}
    return {name: path for name, path in found.items() if name not in sys.stdlib_module_names | {"nsr_trl"}}


def test_every_import_is_a_declared_dependency_or_an_extra():
    extras = PROJECT["optional-dependencies"]
    of_users = [requirement for name in extras.keys() - {"dev", "docs"} for requirement in extras[name]]
    declared = modules_of([*PROJECT["dependencies"], *of_users])
    assert {name: path for name, path in imported().items() if name not in declared | OF_THE_USER} == {}


def test_every_declared_dependency_is_imported():
    assert modules_of(PROJECT["dependencies"]) - OF_TRL <= imported().keys()
