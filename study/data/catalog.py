"""The built-in datasets: one row each.

A dataset is its row here and its reader in `study.data.builtin`, under the same name. Nothing here imports torch, so
that a sweep can be planned, and its records analyzed, without it.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class DatasetInfo:
    """What is known of a dataset before it is read.

    Attributes:
        name: as the user types it and the records have it.
        printed: its name in figures.
        train: the number of training samples.
        test: the number of test samples.
        shape: channels, height and width of an image.
        classes: the number of classes.
        files: what its reader needs of the folder of datasets, by torchvision's names; of folders that are another
            form of the same data, one is enough.
        ood: the dataset D* that out-of-distribution images are taken from unless the user names another; `none` where
            none can be added, for the samples are no images or aren't trained on.
    """

    name: str
    printed: str
    train: int
    test: int
    shape: tuple[int, int, int]
    classes: int
    files: tuple[str, ...]
    ood: str


# In the paper's order, in which figures show them.
_ROWS = (
    DatasetInfo("digits", "digits", 1_437, 360, (1, 28, 28), 10, (), "photos"),
    DatasetInfo("mnist", "MNIST", 60_000, 10_000, (1, 28, 28), 10, ("MNIST",), "fashion_mnist"),
    DatasetInfo("fashion_mnist", "FashionMNIST", 60_000, 10_000, (1, 28, 28), 10, ("FashionMNIST",), "mnist"),
    DatasetInfo(
        "cifar10", "CIFAR10", 50_000, 10_000, (3, 32, 32), 10, ("cifar-10-batches-py", "cifar-10-python.tar.gz"), "svhn"
    ),
    DatasetInfo(
        "cifar100",
        "CIFAR100",
        50_000,
        10_000,
        (3, 32, 32),
        100,
        ("cifar-100-python", "cifar-100-python.tar.gz"),
        "svhn",
    ),
    DatasetInfo("svhn", "SVHN", 73_257, 26_032, (3, 32, 32), 10, ("train_32x32.mat", "test_32x32.mat"), "cifar10"),
    DatasetInfo(
        "tiny_imagenet",
        "Tiny ImageNet",
        100_000,
        10_000,
        (3, 64, 64),
        200,
        ("tiny-imagenet-200", "tiny-imagenet"),
        "svhn",
    ),
    # Of its 50,000 validation images so many are read unless attack_samples says more; it is not trained on.
    DatasetInfo("imagenet", "ImageNet", 0, 2_048, (3, 224, 224), 1000, ("imagenet", "val", "weights"), "none"),
    # Those of Galloway et al. (2019): two of ten digits, and points on two circles.
    DatasetInfo("mnist_3_7", "MNIST 3/7", 12_396, 2_038, (1, 28, 28), 2, ("MNIST",), "fashion_mnist"),
    DatasetInfo("digits_3_7", "digits 3/7", 289, 73, (1, 28, 28), 2, (), "photos"),
    DatasetInfo("spheres", "spheres", 1_000, 20_000, (2, 1, 1), 2, (), "none"),
)
DATASETS: dict[str, DatasetInfo] = {row.name: row for row in _ROWS}
"""The built-in datasets by name."""
