"""The figures of the 2019 paper on planted records: what each panel shows, and what lacks is said."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from analysis.figures.catalog import FIGURES
from analysis.figures.paper2019 import GALLOWAY_FIGURES
from analysis.load import load
from study.errors import BadInputError
from study.record.results import Results
from study.record.rows import describe
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis.conftest import DIVERGED, Outcome, plan
from tests.analysis.figures.drawn import legend
from tests.analysis.robust import activation_rows

Rows = Callable[[Trial, int], Sequence[dict[str, Any]]]
BY_NAME = {figure.name: figure for figure in GALLOWAY_FIGURES}


def draw(results: Results, name: str) -> Figure:
    figure = BY_NAME[name]
    return figure.draw(load(results, figure.sweeps[0]), results)


def write(results: Results, sweep: str, outcome: Callable[[Trial, int], Outcome], **tables: Rows) -> None:
    """Record a sweep at its paper scale, with rows of some tables."""
    trials = SWEEPS[sweep].plan(Scale.paper).trials
    plan(results, trials, sweep)
    made: dict[str, list[dict[str, Any]]] = {}
    for trial in trials:
        if tables or not made:  # where some trials' shards are read, each has its own; one is faster than hundreds
            made = {"members": [], "epochs": [], **{name: [] for name in tables}}
        for number, seed in enumerate(trial.seed):
            identity = {"trial": trial.id, "member": number}
            made["members"].append({**identity, **describe(trial, seed), "status": "ok", **outcome(trial, seed)})
            for name, rows in tables.items():
                made[name] += [{**identity, **row} for row in rows(trial, seed)]
        if tables:
            results.write(sweep, trial.id, made)
    if not tables:
        results.write(sweep, trials[0].id, made)


def titles(figure: Figure) -> list[str]:
    return [axes.get_title().replace("\n", ", ") for axes in figure.axes if axes.get_title()]


def deep(trial: Trial, seed: int) -> Outcome:
    if trial.norm == "none" and trial.hidden_layers == 60 and trial.batch_size == 200:
        return DIVERGED
    acc = 0.9 - trial.hidden_layers / 100
    return {"test_acc": acc, "noise_acc": acc / 2, "pgd_linf_acc": acc / 4, "output_bits": 4 + trial.hidden_layers / 10}


def test_the_maps_of_figure_2_have_depth_upward_and_batch_across(results: Results):
    write(results, "depth_batch_size", deep)
    figure = draw(results, "g19-f2")
    arms = ("batch norm, 10 epochs", "no norm, 40 epochs")
    assert titles(figure) == [f"{result}, {arm}" for arm in arms for result in ("clean", "noise", "BIM")]
    clean, *_ = figure.axes
    shown = np.ma.filled(clean.images[0].get_array(), np.nan)
    assert shown.shape == (12, 13)
    assert shown[0, 0] == pytest.approx(0.85)
    assert shown[-1, 0] == pytest.approx(0.3)
    of_none = np.ma.filled(figure.axes[3].images[0].get_array(), np.nan)
    assert np.isnan(of_none[-1, -1])  # none of its networks gave a result
    assert np.isfinite(of_none).sum() == of_none.size - 1
    assert "6 excluded" in figure.legends[0].get_title().get_text()


def test_figure_5_has_both_arms_after_both_numbers_of_epochs(results: Results):
    write(results, "depth_batch_size", deep)
    assert [title.partition(", ")[2] for title in titles(draw(results, "g19-f5"))[::3]] == [
        *("batch norm, 10 epochs", "no norm, 10 epochs", "batch norm, 40 epochs", "no norm, 40 epochs")
    ]


def test_figure_3_shows_bits(results: Results):
    write(results, "depth_batch_size", deep)
    figure = draw(results, "g19-f3")
    assert titles(figure) == ["bits in the outputs, batch norm, 10 epochs", "bits in the outputs, no norm, 40 epochs"]
    assert figure.axes[0].images[0].get_array()[-1, 0] == pytest.approx(10)


def curves(trial: Trial, seed: int) -> list[dict[str, Any]]:
    fails = trial.norm == "batch" and trial.norm_momentum == 0 and trial.lr == 0.01
    return [
        {"epoch": epoch, "step": epoch, "clean_acc": 0.5 if fails else 1.0, "clean_loss": 1.0 + 0.1 * seed}
        for epoch in (0, 100, 200)
        if trial.architecture == "spheres_mlp"
    ]


def layers(trial: Trial, seed: int) -> list[dict[str, Any]]:
    return activation_rows(31, 1.0, trial.norm == "batch", seed) if trial.architecture == "deep_linear" else []


@pytest.fixture
def spheres(results: Results) -> Results:
    write(results, "spheres", lambda *_: {"clean_acc": 0.9}, epochs=curves, activations=layers)
    return results


def test_figure_8_has_the_control_beside_the_papers_arms(spheres: Results):
    figure = draw(spheres, "g19-f8")
    assert titles(figure) == [f"learning rate {rate}" for rate in ("0.001", "0.01", "0.1")] * 2
    assert legend(figure) == [
        *("batch norm, statistics over all of training", "batch norm, momentum 0.1 (ours)", "no norm")
    ]
    accuracies = {tuple(line.get_ydata()) for line in figure.axes[4].lines if len(line.get_xdata()) == 3}
    assert accuracies == {(0.5, 0.5, 0.5), (1.0, 1.0, 1.0)}
    assert sum(len(line.get_xdata()) == 3 for line in figure.axes[5].lines) == 1  # of 0.1 there is no batch norm


def test_figures_1_and_7_show_the_input_and_two_layers_of_each_arm(spheres: Results):
    assert titles(draw(spheres, "g19-f1")) == [f"{layer}, batch norm" for layer in ("input", "layer 2", "layer 14")]
    figure = draw(spheres, "g19-f7")
    assert len(titles(figure)) == 6
    assert legend(figure) == ["class 0", "class 1", "first batch", "second batch"]
    assert sum(len(points.get_offsets()) for points in figure.axes[2].collections) == 20


def test_figure_4_shows_the_layer_of_two_units_over_training(results: Results):
    def points(trial: Trial, seed: int) -> list[dict[str, Any]]:
        return [
            {**row, "epoch": epoch} for epoch in (0, 10, 500) for row in activation_rows(6, 1.0 + epoch, False, seed)
        ]

    write(results, "clusters", lambda *_: {"clean_acc": 0.9}, activations=points)
    figure = draw(results, "g19-f4")
    assert titles(figure) == [
        f"{arm}, {when}" for arm in ("batch norm", "no norm") for when in ("before training", "epoch 10", "epoch 500")
    ]
    xs = np.concatenate([part.get_offsets()[:, 0] for part in figure.axes[2].collections])
    assert np.abs(xs).max() > 500


def test_figure_6_shows_margins_and_the_distances_that_they_are_on_other_scales(results: Results):
    def scores(trial: Trial, seed: int) -> list[dict[str, Any]]:
        return [{"sample": sample, "group": "clean", "label": 0, "score": sample - 1.5} for sample in range(20)]

    write(
        results,
        "loss_scaling",
        lambda trial, _: {"clean_acc": 0.9, "test_acc": 0.8, "weight_norm": np.sqrt(2) / (1 + trial.weight_decay)},
        samples=scores,
    )
    figure = draw(results, "g19-f6")
    assert [title.partition(",")[0] for title in titles(figure)] == ["lambda 0", "lambda 0.01", "lambda 0.1"]
    margins, distances = (axes for axes in figure.axes if axes.get_ylabel() == "samples")
    for axes, scale in ((margins, 1.0), (distances, 2.0)):
        bars = [bar for bar in axes.patches if bar.get_height() > 0]
        assert sum(bar.get_height() for bar in bars) == 20
        assert max(bar.get_x() + bar.get_width() for bar in bars) == pytest.approx(17.5 / scale)
        # Two samples are classified wrong, and stand left of the boundary in a colour of their own.
        assert sum(bar.get_height() for bar in bars if bar.get_x() < -1e-9) == 2


def test_every_figure_says_what_lacks(results: Results):
    for name, figure in BY_NAME.items():
        sweep = figure.sweeps[0]
        write(results, sweep, lambda *_: DIVERGED)
        with pytest.raises(BadInputError, match="gave a result"):
            draw(results, name)


def test_the_figures_of_both_papers_have_names_of_their_own():
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    assert [name for name in BY_NAME if not name.startswith("g19-f")] == []
