"""Eight processes that share a results folder and a cache."""

import json
import multiprocessing
import os
from collections import Counter
from pathlib import Path

import torch

from bench.datasets.io.cache import cached
from bench.runs.store import Store
from bench.tasks.pool import Dataset, Pool
from tests.bench.report import samples

CELLS, PROCESSES = 40, 8


def note(path: Path, text: str) -> None:
    """Append a line, whole, whoever else does."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(handle, f"{text}\n".encode())
    os.close(handle)


def work(root: Path, start) -> None:
    def make() -> Dataset:
        note(root / "log", "prepared")
        images = torch.arange(64, dtype=torch.uint8).view(4, 1, 4, 4)
        return Dataset.of("toy", {"train": Pool.of({"a": images[:2], "b": images[2:]})})

    start.wait()
    digest = cached(root / "cache", "toy", b"", make).digest
    store = Store(root / "results")
    store.check_writable()
    for number in range(CELLS):
        name = f"maml-omniglot-5w1s-seed{number}-1a2b3c4d"
        with store.claim(name) as mine:
            if mine and not store.record(name):
                note(root / "log", name)
                row = samples.record(seed=number, cell=name, data_digest=digest)
                store.save_checkpoint(name, bytes(20_000))
                store.write(
                    name, {"episodes.csv": "accuracy\n" * 2000, "record.json": json.dumps(row)}
                )


def test_nothing_is_doubled_or_damaged(tmp_path):
    context = multiprocessing.get_context("fork")  # which need not import torch again
    start = context.Barrier(PROCESSES)
    processes = [context.Process(target=work, args=(tmp_path, start)) for _ in range(PROCESSES)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(600)
        assert process.exitcode == 0
    done = Counter((tmp_path / "log").read_text().splitlines())
    assert len(done) == CELLS + 1 and set(done.values()) == {1}, "each once, and the data once"
    store = Store(tmp_path / "results")
    for name in set(done) - {"prepared"}:
        assert store.record(name)["cell"] == name and not store.checkpoint(name)
    left = [p for p in (tmp_path / "results" / "runs").rglob(".*") if p.suffix != ".lock"]
    assert left == []
