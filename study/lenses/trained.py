"""What a lens is given: the members of a pack as they are now, with logits that are computed once for all lenses."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor

from study.data.corruption import Corrupted
from study.data.dataset import Dataset, to_float
from study.engine import Pack
from study.networks.norms import running_statistics_of
from study.record.schema import conform_to_schema
from study.training.loop import Member, orders, predict
from study.trial import Trial

INITIAL_SAMPLES = 512
"""Over how many samples sigma is measured before training: two batches of the paper's, and as many as in one pass."""
GROUPS = {"none": "clean", "label": "corrupted", "ood": "ood", "natural": "natural"}
"""What S_out is called in the column `group` of `samples`, by corruption."""


@dataclass(frozen=True)
class Logits:
    """The logits of the members of a pack, in eval mode.

    Attributes:
        train: [M, N, classes] for each member's D', with the samples of it that the member was not trained on.
        test: [M, T, classes] for the test set.
        validation: [M, V, classes] for the validation set.
    """

    train: Tensor
    test: Tensor
    validation: Tensor


class Trained:
    """The members of a pack as they are now; for other weights make another.

    Attributes:
        pack: their networks; `pack.alive` has the positions of those that have not diverged.
        members: what each one is trained on.
        data: the test and validation sets, on the pack's device.
        epoch: after how many epochs of training they are measured; 0 before it.
        notes: what a lens that takes long has found so far, JSON-like values by names of its own. A checkpoint has
            them, so that a lens that was stopped finds here what it need not measure again.
        done: called by such a lens after each of its parts with the fraction that this was of all.
    """

    def __init__(
        self,
        pack: Pack,
        members: Sequence[Member],
        data: Dataset,
        epoch: int,
        notes: dict[str, Any] | None = None,
        done: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.pack, self.members, self.data, self.epoch = pack, members, data, epoch
        self.notes, self.done = {} if notes is None else notes, done

    @property
    def trial(self) -> Trial:
        """The settings that the members of a pack share: what is measured is among them."""
        return self.members[0].trial

    @property
    def corrupted(self) -> list[Corrupted]:
        """Each member's D'."""
        return [member.corrupted for member in self.members]

    @contextmanager
    def at_initialization(self) -> Iterator[None]:
        """Have the untrained networks, within the context, normalize as they would at the first steps of training.

        Each batch norm then has, as its running statistics, those over the first `INITIAL_SAMPLES` samples of the
        member's first epoch, or over all where there are fewer. Afterwards they are as they were.
        """
        seeds = [member.stream_seed for member in self.members]
        trained = [each.training_samples for each in self.corrupted]
        with ExitStack() as stack:
            for network, of, own, order in zip(
                self.pack.networks, self.corrupted, trained, orders(seeds, len(trained[0]), 1), strict=True
            ):
                first = own[order[:INITIAL_SAMPLES].to(own.device)]
                images = to_float(of.pool[of.rows[first]], self.pack.dtype)
                stack.enter_context(running_statistics_of(network, images))
            yield

    @cached_property
    def logits(self) -> Logits:
        """The logits of all members; one whose logits are not finite is entered in `pack.diverged`."""
        return predict_all(self.pack, self.members, self.data)

    @cached_property
    def mirror_logits(self) -> Tensor:
        """The logits [M, N, classes] for the mirror images of each member's D'; divergence as in `logits`."""
        images = self.members[0].corrupted.pool.flip(3)
        return predict(self.pack, images, [each.rows for each in self.corrupted])


def predict_all(pack: Pack, members: Sequence[Member], data: Dataset) -> Logits:
    """Return the logits of the members as they are now."""
    train = predict(pack, members[0].corrupted.pool, [member.corrupted.rows for member in members])
    test = predict(pack, data.test.images)
    validation = predict(pack, data.validation.images) if len(data.validation) else test[:, :0]
    return Logits(train, test, validation)


def measured_epochs(count: int, trial: Trial) -> set[int]:
    """Return the epochs at which a lens looks that is costly: 0 and `count` - 1 more, in geometric steps to the last.

    Each is rounded up to one that is evaluated. Where two are rounded to the same one there are fewer.
    """
    steps = count - 1
    exact = (trial.epochs ** (step / steps) for step in range(1, steps + 1))
    # A power that is whole may be a little more in floating point.
    evaluated = (math.ceil(round(epoch, 9) / trial.eval_every) * trial.eval_every for epoch in exact)
    return {0, *(min(epoch, trial.epochs) for epoch in evaluated)}


def sample_table(member: Member, columns: Mapping[str, Tensor]) -> pa.Table:
    """Return the rows of `samples` of one member: what each sample of its D' is, and what the lenses measured of it."""
    corrupted = member.corrupted
    described = {
        "sample": torch.arange(len(corrupted)),
        "label": corrupted.labels,
        "original_label": corrupted.original_labels,
        "is_member": corrupted.is_member,
    }
    arrays = {name: pa.array(column.cpu().numpy()) for name, column in {**described, **columns}.items()}
    groups = [GROUPS[member.trial.corruption] if outside else "clean" for outside in corrupted.atypical.tolist()]
    return conform_to_schema("samples", pa.table({**arrays, "group": groups}))
