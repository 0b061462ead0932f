"""Panels, what their points say to the mouse, and the files of figures."""

import re
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures.memorization import memorization
from analysis.figures.panels import Spread, laid_out, ordered, outer_labels, percent, save, shown, spread
from analysis.figures.svg import hover, svg
from study.errors import BadInputError
from tests.analysis.conftest import DIVERGED, frame, grid, plausible
from tests.analysis.figures.drawn import titles

KS = (0.1, 0.2, 0.3)
SVG = "{http://www.w3.org/2000/svg}"


def figure(**settings: object) -> Figure:
    return memorization(frame(grid(k=KS, norm=("batch", "none"), seed=range(2), **settings)))


def tips(text: str) -> list[ElementTree.Element]:
    return [one for one in ElementTree.fromstring(text).iter() if one.get("data-tip")]


# Panels


def test_two_settings_span_a_grid_and_a_place_without_a_network_stays_free():
    rows = frame(grid(dataset=("mnist", "cifar10"), architecture=("lenet", "resnet18"), seed=0))
    rows = rows[(rows["dataset"] != "cifar10") | (rows["architecture"] != "lenet")]
    drawn, panels = laid_out(rows, ["dataset", "architecture"])
    outer_labels(panels)
    assert titles(drawn) == ["LeNet, MNIST", "ResNet18, MNIST", "ResNet18, CIFAR10"]
    assert [panel.place for panel in panels] == [(0, 0), (1, 0), (1, 1)]
    assert [panel.axes.xaxis.label.get_visible() for panel in panels] == [False, True, True]
    assert [panel.axes.yaxis.label.get_visible() for panel in panels] == [True, True, False]
    for panel, network in zip(panels, ("lenet", "resnet18", "resnet18"), strict=True):
        assert set(panel.rows["architecture"]) == {network}


def test_levels_come_in_the_papers_order_and_are_named_as_in_print():
    assert ordered("architecture", ["vit", "resnet18", "mine:net", "densenet121"]) == [
        "densenet121",
        "resnet18",
        "vit",
        "mine:net",
    ]
    assert ordered("k", [0.3, 0.1, 0.3]) == [0.1, 0.3]
    assert shown("dataset", "fashion_mnist") == "FashionMNIST"
    assert shown("k", 0.15) == "k = 15%"
    assert shown("lr", 1e-4) == "lr=0.0001"
    assert [percent(0.07), percent(0.0703, 1)] == ["7%", "7.0%"]


def test_a_spread_says_how_many_it_is_of_and_why_there_is_none():
    rows = frame(grid(k=0.1, seed=range(3)), lambda trial, seed: {"mem_acc": 0.9 + 0.01 * seed})
    found = spread(rows, "mem_acc")
    assert found == Spread(pytest.approx(0.91), pytest.approx(0.01), 3)
    assert found.told("here") == "here: 91.0% ± 1.0% (3 seeds)"
    assert spread(rows.iloc[:1], "mem_acc").told("here", "model") == "here: 90.0% (1 model)"
    assert spread(frame(grid(k=0.1), lambda trial, seed: DIVERGED), "mem_acc").told("here") == "here: no result"
    assert spread(rows.assign(mem_acc=None, status="missing"), "mem_acc").gap == "no record"


# In HTML


def test_every_mean_answers_to_the_mouse_where_it_is_drawn():
    members = frame(grid(k=KS, norm=("batch", "none"), seed=range(2)), plausible)
    drawn = memorization(members)
    circles = tips(svg(drawn))
    said = {circle.get("data-tip") for circle in circles}
    mean, sd = (getattr(members.query("norm == 'none' and k == 0.2")["mem_acc"], name)() for name in ("mean", "std"))
    assert f"LeNet, digits, no norm, k = 20%: {mean:.1%} ± {sd:.1%} (2 seeds)" in said
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
    hover(axes, [0.5, np.nan, 0.5], [0.5, 0.5, np.nan], ["here & <now>", "nowhere", "nowhere"])
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


# Files


def test_a_figure_is_saved_as_png_and_pdf(tmp_path: Path):
    drawn = figure()
    png, pdf = save(drawn, tmp_path / "new" / "folder" / "fig1")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["fig1.pdf", "fig1.png"]
    with Image.open(png) as image:
        assert image.size == tuple(round(160 * inches) for inches in drawn.get_size_inches())
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    assert b"/Type3" not in content  # the fonts can be edited and searched


def test_a_figure_that_can_not_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BadInputError, match=r"figures can't be written to '.*file'") as caught:
        save(figure(), tmp_path / "file" / "fig1")
    assert "\n" not in str(caught.value)
