"""What only a GPU can tell. `make gpu` runs these; NSR_TRL_GPU_DRY_RUN=1 runs them on a CPU, to see that they run.

Random or tiny models, no network: what is asked is whether numbers agree and stay finite, not whether a model learns.
"""

import contextlib
import os
import runpy
import signal
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from forks import start_cold
from test_compacted_training import run
from test_resume import SCRIPT, start, stop_at
from torch.nn.attention import SDPBackend, sdpa_kernel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    PrinterCallback,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from nsr_trl import Problem, SignedRewardConfig, SignedRewardTrainer, math_reward, to_dataset, verify
from nsr_trl.checkpoints import last_complete_checkpoint
from nsr_trl.objective import POLARITIES
from nsr_trl.quickstart.model import model_path
from nsr_trl.quickstart.problems import generate_problems
from nsr_trl.quickstart.run import quickstart_config
from nsr_trl.verifier import Outcome, Reason
from nsr_trl.verifier.sandbox import Sandbox


DRY_RUN = os.environ.get("NSR_TRL_GPU_DRY_RUN") == "1"
HAS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if HAS_GPU else "cpu"
ON_DEVICE = {"use_cpu": not HAS_GPU}

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not HAS_GPU and not DRY_RUN, reason="needs a GPU, and torch sees none; run by make gpu"),
]

BACK_ENDS = {
    "default": None,  # torch chooses: cuDNN's on an H100
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
    "eager": None,  # transformers' own, without torch's fused attention
}


def rollout_of(prompt_ids, ids):
    """What a rollout function returns, of completions that are dealt."""
    return {"prompt_ids": prompt_ids, "completion_ids": ids, "logprobs": [[0.0] * len(row) for row in ids]}


# --- compacted updates equal uncompacted ones ---------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "settings",
    [
        *({"objective": objective} for objective in ("nsr", "w_reinforce", "grpo")),
        {"objective": "nsr", "steps_per_generation": 8, "max_steps": 4},  # two windows, so off-policy
        {"objective": "w_reinforce", "steps_per_generation": 8, "num_iterations": 2, "max_steps": 4},
    ],
    ids=lambda s: "-".join(f"{k}={v}" for k, v in s.items()),
)
def test_compaction_leaves_loss_gradient_and_parameters_unchanged(make_trainer, settings, precision):
    is_bf16 = precision == "bfloat16"
    settings = settings | ON_DEVICE | {"bf16": is_bf16}
    plain, their_logs, _ = run(make_trainer, compact="off", **settings)
    compact, our_logs, _ = run(make_trainer, compact="on", **settings)
    assert plain.norm() > 0
    assert (compact - plain).norm() <= (0.1 if is_bf16 else 1e-4) * plain.norm()
    for ours, theirs in zip(our_logs, their_logs, strict=True):
        assert ours == pytest.approx(theirs, rel=0.05 if is_bf16 else 1e-3, abs=1e-3 if is_bf16 else 1e-6)


def test_an_entropy_bonus_reaches_the_gradient_under_compaction(make_trainer):
    settings = ON_DEVICE | {"objective": "nsr", "steps_per_generation": 8, "max_steps": 2, "compact": "on"}
    without, _, _ = run(make_trainer, **settings)
    found, _, _ = run(make_trainer, entropy_coef=30.0, **settings)
    # one micro-batch per window leaves nothing to weigh: TRL's own mean is then the token mean
    whole, _, _ = run(make_trainer, entropy_coef=30.0, max_tokens_per_microbatch=10_000, **settings)
    assert (found - without).norm() > 0.1 * without.norm()
    assert (found - whole).norm() <= 1e-4 * whole.norm()


# --- packing without padding --------------------------------------------------------------------------------------


@pytest.mark.parametrize("attention", ["flash_attention_2", "varlen"])
def test_rows_packed_into_one_sequence_train_as_padded_ones_do(make_trainer, attention):
    if attention != "varlen":
        pytest.importorskip("flash_attn", reason="needs flash-attention")
    settings = ON_DEVICE | {"objective": "w_reinforce", "bf16": True}
    padded, their_logs, _ = run(make_trainer, **settings)
    packed, our_logs, _ = run(make_trainer, model_init_kwargs={"attn_implementation": attention}, **settings)
    assert padded.norm() > 0
    assert (packed - padded).norm() <= 0.1 * padded.norm()
    for ours, theirs in zip(our_logs, their_logs, strict=True):
        assert ours == pytest.approx(theirs, rel=0.05, abs=1e-3)


# --- memory ---------------------------------------------------------------------------------------------------------


class Hog:
    """A rollout that deals few tokens; before a generation it takes the memory that the update needs."""

    def __init__(self, strikes_at=None):
        self.strikes_at, self.generations, self.held = strikes_at, 0, None

    def __call__(self, prompts, trainer):
        self.generations += 1
        if self.generations == self.strikes_at:
            needed = torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
            torch.cuda.empty_cache()
            free = torch.cuda.mem_get_info()[0]
            self.held = torch.empty(free - needed // 2, dtype=torch.uint8, device="cuda")
        lengths = [40 + 20 * (row % 8) for row in range(len(prompts))]
        ids = [[11 + (row + place) % 7 for place in range(length)] for row, length in enumerate(lengths)]
        return rollout_of(trainer.processing_class(text=prompts)["input_ids"], ids)


@pytest.mark.skipif(not HAS_GPU, reason="only a GPU runs out of its memory")
@pytest.mark.parametrize("settings", [{}, {"gradient_accumulation_steps": 2}], ids=["one micro-step", "two"])
def test_an_update_that_runs_out_of_memory_begins_anew_and_changes_nothing(tmp_path, settings):
    """64k words of vocabulary and 10,000 tokens: gigabytes of logits, half of which are missing at the third step."""

    def train(rollout, **settings):
        tokenizer = AutoTokenizer.from_pretrained(model_path(), padding_side="left")
        config = Qwen2Config(
            vocab_size=65536,
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=1,
            pad_token_id=tokenizer.pad_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
        torch.manual_seed(0)
        model = Qwen2ForCausalLM(config).cuda()
        before = torch.cat([p.detach().flatten() for p in model.parameters()])
        args = SignedRewardConfig(
            str(tmp_path),
            objective="w_reinforce",
            bf16=False,
            learning_rate=1e-3,
            per_device_train_batch_size=64,
            num_generations=8,
            max_completion_length=180,
            max_steps=4,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            **settings,
        )
        dataset = to_dataset([Problem(**row) for row in generate_problems(64, 0, "train")], template="plain")

        def reward(completions, **kwargs):
            return [float(row % 3 == 0) for row in range(len(completions))]

        trainer = SignedRewardTrainer(model, reward, args, dataset, processing_class=tokenizer, rollout_func=rollout)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
        moved = torch.cat([p.detach().flatten() for p in model.parameters()]) - before
        return moved.cpu(), trainer._budget

    expected, _ = train(Hog(), **settings)
    hog = Hog(strikes_at=3)
    found, budget = train(hog, max_tokens_per_microbatch="auto", **settings)
    del hog.held
    torch.cuda.empty_cache()
    assert budget.most < 64 * 200  # memory did run out
    assert expected.norm() > 0
    assert (found - expected).norm() <= 1e-3 * expected.norm()


# --- runs -----------------------------------------------------------------------------------------------------------


def test_a_run_that_is_killed_and_resumed_ends_as_one_that_was_not(tiny_model, tmp_path):
    settings = ON_DEVICE | {"max_steps": 10}
    train = runpy.run_path(str(SCRIPT))["train"]
    whole = train(tiny_model, tmp_path / "whole", settings)
    before = dict(AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32).named_parameters())
    killed = start(tiny_model, tmp_path / "killed", partial(start_cold, env={}), **settings)
    assert stop_at(killed, signal.SIGKILL, 4, 0.05) == -signal.SIGKILL
    checkpoint = last_complete_checkpoint(tmp_path / "killed" / "run")
    assert checkpoint is not None
    assert Path(checkpoint).name != "checkpoint-10"
    resumed = train(tiny_model, tmp_path / "killed", settings)
    moved = torch.cat([(whole[name].cpu() - before[name]).flatten() for name in before])
    apart = torch.cat([(resumed[name] - whole[name]).flatten() for name in before])
    assert moved.norm() > 0
    assert apart.norm() <= 1e-3 * moved.norm()


def test_the_quickstart_learns(tmp_path):
    num_steps = 2 if DRY_RUN else 16
    problems = [Problem(**row) for row in generate_problems(64 * num_steps, 0, "train")]
    settings = ON_DEVICE | {"max_steps": num_steps, "log_completions": False}
    if DRY_RUN:
        settings |= {"per_device_train_batch_size": 32}
    trainer = SignedRewardTrainer(
        model=str(model_path()),
        reward_funcs=math_reward,
        args=quickstart_config("w_reinforce", 0, tmp_path, **settings),
        train_dataset=to_dataset(problems, template="plain"),
    )
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    correct = [row["signed/correct_ratio"] for row in trainer.state.log_history if "signed/correct_ratio" in row]
    assert len(correct) == num_steps
    assert DRY_RUN or sum(correct[-4:]) > sum(correct[:4]) + 4 * 0.03  # +15 points in 16 steps on a CPU


def test_the_verifier_works_beside_a_gpu():
    """Its workers are new interpreters without torch; one that is killed leaves the GPU's context alone."""
    values = torch.arange(8.0, device=DEVICE)
    assert verify(r"\boxed{\frac{\sin 2x}{2}}", r"\sin x\cos x").outcome is Outcome.CORRECT
    assert verify(r"\boxed{\sqrt{3+2\sqrt2}}", r"1+\sqrt2").outcome is Outcome.CORRECT
    assert verify(r"\boxed{(x+1)(x-1)}", "x^2+1").outcome is Outcome.INCORRECT
    assert Sandbox("misbehaving:act").run([["spin"], ["modules", "torch"]]) == [Reason.TIME_OUT, False]
    assert values.sum().item() == 28


# --- gradients stay finite ------------------------------------------------------------------------------------------


class NonFiniteGradientError(ArithmeticError):
    """A gradient with NaN or infinity, with where it was first seen."""


def watch_gradients(trainer):
    """Raises at the first gradient that is not finite, in the order of the backward pass, before a step is taken."""

    def watch(name, gradient):
        if not gradient.isfinite().all():
            batch = trainer._buffered_inputs[trainer._step % trainer.args.steps_per_generation]
            rows = batch["prompt_mask"].sum(1), batch["completion_mask"].sum(1)
            raise NonFiniteGradientError(
                f"step {trainer.state.global_step}, micro-step {trainer._step}: {name}; prompts "
                f"{tuple(batch['prompt_ids'].shape)} from {int(rows[0].min())} tokens, completions "
                f"{tuple(batch['completion_ids'].shape)} from {int(rows[1].min())}, padded rows "
                f"{int((rows[0] < batch['prompt_ids'].size(1)).sum())}"
            )

    for name, parameter in trainer.model.named_parameters():
        parameter.register_hook(lambda gradient, name=name: watch(name, gradient))


def train_with(back_end, trainer):
    """Trains with an attention back end; skips where this machine has none for these inputs."""
    trainer.remove_callback(PrinterCallback)
    kernel = BACK_ENDS[back_end]
    with contextlib.nullcontext() if kernel is None else sdpa_kernel(kernel):
        try:
            trainer.train()
        except RuntimeError as error:
            if "No available kernel" in str(error) or "No viable backend" in str(error):
                pytest.skip(f"this machine's attention has no {back_end} kernel for these inputs")
            raise


def check_gradients(back_end, build):
    """Trains while gradients are watched; where one is not finite, again, for the name of the function it is of."""
    try:
        trainer = build()
        watch_gradients(trainer)
        train_with(back_end, trainer)
        return
    except NonFiniteGradientError as error:
        where = str(error)
    try:
        with torch.autograd.set_detect_anomaly(True):
            train_with(back_end, build())
        what = "not found again"
    except RuntimeError as error:
        what = str(error).splitlines()[0]
    pytest.fail(f"{where}: {what}")


def combinations():
    """(objective, precision, compact, back end), the likeliest to fail first."""
    both = ("auto", "off")
    yield from (("nsr", "bfloat16", "auto", back_end) for back_end in BACK_ENDS)
    yield ("nsr", "bfloat16", "off", "default")
    for objective in (*POLARITIES, "grpo", "qae"):
        yield from ((objective, "bfloat16", compact, "default") for compact in both if objective != "nsr")
        yield from ((objective, "float32", compact, "default") for compact in both)
    yield from (("nsr", "float32", "auto", back_end) for back_end in ("efficient", "math", "eager"))


@pytest.fixture(scope="module")
def sampled():
    """Completions of the quickstart's model, 8 for each of its problems: prompt -> token ids. And the dataset."""
    num_prompts = 16 if DRY_RUN else 320
    problems = [Problem(**row) for row in generate_problems(num_prompts, 0, "train")]
    dataset = to_dataset(problems, template="plain")
    tokenizer = AutoTokenizer.from_pretrained(model_path(), padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32).to(DEVICE)
    inputs = tokenizer(list(dataset["prompt"]), return_tensors="pt", padding=True).to(DEVICE)
    torch.manual_seed(0)
    limits = {"max_new_tokens": 64, "num_return_sequences": 8, "do_sample": True}
    output = model.generate(**inputs, **limits)[:, inputs["input_ids"].size(1) :].tolist()
    end = tokenizer.eos_token_id
    rows = [row[: row.index(end) + 1] if end in row else row for row in output]
    return {prompt: rows[8 * i : 8 * i + 8] for i, prompt in enumerate(dataset["prompt"])}, dataset


@pytest.mark.parametrize(("objective", "precision", "compact", "back_end"), list(combinations()))
def test_gradients_are_finite_on_the_quickstart(sampled, tmp_path, objective, precision, compact, back_end):
    completions, dataset = sampled

    def rollout(prompts, trainer):
        ids = [completions[prompt][row % 8] for row, prompt in enumerate(prompts)]
        return rollout_of(trainer.processing_class(text=prompts)["input_ids"], ids)

    def build():
        settings = ON_DEVICE | {"bf16": precision == "bfloat16", "compact": compact, "learning_rate": 1e-5}
        settings |= {"per_device_train_batch_size": 16 if DRY_RUN else 128, "gradient_accumulation_steps": 4}
        settings |= {"max_steps": 2 if DRY_RUN else 5, "gradient_checkpointing": True, "log_completions": False}
        if back_end == "eager":
            settings |= {"model_init_kwargs": {"attn_implementation": "eager"}}
        return SignedRewardTrainer(
            model=str(model_path()),
            reward_funcs=math_reward,
            args=quickstart_config(objective, 0, tmp_path, **settings),
            train_dataset=dataset,
            rollout_func=rollout,
        )

    check_gradients(back_end, build)


WIDTHS = (63, 64, 65, 128, 192)
"""Prompt and completion, tokens. cuDNN's backward pass is known to fail at 64 beyond a multiple of 128."""


@pytest.mark.parametrize("compact", ["auto", "off"])
@pytest.mark.parametrize("back_end", BACK_ENDS)
def test_gradients_are_finite_at_any_width(tiny_model, tmp_path, back_end, compact):
    """Half of the prompts are shorter, so that TRL pads them on the left, where nothing can be attended to."""

    def build():
        settings = ON_DEVICE | {"bf16": True, "compact": compact, "report_to": "none", "save_strategy": "no"}
        if back_end == "eager":
            settings |= {"model_init_kwargs": {"attn_implementation": "eager"}}
        args = SignedRewardConfig(
            str(tmp_path),
            objective="nsr",
            per_device_train_batch_size=16,
            num_generations=4,
            max_completion_length=max(WIDTHS),
            max_steps=2 if DRY_RUN else len(WIDTHS),
            disable_tqdm=True,
            **settings,
        )
        dataset = to_dataset([Problem(**row) for row in generate_problems(64, 0, "train")], template="plain")
        widths = iter(WIDTHS[:2] if DRY_RUN else WIDTHS)

        def rollout(prompts, trainer):
            width = next(widths)
            prompt_ids = [[7] * (20 if row % 2 else 10) for row in range(len(prompts))]
            ids = [[11 + row % 7] * (width - 20) for row in range(len(prompts))]
            return rollout_of(prompt_ids, ids)

        return SignedRewardTrainer(
            tiny_model, lambda completions, **kwargs: [0.0] * len(completions), args, dataset, rollout_func=rollout
        )

    check_gradients(back_end, build)


@pytest.mark.skipif(not HAS_GPU, reason="cuDNN's attention needs a GPU")
@pytest.mark.parametrize("has_masked_rows", [False, True])
def test_what_cudnn_does_at_each_width(has_masked_rows, capsys):
    """No promise of ours: it records at which widths this machine's cuDNN returns NaN, and so why we avoid them."""
    broken = []
    for width in (32, *(64 * n + beside for n in range(1, 9) for beside in (-1, 0, 1))):
        torch.manual_seed(0)
        query, key, value = torch.randn(3, 2, 2, width, 64, device="cuda", dtype=torch.bfloat16).unbind()
        if not has_masked_rows:  # every score about -120: their logarithmic sum is below what float32's exp can invert
            query[..., 0], key[..., 0] = 10.0, -96.0
        states = [states.clone().requires_grad_() for states in (query, key, value)]
        mask = torch.ones(width, width, dtype=torch.bool, device="cuda").tril()[None, None].repeat(2, 1, 1, 1)
        if has_masked_rows:
            mask[..., :10] = False  # as if ten tokens of padding stood on the left
        try:
            with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
                F.scaled_dot_product_attention(*states, attn_mask=mask).square().sum().backward()
        except RuntimeError as error:
            pytest.skip(f"no cuDNN attention here: {str(error).splitlines()[0]}")
        if not all(state.grad.isfinite().all() for state in states):
            broken.append(width)
    scores = "rows without a token to attend to" if has_masked_rows else "scores of -120"
    with capsys.disabled():
        print(f"\ncuDNN {torch.backends.cudnn.version()} with {scores}: NaN at widths {broken}")
    assert all(width % 128 == 64 for width in broken)
