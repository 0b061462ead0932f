"""One trial, from its settings to its records: the Methods section."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import torch
from torch import Tensor, nn

from study import folders, influence, models
from study.corruption import Corrupted, amount, corrupt
from study.data import Dataset, load, outsiders
from study.errors import DivergedError
from study.layers import overall, ratios
from study.membership import global_threshold, score
from study.memorization import memorization
from study.provenance import provenance
from study.record import SCHEMAS
from study.train import predict, steps_per_epoch, train
from study.trial import Trial

Progress = Callable[[float], None]
Row = dict[str, Any]


@dataclass
class Records:
    """The rows of one trial by table, with the columns that `study.record` states."""

    members: list[Row] = field(default_factory=list)
    epochs: list[Row] = field(default_factory=list)
    layers: list[Row] = field(default_factory=list)
    samples: pa.Table = field(default_factory=SCHEMAS["samples"].empty_table)


def run(trial: Trial, data_dir: Path, device: str = "cpu", progress: Progress = lambda _: None) -> Records:
    """Train and measure every member of the trial.

    Args:
        trial: the settings.
        data_dir: where torchvision's datasets lie.
        device: a torch device.
        progress: told the fraction of the trial that is done, in (0, 1], after each epoch of each member.

    Raises:
        BadInputError: the dataset can't be had, the settings don't fit it, or the network has no exact gradient norms
            where these are asked for.
    """
    data = load(trial.dataset, data_dir, trial.subset).to(device)
    source = outsiders(trial.ood, data_dir, data.shape) if trial.corruption == "ood" else None
    if trial.samples == "gradients":
        network = models.build(trial.architecture, data.shape, data.classes, trial.norm, trial.seed[0])
        influence.check(network, data.shape, data.classes)
    records = Records()
    for member, seed in enumerate(trial.seed):

        def of_trial(of_member: float, done: int = member) -> None:
            progress((done + of_member) / len(trial.seed))

        identity = {"trial": trial.id, "member": member}
        found = run_member(trial, data, source, seed, device, of_trial)
        records.members += [{**identity, **row} for row in found.members]
        records.epochs += [{**identity, **row} for row in found.epochs]
        records.layers += [{**identity, **row} for row in found.layers]
        records.samples = pa.concat_tables([records.samples, _identified(found.samples, identity)])
    return records


def check(trial: Trial, data_dir: Path) -> None:
    """Find out before any training whether the dataset can be had and corrupted as the trial asks.

    Raises:
        BadInputError: it can't.
    """
    data = load(trial.dataset, data_dir, trial.subset)
    if trial.corruption == "ood":
        source = outsiders(trial.ood, data_dir, data.shape)
        corrupt(data.train, data.classes, trial.corruption, trial.k, trial.seed[0], source)
    elif trial.corruption == "label":
        corrupt(data.train, data.classes, trial.corruption, trial.k, trial.seed[0])
    elif trial.corruption == "natural":
        amount(trial.k, len(data.train))


def run_member(
    trial: Trial, data: Dataset, source: Tensor | None, seed: int, device: str, progress: Progress
) -> Records:
    """Train one member and measure it; its records lack their identity still.

    A member that diverges is an outcome: its row says so and has no results; its curves end where it was last finite.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    corrupted = corrupt(data.train, data.classes, trial.corruption, trial.k, seed, source)
    network = models.build(trial.architecture, data.shape, data.classes, trial.norm, seed).to(device)
    records = Records()
    try:
        for epoch in train(network, corrupted, trial, seed):
            if epoch % trial.eval_every == 0 or epoch == trial.epochs:
                logits, test_logits = predict(network, corrupted.images), predict(network, data.test.images)
                fit = memorization(logits, corrupted, test_logits, data.test)
                step = epoch * steps_per_epoch(len(corrupted), trial.batch_size)
                records.epochs.append({"epoch": epoch, "step": step, **fit})
                records.layers += [{"epoch": epoch, **layer} for layer in ratios(network)]
            progress(epoch / trial.epochs)
        outcome = {**fit, **privacy(network, logits, corrupted, test_logits, data), "status": "ok"}
        if trial.samples != "none":
            records.samples, means = each_sample(trial, network, logits, corrupted)
            outcome |= means
    except DivergedError as error:
        outcome = {"status": "diverged", "error": str(error)}
        progress(1.0)
    records.members.append(
        {
            **describe(trial, seed),
            **sizes(network, corrupted, data),
            **outcome,
            **provenance(device),
            "started": started,
            "seconds": time.perf_counter() - clock,
        }
    )
    return records


def describe(trial: Trial, seed: int) -> Row:
    """The scientific columns of one member, with folders under the name that their content has."""
    named = {name: folders.identity(getattr(trial, name)) for name in ("dataset", "ood")}
    return {**trial.settings(), **named, "seed": seed, "cell": trial.cell}


def sizes(network: nn.Module, corrupted: Corrupted, data: Dataset) -> Row:
    """How many samples each metric is over, and the number of trainable parameters."""
    n_out = int(corrupted.atypical.sum())
    return {
        "n_out": n_out,
        "n_in": len(corrupted) - n_out,
        "n_test": len(data.test),
        "parameters": models.parameters(network),
    }


def privacy(network: nn.Module, logits: Tensor, corrupted: Corrupted, test_logits: Tensor, data: Dataset) -> Row:
    """What the trained member gives away, and the ratio that the paper holds to be the cause."""
    attack = global_threshold(score(logits, corrupted.labels), score(test_logits, data.test.labels))
    return {
        "mia_attack": "global_threshold",
        "mia_auc": attack.auc,
        "mia_tpr_at_1e3fpr": attack.tpr_at_1e3fpr,
        "gamma_over_sigma": overall(ratios(network)),
    }


def each_sample(trial: Trial, network: nn.Module, logits: Tensor, corrupted: Corrupted) -> tuple[pa.Table, Row]:
    """The `samples` of D', and the mean gradient norm of S_out and S_in where gradients are asked for."""
    out = corrupted.atypical.cpu()
    columns = {
        "sample": torch.arange(len(corrupted)),
        "label": corrupted.labels,
        "original_label": corrupted.original_labels,
        "is_member": torch.ones_like(out),
        "score": score(logits, corrupted.labels),
        "correct": logits.argmax(dim=1) == corrupted.labels,
    }
    means: Row = {}
    if trial.samples == "gradients":
        norm = influence.grad_norms(network, corrupted.images, corrupted.labels).cpu()
        columns["grad_norm"] = norm
        means = {f"grad_norm_{group}": _mean(norm[mask]) for group, mask in (("out", out), ("in", ~out))}
    arrays = {name: pa.array(column.cpu().numpy()) for name, column in columns.items()}
    groups = pa.array([GROUPS[trial.corruption] if outside else "clean" for outside in out.tolist()])
    return _fitted({**arrays, "group": groups}), means


GROUPS = {"none": "clean", "label": "corrupted", "ood": "ood", "natural": "natural"}
"""What S_out is called in `samples`, by corruption."""


def failed(trial: Trial, error: str) -> Records:
    """The record of a trial that could not be run: a row for each member, without results, saying why."""
    described = [describe(trial, seed) for seed in trial.seed]
    return Records(
        members=[
            {"trial": trial.id, "member": member, **row, "status": "failed", "error": error, **provenance("cpu")}
            for member, row in enumerate(described)
        ]
    )


def _mean(values: Tensor) -> float | None:
    return values.mean().item() if len(values) else None


def _identified(table: pa.Table, identity: Row) -> pa.Table:
    """The table with the trial and the member in every row."""
    constant = {name: pa.array([value] * len(table)) for name, value in identity.items()}
    return _fitted({**{name: table[name] for name in table.column_names}, **constant})


def _fitted(columns: dict[str, Any]) -> pa.Table:
    """The columns as `samples` has them, those that are not there null."""
    schema, rows = SCHEMAS["samples"], len(columns["sample"])
    full = {field.name: columns.get(field.name, pa.nulls(rows)) for field in schema}
    return pa.table(full).cast(schema)
