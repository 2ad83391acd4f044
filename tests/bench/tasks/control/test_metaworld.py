"""Meta-World, by imitation: from MuJoCo to the record. All but one test need its package."""

import importlib.util
import math

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.learner import Learner
from bench.config import schema
from bench.config.plugins import CONF
from bench.core.errors import RunFailedError, UserError
from bench.datasets.control import metaworld, simulator
from bench.datasets.io.cache import DataDirs
from bench.engine.evaluate import evaluate
from bench.runs import cell as cells
from bench.runs import run as running
from bench.runs.reload import load_cell
from bench.runs.verify import verify
from bench.tasks import leaks
from bench.tasks.episodes import episodes_of

needs_it = pytest.mark.skipif(
    not importlib.util.find_spec("metaworld"), reason="metaworld is not installed"
)
SMALL = [
    "dataset=metaworld",
    "train.examples=64",
    "validation.times=1",
    "validation.episodes=2",
    "test.episodes=3",
    "throughput.seconds=0",
    "device=cpu",
    "threads=1",
]


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def make(tmp_path, cache_dir, monkeypatch):
    monkeypatch.setattr(metaworld, "GOALS", dict.fromkeys(metaworld.SPLITS, 2))
    few = {benchmark: dict.fromkeys(metaworld.SPLITS, 2) for benchmark in ("ml1", "ml10")}
    monkeypatch.setattr(metaworld, "DEMONSTRATIONS", few)
    monkeypatch.setattr(metaworld, "TRAINED", ("reach-v3", "push-v3"))
    monkeypatch.setattr(metaworld, "TESTED", ("drawer-open-v3",))
    monkeypatch.setattr(metaworld, "STEPS", 60)
    monkeypatch.setattr(metaworld, "ROLLOUT_STEPS", 60)

    def cell(*overrides: str) -> cells.Cell:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            options = [*SMALL, f"results_dir={tmp_path}/results", f"cache_dir={cache_dir}"]
            return cells.check(schema.from_hydra(hydra.compose("config", [*options, *overrides])))

    return cell


class Answers(Learner):
    """A learner that gives these actions, whatever it is shown."""

    def __init__(self, actions) -> None:
        super().__init__()
        self.actions = actions

    def adapt(self, support_x, support_y):
        return None

    def predict(self, adapted, query_x):
        return self.actions(query_x)


def test_without_the_package_there_is_one_sentence(monkeypatch, make):
    monkeypatch.setattr(metaworld, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"not installed: pip install '\.\[control\]'"):
        make("algo=r2d2")


@needs_it
@pytest.mark.slow
def test_a_run_ends_with_a_success_rate_and_can_be_verified(make):
    cell = make("algo=r2d2")
    assert cell.dataset.name == "metaworld-reach-v3" and cell.dataset.input_shape == (36,)
    record = running.run(cell)
    assert record["metric"]["name"] == "success" and record["examples"] == "demonstrations"
    assert record["score"] in (0, pytest.approx(100 / 3), pytest.approx(200 / 3), 100)
    again = load_cell(
        cell.store, cell.name, {"data_root": None, "cache_dir": cell.config.cache_dir}
    )
    assert verify(again, cell.name) == []


@needs_it
@pytest.mark.slow
def test_demonstrations_share_the_goal_of_the_rollouts_in_ml1_alone(make):
    for benchmark, shared in (("ml1", True), ("ml10", False)):
        shown = metaworld.tasks_of(benchmark, "reach-v3", "train")[0].shown
        goals = {start.goal for tries in shown for start in tries}
        assert (len(goals) == 1) == shared
        assert len({start.seed for tries in shown for start in tries}) == 2 * metaworld.TRIES
    hidden, easy = make("algo=r2d2").dataset, make("algo=r2d2", "dataset.sees_goal=true").dataset
    many = make("algo=r2d2", "dataset.benchmark=ml10").dataset
    leaks.check(hidden.splits), leaks.check(many.splits)
    assert [each.input_shape for each in (hidden, easy, many)] == [(36,), (39,), (39,)]
    assert len({hidden.digest, easy.digest, many.digest}) == 3
    assert many.splits["test"].names == ("drawer-open-v3 test",)
    assert (hidden.splits["test"].hidden[:, 1] >= 0).all()
    assert (many.splits["test"].hidden[:, 1] == -1).all()


@needs_it
@pytest.mark.slow
def test_demonstrations_are_made_once_and_succeed(make, cache_dir, monkeypatch):
    first = make("algo=r2d2").dataset
    monkeypatch.setattr(simulator, "demonstrations", lambda *args: pytest.fail("made again"))
    options = {"benchmark": "ml1", "task": "reach-v3", "noise": 0.3, "sees_goal": None}
    folders = DataDirs.of(cache_dir=cache_dir)
    assert metaworld.prepare(folders, **options).digest == first.digest
    monkeypatch.setattr(metaworld, "version", lambda name: "another")
    with pytest.raises(pytest.fail.Exception):
        metaworld.prepare(folders, **options)


@needs_it
@pytest.mark.slow
def test_experts_succeed_and_starts_are_the_same_to_the_bit():
    starts = [metaworld.start("push-v3", goal, number) for goal in (1, None) for number in (1, 2)]
    episodes = simulator.Episodes(starts)
    again = simulator.Episodes([*starts[1:], starts[0]])
    assert (episodes.observations == again.observations[[3, 0, 1, 2]]).all()
    goals = episodes.observations[:, simulator.GOAL]
    assert abs(goals[0] - goals[1]).max() < 1e-3 < abs(goals[2] - goals[3]).max()
    hands = episodes.observations[:, :3]
    assert (hands[0] != hands[1]).any() and abs(hands[0] - hands[1]).max() < 0.13
    found = simulator.demonstrations([[start] for start in starts], 0.0, 100)
    assert all(each.success for each in found)
    assert abs(found[0].actions).max() <= 1
    episodes = simulator.Episodes(starts)
    for now in range(100):
        episodes.act(torch.stack([torch.from_numpy(each.actions[now]) for each in found]).numpy())
    assert episodes.success.all() and episodes.ended.all()


@needs_it
@pytest.mark.slow
def test_environments_of_a_type_are_used_again():
    here = simulator.Simulator()
    for types in (["reach-v3", "push-v3", "reach-v3"], ["push-v3", "reach-v3", "reach-v3"]):
        here.begin([metaworld.start(task, None, number) for number, task in enumerate(types)])
        assert len(here._made) == 3 and len({id(env) for env in here._episodes}) == 3


@needs_it
@pytest.mark.slow
def test_rollouts_depend_on_a_tasks_number_and_not_on_the_chunk(make):
    cell = make("algo=r2d2")
    source = episodes_of(cell.dataset, "test", cell.test_setting, cell.device, "test")
    seen = []

    def wander(x):
        seen.append(x)
        return x[..., :4]

    for size in (4, 1):
        assert evaluate(Answers(wander), source, 4, size)["score"].shape == (4,)
    steps = metaworld.ROLLOUT_STEPS + 1  # the first call is for the squared error
    one = torch.cat([seen[steps * (1 + n) + steps - 1] for n in range(4)])
    assert torch.equal(seen[steps - 1], one)


@needs_it
@pytest.mark.slow
@pytest.mark.parametrize("value", [math.nan, math.inf, -1e30])
def test_a_policy_that_explodes_fails(make, value):
    cell = make("algo=r2d2")
    source = episodes_of(cell.dataset, "test", cell.test_setting, cell.device, "test")
    wild = Answers(lambda seen: torch.full((*seen.shape[:2], 4), value))
    found = evaluate(wild, source, 3, 3)
    assert found["score"].tolist() == [0, 0, 0]
    assert all(each.isfinite().all() for each in found.values())


@needs_it
@pytest.mark.slow
def test_a_process_that_dies_fails_the_run_and_the_next_one_has_others():
    start = metaworld.start("reach-v3", 1, 1)
    before = simulator.Episodes([start]).observations
    for each in simulator.remotes():
        each._process.kill()
    with pytest.raises(RunFailedError, match="has ended by itself"):
        simulator.Episodes([start])
    assert (simulator.Episodes([start]).observations == before).all()


@needs_it
@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (
            ["dataset.benchmark=ml45"],
            "dataset.benchmark=ml45 is invalid: it should be 'ml1' or 'ml10'",
        ),
        (["dataset.task=reach-v9"], "dataset.task=reach-v9 is unknown; choose one of assembly-v3"),
        (["dataset.noise=-1"], "dataset.noise=-1"),
        (["algo=protonet"], "protonet needs tasks with classes"),
    ],
)
def test_mistakes_are_told_before_any_work(make, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        make("algo=r2d2", *overrides)
