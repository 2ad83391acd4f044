"""Small stand-ins for Omniglot's and CIFAR-100's archives, and a server to download from."""

import gzip
import io
import itertools
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from PIL import Image

CLASSES = {
    "images_background": (
        "images_background/Greek/character01",
        "images_background/Greek/character02",
    ),
    "images_evaluation": ("images_evaluation/Tibetan/character07",),
}
SPLIT = """# split, alphabet, first and last character
train images_background/Greek 1 1
val   images_background/Greek 2 2
test  images_evaluation/Tibetan 7 7
"""


def png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


class Archives:
    """Two archives in the official layout with three characters, and what they should give."""

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.members: dict[str, dict[str, bytes]] = {}
        self.images: dict[str, torch.Tensor] = {}
        number = 0
        for stem, names in CLASSES.items():
            self.members[stem] = {}
            for name in names:
                number += 1
                small = []
                for drawer in range(1, 21):
                    image = Image.fromarray(draw.random((105, 105)) < 0.8)
                    self.members[stem][f"{name}/{number:04}_{drawer:02}.png"] = png(image)
                    # Pillow resizes 1-bit images by nearest neighbour only
                    small.append(255 - np.asarray(image.resize((28, 28)).convert("L")))
                self.images[name] = torch.from_numpy(np.stack(small))[:, None]

    def zipped(self, stem: str) -> bytes:
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            for name, content in self.members[stem].items():
                # a member without a time of its own carries the clock's: other bytes a moment later
                archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        return buffer.getvalue()

    def write(self, root: Path) -> None:
        folder = root / "omniglot"
        folder.mkdir(parents=True)
        for stem in self.members:
            (folder / f"{stem}.zip").write_bytes(self.zipped(stem))


class Server:
    """Answers GET with ``bodies[path]``, announcing ``extra`` bytes more than it sends."""

    def __init__(self) -> None:
        self.bodies: dict[str, bytes] = {}
        self.extra = 0
        self.asked: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.asked.append(self.path)
                if self.path not in outer.bodies:
                    self.send_error(404)
                    return
                body = outer.bodies[self.path]
                self.send_response(200)
                self.send_header("Content-Length", str(len(body) + outer.extra))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"


CIFAR_TABLE = """# a table of four classes
class superclass cifar_fs fc100
ant insects train val
bat mammals train train
cow mammals val train
dog mammals test test
"""
CIFAR_ROWS = {"train": 20, "test": 4}


class Cifar:
    """An archive in the layout of CIFAR-100 with four classes of six, and what it should give.

    An ant is there a second time as a cow, so one image is in two splits of both data sets.
    """

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        names = [line.split()[0] for line in CIFAR_TABLE.splitlines()[2:]]
        images = draw.integers(0, 256, (4, 6, 3, 32, 32), np.uint8)
        images[2, 1] = images[0, 3]
        self.images = {n: torch.from_numpy(each) for n, each in zip(names, images, strict=True)}
        # labels do not follow the alphabet, rows are in no order, files are not in that of the rows
        labels = ["dog", "ant", "cow", "bat"]
        self.tables: dict[str, dict[str, object]] = {"meta": {"fine_label_names": labels}}
        every = np.array([(c, i) for c in range(4) for i in range(6)]).reshape(4, 6, 2)
        parts = {"train": every[:, 1:].reshape(-1, 2), "test": every[:, :1].reshape(-1, 2)}
        for stem, part in parts.items():
            rows = draw.permutation(part).tolist()
            self.tables[stem] = {
                "filenames": [f"{names[c]}_s_{i:06}.png" for c, i in rows],
                "fine_labels": [labels.index(names[c]) for c, _ in rows],
                "data": np.stack([images[c, i].reshape(-1) for c, i in rows]),
            }

    def members(self, write: Callable[[object], bytes] | None = None) -> dict[str, bytes]:
        """The pickles by their names in the archive."""
        write = write or python3
        return {f"cifar-100-python/{stem}": write(each) for stem, each in self.tables.items()}

    def write(self, root: Path, content: bytes | None = None) -> Path:
        path = root / "cifar100" / "cifar-100-python.tar.gz"
        path.parent.mkdir(parents=True)
        path.write_bytes(content or packed(self.members()))
        return path


class MiniImagenet:
    """The three files of miniImageNet, of a few classes of four images, and what they should give.

    The classes of a file come in no order, and neither do the images of a class.
    """

    CLASSES: ClassVar = {"train": 3, "val": 2, "test": 2}
    IMAGES = 4

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.images: dict[str, dict[str, torch.Tensor]] = {}
        self.contents: dict[str, dict[str, object]] = {}
        for split, count in self.CLASSES.items():
            pixels = draw.integers(0, 256, (count * self.IMAGES, 84, 84, 3), np.uint8)
            owned = draw.permutation(len(pixels)).reshape(count, -1).tolist()
            names = [f"n{ord(split[1])}{c}" for c in draw.permutation(count)]
            listed = dict(zip(names, owned, strict=True))
            self.contents[split] = {"image_data": pixels, "class_dict": listed}
            self.images[split] = {
                name: torch.stack(
                    [torch.from_numpy(pixels[i].transpose(2, 0, 1).copy()) for i in sorted(rows)]
                )
                for name, rows in sorted(listed.items())
            }

    def files(self, write: Callable[[object], bytes] | None = None) -> dict[str, bytes]:
        """The files by their names."""
        names = {"train": "train", "val": "validation", "test": "test"}
        return {
            f"mini-imagenet-cache-{names[split]}.pkl": (write or python(4))(content)
            for split, content in self.contents.items()
        }


class TieredImagenet:
    """The six files of tieredImageNet, of a few classes of 2 to 4 images, and what they should give.

    The images of a class lie anywhere.
    """

    LABELS: ClassVar = {
        "train": [2, 0, 1, 0, 2, 2, 1, 2],
        "val": [1, 1, 0, 0, 0],
        "test": [0, 1, 0, 1, 1],
    }
    CLASSES: ClassVar = {split: max(labels) + 1 for split, labels in LABELS.items()}
    IMAGES: ClassVar = {split: len(labels) for split, labels in LABELS.items()}

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed)
        self.pixels = {
            split: np.repeat(draw.integers(0, 256, (count, 84, 84, 1), np.uint8), 3, 3)
            for split, count in self.IMAGES.items()
        }
        for images in self.pixels.values():
            images[:, :20] = (10, 100, 200)  # which a PNG file holds in a few bytes

    def classes(self, split: str) -> dict[str, torch.Tensor]:
        """The images of each class in the order of the file, uint8 [n, 3, 84, 84]."""
        labels = np.array(self.LABELS[split])
        return {
            f"{split}/{c:03}": torch.from_numpy(
                self.pixels[split][labels == c].transpose(0, 3, 1, 2).copy()
            )
            for c in range(self.CLASSES[split])
        }

    def contents(self) -> dict[str, object]:
        """What is in the files, by their names."""
        found: dict[str, object] = {}
        for split, images in self.pixels.items():
            files = [png(Image.fromarray(each)) for each in images]
            found[f"{split}_images_png.pkl"] = [np.frombuffer(f, np.uint8)[:, None] for f in files]
            found[f"{split}_labels.pkl"] = {
                "label_specific": np.array(self.LABELS[split], np.int32),
                "label_specific_str": ["crane"] * self.CLASSES[split],
            }
        return found


def entry(name: str, size: int, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.size = size
    for field, value in fields.items():
        setattr(info, field, value)
    return info


def packed(members: Mapping[str, bytes], *more: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar.gz of these members, and of more whose headers may lie."""
    plain = [(entry(name, len(content)), content) for name, content in members.items()]
    folder = entry("cifar-100-python", 0, type=tarfile.DIRTYPE)
    tar = b""
    for info, content in [(folder, b""), *plain, *more]:
        tar += info.tobuf(tarfile.GNU_FORMAT) + content + bytes(-len(content) % tarfile.BLOCKSIZE)
    return gzip.compress(tar + bytes(2 * tarfile.BLOCKSIZE), 1, mtime=0)


def python3(value: object) -> bytes:
    """As Python 3 writes the data: keys and file names are bytes, and those are encoded text."""

    def as_bytes(each: object) -> object:
        match each:
            case str():
                return each.encode()
            case list():
                return [as_bytes(item) for item in each]
            case dict():
                return {as_bytes(key): as_bytes(item) for key, item in each.items()}
        return each

    return pickle.dumps(as_bytes(value), 2)


def python(protocol: int) -> Callable[[object], bytes]:
    """As Python 3 writes by itself, in one of its own protocols."""
    return lambda value: pickle.dumps(value, protocol)


def python2(value: object) -> bytes:
    """As Python 2 writes the data: text is bytes, and each value gets a number."""
    numbers = itertools.count(1)

    def note() -> bytes:
        return pickle.BINPUT + bytes([next(numbers) % 256])

    def text(content: bytes) -> bytes:
        if len(content) < 256:
            return pickle.SHORT_BINSTRING + bytes([len(content)]) + content + note()
        return pickle.BINSTRING + struct.pack("<i", len(content)) + content + note()

    def old(each: object) -> bytes:
        match each:
            case str():
                return text(each.encode())
            case int():
                return pickle.BININT1 + bytes([each])
            case list():
                items = b"".join(old(item) for item in each)
                return pickle.EMPTY_LIST + note() + pickle.MARK + items + pickle.APPENDS
            case dict():
                items = b"".join(old(key) + old(item) for key, item in each.items())
                return pickle.EMPTY_DICT + note() + pickle.MARK + items + pickle.SETITEMS
            case np.ndarray():
                shape = b"".join(b"M" + struct.pack("<H", size) for size in each.shape)
                kind = each.dtype.str.encode()
                order, flag = ("F", b"\x88") if each.flags.f_contiguous else ("C", b"\x89")
                return b"".join([
                    b"cnumpy.core.multiarray\n_reconstruct\n", note(), b"cnumpy\nndarray\n", note(),
                    b"K\x00\x85", text(b"b"), b"\x87R", note(), b"(K\x01(", shape, b"t",
                    b"cnumpy\ndtype\n", note(), text(kind[1:]), b"K\x00K\x01\x87R", note(),
                    b"(K\x03", text(kind[:1]), b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb", flag,
                    text(each.tobytes(order)), b"tb",
                ])  # fmt: skip
        raise TypeError(type(each))

    return b"\x80\x02" + old(value) + b"."
