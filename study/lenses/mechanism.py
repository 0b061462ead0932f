"""The lens on the mechanism: how margins, gradients and the gradient of gamma go on through training (sections 5, A.2).

The theory is about a sample's margin m, of which its loss is log(1 + exp(-m)). With several classes that is the
membership score z_y - logsumexp of the other logits, exactly. At some epochs, 0 among them, it records the
margin and the gradient norm of single samples, and what samples of S_out and of S_in add to the gradient of each batch
norm's gamma (Prop. 5.4). All of it is in eval mode, at initialization with the statistics of the first samples, as
`Trained.at_initialization` has them.

So that a measured epoch costs a fraction of an epoch, it looks at `SAMPLES` samples of S_out and of S_in at most. They
are drawn by the seed, and all arms have the same.
"""

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from study import seeds
from study.data.corruption import Corrupted
from study.data.dataset import Dataset, to_float
from study.errors import BadInputError
from study.lenses import gradient_norms
from study.lenses.gradient_norms import grad_norms, sample_gradients
from study.lenses.membership import score
from study.lenses.trained import GROUPS, Trained, measured_epochs
from study.networks.norms import batch_norms
from study.record.rows import Measurement, Measurements, Row
from study.training.loop import Member
from study.trial import Trial

SAMPLES = 80
"""How many samples of S_out and how many of S_in are looked at, or all where there are fewer."""


def wanted(trial: Trial) -> bool:
    """Return whether the trial asks for the mechanism."""
    return trial.mechanism > 0


def check(trial: Trial, network: nn.Module, data: Dataset) -> None:
    """Refuse a network without exact gradients of single samples; see `gradient_norms.check_exact`."""
    if not gradient_norms.can_be_vmapped(network, data.shape, data.classes):
        raise BadInputError(
            f"mechanism={trial.mechanism} needs the gradients of several samples of {type(network).__name__} at once, "
            "which torch.func gets wrong or can't compute: use mechanism=0."
        )


def at_start(trained: Trained) -> Measurements:
    """Measure margins and gradients at initialization, the rows of `margins` and `gamma_gradients` for epoch 0."""
    return measure(trained)


def at_epoch(trained: Trained) -> Measurements:
    """Measure margins and gradients, the rows of `margins` and of `gamma_gradients`, if this is one of the epochs."""
    return measure(trained) if trained.epoch in measured_epochs(trained.trial.mechanism, trained.trial) else {}


def chosen_samples(member: Member) -> Tensor:
    """Return the samples that are looked at, those of S_out first, each group in the order of D': int64, on the CPU."""
    corrupted = member.corrupted
    order = torch.from_numpy(seeds.generator(member.stream_seed, "mechanism").permutation(len(corrupted)))
    out, seen = corrupted.atypical.cpu()[order], corrupted.is_member.cpu()[order]
    groups = (order[group & seen][:SAMPLES].sort().values for group in (out, ~out))
    return torch.cat(list(groups))


def measure(trained: Trained) -> Measurements:
    """Measure margins and gradients now, whatever the epoch."""
    chosen = [chosen_samples(member).to(trained.pack.device) for member in trained.members]
    # Members of one pack may differ in k, and so in the number of their samples.
    together = pad_sequence(chosen, batch_first=True)
    rows, labels = (
        [values[own] for values, own in zip(of_members, together, strict=True)]
        for of_members in ([each.rows for each in trained.corrupted], [each.labels for each in trained.corrupted])
    )
    norms = grad_norms(trained.pack, trained.corrupted[0].pool, rows, labels).cpu()
    measurements = {}
    for position in trained.pack.alive:
        own, corrupted = chosen[position], trained.corrupted[position]
        margins = score(trained.logits.train[position][own], corrupted.labels[own])
        tables = {
            "margins": _margins(trained.trial, corrupted, own, margins, norms[position, : len(own)]),
            "gamma_gradients": gamma_gradients(trained.pack.networks[position], corrupted, own),
        }
        measurements[position] = Measurement(tables=tables)
    return measurements


def _margins(trial: Trial, corrupted: Corrupted, chosen: Tensor, margins: Tensor, norms: Tensor) -> list[Row]:
    """Return a row of `margins` for each chosen sample."""
    out = corrupted.atypical[chosen].tolist()
    columns = zip(chosen.tolist(), out, margins.tolist(), norms.tolist(), strict=True)
    return [
        {"sample": sample, "group": GROUPS[trial.corruption] if atypical else "clean", "margin": m, "grad_norm": norm}
        for sample, atypical, m, norm in columns
    ]


def gamma_gradients(network: nn.Module, corrupted: Corrupted, chosen: Tensor) -> list[Row]:
    """Return what the samples of each group add to the gradient of each batch norm's gamma, as rows of the table.

    A sample's part has a size, the mean over channels of its absolute value, and a push, the mean over channels of
    minus the part times gamma's sign: a step of gradient descent on the sample makes gamma's size grow if its push is
    above 0. Both are averaged over the chosen samples of a group. S_out's share is that of the sizes, added up over all
    of S_out and of S_in.

    Args:
        network: the member's own, on the device of its D'.
        corrupted: its D'.
        chosen: see `chosen_samples`.
    """
    layers = {name: layer for name, layer in batch_norms(network) if layer.affine and layer.weight.requires_grad}
    if not layers:
        return []
    gammas = {f"{name}.weight": layer.weight.detach() for name, layer in layers.items()}
    images = to_float(corrupted.pool[corrupted.rows[chosen]], next(iter(gammas.values())).dtype)
    sizes: dict[str, list[Tensor]] = {name: [] for name in gammas}
    pushes: dict[str, list[Tensor]] = {name: [] for name in gammas}
    for directions, lengths in sample_gradients(network, gammas, images, corrupted.labels[chosen]):
        for name, direction in directions.items():
            sizes[name].append(direction.abs().mean(dim=1).double() * lengths)
            pushes[name].append(-(direction * gammas[name].sign()).mean(dim=1).double() * lengths)
    out = corrupted.atypical[chosen]
    n_out = int((corrupted.atypical & corrupted.is_member).sum())
    n_in = int(corrupted.is_member.sum()) - n_out
    rows = []
    for depth, (layer, name) in enumerate(zip(layers, gammas, strict=True)):
        size_out, size_in = _group_means(torch.cat(sizes[name]), out)
        push_out, push_in = _group_means(torch.cat(pushes[name]), out)
        whole = n_out * (size_out or 0.0) + n_in * (size_in or 0.0)
        share = n_out * (size_out or 0.0) / whole if whole else None
        row = {"layer": layer, "depth": depth, "size_out": size_out, "size_in": size_in, "share_out": share}
        rows.append({**row, "push_out": push_out, "push_in": push_in})
    return rows


def _group_means(values: Tensor, out: Tensor) -> tuple[float | None, float | None]:
    """Return the means over S_out and over S_in, None of an empty one."""
    means = [values[group].mean().item() if group.any() else None for group in (out, ~out)]
    return means[0], means[1]
