"""The card says what it was given, and nothing else."""

from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from nsr_trl.card import CardFacts, build_card
from nsr_trl.evaluation.comparison import compare
from nsr_trl.evaluation.results import Evaluation, estimate_pass_at_k


FACTS = CardFacts(
    model_name="arithmetic-nsr",
    objective="nsr",
    formula="L_NSR",
    is_signed=True,
    citation="@inproceedings{zhu2025surprising}",
    tags=("trl", "nsr-trl", "nsr"),
)


def test_a_card_has_no_section_without_facts():
    text = str(build_card(FACTS))
    assert "`nsr`: minimises L_NSR" in text
    assert "## Evaluation" not in text
    assert "None" not in text
    assert "![" not in text


def evaluation(*counts):
    """An evaluation of one problem per count, 4 samples each."""
    num_correct = {f"problem {i}": count for i, count in enumerate(counts)}
    return Evaluation(4, num_correct, 0, 9.0, 0.0, estimate_pass_at_k(4, num_correct, (1, 4)))


def test_a_card_shows_what_it_was_given():
    comparison = compare(evaluation(1, 1), evaluation(3, 4), base_name="before", run_name="after", dataset="math")
    given = replace(
        FACTS,
        comparisons=(comparison,),
        evaluations={"amc23": evaluation(2, 2)},
        figure="pass_at_k.png",
        dynamics="training_dynamics.png",
        trained={"completions sampled": "8"},
        command="nsr-trl train --config nsr-qwen3-4b",
    )
    text = str(build_card(given))
    assert "### math\n\n|  | before | after | after - before | p | verdict |" in text
    assert "| Pass@1 | 25.0 [25.0, 25.0] | 87.5 [75.0, 100.0] |" in text
    assert "### amc23" in text
    assert "![Pass@k](pass_at_k.png)" in text
    assert "![Training dynamics](training_dynamics.png)" in text
    assert "| completions sampled | 8 |" in text
    assert "```bash\nnsr-trl train --config nsr-qwen3-4b\n```" in text


def test_the_hub_is_told_the_scores_of_the_trained_model():
    comparison = compare(evaluation(1, 1), evaluation(3, 4), base_name="before", run_name="after", dataset="math")
    given = replace(FACTS, comparisons=(comparison,), evaluations={"math": evaluation(3, 4)})
    data = ModelCard(str(build_card(given))).data
    scores = {(result.dataset_name, result.metric_type): result.metric_value for result in data.eval_results}
    assert scores == {("math", "pass@1"): 87.5, ("math", "pass@4"): 100.0}  # (3/4 + 4/4) / 2


@pytest.mark.parametrize(
    ("base", "link"),
    [
        ({"local_base": "checkpoint-3"}, "`checkpoint-3`"),
        ({"base_model": "Qwen/Qwen3-4B"}, "huggingface.co/Qwen/Qwen3-4B"),
    ],
)
def test_a_local_base_has_no_link_and_a_hub_base_has_one(base, link):
    text = str(build_card(replace(FACTS, **base)))
    assert link in text
    assert ("huggingface.co/checkpoint-3" in text) is False


def test_the_metadata_is_what_the_hub_reads():
    data = ModelCard(str(build_card(replace(FACTS, base_model="Qwen/Qwen3-4B", dataset_name="org/data")))).data
    assert data.base_model == "Qwen/Qwen3-4B"
    assert data.datasets == "org/data"
    assert {"trl", "nsr-trl", "nsr"} <= set(data.tags)


def test_grpo_is_not_called_signed():
    text = str(build_card(replace(FACTS, objective="grpo", is_signed=False)))
    assert "group-relative" in text
    assert "signed weight" not in text


def test_a_weight_that_reads_the_group_is_not_called_a_sign():
    card = str(build_card(replace(FACTS, objective="maxrl", formula="MaxRL", reads_group=True)))
    assert "a function of its verified answer and\nof how many completions of its prompt are right: MaxRL." in card
    assert "never normalised" not in card
