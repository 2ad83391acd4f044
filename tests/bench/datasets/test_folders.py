"""Where data is looked for and kept."""

from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.datasets.images.omniglot import prepare
from bench.datasets.io import cache
from bench.datasets.io.cache import DataDirs
from tests.bench.datasets.fakes import Archives


def load(data_root: str | None = None, cache_dir: str | None = None) -> None:
    prepare(DataDirs.of(data_root, cache_dir), rotations="none", url="http://127.0.0.1:9")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tests see neither the user's data nor the user's cache."""
    monkeypatch.delenv("BENCH_DATA", raising=False)
    monkeypatch.setattr(cache, "user_cache_dir", lambda name: str(tmp_path / "user" / name))
    return tmp_path / "user" / "fewshot-bench"


def test_archives_are_looked_for_where_the_user_says(
    archives: Archives, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own_cache: Path
) -> None:
    def place_named() -> str:
        with pytest.raises(UserError) as caught:
            load(*root)
        return str(caught.value)

    root: list[str] = []
    assert f" into {own_cache / 'omniglot'} " in place_named()
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "env"))
    assert f" into {tmp_path / 'env' / 'omniglot'} " in place_named()
    root = [str(tmp_path / "root")]
    assert f" into {tmp_path / 'root' / 'omniglot'} " in place_named()


@pytest.mark.parametrize("by", ["data_root", "environment"])
def test_nothing_is_written_beside_the_archives(
    archives: Archives,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    own_cache: Path,
    by: str,
) -> None:
    data = tmp_path / "data"
    archives.write(data)
    before = sorted(data.rglob("*"))
    if by == "environment":
        monkeypatch.setenv("BENCH_DATA", str(data))
    load(str(data) if by == "data_root" else None)
    assert sorted(data.rglob("*")) == before
    assert len(list(own_cache.rglob("*.pt"))) == 1


def test_the_cache_is_where_the_user_says(
    archives: Archives, tmp_path: Path, own_cache: Path
) -> None:
    archives.write(tmp_path / "data")
    load(str(tmp_path / "data"), str(tmp_path / "cache"))
    assert len(list((tmp_path / "cache").rglob("*.pt"))) == 1
    assert not own_cache.exists()
