"""Available choices of each config group, and the comments that document config keys.

The description of a configuration key is the comment above it in conf/, and is kept nowhere else;
``--help`` and ``--cfg job`` print it.
"""

import re
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from bench.config.plugins import conf_files
from bench.core.errors import UserError

GROUPS = ("algo", "dataset", "backbone")
OTHERS = ("encoder", "recipe", "tune", "experiment", "launcher", "logger")


def names(group: str) -> list[str]:
    """Return the choices of a group, such as ``maml`` in ``algo``; those in folders come last."""
    start = f"{group}/"
    found = (
        file.removeprefix(start).removesuffix(".yaml")
        for file in conf_files()
        if file.startswith(start)
    )
    return sorted(found, key=lambda name: ("/" in name, name))


def read_sentences(file: Path) -> dict[str, str]:
    """Return the comment above each key of a YAML file, by the full path of the key."""
    sentences: dict[str, str] = {}
    path: list[str] = []
    comment: list[str] = []
    for line in file.read_text().splitlines():
        if found := re.match(r"\s*# (?!@)(.*)", line):
            comment.append(found[1])
        elif found := re.match(r"(\s*)([a-z_]+):", line):
            path = [*path[: len(found[1]) // 2], found[2]]
            if comment:
                sentences[".".join(path)] = " ".join(comment)
            comment = []
        else:
            comment = []
    return sentences


def sources(group: str, name: str) -> list[Path]:
    """Return the files that a choice is composed from: those in its defaults list, then its own."""
    if not (file := conf_files().get(f"{group}/{name}.yaml")):
        return []
    bases = [each for each in _read(file).get("defaults") or [] if isinstance(each, str)]
    return [*(each for base in bases for each in sources(group, base)), file]


def sentences_of(group: str, name: str) -> dict[str, str]:
    """Return the comment above each key of a choice; its own file's replace those of the others."""
    found: dict[str, str] = {}
    for file in sources(group, name):
        found |= read_sentences(file)
    return found


@cache
def targets(group: str) -> dict[str, str]:
    """Return the code (``target``) of each choice of a group in conf/, by name."""
    found = {}
    for name in names(group):
        code: dict[str, str] = {}
        for file in sources(group, name):
            code |= _read(file).get(group) or {}
        if "target" in code:
            found[code.get("name", name)] = code["target"]
    return found


def _read(file: Path) -> dict[str, Any]:
    """Return the content of a YAML file; empty if it is not YAML, which Hydra reports."""
    with suppress(yaml.YAMLError):
        return yaml.safe_load(file.read_text()) or {}
    return {}


def no_such(choice: str) -> UserError:
    """Return the error for a choice, such as ``algo/mamml``, that does not exist."""
    group, _, name = choice.partition("/")
    return UserError(f"There is no {group} {name!r}; choose one of {', '.join(names(group))}.")
