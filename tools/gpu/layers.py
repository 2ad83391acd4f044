"""``python -m tools.gpu.layers``: GPU performance of each layer, by memory layout and operator.

It measures the two upper bounds (copies, matrix products); convolutions with weights per task, as
groups in both layouts and as one batched product of unfolded images: forward, backward and second
derivative; batch norm by torch and by cuDNN, and per task in a loop and vectorised; MetaOptNet's
small factorisations. It settles the open questions of docs/engines/gpu.md.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from bench.core import process

process.configure()  # before torch is imported

import torch
import torch.nn.functional as F
from torch import Tensor

from algorithms.nn import convolution
from algorithms.nn.batch_norm import batch_norm_each
from bench.engine.device import synchronize

CUDA = torch.cuda.is_available()
DEVICE = torch.device("cuda" if CUDA else "cpu")
CALLS = 15 if CUDA else 2
LAYOUTS = {"NHWC": torch.channels_last, "NCHW": torch.contiguous_format}


def rand(*shape: int, dtype: torch.dtype = torch.float32, layout: str = "NCHW") -> Tensor:
    """Return uniform random numbers on the device, images in this memory layout."""
    made = torch.rand(*shape, device=DEVICE, dtype=dtype)
    return made.contiguous(memory_format=LAYOUTS[layout]) if layout == "NHWC" else made


class Table:
    """Rows of median times, up to a time limit; an exception is printed in place of a time."""

    def __init__(self, seconds: float) -> None:
        self.end = time.monotonic() + seconds
        self.rows: list[dict[str, float | str]] = []

    def add(
        self, name: str, work: Callable[[], object], flop: float = 0.0, size: float = 0.0
    ) -> None:
        """Time a call that does `flop` operations and moves `size` bytes."""
        if time.monotonic() > self.end:
            return
        try:
            ms = median_ms(work)
        except Exception as error:
            said = str(error).split("\n", 1)[0]
            print(f"{name:70} {type(error).__name__}: {said:.90}", flush=True)
            return
        self.rows.append(
            {"name": name, "ms": ms, "tflop_per_s": flop / ms / 1e9, "gb_per_s": size / ms / 1e6}
        )
        reached = f"{flop / ms / 1e9:7.2f} TFLOP/s" if flop else ""
        reached = f"{size / ms / 1e6:7.0f} GB/s" if size else reached
        print(f"{name:70} {ms:9.3f} ms {reached}", flush=True)


def median_ms(work: Callable[[], object]) -> float:
    """Return the median time of a call in milliseconds."""
    times = []
    for call in range(2 + CALLS):
        synchronize(DEVICE)
        start = time.perf_counter()
        work()
        synchronize(DEVICE)
        if call >= 2:
            times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times)


def use(kind: str) -> torch.dtype:
    """Set whether float32 products use tf32, and return the dtype of tensors."""
    rounding = "tf32" if kind == "tf32" else "ieee"
    torch.backends.cuda.matmul.fp32_precision = rounding
    torch.backends.cudnn.conv.fp32_precision = rounding
    return {"bf16": torch.bfloat16, "fp64": torch.float64}.get(kind, torch.float32)


def ceilings(table: Table) -> None:
    """Time matrix products in each precision, and a copy."""
    for kind in ("fp32", "tf32", "bf16", "fp64"):
        dtype, size = use(kind), (8192 if CUDA else 256)
        a, b = rand(size, size, dtype=dtype), rand(size, size, dtype=dtype)
        table.add(f"product of {size} x {size}, {kind}", lambda a=a, b=b: a @ b, 2 * size**3)
    source = rand(2**29 if CUDA else 2**20)
    target = torch.empty_like(source)
    table.add("copy", lambda: target.copy_(source), size=2 * source.nbytes)


def unfolded(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve x [T, B, H, W, C] with weights [T, 9C, O] as one batched product."""
    tasks, batch, height, _, channels = x.shape
    padded = F.pad(x, (0, 0, 1, 1, 1, 1))
    out = (height - 1) // stride + 1
    t, b, h, w, c = padded.stride()
    patches = padded.as_strided(
        (tasks, batch, out, out, 3, 3, channels), (t, b, h * stride, w * stride, h, w, c)
    )
    return patches.reshape(tasks, batch * out * out, 9 * channels) @ weight


def convolutions(
    table: Table,
    tasks: int,
    batch: int,
    channels: int,
    filters: int,
    side: int,
    stride: int,
    kinds: str,
) -> None:
    """Time 3 x 3 convolutions with weights per task, grouped and unfolded, in each precision."""
    out = (side - 1) // stride + 1
    flop = 2.0 * tasks * batch * filters * out * out * 9 * channels
    what = f"{tasks} x {batch} images, {channels} to {filters}, {side} px"
    for kind in kinds.split():
        dtype = use(kind)
        for layout in LAYOUTS:
            x = rand(batch, tasks * channels, side, side, dtype=dtype, layout=layout)
            w = rand(tasks * filters, channels, 3, 3, dtype=dtype, layout=layout)
            groups(table, f"{what}, {kind}, {layout}", x, w, stride, tasks, flop)
        x = rand(tasks, batch, side, side, channels, dtype=dtype)
        w = rand(tasks, 9 * channels, filters, dtype=dtype)
        table.add(
            f"{what}, {kind}, unfolded: forward", lambda x=x, w=w: unfolded(x, w, stride), flop
        )


def groups(
    table: Table, what: str, x: Tensor, w: Tensor, stride: int, tasks: int, flop: float
) -> None:
    """Time a grouped convolution, its two gradients, and second derivatives, torch's and ours."""
    ways = {
        "torch": lambda: F.conv2d(x, w, None, stride, 1, groups=tasks),
        "ours": lambda: convolution.conv2d(x, w, (stride, stride), (1, 1), tasks),
    }
    table.add(f"{what}: forward", ways["torch"], flop)
    g = torch.rand_like(ways["torch"]()).requires_grad_()
    for part, needed in (("images", [True, False, False]), ("weights", [False, True, False])):
        table.add(
            f"{what}: gradient of {part}",
            lambda needed=needed: torch.ops.aten.convolution_backward(
                g.detach(),
                x.detach(),
                w.detach(),
                None,
                (stride, stride),
                (1, 1),
                (1, 1),
                False,
                (0, 0),
                tasks,
                needed,
            ),
            flop,
        )
    x.requires_grad_(), w.requires_grad_()
    for name, forward in ways.items():
        first = torch.autograd.grad(forward(), (x, w), g, create_graph=True)
        seeds = [torch.rand_like(each) for each in first]
        table.add(
            f"{what}: second derivative, {name}",
            lambda first=first, seeds=seeds: torch.autograd.grad(
                first, (x, w, g), seeds, retain_graph=True
            ),
            4 * flop,
        )


def at_once(x: Tensor, weight: Tensor, bias: Tensor, tasks: int, eps: float) -> Tensor:
    """Apply batch norm per task, without a loop over tasks."""
    flat = x.permute(0, 2, 3, 1).reshape(tasks, -1, x.shape[1])
    variance, mean = torch.var_mean(flat, 1, correction=0, keepdim=True)
    scale = weight * (variance + eps).rsqrt()
    return torch.addcmul(bias - mean * scale, flat, scale)


def batch_norms(table: Table, tasks: int, batch: int, channels: int, side: int) -> None:
    """Time batch norm by torch and cuDNN in both layouts, and per task in a loop or vectorised."""
    what = f"batch norm, {tasks} x {batch} images of {channels} x {side} px"
    for layout in LAYOUTS:
        x = rand(batch, tasks * channels, side, side, layout=layout)
        g, w = torch.rand_like(x), rand(tasks * channels)
        _, mean, rstd = torch.native_batch_norm(x, w, w, None, None, True, 0.0, 1e-5)
        ways = {
            "torch": lambda x=x, w=w: torch.native_batch_norm(x, w, w, None, None, True, 0.0, 1e-5),
            "torch, backward": lambda x=x, g=g, w=w, m=mean, r=rstd: (
                torch.ops.aten.native_batch_norm_backward(
                    g, x, w, None, None, m, r, True, 0.0, [True] * 3
                )
            ),
        }
        if CUDA:
            _, *kept = torch.ops.aten.cudnn_batch_norm(x, w, w, None, None, True, 0.1, 1e-5)
            ways |= {
                "cuDNN": lambda x=x, w=w: torch.ops.aten.cudnn_batch_norm(
                    x, w, w, None, None, True, 0.1, 1e-5
                ),
                "cuDNN, backward": lambda x=x, g=g, w=w, k=kept: (
                    torch.ops.aten.cudnn_batch_norm_backward(
                        x, g, w, None, None, k[0], k[1], 1e-5, k[2]
                    )
                ),
            }
        for name, work in ways.items():
            table.add(
                f"{what}, {layout}: {name}", work, size=(5 if "back" in name else 3) * x.nbytes
            )
    shared = rand(tasks * batch, channels, side, side, layout="NHWC").requires_grad_()
    w = rand(channels)
    for name, forward in (
        ("in a loop", lambda: batch_norm_each(shared, w, w, tasks, 1e-5)[0]),
        ("at once", lambda: at_once(shared, w, w, tasks, 1e-5)),
    ):
        table.add(f"{what}, each task {name}", forward, size=3 * shared.nbytes)
        y = forward()
        g = torch.rand_like(y)
        table.add(
            f"{what}, each task {name}, backward",
            lambda y=y, g=g: torch.autograd.grad(y, shared, g, retain_graph=True),
            size=5 * shared.nbytes,
        )


def factorisations(table: Table, tasks: int, ways: int, size: int) -> None:
    """Time small batched float64 Cholesky factorisations, triangular solves and products."""
    half = rand(tasks, ways, size, size, dtype=torch.float64)
    matrices = half @ half.mT + torch.eye(size, device=DEVICE, dtype=torch.float64)
    factor, _ = torch.linalg.cholesky_ex(matrices)
    eye = torch.eye(size, device=DEVICE, dtype=torch.float64).expand_as(factor)
    what = f"{tasks * ways} matrices of {size} x {size}, fp64"
    table.add(f"{what}: cholesky_ex", lambda: torch.linalg.cholesky_ex(matrices))
    table.add(
        f"{what}: solve_triangular", lambda: torch.linalg.solve_triangular(factor, eye, upper=False)
    )
    table.add(f"{what}: product", lambda: matrices @ matrices, 2.0 * tasks * ways * size**3)


def main() -> None:
    """Time the layers of the learners, the most decisive first."""
    parser = argparse.ArgumentParser(prog="python -m tools.gpu.layers", description=__doc__)
    parser.add_argument("--seconds", type=float, default=40)
    given = parser.parse_args()
    table = Table(given.seconds)
    ceilings(table)
    if CUDA:
        convolutions(table, 32, 75, 64, 64, 14, 2, "fp32 tf32 bf16")  # the queries of MAML
        batch_norms(table, 32, 75, 64, 14)
        factorisations(table, 8, 5, 25)
        factorisations(table, 16, 5, 5)
        torch.backends.cudnn.benchmark = True
        print("with cuDNN's search (benchmark=True):")
        convolutions(table, 32, 75, 64, 64, 14, 2, "fp32 tf32")
        torch.backends.cudnn.benchmark = False
        print("without:")
        convolutions(table, 32, 5, 64, 64, 14, 2, "fp32 tf32")  # their support sets
        convolutions(table, 32, 75, 1, 64, 28, 2, "fp32 tf32")  # the first block
        convolutions(table, 1, 840, 64, 160, 16, 1, "fp32 tf32")  # ResNet-12
        batch_norms(table, 8, 105, 160, 16)
        factorisations(table, 8, 5, 75)
    else:
        convolutions(table, 2, 5, 8, 8, 14, 2, "fp32")
        batch_norms(table, 2, 5, 8, 14)
        factorisations(table, 2, 5, 5)
    out = Path(os.environ.get("OUT", ".")) / "layers.json"
    out.write_text(json.dumps(table.rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
