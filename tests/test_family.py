"""Weights that read the group: a table by hand, brute force, and gradients of exact expectations."""

import math
from itertools import combinations, product

import pytest
import torch

from nsr_trl.objective import FAMILY, OBJECTIVE_NAMES, build_objective, rule_of


# G = 8; for c = 0 to 8 right the weight of a right and of a wrong completion, None where there is none of them.
# By hand from the formulas of the papers: c = 2 of maxrl, say, has p = 1/4 and (1 - p) / p = 3.
GOLDEN = {
    ("dr_grpo",): "./0 .875/-.125 .750/-.250 .625/-.375 .500/-.500 .375/-.625 .250/-.750 .125/-.875 0/.",
    ("rloo",): "./0 1.000/-.143 .857/-.286 .714/-.429 .571/-.571 .429/-.714 .286/-.857 .143/-1.000 0/.",
    ("maxrl",): "./0 7.000/-1 3.000/-1 1.667/-1 1.000/-1 .600/-1 .333/-1 .143/-1 0/.",
    ("maclaurin",): "./-3 1/-2.143 1/-1.476 1/-.971 1/-.600 1/-.333 1/-.143 1/0 1/.",
    ("pkpo",): "./0 4.000/0 2.286/0 1.143/0 .457/0 .114/0 0/0 0/0 0/.",
    ("passk",): "./0 1.000/-.143 .522/-.174 .277/-.166 .120/-.120 0/0 0/0 0/0 0/.",
    ("qae",): "./0 2.828/0 2.160/0 1.932/0 1.871/0 0/-1.932 0/-2.160 0/-2.828 0/.",
    ("ngrpo",): "./-.354 1.871/-.535 1.414/-.707 1.118/-.894 .894/-1.118 .707/-1.414 .535/-1.871 .354/-2.828 0/.",
    ("ngrpo", "ddof=1"): "./-.333 1.764/-.504 1.333/-.667 1.054/-.843 .843/-1.054 .667/-1.333 .504/-1.764 "
    ".333/-2.667 0/.",
    ("lead",): "./0 3.707/-.228 2.418/-.513 1.781/-.909 1.325/-1.325 .909/-1.781 .513/-2.418 .228/-3.707 0/.",
    ("asymre",): "./.100 .975/-.025 .850/-.150 .725/-.275 .600/-.400 .475/-.525 .350/-.650 .225/-.775 .100/.",
    ("grpo", "gamma=.5"): "./0 2.315/-.331 1.403/-.468 .955/-.573 .661/-.661 .444/-.740 .270/-.810 .125/-.875 0/.",
    ("grpo", "gamma=1"): "./0 2.166/-.309 1.215/-.405 .755/-.453 .468/-.468 .272/-.453 .135/-.405 .044/-.309 0/.",
    # of maxrl, c = 2: (1 - p)^1 = .75 times 3 and -1
    ("maxrl", "gamma=1"): "./0 6.125/-.875 2.250/-.750 1.042/-.625 .500/-.500 .225/-.375 .083/-.250 .018/-.125 0/.",
}


def group(c, g=8):
    return torch.tensor([[1] * c + [-1] * (g - c)])


def sides(weights, c):
    """(Weight of the right ones, of the wrong ones), None where there is none."""
    right, wrong = weights[:c].tolist(), weights[c:].tolist()
    assert len({*right}) <= 1 >= len({*wrong})
    return (right or [None])[0], (wrong or [None])[0]


@pytest.mark.parametrize("key", GOLDEN, ids="-".join)
def test_the_weights_are_those_of_the_table(key):
    name, *setting = key
    field, _, value = setting[0].partition("=") if setting else ("", "", "")
    settings = {"gamma": {"focal_gamma": float(value or 0)}, "ddof": {"args": {"ddof": 1}}}.get(field, {})
    weigh = build_objective(name, **settings).weigh
    for c, entry in enumerate(GOLDEN[key].split()):
        expected = [None if number == "." else float(number) for number in entry.split("/")]
        for found, number in zip(sides(weigh(group(c))[0], c), expected, strict=True):
            assert found == (number if number is None else pytest.approx(number, abs=6e-4)), (c, entry)


def test_every_member_has_a_row_in_a_table():
    assert {*FAMILY} <= {name for name, *_ in GOLDEN} | {"a_grae"}


@pytest.mark.parametrize(
    ("w", "row"),
    [
        (0.2, {1: (0.352, -0.251), 2: (0.214, -0.357), 4: (0.132, -0.661), 7: (0.088, -3.065)}),
        (0.8, {1: (2.452, -0.438), 2: (1.187, -0.494), 4: (0.529, -0.661), 7: (0.201, -1.758)}),
    ],
)
def test_a_grae_reads_the_batch(w, row):
    """w = .2, c = 1: GRPO 2.475 and -.354, times .2 / (2 sqrt .125) + .8 / (2 sqrt .875) = .71, right also times .2"""
    weigh = build_objective("a_grae").weigh
    for c, expected in row.items():
        # ten groups of which the first has c right, and all of them 80 w
        rest = round(80 * w) - c
        batch = torch.cat([group(c), *(group(min(8, max(0, rest - 8 * i))) for i in range(9))])
        assert (batch > 0).sum() == 80 * w
        assert sides(weigh(batch)[0], c) == pytest.approx(expected, abs=6e-4)


@pytest.mark.parametrize("name", OBJECTIVE_NAMES)
def test_undecided_rows_leave_the_group(name):
    """A group with undecided rows weighs as the smaller group without them, at its place or any other."""
    weigh = build_objective(name, focal_gamma=0.5).weigh
    for outcomes in product((1, 0, -1), repeat=5):
        decided = [o for o in outcomes if o]
        weights = weigh(torch.tensor([outcomes]))[0]
        assert weights.isfinite().all()
        assert weights.dtype == torch.float32
        assert all(weight == 0 for weight, o in zip(weights.tolist(), outcomes, strict=True) if not o)
        alone = weigh(torch.tensor([decided]))[0] if decided else torch.zeros(0)
        torch.testing.assert_close(weights[torch.tensor(outcomes) != 0], alone)


# What a single decided completion weighs, right and wrong: the limit that each docstring names.
ALONE = {
    "grpo": (0, 0),
    "dr_grpo": (0, 0),
    "rloo": (0, 0),
    "maxrl": (0, 0),
    "maclaurin": (1, 0),
    "pkpo": (1, 0),
    "passk": (0, 0),
    "qae": (0, 0),
    "ngrpo": (0, -1),
    "a_grae": (0, 0),
    "asymre": (0.1, 0.1),
    "lead": (0, 0),
}


@pytest.mark.parametrize("name", ALONE)
def test_a_single_decided_completion_weighs_what_the_docstring_says(name):
    weigh = rule_of(build_objective(name))
    alone = torch.tensor([[1, 0, 0, 0]]), torch.tensor([[-1, 0, 0, 0]])
    # one at a time: a_grae reads the batch
    assert [weigh(outcomes)[0, 0].item() for outcomes in alone] == pytest.approx(ALONE[name])


@pytest.mark.parametrize("k", [1, 2, 3, 6])
def test_pkpo_is_the_leave_one_out_estimate_over_all_draws(k):
    """Row i's weight is n / C(n, k) times the sum over draws with i of max(r) - max(r without i), by enumeration."""
    n = 6
    for c in range(n + 1):
        rewards = [1] * c + [0] * (n - c)
        expected = [
            n
            / math.comb(n, k)
            * sum(
                max(rewards[j] for j in draw) - max((rewards[j] for j in draw if j != i), default=0)
                for draw in combinations(range(n), k)
                if i in draw
            )
            for i in range(n)
        ]
        weights = build_objective("pkpo", args={"k": k}).weigh(group(c, n))[0]
        torch.testing.assert_close(weights, torch.tensor(expected))


@pytest.mark.parametrize("k", [2, 4])
def test_passk_is_the_mean_advantage_of_all_draws_that_hold_a_row(k):
    n = 7
    for c in range(n + 1):
        rewards = torch.tensor([1.0] * c + [0.0] * (n - c))
        draws = list(combinations(range(n), k))
        best = torch.stack([rewards[list(draw)].max() for draw in draws])
        deviation = best.std(unbiased=False)
        expected = [
            0.0 if deviation == 0 else ((best[[i in draw for draw in draws]] - best.mean()) / deviation).mean().item()
            for i in range(n)
        ]
        weights = build_objective("passk", args={"k": k}).weigh(group(c, n))[0]
        torch.testing.assert_close(weights, torch.tensor(expected), atol=1e-5, rtol=1e-4)


def expected_gradient(weigh, n, theta):
    """Of 1/n of the sum of weight times score, over all groups of n draws of a coin with p = sigmoid(theta)."""
    p = 1 / (1 + math.exp(-theta))
    total = 0.0
    for c in range(n + 1):
        right, wrong = (number or 0.0 for number in sides(weigh(group(c, n))[0], c))
        chance = math.comb(n, c) * p**c * (1 - p) ** (n - c)
        # d/dtheta of log p is 1 - p, of log(1 - p) is -p
        total += chance * (c * right * (1 - p) - (n - c) * wrong * p) / n
    return total


@pytest.mark.parametrize("theta", [-2.0, -0.3, 1.5])
@pytest.mark.parametrize(
    ("name", "args", "objective"),
    [
        ("rloo", {}, lambda p: p),
        ("pkpo", {"k": 1}, lambda p: p),
        ("pkpo", {"k": 3}, lambda p: 1 - (1 - p) ** 3),  # Pass@3
        ("pkpo", {"k": 6}, lambda p: 1 - (1 - p) ** 6),
        ("maclaurin", {"order": 1}, lambda p: p),
        ("maclaurin", {"order": 4}, lambda p: -sum((1 - p) ** k / k for k in range(1, 5))),  # log p, cut off
        ("reinforce", {}, lambda p: 2 * p),  # -L_PSR - L_NSR = p - (1 - p)
    ],
)
def test_the_expected_gradient_is_that_of_what_the_source_claims(name, args, objective, theta):
    x = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
    objective(x.sigmoid()).backward()
    weigh = build_objective(name, args=args).weigh
    assert expected_gradient(weigh, 6, theta) == pytest.approx(x.grad.item(), rel=1e-5)


def test_maxrl_is_the_gradient_of_the_log_likelihood_cut_off_below_the_group():
    """The group that is all wrong would bring p (1-p)^n, the gradient of the n-th term: without it n - 1 are left."""
    for theta in (-2.0, 0.5):
        x = torch.tensor(theta, dtype=torch.float64, requires_grad=True)
        p = x.sigmoid()
        (-sum((1 - p) ** k / k for k in range(1, 6))).backward()
        assert expected_gradient(build_objective("maxrl").weigh, 6, theta) == pytest.approx(x.grad.item(), rel=1e-5)
