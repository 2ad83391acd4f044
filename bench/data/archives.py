"""Official archives: found on this machine, or downloaded and kept."""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, TypeVar

from bench.data.cache import Folders
from bench.data.fetch import fetch
from bench.files import drafted
from bench.mistake import Mistake

Content = TypeVar("Content")

Reader = Callable[[BinaryIO, str, str], Content]
"""Reads an archive; source and advice are for its messages: where it came from, how to mend it.

The archive is a file on a disk, of which no more needs to be in memory than is looked at."""


def from_archive(
    folders: Folders, folder: str, name: str, every: Sequence[str], url: str, read: Reader[Content]
) -> Content:
    """What ``read`` makes of the archive ``folder/name``, which is one of ``every`` that are needed.

    It is downloaded from ``url`` when neither of the ``folders`` has it, and kept in the cache once it
    was read. Raises Mistake when it cannot be opened or downloaded, and what ``read`` raises.
    """
    archive = f"{folder}/{name}"
    if path := folders.find(archive):
        try:
            file = path.open("rb")
        except OSError as error:
            raise Mistake(f"Cannot read {path} ({error.strerror}); make it readable") from None
        with file:
            advice = "put the official file there, or delete it to have it downloaded"
            return read(file, str(path), advice)

    advice = f"put {' and '.join(every)} into {folders.archives / folder} yourself, "
    advice += "or use dataset=glyphs, which needs no download"
    with _new_file(folders.cache / archive) as new:
        try:
            fetch(url, new)
        except OSError as error:
            raise Mistake(f"Cannot download {url} ({error}); {advice}") from None
        new.seek(0)
        return read(new, url, advice)


def plain(error: Exception) -> str:
    """What an error says of an archive, which may repeat what that does, however long that is."""
    return ascii(str(error)[:200])[1:-1]


@contextmanager
def _new_file(path: Path) -> Iterator[BinaryIO]:
    """A file to be kept at ``path`` unless anything is raised, or a temporary one if that cannot be."""
    with ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            file = stack.enter_context(drafted(path))
        except OSError:  # `cached` warns of a cache that cannot be written
            file = stack.enter_context(tempfile.TemporaryFile())
        yield file
