"""Planted records of networks with published weights: by default the numbers of the paper's Tables 5 and 10."""

from collections.abc import Callable

from analysis.report.published_tables import PUBLISHED_TABLES
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis.conftest import plan
from tests.analysis.planted import noise

Found = dict[str, float]
STANDARD = {"suite": "paper2019", "split": "test", "space": "standardized", "n": 50_000}


def of_the_paper(trial: Trial) -> Found:
    """What the paper's tables have of a trial."""
    settings = trial.settings()
    for table in PUBLISHED_TABLES:
        for row in table.rows:
            if ("source" in row.levels) == (trial.source != "none") and row.levels.items() <= settings.items():
                return {name: number[0] for name, number in zip(table.columns, row.numbers, strict=True) if number}
    return {}


def rows_of(trial: Trial, found: Found) -> list[dict]:
    """The rows of `robustness` of one member, and what else there is beside what is looked for."""
    if trial.source != "none":
        stated = {**STANDARD, "suite": "transfer", "perturbation": "bim", "norm": "linf", "source": trial.source}
        return [{**stated, "acc": found["transfer_acc"], "top5": found["transfer_top5"]}]
    pgd = {**STANDARD, "perturbation": "pgd", "norm": "linf", "epsilon": 0.01}
    return [
        {**STANDARD, "perturbation": "clean", "epsilon": 0.0, "top5": found["clean_top5"]},
        {**STANDARD, "perturbation": "noise", "epsilon": 0.5, "top5": 0.0},
        {**STANDARD, "perturbation": "noise", "epsilon": 0.25, "top5": found["noise_top5"]},
        {**pgd, "clip_low": -2.0, "clip_high": 2.0, "top5": found["pgd_linf_top5"]},
        {**pgd, "top5": 0.0},
        {**pgd, "norm": "l2", "clip_low": -2.0, "clip_high": 2.0, "top5": 0.0},
    ]


def record_published(
    results: Results, sweep: str, levels: Callable[[Trial], Found] = of_the_paper, scale: Scale = Scale.paper
) -> None:
    """Save the plan of a sweep and the records of its trials, of each seed a little more."""
    trials = SWEEPS[sweep].plan(scale).trials
    plan(results, trials, sweep)
    for trial in trials:
        tables: dict[str, list[dict]] = {"members": [], "epochs": [], "robustness": []}
        for number, seed in enumerate(trial.seed):
            identity = {"trial": trial.id, "member": number}
            # A little that is other in each trial, as no two networks are alike.
            little = noise(trial, seed, 1)[0] if len(trial.seed) > 1 else 0.0
            found = {name: value + 0.001 * little for name, value in levels(trial).items()}
            tables["members"].append({**identity, **describe(trial, seed), "status": "ok", "n_test": 2048})
            tables["robustness"] += [{**identity, **row} for row in rows_of(trial, found)]
        results.write(sweep, trial.id, tables)
