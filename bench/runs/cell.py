"""One cell: one learner, one data set, one setting, one seed; validated, named and built."""

import hashlib
import json
import os
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

import torch

from algorithms.backbones import Backbone
from algorithms.backbones.encoder import Encoder
from algorithms.learner import Learner, Setting
from bench.config.groups import names, targets
from bench.config.schema import Component, Config, Train, check_options
from bench.core.errors import UserError, with_location
from bench.core.philox import key_of
from bench.core.version import version
from bench.datasets import features
from bench.datasets.features import CachedFeatures
from bench.datasets.io.cache import DataDirs
from bench.engine import device as devices
from bench.engine import optimizer, precision
from bench.engine.distributed import ProcessGroup, process_group
from bench.engine.evaluate import to_float
from bench.engine.memory import choose_chunk_size, out_of_memory
from bench.engine.train import OuterLoop, steps_of
from bench.runs import protocol, records
from bench.runs.store import Store
from bench.tasks import leaks
from bench.tasks.base import Domain, TaskSource
from bench.tasks.episodes import EpisodeSampler, check_setting, episodes_of
from bench.tasks.pool import Dataset

EVAL_BATCH_SIZE = {"cpu": 16, "cuda": 100, "mps": 100}
FAR = 10
"""Beyond this multiple of what the training budget allows, a value is a user error; below, it is
rounding."""
THREADS_A_CORE = 16
"""More threads per core are a user error, even if a sweep is checked on another machine than it
runs on."""


@dataclass(frozen=True)
class Cell:
    """A validated cell, ready to run: no user errors are left in its configuration."""

    config: Config
    name: str
    device: torch.device
    dataset: Dataset
    train_setting: Setting
    test_setting: Setting
    store: Store
    world: ProcessGroup
    shares_training: bool = False
    """Whether its training is cached for other cells, or may come from another (`training_cache`)."""

    @property
    def finished(self) -> bool:
        """Whether the store holds the result of exactly this cell."""
        record = self.store.record(self.name)
        return record is not None and record["status"] == "done"

    def existing_record(self) -> dict[str, Any] | None:
        """Return the record that a run would keep rather than replace, or None."""
        record = None if self.config.overwrite else self.store.record(self.name)
        again = record and record["status"] == "failed" and self.config.retry_failed
        return None if again else record


def check(config: Config, dataset: Dataset | None = None) -> Cell:
    """Validate a configuration before any training and return its cell.

    ``dataset`` is the data set of the configuration, if it is already loaded.

    Raises:
        UserError: Anything that can fail because of the user's configuration.
    """
    version()
    device = devices.resolve(config.device)
    store = Store(config.results_dir)
    for group in ("algo", "backbone", "dataset"):
        check_options(getattr(config, group), group)
    check_names(config)
    check_threads(config.threads)
    if dataset is None:
        folders = DataDirs.of(config.data_root, config.cache_dir)
        dataset = load(folders, config.dataset.model_dump_json())
    check_ways(config, dataset)
    check_inputs(config, dataset)
    config, dataset = with_encoding(config, dataset, device)
    test = Setting(config.ways, config.shots, config.queries)
    plan = config.train
    training = Setting(plan.ways or test.ways, plan.shots or test.shots, plan.queries)
    needed = [(plan.split, training), ("val", test), ("test", test)]
    if dataset.domain.tests_all:
        check_untrained(config, dataset)
        training = test = test._replace(queries=0)
        needed = [("test", test)]
    for split, setting in needed:
        pool = dataset.pool(split)
        try:
            check_setting(pool, setting, dataset.domain)
        except UserError as mistake:
            small = int(pool.sizes.min()) < setting.shots + setting.queries
            least = f"min_{dataset.examples}"
            hint = f" Or leave out small classes with dataset.{least}=..."
            more = hint if small and least in config.dataset.options else ""
            raise UserError(f"In the {split} split of {dataset.name}, {mistake}{more}") from None
    if plan.examples:
        check_budget(plan, config.validation.times, training)
    learner = build_learner(config, dataset, training)
    if learner.requires_classes and not dataset.domain.has_classes:
        raise UserError(
            f"{config.algo.name} needs tasks with classes, and those of {dataset.name} have none: choose "
            "a learner such as maml, reptile or r2d2."
        )
    if learner.learns_by_acting != dataset.domain.by_acting:
        kind = "is learned by acting" if dataset.domain.by_acting else "has examples to learn from"
        choice = "maml_rl or reptile_rl" if dataset.domain.by_acting else "maml or reptile"
        raise UserError(
            f"{dataset.name} {kind}, which {config.algo.name} does not do: choose a learner such as "
            f"{choice}."
        )
    if learner.requires_targets and dataset.domain.has_classes:
        raise UserError(
            f"{config.algo.name} needs examples with targets of their own, as in a regression, and "
            f"{dataset.name} has classes: choose a learner such as maml, protonet or baseline."
        )
    if not learner.trainable:
        plan = plan.model_copy(update={"examples": 0})
        config = config.model_copy(update={"train": plan})
    possible, reason = learner.supports(training, test)
    if not possible:
        raise UserError(f"{config.algo.name} cannot be trained like that: {reason}.")
    optimizer.validate(plan, config.validation, learner)
    if (
        plan.examples
        and (dataset.encoding or not dataset.has_images)
        and optimizer.augmentation(plan) != "none"
    ):
        raise UserError(
            f"Images alone are augmented, and the learner sees none of {dataset.name}: leave "
            "train.crop_padding, train.flip and train.jitter alone, as recipe=plain does."
        )
    world = process_group()
    if world.size > 1 and config.dry_run:
        raise UserError("dry_run=true estimates the time of one process: leave out torchrun.")
    if world.size > 1 and plan.examples and not learner.supports_data_parallel:
        raise UserError(f"{config.algo.name} takes tasks one after the other, in one process.")
    if plan.examples and plan.meta_batch < world.size:
        raise UserError(
            f"{world.size} processes cannot share the {plan.meta_batch} episodes of a meta-batch: give "
            f"train.meta_batch={world.size} or more, or start fewer."
        )
    precision.validate(config.precision, learner, device)

    name = name_of(config, dataset, device.type)
    if not config.overwrite:
        check_stored(store, name)
    cell = Cell(config, name, device, dataset, training, test, store, world)
    try:
        records.check_card(protocol.card(cell, learner))
    except ValueError as error:
        raise UserError(f"The results of this cell could not be stored: {error}.") from None
    return cell


def with_encoding(config: Config, dataset: Dataset, device: torch.device) -> tuple[Config, Dataset]:
    """Return the data set with features if the backbone is a frozen encoder.

    The configuration gets the digest of its weights. Raises UserError.
    """
    folders = DataDirs.of(config.data_root, config.cache_dir)
    encoder = features.encoder_of(config.backbone.model_dump_json(), folders, device)
    if encoder is None:
        return config, replace(dataset, encoding=None) if dataset.encoding else dataset
    if not encoder.reads_texts and not dataset.has_images:
        raise UserError(f"{config.backbone.name} encodes images, and {dataset.name} has none.")
    if "digest" in config.backbone.options:
        backbone = Component(**config.backbone.model_dump() | {"digest": encoder.digest[:16]})
        config = config.model_copy(update={"backbone": backbone})
    encoding = None
    if encoder.frozen:
        encoding = CachedFeatures(replace(dataset, encoding=None), encoder, folders.cache, device)
    return config, replace(dataset, encoding=encoding)


def check_untrained(config: Config, dataset: Dataset) -> None:
    """Raise UserError if a learner of few classes would be trained, for which there are none."""
    if getattr(config.algo.resolve(), "trains_backbone", True):
        classes = len(dataset.splits["test"].names)
        raise UserError(
            f"{config.algo.name} has to be trained, and the {classes} classes of {dataset.name} are too "
            "few for that: all of them are tested. Choose a head on a pretrained backbone, such as "
            "algo=ridge backbone=onnx, or on that of a stored run (backbone=run), or give three times as "
            "many classes as ways."
        )


def check_inputs(config: Config, dataset: Dataset) -> None:
    """Raise UserError if the backbone reads texts and the examples are none, or the other way round."""
    network = config.backbone.resolve()
    if getattr(network, "reads_texts", False) == dataset.has_texts:
        return
    if dataset.has_texts:
        raise UserError(
            f"{config.backbone.name} reads no texts, and {dataset.name} has nothing else: choose an "
            f"encoder of texts, {' or '.join(f'encoder={name}' for name in names('encoder'))}."
        )
    raise UserError(f"{config.backbone.name} reads texts, and {dataset.name} has none.")


def check_ways(config: Config, dataset: Dataset) -> None:
    """Raise UserError if ways are given for tasks without classes, or missing for others."""
    if dataset.domain.has_classes and not config.ways:
        raise UserError(
            f"Tasks of {dataset.name} have classes: give ways=5, or as many as they have."
        )
    if not dataset.domain.has_classes and (config.ways or config.train.ways):
        raise UserError(
            f"Tasks of {dataset.name} have no classes: leave ways and train.ways out, or give null."
        )


def check_names(config: Config) -> None:
    """Raise UserError if a name of conf/ stands for other code, or its code has another name."""
    for group in ("algo", "backbone", "dataset"):
        code: Component = getattr(config, group)
        known = targets(group)
        if known.get(code.name, code.target) != code.target:
            raise UserError(
                f"{group}.name={code.name} is that of {known[code.name]}, not of {code.target}: give "
                f"this a name of its own with {group}.name=..."
            )
        if code.name not in known and code.target in known.values():
            own = " or ".join(name for name, target in known.items() if target == code.target)
            raise UserError(f"{group}.name={code.name} is invalid: {code.target} is called {own}.")


def check_threads(threads: int | None) -> None:
    """Raise UserError for more threads than any machine of a cluster like this one could use."""
    cores = os.cpu_count() or 1
    if threads and threads > THREADS_A_CORE * cores:
        raise UserError(
            f"threads={threads} is far more than the {cores} cores here: give threads={cores}, or leave "
            "it out."
        )


def check_budget(plan: Train, validations: int, setting: Setting) -> None:
    """Raise UserError if a step, or the number of validations, is far beyond the training budget.

    The budget is rounded up to a full step, and a validation to the end of a step, so a small
    excess is allowed.
    """
    episode = setting.examples
    examples = plan.meta_batch * episode
    if examples > FAR * plan.examples:
        raise UserError(
            f"train.meta_batch={plan.meta_batch} episodes of {episode:,} examples are {examples:,} "
            f"an outer step, where train.examples={plan.examples} are all there shall be: give "
            f"train.meta_batch={max(1, plan.examples // episode)} or more examples."
        )
    steps = steps_of(plan, setting)
    if validations > FAR * steps:
        raise UserError(
            f"validation.times={validations} is far more than the {steps:,} outer steps of "
            f"train.examples={plan.examples}: give validation.times={steps} or less."
        )


@lru_cache(
    maxsize=1
)  # consecutive cells of a sweep usually share the data set; large ones take minutes
def load(folders: DataDirs, chosen: str) -> Dataset:
    """Return the data set of a choice, given as JSON, after the leak check; raise UserError."""
    code = Component.model_validate_json(chosen)
    try:
        dataset = code.resolve()(folders, **code.options)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(f"{code.name} cannot be prepared: {with_location(error)}.") from None
    if not isinstance(dataset, Dataset):
        raise UserError(f"{code.target} gives {dataset!r:.50} where it should give a Dataset.")
    if dataset.name != code.name and dataset.name in names("dataset"):
        raise UserError(
            f"{code.target} calls its data set {dataset.name}, which is the name of another one: let it "
            "give a Dataset with a name of its own."
        )
    try:
        leaks.check_once(dataset)
    except ValueError as error:
        raise UserError(f"The data set {dataset.name} cannot be used: {error}.") from None
    return dataset


def check_stored(store: Store, name: str) -> None:
    """Raise UserError if the stored record of a cell is damaged, as it would be overwritten."""
    try:
        store.record(name)
    except (ValueError, OSError) as error:
        raise UserError(
            f"{store.runs / name / 'record.json'} is damaged ({error}): move it away, or run the cell "
            "again with overwrite=true."
        ) from None


def name_of(config: Config, dataset: Dataset, device_type: str) -> str:
    """Return the name of a cell, which ends with a digest of all that determines its results."""
    digest = digest_of(config.identity(), *digests_of(dataset), device_type)
    return f"{task_of(config, dataset)}-seed{config.seed}-{digest}"


def digests_of(dataset: Dataset) -> list[str]:
    """Return the digests of what a learner sees, and a cell's numbers depend on."""
    seen = [dataset.original_digest] if dataset.encoding and dataset.original_digest else []
    return [dataset.digest, *seen]


def task_of(config: Config, dataset: Dataset) -> str:
    """Return the learner, data set and setting part of a name, such as ``maml-glyphs-5w1s``."""
    learner = config.algo.name.replace("/", ".")
    ways = f"{config.ways}w" if config.ways else ""
    return f"{learner}-{dataset.name}-{ways}{config.shots}s"


def digest_of(*facts: object) -> str:
    """Return a digest of these facts for use in a name, eight hexadecimal digits."""
    text = json.dumps(facts, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def build_learner(config: Config, dataset: Dataset, setting: Setting) -> Learner:
    """Return the untrained learner on the CPU; its initial weights depend on the seed alone.

    It is built for the outputs of training tasks in a ``setting``, or for all training classes if
    it trains a classifier of those.
    """
    outputs = outputs_of(config, dataset, setting)
    encoder = dataset.encoding.encoder if dataset.encoding else None
    return make_learner(config, dataset.domain, outputs, dataset.input_shape, encoder)


def outputs_of(config: Config, dataset: Dataset, setting: Setting) -> int:
    """Return the outputs that `build_learner` makes a learner for."""
    if getattr(config.algo.resolve(), "trains_classifier", False):
        return len(training_classes(config, dataset))
    return dataset.domain.outputs(setting, dataset.splits["train"].targets)


def training_classes(config: Config, dataset: Dataset) -> tuple[str, ...]:
    """Return the names of all classes that are trained on."""
    return sum((dataset.splits[part].names for part in config.train.split.split("+")), ())


def make_learner(
    config: Config,
    domain: Domain,
    outputs: int,
    input_shape: tuple[int, ...],
    encoder: Encoder | None,
) -> Learner:
    """Return an untrained learner on the CPU for inputs of a shape.

    If there is an ``encoder``, they are its features.
    """
    method = config.algo.resolve()
    seed = key_of("initial weights", config.seed)[0]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            adapts = getattr(method, "trains_backbone", True)
            backbone = encoder.backbone(adapts) if encoder else make_backbone(config, input_shape)
            learner: Learner = method(backbone, outputs, **config.algo.options)
            learner.loss = domain.loss(config.train.label_smoothing)
        except ValueError as error:
            raise UserError(f"{config.algo.name} on {config.backbone.name}: {error}.") from None
        except (Exception, SystemExit) as error:
            why = f"{config.algo.name} on {config.backbone.name} cannot be made: {with_location(error)}."
            if out_of_memory(error):
                why = f"{config.backbone.name} does not fit into memory; choose a smaller backbone."
            raise UserError(why) from None
    if not all(each.numel() for each in learner.parameters()):
        raise UserError(
            f"{config.backbone.name} with {config.backbone.options} has a layer of nothing: options "
            "that count filters or units should be 1 or more."
        )
    return learner


def make_backbone(config: Config, input_shape: tuple[int, ...]) -> Backbone:
    """Return a new backbone."""
    folders = DataDirs.of(config.data_root, config.cache_dir)
    return features.make_backbone(config.backbone, input_shape, folders)


def use_arithmetic(config: Config, learner: Learner) -> None:
    """Apply the configured threads, precision and determinism to the learner and this process."""
    if config.threads:
        torch.set_num_threads(config.threads)
    precision.apply(config.precision, learner)
    devices.use_deterministic(config.deterministic)


class Components(NamedTuple):
    """Components of a run, on its device: an untrained learner and its episodes."""

    learner: Learner
    loop: OuterLoop
    val_source: TaskSource
    test_source: TaskSource
    eval_batch_size: int


def build_components(cell: Cell) -> Components:
    """Build the components of a new run."""
    config, dataset, device = cell.config, cell.dataset, cell.device

    def source(split: str, setting: Setting, *axes: object) -> EpisodeSampler:
        if dataset.domain.tests_all:  # nothing is trained, nor selected
            split = "test"
        return episodes_of(dataset, split, setting, device, *axes)

    # Only training episodes depend on the seed: all runs share validation and test episodes.
    train_source = source(config.train.split, cell.train_setting, "training", config.seed)
    val_source = source("val", cell.test_setting, "validation")
    test_source = source("test", cell.test_setting, "test")
    learner = build_learner(config, dataset, cell.train_setting).to(device)
    use_arithmetic(config, learner)
    if config.train.examples:
        learner.chunk_size = choose_chunk_size(learner, to_float(train_source.draw(0, 1)))
    loop = OuterLoop(learner, train_source, config.train, cell.world)
    return Components(learner, loop, val_source, test_source, EVAL_BATCH_SIZE[device.type])


def training_digest(cell: Cell) -> str:
    """Return a digest that is equal for cells whose training is identical, step by step.

    It covers all that determines a cell's results except the setting of its validations and its
    test, their numbers of episodes, and the options that its learner needs for nothing else; plus
    the device and the number of threads, which affect the rounding of sums.
    """
    config = cell.config
    options = config.identity()
    for key in ("ways", "shots", "queries", "test"):
        del options[key]
    del options["validation"]["episodes"]
    for key in getattr(config.algo.resolve(), "test_options", ()):
        options["algo"].pop(key, None)
    shape = list(cell.train_setting)  # training ways or shots may default to those of the test
    machine = devices.describe(cell.device), config.threads or torch.get_num_threads()
    return digest_of(
        options,
        shape,
        *digests_of(cell.dataset),
        cell.device.type,
        machine,
        protocol.code_fingerprint(config),
    )
