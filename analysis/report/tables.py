"""The tables of the commands: each takes numbers and returns them with the cells that a person reads."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import isinf, isnan, nan
from typing import Any

import numpy as np
import pandas as pd

from analysis.cells import varying_settings
from analysis.claims.ledger import FAMILIES, NOT_RUN, VERDICTS, Entry, TuningEntry, tuning_ledger
from analysis.evidence import Taken
from analysis.metrics import ALL_METRICS, METRICS, Metric
from analysis.report.output import Best, Table
from analysis.simulations.scenario import ERRORS_ALLOWED, Row
from analysis.statistics.hypotheses import ALPHA, Finding
from analysis.statistics.membership import CellAudit, attack_table, auc_differences, over_training_sets
from analysis.tuning import tradeoff
from analysis.tuning.tradeoff import TunedCell
from study.errors import BadInputError
from study.record.results import Results
from study.record.schema import SCHEMAS
from study.settings import format_value
from sweeps.tuning.pareto import remark_without_gain

SIGNS = {"greater": ">", "less": "<", "two-sided": "≠"}
"""The sign between the names of a test's arms, by its alternative."""
METRIC_LABELS = {metric.column: metric.label for metric in ALL_METRICS}


def summary(members: pd.DataFrame, metrics: Sequence[Metric] = METRICS) -> pd.DataFrame:
    """Return mean and standard deviation of each metric over the members of each cell.

    Args:
        members: rows of `members`, one for each member.
        metrics: the metrics.

    Returns:
        A row for each cell, in the order of its settings: the settings that vary, `<metric>_mean` and `<metric>_sd`
        (n - 1; missing for one member), `n` (the members with results) and `excluded` (those that failed or diverged).
    """
    settings = varying_settings(members) or ["norm"]
    cells = members.groupby(settings, sort=True)
    columns = [metric.column for metric in metrics]
    means = cells[columns].mean().add_suffix("_mean")
    deviations = cells[columns].std(ddof=1).add_suffix("_sd")
    n = (members["status"] == "ok").groupby([members[name] for name in settings]).sum()
    counts = pd.DataFrame({"n": n, "excluded": cells.size() - n})
    return pd.concat([means, deviations, counts], axis=1).reset_index()


def summary_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `summary` or `curves` gives as a table."""
    settings = [name for name in data.columns if not name.endswith(("_mean", "_sd")) and name not in ("n", "excluded")]
    labels = {column: label for column, label in METRIC_LABELS.items() if f"{column}_mean" in data.columns}
    table = Table(title, data, settings, [*labels.values(), "n", "excluded"])
    for row in data.astype(object).to_dict("records"):  # a row of numbers alone would turn its counts into floats
        metrics = [_mean_sd(row[f"{column}_mean"], row[f"{column}_sd"]) for column in labels]
        table.add_row(*(format_value(row[name]) for name in settings), *metrics, str(row["n"]), str(row["excluded"]))
    return table


def pivot(members: pd.DataFrame, across: str, metrics: Sequence[Metric]) -> pd.DataFrame:
    """Return the summary of each cell with the levels of one setting side by side, as the paper's Table 1 has datasets.

    Args:
        members: rows of `members`, one for each member.
        across: the setting whose levels are the columns.
        metrics: the metrics, a row each.

    Returns:
        A row for each metric and cell of the other settings that vary: `metric`, these settings, and for each level
        `<level>_mean` and `<level>_sd`, missing where there is no such cell.

    Raises:
        BadInputError: the setting does not vary.
    """
    cells = summary(members, metrics)
    if across not in cells or members[across].nunique() < 2:
        raise BadInputError(f"{across} has one level here, so there is nothing to put side by side.")
    others = [name for name in varying_settings(members) if name != across]
    levels = list(dict.fromkeys(cells[across]))
    rows = []
    for metric in metrics:
        for key, cell in cells.groupby(others, sort=True) if others else [((), cells)]:
            by_level = cell.set_index(across)
            row = {"metric": metric.column, **dict(zip(others, key, strict=True))}
            for level in levels:
                for part in ("mean", "sd"):
                    known = level in by_level.index
                    value = by_level.loc[level, f"{metric.column}_{part}"] if known else nan
                    row[f"{format_value(level)}_{part}"] = value
            rows.append(row)
    return pd.DataFrame(rows)


def pivot_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `pivot` gives as a table."""
    levels = [name.removesuffix("_mean") for name in data.columns if name.endswith("_mean")]
    settings = [name for name in data.columns if not name.endswith(("_mean", "_sd")) and name != "metric"]
    table = Table(title, data, ["metric", *settings], levels)
    for row in data.astype(object).to_dict("records"):
        cells = [_mean_sd(row[f"{level}_mean"], row[f"{level}_sd"]) for level in levels]
        table.add_row(METRIC_LABELS[row["metric"]], *(format_value(row[name]) for name in settings), *cells)
    return table


def comparison_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `paired.compare` gives as a table."""
    names = ["metric", "arm", "reference"]
    tested = ["n", "difference", "low", "high", "effect", "p", "p_holm", "alternative", "excluded"]
    settings = [name for name in data.columns if name not in (*names, *tested)]
    numbers = ["n", "difference", "95% interval", "d", "p", "p (Holm)", "excluded"]
    table = Table(title, data, ["metric", "arms", *settings], numbers)
    for row in data.astype(object).to_dict("records"):
        table.add_row(
            METRIC_LABELS[row["metric"]],
            f"{format_value(row['arm'])} {SIGNS[row['alternative']]} {format_value(row['reference'])}",
            *("all" if pd.isna(row[name]) else format_value(row[name]) for name in settings),
            str(row["n"]),
            _signed(row["difference"]),
            interval_text(row),
            "-" if isnan(row["effect"]) else f"{row['effect']:.1f}",
            p_text(row["p"]),
            p_text(row["p_holm"]),
            str(row["excluded"]),
        )
    return table


def audit_tables(audited: Sequence[CellAudit], attacks: Sequence[str], sweep: str) -> list[Table]:
    """Return a table of what the attacks achieve and, where there are two arms, one of their differences.

    Where there are several training sets D', a table of the means over them follows each.
    """
    achieved, title = attack_table(audited, attacks), f"{sweep}: membership inference"
    tables = [audit_table(achieved, title)]
    if "seed" in achieved:
        tables.append(training_sets_table(over_training_sets(achieved, "auc"), "auc", f"{title}, mean over D'"))
    differences, title = auc_differences(audited, attacks), f"{sweep}: AUC of one arm less that of the other"
    if len(differences):
        tables.append(difference_table(differences, title))
    if "seed" in differences:
        means = over_training_sets(differences, "difference")
        tables.append(training_sets_table(means, "difference", f"{title}, mean over D'"))
    return tables


def audit_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `attack_table` gives as a table to read."""
    rates = {"tpr_at_1e2fpr": "TPR at 1% FPR", "tpr_at_1e3fpr": "at 0.1%"}
    shares = {"tpr_at_0fp": "at zero", "balanced_acc": "balanced accuracy", "ties": "ties"}
    ends = [f"{name}_{end}" for name in rates for end in ("low", "high")]
    numbers = ["auc", "low", "high", *rates, *ends, *shares, "targets", "n_in", "n_out"]
    settings = [name for name in data.columns if name not in numbers]
    headings = ["AUC [95% interval]", *rates.values(), *shares.values(), "targets", "IN", "OUT"]
    table = Table(title, data, settings, headings)
    for _, row in data.astype(object).iterrows():
        table.add_row(
            *(format_value(row[name]) for name in settings),
            "-" if pd.isna(row["auc"]) else f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
            *(_rate(row, name) for name in rates),
            *("-" if pd.isna(row[name]) else f"{row[name] * 100:.2f}%" for name in shares),
            *(str(row[name]) for name in ("targets", "n_in", "n_out")),
        )
    return table


def training_sets_table(data: pd.DataFrame, number: str, title: str) -> Table:
    """Return what `over_training_sets` gives of a number as a table."""
    settings = [name for name in data.columns if name not in (number, "low", "high", "training_sets")]
    heading = "AUC" if number == "auc" else number
    sign = "" if number == "auc" else "+"
    table = Table(title, data, settings, [f"{heading} [95% interval]", "D'"])
    for _, row in data.astype(object).iterrows():
        ends = "" if pd.isna(row["low"]) else f" [{row['low']:{sign}.3f}, {row['high']:{sign}.3f}]"
        table.add_row(
            *(format_value(row[name]) for name in settings),
            f"{row[number]:{sign}.3f}{ends}",
            str(row["training_sets"]),
        )
    return table


def shadows_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `auc_by_shadows` gives as a table, the numbers of shadows side by side."""
    settings = [name for name in data.columns if name not in ("shadows", "auc")]
    numbers = sorted(data["shadows"].unique())
    headings = ["infinitely many" if np.isinf(number) else f"{number:g} a side" for number in numbers]
    table = Table(title, data, settings, headings)
    for cell, rows in data.astype(object).groupby(settings, sort=False):
        aucs = dict(zip(rows["shadows"], rows["auc"], strict=True))
        shown = [aucs.get(number, nan) for number in numbers]
        names = cell if isinstance(cell, tuple) else (cell,)
        table.add_row(*map(format_value, names), *("-" if isnan(auc) else f"{auc:.3f}" for auc in shown))
    return table


def _rate(row: pd.Series, name: str) -> str:
    """Return a true positive rate and its interval in percent."""
    if pd.isna(row[name]):
        return "-"
    value, low, high = (100 * row[column] for column in (name, f"{name}_low", f"{name}_high"))
    return f"{value:.2f}% [{low:.2f}, {high:.2f}]"


def difference_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `auc_differences` gives as a table."""
    numbers = ["difference", "low", "high", "targets"]
    settings = [name for name in data.columns if name not in (*numbers, "arm", "reference")]
    table = Table(title, data, ["arms", *settings], ["difference [95% interval]", "targets"])
    for _, row in data.astype(object).iterrows():
        table.add_row(
            f"{row['arm']} - {row['reference']}",
            *(format_value(row[name]) for name in settings),
            "-" if pd.isna(row["low"]) else f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]",
            str(row["targets"]),
        )
    return table


def _mean_sd(mean: float, deviation: float) -> str:
    if isnan(mean):
        return "-"
    return f"{mean:.3f}" if isnan(deviation) else f"{mean:.3f} ± {deviation:.3f}"


def _signed(value: float) -> str:
    return "-" if isnan(value) else f"{value:+.3f}"


def interval_text(row: Mapping[Any, Any]) -> str:
    """Return the ends of the interval of a difference, `low` and `high`, or a dash."""
    return "-" if isnan(row["low"]) else f"[{row['low']:+.3f}, {row['high']:+.3f}]"


def p_text(value: float) -> str:
    """Return a p-value, or a dash where there is none."""
    return "-" if isnan(value) else f"{value:.1e}" if value < 1e-3 else f"{value:.3f}"


def amplification_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `amplification` gives as a table."""
    numbers = ["predicted", "measured_out", "measured_in", "over_equation"]
    settings = [name for name in data.columns if name not in (*numbers, "n")]
    table = Table(
        title, data, settings, ["(gamma/sigma)^2", "measured on S_out", "measured on S_in", "over Eq. 11", "n"]
    )
    for _, row in data.iterrows():
        values = ("-" if isnan(row[name]) else f"{row[name]:.3g}" for name in numbers)
        table.add_row(*(format_value(row[name]) for name in settings), *values, f"{row['n']:.0f}")
    return table


def ablation_table(data: pd.DataFrame, factor: str, title: str) -> Table:
    """Return what `ablation` gives as a table, with the best mean of each cell marked."""
    numbers = ["mean", "sd", "n", "excluded", "best", "pairs", "difference", "low", "high", "effect", "p"]
    settings = [
        name for name in data.columns if name not in ("metric", factor, "reference", "alternative", "p_holm", *numbers)
    ]
    right = ["mean ± sd", "n", "excluded", "difference", "95% interval", "d", "p", "p (Holm)"]
    table = Table(title, data, ["metric", *settings, factor], right)
    for row in data.astype(object).to_dict("records"):
        mean = _mean_sd(row["mean"], row["sd"])
        table.add_row(
            METRIC_LABELS[row["metric"]],
            *(format_value(row[name]) for name in [*settings, factor]),
            Best(mean) if row["best"] else mean,
            *(str(row[name]) for name in ("n", "excluded")),
            _signed(row["difference"]),
            interval_text(row),
            "-" if isnan(row["effect"]) else f"{row['effect']:.1f}",
            *(p_text(row[name]) for name in ("p", "p_holm")),
        )
    return table


def effects_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `factorial.effects` gives as a table."""
    right = ["effect", "95% interval", "p", "p (Holm)", "n", "excluded"]
    table = Table(title, data, ["metric", "axis", "effect of", "more with"], right)
    for row in data.astype(object).to_dict("records"):
        table.add_row(
            METRIC_LABELS[row["metric"]],
            row["axis"],
            f"{format_value(row['level'])} - {format_value(row['reference'])}",
            "" if pd.isna(row["norm"]) else f"{row['norm']} - {row['norm_reference']}",
            _signed(row["effect"]),
            interval_text(row),
            *(p_text(row[name]) for name in ("p", "p_holm")),
            *(str(row[name]) for name in ("n", "excluded")),
        )
    return table


def figures_table(data: pd.DataFrame, title: str) -> Table:
    """Return the figures that were drawn as a table; their paths, too long for a column, are notes."""
    table = Table(title, data, ["sweep", "figure", "in the paper", "what it shows"], [])
    for row in data.to_dict("records"):
        table.add_row(*(str(row[name]) for name in ("sweep", "figure", "place", "caption")))
        table.notes += [f"figure: {row[kind]}" for kind in ("png", "pdf", "svg")]
    return table


def bench_table(data: pd.DataFrame, title: str) -> Table:
    """Return what `bench` gives as a table."""
    seconds = ["import_seconds", "members_seconds", "curves_seconds", "seconds", "cpu_seconds"]
    labels = ["import", "members", "curves", "all", "on all cores"]
    table = Table(title, data, [], ["members", "curve rows", *(f"{label}, s" for label in labels), "peak memory, GB"])
    for row in data.astype(object).to_dict("records"):
        counts = (f"{row[name]:,}" for name in ("members", "curve_rows"))
        table.add_row(*counts, *(f"{row[name]:.2f}" for name in (*seconds, "peak_gb")))
    return table


def evidence_table(taken: Sequence[Taken], title: str) -> Table:
    """Return what was taken into the evidence as a table, with the bytes of each table's file."""
    found = {table for each in taken for table in each.sizes}
    stored = [table for table in SCHEMAS if table in found]
    counts = ["trials", "added", "replaced"]
    data = pd.DataFrame(
        [
            {
                **{name: getattr(each, name) for name in ("sweep", *counts)},
                **{f"{table}_bytes": each.sizes.get(table, 0) for table in stored},
                "bytes": each.bytes,
            }
            for each in taken
        ]
    )
    table = Table(title, data, ["sweep"], [*counts, *(f"{name}, B" for name in stored), "all, B"])
    for row in data.astype(object).to_dict("records"):
        table.add_row(row["sweep"], *(f"{row[name]:,}" for name in data.columns[1:]))
    return table


def simulations_table(rows: Sequence[Row], title: str) -> Table:
    """Return the rows of the audit of the statistics as a table, and how many of them are out of bounds."""
    data = pd.DataFrame([{**vars(row), "within": row.within} for row in rows])
    left = ["question", "scenario", "measured", "within"]
    table = Table(title, data, left, ["nominal", "bound", "estimate ± error", "replicates"])
    for row in rows:
        numbers = f"{row.estimate:.4f} ± {row.error:.4f}"
        verdict = "yes" if row.within else "NO"
        cells = (row.question, row.scenario, row.measured, verdict, f"{row.nominal:.4g}", _bound(row), numbers)
        table.add_row(*cells, f"{row.replicates:,}")
    out = sum(not row.within for row in rows)
    table.notes += [
        f"{out} of {len(rows)} rows are out of bounds, that is beyond theirs by more than {ERRORS_ALLOWED:g} Monte "
        "Carlo errors, of which one is beside each estimate."
    ]
    return table


def _bound(row: Row) -> str:
    """Return a bound in signs."""
    if isinf(row.least) or isinf(row.most):
        ends = [f"≥ {row.least:.4g}"] * (not isinf(row.least)) + [f"≤ {row.most:.4g}"] * (not isinf(row.most))
        return "".join(ends) or "none"
    return f"{row.least:.4g} to {row.most:.4g}"


# The tuned regularizer ------------------------------------------------------------------------------------------------


def tuning_tables(cell: TunedCell, title: str) -> list[Table]:
    """Return the tables of a tuned cell: its front, its arms on fresh seeds and their tests, and the paper's claims."""
    left_out = len(cell.searched) - len(cell.usable)
    size = f"front of {len(cell.searched)} settings, {left_out} of which failed or diverged"
    front = tuning_front_table(cell, f"{title}, {size}; means over seeds, chosen without the test set")
    front.notes.append(recommendation(cell))
    tables, comparisons = [front], tradeoff.comparisons(cell)
    if len(comparisons):
        tables += [
            tuning_arms_table(cell, f"{title}, fresh seeds: mean ± sd (change from norm=batch)"),
            comparison_table(comparisons, f"{title}, fresh seeds: paired t-tests, two-sided"),
        ]
    if not len(comparisons) or cell.recommended_arm not in {None, *comparisons["arm"]}:
        subject = "The recommended setting has not" if len(comparisons) else "No arm has"
        command = (
            f"`python -m sweeps tune regularizer` with --max-accuracy-loss {cell.max_loss:g} and all else as before"
        )
        front.notes.append(f"{subject} been measured on fresh seeds; {command} does.")
    front.notes.append(hypervolume_sentence(cell))
    tables.append(tuning_claims_table(tuning_ledger(cell), f"{title}: the paper's claims"))
    return tables


def tuning_front_table(cell: TunedCell, title: str) -> Table:
    """Return the front of a tuned cell and its references as a table."""
    data = tradeoff.front_table(cell)
    settings = ["setting", "alpha"] + (["lr"] if data["lr"].nunique() > 1 else [])
    labels = {**tradeoff.OBJECTIVE_LABELS, "test_acc": "test", "mia_auc": "test MIA AUC", "clean_acc": "clean"}
    table = Table(title, data, settings, [*labels.values(), ""])
    for _, row in data.iterrows():
        table.add_row(
            *("-" if pd.isna(row[name]) else format_value(row[name]) for name in settings),
            *(f"{row[name]:.3f}" for name in labels),
            "recommended" if row["recommended"] else "",
        )
    return table


def tuning_arms_table(cell: TunedCell, title: str) -> Table:
    """Return each arm's results on fresh seeds as a table: its mean, and beside it the difference from norm=batch."""
    data, compared = tradeoff.arm_table(cell), tradeoff.compared_results(cell)
    table = Table(title, data, ["arm"], [*(METRIC_LABELS[metric] for metric in compared), "n", "excluded"])
    for _, row in data.astype(object).iterrows():
        name = f"{row['arm'] or 'norm=batch'}{' (recommended)' if row['recommended'] else ''}"
        results = (_mean_and_change(row, metric) for metric in compared)
        table.add_row(name, *results, str(row["n"]), str(row["excluded"]))
    return table


def _mean_and_change(row: pd.Series, metric: str) -> str:
    difference = row.get(f"{metric}_difference", float("nan"))
    mean = _mean_sd(row[f"{metric}_mean"], row[f"{metric}_sd"])
    return mean if pd.isna(difference) else f"{mean} ({difference:+.3f})"


def recommendation(cell: TunedCell) -> str:
    """Return a sentence on which setting is recommended within the budget, or why none is."""
    budget = f"at most {cell.max_loss:g} below norm=batch's validation accuracy of {cell.accuracy:.3f}"
    if cell.usable.empty:
        return "Nothing is recommended: no searched setting gave a result."
    if isnan(cell.accuracy):
        return "Nothing is recommended: norm=batch gave no result on the search's seeds to compare with."
    best = cell.recommended
    if best is None:
        nearest = cell.usable["val_acc"].max()
        return f"Nothing is recommended: no searched setting is {budget}; the nearest has {nearest:.3f}."
    batch = tradeoff.reference_means(cell).set_index("norm").to_dict("index")["batch"]
    means = ", ".join(
        f"{label} {best[name]:.3f} (norm=batch {batch[name]:.3f})" for name, label in tradeoff.OBJECTIVE_LABELS.items()
    )
    remark = remark_without_gain(best["mem_acc"], batch["mem_acc"])
    return f"Recommended, with {budget}: {cell.recommended_arm}; {means}{remark and f'; {remark}'}."


def hypervolume_sentence(cell: TunedCell) -> str:
    """Return a sentence on the hypervolume that each search dominates after as many trials as both have."""
    table = tradeoff.hypervolumes(cell).set_index(["search", "trials"])["hypervolume"]
    point = ", ".join(f"{name} {value:.3f}" for name, value in tradeoff.reference_point(cell).items())
    counts = {"TPE": len(cell.searched), "random": len(cell.random)}
    shared = min(count for count in counts.values() if count)
    volumes = ", ".join(f"{name} {table[(name, shared)]:.3g}" for name, count in counts.items() if count)
    missing = "" if counts["random"] else "; there is no random search to compare it with"
    trials = f"{shared} trial{'s' * (shared != 1)}"
    return f"Hypervolume after {trials}: {volumes}, before the reference point {point}{missing}."


# The ledger -----------------------------------------------------------------------------------------------------------


CLAIM_NUMBERS = ["n", "effect", "95% interval", "p (Holm)", "the paper's"]
FALSE_VERDICTS = (
    "p is that of the claim, or of the contradiction where it is not held, by Holm's correction over all verdicts that "
    f"can be given on its paper, {', '.join(f'{family} on that of {paper}' for paper, family in FAMILIES.items())}, "
    "those on claims that were not run included: of all such ledgers at most "
    f"{ALPHA:.0%} have any false verdict on a paper, held, exceeded or not held."
)
"""How many false verdicts a ledger allows."""


def claims_table(entries: Sequence[Entry], title: str, results: Results) -> Table:
    """Return the ledger as a table for a terminal: numbers in rows, each claim's words and basis in notes."""
    table = verdicts_table(entries, title, results)
    table.notes += [_claim_note(entry, basis(entry, results)) for entry in entries]
    counts = Counter(entry.verdict for entry in entries)
    table.notes.append(FALSE_VERDICTS)
    table.notes.append(", ".join(f"{counts[verdict]} {verdict}" for verdict in VERDICTS))
    return table


def verdicts_table(entries: Sequence[Entry], title: str, results: Results) -> Table:
    """Return the ledger's verdicts and numbers alone."""
    table = Table(title, _claim_data(entries, results), ["claim", "verdict"], CLAIM_NUMBERS)
    for entry in entries:
        table.add_row(entry.claim.id, entry.verdict, *_claim_numbers(entry))
    return table


def tuning_claims_table(entries: Sequence[TuningEntry], title: str) -> Table:
    """Return the ledger of a tuned cell as a table: numbers in rows, each claim's words and basis in notes."""
    rows = [
        {
            **{"claim": entry.claim.id, "place": entry.claim.place, "says": entry.claim.says},
            **{"verdict": entry.verdict, "n": entry.finding.n, "effect": entry.finding.effect},
            **{"low": entry.finding.low, "high": entry.finding.high, "p": entry.finding.p, "p_holm": entry.p_holm},
            "notes": "; ".join(entry.finding.notes),
        }
        for entry in entries
    ]
    table = Table(title, pd.DataFrame(rows), ["claim", "verdict"], ["n", "effect", "95% interval", "p (Holm)"])
    for entry in entries:
        finding = entry.finding
        p = "-" if entry.p_holm is None else p_text(entry.p_holm)
        numbers = (str(finding.n), _effect(finding.effect), _claim_interval(finding), p)
        table.add_row(entry.claim.id, entry.verdict, *numbers)
        table.notes.append(_claim_note(entry, "; ".join(finding.notes)))
    return table


def _claim_note(entry: Entry | TuningEntry, basis: str) -> str:
    """Return the words of a claim, its verdict, and what the verdict rests on."""
    return f"{entry.claim.id} ({entry.claim.place}): {entry.claim.says}\n  {entry.verdict}: {basis}"


def ledger_table(entries: Sequence[Entry], title: str, results: Results) -> Table:
    """Return the ledger as a table for a page: each claim's words and basis beside its numbers."""
    words = ["claim", "place", "the paper says", "verdict", "by, or to be run by"]
    table = Table(title, _claim_data(entries, results), words, CLAIM_NUMBERS)
    for entry in entries:
        claim = entry.claim
        table.add_row(claim.id, claim.place, claim.says, entry.verdict, basis(entry, results), *_claim_numbers(entry))
    return table


def not_run_table(entries: Sequence[Entry], title: str, results: Results) -> Table:
    """Return the claims that no record tests as a table: a command a row, with the claims that it would test."""
    commands: dict[str, list[Entry]] = {}
    for entry in entries:
        if entry.verdict == NOT_RUN:
            commands.setdefault(entry.claim.command(results), []).append(entry)
    data = pd.DataFrame(
        {"command": list(commands), "claims": [[entry.claim.id for entry in of] for of in commands.values()]}
    )
    table = Table(title, data, ["to be run by", "claims", "the paper says"], [])
    for line, of_command in commands.items():
        ids, says = zip(*((entry.claim.id, entry.claim.says) for entry in of_command), strict=True)
        table.add_row(line, ", ".join(ids), " ".join(says))
    return table


def _claim_numbers(entry: Entry) -> tuple[str, ...]:
    """Return the cells of `CLAIM_NUMBERS`."""
    finding, claim = entry.finding, entry.claim
    p = entry.p_against_holm if entry.verdict == "not held" else entry.p_holm
    return (
        "-" if finding is None else str(finding.n),
        "-" if finding is None else _effect(finding.effect, claim.ratio),
        "-" if finding is None else _claim_interval(finding, claim.ratio),
        "-" if p is None else p_text(p),
        _paper_number(entry),
    )


def _claim_data(entries: Sequence[Entry], results: Results) -> pd.DataFrame:
    """Return the ledger's numbers and words, a row for each claim."""
    rows = []
    for entry in entries:
        claim, finding = entry.claim, entry.finding or Finding(0)
        rows.append(
            {
                **{"claim": claim.id, "place": claim.place, "says": claim.says, "verdict": entry.verdict},
                **{"n": finding.n, "effect": finding.effect, "low": finding.low, "high": finding.high},
                **{"p": finding.p, "p_holm": entry.p_holm, "unit": "ratio" if claim.ratio else "difference"},
                **{"p_against": finding.p_against, "p_against_holm": entry.p_against_holm},
                **{"paper": claim.paper, "paper_p": claim.paper_p, "position": entry.position},
                **{"records": entry.records, "notes": "; ".join(finding.notes), "command": claim.command(results)},
                **{"elsewhere": "; ".join(_elsewhere_text(entry)), "publication": claim.publication},
            }
        )
    return pd.DataFrame(rows)


def basis(entry: Entry, results: Results) -> str:
    """Return the records and notes that a verdict rests on, or the command that would run the claim."""
    if entry.finding is None:
        return entry.claim.command(results)
    return "; ".join([entry.records, *entry.finding.notes, *_elsewhere_text(entry)])


def _elsewhere_text(entry: Entry) -> list[str]:
    """Return what the cells say that are not the paper's, if there are any: their verdict, numbers and notes."""
    if entry.elsewhere is None:
        return []
    other, ratio = entry.elsewhere, entry.claim.ratio
    found = other.finding
    numbers = [f"{_effect(found.effect, ratio)} {_claim_interval(found, ratio)}", f"n {found.n}"]
    p = [] if other.p_holm is None else [f"p {p_text(other.p_holm)} by Holm's correction"]
    return [f"elsewhere ({other.records}) {other.verdict}: {', '.join([*numbers, *p, *found.notes])}"]


def _effect(value: float | None, ratio: bool = False) -> str:
    if value is None:
        return "-"
    return f"x{value:.3g}" if ratio else f"{value:+.3f}"


def _claim_interval(finding: Finding, ratio: bool = False) -> str:
    return "-" if finding.low is None else f"[{_effect(finding.low, ratio)}, {_effect(finding.high, ratio)}]"


def _paper_number(entry: Entry) -> str:
    """Return the paper's own number and where it lies, or its p-value."""
    claim = entry.claim
    if claim.paper is None:
        return "-" if claim.paper_p is None else f"p = {claim.paper_p:g}"
    return " ".join([_effect(claim.paper, claim.ratio), entry.position]).strip()
