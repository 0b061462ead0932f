"""The privacy audit of a sweep with `protocol=splits`: attacks computed anew from the recorded membership scores.

Nothing is trained, and no device is needed: an attack can be changed after the fact.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy
from numpy.typing import NDArray

from analysis.cells import CELL_SETTINGS, varying_settings
from analysis.load import Loaded
from study.errors import BadInputError
from study.mia.audit import ATTACKS, MAIN_ATTACK, STEADY_ATTACK, attack_scores
from study.mia.counterfactual import Memorization, counterfactual_memorization
from study.mia.intervals import CONFIDENCE, mean_auc, mean_auc_difference, mean_tpr
from study.mia.roc import ALL, AttackMetrics, metrics_by_group, tied_share
from study.mia.shadows import some_shadows
from study.record.results import Results
from study.trial import FEWEST_MODELS

DEFAULT_ATTACKS = tuple(name for name in ATTACKS if "/" not in name)
"""The attacks of a table unless others are named: of each LiRA the one with shrunk variances."""
TPRS = {"tpr_at_1e2fpr": 1e-2, "tpr_at_1e3fpr": 1e-3}
"""The false positive rates of the columns with a true positive rate that has an interval."""
BESIDE = (MAIN_ATTACK, STEADY_ATTACK)
"""The attacks by which a difference is told from one in how well shadows estimate the arms."""
FEWEST_SHADOWS = 3
"""The fewest shadows on each side from which a limit is told: through fewer the line misses it by some .03."""
SCORES_DRAWN = 20_000
"""Random choices of shadows are drawn until so many samples have been attacked, at most `DRAWS` times."""
DRAWS = 8
COLUMNS = ["member", "sample", "group", "is_member", "score", "mirror_score", "correct"]


@dataclass(frozen=True)
class CellAudit:
    """The N models of one cell and one seed, with their scores of all S samples of their common D'.

    Attributes:
        settings: the settings of the cell, and the seed.
        models: the number of each model among those of its seed, int64 [N].
        scores: the membership scores, float64 [Q, N, S], for each of Q queries of a sample.
        is_member: whether a model was trained on a sample, bool [N, S].
        correct: whether a model gives a sample its assigned label, bool [N, S].
        groups: the group of each sample, [S].
        excluded: the number of further models, which failed, diverged or tell no samples apart.
    """

    settings: dict[str, Any]
    models: NDArray[np.int64]
    scores: NDArray[np.float64]
    is_member: NDArray[np.bool_]
    correct: NDArray[np.bool_]
    groups: NDArray[Any]
    excluded: int

    @property
    def norm(self) -> str:
        """The norm, which is the arm."""
        return str(self.settings["norm"])

    def of_models(self, models: NDArray[np.int64]) -> "CellAudit":
        """Return the audit of some of its models alone, which then are one another's shadows."""
        kept = np.isin(self.models, models)
        excluded = self.excluded + int((~kept).sum())
        parts = (self.scores[:, kept], self.is_member[kept], self.correct[kept])
        return CellAudit(self.settings, self.models[kept], *parts, self.groups, excluded)

    def group_names(self) -> list[str]:
        """Return `all`, and every group if there are several."""
        names = sorted(set(self.groups.tolist()))
        return [ALL, *names] if len(names) > 1 else [ALL]

    def in_group(self, group: str) -> NDArray[np.bool_]:
        """Return whether each sample is in a group: bool [S]."""
        chosen: NDArray[np.bool_] = np.full(len(self.groups), True) if group == ALL else self.groups == group
        return chosen

    def memorization(self, group: str) -> Memorization:
        """Return the counterfactual memorization of a group's samples."""
        chosen = self.in_group(group)
        return counterfactual_memorization(self.correct[:, chosen], self.is_member[:, chosen])


class NoSamplesError(BadInputError):
    """A folder has none of the samples that models were attacked by, which are left out of evidence."""


def has_shadow_models(loaded: Loaded) -> bool:
    """Return whether a sweep has models that were trained on halves of D', so that each has shadows for an attack."""
    return bool((loaded.members["protocol"] == "splits").any())


def audit_cells(loaded: Loaded, results: Results) -> list[CellAudit]:
    """Return the audit of every cell and seed of a sweep whose models were trained on halves of D'.

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.

    Raises:
        NoSamplesError: the folder has no samples of any of them, as one of evidence alone.
        BadInputError: there is no such cell, none has models that were attacked, or the samples of one are incomplete.
    """
    members = loaded.members[loaded.members["protocol"] == "splits"]
    if members.empty:
        raise BadInputError(
            f"{loaded.sweep} has no models on halves of D'; the sweep membership has, or add --set protocol=splits."
        )
    ordered = members.sort_values([*varying_settings(members), "seed", "model"])
    cells = [models for _, models in ordered.groupby(["cell", "seed"], sort=False)]
    if not len(results.read(loaded.sweep, "samples", ["member"], trials=set(members["trial"]))):
        raise NoSamplesError(f"{loaded.sweep}: the scores of samples are not in this folder, and attacks need them.")
    audited = [_audit_cell(loaded.sweep, models, results) for models in cells if _attacked(models).any()]
    if not audited:
        raise BadInputError(f"{loaded.sweep}: no cell has enough models that could be attacked.")
    return audited


def _attacked(models: pd.DataFrame) -> pd.Series:
    """Return which models were attacked with the others as shadows; `Loaded.notes` tells of those that weren't."""
    return (models["status"] == "ok") & (models["mia_attack"] == MAIN_ATTACK)


def _audit_cell(sweep: str, models: pd.DataFrame, results: Results) -> CellAudit:
    """Return the audit of one cell and seed, whose rows of `members` are given."""
    usable = models[_attacked(models)]
    first = models.iloc[0]
    settings = {name: first[name] for name in (*CELL_SETTINGS, "seed")}
    samples = results.read(sweep, "samples", COLUMNS, trials=set(usable["trial"])).to_pandas()
    samples = samples[samples["member"].isin(usable["member"])].sort_values(["member", "sample"])
    counts = samples.groupby("member").size()
    if len(counts) != len(usable) or counts.nunique() != 1:
        raise BadInputError(f"{sweep}: the samples of the cell {first['cell']} are incomplete; run `retry {sweep}`.")
    shape = len(counts), int(counts.iloc[0])
    is_member, correct = (samples[name].to_numpy().reshape(shape) for name in ("is_member", "correct"))
    queries = [name for name in ("score", "mirror_score") if samples[name].notna().all()]
    scores = np.stack([samples[name].to_numpy(np.float64).reshape(shape) for name in queries])
    groups = samples["group"].astype(str).to_numpy().reshape(shape)[0]
    numbers = usable.sort_values("member")["model"].to_numpy(np.int64)
    return CellAudit(settings, numbers, scores, is_member, correct, groups, len(models) - len(usable))


def attack_table(audited: Sequence[CellAudit], names: Iterable[str] = DEFAULT_ATTACKS) -> pd.DataFrame:
    """Return what each attack achieves in each cell, over all samples and over each group.

    Args:
        audited: the audits of the cells.
        names: the attacks, keys of `study.mia.audit.ATTACKS`.

    Returns:
        A row for each cell, attack and group: the settings that vary, the seed where there are several, `attack`,
        `group`, `auc` with `low` and `high`, the means over targets of `balanced_acc`, of `tpr_at_1e2fpr` and
        `tpr_at_1e3fpr` (missing where there are too few non-members), each with `_low` and `_high`, and of
        `tpr_at_0fp`, `ties` (the share of pairs of a member and a non-member with one score), `targets`, and `n_in`
        and `n_out` of a target.

    Raises:
        BadInputError: there is no such attack, or it needs more models.
    """
    rows = []
    for cell in audited:
        for name in names:
            scores = attack_scores(name, cell.scores, cell.is_member)
            measures = metrics_by_group(scores, cell.is_member, cell.groups)
            for group in cell.group_names():
                chosen = cell.in_group(group)
                achieved = _achieved(scores[:, chosen], cell.is_member[:, chosen], measures[group])
                rows.append({**cell.settings, "attack": name, "group": group, **achieved})
    return _settings_first(pd.DataFrame(rows))


def auc_differences(
    audited: Sequence[CellAudit], names: Iterable[str] = DEFAULT_ATTACKS, reference: str = "none"
) -> pd.DataFrame:
    """Return the AUC of every other arm minus that of the reference arm, cell by cell.

    The models of two arms have the same members, so that the difference is paired. A model that one arm lacks, because
    it failed or was not attacked, is left out of the other too, and of its shadows.

    Args:
        audited: the audits of the cells.
        names: the attacks, keys of `study.mia.audit.ATTACKS`.
        reference: the norm of the reference arm.

    Returns:
        A row for each pair of cells, attack and group: the settings that vary, `arm`, `reference`, `attack`, `group`,
        `difference` with `low` and `high`, and `targets`. No rows where no arm has a partner, or both have too few
        models in common.

    Raises:
        BadInputError: the models of two arms don't have the same members, or there is no such attack.
    """
    rows = []
    for arm, partner in _pairs(audited, reference):
        for name in names:
            scores, partner_scores = (attack_scores(name, cell.scores, cell.is_member) for cell in (arm, partner))
            for group in arm.group_names():
                chosen = arm.in_group(group)
                interval = mean_auc_difference(scores[:, chosen], partner_scores[:, chosen], arm.is_member[:, chosen])
                labels = {"arm": arm.norm, "reference": reference, "attack": name, "group": group}
                numbers = {"difference": interval.mean, "low": interval.low, "high": interval.high}
                rows.append({**arm.settings, **labels, **numbers, "targets": interval.targets})
    return _settings_first(pd.DataFrame(rows), but=("norm",))


def over_training_sets(rows: pd.DataFrame, number: str) -> pd.DataFrame:
    """Return the mean over several training sets D' of an AUC or of a difference, with Student's 95% interval.

    Args:
        rows: what `attack_table` or `auc_differences` gives, with a row for each seed, each of which has its own D'.
        number: the column, `auc` or `difference`.

    Returns:
        A row for each cell, attack and group: the columns before `number` but for `seed`, `number` with `low` and
        `high`, which are missing where only one D' has a value, and `training_sets`, how many have.
    """
    keys = [name for name in rows.columns[: rows.columns.get_loc(number)] if name != "seed"]
    found = []
    for cell, of_cell in rows.dropna(subset=number).groupby(keys, sort=False):
        values = of_cell[number].to_numpy(np.float64)
        low, high = float("nan"), float("nan")
        if len(values) > 1:
            error = scipy.stats.sem(values)
            low, high = scipy.stats.t.interval(CONFIDENCE, len(values) - 1, values.mean(), error)
        numbers = {number: values.mean(), "low": low, "high": high, "training_sets": len(values)}
        found.append({**dict(zip(keys, cell, strict=True)), **numbers})
    return pd.DataFrame(found, columns=[*keys, number, "low", "high", "training_sets"])


def auc_by_shadows(audited: Sequence[CellAudit], names: Iterable[str] = BESIDE) -> pd.DataFrame:
    """Return the AUC of attacks with all shadows, with a half and a quarter of them, and with infinitely many.

    A sample's shadows are a random choice of the same models, and every target attacks all samples with them. What
    estimating the shadows' means and variances costs falls as one over their number, to first order, so that the limit
    is on the line through the AUCs of all shadows and of a half, over one over their number.

    Args:
        audited: the audits of the cells.
        names: the attacks, keys of `study.mia.audit.ATTACKS`.

    Returns:
        A row for each cell, attack, group and number: the settings that vary, `attack`, `group`, `shadows` (on each
        side; infinity for the limit, which is missing where there are too few models) and `auc`.

    Raises:
        BadInputError: there is no such attack, or it needs more models.
    """
    rows = [
        {**cell.settings, "attack": name, "group": group, "shadows": shadows, "auc": auc}
        for cell in audited
        for name in names
        for group, aucs in _by_shadows(cell, name).items()
        for shadows, auc in {**aucs, np.inf: _limit(aucs)}.items()
    ]
    return _settings_first(pd.DataFrame(rows))


def difference_limits(audited: Sequence[CellAudit], reference: str = "none") -> pd.DataFrame:
    """Return the difference of AUCs of every other arm and the reference arm, with all shadows and in their limit.

    A difference mixes leakage with how well shadows estimate each arm. The latter part, the difference less its limit,
    is small for the offline one-sided attack, which estimates the OUT shadows alone.

    Args:
        audited: the audits of the cells.
        reference: the norm of the reference arm.

    Returns:
        A row for each pair of cells, attack of `BESIDE` and group: `attack`, `group`, `difference` and `limit`, which
        is NaN where there are too few models for it.

    Raises:
        BadInputError: the models of two arms don't have the same members.
    """
    rows = []
    for arm, partner in _pairs(audited, reference):
        for name in BESIDE:
            of_arm, of_partner = (_by_shadows(cell, name) for cell in (arm, partner))
            for group, aucs in of_arm.items():
                differences = {shadows: auc - of_partner[group][shadows] for shadows, auc in aucs.items()}
                found = {"difference": differences[max(differences)], "limit": _limit(differences)}
                rows.append({"attack": name, "group": group, **found})
    return pd.DataFrame(rows, columns=["attack", "group", "difference", "limit"])


def _by_shadows(cell: CellAudit, name: str) -> dict[str, dict[float, float]]:
    """Return the AUC of an attack by group and number of shadows on each side, from a quarter to all of them."""
    fewer = min(cell.is_member.sum(axis=0).min(), (~cell.is_member).sum(axis=0).min()) - 1
    everything = len(cell.is_member) // 2 - 1
    sizes = {min(-(-everything // part), fewer) for part in (4, 2)}
    found: dict[str, dict[float, float]] = {group: {} for group in cell.group_names()}
    for size in sorted(size for size in sizes if FEWEST_SHADOWS <= size < everything):
        draws = int(np.clip(SCORES_DRAWN // len(cell.groups), 1, DRAWS))
        generator = np.random.default_rng(size)
        choices = [some_shadows(cell.is_member, size + 1, generator) for _ in range(draws)]
        attacks = [attack_scores(name, cell.scores, cell.is_member, choice) for choice in choices]
        for group in found:
            found[group][size] = float(np.mean([_mean_auc(cell, scores, group) for scores in attacks]))
    scores = attack_scores(name, cell.scores, cell.is_member)
    for group in found:
        found[group][everything] = _mean_auc(cell, scores, group)
    return found


def _mean_auc(cell: CellAudit, scores: NDArray[np.float64], group: str) -> float:
    chosen = cell.in_group(group)
    found = mean_auc(scores[:, chosen], cell.is_member[:, chosen]).mean
    return float("nan") if found is None else found


def _limit(by_shadows: Mapping[float, float]) -> float:
    """Return the limit of what is linear in one over the number of shadows, from the two largest numbers."""
    if len(by_shadows) < 2:
        return float("nan")
    few, many = sorted(by_shadows)[-2:]
    return (many * by_shadows[many] - few * by_shadows[few]) / (many - few)


def _pairs(audited: Sequence[CellAudit], reference: str) -> Iterator[tuple[CellAudit, CellAudit]]:
    """Yield the audit of each other arm with that of the reference arm at the same settings, if there is one."""
    references = {_settings_but_norm(cell): cell for cell in audited if cell.norm == reference}
    for arm in audited:
        partner = references.get(_settings_but_norm(arm))
        if partner is None or arm.norm == reference:
            continue
        both = np.intersect1d(arm.models, partner.models)
        if len(both) < FEWEST_MODELS:
            continue
        sides = arm.of_models(both), partner.of_models(both)
        if not np.array_equal(sides[0].is_member, sides[1].is_member):
            raise BadInputError(
                f"the models with norm={arm.norm} and norm={reference} don't have the same members; "
                "a difference between them would not be paired."
            )
        yield sides


def _settings_but_norm(cell: CellAudit) -> tuple[Any, ...]:
    return tuple(value for name, value in cell.settings.items() if name != "norm")


def memorization_and_leakage(cell: CellAudit) -> list[float]:
    """Return how samples' memorization goes with what leaks of them, Spearman's rho, each from a half of the models.

    A sample's leakage is how often it has a higher membership score in a model that was trained on it than in one that
    was not, ties counted half. Of the same models both would be the same accident, so that one half gives the
    memorization and the other the leakage, and then the other way round. A half that has no spread gives no number.
    """
    models = np.arange(len(cell.is_member))
    return [_rho(cell, models % 2 == half, models % 2 != half) for half in (0, 1)]


def _rho(cell: CellAudit, memorizing: NDArray[np.bool_], leaking: NDArray[np.bool_]) -> float:
    memorized = counterfactual_memorization(cell.correct[memorizing], cell.is_member[memorizing])
    leaked = _sample_auc(cell.scores[0][leaking], cell.is_member[leaking])
    values = np.full(len(leaked), np.nan)
    values[memorized.samples] = memorized.values
    known = ~np.isnan(values) & ~np.isnan(leaked)
    if known.sum() < 2 or not np.ptp(values[known]) or not np.ptp(leaked[known]):
        return float("nan")
    return float(scipy.stats.spearmanr(values[known], leaked[known]).statistic)


def _sample_auc(scores: NDArray[np.float64], is_member: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Return for each sample [S] the AUC of its scores between the models [N, S]; NaN where all or none had it."""
    ranks = scipy.stats.rankdata(scores, axis=0)
    n_in = is_member.sum(axis=0)
    n_out = len(is_member) - n_in
    with np.errstate(invalid="ignore", divide="ignore"):
        auc: NDArray[np.float64] = ((ranks * is_member).sum(axis=0) - n_in * (n_in + 1) / 2) / (n_in * n_out)
    return auc


def most_memorized(loaded: Loaded, results: Results) -> pd.DataFrame:
    """Return the images that each cell's models memorized most, with the settings of the cell."""
    cells = loaded.members[loaded.members["protocol"] == "splits"].drop_duplicates("trial")
    images = results.read(loaded.sweep, "images", trials=set(cells["trial"])).to_pandas()
    merged: pd.DataFrame = images.merge(cells[["trial", *CELL_SETTINGS]], on="trial")
    return merged


def _achieved(
    scores: NDArray[np.float64], is_member: NDArray[np.bool_], measures: Sequence[AttackMetrics]
) -> dict[str, Any]:
    """Return what an attack achieves on the samples of a group, as means over targets."""
    frame = pd.DataFrame([vars(measure) for measure in measures])
    auc = mean_auc(scores, is_member)
    rates = {name: mean_tpr(scores, is_member, fpr) for name, fpr in TPRS.items()}
    with_ends = {
        f"{name}{end}": value
        for name, rate in rates.items()
        for end, value in (("", rate.mean), ("_low", rate.low), ("_high", rate.high))
    }
    means = {name: frame[name].astype(float).mean(skipna=False) for name in ("balanced_acc", "tpr_at_0fp")}
    return {
        **{"auc": auc.mean, "low": auc.low, "high": auc.high, "balanced_acc": means["balanced_acc"]},
        **{name: np.nan if value is None else value for name, value in with_ends.items()},
        **{"tpr_at_0fp": means["tpr_at_0fp"], "ties": tied_share(scores, is_member), "targets": auc.targets},
        **{name: int(frame[name].median()) for name in ("n_in", "n_out")},
    }


def _settings_first(rows: pd.DataFrame, but: Sequence[str] = ()) -> pd.DataFrame:
    """Return the rows with the settings that vary first, and the seed where there are several; other settings go."""
    if rows.empty:
        return rows
    shown = [name for name in varying_settings(rows) if name not in but]
    shown += ["seed"] if rows["seed"].nunique() > 1 else []
    return rows[[*shown, *(name for name in rows.columns if name not in (*CELL_SETTINGS, "seed"))]]
