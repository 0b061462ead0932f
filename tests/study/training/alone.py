"""One network as a pack of its own, for tests that are about what happens to a network."""

from collections.abc import Iterator

from torch import Tensor, nn

from study.data.corruption import Corrupted
from study.engine.pack import Single
from study.training import loop as packed
from study.training.loop import Member
from study.trial import Trial


class DivergedError(ArithmeticError):
    """The network has diverged."""


def train(network: nn.Module, corrupted: Corrupted, trial: Trial, seed: int) -> Iterator[int]:
    """Train a network in place; a divergence is an error here."""
    pack = Single([network])
    for epoch in packed.Training(pack, [Member(trial, seed, corrupted)]):
        _raise(pack)
        yield epoch


def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Return the network's logits [N, classes]; a divergence is an error here."""
    pack = Single([network])
    logits = packed.predict(pack, images)[0]
    _raise(pack)
    return logits


def _raise(pack: Single) -> None:
    for reason in pack.diverged.values():
        raise DivergedError(reason)
