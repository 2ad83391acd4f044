"""One cell: one learner, one data set, one setting, one seed; checked, named, and made of its parts."""

import hashlib
import json
import os
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from algorithms.learner import Learner, Shape
from bench import device as devices
from bench import precision, protocol, recipe, records
from bench.config import Code, Config, Train, check_options
from bench.data import guard
from bench.data.cache import Folders
from bench.data.episodes import EpisodeSampler, check_shape
from bench.data.philox import key_of
from bench.data.pool import Dataset
from bench.evaluate import to_float
from bench.memory import out_of_memory, tasks_at_once
from bench.mistake import Mistake, with_place
from bench.store import Store
from bench.train import OuterLoop, steps_of
from bench.usage import names, targets
from bench.version import version
from bench.world import World, here

EVALUATED_AT_ONCE = {"cpu": 16, "cuda": 100, "mps": 100}
FAR = 10
"""So many times what the budget of training allows is a mistake; less is rounding."""
THREADS_A_CORE = 16
"""More than this is a mistake, also where a sweep is checked on another machine than it runs on."""


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
    shares_training: bool = False
    """Whether its training is kept for other cells, or may be that of another one, see `bench.kept`."""

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


def check(config: Config, dataset: Dataset | None = None) -> Cell:
    """Do all that can fail by a user's mistake, before any training; raises Mistake.

    ``dataset`` is that of the configuration, where it is at hand.
    """
    version()
    device = devices.choose(config.device)
    store = Store(config.results_dir)
    for group in ("algo", "backbone", "dataset"):
        check_options(getattr(config, group), group)
    check_names(config)
    check_threads(config.threads)
    if dataset is None:
        folders = Folders.of(config.data_root, config.cache_dir)
        dataset = load(folders, config.dataset.model_dump_json())
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
    if plan.images:
        check_budget(plan, config.validation.times, training)
    learner = build_learner(config, dataset, training.ways)
    if not learner.trainable:
        plan = plan.model_copy(update={"images": 0})
        config = config.model_copy(update={"train": plan})
    possible, reason = learner.supports(training, test)
    if not possible:
        raise Mistake(f"{config.algo.name} cannot be trained like that: {reason}.")
    recipe.check(plan, config.validation, learner)
    world = here()
    if world.size > 1 and config.dry_run:
        raise Mistake("dry_run=true foretells for one process: leave out torchrun.")
    if world.size > 1 and plan.images and not learner.divisible:
        raise Mistake(f"{config.algo.name} takes tasks one after the other, in one process.")
    if plan.images and plan.meta_batch < world.size:
        raise Mistake(
            f"{world.size} processes cannot share the {plan.meta_batch} episodes of a meta-batch: give "
            f"train.meta_batch={world.size} or more, or start fewer."
        )
    precision.check(config.precision, learner, device)

    name = name_of(config, dataset, device.type)
    if not config.overwrite:
        check_stored(store, name)
    cell = Cell(config, name, device, dataset, training, test, store, world)
    try:
        records.check_card(protocol.card(cell, learner))
    except ValueError as error:
        raise Mistake(f"The results of this cell could not be stored: {error}.") from None
    return cell


def check_names(config: Config) -> None:
    """Raises Mistake where a name of conf/ stands for other code, or its code has another name."""
    for group in ("algo", "backbone", "dataset"):
        code: Code = getattr(config, group)
        known = targets(group)
        if known.get(code.name, code.target) != code.target:
            raise Mistake(
                f"{group}.name={code.name} is that of {known[code.name]}, not of {code.target}: give "
                f"this a name of its own with {group}.name=..."
            )
        if code.name not in known and code.target in known.values():
            own = " or ".join(name for name, target in known.items() if target == code.target)
            raise Mistake(
                f"{group}.name={code.name} is not possible: {code.target} is called {own}."
            )


def check_threads(threads: int | None) -> None:
    """Raises Mistake for more threads than any machine of a cluster like this one has use for."""
    cores = os.cpu_count() or 1
    if threads and threads > THREADS_A_CORE * cores:
        raise Mistake(
            f"threads={threads} is far more than the {cores} cores here: give threads={cores}, or leave "
            "it out."
        )


def check_budget(plan: Train, validations: int, shape: Shape) -> None:
    """Raises Mistake where a step, or the number of validations, is far beyond the budget of training.

    The budget is rounded up to a step, and a validation to the end of one, so that a little is none.
    """
    episode = shape.ways * (shape.shots + shape.queries)
    images = plan.meta_batch * episode
    if images > FAR * plan.images:
        raise Mistake(
            f"train.meta_batch={plan.meta_batch} episodes of {episode:,} images are {images:,} images "
            f"an outer step, where train.images={plan.images} are all there shall be: give "
            f"train.meta_batch={max(1, plan.images // episode)} or more images."
        )
    steps = steps_of(plan, shape)
    if validations > FAR * steps:
        raise Mistake(
            f"validation.times={validations} is far more than the {steps:,} outer steps of "
            f"train.images={plan.images}: give validation.times={steps} or less."
        )


@lru_cache(
    maxsize=1
)  # of a sweep's cells, most have that of the one before; large ones take minutes
def load(folders: Folders, chosen: str) -> Dataset:
    """The data set of a choice, given as JSON, once the leak guard has seen it; raises Mistake."""
    code = Code.model_validate_json(chosen)
    try:
        dataset = code.resolve()(folders, **code.options)
    except Mistake:
        raise
    except (Exception, SystemExit) as error:
        raise Mistake(f"{code.name} cannot be prepared: {with_place(error)}.") from None
    if not isinstance(dataset, Dataset):
        raise Mistake(f"{code.target} gives {dataset!r:.50} where it should give a Dataset.")
    if dataset.name != code.name and dataset.name in names("dataset"):
        raise Mistake(
            f"{code.target} calls its data set {dataset.name}, which is the name of another one: let it "
            "give a Dataset with a name of its own."
        )
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
            learner = method(backbone, outputs, **config.algo.options)
        except ValueError as error:
            raise Mistake(f"{config.algo.name} on {config.backbone.name}: {error}.") from None
        except (Exception, SystemExit) as error:
            why = (
                f"{config.algo.name} on {config.backbone.name} cannot be made: {with_place(error)}."
            )
            if out_of_memory(error):
                why = f"{config.backbone.name} does not fit into memory; choose a smaller backbone."
            raise Mistake(why) from None
    if not all(each.numel() for each in learner.parameters()):
        raise Mistake(
            f"{config.backbone.name} with {config.backbone.options} has a layer of nothing: options "
            "that count filters or units should be 1 or more."
        )
    return learner


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
    if config.train.images:
        learner.tasks_at_once = tasks_at_once(learner, to_float(train_sampler.draw(0, 1)))
    loop = OuterLoop(learner, train_sampler, config.train, cell.world)
    return Parts(learner, loop, val_sampler, test_sampler, EVALUATED_AT_ONCE[device.type])
