"""What the `python -m sweeps` commands print and ask before, during and after a launch."""

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from study.data import files
from study.record.results import Results
from study.settings import SETTINGS, format_value
from study.terminal import ProgressDisplay, console, doing, format_duration, print_table
from study.trial import Trial
from sweeps import estimate
from sweeps.bundles import SPEED, Kinds
from sweeps.interrupt import CTRL_C, STOPPED
from sweeps.launch.launch import Callbacks, Cluster, Launch
from sweeps.options import Logger
from sweeps.parts import Part
from sweeps.plan import OUTCOMES, Plan, State, command
from sweeps.tuning import pareto, space

if TYPE_CHECKING:
    from sweeps.launch.cluster import Pool
    from sweeps.launch.trials import OnProgress
    from sweeps.tuning.search import Search
    from sweeps.tuning.stages import Tuning

MOST_FAILURES = 10
"""The most failed trials whose reasons are printed."""


def quarantine_damaged(results: Results, sweep: str) -> None:
    """Put aside the shards that can't be read, so that their trials are run again, and say which."""
    for trial in sorted(results.quarantine_damaged(sweep)):
        console.print(f"  damaged, and set aside: {trial}")


def print_folders(trials: Sequence[Trial]) -> None:
    """Say of each folder of the user's own that trials take images from what it holds, and what of it is taken.

    Raises:
        BadInputError: one is not what its kind promises.
    """
    for line in files.describe((trial.dataset for trial in trials), (trial.ood for trial in trials)):
        console.print(line, soft_wrap=True)


def run_and_report(
    state: State,
    launch: Launch,
    loggers: Sequence[Logger],
    yes: bool,
    whole: Plan,
    part: Part | None = None,
    uncompacted: str = "",
) -> None:
    """Say what is about to run, run it, and say what came of it.

    Args:
        state: the plan, or the part of it that this launch is to run, held against the records.
        launch: which of its trials to run, and how.
        loggers: where else to log them.
        yes: don't ask before running.
        whole: the whole plan.
        part: which part of it this launch is to run; None for all.
        uncompacted: why the records of before could not be compacted; empty if they could, or need not be.

    Raises:
        typer.Exit: with 1 if one of the trials failed or is missing, with 130 or 143 if the run was stopped.
    """
    name = launch.sweep if part is None else f"{launch.sweep}, shard {part}"
    console.print(f"{name}: {size(state.plan.trials)}: {state}")
    if launch.trials:
        with explaining_ctrl_c():
            uncompacted = _run(whole, launch, loggers, yes)
    else:
        whole.save(launch.results)
    now = whole.state(launch.results)
    after = replace(now, plan=state.plan)
    if part:
        console.print(f"{name}: {after}; the whole sweep: {size(whole.trials)}: {now}")
    elif launch.trials:
        console.print(f"{name}: {after}")
    for trial in after.failed[:MOST_FAILURES]:
        console.print(f"  failed: {trial}: {after.error(trial)}")
    if after.failed:
        networks = [part for network in after.plan.custom_architectures for part in ("--architecture", network)]
        retry = command("-m", "sweeps", "retry", launch.sweep, "--results", launch.results.location, *networks)
        console.print(f"  again: {retry}", soft_wrap=True)
    console.print(f"records: {launch.results.below(launch.sweep)}", soft_wrap=True)
    if uncompacted:
        print_uncompacted(launch.results, launch.sweep, uncompacted)
    elif part and not now.missing and len(whole.trials) >= launch.results.store.many:
        compact = _compact(launch.results, launch.sweep)
        console.print(f"they are read faster once all shards have ended and you have run: {compact}", soft_wrap=True)
    elif not now.missing:  # the analysis wants all that was planned
        results = launch.results.argument
        console.print(f"next: python -m analysis tables {results} --sweep {launch.sweep}", soft_wrap=True)
    if any(after.of(trial) in ("failed", "missing") for trial in launch.trials):
        raise typer.Exit(1)


def print_uncompacted(results: Results, sweep: str, why: str) -> None:
    """Say why the records of a sweep could not be compacted, and what tries it again."""
    again = _compact(results, sweep)
    console.print(f"they are safe, but could not be compacted: {why.rstrip('.')}; again: {again}", soft_wrap=True)


def _compact(results: Results, sweep: str) -> str:
    return command("-m", "sweeps", "compact", sweep, "--results", results.location)


def _run(plan: Plan, launch: Launch, loggers: Sequence[Logger], yes: bool) -> str:
    """Estimate, ask, and run, showing progress.

    Returns:
        Why the records could not be compacted; empty if they were, or need not be.
    """
    # Ray takes seconds to import, and is not needed where nothing is run.
    from sweeps.launch.trials import run_trials

    callbacks = _loggers(loggers, launch.results)
    print_folders(launch.trials)
    with doing("reading the data, and timing what it takes"):
        ahead = preflight(launch)
    console.print(f"about to run {size(launch.trials)}: {in_common(launch.trials)}: {ahead.time}", soft_wrap=True)
    on_packing = packing_printer(launch.trials)
    for trial, choice in ahead.choices:
        on_packing(trial, choice)
    _confirm(yes)
    with console.status("opening logs ..."):
        callbacks(launch.sweep)  # a logger that refuses does so before Ray starts
    launch = replace(launch, timed=ahead.timed, callbacks=callbacks, on_packing=on_packing)
    with _connected(launch.cluster, len(launch.trials)) as pool, ProgressDisplay() as display:
        plan.save(launch.results)
        outcome = run_trials(launch, pool, _on_progress(display, launch.sweep))
        if outcome.interrupted:
            raise KeyboardInterrupt
    start = outcome.startup_s(pool)
    if start and launch.cluster.address == "local":
        estimate.keep_start_up(start)
    console.print(
        f"took {format_duration(outcome.seconds)} on {pool.workers} {pool.device} workers, {start:.0f} s to start"
    )
    return outcome.uncompacted


def run_tunings(tunings: Sequence["Tuning"], launch: Launch, loggers: Sequence[Logger], yes: bool) -> None:
    """Estimate what is left of the tunings, ask, and train it, showing progress.

    Raises:
        KeyboardInterrupt: the user stopped it.
    """
    for tuning in tunings:
        ranges = ", ".join(f"{number} {low:g} to {high:g}" for number, (low, high) in tuning.cell.ranges.items())
        console.print(f"{tuning.cell}: {ranges}, kind {' or '.join(space.KINDS)}; {_budgets(tuning.searches)}")
    stages = [stage for tuning in tunings for stage in tuning.remaining]
    remaining = tuple(trial for stage in stages for trial in stage)
    if not remaining:
        return
    callbacks = _loggers(loggers, launch.results)
    unique = tuple({trial.id: trial for trial in remaining}.values())
    print_folders(unique)
    with doing("reading the data, and timing what it takes"):
        ahead = preflight(replace(launch, trials=remaining, planned=unique), len(stages))
    console.print(f"about to run {size(remaining)}: {in_common(remaining)}: {ahead.time}", soft_wrap=True)
    _confirm(yes)
    with console.status("opening logs ..."):
        callbacks(space.SEARCHES["tpe"])  # a logger that refuses does so before Ray starts
    launch = replace(launch, timed=ahead.timed, callbacks=callbacks, on_packing=packing_printer(unique))
    with _connected(launch.cluster) as pool, ProgressDisplay() as display:
        if not all(tuning.run(launch, pool, lambda stage: _on_progress(display, stage)) for tuning in tunings):
            raise KeyboardInterrupt


@contextmanager
def _connected(cluster: Cluster, most: int | None = None) -> Iterator["Pool"]:
    """Connect to the workers, saying so meanwhile, and let them go afterwards; see `connect`."""
    what = "starting Ray on this machine" if cluster.address == "local" else f"joining Ray at {cluster.address!r}"
    with ExitStack() as stack:
        with doing(what):
            # Ray takes seconds to import.
            from sweeps.launch.cluster import connect

            pool = stack.enter_context(connect(cluster, console.print, most))
        yield pool


def _on_progress(display: ProgressDisplay, name: str) -> "OnProgress":
    """Show the progress of trials under that name: what their workers do at first, then how many are done."""
    show = display.add(name, "workers load torch and the data")
    return lambda fraction, counts: show(fraction, _in_words(counts))


def _in_words(counts: Counter[str]) -> str:
    """Return how many trials are done, missing and failed, and how many have diverged if any has."""
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in OUTCOMES if outcome != "diverged" or counts[outcome])


def _confirm(yes: bool) -> None:
    if not yes and sys.stdin.isatty():
        typer.confirm("run them?", default=True, abort=True)


def _loggers(names: Sequence[Logger], results: Results) -> Callbacks:
    """Return a function that opens the loggers of a sweep.

    Raises:
        BadInputError: a logger is not installed, or can't write beside these results.
    """
    if not names:
        return lambda _: ()
    from sweeps.launch.loggers import Loggers

    return Loggers([name.value for name in names], results, console.print).of


@contextmanager
def explaining_ctrl_c() -> Iterator[None]:
    """Say how to go on after Ctrl-C or SIGTERM, wherever it came up, once the cluster has been let go.

    Raises:
        typer.Exit: with 130 after Ctrl-C, with 143 after SIGTERM.
    """
    try:
        with CTRL_C:
            yield
    except (KeyboardInterrupt, Exception) as error:
        # What is signalled as well, as Ray is by Slurm, may end first, and whatever needs it then fails.
        if not (CTRL_C.stopping or isinstance(error, KeyboardInterrupt)):
            raise
        console.print(STOPPED)
        raise typer.Exit(128 + CTRL_C.received) from None


def print_tuning_summary(tuning: "Tuning") -> bool:
    """Print the non-dominated settings of a tuning and its recommendation.

    Returns:
        Whether all of it is done: the searches, and every arm of the confirmation.
    """
    from sweeps.tuning.stages import non_dominated

    best, reference = tuning.best, tuning.reference
    table = Table("setting", *space.OBJECTIVES, "", title=f"{tuning.cell}: what no other searched setting beats")
    for row in non_dominated(tuning.searches[0].measurements):
        chosen = best is not None and row["trial"].id == best["trial"].id
        table.add_row(_setting(row["trial"]), *_objectives(row), "recommended" if chosen else "")
    table.add_row("norm=batch", *_objectives(reference), "reference")
    table.add_row("norm=none", *_objectives(tuning.without), "reference")
    print_table(table)
    console.print(f"{tuning.cell}: {_budgets(tuning.searches)}")
    budget = f"at most {tuning.max_loss:g} of validation accuracy lost"
    if reference is None:
        console.print("recommended: none, because norm=batch itself was not trained to its end.")
    elif best is not None:
        remark = pareto.remark_without_gain(best["mem_acc"], reference["mem_acc"])
        said = f"recommended with {budget}: {_setting(best['trial'])}{remark and f'; {remark}.'}"
        console.print(said, soft_wrap=True)
    else:
        console.print(f"recommended: none, because no searched setting has {budget}.")
    state = tuning.confirmation
    console.print(f"on {len(tuning.cell.fresh)} fresh seeds: {size(state.plan.trials)}: {state}")
    searched = not any(search.remaining for search in tuning.searches)
    return searched and state.counts["done"] == len(state.plan.trials)


def _budgets(searches: Sequence["Search"]) -> str:
    return ", ".join(f"{search.name} {len(search.measurements)} of {search.budget} settings" for search in searches)


def _setting(trial: Trial) -> str:
    return " ".join(f"{name}={format_value(getattr(trial, name))}" for name in ("regularizer", "alpha", "lr"))


def _objectives(row: dict[str, Any] | None) -> list[str]:
    return [f"{row[name]:.3f}" if row else "-" for name in space.OBJECTIVES]


def packing_printer(trials: Sequence[Trial]) -> Callable[[Trial, str], None]:
    """Return a function that prints how the members of a trial train side by side, once for each kind of trial.

    A kind is named by the settings in which the trials differ, of those that decide the speed.
    """
    printed: set[str] = set()
    names = [name for name in SPEED if len({getattr(trial, name) for trial in trials}) > 1]

    def show_packing(trial: Trial, choice: str) -> None:
        kind = ", ".join(f"{name}={format_value(getattr(trial, name))}" for name in names) or "members"
        line = f"  {kind}: trained as {choice}"
        if line not in printed:
            printed.add(line)
            console.print(line)

    return show_packing


@dataclass(frozen=True)
class Preflight:
    """What is known of a launch before it.

    Attributes:
        time: what it will take, in words.
        choices: how members train side by side, in words, with a trial of each kind that was timed.
        timed: what they were found by, for the launch itself.
    """

    time: str
    choices: Sequence[tuple[Trial, str]] = ()
    timed: Kinds = field(default_factory=dict)


def preflight(launch: Launch, starts: int = 1) -> Preflight:
    """Check that the trials of a launch can be run, and estimate what they take.

    That is timed where they will run on CPUs of this machine, else read off earlier records or counted in operations.

    Args:
        launch: the launch.
        starts: how often workers are started in the course of it.

    Raises:
        BadInputError: a trial can't be run.
    """
    cluster = launch.cluster
    device = cluster.device if cluster.address == "local" else None
    timed = estimate.check_and_time(
        launch.trials, launch.data_dir, device, launch.backend, cluster.workers, launch.planned
    )
    if timed is None:
        # What is not timed here will run on GPUs, or elsewhere.
        known = estimate.Known(estimate.Durations.recorded(launch.results), "cuda", estimate.TERAFLOPS["cuda"])
        rest = estimate.Estimate.of(launch.trials, known)
        return Preflight(f"{format_hours(rest.hours, rest.device)} ({rest.source})")
    workers, start = timed.workers, starts * estimate.start_up_s()
    whole = format_duration(timed.seconds / workers + start)
    time = f"about {whole} on {workers} CPU worker{'s' * (workers != 1)}, {format_duration(start)} of it to start"
    if any(trial.stopping == "converged" for trial in launch.trials):
        time += f" ({estimate.AT_MOST})"
    return Preflight(time, timed.choices, timed.kinds)


def trials_table(state: State, most: int | None, seconds: Callable[[Trial], float | None]) -> Table:
    """Return a table of the plan's trials, with the settings in which they differ.

    Args:
        state: the plan, held against the records.
        most: how many trials to show; None for all.
        seconds: returns what a trial takes, None if that is unknown.
    """
    trials = state.plan.trials
    names = [name for name in SETTINGS if len({getattr(trial, name) for trial in trials}) > 1]
    table = Table("trial", *names, "members", "time", "state")
    for trial in trials[:most]:
        taken = seconds(trial)
        time = "" if taken is None else format_duration(taken)
        settings = (format_value(getattr(trial, name)) for name in names)
        table.add_row(trial.id, *settings, str(len(trial.members)), time, state.of(trial))
    if most is not None and len(trials) > most:
        table.caption = f"and {len(trials) - most} more; --all shows them"
    return table


def status_table(states: Sequence[State]) -> Table:
    """Return a table of several sweeps' plans, held against the records."""
    table = Table("sweep")
    for name in ("trials", "members", *OUTCOMES):
        table.add_column(name, justify="right")
    for state in states:
        counts = (len(state.plan.trials), state.plan.members, *(state.counts[outcome] for outcome in OUTCOMES))
        table.add_row(state.plan.sweep, *(f"{count:,}" for count in counts))
    return table


def size(trials: Sequence[Trial]) -> str:
    """Return in words how many trials and members there are."""
    members = sum(len(trial.members) for trial in trials)
    return f"{len(trials)} trial{'s' * (len(trials) != 1)}, {members} member{'s' * (members != 1)}"


def in_common(trials: Sequence[Trial]) -> str:
    """Return how long and how the trials train, in words: their learning rates, epochs and batches, or the range."""
    return ", ".join(
        f"{words} {format_value(values[0])}" + (f" to {format_value(values[-1])}" if len(values) > 1 else "")
        for name, words in (("lr", "lr"), ("epochs", "epochs"), ("batch_size", "batches of"))
        if (values := sorted({getattr(trial, name) for trial in trials}))
    )


def format_hours(hours: float, device: str = "cuda") -> str:
    """Return hours of devices in words, to two digits below ten: of GPUs, or of cores where the device is `cpu`."""
    unit = "core-hours" if device == "cpu" else "device-hours"
    if 0 < hours < 0.0005:
        return f"below 0.001 {unit}"
    return f"{hours:,.0f} {unit}" if hours >= 10 else f"{hours:.2g} {unit}"
