"""What a release consists of besides code agrees with the code, and its workflows call what exists."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

import nsr_trl
from nsr_trl.trainer import SignedRewardTrainer


ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def workflow(name):
    return yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())


def commands(jobs):
    """Every shell command of a workflow's jobs, once per row of their matrix."""
    for job in jobs.values():
        rows = job.get("strategy", {}).get("matrix", {}).get("include", [{}])
        for step in job["steps"]:
            for row in rows:
                yield re.sub(r"\$\{\{ matrix\.(\w+) \}\}", lambda key, row=row: row[key[1]], step.get("run", ""))


def make_targets(text):
    return set(re.findall(r"\bmake ([\w-]+)", text))


@pytest.mark.parametrize("path", [ROOT / ".ci" / "run", *WORKFLOWS], ids=lambda path: path.name)
def test_what_ci_makes_exists(path):
    text = "\n".join(commands(yaml.safe_load(path.read_text())["jobs"])) if path.suffix else path.read_text()
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert make_targets(text)
    assert make_targets(text) <= rules


def test_the_jobs_run_all_that_a_contributor_runs():
    assert make_targets((ROOT / ".ci" / "run").read_text()) <= make_targets(" ".join(commands(workflow("ci")["jobs"])))


def test_the_tests_run_on_every_python_that_is_promised():
    promised = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["classifiers"]))
    matrix = workflow("ci")["jobs"]["test"]["strategy"]["matrix"]
    assert matrix["python"] == promised
    assert f">={promised[0]}" == PROJECT["requires-python"]


def test_the_pinned_trl_is_the_oldest_that_is_supported():
    pinned = re.search(r"^trl==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[1]
    (supported,) = (d for d in PROJECT["dependencies"] if d.startswith("trl"))
    assert f"trl>={pinned.removesuffix('.0')},<2" == supported
    (upgraded,) = re.findall(r"--upgrade '(trl\S+)'", (ROOT / "Makefile").read_text())
    assert supported.endswith(upgraded.removeprefix("trl"))


def test_publishing_needs_no_token_and_builds_what_the_tag_names():
    jobs = workflow("publish")["jobs"]
    assert workflow("publish")["permissions"] == {}
    assert jobs["publish"]["permissions"] == {"id-token": "write"}
    (upload,) = (s for s in jobs["publish"]["steps"] if s["uses"].startswith("pypa/gh-action-pypi-publish@"))
    assert upload["with"] == {"attestations": True}
    assert any('"$GITHUB_REF_NAME" = "v$(' in command for command in commands(jobs | {"publish": {"steps": []}}))


def test_the_citation_names_this_version_and_the_paper_as_the_model_card_does():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert citation["version"] == nsr_trl.__version__
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in PROJECT["authors"]] == [author["name"] for author in citation["authors"]]
    (paper,) = citation["references"]
    assert paper["title"] == SignedRewardTrainer._paper["title"]
    assert paper["url"].endswith(SignedRewardTrainer._paper["id"])
    names = " and ".join(f"{author['given-names']} {author['family-names']}" for author in paper["authors"])
    assert names in SignedRewardTrainer._paper["citation"]


@pytest.mark.parametrize("form", ["bug", "feature"])
def test_an_issue_form_has_what_github_asks_of_it(form):
    body = yaml.safe_load((ROOT / ".github" / "ISSUE_TEMPLATE" / f"{form}.yml").read_text())
    assert body["name"]
    assert body["description"]
    ids = [field["id"] for field in body["body"]]
    assert len(set(ids)) == len(ids)
    assert all(field["attributes"]["label"] for field in body["body"])
