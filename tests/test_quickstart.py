"""The quickstart, short in the default tests and whole among the slow ones."""

import json

import pandas as pd
import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from nsr_trl.dynamics import read_log
from nsr_trl.quickstart import run
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.run import OutputExistsError, run_quickstart


pytestmark = pytest.mark.processes


def test_a_short_quickstart_leaves_everything_it_promises(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run, "MAX_STEPS", 2)
    monkeypatch.setattr(run, "NUM_TEST_PROBLEMS", 8)
    monkeypatch.setattr(run, "NUM_SAMPLES", 8)
    out = tmp_path / "run"
    evaluations = run_quickstart("nsr", seed=1, output_dir=out)

    printed = capsys.readouterr().out
    assert "L_NSR" in printed
    assert "What to look at: Pass@1" in "".join(printed.splitlines(keepends=True)[:4])
    assert "Pass@8, one right of 8 tries" in printed
    assert "Pass@8" in printed
    for name in ("before", "after"):
        samples = [json.loads(line) for line in (out / "evaluation" / name / "samples.jsonl").read_text().splitlines()]
        assert len(samples) == 8 * 8
        num_correct = sum(sample["outcome"] == "correct" for sample in samples)
        assert num_correct == sum(evaluations[name].num_correct.values())
        assert 0 < num_correct < 64

    assert sum("signed/correct_ratio" in entry for entry in read_log(out)) == 2
    assert (out / "pass_at_k.png").read_bytes().startswith(b"\x89PNG")
    tables = [pd.read_parquet(path) for path in sorted(out.glob("completions/*.parquet"))]
    assert len(tables) == 2
    assert set(tables[0]["signed/weight"]) <= {0.0, -1.0}
    assert set(tables[0].loc[tables[0]["signed/outcome"] == "incorrect", "signed/weight"]) == {-1.0}

    trained, base = (AutoModelForCausalLM.from_pretrained(path).state_dict() for path in (out, model_path()))
    assert any((trained[name].float() != base[name].float()).any() for name in base)
    card = ModelCard.load(out / "README.md")
    assert "nsr" in card.data.tags
    assert f"{100 * evaluations['after'].pass_at_k[1].value:.1f}" in card.text
    assert "huggingface.co/model" not in card.text  # the local base has no page


def test_a_folder_with_files_is_refused_before_any_work(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(OutputExistsError, match="must be new or empty"):
        run_quickstart(output_dir=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_the_default_objective_raises_pass_at_1_beyond_its_interval(tmp_path, seed):
    evaluations = run_quickstart(seed=seed, output_dir=tmp_path / "run")
    before, after = (evaluations[name].pass_at_k for name in ("before", "after"))
    assert 0.25 <= before[1].value <= 0.60
    assert before[64].value > 0.90
    assert after[1].value > before[1].high
