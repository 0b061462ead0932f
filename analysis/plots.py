"""The kinds of plots that the paper's figures are made of: networks in, a figure out.

All take rows of `members`, with those that were planned and have no record as `load.with_missing` gives them: each
level and each panel that they ask for is there, with a result or with a mark that there is none.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from analysis.cells import SETTINGS, level, varying
from analysis.curves import curves
from analysis.load import KEY, Loaded
from analysis.metrics import Metric
from analysis.panels import (
    Panel,
    Spread,
    arm_handles,
    arms,
    beside,
    counted,
    fill_gap,
    gap,
    hover,
    in_percent,
    laid_out,
    line_of,
    mark_gap,
    ordered,
    outer_labels,
    percent,
    say_gaps,
    shown,
    spaced,
    spread,
    unit,
)
from analysis.theme import COLORS, HATCHES, KIND_LOOKS, MARKERS, MEASURE_LOOKS, MEASURES, NAMES, theme
from study.attacks import ALL
from study.errors import BadInputError
from study.record import Results
from study.trial import FEWEST_MODELS

if TYPE_CHECKING:
    from analysis.audit import Audited
    from study.attacks import Interval, Roc

ATTACK = "lira_online"
CLEAN: dict[str, Any] = {"dashes": (4, 2)}
"""How what is clean is told from what is corrupted, where an arm has both."""
NEAR_ONE = 0.95
"""The clean accuracy that a chosen alpha has to have."""
MIXTURE = ("corruption", "ood", "k")
"""The settings that say what is atypical in D'."""
FEWEST_FOR_BOX = 4
BESIDE = 0.8
"""How much of the place of a level the arms take together."""
MOST_NAMED_LAYERS = 8


# Results against a setting (Fig. 1, 13 and 15 to 19) ------------------------------------------------------------------


def against(x: str, rows: pd.DataFrame, measures: Sequence[str] = ("mem_acc",), notes: Sequence[str] = ()) -> Figure:
    """Results against a setting: an arm a line, and whatever else varies in panels of its own.

    A mean over what varies would look like a result.
    """
    if rows.empty or rows[list(measures)].isna().all(axis=None):
        raise BadInputError("there is no member with corrupted samples to draw.")
    long = _long(rows, measures)
    by = [name for name in varying(rows) if name not in ("norm", x)] + ["measure"] * (len(measures) > 1)
    with theme():
        figure, panels = laid_out(long, by)
        for panel in panels:
            _arm_lines(panel, x)
            if len(measures) > 1:
                panel.axes.set_ylabel("accuracy")
        if x == "k":
            panels[0].axes.set_xticks(spaced(rows["k"]))  # for all panels, which share their axes
            in_percent(panels[0].axes.xaxis)
        else:
            panels[0].axes.set_xscale("log", base=2)
            panels[0].axes.set_xticks(sorted(set(rows[x])), [level(value) for value in sorted(set(rows[x]))])
            panels[0].axes.xaxis.set_minor_locator(NullLocator())
        outer_labels(panels)
        beside(figure, arm_handles(arms(rows)), [*counted(rows), *notes])
    return figure


def _long(rows: pd.DataFrame, measures: Sequence[str]) -> pd.DataFrame:
    """The rows once for each result, which is their `value`; where nothing is corrupted nothing can be memorized."""
    parts = [rows.assign(measure=name, value=rows[name].astype(float)) for name in measures]
    return pd.concat([part[(part["measure"] != "mem_acc") | (part["k"] > 0)] for part in parts], ignore_index=True)


def _arm_lines(panel: Panel, x: str) -> None:
    axes, measure = panel.axes, panel.rows["measure"].iloc[0]
    names = {"k": "corrupted fraction k"}
    axes.set(xlabel=names.get(x, x.replace("_", " ")), ylabel=MEASURES[measure], ylim=(-0.04, 1.04))
    in_percent(axes.yaxis)
    axes.grid(visible=False, axis="x")
    if panel.rows["value"].isna().all():
        fill_gap(panel)
        return
    norms = arms(panel.rows)
    each_arm: dict[str, Any] = {"hue": "norm", "style": "norm", "palette": COLORS, "markers": MARKERS, "legend": False}
    known = panel.rows.dropna(subset="value")
    sns.scatterplot(known, x=x, y="value", alpha=0.3, s=18, linewidth=0, ax=axes, **each_arm)
    axes.set(xlabel=names.get(x, x.replace("_", " ")), ylabel=MEASURES[measure])
    for line, norm in enumerate(norms):
        arm = panel.rows[panel.rows["norm"] == norm]
        found = {at: spread(arm[arm[x] == at], "value") for at in sorted(set(arm[x]))}
        texts = [each.told(f"{panel.name}, {NAMES[norm]}, {shown(x, at)}", unit(arm)) for at, each in found.items()]
        means, deviations = ([getattr(each, name) for each in found.values()] for name in ("mean", "sd"))
        axes.errorbar(list(found), means, deviations, capsize=3, marker=MARKERS[norm], markersize=5, **line_of(norm))
        hover(axes, found, means, texts)
        for (at, each), text in zip(found.items(), texts, strict=True):
            if each.gap:
                mark_gap(axes, at, each.gap, COLORS[norm], text, line)


# Loss over epochs (Fig. 2 and 10) -------------------------------------------------------------------------------------


LOSSES = (Metric("mem_loss", "loss, corrupted", "less"), Metric("clean_loss", "loss, clean", "less"))


def losses(loaded: Loaded, results: Results, rows: pd.DataFrame, across: str, notes: Sequence[str]) -> Figure:
    """Loss over epochs of corrupted and clean samples, an arm a colour and a marker."""
    recorded = _well(rows, "mem_loss")
    table = curves(replace(loaded, members=recorded), results, LOSSES)
    by = [name for name in varying(rows) if name != "norm"]
    # The table doesn't have what all that are recorded share, though those that are missing may not.
    table = table.assign(**{name: recorded[name].iloc[0] for name in (*by, "norm") if name not in table})
    with theme():
        figure, panels = laid_out(rows, by, across)
        means = table[[f"{loss.column}_mean" for loss in LOSSES]].to_numpy(np.float64)
        positive = means[means > 0]
        logarithmic = len(positive) > 0 and positive.max() > 30 * positive.min()
        low = float(positive.min()) / 2 if logarithmic else 0.0
        for panel in panels:
            _loss_lines(panel, _alike(table, panel.rows, by), low)
            panel.axes.set(xlabel="epoch", ylabel="loss", yscale="log" if logarithmic else "linear")
            panel.axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
            panel.axes.yaxis.set_minor_formatter(NullFormatter())
        panels[0].axes.set_ylim(low, float(positive.max(initial=1e-9)) * (2 if logarithmic else 1.1))
        outer_labels(panels)
        beside(
            figure,
            [*arm_handles(arms(rows), dashes=False), *_group_handles()],
            [*counted(rows, ["mean, band: sd"]), *notes],
        )
    return figure


def _loss_lines(panel: Panel, table: pd.DataFrame, low: float) -> None:
    say_gaps(panel)
    for number, norm in enumerate(arms(table)):
        arm = table[table["norm"] == norm]
        color, every = COLORS[norm], max(1, len(arm) // 6)
        for loss, dashes in zip(LOSSES, ((None, None), CLEAN["dashes"]), strict=True):
            mean, sd = (arm[f"{loss.column}_{name}"].to_numpy(np.float64) for name in ("mean", "sd"))
            where = (number * every // 3 % every, every)
            look: dict[str, Any] = {"marker": MARKERS[norm], "markersize": 4, "markevery": where, "linewidth": 1.3}
            panel.axes.plot(arm["epoch"], mean, color=color, dashes=dashes, **look)
            band = np.nan_to_num(sd)
            panel.axes.fill_between(
                arm["epoch"], np.maximum(mean - band, low), mean + band, color=color, alpha=0.18, linewidth=0
            )
            told = arm.iloc[_few(len(arm))]
            texts = [
                Spread(row[f"{loss.column}_mean"], row[f"{loss.column}_sd"], row["n"]).told(
                    f"{panel.name}, {NAMES[norm]}, epoch {row['epoch']}, {loss.label}", unit(panel.rows), plain=True
                )
                for row in told.to_dict("records")
            ]
            hover(panel.axes, told["epoch"], told[f"{loss.column}_mean"], texts)


def _few(count: int, most: int = 12) -> list[int]:
    """The places of the first, the last and some between."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})


def _group_handles() -> list[Artist]:
    plain: dict[str, Any] = {"color": "#555555"}
    return [Line2D([], [], label="corrupted", **plain), Line2D([], [], label="clean", **plain, **CLEAN)]


def _alike(table: pd.DataFrame, rows: pd.DataFrame, by: Sequence[str]) -> pd.DataFrame:
    """The part of a table by cells that is about the networks of a panel."""
    chosen = pd.Series(True, index=table.index)
    for name in by:
        chosen &= table[name].isin(set(rows[name]))
    return table[chosen]


# Bars by network (Fig. 3 and 11), and by cell (Fig. 20) ---------------------------------------------------------------


def bars(rows: pd.DataFrame, x: str, measures: Sequence[str] = ("mem_acc",), notes: Sequence[str] = ()) -> Figure:
    """Results by the levels of a column, the arms side by side."""
    long = _long(rows, measures)
    if long["value"].isna().all():
        raise BadInputError("none of its members gave a result.")
    drawn = ("norm", *MIXTURE) if x == "mixture" else ("norm", x)
    by = [name for name in varying(rows) if name not in drawn] + ["measure"] * (len(measures) > 1)
    with theme():
        across = "measure" if len(measures) > 1 else "k"
        figure, panels = laid_out(long, by, across, share=len(measures) == 1, size=(3.6, 3.0))
        for panel in panels:
            _arm_bars(panel, x, named=len(panels) == 1)
        if len(measures) == 1:
            outer_labels(panels)
        handles = [Patch(label=NAMES[norm], **_bar_look(norm)) for norm in arms(rows)]
        beside(figure, handles, [*counted(rows), *notes])
    return figure


def _arm_bars(panel: Panel, x: str, named: bool) -> None:
    axes, measure = panel.axes, panel.rows["measure"].iloc[0]
    levels = ordered(x, panel.rows[x]) if x != "mixture" else list(dict.fromkeys(panel.rows[x]))
    norms = arms(panel.rows)
    auc = measure == "mia_auc"
    axes.set(ylabel=MEASURES[measure], ylim=(0, 1.12 if named else 1.04), xlim=(-0.6, len(levels) - 0.4))
    axes.grid(visible=False, axis="x")
    aslant: dict[str, Any] = {"rotation": 30, "ha": "right"} if len(levels) > 2 and x != "mixture" else {}
    axes.set_xticks(range(len(levels)), [shown(x, each) for each in levels], **aslant)
    axes.set_yticks(np.linspace(0, 1, 6))
    if auc:
        axes.axhline(0.5, color="#888888", linewidth=0.8)
    else:
        in_percent(axes.yaxis)
    if panel.rows["value"].isna().all():
        fill_gap(panel)
        return
    width = 0.8 / len(norms)
    for number, norm in enumerate(norms):
        arm = panel.rows[panel.rows["norm"] == norm]
        found = {at: spread(arm[arm[x] == at], "value") for at in levels if (arm[x] == at).any()}
        places = [levels.index(at) + (number - (len(norms) - 1) / 2) * width for at in found]
        texts = [
            each.told(f"{panel.name}, {NAMES[norm]}, {shown(x, at)}".replace("\n", " "), unit(arm), plain=auc)
            for at, each in found.items()
        ]
        _draw_bars(axes, places, list(found.values()), [_bar_look(norm)] * len(found), 0.92 * width, texts, named)


def _draw_bars(
    axes: Axes,
    places: Sequence[float],
    found: Sequence[Spread],
    looks: Sequence[Mapping[str, Any]],
    width: float,
    texts: Sequence[str],
    named: bool,
) -> None:
    """Bars with their standard deviation, their text for the mouse and, where `named`, their height in percent."""
    for place, each, look, text in zip(places, found, looks, texts, strict=True):
        if each.gap:
            mark_gap(axes, place, each.gap, look["facecolor"], text)
            continue
        axes.bar(place, each.mean, width, **look)
        axes.errorbar(place, each.mean, each.sd, color="black", capsize=3, linewidth=1, linestyle="none")
        hover(axes, [place], [each.mean], [text])
        if named:
            top = each.mean + (0 if np.isnan(each.sd) else each.sd)
            axes.text(place, top + 0.015, percent(each.mean, 1).rstrip("%"), ha="center", va="bottom", fontsize=7)


def _bar_look(norm: str) -> dict[str, Any]:
    return {"facecolor": COLORS[norm], "hatch": HATCHES[norm], "edgecolor": "white", "linewidth": 0}


# Gradient norms (Fig. 4) ----------------------------------------------------------------------------------------------


def gradients(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """How the gradient norms of samples are distributed: the density of each member, and their mean."""
    well = _well(rows, "grad_norm_in")
    columns = [*KEY, "group", "is_member", "grad_norm"]
    samples = results.read(loaded.sweep, "samples", columns, trials=set(well["trial"])).to_pandas()
    samples = samples[samples["is_member"] & samples["grad_norm"].notna()]
    if not (samples["grad_norm"] > 0).any():
        raise BadInputError("no sample has a gradient norm; --set samples=gradients records them.")
    samples = samples.assign(group=np.where(samples["group"] == "clean", "clean", "corrupted"))
    with theme():
        figure, panels = laid_out(rows, [name for name in varying(rows) if name != "norm"], share=False)
        for panel in panels:
            say_gaps(panel)
            _densities(panel, samples.merge(panel.rows[[*KEY, "norm"]], on=KEY))
            panel.axes.set(xlabel="gradient norm", ylabel="density per decade", xscale="log", ylim=(0, None))
            panel.axes.xaxis.set_minor_formatter(NullFormatter())
        beside(figure, [*arm_handles(arms(rows), dashes=False), *_group_handles()], counted(rows, ["mean, band: sd"]))
    return figure


def _densities(panel: Panel, samples: pd.DataFrame) -> None:
    if samples.empty:
        return
    with np.errstate(divide="ignore"):
        decades = np.log10(samples["grad_norm"].to_numpy(np.float64))
    # The farthest thousandth below would leave little room for all the others, and what is 0 has no place.
    known = decades[np.isfinite(decades)]
    grid = np.linspace(np.quantile(known, 0.001) - 0.3, known.max() + 0.3, 257)
    for number, norm in enumerate(arms(samples)):
        for group, dashes in (("corrupted", (None, None)), ("clean", CLEAN["dashes"])):
            of_arm = ((samples["norm"] == norm) & (samples["group"] == group)).to_numpy()
            each = samples[of_arm].assign(decades=decades[of_arm]).groupby(KEY)["decades"]
            if not len(each):
                continue
            found = np.stack([_density(member.to_numpy(), grid) for _, member in each])
            mean, sd = found.mean(axis=0), found.std(axis=0, ddof=1) if len(found) > 1 else 0.0
            look: dict[str, Any] = {"marker": MARKERS[norm], "markersize": 4, "markevery": (13 * number, 32)}
            panel.axes.plot(10**grid, mean, color=COLORS[norm], dashes=dashes, linewidth=1.3, **look)
            low = np.maximum(mean - sd, 0)
            panel.axes.fill_between(10**grid, low, mean + sd, color=COLORS[norm], alpha=0.18, linewidth=0)
            medians = 10 ** each.median()
            deviation = medians.std(ddof=1) if len(medians) > 1 else np.nan
            text = Spread(medians.mean(), deviation, len(medians)).told(
                f"{panel.name}, {NAMES[norm]}, {group}: median gradient norm", unit(panel.rows), plain=True
            )
            peak = int(mean.argmax())
            hover(panel.axes, [10 ** grid[peak]], [mean[peak]], [text])


def _density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """The Gaussian kernel density of values float64 [n] at an even grid float64 [m], with Scott's bandwidth.

    From a histogram, for there may be tens of thousands of values. A value of minus infinity is one beyond the grid.
    """
    step = grid[1] - grid[0]
    known = values[np.isfinite(values)]
    shares = np.histogram(known, np.append(grid - step / 2, grid[-1] + step / 2))[0] / (len(values) * step)
    width = max(known.std() * len(known) ** -0.2, step) if len(known) else step
    kernel = np.exp(-0.5 * (np.arange(-len(grid) + 1, len(grid)) * step / width) ** 2)
    smooth: np.ndarray = np.convolve(shares, kernel / kernel.sum())[len(grid) - 1 : 2 * len(grid) - 1]
    return smooth


# Attacks (Fig. 5, 6, 12 and 14) ---------------------------------------------------------------------------------------


def roc(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """ROC curves of the attack over all samples, an arm a line, a panel for each network and mixture."""
    from analysis.audit import audits  # numba takes a second to import
    from analysis.audit_figures import roc_panel

    recorded = _well(rows, "mia_auc")
    able = recorded.groupby(["cell", "seed"])["model"].transform("size") >= FEWEST_MODELS
    if not able.any():
        raise BadInputError(f"an attack needs {FEWEST_MODELS} models on halves of D' in a cell.")
    audited = audits(replace(loaded, members=recorded[able]), results)
    with theme():
        by = [name for name in varying(rows) if name != "norm"]
        figure, panels = laid_out(rows, by, "architecture", share=False)
        for panel in panels:
            drawn = roc_panel(panel.axes, [one for one in audited if _about(one.settings, panel.rows)], ATTACK, ALL)
            _roc_told(panel, drawn)
        notes = counted(rows, [ATTACK.replace("_", " "), "mean of targets"])
        beside(figure, arm_handles(arms(rows), markers=False), notes)
    return figure


def _roc_told(panel: Panel, drawn: "Sequence[tuple[Audited, Roc, Interval]]") -> None:
    """The AUC of each curve in a corner, the curve's points for the mouse, and which arm has no curve."""
    words = {}
    for one, curve, auc in drawn:
        arm = NAMES[one.norm] + (f", seed {one.settings['seed']}" if len(drawn) > len(arms(panel.rows)) else "")
        words[f"AUC {auc.mean:.3f}, {arm}"] = COLORS[one.norm]
        told = f"AUC {auc.mean:.3f} [{auc.low:.3f}, {auc.high:.3f}] ({auc.targets} models)"
        at = [int(np.abs(curve.fpr - rate).argmin()) for rate in (0.001, 0.01, 0.1) if rate >= curve.fpr[0]]
        texts = [
            f"{panel.name}, {arm}: true positive rate {percent(curve.tpr[place], 1)} at a false positive rate of "
            f"{percent(curve.fpr[place], 2)}; {told}"
            for place in at
        ]
        hover(panel.axes, curve.fpr[at], np.maximum(curve.tpr[at], curve.fpr[0]), texts)
    for norm in arms(panel.rows):
        if norm not in {one.norm for one, _, _ in drawn} and not gap(panel.rows[panel.rows["norm"] == norm]):
            words[f"too few models, {NAMES[norm]}"] = COLORS[norm]
    for line, (text, color) in enumerate(reversed(words.items())):
        _corner(panel.axes, text, color, line)
    say_gaps(panel)


def _corner(axes: Axes, words: str, color: str, line: int) -> None:
    """Words in the lower right corner, below the diagonal where no curve of an attack runs."""
    place: dict[str, Any] = {"transform": axes.transAxes, "ha": "right", "va": "bottom", "fontsize": 7.5}
    axes.text(0.985, 0.02 + 0.085 * line, words, color=color, **place)


def _about(settings: Mapping[str, Any], rows: pd.DataFrame) -> bool:
    return all(settings[name] in set(rows[name]) for name in SETTINGS)


def boxes(rows: pd.DataFrame) -> Figure:
    """The AUC of each cell by network, the arms side by side, with a box where there are enough cells."""
    well = _well(rows, "mia_auc")
    cells = well.groupby("cell")["mia_auc"].mean()
    with theme():
        by = [name for name in varying(rows) if name not in ("norm", "architecture", *MIXTURE)]
        figure, panels = laid_out(rows, by, size=(4.2, 3.0))
        for panel in panels:
            _arm_boxes(panel, cells)
        outer_labels(panels)
        notes = [*_attacks(well), "a point a cell,", "the mean of its models", "box: quartiles"]
        marks = [
            Line2D([], [], color=COLORS[norm], marker=MARKERS[norm], linestyle="none", label=NAMES[norm])
            for norm in arms(rows)
        ]
        beside(figure, marks, counted(rows, notes))
    return figure


def _attacks(well: pd.DataFrame) -> list[str]:
    """The attacks whose AUC the members have."""
    return [str(attack).replace("_", " ") for attack in sorted(set(well["mia_attack"].dropna()))]


def _arm_boxes(panel: Panel, cells: pd.Series) -> None:
    axes, networks, norms = panel.axes, ordered("architecture", panel.rows["architecture"]), arms(panel.rows)
    well = panel.rows[panel.rows["status"] == "ok"].drop_duplicates("cell")
    well = well.assign(auc=cells.reindex(well["cell"]).to_numpy(np.float64))
    sides: dict[str, Any] = {"x": "architecture", "y": "auc", "order": networks, "hue": "norm", "hue_order": norms}
    sides |= {"dodge": True, "legend": False, "ax": axes}
    for norm in norms:  # a strip has one marker
        strip = well.assign(auc=well["auc"].where(well["norm"] == norm))
        sns.stripplot(strip, palette=COLORS, marker=MARKERS[norm], size=5, jitter=False, zorder=3, **sides)
    axes.axhline(0.5, color="#888888", linewidth=0.8)
    axes.set(xlabel="", ylabel=MEASURES["mia_auc"], xlim=(-0.6, len(networks) - 0.4))
    axes.set_xticks(range(len(networks)), [shown("architecture", network) for network in networks])
    axes.grid(visible=False, axis="x")
    for (network, norm), here in _by_network_and_norm(panel.rows):
        place = networks.index(network) + (norms.index(norm) - (len(norms) - 1) / 2) * BESIDE / len(norms)
        named = f"{shown('architecture', network)}, {shown('dataset', here['dataset'].iloc[0])}, {NAMES[norm]}"
        firsts = well[(well["norm"] == norm) & (well["architecture"] == network)].astype(object)
        if firsts.empty:
            mark_gap(axes, place, gap(here), COLORS[norm], f"{named}: {gap(here)}")
            continue
        if len(firsts) >= FEWEST_FOR_BOX:
            _box(axes, place, firsts["auc"], BESIDE * 0.8 / len(norms))
        told = firsts.apply(lambda row: f"{mixture(row).replace(chr(10), ' ')}: AUC {row['auc']:.3f}", axis=1)
        hover(axes, [place] * len(firsts), firsts["auc"], [f"{named}, {each}" for each in told])
    axes.margins(y=0.1)


def _box(axes: Axes, place: float, values: pd.Series, width: float) -> None:
    look: dict[str, Any] = {"boxprops": {"facecolor": "#EEEEEE"}, "medianprops": {"color": "black"}}
    at: dict[str, Any] = {"positions": [place], "widths": width, "manage_ticks": False}
    axes.boxplot(values.to_numpy(np.float64), patch_artist=True, showfliers=False, **at, **look)


def _by_network_and_norm(rows: pd.DataFrame) -> Iterator[tuple[tuple[str, str], pd.DataFrame]]:
    for (network, norm), part in rows.groupby(["architecture", "norm"]):
        yield (str(network), str(norm)), part


def mixture(row: Mapping[Any, Any]) -> str:
    """What is atypical in D', as a tick has it."""
    words = {"label": "flipped", "ood": "added", "natural": "natural"}
    return "clean" if row["k"] == 0 else f"{percent(row['k'])}\n{words[row['corruption']]}"


# gamma/sigma by layer (Fig. 7 and 9) ----------------------------------------------------------------------------------


def layers(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """The distribution of gamma/sigma over the channels of each layer, at the end of training."""
    well = _well(rows, "gamma_over_sigma")
    columns = [*KEY, "epoch", "layer", "depth", "ratio_median", "ratio_q05", "ratio_q95"]
    read = results.read(loaded.sweep, "layers", columns, trials=set(well["trial"])).to_pandas()
    last = read[read["epoch"] == read.groupby(KEY)["epoch"].transform("max")]
    if last.empty:
        raise BadInputError("no layer has a ratio of gamma and sigma.")
    with theme():
        by = [name for name in varying(rows) if name != "norm"]
        figure, panels = laid_out(rows, by, share=rows["architecture"].nunique() == 1)
        for panel in panels:
            say_gaps(panel)
            panel.axes.axhline(1, color="#555555", linewidth=1.2, dashes=(1, 1))
            panel.axes.set(ylabel="γ/σ", yscale="log", xlabel="layer, from the input")
            _layer_lines(panel, last.merge(panel.rows[[*KEY, "norm"]], on=KEY))
            panel.axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            panel.axes.yaxis.set_major_formatter(lambda ratio, _: f"{ratio:g}")
            panel.axes.yaxis.set_minor_formatter(NullFormatter())
            panel.axes.margins(x=0.12, y=0.1)
        if rows["architecture"].nunique() == 1:
            outer_labels(panels)
        band = Patch(facecolor="#555555", alpha=0.2, label="5% to 95%\nof its channels")
        level_one = Line2D([], [], color="#555555", linewidth=1.2, dashes=(1, 1), label="γ/σ = 1")
        notes = counted(rows, ["median channel,", "mean ± sd"])
        beside(figure, [*arm_handles(arms(rows)), band, level_one], notes)
    return figure


def _layer_lines(panel: Panel, last: pd.DataFrame) -> None:
    axes = panel.axes
    for norm in arms(last):
        layers = last[last["norm"] == norm].groupby("depth")
        means = layers[["ratio_median", "ratio_q05", "ratio_q95"]].mean()
        deviation, names, counts = layers["ratio_median"].std(ddof=1), layers["layer"].first(), layers.size()
        many = len(names) > MOST_NAMED_LAYERS
        depths = means.index.to_numpy() + 1
        axes.fill_between(depths, means["ratio_q05"], means["ratio_q95"], color=COLORS[norm], alpha=0.2, linewidth=0)
        look: dict[str, Any] = {"marker": MARKERS[norm], "markersize": 3 if many else 5, "capsize": 3}
        axes.errorbar(depths, means["ratio_median"], deviation, **look, **line_of(norm))
        texts = [
            Spread(middle, sd, n).told(f"{panel.name}, layer {depth} ({name}): median γ/σ", plain=True)
            + f", 5% to 95% of channels: {low:.3g} to {high:.3g}"
            for depth, name, n, sd, (middle, low, high) in zip(
                depths, names, counts, deviation, means.to_numpy(), strict=True
            )
        ]
        hover(axes, depths, means["ratio_median"], texts)
        ticks = depths if not many else depths[:: -(-len(depths) // 6)]
        axes.set_xticks(ticks)


# The regularizer (Fig. 8) ---------------------------------------------------------------------------------------------


def regularized(rows: pd.DataFrame) -> Figure:
    """Left what each arm memorizes and what it keeps, right the effect of alpha on both and on test accuracy.

    Raises:
        BadInputError: no member gave a result.
    """
    _well(rows, "mem_acc")
    kinds = [kind for kind in KIND_LOOKS if (rows["regularizer"] == kind).any()]
    long = pd.concat([rows.assign(part=part) for part in ("mem_acc", "clean_acc", *kinds)], ignore_index=True)
    by = [name for name in varying(rows) if name not in ("norm", "regularizer", "alpha")]
    with theme():
        figure, panels = laid_out(long, [*by, "part"], "part", share=False, size=(2.7, 2.7))
        for panel in panels:
            part = panel.rows["part"].iloc[0]
            panel.axes.set(ylim=(-0.04, 1.12), yticks=np.linspace(0, 1, 6))
            in_percent(panel.axes.yaxis)
            if part in kinds:
                _alphas(panel, part)
            else:
                _regularized_bars(panel, part, kinds)
        handles = [Line2D([], [], label=MEASURES[name], **look) for name, look in MEASURE_LOOKS.items()]
        held = arm_handles(arms(rows[rows["regularizer"] == "none"]), markers=False)
        for handle in held:
            handle.set_label(f"memorization,\n{handle.get_label()}")
        beside(figure, [*handles, *held] if kinds else [], counted(rows))
    return figure


def _regularized_bars(panel: Panel, measure: str, kinds: Sequence[str]) -> None:
    """The arms without a regularizer, then each kind at the alpha that is best of all."""
    rows = panel.rows
    plain = rows[rows["regularizer"] == "none"]
    bars = [(NAMES[norm].replace(" ", "\n"), plain[plain["norm"] == norm], _bar_look(norm)) for norm in arms(plain)]
    for kind in kinds:
        of_kind = rows[rows["regularizer"] == kind]
        best = _best_alpha(of_kind)
        named = kind if best is None else f"{kind}\nα =\n{level(best)}"
        bars.append((named, of_kind if best is None else of_kind[of_kind["alpha"] == best], KIND_LOOKS[kind]))
    found = [spread(part, measure) for _, part, _ in bars]
    texts = [
        each.told(f"{panel.name}, {name}".replace("\n", " "), unit(rows))
        for each, (name, _, _) in zip(found, bars, strict=True)
    ]
    _draw_bars(panel.axes, range(len(bars)), found, [look for _, _, look in bars], 0.8, texts, named=True)
    panel.axes.set_xticks(range(len(bars)), [name for name, _, _ in bars], fontsize=7)
    panel.axes.set(ylim=(0, 1.12), ylabel=MEASURES[measure])
    panel.axes.grid(visible=False, axis="x")


def _best_alpha(rows: pd.DataFrame) -> float | None:
    """The alpha that memorizes least of those with a clean accuracy near 1; where there is none, the most accurate."""
    means = rows[rows["status"] == "ok"].groupby("alpha")[["mem_acc", "clean_acc"]].mean()
    if means.empty:
        return None
    near = means[means["clean_acc"] >= NEAR_ONE]
    chosen = means["clean_acc"] if near.empty else -near["mem_acc"]
    return float(chosen.index[int(chosen.argmax())])


def _alphas(panel: Panel, kind: str) -> None:
    axes = panel.axes
    plain, rows = (panel.rows[panel.rows["regularizer"] == name] for name in ("none", kind))
    for norm in arms(plain):
        held = spread(plain[plain["norm"] == norm], "mem_acc")
        if not held.gap:
            axes.axhline(held.mean, linewidth=1, **line_of(norm))
    alphas = sorted(set(rows["alpha"]))
    places = {alpha: float(level(round(1 - alpha, 12))) for alpha in alphas}
    for measure, look in MEASURE_LOOKS.items():
        found = {alpha: spread(rows[rows["alpha"] == alpha], measure) for alpha in alphas}
        texts = [
            each.told(f"{panel.name}, alpha={level(alpha)}, {MEASURES[measure]}", unit(rows))
            for alpha, each in found.items()
        ]
        means, deviations = ([getattr(each, name) for each in found.values()] for name in ("mean", "sd"))
        axes.errorbar(list(places.values()), means, deviations, capsize=3, markersize=5, **look)
        hover(axes, places.values(), means, texts)
        for (alpha, each), text in zip(found.items(), texts, strict=True):
            if each.gap and measure == "mem_acc":
                mark_gap(axes, places[alpha], each.gap, look["color"], text)
    axes.set(xscale="log", xlabel="1 − alpha", ylabel="accuracy")
    axes.set_xticks(list(places.values()), [level(place) for place in places.values()], fontsize=8)
    axes.xaxis.set_minor_locator(NullLocator())


def _well(rows: pd.DataFrame, column: str) -> pd.DataFrame:
    """The networks with a result."""
    well = rows[(rows["status"] == "ok") & rows[column].notna()]
    if well.empty:
        raise BadInputError("none of its members gave a result.")
    return well
