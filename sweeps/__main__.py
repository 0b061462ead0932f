"""`python -m sweeps`: list, plan, run and look after sweeps."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from study.errors import BadInputError
from study.record import Results
from study.terminal import DataDir, application, console, duration, main, progress_bar
from study.trial import FIELDS, Trial, parse, text
from sweeps import registry
from sweeps.sweep import Plan, Scale, State

app = application("List, plan and run sweeps on Ray Tune.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A sweep; `python -m sweeps list` shows them.")]
ScaleOption = Annotated[Scale, typer.Option(help="quick: minutes on a CPU. paper: the paper's exact setting.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE[,VALUE...]", help="Put these levels in place of an axis; repeatable."),
]
ResultsOption = Annotated[str, typer.Option("--results", metavar="DIR|URI", help="Where the records are kept.")]
Workers = Annotated[int | None, typer.Option(min=1, help="Workers on this machine; by default one a core or GPU.")]
DeviceOption = Annotated[str, typer.Option(help="cpu or cuda; auto takes a GPU where the cluster has one.")]
Address = Annotated[str, typer.Option(help="local starts Ray here; auto or an address joins a running cluster.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before running.")]
PLAN_ROWS = 40
MOST_FAILURES = 10


@app.command("list")
def list_sweeps() -> None:
    """Show every sweep: its question, what it feeds, and its size at both scales."""
    table = Table("sweep", "question", "feeds", "quick", "paper", show_lines=True)
    for sweep in registry.SWEEPS.values():
        sizes = [f"{len(plan.trials)} trials\n{plan.members} members" for plan in map(sweep.plan, Scale)]
        table.add_row(sweep.name, sweep.question, sweep.feeds, *sizes)
    console.print(table)


@app.command()
def plan(
    name: Name,
    scale: ScaleOption = Scale.quick,
    overrides: Set = None,
    results: ResultsOption = "results",
    every: Annotated[bool, typer.Option("--all", help="Show every trial, however many.")] = False,
) -> None:
    """Show what a run would do, without running anything.

    Example: python -m sweeps plan quickstart --set k=0.05,0.1 --set dataset=mnist
    """
    state = _planned(name, scale, overrides).state(Results.at(results))
    console.print(_trials_table(state, None if every else PLAN_ROWS))
    console.print(f"{_size(state.plan)}: {state}")


@app.command()
def run(
    name: Name,
    scale: ScaleOption = Scale.quick,
    overrides: Set = None,
    results: ResultsOption = "results",
    data_dir: DataDir = "data",
    workers: Workers = None,
    device: DeviceOption = "auto",
    address: Address = "local",
    yes: Yes = False,
) -> None:
    """Run the trials of a sweep that have no record yet.

    Stopped or killed, the same command goes on where it was. A failed trial is kept as such until `retry`.

    Example: python -m sweeps run quickstart --set dataset=mnist --data-dir data
    """
    planned = _planned(name, scale, overrides)
    where = Results.at(results)
    where.check_writable()
    state = planned.state(where)
    _run(state, state.missing, _Launch(name, where, data_dir, workers, device, address, yes))


@app.command()
def retry(
    name: Name,
    results: ResultsOption = "results",
    data_dir: DataDir = "data",
    workers: Workers = None,
    device: DeviceOption = "auto",
    address: Address = "local",
    yes: Yes = False,
) -> None:
    """Run the failed trials of a sweep again, and those whose shards are damaged.

    Example: python -m sweeps retry quickstart
    """
    registry.sweep(name)
    where = Results.at(results)
    where.check_writable()
    damaged = where.set_aside(name)
    state = _saved(name, where).state(where)
    again = state.failed + tuple(trial for trial in state.missing if trial.id in damaged)
    _run(state, again, _Launch(name, where, data_dir, workers, device, address, yes))


@app.command()
def status(name: Name, results: ResultsOption = "results") -> None:
    """Count what is done, missing, failed and diverged of all that was planned.

    Example: python -m sweeps status quickstart --results results
    """
    where = Results.at(results)
    state = _saved(name, where).state(where)
    console.print(f"{name}: {_size(state.plan)}: {state}")


@app.command()
def bench(
    trials: Annotated[int, typer.Option(min=1, help="How many trials.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.0, help="What each of them takes.")] = 0.5,
    workers: Workers = 2,
    address: Address = "local",
) -> None:
    """Measure what Ray Tune adds to trials that only wait.

    Example: python -m sweeps bench --trials 100 --seconds 0.5 --workers 2
    """
    from sweeps.bench import overhead
    from sweeps.launch import Cluster

    with console.status(f"running {trials} trials of {seconds:g} s ..."):
        measured = overhead(trials, seconds, Cluster(address, workers, "cpu"))
    console.print(
        f"{trials} trials of {seconds:g} s on {measured.workers} workers: "
        f"took {measured.took:.2f} s, ideal {measured.ideal:.2f} s, ratio {measured.took / measured.ideal:.3f}; "
        f"start-up {measured.startup:.1f} s"
    )


def _planned(name: str, scale: Scale, overrides: list[str] | None) -> Plan:
    return registry.sweep(name).plan(scale, parse(overrides or []))


def _saved(name: str, results: Results) -> Plan:
    """What was planned into the results folder, whatever its scale and overrides."""
    registry.sweep(name)
    plan = Plan.saved(name, results)
    if plan is None:
        raise BadInputError(f"{results} has no plan of {name}; start it with `python -m sweeps run {name}`.")
    return plan


@dataclass(frozen=True)
class _Launch:
    """The options of `run` and `retry`, checked."""

    sweep: str
    results: Results
    data_dir: str
    workers: int | None
    device: str
    address: str
    yes: bool


def _run(state: State, trials: tuple[Trial, ...], options: _Launch) -> None:
    """Say what is about to run, run it, and say what came of it."""
    console.print(f"{options.sweep}: {_size(state.plan)}: {state}")
    if trials:
        _launch(trials, state.plan, options)
    state.plan.save(options.results)
    after = state.plan.state(options.results)
    if trials:
        console.print(f"{options.sweep}: {after}")
    for trial in after.failed[:MOST_FAILURES]:
        console.print(f"  failed: {trial}: {after.errors[trial.id]}")
    if after.failed:
        console.print(f"  again: python -m sweeps retry {options.sweep} --results {options.results}")
    console.print(f"records: {options.results}/{options.sweep}")
    if after.failed or after.missing:
        raise typer.Exit(1)


def _launch(trials: tuple[Trial, ...], plan: Plan, options: _Launch) -> None:
    """Estimate, ask, and run with a progress bar."""
    # Ray and torch take seconds to import, and are not needed where nothing is run.
    from sweeps import estimate, launch

    with console.status("estimating ..."):
        core_seconds = estimate.seconds(trials, Path(options.data_dir))
    console.print(f"about to run {_size(Plan(plan.sweep, plan.version, trials))}: {_time(core_seconds, options)}")
    if not options.yes and sys.stdin.isatty():
        typer.confirm("run them?", default=True, abort=True)
    cluster = launch.Cluster(options.address, options.workers, options.device)
    with launch.connected(cluster) as pool, progress_bar() as bar:
        plan.save(options.results)
        task = bar.add_task(options.sweep, total=1.0)
        outcome = launch.run_trials(
            trials,
            options.sweep,
            options.results,
            Path(options.data_dir),
            pool,
            lambda fraction: bar.update(task, completed=fraction),
        )
    if outcome.interrupted:
        console.print("stopped; the same command goes on where it was.")
        raise typer.Exit(130)
    console.print(
        f"took {duration(outcome.seconds)} on {pool.workers} {pool.device} workers, {outcome.startup_s:.0f} s to start"
    )


def _time(core_seconds: float, options: _Launch) -> str:
    """The estimate in words. It is for CPUs of this machine; a cluster's or a GPU's speed is not known yet."""
    if options.address == "local" and options.device != "cuda":
        workers = options.workers or len(os.sched_getaffinity(0))
        return f"about {duration(core_seconds / workers)} on {workers} CPU worker{'s' * (workers != 1)}"
    return f"about {duration(core_seconds)} on one core of this machine"


def _trials_table(state: State, most: int | None) -> Table:
    shown = state.plan.trials[:most]
    names = [name for name in FIELDS if len({getattr(trial, name) for trial in state.plan.trials}) > 1]
    table = Table("trial", *names, "members", "state")
    for trial in shown:
        table.add_row(trial.id, *(text(getattr(trial, name)) for name in names), str(len(trial.seed)), state.of(trial))
    if len(shown) < len(state.plan.trials):
        table.caption = f"and {len(state.plan.trials) - len(shown)} more; --all shows them"
    return table


def _size(plan: Plan) -> str:
    trials, members = len(plan.trials), plan.members
    return f"{trials} trial{'s' * (trials != 1)}, {members} member{'s' * (members != 1)}"


if __name__ == "__main__":
    main(app, "python -m sweeps")
