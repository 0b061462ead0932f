"""One trial, from its settings to its records: the Methods section."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from study import folders, models
from study.corruption import Corrupted, corrupt
from study.data import Dataset, load
from study.errors import DivergedError
from study.membership import global_threshold, score
from study.memorization import memorization
from study.norms import gamma_over_sigma
from study.provenance import provenance
from study.train import predict, steps_per_epoch, train
from study.trial import Trial

Progress = Callable[[float], None]
Row = dict[str, Any]


@dataclass
class Records:
    """The rows of one trial by table, with the columns that `study.record` states."""

    members: list[Row] = field(default_factory=list)
    epochs: list[Row] = field(default_factory=list)


def run(trial: Trial, data_dir: Path, device: str = "cpu", progress: Progress = lambda _: None) -> Records:
    """Train and measure every member of the trial.

    Args:
        trial: the settings.
        data_dir: where torchvision's datasets lie.
        device: a torch device.
        progress: told the fraction of the trial that is done, in (0, 1], after each epoch of each member.

    Raises:
        BadInputError: the dataset can't be had, or the settings don't fit it.
    """
    data = load(trial.dataset, data_dir).to(device)
    records = Records()
    for member, seed in enumerate(trial.seed):

        def of_trial(of_member: float, done: int = member) -> None:
            progress((done + of_member) / len(trial.seed))

        row, curve = run_member(trial, data, seed, device, of_trial)
        identity = {"trial": trial.id, "member": member}
        records.members.append({**identity, **row})
        records.epochs += [{**identity, **point} for point in curve]
    return records


def run_member(trial: Trial, data: Dataset, seed: int, device: str, progress: Progress) -> tuple[Row, list[Row]]:
    """Train one member and measure it: its row of `members`, and its rows of `epochs`, less their identity.

    A member that diverges is an outcome: its row says so and has no results; its curve ends where it was last finite.
    """
    started, clock = datetime.now(UTC), time.perf_counter()
    corrupted = corrupt(data.train, data.classes, trial.corruption, trial.k, seed)
    network = models.build(trial.architecture, data.shape, data.classes, trial.norm, seed).to(device)
    curve: list[Row] = []
    try:
        for epoch in train(network, corrupted, trial, seed):
            if epoch % trial.eval_every == 0 or epoch == trial.epochs:
                logits, test_logits = predict(network, corrupted.images), predict(network, data.test.images)
                fit = memorization(logits, corrupted, test_logits, data.test)
                step = epoch * steps_per_epoch(len(corrupted), trial.batch_size)
                curve.append({"epoch": epoch, "step": step, **fit})
            progress(epoch / trial.epochs)
        outcome = {**fit, **privacy(network, logits, corrupted, test_logits, data), "status": "ok"}
    except DivergedError as error:
        outcome = {"status": "diverged", "error": str(error)}
        progress(1.0)
    row = {
        **describe(trial, seed),
        **sizes(network, corrupted, data),
        **outcome,
        **provenance(device),
        "started": started,
        "seconds": time.perf_counter() - clock,
    }
    return row, curve


def describe(trial: Trial, seed: int) -> Row:
    """The scientific columns of one member, with folders under the name that their content has."""
    return {**trial.settings(), "dataset": folders.identity(trial.dataset), "seed": seed, "cell": trial.cell}


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
    ratios = gamma_over_sigma(network)
    return {
        "mia_attack": "global_threshold",
        "mia_auc": attack.auc,
        "mia_tpr_at_1e3fpr": attack.tpr_at_1e3fpr,
        "gamma_over_sigma": torch.stack([ratio.mean() for ratio in ratios.values()]).mean().item() if ratios else None,
    }


def failed(trial: Trial, error: str) -> Records:
    """The record of a trial that could not be run: a row for each member, without results, saying why."""
    described = [describe(trial, seed) for seed in trial.seed]
    return Records(
        members=[
            {"trial": trial.id, "member": member, **row, "status": "failed", "error": error, **provenance("cpu")}
            for member, row in enumerate(described)
        ]
    )
