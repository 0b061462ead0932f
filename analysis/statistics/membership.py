"""The privacy audit of a sweep with `protocol=splits`: attacks computed anew from the scores that its models recorded.

Nothing is trained, and no device is needed: what an attack makes of the scores can be changed after the fact.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.cells import SETTINGS, varying
from analysis.load import Loaded
from study.errors import BadInputError
from study.mia import audit, counterfactual, intervals, roc
from study.mia.audit import ATTACKS
from study.mia.counterfactual import Memorization
from study.mia.intervals import Interval
from study.mia.roc import ALL
from study.record.results import Results

SHOWN = tuple(name for name in ATTACKS if "/" not in name)
"""The attacks of a table unless others are asked for: of each LiRA the one with shrunk variances."""
TPRS = ("tpr_at_1e2fpr", "tpr_at_1e3fpr", "tpr_at_0fp")
COLUMNS = ["member", "sample", "group", "is_member", "score", "mirror_score", "correct"]


@dataclass(frozen=True)
class Audited:
    """The models of one cell and one seed, with what they say of every sample of their common D'.

    Attributes:
        settings: the cell's, and the seed.
        scores: float64 [Q, N, S], each model's membership scores, for each query that was made of a sample.
        is_member: bool [N, S].
        correct: bool [N, S], whether a model gives a sample its assigned label.
        groups: names [S].
        excluded: how many models failed or diverged, and are not among the N.
    """

    settings: dict[str, Any]
    scores: NDArray[np.float64]
    is_member: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    groups: NDArray[Any]
    excluded: int

    @property
    def norm(self) -> str:
        """The arm."""
        return str(self.settings["norm"])

    def named_groups(self) -> list[str]:
        """`all`, and every group if there are several."""
        names = sorted(set(self.groups.tolist()))
        return [ALL, *names] if len(names) > 1 else [ALL]

    def of(self, group: str) -> NDArray[np.bool_]:
        """Which samples a group has: bool [S]."""
        chosen: NDArray[np.bool_] = np.full(len(self.groups), True) if group == ALL else self.groups == group
        return chosen

    def memorized(self, group: str) -> Memorization:
        """The counterfactual memorization of the samples of a group."""
        chosen = self.of(group)
        return counterfactual.counterfactual_memorization(self.correct[:, chosen], self.is_member[:, chosen])


def has_halves(loaded: Loaded) -> bool:
    """Whether any model of the sweep was trained on a half of D'."""
    return bool((loaded.members["protocol"] == "splits").any())


def audits(loaded: Loaded, results: Results) -> list[Audited]:
    """Every cell and seed of the sweep that was trained on halves.

    Raises:
        BadInputError: there is none, one has no model left, or its samples are incomplete.
    """
    members = loaded.members[loaded.members["protocol"] == "splits"]
    if members.empty:
        raise BadInputError(
            f"{loaded.sweep} has no models on halves of D'; the sweep membership has, or add --set protocol=splits."
        )
    ordered = members.sort_values([*varying(members), "seed", "model"])
    return [_audited(loaded.sweep, models, results) for _, models in ordered.groupby(["cell", "seed"], sort=False)]


def _audited(sweep: str, models: pd.DataFrame, results: Results) -> Audited:
    usable = models[models["status"] == "ok"]
    first = models.iloc[0]
    named = {name: first[name] for name in (*SETTINGS, "seed")}
    if usable.empty:
        raise BadInputError(f"{sweep}: all models of the cell {first['cell']} failed or diverged.")
    samples = results.read(sweep, "samples", COLUMNS, trials=set(usable["trial"])).to_pandas()
    samples = samples[samples["member"].isin(usable["member"])].sort_values(["member", "sample"])
    counts = samples.groupby("member").size()
    if len(counts) != len(usable) or counts.nunique() != 1:
        raise BadInputError(f"{sweep}: the samples of the cell {first['cell']} are incomplete; run `retry {sweep}`.")
    shape = len(counts), int(counts.iloc[0])
    is_member, correct = (samples[name].to_numpy().reshape(shape) for name in ("is_member", "correct"))
    asked = [name for name in ("score", "mirror_score") if samples[name].notna().all()]
    scores = np.stack([samples[name].to_numpy(np.float64).reshape(shape) for name in asked])
    groups = samples["group"].astype(str).to_numpy().reshape(shape)[0]
    return Audited(named, scores, is_member, correct, groups, len(models) - len(usable))


def table(audited: Sequence[Audited], names: Iterable[str] = SHOWN) -> pd.DataFrame:
    """What each attack achieves in each cell, over all samples and over each group.

    Args:
        audited: of `audits`.
        names: keys of `attacks.ATTACKS`.

    Returns:
        A row for each cell, attack and group: the settings that vary, the seed where there are several, `attack`,
        `group`, `auc` with `low` and `high`, the means over targets of `balanced_acc`, `tpr_at_1e2fpr`,
        `tpr_at_1e3fpr` and `tpr_at_0fp` (missing where there are too few non-members), `targets`, and `n_in` and
        `n_out` of a target.

    Raises:
        BadInputError: there is no such attack, or it needs more models.
    """
    rows = []
    for one in audited:
        for name in names:
            found = audit.attack_scores(name, one.scores, one.is_member)
            measures = roc.metrics_by_group(found, one.is_member, one.groups)
            for group in one.named_groups():
                chosen = one.of(group)
                interval = intervals.mean_auc(found[:, chosen], one.is_member[:, chosen])
                rows.append({**one.settings, "attack": name, "group": group, **_row(interval, measures[group])})
    return _settings_first(pd.DataFrame(rows))


def differences(audited: Sequence[Audited], names: Iterable[str] = SHOWN, reference: str = "none") -> pd.DataFrame:
    """The AUC of every other arm minus that of the reference arm, whose models had the same members, cell by cell.

    Args:
        audited: of `audits`.
        names: keys of `attacks.ATTACKS`.
        reference: the norm of the arm to hold the others against.

    Returns:
        A row for each pair of cells, attack and group: the settings that vary, `arm`, `reference`, `attack`, `group`,
        `difference` with `low` and `high`, and `targets`. None where no arm has a partner.

    Raises:
        BadInputError: the models of two arms have not the same members, or there is no such attack.
    """
    rows = []
    for arm, other in _pairs(audited, reference):
        for name in names:
            found, held = (audit.attack_scores(name, each.scores, each.is_member) for each in (arm, other))
            for group in arm.named_groups():
                chosen = arm.of(group)
                gained = intervals.mean_auc_difference(found[:, chosen], held[:, chosen], arm.is_member[:, chosen])
                named = {"arm": arm.norm, "reference": reference, "attack": name, "group": group}
                told = {"difference": gained.mean, "low": gained.low, "high": gained.high, "targets": gained.targets}
                rows.append({**arm.settings, **named, **told})
    return _settings_first(pd.DataFrame(rows), but=("norm",))


def _pairs(audited: Sequence[Audited], reference: str) -> Iterator[tuple[Audited, Audited]]:
    """Each audit of another arm with that of the reference arm at the same settings, if there is one."""
    held = {_without_norm(one): one for one in audited if one.norm == reference}
    for arm in audited:
        other = held.get(_without_norm(arm))
        if other is None or arm.norm == reference:
            continue
        if not np.array_equal(arm.is_member, other.is_member):
            raise BadInputError(
                f"the models with norm={arm.norm} and norm={reference} have not the same members, for some failed or "
                f"diverged: a difference between them would not be paired."
            )
        yield arm, other


def _without_norm(one: Audited) -> tuple[Any, ...]:
    return tuple(value for name, value in one.settings.items() if name != "norm")


def most_memorized(loaded: Loaded, results: Results) -> pd.DataFrame:
    """The images that each cell's models memorized most, with the settings of the cell."""
    cells = loaded.members[loaded.members["protocol"] == "splits"].drop_duplicates("trial")
    images = results.read(loaded.sweep, "images", trials=set(cells["trial"])).to_pandas()
    merged: pd.DataFrame = images.merge(cells[["trial", *SETTINGS]], on="trial")
    return merged


def _row(interval: Interval, measures: Sequence[roc.AttackMetrics]) -> dict[str, Any]:
    """An interval, and the means over targets of those measures that every target has."""
    frame = pd.DataFrame([vars(measure) for measure in measures])
    means = {name: frame[name].astype(float).mean(skipna=False) for name in ("balanced_acc", *TPRS)}
    counts = {name: int(frame[name].median()) for name in ("n_in", "n_out")}
    return {
        "auc": interval.mean,
        "low": interval.low,
        "high": interval.high,
        **means,
        "targets": interval.targets,
        **counts,
    }


def _settings_first(rows: pd.DataFrame, but: Sequence[str] = ()) -> pd.DataFrame:
    """The rows with those settings that tell them apart, and the seed where there are several."""
    if rows.empty:
        return rows
    shown = [name for name in varying(rows) if name not in but]
    shown += ["seed"] if rows["seed"].nunique() > 1 else []
    return rows[[*shown, *(name for name in rows.columns if name not in (*SETTINGS, "seed"))]]
