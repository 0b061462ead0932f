"""Protocol `splits`: who is in whose training set (Carlini et al., 2022, section IV; the paper's Appendix D)."""

import numpy as np
import torch
from numpy.typing import NDArray

from study import seeds
from study.data.corruption import Corrupted


def training_sets(corrupted: Corrupted, models: int, seed: int) -> list[Corrupted]:
    """The one D' of a seed with the training set of each of its models; see `halves`."""
    return [corrupted.half(torch.from_numpy(own)) for own in halves(corrupted.atypical.cpu().numpy(), models, seed)]


def halves(atypical: NDArray[np.bool_], models: int, seed: int) -> NDArray[np.bool_]:
    """Which samples of D' each model is trained on: a half of them, and each sample is in exactly half of the models.

    Samples are paired at random, the atypical among themselves; of each pair a random half of the models gets the one
    and the others get the other. So all models have equally many samples, and equally many atypical ones, but for the
    odd one where their number is odd. It depends on the seed and on which samples are atypical: the arms of a
    comparison share it.

    Args:
        atypical: bool [N], S_out.
        models: how many, an even number.
        seed: the `split` stream's.

    Returns:
        bool [models, N].
    """
    generator = seeds.generator(seed, "split")
    order = generator.permutation(len(atypical))
    order = order[np.argsort(~atypical[order], kind="stable")]
    inside = np.zeros((models, len(atypical)), dtype=bool)
    for first in range(0, len(order), 2):
        chosen = generator.permutation(models) < models // 2
        inside[:, order[first]] = chosen
        if first + 1 < len(order):
            inside[:, order[first + 1]] = ~chosen
    return inside


def model_seed(seed: int, model: int) -> int:
    """The seed of one model's own streams, such as `init` and `order`."""
    return seeds.key(seed, "model", model)
