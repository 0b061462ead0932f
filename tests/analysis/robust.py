"""Planted records of robustness: what any perturbation leaves of the accuracy, and where layers put samples."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from study.data.catalog import DATASETS
from study.perturbations import Perturbation, perturbations
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from tests.analysis.conftest import DIVERGED, Outcome, OutcomeOf, plan

AccuracyOf = Callable[[Trial, int, Perturbation], float]
"""The accuracy of a seed's member under a perturbation."""
IMAGES, CHECKED = 1000, 256
CLEAN = 0.9
ROBUST = {"none": 1.0, "batch": 0.6}
"""How much of a perturbation an arm withstands."""


def sound(trial: Trial, seed: int, of: Perturbation) -> float:
    """Accuracies that a sound attack leaves: the stronger, the less, and the less of an arm with batch norm."""
    strength = of.epsilon / (np.sqrt(784) if of.norm == "l2" else 1)
    if of.name == "noise":
        power = 1.0
    else:
        power = {"uniform": 1.0, "transfer": 2.0, "fgsm": 3.0}.get(of.name, 4.0 + np.log10(max(of.steps, 1)))
        power += 1.0 * (of.norm == "l2") + 0.05 * of.restarts
    left = CLEAN * np.exp(-2 * power * strength / ROBUST.get(trial.norm, 0.8))
    return float(np.clip(left * (1 + 0.002 * (seed % 3 - 1)), 0, 1))


def attack_rows(trial: Trial, seed: int, accuracy: AccuracyOf = sound) -> list[dict[str, Any]]:
    """The rows of `robustness` of one member, as the lens states them."""
    shape = DATASETS[trial.dataset].shape
    rows = [
        {
            **{"suite": of.suite, "perturbation": of.name, "norm": of.norm or None, "space": of.space},
            **{"epsilon": of.epsilon, "step": of.step or None, "steps": of.steps, "restarts": of.restarts},
            **{"loss": of.loss or None, "split": "test", "n": CHECKED if of.suite == "checks" else IMAGES},
            **{"clip_low": of.bounds[0] if of.bounds else None, "clip_high": of.bounds[1] if of.bounds else None},
            **{"acc": (acc := accuracy(trial, seed, of)), "clean_acc": CLEAN, "loss_mean": -np.log(max(acc, 1e-3))},
            **{"flat": 0.0, "moved": 0 if of.norm == "linf" else None},
        }
        for of in perturbations(trial.suites, trial.dataset, shape)
    ]
    if trial.norm == "batch":
        stated = {"suite": "controls", "split": "test", "n": IMAGES, "clean_acc": CLEAN}
        gains = {"batch_statistics": 0.05, "new_statistics": 0.01}
        rows += [{**stated, "perturbation": name, "acc": CLEAN + gain + 0.001 * seed} for name, gain in gains.items()]
    return rows


def filled(trial: Trial, rows: Iterable[dict[str, Any]]) -> Outcome:
    """The columns of `members` that the rows fill."""
    columns = {of.key: of.fills for of in perturbations(trial.suites, trial.dataset, DATASETS[trial.dataset].shape)}
    accuracies = [row["acc"] for row in rows if row["suite"] != "controls"]
    return {name: acc for name, acc in zip(columns.values(), accuracies, strict=True) if name}


def record_attacked(
    results: Results,
    sweep: str,
    trials: Sequence[Trial],
    accuracy: AccuracyOf = sound,
    outcome: OutcomeOf = lambda *_: {},
    diverged: Sequence[int] = (),
) -> None:
    """Save a plan and the records of its trials, whose members were attacked; those of some numbers diverged."""
    plan(results, trials, sweep)
    for trial in trials:
        tables: dict[str, list[dict[str, Any]]] = {"members": [], "epochs": [], "robustness": []}
        for number, (seed, model) in enumerate(trial.members):
            identity = {"trial": trial.id, "member": number}
            rows = attack_rows(trial, seed + model, accuracy)
            found = {"status": "ok", "n_test": IMAGES, **filled(trial, rows), **outcome(trial, seed + model)}
            tables["members"].append(
                {**identity, **describe(trial, seed, model), **(DIVERGED if number in diverged else found)}
            )
            tables["robustness"] += [] if number in diverged else [{**identity, **row} for row in rows]
        results.write(sweep, trial.id, tables)


def activation_rows(layers: int, spread: float, mixed: bool, seed: int) -> list[dict[str, Any]]:
    """Two classes in every layer before training, so far apart, each sample's neighbour of its class unless mixed."""
    rows = []
    for layer in range(layers):
        for sample in range(20):
            label, place = sample % 2, sample // 2
            # Side by side come two of a class; or one of each, so that a sample's nearest is of the other.
            x = 10 * place + 0.1 * label if mixed else 10 * place + spread * (2 * label - 1)
            x = x if mixed else spread * (2 * label - 1) + 0.001 * place
            y = 0.0005 * seed * label
            shared = {"epoch": 0, "layer": "input" if layer == 0 else str(layer), "batch": place % 2}
            rows.append({**shared, "sample": sample, "label": label, "x": x, "y": y})
    return rows
