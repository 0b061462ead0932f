"""The evidence for a claim: its effects, one a pair of networks, measured from the records."""

from dataclasses import replace

import pandas as pd

from analysis.cells import SETTINGS, STREAMS, level, varying
from analysis.claims.claim import Claim, Levels, inactive_settings, levels_text
from analysis.load import KEY, Loaded
from analysis.statistics import hypotheses
from analysis.statistics.hypotheses import Effects, Finding
from study.errors import BadInputError
from study.record.results import Results
from study.record.schema import FIT
from study.trial import FEWEST_MODELS

RESULTS = [
    *(name for name, _ in FIT),
    *("mia_auc", "mia_tpr_at_1e3fpr", "gamma_over_sigma", "grad_norm_out", "grad_norm_in", "ratio_mean"),
]
"""The columns that an effect may be made of."""
ATTACK = "lira_online"


def measured(claim: Claim, members: pd.DataFrame, partial: bool = False) -> Effects:
    """The effect of every pair that has one, or of every member where the claim is about one arm.

    Args:
        claim: what is measured, of whom.
        members: rows of `members` in the claim's cells, with what its table adds.
        partial: leave out a member without partner instead of refusing it.

    Raises:
        BadInputError: a member has no partner.
    """
    arm = matching_rows(members, claim.arm)
    if claim.reference is None:
        rows, unpaired, unwell = arm, 0, arm["status"] != "ok"
    else:
        rows, unpaired = _paired(claim, arm, matching_rows(members, claim.reference), partial)
        unwell = (rows["status_arm"] != "ok") | (rows["status_ref"] != "ok")
    usable = rows[~unwell]
    effect = claim.effect(usable).astype(float)
    unit = "members" if claim.reference is None else "pairs"
    counts = {"missing": unpaired, "diverged or failed": int(unwell.sum()), "no value": int(effect.isna().sum())}
    notes = tuple(f"{count} {unit} left out: {why}" for why, count in counts.items() if count)
    strata = [*varying(arm), *(["depth"] if "depth" in rows and rows["depth"].nunique() > 1 else [])]
    frame = usable[[*strata, *STREAMS]].assign(effect=effect).dropna()
    return Effects(frame, tuple(strata), notes)


def _paired(claim: Claim, arm: pd.DataFrame, reference: pd.DataFrame, partial: bool) -> tuple[pd.DataFrame, int]:
    """Each arm beside the reference, matched on every other setting and the seed; and how many have no partner.

    The settings are the arm's. Arms of several levels have the same reference, and each needs all of it.
    """
    sides = {**dict(claim.arm), **dict(claim.reference or {})}
    loose = {*sides, *(name for side in (claim.arm, claim.reference or {}) for name in inactive_settings(side))}
    keys = [name for name in [*SETTINGS, *STREAMS] if name not in loose]
    columns = ["status", *(name for name in RESULTS if name in arm)]
    parts, alone = [], []
    free = [name for name in SETTINGS if name in loose]
    for _, part in arm.groupby(free):
        left, right = part[[*keys, *free, *columns]], reference[[*keys, *columns]]
        pairs = left.merge(right, on=keys, how="outer", suffixes=("_arm", "_ref"), indicator=True)
        parts.append(pairs[pairs["_merge"] == "both"])
        alone.append(pairs[pairs["_merge"] != "both"])
    unpaired = pd.concat(alone)
    if len(unpaired) and not partial:
        settings = [name for name in varying(pd.concat([arm, reference])) if name in keys]
        cell = ", ".join(f"{name}={level(unpaired.iloc[0][name])}" for name in [*settings, "seed"])
        raise BadInputError(
            f"{claim.id}: {len(unpaired)} members have no partner across {levels_text(claim.arm)} and "
            f"{levels_text(claim.reference or {})}, such as {cell}; --partial leaves them out."
        )
    return pd.concat(parts), len(unpaired)


def attack_evidence(claim: Claim, loaded: Loaded, results: Results, partial: bool) -> Finding:
    """The mean over cells of the difference in AUC, attacked anew with those models that both arms have."""
    from analysis.statistics import membership  # numba takes a second to import

    effects = measured(claim, loaded.members, partial)
    kept = _kept(claim, loaded.members)
    halves = kept[kept["protocol"] == "splits"]
    models = halves.groupby(["cell", "seed"]).size()
    if models.empty or models.min() < FEWEST_MODELS:
        return Finding(
            0, notes=(*effects.notes, f"an attack needs {FEWEST_MODELS} models on halves of D' in each cell")
        )
    gained = membership.differences(membership.audits(replace(loaded, members=halves), results), [ATTACK])
    overall = gained[gained["group"] == "all"].dropna(subset=["difference"])
    if overall.empty:
        return Finding(0, notes=(*effects.notes, "no AUC to compare"))
    intervals = list(overall[["difference", "low", "high"]].itertuples(index=False, name=None))
    found = hypotheses.averaged(intervals, int(overall["targets"].min()), claim.alternative, claim.margin)
    short = claim.size is not None and found.high is not None and found.high < claim.size
    return replace(found, contradicted=found.contradicted or short, notes=(*found.notes, *effects.notes))


def _kept(claim: Claim, members: pd.DataFrame) -> pd.DataFrame:
    """The members whose partner has results too, so that the models of both arms are the same ones."""
    keys = [name for name in [*SETTINGS, *STREAMS] if name not in claim.arm]
    well = members[members["status"] == "ok"]
    partners = well.groupby(keys)["status"].transform("size")
    return well[partners == len({*members["norm"]})]


def join_table(table: str, sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """The members with what another table has of them: a mean over epochs for each result, or a row for each layer."""
    if table == "members":
        return members
    wanted = ["mem_loss", "clean_loss"] if table == "epochs" else ["depth", "ratio_mean"]
    read = results.read(sweep, table, [*KEY, "epoch", *wanted], trials=set(members["trial"])).to_pandas()
    if table == "epochs":
        found = read.groupby(KEY)[wanted].mean().reset_index()
    else:
        found = read[read["epoch"] == read.groupby(KEY)["epoch"].transform("max")].drop(columns="epoch")
    widened = members.drop(columns=[name for name in wanted if name in members]).merge(
        found, on=KEY, how="left", indicator=True
    )
    lost = widened[(widened["_merge"] != "both") & (widened["status"] == "ok")]
    if len(lost):
        raise BadInputError(
            f"{sweep}: {len(lost)} members have no {table}, such as {lost.iloc[0]['trial']}/{lost.iloc[0]['member']}; "
            f"run `python -m sweeps retry {sweep} --results {results.argument}`."
        )
    return widened.drop(columns="_merge")


def matching_rows(members: pd.DataFrame, levels: Levels) -> pd.DataFrame:
    """The members whose settings are among the levels."""
    chosen = pd.Series(True, index=members.index)
    for name, allowed in levels.items():
        chosen &= members[name].isin(allowed if isinstance(allowed, tuple) else (allowed,))
    return members[chosen]
