"""Packages of third parties: the template of docs/, built, installed and run; and broken ones."""

import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from bench.check.command import main as check
from bench.cli import help
from bench.config import groups, plugins
from bench.config.compose import _composed, composed
from bench.core.errors import UserError
from bench.status import main as status
from bench.verify import main as verify
from tests.bench.small import SMALL

ROOT = Path(__file__).parents[3]
TEMPLATE = ROOT / "docs" / "plugin-template"
CHOICES = ["algo=acme_cosine", "dataset=acme_tiles"]


def forget() -> None:
    """What is installed is looked up once a process."""
    plugins.extensions.cache_clear()
    composed.cache_clear()
    _composed.cache_clear()
    groups.targets.cache_clear()


@pytest.fixture(autouse=True)
def looked_up_anew():
    forget()
    yield
    forget()


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """A folder in which the template's wheel is installed."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=TEMPLATE, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    zipfile.ZipFile(built).extractall(folder / "installed")
    return folder / "installed"


@pytest.fixture
def installed(wheel, monkeypatch) -> Path:
    monkeypatch.syspath_prepend(str(wheel))
    return wheel


@pytest.fixture(scope="module")
def ran(wheel, tmp_path_factory) -> list[str]:
    """The folders of a cell of the template's learner on its data set, run as a user would."""
    folders = [f"{key}={tmp_path_factory.mktemp(key)}" for key in ("results_dir", "cache_dir")]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *SMALL, *CHOICES, *folders],
        cwd=ROOT,
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(wheel)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "acme_cosine" in done.stdout
    return folders


@pytest.mark.slow
def test_a_cell_of_a_package_is_run_and_its_row_names_the_package(ran):
    (path,) = Path(ran[0].partition("=")[2]).glob("runs/*/record.json")
    record = json.loads(path.read_text())
    assert record["packages"] == "acme-fewshot 0.1.0"
    assert record["algo_options"] == {"temperature": 10.0}


def test_a_cell_of_a_package_is_verified_only_where_that_is_installed(
    ran, wheel, capsys, monkeypatch
):
    assert verify(ran) == 1
    assert "which conf/algo/ does not know; if it is of another package, install" in (
        capsys.readouterr().out
    )
    monkeypatch.syspath_prepend(str(wheel))
    forget()
    assert verify(ran) == 0
    assert status([*SMALL, *CHOICES, *ran]) == 0


def test_help_shows_what_a_package_brings(installed, capsys):
    assert help.show(["--help", *CHOICES]) == 0
    shown = capsys.readouterr().out
    assert "acme_cosine, anil" in shown
    assert (
        "  # What cosines are multiplied by at first; it is learned.\n  temperature: 10.0" in shown
    )
    assert "acme_tiles" in str(groups.no_such("dataset/acme"))


def test_tuning_finds_the_ranges_that_a_package_brings(installed):
    space = composed("tune=optuna", *CHOICES)["tune"]["space"]
    assert space["algo"]["temperature"] == {"low": 1.0, "high": 100.0, "scale": "log"}


@pytest.mark.slow
def test_what_a_package_brings_obeys_the_laws(installed, capsys):
    assert check(CHOICES) == 0
    assert " ok, 3 skipped." in capsys.readouterr().out


def package(folder: Path, name: str, *files: str, module: str | None = None) -> None:
    """Install a package of a module of its name with these files of configurations."""
    facts = folder / f"{name}-1.0.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (facts / "entry_points.txt").write_text(f"[fewshot_bench]\n{name} = {module or name}\n")
    for file in files:
        path = folder / name / "conf" / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("packages", "sentence"),
    [
        ({"one": ["algo/maml.yaml"]}, "one brings conf/algo/maml.yaml, which this suite has, too"),
        (
            {"one": ["algo/new.yaml"], "two": ["algo/new.yaml"]},
            "two brings conf/algo/new.yaml, which one has, too",
        ),
        ({"one": []}, "one names the module 'one' for its learners .* there is no folder conf"),
    ],
)
def test_a_package_that_cannot_be_used_gets_one_sentence(
    tmp_path, monkeypatch, capsys, packages, sentence
):
    for name, files in packages.items():
        package(tmp_path, name, *files)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=f"^The package {sentence}"):
        groups.names("algo")
    assert status(["algo=maml"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert check(["algo=maml"]) == 2


def test_code_beside_the_module_of_the_entry_point_is_of_its_package_too(tmp_path, monkeypatch):
    package(tmp_path, "one", "algo/new.yaml")
    (tmp_path / "one-1.0.dist-info" / "top_level.txt").write_text("one\nbeside\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert plugins.packages_of(["one.a.A", "algorithms.b.B"]) == ["one 1.0"]
    assert plugins.packages_of(["beside.A", "beside.B", "bench.c"]) == ["one 1.0"]
    assert plugins.packages_of(["algorithms.b.B"]) == []


LEARNERS = """
from __future__ import annotations

from algorithms.protonet import ProtoNet


class Own: ...


class Untyped(ProtoNet):
    def __init__(self, backbone, ways, *, sharpness=1.0): ...


class Odd(ProtoNet):
    def __init__(self, backbone, ways, *, sharpness: Own = None): ...


class WithoutWays(ProtoNet):
    def __init__(self, backbone, *, initial_scale: float | None = None): ...


def nothing(folders): ...


def failing(folders):
    raise RuntimeError("no such archive")
"""


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("algo.target=one.syntax.A", "cannot be loaded from 'one.syntax.A': SyntaxError: .*line 1"),
        ("algo.target=one.name.A", r"'one.name.A': NameError: name 'b' is not .* \(name.py:2\)"),
        ("algo.target=one.own.Untyped", "has options without a type: sharpness"),
        ("algo.target=one.own.Odd", "has an option of a type that cannot be checked: Pydantic"),
        (
            "algo.target=one.own.WithoutWays",
            "mine on conv4 cannot be made: TypeError: .*3 .*were",
        ),
        ("dataset.target=one.own.nothing", "one.own.nothing gives None where it should give"),
        ("dataset.target=one.own.failing", r"RuntimeError: no such archive \(own.py:\d+\)"),
    ],
)
def test_the_faults_of_an_author_get_one_sentence(tmp_path, monkeypatch, make, override, sentence):
    (folder := tmp_path / "one").mkdir()
    for file, code in (("syntax", "a = ("), ("name", "a = 1\na = b"), ("own", LEARNERS)):
        (folder / f"{file}.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UserError, match=sentence) as mistake:
        make(override, f"{override.partition('.')[0]}.name=mine")
    assert "\n" not in str(mistake.value)


def test_a_file_of_a_package_that_is_no_yaml_is_named(tmp_path, monkeypatch, capsys):
    package(tmp_path, "one", "algo/odd.yaml")
    file = tmp_path / "one" / "conf" / "algo" / "odd.yaml"
    file.write_text("algo: [1")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert status(["algo=odd"]) == 2
    said = capsys.readouterr().err
    assert said.startswith("error: Cannot read") and "odd.yaml" in said and said.count("\n") == 1
