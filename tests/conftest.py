"""What tests of every folder share."""

import os
from pathlib import Path

import pytest

from bench.core import process

if "PYTEST_XDIST_WORKER" in os.environ:  # workers share the cores: more threads would only wait
    os.environ.setdefault("OMP_NUM_THREADS", "1")
process.configure()  # before torch is imported, as in bench itself


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports make their figures and do not write them as pictures, which takes seconds."""
    monkeypatch.setattr("bench.report.image", lambda figure, kind: kind.encode())


@pytest.fixture(scope="session")
def omniglot_root() -> str:
    """The folder with the official archives; no CI run may skip the tests that need it."""
    return root_of("Omniglot", "omniglot/images_background.zip")


@pytest.fixture(scope="session")
def cifar_root() -> str:
    """The folder with the official archive; no CI run may skip the tests that need it."""
    return root_of("CIFAR-100", "cifar100/cifar-100-python.tar.gz")


@pytest.fixture(scope="session")
def texts_root() -> str:
    """The folder with the official files of texts; no CI run may skip the tests that need it."""
    return root_of("texts", "text/clinc150/data_full.json")


def root_of(data: str, archive: str) -> str:
    root = os.environ.get("BENCH_DATA", "")
    if not (Path(root) / archive).exists():
        message = f"needs {data} in the folder that BENCH_DATA names"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return root
