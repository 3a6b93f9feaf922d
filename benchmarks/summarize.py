"""How long a finished run takes to summarise, and how much memory.

A run folder of realistic size is written, then the reading, the counting and the estimating are timed together, as at
the end of `nsr-trl evaluate` and of `nsr-trl merge`; and then the page of `nsr-trl show --html`.

    python benchmarks/summarize.py --num-problems 5000 --num-samples 256
"""

import argparse
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from nsr_trl.evaluation.records import RunFolder, Sample, read_problems, read_samples
from nsr_trl.evaluation.tally import GROUPINGS, Tally


SUBJECTS = ("Algebra", "Counting & Probability", "Geometry", "Number Theory", "Precalculus")
STEP = "Since $\\frac{a}{b} + 1 = \\sqrt{c^2 - 4d}$, we have\n\\[ x = \\frac{-b \\pm \\sqrt{b^2 - 4ac}}{2a}. \\]\n"


def write_run(folder: Path, num_problems: int, num_samples: int, num_characters: int) -> None:
    """Writes a run: completions of `num_characters` on average, a dozen answers per problem."""
    rng = random.Random(0)
    text = STEP * (2 * num_characters // len(STEP) + 1)
    problems = [
        {"id": f"{i:016x}", "question": "?", "answer": "1", "level": f"Level {i % 5 + 1}", "subject": SUBJECTS[i % 5]}
        for i in range(num_problems)
    ]
    with RunFolder(folder, {"seed": 0}, problems) as run:
        for problem in problems:
            rate = rng.random()
            samples = []
            for index in range(num_samples):
                is_correct = rng.random() < rate
                answer = "\\frac{3}{7}" if is_correct else f"\\frac{{{rng.randrange(12)}}}{{7}}"
                outcome = "correct" if is_correct else "incorrect"
                completion = f"{text[: rng.randrange(2 * num_characters)]}\\boxed{{{answer}}}"
                samples.append(
                    Sample(problem["id"], index, completion, outcome, answer, "number", len(completion) // 3, False)
                )
            run.append(samples)


def summarize(folder: Path, num_samples: int) -> None:
    """Times the summary of a run, in a process that has done nothing else."""
    started = time.process_time()
    problems = read_problems(folder)
    tally = Tally([problem["id"] for problem in problems], num_samples)
    for sample in read_samples(folder, with_completions=False):
        tally.add(sample)
    read = time.process_time()
    ks = [2**i for i in range(num_samples.bit_length())]
    evaluation = tally.evaluation(ks, {name: [problem[name] for problem in problems] for name in GROUPINGS})
    ended = time.process_time()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(evaluation.table())
    print(f"{ended - started:.1f} CPU-s ({read - started:.1f} reading), {memory:.2f} GiB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--num-problems", type=int, default=5_000)
    parser.add_argument("--num-samples", type=int, default=256)
    parser.add_argument("--num-characters", type=int, default=2_000, help="per completion, on average")
    parser.add_argument("--folder", type=Path, help="a run to summarise, instead of writing one")
    args = parser.parse_args()
    if args.folder:
        summarize(args.folder, args.num_samples)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_run(Path(folder), args.num_problems, args.num_samples, args.num_characters)
        size = (Path(folder) / "samples.jsonl").stat().st_size / 2**30
        print(f"{args.num_problems:,} problems x {args.num_samples} samples, {size:.1f} GiB")
        command = [sys.executable, __file__, "--folder", folder, "--num-samples", str(args.num_samples)]
        subprocess.run(command, check=True)
        before = seconds_of_children()
        page = str(Path(folder) / "page.html")
        subprocess.run([sys.executable, "-m", "nsr_trl", "show", folder, "--html", page], check=True)
        print(f"the page took {seconds_of_children() - before:.1f} CPU-s")


def seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main()
