"""`python -m analysis`: tables, tests and figures from a results folder."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import pandas as pd
import typer

from analysis import amplification as amplifications
from analysis import compare as tests
from analysis import tables as summaries
from analysis.cells import common
from analysis.load import Loaded, load, load_all
from study.errors import BadInputError, unknown
from study.record import Results
from study.terminal import application, console, main, show
from sweeps.tuning import SEARCHES, STORAGE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.tradeoff import Tuning

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
def tradeoff(
    results: ResultsDir,
    max_accuracy_loss: Annotated[
        float, typer.Option(min=0, max=1, help="The validation accuracy that the recommended setting may lose.")
    ] = 0.01,
    sweep: Annotated[str, typer.Option(help="The tuning.")] = SEARCHES["tpe"],
    out: Annotated[Path | None, typer.Option(help="Folder for figures; by default RESULTS/SWEEP/figures.")] = None,
    partial: Partial = False,
) -> None:
    """Show what a tuned regularizer buys and costs: the front, the recommended setting, and its rivals on fresh seeds.

    Settings are chosen on the validation samples alone. The rivals, and the setting itself, are held against norm=batch
    in paired two-sided tests over seeds that no search has seen, on the test set.

    Example: python -m analysis tradeoff results --max-accuracy-loss 0.01
    """
    from analysis import tradeoff as tradeoffs
    from analysis.importance import importances

    every = {name: _load_if_there(Results.at(results), name, partial) for name in _parts(sweep)}
    searched, random, confirmed = (None if found is None else found.members for found in every.values())
    if searched is None:
        raise BadInputError(
            f"{results} holds no tuning {sweep}; make one with `python -m sweeps tune regularizer --results {results}`."
        )
    tuned = tradeoffs.tunings(searched, random, confirmed, max_accuracy_loss)
    storage = Path(results) / sweep / STORAGE
    weights = importances(storage, tuned) if storage.is_file() else None
    folder = _figure_folder(results, out, sweep)
    for tuning in tuned:
        _say_tuning(tuning, f"{sweep}: {tuning.title}")
    _draw_tuned(tuned, weights, folder)
    for loaded in filter(None, every.values()):
        _say_missing(loaded)


def _say_tuning(tuning: "Tuning", title: str) -> None:
    """All there is to say of one cell: the front, what to choose, its rivals, the searches and the paper's findings."""
    from analysis.tradeoff import comparisons, findings

    left_out = len(tuning.searched) - len(tuning.usable)
    size = f"front of {len(tuning.searched)} settings, {left_out} of which failed or diverged"
    show(summaries.tuned_table(tuning, f"{title}, {size}; means over seeds, chosen without the test set"))
    _say(summaries.recommendation(tuning))
    tested = comparisons(tuning)
    if len(tested):
        show(summaries.arms_table(tuning, f"{title}, fresh seeds: mean ± sd, below it the change from norm=batch"))
        show(summaries.comparison_table(tested, f"{title}, fresh seeds: paired t-tests, two-sided"))
    if not len(tested) or tuning.recommended_arm not in {None, *tested["arm"]}:
        what = "The recommended setting" if len(tested) else "No arm"
        measured = "has not been measured" if len(tested) else "has been measured"
        again = (
            f"`python -m sweeps tune regularizer` with --max-accuracy-loss {tuning.max_loss:g} and all else as before"
        )
        _say(f"{what} {measured} on fresh seeds; {again} does.")
    _say(summaries.searches(tuning))
    for found in findings(tuning):
        _say(f"Fig. 8, {found.claim}: {found.verdict}; {found.evidence}.")


def _draw_tuned(tuned: "Sequence[Tuning]", weights: pd.DataFrame | None, folder: Path) -> None:
    from analysis import figures as draw
    from analysis.importance import FEWEST_TRIALS

    drawn = {"hypervolume": draw.hypervolume(tuned)}
    if any(len(tuning.usable) for tuning in tuned):
        drawn["tradeoff"] = draw.tradeoff(tuned)
    if weights is not None and len(weights):
        drawn["importance"] = draw.importance(weights)
    for name, figure in drawn.items():
        for path in draw.save(figure, folder / name):
            print(f"figure: {path}")
    if "tradeoff" not in drawn:
        print("no figure of the front: no searched setting gave a result.")
    if weights is None:
        print("no figure of importance: there is no storage of Optuna's beside the records.")
    elif weights.empty:
        print(f"no figure of importance: no study has {FEWEST_TRIALS} trials with a result.")


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


def _parts(sweep: str) -> tuple[str, str, str]:
    """The records of a tuning: those of its search, of random search and on fresh seeds."""
    return sweep, f"{sweep}_random", f"{sweep}_confirm"


def _load_if_there(results: Results, sweep: str, partial: bool) -> Loaded | None:
    return load(results, sweep, partial) if sweep in results.sweeps() else None


def _figure_folder(results: str, out: Path | None, sweep: str) -> Path:
    if out is not None:
        return out
    if "://" in results:
        raise BadInputError("figures of results on a URI need a local folder: --out DIR.")
    return Path(results) / sweep / "figures"


def _title(loaded: Loaded) -> str:
    return f"{loaded.sweep}: {common(loaded.members)}, {len(loaded.members)} members, mean ± sd over seeds"


def _say(sentence: str) -> None:
    console.print(sentence, soft_wrap=True)


def _say_missing(loaded: Loaded) -> None:
    if loaded.missing:
        console.print(f"{loaded.sweep}: {loaded.missing} of {loaded.planned} planned members are missing.")


if __name__ == "__main__":
    main(app, "python -m analysis")
