"""The paper's figures, from planted records at both scales."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from analysis.figures.catalog import feeding, figures_of
from analysis.figures.figure import PaperFigure
from analysis.figures.memorization import FIGURES, memorization
from analysis.figures.theme import COLORS, DASHES, HATCHES, MARKERS, MEASURE_LOOKS, NAMES
from analysis.load import Loaded, load
from analysis.statistics import membership
from study.errors import BadInputError
from study.networks.catalog import NORMS
from study.record.results import Results
from study.trial import Trial
from sweeps.registry import SWEEPS
from sweeps.sweep import Scale
from tests.analysis import planted
from tests.analysis.conftest import DIVERGED, Outcome, frame, grid, plausible
from tests.analysis.figures.drawn import bars, check_legible, legend, line, notes, points, titles

KS = (0.1, 0.2, 0.3)
LONG = ("parquet:cifar10-jpeg@1a2b3c4d", "imagefolder:photographs-of-everything-in-the-garden-2024@1a2b3c4d")


def means(members: pd.DataFrame, norm: str) -> dict[float, float]:
    return members[members["norm"] == norm].groupby("k")["mem_acc"].mean().to_dict()


def with_datasets(members: pd.DataFrame, datasets: Iterable[str]) -> pd.DataFrame:
    return pd.concat([members.assign(dataset=dataset) for dataset in datasets], ignore_index=True)


# The general one: what is drawn


def test_lines_are_the_means_and_bars_one_standard_deviation():
    members = frame(grid(k=KS, norm=("batch", "none"), seed=range(4)))
    (axes,) = memorization(members).axes
    for norm in ("batch", "none"):
        middle = means(members, norm)
        assert line(axes, norm) == pytest.approx(middle)
        assert set(bars(axes, norm)) == set(KS)
        for k, ends in bars(axes, norm).items():
            deviation = members.loc[(members["norm"] == norm) & (members["k"] == k), "mem_acc"].std(ddof=1)
            assert ends == pytest.approx((middle[k] - deviation, middle[k] + deviation))


def test_every_member_is_a_point():
    members = frame(grid(k=KS, norm=("batch", "none"), seed=range(4)))
    (axes,) = memorization(members).axes
    expected = sorted(members[["k", "mem_acc"]].itertuples(index=False, name=None))
    np.testing.assert_allclose(points(axes), expected)


def test_the_order_of_the_members_does_not_matter():
    members = frame(grid(k=KS, norm=("batch", "none"), seed=range(3)))
    (axes,), (shuffled,) = memorization(members).axes, memorization(members.sample(frac=1, random_state=0)).axes
    for norm in ("batch", "none"):
        assert line(shuffled, norm) == pytest.approx(line(axes, norm))


def test_both_arms_are_in_the_legend_as_they_are_drawn():
    figure = memorization(frame(grid(k=KS, norm=("none", "batch"), seed=range(3))))
    assert legend(figure) == ["batch norm", "no norm"]
    assert notes(figure) == ["mean ± sd", "3 seeds"]
    for handle, norm in zip(figure.legends[0].legend_handles, ("batch", "none"), strict=True):
        assert same_color(handle.get_color(), COLORS[norm])
        assert handle.get_marker() == MARKERS[norm]


def test_every_norm_has_a_look_of_its_own():
    for looks in (COLORS, MARKERS, DASHES, HATCHES, NAMES):
        assert set(NORMS) <= set(looks)
        assert len(set(looks.values())) == len(looks)
    figure = memorization(frame(grid(k=KS, norm=NORMS, seed=range(2))))
    assert sorted(legend(figure)) == sorted(NAMES[norm] for norm in NORMS)
    for norm in NORMS:
        assert len(line(figure.axes[0], norm)) == len(KS)


def test_excluded_members_are_counted_and_not_drawn():
    def outcome(trial: Trial, seed: int) -> Outcome:
        return DIVERGED if seed == 3 and trial.norm == "none" else plausible(trial, seed)

    members = frame(grid(k=KS, norm=("batch", "none"), seed=range(4)), outcome)
    figure = memorization(members)
    assert notes(figure) == ["mean ± sd", "4 seeds", "3 excluded"]
    assert len(points(figure.axes[0])) == 4 * 3 + 3 * 3
    assert line(figure.axes[0], "none") == pytest.approx(means(members, "none"))


def test_clean_members_are_neither_drawn_nor_excluded():
    figure = memorization(frame(grid(k=(0, 0.1), norm=("batch", "none"), seed=range(3))))
    assert notes(figure) == ["mean ± sd", "3 seeds"]
    assert {x for x, _ in points(figure.axes[0])} == {0.1}
    assert titles(figure) == ["LeNet, digits"]


# Panels


def test_each_network_dataset_and_other_setting_has_a_panel_of_its_own():
    members = with_datasets(
        frame(grid(k=KS, norm=("batch", "none"), lr=(1e-3, 1e-5), seed=range(2))), ("digits", "mnist")
    )
    members.loc[members["dataset"] == "mnist", "mem_acc"] /= 2
    members.loc[members["lr"] == 1e-5, "mem_acc"] /= 4
    figure = memorization(members)
    assert titles(figure) == [
        "LeNet, digits\nlr=0.00001",
        "LeNet, MNIST\nlr=0.00001",
        "LeNet, digits\nlr=0.001",
        "LeNet, MNIST\nlr=0.001",
    ]
    for axes, (_, panel) in zip(figure.axes, members.groupby(["lr", "dataset"]), strict=True):
        assert line(axes, "batch") == pytest.approx(means(panel, "batch"))


def test_networks_have_panels_of_their_own():
    members = frame(grid(k=KS, seed=range(2)))
    figure = memorization(pd.concat([members, members.assign(architecture="resnet18")]))
    assert titles(figure) == ["LeNet, digits", "ResNet18, digits"]


def test_every_k_of_any_panel_is_marked():
    few, more = frame(grid(k=(0.1, 0.3), seed=range(2))), frame(grid(k=(0.1, 0.2, 0.4), seed=range(2)))
    figure = memorization(pd.concat([more, few.assign(dataset="mnist")]))
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        assert [text.get_text() for text in axes.get_xticklabels()] == ["10%", "20%", "30%", "40%"]


@pytest.mark.parametrize(("panels", "columns"), [(1, 1), (4, 4), (5, 3), (6, 3), (9, 3)])
def test_panels_fill_their_rows_and_the_lowest_of_each_column_says_what_k_is(panels: int, columns: int):
    figure = memorization(with_datasets(frame(grid(k=(0.1, 0.3), seed=0)), [f"data{n}" for n in range(panels)]))
    assert len(figure.axes) == panels
    places = [axes.get_subplotspec() for axes in figure.axes]
    assert max(place.colspan.start for place in places) + 1 == columns
    for axes, place in zip(figure.axes, places, strict=True):
        below = [
            other for other in places if other.colspan == place.colspan and other.rowspan.start > place.rowspan.start
        ]
        said = axes.xaxis.label.get_visible() and axes.get_xticklabels()[0].get_visible()
        assert said == (not below)


# Legibility


@pytest.mark.parametrize("panels", [1, 2, 5, 6])
def test_no_text_is_cut_off_or_lies_on_another(panels: int):
    datasets = [*LONG, "digits", "fashion_mnist", "parquet:svhn@00000000", "imagefolder:a@00000000"][:panels]
    members = frame(grid(k=(0.05, 0.1, 0.15, 0.2, 0.25, 0.3), norm=NORMS, seed=range(3)))
    check_legible(memorization(with_datasets(members, datasets)))


def test_many_settings_and_uneven_fractions_stay_legible():
    trials = grid(k=(0.001, 0.01, 0.05, 0.5), lr=(1e-3, 1e-4), weight_decay=(0, 1e-4), epochs=(10, 200), seed=(0, 1))
    check_legible(
        memorization(with_datasets(frame(trials, lambda trial, seed: DIVERGED if seed else {"mem_acc": 1.0}), LONG[:1]))
    )


def test_a_folder_may_have_any_name():
    figure = memorization(with_datasets(frame(grid(k=0.1)), [r"parquet:$\frac$_{x}@1a2b3c4d"]))
    check_legible(figure)
    assert titles(figure) == ["LeNet, " + r"parquet:$\frac$_{x}@1a2b3c4d"]


# Little to draw


@pytest.mark.parametrize("axes", [{"k": 0.1}, {"seed": 0}, {"norm": "none"}, {"k": 0.1, "seed": 0, "norm": "batch"}])
def test_one_k_one_seed_or_one_arm_is_enough(axes: dict[str, object]):
    members = frame(grid(**{"k": KS, "norm": ("batch", "none"), "seed": range(3), **axes}))
    figure = memorization(members)
    check_legible(figure)
    for norm in members["norm"].unique():
        assert line(figure.axes[0], norm) == pytest.approx(means(members, norm))
    assert len(legend(figure)) == members["norm"].nunique()
    assert notes(figure)[1] == ("1 seed" if "seed" in axes else "3 seeds")


@pytest.mark.parametrize(
    "members",
    [frame(grid(k=0, seed=range(3))), frame(grid(k=KS), lambda trial, seed: DIVERGED), frame(())],
    ids=["clean", "diverged", "none"],
)
def test_without_a_usable_member_there_is_no_figure(members: pd.DataFrame):
    with pytest.raises(BadInputError, match="no member with corrupted samples"):
        memorization(members)


# The paper's


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


@pytest.mark.parametrize("scale", Scale)
@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: figure.name)
def test_every_figure_is_legible_at_either_scale(sweeps: Mapping[Scale, Results], figure: PaperFigure, scale: Scale):
    check_legible(once(sweeps[scale], figure.name))


def test_each_sweep_feeds_the_figures_that_it_says():
    for name, sweep in SWEEPS.items():
        said = re.findall(r"\d+", sweep.feeds.partition("(")[0]) if sweep.feeds.startswith("Fig.") else []
        fed = [figure.name.removeprefix("fig") for figure in FIGURES if name in figure.sweeps]
        assert set(said) <= set(fed), name
        assert name == "quickstart" or said == fed, name


def test_of_several_networks_and_datasets_each_has_a_row_and_a_column(sweeps: Mapping[Scale, Results]):
    figure = once(sweeps[Scale.paper], "fig1")
    named = [axes.get_title().split(", ") for axes in figure.axes]
    assert [network for network, _ in named[::4]] == ["LeNet", "DenseNet121", "ResNet18", "ResNet34", "ResNet50"]
    assert [dataset for _, dataset in named[:4]] == ["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"]
    members = of(sweeps[Scale.paper], "label_noise", architecture="resnet18", dataset="cifar10")
    (axes,) = (axes for axes in figure.axes if axes.get_title() == "ResNet18, CIFAR10")
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
    assert titles(figure) == ["LeNet, MNIST", "LeNet, FashionMNIST", "LeNet, CIFAR10", "LeNet, CIFAR100"]
    assert "LeNet of 5 networks" in notes(figure)
    assert len(once(sweeps[Scale.paper], "fig10").axes) == 5 * 6


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
    networks = ["ResNet18, CIFAR10", "ResNet34, CIFAR10", "ResNet50, CIFAR10"]
    assert titles(figure) == [f"{network}\n{cell}".rstrip() for cell in cells for network in networks]
    for axes in figure.axes:
        assert {norm: len(colored(axes, norm)) for norm in ("batch", "none")} == {"batch": 1, "none": 1}
        told = [text.get_text() for text in axes.texts]
        assert [text.split(", ")[1] for text in told] == ["no norm", "batch norm"]


def test_a_curve_is_told_with_the_auc_of_the_audit(sweeps: Mapping[Scale, Results]):
    results = sweeps[Scale.quick]
    (axes,) = once(results, "fig12").axes
    found = membership.table(membership.audits(load(results, "membership"), results), ["lira_online"])
    for norm, name in (("batch", "batch norm"), ("none", "no norm")):
        (auc,) = found[(found["norm"] == norm) & (found["k"] == 0) & (found["group"] == "all")]["auc"]
        assert f"AUC {auc:.3f}, {name}" in [text.get_text() for text in axes.texts]


def test_the_ratio_of_a_layer_is_the_mean_of_its_medians_at_the_last_epoch(sweeps: Mapping[Scale, Results]):
    results = sweeps[Scale.quick]
    (axes,) = once(results, "fig7").axes
    rows = results.read("gamma_sigma", "layers").to_pandas()
    rows = rows[rows["trial"].isin(of(results, "gamma_sigma", k=0.1)["trial"])]
    (drawn,) = (one for one in colored(axes, "batch"))
    np.testing.assert_allclose(drawn.get_ydata().astype(float), rows.groupby("depth")["ratio_median"].mean())
    assert any(set(one.get_ydata()) == {1} for one in axes.lines)
    assert axes.get_yscale() == "log"
    assert len(once(results, "fig9").axes) == 6


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
    assert keys[2][2] == near[near["clean_acc"] >= 0.95]["mem_acc"].idxmin()
    for axes, kind in ((log, "log"), (hinge, "hinge")):
        assert axes.get_xscale() == "log"
        (drawn,) = (one for one in axes.lines if one.get_marker() == MEASURE_LOOKS["mem_acc"]["marker"])
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
    assert titles(figure) == ["LeNet, digits\ntest accuracy", "LeNet, digits\nmemorization accuracy"]
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
    (empty,) = (axes for axes in figure.axes if axes.get_title() in ("LeNet, CIFAR10", "LeNet, CIFAR10\nk = 5%"))
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
    planned = planted.plan("membership", Scale.quick, k=(0.05,), corruption=("label",), models=(6,))
    planted.write(results, planned, lambda trial: trial.norm == "none")
    none = next(trial for trial in planned.trials if trial.norm == "none")
    tables = planted.records("membership", none, diverged=(2, 3))
    results.write("membership", none.id, tables)
    (axes,) = draw(results, "fig6").axes
    assert "too few models, no norm" in [text.get_text() for text in axes.texts]
    assert colored(axes, "batch")
    assert not colored(axes, "none")


def test_a_figure_that_nothing_was_recorded_of_is_one_sentence(sweeps: Mapping[Scale, Results], results: Results):
    planted.write(results, planted.plan("label_noise", Scale.quick, k=(0.3,)))
    found = {figure.name: made for figure, made in figures_of(load(results, "label_noise"), results)}
    assert found["fig2"] == "there are no records of flipped labels at k=5%."
    assert {name for name, made in found.items() if isinstance(made, Figure)} == {"fig1", "fig10", "fig18"}


def test_a_sweep_that_feeds_no_figure_has_the_general_one(results: Results):
    planted.write(results, planted.plan("transformer", Scale.quick))
    ((figure, made),) = figures_of(load(results, "transformer"), results)
    assert figure.name == "memorization"
    assert isinstance(made, Figure)
    assert legend(made) == ["no norm", "layer norm"]


def test_figures_are_asked_for_by_name(sweeps: Mapping[Scale, Results]):
    results = sweeps[Scale.quick]
    loaded = load(results, "label_noise")
    assert [figure.name for figure, _ in figures_of(loaded, results, ["fig18", "memorization"])] == [
        "fig18",
        "memorization",
    ]
    assert feeding(["fig1"], ["label_noise", "ood", "quickstart"]) == ["label_noise", "quickstart"]
    with pytest.raises(BadInputError, match="unknown figure 'fig21': did you mean 'fig2"):
        feeding(["fig21"], ["label_noise"])
    with pytest.raises(
        BadInputError, match="fig3 is drawn from records of ood, not of label_noise; `python -m sweeps run"
    ):
        figures_of(loaded, results, ["fig3"])
