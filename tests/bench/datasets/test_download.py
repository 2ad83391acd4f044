import io
import socket
from pathlib import Path

import pytest

from bench.datasets.io.download import CHUNK, fetch
from tests.bench.datasets.fakes import Server


def test_all_bytes_come(server: Server) -> None:
    body = bytes(range(256)) * (CHUNK // 100)
    server.bodies["/a.zip"] = body
    file = io.BytesIO()
    fetch(f"{server.url}/a.zip", file)
    assert file.getvalue() == body


def test_an_answer_that_ends_early_is_an_error(server: Server) -> None:
    server.bodies["/a.zip"] = b"x" * 1000
    server.extra = 24
    with pytest.raises(OSError, match="only 1000 of 1024 bytes"):
        fetch(f"{server.url}/a.zip", io.BytesIO())


def test_a_missing_file_is_an_error(server: Server) -> None:
    with pytest.raises(OSError, match="404"):
        fetch(f"{server.url}/a.zip", io.BytesIO())


def test_no_server_is_an_error() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(OSError, match="refused"):
        fetch(f"http://127.0.0.1:{port}/a.zip", io.BytesIO())


def test_silence_is_an_error() -> None:
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with pytest.raises(OSError, match="timed out"):
            fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/a.zip", io.BytesIO(), seconds=0.2)


def test_what_is_no_address_is_an_error() -> None:
    for text in ("a.zip", Path(__file__).as_uri()):  # which urllib alone would read
        with pytest.raises(OSError, match="it is no address of the web"):
            fetch(text, io.BytesIO())
