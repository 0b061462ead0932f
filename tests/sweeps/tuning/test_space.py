from pathlib import Path
from typing import Any

import pytest

from study.errors import BadInputError
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from sweeps.tuning.space import DECIDED, OBJECTIVES, cells, check_name, recorded_objectives, storage_path


def test_each_dataset_architecture_and_k_is_a_tuning_of_its_own():
    found = cells({"k": [0.1, 0.2], "architecture": ["lenet", "vgg8"], "epochs": [3]}, fresh=2, tune_lr=False)
    assert [str(cell) for cell in found] == [
        "digits-lenet-k0.1",
        "digits-lenet-k0.2",
        "digits-vgg8-k0.1",
        "digits-vgg8-k0.2",
    ]
    assert {(cell.base.epochs, cell.base.seed, cell.base.norm) for cell in found} == {(3, (0, 1, 2), "batch")}
    assert len({cell.study("tpe", 0) for cell in found}) == 4


def test_a_study_has_another_name_wherever_what_it_keeps_fixed_is_another():
    def names(tune_lr: bool = False, seed: int = 0, **overrides: list[Any]) -> set[str]:
        (cell,) = cells(overrides, 2, tune_lr)
        return {cell.study(search, seed) for search in ("tpe", "random")}

    others = [names(tune_lr=True), names(seed=1), names(epochs=[3]), names(seed=2), names(subset=[500])]
    assert names() == names(epochs=[30])
    assert len(set.union(names(), *others)) == 12
    assert all(name.startswith(("regularizer/tpe/digits-lenet-k0.1-", "regularizer/random/")) for name in names())


def test_all_arms_train_on_the_same_samples_and_the_fresh_seeds_are_none_of_the_search():
    (cell,) = cells({"seed": [3, 7]}, fresh=4, tune_lr=False)
    recommended = cell.setting(0.1, "hinge")
    arms = cell.confirmation(recommended)
    assert {arm.seed for arm in arms} == {(8, 9, 10, 11)}
    everything = (*arms, *cell.references, recommended)
    assert {(trial.validation, trial.subset, trial.k, trial.epochs) for trial in everything} == {(0.2, 0, 0.1, 30)}
    changed = [
        {name: value for name, value in arm.settings().items() if value != arms[0].settings()[name]} for arm in arms
    ]
    assert changed == [
        {},
        {"norm": "none"},
        {"regularizer": "hinge", "alpha": 0.9},
        {"norm": "group"},
        {"weight_decay": 5e-4},
        {"stopping": "best"},
        {"label_smoothing": 0.1},
    ]
    assert cell.confirmation(None) == arms[:2] + arms[3:]


def test_a_suggestion_is_rounded_to_what_can_be_typed():
    (cell,) = cells({}, 2, tune_lr=True)
    setting = cell.setting(0.000123456, "log", 0.00123456)
    assert (setting.alpha, setting.lr) == (0.999877, 0.00123)
    assert cell.setting(0.5, "log").alpha == 0.5
    assert cell.setting(1e-4, "log", 1e-2).lr == 0.01


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        *[({name: [getattr(Trial(), name)]}, f"{name} is what the tuning decides") for name in DECIDED],
        ({"lr": [1e-3, 1e-2]}, "lr takes one level in a tuning"),
        ({"k": [0.0]}, "with k=0 nothing is atypical"),
        ({"architecture": ["vit"]}, "norm=batch"),
    ],
)
def test_what_cannot_be_tuned_is_refused(overrides: dict[str, list[Any]], sentence: str):
    with pytest.raises(BadInputError, match=sentence):
        cells(overrides, 2, tune_lr=False)


def test_a_learning_rate_is_either_set_or_searched():
    assert cells({"lr": [0.01]}, 2, tune_lr=False)[0].base.lr == 0.01
    with pytest.raises(BadInputError, match="lr is what the tuning decides"):
        cells({"lr": [0.01]}, 2, tune_lr=True)


def test_an_unknown_tuning_is_told_the_nearest():
    with pytest.raises(BadInputError, match="unknown tuning 'regulariser': did you mean 'regularizer'"):
        check_name("regulariser")


def test_studies_are_kept_in_a_local_folder(tmp_path: Path):
    assert storage_path(Results.at(tmp_path)) == tmp_path / "tune_regularizer" / "optuna.db"
    with pytest.raises(BadInputError, match="not to s3://bucket/prefix"):
        storage_path(Results.at("s3://bucket/prefix"))


GOOD = {"status": "ok", "mem_acc": 0.5, "val_mia_auc": 0.6, "val_acc": 0.9, "test_acc": 0.1}


@pytest.mark.parametrize(
    ("second", "expected"),
    [
        ({}, {"mem_acc": 0.5, "val_mia_auc": 0.6, "val_acc": 0.9}),
        ({"mem_acc": 0.7}, {"mem_acc": 0.6, "val_mia_auc": 0.6, "val_acc": 0.9}),
        ({"mem_acc": float("nan")}, None),
        ({"val_acc": None}, None),
        ({"status": "diverged", "mem_acc": None}, None),
        ({"status": "failed"}, None),
    ],
)
def test_objectives_are_means_over_members_that_all_have_them(
    tmp_path: Path, second: dict[str, Any], expected: dict[str, float] | None
):
    results, trial = Results.at(tmp_path), Trial(k=0.1, validation=0.2, seed=(0, 1))
    assert recorded_objectives(results, "tune", trial) is None
    rows = [
        {"trial": trial.id, "member": seed, **describe(trial, seed), **GOOD, **(second if seed else {})}
        for seed in trial.seed
    ]
    results.write("tune", trial.id, {"members": rows})
    found = recorded_objectives(results, "tune", trial)
    assert found == (expected and pytest.approx(expected))
    assert found is None or list(found) == list(OBJECTIVES)
