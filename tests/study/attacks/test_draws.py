import pytest
import torch

from study.attacks import Draws

SHAPE = (2, 5, 5)


def test_streams_start_where_they_always_have():
    draws = Draws([0], torch.tensor([0, 9]))
    normal, uniform = draws.normal((2,), "noise"), draws.uniform((2,), "linf", 1)
    assert normal.flatten().tolist() == pytest.approx([1.50027172, 0.43900845, 0.29255777, 0.06782043], abs=1e-8)
    assert uniform.flatten().tolist() == pytest.approx([0.28462695, 0.16897211, 0.76341367, 0.39231362], abs=1e-8)


@pytest.mark.parametrize("method", ["normal", "uniform"])
def test_an_image_has_the_same_numbers_in_every_batch_and_pack(method):
    whole = getattr(Draws([3, 8, 3], torch.arange(20)), method)(SHAPE, "noise")
    assert whole.shape == (3, 20, *SHAPE)
    assert whole.dtype == torch.float64
    some = getattr(Draws([8], torch.tensor([17, 2])), method)(SHAPE, "noise")
    assert torch.equal(some[0], whole[1, [17, 2]])
    assert torch.equal(whole[0], whole[2])
    assert torch.equal(getattr(Draws([3, 3], torch.arange(20)), method)(SHAPE, "noise"), whole[[0, 2]])


def test_seeds_images_and_streams_have_numbers_of_their_own():
    draws = Draws([3, 8], torch.arange(20))
    drawn = torch.cat([draws.uniform(SHAPE, *stream) for stream in (("noise",), ("linf", 0), ("linf", 1))])
    assert drawn.unique().numel() == drawn.numel()


def test_numbers_are_normal_and_uniform():
    draws = Draws([1], torch.arange(400))
    normal, uniform = draws.normal((100,), "noise"), draws.uniform((100,), "linf", 0)
    assert normal.mean().item() == pytest.approx(0, abs=0.02)
    assert normal.std().item() == pytest.approx(1, abs=0.02)
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    each = draws.normal((), "noise")[0]
    assert each.shape == (400,)
    assert each.std().item() == pytest.approx(1, abs=0.15)
