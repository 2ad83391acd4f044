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
from typing import Any

RESUMABLE = 75
"""Exit status after SIGTERM: the same command goes on from where training stood (EX_TEMPFAIL)."""

UNHEARD = 128 + signal.SIGPIPE
"""Exit status when what reads the output, such as head, has had enough."""


SIGNALS = (signal.SIGINT, signal.SIGTERM)

OF_SCHEDULERS = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals that say that time is up, in processes where a library handles them."""

Handler = Callable[[int, FrameType | None], Any] | int | None

_parent = os.getppid()
"""The process that started this one; in a worker, that ends with the sweep."""

_flag: Path | None = None
"""In a worker: the file that, when it is there, asks it to end."""


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end; ``status`` is what it shall exit with."""

    def __init__(self, number: int, *reason: str) -> None:
        super().__init__(*reason)
        self.status = RESUMABLE if number == signal.SIGTERM else 128 + number


class Dismissed(SystemExit):
    """The handler of a scheduler's library ends this process, which runs anew elsewhere."""


class Interrupt:
    """Holds a first signal back while training is in the middle of something; a second one is not.

    A signal that a scheduler's library has a handler for is then left to that: it may have this
    process run anew elsewhere, or let it go on. Any other ends what it meets with `Interrupted`.
    ``then`` is done when a signal is held back.
    """

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.before: dict[int, Handler] = {}
        self.pending: int | None = None
        self._held = False
        self._then = then

    def requested(self) -> bool:
        """Whether a signal is held back, or the sweep that this process works for is to end."""
        if asked():
            self.pending = signal.SIGTERM
        return self.pending is not None

    def request(self) -> None:
        """As if SIGTERM had come, if no signal has: another process got one."""
        self.pending = self.pending or signal.SIGTERM

    @contextmanager
    def held(self) -> Iterator[None]:
        """The first signal within is obeyed at the end, if it was not before."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.obey()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """The handler of the signals."""
        if self._held and self.pending is None:
            self.pending = number
            self._then()
        else:
            self._obey(number)

    def obey(self) -> None:
        """Do what the signal that is held back asks for, now that what was begun is safe."""
        number, self.pending = self.pending, None
        if number is not None:
            self._obey(number)

    def _obey(self, number: int) -> None:
        handler = self.before.get(number)
        if not callable(handler) or handler is signal.default_int_handler:
            raise Interrupted(number)
        try:
            handler(number, None)
        except SystemExit as error:
            raise Dismissed(error.code) from error
        except Exception as error:  # such as one time-out too many: no fault of the cell
            raise Interrupted(number, str(error)) from error
        if isinstance(
            getattr(handler, "__self__", None), Interrupt
        ):  # a sweep's, which holds it back
            raise Interrupted(number)


def work_for(flag: Path, parent: int | None) -> None:
    """Make this process a worker of a sweep, which asks it to end by such a file, or by its own end.

    ``parent`` is the process that started it, which may have ended since; None if that is not known.
    """
    global _flag, _parent
    _flag, _parent = flag, parent or _parent
    for number in SIGNALS:  # Ctrl-C in a terminal goes to all processes
        signal.signal(number, signal.SIG_IGN)


def at_work() -> bool:
    """Whether this process is a worker of a sweep."""
    return _flag is not None


def asked() -> bool:
    """Whether the sweep that this process works for is to end, or was killed."""
    return _flag is not None and (_flag.exists() or os.getppid() != _parent)


def leave_if_orphaned() -> None:
    """End this process, if it is a worker whose sweep was killed, and which nobody else would end."""
    if _flag is not None and os.getppid() != _parent:
        os._exit(RESUMABLE)


@contextmanager
def listening(then: Callable[[], object] = lambda: None) -> Iterator[Interrupt]:
    """Handle Ctrl-C, SIGTERM and signals that have a handler within, and leave those as they were.

    Only the main thread may do so; elsewhere, and in workers, signals stay as they are.
    """
    interrupt = Interrupt(then)
    try:
        for heard in () if at_work() else (*SIGNALS, *OF_SCHEDULERS):
            if heard in SIGNALS or callable(signal.getsignal(heard)):
                interrupt.before[heard] = signal.signal(heard, interrupt.receive)
    except ValueError:  # not the main thread
        pass
    try:
        yield interrupt
    finally:
        for number, handler in interrupt.before.items():
            signal.signal(number, handler)


def ended(command: Callable[[list[str]], int]) -> int:
    """Run a command on the arguments of this process; returns its exit status, or that of a signal."""
    try:
        with listening():
            status = command(sys.argv[1:])
        sys.stdout.flush()
        return status
    except Interrupted as interrupted:
        said = "\ninterrupted: what was saved is kept; the same command goes on from there"
        print(said, file=sys.stderr)
        return interrupted.status
    except BrokenPipeError:
        return unheard()


def unheard() -> int:
    """Let what is still to be said go nowhere, as nobody reads it; returns the exit status."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return UNHEARD
