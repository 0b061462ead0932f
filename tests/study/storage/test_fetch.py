import threading
from pathlib import Path

import pytest

from study.data.load import load
from study.errors import BadInputError
from study.storage import fetch
from study.storage.fetch import local_folder
from study.storage.object_store import open_object_store
from tests.study.data.sources import write_idx


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def uri(store) -> str:
    """A bucket with files at several depths, hidden ones, and what a console leaves for a folder."""
    location = store.uri(prefix="data")
    place = open_object_store(location)
    for name in ("one", "a/two", "a/b/three", "c/four", ".hidden", "a/.git/config", "a/b"):
        place.put(name, name.encode())
    store.asked.clear()
    return location


def files(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def in_a_new_process(uri: str, *names: str) -> Path:
    """What another process of this machine would be given."""
    fetch._copy.cache_clear()
    return local_folder(uri, *names)


def test_a_path_is_the_folder_itself_and_so_is_a_uri_of_this_machine(tmp_path):
    assert local_folder(str(tmp_path)) == local_folder(f"file://{tmp_path}") == tmp_path
    assert local_folder("no such folder", "MNIST") == Path("no such folder")


def test_all_files_or_those_that_are_named_are_copied_with_their_folders(uri):
    assert files(in_a_new_process(uri)) == {name: name.encode() for name in ("one", "a/two", "a/b/three", "c/four")}
    assert set(files(in_a_new_process(uri, "one", "c", "none"))) == {"one", "c/four"}


def test_a_machine_fetches_each_file_once_however_many_of_its_processes_ask_at_once(uri, store):
    store.delay = 0.05
    copies: list[Path] = []
    threads = [threading.Thread(target=lambda: copies.append(fetch._copy.__wrapped__(uri, ()))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copies) == 6
    assert len(set(copies)) == 1
    listings = 6
    assert store.asked["GET"] == listings + 4


def test_files_that_have_changed_are_fetched_anew_and_the_old_copy_stays_as_it_was(uri):
    before = in_a_new_process(uri)
    open_object_store(uri).put("one", b"another")
    after = in_a_new_process(uri)
    assert files(after)["one"] == b"another"
    assert files(before)["one"] == b"one"


def test_a_fetch_that_was_cut_short_leaves_no_copy_and_the_next_one_goes_on(uri, store, monkeypatch):
    whole = fetch.ObjectStore.fetch

    def cut(place, file, path):
        if file.name == "c/four":
            raise OSError("the disk is full")
        whole(place, file, path)

    with monkeypatch.context() as broken:
        broken.setattr(fetch.ObjectStore, "fetch", cut)
        broken.setattr(fetch, "AT_ONCE", 1)
        with pytest.raises(BadInputError, match="can't be fetched: the disk is full"):
            in_a_new_process(uri)
    store.asked.clear()
    assert len(files(in_a_new_process(uri))) == 4
    assert store.asked["GET"] == 2  # a listing, and the one file


def test_what_is_not_there_or_can_not_be_reached_gets_one_sentence_without_credentials(uri):
    with pytest.raises(BadInputError, match="there is no MNIST or FashionMNIST in 's3://"):
        in_a_new_process(uri, "MNIST", "FashionMNIST")
    nowhere = f"s3://key:s3cret@nowhere?{uri.partition('?')[2]}"
    with pytest.raises(BadInputError, match="can't be fetched: there is no bucket 'nowhere'") as caught:
        in_a_new_process(nowhere)
    assert "s3cret" not in str(caught.value)


def test_a_built_in_dataset_is_read_from_a_bucket_of_which_only_its_own_files_are_fetched(store, tmp_path):
    arrays = write_idx(tmp_path)
    location = store.uri(prefix="data")
    place = open_object_store(location)
    for path in (tmp_path / "MNIST" / "raw").iterdir():
        place.put(f"MNIST/raw/{path.name}", path.read_bytes())
    place.put("train_32x32.mat", b"of no use here")
    store.asked.clear()
    data = load("mnist", location)
    assert (data.train.images[:, 0].numpy() == arrays["train-images-idx3-ubyte"]).all()
    assert store.asked["GET"] == 2 + 4
    assert load("digits", location).classes == 10
    assert store.asked["GET"] == 2 + 4
