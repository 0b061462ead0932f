"""`python -m analysis`: tables, tests and figures from a results folder."""

from pathlib import Path
from typing import Annotated

import typer

from analysis import amplification as amplifications
from analysis import compare as tests
from analysis import tables as summaries
from analysis.cells import common
from analysis.load import Loaded, load_all
from study.errors import BadInputError, unknown
from study.record import Results
from study.terminal import application, console, main, show

app = application("Turn records into tables, tests and figures.")
ResultsDir = Annotated[str, typer.Argument(metavar="RESULTS", help="The results folder, a local path or a URI.")]
SweepName = Annotated[str | None, typer.Option("--sweep", help="Only this sweep; by default every one in RESULTS.")]
Partial = Annotated[bool, typer.Option("--partial", help="Accept a grid with holes and say how many there are.")]


@app.command()
def tables(results: ResultsDir, sweep: SweepName = None, partial: Partial = False) -> None:
    """Print each cell's mean and standard deviation over its seeds.

    Example: python -m analysis tables results --sweep quickstart
    """
    for loaded in load_all(Results.at(results), sweep, partial):
        show(summaries.summary_table(summaries.summary(loaded.members), _title(loaded)))
        _say_missing(loaded)


@app.command()
def compare(
    results: ResultsDir,
    factor: Annotated[str, typer.Option(help="The setting whose levels are compared.")] = "norm",
    reference: Annotated[str | None, typer.Option(help="The level that the others are held against.")] = None,
    alternative: Annotated[str | None, typer.Option(help="greater, less or two-sided, for every metric.")] = None,
    sweep: SweepName = None,
    partial: Partial = False,
) -> None:
    """Test a factor's levels against a reference, paired over matching cells and seeds.

    The interval is the two-sided 95% one of the mean difference, d its effect size. For norms against none each p is
    one-sided, in the direction that the paper claims. Holm's correction is over all rows of the table.

    Example: python -m analysis compare results --factor norm
    """
    if alternative not in (None, "greater", "less", "two-sided"):
        raise unknown("alternative", str(alternative), ("greater", "less", "two-sided"))
    for loaded in load_all(Results.at(results), sweep, partial):
        tested = tests.compare(loaded.members, factor, reference, alternative, partial)
        show(summaries.comparison_table(tested, f"{loaded.sweep}: {factor}, paired t-tests over seeds"))
        _say_missing(loaded)


@app.command()
def claims(results: ResultsDir, sweep: SweepName = None, partial: Partial = False) -> None:
    """Hold every empirical claim of the paper against the records: held, not held, undecided or not run.

    Held: p < 0.05 in the claimed direction, by Holm's correction over all claims that were tested, and for a claim on
    every cell each cell has the sign. Not held: the 95% interval lies wholly on the other side or short of the claimed
    size, or that of one cell does where every cell is claimed. Undecided: otherwise, or too few pairs. Not run: no
    records. The paper's number lies inside, above or below our interval. A verdict is about the data beside it.

    Example: python -m analysis claims results

    Example: python -m analysis claims results --sweep label_noise
    """
    from analysis import claims as ledgers

    where = Results.at(results)
    entries = ledgers.ledger(where, sweep, partial)
    show(summaries.claims_table(entries))
    for entry in entries:
        console.print(summaries.claim_note(entry, where), soft_wrap=not console.is_terminal)
    console.print(summaries.claims_count(entries))


@app.command()
def amplification(results: ResultsDir, sweep: SweepName = None, partial: Partial = False) -> None:
    """Hold the theory's amplification of influence, (gamma/sigma)^2, against the measured ratio of squared gradients.

    Example: python -m analysis amplification results --sweep influence
    """
    for loaded in load_all(Results.at(results), sweep, partial):
        found = amplifications.amplification(loaded.members)
        show(summaries.amplification_table(found, f"{loaded.sweep}: influence with batch norm over without"))
        _say_missing(loaded)


@app.command()
def membership(
    results: ResultsDir,
    attack: Annotated[list[str] | None, typer.Option(help="An attack to show; may be repeated.")] = None,
    sweep: SweepName = None,
    out: Annotated[Path | None, typer.Option(help="Folder for figures; by default RESULTS/SWEEP/figures.")] = None,
    partial: Partial = False,
) -> None:
    """Attack the models that were trained on halves of D' with one another as shadows, from their recorded scores.

    For each arm, and for the difference of two, the AUC is the mean over targets with its 95% interval over targets and
    samples. A rate that a target has too few non-members for is left out: 100 for 1%, 1,000 for 0.1%.

    Example: python -m analysis membership results --sweep membership

    Example: python -m analysis membership results --attack lira_online/per_example --attack global_threshold
    """
    from analysis import audit
    from analysis.figures import memorized, most_memorized, roc, save

    every = load_all(Results.at(results), sweep, partial)
    with_halves = [loaded for loaded in every if audit.has_halves(loaded)] or every
    names = tuple(attack or audit.SHOWN)
    for loaded in with_halves:
        found = audit.audits(loaded, Results.at(results))
        folder = _figure_folder(
            results, out if out is None or len(with_halves) == 1 else out / loaded.sweep, loaded.sweep
        )
        show(summaries.audit_table(audit.table(found, names), f"{loaded.sweep}: membership inference"))
        gained = audit.differences(found, names)
        if len(gained):
            show(summaries.difference_table(gained, f"{loaded.sweep}: AUC of one arm less that of the other"))
        drawn = {"roc": roc(found, names[0]), "counterfactual": memorized(found)}
        images = audit.most_memorized(loaded, Results.at(results))
        if len(images):
            drawn["most_memorized"] = most_memorized(images)
        for name, figure in drawn.items():
            for path in save(figure, folder / name):
                print(f"figure: {path}")
        _say_missing(loaded)


@app.command()
def figures(
    results: ResultsDir,
    sweep: SweepName = None,
    out: Annotated[Path | None, typer.Option(help="Folder for them; by default RESULTS/SWEEP/figures.")] = None,
    partial: Partial = False,
) -> None:
    """Draw the figures as PNG and PDF, and print their paths.

    Example: python -m analysis figures results --sweep quickstart
    """
    from analysis.figures import FIGURES, save  # seaborn takes a second to import

    every = load_all(Results.at(results), sweep, partial)
    for loaded in every:
        # Two sweeps in one folder would overwrite each other's figures.
        folder = _figure_folder(results, out if out is None or len(every) == 1 else out / loaded.sweep, loaded.sweep)
        for name, draw in FIGURES.items():
            for path in save(draw(loaded.members), folder / name):
                print(f"figure: {path}")
        print(f"records: {Results.at(results)}/{loaded.sweep}")
        _say_missing(loaded)


def _figure_folder(results: str, out: Path | None, sweep: str) -> Path:
    if out is not None:
        return out
    if "://" in results:
        raise BadInputError("figures of results on a URI need a local folder: --out DIR.")
    return Path(results) / sweep / "figures"


def _title(loaded: Loaded) -> str:
    return f"{loaded.sweep}: {common(loaded.members)}, {len(loaded.members)} members, mean ± sd over seeds"


def _say_missing(loaded: Loaded) -> None:
    if loaded.missing:
        console.print(f"{loaded.sweep}: {loaded.missing} of {loaded.planned} planned members are missing.")


if __name__ == "__main__":
    main(app, "python -m analysis")
