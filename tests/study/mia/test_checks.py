"""What every attack refuses."""

import math

import numpy as np
import pytest

from study.errors import BadInputError
from study.mia.audit import ATTACKS
from study.mia.intervals import mean_auc
from tests.study.mia.scores import ONLINE, PER_EXAMPLE, gaussian, halves, uneven


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
    enough, few = halves(6, 30), halves(2 * least + 1, 30)
    ATTACKS[name](gaussian(enough), enough)

    def refused(side: str, member: np.ndarray) -> None:
        said = (
            rf"the {side} shadows of sample \d+ number {least - 1} .* needs at least {least};|a variance needs at least"
        )
        with pytest.raises(BadInputError, match=said):
            ATTACKS[name](gaussian(member), member)

    if name != "global_threshold":
        refused("OUT", ~few)
    if name in (*ONLINE, "rmia_online"):
        refused("IN", few)
