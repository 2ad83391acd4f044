"""Navigation, by reinforcement: policies, gradients and returns."""

import hydra
import pandas as pd
import pytest
import torch
from hydra.core.global_hydra import GlobalHydra

from algorithms.backbones.mlp import MLP
from algorithms.maml_rl import QUERY, MAMLPolicy
from algorithms.reinforcement import PolicyGradient, Trajectories, advantages, targets
from algorithms.reptile_rl import ReptilePolicy
from bench import report
from bench.config import schema
from bench.config.plugins import CONF
from bench.core.errors import UserError
from bench.datasets.control import navigation
from bench.datasets.control.navigation import Navigation
from bench.datasets.io.cache import DataDirs
from bench.engine.evaluate import evaluate
from bench.runs import cell as cells
from bench.runs import run as running
from bench.runs.reload import load_cell
from bench.runs.verify import verify
from bench.tasks import leaks
from bench.tasks.base import MOST
from bench.tasks.episodes import episodes_of

SMALL = [
    "dataset=navigation",
    "shots=4",
    "queries=3",
    "train.queries=4",
    "train.meta_batch=3",
    "train.examples=72",
    "validation.times=2",
    "validation.episodes=3",
    "test.episodes=5",
    "throughput.seconds=0.001",
    "device=cpu",
    "threads=1",
]


@pytest.fixture(scope="module")
def dataset():
    return navigation.prepare(DataDirs.of(), sees_goal=False)


@pytest.fixture
def make(tmp_path):
    def cell(*overrides: str) -> cells.Cell:
        GlobalHydra.instance().clear()
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            options = [*SMALL, f"results_dir={tmp_path}/results", *overrides]
            return cells.check(schema.from_hydra(hydra.compose("config", options)))

    return cell


def policy(method=MAMLPolicy, environment=None, **options):
    torch.manual_seed(0)
    learner = method(MLP((2,), hidden=8), 2, **options).double()
    learner.loss = PolicyGradient(environment or Navigation())
    return learner


@pytest.fixture
def batch(dataset, make):
    cell = make("algo=maml_rl")
    drawn = episodes_of(dataset, "train", cell.train_setting, cell.device, "t").draw(0, 3)
    return drawn._replace(support_x=drawn.support_x.double(), query_x=drawn.query_x.double())


def test_goals_are_the_papers_and_leak_nowhere(dataset):
    leaks.check(dataset.splits)
    goals = dataset.splits["train"].inputs[:: navigation.TRAJECTORIES, :2]
    assert goals.shape == (2_000, 2) and -0.5 <= goals.min() < -0.49 and 0.49 < goals.max() <= 0.5
    numbers = torch.cat([pool.inputs[:, 2] for pool in dataset.splits.values()])
    assert torch.equal(numbers.double(), torch.arange(len(numbers)).double())


def test_a_point_moves_as_in_the_paper():
    plane = Navigation()
    state = plane.reset(torch.tensor([[[0.3, -0.15, 7.0]]]))
    assert plane.observe(state).tolist() == [[[0, 0]]]
    state, reward, goes_on = plane.step(state, torch.tensor([[[9.0, -0.5]]]))
    torch.testing.assert_close(state.places, torch.tensor([[[0.1, -0.05]]]))
    assert reward.item() == pytest.approx(-(0.05**0.5)) and goes_on.item()
    for _ in range(2):
        state, reward, goes_on = plane.step(state, torch.tensor([[[1.0, -0.5]]]))
    assert not goes_on.item() and reward.item() == pytest.approx(0, abs=1e-6)
    assert Navigation(sees_goal=True).observe(state).shape == (1, 1, 4)


def test_noise_is_normal_and_a_function_of_number_and_use():
    plane = Navigation()
    rows = torch.zeros(1, 50, 3)
    rows[..., 2] = torch.arange(50)
    noise = plane.noise(rows, 0)
    assert noise.shape == (1, 50, 100, 2)
    assert noise.mean().abs() < 0.05 and (noise.std() - 1).abs() < 0.05
    assert torch.equal(plane.noise(rows[:, 7:9], 0), noise[:, 7:9])
    assert (plane.noise(rows, QUERY) != noise).all()


def made(steps: int = 5) -> Trajectories:
    generator = torch.Generator().manual_seed(0)
    shape = (2, 3, steps)
    lives = torch.ones(shape).double()
    lives[0, 1, 3:] = 0

    def draw(*more):
        return torch.randn(*shape, *more, generator=generator).double()

    return Trajectories(draw(2), draw(2), draw() * lives, lives)


def test_advantages_are_those_of_a_loop():
    found = made()
    result = advantages(found, 0.9)
    for task in range(2):
        rows, wanted, places = [], [], []
        for one in range(3):
            for now in range(5):
                if not found.lives[task, one, now]:
                    continue
                ahead = range(now, 5)
                wanted.append(sum(0.9 ** (k - now) * found.rewards[task, one, k] for k in ahead))
                seen, time = found.observations[task, one, now], now / 100
                rows.append([*seen, *(seen**2), 1, time, time**2, time**3])
                places.append((one, now))
        x, y = torch.tensor(rows).double(), torch.tensor(wanted).double()
        weights = torch.linalg.solve(x.T @ x + 1e-5 * torch.eye(8).double(), x.T @ y)
        left = y - x @ weights
        left = (left - left.mean()) / (left.std(correction=0) + 1e-8)
        mine = torch.stack([result[task, one, now] for one, now in places])
        torch.testing.assert_close(mine, left, rtol=1e-6, atol=1e-8)
    assert (result[0, 1, 3:] == 0).all()


def test_the_gradient_is_that_of_reinforce():
    learner, found = policy(), made(100)
    wanted = targets(found, 0.99)
    fast = learner.policy.fast_weights(2)
    outputs = learner.policy.log_probability(fast, found)
    gradient = torch.autograd.grad(
        learner.loss(outputs, wanted).mean(1).sum(), learner.policy.log_std
    )[0]
    mean = learner.policy.network(found.observations.flatten(1, 2)).detach()
    log_std = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    normal = torch.distributions.Normal(mean, log_std.exp())
    said = normal.log_prob(found.actions.flatten(1, 2)).sum(-1).view(2, 3, 100)
    weighted = (said * advantages(found, 0.99) * found.lives).sum((1, 2)) / found.lives.sum((1, 2))
    (expected,) = torch.autograd.grad(-weighted.sum(), log_std)
    torch.testing.assert_close(gradient, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("second_order", [True, False])
def test_mamls_outer_gradient_is_that_of_a_loop_over_tasks(batch, second_order):
    learner = policy(inner_lr=0.25, second_order=second_order)
    environment, parameters = learner.loss.environment, dict(learner.policy.named_parameters())
    total = 0.0
    for task in range(3):
        fast = {name: p[None] for name, p in parameters.items()}
        for x, use in (
            (batch.support_x[task : task + 1, 0], 0),
            (batch.query_x[task : task + 1], QUERY),
        ):
            found = learner.policy.act(fast, environment, x, use)
            wanted = targets(found, environment.discount)
            said = learner.policy.log_probability(fast, found)
            loss = -((said - said.detach()).exp() * wanted[..., 0]).mean()
            if use == QUERY:
                total = total + loss / 3
                break
            step = torch.autograd.grad(loss, list(fast.values()), create_graph=second_order)
            fast = {n: w - 0.25 * g for (n, w), g in zip(fast.items(), step, strict=True)}
    expected = torch.autograd.grad(total, list(parameters.values()))
    learner.meta_gradient(batch)
    for parameter, wanted in zip(parameters.values(), expected, strict=True):
        torch.testing.assert_close(parameter.grad, wanted, rtol=1e-8, atol=1e-10)


def test_reptile_leaves_the_way_to_the_adapted_policies(batch):
    learner = policy(ReptilePolicy, inner_steps=2, inner_lr=0.25)
    learner.chunk_size = 2
    learner.meta_gradient(batch)
    fast = learner.adapt(batch.support_x, batch.support_y)
    for name, parameter in learner.policy.named_parameters():
        expected = parameter.detach() - fast[name].detach().mean(0)
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-8, atol=1e-12)


def test_a_policy_that_explodes_has_the_worst_return(dataset, make):
    cell = make("algo=maml_rl")
    source = episodes_of(dataset, "test", cell.test_setting, cell.device, "test")
    learner = policy().float()
    with torch.no_grad():
        learner.policy.network.head.bias.fill_(torch.nan)
    assert evaluate(learner, source, 2, 2)["score"].tolist() == [-MOST, -MOST]


@pytest.mark.parametrize("algo", ["maml_rl", pytest.param("reptile_rl", marks=pytest.mark.slow)])
def test_a_run_ends_with_a_return_and_can_be_verified(make, algo):
    queries = ["train.queries=0", "train.examples=36"] if algo == "reptile_rl" else []
    cell = make(f"algo={algo}", *queries)
    record = running.run(cell)
    assert record["metric"]["name"] == "return" and record["examples"] == "trajectories"
    assert -200 < record["score"] < 0
    again = load_cell(cell.store, cell.name, {"data_root": None, "cache_dir": None})
    assert verify(again, cell.name) == []
    report.build(cell.store.root)
    assert pd.read_csv(cell.store.root / "return.csv")["return"].tolist() == [record["score"]]


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["algo=maml"], "navigation is learned by acting, which maml does not do"),
        (["algo=protonet"], "protonet needs tasks with classes|which protonet does not do"),
        (["algo=maml_rl", "dataset=sinusoid"], "sinusoid has examples to learn from"),
    ],
)
def test_mistakes_are_told_before_any_work(make, overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        make(*overrides)
