"""The amplification of influence, from planted gradients that obey Eq. 11 of the paper."""

import math

import numpy as np
import pandas as pd
import pytest

from analysis.load import load
from analysis.statistics.amplification import amplification, log_over_equation
from study.errors import BadInputError
from study.theory import influence_ratio
from tests.analysis.conftest import grid, plan, rows

MARGINS = np.array([6.0, 1.0, -3.0])
REFERENCE = np.array([-2.0, 1.0, 4.0])


def pair(times: float = 1.0) -> pd.Series:
    """A pair whose samples' influence is so many times that of Eq. 11 at a gamma/sigma of 3."""
    ratios = [influence_ratio(3.0, *margins) for margins in zip(MARGINS, REFERENCE, strict=True)]
    norms = {"norms_arm": np.sqrt(times * np.array(ratios)), "norms_ref": np.ones(3)}
    return pd.Series({"margins_arm": MARGINS, "margins_ref": REFERENCE, **norms})


def test_the_measured_ratio_is_held_against_each_samples_own_margins():
    assert log_over_equation(pair(), 3.0) == pytest.approx(0, abs=1e-12)
    assert log_over_equation(pair(5.0), 3.0) == pytest.approx(math.log(5))
    assert log_over_equation(pair(), 1.0) == pytest.approx(2 * math.log(3))  # what is left at equal margins


def test_a_gradient_that_is_none_in_float32_does_not_decide():
    row = pair()
    row["norms_arm"] = row["norms_arm"] * [0, 1, 1]
    assert math.isfinite(log_over_equation(row, 3.0))


@pytest.mark.parametrize("lost", ["margins_arm", "norms_ref"])
def test_without_the_samples_of_both_there_is_no_number(lost: str):
    row = pair()
    row[lost] = None
    assert math.isnan(log_over_equation(row, 3.0))


def test_the_table_has_the_median_over_seeds_of_each_cell(results):
    trials = grid(k=(0.01, 0.05), norm=("batch", "none"), samples="gradients", seed=range(3))
    plan(results, trials)
    for trial in trials:
        norms, margins = (pair()["norms_arm"], MARGINS) if trial.norm == "batch" else (np.ones(3), REFERENCE)
        outcome = {"gamma_over_sigma": 3.0, "grad_norm_out": 4.0 if trial.norm == "batch" else 2.0, "grad_norm_in": 1.0}
        samples = [
            {
                **{"trial": trial.id, "member": member, "sample": sample, "group": "corrupted", "is_member": True},
                **{"score": margins[sample], "grad_norm": norms[sample]},
            }
            for member in range(3)
            for sample in range(3)
        ]
        members = rows(trial, lambda _, seed, outcome=outcome: outcome)
        results.write("mine", trial.id, {"members": members, "samples": samples})
    table = amplification(load(results, "mine"), results)
    assert table["k"].tolist() == [0.01, 0.05]
    for name, wanted in (("n", 3), ("predicted", 9), ("measured_out", 4), ("measured_in", 1), ("over_equation", 1)):
        assert table[name].tolist() == pytest.approx([wanted] * 2, rel=1e-6)


def test_records_without_gradients_are_refused(results):
    trials = grid(k=0.1, norm=("batch", "none"), seed=(0,))
    plan(results, trials)
    for trial in trials:
        results.write("mine", trial.id, {"members": rows(trial)})
    with pytest.raises(BadInputError, match="samples=gradients"):
        amplification(load(results, "mine"), results)
