"""The network of a trial as its members have it: built by its settings, and standardizing images as they say."""

from torch import Tensor, nn

from study.data.dataset import Dataset
from study.data.standardization import mean_and_spread
from study.networks import build
from study.networks.pretrained import load_published, weights_file
from study.networks.published import PUBLISHED
from study.networks.standardize import standardize_by
from study.trial import Trial


def network_of(trial: Trial, data: Dataset, seed: int) -> nn.Module:
    """Return a network of the trial with initial weights of the seed, or published ones, on the CPU in float32.

    Raises:
        BadInputError: it can't be built, D can't be standardized so, or the published weights aren't here.
    """
    network = build.build(trial.architecture, data.shape, data.classes, trial.norm, seed, trial.network_options)
    if (constants := standardization(trial, data)) is not None:
        standardize_by(network, *constants)
    if trial.architecture in PUBLISHED:
        load_published(network.get_submodule("network"), trial.architecture, trial.norm, data.folder)
    return network


def check_published_weights(trial: Trial, data: Dataset) -> None:
    """Refuse a trial whose network, or its source, has published weights of which there is no file here.

    Raises:
        BadInputError: it has, and says which file is missing and where it goes.
    """
    for of in (trial, trial.source_of(trial.seed[0])) if trial.source != "none" else (trial,):
        if of.architecture in PUBLISHED:
            weights_file(of.architecture, of.norm, data.folder)


def standardization(trial: Trial, data: Dataset) -> tuple[Tensor, Tensor] | None:
    """Return by which mean and spread of each channel the trial's networks standardize; None where they don't.

    Raises:
        BadInputError: D can't be standardized so.
    """
    return None if trial.standardize == "none" else mean_and_spread(trial.standardize, trial.dataset, data.train)
