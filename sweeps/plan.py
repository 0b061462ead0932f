"""Plan a sweep's trials, and hold the plan against the records."""

import hashlib
import json
import shlex
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from study import imports
from study.data import folders
from study.errors import BadInputError
from study.networks.published import PUBLISHED
from study.record.results import Results
from study.settings import FOLDER_FIELDS
from study.storage.location import public
from study.trial import Trial

OUTCOMES = ("done", "missing", "failed", "diverged")
"""What may have come of a trial."""


@dataclass(frozen=True)
class Plan:
    """The trials that a launch of a sweep sets out to have done.

    Attributes:
        sweep: the sweep's name.
        version: the sweep's version.
        trials: the trials, each once.
    """

    sweep: str
    version: int
    trials: tuple[Trial, ...]

    @property
    def members(self) -> int:
        """How many networks the plan trains."""
        return sum(len(trial.members) for trial in self.trials)

    def save(self, results: Results) -> None:
        """Save the plan beside the records, so that the analysis knows what to expect of them."""
        content = {
            "sweep": self.sweep,
            "version": self.version,
            "trials": [{"id": trial.id, "cell": trial.cell, **trial.settings()} for trial in self.trials],
        }
        name = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
        results.save_plan(self.sweep, name, {**content, "command": command(*sys.orig_argv[1:])})

    @classmethod
    def saved(cls, sweep: str, results: Results) -> "Plan | None":
        """Return all that launches of a sweep have planned into a results folder, as one plan; None if nothing was.

        Raises:
            BadInputError: a plan is damaged.
        """
        plans = results.plans(sweep)
        if not plans:
            return None
        try:
            trials = {entry["id"]: _saved_trial(entry) for plan in plans for entry in plan["trials"]}
            return cls(sweep, max(plan["version"] for plan in plans), tuple(trials.values()))
        except (KeyError, TypeError, AttributeError):
            raise BadInputError(f"a plan of {sweep} in {results} is damaged; remove it and run again.") from None

    @property
    def custom_architectures(self) -> tuple[str, ...]:
        """The networks of its trials that are the user's own, as `module:factory`, sorted."""
        return tuple(sorted({trial.architecture for trial in self.trials if _is_users_own(trial)}))

    def check_named(self, architectures: Collection[str]) -> None:
        """Refuse to run a saved plan with a custom network that the user has not named.

        A results folder may come from someone else, and running such a network runs whatever its module does.

        Raises:
            BadInputError: there is one.
        """
        for architecture in self.custom_architectures:
            if architecture not in architectures:
                module, _, _ = architecture.partition(":")
                raise BadInputError(
                    f"the plan in the results folder asks for {architecture}; "
                    f"if module {module} is yours to run, add --architecture {shlex.quote(architecture)}."
                )

    def networks(self) -> set[tuple[str, int, int]]:
        """Return every network of the plan, as its cell, its seed and its number among the models of that seed."""
        return {(trial.cell, seed, model) for trial in self.trials for seed, model in trial.members}

    def check_unchanged(self) -> None:
        """Refuse to continue a saved plan whose dataset folders have changed since it was made.

        Raises:
            BadInputError: one has, or is gone.
        """
        for trial in self.trials:
            if any(folders.parse(getattr(trial, name)) for name in FOLDER_FIELDS) and replace(trial).cell != trial.cell:
                raise BadInputError(
                    f"the files of {trial.dataset} have changed since [{trial}] was planned; "
                    "restore them, or run the sweep into another results folder."
                )

    def state(self, results: Results) -> "State":
        """Hold the plan against the records.

        Raises:
            BadInputError: a shard can't be read.
        """
        rows = results.read(self.sweep, "members", columns=["trial", "cell", "seed", "status", "error"]).to_pylist()
        # The models of a seed are recorded together; the worst of them, which comes last, stands for all.
        rows.sort(key=lambda row: ("ok", "diverged", "failed").index(row["status"]))
        return State(self, {(row["cell"], row["seed"]): row for row in rows})


def command(*arguments: str) -> str:
    """Return a command line as a user would type it, without the credentials that a URI may have."""
    return shlex.join(["python", *map(public, arguments)])


def _is_users_own(trial: Trial) -> bool:
    """Return whether its network is the user's own, as `module:factory`."""
    return imports.parse(trial.architecture) is not None and trial.architecture not in PUBLISHED


def _saved_trial(entry: Mapping[str, Any]) -> Trial:
    """Return a trial of a saved plan with the identity it was planned with: its dataset folder may be elsewhere now.

    An excerpt has the folder under the name that it is recorded by, which is no path.
    """
    trial = Trial.of({name: value for name, value in entry.items() if name not in ("id", "cell")})
    named = {name: entry[name] for name in FOLDER_FIELDS if name in entry}
    trial.__dict__.update(named, id=entry["id"], cell=entry["cell"])
    return trial


@dataclass(frozen=True)
class State:
    """A plan held against the records: every trial is done, missing, failed or diverged.

    What counts is whether each network, a cell and a seed, is recorded, whatever trial it was recorded in. A sweep with
    more seeds thus runs only the new ones.

    Attributes:
        plan: the trials that should be recorded.
        recorded: the row of each recorded member, by cell and seed: `trial`, `status` and `error`.
    """

    plan: Plan
    recorded: Mapping[tuple[str, int], Mapping[str, Any]]

    def of(self, trial: Trial) -> str:
        """Return the state of a trial, the worst of its members'."""
        rows = [self.recorded.get((trial.cell, seed)) for seed in trial.seed]
        states = {"missing" if row is None else row["status"] for row in rows}
        return next((state for state in ("missing", "failed", "diverged") if state in states), "done")

    @cached_property
    def missing(self) -> tuple[Trial, ...]:
        """The trials that running the sweep again will run, with the seeds that have no record."""
        missing_seeds = {
            trial: tuple(seed for seed in trial.seed if (trial.cell, seed) not in self.recorded)
            for trial in self._in("missing")
        }
        return tuple(
            trial if seeds == trial.seed else replace(trial, seed=seeds) for trial, seeds in missing_seeds.items()
        )

    @cached_property
    def failed(self) -> tuple[Trial, ...]:
        """The trials that `retry` will run: those that could not be run, as they were recorded."""
        cells = {trial.cell: trial for trial in self.plan.trials}
        seeds: dict[tuple[str, str], list[int]] = {}
        ids = {row["trial"] for row in self.recorded.values() if row["status"] == "failed"}
        for (cell, seed), row in self.recorded.items():
            if row["trial"] in ids and cell in cells:
                seeds.setdefault((cell, row["trial"]), []).append(seed)
        return tuple(replace(cells[cell], seed=tuple(recorded)) for (cell, _), recorded in seeds.items())

    def error(self, trial: Trial) -> str:
        """Return why a failed trial failed."""
        rows = (self.recorded.get((trial.cell, seed)) for seed in trial.seed)
        return next((row["error"] for row in rows if row and row["status"] == "failed"), "")

    @cached_property
    def counts(self) -> Counter[str]:
        """How many trials of the plan are done, missing, failed and diverged."""
        return Counter(self.of(trial) for trial in self.plan.trials)

    def _in(self, state: str) -> tuple[Trial, ...]:
        return tuple(trial for trial in self.plan.trials if self.of(trial) == state)

    def __str__(self) -> str:
        return ", ".join(f"{self.counts[name]} {name}" for name in OUTCOMES)
