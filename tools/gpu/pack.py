"""``python -m tools.gpu.pack``: fill .gpu/ for a machine without network, index or git."""

import argparse
import lzma
import shutil
import subprocess
import tarfile
import tomllib
from pathlib import Path

from bench.config.compose import composed
from bench.config.schema import Component
from bench.core.version import commit
from bench.datasets.io.cache import DataDirs

ROOT = Path(__file__).parents[2]
PACKED = ROOT / ".gpu"
PACKAGES = [
    *(
        "annotated-types",
        "antlr4-python3-runtime",
        "cloudpickle",
        "filelock",
        "hydra-core",
        "jinja2",
    ),
    *("markupsafe", "narwhals", "nvidia-ml-py", "omegaconf", "packaging", "platformdirs", "plotly"),
    *("pydantic", "pydantic-core", "pyyaml", "tqdm", "typing-extensions", "typing-inspection"),
]
"""Packages needed besides torch, numpy, scipy, pandas, matplotlib and pillow, which are large."""
PEERS = ["gym", "gym-notices", "learn2learn", "qpth"]
PEERS += [
    "requests",
    "certifi",
    "charset-normalizer",
    "idna",
    "urllib3",
]  # imported by learn2learn
CVXPY = '"""A name that qpth imports, for a solver of it that nobody calls here."""\n'


def main() -> None:
    """Pack packages, data sets and the commit."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu.pack", description=__doc__)
    parser.add_argument("--data", nargs="*", default=["omniglot"], help="data sets (omniglot)")
    parser.add_argument(
        "--python", default="3.12", help="the machine's Python (3.12), or one here of that version"
    )
    parser.add_argument("--no-peers", action="store_true", help="without learn2learn")
    given = parser.parse_args()
    PACKED.mkdir(exist_ok=True)
    pack_packages(given.python, [] if given.no_peers else PEERS)
    pack_data(given.data)
    known = commit()
    (PACKED / "commit").write_text(known or "")
    for path in sorted(path for path in PACKED.iterdir() if path.is_file()):
        print(f"{path.stat().st_size / 2**20:8.1f} MiB  {path.relative_to(ROOT)}")
    if not known or known.endswith("+"):
        print(f"Rows will name the commit {known}: commit first, then pack.")


def pins(names: list[str]) -> list[str]:
    """Return the requirements to which pyproject.toml pins these packages."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    pinned = {pin.partition("==")[0]: pin for pin in settings["constraint-dependencies"]}
    return [pinned[name] for name in names]


def pack_packages(python: str, peers: list[str]) -> None:
    """Install the packages into a folder for this Python version, and pack it."""
    site = PACKED / "site"
    shutil.rmtree(site, ignore_errors=True)
    install = ["uv", "pip", "install", "--quiet", "--no-deps", "--python", python]
    # uv reads from pyproject.toml how learn2learn is built.
    wanted = pins([*PACKAGES, *peers])
    subprocess.run([*install, "--target", str(site), *wanted], cwd=ROOT, check=True)
    if peers:
        shutil.rmtree(site / "tests", ignore_errors=True)  # learn2learn's tests would shadow ours
        (site / "cvxpy.py").write_text(CVXPY)
    with tarfile.open(PACKED / "site.tar.gz", "w:gz") as archive:
        archive.add(site, "site")
    shutil.rmtree(site)


def pack_data(names: list[str]) -> None:
    """Prepare data sets and pack the result, so that no archive has to be transferred."""
    cache = PACKED / "cache"
    for old in PACKED.glob("*.pt.xz"):
        old.unlink()
    for name in names:
        chosen = Component.model_validate(composed(f"dataset={name}")["dataset"])
        chosen.resolve()(DataDirs.of(cache_dir=str(cache)), **chosen.options)
    for path in cache.rglob("*.pt"):
        packed = PACKED / f"{path.name}.xz"
        packed.write_bytes(lzma.compress(path.read_bytes(), preset=6))
    shutil.rmtree(cache, ignore_errors=True)


if __name__ == "__main__":
    main()
