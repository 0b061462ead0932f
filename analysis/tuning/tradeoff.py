"""The trade-off of a tuned regularizer: the searched settings, the recommended one, and its rivals on fresh seeds.

Settings are chosen by their results on the validation samples. Their results on the test set stand beside these and
decide nothing. What the recommended setting gains is measured on seeds that no search has seen.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.cells import CELL_SETTINGS, PAIRING_KEYS, matching_rows
from analysis.load import Loaded, load
from analysis.metrics import ROBUSTNESS_METRICS
from analysis.statistics.paired import PairedTest, holm, paired_test
from study.errors import BadInputError
from study.record.results import Results
from study.settings import format_value
from sweeps.tuning.pareto import front, hypervolume, recommend
from sweeps.tuning.space import MAX_LOSS, SEARCHES
from sweeps.tuning.space import OBJECTIVES as DIRECTIONS

OBJECTIVES = {name: 1 if direction == "minimize" else -1 for name, direction in DIRECTIONS.items()}
"""The objectives of a search in the order of its values: 1 where less is better, -1 where more is."""
OBJECTIVE_LABELS = {"mem_acc": "memorization", "val_mia_auc": "validation MIA AUC", "val_acc": "validation accuracy"}
SHOWN_RESULTS = ("test_acc", "mia_auc", "clean_acc")
"""The results of a setting that are shown and that no setting is selected by."""
COMPARED_RESULTS = ("mem_acc", "mia_auc", "test_acc", "clean_acc")
"""The results in which the arms are compared on fresh seeds."""
ARMS: Mapping[str, set[str]] = {
    "norm": set(),
    "regularizer": {"alpha", "lr"},
    "weight_decay": set(),
    "stopping": {"eval_every"},
    "label_smoothing": set(),
}
"""The settings by which an arm may differ from the reference, each with those that may change along with it."""


@dataclass(frozen=True)
class TunedCell:
    """A cell that was tuned: a dataset, a network, k, and whatever else its searches kept fixed.

    Attributes:
        levels: the settings that tell the cell from the others, its dataset, network and k among them.
        base: the settings of the reference, which is norm=batch without a regularizer.
        searched: the settings that TPE tried, as `searched_settings` gives them.
        random: those that random search tried; empty where there was none.
        references: rows of `members` with norm=batch and with norm=none, on the seeds of the search.
        confirmed: rows of `members` on fresh seeds, with the `arm` of each, which is empty for the reference.
        max_loss: the validation accuracy that the recommended setting may lose.
        recommended: the recommended setting, a row of `searched`; None where every setting loses more.
    """

    levels: Mapping[str, Any]
    base: Mapping[str, Any]
    searched: pd.DataFrame
    random: pd.DataFrame
    references: pd.DataFrame
    confirmed: pd.DataFrame
    max_loss: float
    recommended: Mapping[str, Any] | None

    @property
    def title(self) -> str:
        """The settings that tell the cell from the others, as a user would type them."""
        return _title(self.levels)

    @property
    def usable(self) -> pd.DataFrame:
        """The searched settings whose members all have results."""
        return self.searched[self.searched["status"] == "ok"]

    @property
    def accuracy(self) -> float:
        """The reference's mean validation accuracy on the seeds of the search; NaN where it has no result."""
        return _mean_accuracy(self.references)

    @property
    def recommended_arm(self) -> str | None:
        """The arm of the recommended setting, as a user would type it."""
        return None if self.recommended is None else _arm_name({**self.base, **self.recommended}, self.base)


def sweep_names(sweep: str) -> tuple[str, str, str]:
    """Return the sweeps of a tuning's records: of its search, of random search and of the fresh seeds."""
    return sweep, f"{sweep}_random", f"{sweep}_confirm"


def load_tuned_cells(
    results: Results, sweep: str = SEARCHES["tpe"], max_loss: float = MAX_LOSS, partial: bool = False
) -> tuple[list[TunedCell], list[Loaded]]:
    """Load every cell that was tuned into a results folder, and return the cells and the records they are made of.

    Args:
        results: the results folder.
        sweep: the sweep of the tuning's search.
        max_loss: see `tuned_cells`.
        partial: accept a grid with holes.

    Raises:
        BadInputError: there is no such tuning, its records are incomplete, or see `tuned_cells`.
    """
    loaded = {name: load(results, name, partial) for name in sweep_names(sweep) if name in results.sweeps()}
    if sweep not in loaded:
        raise BadInputError(
            f"{results} holds no tuning {sweep}; "
            f"make one with `python -m sweeps tune regularizer --results {results.argument}`."
        )
    random, confirmed = (loaded[name].members if name in loaded else None for name in sweep_names(sweep)[1:])
    return tuned_cells(loaded[sweep].members, random, confirmed, max_loss), list(loaded.values())


def tuned_cells(
    searched: pd.DataFrame, random: pd.DataFrame | None, confirmed: pd.DataFrame | None, max_loss: float
) -> list[TunedCell]:
    """Return every cell that was tuned.

    Args:
        searched: rows of `members` from the search by TPE and from its references.
        random: rows of `members` from random search; None where there was none.
        confirmed: rows of `members` on fresh seeds; None where there are none.
        max_loss: the mean validation accuracy that the recommended setting may lose against the reference on the same
            seeds.

    Raises:
        BadInputError: nothing was searched, a cell has no reference, or it has several with different learning rates.
    """
    searched = _add_seeds(searched)
    regularized = searched["regularizer"] != "none"
    references = searched[~regularized]
    fixed = [name for name in CELL_SETTINGS if name not in ("norm", "regularizer", "alpha")]
    if not set(searched.loc[regularized, "lr"]) <= set(references["lr"]):
        fixed.remove("lr")  # the learning rate was tuned as well
    cells = list(searched[regularized].groupby([*fixed, "seeds"], sort=True))
    if not cells:
        raise BadInputError("no setting was searched yet; run `python -m sweeps tune regularizer` again, it goes on.")
    keys = pd.DataFrame([key for key, _ in cells], columns=[*fixed, "seeds"])
    tuned = []
    for key, members in cells:
        levels = dict(zip(keys.columns, key, strict=True))
        varying = [name for name in keys.columns if keys[name].nunique() > 1]
        shown = {name: levels[name] for name in dict.fromkeys(["dataset", "architecture", "k", *varying])}
        of_cell = matching_rows(references, {name: levels[name] for name in fixed})
        of_cell = of_cell[of_cell["seed"].isin(members["seed"])]
        base = _reference_settings(of_cell, _title(shown))
        by_tpe = searched_settings(members)
        at_random = members.iloc[:0] if random is None else matching_rows(_add_seeds(random), levels)
        tuned.append(
            TunedCell(
                levels=shown,
                base=base,
                searched=by_tpe,
                random=searched_settings(at_random) if len(at_random) else by_tpe.iloc[:0],
                references=of_cell,
                confirmed=_fresh_arms(confirmed, base, set(members["seed"])),
                max_loss=max_loss,
                recommended=recommend(_row_dicts(by_tpe[by_tpe["status"] == "ok"]), _mean_accuracy(of_cell), max_loss),
            )
        )
    return tuned


def searched_settings(members: pd.DataFrame) -> pd.DataFrame:
    """Return the settings that a search tried, as means over their seeds.

    Args:
        members: rows of `members` of one search in one cell.

    Returns:
        A row for each trial, in the order in which they started: `trial`, `regularizer`, `alpha`, `lr`, the means of
        `OBJECTIVES` and of `SHOWN_RESULTS`, `n` (its members), `status` (`ok`, or why there is no mean), and `front`
        (whether no other setting is at least as good in all objectives and better in one).
    """
    trials = members.groupby("trial", sort=True)
    table = trials[["regularizer", "alpha", "lr", "started"]].min()
    table = table.join(trials[[*OBJECTIVES, *SHOWN_RESULTS]].mean()).join(trials.size().rename("n"))
    # If a trial lost a member, the mean over the rest would be over other seeds than those of the other trials.
    table["status"] = trials["status"].agg(lambda column: next((status for status in column if status != "ok"), "ok"))
    table.loc[(table["status"] == "ok") & table[[*OBJECTIVES]].isna().any(axis=1), "status"] = "not measured"
    table.loc[table["status"] != "ok", [*OBJECTIVES, *SHOWN_RESULTS]] = np.nan
    table = table.sort_values("started", kind="stable").drop(columns="started").reset_index()
    usable = table["status"] == "ok"
    table["front"] = False
    table.loc[usable, "front"] = front(_points(table[usable]))
    return table


def front_table(cell: TunedCell) -> pd.DataFrame:
    """Return the front in the order of alpha, then the references.

    Returns:
        A row for each: `setting`, `alpha`, `lr`, the means of `OBJECTIVES` and of `SHOWN_RESULTS`, and `recommended`.
    """
    on_front = cell.usable[cell.usable["front"]].sort_values(["alpha", "regularizer", "lr"])
    best = None if cell.recommended is None else cell.recommended["trial"]
    rows = on_front.assign(setting=on_front["regularizer"], recommended=on_front["trial"] == best)
    references = reference_means(cell).assign(alpha=np.nan, recommended=False)
    references["setting"] = "norm=" + references["norm"]
    columns = ["setting", "alpha", "lr", *OBJECTIVES, *SHOWN_RESULTS, "recommended"]
    return pd.concat([rows[columns], references[columns]], ignore_index=True)


def reference_means(cell: TunedCell) -> pd.DataFrame:
    """Return the references' means over the seeds of the search, and `<metric>_sd` of the results in the figure."""
    norms = cell.references[cell.references["status"] == "ok"].groupby("norm", sort=True)
    deviations = norms[["mem_acc", "test_acc"]].std(ddof=1).add_suffix("_sd")
    return norms[["lr", *OBJECTIVES, *SHOWN_RESULTS]].mean().join(deviations).reset_index()


def reference_point(cell: TunedCell) -> dict[str, float]:
    """Return the reference point of the hypervolume: each objective's worst over both searches and the references."""
    points = pd.concat([frame[[*OBJECTIVES]] for frame in (cell.searched, cell.random, reference_means(cell))])
    return {name: float((points[name] * sign).max() * sign) for name, sign in OBJECTIVES.items()}


def hypervolumes(cell: TunedCell) -> pd.DataFrame:
    """Return the hypervolume that each search dominates before the reference point, after each of its trials.

    Returns:
        A row for each search and number of trials: `search`, `trials` (those without a result included) and
        `hypervolume`.
    """
    corner = [value * sign for value, sign in zip(reference_point(cell).values(), OBJECTIVES.values(), strict=True)]
    rows = []
    for name, tried in (("TPE", cell.searched), ("random", cell.random)):
        points, usable = _points(tried), (tried["status"] == "ok").to_numpy()
        rows += [
            {"search": name, "trials": count, "hypervolume": hypervolume(points[:count][usable[:count]], corner)}
            for count in range(1, len(tried) + 1)
        ]
    return pd.DataFrame(rows, columns=["search", "trials", "hypervolume"])


def compared_results(cell: TunedCell) -> tuple[str, ...]:
    """Return the results that arms are compared in on fresh seeds: `COMPARED_RESULTS`, and robustness if measured."""
    measured = (metric.column for metric in ROBUSTNESS_METRICS if metric.column in cell.confirmed)
    return (*COMPARED_RESULTS, *(name for name in measured if cell.confirmed[name].notna().any()))


def arm_table(cell: TunedCell) -> pd.DataFrame:
    """Return each arm's results on fresh seeds: the reference first, then the recommended setting, then its rivals.

    Returns:
        A row for each arm: `arm` (empty for the reference), `recommended`, `<metric>_mean` and `<metric>_sd` of
        `compared_results`; for all but the reference `<metric>_difference`, `_low` and `_high`, the paired difference
        from it; `n`, the members with results, and `excluded`.
    """
    tests = {(row["arm"], row["metric"]): row for row in _row_dicts(comparisons(cell))}
    rows: list[dict[str, Any]] = []
    for arm in ["", *_arm_names(cell)]:
        members = cell.confirmed[cell.confirmed["arm"] == arm]
        usable = members[members["status"] == "ok"]
        row: dict[str, Any] = {"arm": arm, "recommended": arm == cell.recommended_arm}
        for metric in compared_results(cell):
            row |= {f"{metric}_mean": usable[metric].mean(), f"{metric}_sd": usable[metric].std(ddof=1)}
            for name in ("difference", "low", "high") if arm else ():
                row[f"{metric}_{name}"] = tests[arm, metric][name]
        rows.append({**row, "n": len(usable), "excluded": len(members) - len(usable)})
    return pd.DataFrame(rows)


def comparisons(cell: TunedCell) -> pd.DataFrame:
    """Test every arm against the reference on fresh seeds, paired over them, two-sided.

    Returns:
        A row for each metric of `compared_results` and arm, with the columns of `paired.compare`; Holm's correction is
        over all of them. No rows where no arm was measured on fresh seeds.
    """
    shared = {"reference": "batch", "alternative": "two-sided"}
    rows = [
        {"metric": metric, "arm": arm, **shared, **vars(test), "excluded": excluded}
        for metric in compared_results(cell)
        for arm in _arm_names(cell)
        for test, excluded in [paired_difference(cell.confirmed, arm, "", metric)]
    ]
    columns = ["metric", "arm", *shared, *PairedTest.__dataclass_fields__, "excluded"]
    table = pd.DataFrame(rows, columns=columns)
    numbers = ["difference", "low", "high", "effect", "p"]
    table[numbers] = table[numbers].astype(float)
    return table.assign(p_holm=holm(table["p"]))


def difference_text(test: PairedTest) -> str:
    """Return a difference with its interval, if it has one, and the number of seeds."""
    interval = "" if test.low is None else f" [{test.low:+.3f}, {test.high:+.3f}]"
    return f"{test.difference:+.3f}{interval} over {test.n} seed{'s' * (test.n != 1)}"


def _arm_names(cell: TunedCell) -> list[str]:
    """Return the arms on fresh seeds without the reference, the recommended one first."""
    names = {str(name) for name in cell.confirmed["arm"]} - {""}
    return sorted(names, key=lambda name: (name != cell.recommended_arm, name))


def _add_seeds(members: pd.DataFrame) -> pd.DataFrame:
    """Add the `seeds` of each member's trial: only means over the same seeds can be compared."""
    seeds = members.groupby("trial")["seed"].agg(lambda seed: ",".join(map(str, sorted(set(seed)))))
    return members.assign(seeds=members["trial"].map(seeds))


def _title(levels: Mapping[str, Any]) -> str:
    """Return settings as a user would type them."""
    return " ".join(f"{name}={format_value(level)}" for name, level in levels.items())


def _reference_settings(references: pd.DataFrame, title: str) -> dict[str, Any]:
    """Return the settings of the members with norm=batch.

    Raises:
        BadInputError: there are none, or they have several learning rates.
    """
    batch = references[references["norm"] == "batch"]
    if batch.empty:
        raise BadInputError(
            f"the tuning of {title} has no networks with norm=batch to compare with yet; "
            "run `python -m sweeps tune regularizer` again, it goes on where it was."
        )
    if batch["lr"].nunique() > 1:
        raise BadInputError(f"the tuning of {title} has references with several learning rates; use a folder for each.")
    return {name: batch.iloc[0][name] for name in CELL_SETTINGS}


def _mean_accuracy(references: pd.DataFrame) -> float:
    """Return the mean validation accuracy with norm=batch; NaN without a result."""
    usable = references[(references["norm"] == "batch") & (references["status"] == "ok")]
    return float(usable["val_acc"].mean())


def _row_dicts(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the rows of a table as dictionaries by column name."""
    return [{str(name): value for name, value in row.items()} for row in table.to_dict("records")]


def _points(table: pd.DataFrame) -> NDArray[np.float64]:
    """Return the objectives as points float64 [N, 3] of which less is better in every column."""
    points: NDArray[np.float64] = table[[*OBJECTIVES]].to_numpy(np.float64) * np.array([*OBJECTIVES.values()])
    return points


def _fresh_arms(members: pd.DataFrame | None, base: Mapping[str, Any], seen: set[int]) -> pd.DataFrame:
    """Return the members on fresh seeds that are the reference or an arm, with the name of their `arm`.

    Args:
        members: rows of `members` on fresh seeds; None where there are none.
        base: the settings of the reference.
        seen: the seeds of the search, which are not fresh.
    """
    if members is None:
        return pd.DataFrame(columns=[*PAIRING_KEYS, *COMPARED_RESULTS, "status", "arm"])
    names = [_arm_name(row, base) for row in _row_dicts(members[CELL_SETTINGS])]
    kept = np.array([name is not None for name in names]) & ~members["seed"].isin(seen).to_numpy()
    return members.assign(arm=pd.Series(names, index=members.index, dtype=object))[kept]


def _arm_name(row: Mapping[str, Any], base: Mapping[str, Any]) -> str | None:
    """Return the settings by which an arm differs from the reference, as a user would type them.

    It is empty for the reference itself, and None for a member that is no arm but of another cell.
    """
    changed = [name for name in CELL_SETTINGS if row[name] != base[name]]
    is_arm = not changed or any(name in changed and set(changed) <= {name} | along for name, along in ARMS.items())
    return " ".join(f"{name}={format_value(row[name])}" for name in changed) if is_arm else None


def paired_difference(confirmed: pd.DataFrame, arm: str, reference: str, metric: str) -> tuple[PairedTest, int]:
    """Test one arm against another over the seeds that have both, two-sided; return also how many pairs lack a result.

    Args:
        confirmed: rows of `members` on fresh seeds with their `arm`.
        arm: the name of the arm.
        reference: the name of the other arm; empty for the reference of the tuning.
        metric: the column that is compared.
    """
    sides = [
        confirmed[confirmed["arm"] == name].set_index(PAIRING_KEYS)[metric].astype(float) for name in (arm, reference)
    ]
    pairs = pd.concat(sides, axis=1, keys=["arm", "reference"])
    values = pairs.dropna()
    test = paired_test(values["arm"].to_numpy(), values["reference"].to_numpy(), "two-sided")
    return test, len(pairs) - len(values)
