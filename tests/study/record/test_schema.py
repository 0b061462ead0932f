import shutil
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from study.errors import BadInputError
from study.record import schema
from study.record.results import Results
from study.record.schema import SCHEMA_VERSION, SCHEMAS, TABLES, conform_to_schema
from study.settings import SETTINGS

GOLDEN = Path(__file__).parents[2] / "golden"
VERSIONS = sorted(GOLDEN.glob("schema_*"))
NOT_YET = {
    *(("schema_2", table) for table in ("margins", "gamma_gradients", "robustness", "activations")),
    *(("schema_3", table) for table in ("robustness", "activations")),
}
MEMBER = "quickstart/members/90b86cb4d433b7c6.parquet"


def test_every_setting_of_a_trial_has_a_column_and_no_column_comes_twice():
    assert set(SETTINGS) <= set(SCHEMAS["members"].names)
    for table in SCHEMAS.values():
        assert len(set(table.names)) == len(table.names)
        assert table.names[:2] in (["trial", "member"], ["trial", "seed"])


@pytest.mark.parametrize("table", SCHEMAS)
def test_shards_of_this_version_are_kept_and_have_its_columns(table: str):
    """Whoever adds results raises `SCHEMA_VERSION` and keeps some shards of the new version; see `golden/schema_4`."""
    shards = list((GOLDEN / f"schema_{SCHEMA_VERSION}" / "shards").glob(f"*/{table}/*.parquet"))
    assert shards
    for shard in shards:
        names = pq.read_schema(shard).names
        # A setting may come later: it has its default there.
        current = [field for field in SCHEMAS[table] if field.name in names or field.name not in SETTINGS]
        assert pq.read_schema(shard).remove_metadata().equals(pa.schema(current))


@pytest.mark.parametrize("golden", VERSIONS, ids=lambda path: path.name)
@pytest.mark.parametrize("table", SCHEMAS)
def test_shards_of_every_version_are_read_with_the_columns_of_this_one(golden: Path, table: str):
    for form, sweep in (("shards", "quickstart"), ("shards", "membership"), ("compacted", "membership")):
        rows = Results.at(golden / form).read(sweep, table)
        assert rows.schema.equals(SCHEMAS[table])
        # The tables of the mechanism came with version 3, those of the second paper with version 4.
        assert len(rows) or sweep == "quickstart" or (golden.name, table) in NOT_YET


# Descriptions of columns


def test_a_column_says_what_it_has_and_in_which_unit_to_whoever_reads_a_shard(results: Results):
    results.write("quickstart", "f" * 16, {"members": [{"trial": "f" * 16, "member": 0, "seed": 9, "status": "ok"}]})
    written = pq.read_schema(Path(results.location, "quickstart", "members", f"{'f' * 16}.parquet"))
    for name, setting in SETTINGS.items():
        said = {b"description": setting.description.encode(), b"unit": setting.unit.encode()}
        assert written.field(name).metadata == {key: value for key, value in said.items() if value}


def redescribed(path: Path, said: Mapping[str, str] | None) -> None:
    """Have a shard say something else of each of its columns, or nothing."""
    table = pq.read_table(path, partitioning=None)
    fields = [field.with_metadata(said) for field in table.schema]
    pq.write_table(table.cast(pa.schema(fields, metadata=table.schema.metadata)), path)


@pytest.mark.parametrize("columns", [None, ["k", "trial"]])
def test_shards_are_read_and_compacted_alike_whatever_they_say_of_their_columns(
    results: Results, columns: list[str] | None
):
    before = results.read("quickstart", "members", columns)
    paths = sorted(Path(results.location, "quickstart", "members").iterdir())
    current = {field.name: field.metadata for field in SCHEMAS["members"]}
    for said in ({"description": "Another.", "unit": "m"}, None):
        redescribed(paths[0], said)
        rows = results.read("quickstart", "members", columns)
        assert rows.equals(before)
        assert {field.name: field.metadata for field in rows.schema} == {
            name: current[name] for name in rows.schema.names
        }
        assert len(pd.read_parquet(paths[0].parent)) == len(rows)
    results.compact("quickstart")
    (file,) = paths[0].parent.iterdir()
    assert {field.name: field.metadata for field in pq.read_schema(file)} == current
    assert results.read("quickstart", "members", columns).equals(before)


# A version to come


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version with another setting, another result, another column of `attacks` and another table."""

    def widen(table: str, columns: Mapping[str, pa.DataType]) -> None:
        fields = [pa.field(name, kind) for name, kind in columns.items()]
        monkeypatch.setitem(schema.SCHEMAS, table, pa.schema([*fields, *SCHEMAS.get(table, [])]))

    monkeypatch.setattr(schema, "SCHEMA_VERSION", SCHEMA_VERSION + 1)
    monkeypatch.setitem(schema.DEFAULTS, "mixup", 0.5)
    widen("members", {"mixup": pa.float64(), "robust_acc": pa.float64()})
    widen("attacks", {"mixup": pa.float64()})
    widen("fairness", {"trial": pa.string(), "member": pa.int32(), "strength": pa.float64()})


@pytest.fixture
def results(tmp_path: Path) -> Results:
    shutil.copytree(GOLDEN / "schema_2" / "shards", tmp_path / "results")
    return Results.at(tmp_path / "results")


@pytest.mark.usefixtures("later")
def test_a_setting_that_comes_later_has_its_default_and_a_result_is_null(results: Results):
    before = Results.at(GOLDEN / "schema_2" / "shards").read("quickstart", "members", ["trial", "mem_acc"]).to_pylist()
    rows = results.read("quickstart", "members")
    assert rows.schema.equals(schema.SCHEMAS["members"])
    assert rows.select(["trial", "mem_acc"]).to_pylist() == before
    assert rows["mixup"].to_pylist() == [0.5] * 4
    assert rows["robust_acc"].to_pylist() == [None] * 4
    assert set(rows["schema_version"].to_pylist()) == {2}
    assert set(results.read("membership", "attacks")["mixup"].to_pylist()) == {None}
    assert results.read("quickstart", "fairness").num_rows == 0


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("columns", [["mixup"], ["robust_acc", "trial", "mixup"], ["mem_acc", "robust_acc"]])
@pytest.mark.parametrize("compacted", [False, True])
def test_columns_can_be_chosen_that_a_shard_has_not(results: Results, columns: list[str], compacted: bool):
    whole = results.read("quickstart", "members").select(columns).to_pylist()
    if compacted:
        results.compact("quickstart")
    assert results.read("quickstart", "members", columns).to_pylist() == whole
    assert results.read("quickstart", "members", columns, {"90b86cb4d433b7c6"}).to_pylist() == whole[2:]


@pytest.mark.usefixtures("later")
def test_records_of_two_versions_are_read_and_compacted_together(results: Results):
    new = {"trial": "f" * 16, "member": 0, "seed": 9, "status": "ok", "mixup": 0.1, "robust_acc": 0.25}
    results.write("quickstart", "f" * 16, {"members": [new]})
    for _ in range(2):
        rows = results.read("quickstart", "members", ["trial", "mixup", "robust_acc", "schema_version"]).to_pylist()
        assert [(row["mixup"], row["schema_version"]) for row in rows] == [(0.5, 2)] * 4 + [(0.1, SCHEMA_VERSION + 1)]
        assert rows[-1]["robust_acc"] == 0.25
        results.compact("quickstart")
    (file,) = Path(results.location, "quickstart", "members").iterdir()
    assert file.name.startswith("compacted-")


@pytest.mark.usefixtures("later")
def test_a_compacted_sweep_of_an_earlier_version_is_read(tmp_path: Path):
    shutil.copytree(GOLDEN / "schema_2" / "compacted", tmp_path / "results")
    results = Results.at(tmp_path / "results")
    assert results.read("membership", "members")["mixup"].to_pylist() == [0.5] * 12
    assert results.done("membership") == {"875e3aa62353aeb2", "dc0c135d1e0430b9"}
    assert results.compact("membership") == (0, 0)


@pytest.mark.usefixtures("later")
def test_a_plan_of_an_earlier_version_is_read(results: Results):
    (plan,) = results.plans("quickstart")
    assert [trial["id"] for trial in plan["trials"]] == ["90b86cb4d433b7c6", "7081d28486f104cf"]


# What no version has


def changed(table: pa.Table, change: str) -> pa.Table:
    if change == "another type":
        return table.set_column(table.column_names.index("k"), "k", table["k"].cast(pa.float32()))
    if change == "an unknown column":
        return table.append_column("mystery", pa.nulls(len(table), pa.int32()))
    return table.drop_columns(["cell"])


@pytest.mark.usefixtures("later")
@pytest.mark.parametrize("change", ["another type", "an unknown column", "no cell"])
@pytest.mark.parametrize("columns", [None, ["trial"]])
def test_a_shard_of_an_earlier_version_with_other_columns_is_refused(
    results: Results, change: str, columns: list[str] | None
):
    path = Path(results.location, MEMBER)
    table = pq.read_table(path, partitioning=None)
    pq.write_table(changed(table, change).replace_schema_metadata(table.schema.metadata), path)
    with pytest.raises(BadInputError, match="says schema version 2 but has other columns; move it away") as caught:
        results.read("quickstart", "members", columns)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("version", ["", "two", "-1", "1.5"])
def test_a_shard_whose_version_is_none_is_no_record(results: Results, version: str):
    path = Path(results.location, MEMBER)
    table = pq.read_table(path, partitioning=None)
    metadata = {**table.schema.metadata, b"normleak_schema_version": version.encode()}
    pq.write_table(table.replace_schema_metadata(metadata), path)
    with pytest.raises(BadInputError, match="is no record of members"):
        results.read("quickstart", "members")


def test_rows_are_brought_to_the_columns_of_a_table():
    rows = pa.table({"group": ["all"], "trial": ["a"], "auc": pa.array([0.5], pa.float32())})
    complete = conform_to_schema("attacks", rows)
    assert complete.schema.equals(SCHEMAS["attacks"])
    assert complete.to_pylist()[0] == {
        **dict.fromkeys(SCHEMAS["attacks"].names),
        "trial": "a",
        "group": "all",
        "auc": 0.5,
    }


def test_every_column_says_what_it_has_and_every_table_what_a_row_is():
    assert set(TABLES) == set(SCHEMAS)
    for table, columns in SCHEMAS.items():
        silent = [field.name for field in columns if not (field.metadata or {}).get(b"description")]
        assert silent == [], table
