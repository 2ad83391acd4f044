"""Downloads over HTTP."""

import http.client
import urllib.request
from typing import BinaryIO

from tqdm import tqdm

CHUNK = 1 << 16


def fetch(url: str, file: BinaryIO, seconds: float = 30.0) -> None:
    """Write the content of a URL to a file; show a progress bar on a terminal.

    Raises:
        OSError: If the address cannot be reached, does not answer within ``seconds``, stalls for as
            long, or ends before the announced length, or if the file cannot be written.
    """
    if not url.startswith(("http://", "https://")):  # urllib would also open local files
        raise OSError("it is no address of the web")
    try:
        with urllib.request.urlopen(url, timeout=seconds) as answer:
            length = answer.headers.get("Content-Length")
            total = int(length) if length else None
            size = 0
            label = url.rsplit("/", 1)[-1]
            # disable=None: no bar without a terminal
            with tqdm(desc=label, total=total, unit="B", unit_scale=True, disable=None) as bar:
                while chunk := answer.read(CHUNK):
                    file.write(chunk)
                    size += len(chunk)
                    bar.update(len(chunk))
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    if total is not None and size != total:
        raise OSError(f"only {size} of {total} bytes came")
