"""Figures as SVG for a page, with the values that show on pointing at a mark."""

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


# Points that answer to the mouse --------------------------------------------------------------------------------------
@dataclass(frozen=True)
class _Tip:
    place: Transform
    x: float
    y: float
    text: str


_TIPS: "WeakKeyDictionary[Figure, list[_Tip]]" = WeakKeyDictionary()


def hover(
    axes: Axes, xs: Iterable[float], ys: Iterable[float], texts: Iterable[str], place: Transform | None = None
) -> None:
    """Have points answer to the mouse in the figure as SVG; on paper nothing is to be seen of it.

    Args:
        axes: the panel.
        xs: where the points are; those without a place are left out.
        ys: the same.
        texts: what each says.
        place: the coordinates; by default those of the panel's data.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    tips = _TIPS.setdefault(figure, [])
    where = place or axes.transData
    tips += [_Tip(where, float(x), float(y), text) for x, y, text in zip(xs, ys, texts, strict=True)]


SVG = "http://www.w3.org/2000/svg"
XLINK = "http://www.w3.org/1999/xlink"


def svg(figure: Figure) -> str:
    """The figure as one `<svg>` to stand in an HTML page, beside others: as wide as there is room for, in text.

    Each point that `hover` was given has a `<circle>` that nobody sees, with its text as `<title>` and as `data-tip`.
    The same figure gives the same text, and no two that differ have an id in common.
    """
    drawn = io.StringIO()
    with theme(), mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "normleak"}):
        figure.savefig(drawn, format="svg", metadata={"Date": None})
    root = ElementTree.fromstring(drawn.getvalue())
    root.remove(next(child for child in root if child.tag.endswith("metadata")))
    tips = _circles(figure)
    layer = ElementTree.SubElement(root, f"{{{SVG}}}g", {"fill-opacity": "0", "pointer-events": "all"})
    layer.extend(tips)
    _alone(root, "f" + sha256(ElementTree.tostring(root)).hexdigest()[:8])
    root.set("style", f"max-width: {root.get('width')}")
    root.set("width", "100%")
    root.attrib.pop("height")
    root.set("role", "img")
    ElementTree.register_namespace("", SVG)
    return ElementTree.tostring(root, encoding="unicode")


def _circles(figure: Figure) -> list[ElementTree.Element]:
    """A circle for each point with a text, in points from the upper left corner, as a figure in SVG has them."""
    scale, height = 72 / figure.dpi, figure.get_figheight() * 72
    found: list[ElementTree.Element] = []
    for tip in _TIPS.get(figure, []):
        x, y = tip.place.transform((tip.x, tip.y)) * scale
        if not np.isfinite([x, y]).all():
            continue
        place = {"id": f"tip{len(found)}", "cx": f"{x:.1f}", "cy": f"{height - y:.1f}", "r": "7"}
        circle = ElementTree.Element(f"{{{SVG}}}circle", {**place, "data-tip": tip.text})
        ElementTree.SubElement(circle, f"{{{SVG}}}title").text = tip.text
        found.append(circle)
    return found


def _alone(root: ElementTree.Element, prefix: str) -> None:
    """Give the ids, and what refers to them, a prefix of the figure's own."""
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
