import pytest
import torch

from study.errors import BadInputError
from study.networks import build
from study.networks.catalog import NORMS
from tests.study.networks.examples import lenet


def test_lenet_without_norm_has_the_parameters_of_lenet_5():
    # 6 x 25 + 6, 16 x 150 + 16, 120 x 400 + 120, 84 x 120 + 84 and 10 x 84 + 10, as in LeCun et al. (1998).
    assert build.count_parameters(lenet("none")) == 156 + 2416 + 48120 + 10164 + 850


def test_batch_norm_puts_a_scale_and_a_shift_in_the_place_of_each_bias():
    biases = 6 + 16 + 120 + 84
    assert build.count_parameters(lenet("batch")) == build.count_parameters(lenet("none")) + biases


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
