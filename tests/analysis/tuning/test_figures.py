"""The figures of a tuning, from the records of `test_tradeoff`."""

from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import PathCollection
from matplotlib.text import Annotation, Text
from matplotlib.transforms import Bbox

from analysis.figures.names import display_level
from analysis.figures.width import drawn_for
from analysis.tuning import figures
from analysis.tuning.tradeoff import TunedCell, hypervolumes, reference_means
from study.record.results import Results
from tests.analysis.figures.drawn import check_legible
from tests.analysis.tuning.test_tradeoff import BASE, NONE, REFERENCES, everything, only_cell, setting, write

pytestmark = pytest.mark.slow


def many(results: Results, count: int) -> TunedCell:
    """A search of so many settings, a third of which no other beats."""
    noise = np.random.default_rng(0).normal(scale=0.01, size=(count, 3))
    tried = {}
    for place, shift in enumerate(noise):
        alpha = round(1 - 10 ** (-4 * (place + 1) / (count + 1)), 6)
        strength = (place + 1) / count
        values = np.array([0.05 + 0.8 * strength, 0.5 + 0.1 * strength, 0.9 + 0.05 * strength]) + shift
        tried[setting(("log", "hinge")[place % 2], alpha)] = tuple(values.tolist())
    write(results, REFERENCES | tried)
    return only_cell(results)


@pytest.mark.parametrize("count", [1, 3, 40])
def test_every_setting_is_a_point_and_every_name_is_legible(results: Results, count: int):
    tuning = many(results, count)
    figure = figures.tradeoff_figure([tuning, tuning])
    check_legible(figure)
    for axes in figure.axes[:2]:
        offsets = [np.asarray(cloud.get_offsets()) for cloud in axes.collections if isinstance(cloud, PathCollection)]
        clouds = np.concatenate(offsets)
        for _, row in pd.concat([tuning.usable, reference_means(tuning)]).iterrows():
            assert np.isclose(clouds, [row["test_acc"], row["mem_acc"]]).all(axis=1).any()
        names = [text for text in axes.texts if isinstance(text, Annotation)]
        assert tuning.recommended is not None
        alpha = display_level("alpha", tuning.recommended["alpha"])
        assert {text.get_text() for text in names} == {"batch norm", "no norm", alpha}
        check_names(axes)


@pytest.mark.parametrize("gap", [0.0, 0.002, 0.02])
@pytest.mark.parametrize("width", [3.0, 7.0])
def test_names_of_points_close_to_each_other_do_not_collide(results: Results, gap: float, width: float):
    near = {BASE: (0.5, 0.6, 0.9), NONE: (0.5 + gap, 0.6, 0.9)}
    others = {setting("log", 0.5): (0.9, 0.6, 0.9), setting("log", 0.7): (0.1, 0.6, 0.8)}
    write(results, near | {setting("hinge", 0.999): (0.5 - gap, 0.6, 0.9)} | others)
    tuning = only_cell(results)
    assert tuning.recommended is not None
    assert tuning.recommended["alpha"] == 0.999
    with drawn_for(width):
        figure = figures.tradeoff_figure([tuning])
        check_legible(figure)
    check_names(figure.axes[0])
    points = figure.axes[0].transData.transform(
        pd.concat([tuning.usable, reference_means(tuning)])[["test_acc", "mem_acc"]]
    )
    assert not any(box.count_contains(points) for box in boxes(figure.axes[0]))


def boxes(axes: Axes) -> list[Bbox]:
    """Where the names of points lie, without the lines to their points."""
    return [Text.get_window_extent(text) for text in axes.texts if isinstance(text, Annotation)]


def check_names(axes: Axes) -> None:
    """No name leaves the panel or lies on another."""
    FigureCanvasAgg(axes.figure).draw()
    found = boxes(axes)
    assert all(axes.bbox.contains(*corner) for box in found for corner in box.get_points())
    assert not any(one.overlaps(other) for one, other in combinations(found, 2))


def test_both_searches_are_drawn_over_their_trials(results: Results):
    everything(results)
    tuning = only_cell(results)
    figure = figures.hypervolume_figure([tuning])
    check_legible(figure)
    tpe, random = (line.get_xydata() for line in sorted(figure.axes[0].lines, key=lambda line: -len(line.get_xdata())))
    table = hypervolumes(tuning)
    np.testing.assert_allclose(tpe, table[table["search"] == "TPE"][["trials", "hypervolume"]])
    np.testing.assert_allclose(random, table[table["search"] == "random"][["trials", "hypervolume"]])
