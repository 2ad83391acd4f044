"""Files of any format and mode become square images of one size."""

import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps

from bench.datasets.io.photos import formats, parallel_map, photo, photo_or_reason, suffixes

# four quarters of a square, each of one colour: whichever way it is turned, it can be told
RED, GREEN, BLUE, GREY = (250, 10, 20), (20, 240, 10), (0, 30, 230), (90, 90, 90)
QUARTERS = np.array([[RED, GREEN], [BLUE, GREY]], np.uint8)


def picture(width: int = 64, height: int = 64) -> Image.Image:
    return Image.fromarray(QUARTERS).resize((width, height), Image.Resampling.NEAREST)


def saved(image: Image.Image, form: str = "PNG", **options: object) -> io.BytesIO:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    buffer.seek(0)
    return buffer


def corners(pixels: np.ndarray) -> np.ndarray:
    """The colours of the four corners of [C, H, W], as [2, 2, C]."""
    return pixels[:, [[1, 1], [-2, -2]], [[1, -2], [1, -2]]].transpose(1, 2, 0)


@pytest.mark.parametrize(
    "form", ["PNG", "BMP", "TIFF", "PPM", "GIF", "WEBP", "JPEG", "AVIF", "HEIF"]
)
def test_formats(form: str) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    pixels = photo(saved(picture(), form, **options), 16, 3)
    assert pixels.shape == (3, 16, 16) and pixels.dtype == np.uint8
    lossy = 8 if form in ("JPEG", "AVIF", "HEIF") else 0
    assert np.abs(corners(pixels).astype(int) - QUARTERS).max() <= lossy


def test_a_smaller_image_is_the_mean_of_what_it_covers() -> None:
    """Alternate black and white columns: half grey, where picking pixels would give one of them."""
    stripes = np.tile(np.array([0, 255], np.uint8), (64, 32))
    small = photo(saved(Image.fromarray(stripes)), 4, 1)
    assert small.shape == (1, 4, 4)
    assert np.abs(small.astype(int) - 127).max() <= 3


def test_a_larger_image_keeps_flat_colours() -> None:
    assert (photo(saved(Image.new("RGB", (3, 3), RED)), 32, 3) == np.reshape(RED, (3, 1, 1))).all()


@pytest.mark.parametrize("size", [(90, 64), (64, 90)])
def test_the_middle_square_is_taken(size: tuple[int, int]) -> None:
    image = Image.new("RGB", size, "white")
    image.paste(picture(), ((size[0] - 64) // 2, (size[1] - 64) // 2))
    assert np.array_equal(photo(saved(image), 64, 3), np.asarray(picture()).transpose(2, 0, 1))


def test_a_middle_between_two_pixels_is_that_of_the_mirrored_image() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (20, 27, 3), np.uint8)
    one, other = (photo(saved(Image.fromarray(each)), 20, 3) for each in (noise, noise[:, ::-1]))
    assert np.abs(one.astype(int) - other[:, :, ::-1]).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF"])
def test_exif_orientation_is_obeyed(orientation: int, form: str) -> None:
    """As Pillow itself turns the whole image."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    file = saved(picture(80, 48), form, exif=exif)
    with Image.open(file) as image:
        upright = ImageOps.exif_transpose(image)
    file.seek(0)
    expected = photo(saved(upright), 16, 3)
    found = photo(file, 16, 3).astype(int)
    assert np.abs(corners(found) - corners(expected)).max() <= 12


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_is_passed_over() -> None:
    pixels = photo(saved(picture(), "JPEG", exif=b"Exif\0\0MM\0*junk and more junk"), 16, 3)
    assert np.abs(corners(pixels).astype(int) - QUARTERS).max() <= 8


def palette() -> Image.Image:
    """Four colours by number."""
    image = Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8).repeat(8, 0).repeat(8, 1), "P")
    image.putpalette(QUARTERS.tobytes())
    return image


@pytest.mark.parametrize(
    ("image", "options", "colours"),
    [
        (picture().convert("L"), {}, np.asarray(Image.fromarray(QUARTERS).convert("L"))),
        (Image.new("1", (8, 8), 1), {}, 255),
        (palette(), {}, QUARTERS),
        (palette(), {"transparency": 3}, [[RED, GREEN], [BLUE, (255, 255, 255)]]),
        # see-through is white, half of it halfway there
        (Image.new("RGBA", (8, 8), (100, 0, 50, 0)), {}, 255),
        (Image.new("RGBA", (8, 8), (100, 0, 50, 255)), {}, (100, 0, 50)),
        (Image.new("RGBA", (8, 8), (101, 1, 51, 51)), {}, (224, 204, 214)),
        (Image.new("LA", (8, 8), (40, 0)), {}, 255),
        (Image.new("RGB", (8, 8), RED), {"transparency": RED}, 255),
        (Image.fromarray(np.full((8, 8), 200 * 256 + 77, np.uint16)), {}, 200),
    ],
)
def test_modes(image: Image.Image, options: dict[str, object], colours: object) -> None:
    wanted = np.asarray(colours)
    wanted = wanted[..., None] if wanted.shape == (2, 2) else wanted
    assert np.array_equal(
        corners(photo(saved(image, **options), 16, 3)), wanted + np.zeros((2, 2, 3))
    )


def test_grey_is_what_pillow_makes_of_colours() -> None:
    grey = np.asarray(picture().convert("L"))
    assert np.array_equal(photo(saved(picture()), 64, 1), grey[None])
    assert np.abs(photo(saved(picture(), "JPEG"), 64, 1).astype(int) - grey).max() <= 12
    assert photo(saved(picture().convert("CMYK"), "JPEG"), 64, 1).shape == (1, 64, 64)


def test_jpegs_are_decoded_small_with_nearly_the_same_pixels() -> None:
    low = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)
    image = Image.fromarray(low).resize((512, 384), Image.Resampling.BICUBIC)
    file = saved(image, "JPEG", quality=90)
    with Image.open(file) as whole:
        exact = photo(saved(whole), 32, 3).astype(int)
    difference = np.abs(photo(file, 32, 3) - exact)
    assert 0 < difference.mean() < 1 and difference.max() < 12
    # no smaller decoding has twice the wanted pixels: no difference at all
    with Image.open(file) as whole:
        assert np.array_equal(photo(file, 97, 3), photo(saved(whole), 97, 3))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "no image that Pillow knows"),
        (b"no image", "no image that Pillow knows"),
        (saved(picture(), "JPEG").getvalue()[:400], "Truncated"),
        (saved(picture(), "JPEG").getvalue()[:-40], "truncated"),
        (saved(picture()).getvalue()[:90], "truncated|bad|broken"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "no image that Pillow knows"),
        (saved(Image.new("F", (8, 8)), "TIFF").getvalue(), "32 bits a pixel"),
        (None, "No such file"),
    ],
)
def test_what_cannot_be_read_is_told_without_its_place(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    found = photo_or_reason(path, 8, 3)
    assert isinstance(found, str)
    assert re.search(reason, found) and str(tmp_path) not in found, found


def test_known_suffixes() -> None:
    assert {".jpg", ".jpeg", ".png", ".webp", ".tif", ".gif", ".bmp"} <= suffixes()
    assert not {".eps", ".ps", ".pdf", ".txt", ".h5"} & suffixes()
    assert "EPS" not in formats()


def test_results_come_in_order_and_few_sources_are_taken_ahead() -> None:
    taken = []

    def sources() -> object:
        for number in range(200):
            taken.append(number)
            yield number

    results = parallel_map(lambda n: n * n, sources(), "squares", 200)  # type: ignore[arg-type]
    assert next(results) == 0
    assert len(taken) < 100
    assert [0, *results] == [n * n for n in range(200)]
