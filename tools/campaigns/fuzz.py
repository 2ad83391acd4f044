"""``python -m tools.campaigns.fuzz``: feed damaged and hostile files to every reader.

A reader may refuse its input with the kind of error that its caller turns into a message; or it may
read it, and then the result must be what was written, or at least be valid for such a file and pass
through all tables. Anything else is a finding: another exception, more than a few seconds, or
content that differs despite a checksum.
"""

import argparse
import contextlib
import copy
import gzip
import hashlib
import io
import json
import logging
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import yaml
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from PIL import Image

from bench import report
from bench.config import explain, groups
from bench.config import schema as config
from bench.config.compose import composed
from bench.core import serialization
from bench.core.errors import UserError
from bench.datasets.images import cifar100, miniimagenet, omniglot, tieredimagenet
from bench.datasets.io import cache
from bench.datasets.io import memmap as pixels
from bench.datasets.io.class_split import read_split
from bench.datasets.io.photos import photo_or_reason
from bench.datasets.io.pickles import Array, read_pickle
from bench.report import drawing, speed, trials
from bench.runs.reload import check_known
from bench.runs.store import Store
from bench.sweep.callback import grid
from bench.sweep.status import last
from bench.tasks.leaks import check_pool
from bench.tasks.pool import Dataset, Pool, content_digest
from tests.bench.datasets.fakes import (
    CIFAR_ROWS,
    CIFAR_TABLE,
    CLASSES,
    Archives,
    Cifar,
    packed,
    png,
    python,
    python3,
)
from tests.bench.report import samples

SLOW_SECONDS = 5.0
"""Limit of CPU time, which other load does not increase."""


def main() -> int:
    """Run the campaign; the exit status is 1 if there was a finding."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000, help="for each reader (10000)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (0)")
    parser.add_argument("--only", nargs="*", default=list(TARGETS), choices=list(TARGETS))
    given = parser.parse_args()
    logging.disable()  # each skipped file logs a warning
    wrong = 0
    for name in given.only:
        try:
            print(f"{name}: {told(fuzz(name, given.inputs, given.seed))}", flush=True)
        except Exception as error:  # its notes have the smallest input that causes it
            wrong += 1
            notes = "\n".join(getattr(error, "__notes__", []))
            print(f"{name}: FOUND {type(error).__name__}: {error}\n{notes}", flush=True)
    return int(wrong > 0)


def told(outcomes: Counter[str]) -> str:
    """Return a summary such as: 10,000 inputs, 9,100 refused, 900 read."""
    return f"{outcomes.total():,} inputs, " + ", ".join(f"{n:,} {o}" for o, n in outcomes.items())


def fuzz(name: str, inputs: int, number: int) -> Counter[str]:
    """Feed `inputs` inputs to a reader and count how often it read and refused.

    Raises whatever the reader should not have raised.
    """
    outcomes: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        damage, read = TARGETS[name](Path(folder))

        @seed(number)
        @settings(
            max_examples=inputs,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        @given(damage)
        def each(content: Any) -> None:
            begun = time.process_time()
            outcomes[read(content)] += 1
            assert time.process_time() - begun < SLOW_SECONDS, "it takes too long"

        each()
    return outcomes


# Damage to good content


@st.composite
def damaged(draw: st.DrawFn, good: bytes, tokens: tuple[bytes, ...] = ()) -> bytes:
    """Draw a copy with bytes replaced, deleted, inserted, repeated or truncated."""
    content = good
    for _ in range(draw(st.integers(1, 3))):
        at, to = sorted(draw(st.tuples(*[st.integers(0, len(content))] * 2)))
        new = draw(
            st.sampled_from(tokens) if tokens and draw(st.booleans()) else st.binary(max_size=8)
        )
        kind = draw(st.sampled_from(["replace", "cut", "insert", "delete", "repeat"]))
        content = {
            "replace": content[:at] + new + content[at + len(new) :],
            "cut": content[:at],
            "insert": content[:at] + new + content[at:],
            "delete": content[:at] + content[to:],
            "repeat": content[:to] + content[at:],
        }[kind]
    return content


NUMBERS = st.integers(1, 30) | st.floats(0, 1) | st.integers() | st.floats()
HOSTILE = [10**400, 2**63, -1, 0, 1e308, "../../x", "<script>", "a\nb", "=1", "os.system"]
ANYTHING = st.recursive(
    st.none() | st.booleans() | NUMBERS | st.text(max_size=20) | st.sampled_from(HOSTILE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=5,
)


@st.composite
def changed(draw: st.DrawFn, good: Any) -> Any:
    """Draw a copy of a tree of dicts and lists with a few nodes replaced, deleted or added."""
    tree = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        node = tree
        while True:
            keys = list(node) if isinstance(node, dict) else list(range(len(node)))
            key = draw(st.sampled_from(keys)) if keys else None
            inner = node[key] if keys else None
            if not (isinstance(inner, dict | list) and inner and draw(st.booleans())):
                break
            node = inner
        kind = draw(st.sampled_from(["replace", "replace", "delete", "add"]))
        if kind == "add" and isinstance(node, dict):
            node[draw(st.text(max_size=9))] = draw(ANYTHING)
        elif keys and kind == "delete":
            del node[key]
        elif keys:
            node[key] = draw(ANYTHING)
    return tree


def dumped(tree: Any) -> bytes:
    """Return a tree as JSON."""
    return json.dumps(tree).encode("utf-8", "surrogatepass")


# Targets

PICKLED = (
    b"\x8c\x02os\x8c\x06system\x93",
    b"\x94",
    b"cos\nsystem\n",
    b"cbuiltins\nbytearray\n",
    b"R",
    b"\x85",
    b"J\xff\xff\xff\x7f",
    b".",
)

Target = tuple[st.SearchStrategy[Any], Callable[[Any], str]]


def results(folder: Path, file: str) -> tuple[Path, Callable[[bytes], str]]:
    """Return a file of the first of two runs, and a function that makes the report read it."""
    first, second = samples.record("maml", episodes=9), samples.record("protonet", episodes=9)
    samples.folder(folder, [first, second])
    path = folder / "runs" / first["cell"] / file
    probe = "varied,value,queries,episodes,score,ci95\n"
    probe += "".join(f"norm_statistics,{each},15,9,90.5,1.5\n" for each in trials.STATISTICS)
    (path.parent / "probe.csv").write_text(probe)
    shift = "dataset,data_digest,episodes,episodes_digest,score,ci95,seen\n"
    shift += "".join(f"{each},ab12,9,cd34,60.5,1.5,0.0\n" for each in ("glyphs", "fc100"))
    (path.parent / "shift.csv").write_text(shift)
    config = composed("algo=maml")
    (path.parent / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))

    store = Store(folder)
    alone = {
        "record.json": store.record,
        "episodes.csv": store.episodes,
        "history.csv": store.history,
        "probe.csv": store.trials,
        "shift.csv": store.shifts,
    }

    def read(content: bytes) -> str:
        path.write_bytes(content)
        try:
            alone[file](first["cell"])
        except ValueError:
            return "refused"
        found = report.gather(folder)
        report.texts(found)
        kept = {
            "history.csv": found.curves,
            "probe.csv": found.probed,
            "shift.csv": found.shifted,
        }
        cells = kept.get(file, [row["cell"] for row in found.records])
        return "read" if first["cell"] in cells else "refused"

    return path, read


def record_bytes(folder: Path) -> Target:
    """Damage the bytes of a record."""
    path, read = results(folder, "record.json")
    return damaged(path.read_bytes(), (b"NaN", b"1e999", b"-", b'"', b"[", b"{", b"null")), read


def record_values(folder: Path) -> Target:
    """Change the values of a record."""
    path, read = results(folder, "record.json")
    return changed(json.loads(path.read_text())).map(dumped), read


def csv(file: str) -> Callable[[Path], Target]:
    """Damage the bytes of a CSV file."""

    def target(folder: Path) -> Target:
        path, read = results(folder, file)
        return damaged(path.read_bytes(), (b"nan", b"inf", b",", b'"', b"\n", b"-1", b"x")), read

    return target


def whole_page(folder: Path) -> Target:
    """Damage one file of a learner with two seeds, next to another learner, and build all views."""
    found = [samples.record(a, seed=s, episodes=9) for a in ("maml", "protonet") for s in (0, 1)]
    samples.folder(folder, found)
    record = folder / "runs" / found[0]["cell"] / "record.json"
    probe = "varied,value,queries,episodes,score,ci95\n"
    probe += "".join(f"steps,{each},15,9,90.5,1.5\n" for each in (1, 2, 5, 10))
    for row in found:
        (folder / "runs" / row["cell"] / "probe.csv").write_text(probe)
    tables = {
        name: (record.parent / name).read_bytes()
        for name in ("history.csv", "probe.csv", "episodes.csv")
    }
    tokens = (b"nan", b"1e300", b"1e-300", b",", b'"', b"\n", b"-1", b"0")
    lines = [
        st.tuples(st.just(name), dropped_or_twice(content) | damaged(content, tokens))
        for name, content in tables.items()
    ]
    values = changed(json.loads(record.read_text())) | extreme(json.loads(record.read_text()))
    good = {"record.json": record.read_bytes(), **tables}

    def read(damage: tuple[str, bytes]) -> str:
        name, content = damage
        for each, untouched in good.items():
            (record.parent / each).write_bytes(content if each == name else untouched)
        found = report.gather(folder)
        for figure in report.views(found)[1].values():
            if figure.panels:
                drawing.draw(figure)
        kept = {"history.csv": found.curves, "probe.csv": found.probed}
        cells = kept.get(name, [row["cell"] for row in found.records])
        return "read" if record.parent.name in cells else "refused"

    return st.tuples(st.just("record.json"), values.map(dumped)) | st.one_of(lines), read


@st.composite
def dropped_or_twice(draw: st.DrawFn, table: bytes) -> bytes:
    """Draw a table with one line dropped or duplicated."""
    lines = table.splitlines(keepends=True)
    at = draw(st.integers(1, len(lines) - 1))
    return b"".join(lines[:at] + lines[at + 1 :] if draw(st.booleans()) else [*lines, lines[at]])


@st.composite
def extreme(draw: st.DrawFn, record: Any) -> Any:
    """Draw a record in which one number is huge, tiny, zero or negative."""
    tree = copy.deepcopy(record)
    nodes = [tree, *tree["throughput"]]
    node = draw(st.sampled_from(nodes))
    numbers = [key for key, value in node.items() if type(value) in (int, float)]
    huge = [1e300, 1e-300, 5e-324, 1e15, 1e16, 0, 0.0, -1, 2**62, 2**63, 10**30, 1e39]
    node[draw(st.sampled_from(numbers))] = draw(st.sampled_from(huge))
    return tree


def configuration_bytes(folder: Path) -> Target:
    """Damage the bytes of a stored configuration."""
    path, _ = results(folder, "config.yaml")
    tokens = (b"&a ", b"*a", b"!!python/object:os.system ", b"<<: ", b"- ", b": ", b"{", b"[")
    return damaged(path.read_bytes(), tokens), partial(configuration, path)


def configuration_values(folder: Path) -> Target:
    """Change the values of a stored configuration."""
    path, _ = results(folder, "config.yaml")
    good = yaml.safe_load(path.read_text())
    return changed(good).map(lambda tree: yaml.dump(tree).encode()), partial(configuration, path)


def configuration(path: Path, content: bytes) -> str:
    """Read a stored configuration as `bench.runs.reload` does before anything is built."""
    path.write_bytes(content)
    try:
        read = Store(path.parents[2]).config(path.parent.name)
        options = config.Config.model_validate(read)
        check_known(options)
        for group in groups.GROUPS:
            config.check_options(getattr(options, group), group)
    except (ValueError, TypeError, UserError):  # pydantic's errors are ValueErrors
        return "refused"
    return "read"


def command_line(folder: Path) -> Target:
    """Change options as a user may give them."""

    def read(tree: Any) -> str:
        try:
            options = config.from_hydra(OmegaConf.create(tree))
            for group in groups.GROUPS:
                config.check_options(getattr(options, group), group)
        except (UserError, *explain.HYDRA_MISTAKES):
            return "refused"
        return "read"

    return changed(composed("algo=maml")), read


def sweep(folder: Path) -> Target:
    """Damage the file from which `bench.status` reads a sweep."""
    path = folder / "sweeps" / "1" / "multirun.yaml"
    path.parent.mkdir(parents=True)
    good = b"hydra:\n  overrides:\n    task:\n    - algo=maml,protonet\n    - seed=0,1\n"

    def read(content: bytes) -> str:
        path.write_bytes(content)
        try:
            grid(last([f"results_dir={folder}"]))
        except (UserError, *explain.HYDRA_MISTAKES):
            return "refused"
        return "read"

    return damaged(good, (b"&a ", b"*a", b"!!python/name:os.system", b"${oc.env:HOME}", b"=")), read


def parameters(folder: Path) -> Target:
    """Damage stored parameters: whatever is read must be what was written."""
    state = {"weight": torch.arange(6.0).view(2, 3), "mean": torch.ones(2)}
    path = folder / "model.safetensors"
    good = serialization.to_safetensors(state)
    digest = hashlib.sha256(good).hexdigest()

    def read(content: bytes) -> str:
        path.write_bytes(content)
        try:
            found = serialization.read_safetensors(path, digest)
        except ValueError:
            return "refused"
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)
        return "read"

    return damaged(good, (b"F64", b"0,", b"__metadata__")), read


def foreign_parameters(folder: Path) -> Target:
    """Damage parameters whose digest is that of the damaged file."""
    path = folder / "model.safetensors"

    def read(content: bytes) -> str:
        path.write_bytes(content)
        try:
            found = serialization.read_safetensors(path, hashlib.sha256(content).hexdigest())
        except ValueError:
            return "refused"
        assert sum(each.nbytes for each in found.values()) <= len(content)
        return "read"

    good = serialization.to_safetensors({"weight": torch.ones(2, 3), "mean": torch.ones(2)})
    return damaged(good, (b"F64", b"0,", b"[", b"99999999999")), read


def checkpoint(folder: Path) -> Target:
    """Damage a checkpoint: whatever is read must be what was written."""
    state = {"weight": torch.arange(6.0).view(2, 3), "mean": torch.ones(2), "step": 3}
    path = folder / "checkpoint.pt"
    good = bytes(serialization.to_bytes(state))

    def read(content: bytes) -> str:
        path.write_bytes(content)
        try:
            found = serialization.read(path)
        except ValueError:
            return "refused"
        assert found.keys() == state.keys() and found["step"] == 3
        assert all(torch.equal(found[key], state[key]) for key in ("weight", "mean"))
        return "read"

    return damaged(good, (b"PK\x03\x04", b"PK\x01\x02", b"cos\nsystem\n", b"R.")), read


def pickles(folder: Path) -> Target:
    """Damage the pickle of a checkpoint, with valid checksums."""
    path = folder / "checkpoint.pt"
    with zipfile.ZipFile(
        io.BytesIO(serialization.to_bytes({"weight": torch.ones(2, 3)}))
    ) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    key = next(name for name in members if name.endswith("data.pkl"))

    def read(content: bytes) -> str:
        with zipfile.ZipFile(path, "w") as archive:
            for name, member in (members | {key: content}).items():
                archive.writestr(name, member)
        try:
            serialization.read(path)
        except ValueError:
            return "refused"
        return "read"

    tokens = (
        b"cos\nsystem\n",
        b"cbuiltins\nbytearray\n",
        b"R",
        b"\x85",
        b"J\xff\xff\xff\x7f",
        b"b",
        b".",
    )
    return damaged(members[key], tokens), read


def prepared(folder: Path) -> Target:
    """Damage a prepared data set: whatever is read must be what was written."""
    images = torch.arange(64, dtype=torch.uint8).view(4, 1, 4, 4)
    good = Dataset.of("toy", {"train": Pool.of({"a": images[:2], "b": images[2:]})})
    path = folder / "toy.pt"
    cache.keep(path, good)

    def read(content: bytes) -> str:
        path.write_bytes(content)
        found = cache.read(path)
        assert found is None or content_digest(found.splits) == good.digest
        return "read" if found else "refused"

    return damaged(path.read_bytes()), read


def archive(folder: Path) -> Target:
    """Damage an archive of Omniglot: whatever is read must be the official images."""
    made = Archives()
    (stem, names) = list(CLASSES.items())[1]
    want = content_digest({"all": Pool.of({name: made.images[name] for name in names})})

    def read(content: bytes) -> str:
        try:
            classes = omniglot.images_in(
                io.BytesIO(content), list(names), want, "the file", "mend it"
            )
        except UserError as mistake:
            assert str(mistake).startswith("the file ")
            return "refused"
        assert all(torch.equal(classes[name], made.images[name]) for name in names)
        return "read"

    return damaged(made.zipped(stem), (b"PK\x03\x04", b"../../x", b"\x89PNG\r\n", b"IDAT")), read


def photographs(folder: Path) -> Target:
    """Damage an archive of CIFAR-100 inside gzip: whatever is read must be the official images."""
    made = Cifar()
    table = folder / "table.txt"
    table.write_text(CIFAR_TABLE)
    pin = content_digest({"all": Pool.of(made.images)})

    def read(content: bytes) -> str:
        file = io.BytesIO(gzip.compress(content, 1))
        try:
            with patch.multiple(cifar100, TABLE=table, ROWS=CIFAR_ROWS, DIGEST=pin):
                classes = cifar100.images_in(file, "the file", "mend it")
        except UserError as mistake:
            assert str(mistake).startswith("the file ")
            return "refused"
        assert all(torch.equal(classes[name], made.images[name]) for name in made.images)
        return "read"

    good = gzip.decompress(packed(made.members()))
    return damaged(good, (b"ustar", b"../../x", *PICKLED)), read


def pickled(folder: Path) -> Target:
    """Damage a pickle of data."""
    value = {"data": np.zeros((2, 3), np.uint8), "names": ["a", "b"], "labels": [0, 1]}
    good = st.sampled_from([python3(value), python(3)(value), python(4)(value)])

    def read(content: bytes) -> str:
        try:
            value = read_pickle(content, 1000)
        except ValueError:
            return "refused"
        if isinstance(value, dict) and isinstance(found := value.get("data"), Array):
            with contextlib.suppress(ValueError):
                assert found.values().nbytes <= len(content)
        return "read"

    return good.flatmap(lambda content: damaged(content, PICKLED)), read


def miniimagenet_file(folder: Path) -> Target:
    """Damage a file of miniImageNet, which has no checksum: what is read must have its shape."""
    pixels = np.arange(2 * 84 * 84 * 3, dtype=np.uint8).reshape(2, 84, 84, 3)
    good = python(4)({"image_data": pixels, "class_dict": {"a": [1, 0]}})
    path = folder / "miniimagenet" / "mini-imagenet-cache-train.pkl"
    path.parent.mkdir()

    def read(content: bytes) -> str:
        path.write_bytes(content)
        try:
            with patch.multiple(miniimagenet, CLASSES={"train": 1}, IMAGES=2):
                pool = miniimagenet.pool_of(cache.DataDirs(folder, folder), "", "train")
        except UserError as mistake:
            assert str(mistake).startswith(f"{path} ")
            return "refused"
        check_pool("train", pool)
        return "read"

    return damaged(good, PICKLED), read


def tieredimagenet_file(folder: Path) -> Target:
    """Damage a file of images of tieredImageNet: what is read must have their shape."""
    image = Image.linear_gradient("L").resize((84, 84)).convert("RGB")
    good = python(4)([np.frombuffer(png(image), np.uint8)[:, None]] * 2)
    path = folder / "train_images_png.pkl"

    def read(content: bytes) -> str:
        path.write_bytes(content)
        try:
            with patch.multiple(tieredimagenet, IMAGES={"train": 2}), path.open("rb") as file:
                sources = tieredimagenet.images_in("train")(file, "the file", "mend it")
            images = [tieredimagenet.decoded(source) for source in sources]
        except UserError as mistake:
            assert str(mistake).startswith("the file ")
            return "refused"
        assert [(each.shape, each.dtype) for each in images] == [((3, 84, 84), np.uint8)] * 2
        return "read"

    return damaged(good, (*PICKLED, b"\x89PNG\r\n", b"IDAT")), read


def user_image(folder: Path) -> Target:
    """Damage an image file of any format: the result is an image of right shape, or a message."""
    picture = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    kinds = []
    for kind in ("JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP", "ICO", "PPM"):
        picture.save(file := io.BytesIO(), kind)
        kinds.append(file.getvalue())

    def read(content: bytes) -> str:
        found = photo_or_reason(io.BytesIO(content), 8, 3)
        if isinstance(found, str):
            assert found and found.isascii() and len(found) <= 100
            return "refused"
        assert (found.shape, found.dtype) == ((3, 8, 8), np.uint8)
        return "read"

    return st.sampled_from(kinds).flatmap(damaged), read


def class_split(folder: Path) -> Target:
    """Change a file of class splits: what is read has each class once, and no empty split."""
    good = {"train": ["a", "b"], "val": ["c", "d"], "test": ["e", "f"]}

    def read(tree: Any) -> str:
        path = folder / "split.json"
        path.write_bytes(dumped(tree))
        try:
            found = read_split(path, list("abcdef"))
        except UserError as mistake:
            assert "\n" not in str(mistake)
            return "refused"
        named = [name for names in found.values() for name in names]
        assert list(found) == ["train", "val", "test"] and all(found.values())
        assert len(set(named)) == len(named) and set(named) <= set("abcdef")
        return "read"

    return changed(good), read


def mapped_images(folder: Path) -> Target:
    """Change the build state of a file of images: rebuilt, or resumed as far as it is intact."""
    path = folder / "toy.pixels"
    images = [np.full((1, 2, 2), number, np.uint8) for number in range(4)]

    def made() -> pixels.BuildState:
        return pixels.build(path, "toy", images, (1, 2, 2), lambda image: image)

    made()
    good, content = json.loads(path.with_suffix(".json").read_text()), path.read_bytes()

    def read(tree: Any) -> str:
        path.with_suffix(".json").write_bytes(dumped(tree))
        path.write_bytes(content)
        found = pixels.load_state(path)
        facts = made()
        assert facts.done == 4 and path.stat().st_size >= facts.rows * 4
        return "read" if found == facts else "refused"

    return changed(good), read


def benchmarks(folder: Path) -> Target:
    """Change a file saved by pytest-benchmark."""
    ratio = dict.fromkeys(speed.Result.__annotations__, 1.5) | {"work": "MAML", "rounds": 5}
    ratio |= {"ours_layout": "1 x 2", "peer_layout": "2 x 1"}
    growth = {"work": "SVM", "axis": "ways", "sizes": [5, 20], "exponent": 1.6}
    growth |= {"ms": [1.0, 9.0], "mib": [1.0, 2.0]}
    good = {"benchmarks": [{"extra_info": ratio}, {"extra_info": growth}, {"extra_info": {}}]}
    path = folder / "saved.json"

    def read(tree: Any) -> str:
        path.write_bytes(dumped(tree))
        try:
            ratios, growths = speed.read(path)
        except UserError:
            return "refused"
        speed.markdown(ratios)
        speed.growth_markdown(growths)
        return "read"

    return changed(good), read


TARGETS: dict[str, Callable[[Path], Target]] = {
    "record.json, bytes": record_bytes,
    "record.json, values": record_values,
    "the page": whole_page,
    "episodes.csv": csv("episodes.csv"),
    "history.csv": csv("history.csv"),
    "probe.csv": csv("probe.csv"),
    "shift.csv": csv("shift.csv"),
    "config.yaml, bytes": configuration_bytes,
    "config.yaml, values": configuration_values,
    "multirun.yaml": sweep,
    "model.safetensors": parameters,
    "model.safetensors, its digest too": foreign_parameters,
    "checkpoint.pt": checkpoint,
    "checkpoint.pt, pickle": pickles,
    "prepared data": prepared,
    "Omniglot's archive": archive,
    "CIFAR's archive": photographs,
    "pickled data": pickled,
    "miniImageNet's file": miniimagenet_file,
    "tieredImageNet's file": tieredimagenet_file,
    "an image of one's own": user_image,
    "a split of classes": class_split,
    "mapped images": mapped_images,
    "options": command_line,
    "saved benchmarks": benchmarks,
}

if __name__ == "__main__":
    sys.exit(main())
