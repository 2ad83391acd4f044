"""Labels of new photographs by a learner fitted to a folder of labelled ones."""

import csv
import glob
import io
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.datasets.images.folder import images_in, visible
from bench.datasets.io.photos import suffixes
from bench.runs.load import FewShot
from bench.stats.intervals import binomial_ci95

SURE = 0.95
"""Share of support images that have to be labelled correctly for a prediction to count as sure."""
FEWEST = 20
"""Support images that a threshold needs above it: of fewer, all or less than 95 % are correct."""


class LeaveOneOut(NamedTuple):
    """How a learner labels each support image when it is fitted to the others.

    ``threshold`` is the lowest probability at or above which 95 % of at least 20 of these labels are
    correct. It is infinite if no probability is high enough, and None if there are too few images
    to tell.
    """

    correct: int
    total: int
    threshold: float | None

    @property
    def sentences(self) -> list[str]:
        """What there is to say of it."""
        if not self.total:
            return [
                "Leave-one-out accuracy: none, as each class has one image; give two or more.",
                f"unsure: not told, which takes {FEWEST} images left out.",
            ]
        low, high = (100 * end for end in binomial_ci95(self.correct, self.total))
        accuracy = 100 * self.correct / self.total
        said = [
            f"Leave-one-out accuracy: {accuracy:.1f} % ({self.correct} of {self.total} support images; "
            f"exact 95 % interval {low:.1f} to {high:.1f} %)."
        ]
        if self.threshold is None:
            said.append(f"unsure: not told, as {self.total} images are fewer than {FEWEST}.")
        elif self.threshold == np.inf:
            said.append(
                f"unsure: yes for all, as even of the {FEWEST} surest less than {100 * SURE:.0f} % are "
                "correct."
            )
        else:
            said.append(
                f"unsure: below a probability of {self.threshold:.4f}; of the support images at or above "
                f"it, {100 * SURE:.0f} % or more are correct."
            )
        return said


def leave_one_out(learner: FewShot) -> LeaveOneOut:
    """Return how a fitted learner labels its own support images."""
    probabilities, classes = learner.leave_one_out()
    correct = probabilities.argmax(1) == classes
    threshold = threshold_of(probabilities.max(1), correct)
    return LeaveOneOut(int(correct.sum()), len(correct), threshold)


def threshold_of(probabilities: NDArray[np.float64], correct: NDArray[np.bool_]) -> float | None:
    """Return the threshold of `LeaveOneOut`, from the probability [n] of each label."""
    if len(correct) < FEWEST:
        return None
    order = np.argsort(-probabilities, kind="stable")
    ranked, found = probabilities[order], np.cumsum(correct[order])
    count = np.arange(1, len(ranked) + 1)
    ends = np.append(ranked[:-1] > ranked[1:], True)  # equal probabilities are all above or none
    possible = ends & (count >= FEWEST) & (found >= SURE * count)
    return float(ranked[possible].min()) if possible.any() else np.inf


class Prediction(NamedTuple):
    """The label of an image, its probability, the next likely label, and yes or no, if that is known."""

    file: str
    label: str
    probability: float
    runner_up: str
    unsure: str


def label(learner: FewShot, files: list[Path], threshold: float | None) -> list[Prediction]:
    """Return the predictions for these files; ``threshold`` is that of `LeaveOneOut`."""
    found = []
    for file, each in zip(files, learner.predict_proba(files), strict=True):
        first, second = np.argsort(-each, kind="stable")[:2]
        unsure = "" if threshold is None else "yes" if each[first] < threshold else "no"
        names = learner.classes[first], learner.classes[second]
        found.append(
            Prediction(str(file), names[0], round(float(each[first]), 4), names[1], unsure)
        )
    return found


def to_csv(predictions: list[Prediction]) -> str:
    """Return predictions as CSV, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(("file", "label", "probability", "runner-up", "unsure"))
    writer.writerows(predictions)
    return text.getvalue()


def support_set(folder: str) -> tuple[list[Path], list[str]]:
    """Return the images of a folder with one sub-folder a class, and their classes.

    Raises UserError.
    """
    root = Path(folder).expanduser()
    if not root.exists():
        raise UserError(f"There is no folder {folder}; name one with a sub-folder for each class.")
    if not root.is_dir():
        raise UserError(f"{folder} is a file; name a folder with a sub-folder for each class.")
    classes = images_in(root, ".", "class", [])
    pairs = [(root / file.name, name) for name, files in classes.items() for file in files]
    return [path for path, _ in pairs], [name for _, name in pairs]


def images_of(pattern: str) -> list[Path]:
    """Return the images in a folder, or those that match a pattern such as ``new/*.jpg``.

    Raises UserError if there are none.
    """
    root = Path(pattern).expanduser()
    found = root.rglob("*") if root.is_dir() else map(Path, glob.glob(str(root), recursive=True))
    images = sorted(
        path
        for path in found
        if path.is_file() and visible(path.name) and path.suffix.lower() in suffixes()
    )
    if not images:
        raise UserError(
            f"images={pattern} finds no image: name a folder, or a pattern in quotes such as "
            "images='new/*.jpg'."
        )
    return images
