"""The page of results, `docs/results.md`: what the records of the evidence say, sweep by sweep, beside the papers.

It is written by a command alone, so that every number on it can be made again. What people have to say of the numbers
is in a file beside the records, `comments.toml`: a sentence on a claim is kept with the verdict that it was written on,
and refused where there is another one now.
"""

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from analysis.cells import shared_settings
from analysis.claims.ledger import NOT_RUN, VERDICTS, Entry, by_paper, ledger
from analysis.load import Loaded, load_all, no_records
from analysis.metrics import METRICS, with_robustness
from analysis.report import tables
from analysis.report.output import escape_markdown, render
from analysis.report.overview import overview_table
from analysis.report.paper_tables import PAPER_TABLES, paper_table
from analysis.report.words import code_text, hours_text, listed
from study.errors import BadInputError, unknown
from study.record.excerpt import thinned
from study.record.results import Results
from sweeps.registry import PAPERS, SWEEPS, papers_of

COMMENTS = "comments.toml"
"""The name of the file with the words of people, in the folder of the evidence."""
ROWS = 24
"""The most cells of a sweep that are shown; of more there is a command that shows them."""
EVIDENCE = "docs/evidence"
"""The folder of the evidence, as the commands on the page have it."""
OPENING = f"""\
# Results

What the records in `{EVIDENCE}` say, sweep by sweep, beside what the papers say. The page is written by a command from
these records, words and all numbers; only what follows *Comment*, and the part on earlier runs, is by hand. Its
verdicts are those of the second command; [the ledger](ledger.md) says how they are reached.

```
python -m analysis report {EVIDENCE} --docs
python -m analysis claims {EVIDENCE} --partial
```
"""


@dataclass(frozen=True)
class Comment:
    """What a person has to say of a verdict.

    Attributes:
        verdict: the verdict that it was written on.
        says: the words.
    """

    verdict: str
    says: str


@dataclass(frozen=True)
class Comments:
    """What people have to say.

    Attributes:
        claims: by the claim's name.
        sweeps: by the sweep's name.
        closing: the page's last part, as Markdown; empty for none.
    """

    claims: Mapping[str, Comment] = field(default_factory=dict)
    sweeps: Mapping[str, str] = field(default_factory=dict)
    closing: str = ""

    @classmethod
    def beside(cls, results: Results) -> "Comments":
        """Return those in a folder of evidence; none where there is no file of them.

        Raises:
            BadInputError: the file has another form.
        """
        try:
            text = results.store.read(COMMENTS).decode()
        except FileNotFoundError:
            return cls()
        try:
            content = tomllib.loads(text)
            claims = {name: Comment(**given) for name, given in content.pop("claims", {}).items()}
            return cls(claims, **content)
        except (tomllib.TOMLDecodeError, TypeError) as problem:
            raise BadInputError(f"{results.store.shown(COMMENTS)!r} can't be read: {problem}.") from None


def results_page(results: Results) -> tuple[str, list[str]]:
    """Return the page as Markdown, and the claims that aren't as the paper says and have no comment.

    Args:
        results: the folder of the evidence; sweeps with holes are taken as they are, and the page says what they lack.

    Raises:
        BadInputError: there are no records, a file can't be read, or a comment is on no claim that is decided here, or
            on another verdict.
    """
    comments = Comments.beside(results)
    names = [name for name in results.sweeps() if results.done(name)]
    if not names:
        raise no_records(results)
    all_records = [loaded for name in names for loaded in load_all(results, name, partial=True)]
    entries = ledger(results, partial=True)
    _check(comments, entries, names)
    order = list(SWEEPS)
    all_records.sort(key=lambda loaded: order.index(loaded.sweep) if loaded.sweep in order else len(order))
    parts = [OPENING, _summary(entries, all_records)]
    panel = overview_table(all_records)
    parts += (
        []
        if panel is None
        else ["## The panel\n\nWhat batch norm costs, and what it buys.\n", render([panel], "markdown")]
    )
    for papers, title in ((("2026",), "2026"), (("2019",), "2019"), (("2019", "2026"), ""), ((), "")):
        of_papers = [loaded for loaded in all_records if papers_of(loaded.sweep) == papers]
        if of_papers:
            parts.append(_heading(papers, title))
            parts += [_sweep(loaded, all_records, entries, comments, results) for loaded in of_papers]
    parts += [comments.closing.strip() + "\n"] if comments.closing else []
    differing = [entry for entry in entries if entry.verdict in ("exceeded", "not held")]
    return "\n".join(parts), [entry.claim.id for entry in differing if entry.claim.id not in comments.claims]


def _check(comments: Comments, entries: Sequence[Entry], sweeps: Sequence[str]) -> None:
    """Refuse a comment on a claim or a sweep that has no records, or on another verdict than there is now."""
    verdicts = {entry.claim.id: entry.verdict for entry in entries if entry.verdict != NOT_RUN}
    for name, comment in comments.claims.items():
        if name not in verdicts:
            raise unknown("claim with records", name, verdicts or ["none"])
        if verdicts[name] != comment.verdict:
            raise BadInputError(
                f"the comment on {name} in {COMMENTS} is on the verdict {comment.verdict!r}, which is "
                f"{verdicts[name]!r} now; write it anew, or remove it."
            )
    for name in comments.sweeps:
        if name not in sweeps:
            raise unknown("sweep with records", name, sweeps or ["none"])


def _heading(papers: Sequence[str], title: str) -> str:
    """Return the heading of the sweeps of a paper, of those that join both, or of those of no paper."""
    if title:
        return f"## The paper of {title}\n\n*{PAPERS[int(title)]}*\n"
    return "## Both papers\n" if papers else "## Other sweeps\n"


def _summary(entries: Sequence[Entry], all_records: Sequence[Loaded]) -> str:
    """Return how many claims of each paper have which verdict, and what the records took."""
    lines = []
    for year, of_paper in by_paper(entries).items():
        counts = [f"{sum(entry.verdict == verdict for entry in of_paper)} {verdict}" for verdict in VERDICTS]
        lines.append(f"- Of the {len(of_paper)} claims of the paper of {year}: {', '.join(counts)}.")
    members = pd.concat([loaded.members for loaded in all_records])
    lines.append(f"- {len(members):,} networks, {_cost(members)}.")
    return "\n".join(lines) + f"\n\n{tables.FALSE_VERDICTS}\n"


def _cost(members: pd.DataFrame) -> str:
    """Return the hours that members took, on which devices, and with which version of the code."""
    devices = members["device"].dropna()
    where = f" on {listed(devices)}" if len(devices) else ""
    return f"{hours_text(members['seconds'].sum())}{where}; {code_text(members)}"


# A sweep --------------------------------------------------------------------------------------------------------------


def _sweep(
    loaded: Loaded, all_records: Sequence[Loaded], entries: Sequence[Entry], comments: Comments, results: Results
) -> str:
    """Return the part of the page on a sweep."""
    name, known = loaded.sweep, SWEEPS.get(loaded.sweep)
    parts = [f"### {name}\n"]
    if known:
        parts.append(f"{known.question} ({known.feeds})\n")
    parts.append(_commands(name, results))
    parts.append(_records(loaded, results))
    if name in comments.sweeps:
        parts.append(f"*Comment:* {comments.sweeps[name].strip()}\n")
    of_sweep = [entry for entry in entries if entry.sweep == name]
    if of_sweep:
        parts.append(_verdicts(of_sweep, comments, results))
    parts += _paper_tables(loaded, all_records, results)
    parts.append(_cells(loaded))
    return "\n".join(parts)


def _commands(sweep: str, results: Results) -> str:
    """Return the commands that made a sweep's records."""
    commands = dict.fromkeys(str(plan["command"]) for plan in results.plans(sweep) if "command" in plan)
    if not commands:
        return "The command that made these records is not on record.\n"
    return "\n".join(["```", *commands, "```\n"])


def _records(loaded: Loaded, results: Results) -> str:
    """Return what the records are of, what they took, and what they lack."""
    members = loaded.members
    said = [f"{len(members):,} networks ({shared_settings(members)}), {_cost(members)}."]
    lost = int((members["status"] != "ok").sum())
    said += [f"{lost:,} of them diverged or failed."] if lost else []
    said += [escape_markdown(note) for note in loaded.notes]
    for table, trials in thinned(results, loaded.sweep).items():
        kept = ", ".join(f"{every}" for every in sorted(set(trials.values())))
        said.append(
            f"Of `{table}` every epoch that is a multiple of {kept} was kept, the ends and those of `mechanism`."
        )
    return " ".join(said) + "\n"


def _verdicts(entries: Sequence[Entry], comments: Comments, results: Results) -> str:
    """Return the verdicts on the claims that a sweep's records decide, with what each says and rests on."""
    shown = tables.verdicts_table(entries, "Our number (effect) beside the paper's", results)
    lines = []
    for entry in entries:
        claim = entry.claim
        basis = escape_markdown(tables.basis(entry, results))
        lines.append(
            f"- `{claim.id}` ({claim.place}), **{entry.verdict}**: {escape_markdown(claim.says)} *By* {basis}."
        )
        if claim.id in comments.claims:
            lines.append(f"  *Comment:* {comments.claims[claim.id].says.strip()}")
    return render([shown], "markdown") + "\n" + "\n".join(lines) + "\n"


def _paper_tables(loaded: Loaded, all_records: Sequence[Loaded], results: Results) -> list[str]:
    """Return the tables of the 2019 paper that a sweep feeds, with the paper's numbers beside ours.

    One that several sweeps feed is shown with the first of them that has records.
    """
    found = []
    for table in PAPER_TABLES:
        feeding = [each for name in table.sweeps for each in all_records if each.sweep == name]
        if feeding and feeding[0].sweep == loaded.sweep:
            try:
                found.append(render([paper_table(table, feeding, results)], "markdown"))
            except BadInputError as problem:
                found.append(f"{table.place} is not shown: {escape_markdown(str(problem))}\n")
    return found


def _cells(loaded: Loaded) -> str:
    """Return the mean of every metric in every cell; of many cells the command that shows them."""
    measured = [
        metric for metric in with_robustness(METRICS, loaded.members) if loaded.members[metric.column].notna().any()
    ]
    data = tables.summary(loaded.members, measured)
    if len(data) > ROWS:
        return f"Its {len(data):,} cells: `python -m analysis tables {EVIDENCE} --sweep {loaded.sweep} --partial`\n"
    return render([tables.summary_table(data, f"{loaded.sweep}: mean ± sd over seeds")], "markdown")
