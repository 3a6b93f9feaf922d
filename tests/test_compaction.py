"""The plan, by properties: every row that trains runs exactly once, and every rank runs in step."""

import itertools
import time
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from nsr_trl import compaction
from nsr_trl.compaction import (
    DUMMY,
    cheapest_sizes,
    cut_micro_batches,
    has_unsafe_width,
    logps_of_rows,
    make_plan,
    run_aligned,
    run_at_safe_width,
    run_unpadded,
    take_rows,
    token_shares,
)


@st.composite
def situations(draw):
    """Shapes of a run, and lengths and weights of its rows."""
    num_ranks, num_windows = draw(st.integers(1, 5)), draw(st.integers(1, 3))
    num_micro_steps = num_windows * draw(st.integers(1, 4))
    rows_per_micro_batch = draw(st.integers(1, 5))
    num_rows = num_ranks * num_micro_steps * rows_per_micro_batch
    numbers = st.lists(st.integers(1, 50), min_size=num_rows, max_size=num_rows)
    share = draw(st.sampled_from([0.0, 0.1, 0.5, 1.0]))
    kept = torch.rand(num_rows, generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))) < share
    shuffled = torch.randperm(num_rows, generator=torch.Generator().manual_seed(draw(st.integers(0, 99))))
    arguments = {
        "lengths": torch.tensor(draw(numbers)),
        "windows": shuffled // (num_rows // num_windows),
        "is_kept": kept,
        "num_ranks": num_ranks,
        "num_micro_steps": num_micro_steps,
        "num_windows": num_windows,
        "rows_per_micro_batch": rows_per_micro_batch,
        "max_tokens": draw(st.sampled_from([None, 1, 100, 100 * rows_per_micro_batch])),
        "is_packed": draw(st.booleans()),
        "fill_in_order": draw(st.booleans()),
    }
    return arguments


def windows_of(plan, arguments):
    slots = arguments["num_micro_steps"] // arguments["num_windows"]
    return [plan.micro_steps[i : i + slots] for i in range(0, arguments["num_micro_steps"], slots)]


@given(situations())
@settings(max_examples=300, deadline=None)
def test_a_plan_runs_every_kept_row_once_and_every_rank_in_step(arguments):
    plan = make_plan(**arguments)
    assert len(plan.micro_steps) == arguments["num_micro_steps"]
    ran = torch.cat([rows.flatten() for rows in plan.micro_steps if rows is not None] or [torch.tensor([], dtype=int)])
    real = ran[ran != DUMMY]
    assert sorted(real.tolist()) == arguments["is_kept"].nonzero().flatten().tolist()
    assert plan.num_kept == len(real)
    for rows in plan.micro_steps:
        if rows is not None:
            assert rows.shape[0] == arguments["num_ranks"]
    for window in windows_of(plan, arguments):
        runs = [rows is not None for rows in window]
        assert runs == sorted(runs)  # what runs is at the end, so the boundary of a window that has rows is real
        if not arguments["fill_in_order"]:
            assert runs[-1]
        is_empty = all((rows == DUMMY).all() for rows in window if rows is not None)
        assert sum(runs) <= 1 or not is_empty
        assert is_empty or all((rows != DUMMY).any() for rows in window if rows is not None)


@given(situations())
@settings(max_examples=200, deadline=None)
def test_no_micro_batch_exceeds_its_tokens_unless_the_slots_force_it(arguments):
    arguments["max_tokens"] = 50 * arguments["rows_per_micro_batch"]  # B rows of full length
    plan = make_plan(**arguments)
    for rows in (rows for step in plan.micro_steps if step is not None for rows in step):
        real = rows[rows != DUMMY]
        if len(real):
            lengths = arguments["lengths"][real]
            places = len(rows) * lengths.max()
            assert (lengths.sum() if arguments["is_packed"] else places) <= arguments["max_tokens"]


@given(situations())
@settings(max_examples=200, deadline=None)
def test_kept_rows_stay_in_their_window_or_fill_the_windows_in_order(arguments):
    plan = make_plan(**arguments)
    ran = [
        torch.cat([rows.flatten() for rows in window if rows is not None] or [torch.tensor([], dtype=int)])
        for window in windows_of(plan, arguments)
    ]
    ran = [rows[rows != DUMMY] for rows in ran]
    if not arguments["fill_in_order"]:
        assert all((arguments["windows"][rows] == window).all() for window, rows in enumerate(ran))
    else:
        size = len(arguments["is_kept"]) // arguments["num_windows"]
        full, rest = divmod(plan.num_kept, size)
        assert [len(rows) for rows in ran] == ([size] * full + [rest] + [0] * len(ran))[: len(ran)]


def plan_of(lengths, **overrides):
    arguments = {
        "lengths": torch.tensor(lengths),
        "windows": torch.zeros(len(lengths), dtype=int),
        "is_kept": torch.tensor(lengths) > 0,
        "num_ranks": 2,
        "num_micro_steps": 2,
        "num_windows": 1,
        "rows_per_micro_batch": 2,
        "max_tokens": None,
        "is_packed": False,
        "fill_in_order": False,
    }
    return make_plan(**(arguments | overrides))


def test_a_plan_by_hand():
    plan = plan_of([5, 0, 9, 0, 7, 0, 3, 0])
    # by length: rows 2, 4, 0, 6
    assert str(plan) == "4 rows in 1 of 2 micro-steps\n   0: -\n   1: 2 4 | 0 6"


def test_short_rows_share_one_micro_batch_under_a_token_budget():
    plan = plan_of([10, 10, 2, 2, 2, 2, 2, 2], num_ranks=1, num_micro_steps=4, max_tokens=20)
    assert [None if rows is None else rows.shape for rows in plan.micro_steps] == [None, None, (1, 2), (1, 6)]


def test_padding_takes_no_place_in_a_packed_micro_batch():
    lengths = [10, 5, 3, 2]  # padded, two rows fill 20 places; packed, all four do
    plans = [plan_of(lengths, num_ranks=1, max_tokens=20, is_packed=is_packed) for is_packed in (False, True)]
    assert [[None if rows is None else rows.shape[1] for rows in plan.micro_steps] for plan in plans] == [
        [2, 2],
        [None, 4],
    ]


def test_a_cut_by_hand():
    """One micro-batch 4 x 10 = 40 places; two 2 x 10 + 2 x 2 = 24; three 10 + 9 + 2 x 2 = 23; four 23."""
    lengths = [10, 9, 2, 2]
    assert cheapest_sizes(lengths, 100, 4, micro_step_places=17) == [4]
    assert cheapest_sizes(lengths, 100, 4, micro_step_places=15) == [2, 2]
    assert cheapest_sizes(lengths, 100, 4, micro_step_places=0.5) == [1, 1, 2]
    assert cheapest_sizes(lengths, 100, 2, micro_step_places=0.5) == [2, 2]
    assert cheapest_sizes(lengths, 19, 4, micro_step_places=100) == [1, 1, 2]  # 2 x 10 and 3 x 9 are too much
    assert cheapest_sizes(lengths, 9, 2, micro_step_places=0) is None  # 10, 9 and 2 x 2 are three


@given(
    st.lists(st.integers(1, 30), min_size=1, max_size=7),
    st.integers(1, 80),
    st.integers(1, 7),
    st.sampled_from([0.0, 1.0, 10.0, 1e9]),
)
@settings(max_examples=300, deadline=None)
def test_no_other_cut_costs_less(lengths, max_tokens, most, cost):
    lengths = sorted(lengths, reverse=True)

    def price(sizes):
        begins = [sum(sizes[:i]) for i in range(len(sizes))]
        places = [size * lengths[begin] for size, begin in zip(sizes, begins, strict=True)]
        fits = all(p <= max_tokens or size == 1 for p, size in zip(places, sizes, strict=True))
        return sum(places) + cost * len(sizes) if fits and len(sizes) <= most else torch.inf

    n = len(lengths)
    marks = (cut for k in range(n) for cut in itertools.combinations(range(1, n), k))
    cuts = ([b - a for a, b in itertools.pairwise([0, *cut, n])] for cut in marks)
    least = min(map(price, cuts))
    found = cheapest_sizes(lengths, max_tokens, most, cost)
    assert (found is None) == (least == torch.inf)
    if found is not None:
        assert price(found) == pytest.approx(least)


def test_a_plan_for_two_ranks_is_cut_where_it_costs_least():
    lengths = [10, 10, 2, 2, 2, 2, 2, 2]
    plans = [plan_of(lengths, max_tokens=100, micro_step_places=cost) for cost in (None, 5.0)]
    assert [plan.num_run for plan in plans] == [1, 2]  # 4 x 10 places, or 10 + 3 x 2 and 10
    assert plans[1].micro_steps[0].tolist() == [[0], [1]]


def test_the_rank_that_gets_the_longer_row_gets_the_shorter_one_next():
    plan = plan_of([8, 7, 6, 5, 4, 3, 2, 1], rows_per_micro_batch=1, num_micro_steps=4)
    # 8 + 5 + 4 + 1 tokens on the first rank and 7 + 6 + 3 + 2 on the second
    assert [rows.flatten().tolist() for rows in plan.micro_steps] == [[0, 1], [3, 2], [4, 5], [7, 6]]


def test_log_probs_are_computed_of_the_chosen_rows_alone_longest_first():
    ids = torch.tensor([[0, 11, 21, 0, 0], [12, 13, 22, 23, 24], [0, 14, 25, 26, 0]])  # prompts of 2 columns
    seen = []

    def compute(input_ids, attention_mask, num_kept):
        seen.append(input_ids.tolist())
        return input_ids[:, -num_kept:].float(), None, None

    def logps(chosen, num_rows, batch_size):
        seen.clear()
        is_chosen = torch.tensor([row in chosen for row in range(3)])
        return logps_of_rows(compute, is_chosen, num_rows, ids, (ids > 0).long(), 3, batch_size).tolist()

    assert logps({1, 2}, 2, 1) == [[0, 0, 0], [22, 23, 24], [25, 26, 0]]
    assert seen == [[[12, 13, 22, 23, 24]], [[14, 25, 26]]]  # the second chunk without padding
    assert logps({2}, 2, 2) == [[0, 0, 0], [0, 0, 0], [25, 26, 0]]
    assert seen == [[[14, 25, 26], [11, 21, 0]]]  # another rank has two: the first row takes the place
    assert logps({}, 0, 2) == [[0, 0, 0]] * 3
    assert seen == []


@given(situations())
@settings(max_examples=100, deadline=None)
def test_weighted_by_its_share_a_mean_per_micro_batch_becomes_the_mean_over_the_window(arguments):
    plan = make_plan(**arguments)
    lengths = arguments["lengths"]
    value = torch.rand(len(lengths))  # per token, alike within a row
    slots = arguments["num_micro_steps"] // arguments["num_windows"]
    shares = token_shares(plan, lengths, arguments["num_windows"])
    for start in range(0, len(shares), slots):
        steps = [i for i in range(start, start + slots) if plan.micro_steps[i] is not None]
        ran = torch.cat([plan.micro_steps[i].flatten() for i in steps] or [torch.tensor([], dtype=int)])
        ran = ran[ran != DUMMY]
        if not len(ran):
            continue
        mean_over_ranks = 0.0
        for i in steps:
            rows = plan.micro_steps[i]
            tokens = lengths[rows] * (rows != DUMMY)
            means = (value[rows] * tokens).sum(1) / tokens.sum(1).clamp(min=1)
            mean_over_ranks += (shares[i] * means).mean()
        assert mean_over_ranks == pytest.approx(float((value * lengths)[ran].sum() / lengths[ran].sum()), rel=1e-4)


def test_a_padded_batch_runs_as_one_sequence_and_comes_back_padded():
    seen = {}

    def model(**inputs):
        seen.update({name: v.tolist() if isinstance(v, torch.Tensor) else v for name, v in inputs.items()})
        return {"log_probs": inputs["input_ids"][:, 1:].float(), "entropy": None}  # of the token that comes next

    input_ids = torch.tensor([[0, 11, 12, 13], [21, 22, 23, 0]])
    output = run_unpadded(
        model,
        input_ids=input_ids,
        attention_mask=torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]]),
        labels=torch.tensor([[-100, -100, 12, 13], [-100, -100, 23, -100]]),
    )
    assert seen == {
        "input_ids": [[11, 12, 13, 21, 22, 23]],
        "position_ids": [[0, 1, 2, 0, 1, 2]],
        "labels": [[-100, 12, 13, -100, -100, 23]],
        # rows of 3 tokens each, which end at 3 and 6
        "cu_seq_lens_q": [0, 3, 6],
        "cu_seq_lens_k": [0, 3, 6],
        "max_length_q": 3,
        "max_length_k": 3,
    }
    # what the padded batch would say of columns 1 to 3: tokens 12 and 13, and 22 and 23
    assert output["log_probs"][0, 1:].tolist() == [12, 13]
    assert output["log_probs"][1].tolist() == [22, 23, 0]


def next_tokens(seen):
    """A model that notes what it is given, and whose log-probability of a token is its number."""

    def model(**inputs):
        seen.update({name: values.tolist() for name, values in inputs.items()})
        return {"log_probs": inputs["input_ids"][:, 1:].float(), "entropy": -inputs["input_ids"][:, 1:].float()}

    return model


PADDED = {  # a prompt of one token and a completion of two, the other way round, and a dummy
    "input_ids": torch.tensor([[0, 11, 12, 13], [21, 22, 23, 0], [0, 9, 9, 9]]),
    "attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0], [0, 1, 0, 0]]),
    "labels": torch.tensor([[-100, -100, 12, 13], [-100, -100, 23, -100], [-100] * 4]),
}


def test_rows_run_at_the_left_and_come_back_where_they_were():
    seen = {}
    output = run_aligned(next_tokens(seen), **PADDED)
    assert seen == {  # three columns rather than four: the longest row has three tokens
        "input_ids": [[11, 12, 13], [21, 22, 23], [9, 0, 0]],
        "attention_mask": [[1, 1, 1], [1, 1, 1], [1, 0, 0]],
        "labels": [[-100, 12, 13], [-100, -100, 23], [-100] * 3],
    }
    assert output["log_probs"].tolist() == [[0, 12, 13], [22, 23, 0], [0, 0, 0]]
    assert output["entropy"].tolist() == [[0, -12, -13], [-22, -23, 0], [0, 0, 0]]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 9)), min_size=1, max_size=6))
@settings(max_examples=200, deadline=None)
def test_any_rows_come_back_where_they_were(lengths):
    most_before, most_after = (max(column) for column in zip(*lengths, strict=True))
    mask = torch.zeros(len(lengths), most_before + max(most_after, 1), dtype=int)
    for row, (before, after) in enumerate(lengths):
        mask[row, most_before - before : most_before + after] = 1
    ids = torch.arange(1, mask.numel() + 1).view_as(mask)
    seen = {}
    labels = ids.masked_fill(mask == 0, -100)
    output = run_aligned(next_tokens(seen), input_ids=ids, attention_mask=mask, labels=labels)
    assert len(seen["input_ids"][0]) == max(map(sum, lengths))
    expected = ids[:, 1:] * mask[:, 1:] * mask[:, :-1]  # of the first token of a row there is no prediction
    assert torch.equal(output["log_probs"], expected.float())


def test_a_width_at_which_cudnn_returns_nan_is_widened(monkeypatch):
    seen = {}
    extra = {"token_type_ids": torch.ones(3, 4, dtype=int), "pixel_values": torch.ones(2, 4)}
    run_at_safe_width(next_tokens(seen), **PADDED, **extra)
    assert len(seen["input_ids"][0]) == 4
    monkeypatch.setattr(compaction, "has_unsafe_width", lambda input_ids: True)
    output = run_at_safe_width(next_tokens(seen), **PADDED, **extra)
    assert seen["attention_mask"] == [[0, 1, 1, 1, 0], [1, 1, 1, 0, 0], [0, 1, 0, 0, 0]]
    assert seen["labels"][0] == [-100, -100, 12, 13, -100]
    assert seen["token_type_ids"][0] == [1, 1, 1, 1, 0]
    assert seen["pixel_values"] == [[1] * 4] * 2
    assert output["log_probs"].tolist() == PADDED["input_ids"][:, 1:].tolist()


@pytest.mark.parametrize(("width", "is_unsafe"), [(64, True), (192, True), (63, False), (65, False), (128, False)])
def test_the_widths_at_which_cudnn_returns_nan(width, is_unsafe):
    on_a_gpu = SimpleNamespace(is_cuda=True, size=torch.Size((2, width)).__getitem__)
    assert has_unsafe_width(on_a_gpu) is is_unsafe
    assert not has_unsafe_width(torch.zeros(2, width))


def test_lengths_are_balanced_over_the_ranks():
    torch.manual_seed(0)
    lengths = torch.distributions.LogNormal(6, 1).sample((8192,)).clamp(1, 4096).int().tolist()
    plan = plan_of(lengths, num_ranks=8, num_micro_steps=64, rows_per_micro_batch=16, max_tokens=16 * 4096)
    table = torch.tensor(lengths)
    tokens = sum((table[rows.clamp(min=0)] * (rows != DUMMY)).sum(1) for rows in plan.micro_steps if rows is not None)
    assert tokens.max() / tokens.float().mean() < 1.05


def test_131072_rows_are_planned_within_seconds():
    lengths = torch.distributions.LogNormal(6, 1).sample((131_072,)).clamp(1, 4096).int().tolist()
    start = time.process_time()
    plan_of(lengths, num_ranks=1024, num_micro_steps=16, rows_per_micro_batch=8, max_tokens=8 * 4096)
    assert time.process_time() - start < 1.0


def test_a_micro_batch_is_trimmed_on_both_sides_and_has_blank_dummies():
    rows = {
        "prompt_ids": torch.tensor([[0, 0, 5], [0, 6, 7], [8, 9, 9]]),
        "prompt_mask": torch.tensor([[0, 0, 1], [0, 1, 1], [1, 1, 1]]),
        "completion_ids": torch.tensor([[1, 0, 0], [1, 2, 0], [1, 2, 3]]),
        "completion_mask": torch.tensor([[1, 0, 0], [1, 1, 0], [1, 1, 1]]),
        "advantages": torch.tensor([1.0, -1.0, 1.0]),
        "importance_sampling_ratio": torch.tensor([[0.5], [0.6], [0.7]]),
    }
    numbers = torch.tensor([1, DUMMY, 0])
    nothing, taken = cut_micro_batches(
        {key: take_rows(values, numbers) for key, values in rows.items()}, [None, numbers]
    )
    assert nothing is None
    assert taken["prompt_ids"].tolist() == [[6, 7], [0, 0], [0, 5]]
    assert taken["prompt_mask"].tolist() == [[1, 1], [0, 1], [0, 1]]
    assert taken["completion_ids"].tolist() == [[1, 2], [0, 0], [1, 0]]
    assert taken["completion_mask"].tolist() == [[1, 1], [0, 0], [1, 0]]
    assert taken["advantages"].tolist() == [-1.0, 0.0, 1.0]
    assert taken["importance_sampling_ratio"].flatten().tolist() == pytest.approx([0.6, 0.0, 0.5])
    assert rows["advantages"].tolist() == [1.0, -1.0, 1.0]  # the batch is left as it was


def test_rows_of_one_token_keep_a_second_column():
    """Of one column TRL takes the mean over all rows, as of one ratio per completion: over rows of padding, too."""
    rows = {
        "prompt_mask": torch.ones(2, 1, dtype=torch.long),
        "completion_ids": torch.tensor([[7, 0, 0], [8, 0, 0]]),
        "completion_mask": torch.tensor([[1, 0, 0], [1, 0, 0]]),
    }
    (batch,) = cut_micro_batches(rows, [torch.tensor([0, 1])])
    assert batch["completion_ids"].tolist() == [[7, 0], [8, 0]]
