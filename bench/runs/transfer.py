"""Stored runs on the test episodes of other data sets than the one they were trained on."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from torch.nn.functional import pad

from bench.config import schema
from bench.config.compose import composed
from bench.config.groups import names, no_such
from bench.core.errors import UserError
from bench.datasets.features import CachedFeatures
from bench.datasets.io.cache import DataDirs
from bench.datasets.io.resize import resize_pool
from bench.engine.evaluate import evaluate
from bench.runs import cell as cells
from bench.runs.probe import trained
from bench.tasks.episodes import check_setting, episodes_of
from bench.tasks.leaks import check_once, fingerprints
from bench.tasks.pool import Dataset


class Shift(NamedTuple):
    """Result on another data set; ``seen`` is the share of its examples (%) that were not new."""

    dataset: str
    data_digest: str
    episodes: int
    episodes_digest: str
    score: float
    ci95: float
    seen: float


def load(wanted: list[str], folders: DataDirs, options: Sequence[str] = ()) -> list[Dataset]:
    """Return the data sets of these names with the defaults of conf/.

    ``options`` such as ``dataset.path=photos/`` apply to a single data set.

    Raises:
        UserError: A data set is unknown or cannot be used. Hydra's exceptions are passed on.
    """
    if options and len(wanted) != 1:
        raise UserError(
            f"{options[0]} is an option of one data set; name that alone, as in datasets=folder."
        )
    found = []
    for name in dict.fromkeys(wanted):
        if name not in names("dataset"):
            raise no_such(f"dataset/{name}")
        code = schema.Component.model_validate(composed(f"dataset={name}", *options)["dataset"])
        schema.check_options(code, "dataset")
        dataset: Dataset = code.resolve()(folders, **code.options)
        try:
            check_once(dataset)
        except ValueError as error:
            raise UserError(f"The data set {name} cannot be used: {error}.") from None
        found.append(dataset)
    return found


def others(cell: cells.Cell, datasets: list[Dataset]) -> list[Dataset]:
    """Return those not trained on; raise UserError if one has no episodes of the run's shape."""
    found = [dataset for dataset in datasets if dataset.name != cell.dataset.name]
    for dataset in found:
        if dataset.has_texts != cell.dataset.has_texts:
            raise UserError(
                f"{cell.name} was trained on {cell.dataset.examples}, and {dataset.name} has "
                f"{dataset.examples}."
            )
        try:
            check_setting(dataset.splits["test"], cell.test_setting, dataset.domain)
        except UserError as mistake:
            raise UserError(
                f"{cell.name} cannot be tested on {dataset.name} as on its own data set: {mistake}"
            ) from None
    return found


def shifts(
    cell: cells.Cell, checkpoint: dict[str, Any], datasets: list[Dataset], episodes: int
) -> Iterator[Shift]:
    """Yield the results of one run on the test episodes of other data sets.

    The episodes are the same for all learners: those that learners of that data set are tested on,
    in the test shape of this run. Only their examples are converted, see `as_seen`.
    """
    learner = trained(cell, checkpoint)
    for dataset in datasets:
        source = episodes_of(as_seen(cell, dataset), "test", cell.test_setting, cell.device, "test")
        tested = evaluate(learner, source, episodes, cells.EVAL_BATCH_SIZE[cell.device.type])
        yield Shift(
            dataset.name,
            dataset.digest,
            episodes,
            source.digest(episodes),
            *dataset.domain.interval(tested),
            share_seen(cell.dataset, dataset),
        )


def as_seen(cell: cells.Cell, dataset: Dataset) -> Dataset:
    """Return another data set as the learner of a run sees it: encoded, or of the shape of the run's.

    Images are resized; texts, which are bytes, are cut or followed by zeros.
    """
    if isinstance(encoding := cell.dataset.encoding, CachedFeatures):
        return replace(dataset, encoding=replace(encoding, dataset=dataset))
    test, (_, *shape) = dataset.splits["test"], cell.dataset.splits["test"].inputs.shape
    if dataset.has_texts:
        test = replace(test, inputs=pad(test.inputs, (0, shape[0] - test.inputs.shape[1])))
    else:
        channels, height, width = shape
        test = resize_pool(test, (channels, height, width))
    return replace(dataset, splits=dataset.splits | {"test": test})


def share_seen(trained_on: Dataset, tested_on: Dataset) -> float:
    """Return the share of test examples, in percent, that occur in the other's training or validation.

    Images are compared pixel by pixel: this finds those of CIFAR-FS in FC100, but not a photograph
    that was downscaled in another way. Texts are compared by their words. It is computed once per
    process for each pair of contents.
    """
    both = (trained_on.digest, tested_on.digest)
    if both not in _seen:
        splits = trained_on.splits
        known = {each for split in ("train", "val") for each in fingerprints(splits[split])}
        tested = fingerprints(tested_on.splits["test"])
        _seen[both] = 100 * sum(each in known for each in tested) / len(tested)
    return _seen[both]


_seen: dict[tuple[str, str], float] = {}
