"""The training loop: one member, plain, over tensors that lie on its device."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from study import regularizers, seeds
from study.corruption import Corrupted
from study.data import to_float
from study.errors import DivergedError
from study.optimizers import optimizer
from study.trial import Trial

PREDICT_BATCH = 512


def train(network: nn.Module, corrupted: Corrupted, trial: Trial, seed: int) -> Iterator[int]:
    """Train the network in place, yielding the number of each epoch, from 1, when it is done.

    The network, its dtype and its device are the caller's; `corrupted` must be on the same device. A caller may
    measure between epochs: the network is put back into train mode before each one.

    Raises:
        DivergedError: the loss of an epoch isn't finite.
    """
    dtype = next(network.parameters()).dtype
    step = optimizer(trial.optimizer, network, trial.lr, trial.weight_decay)
    with regularizers.penalized(network, trial.regularizer) as penalty:
        for epoch in range(1, trial.epochs + 1):
            network.train()
            # The losses are added up on the device: reading each would make the device wait for the host.
            total = torch.zeros((), dtype=dtype, device=corrupted.labels.device)
            for batch in batches(len(corrupted), trial.batch_size, seed, epoch):
                batch = batch.to(corrupted.labels.device)
                logits = network(to_float(corrupted.images[batch], dtype))
                loss = cross_entropy(logits, corrupted.labels[batch])
                if trial.regularizer != "none":
                    loss = trial.alpha * loss + (1 - trial.alpha) * penalty()
                step.zero_grad()
                loss.backward()
                step.step()
                total += loss.detach()
            if not torch.isfinite(total):
                raise DivergedError(f"the training loss is {total.item()} in epoch {epoch}")
            yield epoch


def batches(samples: int, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """The epoch's batches: int64 indices into D' in the order of the seed's `order` stream.

    Every sample comes once; a last batch of a single sample is left out, for batch norm has no variance over one.
    """
    order = torch.from_numpy(seeds.generator(seed, "order", epoch).permutation(samples))
    return list(order.split(batch_size))[: steps_per_epoch(samples, batch_size)]


def steps_per_epoch(samples: int, batch_size: int) -> int:
    """The number of `batches` of an epoch."""
    full, rest = divmod(samples, batch_size)
    return full + (rest > 1)


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Logits [N, classes] in eval mode, in the network's dtype and on its device.

    Raises:
        DivergedError: a logit isn't finite.
    """
    dtype = next(network.parameters()).dtype
    network.eval()
    logits = torch.cat([network(to_float(part, dtype)) for part in images.split(PREDICT_BATCH)])
    if not torch.isfinite(logits).all():
        raise DivergedError("the logits are not finite")
    return logits
