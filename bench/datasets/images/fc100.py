"""FC100: the 20 superclasses of CIFAR-100, split into 12 / 4 / 4, or 60 / 20 / 20 classes.

Oreshkin, Rodriguez, Lacoste 2018, "TADAM: Task dependent adaptive metric for improved few-shot
learning". No superclass is in two splits, so that test classes are unlike training classes; this
makes it harder than `cifar_fs`, which has the same images. For the images, see `cifar100`.

The official data has 3 images in two splits, in two classes: 2 in train and val (a snake and a
worm), 1 in train and test (a shark and a whale).
"""

from typing import Literal

from bench.datasets.images import cifar100
from bench.datasets.io.cache import DataDirs
from bench.tasks.pool import Dataset

SHARED = 3


def prepare(folders: DataDirs, *, url: str, within: Literal["group"] | None = None) -> Dataset:
    """Return FC100 from the official archive of CIFAR-100.

    It has 600 images a class, uint8 [3, 32, 32]. ``url`` is where the archive is downloaded from if
    neither folder has it as ``cifar100/cifar-100-python.tar.gz``. With ``within="group"``, all
    classes of an episode are of one superclass.

    Raises:
        UserError: If the archive is missing and cannot be downloaded, is damaged, or does not
            contain the official images.
    """
    return cifar100.prepare(folders, "fc100", SHARED, url, within)
