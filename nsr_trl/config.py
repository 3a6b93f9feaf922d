"""Configuration of a signed run: `GRPOConfig` plus what the sign of an answer is worth and how its update runs.

The fields are read by functions of any object that has them, so that a user's own subclass of `GRPOConfig` need only
be given them ([`adopt`]) and stays what it is.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from trl import GRPOConfig

from .alarms import check_thresholds
from .checks import is_count, is_number, is_whole, plain
from .controllers import Controller, build_controller
from .objective import Objective, build_objective, reads_batch
from .secrets import without_secrets


logger = logging.getLogger(__name__)


@dataclass
class SignedRewardConfig(GRPOConfig):
    r"""
    Configuration class for the [`SignedRewardTrainer`].

    Only the fields that `GRPOConfig` does not have are listed here. Its defaults are kept: the clipped surrogate with
    `epsilon=0.2`, the token mean over the sampled tokens (`loss_type="dapo"`), no KL term (`beta=0.0`).

    Parameters
    ----------
        objective (`str`, *optional*, defaults to `"w_reinforce"`):
            What the sign of an answer is worth. `"psr"` trains on correct completions only, `"nsr"` on incorrect ones
            only, `"reinforce"` on both alike, `"w_reinforce"` on both with `positive_weight` and `negative_weight`
            (arXiv 2506.01347, Eq. 1 to 4 and 9); `"grpo"` keeps TRL's advantages; `"maxrl"`, `"qae"`, `"pkpo"`,
            `"passk"`, `"ngrpo"`, `"a_grae"`, `"maclaurin"`, `"asymre"`, `"lead"`, `"dr_grpo"` and `"rloo"` read the
            group. Or `module:function` of your own, or a name given with [`register_objective`].
        objective_args (`dict[str, Any]`, *optional*):
            Parameters of the objective, such as `{"k": 8}` for `"pkpo"`.
        focal_gamma (`float`, *optional*, defaults to `0.0`):
            Every weight is multiplied by (1 - p) to this power, with p the share of the prompt's completions that are
            correct, so that solved prompts weigh less (F-GRPO, arXiv 2602.06717). Under `"grpo"` the advantages are
            then computed from outcomes.
        positive_weight (`float`, *optional*):
            Weight of correct completions, the paper's lambda: a magnitude, 0.1 when not set. Only with
            `objective="w_reinforce"`.
        negative_weight (`float`, *optional*):
            Weight of incorrect completions: a magnitude, 1.0 when not set. Only with `objective="w_reinforce"`.
        positive_weight_schedule (`dict[str, Any]`, *optional*):
            Moves `positive_weight` by the optimizer step: `kind` is `"constant"`, `"linear"`, `"cosine"` or `"step"`,
            `from` and `to` are its ends (`from` is `positive_weight` when not set), `over` is how long it takes: a
            share of the run, all of it when not set, or optimizer steps above 1. Only with `objective="w_reinforce"`.
        lambda_controller (`str` or `dict[str, Any]`, *optional*):
            Moves the weights by what the run does: `"balance"`, `"entropy"` (both move `positive_weight` under
            `objective="w_reinforce"`) or `"handover"` (from `objective` to another one), or a mapping with that `kind`
            and its settings.
        correct_threshold (`float`, *optional*):
            A completion is correct when its outcome reward is above this value, 0.5 when not set, which serves rewards
            in {0, 1} and in {-1, 1}; a graded reward needs the grade from which an answer counts as right. Rewards
            that are never above 0 are refused while it is not set: they were shifted "to penalise only".
        undecided_as_incorrect (`bool`, *optional*, defaults to `False`):
            Whether to train on undecided completions, those whose outcome reward is `None`, as if they were incorrect.
            So does the paper's code, where a verifier that fails penalises answers that may be right: for parity with
            its numbers only.
        outcome_reward (`str`, *optional*):
            Name of the reward function that decides the sign. Needed only with several reward functions; the others
            are logged, and train only by `outcome_requires` and `auxiliary_weight`.
        outcome_requires (`list[str]`, *optional*):
            Names of reward functions that must be above 0 for a completion to be correct: right *and* well formed. One
            that is right and is not is incorrect; where a requirement is `None`, a right answer is undecided.
        auxiliary_weight (`float`, *optional*, defaults to `0.0`):
            Weight of the reward functions besides the outcome reward. Their sum by `reward_weights`, less the mean of
            its group and divided as `scale_rewards` says, is added to the signed weight, on undecided completions too.
        compact (`str`, *optional*, defaults to `"auto"`):
            Whether an update runs only the rows that carry a weight, sorted by length and trimmed of padding. `"auto"`
            does so where the result is the same and says where it is not; `"on"` (or `True`) raises there; `"off"` (or
            `False`) runs every row, as TRL does.
        max_tokens_per_microbatch (`int` or `str`, *optional*):
            Tokens of a compacted micro-batch on one device, padding included. When not set, what
            `per_device_train_batch_size` rows of full length would take, so that memory stays within what the same
            settings need without compaction. `"auto"` begins there, grows until micro-batches fill 85% of a GPU's
            memory, and cuts rows by what a micro-step is measured to cost.
        dropped_rows (`str`, *optional*, defaults to `"objective"`):
            What a row without a weight means. `"objective"`: the loss divides by every sampled token and takes every
            optimizer step, the estimate of the paper's expectation. `"reference"`: as in the paper's released code,
            the rows that are left fill the optimizer steps in order, the loss of each divides by the mean length of
            the rows that are left times the rows of an optimizer step, and the surplus optimizer steps are not taken.
            `max_steps` and the learning-rate schedule count those too.
        prompt_allocation (`str`, *optional*, defaults to `"none"`):
            Which prompts a generation is for. `"none"`: as TRL does, each once an epoch. `"unbiased"`: those that are
            expected to carry a signal under the objective, by what was seen of their pass rates, are drawn more often,
            and their completions weigh less in proportion, so that the gradient is the same in the mean and its
            variance smaller. `"greedy"`: they are drawn more often and weigh as they do elsewhere, which trains on
            another distribution of prompts. An epoch is then as many prompts as the dataset has.
        allocation_floor (`float`, *optional*, defaults to `0.2`):
            Share of the average chance to be drawn that every prompt keeps under `prompt_allocation`, so that what the
            model forgets is found. No completion weighs more than its inverse times what it does elsewhere.
        check_after_rollouts (`int`, *optional*, defaults to `20`):
            Rollouts after which a warning says what to look at if none of the completions was correct, all were, or
            most had no answer. 0 for never.
        on_alarm (`str`, *optional*, defaults to `"warn"`):
            What a grave alarm does. Every alarm is a line of the log; `"stop"` ends the training as well and goes back
            to the last good checkpoint, `"handover"` changes to the objective that `lambda_controller` names
            (W-REINFORCE when it is not set).
        alarm_thresholds (`dict[str, float]`, *optional*):
            Thresholds of alarms other than the defaults, such as `{"correct_falling": 0.6}`; `None` switches one off.
        overwrite_output_dir (`bool`, *optional*, defaults to `False`):
            Whether a run that starts anew may delete the checkpoints of another run in its output folder. It is
            refused otherwise.
    """

    _VALID_DICT_FIELDS: ClassVar = [
        *GRPOConfig._VALID_DICT_FIELDS,
        "objective_args",
        "positive_weight_schedule",
        "lambda_controller",
        "alarm_thresholds",
    ]

    objective: str = field(
        default="w_reinforce",
        metadata={
            "help": "What the sign of an answer is worth: 'psr' trains on correct completions only, 'nsr' on "
            "incorrect ones only, 'reinforce' on both alike, 'w_reinforce' on both with `positive_weight` and "
            "`negative_weight`, 'grpo' keeps TRL's advantages; 'maxrl', 'qae', 'pkpo', 'passk', 'ngrpo', 'a_grae', "
            "'maclaurin', 'asymre', 'lead', 'dr_grpo' and 'rloo' read the group; or module:function of your own."
        },
    )
    objective_args: dict[str, Any] | str | None = field(
        default=None, metadata={"help": "Parameters of the objective, such as '{\"k\": 8}' for 'pkpo'."}
    )
    focal_gamma: float = field(
        default=0.0,
        metadata={"help": "Multiply every weight by (1 - p)^focal_gamma, p the pass rate of its prompt."},
    )
    positive_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of correct completions (the paper's lambda) under 'w_reinforce'; 0.1 if not set."},
    )
    negative_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of incorrect completions under 'w_reinforce', a magnitude; 1.0 if not set."},
    )
    positive_weight_schedule: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": 'Move `positive_weight` by the step, such as \'{"kind": "linear", "from": 0.05, "to": 0.2}\'; '
            "kinds are constant, linear, cosine and step, `over` is how long."
        },
    )
    lambda_controller: dict[str, Any] | str | None = field(
        default=None,
        metadata={
            "help": "Move the weights by what the run does: 'balance', 'entropy' or 'handover', or "
            '\'{"kind": "handover", "to": "grpo"}\'.'
        },
    )
    correct_threshold: float | None = field(
        default=None,
        metadata={"help": "A completion is correct when its outcome reward is above this value; 0.5 if not set."},
    )
    undecided_as_incorrect: bool = field(
        default=False,
        metadata={
            "help": "Train on completions whose outcome reward is None as if they were incorrect, as the paper's code "
            "does, rather than not at all."
        },
    )
    outcome_reward: str | None = field(
        default=None,
        metadata={"help": "Name of the reward function that decides the sign, of several."},
    )
    outcome_requires: list[str] | None = field(
        default=None,
        metadata={"help": "Names of reward functions that must be above 0 for a completion to be correct."},
    )
    auxiliary_weight: float = field(
        default=0.0,
        metadata={"help": "Weight of the other reward functions, group-normalised, beside the signed weight."},
    )

    compact: str = field(
        default="auto",
        metadata={
            "help": "Run only the rows that carry a weight, sorted by length and trimmed of padding: 'auto' where the "
            "result is the same, 'on' or an error, 'off'.",
            "choices": ["auto", "on", "off"],
        },
    )
    max_tokens_per_microbatch: int | str | None = field(
        default=None,
        metadata={
            "help": "Tokens of a compacted micro-batch on one device; what `per_device_train_batch_size` rows of full "
            "length take if not set. 'auto' measures how many fit, and what a micro-step costs."
        },
    )
    dropped_rows: str = field(
        default="objective",
        metadata={
            "help": "What a row without a weight means: 'objective' divides by every sampled token, 'reference' by "
            "the tokens of the rows that are left, and takes fewer optimizer steps, as the paper's code does.",
            "choices": ["objective", "reference"],
        },
    )

    prompt_allocation: str = field(
        default="none",
        metadata={
            "help": "'none' takes prompts in turn, 'unbiased' more of those with a signal, weighed less, 'greedy' "
            "more of them",
            "choices": ["none", "unbiased", "greedy"],
        },
    )
    allocation_floor: float = field(
        default=0.2,
        metadata={"help": "Share of the average chance that every prompt keeps."},
    )

    check_after_rollouts: int = field(
        default=20,
        metadata={
            "help": "Rollouts after which a warning says what to look at if no completion was correct, all were, or "
            "most had no answer; 0 for never."
        },
    )
    on_alarm: str = field(
        default="warn",
        metadata={
            "help": "What a grave alarm does besides its line of the log: 'warn' nothing, 'stop' ends the training at "
            "the last good checkpoint, 'handover' changes the objective.",
            "choices": ["warn", "stop", "handover"],
        },
    )
    alarm_thresholds: dict[str, Any] | str | None = field(
        default=None,
        metadata={"help": "Thresholds of alarms, such as '{\"correct_falling\": 0.6}'; null switches one off."},
    )
    overwrite_output_dir: bool = field(
        default=False,
        metadata={"help": "Delete the checkpoints of another run in the output folder rather than refuse to start."},
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_signed_fields(self)

    def to_dict(self) -> dict[str, Any]:
        """As transformers', which trackers log, without tokens, passwords and keys at any depth."""
        return without_secrets(super().to_dict())


SIGNED_FIELDS: tuple[str, ...] = tuple(
    f.name for f in fields(SignedRewardConfig) if f.name not in GRPOConfig.__dataclass_fields__
)
"""The fields that `SignedRewardConfig` adds to `GRPOConfig`."""

DEFAULT_CORRECT_THRESHOLD = 0.5


_MUST_BE: dict[str, tuple[Callable[[Any], bool], str]] = {
    "objective": (lambda value: isinstance(value, str), "a name, or module:function of your own"),
    "positive_weight_schedule": (
        lambda value: value is None or isinstance(value, Mapping),
        'a mapping such as {"kind": "linear", "to": 0.2}, or None',
    ),
    "objective_args": (
        lambda value: value is None or isinstance(value, Mapping),
        'a mapping such as {"k": 8}, or None',
    ),
    "correct_threshold": (lambda value: value is None or is_number(value), "a finite number, or None for 0.5"),
    "undecided_as_incorrect": (lambda value: isinstance(value, bool), "True or False"),
    "outcome_reward": (
        lambda value: value is None or isinstance(value, str),
        "the name of a reward function, or None",
    ),
    "outcome_requires": (
        lambda value: value is None or (isinstance(value, list | tuple) and all(isinstance(v, str) for v in value)),
        "a list of names of reward functions, or None",
    ),
    "auxiliary_weight": (lambda value: is_number(value) and value >= 0, "a finite number >= 0"),
    "max_tokens_per_microbatch": (
        lambda value: value is None or value == "auto" or is_count(value),
        "a whole number of tokens, 1 or more, 'auto', or None for what per_device_train_batch_size rows take",
    ),
    "allocation_floor": (lambda value: is_number(value) and 0 < value <= 1, "a number above 0, at most 1"),
    "check_after_rollouts": (lambda value: is_whole(value) and value >= 0, "a whole number of rollouts, 0 for never"),
    "alarm_thresholds": (lambda value: value is None or isinstance(value, Mapping), "a mapping by alarm, or None"),
    "overwrite_output_dir": (lambda value: isinstance(value, bool), "True or False"),
}


def check_signed_fields(args: Any) -> None:
    """
    Checks the fields of [`SignedRewardConfig`]; writes `compact` as a word where it is a boolean, a number that came
    as text as a number, and numpy's numbers as Python's.

    Raises:
        ValueError: If one is of the wrong type or out of range.
    """
    if isinstance(args.compact, bool | str):
        args.compact = {True: "on", False: "off", "true": "on", "false": "off"}.get(args.compact, args.compact)
    if isinstance(args.max_tokens_per_microbatch, str) and args.max_tokens_per_microbatch.isdecimal():
        args.max_tokens_per_microbatch = int(args.max_tokens_per_microbatch)
    for name in ("compact", "dropped_rows", "prompt_allocation", "on_alarm"):
        choices = SignedRewardConfig.__dataclass_fields__[name].metadata["choices"]
        if getattr(args, name) not in choices:
            raise ValueError(
                f"`{name}` must be one of {', '.join(choices)}; got {getattr(args, name)!r}. "
                f"Leave it out for {choices[0]!r}."
            )
    for name, (holds, must_be) in _MUST_BE.items():
        if not holds(getattr(args, name)):
            default = SignedRewardConfig.__dataclass_fields__[name].default
            raise ValueError(f"`{name}` must be {must_be}; got {getattr(args, name)!r}. Leave it out for {default!r}.")
    for name in SIGNED_FIELDS:
        setattr(args, name, plain(getattr(args, name)))
    check_thresholds(args.alarm_thresholds)
    controller = controller_of(args)
    objective = controller.objective
    if args.num_generations < objective.least_group:
        raise ValueError(
            f"objective={args.objective!r} needs {objective.least_group} completions of a prompt or more "
            f"({objective.formula}); got num_generations={args.num_generations}. Raise it, or change `objective_args`."
        )
    if args.prompt_allocation != "none" and (controller.reads_batch or reads_batch(objective)):
        what = f"lambda_controller={args.lambda_controller!r}" if controller.reads_batch else f"{args.objective!r}"
        raise ValueError(
            f"`prompt_allocation` draws prompts unequally, and {what} moves by the mean over a batch, which would be "
            f"that of the prompts drawn; got {args.prompt_allocation!r}. Leave one of them out."
        )
    if objective.weigh is None:
        for name in ("outcome_requires", "auxiliary_weight"):
            if getattr(args, name):
                raise ValueError(
                    f"`{name}` goes with a signed objective; got {getattr(args, name)!r} under objective='grpo', "
                    "where TRL sums all rewards. Leave it out, or choose another objective."
                )
        return
    unused = ["multi_objective_aggregation"]
    unused += [] if args.auxiliary_weight else ["scale_rewards", "reward_weights"]
    for name in unused:
        value = getattr(args, name)
        if value != GRPOConfig.__dataclass_fields__[name].default:
            logger.warning(
                f"`{name}={value!r}` has no effect under objective={args.objective!r}: the weight of a completion "
                "is the sign of its outcome reward and is never normalised. Use objective='grpo' to apply it."
            )


def adopt(args: GRPOConfig) -> GRPOConfig:
    """
    Gives a `GRPOConfig`, or a user's subclass of it, the signed fields that it lacks, with their defaults.

    Args:
        args (`GRPOConfig`):
            A configuration, already initialised.

    Returns:
        `GRPOConfig`: the same object

    Raises:
        TypeError: If it is another kind of arguments.
        ValueError: If a signed field that it has is out of range.
    """
    if not isinstance(args, GRPOConfig):
        raise TypeError(
            f"`args` must be a SignedRewardConfig, or a GRPOConfig; got a {type(args).__name__}. "
            "Build a SignedRewardConfig with the same fields."
        )
    if not isinstance(args, SignedRewardConfig):
        for name in SIGNED_FIELDS:
            if not hasattr(args, name):
                setattr(args, name, SignedRewardConfig.__dataclass_fields__[name].default)
        check_signed_fields(args)
    return args


def objective_of(args: Any) -> Objective:
    """The [`Objective`] that the fields describe."""
    return build_objective(
        args.objective, args.positive_weight, args.negative_weight, args.objective_args, args.focal_gamma
    )


def controller_of(args: Any) -> Controller:
    """The controller that the fields describe."""
    return build_controller(
        objective_of(args),
        args.positive_weight,
        args.negative_weight,
        args.focal_gamma,
        args.positive_weight_schedule,
        args.lambda_controller,
        hands_over=args.on_alarm == "handover",
    )


def threshold_of(args: Any) -> float:
    """The reward above which a completion is correct."""
    return DEFAULT_CORRECT_THRESHOLD if args.correct_threshold is None else args.correct_threshold


def allocation_doubt(args: Any, num_prompts: int) -> str | None:
    """Why prompts of unequal chances can gain nothing from these settings and this many prompts, or `None`."""
    num_drawn = args.generation_batch_size // args.num_generations
    passes = args.num_train_epochs
    if args.max_steps > 0:
        num_rollouts = (
            args.max_steps * args.gradient_accumulation_steps / args.steps_per_generation / args.num_iterations
        )
        passes = num_rollouts * num_drawn / num_prompts
    if num_drawn < num_prompts and passes > 1:
        return None
    why = f"the run takes {passes:.2g} passes over its {num_prompts:,} prompts, each of which is seen once at most"
    if num_drawn == num_prompts:
        why = f"every generation takes all of the {num_prompts:,} prompts"
    return (
        f"prompt_allocation={args.prompt_allocation!r} gains nothing here: {why}. Train for more passes over fewer "
        "prompts, or leave it out"
    )


def default_tokens(args: Any) -> int | None:
    """Tokens of a micro-batch that the fields give; `None` where they follow from the rows, measured or not."""
    budget = args.max_tokens_per_microbatch
    return None if budget == "auto" else budget


def sampling_bias(args: Any) -> str | None:
    """
    What is wrong with vLLM's importance-sampling correction under these settings, or `None`.

    vLLM gives the log-probs of what is left after top-p, top-k and min-p, the trainer those over the whole vocabulary:
    the ratio between them carries the probability mass that was left, whatever the policy (huggingface/trl#6789).
    """
    if not (args.use_vllm and args.vllm_importance_sampling_correction):
        return None
    extra = args.generation_kwargs or {}
    values = {name: extra.get(name, getattr(args, name)) for name in ("top_p", "top_k", "min_p")}
    cuts = {
        "top_p": values["top_p"] is not None and values["top_p"] < 1,
        "top_k": values["top_k"] is not None and values["top_k"] > 0,
        "min_p": values["min_p"] is not None and values["min_p"] > 0,
    }
    found = ", ".join(f"{name}={values[name]:g}" for name, is_cut in cuts.items() if is_cut)
    if not found:
        return None
    return (
        f"vLLM's importance-sampling correction is biased under {found}: its ratio is the probability mass that "
        "sampling kept, not a change of the policy (huggingface/trl#6789), and it masks or shrinks rows that train. "
        "Sample with top_p=1, top_k=0 and min_p=None, or set vllm_importance_sampling_correction=False"
    )


def compaction_obstacle(args: Any) -> str | None:
    """The setting under which compaction would change the result, or `None`."""
    whole_batch_terms = {
        "beta": args.beta != 0,  # KL on every row
        "loss_type": args.loss_type == "bnpo",  # a token mean per micro-batch
        "top_entropy_quantile": args.top_entropy_quantile < 1,  # a quantile per micro-batch
        "router_aux_loss_coef": bool(args.router_aux_loss_coef),
        # an optimizer step has to end where a generation does
        "steps_per_generation": args.steps_per_generation % args.gradient_accumulation_steps != 0
        and (args.gradient_accumulation_steps % args.steps_per_generation != 0 or args.dropped_rows == "reference"),
    }
    return next((f"{name}={getattr(args, name)!r}" for name, is_in in whole_batch_terms.items() if is_in), None)
