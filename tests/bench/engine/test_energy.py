import types

import pynvml
import pytest
import torch

from bench.engine.energy import joules

GPU = torch.device("cuda", 1)


@pytest.fixture
def gpu(monkeypatch):
    """A driver that has counted 12.5 J on the GPU that torch calls number 1."""
    monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetHandleByUUID", {"GPU-ab-1": "handle"}.__getitem__)
    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", {"handle": 12500}.get)
    properties = {GPU: types.SimpleNamespace(uuid="ab-1")}
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties.__getitem__)


def test_the_driver_counts_millijoules_of_the_gpu_that_torch_means(gpu):
    assert joules(GPU) == 12.5


def test_no_driver_or_no_counter_is_no_energy(gpu, monkeypatch):
    assert joules(torch.device("cpu")) is None

    def refuse(handle):
        raise pynvml.NVMLError_NotSupported

    monkeypatch.setattr(pynvml, "nvmlDeviceGetTotalEnergyConsumption", refuse)
    assert joules(GPU) is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
def test_a_real_gpu_takes_energy_for_its_work():
    device = torch.device("cuda", 0)
    before = joules(device)
    matrix = torch.rand(4096, 4096, device=device)
    for _ in range(500):
        matrix @ matrix
    torch.cuda.synchronize()
    assert before is not None and joules(device) > before
