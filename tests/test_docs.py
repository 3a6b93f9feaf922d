"""The documentation's lists are the code's, and its code runs."""

import ast
import doctest
import math
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from forks import run

from nsr_trl.config import SIGNED_FIELDS, SignedRewardConfig
from nsr_trl.evaluation.presets import PRESETS, Preset
from nsr_trl.evaluation.records import Sample
from nsr_trl.evaluation.viewer import SampleFilter
from nsr_trl.metrics import METRICS
from nsr_trl.objective import OBJECTIVE_NAMES, build_objective, rule_of
from nsr_trl.resources import shipped_names
from nsr_trl.rewards import UNDECIDED_METRICS
from nsr_trl.run.script import ScriptArguments
from nsr_trl.task import find_task, task_names
from nsr_trl.verifier import Reason, Rule


ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def first_column(path: Path) -> dict[str, str]:
    """Rows of all tables whose first cell is code: name -> second cell."""
    return dict(re.findall(r"^\| `([^`]+)`[^|]*\| ([^|]*?) \|", path.read_text(), re.MULTILINE))


def test_every_metric_is_documented_and_none_is_made_up():
    documented = {k: v for k, v in first_column(DOCS / "trainer.md").items() if k.startswith(("signed/", "cost/"))}
    assert documented.pop("signed/alarm/NAME")
    assert documented == METRICS


def test_every_reason_to_be_undecided_is_documented_as_a_metric():
    documented = [name for name in first_column(DOCS / "trainer.md") if name.startswith("verifier/")]
    assert documented == list(UNDECIDED_METRICS.values())


def test_every_objective_is_documented():
    assert set(first_column(DOCS / "objectives.md")) == set(OBJECTIVE_NAMES)


def test_the_share_of_completions_that_run_is_what_the_objectives_give():
    """Over groups of 8 with 0 to 8 right, one of each: 72 completions."""
    outcomes = torch.tensor([[1] * c + [-1] * (8 - c) for c in range(9)])
    rows = re.findall(r"^\| `(\w+)`.*\| (\d+)% \|", (DOCS / "objectives.md").read_text(), re.MULTILINE)
    assert len(rows) == len(OBJECTIVE_NAMES)
    for name, percent in rows:
        weights = rule_of(build_objective(name))(outcomes)
        assert round(100 * (weights != 0).float().mean().item()) == int(percent), name


def test_the_shares_by_pass_rate_are_what_the_objectives_give():
    """Completions of a group of 8 that carry a weight, c of them right with the chance of a binomial."""
    rows = re.findall(r"^\| (`.*?) \| (\d+%.*?) \|$", (DOCS / "performance.md").read_text(), re.MULTILINE)
    documented = {
        name: [int(share.strip(" %")) for share in shares.split("|")]
        for names, shares in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    assert documented.keys() == {*OBJECTIVE_NAMES}
    outcomes = torch.tensor([[1] * c + [-1] * (8 - c) for c in range(9)])
    for name, percents in documented.items():
        runs = (rule_of(build_objective(name))(outcomes) != 0).float().mean(1)
        for p, percent in zip((0.2, 0.6, 0.8, 0.95), percents, strict=True):
            chances = torch.tensor([math.comb(8, c) * p**c * (1 - p) ** (8 - c) for c in range(9)])
            assert round(100 * (chances * runs).sum().item()) == percent, name


def test_every_signed_field_is_mentioned():
    text = "".join((DOCS / f"{page}.md").read_text() for page in ("trainer", "objectives", "performance"))
    assert all(f"`{name}`" in text or f"{name}=" in text for name in SIGNED_FIELDS)


def test_every_task_is_documented_with_where_it_comes_from():
    def where(sources):
        return (
            ", ".join([f"`{sources[0].dataset}`", *filter(None, [sources[0].config, sources[0].split])])
            if sources
            else "-"
        )

    rows = re.findall(r"^\| `([\w-]+)` \| (.+) \| (.+) \|$", (DOCS / "tasks.md").read_text(), re.MULTILINE)
    tasks = {name: find_task(name) for name in task_names()}
    assert {name: (train, test) for name, train, test in rows if name in tasks} == {
        name: (where(task.train), where(task.test)) for name, task in tasks.items()
    }


def test_every_field_of_a_task_is_documented():
    from nsr_trl.data import Source
    from nsr_trl.task import _OWN_FIELDS, _PROMPTING_FIELDS

    text = (DOCS / "tasks.md").read_text()
    names = {*_OWN_FIELDS, *_PROMPTING_FIELDS, *(field.name for field in fields(Source)), "train", "test"}
    assert all(f"`{name}`" in text or f"{name}: " in text for name in names)


def test_every_preset_is_documented_with_its_values():
    rows = re.findall(
        r"^\| `([a-z0-9.-]+)` \| `(\w+)` \| (.+) \|$", (DOCS / "evaluation.md").read_text(), re.MULTILINE
    )
    documented = {}
    for name, template, values in rows:
        temperature, top_p, top_k, tokens, samples = (text.strip().replace(",", "") for text in values.split("|"))
        numbers = float(temperature), float(top_p), int(top_k or 0), int(tokens), int(samples)
        documented[name] = Preset(template, *numbers)
    assert documented == PRESETS


def test_every_rule_is_documented_with_its_outcome_and_meaning():
    text = (DOCS / "verifier.md").read_text()
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\w+) \| ([a-z -]+) \| (.+) \|$", text, re.MULTILINE)
    assert rows == [(str(rule), str(rule.outcome), str(rule.reason), rule.meaning) for rule in Rule]


def test_every_reason_is_documented():
    text = (DOCS / "verifier.md").read_text()
    assert all(f"`{reason}`" in text for reason in Reason)


@pytest.mark.parametrize("page", ["README.md", "docs/verifier.md", "docs/evaluation.md"])
def test_the_sessions_shown_are_what_one_sees(page):
    blocks = re.findall(r"```(?:pycon|python)\n(>>> .*?)```", (ROOT / page).read_text(), re.DOTALL)
    test = doctest.DocTestParser().get_doctest("\n".join(blocks), {}, page, page, 0)
    assert len(test.examples) >= 2
    assert doctest.DocTestRunner().run(test).failed == 0


def test_the_shipped_accelerate_configs_and_recipes_are_documented():
    assert set(shipped_names("accelerate_configs")) <= set(first_column(DOCS / "scale.md"))
    text = (DOCS / "recipes.md").read_text()
    assert all(part in text for name in shipped_names("recipes") for part in re.split(r"(?<=psr|nsr|rpo|rce)-", name))


def test_the_fields_of_the_script_are_documented():
    text = (DOCS / "recipes.md").read_text()
    assert all(f"`{field.name}`" in text for field in fields(ScriptArguments))


def test_what_a_sample_records_and_how_to_find_it_are_documented():
    recorded = re.search(r"^\| `samples.jsonl` \| .*", (DOCS / "evaluation.md").read_text(), re.MULTILINE)[0]
    assert set(re.findall(r"`(\w+)`", recorded)) == {field.name for field in fields(Sample)}
    filters = {f"--{field.name}" for field in fields(SampleFilter)} | {"--dataset"}
    assert {name for name in first_column(DOCS / "compare.md") if name.startswith("--")} == filters


def test_no_page_has_a_placeholder():
    pages = [*ROOT.glob("*.md"), *DOCS.glob("*.md"), *ROOT.glob("examples/**/*.md"), ROOT / "CITATION.cff"]
    placeholder = r"\b(REPOSITORY|OWNER|ORG|TODO|FIXME|TBD|XXX)\b|example\.(com|org)|your-(org|name)"
    assert {page.name: found for page in pages if (found := re.findall(placeholder, page.read_text()))} == {}


def test_the_versions_to_install_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    of_users = [line for name in extras.keys() - {"dev", "docs"} for line in extras[name]]
    bounds = re.findall(r"([\w-]+)(?:\[\w+\])?>=(\S+)", " ".join([*project["dependencies"], *of_users]))
    table = (DOCS / "install.md").read_text().partition("| Python |")[2]
    rows = re.findall(r"^\| ([\w-]+) \| ([^|]+) \| (\S+)", table, re.MULTILINE)
    needed = {(name.lower(), needs.replace(", below ", ",<")) for name, needs, _ in rows}
    assert needed == {*bounds, ("vllm", "what TRL drives"), ("deepspeed", "what TRL drives")}
    pins = (ROOT / "constraints.txt").read_text() + (ROOT / "tests" / "with_vllm" / "constraints.txt").read_text()
    pinned = [(name, version) for name, _, version in rows if version != "the"]  # newest
    assert len(pinned) == 5
    for name, version in pinned:
        assert re.search(rf"\b{name}(-cpu)?=={re.escape(version)}$", pins, re.MULTILINE | re.IGNORECASE), name
    listed = re.findall(r"^\| (`[\w`, -]+`) \|", (DOCS / "install.md").read_text(), re.MULTILINE)
    assert set(re.findall(r"`(.+?)`", " ".join(listed))) == set(extras)


@pytest.mark.parametrize("page", ["README.md", "docs/migrating.md"])
def test_the_diffs_are_programs_before_and_after_and_set_fields_that_exist(page):
    diffs = re.findall(r"```diff\n(.*?)```", (ROOT / page).read_text(), re.DOTALL)
    known = {field.name for field in fields(SignedRewardConfig)}
    assert diffs
    for diff in diffs:
        before, after = (
            ast.parse("\n".join(line[1:] for line in diff.splitlines() if not line.startswith(other)))
            for other in ("+", "-")
        )
        assert "GRPOConfig(" in ast.unparse(before)
        (config,) = (
            node
            for node in ast.walk(after)
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "SignedRewardConfig"
        )
        assert {keyword.arg for keyword in config.keywords} <= known


@pytest.mark.processes
def test_the_first_example_runs(tmp_path):
    """The lines of the README that a newcomer copies, as they stand."""
    program = re.search(r"```python\n(from nsr_trl .+?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert len(program.splitlines()) <= 13
    (tmp_path / "first.py").write_text(program)
    printed, _ = run("first.py", cwd=tmp_path)
    correct = [float(share) for share in re.findall(r"^step \d0/40  correct ([\d.]+)%", printed, re.MULTILINE)]
    assert len(correct) == 4
    assert correct[-1] > correct[0] + 3  # ten points are usual; the share of 640 completions errs by 1.5
    assert "{'" not in printed  # lines that a person reads
    assert (tmp_path / "out" / "checkpoint-40" / "model.safetensors").exists()


def test_links_between_documents_lead_somewhere():
    for page in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
