"""The third lens: can an attacker tell who was in the training set?"""

import numpy as np
import torch
from torch import Tensor

from study.attacks import Measures, measure
from study.errors import BadInputError


def score(logits: Tensor, labels: Tensor) -> Tensor:
    """The membership score phi = z_y - logsumexp of the other logits (Carlini et al. 2022, in logit form).

    It is computed from logits and in float64: by way of float32 probabilities, a margin of 20 is already lost.

    Args:
        logits: [N, classes], any floating dtype, finite, from a network in eval mode.
        labels: int64 [N], as assigned.

    Returns:
        float64 [N]; larger means more likely a member.

    Raises:
        BadInputError: a logit isn't finite, or there is but one class.
    """
    if logits.shape[1] < 2:
        raise BadInputError("a membership score needs at least two classes.")
    if not torch.isfinite(logits).all():
        raise BadInputError("membership can't be scored from logits that are not finite.")
    wide = logits.double()
    own = wide.gather(1, labels[:, None])
    others = wide.scatter(1, labels[:, None], float("-inf"))
    return own[:, 0] - others.logsumexp(dim=1)


def global_threshold(members: Tensor, non_members: Tensor) -> Measures:
    """The attack that needs no shadow models: one threshold on phi for everybody.

    Args:
        members: scores of samples that the network was trained on.
        non_members: scores of samples that it never saw.

    Raises:
        BadInputError: a side is empty or holds a score that isn't finite.
    """
    if not len(members) or not len(non_members):
        raise BadInputError("membership needs members and non-members.")
    scores = torch.cat([members, non_members]).double().cpu().numpy()
    return measure(scores, np.arange(len(scores)) < len(members))
