"""Each layer imports only lower ones, and the lowest ones no heavy library."""

import ast
import re
import sys
from pathlib import Path

import pytest

import nsr_trl


ROOT = Path(nsr_trl.__file__).parent

# lowest first: the rows of the table in docs/architecture.md, each of one or several steps
TABLE: dict[str, tuple[tuple[str, ...], ...]] = {
    "words": (("choices", "checks"),),
    "plain Python": (
        (
            "verifier.*",
            "evaluation.pass_at_k",
            "evaluation.presets",
            "evaluation.records",
            "evaluation.results",
            "evaluation.comparison",
            "evaluation.matching",
            "evaluation.runs",
            "evaluation.visible",
            "quickstart.problems",
            "problem",
            "prompts",
            "run.first_look",
            "run.memory",
            "resources",
            "secrets",
            "decoration",
            "trl_surface",
        ),
    ),
    "tensors": (
        # not each other
        ("family", "alarms", "allocation", "auxiliary", "budget", "metrics", "compaction", "outcome_reward"),
        ("rollout",),
        # the names of the formulas, and which of them is in force
        ("objective",),
        ("controllers",),
    ),
    "the study": (("study.world", "study.summary"), ("study.policy", "study.report"), ("study.training",)),
    "adapters": (
        (
            "config",
            "data",
            "rewards",
            "settings_file",
            "card",
            "checkpoints",
            "stopping",
            "dealing",
            "gradients",
            "varlen",
            "served_model",
            "evaluation.judges",
            "evaluation.samplers",
            "evaluation.tally",
            "evaluation.plots",
            "evaluation.completions",
            "quickstart.model",
            "run.help",
        ),
        # what reads files of settings
        ("run.recipe",),
        # the samplers that stand on the protocol of another one
        ("evaluation.vllm_sampler", "evaluation.endpoint_sampler", "evaluation.workers", "evaluation.viewer"),
        ("evaluation.engines", "evaluation.series"),
    ),
    "assemblies": (
        ("dynamics", "reasoning_gym", "reward_functions", "weighing", "evaluation.matched"),
        ("run_card", "task"),
        ("run.script",),
        ("trainer", "evaluation.runner", "evaluation.merge", "grading", "run.arguments", "run.schedule"),
        ("evaluation.exchange",),
    ),
    "a run before it starts": (("run.costs",), ("run.dry_run", "run.preflight"), ("run.launch", "run.doctor")),
    "doors": (
        ("training_log", "study.figures"),
        ("quickstart.run", "study.run", "train"),
        # the command, which imports inside the chosen command
        ("commands.tasks", "commands.numbers"),
        ("commands.*",),
        ("cli",),
        ("__main__",),
    ),
}
LAYERS = tuple(step for steps in TABLE.values() for step in steps)

FOREIGN: dict[int, set[str]] = {
    0: set(),
    1: {"numpy", "tqdm", "sympy", "latex2sympy2", "latex2sympy2_extended", "transformers"},
    2: {"torch"},
    3: {"torch"},
    4: {"torch"},
    5: {"torch"},
}


def modules() -> dict[str, Path]:
    """Module name, without the package's, to file; package `__init__` files only gather names and are left out."""
    files = [path for path in ROOT.rglob("*.py") if path.name != "__init__.py"]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in files}


def layer_of(name: str) -> int:
    for layer, patterns in enumerate(LAYERS):
        if any(name == p or (p.endswith(".*") and (name + ".").startswith(p[:-1])) for p in patterns):
            return layer
    raise AssertionError(f"nsr_trl.{name} stands in no layer: add it to LAYERS")


def imports(name: str) -> tuple[set[str], set[str]]:
    """(modules of this package, foreign top-level packages) that a module imports, at any depth."""
    own, foreign = set(), set()
    package = ["nsr_trl", *name.split(".")[:-1]]
    for node in ast.walk(ast.parse(modules()[name].read_text())):
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) + 1 - node.level] if node.level else []
            target = ".".join([*base, *([node.module] if node.module else [])])
            # `from . import x` and `from .package import module` name modules too
            targets = [f"{target}.{alias.name}" if target == "nsr_trl" else target for alias in node.names]
        else:
            continue
        for target in targets:
            top, _, rest = target.partition(".")
            if top != "nsr_trl":
                foreign.add(top)
            elif rest and not rest.startswith("__"):
                own.add(rest)
    return own, foreign - set(sys.stdlib_module_names)


@pytest.mark.parametrize("name", sorted(modules()))
def test_a_module_imports_only_lower_layers(name):
    own, foreign = imports(name)
    layer = layer_of(name)
    for other in own:
        within_package = layer == 1 and other.split(".")[0] == name.split(".")[0]
        assert layer_of(other) < layer or within_package, f"{name} imports {other}"
    if layer in FOREIGN:
        assert foreign <= FOREIGN[layer]


def test_the_layers_name_only_modules_that_exist():
    names = modules()
    for pattern in (p for layer in LAYERS for p in layer):
        assert any(layer_of(name) >= 0 and (name == pattern or name.startswith(pattern.rstrip("*"))) for name in names)


def test_the_architecture_page_and_the_readme_show_these_layers_and_modules():
    page = (ROOT.parent / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| \*\*(.+)\*\* \| (.+?) \|", page, re.MULTILINE)
    shown = {name: tuple(tuple(re.findall(r"`(.+?)`", step)) for step in cell.split("<br>")) for name, cell in rows}
    assert list(shown.items()) == list(TABLE.items())[::-1]
    tree = re.search(r"```\nnsr_trl/\n(.+?)```", (ROOT.parent / "README.md").read_text(), re.DOTALL)[1]
    at_the_top = {name for name in modules() if "." not in name} - {"__main__"}
    assert {name for name in at_the_top if f"{name}.py" not in tree} == set()


def test_only_the_trainer_touches_trls_private_surface():
    for name, path in modules().items():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trl."):
                assert name == "trainer", f"{name} imports {node.module}"
