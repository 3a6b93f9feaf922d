"""
What an evaluation costs over its sampling, and its sampling over vLLM's own.

    OMP_NUM_THREADS=1 python benchmarks/evaluate.py [--model PATH] [--num-problems 64] [--num-samples 64] [--rounds 5]

On one engine, in turns (A B C D A B C D), the prefix cache emptied before each, after a round that warms up:

- bare: one `LLM.generate` of all requests, with the sampling parameters and seeds that the sampler uses
- unseeded: the same without seeds, which no run could repeat
- sampler: `VLLMSampler.sample` of the same requests
- evaluate: `nsr_trl.evaluate`, which verifies and records them as well

The figures are medians over rounds: seconds, their ratio to those of the bare call of the same round, and CPU seconds
of this process, which makes requests, decodes and verifies while the engine runs in another one.
"""

import argparse
import json
import statistics
import tempfile
import time
from functools import partial
from itertools import islice

from nsr_trl import Problem, evaluate
from nsr_trl.evaluation.samplers import Request
from nsr_trl.evaluation.vllm_sampler import VLLMSampler
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import sample_problems


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=str(model_path()))
    parser.add_argument("--num-problems", type=int, default=64)
    parser.add_argument("--num-samples", type=int, default=64)
    parser.add_argument("--max-new-tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--gpu-memory-utilization", type=float, default=0.2)
    parser.add_argument("--json", help="file to write the figures to")
    options = parser.parse_args()

    sampler = VLLMSampler(
        options.model,
        max_new_tokens=options.max_new_tokens,
        gpu_memory_utilization=options.gpu_memory_utilization,
        max_model_len=options.max_new_tokens + 64,
    )
    problems = [Problem(p.question, p.answer) for p in islice(sample_problems(0, "test", 3), options.num_problems)]
    requests = [
        Request(problem.id, index, problem.question) for problem in problems for index in range(options.num_samples)
    ]
    prompts = [{"prompt_token_ids": sampler.tokenizer(request.prompt).input_ids} for request in requests]

    def bare(seed: int, is_seeded: bool = True) -> None:
        params = [sampler.sampling_params(request, seed) for request in requests]
        for each in params:
            each.detokenize = True  # as `LLM.generate` is used
            each.seed = each.seed if is_seeded else None
        outputs = sampler.llm.generate(prompts, params, use_tqdm=False)
        assert len(outputs) == len(requests)

    def sample(seed: int) -> None:
        assert sum(map(len, sampler.sample(requests, seed))) == len(requests)

    def evaluate_all(seed: int) -> None:
        with tempfile.TemporaryDirectory() as folder:
            settings = {"template": "plain", "output_dir": folder, "show_progress": False}
            evaluate(sampler, problems, num_samples=options.num_samples, seed=seed, **settings)

    contenders = {
        "bare": bare,
        "unseeded": partial(bare, is_seeded=False),
        "sampler": sample,
        "evaluate": evaluate_all,
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    cpu: dict[str, list[float]] = {name: [] for name in contenders}
    for round_index in range(options.rounds + 1):
        for name, contender in contenders.items():
            sampler.llm.reset_prefix_cache()
            start, cpu_start = time.perf_counter(), time.process_time()
            contender(seed=round_index)
            if round_index:
                seconds[name].append(time.perf_counter() - start)
                cpu[name].append(time.process_time() - cpu_start)

    print(f"{len(requests)} requests of at most {options.max_new_tokens} tokens, {options.rounds} rounds")
    print(f"{'contender':10} {'seconds':>8} {'lowest':>8} {'highest':>8} {'of bare':>8} {'CPU s':>8}")
    table = {}
    for name, values in seconds.items():
        ratio = statistics.median(value / base for value, base in zip(values, seconds["bare"], strict=True))
        median = statistics.median(values)
        table[name] = {"seconds": values, "ratio": ratio, "cpu_seconds": cpu[name]}
        own = statistics.median(cpu[name])
        print(f"{name:10} {median:8.2f} {min(values):8.2f} {max(values):8.2f} {ratio:8.3f} {own:8.2f}")
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"options": vars(options), "figures": table}, file, indent=2)


if __name__ == "__main__":
    main()
