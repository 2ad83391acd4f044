"""What a row says of the code that made it."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from bench.core import version
from bench.core.errors import UserError
from bench.runs import cell as cells
from bench.runs import protocol


def test_the_commit_tells_of_files_that_are_not_in_it(tmp_path, monkeypatch):
    def git(*arguments: str) -> str:
        who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
        command = ["git", "-C", str(tmp_path), *who, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    own, learner = (tmp_path / file for file in ("bench/core/version.py", "algorithms/maml.py"))
    for file in (own, learner):
        file.parent.mkdir(parents=True)
        file.write_text("")
    monkeypatch.setattr(version, "__file__", str(own))
    git("init", "-q")
    assert version.commit() is None
    git("add", ".")
    git("commit", "-q", "-m", "x")
    head = git("rev-parse", "--short=12", "HEAD")
    (tmp_path / "notes.txt").write_text("no code")
    assert version.commit() == head
    new = learner.with_name("new.py")
    new.write_text("")
    assert version.commit() == f"{head}+"
    new.unlink()
    own.write_text("edited")
    assert version.commit() == f"{head}+"
    monkeypatch.setenv("BENCH_COMMIT", "of a copy")
    assert version.commit() == f"{head}+", "git knows better"


def test_a_copy_without_git_is_told_its_commit(tmp_path, monkeypatch):
    monkeypatch.setattr(version, "__file__", str(tmp_path / "bench/core/version.py"))
    monkeypatch.setenv("BENCH_COMMIT", "0123456789ab")
    assert version.commit() == "0123456789ab"
    monkeypatch.setenv("BENCH_COMMIT", "")
    assert version.commit() is None


@pytest.fixture
def uninstalled(tmp_path, monkeypatch):
    """A copy of the code, in a folder, whose metadata nobody has."""

    def missing(name: str) -> str:
        raise version.PackageNotFoundError(name)

    monkeypatch.setattr(version, "installed", missing)
    monkeypatch.setattr(version, "__file__", str(tmp_path / "bench/core/version.py"))
    return tmp_path


def test_a_copy_that_is_not_installed_knows_its_version(uninstalled):
    (uninstalled / "pyproject.toml").write_text('[project]\nversion = "1.2.3"\n')
    assert version.version() == "1.2.3"


def test_a_copy_without_a_version_is_told_before_any_work(uninstalled, make):
    for content in (None, "[project]", "no TOML"):
        if content:
            (uninstalled / "pyproject.toml").write_text(content)
        with pytest.raises(UserError, match="fewshot-bench is not installed, and .*pip install"):
            make()


def test_the_digest_of_the_code_is_of_what_numbers_depend_on(tmp_path, monkeypatch):
    for file in (
        "bench/engine/train.py",
        "bench/report/page.py",
        "algorithms/maml.py",
        "mine/learner.py",
    ):
        path = tmp_path / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("")

    def found(name: str) -> SimpleNamespace:
        return SimpleNamespace(submodule_search_locations=[str(tmp_path / name)], origin=None)

    monkeypatch.setattr(protocol, "find_spec", found)
    before, with_mine = protocol.source_digest(), protocol.source_digest("mine")
    assert before != with_mine
    (tmp_path / "bench/report/page.py").write_text("changed")
    (tmp_path / "mine/learner.py").write_text("changed")
    assert protocol.source_digest() == before and protocol.source_digest("mine") != with_mine
    for file in ("bench/engine/train.py", "algorithms/maml.py"):
        (tmp_path / file).write_text("changed")
        assert protocol.source_digest() != before
        (tmp_path / file).write_text("")


def test_what_gives_no_numbers_is_there():
    place = Path(protocol.__file__).parents[1]
    assert [name for name in protocol.NO_NUMBERS if not (place / name).exists()] == []


def test_a_fact_of_the_recipe_is_the_option_of_its_name(make, monkeypatch):
    """An option becomes a fact by one line in records."""
    monkeypatch.setattr(protocol, "RECIPE", (*protocol.RECIPE, "flip"))
    cell = make("train.flip=true", "train.clip_value=2.5")
    card = protocol.card(cell, cells.build_learner(cell.config, cell.dataset, cell.train_setting))
    assert card["flip"] is True and card["clip_value"] == 2.5
    assert card["augmentation"] == "flip" and card["lr_schedule"] == "cosine"
