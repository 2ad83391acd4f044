"""Labels of new photographs or texts by a learner fitted to labelled ones."""

import csv
import glob
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.core.errors import UserError
from bench.datasets.images.folder import images_in, readable, visible
from bench.datasets.io.photos import suffixes
from bench.datasets.texts import textfolder
from bench.runs.load import FewShot
from bench.stats.intervals import binomial_ci95

_log = logging.getLogger(__name__)

SURE = 0.95
"""Share of support examples that have to be labelled correctly for a prediction to count as sure."""
FEWEST = 20
"""Support examples that a threshold needs above it: of fewer, all or less than 95 % are correct."""


class LeaveOneOut(NamedTuple):
    """How a learner labels each support example when it is fitted to the others.

    ``threshold`` is the lowest probability at or above which 95 % of at least 20 of these labels are
    correct. It is infinite if no probability is high enough, and None if there are too few to tell.
    ``kind`` says what examples are.
    """

    correct: int
    total: int
    threshold: float | None
    kind: str = "images"

    @property
    def sentences(self) -> list[str]:
        """What there is to say of it."""
        if not self.total:
            return [
                "Leave-one-out accuracy: none, as each class has one example; give two or more.",
                f"unsure: not told, which takes {FEWEST} {self.kind} left out.",
            ]
        low, high = (100 * end for end in binomial_ci95(self.correct, self.total))
        accuracy = 100 * self.correct / self.total
        said = [
            f"Leave-one-out accuracy: {accuracy:.1f} % ({self.correct} of {self.total} support "
            f"{self.kind}; exact 95 % interval {low:.1f} to {high:.1f} %)."
        ]
        if self.threshold is None:
            said.append(f"unsure: not told, as {self.total} {self.kind} are fewer than {FEWEST}.")
        elif self.threshold == np.inf:
            said.append(
                f"unsure: yes for all, as even of the {FEWEST} surest less than {100 * SURE:.0f} % are "
                "correct."
            )
        else:
            said.append(
                f"unsure: below a probability of {self.threshold:.4f}; of the support {self.kind} at or "
                f"above it, {100 * SURE:.0f} % or more are correct."
            )
        return said


def leave_one_out(learner: FewShot) -> LeaveOneOut:
    """Return how a fitted learner labels its own support examples."""
    probabilities, classes = learner.leave_one_out()
    correct = probabilities.argmax(1) == classes
    threshold = threshold_of(probabilities.max(1), correct)
    return LeaveOneOut(int(correct.sum()), len(correct), threshold, learner.inputs.kind)


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
    """The label of an example, its probability, the next likely label, and yes or no, if that is known.

    ``example`` is the file of an image, or a text.
    """

    example: str
    label: str
    probability: float
    runner_up: str
    unsure: str


def label(
    learner: FewShot, examples: Sequence[Path | str], threshold: float | None
) -> list[Prediction]:
    """Return the predictions for files of images, or texts; ``threshold`` is that of `LeaveOneOut`."""
    found = []
    for example, each in zip(examples, learner.predict_proba(examples), strict=True):
        first, second = np.argsort(-each, kind="stable")[:2]
        unsure = "" if threshold is None else "yes" if each[first] < threshold else "no"
        names = learner.classes[first], learner.classes[second]
        found.append(
            Prediction(str(example), names[0], round(float(each[first]), 4), names[1], unsure)
        )
    return found


def to_csv(predictions: list[Prediction], kind: str) -> str:
    """Return predictions of images or texts as CSV, with a header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    first = "file" if kind == "images" else "text"
    writer.writerow((first, "label", "probability", "runner-up", "unsure"))
    writer.writerows(predictions)
    return text.getvalue()


def labelled(learner: FewShot, place: str) -> tuple[Sequence[Path | str], list[str]]:
    """Return the examples of a folder or file that a learner can be fitted to, and their classes.

    Raises UserError.
    """
    return support_set(place) if learner.inputs.kind == "images" else support_texts(place)


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


def support_texts(place: str) -> tuple[list[str], list[str]]:
    """Return the texts of a folder with one .txt file a class, or of a CSV file, and their classes.

    Raises UserError.
    """
    root = Path(place).expanduser()
    if not root.exists():
        raise UserError(
            f"There is no {place}; name a folder with a .txt file for each class, or a .csv file of text "
            "and label."
        )
    notes: list[str] = []
    classes = textfolder.read(root, notes)
    for note in notes:
        _log.warning("%s: %s", place, note)
    pairs = [(text, name) for name, texts in classes.items() for text in texts]
    return [text for text, _ in pairs], [name for _, name in pairs]


def texts_of(file: str) -> list[str]:
    """Return the texts of a file, one a line, or in the column ``text`` of a CSV file.

    Raises UserError if there are none.
    """
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"There is no file {file}; name one with a text a line, or a .csv file.")
    return readable(textfolder.read_unlabelled, path)


READERS: dict[str, Callable[[str], Sequence[Path | str]]] = {"images": images_of, "texts": texts_of}
"""How new examples are read, by what a learner labels."""
