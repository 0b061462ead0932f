"""Counterfactual memorization by hand."""

import numpy as np
import pytest

from study.errors import BadInputError
from study.mia.counterfactual import counterfactual_memorization
from tests.study.mia.scores import halves


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
