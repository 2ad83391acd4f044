"""The experiments of conf/: each fits its data, and differs from its neighbours in what its name says."""

import re
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from typing import Any

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.learner import Setting
from bench.config import groups as usage
from bench.config import schema
from bench.config.plugins import CONF
from bench.engine import optimizer
from bench.runs import cell as cells
from bench.tasks.pool import Dataset, Pool

PAPERS = [
    name
    for name in usage.names("experiment")
    if name.startswith("paper/") and "sinusoid" not in name
]
DATA = {
    "omniglot": ((1, 28, 28), (1028, 172, 423), 20),
    "cifar_fs": ((3, 32, 32), (64, 16, 20), 600),
    "fc100": ((3, 32, 32), (60, 20, 20), 600),
    "miniimagenet": ((3, 84, 84), (64, 16, 20), 600),
    "tieredimagenet": ((3, 84, 84), (351, 97, 160), 732),
}
"""The shape of an image, the classes of each split, and the images of the smallest class."""


@cache
def composed(name: str) -> schema.Config:
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return schema.from_hydra(hydra.compose("config", [f"experiment={name}"]))


def words(name: str) -> tuple[str, str, str]:
    """The data set, the method and the setting in the name of an experiment."""
    found = re.fullmatch(rf"paper/({'|'.join(DATA)})_(\w+)_(\w+)", name)
    assert found, name
    return found[1], found[2], found[3]


def training_shape(cell: schema.Config) -> Setting:
    return Setting(cell.train.ways or cell.ways, cell.train.shots or cell.shots, cell.train.queries)


STEPS = {
    "maml": 60_000,
    "fomaml": 60_000,
    "anil": 60_000,
    "metasgd": 60_000,
    "protonet": 20_000,
    "protonet_matched": 20_000,
    "protonet_resnet12": 60_000,
    "metaoptnet": 60_000,
    "metaoptnet_rr": 60_000,
    "protonet_wide": 20_000,
    "matchingnet": 60_000,
    "baseline": 960_000,
    "baselinepp": 960_000,
    "r2d2": 20_000,
    "r2d2_64": 20_000,
}


def epochs_of_both_splits(dataset: str) -> int:
    """After how many epochs MetaOptNet's training on both splits ends (Lee et al. 2019, section 4.5)."""
    return 52 if dataset == "tieredimagenet" else 21


@pytest.mark.parametrize("name", PAPERS)
def test_experiments_are_what_their_names_say_and_take_the_official_number_of_steps(name):
    cell = composed(name)
    schema.check_options(cell.algo, "algo")
    dataset, method, setting = words(name)
    assert cell.dataset.name == dataset
    assert f"{cell.ways}w{cell.shots}s" == setting
    shape = training_shape(cell)
    images = shape.ways * (shape.shots + shape.queries) * cell.train.meta_batch
    method = method.removesuffix("_transductive")
    steps = STEPS | {"reptile": 100_000 if cell.ways == 5 else 200_000}
    steps["metaoptnet_trainval"] = 1000 * epochs_of_both_splits(dataset)
    assert cell.train.examples == steps[method] * images
    method = re.sub("_trainval|_resnet12|_wide|_64|_matched", "", method)
    assert cell.algo.name == {"fomaml": "maml"}.get(method, method)
    order = {"maml": True, "fomaml": False, "anil": True, "metasgd": True}
    assert cell.algo.options.get("second_order") is order.get(method)
    if cell.algo.name == "protonet":
        assert shape.shots == cell.shots
    if method == "reptile":
        expected = "all_queries" if "transductive" in name else "support_and_query"
        assert cell.algo.options["norm_statistics"] == expected
    elif "norm_statistics" in cell.algo.options:
        assert cell.algo.options["norm_statistics"] == "all_queries", "transductive"


@pytest.mark.parametrize("name", [name for name in PAPERS if "trainval" in name])
def test_the_step_size_on_both_splits_falls_at_the_epochs_of_the_official_code(name):
    cell = composed(name)
    epochs = epochs_of_both_splits(words(name)[0])
    factors = dict(zip((20, 40, 50), (0.06, 0.012, 0.0024), strict=True))
    falls = {epoch * 1000: factor for epoch, factor in factors.items() if epoch < epochs}
    steps = epochs * 1000
    rates = [optimizer.lr_at(cell.train, step, steps) for step in range(steps)]
    changes = {step: rate for step, rate in enumerate(rates) if step and rate != rates[step - 1]}
    assert rates[0] == 0.1
    assert changes == {step: pytest.approx(0.1 * factor) for step, factor in falls.items()}


def test_gradients_on_photographs_are_clipped_as_in_mamls_code():
    """Its loss of a task is a sum over queries of each one's divided by the shots; ours is their mean."""
    found = [name for name in PAPERS if composed(name).train.clip_value is not None]
    of_maml = {"maml", "fomaml", "anil", "metasgd"}
    photographs = [name for name in PAPERS if "omniglot" not in name and words(name)[1] in of_maml]
    assert found == photographs and len(found) == 14
    for cell in map(composed, found):
        queries = cell.ways * cell.train.queries
        assert queries == 75
        assert cell.train.clip_value == pytest.approx(10 * cell.shots / queries)


@pytest.mark.parametrize("name", PAPERS)
def test_experiments_fit_their_data(name):
    """As the runner checks it, on data of the official sizes (without the images)."""
    cell = composed(name)
    shape, counts, smallest = DATA[cell.dataset.name]
    splits = dict(zip(("train", "val", "test"), counts, strict=True))
    turned = {"all": list(splits), "one_turn": [], "train+val": ["train", "val"], None: []}
    times = {s: 4 if s in turned[cell.dataset.options.get("rotations")] else 1 for s in splits}
    test = Setting(cell.ways, cell.shots, cell.queries)
    training = training_shape(cell)
    for part, wanted in ((cell.train.split, training), ("val", test), ("test", test)):
        classes = sum(times[split] * splits[split] for split in part.split("+"))
        assert wanted.ways <= classes and wanted.shots + wanted.queries <= smallest
    with torch.device("meta"):
        images = torch.zeros(1, *shape, dtype=torch.uint8)
        pools = {
            split: Pool(images, torch.arange(2), tuple(map(str, range(times[split] * count))))
            for split, count in splits.items()
        }
        learner = cells.build_learner(cell, Dataset(cell.dataset.name, "", pools), training)
    assert learner.supports(training, test) == (True, "")
    optimizer.validate(cell.train, cell.validation, learner)


def flat(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in options.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def differing(one: str, other: str) -> set[str]:
    """The keys in which two experiments differ; a group alone (such as algo) where it is another."""
    first, second = (dict(flat(composed(name).identity())) for name in (one, other))
    keys = {key for key in first.keys() | second.keys() if first.get(key) != second.get(key)}
    for group in ("algo", "backbone", "dataset"):
        if f"{group}.name" in keys:
            keys = {key for key in keys if not key.startswith(f"{group}.")} | {group}
    return keys


SHOTS = {"shots", "queries", "train.examples", "train.queries", "train.meta_batch", "train.ways"}
SHOTS |= {"train.clip_value"}
OF_METHODS = {
    ("maml", "fomaml"): {"algo.second_order"},
    ("maml", "anil"): {"algo"},
    ("maml", "metasgd"): {"algo"},
    ("reptile", "reptile_transductive"): {"algo.norm_statistics"},
    ("metaoptnet", "metaoptnet_rr"): {"algo"},
    ("metaoptnet", "protonet_resnet12"): {"algo", "train.shots", "train.examples"},
    ("metaoptnet", "metaoptnet_trainval"): {
        "train.split", "validation.times", "train.examples", "train.milestones", "train.lr_factors",
    },
    ("protonet", "protonet_wide"): {"backbone"},
    ("protonet", "protonet_matched"): {"train.ways", "train.examples"},
    ("protonet_matched", "matchingnet"): {"algo", "train.examples", "train.lr_schedule"},
    ("r2d2", "r2d2_64"): {"backbone.filters", "backbone.widths", "test.episodes"},
    ("baseline", "baselinepp"): {"algo"},
}  # fmt: skip
"""What two methods may differ in, on the same data in the same setting."""
OF_DATA = {
    "maml": {"dataset"},
    "protonet": {"dataset"},
    "r2d2": {"dataset", "algo.initial_scale", "backbone.drop_rate", "train.ways", "train.queries"},
    "metaoptnet": {
        "dataset", "train.examples", "train.shots", "train.crop_padding", "train.label_smoothing",
        "backbone.drop_block",
    },
}  # fmt: skip
"""What a method may differ in between sets of photographs."""


@pytest.mark.parametrize("name", PAPERS)
def test_experiments_differ_in_what_their_names_say_alone(name):
    """From those with other shots, of a neighbouring method, and on another set of photographs."""
    dataset, method, setting = words(name)
    reptile = {"algo.test_inner_batch"} if method.startswith("reptile") else set()
    matched = {"train.shots"} if method == "protonet_resnet12" else set()
    if setting.endswith("5s"):
        assert differing(name, name.removesuffix("5s") + "1s") <= SHOTS | reptile | matched
    for (one, other), keys in OF_METHODS.items():
        neighbour = f"paper/{dataset}_{one}_{setting}"
        if method == other and neighbour in PAPERS:
            assert differing(name, neighbour) <= keys
    photographs = f"paper/cifar_fs_{method}_{setting}"
    if dataset not in ("omniglot", "cifar_fs") and method in OF_DATA:
        assert differing(name, photographs) <= OF_DATA[method]


def training(cell: schema.Config) -> str:
    """All that the way of training depends on: equal where one training serves two experiments."""
    options = dict(flat(cell.identity())) | training_shape(cell)._asdict()
    left_out = {"ways", "shots", "queries", "test.episodes"}
    left_out |= {key for key in options if key.startswith("algo.test_")}
    if cell.algo.name == "reptile":
        left_out |= {"algo.norm_statistics"}  # which is that of evaluation
    kept = {key: value for key, value in options.items() if key not in left_out}
    return repr(sorted({**kept, "shape": training_shape(cell)}.items()))


def test_experiments_that_share_one_training():
    """Those of which the last parameters are tested share them, too; others choose them by shots."""
    groups = defaultdict(list)
    for name in PAPERS:
        groups[training(composed(name))].append(name.removeprefix("paper/"))
    shared = {tuple(sorted(group)) for group in groups.values() if len(group) > 1}
    last = {group for group in shared if composed(f"paper/{group[0]}").validation.times == 1}
    starts = [("omniglot_reptile", 5), ("omniglot_reptile", 20), ("miniimagenet_reptile", 5)]
    of_reptile = {
        tuple(
            f"{start}{more}_{ways}w{shots}s" for more in ("", "_transductive") for shots in (1, 5)
        )
        for start, ways in starts
    }
    of_protonet = {
        (f"omniglot_protonet_20w{shot}s", f"omniglot_protonet_5w{shot}s") for shot in (1, 5)
    }
    both = {"metaoptnet", "metaoptnet_rr", "metaoptnet_trainval"}
    both |= {"r2d2", "r2d2_64", "baseline", "baselinepp"}
    of_shots = {
        (name.removeprefix("paper/"), name.removeprefix("paper/").replace("5w1s", "5w5s"))
        for name in PAPERS
        if words(name)[1] in both and words(name)[2] == "5w1s"
    }
    trainval = {group for group in of_shots if "trainval" in group[0]}
    assert shared == of_reptile | of_protonet | of_shots
    assert last == of_reptile | of_protonet | trainval


def test_the_rate_of_dropped_squares_is_full_when_the_official_one_is():
    """The official code has two passes an outer step, 1,000 of these an epoch, then 4,000 passes of its
    validation; its rate rises with the passes so far, up to 40,000."""
    official, passes = [], 0
    for _ in range(60):
        official += [(passes + 2 * step) / 40_000 for step in range(1000)]
        passes += 2_000 + 4_000
    full = next(step for step, share in enumerate(official) if share >= 1)
    found = [composed(name) for name in PAPERS]
    found = [cell for cell in found if cell.backbone.name == "resnet12"]
    assert len(found) == 32
    for cell in found:
        assert cell.backbone.options["drop_steps"] == full == 7_000
    ours = [min(1, step / full) for step in range(len(official))]
    assert max(abs(a - min(1, b)) for a, b in zip(ours, official, strict=True)) < 0.1


def test_the_sinusoid_of_mamls_paper_takes_its_steps():
    cell = composed("paper/sinusoid_maml_10s")
    assert cell.dataset.name == "sinusoid" and cell.backbone.options == {"hidden": 40, "layers": 2}
    shape = training_shape(cell)
    assert (shape.ways, shape.shots, shape.queries) == (None, 10, 10)
    assert cell.train.examples == 70_000 * cell.train.meta_batch * shape.examples
