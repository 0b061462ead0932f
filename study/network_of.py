"""The network of a trial as its members have it: built by its settings, and standardizing images as they say."""

from torch import Tensor, nn

from study.data.dataset import Dataset
from study.data.standardization import mean_and_spread
from study.networks import build
from study.networks.standardize import standardize_by
from study.trial import Trial


def network_of(trial: Trial, data: Dataset, seed: int) -> nn.Module:
    """Return a network of the trial with initial weights of the seed, on the CPU in float32.

    Raises:
        BadInputError: it can't be built, or D can't be standardized so.
    """
    network = build.build(trial.architecture, data.shape, data.classes, trial.norm, seed, trial.network_options)
    if (constants := standardization(trial, data)) is not None:
        standardize_by(network, *constants)
    return network


def standardization(trial: Trial, data: Dataset) -> tuple[Tensor, Tensor] | None:
    """Return by which mean and spread of each channel the trial's networks standardize; None where they don't.

    Raises:
        BadInputError: D can't be standardized so.
    """
    return None if trial.standardize == "none" else mean_and_spread(trial.standardize, trial.dataset, data.train)
