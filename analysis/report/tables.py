"""Records as tables: each cell's mean and standard deviation over its seeds."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isnan
from typing import TYPE_CHECKING, Any

import pandas as pd

from analysis.cells import level, varying
from analysis.claims.ledger import VERDICTS, Entry
from analysis.metrics import METRICS, Metric
from analysis.report.output import Best, Table
from analysis.statistics.hypotheses import Finding
from analysis.tuning import tradeoff
from analysis.tuning.tradeoff import Tuning
from study.record.results import Results

if TYPE_CHECKING:
    from analysis.statistics.membership import Audited

SIGNS = {"greater": ">", "less": "<", "two-sided": "≠"}
"""The hypothesis of a test, between the names of its arms."""
LABELS = {metric.column: metric.label for metric in METRICS}


def summary(members: pd.DataFrame, metrics: Sequence[Metric] = METRICS) -> pd.DataFrame:
    """Mean and standard deviation of each metric over the members of each cell.

    Args:
        members: rows of `members`, one a member.
        metrics: the columns to take.

    Returns:
        One row a cell, in the order of its settings: the settings that vary, `<metric>_mean` and `<metric>_sd` (n - 1;
        missing for one member), `n`, the members with results, and `excluded`, those that failed or diverged.
    """
    settings = varying(members) or ["norm"]
    cells = members.groupby(settings, sort=True)
    columns = [metric.column for metric in metrics]
    means = cells[columns].mean().add_suffix("_mean")
    deviations = cells[columns].std(ddof=1).add_suffix("_sd")
    n = (members["status"] == "ok").groupby([members[name] for name in settings]).sum()
    counts = pd.DataFrame({"n": n, "excluded": cells.size() - n})
    return pd.concat([means, deviations, counts], axis=1).reset_index()


def summary_table(table: pd.DataFrame, title: str) -> Table:
    """A summary as it is shown."""
    settings = [name for name in table.columns if not name.endswith(("_mean", "_sd")) and name not in ("n", "excluded")]
    labels = {column: label for column, label in LABELS.items() if f"{column}_mean" in table.columns}
    shown = Table(title, table, settings, [*labels.values(), "n", "excluded"])
    for row in table.astype(object).to_dict("records"):  # a row of numbers alone would turn its counts into floats
        metrics = [_mean_sd(row[f"{column}_mean"], row[f"{column}_sd"]) for column in labels]
        shown.add_row(*(level(row[name]) for name in settings), *metrics, str(row["n"]), str(row["excluded"]))
    return shown


def comparison_table(table: pd.DataFrame, title: str) -> Table:
    """A comparison as it is shown."""
    names = ["metric", "arm", "reference"]
    tested = ["n", "difference", "low", "high", "effect", "p", "p_holm", "alternative", "excluded"]
    settings = [name for name in table.columns if name not in (*names, *tested)]
    numbers = ["n", "difference", "95% interval", "d", "p", "p (Holm)", "excluded"]
    shown = Table(title, table, ["metric", "arms", *settings], numbers)
    for row in table.astype(object).to_dict("records"):
        shown.add_row(
            LABELS[row["metric"]],
            f"{level(row['arm'])} {SIGNS[row['alternative']]} {level(row['reference'])}",
            *("all" if pd.isna(row[name]) else level(row[name]) for name in settings),
            str(row["n"]),
            _signed(row["difference"]),
            _interval(row),
            "-" if isnan(row["effect"]) else f"{row['effect']:.1f}",
            _p(row["p"]),
            _p(row["p_holm"]),
            str(row["excluded"]),
        )
    return shown


def audit_tables(audited: "Sequence[Audited]", attacks: Sequence[str], sweep: str) -> list[Table]:
    """What the attacks find, and where there are two arms how much more in one than in the other."""
    from analysis.statistics import membership  # numba takes a second to import

    found = [audit_table(membership.table(audited, attacks), f"{sweep}: membership inference")]
    gained = membership.differences(audited, attacks)
    if len(gained):
        found.append(difference_table(gained, f"{sweep}: AUC of one arm less that of the other"))
    return found


def audit_table(table: pd.DataFrame, title: str) -> Table:
    """Attacks by cell and group as they are shown."""
    rates = {"balanced_acc": "balanced accuracy", "tpr_at_1e2fpr": "TPR at 1% FPR", "tpr_at_1e3fpr": "at 0.1%"}
    rates |= {"tpr_at_0fp": "at zero"}
    numbers = ["auc", "low", "high", *rates, "targets", "n_in", "n_out"]
    settings = [name for name in table.columns if name not in numbers]
    shown = Table(title, table, settings, ["AUC [95% interval]", *rates.values(), "targets", "IN", "OUT"])
    for _, row in table.astype(object).iterrows():
        shown.add_row(
            *(level(row[name]) for name in settings),
            "-" if pd.isna(row["auc"]) else f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            *("-" if pd.isna(row[name]) else f"{row[name] * 100:.2f}%" for name in rates),
            *(str(row[name]) for name in ("targets", "n_in", "n_out")),
        )
    return shown


def difference_table(table: pd.DataFrame, title: str) -> Table:
    """Differences between the AUCs of two arms as they are shown."""
    numbers = ["difference", "low", "high", "targets"]
    settings = [name for name in table.columns if name not in (*numbers, "arm", "reference")]
    shown = Table(title, table, ["arms", *settings], ["difference [95% interval]", "targets"])
    for _, row in table.astype(object).iterrows():
        shown.add_row(
            f"{row['arm']} - {row['reference']}",
            *(level(row[name]) for name in settings),
            "-" if pd.isna(row["low"]) else f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]",
            str(row["targets"]),
        )
    return shown


def _mean_sd(mean: float, deviation: float) -> str:
    if isnan(mean):
        return "-"
    return f"{mean:.3f}" if isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"


def _signed(value: float) -> str:
    return "-" if isnan(value) else f"{value:+.3f}"


def _interval(row: Mapping[Any, Any]) -> str:
    return "-" if isnan(row["low"]) else f"[{row['low']:+.3f}, {row['high']:+.3f}]"


def _p(value: float) -> str:
    return "-" if isnan(value) else f"{value:.1e}" if value < 1e-3 else f"{value:.3f}"


def amplification_table(table: pd.DataFrame, title: str) -> Table:
    """Predicted and measured amplification as it is shown."""
    numbers = ["predicted", "measured_out", "measured_in"]
    settings = [name for name in table.columns if name not in (*numbers, "n")]
    shown = Table(title, table, settings, ["(gamma/sigma)^2", "measured on S_out", "measured on S_in", "n"])
    for _, row in table.iterrows():
        values = ("-" if isnan(row[name]) else f"{row[name]:.3g}" for name in numbers)
        shown.add_row(*(level(row[name]) for name in settings), *values, f"{row['n']:.0f}")
    return shown


def ablation_table(table: pd.DataFrame, factor: str, title: str) -> Table:
    """The levels of a factor as they are shown, the best mean of each cell marked."""
    numbers = ["mean", "sd", "n", "excluded", "best", "pairs", "difference", "low", "high", "effect", "p"]
    settings = [
        name for name in table.columns if name not in ("metric", factor, "reference", "alternative", "p_holm", *numbers)
    ]
    right = ["mean ± sd", "n", "excluded", "difference", "95% interval", "d", "p", "p (Holm)"]
    shown = Table(title, table, ["metric", *settings, factor], right)
    for row in table.astype(object).to_dict("records"):
        mean = _mean_sd(row["mean"], row["sd"])
        shown.add_row(
            LABELS[row["metric"]],
            *(level(row[name]) for name in [*settings, factor]),
            Best(mean) if row["best"] else mean,
            *(str(row[name]) for name in ("n", "excluded")),
            _signed(row["difference"]),
            _interval(row),
            "-" if isnan(row["effect"]) else f"{row['effect']:.1f}",
            *(_p(row[name]) for name in ("p", "p_holm")),
        )
    return shown


def effects_table(table: pd.DataFrame, title: str) -> Table:
    """Marginal effects and interactions as they are shown."""
    right = ["effect", "95% interval", "p", "p (Holm)", "n", "excluded"]
    shown = Table(title, table, ["metric", "axis", "effect of", "more with"], right)
    for row in table.astype(object).to_dict("records"):
        shown.add_row(
            LABELS[row["metric"]],
            row["axis"],
            f"{level(row['level'])} - {level(row['reference'])}",
            "" if pd.isna(row["norm"]) else f"{row['norm']} - {row['norm_reference']}",
            _signed(row["effect"]),
            _interval(row),
            *(_p(row[name]) for name in ("p", "p_holm")),
            *(str(row[name]) for name in ("n", "excluded")),
        )
    return shown


def figures_table(table: pd.DataFrame, title: str) -> Table:
    """Figures that were drawn, with their files in notes, which are too long for a column."""
    shown = Table(title, table, ["sweep", "figure", "in the paper", "what it shows"], [])
    for row in table.to_dict("records"):
        shown.add_row(*(str(row[name]) for name in ("sweep", "figure", "place", "caption")))
        shown.notes += [f"figure: {row[kind]}" for kind in ("png", "pdf")]
    return shown


def bench_table(table: pd.DataFrame, title: str) -> Table:
    """The benchmark as it is shown."""
    seconds = ["import_seconds", "members_seconds", "curves_seconds", "seconds", "cpu_seconds"]
    named = ["import", "members", "curves", "all", "on all cores"]
    shown = Table(title, table, [], ["members", "curve rows", *(f"{name}, s" for name in named), "peak memory, GB"])
    for row in table.astype(object).to_dict("records"):
        counts = (f"{row[name]:,}" for name in ("members", "curve_rows"))
        shown.add_row(*counts, *(f"{row[name]:.2f}" for name in (*seconds, "peak_gb")))
    return shown


# The tuned regularizer ------------------------------------------------------------------------------------------------


def tuning_tables(tuning: Tuning, title: str) -> list[Table]:
    """All there is to say of one cell: the front, what to choose, its rivals, the searches and the paper's findings."""
    left_out = len(tuning.searched) - len(tuning.usable)
    size = f"front of {len(tuning.searched)} settings, {left_out} of which failed or diverged"
    front = tuned_table(tuning, f"{title}, {size}; means over seeds, chosen without the test set")
    front.notes.append(recommendation(tuning))
    found, tested = [front], tradeoff.comparisons(tuning)
    if len(tested):
        found += [
            arms_table(tuning, f"{title}, fresh seeds: mean ± sd (change from norm=batch)"),
            comparison_table(tested, f"{title}, fresh seeds: paired t-tests, two-sided"),
        ]
    if not len(tested) or tuning.recommended_arm not in {None, *tested["arm"]}:
        what = "The recommended setting" if len(tested) else "No arm"
        measured = "has not been measured" if len(tested) else "has been measured"
        again = (
            f"`python -m sweeps tune regularizer` with --max-accuracy-loss {tuning.max_loss:g} and all else as before"
        )
        front.notes.append(f"{what} {measured} on fresh seeds; {again} does.")
    front.notes.append(searches(tuning))
    found[-1].notes += [f"Fig. 8, {each.claim}: {each.verdict}; {each.evidence}." for each in tradeoff.findings(tuning)]
    return found


def tuned_table(tuning: Tuning, title: str) -> Table:
    """The front and its references as they are shown."""
    table = tradeoff.front_table(tuning)
    settings = ["setting", "alpha"] + (["lr"] if table["lr"].nunique() > 1 else [])
    measured = {**tradeoff.OBJECTIVE_LABELS, "test_acc": "test", "mia_auc": "test MIA AUC", "clean_acc": "clean"}
    shown = Table(title, table, settings, [*measured.values(), ""])
    for _, row in table.iterrows():
        shown.add_row(
            *("-" if pd.isna(row[name]) else level(row[name]) for name in settings),
            *(f"{row[name]:.3f}" for name in measured),
            "recommended" if row["recommended"] else "",
        )
    return shown


def arms_table(tuning: Tuning, title: str) -> Table:
    """What each arm buys and costs on fresh seeds: its mean, and beside it the paired difference from norm=batch."""
    table = tradeoff.arms(tuning)
    shown = Table(title, table, ["arm"], [*(LABELS[metric] for metric in tradeoff.BOUGHT), "n", "excluded"])
    for _, row in table.astype(object).iterrows():
        named = f"{row['arm'] or 'norm=batch'}{' (recommended)' if row['recommended'] else ''}"
        cells = (_changed(row, metric) for metric in tradeoff.BOUGHT)
        shown.add_row(named, *cells, str(row["n"]), str(row["excluded"]))
    return shown


def _changed(row: pd.Series, metric: str) -> str:
    difference = row.get(f"{metric}_difference", float("nan"))
    mean = _mean_sd(row[f"{metric}_mean"], row[f"{metric}_sd"])
    return mean if pd.isna(difference) else f"{mean} ({difference:+.3f})"


def recommendation(tuning: Tuning) -> str:
    """What to choose under the budget, in a sentence."""
    budget = f"at most {tuning.max_loss:g} below norm=batch's validation accuracy of {tuning.accuracy:.3f}"
    if tuning.usable.empty:
        return "Nothing is recommended: no searched setting gave a result."
    if isnan(tuning.accuracy):
        return "Nothing is recommended: norm=batch gave no result on the search's seeds to be held against."
    best = tuning.recommended
    if best is None:
        nearest = tuning.usable["val_acc"].max()
        return f"Nothing is recommended: no searched setting is {budget}; the nearest has {nearest:.3f}."
    held = tradeoff.reference_means(tuning).set_index("norm").loc["batch"]
    means = ", ".join(
        f"{label} {best[name]:.3f} (norm=batch {held[name]:.3f})" for name, label in tradeoff.OBJECTIVE_LABELS.items()
    )
    return f"Recommended, with {budget}: {tuning.recommended_arm}; {means}."


def searches(tuning: Tuning) -> str:
    """What each search dominates, in a sentence, after as many trials as both have."""
    table = tradeoff.hypervolumes(tuning).set_index(["search", "trials"])["hypervolume"]
    point = ", ".join(f"{name} {value:.3f}" for name, value in tradeoff.worst(tuning).items())
    counts = {"TPE": len(tuning.searched), "random": len(tuning.random)}
    shared = min(count for count in counts.values() if count)
    told = ", ".join(f"{name} {table[(name, shared)]:.3g}" for name, count in counts.items() if count)
    missing = "" if counts["random"] else "; there is no random search to hold it against"
    return (
        f"Hypervolume after {shared} trial{'s' * (shared != 1)}: {told}, before the reference point {point}{missing}."
    )


# The ledger -----------------------------------------------------------------------------------------------------------


CLAIM_NUMBERS = ["n", "effect", "95% interval", "p (Holm)", "the paper's"]


def claims_table(entries: Sequence[Entry], title: str, results: Results) -> Table:
    """A ledger as a terminal shows it: the numbers in rows, and what each claim says and rests on in notes."""
    shown = Table(title, _claim_data(entries, results), ["claim", "verdict"], CLAIM_NUMBERS)
    for entry in entries:
        shown.add_row(entry.claim.id, entry.verdict, *_claim_numbers(entry))
        said = f"{entry.claim.id} ({entry.claim.place}): {entry.claim.says}"
        shown.notes.append(f"{said}\n  {entry.verdict}: {_rests(entry, results)}")
    counts = Counter(entry.verdict for entry in entries)
    shown.notes.append(", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
    return shown


def ledger_table(entries: Sequence[Entry], title: str, results: Results) -> Table:
    """A ledger as a page shows it: what each claim says and rests on beside its numbers."""
    words = ["claim", "place", "the paper says", "verdict", "by, or to be run by"]
    shown = Table(title, _claim_data(entries, results), words, CLAIM_NUMBERS)
    for entry in entries:
        claim = entry.claim
        shown.add_row(claim.id, claim.place, claim.says, entry.verdict, _rests(entry, results), *_claim_numbers(entry))
    return shown


def _claim_numbers(entry: Entry) -> tuple[str, ...]:
    found, claim = entry.finding, entry.claim
    return (
        "-" if found is None else str(found.n),
        "-" if found is None else _effect(found.effect, claim.ratio),
        "-" if found is None or found.low is None else _claim_interval(found, claim.ratio),
        "-" if entry.p_holm is None else _p(entry.p_holm),
        _papers(entry),
    )


def _claim_data(entries: Sequence[Entry], results: Results) -> pd.DataFrame:
    return pd.DataFrame([_claim_row(entry, results) for entry in entries])


def _claim_row(entry: Entry, results: Results) -> dict[str, Any]:
    claim, found = entry.claim, entry.finding or Finding(0)
    told = {"claim": claim.id, "place": claim.place, "says": claim.says, "verdict": entry.verdict, "n": found.n}
    numbers = {"effect": found.effect, "low": found.low, "high": found.high, "p": found.p, "p_holm": entry.p_holm}
    unit = {"unit": "ratio" if claim.ratio else "difference"}
    paper = {"paper": claim.paper, "paper_p": claim.paper_p, "position": entry.position}
    return {
        **told,
        **numbers,
        **unit,
        **paper,
        "records": entry.found,
        "notes": "; ".join(found.notes),
        "command": claim.command(results),
    }


def _rests(entry: Entry, results: Results) -> str:
    """On what a verdict rests, or how the claim would be run."""
    if entry.finding is None:
        return entry.claim.command(results)
    return "; ".join([entry.found, *entry.finding.notes])


def _effect(value: float | None, ratio: bool) -> str:
    if value is None:
        return "-"
    return f"x{value:.3g}" if ratio else f"{value:+.3f}"


def _claim_interval(found: Finding, ratio: bool) -> str:
    return f"[{_effect(found.low, ratio)}, {_effect(found.high, ratio)}]"


def _papers(entry: Entry) -> str:
    claim = entry.claim
    if claim.paper is None:
        return "-" if claim.paper_p is None else f"p = {claim.paper_p:g}"
    return " ".join([_effect(claim.paper, claim.ratio), entry.position]).strip()
