"""Membership scores whose best attack is known."""

import numpy as np

from study.mia.audit import ATTACKS
from study.mia.intervals import mean_auc

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


def auc(scores: np.ndarray, member: np.ndarray) -> float:
    found = mean_auc(scores, member, replicates=1).mean
    assert found is not None
    return found
