"""A sweep is a question and, at each scale, the trials that answer it; a plan is those trials, held against records."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import cached_property
from typing import Any

from study.record import Results
from study.trial import Trial

Axes = Mapping[str, tuple[Any, ...]]


class Scale(StrEnum):
    """How much of a sweep to run."""

    quick = "quick"
    paper = "paper"


@dataclass(frozen=True)
class Sweep:
    """A named, versioned list of trials.

    Attributes:
        name: as the command line names it.
        question: what it answers, in one sentence.
        feeds: the figure or table of the paper that it feeds.
        quick: grids that a CPU runs in minutes, on data that lies inside an installed package.
        paper: grids at the paper's exact setting.
        factor: the factor that its comparison is about.
        reference: that factor's level which the other arms are held against.
        version: raised whenever the trials change.
    """

    name: str
    question: str
    feeds: str
    quick: tuple[Axes, ...]
    paper: tuple[Axes, ...]
    factor: str = "norm"
    reference: str = "none"
    version: int = 1

    def plan(self, scale: Scale, overrides: Mapping[str, Sequence[Any]] | None = None) -> "Plan":
        """The sweep's trials at a scale, with the axes that `overrides` names put in place of its own.

        Raises:
            BadInputError: a setting doesn't fit the others.
        """
        grids = self.quick if scale is Scale.quick else self.paper
        replaced = {name: tuple(values) for name, values in (overrides or {}).items()}
        trials = (trial for grid in grids for trial in trials_of({**grid, **replaced}))
        # Two grids of a sweep may share a cell, and an override may make two cells one.
        unique = {trial.id: trial for trial in trials}
        return Plan(self.name, self.version, tuple(unique.values()))


def product(**axes: Any) -> Axes:
    """A full factorial: every axis by name, a single value standing for an axis of one level."""
    return {name: (value,) if isinstance(value, str | int | float) else tuple(value) for name, value in axes.items()}


def trials_of(axes: Axes) -> Iterable[Trial]:
    """A trial for each cell of the factorial, the first axis varying slowest; seeds are the members of each trial."""
    crossed = {name: values for name, values in axes.items() if name != "seed"}
    seeds = {"seed": axes["seed"]} if "seed" in axes else {}
    for values in itertools.product(*crossed.values()):
        yield Trial.of({**dict(zip(crossed, values, strict=True)), **seeds})


@dataclass(frozen=True)
class Plan:
    """The trials that one launch of a sweep sets out to have done."""

    sweep: str
    version: int
    trials: tuple[Trial, ...]

    @property
    def members(self) -> int:
        """The number of networks that the plan trains."""
        return sum(len(trial.seed) for trial in self.trials)

    def save(self, results: Results) -> None:
        """Keep the plan beside the records, so that the analysis knows what to expect of them."""
        content = {
            "sweep": self.sweep,
            "version": self.version,
            "trials": [{"id": trial.id, **trial.settings()} for trial in self.trials],
        }
        name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        results.save_plan(self.sweep, name, content)

    @classmethod
    def saved(cls, sweep: str, results: Results) -> "Plan | None":
        """All that the launches of a sweep have planned into a results folder, together; None if nothing was."""
        plans = results.plans(sweep)
        if not plans:
            return None
        trials = {entry["id"]: entry for plan in plans for entry in plan["trials"]}
        return cls(sweep, max(plan["version"] for plan in plans), tuple(map(_trial, trials.values())))

    def state(self, results: Results) -> "State":
        """What has become of each trial of the plan.

        Raises:
            BadInputError: a shard can't be read.
        """
        rows = results.read(self.sweep, "members", columns=["trial", "status", "error"]).to_pylist()
        return State(
            self,
            recorded=frozenset(row["trial"] for row in rows),
            errors={row["trial"]: row["error"] for row in rows if row["status"] == "failed"},
            with_diverged=frozenset(row["trial"] for row in rows if row["status"] == "diverged"),
        )


def _trial(entry: Mapping[str, Any]) -> Trial:
    """A trial as a plan keeps it, with the identity it had when it was planned: its folder may be elsewhere now."""
    trial = Trial.of({name: value for name, value in entry.items() if name != "id"})
    trial.__dict__["id"] = entry["id"]
    return trial


@dataclass(frozen=True)
class State:
    """A plan held against the records. Every trial is done, missing, failed or diverged.

    Attributes:
        plan: what should be there.
        recorded: the ids of all trials that have a record.
        errors: why each trial failed that has a failed member, by id.
        with_diverged: the ids of the trials with a diverged member.
    """

    plan: Plan
    recorded: frozenset[str]
    errors: Mapping[str, str]
    with_diverged: frozenset[str]

    @cached_property
    def missing(self) -> tuple[Trial, ...]:
        """Trials without a record: what running the sweep again will run."""
        return tuple(trial for trial in self.plan.trials if trial.id not in self.recorded)

    @cached_property
    def failed(self) -> tuple[Trial, ...]:
        """Trials that could not be run: what `retry` will run."""
        return tuple(trial for trial in self.plan.trials if trial.id in self.errors)

    @cached_property
    def diverged(self) -> tuple[Trial, ...]:
        """Trials with a member whose training left the finite numbers; an outcome like another."""
        return tuple(
            trial for trial in self.plan.trials if trial.id in self.with_diverged and trial.id not in self.errors
        )

    def of(self, trial: Trial) -> str:
        """The group that a trial of the plan is in."""
        groups = {"missing": self.missing, "failed": self.failed, "diverged": self.diverged}
        return next((name for name, group in groups.items() if trial in group), "done")

    @property
    def done(self) -> int:
        """The number of trials whose members all gave results."""
        return len(self.plan.trials) - len(self.missing) - len(self.failed) - len(self.diverged)

    def __str__(self) -> str:
        counts = {
            "done": self.done,
            "missing": len(self.missing),
            "failed": len(self.failed),
            "diverged": len(self.diverged),
        }
        return ", ".join(f"{count} {name}" for name, count in counts.items())
