"""Graceful shutdown on SIGINT (Ctrl-C) and SIGTERM, which schedulers send before they kill.

A sweep may have workers: processes that run its cells. They ignore signals; the sweep handles them
and asks its workers, through a file, to save and exit.
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
"""Exit status after SIGTERM: the same command resumes training where it stopped (EX_TEMPFAIL)."""

UNHEARD = 128 + signal.SIGPIPE
"""Exit status when the reader of the output, such as head, has closed the pipe."""


SIGNALS = (signal.SIGINT, signal.SIGTERM)

OF_SCHEDULERS = (signal.SIGUSR1, signal.SIGUSR2)
"""Signals for the end of the time limit, in processes where a library handles them."""

Handler = Callable[[int, FrameType | None], Any] | int | None

_parent = os.getppid()
"""The process that started this one; a worker exits when it is gone."""

_flag: Path | None = None
"""In a worker: the file whose existence asks it to exit."""


class Interrupted(KeyboardInterrupt):
    """A signal asked this process to end; ``status`` is its exit status."""

    def __init__(self, number: int, *reason: str) -> None:
        super().__init__(*reason)
        self.status = RESUMABLE if number == signal.SIGTERM else 128 + number


class Dismissed(SystemExit):
    """A scheduler library's signal handler ends this process, which is restarted elsewhere."""


class Interrupt:
    """Deferral of a first signal during a critical part of training; a second one is not deferred.

    A signal for which a scheduler's library has a handler is then passed on to it: the handler may
    have this process restarted elsewhere, or let it continue. Any other signal raises
    `Interrupted`. ``then`` is called when a signal is deferred.
    """

    def __init__(self, then: Callable[[], object] = lambda: None) -> None:
        self.before: dict[int, Handler] = {}
        self.pending: int | None = None
        self._held = False
        self._then = then

    def requested(self) -> bool:
        """Return whether a signal is pending, or the sweep of this worker is to end."""
        if stop_requested():
            self.pending = signal.SIGTERM
        return self.pending is not None

    def request(self) -> None:
        """Act as if SIGTERM had arrived, if no signal has: another process received one."""
        self.pending = self.pending or signal.SIGTERM

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the first signal within the context to its end, unless it was handled before."""
        self._held = True
        try:
            yield
        finally:
            self._held = False
        self.raise_pending()

    def receive(self, number: int, frame: FrameType | None) -> None:
        """Handle a signal."""
        if self._held and self.pending is None:
            self.pending = number
            self._then()
        else:
            self._obey(number)

    def raise_pending(self) -> None:
        """Handle the pending signal, now that the work in progress is safe."""
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
        except Exception as error:  # such as too many time-outs: not an error of the cell
            raise Interrupted(number, str(error)) from error
        if isinstance(
            getattr(handler, "__self__", None), Interrupt
        ):  # that of a sweep, which defers it
            raise Interrupted(number)


def become_worker(flag: Path, parent: int | None) -> None:
    """Make this process a worker of a sweep, which asks it to exit by a file or by its own end.

    Args:
        flag: The file whose existence asks this process to exit.
        parent: The process that started it, which may have ended since; None if it is not known.
    """
    global _flag, _parent
    _flag, _parent = flag, parent or _parent
    for number in SIGNALS:  # Ctrl-C in a terminal reaches all processes
        signal.signal(number, signal.SIG_IGN)


def is_worker() -> bool:
    """Return whether this process is a worker of a sweep."""
    return _flag is not None


def stop_requested() -> bool:
    """Return whether the sweep of this worker is to end, or was killed."""
    return _flag is not None and (_flag.exists() or os.getppid() != _parent)


def exit_if_orphaned() -> None:
    """Exit if this process is a worker whose sweep was killed: nothing else would end it."""
    if _flag is not None and os.getppid() != _parent:
        os._exit(RESUMABLE)


@contextmanager
def handle_signals(then: Callable[[], object] = lambda: None) -> Iterator[Interrupt]:
    """Handle SIGINT, SIGTERM and signals that have a handler, within the context.

    The previous handlers are restored at the end. Only the main thread may do so; elsewhere, and in
    workers, signal handling is unchanged.
    """
    interrupt = Interrupt(then)
    try:
        for heard in () if is_worker() else (*SIGNALS, *OF_SCHEDULERS):
            if heard in SIGNALS or callable(signal.getsignal(heard)):
                interrupt.before[heard] = signal.signal(heard, interrupt.receive)
    except ValueError:  # not the main thread
        pass
    try:
        yield interrupt
    finally:
        for number, handler in interrupt.before.items():
            signal.signal(number, handler)


def run_command(command: Callable[[list[str]], int]) -> int:
    """Run a command on the arguments of this process; return its exit status or a signal's."""
    try:
        with handle_signals():
            status = command(sys.argv[1:])
        sys.stdout.flush()
        return status
    except Interrupted as interrupted:
        said = "\ninterrupted: what was saved is kept; the same command resumes from there"
        print(said, file=sys.stderr)
        return interrupted.status
    except BrokenPipeError:
        return on_broken_pipe()


def on_broken_pipe() -> int:
    """Discard further output, as nobody reads it; return the exit status."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    return UNHEARD
