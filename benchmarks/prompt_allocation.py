"""
What `prompt_allocation` saves: sampled tokens until held-out Pass@1 is the same, against prompts taken in turn.

    OMP_NUM_THREADS=1 python benchmarks/prompt_allocation.py study [--seeds 10] [--json FILE]
    OMP_NUM_THREADS=1 python benchmarks/prompt_allocation.py quickstart [--seeds 5] [--json FILE]

In the study's toy world, one world per seed, Pass@k is exact; a completion is a token. In the quickstart's the shipped
model is trained by the trainer on few problems that come again. Runs of one seed begin at the same model. Each is
taken where it first reaches the level that all runs of its seed and objective reach: the start and nine tenths of the
smallest gain. What is printed is the mean over seeds with its 95% t interval.
"""

import argparse
import json
import statistics
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from alarms import pass_at_k as measure_pass_at_k
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback

from nsr_trl import Problem, SignedRewardTrainer, math_reward, to_dataset
from nsr_trl.allocation import PromptAllocation
from nsr_trl.evaluation.matching import first_reaching
from nsr_trl.objective import build_objective, rule_of
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems
from nsr_trl.quickstart.run import quickstart_config, quieten
from nsr_trl.study.summary import mean_over_worlds


ALLOCATIONS = ("none", "unbiased", "greedy")


@dataclass
class Curve:
    """Sampled tokens so far, held-out Pass@1 and Pass@64, and what the trainer says is saved, by measurement."""

    tokens: list[float] = field(default_factory=list)
    pass_at_1: list[float] = field(default_factory=list)
    pass_at_64: list[float] = field(default_factory=list)
    saved: list[float] = field(default_factory=list)


def study(objective: str, allocation: str, seed: int, options: argparse.Namespace) -> Curve:
    """A run in the study's world of one-token answers."""
    from nsr_trl.study.policy import log_probs, pass_at_k, pretrain, solve_rate
    from nsr_trl.study.training import WEIGHT_DECAY, draw_tokens, logps_of_tokens, surrogate
    from nsr_trl.study.world import World

    world = World(seed, options.author_success)
    parameters = [parameter.requires_grad_() for parameter in pretrain(world)]
    generator = torch.Generator().manual_seed(seed)
    train, test = world.problems(options.problems, generator), world.problems(800, generator)
    optimizer = torch.optim.AdamW(parameters, lr=options.learning_rate or 1e-3, weight_decay=WEIGHT_DECAY)
    drawing = PromptAllocation(options.problems, 0.2, seed)
    rule, curve, turn = rule_of(build_objective(objective)), Curve(), torch.tensor([], dtype=torch.long)
    for step in range(options.steps + 1):
        if step % options.every == 0:
            with torch.no_grad():
                rates = solve_rate(log_probs(parameters, test.bits), test.works, has_slips=False)
            one, sixty_four = pass_at_k(rates, (1, 64))[0].tolist()
            curve.tokens.append(step * options.prompts * 8)
            curve.pass_at_1.append(one)
            curve.pass_at_64.append(sixty_four)
        if allocation == "none":
            if len(turn) < options.prompts:
                turn = torch.randperm(options.problems, generator=generator)
            prompts, turn = turn[: options.prompts], turn[options.prompts :]
        else:
            draw = drawing.draw(options.prompts, 8, rule)
            prompts = draw.prompts
        bits, works = train.bits[prompts][None], train.works[prompts][None]  # one run
        with torch.no_grad():
            of = log_probs(parameters, bits)
            tokens = [draw_tokens(of.strategy, torch.rand(1, options.prompts, 8, generator=generator))]
            outcomes = torch.where(works.gather(-1, tokens[0]), 1, -1).to(torch.int8)
            weights, old = rule(outcomes[0])[None], logps_of_tokens(of, tokens)
            drawing.rates.see(prompts, outcomes[0])
            if allocation == "unbiased":
                weights = weights * draw.scales[None, :, None]
        optimizer.zero_grad()
        surrogate(logps_of_tokens(log_probs(parameters, bits), tokens), old, weights).sum().backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
    return curve


class Measuring(TrainerCallback):
    """Measures Pass@k of the model as it is trained."""

    def __init__(self, curve: Curve, measure: Callable[[], dict[int, float]], every: int) -> None:
        self.curve, self.measure, self.every, self.tokens = curve, measure, every, 0.0

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, float], **kwargs: Any) -> None:
        self.tokens = logs.get("num_tokens", self.tokens)
        if "cost/generation_saved" in logs:
            self.curve.saved.append(logs["cost/generation_saved"])
        if "num_tokens" in logs and state.global_step % self.every == 0:
            self.note()

    def note(self) -> None:
        found = self.measure()
        self.curve.tokens.append(self.tokens)
        self.curve.pass_at_1.append(found[1] / 100)
        self.curve.pass_at_64.append(found[max(found)] / 100)


def quickstart(objective: str, allocation: str, seed: int, options: argparse.Namespace) -> Curve:
    """A run of the trainer on the shipped model."""
    quieten()
    torch.set_num_threads(1)
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    curve = Curve()

    def measure() -> dict[int, float]:
        return measure_pass_at_k(model, options.test_problems, 64)

    measuring = Measuring(curve, measure, options.every)
    with tempfile.TemporaryDirectory() as folder:
        trainer = SignedRewardTrainer(
            model=model,
            reward_funcs=math_reward,
            args=quickstart_config(
                objective,
                seed,
                folder,
                prompt_allocation=allocation,
                max_steps=options.steps,
                per_device_train_batch_size=8 * options.prompts,
                learning_rate=options.learning_rate or 2e-4,
                save_strategy="no",
                log_completions=False,
            ),
            train_dataset=to_dataset(
                [Problem(**row) for row in generate_problems(options.problems, seed, "train")], template="plain"
            ),
            processing_class=AutoTokenizer.from_pretrained(model_path(), padding_side="left"),
            callbacks=[measuring],
        )
        trainer.remove_callback(PrinterCallback)
        measuring.note()
        trainer.train()
    return curve


def interval(values: list[float]) -> str:
    """The mean, with the 95% t interval where there are several."""
    mean = mean_over_worlds(np.array([values]).T)
    if len(values) < 2:
        return f"{mean.value:6.3f}"
    return f"{mean.value:6.3f} [{mean.value - mean.half_width:6.3f}, {mean.value + mean.half_width:6.3f}]"


def report(curves: dict[tuple[str, str, int], Curve]) -> None:
    """Prints tokens and Pass@64 where the runs of a seed have the same Pass@1, over those of `none`."""
    print(f"{'objective':12} {'allocation':10} {'tokens of none / tokens':>24} {'Pass@64 - none, points':>26}   level")
    for objective in dict.fromkeys(name for name, _, _ in curves):
        ratios: dict[str, list[float]] = {}
        points: dict[str, list[float]] = {}
        levels = []
        for seed in dict.fromkeys(number for name, _, number in curves if name == objective):
            runs = {how: curve for (name, how, number), curve in curves.items() if (name, number) == (objective, seed)}
            start = max(curve.pass_at_1[0] for curve in runs.values())
            level = start + 0.9 * (min(max(curve.pass_at_1) for curve in runs.values()) - start)
            places = {how: first_reaching(curve.pass_at_1, level) for how, curve in runs.items()}
            tokens = {how: float(places[how].of(curve.tokens)) for how, curve in runs.items()}
            kept = {how: float(places[how].of(curve.pass_at_64)) for how, curve in runs.items()}
            levels.append(level)
            for how in runs:
                ratios.setdefault(how, []).append(tokens["none"] / tokens[how])
                points.setdefault(how, []).append(100 * (kept[how] - kept["none"]))
        for how in [how for how in ratios if how != "none"]:
            level = statistics.fmean(levels)
            print(f"{objective:12} {how:10} {interval(ratios[how]):>24} {interval(points[how]):>26}   {level:.1%}")


WORLDS: dict[str, tuple[Callable[..., Curve], dict[str, int]]] = {
    "study": (study, {"steps": 400, "problems": 512, "prompts": 16, "every": 10, "seeds": 10}),
    "quickstart": (quickstart, {"steps": 32, "problems": 128, "prompts": 32, "every": 8, "seeds": 5}),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", choices=WORLDS)
    parser.add_argument("--objectives", nargs="+", default=["nsr", "w_reinforce"])
    parser.add_argument("--allocations", nargs="+", choices=ALLOCATIONS, default=list(ALLOCATIONS))
    parser.add_argument("--seeds", type=int, help="how many, 10 at most")
    parser.add_argument("--steps", type=int, help="optimizer steps, a generation each")
    parser.add_argument("--problems", type=int, help="training problems")
    parser.add_argument("--prompts", type=int, help="prompts of a generation, 8 completions each")
    parser.add_argument("--every", type=int, help="steps between two measurements")
    parser.add_argument("--learning-rate", type=float)
    parser.add_argument("--author-success", type=float, default=0.9, help="how easy the study's world is")
    parser.add_argument("--test-problems", type=int, default=100, help="held-out problems of the quickstart")
    parser.add_argument("--json", type=Path, help="file to write the curves to, and to go on from")
    options = parser.parse_args()
    train, defaults = WORLDS[options.world]
    for name, value in defaults.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    curves: dict[tuple[str, str, int], Curve] = {}
    if options.json and options.json.exists():
        curves = {tuple(key): Curve(**curve) for key, curve in json.loads(options.json.read_text())}  # type: ignore[misc]
    for seed in range(options.seeds):
        for objective in options.objectives:
            for allocation in options.allocations:
                if (objective, allocation, seed) not in curves:
                    curves[objective, allocation, seed] = train(objective, allocation, seed, options)
                    if options.json:
                        found = [[key, asdict(curve)] for key, curve in curves.items()]
                        options.json.write_text(json.dumps(found) + "\n")
    report(curves)


if __name__ == "__main__":
    main()
