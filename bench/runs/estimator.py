"""Heads on frozen features as an estimator of scikit-learn."""

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils import Tags
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import (
    check_consistent_length,
    check_is_fitted,
    column_or_1d,
    validate_data,
)
from torch import Tensor

from algorithms.backbones.encoder import Encoder
from algorithms.backbones.features import Features
from algorithms.features import FeatureLearner
from bench.config.compose import configuration, overrides_from
from bench.config.explain import explained
from bench.config.schema import Config, check_options, from_hydra
from bench.core.errors import UserError
from bench.datasets.io import photos
from bench.runs.load import check_list, check_untrained, pretrained_encoder
from bench.runs.model import inputs_of


class Classifier(ClassifierMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """A head without training, such as ridge regression, as an estimator of scikit-learn.

    Without a backbone, ``X`` are features [n, F], taken as they are. With a pretrained, frozen one,
    they are what it reads: texts, as str; or images, which are paths, Pillow images, or arrays
    [H, W, C] or [C, H, W]. Classes may be of any
    type that can be sorted, and have different numbers of examples; the heads are made for few.

    Args:
        head: The learner, as in ``algo=...``: centroid, knn, logistic, ridge or svm.
        backbone: The backbone, as in ``backbone=...``: of images hog, onnx, timm, torchvision or
            run, of texts hashing, minilm, transformer or wordllama.
        options: Options of head and backbone as on the command line, such as
            ``{"algo.ridge_lambda": 1.0, "backbone.weights": "network.onnx"}``.
    """

    def __init__(
        self,
        head: str = "ridge",
        backbone: str | None = None,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.head = head
        self.backbone = backbone
        self.options = options

    def fit(self, X: Any, y: ArrayLike) -> Self:
        """Fit the head to examples and their classes.

        Raises:
            UserError: There is no such head or backbone, or one of their options is invalid.
            ValueError: The examples are invalid, or of one class alone.
        """
        if self.backbone:
            y = column_or_1d(y, warn=True)
            check_consistent_length(X, y)
        else:
            X, y = validate_data(self, X, y, dtype=np.float64)
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError("Classifier needs examples of two classes or more; here is 1 class.")
        if self.backbone:
            self.digest_ = pretrained_encoder(self._config()).digest
        order = np.argsort(labels, kind="stable")
        features = self._features(X)[torch.from_numpy(order)]
        self.learner_ = self._head(features.shape[1], len(self.classes_)).to(features.dtype)
        with torch.no_grad():
            self.fitted_ = self.learner_.fit(features[None], torch.from_numpy(labels[order])[None])
        return self

    def predict_proba(self, X: Any) -> NDArray[np.float64]:
        """Return the probability of each class of ``classes_`` for each example."""
        check_is_fitted(self)
        if not self.backbone:
            X = validate_data(self, X, dtype=np.float64, reset=False)
        with torch.no_grad():
            outputs = self.learner_.classify(self.fitted_, self._features(X)[None])
            return self.learner_.loss.predictions(outputs)[0].double().numpy()

    def predict(self, X: Any) -> NDArray[Any]:
        """Return the most probable class of each example."""
        best = self.predict_proba(X).argmax(1)
        found: NDArray[Any] = self.classes_[best]
        return found

    def __sklearn_tags__(self) -> Tags:
        """Return what scikit-learn should know of the estimator."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.backbone is None
        return tags

    def _config(self) -> Config:
        """Return the configuration with the chosen head and backbone."""
        chosen = {"algo": self.head} | ({"backbone": self.backbone} if self.backbone else {})
        with explained():
            config = from_hydra(configuration(overrides_from(chosen | dict(self.options or {}))))
        for group in chosen:
            check_options(getattr(config, group), group)
        check_untrained(config)
        return config

    def _head(self, num_features: int, ways: int) -> FeatureLearner:
        """Return the head, not fitted yet."""
        code = self._config().algo
        learner: FeatureLearner = code.resolve()(
            Features(num_features, adapts=False), ways, **code.options
        )
        return learner.eval()

    def _features(self, X: Any) -> Tensor:
        """Return what the head sees of examples: float64 arrays, or a backbone's float32 features."""
        if not self.backbone:
            return torch.tensor(X)
        encoder = pretrained_encoder(self._config())
        if getattr(self, "digest_", encoder.digest) != encoder.digest:
            raise UserError(
                f"The weights of {self.backbone} are others than those that this classifier was fitted "
                "on: fit it again, or bring them back."
            )
        features: Tensor = encoder.backbone(adapts=False)(encode(encoder, X)[None])[0]
        return features


@torch.no_grad()
def encode(encoder: Encoder, examples: Sequence[Any]) -> Tensor:
    """Return the features [n, F] of images or texts, of the type that runs keep them in."""
    inputs = inputs_of(encoder)

    def prepare(example: Any) -> Tensor:
        return inputs.prepare(example, encoder)

    total = len(check_list(examples))
    prepared = photos.parallel_map(prepare, examples, inputs.kind.capitalize(), total)
    found = []
    while batch := list(islice(prepared, encoder.batch_size)):
        found.append(encoder.encode(torch.stack(batch)).to(encoder.dtype))
    return torch.cat(found)
