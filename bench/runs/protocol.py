"""Protocol card of a cell: all entries of its row except the results."""

import hashlib
import platform
from datetime import UTC, datetime
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from hydra.core.hydra_config import HydraConfig

from algorithms.backbones.encoder import Encoder
from algorithms.learner import Learner
from bench.config.plugins import packages_of
from bench.config.schema import Config, option
from bench.core.version import commit, installed_files, version
from bench.engine import device as devices
from bench.engine import optimizer
from bench.runs.records import SCHEMA, Role, facts

if TYPE_CHECKING:
    from bench.runs.cell import Cell


RECIPE = facts(Role.RECIPE)
"""Facts of training; those that are named like an option of ``train`` are that option."""

commit_at_start = cache(commit)
"""The commit of the code when this process first asked, cached for sweeps of thousands of cells."""


NO_NUMBERS = {
    *("report", "check", "cli", "loggers", "sweep/plan", "sweep/plugins", "sweep/reproduce"),
    "__main__.py",
    *("export.py", "plan.py", "predict.py", "probe.py", "reproduce.py", "status.py", "verify.py"),
    *("config/explain.py", "config/groups.py", "core/until.py", "core/version.py"),
    *("runs/arguments.py", "runs/estimator.py", "runs/export.py", "runs/load.py"),
    *("runs/predict.py", "runs/result.py"),
    *("runs/probe.py", "runs/transfer.py", "runs/verify.py"),
    *("sweep/forecast.py", "sweep/journal.py", "sweep/status.py"),
}
"""Parts of `bench` that do not affect the results of a row."""


def card(cell: "Cell", learner: Learner) -> dict[str, Any]:
    """Return the facts that a reader needs to know which results may be compared."""
    config = cell.config
    ways, shots, queries = cell.train_setting
    return {
        "schema": SCHEMA,
        "cell": cell.name,
        "algo": config.algo.name,
        "dataset": cell.dataset.name,
        "ways": cell.test_setting.ways,
        "shots": cell.test_setting.shots,
        "queries": cell.test_setting.queries or None,
        "seed": config.seed,
        "transductive": learner.transductive,
        "norm_statistics": learner.norm_statistics,
        "order": learner.order,
        "algo_options": config.algo.options,
        "metric": cell.dataset.domain.metric.model_dump(),
        "examples": cell.dataset.examples,
        "data_digest": cell.dataset.digest,
        **({"left_out": cell.dataset.left_out} if cell.dataset.left_out else {}),
        "backbone": config.backbone.name,
        "backbone_options": backbone_options(config),
        **({"pretrained": said} if (said := pretrained(cell, learner)) else {}),
        "parameters": sum(p.numel() for p in learner.parameters() if p.requires_grad),
        "train_ways": ways,
        "train_shots": shots,
        "train_queries": queries,
        **{key: value for key, value in config.train if key in RECIPE},
        **optimizer.facts(config.train),
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
        "code": source_digest(),
        "commit": commit_at_start(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **tuned_facts(config),
    }


OF_WEIGHTS = ("path", "weights", "digest", "trained_on", "license")
"""Options of a backbone on which a row has the fact ``pretrained``."""


def backbone_options(config: Config) -> dict[str, Any]:
    """Return the options of the backbone, without those of pretrained weights."""
    return {key: at for key, at in config.backbone.options.items() if key not in OF_WEIGHTS}


def pretrained(cell: "Cell", learner: Learner) -> str | None:
    """Return what a row says of pretrained weights, None if all began at random."""
    if cell.dataset.encoding:
        return cell.dataset.encoding.encoder.pretrained
    networks = (each for each in learner.modules() if isinstance(each, Encoder))
    return next((each.pretrained for each in networks), None)


def tuned_facts(config: Config) -> dict[str, Any]:
    """Return the protocol card's entries on tuning; empty for a cell that is not tuned."""
    if not (tuned := config.tuned):
        return {}
    options = {name: option(config, name) for name in tuned.options}
    return {"tuning": tuned.budget, "tuned": tuned.model_dump() | {"options": options}}


def packages(config: Config) -> list[str]:
    """Return the third-party packages whose code a cell runs, with their versions."""
    return packages_of([code.target for code in (config.algo, config.backbone, config.dataset)])


def code_fingerprint(config: Config) -> tuple[str, ...]:
    """Return a fingerprint of our code, torch and the plug-in packages that a cell runs."""
    chosen = [each.target for each in (config.algo, config.backbone, config.dataset)]
    names = sorted({target.partition(".")[0] for target in chosen})
    return source_digest(*names), str(torch.__version__), *packages(config)


def source_digest(*packages: str) -> str:
    """Return a digest of the source code that affects results: ours, and that of these packages.

    Of ours, the parts that read finished cells, or plan, monitor or start runs are left out.
    """
    digest = hashlib.sha256()
    for name in sorted({"bench", "algorithms", *packages}):
        spec = find_spec(name)
        if not spec:
            continue
        places = spec.submodule_search_locations or [str(spec.origin)]  # a package, or a module
        for place in (Path(each).resolve() for each in places):
            for path in sorted(sources(place)):
                part = path.relative_to(place)
                if name == "bench" and NO_NUMBERS & {p.as_posix() for p in (part, *part.parents)}:
                    continue
                digest.update(f"{name} {path.name} ".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def sources(place: Path) -> list[Path]:
    """Return the Python files of a folder, or that one file; of an installed one of ours, ours alone."""
    if not place.is_dir():
        return [place]
    found = [path.resolve() for path in place.rglob("*.py")]
    return [path for path in found if path in installed_files()] or found


def launcher() -> str:
    """Return the name of the Hydra launcher that started this process's cell."""
    if not HydraConfig.initialized():
        return "basic"
    return str(HydraConfig.get().runtime.choices["hydra/launcher"])
