"""Wrong input of every kind ends with a sentence and status 2: no traceback, no error number, nothing started."""

import json
import os
import shutil

import pytest

from nsr_trl.cli import main
from nsr_trl.run import launch


FILES = {
    "rows.jsonl": "".join(json.dumps({"problem": f"{n}+{n}?", "answer": str(2 * n)}) + "\n" for n in range(8)),
    "alike.jsonl": '{"problem": "a", "answer": "2"}\n' * 2,
    "empty.jsonl": "",
    "blank.jsonl": "\n\n",
    "broken.jsonl": '{"problem": "a", "answer"',
    "scalars.jsonl": "1\n2\n",
    "numbers.jsonl": '{"problem": 1, "answer": "2"}\n' * 4,
    "unanswered.jsonl": '{"problem": "a", "answer": null}\n' * 4,
    "narratives.jsonl": json.dumps({"problem": "a", "answer": "we go on and on without an end to it " * 9}) + "\n",
    "nameless.jsonl": '{"text": "a", "label": "b"}\n' * 4,
    "notext.jsonl": '{"prompt": [{"role": "system", "content": "x"}], "answer": "2"}\n' * 4,
    "verl.jsonl": '{"prompt": "a", "reward_model": "rule"}\n' * 4,
    "notparquet.parquet": "hello",
    "notcsv.csv": "a,b\n1,2,3,4\n",
    "text.txt": "hello",
    "latin.yaml": b"# caf\xe9\nbeta: 0\n",
    "list.yaml": "- beta\n",
    "text.yaml": "just text\n",
    "open.yaml": "beta: [1\n",
    "twice.yaml": "beta: 0\nbeta: 1\n",
    "tabs.yaml": "env:\n\tA: 1\n",
    "unknown.yaml": "learning_rat: 1\nflavour: x\n",
    "circle.yaml": "extends: circle.yaml\n",
    "orphan.yaml": "extends: nowhere\n",
    "extends.yaml": "extends: 3\n",
    "env.yaml": "env: [A]\n",
    "words.yaml": "learning_rate: fast\n",
    "nested.yaml": "num_problems: [1, 2]\n",
    "mapping.yaml": "learning_rate: {a: 1}\n",
    "objective.yaml": "objective: nrs\n",
    "boolean.yaml": "bf16: perhaps\n",
    "emptytask.yaml": "grader: paper\n",
    "notask.yaml": "train: {split: x}\n",
    "badtask.yaml": "train: rows.jsonl\ngradr: x\n",
    "testonly.yaml": "test: rows.jsonl\n",
    "template.yaml": "train: rows.jsonl\ntemplate: gemma\n",
    "format.yaml": "train: rows.jsonl\nanswer_format: boxd\n",
    "weights.yaml": "train:\n- {dataset: rows.jsonl, weight: 1}\n- {dataset: rows.jsonl}\n",
    "rewards_here.py": "def closed(completions): ...\n\n\ndef column(completions, target, **kwargs): ...\n",
    "broken_rewards.py": "1 / 0\n",
    "answers.jsonl": '{"response": "\\\\boxed{5}", "gold": "5"}\n',
    "noanswers.jsonl": '{"text": "5"}\n',
    "notanobject.jsonl": "[]\n",
    "notes/a.txt": "x",
    "accelerate.yaml": "- x\n",
    "reward.yaml": "train: rows.jsonl\nreward: nowhere:f\n",
    # a task whose fields are of other types than they must be
    "dataset3.yaml": "train: {dataset: 3}\n",
    "dataset0.yaml": "train: {dataset: ''}\n",
    "size.yaml": "train: {dataset: quickstart, size: '5'}\n",
    "nothing.yaml": "train: {dataset: quickstart, size: 0}\n",
    "weight.yaml": "train: {dataset: rows.jsonl, weight: heavy}\n",
    "streaming.yaml": "train: {dataset: rows.jsonl, streaming: 'yes'}\n",
    "options.yaml": "train: {dataset: reasoning_gym/chain_sum, options: [1]}\n",
    "formats.yaml": "train: rows.jsonl\nanswer_format: [boxed]\n",
    "number.yaml": "train: rows.jsonl\ntemplate: 5\n",
    "system.yaml": "train: rows.jsonl\nsystem_prompt: 5\n",
    "rewarded.yaml": "train: rows.jsonl\nreward: 5\n",
    "chat.yaml": "train: rows.jsonl\nchat_template_kwargs: [enable_thinking]\n",
    "threshold.yaml": "train: rows.jsonl\ncorrect_threshold: half\n",
}

MISTYPED = (
    "dataset3 dataset0 size nothing weight streaming options formats number system rewarded chat threshold".split()
)

TRAIN = "train --model_name_or_path MODEL --dataset rows.jsonl --output_dir out --use_cpu true"
EVALUATE = "evaluate --model MODEL --output-dir out --num-samples 1 --max-new-tokens 2 --sampler transformers"

WRONG = [
    # the command itself
    "",
    "trian",
    "quickstart --objective nrs",
    "quickstart --seed one",
    "quickstart --output-dir notes",
    "study --objectives nrs",
    "study --objectives psr psr",
    "study --objectives nowhere:f",
    "study --objective-args pkpo {}",
    "study --objectives pkpo --objective-args pkpo k=8",
    'study --objectives pkpo --objective-args pkpo {"k":16}',
    'study --objectives pkpo --objective-args pkpo {"order":2}',
    "study --preset high",
    "study --optimizer adam",
    "study --worlds 0",
    "study --steps -1",
    "study --learning-rate 0",
    "study --learning-rate nan",
    "study --group-size 1",
    "study --num-problems 1000",
    "study --exact --objectives a_grae --worlds 1",
    "study --output-dir notes",
    "study --output-dir text.txt",
    "recipes show nsr-qwen",
    "recipes show",
    "recipes copy nsr-qwen3-4b text.txt",
    "recipes copy nsr-qwen3-4b nowhere/mine.yaml",
    "recipes copy nsr-qwen3-4b notes",
    "recipes shwo nsr-qwen3-4b",
    "tasks show gsm8",
    "tasks show list.yaml",
    "tasks show nowhere.yaml",
    "tasks shwo gsm8k",
    # files of settings
    "train",
    "train nsr-qwen3-4b",
    "train --config",
    "train --config nsr-qwen4",
    "train --config nowhere.yaml",
    "train --config notes",
    *(f"{TRAIN} --config {name}.yaml" for name in ("latin", "list", "text", "open", "twice", "tabs", "unknown")),
    *(
        f"{TRAIN} --config {name}.yaml"
        for name in ("circle", "orphan", "extends", "env", "words", "nested", "mapping")
    ),
    *(f"{TRAIN} --config {name}.yaml" for name in ("mapping", "objective", "boolean")),
    # flags
    f"{TRAIN} --learning_rat 1",
    f"{TRAIN} --learning_rate fast",
    f"{TRAIN} --learning_rate",
    f"{TRAIN} --max_steps 1.5",
    f"{TRAIN} --objective nrs",
    f"{TRAIN} --bf16 perhaps",
    f"{TRAIN} --seed 1 2",
    f"{TRAIN} --positive_weight -1 --objective w_reinforce",
    f"{TRAIN} --positive_weight 1 --objective nsr",
    f"{TRAIN} --compact sometimes",
    f"{TRAIN} --max_tokens_per_microbatch 0",
    f"{TRAIN} --check_after_rollouts -1",
    f"{TRAIN} --correct_threshold nan",
    f"{TRAIN} --num_generations 3",
    f"{TRAIN} --num_generations 1",
    f"{TRAIN} --num_generations 0",
    f"{TRAIN} --num_iterations 0",
    f"{TRAIN} --steps_per_generation 0",
    f"{TRAIN} --gradient_accumulation_steps 0",
    f"{TRAIN} --max_completion_length 0",
    f"{TRAIN} --max_steps 0",
    f"{TRAIN} --num_train_epochs 0",
    f"{TRAIN} --learning_rate -1",
    f"{TRAIN} --learning_rate nan",
    f"{TRAIN} --temperature 0",
    f"{TRAIN} --top_p 2",
    f"{TRAIN} --output_dir=",
    f'{TRAIN} --positive_weight_schedule {{"kind":',
    f"{TRAIN} --per_device_train_batch_size 0",
    f"{TRAIN} --per_device_train_batch_size 3",
    f"{TRAIN} --generation_batch_size 12",
    f"{TRAIN} --optimizer_steps_per_generation 2",
    f"{TRAIN} --optimizer_steps_per_generation 3 --generation_batch_size 64",
    f"{TRAIN} --optimizer_steps_per_generation 0 --generation_batch_size 64",
    f"{TRAIN} --max_completion_length 1000000",
    f"{TRAIN} --num_problems 0",
    f"{TRAIN} --num_problems -1",
    f"{TRAIN} --gpu_memory much",
    f"{TRAIN} --eval_strategy sometimes",
    f"{TRAIN} --eval_strategy steps --eval_steps 1",
    f"{TRAIN} --eval_strategy steps --eval_steps 1 --eval_dataset nowhere.jsonl",
    f"{TRAIN} --lr_scheduler_type wavy",
    f"{TRAIN} --report_to nobody",
    f"{TRAIN} --resume_from_checkpoint true",
    f"{TRAIN} --resume_from_checkpoint notes",
    f"{TRAIN} --output_dir text.txt",
    f"{TRAIN} --output_dir text.txt/out",
    f"{TRAIN} --loss_type hinge",
    # the launcher
    f"{TRAIN} --num_processes 0",
    f"{TRAIN} --num_processes two",
    f"{TRAIN} --num_processes 3 --num_generations 5",
    f"{TRAIN} --num_machines 0",
    f"{TRAIN} --accelerate_config zero4",
    f"{TRAIN} --accelerate_config accelerate.yaml",
    f"{TRAIN} --accelerate_config notes",
    f"{TRAIN} --accelerate_config fsdp2 --num_processes 1",
    f"{TRAIN} --num_proceses 2",
    # models, tasks, datasets
    "train --task gsm8k --output_dir out",
    "train --task rows.jsonl --model_name_or_path no/such-model --output_dir out --use_cpu true",
    "train --task rows.jsonl --model_name_or_path notes --output_dir out --use_cpu true",
    *(f"{TRAIN} --dataset {name}" for name in ("nowhere.jsonl", "no/such-dataset", "notes", "text.txt")),
    *(f"{TRAIN} --dataset {name}.jsonl" for name in ("empty", "blank", "broken", "scalars", "numbers", "unanswered")),
    *(f"{TRAIN} --dataset {name}.jsonl" for name in ("narratives", "nameless", "notext", "verl")),
    *(f"{TRAIN} --dataset {name}" for name in ("notparquet.parquet", "notcsv.csv")),
    *(
        f"train --model_name_or_path MODEL --output_dir out --use_cpu true --task {name}.yaml"
        for name in (
            "emptytask",
            "notask",
            "badtask",
            "testonly",
            "template",
            "format",
            "weights",
            "reward",
            "nowhere",
        )
    ),
    *(f"train --model_name_or_path MODEL --output_dir out --use_cpu true --task {name}.yaml" for name in MISTYPED),
    f"{TRAIN} --split test",
    f"{TRAIN} --split train[:0]",
    f"{TRAIN} --dataset_config main",
    f"{TRAIN} --question_column text",
    f"{TRAIN} --answer_column label",
    f"{TRAIN} --template gemma",
    f"{TRAIN} --template plain --system_prompt brief",
    f"{TRAIN} --answer_format boxd",
    f"{TRAIN} --answer_format (",
    f"{TRAIN} --grader strict",
    # rewards
    *(f"{TRAIN} --reward_funcs {name}" for name in ("nowhere:f", "rewards_here:f", "f", "broken_rewards:f", "os:sep")),
    *(
        f"{TRAIN} --reward_funcs {name}"
        for name in ("rewards_here:closed", "rewards_here:column", "nowhere.py:f", ":")
    ),
    f"{TRAIN} --reward_funcs math_reward think_format_reward",
    f"{TRAIN} --reward_funcs math_reward --outcome_reward accuracy",
    f"{TRAIN} --auxiliary_weight 0.1",
    f"{TRAIN} --outcome_requires form",
    # evaluation
    f"{EVALUATE}",
    f"{EVALUATE} --task nowhere.jsonl",
    f"{EVALUATE} --task gsm8k math --dataset rows.jsonl",
    f"{EVALUATE} --task empty.jsonl",
    f"{EVALUATE} --task broken.jsonl",
    f"{EVALUATE} --task rows.jsonl rows.jsonl",
    f"{EVALUATE} --task rows.jsonl --k 8",
    f"{EVALUATE} --task rows.jsonl --k 0",
    f"{EVALUATE} --task rows.jsonl --num-samples 0",
    f"{EVALUATE} --task rows.jsonl --num-problems -1",
    f"{EVALUATE} --task rows.jsonl --temperature hot",
    f"{EVALUATE} --task rows.jsonl --shard 3/2",
    f"{EVALUATE} --task rows.jsonl --grader strict",
    f"{EVALUATE} --task rows.jsonl --answer-format boxd",
    f"{EVALUATE} --task rows.jsonl --reward nowhere:f",
    f"{EVALUATE} --task rows.jsonl --template gemma",
    f"{EVALUATE} --task rows.jsonl --preset gpt",
    f"{EVALUATE} --task rows.jsonl --output-dir text.txt",
    f"{EVALUATE} --task rows.jsonl --shard 9/9",
    f"{EVALUATE} --task rows.jsonl --model cut",
    f"{EVALUATE} --task alike.jsonl",
    f"{EVALUATE} --task rows.jsonl --model no/such-model",
    f"{EVALUATE} --task rows.jsonl --batch-size 0",
    f"{EVALUATE} --task rows.jsonl --sampler vllm --batch-size 2",
    f"{EVALUATE} --task train.yaml",
    "merge out nowhere",
    "merge notes notes",
    "compare nowhere notes",
    "plot nowhere --output x.png",
    "plot notes --output x.png --dynamics",
    "show nowhere",
    "show notes --limit 0",
    "card nowhere",
    "card notes --task gsm8",
    # verify
    "verify",
    "verify nowhere.jsonl",
    "verify text.txt",
    "verify noanswers.jsonl",
    "verify notanobject.jsonl",
    "verify broken.jsonl",
    "verify notparquet.parquet",
    "verify answers.jsonl --grader strict",
    "verify answers.jsonl --answer-format boxd",
    "verify answers.jsonl --num-workers 0",
    "verify --gold nowhere.jsonl",
    "verify --gold empty.jsonl",
    "verify --gold rows.jsonl --gold-column label",
    "verify --explain one",
    "doctor --config nsr-qwen4",
    "doctor --learning_rat 1",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory, tiny_model):
    path = tmp_path_factory.mktemp("wrong")
    for name, content in FILES.items():
        (path / name).parent.mkdir(exist_ok=True)
        (path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    shutil.copytree(tiny_model, path / "cut")  # a model whose download was cut
    os.truncate(path / "cut" / "model.safetensors", 1000)
    return path


@pytest.mark.parametrize(
    "command", WRONG, ids=lambda command: command.replace(TRAIN, "").replace(EVALUATE, "evaluate").strip()
)
def test_it_ends_with_a_sentence(command, folder, tiny_model, monkeypatch, capfd):
    monkeypatch.chdir(folder)

    def start(*args, **kwargs):
        raise AssertionError("a run was started")

    monkeypatch.setattr(os, "execvpe", start)
    monkeypatch.setattr(launch, "launch_command", start)
    with pytest.raises(SystemExit) as ended:
        main([tiny_model if word == "MODEL" else word for word in command.split()])
    assert ended.value.code == 2
    sentence = capfd.readouterr().err.split("error: ")[-1]
    assert len(sentence) > 20
    assert "[Errno" not in sentence
    assert "Traceback" not in sentence


def test_there_are_as_many_kinds_as_people_found():
    assert len(WRONG) >= 116
