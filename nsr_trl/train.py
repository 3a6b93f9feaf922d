"""A run in reading order: arguments, problems, model, trainer, training, saving.

The program that a launcher starts once per process, `nsr-trl train` or another:

    accelerate launch -m nsr_trl.train --config nsr-qwen2.5-math-7b
    torchrun --nproc_per_node 8 -m nsr_trl.train --config FILE.yaml --learning_rate 2e-6
"""

import os
import sys
from collections.abc import Sequence

from accelerate import FullyShardedDataParallelPlugin, PartialState
from datasets import Dataset, IterableDataset
from transformers import AutoConfig, AutoTokenizer
from trl import ModelConfig, get_peft_config, get_quantization_config

from .config import SignedRewardConfig
from .prompts import context_of, leave_out_overlong
from .run.arguments import field_name, flag_groups, parse, resolve_model
from .run.launch import accelerate_environment
from .run.preflight import check_output, resume_wish
from .run.script import ScriptArguments
from .run_card import command_line
from .secrets import hidden_arguments
from .task import Part, Task
from .trainer import SignedRewardTrainer
from .training_log import FirstRollout, TrainingLog, quieten


USER_ERROR = 2
"""Exit status of a run that was refused, with a sentence. 0 is a finished one, 128 + N one that signal N stopped after
a checkpoint (143 for SIGTERM, 130 for Ctrl-C), and any other a crash."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains. What is wrong with the arguments ends with its sentence on stderr and status 2."""
    quieten()
    given = sys.argv[1:] if arguments is None else arguments
    try:
        run = parse([*given, *hidden_arguments()], "nsr_trl.train")
        if "accelerate_config" in run.launch and "ACCELERATE_MIXED_PRECISION" not in os.environ:
            os.environ.update(accelerate_environment(run))  # torchrun, say: the config holds all the same
        script, args, model = run.build(num_processes=int(os.environ.get("WORLD_SIZE", 1)))
        check_that_a_model_is_saved(args)
        check_output(run, args)
        trainer = build_trainer(script, args, model)
        checkpoint = trainer.check_resuming(resume_wish(args))
    except ValueError as error:
        if os.environ.get("RANK", "0") == "0":
            print(f"nsr-trl train: error: {error}", file=sys.stderr)
        sys.exit(USER_ERROR)
    train(trainer, checkpoint)
    if trainer.stop_signal is not None:
        sys.exit(128 + trainer.stop_signal)


def build_trainer(script: ScriptArguments, args: SignedRewardConfig, model: ModelConfig) -> SignedRewardTrainer:
    """
    Loads problems and model.

    Args:
        script ([`ScriptArguments`]):
            What to train on.
        args ([`SignedRewardConfig`]):
            How to train.
        model (`trl.ModelConfig`):
            What to train.

    Returns:
        [`SignedRewardTrainer`]

    Raises:
        ValueError: If they do not go together.
    """
    say = PartialState().print  # the main process alone
    model_name = resolve_model(model.model_name_or_path)
    tokenizer = AutoTokenizer.from_pretrained(model_name, revision=model.model_revision, padding_side="left")
    context = context_of(AutoConfig.from_pretrained(model_name, revision=model.model_revision))

    def load(task: Task, part: Part, limit: int | None) -> Dataset | IterableDataset:
        return leave_out_overlong(task.dataset(part, tokenizer, limit, args.seed), tokenizer, context, say)

    task = script.train_task()
    dataset = load(task, "train", script.num_problems)
    eval_dataset = None if args.eval_strategy == "no" else load(script.test_task(), "test", script.num_eval_problems)
    args.chat_template_kwargs = {**task.prompting.chat_template_kwargs, **(args.chat_template_kwargs or {})} or None
    if args.correct_threshold is None:
        args.correct_threshold = task.correct_threshold
    args.model_init_kwargs = {
        "revision": model.model_revision,
        "attn_implementation": model.attn_implementation,
        "dtype": model.dtype,
    } | (args.model_init_kwargs or {})
    trainer = SignedRewardTrainer(
        model=model_name,
        reward_funcs=script.rewards(),
        args=args,
        train_dataset=dataset,
        eval_dataset=eval_dataset,
        processing_class=tokenizer,
        quantization_config=get_quantization_config(model),
        peft_config=get_peft_config(model),
    )
    trainer.task = task
    TrainingLog.instead_of_others(trainer)
    trainer.add_callback(FirstRollout(trainer, task.answer_format))
    number = (
        f"{len(dataset):,} problems of {task.name}" if isinstance(dataset, Dataset) else f"a stream of {task.name}"
    )
    say(f"Training {model.model_name_or_path} on {number}: {trainer.signed_objective.formula}.")
    return trainer


def train(trainer: SignedRewardTrainer, checkpoint: str | None = None) -> None:
    """
    Trains, saves the model and its card in the output folder, and pushes them where `push_to_hub` says so.

    Args:
        trainer ([`SignedRewardTrainer`]):
            The trainer.
        checkpoint (`str`, *optional*):
            Folder of the checkpoint to resume from.
    """
    args, say = trainer.args, trainer.accelerator.print  # `say`: the main process alone
    result = trainer.train(resume_from_checkpoint=checkpoint)
    if trainer.stopped_by_signal:
        command = command_line([sys.argv[0], *_without_resuming(sys.argv[1:])]) or "the same command"
        say(f"Go on with: {command} --resume_from_checkpoint true")
        trainer.accelerator.end_training()
        return
    trainer.save_model()
    trainer.create_model_card()
    if args.push_to_hub:
        trainer.push_to_hub()
        say(f"Pushed to https://huggingface.co/{trainer.hub_model_id}")
    say(
        f"{trainer.state.global_step} optimizer steps in {result.metrics['train_runtime']:.0f} s. "
        f"The model and its card are in {args.output_dir}/"
    )
    trainer.accelerator.end_training()


def _without_resuming(arguments: Sequence[str]) -> list[str]:
    """A command line without `--resume_from_checkpoint`."""
    return [
        word for group in flag_groups(arguments) if field_name(group[0]) != "resume_from_checkpoint" for word in group
    ]


def check_that_a_model_is_saved(args: SignedRewardConfig) -> None:
    """
    Refuses settings under which a run would end without a model that can be loaded.

    With ZeRO-3 and without `zero3_save_16bit_model`, transformers saves shards in DeepSpeed's own format in the place
    of the model; under FSDP with any state dict but the full one, `save_model` writes nothing at all.

    Raises:
        ValueError: If the settings are such.
    """
    plugin = getattr(args, "deepspeed_plugin", None)
    if plugin is not None and plugin.zero_stage == 3:
        setting = "stage3_gather_16bit_weights_on_model_save"
        gathers = plugin.deepspeed_config.get("zero_optimization", {}).get(setting, False)
        if gathers is not True:
            raise ValueError(
                f"ZeRO-3 must gather the weights to save a model; got {setting}={gathers!r}, which leaves shards that "
                "from_pretrained cannot load. Set zero3_save_16bit_model: true in the accelerate config, or that "
                "field in DeepSpeed's, or use --accelerate_config zero3."
            )
    if os.environ.get("ACCELERATE_USE_FSDP") == "true":
        kind = FullyShardedDataParallelPlugin().state_dict_type.name
        if kind != "FULL_STATE_DICT":
            raise ValueError(
                f"FSDP must save a full state dict; got {kind}, with which no model is written at the end. Set "
                "fsdp_state_dict_type: FULL_STATE_DICT in the accelerate config, or use --accelerate_config fsdp2."
            )


if __name__ == "__main__":
    main()
