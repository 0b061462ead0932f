"""Figures as SVG for an HTML page, with tooltips at their points."""

import io
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from weakref import WeakKeyDictionary
from xml.etree import ElementTree

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Transform

from analysis.figures.theme import theme

SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"
# Before anything is written, for the ids of a figure are made of its text, prefixes and all.
ElementTree.register_namespace("", SVG)


@dataclass(frozen=True)
class _Tooltip:
    """A point of a figure and its text.

    Attributes:
        coordinates: those in which x and y are.
        x: the point's place across.
        y: the point's place upward.
        text: what the tooltip says.
    """

    coordinates: Transform
    x: float
    y: float
    text: str


_TOOLTIPS: "WeakKeyDictionary[Figure, list[_Tooltip]]" = WeakKeyDictionary()
"""The tooltips of each figure, for Matplotlib has no place for them."""


def add_tooltips(
    axes: Axes, xs: Iterable[float], ys: Iterable[float], texts: Iterable[str], coordinates: Transform | None = None
) -> None:
    """Give points of a panel a tooltip in the figure's SVG; PNG and PDF show nothing of it.

    Args:
        axes: the panel's axes.
        xs: the points' places across; a point whose place is not finite is left out.
        ys: the points' places upward.
        texts: the points' texts.
        coordinates: those in which the places are; by default the panel's data.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    within = coordinates or axes.transData
    tooltips = _TOOLTIPS.setdefault(figure, [])
    tooltips += [_Tooltip(within, float(x), float(y), text) for x, y, text in zip(xs, ys, texts, strict=True)]


def svg(figure: Figure) -> str:
    """Return the figure as one `<svg>` element for an HTML page, as wide as there is room for.

    Each point with a tooltip has an invisible `<circle>`, with the text as `<title>` and as `data-tip`. The same figure
    always gives the same text, and two different figures have no id in common.
    """
    buffer = io.StringIO()
    with theme(), mpl.rc_context({"svg.fonttype": "none"}):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(buffer.getvalue())
    root.remove(next(child for child in root if child.tag.endswith("metadata")))
    layer = ElementTree.SubElement(root, f"{{{SVG}}}g", {"fill-opacity": "0", "pointer-events": "all"})
    layer.extend(_tooltip_circles(figure))
    _prefix_ids(root, "f" + sha256(ElementTree.tostring(root)).hexdigest()[:8])
    root.set("style", f"max-width: {root.get('width')}")
    root.set("width", "100%")
    root.attrib.pop("height")
    root.set("role", "img")
    return ElementTree.tostring(root, encoding="unicode")


def _tooltip_circles(figure: Figure) -> list[ElementTree.Element]:
    """Return a circle for each tooltip; an SVG counts in points from the upper left corner."""
    scale, height = 72 / figure.dpi, figure.get_figheight() * 72
    circles: list[ElementTree.Element] = []
    for tooltip in _TOOLTIPS.get(figure, []):
        x, y = tooltip.coordinates.transform((tooltip.x, tooltip.y)) * scale
        if not np.isfinite([x, y]).all():
            continue
        place = {"id": f"tip{len(circles)}", "cx": f"{x:.1f}", "cy": f"{height - y:.1f}", "r": "7"}
        circle = ElementTree.Element(f"{{{SVG}}}circle", {**place, "data-tip": tooltip.text})
        ElementTree.SubElement(circle, f"{{{SVG}}}title").text = tooltip.text
        circles.append(circle)
    return circles


def _prefix_ids(root: ElementTree.Element, prefix: str) -> None:
    """Prefix all ids, and the references to them, so that they differ from those of other figures on a page."""
    for element in root.iter():
        if XLINK in "".join(element.attrib):
            element.set("href", element.attrib.pop(f"{{{XLINK}}}href"))
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, f"{prefix}-{value}")
            elif name == "href" and value.startswith("#"):
                element.set(name, f"#{prefix}-{value[1:]}")
            elif "url(#" in value:
                element.set(name, re.sub(r"url\(#", f"url(#{prefix}-", value))
