"""Logs of lm-evaluation-harness and inspect_ai: they go in and run folders come out, or the other way round.

An imported completion is verified anew, by the rules of every other run, so that runs made elsewhere can be compared.
"""

import hashlib
import json
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import problem_of
from ..problem import ANSWER_COLUMNS, QUESTION_COLUMNS, Problem
from .judges import VerifierJudge
from .records import CONFIG, RunFolder, Sample, find_runs, read_json, read_problems, read_samples
from .results import Evaluation
from .runner import judged, resolve_ks
from .runs import read_summary
from .samplers import Completion, Request
from .tally import GROUPINGS, Tally


CHUNK = 500
"""Completions verified and written at a time."""


@dataclass(frozen=True, slots=True)
class Foreign:
    """
    A completion of another program's log.

    Attributes:
        problem ([`~data.Problem`]):
            What was asked.
        text (`str`):
            What was answered.
        num_tokens (`int`):
            Length in tokens, 0 where the log does not tell.
        truncated (`bool`):
            Whether it ran into its limit, as far as the log tells.
    """

    problem: Problem
    text: str
    num_tokens: int = 0
    truncated: bool = False


def import_log(
    log: str | Path, output_dir: str | Path, grader: str = "default", answer_format: str = "auto"
) -> Evaluation:
    """
    Makes a run folder of another program's log.

    Args:
        log (`str` or `Path`):
            `samples_*.jsonl` of lm-evaluation-harness (`--log_samples`), or an `.eval` or `.json` log of inspect_ai.
        output_dir (`str` or `Path`):
            Run folder to write.
        grader (`str`, *optional*, defaults to `"default"`):
            As in [`~verifier.verify`].
        answer_format (`str`, *optional*, defaults to `"auto"`):
            As in [`~verifier.verify`]: where the answer is in a completion.

    Returns:
        [`~evaluation.results.Evaluation`]

    Raises:
        ValueError: If it is no such log, has no question or reference, or not the same number of samples throughout.
    """
    log = Path(log)
    if not log.is_file():
        raise ValueError(
            f"A log must be a file; there is none at {str(log)!r}. Name a samples_*.jsonl, .eval or .json."
        )
    try:
        model, found = (_read_lm_eval if log.suffix == ".jsonl" else _read_inspect)(log)
    except (KeyError, TypeError, IndexError, AttributeError, ValueError, zipfile.BadZipFile) as error:
        raise ValueError(
            "A log must be samples_*.jsonl of lm-evaluation-harness, or .eval or .json of inspect_ai; "
            f"{str(log)!r} is not ({type(error).__name__}: {error}). Log the samples as well: lm_eval --log_samples."
        ) from error
    by_problem: dict[str, list[Foreign]] = {}
    for each in found:
        by_problem.setdefault(each.problem.id, []).append(each)
    sizes = {len(samples) for samples in by_problem.values()}
    if len(sizes) != 1:
        raise ValueError(
            f"Every problem of a log must have the same number of samples; {str(log)!r} has {min(sizes, default=0)} "
            f"to {max(sizes, default=0)}. Finish the run, or drop the duplicates of its dataset."
        )
    (num_samples,) = sizes
    problems = {id: samples[0].problem for id, samples in by_problem.items()}
    with log.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    config = {
        "sampler": {"engine": "imported", "model": model},
        "log": digest,
        "grader": grader,
        "answer_format": answer_format,
    }
    rows = [problem.to_dict() for problem in problems.values()]
    judge = VerifierJudge(grader, answer_format)
    tally = Tally(list(problems), num_samples)
    with RunFolder(output_dir, config, rows) as folder:
        for sample in read_samples(output_dir, with_completions=False):
            tally.add(sample)
        missing = [
            Completion(Request(id, index, each.problem.question), each.text, each.num_tokens, each.truncated)
            for id, samples in by_problem.items()
            for index, each in enumerate(samples)
            if not tally.has(id, index)
        ]
        for start in range(0, len(missing), CHUNK):
            samples = judged(missing[start : start + CHUNK], problems, judge)
            folder.append(samples)
            for sample in samples:
                tally.add(sample)
        groups = {name: [getattr(problem, name) for problem in problems.values()] for name in GROUPINGS}
        evaluation = tally.evaluation(resolve_ks(None, num_samples), groups)
        folder.write_summary(evaluation.to_dict())
    return evaluation


def _read_lm_eval(log: Path) -> tuple[str, list[Foreign]]:
    found: dict[Any, list[Foreign]] = {}
    with log.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            if row["doc_id"] in found:  # once per filter, with the same responses
                continue
            problem = _problem(row["doc"], row.get("target"))
            (responses,) = row["resps"]  # one request per document, and its repeats
            texts = [responses] if isinstance(responses, str) else responses
            found[row["doc_id"]] = [Foreign(problem, _text(text)) for text in texts]
    return _model_beside(log), [each for samples in found.values() for each in samples]


def _model_beside(log: Path) -> str:
    """The model's name in the results that lm-evaluation-harness writes beside the samples."""
    date = log.stem.rpartition("_")[2]
    for results in log.parent.glob(f"results_{date}.json"):
        content = read_json(results)
        return str(content.get("model_name") or content.get("config", {}).get("model_args") or log.parent.name)
    return log.parent.name


def _read_inspect(log: Path) -> tuple[str, list[Foreign]]:
    if log.suffix == ".eval":
        with zipfile.ZipFile(log) as archive:
            header = json.loads(archive.read("header.json"))
            names = sorted(name for name in archive.namelist() if name.startswith("samples/"))
            rows = [json.loads(archive.read(name)) for name in names]
    else:
        header = json.loads(log.read_text(encoding="utf-8"))
        rows = header["samples"]
    found = []
    places = {id: place for place, id in enumerate(dict.fromkeys(row["id"] for row in rows))}
    for row in sorted(rows, key=lambda row: (places[row["id"]], row["epoch"])):
        target = row["target"] if isinstance(row["target"], str) else row["target"][0]
        problem = _problem({"question": _last_user_text(row["input"]), **(row.get("metadata") or {})}, target)
        choice, usage = row["output"]["choices"][0], row["output"].get("usage") or {}
        num_tokens, truncated = int(usage.get("output_tokens", 0)), choice.get("stop_reason") == "max_tokens"
        found.append(Foreign(problem, _content(choice["message"]["content"]), num_tokens, truncated))
    return header["eval"]["model"], found


def _problem(doc: Mapping[str, Any], target: Any) -> Problem:
    """The problem of a document, by the columns in which datasets have it; the reference may be the target alone."""
    question = next((doc[name] for name in QUESTION_COLUMNS if isinstance(doc.get(name), str)), None)
    if question is None:
        raise ValueError(f"no question among {', '.join(doc)}")
    reference = next((doc[name] for name in ANSWER_COLUMNS if doc.get(name) is not None), target)
    return problem_of(doc, question, reference)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a response that is no text: {value!r:.60}")
    return value


def _last_user_text(given: str | list[dict[str, Any]]) -> str:
    if isinstance(given, str):
        return given
    return _content(next(message["content"] for message in reversed(given) if message["role"] == "user"))


def _content(content: str | list[dict[str, Any]]) -> str:
    """The text of a message, which may be in parts: what is thought aside is no part of the answer."""
    if isinstance(content, str):
        return content
    return "".join(part["text"] for part in content if part["type"] == "text")


def export_run(run: str | Path, output_dir: str | Path, kind: str) -> list[Path]:
    """
    Writes the log that another program would have written.

    Args:
        run (`str` or `Path`):
            Output folder of an evaluation.
        output_dir (`str` or `Path`):
            Folder to write into.
        kind (`str`):
            `"lm-eval"`: `samples_DATASET_run.jsonl` and `results_run.json`, as `lm_eval --log_samples` does;
            `"inspect"`: `DATASET.json`, which `inspect view` shows.

    Returns:
        `list[Path]`: the files

    Raises:
        ValueError: If a run is not finished.
    """
    output_dir = Path(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    written = []
    results: dict[str, tuple[Evaluation, str]] = {}
    for dataset, folder in find_runs(run).items():
        evaluation, model = results[dataset] = read_summary(folder), _model_of(folder)
        problems = read_problems(folder)
        by_problem: dict[str, list[Sample]] = {problem["id"]: [] for problem in problems}
        for sample in read_samples(folder):
            if sample.sample_index < evaluation.num_samples:
                by_problem[sample.problem_id].append(sample)
        for samples in by_problem.values():
            samples.sort(key=lambda sample: sample.sample_index)
        if kind == "lm-eval":
            path = output_dir / f"samples_{dataset}_run.jsonl"
            lines = (_lm_eval_row(i, problem, by_problem[problem["id"]]) for i, problem in enumerate(problems))
            _write_lines(path, (json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
        else:
            path = output_dir / f"{dataset}.json"
            _write_lines(path, _inspect_log(dataset, model, evaluation, problems, by_problem))
        written.append(path)
    if kind == "lm-eval":
        path = output_dir / "results_run.json"
        _write_lines(path, [json.dumps(_lm_eval_results(results), indent=2, ensure_ascii=False) + "\n"])
        written.append(path)
    return written


def _model_of(folder: Path) -> str:
    return str(read_json(folder / CONFIG).get("sampler", {}).get("model", folder.name))


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    with path.open("w", encoding="utf-8", errors="replace") as file:
        file.writelines(lines)


def _lm_eval_row(number: int, problem: Mapping[str, Any], samples: list[Sample]) -> dict[str, Any]:
    doc = {name: value for name, value in problem.items() if value is not None}
    value = sum(sample.outcome == "correct" for sample in samples) / max(1, len(samples))
    return {
        "doc_id": number,
        "doc": doc,
        "target": problem.get("answer"),
        "arguments": {"gen_args_0": {"arg_0": problem.get("question"), "arg_1": {}}},
        "resps": [[sample.completion for sample in samples]],
        "filtered_resps": [[sample.answer or "" for sample in samples]],
        "filter": "none",
        "metrics": ["exact_match"],
        "doc_hash": hashlib.sha256(json.dumps(doc, indent=2, ensure_ascii=False).encode()).hexdigest(),
        "prompt_hash": hashlib.sha256(str(problem.get("question")).encode()).hexdigest(),
        "target_hash": hashlib.sha256(str(problem.get("answer")).encode()).hexdigest(),
        "exact_match": value,
    }


def _lm_eval_results(results: Mapping[str, tuple[Evaluation, str]]) -> dict[str, Any]:
    def metrics(name: str, evaluation: Evaluation) -> dict[str, Any]:
        of_k = {f"pass@{k},none": estimate.value for k, estimate in evaluation.pass_at_k.items()}
        return {"alias": name, "exact_match,none": evaluation.pass_at_k[min(evaluation.pass_at_k)].value} | of_k

    sizes = {name: len(evaluation.num_correct) for name, (evaluation, _) in results.items()}
    _, model = next(iter(results.values()))
    return {
        "results": {name: metrics(name, evaluation) for name, (evaluation, _) in results.items()},
        "n-samples": {name: {"original": size, "effective": size} for name, size in sizes.items()},
        "higher_is_better": {name: {"exact_match": True} for name in results},
        "config": {"model": "nsr-trl", "model_args": model},
        "model_name": model,
    }


def _inspect_log(
    dataset: str,
    model: str,
    evaluation: Evaluation,
    problems: list[dict[str, Any]],
    by_problem: Mapping[str, list[Sample]],
) -> Iterator[str]:
    """The JSON of an `EvalLog`, sample by sample."""
    created, total = "1970-01-01T00:00:00+00:00", len(problems) * evaluation.num_samples
    metrics = {f"pass@{k}": {"name": f"pass@{k}", "value": e.value} for k, e in evaluation.pass_at_k.items()}
    header = {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": f"nsr-trl-{dataset}",
            "run_id": f"nsr-trl-{dataset}",
            "created": created,
            "task": dataset,
            "task_id": dataset,
            "task_version": 0,
            "dataset": {"name": dataset, "samples": len(problems), "sample_ids": [p["id"] for p in problems]},
            "model": model,
            "config": {"epochs": evaluation.num_samples},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": total,
            "completed_samples": total,
            "scores": [{"name": "nsr_trl", "scorer": "nsr_trl", "metrics": metrics}],
        },
        "stats": {"started_at": created, "completed_at": created},
    }
    yield json.dumps(header, ensure_ascii=False)[:-1] + ', "samples": ['
    separator = "\n"
    for problem in problems:
        for sample in by_problem[problem["id"]]:
            yield separator + json.dumps(_inspect_sample(problem, sample, model), ensure_ascii=False)
            separator = ",\n"
    yield "\n]}\n"


def _inspect_sample(problem: Mapping[str, Any], sample: Sample, model: str) -> dict[str, Any]:
    message = {"role": "assistant", "content": sample.completion, "source": "generate"}
    metadata = {name: problem[name] for name in GROUPINGS if problem.get(name) is not None}
    return {
        "id": problem["id"],
        "epoch": sample.sample_index + 1,
        "input": problem.get("question") or "",
        "target": problem.get("answer") or "",
        "messages": [{"role": "user", "content": problem.get("question") or "", "source": "input"}, message],
        "output": {
            "model": model,
            "choices": [{"message": message, "stop_reason": "max_tokens" if sample.truncated else "stop"}],
            "usage": {"input_tokens": 0, "output_tokens": sample.num_tokens, "total_tokens": sample.num_tokens},
        },
        "scores": {
            "nsr_trl": {
                "value": {"correct": "C", "incorrect": "I"}.get(sample.outcome, "N"),
                "answer": sample.answer,
                "explanation": ", ".join(filter(None, [sample.outcome, sample.reason, sample.rule])),
            }
        },
        "metadata": metadata,
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }
