"""The built-in datasets: one row each.

A dataset is its row here and its reader in `study.data.builtin`, under the same name. Nothing here imports torch, so
that a sweep can be planned, and its records analyzed, without it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """What is known of a dataset before it is read.

    Attributes:
        name: as the user types it and the records have it.
        printed: its name in figures.
        train: the number of training samples.
        test: the number of test samples.
        shape: channels, height and width of an image.
        classes: the number of classes.
        ood: the dataset D* that out-of-distribution images are taken from unless the user names another.
    """

    name: str
    printed: str
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    ood: str


# In the paper's order, in which figures show them.
_ROWS = (
    DatasetInfo(name="digits", printed="digits", train=1_437, test=360, shape=(1, 28, 28), classes=10, ood="photos"),
    DatasetInfo(
        name="mnist", printed="MNIST", train=60_000, test=10_000, shape=(1, 28, 28), classes=10, ood="fashion_mnist"
    ),
    DatasetInfo(
        name="fashion_mnist",
        printed="FashionMNIST",
        train=60_000,
        test=10_000,
        shape=(1, 28, 28),
        classes=10,
        ood="mnist",
    ),
    DatasetInfo(
        name="cifar10", printed="CIFAR10", train=50_000, test=10_000, shape=(3, 32, 32), classes=10, ood="svhn"
    ),
    DatasetInfo(
        name="cifar100", printed="CIFAR100", train=50_000, test=10_000, shape=(3, 32, 32), classes=100, ood="svhn"
    ),
    DatasetInfo(name="svhn", printed="SVHN", train=73_257, test=26_032, shape=(3, 32, 32), classes=10, ood="cifar10"),
    DatasetInfo(
        name="tiny_imagenet",
        printed="Tiny ImageNet",
        train=100_000,
        test=10_000,
        shape=(3, 64, 64),
        classes=200,
        ood="svhn",
    ),
)
DATASETS: dict[str, DatasetInfo] = {row.name: row for row in _ROWS}
"""The built-in datasets by name."""
