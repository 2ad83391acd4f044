"""The leak guard: invariants of the splits of any data set, checked before a learner sees them."""

import hashlib
import logging
from collections import Counter
from collections.abc import Collection, Mapping
from itertools import combinations, pairwise
from math import prod

import numpy as np
import torch
from torch import Tensor

from bench.tasks.pool import Compared, Dataset, Pool
from bench.tasks.texts import normalized, to_text

log = logging.getLogger(__name__)

DIGEST_BYTES = 16
MOST_NAMED = 3
"""Maximum number of shared examples that a message names."""
_checked: set[str] = set()


def check(
    splits: Mapping[str, Pool], expected_duplicates: int | None = 0, compared: Compared = "examples"
) -> None:
    """Raise ValueError if classes or examples leak between splits, or a pool is malformed.

    ``expected_duplicates`` is the number of distinct examples that the official data set is known to
    have in more than one split; any other number is an error, or is only logged if it is unknown
    (None). Identical examples within one class are only logged: official data has some, and
    leaving them out would make it another data set. With ``compared="tasks"``, whole tasks without
    classes count as examples.
    """
    if list(splits) != ["train", "val", "test"]:
        raise ValueError(f"the splits must be train, val and test, not {', '.join(splits)}")
    for split, pool in splits.items():
        check_pool(split, pool)
    for (one, first), (other, second) in combinations(splits.items(), 2):
        if _kind(first) != _kind(second):
            raise ValueError(f"{one} has inputs of {_kind(first)}, and {other} of {_kind(second)}")
        if both := set(first.names) & set(second.names):
            raise ValueError(f"{one} and {other} share {len(both)} classes, such as {min(both)}")

    if compared == "tasks":
        splits = {split: whole_tasks(pool) for split, pool in splits.items()}
    examples = {split: fingerprints(pool) for split, pool in splits.items()}
    for split, pool in splits.items():
        classes = pairwise(pool.offsets.tolist())
        if repeats := sum(b - a - len(set(examples[split][a:b])) for a, b in classes):
            log.info("%s: %d examples repeat one of their own class", split, repeats)
    # a split counts an example once, even if it has copies of it
    where = Counter(example for split in examples.values() for example in set(split))
    shared = {example for example, count in where.items() if count > 1}
    if expected_duplicates is None:
        if shared:
            log.warning(
                "%d examples are in more than one split; none is left out; they are %s",
                len(shared),
                _places(splits, examples, shared),
            )
    elif len(shared) != expected_duplicates:
        raise ValueError(
            f"{len(shared)} examples are in more than one split, expected {expected_duplicates}"
            + (f"; they are {_places(splits, examples, shared)}" if shared else "")
        )


def _places(
    splits: Mapping[str, Pool], examples: Mapping[str, list[bytes]], shared: Collection[bytes]
) -> str:
    """Return where the first few of these examples are, by split, class and number in the class."""
    found: dict[bytes, list[str]] = {}
    for split, pool in splits.items():
        for index, example in enumerate(examples[split]):
            if example in shared:
                owner = int(torch.searchsorted(pool.offsets, index, right=True)) - 1
                number = index - int(pool.offsets[owner])
                found.setdefault(example, []).append(f"{pool.names[owner]} no. {number} ({split})")
    more = len(found) - MOST_NAMED
    named = "; ".join(" = ".join(places) for places in list(found.values())[:MOST_NAMED])
    return named + (f"; and {more} more" if more > 0 else "")


def _kind(pool: Pool) -> str:
    """Return dtype and shape of an input as text."""
    return f"{pool.inputs.dtype} {list(pool.inputs.shape[1:])}"


def check_once(dataset: Dataset) -> None:
    """Run `check` on a data set before a learner sees it, once per process for the same content."""
    if dataset.digest not in _checked:
        check(dataset.splits, dataset.expected_duplicates, dataset.compared)
        _checked.add(dataset.digest)


def whole_tasks(pool: Pool) -> Pool:
    """Return a pool whose examples are the tasks of another, all of the same number of examples."""
    parts = [each.flatten(1) for each in (pool.inputs, pool.targets) if each is not None]
    joined = torch.cat(parts, 1).view(len(pool.names), -1)
    return Pool(joined, torch.arange(len(joined) + 1), pool.names)


def check_pool(split: str, pool: Pool) -> None:
    """Raise ValueError if a pool is inconsistent or has a class of fewer than 2 examples."""
    if pool.inputs.ndim < 2 or not (pool.inputs.dtype == torch.uint8 or is_finite(pool.inputs)):
        raise ValueError(
            f"{split}: inputs must be uint8 or finite floats [M, ...], an example each"
        )
    ends = pool.offsets[[0, -1]].tolist()
    if len(pool.offsets) != len(pool.names) + 1 or ends != [0, len(pool.inputs)]:
        raise ValueError(f"{split}: offsets do not fit the examples and names")
    if len(set(pool.names)) < len(pool.names):
        raise ValueError(f"{split}: two classes have the same name")
    if pool.names and pool.sizes.min() < 2:
        name = pool.names[int(pool.sizes.argmin())]
        raise ValueError(f"{split}: class {name} has fewer than 2 examples")
    targets = pool.targets
    if targets is not None and (
        targets.ndim < 2 or len(targets) != len(pool.inputs) or not is_finite(targets)
    ):
        raise ValueError(f"{split}: targets must be finite floats [M, ...], as many as examples")


def is_finite(values: Tensor) -> bool:
    """Return whether values are floating-point numbers without NaN and infinity."""
    return values.is_floating_point() and bool(values.isfinite().all())


def fingerprints(pool: Pool) -> list[bytes]:
    """Return a hash of the values of each example, which takes far less memory than they do.

    That of a text is of its normalised words, or of its signs if it has no words.
    """
    if pool.has_texts:
        return [
            _digest((normalized(text) or text).encode())
            for text in map(to_text, pool.inputs.numpy())
        ]
    values = [each for each in (pool.inputs, pool.targets) if each is not None]
    rows = [
        each.contiguous().numpy().reshape(len(each), prod(each.shape[1:])).view(np.uint8)
        for each in values
    ]
    joined = rows[0] if len(rows) == 1 else np.concatenate(rows, 1)
    if joined.shape[1] <= DIGEST_BYTES:  # an example is its own fingerprint
        found: list[bytes] = np.ascontiguousarray(joined).view(f"V{joined.shape[1]}")[:, 0].tolist()
        return found
    return [_digest(example.data) for example in joined]


def _digest(content: bytes | memoryview) -> bytes:
    return hashlib.blake2b(content, digest_size=DIGEST_BYTES).digest()
