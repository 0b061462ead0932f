"""The built-in datasets: their names, sizes and default sources of out-of-distribution images."""

DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10", "cifar100", "svhn", "tiny_imagenet")
OOD_SOURCES = {
    "digits": "photos",
    "mnist": "fashion_mnist",
    "fashion_mnist": "mnist",
    "cifar10": "svhn",
    "cifar100": "svhn",
    "svhn": "cifar10",
    "tiny_imagenet": "svhn",
}
"""The D* that each D has by default."""
SIZES = {
    "digits": (1_437, 360, (1, 28, 28), 10),
    "mnist": (60_000, 10_000, (1, 28, 28), 10),
    "fashion_mnist": (60_000, 10_000, (1, 28, 28), 10),
    "cifar10": (50_000, 10_000, (3, 32, 32), 10),
    "cifar100": (50_000, 10_000, (3, 32, 32), 100),
    "svhn": (73_257, 26_032, (3, 32, 32), 10),
    "tiny_imagenet": (100_000, 10_000, (3, 64, 64), 200),
}
"""Training and test samples, shape of an image and classes of the built-in datasets."""
