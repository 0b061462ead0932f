"""Search a cell's settings: Tune's workers train what Optuna suggests, and Optuna's storage keeps what was measured.

A study in the storage outlives the process that searches: a search that was killed goes on where it was.
"""

import time
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from study import seeds
from study.errors import BadInputError
from study.record.results import Results
from study.trial import Trial
from sweeps.launch.asking import tasks_per_device
from sweeps.launch.cluster import Pool, store_environment
from sweeps.launch.launch import Launch
from sweeps.launch.optuna_searcher import OptunaSearcher
from sweeps.launch.schedule import Outcome, data_error, schedule_suggestions
from sweeps.launch.tasks import Report, Task, keep_weights, prepare, reporting_curves, write
from sweeps.launch.trials import OnProgress, check_data, reporting_write_errors
from sweeps.tuning.space import KINDS, OBJECTIVES, SEARCHES, Cell, recorded_objectives, storage_path, storage_url

MODES = {"minimize": "min", "maximize": "max"}
"""Tune's names of Optuna's directions."""

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)


@dataclass(frozen=True)
class Search:
    """One search of a cell, as its study in Optuna's storage has it.

    Attributes:
        cell: what is searched.
        name: the sampler, `tpe` or `random`.
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
    def sweep(self) -> str:
        """The sweep under which its trials are recorded."""
        return SEARCHES[self.name]

    @property
    def remaining(self) -> int:
        """How many settings are still to be measured; nothing is written to find out."""
        return max(0, self.budget - len(self.measurements))

    @property
    def measurements(self) -> list[dict[str, Any]]:
        """The measured settings in their order: `trial`, `alpha` and the objectives."""
        with _reporting_bad_storage(storage_path(self.results)):
            study = self._saved_study() if storage_path(self.results).exists() else None
            complete = study.get_trials(states=(TrialState.COMPLETE,)) if study else []
        settings = [self.cell.setting(**suggestion.params) for suggestion in complete]
        return [
            {"trial": trial, "alpha": trial.alpha, **dict(zip(OBJECTIVES, suggestion.values, strict=True))}
            for trial, suggestion in zip(settings, complete, strict=True)
        ]

    def _saved_study(self) -> optuna.Study | None:
        try:
            return optuna.load_study(study_name=self.cell.study(self.name, self.seed), storage=self._storage())
        except KeyError:
            return None

    def _storage(self) -> optuna.storages.RDBStorage:
        return optuna.storages.RDBStorage(storage_url(storage_path(self.results)))

    def run(self, launch: Launch, pool: Pool, on_progress: OnProgress) -> Outcome:
        """Measure what is left of the budget; a setting that diverges or fails is made up for by another.

        The search gives up once a whole round has measured none.

        Args:
            launch: how to; its sweep and its trials are not used, for the search has its own.
            pool: the workers.
            on_progress: called with the fraction of the budget that is done, and with how many settings are.

        Raises:
            BadInputError: the storage can't be used.
            OSError: records could not be written.
        """
        with _reporting_bad_storage(storage_path(self.results)):
            return self._run_rounds(launch, pool, on_progress)

    def _run_rounds(self, launch: Launch, pool: Pool, on_progress: OnProgress) -> Outcome:
        whole = Outcome()
        storage, study_name = self._storage(), self.cell.study(self.name, self.seed)
        study = optuna.create_study(
            storage=storage, study_name=study_name, directions=list(OBJECTIVES.values()), load_if_exists=True
        )
        study.set_metric_names(list(OBJECTIVES))
        self._settle_running(study)
        sharing = tasks_per_device(self.cell.setting(0.1, KINDS[0]), launch, pool)
        left = self.remaining
        while left and not whole.interrupted:
            done = self.budget - left

            def advance(fraction: float, outcome: Outcome, done: int = done, left: int = left) -> None:
                diverged = sum(result["diverged"] for result in outcome.results.values())
                measured = len(outcome.results) - diverged
                # Others make up for the settings that fail or diverge.
                counts = Counter(done=done + measured, missing=left - measured, failed=len(outcome.errors))
                on_progress((done + fraction * left) / self.budget, counts + Counter(diverged=diverged))

            suggest = _Suggest(self.cell, self._task(launch, pool, sharing))
            searcher = OptunaSearcher(
                suggest,
                metric=list(OBJECTIVES),
                mode=[MODES[direction] for direction in OBJECTIVES.values()],
                sampler=self._sampler(len(study.get_trials(deepcopy=False))),
                study_name=study_name,
                storage=storage,
            )
            ray_folder, callbacks = self.results.below(self.sweep, "ray"), launch.callbacks(self.sweep)
            common = {
                "data_dir": launch.data_dir,
                "environment": store_environment(),
                "curves": bool(callbacks),
            }
            outcome = schedule_suggestions(
                searcher, left, run_suggested, pool, advance, ray_folder, sharing, common, callbacks
            )
            whole.extend(outcome)
            with reporting_write_errors(outcome, self.results):
                self._settle_running(study)
                self._record_failures(suggest.trials, outcome.errors)
            check_data(outcome.errors.values())
            before, left = left, self.remaining
            if left == before:
                break
        return whole

    def _sampler(self, suggested: int) -> optuna.samplers.BaseSampler:
        """Return a sampler that, after so many suggestions, continues with others than it began with."""
        seed = seeds.key(self.seed, "sampler", self.name, suggested) % 2**32
        if self.name == "random":
            return optuna.samplers.RandomSampler(seed)
        # What is still being trained counts as bad, so that workers are not sent to the same place at once.
        start = max(4, self.budget // 4)
        return optuna.samplers.TPESampler(seed=seed, n_startup_trials=start, multivariate=True, constant_liar=True)

    def _task(self, launch: Launch, pool: Pool, sharing: int) -> Task:
        """Return what the tasks of all suggestions have in common."""
        return {
            "sweep": self.sweep,
            "results": str(self.results),
            "device": pool.device,
            "backend": launch.backend,
            "sharing": sharing,
        }

    def _settle_running(self, study: optuna.Study) -> None:
        """Give every suggestion that a process left behind its outcome: what is recorded, else a failure."""
        for suggestion in study.get_trials(states=(TrialState.RUNNING,)):
            objectives = None
            if "trial" in suggestion.user_attrs:
                objectives = recorded_objectives(self.results, self.sweep, self.cell.setting(**suggestion.params))
            if objectives:
                study.tell(suggestion.number, list(objectives.values()))
            else:
                study.tell(suggestion.number, state=TrialState.FAIL)

    def _record_failures(self, trials: list[Trial], errors: Mapping[int, str]) -> None:
        """Record as failed each trial whose task failed without leaving a record; `errors` is by its position."""
        from study.record.rows import failed

        for position, error in errors.items():
            trial = trials[position]
            if not data_error(error) and not self.results.ran(self.sweep, trial.id):
                self.results.write(self.sweep, trial.id, failed(trial, error).tables)


def run_suggested(task: Task, report: Report) -> Mapping[str, Any]:
    """Run a suggested trial in a worker, unless its record is there.

    Returns:
        Its objectives, and the same under `trials`; none if it `diverged`. And when it `began` to train.

    Raises:
        NoDataError: this node has not its data.
        NotWrittenError: the results folder refuses its record.
    """
    from study.run import run

    (trial,), results = prepare(task), Results(task["results"])
    began = time.time()
    if not results.ran(task["sweep"], trial.id):
        checkpoints = results.checkpoints(task["sweep"])
        keep = keep_weights(results, task["sweep"], [trial.id])
        progress, curves = reporting_curves(task, [trial.id], report)
        records = run(
            trial, task["data_dir"], task["device"], progress, task["backend"], checkpoints, keep=keep, curves=curves
        )
        for row in records.members:
            row["seconds"] /= task["sharing"]  # of the device, of which it had but a part
        write(results, task["sweep"], trial, records.tables)
        checkpoints.drop(trial.id)
    objectives = recorded_objectives(results, task["sweep"], trial) or {}
    return {**objectives, "trials": {trial.id: objectives}, "began": began, "diverged": not objectives}


class _Suggest:
    """Suggest a setting for each new trial of a study: Optuna calls it (define-by-run).

    Attributes:
        trials: all that were suggested, in their order.
    """

    def __init__(self, cell: Cell, task: Task) -> None:
        self.trials: list[Trial] = []
        self._cell, self._task = cell, task

    def __call__(self, suggestion: optuna.Trial) -> dict[str, Any]:
        numbers = {name: suggestion.suggest_float(name, *ends, log=True) for name, ends in self._cell.ranges.items()}
        trial = self._cell.setting(**numbers, kind=suggestion.suggest_categorical("kind", KINDS))
        suggestion.set_user_attr("trial", trial.id)
        self.trials.append(trial)
        position = len(self.trials) - 1
        return {"task": {**self._task, "trials": [trial.settings()], "ids": [trial.id], "task": position}}


@contextmanager
def _reporting_bad_storage(path: Path) -> Iterator[None]:
    """Say clearly that the storage can't be used.

    Raises:
        BadInputError: it is no storage of this Optuna's.
    """
    try:
        yield
    except SQLAlchemyError as error:
        line = str(error).splitlines()[0]
        raise BadInputError(f"{path} can't be used as Optuna's storage ({line}); move it away.") from None
