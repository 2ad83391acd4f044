"""Splits of the classes of a user's own data into train, val and test."""

import difflib
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path

import yaml

from bench.core.errors import UserError, all_of
from bench.core.safe_yaml import plain_yaml

SPLITS = ("train", "val", "test")
SHARES = {"val": 0.16, "test": 0.20}
"""Fractions of all classes, as in CIFAR-FS and miniImageNet; train has the rest."""

Names = dict[str, list[str]]


def random_split(
    classes: Collection[str], seed: int, least: int, group: Callable[[str], str] = str
) -> Names:
    """Return the classes of each split in alphabetical order: 64 / 16 / 20 %.

    Each split has at least ``least`` classes, and no ``group`` of a class is divided. The order is
    that of a hash of seed and name, so that it is the same on every machine, and adding or removing
    a class moves few others.

    Raises:
        UserError: If there are too few classes.
    """
    if len(classes) < 3 * least:
        fewer = f", or take ways={len(classes) // 3}" if len(classes) >= 6 else ""
        raise UserError(
            f"{len(classes)} classes are too few for {least} ways: train, val and test have none in "
            f"common, so that {3 * least} are needed; add classes{fewer}"
        )
    members: dict[str, list[str]] = {}
    for name in sorted(classes):
        members.setdefault(group(name), []).append(name)
    ranked = sorted(members, key=lambda name: hashlib.sha256(f"{seed}/{name}".encode()).digest())
    parts: Names = {"train": [], "val": [], "test": []}
    for split, share in SHARES.items():
        wanted = max(least, round(share * len(classes)))
        while ranked and len(parts[split]) < wanted:
            parts[split] += members[ranked.pop(0)]
    parts["train"] = [name for each in ranked for name in members[each]]
    if len(parts["train"]) < least or len(parts["test"]) < least:
        raise UserError(
            f"{len(members)} groups of {len(classes)} classes are too few for train, val and test of "
            f"{least} classes each, as no group is divided; add groups"
        )
    return {split: sorted(names) for split, names in parts.items()}


def read_split(path: Path, classes: Collection[str], examples: str = "images") -> Names:
    """Return the classes of each split in alphabetical order, as listed in a JSON or YAML file.

    The file maps train, val and test to lists of names. Classes that it does not name are in no
    split. ``examples`` is what the examples of classes are called.

    Raises:
        UserError: If it does not, or names a class twice or one that does not exist; with all faults.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix.lower() == ".json" else plain_yaml(text)
    except OSError as error:
        raise UserError(f"Cannot read {path} ({error.strerror}); make it readable") from None
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = str(error).replace("\n", " ")[:200]
        raise UserError(f"{path} is no JSON or YAML ({reason}); mend it") from None

    if not isinstance(content, dict) or set(content) != set(SPLITS):
        raise UserError(
            f"{path} must have the keys train, val and test and no others, each with a list of classes"
        )
    faults, named = [], Counter[str]()
    for split in SPLITS:
        names = content[split]
        if not isinstance(names, list) or not names:
            faults.append(f"{path} has no classes in {split}; give it a list of some")
            continue
        if wrong := [name for name in names if not isinstance(name, str)]:
            faults.append(
                f"{path} has {wrong[0]!r} in {split}, which is no text; write it in quotes"
            )
        texts = [name for name in names if isinstance(name, str)]
        for name in dict.fromkeys(name for name in texts if name not in classes):
            close = difflib.get_close_matches(name, classes, 1)
            hint = f"write {close[0]!r}" if close else "name classes that have some"
            faults.append(
                f"{path} has the class {name!r} in {split}, of which there are no {examples}; {hint}"
            )
        named.update(texts)
    faults += [
        f"{path} has the class {name!r} {count} times; leave it in one split, once"
        for name, count in named.items()
        if count > 1
    ]
    if faults:
        raise UserError(all_of(faults))
    return {split: sorted(content[split]) for split in SPLITS}
