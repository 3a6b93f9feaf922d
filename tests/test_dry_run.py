"""What a dry run knows of the problems without loading them."""

import pytest

from nsr_trl.run.dry_run import num_problems_without_loading
from nsr_trl.run.script import ScriptArguments


SOURCE = "{{dataset: any/{0}, question_column: q, answer_column: a{1}}}"


@pytest.mark.parametrize(
    ("sources", "num_problems", "known"),
    [
        ([", size: 500"], None, 500),
        ([", size: 500"], 100, 100),
        ([""], None, None),
        ([""], 100, 100),  # as many as are asked for, if it has them
        ([", size: 500", ", size: 50"], None, 550),
        ([", size: 500", ", size: 50"], 100, 150),  # of each source
        ([", size: 500", ""], None, None),
        ([", size: 500", ""], 100, 200),
        ([", size: 500, weight: 1", ", size: 50, weight: 3"], None, None),  # some are drawn more than once
    ],
)
def test_the_problems_of_a_task_are_counted_by_what_its_sources_say(sources, num_problems, known, tmp_path):
    path = tmp_path / "mixed.yaml"
    lines = [f"- {SOURCE.format(index, rest)}" for index, rest in enumerate(sources)]
    path.write_text("# A mixture.\ntrain:\n" + "\n".join(lines) + "\n")
    script = ScriptArguments(task=str(path), num_problems=num_problems)
    assert num_problems_without_loading(script) == known
