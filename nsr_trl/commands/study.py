"""`nsr-trl study`: what the objectives do to Pass@k in a small world, and when."""

import argparse
import json
import sys
from typing import Any

from .numbers import positive


PRESET_NAMES = ("low", "mid")
OPTIMIZER_NAMES = ("adamw", "sgd", "normalized_sgd")


def add_parsers(commands: Any) -> None:
    """Adds the command."""
    study = commands.add_parser(
        "study",
        help="see on a CPU in a minute what objectives do to Pass@k at equal steps, and at equal Pass@1",
        description="Trains objectives in a small world and compares their exact Pass@k on held-out problems twice: "
        "after equal numbers of steps, and where each run first has the same Pass@1. The world is a toy that was "
        "chosen after seeing that it shows the paper's effect: problems are 30 random bits, an answer is a strategy "
        "and how it is carried out, a few strategies are popular and rare ones are needed, and slips are always "
        "wrong. --exact, --optimizer sgd and --steps 800 each make the effect smaller or make it go away.",
    )
    study.add_argument(
        "--preset",
        choices=PRESET_NAMES,
        default="low",
        help="low: the base solves 1 in 25 answers, 200 steps; mid: 1 in 7, 100 steps (default: %(default)s)",
    )
    study.add_argument(
        "--objectives",
        nargs="+",
        metavar="NAME",
        help="objectives, or module:function (default: psr nsr w_reinforce reinforce grpo)",
    )
    study.add_argument(
        "--objective-args",
        nargs=2,
        action="append",
        default=[],
        metavar=("NAME", "JSON"),
        help="parameters of one of them, such as: pkpo '{\"k\": 8}'; may be given again",
    )
    study.add_argument("--worlds", type=positive, default=5, help="worlds, for the intervals (default: %(default)s)")
    study.add_argument("--seeds", type=positive, default=2, help="training seeds in each (default: %(default)s)")
    study.add_argument("--steps", type=positive, help="optimizer steps (default: the preset's)")
    study.add_argument(
        "--optimizer",
        choices=OPTIMIZER_NAMES,
        default="adamw",
        help="normalized_sgd takes steps of one length (default: %(default)s)",
    )
    study.add_argument(
        "--learning-rate", type=float, help="of all objectives (default: 1e-3, sgd 1, normalized_sgd 0.1)"
    )
    study.add_argument("--group-size", type=positive, default=8, help="answers per problem (default: %(default)s)")
    study.add_argument("--num-problems", type=positive, default=32, help="problems per step (default: %(default)s)")
    study.add_argument(
        "--num-updates", type=positive, default=1, help="steps per batch; more than 1 is off-policy (default: 1)"
    )
    study.add_argument("--exact", action="store_true", help="follow the exact gradient: nothing is sampled")
    study.add_argument("--no-slips", action="store_true", help="answers are the strategy alone")
    study.add_argument("--threads", type=positive, default=1, help="of torch; more rarely pay (default: %(default)s)")
    study.add_argument("--output-dir", metavar="DIR", help="folder for the report, the figures and the numbers")
    study.set_defaults(run=run)


def run(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Runs the study, or ends with what is wrong with its input."""
    import torch

    from ..study.run import OBJECTIVES, PRESETS, build_objectives, run_study
    from ..study.training import Settings

    torch.set_num_threads(args.threads)
    try:
        parameters = {name: _parameters(name, text) for name, text in args.objective_args}
        settings = Settings(
            steps=args.steps or PRESETS[args.preset].steps,
            optimizer=args.optimizer,
            learning_rate=args.learning_rate,
            group_size=args.group_size,
            num_problems=args.num_problems,
            num_updates=args.num_updates,
            is_exact=args.exact,
            has_slips=not args.no_slips,
        )
        objectives = build_objectives(args.objectives or OBJECTIVES, parameters)
        run_study(objectives, args.preset, args.worlds, args.seeds, settings, args.output_dir)
    except KeyboardInterrupt:
        print("\nStopped. A study does not go on where it stopped: it takes less than a minute.", file=sys.stderr)
        sys.exit(130)
    except (OSError, ValueError) as error:
        parser.error(str(error))


def _parameters(name: str, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ValueError(f"--objective-args {name} must be a JSON object, such as '{{\"k\": 8}}'; got {text!r}.")
    return found
