"""The first lens: what a member has learned of the atypical, of the clean and of the unseen."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from study.corruption import Corrupted
from study.data import Split


def memorization(
    logits: Tensor, corrupted: Sequence[Corrupted], test_logits: Tensor, test: Split
) -> list[dict[str, float | None]]:
    """Accuracy and mean cross-entropy by group, as the columns of `members` and `epochs` name them, of each member.

    `mem_` is S_out against the assigned labels, `clean_` is S_in, `test_` the untouched test set; `true_label_acc` is
    S_out against the labels that its samples had in D, None where they come from elsewhere. Without corruption S_out
    is empty and its values are None. Of both only what the member was trained on counts.

    Args:
        logits: [M, N, classes] of each member for its D', in eval mode; those of a member that diverged mean nothing.
        corrupted: each member's D'.
        test_logits: [M, T, classes] of each member for the test set, in eval mode.
        test: the test set.
    """
    found = [_values(*each, test) for each in zip(logits, corrupted, test_logits, strict=True)]
    # Every value that is asked for waits for the device: so they come over together.
    values = torch.stack([torch.stack([*each.values()]) for each in found]).tolist()
    return [
        {name: None if math.isnan(value) else value for name, value in zip(found[0], of_member, strict=True)}
        for of_member in values
    ]


def _values(logits: Tensor, corrupted: Corrupted, test_logits: Tensor, test: Split) -> dict[str, Tensor]:
    """The columns of one member, as scalars on its device: NaN over a group without samples."""
    out, clean = corrupted.atypical & corrupted.is_member, ~corrupted.atypical & corrupted.is_member
    right, losses = _fit(logits, corrupted.labels)
    originally = logits.argmax(dim=1) == corrupted.original_labels
    test_right, test_losses = _fit(test_logits, test.labels)
    return {
        "mem_acc": _mean(right, out),
        "mem_loss": _mean(losses, out),
        "true_label_acc": _mean(originally, out & (corrupted.original_labels >= 0)),
        "clean_acc": _mean(right, clean),
        "clean_loss": _mean(losses, clean),
        "test_acc": test_right.double().mean(),
        "test_loss": test_losses.mean(),
    }


def _fit(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Of each sample, whether the answer is its label, and the cross-entropy in float64."""
    return logits.argmax(dim=1) == labels, cross_entropy(logits.double(), labels, reduction="none")


def _mean(values: Tensor, group: Tensor) -> Tensor:
    """The mean over a group. To index with it would have the host wait for how many samples that has."""
    return values.double().masked_fill(~group, 0).sum() / group.sum()
