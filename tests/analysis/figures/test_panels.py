"""Panels, means with their spread, and the files of figures."""

from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib.figure import Figure
from PIL import Image

from analysis.figures.memorization import memorization
from analysis.figures.panels import Spread, label_outer_axes, panel_grid, places_on_page, save_figure, spread
from analysis.figures.width import drawn_for
from study.errors import BadInputError
from tests.analysis.conftest import DIVERGED, frame, grid
from tests.analysis.figures.drawn import check_legible, titles

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
    assert titles(drawn) == ["LeNet on MNIST", "ResNet18 on MNIST", "ResNet18 on CIFAR10"]
    assert [panel.place for panel in panels] == [(0, 0), (1, 0), (1, 1)]
    assert [panel.axes.xaxis.label.get_visible() for panel in panels] == [False, True, True]
    assert [panel.axes.yaxis.label.get_visible() for panel in panels] == [True, True, False]
    for panel, network in zip(panels, ("lenet", "resnet18", "resnet18"), strict=True):
        assert set(panel.rows["architecture"]) == {network}


def test_a_spread_says_how_many_it_is_of_and_why_there_is_none():
    rows = frame(grid(k=0.1, seed=range(3)), lambda trial, seed: {"mem_acc": 0.9 + 0.01 * seed})
    found = spread(rows, "mem_acc")
    assert found == Spread(pytest.approx(0.91), pytest.approx(0.01), 3)
    assert found.describe("here") == "here: 91.0% ± 1.0% (3 seeds)"
    assert spread(rows.iloc[:1], "mem_acc").describe("here", "model") == "here: 90.0% (1 model)"
    assert spread(frame(grid(k=0.1), lambda trial, seed: DIVERGED), "mem_acc").describe("here") == "here: no result"
    assert spread(rows.assign(mem_acc=None, status="missing"), "mem_acc").gap == "no record"


# Width


@pytest.mark.parametrize("width", [3.0, 4.5, 7.0, 12.0])
def test_panels_and_legend_make_do_with_the_width_that_there_is(width: float):
    with drawn_for(width):
        members = frame(grid(k=KS, norm=("batch", "none"), lr=(1e-3, 1e-4), seed=range(2)))
        two, one = memorization(members), memorization(members[members["lr"] == 1e-3])
        for drawn in (one, two):
            check_legible(drawn)
    assert two.get_figwidth() > (8 if width == 12 else 0)
    assert len({axes.get_subplotspec().rowspan.start for axes in two.axes}) == (2 if width == 3 else 1)


def test_a_grid_that_is_too_wide_is_transposed_or_wrapped():
    wide, square = [[(row, column) for row in range(rows) for column in range(6)] for rows in (2, 6)]
    assert places_on_page(wide, 6) == wide
    assert places_on_page(wide, 5) == [(column, row) for row, column in wide]
    assert places_on_page(square, 4) == [(2 * row + column // 3, column % 3) for row, column in square]


@pytest.mark.parametrize("width", [2.9, 101.0, float("nan")])
def test_a_width_that_nothing_fits_is_one_sentence(width: float):
    with pytest.raises(BadInputError, match="a figure is 3 to 100 inches wide, not"), drawn_for(width):
        pass


# Files


def test_a_figure_is_saved_in_every_format_and_each_time_alike(tmp_path: Path):
    drawn = figure()
    png, pdf, svg = save_figure(drawn, tmp_path / "new" / "folder" / "fig1")
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == ["fig1.pdf", "fig1.png", "fig1.svg"]
    with Image.open(png) as image:
        assert image.size == pytest.approx([300 * inches for inches in drawn.get_size_inches()], abs=1)
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    assert b"/Type3" not in content  # the fonts can be edited and searched
    assert not list(ElementTree.parse(svg).iter(f"{SVG}text"))  # paths, which look alike where the font is missing
    for path, again in zip((png, pdf, svg), save_figure(figure(), tmp_path / "again" / "fig1"), strict=True):
        assert path.read_bytes() == again.read_bytes()


def test_a_figure_that_can_not_be_written_is_one_sentence(tmp_path: Path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BadInputError, match=r"figures can't be written to '.*file'") as caught:
        save_figure(figure(), tmp_path / "file" / "fig1")
    assert "\n" not in str(caught.value)
