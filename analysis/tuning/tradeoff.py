"""What the tuned regularizer buys and what it costs: the searched settings, the recommended one and its rivals.

Settings are chosen by what they do on the validation samples. What they do on the test set stands beside it, and
decides nothing; what the chosen one gains is measured on seeds that no search has seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy import stats

from analysis.cells import SETTINGS, STREAMS, level
from analysis.load import Loaded, load
from analysis.statistics.paired import PairedTest, holm, paired_test
from study.errors import BadInputError
from study.record.results import Results
from sweeps.tuning.pareto import front, hypervolume, recommend
from sweeps.tuning.space import MAX_LOSS, SEARCHES
from sweeps.tuning.space import OBJECTIVES as DIRECTIONS

OBJECTIVES = {name: 1 if direction == "minimize" else -1 for name, direction in DIRECTIONS.items()}
"""What a search selects by, in the order of its values; 1 where less is better, -1 where more is."""
OBJECTIVE_LABELS = {"mem_acc": "memorization", "val_mia_auc": "validation MIA AUC", "val_acc": "validation accuracy"}
BESIDE = ("test_acc", "mia_auc", "clean_acc")
"""What is shown of a setting and not selected by."""
BOUGHT = ("mem_acc", "mia_auc", "test_acc", "clean_acc")
"""What the arms are compared in on fresh seeds."""
ARMS: Mapping[str, set[str]] = {
    "norm": set(),
    "regularizer": {"alpha", "lr"},
    "weight_decay": set(),
    "stopping": {"eval_every"},
    "label_smoothing": set(),
}
"""The settings by which an arm differs from the reference, each with those that may go along with it."""
NEAR_ONE = 0.99
"""The clean accuracy that counts as the "close to 1" of the paper's section 6."""
SIGNIFICANT = 0.05
FEWEST_SETTINGS = 3
"""Fewer have no rank correlation to speak of."""


@dataclass(frozen=True)
class Tuning:
    """The tuning of one cell: a dataset, a network, k, and whatever else its searches kept fixed.

    Attributes:
        title: the cell by the settings that tell it from the others.
        base: the settings of the reference, norm=batch without a regularizer.
        searched: what TPE tried, as `settings` gives it.
        random: what random search tried, likewise; empty where there is none.
        references: rows of `members`, norm=batch and norm=none on the seeds of the search.
        confirmed: rows of `members` on fresh seeds, with the `arm` of each, which is empty for the reference.
        max_loss: the validation accuracy that the recommended setting may lose.
        recommended: its row of `searched`; None where every setting loses more.
    """

    title: str
    base: Mapping[str, Any]
    searched: pd.DataFrame
    random: pd.DataFrame
    references: pd.DataFrame
    confirmed: pd.DataFrame
    max_loss: float
    recommended: Mapping[str, Any] | None

    @property
    def usable(self) -> pd.DataFrame:
        """The searched settings of which every network has results."""
        return self.searched[self.searched["status"] == "ok"]

    @property
    def accuracy(self) -> float:
        """The reference's mean validation accuracy on the seeds of the search; NaN if it has none."""
        return _mean_accuracy(self.references)

    @property
    def recommended_arm(self) -> str | None:
        """The arm of the recommended setting, as a user would type it."""
        return None if self.recommended is None else _arm({**self.base, **self.recommended}, self.base)


def parts(sweep: str) -> tuple[str, str, str]:
    """The records of a tuning: those of its search, of random search and on fresh seeds."""
    return sweep, f"{sweep}_random", f"{sweep}_confirm"


def load_tunings(
    results: Results, sweep: str = SEARCHES["tpe"], max_loss: float = MAX_LOSS, partial: bool = False
) -> tuple[list[Tuning], list[Loaded]]:
    """Every cell that was tuned into a results folder, and the records of which they are made.

    Args:
        results: the results folder.
        sweep: the tuning.
        max_loss: see `tunings`.
        partial: accept a grid with holes.

    Raises:
        BadInputError: there is no such tuning, its records are incomplete, or see `tunings`.
    """
    loaded = {name: load(results, name, partial) for name in parts(sweep) if name in results.sweeps()}
    if sweep not in loaded:
        raise BadInputError(
            f"{results} holds no tuning {sweep}; "
            f"make one with `python -m sweeps tune regularizer --results {results.argument}`."
        )
    random, confirmed = (loaded[name].members if name in loaded else None for name in parts(sweep)[1:])
    return tunings(loaded[sweep].members, random, confirmed, max_loss), list(loaded.values())


def tunings(
    searched: pd.DataFrame, random: pd.DataFrame | None, confirmed: pd.DataFrame | None, max_loss: float
) -> list[Tuning]:
    """Every cell that was tuned.

    Args:
        searched: rows of `members` that the search by TPE left, with those of its references.
        random: those of random search, None where there is none.
        confirmed: those on fresh seeds, None where there are none.
        max_loss: how much lower the mean validation accuracy may be than the reference's on the same seeds.

    Raises:
        BadInputError: nothing was searched, a cell has no reference, or it has several with different learning rates.
    """
    searched = _with_seeds(searched)
    regularized = searched["regularizer"] != "none"
    references = searched[~regularized]
    fixed = [name for name in SETTINGS if name not in ("norm", "regularizer", "alpha")]
    if not set(searched.loc[regularized, "lr"]) <= set(references["lr"]):
        fixed.remove("lr")  # it was tuned as well
    cells = list(searched[regularized].groupby([*fixed, "seeds"], sort=True))
    if not cells:
        raise BadInputError("no setting was searched yet; run `python -m sweeps tune regularizer` again, it goes on.")
    keys = pd.DataFrame([key for key, _ in cells], columns=[*fixed, "seeds"])
    found = []
    for key, members in cells:
        named = dict(zip(keys.columns, key, strict=True))
        title = _title(named, [name for name in keys.columns if keys[name].nunique() > 1])
        held = _alike(references, {name: named[name] for name in fixed})
        held = held[held["seed"].isin(members["seed"])]
        base = _base(held, title)
        tried = settings(members)
        rest = members.iloc[:0] if random is None else _alike(_with_seeds(random), named)
        found.append(
            Tuning(
                title=title,
                base=base,
                searched=tried,
                random=settings(rest) if len(rest) else tried.iloc[:0],
                references=held,
                confirmed=_confirmed(confirmed, base, set(members["seed"])),
                max_loss=max_loss,
                recommended=recommend(_records(tried[tried["status"] == "ok"]), _mean_accuracy(held), max_loss),
            )
        )
    return found


def settings(members: pd.DataFrame) -> pd.DataFrame:
    """The settings that a search tried, as means over their seeds.

    Args:
        members: rows of `members` of one search in one cell.

    Returns:
        A row a trial in the order in which they started: `trial`, `regularizer`, `alpha`, `lr`, the means of
        `OBJECTIVES` and of `BESIDE`, `n`, the networks, `status`, `ok` or why there is no mean, and `front`, whether no
        other setting is at least as good in all objectives and better in one.
    """
    trials = members.groupby("trial", sort=True)
    table = trials[["regularizer", "alpha", "lr", "started"]].min()
    table = table.join(trials[[*OBJECTIVES, *BESIDE]].mean()).join(trials.size().rename("n"))
    # Of a trial that lost a network, the mean over the rest would be of other seeds than everybody else's.
    table["status"] = trials["status"].agg(lambda status: next((each for each in status if each != "ok"), "ok"))
    table.loc[(table["status"] == "ok") & table[[*OBJECTIVES]].isna().any(axis=1), "status"] = "not measured"
    table.loc[table["status"] != "ok", [*OBJECTIVES, *BESIDE]] = np.nan
    table = table.sort_values("started", kind="stable").drop(columns="started").reset_index()
    usable = table["status"] == "ok"
    table["front"] = False
    table.loc[usable, "front"] = front(_points(table[usable]))
    return table


def front_table(tuning: Tuning) -> pd.DataFrame:
    """The front by alpha, then the references.

    Returns:
        A row each: `setting`, `alpha`, `lr`, the means of `OBJECTIVES` and of `BESIDE`, and `recommended`.
    """
    chosen = tuning.usable[tuning.usable["front"]].sort_values(["alpha", "regularizer", "lr"])
    best = None if tuning.recommended is None else tuning.recommended["trial"]
    rows = chosen.assign(setting=chosen["regularizer"], recommended=chosen["trial"] == best)
    held = reference_means(tuning).assign(alpha=np.nan, recommended=False)
    held["setting"] = "norm=" + held["norm"]
    columns = ["setting", "alpha", "lr", *OBJECTIVES, *BESIDE, "recommended"]
    return pd.concat([rows[columns], held[columns]], ignore_index=True)


def reference_means(tuning: Tuning) -> pd.DataFrame:
    """The references' means over the seeds of the search, and `<metric>_sd` of what the figure shows."""
    norms = tuning.references[tuning.references["status"] == "ok"].groupby("norm", sort=True)
    deviations = norms[["mem_acc", "test_acc"]].std(ddof=1).add_suffix("_sd")
    return norms[["lr", *OBJECTIVES, *BESIDE]].mean().join(deviations).reset_index()


def worst(tuning: Tuning) -> dict[str, float]:
    """The reference point: the worst of each objective over both searches and the references."""
    every = pd.concat([frame[[*OBJECTIVES]] for frame in (tuning.searched, tuning.random, reference_means(tuning))])
    return {name: float((every[name] * sign).max() * sign) for name, sign in OBJECTIVES.items()}


def hypervolumes(tuning: Tuning) -> pd.DataFrame:
    """What each search dominates of the space before the reference point, after each of its trials.

    Returns:
        A row for each search and number of trials: `search`, `trials`, those without a result included, and
        `hypervolume`.
    """
    corner = [value * sign for value, sign in zip(worst(tuning).values(), OBJECTIVES.values(), strict=True)]
    rows = []
    for name, tried in (("TPE", tuning.searched), ("random", tuning.random)):
        points, usable = _points(tried), (tried["status"] == "ok").to_numpy()
        rows += [
            {"search": name, "trials": count, "hypervolume": hypervolume(points[:count][usable[:count]], corner)}
            for count in range(1, len(tried) + 1)
        ]
    return pd.DataFrame(rows, columns=["search", "trials", "hypervolume"])


def arms(tuning: Tuning) -> pd.DataFrame:
    """What each arm came to on fresh seeds, the reference first, then the recommended setting.

    Returns:
        A row an arm: `arm` (empty for the reference), `recommended`, `<metric>_mean` and `<metric>_sd` of `BOUGHT`, for
        all but the reference `<metric>_difference`, `_low` and `_high`, the paired difference from it, `n`, the
        networks with results, and `excluded`.
    """
    tested = {(row["arm"], row["metric"]): row for row in _records(comparisons(tuning))}
    rows: list[dict[str, Any]] = []
    for arm in ["", *_names(tuning)]:
        members = tuning.confirmed[tuning.confirmed["arm"] == arm]
        usable = members[members["status"] == "ok"]
        row: dict[str, Any] = {"arm": arm, "recommended": arm == tuning.recommended_arm}
        for metric in BOUGHT:
            row |= {f"{metric}_mean": usable[metric].mean(), f"{metric}_sd": usable[metric].std(ddof=1)}
            for measure in ("difference", "low", "high") if arm else ():
                row[f"{metric}_{measure}"] = tested[arm, metric][measure]
        rows.append({**row, "n": len(usable), "excluded": len(members) - len(usable)})
    return pd.DataFrame(rows)


def comparisons(tuning: Tuning) -> pd.DataFrame:
    """Every arm against the reference on fresh seeds, paired over them, two-sided.

    Returns:
        A row for each metric of `BOUGHT` and arm, with the columns of `compare.compare`; Holm's correction is over
        all of them. No rows where nothing was confirmed.
    """
    held = {"reference": "batch", "alternative": "two-sided"}
    rows = [
        {"metric": metric, "arm": arm, **held, **vars(found), "excluded": excluded}
        for metric in BOUGHT
        for arm in _names(tuning)
        for found, excluded in [_paired(tuning.confirmed, arm, "", metric)]
    ]
    columns = ["metric", "arm", *held, *PairedTest.__dataclass_fields__, "excluded"]
    table = pd.DataFrame(rows, columns=columns)
    measured = ["difference", "low", "high", "effect", "p"]
    table[measured] = table[measured].astype(float)
    return table.assign(p_holm=holm(table["p"]))


@dataclass(frozen=True)
class Finding:
    """One finding of the paper's Fig. 8, and whether these records have it.

    Attributes:
        claim: what the paper says.
        verdict: `holds`, `does not hold` or `not decided`.
        evidence: the numbers.
    """

    claim: str
    verdict: str
    evidence: str


def findings(tuning: Tuning) -> list[Finding]:
    """What Fig. 8 says, held against these records."""
    return [_less_than_without(tuning), _less_with_alpha(tuning), _cost(tuning)]


def _less_than_without(tuning: Tuning) -> Finding:
    claim = "the regularized network memorizes less than one without batch norm, at clean accuracy near 1"
    clean = tuning.usable[tuning.usable["clean_acc"] >= NEAR_ONE]
    none = reference_means(tuning).set_index("norm")["mem_acc"].get("none", np.nan)
    fewer = int((clean["mem_acc"] < none).sum())
    searched = (
        f"on the search's seeds {fewer} of the {len(clean)} settings with clean accuracy of at least {NEAR_ONE:g} "
    )
    searched += "memorize less than norm=none"
    arm = tuning.recommended_arm
    found = PairedTest(0) if arm is None else _paired(tuning.confirmed, arm, "norm=none", "mem_acc")[0]
    if found.difference is None:
        verdict = "does not hold" if np.isfinite(none) and not fewer else "not decided"
        return Finding(claim, verdict, f"{searched}; there is no recommended setting with norm=none on fresh seeds")
    fitted = float(tuning.confirmed.loc[tuning.confirmed["arm"] == arm, "clean_acc"].mean())
    verdict = "not decided" if found.high is None or found.high >= 0 else "holds"
    if found.difference >= 0 or fitted < NEAR_ONE:
        verdict = "does not hold"
    shown = f"on fresh seeds memorization with {arm} minus norm=none: {said(found)}, at clean accuracy {fitted:.3f}"
    return Finding(claim, verdict, f"{shown}; {searched}")


def _less_with_alpha(tuning: Tuning) -> Finding:
    claim = "the smaller alpha, the less is memorized"
    told, positive, negative = [], [], []
    for kind, tried in tuning.usable.groupby("regularizer", sort=True):
        if len(tried) < FEWEST_SETTINGS or min(tried["alpha"].nunique(), tried["mem_acc"].nunique()) < 2:
            told.append(f"{kind}: too few different values among {len(tried)} settings for a rank correlation")
            positive.append(False)
            continue
        rho, p = rank_correlation(tried["alpha"].to_numpy(), tried["mem_acc"].to_numpy())
        told.append(f"{kind}: Spearman's rho {rho:+.2f}, p {p:.2g}, {len(tried)} settings")
        positive.append(bool(rho > 0 and p < SIGNIFICANT))
        negative.append(bool(rho < 0 and p < SIGNIFICANT))
    verdict = "does not hold" if any(negative) else "holds" if positive and all(positive) else "not decided"
    return Finding(claim, verdict, "; ".join(told) or "no searched setting gave a result")


def rank_correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Spearman's rho of two rows of numbers [N], and its two-sided p by permutation: exact for few, else of 9,999.

    The usual approximation gives p = 0 to three settings that happen to be in order.
    """
    x, y = (stats.zscore(stats.rankdata(values)) for values in (one, other))
    found = stats.permutation_test(
        (x,),
        lambda permuted, axis: (permuted * y).mean(axis=axis),
        permutation_type="pairings",
        vectorized=True,
        rng=0,
    )
    return float(found.statistic), float(found.pvalue)


def _cost(tuning: Tuning) -> Finding:
    claim = "less memorization costs test accuracy"
    shown = [arm for arm in (tuning.recommended_arm, "norm=none") if arm is not None]
    found = {arm: _paired(tuning.confirmed, arm, "", "test_acc")[0] for arm in shown}
    measured = {arm: test for arm, test in found.items() if test.difference is not None}
    if tuning.recommended_arm not in measured:
        best = tuning.recommended
        held = reference_means(tuning).set_index("norm")["test_acc"].get("batch", np.nan)
        beside = "nothing is recommended" if best is None else f"on the search's seeds {best['test_acc'] - held:+.3f}"
        return Finding(claim, "not decided", f"{beside}, and nothing is known on fresh seeds")
    test = measured[tuning.recommended_arm]
    verdict = "not decided"
    if test.low is not None and test.high is not None:
        verdict = "holds" if test.high < 0 else "does not hold" if test.low >= 0 else "not decided"
    told = ", ".join(f"{arm} {said(test)}" for arm, test in measured.items())
    return Finding(claim, verdict, f"on fresh seeds test accuracy minus that of norm=batch: {told}")


def said(test: PairedTest) -> str:
    """A difference with its interval, if it has one."""
    interval = "" if test.low is None else f" [{test.low:+.3f}, {test.high:+.3f}]"
    return f"{test.difference:+.3f}{interval} over {test.n} seed{'s' * (test.n != 1)}"


def _names(tuning: Tuning) -> list[str]:
    """The arms on fresh seeds but for the reference, the recommended one first."""
    found = {str(name) for name in tuning.confirmed["arm"]} - {""}
    return sorted(found, key=lambda name: (name != tuning.recommended_arm, name))


def _with_seeds(members: pd.DataFrame) -> pd.DataFrame:
    """The members with the `seeds` of their trial: means over other seeds are not to be compared."""
    seeds = members.groupby("trial")["seed"].agg(lambda seed: ",".join(map(str, sorted(set(seed)))))
    return members.assign(seeds=members["trial"].map(seeds))


def _alike(members: pd.DataFrame, values: Mapping[str, Any]) -> pd.DataFrame:
    """The members that have these values."""
    same = np.logical_and.reduce([members[name] == value for name, value in values.items()])
    return members[same]


def _title(cell: Mapping[str, Any], telling: list[str]) -> str:
    names = ["dataset", "architecture", "k"]
    names += [name for name in telling if name not in names]
    return " ".join(f"{name}={level(cell[name])}" for name in names)


def _base(references: pd.DataFrame, title: str) -> dict[str, Any]:
    held = references[references["norm"] == "batch"]
    if held.empty:
        raise BadInputError(
            f"the tuning of {title} has no networks with norm=batch to be held against yet; "
            "run `python -m sweeps tune regularizer` again, it goes on where it was."
        )
    if held["lr"].nunique() > 1:
        raise BadInputError(f"the tuning of {title} has references with several learning rates; use a folder for each.")
    return {name: held.iloc[0][name] for name in SETTINGS}


def _mean_accuracy(references: pd.DataFrame) -> float:
    held = references[(references["norm"] == "batch") & (references["status"] == "ok")]
    return float(held["val_acc"].mean())


def _records(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _points(table: pd.DataFrame) -> NDArray[np.float64]:
    """The objectives as points [N, 3] of which less is better in every column."""
    points: NDArray[np.float64] = table[[*OBJECTIVES]].to_numpy(np.float64) * np.array([*OBJECTIVES.values()])
    return points


def _confirmed(members: pd.DataFrame | None, base: Mapping[str, Any], seen: set[int]) -> pd.DataFrame:
    """The members on fresh seeds that are the reference or differ from it as an arm does, with their `arm`."""
    if members is None:
        return pd.DataFrame(columns=[*STREAMS, *BOUGHT, "status", "arm"])
    names = [_arm(row, base) for row in _records(members[SETTINGS])]
    kept = np.array([name is not None for name in names]) & ~members["seed"].isin(seen).to_numpy()
    return members.assign(arm=pd.Series(names, index=members.index, dtype=object))[kept]


def _arm(row: Mapping[str, Any], base: Mapping[str, Any]) -> str | None:
    """What tells an arm from the reference, as a user would type it: nothing for itself, None for another cell."""
    changed = [name for name in SETTINGS if row[name] != base[name]]
    own = not changed or any(name in changed and set(changed) <= {name} | along for name, along in ARMS.items())
    return " ".join(f"{name}={level(row[name])}" for name in changed) if own else None


def _paired(confirmed: pd.DataFrame, arm: str, reference: str, metric: str) -> tuple[PairedTest, int]:
    """The test of one arm against another over the seeds that have both, and how many pairs lack a result."""
    sides = [confirmed[confirmed["arm"] == name].set_index(STREAMS)[metric].astype(float) for name in (arm, reference)]
    pairs = pd.concat(sides, axis=1, keys=["arm", "reference"])
    values = pairs.dropna()
    found = paired_test(values["arm"].to_numpy(), values["reference"].to_numpy(), "two-sided")
    return found, len(pairs) - len(values)
