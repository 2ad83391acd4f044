"""Features and tokens of texts: made once for each text, whatever its split."""

from pathlib import Path

import torch

from algorithms.backbones.bag import Bag
from algorithms.backbones.encoder import Encoder
from algorithms.backbones.hashed import Words, hashed
from bench.datasets.features import CachedFeatures
from bench.tasks.pool import Dataset, Pool
from bench.tasks.texts import to_bytes

CLASSES = {
    "card": ["card lost", "where is my card", "card lost", "kaart"],
    "money": ["残高", "how much money is there on my account", "money", "Überweisung"],
    "other": ["hi", "", "good morning", "x"],
}


class Lengths(Encoder):
    """The number of characters, and which texts were encoded."""

    reads_texts = True
    num_features = 1
    digest = "lengths"

    def __init__(self):
        super().__init__()
        self.encoded = []

    def prepare(self, example):
        self.encoded.append(example)
        return torch.tensor([len(example)])

    def encode(self, prepared):
        return prepared.float()


def dataset(order=("card", "money", "other")):
    pools = [Pool.of({name: to_bytes(CLASSES[name])}) for name in order]
    return Dataset.of(f"first {order[0]}", dict(zip(("train", "val", "test"), pools, strict=True)))


def features_of(data, encoder, folder):
    return CachedFeatures(data, encoder, folder, torch.device("cpu"))


def test_each_text_is_encoded_once_whatever_its_split_or_fold(tmp_path):
    encoder = Lengths()
    for order in (("card", "money", "other"), ("other", "card", "money")):
        data = dataset(order)
        for split, name in zip(data.splits, order, strict=True):
            found = features_of(data, encoder, tmp_path).features(split)
            assert found[:, 0].tolist() == list(map(len, CLASSES[name]))
    assert sorted(encoder.encoded) == sorted({text for each in CLASSES.values() for text in each})


def test_other_texts_have_features_of_their_own(tmp_path):
    features_of(dataset(), Lengths(), tmp_path).features("test")
    CLASSES["other"].append("one more")
    try:
        encoder = Lengths()
        assert len(features_of(dataset(), encoder, tmp_path).features("test")) == 5
        assert len(encoder.encoded) == 12
    finally:
        CLASSES["other"].pop()


def test_other_code_of_a_part_of_the_encoder_makes_features_anew(tmp_path, monkeypatch):
    encoder = Lengths()
    encoder.network = Bag(3, dim=2, adapts_vectors=False)
    read = Path.read_bytes
    for change in (b"", b"changed"):
        monkeypatch.setattr(Path, "read_bytes",
                            lambda file, c=change: read(file) + c * (file.name == "bag.py"))  # fmt: skip
        features_of(dataset(), encoder, tmp_path).features("test")
    assert len(encoder.encoded) == 2 * 11


def test_tokens_are_integers_without_columns_behind_the_longest_text(tmp_path):
    found = features_of(dataset(), Words(()), tmp_path)
    assert found.features("test").dtype == torch.int16
    assert found.features("train").shape == (4, 8), "of the longest text of any split"
    expected = [hashed(word) for word in ("where", "is", "my", "card")] + 4 * [0]
    assert found.features("train")[1].tolist() == expected
