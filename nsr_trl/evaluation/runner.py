"""An evaluation in reading order: problems -> prompts -> completions -> verdicts -> records -> Pass@k.

Each batch of completions is verified while the next one is generated.
"""

import hashlib
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from tqdm.auto import tqdm

from ..data import Problem, format_prompt
from ..verifier import Outcome, verify_batch
from .records import RunFolder, Sample
from .results import Evaluation, estimate_pass_at_k, format_table
from .samplers import Completion, Request, Sampler


__all__ = ["Evaluation", "evaluate", "format_table"]


def evaluate(
    sampler: Sampler,
    problems: Sequence[Problem],
    *,
    num_samples: int,
    k: Sequence[int] | None = None,
    template: str | None = None,
    output_dir: str | Path | None = None,
    seed: int = 0,
    grader: str = "default",
    show_progress: bool = True,
) -> Evaluation:
    """
    Samples and verifies completions of each problem and estimates Pass@k.

    Args:
        sampler ([`~evaluation.samplers.Sampler`]):
            Where completions come from.
        problems (`Sequence[Problem]`):
            The problems, no two alike.
        num_samples (`int`):
            Completions per problem.
        k (`Sequence[int]`, *optional*):
            The k of Pass@k. Defaults to the powers of two up to `num_samples`.
        template (`str`, *optional*):
            Prompt template, as in [`~data.format_prompt`].
        output_dir (`str` or `Path`, *optional*):
            Run folder to record the samples in. If it holds samples of the same configuration already, only the
            missing ones are drawn, so that a stopped evaluation is resumed and a finished one can be enlarged.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sampling.
        grader (`str`, *optional*, defaults to `"default"`):
            As in [`~verifier.verify`]; `"paper"` for parity with the paper's numbers.
        show_progress (`bool`, *optional*, defaults to `True`):
            Show a progress line with rate and remaining time.

    Returns:
        [`~evaluation.results.Evaluation`]

    Raises:
        ValueError: If problems repeat, a k exceeds `num_samples`, or the run folder has another configuration.
    """
    ks = [2**i for i in range(num_samples.bit_length())] if k is None else list(k)
    if num_samples < 1 or not all(1 <= each <= num_samples for each in ks):
        raise ValueError(
            f"Every k must be between 1 and the samples per problem; got k={ks} and num_samples={num_samples}. "
            "Sample more, or drop the larger k."
        )
    by_id = {problem.id: problem for problem in problems}
    if len(by_id) < len(problems) or not problems:
        raise ValueError(
            f"An evaluation needs problems that are all different; got {len(problems)}, of which {len(by_id)} differ. "
            "Drop the duplicates."
        )
    tally = _Tally(num_samples, by_id)
    folder = None
    if output_dir is not None:
        fingerprint = hashlib.sha256("".join(sorted(by_id)).encode()).hexdigest()[:16]
        config = {"sampler": sampler.settings, "problems": fingerprint, "template": template, "seed": seed}
        if grader != "default":
            config["grader"] = grader
        folder = RunFolder(output_dir, config)
        for sample in folder.samples():
            tally.add(sample)

    requests = []
    for problem_id, problem in by_id.items():
        prompt = format_prompt(problem.question, template, sampler.tokenizer)
        indices = (index for index in range(num_samples) if (problem_id, index) not in tally.seen)
        requests += [Request(problem_id, index, prompt) for index in indices]
    total = len(by_id) * num_samples
    with tqdm(total=total, initial=total - len(requests), unit="sample", disable=not show_progress) as progress:

        def record(verifying: Future[list[Sample]]) -> None:
            samples = verifying.result()
            if folder:
                folder.append(samples)
            for sample in samples:
                tally.add(sample)
            progress.update(len(samples))

        with ThreadPoolExecutor(1) as verifier:
            under_way: deque[Future[list[Sample]]] = deque()
            try:
                for completions in sampler.sample(requests, seed):
                    under_way.append(verifier.submit(_verify, completions, by_id, grader))
                    if len(under_way) > 1:
                        record(under_way.popleft())
            finally:  # what was generated before a failure is not lost
                while under_way:
                    record(under_way.popleft())

    evaluation = tally.evaluation(ks)
    if folder:
        folder.write_summary(evaluation.to_dict())
    return evaluation


def _verify(completions: Sequence[Completion], problems: Mapping[str, Problem], grader: str) -> list[Sample]:
    golds = [problems[completion.request.problem_id].answer for completion in completions]
    verdicts = verify_batch([completion.text for completion in completions], golds, grader=grader)
    return [
        Sample(
            problem_id=completion.request.problem_id,
            sample_index=completion.request.sample_index,
            completion=completion.text,
            outcome=verdict.outcome,
            answer=verdict.answer,
            reason=verdict.reason,
            num_tokens=completion.num_tokens,
            truncated=completion.truncated,
        )
        for completion, verdict in zip(completions, verdicts, strict=True)
    ]


class _Tally:
    """Running counts, so that no completion is kept in memory."""

    def __init__(self, num_samples: int, problem_ids: Iterable[str]) -> None:
        self.num_samples = num_samples
        self.num_correct = dict.fromkeys(problem_ids, 0)
        self.seen: set[tuple[str, int]] = set()
        self.num_undecided = self.num_tokens = self.num_truncated = 0

    def add(self, sample: Sample) -> None:
        key = (sample.problem_id, sample.sample_index)
        if sample.sample_index >= self.num_samples or key in self.seen:  # recorded by a larger run
            return
        self.seen.add(key)
        self.num_correct[sample.problem_id] += sample.outcome == Outcome.CORRECT
        self.num_undecided += sample.outcome == Outcome.UNDECIDED
        self.num_tokens += sample.num_tokens
        self.num_truncated += sample.truncated

    def evaluation(self, ks: Sequence[int]) -> Evaluation:
        assert len(self.seen) == len(self.num_correct) * self.num_samples, "a sampler answers every request"
        return Evaluation(
            num_samples=self.num_samples,
            num_correct=self.num_correct,
            num_undecided=self.num_undecided,
            mean_length=self.num_tokens / len(self.seen),
            truncation_rate=self.num_truncated / len(self.seen),
            pass_at_k=estimate_pass_at_k(self.num_samples, self.num_correct, ks),
        )
