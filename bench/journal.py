"""The journal of a study: what Optuna writes of its trials, for many processes."""

from pathlib import Path

import optuna
from filelock import FileLock
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from bench.mistake import Mistake, in_a_line

JOURNAL = "journal.log"


class Lock(JournalFileOpenLock):
    """Held by the process that writes, and given up by the kernel when that dies.

    Optuna's own is a file that stays after a kill, and would be waited for. What a writer left of a
    line, as on a full disk, is cut off first, so that the next line does not go on with it.
    """

    def __init__(self, journal: Path) -> None:
        self.journal = journal
        self.lock = FileLock(journal.with_name(f".{journal.name}.lock"))

    def acquire(self) -> bool:
        self.lock.acquire()
        with self.journal.open("r+b") as file:
            file.truncate(file.read().rfind(b"\n") + 1)
        return True

    def release(self) -> None:
        self.lock.release()


def opened(folder: Path, name: str) -> optuna.Study:
    """The study that is stored in a folder, or a new one; raises Mistake when it cannot be read."""
    folder.mkdir(parents=True, exist_ok=True)
    journal = folder / JOURNAL
    try:
        backend = JournalFileBackend(str(journal), Lock(journal))
        storage = optuna.storages.JournalStorage(backend)
        if name in optuna.get_all_study_names(storage):
            return optuna.load_study(study_name=name, storage=storage)
        return optuna.create_study(study_name=name, storage=storage, direction="maximize")
    except (ValueError, LookupError, TypeError, AttributeError, AssertionError) as error:
        raise damaged(folder, in_a_line(error)) from None


def damaged(folder: Path, why: str) -> Mistake:
    """What to say of a journal that cannot be what was written."""
    return Mistake(
        f"{folder / JOURNAL} is damaged ({why}): move it away, and these trials start anew."
    )
