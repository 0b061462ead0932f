"""Draws of samples: the half of D' that each model of protocol `splits` is trained on, and test images by class.

See Carlini et al. (2022), section IV, and the paper's Appendix D.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from study import seeds
from study.data.corruption import Corrupted


def training_sets(corrupted: Corrupted, models: int, seed: int) -> list[Corrupted]:
    """Return the D' of a seed once for each of its models, with the training set of that model; see `halves`."""
    masks = halves(corrupted.atypical.cpu().numpy(), models, seed)
    return [corrupted.with_training_set(torch.from_numpy(is_member)) for is_member in masks]


def halves(atypical: NDArray[np.bool_], models: int, seed: int) -> NDArray[np.bool_]:
    """Draw the half of D' that each model is trained on, so that each sample is in exactly half of the training sets.

    Samples are paired at random, atypical ones with atypical ones. Of each pair, a random half of the models is trained
    on the one sample, and the other models on the other. So all models have equally many samples, and equally many
    atypical ones, up to the one that an odd number leaves without a partner. The draw depends on the seed and on S_out
    alone, so the arms of a comparison share it.

    Args:
        atypical: bool [N], S_out.
        models: the number of models, even.
        seed: the seed of the `split` stream.

    Returns:
        bool [models, N], true where a model is trained on a sample.
    """
    generator = seeds.generator(seed, "split")
    order = generator.permutation(len(atypical))
    order = order[np.argsort(~atypical[order], kind="stable")]
    is_member = np.zeros((models, len(atypical)), dtype=bool)
    for first in range(0, len(order), 2):
        half_of_models = generator.permutation(models) < models // 2
        is_member[:, order[first]] = half_of_models
        if first + 1 < len(order):
            is_member[:, order[first + 1]] = ~half_of_models
    return is_member


def model_seed(seed: int, model: int) -> int:
    """Return the seed of one model's own streams, such as `init` and `order`."""
    return seeds.key(seed, "model", model)


def drawn_by_class(labels: Tensor, count: int) -> Tensor:
    """Return which images are drawn, int64 ascending: so many of each class in proportion; all of them for 0 or more.

    Args:
        labels: int64 [N], of all images.
        count: how many are drawn.
    """
    if not 0 < count < len(labels):
        return torch.arange(len(labels))
    # In the order of the draw the images of each class come evenly, so that any number of them is stratified.
    classes = labels.cpu().numpy()
    order = seeds.generator(0, "attacked").permutation(len(classes))
    places = np.empty(len(classes))
    for label in np.unique(classes):
        of_class = order[classes[order] == label]
        places[of_class] = (np.arange(len(of_class)) + 0.5) / len(of_class)
    first = np.argsort(places, kind="stable")[:count]
    return torch.from_numpy(np.sort(first))
