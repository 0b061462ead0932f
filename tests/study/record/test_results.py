import json
import math
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.errors import BadInputError
from study.record.results import Results
from study.record.schema import SCHEMA_VERSION, SCHEMAS

TRIAL = "0123456789abcdef"
MEMBER = {
    "trial": TRIAL,
    "member": 0,
    "cell": "fedcba9876543210",
    "dataset": "parquet:flöwers@00000000",
    "k": 0.1,
    "lr": 1e-4,
    "epochs": 200,
    "seed": 2**62,
    "n_out": 2**40,
    "mem_acc": None,
    "mem_loss": math.inf,
    "clean_acc": 1 / 3,
    "status": "ok",
    "git_dirty": False,
    "started": datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC),
}
POINT = {"trial": TRIAL, "member": 0, "epoch": 1, "step": 2**40, "test_acc": 0.25}

LAYER = {"trial": TRIAL, "member": 0, "epoch": 1, "layer": "1", "depth": 0, "channels": 6, "ratio_mean": 1.5}
SAMPLE = {"trial": TRIAL, "member": 0, "sample": 7, "group": "clean", "label": 3, "is_member": True, "score": -0.5}
ATTACK = {"trial": TRIAL, "member": 0, "attack": "lira_online", "group": "all", "auc": 0.5, "n_in": 7}
IMAGE = {"trial": TRIAL, "seed": 3, "sample": 7, "in_acc": 1.0, "out_acc": 0.0, "image": b"PNG"}
MARGIN = {"trial": TRIAL, "member": 0, "epoch": 0, "sample": 7, "group": "clean", "margin": -30.5, "grad_norm": 1e-50}
PULL = {"trial": TRIAL, "member": 0, "epoch": 0, "layer": "1", "depth": 0, "size_in": 0.5, "push_in": -0.25}
ATTACKED = {"trial": TRIAL, "member": 0, "suite": "pixel", "perturbation": "pgd", "epsilon": 0.1, "acc": 0.25}
POSITION = {"trial": TRIAL, "member": 0, "epoch": 0, "layer": "input", "batch": 1, "sample": 7, "label": 3, "x": -1.5}
OTHERS = {
    **{"epochs": POINT, "layers": LAYER, "margins": MARGIN, "gamma_gradients": PULL},
    **{"samples": SAMPLE, "attacks": ATTACK, "images": IMAGE},
    **{"robustness": ATTACKED, "activations": POSITION},
}


@pytest.fixture
def results(tmp_path: Path) -> Results:
    return Results.at(tmp_path / "results")


def shard(results: Results, table: str = "members", trial: str = TRIAL) -> Path:
    return Path(results.location) / "sweep" / table / f"{trial}.parquet"


def write(results: Results, trial: str = TRIAL, members: int = 1) -> None:
    rows = [{**MEMBER, "trial": trial, "member": member} for member in range(members)]
    others = {table: [{**row, "trial": trial}] for table, row in OTHERS.items()}
    results.write("sweep", trial, {"members": rows, **others})


def refusal(results: Results, table: str = "members") -> str:
    with pytest.raises(BadInputError) as caught:
        results.read("sweep", table)
    message = str(caught.value)
    assert "\n" not in message
    return message


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Round trips


def test_what_is_written_is_read_back_in_type_and_value(results):
    write(results)
    (row,) = results.read("sweep", "members").to_pylist()
    assert {name: row[name] for name in MEMBER} == MEMBER
    assert row["schema_version"] == SCHEMA_VERSION
    assert {name for name, value in row.items() if value is not None} == {
        *(name for name, value in MEMBER.items() if value is not None),
        "schema_version",
    }
    (point,) = results.read("sweep", "epochs").to_pylist()
    assert {name: value for name, value in point.items() if value is not None} == POINT


@pytest.mark.parametrize("table", SCHEMAS)
def test_a_table_has_its_schema_whether_it_has_rows_or_not(results, table):
    assert results.read("sweep", table).schema.equals(SCHEMAS[table])
    write(results)
    results.write("sweep", "f" * 16, {"members": [], "epochs": []})
    assert results.read("sweep", table).schema.equals(SCHEMAS[table])
    assert results.read("sweep", table).num_rows == 1


def test_shards_come_in_the_order_of_their_ids(results):
    ids = [f"{number:016x}" for number in (9, 3, 12, 1)]
    for trial in ids:
        write(results, trial, members=2)
    table = results.read("sweep", "members")
    assert table["trial"].to_pylist() == [trial for trial in sorted(ids) for _ in range(2)]
    assert table["member"].to_pylist() == [0, 1] * 4


def test_a_column_of_many_shards_comes_in_few_pieces(results, monkeypatch):
    monkeypatch.setattr(type(results.store), "readers", 1)
    trials = [f"{number:016x}" for number in range(40)]
    for trial in trials:
        results.write("sweep", trial, {"members": [{**MEMBER, "trial": trial}]})
    found = results.read("sweep", "members")
    assert found["trial"].to_pylist() == trials
    assert {column.num_chunks for column in found.columns} == {4}


def test_columns_can_be_chosen(results):
    chosen = ["trial", "k", "status"]
    assert results.read("sweep", "members", chosen).schema.names == chosen
    write(results)
    assert results.read("sweep", "members", chosen).to_pylist() == [{"trial": TRIAL, "k": 0.1, "status": "ok"}]


def test_a_shard_can_be_read_without_this_project_and_says_what_it_is(results):
    write(results)
    table = pq.read_table(shard(results, "epochs"))
    assert table.schema.metadata[b"normleak_table"] == b"epochs"
    assert table.schema.metadata[b"normleak_schema_version"] == str(SCHEMA_VERSION).encode()
    assert table["test_acc"].to_pylist() == [0.25]


def test_a_column_that_no_schema_knows_is_a_mistake_and_leaves_the_trial_undone(results):
    with pytest.raises(KeyError, match="members has no column memorised"):
        results.write("sweep", TRIAL, {"members": [{**MEMBER, "memorised": 1}], "epochs": [POINT]})
    assert results.done("sweep") == set()


def test_a_trial_that_is_written_again_replaces_its_shard(results):
    write(results, members=3)
    write(results, members=1)
    assert results.read("sweep", "members").num_rows == 1


# Places


def test_a_uri_is_the_same_place_as_a_path(tmp_path):
    folder = tmp_path / "some results"
    by_path, by_uri = Results.at(folder), Results.at(folder.as_uri())
    write(by_uri)
    assert by_path.done("sweep") == by_uri.done("sweep") == {TRIAL}
    assert by_path.sweeps() == by_uri.sweeps() == ["sweep"]
    assert by_path.read("sweep", "epochs").equals(by_uri.read("sweep", "epochs"))
    assert files(folder) == [f"sweep/{table}/{TRIAL}.parquet" for table in sorted(SCHEMAS)]


def test_a_relative_path_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    results = Results.at("results")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write(results)
    assert files(tmp_path / "results")
    assert str(results) == str(tmp_path / "results")


@pytest.mark.parametrize("location", ["gopher://somewhere/results", "file://results"])
def test_a_uri_that_can_not_be_opened_is_refused_in_one_sentence(location):
    with pytest.raises(BadInputError, match="can't be opened") as caught:
        Results.at(location).check_writable()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scheme", ["", "file://"])
@pytest.mark.parametrize("below", ["file", "file/results", "file/deep/results"])
def test_a_place_that_can_not_be_written_is_refused_in_one_sentence(tmp_path, below, scheme):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BadInputError, match="can't be written") as caught:
        Results.at(f"{scheme}{tmp_path / below}").check_writable()
    assert "\n" not in str(caught.value)
    assert files(tmp_path) == ["file"]


def test_asking_whether_a_place_can_be_written_leaves_no_file(tmp_path, results):
    results.check_writable()
    assert files(tmp_path) == []


# Whole or not at all


@contextmanager
def file_size_limit(size: int) -> Iterator[None]:
    """No file may grow beyond the size: to whoever writes, a disk that runs full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_write_that_fails_midway_leaves_no_half_shard_and_the_trial_undone(results, tmp_path):
    with pytest.raises(OSError, match="large"), file_size_limit(500):
        write(results)
    assert files(tmp_path) == []
    assert results.done("sweep") == set()
    write(results)
    assert results.done("sweep") == {TRIAL}


def test_a_trial_whose_last_shard_fails_is_undone(results, tmp_path):
    write(results)
    room = max(shard(results, table).stat().st_size for table in OTHERS)
    other = Results.at(tmp_path / "other")
    with pytest.raises(OSError, match="large"), file_size_limit(room):
        write(other)
    assert files(tmp_path / "other") == [f"sweep/{table}/{TRIAL}.parquet" for table in sorted(OTHERS)]
    assert other.done("sweep") == set()


def test_a_write_that_fails_midway_leaves_the_shard_that_was_there(results, tmp_path):
    write(results, members=2)
    before = files(tmp_path)
    with pytest.raises(OSError, match="large"), file_size_limit(500):
        write(results, members=1)
    assert files(tmp_path) == before
    assert results.read("sweep", "members").num_rows == 2


def test_a_write_below_a_file_fails(tmp_path):
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(OSError, match="file"):
        write(Results.at(tmp_path / "file"))


@pytest.mark.parametrize("order", [("members", "epochs"), ("epochs", "members")])
def test_a_trial_is_not_done_before_its_other_tables_are_written(results, order):
    rows = {"members": [MEMBER], "epochs": [POINT]}
    # Nothing can be written where the folder of `epochs` should be.
    Path(results.location, "sweep").mkdir(parents=True)
    Path(results.location, "sweep", "epochs").write_text("in the way")
    with pytest.raises(OSError, match="epochs"):
        results.write("sweep", TRIAL, {table: rows[table] for table in order})
    assert results.done("sweep") == set()


def test_files_that_are_still_being_written_are_not_read(results):
    write(results)
    for table in SCHEMAS:
        (shard(results, table).parent / ".0f3a.tmp").write_bytes(b"half")
        (shard(results, table).parent / f".{'f' * 16}.parquet").write_bytes(b"half")
    assert results.done("sweep") == {TRIAL}
    assert results.read("sweep", "members").num_rows == 1
    assert results.quarantine_damaged("sweep") == set()


# What is not a record


def test_a_truncated_shard_is_refused_and_says_how_to_get_it_back(results):
    write(results)
    content = shard(results).read_bytes()
    for size in (0, 3, 100, len(content) // 2, len(content) - 1):
        shard(results).write_bytes(content[:size])
        message = refusal(results)
        assert str(shard(results)) in message
        assert "retry" in message


def test_bytes_broken_within_a_shard_are_refused(results):
    write(results, members=50)
    content = bytearray(shard(results).read_bytes())
    content[4:400] = bytes(396)
    shard(results).write_bytes(content)
    assert "retry" in refusal(results)


def foreign() -> pa.Table:
    return pa.table({"trial": [TRIAL], "member": [0]})


def undecodable() -> pa.Table:
    return foreign().replace_schema_metadata({b"\xff": b"\xfe"})


def of_the_next_version() -> pa.Table:
    metadata = {"normleak_table": "members", "normleak_schema_version": str(SCHEMA_VERSION + 1)}
    return SCHEMAS["members"].empty_table().replace_schema_metadata(metadata)


def of_the_other_table() -> pa.Table:
    metadata = {"normleak_table": "epochs", "normleak_schema_version": str(SCHEMA_VERSION)}
    return SCHEMAS["epochs"].empty_table().replace_schema_metadata(metadata)


def of_other_columns() -> pa.Table:
    metadata = {"normleak_table": "members", "normleak_schema_version": str(SCHEMA_VERSION)}
    return foreign().replace_schema_metadata(metadata)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (foreign, "is no record of members"),
        (undecodable, "is no record of members"),
        (of_the_next_version, f"has schema version {SCHEMA_VERSION + 1}, this normleak reads {SCHEMA_VERSION}"),
        (of_the_other_table, "is no record of members"),
        (of_other_columns, "has other columns"),
    ],
)
@pytest.mark.parametrize("columns", [None, ["trial"]])
def test_parquet_that_is_no_record_of_this_table_and_version_is_refused(results, make, said, columns):
    write(results)
    pq.write_table(make(), shard(results, trial="f" * 16))
    with pytest.raises(BadInputError) as caught:
        results.read("sweep", "members", columns)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", SCHEMAS)
def test_the_shards_of_a_damaged_trial_are_set_aside_and_the_trial_is_missing_again(results, table):
    for trial in (TRIAL, "f" * 16):
        write(results, trial)
    path = shard(results, table)
    path.write_bytes(path.read_bytes()[:200])
    assert results.quarantine_damaged("sweep") == {TRIAL}
    assert results.done("sweep") == {"f" * 16}
    for name in SCHEMAS:
        assert results.read("sweep", name)["trial"].to_pylist() == ["f" * 16]
        assert Path(f"{shard(results, name)}.damaged").is_file()
    assert results.quarantine_damaged("sweep") == set()


# Sweeps and plans


def test_done_is_what_has_a_members_shard(results):
    assert results.done("sweep") == set()
    write(results)
    write(results, "f" * 16)
    shard(results, trial="f" * 16).unlink()
    assert results.done("sweep") == {TRIAL}
    assert results.done("another") == set()


def test_a_trial_ran_if_its_shard_is_whole_and_does_not_say_that_it_could_not(results):
    statuses = {"0" * 16: "ok", "1" * 16: "diverged", "2" * 16: "failed", "3" * 16: "ok"}
    for trial, status in statuses.items():
        results.write("sweep", trial, {"members": [{**MEMBER, "trial": trial, "status": status}]})
    damaged = shard(results, trial="3" * 16)
    damaged.write_bytes(damaged.read_bytes()[:100])
    assert [results.ran("sweep", str(digit) * 16) for digit in range(5)] == [True, True, False, False, False]


def test_sweeps_are_the_folders_with_records_or_plans(results):
    for name in ("b", "a"):
        results.write(name, TRIAL, {"members": [MEMBER], "epochs": []})
    results.save_plan("planned", "plan", {"trials": []})
    Path(results.location, "figures").mkdir()
    Path(results.location, "notes.txt").write_text("not a sweep")
    assert results.sweeps() == ["a", "b", "planned"]


def test_a_results_folder_that_is_not_there_is_refused(tmp_path, results):
    with pytest.raises(BadInputError, match="there is no results folder"):
        results.sweeps()
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(BadInputError, match="there is no results folder"):
        Results.at(tmp_path / "file").sweeps()


def test_plans_are_kept_beside_each_other_and_a_plan_saved_twice_is_one(results):
    one, other = {"version": 1, "trials": [{"id": TRIAL, "k": 0.1, "seed": [0, 1]}]}, {"version": 2, "trials": []}
    assert results.plans("sweep") == []
    for _ in range(2):
        results.save_plan("sweep", "one", one)
    results.save_plan("sweep", "other", other)
    assert results.plans("sweep") == [one, other]


def test_a_damaged_plan_is_refused_by_its_path(results):
    results.save_plan("sweep", "one", {"version": 1})
    path = Path(results.location, "sweep", "plans", "one.json")
    for content in (path.read_bytes()[:5], b"", b"\xff\xfe"):
        path.write_bytes(content)
        with pytest.raises(BadInputError, match=r"one\.json' is damaged"):
            results.plans("sweep")


def test_a_plan_of_a_later_version_is_refused_and_one_of_none_is_read(results):
    results.save_plan("sweep", "one", {"trials": []})
    path = Path(results.location, "sweep", "plans", "one.json")
    plan = json.loads(path.read_text())
    assert plan == {"trials": [], "schema_version": SCHEMA_VERSION}
    path.write_text(json.dumps({"trials": []}))
    assert results.plans("sweep") == [{"trials": []}]
    path.write_text(json.dumps({**plan, "schema_version": SCHEMA_VERSION + 1}))
    with pytest.raises(BadInputError, match=f"has schema version {SCHEMA_VERSION + 1}, this normleak reads") as caught:
        results.plans("sweep")
    assert "\n" not in str(caught.value)


# On an object store


@pytest.fixture
def stored(store) -> Results:
    return Results.at(store.uri())


def test_a_store_holds_one_object_a_shard_each_put_in_one_request_and_nothing_else(store, stored):
    store.asked.clear()
    stored.check_writable()
    write(stored)
    stored.save_plan("sweep", "plan", {"trials": []})
    names = [f"sweep/{table}/{TRIAL}.parquet" for table in SCHEMAS]
    expected = sorted(f"some/results/{name}" for name in [".writable", "sweep/plans/plan.json", *names])
    assert sorted(store.objects(stored.location)) == expected
    assert {method: store.asked[method] for method in ("PUT", "POST", "DELETE")} == {
        "PUT": len(expected),
        "POST": 0,
        "DELETE": 0,
    }


def test_a_store_is_read_like_a_folder_whatever_marks_folders_in_it(store, stored, results):
    for place in (stored, results):
        for trial in (TRIAL, "f" * 16):
            write(place, trial, members=2)
    # As consoles and other programs leave them.
    for key in ("some/", "some/results/", "some/results/sweep/", "some/results/sweep/members/", "some/results/empty/"):
        store.client().put_object(Bucket=stored.location[5:].partition("/")[0], Key=key)
    assert stored.exists()
    assert stored.sweeps() == ["sweep"]
    assert stored.done("sweep") == results.done("sweep")
    assert stored.ran("sweep", TRIAL)
    for table in SCHEMAS:
        assert stored.read("sweep", table).equals(results.read("sweep", table))
    assert stored.read("sweep", "members", ["trial"], {TRIAL})["trial"].to_pylist() == [TRIAL] * 2


def test_a_shard_is_read_from_a_store_in_one_request(store, stored):
    for number in range(3):
        write(stored, f"{number:016x}")
    store.asked.clear()
    assert stored.read("sweep", "members", ["trial"]).num_rows == 3
    assert store.asked == {"GET": 3 + 2}  # and two to list the shards and the compactions


def test_of_sixty_uploads_each_tenth_fails_at_first_and_none_at_last(store, stored, results):
    store.fail_every = 10
    ids = [f"{number:016x}" for number in range(10)]
    for place in (stored, results):
        for trial in ids:
            write(place, trial)
    assert store.failed >= 6
    assert stored.done("sweep") == set(ids)
    for table in SCHEMAS:
        assert stored.read("sweep", table).equals(results.read("sweep", table))


def test_a_bucket_that_is_not_there_is_named_in_one_sentence_and_not_made(store, stored):
    bucket = stored.location[5:].partition("/")[0]
    missing = Results.at(stored.location.replace(bucket, "no-such-bucket"))
    with pytest.raises(BadInputError, match="there is no bucket 'no-such-bucket'; make it first") as caught:
        missing.check_writable()
    assert "\n" not in str(caught.value)
    with pytest.raises(BadInputError, match="there is no results folder"):
        missing.sweeps()
    assert "no-such-bucket" not in [found["Name"] for found in store.client().list_buckets()["Buckets"]]


def test_a_store_that_refuses_to_be_written_is_one_sentence_and_the_trial_is_not_done(store, stored):
    store.left = 3
    with pytest.raises(OSError, match="403 Forbidden"):
        write(stored)
    with pytest.raises(BadInputError, match="can't be written") as caught:
        stored.check_writable()
    assert "\n" not in str(caught.value)
    assert stored.done("sweep") == set()


def test_an_endpoint_is_taken_from_the_environment_too(store, stored, monkeypatch):
    write(stored)
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{store.port}")
    assert Results.at(stored.location.partition("?")[0]).done("sweep") == {TRIAL}


def test_what_lies_below_a_uri_is_named_before_its_query(stored):
    place, _, query = stored.location.partition("?")
    assert stored.below("sweep", "members") == f"{place}/sweep/members?{query}"
    assert Results("/some where/what?").below("sweep") == "/some where/what?/sweep"
    assert stored.argument == f"'{stored.location}'"


@pytest.mark.parametrize(
    ("uri", "said"),
    [
        ("file:///tmp/a?b", "write %3F for [?] and %23 for #"),
        ("file:///tmp/a#b", "write %3F for [?] and %23 for #"),
        ("s3://bucket/a#b", "can't be opened: write %23 for #"),
    ],
)
def test_a_mark_that_would_end_the_path_of_a_uri_is_refused(uri: str, said: str):
    with pytest.raises(BadInputError, match=said):
        Results.at(uri).check_writable()


def test_a_mark_that_is_written_as_a_uri_has_it_is_part_of_the_name(tmp_path: Path):
    results = Results.at(f"file://{tmp_path}/a%3Fb%23c")
    results.check_writable()
    assert (tmp_path / "a?b#c").is_dir()
