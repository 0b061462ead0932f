"""The ledger: every empirical claim of the paper with its verdict, decided from the records.

A claim is decided on the paper's datasets and networks (`analysis.paper`), and what all other cells say of it stands
beside that. Where the records have none of the paper's, whatever they have decides, and is named: what is held on the
digits is held on the digits.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.cells import matching_rows
from analysis.claims.claim import Claim, TuningClaim
from analysis.claims.evidence import attack_evidence, join_table, leakage_evidence, measure_effects
from analysis.claims.memorization import CLAIMS, TUNING_CLAIMS
from analysis.load import Loaded, load
from analysis.paper import incomplete, paper_rows
from analysis.statistics import hypotheses
from analysis.statistics.hypotheses import Finding
from analysis.statistics.paired import holm
from analysis.tuning.tradeoff import TunedCell
from study.errors import unknown
from study.record.results import Results

NOT_RUN = "not run"
"""The verdict on a claim that no record tests."""
VERDICTS = ("held", "exceeded", "not held", "undecided", NOT_RUN)


@dataclass(frozen=True)
class Elsewhere:
    """What the cells say of a claim that are not the paper's, where the paper's have decided it.

    Attributes:
        verdict: one of `VERDICTS`, by the p-value as it is, not corrected.
        finding: the numbers.
        records: the datasets and networks.
    """

    verdict: str
    finding: Finding
    records: str


@dataclass(frozen=True)
class Entry:
    """A claim with its verdict.

    Attributes:
        claim: the claim.
        verdict: one of `VERDICTS`.
        finding: the numbers; None where it wasn't run.
        p_holm: the p-value, corrected over all claims that have one; None where there is none.
        records: the sweep, datasets and networks of the records, and how many of the paper's they have.
        elsewhere: what all other cells say of it; None where there are none.
    """

    claim: Claim
    verdict: str
    finding: Finding | None = None
    p_holm: float | None = None
    records: str = ""
    elsewhere: Elsewhere | None = None

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
    """

    claim: TuningClaim
    verdict: str
    finding: Finding


def tuning_ledger(cell: TunedCell) -> list[TuningEntry]:
    """Return every claim about the tuned regularizer with its verdict in a tuned cell.

    Held: the p-value, two-sided and not corrected, is below 0.05, and the effect has the claimed sign. Not held: the
    records contradict it, as the claim's test says. Undecided: otherwise.
    """
    findings = [(claim, claim.test(cell)) for claim in TUNING_CLAIMS]
    return [TuningEntry(claim, finding.verdict(finding.p), finding) for claim, finding in findings]


def ledger(results: Results, sweep: str | None = None, partial: bool = False) -> list[Entry]:
    """Return every claim with its verdict, or the claims that the records of one sweep can decide.

    Held: the p-value, corrected by Holm over all claims that have one, is below 0.05 in the claimed direction, and for
    a claim on every cell each cell's effect has the claimed sign; where the paper says about how much, the 95% interval
    is compatible with that. Exceeded: the same, with an interval wholly beyond the number. Not held: the 95% interval
    lies wholly on the other side, for a claimed size wholly short of it, or for a claim on every cell one cell's does,
    at 95% for all cells together. Undecided: otherwise, or too few pairs for an interval. Not run: no records.

    Args:
        results: the results folder.
        sweep: the sweep; by default all.
        partial: accept a grid with holes, and leave out a member without partner instead of refusing it.

    Raises:
        BadInputError: there is no such folder or no claim about the sweep, its grid is incomplete or doubled, or a
            member has no partner.
    """
    recorded = [name for name in results.sweeps() if results.done(name)]
    claims = [claim for claim in CLAIMS if sweep in (None, *claim.sweeps)]
    if not claims:
        raise unknown("sweep with claims", str(sweep), {name for claim in CLAIMS for name in claim.sweeps})
    records: dict[str, Loaded] = {}
    entries = []
    for claim in claims:
        entry = Entry(claim, "not run")
        for name in claim.sweeps:
            if name not in recorded or sweep not in (None, name):
                continue
            if name not in records:
                records[name] = load(results, name, partial)
            entry = _evaluate(claim, records[name], results, partial)
            if entry.finding is not None:
                break
        entries.append(entry)
    return _with_verdicts(entries)


def _with_verdicts(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with their corrected p-values and their verdicts."""
    p_values = pd.Series([None if entry.finding is None else entry.finding.p for entry in entries], dtype=float)
    corrected = [None if np.isnan(p) else float(p) for p in holm(p_values)]
    return [
        entry if entry.finding is None else replace(entry, p_holm=p, verdict=entry.finding.verdict(p))
        for entry, p in zip(entries, corrected, strict=True)
    ]


def _evaluate(claim: Claim, loaded: Loaded, results: Results, partial: bool) -> Entry:
    """Return what the records of a sweep say of a claim, without a verdict yet; `not run` if they lack its cells."""
    members = matching_rows(loaded.members, claim.where)
    sides = [matching_rows(members, side) for side in (claim.arm, claim.reference) if side is not None]
    if any(side.empty for side in sides):
        return Entry(claim, "not run")
    of_paper, others = paper_rows(pd.concat(sides), claim.topic)
    if not _has_all_sides(claim, of_paper):
        of_paper, others = pd.concat(sides), others.iloc[:0]
    lacking = incomplete(of_paper, claim.topic, claim.where)
    records = f"{loaded.sweep} on {_named(of_paper)}" + (f" (of the paper's {', '.join(lacking)})" if lacking else "")
    finding = _find(claim, replace(loaded, members=of_paper), results, partial)
    return Entry(claim, "", finding, records=records, elsewhere=_elsewhere(claim, others, loaded, results, partial))


def _has_all_sides(claim: Claim, members: pd.DataFrame) -> bool:
    """Return whether members are there of the arm, and of the reference if there is one."""
    return not any(matching_rows(members, side).empty for side in (claim.arm, claim.reference) if side is not None)


def _find(claim: Claim, loaded: Loaded, results: Results, partial: bool) -> Finding:
    """Return what members in a claim's cells say of it."""
    if claim.table == "samples":
        finding = attack_evidence(claim, loaded, results, partial)
    elif claim.table == "leakage":
        finding = leakage_evidence(claim, loaded, results)
    else:
        joined = join_table(claim.table, loaded.sweep, loaded.members, results)
        finding = claim.test(claim, measure_effects(claim, joined, partial))
    return hypotheses.as_ratios(finding) if claim.ratio else finding


def _elsewhere(claim: Claim, others: pd.DataFrame, loaded: Loaded, results: Results, partial: bool) -> Elsewhere | None:
    """Return what the cells say that are not the paper's; None where they don't have all sides of the claim."""
    if not _has_all_sides(claim, others):
        return None
    finding = _find(claim, replace(loaded, members=others), results, partial)
    return Elsewhere(finding.verdict(finding.p), finding, _named(others))


def _named(members: pd.DataFrame) -> str:
    """Return the datasets and networks of members."""
    return ", ".join(", ".join(sorted(members[name].unique())) for name in ("dataset", "architecture"))
