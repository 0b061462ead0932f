"""What a figure shows, read back from the drawing."""

from itertools import combinations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, PathCollection
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from analysis.figures.theme import COLORS
from analysis.figures.width import page_width


def line(axes: Axes, norm: str) -> dict[float, float]:
    """An arm's line, by k; the caps of its bars are lines too, without a line between their points."""
    found = [one for one in axes.lines if same_color(one.get_color(), COLORS[norm]) and one.get_linestyle() != "None"]
    assert len(found) == 1
    return {float(x): float(y) for x, y in found[0].get_xydata()}


def bars(axes: Axes, norm: str) -> dict[float, tuple[float, float]]:
    """The ends of an arm's bars by k."""
    segments = [
        segment
        for collection in axes.collections
        if isinstance(collection, LineCollection) and same_color(collection.get_color()[0], COLORS[norm])
        for segment in collection.get_segments()
    ]
    return {float(segment[0, 0]): (float(segment[0, 1]), float(segment[1, 1])) for segment in segments}


def points(axes: Axes) -> list[tuple[float, float]]:
    """The faint points of the members."""
    clouds = [collection for collection in axes.collections if isinstance(collection, PathCollection)]
    return sorted((float(x), float(y)) for cloud in clouds for x, y in cloud.get_offsets())


def means(members: pd.DataFrame, norm: str) -> dict[float, float]:
    """The mean memorization of an arm by k, which its line should have."""
    return members[members["norm"] == norm].groupby("k")["mem_acc"].mean().to_dict()


def legend(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.legends[0].get_texts()]


def notes(figure: Figure) -> list[str]:
    """The notes above the legend, each of which has a line, or several beside each other below the panels."""
    title = figure.legends[0].get_title().get_text()
    return title.replace("\n", " ").split("; ") if "; " in title else title.splitlines()


def titles(figure: Figure) -> list[str]:
    return [axes.get_title() for axes in figure.axes]


def texts(figure: Figure) -> list[tuple[Text, Bbox]]:
    """Every text of a figure that is seen, and where it lies once the figure is laid out."""
    canvas = FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    found = [text for legend in figure.legends for text in (*legend.get_texts(), legend.get_title())]
    for axes in figure.axes:
        found += [axes.title, axes.xaxis.label, axes.yaxis.label]
        # The names of points have boxes that their lines are part of.
        found += [text for text in axes.texts if not isinstance(text, Annotation)]
        for axis, (low, high) in ((axes.xaxis, axes.get_xlim()), (axes.yaxis, axes.get_ylim())):
            # Ticks beyond an axis are there but not drawn.
            found += [tick.label1 for tick in axis.get_major_ticks() if low <= tick.get_loc() <= high]
    seen = [text for text in found if text.get_visible() and text.get_text()]
    return [(text, text.get_window_extent(canvas.get_renderer())) for text in seen]


def check_legible(figure: Figure) -> None:
    """No text is cut off by the figure's edge, and none lies on another."""
    extents = texts(figure)
    assert len(extents) > 5
    assert figure.get_figwidth() <= page_width() + 1e-9
    for text, box in extents:
        assert figure.bbox.x0 <= box.x0, text
        assert figure.bbox.y0 <= box.y0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text
    for (one, its), (other, others) in combinations(extents, 2):
        if its.overlaps(others):
            assert slanted_apart(one, its, other, others), (one, other)


def slanted_apart(one: Text, its: Bbox, other: Text, others: Bbox) -> bool:
    """Whether two texts that rise in parallel leave room for each other, though the boxes around them don't."""
    angle = np.radians(one.get_rotation())
    if not angle or one.get_rotation() != other.get_rotation():
        return False
    # Both end at the right, below their tick.
    return abs(its.x1 - others.x1) * np.sin(angle) > 1.2 * one.get_fontsize() * one.get_figure(root=True).dpi / 72
