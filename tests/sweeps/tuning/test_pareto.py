import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sweeps.tuning.pareto import front, hypervolume, recommend, remark_without_gain

POINTS = arrays(np.float64, st.tuples(st.integers(0, 12), st.just(3)), elements=st.integers(0, 4).map(float))


def test_the_front_is_what_nothing_else_beats_and_keeps_equal_points():
    points = [[0, 2, 1], [1, 1, 1], [1, 1, 1], [1, 2, 1], [2, 0, 3], [0, 2, 2]]
    assert front(points).tolist() == [True, True, True, False, True, False]
    assert front(np.zeros((0, 3))).tolist() == []


@given(POINTS)
def test_the_front_is_what_its_definition_says(points: np.ndarray):
    dominated = [any((other <= point).all() and (other < point).any() for other in points) for point in points]
    assert front(points).tolist() == [not each for each in dominated]


def test_the_volume_of_a_hand_worked_case():
    # Boxes to (4, 4, 4) of 2*2*2 and 1*3*1, of which 1*2*1 is in both.
    assert hypervolume([[2, 2, 2], [3, 1, 3]], [4, 4, 4]) == 8 + 3 - 2
    assert hypervolume([[2, 2]], [4, 3]) == 2
    assert hypervolume([[1], [2]], [5]) == 4


@given(POINTS)
def test_the_volume_is_that_of_the_cells_it_covers(points: np.ndarray):
    # On whole numbers, space falls into unit cubes, each dominated whole or not at all.
    cells = np.stack(np.meshgrid(*[np.arange(4)] * 3), axis=-1).reshape(-1, 1, 3)
    covered = (points[None] <= cells).all(axis=2).any(axis=1).sum()
    assert hypervolume(points, [4, 4, 4]) == covered


def test_the_volume_agrees_with_monte_carlo():
    random = np.random.default_rng(0)
    points, reference = random.uniform(0, 1, (20, 3)), np.array([0.9, 1.0, 1.1])
    samples = random.uniform(0, reference, (200_000, 3))
    hit = np.zeros(len(samples), dtype=bool)
    for point in points:
        hit |= (point <= samples).all(axis=1)
    box = reference.prod()
    assert hypervolume(points, reference) == pytest.approx(hit.mean() * box, abs=5 * box / 2 / len(samples) ** 0.5)


def test_points_outside_the_reference_and_no_points_add_nothing():
    assert hypervolume([[1, 1, 1], [0, 0, 2], [0, 0, 5]], [2, 2, 2]) == 1
    assert hypervolume(np.zeros((0, 3)), [1, 1, 1]) == 0


@pytest.mark.parametrize("points", [[[0.0, np.nan, 1.0]], [0.0, 1.0, 2.0]])
def test_what_is_no_matrix_of_numbers_is_refused(points: list[object]):
    with pytest.raises(ValueError, match="points are"):
        front(points)
    with pytest.raises(ValueError, match="points are"):
        hypervolume(points, [1, 1, 1])


def test_a_reference_of_other_objectives_is_refused():
    with pytest.raises(ValueError, match="each of 3 objectives"):
        hypervolume([[0, 0, 0]], [1, 1])


def row(mem_acc: float, val_acc: float, val_mia_auc: float = 0.6, alpha: float = 0.9) -> dict[str, float]:
    return {"mem_acc": mem_acc, "val_acc": val_acc, "val_mia_auc": val_mia_auc, "alpha": alpha}


def test_what_memorizes_least_within_the_budget_is_recommended():
    rows = [row(0.9, 0.95), row(0.4, 0.94), row(0.1, 0.80)]
    assert recommend(rows, 0.95, 0.01) == rows[1]
    assert recommend(rows, 0.95, 0.2) == rows[2]
    assert recommend(rows, 0.99, 0.01) is None
    assert recommend([], 0.9, 0.01) is None


def test_a_setting_that_loses_exactly_the_budget_is_within_it():
    # 0.3 - 0.1 is above 0.2 in binary.
    assert recommend([row(0.5, 0.2)], 0.3, 0.1) is not None


def test_of_equal_memorization_the_lower_auc_is_taken_then_the_accuracy_and_then_the_weaker_intervention():
    rows = [row(0.4, 0.9, 0.60), row(0.4, 0.9, 0.55, 0.5), row(0.4, 0.9, 0.55, 0.99)]
    assert recommend(rows, 0.9, 0.0) == rows[2]
    assert recommend([*rows, row(0.4, 0.95, 0.55, 0.1)], 0.9, 0.0)["alpha"] == 0.1


def test_a_recommendation_that_gains_nothing_is_called_so():
    assert remark_without_gain(0.3, 0.31) == ""
    assert remark_without_gain(0.43, 0.31) == (
        "it memorizes more than norm=batch itself (0.430 against 0.310), so nothing was gained"
    )
    assert "memorizes as much as norm=batch itself" in remark_without_gain(0.3, 0.3)


@given(POINTS)
def test_what_is_recommended_is_in_the_front(points: np.ndarray):
    best = recommend([row(mem_acc, -loss, auc) for mem_acc, auc, loss in points], -2.0, 0.0)
    if best is not None:
        kept = points[front(points)].tolist()
        assert [best["mem_acc"], best["val_mia_auc"], -best["val_acc"]] in kept
