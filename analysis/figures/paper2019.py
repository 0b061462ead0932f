"""The figures of Galloway et al. (2019) on networks of linear layers, each drawn from the records of a sweep."""

from collections.abc import Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.cells import matching_rows
from analysis.figures.figure import PaperFigure
from analysis.figures.names import NORM_NAMES, RESULT_NAMES, ordered_levels
from analysis.figures.panels import add_legend, format_as_percent, legend_notes, line_style, set_title, usable_rows
from analysis.figures.scaling import loss_scaling
from analysis.figures.svg import add_tooltips
from analysis.figures.theme import theme
from analysis.figures.width import page_width
from analysis.load import KEY, Loaded
from analysis.paper import paper_rows
from analysis.statistics.activations import MIXED, TWO_UNITS, layer_points
from study.errors import BadInputError
from study.record.results import Results

SQUARE = 2.1
"""The height in inches of a panel of a grid whose columns fill the page."""
CLASS_COLORS = (
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#332288",
    "#117733",
    "#999933",
    "#000000",
)
"""The colours of classes; those of two are told apart in grey too."""
ROBUSTNESS = {"test_acc": "clean", "noise_acc": "noise", "pgd_linf_acc": "BIM"}
"""The columns of Figures 2 and 5."""


def _of_paper(loaded: Loaded, name: str, **levels: Any) -> pd.DataFrame:
    """Return the members of the networks and the dataset that a figure shows, those without results too.

    Raises:
        BadInputError: none has a result.
    """
    kept, _ = paper_rows(matching_rows(loaded.members, levels), name)
    if not (kept["status"] == "ok").any():
        raise BadInputError("none of its members gave a result.")
    return kept


def _panels(rows: int, columns: int, height: float = SQUARE, share: bool = True) -> tuple[Figure, np.ndarray]:
    """Return a figure as wide as the page with its axes [rows, columns]."""
    figure = Figure(figsize=(page_width(), height * rows))
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)


# Depth and batch size -------------------------------------------------------------------------------------------------


def heat_maps(
    members: pd.DataFrame, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str], shares: bool
) -> Figure:
    """Draw results by depth and batch size: a row of maps for each combination of levels, a column a result.

    Args:
        members: the members.
        rows: the levels of each row.
        columns: the results with their names.
        shares: whether they are accuracies, with colours from 0 to 1.

    Raises:
        BadInputError: there are no members of any row.
    """
    known = [(levels, part) for levels in rows if len(part := matching_rows(members, levels))]
    if not known:
        raise BadInputError("there are no records of it.")
    depths, batches = sorted(members["hidden_layers"].unique()), sorted(members["batch_size"].unique())
    limits = (
        (0.0, 1.0)
        if shares
        else tuple(float(end) for end in (members[[*columns]].min().min(), members[[*columns]].max().max()))
    )
    with theme():
        figure, grid = _panels(len(known), len(columns), 2.3) if len(columns) > 1 else _panels(1, len(known), 2.8)
        grid = grid if len(columns) > 1 else grid.T  # of one result the arms stand side by side
        for (row, (levels, part)), (column, name) in product(enumerate(known), enumerate(columns)):
            axes = grid[row, column]
            means = part.pivot_table(index="hidden_layers", columns="batch_size", values=name, dropna=False)
            means = means.reindex(index=depths, columns=batches)
            image = axes.imshow(means, aspect="auto", origin="lower", vmin=limits[0], vmax=limits[1], cmap="cividis")
            axes.grid(visible=False)
            arm = f"{NORM_NAMES[levels['norm']]}, {levels['epochs']} epochs"
            set_title(axes, f"{columns[name]}\n{arm}", page_width() / len(columns))
            axes.set_xticks(_some(batches), [f"{batches[at]}" for at in _some(batches)])
            axes.set_yticks(_some(depths), [f"{depths[at]}" for at in _some(depths)])
            axes.set_xlabel("batch size" if row == len(known) - 1 or len(columns) == 1 else "")
            axes.set_ylabel("hidden layers" if column == 0 and (row == 0 or len(columns) > 1) else "")
            for (at_y, depth), (at_x, batch) in product(enumerate(depths), enumerate(batches)):
                value = means.loc[depth, batch]
                if not np.isnan(value):
                    told = f"{value:.1%}" if shares else f"{value:.2f} bits"
                    add_tooltips(
                        axes, [at_x], [at_y], [f"{arm}, {depth} layers, batch {batch}, {columns[name]}: {told}"]
                    )
        bar = figure.colorbar(image, ax=list(grid.flat), shrink=0.6, label="accuracy" if shares else "bits")
        if shares:
            format_as_percent(bar.ax.yaxis)
        add_legend(figure, [], legend_notes(members, ("means over seeds; white is no result",)))
    return figure


def _some(levels: Sequence[Any], most: int = 6) -> list[int]:
    """Return the positions of the levels that are labelled."""
    step = -(-len(levels) // most)
    return list(range(0, len(levels), step))


def _arm_epochs(members: pd.DataFrame, preferred: Mapping[str, int]) -> list[dict[str, Any]]:
    """Return each arm with its epochs in the paper, or the most that there are."""
    found: list[dict[str, Any]] = []
    for norm, epochs in preferred.items():
        there = sorted(members.loc[members["norm"] == norm, "epochs"].unique())
        if there:
            found.append({"norm": norm, "epochs": epochs if epochs in there else there[-1]})
    return found


def _f2(loaded: Loaded, _: Results) -> Figure:
    members = _of_paper(loaded, "g19-f2")
    return heat_maps(members, _arm_epochs(members, {"batch": 10, "none": 40}), ROBUSTNESS, shares=True)


def _f5(loaded: Loaded, _: Results) -> Figure:
    members = _of_paper(loaded, "g19-f2")
    rows = [
        {"norm": norm, "epochs": epochs}
        for epochs in sorted(members["epochs"].unique())
        for norm in ordered_levels("norm", members["norm"])
    ]
    return heat_maps(members, rows, ROBUSTNESS, shares=True)


def _f3(loaded: Loaded, _: Results) -> Figure:
    members = _of_paper(loaded, "g19-f3")
    rows = _arm_epochs(members, {"batch": 10, "none": 40})
    return heat_maps(members, rows, {"output_bits": RESULT_NAMES["output_bits"]}, shares=False)


# Activations ----------------------------------------------------------------------------------------------------------


def _scatter(axes: Axes, points: pd.DataFrame) -> None:
    """Draw samples in the plane of a layer, a colour a class, filled in the first batch and hollow in the second."""
    for (label, batch), part in points.groupby(["label", "batch"]):
        color = CLASS_COLORS[int(str(label)) % len(CLASS_COLORS)]
        face = color if batch == 0 else "none"
        axes.scatter(part["x"], part["y"], s=11, facecolor=face, edgecolor=color, linewidth=0.8)
    axes.tick_params(labelsize=7)
    axes.ticklabel_format(scilimits=(-2, 4))
    axes.locator_params(nbins=5)


def _class_handles(points: pd.DataFrame) -> list[Line2D]:
    """Return the legend's entries of classes and batches."""
    look: dict[str, Any] = {"marker": "o", "linestyle": "none", "markersize": 5}
    classes = [
        Line2D([], [], color=CLASS_COLORS[int(str(label)) % len(CLASS_COLORS)], label=f"class {label}", **look)
        for label in sorted(points["label"].unique())
    ]
    batches = [
        Line2D([], [], color="#555555", markerfacecolor=face, label=name, **look)
        for name, face in (("first batch", "#555555"), ("second batch", "none"))
    ]
    return [*classes, *batches]


def _mixed_layers(loaded: Loaded, results: Results, norms: Sequence[str]) -> Figure:
    """Draw two batches in the input and two layers before training, an arm a row (Fig. 1 and 7)."""
    members = _of_paper(loaded, "g19-f1", architecture="deep_linear")
    members = members[members["seed"] == members["seed"].min()]
    points = layer_points(loaded.sweep, members[members["norm"].isin(norms)], results)
    points = points[points["epoch"] == 0]
    if points.empty:
        raise BadInputError("there are no activations of networks before training.")
    here = [norm for norm in norms if (points["norm"] == norm).any()]
    places = [place for place in (0, 2, MIXED) if (points["place"] == place).any()]
    with theme():
        figure, grid = _panels(len(here), len(places), share=False)
        for (row, norm), (column, place) in product(enumerate(here), enumerate(places)):
            axes = grid[row, column]
            _scatter(axes, points[(points["norm"] == norm) & (points["place"] == place)])
            name = "input" if place == 0 else f"layer {place}"
            set_title(axes, f"{name}, {NORM_NAMES[norm]}", page_width() / len(places))
        add_legend(figure, _class_handles(points), ["before training, each layer in its two principal components"])
    return figure


def _f1(loaded: Loaded, results: Results) -> Figure:
    return _mixed_layers(loaded, results, ("batch",))


def _f7(loaded: Loaded, results: Results) -> Figure:
    return _mixed_layers(loaded, results, ("batch", "none"))


def _f4(loaded: Loaded, results: Results) -> Figure:
    members = _of_paper(loaded, "g19-f4")
    members = members[members["seed"] == members["seed"].min()]
    points = layer_points(loaded.sweep, members, results)
    points = points[points["place"] == TWO_UNITS]
    epochs = sorted(points["epoch"].unique())
    if not epochs:
        raise BadInputError("there are no activations of a layer of two units.")
    shown = [epochs[at] for at in sorted({0, len(epochs) // 2, len(epochs) - 1})]
    norms = ordered_levels("norm", points["norm"])
    with theme():
        figure, grid = _panels(len(norms), len(shown), share=False)
        for (row, norm), (column, epoch) in product(enumerate(norms), enumerate(shown)):
            axes = grid[row, column]
            _scatter(axes, points[(points["norm"] == norm) & (points["epoch"] == epoch)])
            when = "before training" if epoch == 0 else f"epoch {epoch}"
            set_title(axes, f"{NORM_NAMES[norm]}, {when}", page_width() / len(shown))
        add_legend(figure, _class_handles(points), ["the layer of two units as it is; each panel has its own axes"])
    return figure


# The spheres ----------------------------------------------------------------------------------------------------------


def _f8(loaded: Loaded, results: Results) -> Figure:
    members = _of_paper(loaded, "g19-f8", architecture="spheres_mlp")
    points = results.read(loaded.sweep, "epochs", [*KEY, "epoch", "clean_acc", "clean_loss"], set(members["trial"]))
    arms = members[[*KEY, "norm", "lr", "norm_momentum", "seed"]].merge(points.to_pandas(), on=KEY)
    rates = sorted(arms["lr"].unique())
    series = _series_of_spheres(arms)
    with theme():
        figure, grid = _panels(2, len(rates), share=False)
        for (column, rate), (row, (name, label)) in product(
            enumerate(rates), enumerate((("clean_loss", "training loss"), ("clean_acc", "training accuracy")))
        ):
            axes = grid[row, column]
            set_title(axes, f"learning rate {rate:g}", page_width() / len(rates))
            axes.set(xlabel="epoch", ylabel=label if column == 0 else "")
            for arm, look in series.items():
                part = arms[(arms["arm"] == arm) & (arms["lr"] == rate)] if "arm" in arms else arms.iloc[:0]
                _line_over_epochs(axes, part, name, look, f"{arm}, learning rate {rate:g}")
            if name == "clean_acc":
                axes.set_ylim(0.35, 1.03)
                format_as_percent(axes.yaxis)
            else:
                axes.set_yscale("log")
        handles = [Line2D([], [], label=arm, **look) for arm, look in series.items()]
        add_legend(figure, handles, legend_notes(usable_rows(members, "clean_acc"), ("mean, 95% interval over seeds",)))
    return figure


def _series_of_spheres(arms: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Name the arm of each row, in a column `arm`, and return the look of each: the paper's two and our control."""
    named = {
        "batch norm, statistics over all of training": (
            (arms["norm"] == "batch") & (arms["norm_momentum"] == 0),
            "batch",
        ),
        "batch norm, momentum 0.1 (ours)": ((arms["norm"] == "batch") & (arms["norm_momentum"] > 0), "rms"),
        "no norm": (arms["norm"] == "none", "none"),
    }
    arms["arm"] = ""
    for arm, (here, _) in named.items():
        arms.loc[here, "arm"] = arm
    return {arm: line_style(look) for arm, (here, look) in named.items() if here.any()}


def _line_over_epochs(axes: Axes, part: pd.DataFrame, column: str, look: Mapping[str, Any], subject: str) -> None:
    """Draw the mean of a result over seeds at each epoch, with its 95% interval."""
    if part.empty:
        return
    by_epoch = part.groupby("epoch")[column]
    mean, n = by_epoch.mean(), by_epoch.count()
    half = by_epoch.sem().fillna(0) * np.array([_t_quantile(int(count)) for count in n])
    axes.plot(mean.index, mean, **look)
    low = (mean - half).clip(lower=mean / 3)  # a loss is no less than 0, which a logarithmic axis can't show
    axes.fill_between(mean.index, low, mean + half, color=look["color"], alpha=0.15, linewidth=0)
    texts = [f"{subject}, epoch {epoch}: {value:.3g}" for epoch, value in mean.items()]
    add_tooltips(axes, list(mean.index), list(mean), texts)


def _t_quantile(n: int) -> float:
    """Return the 97.5% quantile of Student's t for a mean of so many; 0 for one."""
    from scipy.stats import t

    return float(t.ppf(0.975, n - 1)) if n > 1 else 0.0


def _f6(loaded: Loaded, results: Results) -> Figure:
    return loss_scaling(loaded, results, _of_paper(loaded, "g19-f6"))


MAPS = "Means over seeds; the brighter, the more accurate. White: no network gave a result."
GALLOWAY_FIGURES: tuple[PaperFigure, ...] = (
    PaperFigure(
        "g19-f1",
        "2019, Fig. 1",
        "Where layers of a deep linear network with batch norm put two batches before training; in the paper's, layer "
        "14 has mixed the classes.",
        ("spheres",),
        _f1,
    ),
    PaperFigure(
        "g19-f2",
        "2019, Fig. 2",
        f"Accuracy by depth and batch size, with batch norm after 10 epochs and without after 40. {MAPS}",
        ("depth_batch_size",),
        _f2,
    ),
    PaperFigure(
        "g19-f3",
        "2019, Fig. 3",
        "The bits that the outputs still tell of an image. The paper has at least 4.26 with batch norm, more than 10 "
        "beyond 40 layers, and 4.06 to 4.21 without.",
        ("depth_batch_size",),
        _f3,
    ),
    PaperFigure(
        "g19-f4",
        "2019, Fig. 4",
        "Samples of two batches in a layer of two units, over training.",
        ("clusters",),
        _f4,
    ),
    PaperFigure(
        "g19-f5",
        "2019, Fig. 5",
        f"As Fig. 2, of both arms after each number of epochs. {MAPS}",
        ("depth_batch_size",),
        _f5,
    ),
    PaperFigure(
        "g19-f6",
        "2019, Fig. 6",
        "How weight decay scales the loss of a linear model: the margins of its training samples, and their distances "
        "to the boundary, with the loss that each is penalized by.",
        ("loss_scaling",),
        _f6,
    ),
    PaperFigure(
        "g19-f7",
        "2019, Fig. 7",
        "As Fig. 1, with batch norm and without.",
        ("spheres",),
        _f7,
    ),
    PaperFigure(
        "g19-f8",
        "2019, Fig. 8",
        "Training on the spheres. With statistics over all of training, as the paper has them, batch norm seems to "
        "fail at a rate of 0.01; with running ones it doesn't.",
        ("spheres",),
        _f8,
    ),
)
"""The figures of the 2019 paper."""
