"""The figures that the records of a sweep can fill."""

import re

import pytest
from matplotlib.figure import Figure

from analysis.figures.catalog import draw_figures, sweeps_feeding
from analysis.figures.memorization import FIGURES
from analysis.load import load
from study.errors import BadInputError
from study.record.results import Results
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis import planted
from tests.analysis.figures.drawn import legend


def test_each_sweep_feeds_the_figures_that_it_says():
    for name, sweep in SWEEPS.items():
        year, _, places = sweep.feeds.partition(": ")
        said = re.findall(r"\d+", places.partition("(")[0]) if year == "2026" and places.startswith("Fig.") else []
        of_sweep = [figure.name for figure in FIGURES if name in figure.sweeps]
        fed = [figure.removeprefix("fig") for figure in of_sweep if figure.startswith("fig")]
        assert set(said) <= set(fed), name
        assert name == "quickstart" or said == fed, name


def test_a_figure_that_nothing_was_recorded_of_is_one_sentence(results: Results):
    planted.write(results, planted.plan("label_noise", Scale.quick, k=(0.3,)))
    found = {figure.name: made for figure, made in draw_figures(load(results, "label_noise"), results)}
    assert found["fig2"] == "there are no records of flipped labels at k=5%."
    assert {name for name, made in found.items() if isinstance(made, Figure)} == {"fig1", "fig10", "fig18"}


def test_a_sweep_that_feeds_no_figure_has_the_general_one(results: Results):
    planted.write(results, planted.plan("transformer", Scale.quick))
    ((figure, made),) = draw_figures(load(results, "transformer"), results)
    assert figure.name == "memorization"
    assert isinstance(made, Figure)
    assert legend(made) == ["no norm", "layer norm"]


def test_figures_are_asked_for_by_name(results: Results):
    planted.write(results, planted.plan("label_noise", Scale.quick))
    loaded = load(results, "label_noise")
    assert [figure.name for figure, _ in draw_figures(loaded, results, ["fig18", "memorization"])] == [
        "fig18",
        "memorization",
    ]
    assert sweeps_feeding(["fig1"], ["label_noise", "ood", "quickstart"]) == ["label_noise", "quickstart"]
    with pytest.raises(BadInputError, match="unknown figure 'fig21': did you mean 'fig2"):
        sweeps_feeding(["fig21"], ["label_noise"])
    with pytest.raises(
        BadInputError, match="fig3 is drawn from records of ood, not of label_noise; `python -m sweeps run"
    ):
        draw_figures(loaded, results, ["fig3"])
