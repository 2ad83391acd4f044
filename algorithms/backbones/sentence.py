"""Base of the encoders of texts that a tokenizer prepares: pretrained vectors, and transformers."""

import hashlib
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from algorithms.backbones.encoder import Encoder

NONE = -1
"""Stands behind the tokens of a text."""


class SentenceEncoder(Encoder):
    """An encoder of the first ``length`` tokens of a text, by a tokenizer of the library of that name.

    Base class: `embed` maps tokens to features.
    """

    reads_texts = True
    batch_size = 32
    adds_special_tokens: ClassVar[bool]
    length: int

    def read_tokenizer(self, file: Path, length: int) -> None:
        """Read the tokenizer in a file; raise ValueError if it cannot be read."""
        try:
            from tokenizers import Tokenizer
        except ImportError:
            raise ValueError(
                "tokenizers is not installed: pip install '.[text]' in a clone of this project"
            ) from None
        try:
            self.tokenizer = Tokenizer.from_file(str(file))
        except Exception as error:  # the library raises Exception itself
            raise ValueError(f"{file.name} is missing, or holds no tokenizer ({error})") from None
        self.tokenizer.no_padding()
        self.tokenizer.enable_truncation(length)
        self.length = length

    def prepare(self, example: str) -> Tensor:
        """Return the tokens of a text, int32 [``length``], with -1 behind them."""
        tokens = self.tokenizer.encode(example, add_special_tokens=self.adds_special_tokens).ids
        return F.pad(
            torch.tensor(tokens, dtype=torch.int32), (0, self.length - len(tokens)), value=NONE
        )

    def encode(self, prepared: Tensor) -> Tensor:
        """Return features [B, F]; columns behind the longest text are left out."""
        longest = int((prepared != NONE).sum(1).max())
        tokens = prepared[:, : max(1, longest)]
        return self.embed(tokens.clamp(min=0), tokens != NONE)

    def embed(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return features [B, F] of tokens [B, L], where ``mask`` says which there are."""
        raise NotImplementedError


def mean(vectors: Tensor, mask: Tensor) -> Tensor:
    """Return the mean [B, F] of the vectors [B, L, F] that a mask [B, L] says; of none, zero."""
    weights = mask.unsqueeze(-1).to(vectors.dtype)
    return (vectors * weights).sum(1) / weights.sum(1).clamp(min=1)


def folder_of(package: str, project: str, extra: str) -> Path:
    """Return the folder of an installed package, without importing it; raise ValueError without it."""
    spec = find_spec(package)
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        raise ValueError(
            f"{project} is not installed: pip install '.[{extra}]' in a clone of this project"
        )
    return Path(folders[0])


def checked(file: Path, sha256: str) -> Path:
    """Return a file; raise ValueError if it is missing or is not the one of a SHA-256."""
    try:
        found = hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError:
        raise ValueError(f"{file.name} is missing in its package: install it again") from None
    if found != sha256:
        raise ValueError(f"{file.name} is another file than the one that this encoder is made for")
    return file
