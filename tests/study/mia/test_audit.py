"""All attacks: what they find where something is known to be found, and what they have in common."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from study.errors import BadInputError
from study.mia.audit import ATTACKS, audit
from study.mia.intervals import mean_auc
from study.mia.lira import lira_online
from study.mia.rmia import rmia_online
from study.mia.roc import AttackMetrics, attack_metrics
from tests.study.mia.scores import ONE_SIDED, ONLINE, RMIA, TWO_SIDED, auc, coins, gaussian, halves, lopsided, uneven


def test_scores_in_float32_are_attacked_in_float64():
    phi, member = uneven()
    for attack in ATTACKS.values():
        found = attack(phi.astype(np.float32), member)
        assert found.dtype == np.float64
        np.testing.assert_array_equal(found, attack(phi.astype(np.float32).astype(np.float64), member))


@pytest.mark.parametrize("name", ["global_threshold", *ONLINE, *ONE_SIDED, *RMIA])
def test_a_shift_is_found_as_well_as_it_can_be(name):
    # With 60 shadows on each side; the standard error is 0.003.
    member = halves(120, 400)
    best = norm.cdf(1 / math.sqrt(2))
    assert auc(ATTACKS[name](gaussian(member, shift=1), member), member) == pytest.approx(best, abs=0.015)


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
    found = mean_auc(ATTACKS[name](scores, member), member)
    assert found.mean is not None
    assert found.low is not None
    assert abs(found.mean - 0.5) < found.high - found.low < 0.03  # within four standard errors


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
    phi, member = lopsided()
    generator = np.random.default_rng(seed)
    at = np.ix_(generator.permutation(len(phi)), generator.permutation(phi.shape[1]))
    for attack in ATTACKS.values():
        np.testing.assert_allclose(attack(phi[at], member[at]), attack(phi, member)[at], rtol=1e-9, atol=1e-9)


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


def test_shadows_that_agree_to_the_last_bit_make_no_one_infinitely_certain():
    member = halves(12, 50)
    phi = gaussian(member)
    phi[:, 0] = 3
    for name in ATTACKS:
        assert np.isfinite(ATTACKS[name](phi, member)).all()


def test_the_audit_is_every_attack_on_every_target_and_group():
    member = halves(8, 60)
    phi, groups = gaussian(member, shift=1), np.repeat(["clean", "natural"], [50, 10])
    rows = audit(phi, member, groups)
    keys = [(row["attack"], row["group"], row["member"]) for row in rows]
    assert len(keys) == len(set(keys)) == len(ATTACKS) * 3 * 8
    row = rows[keys.index(("rmia_online", "natural", 5))]
    assert row["auc"] == attack_metrics(rmia_online(phi, member)[5, 50:], member[5, 50:]).auc
    assert set(row) == {"member", "attack", "group", *AttackMetrics.__dataclass_fields__}


def test_a_wrong_name_gets_the_nearest_right_one():
    phi, member = uneven()
    with pytest.raises(BadInputError, match="did you mean 'rmia_online'"):
        audit(phi, member, np.full(14, "clean"), ["rmia_onlin"])
    with pytest.raises(BadInputError, match="did you mean 'pooled'"):
        lira_online(phi, member, "pool")
