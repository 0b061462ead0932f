"""What several simulations draw alike: halves of a D', models with scores on it, and members with results."""

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.metrics import COUNTED, METRICS
from analysis.statistics.accuracies import OWN
from analysis.statistics.hypotheses import Effects, Finding
from study.mia.roc import ALL, metrics_by_group
from study.trial import Trial

Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]
Generator = np.random.Generator


SAMPLES = 10_000
"""How many samples an accuracy is a share of, where a simulation is not about that."""


def halves(generator: Generator, models: int, samples: int) -> Mask:
    """Return memberships [models, samples] as `protocol=splits` draws them: of a pair of samples each has one half."""
    first = generator.random((models, -(-samples // 2))).argsort(axis=0) < models // 2
    return np.stack([first, ~first], axis=2).reshape(models, -1)[:, :samples]


def mean_auc(scores: Floats, is_member: Mask) -> float:
    """Return the mean over targets of an attack's AUC on all samples, without an interval."""
    of_targets = metrics_by_group(scores, is_member, np.full(scores.shape[1], "clean"))[ALL]
    return float(np.mean([metrics.auc for metrics in of_targets if metrics.auc is not None]))


def effects(table: Floats, models: int = 1, samples: int | None = None) -> Effects:
    """Return effects [cells, seeds x models] as those of cells of an axis `k`, each with the same seeds.

    Args:
        table: the effects.
        models: how many models each seed has.
        samples: of accuracies, how many samples each is a share of.
    """
    cells, columns = table.shape
    frame = pd.DataFrame(
        {
            "k": np.repeat(np.arange(cells), columns),
            "seed": np.tile(np.arange(columns) // models, cells),
            "model": np.tile(np.arange(columns) % models, cells),
            "effect": table.ravel(),
        }
    )
    if samples is not None:
        frame[OWN[0]], frame[OWN[1]] = frame["effect"], float(samples)
    return Effects(frame, ("k",) if cells > 1 else ())


def verdict(finding: Finding) -> str:
    """Return the verdict on a claim that is the only one."""
    return finding.verdict(*finding.p_values)


def correlated(generator: Generator, cells: int, seeds: int, correlation: float) -> Floats:
    """Return noise [cells, seeds] of variance 1, of which cells of one seed share a part, as they share its streams."""
    shared, own = generator.normal(size=(1, seeds)), generator.normal(size=(cells, seeds))
    noise: Floats = np.sqrt(correlation) * shared + np.sqrt(1 - correlation) * own
    return noise


def members(
    axes: Mapping[str, Sequence[Any]], seeds: int, models: int, value: Callable[[Trial, int, int], Any], metric: str
) -> pd.DataFrame:
    """Return rows of `members` of a full grid, with one metric; a value that is None is that of a lost member.

    Args:
        axes: the levels of each setting.
        seeds: how many seeds each cell has.
        models: how many models each seed has: 1, or halves of its D'.
        value: gives the metric of a cell, seed and model.
        metric: the metric's column.
    """
    halved = {} if models == 1 else {"protocol": "splits", "models": models}
    found = []
    for levels in product(*axes.values()):
        trial = Trial(**{**dict(zip(axes, levels, strict=True)), **halved, "seed": tuple(range(seeds))})
        settings = {**trial.settings(), "cell": trial.cell, "trial": trial.id}
        for seed, model in product(range(seeds), range(models)):
            number = value(trial, seed, model)
            results = {**dict.fromkeys((each.column for each in METRICS), np.nan), metric: number}
            results |= dict.fromkeys(COUNTED.values(), SAMPLES)
            status = "diverged" if number is None else "ok"
            found.append({**settings, "seed": seed, "model": model, "status": status, **results})
    frame = pd.DataFrame(found)
    return frame.astype({each.column: float for each in METRICS})
