"""What tests of every folder share."""

import os
from pathlib import Path

import pytest

from bench import process

process.tune()  # before torch is imported, as in bench itself


@pytest.fixture(scope="session")
def omniglot_root() -> str:
    """The folder with the official archives; no CI run may skip the tests that need it."""
    root = os.environ.get("BENCH_DATA", "")
    if not (Path(root) / "omniglot" / "images_background.zip").exists():
        message = "needs Omniglot's archives in the folder that BENCH_DATA names"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return root
