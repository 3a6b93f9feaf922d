"""The command, run as a user runs it."""

import json
import os
import re
import resource
import signal
import subprocess
import sys

import pytest
from datasets import Dataset

import nsr_trl
from nsr_trl.choices import OBJECTIVES
from nsr_trl.cli import main
from nsr_trl.objective import OBJECTIVE_NAMES
from nsr_trl.quickstart import run as quickstart_run


def run(*arguments):
    return subprocess.run([sys.executable, "-m", "nsr_trl", *arguments], capture_output=True, text=True, timeout=120)


@pytest.mark.processes
def test_help_answers_in_under_half_a_second_of_cpu_time():
    seconds = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = run("--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0
        assert "quickstart" in done.stdout
    assert min(seconds) < 0.5  # the best of three: a shared machine slows some


@pytest.mark.processes
def test_who_has_read_enough_of_it_ends_it_without_a_word():
    reader, writer = os.pipe()
    os.close(reader)  # as `head` does, which has its lines
    command = [sys.executable, "-m", "nsr_trl", "tasks"]
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, text=True, timeout=120)
    os.close(writer)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, "")


@pytest.mark.processes
def test_version_is_the_packages():
    assert run("--version").stdout.split() == ["nsr-trl", nsr_trl.__version__]


@pytest.mark.processes
def test_help_loads_nothing_heavy():
    code = "import sys, nsr_trl.cli as c; c.build_parser(); print({'torch', 'trl', 'transformers'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


def test_the_objectives_offered_are_those_of_the_table():
    assert OBJECTIVES == OBJECTIVE_NAMES


@pytest.mark.parametrize("arguments", [[], ["quickstrat"], ["quickstart", "--objective", "nrs"]])
def test_a_wrong_command_ends_with_its_sentence_and_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("nsr-trl")
    assert error.count("\n") == 1


def test_a_misspelt_command_is_told_the_nearest(capsys):
    with pytest.raises(SystemExit):
        main(["comapre", "a", "b"])
    assert capsys.readouterr().err.endswith(". Did you mean 'compare'?\n")


def test_flags_are_read_with_underscores_too_and_values_are_left_alone(tmp_path, capsys):
    path = tmp_path / "my_rows.jsonl"
    path.write_text('{"my_answer": "\\\\boxed{5}", "gold": "5"}\n')
    main(["verify", str(path), "--response_column=my_answer", "--num_slowest", "0"])
    assert re.search(r"correct +1 +100.00%", capsys.readouterr().out)


@pytest.mark.parametrize(("package", "ends"), [("no_such_package", True), ("trl", False)])
def test_a_package_that_is_missing_is_named_and_any_other_fault_of_an_import_is_not_hidden(
    package, ends, monkeypatch, capsys
):
    def verify(*args, **kwargs):
        raise ImportError("cannot import it", name=f"{package}.part")

    monkeypatch.setattr("nsr_trl.verifier.explain.verify", verify)
    with pytest.raises(SystemExit if ends else ImportError):
        main(["verify", "--explain", r"\boxed{5}", "5"])
    assert ("A package must be installed; no_such_package is not." in capsys.readouterr().err) == ends


def test_quickstart_never_overwrites_a_folder(tmp_path, capsys):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(SystemExit) as ended:
        main(["quickstart", "--output-dir", str(tmp_path)])
    assert ended.value.code == 2
    assert "must be new or empty" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


# --- verify ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def responses(tmp_path):
    """Builds a file of four responses: two correct, one incorrect, one undecided."""

    def write(name, response="response", gold="gold"):
        rows = [(r"\boxed{5}", "5"), (r"\boxed{0.5}", r"\frac12"), ("no box", "5"), (r"\boxed{0.333}", r"\frac13")]
        dataset = Dataset.from_list([{response: text, gold: answer} for text, answer in rows])
        path = str(tmp_path / name)
        dataset.to_parquet(path) if name.endswith("parquet") else dataset.to_json(path)
        return path

    return write


@pytest.mark.parametrize("name", ["rows.jsonl", "rows.parquet"])
def test_verify_counts_outcomes_and_reasons_and_shows_the_slowest(responses, name, capsys):
    main(["verify", responses(name)])
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0][:3] == ["4", "rows", "in"]
    assert ["correct", "2", "50.00%"] in lines
    assert ["incorrect", "1", "25.00%"] in lines
    assert ["undecided:", "contested", "form", "1", "25.00%"] in lines
    assert sum(line[:1] == ["row"] for line in lines) == 4


def test_verify_looks_for_references_where_a_dataset_has_them(responses, capsys):
    main(["verify", responses("rows.jsonl", gold="ground_truth")])  # verl's name, which a dataset may have
    assert "4 rows" in capsys.readouterr().out


def test_verify_reads_the_columns_it_is_told_to(responses, capsys):
    path = responses("rows.jsonl", response="text", gold="reference")
    main(["verify", path, "--response-column", "text", "--gold-column", "reference"])
    assert "4 rows" in capsys.readouterr().out


def test_verify_grades_by_the_rules_it_is_told_to(responses, capsys):
    path = responses("rows.jsonl")
    main(["verify", path, "--grader", "paper"])
    assert "undecided: contested form" not in capsys.readouterr().out
    main(["verify", path, "--answer-format", "gsm8k"])
    assert "answer elsewhere" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('{"text": "a", "gold": "5"}', "must be in a column named one of response, completion"),
        ('{"response": "a", "gold": "5"}\n[]', r"must be a JSON object in UTF-8; line 2 is '[]'"),
        ('{"response": ', "must be a JSON object in UTF-8; line 1"),
        ('{"response": "caf\xe9", "gold": "5"}'.encode("latin-1"), "must be a JSON object in UTF-8; line 1 is"),
        ("", "must have rows; "),
        (None, "The file must exist"),
    ],
)
def test_verify_refuses_what_it_cannot_read_with_a_sentence(tmp_path, capsys, content, sentence):
    path = tmp_path / "rows.jsonl"
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(SystemExit) as ended:
        main(["verify", str(path)])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_verify_reads_a_file_of_a_windows_editor(tmp_path, capsys):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"response": "\\\\boxed{5}", "gold": "5"}\r\n')
    main(["verify", str(path)])
    assert re.search(r"correct +1 +100", capsys.readouterr().out)


def test_verify_names_the_parquet_file_that_is_none(tmp_path, capsys):
    path = tmp_path / "rows.parquet"
    path.write_text("no parquet")
    with pytest.raises(SystemExit):
        main(["verify", str(path)])
    assert f"A .parquet file must be one that can be read; '{path}' cannot" in capsys.readouterr().err


def test_verify_leaves_samples_undecided_that_have_no_reference(tmp_path, capsys):
    (tmp_path / "problems.jsonl").write_text('{"id": "p", "question": "3+4?"}\n')
    whole = {"problem_id": "p", "sample_index": 0, "completion": "\\boxed{7}"}
    (tmp_path / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in (whole, {"completion": "7"})))
    main(["verify", str(tmp_path / "samples.jsonl")])
    assert re.search(r"undecided: no gold|undecided: .*reference.* 2 ", capsys.readouterr().out)


def test_verify_grades_the_samples_of_an_evaluation_by_its_problems(tmp_path, capsys):
    samples = tmp_path / "samples.jsonl"
    # `answer` is what was answered, and would be correct as an answer to itself
    samples.write_text(
        "".join(
            json.dumps({"problem_id": "p", "sample_index": i, "completion": f"\\boxed{{{n}}}", "answer": str(n)})
            + "\n"
            for i, n in enumerate((7, 8))
        )
    )
    with pytest.raises(SystemExit):
        main(["verify", str(samples)])
    assert "graded by the references in problems.jsonl beside them" in capsys.readouterr().err
    (tmp_path / "problems.jsonl").write_text('{"id": "p", "question": "3+4?", "answer": "7"}\n')
    main(["verify", str(samples)])
    shown = capsys.readouterr().out
    assert re.search(r"correct +1 +50", shown)
    assert re.search(r"incorrect +1 +50", shown)


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["FOLDER"],
            "must be a file; 'FOLDER' is a folder. To read the verdicts of an evaluation: nsr-trl show FOLDER",
        ),
        (
            ["--explain", "0.5"],
            "needs a response and its reference; got 1 texts. Type nsr-trl verify --explain RESPONSE",
        ),
        (["0.5", "1/2"], "unrecognized arguments: 1/2. Type nsr-trl verify --explain RESPONSE REFERENCE;"),
        (["FILE", "--explian"], "unrecognized arguments: --explian.\n"),
    ],
)
def test_verify_says_what_to_type(arguments, sentence, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "FOLDER").mkdir()
    with pytest.raises(SystemExit) as ended:
        main(["verify", *arguments])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err


def test_verify_finds_the_references_that_are_not_even_correct_against_themselves(tmp_path, capsys):
    path = tmp_path / "problems.jsonl"
    golds = [r"\boxed{\frac12}", r"so \boxed{}", "x^2", "7"]
    path.write_text("\n".join(json.dumps({"problem": f"p{i}", "solution": gold}) for i, gold in enumerate(golds)))
    with pytest.raises(SystemExit) as ended:
        main(["verify", "--gold", str(path)])
    assert ended.value.code == 1
    out = capsys.readouterr().out
    assert "3 of 4 references are understood" in out
    assert "3 of 4 near misses are called incorrect" in out
    assert "1 of 4 references cannot be used" in out
    assert "row 1: it is missing" in out


# --- recipes and train -----------------------------------------------------------------------------------------------


def test_recipes_and_tasks_are_listed_within_80_columns(capsys):
    for command, name, about in (
        ("recipes", "nsr-qwen2.5-math-7b", "penalise wrong answers only"),
        ("tasks", "gsm8k", "grade-school word problems"),
    ):
        main([command])
        lines = capsys.readouterr().out.splitlines()
        assert about in lines[lines.index(name) + 1]
        assert max(map(len, lines)) <= 80


def test_a_recipe_says_what_the_paper_does_not_have(capsys):
    main(["recipes"])
    groups = capsys.readouterr().out.split("\n\n")
    recipes = dict(zip(groups[::2], groups[1::2], strict=True))
    assert len(recipes) == 5
    (paper,) = (text for where, text in recipes.items() if where.startswith("The paper's settings"))
    assert "w-reinforce-qwen2.5-math-7b" in paper
    assert "w-reinforce-qwen3-4b" not in paper
    assert "lora" not in paper


def test_a_task_is_shown_as_its_file_and_what_it_amounts_to(capsys):
    main(["tasks", "show", "gsm8k"])
    shown = capsys.readouterr().out
    assert "answer_column: answer" in shown
    assert "# scored by  the verifier, grader default" in shown


def test_a_recipe_is_shown_flat_and_copied_to_a_new_file_only(tmp_path, capsys):
    main(["recipes", "show", "nsr-qwen3-4b"])
    shown = capsys.readouterr().out
    assert "learning_rate: 1.0e-6" in shown
    path = tmp_path / "mine.yaml"
    main(["recipes", "copy", "nsr-qwen3-4b", str(path)])
    assert path.read_text() == shown
    with pytest.raises(SystemExit) as ended:
        main(["recipes", "copy", "nsr-qwen3-4b", str(path)])
    assert ended.value.code == 2
    assert "must be new" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["recipes", "show", "nsr-qwen3"])
    assert "Did you mean 'nsr-qwen3-4b'" in capsys.readouterr().err


def test_a_dry_run_starts_nothing(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(["train", "--config", "nsr-qwen3-4b", "--dry-run", "--num_processes", "4"])
    assert "on each of 4 processes" in capsys.readouterr().out
    main(["train", "--config", "quickstart", "--max_completion_length", "200", "--dry-run"])
    # 200 + 1,024 of a prompt do not fit the 256 tokens that the model can attend to; 65,536 = 256 rows x 256
    assert "at most 256 a row, 65,536 an optimizer step" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_flags_that_only_train_and_doctor_pass_on_are_refused_elsewhere(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["quickstart", "--num_processes", "4"])
    assert ended.value.code == 2
    assert "unrecognized arguments" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--config", "quickstrat"], "Did you mean 'quickstart'"),
        (["--config", "quickstart", "--learning_rat", "1"], "did you mean 'learning_rate'"),
        (["--config", "quickstart", "--objective", "nrs"], "Did you mean 'nsr'"),
        (["--config", "quickstart", "--num_processes", "3"], "3 processes x per_device_train_batch_size=64 are 192"),
        (["--config", "quickstart", "--accelerate_config", "fsdp2", "--num_processes", "2"], "FSDP needs GPUs"),
        ([], "A run needs a model"),
    ],
)
def test_train_refuses_with_a_sentence_before_a_process_starts(arguments, sentence, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments])
    assert ended.value.code == 2
    assert sentence in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "said"),
    [(KeyboardInterrupt(), "Stopped. "), (quickstart_run.StoppedError("at step 3"), "Stopped at step 3. ")],
)
def test_the_command_to_go_on_with_names_the_folder_as_a_shell_reads_it(monkeypatch, capsys, error, said):
    def stop(**kwargs):
        raise error

    monkeypatch.setattr(quickstart_run, "run_quickstart", stop)
    with pytest.raises(SystemExit) as ended:
        main(["quickstart", "--output-dir", "./my runs"])
    assert ended.value.code == 130
    flags = "--objective w_reinforce --seed 0 --output-dir './my runs'"
    assert capsys.readouterr().err == f"\n{said}Go on with: nsr-trl quickstart {flags}\n"
