"""The leak guard: invariants of the splits of any data set, checked before a learner sees them."""

import hashlib
import logging
from collections import Counter
from collections.abc import Mapping
from itertools import combinations, pairwise

import torch

from bench.tasks.classification.pool import Dataset, Pool

log = logging.getLogger(__name__)

_checked: set[str] = set()


def check(splits: Mapping[str, Pool], expected_duplicates: int | None = 0) -> None:
    """Raise ValueError if classes or images leak between splits, or a pool is malformed.

    ``expected_duplicates`` is the number of distinct images that the official data set is known to
    have in more than one split; any other number is an error, or is only logged if it is unknown
    (None). Pixel-identical images within one class are only logged: official data has some, and
    leaving them out would make it another data set.
    """
    if list(splits) != ["train", "val", "test"]:
        raise ValueError(f"the splits must be train, val and test, not {', '.join(splits)}")
    for split, pool in splits.items():
        check_pool(split, pool)
    for (one, first), (other, second) in combinations(splits.items(), 2):
        if both := set(first.names) & set(second.names):
            raise ValueError(f"{one} and {other} share {len(both)} classes, such as {min(both)}")

    images = {split: fingerprints(pool) for split, pool in splits.items()}
    for split, pool in splits.items():
        classes = pairwise(pool.offsets.tolist())
        if repeats := sum(b - a - len(set(images[split][a:b])) for a, b in classes):
            log.info("%s: %d images repeat one of their own class", split, repeats)
    # a split counts an image once, even if it has copies of it
    where = Counter(image for split in images.values() for image in set(split))
    shared = sum(count > 1 for count in where.values())
    if expected_duplicates is None:
        if shared:
            log.warning("%d images are in more than one split; none is left out", shared)
    elif shared != expected_duplicates:
        raise ValueError(
            f"{shared} images are in more than one split, expected {expected_duplicates}"
        )


def check_once(dataset: Dataset) -> None:
    """Run `check` on a data set before a learner sees it, once per process for the same content."""
    if dataset.digest not in _checked:
        check(dataset.splits, dataset.expected_duplicates)
        _checked.add(dataset.digest)


def check_pool(split: str, pool: Pool) -> None:
    """Raise ValueError if a pool is inconsistent or has a class of fewer than 2 images."""
    if pool.images.dtype != torch.uint8 or pool.images.ndim != 4:
        raise ValueError(f"{split}: images must be uint8 [M, C, H, W]")
    ends = pool.offsets[[0, -1]].tolist()
    if len(pool.offsets) != len(pool.names) + 1 or ends != [0, len(pool.images)]:
        raise ValueError(f"{split}: offsets do not fit the images and names")
    if len(set(pool.names)) < len(pool.names):
        raise ValueError(f"{split}: two classes have the same name")
    if pool.sizes.min() < 2:
        name = pool.names[int(pool.sizes.argmin())]
        raise ValueError(f"{split}: class {name} has fewer than 2 images")


def fingerprints(pool: Pool) -> list[bytes]:
    """Return a hash of the pixels of each image, which takes far less memory than they do."""
    images = pool.images.contiguous().numpy()
    return [hashlib.blake2b(image, digest_size=16).digest() for image in images]
