"""The ledger: every empirical claim of the paper, what would decide it, and what the records say.

A claim is about whatever dataset and networks the records have, and these stand beside its verdict: what is held on the
digits is held on the digits. So the filter of a claim names its corruption, its k or its regularizer, and never a
dataset or a network.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from analysis.claims.claim import Claim
from analysis.claims.evidence import attack_evidence, join_table, matching_rows, measured
from analysis.claims.memorization import CLAIMS
from analysis.load import Loaded, load
from analysis.statistics import hypotheses
from analysis.statistics.hypotheses import Finding
from analysis.statistics.paired import holm
from study.errors import unknown
from study.record.results import Results

VERDICTS = ("held", "not held", "undecided", "not run")


@dataclass(frozen=True)
class Entry:
    """A claim and what became of it.

    Attributes:
        claim: the claim.
        verdict: `held`, `not held`, `undecided` or `not run`.
        finding: the numbers; None where it wasn't run.
        p_holm: the p, corrected over all claims that have one.
        found: the sweep, datasets and networks of the records.
    """

    claim: Claim
    verdict: str
    finding: Finding | None = None
    p_holm: float | None = None
    found: str = ""

    @property
    def position(self) -> str:
        """Where the paper's own number lies: `inside`, `above` or `below` the interval; empty where either lacks."""
        found, paper = self.finding, self.claim.paper
        if found is None or found.low is None or found.high is None or paper is None:
            return ""
        return "below" if paper < found.low else "above" if paper > found.high else "inside"


def ledger(results: Results, sweep: str | None = None, partial: bool = False) -> list[Entry]:
    """Every claim with its verdict, or those about one sweep.

    Held: Holm's corrected p is below 0.05 in the claimed direction and, for a claim on every cell, each cell's effect
    has the claimed sign. Not held: the 95% interval lies wholly on the other side, for a claimed size wholly short of
    it, or for a claim on every cell one cell's does, at 95% for all cells together. Undecided: otherwise, or too few
    pairs for an interval. Not run: no records.

    Args:
        results: the results folder.
        sweep: only claims that its records can decide.
        partial: accept a grid with holes, and leave out a member without partner instead of refusing it.

    Raises:
        BadInputError: there is no such folder or no claim about the sweep, its grid is incomplete or doubled, or a
            member has no partner.
    """
    there = [name for name in results.sweeps() if results.done(name)]
    asked = [claim for claim in CLAIMS if sweep in (None, *claim.sweeps)]
    if not asked:
        raise unknown("sweep with claims", str(sweep), {name for claim in CLAIMS for name in claim.sweeps})
    records: dict[str, Loaded] = {}
    entries = []
    for claim in asked:
        entry = Entry(claim, "not run")
        for name in claim.sweeps:
            if name not in there or sweep not in (None, name):
                continue
            if name not in records:
                records[name] = load(results, name, partial)
            entry = _examined(claim, records[name], results, partial)
            if entry.finding is not None:
                break
        entries.append(entry)
    return _decided(entries)


def _decided(entries: Sequence[Entry]) -> list[Entry]:
    """The entries with corrected p and verdicts."""
    p_values = pd.Series([None if one.finding is None else one.finding.p for one in entries], dtype=float)
    corrected = [None if np.isnan(p) else float(p) for p in holm(p_values)]
    return [
        one if one.finding is None else replace(one, p_holm=p, verdict=one.finding.verdict(p))
        for one, p in zip(entries, corrected, strict=True)
    ]


def _examined(claim: Claim, loaded: Loaded, results: Results, partial: bool) -> Entry:
    """What the records of a sweep say of a claim, if they have its cells."""
    members = matching_rows(loaded.members, claim.where)
    sides = [matching_rows(members, side) for side in (claim.arm, claim.reference) if side is not None]
    if any(side.empty for side in sides):
        return Entry(claim, "not run")
    about = pd.concat(sides)
    if claim.table == "samples":
        finding = attack_evidence(claim, replace(loaded, members=about), results, partial)
    else:
        finding = claim.test(claim, measured(claim, join_table(claim.table, loaded.sweep, about, results), partial))
    datasets, networks = (", ".join(sorted(about[name].unique())) for name in ("dataset", "architecture"))
    found = f"{loaded.sweep} on {datasets}, {networks}"
    return Entry(claim, "", hypotheses.in_ratios(finding) if claim.ratio else finding, found=found)
