import io
import shutil
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from study.data.load import load
from tests.study.data.sources import NOWHERE, encoded, pixels, refusal, truncate, write_parquet


@pytest.fixture
def parquet(tmp_path: Path) -> Path:
    """Four grey images of 8x8 to train on, in two files, and two to test on."""
    grey = [encoded(image) for image in pixels(6, 8, 8)]
    write_parquet(tmp_path / "train-00000-of-00002.parquet", grey[:3], [0, 1, 2])
    write_parquet(tmp_path / "train-00001-of-00002.parquet", grey[3:4], [1])
    write_parquet(tmp_path / "test-00000-of-00001.parquet", grey[4:], [2, 0])
    return tmp_path


@pytest.fixture
def imagefolder(tmp_path: Path) -> Path:
    """Two classes of grey images of 8x8: `train/cat` has two, every other folder has one."""
    for number, name in enumerate(("train/cat/0", "train/cat/1", "train/dog/0", "test/cat/0", "test/dog/0")):
        path = tmp_path / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded(pixels(5, 8, 8)[number]))
    return tmp_path


def test_cifar10_in_parquet_is_read(shared_data, tmp_path):
    """The real test set whole, and the first of the real training set: decoding all of that takes its time."""
    folder = shared_data / "cifar10-jpeg"
    rows = next(pq.ParquetFile(folder / "train-00000-of-00001.parquet").iter_batches(batch_size=1000))
    pq.write_table(pa.Table.from_batches([rows]), tmp_path / "train-00000-of-00001.parquet")
    (tmp_path / "test-00000-of-00001.parquet").symlink_to(folder / "test-00000-of-00001.parquet")
    data = load(f"parquet:{tmp_path}", NOWHERE)
    assert (len(data.train), len(data.test), data.classes, data.shape) == (1000, 10000, 10, (3, 32, 32))
    assert data.test.labels.bincount().tolist() == [1000] * 10
    # Means of the red, green and blue of CIFAR-10's test set.
    means = data.test.images.double().mean(dim=(0, 2, 3)) / 255
    assert means.tolist() == pytest.approx([0.494, 0.485, 0.450], abs=2e-3)


def test_a_parquet_folder_is_read_file_after_file(parquet):
    data = load(f"parquet:{parquet}", NOWHERE)
    images = pixels(6, 8, 8)
    assert np.array_equal(data.train.images[:, 0].numpy(), images[:4])
    assert np.array_equal(data.test.images[:, 0].numpy(), images[4:])
    assert (data.train.labels.tolist(), data.test.labels.tolist()) == ([0, 1, 2, 1], [2, 0])
    assert (data.classes, data.shape) == (3, (1, 8, 8))


def test_colours_become_channels_first(tmp_path):
    images = pixels(3, 8, 6, 3)
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}-0.parquet", list(map(encoded, images)), [0, 1, 1])
    data = load(f"parquet:{tmp_path}", NOWHERE)
    assert data.shape == (3, 8, 6)
    assert np.array_equal(data.train.images.permute(0, 2, 3, 1).numpy(), images)


def test_one_colour_image_among_grey_ones_makes_all_of_them_colour(tmp_path):
    grey, colour = pixels(1, 8, 8)[0], pixels(1, 8, 8, 3)[0]
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}-0.parquet", [encoded(grey), encoded(colour)], [0, 1])
    images = load(f"parquet:{tmp_path}", NOWHERE).train.images.numpy()
    assert all(np.array_equal(channel, grey) for channel in images[0])
    assert np.array_equal(images[1].transpose(1, 2, 0), colour)


def test_a_palette_and_an_alpha_channel_are_resolved_to_colour(tmp_path):
    flat = np.full((8, 8, 3), (255, 0, 0), dtype=np.uint8)
    for part in ("train", "test"):
        contents = [encoded(flat, mode) for mode in ("P", "RGBA", "RGB")]
        write_parquet(tmp_path / f"{part}-0.parquet", contents, [0, 1, 2])
    images = load(f"parquet:{tmp_path}", NOWHERE).train.images
    assert torch.equal(images, torch.from_numpy(flat).permute(2, 0, 1).expand(3, 3, 8, 8))


def test_sixteen_bit_images_are_refused_rather_than_clipped_to_white(tmp_path):
    deep = (np.arange(64, dtype=np.uint16) * 1000).reshape(8, 8)
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}-0.parquet", [encoded(deep)] * 2, [0, 1])
    refusal(f"parquet:{tmp_path}")


@pytest.mark.parametrize("names", [("data/train-0", "data/test-0"), ("train-0", "validation-0"), ("train-0", "val-0")])
def test_the_usual_layouts_are_known(tmp_path, names):
    for name in names:
        write_parquet(tmp_path / f"{name}.parquet", [encoded(image) for image in pixels(2, 8, 8)], [0, 1])
    assert len(load(f"parquet:{tmp_path}", NOWHERE).test) == 2


@pytest.mark.parametrize("label", ["label", "fine_label", "labels", "digit"])
def test_the_label_column_is_found_by_its_name_or_as_the_only_integers(tmp_path, label):
    for part in ("train", "test"):
        contents = [encoded(image) for image in pixels(2, 8, 8)]
        write_parquet(tmp_path / f"{part}-0.parquet", contents, [0, 1], image="img", label=label)
    assert load(f"parquet:{tmp_path}", NOWHERE).train.labels.tolist() == [0, 1]


def test_fine_labels_go_before_coarse_ones(tmp_path):
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}-0.parquet", [encoded(image) for image in pixels(2, 8, 8)], [0, 0])
        table = pq.read_table(tmp_path / f"{part}-0.parquet").rename_columns(["img", "coarse_label"])
        pq.write_table(table.append_column("fine_label", pa.array([1, 0])), tmp_path / f"{part}-0.parquet")
    assert load(f"parquet:{tmp_path}", NOWHERE).train.labels.tolist() == [1, 0]


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table]) -> None:
    pq.write_table(change(pq.read_table(path)), path)


def break_an_image(path: Path) -> None:
    write_parquet(path, [encoded(pixels(1, 8, 8)[0])[:60], encoded(pixels(1, 8, 8)[0])], [0, 1])


def break_a_header(path: Path) -> None:
    content = bytearray(encoded(pixels(1, 8, 8)[0]))
    content[11] = 5  # the length of a PNG's first chunk, which has 13 bytes
    write_parquet(path, [bytes(content)], [0])


def break_a_chunk(path: Path) -> None:
    content = bytearray(encoded(pixels(1, 8, 8)[0]))
    content[36] = 5  # the length of its second, the pixels
    write_parquet(path, [bytes(content)], [0])


def announce_a_huge_image(path: Path) -> None:
    sink = io.BytesIO()
    Image.fromarray(pixels(1, 8, 8)[0]).save(sink, "BMP")
    content = bytearray(sink.getvalue())
    content[18:26] = struct.pack("<ii", 60000, 60000)
    write_parquet(path, [bytes(content)], [0])


def lose_an_image(path: Path) -> None:
    write_parquet(path, [encoded(pixels(1, 8, 8)[0]), None], [0, 1])


def lose_a_label(path: Path) -> None:
    write_parquet(path, [encoded(image) for image in pixels(2, 8, 8)], [0, None])


def mix_sizes(path: Path) -> None:
    write_parquet(path, [encoded(pixels(1, 8, 8)[0]), encoded(pixels(1, 8, 9)[0])], [0, 1])


def colour(path: Path) -> None:
    write_parquet(path, [encoded(image) for image in pixels(2, 8, 8, 3)], [0, 1])


def count_from_minus_one(path: Path) -> None:
    write_parquet(path, [encoded(image) for image in pixels(2, 8, 8)], [-1, 0])


def add_a_class(path: Path) -> None:
    write_parquet(path, [encoded(image) for image in pixels(2, 8, 8)], [0, 3])


FAULTS: dict[str, tuple[Callable[[Path], Any], str]] = {
    "truncated": (truncate, "can't be read as Parquet"),
    "empty": (lambda path: path.write_bytes(b""), "can't be read as Parquet"),
    "missing": (lambda path: path.unlink(), "holds no test-*.parquet or"),
    "no label": (lambda path: rewrite(path, lambda table: table.drop_columns("label")), "'label'; it has image."),
    "no image": (lambda path: rewrite(path, lambda table: table.drop_columns("image")), "one image column"),
    "two images": (
        lambda path: rewrite(path, lambda table: table.append_column("thumb", table["image"])),
        "one image column",
    ),
    "no rows": (lambda path: rewrite(path, lambda table: table.slice(0, 0)), "holds no images"),
    "a truncated image": (break_an_image, "image 0 of"),
    "a broken image header": (break_a_header, "image 0 of"),
    "a broken image chunk": (break_a_chunk, "image 0 of"),
    "a huge image": (announce_a_huge_image, "image 0 of"),
    "a null image": (lose_an_image, "image 1 of"),
    "a null label": (lose_a_label, "label"),
    "two sizes": (mix_sizes, "differ in size: (8, 8), (9, 8)"),
    "colour in one split": (colour, "differ in shape: [(1, 8, 8), (3, 8, 8)]"),
    "a negative label": (count_from_minus_one, "labels must run from 0"),
    "a class of its own": (add_a_class, "class of its own"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_parquet_folder_is_refused_in_one_sentence(parquet, fault, said):
    fault(parquet / "test-00000-of-00001.parquet")
    assert said in refusal(f"parquet:{parquet}")


def test_files_of_one_split_must_agree_in_their_columns(parquet):
    write_parquet(parquet / "train-00001-of-00002.parquet", [encoded(pixels(1, 8, 8)[0])], [1], label="class")
    assert "can't be read as Parquet" in refusal(f"parquet:{parquet}")


@pytest.mark.parametrize(("kind", "missing"), [("parquet", "nowhere"), ("imagefolder", "nowhere/train")])
def test_a_folder_that_is_not_there_is_refused_by_its_path(tmp_path, kind, missing):
    assert f"folder '{tmp_path / missing}'" in refusal(f"{kind}:{tmp_path / 'nowhere'}")


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
    "no classes": (lambda folder: [shutil.rmtree(path) for path in folder.glob("test/*")], "is no image folder"),
    "an empty class": (lambda folder: (folder / "test/cat/0.png").unlink(), "is no image folder"),
    "other classes": (lambda folder: (folder / "test/cat").rename(folder / "test/cow"), "differ in their classes"),
    "a truncated image": (lambda folder: truncate(folder / "test/cat/0.png"), "image 0 of"),
    "no image at all": (lambda folder: (folder / "test/dog/0.png").write_text("dog"), "image 1 of"),
    "another size": (
        lambda folder: (folder / "train/cat/0.png").write_bytes(encoded(pixels(1, 4, 4)[0])),
        "differ in size",
    ),
}


@pytest.mark.parametrize(("fault", "said"), FOLDER_FAULTS.values(), ids=FOLDER_FAULTS)
def test_a_faulty_image_folder_is_refused_in_one_sentence(imagefolder, fault, said):
    fault(imagefolder)
    assert said in refusal(f"imagefolder:{imagefolder}")
