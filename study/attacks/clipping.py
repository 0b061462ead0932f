"""How far the clip of the 2019 paper's attacks moves images by itself, before any attack.

The attacks end with a clip of standardized images to a round range, [-2, 2] for CIFAR-10. Where pixels standardize to
values beyond it, an image is moved even if nothing attacks it: in linf farther than epsilon, and in l2 perhaps farther
than an attack may go. What an attack may do is then spent, or not its own.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from study.data.dataset import to_float
from study.errors import BadInputError
from study.perturbations import Shape, perturbations

BATCH = 1024


@dataclass(frozen=True)
class Clip:
    """The clip of a dataset's attacks and how far these may go.

    Attributes:
        low: the least value of an image after it.
        high: the largest.
        epsilon: the radius of the attack in linf.
        radius: that of the attack in l2.
    """

    low: float
    high: float
    epsilon: float
    radius: float


@dataclass(frozen=True)
class Clipped:
    """What a clip alone does to images.

    Attributes:
        images: how many images there are.
        least: the least standardized value of all.
        largest: the largest.
        beyond: the share of values that lie outside the clip.
        moved: the share of values that it moves by more than epsilon.
        distance: how far it moves an image in l2, the mean.
        farthest: how far at most.
        farther: the share of images that it moves farther than the attack in l2 may.
    """

    images: int
    least: float
    largest: float
    beyond: float
    moved: float
    distance: float
    farthest: float
    farther: float


def clip_of(dataset: str, shape: Shape) -> Clip:
    """Return the clip of the attacks of `robustness=paper2019` on a dataset.

    Args:
        dataset: the setting.
        shape: channels, height and width of an image.

    Raises:
        BadInputError: they clip nothing.
    """
    clipped = {of.norm: of for of in perturbations(("paper2019",), dataset, shape) if of.bounds is not None}
    if not clipped:
        raise BadInputError(f"the attacks of robustness=paper2019 on {dataset} clip nothing: they are not of colour.")
    linf, l2 = clipped["linf"], clipped["l2"]
    assert linf.bounds is not None
    return Clip(*linf.bounds, linf.epsilon, l2.epsilon)


def clip_alone(images: Tensor, mean: Tensor, spread: Tensor, clip: Clip) -> Clipped:
    """Return what a clip does to images that nothing attacks.

    Args:
        images: uint8 [N, C, H, W].
        mean: [C], subtracted from each channel of images in [0, 1].
        spread: [C], by which it is divided.
        clip: the clip.
    """
    beyond, moved, ends, distances = 0, 0, [], []
    for batch in images.cpu().split(BATCH):
        standardized = (to_float(batch, torch.float64) - mean[:, None, None]) / spread[:, None, None]
        way = (standardized.clamp(clip.low, clip.high) - standardized).abs()
        beyond += int((way > 0).sum())
        moved += int((way > clip.epsilon).sum())
        ends.append(torch.stack([standardized.min(), standardized.max()]))
        distances.append(way.flatten(1).norm(dim=1))
    distance, extremes = torch.cat(distances), torch.stack(ends)
    return Clipped(
        images=len(images),
        least=float(extremes[:, 0].min()),
        largest=float(extremes[:, 1].max()),
        beyond=beyond / images.numel(),
        moved=moved / images.numel(),
        distance=float(distance.mean()),
        farthest=float(distance.max()),
        farther=float((distance > clip.radius).double().mean()),
    )
