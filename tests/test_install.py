"""What is installed from a clone: the wheel, its command, its extras, and names that others have, too."""

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
import venv
from importlib.metadata import Distribution, distribution
from pathlib import Path

import fewshot_bench
import pytest
from packaging.requirements import Requirement

from bench.config.plugins import files_of
from bench.runs import protocol
from bench.runs.store import Store
from tests.test_command_line import SMALL

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
TEXTS = [ROOT / "README.md", *(f for d in ("algorithms", "bench", "conf", "docs", "tools")
         for f in (ROOT / d).rglob("*.*") if f.suffix in (".md", ".py", ".yaml", ".toml"))]  # fmt: skip


def run(*command: str | Path, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | environment
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


def link_packages(folder: Path, needed: list[str]) -> None:
    """Link the packages that are needed, of those installed here, into a folder."""
    here = Path(sysconfig.get_path("purelib"))
    requirements, names = [Requirement(each) for each in needed], set()
    for each in requirements:  # which grows
        if (each.name, *sorted(each.extras)) in names:
            continue
        names.add((each.name, *sorted(each.extras)))
        for text in distribution(each.name).requires or []:
            requirement = Requirement(text)
            marker = requirement.marker
            if not marker or any(marker.evaluate({"extra": e}) for e in ("", *each.extras)):
                requirements.append(requirement)
        for file in distribution(each.name).files or []:
            depth = 1 if (here / file.parts[0] / "__init__.py").exists() else 2  # a namespace
            link = folder.joinpath(*file.parts[:depth])
            if file.parts[0] != ".." and not link.exists():
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(here.joinpath(*file.parts[:depth]))


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """An environment with what ``pip install '.[joblib]'`` needs and installs, and no more."""
    home = tmp_path_factory.mktemp("environment")
    venv.create(home / "venv")
    packages = home / "packages"
    packages.mkdir()
    link_packages(packages, [*PROJECT["dependencies"], *EXTRAS["joblib"], "hatchling"])
    (site(home) / "packages.pth").write_text(f"{packages}\n")
    pip = [Path(sys.base_prefix) / "bin/python3", "-m", "pip", "--python", home / "venv"]
    offline = ["--no-index", "--no-build-isolation"]
    for what in (".", ".[joblib]"):
        done = run(*pip, "install", *offline, what, cwd=ROOT, PIP_FIND_LINKS="")
        assert done.returncode == 0, done.stderr
        assert "WARNING" not in done.stderr, "such as that there is no such extra"
    return home


def site(home: Path) -> Path:
    return next((home / "venv/lib").glob("python*/site-packages"))


@pytest.mark.slow
def test_the_wheel_has_what_is_ours_under_names_of_ours(installed):
    (facts,) = site(installed).glob("fewshot_bench-*.dist-info")
    files = Distribution.at(facts).files or []
    assert {file.parts[0] for file in files} - {"..", facts.name, "__pycache__"} == {
        *("algorithms", "bench", "fewshot_bench.py", "hydra_plugins")
    }
    assert {"algorithms/py.typed", "bench/py.typed"} <= set(map(str, files))
    assert files_of(site(installed) / "bench/conf") == files_of(ROOT / "conf")


@pytest.mark.slow
def test_an_installed_sweep_has_the_code_digest_of_the_clone(installed, tmp_path):
    """Also where other packages put files into our folders."""
    for file in ("algorithms/sorting.py", "bench/app.py"):
        (site(installed) / file).write_text("1 / 0\n")
    command = installed / "venv/bin/fewshot-bench"
    folders = [f"results_dir={tmp_path}", f"cache_dir={tmp_path / 'cache'}"]
    sweep = ["-m", "launcher=joblib", "hydra.launcher.n_jobs=2", "algo=protonet", "seed=0,1"]
    done = run(command, "run", *sweep, *SMALL, *folders, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    store = Store(tmp_path)
    records = [store.record(path.name) for path in store.runs.glob("[!.]*")]
    assert [(r["status"], r["launcher"]) for r in records] == [("done", "joblib")] * 2
    assert {r["code"] for r in records} == {protocol.source_digest()}
    done = run(command, "status", cwd=tmp_path)
    assert done.returncode == 2 and "error: " in done.stderr, "it has the status of the command"


@pytest.mark.parametrize("name", ["bench", "algorithms"])
@pytest.mark.parametrize("file", ["{}/__init__.py", "{}.py"])
def test_another_package_in_the_way_is_told_in_one_sentence(tmp_path, name, file):
    path = tmp_path / file.format(name)
    path.parent.mkdir(exist_ok=True)
    path.touch()
    way = [str(tmp_path), *(str(ROOT / p) for p in ("", "bench/cli/script"))]
    command = [sys.executable, "-c", "import fewshot_bench, sys; sys.exit(fewshot_bench.main())"]
    done = run(*command, "status", cwd=ROOT, PYTHONPATH=os.pathsep.join(way), PYTHONSAFEPATH="1")
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert f"Another package called {name} hides" in done.stderr and str(path) in done.stderr
    if name == "algorithms":
        done = run(sys.executable, "-m", "bench", cwd=tmp_path, PYTHONPATH=str(ROOT))
        assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
        assert "Another package called algorithms hides" in done.stderr


def test_the_command_has_each_command_of_bench(capsys, monkeypatch):
    files = [path for path in (ROOT / "bench").rglob("*.py") if path.name != "__init__.py"]
    guarded = [path for path in files if "\nif __name__ ==" in path.read_text(encoding="utf-8")]
    names = {path.parent.name if path.stem == "__main__" else path.stem for path in guarded}
    assert (names - {"bench", "speed"}) | {"run"} == set(fewshot_bench.COMMANDS)
    for arguments, status in ([[], 0], [["--help"], 0], [["algo=maml"], 2]):
        monkeypatch.setattr(sys, "argv", ["fewshot-bench", *arguments])
        assert fewshot_bench.main() == status
    said = capsys.readouterr()
    assert all(f"  {name} " in said.out for name in fewshot_bench.COMMANDS)
    assert said.err.startswith("error: There is no command 'algo=maml', but run, report")


def test_texts_name_extras_that_exist_in_a_clone():
    named = set()
    for path in TEXTS:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"pip install .?fewshot", text), f"{path}: no index has it"
        named |= set(re.findall(r"'\.\[(\w+)\]'", text))
    assert {"joblib", "onnx"} <= named <= set(EXTRAS)
