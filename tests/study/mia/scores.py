"""Membership scores whose best attack is known."""

import numpy as np

from study.mia.audit import ATTACKS
from study.mia.intervals import mean_auc
from study.mia.shadows import STREAM

ONLINE = [name for name in ATTACKS if name.startswith("lira_online")]


ONE_SIDED = [name for name in ATTACKS if name.startswith("lira_offline") and "two_sided" not in name]


TWO_SIDED = [name for name in ATTACKS if "two_sided" in name]


RMIA = ["rmia_online", "rmia_offline"]


PER_EXAMPLE = [name for name in ATTACKS if name.endswith("per_example")]


def halves(models: int, samples: int, seed: int = 0) -> np.ndarray:
    """Each sample is IN for exactly half of the models."""
    return np.random.default_rng(seed).random((models, samples)).argsort(axis=0) < models // 2


def coins(models: int, samples: int, seed: int = 0) -> np.ndarray:
    """Each sample is IN for each model or isn't, as a coin falls."""
    return np.random.default_rng(seed).random((models, samples)) < 0.5


def gaussian(member: np.ndarray, shift: float = 0.0, ratio: float = 1.0, between: float = 0.0, seed: int = 1):
    """N(mu, 1) for those OUT and N(mu + shift, ratio^2) for those IN, where mu is N(0, between^2) by sample."""
    generator = np.random.default_rng(seed)
    mu = between * generator.normal(size=member.shape[1])
    noise = generator.normal(size=member.shape)
    return mu + np.where(member, shift + ratio * noise, noise)


def uneven(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of samples that differ in mean and in spread, and memberships that are not balanced."""
    generator = np.random.default_rng(seed)
    member = np.concatenate([halves(6, 14, seed), coins(3, 14, seed)])
    spread = np.exp(generator.normal(size=14))
    return 3 * generator.normal(size=14) + member + spread * generator.normal(size=member.shape), member


def lopsided(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores, and memberships that vary more than coins have them, so that no shadow is left out at random."""
    generator = np.random.default_rng(seed)
    member = generator.random((12, 14)).argsort(axis=0) < np.where(np.arange(14) < 7, 3, 9)
    return 3 * generator.normal(size=14) + member + generator.normal(size=member.shape), member


def reference_shadows(chosen: np.ndarray) -> list[list[list[int]]]:
    """The models of a side that are shadows of each target for each sample, [target][sample]."""
    models, number = len(chosen), chosen.sum(axis=0)
    share = number.mean() / models
    one, spread = share * (1 - share), np.var(number)
    # The models are a random part of all that there once were, whose halves were balanced.
    all_models = (models**2 * one - spread) / (models * one - spread) if models * one > spread else np.inf
    draws = np.random.default_rng(STREAM).random(chosen.shape)
    shadows: list[list[list[int]]] = []
    for target in range(models):
        shadows.append([])
        for sample in range(chosen.shape[1]):
            side = [model for model in range(models) if chosen[model, sample]]
            rate = min(len(side) / (share * all_models), 1)
            if target in side:
                side.remove(target)
            elif draws[target, sample] < rate:
                del side[int(draws[target, sample] / rate * len(side))]
            shadows[-1].append(side)
    return shadows


def auc(scores: np.ndarray, member: np.ndarray) -> float:
    found = mean_auc(scores, member).mean
    assert found is not None
    return found
