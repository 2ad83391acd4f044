import unicodedata
from collections import Counter
from pathlib import Path

import matplotlib
import pytest
import torch
from matplotlib import ft2font

from bench.core.errors import UserError
from bench.datasets.images import glyphs
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset
from tools.campaigns.coverage import GROUPS


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> DataDirs:
    folder = tmp_path_factory.mktemp("glyphs")
    return DataDirs(folder, folder)


@pytest.fixture(scope="module")
def made(folders: DataDirs) -> Dataset:
    return glyphs.prepare(folders)


def letters(made: Dataset) -> dict[str, str]:
    """The split of each letter."""
    return {
        chr(int(name.split()[0].removeprefix("U+"), 16)): split
        for split, pool in made.splits.items()
        for name in pool.names
    }


def test_drawing_again_gives_the_same(made: Dataset, tmp_path: Path) -> None:
    again = glyphs.prepare(DataDirs(tmp_path, tmp_path))
    assert again.digest == made.digest


def test_groups_are_letters_with_their_accents_and_cases(made: Dataset) -> None:
    pool = made.splits["test"]
    assert sorted(Counter(pool.groups).values()) == sorted(GROUPS["glyphs"])
    groups = dict(zip(pool.names, pool.groups, strict=True))
    letters = ("U+0047 LATIN CAPITAL LETTER G", "U+011D LATIN SMALL LETTER G WITH CIRCUMFLEX")
    assert [groups[letter] for letter in letters] == ["g", "g"]


def test_the_pin_is_that_of_the_versions_it_was_made_with(made: Dataset) -> None:
    versions = (matplotlib.__version__, ft2font.__freetype_version__)
    if versions != ("3.11.2", "2.14.3"):
        pytest.skip("another matplotlib may draw other pixels")
    assert made.digest == glyphs.DIGEST


def test_classes_are_many_and_large_enough(made: Dataset) -> None:
    classes = {split: len(pool.names) for split, pool in made.splits.items()}
    total = sum(classes.values())
    assert total > 900
    assert 0.55 < classes["train"] / total < 0.75
    assert 0.10 < classes["val"] / total < 0.22
    assert 0.14 < classes["test"] / total < 0.26
    for pool in made.splits.values():
        assert pool.inputs.shape[1:] == (1, 28, 28)
        assert pool.sizes.min() >= 10 and pool.sizes.max() <= 16


def test_no_image_occurs_twice(made: Dataset) -> None:
    images = torch.cat([pool.inputs for pool in made.splits.values()])
    assert len({image.tobytes() for image in images.numpy()}) == len(images)


def test_ink_is_bright_and_centred(made: Dataset) -> None:
    for pool in made.splits.values():
        ink = pool.inputs[:, 0] > 0
        assert ink.flatten(1).any(1).all()
        assert pool.inputs.float().mean() < 64
        for side in (1, 2):
            line = ink.any(side).long()
            before = line.argmax(1)
            after = line.flip(1).argmax(1)
            assert torch.isin(after - before, torch.tensor([0, 1])).all()


def test_look_alikes_are_one_class(made: Dataset) -> None:
    found = letters(made)
    for alike in ("AΑА", "oοо", "HΗН", "ËЁ", "uս"):
        assert found.keys() & set(alike) == {alike[0]}
    assert "Ἀ" not in found, "it is an accented A"
    for distinct in "ABCΔЖდ":
        assert distinct in found


def test_a_letter_keeps_its_accents_and_cases_in_its_split(made: Dataset) -> None:
    found = letters(made)
    for letter, split in found.items():
        base = unicodedata.normalize("NFD", letter)[0]
        for kin in (base, base.lower(), base.upper()):
            assert found.get(kin, split) == split, (letter, kin)
    assert found["I"] == found["ı"] == found["Í"]


def test_splits_are_by_a_hash_of_the_letter_alone() -> None:
    assert [glyphs.split_of(letter) for letter in "aetж"] == [
        "val",
        "train",
        "test",
        "test",
    ]


def test_other_pixels_are_a_warning_and_not_an_error(
    made: Dataset,
    folders: DataDirs,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(glyphs, "DIGEST", made.digest)
    glyphs.prepare(folders)
    assert not caplog.messages
    monkeypatch.setattr(glyphs, "DIGEST", "0" * 64)
    assert glyphs.prepare(folders).digest == made.digest
    assert "compare only rows of the same data digest" in caplog.text


def test_missing_typefaces_are_a_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.get_data_path", lambda: str(tmp_path))
    with pytest.raises(UserError, match="no typeface .*DejaVuSans.ttf"):
        glyphs.prepare(DataDirs(tmp_path, tmp_path))
