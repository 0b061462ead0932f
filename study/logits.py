"""The cross-entropy and its gradient at the logits, exact where float32 would lose them.

A sample that is known well has a loss and a gradient that vanish: in float32 1 - p is 0 from a margin of 17 on, and
even in float64 no number is left of exp(-margin) beyond 745. Its gradient has a direction still. So everything here
follows from the margin z_y - logsumexp of the other logits, and the gradient is a direction apart from its length.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """Return z_y - logsumexp of the other logits of each sample: above 0, the label has more than half the probability.

    Args:
        logits: [..., classes], of two classes at least.
        labels: int64 [...].

    Returns:
        float64 [...].
    """
    wide = logits.double()
    own = wide.gather(-1, labels[..., None]).squeeze(-1)
    return own - wide.masked_fill(_is_label(logits, labels), -torch.inf).logsumexp(dim=-1)


def cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the cross-entropy of each sample, float64 [...], from logits [..., classes] and labels [...]."""
    return -F.logsigmoid(margins(logits, labels))


def cross_entropy_gradient(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the cross-entropy's gradient at the logits: a direction of length 1, of their dtype, and its length.

    Args:
        logits: [..., classes], of two classes at least.
        labels: int64 [...].

    Returns:
        The direction [..., classes] and the length, float64 [...], both NaN where a logit is not finite.
    """
    own = _is_label(logits, labels)
    others = logits.double().masked_fill(own, -torch.inf).softmax(dim=-1)
    # The gradient is 1 - p_y times this, whose entries add up to 0.
    direction, norm = _unit(others.masked_fill(own, -1), logits)
    return direction, torch.sigmoid(-margins(logits, labels)) * norm


def margin_gradient(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return the gradient of the largest other logit less the label's own, as `cross_entropy_gradient` does its."""
    own = _is_label(logits, labels)
    rival = logits.masked_fill(own, -torch.inf).argmax(dim=-1)
    return _unit(_is_label(logits, rival).double() - own.double(), logits)


def _unit(gradient: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return a gradient as a direction, of the logits' dtype, and its length: both NaN where a logit is not finite."""
    norm = torch.linalg.vector_norm(gradient, dim=-1).masked_fill(~logits.isfinite().all(dim=-1), torch.nan)
    return (gradient / norm[..., None]).to(logits.dtype), norm


def _is_label(logits: Tensor, labels: Tensor) -> Tensor:
    return labels[..., None] == torch.arange(logits.shape[-1], device=logits.device)
