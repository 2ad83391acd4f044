"""The dual solvers: against algebra, general solvers, finite differences and odd input."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from algorithms.solvers.svm import crammer_singer, kkt_residual, linear_kernel

SHAPES = [(5, 1, 64), (5, 5, 64), (2, 5, 16), (5, 15, 64), (20, 1, 64)]


def problem(
    tasks: int, ways: int, shots: int, dim: int, scale: float = 0.3, seed: int = 0
) -> tuple[Tensor, Tensor]:
    """Features [T, N*K, d] in overlapping clusters, times the scale, and one-hot labels."""
    draw = torch.Generator().manual_seed(seed)
    centres = torch.randn(tasks, ways, 1, dim, generator=draw, dtype=torch.float64)
    noise = torch.randn(tasks, ways, shots, dim, generator=draw, dtype=torch.float64)
    labels = torch.eye(ways, dtype=torch.float64).repeat_interleave(shots, 0)
    features = scale * (0.5 * centres + noise).flatten(1, 2)
    return features, labels.expand(tasks, -1, -1).contiguous()


def gram(features: Tensor) -> Tensor:
    return features @ features.mT


def by_clarabel(kernel: Tensor, labels: Tensor, C: float = 0.1) -> Tensor:
    cp = pytest.importorskip("cvxpy")
    solutions = []
    for k, y in zip(kernel.numpy(), labels.numpy(), strict=True):
        z = cp.Variable(y.shape)
        root = torch.linalg.cholesky(torch.from_numpy(k) + torch.eye(len(k))).numpy()
        objective = cp.sum_squares(root.T @ z) / 2 - cp.sum(cp.multiply(y, z))
        constraints = [z <= C * y, cp.sum(z, axis=1) == 0]
        cp.Problem(cp.Minimize(objective), constraints).solve(
            "CLARABEL", tol_gap_abs=1e-14, tol_gap_rel=1e-14, tol_feas=1e-14
        )
        solutions.append(torch.from_numpy(z.value))
    return torch.stack(solutions)


@pytest.mark.parametrize(("k", "C"), [(0, 0.1), (2, 0.1), (9, 0.1), (2, 0.5), (1e9, 0.1)])
def test_two_examples_by_hand(k: float, C: float) -> None:
    """Two ways, one example each, K = k I: the rows separate.

    A row with sum zero is (a, -a), and with its label first it costs (k + 1) a^2 - a. The minimum
    is at a = 1 / (2 (k + 1)), unless that exceeds C: then a = C (here for k = 0 and 2, C = 0.1).
    The second constraint, -a <= 0, never binds. The derivative with respect to one diagonal entry
    is da/dk = -1 / (2 (k + 1)^2), or 0 where C binds.
    """
    kernel = (k * torch.eye(2, dtype=torch.float64))[None].requires_grad_()
    labels = torch.eye(2, dtype=torch.float64)[None]
    free = 1 / (2 * (k + 1))
    a = min(free, C)
    z = crammer_singer(kernel, labels, C)
    torch.testing.assert_close(
        z[0], torch.tensor([[a, -a], [-a, a]], dtype=torch.float64), rtol=1e-12, atol=0
    )
    (slope,) = torch.autograd.grad(z[0, 0, 0], kernel)
    expected = -1 / (2 * (k + 1) ** 2) if free < C else 0.0
    assert slope[0, 0, 0].item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


def test_without_kernel_the_label_takes_all_it_may() -> None:
    """K = 0, N ways: the free minimum Y - 1/N exceeds C, so z is C and -C / (N - 1)."""
    labels = torch.eye(4, dtype=torch.float64)[None]
    z = crammer_singer(torch.zeros(1, 4, 4, dtype=torch.float64), labels, 0.3)
    torch.testing.assert_close(z, 0.3 * labels - 0.1 * (1 - labels), rtol=0, atol=1e-15)


@pytest.mark.parametrize(("ways", "shots", "dim"), SHAPES)
@pytest.mark.parametrize("scale", [0.03, 0.3, 2.0])
def test_solves_to_rounding(ways: int, shots: int, dim: int, scale: float) -> None:
    features, labels = problem(4, ways, shots, dim, scale)
    z = crammer_singer(gram(features), labels)
    assert kkt_residual(gram(features), labels, z).max() < 1e-11


@pytest.mark.parametrize(("ways", "shots", "dim"), SHAPES[:4])
@pytest.mark.parametrize(("scale", "steps"), [(0.03, 4), (0.3, 12), (2.0, 15)])
def test_a_few_steps_are_enough(ways: int, shots: int, dim: int, scale: float, steps: int) -> None:
    """Fewest where the kernel is weak: the time of a training step is that of its iterations."""
    features, labels = problem(4, ways, shots, dim, scale)
    z = crammer_singer(gram(features), labels, iterations=steps)
    assert kkt_residual(gram(features), labels, z).max() < 1e-10


@pytest.mark.parametrize("scale", [0.2, 1.0])
def test_solves_20_ways_5_shots(scale: float) -> None:
    features, labels = problem(1, 20, 5, 64, scale)
    z = crammer_singer(gram(features), labels)
    assert kkt_residual(gram(features), labels, z).max() < 1e-9


@pytest.mark.parametrize(("ways", "shots", "dim", "scale"), [
    (5, 1, 1600, 0.03), (5, 1, 16, 1.0), (5, 5, 64, 0.3), (5, 5, 4, 1.0), (2, 5, 8, 3.0),
])  # fmt: skip
def test_equals_a_general_convex_solver(ways: int, shots: int, dim: int, scale: float) -> None:
    features, labels = problem(2, ways, shots, dim, scale)
    z = crammer_singer(gram(features), labels)
    torch.testing.assert_close(z, by_clarabel(gram(features), labels), rtol=0, atol=1e-7)


def test_equals_qpth_with_its_gradient() -> None:
    qp = pytest.importorskip("qpth.qp")
    features, labels = problem(3, 5, 2, 64)
    tasks, support, ways = labels.shape
    size = support * ways
    outer = torch.randn(labels.shape, generator=torch.Generator().manual_seed(1)).double()

    ours_in = gram(features).requires_grad_()
    ours = crammer_singer(ours_in, labels)
    (ours_gradient,) = torch.autograd.grad(ours, ours_in, outer)

    theirs_in = gram(features).requires_grad_()
    eye = torch.eye(size, dtype=torch.float64)
    hessian = torch.stack([torch.kron(k, torch.eye(ways).double()) for k in theirs_in]) + eye
    sums = torch.kron(torch.eye(support), torch.ones(1, ways)).double()
    flat = labels.reshape(tasks, size)
    solve = qp.QPFunction(verbose=-1, maxIter=30)
    theirs = solve(hessian, -flat, eye, 0.1 * flat, sums, torch.zeros(support).double())
    theirs = theirs.view_as(labels)
    (theirs_gradient,) = torch.autograd.grad(theirs, theirs_in, outer)

    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-8)
    torch.testing.assert_close(ours_gradient, theirs_gradient, rtol=0, atol=1e-6)


@pytest.mark.filterwarnings("ignore")
def test_equals_the_classifier_of_learn2learn() -> None:
    nn = pytest.importorskip("learn2learn.nn")
    features, labels = problem(2, 5, 2, 64)
    queries, _ = problem(2, 5, 3, 64, seed=1)
    logits = queries @ features.mT @ crammer_singer(gram(features), labels)
    for task in range(2):
        theirs = nn.SVClassifier(
            support=features[task].float(), labels=labels[task].argmax(-1), ways=5
        )
        torch.testing.assert_close(
            logits[task], theirs(queries[task].float()).double(), rtol=1e-3, atol=1e-3
        )


DEGENERATE = {
    "no features": lambda x, shots: 0 * x,
    "one dimension": lambda x, shots: x[..., :1],
    "one image": lambda x, shots: x[:, :1].expand_as(x),
    "every image twice": lambda x, shots: x[:, torch.arange(x.shape[1]) // 2 * 2],
    "two classes alike": lambda x, shots: torch.cat((x[:, :shots], x[:, :-shots]), 1),
}


def duality_gap(kernel: Tensor, labels: Tensor, z: Tensor, C: float = 0.1) -> Tensor:
    """Per task, how far the objective at z may be above the optimum, against the largest score.

    Weak duality: with multipliers m >= 0 and n for which z minimises the Lagrangian, the optimum
    is at least the objective at z, less <m, C Y - z> and plus <n, sum_w z>.
    """
    scores = kernel @ z
    stationary = labels - z - scores
    n = stationary.amin(-1, keepdim=True)
    gap = ((stationary - n) * (C * labels - z) - n * z).sum((1, 2))
    return gap / scores.abs().amax((1, 2)).clamp(min=1)


@pytest.mark.parametrize("degenerate", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize(("ways", "shots"), [(2, 1), (5, 1), (5, 5), (20, 1)])
def test_degenerate_kernels_are_solved_at_any_scale(degenerate, ways: int, shots: int) -> None:
    features, labels = problem(3, ways, shots, 16)
    scales = torch.tensor([1e-4, 1.0, 1e4], dtype=torch.float64).view(-1, 1, 1)
    kernel = (scales * gram(degenerate(features, shots))).requires_grad_()
    z = crammer_singer(kernel, labels)
    assert kkt_residual(kernel, labels, z).max() < 1e-8
    assert duality_gap(kernel, labels, z).abs().max() < 1e-11
    assert (z - 0.1 * labels).max() < 1e-15
    assert z.sum(-1).abs().max() < 1e-15
    z.square().sum().backward()
    assert kernel.grad is not None and kernel.grad.isfinite().all()


def assert_gradient_is_that_of_finite_differences(
    kernel: Tensor, labels: Tensor, C: float = 0.1
) -> None:
    """Of every entry of z with respect to every entry of one kernel, all in a few batches."""
    entries, outputs = kernel.numel(), labels.numel()
    steps = 1e-6 * torch.eye(entries, dtype=torch.float64).view(entries, *kernel.shape[1:])
    each = labels.expand(entries, -1, -1)
    ahead, behind = (crammer_singer(kernel + step, each, C) for step in (steps, -steps))
    slopes = ((ahead - behind) / 2e-6).view(entries, outputs)

    kernels = kernel.repeat(outputs, 1, 1).requires_grad_()
    z = crammer_singer(kernels, labels.expand(outputs, -1, -1), C)
    (gradients,) = torch.autograd.grad(z, kernels, torch.eye(outputs).double().view_as(z))
    torch.testing.assert_close(gradients.view(outputs, entries), slopes.T, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(("ways", "shots", "dim", "scale"), [
    (5, 1, 64, 0.3), (5, 2, 16, 0.3), (2, 4, 3, 1.0), (3, 3, 64, 0.03), (4, 1, 2, 10.0),
])  # fmt: skip
def test_gradient_is_that_of_finite_differences(
    ways: int, shots: int, dim: int, scale: float
) -> None:
    features, labels = problem(1, ways, shots, dim, scale)
    assert_gradient_is_that_of_finite_differences(gram(features), labels)


@pytest.mark.parametrize("degenerate", DEGENERATE.values(), ids=DEGENERATE)
@pytest.mark.parametrize(("ways", "shots"), [(5, 1), (3, 3)])
def test_gradient_on_a_degenerate_kernel_is_that_of_finite_differences(
    degenerate, ways: int, shots: int
) -> None:
    """Degenerate or not, K + I is positive definite: z is one and, off its kinks, smooth."""
    features, labels = problem(1, ways, shots, 16)
    assert_gradient_is_that_of_finite_differences(gram(degenerate(features, shots)), labels)


@pytest.mark.parametrize(("ways", "shots", "scale"), [(5, 5, 1.0), (5, 15, 0.2), (20, 5, 0.3)])
def test_gradient_through_features_along_a_direction(ways: int, shots: int, scale: float) -> None:
    features, labels = problem(1, ways, shots, 64, scale, seed=3)
    queries, _ = problem(1, ways, 2, 64, scale, seed=4)
    draw = torch.Generator().manual_seed(5)
    direction = torch.randn(features.shape, generator=draw, dtype=torch.float64) * scale

    def loss(support: Tensor) -> Tensor:
        logits = queries @ support.mT @ crammer_singer(gram(support), labels)
        return logits.logsumexp(-1).mean()

    support = features.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(support), support)
    step = 1e-6
    slope = (loss(features + step * direction) - loss(features - step * direction)) / (2 * step)
    assert (gradient * direction).sum().item() == pytest.approx(slope.item(), rel=1e-7, abs=1e-8)


def test_second_derivatives_are_refused() -> None:
    features, labels = problem(1, 3, 2, 8)
    kernel = gram(features).requires_grad_()
    (gradient,) = torch.autograd.grad(
        crammer_singer(kernel, labels).square().sum(), kernel, create_graph=True
    )
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_tasks_together_equal_tasks_alone() -> None:
    """The tasks have scales of 0.01 to 10, so that some converge long before the others."""
    features, labels = problem(6, 5, 3, 32)
    features = features * torch.logspace(-2, 1, 6, dtype=torch.float64).view(-1, 1, 1)
    kernel = gram(features).requires_grad_()
    together = crammer_singer(kernel, labels)
    (gradient,) = torch.autograd.grad(together.square().sum(), kernel)
    for task in range(6):
        alone_in = kernel.detach()[task : task + 1].requires_grad_()
        alone = crammer_singer(alone_in, labels[:1])
        (alone_gradient,) = torch.autograd.grad(alone.square().sum(), alone_in)
        torch.testing.assert_close(together[task], alone[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(gradient[task], alone_gradient[0], rtol=0, atol=1e-10)


def test_more_iterations_do_not_spoil_a_solved_task() -> None:
    """A slow neighbour keeps the loop running; the solved tasks must not move by a bit."""
    features, labels = problem(3, 5, 5, 64, 0.03)
    features[2] = problem(1, 5, 5, 4, 1e3)[0].repeat(1, 1, 16)[0]
    few = crammer_singer(gram(features), labels, iterations=12)
    many = crammer_singer(gram(features), labels, iterations=60)
    assert torch.equal(few[:2], many[:2])
    assert not torch.equal(few[2], many[2])
    assert kkt_residual(gram(features), labels, many).max() < 1e-9


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -100.0])
def test_a_bad_task_does_not_harm_its_neighbours(bad: float) -> None:
    features, labels = problem(3, 5, 2, 64)
    good = gram(features)
    kernel = good.clone()
    kernel[1].fill_diagonal_(bad)  # -100: finite, but K + I is indefinite
    kernel.requires_grad_()
    z = crammer_singer(kernel, labels)
    assert z[1].isnan().all()
    torch.testing.assert_close(z[::2], crammer_singer(good, labels)[::2], rtol=0, atol=1e-14)
    z.square().sum().backward()
    assert kernel.grad is not None
    assert kernel.grad[1].isnan().all()
    assert kernel.grad[::2].isfinite().all()


@pytest.mark.parametrize("entry", [-1.0, -1.1, -1.5, -4.0])
def test_a_slightly_indefinite_kernel_gives_nan_and_no_wrong_answer(entry: float) -> None:
    """The equations of some classes can be solved, those of others not."""
    features, labels = problem(1, 3, 2, 16)
    kernel = gram(features)
    kernel[0, 0, 0] = entry
    assert crammer_singer(kernel, labels, iterations=40).isnan().all()


def test_order_of_classes_and_of_examples_does_not_matter() -> None:
    features, labels = problem(2, 4, 3, 32)
    draw = torch.Generator().manual_seed(0)
    rows, columns = torch.randperm(12, generator=draw), torch.randperm(4, generator=draw)
    z = crammer_singer(gram(features), labels)
    permuted = crammer_singer(gram(features[:, rows]), labels[:, rows][:, :, columns])
    torch.testing.assert_close(permuted, z[:, rows][:, :, columns], rtol=0, atol=1e-13)


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("rank", [0, 1, 4, 25])
def test_any_rank_and_scale_of_kernel(rank: int, scale: float) -> None:
    """Random labels for few dimensions: not separable, and K + I nearly singular at the top."""
    draw = torch.Generator().manual_seed(rank)
    features = torch.randn(4, 25, rank, generator=draw, dtype=torch.float64)
    kernel = (scale * gram(features)).requires_grad_()
    labels = torch.eye(5, dtype=torch.float64).repeat(5, 1).expand(4, -1, -1)
    z = crammer_singer(kernel, labels, iterations=40)
    assert kkt_residual(kernel, labels, z).max() < 2e-9
    z.square().sum().backward()
    assert kernel.grad is not None and kernel.grad.isfinite().all()


def test_does_not_go_round_in_circles() -> None:
    """One problem of 4,096 on which the undamped predictor-corrector never converges."""
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(256, 25, 8, generator=draw, dtype=torch.float64)[131:132]
    labels = torch.eye(5, dtype=torch.float64).repeat_interleave(5, 0)[None]
    z = crammer_singer(1e5 * gram(features), labels, iterations=40)
    assert kkt_residual(1e5 * gram(features), labels, z).max() < 1e-9


CYCLE = [[-0.41350804, 1.34393445], [-1.55379296, -1.9126901], [0.21335507, -0.93494297]]
"""Features of 3 ways, 1 shot; for C = 0.01, Mehrotra's steps come back to where they were."""


def test_stalled_steps_turn_to_the_central_path() -> None:
    features, labels = torch.tensor([CYCLE], dtype=torch.float64), torch.eye(3).double()[None]
    kernel = gram(features)
    z = crammer_singer(kernel, labels, 0.01)
    torch.testing.assert_close(z, by_clarabel(kernel, labels, 0.01), rtol=0, atol=1e-8)
    assert kkt_residual(kernel, labels, z, 0.01).item() < 1e-12
    assert_gradient_is_that_of_finite_differences(kernel, labels, 0.01)


@pytest.mark.parametrize("C", [0.001, 0.003, 0.01])
@pytest.mark.parametrize(("ways", "shots", "dim"), [(3, 1, 2), (3, 1, 3), (5, 1, 2), (3, 2, 3)])
def test_few_examples_and_a_small_bound(ways: int, shots: int, dim: int, C: float) -> None:
    """Of each of the first two kinds, Mehrotra's steps alone leave 1 to 10 % unsolved."""
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(1000, ways * shots, dim, generator=draw, dtype=torch.float64)
    labels = torch.eye(ways).double().repeat_interleave(shots, 0).expand(1000, -1, -1)
    z = crammer_singer(gram(features), labels, C)
    assert kkt_residual(gram(features), labels, z, C).max() < 1e-9 * C


def test_duplicate_images() -> None:
    """The same image twice in a class: equal coefficients. In two classes: still solved."""
    features, labels = problem(1, 3, 2, 16)
    features[0, 1] = features[0, 0]
    features[0, 4] = features[0, 2]
    kernel = gram(features).requires_grad_()
    z = crammer_singer(kernel, labels)
    torch.testing.assert_close(z[0, 0], z[0, 1], rtol=0, atol=1e-12)
    assert kkt_residual(kernel, labels, z).max() < 1e-11
    z.square().sum().backward()
    assert kernel.grad is not None and kernel.grad.isfinite().all()


def test_one_class_has_nothing_to_decide() -> None:
    features, _ = problem(2, 1, 4, 8)
    kernel = gram(features).requires_grad_()
    z = crammer_singer(kernel, torch.ones(2, 4, 1))
    z.sum().backward()
    assert torch.equal(z, torch.zeros_like(z))
    assert kernel.grad is not None and not kernel.grad.any()


def test_a_class_without_examples() -> None:
    features, labels = problem(1, 3, 2, 16, 1.0)
    labels = torch.cat([labels, torch.zeros(1, 6, 1)], -1)
    z = crammer_singer(gram(features), labels)
    assert kkt_residual(gram(features), labels, z).max() < 1e-11
    torch.testing.assert_close(z, by_clarabel(gram(features), labels), rtol=0, atol=1e-7)


def test_at_a_kink_the_gradient_is_finite() -> None:
    """K = I, two ways, C = 1/4: a = 1 / (2 (k + 1)) = C exactly; slopes 0 and -1/8 meet there."""
    kernel = torch.eye(2, dtype=torch.float64)[None].requires_grad_()
    z = crammer_singer(kernel, torch.eye(2)[None], C=0.25, iterations=60)
    (slope,) = torch.autograd.grad(z[0, 0, 0], kernel)
    assert z[0, 0, 0].item() == pytest.approx(0.25, abs=1e-8)
    assert -0.125 <= slope[0, 0, 0].item() <= 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_linear_kernel_is_the_gram_matrix_in_float64(dtype: torch.dtype) -> None:
    features = problem(2, 5, 2, 16)[0].to(dtype).requires_grad_()
    weights = torch.arange(200, dtype=torch.float64).view(2, 10, 10)  # not symmetric
    mine, wide = linear_kernel(features), features.double()
    assert torch.equal(mine, gram(wide))
    gradients = [torch.autograd.grad((k * weights).sum(), features)[0] for k in (mine, gram(wide))]
    assert gradients[0].dtype == dtype
    torch.testing.assert_close(*gradients)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
def test_float32_in_float32_out(scale: float) -> None:
    """Rounded at the ends alone: what lies between is that of float64."""
    features, labels = problem(2, 5, 5, 64)
    weights = torch.arange(labels.numel()).view_as(labels)
    ends = []
    for dtype in (torch.float32, torch.float64):
        kernel = (scale * gram(features)).float().to(dtype).requires_grad_()
        z = crammer_singer(kernel, labels.to(dtype))
        (z * weights).sum().backward()
        assert kernel.grad is not None and z.dtype == kernel.grad.dtype == dtype
        ends.append((z.double(), kernel.grad.double()))
    for mine, exact in zip(*ends, strict=True):
        torch.testing.assert_close(
            mine / exact.abs().max(), exact / exact.abs().max(), atol=1e-6, rtol=0
        )


def test_only_the_symmetric_part_of_a_kernel_counts() -> None:
    features, labels = problem(1, 3, 2, 16)
    skewed = gram(features)
    skewed[:, 0, 1:] += 0.5
    skewed[:, 1:, 0] -= 0.5
    skewed.requires_grad_()
    z = crammer_singer(skewed, labels)
    torch.testing.assert_close(z, crammer_singer(gram(features), labels), rtol=0, atol=1e-13)
    assert kkt_residual(skewed, labels, z).max() < 1e-11
    weights = torch.arange(18, dtype=torch.float64).view(1, 6, 3).sin()
    (gradient,) = torch.autograd.grad(z, skewed, weights)
    assert gradient.abs().max() > 1e-3
    torch.testing.assert_close(gradient, gradient.mT)


def test_one_step_is_allowed_and_not_enough() -> None:
    features, labels = problem(1, 3, 2, 16)
    z = crammer_singer(gram(features), labels, iterations=1)
    assert 0.05 > kkt_residual(gram(features), labels, z).max() > 1e-9


@pytest.mark.parametrize(("kernel", "labels", "options"), [
    ((1, 3, 2), (1, 3, 2), {}), ((1, 3, 3), (1, 2, 2), {}), ((2, 3, 3), (1, 3, 2), {}),
    ((3, 3), (3, 2), {}), ((1, 0, 0), (1, 0, 2), {}),
    ((1, 3, 3), (1, 3, 2), {"C": 0.0}), ((1, 3, 3), (1, 3, 2), {"C": float("nan")}),
    ((1, 3, 3), (1, 3, 2), {"iterations": 0}),
])  # fmt: skip
def test_refuses_what_does_not_fit(
    kernel: tuple[int, ...], labels: tuple[int, ...], options: dict[str, float]
) -> None:
    with pytest.raises(ValueError, match=r"needed|positive"):
        crammer_singer(torch.zeros(kernel), torch.zeros(labels), **options)  # type: ignore[arg-type]
    if not options:
        with pytest.raises(ValueError, match="needed"):
            kkt_residual(torch.zeros(kernel), torch.zeros(labels), torch.zeros(labels))


@pytest.mark.parametrize(("first", "C", "expected"), [
    ((0.1, -0.1), 0.1, 0), ((0.1, -0.097), 0.1, 3e-3), ((0.1, -0.103), 0.1, 3e-3),
    ((0.0, 0.0), 0.1, 0.1), ((0.0, 0.0), 10, 1), ((0.13, -0.13), 0.1, 0.03),
])  # fmt: skip
def test_residuals_by_hand(first: tuple[float, float], C: float, expected: float) -> None:
    """K = 0, two ways, one example each; the second has what is best for it, min(C, 1/2).

    For the first (a, b), t is (C - a, -b) and Y - Qz is (1 - a, -b), of which m is what exceeds
    the smaller one. At (0.1, -0.1 + x) all products t m are zero, and the sum is off by x. At
    (0, 0) with C = 0.1 or 10, t is (C, 0) and m is (1, 0). At (0.13, -0.13) t has a -0.03.
    """
    best = min(C, 0.5)
    z = torch.tensor([[first, (-best, best)]], dtype=torch.float64)
    residual = kkt_residual(torch.zeros(1, 2, 2), torch.eye(2)[None], z, C)
    assert residual.item() == pytest.approx(expected, abs=1e-12)


def test_the_residual_sees_every_way_to_be_wrong() -> None:
    features, labels = problem(1, 3, 2, 16)
    kernel = gram(features)
    z = crammer_singer(kernel, labels)
    assert kkt_residual(kernel, labels, z).item() < 1e-11
    unbalanced, infeasible, suboptimal = z.clone(), z.clone(), 0.9 * z
    unbalanced[0, 0, 0] -= 1e-3
    infeasible[0, 0, :2] += torch.tensor([0.2, -0.2], dtype=torch.float64)
    for wrong in (unbalanced, infeasible, suboptimal):
        assert kkt_residual(kernel, labels, wrong).item() > 9e-4


@settings(max_examples=40, deadline=None)
@given(
    ways=st.integers(1, 6),
    shots=st.integers(1, 4),
    rank=st.integers(0, 12),
    exponent=st.floats(-4, 4),
    C=st.floats(-3, 0.3).map(lambda exponent: 10**exponent),
    seed=st.integers(0, 10_000),
)
def test_the_optimality_conditions_hold(
    ways: int, shots: int, rank: int, exponent: float, C: float, seed: int
) -> None:
    features, labels = problem(50, ways, shots, rank, 10 ** (exponent / 2), seed)
    z = crammer_singer(gram(features), labels, C, iterations=40)
    assert kkt_residual(gram(features), labels, z, C).max() < min(1e-9, 1e-6 * C)
    assert (z <= C * labels + 1e-14).all()
