import pytest
import torch
from torch import nn

from study import models
from study.errors import BadInputError
from study.norms import batch_norms
from study.trial import NORMS


def lenet(norm: str = "batch", seed: int = 0, shape: models.Shape = (1, 28, 28), classes: int = 10) -> nn.Module:
    return models.build("lenet", shape, classes, norm, seed)


def test_lenet_without_norm_has_the_parameters_of_lenet_5():
    # 6 x 25 + 6, 16 x 150 + 16, 120 x 400 + 120, 84 x 120 + 84 and 10 x 84 + 10, as in LeCun et al. (1998).
    assert models.parameters(lenet("none")) == 156 + 2416 + 48120 + 10164 + 850


def test_batch_norm_puts_a_scale_and_a_shift_in_the_place_of_each_bias():
    biases = 6 + 16 + 120 + 84
    assert models.parameters(lenet("batch")) == models.parameters(lenet("none")) + biases


def test_only_trainable_parameters_are_counted():
    network = nn.Linear(3, 2)
    network.bias.requires_grad_(False)
    assert models.parameters(network) == 6


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (1, 16, 16), (3, 17, 40), (1, 64, 64)])
def test_every_norm_gives_a_logit_for_each_class_at_every_size(norm, shape):
    network = lenet(norm, shape=shape, classes=7)
    assert network.train()(torch.rand(3, *shape)).shape == (3, 7)
    assert network.eval()(torch.rand(1, *shape)).shape == (1, 7)


@pytest.mark.parametrize("shape", [(1, 15, 15), (1, 8, 8), (3, 16, 15), (1, 2, 2), (1, 28, 4)])
def test_images_that_are_too_small_are_refused(shape):
    with pytest.raises(BadInputError, match=f"not {shape[1]}x{shape[2]}"):
        lenet(shape=shape)


@pytest.mark.parametrize("norm", [norm for norm in NORMS if norm != "batch"])
def test_what_an_arm_shares_with_batch_norm_starts_from_the_same_values(norm):
    arm, reference = lenet(norm, seed=3).state_dict(), lenet("batch", seed=3).state_dict()
    assert {"0.weight", "4.weight", "9.weight", "12.weight", "15.weight", "15.bias"} <= arm.keys() & reference.keys()
    for name in arm.keys() & reference.keys():
        assert torch.equal(arm[name], reference[name])


def test_initial_weights_depend_on_the_seed_alone():
    one = lenet(seed=1).state_dict()
    torch.manual_seed(1234)
    torch.rand(10)
    again, other = lenet(seed=1).state_dict(), lenet(seed=2).state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])


def test_building_leaves_the_global_generator_as_it_was():
    before = torch.get_rng_state()
    lenet("group")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_built_network_has_seen_no_data():
    for _, layer in batch_norms(lenet("batch")):
        assert int(layer.num_batches_tracked) == 0
        assert torch.equal(layer.running_mean, torch.zeros_like(layer.running_mean))
        assert torch.equal(layer.running_var, torch.ones_like(layer.running_var))
    assert all(parameter.dtype == torch.float32 for parameter in lenet("none").parameters())
