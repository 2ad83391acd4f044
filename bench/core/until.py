"""A time limit after which a command ends as by SIGTERM: training is saved, the status is 75."""

import math
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.core.errors import UserError

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

_command = ExitStack()


def parse(text: str) -> float:
    """Return the seconds of ``until=text``, such as 90, 90s, 170m or 1.5h; raise UserError."""
    found = re.fullmatch(r"(\d+\.?\d*)([smh]?)", text)
    seconds = float(found[1]) * UNITS[found[2]] if found else math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise UserError(
            f"until={text} is invalid: it should be a time such as 90s, 170m or 2h, above 0."
        )
    return seconds


@contextmanager
def until(seconds: float | None) -> Iterator[None]:
    """Send SIGTERM to this process after a number of seconds, unless the context ends before."""
    if seconds is None:
        yield
        return
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGTERM))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def begin(time: str | float | None) -> None:
    """End this command after a time such as 170m, if one is given; raise UserError."""
    _command.enter_context(until(None if time is None else parse(str(time))))


def over() -> None:
    """Cancel the time limit at the end of the command, so that later work gets no signal."""
    _command.close()
