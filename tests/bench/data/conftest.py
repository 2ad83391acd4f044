import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.data import omniglot
from bench.data.pool import Pool, content_digest
from tests.bench.data.fakes import CLASSES, SPLIT, Archives, Server


@pytest.fixture
def archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Archives:
    """Archives that count as the official ones during the test."""
    made = Archives()
    split = tmp_path / "split.txt"
    split.write_text(SPLIT)
    monkeypatch.setattr(omniglot, "SPLIT", split)
    pins = {
        stem: content_digest({"all": Pool.of({name: made.images[name] for name in names})})
        for stem, names in CLASSES.items()
    }
    monkeypatch.setattr(omniglot, "ARCHIVES", pins)
    return made


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    thread = threading.Thread(target=made.http.serve_forever, args=(0.02,))
    thread.start()
    yield made
    made.http.shutdown()
    made.http.server_close()
    thread.join()
