"""`python -m analysis`: tables, tests and figures from a results folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from analysis import metrics as measures
from analysis.cells import common
from analysis.load import Loaded, load_all
from analysis.report import tables as summaries
from analysis.report.output import Output, Table, write
from analysis.statistics import ablation as ablations
from analysis.statistics import amplification as amplifications
from analysis.statistics import curves as trained
from analysis.statistics import paired as tests
from study.errors import BadInputError, unknown
from study.record.location import is_uri
from study.record.results import Results
from study.terminal import application, console, main
from sweeps.tuning.space import MAX_LOSS, SEARCHES, STORAGE

if TYPE_CHECKING:
    from analysis.tuning.tradeoff import Tuning

app = application("Turn records into tables, tests and figures.")
ResultsDir = Annotated[str, typer.Argument(metavar="RESULTS", help="The results folder, a local path or a URI.")]
SweepName = Annotated[str | None, typer.Option("--sweep", help="Only this sweep; by default every one in RESULTS.")]
Partial = Annotated[bool, typer.Option("--partial", help="Accept a grid with holes and name what it lacks.")]
Format = Annotated[str, typer.Option("--format", help="text, markdown, latex (with booktabs), csv or json.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the tables there, whole or not at all.")]
MaxLoss = Annotated[
    float, typer.Option(min=0, max=1, help="The validation accuracy that the recommended setting may lose.")
]
FigureFolder = Annotated[
    Path | None, typer.Option("--figures", metavar="DIR", help="Folder for figures; by default RESULTS/SWEEP/figures.")
]


@app.command()
def tables(
    results: ResultsDir,
    factor: Annotated[str | None, typer.Option(help="A setting, whose levels are set side by side.")] = None,
    reference: Annotated[str | None, typer.Option(help="The level that the others are held against.")] = None,
    marginal: Annotated[bool, typer.Option("--marginal", help="The factor over all cells of the others.")] = False,
    effects: Annotated[bool, typer.Option("--effects", help="Every setting's marginal effect, from a model.")] = False,
    curves: Annotated[bool, typer.Option("--curves", help="Each cell at each of its epochs.")] = False,
    metric: Annotated[list[str] | None, typer.Option(help="A metric to show, as mem_acc; may be repeated.")] = None,
    sweep: SweepName = None,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Tabulate each cell's mean and standard deviation over its seeds; or a factor's levels, effects, or curves.

    Of a factor's levels the best mean of each metric is marked: the lowest for memorization and attacks, the highest
    for accuracies. The others are tested against the reference, paired over seeds, with Holm's correction over the
    table.

    Example: python -m analysis tables results --sweep quickstart

    Example: python -m analysis tables results --factor norm --marginal --format latex --out norm.tex
    """
    output, metrics = Output(form, out), measures.named(metric)
    if (factor is not None) + effects + curves > 1:
        raise BadInputError("--factor, --effects and --curves are tables of their own; choose one.")
    if factor is None and (reference is not None or marginal):
        raise BadInputError("--reference and --marginal need a --factor, such as --factor norm.")
    found = []
    for loaded in load_all(Results.at(results), sweep, partial):
        if factor is not None:
            levels = ablations.ablation(loaded.members, factor, reference, metrics, marginal, partial)
            over = "each seed's mean over all cells" if marginal else "cell by cell"
            table = summaries.ablation_table(levels, factor, f"{loaded.sweep}: {factor}, {over}, mean ± sd over seeds")
        elif effects:
            table = _effects(loaded, metrics)
        elif curves:
            points = trained.curves(loaded, Results.at(results), metrics)
            table = summaries.summary_table(points, f"{_title(loaded)}, at each epoch")
        else:
            table = summaries.summary_table(summaries.summary(loaded.members, metrics), _title(loaded))
        found.append(_with_missing(table, loaded))
    output.show(found)


def _effects(loaded: Loaded, metrics: Sequence[measures.Metric]) -> Table:
    from analysis.statistics.factorial import effects  # statsmodels' mixed models take a second to import

    estimated, notes = effects(loaded.members, metrics)
    table = summaries.effects_table(estimated, f"{loaded.sweep}: marginal effects, and interactions with the norm")
    table.notes += notes
    return table


@app.command()
def compare(
    results: ResultsDir,
    factor: Annotated[str, typer.Option(help="The setting whose levels are compared.")] = "norm",
    reference: Annotated[str | None, typer.Option(help="The level that the others are held against.")] = None,
    alternative: Annotated[str | None, typer.Option(help="greater, less or two-sided, for every metric.")] = None,
    sweep: SweepName = None,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Test a factor's levels against a reference, paired over matching cells and seeds.

    The interval is the two-sided 95% one of the mean difference, d its effect size. For norms against none each p is
    one-sided, in the direction that the paper claims. Holm's correction is over all rows of the table.

    Example: python -m analysis compare results --factor norm
    """
    output, found = Output(form, out), []
    if alternative not in (None, "greater", "less", "two-sided"):
        raise unknown("alternative", str(alternative), ("greater", "less", "two-sided"))
    for loaded in load_all(Results.at(results), sweep, partial):
        tested = tests.compare(loaded.members, factor, reference, alternative, partial)
        table = summaries.comparison_table(tested, f"{loaded.sweep}: {factor}, paired t-tests over seeds")
        found.append(_with_missing(table, loaded))
    output.show(found)


@app.command()
def claims(
    results: ResultsDir, sweep: SweepName = None, partial: Partial = False, form: Format = "text", out: Out = None
) -> None:
    """Hold every empirical claim of the paper against the records: held, not held, undecided or not run.

    Held: p < 0.05 in the claimed direction, by Holm's correction over all claims that were tested, and for a claim on
    every cell each cell has the sign. Not held: the 95% interval lies wholly on the other side or short of the claimed
    size, or that of one cell does where every cell is claimed. Undecided: otherwise, or too few pairs. Not run: no
    records. The paper's number lies inside, above or below our interval. A verdict is about the data beside it.

    Example: python -m analysis claims results

    Example: python -m analysis claims results --sweep label_noise
    """
    from analysis.claims import ledger as ledgers

    output, where = Output(form, out), Results.at(results)
    entries = ledgers.ledger(where, sweep, partial)
    output.show([summaries.claims_table(entries, "The paper's claims", where)])


@app.command()
def amplification(
    results: ResultsDir, sweep: SweepName = None, partial: Partial = False, form: Format = "text", out: Out = None
) -> None:
    """Hold the theory's amplification of influence, (gamma/sigma)^2, against the measured ratio of squared gradients.

    Example: python -m analysis amplification results --sweep influence
    """
    output, found = Output(form, out), []
    for loaded in load_all(Results.at(results), sweep, partial):
        ratios = amplifications.amplification(loaded.members)
        table = summaries.amplification_table(ratios, f"{loaded.sweep}: influence with batch norm over without")
        found.append(_with_missing(table, loaded))
    output.show(found)


@app.command()
def membership(
    results: ResultsDir,
    attack: Annotated[list[str] | None, typer.Option(help="An attack to show; may be repeated.")] = None,
    sweep: SweepName = None,
    figures: FigureFolder = None,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Attack the models that were trained on halves of D' with one another as shadows, from their recorded scores.

    For each arm, and for the difference of two, the AUC is the mean over targets with its 95% interval over targets and
    samples. A rate that a target has too few non-members for is left out: 100 for 1%, 1,000 for 0.1%.

    Example: python -m analysis membership results --sweep membership

    Example: python -m analysis membership results --attack lira_online/per_example --attack global_threshold
    """
    from analysis.figures.membership import memorized, most_memorized, roc_curves
    from analysis.figures.panels import save
    from analysis.statistics import membership

    output, shown, drawn = Output(form, out), [], []
    every = load_all(Results.at(results), sweep, partial)
    with_halves = [loaded for loaded in every if membership.has_halves(loaded)] or every
    names = tuple(attack or membership.SHOWN)
    for loaded in with_halves:
        found = membership.audits(loaded, Results.at(results))
        folder = _figure_folder(results, figures, loaded.sweep, len(with_halves))
        told = summaries.audit_tables(found, names, loaded.sweep)
        told[0].notes += loaded.notes
        shown += told
        figured = {"roc": roc_curves(found, names[0]), "counterfactual": memorized(found)}
        images = membership.most_memorized(loaded, Results.at(results))
        if len(images):
            figured["most_memorized"] = most_memorized(images)
        drawn += [path for name, figure in figured.items() for path in save(figure, folder / name)]
    output.show(shown)
    for path in drawn:
        output.say(f"figure: {path}")


@app.command()
def tradeoff(
    results: ResultsDir,
    max_accuracy_loss: MaxLoss = MAX_LOSS,
    sweep: Annotated[str, typer.Option(help="The tuning.")] = SEARCHES["tpe"],
    figures: FigureFolder = None,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Show what a tuned regularizer buys and costs: the front, the recommended setting, and its rivals on fresh seeds.

    Settings are chosen on the validation samples alone. The rivals, and the setting itself, are held against norm=batch
    in paired two-sided tests over seeds that no search has seen, on the test set.

    Example: python -m analysis tradeoff results --max-accuracy-loss 0.01
    """
    from analysis.tuning import tradeoff as tradeoffs
    from analysis.tuning.importance import importances

    output = Output(form, out)
    tuned, loaded = tradeoffs.load_tunings(Results.at(results), sweep, max_accuracy_loss, partial)
    storage = Path(results) / sweep / STORAGE
    weights = importances(storage, tuned) if storage.is_file() else None
    folder = _figure_folder(results, figures, sweep)
    shown = [table for tuning in tuned for table in summaries.tuning_tables(tuning, f"{sweep}: {tuning.title}")]
    shown[-1].notes += [note for part in loaded for note in part.notes]
    output.show(shown)
    _draw_tuned(tuned, weights, folder, output)


def _draw_tuned(tuned: "Sequence[Tuning]", weights: pd.DataFrame | None, folder: Path, output: Output) -> None:
    from analysis.figures.panels import save
    from analysis.tuning import figures as draw
    from analysis.tuning.importance import FEWEST_TRIALS

    drawn = {"hypervolume": draw.hypervolume(tuned)}
    if any(len(tuning.usable) for tuning in tuned):
        drawn["tradeoff"] = draw.tradeoff(tuned)
    if weights is not None and len(weights):
        drawn["importance"] = draw.importance(weights)
    for name, figure in drawn.items():
        for path in save(figure, folder / name):
            output.say(f"figure: {path}")
    if "tradeoff" not in drawn:
        output.say("no figure of the front: no searched setting gave a result.")
    if weights is None:
        output.say("no figure of importance: there is no storage of Optuna's beside the records.")
    elif weights.empty:
        output.say(f"no figure of importance: no study has {FEWEST_TRIALS} trials with a result.")


@app.command()
def figures(
    results: ResultsDir,
    sweep: SweepName = None,
    figure: Annotated[list[str] | None, typer.Option(help="A figure to draw, as fig1; may be repeated.")] = None,
    folder: FigureFolder = None,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Draw the paper's figures that there are records of, as PNG and PDF, and list them with their paths.

    A sweep that none of the paper's is made of gets the figure `memorization`.

    Example: python -m analysis figures results --sweep quickstart

    Example: python -m analysis figures results --figure fig2 --figure fig10
    """
    from analysis.figures import catalog  # matplotlib takes a second to import
    from analysis.figures.panels import save

    output, where = Output(form, out), Results.at(results)
    every = catalog.feeding(figure, where.sweeps()) if figure and sweep is None else [sweep]
    loads = [loaded for name in every for loaded in load_all(where, name, partial)]
    drawn, reasons = [], {}
    for loaded in loads:
        place = _figure_folder(results, folder, loaded.sweep, len(loads))
        for one, made in catalog.figures_of(loaded, where, figure):
            if isinstance(made, str):
                reasons[one.name] = f"{one.name}: {made}"
                continue
            files = dict(zip(("png", "pdf"), map(str, save(made, place / one.name)), strict=True))
            about = {"figure": one.name, "place": one.place, "caption": one.caption}
            drawn.append({"sweep": loaded.sweep, **about, **files})
    lacking = [reasons[name] for name in reasons if name not in {one["figure"] for one in drawn}]
    if lacking and (figure or not drawn):
        raise BadInputError(" ".join(lacking))
    table = summaries.figures_table(pd.DataFrame(drawn), str(where))
    table.notes += [*lacking, *(f"records: {where.below(loaded.sweep)}" for loaded in loads)]
    table.notes += [note for loaded in loads for note in loaded.notes]
    output.show([table])


@app.command()
def report(
    results: ResultsDir,
    max_accuracy_loss: MaxLoss = MAX_LOSS,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="FILE", help="The page; by default RESULTS/report.html.")
    ] = None,
    partial: Partial = False,
) -> None:
    """Write all results as one HTML file that needs no network: summary, claims, tables, figures, costs, provenance.

    Example: python -m analysis report results
    """
    from analysis.report.page import report as reported

    if out is None and is_uri(results):
        raise BadInputError("the report of results on a URI needs a local file: --out FILE.")
    file = out or Path(results) / "report.html"
    with console.status("reading records ...") as status:
        page = reported(
            Results.at(results), max_accuracy_loss, partial, lambda part: status.update(f"working on {part} ...")
        )
    write(file, page, "the report")
    console.print(f"report: {file}", soft_wrap=True)


@app.command()
def bench(
    members: Annotated[int, typer.Option(help="How many members, five a trial.", min=1, max=20_000)] = 20_000,
    epochs: Annotated[int, typer.Option(help="How many points each member's curve has.", min=1)] = 200,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Time the analysis over a large grid: made-up records, loaded and tabulated with their curves.

    Example: python -m analysis bench --members 2000
    """
    from analysis.bench import bench as measured

    output = Output(form, out)
    output.show([summaries.bench_table(measured(members, epochs), f"{members} members with {epochs} epochs each")])


def _figure_folder(results: str, folder: Path | None, sweep: str, sweeps: int = 1) -> Path:
    """Where a sweep's figures go; two sweeps in one folder would overwrite each other's."""
    if folder is not None:
        return folder if sweeps == 1 else folder / sweep
    if is_uri(results):
        raise BadInputError("figures of results on a URI need a local folder: --figures DIR.")
    return Path(results) / sweep / "figures"


def _title(loaded: Loaded) -> str:
    return f"{loaded.sweep}: {common(loaded.members)}, {len(loaded.members)} members, mean ± sd over seeds"


def _with_missing(table: Table, loaded: Loaded) -> Table:
    """The table, with a note of what a partial grid lacks."""
    table.notes += loaded.notes
    return table


if __name__ == "__main__":
    main(app, "python -m analysis")
