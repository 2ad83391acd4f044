"""Classification of the photographs of a few given classes, all of which are tested."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from algorithms.learner import Learner, TaskBatch
from bench.stats import photos
from bench.tasks.base import Tasks, TaskSource
from bench.tasks.classification.domain import Classification

if TYPE_CHECKING:
    import pandas as pd


class OwnPhotos(Classification):
    """Classification of a user's own photographs, given by class: the names of their files.

    Tasks are draws of support photographs; all others are queries. Of interest are other photographs
    of the same classes, so the photographs are the sample that intervals are over, see
    `bench.stats.photos`, and not the tasks, which are as many as one likes.
    """

    probes_runs = True
    tests_all = True
    unit = "photos"

    def __init__(self, photographs: Mapping[str, Sequence[str]]) -> None:
        self.names = tuple(photographs)
        self.photographs = [name for names in photographs.values() for name in names]
        self.classes = np.repeat(np.arange(len(self.names)), [*map(len, photographs.values())])

    def evaluate(self, learner: Learner, batch: TaskBatch, tasks: Tasks) -> dict[str, Tensor]:
        """Return accuracy, mean over classes, and loss [T] of the queries, and the ``answers`` [T, M].

        An answer is the number of a class, `photos.NOT_ASKED` for what is no query of the task.
        """
        logits = learner(batch.support_x, batch.support_y, batch.query_x).cpu().double()
        labels, found = batch.query_y.cpu(), logits.argmax(-1)
        asked = labels >= 0
        losses = F.cross_entropy(logits.mT, labels.clamp(min=0), reduction="none")
        of_class = F.one_hot(labels.clamp(min=0), logits.shape[-1]) * asked.unsqueeze(-1)
        right = (of_class * (found == labels).unsqueeze(-1)).sum(1).double() / of_class.sum(1)
        return {
            "score": 100 * right.mean(1),
            "loss": (losses * asked).sum(1) / asked.sum(1),
            "answers": batch.classes.cpu().gather(1, found).where(asked, photos.NOT_ASKED).short(),
        }

    def interval(self, tested: dict[str, Tensor]) -> tuple[float, float]:
        """Return the accuracy and its 95 % half-width for other photographs of these classes."""
        return photos.interval(self._scores(tested))

    def summary(self, scores: dict[str, Tensor]) -> dict[str, float]:
        """Return the mean loss, and the number of photographs."""
        return {"loss": scores["loss"].mean().item(), "photos": len(self.photographs)}

    def table(self, tested: dict[str, Tensor], source: TaskSource) -> "pd.DataFrame":
        """Return one row for each photograph.

        ``score`` is its `photos.pseudo_values`, ``right`` the share (%) of the tasks in which it was
        a query that answered right, missing if there are none.
        """
        import pandas as pd  # late: half a second of each command

        answers = tested["answers"].numpy()
        asked = (answers != photos.NOT_ASKED).sum(0)
        right = np.full(len(asked), np.nan)
        np.divide(100 * (answers == self.classes).sum(0), asked, out=right, where=asked > 0)
        return pd.DataFrame(
            {
                "photo": self.photographs,
                "class": [self.names[number] for number in self.classes],
                "score": self._scores(tested),
                "right": right,
            }
        )

    def files(
        self, learner: Learner, source: TaskSource, tested: dict[str, Tensor]
    ) -> dict[str, str]:
        """Return ``classes.csv``: the accuracy of each class, and which classes are answered (%)."""
        import pandas as pd

        answers, rows = tested["answers"].numpy(), []
        for number, name in enumerate(self.names):
            mine = answers[:, self.classes == number]
            size, asked = mine.shape[1], max(1, (mine != photos.NOT_ASKED).sum())
            score, ci95 = photos.interval(self._scores(tested, number), size)
            said = {
                f"as {other}": 100 * (mine == each).sum() / asked
                for each, other in enumerate(self.names)
            }
            rows.append({"class": name, "photos": size, "accuracy": score, "ci95": ci95} | said)
        return {"classes.csv": pd.DataFrame(rows).to_csv(index=False)}

    def _scores(self, tested: dict[str, Tensor], of: int | None = None) -> photos.Floats:
        return photos.pseudo_values(tested["answers"].numpy(), self.classes, of)
