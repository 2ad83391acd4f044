import copy

import pytest
import torch

from algorithms.backbones.conv4 import Conv4
from algorithms.backbones.mlp import MLP
from algorithms.learner import Setting
from algorithms.maml import MAML
from algorithms.protonet import ProtoNet
from bench.config.schema import Train
from bench.engine import device as devices
from bench.engine import throughput
from bench.engine.distributed import ProcessGroup
from bench.tasks.episodes import EpisodeSampler
from bench.tasks.pool import Pool
from tests.bench.small import PLAIN

CPU = torch.device("cpu")


def test_the_device_is_awaited_before_each_look_at_the_clock(monkeypatch):
    events: list[str] = []
    clock = iter(range(1000))

    class Time:
        @staticmethod
        def perf_counter() -> int:
            events.append("clock")
            return next(clock)

    monkeypatch.setattr(throughput, "time", Time)
    monkeypatch.setattr(throughput, "synchronize", lambda _: events.append("synchronize"))
    row = throughput._phase("train", lambda: events.append("work"), 4, 30, CPU, seconds=0.0)
    warm_up = ["work"] * throughput.WARM_UP_CALLS + ["synchronize"]
    assert events == warm_up + ["clock", "work", "synchronize", "clock"] * 3
    assert (row["ms_median"], row["ms_iqr"], row["calls"]) == (1000, 0, 3)
    assert (row["tasks_per_s"], row["examples_per_s"], row["tasks_per_call"]) == (4, 120, 4)


GPU = torch.device("cuda")


@pytest.fixture
def gpu(monkeypatch):
    """A GPU that does a call in a millisecond, for all that `bench.engine.throughput` asks of one."""
    monkeypatch.setattr(throughput, "reset_peak_memory", lambda _: None)
    monkeypatch.setattr(throughput, "peak_mib", lambda _: 0.0)
    counted = iter([500.0, 570.0])
    monkeypatch.setattr(throughput, "joules", lambda _: next(counted))


def test_a_gpu_is_not_awaited_between_the_calls_of_a_block(monkeypatch, gpu):
    events: list[str] = []
    now = 0.0

    class Time:
        @staticmethod
        def perf_counter() -> float:
            events.append("clock")
            return now

    def work() -> None:
        nonlocal now
        now += 0.001
        events.append("work")

    monkeypatch.setattr(throughput, "time", Time)
    monkeypatch.setattr(throughput, "synchronize", lambda _: events.append("synchronize"))
    row = throughput._phase("train", work, 4, 30, GPU, seconds=0.1)
    block = ["clock", *["work"] * 20, "synchronize", "clock"]
    one = ["clock", "work", "synchronize", "clock"]
    assert events == ["work", "synchronize", *one, *block * (row["calls"] // 20)]
    assert row["calls"] in (100, 120)  # 0.1 s, or a rounding error less
    assert row["ms_median"] == pytest.approx(1) and row["ms_iqr"] == pytest.approx(0, abs=1e-6)
    assert row["tasks_per_s"] == pytest.approx(4000)
    assert row["power_w"] == pytest.approx(70 / (row["calls"] * 0.001))
    assert row["joules_per_1000_tasks"] == pytest.approx(70_000 / (4 * row["calls"]))


@pytest.mark.parametrize(("each", "calls"), [(0.6, 4), (9.0, 3)])
def test_slow_calls_of_a_gpu_are_timed_one_by_one(monkeypatch, gpu, each, calls):
    now = iter(i * each for i in range(1000))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(now))
    monkeypatch.setattr(throughput, "synchronize", lambda _: None)
    assert throughput._phase("train", lambda: None, 4, 30, GPU, 0.5)["calls"] == calls


def test_processes_make_blocks_of_as_many_calls(monkeypatch, gpu):
    """Else one would wait for another that is done."""
    monkeypatch.setattr(ProcessGroup, "all_gather", lambda _, said: [7, said])
    monkeypatch.setattr(ProcessGroup, "any_rank", lambda _, wish: wish)
    monkeypatch.setattr(throughput, "synchronize", lambda _: None)
    now = iter(range(1000))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(now))
    row = throughput._phase("train", lambda: None, 4, 30, GPU, 0.0, ProcessGroup(1, 2))
    assert row["calls"] == 3 * 7


@pytest.mark.parametrize(
    ("each", "seconds", "calls"),
    [(0.25, 1.25, 5), (0.01, 0.0, 5), (0.01, 0.075, 8), (0.6, 0.5, 4), (9.0, 0.5, 3)],
)
def test_slow_calls_are_fewer(monkeypatch, each, seconds, calls):
    now = iter(i * each / 2 for i in range(1000))
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(now) * 2)
    row = throughput._phase("train", lambda: None, 4, 30, CPU, seconds)
    assert row["calls"] == calls


def test_energy_is_that_of_the_phase_alone(monkeypatch):
    times, counted = iter(range(1000)), iter([500.0, 570.0])
    monkeypatch.setattr(throughput.time, "perf_counter", lambda: next(times))
    monkeypatch.setattr(throughput, "joules", lambda _: next(counted))
    row = throughput._phase("train", lambda: None, 4, 30, CPU, seconds=0.0)
    assert row["calls"] == 3 and row["power_w"] == 70 / 3
    assert row["joules_per_1000_tasks"] == pytest.approx(70_000 / 12)


@pytest.mark.parametrize("counted", [(500.0, None), (None, 570.0)])
def test_a_counter_that_fails_on_the_way_is_no_energy(monkeypatch, counted):
    told = iter(counted)
    monkeypatch.setattr(throughput, "joules", lambda _: next(told))
    assert "power_w" not in throughput._phase("train", lambda: None, 4, 30, CPU, seconds=0.0)


def test_energy_that_one_process_cannot_count_is_not_told_of(monkeypatch):
    """All say what they counted, also one that counted nothing: the others wait for it."""
    heard = []
    monkeypatch.setattr(
        ProcessGroup, "all_gather", lambda _, said: heard.append(said) or [70.0, said]
    )
    monkeypatch.setattr(ProcessGroup, "any_rank", lambda _, wish: wish)
    monkeypatch.setattr(throughput, "joules", lambda _: None)
    row = throughput._phase("train", lambda: None, 4, 30, CPU, 0.0, ProcessGroup(1, 2))
    assert heard == [None] and "power_w" not in row


def test_measuring_leaves_the_learner_as_it_was(monkeypatch):
    images = torch.randint(0, 256, (40, 1, 16, 16), dtype=torch.uint8)
    pool = Pool.of({str(c): images[4 * c : 4 * c + 4] for c in range(10)})
    sampler = EpisodeSampler(pool, Setting(3, 1, 2), ("t",))
    learner = ProtoNet(Conv4((1, 16, 16), downsample="stride", filters=4), 3).eval()
    before, modes = copy.deepcopy(learner.state_dict()), []
    adapt = ProtoNet.adapt
    monkeypatch.setattr(
        ProtoNet, "adapt", lambda *given: modes.append(given[0].training) or adapt(*given)
    )
    train = Train(examples=72, meta_batch=2, ways=None, shots=None, queries=2, **PLAIN)
    rows = throughput.measure(learner, train, sampler, sampler, 4, CPU, "fp32", 0.0)
    assert [row["phase"] for row in rows] == ["draw", "train", "evaluate", "adapt", "infer"]
    assert [row["tasks_per_call"] for row in rows] == [2, 2, 4, 4, 4]
    ratios = [round(row["examples_per_s"] / row["tasks_per_s"]) for row in rows]
    assert ratios == [9, 9, 9, 3, 6], "images of a task: all, all, all, support, queries"
    assert rows[1]["gflop_per_s"] == rows[1]["gflop_per_task"] * rows[1]["tasks_per_s"]
    assert 0 < rows[1]["matmul_share"] < 1
    assert modes and not any(modes), "adaptation is measured as it is evaluated"
    assert not learner.training
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


def test_arithmetic_is_counted_by_hand():
    """One inner step of MAML on a network of one hidden layer: which products there are."""
    images = torch.randint(0, 256, (40, 1, 4, 4), dtype=torch.uint8)
    pool = Pool.of({str(c): images[4 * c : 4 * c + 4] for c in range(10)})
    pixels, hidden, ways, shots, queries = 16, 8, 3, 1, 2
    sampler = EpisodeSampler(pool, Setting(ways, shots, queries), ("t",))
    support, query = ways * shots, ways * queries
    first, head = 2 * pixels * hidden, 2 * hidden * ways  # of one image, forward

    one = MAML(MLP((1, 4, 4), hidden=hidden), ways, second_order=False)
    # Inner and outer gradient: forward, weights of both layers, inputs of the head. In the outer
    # one, queries follow their support set through the network.
    expected = (2 * first + 3 * head) * (2 * support + query)
    assert throughput.gflop_per_task(one, sampler) * 1e9 == pytest.approx(expected)


def test_the_second_order_is_more_arithmetic_than_the_first():
    images = torch.randint(0, 256, (40, 1, 16, 16), dtype=torch.uint8)
    pool = Pool.of({str(c): images[4 * c : 4 * c + 4] for c in range(10)})
    sampler = EpisodeSampler(pool, Setting(3, 1, 2), ("t",))
    backbone = Conv4((1, 16, 16), downsample="stride", filters=4)
    first, second = (
        throughput.gflop_per_task(MAML(backbone, 3, second_order=order), sampler)
        for order in (False, True)
    )
    assert 1.2 * first < second < 2 * first


def test_peak_memory_sees_a_large_tensor():
    devices.reset_peak_memory(CPU)
    before = devices.peak_mib(CPU)
    large = torch.ones(64 * 2**18)  # 64 MiB
    assert devices.peak_mib(CPU) > before + 50
    del large
