"""Bootstrap intervals of a mean AUC against the exact bootstrap, and how often they hold the true one."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from study.mia import intervals
from study.mia.intervals import Interval, mean_auc, mean_auc_difference
from study.mia.roc import attack_metrics
from tests.study.mia.scores import gaussian, halves


def weighted_auc(scores: np.ndarray, member: np.ndarray, weight: np.ndarray) -> float:
    inside, outside = scores[member][:, None], scores[~member][None]
    pairs = weight[member][:, None] * weight[~member][None]
    return float((pairs * ((inside > outside) + (inside == outside) / 2)).sum() / pairs.sum())


def test_the_linear_bootstrap_is_close_to_the_exact_one():
    member = halves(6, 300)
    scores = gaussian(member, shift=0.7, between=0.5).round(1)
    targets, samples = intervals._bootstrap_weights(np.arange(300), 6, 300, seed=7)
    exact = []
    for of_targets, of_samples in zip(targets, samples, strict=True):
        assert of_targets.sum() == 6
        assert of_samples.sum() == 300
        aucs = [weighted_auc(row, truth, of_samples) for row, truth in zip(scores, member, strict=True)]
        exact.append(np.mean(of_targets * aucs))
    linear = intervals._bootstrap_means(*intervals._auc_influence(scores, member), 7, 300)
    assert np.corrcoef(linear, exact)[0, 1] > 0.998
    assert np.std(linear) == pytest.approx(np.std(exact), rel=0.03)
    found = mean_auc(scores, member, seed=7, replicates=300)
    assert [found.low, found.high] == pytest.approx(np.quantile(exact, [0.025, 0.975]), abs=0.003)
    assert found.mean == pytest.approx(np.mean([roc_auc_score(t, r) for t, r in zip(member, scores, strict=True)]))


def test_intervals_hold_what_they_should():
    # Half of the samples give themselves away, the same ones to all targets: most of the error is in the samples.
    true = (0.5 + norm.cdf(3 / math.sqrt(2))) / 2
    held = 0
    for seed in range(60):
        member = halves(8, 100, seed)
        generator = np.random.default_rng(seed)
        exposed = generator.random(100) < 0.5
        found = mean_auc(generator.normal(size=(8, 100)) + 3 * member * exposed, member, replicates=200)
        assert found.low is not None
        held += found.low < true < found.high
    assert held >= 53


def test_an_interval_is_repeatable_and_depends_on_its_seed():
    member = halves(6, 200)
    scores = gaussian(member, shift=1)
    assert mean_auc(scores, member) == mean_auc(scores, member, seed=0, replicates=1000)
    assert mean_auc(scores, member) != mean_auc(scores, member, seed=1)


def test_a_difference_is_paired():
    member = halves(10, 400)
    weak = gaussian(member, shift=0.5)
    strong = weak + 0.3 * member
    found = mean_auc_difference(strong, weak, member)
    apart = [mean_auc(strong, member), mean_auc(weak, member, seed=1)]
    assert found.mean == pytest.approx(apart[0].mean - apart[1].mean)
    assert 0 < found.low < found.mean < found.high
    # The noise that the arms share cancels out.
    assert found.high - found.low < 0.5 * math.hypot(*(each.high - each.low for each in apart))
    turned = mean_auc_difference(weak, strong, member)
    assert (turned.low, turned.high) == (pytest.approx(-found.high), pytest.approx(-found.low))
    same = mean_auc_difference(weak, weak, member)
    assert (same.mean, same.low, same.high) == (0, 0, 0)


def test_targets_without_members_or_non_members_are_left_out_and_counted():
    member = halves(4, 100)
    member[1], member[3] = True, False
    scores = gaussian(member, shift=1)
    found = mean_auc(scores, member)
    assert found.targets == 2
    assert found.mean == pytest.approx(np.mean([attack_metrics(scores[i], member[i]).auc for i in (0, 2)]))
    assert mean_auc(scores[[1, 3]], member[[1, 3]]) == Interval(None, None, None, 0)


def test_an_interval_stays_among_the_aucs_that_there_are():
    is_member = np.arange(8) < 4
    nearly = np.array([[5, 6, 7, 3, 4, 0, 1, 2], [5, 6, 7, 8, 4, 0, 1, 2]], dtype=float)
    members = np.stack([is_member] * 2)
    found = mean_auc(nearly, members)
    assert found.high == 1
    assert mean_auc(-nearly, members).low == 0
    assert mean_auc_difference(nearly, -nearly, members).high == 1
