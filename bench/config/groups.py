"""Available choices of each config group, and the comments that document config keys.

The description of a configuration key is the comment above it in conf/, and is kept nowhere else;
``--help`` and ``--cfg job`` print it.
"""

import re
from contextlib import suppress
from functools import cache
from pathlib import Path

import yaml

from bench.config.plugins import conf_files
from bench.core.errors import UserError

GROUPS = ("algo", "dataset", "backbone")
OTHERS = ("recipe", "tune", "experiment", "launcher", "logger")


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


@cache
def targets(group: str) -> dict[str, str]:
    """Return the code (``target``) of each choice of a group in conf/, by name."""
    found = {}
    for name in names(group):
        with suppress(yaml.YAMLError):  # Hydra reports it when it is chosen
            options = yaml.safe_load(conf_files()[f"{group}/{name}.yaml"].read_text())
            code = (options or {}).get(group) or {}
            if "target" in code:
                found[code.get("name", name)] = code["target"]
    return found


def no_such(choice: str) -> UserError:
    """Return the error for a choice, such as ``algo/mamml``, that does not exist."""
    group, _, name = choice.partition("/")
    return UserError(f"There is no {group} {name!r}; choose one of {', '.join(names(group))}.")
