"""The report: all results in one HTML file that needs no network, from the summary to the provenance of the numbers."""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial as bind
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.cells import shared_settings, varying_settings
from analysis.claims.ledger import NOT_RUN, VERDICTS, Entry, by_paper, ledger
from analysis.figures.catalog import draw_figures
from analysis.figures.membership import memorization_histograms, most_memorized_images
from analysis.figures.names import NORM_NAMES, RESULT_NAMES, display_level
from analysis.figures.robustness import accuracy_curves, panel_figure
from analysis.figures.svg import svg
from analysis.load import Loaded, load_all
from analysis.metrics import METRICS, with_robustness
from analysis.report import tables
from analysis.report.output import Best, Table
from analysis.report.overview import overview_table
from analysis.report.paper_layout import PaperTable
from analysis.report.paper_tables import PAPER_TABLES, paper_table
from analysis.report.robustness import panel_tables, robustness_tables
from analysis.report.words import code_text, hours_text, listed, short_commit
from analysis.statistics import membership
from analysis.statistics.amplification import amplification
from analysis.statistics.factorial import effects
from analysis.statistics.paired import compare
from analysis.statistics.panel import panel
from analysis.statistics.robustness import failures, judge, robustness_rows, strengths
from analysis.tuning.figures import hypervolume_figure, importance_figure, tradeoff_figure
from analysis.tuning.importance import importances
from analysis.tuning.tradeoff import TunedCell, load_tuned_cells, sweep_names
from study.errors import BadInputError
from study.mia.audit import MAIN_ATTACK
from study.record.results import Results
from study.settings import format_value
from study.storage.location import is_uri
from sweeps.plan import command
from sweeps.registry import PAPERS, SWEEPS, joins_papers, papers_of
from sweeps.tuning.space import MAX_LOSS, SEARCHES, STORAGE

LINES = 10
"""The most lines of the summary."""
ROWS = 24
"""The most rows of a table that is not folded away at first."""
FAILURES = 200
"""The most excluded trials that are listed."""
FACTORS = 3
"""The least factors, the norm among them, of a grid that gets the model of their effects."""
TUNED = "2026"
"""The paper whose regularizer is tuned."""
HEADLINE = ("mem_acc", "mia_auc", "test_acc")
"""The metrics of a sweep's line in the summary."""

Progress = Callable[[str], None]
"""Receives the name of what is being worked on."""


@dataclass
class Section:
    """A part of the report.

    Attributes:
        title: its heading.
        lead: a sentence on what it is about.
        found: in words, what was found, how sure that is, and what it does not show.
        figures: its figures in order.
        tables: its tables in order, after the figures.
        folded: tables that are folded away at first.
        notes: sentences at its end.
        code: commands, a line each.
    """

    title: str
    lead: str = ""
    found: str = ""
    figures: list["PageFigure"] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    folded: list[Table] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """The fragment of a link to it."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class PageFigure:
    """A figure on the page.

    Attributes:
        place: its place in the paper; empty for our own.
        caption: what it shows.
        figure: the figure.
    """

    place: str
    caption: str
    figure: Figure

    @property
    def width(self) -> float:
        """The width in pixels, at 96 to the inch."""
        return 96 * float(self.figure.get_figwidth())

    @property
    def drawing(self) -> Markup:
        """The figure as SVG; its texts are escaped already."""
        return Markup(svg(self.figure))


@dataclass
class Chapter:
    """A page of the report, which has a heading of its own and begins a new sheet of paper.

    Attributes:
        title: its heading; empty where it has none.
        lead: what it is about.
        sections: its parts in order.
    """

    title: str
    lead: str = ""
    sections: list[Section] = field(default_factory=list)


def report(
    results: Results, max_loss: float = MAX_LOSS, partial: bool = False, progress: Progress = lambda _: None
) -> str:
    """Return the whole page.

    The same records always give the same page: nothing in it depends on when it was made.

    Args:
        results: the results folder, with any number of sweeps.
        max_loss: the validation accuracy that a tuned setting may lose.
        partial: accept grids with holes, and say what they lack.
        progress: called with the name of what is being worked on.

    Raises:
        BadInputError: there are no records, or a grid is incomplete, doubled or of another schema.
    """
    progress("records")
    all_records = load_all(results, None, partial)
    of_tuning = sweep_names(SEARCHES["tpe"])
    order = list(SWEEPS)
    sweeps = [loaded for loaded in all_records if loaded.sweep not in of_tuning]
    sweeps.sort(key=lambda loaded: order.index(loaded.sweep) if loaded.sweep in order else len(order))
    made: dict[str, Section] = {}
    headlines: list[str] = []
    for loaded in sweeps:
        progress(loaded.sweep)
        made[loaded.sweep], headline = _sweep(loaded, results, partial)
        headlines += headline
    tuned: list[Section] = []
    if len(sweeps) < len(all_records):
        progress("trade-off")
        section, headline = _tradeoff(results, max_loss, partial)
        tuned.append(section)
        headlines = headline + headlines  # the summary cuts the last ones off where there is no room for all
    progress("claims")
    entries = ledger(results, None, partial)
    chapters = [_both(sweeps, made)]
    for year, of_paper in by_paper(entries).items():
        own = [made[loaded.sweep] for loaded in sweeps if papers_of(loaded.sweep) == (year,)]
        own += tuned if year == TUNED else []
        chapters.append(Chapter(f"The paper of {year}", PAPERS[int(year)], [*own, _claims(year, of_paper, results)]))
    chapters.append(
        Chapter("Other sweeps", "", [made[loaded.sweep] for loaded in sweeps if not papers_of(loaded.sweep)])
    )
    progress("provenance")
    about = [_excluded(all_records), _costs(all_records), _provenance(all_records), _commands(all_records, results)]
    chapters.append(Chapter("The records", "", about))
    summary = _summary(all_records, entries, headlines)
    title = f"normleak: {results if is_uri(results.location) else Path(results.location).name}"
    first = next((section for section in made.values() if section.found), Section(""))
    found, first.found = first.found, ""  # said once, at the top
    return _page(title, found, summary, [chapter for chapter in chapters if chapter.sections])


def _both(sweeps: Sequence[Loaded], made: Mapping[str, Section]) -> Chapter:
    """Return the chapter on both papers: the panel over all sweeps, and the sweeps that join them."""
    table = overview_table(sweeps)
    panels = [] if table is None else [Section("The panel", "What batch norm costs, and what it buys.", tables=[table])]
    return Chapter("Both papers", "", [*panels, *(made[each.sweep] for each in sweeps if joins_papers(each.sweep))])


def _page(title: str, found: str, summary: Sequence[str], chapters: Sequence[Chapter]) -> str:
    """Return the chapters as HTML, under what was found and a summary."""
    environment = Environment(
        loader=PackageLoader("analysis.report", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.tests["best"] = lambda cell: isinstance(cell, Best)
    template = environment.get_template("page.html")
    return template.render(title=title, found=found, summary=summary, chapters=chapters, folded=ROWS)


# The summary ----------------------------------------------------------------------------------------------------------


def _summary(all_records: Sequence[Loaded], entries: Sequence[Entry], headlines: Sequence[str]) -> list[str]:
    """Return the summary, at most `LINES` lines: the effects, the verdicts, the records and the costs."""
    members = pd.concat([loaded.members for loaded in all_records])
    excluded, missing = int((members["status"] != "ok").sum()), sum(loaded.missing for loaded in all_records)
    where = f"on {listed(members['dataset'])}, with {listed(members['architecture'])}"
    first = f"{len(members):,} networks of {len(all_records)} sweep{'s' * (len(all_records) > 1)} {where}."
    lost = f"{excluded:,} of them diverged or failed, and are left out of every mean and counted beside it."
    lost = lost if excluded else "None of them diverged or failed."
    if missing:
        lost += f" {missing:,} more were planned and have no record."
    claims = [_decided(year, of_paper) for year, of_paper in by_paper(entries).items() if _are_tested(of_paper)]
    claims = claims or ["These records test none of the papers' claims."]
    last = f"{hours_text(members['seconds'].sum())} on {listed(members['device'].dropna())}; {code_text(members)}."
    room = LINES - 3 - len(claims)
    lines = list(headlines[:room])
    if len(headlines) > room:
        lines = [*headlines[: room - 1], f"{len(headlines) - room + 1} more sweeps are below."]
    return [*lines, *claims, first, lost, last]


def _are_tested(entries: Sequence[Entry]) -> bool:
    """Return whether records test any of the claims."""
    return any(entry.verdict != NOT_RUN for entry in entries)


def _decided(year: str, entries: Sequence[Entry]) -> str:
    """Return a sentence on how many claims of a paper these records test, and with which verdicts."""
    ids = {verdict: [entry.claim.id for entry in entries if entry.verdict == verdict] for verdict in VERDICTS}
    tested = len(entries) - len(ids.pop(NOT_RUN))
    named = {verdict: f" ({', '.join(of)})" if of and verdict == "not held" else "" for verdict, of in ids.items()}
    decided = ", ".join(f"{len(of)} {verdict}{named[verdict]}" for verdict, of in ids.items())
    return f"Of the {len(entries)} claims of the paper of {year} these records test {tested}: {decided}."


# The claims -----------------------------------------------------------------------------------------------------------


def _claims(year: str, entries: Sequence[Entry], results: Results) -> Section:
    """Return the section with a paper's claims: those that the records test, and folded away those that they don't."""
    section = Section(f"The claims of {year}", "What the paper says, and what these records say of it.")
    tested = [entry for entry in entries if entry.verdict != NOT_RUN]
    if tested:
        title = f"The claims of {year} that these records test"
        section.tables.append(tables.ledger_table(tested, title, results))
    if len(tested) < len(entries):
        title = f"Claims of {year} that no record tests, and what would"
        section.folded.append(tables.not_run_table(entries, title, results))
    if not tested:
        section.notes.append(f"These records test none of the claims of {year}.")
        return section
    section.notes.append(
        "Held: p < 0.05 in the claimed direction, which for a claim on every cell is the largest of the cells'. "
        "Exceeded: the same, and p < 0.05 that there is more of it than the paper's number. Not held: p < 0.05 against "
        "the claim, that it, or one cell, lies on the other side or short of the claimed size. Undecided: otherwise, "
        f"or too few pairs. A verdict is about the records beside it. {tables.FALSE_VERDICTS}"
    )
    return section


# A sweep --------------------------------------------------------------------------------------------------------------


def _sweep(loaded: Loaded, results: Results, partial: bool) -> tuple[Section, list[str]]:
    """Return the section of a sweep, and its line in the summary if it has one."""
    known = SWEEPS.get(loaded.sweep)
    section = Section(loaded.sweep, f"{known.question} ({known.feeds})" if known else "")
    members = loaded.members
    title = f"{shared_settings(members)}, {len(members)} members, mean ± sd over seeds"
    headline = _compare_norms(section, loaded, partial)
    metrics = with_robustness(METRICS, members)
    section.tables.append(tables.summary_table(tables.summary(members, metrics), title))
    if "norm" in varying_settings(members) and len(varying_settings(members)) >= FACTORS:
        _add_or_note(section, lambda: [_effects(loaded)])
    if members["grad_norm_in"].notna().any() and members["norm"].nunique() > 1:
        influence = "influence with batch norm over without"
        _add_or_note(section, lambda: [tables.amplification_table(amplification(loaded, results), influence)])
    for of_paper in PAPER_TABLES:
        if loaded.sweep in of_paper.sweeps:
            _add_or_note(section, bind(_tables_of_paper, of_paper, loaded, results))
    if (members["robustness"] != "none").any():
        _add_or_note(section, lambda: _robustness(section, loaded, results))
    if joins_papers(loaded.sweep):
        _add_or_note(section, lambda: _panel(section, loaded, partial))
    if membership.has_shadow_models(loaded):
        headline = _audit(section, loaded, results) or headline
    for paper, drawn in draw_figures(loaded, results):
        if isinstance(drawn, str):
            section.notes.append(f"{paper.place} is not drawn: {drawn}")
        else:
            section.figures.append(PageFigure(paper.place, paper.caption, drawn))
    section.notes += loaded.notes
    return section, headline


def _compare_norms(section: Section, loaded: Loaded, partial: bool) -> list[str]:
    """Add the comparison of the norms, if there are several, and return the sweep's line in the summary."""
    if loaded.members["norm"].nunique() < 2:
        return []
    try:
        metrics = with_robustness(METRICS, loaded.members)
        comparison = compare(loaded.members, "norm", partial=partial, metrics=metrics)
    except BadInputError as problem:
        section.notes.append(f"The norms are not compared: {problem}")
        return []
    title = "the norms against one another, paired tests over seeds"
    section.tables.append(tables.comparison_table(comparison, title))
    strata = [name for name in varying_settings(loaded.members) if name != "norm" and name in comparison]
    overall = comparison[comparison[strata].isna().all(axis=1)] if strata else comparison
    arm = "batch" if "batch" in set(overall["arm"]) else overall["arm"].min()
    rows = overall[(overall["arm"] == arm) & overall["low"].notna()]
    changes = {row["metric"]: _change(row) for _, row in rows.iterrows()}
    texts = [f"{tables.METRIC_LABELS[name]} {changes[name]}" for name in HEADLINE if name in changes]
    if not texts:
        return []
    reference, n = rows["reference"].iloc[0], int(rows["n"].min())
    section.found = _in_words(rows, f"{NORM_NAMES[arm]} rather than {NORM_NAMES[reference]}", loaded.members)
    return [f"{loaded.sweep}, {arm} - {reference}: {', '.join(texts)}; n = {n} seeds."]


def _in_words(rows: pd.DataFrame, arms: str, members: pd.DataFrame) -> str:
    """Return what a comparison found, how sure that is, and what it does not show.

    Args:
        rows: the comparison of two arms over all cells, a row a metric.
        arms: the arms in words.
        members: the members that it was made of.
    """
    by_metric = {row["metric"]: row for _, row in rows.iterrows()}
    sure = [_difference_in_words(by_metric[name]) for name in HEADLINE if name in by_metric]
    n = int(rows["n"].min())
    about = f"{_printed('architecture', members)} on {_printed('dataset', members)}"
    return (
        f"With {arms}, {_join(sure)} (means over all cells, 95% intervals over {n} seed{'s' * (n != 1)}). "
        f"This is about {about}, up to {members['epochs'].max()} epochs; "
        "what other networks, data or longer training do, it does not show."
    )


def _difference_in_words(row: pd.Series) -> str:
    """Return a difference in words: `memorization is 0.94 higher [+0.92, +0.97]`, or that its sign is not clear."""
    name = RESULT_NAMES[row["metric"]]
    if row["low"] <= 0 <= row["high"]:
        return f"whether {name} rises or falls is not clear [{row['low']:+.2f}, {row['high']:+.2f}]"
    way = "higher" if row["difference"] > 0 else "lower"
    return f"{name} is {abs(row['difference']):.2f} {way} [{row['low']:+.2f}, {row['high']:+.2f}]"


def _join(parts: Sequence[str]) -> str:
    """Return parts of a sentence joined by commas, the last by `and`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _printed(setting: str, members: pd.DataFrame) -> str:
    """Return the levels of a setting that occur, as figures name them."""
    return listed(members[setting].map(lambda level: display_level(setting, level)))


def _change(row: pd.Series) -> str:
    """Return a difference with its interval."""
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def _panel(section: Section, loaded: Loaded, partial: bool) -> list[Table]:
    """Return the tables of the panel of the norms, and add its figure."""
    found = panel(loaded.members, None, partial)
    if found["measured"].any():
        caption = "What each norm costs and buys: its mean in each metric, with a 95% interval."
        section.figures.append(PageFigure("", caption, panel_figure(found, loaded.members)))
    return panel_tables(found, "the panel")


def _effects(loaded: Loaded) -> Table:
    """Return the table of marginal effects."""
    estimated, notes = effects(loaded.members)
    table = tables.effects_table(estimated, "marginal effects, and interactions with the norm")
    table.notes += notes
    return table


def _tables_of_paper(of_paper: PaperTable, loaded: Loaded, results: Results) -> list[Table]:
    """Return a table of the 2019 paper."""
    return [paper_table(of_paper, [loaded], results)]


def _robustness(section: Section, loaded: Loaded, results: Results) -> list[Table]:
    """Return the tables of robustness, add their figure, and warn where a sanity check of the attacks fails."""
    rows = robustness_rows(loaded, results)
    section.notes += failures(judge(rows, loaded.members))
    try:
        curves = "Accuracy under noise and attacks; bars are 95% intervals over seeds."
        drawn = accuracy_curves(strengths(rows, loaded.members), loaded.members)
        section.figures.append(PageFigure("", curves, drawn))
    except BadInputError as problem:
        section.notes.append(f"The accuracy under attacks is not drawn: {problem}")
    found = robustness_tables(rows, loaded.members, loaded.sweep)
    folded = [table for table in found if len(table.cells) > ROWS]
    section.folded += folded
    return [table for table in found if len(table.cells) <= ROWS]


def _audit(section: Section, loaded: Loaded, results: Results) -> list[str]:
    """Add the attacks and their figures, and return the sweep's line in the summary."""
    try:
        audited = membership.audit_cells(loaded, results)
    except membership.NoSamplesError as problem:
        section.notes.append(f"The attacks are not repeated: {problem}")
        return []
    section.tables += tables.audit_tables(audited, membership.DEFAULT_ATTACKS, loaded.sweep)
    counterfactual = "Counterfactual memorization: how much more often a sample's label is given by models that had it."
    section.figures.append(PageFigure("", counterfactual, memorization_histograms(audited)))
    images = membership.most_memorized(loaded, results)
    if len(images):
        most = "The images that were memorized most, the first the most."
        section.figures.append(PageFigure("", most, most_memorized_images(images)))
    differences = membership.auc_differences(audited, [MAIN_ATTACK])
    if not len(differences):
        return []
    overall = differences[(differences["group"] == "all") & differences["low"].notna()]
    if overall.empty:
        return []
    targets = int(overall["targets"].min())
    if "seed" in overall:
        overall = membership.over_training_sets(overall, "difference")
    low, high = overall["difference"].min(), overall["difference"].max()
    row, cells = overall.iloc[0], len(overall)
    size = f"AUC of LiRA {_change(row)}" if cells == 1 else f"AUC of LiRA {low:+.3f} to {high:+.3f} over {cells} cells"
    return [f"{loaded.sweep}, {row['arm']} - {row['reference']}: {size}; {targets} targets."]


def _add_or_note(section: Section, make: Callable[[], list[Table]]) -> None:
    """Add the tables that `make` returns, or a note of why there are none."""
    try:
        section.tables += make()
    except BadInputError as problem:
        section.notes.append(str(problem))


# The trade-off --------------------------------------------------------------------------------------------------------


def _tradeoff(results: Results, max_loss: float, partial: bool) -> tuple[Section, list[str]]:
    """Return the section of the tuned regularizer, and a line of the summary for each tuned cell."""
    section = Section("The trade-off", "What the tuned regularizer buys and what it costs.")
    tuned, loaded = load_tuned_cells(results, max_loss=max_loss, partial=partial)
    for cell in tuned:
        section.tables += tables.tuning_tables(cell, cell.title)
    if any(len(cell.usable) for cell in tuned):
        front = (
            "Memorization against test accuracy, coloured by membership AUC; the front is that of the validation set."
        )
        section.figures.append(PageFigure("Fig. 8", front, tradeoff_figure(tuned)))
    volume = "The hypervolume that each search dominates after so many trials."
    section.figures.append(PageFigure("", volume, hypervolume_figure(tuned)))
    storage = Path(results.location) / SEARCHES["tpe"] / STORAGE
    shares = importances(storage, tuned) if storage.is_file() else pd.DataFrame()
    if len(shares):
        importance = "How much of each objective's spread a parameter accounts for, by Optuna's fANOVA."
        section.figures.append(PageFigure("", importance, importance_figure(shares)))
    section.notes += [note for part in loaded for note in part.notes]
    return section, [_recommendation(cell) for cell in tuned]


def _recommendation(cell: TunedCell) -> str:
    return f"Tuned on {cell.title}. {tables.recommendation(cell)}"


# Where the numbers come from ------------------------------------------------------------------------------------------


def _excluded(all_records: Sequence[Loaded]) -> Section:
    """Return the section with every trial that has members without results, and the reason."""
    section = Section("Excluded trials", "Networks that diverged or could not be trained; no mean has them.")
    rows = []
    for loaded in all_records:
        lost = loaded.members[loaded.members["status"] != "ok"]
        settings = varying_settings(loaded.members)
        for (trial, status, error), part in lost.fillna({"error": ""}).groupby(["trial", "status", "error"]):
            first = part.iloc[0]
            levels = ", ".join(f"{name}={format_value(first[name])}" for name in settings)
            row = {"sweep": loaded.sweep, "trial": trial, "settings": levels, "status": status, "error": error}
            rows.append({**row, "members": len(part)})
    if not rows:
        section.notes.append("There are none.")
        return section
    data = pd.DataFrame(rows)
    table = Table(f"{data['members'].sum()} members of {len(data)} trials", data, list(data.columns[:-1]), ["members"])
    for row in rows[:FAILURES]:
        table.add_row(*map(str, row.values()))
    if len(rows) > FAILURES:
        table.notes.append(f"and {len(rows) - FAILURES} more")
    section.tables.append(table)
    return section


def _costs(all_records: Sequence[Loaded]) -> Section:
    """Return the section with the time that each sweep took on each device."""
    members = _all_members(all_records).fillna({"device": "unknown"})
    grouped = members.groupby(["sweep", "device"])["seconds"]
    data = grouped.agg(["size", "sum", "median"]).reset_index()
    data = data.rename(columns={"size": "members", "sum": "seconds", "median": "seconds_each"})
    table = Table("", data, ["sweep", "device"], ["members", "device-hours", "s a member, median"])
    for _, row in data.iterrows():
        hours = f"{row['seconds'] / 3600:,.3g}"
        median = "-" if pd.isna(row["seconds_each"]) else f"{row['seconds_each']:.3g}"
        table.add_row(row["sweep"], row["device"], f"{row['members']:,}", hours, median)
    table.title = f"{hours_text(members['seconds'].sum())} in all"
    return Section("Costs", "Seconds of a device; members that train side by side share theirs.", tables=[table])


def _provenance(all_records: Sequence[Loaded]) -> Section:
    """Return the section on which code ran on which device, and when."""
    members = _all_members(all_records)
    keys = ["git_commit", "git_dirty", "device", "versions", "schema_version"]
    grouped = members.groupby(keys, dropna=False)["started"].agg(["size", "min", "max"]).reset_index()
    data = grouped.rename(columns={"size": "members", "min": "first", "max": "last"})
    table = Table("", data, ["commit", "changed", "device", "libraries", "schema", "first", "last"], ["members"])
    for _, row in data.iterrows():
        versions = json.loads(row["versions"]) if isinstance(row["versions"], str) else {}
        table.add_row(
            "-" if pd.isna(row["git_commit"]) else short_commit(row["git_commit"]),
            "-" if pd.isna(row["git_dirty"]) else "yes" if row["git_dirty"] else "no",
            "-" if pd.isna(row["device"]) else str(row["device"]),
            ", ".join(f"{name} {number}" for name, number in versions.items()),
            str(row["schema_version"]),
            *("-" if pd.isna(row[name]) else f"{row[name]:%Y-%m-%d %H:%M}" for name in ("first", "last")),
            f"{row['members']:,}",
        )
    table.title = f"{len(data)} combination{'s' * (len(data) > 1)} of code, libraries and device"
    section = Section(
        "Provenance", "The code, the libraries and the devices that the records name; times are UTC.", tables=[table]
    )
    if data["git_commit"].nunique(dropna=False) > 1:
        section.notes.append("The records come from more than one version of the code.")
    return section


def _commands(all_records: Sequence[Loaded], results: Results) -> Section:
    """Return the section with the commands that made the records, as plans have them, and those that read them."""
    section = Section("Commands", "What made these records, in the order of the sweeps, and what reads them.")
    of_tuning = sweep_names(SEARCHES["tpe"])
    sweeps = [[loaded.sweep] for loaded in all_records if loaded.sweep not in of_tuning]
    tuned = [loaded.sweep for loaded in all_records if loaded.sweep in of_tuning]  # one command made them
    for names in [*sweeps, *([tuned] if tuned else [])]:
        plans = [plan for name in names for plan in results.plans(name)]
        launched = [str(plan["command"]) for plan in plans if "command" in plan]
        section.code += _without_repeats(launched) or [f"# {names[0]}: recorded without a plan that names its command"]
    attacked = any(membership.has_shadow_models(loaded) for loaded in all_records)
    perturbed = any((loaded.members["robustness"] != "none").any() for loaded in all_records)
    verbs = ["tables", "claims", *["membership"] * attacked, *["robustness", "panel"] * perturbed]
    verbs += [*["tradeoff"] * bool(tuned), "figures", "report"]
    section.code += [command("-m", "analysis", verb, str(results)) for verb in verbs]
    return section


def _without_repeats(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _all_members(all_records: Sequence[Loaded]) -> pd.DataFrame:
    """Return the members of all sweeps with the name of their sweep."""
    return pd.concat([loaded.members.assign(sweep=loaded.sweep) for loaded in all_records])
