"""The protocol card of a cell: what its row says besides its results."""

import hashlib
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from algorithms.learner import Learner
from bench import device as devices
from bench import recipe
from bench.config import Config, option
from bench.extensions import packages_of
from bench.migrate import SCHEMA
from bench.version import commit, version
from bench.workers import launcher

if TYPE_CHECKING:
    from bench.cell import Cell


commit_at_start = cache(commit)
"""The commit of the code when this process first asked: each of a thousand cells does."""


NO_NUMBERS = {
    *("report", "check", "plan", "probe", "verify", "reproduce", "loggers"),
    *(
        "__main__.py",
        "status.py",
        "usage.py",
        "forecast.py",
        "journal.py",
        "until.py",
        "version.py",
    ),
}
"""Parts of `bench` that no number of a row depends on."""


def card(cell: "Cell", learner: Learner) -> dict[str, Any]:
    """All that a reader needs to know which numbers may be compared."""
    config = cell.config
    ways, shots, queries = cell.train_shape
    return {
        "schema": SCHEMA,
        "cell": cell.name,
        "algo": config.algo.name,
        "dataset": cell.dataset.name,
        "ways": cell.test_shape.ways,
        "shots": cell.test_shape.shots,
        "queries": cell.test_shape.queries,
        "seed": config.seed,
        "transductive": learner.transductive,
        "statistics": learner.statistics,
        "order": learner.order,
        "algo_options": config.algo.options,
        "data_digest": cell.dataset.digest,
        "backbone": config.backbone.name,
        "backbone_options": config.backbone.options,
        "parameters": sum(p.numel() for p in learner.parameters() if p.requires_grad),
        "train_ways": ways,
        "train_shots": shots,
        "train_queries": queries,
        **recipe.facts(config.train),
        "validations": config.validation.times,
        "val_episodes": config.validation.episodes,
        "device": cell.device.type,
        "device_name": devices.describe(cell.device),
        "threads": torch.get_num_threads(),
        "processes": cell.world.size,
        "launcher": launcher(),
        "precision": config.precision,
        "deterministic": config.deterministic,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "version": version(),
        **({"packages": ", ".join(used)} if (used := packages(config)) else {}),
        "code": code(),
        "commit": commit_at_start(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **tuned_facts(config),
    }


def tuned_facts(config: Config) -> dict[str, Any]:
    """What the protocol card says of how the options were found; nothing of a cell that is not tuned."""
    if not (tuned := config.tuned):
        return {}
    options = {name: option(config, name) for name in tuned.options}
    return {"tuning": tuned.budget, "tuned": tuned.model_dump() | {"options": options}}


def packages(config: Config) -> list[str]:
    """The packages of third parties, with their versions, that a cell runs code of."""
    return packages_of([code.target for code in (config.algo, config.backbone, config.dataset)])


def maker(config: Config) -> tuple[str, ...]:
    """What a cell is made by: our code, torch and the packages that it runs code of."""
    chosen = [each.target for each in (config.algo, config.backbone, config.dataset)]
    names = sorted({target.partition(".")[0] for target in chosen})
    return code(*names), str(torch.__version__), *packages(config)


def code(*packages: str) -> str:
    """Return a digest of the code that numbers depend on: ours, and that of these packages.

    Of ours, what reads finished cells, plans, watches or starts runs is left out.
    """
    digest = hashlib.sha256()
    for name in sorted({"bench", "algorithms", *packages}):
        spec = find_spec(name)
        if not spec:
            continue
        places = spec.submodule_search_locations or [str(spec.origin)]  # a package, or a file
        for place in map(Path, places):
            for path in sorted(sources(place)):
                if name == "bench" and path.relative_to(place).parts[0] in NO_NUMBERS:
                    continue
                digest.update(f"{name} {path.name} ".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def sources(place: Path) -> list[Path]:
    """The Python files of a folder, or that one file."""
    return list(place.rglob("*.py")) if place.is_dir() else [place]
