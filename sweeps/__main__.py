"""`python -m sweeps`: list, plan, run and look after sweeps."""

from typing import Annotated

import typer
from rich.table import Table

from study.errors import BadInputError, DamagedError, unknown
from study.networks import factories
from study.record.results import Results
from study.storage.location import absolute
from study.terminal import DataDir, application, console, format_duration, main, print_table
from study.trial import parse
from sweeps import estimate, registry
from sweeps.bench import bench_training, bench_waiting
from sweeps.cluster.commands import app as cluster
from sweeps.console import (
    explaining_ctrl_c,
    format_hours,
    in_common,
    packing_printer,
    print_folders,
    print_tuning_summary,
    print_uncompacted,
    quarantine_damaged,
    run_and_report,
    run_tunings,
    size,
    status_table,
    trials_table,
)
from sweeps.launch.launch import Cluster, Launch
from sweeps.lock import exclusive
from sweeps.options import (
    Address,
    Backend,
    BackendOption,
    Device,
    DeviceOption,
    Fraction,
    LogTo,
    Name,
    Only,
    ResultsOption,
    ScaleOption,
    Set,
    Teraflops,
    TimeLimit,
    Workers,
    Yes,
)
from sweeps.parts import Part
from sweeps.plan import Plan
from sweeps.sweep import Scale
from sweeps.tuning import space

PLAN_ROWS = 40
"""The most trials that `plan` shows without `--all`."""

app = application("List, plan and run sweeps on Ray Tune.")
app.add_typer(cluster, name="cluster")


@app.command("list")
def list_sweeps(teraflops: Teraflops = None) -> None:
    """Show every sweep: its question, the figure it feeds of which paper, and its size and hours at both scales.

    Hours are counted operations at a sustained speed, at quick scale that of a CPU's core and at paper scale that of a
    GPU; `plan` takes what was recorded or timed before where it can.
    """
    speeds = {Scale.quick: ("cpu", estimate.TERAFLOPS["cpu"]), Scale.paper: ("cuda", estimate.TERAFLOPS["cuda"])}
    if teraflops is not None:
        speeds = dict.fromkeys(Scale, ("cuda", teraflops))
    table = Table("sweep", "question", "feeds", "quick", "paper", show_lines=True)
    with console.status("counting operations ..."):
        for sweep in registry.SWEEPS.values():
            sizes = []
            for scale in Scale:
                planned = sweep.plan(scale)
                device, speed = speeds[scale]
                operations = sum(estimate.flops(trial) or 0.0 for trial in planned.trials)
                hours = format_hours(operations / (speed * 1e12) / 3600, device)
                sizes.append(f"{len(planned.trials):,} trials\n{planned.members:,} members\n{hours}")
            table.add_row(sweep.name, sweep.question, sweep.feeds, *sizes)
    each = {"cpu": "a core", "cuda": "a GPU"}
    rates = [f"{speed:g} teraflop/s {each[device]}" for device, speed in dict.fromkeys(speeds.values())]
    papers = "\n".join(f"{year}: {title}" for year, title in registry.PAPERS.items())
    table.caption = f"{papers}\nhours: counted operations at {' and '.join(rates)}"
    print_table(table)


@app.command()
def plan(
    name: Name,
    scale: ScaleOption = Scale.quick,
    overrides: Set = None,
    only: Only = None,
    fraction: Fraction = 1.0,
    results: ResultsOption = "results",
    teraflops: Teraflops = None,
    price: Annotated[float | None, typer.Option(help="Price of a device-hour, to print the total cost.")] = None,
    workers: Annotated[
        list[int] | None, typer.Option(min=1, help="Print when that many devices would be done; repeatable.")
    ] = None,
    show_all: Annotated[bool, typer.Option("--all", help="Show every trial, however many.")] = False,
) -> None:
    """Show what a run would do, what of it is done, and what the rest will take, without running anything.

    Example: python -m sweeps plan quickstart --set k=0.05,0.1 --set dataset=mnist --price 2.5
    Example: python -m sweeps plan ablation --scale paper --workers 8 --workers 64
    Example: python -m sweeps plan depth_batch_size --scale paper --only batch_size=20,100 --set seed=0
    """
    where = Results.at(results)
    planned = _planned(name, scale, overrides, only, fraction)
    state, known = planned.state(where), estimate.Known.of(planned.trials, where, teraflops)
    console.print(f"{planned.sweep} at {scale} scale: {in_common(planned.trials)}", soft_wrap=True)
    print_folders(planned.trials)
    print_table(trials_table(state, None if show_all else PLAN_ROWS, lambda trial: known.seconds(trial)[0]))
    console.print(f"{size(planned.trials)}: {state}")
    if state.missing:
        rest = estimate.Estimate.of(state.missing, known)
        cost = "" if price is None else f", {rest.hours * price:,.2f} at {price:g} an hour"
        console.print(f"missing: {format_hours(rest.hours, rest.device)}{cost} ({rest.source})", soft_wrap=True)
        show_packing = packing_printer(state.missing)
        for trial in state.missing:
            if choice := known.choice(trial):
                show_packing(trial, choice)
        for count in workers or ([estimate.cores()] if rest.device == "cpu" else []):
            until = estimate.makespan(rest.seconds, count)
            busy = sum(rest.seconds) / (until * count) if until else 1.0
            console.print(
                f"on {count} worker{'s' * (count != 1)}: {format_duration(until)}, {busy:.0%} of that at work"
            )


@app.command()
def run(
    name: Name,
    scale: ScaleOption = Scale.quick,
    overrides: Set = None,
    only: Only = None,
    fraction: Fraction = 1.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Run at most this many trials now.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Run only the I-th of N parts of the plan, which other launches may run side by side."
        ),
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
    """Run the trials of a sweep that have no record yet, or none that can be read.

    Stopped or killed, the same command goes on where it was. A failed trial is kept as such until `retry`.

    Example: python -m sweeps run quickstart --set dataset=mnist --data-dir data
    Example: python -m sweeps run mypackage.my_sweep:SWEEP
    Example: python -m sweeps run label_noise --results s3://bucket/study --shard 2/8 --yes
    """
    part = None if shard is None else Part.parse(shard)
    planned = _planned(name, scale, overrides, only, fraction)
    name = planned.sweep
    where = Results.at(results)
    where.plans(name)  # those of a later version are refused
    where.check_writable()
    with exclusive(where, name, part=part.name(planned) if part else "", on_wait=console.print):
        own = part.of(planned) if part else planned
        uncompacted = "" if part else where.compact_many(name)  # what a launch that was killed has left
        try:
            state = own.state(where)
        except DamagedError:
            quarantine_damaged(where, name)
            state = own.state(where)
        launch = Launch(
            sweep=name,
            results=where,
            data_dir=absolute(data_dir),
            trials=state.missing[:limit],
            planned=own.trials,
            cluster=Cluster(address, workers, device.value),
            backend=backend.value,
            time_limit=time_limit,
            compacts=part is None,
        )
        run_and_report(state, launch, log_to or [], yes, planned, part, uncompacted)


@app.command()
def retry(
    name: Name,
    failed: Annotated[
        bool, typer.Option("--failed", help="Run only the failed trials, not what else is missing.")
    ] = False,
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
    planned = _saved(name, where)
    name = planned.sweep
    planned.check_named(architecture or ())
    where.check_writable()
    planned.check_unchanged()
    with exclusive(where, name, on_wait=console.print):
        quarantine_damaged(where, name)
        uncompacted = where.compact_many(name)
        state = planned.state(where)
        launch = Launch(
            sweep=name,
            results=where,
            data_dir=absolute(data_dir),
            trials=state.failed if failed else state.failed + state.missing,
            planned=planned.trials,
            cluster=Cluster(address, workers, device.value),
            backend=backend.value,
            time_limit=time_limit,
        )
        run_and_report(state, launch, log_to or [], yes, planned, uncompacted=uncompacted)


@app.command()
def status(
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="A sweep; by default every one of the folder.", show_default=False),
    ] = None,
    results: ResultsOption = "results",
) -> None:
    """Count the trials that are done, missing, failed and diverged, of all that was planned.

    Example: python -m sweeps status quickstart --results results
    Example: python -m sweeps status --results s3://bucket/study
    """
    where = Results.at(results)
    if name is not None:
        state = _saved(name, where).state(where)
        console.print(f"{state.plan.sweep}: {size(state.plan.trials)}: {state}")
        return
    plans = {sweep: Plan.saved(sweep, where) for sweep in where.sweeps()}
    states = [plan.state(where) for plan in plans.values() if plan is not None]
    if not states:
        start = f"python -m sweeps run quickstart --results {where.argument}"
        raise BadInputError(f"{where} has no plan of any sweep; start one with `{start}`.")
    print_table(status_table(states))


@app.command()
def compact(name: Name, results: ResultsOption = "results") -> None:
    """Put the shards of a sweep, one a trial and table, into few files a table, which are read faster.

    A run does so by itself where there are many. Readers are not disturbed, nothing is lost if it is stopped, and a
    sweep that is not finished goes on afterwards.

    Example: python -m sweeps compact quickstart --results results
    """
    name = registry.folder(name)
    where = Results.at(results)
    if name not in where.sweeps():
        raise unknown(f"sweep in {where}", name, where.sweeps())
    where.plans(name)  # those of a later version are refused
    where.check_writable()
    with exclusive(where, name, on_wait=console.print), console.status("compacting ..."):
        shards, files = where.compact(name)
    now = f"{shards} shards are now {files} file{'s' * (files != 1)}"
    console.print(f"{name}: {now if shards else 'nothing to compact'}")


@app.command()
def tune(
    name: Annotated[str, typer.Argument(metavar="NAME", help=f"What to tune: {', '.join(space.NAMES)}.")],
    trials: Annotated[int, typer.Option(min=1, help="How many settings each search measures.")] = 8,
    random: Annotated[bool, typer.Option(help="Search at random as well, with the same budget.")] = True,
    tune_lr: Annotated[bool, typer.Option("--tune-lr", help="Search the learning rate as well.")] = False,
    max_accuracy_loss: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="Validation accuracy that the recommended setting may lose.")
    ] = space.MAX_LOSS,
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
    space.check_name(name)
    cells = space.cells(parse(overrides or []), fresh_seeds, tune_lr)
    where = Results.at(results)
    space.storage_path(where)
    where.check_writable()
    # Ray and Optuna take seconds to import.
    from sweeps.tuning.search import Search
    from sweeps.tuning.stages import Tuning

    samplers = list(space.SEARCHES)[: 1 + random]
    sweeps = (*space.SEARCHES.values(), space.CONFIRM)
    with exclusive(where, *sweeps):
        for sweep in sweeps:
            quarantine_damaged(where, sweep)
        tunings = []
        for cell in cells:
            searches = tuple(Search(cell, sampler, trials, seed, where) for sampler in samplers)
            tunings.append(Tuning(cell, searches, max_accuracy_loss, where))
        launch = Launch(
            sweep=name,
            results=where,
            data_dir=absolute(data_dir),
            cluster=Cluster(address, workers, device.value),
            backend=backend.value,
            compacts=False,  # what the searches record is compacted with the rest, at the end
        )
        with explaining_ctrl_c():
            run_tunings(tunings, launch, log_to or [], yes)
        uncompacted = {sweep: where.compact_many(sweep) for sweep in sweeps}
        finished = [print_tuning_summary(tuning) for tuning in tunings]
    console.print(f"records: {where.below(space.SEARCHES['tpe'])}")
    for sweep, why in uncompacted.items():
        if why:
            print_uncompacted(where, sweep, why)
    # A command that is broken over two lines can't be copied.
    console.print(f"next: python -m analysis tradeoff {where.argument}", soft_wrap=True)
    if not all(finished):
        raise typer.Exit(1)


@app.command()
def bench(
    trials: Annotated[
        int | None, typer.Option(min=1, help="How many trials to run: 100, or 12 of five LeNets with --training.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long each of them waits.")] = 0.5,
    training: Annotated[bool, typer.Option("--training", help="Measure trials that train, on CPUs.")] = False,
    epochs: Annotated[int, typer.Option(min=1, help="How many epochs a trial trains.")] = 10,
    eval_every: Annotated[int, typer.Option(min=1, help="After how many epochs it is measured.")] = 10,
    workers: Workers = 2,
    address: Address = "local",
) -> None:
    """Measure what Ray Tune adds to trials that only wait, in time and in the driver's memory.

    With --training, measure what a sweep of small networks trains on a Ray of its own on this machine, as a share of
    what the engine's best pack alone does in the same workers, in turns.

    Example: python -m sweeps bench --trials 100 --seconds 0.5 --workers 2
    Example: python -m sweeps bench --trials 3000 --seconds 0
    Example: python -m sweeps bench --training --epochs 10 --eval-every 1
    """
    if training:
        if address != "local":
            raise BadInputError("--training starts a Ray of its own on this machine; leave --address out.")
        bench_training(trials or 12, epochs, eval_every, workers)
    else:
        bench_waiting(trials or 100, seconds, Cluster(address, workers, "cpu"))


def _planned(name: str, scale: Scale, overrides: list[str] | None, only: list[str] | None, fraction: float) -> Plan:
    """Return the plan of a sweep as the options have it."""
    return registry.sweep(name).plan(scale, parse(overrides or []), fraction, parse(only or []))


def _saved(name: str, results: Results) -> Plan:
    """Return all that was planned of a sweep into the results folder, whatever its scale and overrides.

    Raises:
        BadInputError: nothing was.
    """
    sweep = registry.folder(name)
    saved = Plan.saved(sweep, results)
    if saved is not None:
        return saved
    if sweep == name and name not in registry.SWEEPS:  # misspelled, or the user's own by its name, which can't start it
        raise unknown(f"sweep in {results}", name, {*results.sweeps(), *registry.SWEEPS})
    start = f"python -m sweeps run {name} --results {results.argument}"
    raise BadInputError(f"{results} has no plan of {sweep}; start it with `{start}`.")


if __name__ == "__main__":
    main(app, "python -m sweeps")
