"""Regression beyond the sinusoid: pixels of images, movements of arms, and their learners."""

import math

import hydra
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.attention import Attention
from algorithms.backbones.mlp import MLP
from algorithms.cnp import CNP
from algorithms.finetune import FineTune
from algorithms.losses import SquaredError
from algorithms.pooled import Pooled
from bench.config import schema
from bench.config.plugins import CONF
from bench.datasets.control import arm
from bench.datasets.functions import arm_dynamics, completion
from bench.datasets.images import glyphs
from bench.datasets.io.cache import DataDirs
from bench.runs import cell as cells
from bench.runs import run as running
from bench.tasks import leaks
from bench.tasks.pool import Pool
from tests.algorithms.test_regression import made, plain, tasks

ALGOS = [
    *("r2d2", "pooled"),
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in ("maml", "reptile", "metaoptnet_rr", "finetune", "cnp", "attention")
    ),
]
SMALL = [
    "validation.times=1",
    "validation.episodes=3",
    "test.episodes=4",
    "throughput.seconds=0.001",
    "device=cpu",
    "threads=1",
]


@pytest.fixture
def make(tmp_path):
    def cell(*overrides: str) -> cells.Cell:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            options = [*SMALL, f"results_dir={tmp_path}/results", *overrides]
            return cells.check(schema.from_hydra(hydra.compose("config", options)))

    return cell


def test_pixels_are_those_of_the_images():
    images = torch.arange(2 * 3 * 4 * 5, dtype=torch.uint8).view(2, 3, 4, 5)
    pool = completion.pixels("val", Pool(images, torch.tensor([0, 2]), ("both",)))
    assert pool.names == ("val 0", "val 1") and pool.offsets.tolist() == [0, 20, 40]
    assert pool.inputs.shape == (40, 14) and pool.targets.shape == (40, 3)
    for row, column in ((0, 0), (3, 4), (2, 1)):
        at = 20 + 5 * row + column
        place = torch.tensor([2 * row / 3 - 1, 2 * column / 4 - 1])
        torch.testing.assert_close(pool.inputs[at, :2], place)
        torch.testing.assert_close(pool.inputs[at, 2:4], (math.pi / 2 * place).sin())
        assert (255 * pool.targets[at]).round().tolist() == images[1, :, row, column].tolist()


def test_images_of_different_splits_are_of_different_classes():
    folders = DataDirs.of()
    data = completion.prepare(folders, images="glyphs")
    leaks.check_once(data)
    assert [len(pool.names) for pool in data.splits.values()] == [2_000, 200, 1_000]
    source = glyphs.prepare(folders)
    for split, pool in data.splits.items():
        chosen = torch.arange(len(pool.names)) * len(source.splits[split].inputs)
        wanted = source.splits[split].inputs[chosen // len(pool.names)].float() / 255
        assert torch.equal(pool.targets.view(len(pool.names), -1), wanted.flatten(1))


def test_whole_tasks_leak_where_points_are_of_a_grid():
    places = torch.zeros(4, 1)
    one = Pool(
        places, torch.tensor([0, 2, 4]), ("a", "b"), targets=torch.tensor([[0.0], [1], [2], [3]])
    )
    two = Pool(
        places, torch.tensor([0, 2, 4]), ("c", "d"), targets=torch.tensor([[0.0], [3], [2], [1]])
    )
    three = Pool(places[:2], torch.tensor([0, 2]), ("e",), targets=torch.tensor([[9.0], [9]]))
    leaks.check({"train": one, "val": two, "test": three}, compared="tasks")
    with pytest.raises(ValueError, match="4 examples are in more than one split"):
        leaks.check({"train": one, "val": two, "test": three})
    again = Pool(places, two.offsets, two.names, targets=torch.tensor([[0.0], [1], [7], [8]]))
    with pytest.raises(ValueError, match=r"1 examples are in more.* a no. 0 .train. = c no. 0"):
        leaks.check({"train": one, "val": again, "test": three}, compared="tasks")


def test_arms_move_as_their_payload_says():
    pool = arm_dynamics.movements("val", 50)
    leaks.check_pool("val", pool)
    assert pool.inputs.shape == (3_200, 8) and pool.targets.shape == (3_200, 2)
    inputs = pool.inputs.view(50, 64, 8)
    angles = torch.atan2(inputs[..., 2:4], inputs[..., :2])
    state = arm.State(angles, arm.VELOCITY_SCALE * inputs[..., 4:6])
    errors = []
    for payload in (0.0, 1.0, 2.0):
        after = arm.step(state, arm.TORQUE * inputs[..., 6:], torch.full((50, 1), payload))
        change = after.velocities - state.velocities
        errors.append((change - pool.targets.view(50, 64, 2)).square().mean((1, 2)))
    assert torch.stack(errors).argmin(0).bincount(minlength=3).min() >= 5


@pytest.mark.parametrize(("data", "examples"), [("completion", "19200"), ("arm_dynamics", "2000")])
@pytest.mark.parametrize(
    "algo", ["maml", "reptile", "r2d2", "metaoptnet_rr", "pooled", "finetune", "cnp"]
)
def test_runs_end(make, data, examples, algo):
    record = running.run(make(f"dataset={data}", f"algo={algo}", f"train.examples={examples}"))
    assert record["metric"]["name"] == "mse" and 0 < record["score"] < 100


def test_a_pooled_network_ignores_the_support_set():
    learner, batch = made(Pooled), tasks()
    other = batch._replace(support_y=batch.support_y + 1)
    outputs = [learner(each.support_x, each.support_y, each.query_x) for each in (batch, other)]
    assert torch.equal(*outputs)
    both = torch.cat((batch.support_x[:, 0], batch.query_x), 1)
    expected = plain(learner.network)(both)
    wanted = torch.cat((batch.support_y[:, 0], batch.query_y), 1)
    loss = learner.meta_gradient(batch)["loss"]
    torch.testing.assert_close(loss, (expected - wanted).square().mean().detach())


def test_fine_tuning_is_that_of_a_loop_over_tasks():
    learner, batch = made(FineTune, test_inner_steps=4, inner_lr=0.01), tasks()
    found = learner.eval()(batch.support_x, batch.support_y, batch.query_x)
    for task in range(len(found)):
        network = plain(learner.network)
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(4):
            optimizer.zero_grad()
            (
                network(batch.support_x[task, 0]) - batch.support_y[task, 0]
            ).square().mean().backward()
            optimizer.step()
        torch.testing.assert_close(found[task], network(batch.query_x[task]).detach())


def test_a_neural_process_reads_the_mean_of_its_support_set():
    learner, batch = made(CNP, hidden=5), tasks()
    found = learner(batch.support_x, batch.support_y, batch.query_x)
    for task in range(len(found)):
        x, y = batch.support_x[task, 0], batch.support_y[task, 0]
        features = learner.backbone(torch.cat((x, batch.query_x[task]))[None])[0]
        read = learner.encoder(torch.cat((features[: len(x)], y), 1)[None])[0].mean(0)
        query = torch.cat((features[len(x) :], read.expand(len(features) - len(x), -1)), 1)
        torch.testing.assert_close(found[task], learner.decoder(query[None])[0])


def test_attention_weighs_targets_by_distance():
    torch.manual_seed(0)
    learner = Attention(MLP((2,), hidden=6), 2, initial_scale=3.0).double()
    learner.loss, batch = SquaredError(), tasks()
    found = learner(batch.support_x, batch.support_y, batch.query_x)
    for task in range(len(found)):
        support = learner.backbone(batch.support_x[task])[0]
        query = learner.backbone(batch.query_x[task][None])[0]
        weights = (-3 * torch.cdist(query, support).square() / 6).softmax(1)
        torch.testing.assert_close(found[task], weights @ batch.support_y[task, 0])
