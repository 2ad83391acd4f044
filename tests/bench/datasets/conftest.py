import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.datasets.images import cifar100, cifar_fs, fc100, omniglot
from bench.tasks.pool import Pool, content_digest
from tests.bench.datasets.fakes import (
    CIFAR_ROWS,
    CIFAR_TABLE,
    CLASSES,
    SPLIT,
    Archives,
    Cifar,
    Server,
)


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
def cifar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cifar:
    """An archive that counts as the official one during the test."""
    made = Cifar()
    table = tmp_path / "table.txt"
    table.write_text(CIFAR_TABLE)
    monkeypatch.setattr(cifar100, "TABLE", table)
    monkeypatch.setattr(cifar100, "ROWS", CIFAR_ROWS)
    monkeypatch.setattr(cifar100, "DIGEST", content_digest({"all": Pool.of(made.images)}))
    monkeypatch.setattr(cifar_fs, "SHARED", 1)
    monkeypatch.setattr(fc100, "SHARED", 1)
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
