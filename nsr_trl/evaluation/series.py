"""The evaluations of a run's checkpoints: a training folder comes in, Pass@k by step comes out.

OUT/checkpoint-N/DATASET   a run folder, as of any evaluation; N = 0 may be made of the model before training
OUT/checkpoint-N/training.json   tokens that the run had generated
OUT/best, OUT/best.json    the model of the best checkpoint, where it was asked for, and by what it is the best
"""

import json
import math
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..checkpoints import STATE, checkpoints, is_complete, number
from .records import SUMMARY, find_runs, read_json
from .results import Evaluation
from .runs import read_summary


BEST = "best"
TRAINING = "training.json"
"""File beside a checkpoint's evaluations: the state of the run at that step."""
_METRIC = re.compile(r"pass@([1-9]\d*)")
_NOT_OF_THE_MODEL = re.compile(
    r"optimizer|scheduler|scaler|rng_state|nsr_trl_|trainer_state|training_args|global_step\d+|latest|zero_to_fp32"
)
"""Files of a checkpoint that only resuming needs."""


def whole_checkpoints(run: str | Path, every: int = 1) -> list[Path]:
    """
    The checkpoints of a run that can be evaluated.

    Args:
        run (`str` or `Path`):
            A training folder.
        every (`int`, *optional*, defaults to `1`):
            Only those whose step is a multiple of it.

    Returns:
        `list[Path]`: by step; those that are still being written, or damaged, are left out

    Raises:
        ValueError: If there is no such folder.
    """
    if not Path(run).is_dir():
        raise ValueError(f"--checkpoints must name the folder of a training run; there is none at {str(run)!r}.")
    return [path for path in checkpoints(run) if number(path) % every == 0 and is_complete(path)]


def is_evaluated(checkpoint: Path, folder: Path, num_samples: int, ks: list[int]) -> bool:
    """Whether a run folder has this result of a checkpoint already, and of what it is now."""
    summary = folder / SUMMARY
    if not summary.exists() or summary.stat().st_mtime < (checkpoint / STATE).stat().st_mtime:
        return False
    evaluation = read_summary(folder)
    return evaluation.num_samples == num_samples and sorted(evaluation.pass_at_k) == ks


def has_ended(run: str | Path) -> bool:
    """Whether a run has written its final model, after its last checkpoint."""
    models = [*Path(run).glob("*.safetensors"), *Path(run).glob("*.bin")]
    last = checkpoints(run)[-1:]
    return bool(models) and all(
        max(model.stat().st_mtime for model in models) >= path.stat().st_mtime - 1 for path in last
    )


def read_series(path: str | Path) -> dict[str, dict[int, Evaluation]]:
    """
    Reads the evaluations of a run's checkpoints.

    Args:
        path (`str` or `Path`):
            Output folder of `nsr-trl evaluate --checkpoints`.

    Returns:
        `dict[str, dict[int, Evaluation]]`: evaluation by dataset and step, those that are finished

    Raises:
        ValueError: If there is none.
    """
    series: dict[str, dict[int, Evaluation]] = {}
    for checkpoint in checkpoints(path):
        for dataset, folder in _finished(checkpoint):
            series.setdefault(dataset, {})[number(checkpoint)] = read_summary(folder)
    if not series:
        raise ValueError(
            "Evaluations over steps must be in folders checkpoint-N, as `nsr-trl evaluate --checkpoints` writes them; "
            f"{str(path)!r} holds none that is finished. Name its output folder."
        )
    return series


def record_tokens(checkpoint: Path, folder: Path) -> None:
    """Notes beside the evaluations of a checkpoint how many tokens its run had generated."""
    log = read_json(checkpoint / STATE).get("log_history", [])
    if counted := [entry["num_tokens"] for entry in log if "num_tokens" in entry]:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / TRAINING).write_text(json.dumps({"num_tokens": int(counted[-1])}) + "\n", encoding="utf-8")


def read_tokens(path: str | Path) -> dict[int, int]:
    """Tokens that a run had generated, by step, as of [`record_tokens`]."""
    records = {number(checkpoint): checkpoint / TRAINING for checkpoint in checkpoints(path)}
    return {step: int(read_json(record)["num_tokens"]) for step, record in records.items() if record.exists()}


def read_all_series(runs: Mapping[str, Path]) -> dict[str, dict[str, dict[int, Evaluation]]]:
    """As [`read_series`], of several runs by name: evaluation by dataset, run and step."""
    by_dataset: dict[str, dict[str, dict[int, Evaluation]]] = {}
    for name, folder in runs.items():
        for dataset, by_step in read_series(folder).items():
            by_dataset.setdefault(dataset, {})[name] = by_step
    return by_dataset


def _finished(checkpoint: Path) -> Iterator[tuple[str, Path]]:
    if any(checkpoint.glob(f"*/{SUMMARY}")):
        for dataset, folder in find_runs(checkpoint).items():
            if (folder / SUMMARY).exists():
                yield dataset, folder


@dataclass(frozen=True, slots=True)
class Metric:
    """
    What checkpoints are compared by: Pass@k on the first of the datasets.

    Attributes:
        k (`int`):
            The k.
    """

    k: int

    @classmethod
    def parse(cls, text: str) -> "Metric":
        """Reads `pass@8`."""
        match = _METRIC.fullmatch(text)
        if match is None:
            raise ValueError(f"A metric must be pass@k, such as pass@1; got {text!r}.")
        return cls(int(match[1]))

    def of(self, evaluation: Evaluation) -> float:
        """Its value; a ValueError tells which k there are."""
        if self.k not in evaluation.pass_at_k:
            raise ValueError(
                f"The best checkpoint is chosen by one of the k that are evaluated, "
                f"{', '.join(map(str, evaluation.pass_at_k))}; got {self.k}. Add it with --k."
            )
        return evaluation.pass_at_k[self.k].value


def best_value(output_dir: str | Path) -> float:
    """The metric of the best checkpoint so far; minus infinity if none was kept."""
    record = Path(output_dir) / f"{BEST}.json"
    return float(read_json(record)["value"]) if record.exists() else -math.inf


def keep_if_best(
    output_dir: str | Path, checkpoint: Path, load: Callable[[], Evaluation], metric: Metric, dataset: str
) -> bool:
    """
    Keeps the model of a checkpoint if it is the best so far, whatever the run deletes later.

    Its files are linked before it is evaluated, which takes no room, or copied where the output folder is on another
    disk; what only training needs is left out. The checkpoint itself is read and never written.

    Args:
        output_dir (`str` or `Path`):
            Where `best` is to be.
        checkpoint (`Path`):
            A whole checkpoint.
        load (`Callable`):
            Evaluates it.
        metric ([`Metric`]):
            What it is the best by.
        dataset (`str`):
            What of; recorded.

    Returns:
        `bool`: whether it is
    """
    output_dir = Path(output_dir)
    candidate = output_dir / f"{BEST}.candidate"
    shutil.rmtree(candidate, ignore_errors=True)
    try:
        _link(checkpoint, candidate)
        value = metric.of(load())
        if value <= best_value(output_dir):
            return False
        shutil.rmtree(output_dir / BEST, ignore_errors=True)
        candidate.rename(output_dir / BEST)
        facts = {"step": number(checkpoint), "metric": f"pass@{metric.k}", "dataset": dataset, "value": value}
        (output_dir / f"{BEST}.json").write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")
        return True
    finally:
        shutil.rmtree(candidate, ignore_errors=True)


def _link(checkpoint: Path, target: Path) -> None:
    target.mkdir(parents=True)
    for path in sorted(checkpoint.iterdir()):
        if path.is_file() and not _NOT_OF_THE_MODEL.match(path.name):
            try:
                os.link(path, target / path.name)
            except OSError:  # another disk, or one without links
                shutil.copy2(path, target / path.name)


def report(
    kinds: list[str], output_dir: str | Path, run: str | Path, step: int, evaluations: Mapping[str, Evaluation]
) -> None:
    """
    Hands the scalars of a checkpoint on to TensorBoard or Weights & Biases.

    Args:
        kinds (`list[str]`):
            `"tensorboard"`, which writes `OUT/tensorboard`, and `"wandb"`.
        output_dir (`str` or `Path`):
            OUT.
        run (`str` or `Path`):
            The training folder, after which the W&B run is named.
        step (`int`):
            The checkpoint's step.
        evaluations (`Mapping[str, Evaluation]`):
            Evaluation by dataset.
    """
    scalars = {
        f"{dataset}/{name}": value
        for dataset, evaluation in evaluations.items()
        for name, value in _scalars(evaluation).items()
    }
    if "tensorboard" in kinds:
        from torch.utils.tensorboard import SummaryWriter

        with SummaryWriter(str(Path(output_dir) / "tensorboard")) as writer:
            for name, value in scalars.items():
                writer.add_scalar(name, value, step)
    if "wandb" in kinds:
        import wandb

        name = f"{Path(run).resolve().name}-evaluation"
        session: Any = wandb.run or wandb.init(name=name, id=name, resume="allow", dir=str(output_dir))
        session.define_metric("step")
        session.define_metric("*", step_metric="step")
        session.log({"step": step, **scalars})


def _scalars(evaluation: Evaluation) -> dict[str, float]:
    of_k = {f"pass@{k}": estimate.value for k, estimate in evaluation.pass_at_k.items()}
    majority = {f"maj@{k}": estimate.value for k, estimate in evaluation.majority_at_k.items() if k > 1}
    total = len(evaluation.num_correct) * evaluation.num_samples
    rest = {"undecided": evaluation.num_undecided / total, "mean_tokens": evaluation.mean_length}
    return of_k | majority | rest | {"truncated": evaluation.truncation_rate}
