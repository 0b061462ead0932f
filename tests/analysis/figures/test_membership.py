"""The figures of an audit, from the records of `test_audit`."""

from dataclasses import replace

import numpy as np
import pytest

from analysis.figures.membership import memorization_histograms, most_memorized_images, roc_curves
from analysis.figures.theme import COLORS
from analysis.statistics import membership
from tests.analysis.statistics.test_membership import GAP, SAMPLES, TRIALS, loaded


def test_the_curves_of_both_arms_are_in_a_panel_for_each_group(results):
    figure = roc_curves(membership.audit_cells(loaded(results, *TRIALS), results), "lira_online")
    assert [axes.get_title() for axes in figure.axes] == ["all samples", "clean samples", "corrupted samples"]
    for axes in figure.axes:
        assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
        batch, none = (next(line for line in axes.lines if line.get_color() == COLORS[norm]) for norm in GAP)
        assert batch.get_ydata()[-1] == none.get_ydata()[-1] == 1
        assert np.nanmean(batch.get_ydata()) > np.nanmean(none.get_ydata())
        assert len(axes.collections) == 2  # each curve has a band


def test_the_labels_of_a_small_group_do_not_run_into_each_other(results):
    small = [
        replace(one, groups=np.where(np.arange(SAMPLES) < 12, "corrupted", "clean"))
        for one in membership.audit_cells(loaded(results, *TRIALS), results)
    ]
    axes = roc_curves(small, "global_threshold").axes[-1]
    for axis in (axes.xaxis, axes.yaxis):
        assert sum(0.1 <= place <= 1 for place in axis.get_majorticklocs()) >= 2
        assert not any(axis.get_minor_formatter().format_ticks(axis.get_minorticklocs()))


def test_the_histograms_add_up_to_all_samples(results):
    figure = memorization_histograms(membership.audit_cells(loaded(results, *TRIALS), results))
    assert [axes.get_title() for axes in figure.axes] == ["clean samples", "corrupted samples"]
    for axes in figure.axes:
        for line in axes.lines:
            assert line.get_ydata()[:-1].sum() == pytest.approx(1)


def test_the_images_come_by_cell_with_what_became_of_them(results):
    found = membership.most_memorized(loaded(results, *TRIALS), results)
    figure = most_memorized_images(found)
    assert [part.get_suptitle() for part in figure.subfigs] == ["batch norm", "no norm"]
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["2 as 1\n+1.00"] * 24


def test_of_several_training_sets_the_most_memorized_images_are_drawn(results):
    found = membership.most_memorized(loaded(results, *[replace(one, seed=(3, 5)) for one in TRIALS]), results)
    second = found["seed"] == 5
    figure = most_memorized_images(found.assign(in_acc=found["in_acc"].where(second, 0.5)))
    assert [axes.get_title() for axes in figure.axes] == ["2 as 1\n+1.00"] * 24
