"""Branches against training each network alone, as the backends are held against it."""

import copy

import pytest
import torch

from study.engine.branches import Branches
from study.engine.pack import Single
from study.networks import build
from study.training.loop import Training, predict
from tests.study.engine.test_backends import GREYS, difference, members, trial


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize(
    "settings",
    [
        ({"norm": "batch", "optimizer": "sgd"}, {"norm": "batch", "optimizer": "sgd"}),
        # Members that differ in their rate are each updated by themselves.
        ({"norm": "none", "lr": 1e-3}, {"norm": "none", "lr": 3e-3}),
        (
            {"regularizer": "hinge", "alpha": 0.5, "optimizer": "sgd"},
            {"regularizer": "hinge", "optimizer": "sgd", "alpha": 0.9},
        ),
    ],
    ids=["one optimizer", "two rates", "penalty"],
)
def test_each_branch_trains_as_it_would_alone(settings, device):
    runs = members(GREYS, *(trial(**own) for own in settings), device=device)
    initial = [
        build.build("lenet", GREYS.shape, GREYS.classes, run.trial.norm, run.seed).double().to(device) for run in runs
    ]
    together = Branches([copy.deepcopy(network) for network in initial])
    list(Training(together, runs))
    logits = predict(together, GREYS.test.images.to(device))
    for member, (untrained, run) in enumerate(zip(initial, runs, strict=True)):
        alone = Single([copy.deepcopy(untrained)])
        list(Training(alone, [run]))
        assert difference(together.networks[member].cpu(), alone.networks[0].cpu()) < 1e-9
        assert difference(together.networks[member], untrained.cpu()) > 1e-3
        expected = predict(Single([alone.networks[0].to(device)]), GREYS.test.images.to(device))[0]
        torch.testing.assert_close(logits[member], expected, rtol=1e-8, atol=1e-9)
