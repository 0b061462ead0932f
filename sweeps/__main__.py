"""`python -m sweeps`: list, plan, run and look after sweeps."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from study import factories
from study.errors import BadInputError, DamagedError, unknown
from study.record import Results
from study.terminal import DataDir, application, console, duration, main, progress_bar, show
from study.trial import FIELDS, Trial, parse, text
from sweeps import estimate, registry, tuning
from sweeps.alone import alone
from sweeps.bundles import Known
from sweeps.ctrl_c import CTRL_C
from sweeps.sweep import Plan, Scale, State, command

if TYPE_CHECKING:
    from sweeps.tune import Tuning


class Device(StrEnum):
    """What the workers compute on."""

    auto = "auto"
    cpu = "cpu"
    cuda = "cuda"


class Backend(StrEnum):
    """How the members of a trial train side by side."""

    auto = "auto"
    single = "single"
    grouped = "grouped"
    vmap = "vmap"


class Sink(StrEnum):
    """Where else the means of each trial go."""

    tensorboard = "tensorboard"
    mlflow = "mlflow"
    wandb = "wandb"


app = application("List, plan and run sweeps on Ray Tune.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="A sweep; `python -m sweeps list` shows them.")]
ScaleOption = Annotated[Scale, typer.Option(help="quick: minutes on a CPU. paper: the paper's exact setting.")]
Set = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE[,VALUE...]", help="Put these levels in place of an axis; repeatable."),
]
ResultsOption = Annotated[str, typer.Option("--results", metavar="DIR|URI", help="Where the records are kept.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="By default one a core or GPU; with --device, a cluster may grow to so many.")
]
DeviceOption = Annotated[Device, typer.Option(help="auto takes GPUs where the cluster has any.")]
Address = Annotated[str, typer.Option(help="local starts Ray here; auto or an address joins a running cluster.")]
TimeLimit = Annotated[
    float | None,
    typer.Option(
        min=0.001,
        metavar="SECONDS",
        help="End a try of a trial that takes longer, as one that hangs does; none by default.",
    ),
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Don't ask before running.")]
Fraction = Annotated[float, typer.Option(help="Only a balanced part of the cells, such as 0.25.")]
Teraflops = Annotated[
    float, typer.Option(min=0.001, help="Sustained speed of a device, to turn operations into hours.")
]
BackendOption = Annotated[
    Backend, typer.Option(help="How members train side by side; auto measures what is fastest here.")
]
LogTo = Annotated[
    list[Sink] | None,
    typer.Option("--log-to", help="Where else to log each trial that is recorded, as a run of its own; repeatable."),
]
PLAN_ROWS = 40
MOST_FAILURES = 10


@app.command("list")
def list_sweeps(teraflops: Teraflops = estimate.TERAFLOPS) -> None:
    """Show every sweep: its question, what it feeds, and at both scales its size and the device-hours it takes.

    Device-hours are counted operations at a sustained speed; `plan` reads them off earlier records where it can.
    """
    table = Table("sweep", "question", "feeds", "quick", "paper", show_lines=True)
    nothing = estimate.Durations(None, {})
    with console.status("counting operations ..."):
        for sweep in registry.SWEEPS.values():
            plans = [sweep.plan(scale) for scale in Scale]
            hours = [estimate.device_hours(plan.trials, nothing, teraflops).hours for plan in plans]
            sizes = [
                f"{len(plan.trials):,} trials\n{plan.members:,} members\n{_hours(taken)}"
                for plan, taken in zip(plans, hours, strict=True)
            ]
            table.add_row(sweep.name, sweep.question, sweep.feeds, *sizes)
    table.caption = f"device-hours: counted operations at {teraflops:g} teraflop/s sustained"
    show(table)


@app.command()
def plan(
    name: Name,
    scale: ScaleOption = Scale.quick,
    overrides: Set = None,
    fraction: Fraction = 1.0,
    results: ResultsOption = "results",
    teraflops: Teraflops = estimate.TERAFLOPS,
    price: Annotated[float | None, typer.Option(help="Price of a device-hour, to print the total cost.")] = None,
    workers: Annotated[
        list[int] | None, typer.Option(min=1, help="Print when so many devices would be done; repeatable.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show every trial, however many.")] = False,
) -> None:
    """Show what a run would do, what of it is done, and what the rest will take, without running anything.

    Example: python -m sweeps plan quickstart --set k=0.05,0.1 --set dataset=mnist --price 2.5
    Example: python -m sweeps plan ablation --scale paper --workers 8 --workers 64
    """
    where = Results.at(results)
    state = _planned(name, scale, overrides, fraction).state(where)
    durations = estimate.Durations.recorded(where)
    show(
        _trials_table(
            state, None if every else PLAN_ROWS, lambda trial: estimate.device_seconds(trial, durations, teraflops)
        )
    )
    console.print(f"{_size(state.plan)}: {state}")
    if state.missing:
        rest = estimate.device_hours(state.missing, durations, teraflops)
        cost = "" if price is None else f", {rest.hours * price:,.2f} at {price:g} an hour"
        unknown = f"; {rest.unknown} trials are like none recorded, and not counted" if rest.unknown else ""
        console.print(f"missing: {_hours(rest.hours)}{cost} ({rest.source}{unknown})")
        seconds = [estimate.device_seconds(trial, durations, teraflops) or 0.0 for trial in state.missing]
        for count in workers or ():
            until = estimate.makespan(seconds, count)
            busy = sum(seconds) / (until * count) if until else 1.0
            console.print(f"on {count} workers: {duration(until)}, {busy:.0%} of that at work")


@app.command()
def run(
    name: Name,
    scale: ScaleOption = Scale.quick,
    overrides: Set = None,
    fraction: Fraction = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Run at most this many trials now.")] = None,
    results: ResultsOption = "results",
    data_dir: DataDir = "data",
    workers: Workers = None,
    device: DeviceOption = Device.auto,
    backend: BackendOption = Backend.auto,
    address: Address = "local",
    log_to: LogTo = None,
    time_limit: TimeLimit = None,
    yes: Yes = False,
) -> None:
    """Run the trials of a sweep that have no record yet, or none that can be read.

    Stopped or killed, the same command goes on where it was. A failed trial is kept as such until `retry`.

    Example: python -m sweeps run quickstart --set dataset=mnist --data-dir data
    """
    planned = _planned(name, scale, overrides, fraction)
    where = Results.at(results)
    where.plans(name)  # those of a later version are refused
    where.check_writable()
    options = _Launch(name, where, data_dir, workers, device, backend.value, address, log_to or [], yes, time_limit)
    with alone(where, name, on_wait=console.print):
        try:
            state = planned.state(where)
        except DamagedError:
            _set_aside(where, name)
            state = planned.state(where)
        _run(state, state.missing[:limit], options)


@app.command()
def retry(
    name: Name,
    failed: Annotated[bool, typer.Option("--failed", help="Only the failed ones, not what else is missing.")] = False,
    architecture: Annotated[
        list[str] | None,
        typer.Option(metavar=factories.FORM, help="Import this network, which the plan asks for; repeatable."),
    ] = None,
    results: ResultsOption = "results",
    data_dir: DataDir = "data",
    workers: Workers = None,
    device: DeviceOption = Device.auto,
    backend: BackendOption = Backend.auto,
    address: Address = "local",
    log_to: LogTo = None,
    time_limit: TimeLimit = None,
    yes: Yes = False,
) -> None:
    """Run the failed trials of a sweep again, and whatever of all that was planned has no record.

    A trial with a damaged shard counts as missing; the shard stays as `<trial id>.parquet.damaged`. A network that
    is no built-in one is imported only if it is named here as well.

    Example: python -m sweeps retry quickstart --failed
    """
    where = Results.at(results)
    saved = _saved(name, where)
    saved.check_named(architecture or ())
    where.check_writable()
    saved.check_unchanged()
    options = _Launch(name, where, data_dir, workers, device, backend.value, address, log_to or [], yes, time_limit)
    with alone(where, name, on_wait=console.print):
        _set_aside(where, name)
        state = saved.state(where)
        _run(state, state.failed if failed else state.failed + state.missing, options)


@app.command()
def status(name: Name, results: ResultsOption = "results") -> None:
    """Count what is done, missing, failed and diverged of all that was planned.

    Example: python -m sweeps status quickstart --results results
    """
    where = Results.at(results)
    state = _saved(name, where).state(where)
    console.print(f"{name}: {_size(state.plan)}: {state}")


@app.command()
def compact(name: Name, results: ResultsOption = "results") -> None:
    """Put the shards of a finished sweep, one a trial and table, into one file a table, which is read faster.

    Readers are not disturbed, and nothing is lost if it is stopped. Later trials can be run and compacted as well.

    Example: python -m sweeps compact quickstart --results results
    """
    where = Results.at(results)
    if name not in where.sweeps():
        raise unknown(f"sweep in {where}", name, where.sweeps())
    plan = Plan.saved(name, where)
    missing = plan.state(where).missing if plan else ()
    if missing:
        raise BadInputError(
            f"{name} has {len(missing)} missing trials; finish it first: "
            f"python -m sweeps retry {name} --results {where.argument}"
        )
    where.check_writable()
    with alone(where, name, on_wait=console.print), console.status("compacting ..."):
        shards, files = where.compact(name)
    console.print(f"{name}: {shards} shards are now {files} files" if shards else f"{name}: nothing to compact")


@app.command()
def tune(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"What to tune: {', '.join(tuning.NAMES)}.")],
    trials: Annotated[int, typer.Option(min=1, help="Settings that each search measures.")] = 8,
    random: Annotated[bool, typer.Option(help="Search at random as well, with the same budget.")] = True,
    tune_lr: Annotated[bool, typer.Option("--tune-lr", help="Search the learning rate as well.")] = False,
    max_accuracy_loss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Validation accuracy that the recommended setting may lose.")
    ] = tuning.MAX_LOSS,
    fresh_seeds: Annotated[int, typer.Option(min=2, help="Seeds on which the arms are compared afterwards.")] = 5,
    overrides: Set = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the samplers.")] = 0,
    results: ResultsOption = "results",
    data_dir: DataDir = "data",
    workers: Workers = None,
    device: DeviceOption = Device.auto,
    backend: BackendOption = Backend.auto,
    address: Address = "local",
    log_to: LogTo = None,
    yes: Yes = False,
) -> None:
    """Search for the setting that memorizes least for a stated loss of accuracy, and compare it on fresh seeds.

    Every setting is judged on a validation set by its mean over several seeds; the test set is kept for the comparison.
    Stopped or killed, the same command goes on where it was.

    Example: python -m sweeps tune regularizer --set dataset=mnist --set subset=5000 --max-accuracy-loss 0.01
    """
    tuning.check_name(name)
    cells = tuning.cells(parse(overrides or []), fresh_seeds, tune_lr)
    where = Results.at(results)
    tuning.storage_path(where)
    where.check_writable()
    # Ray and Optuna take seconds to import.
    from sweeps.tune import Search, Tuning

    names = list(tuning.SEARCHES)[: 1 + random]
    sweeps = (*tuning.SEARCHES.values(), tuning.CONFIRM)
    with alone(where, *sweeps):
        for sweep in sweeps:
            _set_aside(where, sweep)
        tunings = [
            Tuning(cell, tuple(Search(cell, each, trials, seed, where) for each in names), max_accuracy_loss, where)
            for cell in cells
        ]
        with _stopping():
            _tune(tunings, _Launch(name, where, data_dir, workers, device, backend.value, address, log_to or [], yes))
        short = [_tell(each) for each in tunings]
    console.print(f"records: {where.below(tuning.SEARCHES['tpe'])}")
    # A command that is broken over two lines can't be copied.
    console.print(f"next: python -m analysis tradeoff {where.argument}", soft_wrap=True)
    if any(short):
        raise typer.Exit(1)


@app.command()
def bench(
    trials: Annotated[int, typer.Option(min=1, help="How many trials.")] = 100,
    seconds: Annotated[float, typer.Option(min=0.0, help="What each of them takes.")] = 0.5,
    workers: Workers = 2,
    address: Address = "local",
) -> None:
    """Measure what Ray Tune adds to trials that only wait, in time and in the driver's memory.

    Example: python -m sweeps bench --trials 100 --seconds 0.5 --workers 2
    Example: python -m sweeps bench --trials 3000 --seconds 0
    """
    from sweeps.bench import overhead
    from sweeps.launch import Cluster

    with console.status(f"running {trials} trials of {seconds:g} s ..."):
        measured = overhead(trials, seconds, Cluster(address, workers, "cpu"))
    ratio = f", ratio {measured.took / measured.ideal:.3f}" if measured.ideal else ""
    console.print(
        f"{trials} trials of {seconds:g} s on {measured.workers} workers: "
        f"took {measured.took:.2f} s, ideal {measured.ideal:.2f} s{ratio}; start-up {measured.startup:.1f} s"
    )
    console.print(
        f"a trial costs {measured.per_trial * 1e3:.1f} ms of its worker's time and "
        f"{measured.memory / trials / 1e3:.1f} KB of the driver's memory, at most {measured.peak / 1e6:.0f} MB in all"
    )


def _planned(name: str, scale: Scale, overrides: list[str] | None, fraction: float) -> Plan:
    return registry.sweep(name).plan(scale, parse(overrides or []), fraction)


def _saved(name: str, results: Results) -> Plan:
    """What was planned into the results folder, whatever its scale and overrides."""
    plan = Plan.saved(name, results)
    if plan is None:
        registry.sweep(name)
        raise BadInputError(f"{results} has no plan of {name}; start it with `python -m sweeps run {name}`.")
    return plan


@dataclass(frozen=True)
class _Launch:
    """The options of `run`, `retry` and `tune`, checked."""

    sweep: str
    results: Results
    data_dir: str
    workers: int | None
    device: Device
    backend: str
    address: str
    log_to: Sequence[Sink]
    yes: bool
    time_limit: float | None = None


def _set_aside(results: Results, sweep: str) -> None:
    """Have the trials whose shards can't be read run again."""
    for trial in sorted(results.set_aside(sweep)):
        console.print(f"  damaged, and set aside: {trial}")


def _run(state: State, trials: tuple[Trial, ...], options: _Launch) -> None:
    """Say what is about to run, run it, and say what came of it."""
    console.print(f"{options.sweep}: {_size(state.plan)}: {state}")
    if trials:
        with _stopping():
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


def _launch(trials: tuple[Trial, ...], plan: Plan, options: _Launch) -> None:
    """Estimate, ask, and run with a progress bar."""
    # Ray and torch take seconds to import, and are not needed where nothing is run.
    from sweeps import launch

    log = _sinks(options)
    with console.status("estimating ..."):
        ahead = _ahead(trials, plan, options)
    console.print(f"about to run {_size(Plan(plan.sweep, plan.version, trials))}: {ahead.time}")
    tell = _Choices()
    for trial, choice in ahead.engine:
        tell(trial, choice)
    if not options.yes and sys.stdin.isatty():
        typer.confirm("run them?", default=True, abort=True)
    cluster = launch.Cluster(options.address, options.workers, options.device)
    with console.status("opening logs ..."):
        callbacks = log(options.sweep)
    with launch.connected(cluster, console.print) as pool, progress_bar() as bar:
        plan.save(options.results)
        task = bar.add_task(options.sweep, total=1.0)
        outcome = launch.run_trials(
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
        f"took {duration(outcome.seconds)} on {pool.workers} {pool.device} workers, "
        f"{outcome.startup_s(pool):.0f} s to start"
    )


def _tune(tunings: Sequence["Tuning"], options: _Launch) -> None:
    """Estimate what is left of the tunings, ask, and train it with a progress bar."""
    from sweeps import launch

    for each in tunings:
        ranges = ", ".join(f"{number} {low:g} to {high:g}" for number, (low, high) in each.cell.ranges.items())
        console.print(f"{each.cell}: {ranges}, kind {' or '.join(tuning.KINDS)}; {_searched(each)}")
    left = tuple(trial for each in tunings for trial in each.left)
    if not left:
        return
    log = _sinks(options)
    unique = Plan(options.sweep, 1, tuple({trial.id: trial for trial in left}.values()))
    with console.status("estimating ..."):
        ahead = _ahead(left, unique, options)
    console.print(f"about to run {_size(Plan(options.sweep, 1, left))}: {ahead.time}")
    if not options.yes and sys.stdin.isatty():
        typer.confirm("run them?", default=True, abort=True)
    cluster = launch.Cluster(options.address, options.workers, options.device)
    with console.status("opening logs ..."):
        log(tuning.SEARCHES["tpe"])  # a sink that refuses does so before Ray starts
    with launch.connected(cluster, console.print) as pool, progress_bar() as bar:

        def part(name: str) -> launch.Report:
            task = bar.add_task(name, total=1.0)
            return lambda fraction: bar.update(task, completed=fraction)

        if not all(each.run(Path(options.data_dir), pool, part, options.backend, log, ahead.known) for each in tunings):
            raise KeyboardInterrupt


def _sinks(options: _Launch) -> Callable[[str], Sequence[Any]]:
    """What gives the callbacks of each sweep, none by default; what can't be is refused."""
    if not options.log_to:
        return lambda _: ()
    from sweeps.sinks import Sinks

    return Sinks([sink.value for sink in options.log_to], options.results, console.print).of


@contextmanager
def _stopping() -> Iterator[None]:
    """Say how to go on after Ctrl-C, wherever it came up, once the cluster has been let go."""
    try:
        with CTRL_C:
            yield
    except KeyboardInterrupt:
        console.print("stopped; the same command goes on where it was.")
        raise typer.Exit(130) from None


def _searched(tuned: "Tuning") -> str:
    return ", ".join(f"{search.name} {len(search.found)} of {search.budget} settings" for search in tuned.searches)


def _tell(tuned: "Tuning") -> bool:
    """Show the front and the recommendation of a tuning; whether anything of it is lacking."""
    from sweeps.tune import front

    recommended, reference = tuned.recommended, tuned.reference
    table = Table("setting", *tuning.OBJECTIVES, "", title=f"{tuned.cell}: what no other searched setting beats")
    for row in front(tuned.searches[0].found):
        chosen = recommended is not None and row["trial"].id == recommended.id
        table.add_row(_setting(row["trial"]), *_objectives(row), "recommended" if chosen else "")
    table.add_row("norm=batch", *_objectives(reference), "reference")
    table.add_row("norm=none", *_objectives(tuned.without), "reference")
    show(table)
    console.print(f"{tuned.cell}: {_searched(tuned)}")
    budget = f"at most {tuned.max_loss:g} of validation accuracy lost"
    if recommended is not None:
        console.print(f"recommended with {budget}: {_setting(recommended)}")
    elif reference is None:
        console.print("recommended: none, for norm=batch itself was not trained to its end.")
    else:
        console.print(f"recommended: none, for no searched setting has {budget}.")
    state = tuned.confirmation
    console.print(f"on {len(tuned.cell.fresh)} fresh seeds: {_size(state.plan)}: {state}")
    return any(search.left for search in tuned.searches) or state.counts["done"] < len(state.plan.trials)


def _setting(trial: Trial) -> str:
    return " ".join(f"{name}={text(getattr(trial, name))}" for name in ("regularizer", "alpha", "lr"))


def _objectives(row: dict[str, Any] | None) -> list[str]:
    return [f"{row[name]:.3f}" if row else "-" for name in tuning.OBJECTIVES]


def _hours(hours: float) -> str:
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


def _ahead(trials: tuple[Trial, ...], plan: Plan, options: _Launch) -> _Ahead:
    """See that the trials can be run, and what they take.

    It is measured for CPUs of this machine, else read off records or counted.
    """
    device = options.device.value if options.address == "local" else None
    measured = estimate.prepared(trials, Path(options.data_dir), device, options.backend, options.workers, plan.trials)
    if measured is None:
        rest = estimate.device_hours(trials, estimate.Durations.recorded(options.results), estimate.TERAFLOPS)
        return _Ahead(f"{_hours(rest.hours)} ({rest.source})")
    workers = measured.workers
    taken = f"about {duration(measured.seconds / workers)} on {workers} CPU worker{'s' * (workers != 1)}"
    return _Ahead(taken, measured.engine, measured.known)


def _trials_table(state: State, most: int | None, seconds: Callable[[Trial], float | None]) -> Table:
    shown = state.plan.trials[:most]
    names = [name for name in FIELDS if len({getattr(trial, name) for trial in state.plan.trials}) > 1]
    table = Table("trial", *names, "members", "time", "state")
    for trial in shown:
        taken = seconds(trial)
        time = "" if taken is None else duration(taken)
        settings = (text(getattr(trial, name)) for name in names)
        table.add_row(trial.id, *settings, str(len(trial.members)), time, state.of(trial))
    if len(shown) < len(state.plan.trials):
        table.caption = f"and {len(state.plan.trials) - len(shown)} more; --all shows them"
    return table


def _size(plan: Plan) -> str:
    trials, members = len(plan.trials), plan.members
    return f"{trials} trial{'s' * (trials != 1)}, {members} member{'s' * (members != 1)}"


if __name__ == "__main__":
    main(app, "python -m sweeps")
