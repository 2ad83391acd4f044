"""Exceptions with a sentence for the user."""

import traceback
from pathlib import Path


class Mistake(Exception):
    """A user's mistake, told in one sentence: what is wrong, what was expected, how to mend it.

    The command line prints the sentence without a stack trace and ends with ``status``.
    """

    status = 2


class Unkept(Mistake):
    """Results cannot be written, as on a full disk; all that was written before is whole."""

    status = 74  # EX_IOERR


class Lost(Mistake):
    """Another process that trains the same cell has ended; training can go on from what was saved."""

    status = 75  # EX_TEMPFAIL


class Failed(Exception):
    """A cell cannot be finished, told in a sentence: what went wrong, what may help.

    It becomes a row with that reason; the other cells of a sweep go on.
    """


def in_a_line(error: BaseException) -> str:
    """What an exception says, in one line that begins with its name."""
    said = printable(str(error).strip().split("\n", 1)[0])
    return f"{type(error).__name__}: {said.removesuffix('.')}" if said else type(error).__name__


def printable(text: str) -> str:
    """A text in which what would move or colour a terminal stands as Python writes it."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def with_place(error: BaseException) -> str:
    """The same, and the line of code that raised it: for whoever wrote that."""
    if isinstance(error, SyntaxError):  # which says so itself
        return in_a_line(error)
    *_, at = traceback.extract_tb(error.__traceback__)
    return f"{in_a_line(error)} ({Path(at.filename).name}:{at.lineno})"
