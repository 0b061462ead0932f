"""What is the error of a test where models share their seed's D' and shadows?

Arms that don't differ on average differ on a D', which all models of a seed share; and so do the cells of that seed.
"""

from functools import partial

import numpy as np
from scipy import stats

from analysis.metrics import select_metrics
from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Floats, Generator, effects, halves, members, verdict
from analysis.statistics.hypotheses import above
from analysis.statistics.paired import compare
from study.mia.intervals import mean_auc_difference
from study.trial import Trial

MODELS = 8
OF_SET, OF_MODEL = 1.0, 1.0
"""Standard deviations of an effect over sets D', and over the models on halves of one."""

SAMPLES, SHIFT = 200, 2.0
EXPOSED = (3.0, 3.0)
"""The beta distribution over D' of the share of samples that give themselves away."""


def _by_model(generator: Generator, cells: int, seeds: int) -> Floats:
    """Return effects of mean 0, [cells, seeds x models]."""
    of_set = np.repeat(generator.normal(size=(1, seeds)), MODELS, axis=1)
    return OF_SET * of_set + OF_MODEL * generator.normal(size=(cells, seeds * MODELS))


def _compared(generator: Generator, seeds: int, metric: str) -> tuple[Number, ...]:
    table = 0.01 * _by_model(generator, 1, seeds).reshape(seeds, MODELS)

    def value(trial: Trial, seed: int, model: int) -> float:
        return 0.5 + (table[seed, model] if trial.norm == "batch" else 0.0)

    frame = members({"norm": ("batch", "none")}, seeds, MODELS, value, metric)
    (row,) = compare(frame, "norm", alternative="two-sided", metrics=select_metrics([metric])).to_dict("records")
    return row["p"] < 0.05, bool(row["low"] <= 0 <= row["high"])


def _claimed(generator: Generator, cells: int, seeds: int) -> tuple[Number, ...]:
    """Return whether there is a verdict; of one D' alone what is claimed is conditional on it, where nothing is so."""
    table = _by_model(generator, cells, seeds) if seeds > 1 else OF_MODEL * generator.normal(size=(cells, MODELS))
    found = verdict(above(effects(table, MODELS), "greater"))
    return found == "held", found == "not held"


def _attacked(generator: Generator, seeds: int) -> tuple[Number, ...]:
    """Return whether the interval of an attack's AUC over several D' holds the mean over all D' that there could be."""
    found = []
    for _ in range(seeds):
        exposed = generator.random(SAMPLES) < generator.beta(*EXPOSED)
        is_member = halves(generator, MODELS, SAMPLES)
        noise = generator.normal(size=is_member.shape)
        found.append(mean_auc_difference(noise + SHIFT * exposed * is_member, noise, is_member).mean or 0.0)
    finding = above(effects(np.array([found])), "greater")
    true = float(stats.norm.cdf(SHIFT / np.sqrt(2)) - 0.5) * EXPOSED[0] / sum(EXPOSED)
    assert finding.low is not None
    assert finding.high is not None
    return (finding.low <= true <= finding.high,)


REJECTED = Measure("two-sided error", 0.05, most=0.06)
COVERED = Measure("coverage of the interval", 0.95, least=0.94)
VERDICTS = tuple(Measure(f'false "{said}"', 0.05, most=0.05) for said in ("held", "not held"))

SCENARIOS = (
    *(
        Scenario(
            f"compare, {seeds} seeds of {MODELS} models, {metric}",
            partial(_compared, seeds=seeds, metric=metric),
            (REJECTED, COVERED),
            400,
        )
        for metric in ("clean_acc", "mia_auc")
        for seeds in (3, 5)
    ),
    *(
        Scenario(
            f"claims, {seeds} seeds of {MODELS} models, {cells} cells"
            if seeds > 1
            else f"claims conditional on one D' of {MODELS} models, {cells} cells",
            partial(_claimed, cells=cells, seeds=seeds),
            VERDICTS,
            600,
        )
        for seeds, cells in ((1, 8), (2, 8), (3, 8), (5, 1))
    ),
    Scenario(
        f"an attack's AUC, 3 seeds of {MODELS} models whose D' differ",
        partial(_attacked, seeds=3),
        (COVERED,),
        300,
    ),
)
