"""Official archives: found on this machine, or downloaded and kept."""

import contextlib
import io
from collections.abc import Callable, Sequence
from typing import BinaryIO, TypeVar

from bench.data.cache import Folders
from bench.data.fetch import fetch
from bench.files import write_whole
from bench.mistake import Mistake

Content = TypeVar("Content")

Reader = Callable[[BinaryIO, str, str], Content]
"""Reads an archive; source and advice are for its messages: where it came from, how to mend it."""


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
    try:
        content = fetch(url)
    except OSError as error:
        raise Mistake(f"Cannot download {url} ({error}); {advice}") from None
    made = read(io.BytesIO(content), url, advice)
    with contextlib.suppress(OSError):  # `cached` warns of a cache that cannot be written
        keep = folders.cache / archive
        keep.parent.mkdir(parents=True, exist_ok=True)
        write_whole(keep, content)
    return made
