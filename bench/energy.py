"""What a GPU's work takes from the socket, by NVIDIA's management library."""

import pynvml
import torch


def joules(device: torch.device) -> float | None:
    """Energy that the whole GPU has taken since its driver was loaded; None where nobody counts.

    Counted by GPUs from Volta on, in steps of about a tenth of a second, whoever makes them work.
    """
    if device.type != "cuda":
        return None
    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(handle) / 1e3
    except pynvml.NVMLError:
        return None
