import os
import socket
from collections.abc import Callable
from pathlib import Path, PurePosixPath

import pytest
import torch

from study.data.listing import list_folder
from study.data.load import load
from study.errors import BadInputError
from study.trial import Trial
from tests.study.data.sources import NOWHERE, encoded, pixels, write_images, write_parquet


def link_training_set(folder: Path, target: Path) -> None:
    (folder / "train").symlink_to(target / "train")


def link_classes(folder: Path, target: Path) -> None:
    (folder / "train").mkdir()
    for name in ("cat", "dog"):
        (folder / "train" / name).symlink_to(target / "train" / name)


def link_images(folder: Path, target: Path) -> None:
    for path in target.glob("train/*/*"):
        link = folder / path.relative_to(target)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(path)


@pytest.mark.parametrize("link", [link_training_set, link_classes, link_images])
def test_what_lies_behind_a_link_is_read_and_is_part_of_the_identity(
    tmp_path: Path, link: Callable[[Path, Path], None]
):
    real, plain = write_images(tmp_path / "real", ("train",)), write_images(tmp_path / "plain")
    linked = write_images(tmp_path / "linked", ("test",), seed=1)
    for path in plain.glob("test/*/*"):
        path.write_bytes((linked / path.relative_to(plain)).read_bytes())
    link(linked, real)
    for path in real.glob("train/*/*"):
        (plain / path.relative_to(real)).write_bytes(path.read_bytes())
    assert Trial(dataset=f"imagefolder:{linked}").id == Trial(dataset=f"imagefolder:{plain}").id
    data = [load(f"imagefolder:{folder}", NOWHERE) for folder in (linked, plain)]
    assert torch.equal(data[0].train.images, data[1].train.images)


def test_two_datasets_whose_labels_are_swapped_behind_the_same_link_have_two_identities(tmp_path: Path):
    folders = []
    for name in ("one", "two"):
        real = write_images(tmp_path / name / "real", ("train",))
        folders.append(write_images(tmp_path / name / "images", ("test",)))
        link_training_set(folders[-1], real)
    swapped = tmp_path / "two" / "real" / "train"
    (swapped / "cat").rename(swapped / "cow")
    (swapped / "dog").rename(swapped / "cat")
    (swapped / "cow").rename(swapped / "dog")
    assert len({Trial(dataset=f"imagefolder:{folder}").id for folder in folders}) == 2


def test_parquet_files_in_a_linked_folder_are_part_of_the_identity(tmp_path: Path):
    images, ids = list(map(encoded, pixels(4, 8, 8))), set()
    for name, labels in (("one", [0, 1, 0, 1]), ("two", [1, 0, 1, 0])):
        real, folder = tmp_path / name / "real", tmp_path / name / "set"
        for part in ("train", "test"):
            write_parquet(real / f"{part}-0.parquet", images, labels)
        folder.mkdir()
        (folder / "README.md").write_text("the same in both")
        (folder / "data").symlink_to(real)
        assert load(f"parquet:{folder}", NOWHERE).train.labels.tolist() == labels
        ids.add(Trial(dataset=f"parquet:{folder}").id)
    assert len(ids) == 2


LITTER = [
    "train/.ipynb_checkpoints/0.png",
    "train/cat/.ipynb_checkpoints/0-checkpoint.png",
    "train/cat/._0.png",
    "train/cat/.0.png",
    "train/cat/Thumbs.db",
    "train/desktop.ini",
    "train/__MACOSX/cat/._0.png",
    "test/@eaDir/0.png",
    ".git/train/cat/0.png",
]


@pytest.mark.parametrize("name", LITTER)
def test_what_is_hidden_or_left_behind_is_neither_read_nor_part_of_the_identity(tmp_path: Path, name: str):
    clean, littered = write_images(tmp_path / "clean"), write_images(tmp_path / "littered")
    (littered / name).parent.mkdir(parents=True, exist_ok=True)
    (littered / name).write_bytes(encoded(pixels(1, 8, 8, seed=9)[0]))
    assert Trial(dataset=f"imagefolder:{littered}").id == Trial(dataset=f"imagefolder:{clean}").id
    data = [load(f"imagefolder:{folder}", NOWHERE) for folder in (littered, clean)]
    assert torch.equal(data[0].train.images, data[1].train.images)
    assert data[0].train.labels.tolist() == [0, 0, 1, 1]


def test_hidden_parquet_files_are_not_read(tmp_path: Path):
    for part in ("train", "test"):
        write_parquet(tmp_path / "data" / f"{part}-0.parquet", list(map(encoded, pixels(2, 8, 8))), [0, 1])
    write_parquet(tmp_path / ".cache" / "train-0.parquet", list(map(encoded, pixels(2, 8, 8))), [0, 1])
    (tmp_path / "data" / "._train-0.parquet").write_bytes(b"of the Finder")
    assert len(load(f"parquet:{tmp_path}", NOWHERE).train) == 2


def test_a_listing_has_the_paths_of_all_files_and_folders_sorted_by_their_parts(tmp_path: Path):
    for name in ("b/2", "a.x/1", "a/z/3"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "empty").mkdir()
    listing = list_folder(tmp_path)
    assert list(map(str, listing.files)) == ["a/z/3", "a.x/1", "b/2"]
    assert list(map(str, listing.folders)) == ["a", "a/z", "a.x", "b", "empty"]
    assert listing.within("a") == [PurePosixPath("a/z")]


def test_two_links_to_one_folder_are_no_circle(tmp_path: Path):
    write_images(tmp_path, ("train",))
    (tmp_path / "test").symlink_to("train")
    assert len(load(f"imagefolder:{tmp_path}", NOWHERE).test) == 4


def open_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as opened:
        opened.bind(os.path.relpath(path))  # whose own name must be short


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a circle": (lambda path: path.symlink_to(".."), "is a link to a folder that it lies in"),
    "a link to itself": (lambda path: path.symlink_to(path.name), "can't be read"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "is a link that leads nowhere"),
    "a socket": (open_socket, "is neither a file nor a folder"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_what_can_not_be_listed_is_refused_by_its_name(tmp_path: Path, monkeypatch, fault, said):
    monkeypatch.chdir(write_images(tmp_path) / "train")
    fault(tmp_path / "train" / "cat" / "odd.png")
    for use in (lambda name: Trial(dataset=name).id, lambda name: load(name, NOWHERE)):
        with pytest.raises(BadInputError, match=said) as caught:
            use(f"imagefolder:{tmp_path}")
        assert "/train/cat" in str(caught.value)


def test_a_name_that_is_no_text_in_this_encoding_is_hashed_and_read(tmp_path: Path):
    write_images(tmp_path)
    path = tmp_path / "train" / "cat" / os.fsdecode(b"caf\xe9.png")
    path.write_bytes(encoded(pixels(1, 8, 8)[0]))
    assert len(load(f"imagefolder:{tmp_path}", NOWHERE).train) == 5
    assert len(Trial(dataset=f"imagefolder:{tmp_path}").id) == 16
