import numpy as np
import pytest
from scipy import stats

from analysis.statistics.accuracies import Accuracies, Share

DRAWS = 600
MARGIN = 0.99


def share(values: object, samples: float) -> Share:
    """Accuracies [seeds] or [seeds, cells], each of so many samples."""
    table = np.asarray(values, dtype=np.float64)
    table = table[:, None] if table.ndim == 1 else table
    return Share(table, np.full(table.shape, samples))


# Known answers


def test_seeds_that_agree_have_the_error_of_counting():
    # Against m the variance of a seed is m (1 - m) / n, so that the ends are those of Wilson's interval of all samples
    # with Student's t: (m - 1)^2 = t^2 m (1 - m) / N, that is m = N / (N + t^2).
    known = Accuracies(share([1.0] * 5, 100))
    low, high = known.interval(0.95)
    assert (known.effect, low, high) == (1.0, pytest.approx(500 / (500 + stats.t.ppf(0.975, 4) ** 2)), 1.0)
    assert known.tail(MARGIN, "greater") == pytest.approx(stats.t.sf(0.01 / np.sqrt(0.99 * 0.01 / 500), 4))


def test_in_the_middle_it_is_the_t_test_over_seeds():
    values = np.array([0.62, 0.55, 0.48, 0.57, 0.66])
    reference = np.array([0.41, 0.40, 0.37, 0.38, 0.45])
    known, wanted = Accuracies(share(values, 1e5), share(reference, 1e5)), stats.ttest_1samp(values - reference, 0.15)
    assert known.tail(0.15, "greater") == pytest.approx(wanted.pvalue / 2, rel=0.1)
    assert known.interval(0.95) == pytest.approx(tuple(wanted.confidence_interval()), abs=0.01)


def test_an_interval_is_what_is_not_rejected():
    for known in (
        Accuracies(share([0.995, 0.99, 1.0, 0.985], 400)),
        Accuracies(share([0.9, 0.95, 0.93], 50), share([0.1, 0.0, 0.05], 70)),
        Accuracies(share([[0.9, 1.0], [0.95, 1.0]], 50), share([[0.9, 0.99], [0.9, 0.98]], 70)),
    ):
        low, high = known.interval(0.95)
        assert low < known.effect < high
        for end, side in ((low, "greater"), (high, "less")):
            assert end in (0.0, 1.0) or known.tail(end, side) == pytest.approx(0.025)


def test_identical_arms_differ_by_nothing_within_the_error_of_counting():
    known = Accuracies(share([1.0] * 3, 500), share([1.0] * 3, 500))
    assert (known.effect, known.tail(0.0, "greater")) == (0.0, 0.5)
    low, high = known.interval(0.95)
    assert -0.015 < low < 0 < high < 0.015


def test_a_reflection_turns_it_around():
    values, reference = np.array([0.97, 0.99, 0.96]), np.array([0.90, 0.95, 0.93])
    known = Accuracies(share(values, 100), share(reference, 100))
    mirrored = Accuracies(share(1 - values, 100), share(1 - reference, 100))
    assert mirrored.interval(0.9) == pytest.approx(tuple(-end for end in known.interval(0.9)[::-1]))
    assert mirrored.tail(-0.03, "less") == pytest.approx(known.tail(0.03, "greater"))


# Simulated counts


@pytest.mark.parametrize(("samples", "seeds", "spread"), [(500, 3, 0.01), (1000, 5, 0.005), (2000, 5, 0.02)])
def test_seeds_whose_mean_is_at_the_margin_are_above_it_once_in_twenty(samples: int, seeds: int, spread: float):
    """Seeds vary by a beta distribution. A t-test over seeds calls .12 to .29 of them above the margin."""
    generator = np.random.default_rng(0)
    means = generator.beta(MARGIN / spread, (1 - MARGIN) / spread, (DRAWS, seeds))
    found = [Accuracies(share(row, samples)) for row in generator.binomial(samples, means) / samples]
    for side in ("greater", "less"):
        false = sum(known.tail(MARGIN, side) < 0.05 for known in found)
        assert false <= stats.binom.ppf(0.995, DRAWS, 0.05), side


def test_differences_near_1_are_told_apart_once_in_twenty_where_there_are_none():
    generator = np.random.default_rng(1)
    means = np.stack([generator.beta(mean / 0.01, (1 - mean) / 0.01, (DRAWS, 5)) for mean in (0.99, 0.96)])
    own, other = generator.binomial(2000, means) / 2000
    found = [Accuracies(share(a, 2000), share(b, 2000)) for a, b in zip(own, other, strict=True)]
    for side in ("greater", "less"):
        assert sum(known.tail(0.03, side) < 0.05 for known in found) <= stats.binom.ppf(0.995, DRAWS, 0.05), side


def test_an_accuracy_well_above_the_margin_is_found():
    generator = np.random.default_rng(2)
    found = [Accuracies(share(row, 1000)) for row in generator.binomial(1000, 0.999, (200, 5)) / 1000]
    assert np.mean([known.tail(MARGIN, "greater") < 0.05 for known in found]) > 0.85
