"""What the commands of `python -m sweeps` ask and print."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer
from rich.table import Table

from study.record.results import Results
from study.settings import SETTINGS, format_value
from study.terminal import console, format_duration, print_table, progress_bar
from study.trial import Trial
from sweeps import estimate
from sweeps.bundles import Known
from sweeps.interrupt import CTRL_C
from sweeps.options import LaunchOptions
from sweeps.plan import Plan, State, command
from sweeps.tuning import space

if TYPE_CHECKING:
    from sweeps.tuning.stages import Tuning


MOST_FAILURES = 10


def quarantine_damaged(results: Results, sweep: str) -> None:
    """Have the trials whose shards can't be read run again."""
    for trial in sorted(results.quarantine_damaged(sweep)):
        console.print(f"  damaged, and set aside: {trial}")


def run_missing(state: State, trials: tuple[Trial, ...], options: LaunchOptions) -> None:
    """Run the trials of a plan that have no record, after asking whether to."""
    """Say what is about to run, run it, and say what came of it."""
    console.print(f"{options.sweep}: {plan_size(state.plan)}: {state}")
    if trials:
        with stopping_at_ctrl_c():
            _launch(trials, state.plan, options)
    else:
        state.plan.save(options.results)
    after = state.plan.state(options.results)
    if trials:
        console.print(f"{options.sweep}: {after}")
    for trial in after.failed[:MOST_FAILURES]:
        console.print(f"  failed: {trial}: {after.error(trial)}")
    if after.failed:
        own = [part for network in after.plan.own_architectures for part in ("--architecture", network)]
        again = command("-m", "sweeps", "retry", options.sweep, "--results", options.results.location, *own)
        console.print(f"  again: {again}", soft_wrap=True)
    console.print(f"records: {options.results.below(options.sweep)}", soft_wrap=True)
    if any(after.of(trial) in ("failed", "missing") for trial in trials):
        raise typer.Exit(1)


def _launch(trials: tuple[Trial, ...], plan: Plan, options: LaunchOptions) -> None:
    """Estimate, ask, and run with a progress bar."""
    # Ray and torch take seconds to import, and are not needed where nothing is run.
    from sweeps.launch import cluster as cluster_module
    from sweeps.launch.trials import run_trials

    log = _sinks(options)
    with console.status("estimating ..."):
        ahead = _ahead(trials, plan, options)
    console.print(f"about to run {plan_size(Plan(plan.sweep, plan.version, trials))}: {ahead.time}")
    tell = _Choices()
    for trial, choice in ahead.engine:
        tell(trial, choice)
    if not options.yes and sys.stdin.isatty():
        typer.confirm("run them?", default=True, abort=True)
    cluster = cluster_module.Cluster(options.address, options.workers, options.device)
    with console.status("opening logs ..."):
        callbacks = log(options.sweep)
    with cluster_module.connected(cluster, console.print) as pool, progress_bar() as bar:
        plan.save(options.results)
        task = bar.add_task(options.sweep, total=1.0)
        outcome = run_trials(
            trials,
            options.sweep,
            options.results,
            Path(options.data_dir),
            pool,
            lambda fraction: bar.update(task, completed=fraction),
            options.backend,
            plan.trials,
            tell,
            callbacks,
            options.time_limit,
            ahead.known,
        )
        if outcome.interrupted:
            raise KeyboardInterrupt
    console.print(
        f"took {format_duration(outcome.seconds)} on {pool.workers} {pool.device} workers, "
        f"{outcome.startup_s(pool):.0f} s to start"
    )


def run_tunings(tunings: Sequence["Tuning"], options: LaunchOptions) -> None:
    """Estimate what is left of the tunings, ask, and train it with a progress bar."""
    from sweeps.launch import cluster as cluster_module
    from sweeps.launch import tasks

    for each in tunings:
        ranges = ", ".join(f"{number} {low:g} to {high:g}" for number, (low, high) in each.cell.ranges.items())
        console.print(f"{each.cell}: {ranges}, kind {' or '.join(space.KINDS)}; {_searched(each)}")
    left = tuple(trial for each in tunings for trial in each.left)
    if not left:
        return
    log = _sinks(options)
    unique = Plan(options.sweep, 1, tuple({trial.id: trial for trial in left}.values()))
    with console.status("estimating ..."):
        ahead = _ahead(left, unique, options)
    console.print(f"about to run {plan_size(Plan(options.sweep, 1, left))}: {ahead.time}")
    if not options.yes and sys.stdin.isatty():
        typer.confirm("run them?", default=True, abort=True)
    cluster = cluster_module.Cluster(options.address, options.workers, options.device)
    with console.status("opening logs ..."):
        log(space.SEARCHES["tpe"])  # a sink that refuses does so before Ray starts
    with cluster_module.connected(cluster, console.print) as pool, progress_bar() as bar:

        def part(name: str) -> tasks.Report:
            task = bar.add_task(name, total=1.0)
            return lambda fraction: bar.update(task, completed=fraction)

        if not all(each.run(Path(options.data_dir), pool, part, options.backend, log, ahead.known) for each in tunings):
            raise KeyboardInterrupt


def _sinks(options: LaunchOptions) -> Callable[[str], Sequence[Any]]:
    """What gives the callbacks of each sweep, none by default; what can't be is refused."""
    if not options.log_to:
        return lambda _: ()
    from sweeps.launch.loggers import Sinks

    return Sinks([sink.value for sink in options.log_to], options.results, console.print).of


@contextmanager
def stopping_at_ctrl_c() -> Iterator[None]:
    """Say how to go on after Ctrl-C, wherever it came up, once the cluster has been let go."""
    try:
        with CTRL_C:
            yield
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on where it was.")
        raise typer.Exit(130) from None


def _searched(tuned: "Tuning") -> str:
    return ", ".join(f"{search.name} {len(search.found)} of {search.budget} settings" for search in tuned.searches)


def print_tuning_summary(tuned: "Tuning") -> bool:
    """Show the front and the recommendation of a tuning; whether anything of it is lacking."""
    from sweeps.tuning.search import front

    recommended, reference = tuned.recommended, tuned.reference
    table = Table("setting", *space.OBJECTIVES, "", title=f"{tuned.cell}: what no other searched setting beats")
    for row in front(tuned.searches[0].found):
        chosen = recommended is not None and row["trial"].id == recommended.id
        table.add_row(_setting(row["trial"]), *_objectives(row), "recommended" if chosen else "")
    table.add_row("norm=batch", *_objectives(reference), "reference")
    table.add_row("norm=none", *_objectives(tuned.without), "reference")
    print_table(table)
    console.print(f"{tuned.cell}: {_searched(tuned)}")
    budget = f"at most {tuned.max_loss:g} of validation accuracy lost"
    if recommended is not None:
        console.print(f"recommended with {budget}: {_setting(recommended)}")
    elif reference is None:
        console.print("recommended: none, for norm=batch itself was not trained to its end.")
    else:
        console.print(f"recommended: none, for no searched setting has {budget}.")
    state = tuned.confirmation
    console.print(f"on {len(tuned.cell.fresh)} fresh seeds: {plan_size(state.plan)}: {state}")
    return any(search.left for search in tuned.searches) or state.counts["done"] < len(state.plan.trials)


def _setting(trial: Trial) -> str:
    return " ".join(f"{name}={format_value(getattr(trial, name))}" for name in ("regularizer", "alpha", "lr"))


def _objectives(row: dict[str, Any] | None) -> list[str]:
    return [f"{row[name]:.3f}" if row else "-" for name in space.OBJECTIVES]


def format_hours(hours: float) -> str:
    """Return device-hours as text, with as many digits as they are worth."""
    return f"{hours:,.0f} device-hours" if hours >= 10 else f"{hours:.2g} device-hours"


class _Choices:
    """Prints how the members of each kind of trial train side by side, once for each."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def __call__(self, trial: Trial, choice: str) -> None:
        line = f"  {trial.architecture}, norm {trial.norm}, batches of {trial.batch_size}: trained as {choice}"
        if line not in self._told:
            self._told.add(line)
            console.print(line)


@dataclass(frozen=True)
class _Ahead:
    """What is known before a launch.

    Attributes:
        time: an estimate in words.
        engine: how members train side by side, in words, for a trial of each kind that was measured.
        known: the same for the launch itself.
    """

    time: str
    engine: Sequence[tuple[Trial, str]] = ()
    known: Known | None = None


def _ahead(trials: tuple[Trial, ...], plan: Plan, options: LaunchOptions) -> _Ahead:
    """See that the trials can be run, and what they take.

    It is measured for CPUs of this machine, else read off records or counted.
    """
    device = options.device.value if options.address == "local" else None
    measured = estimate.prepared(trials, Path(options.data_dir), device, options.backend, options.workers, plan.trials)
    if measured is None:
        rest = estimate.device_hours(trials, estimate.Durations.recorded(options.results), estimate.TERAFLOPS)
        return _Ahead(f"{format_hours(rest.hours)} ({rest.source})")
    workers = measured.workers
    taken = f"about {format_duration(measured.seconds / workers)} on {workers} CPU worker{'s' * (workers != 1)}"
    return _Ahead(taken, measured.engine, measured.known)


def trials_table(state: State, most: int | None, seconds: Callable[[Trial], float | None]) -> Table:
    """Return the first trials of a plan with the settings that vary, what each takes and its state."""
    shown = state.plan.trials[:most]
    names = [name for name in SETTINGS if len({getattr(trial, name) for trial in state.plan.trials}) > 1]
    table = Table("trial", *names, "members", "time", "state")
    for trial in shown:
        taken = seconds(trial)
        time = "" if taken is None else format_duration(taken)
        settings = (format_value(getattr(trial, name)) for name in names)
        table.add_row(trial.id, *settings, str(len(trial.members)), time, state.of(trial))
    if len(shown) < len(state.plan.trials):
        table.caption = f"and {len(state.plan.trials) - len(shown)} more; --all shows them"
    return table


def plan_size(plan: Plan) -> str:
    """Return how many trials and networks a plan has, in words."""
    trials, members = len(plan.trials), plan.members
    return f"{trials} trial{'s' * (trials != 1)}, {members} member{'s' * (members != 1)}"
