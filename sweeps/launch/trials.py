"""Ray Tune as a scheduler of trials.

A launch is a flat list of tasks, one a trial or a bundle of small ones, given to as many reused workers as the machine
or the cluster carries.
Records are written by the workers; what comes back here is progress, and the reason where a task failed for good.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ray
from ray import tune

from study.record.results import Results
from study.trial import Trial
from sweeps.bundles import MEMBERS, SPEED, Advice, Bundle, Known, alike, bundled, halves, worth_bundling
from sweeps.launch.cluster import Pool, store_environment
from sweeps.launch.schedule import MAX_FAILURES, WORKER_DIED, Outcome, schedule
from sweeps.launch.tasks import Report, Task, advise, run_and_record

NEARLY_DONE = 0.999
AT_ONCE, AT_ONCE_EACH = 1000, 8
"""Tune keeps all that it knows of every task until the last one is done, so it is given so many at once, or so many a
worker where that is more: then few workers are left without a task while the last ones are finished."""


def run_trials(
    trials: Sequence[Trial],
    sweep: str,
    results: Results,
    data_dir: Path,
    pool: Pool,
    on_progress: Report,
    backend: str = "auto",
    planned: Sequence[Trial] = (),
    on_choice: Callable[[Trial, str], None] = lambda *_: None,
    callbacks: Sequence[tune.Callback] = (),
    time_limit: float | None = None,
    known: Known | None = None,
) -> Outcome:
    """Run the trials and have their workers write the records; a trial that can't be run is recorded as failed.

    A bundle that fails is tried again in halves, or as it is where its worker died and left a checkpoint, and a trial
    whose worker dies, as it does where memory runs out, at last member by member. What is recorded by then stays.

    Which trials train side by side depends on all that is planned, not on what of it is missing: a sweep that was
    stopped thus ends with the numbers of one that was not.

    Args:
        trials: what to run.
        sweep: the sweep under which to record.
        results: where.
        data_dir: where torchvision's datasets lie, on every node.
        pool: the workers.
        on_progress: told the fraction of all the training that is done and need not be done again.
        backend: how members train side by side, or `auto`.
        planned: all trials of the plan that these belong to; by default these alone.
        on_choice: told how members train side by side, for a trial of each kind of which a worker was asked.
        callbacks: what Tune is to call besides; at its end they are told whether it was `interrupted`.
        time_limit: seconds that a try of a trial may take; a bundle may take the sum of its trials'.
        known: how kinds of trials train fastest on such workers, who are then not asked.

    Raises:
        OSError: records could not be written; their trials are missing, and none is begun any more.
    """
    whole, told = Outcome(), 0.0
    asked = {trial.cell: trial for trial in trials}
    # Of a cell that has got more seeds, only those are run.
    whole_plan = [asked.get(trial.cell, trial) for trial in planned or trials]
    units = in_units(whole_plan, data_dir, pool, backend, frozenset(asked), on_choice, known or {})
    total = left = sum(unit.work for unit in units)
    underway = 0.0

    def advance(fraction: float) -> None:
        # A task that is tried again starts from nothing.
        nonlocal told
        told = max(told, (total - left + fraction * underway) / total)
        # Once trained, a trial is still to be recorded.
        on_progress(min(told, NEARLY_DONE))

    # Tune's own account is a convenience; a store that refuses it now and then must not end a run.
    storage = results.below(sweep, "ray") if results.is_local else None
    common = {
        "sweep": sweep,
        "results": results.location,
        "data_dir": str(data_dir.absolute()),
        "environment": {} if results.is_local else store_environment(),
    }
    at_once = max(AT_ONCE, AT_ONCE_EACH * pool.workers)
    while units and not whole.interrupted:
        wave, later = units[:at_once], units[at_once:]
        underway = sum(unit.work for unit in wave)
        tasks = [_task(unit, time_limit) for unit in wave]
        # A bundle is taken apart rather than tried again as it is.
        tries = MAX_FAILURES if all(len(unit.trials) == 1 for unit in wave) else 0
        shared, work = [unit.sharing for unit in wave], [unit.work for unit in wave]
        outcome = schedule(tasks, run_and_record, pool, advance, work, storage, tries, shared, common, callbacks)
        whole.add(outcome)
        with written(outcome, results):
            units = [*later, *_again(wave, outcome, tries, sweep, results)]
        left = sum(unit.work for unit in units)
    if not whole.interrupted:
        on_progress(1.0)
    return whole


@contextmanager
def written(outcome: Outcome, results: Results) -> Iterator[None]:
    """Where more is recorded of an outcome whose records could be written.

    Raises:
        OSError: they could not, or no more can.
    """
    try:
        if outcome.refused:
            raise OSError(outcome.refused)
        yield
    except OSError as error:
        raise OSError(
            f"records could not be written to {results}: {str(error).rstrip('.')}; "
            "none is half-written, and once they can be the same command goes on where it was."
        ) from None


@dataclass(frozen=True)
class _Unit:
    """What goes to a worker at once.

    Attributes:
        trials: whose members train side by side.
        cells: those to be recorded.
        backend: how members are to train.
        sharing: how many such units share a device.
        again: how often it was tried again as it is.
    """

    trials: Bundle
    cells: frozenset[str]
    backend: str
    sharing: int = 1
    again: int = 0

    @property
    def recorded(self) -> Bundle:
        """Its trials that are to be recorded."""
        return tuple(trial for trial in self.trials if trial.cell in self.cells)

    @property
    def work(self) -> float:
        """The epochs of all its members."""
        return sum(len(trial.members) * trial.epochs for trial in self.trials)


def in_units(
    trials: Sequence[Trial],
    data_dir: Path,
    pool: Pool,
    backend: str,
    cells: frozenset[str],
    on_choice: Callable[[Trial, str], None],
    known: Known,
) -> list[_Unit]:
    """The trials that have one of the cells, bundled where one alone has fewer members than pay on the device."""
    share = -(-len(trials) // pool.workers)
    # Asked of the workers: this machine may have another device than theirs.
    resources = {"num_gpus": 1} if pool.device == "cuda" else {"num_cpus": 1}
    ask = ray.remote(**resources, max_retries=0)(advise).remote
    groups = [group for group in alike(trials) if _any_of(group, cells)]
    asked, told = {}, {}
    for group in groups:
        several = worth_bundling(group, share, pool.device, backend)
        if several and (kind := group[0].values(SPEED)) in known:
            told[group] = known[kind]
        elif several or pool.device == "cuda":
            members = MEMBERS[pool.device] if several else len(group[0].members)
            # Where each task has a device of its own, nobody need know how many it could carry.
            most_sharing = min(pool.each, share)
            asked[group] = ask(group[0], str(data_dir.absolute()), pool.device, members, backend, most_sharing)
    units = []
    for group in groups:
        advice = told.get(group) or _answer(asked.get(group))
        if advice.choice:
            on_choice(group[0], advice.choice)
        share = -(-len(trials) // (pool.workers * advice.sharing))
        bundles = bundled(group, advice.members, share)
        units += [_Unit(bundle, cells, backend, advice.sharing) for bundle in bundles if _any_of(bundle, cells)]
    return units


def _any_of(trials: Bundle, cells: Collection[str]) -> bool:
    return any(trial.cell in cells for trial in trials)


def sharing(trial: Trial, data_dir: Path, pool: Pool, backend: str) -> int:
    """How many tasks like that trial are to share a worker's device."""
    if pool.each == 1:
        return 1
    ask = ray.remote(num_gpus=1, max_retries=0)(advise).remote
    return _answer(ask(trial, str(data_dir.absolute()), pool.device, len(trial.members), backend, pool.each)).sharing


def _answer(asked: Any) -> Advice:
    """What a worker said; one by one where it was not asked or failed, as the trial itself will."""
    try:
        return Advice() if asked is None else ray.get(asked)
    except ray.exceptions.RayError:
        return Advice()


def _task(unit: _Unit, time_limit: float | None) -> Task:
    """The unit as JSON-like values, which is what Tune's users see of it."""
    return {
        "trials": [trial.settings() for trial in unit.trials],
        "ids": [trial.id for trial in unit.trials],
        "recorded": [trial.id for trial in unit.recorded],
        "backend": unit.backend,
        "sharing": unit.sharing,
        "time_limit": time_limit and time_limit * len(unit.trials),
    }


def _again(units: Sequence[_Unit], outcome: Outcome, tries: int, sweep: str, results: Results) -> Iterator[_Unit]:
    """What of the failed units is worth another try, with a device to itself; the rest is recorded as failed."""
    for position, error in outcome.errors.items():
        unit = units[position]
        # A task may fail with some of its records written, or all of them; those are good.
        left = frozenset(trial.cell for trial in unit.recorded if not results.ran(sweep, trial.id))
        if not left:
            continue
        if unit.again < MAX_FAILURES and (
            position in outcome.early or (error == WORKER_DIED and _kept(unit, sweep, results))
        ):
            yield replace(unit, cells=left, again=unit.again + 1)
        elif len(unit.trials) > 1:
            parts = (_Unit(half, left, unit.backend) for half in halves(unit.trials))
            yield from (part for part in parts if part.recorded)
        elif tries < MAX_FAILURES or unit.sharing > 1:
            yield _Unit(unit.trials, left, unit.backend)
        elif error == WORKER_DIED and unit.backend != "single" and len(unit.trials[0].members) > 1:
            yield _Unit(unit.trials, left, "single")
        else:
            from study.record.rows import failed

            (trial,) = unit.trials
            results.write(sweep, trial.id, vars(failed(trial, error)))


def _kept(unit: _Unit, sweep: str, results: Results) -> bool:
    """Whether a bundle has a checkpoint, which its halves would have no use for; Tune has tried others again."""
    checkpoints = results.checkpoints(sweep)
    return len(unit.trials) > 1 and any(checkpoints.holds(trial.id) for trial in unit.trials)
