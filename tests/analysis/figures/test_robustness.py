"""The figures of robustness: what is drawn of each arm, and what can't be."""

import numpy as np
import pytest

from analysis.figures.robustness import MOST_PANELS, accuracy_curves, panel_figure
from analysis.load import Loaded, load
from analysis.statistics.panel import LENSES, panel
from analysis.statistics.robustness import robustness_rows, strengths
from study.errors import BadInputError
from study.record.results import Results
from tests.analysis.conftest import grid, plausible
from tests.analysis.robust import CLEAN, record_attacked


def attacked(results: Results, **axes: object) -> Loaded:
    trials = grid(**{"norm": ("batch", "none"), "k": 0.1, "robustness": "pixel", "seed": range(3), **axes})
    record_attacked(results, "mine", trials, outcome=plausible)
    return load(results, "mine")


def test_each_kind_of_perturbation_has_a_panel_with_a_line_an_arm(results: Results):
    loaded = attacked(results)
    figure = accuracy_curves(strengths(robustness_rows(loaded, results), loaded.members), loaded.members)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == [
        *("Gaussian noise", "PGD linf, 20 steps", "PGD l2, 20 steps"),
        *("check: PGD linf to epsilon 1", "check: steps of PGD linf"),
    ]
    noise, *_, steps = figure.axes
    lines = [line for line in noise.lines if len(line.get_xdata()) == 5]
    assert len(lines) == 2
    for line in lines:
        assert np.array_equal(line.get_xdata(), [0, 0.02, 0.05, 0.1, 0.2])
        assert line.get_ydata()[0] == pytest.approx(CLEAN)  # at 0 stand the images as they are
        assert (np.diff(line.get_ydata()) < 0).all()
    assert any(np.array_equal(line.get_xdata(), [5, 10, 20, 40, 100]) for line in steps.lines)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["batch norm", "no norm"]


@pytest.mark.slow
def test_more_panels_than_can_be_read_are_not_drawn(results: Results):
    loaded = attacked(results, lr=(0.1, 0.2, 0.3, 0.4, 0.5))
    data = strengths(robustness_rows(loaded, results), loaded.members)
    with pytest.raises(BadInputError, match=f"{5 * 5} panels over lr"):
        accuracy_curves(data, loaded.members)
    assert MOST_PANELS < 25


def test_the_panel_has_an_axis_for_each_lens_that_was_measured(results: Results):
    loaded = attacked(results)
    data = panel(loaded.members)
    figure = panel_figure(data, loaded.members)
    measured = [metric for metric in LENSES if data.loc[data["metric"] == metric.column, "measured"].any()]
    assert len(figure.axes) == len(measured) == 6
    means = data[data["metric"] == "mem_acc"].set_index("norm")["mean"]
    dots = [line for line in figure.axes[0].lines if len(line.get_xdata()) == 1]
    assert [dot.get_xdata()[0] for dot in dots] == pytest.approx([means["batch"], means["none"]])


def test_a_panel_of_nothing_is_refused(results: Results):
    trials = grid(norm=("batch", "none"), robustness="pixel")
    record_attacked(results, "mine", trials, diverged=(0,))
    loaded = load(results, "mine")
    with pytest.raises(BadInputError, match="none of the panel's metrics"):
        panel_figure(panel(loaded.members), loaded.members)
