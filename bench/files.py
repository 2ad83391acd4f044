"""Files that are whole: written so that no reader ever sees a part, and read when they are plain."""

import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO

Content = str | bytes | memoryview


def write_whole(path: Path, content: Content) -> None:
    """Replace a file in one step: a reader sees the old content or the new. Text becomes UTF-8."""
    data = content.encode() if isinstance(content, str) else content
    with drafted(path) as file:
        file.write(data)


def replace_all(folder: Path, contents: Mapping[str, Content], last: str) -> None:
    """Replace files of a folder, by their names, once all of them are written beside the old ones.

    A process that is killed while it writes leaves the old files; one that is killed while they are
    exchanged leaves none that is named ``last``, so that the others are not taken for a whole.
    """
    with ExitStack() as drafts:
        # they take their places in the opposite order
        for name in sorted(contents, key=lambda name: name != last):
            content = contents[name]
            file = drafts.enter_context(drafted(folder / name))
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        if last in contents:
            (folder / last).unlink(missing_ok=True)


def read_plain(path: Path, most: int) -> bytes:
    """The content of a file of at most so many bytes.

    Raises ValueError where it is larger or something else, such as a pipe or a device, which is not
    waited for; OSError where it is not there or cannot be read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        facts = os.fstat(handle)
        if not stat.S_ISREG(facts.st_mode):
            raise ValueError("it is no file")
        if facts.st_size > most:
            raise ValueError(f"it has {facts.st_size:,} bytes, and {most:,} are the most")
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"it has more than {most:,} bytes")
    return content


@contextmanager
def drafted(path: Path) -> Iterator[BinaryIO]:
    """A new file beside ``path``, which takes its place at the end, and goes if anything is raised."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w+b") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())  # mkstemp gives files to their owner alone
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
