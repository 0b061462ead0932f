"""What became of perturbed images: whether each member still knows them, and how far they were moved."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from study.attacks.gradients import frozen, l2_norms
from study.engine import Pack
from study.logits import cross_entropy

SLACK = 1e-6
"""By how much, relative to epsilon, a value may be displaced farther and still count as within it."""
FLAT = 1e-6
"""Below which norm of the cross-entropy's gradient an image is flat: advertorch divides by no less than this."""


@dataclass(frozen=True)
class Outcome:
    """What each member makes of its own perturbed copies of B images; of a member that failed, losses are NaN.

    Attributes:
        rank: how many classes come before the label, int64 [M, B]: 0 is correct, and below 5 is so for the top five.
        loss: the cross-entropy, float64 [M, B].
        linf: the largest displacement of a value, float64 [M, B].
        l2: the l2 norm of the displacement, float64 [M, B].
        moved: how many values were displaced by more than epsilon, int64 [M, B].
        steps: how many steps were taken on each image, in all restarts, int64 [M, B].
        flat: whether the cross-entropy's gradient at the image as it was is below `FLAT` in norm, bool [M, B], so that
            other attacks stand still there; None where the gradient was not computed.
        failed: the members that couldn't be attacked, by position, each with its reason in words.
    """

    rank: Tensor
    loss: Tensor
    linf: Tensor
    l2: Tensor
    moved: Tensor
    steps: Tensor
    flat: Tensor | None
    failed: Mapping[int, str]

    @property
    def fooled(self) -> Tensor:
        """Whether another class than the label's comes first, bool [M, B]."""
        return self.rank > 0


def outcome(
    originals: Tensor,
    perturbed: Tensor,
    labels: Tensor,
    logits: Tensor,
    epsilon: float = math.inf,
    steps: Tensor | None = None,
    flat: Tensor | None = None,
    failed: Mapping[int, str] | None = None,
) -> Outcome:
    """Return what became of images, given the logits for their perturbed copies; see `Outcome`."""
    displacement = (perturbed.double() - originals).abs_()
    return Outcome(
        rank=ranks(logits, labels),
        loss=cross_entropy(logits, labels),
        linf=displacement.amax(dim=(2, 3, 4)),
        l2=l2_norms(displacement),
        moved=(displacement > epsilon * (1 + SLACK)).sum(dim=(2, 3, 4)),
        steps=torch.zeros_like(labels) if steps is None else steps,
        flat=flat,
        failed=failed or {},
    )


def ranks(logits: Tensor, labels: Tensor) -> Tensor:
    """Return how many classes come before each label, int64 [...]; of equal logits the first comes first, as in argmax.

    Args:
        logits: [..., classes].
        labels: int64 [...].
    """
    own = logits.gather(-1, labels[..., None])
    earlier = torch.arange(logits.shape[-1], device=logits.device) < labels[..., None]
    return ((logits > own) | ((logits == own) & earlier)).sum(dim=-1)


@torch.no_grad()
def judge(pack: Pack, originals: Tensor, perturbed: Tensor, labels: Tensor, epsilon: float = math.inf) -> Outcome:
    """Return what each member makes of images that were perturbed by something else than an attack on it.

    Args:
        pack: the members, in eval mode.
        originals: the images as they were, [B, C, H, W] or [M, B, C, H, W], in the pack's dtype.
        perturbed: the same images perturbed, for all members or for each.
        labels: int64 [B] or [M, B].
        epsilon: beyond which displacement a value counts as moved.

    Raises:
        BadInputError: a layer is in train mode.
    """
    originals, perturbed = (for_each(pack, images) for images in (originals, perturbed))
    labels = labels.expand(len(pack), -1)
    with frozen(pack):
        logits, _ = pack.forward(perturbed)
    finite = logits.isfinite().flatten(1).all(dim=1).tolist()
    failed = {member: "the logits are not finite" for member, fine in enumerate(finite) if not fine}
    return outcome(originals, perturbed, labels, logits, epsilon, failed=failed)


def for_each(pack: Pack, images: Tensor) -> Tensor:
    """Return images [M, B, C, H, W] for all members, a view, from those or from [B, C, H, W]."""
    return images.detach().expand(len(pack), *images.shape[-4:])


def join(batches: Sequence[Outcome]) -> Outcome:
    """Return the outcomes of several batches of images as one; a member that failed on one batch has failed."""
    flat = [batch.flat for batch in batches if batch.flat is not None]
    columns = ("rank", "loss", "linf", "l2", "moved", "steps")
    return Outcome(
        **{name: torch.cat([getattr(batch, name) for batch in batches], dim=1) for name in columns},
        flat=torch.cat(flat, dim=1) if flat else None,
        failed={member: reason for batch in reversed(batches) for member, reason in batch.failed.items()},
    )
