import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from study.data.splits import halves, model_seed


def marked(samples: int, atypical: int) -> np.ndarray:
    """S_out scattered over D'."""
    return np.isin(np.arange(samples), np.random.default_rng(0).permutation(samples)[:atypical])


@given(
    samples=st.integers(2, 60),
    share=st.floats(0, 1),
    models=st.integers(1, 10).map(lambda half: 2 * half),
    seed=st.integers(0, 2**63 - 1),
)
def test_every_sample_is_in_exactly_half_of_the_models_and_every_model_has_half_of_the_samples(
    samples, share, models, seed
):
    atypical = marked(samples, round(share * samples))
    inside = halves(atypical, models, seed)
    assert inside.shape == (models, samples)
    assert (inside.sum(axis=0) == models // 2).all()
    assert set(inside.sum(axis=1)) <= {samples // 2, -(-samples // 2)}
    assert np.ptp(inside[:, atypical].sum(axis=1)) <= 1


def test_an_odd_sample_is_in_half_of_the_models_too():
    assert sorted(halves(marked(5, 1), 4, 0).sum(axis=1)) == [2, 2, 3, 3]


def test_the_halves_are_random_and_follow_from_the_seed_alone():
    atypical = marked(400, 40)
    inside = halves(atypical, 8, 3)
    np.testing.assert_array_equal(halves(atypical.copy(), 8, 3), inside)
    assert (halves(atypical, 8, 4) != inside).mean() > 0.4
    # Of 28 pairs of models a sample is in both of 6, so that two share 86 of their 200: no two share many more.
    shared = inside.astype(int) @ inside.T
    assert 50 < shared[np.triu_indices(8, 1)].min() <= shared[np.triu_indices(8, 1)].max() < 120


def test_two_models_have_a_half_each():
    inside = halves(marked(10, 2), 2, 0)
    np.testing.assert_array_equal(inside[0], ~inside[1])


def test_the_models_of_a_seed_have_streams_of_their_own():
    found = {model_seed(seed, model) for seed in range(4) for model in range(32)}
    assert len(found) == 128
    assert all(0 <= seed < 2**63 for seed in found)


@pytest.mark.parametrize("models", [2, 32])
def test_who_is_in_does_not_hang_on_where_a_sample_stands(models):
    # Averaged over many models, no position is favoured: each sample has exactly half, so look at pairs of positions.
    inside = halves(marked(300, 0), models, 1)
    neighbours = (inside[:, :-1] == inside[:, 1:]).mean()
    assert 0.35 < neighbours < 0.65
