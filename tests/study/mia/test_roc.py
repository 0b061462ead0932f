"""The measures of an attack against those of scikit-learn, and mean ROC curves."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from study.errors import BadInputError
from study.mia.roc import attack_metrics, mean_roc, metrics_by_group
from tests.study.mia.scores import coins, gaussian, halves, uneven

TIED = st.lists(st.tuples(st.integers(0, 12), st.booleans()), min_size=2, max_size=60)


@given(TIED)
def test_measures_are_those_of_sklearn(rows):
    scores, member = np.array([score for score, _ in rows], float), np.array([truth for _, truth in rows])
    found = attack_metrics(scores, member)
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
        return attack_metrics(np.array([score for score, _ in rows], float), np.array([truth for _, truth in rows]))

    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert of(rows) == of(sorted(rows)) == of(sorted(rows, reverse=True)) == of(shuffled)


def test_a_block_of_ties_is_taken_whole():
    # Two members and one non-member share the best score: nobody can have the members alone.
    for member in ([1, 1, 0, 1, 0], [0, 1, 1, 1, 0]):
        found = attack_metrics(np.array([9.0, 9, 9, 1, 0]), np.array(member, bool))
        assert found.tpr_at_0fp == 0
        assert found.auc == pytest.approx((0.5 + 0.5 + 0 + 1 + 1 + 1) / 6)
        assert found.balanced_acc == pytest.approx((1 + 0.5) / 2)
    constant = attack_metrics(np.full(5, 7.0), np.array([1, 1, 0, 1, 0], bool))
    assert (constant.auc, constant.balanced_acc, constant.tpr_at_0fp) == (0.5, 0.5, 0)


@pytest.mark.parametrize(
    ("others", "at_1e2", "at_1e3"), [(99, False, False), (100, True, False), (999, True, False), (1000, True, True)]
)
def test_a_rate_that_the_non_members_can_not_resolve_is_left_out(others, at_1e2, at_1e3):
    found = attack_metrics(np.arange(others + 5.0), np.arange(others + 5) >= others)
    assert (found.tpr_at_1e2fpr is not None, found.tpr_at_1e3fpr is not None) == (at_1e2, at_1e3)
    assert found.tpr_at_0fp == 1


@pytest.mark.parametrize("others", [100, 700, 2900, 5700])
def test_a_rate_that_is_met_exactly_is_within_bounds(others):
    # Just below a hundredth of the non-members lies a member, and below one non-member more another.
    allowed = others // 100
    scores = np.concatenate([np.arange(others), [others - allowed - 0.5, others - allowed - 1.5]])
    assert attack_metrics(scores, np.arange(others + 2) >= others).tpr_at_1e2fpr == 0.5


def test_groups_are_measured_as_if_alone():
    member = halves(6, 3000)
    groups = np.array(["clean", "corrupted", "ood"])[np.arange(3000) % 3]
    scores = gaussian(member, shift=1).round(2)
    found = metrics_by_group(scores, member, groups)
    assert list(found) == ["all", "clean", "corrupted", "ood"]
    for name, measures in found.items():
        inside = (groups == name) | (name == "all")
        assert measures == [
            attack_metrics(row[inside], truth[inside]) for row, truth in zip(scores, member, strict=True)
        ]


def test_a_group_without_members_says_so():
    member = halves(4, 40)
    groups = np.where(member[0], "corrupted", "clean")
    first = {name: measures[0] for name, measures in metrics_by_group(gaussian(member), member, groups).items()}
    assert first["corrupted"].auc is first["clean"].auc is None
    assert first["corrupted"].n_out == first["clean"].n_in == 0
    assert first["all"].auc is not None


def test_groups_that_do_not_fit_are_refused():
    phi, member = uneven()
    with pytest.raises(BadInputError, match="14 samples but groups of shape"):
        metrics_by_group(phi, member, np.full(13, "clean"))
    with pytest.raises(BadInputError, match="'all'"):
        metrics_by_group(phi, member, np.full(14, "all"))


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
