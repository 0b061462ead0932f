"""Define a sweep: a question and, at each scale, the grids of trials that answer it."""

import itertools
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from study.errors import BadInputError, unknown
from study.settings import format_value
from study.trial import Trial
from sweeps.plan import Plan

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
        question: the question that it answers, in one sentence.
        feeds: the figure or table that it feeds, after the year of its paper.
        quick: grids that a CPU runs in minutes, on data inside an installed package.
        paper: grids at the paper's setting; a sweep's file says where the paper gives none, and what was chosen.
        factor: the factor whose levels are compared.
        version: raised whenever the trials change.
    """

    name: str
    question: str
    feeds: str
    quick: tuple[Axes, ...]
    paper: tuple[Axes, ...]
    factor: str = "norm"
    version: int = 1

    def plan(
        self,
        scale: Scale,
        overrides: Mapping[str, Sequence[Any]] | None = None,
        fraction: float = 1.0,
        only: Mapping[str, Sequence[Any]] | None = None,
    ) -> "Plan":
        """Plan the sweep's trials at a scale.

        Args:
            scale: which grids to take.
            overrides: axes that replace the sweep's own, or are added.
            fraction: one over a whole number, to take a balanced part of the cells (see `balanced_fraction`).
            only: levels to which the trials are restricted. Of a sweep whose settings depend on one another, such as a
                learning rate on the batch size, that leaves trials of the sweep, where an override would cross them.

        Raises:
            BadInputError: a setting doesn't fit the others, there is no balanced fraction of that size, no grid at that
                scale, or no trial of a level.
        """
        replaced = {name: tuple(values) for name, values in (overrides or {}).items()}
        grids = [{**grid, **replaced} for grid in (self.quick if scale is Scale.quick else self.paper)]
        if not grids:
            raise BadInputError(f"{self.name} has no grid at --scale {scale}.")
        parts = _parts(fraction)
        cells = (
            cell
            for grid in grids
            for cell in (balanced_fraction(grid, self.factor, parts) if parts > 1 else cells_of(grid))
        )
        # Two grids of a sweep may share a cell, and an override may make two cells one.
        unique = {trial.id: trial for trial in map(Trial.of, cells)}
        return Plan(self.name, self.version, restrict(tuple(unique.values()), only or {}))


def product(**axes: Any) -> Axes:
    """Return the axes of a full factorial, by name; a single value stands for an axis of one level."""
    return {name: (value,) if isinstance(value, str | int | float) else tuple(value) for name, value in axes.items()}


def cells_of(axes: Axes) -> Iterable[dict[str, Any]]:
    """Yield the settings of each cell of the factorial, the first axis varying slowest; all seeds go to each cell."""
    crossed, seeds = _split(axes)
    for values in itertools.product(*crossed.values()):
        yield {**dict(zip(crossed, values, strict=True)), **seeds}


def balanced_fraction(axes: Axes, factor: str, parts: int) -> list[dict[str, Any]]:
    """Return a regular fraction of the factorial: all levels of the factor on one in `parts` of the other cells.

    A cell is kept if the positions of its levels add up to a multiple of `parts`. Every level of an axis then comes as
    often as any other of that axis, and no arm lacks its partner.

    Raises:
        BadInputError: the axes are not long enough for a balanced fraction of that size.
    """
    crossed, seeds = _split(axes)
    positions = [range(1) if name == factor else range(len(values)) for name, values in crossed.items()]
    chosen = [where for where in itertools.product(*positions) if sum(where) % parts == 0]
    for axis, places in enumerate(positions):
        counts = Counter(where[axis] for where in chosen)
        if len({counts[place] for place in places}) != 1 or not chosen:
            raise BadInputError(f"this grid has no balanced fraction of 1/{parts}; try 1/2, 1/3 or 1/4 of it.")
    return [
        {**dict(zip(crossed, values, strict=True)), **seeds}
        for where in chosen
        for values in itertools.product(
            *(
                levels if name == factor else (levels[place],)
                for (name, levels), place in zip(crossed.items(), where, strict=True)
            )
        )
    ]


def restrict(trials: Sequence[Trial], only: Mapping[str, Sequence[Any]]) -> tuple[Trial, ...]:
    """Return the trials that have one of the named levels of each setting.

    Raises:
        BadInputError: no trial has a level, or none has all of them; or seeds are named, which a trial has several of.
    """
    for name, levels in only.items():
        if name == "seed":
            raise BadInputError(
                "--only keeps whole trials, whose members are the seeds: name those by --set seed=0..4."
            )
        there = dict.fromkeys(getattr(trial, name) for trial in trials)
        for level in levels:
            if level not in there:
                raise unknown(f"{name} of the sweep", format_value(level), [format_value(other) for other in there])
    kept = tuple(trial for trial in trials if all(getattr(trial, name) in levels for name, levels in only.items()))
    if not kept:
        raise BadInputError("no trial of the sweep has all the levels that --only names.")
    return kept


def _split(axes: Axes) -> tuple[dict[str, tuple[Any, ...]], dict[str, tuple[Any, ...]]]:
    """Return the axes that are crossed, and that of the seeds, which are the members of each trial."""
    crossed = {name: values for name, values in axes.items() if name != "seed"}
    return crossed, {"seed": axes["seed"]} if "seed" in axes else {}


def _parts(fraction: float) -> int:
    """Return in how many parts the fraction divides the cells.

    Raises:
        BadInputError: it is not one over a whole number.
    """
    parts = round(1 / fraction) if 0 < fraction <= 1 else 0
    if parts < 1 or abs(parts * fraction - 1) > 0.01:
        raise BadInputError(f"a fraction is one over a whole number, such as 0.25, not {fraction:g}.")
    return parts
