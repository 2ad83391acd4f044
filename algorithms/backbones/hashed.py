"""Words and n-grams of texts as hashed tokens: no vocabulary, and nothing learned from any text."""

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from unicodedata import category
from zlib import crc32

import torch
from torch import Tensor

from algorithms.backbones import Backbone
from algorithms.backbones.bag import Bag, Presence
from algorithms.backbones.encoder import Encoder

TOKENS = 2**15
"""Numbers of tokens: all of int16 that are not negative, 0 being none."""


class Hashed(Encoder):
    """Hashed tokens of a text, the first ``length`` of them, for a learner's `Bag` of them.

    Base class: `tokens` says what they are. ``dim`` and ``adapts_vectors`` are those of `Bag`.
    """

    reads_texts = True
    dtype = torch.int16
    batch_size = 512

    def __init__(self, length: int, dim: int, adapts_vectors: bool, facts: str = "") -> None:
        super().__init__()
        if min(length, dim) < 1:
            raise ValueError("length and dim must be at least 1")
        self.num_features, self.dim, self.adapts_vectors = length, dim, adapts_vectors
        facts = f"{type(self).__name__} {length} {facts}"
        self.digest = hashlib.sha256(facts.encode()).hexdigest()

    def tokens(self, text: str) -> Iterator[str]:
        """Yield the tokens of a text."""
        raise NotImplementedError

    def prepare(self, example: str) -> Tensor:
        """Return the numbers of the tokens of a text, int16 [L], with zeros behind them."""
        found = torch.zeros(self.num_features, dtype=self.dtype)
        numbers = [hashed(token) for token in islice(self.tokens(example), self.num_features)]
        found[: len(numbers)] = torch.tensor(numbers, dtype=self.dtype)
        return found

    def encode(self, prepared: Tensor) -> Tensor:
        """Return the numbers unchanged."""
        return prepared

    def backbone(self, adapts: bool) -> Backbone:
        """Return a bag of tokens."""
        return Bag(TOKENS, dim=self.dim, adapts_vectors=self.adapts_vectors)


class Words(Hashed):
    """The words of a text, case folded."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        length: int = 128,
        dim: int = 128,
        adapts_vectors: bool = False,
    ) -> None:
        super().__init__(length, dim, adapts_vectors)

    def tokens(self, text: str) -> Iterator[str]:
        """Yield the words of a text."""
        yield from words_of(text)


class Ngrams(Hashed):
    """The n-grams of ``shortest`` to ``longest`` characters of a text, case folded.

    With ``in_words``, they are those of each word with its two ends, beside the word itself;
    otherwise those of the whole text with its two ends.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        shortest: int = 3,
        longest: int = 5,
        in_words: bool = True,
        length: int = 512,
        dim: int = 256,
        adapts_vectors: bool = False,
    ) -> None:
        super().__init__(length, dim, adapts_vectors, f"{shortest} {longest} {in_words}")
        if not 1 <= shortest <= longest:
            raise ValueError("shortest must be at least 1 and at most longest")
        self.sizes, self.in_words = range(shortest, longest + 1), in_words

    def tokens(self, text: str) -> Iterator[str]:
        """Yield the words of a text with the n-grams of each, or the n-grams of the text."""
        if not self.in_words:
            yield from self._ngrams(text.casefold())
            return
        for word in words_of(text):
            yield word
            yield from self._ngrams(word)

    def _ngrams(self, text: str) -> Iterator[str]:
        text = f"<{text}>"
        for size in self.sizes:
            for start in range(len(text) - size + 1):
                # what "<" and ">" stand for is in no word, so that no n-gram is taken for one
                yield f"{size}:{text[start : start + size]}"


class Hashing(Ngrams):
    """Which words and n-grams a text has, hashed into ``buckets``; there is nothing to learn."""

    def __init__(
        self,
        input_shape: tuple[int, ...],
        *,
        shortest: int = 3,
        longest: int = 5,
        in_words: bool = True,
        length: int = 512,
        buckets: int = 8192,
    ) -> None:
        super().__init__(
            input_shape, shortest=shortest, longest=longest, in_words=in_words, length=length
        )
        if not 1 <= buckets <= TOKENS:
            raise ValueError(f"buckets must be from 1 to {TOKENS}")
        self.buckets = buckets

    def backbone(self, adapts: bool) -> Backbone:
        """Return the presence of tokens, whether or not there is training."""
        return Presence(self.buckets)


def words_of(text: str) -> list[str]:
    """Return the words of a text, case folded: runs of letters, marks and digits."""
    return "".join(c if category(c)[0] in "LMN" else " " for c in text.casefold()).split()


@lru_cache(maxsize=2**18)
def hashed(token: str) -> int:
    """Return the number of a token, in 1 .. `TOKENS` - 1."""
    return 1 + crc32(token.encode()) % (TOKENS - 1)
