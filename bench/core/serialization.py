"""Serialisation of tensors, read back without trusting the file."""

import hashlib
import io
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch


def to_bytes(state: Any) -> memoryview:
    """Return the output of `torch.save`."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def read(path: Path) -> Any:
    """Return the tensors, numbers and texts in a file written from `to_bytes`, on the CPU.

    Raises:
        ValueError: If the content is anything else. No code in it is run, each part must match its
            checksum, and nothing may expand to more than the size of the file.
        OSError: If the file does not exist or cannot be read.
    """
    if not path.is_file():  # also excludes pipes, which would block
        raise FileNotFoundError(f"{path} is not a file")
    most = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(member.file_size for member in archive.infolist()) > most:
                raise ValueError("it is packed")
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is damaged")
        with warnings.catch_warnings(action="ignore"):
            state = torch.load(path, map_location="cpu", weights_only=True)
        _check_sizes(state, most)
    except Exception as error:  # torch may raise anything on corrupt bytes
        raise ValueError(str(error).split("\n", 1)[0] or type(error).__name__) from None
    return state


def to_safetensors(state: Mapping[str, torch.Tensor]) -> bytes:
    """Return tensors by name in the format of safetensors."""
    copies = {name: value.detach().cpu().contiguous().clone() for name, value in state.items()}
    return safetensors.torch.save(copies)


def read_safetensors(path: Path, sha256: str) -> dict[str, torch.Tensor]:
    """Return the tensors in a file written from `to_safetensors`, by name, on the CPU.

    Raises:
        ValueError: If the content has another digest or is anything else. There is no code in this
            format, and a file holds each byte of its tensors.
        OSError: If the file does not exist or cannot be read.
    """
    if not path.is_file():  # also excludes pipes, which would block
        raise FileNotFoundError(f"{path} is not a file")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ValueError("its SHA-256 is not the stored one")
    try:
        return safetensors.torch.load(content)
    except Exception as error:  # the library may raise anything on other content
        raise ValueError(str(error).split("\n", 1)[0] or type(error).__name__) from None


def _check_sizes(state: Any, most: int) -> None:
    """Raise ValueError if a tensor stands for more bytes than ``most`` by repeating elements."""
    waiting, seen = [state], set()
    while waiting:
        each = waiting.pop()
        if id(each) in seen:
            continue
        seen.add(id(each))
        if isinstance(each, torch.Tensor) and each.numel() * each.element_size() > most:
            raise ValueError(f"it has a tensor of shape {tuple(each.shape)}")
        if isinstance(each, dict):
            waiting += each.values()
        elif isinstance(each, list | tuple):
            waiting += each
