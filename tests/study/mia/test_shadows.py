"""The shadows that each target has, and that an attack finds nothing where there is nothing."""

import numpy as np
import pytest

from study.mia.audit import ATTACKS
from study.mia.shadows import left_out, some_shadows
from tests.study.mia.scores import ONLINE, auc, coins, gaussian, halves, lopsided, reference_shadows, uneven


def shadows_of(chosen: np.ndarray) -> np.ndarray:
    """Whether each model is a shadow of each target for each sample, bool [targets, N, S]."""
    found = np.repeat(chosen[None], len(chosen), axis=0)
    np.put_along_axis(found, left_out(chosen)[:, None], False, axis=1)
    return found


@pytest.mark.parametrize("make", [uneven, lopsided, lambda: (None, halves(8, 30)), lambda: (None, halves(9, 50)[1:])])
def test_the_shadows_are_those_of_a_loop(make):
    _, member = make()
    for chosen in (member, ~member):
        expected = reference_shadows(chosen)
        found = shadows_of(chosen)
        for target in range(len(member)):
            for sample in range(member.shape[1]):
                assert np.flatnonzero(found[target, :, sample]).tolist() == expected[target][sample]


def test_a_member_has_as_many_shadows_as_a_non_member():
    member = halves(10, 400)
    for chosen in (member, ~member):
        assert (shadows_of(chosen).sum(axis=1) == 4).all()


def test_every_shadow_of_the_larger_side_is_left_out_as_often():
    member = halves(6, 9000)
    counts = np.bincount(left_out(member)[~member], minlength=6) / (~member).sum()
    np.testing.assert_allclose(counts, 1 / 6, atol=0.01)


def test_with_independent_memberships_no_shadow_is_left_out():
    lost = [
        (shadows_of(side).sum(axis=1) < side.sum(axis=0) - side).mean() for side in (coins(12, 4000), lopsided()[1])
    ]
    assert lost == pytest.approx([0, 0], abs=0.05)


def shape(kind: str, member: np.ndarray, seed: int) -> np.ndarray:
    """Scores [N, S] that say nothing of membership."""
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=member.shape)
    if kind == "rare large errors":
        return noise - 10 * generator.exponential(size=member.shape) * (generator.random(member.shape) < 0.05)
    if kind == "spreads that vary":
        return noise * np.exp(generator.normal(size=member.shape[1]))
    if kind == "half nearly deterministic":
        return noise * np.where(generator.random(member.shape[1]) < 0.5, 1e-6, 1)
    return noise


SHAPES = ["gaussian", "rare large errors", "spreads that vary", "half nearly deterministic"]


@pytest.mark.parametrize("models", [8, 16, 32])
@pytest.mark.parametrize("kind", SHAPES)
def test_nothing_is_found_on_balanced_halves_where_there_is_nothing(kind, models):
    # The standard error is 0.002 at most. With all shadows online LiRA had 0.476, 0.494, 0.454 and 0.306 at 8 models.
    member = halves(models, 160_000 // models)
    for name in ("lira_online", "lira_offline", "lira_offline_two_sided", "rmia_online", "rmia_offline"):
        assert auc(ATTACKS[name](shape(kind, member, models), member), member) == pytest.approx(0.5, abs=0.005), name


@pytest.mark.parametrize("kind", SHAPES)
def test_nor_where_models_were_lost_or_memberships_are_coins(kind):
    for member in (halves(10, 20_000)[2:], coins(24, 8000)):
        assert auc(ATTACKS["lira_online"](shape(kind, member, 5), member), member) == pytest.approx(0.5, abs=0.006)


def test_fewer_shadows_are_what_fewer_models_have():
    # An attack on 8 of 24 models finds as much as one on all 24 with 3 shadows on each side.
    member = halves(24, 4000)
    phi = np.exp(0.5 * np.random.default_rng(2).normal(size=4000)) * gaussian(member, shift=1)
    few = halves(8, 12_000)
    of_few = np.exp(0.5 * np.random.default_rng(3).normal(size=12_000)) * gaussian(few, shift=1)
    for name in ("lira_online", "lira_offline", "rmia_offline"):
        shadows = some_shadows(member, 4, np.random.default_rng(0))
        assert (shadows & member).sum(axis=0).tolist() == (shadows & ~member).sum(axis=0).tolist() == [4] * 4000
        found = auc(ATTACKS[name](phi, member, shadows=shadows), member)
        assert found == pytest.approx(auc(ATTACKS[name](of_few, few), few), abs=0.006)
        assert found < auc(ATTACKS[name](phi, member), member) - (0.02 if name in ONLINE else 0.005)
