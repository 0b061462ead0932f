"""The evidence for a claim: its effects, one for each pair of members, or what a tuning says of it."""

from dataclasses import replace
from math import isfinite, nan

import pandas as pd

from analysis.cells import CELL_SETTINGS, PAIRING_KEYS, matching_rows, varying_settings
from analysis.claims.claim import Claim, every, inactive_at, levels_text
from analysis.claims.effects import Measured, counts
from analysis.load import KEY, Loaded
from analysis.metrics import COUNTED, NEAR_ONE, ROBUSTNESS_METRICS
from analysis.statistics import hypotheses, membership
from analysis.statistics.activations import CLASS_SPREAD, NEIGHBOUR_ACC, with_activations
from analysis.statistics.amplification import GRADIENTS, with_gradients
from analysis.statistics.corrupted import (
    CORRUPTED_ACC,
    CORRUPTED_BY,
    FAMILY_ACCURACIES,
    FINER,
    NEW_ACCURACIES,
    with_corruptions,
    with_new_test_set,
    with_severities,
)
from analysis.statistics.hypotheses import Effects, Finding, rank_correlation
from analysis.statistics.layers import last_and_first
from analysis.statistics.mechanism import CURVE, PULLS, by_epoch, mean_pulls, with_curves
from analysis.statistics.paired import PairedTest
from analysis.statistics.robustness import ATTACKED, with_attacks
from analysis.statistics.top5 import SHOWN, TOP5, TRANSFERRED, with_top5
from analysis.tuning.tradeoff import TunedCell, difference_text, paired_difference, reference_means
from study.errors import BadInputError
from study.mia.audit import MAIN_ATTACK
from study.mia.roc import ALL
from study.record.results import Results
from study.record.schema import FIT
from study.settings import format_value
from study.trial import FEWEST_MODELS

RESULTS = [
    *(column.name for column in FIT),
    *("mia_auc", "mia_tpr_at_1e3fpr", "gamma_over_sigma", "grad_norm_out", "grad_norm_in"),
    *("mia_attack", "converged", *GRADIENTS, CURVE),
    *(metric.column for metric in ROBUSTNESS_METRICS),
    *(*ATTACKED, CLASS_SPREAD, NEIGHBOUR_ACC),
    *(*FAMILY_ACCURACIES, CORRUPTED_BY, CORRUPTED_ACC, *NEW_ACCURACIES),
    *(*TOP5, *TRANSFERRED, SHOWN),
    *dict.fromkeys(COUNTED.values()),
]
"""The columns that an effect may be made of."""
OF_LAYERS = ["ratio_median", "gamma_median"]
"""The columns of `layers` that an effect may be made of, each also at initialization, as in `ratio_median_start`."""
TOO_FEW_MODELS = f"an attack needs {FEWEST_MODELS} models on halves of D' in each cell"
FEWEST_SETTINGS = 3
"""Fewer settings of a tuning have no rank correlation to speak of."""

# From the records of a sweep ------------------------------------------------------------------------------------------


def measure_effects(claim: Claim, members: pd.DataFrame, partial: bool = False) -> Effects:
    """Return the effect of every pair that has one, or of every member where the claim is about one arm.

    Args:
        claim: the claim.
        members: rows of `members` in the claim's cells, with the columns that its table adds.
        partial: leave out a member without partner instead of refusing it.

    Raises:
        BadInputError: a member has no partner.
    """
    members = _with_diverged(claim, members)
    arm = matching_rows(members, claim.arm)
    if claim.reference is None:
        rows, unpaired, lost = arm, 0, arm["status"] != "ok"
    else:
        rows, unpaired = _pair_members(claim, arm, matching_rows(members, claim.reference), partial)
        rows = by_epoch(rows) if claim.table == "margins" else rows
        lost = (rows["status_arm"] != "ok") | (rows["status_ref"] != "ok")
    attacked = _attacked(claim, rows[~lost])
    usable, unconverged = _converged(claim, attacked)
    effect = claim.effect(usable).astype(float)
    unit = "members" if claim.reference is None else "pairs"
    lacking = {
        "missing": unpaired,
        "diverged or failed": int(lost.sum()),
        "attacked by one threshold and not by LiRA, which protocol=splits has": int((~lost).sum()) - len(attacked),
        "in a cell with a network that has not converged, or was not trained with stopping=converged": unconverged,
        "no value": int(effect.isna().sum()),
    }
    notes = tuple(f"{count} {unit} left out: {why}" for why, count in lacking.items() if count)
    notes = (*notes, *_corrupted_by(usable))
    finer = [name for name in ("depth", "measured_epoch", *FINER) if name in rows and rows[name].nunique() > 1]
    strata = [*(name for name in varying_settings(arm) if name not in claim.goes_with), *finer]
    numbers = {"effect": effect, **({} if claim.beside is None else {"beside": claim.beside(usable).astype(float)})}
    shares = {
        **counts(claim.effect, usable),
        **{f"beside_{name}": share for name, share in counts(claim.beside, usable).items()},
    }
    frame = usable[[*strata, *PAIRING_KEYS]].assign(**numbers, **shares).dropna(subset=list(numbers))
    return Effects(frame, tuple(strata), notes)


def _with_diverged(claim: Claim, members: pd.DataFrame) -> pd.DataFrame:
    """Return the members with those that diverged as such with results, if the claim says which they count with."""
    if not claim.diverged_as:
        return members
    diverged = members["status"] == "diverged"
    return members.assign(
        status=members["status"].mask(diverged, "ok"),
        **{name: members[name].mask(diverged, value) for name, value in claim.diverged_as.items()},
    )


def _corrupted_by(rows: pd.DataFrame) -> list[str]:
    """Return a note on the corrupted images that an effect is about, where it is about any."""
    told = {text for name in (CORRUPTED_BY, f"{CORRUPTED_BY}_arm") if name in rows for text in rows[name].dropna()}
    return [f"corrupted images: {'; '.join(sorted(told))}"] if told else []


def _attacked(claim: Claim, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows whose members were attacked by LiRA, if the claim is about it, and else all."""
    if not claim.attacked:
        return rows
    attacks = [name for name in ("mia_attack", "mia_attack_arm", "mia_attack_ref") if name in rows]
    return rows[(rows[attacks] == MAIN_ATTACK).all(axis=1)]


def _converged(claim: Claim, rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """Return the rows of cells whose networks have all converged, if the claim asks for it, and how many are left out.

    Whole cells are left out, for seeds that are chosen by their results would no longer be a sample.
    """
    if not claim.converged:
        return rows, 0
    of_arms = [name for name in ("converged", "converged_arm", "converged_ref") if name in rows]
    has_converged = rows[of_arms].eq(True).all(axis=1)  # without stopping=converged it is missing
    reached = has_converged.groupby([rows[name] for name in CELL_SETTINGS]).transform("all")
    return rows[reached], int((~reached).sum())


def _pair_members(claim: Claim, arm: pd.DataFrame, reference: pd.DataFrame, partial: bool) -> tuple[pd.DataFrame, int]:
    """Pair the arm's members with the reference's by every other setting and the seed, and count those left over.

    A pair has the arm's settings. Several levels of the arm share one reference, and each needs all of it.
    """
    sides = {**dict(claim.arm), **dict(claim.reference or {})}
    unmatched = {*sides, *(name for side in (claim.arm, claim.reference or {}) for name in inactive_at(side))}
    finer = [name for name in FINER if name in arm]
    keys = [name for name in [*CELL_SETTINGS, *PAIRING_KEYS, *finer] if name not in unmatched]
    columns = ["status", *(name for name in RESULTS if name in arm)]
    paired, left_over = [], []
    of_arm = [name for name in CELL_SETTINGS if name in unmatched]
    for _, part in arm.groupby(of_arm):
        own = {other: part[other] for name, other in claim.goes_with.items() if name in of_arm and other in keys}
        partners = reference[[*keys, *columns]]
        for other, levels in own.items():
            partners = partners[partners[other].isin(levels)]
        left, right = part[[*keys, *of_arm, *columns]], partners
        pairs = left.merge(right, on=keys, how="outer", suffixes=("_arm", "_ref"), indicator=True)
        paired.append(pairs[pairs["_merge"] == "both"])
        left_over.append(pairs[pairs["_merge"] != "both"])
    unpaired = pd.concat(left_over)
    if len(unpaired) and not partial:
        settings = [name for name in varying_settings(pd.concat([arm, reference])) if name in keys]
        cell = ", ".join(f"{name}={format_value(unpaired.iloc[0][name])}" for name in [*settings, "seed"])
        raise BadInputError(
            f"{claim.id}: {len(unpaired)} members have no partner across {levels_text(claim.arm)} and "
            f"{levels_text(claim.reference or {})}, such as {cell}; --partial leaves them out."
        )
    return pd.concat(paired), len(unpaired)


def attack_evidence(claim: Claim, loaded: Loaded, results: Results, partial: bool) -> Finding:
    """Return the mean over cells of the difference in AUC, from attacks on the models that both arms have.

    Args:
        claim: the claim.
        loaded: the sweep's members in the claim's cells.
        results: the folder that they were loaded from.
        partial: leave out a member without partner instead of refusing it.

    Raises:
        BadInputError: a member has no partner.
    """
    effects = measure_effects(claim, loaded.members, partial)
    halves = _on_halves(_with_partners(claim, loaded.members))
    if halves.empty:
        return Finding(0, notes=(*effects.notes, TOO_FEW_MODELS))
    audited = membership.audit_cells(replace(loaded, members=halves), results)
    differences = membership.auc_differences(audited, [MAIN_ATTACK])
    overall = differences[_is_of_group(claim, differences)].dropna(subset=["difference", "low", "high"])
    if overall.empty:
        return Finding(0, notes=(*effects.notes, "no AUC to compare"))
    if "seed" in overall:
        return _over_several_d(claim, overall, effects.notes)
    intervals = list(overall[["difference", "low", "high"]].itertuples(index=False, name=None))
    finding = hypotheses.mean_of_intervals(
        *(intervals, int(overall["targets"].min()), claim.alternative, claim.margin, claim.size),
        each=claim.test is every,
    )
    return replace(finding, notes=(*finding.notes, "conditional on one D'", *effects.notes))


def _over_several_d(claim: Claim, differences: pd.DataFrame, notes: tuple[str, ...]) -> Finding:
    """Return what differences in AUC say where each seed has a D' of its own: these are the units.

    An interval over targets and samples is about one D', so that only the differences count here. There are too few D'
    for a bootstrap of them.
    """
    strata = [name for name in differences if name in CELL_SETTINGS]
    frame = differences[[*strata, "seed"]].assign(model=0, effect=differences["difference"])
    return claim.test(claim, Effects(frame, tuple(strata), ("n counts D'", *notes)))


def beyond_shadows(claim: Claim, finding: Finding, loaded: Loaded, results: Results) -> Finding:
    """Return the finding of a claim on a difference of AUCs, undecided where that may be one of the shadows.

    How well an attack estimates its shadows differs between arms, and so would its AUC where both leak alike. The part
    of the difference that is gone in the limit of infinitely many shadows is taken for that. The claim holds only if
    the online and the offline one-sided attack agree in sign, what is left of the effect lies beyond the claimed
    margin, and that part is smaller than a claimed size. What is left must not be beyond the margin to contradict it.

    Args:
        claim: the claim.
        finding: what its test says.
        loaded: the sweep's members in the claim's cells.
        results: the folder that they were loaded from.
    """
    halves = _on_halves(_with_partners(claim, loaded.members))
    if finding.effect is None or halves.empty:
        return finding
    limits = membership.difference_limits(membership.audit_cells(replace(loaded, members=halves), results))
    means = limits[_is_of_group(claim, limits)].groupby("attack")[["difference", "limit"]].mean()
    if set(means.index) != set(membership.BESIDE):
        return finding
    (online, limit), (steady, steady_limit) = means.loc[list(membership.BESIDE)].to_numpy().tolist()
    part = online - limit
    left = finding.effect - part
    sign = 1 if claim.alternative == "greater" else -1
    agree = online * steady > 0
    beyond = sign * (left - claim.margin) > 0 and (claim.size is None or abs(part) < min(map(abs, claim.size)))
    notes = [
        f"AUC online {online:+.3f}, with infinitely many shadows {limit:+.3f}; "
        f"offline one-sided {steady:+.3f}, {steady_limit:+.3f}"
    ]
    if isfinite(part) and not (agree and beyond):
        notes.append("not told from how well shadows estimate the arms")
    if not isfinite(part):
        notes.append("too few models to tell from how well shadows estimate the arms")
    return replace(
        finding,
        complete=finding.complete and agree and beyond,
        p_against=None if beyond and claim.size is None else finding.p_against,
        notes=(*finding.notes, *notes),
    )


def _is_of_group(claim: Claim, rows: pd.DataFrame) -> pd.Series:
    """Return which rows are of the samples that the claim is about."""
    return ~rows["group"].isin([ALL, "clean"]) if claim.group == "atypical" else rows["group"] == ALL


def leakage_evidence(claim: Claim, loaded: Loaded, results: Results) -> Finding:
    """Return how the memorization of samples goes with what leaks of them, from the models on halves of each cell.

    Args:
        claim: the claim.
        loaded: the sweep's members in the claim's cells.
        results: the folder that they were loaded from.
    """
    halves = _on_halves(loaded.members)
    if halves.empty:
        return Finding(0, notes=(TOO_FEW_MODELS,))
    strata = varying_settings(halves)
    rows = [
        {**{name: cell.settings[name] for name in [*strata, "seed"]}, "model": half, "effect": rho}
        for cell in membership.audit_cells(replace(loaded, members=halves), results)
        for half, rho in enumerate(membership.memorization_and_leakage(cell))
    ]
    frame = pd.DataFrame(rows)
    lost = int(frame["effect"].isna().sum())
    notes = (f"{lost} of {len(frame)} left out: no spread over samples",) if lost else ()
    return claim.test(claim, Effects(frame.dropna(), tuple(strata), ("Spearman's rho over samples", *notes)))


def _on_halves(members: pd.DataFrame) -> pd.DataFrame:
    """Return the members on halves of D'; none where a cell has too few for an attack."""
    halves = members[(members["protocol"] == "splits") & (members["status"] == "ok")]
    models = halves.groupby(["cell", "seed"]).size()
    return halves if len(models) and models.min() >= FEWEST_MODELS else halves.iloc[:0]


def _with_partners(claim: Claim, members: pd.DataFrame) -> pd.DataFrame:
    """Return the members whose partner has results too, so that both arms have the same models."""
    keys = [name for name in [*CELL_SETTINGS, *PAIRING_KEYS] if name not in claim.arm]
    usable = members[members["status"] == "ok"]
    partners = usable.groupby(keys)["status"].transform("size")
    return usable[partners == len({*members["norm"]})]


def join_table(table: str, sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Join the members with what a claim's table adds to them; see `Claim`.

    Raises:
        BadInputError: a member with results is not in the table.
    """
    if table == "members":
        return members
    if table == "gradients":
        return with_gradients(sweep, members, results)
    if table == "activations":
        return with_activations(sweep, members, results)
    if table == "robustness":
        return with_attacks(sweep, members, results)
    joins = {
        "corruptions": with_corruptions,
        "severities": with_severities,
        "cifar10.1": with_new_test_set,
        "top5": with_top5,
    }

    if table in joins:
        return joins[table](sweep, members, results)
    if table in ("curves", "margins"):
        return with_curves(sweep, members, results)
    if table == "gamma_gradients":
        columns = [*KEY, "epoch", "depth", *PULLS]
        rows = results.read(sweep, table, columns, trials=set(members["trial"])).to_pandas()
        return members.merge(mean_pulls(rows), on=KEY, how="left")
    columns = ["mem_loss", "clean_loss"] if table == "epochs" else ["depth", *OF_LAYERS]
    rows = results.read(sweep, table, [*KEY, "epoch", *columns], trials=set(members["trial"])).to_pandas()
    rows = rows.groupby(KEY)[columns].mean().reset_index() if table == "epochs" else last_and_first(rows, OF_LAYERS)
    own = members.drop(columns=[name for name in columns if name in members])
    joined = own.merge(rows, on=KEY, how="left", indicator=True)
    lost = joined[(joined["_merge"] != "both") & (joined["status"] == "ok")]
    if len(lost):
        raise BadInputError(
            f"{sweep}: {len(lost)} members have no {table}, such as {lost.iloc[0]['trial']}/{lost.iloc[0]['member']}; "
            f"run `python -m sweeps retry {sweep} --results {results.argument}`."
        )
    return joined.drop(columns="_merge")


# From the records of a tuning -----------------------------------------------------------------------------------------


def less_than_without_norm(cell: TunedCell) -> Finding:
    """Compare the memorization of the recommended setting with that of norm=none, at clean accuracy near 1.

    On fresh seeds the claim is contradicted by more memorization, or by clean accuracy below `NEAR_ONE`: the smaller
    p-value counts, twice. Where fresh seeds don't have both arms, nothing is decided.
    """
    clean = cell.usable[cell.usable["clean_acc"] >= NEAR_ONE]
    without_norm = reference_means(cell).set_index("norm")["mem_acc"].get("none", nan)
    fewer = int((clean["mem_acc"] < without_norm).sum())
    searched = (
        f"on the search's seeds {fewer} of the {len(clean)} settings with clean accuracy of at least {NEAR_ONE:g} "
        "memorize less than norm=none"
    )
    arm = cell.recommended_arm
    test = None if arm is None else paired_difference(cell.confirmed, arm, "norm=none", "mem_acc")[0]
    if test is None or test.difference is None:
        return Finding(0, notes=(searched, "there is no recommended setting with norm=none on fresh seeds"))
    own = cell.confirmed[cell.confirmed["arm"] == arm].dropna(subset="clean_acc")
    accuracy, clean_acc = float(own["clean_acc"].mean()), Measured("clean_acc")
    frame = own[PAIRING_KEYS].assign(effect=clean_acc(own), **clean_acc.counts(own))
    clean_enough = hypotheses.above(Effects(frame), "greater", NEAR_ONE)
    p, p_against = _one_sided(test, "less")
    against = [value for value in (p_against, clean_enough.p_against) if value is not None]
    return Finding(
        *(test.n, test.difference, test.low, test.high, p),
        p_against=min(1.0, 2 * min(against)) if against else None,
        complete=accuracy >= NEAR_ONE,
        notes=(
            f"on fresh seeds memorization with {arm} minus norm=none: {difference_text(test)}, "
            f"at clean accuracy {accuracy:.3f}",
            searched,
        ),
    )


def less_with_smaller_alpha(cell: TunedCell) -> Finding:
    """Correlate alpha with memorization over the searched settings of each kind of regularizer, by rank.

    Every kind must have a positive correlation. The effect and the p-value are those of the kind that supports it
    least. A kind whose correlation is negative contradicts it, by its p-value times the number of kinds.
    """
    notes, correlations, missing = [], [], False
    for kind, tried in cell.usable.groupby("regularizer", sort=True):
        if len(tried) < FEWEST_SETTINGS or min(tried["alpha"].nunique(), tried["mem_acc"].nunique()) < 2:
            notes.append(f"{kind}: too few different values among {len(tried)} settings for a rank correlation")
            missing = True
            continue
        numbers = tried["alpha"].to_numpy(), tried["mem_acc"].to_numpy()
        rho, p = rank_correlation(*numbers, "greater")
        _, p_against = rank_correlation(*numbers, "less")
        notes.append(f"{kind}: Spearman's rho {rho:+.2f}, one-sided p {p:.2g}, {len(tried)} settings")
        correlations.append((rho, p, p_against))
    if not correlations:
        return Finding(len(cell.usable), notes=tuple(notes) or ("no searched setting gave a result",))
    return Finding(
        len(cell.usable),
        effect=min(rho for rho, _, _ in correlations),
        p=max(p for _, p, _ in correlations),
        p_against=min(1.0, len(correlations) * min(p for _, _, p in correlations)),
        complete=not missing,
        notes=tuple(notes),
    )


def cost_in_accuracy(cell: TunedCell) -> Finding:
    """Compare the test accuracy of the recommended setting with that of plain batch norm, on fresh seeds."""
    arms = [arm for arm in (cell.recommended_arm, "norm=none") if arm is not None]
    tests = {arm: paired_difference(cell.confirmed, arm, "", "test_acc")[0] for arm in arms}
    known = {arm: test for arm, test in tests.items() if test.difference is not None}
    if cell.recommended is None:
        return Finding(0, notes=("nothing is recommended, and nothing is known on fresh seeds",))
    if cell.recommended_arm not in known:
        reference = reference_means(cell).set_index("norm")["test_acc"].get("batch", nan)
        change = cell.recommended["test_acc"] - reference
        return Finding(0, notes=(f"on the search's seeds {change:+.3f}, and nothing is known on fresh seeds",))
    test = known[cell.recommended_arm]
    texts = ", ".join(f"{arm} {difference_text(of_arm)}" for arm, of_arm in known.items())
    p, p_against = _one_sided(test, "less")
    return Finding(
        *(test.n, test.difference, test.low, test.high, p, p_against),
        notes=(f"on fresh seeds test accuracy minus that of norm=batch: {texts}",),
    )


def _one_sided(test: PairedTest, alternative: str) -> tuple[float | None, float | None]:
    """Return the p-values of a two-sided test on the side that is claimed, and on the other."""
    if test.p is None or test.difference is None:
        return None, None
    claimed = test.difference < 0 if alternative == "less" else test.difference > 0
    nearer, farther = test.p / 2, 1 - test.p / 2
    return (nearer, farther) if claimed else (farther, nearer)
