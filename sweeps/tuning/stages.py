"""The stages of a tuning: its search, and the trials that confirm it on fresh seeds."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sweeps.launch import trials as trials_module
from sweeps.tuning.search import Callbacks, Search

# isort: split
from study.record.results import Results
from study.trial import Trial
from sweeps.bundles import Known
from sweeps.launch.cluster import Pool
from sweeps.launch.tasks import Report
from sweeps.plan import Plan, State
from sweeps.tuning import pareto
from sweeps.tuning.space import CONFIRM, KINDS, SEARCHES, Cell, measured


@dataclass(frozen=True)
class Tuning:
    """A cell from its references over its searches to its confirmation.

    Attributes:
        cell: what is tuned.
        searches: that of `tpe` first.
        max_loss: how much validation accuracy the recommended setting may lose.
        results: where.
    """

    cell: Cell
    searches: tuple[Search, ...]
    max_loss: float
    results: Results

    @property
    def reference(self) -> dict[str, float] | None:
        """The objectives of what is to be improved on; None unless it was trained to its end."""
        return measured(self.results, SEARCHES["tpe"], self.cell.base)

    @property
    def without(self) -> dict[str, float] | None:
        """The objectives without normalization; None unless it was trained to its end."""
        return measured(self.results, SEARCHES["tpe"], self.cell.references[1])

    @property
    def recommended(self) -> Trial | None:
        """The searched setting that memorizes least within the budget of accuracy."""
        reference = self.reference
        best = pareto.recommend(self.searches[0].found, reference["val_acc"], self.max_loss) if reference else None
        return best["trial"] if best else None

    @property
    def references(self) -> State:
        """The references, held against their records."""
        return Plan(SEARCHES["tpe"], 1, self.cell.references).state(self.results)

    @property
    def confirmation(self) -> State:
        """All arms on the fresh seeds, held against their records."""
        return Plan(CONFIRM, 1, self.cell.confirmation(self.recommended)).state(self.results)

    @property
    def left(self) -> list[Trial]:
        """What is still to be trained, one setting standing for all that are still to be suggested."""
        some = self.cell.setting(0.1, KINDS[0])
        searched = [some for search in self.searches for _ in range(search.left)]
        plan = Plan(CONFIRM, 1, self.cell.confirmation(self.recommended or (some if searched else None)))
        return [*_left(self.references), *searched, *_left(plan.state(self.results))]

    def run(
        self,
        data_dir: Path,
        pool: Pool,
        bar: Callable[[str], Report],
        backend: str,
        callbacks: Callbacks = lambda _: (),
        known: Known | None = None,
    ) -> bool:
        """Train what is left of all three; False if the user has stopped it.

        Args:
            data_dir: where torchvision's datasets lie, on every node.
            pool: the workers.
            bar: gives each part of it, by its name, something to tell its progress.
            backend: how members train side by side, or `auto`.
            callbacks: gives what Tune is to call besides, for each sweep that is recorded.
            known: how kinds of trials train fastest on such workers, who are then not asked.
        """

        def done(state: State, part: str) -> bool:
            sweep, trials = state.plan.sweep, _left(state)
            if not trials:
                return True
            report = bar(f"{self.cell} {part}")
            planned = state.plan.trials
            return not trials_module.run_trials(
                trials,
                sweep,
                self.results,
                data_dir,
                pool,
                report,
                backend,
                planned,
                callbacks=callbacks(sweep),
                known=known,
            ).interrupted

        if not done(self.references, "references"):
            return False
        for search in self.searches:
            if not search.left:
                continue
            report = bar(f"{self.cell} {search.name}")
            if search.run(data_dir, pool, report, backend, callbacks).interrupted:
                return False
        state = self.confirmation
        state.plan.save(self.results)
        return done(state, "confirmation")


def _left(state: State) -> Sequence[Trial]:
    return state.missing + state.failed
