"""What a lens needs to get its measurements into the Parquet: its file, its line in the registry and its columns."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from study import run
from study.data.corruption import corrupt
from study.data.dataset import Dataset
from study.engine.pack import Pack, Single
from study.errors import BadInputError
from study.lenses import registry
from study.lenses.trained import Trained
from study.networks import build
from study.record.results import Results
from study.record.rows import Measurement, merge
from study.record.schema import SCHEMAS
from study.training.checkpoint import Checkpoints
from study.training.loop import Member
from study.trial import Trial
from tests.study.lenses import confidence
from tests.study.records import NOWHERE, small_trial

TRIAL = Trial(k=0.1, subset=100, epochs=2, batch_size=32, samples="scores", seed=(0, 1))


def add(monkeypatch: pytest.MonkeyPatch, *lenses: ModuleType | SimpleNamespace) -> None:
    monkeypatch.setattr(registry, "LENSES", (*registry.LENSES, *lenses))


@pytest.fixture
def fifth(monkeypatch: pytest.MonkeyPatch) -> None:
    """The registry and the schema with all that a fifth lens needs there."""
    add(monkeypatch, confidence)
    column = pa.field("confidence", pa.float64())
    for table in ("members", "samples"):
        monkeypatch.setitem(SCHEMAS, table, SCHEMAS[table].append(column))
    identity = [SCHEMAS["epochs"].field(name) for name in ("trial", "member", "epoch")]
    monkeypatch.setitem(SCHEMAS, "confidence", pa.schema([*identity, ("mean", pa.float64())]))


@pytest.mark.usefixtures("fifth")
def test_a_fifth_lens_has_columns_and_a_table_of_its_own_in_the_parquet(tmp_path: Path):
    results = Results.at(tmp_path)
    results.write("sweep", TRIAL.id, run.run(TRIAL, NOWHERE, backend="single").tables)
    tables = {name: pq.read_table(tmp_path / "sweep" / name / f"{TRIAL.id}.parquet").to_pylist() for name in SHARDS}
    assert [(row["member"], row["epoch"]) for row in tables["confidence"]] == [(0, 1), (0, 2), (1, 1), (1, 2)]
    assert {row["trial"] for row in tables["confidence"]} == {TRIAL.id}
    for member in tables["members"]:
        number = member["member"]
        own = [row["confidence"] for row in tables["samples"] if row["member"] == number]
        assert len(own) == 100
        assert member["confidence"] == pytest.approx(sum(own) / 100)
        assert member["confidence"] == tables["confidence"][2 * number + 1]["mean"]
        assert 0.1 < member["confidence"] < 1
    assert results.read("sweep", "confidence").to_pylist() == tables["confidence"]
    assert results.compact("sweep")[0] == len(SHARDS)
    assert results.read("sweep", "confidence").to_pylist() == tables["confidence"]


SHARDS = ("members", "epochs", "layers", "samples", "confidence")
"""The tables of `TRIAL` that have rows."""


@pytest.mark.usefixtures("fifth")
def test_the_rows_of_a_fifth_lens_outlast_a_stop(tmp_path: Path):
    store = Results.at(tmp_path).checkpoints("sweep")
    whole = run.run(TRIAL, NOWHERE, backend="single")

    def stop(fraction: float) -> None:
        if fraction == 0.75:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run.run(TRIAL, NOWHERE, "cpu", stop, "single", store, 0)
    resumed = run.run(TRIAL, NOWHERE, "cpu", lambda _: None, "single", store, 0)
    assert resumed.tables["confidence"] == whole.tables["confidence"]
    assert resumed.tables["samples"] == whole.tables["samples"]


@pytest.mark.usefixtures("fifth")
def test_a_fifth_lens_that_is_not_wanted_measures_nothing():
    records = run.run(replace(TRIAL, samples="none", seed=(0,)), NOWHERE, backend="single")
    assert records.tables["confidence"] == []
    assert "confidence" not in records.members[0]


# What all lenses share


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[tuple[int, ...]]]:
    """The shapes of the batches that go through a network in eval mode."""
    shapes: list[tuple[int, ...]] = []
    forward = Single.forward

    def counted(self: Pack, images: torch.Tensor, regularizer: str = "none") -> tuple[torch.Tensor, torch.Tensor]:
        if not self.networks[0].training:
            shapes.append(tuple(images.shape))
        return forward(self, images, regularizer)

    monkeypatch.setattr(Single, "forward", counted)
    return shapes


def measured(data: Dataset, **settings: object) -> None:
    trial = small_trial(epochs=2, samples="scores", **settings)
    corrupted = corrupt(data.train, data.classes, trial.corruption, trial.k, 0)
    run.run_pack([Member(trial, 0, corrupted)], data, "cpu", "single", lambda _: None, Checkpoints())


def test_logits_are_computed_once_for_all_lenses(tiny: Dataset, passes: list[tuple[int, ...]], monkeypatch):
    measured(tiny)
    # D' and the test set after each of two epochs, and none at the end.
    assert [shape[1] for shape in passes] == [40, 12] * 2
    passes.clear()
    another = SimpleNamespace(wanted=lambda _: True, at_end=lambda trained: {0: Measurement(vars(trained.logits))})
    add(monkeypatch, another)
    measured(tiny)
    assert [shape[1] for shape in passes] == [40, 12] * 2


def test_logits_are_computed_anew_at_the_weights_of_the_best_epoch(tiny: Dataset, passes: list[tuple[int, ...]]):
    measured(replace(tiny, validation=tiny.test), validation=0.2, stopping="best")
    assert [shape[1] for shape in passes] == [40, 12, 12] * 3


def test_nothing_is_computed_that_no_lens_asks_for(tiny: Dataset, passes: list[tuple[int, ...]]):
    network = build.build("lenet", tiny.shape, tiny.classes, "batch", 0)
    trained = Trained(Single([network]), [Member(small_trial(), 0, corrupt(tiny.train, 4, "label", 0.25, 0))], tiny, 0)
    assert passes == []
    assert trained.logits is trained.logits
    assert len(passes) == 2


def test_a_lens_refuses_a_network_before_any_training(monkeypatch: pytest.MonkeyPatch):
    def check(trial: Trial, network: torch.nn.Module, data: Dataset) -> None:
        raise BadInputError(f"{type(network).__name__} on {data.classes} classes with k={trial.k:g} is not for me.")

    add(monkeypatch, SimpleNamespace(wanted=lambda trial: trial.k > 0, check=check))
    monkeypatch.setattr(run, "run_pack", lambda *_: pytest.fail("it was trained"))
    with pytest.raises(BadInputError, match=r"Sequential on 10 classes with k=0\.1 is not for me"):
        run.run(TRIAL, NOWHERE)


def test_two_lenses_with_a_column_of_one_name_are_a_mistake():
    with pytest.raises(KeyError, match="two lenses measure sure"):
        merge([Measurement(members={"sure": 1}), Measurement(members={"sure": 2})])
    merged = merge([Measurement(members={"sure": 1}), Measurement(samples={"sure": 2}), Measurement({"unsure": 3})])
    assert (merged.members, merged.samples) == ({"sure": 1, "unsure": 3}, {"sure": 2})
