import os
import shutil
from pathlib import Path

import pytest

from study.data import folders
from study.errors import BadInputError
from study.storage.object_store import open_object_store
from study.trial import Trial


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "home" / "shapes"
    for part in ("train", "test"):
        (folder / part).mkdir(parents=True)
        (folder / part / "one.bin").write_bytes(b"one")
        (folder / part / "two.bin").write_bytes(b"two")
    return folder


def trial_id(folder: Path, kind: str = "imagefolder") -> str:
    return Trial(dataset=f"{kind}:{folder}").id


def copied(data: Path, where: str) -> Path:
    return Path(shutil.copytree(data, data.parents[1] / where / data.name))


def test_only_the_two_kinds_of_folder_are_folders():
    assert folders.parse("parquet:some/where") == ("parquet", "some/where")
    assert folders.parse("imagefolder:/a:b") == ("imagefolder", "/a:b")
    assert folders.parse("parquet:s3://bucket/data") == ("parquet", "s3://bucket/data")
    assert [folders.parse(name) for name in ("mnist", "csv:x", "parquet", "C:parquet")] == [None] * 4


def test_a_folder_is_made_absolute_and_a_built_in_name_is_left_alone(data, monkeypatch):
    monkeypatch.chdir(data.parent)
    assert folders.absolute("parquet:shapes") == f"parquet:{data}"
    assert Trial(dataset="imagefolder:shapes") == Trial(dataset=f"imagefolder:{data}")
    assert folders.absolute("mnist") == folders.identity("mnist") == "mnist"


def test_a_tilde_is_the_users_home(data, monkeypatch):
    monkeypatch.setenv("HOME", str(data.parent))
    assert folders.absolute("parquet:~/shapes") == f"parquet:{data}"


def test_the_recorded_name_of_a_folder_has_its_own_name_but_not_where_it_lies(data):
    identity = folders.identity(f"imagefolder:{data}")
    assert identity.startswith("imagefolder:shapes@")
    assert str(data.parent) not in identity


def test_a_link_to_a_folder_whose_name_is_no_text_has_no_identity(data, tmp_path):
    data.rename(renamed := tmp_path / os.fsdecode(b"named\xff"))
    (link := tmp_path / "link").symlink_to(renamed)
    with pytest.raises(BadInputError, match="is no text in UTF-8"):
        folders.identity(f"imagefolder:{link}")


def test_the_identity_of_a_folder_is_always_the_same(data):
    assert folders.identity(f"imagefolder:{data}") == "imagefolder:shapes@2fac8bbf"


def test_the_same_files_elsewhere_are_the_same_dataset(data):
    elsewhere = copied(data, "elsewhere")
    assert folders.identity(f"imagefolder:{elsewhere}") == folders.identity(f"imagefolder:{data}")
    assert trial_id(elsewhere) == trial_id(data)


def test_the_same_files_in_a_folder_of_another_name_are_the_same_trial(data):
    renamed = Path(shutil.copytree(data, data.parent / "shapes-v2"))
    assert trial_id(renamed) == trial_id(data)


def test_the_kind_of_folder_is_part_of_its_identity(data):
    assert trial_id(data, "parquet") != trial_id(data, "imagefolder")


def edit_a_byte(folder: Path) -> None:
    (folder / "train" / "one.bin").write_bytes(b"One")


def rename_a_file(folder: Path) -> None:
    (folder / "train" / "one.bin").rename(folder / "train" / "three.bin")


def swap_two_files(folder: Path) -> None:
    (folder / "train" / "one.bin").write_bytes(b"two")
    (folder / "train" / "two.bin").write_bytes(b"one")


def move_a_byte_to_the_next_file(folder: Path) -> None:
    (folder / "train" / "one.bin").write_bytes(b"on")
    (folder / "train" / "two.bin").write_bytes(b"etwo")


def add_a_file(folder: Path) -> None:
    (folder / "test" / "three.bin").write_bytes(b"")


def remove_a_file(folder: Path) -> None:
    (folder / "test" / "two.bin").unlink()


@pytest.mark.parametrize(
    "change",
    [edit_a_byte, rename_a_file, swap_two_files, move_a_byte_to_the_next_file, add_a_file, remove_a_file],
)
def test_other_files_are_another_dataset(data, change):
    changed = copied(data, "changed")
    change(changed)
    assert trial_id(changed) != trial_id(data)


@pytest.mark.parametrize("hidden", [".DS_Store", "train/.lock", ".cache/huggingface/download/one.bin.metadata"])
def test_what_an_operating_system_or_a_downloader_hides_in_a_folder_is_not_data(data, hidden):
    littered = copied(data, "littered")
    (littered / hidden).parent.mkdir(parents=True, exist_ok=True)
    (littered / hidden).write_text("downloaded at noon")
    assert trial_id(littered) == trial_id(data)


def test_a_missing_or_empty_folder_has_no_identity(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("no folder")
    for name, said in [("nowhere", "there is no dataset folder"), ("file", "there is no"), ("empty", "holds no files")]:
        with pytest.raises(BadInputError, match=said):
            folders.identity(f"parquet:{tmp_path / name}")


def upload(store, folder: Path) -> str:
    """The URI of a copy of a folder in a bucket."""
    uri = store.uri(prefix="data/shapes")
    place = open_object_store(uri)
    for path in folder.rglob("*"):
        if path.is_file():
            place.put(path.relative_to(folder).as_posix(), path.read_bytes())
    return uri


def test_a_folder_in_a_bucket_is_the_same_dataset_as_its_files_here(data, store):
    uri = upload(store, data)
    assert trial_id(uri) == trial_id(data)
    assert folders.identity(f"imagefolder:{uri}") == folders.identity(f"imagefolder:{data}")
    assert Trial(dataset=f"imagefolder:{uri}").dataset == f"imagefolder:{uri}"


def test_a_dataset_does_not_name_credentials_for_records_would_show_them():
    with pytest.raises(BadInputError, match="must not name its credentials") as caught:
        Trial(dataset="parquet:s3://key:s3cret@bucket/data")
    assert "s3cret" not in str(caught.value)
