"""One cell: one learner, one data set, one setting, one seed; from checks to stored record."""

import hashlib
import io
import json
import platform
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import yaml
from tqdm import tqdm

from algorithms.learner import Learner, Shape
from bench import device as devices
from bench import precision
from bench.config import Config, Train, check_options
from bench.data import guard
from bench.data.cache import Folders
from bench.data.episodes import EpisodeSampler, check_shape
from bench.data.philox import key_of
from bench.data.pool import Dataset
from bench.evaluate import Scores, depends_on_places, evaluate, to_float
from bench.memory import tasks_at_once
from bench.migrate import SCHEMA
from bench.mistake import Mistake
from bench.stats import mean_ci95
from bench.store import Store
from bench.throughput import measure
from bench.train import Diverged, OuterLoop, train

EVALUATED_AT_ONCE = {"cpu": 16, "cuda": 100, "mps": 100}


@dataclass(frozen=True)
class Cell:
    """A checked cell, ready to run: nothing in it can still be a user's mistake."""

    config: Config
    name: str
    device: torch.device
    dataset: Dataset
    train_shape: Shape
    test_shape: Shape
    store: Store

    @property
    def finished(self) -> bool:
        """Whether the store holds the result of this very cell."""
        record = self.store.record(self.name)
        return record is not None and record["status"] == "done"


def check(config: Config) -> Cell:
    """Do all that can fail by a user's mistake, before any training; raises Mistake."""
    device = devices.choose(config.device)
    store = Store(config.results_dir)
    store.check_writable()
    for group in ("algo", "backbone", "dataset"):
        check_options(getattr(config, group), group)
    folders = Folders.of(config.data_root, config.cache_dir)
    dataset: Dataset = config.dataset.resolve()(folders, **config.dataset.options)
    try:
        guard.check_once(dataset)
    except ValueError as error:
        raise Mistake(f"The data set {dataset.name} cannot be used: {error}.") from None
    test = Shape(config.ways, config.shots, config.queries)
    plan = config.train
    training = Shape(plan.ways or test.ways, plan.shots or test.shots, plan.queries)
    for split, shape in (("train", training), ("val", test), ("test", test)):
        try:
            check_shape(dataset.splits[split], shape)
        except Mistake as mistake:
            raise Mistake(f"In the {split} split of {dataset.name}, {mistake}") from None
    learner = build_learner(config, dataset, training.ways)
    possible, reason = learner.supports(training, test)
    if not possible:
        raise Mistake(f"{config.algo.name} cannot be trained like that: {reason}.")
    precision.check(config.precision, learner, device)

    text = json.dumps([config.determining(), dataset.digest, device.type], sort_keys=True)
    digest = hashlib.sha256(text.encode()).hexdigest()[:8]
    name = (
        f"{config.algo.name.replace('/', '.')}-{dataset.name}-{test.ways}w{test.shots}s"
        f"-seed{config.seed}-{digest}"
    )
    return Cell(config, name, device, dataset, training, test, store)


def build_learner(config: Config, dataset: Dataset, ways: int) -> Learner:
    """The untrained learner on the CPU; its initial weights depend on the seed alone."""
    image_shape = tuple(dataset.splits["train"].images.shape[1:])
    seed = key_of("initial weights", config.seed)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            backbone = config.backbone.resolve()(image_shape, **config.backbone.options)
            return config.algo.resolve()(backbone, ways, **config.algo.options)
        except ValueError as error:
            raise Mistake(f"{config.algo.name} on {config.backbone.name}: {error}.") from None


class Parts(NamedTuple):
    """What a run is made of, on its device: an untrained learner and its episodes."""

    learner: Learner
    loop: OuterLoop
    val_sampler: EpisodeSampler
    test_sampler: EpisodeSampler
    at_once: int


def parts(cell: Cell) -> Parts:
    """The parts of a run that begins."""
    config, dataset, device = cell.config, cell.dataset, cell.device
    pools = {split: pool.to(device) for split, pool in dataset.splits.items()}

    def sampler(split: str, shape: Shape, *axes: object) -> EpisodeSampler:
        return EpisodeSampler(pools[split], shape, (dataset.digest, split, *axes))

    # The seed is an axis of training alone: all runs are validated and tested on the same episodes.
    train_sampler = sampler("train", cell.train_shape, "training", config.seed)
    val_sampler = sampler("val", cell.test_shape, "validation")
    test_sampler = sampler("test", cell.test_shape, "test")
    learner = build_learner(config, dataset, cell.train_shape.ways).to(device)
    precision.use(config.precision, learner)
    learner.tasks_at_once = tasks_at_once(learner, to_float(train_sampler.draw(0, 1)))
    loop = OuterLoop(learner, train_sampler, config.train)
    return Parts(learner, loop, val_sampler, test_sampler, EVALUATED_AT_ONCE[device.type])


def run(cell: Cell) -> dict[str, Any]:
    """Train, choose by validation, test once, measure speed, store; returns the record.

    A training that diverges is a result too: a record whose status is ``failed``, with the reason.
    """
    config, device = cell.config, cell.device
    learner, loop, val_sampler, test_sampler, at_once = parts(cell)
    if depends_on_places(learner, val_sampler):
        reason = "its predictions depend on the places of the queries, which come class by class"
        record = protocol(cell, learner) | {"status": "failed", "reason": reason}
        cell.store.write(cell.name, files(cell, record, []))
        return record
    history: list[dict[str, float]] = []
    chosen: dict[str, Any] = {}
    with tqdm(total=config.validation.times, desc=cell.name, unit="validation") as progress:
        try:
            for checkpoint, state in train(
                loop,
                lambda: (
                    evaluate(learner, val_sampler, config.validation.episodes, at_once).accuracy
                ),
                config.validation.times,
                lambda: devices.synchronize(device),
            ):
                history.append(checkpoint.asdict())
                if state is not None:
                    chosen = {"state": state, "checkpoint": checkpoint}
                progress.update()
                progress.set_postfix_str(
                    f"{checkpoint.episodes} episodes, val {checkpoint.val_accuracy:.1f} %"
                )
        except Diverged as error:
            record = protocol(cell, learner) | {"status": "failed", "reason": str(error)}
            cell.store.write(cell.name, files(cell, record, history))
            return record

    learner.load_state_dict(chosen["state"])
    tested = evaluate(learner, test_sampler, config.test.episodes, at_once)
    accuracy, ci95 = mean_ci95(tested.accuracy)
    speed = measure(
        learner,
        config.train,
        loop.sampler,
        test_sampler,
        at_once,
        device,
        config.precision,
        config.throughput.seconds,
    )
    record = protocol(cell, learner) | {
        "status": "done",
        "reason": None,
        "accuracy": accuracy,
        "ci95": ci95,
        "loss": tested.loss.mean().item(),
        "brier": tested.brier.mean().item(),
        "ece": tested.pooled_ece,
        "episodes": config.test.episodes,
        "episodes_digest": test_sampler.digest(config.test.episodes),
        "selected_episode": chosen["checkpoint"].episodes,
        "val_accuracy": chosen["checkpoint"].val_accuracy,
        "train_episodes": loop.step * config.train.meta_batch,
        "train_seconds": history[-1]["seconds"],
        "throughput": speed,
    }
    buffer = io.BytesIO()
    torch.save(learner.state_dict(), buffer)
    extra: dict[str, str | bytes] = {
        "checkpoint.pt": buffer.getvalue(),
        "episodes.csv": numbered(tested, test_sampler).to_csv(index=False),
    }
    cell.store.write(cell.name, files(cell, record, history) | extra)
    return record


def numbered(tested: Scores, sampler: EpisodeSampler) -> pd.DataFrame:
    """One row a test episode: how it went, and the numbers of its classes, a turned one as unturned."""
    count = len(tested.accuracy)
    classes = sampler.pool.unturned[sampler.classes(0, count)]
    return pd.DataFrame(
        {
            "episode": range(count),
            "accuracy": tested.accuracy,
            "loss": tested.loss,
            "ece": tested.ece,
            "brier": tested.brier,
            "classes": [" ".join(map(str, row)) for row in classes.tolist()],
        }
    )


def files(
    cell: Cell, record: dict[str, Any], history: list[dict[str, float]]
) -> dict[str, str | bytes]:
    """The files that every run leaves, finished or failed."""
    config = cell.config.model_dump(exclude={"results_dir", "data_root", "cache_dir", "dry_run"})
    return {
        "config.yaml": yaml.safe_dump(config, sort_keys=False),
        "history.csv": pd.DataFrame(history).to_csv(index=False),
        "record.json": json.dumps(record, indent=1) + "\n",
    }


def protocol(cell: Cell, learner: Learner) -> dict[str, Any]:
    """The protocol card: all that a reader needs to know which numbers may be compared."""
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
        "train_images": config.train.images,
        "meta_batch": config.train.meta_batch,
        "optimizer": config.train.optimizer,
        "rate": config.train.rate,
        "schedule": schedule(config.train),
        "validations": config.validation.times,
        "val_episodes": config.validation.episodes,
        "device": cell.device.type,
        "device_name": devices.describe(cell.device),
        "threads": torch.get_num_threads(),
        "precision": config.precision,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "version": version("fewshot-bench"),
        "commit": commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def schedule(train: Train) -> str:
    """How the step size of the outer loop falls, in words."""
    if train.schedule == "halving":
        return f"halving every {train.halving_steps} steps"
    return train.schedule


def commit() -> str | None:
    """The commit of this code, with ``+`` when files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        if git("ls-files", Path(__file__).name) == "":
            return None
        changed = git("status", "--porcelain", "--untracked-files=no", "--", ".", "../algorithms")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
