"""conf/ and the code that it names fit together, and every key has its sentence."""

import importlib
import re
from pathlib import Path

import hydra
import pytest
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig, OmegaConf

from algorithms.learner import Learner
from bench.check import choice
from bench.cli import help
from bench.config import groups, schema
from bench.core.errors import UserError
from tests.choices import ASKED

ROOT = Path(__file__).parent.parent
CHOICES = [(group, name) for group in groups.GROUPS for name in groups.names(group)]


@pytest.fixture(autouse=True)
def composer():
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        yield


@pytest.mark.parametrize(("group", "name"), CHOICES)
def test_every_choice_composes_and_states_all_options_of_its_code(group, name):
    asked = ASKED.get(name, []) if group == "backbone" else []
    code = getattr(schema.from_hydra(hydra.compose("config", [f"{group}={name}", *asked])), group)
    schema.check_options(code, group)
    for law in choice.LAWS:
        law(choice.Choice(group, name, code))


@pytest.mark.parametrize(
    ("group", "folders"),
    [
        ("algo", ["algorithms"]),
        (
            "dataset",
            [f"bench/datasets/{kind}" for kind in ("images", "texts", "functions", "control")],
        ),
    ],
)
def test_a_choice_is_named_after_its_module_or_is_a_setting_of_such_a_choice(group, folders):
    cells = {
        n: schema.from_hydra(hydra.compose("config", [f"{group}={n}"])) for n in groups.names(group)
    }
    choices = {name: getattr(cell, group) for name, cell in cells.items()}
    rules = {
        f"{folder}/{name}": code
        for name, code in choices.items()
        for folder in folders
        if (ROOT / folder / f"{name}.py").exists()
    }
    for path, code in rules.items():
        assert code.target.startswith(path.replace("/", ".") + ".")
    targets = {code.target for code in rules.values()}
    assert len(targets) == len(rules)
    for name, code in choices.items():
        assert code.target in targets, name
    alike = [
        str((code.target, code.options, cells[name].backbone)) for name, code in choices.items()
    ]
    assert len(set(alike)) == len(alike), "two names for one thing"


def test_every_learner_has_a_choice_of_its_name():
    for path in (ROOT / "algorithms").glob("*.py"):
        importlib.import_module(f"algorithms.{path.stem}")

    def below(learner: type) -> list[type]:
        found = learner.__subclasses__()
        return [each for each in found if each.__module__.startswith("algorithms.")]

    found, learners = set(), [Learner]
    for learner in learners:  # which grows
        learners += below(learner)
        if not below(learner):  # others are what learners have in common
            found.add(learner.__module__.removeprefix("algorithms.").replace(".", "/"))
    assert {"maml", "protonet"} <= found <= set(groups.names("algo"))


@pytest.mark.parametrize(
    ("group", "name"), [*CHOICES, *(("logger", name) for name in groups.names("logger"))]
)
def test_every_key_has_a_sentence(group, name):
    text = help.annotated(hydra.compose("config", [f"{group}={name}"]))
    lines = text.splitlines()
    keys = [i for i, line in enumerate(lines) if not line.lstrip().startswith("#")]
    assert len(keys) > 30
    for i in keys:
        is_group = lines[i].rstrip().endswith(":")
        sentence = lines[i - 1].strip()
        assert is_group or (sentence.startswith("# ") and sentence.endswith(".")), lines[i]


def test_help_shows_the_values_of_the_chosen_files():
    cfg = hydra.compose("config", ["algo=reptile"])
    lines = help.annotated(cfg).splitlines()
    at = lines.index("  inner_batch: 25")
    assert lines[at - 1] == "  # Images of a mini-batch in training."


def test_a_setting_states_what_differs_and_has_the_sentences_of_what_it_builds_on():
    files = [file.stem for file in groups.sources("algo", "metasgd")]
    assert files == ["maml", "metasgd"]
    sentences = groups.sentences_of("algo", "metasgd")
    assert sentences["algo.inner_lr"].startswith("Where the step size of each weight starts")
    assert sentences["algo.adapts"] == groups.sentences_of("algo", "maml")["algo.adapts"]
    code = groups.targets("algo")
    assert code["metasgd"] == code["maml"] and code["baselinepp"] != code["baseline"]


def test_no_setting_repeats_what_it_builds_on():
    for name in groups.names("algo"):
        *bases, own = (OmegaConf.load(file) for file in groups.sources("algo", name))
        base = OmegaConf.merge({}, *bases)
        for group in ("algo", "train"):
            repeated = set(own.get(group, {}).items()) & set(base.get(group, {}).items())
            assert not repeated, (name, repeated)


def test_wrong_values_name_their_key():
    cases = {
        "ways=1": "ways=1 ",
        "train.lr=0": "train.lr=0 ",
        "seed=-1": "seed=-1 ",
        "train.optimizer=lbfgs": "train.optimizer=lbfgs ",
        "overwrite=maybe": "overwrite=maybe ",
    }
    with pytest.raises(UserError, match="^backbone.model is missing: give backbone.model="):
        schema.from_hydra(hydra.compose("config", ["backbone=timm"]))
    for override, start in cases.items():
        with pytest.raises(Exception, match="is invalid") as caught:
            schema.from_hydra(hydra.compose("config", [override]))
        assert str(caught.value).startswith(start)
        assert "\n" not in str(caught.value)


def test_wrong_options_of_a_learner_name_their_key():
    for override in (
        "algo.inner_lr=fast",
        "algo.norm_statistics=all",
        "algo.inner_steps=1.5",
        "algo.adapts=backbone",
        "algo.learn_inner_lr=often",
    ):
        cell = schema.from_hydra(hydra.compose("config", ["algo=maml", override]))
        with pytest.raises(Exception, match="^" + override.replace(".", r"\.") + " is invalid"):
            schema.check_options(cell.algo, "algo")


def test_a_learner_that_is_not_there_is_a_mistake():
    cell = schema.from_hydra(hydra.compose("config", ["algo.target=algorithms.maml.Mamml"]))
    with pytest.raises(Exception, match="cannot be loaded from 'algorithms.maml.Mamml'"):
        schema.check_options(cell.algo, "algo")


def test_defaults_are_written_once():
    """The runner's types have no defaults that could disagree with conf/config.yaml."""
    assert isinstance(OmegaConf.load(ROOT / "conf" / "config.yaml"), DictConfig)
    models = [schema.Config, schema.Train, schema.Validation, schema.Test, schema.Throughput]
    assert all(field.is_required() for model in models for field in model.model_fields.values())


@pytest.mark.parametrize("name", [n for n in groups.names("experiment") if "paper/" not in n])
def test_every_experiment_is_a_valid_cell(name):
    schema.from_hydra(hydra.compose("config", [f"experiment={name}"]))


def test_the_cross_of_head_and_recipe_differs_in_them_alone():
    experiment = OmegaConf.load(ROOT / "conf" / "experiment" / "heads_by_recipe.yaml")
    swept = experiment.hydra.sweeper.params
    cells = {}
    for algo in swept.algo.split(","):
        for recipe in swept.recipe.split(","):
            options = ["experiment=heads_by_recipe", f"algo={algo}", f"recipe={recipe}"]
            cells[algo, recipe] = schema.from_hydra(hydra.compose("config", options)).identity()
    assert len(cells) == 12
    algos = {name: code["algo"] for (name, _), code in cells.items()}
    assert [algos[name].get("head") for name in algos] == [None, "ridge", "svm"]
    assert [algos[name]["initial_scale"] for name in algos] == [10.0] * 3
    for recipe in swept.recipe.split(","):
        alike = [{**cells[algo, recipe], "algo": None} for algo in algos]
        assert alike[0] == alike[1] == alike[2]
    full = cells["protonet", "metaoptnet"]["train"]
    for part in ("sgd", "adam_augmented"):
        plain, some = (cells["protonet", name]["train"] for name in ("adam", part))
        changed = {key: value for key, value in some.items() if value != plain[key]}
        assert changed and changed.items() <= full.items()


TUNED = {
    *("train.examples", "train.lr", "train.lr_schedule", "train.optimizer"),
    *("algo.inner_lr", "algo.inner_steps", "algo.inner_batch", "algo.test_inner_steps"),
    *("validation.times", "test.episodes"),
}
"""Options whose defaults are chosen by validation on other data than the papers', or to be quick."""


def said_by(experiment: str) -> tuple[str, set[str]]:
    """The learner of a paper's experiment, and the options that it or what it builds upon sets."""
    own = OmegaConf.load(ROOT / "conf" / "experiment" / "paper" / f"{experiment}.yaml")
    algo, said = "", set()
    for each in own.get("defaults", []):
        for group, chosen in {each: ""}.items() if isinstance(each, str) else each.items():
            group = group.removeprefix("override ")
            if group.startswith("/experiment/paper/"):
                algo, more = said_by(group.rsplit("/")[-1])
                said |= more
            elif group == "/algo":
                algo = chosen
            elif group == "/recipe":
                said |= {f"train.{key}" for key in hydra.compose(f"recipe/{chosen}").train}
    for group in ("algo", "train", "validation", "test"):
        said |= {f"{group}.{key}" for key in own.get(group, {})}
    return algo, said


@pytest.mark.parametrize("experiment", [n for n in groups.names("experiment") if "paper/" in n])
def test_no_default_that_was_tuned_reaches_a_papers_experiment(experiment):
    algo, said = said_by(experiment.removeprefix("paper/"))
    there = {f"algo.{key}" for key in hydra.compose("config", [f"algo={algo}"]).algo}
    there |= {"train.examples", "train.lr", "train.lr_schedule", "train.optimizer"}
    there |= {"validation.times", "test.episodes"}
    assert TUNED & there <= said


PAGES = [("learners", name) for name in groups.names("algo") if "/" not in name]
PAGES += [("datasets", name) for name in groups.names("dataset")]


@pytest.mark.parametrize(("folder", "name"), PAGES)
def test_every_learner_and_data_set_has_its_page(folder, name):
    option = f"{folder[:-1].replace('learner', 'algo')}={name}"
    pages = [path.read_text() for path in (ROOT / "docs" / folder).glob("*.md")]
    found = [text for text in pages if re.search(rf"[ `,]{option}\b|=[\w,]*,{name}\b", text)]
    assert any(text.count("\n## Measured\n") == 1 for text in found), option


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=str
)
def test_links_lead_somewhere(page):
    for link in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        assert "://" in link or (page.parent / link).exists(), link
