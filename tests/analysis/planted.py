"""Records of whole sweeps with planted results, at any scale: every table that a figure reads."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from study.data.splits import halves
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from sweeps.plan import Plan
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis.conftest import DIVERGED, Outcome

EPOCHS = 6
SAMPLES = 60
EARLY = (0, 1)
"""The epochs that are measured beside the last."""
LAYERS = {"lenet": 4, "resnet50": 53}
NEEDED = {
    "label_noise": ("epochs", "layers"),
    "influence": ("samples", "layers", "margins"),
    "membership": ("samples",),
    "gamma_sigma": ("layers",),
}
"""The tables beside `members` that the figures of a sweep read."""
BY_TRIAL = ("influence", "membership", "gamma_sigma")
"""The sweeps of which some trials' shards are read, so that each has its own."""


def plan(name: str, scale: Scale, **overrides: Sequence[Any]) -> Plan:
    """A sweep's plan, with few epochs and models."""
    short: dict[str, Sequence[Any]] = {"seed": (0, 1)}
    if name == "membership":
        short = {"models": (6,)}
    return SWEEPS[name].plan(scale, {**short, "epochs": (EPOCHS,), **overrides})


def write(
    results: Results, planned: Plan, lost: Callable[[Trial], bool] = lambda _: False, diverged: Sequence[int] = ()
) -> None:
    """Save a plan and the records of its trials but those that are lost; members of some numbers diverged."""
    planned.save(results)
    there = [records(planned.sweep, trial, diverged) for trial in planned.trials if not lost(trial)]
    if planned.sweep not in BY_TRIAL:  # one shard is as good as hundreds, and faster
        there = [{name: [row for each in there for row in each[name]] for name in there[0]}]
    for tables in there:
        results.write(planned.sweep, tables["members"][0]["trial"], tables)


def records(sweep: str, trial: Trial, diverged: Sequence[int]) -> dict[str, list[Any]]:
    made = {name: make for name, make in TABLES.items() if name in NEEDED.get(sweep, ())}
    tables: dict[str, list[Any]] = {name: [] for name in ("members", "epochs", *made)}
    for number, (seed, model) in enumerate(trial.members):
        well = number not in diverged
        found = {"status": "ok", **outcome(trial, 100 * seed + model)} if well else DIVERGED
        tables["members"].append({"trial": trial.id, "member": number, **describe(trial, seed, model), **found})
        for name, make in made.items() if well else ():
            tables[name] += [{"trial": trial.id, "member": number, **row} for row in make(trial, seed, model)]
    return tables


def noise(trial: Trial, seed: int, count: int) -> np.ndarray:
    return np.random.default_rng([seed, int(trial.cell, 16) % 2**32]).normal(size=count)


def outcome(trial: Trial, seed: int) -> Outcome:
    shift = 0.02 * noise(trial, seed, 6)
    kept = 0.9 if trial.norm != "none" else 0.4
    if trial.regularizer != "none":
        kept = max(0.05, 0.6 - 0.25 * -np.log10(1 - trial.alpha) + 0.4)
    return {
        "mem_acc": float(np.clip(kept - 0.5 * trial.k + shift[0], 0, 1)) if trial.k else None,
        "clean_acc": float(np.clip(0.97 + shift[1], 0, 1)),
        "test_acc": float(0.7 + shift[2]),
        "mia_auc": float(0.5 + 0.2 * kept + shift[3]),
        "mem_loss": 0.1 if trial.k else None,
        "mia_attack": "lira_online" if trial.protocol == "splits" else "global_threshold",
        "gamma_over_sigma": 2.0 if trial.norm == "batch" else None,
        "grad_norm_in": 1.0 if trial.samples == "gradients" else None,
    }


def epochs(trial: Trial, seed: int, model: int) -> list[dict[str, Any]]:
    fall = 1.2 if trial.norm == "batch" else 0.4
    return [
        {
            "epoch": epoch,
            "step": epoch,
            "mem_loss": float(3 * np.exp(-fall * epoch) * (1 + 0.1 * seed)),
            "clean_loss": float(np.exp(-1.5 * fall * epoch) * (1 + 0.1 * seed)),
        }
        for epoch in range(1, trial.epochs + 1)
    ]


def layers(trial: Trial, seed: int, model: int) -> list[dict[str, Any]]:
    if trial.norm != "batch":
        return []
    return [
        {
            "epoch": epoch,
            "layer": f"layer{depth}.bn",
            "depth": depth,
            "channels": 8,
            "ratio_mean": middle,
            "ratio_median": middle,
            "ratio_q05": middle / 2,
            "ratio_q95": middle * 2,
            "gamma_median": 1 + epoch / 100,
        }
        for depth in range(LAYERS.get(trial.architecture, 4))
        for epoch, middle in (*((epoch, 4.0) for epoch in EARLY), (trial.epochs, last(depth, seed)))
    ]


def last(depth: int, seed: int) -> float:
    return float((6 - depth / 20) * np.exp(0.1 * seed))


def margins(trial: Trial, seed: int, model: int) -> list[dict[str, Any]]:
    """Margins that fall and then rise, faster with batch norm, and gradients that obey Eq. 11 with a ratio of 4."""
    rising = 2.0 if trial.norm == "batch" else 0.5
    return [
        {"epoch": epoch, "sample": sample, "group": "corrupted" if sample < 5 else "clean", "margin": margin}
        | {"grad_norm": (4.0 if trial.norm == "batch" else 1.0) / (1 + np.exp(margin))}
        for epoch, middle in zip((*EARLY, trial.epochs), (-2.0, -4.0, -4.0 + rising * trial.epochs), strict=True)
        for sample in range(8)
        for margin in [middle + 0.1 * sample + 0.01 * seed]
    ]


def samples(trial: Trial, seed: int, model: int) -> list[dict[str, Any]]:
    if trial.samples == "none":
        return []
    out = np.arange(SAMPLES) < (12 if trial.k else 0)
    is_member = halves(out, trial.models, seed)[model] if trial.protocol == "splits" else np.full(SAMPLES, True)
    scores = noise(trial, 100 * seed + model, SAMPLES) + is_member * (2 if trial.norm == "batch" else 1)
    norms = np.exp(noise(trial, 100 * seed + model + 1, SAMPLES) + out * (5 if trial.norm == "batch" else 2))
    group = {"label": "corrupted", "ood": "ood", "none": "clean"}[trial.corruption]
    return [
        {
            "sample": sample,
            "group": group if out[sample] else "clean",
            "is_member": bool(is_member[sample]),
            "score": float(scores[sample]),
            "correct": bool(scores[sample] > 0),
            "grad_norm": float(norms[sample]) if trial.samples == "gradients" else None,
        }
        for sample in range(SAMPLES)
    ]


TABLES = {"epochs": epochs, "layers": layers, "samples": samples, "margins": margins}
