"""What becomes of Ctrl-C and of SIGTERM, which schedulers send before they kill.

A sweep may have workers: processes that run its cells. They do not listen to signals; the sweep does, and
asks them, by a file, to save and to end.
"""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

RESUMABLE = 75
"""Exit status after SIGTERM: the same command goes on from where training stood (EX_TEMPFAIL)."""

UNHEARD = 128 + signal.SIGPIPE
"""Exit status when what reads the output, such as head, has had enough."""


SIGNALS = (signal.SIGINT, signal.SIGTERM)

STARTED_BY = os.getppid()

_flag: Path | None = None
"""In a worker: the file that, when it is there, asks it to end."""


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end; ``status`` is what it shall exit with."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.status = RESUMABLE if number == signal.SIGTERM else 128 + number


class Interrupt:
    """Holds a first signal back while training is in the middle of something; a second one is not.

    ``then`` is done when a signal is held back.
    """

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.pending: Interrupted | None = None
        self._held = False
        self._then = then

    def requested(self) -> bool:
        """Whether a signal is held back, or the sweep that this process works for is to end."""
        if asked():
            self.pending = Interrupted(signal.SIGTERM)
        return self.pending is not None

    def request(self) -> None:
        """As if SIGTERM had come, if no signal has: another process got one."""
        self.pending = self.pending or Interrupted(signal.SIGTERM)

    @contextmanager
    def held(self) -> Iterator[None]:
        """The first signal within is raised at the end, when what was begun is safe."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        if self.pending:
            raise self.pending

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        first, self.pending = self.pending is None, Interrupted(number)
        if not (self._held and first):
            raise self.pending
        self._then()


def work_for(flag: Path) -> None:
    """Make this process a worker of a sweep, which asks it to end by such a file."""
    global _flag
    _flag = flag
    for number in SIGNALS:  # Ctrl-C in a terminal goes to all processes
        signal.signal(number, signal.SIG_IGN)


def at_work() -> bool:
    """Whether this process is a worker of a sweep."""
    return _flag is not None


def asked() -> bool:
    """Whether the sweep that this process works for is to end, or was killed."""
    return _flag is not None and (_flag.exists() or os.getppid() != STARTED_BY)


@contextmanager
def listening(then: Callable[[], object] = lambda: None) -> Iterator[Interrupt]:
    """Handle Ctrl-C and SIGTERM within, and leave their handlers as they were.

    Only the main thread may do so; elsewhere, and in workers, signals stay as they are.
    """
    interrupt = Interrupt(then)
    before = {}
    for number in () if at_work() else SIGNALS:
        try:
            before[number] = signal.signal(number, interrupt.receive)
        except ValueError:  # not the main thread
            break
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def ended(command: Callable[[list[str]], int]) -> int:
    """Run a command on the arguments of this process; returns its exit status, or that of a signal."""
    try:
        with listening():
            status = command(sys.argv[1:])
        sys.stdout.flush()
        return status
    except Interrupted as interrupted:
        said = "\ninterrupted: what was done is kept, run the same command to go on"
        print(said, file=sys.stderr)
        return interrupted.status
    except BrokenPipeError:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # for what is still to be said
        return UNHEARD
