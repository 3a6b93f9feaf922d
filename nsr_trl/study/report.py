"""The study in tables and words. A sentence is there only if an interval of this run bears it out."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..evaluation.results import align
from .summary import Mean, Summary


SHOWN_K = (1, 4, 16, 64, 256)
MIDDLE_K = 16

LABELS = {"psr": "PSR", "nsr": "NSR", "w_reinforce": "W-REINFORCE", "reinforce": "REINFORCE", "grpo": "GRPO"}
"""What the paper calls them; the others go by their names."""

SAME = 0.05
"""Points of Pass@k up to which exact gradients are one curve."""

Rows = list[list[str]]


def label(name: str) -> str:
    """What an objective is called in the report."""
    return LABELS.get(name, name)


def tables(summary: Summary, facts: Mapping[str, Any]) -> str:
    """The three tables as text, each under its heading."""
    return "\n\n".join(f"{heading}\n{align(rows)}" for heading, rows in _tables(summary, facts))


def markdown(summary: Summary, facts: Mapping[str, Any], figures: Sequence[str]) -> str:
    """The report: words, tables, figures, settings."""
    parts = ["# What the objectives did to Pass@k in a small world", *words(summary, facts)]
    for heading, (header, *rows) in _tables(summary, facts):
        rule = ["---", *["---:"] * (len(header) - 1)]
        parts += [f"## {heading}", "\n".join(f"| {' | '.join(row)} |" for row in (header, rule, *rows))]
    captions = ("Pass@k at equal steps, with 95% t intervals over worlds", "Pass@256 by Pass@1 along the runs")
    parts += [f"![{caption}]({figure})" for caption, figure in zip(captions, figures, strict=False)]
    settings = {key: value for key, value in facts.items() if key != "objectives"}
    parts += ["## Settings", "\n".join(f"- {key}: {value}" for key, value in settings.items())]
    parts += ["\n".join(f"- {name}: {formula}" for name, formula in facts["objectives"].items())]
    return "\n\n".join(parts) + "\n"


def _tables(summary: Summary, facts: Mapping[str, Any]) -> Iterator[tuple[str, Rows]]:
    at = [summary.ks.index(k) for k in SHOWN_K]
    largest = f"k={summary.ks[-1]}"
    columns = [f"k={k}" for k in SHOWN_K]

    def values(means: Sequence[Mean]) -> list[str]:
        return [f"{means[i].value:.1f}" for i in at]

    rows = [["", *columns, f"{largest}, minus base"], ["base", *values(summary.base), ""]]
    for name, means in summary.equal.items():
        rows.append([label(name), *values(means), summary.from_base[name][-1].text("+")])
    yield f"Equal steps: after {summary.steps[-1]} steps of {how(facts)}, percent", rows

    if summary.matched:
        reference = "psr" if "psr" in summary.matched else next(iter(summary.matched))
        middle = summary.ks.index(MIDDLE_K)
        minus = [f"{k}, minus {label(reference)}" for k in (f"k={MIDDLE_K}", largest)]
        rows = [["", "steps", *columns, *minus, f"ahead at {largest}"]]
        for name, means in summary.matched.items():
            differences = ["", "", ""]
            if name != reference:
                pair = summary.matched_pairs[name, reference]
                differences = [pair[middle].text("+"), pair[-1].text("+")]
                differences += [f"{summary.num_ahead[name, reference]} of {summary.num_runs}"]
            rows.append([label(name), f"{summary.matched_steps[name].value:.0f}", *values(means), *differences])
        yield f"Equal Pass@1: where each run first has {summary.level.value:.1f} on average, percent", rows

    rows = [["", "steps", "entropy", "KL from base", "strategies kept", "P(clean)", "rows with a weight"]]
    for name, of in summary.controls.items():
        steps = 0 if name == "base" else summary.steps[-1]
        share = "" if "rows" not in of or of["rows"].value != of["rows"].value else f"{100 * of['rows'].value:.0f}%"
        numbers = [f"{of[control].value:.2f}" for control in ("entropy", "kl", "strategies", "clean")]
        rows.append([label(name), str(steps), *numbers, share])
    yield "Controls, after the last step", rows


def how(facts: Mapping[str, Any]) -> str:
    """The optimizer and what else sets these steps apart, for a heading."""
    names = {"adamw": "AdamW", "sgd": "SGD", "normalized_sgd": "normalised SGD"}
    words = [f"{names.get(facts['optimizer'], facts['optimizer'])} at {facts['learning_rate']:g}"]
    words += ["exact gradients"] if facts["is_exact"] else []
    words += [] if facts["has_slips"] else ["no slips"]
    return ", ".join(words)


def words(summary: Summary, facts: Mapping[str, Any]) -> list[str]:
    """What this run shows, in sentences; each of them follows from an interval over worlds."""
    world = (
        f"A toy world, chosen after seeing that it shows the effect: preset {facts['preset']}, {facts['worlds']} "
        f"worlds x {facts['seeds']} seeds, {facts['seconds']:.0f} s. ± are 95% t intervals over worlds."
    )
    if facts["worlds"] == 1:
        return [world, "One world has no interval, so that nothing is said of what it shows. Take --worlds 3 or more."]
    return [world, *_at_equal_steps(summary, facts), *_at_equal_pass_at_1(summary), *ADVICE]


ADVICE = (
    "Stop by Pass@k on held-out problems, not by steps; compare objectives at matched Pass@1; choose the learning "
    "rate for each; watch NSR for collapse. This says nothing about a 7B model.",
    "What of it is the estimator, the optimizer, the time: see the same with --exact, --optimizer sgd, --steps 800.",
)


def _at_equal_steps(summary: Summary, facts: Mapping[str, Any]) -> Iterator[str]:
    k = summary.ks[-1]
    change = {name: means[-1] for name, means in summary.from_base.items()}
    by_sign = (
        ("lost", [name for name in change if change[name].is_below]),
        ("gained", [name for name in change if change[name].is_above]),
    )
    neither = [name for name in change if not (change[name].is_below or change[name].is_above)]
    parts = [f"{_listed(names, change)} {verb} Pass@{k}" for verb, names in by_sign if names]
    parts += [f"{_listed(neither, change)} cannot be told from the base"] if neither else []
    yield f"After {summary.steps[-1]} steps of {how(facts)}, {'; '.join(parts)}."

    signs = [name for name in ("psr", "nsr", "w_reinforce", "reinforce") if name in summary.names]
    if facts["is_exact"] and len(signs) > 1:
        pairs = [abs(m.value) for one in signs for o in signs if one != o for m in summary.equal_pairs[one, o]]
        if max(pairs) < SAME:
            yield f"With exact gradients {_and(map(label, signs))} are one curve: what tells them apart is estimation."
        return
    if not {"psr", "nsr"} <= change.keys():
        return
    ahead = summary.equal_pairs["nsr", "psr"][-1]
    keepers = [name for name in ("nsr", "w_reinforce") if name in change and not change[name].is_below]
    if not (change["psr"].is_below and ahead.is_above):
        yield f"The paper's picture does not show at equal steps: NSR minus PSR at k = {k} is {ahead.text('+')}."
    elif "nsr" in keepers:
        keep = "keep" if len(keepers) > 1 else "keeps"
        yield f"At equal steps PSR gives up Pass@{k} that {_and(map(label, keepers))} {keep}, as in the paper."
    else:
        yield f"At equal steps NSR loses {ahead.text()} points of Pass@{k} less than PSR, and does not keep it."


def _at_equal_pass_at_1(summary: Summary) -> Iterator[str]:
    k = summary.ks[-1]
    if summary.not_matched:
        yield f"Not matched, as they gain too little at k = 1: {_and(map(label, summary.not_matched))}."
    pair = ("nsr", "psr")
    if pair in summary.matched_pairs:
        ahead, equal = summary.matched_pairs[pair][-1], summary.equal_pairs[pair][-1]
        steps = (
            f"PSR has it after {summary.matched_steps['psr'].value:.0f} steps, NSR after "
            f"{summary.matched_steps['nsr'].value:.0f}"
        )
        start = f"At equal Pass@1 ({summary.level.value:.1f}; {steps})"
        if ahead.is_above:
            share = 1 - ahead.value / equal.value
            gone = f"{100 * share:.0f}% of the difference is gone and " if equal.is_above and share > 0 else ""
            yield f"{start} {gone}PSR is {ahead.text()} points of Pass@{k} behind NSR."
        elif ahead.is_below:
            behind = summary.matched_pairs["psr", "nsr"][-1]
            yield f"{start} it is NSR that is behind, by {behind.text()} points of Pass@{k}."
        else:
            yield f"{start} NSR and PSR cannot be told apart at k = {k} ({ahead.text('+')})."
    others = [name for name in summary.matched if name not in pair]
    if "nsr" in summary.matched and others:
        against = {name: summary.matched_pairs[name, "nsr"][-1] for name in others}
        by_verdict = {
            "not distinguishable": [name for name, mean in against.items() if not (mean.is_above or mean.is_below)],
            "above": [name for name, mean in against.items() if mean.is_above],
            "below": [name for name, mean in against.items() if mean.is_below],
        }
        parts = [f"{_listed(names, against)} {verdict}" for verdict, names in by_verdict.items() if names]
        yield f"Minus NSR there: {'; '.join(parts)}."


def _listed(names: Sequence[str], means: Mapping[str, Mean]) -> str:
    return _and(f"{label(name)} ({means[name].text('+')})" for name in names)


def _and(words: Any) -> str:
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last
