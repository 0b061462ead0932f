"""The lens on memorization: accuracy and loss on atypical, clean and unseen samples (section 4.1 of the paper)."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from study.data.corruption import Corrupted
from study.data.dataset import Split
from study.lenses.trained import Trained
from study.record.rows import Measurement, Measurements
from study.trial import Trial


def wanted(trial: Trial) -> bool:  # noqa: ARG001
    """Return True: every trial has its curves."""
    return True


def at_epoch(trained: Trained) -> Measurements:
    """Measure accuracy and loss by group, the columns of `epochs`."""
    logits, data = trained.logits, trained.data
    unseen = {"test": (logits.test, data.test), "val": (logits.validation, data.validation)}
    return {
        member: Measurement(epochs=columns)
        for member, columns in enumerate(memorization(logits.train, trained.corrupted, unseen))
    }


def memorization(
    logits: Tensor, corrupted: Sequence[Corrupted], unseen: Mapping[str, tuple[Tensor, Split]]
) -> list[dict[str, float | None]]:
    """Return the accuracy and mean cross-entropy of each member by group, under their columns' names in `epochs`.

    `mem_` is S_out against the assigned labels and `clean_` is S_in, of both only what the member was trained on;
    `true_label_acc` is S_out against the labels that its samples had in D, None where they come from elsewhere. Sets
    that no member was trained on have names of their own. Of an empty set, as S_out is without corruption, all is None.

    Args:
        logits: [M, N, classes] of each member for its D', in eval mode; those of a member that diverged mean nothing.
        corrupted: each member's D'.
        unseen: sets that no member was trained on by name, such as `test`, each with the logits [M, T, classes] of each
            member for it, in eval mode.
    """
    scalars = [
        _values(own, of, {name: (others[member], split) for name, (others, split) in unseen.items()})
        for member, (own, of) in enumerate(zip(logits, corrupted, strict=True))
    ]
    # A host waits for its device whenever it asks for a value, so all values come over together.
    values = torch.stack([torch.stack([*of_member.values()]) for of_member in scalars]).tolist()
    return [
        {name: None if math.isnan(value) else value for name, value in zip(scalars[0], of_member, strict=True)}
        for of_member in values
    ]


def _values(logits: Tensor, corrupted: Corrupted, unseen: Mapping[str, tuple[Tensor, Split]]) -> dict[str, Tensor]:
    """Return the columns of one member as scalars on its device, NaN for a group without samples."""
    out, clean = corrupted.atypical & corrupted.is_member, ~corrupted.atypical & corrupted.is_member
    right, losses = _fit(logits, corrupted.labels)
    originally = logits.argmax(dim=1) == corrupted.original_labels
    values = {
        "mem_acc": _mean(right, out),
        "mem_loss": _mean(losses, out),
        "true_label_acc": _mean(originally, out & (corrupted.original_labels >= 0)),
        "clean_acc": _mean(right, clean),
        "clean_loss": _mean(losses, clean),
    }
    for name, (of_set, split) in unseen.items():
        right, losses = _fit(of_set, split.labels)
        values |= {f"{name}_acc": right.double().mean(), f"{name}_loss": losses.mean()}
    return values


def _fit(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each sample whether the largest logit is its label's, and its cross-entropy in float64."""
    return logits.argmax(dim=1) == labels, cross_entropy(logits.double(), labels, reduction="none")


def _mean(values: Tensor, group: Tensor) -> Tensor:
    """Return the mean over a group, without indexing: the host would wait for the number of samples."""
    return values.double().masked_fill(~group, 0).sum() / group.sum()
