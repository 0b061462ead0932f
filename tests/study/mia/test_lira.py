"""LiRA on Gaussian scores, whose best AUC is known, and against loops that do one thing at a time."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import digamma, polygamma
from scipy.stats import norm

from study.errors import BadInputError
from study.mia.audit import ATTACKS
from study.mia.lira import VARIANCE_FLOOR, VARIANCES, lira_offline, lira_offline_two_sided, lira_online
from tests.study.mia.scores import ONE_SIDED, ONLINE, TWO_SIDED, auc, gaussian, halves, reference_shadows, uneven


def reference_variance(of: list[list[np.ndarray]], variance: str) -> list[float]:
    """The variance of each sample from the scores of its shadows, [sample][shadow]."""
    squares = [sum((x - np.mean(scores)) ** 2 for x in scores) for scores in of]
    freedom = [len(scores) - 1 for scores in of]
    pooled = sum(squares) / sum(freedom)
    own = [max(s / d, VARIANCE_FLOOR * pooled) if d else math.nan for s, d in zip(squares, freedom, strict=True)]
    if variance == "pooled":
        return [pooled] * len(of)
    if variance == "per_example":
        return own
    known = [(math.log(v), d) for v, d in zip(own, freedom, strict=True) if d]
    logs = [value - digamma(d / 2) + math.log(d / 2) for value, d in known]
    excess = np.var(logs, ddof=1) - np.mean([polygamma(1, d / 2) for _, d in known])
    if excess <= 0:
        return [pooled] * len(of)
    d0 = 2 * brentq(lambda half: polygamma(1, half) - excess, 1e-6, 1e9, xtol=1e-14, rtol=1e-14)
    common = math.exp(np.mean(logs) + digamma(d0 / 2) - math.log(d0 / 2))
    return [(d0 * common + s) / (d0 + d) for s, d in zip(squares, freedom, strict=True)]


def reference_gaussian(phi: np.ndarray, chosen: np.ndarray, target: int, variance: str):
    """The mean and standard deviation of the shadows of each sample."""
    of = [[phi[model, j] for model in shadows] for j, shadows in enumerate(reference_shadows(chosen)[target])]
    return [np.mean(scores) for scores in of], np.sqrt(reference_variance(of, variance))


def reference_lira(phi: np.ndarray, member: np.ndarray, kind: str, variance: str) -> np.ndarray:
    found = np.empty(phi.shape)
    for target in range(len(phi)):
        mean_out, sd_out = reference_gaussian(phi, ~member, target, variance)
        for j in range(phi.shape[1]):
            z = (phi[target, j] - mean_out[j]) / sd_out[j]
            log_out = -(z**2) / 2 - math.log(sd_out[j]) - math.log(2 * math.pi) / 2
            found[target, j] = z if kind == "lira_offline" else -log_out
        if kind == "lira_online":
            mean_in, sd_in = reference_gaussian(phi, member, target, variance)
            for j in range(phi.shape[1]):
                z = (phi[target, j] - mean_in[j]) / sd_in[j]
                found[target, j] += -(z**2) / 2 - math.log(sd_in[j]) - math.log(2 * math.pi) / 2
    return found


KINDS: dict[str, Callable[..., np.ndarray]] = {
    "lira_online": lira_online,
    "lira_offline": lira_offline,
    "lira_offline_two_sided": lira_offline_two_sided,
}


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(3))
def test_lira_is_what_a_loop_computes(kind, variance, seed):
    phi, member = uneven(seed)
    expected = reference_lira(phi, member, kind, variance)
    np.testing.assert_allclose(KINDS[kind](phi, member, variance=variance), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("kind", KINDS)
def test_a_target_far_from_its_shadows_does_not_cost_them_their_digits(kind, variance):
    phi, member = uneven()
    phi = 50 + phi / 1000
    phi[2, 3], phi[5, 3], phi[0, 7] = 1e6, -1e6, 1e4
    expected = reference_lira(phi, member, kind, variance)
    np.testing.assert_allclose(KINDS[kind](phi, member, variance=variance), expected, rtol=1e-9, atol=1e-9)


def test_a_spread_that_chance_explains_is_shrunk_away():
    # Of 40 samples with one variance, the logs of the estimates spread less than expected in every other draw.
    found = []
    for seed in range(6):
        member = halves(8, 40, seed)
        phi = gaussian(member, seed=seed)
        found.append(np.abs(lira_online(phi, member) - lira_online(phi, member, "pooled")).max(axis=1))
        expected = reference_lira(phi, member, "lira_online", "shrunk")
        np.testing.assert_allclose(lira_online(phi, member), expected, rtol=1e-9, atol=1e-9)
    assert (np.concatenate(found) == 0).any()
    assert (np.concatenate(found) > 0).any()


@pytest.mark.parametrize("name", [*ONLINE, *ONE_SIDED])
def test_lira_is_not_misled_by_samples_that_differ(name):
    member = halves(120, 400)
    phi, best = gaussian(member, shift=1, between=5), norm.cdf(1 / math.sqrt(2))
    assert auc(ATTACKS[name](phi, member), member) == pytest.approx(best, abs=0.015)
    # One threshold is: the difference of a member and a non-member has 26 times the variance.
    assert auc(phi, member) == pytest.approx(norm.cdf(1 / math.sqrt(2 * 26)), abs=0.015)


@pytest.mark.parametrize("name", TWO_SIDED)
def test_two_sides_find_a_shift_less_well(name):
    # P(|N(d, 1)| > |N(0, 1)|), of which the product of sum and difference makes two independent signs.
    member, sign = halves(120, 400), norm.cdf(1 / math.sqrt(2))
    found = auc(ATTACKS[name](gaussian(member, shift=1), member), member)
    assert found == pytest.approx(sign**2 + (1 - sign) ** 2, abs=0.015)


@pytest.mark.parametrize("name", ONLINE)
@pytest.mark.parametrize("ratio", [3.0, 1 / 3])
def test_members_that_differ_in_their_variance_alone_are_found(name, ratio):
    # If either side took the other's variance, the ratio would be constant and the AUC at chance.
    member = halves(120, 400)
    phi, best = gaussian(member, ratio=ratio, between=5), 2 / math.pi * math.atan(max(ratio, 1 / ratio))
    assert auc(ATTACKS[name](phi, member), member) == pytest.approx(best, abs=0.015)


@pytest.mark.parametrize("variance", VARIANCES)
def test_the_variance_is_that_of_the_out_shadows_within_samples(variance):
    # Non-members' z-scores have a variance of 1 + 1/60; those IN have 9 times it, and between samples it is 900.
    member = halves(120, 400)
    z = lira_offline(gaussian(member, ratio=3, between=30), member, variance)
    assert z[~member].std() == pytest.approx(1, abs=0.03)
    assert z[member].std() == pytest.approx(3, abs=0.1)


def test_a_pooled_variance_gives_up_a_degree_of_freedom_for_each_mean():
    # With 2 shadows, dividing by their number would give a variance of 0.5 rather than 1.
    member = halves(6, 4000)
    z = lira_offline(gaussian(member), member, "pooled")
    assert np.mean(z**2) == pytest.approx(1 + 1 / 2, abs=0.04)


def test_shrinking_finds_more_than_either_extreme_where_shadows_are_few():
    member = halves(16, 4000)
    spread = np.exp(0.7 * np.random.default_rng(5).normal(size=4000))
    phi = spread * gaussian(member, shift=1.5)
    found = {variance: auc(lira_online(phi, member, variance), member) for variance in VARIANCES}
    assert found["shrunk"] > found["pooled"] + 0.003
    assert found["shrunk"] > found["per_example"] + 0.003


@given(shift=st.floats(-50, 50), scale=st.floats(0.1, 20))
@settings(max_examples=20)
def test_lira_looks_at_differences_in_units_of_their_spread(shift, scale):
    phi, member = uneven()
    for name in (*ONLINE, *ONE_SIDED):
        found = ATTACKS[name](scale * phi + shift, member)
        np.testing.assert_allclose(found, ATTACKS[name](phi, member), rtol=1e-7, atol=1e-7)


def test_extreme_margins_keep_their_order_in_the_one_sided_attack():
    member = halves(12, 50)
    phi = gaussian(member)
    phi[0, :4] = [300, 10, -60, -4000]
    found = lira_offline(phi, member, "pooled")[0, :4]
    assert (np.diff(found) < 0).all()


def test_a_variance_that_is_not_there_is_refused():
    member = np.repeat([[True], [True], [False], [False]], 5, axis=1)
    with pytest.raises(BadInputError, match="at least 2 shadows of some sample"):
        lira_online(gaussian(member), member)
    alike = np.tile(np.arange(5.0), (6, 1))
    with pytest.raises(BadInputError, match="there is no variance"):
        lira_online(alike, halves(6, 5))
