"""A training folder becomes a card with its evidence, and the same card when it is written again."""

import http.server
import json
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from huggingface_hub import ModelCard

from nsr_trl import Problem, evaluate
from nsr_trl.cli import main
from nsr_trl.evaluation.samplers import TransformersSampler
from nsr_trl.run_card import command_line


SCRIPT = Path(__file__).with_name("push_model.py")


@pytest.fixture
def trained(make_trainer, tmp_path):
    """A trainer after two steps with a checkpoint, its folder and a function that evaluates into another."""
    trainer = make_trainer(save_strategy="steps", save_steps=1)
    trainer.train()
    problems = [Problem(f"{n}+{n}=", str(2 * n)) for n in range(3)]

    def evaluate_into(folder):
        sampler = TransformersSampler(trainer.model, trainer.processing_class, max_new_tokens=4)
        evaluate(sampler, problems, num_samples=4, template="plain", output_dir=folder, show_progress=False)
        return str(folder)

    return trainer, tmp_path, evaluate_into


def test_a_checkpoint_writes_a_card_with_what_was_trained_and_the_end_draws_its_dynamics(trained):
    trainer, folder, _ = trained
    text = (folder / "README.md").read_text()
    assert "| completions sampled | 16 |" in text  # two steps of 8
    assert "| time in update |" in text
    assert "training_dynamics" not in text
    assert not (folder / "training_dynamics.png").exists()
    trainer.create_model_card()
    text = (folder / "README.md").read_text()
    assert "![Training dynamics](training_dynamics.png)" in text
    assert (folder / "training_dynamics.png").stat().st_size > 10_000
    assert "## Evaluation" not in text


def test_the_card_command_adds_evaluations_and_writes_the_same_twice(trained, tmp_path_factory, capsys):
    _, folder, evaluate_into = trained
    elsewhere = tmp_path_factory.mktemp("evaluations")
    base = evaluate_into(elsewhere / "base" / "sums")
    after = evaluate_into(elsewhere / "after" / "sums")
    main(["card", str(folder), "--evaluation", str(Path(after).parent), "--base", str(Path(base).parent)])
    assert capsys.readouterr().out.strip() == str(folder / "README.md")
    text = (folder / "README.md").read_text()
    assert "### sums\n\n|  | before | after | after - before | p | verdict |" in text
    assert "![Pass@k](pass_at_k.png)" in text
    assert {result.dataset_name for result in ModelCard(text).data.eval_results} == {"sums"}
    assert not list(folder.glob("evaluation/**/samples.jsonl"))  # the summaries, not the samples
    main(["card", str(folder)])
    assert (folder / "README.md").read_text() == text


def test_the_card_has_the_curve_over_steps_and_the_comparison_at_equal_pass_at_1(trained, tmp_path_factory):
    _, folder, evaluate_into = trained
    elsewhere = tmp_path_factory.mktemp("steps")
    for name, step in [("mine", 0), ("mine", 2), ("other", 0), ("other", 4)]:
        evaluate_into(elsewhere / name / f"checkpoint-{step}" / "sums")
    (elsewhere / "mine" / "checkpoint-2" / "training.json").write_text('{"num_tokens": 64}')
    main(["card", str(folder), "--steps", str(elsewhere / "mine"), str(elsewhere / "other")])
    text = (folder / "README.md").read_text()
    assert "## Over the steps of training\n\n![Pass@k over steps](pass_at_k_over_steps.png)" in text
    assert "### At equal Pass@1, sums" in text
    assert "| step | 0 | 0 |" in text  # the model before training has the Pass@1 already
    main(["card", str(folder)])
    assert (folder / "README.md").read_text() == text


def test_an_evaluation_without_its_base_is_shown_alone(trained):
    trainer, folder, evaluate_into = trained
    evaluate_into(folder / "evaluation" / "after")
    trainer.create_model_card()
    text = (folder / "README.md").read_text()
    assert "Pass@4" in text
    assert "verdict" not in text


def test_a_folder_of_no_run_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit) as exit:
        main(["card", str(tmp_path)])
    assert exit.value.code == 2
    assert "A card is made of what a training run recorded in nsr_trl_run.json" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "command"),
    [
        (["/usr/bin/nsr-trl", "quickstart", "--seed", "3"], "nsr-trl quickstart --seed 3"),
        (["/x/nsr_trl/train.py", "--config", "my file.yaml"], "nsr-trl train --config 'my file.yaml'"),
        (["/x/train_math.py", "--hub_token", "hf_abc", "--a=b"], "python train_math.py --hub_token ... --a=b"),
        (["train.py", "--hub_token=hf_abc"], "python train.py --hub_token=..."),
        (["/x/ipykernel_launcher.py", "-f", "kernel.json"], None),
        (["-c"], None),
        ([""], None),
    ],
)
def test_the_command_is_what_a_user_types_without_secrets(argv, command):
    assert command_line(argv) == command


class Hub(http.server.BaseHTTPRequestHandler):
    """The requests of an upload, answered as the Hub does; every file comes inside the commit."""

    def do_GET(self):
        self.answer({"name": "someone", "type": "user", "orgs": [], "auth": {"type": "access_token"}})

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = f"http://{self.headers['Host']}/someone/tiny"
        if "/preupload/" in self.path:
            files = json.loads(body)["files"]
            modes = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            self.answer({"files": modes})
        elif "/commit/" in self.path:
            self.server.commits.append([json.loads(line) for line in body.splitlines()])
            self.answer({"commitOid": "0" * 40, "commitUrl": f"{url}/commit/{'0' * 40}", "hookOutput": ""})
        else:
            self.server.paths.append(self.path)
            self.answer({"url": url, "name": "someone/tiny", "errors": [], "warnings": []})

    def answer(self, content):
        text = json.dumps(content).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *args):
        pass


def test_push_to_hub_uploads_the_model_with_its_card_and_figures(tiny_model, tmp_path):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        server.commits, server.paths = [], []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{server.server_port}"
        environment = os.environ | {"HF_ENDPOINT": endpoint, "HF_TOKEN": "hf_test", "HF_HUB_OFFLINE": "0"}
        command = [sys.executable, str(SCRIPT), tiny_model, str(tmp_path / "tiny")]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        server.shutdown()
    assert done.returncode == 0, done.stderr[-4000:]
    assert any(path.endswith("/repos/create") for path in server.paths)
    files = {
        entry["value"]["path"]: entry["value"]
        for commit in server.commits
        for entry in commit
        if entry["key"] == "file"
    }
    assert {"README.md", "model.safetensors", "training_dynamics.png", "nsr_trl_run.json"} <= files.keys()
    card = ModelCard((tmp_path / "tiny" / "README.md").read_text())
    assert card.data.library_name == "transformers"
    assert {"trl", "nsr-trl", "nsr"} <= set(card.data.tags)
    assert card.data.base_model is None  # a local folder: no link that leads nowhere
    assert 'model="someone/tiny"' in card.text
    assert "push_model.py" in card.text
