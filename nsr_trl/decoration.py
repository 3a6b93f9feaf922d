"""Cards, figures and tables decorate a run: whatever goes wrong with them becomes one line of the log."""

import contextlib
import inspect
import logging
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any


logger = logging.getLogger(__name__)


@contextlib.contextmanager
def decorating(
    what: str, path: str | Path, output_dir: str | Path, except_in: Callable[..., Any] | None = None
) -> Iterator[None]:
    """
    Turns any exception inside it into one line of the log.

    Args:
        what (`str`):
            What is being written, for humans.
        path (`str` or `Path`):
            Where to.
        output_dir (`str` or `Path`):
            The run's folder, of which the card can be written again.
        except_in (`Callable`, *optional*):
            A function whose exceptions, and those of what it calls, are no decoration's and go on.
    """
    try:
        yield
    except Exception as error:
        if except_in is not None and passed_through(error, except_in):
            raise
        reason = " ".join(str(error).split()) or "no reason given"
        logger.warning(
            f"{what}, {path}, could not be written ({type(error).__name__}: {reason}). The run goes on; its card can "
            f"be written again with: nsr-trl card {shlex.quote(str(output_dir))}"
        )


def passed_through(error: BaseException, function: Callable[..., Any]) -> bool:
    """Whether an exception came out of a function, or of what it called."""
    code = inspect.unwrap(function).__code__
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_frame.f_code is not code:
        traceback = traceback.tb_next
    return traceback is not None
