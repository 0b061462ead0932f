"""The names of settings, levels and results in print."""

import pytest

from analysis.figures.names import (
    display_level,
    display_levels,
    display_setting,
    ordered_levels,
    percent,
)
from study.settings import SETTINGS


def test_levels_come_in_the_papers_order_and_are_named_as_in_print():
    assert ordered_levels("architecture", ["vit", "resnet18", "mine:net", "densenet121"]) == [
        "densenet121",
        "resnet18",
        "vit",
        "mine:net",
    ]
    assert ordered_levels("k", [0.3, 0.1, 0.3]) == [0.1, 0.3]
    assert display_level("dataset", "fashion_mnist") == "FashionMNIST"
    assert display_level("k", 0.15) == "k = 15%"
    assert [percent(0.07), percent(0.0703, 1)] == ["7%", "7.0%"]


@pytest.mark.parametrize("setting", SETTINGS.values(), ids=lambda setting: setting.name)
def test_every_level_of_every_setting_is_told_in_words(setting):
    default = setting.default[0] if setting.is_tuple else setting.default
    for level in (*setting.choices, default):
        words = display_level(setting.name, level)
        assert words
        # A folder's or a catalog's own name may have an underscore; `S_in` is the paper's.
        assert f"{setting.name}=" not in words
        assert "_" not in words.replace(str(level), "")


@pytest.mark.parametrize(
    ("name", "level", "words"),
    [
        ("lr", 1e-4, "learning rate 0.0001"),
        ("batch_size", 64, "batch size 64"),
        ("optimizer", "sgd", "SGD"),
        ("weight_decay", 5e-4, "weight decay 0.0005"),
        ("weight_decay", 0.0, "no weight decay"),
        ("alpha", 0.95, "alpha = 0.95"),
        ("regularizer", "hinge", "hinge regularizer"),
        ("ood", "svhn", "images of SVHN"),
        ("subset", 5000, "5,000 samples"),
        ("epochs", 1, "1 epoch"),
        ("stopping", "best", "early stopping"),
        ("architecture", "mine:net", "mine:net"),
    ],
)
def test_a_level_is_told_with_its_setting_where_it_does_not_speak_for_itself(name: str, level: object, words: str):
    assert display_level(name, level) == words


def test_the_network_and_its_dataset_come_first():
    levels = {"lr": 0.01, "k": 0.05, "dataset": "mnist", "architecture": "lenet"}
    assert display_levels(levels, levels) == "LeNet on MNIST, learning rate 0.01, k = 5%"
    assert display_levels(levels, ["k", "dataset"]) == "MNIST, k = 5%"
    assert display_levels(levels, []) == ""
    assert display_setting("weight_decay") == "weight decay"
