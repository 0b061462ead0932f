from pathlib import Path

import pytest

from study import cost
from study.trial import Trial

NOWHERE = Path("no data folder is needed")


def test_a_trial_costs_its_epochs_and_its_measurements_for_each_member():
    trial = Trial(epochs=5, eval_every=2, seed=(0, 1, 2))
    # Measured are epochs 2, 4 and 5, each on 1,437 training and 360 test images.
    expected = 3 * (5 * 1437 * 0.01 + 3 * (1437 + 360) * 0.001)
    assert cost.seconds(trial, cost.Cost(train=0.01, predict=0.001), NOWHERE) == pytest.approx(expected)


@pytest.mark.parametrize("lr", [1e-4, 1e30], ids=["a trial that learns", "a trial that diverges"])
def test_the_cost_of_a_sample_is_measured(monkeypatch, lr):
    monkeypatch.setattr(cost, "BUDGET_S", 0.02)
    found = cost.measure(Trial(batch_size=16, lr=lr), NOWHERE, "cpu")
    assert found.train > 0
    assert found.predict > 0
