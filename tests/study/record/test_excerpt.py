"""Excerpts: what is taken in is read as it was, and nothing that was there before is lost, whoever is killed."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from study.errors import DamagedError
from study.record import excerpt as excerpts
from study.record.excerpt import excerpt, thinned, write
from study.record.results import Results
from study.record.schema import SCHEMAS
from study.storage.store import LocalStore
from tests.study.record.test_compaction import IDS
from tests.study.record.test_results import MEMBER, OTHERS

EPOCHS = 12


def rows(*trials: str, loss: float = 0.1, **member: Any) -> dict[str, pa.Table]:
    points = [
        {
            "trial": trial,
            "member": 0,
            "epoch": epoch,
            "step": 9 * epoch,
            "mem_acc": epoch % 2 / 3,
            "mem_loss": loss / epoch,
        }
        for trial in trials
        for epoch in range(1, EPOCHS + 1)
    ]
    return {
        "members": pa.Table.from_pylist([{**MEMBER, **member, "trial": trial} for trial in trials], SCHEMAS["members"]),
        "epochs": pa.Table.from_pylist(points, SCHEMAS["epochs"]),
    }


@pytest.fixture
def into(tmp_path: Path) -> Results:
    return Results.at(tmp_path / "evidence")


def add(into: Results, *trials: str, **given: Any) -> excerpts.Excerpt:
    content = excerpt(into, "sweep", rows(*trials, **given))
    write(into, content)
    return content


def files(into: Results) -> set[str]:
    folder = Path(into.location)
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def test_what_is_taken_in_is_read_as_it_was(into: Results):
    add(into, *IDS)
    taken = rows(*sorted(IDS))
    assert into.read("sweep", "members").equals(taken["members"])
    read = into.read("sweep", "epochs")
    assert read.drop_columns("mem_loss").equals(taken["epochs"].drop_columns("mem_loss"))
    assert into.done("sweep") == set(IDS)
    assert len(into.read("sweep", "epochs", ["epoch"], {IDS[1]})) == EPOCHS


def test_numbers_that_do_not_repeat_have_the_digits_of_float32(into: Results):
    add(into, *IDS, loss=1 / 3)
    exact, read = (
        table["mem_loss"].to_numpy()
        for table in (rows(*sorted(IDS), loss=1 / 3)["epochs"], into.read("sweep", "epochs"))
    )
    assert (read == exact.astype("float32").astype("float64")).sum() == 0 or abs(read / exact - 1).max() < 2**-24


def test_cells_are_added_and_replaced_and_none_is_lost(into: Results):
    add(into, *IDS[:3])
    content = add(into, *IDS[2:], clean_acc=0.25)
    assert (content.added, content.replaced) == (sorted(IDS[3:]), [IDS[2]])
    found = {row["trial"]: row["clean_acc"] for row in into.read("sweep", "members").to_pylist()}
    assert found == {trial: MEMBER["clean_acc"] if trial in IDS[:2] else 0.25 for trial in IDS}
    assert len(into.read("sweep", "epochs")) == EPOCHS * len(IDS)


def test_there_is_one_file_a_table_and_one_manifest(into: Results):
    for trial in IDS:
        add(into, trial)
    assert [name.partition("-")[0] for name in sorted(files(into))] == [
        "sweep/compact/000005",
        "sweep/epochs/compacted",
        "sweep/members/compacted",
    ]


def test_nothing_is_written_where_nothing_is_new(into: Results):
    add(into, *IDS)
    before = files(into)
    content = add(into, *IDS)
    assert (content.added, content.replaced, files(into)) == ([], [], before)


def test_a_table_that_is_not_given_stays(into: Results):
    add(into, *IDS)
    write(into, excerpt(into, "sweep", {"members": rows(*IDS)["members"]}))
    assert len(into.read("sweep", "epochs")) == EPOCHS * len(IDS)


def test_of_epochs_some_are_kept_and_always_the_ends(into: Results):
    add(into, IDS[0])
    write(into, excerpt(into, "sweep", rows(IDS[1]), {"epochs": 5}))
    assert thinned(into, "sweep") == {"epochs": {IDS[1]: 5}}
    kept = into.read("sweep", "epochs", ["epoch"], {IDS[1]})["epoch"].to_pylist()
    assert kept == [1, 5, 10, 12]
    assert len(into.read("sweep", "epochs", trials={IDS[0]})) == EPOCHS
    add(into, IDS[1])
    assert thinned(into, "sweep") == {}


def test_epochs_at_which_the_mechanism_was_measured_are_kept(into: Results):
    margins = [{**OTHERS["margins"], "trial": IDS[0], "member": 0, "epoch": epoch} for epoch in (2, 7)]
    given = {**rows(IDS[0]), "margins": pa.Table.from_pylist(margins, SCHEMAS["margins"])}
    write(into, excerpt(into, "sweep", given, {"epochs": 5}))
    assert into.read("sweep", "epochs", ["epoch"])["epoch"].to_pylist() == [1, 2, 5, 7, 10, 12]
    assert len(into.read("sweep", "margins")) == 2


def test_shards_of_trials_that_ran_into_it_are_taken_in(into: Results):
    into.write("sweep", IDS[0], {name: table.to_pylist() for name, table in rows(IDS[0]).items()})
    add(into, IDS[1])
    assert into.done("sweep") == set(IDS[:2])
    assert not any(IDS[0] in name for name in files(into))


def test_it_is_small(into: Results, tmp_path: Path):
    """What a column takes is no more than its numbers need, and the descriptions are left out."""
    whole = Results.at(tmp_path / "whole")
    for trial in IDS:
        whole.write("sweep", trial, rows(trial))
    whole.compact("sweep")
    add(into, *IDS)
    sizes = [sum(path.stat().st_size for path in Path(folder.location).rglob("*.parquet")) for folder in (whole, into)]
    assert sizes[1] < sizes[0] / 2


class StoppedError(Exception):
    """The process is killed."""


@pytest.mark.parametrize("call", range(3))
@pytest.mark.parametrize("method", ["put", "delete"])
def test_a_kill_at_any_moment_loses_nothing(into: Results, monkeypatch: pytest.MonkeyPatch, method: str, call: int):
    add(into, *IDS[:3])
    calls = iter(range(99))
    original = getattr(LocalStore, method)

    def stopped(self: LocalStore, *arguments: Any) -> None:
        if next(calls) == call:
            raise StoppedError
        original(self, *arguments)

    monkeypatch.setattr(LocalStore, method, stopped)
    with pytest.raises(StoppedError):
        add(into, *IDS[2:], clean_acc=0.25)
    monkeypatch.undo()
    found = {row["trial"]: row["clean_acc"] for row in into.read("sweep", "members").to_pylist()}
    assert found.keys() in ({*IDS[:3]}, {*IDS})
    assert len(into.read("sweep", "members")) == len(found)
    assert [found[trial] for trial in IDS[:2]] == [MEMBER["clean_acc"]] * 2
    add(into, *IDS[2:], clean_acc=0.25)
    assert into.done("sweep") == set(IDS)
    assert len(files(into)) == 3


def test_two_that_write_at_once_lose_nothing(into: Results):
    add(into, IDS[0])
    mine, other = (excerpt(into, "sweep", rows(trial)) for trial in IDS[1:3])
    write(into, mine)
    write(into, other)
    assert into.done("sweep") == set(IDS[:3])
    add(into, IDS[3])
    assert into.done("sweep") == set(IDS[:4])
    assert len(files(into)) == 3


def test_a_damaged_excerpt_is_not_written_over(into: Results):
    add(into, *IDS)
    (file,) = (Path(into.location) / "sweep" / "epochs").iterdir()
    file.write_bytes(b"no Parquet")
    with pytest.raises(DamagedError):
        add(into, *IDS)
    assert file.read_bytes() == b"no Parquet"
