import pytest

from study.record.results import Results
from study.record.schema import SCHEMAS

TRIAL = "0123456789abcdef"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_a_checkpoint_is_there_until_its_trial_is_recorded(tmp_path, scheme):
    checkpoints = Results.at(f"{scheme}{tmp_path}").checkpoints("sweep")
    assert checkpoints.load(f"{TRIAL}-1.zip") is None
    checkpoints.drop(TRIAL)
    assert list(tmp_path.iterdir()) == []
    for content in (b"long", b"new"):
        checkpoints.save(f"{TRIAL}-1.zip", content)
    checkpoints.save("another-1.zip", b"another")
    folder = tmp_path / "sweep" / "checkpoints"
    assert checkpoints.load(f"{TRIAL}-1.zip") == b"new"
    assert checkpoints.holds(TRIAL)
    # Left behind by one that was killed while it wrote.
    (folder / f".{TRIAL}-2.zip.0123.tmp").write_bytes(b"ne")
    checkpoints.drop(TRIAL)
    assert [path.name for path in folder.iterdir()] == ["another-1.zip"]
    assert not checkpoints.holds(TRIAL)


def test_a_folder_that_takes_no_checkpoints_is_done_without(tmp_path):
    (tmp_path / "file").write_text("no folder")
    checkpoints = Results.at(tmp_path / "file").checkpoints("sweep")
    checkpoints.save("name", b"content")
    assert checkpoints.load("name") is None
    assert not checkpoints.holds("name")
    checkpoints.drop("name")


def test_checkpoints_are_no_table_no_plan_and_no_sweep(tmp_path):
    results = Results.at(tmp_path)
    results.checkpoints("sweep").save(f"{TRIAL}-1.zip", b"content")
    assert results.sweeps() == []
    assert results.done("sweep") == set()
    assert results.plans("sweep") == []
    assert results.quarantine_damaged("sweep") == set()
    assert {results.read("sweep", table).num_rows for table in SCHEMAS} == {0}


def test_a_store_keeps_them_too_and_trials_go_on_without_it(store):
    checkpoints = Results.at(store.uri()).checkpoints("sweep")
    checkpoints.save(f"{TRIAL}-1.zip", b"content")
    assert checkpoints.load(f"{TRIAL}-1.zip") == b"content"
    assert checkpoints.holds(TRIAL)
    store.left = 0
    checkpoints.save(f"{TRIAL}-2.zip", b"content")
    checkpoints.drop(TRIAL)
    store.left = None
    assert checkpoints.load(f"{TRIAL}-2.zip") is None
    checkpoints.drop(TRIAL)
    assert not checkpoints.holds(TRIAL)
