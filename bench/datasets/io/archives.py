"""Official archives: found on this machine, or downloaded and kept."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from bench.core.atomic import atomic_file
from bench.core.errors import UserError
from bench.datasets.io.cache import DataDirs
from bench.datasets.io.download import fetch

Content = TypeVar("Content")

Reader = Callable[[BinaryIO, str, str], Content]
"""A function that reads an archive, given the file, its source and advice for messages.

The advice says how to fix a damaged file. The archive is a file on disk, of which only the parts
that are used need to be in memory.
"""


def from_archive(
    folders: DataDirs,
    folder: str,
    name: str,
    every: Sequence[str],
    url: str,
    read: Reader[Content],
    instead: str = "glyphs",
) -> Content:
    """Return what ``read`` returns for the archive ``folder/name``.

    It is downloaded if neither of the ``folders`` has it, and kept in the cache once it has been
    read.

    Args:
        folders: The folders of archives and of the cache.
        folder: The folder of the archive within these.
        name: The file name of the archive.
        every: The names of all archives that are needed, for messages.
        url: Where the archive is downloaded from.
        read: Reads the archive.
        instead: A data set that needs no download, for messages.

    Raises:
        UserError: If it cannot be opened or downloaded. What ``read`` raises is passed on.
    """
    archive = f"{folder}/{name}"
    if path := folders.find(archive):
        try:
            file = path.open("rb")
        except OSError as error:
            raise UserError(f"Cannot read {path} ({error.strerror}); make it readable") from None
        with file:
            advice = "put the official file there, or delete it to have it downloaded"
            return read(file, str(path), advice)

    advice = f"put {' and '.join(every)} into {folders.archives / folder} yourself, "
    advice += f"or use dataset={instead}, which needs no download"
    with _new_file(folders.cache / archive) as new:
        try:
            fetch(url, new)
        except OSError as error:
            raise UserError(f"Cannot download {url} ({error}); {advice}") from None
        new.seek(0)
        return read(new, url, advice)


def ascii_message(error: Exception) -> str:
    """Return the message of an error about an archive, shortened and escaped.

    It may repeat content of the archive, of any length.
    """
    return ascii(str(error)[:200])[1:-1]


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """Yield a file that is kept at ``path`` unless anything is raised, or a temporary one.

    The temporary one is used if ``path`` cannot be written.
    """
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(atomic_file(path))
        except OSError:  # `cached` warns if the cache cannot be written
            file = stack.enter_context(tempfile.TemporaryFile())
        yield file
