"""Configuration of a signed run: `GRPOConfig` plus what the sign of an answer is worth and how its update runs."""

import logging
from dataclasses import dataclass, field, fields

from trl import GRPOConfig

from .objective import OBJECTIVE_NAMES, Objective, build_objective


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
            only, `"reinforce"` on both alike, `"w_reinforce"` on both with `positive_weight` and `negative_weight`;
            `"grpo"` keeps TRL's advantages. See arXiv 2506.01347, Eq. 1 to 4 and 9.
        positive_weight (`float`, *optional*):
            Weight of correct completions, the paper's lambda: a magnitude, 0.1 when not set. Only with
            `objective="w_reinforce"`.
        negative_weight (`float`, *optional*):
            Weight of incorrect completions: a magnitude, 1.0 when not set. Only with `objective="w_reinforce"`.
        correct_threshold (`float`, *optional*, defaults to `0.5`):
            A completion is correct when its outcome reward is above this value. The default serves rewards in {0, 1}
            and in {-1, 1}; a graded reward needs the grade from which an answer counts as right.
        undecided_as_incorrect (`bool`, *optional*, defaults to `False`):
            Whether to train on undecided completions, those whose outcome reward is `None`, as if they were incorrect.
            So does the paper's code, where a verifier that fails penalises answers that may be right: for parity with
            its numbers only.
        outcome_reward (`str`, *optional*):
            Name of the reward function that decides the sign. Needed only with several reward functions; the others
            are logged and do not train.
        compact (`str`, *optional*, defaults to `"auto"`):
            Whether an update runs only the rows that carry a weight, sorted by length and trimmed of padding. `"auto"`
            does so where the result is the same and says where it is not; `"on"` (or `True`) raises there; `"off"` (or
            `False`) runs every row, as TRL does.
        max_tokens_per_microbatch (`int`, *optional*):
            Tokens of a compacted micro-batch on one device, padding included. When not set, what
            `per_device_train_batch_size` rows of full length would take, so that memory stays within what the same
            settings need without compaction.
        dropped_rows (`str`, *optional*, defaults to `"objective"`):
            What a row without a weight means. `"objective"`: the loss divides by every sampled token and takes every
            optimizer step, the estimate of the paper's expectation. `"reference"`: as in the paper's released code,
            the rows that are left fill the optimizer steps in order, the loss divides by their tokens, and the
            surplus optimizer steps are not taken.
    """

    objective: str = field(
        default="w_reinforce",
        metadata={
            "help": "What the sign of an answer is worth: 'psr' trains on correct completions only, 'nsr' on "
            "incorrect ones only, 'reinforce' on both alike, 'w_reinforce' on both with `positive_weight` and "
            "`negative_weight`, 'grpo' keeps TRL's advantages.",
            "choices": list(OBJECTIVE_NAMES),
        },
    )
    positive_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of correct completions (the paper's lambda) under 'w_reinforce'; 0.1 if not set."},
    )
    negative_weight: float | None = field(
        default=None,
        metadata={"help": "Weight of incorrect completions under 'w_reinforce', a magnitude; 1.0 if not set."},
    )
    correct_threshold: float = field(
        default=0.5,
        metadata={"help": "A completion is correct when its outcome reward is above this value."},
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
        metadata={"help": "Name of the reward function that decides the sign, where there are several."},
    )

    compact: str = field(
        default="auto",
        metadata={
            "help": "Run only the rows that carry a weight, sorted by length and trimmed of padding: 'auto' where the "
            "result is the same, 'on' or an error, 'off'.",
            "choices": ["auto", "on", "off"],
        },
    )
    max_tokens_per_microbatch: int | None = field(
        default=None,
        metadata={
            "help": "Tokens of a compacted micro-batch on one device; what `per_device_train_batch_size` rows of full "
            "length take if not set."
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

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_signed_fields()

    @classmethod
    def from_grpo_config(cls, args: GRPOConfig) -> "SignedRewardConfig":
        """Upgrades a `GRPOConfig`, already initialised, with the defaults of the signed fields."""
        config = cls.__new__(cls)
        # A copy of the state rather than a new call: `GRPOConfig` fills in `generation_batch_size` and
        # `steps_per_generation` and then refuses to be given both.
        config.__dict__.update(args.__dict__)
        for name in SIGNED_FIELDS:
            setattr(config, name, cls.__dataclass_fields__[name].default)
        config._check_signed_fields()
        return config

    def build_objective(self) -> Objective:
        """Returns the [`Objective`] that the fields describe."""
        return build_objective(self.objective, self.positive_weight, self.negative_weight)

    def compaction_obstacle(self) -> str | None:
        """The setting under which compaction would change the result, or `None`."""
        whole_batch_terms = {
            "beta": self.beta != 0,  # KL on every row
            "loss_type": self.loss_type == "bnpo",  # a token mean per micro-batch
            "top_entropy_quantile": self.top_entropy_quantile < 1,  # a quantile per micro-batch
            "router_aux_loss_coef": bool(self.router_aux_loss_coef),
            # an optimizer step has to end where a generation does
            "steps_per_generation": self.steps_per_generation % self.gradient_accumulation_steps != 0
            and (
                self.gradient_accumulation_steps % self.steps_per_generation != 0 or self.dropped_rows == "reference"
            ),
        }
        return next((f"{name}={getattr(self, name)!r}" for name, is_in in whole_batch_terms.items() if is_in), None)

    def _check_signed_fields(self) -> None:
        self.compact = {True: "on", False: "off", "true": "on", "false": "off"}.get(self.compact, self.compact)
        for name in ("compact", "dropped_rows"):
            choices = self.__dataclass_fields__[name].metadata["choices"]
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"`{name}` must be one of {', '.join(choices)}; got {getattr(self, name)!r}. "
                    f"Leave it out for {choices[0]!r}."
                )
        if self.build_objective().weigh is None:
            return
        defaults = GRPOConfig.__dataclass_fields__
        for name in ("scale_rewards", "multi_objective_aggregation", "reward_weights"):
            value = getattr(self, name)
            if value != defaults[name].default:
                logger.warning(
                    f"`{name}={value!r}` has no effect under objective={self.objective!r}: the weight of a completion "
                    "is the sign of its outcome reward and is never normalised. Use objective='grpo' to apply it."
                )


SIGNED_FIELDS: tuple[str, ...] = tuple(
    f.name for f in fields(SignedRewardConfig) if f.name not in GRPOConfig.__dataclass_fields__
)
"""The fields that `SignedRewardConfig` adds to `GRPOConfig`."""
