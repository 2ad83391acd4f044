"""The arm, by imitation: from its mechanics to the tables."""

import math

import hydra
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.learner import Learner
from bench import report
from bench.config import schema
from bench.config.plugins import CONF
from bench.core.errors import UserError
from bench.datasets.control import arm
from bench.datasets.io.cache import DataDirs
from bench.engine.evaluate import evaluate
from bench.runs import cell as cells
from bench.runs import run as running
from bench.runs.reload import load_cell
from bench.runs.verify import verify
from bench.tasks import leaks
from bench.tasks.base import Tasks
from bench.tasks.episodes import episodes_of

DIGEST = ""
SMALL = [
    "dataset=arm",
    "train.examples=640",
    "validation.times=2",
    "validation.episodes=10",
    "test.episodes=20",
    "throughput.seconds=0.001",
    "device=cpu",
    "threads=1",
]


@pytest.fixture(scope="module")
def dataset():
    return arm.prepare(DataDirs.of(), tolerance=0.02, noise=1.0, payload=1.0)


@pytest.fixture
def make(tmp_path):
    def cell(*overrides: str) -> cells.Cell:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            options = [*SMALL, f"results_dir={tmp_path}/results", *overrides]
            return cells.check(schema.from_hydra(hydra.compose("config", options)))

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


def energy(state: arm.State, payload: torch.Tensor) -> torch.Tensor:
    """Kinetic energy of the two points, from their speeds by finite differences."""
    angles, velocities = state
    step = 1e-6
    elbows = [angles[..., 0] + side * step * velocities[..., 0] for side in (1, -1)]
    places = [arm.LENGTH * torch.stack((each.cos(), each.sin()), -1) for each in elbows]
    tips = [arm.tip(angles + side * step * velocities) for side in (1, -1)]
    inner, outer = ((one - two).norm(dim=-1) / (2 * step) for one, two in (places, tips))
    return (arm.MASS * inner**2 + (arm.MASS + payload) * outer**2) / 2


def test_without_damping_and_torque_energy_is_kept(monkeypatch):
    monkeypatch.setattr(arm, "DAMPING", 0.0)
    monkeypatch.setattr(arm, "SUBSTEPS", 2000)
    generator = torch.Generator().manual_seed(0)
    draw = 2 * torch.rand(2, 4, 3, 2, generator=generator, dtype=torch.float64)
    state, payload = arm.State(*draw), torch.rand(4, 1, generator=generator, dtype=torch.float64)
    after = state
    for _ in range(4):
        after = arm.step(after, torch.zeros(4, 3, 2, dtype=torch.float64), payload)
    assert (after.angles - state.angles).abs().mean() > 0.1
    torch.testing.assert_close(energy(after, payload), energy(state, payload), rtol=1e-3, atol=0)


def test_the_demonstrator_arrives_and_never_wraps_around(dataset):
    pool = dataset.splits["test"]
    domain = dataset.domain
    numbers = torch.arange(200)
    tasks = Tasks(numbers, pool.hidden[:200])
    goal, payload = tasks.hidden[:, :2], tasks.hidden[:, 2:]
    aim = arm.inverse(goal.norm(dim=-1), torch.atan2(goal[:, 1], goal[:, 0]))[:, None]
    torch.testing.assert_close(arm.tip(aim)[:, 0], goal, rtol=0, atol=1e-5)

    def policy(seen):
        angles = torch.atan2(seen[..., 2:4], seen[..., :2])
        shoulder = angles[..., 0]
        angles = torch.stack(
            (torch.where(shoulder > 2, shoulder - 2 * math.pi, shoulder), angles[..., 1]), -1
        )
        state = arm.State(angles, arm.VELOCITY_SCALE * seen[..., 4:])
        return arm.demonstrate(state, aim, payload) / arm.ACTION_SCALE

    found = domain.environment.rollouts(policy, tasks)
    assert found["score"].mean() == 100 and found["distance"].max() < 20


def test_tasks_are_the_same_everywhere_and_leak_nowhere(dataset):
    leaks.check(dataset.splits)
    assert (
        dataset.digest == arm.prepare(DataDirs.of(), tolerance=0.02, noise=1.0, payload=1.0).digest
    )
    other = arm.prepare(DataDirs.of(), tolerance=0.05, noise=1.0, payload=1.0)
    assert (other.digest, other.name) == (dataset.digest, "arm-50mm")
    pool = dataset.splits["train"]
    assert pool.inputs.shape == (12_000, 60, 6) and pool.targets.shape == (12_000, 60, 2)
    assert pool.hidden.shape == (1_000, 3)
    radius = pool.hidden[:, :2].norm(dim=1)
    assert radius.min() >= 0.25 and radius.max() <= 0.9
    assert pool.hidden[:, 2].min() >= 0 and pool.hidden[:, 2].max() <= 1


def test_learners_see_steps_of_whole_demonstrations(dataset, make):
    cell = make("algo=maml", "shots=2")
    source = episodes_of(dataset, "test", cell.test_setting, cell.device, "test")
    drawn = source.draw(3, 2)
    assert drawn.support_x.shape == (2, 1, 120, 6) and drawn.support_y.shape == (2, 1, 120, 2)
    assert drawn.query_x.shape == (2, 120, 6) and drawn.query_y.shape == (2, 120, 2)
    pool = dataset.splits["test"]
    first = drawn.support_x[0, 0, :60]
    whole = pool.inputs[drawn.classes[0, 0] * arm.DEMONSTRATIONS :][: arm.DEMONSTRATIONS]
    assert any(torch.equal(first, each) for each in whole)
    torch.testing.assert_close(source.tasks(3, 2).hidden, pool.hidden[drawn.classes[:, 0]])
    assert source.tasks(3, 2).numbers.tolist() == [3, 4]


def test_rollouts_depend_on_a_tasks_number_and_not_on_the_chunk(dataset, make):
    cell = make("algo=maml")
    source = episodes_of(dataset, "test", cell.test_setting, cell.device, "test")
    learner = cells.build_learner(cell.config, dataset, cell.train_setting)
    one, many = (evaluate(learner, source, 6, size) for size in (1, 6))
    for name in ("score", "distance"):
        torch.testing.assert_close(one[name], many[name], rtol=1e-4, atol=0)
    assert one["distance"].unique().numel() == 6


@pytest.mark.parametrize("value", [math.nan, math.inf, -1e30])
def test_a_policy_that_explodes_fails(dataset, make, value):
    cell = make("algo=maml")
    source = episodes_of(dataset, "test", cell.test_setting, cell.device, "test")
    wild = Answers(lambda seen: torch.full((*seen.shape[:2], 2), value))
    found = evaluate(wild, source, 3, 3)
    assert found["score"].tolist() == [0, 0, 0]
    assert all(each.isfinite().all() for each in found.values())


@pytest.mark.parametrize(
    "algo",
    [
        *("r2d2", "finetune"),
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("maml", "reptile", "anil", "cnp", "attention", "pooled")
        ),
    ],
)
def test_a_run_ends_with_a_success_rate_and_can_be_verified(make, algo):
    cell = make(f"algo={algo}")
    record = running.run(cell)
    assert record["metric"]["name"] == "success" and record["examples"] == "demonstrations"
    assert 0 <= record["score"] <= 100 and record["distance"] > 0 and record["cloning"] > 0
    stored = cell.store.episodes(cell.name)
    assert {"score", "distance", "cloning"} <= set(stored)
    again = load_cell(cell.store, cell.name, {"data_root": None, "cache_dir": None})
    assert verify(again, cell.name) == []


def test_its_report_has_a_table_of_success(make):
    cell = make("algo=r2d2")
    record = running.run(cell)
    report.build(cell.store.root)
    table = pd.read_csv(cell.store.root / "success.csv")
    assert table["success"].tolist() == [record["score"]]
    assert "1-shot" in (cell.store.root / "success.md").read_text()


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["algo=protonet"], "protonet needs tasks with classes, and those of arm have none"),
        (["algo=maml_rl"], "arm has examples to learn from, which maml_rl does not do"),
        (["algo=pooled", "dataset=glyphs", "ways=5", "backbone=mlp"], "glyphs has classes"),
        (["algo=maml", "dataset.tolerance=-1"], "dataset.tolerance=-1"),
        (["algo=maml", "shots=11"], "shots=11 plus queries=2 is 13 examples"),
    ],
)
def test_mistakes_are_told_before_any_work(make, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        make(*overrides)
