"""Reading pickles of plain data: Python's own reader behind an allow-list.

A pickle is a program, and Python's reader by itself runs it: even one that may not look up names
can fill the memory from a few bytes, or never end. Here it is left the instructions and names that
dictionaries, lists, tuples, numbers, text, bytes and arrays of integers need, in protocols 2 (of
Python 2 and of Python 3), 3 and 4. The names stand for classes of this file: nothing is imported.
"""

import pickle
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from typing import Any, BinaryIO, ClassVar, Literal, TypeGuard

import numpy as np


class DType:
    """The type of an array's elements, little-endian, by its name in NumPy."""

    def __init__(self, name: Any, *_: Any) -> None:
        if name not in ("u1", "i4", "i8"):
            raise ValueError("it has something else than arrays of whole numbers")
        self.name: str = name

    def __setstate__(self, state: Any) -> None:
        if state[1] not in ("|", "<"):  # the byte order
            raise ValueError("it has something else than arrays of whole numbers")


class Array:
    """An array as described by a pickle, not yet checked.

    Its bytes are a slice of the pickle, or text.
    """

    def __init__(self, *_: Any) -> None:
        self.shape: tuple[int, ...] = ()
        self.dtype = "u1"
        self.order: Literal["C", "F"] = "C"
        self.content: bytes | memoryview | str = b""

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, by_column, content = state
        if not (
            type(shape) is tuple
            and all(type(size) is int and size > 0 for size in shape)
            and type(dtype) is DType
            and isinstance(content, bytes | memoryview | str)
        ):
            raise ValueError("it has something else than arrays of whole numbers")
        self.shape, self.dtype, self.content = shape, dtype.name, content
        self.order = "F" if by_column else "C"

    def values(self) -> np.ndarray:
        """Return the array, which is not writable; raise ValueError if it is not valid.

        It is a copy only if the content is text: Python 3 writes bytes as text in protocol 2.
        """
        content = self.content
        if isinstance(content, str):
            content = content.encode("latin1")
        return np.frombuffer(content, f"<{self.dtype}").reshape(self.shape, order=self.order)


def is_array(value: Any, dtype: str, shape: tuple[int, ...]) -> TypeGuard[Array]:
    """Return whether a value is declared to be an array of this type and shape."""
    return isinstance(value, Array) and (value.dtype, value.shape) == (dtype, shape)


def read_pickle(content: bytes | mmap, most: int) -> Any:
    """Return the value of a pickle.

    It consists of dictionaries, lists, tuples, numbers, text, bytes, `Array` and memoryview. Bytes,
    and strings of Python 2, longer than 255 are memoryviews of ``content``, never copies. In
    protocol 2, bytes of Python 3 and shorter strings become text, with one character per byte
    (Latin-1). ``most`` is the maximum number of instructions, which with the length of ``content``
    bounds time and memory.

    Values may contain themselves, so do not traverse them deeper than expected.

    Raises:
        ValueError: If it is not a pickle, is truncated, has more instructions, or asks for anything
            but data.
    """
    try:
        return _Unpickler(_File(content, most)).load()
    except ValueError:
        raise
    except Exception as error:  # Python's reader may raise anything on instructions that do not fit
        raise ValueError("it is no pickle of plain data") from error


def read_mapped(file: BinaryIO, most: int) -> Any:
    """Return `read_pickle` of a memory-mapped file, whose pages are loaded only when used."""
    content = mmap(file.fileno(), 0, access=ACCESS_READ)
    if content[:1] == b"<":
        raise ValueError("it is a web page, such as one that asks for a log-in")
    return read_pickle(content, most)


class _File:
    """A file whose long parts are views of its content; an instruction reads 1 to 3 parts."""

    def __init__(self, content: bytes | mmap, most: int) -> None:
        self.content, self.view = content, memoryview(content)
        self.at, self.most, self.parts = 0, most, 0

    def read(self, size: int) -> Any:
        part = self.view[self.at : self.at + size]
        self.at += len(part)
        self.parts += 1
        if len(part) < size:
            raise ValueError("it ends too early")
        if self.parts > 3 * self.most:
            raise ValueError(f"it has more than {self.most} instructions")
        return part if size > 255 else bytes(part)

    def readline(self) -> Any:
        end = self.content.find(b"\n", self.at)
        return self.read(len(self.view) if end < 0 else end + 1 - self.at)


class _Dict(dict[str, Any]):
    """A dictionary of names: to hash a nested tuple could take forever."""

    __slots__ = ()

    def __setitem__(self, key: str, value: Any) -> None:
        if type(key) is not str:
            raise ValueError("it has a key that is no text")
        super().__setitem__(key, value)


def _text(text: Any, _: Any) -> Any:
    """Return the text, since to encode one many times would take more memory than the pickle."""
    return text


def _call(reader: Any) -> None:
    """Call what is below the arguments on the stack, which Python's reader takes from anything."""
    arguments = reader.stack.pop()
    if type(arguments) is not tuple:
        raise ValueError("it has a call that is not for data")
    reader.stack[-1] = reader.stack[-1](*arguments)


class _Unpickler(pickle._Unpickler):
    NAMES: ClassVar = {
        "_codecs.encode": _text,
        "numpy.core.multiarray._reconstruct": Array,
        "numpy._core.multiarray._reconstruct": Array,
        "numpy.ndarray": Array,
        "numpy.dtype": DType,
    }
    ALLOWED = b"".join([
        pickle.PROTO, pickle.STOP, pickle.MARK, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE,
        pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.BINUNICODE, pickle.SHORT_BINUNICODE,
        pickle.BINSTRING, pickle.SHORT_BINSTRING, pickle.BINBYTES, pickle.SHORT_BINBYTES,
        pickle.BINBYTES8, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3,
        pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.SETITEM, pickle.SETITEMS,
        pickle.BINPUT, pickle.LONG_BINPUT, pickle.MEMOIZE, pickle.BINGET, pickle.LONG_BINGET,
        pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.BUILD,
    ])  # fmt: skip
    dispatch: ClassVar[dict[int, Callable[[Any], None]]] = {
        **{code: pickle._Unpickler.dispatch[code] for code in ALLOWED},
        pickle.FRAME[0]: lambda self: self.read(8),  # else it would be copied as a whole
        pickle.EMPTY_DICT[0]: lambda self: self.append(_Dict()),
        pickle.REDUCE[0]: _call,
    }

    def find_class(self, module: str, name: str) -> Any:
        full = f"{module}.{name}"
        if full not in self.NAMES:
            raise ValueError(f"it asks for {full}, which is not data")
        return self.NAMES[full]

    def _decode_string(self, value: Any) -> Any:
        return value if isinstance(value, memoryview) else value.decode("latin1")
