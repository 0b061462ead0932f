"""Importances from storages that Optuna writes."""

from pathlib import Path

import optuna
import pytest

from analysis.tuning import figures
from analysis.tuning.importance import FEWEST_TRIALS, importances
from study.errors import BadInputError
from study.record.results import Results
from sweeps.tuning.space import storage_url
from tests.analysis.figures.drawn import check_legible
from tests.analysis.tuning import test_tradeoff as tuned

TRIALS = [tuned.setting(kind, alpha) for alpha in (0.5, 0.7, 0.9, 0.99) for kind in ("log", "hinge")]


@pytest.fixture(params=["plain", "what? 100%20 #{0} 结果"])
def storage(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    folder = tmp_path / "storages" / request.param
    folder.mkdir(parents=True)
    return folder / "optuna.db"


def search(
    storage: Path, results: Results, count: int, name: str = "regularizer/tpe/digits-lenet-k0.1-0123abcd"
) -> None:
    """A study of so many settings: alpha alone decides what is memorized, the kind alone the accuracy."""
    study = optuna.create_study(
        storage=storage_url(storage), study_name=name, directions=["minimize", "minimize", "maximize"]
    )
    space = {
        "one_minus_alpha": optuna.distributions.FloatDistribution(1e-4, 0.5, log=True),
        "kind": optuna.distributions.CategoricalDistribution(("log", "hinge")),
    }
    tried = {}
    for trial in TRIALS[:count]:
        tried[trial] = (trial.alpha, 0.5, 0.9 if trial.regularizer == "log" else 0.8)
        params = {"one_minus_alpha": round(1 - trial.alpha, 9), "kind": trial.regularizer}
        made = {"params": params, "distributions": space, "user_attrs": {"trial": trial.id}}
        study.add_trial(optuna.trial.create_trial(values=list(tried[trial]), **made))
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.FAIL))
    tuned.write(results, tuned.REFERENCES | tried)


@pytest.fixture(autouse=True)
def quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.slow
def test_an_objective_hangs_on_what_decides_it(results: Results, storage: Path):
    search(storage, results, 8)
    (tuning,) = tuned.tuned_cells_of(results)
    table = importances(storage, [tuning])
    assert set(table["trials"]) == {8}
    assert set(table["title"]) == {"LeNet on digits, k = 10%"}
    shares = table.set_index(["objective", "parameter"])["importance"]
    assert shares["mem_acc", "one_minus_alpha"] > 0.9
    assert shares["val_acc", "kind"] > 0.9
    assert "val_mia_auc" not in set(table["objective"])  # it is the same for all
    assert importances(storage, [tuning]).equals(table)
    figure = figures.importance_figure(table)
    check_legible(figure)
    widths = [bar.get_width() for bar in figure.axes[0].patches if bar.get_width() == bar.get_width()]
    assert sorted(widths) == pytest.approx(sorted(table["importance"]))


def test_too_few_trials_tell_nothing(results: Results, storage: Path):
    search(storage, results, FEWEST_TRIALS - 1)
    assert importances(storage, tuned.tuned_cells_of(results)).empty


def test_studies_of_other_searches_are_left_alone(results: Results, storage: Path):
    search(storage, results, 8, "regularizer/random/digits-lenet-k0.1-01ab")
    assert importances(storage, tuned.tuned_cells_of(results)).empty


def test_what_is_no_storage_is_refused(results: Results, storage: Path):
    tuned.write(results, tuned.REFERENCES | tuned.SEARCHED)
    storage.write_bytes(b"no database" * 100)
    with pytest.raises(BadInputError, match="is no storage of Optuna's"):
        importances(storage, tuned.tuned_cells_of(results))
