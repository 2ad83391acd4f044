import copy

import torch

from algorithms.backbones.conv4 import Conv4
from algorithms.learner import Shape
from algorithms.protonet import ProtoNet
from bench import device as devices
from bench import throughput
from bench.config import Train
from bench.data.episodes import EpisodeSampler
from bench.data.pool import Pool

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
    assert events == warm_up + ["clock", "work", "synchronize", "clock"] * throughput.LEAST_CALLS
    assert (row["ms_median"], row["ms_iqr"], row["calls"]) == (1000, 0, throughput.LEAST_CALLS)
    assert (row["tasks_per_s"], row["images_per_s"], row["tasks_per_call"]) == (4, 120, 4)


def test_measuring_leaves_the_learner_as_it_was():
    images = torch.randint(0, 256, (40, 1, 16, 16), dtype=torch.uint8)
    pool = Pool.of({str(c): images[4 * c : 4 * c + 4] for c in range(10)})
    sampler = EpisodeSampler(pool, Shape(3, 1, 2), ("t",))
    learner = ProtoNet(Conv4((1, 16, 16), downsample="stride", filters=4), 3).eval()
    before = copy.deepcopy(learner.state_dict())
    train = Train(
        images=72, meta_batch=2, ways=None, shots=None, queries=2,
        optimizer="adam", rate=0.1, schedule="constant",
    )  # fmt: skip
    rows = throughput.measure(learner, train, sampler, sampler, 4, CPU, 0.0)
    assert [row["phase"] for row in rows] == ["train", "adapt", "infer"]
    assert [row["tasks_per_call"] for row in rows] == [2, 4, 4]
    ratios = [round(row["images_per_s"] / row["tasks_per_s"]) for row in rows]
    assert ratios == [9, 3, 6], "images of a task: all, support, queries"
    assert not learner.training
    assert all(torch.equal(value, before[name]) for name, value in learner.state_dict().items())


def test_peak_memory_sees_a_large_tensor():
    devices.reset_peak_memory(CPU)
    before = devices.peak_mib(CPU)
    large = torch.ones(64 * 2**18)  # 64 MiB
    assert devices.peak_mib(CPU) > before + 50
    del large
