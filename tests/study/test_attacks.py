"""What attacks achieve, against sklearn and against hands that count."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from study import attacks
from study.attacks import mean_auc, mean_auc_difference, mean_roc, measure, measure_groups
from study.errors import BadInputError


def halves(models: int, samples: int, seed: int = 0) -> np.ndarray:
    """Each sample is IN for exactly half of the models."""
    return np.random.default_rng(seed).random((models, samples)).argsort(axis=0) < models // 2


def coins(models: int, samples: int, seed: int = 0) -> np.ndarray:
    """Each sample is IN for each model or isn't, as a coin falls."""
    return np.random.default_rng(seed).random((models, samples)) < 0.5


def gaussian(member: np.ndarray, shift: float = 0.0, ratio: float = 1.0, between: float = 0.0, seed: int = 1):
    """N(mu, 1) for those OUT and N(mu + shift, ratio^2) for those IN, where mu is N(0, between^2) by sample."""
    generator = np.random.default_rng(seed)
    mu = between * generator.normal(size=member.shape[1])
    noise = generator.normal(size=member.shape)
    return mu + np.where(member, shift + ratio * noise, noise)


def uneven(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of samples that differ in mean and in spread, and memberships that are not balanced."""
    generator = np.random.default_rng(seed)
    member = np.concatenate([halves(6, 14, seed), coins(3, 14, seed)])
    spread = np.exp(generator.normal(size=14))
    return 3 * generator.normal(size=14) + member + spread * generator.normal(size=member.shape), member


# Measures

TIED = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60)


@given(TIED)
def test_measures_are_those_of_sklearn(rows):
    scores, member = np.array([score for score, _ in rows], float), np.array([truth for _, truth in rows])
    found = measure(scores, member)
    assert (found.n_in, found.n_out) == (member.sum(), (~member).sum())
    if member.all() or not member.any():
        assert found.auc is found.balanced_acc is found.tpr_at_0fp is None
        return
    fpr, tpr, thresholds = roc_curve(member, scores, drop_intermediate=False)
    assert found.auc == pytest.approx(roc_auc_score(member, scores))
    assert found.balanced_acc == pytest.approx(
        max(balanced_accuracy_score(member, scores >= threshold) for threshold in thresholds)
    )
    assert found.tpr_at_0fp == tpr[fpr == 0].max()


@given(TIED, st.randoms())
def test_the_order_within_a_block_of_ties_does_not_matter(rows, random):
    def of(rows: list[tuple[int, bool]]) -> Any:
        return measure(np.array([score for score, _ in rows], float), np.array([truth for _, truth in rows]))

    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert of(rows) == of(sorted(rows)) == of(sorted(rows, reverse=True)) == of(shuffled)


def test_a_block_of_ties_is_taken_whole():
    # Two members and one non-member share the best score: nobody can have the members alone.
    for member in ([1, 1, 0, 1, 0], [0, 1, 1, 1, 0]):
        found = measure(np.array([9.0, 9, 9, 1, 0]), np.array(member, bool))
        assert found.tpr_at_0fp == 0
        assert found.auc == pytest.approx((0.5 + 0.5 + 0 + 1 + 1 + 1) / 6)
        assert found.balanced_acc == pytest.approx((1 + 0.5) / 2)
    constant = measure(np.full(5, 7.0), np.array([1, 1, 0, 1, 0], bool))
    assert (constant.auc, constant.balanced_acc, constant.tpr_at_0fp) == (0.5, 0.5, 0)


@pytest.mark.parametrize(
    ("others", "at_1e2", "at_1e3"), [(99, False, False), (100, True, False), (999, True, False), (1000, True, True)]
)
def test_a_rate_that_the_non_members_can_not_resolve_is_left_out(others, at_1e2, at_1e3):
    found = measure(np.arange(others + 5.0), np.arange(others + 5) >= others)
    assert (found.tpr_at_1e2fpr is not None, found.tpr_at_1e3fpr is not None) == (at_1e2, at_1e3)
    assert found.tpr_at_0fp == 1


@pytest.mark.parametrize("others", [100, 700, 2900, 5700])
def test_a_rate_that_is_met_exactly_is_within_bounds(others):
    # Just below a hundredth of the non-members lies a member, and below one non-member more another.
    allowed = others // 100
    scores = np.concatenate([np.arange(others), [others - allowed - 0.5, others - allowed - 1.5]])
    assert measure(scores, np.arange(others + 2) >= others).tpr_at_1e2fpr == 0.5


def test_groups_are_measured_as_if_alone():
    member = halves(6, 3000)
    groups = np.array(["clean", "corrupted", "ood"])[np.arange(3000) % 3]
    scores = gaussian(member, shift=1).round(2)
    found = measure_groups(scores, member, groups)
    assert list(found) == ["all", "clean", "corrupted", "ood"]
    for name, measures in found.items():
        inside = (groups == name) | (name == "all")
        assert measures == [measure(row[inside], truth[inside]) for row, truth in zip(scores, member, strict=True)]


def test_a_group_without_members_says_so():
    member = halves(4, 40)
    groups = np.where(member[0], "corrupted", "clean")
    first = {name: measures[0] for name, measures in measure_groups(gaussian(member), member, groups).items()}
    assert first["corrupted"].auc is first["clean"].auc is None
    assert first["corrupted"].n_out == first["clean"].n_in == 0
    assert first["all"].auc is not None


def test_groups_that_do_not_fit_are_refused():
    phi, member = uneven()
    with pytest.raises(BadInputError, match="14 samples but groups of shape"):
        measure_groups(phi, member, np.full(13, "clean"))
    with pytest.raises(BadInputError, match="'all'"):
        measure_groups(phi, member, np.full(14, "all"))


# Mean curves


def test_a_mean_curve_is_the_mean_of_the_targets_best_thresholds():
    member = coins(4, 300)
    scores = gaussian(member, shift=1).round(1)
    found = mean_roc(scores, member, points=30)
    expected = np.zeros(30)
    for row, truth in zip(scores, member, strict=True):
        fpr, tpr, _ = roc_curve(truth, row, drop_intermediate=False)
        expected += [tpr[fpr <= bound].max() / 4 for bound in found.fpr]
    np.testing.assert_allclose(found.tpr, expected)
    assert found.fpr[0] == pytest.approx(1 / (~member).sum(axis=1).min())
    assert (found.fpr[-1], found.tpr[-1], found.targets) == (1, pytest.approx(1), 4)
    assert (np.diff(found.tpr) >= 0).all()


def test_a_curve_without_targets_is_empty():
    found = mean_roc(np.arange(6.0).reshape(2, 3), np.array([[True] * 3, [False] * 3]))
    assert (len(found.fpr), len(found.tpr), found.targets) == (0, 0, 0)


# Intervals


def weighted_auc(scores: np.ndarray, member: np.ndarray, weight: np.ndarray) -> float:
    inside, outside = scores[member][:, None], scores[~member][None]
    pairs = weight[member][:, None] * weight[~member][None]
    return float((pairs * ((inside > outside) + (inside == outside) / 2)).sum() / pairs.sum())


def test_the_linear_bootstrap_is_close_to_the_exact_one():
    member = halves(6, 300)
    scores = gaussian(member, shift=0.7, between=0.5).round(1)
    targets, samples = attacks._weights(np.arange(300), 6, 300, seed=7)
    exact = []
    for of_targets, of_samples in zip(targets, samples, strict=True):
        assert of_targets.sum() == 6
        assert of_samples.sum() == 300
        aucs = [weighted_auc(row, truth, of_samples) for row, truth in zip(scores, member, strict=True)]
        exact.append(np.mean(of_targets * aucs))
    linear = attacks._replicated(*attacks._linearized(scores, member), 7, 300)
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
    assert found.mean == pytest.approx(np.mean([measure(scores[i], member[i]).auc for i in (0, 2)]))
    assert mean_auc(scores[[1, 3]], member[[1, 3]]) == attacks.Interval(None, None, None, 0)
