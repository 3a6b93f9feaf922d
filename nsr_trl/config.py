"""Configuration of a signed run: `GRPOConfig` plus the six fields that say what the sign of an answer is worth."""

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

    def _check_signed_fields(self) -> None:
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
