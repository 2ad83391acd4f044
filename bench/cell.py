"""One cell: one learner, one data set, one setting, one seed; from checks to stored record."""

import hashlib
import json
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch
import yaml
from torch import Tensor
from tqdm import tqdm

from algorithms.learner import Learner, Shape
from bench import device as devices
from bench import precision, recipe, records, tensors
from bench.config import Code, Config, check_options, option
from bench.data import guard
from bench.data.cache import Folders
from bench.data.episodes import EpisodeSampler, check_shape
from bench.data.philox import key_of
from bench.data.pool import Dataset
from bench.evaluate import Scores, depends_on_places, evaluate, to_float
from bench.extensions import packages_of
from bench.files import Content
from bench.interrupt import Interrupt, at_work, listening
from bench.loggers import Log
from bench.memory import out_of_memory, tasks_at_once
from bench.migrate import SCHEMA
from bench.mistake import Failed, Lost, Mistake
from bench.stats import mean_ci95
from bench.store import Store
from bench.throughput import measure
from bench.train import OuterLoop, Training
from bench.workers import launcher
from bench.world import World, here

SAVE_SECONDS = 10.0
"""A training is saved when so much time has passed since it last was, so that no more is lost."""

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
    world: World

    @property
    def finished(self) -> bool:
        """Whether the store holds the result of this very cell."""
        record = self.store.record(self.name)
        return record is not None and record["status"] == "done"

    def standing(self) -> dict[str, Any] | None:
        """The record that a run would leave as it is, if there is one."""
        record = None if self.config.overwrite else self.store.record(self.name)
        again = record and record["status"] == "failed" and self.config.retry_failed
        return None if again else record


def check(config: Config) -> Cell:
    """Do all that can fail by a user's mistake, before any training; raises Mistake."""
    device = devices.choose(config.device)
    store = Store(config.results_dir)
    for group in ("algo", "backbone", "dataset"):
        check_options(getattr(config, group), group)
    dataset = load(Folders.of(config.data_root, config.cache_dir), config.dataset.model_dump_json())
    test = Shape(config.ways, config.shots, config.queries)
    plan = config.train
    training = Shape(plan.ways or test.ways, plan.shots or test.shots, plan.queries)
    for split, shape in ((plan.split, training), ("val", test), ("test", test)):
        pool = dataset.pool(split)
        try:
            check_shape(pool, shape)
        except Mistake as mistake:
            small = int(pool.sizes.min()) < shape.shots + shape.queries
            hint = " Or leave out small classes with dataset.min_images=..."
            more = hint if small and "min_images" in config.dataset.options else ""
            raise Mistake(f"In the {split} split of {dataset.name}, {mistake}{more}") from None
    learner = build_learner(config, dataset, training.ways)
    possible, reason = learner.supports(training, test)
    if not possible:
        raise Mistake(f"{config.algo.name} cannot be trained like that: {reason}.")
    recipe.check(plan, config.validation, learner)
    world = here()
    if world.size > 1 and config.dry_run:
        raise Mistake("dry_run=true foretells for one process: leave out torchrun.")
    if world.size > 1 and not learner.divisible:
        raise Mistake(f"{config.algo.name} takes tasks one after the other, in one process.")
    if plan.meta_batch < world.size:
        raise Mistake(
            f"{world.size} processes cannot share the {plan.meta_batch} episodes of a meta-batch: give "
            f"train.meta_batch={world.size} or more, or start fewer."
        )
    precision.check(config.precision, learner, device)

    name = name_of(config, dataset, device.type)
    if not config.overwrite:
        check_stored(store, name)
    return Cell(config, name, device, dataset, training, test, store, world)


@lru_cache(
    maxsize=1
)  # of a sweep's cells, most have that of the one before; large ones take minutes
def load(folders: Folders, chosen: str) -> Dataset:
    """The data set of a choice, given as JSON, once the leak guard has seen it; raises Mistake."""
    code = Code.model_validate_json(chosen)
    dataset: Dataset = code.resolve()(folders, **code.options)
    try:
        guard.check_once(dataset)
    except ValueError as error:
        raise Mistake(f"The data set {dataset.name} cannot be used: {error}.") from None
    return dataset


def check_stored(store: Store, name: str) -> None:
    """Raises Mistake when what is stored of a cell is no record, and would be overwritten."""
    try:
        store.record(name)
    except (ValueError, OSError) as error:
        raise Mistake(
            f"{store.runs / name / 'record.json'} is damaged ({error}): move it away, or run the cell "
            "again with overwrite=true."
        ) from None


def name_of(config: Config, dataset: Dataset, device_type: str) -> str:
    """The name of a cell, which ends with a digest of all that determines its numbers."""
    digest = digest_of(config.determining(), dataset.digest, device_type)
    return f"{task_of(config, dataset)}-seed{config.seed}-{digest}"


def task_of(config: Config, dataset: Dataset) -> str:
    """The learner, data set and setting in a name, such as ``maml-glyphs-5w1s``."""
    learner = config.algo.name.replace("/", ".")
    return f"{learner}-{dataset.name}-{config.ways}w{config.shots}s"


def digest_of(*facts: object) -> str:
    """Eight letters and digits that stand for these facts in a name."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def build_learner(config: Config, dataset: Dataset, ways: int) -> Learner:
    """The untrained learner on the CPU; its initial weights depend on the seed alone.

    It is made for so many ways, or for all training classes where it learns to tell those apart.
    """
    image_shape = tuple(dataset.splits["train"].images.shape[1:])
    method = config.algo.resolve()
    classes = sum(len(dataset.splits[part].names) for part in config.train.split.split("+"))
    outputs = classes if getattr(method, "learns_classes", False) else ways
    seed = key_of("initial weights", config.seed)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            backbone = config.backbone.resolve()(image_shape, **config.backbone.options)
            return method(backbone, outputs, **config.algo.options)
        except ValueError as error:
            raise Mistake(f"{config.algo.name} on {config.backbone.name}: {error}.") from None
        except Exception as error:
            if not out_of_memory(error):
                raise
            raise Mistake(
                f"{config.backbone.name} does not fit into memory; choose a smaller backbone."
            ) from None


def use_arithmetic(config: Config, learner: Learner) -> None:
    """Let the learner and this process compute as the configuration says."""
    if config.threads:
        torch.set_num_threads(config.threads)
    precision.use(config.precision, learner)
    devices.use_deterministic(config.deterministic)


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
    pools = {split: dataset.pool(split).to(device) for split in (config.train.split, "val", "test")}

    def sampler(split: str, shape: Shape, *axes: object) -> EpisodeSampler:
        return EpisodeSampler(pools[split], shape, (dataset.digest, split, *axes))

    # The seed is an axis of training alone: all runs are validated and tested on the same episodes.
    train_sampler = sampler(config.train.split, cell.train_shape, "training", config.seed)
    val_sampler = sampler("val", cell.test_shape, "validation")
    test_sampler = sampler("test", cell.test_shape, "test")
    learner = build_learner(config, dataset, cell.train_shape.ways).to(device)
    use_arithmetic(config, learner)
    learner.label_smoothing = config.train.label_smoothing
    learner.tasks_at_once = tasks_at_once(learner, to_float(train_sampler.draw(0, 1)))
    loop = OuterLoop(learner, train_sampler, config.train, cell.world)
    return Parts(learner, loop, val_sampler, test_sampler, EVALUATED_AT_ONCE[device.type])


def run(cell: Cell) -> dict[str, Any]:
    """Train, choose by validation, test once, measure speed, store; returns the record.

    Raises Failed when that cannot be done, see `fail`, and Unkept when it cannot be stored.
    """
    with closing(Log(cell.config, cell.name, cell.world.first)) as log:
        return _run(cell, log)


def _run(cell: Cell, log: Log) -> dict[str, Any]:
    config, device = cell.config, cell.device
    begun = time.monotonic()
    learner, loop, val_sampler, test_sampler, at_once = parts(cell)
    if depends_on_places(learner, val_sampler):
        raise Failed(
            "its predictions depend on the places of the queries, which come class by class"
        )
    training = Training(loop, config.validation.times)
    with listening() as interrupt:
        begun -= train(
            cell,
            training,
            val_sampler,
            at_once,
            interrupt,
            begun,
            lambda: log.validation(training.history),
        )

    assert training.best is not None
    learner.load_state_dict(training.best_state)
    tested = evaluate(learner, test_sampler, config.test.episodes, at_once, cell.world)
    if not tested.loss.isfinite().all():
        raise Failed("a prediction of a test episode is no number; a lower inner rate may help")
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
        cell.world,
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
        "selected_episode": training.best.episodes,
        "val_accuracy": training.best.val_accuracy,
        "train_episodes": loop.step * config.train.meta_batch,
        "train_seconds": training.seconds,
        "elapsed_seconds": time.monotonic() - begun,
        "throughput": speed,
    }
    extra: dict[str, Content] = {
        "checkpoint.pt": tensors.to_bytes(learner.state_dict()),
        "episodes.csv": numbered(tested, test_sampler).to_csv(index=False),
    }
    history = [each.asdict() for each in training.history]
    extra["history.csv"] = pd.DataFrame(history).to_csv(index=False)
    cell.store.write(cell.name, files(cell, record) | extra)
    log.result(record)
    return record


def fail(cell: Cell, reason: str) -> dict[str, Any]:
    """Store that a cell failed, and why: a result too; returns the record."""
    learner = build_learner(cell.config, cell.dataset, cell.train_shape.ways)
    record = protocol(cell, learner) | {"status": "failed", "reason": reason}
    cell.store.write(cell.name, files(cell, record))
    return record


def train(
    cell: Cell,
    training: Training,
    sampler: EpisodeSampler,
    at_once: int,
    interrupt: Interrupt,
    begun: float,
    validated: Callable[[], object] = lambda: None,
) -> float:
    """Train to the end, from where an interrupted run of this cell stood; raises Failed.

    Returns the seconds that earlier processes spent on the cell, up to when they last saved it; this
    one has ``begun`` then. Signals are held back until all is saved. ``validated`` is called
    after each validation, and what it raises ends the training.
    """
    config, learner = cell.config, training.loop.learner
    maker = [version("fewshot-bench"), commit(), str(torch.__version__), *packages(config)]
    saved = cell.world.from_first(lambda: _saved(cell))
    earlier = 0.0
    if saved and saved["maker"] == maker:
        training.load_state_dict(saved["training"])
        earlier = saved["elapsed"]
        print(f"{cell.name} goes on from step {training.loop.step:,} of {training.loop.steps:,}")
    elif saved:
        print(f"{cell.name} starts anew: what was saved of it is by another version")
    last = time.monotonic()

    def validate() -> Tensor:
        return evaluate(learner, sampler, config.validation.episodes, at_once, cell.world).accuracy

    def save() -> None:
        if not cell.world.first:
            return
        elapsed = earlier + time.monotonic() - begun
        state = {"maker": maker, "training": training.state_dict(), "elapsed": elapsed}
        try:
            cell.store.save_progress(cell.name, tensors.to_bytes(state))
        except OSError as error:  # room may come, and what was saved before is safe
            tqdm.write(f"{cell.name} could not be saved ({error.strerror})", sys.stderr)

    with (
        interrupt.held(),
        tqdm(
            total=len(training.ends),
            initial=len(training.history),
            desc=cell.name,
            unit="validation",
            # None: where the output is no terminal
            disable=True if at_work() or not cell.world.first else None,
        ) as bar,
    ):
        try:
            for found in training.run(
                validate, lambda: devices.synchronize(cell.device), interrupt.requested
            ):
                if found:
                    bar.update()
                    score = f"{found.episodes} episodes, val {found.val_accuracy:.1f} %"
                    bar.set_postfix_str(score)
                    if bar.disable and cell.world.first:  # a line among those of other cells
                        count = f"validation {len(training.history)} of {len(training.ends)}"
                        print(f"{cell.name}: {count}, {score}", file=sys.stderr)
                    validated()
                stopping = cell.world.any(interrupt.requested())
                if stopping or time.monotonic() - last > SAVE_SECONDS:
                    save()
                    last = time.monotonic()
                if stopping:
                    interrupt.request()
                    interrupt.obey()
        except Lost:
            save()
            raise
    return earlier


def _saved(cell: Cell) -> Any:
    """What was last saved of the cell, if it can be read."""
    path = cell.store.progress(cell.name)
    try:
        saved = path and tensors.read(path)
        if path and not (isinstance(saved, dict) and {"maker", "training"} <= set(saved)):
            raise ValueError("it holds no training")
        return saved
    except (ValueError, OSError) as error:
        print(f"{cell.name} starts anew: {path} is damaged ({error})")
        return None


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


def files(cell: Cell, record: dict[str, Any]) -> dict[str, Content]:
    """The files that every run leaves, finished or failed."""
    return {
        "config.yaml": yaml.safe_dump(cell.config.stored(), sort_keys=False),
        "record.json": json.dumps(records.check(record), indent=1) + "\n",
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
        "version": version("fewshot-bench"),
        **({"packages": ", ".join(used)} if (used := packages(config)) else {}),
        "commit": commit(),
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
