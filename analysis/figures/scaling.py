"""How weight decay scales the loss of a linear model of two classes (Galloway et al., 2019, Figure 6)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.panels import add_legend, legend_notes, set_title
from analysis.figures.theme import theme
from analysis.figures.width import page_width
from analysis.load import KEY, Loaded
from study.errors import BadInputError
from study.record.results import Results

BINS = 40
ROWS = (("margin y s(x)", "score"), ("distance y d(x)", "distance"))
"""The rows of the figure: what is on the x axis, and its column."""
RIGHT, WRONG, LOSS = "#0072B2", "#D55E00", "#333333"


def loss_scaling(loaded: Loaded, results: Results, members: pd.DataFrame) -> Figure:
    """Draw the margins of training samples, and their distances to the boundary, a column for each weight decay.

    The margin is the label's logit less the other's. The distance is that over the length of the difference of both
    rows of weights, which is the root of 2 times the norm of all weights, for training moves the two rows apart alike.

    Args:
        loaded: the sweep's members.
        results: the folder that they were loaded from.
        members: those to draw, of which the first seed is.

    Raises:
        BadInputError: there are no scores.
    """
    members = members[(members["status"] == "ok") & (members["seed"] == members["seed"].min())]
    scores = results.read(loaded.sweep, "samples", [*KEY, "score"], set(members["trial"])).to_pandas()
    rows = members.merge(scores, on=KEY)
    if rows.empty or rows["weight_norm"].isna().all():
        raise BadInputError("there are no scores of samples with the norm of the weights; samples=scores records them.")
    rows = rows.assign(scale=np.sqrt(2) * rows["weight_norm"])
    rows["distance"] = rows["score"] / rows["scale"]
    decays = sorted(rows["weight_decay"].unique())
    width = page_width() / len(decays)
    with theme():
        figure = Figure(figsize=(page_width(), 4.6))
        grid = figure.subplots(2, len(decays), squeeze=False)
        for column, decay in enumerate(decays):
            part = rows[rows["weight_decay"] == decay]
            first = part.iloc[0]
            accuracies = f"train {first['clean_acc']:.1%}, test {first['test_acc']:.1%}"
            for row, (label, name) in enumerate(ROWS):
                axes = grid[row, column]
                _histogram(axes, part[name].to_numpy(float), 1.0 if name == "score" else float(first["scale"]))
                axes.set(xlabel=label, ylabel="samples" if column == 0 else "")
                if row == 0:
                    set_title(axes, f"lambda {decay:g}, |w| = {first['scale']:.2g}\n{accuracies}", width)
        handles = [
            Line2D([], [], color=RIGHT, linewidth=5, label="classified right"),
            Line2D([], [], color=WRONG, linewidth=5, label="wrong"),
            Line2D([], [], color=LOSS, label="loss of a sample, on a scale of its own"),
        ]
        add_legend(figure, handles, legend_notes(members, ("training samples",)))
    return figure


def _histogram(axes: Axes, values: np.ndarray, scale: float) -> None:
    """Draw how values are distributed, and over them the loss of a sample there.

    Args:
        axes: the panel's axes.
        values: the margins or distances [N].
        scale: what the loss multiplies a value by.
    """
    edges = np.linspace(min(values.min(), 0.0), max(values.max(), 0.0), BINS + 1)
    for part, color in ((values[values > 0], RIGHT), (values[values <= 0], WRONG)):
        axes.hist(part, list(edges), color=color, linewidth=0)
    axes.axvline(0, color="#888888", linewidth=0.8)
    reach = edges[-1] - edges[0]
    at = np.linspace(edges[0] - 0.15 * reach, edges[-1], 200)
    loss = np.logaddexp(0, -scale * at)
    own = axes.twinx()
    own.plot(at, loss, color=LOSS, linewidth=1.2)
    own.set_ylim(0, max(loss.max(), 1e-9) * 1.05)
    own.set_yticks([])
    own.grid(visible=False)
