"""Run the trials of a launch: bundle them into units, have those scheduled, and retry what failed."""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

from study.record.results import Results
from study.speed.timings import Timed
from sweeps.bundles import (
    MOST_MEMBERS,
    Bundle,
    Packing,
    halves,
    packable_groups,
    split_into_bundles,
    worth_bundling,
)
from sweeps.launch.asking import ask, kind_of
from sweeps.launch.cluster import Pool, store_environment
from sweeps.launch.launch import Launch
from sweeps.launch.schedule import MAX_FAILURES, WORKER_DIED, Outcome, data_error, schedule
from sweeps.launch.tasks import Task, Work, run_and_record

MOST_NODES = 3
"""Of how many nodes it is said at most that they could not have the data."""
NEARLY_DONE = 0.999
"""The most progress shown before the last record is written."""
WAVE, WAVE_PER_WORKER = 1000, 8
"""How many units Tune is given at once: so many in all, or so many a worker where that is more.

Tune keeps all that it knows of a task until the last one is done. With several a worker, few workers are idle while the
last ones are finished.
"""

OnProgress = Callable[[float, Counter[str]], None]
"""Called with the fraction of all the training that is done and need not be done again, and with how many trials are
`done`, `missing`, `failed` and `diverged`, as the driver has heard of it; what has failed may yet be tried again."""


def run_trials(launch: Launch, pool: Pool, on_progress: OnProgress, work: Work | None = None) -> Outcome:
    """Run the trials of a launch, whose workers write the records; a trial that can't be run is recorded as failed.

    A bundle that fails is tried again in halves, or as it is where its worker died and left a checkpoint. A trial whose
    worker dies, as it does where memory runs out, is at last tried member by member. What is recorded by then stays.

    Args:
        launch: what to run, and how.
        pool: the workers.
        on_progress: called as the training goes on.
        work: what workers do with a task, if anything beside `run_and_record`.

    Raises:
        OSError: records could not be written; their trials are missing, and no other is begun any more. Or the data of
            trials could not be had on the nodes that tried; they are missing, for that says nothing about them.
    """
    whole, shown = Outcome(), 0.0
    without_data: dict[str, None] = {}
    units = make_units(launch, pool)
    total = left = sum(unit.work for unit in units)
    wave, underway = units[:0], 0.0
    settled = Counter(missing=sum(len(unit.recorded) for unit in units))

    def advance(fraction: float, outcome: Outcome) -> None:
        # A task that is tried again starts from nothing.
        nonlocal shown
        shown = max(shown, (total - left + fraction * underway) / total)
        counts = Counter(settled)
        counts.update(_finished(wave, outcome))
        counts.update(_failed_once(wave, outcome))
        on_progress(min(shown, NEARLY_DONE), counts)

    results = launch.results
    # Tune's own account is a convenience; a store that refuses it now and then must not end a run.
    storage = results.below(launch.sweep, "ray") if results.is_local else None
    callbacks = launch.callbacks(launch.sweep)
    common = {
        "curves": bool(callbacks),
        "sweep": launch.sweep,
        "results": results.location,
        "data_dir": launch.data_dir,
        "environment": store_environment(),
        "known": {unit.timed.key: unit.timed.choices for unit in units if unit.timed},
    }
    size = max(WAVE, WAVE_PER_WORKER * pool.workers)
    while units and not whole.interrupted:
        wave, later = units[:size], units[size:]
        underway = sum(unit.work for unit in wave)
        tasks = [_task(unit, launch.time_limit) for unit in wave]
        # A bundle is taken apart rather than tried again as it is.
        tries = MAX_FAILURES if all(len(unit.trials) == 1 for unit in wave) else 0
        sharing, weights = [unit.sharing for unit in wave], [unit.work for unit in wave]
        outcome = schedule(
            tasks, work or run_and_record, pool, advance, weights, storage, tries, sharing, common, callbacks
        )
        whole.extend(outcome)
        with reporting_write_errors(outcome, results):
            again, after_all = _settle_errors(wave, outcome, tries, launch)
        units = [*later, *again]
        settled.update(_finished(wave, outcome))
        settled.update(after_all)
        for position, error in outcome.errors.items():
            if outcome.gave_up_on_data or not _may_try_again(wave[position], tries):
                without_data[error] = None
        if outcome.gave_up_on_data:
            break
        # Between waves no trial is being run.
        if launch.compacts and not whole.interrupted:
            whole.uncompacted = results.compact_many(launch.sweep)
        left = sum(unit.work for unit in units)
    if not whole.interrupted:
        check_data(without_data)
        on_progress(1.0, settled)
    return whole


def _finished(units: Sequence["_Unit"], outcome: Outcome) -> Counter[str]:
    """Return by how much the units that are finished change how many trials are in each state."""
    recorded = sum(len(units[position].recorded) for position in outcome.results)
    diverged = sum(result["diverged"] for result in outcome.results.values())
    return _changes(done=recorded - diverged, diverged=diverged)


def _failed_once(units: Sequence["_Unit"], outcome: Outcome) -> Counter[str]:
    """Return the same for the units that have failed, as long as it is open whether they are tried again."""
    return _changes(failed=sum(len(units[position].recorded) for position in outcome.errors))


def _changes(**found: int) -> Counter[str]:
    """Return by how much trials of which that was found change the counts: they are missing no more."""
    return Counter({**found, "missing": -sum(found.values())})


@contextmanager
def reporting_write_errors(outcome: Outcome, results: Results) -> Iterator[None]:
    """Raise one clear error if the records of an outcome, or those written within, could not be written.

    Raises:
        OSError: they could not.
    """
    try:
        if outcome.write_error:
            raise OSError(outcome.write_error)
        yield
    except OSError as error:
        raise OSError(
            f"records could not be written to {results}: {str(error).rstrip('.')}; "
            "none is half-written, and the same command goes on where it was once they can be."
        ) from None


@dataclass(frozen=True)
class _Unit:
    """The trials that go to a worker as one task.

    Attributes:
        trials: whose members train side by side.
        cells: those to be recorded.
        backend: how members are to train.
        sharing: how many such units share a device.
        timed: how fast such members train, where that is known.
        retries: how often it was tried again as it is.
    """

    trials: Bundle
    cells: frozenset[str]
    backend: str
    sharing: int = 1
    timed: Timed | None = None
    retries: int = 0

    @property
    def recorded(self) -> Bundle:
        """Its trials that are to be recorded."""
        return tuple(trial for trial in self.trials if trial.cell in self.cells)

    @property
    def work(self) -> float:
        """The epochs of all its members; a network that is only measured counts as one."""
        return sum(len(trial.members) * max(1, trial.epochs) for trial in self.trials)


def make_units(launch: Launch, pool: Pool) -> list[_Unit]:
    """Return the units of a launch: its trials, bundled where one alone has fewer members than pay on the device.

    A bundle may have trials of the plan that the launch does not ask for: they train along, and are not recorded.
    """
    asked_for = {trial.cell: trial for trial in launch.trials}
    # Of a cell that has got more seeds, only those are run.
    trials = [asked_for.get(trial.cell, trial) for trial in launch.planned or launch.trials]
    cells, backend = frozenset(asked_for), launch.backend
    share = -(-len(trials) // pool.workers)
    groups = [group for group in packable_groups(trials) if _has_any(group, cells)]
    several = {group: worth_bundling(group, share, backend) for group in groups}
    members = {group: MOST_MEMBERS if several[group] else len(group[0].members) for group in groups}
    # Where each task has a device of its own, nobody need know how many it could carry.
    most_sharing = min(pool.most_sharing, share)
    unknown = [
        (group[0], members[group])
        for group in groups
        if kind_of(group[0]) not in launch.timed and (several[group] or pool.device == "cuda")
    ]
    answers = ask(unknown, most_sharing, launch, pool)
    units = []
    for group in groups:
        timed = launch.timed.get(kind_of(group[0])) or answers.get((kind_of(group[0]), members[group]))
        packing = Packing.of(timed.choices, members[group], most_sharing) if timed else Packing()
        if timed:
            launch.on_packing(group[0], packing.choice)
        share = -(-len(trials) // (pool.workers * packing.sharing))
        bundles = split_into_bundles(group, packing, share if several[group] else 1)
        units += [
            _Unit(bundle, cells, backend, packing.sharing, timed) for bundle in bundles if _has_any(bundle, cells)
        ]
    return units


def _has_any(trials: Bundle, cells: Collection[str]) -> bool:
    return any(trial.cell in cells for trial in trials)


def _task(unit: _Unit, time_limit: float | None) -> Task:
    """Return the unit as JSON-like values, which is what Ray's users see of it."""
    return {
        "trials": [trial.settings() for trial in unit.trials],
        "ids": [trial.id for trial in unit.trials],
        "recorded": [trial.id for trial in unit.recorded],
        "backend": unit.backend,
        "sharing": unit.sharing,
        "time_limit": time_limit and time_limit * len(unit.trials),
    }


def _settle_errors(
    units: Sequence[_Unit], outcome: Outcome, tries: int, launch: Launch
) -> tuple[list[_Unit], Counter[str]]:
    """Record as failed what is worth no other try.

    Returns:
        What of the failed units is to be tried again, with a device to itself, and the changes of the counts.
    """
    sweep, results = launch.sweep, launch.results
    ran = results.ran_of(sweep, {trial.id for position in outcome.errors for trial in units[position].recorded})
    again: list[_Unit] = []
    done = failures = 0
    for position, error in outcome.errors.items():
        unit = units[position]
        if data_error(error):
            # Another node may have what this one can't get.
            if _may_try_again(unit, tries):
                again.append(replace(unit, retries=unit.retries + 1))
            continue
        # A task may fail with some of its records written, or all of them; those are good.
        left = frozenset(trial.cell for trial in unit.recorded if trial.id not in ran)
        done += len(unit.recorded) - len(left)
        if not left:
            continue
        continues = position in outcome.given_up_early or (error == WORKER_DIED and _has_checkpoint(unit, launch))
        if continues and unit.retries < MAX_FAILURES:
            again.append(replace(unit, cells=left, retries=unit.retries + 1))
        elif len(unit.trials) > 1:
            parts = (_Unit(half, left, unit.backend) for half in halves(unit.trials))
            again += [part for part in parts if part.recorded]
        elif tries < MAX_FAILURES or unit.sharing > 1:
            again.append(_Unit(unit.trials, left, unit.backend))
        elif error == WORKER_DIED and unit.backend != "single" and len(unit.trials[0].members) > 1:
            again.append(_Unit(unit.trials, left, "single"))
        else:
            from study.record.rows import failed

            (trial,) = unit.trials
            results.write(sweep, trial.id, failed(trial, error).tables)
            failures += 1
    return again, _changes(done=done, failed=failures)


def _may_try_again(unit: _Unit, tries: int) -> bool:
    """Return whether a unit that Tune has given so many further tries may have others."""
    return tries < MAX_FAILURES and unit.retries < MAX_FAILURES


def check_data(errors: Iterable[str]) -> None:
    """Raise one clear error if among the errors of tasks some are of nodes that could not have the data.

    Raises:
        OSError: some are.
    """
    nodes = sorted({said for error in errors if (said := data_error(error))})
    if nodes:
        said = "; ".join(node.rstrip(".") for node in nodes[:MOST_NODES])
        others = f"; and {len(nodes) - MOST_NODES} more" if len(nodes) > MOST_NODES else ""
        raise OSError(
            f"data could not be had {said}{others}; its trials are missing and not failed, and the same command goes "
            "on where it was once the data can be had."
        )


def _has_checkpoint(unit: _Unit, launch: Launch) -> bool:
    """Whether a bundle has a checkpoint, which its halves would have no use for; Tune has tried others again."""
    checkpoints = launch.results.checkpoints(launch.sweep)
    return len(unit.trials) > 1 and any(checkpoints.holds(trial.id) for trial in unit.trials)
