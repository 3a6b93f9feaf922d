"""Runs made elsewhere: logs of lm-evaluation-harness and inspect_ai, in and out."""

import json
import zipfile

import pytest

from nsr_trl.choices import LOG_FORMATS
from nsr_trl.cli import main
from nsr_trl.evaluation.exchange import export_run, import_log
from nsr_trl.evaluation.records import read_problems, read_samples
from nsr_trl.problem import Problem


def lm_eval_log(folder, answers, date="2026-01-02T03-04-05.678901"):
    """`samples_gsm8k_DATE.jsonl` as version 0.4.13 writes it, one line per document and filter, and the results."""
    folder.mkdir(parents=True)
    rows = [
        {
            "doc_id": number,
            "doc": {"question": f"What is {number} + 1?", "answer": f"It is <<{number}+1>>\n#### {number + 1}"},
            "target": f"It is <<{number}+1>>\n#### {number + 1}",
            "arguments": {"gen_args_0": {"arg_0": f"Q: What is {number} + 1?\nA:", "arg_1": {"until": ["Q:"]}}},
            "resps": [[rf"So \boxed{{{answer}}}" for answer in texts]],
            "filtered_resps": [str(texts[0])],
            "filter": kind,
            "metrics": ["exact_match"],
            "doc_hash": "0",
            "prompt_hash": "0",
            "target_hash": "0",
            "exact_match": 1.0,
        }
        for number, texts in enumerate(answers)
        for kind in ("strict-match", "flexible-extract")
    ]
    log = folder / f"samples_gsm8k_{date}.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"results_{date}.json").write_text(json.dumps({"results": {}, "model_name": folder.name}))
    return log


def inspect_rows(answers):
    return [
        {
            "id": number,
            "epoch": epoch,
            "input": [{"role": "system", "content": "Think."}, {"role": "user", "content": f"What is {number} + 1?"}],
            "target": str(number + 1),
            "output": {
                "choices": [
                    {
                        "message": {
                            "role": "assistant",
                            "content": [
                                {"type": "reasoning", "reasoning": "hm"},
                                {"type": "text", "text": rf"\boxed{{{answer}}}"},
                            ],
                        },
                        "stop_reason": "max_tokens" if epoch == 2 else "stop",
                    }
                ],
                "usage": {"output_tokens": 7},
            },
            "metadata": {"level": number},
        }
        for number, texts in enumerate(answers)
        for epoch, answer in enumerate(texts, start=1)
    ]


def test_two_logs_of_lm_evaluation_harness_are_compared(tmp_path, capsys):
    # right answers are 1, 2, ... 8: the first model knows every second one half of the time, the second all of them
    base = lm_eval_log(tmp_path / "base", [[n + 1, 0] if n % 2 else [0, 0] for n in range(8)])
    tuned = lm_eval_log(tmp_path / "tuned", [[n + 1, n + 1] for n in range(8)])
    for log in (base, tuned):
        main(["import", str(log), "--output-dir", str(tmp_path / f"run-{log.parent.name}")])
    folder = tmp_path / "run-base" / "gsm8k"
    assert [problem["answer"] for problem in read_problems(folder)] == [str(n + 1) for n in range(8)]
    assert len(list(read_samples(folder))) == 16  # each once, though each filter has a line
    assert json.loads((folder / "config.json").read_text())["sampler"] == {"engine": "imported", "model": "base"}
    capsys.readouterr()
    main(["compare", str(tmp_path / "run-base"), str(tmp_path / "run-tuned"), "--names", "base", "tuned"])
    row = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("Pass@1")).split()
    # 4 of 16 right against 16 of 16
    assert (row[0], row[1], row[4], row[7], row[-1]) == ("Pass@1", "25.0", "100.0", "+75.0", "above")


@pytest.mark.parametrize("suffix", ["json", "eval"])
def test_a_log_of_inspect_is_imported(tmp_path, suffix):
    header = {"version": 2, "eval": {"model": "openai/m", "task": "sums"}}
    log, rows = tmp_path / f"log.{suffix}", inspect_rows([[1, 0], [2, 2]])
    if suffix == "json":
        log.write_text(json.dumps(header | {"samples": rows}))
    else:
        with zipfile.ZipFile(log, "w") as archive:
            archive.writestr("header.json", json.dumps(header))
            for row in rows:
                archive.writestr(f"samples/{row['id']}_epoch_{row['epoch']}.json", json.dumps(row))
    evaluation = import_log(log, tmp_path / "run")
    first = Problem("What is 0 + 1?", "1")
    assert evaluation.num_correct == {first.id: 1, Problem("What is 1 + 1?", "2").id: 2}
    assert (evaluation.mean_length, evaluation.truncation_rate) == (7, 0.5)
    assert {sample.completion for sample in read_samples(tmp_path / "run")} == {
        rf"\boxed{{{answer}}}" for answer in (0, 1, 2)
    }
    assert import_log(log, tmp_path / "run") == evaluation  # a second time there is nothing to do


def test_an_answer_format_that_is_none_leaves_no_run_behind(tmp_path):
    log = lm_eval_log(tmp_path / "log", [[1, 0]])
    with pytest.raises(ValueError, match="The answer format must be a regular expression"):
        import_log(log, tmp_path / "run", answer_format="(")
    assert import_log(log, tmp_path / "run").num_samples == 2  # not refused as a run of another config


@pytest.mark.parametrize("kind", LOG_FORMATS)
def test_what_is_exported_is_imported_as_it_was(tmp_path, kind):
    evaluation = import_log(lm_eval_log(tmp_path / "log", [[1, 0], [5, 2], [0, 0]]), tmp_path / "run" / "gsm8k")
    paths = export_run(tmp_path / "run", tmp_path / "out", kind)
    again = import_log(paths[0], tmp_path / "again")
    assert again == evaluation
    assert read_problems(tmp_path / "again") == read_problems(tmp_path / "run" / "gsm8k")

    def texts(folder):
        return {(sample.problem_id, sample.sample_index): sample.completion for sample in read_samples(folder)}

    assert texts(tmp_path / "again") == texts(tmp_path / "run" / "gsm8k")


def test_a_log_that_is_none_is_told(tmp_path, capsys):
    for name, content in {
        "samples_x_1.jsonl": "{}\n",
        "samples_y_1.jsonl": "no json",
        "a.json": "[]",
        "b.json": '{"eval": {"model": "m"}, "samples": [{"id": 1}]}',
        "c.eval": "no archive",
    }.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(SystemExit):
            main(["import", str(tmp_path / name), "--output-dir", str(tmp_path / "run")])
        error = capsys.readouterr().err
        assert "A log must be samples_*.jsonl of lm-evaluation-harness, or .eval or .json of inspect_ai" in error
        assert "Traceback" not in error
    uneven = lm_eval_log(tmp_path / "uneven", [[1, 0], [2]])
    with pytest.raises(ValueError, match=r"must have the same number of samples; .* has 1 to 2\. Finish"):
        import_log(uneven, tmp_path / "run")
    with pytest.raises(ValueError, match="there is none at"):
        import_log(tmp_path / "gone.jsonl", tmp_path / "run")
