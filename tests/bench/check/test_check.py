"""python -m bench.check: a fault of each kind is found by the law that it breaks."""

import copy
from dataclasses import replace

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.encoder import Encoder
from algorithms.backbones.hashed import Words
from algorithms.learner import Learner
from algorithms.maml import MAML
from algorithms.protonet import ProtoNet
from bench.check import data, laws, making
from bench.check.command import SMALL, main, verdict
from bench.check.source import of_the_runner
from bench.config import schema
from bench.config.plugins import CONF
from bench.core.errors import UserError
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset, Pool
from bench.tasks.texts import pools


class Leaking(ProtoNet):
    """Tasks see the mean of all tasks."""

    def fit(self, features, support_y):
        return super().fit(features, support_y) + 0.1 * features.mean(0)[:1]


class Transductive(ProtoNet):
    """Queries see each other, and it does not say so."""

    def classify(self, fitted, features):
        return super().classify(fitted, features - features.mean(1, keepdim=True))


class TransductiveInCrowds(Transductive):
    """Queries see each other where there are more than six."""

    def classify(self, fitted, features):
        crowd = features.shape[1] > 6
        return (super() if crowd else super(Transductive, self)).classify(fitted, features)


class Peeking(ProtoNet):
    """It reads labels off the places of the queries."""

    def classify(self, fitted, features):
        logits = super().classify(fitted, features)
        places = torch.arange(logits.shape[1]) * logits.shape[2] // logits.shape[1]
        return logits + 9 * torch.nn.functional.one_hot(places, logits.shape[2])


class PeekingAtFive(Peeking):
    """It reads labels off the places of the queries in five ways alone."""

    def classify(self, fitted, features):
        five = fitted.shape[1] == 5
        return (super() if five else super(Peeking, self)).classify(fitted, features)


class Remembering(ProtoNet):
    """What it adapted to before changes what it answers."""

    def fit(self, features, support_y):
        self.seen = 0.9 * getattr(self, "seen", 0.0) + features.mean()
        return super().fit(features, support_y) * (1 + self.seen)


class Counting(ProtoNet):
    """How long it was trained changes what it answers, and is no part of its state."""

    seen = 0

    def meta_gradient(self, episodes):
        self.seen += 1
        return super().meta_gradient(episodes)

    def classify(self, fitted, features):
        return super().classify(fitted, features) * (1 if self.training else 1 + self.seen)


class Centring(ProtoNet):
    """It is set up by the first meta-batch, and what that left is no part of its state."""

    centre = None

    def meta_gradient(self, episodes):
        if self.centre is None:
            self.centre = episodes.support_x.mean()
        return super().meta_gradient(episodes)

    def classify(self, fitted, features):
        return super().classify(fitted, features) * (self.centre or 1)


class Pacing(ProtoNet):
    """Its outer gradient is scaled by the loss of the meta-batch before."""

    last = 0.0

    def outer(self, episodes):
        logits, labels = super().outer(episodes)
        return logits * (1 + self.last), labels

    def meta_gradient(self, episodes):
        metrics = super().meta_gradient(episodes)
        self.last = metrics["loss"].item()
        return metrics


class Hashing(ProtoNet):
    """A weight starts from the hash of a text, which is another in each process."""

    def __init__(self, backbone, ways, *, initial_scale: float | None = None):
        super().__init__(backbone, ways)
        self.scale = torch.nn.Parameter(torch.tensor(hash("scale") / 2**63))


class Drawing(ProtoNet):
    """Chance has a say."""

    def classify(self, fitted, features):
        return super().classify(fitted, features + 0.01 * torch.randn_like(features))


class Favouring(ProtoNet):
    """The first class is another than the others."""

    def classify(self, fitted, features):
        logits = super().classify(fitted, features)
        return logits + torch.eye(logits.shape[2], dtype=logits.dtype)[0]


class Rounding(ProtoNet):
    """It computes in float32, whatever it is in."""

    def classify(self, fitted, features):
        return super().classify(fitted.float(), features.float())


class Idle(ProtoNet):
    """A parameter that nothing depends on."""

    def __init__(self, backbone, ways):
        super().__init__(backbone, ways)
        self.idle = torch.nn.Parameter(torch.ones(1))


class Infinite(ProtoNet):
    """Distances are divided by the size of the prototypes, which may be zero."""

    def classify(self, fitted, features):
        size = fitted.square().sum(-1)[:, None]
        return super().classify(fitted, features) / (size - size.min())


class Spreading(ProtoNet):
    """Prototypes are moved by the variance of a class, which one image has not."""

    def fit(self, features, support_y):
        centres = super().fit(features, support_y)
        images = features.unflatten(1, support_y.shape[1:])
        squares = (images - centres.unsqueeze(2)).square().sum(2)
        return centres + squares / (images.shape[2] - 1)


class Biased(ProtoNet):
    """A number for each of the ways that it is made for, though it is said to take any."""

    def __init__(self, backbone, ways):
        super().__init__(backbone, ways)
        self.head = torch.nn.Parameter(torch.zeros(ways))

    def classify(self, fitted, features):
        return super().classify(fitted, features) + self.head


class Cut(Biased):
    """Of tasks of more ways, it knows as many as it is made for."""

    def classify(self, fitted, features):
        ways = min(len(self.head), fitted.shape[1])
        return ProtoNet.classify(self, fitted[:, :ways], features) + self.head[:ways]


class Failing(ProtoNet):
    def classify(self, fitted, features):
        raise TypeError("of an author's own making")


FAULTS = [
    (Leaking, laws.tasks_are_independent),
    (Transductive, laws.transductive_flag_is_correct),
    (TransductiveInCrowds, laws.transductive_flag_is_correct),
    (Peeking, laws.places_of_queries_tell_nothing),
    (PeekingAtFive, laws.places_of_queries_tell_nothing),
    (Peeking, laws.shuffled_labels_leave_it_at_chance),
    (Remembering, laws.evaluation_changes_nothing),
    (Drawing, laws.two_copies_do_the_same),
    (Favouring, laws.names_of_classes_do_not_matter),
    (Rounding, laws.keeps_float64),
    (Idle, laws.the_gradient_reaches_all),
    (Infinite, laws.predictions_are_numbers),
    (Spreading, laws.predictions_are_numbers),
    (Biased, laws.takes_other_ways),
    (Cut, laws.takes_other_ways),
    (Failing, laws.forward_is_adapt_and_predict),
]


FAULTS_OF_MAKING = [
    (Counting, making.goes_on_from_a_checkpoint, "its answers are others"),
    (Centring, making.goes_on_from_a_checkpoint, "its answers are others"),
    (Pacing, making.goes_on_from_a_checkpoint, "its next outer gradient is another"),
    (Hashing, making.the_seed_makes_its_weights, "there, scale is another"),
]


@pytest.fixture
def cell() -> schema.Config:
    """That of a small ProtoNet."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return schema.from_hydra(hydra.compose("config", SMALL))


@pytest.mark.parametrize(
    ("learner", "law", "reason"), FAULTS_OF_MAKING, ids=lambda each: getattr(each, "__name__", "")
)
def test_a_fault_in_the_making_of_a_learner_is_found(cell, learner, law, reason):
    faulty = schema.with_options(cell, {"algo.target": f"{__name__}.{learner.__name__}"})
    with laws.default_dtype(torch.float64):
        assert verdict(law, lambda: faulty) == ("broken", reason)
        assert verdict(law, lambda: cell) == ("ok", "")


def made(learner: type[Learner]) -> Learner:
    torch.manual_seed(0)
    return learner(Conv4(laws.IMAGE, filters=4, downsample="stride"), laws.WAYS).double()


@pytest.mark.parametrize(("learner", "law"), FAULTS, ids=lambda each: each.__name__)
def test_a_fault_of_a_learner_is_found(learner, law):
    with laws.default_dtype(torch.float64):
        word, why = verdict(law, lambda: made(learner))
        assert word == "broken" and why
        assert ("TypeError: of an author's own making (test_check.py:" in why) == (
            learner is Failing
        )
        assert verdict(law, lambda: made(ProtoNet)) == ("ok", "")


@pytest.mark.parametrize(
    "law",
    [
        laws.predictions_are_numbers,
        laws.the_gradient_adds_up,
        laws.order_does_not_matter,
        laws.two_copies_do_the_same,
    ],
)
def test_a_parameter_without_a_gradient_breaks_no_other_law(law):
    with laws.default_dtype(torch.float64):
        assert verdict(law, lambda: made(Idle)) == ("ok", "")


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("print(1)", "print()"),
        ("open('x')", "open()"),
        ("pathlib.Path('x').write_text('1')", ".write_text()"),
        ("import time as clock", "import time"),
        ("from time import time", "from time import"),
        ("from bench.config.schema import read", "from bench.config.schema import"),
        ("import random\nrandom.seed(1)", "random.seed()"),
        ("import numpy as np\nnp.random.seed(1)", "numpy.random.seed()"),
        ("import torch\ntorch.manual_seed(1)", "torch.manual_seed()"),
        ("from torch import random as r\nr.manual_seed(1)", "torch.random.manual_seed()"),
        ("from torch import manual_seed\nmanual_seed(1)", "torch.manual_seed()"),
        ("model.net.cuda()", "model.net.cuda()"),
        ("# a fingerprint(x) is no print(x); import time", ""),
        ("fingerprint(1), reopen(2), model.open_doors(), self.print_size()", ""),
        ("from .time import steps\nfrom . import bench\nsteps()", ""),
        ("import torch\ntorch.Generator().manual_seed(1)", ""),
    ],
)
def test_what_belongs_to_the_runner_is_found_in_a_source(line, found):
    assert ", ".join(of_the_runner(line)) == found


def test_a_fault_in_the_module_of_a_learner_is_found():
    learner = made(Failing)  # whose module is this one
    assert verdict(laws.has_no_side_effects, lambda: learner)[0] == "broken"


def dataset(**splits: Pool) -> Dataset:
    found = {}
    for number, split in enumerate(("train", "val", "test")):
        generator = torch.Generator().manual_seed(number)
        images = torch.randint(0, 256, (5, 4, 1, 8, 8), dtype=torch.uint8, generator=generator)
        found[split] = Pool.of({f"{split} {n}": each for n, each in enumerate(images)})
    return Dataset.of("fine", found | splits)


def texts(first: int) -> Dataset:
    """Texts of which one begins with this byte."""
    made = pools({split: {split: [f"one {split}", "é"]} for split in ("train", "val", "test")})
    made["val"].inputs[0, 0] = first
    return Dataset.of("fine", made)


def another_each_time(folders: DataDirs) -> Dataset:
    """What depends on hashes of texts, as their order in a set does: another in each process."""
    train = dataset().splits["train"]
    names = tuple(f"{hash('a text')} {n}" for n in range(5))
    return dataset(train=replace(train, names=names))


FAULTY = [
    (data.nothing_leaks, dataset(val=dataset().splits["test"])),
    (data.nothing_leaks, dataset(val=replace(
        dataset().splits["val"], inputs=torch.zeros(20, 1, 9, 9, dtype=torch.uint8)))),
    (data.its_name_can_be_a_file, replace(dataset(), name="../fine")),
    (data.the_digest_is_of_the_content, replace(dataset(), digest="1")),
]  # fmt: skip


@pytest.mark.parametrize(
    ("byte", "expected"),
    [
        (ord("o"), ("ok", "")),
        (0, ("broken", "in val, text 0 has a zero")),
        (0xC3, ("broken", "in val, text 0 is no UTF-8")),
    ],
)
def test_texts_are_utf8(byte, expected):
    given = data.Prepared(texts(byte), None, None, None)
    assert verdict(data.its_texts_are_utf8, lambda: given) == expected


@pytest.mark.parametrize(("law", "faulty"), FAULTY, ids=lambda each: getattr(each, "__name__", ""))
def test_a_fault_of_a_data_set_is_found(law, faulty):
    for given, expected in ((faulty, "broken"), (dataset(), "ok")):
        assert (
            verdict(law, lambda given=given: data.Prepared(given, None, None, None))[0] == expected
        )


def test_a_data_set_that_another_process_prepares_otherwise_is_found(tmp_path, capsys):
    """All of the command: a data set of which two laws are broken, and its status."""
    arguments = ["dataset.name=fine", f"dataset.target={__name__}.another_each_time"]
    assert main(["dataset=glyphs", "ways=3", "queries=2", "train.ways=3", *arguments]) == 1
    told = capsys.readouterr().out
    assert "broken   Another process, with another hash seed" in told
    assert "broken   Its name is that of its file: dataset=glyphs is named 'fine'" in told


def nothing(folders: DataDirs) -> None:
    pass


def of_no_folders() -> Dataset:
    return dataset()


def raising(folders: DataDirs) -> Dataset:
    raise OSError("an author's own mistake")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (nothing, "its code gives a NoneType, not a Dataset"),
        (of_no_folders, "TypeError: of_no_folders() takes 0 positional arguments but 1 was given"),
        (raising, "OSError: an author's own mistake"),
    ],
)
def test_a_data_set_that_cannot_be_prepared_is_told_of_once(capsys, code, reason):
    assert main(["dataset=glyphs", f"dataset.target={__name__}.{code.__name__}"]) == 1
    told = capsys.readouterr().out
    assert f"  broken   It can be prepared: {reason}" in told
    assert told.count("broken   ") == 1 and told.endswith("\nLaws: 3 ok, 1 broken.\n")


class Read(Encoder):
    """Features of texts, more than the laws' images have pixels."""

    reads_texts = True
    num_features = 300


@pytest.mark.parametrize("algo", ["maml", "protonet"])
@pytest.mark.parametrize(
    "network", [Words((9,), dim=8), Read()], ids=lambda each: type(each).__name__
)
def test_what_reads_texts_is_held_to_the_laws(algo, network):
    with laws.default_dtype(torch.float64):
        backbone = making.Texts.of(copy.deepcopy(network), adapts=True)
        learner = {"maml": MAML, "protonet": ProtoNet}[algo](backbone, laws.WAYS).double()
        for law in (laws.the_gradient_reaches_all, laws.tasks_are_independent, laws.keeps_float32):
            assert verdict(law, lambda: copy.deepcopy(learner)) == ("ok", "")


@pytest.mark.parametrize("option", ["backbone=words", "encoder=words"])
def test_a_choice_of_texts_is_checked(option, capsys, monkeypatch):
    monkeypatch.setattr(laws, "LAWS", laws.LAWS[:1])
    assert main(["algo=protonet", option]) == 0
    assert "ProtoNet on words" in capsys.readouterr().out


def missing(folders: DataDirs) -> Dataset:
    raise UserError("There is no archive.")


@pytest.mark.parametrize(("ways", "word"), [(5, "ok"), (6, "broken")])
def test_a_data_set_shall_have_episodes_of_the_test_alone(cell, ways, word):
    """The training ways of ProtoNet, 20, ask for more classes than it has."""
    few = schema.Config.model_validate(cell.model_dump() | {"ways": ways, "queries": 3})
    given = data.Prepared(dataset(), few, None, None)
    assert few.train.ways == 20 and verdict(data.episodes_can_be_drawn, lambda: given)[0] == word


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["algorithms.protonet:Proto"],
            "'Proto' cannot be loaded from 'algorithms.protonet.Proto'",
        ),
        (["algorithms.nn.layers:Linear"], "algorithms.nn.layers.Linear is not a subclass of"),
        (["algo=mamml"], "There is no algo 'mamml'"),
        (["algo=maml", "algo.inner_steps=some"], "algo.inner_steps=some is invalid"),
        (
            ["algorithms.maml:MAML", "+algo.inner_steps=some"],
            "algo.inner_steps=some is invalid",
        ),
        (["algo"], "Cannot read algo: a choice is written as in algo=maml"),
        (["dataset=glyphs", f"dataset.target={__name__}.missing"], "There is no archive."),
    ],
)
def test_a_mistake_gets_one_sentence(capsys, arguments, sentence):
    assert main(arguments) == 2
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1


def test_a_learner_that_cannot_train_is_told_of_once(capsys):
    assert main([f"{__name__}:Failing"]) == 1
    told = capsys.readouterr().out
    assert told.count("broken   ") == 1 and told.endswith("\nLaws: 1 broken.\n")
