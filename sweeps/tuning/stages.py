"""The stages of a tuning: references, searches, and a confirmation of the recommended setting on fresh seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from study.record.results import Results
from study.trial import Trial
from sweeps.launch.cluster import Pool
from sweeps.launch.launch import Launch
from sweeps.launch.trials import OnProgress, run_trials
from sweeps.plan import Plan, State
from sweeps.tuning import pareto
from sweeps.tuning.search import Search
from sweeps.tuning.space import CONFIRM, KINDS, OBJECTIVES, SEARCHES, Cell, recorded_objectives

Add = Callable[[str], OnProgress]
"""Returns, for the name of a stage, what to call with its progress."""


@dataclass(frozen=True)
class Tuning:
    """The tuning of a cell, from its references over its searches to its confirmation.

    Attributes:
        cell: what is tuned.
        searches: the searches, that of `tpe` first.
        max_loss: how much validation accuracy the recommended setting may lose.
        results: where the records are.
    """

    cell: Cell
    searches: tuple[Search, ...]
    max_loss: float
    results: Results

    @property
    def reference(self) -> dict[str, float] | None:
        """The objectives of batch norm alone, to be improved on; None unless it was trained to its end."""
        return recorded_objectives(self.results, SEARCHES["tpe"], self.cell.base)

    @property
    def without(self) -> dict[str, float] | None:
        """The objectives without normalization; None unless it was trained to its end."""
        return recorded_objectives(self.results, SEARCHES["tpe"], self.cell.references[1])

    @property
    def recommended(self) -> Trial | None:
        """The searched setting that memorizes least within the budget of accuracy; None if there is none."""
        best = self.best
        return best["trial"] if best else None

    @property
    def best(self) -> dict[str, Any] | None:
        """The recommended setting with its objectives, a row of the first search's `measurements`."""
        reference = self.reference
        if reference is None:
            return None
        return pareto.recommend(self.searches[0].measurements, reference["val_acc"], self.max_loss)

    @property
    def references(self) -> State:
        """The references, held against their records."""
        return Plan(SEARCHES["tpe"], 1, self.cell.references).state(self.results)

    @property
    def confirmation(self) -> State:
        """All arms on the fresh seeds, held against their records."""
        return Plan(CONFIRM, 1, self.cell.confirmation(self.recommended)).state(self.results)

    @property
    def remaining(self) -> list[Sequence[Trial]]:
        """The trials of each stage still to be trained, one setting standing for all that are still to be suggested."""
        stand_in = self.cell.setting(0.1, KINDS[0])
        searched = [[stand_in] * search.remaining for search in self.searches]
        arms = self.cell.confirmation(self.recommended or (stand_in if any(searched) else None))
        confirmation = Plan(CONFIRM, 1, arms).state(self.results)
        return [stage for stage in (_to_train(self.references), *searched, _to_train(confirmation)) if stage]

    def run(self, launch: Launch, pool: Pool, add: Add) -> bool:
        """Train what is left of all three stages.

        Args:
            launch: how to; its sweep and trials are those of each stage in turn.
            pool: the workers.
            add: shows the progress of a stage.

        Returns:
            Whether it came to its end; False if the user stopped it.
        """
        if not self._train(self.references, "references", launch, pool, add):
            return False
        for search in self.searches:
            if not search.remaining:
                continue
            if search.run(launch, pool, add(f"{self.cell} {search.name}")).interrupted:
                return False
        confirmation = self.confirmation
        confirmation.plan.save(self.results)
        return self._train(confirmation, "confirmation", launch, pool, add)

    def _train(self, state: State, stage: str, launch: Launch, pool: Pool, add: Add) -> bool:
        trials = _to_train(state)
        if not trials:
            return True
        stage_launch = replace(launch, sweep=state.plan.sweep, trials=trials, planned=state.plan.trials)
        return not run_trials(stage_launch, pool, add(f"{self.cell} {stage}")).interrupted


def non_dominated(measurements: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the settings that no other dominates, each once, ordered by their memorization."""
    distinct = list({row["trial"].id: row for row in measurements}.values())
    signs = [1 if direction == "minimize" else -1 for direction in OBJECTIVES.values()]
    points = [[sign * row[name] for sign, name in zip(signs, OBJECTIVES, strict=True)] for row in distinct]
    kept = [row for row, best in zip(distinct, pareto.front(points) if points else [], strict=True) if best]
    return sorted(kept, key=lambda row: row["mem_acc"])


def _to_train(state: State) -> tuple[Trial, ...]:
    """Return the trials that are missing or have failed."""
    return state.missing + state.failed
