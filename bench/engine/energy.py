"""Energy consumption of a GPU, from NVIDIA's management library (NVML)."""

import pynvml
import torch


def joules(device: torch.device) -> float | None:
    """Return the energy in joules that the whole GPU has used since its driver was loaded, or None.

    GPUs count it from Volta on, in steps of about a tenth of a second, for all processes together.
    None means that the device has no such counter.
    """
    if device.type != "cuda":
        return None
    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        result: float | None = pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
        return result
    except pynvml.NVMLError:
        return None
