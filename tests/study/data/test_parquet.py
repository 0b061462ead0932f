import io
import json
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from study.data import parquet as parquet_files
from study.data.files import survey
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


@pytest.mark.parametrize("names", [("data/train-0", "data/test-0"), ("train-0", "validation-0"), ("train-0", "val-0")])
def test_the_usual_layouts_are_known(tmp_path, names):
    for name in names:
        write_parquet(tmp_path / f"{name}.parquet", [encoded(image) for image in pixels(2, 8, 8)], [0, 1])
    assert len(load(f"parquet:{tmp_path}", NOWHERE).test) == 2


@pytest.mark.parametrize("label", ["label", "fine_label", "labels", "digit"])
def test_the_label_column_is_found_by_its_name_or_as_the_only_one_that_can_be(tmp_path, label):
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
    "a truncated image": (break_an_image, "test-00000-of-00001.parquet', row 0, "),
    "a broken image header": (break_a_header, "test-00000-of-00001.parquet', row 0, "),
    "a broken image chunk": (break_a_chunk, "test-00000-of-00001.parquet', row 0, "),
    "a huge image": (announce_a_huge_image, "test-00000-of-00001.parquet', row 0, "),
    "a null image": (lose_an_image, "test-00000-of-00001.parquet', row 1, has no image"),
    "a null label": (lose_a_label, "test-00000-of-00001.parquet' is null in row 1;"),
    "two sizes": (mix_sizes, "differ in size: (8, 8), (9, 8)"),
    "colour in one split": (colour, "differ in shape: [(1, 8, 8), (3, 8, 8)]"),
    "a negative label": (count_from_minus_one, "labels must run from 0 up, but one is -1;"),
    "a class of its own": (add_a_class, "class of its own, 3;"),
}


@pytest.mark.parametrize(("fault", "said"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_parquet_folder_is_refused_in_one_sentence(parquet, fault, said):
    fault(parquet / "test-00000-of-00001.parquet")
    assert said in refusal(f"parquet:{parquet}")


def test_files_of_one_split_must_agree_in_their_columns(parquet):
    write_parquet(parquet / "train-00001-of-00002.parquet", [encoded(pixels(1, 8, 8)[0])], [1], label="class")
    said = refusal(f"parquet:{parquet}")
    assert "train-00001-of-00002.parquet' differ in their columns" in said


# Columns


def write(folder: Path, columns: Any, test: Any = None, metadata: Any = None) -> str:
    """A dataset of six images a part with these further columns, which may differ in the test set."""
    folder.mkdir(exist_ok=True)
    images = pa.array([{"bytes": encoded(image), "path": None} for image in pixels(6, 8, 8)])
    for part, of_part in (("train", columns), ("test", test or columns)):
        table = pa.table({"image": images} | of_part)
        pq.write_table(table.replace_schema_metadata(metadata), folder / f"{part}-0.parquet")
    return f"parquet:{folder}"


def labels_of(dataset: str) -> tuple[list[int], int]:
    data = load(dataset, NOWHERE)
    return data.train.labels.tolist(), data.classes


IDS = list(range(100, 106))
RIGHT: dict[str, tuple[dict[str, Any], tuple[list[int], int]]] = {
    "text beside numbers": ({"label": ["dog", "cat"] * 3, "id": IDS}, ([1, 0] * 3, 2)),
    "true or false beside a constant": ({"label": [True, False] * 3, "width": [16] * 6}, ([1, 0] * 3, 2)),
    "whole numbers as floats": ({"label": [2.0, 0.0, 1.0] * 2, "width": [16] * 6}, ([2, 0, 1] * 2, 3)),
    "an encoded dictionary": ({"label": pa.array(["b", "a"] * 3).dictionary_encode(), "n": IDS}, ([1, 0] * 3, 2)),
    "a dictionary of numbers": ({"label": pa.array([7, 5] * 3).dictionary_encode()}, ([1, 0] * 3, 2)),
    "long text": ({"label": pa.array(["b", "a"] * 3, pa.large_string()), "n": IDS}, ([1, 0] * 3, 2)),
    "text as bytes": ({"label": pa.array([b"b", b"a"] * 3), "n": IDS}, ([1, 0] * 3, 2)),
    "text of a name that is not known": ({"category": ["b", "a"] * 3, "id": IDS}, ([1, 0] * 3, 2)),
    "fine before coarse": ({"coarse_label": [0] * 6, "fine_label": [1, 0] * 3}, ([1, 0] * 3, 2)),
    "label before labels": ({"labels": [0] * 6, "label": [1, 0] * 3}, ([1, 0] * 3, 2)),
    "from 1": ({"label": [1, 2] * 3}, ([0, 1] * 3, 2)),
    "with gaps": ({"label": [5, 3] * 3}, ([1, 0] * 3, 2)),
    "very large": ({"label": [0, 10**10] * 3}, ([0, 1] * 3, 2)),
    "bytes": ({"label": pa.array([255, 3] * 3, pa.uint8())}, ([1, 0] * 3, 2)),
    "numbers as text": ({"label": ["10", "9", "9"] * 2}, ([1, 0, 0] * 2, 2)),
    "numbers as text, too large for a number": ({"label": [f"{10**20}", "9"] * 3}, ([1, 0] * 3, 2)),
    "numbers with zeros before": ({"label": ["10", "09", "9"] * 2}, ([1, 0, 2] * 2, 3)),
}


@pytest.mark.parametrize(("columns", "expected"), RIGHT.values(), ids=RIGHT)
def test_labels_of_any_kind_are_numbered_from_0_in_order(tmp_path: Path, columns: Any, expected: Any):
    assert labels_of(write(tmp_path, columns)) == expected


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "fractions": ({"label": [0.5, 1.0] * 3, "n": [0, 1] * 3}, "column 'label' of"),
    "no number": ({"label": [float("nan"), 1.0] * 3, "n": [0, 1] * 3}, "column 'label' of"),
    "lists": ({"labels": [[0], [1]] * 3, "n": [0, 1] * 3}, "is list<element: int64>; labels are"),
    "a missing text": ({"label": ["a", None] * 3, "n": [0, 1] * 3}, "is null in row 1;"),
    "an empty text": ({"label": ["a", ""] * 3}, "is empty in a row;"),
    "all null": ({"label": [None] * 6, "n": [0, 1] * 3}, "is null in row 0;"),
    "bytes that are no text": ({"label": [b"\xff", b"a"] * 3}, "has what is no label"),
    "a blank": ({"label": ["a", " "] * 3}, "is empty in a row;"),
    "below 0 as text": ({"label": ["-1", "1"] * 3}, "labels must run from 0 up, but one is -1;"),
    "below 0": ({"label": [-1, 1] * 3}, "labels must run from 0 up, but one is -1;"),
    "too large": ({"label": pa.array([0, 2**64 - 1] * 3, pa.uint64())}, "has what is no label"),
    "several that may be": ({"digit": [0, 1] * 3, "category": ["a", "b"] * 3}, "it has image, digit, category."),
    "an id alone": ({"id": IDS}, "it has image, id."),
    "rows that pandas numbers in each file": ({"__index_level_0__": [0, 1, 2] * 2}, "it has image, __index_level_0__."),
    "folds": ({"Fold": [0, 1] * 3, "image_path": ["a", "b"] * 3}, "it has image, Fold, image_path."),
    "numbers of images": ({"number": list(range(6))}, "differs from image to image"),
    "names of images": ({"title": list("abcdef")}, "differs from image to image"),
    "two images": ({"img": pa.array([{"bytes": b""}] * 6), "label": [0, 1] * 3}, "one image column"),
}


@pytest.mark.parametrize(("columns", "said"), REFUSED.values(), ids=REFUSED)
def test_labels_that_are_none_are_refused_by_their_column_and_never_guessed(tmp_path: Path, columns: Any, said: str):
    message = refusal(write(tmp_path, columns))
    assert said in message
    assert str(tmp_path) in message


def test_a_column_twice_is_refused(tmp_path: Path):
    name = write(tmp_path, {"label": [0, 1] * 3, "other": [0, 1] * 3})
    rewrite(tmp_path / "test-0.parquet", lambda table: table.rename_columns(["image", "label", "label"]))
    assert "test-0.parquet' has two columns 'label'" in refusal(name)


@pytest.mark.parametrize("kind", [pa.binary(), pa.large_binary()])
@pytest.mark.parametrize("further", [{}, {"checksum": [b"x"] * 6}])
def test_images_may_be_a_column_of_bytes(tmp_path: Path, kind: pa.DataType, further: dict[str, Any]):
    images = pa.array([encoded(image) for image in pixels(6, 8, 8)], kind)
    name = write(tmp_path, {"image": images, "label": [0, 1] * 3, **further})
    assert np.array_equal(load(name, NOWHERE).train.images[:, 0].numpy(), pixels(6, 8, 8))


def test_an_image_of_which_only_the_path_is_there_is_refused(tmp_path: Path):
    images = pa.array([{"bytes": None, "path": "cat.png"}] * 6, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
    assert "train-0.parquet', row 0, has no image, but at most its path" in refusal(
        write(tmp_path, {"image": images, "label": [0, 1] * 3})
    )


@pytest.mark.parametrize(
    ("train", "test", "said"),
    [
        ({"label": ["a", "b"] * 3}, {"label": [0, 1] * 3}, "labels are text in the training set and numbers in the"),
        ({"label": [0, 1] * 3}, {"labels": [0, 1] * 3}, "differ in their columns"),
        ({"label": [0, 2] * 3}, {"label": [0, 1] * 3}, "the test set has a class of its own, 1;"),
        ({"label": ["a", "b"] * 3}, {"label": ["a", "c"] * 3}, "the test set has a class of its own, c;"),
    ],
)
def test_a_training_and_a_test_set_must_agree_in_their_labels(tmp_path: Path, train: Any, test: Any, said: str):
    assert said in refusal(write(tmp_path, train, test))


def test_a_test_set_may_lack_a_class_whose_number_stays(tmp_path: Path):
    name = write(tmp_path, {"label": ["a", "b", "c"] * 2}, {"label": ["c", "a"] * 3})
    data = load(name, NOWHERE)
    assert (data.test.labels.tolist(), data.classes) == ([2, 0] * 3, 3)


def class_names(*names: str) -> dict[bytes, bytes]:
    """What Hugging Face writes into a file's metadata."""
    features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
    return {b"huggingface": json.dumps({"info": {"features": features}}).encode()}


def test_the_files_metadata_may_name_more_classes_than_occur(tmp_path: Path):
    name = write(tmp_path, {"label": [1, 2] * 3}, metadata=class_names("ant", "bee", "cat", "dog"))
    assert labels_of(name) == ([1, 2] * 3, 4)
    found = survey(name)
    assert found is not None
    assert found.classes == ("ant", "bee", "cat", "dog")


@pytest.mark.parametrize(
    ("labels", "numbered"),
    [
        (["ant", "bee"], [2, 1]),
        (pa.array(["bee", "cat"]).dictionary_encode(), [1, 0]),
        ([False, True], [0, 1]),
        ([2.0, 0.0], [2, 0]),
    ],
)
def test_labels_of_every_type_are_numbered_as_the_metadata_name_the_classes(tmp_path: Path, labels, numbered):
    name = write(tmp_path, {"label": pa.chunked_array([labels] * 3)}, metadata=class_names("cat", "bee", "ant"))
    assert labels_of(name) == (numbered * 3, 3)
    assert "(cat, bee, ant); images from column 'image', labels from 'label', as the file" in str(survey(name))


def test_text_that_the_metadata_do_not_name_is_refused(tmp_path: Path):
    name = write(tmp_path, {"label": ["ant", "fish"] * 3}, metadata=class_names("bee", "ant"))
    assert "a label is 'fish', which is none of the 2 classes that the file's metadata name" in refusal(name)


def test_a_label_without_a_name_among_those_of_the_metadata_is_refused(tmp_path: Path):
    name = write(tmp_path, {"label": [1, 2] * 3}, metadata=class_names("ant", "bee"))
    assert "a label is 2, but the file's metadata name 2 classes" in refusal(name)


def test_files_that_number_their_classes_differently_are_refused(tmp_path: Path):
    name = write(tmp_path, {"label": [0, 1] * 3}, metadata=class_names("ant", "bee"))
    rewrite(tmp_path / "test-0.parquet", lambda table: table.replace_schema_metadata(class_names("bee", "ant")))
    assert "differ in their columns or in the names of their classes" in refusal(name)


@pytest.mark.parametrize("content", [b"{", b"[]", b'{"info": null}', b'{"info": {"features": {"label": []}}}'])
def test_metadata_of_another_form_names_no_classes(tmp_path: Path, content: bytes):
    assert labels_of(write(tmp_path, {"label": [1, 2] * 3}, metadata={b"huggingface": content})) == ([0, 1] * 3, 2)


# Files


def write_files(folder: Path, names: Sequence[str]) -> str:
    for name in names:
        contents = [encoded(image) for image in pixels(2, 8, 8)]
        write_parquet(folder / f"{name}.parquet", contents, [0, 1])
    return f"parquet:{folder}"


TEST = "test-00000-of-00001"


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00002", "train-00001-of-00002"),
        ("train-00001-of-00002", "train-00002-of-00002"),
        ("train-00000-of-00002-0123456789abcdef", "train-00001-of-00002-fedcba9876543210"),
        ("train-0", "train-1"),
        ("train-1", "train-2"),
        ("train-a", "train-b"),
        ("data/train-00000-of-00002", "data/train-00001-of-00002"),
    ],
)
def test_the_files_of_one_export_are_all_read(tmp_path: Path, names: tuple[str, ...]):
    assert len(load(write_files(tmp_path, (*names, TEST)), NOWHERE).train) == 4


@pytest.mark.parametrize(
    ("names", "missing"),
    [
        (("train-00000-of-00002", TEST), "of train: train-00001-of-00002.parquet is missing"),
        (("train-00001-of-00002", TEST), "of train: train-00000-of-00002.parquet is missing"),
        (("train-00000-of-00004-ab", "train-00002-of-00004-cd", TEST), "train-00001-of-00004-*.parquet, train-00003-"),
        (("train-00000-of-00001", "test-00000-of-00002"), "of test: test-00001-of-00002.parquet is missing"),
        (("train-00000-of-00001", "validation-1-of-2"), "of validation: validation-0-of-2.parquet is missing"),
        (("train-0", "train-2", TEST), "of train: train-1.parquet is missing"),
        (("train-00000-of-00040", TEST), "train-00004-of-00040.parquet, ... are missing"),
    ],
)
def test_files_that_are_missing_are_named(tmp_path: Path, names: tuple[str, ...], missing: str):
    assert missing in refusal(write_files(tmp_path, names))


@pytest.mark.parametrize(
    "names",
    [
        ("train-00000-of-00001", "train-00000-of-00002", "train-00001-of-00002"),
        ("train-00000-of-00001-aaaaaaaa", "train-00000-of-00001-bbbbbbbb"),
        ("train-00000-of-00001", "data/train-00000-of-00001"),
        ("train-00000-of-00002", "data/train-00001-of-00002"),
        ("train-00000-of-00001", "train-0"),
        ("train-00000-of-00001", "train-00000-of-00001 (1)"),
        ("train-00000-of-00001", "train-all"),
        ("train-0", "train-00000"),
    ],
)
def test_files_of_more_than_one_export_are_refused(tmp_path: Path, names: tuple[str, ...]):
    message = refusal(write_files(tmp_path, (*names, TEST)))
    assert "files of more than one export of train: " in message
    assert all(f"{name}.parquet" in message for name in names)


def test_more_files_than_their_names_count_are_refused(tmp_path: Path):
    names = [f"train-{number}-of-2" for number in (0, 1, 2)]
    assert "has 3 files of train that are numbered as 2" in refusal(write_files(tmp_path, (*names, TEST)))


def test_files_under_other_names_are_said_where_none_can_be_taken(tmp_path: Path):
    assert "holds no train-*.parquet; it has default/train.parquet." in refusal(
        write_files(tmp_path, ("default/train",))
    )


# Sizes


def test_few_encoded_images_are_in_memory_at_once(tmp_path: Path):
    """A whole column may be larger than the 2 GiB of an Arrow array."""
    images = pixels(50, 8, 8)
    for part in ("train", "test"):
        write_parquet(tmp_path / f"{part}-0.parquet", list(map(encoded, images)), [0, 1] * 25)
    rows = [len(batch) for batch in parquet_files._batches(tmp_path / "train-0.parquet", "image")]
    assert sum(rows) == 50
    assert max(rows) <= parquet_files.ROWS_AT_ONCE
    assert np.array_equal(load(f"parquet:{tmp_path}", NOWHERE).train.images[:, 0].numpy(), images)


@pytest.mark.slow
def test_a_column_of_over_2_gib_is_read(tmp_path: Path):
    """Of images of 8x8 with 32 MiB behind each, all the same, so that the file is small."""
    sink = io.BytesIO()
    Image.fromarray(pixels(1, 8, 8)[0]).save(sink, "BMP")
    content = pa.array([sink.getvalue() + bytes(32 * 2**20)])
    for part, rows in (("train", 70), ("test", 2)):
        column = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), content)
        table = pa.table({"image": pa.StructArray.from_arrays([column], ["bytes"]), "label": [0, 1] * (rows // 2)})
        pq.write_table(table, tmp_path / f"{part}-0.parquet", compression="zstd", store_schema=False)
    images = load(f"parquet:{tmp_path}", NOWHERE).train.images
    assert images.shape == (70, 1, 8, 8)
    assert (images[:, 0].numpy() == pixels(1, 8, 8)[0]).all()
