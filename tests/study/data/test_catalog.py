from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from study.data.builtin import BUILTIN
from study.data.catalog import DATASETS
from study.data.load import _load, load
from study.errors import BadInputError
from study.networks.catalog import COUNTED_INPUTS, NETWORKS
from study.run import run
from study.settings import SETTINGS
from study.trial import Trial
from sweeps import registry
from sweeps.estimate import flops
from sweeps.sweep import Scale


@pytest.fixture
def added(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a dataset that is a row and a reader, and nothing else: half of the digits, upside down."""

    def upside_down(data_dir: Path):
        return tuple(replace(split, images=split.images.flip(2)) for split in BUILTIN["digits"](data_dir))

    row = replace(DATASETS["digits"], name="upside_down", printed="Upside down", ood="mnist")
    monkeypatch.setitem(DATASETS, "upside_down", row)
    monkeypatch.setitem(BUILTIN, "upside_down", upside_down)
    _load.cache_clear()
    yield "upside_down"
    _load.cache_clear()


def test_every_row_has_a_reader_and_every_reader_a_row():
    assert DATASETS.keys() == BUILTIN.keys()
    assert all(row.name == name for name, row in DATASETS.items())


def test_every_dataset_takes_its_images_from_another_that_there_is():
    assert [name for name, row in DATASETS.items() if row.ood == "none"] == ["imagenet", "spheres"]
    for name, row in DATASETS.items():
        if row.ood == "none":
            with pytest.raises(BadInputError, match="none can be added"):
                Trial(dataset=name, corruption="ood", k=0.1, ood="mnist")
            continue
        assert row.ood != name
        assert row.ood in SETTINGS["ood"].choices
        assert Trial(dataset=name, corruption="ood", k=0.1).ood == row.ood


@pytest.mark.parametrize("dataset", [name for name, row in DATASETS.items() if row.train])
def test_every_dataset_can_be_planned_with_every_network(dataset):
    overrides = {"dataset": [dataset], "architecture": list(NETWORKS), "norm": ["none"], "k": [0.1]}
    plan = registry.sweep("quickstart").plan(Scale.quick, {**overrides, "hidden_layers": [2]})
    assert [trial.architecture for trial in plan.trials] == list(NETWORKS)
    counted = (DATASETS[dataset].shape, DATASETS[dataset].classes) in COUNTED_INPUTS
    for trial in plan.trials:
        assert (flops(trial) is not None) == (counted or NETWORKS[trial.architecture].widths is not None)


def test_the_row_of_the_digits_says_what_the_data_are(tmp_path):
    row, data = DATASETS["digits"], load("digits", tmp_path)
    assert (row.train, row.test, row.shape, row.classes) == (len(data.train), len(data.test), data.shape, data.classes)


def test_a_dataset_is_a_row_and_a_reader(added, tmp_path):
    trial = Trial(dataset=added, corruption="ood", k=0.1, epochs=1, seed=(3,))
    assert trial.ood == "mnist"
    assert flops(trial)
    (member,) = run(Trial(dataset=added, k=0.1, epochs=1), tmp_path, backend="single").members
    assert (member["status"], member["dataset"], member["n_test"]) == ("ok", added, DATASETS[added].test)


def test_a_dataset_whose_images_have_a_size_of_their_own_is_planned_without_an_estimate(added, monkeypatch):
    monkeypatch.setitem(DATASETS, added, replace(DATASETS[added], shape=(1, 20, 20)))
    assert flops(Trial(dataset=added)) is None
