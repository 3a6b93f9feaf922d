"""The verifier: whether a response has the right answer, or whether that cannot be said. Plain Python, no torch."""

from .verdict import Outcome, Reason, Verdict
from .verify import verify, verify_batch


__all__ = ["Outcome", "Reason", "Verdict", "verify", "verify_batch"]
