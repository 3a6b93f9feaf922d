"""The words that fields and flags take: named here once, so that `--help` knows them without torch or sympy."""

OBJECTIVES = tuple(
    "psr nsr w_reinforce reinforce grpo dr_grpo rloo maxrl maclaurin pkpo passk qae ngrpo a_grae asymre lead".split()
)
"""Objectives, as [`SignedRewardConfig`] takes them."""

GRADERS = ("default", "paper", "paper-competition")
"""Sets of rules of the verifier."""

OUTCOMES = ("correct", "incorrect", "undecided")
"""The outcomes of a verifier."""

ANSWER_FORMATS = ("boxed", "gsm8k", "xml", "last", "auto")
"""Where an answer may be asked for, by name; any other text is a regular expression."""
LOG_FORMATS = ("lm-eval", "inspect")
"""Programs whose logs of an evaluation are written."""
