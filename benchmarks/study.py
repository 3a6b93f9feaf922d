"""
Where the gap between NSR and PSR comes from: the study of `nsr-trl study`, along one axis after the other.

    OMP_NUM_THREADS=1 python benchmarks/study.py [AXIS ...] [--worlds 5] [--seeds 1] [--output-dir study-map]

Every setting of an axis trains PSR, NSR, W-REINFORCE, REINFORCE and GRPO, all else being the default, and gives NSR
minus PSR at k = 256 at equal steps and at equal Pass@1. The folder has a JSON line per setting, is not measured twice,
and ends with `map.md` and `study_map.png`, a panel per axis. The axis `tuned` is another comparison: learning rate and
number of steps are chosen for each objective by Pass@64 in five other worlds.

10 s of one core per setting of 200 steps.
"""

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nsr_trl.evaluation.plots import Figure
from nsr_trl.objective import build_objective
from nsr_trl.study.policy import Parameters, pretrain
from nsr_trl.study.report import label
from nsr_trl.study.run import OBJECTIVES, PRESETS
from nsr_trl.study.summary import Mean, mean_over_worlds, summarize
from nsr_trl.study.training import KS, WEIGHT_DECAY, Settings, Trajectories, train
from nsr_trl.study.world import World


class Adam(torch.optim.Optimizer):
    """AdamW of many runs, with one second moment per run (`is_global`) or in a random basis (`rotates`)."""

    def __init__(
        self,
        parameters: Parameters,
        lr: float,
        beta2: float = 0.999,
        eps: float = 1e-8,
        is_global: bool = False,
        rotates: bool = False,
    ) -> None:
        super().__init__(parameters, {"lr": lr})
        self.beta2, self.eps, self.is_global = beta2, eps, is_global
        self.moments = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]
        generator = torch.Generator().manual_seed(0)
        self.bases: list[list[torch.Tensor]] = [
            [torch.linalg.qr(torch.randn(n, n, generator=generator))[0] for n in p.shape[1:]] if rotates else []
            for p in parameters
        ]
        self.count = 0

    def step(self, closure: Any = None) -> None:
        (group,) = self.param_groups
        self.count += 1
        rotated = [_turn(p.grad, basis) for p, basis in zip(group["params"], self.bases, strict=True)]
        squares = [gradient**2 for gradient in rotated]
        if self.is_global:
            mean = torch.cat([square.flatten(1) for square in squares], dim=1).mean(1)
            squares = [mean.view(-1, *[1] * (square.dim() - 1)).expand_as(square) for square in squares]
        with torch.no_grad():
            for p, gradient, square, (first, second), basis in zip(
                group["params"], rotated, squares, self.moments, self.bases, strict=True
            ):
                first.lerp_(gradient, 1 - 0.9)
                second.lerp_(square, 1 - self.beta2)
                size = (second / (1 - self.beta2**self.count)).sqrt() + self.eps
                move = first / (1 - 0.9**self.count) / size
                p.mul_(1 - group["lr"] * WEIGHT_DECAY).sub_(group["lr"] * _turn(move, [b.T for b in basis]))


def _turn(values: torch.Tensor, bases: Sequence[torch.Tensor]) -> torch.Tensor:
    """Values `(R, n)` or `(R, n, m)` in another basis of each of their sides."""
    for side, basis in enumerate(bases, start=1):
        values = torch.tensordot(values, basis, dims=([side], [0])).movedim(-1, side)
    return values


@dataclass(frozen=True)
class Setting:
    """A preset and how it is trained; the steps are the preset's unless given."""

    settings: Settings = field(default_factory=Settings)
    preset: str = "low"


def _adam(**args: Any) -> Setting:
    return Setting(Settings(optimizer=partial(Adam, **args), learning_rate=1e-3))


AXES: dict[str, dict[str, Setting]] = {
    "optimizer": {
        "AdamW": Setting(),
        "SGD 0.3": Setting(Settings(optimizer="sgd", learning_rate=0.3)),
        "SGD 1": Setting(Settings(optimizer="sgd")),
        "SGD 1, 400 steps": Setting(Settings(optimizer="sgd", steps=400)),
        "normalised": Setting(Settings(optimizer="normalized_sgd")),
    },
    "sampling": {
        "sampled": Setting(),
        "exact": Setting(Settings(is_exact=True)),
        "exact, SGD 1": Setting(Settings(is_exact=True, optimizer="sgd")),
        "exact, no slips": Setting(Settings(is_exact=True, has_slips=False)),
    },
    "steps": {str(steps): Setting(Settings(steps=steps)) for steps in (50, 100, 200, 400, 800)},
    "learning rate": {
        f"{rate:g}": Setting(Settings(learning_rate=rate, steps=steps))
        for rate, steps in ((3e-4, 600), (1e-3, 200), (3e-3, 67), (1e-2, 20))
    },
    "answers per problem": {
        str(size): Setting(Settings(group_size=size, num_problems=256 // size)) for size in (2, 4, 8, 16, 32)
    },
    "problems per step": {str(num): Setting(Settings(num_problems=num)) for num in (8, 32, 128, 512)},
    "world": {
        "low": Setting(),
        "low, no slips": Setting(Settings(has_slips=False)),
        "low, 4 updates": Setting(Settings(num_updates=4)),
        "mid": Setting(Settings(steps=100), "mid"),
        "mid, no slips": Setting(Settings(steps=100, has_slips=False), "mid"),
    },
    "beta2": {f"{beta2:g}": _adam(beta2=beta2) for beta2 in (0.9, 0.99, 0.999, 0.9999)},
    "Adam": {
        "as it is": _adam(),
        "eps 1e-4": _adam(eps=1e-4),
        "eps 1e-2": _adam(eps=1e-2),
        "one second moment": _adam(is_global=True),
        "rotated basis": _adam(rotates=True),
    },
}
TUNED = "tuned"
RATES = (1e-4, 3e-4, 1e-3, 3e-3)
TUNING_STEPS = 300


@cache
def base_of(seed: int, preset: str) -> tuple[World, Parameters]:
    world = World(seed, PRESETS[preset].author_success)
    return world, pretrain(world)


def train_worlds(setting: Setting, seeds: Iterable[int], num_seeds: int) -> list[Trajectories]:
    objectives = [build_objective(name) for name in OBJECTIVES]
    worlds = (base_of(seed, setting.preset) for seed in seeds)
    return [train(world, objectives, num_seeds, setting.settings, base) for world, base in worlds]


def measure(setting: Setting, num_worlds: int, num_seeds: int) -> dict[str, Any]:
    """One setting as a line of the map."""
    started = time.process_time()
    worlds = train_worlds(setting, range(num_worlds), num_seeds)
    pass_at_k = np.stack([of.pass_at_k for of in worlds])
    controls = {name: np.stack([of.controls[name] for of in worlds]) for name in worlds[0].controls}
    summary = summarize(OBJECTIVES, KS, worlds[0].steps, pass_at_k, controls)
    pair = ("nsr", "psr")
    is_matched = pair in summary.matched_pairs

    def both(mean: Mean) -> list[float]:
        return [mean.value, mean.half_width]

    return {
        "base": [summary.base[0].value, summary.base[-1].value],
        "equal, k=1": both(summary.equal_pairs[pair][0]),
        "equal, k=256": both(summary.equal_pairs[pair][-1]),
        "matched": both(summary.matched_pairs[pair][-1]) if is_matched else None,
        "ahead": f"{summary.num_ahead[pair]} of {summary.num_runs}" if is_matched else "",
        "minus base": {name: both(means[-1]) for name, means in summary.from_base.items()},
        "seconds": round(time.process_time() - started, 1),
    }


def tune(num_worlds: int, num_seeds: int) -> list[dict[str, Any]]:
    """For each objective the rate and step that are best by Pass@64 in other worlds, and what they give in these."""
    k = KS.index(64)
    tried = {}
    for rate in RATES:
        setting = Setting(Settings(learning_rate=rate, steps=TUNING_STEPS))
        worlds = train_worlds(setting, range(num_worlds, 2 * num_worlds), num_seeds)
        tried[rate] = worlds[0].steps, np.stack([of.pass_at_k for of in worlds]).mean(axis=(0, 3))  # (M, O, K)
    lines, chosen = [], {}
    for i, name in enumerate(OBJECTIVES):
        rate = max(RATES, key=lambda rate: tried[rate][1][:, i, k].max())
        steps, means = tried[rate]
        chosen[name] = rate, int(means[:, i, k].argmax())
        lines.append({"objective": name, "rate": rate, "step": steps[chosen[name][1]]})
    by_rate = {
        rate: train_worlds(Setting(Settings(learning_rate=rate, steps=TUNING_STEPS)), range(num_worlds), num_seeds)
        for rate in {rate for rate, _ in chosen.values()}
    }
    points = {
        name: np.stack([100 * of.pass_at_k[place, OBJECTIVES.index(name)] for of in by_rate[rate]])  # (W, N, K)
        for name, (rate, place) in chosen.items()
    }
    for line in lines:
        values = points[line["objective"]]
        line["pass_at_k"] = {k: values[..., KS.index(k)].mean() for k in (1, 4, 16, 64, 256)}
        difference = values - points["psr"]
        line["minus psr"] = {
            k: [(m := mean_over_worlds(difference[..., KS.index(k)])).value, m.half_width] for k in (1, 64, 256)
        }
    return lines


def text(value: Sequence[float] | None) -> str:
    return "" if value is None else Mean(*value).text("+")


def write_map(
    found: Mapping[str, Mapping[str, dict[str, Any]]], tuned: Sequence[dict[str, Any]], folder: Path
) -> None:
    columns = ["base k=1 / 256", "equal steps: k=1", "k=256", "equal Pass@1: k=256", "NSR ahead"]
    columns += ["PSR minus base, k=256", "NSR minus base, k=256"]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    for axis, settings in found.items():
        lines.append(f"| **{axis}** |{' |' * len(columns)}")
        for name, of in settings.items():
            cells = [f"{of['base'][0]:.0f} / {of['base'][1]:.0f}", text(of["equal, k=1"]), text(of["equal, k=256"])]
            cells += [text(of["matched"]), of["ahead"], *(text(of["minus base"][o]) for o in ("psr", "nsr"))]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    lines.append("")
    if tuned:
        lines += ["| tuned by Pass@64 | learning rate | steps | k=1 | 4 | 16 | 64 | 256 | minus PSR: k=1 | 64 | 256 |"]
        lines += ["|---" * 11 + "|"]
        for of in tuned:
            cells = [label(of["objective"]), f"{of['rate']:g}", str(of["step"])]
            cells += [f"{value:.1f}" for value in of["pass_at_k"].values()]
            cells += [text(value) if of["objective"] != "psr" else "" for value in of["minus psr"].values()]
            lines.append(f"| {' | '.join(cells)} |")
    if found:
        draw(found, folder / "study_map.png")
    (folder / "map.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


def draw(found: Mapping[str, Mapping[str, dict[str, Any]]], path: Path) -> None:
    """NSR minus PSR at k = 256 by setting, at equal steps and at equal Pass@1: a panel per axis."""
    num_columns = min(len(found), 3)
    num_rows = -(-len(found) // num_columns)
    figure = Figure(layout="constrained", figsize=(3.3 * num_columns, 2.7 * num_rows))
    styles = (("equal, k=256", "equal steps", "#0072B2", "o"), ("matched", "equal Pass@1", "#D55E00", "s"))
    for i, (axis, settings) in enumerate(found.items()):
        axes = figure.add_subplot(num_rows, num_columns, i + 1)
        for shift, (key, name, color, marker) in zip((-0.1, 0.1), styles, strict=True):
            shown = [(place + shift, *of[key]) for place, of in enumerate(settings.values()) if of[key] is not None]
            places, values, half_widths = zip(*shown, strict=True)
            axes.errorbar(
                places,
                values,
                half_widths,
                color=color,
                marker=marker,
                linestyle="",
                capsize=2,
                markersize=4,
                label=name,
            )
        axes.axhline(0, color="0.5", linewidth=0.8)
        is_long = sum(map(len, settings)) > 24
        axes.set_xticks(
            range(len(settings)),
            settings,
            fontsize="small",
            rotation=25 if is_long else 0,
            ha="right" if is_long else "center",
        )
        axes.set_title(axis, fontsize="medium")
        axes.grid(color="0.9", axis="y")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    figure.supylabel("NSR minus PSR, Pass@256 (points)", fontsize="medium")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=110, facecolor="white")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("axes", nargs="*", metavar="AXIS", help=f"of {', '.join([*AXES, TUNED])} (default: all)")
    parser.add_argument("--worlds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--output-dir", type=Path, default=Path("study-map"))
    args = parser.parse_args()
    if unknown := set(args.axes) - {*AXES, TUNED}:
        parser.error(f"an axis must be one of {', '.join([*AXES, TUNED])}; got {sorted(unknown)[0]!r}.")
    torch.set_num_threads(1)
    args.output_dir.mkdir(parents=True, exist_ok=True)
    kept = args.output_dir / f"measured-{args.worlds}x{args.seeds}.jsonl"
    lines = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(line["axis"], line["setting"]): line["found"] for line in lines}

    def once(axis: str, name: str, measure_it: Callable[[], Any]) -> Any:
        if (axis, name) not in known:
            found = json.loads(json.dumps(measure_it()))  # as it is read back
            known[axis, name] = found
            with kept.open("a") as file:
                file.write(json.dumps({"axis": axis, "setting": name, "found": found}) + "\n")
            print(axis, name, json.dumps(found), flush=True)
        return known[axis, name]

    chosen = args.axes or [*AXES, TUNED]
    found = {
        axis: {name: once(axis, name, partial(measure, s, args.worlds, args.seeds)) for name, s in settings.items()}
        for axis, settings in AXES.items()
        if axis in chosen
    }
    tuned = once(TUNED, TUNED, partial(tune, args.worlds, args.seeds)) if TUNED in chosen else []
    write_map(found, tuned, args.output_dir)


if __name__ == "__main__":
    main()
