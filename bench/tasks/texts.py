"""Texts as examples of a pool: their UTF-8 bytes in a rectangle, which keeps shapes static.

The digest of a data set is then that of the texts themselves, whatever encoder reads them.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np
import torch
from torch import Tensor

from bench.tasks.pool import Pool


def to_bytes(texts: Sequence[str]) -> Tensor:
    """Return texts as UTF-8, uint8 [M, L]: the longest has L bytes, zeros follow the others.

    Characters of code zero, which no text needs, are left out.
    """
    encoded = [text.replace("\0", "").encode() for text in texts]
    length = max(map(len, encoded), default=0)
    rows = np.zeros((len(encoded), length), np.uint8)
    for row, each in zip(rows, encoded, strict=True):
        row[: len(each)] = np.frombuffer(each, np.uint8)
    return torch.from_numpy(rows)


def pools(splits: Mapping[str, Mapping[str, Sequence[str]]]) -> dict[str, Pool]:
    """Return the pools of texts, given by split and class; all are as long as the longest text."""
    chosen = [texts for classes in splits.values() for texts in classes.values()]
    rows = iter(to_bytes([*chain(*chosen)]).split([*map(len, chosen)]))
    return {split: Pool.of({name: next(rows) for name in of}) for split, of in splits.items()}


def to_text(row: Tensor | np.ndarray) -> str:
    """Return the text of a row of `to_bytes`; a character that was cut in two is left out."""
    return np.asarray(row).tobytes().rstrip(b"\0").decode(errors="ignore")


def normalized(text: str) -> str:
    """Return the words of a text by which two texts count as the same.

    That is NFKC, case folded, letters, marks and digits alone, with a space between words.
    """
    return " ".join(unicodedata.normalize("NFKC", text).casefold().translate(_WORDS).split())


class _Words(dict[int, int]):
    """What becomes of each character (by its code), looked up once: itself in a word, else a space."""

    def __missing__(self, code: int) -> int:
        letter = chr(code)
        kept = letter.isalnum() or unicodedata.category(letter)[0] == "M"
        self[code] = code if kept else ord(" ")
        return self[code]


_WORDS = _Words()
