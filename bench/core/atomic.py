"""Atomic file writes, so that readers never see partial content, and safe reads."""

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

Content = str | bytes | memoryview


def atomic_write(path: Path, content: Content) -> None:
    """Replace a file atomically: readers see the old content or the new. Text becomes UTF-8."""
    data = content.encode() if isinstance(content, str) else content
    with atomic_file(path) as file:
        file.write(data)


def replace_all(folder: Path, contents: Mapping[str, Content], last: str) -> None:
    """Replace files of a folder, by name, once the new ones are all written next to the old.

    A process that is killed while writing leaves the old files; one that is killed while renaming
    leaves no file named ``last``, so that an incomplete set is not taken for a complete one.
    """
    with ExitStack() as drafts:
        # renamed in the opposite order
        for name in sorted(contents, key=lambda name: name != last):
            content = contents[name]
            file = drafts.enter_context(atomic_file(folder / name))
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if last in contents:
            (folder / last).unlink(missing_ok=True)


def read_plain(path: Path, most: int) -> bytes:
    """Return the content of a regular file of at most ``most`` bytes.

    Raises:
        ValueError: If it is larger or not a regular file, such as a pipe or a device, for which it
            does not wait.
        OSError: If it does not exist or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is not a file")
        if facts.st_size > most:
            raise ValueError(f"it has {facts.st_size:,} bytes, and {most:,} are the most")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a new file that replaces ``path`` at the end, and is deleted if anything is raised."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp files are readable by their owner only
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
