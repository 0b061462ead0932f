"""The paper's figures, from planted records at both scales."""

from collections.abc import Callable, Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.figure import PaperFigure
from analysis.figures.memorization import FIGURES
from analysis.figures.theme import COLORS, MARKERS, RESULT_LOOKS
from analysis.figures.width import drawn_for
from analysis.load import Loaded, load
from analysis.metrics import NEAR_ONE
from analysis.statistics import membership
from study.record.results import Results
from study.trial import Trial
from sweeps.sweep import Scale
from tests.analysis import planted
from tests.analysis.figures.drawn import check_legible, legend, line, means, notes, points, titles


@pytest.fixture(scope="module")
def sweeps(tmp_path_factory: pytest.TempPathFactory) -> Mapping[Scale, Results]:
    """Records of every sweep that feeds a figure, at both scales."""
    found = {scale: Results.at(tmp_path_factory.mktemp(scale)) for scale in Scale}
    for scale, results in found.items():
        for name in {sweep for figure in FIGURES for sweep in figure.sweeps}:
            planted.write(results, planted.plan(name, scale))
    return found


def draw(results: Results, name: str, partial: bool = False) -> Figure:
    figure = next(figure for figure in FIGURES if figure.name == name)
    drawn = figure.draw(load(results, figure.sweeps[0], partial), results)
    assert isinstance(drawn, Figure)
    return drawn


once = cache(draw)
"""Of the records that all tests share, each figure is drawn once."""


def of(results: Results, sweep: str, **levels: object) -> pd.DataFrame:
    members = load(results, sweep).members
    for name, level in levels.items():
        members = members[members[name] == level]
    return members


def colored(axes: Axes, norm: str) -> list[Line2D]:
    return [one for one in axes.lines if same_color(one.get_color(), COLORS[norm]) and one.get_linestyle() != "None"]


def heights(axes: Axes, norm: str) -> list[float]:
    return [bar.get_height() for bar in axes.patches if same_color(bar.get_facecolor(), COLORS[norm])]


@pytest.mark.slow
@pytest.mark.parametrize("scale", [Scale.quick, Scale.paper])
@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_figure_is_legible_at_either_scale(sweeps: Mapping[Scale, Results], figure: PaperFigure, scale: Scale):
    check_legible(once(sweeps[scale], figure.name))


@pytest.mark.parametrize("name", ["fig1", "fig8", "fig10", "fig13", "fig16"])
def test_a_figure_is_legible_in_a_column_of_a_page(sweeps: Mapping[Scale, Results], name: str):
    with drawn_for(3.4):
        check_legible(draw(sweeps[Scale.quick], name))


def test_of_several_networks_and_datasets_each_has_a_row_and_a_column(sweeps: Mapping[Scale, Results]):
    figure = once(sweeps[Scale.paper], "fig1")
    named = [axes.get_title().split(" on ") for axes in figure.axes]
    assert [network for network, _ in named[::4]] == ["LeNet", "DenseNet121", "ResNet18", "ResNet34", "ResNet50"]
    assert [dataset for _, dataset in named[:4]] == ["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"]
    members = of(sweeps[Scale.paper], "label_noise", architecture="resnet18", dataset="cifar10")
    (axes,) = (axes for axes in figure.axes if axes.get_title() == "ResNet18 on CIFAR10")
    for norm in ("batch", "none"):
        assert line(axes, norm) == pytest.approx(means(members, norm))


def test_losses_are_the_means_of_corrupted_and_clean_samples_by_epoch(sweeps: Mapping[Scale, Results]):
    results = sweeps[Scale.quick]
    (axes,) = once(results, "fig2").axes
    points = results.read("label_noise", "epochs").to_pandas().drop(columns="step")
    merged = points.merge(of(results, "label_noise", k=0.05)[["trial", "member", "norm"]], on=["trial", "member"])
    assert axes.get_yscale() == "log"
    for norm in ("batch", "none"):
        wanted = merged[merged["norm"] == norm].groupby("epoch")[["mem_loss", "clean_loss"]].mean()
        solid, dashed = colored(axes, norm)
        assert (solid.is_dashed(), dashed.is_dashed()) == (False, True)
        np.testing.assert_allclose(solid.get_ydata(), wanted["mem_loss"])
        np.testing.assert_allclose(dashed.get_ydata(), wanted["clean_loss"])
        assert solid.get_marker() == MARKERS[norm]


def test_at_the_papers_scale_losses_are_of_the_papers_network_and_of_its_dataset(sweeps: Mapping[Scale, Results]):
    figure = once(sweeps[Scale.paper], "fig2")
    assert titles(figure) == ["LeNet on MNIST", "LeNet on FashionMNIST", "LeNet on CIFAR10", "LeNet on CIFAR100"]
    assert "LeNet of 5 networks" in notes(figure)
    assert len(once(sweeps[Scale.paper], "fig10").axes) == 3 * 6
    assert {"3 of 5 networks", "CIFAR10 of 4 datasets"} <= set(notes(once(sweeps[Scale.paper], "fig10")))


def test_bars_are_means_by_network_with_the_arms_side_by_side(sweeps: Mapping[Scale, Results]):
    results = sweeps[Scale.paper]
    (axes,) = once(results, "fig3").axes
    members = of(results, "ood", k=0.1)
    shown = [label.get_text() for label in axes.get_xticklabels()]
    assert shown == ["LeNet", "DenseNet121", "ResNet18", "ResNet34", "ResNet50"]
    for norm in ("batch", "none"):
        wanted = members[members["norm"] == norm].groupby("architecture")["mem_acc"].mean()
        assert heights(axes, norm) == pytest.approx([wanted[network.lower()] for network in shown])
    assert len(once(results, "fig11").axes) == 6


def test_densities_of_gradient_norms_add_up_to_one_and_those_of_flipped_samples_lie_higher(sweeps):
    (axes,) = once(sweeps[Scale.quick], "fig4").axes
    assert axes.get_xscale() == "log"
    for norm in ("batch", "none"):
        corrupted, clean = colored(axes, norm)
        middles = []
        for one in (corrupted, clean):
            decades, density = np.log10(one.get_xdata()), one.get_ydata()
            assert np.trapezoid(density, decades) == pytest.approx(1, abs=0.03)
            middles.append(decades[np.argmax(density)])
        assert middles[0] > middles[1] + 0.3


@pytest.mark.parametrize(
    ("name", "cells"), [("fig5", ["k = 1%", "k = 5%"]), ("fig6", ["k = 1%", "k = 5%"]), ("fig12", [""])]
)
def test_roc_curves_have_a_panel_for_each_network_and_amount(sweeps, name: str, cells: list[str]):
    figure = once(sweeps[Scale.paper], name)
    networks = ["ResNet18 on CIFAR10", "ResNet34 on CIFAR10", "ResNet50 on CIFAR10"]
    assert titles(figure) == [f"{network}\n{cell}".rstrip() for cell in cells for network in networks]
    for axes in figure.axes:
        assert {norm: len(colored(axes, norm)) for norm in ("batch", "none")} == {"batch": 3, "none": 3}
        told = [text.get_text() for text in axes.texts]
        assert [text.split(", ")[1] for text in told] == ["no norm", "batch norm"]


def test_a_curve_is_told_with_the_auc_of_the_audit(sweeps: Mapping[Scale, Results]):
    results = sweeps[Scale.quick]
    (axes,) = once(results, "fig12").axes
    found = membership.attack_table(membership.audit_cells(load(results, "membership"), results), ["lira_online"])
    for norm, name in (("batch", "batch norm"), ("none", "no norm")):
        aucs = found[(found["norm"] == norm) & (found["k"] == 0) & (found["group"] == "all")]["auc"]
        assert len(aucs) == 5  # training sets, of which each has a curve
        assert f"AUC {aucs.mean():.3f}, {name}" in [text.get_text() for text in axes.texts]


def test_the_ratio_of_a_layer_is_the_median_of_medians_beside_those_before_training(
    sweeps: Mapping[Scale, Results],
):
    results = sweeps[Scale.quick]
    (axes,) = once(results, "fig7").axes
    rows = results.read("gamma_sigma", "layers").to_pandas()
    rows = rows[rows["trial"].isin(of(results, "gamma_sigma", k=0.1)["trial"])]
    (drawn,) = (one for one in colored(axes, "batch"))
    medians = rows.groupby(["epoch", "depth"])["ratio_median"].median()
    np.testing.assert_allclose(drawn.get_ydata().astype(float), medians[rows["epoch"].max()])
    assert any(list(one.get_ydata()) == list(medians[0]) for one in axes.lines)
    assert any(set(one.get_ydata()) == {1} for one in axes.lines)
    assert axes.get_yscale() == "log"
    assert len(once(results, "fig9").axes) == 6


def test_influence_over_training_lies_on_eq_11_where_the_records_obey_it(sweeps: Mapping[Scale, Results]):
    axes = once(sweeps[Scale.quick], "eq11").axes[0]
    (measured,) = colored(axes, "batch")
    assert measured.get_xdata().tolist() == [0, 1, planted.EPOCHS]
    equal, equation = (one for one in axes.lines if one is not measured and len(one.get_xdata()) == 3)
    # Before the end gamma/sigma is 4 in every layer, as the gradients have it.
    np.testing.assert_allclose(measured.get_ydata()[:2], equation.get_ydata()[:2], rtol=1e-6)
    np.testing.assert_allclose(equal.get_ydata()[:2], 16)
    assert measured.get_ydata()[2] < equal.get_ydata()[2] / 100


def test_margins_over_training_begin_to_be_predicted_where_they_are_lowest(sweeps: Mapping[Scale, Results]):
    axes = once(sweeps[Scale.quick], "a2").axes[0]
    (batch,), (none,) = (colored(axes, norm) for norm in ("batch", "none"))
    assert batch.get_ydata()[1] == none.get_ydata()[1] == min(batch.get_ydata())
    (predicted,) = (one for one in axes.lines if same_color(one.get_color(), "#555555") and one.get_marker() == "o")
    start, end = (dict(zip(*predicted.get_data(), strict=True))[epoch] for epoch in (1, planted.EPOCHS))
    assert start == pytest.approx(min(batch.get_ydata()))
    assert end > none.get_ydata()[-1]


def test_the_regularizer_is_held_against_both_arms_at_its_best_alpha(sweeps: Mapping[Scale, Results]):
    results = sweeps[Scale.quick]
    figure = once(results, "fig8")
    left, _, log, hinge = figure.axes
    members = of(results, "regularizer")
    ticks = [label.get_text().split("\n") for label in left.get_xticklabels()]
    assert ticks[:2] == [["batch", "norm"], ["no", "norm"]]
    found = members.groupby(["norm", "regularizer", "alpha"])["mem_acc"].mean()
    keys = [("batch", "none", 1.0), ("none", "none", 1.0)]
    keys += [("batch", kind, float(alpha)) for kind, _, alpha in ticks[2:]]
    assert [kind for _, kind, _ in keys[2:]] == ["log", "hinge"]
    assert [bar.get_height() for bar in left.patches] == pytest.approx([found[key] for key in keys])
    near = members[members["regularizer"] == "log"].groupby("alpha")[["clean_acc", "mem_acc"]].mean()
    assert keys[2][2] == near[near["clean_acc"] >= NEAR_ONE]["mem_acc"].idxmin()
    for axes, kind in ((log, "log"), (hinge, "hinge")):
        assert axes.get_xscale() == "log"
        (drawn,) = (one for one in axes.lines if one.get_marker() == RESULT_LOOKS["mem_acc"]["marker"])
        wanted = found.xs(("batch", kind), level=("norm", "regularizer"))
        np.testing.assert_allclose(drawn.get_xdata().astype(float), 1 - wanted.index.to_numpy())
        np.testing.assert_allclose(drawn.get_ydata().astype(float), wanted)


def test_every_batch_size_is_a_level_of_its_own(sweeps: Mapping[Scale, Results]):
    results = sweeps[Scale.quick]
    (axes,) = once(results, "fig15").axes
    members = of(results, "batch_size", norm="batch")
    assert line(axes, "batch") == pytest.approx(members.groupby("batch_size")["mem_acc"].mean().to_dict())
    assert [label.get_text() for label in axes.get_xticklabels()] == ["16", "64", "256"]


def test_test_accuracy_is_beside_memorization(sweeps: Mapping[Scale, Results]):
    figure = once(sweeps[Scale.quick], "fig18")
    members = of(sweeps[Scale.quick], "label_noise", norm="batch").groupby("k")
    assert titles(figure) == ["LeNet on digits\ntest accuracy", "LeNet on digits\nmemorization accuracy"]
    for axes, column in zip(figure.axes, ("test_acc", "mem_acc"), strict=True):
        assert line(axes, "batch") == pytest.approx(members[column].mean().to_dict())


def test_every_cell_of_an_attack_is_a_point(sweeps: Mapping[Scale, Results]):
    results = sweeps[Scale.paper]
    (axes,) = once(results, "fig14").axes
    cells = of(results, "membership").groupby("cell")["mia_auc"].mean()
    np.testing.assert_allclose(sorted(y for _, y in points(axes)), sorted(cells))


def test_the_three_aspects_of_the_attacked_models_are_side_by_side(sweeps: Mapping[Scale, Results]):
    results = sweeps[Scale.quick]
    figure = once(results, "fig20")
    assert [title.split("\n")[1] for title in titles(figure)] == [
        "test accuracy",
        "memorization accuracy",
        "membership AUC",
    ]
    members = of(results, "membership").sort_values(["k", "corruption"])
    assert "6 models for each of 5 seeds" in " ".join(notes(figure))
    for axes, column in zip(figure.axes, ("test_acc", "mem_acc", "mia_auc"), strict=True):
        for norm in ("batch", "none"):
            wanted = members[members["norm"] == norm].groupby(["k", "corruption"])[column].mean().dropna()
            assert heights(axes, norm) == pytest.approx(wanted.tolist())


# What is missing


def lacking(results: Results, sweep: str, lost: Callable[[Trial], bool], **overrides: Sequence[object]) -> Loaded:
    planted.write(results, planted.plan(sweep, Scale.paper, **overrides), lost, diverged=(1,))
    return load(results, sweep, partial=True)


SMALL = {"architecture": ("lenet", "resnet18"), "dataset": ("mnist", "cifar10"), "k": (0.05, 0.1, 0.3)}


def test_a_level_without_a_record_is_marked_and_a_panel_says_so(results: Results):
    def lost(trial: Trial) -> bool:
        a_panel = (trial.architecture, trial.dataset) == ("lenet", "cifar10")
        return a_panel or (trial.architecture, trial.dataset, trial.k, trial.norm) == ("lenet", "mnist", 0.3, "none")

    lacking(results, "label_noise", lost, **SMALL)
    figure = draw(results, "fig1", partial=True)
    check_legible(figure)
    assert len(figure.axes) == 4
    first, empty = figure.axes[:2]
    assert set(line(first, "batch")) == {0.05, 0.1, 0.3}
    assert np.isnan(line(first, "none")[0.3])
    (mark,) = (one for one in first.lines if one.get_label() == "no record")
    assert (mark.get_xdata()[0], mark.get_color()) == (0.3, COLORS["none"])
    assert [text.get_text() for text in empty.texts] == ["no record"]
    assert not colored(empty, "batch")
    # Of 24 trials with two members 7 are lost, and of the others one member each diverged.
    assert notes(figure) == ["mean ± sd", "1 seed", "17 excluded", "14 missing"]
    assert legend(figure)[-1] == "no record"


@pytest.mark.parametrize(
    ("sweep", "name"),
    [("label_noise", "fig2"), ("label_noise", "fig10"), ("influence", "fig4"), ("gamma_sigma", "fig9")],
)
def test_a_panel_without_a_record_is_empty_though_another_has_one(results: Results, sweep: str, name: str):
    few = {"architecture": ("lenet",), "dataset": ("mnist", "cifar10"), "k": (0.05, 0.1)}
    lacking(results, sweep, lambda trial: trial.dataset == "cifar10" and trial.k == 0.05, **few)
    figure = draw(results, name, partial=True)
    check_legible(figure)
    (empty,) = (axes for axes in figure.axes if axes.get_title() in ("LeNet on CIFAR10", "LeNet on CIFAR10\nk = 5%"))
    assert [text.get_text() for text in empty.texts] == ["no record"]
    assert not colored(empty, "batch")
    assert any("missing" in note for note in notes(figure))
    assert any(colored(axes, "batch") for axes in figure.axes)


@pytest.mark.parametrize(("sweep", "name"), [("ood", "fig3"), ("ood", "fig11"), ("regularizer", "fig8")])
def test_an_arm_without_a_record_is_marked_among_the_others(results: Results, sweep: str, name: str):
    lacking(results, sweep, lambda trial: trial.norm == "none", dataset=("cifar10",))
    figure = draw(results, name, partial=True)
    check_legible(figure)
    assert legend(figure)[-1] == "no record"
    for axes in figure.axes[:1]:
        assert len(heights(axes, "batch")) >= 1
        assert not heights(axes, "none")
        assert any(one.get_label() == "no record" for one in axes.lines)


def test_an_attack_on_too_few_models_is_said_to_have_no_curve(results: Results):
    planned = planted.plan("membership", Scale.quick, k=(0.05,), corruption=("label",), models=(6,), seed=(0,))
    planted.write(results, planned, lambda trial: trial.norm == "none")
    none = next(trial for trial in planned.trials if trial.norm == "none")
    tables = planted.records("membership", none, diverged=(2, 3))
    results.write("membership", none.id, tables)
    (axes,) = draw(results, "fig6").axes
    assert "too few models, no norm" in [text.get_text() for text in axes.texts]
    assert colored(axes, "batch")
    assert not colored(axes, "none")
