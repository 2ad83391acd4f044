"""Exceptions whose messages are sentences for the user."""

import traceback
from collections.abc import Sequence
from pathlib import Path

MOST_FAULTS = 10
"""Maximum number of faults that one message tells; the others are counted."""


class UserError(Exception):
    """A user error, explained in one sentence: what is wrong, what was expected, how to fix it.

    The command line prints the sentence without a stack trace and exits with ``status``.
    """

    status = 2


class StorageError(UserError):
    """Results cannot be written (e.g. disk full). Earlier files are intact."""

    status = 74  # EX_IOERR


class PeerLostError(UserError):
    """Another process training the same cell has ended; training can resume from its checkpoint."""

    status = 75  # EX_TEMPFAIL


class RunFailedError(Exception):
    """A cell cannot be finished; the message says what went wrong and what may help.

    It becomes a row with that reason; the other cells of a sweep continue.
    """


def all_of(faults: Sequence[str]) -> str:
    """Return several faults as one message, so that they can be mended in one round."""
    more = [f"{len(faults) - MOST_FAULTS} more"] if len(faults) > MOST_FAULTS else []
    return "; also: ".join([*faults[:MOST_FAULTS], *more])


def one_line(error: BaseException) -> str:
    """Return the message of an exception in one line that starts with its type."""
    said = printable(str(error).strip().split("\n", 1)[0])
    return f"{type(error).__name__}: {said.removesuffix('.')}" if said else type(error).__name__


def printable(text: str) -> str:
    """Return a text with non-printable characters escaped, as they could control a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def with_location(error: BaseException) -> str:
    """Return `one_line` with the line of code that raised the exception, for its author."""
    if isinstance(error, SyntaxError):  # its message has the location
        return one_line(error)
    *_, at = traceback.extract_tb(error.__traceback__)
    return f"{one_line(error)} ({Path(at.filename).name}:{at.lineno})"
