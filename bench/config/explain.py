"""Readable messages for errors in overrides and choices."""

import difflib
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from bench.config.groups import GROUPS, OTHERS, no_such, read_sentences
from bench.config.plugins import conf_files
from bench.core.errors import UserError, one_line

HYDRA_MISTAKES = (HydraException, OmegaConfBaseException, yaml.MarkedYAMLError)
MISTAKES = (UserError, *HYDRA_MISTAKES)


def check_choices(arguments: list[str]) -> None:
    """Raise UserError for choices on which Hydra's own message would be unclear.

    Examples are a group without a choice, and a launcher without a sweep.
    """
    sweep = bool({"-m", "--multirun"} & set(arguments))
    if {"backbone", "encoder"} <= {argument.partition("=")[0] for argument in arguments}:
        raise UserError("backbone=... and encoder=... are one choice: give one of them.")
    for argument in arguments:
        group, _, choices = argument.partition("=")
        if argument in ("launcher=null", "logger=null"):
            continue
        if group in (*GROUPS, *OTHERS):
            for choice in {"", "null"} & set(choices.split(",")):
                raise no_such(f"{group}/{choice}")
        if group in ("launcher", "logger", "until") and "," in choices:
            raise UserError(f"A sweep has one {group}, not {choices}.")
        if group in (*GROUPS, *OTHERS) and "," in choices and not sweep:
            raise UserError(f"{argument} is a sweep of several cells: add -m.")
        if group == "launcher" and not sweep:
            raise UserError(f"{argument} runs the cells of a sweep: add -m.")


def no_option(key: str) -> UserError:
    """Return the error for a key, such as ``train.meta_bach``, that does not exist."""
    known = {found: name for name, file in conf_files().items() for found in read_sentences(file)}
    if key in known and key.startswith("tune."):
        return UserError(f"{key} is for sweeps that tune: add tune=optuna.")
    if key in known and key.startswith("hydra.launcher."):
        launcher = known[key].removesuffix(".yaml").replace("/", "=")
        return UserError(f"{key} is for sweeps with another launcher: add {launcher}.")
    if key in known:
        return UserError(
            f"There is no option {key!r} with these choices of {', '.join(GROUPS)}; "
            "add --cfg job to see the options there are."
        )
    close = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    where = "docs/engines/ lists those of launchers"
    if not key.startswith("hydra."):
        where = "python -m bench --help lists all options"
    return UserError(f"There is no option {key!r}; {hint}{where}.")


def explain(error: Exception) -> UserError:
    """Return an error of Hydra about an override as one sentence that says how to fix it."""
    if plugin := re.search(r"Could not find 'hydra/launcher/(submitit_)?(\w+)'", str(error)):
        return UserError(
            f"launcher={plugin[2]} needs packages that are not installed: pip install "
            f"'.[{plugin[2]}]' in a clone of this project."
        )
    if isinstance(error, yaml.MarkedYAMLError) and (at := error.problem_mark):
        return UserError(f"Cannot read {at.name}, line {at.line + 1}: {error.problem}.")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return no_such(error.missing_cfg_file)
    if nested := re.search(r"Could not find '((experiment|launcher|logger)/.+)'", str(error)):
        return no_such(nested[1])
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        return UserError(
            f"Cannot read {error.override}; a value with signs such as ~ or letters beyond a to z takes "
            f"quotes of its own within those of the shell: '{key}=\"{value}\"'."
        )
    if several := re.search(r"Ambiguous value for argument '(.+)'", str(error)):
        key, _, value = several[1].partition("=")
        return UserError(
            f"{several[1]} is a sweep of several cells: add -m. One list of these is {key}=[{value}]."
        )
    unknown = r"Key '\w+' (?:is not in struct|not in '\w+')\s+full_key: ([\w.]+)"
    if found := re.search(unknown, str(error.__cause__)):
        return no_option(found[1])
    why = f": {one_line(error.__cause__)}" if error.__cause__ else ""
    return UserError(str(error).strip().splitlines()[0] + why)


@contextmanager
def explained() -> Iterator[None]:
    """Raise `HYDRA_MISTAKES` within the context as a UserError."""
    try:
        yield
    except HYDRA_MISTAKES as error:
        raise explain(error) from None


def report(error: Exception) -> int:
    """Print one of `MISTAKES` as a sentence to standard error and return the exit status for it."""
    mistake = error if isinstance(error, UserError) else explain(error)
    print(f"error: {mistake}", file=sys.stderr)
    return mistake.status
