import json
import os
import resource
from dataclasses import replace

import pytest

from nsr_trl import Problem
from nsr_trl.evaluation.records import RunFolder, Sample, find_runs, read_problems, read_samples


SAMPLE = Sample("p0", 0, "caf\u00e9 \\boxed{1}\n\u2028", "correct", "1", "string", 7, False)


PROBLEMS = [{"id": "p0", "question": "What is 1?", "answer": "1", "level": None, "subject": "Algebra"}]


def open_run(path, config=None):
    return RunFolder(path, config or {}, PROBLEMS)


def test_what_was_appended_is_read_back(tmp_path):
    path = tmp_path / "new" / "run"
    others = [replace(SAMPLE, sample_index=1, answer=None, truncated=True), replace(SAMPLE, sample_index=2)]
    with open_run(path) as folder:
        folder.append([SAMPLE])
    with open_run(path) as folder:
        folder.append(others)
    assert list(read_samples(path)) == [SAMPLE, *others]
    assert read_problems(path) == PROBLEMS


def test_a_new_folder_has_no_samples(tmp_path):
    open_run(tmp_path).close()
    assert list(read_samples(tmp_path)) == []


def test_completions_may_be_left_out_whatever_they_and_the_answers_say(tmp_path):
    misleading = ', "completion": "x", "completion": '
    samples = [replace(SAMPLE, completion=misleading), replace(SAMPLE, sample_index=1, answer=misleading)]
    with open_run(tmp_path) as folder:
        folder.append(samples)
    assert list(read_samples(tmp_path)) == samples
    assert list(read_samples(tmp_path, with_completions=False)) == [replace(each, completion="") for each in samples]


@pytest.mark.parametrize("torn", ['{"problem_id": "p0", "sam', '{"problem_id": "' + "x" * 200_000, "\u00e9"])
def test_a_line_torn_by_a_crash_is_left_out_by_readers_and_cut_before_appending(tmp_path, torn):
    with open_run(tmp_path) as folder:
        folder.append([SAMPLE])
    with (tmp_path / "samples.jsonl").open("ab") as file:
        file.write(torn.encode()[:-1])
    size = (tmp_path / "samples.jsonl").stat().st_size
    assert list(read_samples(tmp_path)) == [SAMPLE]
    assert (tmp_path / "samples.jsonl").stat().st_size == size  # a reader writes nothing
    with open_run(tmp_path) as folder:
        folder.append([replace(SAMPLE, sample_index=1)])
    assert [sample.sample_index for sample in read_samples(tmp_path)] == [0, 1]


def test_a_file_that_is_one_torn_line_is_emptied(tmp_path):
    (tmp_path / "samples.jsonl").write_text('{"problem')
    open_run(tmp_path).close()
    assert (tmp_path / "samples.jsonl").read_bytes() == b""


def test_a_damaged_line_is_named(tmp_path):
    with open_run(tmp_path) as folder:
        folder.append([SAMPLE])
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write('{"answer": 1}\n')
    with pytest.raises(ValueError, match=r"must be a sample; line 2 is .*answer.*\. Remove the line"):
        list(read_samples(tmp_path))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"problem_id": "p1"}, "of an unknown problem"),
        ({"problem_id": 1}, "problem_id = 1"),
        ({"sample_index": -1}, "sample_index = -1"),
        ({"sample_index": 1.0}, r"sample_index = 1\.0"),
        ({"sample_index": True}, "sample_index = True"),
        ({"outcome": "great\x1b[2J"}, r"outcome = 'great\\x1b\[2J'"),
        ({"outcome": ["correct"]}, r"outcome = \['correct'\]"),
        ({"answer": 7}, "answer = 7"),
        ({"reason": None}, "reason = None"),
        ({"num_tokens": "7"}, "num_tokens = '7'"),
        ({"num_tokens": float("nan")}, "num_tokens = nan"),
        ({"num_tokens": -7}, "num_tokens = -7"),
        ({"truncated": 1}, "truncated = 1"),
        ({"completion": None}, "completion = None"),
    ],
)
@pytest.mark.parametrize("with_completions", [True, False])
def test_a_field_that_is_damaged_is_named_with_its_line(tmp_path, change, named, with_completions):
    with open_run(tmp_path) as folder:
        folder.append([SAMPLE])
    line = (tmp_path / "samples.jsonl").read_text()
    with (tmp_path / "samples.jsonl").open("a") as file:
        file.write(json.dumps(json.loads(line) | {"sample_index": 1} | change) + "\n")
    with pytest.raises(ValueError, match=rf"samples\.jsonl must be a sample; line 2 is .*{named}.*\. Remove the line"):
        list(read_samples(tmp_path, with_completions))


@pytest.mark.parametrize(
    "change",
    [{"num_tokens": float("nan")}, {"num_tokens": "7"}, {"completion": 7}, {"outcome": "yes"}, {"truncated": None}],
)
def test_a_sample_is_checked_before_it_is_written(tmp_path, change):
    with open_run(tmp_path) as folder:
        folder.append([SAMPLE])
        bad = replace(SAMPLE, sample_index=2, **change)
        with pytest.raises(ValueError, match=f"has {next(iter(change))} = .* nothing of this batch was written"):
            folder.append([replace(SAMPLE, sample_index=1), bad])
    assert list(read_samples(tmp_path)) == [SAMPLE]


@pytest.mark.parametrize(
    ("content", "named"),
    [
        ("", "hold the problems of the run; it is empty"),
        ("{}\n", r"line 1 is \{\}, without an id"),
        ('{"id": "a"}\n[]\n', r"line 2 is \[\], without an id"),
        ('{"id": "a"}\n{"id": "a"}\n', "line 2 is the second of id a"),
        ('{"id": "a", "answer": 7}\n', "line 1 is one with answer = 7"),
        ('{"id": "a"}\nhalf', "line 2 is b'half'"),
        ("\x00\x00\x00", "line 1 is b"),
    ],
)
def test_damaged_problems_are_named_with_file_and_line(tmp_path, content, named):
    (tmp_path / "problems.jsonl").write_text(content)
    with pytest.raises(ValueError, match=rf"problems\.jsonl must (be a problem; )?{named}"):
        read_problems(tmp_path)


@pytest.mark.parametrize(("content", "named"), [("", "it is empty"), ("[1]", r"it holds b'\[1\]'"), ("{", "it holds")])
def test_a_damaged_config_is_named(tmp_path, content, named):
    open_run(tmp_path).close()
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(ValueError, match=rf"config\.json must hold a JSON object; {named}.*\. Restore the file"):
        open_run(tmp_path)


def test_what_was_appended_is_flushed_to_the_disk(tmp_path, monkeypatch):
    flushed = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_size) or fsync(file))
    with open_run(tmp_path) as folder:
        folder.append([SAMPLE])
        assert flushed[-1] == (tmp_path / "samples.jsonl").stat().st_size > 0


def test_another_config_is_refused_with_the_difference_shown(tmp_path):
    open_run(tmp_path, {"seed": 0, "sampler": {"temperature": 1.0, "top_p": 1.0}, "old": 1}).close()
    expected = r"changes old: 1 -> None; sampler\.temperature: 1\.0 -> 0\.6\. Choose another"
    with pytest.raises(ValueError, match=expected):
        open_run(tmp_path, {"seed": 0, "sampler": {"temperature": 0.6, "top_p": 1.0}})


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path):
    with open_run(tmp_path), pytest.raises(BlockingIOError, match=r"one writer; another process .*\. Wait for it"):
        open_run(tmp_path)
    open_run(tmp_path).close()


def test_the_summary_replaces_the_one_before(tmp_path):
    with open_run(tmp_path) as folder:
        folder.write_summary({"pass_at_k": {"1": 0.5}})
        folder.write_summary({"pass_at_k": {"1": 0.75}})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"pass_at_k": {"1": 0.75}}
    names = ["config.json", "problems.jsonl", "samples.jsonl", "summary.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("room", [0, 100, 400])
def test_a_full_disk_loses_the_failed_append_alone(tmp_path, room):
    with open_run(tmp_path) as folder:
        folder.append([SAMPLE])
        size = (tmp_path / "samples.jsonl").stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + room, limits[1]))
        try:
            with pytest.raises(OSError, match=r"must have room .*samples\.jsonl failed: .*\. Make room and run"):
                folder.append([replace(SAMPLE, sample_index=index) for index in range(1, 9)])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert list(read_samples(tmp_path)) == [SAMPLE]
        folder.append([replace(SAMPLE, sample_index=1)])
    assert [sample.sample_index for sample in read_samples(tmp_path)] == [0, 1]


def test_runs_are_found_at_a_path_or_directly_in_it(tmp_path):
    for name in ("math", "amc23"):
        open_run(tmp_path / name).close()
    assert find_runs(tmp_path) == {"amc23": tmp_path / "amc23", "math": tmp_path / "math"}
    assert find_runs(str(tmp_path / "math")) == {"math": tmp_path / "math"}
    with pytest.raises(ValueError, match=r"with a problems\.jsonl, or hold such folders; .*gone' does not\. Name"):
        find_runs(tmp_path / "gone")
    (tmp_path / "steps" / "checkpoint-8").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"It is a training folder: evaluate .* --model .*steps\. .* log_completions"):
        find_runs(tmp_path / "steps")
    open_run(tmp_path / "steps" / "checkpoint-8" / "math").close()
    with pytest.raises(ValueError, match=r"It holds .* name one, such as .*checkpoint-8, or .* --match-pass-at-1"):
        find_runs(tmp_path / "steps")


def test_problems_read_back_as_they_were_written_whatever_the_types_of_their_fields(tmp_path):
    problems = [Problem("2 + 3", 5, level=3), Problem("2 / 4", 0.5, subject=7), Problem("?", "x")]
    with RunFolder(tmp_path, {}, [problem.to_dict() for problem in problems]):
        pass
    assert [Problem(row["question"], row["answer"]).id for row in read_problems(tmp_path)] == [p.id for p in problems]
    assert [row["answer"] for row in read_problems(tmp_path)] == ["5", "0.5", "x"]
