"""Journal of a study: Optuna's storage of trials, shared by many processes."""

from pathlib import Path
from typing import Literal

import optuna
from filelock import FileLock
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from bench.core.errors import UserError, one_line

JOURNAL = "journal.log"


Direction = Literal["maximize", "minimize"]


class Lock(JournalFileOpenLock):
    """Lock of the writing process, released by the kernel if that dies.

    Optuna's own is a file that survives a kill: others wait half a minute, then take it, even from a
    slow writer that lives. An incomplete line that a writer left, as on a full disk, is truncated
    first, so that the next line does not continue it.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.lock = FileLock(journal.with_name(f".{journal.name}.lock"))

    def acquire(self) -> bool:
        """Acquire the lock and truncate an incomplete last line."""
        self.lock.acquire()
        with self.journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        """Release the lock."""
        self.lock.release()


def opened(folder: Path, name: str, direction: Direction) -> optuna.Study:
    """Return the study stored in a folder, or a new one; raise UserError if it cannot be read."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / JOURNAL
    try:
        backend = JournalFileBackend(str(journal), Lock(journal))
        storage = optuna.storages.JournalStorage(backend)
        if name in optuna.get_all_study_names(storage):
            return optuna.load_study(study_name=name, storage=storage)
        return optuna.create_study(study_name=name, storage=storage, direction=direction)
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise damaged(folder, one_line(error)) from None


def damaged(folder: Path, why: str) -> UserError:
    """Return the error for a journal with contents that cannot have been written by the tuner."""
    return UserError(
        f"{folder / JOURNAL} is damaged ({why}): move it away, and these trials start anew."
    )
