"""The arguments of the commands that fit a learner to a folder of images or texts."""

from collections.abc import Collection
from typing import NamedTuple

from bench.core.errors import UserError
from bench.runs.load import FewShot, from_backbone, load

KEYS = ("support", "data_root", "cache_dir")


class Arguments(NamedTuple):
    """The values of a command's keys, the runs, and the overrides of a cell."""

    values: dict[str, str]
    runs: list[str]
    overrides: list[str]


def parse(command: str, arguments: list[str], needed: Collection[str], *others: str) -> Arguments:
    """Return the arguments of a command, which has these keys besides `KEYS`.

    Raises:
        UserError: An argument is unknown or has no value, or one that is ``needed`` is missing, or
            there is not one learner.
    """
    parsed = Arguments({}, [], [])
    for argument in arguments:
        key, found, value = argument.partition("=")
        if not found and not argument.startswith("-"):
            parsed.runs.append(argument)
        elif key in (*KEYS, *needed, *others) and value:
            parsed.values[key] = value
        elif value and key.partition(".")[0] in ("algo", "backbone", "encoder"):
            parsed.overrides.append(argument)
        else:
            raise UserError(f"Cannot read the argument {argument!r}; see {command} --help.")
    if missing := [key for key in needed if key not in parsed.values]:
        raise UserError(f"Give {missing[0]}=...; see {command} --help.")
    if len(parsed.runs) + bool(parsed.overrides) != 1:
        raise UserError(
            "Give one stored run, or backbone=... for a head on a pretrained and frozen backbone."
        )
    return parsed


def learner_of(arguments: Arguments) -> FewShot:
    """Return the learner of the arguments, not fitted yet; raise UserError."""
    folders = {key: arguments.values.get(key) for key in ("data_root", "cache_dir")}
    if arguments.runs:
        return load(arguments.runs[0], **folders)
    places = [f"{key}={value}" for key, value in folders.items() if value]
    return from_backbone([*arguments.overrides, *places])
