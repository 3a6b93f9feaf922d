"""Samples in the terminal and as a page, with texts that a model should not have written."""

import json
import re
import shutil
import subprocess
import threading
from functools import partial
from html import unescape
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from nsr_trl.evaluation.viewer import SampleFilter, collect, page, sample_texts
from nsr_trl.evaluation.visible import one_line, spell_out


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

OWN = "document.documentElement.setAttribute('owned', '1')"
HOSTILE = [
    f"<script>{OWN}</script>",
    f"</script><script>{OWN}</script>",
    f"<!--<script></script><script>{OWN}</script>-->",
    f'<img src=x onerror="{OWN}"><svg onload="{OWN}">',
    '<img src="http://127.0.0.1:PORT/image"><link rel="stylesheet" href="http://127.0.0.1:PORT/style">',
    f'"><a href="javascript:{OWN}" autofocus onfocus="{OWN}">x</a>',
    "\u202egnitide\u202c \x00 \x1b]0;title\x07 \x1b[2J \u2028 \ud800 caf\u00e9 \u5e74",
    "a" * 1_000_000,
]


def sample(problem, index, outcome, completion="", answer="7", **others):
    row = {"problem_id": problem, "sample_index": index, "outcome": outcome, "answer": answer, "reason": "number"}
    return row | {"num_tokens": 5, "truncated": False} | others | {"completion": completion}


def write_run(folder, problems, samples):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    for name, rows in (("problems", problems), ("samples", samples)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture
def folders(tmp_path):
    """A run of two datasets; p1 was solved once in 3, p2 never, q1 always."""
    amc = [
        {"id": "p1", "question": "How many?", "answer": "7", "level": "1", "subject": "counting"},
        {"id": "p2", "question": "Which angle?", "answer": "60", "level": "5", "subject": "geometry"},
    ]
    samples = [sample("p1", i, outcome) for i, outcome in enumerate(["incorrect", "correct", "undecided"])]
    samples += [sample("p2", i, "incorrect", f"try {i}", truncated=i == 1) for i in range(3)]
    aime = [{"id": "q1", "question": "How far?", "answer": "7", "level": None, "subject": None}]
    return {
        "amc23": write_run(tmp_path / "run" / "amc23", amc, samples),
        "aime2025": write_run(tmp_path / "run" / "aime2025", aime, [sample("q1", 0, "correct", "so \\boxed{7}")]),
    }


# --- the terminal ----------------------------------------------------------------------------------------------------


def test_a_sample_is_shown_with_its_question_answer_reference_outcome_reason_and_length(folders):
    assert next(sample_texts({"aime2025": folders["aime2025"]}, SampleFilter())) == (
        "━━ aime2025 · q1\nHow far?\n\n"
        "── sample 0: correct (number), answer 7, reference 7, 5 tokens\nso \\boxed{7}\n\n"
    )


def test_a_question_is_shown_once_for_the_samples_that_follow_each_other(folders):
    text = "".join(sample_texts(folders, SampleFilter(), brief=True))
    assert text.count("How many?") == text.count("Which angle?") == 1
    assert "level 5 · geometry" in text
    assert "try 0" not in text


@pytest.mark.parametrize(
    ("chosen", "num_samples"),
    [
        ({"outcome": "incorrect"}, 4),
        ({"outcome": "incorrect", "problem": "p2"}, 3),
        ({"problem": "p"}, 6),
        ({"truncated": True}, 1),
        ({"reason": "number"}, 7),
        ({"reason": "no answer"}, 0),
    ],
)
def test_filters_choose_samples(folders, chosen, num_samples):
    assert len(list(sample_texts(folders, SampleFilter(**chosen)))) == num_samples


def test_no_control_character_of_a_model_reaches_the_terminal(tmp_path):
    texts = "".join(HOSTILE[:-1])
    problem = {"id": "p", "question": texts, "answer": texts, "level": texts, "subject": texts}
    folder = write_run(tmp_path / "run", [problem], [sample("p", 0, "correct", texts, texts, reason="reason\x1b[2J")])
    shown = "".join(sample_texts({"\x1b[2J": folder}, SampleFilter()))
    assert "reason\\x1b[2J" in shown
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", shown)
    assert "\\x1b[2J" in shown
    assert "\\u202egnitide\\u202c" in shown


def test_letters_of_any_script_newlines_and_tabs_are_left_as_they_are():
    assert spell_out("café\tשלום\n年 \\frac12 👍") == "café\tשלום\n年 \\frac12 👍"


@pytest.mark.parametrize(
    "code",
    # soft hyphen, joiner, fillers of Hangul, vowel separator, blanks, selectors, tags, private use, surrogate
    [
        0xAD,
        0x34F,
        0x115F,
        0x180E,
        0x2800,
        0x3164,
        0xFE0F,
        0xFEFF,
        0xFFA0,
        0xE0041,
        0xE0100,
        0xE01EF,
        0xE000,
        0xD800,
        0x061C,
        0x200B,
        0x202E,
        0x2028,
        0x2029,
        0x2066,
        0x9B,
        0x7F,
    ],  # marks of direction, separators, controls
)
def test_a_character_without_ink_is_spelled_out(code):
    shown = spell_out(f"a{chr(code)}b")
    assert shown == f"a{chr(code).encode('unicode_escape').decode()}b"
    assert shown.isascii()


def test_a_text_within_a_sentence_is_one_line_of_bounded_length():
    assert one_line("a\n\tb\r") == r"a\n\tb\r"
    assert one_line("x" * 1_000, 10) == "x" * 10 + "..."


# --- the page --------------------------------------------------------------------------------------------------------


def test_the_page_counts_all_samples_and_keeps_the_first_of_each_outcome(folders):
    content = collect(folders, SampleFilter(), max_per_problem=2, max_characters=100)
    p1, p2, q1 = content.problems
    assert (p1["correct"], p1["incorrect"], p1["undecided"], p1["total"]) == (1, 1, 1, 3)
    assert (p2["correct"], p2["total"], len(p2["samples"])) == (0, 3, 2)
    assert (q1["dataset"], q1["gold"], q1["level"]) == ("aime2025", "7", None)
    assert content.note == "6 of 7 samples of 3 problems, the first 2 of each outcome of each problem"


def test_a_filter_leaves_out_problems_without_a_sample_but_no_sample_from_the_counts(folders):
    content = collect(folders, SampleFilter(outcome="correct"), max_per_problem=9, max_characters=100)
    assert [(row["id"], row["total"], len(row["samples"])) for row in content.problems] == [("p1", 3, 1), ("q1", 1, 1)]


def test_long_texts_are_cut_in_the_middle_and_say_so(tmp_path):
    folder = write_run(tmp_path / "run", [{"id": "p"}], [sample("p", 0, "correct", "a" * 600 + "b" * 600)])
    content = collect({"d": folder}, SampleFilter(), max_per_problem=1, max_characters=1_001)
    text = "a" * 500 + "\n[200 characters left out]\n" + "b" * 500
    assert content.problems[0]["samples"][0]["completion"] == text
    assert content.note.endswith("; 1 texts of more than 1,001 characters are cut in the middle")


def test_the_page_asks_for_nothing_from_elsewhere(folders):
    written = page("run", collect(folders, SampleFilter(), 9, 1_000))
    assert "default-src 'none'; style-src 'sha256-" in written
    assert not re.search(r"(src|href|url)\s*[=(]\s*[\"']?\w+:", written)
    assert "{{" not in written


def dump(url, tmp_path, width=800):
    """The document after its scripts ran, as Chromium sees it."""
    options = "--headless --no-sandbox --disable-gpu --disable-dev-shm-usage --allow-file-access-from-files".split()
    command = [
        CHROMIUM,
        *options,
        f"--user-data-dir={tmp_path / 'profile'}",
        f"--window-size={width},900",
        "--virtual-time-budget=5000",
    ]
    done = subprocess.run([*command, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True)
    assert "</html>" in done.stdout, done.stderr
    return done.stdout


class Recorder(BaseHTTPRequestHandler):
    def __init__(self, paths, *args):
        self.paths = paths
        super().__init__(*args)

    def do_GET(self):
        self.paths.append(self.path)
        self.send_error(404)

    def log_message(self, *args):
        pass


@pytest.fixture
def recorder():
    """A server on this machine that records what is asked of it: (port, paths)."""
    paths = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Recorder, paths))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_port, paths
    server.shutdown()
    server.server_close()


@pytest.mark.processes
@needs_chromium
def test_nothing_that_a_model_wrote_runs_or_is_fetched(tmp_path, recorder):
    port, paths = recorder
    texts = [text.replace("PORT", str(port)) for text in HOSTILE]
    problem = dict.fromkeys(("question", "answer", "level", "subject"), "".join(texts[:-1])) | {"id": "p"}
    rows = [sample("p", i, "correct", text, text) for i, text in enumerate(texts)]
    folder = write_run(tmp_path / "run", [problem], rows)
    content = collect({"d": folder}, SampleFilter(), max_per_problem=20, max_characters=2_000_000)
    written = page(texts[1], content)
    (tmp_path / "page.html").write_text(written, encoding="utf-8")
    seen = dump(f"file://{tmp_path}/page.html#problem=d/p", tmp_path)
    assert "owned" not in re.search("<html[^>]*>", seen)[0]
    assert paths == []
    assert "8 of 8 samples" in seen
    assert f"&lt;script&gt;{OWN}&lt;/script&gt;" in seen  # shown as text
    assert "\\x00 \\x1b]0;title\\x07 \\x1b[2J \\u2028 \\ud800 café 年" in seen
    assert "a" * 1_000_000 in seen

    # were a text taken for markup, the policy would still stop it: here is the proof, and that these texts are hostile
    markup = "".join(texts[:-2])
    for policy, is_owned, asked in ((True, False, set()), (False, True, {"/image", "/style"})):
        broken = written.replace("<h1", markup + "<h1")
        if not policy:
            broken = re.sub('<meta http-equiv="Content-Security-Policy"[^>]*>', "", broken)
        (tmp_path / "broken.html").write_text(broken, encoding="utf-8")
        seen = dump(f"file://{tmp_path}/broken.html", tmp_path)
        assert ("owned" in re.search("<html[^>]*>", seen)[0]) == is_owned
        assert set(paths) == asked


def in_frame(tmp_path, content, script, width=390):
    """What a script returns that drives the page in a frame, as wide as a phone if nothing is said."""
    (tmp_path / "page.html").write_text(page("r" * 500, content), encoding="utf-8")
    (tmp_path / "frame.html").write_text(
        """<!doctype html><iframe src="page.html" width="390" height="700" style="border: 0"></iframe>
        <script>
        const settle = () => new Promise((done) => setTimeout(done, 50));
        document.querySelector("iframe").onload = async ({ target }) => {
          const view = target.contentWindow, page = target.contentDocument;
          document.body.append(JSON.stringify(await (async () => { SCRIPT })()));
        };
        </script>""".replace("SCRIPT", script).replace("390", str(width)),
        encoding="utf-8",
    )
    seen = dump(f"file://{tmp_path}/frame.html", tmp_path)
    return json.loads(unescape(re.search("</script>(.*)</body>", seen, re.DOTALL)[1]))


@pytest.mark.processes
@needs_chromium
def test_the_hash_presets_the_filters(folders, tmp_path):
    expected = {
        "": ["amc23/p1", "amc23/p2", "aime2025/q1"],
        "outcome=correct": ["amc23/p1", "aime2025/q1"],
        "dataset=aime2025": ["aime2025/q1"],
        "level=5": ["amc23/p2"],
        "text=ANGLE": ["amc23/p2"],
        "text=boxed": ["aime2025/q1"],
        "outcome=incorrect&text=try+2": ["amc23/p2"],
        "sort=easiest": ["aime2025/q1", "amc23/p1", "amc23/p2"],
    }
    script = """const listed = {};
        for (const hash of HASHES) {
          view.location.hash = hash;
          await settle();
          listed[hash] = [...page.querySelectorAll("#list a")].map((link) => link.dataset.problem);
        }
        return listed;"""
    content = collect(folders, SampleFilter(), 9, 1_000)
    assert in_frame(tmp_path, content, script.replace("HASHES", json.dumps(list(expected)))) == expected


@pytest.mark.processes
@needs_chromium
def test_a_filter_that_is_used_stands_in_the_hash_and_chooses_the_samples(folders, tmp_path):
    script = """page.querySelector("#list a").click();
        await settle();
        const control = page.querySelector("[name=outcome]");
        control.value = "undecided";
        control.dispatchEvent(new view.Event("input", { bubbles: true }));
        const outcomes = [...page.querySelectorAll("details .outcome")].map((outcome) => outcome.textContent);
        return [view.location.hash, outcomes];"""
    result = in_frame(tmp_path, collect(folders, SampleFilter(), 9, 1_000), script)
    assert result == ["#problem=amc23%2Fp1&outcome=undecided", ["? undecided"]]


@pytest.mark.processes
@needs_chromium
def test_a_phone_needs_no_sideways_scrolling_and_a_keyboard_is_enough(folders, tmp_path):
    rows = [sample("p", 0, "incorrect", "a" * 5_000, "b" * 5_000)]
    folders["long"] = write_run(tmp_path / "long", [{"id": "p", "question": "q" * 5_000}], rows)
    script = """const seen = [];
        for (const key of ["j", "j", "j", "j", "k", "Escape", "/"]) {
          const press = { key, bubbles: true, cancelable: true };
          page.activeElement.dispatchEvent(new view.KeyboardEvent("keydown", press));
          await settle();
          seen.push([view.location.hash, page.documentElement.scrollWidth - page.documentElement.clientWidth]);
        }
        return [seen, page.activeElement.name];"""
    seen, focused = in_frame(tmp_path, collect(folders, SampleFilter(), 9, 10_000), script)
    problems = ["amc23%2Fp1", "amc23%2Fp2", "aime2025%2Fq1", "long%2Fp", "aime2025%2Fq1"]
    assert seen == [*([f"#problem={problem}", 0] for problem in problems), ["", 0], ["", 0]]
    assert focused == "text"


@pytest.mark.processes
@needs_chromium
def test_keys_step_on_from_the_problem_that_is_open_beside_the_list(folders, tmp_path):
    script = """const seen = [];
        for (const key of ["", "j", "j", "k"]) {
          page.body.dispatchEvent(new view.KeyboardEvent("keydown", { key, bubbles: true }));
          await settle();
          seen.push(page.querySelector("[aria-current]").dataset.problem);
        }
        return seen;"""
    seen = in_frame(tmp_path, collect(folders, SampleFilter(), 9, 1_000), script, width=1200)
    assert seen == ["amc23/p1", "amc23/p2", "aime2025/q1", "amc23/p2"]


@pytest.mark.processes
@needs_chromium
def test_the_source_of_an_answer_is_what_was_written(tmp_path):
    rows = [sample("p", 0, "correct", "x", answer=r"$\pi$")]
    folder = write_run(tmp_path / "run", [{"id": "p", "question": "q", "answer": r"\boxed{7}"}], rows)
    script = """view.location.hash = "source=1";
        await settle();
        return [...page.querySelectorAll("code")].map((answer) => answer.innerHTML);"""
    assert in_frame(tmp_path, collect({"d": folder}, SampleFilter(), 9, 1_000), script, width=1200) == [
        r"\boxed{7}",
        r"$\pi$",
    ]


@pytest.mark.processes
@needs_chromium
def test_equal_samples_are_shown_once_with_their_number(tmp_path):
    rows = [sample("p", i, "correct", "the same", reason="number") for i in range(5)]
    rows += [sample("p", 5, "correct", "another"), sample("p", 6, "incorrect", "the same", answer="8")]
    folder = write_run(tmp_path / "run", [{"id": "p", "question": "q", "answer": "7"}], rows)
    content = collect({"d": folder}, SampleFilter(), max_per_problem=4, max_characters=100)
    assert [(each["count"], each["completion"]) for each in content.problems[0]["samples"]] == [
        (5, "the same"),
        (1, "another"),
        (1, "the same"),
    ]
    assert content.note == "7 of 7 samples of 1 problems"
    script = """view.location.hash = "problem=d/p";
        await settle();
        return [...page.querySelectorAll("summary")].map((head) => head.textContent);"""
    heads = in_frame(tmp_path, content, script)
    assert "\u00d7 5" in heads[0]
    assert "sample 0 and 4 equal" in heads[0]
    assert "\u00d7" not in heads[1]


@pytest.mark.processes
@needs_chromium
def test_the_first_problem_is_open_where_there_is_room_and_two_runs_stand_side_by_side(folders, tmp_path):
    after = [sample("p1", i, "correct", f"now right {i}") for i in range(3)]
    write_run(tmp_path / "after" / "amc23", [{"id": "p1", "question": "How many?", "answer": "7"}], after)
    before = {"amc23": folders["amc23"]}
    other = {"amc23": tmp_path / "after" / "amc23"}
    content = collect(before, SampleFilter(), 9, 1_000, other, ("before", "after"))
    assert [(row["id"], row["correct"], row["other"]["correct"]) for row in content.problems] == [
        ("p1", 1, 3),
        ("p2", 0, 0),
    ]
    (tmp_path / "page.html").write_text(page("both", content), encoding="utf-8")
    seen = dump(f"file://{tmp_path}/page.html", tmp_path, width=1200)
    assert re.findall("<h2[^>]*>(.*?)</h2>", seen) == ["before", "after"]
    assert "3 of 3 correct" in seen
    assert "now right 0" in seen  # the first sample of the first problem, open without a click
    assert "try 0" not in seen.split("<main>")[1].split("</main>")[0]  # p2's are not


FORMULAS = {
    r"$\frac{1}{2}$": "<mfrac><mn>1</mn><mn>2</mn></mfrac>",
    r"$\frac12$": "<mfrac><mn>1</mn><mn>2</mn></mfrac>",
    r"$x^2$": "<msup><mi>x</mi><mn>2</mn></msup>",
    r"$a_{1}^{n}$": "<msubsup><mi>a</mi><mn>1</mn><mi>n</mi></msubsup>",
    r"\(\sqrt[3]{8}\)": "<mroot><mn>8</mn><mn>3</mn></mroot>",
    r"\[\sum_{i=1}^n i\]": "<munderover><mo>∑</mo>",
    r"$\left(\frac{a}{b}\right)$": "<mo>(</mo><mfrac><mi>a</mi><mi>b</mi></mfrac><mo>)</mo>",
    r"$\begin{pmatrix} 1 & 2 \\ 3 & 4 \end{pmatrix}$": "<mtr><mtd><mn>3</mn></mtd><mtd><mn>4</mn></mtd></mtr>",
    r"so \boxed{\text{no}}": '<mrow class="boxed"><mtext>no</mtext></mrow>',
    r"$\alpha \le \infty$": "<mi>α</mi><mo>≤</mo><mi>∞</mi>",
    r"$\unknown x$": r"<mtext>\unknown</mtext><mi>x</mi>",
    "it costs $5 or $6 each": "it costs $5 or $6 each",
    "$x$5 is no formula": "$x$5 is no formula",
    r"$\frac{1}{": r"$\frac{1}{",
    r"$<script>x</script>$": "<mo>&lt;</mo>",
}


@pytest.mark.processes
@needs_chromium
def test_formulas_are_set_and_what_cannot_be_read_stays_as_it_is_written(tmp_path):
    rows = [sample("p", i, "correct", text) for i, text in enumerate(FORMULAS)]
    folder = write_run(tmp_path / "run", [{"id": "p", "question": "q", "answer": "7"}], rows)
    script = """view.location.hash = "problem=d/p";
        await settle();
        for (const block of page.querySelectorAll("details")) block.open = true;
        await settle();
        const read = () => [...page.querySelectorAll("pre")].map((text) => text.innerHTML);
        const set = read();
        page.body.dispatchEvent(new view.KeyboardEvent("keydown", { key: "m", bubbles: true }));
        await settle();
        for (const block of page.querySelectorAll("details")) block.open = true;
        await settle();
        return [set, [...page.querySelectorAll("pre")].map((text) => text.textContent)];"""
    rendered, source = in_frame(tmp_path, collect({"d": folder}, SampleFilter(), 99, 1_000), script)
    for shown, expected in zip(rendered, FORMULAS.values(), strict=True):
        assert expected in shown
    assert source == list(FORMULAS)  # and `m` shows what was written


@pytest.mark.processes
@needs_chromium
def test_hostile_formulas_end_soon(tmp_path):
    texts = ["$" + "{" * 1_900 + "$", "\\[" * 100_000, "$$" * 100_000, "\\begin{align}" * 10_000, "\\boxed{{" * 50_000]
    rows = [sample("p", i, "correct", text) for i, text in enumerate(texts)]
    folder = write_run(tmp_path / "run", [{"id": "p", "question": "q", "answer": "\\frac{" * 1_000}], rows)
    script = """view.location.hash = "problem=d/p";
        await settle();
        const start = performance.now();
        for (const block of page.querySelectorAll("details")) block.open = true;
        await settle();
        return [page.querySelectorAll("pre").length, performance.now() - start];"""
    count, milliseconds = in_frame(tmp_path, collect({"d": folder}, SampleFilter(), 99, 2_000_000), script)
    assert count == len(texts)
    assert milliseconds < 5_000


def test_completions_of_a_training_run_are_shown_by_step(tmp_path, capsys):
    from datasets import Dataset

    from nsr_trl.cli import main

    table = {
        "step": [2, 2],
        "prompt": [[{"role": "user", "content": "What is 1+1?"}]] * 2,
        "completion": [[{"role": "assistant", "content": rf"\boxed{{{n}}}"}] for n in (2, 3)],
        "math_reward": [1.0, 0.0],
        "signed/outcome": ["correct", "incorrect"],
        "signed/weight": [0.1, -1.0],
        "verifier/answer": ["2", "3"],
        "verifier/reason": ["string", "number"],
        "verifier/rule": ["text.same", "number.differs"],
        "advantage": [0.1, -1.0],
    }
    (tmp_path / "completions").mkdir()
    for step in (2, 10):
        Dataset.from_dict(table).to_parquet(tmp_path / "completions" / f"completions_{step:05d}.parquet")
    for path in (tmp_path, tmp_path / "completions"):
        main(["show", str(path), "--dataset", "step 10", "--outcome", "incorrect"])
        out = capsys.readouterr().out
        assert re.search(r"━━ step 10 · \w{16}\nWhat is 1\+1\?\n\n── sample 1: incorrect", out)
        assert "(number, weight -1, number.differs), answer 3\n\\boxed{3}\n" in out
    main(["show", str(tmp_path), "--html", str(tmp_path / "page.html")])
    assert "4 of 4 samples of 2 problems" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["show", str(tmp_path), "--explain"])
    assert "which math_reward records; completions_00002.parquet has none." in capsys.readouterr().err
    several = table | {"tag_count": [0.25, 0.125], "step": [12, 12]}
    Dataset.from_dict(several).to_parquet(tmp_path / "completions" / "completions_00012.parquet")
    main(["show", str(tmp_path), "--dataset", "step 12", "--outcome", "incorrect"])
    assert "(number, weight -1, math_reward 0, tag_count 0.125, number.differs)" in capsys.readouterr().out
    known = table | {"verifier/reference": ["2", "2"]}
    Dataset.from_dict(known).to_parquet(tmp_path / "completions" / "completions_00013.parquet")
    main(["show", str(tmp_path), "--dataset", "step 13", "--reason", "number", "--brief", "--explain"])
    assert capsys.readouterr().out.partition("\n\n")[2] == (
        "── sample 1: incorrect (number, weight -1, number.differs), answer 3, reference 2\n"
        "answer     3\n  read as  number: 3\nreference  2\n  read as  number: 2\n"
        "verdict    incorrect by number.differs: exact numbers, and different\n\n"
    )
    (tmp_path / "completions" / "completions_00011.parquet").write_text("no table")
    with pytest.raises(SystemExit):
        main(["show", str(tmp_path)])
    assert "A table of completions must be one that a trainer logged" in capsys.readouterr().err
