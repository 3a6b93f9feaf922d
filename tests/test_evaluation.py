import json
import re

import pytest
import torch

from nsr_trl.evaluation.pass_at_k import Estimate
from nsr_trl.evaluation.records import read_samples
from nsr_trl.evaluation.results import Evaluation, estimate_pass_at_k, format_table
from nsr_trl.evaluation.runner import evaluate
from nsr_trl.evaluation.samplers import WAVE, Completion, OwnDraws, Request, TransformersSampler, paced
from nsr_trl.problem import Problem
from nsr_trl.quickstart.model import build_model, build_tokenizer


PROBLEMS = [Problem("What is 2+3?", "5"), Problem("What is 12+7*3?", "33"), Problem("What is 4?", "4")]


@pytest.fixture
def sampler():
    """A small model with random weights: what it writes is nonsense, but it is a real model."""
    torch.manual_seed(0)
    return TransformersSampler(build_model(0), build_tokenizer(), max_new_tokens=6, batch_size=4)


def requests_for(prompts, num_samples):
    return [Request(f"p{i}", j, prompt) for i, prompt in enumerate(prompts) for j in range(num_samples)]


def completions_by_key(sampler, requests, seed=0):
    completions = [completion for batch in sampler.sample(requests, seed) for completion in batch]
    return {(c.request.problem_id, c.request.sample_index): (c.text, c.num_tokens, c.truncated) for c in completions}


def test_every_request_is_answered_once_in_batches_longest_prompt_first(sampler):
    requests = requests_for(["What is 1?", "What is 12345+6?"], num_samples=3)
    batches = list(sampler.sample(requests, seed=0))
    assert [len(batch) for batch in batches] == [4, 2]
    assert [completion.request.problem_id for batch in batches for completion in batch] == ["p1"] * 3 + ["p0"] * 3
    assert {completion.request for batch in batches for completion in batch} == set(requests)


def test_padding_does_not_change_a_greedy_completion(sampler):
    sampler.temperature = 0
    prompts = ["What is 1?", "What is 12345+6*78?"]
    together = completions_by_key(sampler, requests_for(prompts, 1))
    alone = [completions_by_key(sampler, [request]) for request in requests_for(prompts, 1)]
    assert together == alone[0] | alone[1]


def test_a_conversation_is_sampled_like_the_prompt_its_chat_template_writes(sampler):
    plain = completions_by_key(sampler, requests_for(["What is 1?"], 4))
    chat = [{"role": "user", "content": "What is 1?"}]
    assert completions_by_key(sampler, [Request("p0", j, chat) for j in range(4)]) == plain


def test_the_seed_decides_the_completions_and_samples_of_a_problem_differ(sampler):
    requests = requests_for(["What is 1?"], 4)
    first = completions_by_key(sampler, requests, seed=1)
    assert completions_by_key(sampler, requests, seed=1) == first
    assert completions_by_key(sampler, requests, seed=2) != first
    assert len(set(first.values())) > 1


def test_a_resumed_batch_does_not_repeat_the_randomness_of_the_first(sampler):
    first = completions_by_key(sampler, [Request("p0", j, "What is 1?") for j in range(4)])
    rest = completions_by_key(sampler, [Request("p0", j, "What is 1?") for j in range(4, 8)])
    assert list(first.values()) != list(rest.values())


def test_a_sample_does_not_depend_on_what_else_is_sampled(sampler):
    requests = requests_for(["What is 1?", "What is 12345+6?"], 6)
    together = completions_by_key(sampler, requests)
    alone = {key: value for request in requests for key, value in completions_by_key(sampler, [request]).items()}
    sampler.batch_size = 5
    shuffled = completions_by_key(sampler, requests[::-1])
    assert together == alone == shuffled


@pytest.mark.parametrize("temperature", [0, 1])
def test_every_token_is_told_and_changes_nothing(sampler, temperature):
    sampler.temperature = temperature
    requests = requests_for(["What is 1?", "What is 12345+6?"], 2)  # one batch
    untold = completions_by_key(sampler, requests)
    told = []
    sampler.on_step = lambda: told.append("a token")
    assert completions_by_key(sampler, requests) == untold
    assert len(told) == max(num_tokens for _, num_tokens, _ in untold.values())


def test_every_problem_gets_its_first_wave_before_any_gets_more(sampler):
    sampler.batch_size = 100
    batches = list(sampler.batches(requests_for(["What is 1?", "What is 12345+6?"], WAVE + 1)))
    assert [len(batch) for batch in batches] == [100, 28, 2]
    assert {request.sample_index for request in batches[2]} == {WAVE}
    fewer = list(sampler.batches(requests_for(["What is 1?", "What is 12345+6?"], WAVE)))
    assert fewer == batches[:2]  # more samples leave the batches of a complete wave as they are


def test_tokens_are_drawn_as_often_as_the_distribution_says():
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.15, 0.05, 0.0])
    num_draws = 20_000
    draws = OwnDraws([f"{i}" for i in range(num_draws)], 1, width=3, device=torch.device("cpu"))
    left = draws(torch.zeros((num_draws, 3), dtype=torch.long), probabilities.log().expand(num_draws, -1))
    assert (left.isfinite().sum(dim=-1) == 1).all()
    frequencies = left.isfinite().float().mean(dim=0)
    assert (frequencies[probabilities == 0] == 0).all()
    # a frequency of 0.5 has a standard error of 0.0035
    torch.testing.assert_close(frequencies, probabilities, atol=0.0125, rtol=0)


@pytest.mark.parametrize("uniform", [0.0, 1 - 2**-24])
def test_the_least_and_the_greatest_number_draw_a_token_that_has_a_probability(uniform):
    draws = OwnDraws(["a"], 1, width=1, device=torch.device("cpu"))
    draws.uniform[:] = uniform
    scores = torch.full((1, 1000), -torch.inf)
    scores[0, 10:990] = 0.0
    assert draws(torch.zeros((1, 1), dtype=torch.long), scores).argmax() == (10 if uniform == 0 else 989)


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p", "expected"),
    [
        (0.5, 0, 1.0, [16, 9, 4, 1]),  # squared: 16, 9, 4, 1 of 30
        (1.0, 2, 1.0, [4, 3, 0, 0]),
        (1.0, 3, 1.0, [4, 3, 2, 0]),
        (1.0, 0, 0.8, [4, 3, 2, 0]),  # the first two have 0.7 < 0.8, so the third stays
        (0.5, 3, 0.9, [16, 9, 4, 0]),  # of 29; the first two have 25/29 = 0.86 < 0.9, so the third stays
        (0.5, 2, 0.9, [16, 9, 0, 0]),  # top-k alone takes the third: top-p would keep it
        (0.5, 3, 0.8, [16, 9, 0, 0]),  # top-p alone takes the third: 25/29 >= 0.8
    ],
)
def test_top_k_top_p_and_temperature_are_those_of_transformers(sampler, temperature, top_k, top_p, expected):
    sampler.temperature, sampler.top_k, sampler.top_p = temperature, top_k, top_p
    (batch,) = sampler.batches(requests_for(["What is 1?"], 2))
    *warpers, draws = sampler._logits_processors(batch, seed=0, width=1)
    scores = torch.log(torch.tensor([[0.4, 0.3, 0.2, 0.1]] * 2))
    for warper in warpers:
        scores = warper(torch.zeros((2, 1), dtype=torch.long), scores)
    torch.testing.assert_close(scores.softmax(-1)[0], torch.tensor(expected) / sum(expected))
    assert isinstance(draws, OwnDraws)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"temperature": -1}, r"`temperature` must be 0 \(greedy\) or more; got -1"),
        ({"temperature": float("nan")}, "`temperature` must be"),
        ({"temperature": float("inf")}, "`temperature` must be"),
        ({"top_p": 0}, "`top_p` must be above 0 and at most 1; got 0"),
        ({"top_p": 1.5}, "`top_p` must be"),
        ({"top_k": -1}, r"`top_k` must be 0 \(all tokens\) or more; got -1"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be at least 1; got 0"),
    ],
)
def test_sampling_parameters_outside_their_range_are_refused(sampler, settings, named):
    with pytest.raises(ValueError, match=named):
        TransformersSampler(sampler.model, sampler.tokenizer, **{"max_new_tokens": 6} | settings)


def test_sampling_leaves_a_training_model_and_the_random_state_as_they_were(sampler):
    sampler.model.train()
    sampler.model.gradient_checkpointing_enable()
    sampler.model.config.use_cache = False
    state = torch.get_rng_state()
    completions_by_key(sampler, requests_for(["What is 1?"], 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(module.training for module in sampler.model.modules())
    assert sampler.model.config.use_cache is False


def test_a_completion_ends_with_its_first_end_of_sequence_token(sampler):
    eos, digit = sampler.tokenizer.eos_token_id, sampler.tokenizer.convert_tokens_to_ids("7")
    request = Request("p0", 0, "")
    assert sampler._read(request, [digit, eos, digit], [eos]) == Completion(request, "7", 2, truncated=False)
    assert sampler._read(request, [digit, digit], [eos]) == Completion(request, "77", 2, truncated=True)


class WrittenSampler:
    """Answers from a list instead of a model, and stops after some batches as a killed process would."""

    settings = {"model": "written"}  # noqa: RUF012
    tokenizer = build_tokenizer()

    def __init__(self, answers, stop_after=None):
        self.answers = answers
        self.stop_after = stop_after
        self.num_drawn = 0

    def sample(self, requests, seed):
        for request in requests:
            if self.num_drawn == self.stop_after:
                raise KeyboardInterrupt
            self.num_drawn += 1
            answer = self.answers[request.prompt][request.sample_index]
            yield [Completion(request, f"\\boxed{{{answer}}}", num_tokens=3, truncated=answer == "")]


ANSWERS = {  # c = 2, 1 and 0 of 4
    "What is 2+3?": ["5", "5", "6", "7"],
    "What is 12+7*3?": ["33", "12+21", "12+21", "34"],
    "What is 4?": ["", "5", "6", "7"],
}


def test_an_evaluation_counts_verdicts_and_estimates_pass_at_k():
    evaluation = evaluate(WrittenSampler(ANSWERS), PROBLEMS, num_samples=4, template="plain", show_progress=False)
    assert list(evaluation.num_correct.values()) == [2, 1, 0]
    assert evaluation.num_undecided == 2  # 12+21 is 33, but leaves the work undone
    assert evaluation.mean_length == 3
    assert evaluation.truncation_rate == pytest.approx(1 / 12)
    values = {k: estimate.value for k, estimate in evaluation.pass_at_k.items()}
    # k=1: (2/4 + 1/4 + 0) / 3;  k=2: ((1 - 1/6) + (1 - 3/6) + 0) / 3;  k=4: (1 + 1 + 0) / 3
    assert values == pytest.approx({1: 1 / 4, 2: 4 / 9, 4: 2 / 3})
    assert all(0 <= e.low <= e.value <= e.high <= 1 for e in evaluation.pass_at_k.values())


def test_an_evaluation_counts_votes_answers_and_groups():
    problems = [Problem("What is 2+3?", "5", "1", "Sums"), Problem("What is 12+7*3?", "33", "2", "Sums"), PROBLEMS[2]]
    evaluation = evaluate(WrittenSampler(ANSWERS), problems, num_samples=4, template="plain", show_progress=False)
    # votes of four: 5 wins; 12+21 wins over 33; 5, 6 and 7 tie without the 4
    assert evaluation.majority_at_k[4].value == pytest.approx(1 / 3)
    # votes of two: 5 5 | 6 7; 33 12+21 | 12+21 34; - 5 | 6 7
    assert evaluation.majority_at_k[2].value == pytest.approx((1 / 2 + 1 / 4 + 0) / 3)
    assert evaluation.majority_at_k[1].value == pytest.approx(evaluation.pass_at_k[1].value)
    assert evaluation.distinct_answers == pytest.approx((3 + 3 + 3) / 3)
    # c = 2, 1 and 0 of 4: the first is solved in half of its samples, none in all
    assert {share: estimate.value for share, estimate in evaluation.cover_at_share.items()} == {0.5: 1 / 3, 1.0: 0}
    assert "maj@2" in evaluation.table()
    assert {name: group.num_problems for name, group in evaluation.groups["level"].items()} == {
        "1": 1,
        "2": 1,
        "none": 1,
    }
    assert evaluation.groups["subject"]["Sums"].pass_at_k[1].value == pytest.approx((2 / 4 + 1 / 4) / 2)
    assert sorted(evaluation.groups["subject"]["Sums"].pass_at_k) == [1, 4]
    assert Evaluation.from_dict(json.loads(json.dumps(evaluation.to_dict()))) == evaluation
    assert [line.split()[0] for line in evaluation.breakdown().splitlines() if line] == [
        *("level", "1", "2", "none"),
        *("subject", "Sums", "none"),
    ]


def test_a_run_that_died_in_a_batch_draws_the_batch_again_and_keeps_what_was_missing(sampler, tmp_path):
    """The batch makes a sample in the last bits: were only the missing drawn, another batch might draw others."""
    run = {"problems": PROBLEMS, "num_samples": 4, "template": "plain", "show_progress": False}
    evaluate(sampler, output_dir=tmp_path / "whole", **run)
    whole = (tmp_path / "whole" / "samples.jsonl").read_text().splitlines(keepends=True)
    evaluate(sampler, output_dir=tmp_path / "died", **run)
    (tmp_path / "died" / "samples.jsonl").write_text("".join(whole[:6]))  # one batch of four and half of the next
    asked = []
    draw = sampler.sample
    sampler.sample = lambda requests, seed: asked.extend(requests) or draw(requests, seed)
    evaluate(sampler, output_dir=tmp_path / "died", **run)
    assert len(asked) == 8
    assert (tmp_path / "died" / "samples.jsonl").read_text().splitlines(keepends=True) == whole


def test_a_stopped_evaluation_resumes_where_it_was(tmp_path):
    run = {"problems": PROBLEMS, "num_samples": 4, "template": "plain", "output_dir": tmp_path}
    with pytest.raises(KeyboardInterrupt):
        evaluate(WrittenSampler(ANSWERS, stop_after=5), **run, show_progress=False)
    sampler = WrittenSampler(ANSWERS)
    resumed = evaluate(sampler, **run, show_progress=False)
    assert sampler.num_drawn == 12 - 5
    assert resumed == evaluate(WrittenSampler(ANSWERS), PROBLEMS, num_samples=4, template="plain", show_progress=False)
    assert Evaluation.from_dict(json.loads((tmp_path / "summary.json").read_text())) == resumed
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 12


def test_a_finished_evaluation_can_be_enlarged_and_read_in_part(tmp_path):
    run = {"problems": PROBLEMS, "template": "plain", "output_dir": tmp_path, "show_progress": False}
    evaluate(WrittenSampler(ANSWERS), num_samples=2, **run)
    sampler = WrittenSampler(ANSWERS)
    enlarged = evaluate(sampler, num_samples=4, **run)
    assert sampler.num_drawn == 6
    part = evaluate(sampler, num_samples=2, **run)
    assert sampler.num_drawn == 6
    assert list(enlarged.num_correct.values()) == [2, 1, 0]
    assert list(part.num_correct.values()) == [2, 1, 0]
    assert sorted(part.pass_at_k) == [1, 2]


def test_the_samples_of_a_trained_model_are_not_mixed_with_those_before(sampler, tmp_path):
    run = {"problems": PROBLEMS, "num_samples": 2, "template": "plain", "output_dir": tmp_path, "show_progress": False}
    evaluate(sampler, **run)
    evaluate(sampler, **run)
    with torch.no_grad():
        next(sampler.model.parameters()).add_(0.1)
    with pytest.raises(ValueError, match=r"must all come from one config; this run changes sampler"):
        evaluate(sampler, **run)


@pytest.mark.parametrize("change", ["template", "stop", "weight"])
def test_samples_of_another_prompt_stop_token_or_weight_are_not_mixed(sampler, tmp_path, change):
    run = {"problems": PROBLEMS, "num_samples": 2, "output_dir": tmp_path, "show_progress": False}
    evaluate(sampler, **run)
    if change == "template":  # in place, as an editor would
        sampler.tokenizer.chat_template += "7"
        named = "prompts: "
    elif change == "stop":
        sampler.model.generation_config.eos_token_id = [1, 2]
        named = r"sampler\.stop_token_ids: \[\d+\] -> \[1, 2\]"
    else:
        parameter = max(sampler.model.parameters(), key=lambda p: p.numel())
        with torch.no_grad():
            parameter.view(-1)[-1] += 1  # the last of its many values
        named = r"sampler\.weights: "
    with pytest.raises(ValueError, match=f"must all come from one config; this run changes {named}"):
        evaluate(sampler, **run | {"num_samples": 4})


class BrokenSampler(WrittenSampler):
    """Answers one by one, with an empty list after each as a server does that is waited for, and then fails."""

    def sample(self, requests, seed):
        def arriving():
            for batch in WrittenSampler.sample(self, requests, seed):
                yield batch
                yield []
            raise ValueError("the rest never comes")

        yield from paced(arriving(), seconds=60)


def test_what_came_before_an_error_is_recorded(tmp_path):
    run = {"num_samples": 4, "template": "plain", "output_dir": tmp_path, "show_progress": False}
    with pytest.raises(KeyboardInterrupt):
        evaluate(BrokenSampler(ANSWERS, stop_after=7), PROBLEMS, **run)
    assert len(list(read_samples(tmp_path))) == 7
    with pytest.raises(ValueError, match="the rest never comes"):
        evaluate(BrokenSampler(ANSWERS), PROBLEMS, **run)
    assert len(list(read_samples(tmp_path))) == 12


def test_impossible_k_and_repeated_problems_are_refused():
    with pytest.raises(ValueError, match=r"got k=\[8\] and num_samples=4\. Sample more"):
        evaluate(WrittenSampler(ANSWERS), PROBLEMS, num_samples=4, k=[8])
    with pytest.raises(ValueError, match=r"got 4, of which 3 differ\. Drop"):
        evaluate(WrittenSampler(ANSWERS), [*PROBLEMS, PROBLEMS[0]], num_samples=1)


def build_evaluation(counts, num_samples=8):
    num_correct = {f"p{i}": count for i, count in enumerate(counts)}
    ks = [2**i for i in range(num_samples.bit_length())]
    return Evaluation(num_samples, num_correct, 3, 41.25, 0.125, estimate_pass_at_k(num_samples, num_correct, ks))


def test_the_table_shows_percent_and_intervals_side_by_side():
    table = format_table({"before": build_evaluation([0, 4, 8, 2]), "after": build_evaluation([2, 6, 8, 4])})
    header, first, *_ = table.splitlines()
    assert header.split() == ["before", "after"]
    # (0 + 4 + 8 + 2) / 32 = 43.75%, (2 + 6 + 8 + 4) / 32 = 62.5%
    numbers = re.findall(r"\d+\.\d", first)
    assert [numbers[0], numbers[3]] == ["43.8", "62.5"]
    assert "undecided" in table
    assert "9.4%" in table  # 3 / 32
    assert "41.2" in table
    assert "12.5%" in table
    assert len({len(line) for line in table.splitlines()[:5]}) == 1  # aligned


def test_the_table_of_one_evaluation_has_no_header():
    assert build_evaluation([1, 2]).table().startswith("Pass@1 ")


def test_the_table_shows_the_k_that_all_have():
    other = Evaluation(2, {"q": 1}, 0, 1.0, 0.0, {1: Estimate(0.5, 0.5, 0.5)})
    table = format_table({"a": build_evaluation([1, 2]), "b": other})
    assert "Pass@1" in table
    assert "Pass@2" not in table
