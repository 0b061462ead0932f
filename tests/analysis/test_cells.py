import pytest

from analysis.cells import CELL_SETTINGS, companions, inactive_settings, shared_settings, varying_settings
from study.record.schema import SCHEMAS
from study.settings import format_value
from study.trial import Trial
from tests.analysis.conftest import frame, grid


def test_a_cell_is_every_setting_but_the_seed():
    assert {*CELL_SETTINGS, "seed"} == set(Trial().settings())
    assert set(CELL_SETTINGS) <= set(SCHEMAS["members"].names)


def test_settings_vary_in_the_order_of_a_trial():
    members = frame(grid(lr=(1e-3, 1e-4), norm=("batch", "none"), k=(0.1, 0.3), epochs=5, seed=(0, 1)))
    assert varying_settings(members) == ["k", "norm", "lr"]


def test_nothing_varies_within_one_cell():
    assert varying_settings(frame(grid(k=0.1, seed=range(3)))) == []


def test_the_corruption_of_clean_members_tells_no_cells_apart():
    members = frame(grid(k=(0, 0.1), seed=(0, 1)))
    assert set(members["corruption"]) == {"none", "label"}
    assert varying_settings(members) == ["k"]


def test_where_images_come_from_tells_apart_only_cells_that_have_some():
    clean, flipped = grid(k=0), grid(k=0.1, corruption="label")
    photos, others = (grid(k=0.1, corruption="ood", ood=ood) for ood in ("photos", "mnist"))
    assert varying_settings(frame(clean + photos)) == ["k"]
    assert varying_settings(frame(flipped + photos)) == ["corruption"]
    assert varying_settings(frame(photos + others)) == ["ood"]


def test_the_regularizer_tells_cells_apart_only_where_there_is_one():
    unregularized, hinge, log = grid(alpha=1), grid(alpha=0.9, regularizer="hinge"), grid(alpha=0.9, regularizer="log")
    assert varying_settings(frame(unregularized + hinge)) == ["alpha"]
    assert varying_settings(frame(unregularized + hinge + log)) == ["regularizer", "alpha"]


def test_what_all_members_share_is_said_as_a_user_would_type_it():
    members = frame(grid(dataset="mnist", k=(0.1, 0.3), lr=1e-5, batch_size=64, seed=(0, 1)))
    assert shared_settings(members) == "dataset=mnist architecture=lenet lr=0.00001 batch_size=64"


def test_clean_members_do_not_hide_what_the_others_share():
    members = frame(grid(alpha=1) + grid(alpha=0.9, regularizer="hinge"))
    assert shared_settings(members) == "dataset=digits corruption=none architecture=lenet regularizer=hinge"


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0, "0"), (1e-5, "0.00001"), (0.3, "0.3"), (64, "64"), ("none", "none")]
)
def test_a_level_is_shown_as_a_user_would_type_it(value: object, shown: str):
    assert format_value(value) == shown


@pytest.mark.parametrize(
    ("setting", "at", "silent"),
    [
        ("k", 0.0, {"corruption", "ood", "k_of", "flip_to", "ood_labels"}),
        ("corruption", "none", {"k", "ood", "k_of", "flip_to", "ood_labels"}),
        ("alpha", 1.0, {"regularizer"}),
        ("regularizer", "none", {"alpha"}),
        ("k", 0.1, set()),
        ("corruption", "label", {"ood", "ood_labels"}),
        ("corruption", "ood", {"k_of", "flip_to"}),
        ("norm", "none", {"norm_eps", "norm_momentum"}),
        ("norm", "group", {"norm_momentum"}),
        ("norm", "batch", set()),
    ],
)
def test_a_setting_that_is_switched_off_silences_its_partner(setting: str, at: object, silent: set[str]):
    assert inactive_settings(setting, at) == silent


def test_what_each_level_has_its_own_value_of_is_its_companion_and_what_has_several_is_not():
    own = frame([*grid(optimizer=("adam",), lr=(1e-3,)), *grid(optimizer=("sgd",), lr=(0.1,))])
    assert companions(own, "optimizer") == {"lr": {"adam": 1e-3, "sgd": 0.1}}
    assert companions(own, "norm") == {}
    crossed = frame(grid(optimizer=("adam", "sgd"), lr=(1e-3, 0.1)))
    assert companions(crossed, "optimizer") == {}
