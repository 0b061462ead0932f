"""What a claim is: a sentence of a paper, the networks that it is about, and the test that decides it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import level, silenced
from analysis.statistics import hypotheses
from analysis.statistics.hypotheses import Effects, Finding
from study.record.results import Results
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale

Effect = Callable[[pd.DataFrame], pd.Series]
"""The effect in each row of a frame of pairs, whose results end in `_arm` and `_ref`, or of members of one arm."""
Test = Callable[["Claim", Effects], Finding]
Levels = Mapping[str, Any]
"""Levels by setting; a tuple stands for any of its levels."""
BATCH: Levels = {"norm": "batch"}
NONE: Levels = {"norm": "none"}


def difference(column: str) -> Effect:
    """The arm's value less the reference's."""
    return lambda pairs: pairs[f"{column}_arm"] - pairs[f"{column}_ref"]


def ratio(column: str) -> Effect:
    """The logarithm of the arm's value over the reference's."""
    return lambda pairs: safe_log(pairs[f"{column}_arm"]) - safe_log(pairs[f"{column}_ref"])


def value(column: str) -> Effect:
    """The value of the one arm that there is."""
    return lambda members: members[column]


def safe_log(values: pd.Series) -> pd.Series:
    """Return the logarithm of values, NaN where a value is not above 0."""
    with np.errstate(divide="ignore"):
        logarithms: pd.Series = values.astype(float).map(np.log)
    return logarithms


def mean(claim: "Claim", effects: Effects) -> Finding:
    """The mean over cells is as claimed."""
    return hypotheses.above(effects, claim.alternative, claim.margin, claim.size)


def every(claim: "Claim", effects: Effects) -> Finding:
    """The mean is as claimed, and so is the sign in every cell."""
    return hypotheses.every_cell(effects, claim.alternative, claim.margin, claim.size)


def some(of: str) -> Test:
    """One level of a setting at least is as claimed."""
    return lambda claim, effects: hypotheses.some_level(effects, claim.alternative, of, claim.margin)


def trend(along: str) -> Test:
    """The effect grows or falls along a setting."""
    return lambda claim, effects: hypotheses.trend(effects, claim.alternative, along)


def most(but: str) -> Test:
    """The sign is as claimed in most cells, of which a setting is no part."""
    return lambda claim, effects: hypotheses.most_cells(effects, claim.alternative, but)


def within(factor: float) -> Test:
    """A ratio lies within a factor of 1."""
    return lambda _, effects: hypotheses.within_factor(effects, factor)


@dataclass(frozen=True)
class Claim:
    """One sentence of the paper as a hypothesis with a test.

    Attributes:
        id: its name here.
        place: where the paper has it.
        says: the sentence, in our words.
        sweeps: whose records can decide it, the one that was made for it first.
        effect: what is measured of each pair.
        test: the hypothesis.
        where: the cells that it is about.
        arm: the settings of one side.
        reference: those of the other; None where the claim is about one arm alone.
        table: what the effect is made of: a member's results (`members`), their means over all epochs (`epochs`), the
            last of each layer (`layers`), or the attack on models trained on halves (`samples`).
        alternative: `greater` or `less`, the side that is claimed.
        margin: what the effect is to exceed, where the paper says how much at least, or where we put a number to its
            words.
        size: how large the effect is, where the paper says about how much.
        ratio: whether the effect is the logarithm of a ratio, and told as the ratio.
        paper: the paper's own number in the unit of the effect, where it gives one.
        paper_p: the p that it gives.
    """

    id: str
    place: str
    says: str
    sweeps: tuple[str, ...]
    effect: Effect
    test: Test
    where: Levels = field(default_factory=dict)
    arm: Levels = field(default_factory=lambda: BATCH)
    reference: Levels | None = field(default_factory=lambda: NONE)
    table: str = "members"
    alternative: str = "greater"
    margin: float = 0.0
    size: float | None = None
    ratio: bool = False
    paper: float | None = None
    paper_p: float | None = None

    def about(self, trial: Trial) -> bool:
        """Whether the trial is one of its cells."""
        sides = [self.arm] if self.reference is None else [self.arm, self.reference]
        return any(_allows({**self.where, **side}, trial.settings()) for side in sides)

    def command(self, results: Results) -> str:
        """What would run its cells: at the quick scale, if they are there."""
        sweep = SWEEPS[self.sweeps[0]]
        quick = any(map(self.about, sweep.plan(Scale.quick).trials))
        return f"python -m sweeps run {sweep.name}{'' if quick else ' --scale paper'} --results {results.argument}"


def _allows(levels: Levels, settings: Levels) -> bool:
    return all(
        settings[name] in (allowed if isinstance(allowed, tuple) else (allowed,)) for name, allowed in levels.items()
    )


def inactive_settings(side: Levels) -> set[str]:
    """The settings that mean nothing at one of the side's levels."""
    return {other for name, at in side.items() if not isinstance(at, tuple) for other in silenced(name, at)}


def levels_text(side: Levels) -> str:
    """Return a side of a comparison as `norm=batch, k=0.1`."""
    return " ".join(f"{name}={'|'.join(at) if isinstance(at, tuple) else level(at)}" for name, at in side.items())
