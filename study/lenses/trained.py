"""The logits of trained members for their training, test and validation samples."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from study import engine
from study.data.dataset import Dataset
from study.training.loop import Member, predict


@dataclass(frozen=True)
class Answers:
    """What the members of a pack say, in eval mode.

    Attributes:
        own: [M, N, classes], of each one's D'.
        test: [M, T, classes], of the test set.
        validation: [M, V, classes], of what was set aside.
    """

    own: Tensor
    test: Tensor
    validation: Tensor


def answers(pack: engine.Pack, members: Sequence[Member], data: Dataset) -> Answers:
    """The logits of the members as they are now."""
    own = predict(pack, members[0].corrupted.pool, [member.corrupted.rows for member in members])
    test = predict(pack, data.test.images)
    validation = predict(pack, data.validation.images) if len(data.validation) else test[:, :0]
    return Answers(own, test, validation)


def mirrored(pack: engine.Pack, members: Sequence[Member]) -> Sequence[Tensor | None]:
    """The logits [N, classes] of each member for the mirror images of its D', where they are asked for."""
    if members[0].trial.queries != "mirror":
        return [None] * len(members)
    images = members[0].corrupted.pool.flip(3)
    return predict(pack, images, [member.corrupted.rows for member in members]).unbind()
