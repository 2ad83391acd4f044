"""``--help``, ``--cfg job``, and mistakes in the configuration, told in sentences.

The sentence on a configuration key is the comment above it in conf/, and nowhere else.
"""

import difflib
import re
from contextlib import suppress
from functools import cache
from pathlib import Path

import hydra
import yaml
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from bench.extensions import CONF, conf_files
from bench.mistake import Mistake, in_a_line

GROUPS = ("algo", "dataset", "backbone")
OTHERS = ("recipe", "tune", "experiment", "launcher", "logger")
HYDRA_MISTAKES = (HydraException, OmegaConfBaseException, yaml.MarkedYAMLError)

HELP = """\
Compare few-shot learners on the same episodes.

  python -m bench                                           one cell with the defaults below
  python -m bench algo=reptile dataset=omniglot             one cell
  python -m bench -m algo=maml,protonet shots=1,5 seed=0,1  a sweep over all combinations
  python -m bench -m launcher=joblib algo=maml,protonet     the same on all cores, see docs/engines/
  python -m bench algo=maml --cfg job                       the options of a cell; runs nothing
  python -m bench tune=optuna algo=maml,protonet            the same with options found by trials
  python -m bench experiment=paper/omniglot_maml_5w1s       as a paper did it, see claimed.md
  python -m bench ... dry_run=true                          how long that would take; runs nothing
  python -m bench.report                                    tables and figures anew, from stored runs
  python -m bench.probe                                     the stored runs under other conditions
  python -m bench.status                                    what became of each cell of the last sweep
  python -m bench.plan workers=8 ...                        what a sweep would take, from measured rows
  python -m bench.reproduce until=170m                      published cells, for so long
  python -m bench.verify                                    stored runs evaluated again: as stored?

Choices:
{choices}

Options, with their defaults (give them as key=value, such as ways=20 train.images=9000):

{options}"""


def wanted(arguments: list[str]) -> bool:
    """Whether the command line asks for help or for the options of a cell."""
    return bool({"-h", "--help"} & set(arguments)) or (
        {"-c", "--cfg"} & set(arguments) != set() and "job" in arguments
    )


def show(arguments: list[str]) -> int:
    """Print the help, or the options of the cell that the overrides describe; gives the status.

    Raises Mistake and what Hydra raises.
    """
    overrides = [a for a in arguments if not a.startswith("-") and a != "job"]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        options = annotated(hydra.compose("config", overrides))
    if {"-h", "--help"} & set(arguments):
        choices = "\n".join(
            f"  {group:10} {', '.join(names(group))}" for group in (*GROUPS, *OTHERS)
        )
        options = HELP.format(choices=choices, options=options)
    print(options)
    return 0


def names(group: str) -> list[str]:
    """What can be chosen in a group, such as ``maml`` in ``algo``; those in folders come last."""
    start = f"{group}/"
    found = (
        file.removeprefix(start).removesuffix(".yaml")
        for file in conf_files()
        if file.startswith(start)
    )
    return sorted(found, key=lambda name: ("/" in name, name))


def annotated(cfg: DictConfig) -> str:
    """A configuration as YAML, each key below its sentence."""
    files = conf_files()
    sentences: dict[str, str] = {}
    chosen = [f"{group}/{cfg[group].name}" for group in (*GROUPS, "logger") if cfg[group]]
    for name in ("config", *chosen, *(["tune/optuna"] if cfg.tune else [])):
        if file := files.get(f"{name}.yaml"):
            sentences |= read_sentences(file)

    def lines(node: DictConfig, path: str, indent: str) -> list[str]:
        out = []
        for key in map(str, node):
            full = f"{path}{key}"
            if full in sentences:
                out.append(f"{indent}# {sentences[full]}")
            value = node._get_node(key)
            if isinstance(value, DictConfig):
                out += [f"{indent}{key}:", *lines(value, full + ".", indent + "  ")]
            elif isinstance(value, ListConfig):
                out.append(f"{indent}{key}: {list(value)}")
            else:
                out.append(indent + OmegaConf.to_yaml({key: value}).strip())
        return out

    return "\n".join(lines(cfg, "", ""))


def read_sentences(file: Path) -> dict[str, str]:
    """The comment above each key of a YAML file, by the key's full path."""
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
    """The code that each name of a group stands for in conf/."""
    found = {}
    for name in names(group):
        with suppress(yaml.YAMLError):  # Hydra complains of it where it is chosen
            options = yaml.safe_load(conf_files()[f"{group}/{name}.yaml"].read_text())
            code = (options or {}).get(group) or {}
            if "target" in code:
                found[code.get("name", name)] = code["target"]
    return found


def no_such(choice: str) -> Mistake:
    """What to say of a choice, such as ``algo/mamml``, that there is not."""
    group, _, name = choice.partition("/")
    return Mistake(f"There is no {group} {name!r}; choose one of {', '.join(names(group))}.")


def ordered(arguments: list[str]) -> list[str]:
    """The same with -m in front: Hydra takes no overrides after a flag that follows others."""
    return sorted(arguments, key=lambda argument: argument not in ("-m", "--multirun"))


def check_choices(arguments: list[str]) -> None:
    """Raises Mistake where Hydra makes no sentence: a group is given nothing, a launcher no sweep."""
    sweep = bool({"-m", "--multirun"} & set(arguments))
    for argument in arguments:
        group, _, choices = argument.partition("=")
        if argument in ("launcher=null", "logger=null"):
            continue
        if group in (*GROUPS, *OTHERS):
            for choice in {"", "null"} & set(choices.split(",")):
                raise no_such(f"{group}/{choice}")
        if group in ("launcher", "logger", "until") and "," in choices:
            raise Mistake(f"A sweep has one {group}, not {choices}.")
        if group in (*GROUPS, *OTHERS) and "," in choices and not sweep:
            raise Mistake(f"{argument} is a sweep of several cells: add -m.")
        if group == "launcher" and not sweep:
            raise Mistake(f"{argument} runs the cells of a sweep: add -m.")


def no_option(key: str) -> Mistake:
    """What to say of a key, such as ``train.meta_bach``, that the chosen configuration has not."""
    known = {found: name for name, file in conf_files().items() for found in read_sentences(file)}
    if key in known and key.startswith("tune."):
        return Mistake(f"{key} is for sweeps that tune: add tune=optuna.")
    if key in known and key.startswith("hydra.launcher."):
        launcher = known[key].removesuffix(".yaml").replace("/", "=")
        return Mistake(f"{key} is for sweeps with another launcher: add {launcher}.")
    if key in known:
        return Mistake(
            f"There is no option {key!r} with these choices of {', '.join(GROUPS)}; "
            "add --cfg job to see the options there are."
        )
    close = difflib.get_close_matches(key, known, 1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    where = "docs/engines/ lists those of launchers"
    if not key.startswith("hydra."):
        where = "python -m bench --help lists all options"
    return Mistake(f"There is no option {key!r}; {hint}{where}.")


def explain(error: Exception) -> Mistake:
    """Hydra's complaint about an override as one sentence that says how to mend it."""
    if plugin := re.search(r"Could not find 'hydra/launcher/(submitit_)?(\w+)'", str(error)):
        return Mistake(
            f"launcher={plugin[2]} needs packages that are not installed: pip install "
            f"'fewshot-bench[{plugin[2]}]', or in a clone uv sync --extra {plugin[2]}."
        )
    if isinstance(error, yaml.MarkedYAMLError) and (at := error.problem_mark):
        return Mistake(f"Cannot read {at.name}, line {at.line + 1}: {error.problem}.")
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options:
        return no_such(error.missing_cfg_file)
    if nested := re.search(r"Could not find '((experiment|launcher|logger)/.+)'", str(error)):
        return no_such(nested[1])
    if isinstance(error, OverrideParseException):
        key, _, value = error.override.partition("=")
        return Mistake(
            f"Cannot read {error.override}; a value with signs such as ~ or letters beyond a to z takes "
            f"quotes of its own within those of the shell: '{key}=\"{value}\"'."
        )
    if several := re.search(r"Ambiguous value for argument '(.+)'", str(error)):
        key, _, value = several[1].partition("=")
        return Mistake(
            f"{several[1]} is a sweep of several cells: add -m. One list of these is {key}=[{value}]."
        )
    unknown = r"Key '\w+' (?:is not in struct|not in '\w+')\s+full_key: ([\w.]+)"
    if found := re.search(unknown, str(error.__cause__)):
        return no_option(found[1])
    why = f": {in_a_line(error.__cause__)}" if error.__cause__ else ""
    return Mistake(str(error).strip().splitlines()[0] + why)
