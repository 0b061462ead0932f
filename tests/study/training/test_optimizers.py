import pytest
import torch
from torch import nn

from study.training.optimizers import OPTIMIZERS, make_optimizer


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_parameter_moves_against_its_gradient(name):
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    step = make_optimizer(name, 0.9, {(1e-3, 0.0): list(network.parameters())})
    before = [parameter.detach().clone() for parameter in network.parameters()]
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    step.step()
    assert all((new < old).all() for new, old in zip(network.parameters(), before, strict=True))


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_weight_decay_alone_shrinks_a_weight(name):
    layer = nn.Linear(1, 1, bias=False)
    nn.init.ones_(layer.weight)
    step = make_optimizer(name, 0.9, {(1e-3, 0.1): list(layer.parameters())})
    layer.weight.grad = torch.zeros_like(layer.weight)
    step.step()
    assert 0 < layer.weight.item() < 1


def test_momentum_is_that_of_sgd_and_of_nesterov():
    layer = nn.Linear(1, 1, bias=False)
    for name, momentum in (("sgd", 0.0), ("sgd", 0.5), ("nesterov", 0.5)):
        (group,) = make_optimizer(name, momentum, {(1e-3, 0.0): list(layer.parameters())}).param_groups
        assert (group["momentum"], group["nesterov"]) == (momentum, name == "nesterov")
