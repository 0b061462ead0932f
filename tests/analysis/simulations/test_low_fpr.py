"""The rate that one target's threshold should have."""

import pytest
from scipy.special import gamma
from scipy.stats import norm

from analysis.simulations import low_fpr


@pytest.mark.parametrize(("rate", "rank"), [(0.001, 1), (0.0025, 2), (0.01, 10)])
def test_a_thresholds_rate_is_the_mean_of_the_curve_over_the_rates_that_it_may_have(
    rate: float, rank: int, monkeypatch
):
    assert low_fpr._of_threshold(rate, 0.0, 1000) == pytest.approx(rank / 1001)
    assert low_fpr._of_threshold(rate, 1.5, 1000) < norm.sf(norm.isf(rank / 1001) - 1.5)
    monkeypatch.setattr(low_fpr, "_on_curve", lambda share, _: share**0.5)
    root = gamma(rank + 0.5) / gamma(rank) / 1001**0.5
    assert low_fpr._of_threshold(rate, 0.0, 1000) == pytest.approx(root, rel=1e-3)
