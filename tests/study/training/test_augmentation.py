from dataclasses import replace

import numpy as np
import pytest
import torch

from study import seeds
from study.data.corruption import Corrupted
from study.data.dataset import Dataset
from study.engine import pack
from study.networks import build
from study.training.augmentation import Augmentation
from study.training.loop import Member, Training
from study.trial import Trial
from tests.study.training.test_loop import prepared, small_trial

EPOCH = 3


def by_hand(image: np.ndarray, mode: str, down: int, right: int, mirrored: bool) -> np.ndarray:
    """Pad, crop and mirror as torchvision's transforms do, one image at a time."""
    padded = np.pad(image, ((0, 0), (4, 4), (4, 4)), mode=mode)
    height, width = image.shape[1:]
    crop = padded[:, 4 + down : 4 + down + height, 4 + right : 4 + right + width]
    return crop[:, :, ::-1] if mirrored else crop


@pytest.mark.parametrize(("name", "mode"), [("crops", "constant"), ("reflect_crops", "reflect")])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_an_image_is_padded_cropped_and_mirrored_as_drawn(tiny: Dataset, name, mode, dtype):
    _, corrupted = prepared(tiny, small_trial())
    augment = Augmentation(name, [0, 7], corrupted)
    augment.draw(EPOCH)
    samples = torch.tensor([[0, 3, 5, 11], [2, 3, 30, 1]])
    images = corrupted.images[samples].to(dtype)
    found = augment(images, samples)
    assert (found.shape, found.dtype) == (images.shape, dtype)
    moved = 0
    for member, seed in enumerate((0, 7)):
        draws = seeds.generator(seed, "augment", EPOCH)
        shifts = draws.integers(-4, 4, (len(corrupted), 2), endpoint=True)
        mirrored = draws.integers(0, 2, (len(corrupted), 1))
        for place, sample in enumerate(samples[member].tolist()):
            image = images[member, place].numpy()
            wanted = by_hand(image, mode, *shifts[sample].tolist(), bool(mirrored[sample, 0]))
            assert np.array_equal(found[member, place].numpy(), wanted)
            moved += not np.array_equal(image, wanted)
    assert moved > 4


def test_none_changes_nothing_and_draws_nothing(tiny: Dataset):
    _, corrupted = prepared(tiny, small_trial())
    augment = Augmentation("none", [0], corrupted)
    augment.draw(1)
    images = corrupted.images[None, :4]
    assert augment(images, torch.arange(4)[None]) is images


def trained(tiny: Dataset, backend: str, trials: list[Trial], corrupted: Corrupted) -> list[torch.Tensor]:
    networks = [
        build.build("lenet", tiny.shape, tiny.classes, trial.norm, seed).double() for seed, trial in enumerate(trials)
    ]
    packs = [networks] if backend != "single" else [[network] for network in networks]
    seed = 0
    for together in packs:
        members = [Member(trials[seed + at], seed + at, corrupted) for at in range(len(together))]
        assert list(Training(pack(backend, together, tiny.shape), members)) == [1, 2]
        seed += len(together)
    return [torch.cat([parameter.detach().flatten() for parameter in network.parameters()]) for network in networks]


@pytest.mark.parametrize("backend", ["grouped", "vmap"])
def test_a_pack_augments_and_drops_its_rate_as_each_member_alone_does(tiny: Dataset, backend):
    trial = small_trial(augmentation="crops", lr_drop="1", norm="none")
    _, corrupted = prepared(tiny, trial)
    trials = [trial, replace(trial, lr=2 * trial.lr)]
    alone, packed = (trained(tiny, name, trials, corrupted) for name in ("single", backend))
    plain = trained(tiny, "single", [replace(each, augmentation="none") for each in trials], corrupted)
    for one, other, unchanged in zip(alone, packed, plain, strict=True):
        assert (one - other).abs().max() < 1e-10
        assert (one - unchanged).abs().max() > 1e-6
