"""Sums and counts, worked by hand, and their combination over micro-batches."""

import copy
import math

import pytest
import torch

from nsr_trl import metrics
from nsr_trl.metrics import (
    METRICS,
    PHASES,
    POLICY_METRICS,
    RATE,
    SURROGATE_METRICS,
    Ledger,
    allocation_metrics,
    correct_means,
    correction_metrics,
    cost_metrics,
    outcome_metrics,
    repetition,
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


def test_what_trl_notes_of_dummies_alone_is_not_averaged():
    metrics = {"entropy": [9.0, 0.5], "kl": [7.0, 0.1], "policy_loss": [3.0, 0.2]}
    counts = {"num_tokens": 0, "num_rows": 0, "num_places": 2}
    before = dict.fromkeys(metrics, 1)
    assert correct_means(metrics, before, **counts, is_sequence_level=False) == {}
    assert metrics["entropy"] == [9.0]
    assert metrics["kl"] == [7.0, pytest.approx(math.nan, nan_ok=True)]
    assert metrics["policy_loss"] == [3.0, 0.0]  # TRL means it over all micro-steps


def test_allocation_metrics_by_hand():
    outcomes = torch.tensor([[1, 1], [1, -1], [-1, 0]])  # rates 1, 1/2, 0
    scales = torch.tensor([4.0, 2.0, 1.0])  # the first two are drawn at 1/4 and 1/2 of the average chance
    assert ratios(allocation_metrics(outcomes, scales)) == pytest.approx(
        {
            "signed/allocation/correct_ratio": (4 * 1 + 2 * 0.5 + 1 * 0) / 7,
            "signed/allocation/held_back_ratio": 2 / 3,
            "signed/allocation/held_back_correct_ratio": (1 + 0.5) / 2,
        }
    )
    weights = torch.tensor([[1.0, 1.0], [1.0, -3.0], [0.0, 2.0]])  # mean squares 1, 5, 2
    assert ratios(unbiased_metrics(weights, scales)) == pytest.approx(
        {
            "signed/allocation/effective_prompts": (4 + 2 + 1) ** 2 / (16 + 4 + 1) / 3,
            # drawn alike 4 x 1 + 2 x 5 + 1 x 2 = 16, drawn so 16 x 1 + 4 x 5 + 1 x 2 = 38
            "cost/generation_saved": (16 - 38) / 16,
        }
    )


def test_repetition_counts_sequences_that_stood_before():
    # 1 2 3 4 1 2 3 4: of five sequences of four the last is the first; 5 to 8: one, which is new; three tokens: none
    again, num = repetition([[1, 2, 3, 4, 1, 2, 3, 4], [5, 6, 7, 8], [9, 9, 9]])
    assert (int(again), int(num)) == (1, 6)
    again, num = repetition([[7] * 300])  # the last 256: 253 sequences, all but one said before
    assert (int(again), int(num)) == (252, 253)
    assert int(repetition([[1, 2, 3, 4, 9, 2, 3, 4]])[0]) == 0  # 1 2 3 4 and 9 2 3 4 differ, in the first token alone
    assert repetition([[1, 2]])[1] == 0
    assert repetition([])[1] == 0


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


def test_a_ratio_at_the_bound_is_not_stopped():
    batch = worked_batch() | {"log_ratio": torch.zeros(3, 4)}
    found = ratios(token_metrics(**batch, epsilon_low=0.0, epsilon_high=0.0))
    assert found["signed/clip_ratio/correct"] == found["signed/clip_ratio/incorrect"] == 0


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


def test_a_ledger_divides_sums_by_counts_once_they_are_logged():
    ledger = Ledger()
    ledger.add("train", {"reward": (1.0, 2), "none": (3.0, 0)})
    ledger.add("train", {"reward": (2.0, 4)})
    ledger.add("eval", {"reward": (5.0, 1)})
    assert ledger.drain("train") == {"reward": 3 / 6}
    assert ledger.drain("train") == {}
    assert ledger.drain("eval") == {"reward": 5.0}
    assert ledger.of_training == {"reward": [3.0, 6.0], "none": [3.0, 0.0]}


def test_pending_sums_of_micro_steps_are_added_and_handed_over_once():
    ledger = Ledger()
    assert ledger.take_pending() is None
    ledger.pend(torch.tensor([[1.0, 2.0]]))
    ledger.pend(torch.tensor([[3.0, 4.0]]))
    assert ledger.take_pending().tolist() == [[4, 6]]
    assert ledger.take_pending() is None


def test_an_evaluation_that_is_forgotten_leaves_the_training():
    ledger = Ledger()
    for mode in ("train", "eval"):
        ledger.add(mode, {"reward": (1.0, 2)})
    ledger.forget("eval")
    assert ledger.drain("eval") == {}
    assert ledger.of_training == {"reward": [1.0, 2.0]}
    ledger.pend(torch.ones(1, 2))
    ledger.forget("train")
    assert (ledger.drain("train"), ledger.of_training, ledger.take_pending()) == ({}, {}, None)


def test_a_step_that_begins_anew_takes_back_its_counts_and_not_its_seconds():
    ledger = Ledger()
    ledger.add("train", {"reward": (1.0, 2), "cost/seconds/update": (3.0, 0)})
    counted = copy.deepcopy(ledger.state())
    ledger.add("train", {"reward": (9.0, 9), "new": (9.0, 9), "cost/seconds/update": (4.0, 0)})
    ledger.pend(torch.ones(1, 2))
    ledger.take_back(counted)
    assert ledger.of_training == {"reward": [1.0, 2.0], "cost/seconds/update": [7.0, 0.0]}
    assert ledger.drain("train") == {"reward": 0.5}
    assert ledger.take_pending() is None


def test_a_ledger_goes_on_from_its_state():
    ledger, resumed = Ledger(), Ledger()
    ledger.add("train", {"reward": (1.0, 2)})
    ledger.drain("train")
    ledger.add("train", {"reward": (2.0, 2)})
    resumed.load(ledger.state())
    assert resumed.drain("train") == {"reward": 2 / 2}
    assert resumed.of_training == {"reward": [3.0, 4.0]}


def test_the_seconds_of_a_phase_are_without_those_of_the_phases_inside_it(monkeypatch):
    # generation from 0 to 10, in it rewards from 1 to 4 and log-probs from 5 to 6; an evaluation takes 100
    clock = iter([0, 1, 4, 5, 6, 10, 20, 120])
    monkeypatch.setattr(metrics.time, "perf_counter", lambda: next(clock))
    ledger = Ledger()
    with ledger.timed("train", "generation"):
        for phase in ("rewards", "logps"):
            with ledger.timed("train", phase):
                pass
    with ledger.timed("eval", "generation"):
        pass
    assert ledger.of_training == {
        "cost/seconds/generation": [6, 0],
        "cost/seconds/rewards": [3, 0],
        "cost/seconds/logps": [1, 0],
        "cost/tokens_per_second/generation": [0, 6],
        "cost/tokens_per_second/step": [0, 10],
    }
    assert ledger.drain("eval") == {}
