"""Figures as SVG, with tooltips at their points."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.figures.memorization import memorization
from analysis.figures.svg import add_tooltips, svg
from tests.analysis.conftest import frame, grid, plausible

KS = (0.1, 0.2, 0.3)
SVG = "{http://www.w3.org/2000/svg}"


def figure(**settings: object) -> Figure:
    return memorization(frame(grid(k=KS, norm=("batch", "none"), seed=range(2), **settings)))


def tips(text: str) -> list[ElementTree.Element]:
    return [one for one in ElementTree.fromstring(text).iter() if one.get("data-tip")]


def test_every_mean_answers_to_the_mouse_where_it_is_drawn():
    members = frame(grid(k=KS, norm=("batch", "none"), seed=range(2)), plausible)
    drawn = memorization(members)
    circles = tips(svg(drawn))
    said = {circle.get("data-tip") for circle in circles}
    mean, sd = (getattr(members.query("norm == 'none' and k == 0.2")["mem_acc"], name)() for name in ("mean", "std"))
    assert f"LeNet on digits, no norm, k = 20%: {mean:.1%} ± {sd:.1%} (2 seeds)" in said
    assert len(said) == len(circles) == 6
    for circle in circles:
        assert [child.text for child in circle if child.tag == f"{SVG}title"] == [circle.get("data-tip")]
        (x, y) = (float(circle.get(name)) for name in ("cx", "cy"))
        # From the upper left corner, in points, as the figure has inches from the lower left.
        pixels = np.array([x, drawn.get_figheight() * 72 - y]) * drawn.dpi / 72
        k, share = drawn.axes[0].transData.inverted().transform(pixels)
        norm = "batch" if "batch norm" in circle.get("data-tip") else "none"
        middle = members[(members["norm"] == norm) & np.isclose(members["k"], k, atol=1e-3)]["mem_acc"].mean()
        assert share == pytest.approx(middle, abs=2e-3)


def test_a_point_without_a_place_says_nothing():
    drawn = Figure()
    axes = drawn.subplots()
    add_tooltips(axes, [0.5, np.nan, 0.5], [0.5, 0.5, np.nan], ["here & <now>", "nowhere", "nowhere"])
    assert [tip.get("data-tip") for tip in tips(svg(drawn))] == ["here & <now>"]


def test_a_figure_stands_in_a_page_beside_others():
    texts = [svg(figure()), svg(figure(lr=(1e-3, 1e-4))), svg(figure(dataset="mnist"))]
    ids = [set(re.findall(r' id="([^"]+)"', text)) for text in texts]
    for number, text in enumerate(texts):
        assert text.startswith("<svg ")
        assert "<?xml" not in text
        assert "<!DOCTYPE" not in text
        root = ElementTree.fromstring(text)
        assert (root.get("width"), root.get("height")) == ("100%", None)
        assert root.get("viewBox")
        words = {"".join(one.itertext()).strip() for one in root.iter(f"{SVG}text")}
        assert {"memorization accuracy", "batch norm"} <= words  # as text, which can be searched
        found = [one.get("id") for one in root.iter() if one.get("id")]
        assert len(found) == len(set(found)) == len(ids[number])
        references = set(re.findall(r'url\(#([^)]+)\)|href="#([^"]+)"', text))
        assert references
        assert {"".join(each) for each in references} <= ids[number]
    assert len(set.union(*ids)) == sum(map(len, ids))
    assert svg(figure()) == texts[0]
