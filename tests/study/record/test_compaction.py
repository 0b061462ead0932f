"""Compaction: whatever happens during it, and whoever reads meanwhile, each member is there, and once."""

import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest

from study.errors import BadInputError
from study.record import compaction
from study.record import shards as shard_files
from study.record.results import Results
from study.record.schema import SCHEMA_VERSION, SCHEMAS
from study.storage import store
from study.storage.store import LocalStore
from tests.patience import PATIENCE_S, wait_until
from tests.study.record.test_results import MEMBER, OTHERS, files

IDS = [f"{number * 7919:016x}" for number in range(5)]
TABLES = ("members", "epochs", "samples")
TRACED = {compaction.__file__, shard_files.__file__, store.__file__}
"""The files whose lines are what a compaction does; reading is left out, which changes nothing."""
COMPACTION = ("compact", "_finish", "_merge", "_write_together", "_clear", "writer", "put", "move", "delete", "sync")


def write(results: Results, trial: str, seeds: int = 2, status: str = "ok") -> None:
    rows = [{**MEMBER, "trial": trial, "member": member, "status": status} for member in range(seeds)]
    points = [
        {**OTHERS["epochs"], "trial": trial, "member": member, "epoch": epoch}
        for member in range(seeds)
        for epoch in (1, 2)
    ]
    # Each shard has a dictionary of its own.
    sample = {**OTHERS["samples"], "trial": trial, "group": f"group of {trial}"}
    results.write("sweep", trial, {"members": rows, "epochs": points, "samples": [sample]})


def write_two_tables(results: Results, trial: str) -> None:
    tables = {"members": [{**MEMBER, "trial": trial}], "epochs": [{**OTHERS["epochs"], "trial": trial}]}
    results.write("sweep", trial, tables)


@pytest.fixture(params=["folder", "store"])
def results(request: pytest.FixtureRequest, tmp_path: Path) -> Results:
    found = Results.at(tmp_path / "results" if request.param == "folder" else request.getfixturevalue("store").uri())
    for trial in IDS:
        write(found, trial)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Results:
    found = Results.at(tmp_path / "results")
    for trial in IDS:
        write(found, trial)
    return found


def content(results: Results) -> dict[str, list[dict[str, object]]]:
    """All rows, read as by a process that has just been started."""
    fresh = Results(results.location)
    return {table: fresh.read("sweep", table).to_pylist() for table in TABLES}


def plain_rows(results: Results, table: str = "members") -> list[tuple[str, int]]:
    """The trial and member of each row, as pandas reads the table's folder, sorted."""
    frame = pd.read_parquet(Path(results.location) / "sweep" / table)
    return sorted(zip(frame["trial"], frame["member"], strict=True))


def shards(results: Results) -> int:
    return sum(len(shard_files.shards_of(results.store, "sweep", table)) for table in SCHEMAS)


def test_what_is_read_is_the_same_in_the_same_order_and_type(results):
    before = {table: results.read("sweep", table) for table in SCHEMAS}
    assert results.compact("sweep") == (15, 3)
    assert shards(results) == 0
    assert len(results.store.list("sweep/compact")) == 1
    assert [len(results.store.list(f"sweep/{table}")) for table in TABLES] == [1] * 3
    assert results.sweeps() == ["sweep"]
    assert results.done("sweep") == set(IDS)
    for table, rows in before.items():
        assert results.read("sweep", table).schema.equals(SCHEMAS[table])
        assert results.read("sweep", table).to_pylist() == rows.to_pylist()
    two = {IDS[3], IDS[1], "not there"}
    assert results.read("sweep", "epochs", ["epoch"], two).to_pydict() == {"epoch": [1, 2] * 4}
    assert results.read("sweep", "members", ["trial"], two)["trial"].to_pylist() == [IDS[1]] * 2 + [IDS[3]] * 2
    assert results.read("sweep", "members", trials={"not there"}).num_rows == 0
    assert [results.ran("sweep", trial) for trial in (IDS[0], "not there")] == [True, False]


def test_a_second_time_changes_nothing(folder, tmp_path):
    folder.compact("sweep")
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    assert folder.compact("sweep") == (0, 0)
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)} == before


def test_nothing_is_made_of_nothing(tmp_path):
    assert Results.at(tmp_path / "none").compact("sweep") == (0, 0)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_that_is_run_again_counts_and_can_be_compacted_again(results):
    write(results, IDS[2], status="failed")
    results.compact("sweep")
    assert not results.ran("sweep", IDS[2])
    if not results.is_local:
        written = int(time.time())
        wait_until(lambda: time.time() >= written + 1)  # a store tells the time of a change in whole seconds
    write(results, IDS[2], seeds=3)
    write(results, "f" * 16)
    for again in (False, True):
        assert results.compact("sweep") == (6, 3) if again else shards(results) == 6
        assert results.ran("sweep", IDS[2])
        members = results.read("sweep", "members")
        assert members["trial"].to_pylist() == sorted([*IDS * 2, IDS[2], *["f" * 16] * 2])
        assert set(members["status"].to_pylist()) == {"ok"}
        assert results.read("sweep", "epochs", ["epoch"]).num_rows == len(members) * 2
        assert results.read("sweep", "samples", ["group"]).to_pydict() == {
            "group": [f"group of {trial}" for trial in sorted([*IDS, "f" * 16])]
        }
    assert shards(results) == 0


def test_a_trial_that_is_not_done_is_left_alone(folder):
    folder.write("sweep", "a" * 16, {"epochs": [{**OTHERS["epochs"], "trial": "a" * 16}]})
    before = content(folder)
    folder.compact("sweep")
    assert shards(folder) == 1
    assert content(folder) == before
    write(folder, "a" * 16)
    assert folder.compact("sweep") == (3, 3)


class Killed(BaseException):
    """Nothing catches it."""


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # a writer that nobody has closed
def test_stopped_before_any_line_it_has_one_record_of_each_and_is_taken_up(tmp_path, monkeypatch):
    """The lines of a compaction in turn, one that takes in an earlier one; what a line calls is whole or not at all."""
    monkeypatch.setattr(compaction, "SCHEMAS", {table: SCHEMAS[table] for table in ("members", "epochs")})
    folder, line, spare = Results.at(tmp_path / "results"), 0, tmp_path / "spare"
    write_two_tables(folder, IDS[0])
    folder.compact("sweep")
    write_two_tables(folder, IDS[1])
    expected, plain = content(folder), {table: plain_rows(folder, table) for table in ("members", "epochs")}
    shutil.copytree(folder.location, spare)
    ended = False
    while not ended:
        left, line = line, line + 1

        def trace(frame, event, value):
            nonlocal left
            if frame.f_code.co_filename not in TRACED or frame.f_code.co_name not in COMPACTION:
                return None
            if event == "line":
                left -= 1
                if left < 0:
                    raise Killed
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            folder.compact("sweep")
            ended = True
        except Killed:
            pass
        finally:
            sys.settrace(before)
        assert content(folder) == expected, line
        assert {table: sorted(set(plain_rows(folder, table))) for table in plain} == plain, line
        folder.compact("sweep")
        assert content(folder) == expected, line
        assert {table: plain_rows(folder, table) for table in plain} == plain, line
        assert shards(folder) == 0
        assert len(folder.store.list("sweep/members")) == 1
        shutil.rmtree(folder.location)
        shutil.copytree(spare, folder.location)
    assert line > 60


def test_stopped_while_it_removes_shards_it_goes_on(folder, tmp_path):
    expected, spare = content(folder), tmp_path / "spare"
    shutil.copytree(folder.location, spare)
    folder.compact("sweep")
    removed = sorted(path for path in files(spare) if path.endswith(".parquet"))
    for kept in range(len(removed)):
        for name in removed[kept:]:
            shutil.copy2(spare / name, Path(folder.location) / name)
        assert content(folder) == expected
        assert folder.compact("sweep") == (0, 0)
        assert shards(folder) == 0
    # Of shards that are not the files that were taken in, nobody knows whether they have the same rows.
    for name in removed[:4]:
        shutil.copy(spare / name, Path(folder.location) / name)
    assert folder.compact("sweep")[0] == 4
    assert content(folder) == expected


@pytest.mark.slow
@pytest.mark.parametrize(("option", "removals"), [("", 2), ("&disable_bulk_delete=true", 4)])
def test_a_store_that_is_lost_at_any_request_has_one_record_of_each(store, option, removals):
    """Whether it takes the shards of a table away in one request, or each in one."""
    requests, lost = 0, True
    while lost:
        results = Results.at(store.uri() + option)
        for trial in IDS[:2]:
            write_two_tables(results, trial)
        expected = content(results)
        store.left = requests
        try:
            results.compact("sweep")
            lost = False
        except OSError:
            requests += 1
        store.left = None
        assert content(results) == expected, requests
        Results(results.location).compact("sweep")
        assert content(results) == expected, requests
        assert shards(results) == 0
    assert requests >= 2 + 1 + removals  # the files and the manifest come before


def test_a_shard_that_changes_meanwhile_stays_and_counts(folder, monkeypatch):
    put = LocalStore.put

    def just_then(self, name, content):
        if name.endswith(".json"):
            write(folder, IDS[0], seeds=4)
        put(self, name, content)

    monkeypatch.setattr(LocalStore, "put", just_then)
    folder.compact("sweep")
    monkeypatch.undo()
    assert folder.read("sweep", "members", ["member"], {IDS[0]}).to_pydict() == {"member": [0, 1, 2, 3]}
    assert folder.compact("sweep") == (3, 3) or shards(folder) == 0
    assert folder.read("sweep", "members", ["member"], {IDS[0]}).to_pydict() == {"member": [0, 1, 2, 3]}


def test_a_trial_that_is_run_again_keeps_all_tables_though_a_shard_passes_for_the_same(folder, tmp_path):
    expected = content(folder)
    folder.compact("sweep")
    (manifest,) = (tmp_path / "results" / "sweep" / "compact").glob("*.json")
    write(folder, IDS[0])
    # Written in the same tick of a store's clock as the one that was taken in.
    same = tmp_path / "results" / "sweep" / "samples" / f"{IDS[0]}.parquet"
    size, changed_ns = json.loads(manifest.read_text())["shards"]["samples"][IDS[0]]
    os.utime(same, ns=(changed_ns, changed_ns))
    assert same.stat().st_size == size
    folder.compact("sweep")
    assert content(folder) == expected


@pytest.mark.slow
def test_who_reads_meanwhile_sees_each_member_once(results):
    expected = content(results)
    wrong: list[object] = []
    ended = threading.Event()
    reads = [0, 0]

    def read(which: int) -> None:
        while not ended.is_set() and not wrong:
            try:
                found = content(results)
                if found != expected or Results(results.location).done("sweep") != set(IDS):
                    wrong.append(found)
            except Exception as error:
                wrong.append(error)
            reads[which] += 1

    readers = [threading.Thread(target=read, args=(which,)) for which in range(2)]
    for reader in readers:
        reader.start()
    for _ in range(8 if results.is_local else 3):
        results.compact("sweep")
        for trial in IDS:
            write(results, trial)
    results.compact("sweep")
    ended.set()
    for reader in readers:
        reader.join()
    assert not wrong
    assert min(reads) > 3
    assert content(results) == expected


def corrupt(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:100])


def compacted(results: Results, ending: str) -> Path:
    table = ending.removeprefix(".").removesuffix(".parquet")
    folder, pattern = ("compact", "*.json") if ending == ".json" else (table, "compacted-*.parquet")
    (path,) = (Path(results.location) / "sweep" / folder).glob(pattern)
    return path


@pytest.mark.parametrize("ending", [".members.parquet", ".samples.parquet", ".json"])
def test_a_damaged_file_of_many_is_refused_by_name_and_set_aside_with_all_its_trials(folder, ending):
    folder.compact("sweep")
    write(folder, "f" * 16)
    damaged = compacted(folder, ending)
    corrupt(damaged)
    with pytest.raises(BadInputError, match="retry") as caught:
        content(folder)
    assert str(damaged) in str(caught.value)
    assert folder.quarantine_damaged("sweep") == (set() if ending == ".json" else set(IDS))
    assert folder.done("sweep") == {"f" * 16}
    assert {row["trial"] for rows in content(folder).values() for row in rows} == {"f" * 16}
    assert folder.quarantine_damaged("sweep") == set()


def test_a_file_of_many_that_is_gone_is_missed(folder):
    folder.compact("sweep")
    compacted(folder, ".epochs.parquet").unlink()
    with pytest.raises(BadInputError, match="listed but not there"):
        folder.read("sweep", "epochs")
    folder.quarantine_damaged("sweep")
    assert folder.done("sweep") == set()


def test_a_damaged_shard_that_was_compacted_before_is_had_from_there(folder, tmp_path):
    expected, name = content(folder), f"sweep/members/{IDS[0]}.parquet"
    shutil.copytree(folder.location, tmp_path / "spare")
    folder.compact("sweep")
    shutil.copy(tmp_path / "spare" / name, Path(folder.location) / name)
    corrupt(Path(folder.location) / name)
    assert folder.quarantine_damaged("sweep") == {IDS[0]}
    assert content(folder) == expected


def test_a_damaged_shard_is_refused_and_all_are_kept(folder, tmp_path):
    corrupt(Path(folder.location) / "sweep" / "samples" / f"{IDS[4]}.parquet")
    before = files(tmp_path)
    with pytest.raises(BadInputError, match="truncated"):
        folder.compact("sweep")
    assert set(files(tmp_path)) >= set(before)
    assert shards(folder) == 15
    assert folder.done("sweep") == set(IDS)


def test_what_a_killed_compaction_leaves_is_removed_by_one_of_another_day(folder):
    folder.compact("sweep")
    place = compacted(folder, ".json").parent
    yesterday = time.time() - 2 * 24 * 3600
    for path in place.iterdir():
        os.utime(path, (yesterday, yesterday))
    (place / "000002-old.members.parquet").write_bytes(b"half")
    os.utime(place / "000002-old.members.parquet", (yesterday, yesterday))
    (place / "000002-new.members.parquet").write_bytes(b"half")
    write(folder, "f" * 16)
    expected = content(folder)
    folder.compact("sweep")
    assert content(folder) == expected
    left = sorted(path.name for path in place.iterdir())
    assert "000002-new.members.parquet" in left
    assert "000002-old.members.parquet" not in left
    assert len(left) == 2 + 1


def test_a_manifest_of_another_version_is_refused(folder):
    folder.compact("sweep")
    path = compacted(folder, ".json")
    path.write_text(path.read_text().replace(f'"schema_version": {SCHEMA_VERSION}', '"schema_version": 99'))
    for attempt in (folder.done, folder.compact, folder.quarantine_damaged):
        with pytest.raises(BadInputError, match="has schema version 99, this normleak reads"):
            attempt("sweep")


def test_pandas_reads_all_rows_of_a_folder_before_during_and_after(folder):
    expected, wrong = plain_rows(folder), []
    ended, reads = threading.Event(), 0

    def read() -> None:
        nonlocal reads
        while not ended.is_set() and not wrong:
            try:
                rows = plain_rows(folder)
            except (OSError, pa.ArrowException):  # a file was removed after it was listed
                continue
            reads += 1
            if sorted(set(rows)) != expected:
                wrong.append(rows)

    reader = threading.Thread(target=read)
    reader.start()
    for _ in range(5):
        folder.compact("sweep")
        before = reads
        wait_until(lambda before=before: reads > before or wrong)
        for trial in IDS:
            write(folder, trial)
    folder.compact("sweep")
    ended.set()
    reader.join()
    assert not wrong
    assert reads
    assert plain_rows(folder) == expected


def test_a_sweep_that_grows_has_few_files_however_often_it_is_compacted(folder):
    ids = [f"{number * 7919 % 64:016x}" for number in range(64)]
    expected, most = content(folder), 0
    for start in range(0, 64, 4):
        for trial in ids[start : start + 4]:
            write(folder, trial)
        expected = content(folder)
        folder.compact("sweep")
        most = max(most, len(folder.store.list("sweep/members")))
        assert len(folder.store.list("sweep/compact")) == len(folder.store.list("sweep/members"))
    assert most <= 5
    assert content(folder) == expected
    write(folder, ids[3], seeds=3)
    write(folder, IDS[0], status="failed")
    expected = content(folder)
    folder.compact("sweep")
    assert content(folder) == expected


def test_what_was_run_again_with_fewer_tables_has_no_rows_of_before(folder):
    folder.compact("sweep")
    row = {**MEMBER, "trial": IDS[0], "status": "failed"}
    for trial in IDS:
        folder.write("sweep", trial, {"members": [{**row, "trial": trial}]})
    folder.compact("sweep")
    assert [len(folder.read("sweep", table)) for table in TABLES] == [5, 0, 0]
    assert len(folder.store.list("sweep/compact")) == 1
    assert plain_rows(folder) == sorted((trial, 0) for trial in IDS)
    assert folder.store.list("sweep/epochs") == []


def test_large_shards_stay_and_files_of_many_are_not_too_large(folder, monkeypatch):
    expected = content(folder)
    monkeypatch.setattr(compaction, "LARGE_BYTES", 1)
    assert folder.compact("sweep") == (0, 0)
    sizes = [file.size for file in folder.store.list("sweep/members")]
    monkeypatch.setattr(compaction, "LARGE_BYTES", 2**20)
    monkeypatch.setattr(compaction, "MOST_BYTES", max(sizes) * 2)
    assert folder.compact("sweep") == (15, 9)
    assert [len(folder.store.list(f"sweep/{table}")) for table in ("members", "compact")] == [3, 3]
    assert content(folder) == expected


def test_few_shards_stay_and_what_goes_wrong_is_told_and_stops_nothing(store):
    results = Results.at(store.uri())
    for trial in IDS:
        write(results, trial)
    before = content(results)
    assert results.compact_many("sweep") == ""
    assert shards(results) == 15
    results.store.many = 5
    # It lets nobody remove anything.
    store.left = 1
    assert "403 Forbidden" in results.compact_many("sweep")
    store.left = None
    assert (shards(results), content(results)) == (15, before)
    assert results.compact_many("sweep") == ""
    assert (shards(results), content(results)) == (0, before)


def test_few_shards_are_taken_in_where_their_trials_have_rows_in_a_file_of_many(folder):
    folder.compact("sweep")
    write(folder, IDS[1], seeds=3)
    expected = content(folder)
    assert folder.compact_many("sweep") == ""
    assert (shards(folder), content(folder)) == (0, expected)
    # The rows of before are gone.
    assert plain_rows(folder) == sorted([*((trial, member) for trial in IDS for member in (0, 1)), (IDS[1], 2)])


def test_what_ran_is_asked_of_many_trials_at_once(results):
    write(results, IDS[1], status="failed")
    results.compact("sweep")
    write(results, IDS[0], status="failed")
    write(results, "f" * 16)
    assert results.ran_of("sweep", {*IDS, "f" * 16, "not there"}) == {*IDS[2:], "f" * 16}
    assert results.ran_of("sweep", ()) == set()


def test_the_shards_of_a_store_are_checked_side_by_side(store, monkeypatch):
    results, together = Results.at(store.uri()), threading.Barrier(len(IDS), timeout=PATIENCE_S)
    for trial in IDS:
        results.write("sweep", trial, {"members": [{**MEMBER, "trial": trial}]})
    monkeypatch.setattr("study.record.results.is_readable", lambda *_: together.wait() >= 0)
    assert results.quarantine_damaged("sweep") == set()


def test_files_of_before_are_moved_to_their_tables(tmp_path):
    golden = Path(__file__).parents[2] / "golden" / "schema_2"
    shutil.copytree(golden / "compacted", tmp_path / "results")
    folder = Results.at(tmp_path / "results")
    before = folder.read("membership", "samples").to_pylist()
    assert folder.compact("membership") == (0, 0)
    assert folder.read("membership", "samples").to_pylist() == before
    assert len(pd.read_parquet(tmp_path / "results" / "membership" / "members")) == 12
    assert files(tmp_path / "results" / "membership" / "compact") == ["000001-f1ebe94c3a8a4de8a3e8f99c3c7fa388.json"]


def test_many_trials_are_read_by_their_part_of_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(compaction, "ROWS_A_GROUP", compaction.READ_AT_ONCE)
    results = Results.at(tmp_path)
    ids = [f"{number:016x}" for number in range(150)]
    for trial in ids:
        write(results, trial, seeds=1)
    before = content(results)
    results.compact("sweep")
    assert content(results) == before
    with pa.parquet.ParquetFile(compacted(results, ".members.parquet")) as file:
        assert file.num_row_groups == 3
        assert list(shard_files.row_groups_of(file.metadata, {ids[70]})) == [1]
    assert results.read("sweep", "members", ["trial"], {ids[70], ids[149]})["trial"].to_pylist() == [ids[70], ids[149]]


@pytest.fixture(autouse=True)
def no_trace_is_left() -> Iterator[None]:
    before = sys.gettrace()
    yield
    assert sys.gettrace() is before
