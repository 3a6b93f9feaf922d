"""
Train reasoning models on the sign of a verified answer: PSR, NSR and W-REINFORCE for TRL.

The public names are loaded on first use, so that `import nsr_trl` and `nsr-trl --help` cost nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any


__version__ = "0.2.0"

_MODULE_OF = {
    "Evaluation": "evaluation.runner",
    "Outcome": "verifier",
    "Problem": "problem",
    "Reason": "verifier",
    "SignedRewardConfig": "config",
    "SignedRewardTrainer": "trainer",
    "Verdict": "verifier",
    "evaluate": "evaluation.runner",
    "load_problems": "task",
    "math_reward": "rewards",
    "pass_at_k": "evaluation.pass_at_k",
    "register_objective": "objective",
    "to_dataset": "data",
    "verify": "verifier",
    "verify_batch": "verifier",
}

__all__ = sorted([*_MODULE_OF, "__version__"])

if TYPE_CHECKING:
    from .config import SignedRewardConfig as SignedRewardConfig
    from .data import to_dataset as to_dataset
    from .evaluation.pass_at_k import pass_at_k as pass_at_k
    from .evaluation.runner import Evaluation as Evaluation
    from .evaluation.runner import evaluate as evaluate
    from .objective import register_objective as register_objective
    from .problem import Problem as Problem
    from .rewards import math_reward as math_reward
    from .task import load_problems as load_problems
    from .trainer import SignedRewardTrainer as SignedRewardTrainer
    from .verifier import Outcome as Outcome
    from .verifier import Reason as Reason
    from .verifier import Verdict as Verdict
    from .verifier import verify as verify
    from .verifier import verify_batch as verify_batch


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)


def __dir__() -> list[str]:
    return __all__
