from collections import Counter

import pytest

from study.errors import BadInputError
from sweeps.memorization import quickstart
from sweeps.sweep import Scale, Sweep, balanced_fraction, product

GRID = product(k=(0.1, 0.3), norm=("batch", "none"), seed=range(3))


def sweep(*grids: object) -> Sweep:
    return Sweep(name="test", question="?", feeds="-", quick=grids or (GRID,), paper=(GRID,))


def test_a_product_crosses_every_axis_but_the_seeds_which_are_the_members_of_each_trial():
    trials = sweep().plan(Scale.quick).trials
    assert [(trial.k, trial.norm) for trial in trials] == [(0.1, "batch"), (0.1, "none"), (0.3, "batch"), (0.3, "none")]
    assert {trial.seed for trial in trials} == {(0, 1, 2)}


def test_a_single_value_stands_for_an_axis_of_one_level():
    assert product(lr=1e-3, dataset="digits", seed=4) == {"lr": (1e-3,), "dataset": ("digits",), "seed": (4,)}


def test_an_override_takes_the_place_of_an_axis_and_may_add_one():
    plan = sweep().plan(Scale.quick, {"k": [0.2], "lr": [1e-3, 1e-2], "seed": [7]})
    assert {(trial.k, trial.lr, trial.seed) for trial in plan.trials} == {(0.2, 1e-3, (7,)), (0.2, 1e-2, (7,))}
    assert (len(plan.trials), plan.members) == (4, 4)


def test_a_cell_that_two_grids_share_is_planned_once():
    assert len(sweep(GRID, product(k=0.1, norm=("batch", "group"), seed=range(3))).plan(Scale.quick).trials) == 5


def test_a_clean_cell_is_one_cell_whatever_the_corruption():
    plan = sweep(product(k=0, corruption=("label", "none"))).plan(Scale.quick)
    assert [trial.corruption for trial in plan.trials] == ["none"]


def test_an_override_that_does_not_fit_is_refused():
    with pytest.raises(BadInputError, match=r"k must be in \[0, 1\)"):
        sweep().plan(Scale.quick, {"k": [1.5]})


def test_the_scales_are_the_ones_that_the_sweep_states():
    assert {trial.dataset for trial in quickstart.SWEEP.plan(Scale.quick).trials} == {"digits"}
    paper = quickstart.SWEEP.plan(Scale.paper).trials
    assert {(trial.dataset, trial.lr, trial.batch_size, trial.epochs, trial.optimizer) for trial in paper} == {
        ("mnist", 1e-4, 256, 200, "adam")
    }


WIDE = product(norm=("batch", "none"), k=(0.1, 0.2, 0.3, 0.4), lr=(1e-4, 1e-3), batch_size=(8, 16, 32, 64), seed=(0, 1))


@pytest.mark.parametrize("parts", [2, 4])
def test_a_balanced_fraction_has_every_level_equally_often_and_every_arm(parts: int):
    cells = balanced_fraction(WIDE, "norm", parts)
    assert len(cells) == 64 / parts
    for axis in ("norm", "k", "lr", "batch_size"):
        assert len(set(Counter(cell[axis] for cell in cells).values())) == 1
    others = [tuple(value for name, value in cell.items() if name != "norm") for cell in cells]
    assert set(Counter(others).values()) == {2}


def test_a_fraction_that_cannot_be_balanced_is_refused():
    with pytest.raises(BadInputError, match="no balanced fraction of 1/3"):
        balanced_fraction(WIDE, "norm", 3)


@pytest.mark.parametrize("fraction", [0, -1, 0.4, 2])
def test_a_fraction_is_one_over_a_whole_number(fraction: float):
    with pytest.raises(BadInputError, match=r"such as 0\.25"):
        sweep(WIDE).plan(Scale.quick, fraction=fraction)


def test_a_fraction_of_a_plan_is_part_of_the_plan():
    whole, half = (sweep(WIDE).plan(Scale.quick, fraction=fraction) for fraction in (1, 0.5))
    assert len(half.trials) == len(whole.trials) / 2
    assert {trial.id for trial in half.trials} < {trial.id for trial in whole.trials}


DEPENDENT = tuple(product(batch_size=batch, lr=batch / 1000, norm=("batch", "none")) for batch in (8, 16))
"""Two grids whose learning rate depends on the batch size."""


def test_trials_of_some_levels_can_be_kept_where_an_override_would_cross_what_depends_on_one_another():
    kept = sweep(*DEPENDENT).plan(Scale.quick, only={"batch_size": [16], "norm": ["none"]})
    assert [(trial.batch_size, trial.lr, trial.norm) for trial in kept.trials] == [(16, 0.016, "none")]
    replaced = sweep(*DEPENDENT).plan(Scale.quick, {"batch_size": [16], "norm": ["none"]})
    assert {trial.lr for trial in replaced.trials} == {0.008, 0.016}


@pytest.mark.parametrize(
    ("only", "said"),
    [
        ({"batch_size": [32]}, "unknown batch_size of the sweep '32': choose from 16, 8"),
        ({"batch_size": [8], "lr": [0.016]}, "no trial of the sweep has all the levels"),
        ({"seed": [0]}, "name those by --set"),
    ],
)
def test_levels_that_no_trial_has_are_refused(only, said):
    with pytest.raises(BadInputError, match=said):
        sweep(*DEPENDENT).plan(Scale.quick, only=only)
