"""Numbers, intervals and polynomials written in many ways: what is known of each pair is what is said of it."""

import random
from fractions import Fraction

import pytest

from nsr_trl.verifier import Outcome
from nsr_trl.verifier.equivalence import compare


def written_number(rng: random.Random, value: Fraction) -> str:
    top, bottom = value.numerator, value.denominator
    if bottom == 1:
        forms = [str(top), f"{top}.0", f"{top:,}", f"+{top}" if top > 0 else str(top), rf"\frac{{{3 * top}}}{{3}}"]
        return rng.choice(forms)
    sign, size = "-" if top < 0 else "", abs(top)
    whole, rest = divmod(size, bottom)
    forms = [f"{top}/{bottom}", rf"{sign}\frac{{{size}}}{{{bottom}}}", rf"\dfrac{{{2 * top}}}{{{2 * bottom}}}"]
    if whole:
        forms.append(rf"{sign}{whole}\frac{{{rest}}}{{{bottom}}}")
    if bottom in (2, 4, 5):
        forms += [str(float(value)), f"{float(value):.4f}"]
    return rng.choice(forms)


def number(rng: random.Random) -> tuple[Fraction, str]:
    value = Fraction(rng.randint(-30, 30), rng.choice((1, 1, 1, 2, 3, 4, 5, 7)))
    return value, written_number(rng, value)


def interval(rng: random.Random) -> tuple[tuple, str]:
    low, high = sorted(rng.sample(range(-4, 5), 2))
    is_open = rng.random() < 0.5, rng.random() < 0.5
    ends = written_number(rng, Fraction(low)), written_number(rng, Fraction(high))
    if "," in "".join(ends) or rng.random() < 0.3:
        signs = ["<" if each else r"\le" for each in is_open]
        return (low, high, is_open), f"{ends[0]} {signs[0]} x {signs[1]} {ends[1]}"
    return (low, high, is_open), f"{'[('[is_open[0]]}{ends[0]}, {ends[1]}{'])'[is_open[1]]}"


def polynomial(rng: random.Random) -> tuple[tuple, str]:
    if rng.random() < 0.4:
        first, second, factor = (rng.choice((-3, -2, -1, 1, 2, 3)) for _ in range(3))
        text = f"{factor if factor not in (1, -1) else '-' if factor < 0 else ''}(x{first:+d})(x{second:+d})"
        return (factor * first * second, factor * (first + second), factor), text
    coefficients = tuple(rng.randint(-3, 3) for _ in range(3))
    terms = [f"{c:+d}{('', 'x', 'x^2')[power]}" for power, c in enumerate(coefficients) if c]
    rng.shuffle(terms)
    return coefficients, "".join(terms).removeprefix("+") or "0"


GENERATORS = (number, interval, polynomial)


def misjudged(num_pairs: int, seed: int) -> tuple[list[tuple[str, str, str]], float]:
    """Pairs with a wrong verdict, and the share that was decided."""
    rng = random.Random(seed)
    wrong, num_decided = [], 0
    for _ in range(num_pairs):
        generate = rng.choice(GENERATORS)
        (meaning, answer), (other, gold) = generate(rng), generate(rng)
        outcome = compare(answer, gold).outcome
        num_decided += outcome is not Outcome.UNDECIDED
        if outcome is (Outcome.INCORRECT if meaning == other else Outcome.CORRECT):
            wrong.append((answer, gold, str(outcome)))
    return wrong, num_decided / num_pairs


def test_generated_pairs_are_judged_by_what_they_mean():
    wrong, share = misjudged(2_000, seed=0)
    assert wrong == []
    assert share > 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_ten_million_generated_pairs_are_judged_by_what_they_mean(seed):
    wrong, share = misjudged(1_000_000, seed)
    assert wrong == []
    assert share > 0.95
