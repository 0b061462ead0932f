import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from study.data.files import survey
from study.data.load import load
from tests.study.data.sources import NOWHERE, encoded, pixels, refusal, truncate


@pytest.fixture
def imagefolder(tmp_path: Path) -> Path:
    """Two classes of grey images of 8x8: `train/cat` has two, every other folder has one."""
    for number, name in enumerate(("train/cat/0", "train/cat/1", "train/dog/0", "test/cat/0", "test/dog/0")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(pixels(5, 8, 8)[number]))
    return tmp_path


def test_an_image_folder_is_read_class_after_class(imagefolder):
    data = load(f"imagefolder:{imagefolder}", NOWHERE)
    images = pixels(5, 8, 8)
    assert np.array_equal(data.train.images[:, 0].numpy(), images[:3])
    assert np.array_equal(data.test.images[:, 0].numpy(), images[3:])
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 0, 1], [0, 1])


def test_a_validation_folder_stands_in_for_a_test_folder(imagefolder):
    (imagefolder / "test").rename(imagefolder / "val")
    assert len(load(f"imagefolder:{imagefolder}", NOWHERE).test) == 2


def test_a_jpeg_in_an_image_folder_is_read_too(imagefolder):
    path = imagefolder / "train" / "cat" / "2.jpg"
    Image.new("L", (8, 8), 128).save(path, "JPEG")
    assert torch.equal(load(f"imagefolder:{imagefolder}", NOWHERE).train.images[2].unique(), torch.tensor([128]))


FOLDER_FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "no train": (lambda folder: shutil.rmtree(folder / "train"), "train'; an image folder has"),
    "no test": (lambda folder: shutil.rmtree(folder / "test"), "test'; an image folder has"),
    "no classes": (
        lambda folder: [shutil.rmtree(path) for path in folder.glob("test/*")],
        "is no image folder: there are no images in",
    ),
    "an empty class": (
        lambda folder: (folder / "test/cat/0.png").unlink(),
        "is no image folder: there are no images in",
    ),
    "other classes": (
        lambda folder: (folder / "test/cat").rename(folder / "test/cow"),
        "differ in their classes: 'cat' is in one alone",
    ),
    "a truncated image": (lambda folder: truncate(folder / "test/cat/0.png"), "test/cat/0.png' can't be decoded"),
    "no image at all": (
        lambda folder: (folder / "test/dog/0.png").write_text("dog"),
        "test/dog/0.png' is no image of a known format",
    ),
    "another size": (
        lambda folder: (folder / "train/cat/0.png").write_bytes(encoded(pixels(1, 4, 4)[0])),
        "differ in size",
    ),
}


@pytest.mark.parametrize(("fault", "said"), FOLDER_FAULTS.values(), ids=FOLDER_FAULTS)
def test_a_faulty_image_folder_is_refused_in_one_sentence(imagefolder, fault, said):
    fault(imagefolder)
    assert said in refusal(f"imagefolder:{imagefolder}")


SUFFIXES = {"a.JPG": "JPEG", "a.jpeg": "JPEG", "a.webp": "WEBP", "a.tiff": "TIFF", "a.bmp": "BMP", "a.GIF": "GIF"}


@pytest.mark.parametrize(("name", "format"), SUFFIXES.items())
def test_images_of_every_usual_format_are_read(imagefolder, name, format):
    for part in ("train", "test"):
        Image.new("L", (8, 8), 255).save(imagefolder / part / "dog" / name, format)
    data = load(f"imagefolder:{imagefolder}", NOWHERE)
    assert data.train.labels.tolist() == [0, 0, 1, 1]
    white = data.train.images[-1]
    assert white.min() == 255


def move_classes_down(folder: Path) -> None:
    for part in ("train", "test"):
        (folder / "was").mkdir()
        (folder / part).rename(folder / "was" / "pets")
        (folder / "was").rename(folder / part)


def write_image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encoded(pixels(1, 8, 8)[0]))


LAYOUTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "classes one folder too deep": (move_classes_down, "the images of class 'pets' lie in 2 folders"),
    "one class one folder too deep": (
        lambda folder: write_image(folder / "train/cat/lynx/0.png"),
        "the images of class 'cat' lie in 2 folders",
    ),
    "a class of other files": (lambda folder: write_text(folder / "train/notes/a.txt"), "train/notes'; put them"),
    "a class without files": (lambda folder: (folder / "train/cow").mkdir(), "train/cow'; put them"),
    "a class to train on alone": (lambda folder: write_image(folder / "train/cow/0.png"), "'cow' is in one alone"),
}


def write_text(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("seen in May")


@pytest.mark.parametrize(("change", "said"), LAYOUTS.values(), ids=LAYOUTS)
def test_a_layout_whose_classes_are_not_clear_is_refused(imagefolder, change, said):
    change(imagefolder)
    assert said in refusal(f"imagefolder:{imagefolder}")


def test_a_class_may_have_its_images_in_a_folder_of_their_own(imagefolder):
    """As in Tiny ImageNet."""
    for path in list(imagefolder.glob("train/*/*")):
        path.parent.joinpath("images").mkdir(exist_ok=True)
        path.rename(path.parent / "images" / path.name)
    data = load(f"imagefolder:{imagefolder}", NOWHERE)
    assert np.array_equal(data.train.images[:, 0].numpy(), pixels(5, 8, 8)[:3])


def test_what_is_skipped_is_found(imagefolder):
    for name in ("train/cat/notes.txt", "train/plan.md", "README"):
        write_text(imagefolder / name)
    for name in ("train/alone.png", "val/cat/0.png"):
        write_image(imagefolder / name)
    found = survey(f"imagefolder:{imagefolder}")
    assert found is not None
    assert set(map(str, found.skipped)) == {
        "train/cat/notes.txt",
        "train/plan.md",
        "README",
        "train/alone.png",
        "val/cat/0.png",
    }
    assert len(load(f"imagefolder:{imagefolder}", NOWHERE).train) == 3
