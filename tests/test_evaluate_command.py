"""`nsr-trl evaluate` and `nsr-trl merge`, run as a user runs them, with the quickstart's model."""

import json
import multiprocessing
import random
import re
import resource
import time
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from nsr_trl.cli import main
from nsr_trl.evaluation.presets import PRESETS
from nsr_trl.evaluation.records import RunFolder, read_problems, read_samples
from nsr_trl.evaluation.results import Evaluation
from nsr_trl.problem import PROMPT_TEMPLATES, Problem
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems


FORK = multiprocessing.get_context("fork")
PAPER_DATA = Path(__file__).parents[2] / "shared" / "data"


def write_problems(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def sums(tmp_path):
    """Eight arithmetic problems of two subjects as a file."""
    rows = generate_problems(8, seed=0, split="test")
    return write_problems(tmp_path / "sums.jsonl", [{**row, "subject": f"S{i % 2}"} for i, row in enumerate(rows)])


@pytest.fixture
def evaluate(sums, tmp_path):
    """Runs the command on the sums and returns the run folder; settings that a test names replace the small ones."""

    def run(output="run", dataset=sums, **flags):
        settings = {"model": model_path(), "template": "plain", "num_samples": 4, "max_new_tokens": 24} | flags
        main(["evaluate", "--dataset", str(dataset), "--output-dir", str(tmp_path / output), *as_flags(settings)])
        return tmp_path / output / Path(dataset).stem

    return run


def as_flags(settings):
    given = {name: value for name, value in settings.items() if value is not None}
    return [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", *str(value).split())]


@pytest.fixture
def refusal(evaluate, capsys):
    """The sentence with which the command refuses a run, with status 2."""

    def run(**flags):
        with pytest.raises(SystemExit) as ended:
            evaluate(**flags)
        assert ended.value.code == 2
        return capsys.readouterr().err

    return run


def lines(folder):
    return (folder / "samples.jsonl").read_text().splitlines()


def test_a_run_leaves_a_folder_per_dataset_that_is_complete_in_itself(evaluate, sums, capsys):
    folder = evaluate()
    assert sorted(path.name for path in folder.iterdir()) == [
        "config.json",
        "problems.jsonl",
        "samples.jsonl",
        "summary.json",
    ]
    rows = [json.loads(line) for line in sums.read_text().splitlines()]
    assert read_problems(folder) == [
        {"id": Problem(row["question"], row["answer"]).id, "level": None} | row for row in rows
    ]
    assert len(list(read_samples(folder))) == 8 * 4
    evaluation = Evaluation.from_dict(json.loads((folder / "summary.json").read_text()))
    assert sorted(evaluation.pass_at_k) == [1, 2, 4]
    out = capsys.readouterr().out
    assert evaluation.table() in out
    assert evaluation.breakdown() in out
    assert evaluation.breakdown().splitlines()[1].split()[:2] == ["S0", "4"]


def test_several_datasets_are_evaluated_in_turn(sums, tmp_path):
    other = write_problems(tmp_path / "other.jsonl", [{"question": "What is 1+1?", "answer": "2"}])
    flags = as_flags({"model": model_path(), "num_samples": 1, "max_new_tokens": 4, "num_problems": 2})
    main(["evaluate", *flags, "--output-dir", str(tmp_path / "both"), "--dataset", str(sums), str(other)])
    assert [len(lines(tmp_path / "both" / name)) for name in ("sums", "other")] == [2, 1]


def test_more_samples_are_added_to_those_there_are_and_fewer_are_read(evaluate):
    few = lines(evaluate(num_samples=2))
    many = lines(evaluate(num_samples=4))
    assert many[: len(few)] == few
    assert len(many) == 32
    folder = evaluate(num_samples=2)
    assert lines(folder) == many
    assert json.loads((folder / "summary.json").read_text())["num_samples"] == 2


def test_the_order_of_the_dataset_does_not_matter(evaluate, sums):
    before = lines(evaluate(output="before"))
    sums.write_text("".join(f"{line}\n" for line in reversed(sums.read_text().splitlines())))
    assert lines(evaluate(output="after")) == before


def test_merged_shards_are_the_run_that_was_not_split(evaluate, tmp_path, capsys):
    whole = evaluate(output="whole")
    shards = [evaluate(output=f"shard{i}", shard=f"{i}/3") for i in (3, 1, 2)]
    assert sorted(len(lines(shard)) for shard in shards) == [2 * 4, 3 * 4, 3 * 4]
    capsys.readouterr()
    main(["merge", str(tmp_path / "merged"), *(str(tmp_path / f"shard{i}") for i in (1, 2, 3))])
    merged = tmp_path / "merged" / "sums"
    evaluation = Evaluation.from_dict(json.loads((merged / "summary.json").read_text()))
    assert evaluation.table() in capsys.readouterr().out
    assert sorted(lines(merged)) == sorted(lines(whole))
    assert (merged / "config.json").read_text() == (whole / "config.json").read_text()
    assert len(lines(evaluate(output="merged", num_samples=5))) == 8 * 5  # and it can be enlarged
    main(["merge", str(tmp_path / "alone"), *map(str, shards)])  # run folders themselves
    assert sorted(lines(tmp_path / "alone")) == sorted(lines(whole))


def test_tasks_of_slurm_evaluate_a_shard_each_in_a_folder_of_its_own(evaluate, refusal, tmp_path, monkeypatch):
    assert "needs SLURM_PROCID and SLURM_NTASKS; got '' and ''. Start it with srun" in refusal(shard="slurm")
    whole = evaluate(output="whole")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    for task in ("0", "1"):
        monkeypatch.setenv("SLURM_PROCID", task)
        evaluate(output="tasks", shard="slurm")
    main(["merge", str(tmp_path / "merged"), *map(str, sorted((tmp_path / "tasks").glob("shard-*-of-2")))])
    assert sorted(lines(tmp_path / "merged" / "sums")) == sorted(lines(whole))


def test_a_merge_names_the_shard_that_is_missing_or_unlike_the_others(evaluate, tmp_path, capsys):
    def merge(*folders, output="merged"):
        with pytest.raises(SystemExit) as ended:
            main(["merge", str(tmp_path / output), *map(str, folders)])
        assert ended.value.code == 2
        assert output in ("first", "file") or not (tmp_path / output).exists()
        return capsys.readouterr().err

    first, second = (evaluate(output=name, shard=f"{i}/2") for i, name in ((1, "first"), (2, "second")))
    assert re.search(
        r"needs every shard of an evaluation once; got .*first/sums \(1/2\) and lacks 2/2\. Name", merge(first)
    )
    assert "needs every shard of an evaluation once" in merge(first, first)
    assert "lacks 2/20, 3/20, 4/20, 5/20, 6/20, 7/20, 8/20, 9/20 and 11 others. Name" in merge(
        evaluate(output="twenty", shard="1/20")
    )
    assert "differs from" in merge(first, evaluate(output="warm", shard="2/2", temperature=0.5))
    assert "temperature: 1.0 -> 0.5" in merge(first, tmp_path / "warm" / "sums")
    assert "same samples per problem" in merge(first, evaluate(output="more", shard="2/2", num_samples=5))
    assert "(not a shard)" in merge(evaluate(output="whole"))
    assert "must be new or empty" in merge(first, second, output="first")
    (tmp_path / "file").touch()
    assert "must be new or empty" in merge(first, second, output="file")
    (second / "summary.json").unlink()
    assert f"must be complete; {second} have no summary" in merge(first, second)
    assert "must be a folder with a problems.jsonl" in merge(tmp_path / "gone")


def test_a_merge_names_the_shard_that_lost_lines_and_leaves_nothing_when_it_fails(
    evaluate, tmp_path, capsys, monkeypatch
):
    first, second = (evaluate(output=name, shard=f"{i}/2") for i, name in ((1, "first"), (2, "second")))
    kept = lines(second)

    def refused():
        with pytest.raises(SystemExit):
            main(["merge", str(tmp_path / "merged"), str(first), str(second)])
        return capsys.readouterr().err

    (second / "samples.jsonl").write_text("".join(f"{line}\n" for line in kept[3:]))
    assert f"Shards must hold every sample; {second} lacks 3. Run its command again" in refused()
    (second / "samples.jsonl").write_text("".join(f"{line}\n" for line in kept))
    summary = (second / "summary.json").read_text()
    (second / "summary.json").write_text("")
    assert f"{second / 'summary.json'} must hold a JSON object; it is empty" in refused()
    (second / "summary.json").write_text(summary)

    def fails(*args):
        raise OSError("no room")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_summary", fails)
        assert "no room" in refused()
    assert not (tmp_path / "merged").exists()
    main(["merge", str(tmp_path / "merged"), str(first), str(second)])
    assert len(lines(tmp_path / "merged")) == 32


# --- bad input -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"dataset": "gone.jsonl"}, "must be an existing file; there is none at 'gone.jsonl'"),
        ({"dataset": "aime2026"}, "Did you mean 'aime2025'?"),
        ({"dataset": "no/such"}, "A dataset must be a task (`nsr-trl tasks` lists them), the id"),
        ({"question_column": "text"}, "question must be in a column named 'text'; the columns are question, answer"),
        ({"split": "test"}, "split"),
        ({"k": "1 8"}, "between 1 and the samples per problem; got k=[1, 8] and num_samples=4"),
        ({"model": "no/model"}, "A model must be the id of one on the Hub, or a folder"),
        ({"template": "qwen4"}, "`template` must be one of qwen,"),
        ({"shard": "0/2"}, "must be i/n with 1 <= i <= n"),
        ({"shard": "9/9"}, "got 9/9"),
        ({"num_samples": 0}, "must be at least 1"),
        ({"max_concurrency": 4}, "--max-concurrency must go with its own sampler; this run samples with transformers"),
    ],
)
def test_bad_input_ends_with_a_sentence_and_status_2(refusal, flags, sentence):
    error = refusal(**flags)
    assert sentence in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        ({"temperature": -1}, "`temperature` must be 0 (greedy) or more; got -1.0"),
        ({"top_p": 0}, "`top_p` must be above 0 and at most 1; got 0.0"),
        ({"top_k": -5}, "`top_k` must be 0 (all tokens) or more; got -5"),
        ({"dtype": "float17"}, "`dtype` must be auto, float32, float16 or bfloat16; got 'float17'"),
        ({"device": "cuda:99"}, "`device` must be one of this machine's, cpu"),
        ({"device": "gpu"}, "`device` must be one of this machine's, cpu"),
        ({"template": "qwen4"}, "`template` must be one of qwen,"),
        ({"output": "sums.jsonl"}, "sums.jsonl is not a folder. Name another with --output-dir"),
        ({"output": "sums.jsonl/below"}, "sums.jsonl is not a folder"),
        ({"seed": 1}, "this run changes seed: 0 -> 1"),
        ({"temperature": 0.5}, "this run changes sampler.temperature: 1.0 -> 0.5"),
        ({"num_problems": 7}, "this run changes problems: "),
    ],
)
def test_what_can_be_checked_is_checked_before_a_model_is_loaded(refusal, evaluate, monkeypatch, flags, sentence):
    evaluate(num_samples=1, max_new_tokens=4)

    def loads(*args, **kwargs):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr("nsr_trl.evaluation.samplers.AutoModelForCausalLM.from_pretrained", loads)
    assert sentence in refusal(**{"num_samples": 1, "max_new_tokens": 4} | flags)


@pytest.mark.parametrize("content", ["", "\n\n", "question,answer\n"])
def test_a_dataset_without_problems_is_named(refusal, tmp_path, content):
    path = tmp_path / f"none.{'csv' if ',' in content else 'jsonl'}"
    path.write_text(content)
    assert f"A dataset must have rows; '{path}' has none. Name another" in refusal(dataset=path)


@pytest.mark.parametrize("name", ["...jsonl", "..jsonl"])
def test_a_dataset_cannot_be_named_so_that_its_run_lies_elsewhere(refusal, sums, tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text(sums.read_text())
    assert "Rename the file" in refusal(dataset=tmp_path / "data" / name)
    assert not (tmp_path / "run").exists()


def test_new_tokens_beyond_the_models_context_are_told_before_sampling(evaluate, sums, capsys):
    asked = [json.loads(line)["question"] for line in sums.read_text().splitlines()]
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    longest = max(len(tokenizer(question)["input_ids"]) for question in asked)
    evaluate(output="within", num_samples=1, template="{input}", max_new_tokens=256 - longest)
    assert "context" not in capsys.readouterr().err
    evaluate(output="beyond", num_samples=1, template="{input}", max_new_tokens=256 - longest + 1)
    told = capsys.readouterr().err
    assert f"of 8 prompts, of up to {longest} tokens, and {257 - longest} new tokens go beyond" in told
    assert "context of 256: vLLM cuts such completions there" in told
    assert f"Set --max-new-tokens {256 - longest} to stay within it." in told


@pytest.mark.parametrize(
    ("flags", "sentences"),
    [
        ({}, ()),
        # 16 = 4 samples of 4 problems; the shipped model puts its answers into boxes
        (
            {"answer_format": "gsm8k"},
            ("100% of 16 completions have no answer in the form 'gsm8k'; ", "Change --answer-format", "--template"),
        ),
        ({"max_new_tokens": 4}, ("100% of 16 completions ran into the length limit. Raise --max-new-tokens",)),
    ],
)
def test_what_most_samples_say_of_prompt_and_limits_is_said_with_the_flag_to_try(evaluate, capsys, flags, sentences):
    evaluate(**{"max_new_tokens": 64, "num_problems": 4} | flags)
    told = capsys.readouterr().err
    assert all(sentence in told for sentence in sentences)
    assert bool(sentences) == ("completions" in told)


def test_the_shipped_model_is_known_by_its_name(evaluate):
    folder = evaluate(model="quickstart", num_samples=1, max_new_tokens=4)
    assert json.loads((folder / "config.json").read_text())["sampler"]["model"] == str(model_path())


def test_a_file_that_is_not_rows_is_named(refusal, tmp_path):
    (tmp_path / "broken.parquet").write_text("not parquet")
    assert "broken.parquet' cannot be read" in refusal(dataset=tmp_path / "broken.parquet")


def test_a_model_without_a_chat_template_needs_a_template(refusal, evaluate, tmp_path, tiny_model):
    bare = tmp_path / "bare"
    bare.mkdir()
    for file in Path(tiny_model).iterdir():
        if file.name != "chat_template.jinja":
            (bare / file.name).write_bytes(file.read_bytes())
    assert AutoTokenizer.from_pretrained(bare).chat_template is None
    assert f"from {', '.join(PROMPT_TEMPLATES)}." in refusal(model=bare, template=None)
    evaluate(model=bare, template="plain", num_samples=1)


def test_a_folder_of_another_config_is_refused_with_the_difference(refusal, evaluate):
    evaluate()
    assert "this run changes sampler.temperature: 1.0 -> 0.5. Choose another" in refusal(temperature=0.5)


def test_two_datasets_of_one_name_are_refused(sums, tmp_path, capsys):
    (tmp_path / "other").mkdir()
    other = write_problems(tmp_path / "other" / "sums.jsonl", [{"question": "a", "answer": "1"}])
    with pytest.raises(SystemExit):
        main(["evaluate", "--model", "m", "--output-dir", str(tmp_path), "--dataset", str(sums), str(other)])
    assert "two are named 'sums'. Evaluate them one by one" in capsys.readouterr().err


def test_a_second_process_in_the_folder_is_refused(refusal, evaluate):
    folder = evaluate()
    with RunFolder(folder, json.loads((folder / "config.json").read_text()), []):
        assert "must have one writer" in refusal(num_samples=5)


def test_a_full_disk_ends_the_run_with_a_sentence_and_it_resumes_with_room(refusal, evaluate):
    undisturbed = lines(evaluate(output="undisturbed"))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500, limits[1]))
    try:
        error = refusal(batch_size=4)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "must have room for what is written" in error
    assert "Traceback" not in error
    assert sorted(lines(evaluate(batch_size=4))) == sorted(undisturbed)


# --- presets ---------------------------------------------------------------------------------------------------------


def test_the_presets_name_templates_that_exist():
    assert {preset.template for preset in PRESETS.values()} <= PROMPT_TEMPLATES.keys()


def test_a_preset_sets_the_papers_parameters_and_flags_override_it(evaluate):
    folder = evaluate(preset="qwen3", template=None, num_samples=1, max_new_tokens=2, top_k=5)
    config = json.loads((folder / "config.json").read_text())
    sampler = {name: config["sampler"][name] for name in ("temperature", "top_p", "top_k", "max_new_tokens")}
    assert sampler == {"temperature": 0.7, "top_p": 0.8, "top_k": 5, "max_new_tokens": 2}
    assert config["template"] == "qwen3_no_thinking"


# --- kills -----------------------------------------------------------------------------------------------------------


def run_with_kills(arguments, samples, num_kills, patience):
    """Runs the command until it has been killed so often, at random moments of its work, and then to its end.

    It runs in copies of this process, which saves the seconds that the imports take.
    """

    def start():
        process = FORK.Process(target=main, args=(["evaluate", *arguments],))
        process.start()
        return process

    rng = random.Random(0)
    for kill in range(num_kills):
        size = samples.stat().st_size if samples.exists() else 0
        process = start()
        if kill % 5 == 4:
            time.sleep(rng.uniform(0, 10 * patience))  # anywhere, while it loads for instance
        else:
            while process.is_alive() and not (samples.exists() and samples.stat().st_size > size):
                time.sleep(0.002)
            time.sleep(rng.uniform(0, patience))
        assert process.is_alive(), f"finished after {kill} kills"
        process.kill()
        process.join()
    process = start()
    process.join()
    assert process.exitcode == 0


def check_kills(tmp_path, num_kills, num_problems, patience):
    dataset = write_problems(tmp_path / "sums.jsonl", generate_problems(num_problems, seed=1, split="test"))

    def arguments(name):
        settings = {"model": model_path(), "dataset": dataset, "output_dir": tmp_path / name, "template": "plain"}
        return as_flags(settings | {"num_samples": 64, "max_new_tokens": 24, "batch_size": 16, "device": "cpu"})

    main(["evaluate", *arguments("undisturbed")])
    killed, undisturbed = (tmp_path / name / "sums" for name in ("killed", "undisturbed"))
    run_with_kills(arguments("killed"), killed / "samples.jsonl", num_kills, patience)
    for name in ("config.json", "problems.jsonl", "samples.jsonl", "summary.json"):
        assert (killed / name).read_bytes() == (undisturbed / name).read_bytes(), name


@pytest.mark.processes
def test_a_run_killed_three_times_leaves_the_samples_of_an_undisturbed_one(tmp_path):
    check_kills(tmp_path, num_kills=3, num_problems=4, patience=0.2)


@pytest.mark.slow
def test_a_run_killed_fifty_times_leaves_the_samples_of_an_undisturbed_one(tmp_path):
    check_kills(tmp_path, num_kills=50, num_problems=36, patience=0.2)


# --- real problems ---------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not PAPER_DATA.exists(), reason="needs the paper's data beside the repository")
def test_the_papers_problems_are_evaluated_with_their_levels_and_subjects(evaluate):
    folder = evaluate(dataset=PAPER_DATA / "math" / "test.parquet", num_problems=6, num_samples=1, max_new_tokens=2)
    problems = read_problems(folder)
    assert len({problem["level"] for problem in problems}) > 1
    groups = json.loads((folder / "summary.json").read_text())["groups"]
    assert sum(group["num_problems"] for group in groups["level"].values()) == 6
