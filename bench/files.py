"""Writing files so that no reader ever sees a part of one."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

Content = str | bytes | memoryview


def write_whole(path: Path, content: Content) -> None:
    """Replace a file in one step: a reader sees the old content or the new. Text becomes UTF-8."""
    data = content.encode() if isinstance(content, str) else content
    with drafted(path) as file:
        file.write(data)


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
