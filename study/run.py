"""One trial, from its settings to its records: the Methods section."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor, nn

from study import audit, engine, influence, models, precision, regularizers, tuner
from study.attacks import Measures
from study.checkpoint import EVERY_S, Checkpoints, Course, Keeper
from study.corruption import Corrupted, amount, corrupt, corrupt_each
from study.data import Dataset, Split, load, outsiders
from study.engine.packs import in_packs
from study.layers import overall, ratios
from study.membership import global_threshold, score
from study.memorization import memorization
from study.provenance import provenance
from study.rows import Records, Row, describe, fitted
from study.splits import training_sets
from study.stopping import reported, restore, state
from study.train import Member, Training, predict, steps_per_epoch
from study.trial import Trial

Progress = Callable[[float], None]


def run(
    trial: Trial,
    data_dir: Path,
    device: str = "cpu",
    progress: Progress = lambda _: None,
    backend: str = "auto",
    keeper: Keeper | None = None,
    keep_every_s: float = EVERY_S,
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
    keep_every_s: float = EVERY_S,
) -> list[Records]:
    """Train and measure the members of several trials side by side; see `run`.

    The trials must have the dataset, the corruption and all that a pack shares in common (see `train.SHARED`), as many
    samples, and the same recorded of each.
    """
    first = trials[0]
    precision.check(first.precision, device)
    precision.be_exact()
    data = load(first.dataset, data_dir, first.subset, first.validation)
    if first.regularizer != "none":
        regularizers.check(first.regularizer, first.architecture, _network(first, data))
    if first.samples == "gradients":
        influence.check(_network(first, data), data.shape, data.classes)
    members = _members(trials, data, data_dir, device)
    choice = tuner.choose(first, data.shape, data.classes, len(members), device, backend)
    # D itself is on the device as the images of D', which all members share.
    data = replace(data, test=data.test.to(device), validation=data.validation.to(device))
    checkpoints = Checkpoints(keeper, keep_every_s)

    def train_and_measure(together: Sequence[Member], progress: Progress) -> list[Records]:
        return run_pack(together, data, device, choice.backend, progress, checkpoints)

    found = in_packs(members, choice.members, train_and_measure, progress, alike=_training_samples)
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
    return models.build(trial.architecture, data.shape, data.classes, trial.norm, trial.seed[0])


def _members(trials: Sequence[Trial], data: Dataset, data_dir: Path, device: str) -> list[Member]:
    """The members of trials that corrupt D in the same manner."""
    first = trials[0]
    source = outsiders(first.ood, data_dir, data.shape) if first.corruption == "ood" else None
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


def infer_membership(trial: Trial, members: Sequence[Member], records: Records) -> None:
    """Attack the models of each seed with one another as shadows, and find what they memorized most.

    Models that diverged are left out. Where too few are left, what a single threshold gives stands.
    """
    for seed in trial.seed:
        rows = [row for row in records.members if row["seed"] == seed and row["status"] == "ok"]
        if not rows:
            continue
        numbers = [row["member"] for row in rows]
        samples = records.samples.filter(pc.is_in(records.samples["member"], pa.array(numbers, pa.int32())))
        attacks = audit.infer(samples, len(rows))
        records.attacks += [{**row, "trial": trial.id, "member": numbers[row["member"]]} for row in attacks]
        for model, row in enumerate(rows):
            row |= audit.headline(attacks, model) if attacks else {}
        corrupted = next(each.corrupted for each in members if (each.trial.id, each.seed) == (trial.id, seed))
        images = audit.most_memorized(samples, len(rows), corrupted)
        records.images += [{"trial": trial.id, "seed": seed, **row} for row in images]


def check(trial: Trial, data_dir: Path) -> None:
    """Find out before any training whether the dataset can be had and corrupted, and the network regularized, as asked.

    Raises:
        BadInputError: it can't.
    """
    data = load(trial.dataset, data_dir, trial.subset, trial.validation)
    if trial.regularizer != "none":
        regularizers.check(trial.regularizer, trial.architecture, _network(trial, data))
    if trial.corruption == "ood":
        source = outsiders(trial.ood, data_dir, data.shape)
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
        models.build(member.trial.architecture, data.shape, data.classes, member.trial.norm, member.stream).to(device)
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
                if trial.stopping == "best" and reported(trial.stopping, curve) is curve[-1]:
                    course.best[each] = state(networks[each])
        checkpoint.keep(course, training)
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
    checkpoint.measured([vars(found) for found in records])
    return records


@dataclass(frozen=True)
class Answers:
    """What the members of a pack say, in eval mode.

    Attributes:
        own: [M, N, classes], of each one's D'.
        test: [M, T, classes], of the test set.
        validation: [M, V, classes], of what was set aside.
    """

    own: Tensor
    test: Tensor
    validation: Tensor


def answers(pack: engine.Pack, members: Sequence[Member], data: Dataset) -> Answers:
    """The logits of the members as they are now."""
    own = predict(pack, members[0].corrupted.pool, [member.corrupted.rows for member in members])
    test = predict(pack, data.test.images)
    validation = predict(pack, data.validation.images) if len(data.validation) else test[:, :0]
    return Answers(own, test, validation)


@dataclass(frozen=True)
class Measured:
    """What a trained member says, in eval mode.

    Attributes:
        logits: [N, classes], of D'.
        test_logits: [T, classes], of the test set.
        val_logits: [V, classes], of what was set aside.
        mirror_logits: [N, classes], of the mirror images of D', where they are asked for.
        grad_norms: float64 [N], of D', where they are asked for.
    """

    logits: Tensor
    test_logits: Tensor
    val_logits: Tensor
    mirror_logits: Tensor | None
    grad_norms: Tensor | None


def mirrored(pack: engine.Pack, members: Sequence[Member]) -> Sequence[Tensor | None]:
    """The logits [N, classes] of each member for the mirror images of its D', where they are asked for."""
    if members[0].trial.queries != "mirror":
        return [None] * len(members)
    images = members[0].corrupted.pool.flip(3)
    return predict(pack, images, [member.corrupted.rows for member in members]).unbind()


def influences(pack: engine.Pack, members: Sequence[Member]) -> Sequence[Tensor | None]:
    """The gradient norms [N] of each member on its D', where they are asked for.

    A gradient that isn't finite is a divergence as well, of that member alone.
    """
    if members[0].trial.samples != "gradients":
        return [None] * len(members)
    corrupted = [member.corrupted for member in members]
    rows, labels = [each.rows for each in corrupted], [each.labels for each in corrupted]
    norms = influence.grad_norms(pack, corrupted[0].pool, rows, labels)
    return norms.unbind()


def results(member: Member, network: nn.Module, measured: Measured, data: Dataset, records: Records) -> Row:
    """The columns of a member that was trained to its end."""
    outcome = {**reported(member.trial.stopping, records.epochs), **privacy(network, measured, member.corrupted, data)}
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
        "parameters": models.parameters(network),
    }


def privacy(network: nn.Module, measured: Measured, corrupted: Corrupted, data: Dataset) -> Row:
    """What the trained member gives away, and the ratio that the paper holds to be the cause."""
    own = score(measured.logits, corrupted.labels)[corrupted.is_member]

    def attacked(logits: Tensor, unseen: Split) -> Measures:
        return global_threshold(own, score(logits, unseen.labels))

    attack = attacked(measured.test_logits, data.test)
    validation = data.validation
    return {
        "mia_attack": "global_threshold",
        "mia_auc": attack.auc,
        "mia_tpr_at_1e3fpr": attack.tpr_at_1e3fpr,
        "val_mia_auc": attacked(measured.val_logits, validation).auc if len(validation) else None,
        "gamma_over_sigma": overall(ratios([network])[0]),
    }


def each_sample(trial: Trial, measured: Measured, corrupted: Corrupted) -> tuple[pa.Table, Row]:
    """The `samples` of D', and the mean gradient norm of S_out and S_in where there are any."""
    out = corrupted.atypical.cpu()
    columns = {
        "sample": torch.arange(len(corrupted)),
        "label": corrupted.labels,
        "original_label": corrupted.original_labels,
        "is_member": corrupted.is_member,
        "score": score(measured.logits, corrupted.labels),
        "correct": measured.logits.argmax(dim=1) == corrupted.labels,
    }
    if measured.mirror_logits is not None:
        columns["mirror_score"] = score(measured.mirror_logits, corrupted.labels)
    means: Row = {}
    if measured.grad_norms is not None:
        columns["grad_norm"] = norm = measured.grad_norms.cpu()
        own = corrupted.is_member.cpu()
        means = {f"grad_norm_{group}": _mean(norm[mask & own]) for group, mask in (("out", out), ("in", ~out))}
    arrays = {name: pa.array(column.cpu().numpy()) for name, column in columns.items()}
    groups = pa.array([GROUPS[trial.corruption] if outside else "clean" for outside in out.tolist()])
    return fitted({**arrays, "group": groups}), means


GROUPS = {"none": "clean", "label": "corrupted", "ood": "ood", "natural": "natural"}
"""What S_out is called in `samples`, by corruption."""


def _mean(values: Tensor) -> float | None:
    return values.mean().item() if len(values) else None
