"""Laws of every learner. A law is a function of a learner that raises AssertionError with a sentence.

The learner is in float64, was built for `WAYS` ways and grey images of 16 x 16 pixels, is in
training mode, and is a copy for this law alone: it may be modified. The first line of a law's
docstring is printed as the law.
"""

import contextlib
import copy
import inspect
import math
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from algorithms.learner import Learner, Setting, TaskBatch
from bench.check.source import of_the_runner
from bench.check.tasks import random_episodes, shuffled

WAYS = 3
IMAGE = (1, 16, 16)

Law = Callable[[Learner], None]


class NotApplicableError(Exception):
    """The law does not apply to the learner or cannot be checked here; the message says why."""


def require(holds: bool | Tensor, otherwise: str) -> None:
    """Raise AssertionError with the sentence ``otherwise`` unless ``holds``."""
    if not holds:
        raise AssertionError(otherwise)


def require_same(actual: Any, expected: Any, otherwise: str, **tolerances: float) -> None:
    """Raise AssertionError if tensors differ by more than rounding, or than the ``tolerances``."""

    def told(why: str) -> str:
        lines = why.splitlines()
        by = next((line for line in lines if line.startswith("Greatest absolute")), lines[0])
        return f"{otherwise} ({by[0].lower()}{by[1:]})"

    torch.testing.assert_close(actual, expected, msg=told, **tolerances)  # type: ignore[arg-type]


def warmed_up(learner: Learner) -> Learner:
    """Return the learner after an outer gradient, so that its running statistics are not all alike."""
    learner.meta_gradient(training_episodes(learner))
    learner.zero_grad()
    return learner


def training_episodes(learner: Learner, tasks: int = 4, seed: int = 0, shots: int = 2) -> TaskBatch:
    """Return episodes with queries, or without for a learner that trains on support sets alone."""
    queries = 3 if learner.supports(Setting(WAYS, 2, 3), Setting(WAYS, 2, 3))[0] else 0
    return random_episodes(tasks, WAYS, shots=shots, queries=queries, seed=seed)


@torch.no_grad()
def classify(learner: Learner, episodes: TaskBatch) -> Tensor:
    """Return the logits [T, M, N] of the queries."""
    result: Tensor = learner(episodes.support_x, episodes.support_y, episodes.query_x)
    return result


def in_full_batches(learner: Learner) -> Learner:
    """Set the learner's mini-batches, if any, to all images of a support set and return the learner.

    By convention the sizes of mini-batches are integer attributes whose names end in "batch".
    """
    for name, value in vars(learner).items():
        if name.endswith("batch") and isinstance(value, int):
            setattr(learner, name, WAYS * 2)
    return learner


def gradients_of(learner: Learner) -> list[Tensor]:
    """Return the outer gradient stored in the learner's parameters, zeros where there is none."""
    return [
        torch.zeros_like(p) if p.grad is None else p.grad
        for p in learner.parameters()
        if p.requires_grad
    ]


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of torch threads within the context."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Set torch's default dtype within the context."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def forward_is_adapt_and_predict(learner: Learner) -> None:
    """What is evaluated is adapt, then predict, which gives a logit for each query and class."""
    learner.eval()
    episodes = random_episodes(2, WAYS, shots=2, queries=2)
    adapted = learner.adapt(episodes.support_x, episodes.support_y)
    logits = learner.predict(adapted, episodes.query_x)
    shape, wanted = tuple(logits.shape), (2, WAYS * 2, WAYS)
    require(
        shape == wanted, f"predict gives logits {list(shape)}; [T, M, N] would be {list(wanted)}"
    )
    require(logits.dtype == torch.float64, f"logits are {logits.dtype} for float64 images")
    require_same(classify(learner, episodes), logits, "forward gives other logits")


def predictions_are_numbers(learner: Learner) -> None:
    """Predictions and the outer gradient are finite numbers, also for black images, and for one shot."""
    two, one = (training_episodes(learner, shots=shots) for shots in (2, 1))
    black = two._replace(support_x=two.support_x.clone().zero_())
    for kind, each in (("", two), (" of black images", black), (" of one shot", one)):
        fresh = copy.deepcopy(learner)
        loss = fresh.meta_gradient(each)["loss"]
        require(loss.isfinite(), f"the outer loss{kind} is {loss.item()}")
        for gradient in gradients_of(fresh):
            require(gradient.isfinite().all(), f"the outer gradient{kind} holds NaN or infinity")
        queries = random_episodes(4, WAYS, shots=2, queries=2).query_x
        fresh = copy.deepcopy(learner).eval()
        logits = classify(fresh, each._replace(query_x=queries))
        require(logits.isfinite().all(), f"a logit{kind} is NaN or infinite")


def takes_other_ways(learner: Learner) -> None:
    """Where ``accepts_any_ways`` says so, it classifies tasks of other ways than those it is made for."""
    if not learner.accepts_any_ways:
        raise NotApplicableError("its accepts_any_ways is False")
    learner.eval()
    for ways in (WAYS - 1, WAYS + 1):
        try:
            shape = tuple(classify(learner, random_episodes(2, ways, shots=2, queries=2)).shape)
        except Exception as error:
            reason = str(error).split("\n", 1)[0]
            raise AssertionError(f"it fails at {ways} ways, made for {WAYS}: {reason}") from None
        wanted = (2, ways * 2, ways)
        require(
            shape == wanted, f"at {ways} ways, logits are {list(shape)}, and not {list(wanted)}"
        )


def tasks_are_independent(learner: Learner) -> None:
    """Tasks of an evaluation do not touch each other."""
    learner.eval()
    episodes = random_episodes(3, WAYS, shots=2, queries=2)
    together = classify(learner, episodes)
    for task in range(3):
        alone = classify(learner, TaskBatch(*(part[task : task + 1] for part in episodes)))
        require_same(alone[0], together[task], "a task by itself is classified otherwise")


def of_two_shapes(learner: Learner) -> Iterator[TaskBatch]:
    """Yield episodes of two shapes: the second has more queries, and more ways if supported."""
    yield random_episodes(2, WAYS, shots=2, queries=2)
    yield random_episodes(2, WAYS + 2 if learner.accepts_any_ways else WAYS, shots=1, queries=4)


def transductive_flag_is_correct(learner: Learner) -> None:
    """A prediction depends on other queries only where ``transductive`` says so."""
    learner.eval()
    choices = dict.fromkeys((learner.norm_statistics, *learner.norm_statistics_choices))
    for episodes, statistics in product(of_two_shapes(learner), choices):
        learner.norm_statistics = statistics
        changed = episodes.query_x.clone()
        changed[:, 1:] *= 0.3
        first = classify(learner, episodes)[:, 0]
        again = classify(learner, episodes._replace(query_x=changed))[:, 0]
        depends = bool((first - again).abs().max() > 1e-6)
        require(
            depends == learner.transductive,
            f"with statistics={statistics} a prediction {'changes' if depends else 'stays'} when other "
            f"queries change, but transductive is {learner.transductive}",
        )


def a_lone_query_is_all_queries(learner: Learner) -> None:
    """With norm_statistics=query, a query is the only one of all queries."""
    learner.eval()
    if "query" not in learner.norm_statistics_choices:
        raise NotApplicableError("query is not among its norm_statistics_choices")
    episodes = random_episodes(2, WAYS, shots=2, queries=2)
    learner.norm_statistics = "query"
    lone = classify(learner, episodes)
    learner.norm_statistics = "all_queries"
    for query in range(lone.shape[1]):
        one = episodes._replace(query_x=episodes.query_x[:, query : query + 1])
        same = classify(learner, one)[:, 0]
        require_same(
            same, lone[:, query], "by itself, with norm_statistics=all_queries, it is another"
        )


def a_query_joins_the_support_set(learner: Learner) -> None:
    """Batch norm sees the support set, or it and the query, as ``norm_statistics`` says."""
    learner.eval()
    if "support" not in learner.norm_statistics_choices:
        raise NotApplicableError("support is not among its norm_statistics_choices")
    episodes = random_episodes(2, WAYS, shots=1, queries=1)
    query = episodes.support_x[:, 0]
    learner.norm_statistics = "support"
    looking_on = classify(learner, episodes._replace(query_x=query))
    learner.norm_statistics = "all_queries"
    among = classify(learner, episodes._replace(query_x=episodes.support_x.flatten(1, 2)))
    require_same(
        looking_on[:, 0], among[:, 0], "norm_statistics=support are not those of its images"
    )
    learner.norm_statistics = "support_and_query"
    twice = torch.cat((episodes.support_x.flatten(1, 2), query), 1)
    one = classify(learner, episodes._replace(query_x=query))
    learner.norm_statistics = "all_queries"
    both = classify(learner, episodes._replace(query_x=twice))
    require_same(one[:, 0], both[:, -1], "norm_statistics=support_and_query are not those of both")


def places_of_queries_tell_nothing(learner: Learner) -> None:
    """The place of a query tells nothing of its class: queries come class by class."""
    learner.eval()
    choices = learner.norm_statistics_choices or (learner.norm_statistics,)
    for episodes, statistics in product(of_two_shapes(learner), choices):
        learner.norm_statistics = statistics
        images = episodes.query_x.shape[1]
        order = torch.randperm(images, generator=torch.Generator().manual_seed(0))
        reordered = classify(learner, episodes._replace(query_x=episodes.query_x[:, order]))
        expected = classify(learner, episodes)[:, order]
        require_same(reordered, expected, "queries in another order are classified otherwise")


def evaluation_changes_nothing(learner: Learner) -> None:
    """Evaluation leaves the learner as it was."""
    learner.eval()
    before = copy.deepcopy(learner.state_dict())
    first = classify(learner, random_episodes(2, WAYS, shots=2, queries=2))
    for name, value in learner.state_dict().items():
        require_same(value, before[name], f"{name} changed", rtol=0, atol=0)
    kept = [name for name, p in learner.named_parameters() if p.grad is not None]
    require(not kept, f"{', '.join(kept)} got a gradient")
    classify(learner, random_episodes(3, WAYS, shots=1, queries=3, seed=1))
    again = classify(learner, random_episodes(2, WAYS, shots=2, queries=2))
    require(torch.equal(first, again), "the same episodes are classified otherwise after others")


def the_gradient_reaches_all(learner: Learner) -> None:
    """The outer gradient reaches every meta-parameter, and lies in memory as that does."""
    metrics = learner.meta_gradient(training_episodes(learner))
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            reached = parameter.grad is not None and bool(parameter.grad.abs().max() > 0)
            require(reached, f"no outer gradient reaches {name}")
    for name, parameter in learner.named_parameters():
        if parameter.grad is not None:  # fused optimizers assume the same memory layout
            alike = parameter.grad.stride() == parameter.stride()
            require(alike, f"the gradient of {name} lies in memory otherwise than it")
    require(
        metrics["loss"].shape == metrics["score"].shape == (),
        "meta_gradient gives no scalars loss and score",
    )
    require(0 <= metrics["score"] <= 100, "the accuracy is not between 0 and 100 %")
    require(not metrics["loss"].requires_grad, "the loss is not detached")


def the_gradient_adds_up(learner: Learner) -> None:
    """The outer gradient is added to what is there, and does not depend on chunks of the meta-batch.

    Chunks are not tried if tasks are processed sequentially (``supports_data_parallel`` is False).
    """
    gradients, buffers = [], []
    forward_per_task = not learner.supports_data_parallel
    with threads(1 if forward_per_task else 2):  # so that chunks run in parallel
        for chunk_size in (None,) if forward_per_task else (None, 3, 1):
            fresh = copy.deepcopy(learner)
            fresh.chunk_size = chunk_size
            loss = fresh.meta_gradient(training_episodes(fresh))["loss"]
            gradients.append([each.clone() for each in gradients_of(fresh)])
            buffers.append(dict(fresh.named_buffers()))
        twice = copy.deepcopy(learner)
        for parameter in twice.parameters():
            parameter.grad = torch.ones_like(parameter)
        twice.meta_gradient(training_episodes(twice))
    rounding = {"rtol": 1e-9, "atol": 1e-12}
    for other in gradients[1:]:
        require_same(gradients[0], other, "in chunks, it is another", **rounding)
    require(loss > 0, "the outer loss is not above zero")
    for buffer in buffers[1:]:
        require_same(buffer, buffers[0], "in chunks, buffers become others")
    added = [each - 1 for each in gradients_of(twice)]
    require_same(gradients[0], added, "it is not added to the gradient that was there", **rounding)


def names_of_classes_do_not_matter(learner: Learner) -> None:
    """Naming the classes in another order renames the answers.

    Parameters with one row per class, those with "head" in their names, have their rows permuted as
    well.
    """
    in_full_batches(learner).eval()
    episodes = random_episodes(2, WAYS, shots=2, queries=2)
    order = torch.tensor([2, 0, 1])
    expected = classify(learner, episodes)[..., order]
    for name, value in learner.state_dict().items():
        if "head" in name and value.ndim:
            value.copy_(value[order])
    renamed = classify(learner, episodes._replace(support_x=episodes.support_x[:, order]))
    require_same(renamed, expected, "the answers are others")


def order_does_not_matter(learner: Learner) -> None:
    """The order of tasks, and of the images of a class, does not matter.

    Running statistics may depend on it if ``supports_data_parallel`` is False.
    """
    in_full_batches(learner)
    tasks = torch.tensor([2, 0, 3, 1])

    def reordered(episodes: TaskBatch) -> TaskBatch:
        first, others = episodes.support_x[:, :1], episodes.support_x[:, 1:].flip(2)
        episodes = episodes._replace(support_x=torch.cat((first, others), 1))
        return TaskBatch(*(part[tasks] for part in episodes))

    gradients, buffers, episodes = [], [], training_episodes(learner)
    for each in (episodes, reordered(episodes)):
        fresh = copy.deepcopy(learner)
        fresh.meta_gradient(each)
        gradients.append(gradients_of(fresh))
        buffers.append(dict(fresh.named_buffers()))
    first, second = gradients
    changed = "in another order, the outer gradient is another"
    require_same(second, first, changed, rtol=1e-6, atol=1e-9)
    if learner.supports_data_parallel:
        require_same(buffers[1], buffers[0], "in another order, buffers become others")
    learner.eval()
    episodes = random_episodes(4, WAYS, shots=2, queries=2)
    answers = classify(learner, episodes)[tasks]
    require_same(
        classify(learner, reordered(episodes)), answers, "in another order, answers are others"
    )


def meta_parameters_stay(learner: Learner) -> None:
    """Adaptation and the outer gradient leave the meta-parameters as they are."""
    before = copy.deepcopy(dict(learner.named_parameters()))
    episodes = training_episodes(learner)
    for training in (True, False):
        learner.train(training)
        learner.predict(learner.adapt(*episodes[:2]), episodes.support_x.flatten(1, 2))
        kept = [name for name, p in learner.named_parameters() if p.grad is not None]
        require(not kept, f"adaptation left a gradient in {', '.join(kept)}")
    learner.train().meta_gradient(episodes)
    for name, parameter in learner.named_parameters():
        require_same(parameter, before[name], f"{name} changed", rtol=0, atol=0)


def keeps_float32(learner: Learner) -> None:
    """All that a float32 learner makes is float32."""
    preserves_dtype_and_device(learner, "cpu", torch.float32)


def keeps_float64(learner: Learner) -> None:
    """All that a float64 learner makes is float64."""
    preserves_dtype_and_device(learner, "cpu", torch.float64)


def keeps_cuda(learner: Learner) -> None:
    """All that a learner on a GPU makes is there."""
    if not torch.cuda.is_available():
        raise NotApplicableError("needs CUDA")
    preserves_dtype_and_device(learner, "cuda", torch.float32)


def preserves_dtype_and_device(learner: Learner, device: str, dtype: torch.dtype) -> None:
    """Check that a learner of this dtype and device creates only tensors of that dtype and device.

    The default dtype is set to another one and the default device to meta, so a tensor created
    without an explicit dtype or device is detected.
    """
    learner.to(device, dtype)
    x, y, queries, labels, classes = (part.to(device) for part in training_episodes(learner))
    episodes = TaskBatch(x.to(dtype), y, queries.to(dtype), labels, classes)
    by_default = torch.float64 if dtype == torch.float32 else torch.float32
    place: contextlib.AbstractContextManager[Any] = torch.device("meta")
    if not learner.supports_data_parallel:  # as with a library, whose tensors may be of any kind
        by_default, place = dtype, contextlib.nullcontext()
    with default_dtype(by_default), place:
        metrics = learner.meta_gradient(episodes)
        test = episodes._replace(query_x=episodes.support_x[:, 0])
        logits = classify(learner.eval(), test)
    made = {"the logits": logits, "the loss": metrics["loss"], "the accuracy": metrics["score"]}
    made |= {f"the gradient of {name}": p.grad for name, p in learner.named_parameters()
             if p.grad is not None}  # fmt: skip
    made |= learner.state_dict()
    for name, tensor in made.items():
        if torch.is_tensor(tensor):
            require(tensor.device.type == device, f"{name}: on {tensor.device.type}, not {device}")
            if tensor.is_floating_point() and name != "the accuracy":
                require(tensor.dtype == dtype, f"{name}: {tensor.dtype}, not {dtype}")


def a_step_can_be_recorded(learner: Learner) -> None:
    """Where ``supports_cuda_graph`` says so, meta_gradient never waits for a GPU, which can record it."""
    if not learner.supports_cuda_graph:
        raise NotApplicableError("its supports_cuda_graph is False")
    if not torch.cuda.is_available():
        raise NotApplicableError("needs CUDA")
    learner.to("cuda")
    episodes = TaskBatch(*(part.to("cuda") for part in training_episodes(learner)))
    learner.meta_gradient(episodes)  # libraries initialise lazily, which may synchronise
    torch.cuda.set_sync_debug_mode("error")
    try:
        learner.meta_gradient(episodes)
    except RuntimeError as error:
        reason = str(error).split("\n", 1)[0]
        raise AssertionError(f"it waits, so supports_cuda_graph must be False: {reason}") from None
    finally:
        torch.cuda.set_sync_debug_mode("default")


def overfits_one_episode(learner: Learner) -> None:
    """The outer loop can learn one episode by heart.

    Its labels are shuffled, so that adaptation alone fails.
    """
    if not learner.trainable:
        raise NotApplicableError("it has nothing to train")
    learner.test_inner_steps = 1
    episode = shuffled(training_episodes(learner, tasks=1, seed=7))
    test = episode
    if not learner.uses_query_loss:
        x, y = episode.support_x.flatten(1, 2), episode.support_y.flatten(1)
        test = episode._replace(query_x=x, query_y=y)
    before = share_right(learner, test)
    require(before < 0.7, f"{before:.0%} of shuffled labels are right before any training")
    optimizer = outer_optimizer(learner)
    for _ in range(12):
        for _ in range(5):
            optimizer.zero_grad()
            learner.meta_gradient(episode)
            optimizer.step()
        if (right := share_right(learner, test)) > 0.95:
            break
    require(right > 0.95, f"after 60 steps, {right:.0%} of one episode's answers are right")


def shuffled_labels_leave_it_at_chance(learner: Learner) -> None:
    """Shuffled labels leave it at chance on fresh episodes: labels come in by no other way.

    This is checked during and after training, within four standard errors.
    """

    def require_chance(right: float, answers: int, when: str) -> None:
        near = abs(right - 1 / WAYS) < 4 * math.sqrt(1 / WAYS * (1 - 1 / WAYS) / answers)
        require(
            near, f"{when} {right:.0%} of {answers} answers are right, by chance {1 / WAYS:.0%}"
        )

    optimizer = outer_optimizer(learner)
    in_training = []
    for seed in range(1, 9):
        optimizer.zero_grad()
        episodes = shuffled(training_episodes(learner, seed=seed))
        in_training.append(learner.meta_gradient(episodes)["score"].item() / 100)
        optimizer.step()
    if learner.uses_query_loss:
        require_chance(fmean(in_training), 8 * episodes.query_y.numel(), "in training")
    fresh = shuffled(random_episodes(32, WAYS, shots=2, queries=6, seed=9))
    require_chance(share_right(learner, fresh), fresh.query_y.numel(), "after training")


def two_copies_do_the_same(learner: Learner) -> None:
    """Two copies of a learner do the same, to the bit."""
    other = copy.deepcopy(learner)
    for each in (learner, other):
        each.meta_gradient(training_episodes(each))
    for one, two in zip(gradients_of(learner), gradients_of(other), strict=True):
        require(torch.equal(one, two), "their outer gradients differ")
    episodes = random_episodes(2, WAYS, shots=2, queries=2)
    answers = [classify(each.eval(), episodes) for each in (learner, other)]
    require(torch.equal(*answers), "their answers differ")


def rejects_unsupported_settings(learner: Learner) -> None:
    """A learner trains either with queries or without, and ``supports`` says what to change."""
    if not learner.trainable:
        raise NotApplicableError("it has nothing to train")
    ok, reason = learner.supports(Setting(WAYS, 2, 0), Setting(WAYS, 1, 5))
    other, why = learner.supports(Setting(WAYS, 2, 3), Setting(WAYS, 1, 5))
    require(ok != other, "supports allows training with queries and without, or neither")
    require("train.queries" in (reason or why), "its reason does not name train.queries")


def has_no_side_effects(learner: Learner) -> None:
    """Learners own no files, clocks, devices or seeds."""
    source = Path(inspect.getsourcefile(type(learner)) or "").read_text()
    found = ", ".join(dict.fromkeys(of_the_runner(source)))
    require(not found, f"its module has {found}")


def outer_optimizer(learner: Learner) -> torch.optim.Optimizer:
    """Return an outer optimizer: Adam for learners with a query loss, otherwise SGD with lr 1.

    Without a query loss, the outer gradient is a step to be taken as is.
    """
    groups = [{"params": list(learner.parameters())}]  # which may be empty
    if learner.uses_query_loss:
        return torch.optim.Adam(groups, lr=0.01)
    return torch.optim.SGD(groups, lr=1.0)


def share_right(learner: Learner, episodes: TaskBatch) -> float:
    """Return the accuracy in evaluation, 0 to 1; the learner is then back in training mode."""
    right = classify(learner.eval(), episodes).argmax(-1) == episodes.query_y
    learner.train()
    return right.double().mean().item()


LAWS: tuple[Law, ...] = (
    forward_is_adapt_and_predict,
    predictions_are_numbers,
    takes_other_ways,
    tasks_are_independent,
    transductive_flag_is_correct,
    a_lone_query_is_all_queries,
    a_query_joins_the_support_set,
    places_of_queries_tell_nothing,
    evaluation_changes_nothing,
    the_gradient_reaches_all,
    the_gradient_adds_up,
    names_of_classes_do_not_matter,
    order_does_not_matter,
    meta_parameters_stay,
    keeps_float32,
    keeps_float64,
    keeps_cuda,
    a_step_can_be_recorded,
    overfits_one_episode,
    shuffled_labels_leave_it_at_chance,
    two_copies_do_the_same,
    rejects_unsupported_settings,
    has_no_side_effects,
)
