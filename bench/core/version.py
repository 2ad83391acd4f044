"""The version of the running code."""

import os
import subprocess
import tomllib
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from importlib.metadata import version as installed
from pathlib import Path

from bench.core.errors import UserError

NAME = "fewshot-bench"


def version() -> str:
    """Return the version of the package, installed or not; raise UserError if it is unknown."""
    try:
        return installed(NAME)
    except PackageNotFoundError:
        pass
    file = Path(__file__).parents[2] / "pyproject.toml"
    try:
        return str(tomllib.loads(file.read_text())["project"]["version"])
    except (OSError, ValueError, KeyError):
        raise UserError(
            f"{NAME} is not installed, and {file} does not tell its version, which every row names: "
            "run pip install . in a clone, or copy pyproject.toml, too."
        ) from None


@cache
def installed_files() -> frozenset[Path]:
    """Return the files that were installed as ours; none of them is code where a clone is."""
    try:
        found = files(NAME) or []
    except PackageNotFoundError:
        return frozenset()
    return frozenset(Path(str(file.locate())).resolve() for file in found)


def commit() -> str | None:
    """Return the commit of this code, with ``+`` when files differ from it.

    Outside a checkout, for copies without ``.git``, it is the value of BENCH_COMMIT; None if that
    is not set.
    """

    def git(*arguments: str) -> str:
        here = Path(__file__).parents[1]
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if git("ls-files", "core/version.py"):
            changed = git("status", "--porcelain", "--", ".", "../algorithms")
            return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    return os.environ.get("BENCH_COMMIT") or None
