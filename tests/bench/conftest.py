"""Small cells, checked and ready to run."""

import shutil
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra

from bench.config import schema
from bench.config.plugins import CONF
from bench.runs import cell as cells
from tests.bench.small import FILTERS, PHOTOS, SMALL


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> str:
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def make(cache, tmp_path):
    """Check a small glyphs cell with some overrides."""

    def cell(*overrides: str) -> cells.Cell:
        GlobalHydra.instance().clear()
        folders = [f"cache_dir={cache}", f"results_dir={tmp_path}/results"]
        other = any(each.startswith(("algo=nearest", "backbone=")) for each in overrides)
        small = [each for each in SMALL if each != FILTERS or not other]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose("config", [*small, *folders, *overrides])
        return cells.check(schema.from_hydra(composed))

    return cell


@pytest.fixture
def leaves(tmp_path, monkeypatch) -> Path:
    """Photographs of leaves, here: three of each class are labelled, one is new."""
    for path in (PHOTOS / "samples").glob("*.jpg"):
        name, _, number = path.stem.rpartition("_")
        folder = tmp_path / ("new" if number == "4" else f"photos/{name}")
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, folder)
    (tmp_path / "new" / "notes.txt").write_text("no image")
    monkeypatch.chdir(tmp_path)
    return tmp_path
