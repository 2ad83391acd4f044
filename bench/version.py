"""Which version of this code runs."""

import os
import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed
from pathlib import Path

from bench.mistake import Mistake

NAME = "fewshot-bench"


def version() -> str:
    """Return the version of the package, or of a copy that is not installed; raises Mistake."""
    try:
        return installed(NAME)
    except PackageNotFoundError:
        pass
    file = Path(__file__).parents[1] / "pyproject.toml"
    try:
        return str(tomllib.loads(file.read_text())["project"]["version"])
    except (OSError, ValueError, KeyError):
        raise Mistake(
            f"{NAME} is not installed, and {file} does not tell its version, which every row names: "
            "run pip install . in a clone, or copy pyproject.toml, too."
        ) from None


def commit() -> str | None:
    """Return the commit of this code, with ``+`` when files differ from it.

    Outside a checkout it is what BENCH_COMMIT says, for copies without ``.git``; None where nothing does.
    """

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if git("ls-files", Path(__file__).name):
            changed = git("status", "--porcelain", "--", ".", "../algorithms")
            return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        pass
    return os.environ.get("BENCH_COMMIT") or None
