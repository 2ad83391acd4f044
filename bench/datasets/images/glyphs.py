"""Glyphs: printed letters of many scripts in many typefaces, without any download.

A class is a letter; its images are that letter in up to 16 typefaces (DejaVu and STIX, which
matplotlib ships), uint8 [1, 28, 28], ink = 255, paper = 0, centred. It is **not Omniglot**, and its
results must not be compared with those of Omniglot: print varies less than handwriting, and there
are fewer classes. It is for trying things out, for tests and for machines without a network.

Letters that are nearly indistinguishable at this size, such as Latin A, Greek Alpha and Cyrillic A,
are one class, the one of the lowest code point, and accented forms of the others are left out. A
letter, its accented forms and both its cases are in the same split, so that the letters of the test
split are new in every respect. No image occurs twice.
"""

import hashlib
import logging
import unicodedata
from dataclasses import replace
from pathlib import Path

import matplotlib
import numpy as np
import torch
from matplotlib import ft2font

from bench.core.errors import UserError
from bench.datasets.io.cache import DataDirs, cached
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset, Pool

log = logging.getLogger(__name__)

# content digest behind the reference results; another FreeType may render some pixels differently
DIGEST = "a86ddbad2be1fd0b69163ca527671fa9cd8e577b99635d26b875f5c84c589a77"

FACES = (
    *(f"DejaVuSans{style}" for style in ("", "-Oblique", "-Bold", "-BoldOblique")),
    *(f"DejaVuSansMono{style}" for style in ("", "-Oblique", "-Bold", "-BoldOblique")),
    *(f"DejaVuSerif{style}" for style in ("", "-Italic", "-Bold", "-BoldItalic")),
    *(f"STIXGeneral{style}" for style in ("", "Italic", "Bol", "BolIta")),
)
SIDE = 28
# pixels per em: a capital is about 16 pixels high, and few letters with accents exceed 28
EM = 22
MIN_IMAGES = 10


def prepare(folders: DataDirs) -> Dataset:
    """Return the letters, drawn from the typefaces of the installed matplotlib; see the module.

    Raises UserError if matplotlib was installed without its typefaces. Logs a warning if the pixels
    differ from those of the reference results, as they may with another FreeType.
    """
    paths = typefaces()
    dataset = cached(folders.cache, "glyphs", recipe(paths), lambda: build(paths))
    check_pin(dataset, DIGEST)
    return replace(dataset, inverted=True).with_groups(family_of_name)


def typefaces() -> list[Path]:
    """Return the font files; raise UserError if matplotlib was installed without them."""
    fonts = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    paths = [fonts / f"{face}.ttf" for face in FACES]
    if missing := [path for path in paths if not path.exists()]:
        raise UserError(
            f"matplotlib has no typeface {missing[0]}; "
            "install the matplotlib of PyPI, or use dataset=omniglot"
        )
    return paths


def recipe(paths: list[Path], *code: str) -> bytes:
    """Return a hash of all that drawn letters depend on.

    These are typefaces, FreeType, matplotlib, this file and other files of ``code``.
    """
    digest = hashlib.sha256(ft2font.__freetype_version__.encode())
    digest.update(matplotlib.__version__.encode())
    for path in (*map(Path, (__file__, *code)), *paths):
        digest.update(path.read_bytes())
    return digest.digest()


def check_pin(dataset: Dataset, digest: str) -> None:
    """Log a warning if the pixels are not those of the reference results."""
    if dataset.digest != digest:
        log.warning(
            "The letters are drawn a little differently here (matplotlib %s, FreeType %s) than for "
            "the reference results; compare only rows of the same data digest",
            matplotlib.__version__,
            ft2font.__freetype_version__,
        )


def build(paths: list[Path]) -> Dataset:
    """Draw the letters, merge those that look alike, and split them."""
    letters, images = draw(paths)
    doubles = look_alikes(letters, images)

    pools: dict[str, dict[str, torch.Tensor]] = {"train": {}, "val": {}, "test": {}}
    seen: set[bytes] = set()
    for letter, faces in zip(letters, images, strict=True):
        base = unicodedata.normalize("NFD", letter)[0]
        if letter in doubles or base in doubles:
            continue
        own = faces[first_drawn(faces, seen)]
        if len(own) >= MIN_IMAGES:
            split = split_of(family_of(letter))
            pools[split][name_of(letter)] = torch.from_numpy(own)[:, None]

    splits = {split: Pool.of(classes) for split, classes in pools.items()}
    check(splits)
    return Dataset.of("glyphs", splits)


def first_drawn(faces: np.ndarray, seen: set[bytes]) -> np.ndarray:
    """Return the typefaces whose image of a letter is neither empty nor ``seen``; update ``seen``.

    Args:
        faces: The images of the letter, uint8 [typefaces, side, side].
        seen: The bytes of the images that letters have had so far.
    """
    first = []
    for face, image in enumerate(faces):
        if image.any() and image.tobytes() not in seen:
            seen.add(image.tobytes())
            first.append(face)
    return np.array(first, np.int64)


def name_of(letter: str) -> str:
    """Return the name of a letter's class, such as ``U+0041 LATIN CAPITAL LETTER A``."""
    return f"U+{ord(letter):04X} {unicodedata.name(letter)}"


def family_of(letter: str) -> str:
    """Return the common key of a letter, its accented forms and both its cases."""
    # upper first: dotless i and i have the same capital
    return unicodedata.normalize("NFD", letter)[0].upper().casefold()


def family_of_name(name: str) -> str:
    """Return the family of the letter whose class has this name, see `name_of`."""
    return family_of(chr(int(name.split()[0].removeprefix("U+"), 16)))


def split_of(family: str) -> str:
    """Return the split of a family by a hash: about 64 / 16 / 20 %, the same on every machine.

    It does not depend on versions either.
    """
    share = int.from_bytes(hashlib.sha256(family.encode()).digest()[:4]) / 2**32
    return "train" if share < 0.64 else "val" if share < 0.8 else "test"


def draw(
    paths: list[Path], side: int = SIDE, em: int = EM, accents: bool = True
) -> tuple[list[str], np.ndarray]:
    """Return all letters that enough typefaces have, and their images.

    Images are uint8 [letters, typefaces, side, side], empty if a typeface lacks the letter or the
    letter does not fit. ``em`` is the font size in pixels. Letters with accents are included only
    with ``accents``.
    """
    fonts = [ft2font.FT2Font(str(path)) for path in paths]
    covers = [{chr(code) for code in font.get_charmap()} for font in fonts]
    letters = [
        letter
        for letter in sorted(set().union(*covers))
        if is_letter(letter) and sum(letter in cover for cover in covers) >= MIN_IMAGES
        if accents or unicodedata.normalize("NFD", letter) == letter
    ]
    images = np.zeros((len(letters), len(fonts), side, side), np.uint8)
    for face, (font, cover) in enumerate(zip(fonts, covers, strict=True)):
        font.set_size(em, 72)
        for index, letter in enumerate(letters):
            if letter in cover:
                # hinting moves strokes by rules that depend on the version of FreeType
                font.set_text(letter, 0, flags=ft2font.LoadFlags.NO_HINTING)
                font.draw_glyphs_to_bitmap(antialiased=True)
                images[index, face] = centred(np.asarray(font.get_image()), side)
    return letters, images


def is_letter(character: str) -> bool:
    """Return whether it is a true letter: no modifier, ligature or styled copy of another."""
    plain = unicodedata.normalize("NFKC", character) == character
    return plain and unicodedata.category(character) in ("Lu", "Ll", "Lo")


def centred(bitmap: np.ndarray, side: int) -> np.ndarray:
    """Return the ink of a bitmap, centred in a square image; empty if it does not fit."""
    image = np.zeros((side, side), np.uint8)
    rows, columns = np.flatnonzero(bitmap.any(1)), np.flatnonzero(bitmap.any(0))
    if len(rows) == 0:
        return image
    ink = bitmap[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    height, width = ink.shape
    if max(height, width) <= side:
        top, left = (side - height) // 2, (side - width) // 2
        image[top : top + height, left : left + width] = ink
    return image


def look_alikes(letters: list[str], images: np.ndarray) -> set[str]:
    """Return the letters that look like an earlier one that is not itself such a duplicate.

    Two letters look alike if in most typefaces that have both, their squared difference is less
    than a twentieth of the squared ink of the fainter one.
    """
    alike = np.zeros((len(letters), len(letters)), np.int64)
    both = np.zeros_like(alike)
    for face in range(images.shape[1]):
        # integers below 2**53 are exact in float64, so the result is the same on every machine
        flat = images[:, face].reshape(len(letters), -1).astype(np.float64)
        ink = (flat * flat).sum(1)
        difference = ink[:, None] + ink - 2 * flat @ flat.T
        drawn = (ink[:, None] > 0) & (ink > 0)
        alike += drawn & (20 * difference < np.minimum(ink[:, None], ink))
        both += drawn
    same = 2 * alike > both

    kept: list[int] = []
    for index in range(len(letters)):
        if not same[index, kept].any():
            kept.append(index)
    return set(letters) - {letters[index] for index in kept}
