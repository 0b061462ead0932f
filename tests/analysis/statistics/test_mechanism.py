import numpy as np
import pandas as pd
import pytest

from analysis.statistics.mechanism import Curve, by_epoch, log_rate_ratio, log_speedup, mean_pulls, time_to_reach
from study.theory import margin_after

EPOCHS = np.array([0, 2, 4, 8, 16, 32])


def curve(*means: float, epochs: np.ndarray = EPOCHS) -> Curve:
    """Two samples around each mean margin, and gradient norms that count."""
    margins = np.array(means)[:, None] + np.array([-0.5, 0.5])
    return Curve(
        epochs[: len(means)], np.full(len(means), 3.0), margins, np.arange(margins.size).reshape(margins.shape)
    )


def flowing(rate: float, start: float, epochs: np.ndarray) -> Curve:
    """The margins of Eq. 27 from a start on, after they have fallen to it in the first two epochs."""
    return curve(start + 2, *(margin_after(rate, start, time) for time in epochs[1:] - epochs[1]), epochs=epochs)


def test_a_time_is_found_along_straight_lines():
    assert time_to_reach(curve(-2, -4, 0, 4), 2.0) == 6
    assert time_to_reach(curve(-2, -4, 0, 4), 2.0, since=1) == 4
    assert time_to_reach(curve(-2, -4), -2.0) == 0
    assert np.isnan(time_to_reach(curve(-2, -4), 0.0))


def test_an_arm_that_has_not_memorized_at_its_end_counts_with_its_end():
    fast, slow, never = curve(-2, -4, 0, 4), curve(-2, -4, -4, -4, 4), curve(-2, -4, -4, -4, -4, -3)
    assert log_speedup(fast, slow) == pytest.approx(np.log(12 / 4))
    assert log_speedup(fast, never) == pytest.approx(np.log(32 / 4))
    assert log_speedup(never, fast) == pytest.approx(-np.log(32 / 4))
    assert np.isnan(log_speedup(never, never))
    assert np.isnan(log_speedup(curve(1, 2), fast))


def test_rates_are_those_by_which_eq_28_was_followed_whatever_the_margins_fell_to():
    fine = np.arange(0, 202, 2)
    arm, reference = flowing(0.9, -3.0, fine), flowing(0.1, -5.0, fine)
    assert log_rate_ratio(arm, reference) == pytest.approx(np.log(9), rel=0.01)
    assert log_rate_ratio(reference, arm) == pytest.approx(-np.log(9), rel=0.01)
    assert np.isnan(log_rate_ratio(arm, curve(-6, -7, -6)))


def test_pairs_have_a_row_for_each_epoch_that_both_were_measured_at():
    pairs = pd.DataFrame(
        {"k": 0.1, "seed": [0, 1], "gamma_over_sigma_arm": [9.0, 9.0], "curve_arm": [curve(-2, -1, 0), None]}
    ).assign(curve_ref=[curve(-2, -3), curve(-2)])
    rows = by_epoch(pairs)
    assert rows[["seed", "measured_epoch", "gamma_over_sigma_arm"]].to_numpy().tolist() == [[0, 0, 3], [0, 2, 3]]
    assert rows["margins_arm"].map(list).tolist() == [[-2.5, -1.5], [-1.5, -0.5]]
    assert rows["norms_ref"].map(list).tolist() == [[0, 1], [2, 3]]
    assert by_epoch(pairs[1:]).empty


def test_epochs_that_some_networks_of_a_cell_had_no_more_are_left_out_of_it():
    arms = [curve(-2, -1, 0), curve(-2, -1), curve(-2, -1, 0)]
    pairs = pd.DataFrame({"k": [0.1, 0.1, 0.2], "seed": [0, 1, 0], "curve_arm": arms})
    rows = by_epoch(pairs.assign(curve_ref=[curve(-2, -3, -4)] * 3, gamma_over_sigma_arm=9.0))
    found = rows[["k", "seed", "measured_epoch"]].to_numpy().tolist()
    assert found == [[0.1, 0, 0], [0.1, 0, 2], [0.1, 1, 0], [0.1, 1, 2], [0.2, 0, 0], [0.2, 0, 2], [0.2, 0, 4]]


def test_what_pulls_at_gamma_is_a_mean_over_epochs_of_training():
    rows = [
        {"trial": "a", "member": 0, "depth": depth, "epoch": epoch, "share_out": share, "size_out": 1.0, "size_in": 1.0}
        for depth, shares in enumerate(((0.9, 0.2, 0.4), (0.9, 0.5, 0.7)))
        for epoch, share in zip((0, 1, 2), shares, strict=True)
    ]
    means = mean_pulls(pd.DataFrame(rows).assign(push_out=0.5))
    assert means["share_out"].tolist() == pytest.approx([0.3, 0.6])
