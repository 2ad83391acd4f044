"""Photographs of any format, size and mode, converted to square uint8 images of one size.

The central square of an image is scaled to the requested side by the Lanczos filter, which averages
all covered pixels when it downscales. EXIF orientation is applied, transparent pixels become white,
and of 16 bits the upper 8 are taken. JPEG files are decoded at a half, a quarter or an eighth of
their size as long as that is at least twice the requested one: several times as fast, with nearly
the same pixels (a mean difference of 0.5 of 255).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import cache
from math import ceil
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

Source = TypeVar("Source")
Result = TypeVar("Result")

# formats that Pillow has no built-in decoder for; for EPS it would run another program
UNREAD = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# a JPEG is decoded at no less than this many times the requested size
GAP = 2
# limit of a decoded image, which takes up to 16 bytes of memory per pixel while it is downscaled
MOST_PIXELS = 2**26
# decoded images in the queue, per thread
AHEAD = 8


@cache
def formats() -> list[str]:
    """Return the names of all formats that are read."""
    Image.init()
    return [name for name in Image.ID if name not in UNREAD]


@cache
def suffixes() -> frozenset[str]:
    """Return the suffixes of files in these formats, such as ``.jpg``, in lower case."""
    known = set(formats())
    return frozenset(end for end, name in Image.registered_extensions().items() if name in known)


def photo(
    file: Path | BinaryIO, side: int, channels: int, only: list[str] | None = None
) -> np.ndarray:
    """Return the image in a file, uint8 [channels, side, side], in grey (1) or RGB (3).

    ``only`` limits its format. Raises whatever Pillow raises if the file is not an image.
    """
    plain = decoded(file, side, "L" if channels == 1 else "RGB", only)
    edge = min(plain.size)
    left, top = (plain.width - edge) / 2, (plain.height - edge) / 2
    middle = (left, top, left + edge, top + edge)
    small = plain.resize((side, side), Image.Resampling.LANCZOS, middle)
    return np.asarray(small).reshape(side, side, channels).transpose(2, 0, 1)


def decoded(
    file: Path | BinaryIO, side: int, mode: str, only: list[str] | None = None
) -> Image.Image:
    """Return the whole image in a file, upright, in an 8-bit mode.

    Its shorter side has at least ``GAP * side`` pixels, if it has so many in the file. Raises
    whatever Pillow raises if the file is not an image.
    """
    with Image.open(file, formats=only or formats()) as image:
        reach = GAP * side / min(image.size)
        image.draft(mode, (ceil(image.width * reach), ceil(image.height * reach)))
        if (pixels_in := image.width * image.height) > MOST_PIXELS:  # not yet decoded
            raise ValueError(f"it has {pixels_in:,} pixels, and {MOST_PIXELS:,} are the most")
        image.load()
        with suppress(Exception):  # damaged metadata does not make the image unreadable
            ImageOps.exif_transpose(image, in_place=True)
        return flat(image, mode)


def flat(image: Image.Image, mode: str) -> Image.Image:
    """Return the image in an 8-bit mode, transparent pixels white; raise ValueError for 32 bits."""
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError("it has 32 bits a pixel, whose range is unknown; save it with 8 or 16")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def photo_or_reason(
    file: Path | BinaryIO, side: int, channels: int, only: list[str] | None = None
) -> np.ndarray | str:
    """Return `photo`, or the reason why the file cannot be read, without local paths."""
    try:
        return photo(file, side, channels, only)
    except UnidentifiedImageError:
        return "it is no image that Pillow knows"
    except OSError as error:
        return ascii(error.strerror or str(error))[1:-1][:100]
    except Exception as error:  # Pillow may raise anything on corrupt bytes
        return ascii(str(error) or type(error).__name__)[1:-1][:100]


def parallel_map(
    work: Callable[[Source], Result],
    sources: Iterable[Source],
    label: str,
    total: int,
    done: int = 0,
) -> Iterator[Result]:
    """Yield the results of ``work`` for each source, in order, with a progress bar on a terminal.

    There are as many threads as torch may use: Pillow releases the GIL while it decodes and scales,
    so processes would not be faster. Sources are consumed only as far ahead as needed to keep the
    threads busy.
    """
    threads = torch.get_num_threads()
    waiting: deque[Future[Result]] = deque()
    with (
        ThreadPoolExecutor(threads, "photos") as pool,
        # disable=None: no bar without a terminal
        tqdm(desc=label, total=total, initial=done, unit="image", disable=None) as bar,
    ):
        try:
            for source in sources:
                waiting.append(pool.submit(work, source))
                if len(waiting) > AHEAD * threads:
                    yield waiting.popleft().result()
                    bar.update()
            while waiting:
                yield waiting.popleft().result()
                bar.update()
        finally:
            pool.shutdown(cancel_futures=True)
