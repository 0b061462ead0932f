"""Panels, means with their spread, and the files of figures."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures.memorization import memorization
from analysis.figures.panels import (
    Spread,
    display_level,
    label_outer_axes,
    ordered_levels,
    panel_grid,
    percent,
    save_figure,
    spread,
)
from study.errors import BadInputError
from tests.analysis.conftest import DIVERGED, frame, grid
from tests.analysis.figures.drawn import titles

KS = (0.1, 0.2, 0.3)
SVG = "{http://www.w3.org/2000/svg}"


def figure(**settings: object) -> Figure:
    return memorization(frame(grid(k=KS, norm=("batch", "none"), seed=range(2), **settings)))


# Panels


def test_two_settings_span_a_grid_and_a_place_without_a_network_stays_free():
    rows = frame(grid(dataset=("mnist", "cifar10"), architecture=("lenet", "resnet18"), seed=0))
    rows = rows[(rows["dataset"] != "cifar10") | (rows["architecture"] != "lenet")]
    drawn, panels = panel_grid(rows, ["dataset", "architecture"])
    label_outer_axes(panels)
    assert titles(drawn) == ["LeNet, MNIST", "ResNet18, MNIST", "ResNet18, CIFAR10"]
    assert [panel.place for panel in panels] == [(0, 0), (1, 0), (1, 1)]
    assert [panel.axes.xaxis.label.get_visible() for panel in panels] == [False, True, True]
    assert [panel.axes.yaxis.label.get_visible() for panel in panels] == [True, True, False]
    for panel, network in zip(panels, ("lenet", "resnet18", "resnet18"), strict=True):
        assert set(panel.rows["architecture"]) == {network}


def test_levels_come_in_the_papers_order_and_are_named_as_in_print():
    assert ordered_levels("architecture", ["vit", "resnet18", "mine:net", "densenet121"]) == [
        "densenet121",
        "resnet18",
        "vit",
        "mine:net",
    ]
    assert ordered_levels("k", [0.3, 0.1, 0.3]) == [0.1, 0.3]
    assert display_level("dataset", "fashion_mnist") == "FashionMNIST"
    assert display_level("k", 0.15) == "k = 15%"
    assert display_level("lr", 1e-4) == "lr=0.0001"
    assert [percent(0.07), percent(0.0703, 1)] == ["7%", "7.0%"]


def test_a_spread_says_how_many_it_is_of_and_why_there_is_none():
    rows = frame(grid(k=0.1, seed=range(3)), lambda trial, seed: {"mem_acc": 0.9 + 0.01 * seed})
    found = spread(rows, "mem_acc")
    assert found == Spread(pytest.approx(0.91), pytest.approx(0.01), 3)
    assert found.describe("here") == "here: 91.0% ± 1.0% (3 seeds)"
    assert spread(rows.iloc[:1], "mem_acc").describe("here", "model") == "here: 90.0% (1 model)"
    assert spread(frame(grid(k=0.1), lambda trial, seed: DIVERGED), "mem_acc").describe("here") == "here: no result"
    assert spread(rows.assign(mem_acc=None, status="missing"), "mem_acc").gap == "no record"


# Files


def test_a_figure_is_saved_as_png_and_pdf(tmp_path: Path):
    drawn = figure()
    png, pdf = save_figure(drawn, tmp_path / "new" / "folder" / "fig1")
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
        save_figure(figure(), tmp_path / "file" / "fig1")
    assert "\n" not in str(caught.value)
