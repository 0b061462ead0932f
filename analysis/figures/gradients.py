"""Densities of the gradient norms of corrupted and of clean samples."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from analysis.cells import varying
from analysis.figures.panels import (
    CLEAN,
    Panel,
    Spread,
    arm_handles,
    arms,
    beside,
    counted,
    group_handles,
    laid_out,
    say_gaps,
    unit,
    usable_rows,
)
from analysis.figures.svg import hover
from analysis.figures.theme import COLORS, MARKERS, NAMES, theme
from analysis.load import KEY, Loaded
from study.errors import BadInputError
from study.record.results import Results

if TYPE_CHECKING:
    pass


# Gradient norms (Fig. 4) ----------------------------------------------------------------------------------------------
def gradients(loaded: Loaded, results: Results, rows: pd.DataFrame) -> Figure:
    """How the gradient norms of samples are distributed: the density of each member, and their mean."""
    well = usable_rows(rows, "grad_norm_in")
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
        beside(figure, [*arm_handles(arms(rows), dashes=False), *group_handles()], counted(rows, ["mean, band: sd"]))
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
