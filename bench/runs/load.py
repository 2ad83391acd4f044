"""Trained learners ready to use: fitted to a few labelled images or texts, they label others.

A learner is rebuilt from its stored configuration, description and weights alone; its data set may
be gone.
"""

from collections.abc import Hashable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from algorithms.backbones.encoder import Encoder
from algorithms.features import FeatureLearner
from algorithms.learner import Learner
from bench.config.compose import configuration
from bench.config.schema import Config, check_options, from_hydra
from bench.core.errors import UserError
from bench.datasets.features import encoder_of
from bench.datasets.io import photos
from bench.datasets.io.cache import DataDirs
from bench.runs.cell import EVAL_BATCH_SIZE, make_learner
from bench.runs.model import Images, Texts, inputs_of
from bench.runs.reload import describe, find_run, rebuild
from bench.runs.store import Store
from bench.tasks.classification.domain import Classification

CPU = torch.device("cpu")
BATCH_SIZE = 64
"""Examples that are labelled together."""


def load(run: str | Path, data_root: str | None = None, cache_dir: str | None = None) -> "FewShot":
    """Return the trained learner of a stored run, to be fitted to labelled images or texts.

    ``run`` is a folder such as results/runs/protonet-..., or the name of one under results/runs. The
    weights of a pretrained, frozen backbone are no part of a run: they are looked for as when it was
    trained, here, in ``data_root`` or in ``cache_dir``.

    Raises:
        UserError: The run cannot be read, or labels neither images nor texts.
    """
    store, name = find_run(str(run), Store("results"))
    described = describe(store, name, {"data_root": data_root, "cache_dir": cache_dir})
    encoder = frozen_encoder(described.config)
    learner = rebuild(described, encoder)
    facts = described.model
    inputs = facts.images or Texts(length=None if encoder else facts.input_shape[0])
    return FewShot(described.config.algo.name, learner, inputs, encoder, facts.outputs)


def from_backbone(overrides: Sequence[str]) -> "FewShot":
    """Return a head without training on a pretrained, frozen backbone; neither needs a run.

    ``overrides`` are those of a cell, such as ``algo=centroid``, ``backbone=onnx`` and
    ``backbone.weights=FILE``. The head is ``ridge`` if none is named.

    Raises:
        UserError: They name a learner or a backbone that has to be trained.
    """
    config = from_hydra(configuration(["algo=ridge", *overrides]))
    for group in ("algo", "backbone"):
        check_options(getattr(config, group), group)
    check_untrained(config)
    encoder = pretrained_encoder(config)
    outputs = config.ways or 2
    learner = make_learner(config, Classification(), outputs, (encoder.num_features,), encoder)
    return FewShot(config.algo.name, learner, inputs_of(encoder), encoder, outputs)


def check_untrained(config: Config) -> None:
    """Raise UserError if the learner of a configuration has to be trained."""
    if getattr(config.algo.resolve(), "trains_backbone", True):
        raise UserError(
            f"{config.algo.name} has to be trained: name a stored run of it, or a head without training, "
            "which are centroid, knn, logistic, ridge and svm."
        )


def pretrained_encoder(config: Config) -> Encoder:
    """Return the frozen encoder of a configuration; raise UserError if there is something to train."""
    encoder = frozen_encoder(config)
    if encoder and not any(True for _ in encoder.backbone(adapts=False).parameters()):
        return encoder
    raise UserError(
        f"{config.backbone.name} has to be trained: name a stored run, or a frozen backbone: of images "
        "hog, onnx, timm, torchvision and run (that of a stored run), of texts hashing, minilm, "
        "transformer and wordllama."
    )


def frozen_encoder(config: Config) -> Encoder | None:
    """Return the encoder that a learner sees the features of, or None if it sees the inputs."""
    folders = DataDirs.of(config.data_root, config.cache_dir)
    encoder = encoder_of(config.backbone.model_dump_json(), folders, CPU)
    return encoder if encoder and encoder.frozen else None


class FewShot:
    """A trained learner that labels images or texts, given a few labelled ones; on the CPU.

    A text is a str. An image is a file, a Pillow image, or an array [H, W], [H, W, C] or [C, H, W],
    of integers in 0..255 or floats in 0..1. Any size and number of channels will do: the learner
    sees what it was trained on, `prepare` makes it. ``inputs.kind`` says which of the two it labels,
    and ``classes`` are the labels of `fit`, sorted.
    """

    classes: list[Any]

    def __init__(
        self,
        name: str,
        learner: Learner,
        inputs: Images | Texts,
        encoder: Encoder | None,
        outputs: int,
    ) -> None:
        if learner.transductive:
            raise UserError(
                f"This run of {name} is transductive, so that its answer for an image depends on the "
                "others: run it with algo.norm_statistics=support."
            )
        self.name, self.learner, self.inputs, self.encoder = name, learner.eval(), inputs, encoder
        self.outputs = outputs
        self.head: FeatureLearner | None = None
        if isinstance(learner, FeatureLearner) and not learner.uses_batch_statistics:
            self.head = learner

    @torch.no_grad()
    def fit(self, examples: Sequence[Any], labels: Sequence[Hashable]) -> Self:
        """Adapt to a support set: examples, which are images or texts, and a label for each.

        If classes have different numbers of examples, those of the smaller ones are repeated in turn.

        Raises:
            UserError: An example cannot be read, the labels do not fit them, or the learner cannot
                have so many classes.
        """
        examples = check_list(examples)
        labels = labels.tolist() if isinstance(labels, np.ndarray | Tensor) else list(labels)
        kind = self.inputs.kind
        if len(examples) != len(labels):
            raise UserError(f"There are {len(examples)} {kind} and {len(labels)} labels.")
        try:
            classes = sorted(set(labels))  # type: ignore[type-var]
        except TypeError:
            raise UserError("Labels are either all texts or all numbers.") from None
        if len(classes) < 2:
            raise UserError(f"There are {kind} of {len(classes)} class: give those of 2 or more.")
        if not self.learner.accepts_any_ways and len(classes) != self.outputs:
            raise UserError(
                f"This run of {self.name} is made for {self.outputs} classes, and there are "
                f"{len(classes)}: give as many, or train it with ways={len(classes)}."
            )
        self.learner.eval()
        self.classes = classes
        self.labels = torch.tensor([classes.index(label) for label in labels])
        self.prepared = torch.cat(list(self.batches(examples)))
        self.support = torch.cat([self.seen(each) for each in self.prepared.split(BATCH_SIZE)])
        self.adapted = self.adapt([list(range(len(labels)))])
        return self

    def predict(self, examples: Sequence[Any]) -> list[Any]:
        """Return the label of each example; raise UserError if one cannot be read."""
        return [self.classes[n] for n in self.predict_proba(examples).argmax(1)]

    @torch.no_grad()
    def predict_proba(self, examples: Sequence[Any]) -> NDArray[np.float64]:
        """Return the probabilities [n, N] of the ``classes``; raise UserError as `predict` does."""
        if not hasattr(self, "adapted"):
            raise UserError(
                f"The learner has no classes yet: fit it to labelled {self.inputs.kind} first."
            )
        self.learner.eval()
        found = [torch.empty(0, len(self.classes))]
        for batch in self.batches(examples):
            found.append(self.probabilities(self.adapted, self.seen(batch)[None])[0])
        return torch.cat(found).double().numpy()

    @torch.no_grad()
    def leave_one_out(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Return probabilities [m, N] of support examples by a learner fitted to all others.

        Beside them are their true classes [m], as indices. An example that is alone in its class is
        left out.
        """
        self.learner.eval()
        counts = self.labels.bincount()
        chosen = [n for n, label in enumerate(self.labels) if counts[label] > 1]
        found = [torch.empty(0, len(self.classes))]
        for first in range(0, len(chosen), EVAL_BATCH_SIZE["cpu"]):
            left_out = chosen[first : first + EVAL_BATCH_SIZE["cpu"]]
            adapted = self.adapt([[n for n in range(len(self.labels)) if n != m] for m in left_out])
            found.append(self.probabilities(adapted, self.support[left_out][:, None])[:, 0])
        return torch.cat(found).double().numpy(), self.labels[chosen].numpy()

    def adapt(self, tasks: list[list[int]]) -> Any:
        """Return what the learner makes of parts of the support set, given by their indices.

        All parts have the classes of the whole, and the learner takes as many examples of each.
        """
        labels, shots, rows = self.labels.tolist(), int(self.labels.bincount().max()), []
        for task in tasks:
            own = [[n for n in task if labels[n] == c] for c in range(len(self.classes))]
            rows.append([[each[k % len(each)] for k in range(shots)] for each in own])
        support = self.support[torch.tensor(rows)]
        support_y = torch.arange(len(self.classes))[:, None].expand(len(tasks), -1, shots)
        if self.head:
            return self.head.fit(support.flatten(1, 2), support_y)
        return self.learner.adapt(support, support_y)

    def probabilities(self, adapted: Any, queries: Tensor) -> Tensor:
        """Return the probabilities [T, M, N] of queries [T, M, ...], as `seen` gives them."""
        predict = self.head.classify if self.head else self.learner.predict
        return self.learner.loss.predictions(predict(adapted, queries))

    def batches(self, examples: Sequence[Any]) -> Iterator[Tensor]:
        """Yield prepared examples [B, ...], as `inputs` make them."""
        examples = check_list(examples)
        prepared = photos.parallel_map(
            self.prepare, examples, self.inputs.kind.capitalize(), len(examples)
        )
        while batch := list(islice(prepared, BATCH_SIZE)):
            yield torch.stack(batch)

    def seen(self, prepared: Tensor) -> Tensor:
        """Return what is adapted to and predicted from: features, images in 0..1, or texts."""
        seen = self.encoder.encode(prepared) if self.encoder else self.inputs.seen(prepared)
        return self.head.backbone(seen[None])[0] if self.head else seen

    def prepare(self, example: Any) -> Tensor:
        """Return an example as the network takes it; raise UserError if it cannot be read."""
        return self.inputs.prepare(example, self.encoder)


def check_list(examples: Any) -> Sequence[Any]:
    """Return examples that are several; raise UserError if they are one."""
    one = isinstance(examples, str | Path | Image.Image)
    if isinstance(examples, np.ndarray | Tensor):
        ends = examples.shape[:1] + examples.shape[-1:]
        one = examples.ndim < 3 or (examples.ndim == 3 and any(n in photos.CHANNELS for n in ends))
    if one:
        raise UserError(
            "Give a list of images or texts, even of one, or an array [n, ...] of images."
        )
    return examples  # type: ignore[no-any-return]
