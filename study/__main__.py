"""The command line `python -m study`: one trial, without Ray."""

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from study.data import files
from study.errors import BadInputError, unknown
from study.record.results import Results
from study.record.schema import SCHEMAS, TABLES
from study.settings import SETTINGS, format_value
from study.terminal import (
    HELP,
    Assignments,
    DataDir,
    ProgressDisplay,
    application,
    console,
    doing,
    main,
    print_table,
    stop_at_once,
)
from study.trial import Trial, parse
from study.worker import restart_with_environment

if TYPE_CHECKING:
    from study.check.checks import Answer
    from study.record.rows import Records
    from study.speed.benchmark import Race

app = application("Train and measure the members of one trial, without Ray.")
SHOWN = {
    "seed": "seed",
    "mem_acc": "memorized",
    "true_label_acc": "true label",
    "clean_acc": "clean",
    "test_acc": "test",
    "mia_auc": "MIA AUC",
    "gamma_over_sigma": "γ/σ",
    "status": "status",
}
"""The columns of `members` that `run` prints, with their titles."""
WHERE_MEASURED = {
    "noise_acc": "noise",
    "pgd_linf_acc": "attack linf",
    "pgd_l2_acc": "attack l2",
    "corruption_error": "corruption error over {families} of 19",
}
"""The columns on robustness, which are shown beside them where it was measured."""
FORMATS = ("text", "markdown", "json")
Format = Annotated[str, typer.Option("--format", help="text, markdown, or json for another program.")]
"""The forms in which `settings` lists them."""


@app.callback()
def _callback() -> None:
    """Train and measure the members of one trial, without Ray."""


@app.command()
def run(
    settings: Assignments = None,
    data_dir: DataDir = "data",
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto for a GPU where there is one.")] = "auto",
    backend: Annotated[
        str, typer.Option(help="How members train side by side: single, grouped, vmap, or auto for the fastest here.")
    ] = "auto",
    results: Annotated[str | None, typer.Option(help="Also write the records into this results folder.")] = None,
    sweep: Annotated[str, typer.Option(help="The sweep under which --results keeps the records.")] = "trials",
) -> None:
    """Run one trial and print what was measured.

    Example: python -m study run dataset=digits norm=batch k=0.1 seed=0,1,2
    """
    trial = _one_trial(settings or [])
    if not re.fullmatch(r"\w+", sweep):
        raise BadInputError(f"a sweep's name is letters, digits and underscores, not {sweep!r}.")
    if trial.weights != "none" and not results:
        raise BadInputError(f"weights={trial.weights} keeps weights beside the records: name a folder with --results.")
    records_to = Results.at(results) if results else None
    if records_to:
        records_to.check_writable()
    console.print(f"trial {trial.id}: {trial}")
    for line in files.describe([trial.dataset], [trial.ood]):
        console.print(line, soft_wrap=True)

    from study import run as methods  # torch is imported only when something is trained

    with ProgressDisplay() as display:
        records = methods.run(
            trial,
            data_dir,
            _device(device),
            display.add(f"{len(trial.members)} member{'s' * (len(trial.members) > 1)}"),
            backend,
            records_to.checkpoints(sweep) if records_to else None,
            keep=records_to.weights(sweep).keep if records_to else None,
        )
        if records_to:  # before anything is printed, which may fail
            records_to.write(sweep, trial.id, records.tables)
            records_to.checkpoints(sweep).drop(trial.id)
    print_table(_members_table(records))
    first = records.members[0]
    console.print(f"trained as {first['backend']}, {first['pack']} at once")
    if records_to:
        console.print(f"records: {records_to.below(sweep)}", soft_wrap=True)


@app.command()
def settings(form: Format = "text") -> None:
    """List the settings of a trial: their defaults, the values that they take, their units, and what they mean.

    Example: python -m study settings --format json
    """
    _check_format(form)
    if form == "json":
        print(json.dumps([setting.facts() for setting in SETTINGS.values()], indent=1))
        return
    rows = [
        (name, format_value(of.default), of.values, of.unit, of.stage.value, of.description)
        for name, of in SETTINGS.items()
    ]
    _print_listing(("setting", "default", "values", "unit", "acts in", "meaning"), rows, form)


@app.command()
def columns(form: Format = "text") -> None:
    """List the tables of the record and their columns: types, units, and what each means.

    Example: python -m study columns --format markdown
    """
    _check_format(form)
    listed = {
        table: [(field.name, str(field.type), *_told(field, "unit", "description")) for field in schema]
        for table, schema in SCHEMAS.items()
    }
    titles = ("column", "type", "unit", "meaning")
    if form == "json":
        facts = {table: [dict(zip(titles, row, strict=True)) for row in rows] for table, rows in listed.items()}
        print(json.dumps(facts, indent=1))
        return
    for table, rows in listed.items():
        print(f"## {table}\n\n{TABLES[table]}\n" if form == "markdown" else f"{table}: {TABLES[table]}")
        _print_listing(titles, rows, form)
        print()


def _told(field: Any, *names: str) -> list[str]:
    """Return what a column's metadata say under each name."""
    metadata = field.metadata or {}
    return [metadata.get(name.encode(), b"").decode() for name in names]


def _check_format(form: str) -> None:
    if form not in FORMATS:
        raise unknown("format", form, FORMATS)


def _print_listing(titles: Sequence[str], rows: Sequence[Sequence[str]], form: str) -> None:
    """Print rows as a table of the terminal or of Markdown."""
    if form == "markdown":
        for cells in (titles, ("---",) * len(titles), *rows):
            print(f"| {' | '.join(cells)} |")
        return
    table = Table(*titles)
    for row in rows:
        table.add_row(*row)
    print_table(table)


@app.command()
def bench(
    only: Annotated[list[str] | None, typer.Option(help="Only this architecture; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto for a GPU where there is one.")] = "auto",
    seconds: Annotated[float, typer.Option(min=0.0, help="How long each contender takes a turn.")] = 1.0,
    rounds: Annotated[int, typer.Option(min=1, help="How many turns each has.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write every figure into this file.")] = None,
) -> None:
    """Race the engine against the plain DataLoader loop, side by side on this machine.

    Example: python -m study bench --only lenet --json bench.json
    """
    from study.record.provenance import device_name
    from study.speed import benchmark
    from study.speed.workloads import workloads_on

    where = _device(device)
    workloads = workloads_on(where)
    names = dict.fromkeys(workload.architecture for workload in workloads)
    for name in only or []:
        if name not in names:
            raise unknown("architecture of the benchmark", name, names)
    races = []
    chosen = [workload for workload in workloads if workload.architecture in (only or names)]
    with ProgressDisplay() as display:
        show = display.add("race", chosen[0].architecture)
        for done, workload in enumerate(chosen):
            show(done / len(chosen), workload.architecture)
            races.append(benchmark.race(workload, where, seconds, rounds))
            if json_file:
                figures = {"device": device_name(where), "races": [race.figures() for race in races]}
                json_file.write_text(json.dumps(figures, indent=1) + "\n")
            print_table(_race_table(races[-1]))
        show(1.0)


@app.command()
def check(
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, or auto for a GPU where there is one.")] = "auto",
    only: Annotated[list[str] | None, typer.Option(help="Only this check; repeatable.")] = None,
    seconds: Annotated[float, typer.Option(min=0.0, help="How long each way to train takes a turn.")] = 0.3,
    rounds: Annotated[int, typer.Option(min=1, help="How many turns each has.")] = 3,
    out: Annotated[Path | None, typer.Option(help="Also write all that was found into this JSON file.")] = None,
) -> None:
    """Check whether a device computes right, whether its numbers repeat, and what the engine gains on it.

    It takes about three minutes on a GPU and half a minute on a CPU, needs neither data nor Ray, and ends with code 1
    where a check has failed.

    Example: python -m study check --device cuda --out check.json
    """
    from study.check import checks, tables
    from study.check.finding import Subject
    from study.worker import use_one_thread

    subject = Subject(_device(device), seconds, rounds)
    for name in only or []:
        if name not in checks.CHECKS:
            raise unknown("check", name, checks.CHECKS)
    names = list(dict.fromkeys(only or checks.CHECKS))
    use_one_thread()
    answers: list[Answer] = []
    with ProgressDisplay() as display:
        show = display.add("check", names[0])
        for done, name in enumerate(names):
            show(done / len(names), name)
            answers.append(checks.answer(checks.CHECKS[name], subject))
            console.print(f"{done + 1} of {len(names)}: {tables.line(answers[-1])}", soft_wrap=True)
            if out:
                out.write_text(checks.report(answers, subject))
        show(1.0)
    for table in tables.of(answers):
        print_table(table)
    console.print(tables.conclusion(answers, subject), soft_wrap=True)
    if checks.failed(answers):
        raise typer.Exit(1)


@app.command()
def clip(settings: Assignments = None, data_dir: DataDir = "data") -> None:
    """Show how far the clip of the 2019 paper's attacks moves a dataset's test images by itself.

    The images are standardized as the trial's network would; by default with the paper's constants.

    Example: python -m study clip dataset=cifar10 --data-dir data
    """
    named = settings or []
    by_name = any(assignment.startswith("standardize=") for assignment in named)
    trial = _one_trial(named if by_name else [*named, "standardize=paper2019"])

    from study.attacks.clipping import clip_alone, clip_of
    from study.data.load import load
    from study.network_of import standardization

    if trial.standardize == "none":
        raise BadInputError("the attacks are on standardized images: name a standardization, or leave the paper's.")
    with doing(f"reading {trial.dataset}"):
        data = load(trial.dataset, data_dir, resize=trial.resize)
    constants = standardization(trial, data)
    assert constants is not None
    of = clip_of(trial.dataset, data.shape)
    found = clip_alone(data.test.images, *constants, of)
    table = Table(f"clip to [{of.low:g}, {of.high:g}]", f"{found.images:,} test images of {trial.dataset}")
    for said, number in (
        ("standardized values", f"{found.least:.2f} to {found.largest:.2f}"),
        ("values beyond the clip", f"{found.beyond:.1%}"),
        (f"values that it moves by more than {of.epsilon:g}, the attack's epsilon in linf", f"{found.moved:.1%}"),
        ("how far it moves an image in l2, mean and largest", f"{found.distance:.2f}, {found.farthest:.2f}"),
        (f"images that it moves farther than {of.radius:.2f}, the attack's radius in l2", f"{found.farther:.1%}"),
    ):
        table.add_row(said, number)
    print_table(table)


def _one_trial(assignments: list[str]) -> Trial:
    levels = parse(assignments)
    for name, values in levels.items():
        if name != "seed" and len(values) > 1:
            raise BadInputError(f"one trial has one {name}; `python -m sweeps run` takes several.")
    if levels.get("regularizer", ["none"]) != ["none"] and "alpha" not in levels:
        raise BadInputError("the weight of a regularizer is 1 - alpha, and alpha is 1 by default: set alpha below 1.")
    return Trial.of({name: tuple(values) if name == "seed" else values[0] for name, values in levels.items()})


def _device(name: str) -> str:
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
    except RuntimeError:
        raise BadInputError(f"unknown device {name!r}: choose cpu, cuda, cuda:N or auto.") from None
    if device.type not in ("cpu", "cuda"):
        raise BadInputError(f"device {name!r} is not supported: choose cpu, cuda, cuda:N or auto.")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise BadInputError(f"there is no device {name!r} here; --device cpu always works.")
    return name


def _race_table(race: "Race") -> Table:
    """Return the table of a race: the throughput of each contender, and its ratio to that of the best plain loop."""
    from study.speed.benchmark import ATTACKED

    workload = race.workload
    table = Table(
        workload.architecture,
        "model-samples/s",
        "of the best plain loop",
        caption=f"{'x'.join(map(str, workload.shape))}, batches of {workload.batch_size}; medians over rounds. "
        f"The engine, given {workload.members} members, chose {race.chosen}: {race.ratio('engine', 'single'):.2f} of "
        f"single. Gradient norms cost {median(race.gradient_norms):.2f} of one forward and backward pass; "
        f"with mechanism=10 a training on the digits takes {race.mechanism_over_training:.2f} times as long; "
        f"a forward pass in eval mode and the gradient at the images take {median(race.input_gradients):.2f} of a "
        f"training step, so that robustness=pixel on {ATTACKED} images takes at most "
        f"{race.robustness_over_training:.2f} of a training on half the digits.",
    )
    for name, rates in {**race.heats, **race.rates}.items():
        table.add_row(name, f"{median(rates):,.0f}", f"{race.ratio(name, race.plain):.2f}")
    return table


def _members_table(records: "Records") -> Table:
    """Return the table of what was measured of each member."""
    measured = {name for row in records.members for name, value in row.items() if value is not None}
    shown = SHOWN | {name: said for name, said in WHERE_MEASURED.items() if name in measured}
    corruptions = {row["perturbation"] for row in records.tables["robustness"] if row["suite"] == "corruptions"}
    table = Table(*(said.format(families=len(corruptions)) for said in shown.values()))
    for row in records.members:
        values = [row.get(name) for name in shown]
        table.add_row(
            *(f"{value:.3f}" if isinstance(value, float) else "" if value is None else str(value) for value in values)
        )
    return table


def prepare_to_train(here: bool = True) -> None:
    """Give this process, which is to train, the environment of a worker, and have it stop at once when it is told to.

    Args:
        here: whether this process itself is to train; it is then started once more, unless only its help is wanted.
    """
    if here and not set(HELP) & set(sys.argv):
        restart_with_environment()
    kept = any(argument.startswith("--results") for argument in sys.argv)
    stop_at_once("stopped; the same command goes on from the last checkpoint." if kept else "stopped")


if __name__ == "__main__":
    if sys.modules["__main__"].__spec__ is __spec__:  # not where a test runs this module within its own process
        # The benchmark times other processes, which it starts itself.
        prepare_to_train(sys.argv[1:2] in (["run"], ["check"]))
    main(app, "python -m study")
