import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest

from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from sweeps.tuning.search import Search
from sweeps.tuning.space import CONFIRM, OBJECTIVES, SEARCHES, cells, storage_path
from sweeps.tuning.stages import Tuning, non_dominated

CELL = cells({"subset": [200], "epochs": [2], "seed": [0, 1]}, fresh=2, tune_lr=False)[0]


def record(results: Results, sweep: str, trial: Trial, mem_acc: float, val_acc: float) -> None:
    measured = {"status": "ok", "mem_acc": mem_acc, "val_mia_auc": 0.5, "val_acc": val_acc}
    rows = [{"trial": trial.id, "member": seed, **describe(trial, seed), **measured} for seed in trial.seed]
    results.write(sweep, trial.id, {"members": rows})


def suggest(results: Results, one_minus_alpha: float, **objectives: float) -> None:
    """Leave a measured setting in the storage of the first search, as Optuna keeps it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        study = optuna.create_study(
            storage=f"sqlite:///{storage_path(results)}",
            study_name=CELL.study("tpe", 0),
            directions=list(OBJECTIVES.values()),
            load_if_exists=True,
        )
        distributions: dict[str, Any] = {
            "one_minus_alpha": optuna.distributions.FloatDistribution(1e-4, 0.5, log=True),
            "kind": optuna.distributions.CategoricalDistribution(("log", "hinge")),
        }
        params = {"one_minus_alpha": one_minus_alpha, "kind": "log"}
        values = [objectives[name] for name in OBJECTIVES]
        study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, values=values))


def test_a_tuning_goes_from_its_references_over_its_searches_to_its_confirmation(tmp_path: Path):
    results = Results.at(tmp_path)
    tuning = Tuning(CELL, (Search(CELL, "tpe", 2, 0, results),), 0.05, results)
    # Nothing is done: two references, two settings, and all arms of the confirmation.
    assert (tuning.reference, tuning.recommended, [len(stage) for stage in tuning.remaining]) == (None, None, [2, 2, 7])

    for trial, mem_acc in zip(CELL.references, (0.9, 0.1), strict=True):
        record(results, SEARCHES["tpe"], trial, mem_acc, 0.9)
    assert tuning.reference == {"mem_acc": 0.9, "val_mia_auc": 0.5, "val_acc": 0.9}
    assert tuning.without == {"mem_acc": 0.1, "val_mia_auc": 0.5, "val_acc": 0.9}
    assert [len(stage) for stage in tuning.remaining] == [2, 7]

    # The second memorizes less, and loses more accuracy than it may.
    suggest(results, 0.1, mem_acc=0.5, val_mia_auc=0.5, val_acc=0.88)
    suggest(results, 0.2, mem_acc=0.2, val_mia_auc=0.5, val_acc=0.8)
    assert tuning.recommended == CELL.setting(0.1, "log")
    assert [len(stage) for stage in tuning.remaining] == [7]

    for arm in CELL.confirmation(tuning.recommended):
        record(results, CONFIRM, arm, 0.5, 0.9)
    assert tuning.remaining == []
    assert tuning.confirmation.counts == {"done": 7}


@pytest.mark.parametrize(("max_loss", "recommended"), [(0.0, None), (0.02, 0.1), (0.1, 0.2)])
def test_the_budget_of_accuracy_decides_what_is_recommended(tmp_path: Path, max_loss: float, recommended: float | None):
    results = Results.at(tmp_path)
    record(results, SEARCHES["tpe"], CELL.base, 0.9, 0.9)
    suggest(results, 0.1, mem_acc=0.5, val_mia_auc=0.5, val_acc=0.88)
    suggest(results, 0.2, mem_acc=0.2, val_mia_auc=0.5, val_acc=0.8)
    tuning = Tuning(CELL, (Search(CELL, "tpe", 2, 0, results),), max_loss, results)
    assert tuning.recommended == (recommended and CELL.setting(recommended, "log"))


def test_the_front_is_of_small_memorization_and_auc_and_large_accuracy():
    measurements = [
        {"trial": CELL.setting(share, "log"), "mem_acc": mem_acc, "val_mia_auc": 0.5, "val_acc": val_acc}
        for share, mem_acc, val_acc in ((0.1, 0.5, 0.9), (0.1, 0.5, 0.9), (0.2, 0.6, 0.8), (0.3, 0.1, 0.7))
    ]
    assert [row["mem_acc"] for row in non_dominated(measurements)] == [0.1, 0.5]
    assert non_dominated([]) == []
