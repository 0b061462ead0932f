"""The balls that attacks stay in: how one starts in it, how it takes a step, and how it is brought back."""

from collections.abc import Mapping

import torch
from torch import Tensor

from study.attacks.draws import Draws
from study.attacks.gradients import Gradients, l2_norms

Bounds = tuple[float, float] | None
LEAST = 1e-300
"""What is divided by in the place of 0, where the quotient doesn't matter."""


class LinfBall:
    """The images of which no value is more than epsilon from the centre's, and within the bounds."""

    def __init__(self, centre: Tensor, epsilon: float, bounds: Bounds, clip_first: bool) -> None:  # noqa: ARG002
        self._epsilon, self._centre = epsilon, centre
        # Where all members have the same images, so are the edges, and one will do.
        one = centre[:1] if centre.stride(0) == 0 else centre
        # To clip to the ball and then to the bounds is to clip to these.
        edges = [_clip(_exactly_within(one, edge), bounds) for edge in (-epsilon, epsilon)]
        self._low, self._high = (edge.expand_as(centre) for edge in edges)

    def start(self, draws: Draws, restart: int, at: Tensor) -> Tensor:
        """Return a random image of the ball for each place, of the batch's images `at`, [M, W]."""
        drawn = _chosen(draws.uniform(self._centre.shape[2:], "linf", restart), at, self._centre)
        return drawn.mul_(2).sub_(1).mul_(self._epsilon).add_(self._centre).clamp_(self._low, self._high)

    def move(self, images: Tensor, gradients: Gradients, step: float, floor: float) -> Tensor:  # noqa: ARG002
        """Return the images after a step along the sign of the gradient."""
        return torch.add(images, gradients.values.sign(), alpha=step).clamp_(self._low, self._high)

    def finish(self, images: Tensor) -> Tensor:
        """Return the images as the attack hands them on."""
        return images

    def keep(self, members: Tensor, places: Tensor) -> None:
        """Go on with some of the places, [M, W]."""
        self._centre, self._low, self._high = (
            values[members, places] for values in (self._centre, self._low, self._high)
        )


class L2Ball:
    """The images whose difference from the centre is at most epsilon long, and within the bounds."""

    def __init__(self, centre: Tensor, epsilon: float, bounds: Bounds, clip_first: bool) -> None:
        self._centre, self._epsilon, self._bounds, self._clip_first = centre, epsilon, bounds, clip_first

    def start(self, draws: Draws, restart: int, at: Tensor) -> Tensor:
        """Return a random image of the ball for each place, of the batch's images `at`, [M, W]."""
        shape = self._centre.shape[2:]
        direction = draws.normal(shape, "l2", restart)
        # Uniform in volume: of the radii, the share below r is r to the power of the dimension.
        radius = draws.uniform((), "radius", restart) ** (1 / shape.numel())
        scaled = direction * (self._epsilon * radius / l2_norms(direction))[..., None, None, None]
        return _clip(_chosen(scaled, at, self._centre).add_(self._centre), self._bounds)

    def move(self, images: Tensor, gradients: Gradients, step: float, floor: float) -> Tensor:
        """Return the images after a step along the gradient."""
        moved = torch.addcmul(images, gradients.values, _column(_factors(gradients, step, floor), images))
        if self._clip_first:
            moved = _clip(moved, self._bounds)
        offset = moved.sub_(self._centre)
        shrink = (self._epsilon / l2_norms(offset).clamp(min=LEAST)).clamp(max=1)
        moved = offset.mul_(_column(shrink, images)).add_(self._centre)
        return moved if self._clip_first else _clip(moved, self._bounds)

    def finish(self, images: Tensor) -> Tensor:
        """Return the images as the attack hands them on."""
        return _clip(images.clone(), self._bounds) if self._clip_first else images

    def keep(self, members: Tensor, places: Tensor) -> None:
        """Go on with some of the places, [M, W]."""
        self._centre = self._centre[members, places]


BALLS: Mapping[str, type[LinfBall] | type[L2Ball]] = {"linf": LinfBall, "l2": L2Ball}
"""By the norm in which they are balls."""


def _exactly_within(centre: Tensor, edge: float) -> Tensor:
    """Return centre + edge, rounded such that the values are not farther from the centre than that."""
    wide = centre.double()
    rounded = (wide + edge).to(centre.dtype)
    return torch.where((rounded.double() - wide).abs() > abs(edge), torch.nextafter(rounded, centre), rounded)


def _clip(images: Tensor, bounds: Bounds) -> Tensor:
    """Bring images within the bounds, in place."""
    return images if bounds is None else images.clamp_(*bounds)


def _chosen(drawn: Tensor, at: Tensor, like: Tensor) -> Tensor:
    """Return the numbers of the images `at`, [M, W, ...], with the dtype and on the device of another tensor."""
    members = torch.arange(len(at))[:, None]
    return drawn[members, at.cpu()].to(like)


def _factors(gradients: Gradients, step: float, floor: float) -> Tensor:
    """Return what each image's gradient values are multiplied by for an l2 step, float64 [M, W]."""
    if floor == 0:
        return step / gradients.norms.clamp(min=LEAST)
    return step * gradients.scale / (gradients.norms * gradients.scale).clamp(min=floor)


def _column(factors: Tensor, like: Tensor) -> Tensor:
    """Return factors of images, [M, W, 1, 1, 1] in the images' dtype and finite in it, for 0 must stay 0."""
    return factors.clamp(max=torch.finfo(like.dtype).max).to(like.dtype)[..., None, None, None]
