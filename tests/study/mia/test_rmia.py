"""RMIA against a loop, and where probabilities round to 0 or 1."""

import math
from functools import partial

import numpy as np
import pytest
from scipy.special import expit

from study.errors import BadInputError
from study.mia.rmia import rmia_offline, rmia_online
from tests.study.mia.scores import gaussian, halves, reference_shadows, uneven


def reference_rmia(phi: np.ndarray, member: np.ndarray, online: bool, gamma: float, a: float = 0.3) -> np.ndarray:
    p, found = expit(phi), np.empty(phi.shape)
    inside, outside = reference_shadows(member), reference_shadows(~member)
    for target in range(len(phi)):
        ratios = []
        for j in range(phi.shape[1]):
            out = np.mean([p[model, j] for model in outside[target][j]])
            if online:
                expected = (out + np.mean([p[model, j] for model in inside[target][j]])) / 2
            else:
                expected = ((1 + a) * out + 1 - a) / 2
            ratios.append(p[target, j] / expected)
        for x, ratio in enumerate(ratios):
            found[target, x] = np.mean([ratio / other >= gamma for other in ratios])
    return found


@pytest.mark.parametrize("gamma", [1.0, 1.3, 2.0])
def test_rmia_is_what_a_loop_computes(gamma):
    phi, member = uneven()
    online, offline = rmia_online(phi, member, gamma), rmia_offline(phi, member, gamma)
    assert 0 < online.mean() < 1
    np.testing.assert_allclose(online, reference_rmia(phi, member, True, gamma), atol=1e-9)
    np.testing.assert_allclose(offline, reference_rmia(phi, member, False, gamma), atol=1e-9)
    for a in (0.0, 0.6, 1.0):
        expected = reference_rmia(phi, member, False, gamma, a)
        np.testing.assert_allclose(rmia_offline(phi, member, gamma, a), expected, atol=1e-9)


def saturated(target: list[float], shadows: float) -> tuple[np.ndarray, np.ndarray]:
    """One target, and four shadows, two IN and two OUT, with one score; only what the target has is of interest."""
    phi = np.full((5, len(target)), float(shadows))
    phi[0] = target
    phi[1:, -1] -= 1e-3  # not one score for all samples
    return phi, np.repeat([[False], [True], [True], [False], [False]], len(target), axis=1)


def test_rmia_tells_probabilities_that_round_to_one():
    phi, member = saturated([60, 80, 40, 70, 70], shadows=70)
    for attack in (partial(rmia_online, gamma=1), partial(rmia_offline, gamma=1, a=1)):
        assert np.argsort(attack(phi, member)[0][:4]).tolist() == [2, 0, 3, 1]
    # None of them is twice as likely as another.
    assert (rmia_online(phi, member, gamma=2)[0] == 0).all()
    phi, member = saturated([70, 70, 70, 70, 71], shadows=70)
    phi[1:, 0], phi[1:, 1] = 60, 80
    for attack in (partial(rmia_online, gamma=1), partial(rmia_offline, gamma=1, a=1)):
        assert attack(phi, member)[0].tolist() == [1, 0.2, 0.6, 0.6, 0.8]


def test_rmia_tells_probabilities_that_round_to_zero():
    phi, member = saturated([-790, -800, -810, -800.5, -800], shadows=-800)
    for attack in (partial(rmia_online, gamma=2), partial(rmia_offline, gamma=2, a=1)):
        # -790 is e^10 times as likely as expected, and twice as likely as all others; -800 is than -810.
        found = attack(phi, member)[0]
        assert found.tolist() == [0.8, 0.2, 0, 0.2, 0.2]


def test_a_target_that_is_certain_does_not_hide_shadows_that_are_not():
    # Beside the target's probability, those of the shadows are lost, and a subtraction would not bring them back. The
    # sample that is the least likely without being trained on has the largest ratio.
    phi, member = saturated([30, 30, 30, 30, 29], shadows=-60)
    phi[1:, 0] = -61
    for attack in (partial(rmia_online, gamma=1), partial(rmia_offline, gamma=1, a=1)):
        assert attack(phi, member)[0].tolist() == [1, 0.6, 0.6, 0.6, 0.8]


def test_ratios_are_not_tied_unless_gamma_asks_for_it():
    # Saturated as with batch norm: most probabilities lie within a factor of 2 of each other.
    member = halves(16, 500)
    phi = gaussian(member, shift=1, between=1) + 6
    for attack in (rmia_online, rmia_offline):
        share = {
            gamma: max(np.unique(row, return_counts=True)[1].max() for row in attack(phi, member, gamma)) / 500
            for gamma in (1.0, 2.0)
        }
        assert share[2.0] > 0.9
        assert max(np.unique(row, return_counts=True)[1].max() for row in attack(phi, member)) == 1


@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_a_population_of_its_own_is_what_the_samples_are_held_against(gamma):
    phi, member = uneven()
    z = np.random.default_rng(3).normal(size=(len(phi), 40))
    online, offline = (attack(phi, member, gamma, population=z) for attack in (rmia_online, rmia_offline))
    inside, outside = reference_shadows(member), reference_shadows(~member)
    for target in range(len(phi)):
        others = [model for model in range(len(phi)) if model != target]
        p_z = [np.mean([expit(z[model, j]) for model in others]) for j in range(40)]
        for j in range(14):
            p_in, p_out = (np.mean([expit(phi[m, j]) for m in side[target][j]]) for side in (inside, outside))
            ratio = expit(phi[target, j]) / ((p_in + p_out) / 2)
            found = np.mean([ratio / (expit(z[target, k]) / p_z[k]) >= gamma for k in range(40)])
            assert online[target, j] == pytest.approx(found)
            ratio = expit(phi[target, j]) / (0.65 * p_out + 0.35)
            of_z = [expit(z[target, k]) / (0.65 * p_z[k] + 0.35) for k in range(40)]
            assert offline[target, j] == pytest.approx(np.mean([ratio / each >= gamma for each in of_z]))


def test_a_population_of_other_models_is_refused():
    phi, member = uneven()
    with pytest.raises(BadInputError, match="a population has scores by model and sample"):
        rmia_online(phi, member, population=phi[1:])
    with pytest.raises(BadInputError, match="not finite"):
        rmia_offline(phi, member, population=np.full((len(phi), 3), math.nan))


@pytest.mark.parametrize("gamma", [0, -1, math.nan])
def test_a_gamma_that_is_not_above_zero_is_refused(gamma):
    with pytest.raises(BadInputError, match="gamma"):
        rmia_online(*uneven(), gamma)


@pytest.mark.parametrize("a", [-0.1, 1.1, math.nan])
def test_an_a_outside_its_range_is_refused(a):
    with pytest.raises(BadInputError, match="between 0 and 1"):
        rmia_offline(*uneven(), a=a)
