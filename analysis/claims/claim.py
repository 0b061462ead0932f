"""A claim: a sentence of a paper, the cells that it is about, and the test that decides it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from analysis.cells import inactive_settings
from analysis.claims.effects import Effect
from analysis.metrics import HALF_POINT
from analysis.statistics import hypotheses
from analysis.statistics.hypotheses import Effects, Finding, Size
from analysis.tuning.tradeoff import TunedCell
from study.record.results import Results
from study.settings import format_value
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale

Test = Callable[["Claim", Effects], Finding]
"""The test of a claim, given its effects."""
Levels = Mapping[str, Any]
"""Levels by setting; a tuple stands for any of its levels."""
GALLOWAY = "g19-"
"""What the names of the claims, tables and figures of the 2019 paper begin with."""
BATCH: Levels = {"norm": "batch"}
NONE: Levels = {"norm": "none"}


def mean(claim: "Claim", effects: Effects) -> Finding:
    """Test that the mean over cells is as claimed; of one arm, also where all seeds have one and the same value."""
    return hypotheses.above(effects, claim.alternative, claim.margin, claim.size)


def every(claim: "Claim", effects: Effects) -> Finding:
    """Test that the mean is as claimed, and the sign in every cell too."""
    return hypotheses.every_cell(effects, claim.alternative, claim.margin, claim.size)


def together(of: str) -> Test:
    """Return the test that one level of the setting `of` has the effect and what is claimed beside it."""
    return lambda claim, effects: hypotheses.same_level(
        effects, claim.alternative, of, claim.margin, claim.least_beside
    )


def monotone(along: str) -> Test:
    """Return the test that the effect grows, or falls, with a setting, between any two of its levels."""
    return lambda claim, effects: hypotheses.monotone(effects, claim.alternative, along)


def associated(along: str) -> Test:
    """Return the test that the effect grows, or falls, with a setting by and large."""
    return lambda claim, effects: hypotheses.monotone(effects, claim.alternative, along, everywhere=False)


def most(share: float, but: str) -> Test:
    """Return the test that a share of cells has the claimed sign at least; the setting `but` tells no cells apart."""
    return lambda claim, effects: hypotheses.most_cells(effects, claim.alternative, but, share)


def unaffected(along: str, most: float) -> Test:
    """Return the test that the effect changes by less than so much with a setting."""
    return lambda _, effects: hypotheses.unaffected(effects, along, most)


def go_together(_: "Claim", effects: Effects) -> Finding:
    """Test that the effect and what is beside it go together over cells."""
    return hypotheses.go_together(effects)


def spread_alike(factor: float) -> Test:
    """Return the test that the effect varies over cells as much as what is beside it, within a factor."""
    return lambda _, effects: hypotheses.spread_alike(effects, factor)


def within(factor: float) -> Test:
    """Return the test that a ratio is within a factor of 1."""
    return lambda _, effects: hypotheses.within_factor(effects, factor)


def within_everywhere(factor: float) -> Test:
    """Return the test that a ratio is within a factor of 1 on average, and in every cell too."""
    return lambda _, effects: hypotheses.within_factor_everywhere(effects, factor)


def alike(most: float) -> Test:
    """Return the test that the effect is smaller than so much on either side."""
    return lambda _, effects: hypotheses.within(effects, most)


def about(points: float) -> Size:
    """Return the size that the paper gives as about so much: what rounds to it in points."""
    return points - HALF_POINT, points + HALF_POINT


@dataclass(frozen=True)
class Claim:
    """One sentence of a paper as a hypothesis with a test, decided from the records of a sweep.

    Attributes:
        id: the claim's name, which begins with what of the paper it is about, a key of `analysis.paper.CELLS`.
        place: the sentence's place in the paper.
        says: the sentence in our words.
        sweeps: the sweeps whose records can decide it, the one that was made for it first.
        effect: what is measured of each pair, or of each member where there is one arm.
        test: the test of the hypothesis.
        where: the levels that its cells have, at any scale. The paper's datasets and networks are those of `topic`.
        arm: the levels of one arm.
        reference: the levels of the arm that it is compared with; None where the claim is about one arm alone.
        table: the records that the effect is made of: a member's results (`members`), their means over all epochs
            (`epochs`), the last results of each layer (`layers`), the margins and gradient norms of its atypical
            samples at the end (`gradients`) or, as a cell each, at the measured epochs (`margins`), these epochs in one
            (`curves`), the means over them of what each layer's gamma is pulled by (`gamma_gradients`), the attack on
            models that were trained on halves of D' (`samples`), or how their samples' memorization goes with what
            leaks of them (`leakage`); or the accuracy and loss under FGSM (`robustness`), or how the classes lie in a
            layer before training (`activations`). group: whose samples an attack is about: `all`, or the `atypical`
            ones of S_out alone.
        alternative: the side that is claimed, `greater` or `less`.
        margin: the number that the effect must exceed, where the paper says how much it is at least, or where we put a
            number to its words.
        size: the effect's size, where the paper says about how much it is: what an interval is compatible with.
        beside: what is claimed of the same pairs at once, where the sentence says two things.
        least_beside: the number that this must exceed.
        goes_with: settings that have a value of their own for each level of another, by their name: they tell no cells
            apart, and a level of theirs in the arm is compared at the other's levels that it goes with.
        attacked: whether the sentence is about LiRA, so that only members count that it was put to.
        leakage: whether a difference of AUCs is in the effect, as it is with `samples`: the claim then holds only if
            that is not one in how well shadows estimate the arms.
        converged: whether the sentence is about networks that were trained to convergence, so that only cells count
            whose networks have all converged.
        diverged_as: the results that a member which diverged counts with, where the sentence is about what trains.
        ratio: whether the effect is the logarithm of a ratio, and shown as the ratio.
        paper: the paper's own number in the unit of the effect, where it gives one.
        paper_p: the p-value that the paper gives.
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
    group: str = "all"
    alternative: str = "greater"
    margin: float = 0.0
    size: Size | None = None
    beside: Effect | None = None
    least_beside: float = 0.0
    goes_with: Mapping[str, str] = field(default_factory=dict)
    attacked: bool = False
    leakage: bool = False
    converged: bool = False
    diverged_as: Mapping[str, float] = field(default_factory=dict)
    ratio: bool = False
    paper: float | None = None
    paper_p: float | None = None

    @property
    def topic(self) -> str:
        """The figure, table or section that the claim is about, a key of `analysis.paper.CELLS`."""
        parts = self.id.split("-")
        return "-".join(parts[: 1 if self.publication == "2026" else 2])

    @property
    def publication(self) -> str:
        """The year of the paper that it is of."""
        return "2019" if self.id.startswith(GALLOWAY) else "2026"

    def about(self, trial: Trial) -> bool:
        """Return whether a trial is one of the claim's cells."""
        return any(_allows({**self.where, **side}, trial.settings()) for side in self.sides)

    @property
    def sides(self) -> list[Levels]:
        """The levels of its arm, and of the reference if there is one."""
        return [self.arm] if self.reference is None else [self.arm, self.reference]

    def command(self, results: Results) -> str:
        """Return the command that runs the claim's cells, at the quick scale if it has them."""
        sweep = SWEEPS[self.sweeps[0]]
        trials = [trial.settings() for trial in sweep.plan(Scale.quick).trials]
        quick = all(any(_allows({**self.where, **side}, trial) for trial in trials) for side in self.sides)
        return f"python -m sweeps run {sweep.name}{'' if quick else ' --scale paper'} --results {results.argument}"


@dataclass(frozen=True)
class TuningClaim:
    """One sentence of a paper about the tuned regularizer, decided from the records of a tuning.

    Attributes:
        id: the claim's name.
        place: the sentence's place in the paper.
        says: the sentence in our words.
        test: what the records of a tuned cell say of it.
    """

    id: str
    place: str
    says: str
    test: Callable[[TunedCell], Finding]


def _allows(levels: Levels, settings: Levels) -> bool:
    """Return whether settings are among the levels."""
    return all(
        settings[name] in (allowed if isinstance(allowed, tuple) else (allowed,)) for name, allowed in levels.items()
    )


def inactive_at(side: Levels) -> set[str]:
    """Return the settings that don't matter at one of a side's levels."""
    return {
        other
        for name, level in side.items()
        if not isinstance(level, tuple)
        for other in inactive_settings(name, level)
    }


def levels_text(side: Levels) -> str:
    """Return a side of a comparison as a user would type it, such as `norm=batch|group k=0.1`."""
    return " ".join(
        f"{name}={'|'.join(map(format_value, level)) if isinstance(level, tuple) else format_value(level)}"
        for name, level in side.items()
    )
