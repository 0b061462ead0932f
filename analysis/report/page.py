"""All results in one HTML file that needs no network: the summary first, at the end where every number comes from."""

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from analysis.cells import common, level, varying
from analysis.claims.ledger import VERDICTS, Entry, ledger
from analysis.figures.catalog import figures_of
from analysis.figures.svg import svg
from analysis.load import Loaded, load_all
from analysis.report import tables
from analysis.report.output import Best, Table
from analysis.statistics import membership, paired
from analysis.statistics.amplification import amplification
from analysis.statistics.factorial import effects
from analysis.tuning import tradeoff
from analysis.tuning.importance import importances
from analysis.tuning.tradeoff import Tuning
from study.errors import BadInputError
from study.record.location import is_uri
from study.record.results import Results
from sweeps.plan import command
from sweeps.registry import SWEEPS
from sweeps.tuning.space import MAX_LOSS, SEARCHES, STORAGE

LINES = 10
"""The most that the summary says."""
ROWS = 24
"""A longer table is folded away at first."""
FAILURES = 200
"""The most excluded trials that are listed."""
FACTORS = 3
"""A grid of so many factors, the norm among them, gets the model of their effects."""
HEADLINE = ("mem_acc", "mia_auc", "test_acc")
ATTACK = "lira_online"

Progress = Callable[[str], None]


@dataclass
class Section:
    """A part of the report.

    Attributes:
        title: its heading.
        lead: what it is about, in a sentence.
        tables: in order.
        figures: in order.
        notes: sentences at its end.
        code: commands, a line each.
    """

    title: str
    lead: str = ""
    tables: list[Table] = field(default_factory=list)
    figures: list["Shown"] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    code: list[str] = field(default_factory=list)

    @property
    def anchor(self) -> str:
        """What a link to it ends in."""
        return re.sub(r"\W+", "-", self.title.lower()).strip("-")


@dataclass(frozen=True)
class Shown:
    """A figure as the page has it.

    Attributes:
        place: where the paper has it; empty for our own.
        caption: what it shows.
        figure: itself.
    """

    place: str
    caption: str
    figure: Figure

    @property
    def width(self) -> float:
        """In pixels, at 96 to the inch."""
        return 96 * float(self.figure.get_figwidth())

    @property
    def drawing(self) -> Markup:
        """The figure as SVG; its texts are escaped already."""
        return Markup(svg(self.figure))


def report(
    results: Results, max_loss: float = MAX_LOSS, partial: bool = False, progress: Progress = lambda _: None
) -> str:
    """The whole page.

    The same records give the same page: nothing in it is of the moment at which it was made.

    Args:
        results: the results folder, with any number of sweeps.
        max_loss: the validation accuracy that a tuned setting may lose.
        partial: accept grids with holes, and say what they lack.
        progress: told what is worked on.

    Raises:
        BadInputError: there are no records, or a grid is incomplete, doubled or of another schema.
    """
    progress("records")
    every = load_all(results, None, partial)
    searches = tradeoff.parts(SEARCHES["tpe"])
    order = list(SWEEPS)
    sweeps = [loaded for loaded in every if loaded.sweep not in searches]
    sweeps.sort(key=lambda loaded: order.index(loaded.sweep) if loaded.sweep in order else len(order))
    progress("claims")
    entries = ledger(results, None, partial)
    sections, headlines = [_claims(entries, results)], []
    for loaded in sweeps:
        progress(loaded.sweep)
        section, headline = _sweep(loaded, results, partial)
        sections.append(section)
        headlines += headline
    if len(sweeps) < len(every):
        progress("trade-off")
        section, headline = _tradeoff(results, max_loss, partial)
        sections.append(section)
        headlines = headline + headlines  # where there is not room for all, the sweeps are counted
    progress("provenance")
    sections += [_excluded(every), _costs(every), _provenance(every), _commands(every, results)]
    summary = _summary(every, entries, headlines)
    return _page(f"normleak: {results if is_uri(results.location) else Path(results.location).name}", summary, sections)


def _page(title: str, summary: Sequence[str], sections: Sequence[Section]) -> str:
    environment = Environment(
        loader=PackageLoader("analysis", ""), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.tests["best"] = lambda cell: isinstance(cell, Best)
    template = environment.get_template("report.html")
    return template.render(title=title, summary=summary, sections=sections, folded=ROWS)


# The summary ----------------------------------------------------------------------------------------------------------


def _summary(every: Sequence[Loaded], entries: Sequence[Entry], headlines: Sequence[str]) -> list[str]:
    """Ten lines at most: what there is, what became of the claims, the effects, and what it took."""
    members = pd.concat([loaded.members for loaded in every])
    excluded, missing = int((members["status"] != "ok").sum()), sum(loaded.missing for loaded in every)
    where = f"on {_list(members['dataset'])}, with {_list(members['architecture'])}"
    first = f"{len(members):,} networks of {len(every)} sweep{'s' * (len(every) > 1)} {where}."
    lost = f"{excluded:,} of them diverged or failed, and are left out of every mean and counted beside it."
    lost = lost if excluded else "None of them diverged or failed."
    if missing:
        lost += f" {missing:,} more were planned and have no record."
    counts = {verdict: [entry.claim.id for entry in entries if entry.verdict == verdict] for verdict in VERDICTS}
    held = ", ".join(f"{len(ids)} {verdict}" for verdict, ids in counts.items())
    against = f"; not held: {', '.join(counts['not held'])}" if counts["not held"] else ""
    last = f"{_hours(members['seconds'].sum())} on {_list(members['device'].dropna())}; {_code(members)}."
    room = LINES - 4
    shown = list(headlines[:room])
    if len(headlines) > room:
        shown = [*headlines[: room - 1], f"{len(headlines) - room + 1} more sweeps are below."]
    return [first, lost, f"The paper's {len(entries)} claims: {held}{against}.", *shown, last]


def _list(values: pd.Series, most: int = 4) -> str:
    found = sorted({str(value) for value in values})
    return ", ".join(found[:most]) + (f" and {len(found) - most} more" if len(found) > most else "")


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.2g} device-hours" if seconds < 36000 else f"{seconds / 3600:,.0f} device-hours"


def _code(members: pd.DataFrame) -> str:
    commits = [str(commit)[:10] for commit in members["git_commit"].dropna().unique()]
    changed = "with uncommitted changes" if members["git_dirty"].fillna(False).astype(bool).any() else "unchanged"
    named = f"commit {commits[0]}" if len(commits) == 1 else f"{len(commits)} commits"
    return f"code of {named}, {changed}" if commits else "code of no known commit"


# The claims -----------------------------------------------------------------------------------------------------------


def _claims(entries: Sequence[Entry], results: Results) -> Section:
    section = Section("The paper's claims", "What the paper says, and what these records say of it.")
    section.tables.append(tables.ledger_table(entries, "Every empirical claim", results))
    section.notes.append(
        "Held: p < 0.05 in the claimed direction, corrected by Holm's method over all claims that were tested, and for "
        "a claim on every cell the sign in each. Not held: the 95% interval, or one cell's, lies wholly on the other "
        "side or short of the claimed size. Undecided: otherwise, or too few pairs. A verdict is about the records "
        "beside it."
    )
    return section


# A sweep --------------------------------------------------------------------------------------------------------------


def _sweep(loaded: Loaded, results: Results, partial: bool) -> tuple[Section, list[str]]:
    known = SWEEPS.get(loaded.sweep)
    section = Section(loaded.sweep, f"{known.question} ({known.feeds})" if known else "")
    members = loaded.members
    title = f"{common(members)}, {len(members)} members, mean ± sd over seeds"
    section.tables.append(tables.summary_table(tables.summary(members), title))
    headline = _compared(section, loaded, partial)
    if "norm" in varying(members) and len(varying(members)) >= FACTORS:
        _try(section, lambda: [_effects(loaded)])
    if members["grad_norm_in"].notna().any() and members["norm"].nunique() > 1:
        told = "influence with batch norm over without"
        _try(section, lambda: [tables.amplification_table(amplification(members), told)])
    if membership.has_halves(loaded):
        headline = _audited(section, loaded, results) or headline
    for paper, drawn in figures_of(loaded, results):
        if isinstance(drawn, str):
            section.notes.append(f"{paper.place} is not drawn: {drawn}")
        else:
            section.figures.append(Shown(paper.place, paper.caption, drawn))
    section.notes += loaded.notes
    return section, headline


def _compared(section: Section, loaded: Loaded, partial: bool) -> list[str]:
    """The norms against one another, if there are several, and the headline."""
    if loaded.members["norm"].nunique() < 2:
        return []
    try:
        found = paired.compare(loaded.members, "norm", partial=partial)
    except BadInputError as problem:
        section.notes.append(f"The norms are not compared: {problem}")
        return []
    section.tables.append(tables.comparison_table(found, "the norms against one another, paired t-tests over seeds"))
    strata = [name for name in varying(loaded.members) if name != "norm" and name in found]
    overall = found[found[strata].isna().all(axis=1)] if strata else found
    arm = "batch" if "batch" in set(overall["arm"]) else overall["arm"].min()
    rows = overall[(overall["arm"] == arm) & overall["low"].notna()]
    each = {row["metric"]: _change(row) for _, row in rows.iterrows()}
    told = [f"{tables.LABELS[name]} {each[name]}" for name in HEADLINE if name in each]
    if not told:
        return []
    held, n = rows["reference"].iloc[0], int(rows["n"].min())
    return [f"{loaded.sweep}, {arm} - {held}: {', '.join(told)}; n = {n} seeds."]


def _change(row: pd.Series) -> str:
    return f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"


def _effects(loaded: Loaded) -> Table:
    estimated, notes = effects(loaded.members)
    table = tables.effects_table(estimated, "marginal effects, and interactions with the norm")
    table.notes += notes
    return table


def _audited(section: Section, loaded: Loaded, results: Results) -> list[str]:
    """The attacks, their figures and the headline."""
    from analysis.figures import membership as drawn

    found = membership.audits(loaded, results)
    section.tables += tables.audit_tables(found, membership.SHOWN, loaded.sweep)
    counterfactual = "Counterfactual memorization: how much more often a sample's label is given by models that had it."
    section.figures.append(Shown("", counterfactual, drawn.memorized(found)))
    images = membership.most_memorized(loaded, results)
    if len(images):
        most = "The images that were memorized most, the first the most."
        section.figures.append(Shown("", most, drawn.most_memorized(images)))
    gained = membership.differences(found, [ATTACK])
    if not len(gained):
        return []
    overall = gained[(gained["group"] == "all") & gained["low"].notna()]
    if overall.empty:
        return []
    low, high = overall["difference"].min(), overall["difference"].max()
    row, cells = overall.iloc[0], len(overall)
    size = f"AUC of LiRA {_change(row)}" if cells == 1 else f"AUC of LiRA {low:+.3f} to {high:+.3f} over {cells} cells"
    return [f"{loaded.sweep}, {row['arm']} - {row['reference']}: {size}; {int(overall['targets'].min())} targets."]


def _try(section: Section, make: Callable[[], list[Table]]) -> None:
    """The tables, or a note of why there are none."""
    try:
        section.tables += make()
    except BadInputError as problem:
        section.notes.append(str(problem))


# The trade-off --------------------------------------------------------------------------------------------------------


def _tradeoff(results: Results, max_loss: float, partial: bool) -> tuple[Section, list[str]]:
    from analysis.tuning import figures as figures_module

    section = Section("The trade-off", "What the tuned regularizer buys and what it costs.")
    tuned, loaded = tradeoff.load_tunings(results, max_loss=max_loss, partial=partial)
    for tuning in tuned:
        section.tables += tables.tuning_tables(tuning, tuning.title)
    if any(len(tuning.usable) for tuning in tuned):
        front = (
            "Memorization against test accuracy, coloured by membership AUC; the front is that of the validation set."
        )
        section.figures.append(Shown("Fig. 8", front, figures_module.tradeoff(tuned)))
    searched = "The hypervolume that each search dominates after so many trials."
    section.figures.append(Shown("", searched, figures_module.hypervolume(tuned)))
    storage = Path(results.location) / SEARCHES["tpe"] / STORAGE
    weights = importances(storage, tuned) if storage.is_file() else pd.DataFrame()
    if len(weights):
        weighed = "How much of each objective's spread a parameter accounts for, by Optuna's fANOVA."
        section.figures.append(Shown("", weighed, figures_module.importance(weights)))
    section.notes += [note for part in loaded for note in part.notes]
    return section, [_recommended(tuning) for tuning in tuned]


def _recommended(tuning: Tuning) -> str:
    return f"Tuned on {tuning.title}. {tables.recommendation(tuning)}"


# Where it comes from --------------------------------------------------------------------------------------------------


def _excluded(every: Sequence[Loaded]) -> Section:
    """Every network without results, with its reason."""
    section = Section("Excluded trials", "Networks that diverged or could not be trained; no mean has them.")
    rows = []
    for loaded in every:
        lost = loaded.members[loaded.members["status"] != "ok"]
        settings = varying(loaded.members)
        for (trial, status, error), part in lost.fillna({"error": ""}).groupby(["trial", "status", "error"]):
            first = part.iloc[0]
            told = ", ".join(f"{name}={level(first[name])}" for name in settings)
            row = {"sweep": loaded.sweep, "trial": trial, "settings": told, "status": status, "error": error}
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


def _costs(every: Sequence[Loaded]) -> Section:
    """What each sweep took on which device."""
    members = _together(every).fillna({"device": "unknown"})
    grouped = members.groupby(["sweep", "device"])["seconds"]
    data = grouped.agg(["size", "sum", "median"]).reset_index()
    data = data.rename(columns={"size": "members", "sum": "seconds", "median": "seconds_each"})
    table = Table("", data, ["sweep", "device"], ["members", "device-hours", "s a member, median"])
    for _, row in data.iterrows():
        hours, each = (
            f"{row['seconds'] / 3600:,.3g}",
            "-" if pd.isna(row["seconds_each"]) else f"{row['seconds_each']:.3g}",
        )
        table.add_row(row["sweep"], row["device"], f"{row['members']:,}", hours, each)
    table.title = f"{_hours(members['seconds'].sum())} in all"
    return Section("Costs", "Seconds of a device; members that train side by side share theirs.", [table])


def _provenance(every: Sequence[Loaded]) -> Section:
    """Which code ran where, and when."""
    members = _together(every)
    keys = ["git_commit", "git_dirty", "device", "versions", "schema_version"]
    grouped = members.groupby(keys, dropna=False)["started"].agg(["size", "min", "max"]).reset_index()
    data = grouped.rename(columns={"size": "members", "min": "first", "max": "last"})
    table = Table("", data, ["commit", "changed", "device", "libraries", "schema", "first", "last"], ["members"])
    for _, row in data.iterrows():
        versions = json.loads(row["versions"]) if isinstance(row["versions"], str) else {}
        table.add_row(
            "-" if pd.isna(row["git_commit"]) else str(row["git_commit"])[:10],
            "-" if pd.isna(row["git_dirty"]) else "yes" if row["git_dirty"] else "no",
            "-" if pd.isna(row["device"]) else str(row["device"]),
            ", ".join(f"{name} {number}" for name, number in versions.items()),
            str(row["schema_version"]),
            *("-" if pd.isna(row[name]) else f"{row[name]:%Y-%m-%d %H:%M}" for name in ("first", "last")),
            f"{row['members']:,}",
        )
    table.title = f"{len(data)} combination{'s' * (len(data) > 1)} of code, libraries and device"
    section = Section(
        "Provenance", "The code, the libraries and the devices that the records name; times are UTC.", [table]
    )
    if data["git_commit"].nunique(dropna=False) > 1:
        section.notes.append("The records come from more than one version of the code.")
    return section


def _commands(every: Sequence[Loaded], results: Results) -> Section:
    """What was typed, as far as the plans have it, and what makes the tables and figures again."""
    section = Section("Commands", "What made these records, in the order of the sweeps, and what reads them.")
    parts = tradeoff.parts(SEARCHES["tpe"])
    sweeps = [[loaded.sweep] for loaded in every if loaded.sweep not in parts]
    tuned = [loaded.sweep for loaded in every if loaded.sweep in parts]  # made by one command
    for names in [*sweeps, *([tuned] if tuned else [])]:
        plans = [plan for name in names for plan in results.plans(name)]
        launched = [str(plan["command"]) for plan in plans if "command" in plan]
        section.code += _distinct(launched) or [f"# {names[0]}: recorded without a plan that names its command"]
    halves = any(membership.has_halves(loaded) for loaded in every)
    verbs = ["tables", "claims", *["membership"] * halves, *["tradeoff"] * bool(tuned), "figures", "report"]
    section.code += [command("-m", "analysis", verb, str(results)) for verb in verbs]
    return section


def _distinct(lines: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(lines))


def _together(every: Sequence[Loaded]) -> pd.DataFrame:
    return pd.concat([loaded.members.assign(sweep=loaded.sweep) for loaded in every])
