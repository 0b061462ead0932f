"""The training loop of a pack, over tensors that already lie on its device."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer

from study import seeds
from study.data import splits
from study.data.corruption import Corrupted
from study.data.dataset import to_float
from study.engine import Pack
from study.engine.cuda_graphs import GraphedStep, with_cuda_graphs
from study.errors import BadInputError
from study.networks import fixup
from study.setting import Stage
from study.settings import names_where
from study.training import determinism
from study.training.augmentation import Augmentation
from study.training.early_stopping import restore, state_tensors
from study.training.optimizers import make_optimizer
from study.training.precision import forward_context, step_context
from study.trial import Trial

PREDICT_BATCH, LARGE_IMAGE, LARGE_BATCH = 512, 128 * 128, 32
"""How many images are measured at once, and from how many pixels on how many: a layer's outputs of all must fit."""
WHOLE_STEPS, WHOLE_PIXELS = 32, 2**24
"""How many steps are one call at most, for its own time not to matter, and how many numbers their images may have."""
SHARED = names_where(
    lambda setting: setting.stage in (Stage.NETWORK, Stage.TRAINING, Stage.MEASUREMENT) and not setting.per_member
)
"""The settings that the members of a pack have in common."""


@dataclass(frozen=True)
class Member:
    """One network to train: its trial, its seed, its D', and its number among the models of that seed."""

    trial: Trial
    seed: int
    corrupted: Corrupted
    model: int = 0

    @property
    def stream_seed(self) -> int:
        """The seed of the member's initial weights and of the order of its samples."""
        return self.seed if self.trial.protocol == "full" else splits.model_seed(self.seed, self.model)

    @property
    def number(self) -> int:
        """The member's number among those of its trial, as the records have it."""
        return self.trial.members.index((self.seed, self.model))


class Training:
    """Train a pack's networks in place, one epoch for each step of the iteration.

    An iteration yields the number of each epoch, from 1, once the epoch is done. The members may differ in seed, data,
    learning rate, weight decay and alpha. The caller chooses the networks, their dtype and their device; D' must be on
    the same device, and all members must share one pool of images. The caller may measure between epochs: each epoch
    puts the pack back into train mode. A member whose loss is no longer finite is entered in `pack.diverged`, and the
    others go on. Training ends early where every member has diverged or is settled.

    Args:
        pack: the networks.
        members: what each is trained on, and how.
        graphs: whether a GPU replays its steps from CUDA graphs; without them it is given each operation by itself.

    Attributes:
        epoch: how many epochs are done.
        settled: the members that need no further epoch; they train on as long as others do.

    Raises:
        BadInputError: the members differ in a setting that a pack shares.
    """

    def __init__(self, pack: Pack, members: Sequence[Member], graphs: bool = True) -> None:
        _check_shared(members)
        self.epoch = 0
        self.settled: set[int] = set()
        self._pack, self._members = pack, members
        self._graphs = graphs and pack.device.type == "cuda"
        self._optimizer, set_to_none = _make_optimizer(pack, members, self._graphs)
        self._rates, self._factor = [group["lr"] for group in self._optimizer.param_groups], 1.0
        self._losses = torch.zeros(len(pack), dtype=pack.dtype, device=pack.device)
        self._augment = Augmentation(
            members[0].trial.augmentation, [member.stream_seed for member in members], members[0].corrupted
        )
        self._take_step = _make_step(pack, members, self._optimizer, set_to_none, self._losses, self._augment)
        self._step = self._replayed()
        self._whole_steps = _make_whole_steps(pack, members, self._optimizer, self._losses)

    def __iter__(self) -> Iterator[int]:
        pack, members, trial = self._pack, self._members, self._members[0].trial
        trained = torch.stack([member.corrupted.training_samples for member in members])
        order = _order(members, trained, self.epoch + 1)
        while self.epoch < trial.epochs and set(pack.alive) - self.settled:
            epoch = self.epoch + 1
            pack.train()
            self._losses.zero_()
            self._set_rates(epoch)
            self._augment.draw(epoch)
            # A layer that draws random numbers, as dropout does, draws them from a stream of this epoch. The first
            # member's seed is enough: no backend packs a network that draws any.
            with (
                seeds.torch_stream(members[0].stream_seed, "layers", epoch, device=pack.device),
                determinism.algorithms(trial.deterministic, pack.device),
            ):
                self._take_steps(batches(order, trial.batch_size))
            # The host waits for a GPU when it reads the losses, so it draws the next epoch's order before that.
            if epoch < trial.epochs:
                order = _order(members, trained, epoch + 1)
            for member, loss in enumerate(self._losses.tolist()):
                if not math.isfinite(loss) and member not in pack.diverged:
                    pack.diverged[member] = f"the training loss is {loss} in epoch {epoch}"
            self.epoch = epoch
            yield epoch

    def _take_steps(self, batches: Sequence[Tensor]) -> None:
        """Take a step with each batch [M, B] in turn, in one call for many where it can be had."""
        if self._whole_steps is None:
            for samples in batches:
                self._step(samples)
        else:
            first = self._members[0]
            of_step = len(self._members) * first.trial.batch_size * first.corrupted.pool[0].numel()
            for many in _of_one_size(batches, max(1, min(WHOLE_STEPS, WHOLE_PIXELS // of_step))):
                self._whole_steps(many, self._factor)

    def _replayed(self) -> Callable[[Tensor], None]:
        """Return the step, which a GPU replays from graphs that are yet to be captured, if it is to."""
        return with_cuda_graphs(self._take_step, self._pack.device) if self._graphs else self._take_step

    @property
    def replays(self) -> int:
        """How many steps were replayed from CUDA graphs at the present learning rates."""
        return self._step.replays if isinstance(self._step, GraphedStep) else 0

    def _set_rates(self, epoch: int) -> None:
        """Give the optimizer the learning rates of an epoch, which follow from its number alone."""
        trial = self._members[0].trial
        self._factor = trial.lr_factor ** sum(drop < epoch for drop in trial.drops)
        rates = [self._factor * rate for rate in self._rates]
        groups = self._optimizer.param_groups
        if rates != [group["lr"] for group in groups]:
            for group, rate in zip(groups, rates, strict=True):
                group["lr"] = rate
            # A graph that was captured before has the earlier rates in it.
            self._step = self._replayed()

    def state(self) -> dict[str, Any]:
        """Return everything that later epochs depend on, as numbers, text and tensors.

        The tensors are the trained ones themselves, not copies. Random streams are left out: each epoch begins its own.
        """
        return {
            "epoch": self.epoch,
            "network": str(self._pack.networks[0]),
            "networks": [state_tensors(network) for network in self._pack.networks],
            "optimizer": [self._optimizer.state.get(parameter, {}) for parameter in self._parameters],
            "diverged": list(self._pack.diverged.items()),
        }

    @torch.no_grad()
    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from an earlier `state`, before any step is taken.

        Raises:
            ValueError: the state belongs to other networks; nothing has changed then.
        """
        self._check(state)
        for network, earlier in zip(self._pack.networks, state["networks"], strict=True):
            restore(network, earlier)
        for parameter, earlier in zip(self._parameters, state["optimizer"], strict=True):
            for name, value in earlier.items():
                # It must have its parameter's memory layout: the optimizer may round differently over another one.
                place = (
                    torch.empty_like(value, device=self._counter_device)
                    if name == "step"
                    else torch.empty_like(parameter)
                )
                self._optimizer.state[parameter][name] = place.copy_(value)
        self._pack.diverged.update(dict(state["diverged"]))
        self.epoch = state["epoch"]

    def _check(self, state: Mapping[str, Any]) -> None:
        """Refuse a state of other networks."""
        current = self.state()
        pairs = [
            pair
            for tensors, saved in zip(current["networks"], state["networks"], strict=True)
            for pair in zip(tensors, saved, strict=True)
        ]
        for parameter, earlier in zip(self._parameters, state["optimizer"], strict=True):
            pairs += [(parameter, value) for name, value in earlier.items() if name != "step"]
        if (
            current["network"] != state["network"]
            or any((tensor.shape, tensor.dtype) != (saved.shape, saved.dtype) for tensor, saved in pairs)
            or state["epoch"] not in range(self._members[0].trial.epochs + 1)
            or any(member not in range(len(self._pack)) for member, _ in state["diverged"])
        ):
            raise ValueError("the state belongs to other networks")

    @property
    def _parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for group in self._optimizer.param_groups for parameter in group["params"]]

    @property
    def _counter_device(self) -> torch.device:
        """Where the optimizer counts its steps: on the GPU if they are captured, for a graph can't read the host."""
        return self._pack.device if self._optimizer.defaults.get("capturable") else torch.device("cpu")


def _check_shared(members: Sequence[Member]) -> None:
    """Refuse members that can't take their steps together."""
    for name in SHARED:
        if len(values := {getattr(member.trial, name) for member in members}) > 1:
            raise BadInputError(f"the members of a pack must share {name}, but theirs are {sorted(values)}.")
    if len({(len(member.corrupted), int(member.corrupted.is_member.sum())) for member in members}) > 1:
        raise BadInputError("the members of a pack must have equally many training samples.")
    if any(member.corrupted.pool is not members[0].corrupted.pool for member in members):
        raise BadInputError("the members of a pack must share one pool of images; see `corrupt_each`.")


def _make_step(
    pack: Pack,
    members: Sequence[Member],
    optimizer: Optimizer,
    set_to_none: bool,
    losses: Tensor,
    augment: Augmentation,
) -> Callable[[Tensor], None]:
    """Return the function that takes one training step of all members and adds their losses to `losses`, [M].

    Its argument are the samples of the batch, int64 [M, B]: indices into each member's D'.
    """
    trial = members[0].trial
    regularizer, precision, smoothing = trial.regularizer, trial.precision, trial.label_smoothing
    alpha = torch.tensor([member.trial.alpha for member in members], dtype=pack.dtype, device=pack.device)
    gather = _gatherer([member.corrupted for member in members])

    def step(samples: Tensor) -> None:
        images, labels = gather(samples)
        images = augment(images, samples)
        optimizer.zero_grad(set_to_none=set_to_none)
        with step_context(precision):
            with forward_context(precision, pack.device), _descent(pack, optimizer):
                logits, penalty = pack.forward(to_float(images, pack.dtype), regularizer)
            flat = logits.to(pack.dtype).flatten(0, 1)
            of_samples = cross_entropy(flat, labels.flatten(), reduction="none", label_smoothing=smoothing)
            loss = of_samples.view_as(labels).mean(dim=1)
            if regularizer != "none":
                loss = alpha * loss + (1 - alpha) * penalty
            # No parameter takes part in two members' losses, so the gradient of the sum is each member's own.
            loss.sum().backward()
        optimizer.step()
        losses.add_(loss.detach())

    return step


def _make_whole_steps(
    pack: Pack, members: Sequence[Member], optimizer: Optimizer, losses: Tensor
) -> Callable[[Tensor, float], None] | None:
    """Return the function that takes many of the steps of `_make_step` at once, or None where it can't be had.

    Its arguments are the samples of the batches, int64 [M, steps, B], and the factor of the learning rates.
    """
    trial = members[0].trial
    plain = type(optimizer) is SGD and not optimizer.param_groups[0]["momentum"] and not trial.label_smoothing
    plain &= (trial.regularizer, trial.precision, trial.augmentation) == ("none", "fp32", "none")
    take = pack.whole_steps() if plain else None
    if take is None:
        return None
    gather = _gatherer([member.corrupted for member in members])

    def steps(samples: Tensor, factor: float) -> None:
        images, labels = gather(samples.flatten(1))
        rates = [[factor * member.trial.lr, member.trial.weight_decay] for member in members]
        take(
            to_float(images, pack.dtype).unflatten(1, samples.shape[1:]),
            labels.view_as(samples),
            losses.new_tensor(rates),
            losses,
        )

    return steps


def _of_one_size(batches: Sequence[Tensor], most: int) -> Iterator[Tensor]:
    """Yield batches [M, B] as one [M, steps, B] for so many steps at most; only an epoch's last may be smaller."""
    for _, alike in groupby(batches, lambda batch: batch.shape[1]):
        yield from torch.stack([*alike], dim=1).split(most, dim=1)


def _make_optimizer(pack: Pack, members: Sequence[Member], graphs: bool) -> tuple[Optimizer, bool]:
    """Return the optimizer of a pack, and whether gradients may be set to None between its steps.

    Where all members share the learning rate and the weight decay, it updates the pack's joint tensors. Otherwise it
    updates each member's own parameters, whose gradients are views into the joint ones and must stay.
    """
    settings = [(member.trial.lr, member.trial.weight_decay) for member in members]
    slower = {parameter for network in pack.networks for parameter in fixup.scalars(network)}
    first = members[0].trial
    groups: dict[tuple[float, float], list[torch.nn.Parameter]] = {}

    def add(parameter: torch.nn.Parameter, own: torch.nn.Parameter, lr: float, decay: float) -> None:
        groups.setdefault((lr * fixup.RATE if own in slower else lr, decay), []).append(parameter)

    alike = len(set(settings)) == 1
    if alike:
        for parameter in pack.parameters:
            add(parameter, pack.own(parameter), *settings[0])
    else:
        for member, setting in enumerate(settings):
            for parameter in pack.parameters_of(member):
                add(parameter, parameter, *setting)
    return make_optimizer(first.optimizer, first.momentum, groups, capturable=graphs), alike


def _descent(pack: Pack, optimizer: Optimizer) -> AbstractContextManager[None]:
    """Return `Pack.descending` where an optimizer does just that to the pack's joint tensors, else an empty context.

    What has no gradient then is left alone by the optimizer. Where parameters have rates of their own, as with Fixup or
    where members differ, it takes all steps itself.
    """
    settings, *others = optimizer.param_groups
    is_plain = type(optimizer) is SGD and not settings["momentum"] and settings["params"][0] is pack.parameters[0]
    is_plain &= not others
    return pack.descending(float(settings["lr"]), settings["weight_decay"]) if is_plain else nullcontext()


def _gatherer(corrupted: Sequence[Corrupted]) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return the function that gathers a batch's images, uint8 [M, B, C, H, W], and labels, int64 [M, B].

    Its argument are the samples of the batch, int64 [M, B]: indices into each member's D'.
    """
    pool = corrupted[0].pool
    rows = torch.stack([of_member.rows for of_member in corrupted])
    labels = torch.stack([of_member.labels for of_member in corrupted])

    def gather(samples: Tensor) -> tuple[Tensor, Tensor]:
        # Sample by sample in memory, as a pack takes them with the members' channels side by side.
        places = rows.gather(1, samples).t()
        images = pool.index_select(0, places.flatten()).unflatten(0, places.shape)
        return images.transpose(0, 1), labels.gather(1, samples)

    return gather


def orders(stream_seeds: Sequence[int], samples: int, epoch: int) -> Tensor:
    """Draw the order in which each member sees its samples in an epoch, from its `order` stream: int64 [M, samples]."""
    permutations = [seeds.generator(seed, "order", epoch).permutation(samples) for seed in stream_seeds]
    return torch.stack([torch.from_numpy(permutation) for permutation in permutations])


def _order(members: Sequence[Member], trained: Tensor, epoch: int) -> Tensor:
    """Return the members' training samples, int64 [M, n], in the order of an epoch, on their device."""
    order = orders([member.stream_seed for member in members], trained.shape[1], epoch)
    # Out of pinned memory the copy doesn't make the host wait for the device.
    on_gpu = trained.device.type == "cuda"
    order = order.pin_memory().to(trained.device, non_blocking=True) if on_gpu else order.to(trained.device)
    return trained.gather(1, order)


def batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """Split the order of an epoch into batches: int64 [M, B], indices into each member's D'.

    Every sample comes once, but a last batch of a single sample is left out: batch norm has no variance over one.
    """
    return list(order.split(batch_size, dim=1))[: steps_per_epoch(order.shape[1], batch_size)]


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """Return the number of `batches` of an epoch."""
    full, rest = divmod(samples, batch_size)
    return full + (rest > 1)


@torch.no_grad()
def predict(pack: Pack, images: Tensor, rows: Sequence[Tensor] | None = None) -> Tensor:
    """Return the logits of each member for its own images in eval mode: [M, N, classes].

    They have the pack's dtype and are on its device.
    A member with a logit that isn't finite is entered in `pack.diverged`.

    Args:
        pack: the members.
        images: uint8 [P, C, H, W], the pool of images that all members share.
        rows: the images of the pool that each member sees, int64 [N]; None is all of them. Where it is one tensor M
            times over, the images are gathered once.
    """
    pack.train(False)
    logits = torch.cat([pack.forward(batch)[0] for batch in image_batches(images, rows, pack)], dim=1)
    finite = logits.isfinite().flatten(1).all(dim=1).tolist()
    for member in pack.alive:
        if not finite[member]:
            pack.diverged[member] = "the logits are not finite"
    return logits


def images_at_once(images: Tensor, usual: int) -> int:
    """Return how many of the images [..., H, W] are measured at once: the usual number, or few where they are large."""
    return usual if images.shape[-2] * images.shape[-1] < LARGE_IMAGE else min(usual, LARGE_BATCH)


def image_batches(images: Tensor, rows: Sequence[Tensor] | None, pack: Pack) -> Iterator[Tensor]:
    """Yield the members' images in batches [M, B, C, H, W], in the pack's dtype."""
    at_once = images_at_once(images, PREDICT_BATCH)
    if rows is None:
        batches: Iterable[Tensor] = (batch[None] for batch in images.split(at_once))
    else:
        # Images that all members share are gathered and scaled once.
        different = rows[:1] if all(of_member is rows[0] for of_member in rows) else rows
        batches = (images[batch] for batch in torch.stack([*different]).split(at_once, dim=1))
    for batch in batches:
        yield to_float(batch, pack.dtype).expand(len(pack), *batch.shape[1:])
