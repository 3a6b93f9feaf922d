"""An evaluation in reading order: problems -> prompts -> completions -> verdicts -> records -> Pass@k.

Each batch of completions is verified and recorded while the next one is generated.
"""

import hashlib
import json
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm
from transformers import PreTrainedTokenizerBase

from ..problem import PROMPT_TEMPLATES, Problem, Prompting
from ..prompts import overlong_prompts
from .judges import Judge, VerifierJudge
from .records import RunFolder, Sample, read_samples
from .results import Evaluation, format_table
from .samplers import Batched, Completion, Prompt, Request, Sampler, tokenize
from .tally import GROUPINGS, Tally


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
    answer_format: str = "boxed",
    prompting: Prompting | None = None,
    judge: Judge | None = None,
    shard: tuple[int, int] | None = None,
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
            Prompt template, as in [`~problem.format_prompt`].
        output_dir (`str` or `Path`, *optional*):
            Run folder to record the samples in. If it holds samples of the same configuration already, only the
            missing ones are drawn, so that a stopped evaluation is resumed and a finished one can be enlarged.
        seed (`int`, *optional*, defaults to `0`):
            Seed of the sampling.
        grader (`str`, *optional*, defaults to `"default"`):
            As in [`~verifier.verify`]; `"paper"` for parity with the paper's numbers.
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            As in [`~verifier.verify`]: where the answer is in a completion.
        prompting ([`~problem.Prompting`], *optional*):
            All of how problems are asked, in the place of `template`; a task has one.
        judge ([`~evaluation.judges.Judge`], *optional*):
            What scores completions, in the place of the verifier with `grader` and `answer_format`; a task has one.
        shard (`tuple[int, int]`, *optional*):
            `(i, n)` evaluates the i-th of n parts of the problems, counted from 1; `merge_runs` joins the folders.
        show_progress (`bool`, *optional*, defaults to `True`):
            Show a progress line with rate and remaining time.

    Returns:
        [`~evaluation.results.Evaluation`]

    Raises:
        ValueError: If problems repeat, a k exceeds `num_samples`, the model has no chat template and none is given,
            the grader or the answer format is unknown, or the run folder has another configuration.
        BlockingIOError: If another process writes into the run folder.
        OSError: If the disk is full; run again to resume.
    """
    ks = resolve_ks(k, num_samples)
    prompting = prompting or Prompting(template=template, answer_format=answer_format)
    judge = judge or VerifierJudge(grader, answer_format)
    by_id = {problem.id: problem for problem in problems}
    chosen = select_problems(problems, shard)
    check_template(prompting, sampler.tokenizer)
    prompts = {id: prompting.rendered(problem, sampler.tokenizer) for id, problem in by_id.items()}
    config = {
        "sampler": sampler.settings,
        "prompts": _prompts_digest(prompts, sampler.tokenizer),
        **describe(problems, prompting, judge, seed, shard),
    }
    by_id = {problem_id: by_id[problem_id] for problem_id in chosen}
    tally = Tally(list(by_id), num_samples)
    with ExitStack() as stack:
        folder = None
        if output_dir is not None:
            rows = [problem.to_dict() for problem in by_id.values()]
            folder = stack.enter_context(RunFolder(output_dir, config, rows))
            for sample in read_samples(output_dir, with_completions=False):
                tally.add(sample)
        if tally.num_missing:
            _draw(sampler, by_id, prompts, tally, folder, seed, judge, show_progress)
        groups = {name: [getattr(problem, name) for problem in by_id.values()] for name in GROUPINGS}
        evaluation = tally.evaluation(ks, groups)
        if folder:
            folder.write_summary(evaluation.to_dict())
    return evaluation


def check_template(prompting: Prompting, tokenizer: PreTrainedTokenizerBase | None) -> None:
    """Raises a ValueError if prompts are to be conversations and the model has no chat template."""
    if prompting.template is None and tokenizer is not None and not tokenizer.chat_template:
        raise ValueError(
            "A model without a chat template needs a `template`; got none. "
            f"Choose the one that it was trained with from {', '.join(PROMPT_TEMPLATES)}."
        )


def context_doubt(
    problems: Sequence[Problem],
    prompting: Prompting,
    tokenizer: PreTrainedTokenizerBase | None,
    context: int | None,
    max_new_tokens: int,
) -> str | None:
    """A sentence where prompt and longest completion go beyond the model's context of so many tokens, or `None`."""
    if tokenizer is None or context is None:
        return None
    rows = [{"prompt": prompting.rendered(problem, tokenizer)} for problem in problems]
    long = overlong_prompts(rows, tokenizer, context - max_new_tokens + 1)
    if not long:
        return None
    longest = max(long.values())
    advice = f"Set --max-new-tokens {context - longest}" if longest < context else "Leave the longest out"
    return (
        f"{len(long):,} of {len(rows):,} prompts, of up to {longest:,} tokens, and {max_new_tokens:,} new tokens go "
        f"beyond the model's context of {context:,}: vLLM cuts such completions there, and transformers goes on where "
        f"the model was not trained. {advice} to stay within it."
    )


def describe(
    problems: Iterable[Problem], prompting: Prompting, judge: Judge, seed: int, shard: tuple[int, int] | None
) -> dict[str, Any]:
    """The part of a run's config that is known before a model is loaded."""
    ids = "".join(sorted(problem.id for problem in problems))
    return {
        "problems": hashlib.sha256(ids.encode()).hexdigest()[:16],
        "template": prompting.template,
        "seed": seed,
        **judge.settings,
        **({} if shard is None else {"shard": "{}/{}".format(*shard)}),
    }


def resolve_ks(k: Sequence[int] | None, num_samples: int) -> list[int]:
    """Returns the k of Pass@k: those given, or the powers of two up to the samples per problem."""
    ks = [2**i for i in range(num_samples.bit_length())] if k is None else sorted(set(k))
    if num_samples < 1 or not ks or not all(1 <= each <= num_samples for each in ks):
        raise ValueError(
            f"Every k must be between 1 and the samples per problem; got k={ks} and num_samples={num_samples}. "
            "Sample more, or drop the larger k."
        )
    return ks


def select_problems(problems: Sequence[Problem], shard: tuple[int, int] | None = None) -> list[str]:
    """
    The ids of the problems of an evaluation, or of its shard i/n.

    Raises:
        ValueError: If two problems are alike, there is none, or the shard has none.
    """
    ids = [problem.id for problem in problems]
    if len(set(ids)) < len(ids) or not ids:
        raise ValueError(
            f"An evaluation needs problems that are all different; got {len(ids)}, of which {len(set(ids))} differ. "
            "Drop the duplicates."
        )
    if shard is None:
        return ids
    index, count = shard
    # every `count`-th by id, so that any order of the dataset agrees
    selected = sorted(ids)[index - 1 :: count] if 1 <= index <= count else []
    if not selected:
        raise ValueError(
            f"A shard i/n must have 1 <= i <= n and a problem to itself; got {index}/{count}. "
            "Use as many shards as there are machines, and problems at least."
        )
    return selected


def _draw(
    sampler: Sampler,
    problems: Mapping[str, Problem],
    prompts: Mapping[str, Prompt],
    tally: Tally,
    folder: RunFolder | None,
    seed: int,
    judge: Judge,
    show_progress: bool,
) -> None:
    """Samples, verifies and records what is missing from the tally."""
    requests = [Request(id, index, prompts[id]) for id in problems for index in range(tally.num_samples)]
    batches = sampler.batches(requests) if isinstance(sampler, Batched) else ([request] for request in requests)
    asked = [request for batch in batches if any(map(partial(_is_missing, tally), batch)) for request in batch]
    with (
        tqdm(
            total=len(requests),
            initial=len(requests) - tally.num_missing,
            unit="sample",
            desc=folder.path.name if folder else None,
            disable=not show_progress,
        ) as progress,
        ThreadPoolExecutor(1) as recorder,
    ):

        def record(completions: Sequence[Completion]) -> None:
            # those drawn again only to complete their batch are recorded already
            new = [completion for completion in completions if _is_missing(tally, completion.request)]
            samples = judged(new, problems, judge)
            if folder:
                folder.append(samples)
            for sample in samples:
                tally.add(sample)
            progress.update(len(samples))

        under_way: deque[Future[None]] = deque()
        try:
            for completions in sampler.sample(asked, seed) if asked else ():  # an engine need not start for nothing
                under_way.append(recorder.submit(record, completions))
                while under_way and (len(under_way) > 2 or under_way[0].done()):
                    under_way.popleft().result()
        finally:  # what was generated before a failure is not lost
            while under_way:
                under_way.popleft().result()


def _is_missing(tally: Tally, request: Request) -> bool:
    return not tally.has(request.problem_id, request.sample_index)


def _prompts_digest(prompts: Mapping[str, Prompt], tokenizer: PreTrainedTokenizerBase | None) -> str:
    """A hash of what the model reads: the token ids or, where a server has the tokenizer, what it is sent."""
    digest = hashlib.sha256()
    for id, prompt in sorted(prompts.items()):
        sent = prompt if tokenizer is None else tokenize(tokenizer, prompt)
        digest.update(json.dumps([id, sent]).encode())
    return digest.hexdigest()[:16]


def judged(completions: Sequence[Completion], problems: Mapping[str, Problem], judge: Judge) -> list[Sample]:
    """Completions with what a judge says of them, as they are recorded."""
    judgements = judge.judge(
        [completion.text for completion in completions],
        [problems[completion.request.problem_id] for completion in completions],
    )
    return [
        Sample(
            problem_id=completion.request.problem_id,
            sample_index=completion.request.sample_index,
            completion=completion.text,
            outcome=judgement.outcome,
            answer=judgement.answer,
            reason=judgement.reason,
            num_tokens=completion.num_tokens,
            truncated=completion.truncated,
            rule=judgement.rule,
        )
        for completion, judgement in zip(completions, judgements, strict=True)
    ]
