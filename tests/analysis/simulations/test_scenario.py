import math

import numpy as np
import pytest

from analysis.simulations.scenario import Measure, Row, Scenario, replicate, rows


def row(numbers: list[object], measure: Measure) -> Row:
    """The row of one measure whose replicates are these numbers."""
    left = iter(numbers)
    scenario = Scenario("planted", lambda _: (next(left),), (measure,), len(numbers))
    (found,) = rows("mine", scenario, [replicate(scenario, np.random.default_rng(0)) for _ in numbers])
    return found


def test_a_rate_has_a_binomial_error():
    found = row([True] * 30 + [False] * 70, Measure("rate", 0.2))
    assert (found.estimate, found.replicates) == (0.3, 100)
    assert found.error == pytest.approx(math.sqrt(0.3 * 0.7 / 100))


@pytest.mark.parametrize("always", [True, False])
def test_what_always_or_never_was_so_may_be_otherwise(always: bool):
    # (x + 2) / (n + 4) is 2/16 or 14/16.
    assert row([always] * 12, Measure("rate", 0.5)).error == pytest.approx(math.sqrt(1 / 8 * 7 / 8 / 16))


def test_a_mean_has_its_standard_error():
    numbers = np.random.default_rng(0).normal(size=50)
    found = row(numbers.tolist(), Measure("bias", 0.0))
    assert (found.estimate, found.error) == (
        pytest.approx(numbers.mean()),
        pytest.approx(numbers.std() / math.sqrt(50)),
    )


def test_a_ratio_is_one_of_means():
    generator = np.random.default_rng(0)
    errors = generator.normal(size=4000) ** 2
    found = row([(2.0, float(error)) for error in errors], Measure("ratio", 1.0))
    assert found.estimate == pytest.approx(2 / errors.mean())
    # The variance of a squared standard normal is 2, so that of their mean is 2 / n.
    assert found.error == pytest.approx(2 * math.sqrt(2 / 4000), rel=0.1)


def test_replicates_without_a_number_do_not_count():
    assert row([1.0, None, 3.0, float("nan")], Measure("mean", 2.0)).replicates == 2
    nothing = row([None], Measure("mean", 2.0))
    assert math.isnan(nothing.estimate)
    assert not nothing.within


@pytest.mark.parametrize(
    ("estimate", "within"), [(0.05, True), (0.079, True), (0.081, False), (0.0, True), (math.nan, False)]
)
def test_a_row_is_out_beyond_three_errors(estimate: float, within: bool):
    assert Row("mine", "planted", "rate", 0.05, -math.inf, 0.05, estimate, 0.01, 100).within == within


def test_a_bound_of_0_or_1_has_no_exceptions():
    assert not Row("mine", "planted", "never", 0.0, -math.inf, 0.0, 0.01, 0.01, 100).within
    assert not Row("mine", "planted", "always", 1.0, 1.0, math.inf, 0.99, 0.01, 100).within
    assert Row("mine", "planted", "always", 1.0, 1.0, math.inf, 1.0, 0.01, 100).within
