"""`python -m analysis`: tables, tests and figures from a results folder.

Each command imports what it computes with by itself: pandas, SciPy and matplotlib take far longer than a help text.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from analysis.arguments import next_command, takes_results
from analysis.figures.width import WIDTH, checked_width, drawn_for
from analysis.metrics import Metric, select_metrics, with_robustness
from study.errors import BadInputError, unknown
from study.record.results import Results
from study.settings import SETTINGS
from study.storage.location import is_uri
from study.terminal import ProgressDisplay, application, console, main
from sweeps.tuning.space import MAX_LOSS, SEARCHES, STORAGE

if TYPE_CHECKING:
    import pandas as pd

    from analysis.load import Loaded
    from analysis.report.output import Output, Table
    from analysis.tuning.tradeoff import TunedCell

app = application("Turn records into tables, tests and figures.")
SweepName = Annotated[str | None, typer.Option("--sweep", help="Only this sweep; by default every one in RESULTS.")]
MetricNames = Annotated[list[str] | None, typer.Option("--metric", help="A metric, as mem_acc; may be repeated.")]
Partial = Annotated[bool, typer.Option("--partial", help="Accept a grid with holes and name what it lacks.")]
Format = Annotated[str, typer.Option("--format", help="text, markdown, latex (with booktabs), csv or json.")]
Out = Annotated[Path | None, typer.Option("--out", metavar="FILE", help="Write the tables there, whole or not at all.")]
MaxLoss = Annotated[
    float, typer.Option(min=0, max=1, help="The validation accuracy that the recommended setting may lose.")
]
FigureFolder = Annotated[
    Path | None, typer.Option("--figures", metavar="DIR", help="Folder for figures; by default RESULTS/SWEEP/figures.")
]
Width = Annotated[
    float,
    typer.Option(
        metavar="INCHES", callback=checked_width, help="The most that a figure is wide; by default as a page's text."
    ),
]


@app.command("tables")
@takes_results
def tabulate(
    results: str,
    factor: Annotated[str | None, typer.Option(help="A setting, whose levels are shown side by side.")] = None,
    reference: Annotated[str | None, typer.Option(help="The level that the others are compared with.")] = None,
    marginal: Annotated[bool, typer.Option("--marginal", help="The factor over all cells of the others.")] = False,
    with_effects: Annotated[
        bool, typer.Option("--effects", help="Every setting's marginal effect, from a model.")
    ] = False,
    with_curves: Annotated[bool, typer.Option("--curves", help="Each cell at each of its epochs.")] = False,
    across: Annotated[
        str | None, typer.Option(help="A setting whose levels are put side by side, a metric a row.")
    ] = None,
    metric: MetricNames = None,
    paper_table: Annotated[
        list[str] | None, typer.Option("--table", help="A table of the 2019 paper, as g19-t6; may be repeated.")
    ] = None,
    sweep: SweepName = None,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Tabulate each cell's mean and standard deviation over its seeds; or a factor's levels, effects, or curves.

    A table of the 2019 paper has the paper's layout and its numbers beside ours.

    Of a factor's levels the best mean of each metric is marked: the lowest for memorization and attacks, the highest
    for accuracies. The others are tested against the reference, paired over seeds, with Holm's correction over the
    table.

    Example: python -m analysis tables results --sweep quickstart

    Example: python -m analysis tables results --factor norm --marginal --format latex --out norm.tex

    Example: python -m analysis tables results --sweep transformer --across dataset --metric mem_acc

    Example: python -m analysis tables results --table g19-t6 --table g19-t7
    """
    from analysis.cells import companions_note
    from analysis.load import load_all
    from analysis.report import tables
    from analysis.report.output import Output
    from analysis.statistics.ablation import ablation
    from analysis.statistics.curves import curves
    from analysis.statistics.paired import units_note

    output, named = Output(form, out), select_metrics(metric)
    if (factor is not None) + with_effects + with_curves + (across is not None) + bool(paper_table) > 1:
        raise BadInputError("--factor, --across, --effects, --curves and --table are tables of their own; choose one.")
    if across is not None and across not in SETTINGS:
        raise unknown("setting", across, SETTINGS)
    if factor is None and (reference is not None or marginal):
        raise BadInputError("--reference and --marginal need a --factor, such as --factor norm.")
    if paper_table:
        _show_paper_tables(paper_table, results, sweep, partial, output)
        return
    tabulated, with_arms = [], True
    for loaded in load_all(Results.at(results), sweep, partial):
        with_arms &= loaded.members["norm"].nunique() > 1
        metrics = with_robustness(named, loaded.members)
        if factor is not None:
            levels = ablation(loaded.members, factor, reference, metrics, marginal, partial)
            over = "each seed's mean over all cells" if marginal else "cell by cell"
            table = tables.ablation_table(levels, factor, f"{loaded.sweep}: {factor}, {over}, mean ± sd over seeds")
            table.notes += [*companions_note(loaded.members, factor), *units_note(loaded.members)]
        elif across is not None:
            table = tables.pivot_table(
                tables.pivot(loaded.members, across, metrics), f"{_title(loaded)}, across {across}"
            )
        elif with_effects:
            table = _effects(loaded, metrics)
        elif with_curves:
            points = curves(loaded, Results.at(results), metrics)
            table = tables.summary_table(points, f"{_title(loaded)}, at each epoch")
        else:
            table = tables.summary_table(tables.summary(loaded.members, metrics), _title(loaded))
        tabulated.append(_add_notes(table, loaded))
    output.show(tabulated)
    if factor is not None or with_arms:
        output.hint(next_command("compare", results, *_named(sweep), "--factor", factor or "norm"))
    else:
        output.hint(next_command("figures", results, *_named(sweep)))


def _show_paper_tables(names: Sequence[str], results: str, sweep: str | None, partial: bool, output: "Output") -> None:
    """Show tables of the 2019 paper from the records of the sweeps that feed them."""
    from analysis.load import load_all
    from analysis.report.paper_tables import find_table, tables_named

    feeding = {of_table for name in names for of_table in find_table(name).sweeps}
    recorded = Results.at(results).sweeps()
    chosen = [sweep] if sweep is not None else [name for name in recorded if name in feeding]
    all_records = [loaded for name in chosen for loaded in load_all(Results.at(results), name, partial)]
    output.show(tables_named(names, all_records, Results.at(results)))
    output.hint(next_command("claims", results, "--paper", "2019"))


def _effects(loaded: "Loaded", metrics: Sequence[Metric]) -> "Table":
    """Return the table of marginal effects."""
    from analysis.report import tables
    from analysis.statistics.factorial import effects

    estimated, notes = effects(loaded.members, metrics)
    table = tables.effects_table(estimated, f"{loaded.sweep}: marginal effects, and interactions with the norm")
    table.notes += notes
    return table


@app.command("compare")
@takes_results
def compare_levels(
    results: str,
    factor: Annotated[str, typer.Option(help="The setting whose levels are compared.")] = "norm",
    reference: Annotated[str | None, typer.Option(help="The level that the others are compared with.")] = None,
    alternative: Annotated[str | None, typer.Option(help="greater, less or two-sided, for every metric.")] = None,
    metric: MetricNames = None,
    sweep: SweepName = None,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Test a factor's levels against a reference, paired over matching cells and seeds.

    The interval is the two-sided 95% one of the mean difference, d its effect size. For norms against none each p is
    one-sided, in the direction that the paper claims. Holm's correction is over all rows of the table.

    Example: python -m analysis compare results --factor norm

    Example: python -m analysis compare results --metric noise_acc --metric pgd_linf_acc
    """
    from analysis.cells import companions_note
    from analysis.load import load_all
    from analysis.report import tables
    from analysis.report.output import Output
    from analysis.statistics.paired import compare, units_note

    output, named, tabulated = Output(form, out), select_metrics(metric), []
    if alternative not in (None, "greater", "less", "two-sided"):
        raise unknown("alternative", str(alternative), ("greater", "less", "two-sided"))
    for loaded in load_all(Results.at(results), sweep, partial):
        metrics = with_robustness(named, loaded.members)
        comparison = compare(loaded.members, factor, reference, alternative, partial, metrics)
        table = tables.comparison_table(comparison, f"{loaded.sweep}: {factor}, paired tests over seeds")
        table.notes += [*companions_note(loaded.members, factor), *units_note(loaded.members)]
        tabulated.append(_add_notes(table, loaded))
    output.show(tabulated)
    output.hint(next_command("figures", results, *_named(sweep)))


@app.command("claims")
@takes_results
def decide_claims(
    results: str,
    sweep: SweepName = None,
    paper: Annotated[str | None, typer.Option(help="The claims of one paper, 2026 or 2019; by default both.")] = None,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Decide every empirical claim of the papers from the records: held, exceeded, not held, undecided or not run.

    Held: p < 0.05 in the claimed direction, which for a claim on every cell is the largest of the cells'. Exceeded: the
    same, and p < 0.05 that there is more of it than the paper's number. Not held: p < 0.05 against the claim, that it,
    or one cell, lies on the other side or short of the claimed size. Undecided: otherwise, or too few pairs. Not run:
    no records. Each p is by Holm's correction over all verdicts that can be given on its paper, with --sweep too, so
    that of ledgers in which nothing is so 5% have a false one on it. The paper's number lies inside, above or below our
    interval. A verdict is about the data beside it.

    Example: python -m analysis claims results

    Example: python -m analysis claims results --sweep label_noise

    Example: python -m analysis claims results --paper 2019
    """
    from analysis.claims.ledger import by_paper, ledger
    from analysis.report import tables
    from analysis.report.output import Output

    output, folder = Output(form, out), Results.at(results)
    entries = by_paper(ledger(folder, sweep, partial, paper))
    output.show([tables.claims_table(of_paper, f"The claims of {year}", folder) for year, of_paper in entries.items()])
    output.hint(next_command("report", results))


@app.command("amplification")
@takes_results
def show_amplification(
    results: str, sweep: SweepName = None, partial: Partial = False, form: Format = "text", out: Out = None
) -> None:
    """Compare the theory's amplification of influence, (gamma/sigma)^2, with the measured ratio of squared gradients.

    Beside it stands, over flipped samples, the measured ratio over that of Eq. 11 with each sample's margins.

    Example: python -m analysis amplification results --sweep influence
    """
    from analysis.load import load_all
    from analysis.report import tables
    from analysis.report.output import Output
    from analysis.statistics.amplification import amplification

    output, folder, tabulated = Output(form, out), Results.at(results), []
    for loaded in load_all(folder, sweep, partial):
        ratios = amplification(loaded, folder)
        table = tables.amplification_table(ratios, f"{loaded.sweep}: influence with batch norm over without")
        tabulated.append(_add_notes(table, loaded))
    output.show(tabulated)
    output.hint(next_command("report", results))


@app.command("membership")
@takes_results
def attack_models(
    results: str,
    attack: Annotated[list[str] | None, typer.Option(help="An attack to show; may be repeated.")] = None,
    shadows: Annotated[
        bool, typer.Option("--shadows", help="The AUC with fewer shadows, and in the limit of infinitely many.")
    ] = False,
    sweep: SweepName = None,
    figures: FigureFolder = None,
    width: Width = WIDTH,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Attack the models that were trained on halves of D' with one another as shadows, from their recorded scores.

    For each arm, and for the difference of two, the AUC is the mean over targets with its 95% interval over targets and
    samples. A rate that a target has too few non-members for is left out: 99 for 1%, 999 for 0.1%.

    Example: python -m analysis membership results --sweep membership

    Example: python -m analysis membership results --shadows

    Example: python -m analysis membership results --attack lira_online/per_example --attack global_threshold
    """
    from analysis.figures.membership import memorization_histograms, most_memorized_images, roc_curves
    from analysis.figures.panels import save_figure
    from analysis.load import load_all
    from analysis.report import tables
    from analysis.report.output import Output
    from analysis.statistics import membership

    output, tabulated, paths = Output(form, out), [], []
    all_records = load_all(Results.at(results), sweep, partial)
    with_shadows = [loaded for loaded in all_records if membership.has_shadow_models(loaded)] or all_records
    names = tuple(attack or membership.DEFAULT_ATTACKS)
    for loaded in with_shadows:
        audited = membership.audit_cells(loaded, Results.at(results))
        folder = _figure_folder(results, figures, loaded.sweep, len(with_shadows))
        of_sweep = tables.audit_tables(audited, names, loaded.sweep)
        if shadows:
            fewer = membership.auc_by_shadows(audited, attack or membership.BESIDE)
            of_sweep.append(tables.shadows_table(fewer, f"{loaded.sweep}: AUC by the number of shadows"))
        for table in of_sweep:
            table.sweep = loaded.sweep
        of_sweep[0].notes += loaded.notes
        tabulated += of_sweep
        images = membership.most_memorized(loaded, Results.at(results))
        with drawn_for(width):
            drawn = {"roc": roc_curves(audited, names[0]), "counterfactual": memorization_histograms(audited)}
            if len(images):
                drawn["most_memorized"] = most_memorized_images(images)
        paths += [path for name, figure in drawn.items() for path in save_figure(figure, folder / name)]
    output.show(tabulated)
    for path in paths:
        output.say(f"figure: {path}")
    output.hint(next_command("report", results))


@app.command("robustness")
@takes_results
def show_robustness(
    results: str,
    sweep: SweepName = None,
    figures: FigureFolder = None,
    width: Width = WIDTH,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Show what is left of the accuracy under noise and attacks, and whether the attacks themselves are sound.

    Each arm's accuracy stands against epsilon, steps and severity, beside that on the same images as they are and as a
    share of it, with 95% intervals over seeds. The attacks are judged for each arm by sanity checks, pass or fail; a
    check that fails is a warning. Of batch norm there are controls with other statistics than its own.

    Example: python -m analysis robustness results --sweep panel

    Example: python -m analysis robustness results --format csv --out robustness.csv
    """
    from analysis.figures.panels import save_figure
    from analysis.figures.robustness import accuracy_curves
    from analysis.load import load_all
    from analysis.report.output import Output
    from analysis.report.robustness import robustness_tables
    from analysis.statistics.robustness import robustness_rows, strengths

    output, folder, tabulated, said = Output(form, out), Results.at(results), [], []
    all_records = _measured(load_all(folder, sweep, partial), "robustness")
    for loaded in all_records:
        rows = robustness_rows(loaded, folder)
        tabulated += [_add_notes(table, loaded) for table in robustness_tables(rows, loaded.members, loaded.sweep)]
        place = _figure_folder(results, figures, loaded.sweep, len(all_records))
        try:
            with drawn_for(width):
                drawn = accuracy_curves(strengths(rows, loaded.members), loaded.members)
        except BadInputError as problem:
            said.append(f"{loaded.sweep}: no figure: {problem}")
        else:
            said += [f"figure: {path}" for path in save_figure(drawn, place / "robustness")]
    output.show(tabulated)
    for line in said:
        output.say(line)
    output.hint(next_command("panel", results, *_named(sweep)))


def _measured(all_records: "list[Loaded]", setting: str) -> "list[Loaded]":
    """Return the sweeps that have a measurement which a setting asks for; all, where none has it."""
    return [loaded for loaded in all_records if (loaded.members[setting] != "none").any()] or all_records


@app.command("panel")
@takes_results
def show_panel(
    results: str,
    reference: Annotated[str | None, typer.Option(help="The norm that the others are compared with.")] = None,
    sweep: SweepName = None,
    figures: FigureFolder = None,
    width: Width = WIDTH,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Show what each norm costs in memorization, privacy and robustness, side by side.

    The means have 95% intervals over seeds, or over the models where all share one D'; of membership the unit is the
    D'. Each norm is compared with the reference, paired, with Holm's correction over the panel.

    Example: python -m analysis panel results --sweep panel

    Example: python -m analysis panel results --reference batch --format markdown
    """
    from analysis.figures.panels import save_figure
    from analysis.figures.robustness import panel_figure
    from analysis.load import load_all
    from analysis.report.output import Output
    from analysis.report.robustness import panel_tables
    from analysis.statistics.paired import units_note
    from analysis.statistics.panel import panel

    output, tabulated, paths = Output(form, out), [], []
    all_records = load_all(Results.at(results), sweep, partial)
    with_arms = [loaded for loaded in all_records if loaded.members["norm"].nunique() > 1] or all_records
    for loaded in with_arms:
        found = panel(loaded.members, reference, partial)
        of_sweep = [_add_notes(table, loaded) for table in panel_tables(found, loaded.sweep)]
        of_sweep[-1].notes += units_note(loaded.members)
        tabulated += of_sweep
        place = _figure_folder(results, figures, loaded.sweep, len(with_arms))
        if found["measured"].any():
            with drawn_for(width):
                drawn = panel_figure(found, loaded.members)
            paths += save_figure(drawn, place / "panel")
    output.show(tabulated)
    for path in paths:
        output.say(f"figure: {path}")
    output.hint(next_command("report", results))


@app.command("tradeoff")
@takes_results
def show_tradeoff(
    results: str,
    max_accuracy_loss: MaxLoss = MAX_LOSS,
    sweep: Annotated[str, typer.Option(help="The tuning.")] = SEARCHES["tpe"],
    figures: FigureFolder = None,
    width: Width = WIDTH,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Show what a tuned regularizer buys and costs: the front, the recommended setting, and its rivals on fresh seeds.

    Settings are chosen on the validation samples alone. The rivals, and the setting itself, are compared with
    norm=batch in paired two-sided tests over seeds that no search has seen, on the test set. The paper's claims on
    Fig. 8 are decided from these records: held, not held or undecided.

    Example: python -m analysis tradeoff results --max-accuracy-loss 0.01
    """
    from analysis.report import tables
    from analysis.report.output import Output
    from analysis.tuning.importance import importances
    from analysis.tuning.tradeoff import load_tuned_cells

    output = Output(form, out)
    tuned, loaded = load_tuned_cells(Results.at(results), sweep, max_accuracy_loss, partial)
    storage = Path(results) / sweep / STORAGE
    shares = importances(storage, tuned) if storage.is_file() else None
    folder = _figure_folder(results, figures, sweep)
    tabulated = [table for cell in tuned for table in tables.tuning_tables(cell, f"{sweep}: {cell.title}")]
    tabulated[-1].notes += [note for part in loaded for note in part.notes]
    output.show(tabulated)
    with drawn_for(width):
        _draw_tuned(tuned, shares, folder, output)
    output.hint(next_command("report", results))


def _draw_tuned(tuned: Sequence["TunedCell"], shares: "pd.DataFrame | None", folder: Path, output: "Output") -> None:
    """Draw the figures of a tuning and print their paths, or why there is none.

    Args:
        tuned: the tuned cells.
        shares: the importance of the parameters; None where Optuna's storage is missing.
        folder: where the figures go.
        output: where the messages go.
    """
    from analysis.figures.panels import save_figure
    from analysis.tuning.figures import hypervolume_figure, importance_figure, tradeoff_figure
    from analysis.tuning.importance import FEWEST_TRIALS

    drawn = {"hypervolume": hypervolume_figure(tuned)}
    if any(len(cell.usable) for cell in tuned):
        drawn["tradeoff"] = tradeoff_figure(tuned)
    if shares is not None and len(shares):
        drawn["importance"] = importance_figure(shares)
    for name, figure in drawn.items():
        for path in save_figure(figure, folder / name):
            output.say(f"figure: {path}")
    if "tradeoff" not in drawn:
        output.say("no figure of the front: no searched setting gave a result.")
    if shares is None:
        output.say("no figure of importance: there is no storage of Optuna's beside the records.")
    elif shares.empty:
        output.say(f"no figure of importance: no study has {FEWEST_TRIALS} trials with a result.")


@app.command("figures")
@takes_results
def draw_paper_figures(
    results: str,
    sweep: SweepName = None,
    figure: Annotated[list[str] | None, typer.Option(help="A figure to draw, as fig1; may be repeated.")] = None,
    folder: FigureFolder = None,
    width: Width = WIDTH,
    partial: Partial = False,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Draw the paper's figures that there are records of, as PNG, PDF and SVG, and list them with their paths.

    A sweep that feeds none of the paper's figures gets the figure `memorization`.

    Example: python -m analysis figures results --sweep quickstart

    Example: python -m analysis figures results --figure fig2 --figure fig10
    """
    import pandas as pd

    from analysis.figures.catalog import draw_figures, sweeps_feeding
    from analysis.figures.panels import FORMATS, save_figure
    from analysis.load import load_all
    from analysis.report import tables
    from analysis.report.output import Output

    output, records = Output(form, out), Results.at(results)
    names = sweeps_feeding(figure, records.sweeps()) if figure and sweep is None else [sweep]
    all_records = [loaded for name in names for loaded in load_all(records, name, partial)]
    rows, reasons = [], {}
    for loaded in all_records:
        place = _figure_folder(results, folder, loaded.sweep, len(all_records))
        with drawn_for(width):
            of_sweep = draw_figures(loaded, records, figure)
        for paper, drawn in of_sweep:
            if isinstance(drawn, str):
                reasons[paper.name] = f"{paper.name}: {drawn}"
                continue
            files = dict(zip(FORMATS, map(str, save_figure(drawn, place / paper.name)), strict=True))
            labels = {"figure": paper.name, "place": paper.place, "caption": paper.caption}
            rows.append({"sweep": loaded.sweep, **labels, **files})
    not_drawn = [reasons[name] for name in reasons if name not in {row["figure"] for row in rows}]
    if not_drawn and (figure or not rows):
        raise BadInputError(" ".join(not_drawn))
    table = tables.figures_table(pd.DataFrame(rows), str(records))
    table.notes += [*not_drawn, *(f"records: {records.below(loaded.sweep)}" for loaded in all_records)]
    table.notes += [note for loaded in all_records for note in loaded.notes]
    output.show([table])
    output.hint(next_command("report", results))


@app.command("report")
@takes_results
def write_report(
    results: str,
    max_accuracy_loss: MaxLoss = MAX_LOSS,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="FILE", help="The page; by default RESULTS/report.html, and with --docs docs/results.md."
        ),
    ] = None,
    docs: Annotated[
        bool, typer.Option("--docs", help="Write the page of results in Markdown, from a folder of evidence.")
    ] = False,
    partial: Partial = False,
) -> None:
    """Write all results as one HTML file that needs no network: summary, claims, tables, figures, costs, provenance.

    With --docs they are Markdown: for each sweep the command, the machine, the hours, the verdicts with our numbers
    beside the paper's, and what `comments.toml` in the folder says of them. What is missing is said there.

    Example: python -m analysis report results

    Example: python -m analysis report docs/evidence --docs
    """
    from analysis.report.output import write

    if docs:
        _write_results_page(results, out or Path("docs/results.md"))
        return
    from analysis.report.page import report

    if out is None and is_uri(results):
        raise BadInputError("the report of results on a URI needs a local file: --out FILE.")
    file = out or Path(results) / "report.html"
    with console.status("reading records ...") as status:
        page = report(
            Results.at(results), max_accuracy_loss, partial, lambda part: status.update(f"working on {part} ...")
        )
    write(file, page, "the report")
    console.print(f"report: {file}", soft_wrap=True)


def _write_results_page(results: str, file: Path) -> None:
    """Write the page of results, and name the claims that differ from the paper and have no comment yet."""
    from analysis.report.output import write
    from analysis.report.results_page import COMMENTS, results_page

    with console.status("reading records ..."):
        page, uncommented = results_page(Results.at(results))
    write(file, page, "the page of results")
    console.print(f"results: {file}", soft_wrap=True)
    if uncommented:
        of = ", ".join(uncommented)
        console.print(f"not as the paper says, and without a comment in {COMMENTS}: {of}", soft_wrap=True)


@app.command("evidence")
@takes_results
def take_evidence(
    results: str,
    into: Annotated[Path, typer.Option(metavar="DIR", help="The folder of the evidence.")] = Path("docs/evidence"),
    without: Annotated[
        list[str] | None, typer.Option("--without", metavar="TABLE", help="A table to leave out; may be repeated.")
    ] = None,
    every: Annotated[
        list[str] | None,
        typer.Option("--every", metavar="TABLE=N", help="Keep each N-th epoch of a table; may be repeated."),
    ] = None,
    sweep: SweepName = None,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Put what verdicts rest on into a small folder for version control: no row a sample, and at most 5 MB in all.

    Every trial that is recorded is taken, with the plans, while its sweep may still be running. Run again, it adds
    trials and replaces those that were run again, and loses none. All other commands read that folder as any other.

    Example: python -m analysis evidence results --into docs/evidence

    Example: python -m analysis evidence results --sweep label_noise --every layers=10
    """
    from analysis.evidence import parse_every, take
    from analysis.report import tables
    from analysis.report.output import Output

    output, folder = Output(form, out), Results.at(into)
    taken = take(Results.at(results), folder, sweep, without or (), parse_every(every or ()))
    output.show([tables.evidence_table(taken, f"Taken into {into}")])
    output.hint(next_command("claims", str(into), "--partial"))


@app.command("bench")
def time_analysis(
    members: Annotated[int, typer.Option(help="How many members, five a trial.", min=1, max=20_000)] = 20_000,
    epochs: Annotated[int, typer.Option(help="How many points each member's curve has.", min=1)] = 200,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Time the analysis over a large grid: made-up records, loaded and tabulated with their curves.

    Example: python -m analysis bench --members 2000
    """
    from analysis.bench import bench
    from analysis.report import tables
    from analysis.report.output import Output

    output = Output(form, out)
    output.show([tables.bench_table(bench(members, epochs), f"{members} members with {epochs} epochs each")])


@app.command("audit-statistics")
def audit_statistics(
    question: Annotated[list[str] | None, typer.Option(help="A question of the audit; may be repeated.")] = None,
    fraction: Annotated[float, typer.Option(help="The share of the replicates that is drawn.", min=0, max=1)] = 1.0,
    seed: Annotated[int, typer.Option(help="The seed of the simulations.", min=0)] = 0,
    processes: Annotated[int, typer.Option(help="How many processes draw replicates.", min=1)] = 2,
    form: Format = "text",
    out: Out = None,
) -> None:
    """Put the statistics to worlds whose truth is known, and report error rates, coverage and biases.

    Each attack, test and interval is given simulated scores or results, as the analysis gives it recorded ones. Every
    row is held to a bound, and one that is out of it ends the command with code 1. The whole audit takes some 15
    minutes on two cores.

    Example: python -m analysis audit-statistics --fraction 0.05

    Example: python -m analysis audit-statistics --question attacks --question units --format markdown --out audit.md
    """
    from analysis.report import tables
    from analysis.report.output import Output
    from analysis.simulations.audit import audit, select_questions

    questions, output = select_questions(question or ()), Output(form, out)
    with ProgressDisplay(on=output.messages()) as display:
        rows = audit(questions, fraction, seed, processes, display.add("audit of the statistics"))
    output.show([tables.simulations_table(rows, "Audit of the statistics, by simulations of known truth")])
    if not all(row.within for row in rows):
        raise typer.Exit(1)


def _figure_folder(results: str, folder: Path | None, sweep: str, sweeps: int = 1) -> Path:
    """Return the folder of a sweep's figures; of several sweeps each has its own, so that none overwrites another's."""
    if folder is not None:
        return folder if sweeps == 1 else folder / sweep
    if is_uri(results):
        raise BadInputError("figures of results on a URI need a local folder: --figures DIR.")
    return Path(results) / sweep / "figures"


def _named(sweep: str | None) -> list[str]:
    """Return the option that names the sweep, where the user has named one."""
    return [] if sweep is None else ["--sweep", sweep]


def _title(loaded: "Loaded") -> str:
    """Return the title of a sweep's table."""
    from analysis.cells import shared_settings

    return f"{loaded.sweep}: {shared_settings(loaded.members)}, {len(loaded.members)} members, mean ± sd over seeds"


def _add_notes(table: "Table", loaded: "Loaded") -> "Table":
    """Add of which sweep a table is and notes of what a partial grid lacks, and return the table."""
    table.sweep = loaded.sweep
    table.notes += loaded.notes
    return table


if __name__ == "__main__":
    main(app, "python -m analysis")
