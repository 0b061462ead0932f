"""The training loop: a pack of members, over tensors that lie on its device."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from study import seeds
from study.data import splits
from study.data.corruption import Corrupted
from study.data.dataset import to_float
from study.engine import Pack
from study.engine.cuda_graphs import graphed
from study.errors import BadInputError
from study.training.early_stopping import restore, tensors
from study.training.optimizers import optimizer
from study.training.precision import forward_in, step_in
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


class Training:
    """The training of a pack's networks, in place; iterated, it yields each epoch's number, from 1, when it is done.

    Members may differ in seed, data, learning rate, weight decay and alpha. Their networks, dtype and device are the
    caller's; D' must be on the same device, its images in one pool for all of them. A caller may measure between
    epochs: the pack is put back into train mode before each one. A member whose loss is no longer finite is entered in
    `pack.diverged`, and the others go on; training ends when none is left.

    Attributes:
        epoch: how many are done.

    Raises:
        BadInputError: the members differ in what a pack shares.
    """

    def __init__(self, pack: Pack, members: Sequence[Member]) -> None:
        _check_shared(members)
        self.epoch = 0
        self._pack, self._members = pack, members
        self._optimizer, set_to_none = _optimizer(pack, members)
        self._losses = torch.zeros(len(pack), dtype=pack.dtype, device=pack.device)
        self._step = graphed(_step(pack, members, self._optimizer, set_to_none, self._losses), pack.device)

    def __iter__(self) -> Iterator[int]:
        pack, members, trial = self._pack, self._members, self._members[0].trial
        trained = torch.stack([member.corrupted.trained for member in members])
        order = _order(members, trained, self.epoch + 1)
        while self.epoch < trial.epochs and pack.alive:
            epoch = self.epoch + 1
            pack.train()
            self._losses.zero_()
            # Whatever a layer draws, as dropout does, is the epoch's own; only alone do networks draw anything.
            with seeds.torch_stream(members[0].stream, "layers", epoch, device=pack.device):
                for samples in batches(order, trial.batch_size):
                    self._step(samples)
            # A GPU is still at it, and until the losses are asked for the host may do something else.
            if epoch < trial.epochs:
                order = _order(members, trained, epoch + 1)
            for member, loss in enumerate(self._losses.tolist()):
                if not math.isfinite(loss) and member not in pack.diverged:
                    pack.diverged[member] = f"the training loss is {loss} in epoch {epoch}"
            self.epoch = epoch
            yield epoch

    def state(self) -> dict[str, Any]:
        """What all further epochs depend on, as numbers, text and tensors, the latter being those that are trained.

        Random streams are not among it: each epoch begins its own.
        """
        return {
            "epoch": self.epoch,
            "network": str(self._pack.networks[0]),
            "networks": [tensors(network) for network in self._pack.networks],
            "optimizer": [self._optimizer.state.get(parameter, {}) for parameter in self._parameters],
            "diverged": list(self._pack.diverged.items()),
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on after the epoch of an earlier state, before any step is taken.

        Raises:
            ValueError: it is that of other networks; then nothing has changed.
        """
        self._check(state)
        for network, earlier in zip(self._pack.networks, state["networks"], strict=True):
            restore(network, earlier)
        for parameter, earlier in zip(self._parameters, state["optimizer"], strict=True):
            for name, value in earlier.items():
                # In memory it must lie as its parameter does: other loops over it may round otherwise.
                like = torch.empty_like(parameter) if name != "step" else torch.empty_like(value, device=self._counter)
                self._optimizer.state[parameter][name] = like.copy_(value)
        self._pack.diverged.update(dict(state["diverged"]))
        self.epoch = state["epoch"]

    def _check(self, state: Mapping[str, Any]) -> None:
        own = self.state()
        pairs = [
            pair
            for ours, theirs in zip(own["networks"], state["networks"], strict=True)
            for pair in zip(ours, theirs, strict=True)
        ]
        for parameter, earlier in zip(self._parameters, state["optimizer"], strict=True):
            pairs += [(parameter, value) for name, value in earlier.items() if name != "step"]
        if (
            own["network"] != state["network"]
            or any((one.shape, one.dtype) != (other.shape, other.dtype) for one, other in pairs)
            or state["epoch"] not in range(self._members[0].trial.epochs + 1)
            or any(member not in range(len(self._pack)) for member, _ in state["diverged"])
        ):
            raise ValueError("the state is that of other networks")

    @property
    def _parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]

    @property
    def _counter(self) -> torch.device:
        """Where the optimizer counts its steps: on a GPU if they are captured, for a graph asks nothing of the host."""
        return self._pack.device if self._optimizer.defaults.get("capturable") else torch.device("cpu")


def _check_shared(members: Sequence[Member]) -> None:
    """Refuse members that can't take their steps together."""
    for name in SHARED:
        if len(found := {getattr(member.trial, name) for member in members}) > 1:
            raise BadInputError(f"the members of a pack must share {name}, not have {sorted(found)}.")
    if len({(len(member.corrupted), int(member.corrupted.is_member.sum())) for member in members}) > 1:
        raise BadInputError("the members of a pack must have equally many training samples.")
    if any(member.corrupted.pool is not members[0].corrupted.pool for member in members):
        raise BadInputError("the members of a pack must share one pool of images; see `corrupt_each`.")


def _step(
    pack: Pack, members: Sequence[Member], update: Optimizer, set_to_none: bool, losses: Tensor
) -> Callable[[Tensor], None]:
    """One step of all members on the samples [M, B] of their D', int64; each one's loss is added to `losses`."""
    trial = members[0].trial
    regularizer, precision, smoothing = trial.regularizer, trial.precision, trial.label_smoothing
    alpha = torch.tensor([member.trial.alpha for member in members], dtype=pack.dtype, device=pack.device)
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
