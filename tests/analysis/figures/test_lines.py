"""Lines of a result against a setting, as the figure `memorization` has them."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import same_color

from analysis.figures.memorization import memorization
from analysis.figures.names import NORM_NAMES
from analysis.figures.theme import COLORS, DASHES, HATCHES, MARKERS
from study.errors import BadInputError
from study.networks.catalog import NORMS, RESIDUAL_NORMS
from study.trial import Trial
from tests.analysis.conftest import DIVERGED, Outcome, frame, grid, plausible
from tests.analysis.figures.drawn import bars, check_legible, legend, line, means, notes, points, titles

KS = (0.1, 0.2, 0.3)
LONG = ("parquet:cifar10-jpeg@1a2b3c4d", "imagefolder:photographs-of-everything-in-the-garden-2024@1a2b3c4d")


def with_datasets(members: pd.DataFrame, datasets: Iterable[str]) -> pd.DataFrame:
    return pd.concat([members.assign(dataset=dataset) for dataset in datasets], ignore_index=True)


# What is drawn


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
    for looks in (COLORS, MARKERS, DASHES, HATCHES, NORM_NAMES):
        assert set(RESIDUAL_NORMS) <= set(looks)
        assert len(set(looks.values())) == len(looks)
    figure = memorization(frame(grid(k=KS, norm=NORMS, seed=range(2))))
    assert sorted(legend(figure)) == sorted(NORM_NAMES[norm] for norm in NORMS)
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
    figure = memorization(frame(grid(k=(0, 0.1, 0.2), norm=("batch", "none"), seed=range(3))))
    assert notes(figure) == ["mean ± sd", "3 seeds"]
    assert {x for x, _ in points(figure.axes[0])} == {0.1, 0.2}
    assert titles(figure) == ["LeNet on digits"]


# Panels


def test_each_network_dataset_and_other_setting_has_a_panel_of_its_own():
    members = with_datasets(
        frame(grid(k=KS, norm=("batch", "none"), lr=(1e-3, 1e-5), seed=range(2))), ("digits", "mnist")
    )
    members.loc[members["dataset"] == "mnist", "mem_acc"] /= 2
    members.loc[members["lr"] == 1e-5, "mem_acc"] /= 4
    figure = memorization(members)
    assert titles(figure) == [
        "LeNet on digits\nlearning rate 0.00001",
        "LeNet on MNIST\nlearning rate 0.00001",
        "LeNet on digits\nlearning rate 0.001",
        "LeNet on MNIST\nlearning rate 0.001",
    ]
    for axes, (_, panel) in zip(figure.axes, members.groupby(["lr", "dataset"]), strict=True):
        assert line(axes, "batch") == pytest.approx(means(panel, "batch"))


def test_networks_have_panels_of_their_own():
    members = frame(grid(k=KS, seed=range(2)))
    figure = memorization(pd.concat([members, members.assign(architecture="resnet18")]))
    assert titles(figure) == ["LeNet on digits", "ResNet18 on digits"]


def test_every_k_of_any_panel_is_marked():
    few, more = frame(grid(k=(0.1, 0.3), seed=range(2))), frame(grid(k=(0.1, 0.2, 0.4), seed=range(2)))
    figure = memorization(pd.concat([more, few.assign(dataset="mnist")]))
    FigureCanvasAgg(figure).draw()
    for axes in figure.axes:
        assert [text.get_text() for text in axes.get_xticklabels()] == ["10%", "20%", "30%", "40%"]


@pytest.mark.parametrize(("panels", "columns"), [(1, 1), (2, 2), (4, 2), (5, 3), (6, 3), (9, 3)])
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
    assert titles(figure) == ["LeNet on " + r"parquet:$\frac$_{x}@1a2b3c4d"]


# Little to draw


@pytest.mark.parametrize("axes", [{"seed": 0}, {"norm": "none"}, {"seed": 0, "norm": "batch"}])
def test_one_seed_or_one_arm_is_enough(axes: dict[str, object]):
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
