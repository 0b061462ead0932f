"""Members as `study.run` records them, with results that a test chooses."""

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from study.record.results import Results
from study.record.rows import describe
from study.record.schema import SCHEMAS
from study.trial import Trial
from sweeps.plan import Plan
from sweeps.sweep import Scale, Sweep, product

Outcome = Mapping[str, Any]
OutcomeOf = Callable[[Trial, int], Outcome]
"""What a member of a trial came to, by its seed: its metrics, or a status other than ok."""

DIVERGED: Outcome = {"status": "diverged", "error": "the loss is not finite"}


def grid(**axes: Any) -> tuple[Trial, ...]:
    """The trials of a full factorial, as a sweep has them."""
    return Sweep("mine", "?", "-", quick=(product(**axes),), paper=()).plan(Scale.quick).trials


def plausible(trial: Trial, seed: int) -> Outcome:
    """Metrics that depend on the arm, on k and on the seed; without corruption there is nothing to memorize."""
    noise = np.random.default_rng([seed, round(1000 * trial.k), len(trial.norm)]).normal(size=5)
    arm = {"batch": 0.9, "none": 0.1}.get(trial.norm, 0.5)
    return {
        "mem_acc": arm - 0.2 * trial.k + 0.01 * noise[0] if trial.k else None,
        "true_label_acc": 0.9 - arm + 0.01 * noise[1] if trial.k else None,
        "clean_acc": 0.9 + 0.01 * noise[2],
        "test_acc": 0.8 + 0.01 * noise[3],
        "mia_auc": 0.5 + 0.1 * arm + 0.01 * noise[4],
    }


def rows(trial: Trial, outcome: OutcomeOf = plausible) -> list[dict[str, Any]]:
    return [
        {"trial": trial.id, "member": member, **describe(trial, seed), "status": "ok", **outcome(trial, seed)}
        for member, seed in enumerate(trial.seed)
    ]


def frame(trials: Iterable[Trial], outcome: OutcomeOf = plausible) -> pd.DataFrame:
    found = [row for trial in trials for row in rows(trial, outcome)]
    members: pd.DataFrame = pa.Table.from_pylist(found, schema=SCHEMAS["members"]).to_pandas()
    return members


def plan(results: Results, trials: Iterable[Trial], sweep: str = "mine") -> None:
    Plan(sweep, 1, tuple(trials)).save(results)


def record(results: Results, trials: Iterable[Trial], outcome: OutcomeOf = plausible, sweep: str = "mine") -> None:
    for trial in trials:
        results.write(sweep, trial.id, {"members": rows(trial, outcome), "epochs": []})


def shard(results: Results, trial: Trial, sweep: str = "mine") -> Path:
    return Path(results.location) / sweep / "members" / f"{trial.id}.parquet"


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results.at(tmp_path / "results")
