"""The ledger: every empirical claim of the papers with its verdict, decided from the records.

A claim is decided on its paper's datasets and networks (`analysis.paper`), and what all other cells say of it stands
beside that. Where the records have none of the paper's, whatever they have decides, and is named: what is held on the
digits is held on the digits.

The verdicts on a paper are one family of tests, fixed before any record: whether each claim holds, whether it doesn't
and, where it has a size, whether there is more of it. Holm's correction is over all of a paper's, those that no record
tests included, so that the chance of any false verdict on the paper is at most `ALPHA`, whatever is claimed in others.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.cells import matching_rows
from analysis.claims.claim import Claim, TuningClaim
from analysis.claims.evidence import attack_evidence, beyond_shadows, join_table, leakage_evidence, measure_effects
from analysis.claims.memorization import CLAIMS, TUNING_CLAIMS
from analysis.claims.robustness import ROBUSTNESS_CLAIMS
from analysis.claims.robustness_published import PUBLISHED_CLAIMS
from analysis.claims.robustness_trained import TRAINED_CLAIMS
from analysis.load import Loaded, load
from analysis.paper import incomplete, paper_rows
from analysis.statistics import hypotheses
from analysis.statistics.hypotheses import Finding
from analysis.statistics.membership import NoSamplesError
from analysis.statistics.paired import holm
from analysis.tuning.tradeoff import TunedCell
from study.errors import BadInputError, unknown
from study.record.results import Results

PAPERS: Mapping[str, tuple[Claim, ...]] = {
    "2026": CLAIMS,
    "2019": (*TRAINED_CLAIMS, *ROBUSTNESS_CLAIMS, *PUBLISHED_CLAIMS),
}
"""The claims of each paper, by its year."""
ALL_CLAIMS = tuple(claim for of_paper in PAPERS.values() for claim in of_paper)
NOT_RUN = "not run"
"""The verdict on a claim that no record tests."""
VERDICTS = ("held", "exceeded", "not held", "undecided", NOT_RUN)


@dataclass(frozen=True)
class Elsewhere:
    """What the cells say of a claim that are not the paper's, where the paper's have decided it.

    Attributes:
        verdict: one of `VERDICTS`, by p-values that are corrected as those of the ledger are, in a family of their own.
        finding: the numbers.
        records: the datasets and networks.
        p_holm: the corrected p-value; None where there is none.
    """

    verdict: str
    finding: Finding
    records: str
    p_holm: float | None = None


@dataclass(frozen=True)
class Entry:
    """A claim with its verdict.

    Attributes:
        claim: the claim.
        verdict: one of `VERDICTS`.
        finding: the numbers; None where it wasn't run.
        p_holm: the p-value, corrected over all of its paper's; None where there is none.
        p_against_holm: that of the contradiction, likewise.
        records: the sweep, datasets and networks of the records, and how many of the paper's they have.
        elsewhere: what all other cells say of it; None where there are none.
        sweep: the sweep of the records; empty where it wasn't run.
    """

    claim: Claim
    verdict: str
    finding: Finding | None = None
    p_holm: float | None = None
    p_against_holm: float | None = None
    records: str = ""
    elsewhere: Elsewhere | None = None
    sweep: str = ""

    @property
    def position(self) -> str:
        """The place of the paper's number: `inside`, `above` or `below` the interval; empty where there is none."""
        finding, paper = self.finding, self.claim.paper
        if finding is None or finding.low is None or finding.high is None or paper is None:
            return ""
        return "below" if paper < finding.low else "above" if paper > finding.high else "inside"


@dataclass(frozen=True)
class TuningEntry:
    """A claim about the tuned regularizer with its verdict in one tuned cell.

    Attributes:
        claim: the claim.
        verdict: one of `VERDICTS`.
        finding: the numbers.
        p_holm: the p-value, corrected over the claims on the cell; None where there is none.
    """

    claim: TuningClaim
    verdict: str
    finding: Finding
    p_holm: float | None = None


def tuning_ledger(cell: TunedCell) -> list[TuningEntry]:
    """Return every claim about the tuned regularizer with its verdict in a tuned cell.

    The family is that of the cell: whether each claim holds, and whether it doesn't. Held, not held and undecided are
    as in `ledger`.
    """
    findings = [claim.test(cell) for claim in TUNING_CLAIMS]
    corrected = correct(findings, 2 * len(TUNING_CLAIMS))
    return [
        TuningEntry(claim, finding.verdict(*p_values), finding, p_values[0])
        for claim, finding, p_values in zip(TUNING_CLAIMS, findings, corrected, strict=True)
    ]


def ledger(results: Results, sweep: str | None = None, partial: bool = False, paper: str | None = None) -> list[Entry]:
    """Return every claim with its verdict, or the claims that the records of one sweep can decide.

    Held: the p-value, corrected by Holm over all verdicts on its paper, is below 0.05 in the claimed direction, and for
    a claim on every cell each cell's is. Exceeded: the same, and so is that of more than the paper's number. Not held:
    that of the contradiction, corrected likewise, is: of an effect on the other side, of one short of the claimed size,
    or for a claim on every cell of one cell. Undecided: otherwise, or too few pairs for a test. Not run: no records.

    Args:
        results: the results folder.
        sweep: the sweep whose claims are returned, decided by its records; by default all. Those of all others count in
            the correction all the same, or as not run where their records can't be read.
        partial: accept a grid with holes, and leave out a member without partner instead of refusing it.
        paper: the year of the paper whose claims are returned; by default all.

    Raises:
        BadInputError: there is no such folder or paper, or no claim about the sweep, its grid is incomplete or doubled,
            or a member has no partner.
    """
    if paper is not None and paper not in PAPERS:
        raise unknown("paper", paper, PAPERS)
    claims = ALL_CLAIMS if paper is None else PAPERS[paper]
    recorded = [name for name in results.sweeps() if results.done(name)]
    asked = [sweep in (None, *claim.sweeps) for claim in claims]
    if not any(asked):
        raise unknown("sweep with claims", str(sweep), {name for claim in claims for name in claim.sweeps})
    records: dict[str, Loaded] = {}

    def decide(claim: Claim, names: Sequence[str]) -> Entry:
        for name in names:
            if name not in recorded:
                continue
            if name not in records:
                records[name] = load(results, name, partial)
            entry = _evaluate(claim, records[name], results, partial)
            if entry.finding is not None:
                return entry
        return Entry(claim, NOT_RUN)

    def decide_other(claim: Claim) -> Entry:
        try:
            return decide(claim, claim.sweeps)
        except BadInputError:
            return Entry(claim, NOT_RUN)

    entries = [
        decide(claim, claim.sweeps if sweep is None else (sweep,)) if of_sweep else decide_other(claim)
        for claim, of_sweep in zip(claims, asked, strict=True)
    ]
    return [entry for entry, of_sweep in zip(_with_verdicts(entries), asked, strict=True) if of_sweep]


def by_paper(entries: Sequence[Entry]) -> dict[str, list[Entry]]:
    """Return the entries of each paper that has any, by its year."""
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.claim.publication, []).append(entry)
    return found


FAMILIES = {paper: sum(2 if claim.size is None else 3 for claim in claims) for paper, claims in PAPERS.items()}
"""How many verdicts each paper can get: held and not held for each claim, and exceeded where it has a size."""
Corrected = tuple[float | None, float | None, float | None]
"""The corrected p-values of `held`, `not held` and `exceeded`."""


def correct(findings: Sequence[Finding | None], family: int) -> list[Corrected]:
    """Return the p-values of findings by Holm's correction over a family of tests, of which the others have a p of 1.

    Args:
        findings: the findings; None for a claim that was not run.
        family: the number of p-values that there could be.
    """
    p_values = [(None, None, None) if finding is None else finding.p_values for finding in findings]
    known = pd.Series([p for of_claim in p_values for p in of_claim], dtype=float)
    others = pd.Series(1.0, index=range(len(known), len(known) + family - int(known.notna().sum())))
    corrected = [None if np.isnan(p) else float(p) for p in holm(pd.concat([known, others]))]
    return [(corrected[at], corrected[at + 1], corrected[at + 2]) for at in range(0, len(known), 3)]


def _with_verdicts(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries in order with their corrected p-values and their verdicts, each paper a family."""
    decided: dict[str, Entry] = {}
    for paper, family in FAMILIES.items():
        of_paper = [entry for entry in entries if entry.claim.publication == paper]
        decided |= {entry.claim.id: entry for entry in _of_family(of_paper, family)}
    return [decided[entry.claim.id] for entry in entries]


def _of_family(entries: Sequence[Entry], family: int) -> list[Entry]:
    """Return the entries of one paper with their corrected p-values and their verdicts."""
    here = correct([entry.finding for entry in entries], family)
    others = [entry.elsewhere for entry in entries]
    elsewhere = correct([None if other is None else other.finding for other in others], family)
    return [
        entry
        if entry.finding is None
        else replace(
            entry,
            p_holm=p_values[0],
            p_against_holm=p_values[1],
            verdict=entry.finding.verdict(*p_values),
            elsewhere=other and replace(other, verdict=other.finding.verdict(*of_other), p_holm=of_other[0]),
        )
        for entry, other, p_values, of_other in zip(entries, others, here, elsewhere, strict=True)
    ]


def _evaluate(claim: Claim, loaded: Loaded, results: Results, partial: bool) -> Entry:
    """Return what the records of a sweep say of a claim, without a verdict yet; `not run` if they lack its cells."""
    members = matching_rows(loaded.members, claim.where)
    sides = [matching_rows(members, side) for side in (claim.arm, claim.reference) if side is not None]
    if any(side.empty for side in sides):
        return Entry(claim, NOT_RUN)
    of_paper, others = paper_rows(pd.concat(sides), claim.topic)
    if not _has_all_sides(claim, of_paper):
        of_paper, others = pd.concat(sides), others.iloc[:0]
    lacking = incomplete(of_paper, claim.topic, claim.where)
    records = f"{loaded.sweep} on {_named(of_paper)}" + (f" (of the paper's {', '.join(lacking)})" if lacking else "")
    finding = _find(claim, replace(loaded, members=of_paper), results, partial)
    elsewhere = _elsewhere(claim, others, loaded, results, partial)
    return Entry(claim, "", finding, records=records, elsewhere=elsewhere, sweep=loaded.sweep)


def _has_all_sides(claim: Claim, members: pd.DataFrame) -> bool:
    """Return whether members are there of the arm, and of the reference if there is one."""
    return not any(matching_rows(members, side).empty for side in (claim.arm, claim.reference) if side is not None)


def _find(claim: Claim, loaded: Loaded, results: Results, partial: bool) -> Finding:
    """Return what members in a claim's cells say of it; nothing where it takes samples that the folder doesn't have."""
    try:
        return _find_of_all(claim, loaded, results, partial)
    except NoSamplesError:
        return Finding(0, notes=("the scores of samples that it takes are not in this folder",))


def _find_of_all(claim: Claim, loaded: Loaded, results: Results, partial: bool) -> Finding:
    """Return what members in a claim's cells say of it, given all records that it takes.

    Raises:
        NoSamplesError: samples are not there.
    """
    if claim.table == "samples":
        finding = attack_evidence(claim, loaded, results, partial)
    elif claim.table == "leakage":
        finding = leakage_evidence(claim, loaded, results)
    else:
        joined = join_table(claim.table, loaded.sweep, loaded.members, results)
        finding = claim.test(claim, measure_effects(claim, joined, partial))
    if claim.leakage or claim.table == "samples":
        finding = beyond_shadows(claim, finding, loaded, results)
    return hypotheses.as_ratios(finding) if claim.ratio else finding


def _elsewhere(claim: Claim, others: pd.DataFrame, loaded: Loaded, results: Results, partial: bool) -> Elsewhere | None:
    """Return what the cells say that are not the paper's; None where they don't have all sides of the claim."""
    if not _has_all_sides(claim, others):
        return None
    finding = _find(claim, replace(loaded, members=others), results, partial)
    return Elsewhere("", finding, _named(others))


def _named(members: pd.DataFrame) -> str:
    """Return the datasets and networks of members."""
    return ", ".join(", ".join(sorted(members[name].unique())) for name in ("dataset", "architecture"))
