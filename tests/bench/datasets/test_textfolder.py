"""A user's own texts become a data set, and what is wrong with them is told."""

import csv
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.core.errors import UserError
from bench.datasets.io.cache import DataDirs
from bench.datasets.texts import textfolder
from bench.tasks.leaks import check
from bench.tasks.pool import Dataset
from bench.tasks.texts import to_text

DEFAULTS = {
    "label": None, "splits": None, "split_seed": 0, "min_classes": 2, "min_texts": 1, "length": 512,
}  # fmt: skip
CLASSES = ("ant", "bee", "cat", "dog", "eel", "fox", "gnu")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Seven classes of 3 to 9 texts, amid other files."""
    root = tmp_path / "data" / "my texts"
    root.mkdir(parents=True)
    for number, name in enumerate(CLASSES):
        texts = [f"{name} number {each}, Zürich 🚋" for each in range(3 + number)]
        (root / f"{name}.txt").write_text("\r\n\n".join(texts) + "\n")
    for other in ("notes.md", ".hidden.txt", "empty.txt"):
        (root / other).write_text("" if other == "empty.txt" else "no text of a class")
    (root / "more.txt").mkdir()
    return root


@pytest.fixture
def prepare(tmp_path: Path, root: Path) -> Callable[..., Dataset]:
    folders = DataDirs(tmp_path / "archives", tmp_path / "cache")

    def made(**options: object) -> Dataset:
        return textfolder.prepare(folders, **(DEFAULTS | {"path": str(root)} | options))

    return made


@pytest.fixture
def csv_file(tmp_path: Path) -> Path:
    """The same texts as a CSV file, with labels that no file could have."""
    path = tmp_path / "data" / "my texts.csv"
    path.parent.mkdir(exist_ok=True)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["id", "Label", "text"])
        for number, name in enumerate(("a/b", "🚋", "two\nlines", "ant", "bee", "con", "..")):
            texts = [f"{number}, “{each}”\nand more" for each in range(3 + number)]
            rows.writerows([each, name, text] for each, text in enumerate(texts))
    return path


def texts_of(dataset: Dataset) -> dict[str, list[str]]:
    found = {}
    for pool in dataset.splits.values():
        rows = iter(pool.inputs.split(pool.sizes.tolist()))
        found |= {name: [*map(to_text, next(rows))] for name in pool.names}
    return found


def test_texts_come_by_class_and_line(
    prepare: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    dataset = prepare()
    assert dataset.name == "my-texts" and dataset.has_texts and dataset.examples == "texts"
    texts = texts_of(dataset)
    assert sorted(texts) == list(CLASSES)
    assert texts["ant"] == [f"ant number {each}, Zürich 🚋" for each in range(3)]
    check(dataset.splits)
    assert caplog.messages == [
        "my-texts: 'more.txt', 'notes.md' passed over, as only .txt files are read",
        "my-texts: 'empty' left out, without texts",
    ]
    assert prepare().digest == dataset.digest


def test_labels_of_a_csv_file_may_be_anything(
    csv_file: Path, prepare: Callable[..., Dataset]
) -> None:
    dataset = prepare(path=str(csv_file))
    assert dataset.name == "my-texts"
    texts = texts_of(dataset)
    assert {"a/b", "🚋", "two\nlines", ".."} < set(texts)
    assert texts["a/b"][1] == "0, “1”\nand more"


def test_two_columns_need_one_name(tmp_path: Path, prepare: Callable[..., Dataset]) -> None:
    rows = "".join(f"{name},{name} {each}\n" for name in CLASSES for each in range(3))
    for header in ("intent,text", "label,utterance", "\ufeffLABEL, Text"):
        (tmp_path / "a.csv").write_text(f"{header}\n\n{rows}ant,\n")
        assert texts_of(prepare(path=str(tmp_path / "a.csv")))["ant"] == ["ant 0", "ant 1", "ant 2"]


def test_long_texts_are_cut_at_a_character(
    root: Path, prepare: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    (root / "ant.txt").write_text("🚋🚋🚋\nant\n")
    texts = texts_of(prepare(length=10))
    assert texts["ant"] == ["🚋🚋", "ant"]
    assert "40 texts are longer than dataset.length=10 bytes" in caplog.text


def test_repeats_are_told(
    root: Path, prepare: Callable[..., Dataset], caplog: pytest.LogCaptureFixture
) -> None:
    (root / "parts.yaml").write_text("train: [ant, bee]\nval: [cat, dog]\ntest: [eel, fox]\n")
    for name, more in (("ant", "Hello!\nhello"), ("bee", "hello?"), ("cat", "…"), ("eel", "!")):
        with (root / f"{name}.txt").open("a") as file:
            file.write(more)
    prepare(splits="parts.yaml", path=str(root))
    assert "1 texts repeat one of their own class" in caplog.text
    assert "1 texts are in two classes, such as 'hello?' ('ant' and 'bee')" in caplog.text


def no_path(root: Path) -> dict[str, object]:
    return {"path": None}


def nowhere(root: Path) -> dict[str, object]:
    return {"path": "nowhere"}


def another_file(root: Path) -> dict[str, object]:
    return {"path": str(root / "ant.txt")}


def no_files(root: Path) -> dict[str, object]:
    return {"path": str(root / "more.txt")}


def not_utf8(root: Path) -> dict[str, object]:
    (root / "bee.txt").write_bytes("bee".encode("utf-16"))
    return {}


def shared(root: Path) -> dict[str, object]:
    for name in CLASSES:
        (root / f"{name}.txt").write_text(f"good \t BYE!\n{name}\n{name} 2")
    return {}


def one_text(root: Path) -> dict[str, object]:
    (root / "bee.txt").write_text("bee")
    return {}


def few_classes(root: Path) -> dict[str, object]:
    return {"min_texts": 5}


def unknown_class(root: Path) -> dict[str, object]:
    (root / "parts.json").write_text('{"train": ["ant"], "val": ["bee"], "test": ["empty"]}')
    return {"splits": str(root / "parts.json")}


def known_name(root: Path) -> dict[str, object]:
    return {"label": "clinc150"}


def table(text: str) -> Callable[[Path], dict[str, object]]:
    def write(root: Path) -> dict[str, object]:
        (root / "table.csv").write_text(text)
        return {"path": str(root / "table.csv")}

    return write


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            no_path,
            "needs texts; name a folder of .txt files, one a class, or a .csv file with data",
        ),
        (nowhere, "There is no nowhere, neither here nor in .*archives; say .* with dataset.path="),
        (another_file, "ant.txt is no .csv file; name one, or a folder of .txt files"),
        (no_files, "more.txt holds no .txt files with texts; make one for each class"),
        (not_utf8, r"bee.txt is no UTF-8 \(its byte 0\); save it as UTF-8"),
        (
            shared,
            r"1 texts of .* are in two splits, such as 'good \\t BYE!' \('.*' in train, '.*' in",
        ),
        (
            one_text,
            "has classes of fewer than 2 texts: 'bee'; add texts, or leave such classes out",
        ),
        (
            few_classes,
            r"5 classes are too few for 2 ways.*\(dataset.min_texts left out 'ant', 'bee'",
        ),
        (
            unknown_class,
            "class 'empty' in test, of which there are no texts; name classes that have",
        ),
        (known_name, "'clinc150' is the name of another data set; give yours with dataset.label="),
        (table(""), "has the columns ; name one text and one label in the first line"),
        (table("a,b\n1,2"), "has the columns 'a', 'b'; name one text and one label in the first"),
        (table("text,text\n1,2"), "has the columns 'text', 'text'; name one text and one label"),
        (table("text;label\n1;2"), "has the columns 'text;label'; name .* with a comma between"),
        (
            table("text,label\na,b,c"),
            "line 2: 3 values, where the first line has 2; put quotes aro",
        ),
        (table('text,label\n"a"b,c'), "line 2: ',' expected after '\"'; mend the quotes"),
        (table('text,label\n"a,c'), "line 2: unexpected end of data; mend the quotes"),
        (table("text,label\n,a\nb,"), "has no rows with a text and a label; add some"),
        (table("text,label\n" + 200_000 * "a" + ",b"), "line 2: field larger than field limit"),
    ],
)
def test_what_is_wrong_is_told(
    root: Path, prepare: Callable[..., Dataset], spoil: Callable[[Path], dict[str, object]],
    message: str,
) -> None:  # fmt: skip
    options = spoil(root)
    with pytest.raises(UserError, match=message) as caught:
        prepare(**options)
    assert str(caught.value).isprintable()


def test_too_much_is_not_read(
    root: Path, prepare: Callable[..., Dataset], monkeypatch: pytest.MonkeyPatch
) -> None:
    (root / "ant.txt").write_text("ant\n" + 100 * "a")
    monkeypatch.setattr(textfolder, "MOST_BYTES", 2000)
    with pytest.raises(
        UserError, match="41 texts of up to 100 bytes take .*; cut .* dataset.length=48,"
    ):
        prepare()
    monkeypatch.setattr(textfolder, "MOST_BYTES", 100)
    with pytest.raises(UserError, match="holds 0.0 GB of text, and 1e-07 GB are read at most"):
        prepare()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "csv"])
def test_whatever_comes_is_read_or_told(
    root: Path, csv_file: Path, prepare: Callable[..., Dataset], kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(textfolder, "label_of", lambda *_: "texts")  # which looks into many files
    draw = random.Random(0)
    path, options = (csv_file, {"path": str(csv_file)}) if kind == "csv" else (root / "bee.txt", {})
    content, read = path.read_bytes(), 0
    for _ in range(10_000):
        mutated = bytearray(content)
        for _ in range(draw.randrange(1, 4)):
            at = draw.randrange(len(mutated))
            new = draw.choice([b"", b"\n", b"\0", b'"', b",", b"\r", b"\xf0", draw.randbytes(3)])
            mutated[at : at + draw.choice([0, 1, 9])] = new
        path.write_bytes(mutated)
        try:
            check(prepare(**options).splits)
            read += 1
        except UserError as mistake:
            assert str(mistake).isprintable()
    assert 1000 < read < 10_000
