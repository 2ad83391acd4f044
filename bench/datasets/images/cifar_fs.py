"""CIFAR-FS: the 100 classes of CIFAR-100, split at random into 64 / 16 / 20.

Bertinetto, Henriques, Torr, Vedaldi 2019, "Meta-learning with differentiable closed-form solvers".
The split separates classes of 17 of the 20 superclasses, so some training classes are very similar
to test classes. `fc100` has the same images with a larger gap. For the images, see `cifar100`.

The official data has 15 images in two splits, in two classes: 8 in train and val (7 of them a seal
and an otter), 6 in train and test (4 a girl and a baby, 2 a snake and a worm), 1 in val and test.
"""

from typing import Literal

from bench.datasets.images import cifar100
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset

SHARED = 15


def prepare(folders: DataDirs, *, url: str, within: Literal["group"] | None = None) -> Dataset:
    """Return CIFAR-FS from the official archive of CIFAR-100.

    It has 600 images a class, uint8 [3, 32, 32]. ``url`` is where the archive is downloaded from if
    neither folder has it as ``cifar100/cifar-100-python.tar.gz``. With ``within="group"``, all
    classes of an episode are of one superclass.

    Raises:
        UserError: If the archive is missing and cannot be downloaded, is damaged, or does not
            contain the official images.
    """
    return cifar100.prepare(folders, "cifar_fs", SHARED, url, within)
