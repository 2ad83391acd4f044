"""Third-party packages that provide learners, backbones, data sets or experiments.

A package registers itself by an entry point in its ``pyproject.toml``::

    [project.entry-points.fewshot_bench]
    acme = "acme_fewshot"

whose module has a folder ``conf`` with the same layout as ours, such as ``conf/algo/acme.yaml``.
"""

from functools import cache
from importlib.metadata import EntryPoint, entry_points, packages_distributions, version
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from bench.core.errors import UserError

BENCH = Path(__file__).parents[1]
CONF = BENCH / "conf" if (BENCH / "conf").is_dir() else BENCH.parent / "conf"
"""The folder of configurations: the wheel has it in bench/, a clone beside it."""
ENTRY_POINTS = "fewshot_bench"


class Extension(NamedTuple):
    """An installed package: its name, version, module, and folder of configurations."""

    name: str
    version: str
    module: str
    conf: Path


@cache
def extensions() -> tuple[Extension, ...]:
    """Return the installed extensions by name, without importing them.

    Raises:
        UserError: If two of them, or one and this suite, have a configuration file of one name.
    """
    found = sorted(extension(point) for point in entry_points(group=ENTRY_POINTS))
    owners = dict.fromkeys(files_of(CONF), "this suite")
    for each in found:
        for file in files_of(each.conf):
            if (owner := owners.setdefault(file, each.name)) != each.name:
                raise UserError(
                    f"The package {each.name} brings conf/{file}, which {owner} has, too: rename it "
                    "there, or uninstall the package."
                )
    return tuple(found)


def extension(point: EntryPoint) -> Extension:
    """Return the package of an entry point; raise UserError if it has no folder ``conf``."""
    assert point.dist is not None  # always set by entry_points()
    try:
        spec = find_spec(point.module)
    except ImportError:  # the parent package does not exist
        spec = None
    folders = spec.submodule_search_locations if spec else None
    for folder in folders or ():
        if (conf := Path(folder).resolve() / "conf").is_dir():
            return Extension(point.dist.name, point.dist.version, point.module, conf)
    raise UserError(
        f"The package {point.dist.name} names the module {point.module!r} for its learners and data "
        "sets, where there is no folder conf: fix its entry point, or uninstall the package."
    )


def files_of(conf: Path) -> list[str]:
    """Return the names of all files in a folder of configurations, such as ``algo/maml.yaml``."""
    return sorted(path.relative_to(conf).as_posix() for path in conf.rglob("*.yaml"))


def conf_files() -> dict[str, Path]:
    """Return every file of conf/ and of extensions, by a name such as ``algo/maml.yaml``."""
    folders = [CONF, *(each.conf for each in extensions())]
    return {file: conf / file for conf in folders for file in files_of(conf)}


def packages_of(targets: list[str]) -> list[str]:
    """Return the third-party packages of some targets with versions, as ``acme-fewshot 0.1.0``."""
    modules = {target.partition(".")[0] for target in targets} - {"algorithms", "bench"}
    found = {f"{each.name} {each.version}" for each in extensions()
             if each.module.partition(".")[0] in modules}  # fmt: skip
    for module in modules - {each.module.partition(".")[0] for each in extensions()}:
        for name in packages_distributions().get(module, ()):
            found.add(f"{name} {version(name)}")
    return sorted(found)
