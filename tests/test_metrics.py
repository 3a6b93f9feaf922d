"""Sums and counts, worked by hand, and their combination over micro-batches."""

import math

import pytest
import torch

from nsr_trl.metrics import (
    METRICS,
    PHASES,
    POLICY_METRICS,
    RATE,
    SURROGATE_METRICS,
    allocation_metrics,
    correct_means,
    correction_metrics,
    cost_metrics,
    outcome_metrics,
    sampling_metrics,
    sampling_values,
    token_metrics,
    unbiased_metrics,
)


def ratios(sums):
    return {name: float(total) / float(count) for name, (total, count) in sums.items() if count}


def test_outcome_metrics_by_hand():
    outcomes = torch.tensor([[1, 1], [1, -1], [-1, 0]])
    lengths = torch.tensor([[2, 4], [6, 8], [10, 99]])
    assert ratios(outcome_metrics(outcomes, lengths)) == {
        "signed/correct_ratio": 3 / 6,
        "signed/incorrect_ratio": 2 / 6,
        "signed/undecided_ratio": 1 / 6,
        "signed/groups_solved": 1 / 3,
        "signed/groups_solved_once": 2 / 3,
        "signed/groups_unsolved": 1 / 3,
        "signed/length/correct": (2 + 4 + 6) / 3,
        "signed/length/incorrect": (8 + 10) / 2,
    }


def test_correction_metrics_by_hand():
    outcomes, mask = torch.tensor([1, -1, -1, 0]), torch.tensor([[1, 1, 1], [1, 1, 0], [1, 0, 0], [1, 1, 1]])
    # per sequence, masked above 3: a ratio of 0
    of_sequences = torch.tensor([[0.9], [0.0], [2.9], [0.0]])
    assert ratios(correction_metrics(outcomes, mask, of_sequences, None, 3.0)) == {
        "signed/vllm_clip_ratio/correct": 0 / 3,
        "signed/vllm_clip_ratio/incorrect": 2 / 3,  # the two tokens of the second row
    }
    # per token, truncated to 0.5 and 2
    of_tokens = torch.tensor([[0.5, 1.0, 2.0], [1.0, 1.9, 2.0], [0.6, 2.0, 2.0], [2.0, 2.0, 2.0]])
    assert ratios(correction_metrics(outcomes, mask, of_tokens, 0.5, 2.0)) == {
        "signed/vllm_clip_ratio/correct": 2 / 3,
        "signed/vllm_clip_ratio/incorrect": 0 / 3,  # what is 2 there is padding
    }


def test_sampling_metrics_by_hand():
    nan = float("nan")
    old = torch.tensor([[-1.0, -2.0, -3.0], [0.0, 0.0, 0.0], [-1.0, -1.0, -1.0]])
    sampled = torch.tensor([[-1.5, -1.0, nan], [-9.0, -9.0, -9.0], [-1.0, nan, nan]])
    runs = torch.tensor([[1, 1, 1], [0, 0, 0], [1, 0, 0]])  # the second row does not; the third has one token
    of_tokens = torch.tensor([[1.5, 0.25, 1.0], [5.0, 5.0, 5.0], [0.75, 9.0, 9.0]])
    sums, largest = sampling_metrics(old, sampled, runs, of_tokens)
    assert ratios(sums) == {
        "sampling/importance_sampling_ratio/mean": (1.5 + 0.25 + 1.0 + 0.75) / 4,
        "sampling/sampling_logp_difference/mean": (0.5 + 1.0 + 0.0) / 3,  # without the token vLLM gave nothing for
    }
    assert largest.tolist() == [-0.25, 1.5, 1.0]
    sums, largest = sampling_metrics(old, sampled, runs, torch.tensor([[0.5], [5.0], [2.0]]))  # a ratio per row
    assert ratios(sums)["sampling/importance_sampling_ratio/mean"] == (0.5 + 2.0) / 2
    assert largest.tolist() == [-0.5, 2.0, 1.0]
    sums, largest = sampling_metrics(old, sampled, runs * 0, of_tokens)
    assert ratios(sums) == {}
    assert largest.tolist() == [-torch.inf] * 3


def test_sampling_values_are_of_all_ranks_and_nan_where_there_is_none():
    mean = "sampling/importance_sampling_ratio/mean"
    found = sampling_values({mean: (3.0, 4.0), "none": (0.0, 0.0)}, torch.tensor([-0.25, 1.5, -torch.inf]))
    assert math.isnan(found.pop("none"))
    assert math.isnan(found.pop("sampling/sampling_logp_difference/max"))
    assert found == {
        mean: 0.75,
        "sampling/importance_sampling_ratio/min": 0.25,
        "sampling/importance_sampling_ratio/max": 1.5,
    }


@pytest.mark.parametrize(("is_sequence_level", "clipped"), [(False, (0.1 * 6, 6)), (True, (0.1 * 3, 2))])
def test_means_of_trl_become_sums_over_what_ran(is_sequence_level, clipped):
    """6 tokens in 2 rows of 3 places. TRL's mean over rows is over places: 3 x 0.1 is the sum of 2 rows."""
    metrics = {"entropy": [9.0, 0.5], "clip_ratio/low_mean": [0.1], "vespo/phi_seq_mean": [0.2], "kl": [7.0]}
    counts = {"num_tokens": 6, "num_rows": 2, "num_places": 3}
    sums = correct_means(metrics, {"entropy": 1}, **counts, is_sequence_level=is_sequence_level)
    assert sums == {"entropy": (3.0, 6), "clip_ratio/low_mean": clipped, "vespo/phi_seq_mean": (0.2 * 3, 2)}
    assert metrics["entropy"] == [9.0]  # what was noted before this micro-batch stays, as does what is no mean of ours
    assert metrics["kl"] == [7.0]


def worked_batch():
    """3 rows of 4 tokens: correct, incorrect with one padding token, undecided."""
    rho = torch.tensor([[1.0, 1.5, 0.5, 1.1], [1.0, 1.5, 0.5, 1.0], [1.0, 1.0, 1.0, 1.0]])
    return {
        "outcomes": torch.tensor([1, -1, 0]),
        "weights": torch.tensor([0.1, -1.0, 0.0]),
        "mask": torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 1]]),
        "logps": torch.tensor([[-1.0, -2, -3, -4], [-1, -1, -4, torch.nan], [-9, -9, -9, -9]]),
        "entropies": torch.tensor([[1.0, 1, 2, 2], [3, 3, 0, torch.nan], [7, 7, 7, 7]]),
        "log_ratio": rho.log(),
    }


def test_token_metrics_by_hand():
    found = ratios(token_metrics(**worked_batch(), epsilon_low=0.2, epsilon_high=0.2))
    expected = {
        "signed/entropy/correct": (1 + 1 + 2 + 2) / 4,
        "signed/entropy/incorrect": (3 + 3 + 0) / 3,
        "signed/logp/correct": (-1 - 2 - 3 - 4) / 4,
        "signed/logp/incorrect": (-1 - 1 - 4) / 3,
        "signed/clip_ratio/correct": 1 / 4,  # rho = 1.5 is above 1.2
        "signed/clip_ratio/incorrect": 1 / 3,  # rho = 0.5 is below 0.8; 1.5 is not stopped for a negative weight
        # correct: 0.1 * (1 + 1.2 + 0.5 + 1.1) = 0.38; incorrect: 1 + 1.5 + 0.8 = 3.3
        "signed/loss_share/correct": 0.38 / 3.68,
        "signed/loss_share/incorrect": 3.3 / 3.68,
    }
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-6, atol=0)


def test_sums_over_micro_batches_equal_the_sum_over_the_batch():
    batch = worked_batch()
    whole = token_metrics(**batch, epsilon_low=0.2, epsilon_high=0.2)
    rows = [
        token_metrics(**{k: v[i : i + 1] for k, v in batch.items()}, epsilon_low=0.2, epsilon_high=0.2)
        for i in range(3)
    ]
    for name in whole:
        for part in (0, 1):
            torch.testing.assert_close(sum(row[name][part] for row in rows).float(), whole[name][part].float())


def test_a_sequence_level_ratio_counts_for_every_token():
    batch = worked_batch() | {"log_ratio": torch.tensor([[1.5], [0.5], [1.0]]).log()}
    found = ratios(token_metrics(**batch, epsilon_low=0.2, epsilon_high=0.2))
    assert found["signed/clip_ratio/correct"] == 1.0
    assert found["signed/clip_ratio/incorrect"] == 1.0


def test_a_batch_without_a_sign_reports_nothing_for_it():
    batch = {k: v[2:] for k, v in worked_batch().items()}
    assert ratios(token_metrics(**batch, epsilon_low=0.2, epsilon_high=0.2)) == {}


def test_cost_metrics_by_hand():
    steps = [None, torch.tensor([[0, 2], [1, -1]])]  # two ranks, one dummy
    lengths = torch.tensor([6, 8, 10, 12])
    found = ratios(cost_metrics(steps, lengths))
    # rank 0: rows of 6 and 10 tokens in 2 rows of 10; rank 1: a row of 8 and a dummy in 2 rows of 8
    shares = {"cost/rows": 3 / 4, "cost/tokens": 24 / 36, "cost/micro_steps": 1 / 2}
    assert found == shares | {"cost/padding": (20 + 16 - 24) / (20 + 16)}
    packed = ratios(cost_metrics(steps, lengths, is_packed=True))
    assert packed == shares | {"cost/padding": 0}


def test_the_list_of_metrics_is_what_the_code_reports():
    of_outcomes = outcome_metrics(torch.ones(1, 2), torch.ones(1, 2)).keys()
    of_tokens = token_metrics(**worked_batch(), epsilon_low=0.2, epsilon_high=0.2).keys()
    of_costs = cost_metrics([None], torch.ones(1)).keys()
    of_time = {f"cost/seconds/{phase}" for phase in PHASES}
    of_time |= {f"{RATE}{of}" for of in ("generation", "update", "step")}
    of_corrections = correction_metrics(torch.ones(1), torch.ones(1, 1), torch.ones(1, 1), None, None).keys()
    of_weighing = {f"signed/{name}" for name in ("positive_weight", "unmet_ratio", "auxiliary_share")}
    of_allocation = allocation_metrics(torch.ones(1, 2), torch.ones(1)).keys()
    of_allocation |= unbiased_metrics(torch.ones(1, 2), torch.ones(1)).keys()
    counted = of_outcomes | of_tokens | of_corrections | of_costs | of_time | of_weighing | of_allocation
    counted |= {"signed/repetition", "cost/tokens_per_microbatch"}
    assert counted == METRICS.keys()
    assert of_tokens == {*POLICY_METRICS, *SURROGATE_METRICS}
