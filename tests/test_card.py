"""The card says what it was given, and nothing else."""

from dataclasses import replace

import pytest
from huggingface_hub import ModelCard

from nsr_trl.card import CardFacts, build_card


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


def test_a_card_shows_the_evaluation_and_the_figure_it_was_given():
    text = str(build_card(replace(FACTS, evaluation="pass@1  50.0", figure="pass_at_k.png")))
    assert "pass@1  50.0" in text
    assert "![Pass@k](pass_at_k.png)" in text


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
