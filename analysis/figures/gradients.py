"""Densities of the gradient norms of corrupted and of clean samples."""

from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from analysis.cells import varying_settings
from analysis.figures.names import NORM_NAMES
from analysis.figures.panels import (
    CLEAN,
    Panel,
    Spread,
    add_legend,
    arm_handles,
    arms,
    group_handles,
    label_gaps,
    legend_notes,
    panel_grid,
    unit_name,
    usable_rows,
)
from analysis.figures.svg import add_tooltips
from analysis.figures.theme import COLORS, MARKERS, theme
from analysis.load import KEY, Loaded
from study.errors import BadInputError
from study.record.results import Results


def gradient_densities(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """Draw how the gradient norms of samples are distributed: the mean of the members' densities (Fig. 4).

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.
        rows: the members to draw.

    Raises:
        BadInputError: no sample has a gradient norm.
    """
    usable = usable_rows(rows, "grad_norm_in")
    columns = [*KEY, "group", "is_member", "grad_norm"]
    samples = results.read(loaded.sweep, "samples", columns, trials=set(usable["trial"])).to_pandas()
    samples = samples[samples["is_member"] & samples["grad_norm"].notna()]
    if not (samples["grad_norm"] > 0).any():
        raise BadInputError("no sample has a gradient norm; --set samples=gradients records them.")
    samples = samples.assign(group=np.where(samples["group"] == "clean", "clean", "corrupted"))
    with theme():
        figure, panels = panel_grid(rows, [name for name in varying_settings(rows) if name != "norm"], share=False)
        for panel in panels:
            label_gaps(panel)
            _densities(panel, samples.merge(panel.rows[[*KEY, "norm"]], on=KEY))
            panel.set_labels("gradient norm", "density per decade")
            panel.axes.set(xscale="log", ylim=(0, None))
            panel.axes.xaxis.set_minor_formatter(NullFormatter())
        add_legend(
            figure, [*arm_handles(arms(rows), dashes=False), *group_handles()], legend_notes(rows, ["mean, band: sd"])
        )
    return figure


def _densities(panel: Panel, samples: pd.DataFrame) -> None:
    """Draw each arm's mean density of corrupted and of clean samples, with a band of one standard deviation."""
    if samples.empty:
        return
    with np.errstate(divide="ignore"):
        decades = np.log10(samples["grad_norm"].to_numpy(np.float64))
    # The smallest thousandth would leave little room for all the others, and a norm of 0 has no logarithm.
    known = decades[np.isfinite(decades)]
    grid = np.linspace(np.quantile(known, 0.001) - 0.3, known.max() + 0.3, 257)
    for number, norm in enumerate(arms(samples)):
        for group, dashes in (("corrupted", (None, None)), ("clean", CLEAN["dashes"])):
            of_arm = ((samples["norm"] == norm) & (samples["group"] == group)).to_numpy()
            members = samples[of_arm].assign(decades=decades[of_arm]).groupby(KEY)["decades"]
            if not len(members):
                continue
            densities = np.stack([_density(member.to_numpy(), grid) for _, member in members])
            mean, sd = densities.mean(axis=0), densities.std(axis=0, ddof=1) if len(densities) > 1 else 0.0
            look: dict[str, Any] = {"marker": MARKERS[norm], "markersize": 4, "markevery": (13 * number, 32)}
            panel.axes.plot(10**grid, mean, color=COLORS[norm], dashes=dashes, linewidth=1.3, **look)
            low = np.maximum(mean - sd, 0)
            panel.axes.fill_between(10**grid, low, mean + sd, color=COLORS[norm], alpha=0.18, linewidth=0)
            medians = 10 ** members.median()
            deviation = medians.std(ddof=1) if len(medians) > 1 else np.nan
            text = Spread(medians.mean(), deviation, len(medians)).describe(
                f"{panel.name}, {NORM_NAMES[norm]}, {group}: median gradient norm", unit_name(panel.rows), plain=True
            )
            peak = int(mean.argmax())
            add_tooltips(panel.axes, [10 ** grid[peak]], [mean[peak]], [text])


def _density(values: np.ndarray, grid: np.ndarray) -> np.ndarray:
    """Return the Gaussian kernel density of values float64 [n] at an even grid float64 [m], with Scott's bandwidth.

    It is computed from a histogram, for there may be tens of thousands of values. A value of minus infinity counts as
    one beyond the grid.
    """
    step = grid[1] - grid[0]
    known = values[np.isfinite(values)]
    shares = np.histogram(known, np.append(grid - step / 2, grid[-1] + step / 2))[0] / (len(values) * step)
    width = max(known.std() * len(known) ** -0.2, step) if len(known) else step
    kernel = np.exp(-0.5 * (np.arange(-len(grid) + 1, len(grid)) * step / width) ** 2)
    smooth: np.ndarray = np.convolve(shares, kernel / kernel.sum())[len(grid) - 1 : 2 * len(grid) - 1]
    return smooth
