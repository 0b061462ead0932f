"""One trial, from its settings to its records: the Methods section."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from torch import nn

from study import engine
from study.data.corruption import Corrupted, amount, corrupt, corrupt_each
from study.data.dataset import Dataset
from study.data.load import load
from study.data.ood import ood_images
from study.data.splits import training_sets
from study.engine.packing import train_in_packs
from study.lenses import gradient_norms
from study.lenses.gamma_sigma import ratios
from study.lenses.gradient_norms import influences
from study.lenses.membership import Measured, each_sample, infer_membership, privacy
from study.lenses.memorization import memorization
from study.lenses.trained import Answers, answers, mirrored
from study.networks import build, regularizers
from study.record.provenance import provenance
from study.record.rows import Records, Row, describe
from study.speed import backend_choice
from study.training import precision
from study.training.checkpoint import SAVE_EVERY_S, Checkpoints, Course, Keeper
from study.training.early_stopping import reported_epoch, restore, snapshot
from study.training.loop import Member, Training, steps_per_epoch
from study.trial import Trial

Progress = Callable[[float], None]


def run(
    trial: Trial,
    data_dir: Path,
    device: str = "cpu",
    progress: Progress = lambda _: None,
    backend: str = "auto",
    keeper: Keeper | None = None,
    keep_every_s: float = SAVE_EVERY_S,
) -> Records:
    """Train and measure every member of the trial.

    Args:
        trial: the settings.
        data_dir: where torchvision's datasets lie.
        device: a torch device.
        progress: told the fraction of the trial that is done, in (0, 1], after each epoch.
        backend: how members train side by side, a key of `engine.BACKENDS`, or `auto` for the fastest here. It changes
            no result but by the rounding of float32.
        keeper: where a long trial is kept, to go on from there if it is stopped; by default it isn't.
        keep_every_s: how often, in seconds.

    Raises:
        BadInputError: the dataset can't be had, the settings don't fit it, the network has no gamma where this is to be
            regularized, or no exact gradient norms where these are asked for, or the backend can't express it.
    """
    return run_together([trial], data_dir, device, progress, backend, keeper, keep_every_s)[0]


def run_together(
    trials: Sequence[Trial],
    data_dir: Path,
    device: str,
    progress: Progress,
    backend: str = "auto",
    keeper: Keeper | None = None,
    keep_every_s: float = SAVE_EVERY_S,
) -> list[Records]:
    """Train and measure the members of several trials side by side; see `run`.

    The trials must have the dataset, the corruption and all that a pack shares in common (see `train.SHARED`), as many
    samples, and the same recorded of each.
    """
    first = trials[0]
    precision.check(first.precision, device)
    precision.use_full_float32()
    data = load(first.dataset, data_dir, first.subset, first.validation)
    if first.regularizer != "none":
        regularizers.check(first.regularizer, first.architecture, _network(first, data))
    if first.samples == "gradients":
        gradient_norms.check(_network(first, data), data.shape, data.classes)
    members = _members(trials, data, data_dir, device)
    choice = backend_choice.choose(first, data.shape, data.classes, len(members), device, backend)
    # D itself is on the device as the images of D', which all members share.
    data = replace(data, test=data.test.to(device), validation=data.validation.to(device))
    checkpoints = Checkpoints(keeper, keep_every_s)

    def train_and_measure(together: Sequence[Member], progress: Progress) -> list[Records]:
        return run_pack(together, data, device, choice.backend, progress, checkpoints)

    found = train_in_packs(members, choice.members, train_and_measure, progress, group_by=_training_samples)
    records = {trial.id: Records() for trial in trials}
    for member, of_member in zip(members, found, strict=True):
        trial = member.trial
        number = trial.members.index((member.seed, member.model))
        records[trial.id].add(of_member, {"trial": trial.id, "member": number})
    for trial in trials:
        if trial.protocol == "splits":
            infer_membership(trial, members, records[trial.id])
    return list(records.values())


def _network(trial: Trial, data: Dataset) -> nn.Module:
    """A network of the trial's, to look at."""
    return build.build(trial.architecture, data.shape, data.classes, trial.norm, trial.seed[0])


def _members(trials: Sequence[Trial], data: Dataset, data_dir: Path, device: str) -> list[Member]:
    """The members of trials that corrupt D in the same manner."""
    first = trials[0]
    source = ood_images(first.ood, data_dir, data.shape) if first.corruption == "ood" else None
    each = [(trial, seed) for trial in trials for seed in trial.seed]
    asked = [(trial.k, seed) for trial, seed in each]
    corrupted = corrupt_each(data.train, data.classes, first.corruption, asked, source, device)
    return [
        Member(trial, seed, of_model, model)
        for (trial, seed), found in zip(each, corrupted, strict=True)
        for model, of_model in enumerate(training_sets(found, trial.models, seed) if trial.models > 1 else [found])
    ]


def _training_samples(member: Member) -> int:
    """Of halves of an odd number of samples, some have one more."""
    return int(member.corrupted.is_member.sum())


def check(trial: Trial, data_dir: Path) -> None:
    """Find out before any training whether the dataset can be had and corrupted, and the network regularized, as asked.

    Raises:
        BadInputError: it can't.
    """
    data = load(trial.dataset, data_dir, trial.subset, trial.validation)
    if trial.regularizer != "none":
        regularizers.check(trial.regularizer, trial.architecture, _network(trial, data))
    if trial.corruption == "ood":
        source = ood_images(trial.ood, data_dir, data.shape)
        corrupt(data.train, data.classes, trial.corruption, trial.k, trial.seed[0], source)
    elif trial.corruption == "label":
        corrupt(data.train, data.classes, trial.corruption, trial.k, trial.seed[0])
    elif trial.corruption == "natural":
        amount(trial.k, len(data.train))


def run_pack(
    members: Sequence[Member],
    data: Dataset,
    device: str,
    backend: str,
    progress: Progress,
    checkpoints: Checkpoints | None = None,
) -> list[Records]:
    """Train members side by side and measure each; their records lack their identity still.

    A member that diverges is an outcome: its row says so and has no results; its curves end where it was last finite.
    """
    checkpoint = (checkpoints or Checkpoints()).of(members, device, backend)
    if checkpoint.records is not None:
        progress(1.0)
        return [Records(**tables) for tables in checkpoint.records]
    trial, course = members[0].trial, Course.begun(len(members))
    networks = [
        build.build(member.trial.architecture, data.shape, data.classes, member.trial.norm, member.stream_seed).to(
            device
        )
        for member in members
    ]
    pack = engine.pack(backend, networks, data.shape)
    training = Training(pack, members)
    checkpoint.resume(course, training)
    logits: Answers | None = None
    for epoch in training:
        if pack.alive and (epoch % trial.eval_every == 0 or epoch == trial.epochs):
            logits = answers(pack, members, data)
            unseen = {"test": (logits.test, data.test), "val": (logits.validation, data.validation)}
            fits = memorization(logits.own, [member.corrupted for member in members], unseen)
            layers = ratios(networks)
            step = epoch * steps_per_epoch(_training_samples(members[0]), trial.batch_size)
            for each in pack.alive:
                curve = course.epochs[each]
                curve.append({"epoch": epoch, "step": step, **fits[each]})
                course.layers[each] += [{"epoch": epoch, **layer} for layer in layers[each]]
                if trial.stopping == "best" and reported_epoch(trial.stopping, curve) is curve[-1]:
                    course.best[each] = snapshot(networks[each])
        checkpoint.save_if_due(course, training)
        progress(epoch / trial.epochs)
    if trial.stopping == "best":
        for each in pack.alive:
            restore(networks[each], course.best[each])
    # What was taken up after its last epoch has not been asked in this process.
    if pack.alive and (logits is None or trial.stopping == "best"):
        logits = answers(pack, members, data)
    mirror_logits = mirrored(pack, members)
    grad_norms = influences(pack, members)
    records = []
    for each, member in enumerate(members):
        found = Records(epochs=course.epochs[each], layers=course.layers[each])
        outcome: Row = {"status": "diverged", "error": pack.diverged.get(each)}
        if logits and each in pack.alive:
            measured = Measured(
                logits.own[each], logits.test[each], logits.validation[each], mirror_logits[each], grad_norms[each]
            )
            outcome = results(member, networks[each], measured, data, found)
        told = {**describe(member.trial, member.seed, member.model), **sizes(networks[each], member.corrupted, data)}
        found.members.append({**told, **outcome})
        records.append(found)
    if training.epoch < trial.epochs:
        progress(1.0)
    # What one member took of the device: its share of the pack's time.
    seconds = course.seconds / len(members)
    for found in records:
        came_from = {"started": course.started, "seconds": seconds}
        found.members[0] |= {**provenance(device, backend, len(members)), **came_from}
    checkpoint.add_records([vars(found) for found in records])
    return records


def results(member: Member, network: nn.Module, measured: Measured, data: Dataset, records: Records) -> Row:
    """The columns of a member that was trained to its end."""
    outcome = {
        **reported_epoch(member.trial.stopping, records.epochs),
        **privacy(network, measured, member.corrupted, data),
    }
    if member.trial.samples != "none":
        records.samples, means = each_sample(member.trial, measured, member.corrupted)
        outcome |= means
    return {**{name: value for name, value in outcome.items() if name != "step"}, "status": "ok"}


def sizes(network: nn.Module, corrupted: Corrupted, data: Dataset) -> Row:
    """How many samples each metric is over, and the number of trainable parameters."""
    n_out = int((corrupted.atypical & corrupted.is_member).sum())
    return {
        "n_out": n_out,
        "n_in": int(corrupted.is_member.sum()) - n_out,
        "n_test": len(data.test),
        "n_val": len(data.validation),
        "parameters": build.count_parameters(network),
    }
