"""Stored runs on the test episodes of other data sets than the one they were trained on."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from bench import cell as cells
from bench import config
from bench.compose import composed
from bench.data.cache import Folders
from bench.data.episodes import EpisodeSampler, check_shape
from bench.data.fitted import fitted
from bench.data.guard import check_once, fingerprints
from bench.data.pool import Dataset
from bench.evaluate import evaluate
from bench.mistake import Mistake
from bench.probe.trials import trained
from bench.stats import mean_ci95
from bench.usage import names, no_such


class Shift(NamedTuple):
    """The test on another data set: how it went, and how many of its images (%) were not new."""

    dataset: str
    data_digest: str
    episodes: int
    episodes_digest: str
    accuracy: float
    ci95: float
    seen: float


def load(wanted: list[str], folders: Folders, options: Sequence[str] = ()) -> list[Dataset]:
    """The data sets of these names with the defaults of conf/; raises Mistake and what Hydra raises.

    ``options`` such as ``dataset.path=photos/`` are of a single one.
    """
    if options and len(wanted) != 1:
        raise Mistake(
            f"{options[0]} is an option of one data set; name that alone, as in datasets=folder."
        )
    found = []
    for name in dict.fromkeys(wanted):
        if name not in names("dataset"):
            raise no_such(f"dataset/{name}")
        code = config.Code.model_validate(composed(f"dataset={name}", *options)["dataset"])
        config.check_options(code, "dataset")
        dataset: Dataset = code.resolve()(folders, **code.options)
        try:
            check_once(dataset)
        except ValueError as error:
            raise Mistake(f"The data set {name} cannot be used: {error}.") from None
        found.append(dataset)
    return found


def others(cell: cells.Cell, datasets: list[Dataset]) -> list[Dataset]:
    """Those that the run was not trained on; raises Mistake where one has no episodes of its shape."""
    found = [dataset for dataset in datasets if dataset.name != cell.dataset.name]
    for dataset in found:
        try:
            check_shape(dataset.splits["test"], cell.test_shape)
        except Mistake as mistake:
            raise Mistake(
                f"{cell.name} cannot be tested on {dataset.name} as on its own data set: {mistake}"
            ) from None
    return found


def shifts(
    cell: cells.Cell, checkpoint: dict[str, Any], datasets: list[Dataset], episodes: int
) -> Iterator[Shift]:
    """One run on the test episodes of other data sets, which are the same for all learners.

    They are those that learners of that data set are tested on, of the shape that this run was tested
    with; only their images are brought to the shape of this run's, see `bench.data.fitted`.
    """
    learner = trained(cell, checkpoint)
    _, channels, height, width = cell.dataset.splits["test"].images.shape
    for dataset in datasets:
        pool = fitted(dataset.splits["test"], (channels, height, width)).to(cell.device)
        sampler = EpisodeSampler(pool, cell.test_shape, (dataset.digest, "test", "test"))
        tested = evaluate(learner, sampler, episodes, cells.EVALUATED_AT_ONCE[cell.device.type])
        yield Shift(
            dataset.name,
            dataset.digest,
            episodes,
            sampler.digest(episodes),
            *mean_ci95(tested.accuracy),
            share_seen(cell.dataset, dataset),
        )


def share_seen(trained_on: Dataset, tested_on: Dataset) -> float:
    """The test images of a data set, in percent, that the training or validation of another has.

    Pixel by pixel: it finds those of CIFAR-FS in FC100, and not a photograph that was made small in
    another way. Worked out once a process for the same two contents.
    """
    both = (trained_on.digest, tested_on.digest)
    if both not in _seen:
        splits = trained_on.splits
        known = {image for split in ("train", "val") for image in fingerprints(splits[split])}
        tested = fingerprints(tested_on.splits["test"])
        _seen[both] = 100 * sum(image in known for image in tested) / len(tested)
    return _seen[both]


_seen: dict[tuple[str, str], float] = {}
