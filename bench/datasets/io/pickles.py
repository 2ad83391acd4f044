"""Reading pickles of plain data without running the code they ask for.

A pickle is a program, and Python's own reader runs it: even one that may not look up names can fill
the memory from a few bytes, or never end. Here its instructions act on plain values only. Nothing
is imported or called: the few names that data needs are implemented in this file. Of protocols 2
(of Python 2 and of Python 3), 3 and 4, everything is supported that dictionaries, lists, tuples,
numbers, text, bytes and arrays of integers need; any other instruction is rejected.
"""

import pickle
import struct
from dataclasses import dataclass
from enum import Enum
from mmap import ACCESS_READ, mmap
from typing import Any, BinaryIO, TypeGuard

import numpy as np


class Type(Enum):
    """The types of an array's elements, little-endian, by their names in pickles."""

    UINT8 = "u1"
    INT32 = "i4"
    INT64 = "i8"


@dataclass(slots=True)
class Array:
    """An array as described by a pickle, not yet checked.

    Its bytes are a slice of the pickle, or text.
    """

    shape: tuple[int, ...] = ()
    type: Type = Type.UINT8
    by_column: bool = False
    content: memoryview | str = ""

    def values(self) -> np.ndarray:
        """Return the array, which is not writable; raise ValueError if it is not valid.

        It is a copy only if the content is text: Python 3 writes bytes as text in protocol 2.
        """
        content = self.content
        if isinstance(content, str):
            content = memoryview(content.encode("latin1"))
        values = np.frombuffer(content, f"<{self.type.value}")
        return values.reshape(self.shape, order="F" if self.by_column else "C")


def is_array(value: Any, kind: Type, shape: tuple[int, ...]) -> TypeGuard[Array]:
    """Return whether a value is declared to be an array of this type and shape."""
    return isinstance(value, Array) and (value.type, value.shape) == (kind, shape)


class Name(Enum):
    """The meanings of the names in a pickle."""

    ENCODE = "the bytes of a text: Python 3 writes bytes so"
    ARRAY = "an array without content"
    ARRAY_TYPE = "the class of arrays"
    TYPE = "the type of an array's elements"


NAMES = {
    "_codecs.encode": Name.ENCODE,
    "numpy.core.multiarray._reconstruct": Name.ARRAY,
    "numpy._core.multiarray._reconstruct": Name.ARRAY,
    "numpy.ndarray": Name.ARRAY_TYPE,
    "numpy.dtype": Name.TYPE,
}
CONSTANTS = {pickle.NONE: None, pickle.NEWTRUE: True, pickle.NEWFALSE: False}
# the struct formats of numbers, and of the lengths of texts with their encoding
NUMBERS = {pickle.BININT: "<i", pickle.BININT1: "<B", pickle.BININT2: "<H"}
TEXTS = {
    pickle.SHORT_BINUNICODE: ("<B", "utf-8"),
    pickle.BINUNICODE: ("<I", "utf-8"),
    pickle.SHORT_BINSTRING: ("<B", "latin1"),
}
BYTES = {
    pickle.SHORT_BINBYTES: "<B",
    pickle.BINBYTES: "<I",
    pickle.BINBYTES8: "<Q",
    pickle.BINSTRING: "<I",
}
TUPLES = {pickle.TUPLE1: 1, pickle.TUPLE2: 2, pickle.TUPLE3: 3}


def read_pickle(content: bytes | mmap, most: int) -> Any:
    """Return the value of a pickle.

    It consists of dictionaries, lists, tuples, numbers, text, `Array` and memoryview. Bytes, and
    strings of Python 2 longer than 255, are memoryviews of ``content``, never copies. In protocol
    2, bytes of Python 3 and shorter strings become text, with one character per byte (Latin-1).
    ``most`` is the maximum number of instructions, which with the length of ``content`` bounds time
    and memory.

    Values may contain themselves, so do not traverse them deeper than expected.

    Raises:
        ValueError: If it is not a pickle, is truncated, has more instructions, or asks for anything
            but data.
    """
    try:
        return _run(_Tape(content), most)
    except LookupError as error:  # a reference to something missing
        raise ValueError(f"its instructions do not fit each other ({error})") from None


def read_mapped(file: BinaryIO, most: int) -> Any:
    """Return `read_pickle` of a memory-mapped file, whose pages are loaded only when used."""
    content = mmap(file.fileno(), 0, access=ACCESS_READ)
    if content[:1] == b"<":
        raise ValueError("it is a web page, such as one that asks for a log-in")
    return read_pickle(content, most)


class _Tape:
    """A reader of bytes from first to last."""

    def __init__(self, content: bytes | mmap) -> None:
        self.content = content
        self.view = memoryview(content)
        self.at = 0

    def take(self, size: int) -> memoryview:
        part = self.view[self.at : self.at + size]
        if len(part) < size:
            raise ValueError("it ends too early")
        self.at += size
        return part

    def number(self, form: str) -> int:
        number: int = struct.unpack(form, self.take(struct.calcsize(form)))[0]
        return number

    def line(self) -> str:
        end = self.content.find(b"\n", self.at)
        if end < 0:
            raise ValueError("the end of a name is not found")
        return str(self.take(end + 1 - self.at)[:-1], "ascii")


def _run(tape: _Tape, most: int) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    notes: dict[int, Any] = {}

    def above_mark() -> list[Any]:
        start = marks.pop()
        values = stack[start:]
        del stack[start:]
        return values

    for _ in range(most):
        match code := bytes(tape.take(1)):
            case pickle.BINPUT | pickle.LONG_BINPUT:
                notes[tape.number("<B" if code == pickle.BINPUT else "<I")] = stack[-1]
            case pickle.MEMOIZE:
                notes[len(notes)] = stack[-1]
            case pickle.BINGET | pickle.LONG_BINGET:
                stack.append(notes[tape.number("<B" if code == pickle.BINGET else "<I")])
            case pickle.BININT | pickle.BININT1 | pickle.BININT2:
                stack.append(tape.number(NUMBERS[code]))
            case pickle.SHORT_BINUNICODE | pickle.BINUNICODE | pickle.SHORT_BINSTRING:
                form, encoding = TEXTS[code]
                stack.append(str(tape.take(tape.number(form)), encoding))
            case pickle.SHORT_BINBYTES | pickle.BINBYTES | pickle.BINBYTES8 | pickle.BINSTRING:
                stack.append(tape.take(tape.number(BYTES[code])))
            case pickle.TUPLE1 | pickle.TUPLE2 | pickle.TUPLE3:
                stack.append(tuple(stack.pop() for _ in range(TUPLES[code]))[::-1])
            case pickle.TUPLE:
                values = above_mark()
                stack.append(tuple(values))
            case pickle.REDUCE:
                arguments = stack.pop()
                stack.append(_call(stack.pop(), arguments))
            case pickle.BUILD:
                state = stack.pop()
                _build(stack[-1], state)
            case pickle.MARK:
                marks.append(len(stack))
            case pickle.EMPTY_LIST:
                stack.append([])
            case pickle.APPENDS:
                values = above_mark()
                _expect(stack[-1], list).extend(values)
            case pickle.APPEND:
                value = stack.pop()
                _expect(stack[-1], list).append(value)
            case pickle.EMPTY_DICT:
                stack.append({})
            case pickle.SETITEMS:
                values = above_mark()
                keys = [_expect(key, str) for key in values[::2]]
                _expect(stack[-1], dict).update(zip(keys, values[1::2], strict=True))
            case pickle.SETITEM:
                value, key = stack.pop(), _expect(stack.pop(), str)
                _expect(stack[-1], dict)[key] = value
            case pickle.NONE | pickle.NEWTRUE | pickle.NEWFALSE:
                stack.append(CONSTANTS[code])
            case pickle.GLOBAL:
                stack.append(_named(tape.line(), tape.line()))
            case pickle.STACK_GLOBAL:
                name, module = stack.pop(), stack.pop()
                stack.append(_named(_expect(module, str), _expect(name, str)))
            case pickle.PROTO:
                tape.take(1)
            case pickle.FRAME:  # a part that Python's reader loads at once
                tape.take(8)
            case pickle.STOP:
                return stack.pop()
            case _:
                raise ValueError(f"it has the instruction {code!r}, which is not for data")
    raise ValueError(f"it has more than {most} instructions")


def _named(module: str, name: str) -> Name:
    """Return the meaning of a name in a pickle; raise ValueError."""
    full = f"{module}.{name}"
    if full not in NAMES:
        raise ValueError(f"it asks for {full}, which is not data")
    return NAMES[full]


def _call(name: Any, arguments: Any) -> Any:
    """Return the result of a call that a pickle asks for; raise ValueError."""
    match name, arguments:
        case Name.ENCODE, (str(text), "latin1"):
            return text
        case Name.ARRAY, _:
            return Array()
        case Name.TYPE, ("u1" | "i4" | "i8" as code, *_):
            return Type(code)
    raise ValueError("it asks for a call that is not for data")


def _build(value: Any, state: Any) -> None:
    """Give a value the state that a pickle specifies; raise ValueError."""
    match value, state:
        case Type(), (int(), "|" | "<", *_):  # byte order, and fields of other types
            return
        case Array(), (int(), tuple(shape), Type() as kind, int(by_column), str() | memoryview()):
            if all(type(size) is int and size > 0 for size in shape):
                value.shape, value.type, value.by_column = shape, kind, bool(by_column)
                value.content = state[-1]
                return
    raise ValueError("it has something else than arrays of whole numbers")


def _expect(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ValueError(f"it has a {type(value).__name__} in the place of a {kind.__name__}")
    return value
