"""Tensors in files: what `torch.save` writes, read back without trust."""

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch


def to_bytes(state: Any) -> memoryview:
    """What `torch.save` writes."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getbuffer()


def read(path: Path) -> Any:
    """The tensors, numbers and texts that `to_bytes` made the content of a file of, on the CPU.

    Raises ValueError when the content is anything else: no code in it is run, each part is held to its
    checksum, and nothing may unfold to more than the file itself. Raises OSError when there is no file,
    or it cannot be read.
    """
    if not path.is_file():  # nor a pipe, which would be waited for
        raise FileNotFoundError(f"{path} is no file")
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
    except Exception as error:  # torch raises whatever the bytes lead it to
        raise ValueError(str(error).split("\n", 1)[0] or type(error).__name__) from None
    return state


def _check_sizes(state: Any, most: int) -> None:
    """Raises ValueError where a tensor stands for more bytes than ``most``, by repeating some."""
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
