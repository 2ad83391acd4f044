"""Reading .tar.gz archives in memory, where nothing that they say is believed further than is expected.

``tarfile`` by itself takes in whatever an archive announces. Here a member that is wanted may have as
many bytes as the caller says, and all others together too; those are passed over, links among them.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

# what is raised below on content that is not what it should be
READ_ERRORS = (zlib.error, EOFError, OSError, tarfile.TarError, ValueError)

CHUNK = 1 << 20


def members(
    file: BinaryIO, most: Callable[[str], int | None], others: int
) -> Iterator[tuple[str, bytes]]:
    """Name and content of each member that is wanted, in their order in the archive.

    ``most`` tells for a name how many bytes the member may have, and None where it is not wanted;
    ``others`` is how many all those may have. Raises one of READ_ERRORS, at the end, too: what was
    given before may be of a damaged archive.
    """
    seen: set[str] = set()
    with gzip.GzipFile(fileobj=file) as stream:
        # a block of zeros ends the archive
        while (header := take(stream, tarfile.BLOCKSIZE)).strip(b"\0"):
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            name = info.name.removeprefix("./")  # which some packers write
            wanted = most(name)
            possible = max(0, others) if wanted is None else wanted
            if not 0 <= info.size <= possible:
                raise ValueError(
                    f"its member {name} has {info.size} bytes, {possible} are possible"
                )
            padding = -info.size % tarfile.BLOCKSIZE
            if wanted is None:
                others -= tarfile.BLOCKSIZE + info.size + padding
                skip(stream, info.size + padding)
                continue
            if name in seen or not info.isreg():
                raise ValueError(f"its member {name} is there twice or is no plain file")
            seen.add(name)
            yield name, take(stream, info.size)
            skip(stream, padding)


def take(stream: gzip.GzipFile, size: int) -> bytes:
    """The next ``size`` bytes; raises EOFError when there are fewer."""
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("it ends too early")
    return content


def skip(stream: gzip.GzipFile, size: int) -> None:
    """Pass over ``size`` bytes; raises EOFError when there are fewer."""
    for first in range(0, size, CHUNK):
        take(stream, min(CHUNK, size - first))
