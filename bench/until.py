"""A time at which a command ends by itself as by SIGTERM: training is saved, the status is 75."""

import math
import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench.mistake import Mistake

UNITS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}

_command = ExitStack()


def parse(text: str) -> float:
    """Return the seconds that ``until=text`` names, such as 90, 90s, 170m or 1.5h; raises Mistake."""
    found = re.fullmatch(r"(\d+\.?\d*)([smh]?)", text)
    seconds = float(found[1]) * UNITS[found[2]] if found else math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise Mistake(
            f"until={text} is not possible: it should be a time such as 90s, 170m or 2h, above 0."
        )
    return seconds


@contextmanager
def until(seconds: float | None) -> Iterator[None]:
    """Send SIGTERM to this process after so many seconds, unless what is within ended before."""
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
    """Let this command end after a time such as 170m, if one is given; raises Mistake."""
    _command.enter_context(until(None if time is None else parse(str(time))))


def over() -> None:
    """The command has ended: nothing is sent to what this process does next."""
    _command.close()
