"""One trial, from its settings to its records: the Methods section.

D is loaded and corrupted, networks are built and trained side by side, each lens measures them, and the measurements
become records. What is measured is stated in `study.lenses.registry`.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from study import engine
from study.data import folders
from study.data.corruption import Corrupted, Rules, amount, corrupt, corrupt_each
from study.data.dataset import Dataset, to_float
from study.data.load import load
from study.data.ood import ood_images
from study.data.splits import training_sets
from study.data.survey import check_classes
from study.engine.packing import train_in_packs
from study.errors import BadInputError
from study.lenses import registry
from study.lenses.membership import audit_with_shadows
from study.lenses.trained import Trained, sample_table
from study.network_of import check_published_weights, network_of, standardization
from study.networks import build, regularizers, rehearsal, weights
from study.networks.catalog import NETWORKS
from study.record.checkpoints import CheckpointStore
from study.record.provenance import provenance
from study.record.rows import Curves, Measurement, Records, Row, describe
from study.record.schema import SCHEMAS
from study.record.weights import Keep
from study.speed import backend_choice
from study.speed.timings import fastest, step_seconds
from study.training import determinism, precision
from study.training.augmentation import MOST_PIXELS
from study.training.checkpoint import SAVE_EVERY_S, Checkpoints, PackProgress
from study.training.early_stopping import BEST_BY, has_converged, reported_epoch, restore, snapshot
from study.training.loop import Member, Training, steps_per_epoch
from study.training.pace import Pace
from study.trial import Trial
from study.worker import one_thread

Progress = Callable[[float], None]


def run(
    trial: Trial,
    data_dir: str | Path,
    device: str = "cpu",
    progress: Progress = lambda _: None,
    backend: str = "auto",
    store: CheckpointStore | None = None,
    save_every_s: float = SAVE_EVERY_S,
    keep: Keep | None = None,
    curves: Curves | None = None,
) -> Records:
    """Train and measure every member of the trial, and return its records.

    Meanwhile torch computes on one thread, as in the commands: networks this small are slower on more, and round
    differently. Afterwards it computes on as many as before.

    Args:
        trial: the settings.
        data_dir: the folder of torchvision's datasets, or its URI.
        device: a torch device.
        progress: called after each epoch with the fraction of the trial that is done, in (0, 1].
        backend: how members train side by side, a key of `engine.BACKENDS`, or `auto` for the fastest on this device.
            Results depend on it by the rounding of float32 alone.
        store: where checkpoints of a long trial are kept; by default there are none.
        save_every_s: the least time between two checkpoints, in seconds.
        keep: keeps the trained weights of a member, where the trial has `weights=final`.
        curves: called with what was measured of each member after an epoch, before `progress`.

    Raises:
        BadInputError: the dataset can't be loaded or the settings don't fit it; the network has no gamma to regularize,
            or a lens can't measure it; the backend can't express it; or weights are asked for and can't be kept.

    Example:
        >>> records = run(Trial(subset=200, k=0.1, epochs=1, batch_size=64, seed=(0, 1)), "data")
        >>> [(row["seed"], row["n_out"], row["status"]) for row in records.members]
        [(0, 20, 'ok'), (1, 20, 'ok')]
    """
    return run_together([trial], data_dir, device, progress, backend, store, save_every_s, keep, curves)[0]


@one_thread()
def run_together(
    trials: Sequence[Trial],
    data_dir: str | Path,
    device: str,
    progress: Progress,
    backend: str = "auto",
    store: CheckpointStore | None = None,
    save_every_s: float = SAVE_EVERY_S,
    keep: Keep | None = None,
    curves: Curves | None = None,
    known: backend_choice.Known = MappingProxyType({}),
) -> list[Records]:
    """Train and measure the members of several trials side by side, and return the records of each; see `run`.

    The trials must have in common the dataset, the corruption, what is recorded and all that a pack shares (see
    `training.loop.SHARED`), and have equally many samples. What is `known` of how such members train fastest is not
    timed again.
    """
    first = trials[0]
    precision.check(first.precision, device)
    determinism.check(first.deterministic, device)
    precision.use_full_float32()
    data = load(first.dataset, data_dir, first.subset, first.validation, first.resize, first.test_images)
    check_classes(first.dataset, data.classes)
    _check_augmentation(first, data)
    standardization(first, data)
    check_published_weights(first, data)
    _check_network(first, data)
    _check_regularizer(first, data)
    _check_weights(first, data, keep)
    registry.check(first, data)
    members = make_members(trials, data, data_dir, device)
    work = sum(member.trial.epochs * _training_samples(member) for member in members)
    timings = backend_choice.timings_of(first, data.shape, data.classes, len(members), device, backend, known, work)
    backend = fastest(timings, len(members)).backend
    # D itself is on the device as the images of D', which all members share.
    data = replace(data, test=data.test.to(device), validation=data.validation.to(device))
    checkpoints = Checkpoints(store, save_every_s)

    def train_and_measure(together: Sequence[Member], progress: Progress) -> list[Records]:
        with determinism.algorithms(first.deterministic, torch.device(device)):
            return run_pack(together, data, device, backend, progress, checkpoints, keep, curves)

    steps = step_seconds(timings, backend)
    by_member = train_in_packs(members, steps, train_and_measure, progress, _training_samples)
    records = {trial.id: Records() for trial in trials}
    for member, measured in zip(members, by_member, strict=True):
        records[member.trial.id].extend(measured.identified({"trial": member.trial.id, "member": member.number}))
    for trial in trials:
        if trial.protocol == "splits":
            audit_with_shadows(trial, members, records[trial.id])
    return list(records.values())


def check(trial: Trial, data_dir: str | Path) -> None:
    """Refuse, before any training, a dataset that can't be loaded or corrupted and a network that can't be regularized.

    Nor may a network of the user's be unfit, or one that a lens can't measure.

    Raises:
        BadInputError: the dataset or the network doesn't fit the settings.
    """
    data = load(trial.dataset, data_dir, trial.subset, trial.validation, trial.resize, trial.test_images)
    check_classes(trial.dataset, data.classes)
    _check_augmentation(trial, data)
    standardization(trial, data)
    check_published_weights(trial, data)
    _check_network(trial, data)
    _check_regularizer(trial, data)
    if trial.architecture not in NETWORKS or trial.suites:
        registry.check(trial, data)
    if trial.corruption == "ood":
        source = ood_images(trial.ood, data_dir, data.shape)
        corrupt(data.train, data.classes, trial.corruption, trial.k, trial.seed[0], source, rules_of(trial))
    elif trial.corruption == "label":
        corrupt(data.train, data.classes, trial.corruption, trial.k, trial.seed[0], rules=rules_of(trial))
    elif trial.corruption == "natural":
        amount(trial.k, len(data.train), trial.k_of)


def rules_of(trial: Trial) -> Rules:
    """Return what the trial says of how D is corrupted, where the paper says it in two ways."""
    return Rules(trial.k_of, trial.flip_to, trial.ood_labels)


def run_pack(
    members: Sequence[Member],
    data: Dataset,
    device: str,
    backend: str,
    report: Progress,
    checkpoints: Checkpoints | None = None,
    keep: Keep | None = None,
    curves: Curves | None = None,
) -> list[Records]:
    """Train members side by side, measure each with every lens, and return each one's rows, without trial and member.

    A member that diverges is an outcome: its row says so and has no results, and its curves end where it was last
    finite. A pack that was stopped goes on from its checkpoint, where there is one.
    """
    checkpoint = (checkpoints or Checkpoints()).of(members, device, backend)
    if checkpoint.records is not None:
        measured = [Records(tables) for tables in checkpoint.records]
        _tell_curves(members, measured, curves)
        report(1.0)
        return measured
    trial = members[0].trial
    networks = [network_of(member.trial, data, member.stream_seed).to(device) for member in members]
    pack = engine.pack(backend, networks, data.shape)
    training, progress = Training(pack, members), PackProgress.begin(len(members))
    checkpoint.resume(progress, training)
    if training.epoch == 0 and trial.epochs:
        progress.add(registry.at_start(Trained(pack, members, data, 0)), 0, 0)
    if trial.stopping == "converged":
        training.settled = set(progress.kept)
    _tell_curves(members, progress.records, curves)
    trained: Trained | None = None
    lens_epochs = registry.cost(trial, data) / max(1, _training_samples(members[0]))
    pace = Pace(report, trial.epochs, lens_epochs, training.epoch)
    if trial.epochs == 0:
        trained = Trained(pack, members, data, 0)
        progress.add(registry.at_epoch(trained), 0, 0)
    for epoch in training:
        if pack.alive and (epoch % trial.eval_every == 0 or epoch == trial.epochs):
            trained = Trained(pack, members, data, epoch)
            step = epoch * steps_per_epoch(_training_samples(members[0]), trial.batch_size)
            of_epoch = registry.at_epoch(trained)
            progress.add({at: of_epoch[at] for at in of_epoch.keys() - training.settled}, epoch, step)
            _tell_curves(members, progress.records, curves, epoch)
            if trial.stopping != "none":
                _keep_states(members, pack, training, progress)
        checkpoint.save_if_due(progress, training)
        pace.epoch(epoch)
    for position in training.settled:
        pack.diverged.pop(position, None)  # what became of it later is of no account
    for position in progress.kept.keys() & set(pack.alive):
        restore(networks[position], progress.kept[position])
        trained = None
    # A pack that was resumed after its last epoch has not been measured in this process.
    trained = trained or Trained(pack, members, data, training.epoch)

    def done(fraction: float) -> None:
        checkpoint.save_if_due(progress, training)
        pace.lens(fraction)

    trained.notes, trained.done = progress.notes, done
    measurements = registry.at_end(trained) if pack.alive else {}
    pace.end()
    # The time of one member is its share of the pack's.
    origin = {"started": progress.started, "seconds": progress.seconds / len(members)}
    origin |= provenance(device, backend, len(members))
    for position, (member, records) in enumerate(zip(members, progress.records, strict=True)):
        row = {**describe(member.trial, member.seed, member.model), **origin}
        row |= _sizes(networks[position], member.corrupted, data)
        if position in measurements:
            _record(member, measurements[position], row, records)
        else:
            row |= {"status": "diverged", "error": pack.diverged[position]}
        if keep and trial.weights == "final":
            trained_well = position in measurements
            keep(member.trial.id, member.number, _weights(member, networks[position], data) if trained_well else None)
        records.extend({"members": [row]})
    checkpoint.add_records([records.tables for records in progress.records])
    return progress.records


def _keep_states(members: Sequence[Member], pack: engine.Pack, training: Training, progress: PackProgress) -> None:
    """Keep the state of each member that is better than ever on the validation set, or that has just converged."""
    stopping = members[0].trial.stopping
    for position in set(pack.alive) - training.settled:
        curve = progress.curve(position)
        if stopping in BEST_BY and reported_epoch(stopping, curve) is curve[-1]:
            progress.kept[position] = snapshot(pack.networks[position])
        if stopping == "converged" and has_converged(curve, *_group_sizes(members[position].corrupted)):
            progress.kept[position] = snapshot(pack.networks[position])
            training.settled.add(position)


def _tell_curves(members: Sequence[Member], records: Sequence[Records], curves: Curves | None, since: int = 0) -> None:
    """Tell what was measured of each member since an epoch, that epoch included."""
    for member, of_member in zip(members, records, strict=True) if curves else ():
        rows = of_member.tables["epochs"]
        first = next((place for place, row in enumerate(rows) if row["epoch"] >= since), len(rows))
        if curves and first < len(rows):
            curves(member.trial.id, member.number, rows[first:])


def _check_augmentation(trial: Trial, data: Dataset) -> None:
    """Refuse images so small that a shift would leave nothing of them."""
    _, height, width = data.shape
    if trial.augmentation != "none" and min(height, width) <= MOST_PIXELS:
        raise BadInputError(
            f"augmentation={trial.augmentation} shifts images by up to {MOST_PIXELS} pixels, and those of "
            f"{trial.dataset} have {height}x{width}."
        )


def _check_network(trial: Trial, data: Dataset) -> None:
    """Refuse a network of the user's that is unfit for the images and the steps of the trial."""
    images = to_float(data.train.images[: rehearsal.IMAGES], torch.float32)
    labels = data.train.labels[: rehearsal.IMAGES]
    build.check(
        trial.architecture,
        trial.norm,
        trial.seed[0],
        images,
        labels,
        data.classes,
        trial.batch_size,
        trial.network_options,
    )


def _check_regularizer(trial: Trial, data: Dataset) -> None:
    """Refuse a network that has no gamma for the regularizer that the trial asks for."""
    if trial.regularizer != "none":
        regularizers.check(trial.regularizer, trial.architecture, network_of(trial, data, trial.seed[0]))


def _check_weights(trial: Trial, data: Dataset, keep: Keep | None) -> None:
    """Refuse weights that are asked for and have no place to be kept, or none in their file."""
    if trial.weights == "final":
        if keep is None:
            raise BadInputError("weights=final keeps the trained networks beside the records: name a folder for them.")
        weights.check(trial.architecture, network_of(trial, data, trial.seed[0]))


def _weights(member: Member, network: nn.Module, data: Dataset) -> bytes:
    """Return the weights of a trained member as a file that says whose they are."""
    trial = member.trial
    facts = {"trial": trial.id, "member": member.number, "seed": member.seed, "model": member.model}
    facts["dataset"] = folders.identity(trial.dataset)
    options = trial.network_options
    return weights.encode(network, trial.architecture, trial.norm, data.shape, data.classes, options, facts)


def make_members(trials: Sequence[Trial], data: Dataset, data_dir: str | Path, device: str) -> list[Member]:
    """Corrupt D for every seed of every trial, and return the members with what each is trained on, in order."""
    first = trials[0]
    source = ood_images(first.ood, data_dir, data.shape) if first.corruption == "ood" else None
    seeds = [(trial, seed) for trial in trials for seed in trial.seed]
    amounts = [(trial.k, seed) for trial, seed in seeds]
    corrupted = corrupt_each(data.train, data.classes, first.corruption, amounts, source, device, rules_of(first))
    return [
        Member(trial, seed, own, model)
        for (trial, seed), whole in zip(seeds, corrupted, strict=True)
        for model, own in enumerate(training_sets(whole, trial.models, seed) if trial.models > 1 else [whole])
    ]


def _training_samples(member: Member) -> int:
    """Return the size of the training set: of halves of an odd number of samples, some have one more."""
    return int(member.corrupted.is_member.sum())


def _record(member: Member, measurement: Measurement, row: Row, records: Records) -> None:
    """Enter what was measured of a member that was trained to its end in its row of `members` and in other tables."""
    point = reported_epoch(member.trial.stopping, records.tables["epochs"])
    row |= {name: value for name, value in point.items() if name in SCHEMAS["members"].names}
    row |= {**measurement.members, "status": "ok"}
    if member.trial.stopping == "converged":
        row["converged"] = has_converged(records.tables["epochs"], row["n_out"], row["n_in"])
    records.extend(measurement.tables)
    if measurement.samples:
        records.extend({"samples": sample_table(member, measurement.samples)})


def _sizes(network: nn.Module, corrupted: Corrupted, data: Dataset) -> Row:
    """Return the columns with the number of samples behind each metric, and of trainable parameters."""
    n_out, n_in = _group_sizes(corrupted)
    return {
        "n_out": n_out,
        "n_in": n_in,
        "n_test": len(data.test),
        "n_val": len(data.validation),
        "parameters": build.count_parameters(network),
    }


def _group_sizes(corrupted: Corrupted) -> tuple[int, int]:
    """Return the sizes of S_out and S_in, of both only what the member is trained on."""
    n_out = int((corrupted.atypical & corrupted.is_member).sum())
    return n_out, int(corrupted.is_member.sum()) - n_out
