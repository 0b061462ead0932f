"""Is a difference of AUCs one of leakage, where the arms' shadows estimate it differently well?

In both arms a member's score is one and the same number of standard deviations higher, so that the best attack has the
same AUC on both. But in the one arm each sample has a standard deviation of its own, which shadows must estimate.
"""

from functools import partial
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from analysis.cells import CELL_SETTINGS
from analysis.claims.ledger import ledger
from analysis.simulations.scenario import Measure, Number, Scenario
from analysis.simulations.worlds import Floats, Generator, Mask, halves
from analysis.statistics.membership import CellAudit, auc_differences, difference_limits
from study.mia.audit import MAIN_ATTACK, STEADY_ATTACK
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from sweeps.plan import Plan

SAMPLES = 200
SHIFT = 1.5
"""How many standard deviations a member's score is higher."""
SWEEP, CLAIM = "membership", "fig12-clean"
"""The claim on a difference of AUCs, by a point, that the audit puts to the ledger."""
CLEAN: dict[str, Any] = {"k": 0.0, "corruption": "none", "protocol": "splits", "samples": "scores"}


def _audited(norm: str, scores: Floats, is_member: Mask) -> CellAudit:
    settings = Trial(norm=norm).settings()
    shown = {**{name: settings[name] for name in CELL_SETTINGS}, "seed": 0}
    models, groups = np.arange(len(scores)), np.full(scores.shape[1], "clean")
    return CellAudit(shown, models, scores[None], is_member, is_member, groups, 0)


def _differences(generator: Generator, models: int, limited: bool = True) -> tuple[Number, ...]:
    """Return the difference of arms that leak alike, whether its interval lacks 0, and its limits of many shadows."""
    is_member = halves(generator, models, SAMPLES)
    own = np.exp(1.5 * generator.normal(size=SAMPLES))
    noise = generator.normal(size=is_member.shape) + SHIFT * is_member
    arms = [_audited("batch", noise, is_member), _audited("none", noise * own, is_member)]
    (row,) = auc_differences(arms, [MAIN_ATTACK]).to_dict("records")
    found = row["difference"], not row["low"] <= 0 <= row["high"]
    if not limited:
        return found
    limits = difference_limits(arms).set_index("attack")["limit"]
    return *found, limits[MAIN_ATTACK], limits[STEADY_ATTACK]


def _claimed(generator: Generator, models: int, more: float) -> tuple[Number, ...]:
    """Return whether the ledger says that batch norm adds a point to the AUC.

    Args:
        generator: the randomness.
        models: of each arm.
        more: how many more standard deviations a member's score is higher with batch norm.
    """
    is_member = halves(generator, models, SAMPLES)
    noise = generator.normal(size=is_member.shape) + SHIFT * is_member
    own = np.exp(1.5 * generator.normal(size=SAMPLES)) if not more else 1.0
    with TemporaryDirectory() as folder:
        results = Results.at(folder)
        arms = {
            Trial(norm="batch", **CLEAN, models=models): noise + more * is_member,
            Trial(norm="none", **CLEAN, models=models): noise * own,
        }
        Plan(SWEEP, 1, tuple(arms)).save(results)
        for trial, scores in arms.items():
            results.write(SWEEP, trial.id, _records(trial, scores, is_member))
        entries = {entry.claim.id: entry for entry in ledger(results, SWEEP)}
    return (entries[CLAIM].verdict == "held",)


def _records(trial: Trial, scores: Floats, is_member: Mask) -> dict[str, list[dict[str, Any]]]:
    well = {"status": "ok", "mia_attack": MAIN_ATTACK, "mia_auc": 0.5}
    tables: dict[str, list[dict[str, Any]]] = {"members": [], "samples": []}
    for number, (seed, model) in enumerate(trial.members):
        own = {"trial": trial.id, "member": number}
        tables["members"].append({**own, **describe(trial, seed, model), **well})
        tables["samples"] += [
            {**own, "sample": sample, "group": "clean", "label": 0, "original_label": 0}
            | {"is_member": bool(inside), "score": float(score), "correct": True}
            for sample, (score, inside) in enumerate(zip(scores[model], is_member[model], strict=True))
        ]
    return tables


# The difference has a bias, which the limits are there to show; 8 models are too few for one.
BIASED = (Measure("difference of AUCs", 0.0), Measure("intervals without 0", 0.05))
SCENARIOS = (
    Scenario("8 models, the same best attack", partial(_differences, models=8, limited=False), BIASED, 300),
    *(
        Scenario(
            f"{models} models, the same best attack",
            partial(_differences, models=models),
            (
                *BIASED,
                Measure("difference in the limit of many shadows", 0.0, -0.01, 0.01),
                Measure(f"difference of {STEADY_ATTACK} in the limit", 0.0, -0.01, 0.01),
            ),
            draws,
        )
        for models, draws in ((16, 200), (32, 100))
    ),
    *(
        Scenario(
            f"{models} models, the same best attack, the claim of a point",
            partial(_claimed, models=models, more=0.0),
            (Measure('false "held"', 0.05, most=0.05),),
            40,
        )
        for models in (8, 16)
    ),
    Scenario(
        "16 models, batch norm leaks more, the claim of a point",
        partial(_claimed, models=16, more=1.0),
        (Measure('true "held"', 1.0, least=0.8),),
        20,
    ),
)
