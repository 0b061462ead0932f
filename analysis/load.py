"""Load records as frames, complete or not at all.

The plans that the launches saved say which members there should be, never the records that happen to be there: a grid
with holes or doubles would give a table that looks like any other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from analysis.cells import varying_settings
from study.corruptions.names import FAMILIES
from study.errors import BadInputError, unknown
from study.mia.audit import MAIN_ATTACK
from study.record.results import Results
from study.settings import FOLDER_FIELDS, format_value
from study.trial import Trial
from sweeps.plan import Plan

KEY = ["trial", "member"]
NAMED = 3
"""The most trials that are named of those that lack members."""
NETWORK = ["cell", "seed", "model"]
"""The columns that identify a network, whatever trial it was trained in."""


@dataclass(frozen=True)
class Loaded:
    """The records of one sweep.

    Attributes:
        sweep: the sweep's name.
        members: a row for each member, with the columns of the table `members` and `n_attacked`, how many test images
            were attacked; a network that two trials trained counts once.
        planned: the number of members that the plans ask for.
        missing: the number of these that have no record; 0 unless a partial grid was asked for.
        lacking: the trials that lack some of their members, as a user would write them.
        unplanned: the number of members that no plan asks for; 0 unless a partial grid was asked for.
        unattacked: the cells, as a user would write them, each with its number of models that were not attacked with
            the others as shadows, though they were trained for that.
        corrupted_by: over which corrupted images `corruption_error` is a mean, in words; empty where there is none.
    """

    sweep: str
    members: pd.DataFrame
    planned: int
    missing: int
    lacking: tuple[str, ...] = ()
    unplanned: int = 0
    unattacked: tuple[str, ...] = ()
    corrupted_by: tuple[str, ...] = ()

    @property
    def notes(self) -> list[str]:
        """A sentence each on the members that a partial grid lacks, that are in no plan, and that were not attacked.

        And one on the families of corruptions that a mean is over.
        """
        sentences = []
        if self.missing:
            of = _some([f"[{trial}]" for trial in self.lacking])
            sentences.append(f"{self.sweep}: {self.missing} of {self.planned} planned members are missing, of {of}.")
        if self.unplanned:
            sentences.append(f"{self.sweep}: {self.unplanned} members are in no plan and are included.")
        if self.unattacked:
            sentences.append(
                f"{self.sweep}: models that tell no samples apart, or have too few others as shadows, have no "
                f"membership AUC: {_some(self.unattacked)}."
            )
        if self.corrupted_by:
            sentences.append(f"{self.sweep}: the corruption error is a mean over {'; '.join(self.corrupted_by)}.")
        return sentences


def _some(names: Sequence[str]) -> str:
    """Return the first names, and how many more there are."""
    more = len(names) - NAMED
    return "; ".join([*names[:NAMED], *([f"and {more} more"] if more > 0 else [])])


def load_all(results: Results, sweep: str | None = None, partial: bool = False) -> list[Loaded]:
    """Load every sweep of a results folder, or the named one.

    Args:
        results: the results folder.
        sweep: the sweep's name; by default all.
        partial: see `load`.

    Raises:
        BadInputError: the folder or the sweep isn't there, or a grid is incomplete, doubled or unplanned.
    """
    names = results.sweeps()
    if sweep is not None and sweep not in names:
        raise unknown(f"sweep in {results}", sweep, names) if names else no_records(results)
    if not names:
        raise no_records(results)
    return [load(results, name, partial) for name in ([sweep] if sweep else names)]


def load(results: Results, sweep: str, partial: bool = False) -> Loaded:
    """Load the records of one sweep and check them against its plans.

    Args:
        results: the results folder.
        sweep: the sweep's name.
        partial: accept a grid with holes, and members that no plan asks for.

    Raises:
        BadInputError: there is no member, or a shard can't be read; or a member is recorded twice; or, unless
            `partial`, the grid is not exactly the one that was planned.
    """
    members = results.read(sweep, "members").to_pandas()
    _refuse_doubles(sweep, members)
    plan = Plan.saved(sweep, results)
    recorded = set(members[NETWORK].itertuples(index=False, name=None))
    planned = plan.networks() if plan else recorded  # without a plan there is nothing to check against
    missing = planned - recorded
    lacking = _lacking(plan, missing)
    if not partial:
        _refuse_unplanned(sweep, members, recorded - planned)
        _refuse_holes(sweep, plan, lacking, results)
    if members.empty:
        raise BadInputError(f"{sweep}: none of its {len(planned)} planned members has a record yet.")
    unplanned = len(recorded - planned)
    members, unattacked = _without_other_attacks(_with_attacked(_one_row_a_network(members)))
    return Loaded(
        *(sweep, members, len(planned), len(missing), tuple(map(str, lacking)), unplanned, unattacked),
        corrupted_by=_corrupted_by(sweep, members, results),
    )


def with_missing(loaded: Loaded, results: Results) -> pd.DataFrame:
    """Return the members, with a row of status `missing` for each network that was planned and has no record.

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.

    Returns:
        The columns of `members`; a missing network has its settings, cell, seed and model, and no results.

    Raises:
        BadInputError: a plan is damaged.
    """
    plan = Plan.saved(loaded.sweep, results)
    if plan is None or not loaded.missing:
        return loaded.members
    networks = set(loaded.members[NETWORK].itertuples(index=False, name=None))
    by_cell = loaded.members.drop_duplicates("cell").set_index("cell")
    # A folder is recorded under a name of its own, which the plan's other cells give; the folder may be gone by now.
    names = {
        (name, getattr(trial, name)): by_cell.loc[trial.cell, name]
        for trial in plan.trials
        for name in FOLDER_FIELDS
        if trial.cell in by_cell.index
    }
    lacking = [
        {
            **trial.settings(),
            **{name: names.get((name, getattr(trial, name)), getattr(trial, name)) for name in FOLDER_FIELDS},
            **{"cell": trial.cell, "seed": seed, "model": model, "status": "missing"},
        }
        for trial in plan.trials
        for seed, model in trial.members
        if (trial.cell, seed, model) not in networks
    ]
    return pd.concat([loaded.members, pd.DataFrame(lacking)], ignore_index=True)


def _one_row_a_network(members: pd.DataFrame) -> pd.DataFrame:
    """Return one row for each network, the one with results if there is any.

    Launches with other seeds may share members, and a network that was trained twice is one observation.
    """
    with_results_first = members.sort_values("status", key=lambda status: status != "ok", kind="stable")
    return with_results_first.drop_duplicates(NETWORK).sort_index()


def _with_attacked(members: pd.DataFrame) -> pd.DataFrame:
    """Return the members with `n_attacked`, how many test images robustness was measured on."""
    some = members["attack_samples"].astype("float64")
    return members.assign(n_attacked=some.where(some > 0, members["n_test"].astype("float64")))


def _without_other_attacks(members: pd.DataFrame) -> tuple[pd.DataFrame, tuple[str, ...]]:
    """Return the members without the AUC of models on halves that another attack than the main one gave, and whose.

    A trial that has no shadows for a model leaves it what one threshold gives, which is no number to compare with those
    of the main attack.
    """
    attack = members["mia_attack"]
    other = (members["protocol"] == "splits") & attack.notna() & (attack != MAIN_ATTACK)
    if not other.any():
        return members, ()
    cleared = members.assign(
        **{name: members[name].mask(other) for name in ("mia_auc", "mia_attack", "mia_tpr_at_1e3fpr")}
    )
    settings = varying_settings(members) or ["norm"]
    cells = members[other].groupby([*settings, "seed"], sort=True)
    told = []
    for key, models in cells:
        levels = " ".join(f"{name}={format_value(level)}" for name, level in zip([*settings, "seed"], key, strict=True))
        told.append(f"{len(models)} of {levels}")
    return cleared, tuple(told)


def no_records(results: Results) -> BadInputError:
    """Return the refusal of a folder without records."""
    run = f"python -m sweeps run quickstart --results {results.argument}"
    return BadInputError(f"{results} holds no records; run a sweep first: {run}")


def _corrupted_by(sweep: str, members: pd.DataFrame, results: Results) -> tuple[str, ...]:
    """Return over which corrupted images the members' `corruption_error` is a mean."""
    measured = members[members["corruption_error"].notna()]
    if measured.empty:
        return ()
    columns = [*KEY, "suite", "perturbation", "split"]
    rows = results.read(sweep, "robustness", columns, trials=set(measured["trial"])).to_pandas()
    return tuple(sorted(corrupted_images(rows[rows["suite"] == "corruptions"]).unique()))


def corrupted_images(rows: pd.DataFrame) -> pd.Series:
    """Return in words which corrupted images each member was shown, such as `17 of 19 families, computed`.

    Args:
        rows: those of the suite `corruptions` of `robustness`.
    """
    shown = rows.groupby(KEY).agg(families=("perturbation", "nunique"), split=("split", "first"))
    made = shown["split"].map(lambda split: "published" if split == "cifar10_c" else "computed")
    told: pd.Series = shown["families"].astype(str) + f" of {len(FAMILIES)} families, " + made
    return told


def _refuse_doubles(sweep: str, members: pd.DataFrame) -> None:
    """Refuse a member that is recorded twice."""
    doubled = members[members.duplicated(KEY)]
    if len(doubled):
        trial, member = doubled.iloc[0][KEY]
        raise BadInputError(f"{sweep}: {len(doubled)} members are recorded twice, such as {trial}/{member}.")


def _refuse_unplanned(sweep: str, members: pd.DataFrame, unplanned: set[tuple[str, int, int]]) -> None:
    """Refuse members that are in no plan."""
    strange = members[[network in unplanned for network in members[NETWORK].itertuples(index=False, name=None)]]
    if len(strange):
        trial, member = strange.sort_values(KEY).iloc[0][KEY]
        raise BadInputError(
            f"{sweep}: {len(strange)} members are in no plan, such as {trial}/{member}; --partial includes them."
        )


def _lacking(plan: Plan | None, missing: set[tuple[str, int, int]]) -> list[Trial]:
    """Return the planned trials that the missing members belong to."""
    if plan is None or not missing:
        return []
    return [trial for trial in plan.trials if missing & {(trial.cell, seed, model) for seed, model in trial.members}]


def _refuse_holes(sweep: str, plan: Plan | None, lacking: Sequence[Trial], results: Results) -> None:
    """Refuse a grid with trials that have no complete record."""
    if plan is not None and lacking:
        raise BadInputError(
            f"{sweep}: {len(lacking)} of {len(plan.trials)} trials have no complete record, such as [{lacking[0]}]; "
            f"run `python -m sweeps retry {sweep} --results {results.argument}`, or add --partial."
        )
