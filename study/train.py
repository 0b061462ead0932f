"""The training loop: a pack of members, over tensors that lie on its device."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from study import seeds
from study.corruption import Corrupted
from study.data import to_float
from study.engine import Pack
from study.engine.graphs import graphed
from study.errors import BadInputError
from study.optimizers import optimizer
from study.precision import forward_in, step_in
from study.trial import Trial

PREDICT_BATCH = 512
SHARED = ("architecture", "norm", "regularizer", "optimizer", "batch_size", "epochs", "eval_every", "precision")
"""The settings that the members of a pack have in common."""


@dataclass(frozen=True)
class Member:
    """What one network is trained on: the settings of its trial, its seed, and D'."""

    trial: Trial
    seed: int
    corrupted: Corrupted


def train(pack: Pack, members: Sequence[Member]) -> Iterator[int]:
    """Train the pack's networks in place, yielding the number of each epoch, from 1, when it is done.

    Members may differ in seed, data, learning rate, weight decay and alpha. Their networks, dtype and device are the
    caller's; D' must be on the same device. A caller may measure between epochs: the pack is put back into train mode
    before each one. A member whose loss is no longer finite is entered in `pack.diverged`, and the others go on;
    training ends when none is left.

    Raises:
        BadInputError: the members differ in what a pack shares.
    """
    _check_shared(members)
    trial = members[0].trial
    losses = torch.zeros(len(pack), dtype=pack.dtype, device=pack.device)
    step = graphed(_step(pack, members, losses), pack.device)
    order = _order(members, 1, pack.device)
    for epoch in range(1, trial.epochs + 1):
        pack.train()
        losses.zero_()
        for rows in batches(order, trial.batch_size):
            step(rows)
        # A GPU is still at it, and until the losses are asked for the host may do something else.
        if epoch < trial.epochs:
            order = _order(members, epoch + 1, pack.device)
        for member, loss in enumerate(losses.tolist()):
            if not math.isfinite(loss) and member not in pack.diverged:
                pack.diverged[member] = f"the training loss is {loss} in epoch {epoch}"
        yield epoch
        if not pack.alive:
            return


def _check_shared(members: Sequence[Member]) -> None:
    """Refuse members that can't take their steps together."""
    for name in SHARED:
        if len(found := {getattr(member.trial, name) for member in members}) > 1:
            raise BadInputError(f"the members of a pack must share {name}, not have {sorted(found)}.")
    if len({len(member.corrupted) for member in members}) > 1:
        raise BadInputError("the members of a pack must have equally many training samples.")


def _step(pack: Pack, members: Sequence[Member], losses: Tensor) -> Callable[[Tensor], None]:
    """One step of all members on their samples `rows`, int64 [M, B]; each one's loss is added to `losses`."""
    regularizer, precision = members[0].trial.regularizer, members[0].trial.precision
    alpha = torch.tensor([member.trial.alpha for member in members], dtype=pack.dtype, device=pack.device)
    update, set_to_none = _optimizer(pack, members)
    examples = _examples([member.corrupted for member in members])

    def step(rows: Tensor) -> None:
        images, labels = examples(rows)
        update.zero_grad(set_to_none=set_to_none)
        with step_in(precision):
            with forward_in(precision, pack.device):
                logits, penalty = pack.forward(to_float(images, pack.dtype), regularizer)
            each = cross_entropy(logits.to(pack.dtype).flatten(0, 1), labels.flatten(), reduction="none")
            loss = each.view_as(labels).mean(dim=1)
            if regularizer != "none":
                loss = alpha * loss + (1 - alpha) * penalty
            # No parameter takes part in two members' losses, so each gets the gradient of its own.
            loss.sum().backward()
        update.step()
        losses.add_(loss.detach())

    return step


def _optimizer(pack: Pack, members: Sequence[Member]) -> tuple[Optimizer, bool]:
    """The optimizer, and whether its gradients may be dropped between steps.

    Where all members share the learning rate and the weight decay, it sees the pack's tensors as a whole.
    """
    settings = [(member.trial.lr, member.trial.weight_decay) for member in members]
    name, on_gpu = members[0].trial.optimizer, pack.device.type == "cuda"
    if len(set(settings)) == 1:
        return optimizer(name, {settings[0]: pack.parameters}, capturable=on_gpu), True
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {setting: [] for setting in settings}
    for member, setting in enumerate(settings):
        groups[setting] += pack.parameters_of(member)
    return optimizer(name, groups, capturable=on_gpu), False


def _examples(corrupted: Sequence[Corrupted]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """What gathers the images, uint8 [M, B, C, H, W], and labels, int64 [M, B], of rows [M, B] of each member's D'."""
    pixels = [each.images for each in corrupted]
    labels = torch.stack([each.labels for each in corrupted])
    shared = all(each is pixels[0] for each in pixels)

    def gather(rows: Tensor) -> tuple[Tensor, Tensor]:
        images = pixels[0][rows] if shared else torch.stack([own[row] for own, row in zip(pixels, rows, strict=True)])
        return images, labels.gather(1, rows)

    return gather


def orders(members: Sequence[int], samples: int, epoch: int) -> Tensor:
    """The order in which each member sees D' in an epoch, from its seed's `order` stream: int64 [M, samples]."""
    each = [seeds.generator(seed, "order", epoch).permutation(samples) for seed in members]
    return torch.stack([torch.from_numpy(order) for order in each])


def _order(members: Sequence[Member], epoch: int, device: torch.device) -> Tensor:
    """The members' `orders` on the device."""
    order = orders([member.seed for member in members], len(members[0].corrupted), epoch)
    # To copy ordinary memory the host would wait until the device comes to it.
    return order.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else order.to(device)


def batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """The epoch's batches: int64 [M, B], indices into each member's D'.

    Every sample comes once; a last batch of a single sample is left out, for batch norm has no variance over one.
    """
    return list(order.split(batch_size, dim=1))[: steps_per_epoch(order.shape[1], batch_size)]


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """The number of `batches` of an epoch."""
    full, rest = divmod(samples, batch_size)
    return full + (rest > 1)


@torch.no_grad()
def predict(pack: Pack, images: Sequence[Tensor]) -> Tensor:
    """Logits [M, N, classes] of each member for its own images in eval mode, in the pack's dtype and on its device.

    A member with a logit that isn't finite is entered in `pack.diverged`.

    Args:
        pack: the members.
        images: uint8 [N, C, H, W] of each member; one tensor M times over is read once.
    """
    pack.train(False)
    shared = all(own is images[0] for own in images)
    own = images[:1] if shared else images
    parts = zip(*(each.split(PREDICT_BATCH) for each in own), strict=True)
    stacked = (to_float(torch.stack(part), pack.dtype).expand(len(pack), *[-1] * part[0].ndim) for part in parts)
    logits = torch.cat([pack.forward(each)[0] for each in stacked], dim=1)
    finite = logits.isfinite().flatten(1).all(dim=1).tolist()
    for member in pack.alive:
        if not finite[member]:
            pack.diverged[member] = "the logits are not finite"
    return logits
