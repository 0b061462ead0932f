"""The lens on activations: where the layers put samples of two batches (Galloway et al., 2019, Figures 1, 4 and 7).

Batch norm mixes what a layer tells of a sample with what it is told of the others of its batch. So the samples of two
batches are shown to a network, each batch with its own statistics as in a step of training, though in eval mode. The
output of every layer with weights, and the images themselves, are recorded in the plane of their two first principal
components over both batches; those of a layer of two units as they are.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from study.data.dataset import to_float
from study.lenses.trained import Trained, measured_epochs
from study.networks.norms import running_statistics_of
from study.record.rows import Measurement, Measurements, Row
from study.training.loop import Member, batches, orders
from study.trial import Trial

BATCHES = 2
"""How many batches are shown: the first of the member's first epoch."""


def wanted(trial: Trial) -> bool:
    """Return whether the trial asks for activations."""
    return trial.activations > 0


def at_start(trained: Trained) -> Measurements:
    """Measure the layers' outputs before training, the rows of `activations` for epoch 0."""
    return measure(trained)


def at_epoch(trained: Trained) -> Measurements:
    """Measure the layers' outputs if this is one of the epochs; of networks that aren't trained, at once."""
    wanted_now = trained.trial.epochs == 0 or trained.epoch in measured_epochs(trained.trial.activations, trained.trial)
    return measure(trained) if wanted_now else {}


def measure(trained: Trained) -> Measurements:
    """Return the rows of `activations` of each member as it is now."""
    return {
        member: Measurement(tables={"activations": list(_rows(trained.pack.networks[member], trained.members[member]))})
        for member in trained.pack.alive
    }


def _rows(network: nn.Module, member: Member) -> Iterator[Row]:
    samples = shown_samples(member)
    outputs: dict[str, list[Tensor]] = {}
    for batch in samples:
        for layer, output in _outputs(network, _images(network, member, batch)).items():
            outputs.setdefault(layer, []).append(output)
    labels = member.corrupted.labels[torch.cat(samples)].tolist()
    numbers = [number for number, batch in enumerate(samples) for _ in batch]
    for layer, by_batch in outputs.items():
        points = plane(torch.cat(by_batch)).tolist()
        for number, sample, label, (x, y) in zip(numbers, torch.cat(samples).tolist(), labels, points, strict=True):
            yield {"layer": layer, "batch": number, "sample": sample, "label": label, "x": x, "y": y}


def shown_samples(member: Member) -> list[Tensor]:
    """Return the samples of each batch that is shown, int64 [B] each: indices into the member's D'."""
    own = member.corrupted.training_samples
    order = orders([member.stream_seed], len(own), 1)[0].to(own.device)
    return [batch[0] for batch in batches(own[order][None], member.trial.batch_size)[:BATCHES]]


def _images(network: nn.Module, member: Member, samples: Tensor) -> Tensor:
    dtype = next(network.parameters()).dtype
    return to_float(member.corrupted.pool[member.corrupted.rows[samples]], dtype)


@torch.no_grad()
def _outputs(network: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """Return what each layer with weights puts out for a batch, [B, features] by its name, and the images first."""
    found = {"input": images.flatten(1).double()}

    def keep(name: str) -> Callable[..., None]:
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            found[name] = output.detach().flatten(1).double()

        return hook

    hooks = [
        layer.register_forward_hook(keep(name))
        for name, layer in network.named_modules()
        if isinstance(weight := getattr(layer, "weight", None), Tensor) and weight.ndim >= 2
    ]
    flags = {module: module.training for module in network.modules()}
    try:
        with running_statistics_of(network, images):
            network.eval()(images)
    finally:
        for hook in hooks:
            hook.remove()
        for module, flag in flags.items():
            module.training = flag
    return found


def plane(features: Tensor) -> Tensor:
    """Return features [N, D] in the plane of their two first principal components, [N, 2].

    Two features are taken as they are, and of a single one the second coordinate is 0. The largest weight of a
    component is positive, so that pictures of two runs have the same sides.
    """
    if features.shape[1] <= 2:
        return nn.functional.pad(features, (0, 2 - features.shape[1]))
    centred = features - features.mean(dim=0)
    _, _, components = torch.linalg.svd(centred, full_matrices=False)
    first = components[:2]
    largest = first.gather(1, first.abs().argmax(dim=1, keepdim=True))
    projected: Tensor = centred @ (first * torch.where(largest < 0, -1.0, 1.0)).T
    return projected
