"""One task from training to card: for each layout, two steps of training, an evaluation, the references, the card."""

import json
from pathlib import Path

import pytest

from nsr_trl.cli import main
from nsr_trl.evaluation.records import read_samples
from nsr_trl.train import main as train


def chat(text):
    return [{"role": "user", "content": text}]


def verl(prompt, truth):
    return {"prompt": prompt, "reward_model": {"style": "rule", "ground_truth": truth}, "data_source": "sums"}


ROWS = {
    "plain": (lambda q, a: {"problem": q, "answer": int(a)}, "boxed"),
    "gsm8k": (lambda q, a: {"question": q, "answer": f"It is <<{q}={a}>>{a}.\n#### {a}"}, "gsm8k"),
    "conversational": (lambda q, a: {"prompt": chat(q), "solution": f"${a}$"}, "boxed"),
    "verl": (lambda q, a: verl(chat(f"{q} The answer goes into <answer>."), a), "xml"),
    "verl-of-the-paper": (lambda q, a: verl(chat(q), {"question": q, "target": a}), "boxed"),
    "dapo": (lambda q, a: verl(chat(f"{q} The last line is Answer: $Answer."), a), r"Answer:\s*([^\n]+)"),
    "openr1": (lambda q, a: {"problem": q, "solution": "", "answer": a, "generations": ["x"]}, "boxed"),
    "numina": (lambda q, a: {"problem": q, "solution": f"So $\\boxed{{{a}}}$.", "messages": chat(q)}, "boxed"),
}


@pytest.fixture(params=ROWS)
def task(request, tmp_path):
    """A task's file on rows of one layout, and its answer format."""
    row, answer_format = ROWS[request.param]
    lines = [json.dumps(row(f"What is {n}+{n}?", str(2 * n))) for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines) + "\n")
    path = tmp_path / "mine.yaml"
    source = json.dumps(str(tmp_path / "rows.jsonl"))
    path.write_text(f"train: {source}\ntest: {source}\nanswer_format: {json.dumps(answer_format)}\n")
    return path, answer_format


def test_what_was_trained_is_what_is_measured(task, tiny_model, tmp_path, capsys):
    path, answer_format = task
    run = tmp_path / "run"
    train(
        [
            *("--task", str(path), "--model_name_or_path", tiny_model, "--output_dir", str(run), "--use_cpu", "true"),
            *("--per_device_train_batch_size", "4", "--num_generations", "4", "--max_completion_length", "4"),
            *("--max_steps", "2", "--bf16", "false", "--report_to", "none", "--gradient_checkpointing", "false"),
        ]
    )
    evaluation = str(tmp_path / "evaluation")
    main(
        [
            *("evaluate", "--task", str(path), "--model", str(run), "--output-dir", evaluation, "--num-samples", "2"),
            *("--max-new-tokens", "4", "--num-problems", "3", "--sampler", "transformers"),
        ]
    )
    assert len(list(read_samples(Path(evaluation) / "mine"))) == 6
    config = json.loads((Path(evaluation) / "mine" / "config.json").read_text())
    assert config.get("answer_format", "boxed") == answer_format
    with pytest.raises(SystemExit) as ended:
        main(["verify", "--gold", str(path)])
    assert ended.value.code == 0
    assert "8 of 8 references are understood" in capsys.readouterr().out
    main(["card", str(run), "--evaluation", evaluation])
    card = (run / "README.md").read_text()
    assert "| task | mine |" in card
    assert f"| answer | {answer_format} |" in card
    assert "### mine" in card
