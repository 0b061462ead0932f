"""Intervals of means over targets: how often they hold the true one, and mean ROC curves."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from study.mia import intervals
from study.mia.intervals import NOTHING, Interval, mean_auc, mean_auc_difference, mean_roc, mean_tpr
from study.mia.roc import attack_metrics, tpr_at
from tests.study.mia.scores import coins, gaussian, halves

AT_99 = math.sqrt(2) * norm.ppf(0.99)
"""The shift at which Gaussian scores have an AUC of 0.99."""


def planted(member: np.ndarray, shift: float, common: float, seed: int) -> np.ndarray:
    """Scores of variance 1, of which a share is a sample's own and the same for all targets."""
    generator = np.random.default_rng([seed, 1])
    own = math.sqrt(common) * generator.normal(size=member.shape[1])
    return own + math.sqrt(1 - common) * generator.normal(size=member.shape) + shift * member


def coverage(found: list[Interval], true: float) -> float:
    return float(np.mean([each.low <= true <= each.high for each in found if each.low is not None]))


def weighted_auc(scores: np.ndarray, member: np.ndarray, weight: np.ndarray) -> float:
    inside, outside = scores[member][:, None], scores[~member][None]
    pairs = weight[member][:, None] * weight[~member][None]
    return float((pairs * ((inside > outside) + (inside == outside) / 2)).sum() / pairs.sum())


def test_an_auc_moves_with_the_weight_of_a_sample_as_it_is_said_to():
    member = halves(6, 80)
    scores = gaussian(member, shift=0.7, between=0.5).round(1)
    auc, influence = intervals._auc_influence(scores, member)
    for target in range(6):
        assert auc[target] == pytest.approx(roc_auc_score(member[target], scores[target]))
        for sample in range(80):
            weight = np.ones(80)
            weight[sample] += 1e-6
            change = (weighted_auc(scores[target], member[target], weight) - auc[target]) / 1e-6
            assert influence[target, sample] == pytest.approx(change, abs=1e-6)


def test_intervals_are_as_wide_as_the_estimate_varies():
    # All noise is that of single scores, which is in the variance once. Counted three times, half a width was 3 errors.
    found = []
    for seed in range(150):
        member = halves(12, 150, seed)
        found.append(mean_auc(planted(member, 0.4, 0.0, seed), member))
    spread = np.std([each.mean for each in found])
    width = np.mean([each.high - each.low for each in found])
    assert 1.8 < width / 2 / spread < 2.5


def test_intervals_hold_what_they_should():
    # Half of the samples give themselves away, the same ones to all targets: most of the error is in the samples.
    true, found = (0.5 + norm.cdf(3 / math.sqrt(2))) / 2, []
    for seed in range(150):
        member = halves(8, 100, seed)
        generator = np.random.default_rng(seed)
        exposed = generator.random(100) < 0.5
        found.append(mean_auc(generator.normal(size=(8, 100)) + 3 * member * exposed, member))
    assert 0.91 <= coverage(found, true) <= 0.995


@pytest.mark.parametrize("samples", [14, 30])
@pytest.mark.parametrize("common", [0.0, 0.5])
def test_small_groups_near_one_have_intervals_that_hold(samples, common):
    # With the bootstrap of before it was 0.84 to 0.96, its upper end 1 and its lower end often 1 as well.
    found = []
    for seed in range(200):
        member = halves(8, samples, seed)
        found.append(mean_auc(planted(member, AT_99, common, seed), member))
    assert coverage(found, 0.99) >= 0.93


def test_perfect_separation_has_an_interval():
    member = halves(6, 14)
    found = mean_auc(gaussian(member) + 100 * member, member)
    assert found.mean == found.high == 1
    # As Newcombe's method 5 has it of 7 against 7: the root of (1 - t)^2 = 1.96^2 V(t).
    assert 0.6 < found.low < 0.8
    more = mean_auc(gaussian(halves(6, 1400)) + 100 * halves(6, 1400), halves(6, 1400))
    assert found.low < more.low < 1
    assert more.low > 0.99
    turned = mean_auc(-(gaussian(member) + 100 * member), member)
    assert (turned.mean, turned.low, turned.high) == (0, 0, pytest.approx(1 - found.low))


def test_a_difference_near_one_has_an_interval_that_holds():
    found = []
    for seed in range(150):
        member = halves(12, 14, seed)
        sides = (planted(member, AT_99, 0.5, seed + shift) for shift in (0, 1000))
        found.append(mean_auc_difference(*sides, member))
    assert coverage(found, 0.0) >= 0.93
    member = halves(6, 14)
    both = mean_auc_difference(gaussian(member) + 100 * member, gaussian(member, seed=2) + 100 * member, member)
    assert both.low == -both.high < 0


def test_a_difference_is_paired():
    member = halves(10, 400)
    weak = gaussian(member, shift=0.5)
    strong = weak + 0.3 * member
    found = mean_auc_difference(strong, weak, member)
    apart = [mean_auc(strong, member), mean_auc(weak, member)]
    assert found.mean == pytest.approx(apart[0].mean - apart[1].mean)
    assert 0 < found.low < found.mean < found.high
    # The noise that the arms share cancels out.
    assert found.high - found.low < 0.5 * math.hypot(*(each.high - each.low for each in apart))
    turned = mean_auc_difference(weak, strong, member)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    same = mean_auc_difference(weak, weak, member)
    assert (same.mean, same.low, same.high) == (0, pytest.approx(0, abs=1e-3), pytest.approx(0, abs=1e-3))


def test_targets_without_members_or_non_members_are_left_out_and_counted():
    member = halves(4, 100)
    member[1], member[3] = True, False
    scores = gaussian(member, shift=1)
    found = mean_auc(scores, member)
    assert found.targets == 2
    assert found.mean == pytest.approx(np.mean([attack_metrics(scores[i], member[i]).auc for i in (0, 2)]))
    assert mean_auc(scores[[1, 3]], member[[1, 3]]) == NOTHING
    assert mean_auc_difference(scores[[1, 3]], scores[[1, 3]], member[[1, 3]]) == NOTHING
    assert mean_tpr(scores[[1, 3]], member[[1, 3]], 0.1) == NOTHING


def test_one_target_has_the_interval_of_its_samples():
    member = halves(2, 200)[:1]
    found = mean_auc(gaussian(member, shift=1), member)
    assert found.targets == 1
    assert 0.1 < found.high - found.low < 0.2


def test_rates_have_intervals_with_the_noise_of_their_thresholds():
    # Of 10 false positives the rate of a threshold has an error of a third, which is most of the error here.
    found, one = [], []
    for seed in range(40):
        member = halves(8, 2000, seed)
        scores = planted(member, 2, 0.5, seed)
        found.append(mean_tpr(scores, member, 0.01))
        one.append(mean_tpr(scores[:1], member[:1], 0.01))
    true = float(norm.cdf(norm.ppf(0.01) + 2))
    assert coverage(found, true) >= 0.85  # thresholds whose rate is below the nominal one count, too
    assert coverage(one, true) >= 0.85
    assert np.mean([each.high - each.low for each in one]) > 3 * 1.96 * math.sqrt(true * (1 - true) / 1000)


def test_a_rate_without_enough_non_members_is_missing_and_one_of_zero_has_an_interval():
    member = halves(6, 190)
    assert mean_tpr(gaussian(member), member, 0.001) == NOTHING
    scores = np.where(member, 0.0, 1.0) + 0.1 * gaussian(member)
    found = mean_tpr(scores, member, 0.02)
    assert found.mean == found.low == 0
    assert 0.02 < found.high < 0.06


def test_a_mean_curve_is_the_mean_of_the_targets_calibrated_thresholds():
    member = coins(4, 300)
    scores = gaussian(member, shift=1).round(1)
    found = mean_roc(scores, member, points=30)
    expected = np.mean(
        [
            tpr_at(np.sort(row[truth]), np.sort(row[~truth]), found.fpr)
            for row, truth in zip(scores, member, strict=True)
        ],
        axis=0,
    )
    np.testing.assert_allclose(found.tpr, expected)
    assert found.fpr[0] == pytest.approx(1 / ((~member).sum(axis=1).min() + 1))
    assert (found.fpr[-1], found.tpr[-1], found.targets) == (1, pytest.approx(1), 4)
    assert (np.diff(found.tpr) >= 0).all()
    assert ((found.low <= found.tpr) & (found.tpr <= found.high)).all()
    assert (found.high - found.low)[:-1].min() > 0.01


def test_a_curve_without_targets_is_empty():
    found = mean_roc(np.arange(6.0).reshape(2, 3), np.array([[True] * 3, [False] * 3]))
    assert (len(found.fpr), len(found.tpr), len(found.low), found.targets) == (0, 0, 0, 0)
