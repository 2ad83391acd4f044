"""Sinusoids: the regression tasks of MAML (Finn, Abbeel, Levine 2017, arXiv 1703.03400).

A task is a function y = A sin(x - p), with the amplitude A uniform in [0.1, 5] and the phase p uniform
in [0, pi]; its examples are points whose x is uniform in [-5, 5]. The paper draws new functions for
ever; here, there are fixed ones of 64 points each, which differ between the splits. They are made by
a counter-based generator: nothing is downloaded or kept.
"""

import math

import torch
from torch import Tensor

from bench.core.philox import key_of, philox
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset, Pool
from bench.tasks.regression.domain import Regression

FUNCTIONS = {"train": 10_000, "val": 1_000, "test": 2_000}
POINTS = 64
AMPLITUDES, PHASES, INPUTS = (0.1, 5.0), (0.0, math.pi), (-5.0, 5.0)


def prepare(folders: DataDirs) -> Dataset:
    """Return the sinusoids; nothing is read or written."""
    splits = {split: functions(split, count) for split, count in FUNCTIONS.items()}
    return Dataset.of("sinusoid", splits, domain=Regression(), examples="points")


def functions(split: str, count: int) -> Pool:
    """Return the functions of a split: inputs and targets are float32 [count * POINTS, 1]."""
    amplitude = uniform("amplitude", split, count, 1, AMPLITUDES)
    phase = uniform("phase", split, count, 1, PHASES)
    x = uniform("x", split, count, POINTS, INPUTS)
    y = amplitude * torch.sin(x - phase)
    return Pool(
        x.float().view(-1, 1),
        torch.arange(count + 1) * POINTS,
        tuple(f"{split} {number}" for number in range(count)),
        targets=y.float().view(-1, 1),
    )


def uniform(what: str, split: str, rows: int, columns: int, ends: tuple[float, float]) -> Tensor:
    """Return float64 [rows, columns], uniform between the ends: a function of the names alone."""
    number, block = torch.arange(rows)[:, None], torch.arange(-(-columns // 4))
    zero = torch.zeros_like(block)
    words = philox(key_of("sinusoid", what, split), (number, zero, block, zero)).flatten(1)
    low, high = ends
    return low + (high - low) * words[:, :columns].double() / 2**32
