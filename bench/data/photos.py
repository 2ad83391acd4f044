"""Photographs as strangers keep them: any format, size and mode, made square uint8 images of one size.

The middle square of an image is scaled to the wanted side by the Lanczos filter, which averages all
pixels that it covers when it makes an image smaller. EXIF orientation is obeyed, transparent places are
white, and of 16 bits the upper 8 are taken. JPEG files are decoded at a half, a quarter or an eighth of
their size as long as that is twice the wanted one at least: faster by a multiple, and nearly the same
pixels (0.5 of 255 apart on average).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from math import ceil
from pathlib import Path
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, UnidentifiedImageError
from tqdm import tqdm

Source = TypeVar("Source")
Result = TypeVar("Result")

# formats that Pillow has no decoder of its own for; for EPS it would run another program
UNREAD = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# a JPEG is decoded at no less than so many times the wanted size
GAP = 2
# what makes an image upright, by its EXIF orientation
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# of a decoded image, which takes up to sixteen bytes of memory each while it is made smaller
MOST_PIXELS = 2**26
# decoded images that wait for their turn, for each thread
AHEAD = 8


@cache
def formats() -> list[str]:
    """The names of all formats that are read here."""
    Image.init()
    return [name for name in Image.ID if name not in UNREAD]


@cache
def suffixes() -> frozenset[str]:
    """How names of files in these formats end, such as ``.jpg``; in lower case."""
    known = set(formats())
    return frozenset(end for end, name in Image.registered_extensions().items() if name in known)


def photo(
    file: Path | BinaryIO, side: int, channels: int, only: list[str] | None = None
) -> np.ndarray:
    """The image in a file, uint8 [channels, side, side], in grey (1) or red, green, blue (3).

    ``only`` names the formats that it may have. Raises whatever Pillow does where that is no image.
    """
    mode = "L" if channels == 1 else "RGB"
    with Image.open(file, formats=only or formats()) as image:
        reach = GAP * side / min(image.size)
        image.draft(mode, (ceil(image.width * reach), ceil(image.height * reach)))
        if (pixels_in := image.width * image.height) > MOST_PIXELS:  # not yet decoded
            raise ValueError(f"it has {pixels_in:,} pixels, and {MOST_PIXELS:,} are the most")
        image.load()
        turn = TURNS.get(orientation(image))
        plain = flat(image, mode)
    edge = min(plain.size)
    left, top = (plain.width - edge) / 2, (plain.height - edge) / 2
    middle = (left, top, left + edge, top + edge)
    small = plain.resize((side, side), Image.Resampling.LANCZOS, middle)
    pixels = np.asarray(small.transpose(turn) if turn is not None else small)
    return pixels.reshape(side, side, channels).transpose(2, 0, 1)


def orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 (upright) where there is none or it cannot be read."""
    try:
        number: int = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # what is damaged there does not make the image unreadable
        return 1
    return number


def flat(image: Image.Image, mode: str) -> Image.Image:
    """The image in a mode of 8 bits, transparent places white; raises ValueError for 32 bits."""
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
    """`photo`, or why the file cannot be read, without its place on this machine."""
    try:
        return photo(file, side, channels, only)
    except UnidentifiedImageError:
        return "it is no image that Pillow knows"
    except OSError as error:
        return ascii(error.strerror or str(error))[1:-1][:100]
    except Exception as error:  # Pillow raises whatever the bytes lead it to
        return ascii(str(error) or type(error).__name__)[1:-1][:100]


def side_by_side(
    work: Callable[[Source], Result],
    sources: Iterable[Source],
    label: str,
    total: int,
    done: int = 0,
) -> Iterator[Result]:
    """The results of the work on each source, in their order, with a progress bar on a terminal.

    There are as many threads as torch may use: Pillow decodes and scales without Python's lock, so that
    processes would be no faster. No more sources are taken than are worked on next.
    """
    threads = torch.get_num_threads()
    waiting: deque[Future[Result]] = deque()
    with (
        ThreadPoolExecutor(threads, "photos") as pool,
        # disable=None: no bar where nobody watches
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
