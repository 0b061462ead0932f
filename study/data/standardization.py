"""By which mean and spread of each channel images are standardized."""

from collections.abc import Mapping

import torch
from torch import Tensor

from study.data.dataset import Split, to_float
from study.errors import BadInputError, unknown

PAPER_2019: Mapping[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    **dict.fromkeys(("mnist", "mnist_3_7", "digits", "digits_3_7"), ((0.1307,), (0.3081,))),
    "cifar10": ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)),
    "imagenet": ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    "svhn": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
}
"""The constants of Galloway et al. (2019), from their code; for SVHN, from the range [-1, 1] that they say it has; for
ImageNet torchvision's, with which its published networks were trained.

The digits stand in for MNIST at quick scale, so they have its constants.
"""


def mean_and_spread(standardize: str, dataset: str, train: Split) -> tuple[Tensor, Tensor]:
    """Return the mean and the spread of each channel by which a network standardizes, float64 [C].

    Args:
        standardize: the setting, not `none`.
        dataset: the name of D.
        train: D, of which `dataset` takes the mean and the standard deviation over all pixels.

    Raises:
        BadInputError: the paper has no constants for the dataset, or has those of other channels; or a channel of D is
            the same everywhere.
    """
    if standardize.startswith("paper2019"):
        named = standardize.removeprefix("paper2019").removeprefix("_") or dataset
        check_constants(named)
        mean, spread = (torch.tensor(each, dtype=torch.float64) for each in PAPER_2019[named])
        if len(mean) != train.images.shape[1]:
            raise BadInputError(
                f"standardize={standardize} is for images of {len(mean)} channels, and those of {dataset} have "
                f"{train.images.shape[1]}."
            )
        return mean, spread
    by_channel = to_float(train.images, torch.float64).transpose(0, 1).flatten(1)
    spread = by_channel.std(dim=1, correction=0)
    if not spread.all():
        raise BadInputError(f"standardize=dataset divides by the spread of {dataset}, of which a channel has none.")
    return by_channel.mean(dim=1), spread


def check_constants(dataset: str) -> None:
    """Refuse a dataset for which the paper of 2019 has no constants.

    Raises:
        BadInputError: it has none.
    """
    if dataset not in PAPER_2019:
        raise unknown("dataset of standardize=paper2019", dataset, PAPER_2019)
