import math

import pytest
import torch

from study.attacks.clipping import Clip, clip_alone, clip_of
from study.data.standardization import PAPER_2019
from study.errors import BadInputError

COLOUR = (3, 32, 32)


def standardized_by(dataset: str) -> tuple[torch.Tensor, torch.Tensor]:
    mean, spread = (torch.tensor(each, dtype=torch.float64) for each in PAPER_2019[dataset])
    return mean, spread


def test_the_clip_and_the_radii_are_those_of_the_papers_attacks():
    assert clip_of("cifar10", COLOUR) == Clip(-2.0, 2.0, 0.03, pytest.approx(0.03 * math.sqrt(3072)))  # type: ignore[arg-type]
    assert clip_of("svhn", COLOUR).low == -1.0
    with pytest.raises(BadInputError, match="on digits clip nothing"):
        clip_of("digits", (1, 28, 28))


def test_a_made_image_is_moved_by_what_lies_beyond_the_clip():
    """One channel with mean 1/5 and spread 1/5: bytes of 51 a unit, so that 0, 102, 153 and 204 are -1, 1, 2 and 3."""
    images = torch.tensor([[0, 102], [153, 204]], dtype=torch.uint8).view(1, 1, 2, 2)
    images = torch.cat([images, torch.full((1, 1, 2, 2), 255, dtype=torch.uint8)])
    fifth = torch.tensor([0.2], dtype=torch.float64)
    found = clip_alone(images, fifth, fifth, Clip(-2.0, 2.0, 1.5, 1.5))
    assert (found.images, found.least, found.largest) == (2, pytest.approx(-1), pytest.approx(4))
    # Beyond are 3 of the one image and all four 4s of the other, of which the latter move by 2, more than 1.5.
    assert (found.beyond, found.moved) == (5 / 8, 4 / 8)
    assert found.distance == pytest.approx((1 + 4) / 2)
    assert found.farthest == pytest.approx(4)
    assert found.farther == 0.5


def test_svhn_has_nothing_beyond_its_clip_and_black_and_white_of_cifar10_are():
    images = torch.tensor([0, 255], dtype=torch.uint8)[:, None, None, None].expand(2, 3, 4, 4)
    assert clip_alone(images, *standardized_by("svhn"), clip_of("svhn", COLOUR)).beyond == 0
    found = clip_alone(images, *standardized_by("cifar10"), clip_of("cifar10", COLOUR))
    assert (found.least, found.largest) == (pytest.approx(-2.43, abs=0.01), pytest.approx(2.75, abs=0.01))
    assert (found.beyond, found.farther) == (1.0, 1.0)


def test_batches_change_nothing(monkeypatch: pytest.MonkeyPatch):
    images = torch.randint(256, (7, 3, 8, 8), generator=torch.Generator().manual_seed(0)).to(torch.uint8)
    whole = clip_alone(images, *standardized_by("cifar10"), clip_of("cifar10", COLOUR))
    monkeypatch.setattr("study.attacks.clipping.BATCH", 2)
    assert vars(clip_alone(images, *standardized_by("cifar10"), clip_of("cifar10", COLOUR))) == pytest.approx(
        vars(whole)
    )
