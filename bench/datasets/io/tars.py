"""Reading .tar.gz archives in memory, with limits on everything that they declare.

``tarfile`` by itself accepts whatever an archive declares, such as a name of gigabytes; here it reads
the headers alone. The caller limits the size of each requested member, and of all others together;
those are skipped, including links.
"""

import gzip
import tarfile
import zlib
from collections.abc import Callable, Iterator
from os import SEEK_CUR
from typing import BinaryIO

# errors on invalid content
READ_ERRORS = (zlib.error, EOFError, OSError, tarfile.TarError, ValueError)


def members(
    file: BinaryIO, most: Callable[[str], int | None], others: int
) -> Iterator[tuple[str, bytes]]:
    """Yield name and content of each requested member, in their order in the archive.

    ``most`` returns the maximum size in bytes of the member of a name, or None to skip it;
    ``others`` is the maximum total size of the skipped ones.

    Raises one of READ_ERRORS, possibly only at the end: members yielded before may be from a
    damaged archive.
    """
    seen: set[str] = set()
    with gzip.GzipFile(fileobj=file) as stream:
        # a block of zeros ends the archive
        while (header := take(stream, tarfile.BLOCKSIZE)).strip(b"\0"):
            info = tarfile.TarInfo.frombuf(header, "utf-8", "surrogateescape")
            name = info.name.removeprefix("./")  # written by some packers
            wanted = most(name)
            possible = max(0, others) if wanted is None else wanted
            if not 0 <= info.size <= possible:
                raise ValueError(
                    f"its member {name} has {info.size} bytes, {possible} are possible"
                )
            padding = -info.size % tarfile.BLOCKSIZE
            if wanted is None:
                others -= tarfile.BLOCKSIZE + info.size + padding
                stream.seek(info.size + padding, SEEK_CUR)
                continue
            if name in seen or not info.isreg():
                raise ValueError(f"its member {name} is there twice or is no plain file")
            seen.add(name)
            yield name, take(stream, info.size)
            stream.seek(padding, SEEK_CUR)


def take(stream: gzip.GzipFile, size: int) -> bytes:
    """Return the next ``size`` bytes; raise EOFError if there are fewer."""
    content = stream.read(size)
    if len(content) < size:
        raise EOFError("it ends too early")
    return content
