"""The audit on Gaussian scores, whose best AUC is known, and against loops that do one thing at a time."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq
from scipy.special import digamma, expit, polygamma
from scipy.stats import norm
from sklearn.metrics import balanced_accuracy_score, roc_auc_score, roc_curve

from study.errors import BadInputError
from study.mia import intervals, roc
from study.mia.audit import ATTACKS, audit
from study.mia.counterfactual import counterfactual_memorization
from study.mia.intervals import mean_auc, mean_auc_difference
from study.mia.lira import VARIANCE_FLOOR, VARIANCES, lira_offline, lira_offline_two_sided, lira_online
from study.mia.rmia import rmia_offline, rmia_online
from study.mia.roc import mean_roc, measure, measure_groups

ONLINE = [name for name in ATTACKS if name.startswith("lira_online")]
ONE_SIDED = [name for name in ATTACKS if name.startswith("lira_offline") and "two_sided" not in name]
TWO_SIDED = [name for name in ATTACKS if "two_sided" in name]
RMIA = ["rmia_online", "rmia_offline"]
PER_EXAMPLE = [name for name in ATTACKS if name.endswith("per_example")]


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


def auc(scores: np.ndarray, member: np.ndarray) -> float:
    found = mean_auc(scores, member, replicates=1).mean
    assert found is not None
    return found


# Against loops


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
    shadows = [model for model in range(len(phi)) if model != target]
    of = [[phi[model, j] for model in shadows if chosen[model, j]] for j in range(phi.shape[1])]
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


def reference_rmia(phi: np.ndarray, member: np.ndarray, online: bool, gamma: float, a: float = 0.3) -> np.ndarray:
    p, found = expit(phi), np.empty(phi.shape)
    for target in range(len(phi)):
        ratios = []
        for j in range(phi.shape[1]):
            shadows = [model for model in range(len(phi)) if model != target]
            out = np.mean([p[model, j] for model in shadows if not member[model, j]])
            if online:
                expected = (out + np.mean([p[model, j] for model in shadows if member[model, j]])) / 2
            else:
                expected = ((1 + a) * out + 1 - a) / 2
            ratios.append(p[target, j] / expected)
        for x, ratio in enumerate(ratios):
            found[target, x] = np.mean([ratio / other >= gamma for other in ratios])
    return found


KINDS: dict[str, Callable[..., np.ndarray]] = {
    "lira_online": lira_online,
    "lira_offline": lira_offline,
    "lira_offline_two_sided": lira_offline_two_sided,
}


def uneven(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Scores of samples that differ in mean and in spread, and memberships that are not balanced."""
    generator = np.random.default_rng(seed)
    member = np.concatenate([halves(6, 14, seed), coins(3, 14, seed)])
    spread = np.exp(generator.normal(size=14))
    return 3 * generator.normal(size=14) + member + spread * generator.normal(size=member.shape), member


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


def test_scores_in_float32_are_attacked_in_float64():
    phi, member = uneven()
    for attack in ATTACKS.values():
        found = attack(phi.astype(np.float32), member)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, attack(phi.astype(np.float32).astype(np.float64), member))


# Where the best AUC is known


@pytest.mark.parametrize("name", ["global_threshold", *ONLINE, *ONE_SIDED, *RMIA])
def test_a_shift_is_found_as_well_as_it_can_be(name):
    # With 60 shadows on each side; the standard error is 0.003.
    member = halves(120, 400)
    best = norm.cdf(1 / math.sqrt(2))
    assert auc(ATTACKS[name](gaussian(member, shift=1), member), member) == pytest.approx(best, abs=0.015)


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
    # With 2 or 3 shadows, dividing by their number would give a variance of 0.6 rather than 1.
    member = halves(6, 4000)
    z = lira_offline(gaussian(member), member, "pooled")
    expected = 1 + np.where(member, 1 / 3, 1 / 2)
    assert np.mean(z**2 / expected) == pytest.approx(1, abs=0.03)


def test_shrinking_finds_more_than_either_extreme_where_shadows_are_few():
    member = halves(16, 4000)
    spread = np.exp(0.7 * np.random.default_rng(5).normal(size=4000))
    phi = spread * gaussian(member, shift=1.5)
    found = {variance: auc(lira_online(phi, member, variance), member) for variance in VARIANCES}
    assert found["shrunk"] > found["pooled"] + 0.003
    assert found["shrunk"] > found["per_example"] + 0.003


# Nothing to find


def discrete(member: np.ndarray, kind: str) -> np.ndarray:
    noise = gaussian(member, between=1, seed=3)
    if kind == "continuous":
        return noise
    return noise.round() if kind == "with ties" else np.where(noise > 1.5, 3.0, -3.0)


@pytest.mark.parametrize("kind", ["continuous", "with ties", "of two values"])
@pytest.mark.parametrize("name", ATTACKS)
def test_nothing_is_found_where_there_is_nothing(name, kind):
    member = coins(30, 1000)
    scores = discrete(member, kind)
    found = mean_auc(ATTACKS[name](scores, member), member, replicates=300)
    assert found.low is not None
    assert found.low < 0.5 < found.high
    assert found.high - found.low < 0.03


@pytest.mark.parametrize(("models", "short"), [(32, 0.2 * 16**-1.5), (8, 0.2 * 4**-1.5)])
def test_online_lira_falls_short_of_chance_on_balanced_halves_by_as_much_as_it_says(models, short):
    member = halves(models, 80_000 // models)
    found = {name: auc(attack(gaussian(member), member), member) for name, attack in ATTACKS.items()}
    assert found["lira_online/pooled"] == pytest.approx(0.5 - short, abs=0.004)
    assert all(found[name] < 0.5 for name in ONLINE)
    for name in ("global_threshold", *ONE_SIDED, *RMIA):
        assert found[name] == pytest.approx(0.5, abs=0.006)


# Direction, symmetry and order


@pytest.mark.parametrize("name", ATTACKS)
def test_members_have_the_larger_scores(name):
    member = halves(16, 300)
    assert auc(ATTACKS[name](gaussian(member, shift=2, between=0.5), member), member) > 0.65


@pytest.mark.parametrize("name", ATTACKS)
def test_turning_the_sign_turns_what_looks_at_one_side(name):
    member = halves(12, 200)
    phi = gaussian(member, shift=1, between=1)
    plain, turned = ATTACKS[name](phi, member), ATTACKS[name](-phi, member)
    if name in ("global_threshold", *ONE_SIDED):
        np.testing.assert_allclose(turned, -plain)
        assert auc(turned, member) == pytest.approx(1 - auc(plain, member))
    elif name in RMIA:
        assert auc(turned, member) < 0.45
    else:
        # A likelihood ratio doesn't mind which of the two is larger; two-sided tests don't either.
        np.testing.assert_allclose(turned, plain)


def test_swapping_in_and_out_turns_the_attacks_that_treat_them_alike():
    member = halves(12, 200)
    phi = gaussian(member, shift=1, between=1)
    for name in ("global_threshold", "rmia_online"):
        plain, swapped = ATTACKS[name](phi, member), ATTACKS[name](phi, ~member)
        np.testing.assert_allclose(swapped, plain)
        assert auc(swapped, ~member) == pytest.approx(1 - auc(plain, member))
    for name in ONLINE:
        # The ratio is turned over with the truth, so that it finds those who now are called members.
        plain, swapped = ATTACKS[name](phi, member), ATTACKS[name](phi, ~member)
        np.testing.assert_allclose(swapped, -plain, atol=1e-9)
        assert auc(swapped, ~member) == pytest.approx(auc(plain, member))
        assert auc(swapped, member) == pytest.approx(1 - auc(plain, member))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_neither_the_order_of_models_nor_that_of_samples_matters(seed):
    phi, member = uneven()
    generator = np.random.default_rng(seed)
    at = np.ix_(generator.permutation(len(phi)), generator.permutation(phi.shape[1]))
    for attack in ATTACKS.values():
        np.testing.assert_allclose(attack(phi[at], member[at]), attack(phi, member)[at], rtol=1e-9, atol=1e-9)


@given(shift=st.floats(-50, 50), scale=st.floats(0.1, 20))
@settings(max_examples=20)
def test_lira_looks_at_differences_in_units_of_their_spread(shift, scale):
    phi, member = uneven()
    for name in (*ONLINE, *ONE_SIDED):
        found = ATTACKS[name](scale * phi + shift, member)
        np.testing.assert_allclose(found, ATTACKS[name](phi, member), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("name", ATTACKS)
def test_what_the_target_says_enters_its_own_score_alone(name):
    phi, member = uneven()
    target, sample = 3, 5
    attack, moved = ATTACKS[name], phi.copy()
    phi[target, sample] -= 4
    moved[target, sample] += 4
    before, after = attack(phi, member)[target], attack(moved, member)[target]
    others = np.arange(phi.shape[1]) != sample
    # In RMIA the sample is one of those that others are compared with.
    assert np.abs(after - before)[others].max() <= (1 / phi.shape[1] + 1e-12 if name in RMIA else 0)
    assert after[sample] != before[sample]
    other_target = 0
    if name != "global_threshold" and name not in RMIA and (name not in ONE_SIDED or not member[target, sample]):
        assert (attack(moved, member) != attack(phi, member))[other_target, sample]


def test_the_target_is_not_among_its_shadows():
    phi, member = uneven()

    def found(attack: Callable[..., np.ndarray], value: float) -> float:
        phi[3, 5] = value
        return float(attack(phi, member)[3, 5])

    for name in ONE_SIDED:
        values = [found(ATTACKS[name], value) for value in (0, 1, 2)]
        assert values[2] - values[1] == pytest.approx(values[1] - values[0], rel=1e-9)
    for name in (*ONLINE, *TWO_SIDED):
        first, second, third, fourth = (found(ATTACKS[name], value) for value in (0, 1, 2, 3))
        assert fourth - 3 * third + 3 * second - first == pytest.approx(0, abs=1e-8)


# Where floats end


def test_extreme_margins_keep_their_order_in_the_one_sided_attack():
    member = halves(12, 50)
    phi = gaussian(member)
    phi[0, :4] = [300, 10, -60, -4000]
    found = lira_offline(phi, member, "pooled")[0, :4]
    assert (np.diff(found) < 0).all()


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
    assert (rmia_online(phi, member)[0] == 0).all()
    phi, member = saturated([70, 70, 70, 70, 71], shadows=70)
    phi[1:, 0], phi[1:, 1] = 60, 80
    for attack in (partial(rmia_online, gamma=1), partial(rmia_offline, gamma=1, a=1)):
        assert attack(phi, member)[0].tolist() == [1, 0.2, 0.6, 0.6, 0.8]


def test_rmia_tells_probabilities_that_round_to_zero():
    phi, member = saturated([-790, -800, -810, -800.5, -800], shadows=-800)
    for attack in (rmia_online, partial(rmia_offline, a=1)):
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


def test_shadows_that_agree_to_the_last_bit_make_no_one_infinitely_certain():
    member = halves(12, 50)
    phi = gaussian(member)
    phi[:, 0] = 3
    for name in ATTACKS:
        assert np.isfinite(ATTACKS[name](phi, member)).all()


# What is refused


@pytest.mark.parametrize("name", ATTACKS)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_scores_that_are_not_finite_are_refused(name, value):
    phi, member = uneven()
    phi[1, 2] = value
    with pytest.raises(BadInputError, match="not finite"):
        ATTACKS[name](phi, member)
    with pytest.raises(BadInputError, match="not finite"):
        mean_auc(phi, member)


@pytest.mark.parametrize("name", ATTACKS)
def test_a_model_that_tells_nothing_apart_is_refused(name):
    phi, member = uneven()
    phi[4] = 1.5
    with pytest.raises(BadInputError, match=r"model 4 has the same score on every sample"):
        ATTACKS[name](phi, member)


@pytest.mark.parametrize("name", ATTACKS)
def test_shapes_that_do_not_match_are_refused(name):
    phi, member = uneven()
    with pytest.raises(BadInputError, match="don't match"):
        ATTACKS[name](phi, member[:, 1:])
    with pytest.raises(BadInputError, match="by model and sample"):
        ATTACKS[name](phi[0], member[0])
    with pytest.raises(BadInputError, match="by model and sample"):
        ATTACKS[name](phi[:0], member[:0])
    # As numbers, "not a member" would be -1 and -2, which are true.
    with pytest.raises(BadInputError, match="true or false, not int64"):
        ATTACKS[name](phi, member.astype(np.int64))


@pytest.mark.parametrize("name", ATTACKS)
def test_too_few_models_are_refused_with_the_number_that_is_needed(name):
    least = 2 if name in PER_EXAMPLE else 1
    enough, few = halves(2 * least + 2, 30), halves(2 * least + 1, 30)
    ATTACKS[name](gaussian(enough), enough)

    def refused(side: str, member: np.ndarray) -> None:
        said = rf"the {side} shadows of sample \d+ number {least - 1} .* needs at least {least};"
        with pytest.raises(BadInputError, match=said):
            ATTACKS[name](gaussian(member), member)

    if name != "global_threshold":
        refused("OUT", ~few)
    if name in (*ONLINE, "rmia_online"):
        refused("IN", few)
    else:
        ATTACKS[name](gaussian(few), few)


def test_a_variance_that_is_not_there_is_refused():
    member = np.repeat([[True], [True], [False], [False]], 5, axis=1)
    with pytest.raises(BadInputError, match="at least 2 shadows of some sample"):
        lira_online(gaussian(member), member)
    alike = np.tile(np.arange(5.0), (6, 1))
    with pytest.raises(BadInputError, match="there is no variance"):
        lira_online(alike, halves(6, 5))


@pytest.mark.parametrize("gamma", [0, -1, math.nan])
def test_a_gamma_that_is_not_above_zero_is_refused(gamma):
    with pytest.raises(BadInputError, match="gamma"):
        rmia_online(*uneven(), gamma)


@pytest.mark.parametrize("a", [-0.1, 1.1, math.nan])
def test_an_a_outside_its_range_is_refused(a):
    with pytest.raises(BadInputError, match="between 0 and 1"):
        rmia_offline(*uneven(), a=a)


def test_a_wrong_name_gets_the_nearest_right_one():
    phi, member = uneven()
    with pytest.raises(BadInputError, match="did you mean 'rmia_online'"):
        audit(phi, member, np.full(14, "clean"), ["rmia_onlin"])
    with pytest.raises(BadInputError, match="did you mean 'pooled'"):
        lira_online(phi, member, "pool")


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


def test_the_audit_is_every_attack_on_every_target_and_group():
    member = halves(8, 60)
    phi, groups = gaussian(member, shift=1), np.repeat(["clean", "natural"], [50, 10])
    rows = audit(phi, member, groups)
    keys = [(row["attack"], row["group"], row["member"]) for row in rows]
    assert len(keys) == len(set(keys)) == len(ATTACKS) * 3 * 8
    row = rows[keys.index(("rmia_online", "natural", 5))]
    assert row["auc"] == measure(rmia_online(phi, member)[5, 50:], member[5, 50:]).auc
    assert set(row) == {"member", "attack", "group", *roc.Measures.__dataclass_fields__}


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
    targets, samples = intervals._weights(np.arange(300), 6, 300, seed=7)
    exact = []
    for of_targets, of_samples in zip(targets, samples, strict=True):
        assert of_targets.sum() == 6
        assert of_samples.sum() == 300
        aucs = [weighted_auc(row, truth, of_samples) for row, truth in zip(scores, member, strict=True)]
        exact.append(np.mean(of_targets * aucs))
    linear = intervals._replicated(*intervals._linearized(scores, member), 7, 300)
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
    assert mean_auc(scores[[1, 3]], member[[1, 3]]) == intervals.Interval(None, None, None, 0)


# Counterfactual memorization


def test_memorization_is_what_training_on_a_sample_does_for_it():
    member = np.array([[1, 1, 0, 0, 1], [1, 0, 1, 0, 1], [0, 1, 1, 0, 1], [0, 0, 0, 0, 1]], bool)
    correct = np.array([[1, 0, 1, 1, 1], [1, 1, 1, 1, 1], [0, 0, 0, 1, 1], [0, 1, 0, 1, 1]], bool)
    found = counterfactual_memorization(correct, member)
    assert found.samples.tolist() == [0, 1, 2]
    assert found.values.tolist() == [1, -1, 0]
    assert found.left_out == 2


def test_memorization_is_not_computed_from_numbers():
    member = halves(4, 10)
    with pytest.raises(BadInputError, match="true and false, not float64"):
        counterfactual_memorization(member.astype(float), member)
    with pytest.raises(BadInputError, match="don't match"):
        counterfactual_memorization(member, member[:2])


def test_an_interval_stays_among_the_aucs_that_there_are():
    is_member = np.arange(8) < 4
    nearly = np.array([[5, 6, 7, 3, 4, 0, 1, 2], [5, 6, 7, 8, 4, 0, 1, 2]], dtype=float)
    members = np.stack([is_member] * 2)
    found = mean_auc(nearly, members)
    assert found.high == 1
    assert mean_auc(-nearly, members).low == 0
    assert mean_auc_difference(nearly, -nearly, members).high == 1
