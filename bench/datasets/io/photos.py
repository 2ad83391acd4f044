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
from typing import Any, BinaryIO, TypeVar

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from tqdm import tqdm

from bench.core.errors import UserError
from bench.tasks.pool import Resampling

Source = TypeVar("Source")
Result = TypeVar("Result")

# formats that Pillow has no built-in decoder for; for EPS it would run another program
UNREAD = {"BUFR", "EPS", "GRIB", "HDF5", "MPEG", "WMF"}
# a JPEG is decoded at no less than this many times the requested size
GAP = 2
# limit of a decoded image, which takes up to 16 bytes of memory per pixel while it is downscaled
MOST_PIXELS = 2**26
ENCODED_SIDE = 384
"""Pixels that encoders see of a photo's shorter side, at most; large JPEG files are decoded smaller."""
CHANNELS = (1, 3, 4)
"""Numbers of channels that an array of an image may have: grey, RGB, or RGB with transparency."""
# decoded images in the queue, per thread
AHEAD = 8


@cache
def formats() -> list[str]:
    """Return the names of all formats that are read, HEIF among them where pillow-heif is installed."""
    Image.init()
    with suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
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
    return middle(plain, (side, side), "lanczos")


def middle(image: Image.Image, size: tuple[int, int], resampling: Resampling) -> np.ndarray:
    """Return the largest central part of an image with the proportions of ``size`` (H, W), in it.

    It is uint8 [C, H, W], of an image in 8-bit grey or RGB.
    """
    height, width = size
    wide = min(image.width, image.height * width / height)
    high = min(image.height, image.width * height / width)
    left, top = (image.width - wide) / 2, (image.height - high) / 2
    how = Image.Resampling[resampling.upper()]
    small = image.resize((width, height), how, (left, top, left + wide, top + high))
    return np.asarray(small).reshape(height, width, -1).transpose(2, 0, 1)


def to_image(pixels: np.ndarray) -> Image.Image:
    """Return an image in grey or RGB from uint8 [C, H, W]."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))


def opened(source: Any, side: int, mode: str) -> Image.Image:
    """Return the whole image in a file, a Pillow image or an array, upright, in an 8-bit mode.

    ``side`` is the size that it is needed in, see `decoded`. Raises UserError.
    """
    try:
        if isinstance(source, str | Path):
            return decoded(Path(source), side, mode)
        if isinstance(source, Image.Image):
            return flat(ImageOps.exif_transpose(source), mode)
    except Exception as error:  # Pillow may raise anything on corrupt bytes
        name = source if isinstance(source, str | Path) else "An image"
        raise UserError(f"{name} cannot be read: {reason(error)}.") from None
    return flat(to_image(pixels_of(source)), mode)


def pixels_of(source: Any) -> np.ndarray:
    """Return the pixels of an array, uint8 [C, H, W]; raise UserError for other than an image."""
    array = (
        source.detach().cpu().numpy() if isinstance(source, torch.Tensor) else np.asarray(source)
    )
    places = [axis for axis in (0, -1) if array.ndim == 3 and array.shape[axis] in CHANNELS]
    if (array.ndim != 2 and len(places) != 1) or array.dtype.kind not in "buif" or not array.size:
        raise UserError(
            f"An array of shape {array.shape} and type {array.dtype} is no image: [H, W], [H, W, C] or "
            "[C, H, W] of numbers is, with 1, 3 or 4 channels."
        )
    array = array[None] if array.ndim == 2 else np.moveaxis(array, places[0], 0)
    most = 1 if array.dtype.kind in "bf" else 255
    if not (array.min() >= 0 and array.max() <= most):
        raise UserError(
            f"The pixels of an array go from {array.min():g} to {array.max():g}, and should be integers "
            "in 0..255 or floats in 0..1."
        )
    pixels: np.ndarray = np.rint(array.astype(np.float64) * (255 // most)).astype(np.uint8)
    return np.ascontiguousarray(pixels)


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
    except Exception as error:  # Pillow may raise anything on corrupt bytes
        return reason(error)


def reason(error: Exception) -> str:
    """Return why an image cannot be read, without local paths."""
    if isinstance(error, UnidentifiedImageError):
        return "it is no image that Pillow knows"
    why = error.strerror if isinstance(error, OSError) else None
    return ascii(why or str(error) or type(error).__name__)[1:-1][:100]


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
        tqdm(desc=label, total=total, initial=done, unit="example", disable=None) as bar,
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
