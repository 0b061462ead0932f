"""The gradient of a loss in the images, of all members at once, which no saturated loss can hide."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from study.engine import Pack
from study.errors import BadInputError
from study.logits import cross_entropy_gradient, margin_gradient

LOSSES: Mapping[str, Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]] = {
    "ce": cross_entropy_gradient,
    "margin": margin_gradient,
}
"""The gradient at the logits of each loss that an attack may climb: the cross-entropy, or the margin's negative."""


@dataclass(frozen=True)
class Gradients:
    """The gradients of a loss in the images: `values` times `scale`, which are kept apart so that neither underflows.

    Attributes:
        values: [M, B, C, H, W], in the network's dtype: those of the logits along a direction of length 1.
        norms: the l2 norms of `values`, float64 [M, B]; not finite where the gradient is not.
        scale: the length of the loss's gradient at the logits, float64 [M, B].
        logits: [M, B, classes], for the images.
    """

    values: Tensor
    norms: Tensor
    scale: Tensor
    logits: Tensor


@contextmanager
def frozen(pack: Pack) -> Iterator[None]:
    """Have no parameter of a pack in eval mode require a gradient within the context.

    A backward pass then costs no gradients of weights, and leaves every `.grad` alone. Attention takes the path that it
    takes in training, for the fast one of eval mode has no gradient.

    Raises:
        BadInputError: a layer is in train mode.
    """
    if pack.training:
        name = type(pack.networks[0]).__name__
        raise BadInputError(f"{name} is in train mode: only a network in eval mode can be attacked.")
    joint = [] if pack.joint_network is None else pack.joint_network.parameters()
    trained = [parameter for parameter in {*pack.parameters, *joint} if parameter.requires_grad]
    fast_attention = torch.backends.mha.get_fastpath_enabled()
    try:
        torch.backends.mha.set_fastpath_enabled(False)
        for parameter in trained:
            parameter.requires_grad_(False)
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_attention)
        for parameter in trained:
            parameter.requires_grad_(True)


def input_gradients(pack: Pack, images: Tensor, labels: Tensor, loss: str = "ce") -> Gradients:
    """Return the gradients of a loss in the images, by one forward and one backward pass.

    Args:
        pack: the members, in eval mode; see `frozen`.
        images: [M, B, C, H, W], in the pack's dtype.
        labels: int64 [M, B].
        loss: a key of `LOSSES`.

    Raises:
        BadInputError: the logits have no gradient in the images.
    """
    images = images.detach().requires_grad_()
    with torch.enable_grad():
        logits, _ = pack.forward(images)
    if not logits.requires_grad:
        raise BadInputError(
            f"{type(pack.networks[0]).__name__} has no gradient in its images, so it can't be attacked."
        )
    found = logits.detach()
    direction, scale = LOSSES[loss](found, labels)
    (values,) = torch.autograd.grad(logits, images, direction)
    return Gradients(values, l2_norms(values), scale, found)


def l2_norms(values: Tensor) -> Tensor:
    """Return the l2 norm of each image's values [M, B, C, H, W], whatever their size: float64 [M, B]."""
    norms: Tensor = torch.linalg.vector_norm(values, dim=(2, 3, 4)).double()
    # In float32 the squares of tiny values are 0, and those of large ones infinite; in float64 sums take much longer.
    lost = ~((norms > 1e-15) & norms.isfinite())
    if lost.any():
        norms[lost] = torch.linalg.vector_norm(values[lost], dim=(1, 2, 3), dtype=torch.float64)
    return norms
