"""The measures of an attack against those of scikit-learn, and the false positive rate of its thresholds."""

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from study.errors import BadInputError
from study.mia.roc import attack_metrics, metrics_by_group, tied_share, tpr_at
from tests.study.mia.scores import gaussian, halves, uneven

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
    ("others", "at_1e2", "at_1e3"), [(98, False, False), (99, True, False), (998, True, False), (999, True, True)]
)
def test_a_rate_that_the_non_members_can_not_resolve_is_left_out(others, at_1e2, at_1e3):
    found = attack_metrics(np.arange(others + 5.0), np.arange(others + 5) >= others)
    assert (found.tpr_at_1e2fpr is not None, found.tpr_at_1e3fpr is not None) == (at_1e2, at_1e3)
    assert found.tpr_at_0fp == 1


@pytest.mark.parametrize("others", [99, 699, 2899, 5699])
def test_a_rate_that_is_met_exactly_is_within_bounds(others):
    # Around the non-member whose rank is a hundredth of their number plus one lie two members.
    rank = (others + 1) // 100
    scores = np.concatenate([np.arange(others), [others - rank + 0.5, others - rank - 0.5]])
    assert attack_metrics(scores, np.arange(others + 2) >= others).tpr_at_1e2fpr == 0.5


@pytest.mark.parametrize(("others", "fpr"), [(99, 0.01), (250, 0.01), (1000, 0.01), (999, 0.001), (3500, 0.001)])
def test_a_threshold_has_the_false_positive_rate_that_it_is_chosen_for(others, fpr):
    # Of uniform scores, the rate of members above the threshold is what a threshold of that false positive rate gives:
    # the members are distributed as the non-members. Chosen by the rate that is seen, it is up to twice as large.
    generator = np.random.default_rng(others)
    found = [
        tpr_at(np.linspace(0, 1, 100_001), np.sort(generator.random(others)), np.array([fpr]))[0] for _ in range(400)
    ]
    expected = math.floor(fpr * (others + 1) + 1e-9) / (others + 1)
    assert np.mean(found) == pytest.approx(expected, abs=4 * np.std(found) / 20)
    assert expected <= fpr + 1e-12


def test_ties_are_counted_by_pairs():
    scores = np.array([[1.0, 1, 1, 0, 2, 3], [0, 1, 2, 3, 4, 5]])
    member = np.array([[True, True, False, False, True, False]] * 2)
    assert tied_share(scores, member) == pytest.approx((2 / 9 + 0) / 2)
    assert np.isnan(tied_share(scores, np.full((2, 6), True)))


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
