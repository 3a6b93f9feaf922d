"""What a setting is: a value from a person, a YAML file or numpy goes in; whether it is a number comes out."""

import math
from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any


def is_number(value: Any) -> bool:
    """Whether a setting is a finite number, of Python or of numpy; a boolean is none."""
    if not isinstance(value, Real) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:  # a whole number beyond every float
        return False


def is_whole(value: Any) -> bool:
    """Whether a setting is a whole number, of Python or of numpy; a boolean is none."""
    return isinstance(value, Integral) and not isinstance(value, bool)


def is_count(value: Any) -> bool:
    """Whether a setting is a whole number, 1 or more."""
    return is_whole(value) and value >= 1


def plain(value: Any) -> Any:
    """A number, alone or in a mapping, as Python's own, which a checkpoint and JSON hold; anything else as it is."""
    if isinstance(value, Mapping):
        return {name: plain(held) for name, held in value.items()}
    if is_whole(value):
        return int(value)
    return float(value) if is_number(value) else value
