"""Reward functions by name: a name on a command line goes in, the function that it means comes out."""

from collections.abc import Callable
from functools import partial, update_wrapper
from typing import Any

from .resources import import_function
from .rewards import math_reward
from .verifier.extract import reader_of


MATH_REWARD = "math_reward"

TRL_REWARDS: dict[str, dict[str, Any]] = {
    # function of trl.rewards: arguments where it builds the reward (those of `trl grpo`)
    "accuracy_reward": {},
    "reasoning_accuracy_reward": {},
    "think_format_reward": {},
    "get_soft_overlong_punishment": {"max_completion_len": 1280, "soft_punish_cache": 256},
}
"""The names that `trl grpo --reward_funcs` knows."""

REWARD_NAMES = (MATH_REWARD, *TRL_REWARDS)


def name_of(reward: Callable) -> str:
    """The name of a reward function as TRL logs it: of what a partial calls, of the class where it is an object."""
    while isinstance(reward, partial):
        reward = reward.func
    return getattr(reward, "__name__", type(reward).__name__)


def find_reward(name: str, grader: str = "default", answer_format: str = "boxed") -> Callable:
    """
    The reward function of a name.

    Args:
        name (`str`):
            One of `REWARD_NAMES`; `module:function`; a dotted path, `package.module.function`; or `file.py:function`.
        grader (`str`, *optional*, defaults to `"default"`):
            As in [`math_reward`], for that one.
        answer_format (`str`, *optional*, defaults to `"boxed"`):
            As in [`math_reward`], for that one.

    Returns:
        `Callable`

    Raises:
        ValueError: If it cannot be imported, or is no function; or if there is no such answer format.
    """
    if name == MATH_REWARD:
        reader_of(answer_format)  # an error now, and not at the first completion
        if (grader, answer_format) == ("default", "boxed"):
            return math_reward
        chosen: Callable = partial(math_reward, grader=grader, answer_format=answer_format)
        return update_wrapper(chosen, math_reward)  # it is logged by its name
    if name in TRL_REWARDS:
        import trl.rewards

        found, arguments = getattr(trl.rewards, name), TRL_REWARDS[name]
        return found(**arguments) if arguments else found
    return import_function(name, f"A reward must be one of {', '.join(REWARD_NAMES)}, or", REWARD_NAMES)
