"""How many false verdicts has a ledger of claims of which none is so, and does a part of it say the same?"""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from analysis.claims.ledger import Entry, _with_verdicts, ledger
from analysis.claims.memorization import CLAIMS
from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Generator, correlated, effects
from analysis.statistics.hypotheses import above
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from sweeps.plan import Plan

SEEDS, TESTED = 5, 37
SWEEPS: Mapping[str, Mapping[str, Sequence[Any]]] = {
    "quickstart": {"k": (0.1, 0.3)},
    "batch_size": {"k": (0.1,), "batch_size": (64, 128)},
    "optimizer": {"k": (0.1,), "optimizer": ("adam", "rmsprop")},
}
"""The axes of sweeps that decide some claims each."""
HELD = ("held", "exceeded")


def _null(generator: Generator, correlation: float) -> tuple[Number, ...]:
    """Count the false verdicts of a ledger, of which a claim is tested by each row of effects."""
    table = correlated(generator, TESTED, SEEDS, correlation)
    findings = [above(effects(row[None]), "greater") for row in table]
    entries = [Entry(claim, "", finding) for claim, finding in zip(CLAIMS[:TESTED], findings, strict=True)]
    verdicts = [entry.verdict for entry in _with_verdicts(entries)]
    held = sum(verdict in HELD for verdict in verdicts)
    refuted = sum(verdict == "not held" for verdict in verdicts)
    return held, refuted, held > 0, refuted > 0


def _by_sweep(generator: Generator) -> tuple[Number, ...]:
    """Return the share of a sweep's claims whose verdicts differ where the ledger is asked for this sweep alone."""
    with TemporaryDirectory() as folder:
        results = Results.at(folder)
        for sweep, axes in SWEEPS.items():
            _record(results, sweep, axes, generator)
        whole = {entry.claim.id: entry.verdict for entry in ledger(results)}
        alone = [entry for sweep in SWEEPS for entry in ledger(results, sweep) if entry.finding is not None]
    return (float(np.mean([entry.verdict != whole[entry.claim.id] for entry in alone])),)


def _record(results: Results, sweep: str, axes: Mapping[str, Sequence[Any]], generator: Generator) -> None:
    """Record a sweep in which batch norm memorizes more, somewhat or clearly."""
    levels = list(product(("batch", "none"), *axes.values()))
    trials = [Trial(**dict(zip(("norm", *axes), level, strict=True)), seed=tuple(range(SEEDS))) for level in levels]
    gained = generator.choice((0.015, 0.06))
    rows = [
        {"trial": trial.id, "member": seed, **describe(trial, seed), "status": "ok"}
        | {"mem_acc": 0.4 + 0.01 * generator.normal() + gained * (trial.norm == "batch")}
        | {name: 0.8 + 0.01 * generator.normal() for name in ("clean_acc", "test_acc", "true_label_acc")}
        for trial in trials
        for seed in trial.seed
    ]
    Plan(sweep, 1, tuple(trials)).save(results)
    results.write(sweep, trials[0].id, {"members": rows})


SCENARIOS = (
    *(
        Scenario(
            f"{TESTED} null claims, {SEEDS} seeds, correlation {correlation:g}",
            partial(_null, correlation=correlation),
            (
                Measure('false "held" a ledger', 0.05, most=0.05),
                Measure('false "not held" a ledger', 0.05, most=0.05),
                Measure('ledgers with a false "held"', 0.05, most=0.05),
                Measure('ledgers with a false "not held"', 0.05, most=0.05),
            ),
            400,
        )
        for correlation in (0.0, 0.5)
    ),
    Scenario(
        f"records of {len(SWEEPS)} sweeps, {SEEDS} seeds, each asked for by itself too",
        _by_sweep,
        (Measure("verdicts that depend on what is asked for", 0.0, most=0.0),),
        40,
    ),
)
