"""The verifier: whether a response has the right answer, or whether that cannot be said. Plain Python, no torch."""

from .reference import Reference, read_reference
from .verdict import Outcome, Reason, Rule, Verdict
from .verify import verify, verify_batch


__all__ = ["Outcome", "Reason", "Reference", "Rule", "Verdict", "read_reference", "verify", "verify_batch"]
