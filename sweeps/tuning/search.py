"""The search of a tuning: Tune's workers train what Optuna suggests, and Optuna's storage says how far it is.

A study in the storage outlives whoever searches: killed, it is taken up again where it was.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sweeps.launch import schedule, tasks  # first, for Ray reads the environment that it sets
from sweeps.launch import trials as trials_module

# isort: split
import optuna
from optuna.trial import TrialState
from ray.tune import Callback
from ray.tune.search.optuna import OptunaSearch
from sqlalchemy.exc import SQLAlchemyError

from study import seeds
from study.errors import BadInputError
from study.record.results import Results
from study.trial import Trial
from study.worker import use_one_thread
from sweeps.launch.cluster import Pool
from sweeps.launch.tasks import Report, Task
from sweeps.tuning import pareto
from sweeps.tuning.space import KINDS, OBJECTIVES, SEARCHES, Cell, measured, storage_path

Callbacks = Callable[[str], Sequence[Callback]]
"""Gives what Tune is to call besides while it runs a sweep."""
MODES = {"minimize": "min", "maximize": "max"}


optuna.logging.set_verbosity(optuna.logging.ERROR)


warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@dataclass(frozen=True)
class Search:
    """One search of a cell, as its study in the storage has it.

    Attributes:
        cell: what is searched.
        name: `tpe` or `random`.
        budget: how many settings are to be measured.
        seed: of the sampler.
        results: where the records and the storage are.
    """

    cell: Cell
    name: str
    budget: int
    seed: int
    results: Results

    @property
    def folder(self) -> str:
        """The sweep under which its trials are recorded."""
        return SEARCHES[self.name]

    @property
    def left(self) -> int:
        """How many settings are still to be measured; nothing is written to find out."""
        return max(0, self.budget - len(self.found))

    @property
    def found(self) -> list[dict[str, Any]]:
        """The measured settings in their order: `trial`, `alpha` and the objectives."""
        with _readable(storage_path(self.results)):
            study = self._opened() if storage_path(self.results).exists() else None
            done = study.get_trials(states=(TrialState.COMPLETE,)) if study else []
        settings = [self.cell.setting(**each.params) for each in done]
        return [
            {"trial": trial, "alpha": trial.alpha, **dict(zip(OBJECTIVES, each.values, strict=True))}
            for trial, each in zip(settings, done, strict=True)
        ]

    def _opened(self) -> optuna.Study | None:
        try:
            return optuna.load_study(study_name=self.cell.study(self.name, self.seed), storage=self._storage())
        except KeyError:
            return None

    def _storage(self) -> optuna.storages.RDBStorage:
        return optuna.storages.RDBStorage(f"sqlite:///{storage_path(self.results)}")

    def run(
        self,
        data_dir: Path,
        pool: Pool,
        on_progress: Report,
        backend: str = "auto",
        callbacks: Callbacks = lambda _: (),
    ) -> schedule.Outcome:
        """Measure what is left of the budget; a setting that diverges or fails is made up for by another.

        It is given up once a whole round has measured none.

        Args:
            data_dir: where torchvision's datasets lie, on every node.
            pool: the workers.
            on_progress: told the fraction of the budget that is done.
            backend: how members train side by side, or `auto`.
            callbacks: gives what Tune is to call besides, for the sweep that is recorded.
        """
        with _readable(storage_path(self.results)):
            return self._rounds(data_dir, pool, on_progress, backend, callbacks)

    def _rounds(
        self, data_dir: Path, pool: Pool, on_progress: Report, backend: str, callbacks: Callbacks
    ) -> schedule.Outcome:
        whole = schedule.Outcome()
        storage, study_name = self._storage(), self.cell.study(self.name, self.seed)
        study = optuna.create_study(
            storage=storage, study_name=study_name, directions=list(OBJECTIVES.values()), load_if_exists=True
        )
        study.set_metric_names(list(OBJECTIVES))
        self._settle(study)
        sharing = trials_module.sharing(self.cell.setting(0.1, KINDS[0]), data_dir, pool, backend)
        left = self.left
        while left and not whole.interrupted:
            done = self.budget - left

            def advance(fraction: float, done: int = done, left: int = left) -> None:
                on_progress((done + fraction * left) / self.budget)

            suggest = _Suggest(self.cell, {**self._task(data_dir, pool, backend), "sharing": sharing})
            searcher = _Searcher(
                suggest,
                metric=list(OBJECTIVES),
                mode=[MODES[direction] for direction in OBJECTIVES.values()],
                sampler=self._sampler(len(study.get_trials(deepcopy=False))),
                study_name=study_name,
                storage=storage,
            )
            ray = self.results.below(self.folder, "ray")
            own = callbacks(self.folder)
            outcome = schedule.search(searcher, left, measure, pool, advance, ray, sharing, own)
            whole.add(outcome)
            with trials_module.written(outcome, self.results):
                self._settle(study)
                self._record_failures(suggest.trials, outcome.errors)
            before, left = left, self.left
            if left == before:
                break
        return whole

    def _sampler(self, asked: int) -> optuna.samplers.BaseSampler:
        """One that goes on after so many suggestions with others than it began with."""
        seed = seeds.key(self.seed, "sampler", self.name, asked) % 2**32
        if self.name == "random":
            return optuna.samplers.RandomSampler(seed)
        # What is still being trained counts as bad, so that workers are not sent to the same place at once.
        start = max(4, self.budget // 4)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=start, multivariate=True, constant_liar=True)

    def _task(self, data_dir: Path, pool: Pool, backend: str) -> Task:
        return {
            "sweep": self.folder,
            "results": str(self.results),
            "data_dir": str(data_dir.absolute()),
            "device": pool.device,
            "backend": backend,
        }

    def _settle(self, study: optuna.Study) -> None:
        """Give every trial that whoever asked for it has left behind its outcome: what is recorded, else a failure."""
        for each in study.get_trials(states=(TrialState.RUNNING,)):
            known = "trial" in each.user_attrs
            means = measured(self.results, self.folder, self.cell.setting(**each.params)) if known else None
            if means:
                study.tell(each.number, list(means.values()))
            else:
                study.tell(each.number, state=TrialState.FAIL)

    def _record_failures(self, trials: list[Trial], errors: Mapping[int, str]) -> None:
        from study.record.rows import failed

        for position, error in errors.items():
            trial = trials[position]
            if not self.results.ran(self.folder, trial.id):
                self.results.write(self.folder, trial.id, vars(failed(trial, error)))


def measure(task: Task, report: Report) -> Mapping[str, Any]:
    """Run a suggested trial in a worker unless its record is there, and return its objectives; none if it diverged."""
    from study.run import run

    use_one_thread()
    trial, results = Trial.of(task["trials"][0]), Results(task["results"])
    if trial.id != task["ids"][0]:
        raise BadInputError(f"the files of {trial.dataset} are not those that were planned with")
    if not results.ran(task["sweep"], trial.id):
        checkpoints = results.checkpoints(task["sweep"])
        records = run(trial, Path(task["data_dir"]), task["device"], report, task["backend"], checkpoints)
        for row in records.members:
            row["seconds"] /= task["sharing"]  # of the device, of which it had but a part
        tasks.write(results, task["sweep"], trial, vars(records))
        checkpoints.drop(trial.id)
    means = measured(results, task["sweep"], trial) or {}
    return {**means, "trials": {trial.id: means}}


class _Suggest:
    """What Optuna calls with each new trial of a study, to have it suggest a setting: define-by-run."""

    def __init__(self, cell: Cell, task: Task) -> None:
        self.trials: list[Trial] = []
        self._cell, self._task = cell, task

    def __call__(self, asked: optuna.Trial) -> dict[str, Any]:
        numbers = {name: asked.suggest_float(name, *ends, log=True) for name, ends in self._cell.ranges.items()}
        trial = self._cell.setting(**numbers, kind=asked.suggest_categorical("kind", KINDS))
        asked.set_user_attr("trial", trial.id)
        self.trials.append(trial)
        position = len(self.trials) - 1
        return {"task": {**self._task, "trials": [trial.settings()], "ids": [trial.id], "task": position}}


class _Searcher(OptunaSearch):  # type: ignore[misc]
    """Optuna, to whom a trial without all of its objectives has failed."""

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        whole = result is not None and all(name in result for name in OBJECTIVES)
        super().on_trial_complete(trial_id, result if whole else None, error or not whole)


def front(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The settings that no other beats, each once, by their memorization."""
    distinct = list({row["trial"].id: row for row in found}.values())
    signs = [1 if direction == "minimize" else -1 for direction in OBJECTIVES.values()]
    points = [[sign * row[name] for sign, name in zip(signs, OBJECTIVES, strict=True)] for row in distinct]
    kept = [row for row, best in zip(distinct, pareto.front(points) if points else [], strict=True) if best]
    return sorted(kept, key=lambda row: row["mem_acc"])


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Say clearly that the storage can't be used.

    Raises:
        BadInputError: it is no storage of this Optuna's.
    """
    try:
        yield
    except SQLAlchemyError as error:
        line = str(error).splitlines()[0]
        raise BadInputError(f"{path} can't be used as Optuna's storage ({line}); move it away.") from None
