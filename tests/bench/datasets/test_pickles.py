"""Pickles are read as data: nothing that they ask for is done."""

import mmap
import os
import pickle
import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.datasets.io.pickles import Array, read_pickle
from tests.bench.datasets.fakes import python, python2, python3

MOST = 1000


def plain(value: object, protocol: int) -> object:
    """A value as the reader gives it: bytes as text, where the protocol has no bytes."""
    match value:
        case bytes() if protocol == 2:
            return value.decode("latin1")
        case list() | tuple():
            return type(value)(plain(each, protocol) for each in value)
        case dict():
            return {key: plain(each, protocol) for key, each in value.items()}
    return value


DATA = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**31), 2**31 - 1)
    | st.text()
    | st.binary(min_size=1),  # Python 3 writes no bytes as a call of bytes()
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, min_size=1, max_size=4).map(tuple)
        | st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=20,
)


@settings(max_examples=60, deadline=None)
@given(value=DATA, protocol=st.integers(2, 4))
def test_what_python_writes_is_read(value: object, protocol: int) -> None:
    assert read_pickle(pickle.dumps(value, protocol), MOST) == plain(value, protocol)


@pytest.mark.parametrize("write", [python2, python3, python(3), python(4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_both_pythons_are_read(write: Callable[[object], bytes], order: str) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (7, 60), np.uint8)
    content = write({"data": np.asarray(rows, order=order)})
    read = read_pickle(content, MOST)["data"]
    assert isinstance(read, Array)
    assert np.array_equal(read.values(), rows)
    (by_python,) = pickle.loads(content, encoding="latin1").values()
    assert np.array_equal(by_python, rows)


@pytest.mark.parametrize("kind", ["u1", "i4", "i8"])
def test_arrays_of_whole_numbers_are_read(kind: str) -> None:
    rows = np.arange(-3, 60_000, dtype="i8").astype(kind)
    for protocol in (2, 3, 4):
        read = read_pickle(pickle.dumps(rows, protocol), MOST).values()
        assert read.dtype == rows.dtype and np.array_equal(read, rows)


@pytest.mark.parametrize("kind", [">i4", "f8", "u2", "?", "O"])
def test_other_arrays_are_refused(kind: str) -> None:
    with pytest.raises(ValueError, match="something else than arrays"):
        read_pickle(pickle.dumps(np.zeros(3, kind), 3), MOST)


@pytest.mark.parametrize("write", [python2, python(3), python(4)])
def test_a_large_array_in_a_file_is_not_read_into_memory(
    write: Callable[[object], bytes], tmp_path: Path
) -> None:
    """Not even a byte of it is, until it is asked for; and then it is no copy."""
    rows = np.full((1000, 10_000), 7, np.uint8)
    (tmp_path / "file").write_bytes(write({"data": rows}))
    with (tmp_path / "file").open("rb") as file:
        content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    tracemalloc.start()
    try:
        read = read_pickle(content, MOST)["data"].values()
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()
    assert read.shape == rows.shape and read[0, 0] == read[-1, -1] == 7


class Call:
    """Pickles as a call."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.call


def in_array(call: Call) -> np.ndarray:
    array = np.empty(1, object)
    array[0] = call
    return array


HOSTILE: dict[str, Callable[[str], bytes]] = {
    "a call": lambda path: pickle.dumps(Call(os.mkdir, path), 2),
    "a call of the shell": lambda path: pickle.dumps(Call(os.system, f"mkdir {path}"), 2),
    "a call in a builtin": lambda path: pickle.dumps(
        Call(eval, f"__import__('os').mkdir({path!r})"), 2
    ),
    "a call of protocol 0": lambda path: pickle.dumps(Call(os.mkdir, path), 0),
    "a call of protocol 3": lambda path: pickle.dumps(Call(os.mkdir, path), 3),
    "a call of protocol 4": lambda path: pickle.dumps(Call(os.mkdir, path), 4),
    "a call among data": lambda path: pickle.dumps({"data": [1, Call(os.mkdir, path)]}, 2),
    "a call in an array": lambda path: pickle.dumps({"data": in_array(Call(os.mkdir, path))}, 2),
    "an instance": lambda path: f"(S{path!r}\nios\nmkdir\n.".encode(),
    "an object": lambda path: f"(cos\nmkdir\nS{path!r}\no.".encode(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_nothing_is_run(kind: str, tmp_path: Path) -> None:
    sentinel = tmp_path / "made"
    content = HOSTILE[kind](str(sentinel))
    pickle.loads(content)
    assert sentinel.exists(), "the pickle is indeed hostile"
    sentinel.rmdir()
    with pytest.raises(ValueError):
        read_pickle(content, MOST)
    assert not sentinel.exists()


def nested(depth: int) -> bytes:
    """A tuple of the same tuple twice, and so on: to hash or print it takes 2**depth steps."""
    levels = (bytes([level]) for level in range(depth))
    return b"\x80\x02K\x01" + b"".join(b"q" + at + b"h" + at + b"\x86" for at in levels)


ARRAY = b"cnumpy\nndarray\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "ends too early"),
        (b"\x80\x02", "ends too early"),
        (b"\x80\x02]q\x01", "ends too early"),
        (b"\x80\x02X\xff\xff\xff\xffabc.", "ends too early"),
        (b"no pickle", "no pickle of plain data"),
        (b"\x80\x02.", "no pickle of plain data"),
        (b"\x80\x02K\x01\x86.", "no pickle of plain data"),
        (b"\x80\x02h\x05.", "no pickle of plain data"),
        (b"\x80\x02t.", "no pickle of plain data"),
        (b"\x80\x02K\x01K\x02a.", "no pickle of plain data"),
        (b"\x80\x02}K\x01K\x02s.", "a key that is no text"),
        (b"\x80\x02]U\x01aK\x02s.", "no pickle of plain data"),
        (b"\x80\x02}(U\x01au.", "no pickle of plain data"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "can't decode"),
        (b"\x80\x02cbuiltins\nbytearray\nJ\xff\xff\xff\x7f\x85R.", "asks for builtins.bytearray"),
        (b"\x80\x02c_codecs\ndecode\n.", "asks for _codecs.decode"),
        (b"\x80\x02c_codecs\nencode\nU\x02abR.", "a call that is not for data"),
        (b"\x80\x02cnumpy\ndtype\nU\x01O\x85R.", "something else than arrays"),
        (b"\x80\x02" + ARRAY + b"}b.", "no pickle of plain data"),
        (b"\x80\x02c" + b"a" * 1000, "ends too early"),
        (b"\x80\x04\x95\xff\xff\xff\xff", "ends too early"),
        (b"\x80\x04\x8e" + b"\xff" * 7 + b"\x0fabc.", "ends too early"),
        (b"\x80\x04\x8d" + b"\xff" * 8 + b"abc.", "no pickle of plain data"),
        (b"\x80\x04\x94.", "no pickle of plain data"),
        (b"\x80\x04\x8c\x02os\x8c\x06system\x93.", "asks for os.system"),
        (b"\x80\x04]]\x93.", "no pickle of plain data"),
        (
            b"\x80\x02cnumpy.core.multiarray\n_reconstruct\nK\x01\x85R(K\x01K\x02\x85NK\x00U\x02abtb.",
            "something else than arrays",
        ),
        (b"\x80\x02" + b"]" * 3000 + b".", "more than 1000 instructions"),
        (b"\x80\x02}" + nested(200)[2:] + b"K\x01s.", "a key that is no text"),
    ],
)
def test_what_is_no_data_is_refused(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_pickle(content, MOST)


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x02]r\xff\xff\xff\xff.",  # Python's reader makes a table up to that number
        b"\x80\x02]q\x01h\x01a.",
        nested(200) + b".",
        b"\x80\x02" + b"]" * 998 + b".",
    ],
    ids=["a high number", "a list in itself", "nested twice", "many lists"],
)
def test_few_bytes_take_little_memory_and_time(content: bytes) -> None:
    tracemalloc.start()
    try:
        read_pickle(content, MOST)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_a_text_is_not_copied_by_being_encoded_many_times() -> None:
    text = b"X" + struct.pack("<I", 100_000) + b"a" * 100_000 + b"q\x01"
    encoded = b"c_codecs\nencode\n(h\x01X\x06\x00\x00\x00latin1tR"
    tracemalloc.start()
    try:
        read_pickle(b"\x80\x02" + text + encoded * 100 + b".", MOST)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"M\x3c\x00", b"M\x3d\x00"),  # one column more than there are bytes
        (b"M\x07\x00", b"M\x00\x00"),
        (b"M\x07\x00", b"J\xff\xff\xff\xff"),
        (b"U\x02u1", b"U\x02f8"),
        (b"u1", b"O8"),
    ],
)
def test_an_array_that_lies_about_itself_is_refused(old: bytes, new: bytes) -> None:
    content = python2({"data": np.full((7, 60), 255, np.uint8)})
    assert content.count(old) == 1
    with pytest.raises(ValueError):
        read_pickle(content.replace(old, new), MOST)["data"].values()


GOOD = [
    write({"a": ["x", 1, 200], "b": np.ones((2, 3), np.uint8)})
    for write in (python2, python3, python(4))
]


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_changed_bytes_give_data_or_a_value_error(data: st.DataObject) -> None:
    content = bytearray(data.draw(st.sampled_from(GOOD)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        # often an instruction, for other bytes are nearly always refused at once
        content[at] = data.draw(
            st.sampled_from(b"()]}aestub\x85\x86\x87\x93\x94CRqhc.N") | st.integers(0, 255)
        )
    try:
        found = read_pickle(bytes(content), MOST)
        if isinstance(found, dict) and isinstance(found.get("b"), Array):
            found["b"].values()
    except ValueError:
        pass
