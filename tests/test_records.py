import json
from dataclasses import replace

import pytest

from nsr_trl.evaluation.records import RunFolder, Sample


SAMPLE = Sample("p0", 0, "caf\u00e9 \\boxed{1}\n\u2028", "correct", "1", "string", 7, False)


def test_what_was_appended_is_read_back(tmp_path):
    folder = RunFolder(tmp_path / "new" / "run", {"seed": 0})
    folder.append([SAMPLE])
    folder.append([replace(SAMPLE, sample_index=1, answer=None, truncated=True)])
    again = RunFolder(tmp_path / "new" / "run", {"seed": 0})
    assert list(again.samples()) == [SAMPLE, replace(SAMPLE, sample_index=1, answer=None, truncated=True)]


def test_a_new_folder_has_no_samples(tmp_path):
    assert list(RunFolder(tmp_path, {}).samples()) == []


@pytest.mark.parametrize("torn", ['{"problem_id": "p0", "sam', '{"problem_id": "' + "x" * 200_000, "\u00e9"])
def test_a_line_torn_by_a_crash_is_cut_before_appending(tmp_path, torn):
    RunFolder(tmp_path, {}).append([SAMPLE])
    with (tmp_path / "samples.jsonl").open("ab") as file:
        file.write(torn.encode()[:-1])
    folder = RunFolder(tmp_path, {})
    folder.append([replace(SAMPLE, sample_index=1)])
    assert [sample.sample_index for sample in folder.samples()] == [0, 1]


def test_a_file_that_is_one_torn_line_is_emptied(tmp_path):
    RunFolder(tmp_path, {})
    (tmp_path / "samples.jsonl").write_text('{"problem')
    assert list(RunFolder(tmp_path, {}).samples()) == []
    assert (tmp_path / "samples.jsonl").read_bytes() == b""


def test_another_config_is_refused_with_the_difference_shown(tmp_path):
    RunFolder(tmp_path, {"seed": 0, "sampler": {"temperature": 1.0}, "old": 1})
    with pytest.raises(ValueError, match=r"changes old: 1 -> None; sampler: .*1\.0.* -> .*0\.6.*\. Choose another"):
        RunFolder(tmp_path, {"seed": 0, "sampler": {"temperature": 0.6}})


def test_the_summary_replaces_the_one_before(tmp_path):
    folder = RunFolder(tmp_path, {})
    folder.write_summary({"pass_at_k": {"1": 0.5}})
    folder.write_summary({"pass_at_k": {"1": 0.75}})
    assert json.loads((tmp_path / "summary.json").read_text()) == {"pass_at_k": {"1": 0.75}}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "summary.json"]
