"""The training loop: a pack of members, over tensors that lie on its device."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from study import seeds, splits
from study.corruption import Corrupted
from study.data import to_float
from study.engine import Pack
from study.engine.graphs import graphed
from study.errors import BadInputError
from study.optimizers import optimizer
from study.precision import forward_in, step_in
from study.trial import Trial

PREDICT_BATCH = 512
SHARED = (
    *("architecture", "norm", "regularizer", "label_smoothing", "optimizer", "batch_size", "epochs", "eval_every"),
    "precision",
)
"""The settings that the members of a pack have in common."""


@dataclass(frozen=True)
class Member:
    """What one network is trained on: the settings of its trial, its seed, D' and which of its seed's models it is."""

    trial: Trial
    seed: int
    corrupted: Corrupted
    model: int = 0

    @property
    def stream(self) -> int:
        """The seed of its initial weights and of the order of its samples."""
        return self.seed if self.trial.protocol == "full" else splits.model_seed(self.seed, self.model)


def train(pack: Pack, members: Sequence[Member]) -> Iterator[int]:
    """Train the pack's networks in place, yielding the number of each epoch, from 1, when it is done.

    Members may differ in seed, data, learning rate, weight decay and alpha. Their networks, dtype and device are the
    caller's; D' must be on the same device, its images in one pool for all of them. A caller may measure between
    epochs: the pack is put back into train mode before each one. A member whose loss is no longer finite is entered in
    `pack.diverged`, and the others go on; training ends when none is left.

    Raises:
        BadInputError: the members differ in what a pack shares.
    """
    _check_shared(members)
    trial = members[0].trial
    losses = torch.zeros(len(pack), dtype=pack.dtype, device=pack.device)
    step = graphed(_step(pack, members, losses), pack.device)
    trained = torch.stack([member.corrupted.trained for member in members])
    order = _order(members, trained, 1)
    for epoch in range(1, trial.epochs + 1):
        pack.train()
        losses.zero_()
        for samples in batches(order, trial.batch_size):
            step(samples)
        # A GPU is still at it, and until the losses are asked for the host may do something else.
        if epoch < trial.epochs:
            order = _order(members, trained, epoch + 1)
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
    if len({(len(member.corrupted), int(member.corrupted.is_member.sum())) for member in members}) > 1:
        raise BadInputError("the members of a pack must have equally many training samples.")
    if any(member.corrupted.pool is not members[0].corrupted.pool for member in members):
        raise BadInputError("the members of a pack must share one pool of images; see `corrupt_each`.")


def _step(pack: Pack, members: Sequence[Member], losses: Tensor) -> Callable[[Tensor], None]:
    """One step of all members on the samples [M, B] of their D', int64; each one's loss is added to `losses`."""
    trial = members[0].trial
    regularizer, precision, smoothing = trial.regularizer, trial.precision, trial.label_smoothing
    alpha = torch.tensor([member.trial.alpha for member in members], dtype=pack.dtype, device=pack.device)
    update, set_to_none = _optimizer(pack, members)
    examples = _examples([member.corrupted for member in members])

    def step(samples: Tensor) -> None:
        images, labels = examples(samples)
        update.zero_grad(set_to_none=set_to_none)
        with step_in(precision):
            with forward_in(precision, pack.device):
                logits, penalty = pack.forward(to_float(images, pack.dtype), regularizer)
            flat = logits.to(pack.dtype).flatten(0, 1)
            each = cross_entropy(flat, labels.flatten(), reduction="none", label_smoothing=smoothing)
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
    """What gathers the images, uint8 [M, B, C, H, W], and labels, int64 [M, B], of samples [M, B] of each one's D'."""
    pool = corrupted[0].pool
    rows, labels = (torch.stack([getattr(each, name) for each in corrupted]) for name in ("rows", "labels"))

    def gather(samples: Tensor) -> tuple[Tensor, Tensor]:
        return pool[rows.gather(1, samples)], labels.gather(1, samples)

    return gather


def orders(members: Sequence[int], samples: int, epoch: int) -> Tensor:
    """The order in which each member sees its samples in an epoch, from its `order` stream: int64 [M, samples]."""
    each = [seeds.generator(seed, "order", epoch).permutation(samples) for seed in members]
    return torch.stack([torch.from_numpy(order) for order in each])


def _order(members: Sequence[Member], trained: Tensor, epoch: int) -> Tensor:
    """The members' training samples, int64 [M, n], as they come in an epoch, on their device."""
    order = orders([member.stream for member in members], trained.shape[1], epoch)
    # To copy ordinary memory the host would wait until the device comes to it.
    on_gpu = trained.device.type == "cuda"
    order = order.pin_memory().to(trained.device, non_blocking=True) if on_gpu else order.to(trained.device)
    return trained.gather(1, order)


def batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """The epoch's batches: int64 [M, B], indices into each member's D'.

    Every sample of the order comes once; a last batch of a single sample is left out, for batch norm has no variance
    over one.
    """
    return list(order.split(batch_size, dim=1))[: steps_per_epoch(order.shape[1], batch_size)]


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """The number of `batches` of an epoch."""
    full, rest = divmod(samples, batch_size)
    return full + (rest > 1)


@torch.no_grad()
def predict(pack: Pack, images: Tensor, rows: Sequence[Tensor] | None = None) -> Tensor:
    """Logits [M, N, classes] of each member for its own images in eval mode, in the pack's dtype and on its device.

    A member with a logit that isn't finite is entered in `pack.diverged`.

    Args:
        pack: the members.
        images: uint8 [P, C, H, W], the pool that all of them see.
        rows: which images each member is to see, int64 [N]; one tensor M times over is read once. None is all of them.
    """
    pack.train(False)
    logits = torch.cat([pack.forward(batch)[0] for batch in _batches_of(images, rows, pack)], dim=1)
    finite = logits.isfinite().flatten(1).all(dim=1).tolist()
    for member in pack.alive:
        if not finite[member]:
            pack.diverged[member] = "the logits are not finite"
    return logits


def _batches_of(images: Tensor, rows: Sequence[Tensor] | None, pack: Pack) -> Iterator[Tensor]:
    """The members' images [M, B, C, H, W] as the pack takes them, batch by batch."""
    if rows is None:
        parts: Iterable[Tensor] = (part[None] for part in images.split(PREDICT_BATCH))
    else:
        # What all members see alike is gathered and scaled once.
        own = rows[:1] if all(each is rows[0] for each in rows) else rows
        parts = (images[part] for part in torch.stack([*own]).split(PREDICT_BATCH, dim=1))
    for part in parts:
        yield to_float(part, pack.dtype).expand(len(pack), *part.shape[1:])
