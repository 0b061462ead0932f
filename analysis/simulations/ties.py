"""Does RMIA tell apart what its ratios tell apart, where nearly all samples are fitted with certainty?

With batch norm nearly every sample has a probability next to 1, so that no ratio of x is twice that of z. The AUC of
the ratios themselves, which have no ties, is the truth.
"""

from functools import partial

import numpy as np
from scipy.special import expit

from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Floats, Generator, Mask, halves, mean_auc
from study.mia.audit import attack_scores

SAMPLES, MODELS = 300, 16
ATTACK = "rmia_online"


def _arms(generator: Generator, is_member: Mask) -> tuple[Floats, Floats]:
    """Return scores with batch norm, most of them certain and a tenth memorized, and scores of an arm without."""
    memorized = generator.random(SAMPLES) < 0.1
    easy = generator.normal(size=SAMPLES) + generator.normal(size=is_member.shape)
    batch = np.where(memorized, 4.0 * is_member - 1.0, 4.0 + 0.5 * is_member) + easy
    none = np.where(memorized, 0.5 * is_member - 1.0, 1.5 + 0.1 * is_member) + easy
    return batch, none


def _ratios(scores: Floats, is_member: Mask) -> Floats:
    """Return p(x|target) / p(x), with the mean of the means over IN and over OUT shadows for p(x)."""
    p = expit(scores)
    means = []
    for side in (is_member, ~is_member):
        total, count = (p * side).sum(axis=0), side.sum(axis=0)
        means.append((total - p * side) / (count - side))
    ratios: Floats = p / np.mean(means, axis=0)
    return ratios


def _difference(generator: Generator) -> tuple[Number, ...]:
    is_member = halves(generator, MODELS, SAMPLES)
    arms = _arms(generator, is_member)
    found = [attack_scores(ATTACK, scores, is_member) for scores in arms]
    largest = np.mean([np.unique(row, return_counts=True)[1].max() / SAMPLES for row in found[0]])
    reported = [mean_auc(scores, is_member) for scores in found]
    untied = [mean_auc(_ratios(scores, is_member), is_member) for scores in arms]
    return float(largest), reported[0] - reported[1] - (untied[0] - untied[1])


SCENARIOS = (
    Scenario(
        f"{ATTACK}, {MODELS} models, batch norm fits nearly all with certainty",
        partial(_difference),
        (
            Measure("share of samples in the largest block of ties", 1 / SAMPLES, most=0.05),
            Measure("difference of AUCs less that of the ratios", 0.0, -0.005, 0.005),
        ),
        400,
    ),
)
