import gzip
import hashlib
import io
import shutil
import socket
import struct
import threading
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits, load_sample_images
from torchvision.datasets import MNIST

from study.data.dataset import Split, to_float
from study.data.load import load
from study.data.ood import match_shape, ood_images
from study.errors import BadInputError

NOWHERE = Path("no data folder is needed")
IDX_FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def refusal(dataset: str, data_dir: Path = NOWHERE) -> str:
    with pytest.raises(BadInputError) as caught:
        load(dataset, data_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message


def pixels(count: int, *shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def encoded(array: np.ndarray, mode: str | None = None) -> bytes:
    image = Image.fromarray(array)
    sink = io.BytesIO()
    (image.convert(mode) if mode else image).save(sink, "PNG")
    return sink.getvalue()


def write_parquet(path: Path, images: Sequence[bytes | None], labels: Sequence[Any], **renamed: str) -> None:
    """A file in the Hugging Face layout; `image` and `label` name its columns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    column = pa.array([{"bytes": content, "path": None} for content in images])
    pq.write_table(pa.table({renamed.get("image", "image"): column, renamed.get("label", "label"): labels}), path)


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


# Built-in datasets


def test_digits_are_scikit_learns_brought_to_28_pixels():
    data = load("digits", NOWHERE)
    assert (len(data.train), len(data.test), data.classes, data.shape) == (1437, 360, 10, (1, 28, 28))
    for split in (data.train, data.test):
        assert split.images.dtype == torch.uint8
        assert split.labels.dtype == torch.int64
        assert split.images.shape == (len(split), 1, 28, 28)
    assert int(data.train.images.min()) == 0
    assert int(data.train.images.max()) == 255


def test_digits_keep_their_classes_in_proportion_and_share_no_image():
    data = load("digits", NOWHERE)
    whole = torch.from_numpy(np.bincount(load_digits().target))
    train, test = data.train.labels.bincount(), data.test.labels.bincount()
    assert torch.equal(train + test, whole)
    assert (test - whole * 360 / 1797).abs().max() <= 1
    seen, unseen = ({image.numpy().tobytes() for image in split.images} for split in (data.train, data.test))
    assert len(seen) == 1437
    assert not seen & unseen


def test_a_subset_keeps_each_class_in_proportion_and_is_always_the_same():
    whole, part = load("digits", Path("unused")), load("digits", Path("unused"), 500)
    assert len(part.train) == 500
    assert part.test is whole.test
    shares = [torch.bincount(split.labels, minlength=10) / len(split) for split in (part.train, whole.train)]
    assert torch.allclose(*shares, atol=1 / 500)
    kept = {image.numpy().tobytes(): int(label) for image, label in zip(*vars(part.train).values(), strict=True)}
    given = {image.numpy().tobytes(): int(label) for image, label in zip(*vars(whole.train).values(), strict=True)}
    assert kept.items() <= given.items()
    assert hashlib.sha256(part.train.images.numpy().tobytes()).hexdigest()[:16] == "4ed9acf75f8ad025"


@pytest.mark.parametrize("size", [9, 1437, 10**6])
def test_a_subset_that_is_none_is_refused(size):
    with pytest.raises(BadInputError, match=f"must be 0 for all of it, or from 10, one a class, to 1436, not {size}"):
        load("digits", Path("unused"), size)


def by_image(split: Split) -> dict[bytes, int]:
    return {image.numpy().tobytes(): int(label) for image, label in zip(split.images, split.labels, strict=True)}


@pytest.mark.parametrize(("subset", "total"), [(0, 1437), (500, 500)])
def test_what_is_set_aside_is_no_part_of_d_and_has_each_class_in_proportion(subset, total):
    whole, data = load("digits", NOWHERE, subset), load("digits", NOWHERE, subset, 0.2)
    assert (len(data.validation), len(data.train)) == (round(0.2 * total), total - round(0.2 * total))
    aside, left = by_image(data.validation), by_image(data.train)
    assert not aside.keys() & left.keys()
    assert aside | left == by_image(whole.train)
    assert data.test is whole.test
    counts = [torch.bincount(split.labels, minlength=10) for split in (data.validation, whole.train)]
    assert (counts[0] - 0.2 * counts[1]).abs().max() <= 1
    again = load.__wrapped__("digits", NOWHERE, subset, 0.2)
    assert torch.equal(again.validation.images, data.validation.images)
    assert torch.equal(again.train.images, data.train.images)


def test_nothing_is_set_aside_unless_it_is_asked_for():
    assert len(load("digits", NOWHERE).validation) == 0


@pytest.mark.parametrize(("subset", "share"), [(0, 0.001), (0, 0.999), (20, 0.2), (20, 0.8), (500, 0.0001)])
def test_a_share_that_leaves_a_class_without_a_sample_on_one_side_is_refused(subset, share):
    samples = subset or 1437
    said = f"^validation={share} of the {samples} training samples of digits would leave a class without a sample"
    with pytest.raises(BadInputError, match=said):
        load("digits", NOWHERE, subset, share)


@pytest.mark.parametrize("rare", [1, 2])
def test_a_rare_class_is_on_both_sides_or_the_share_is_refused(tmp_path, rare):
    labels = [0] * 30 + [1] * 30 + [2] * rare
    write_parquet(tmp_path / "train-0.parquet", list(map(encoded, pixels(60 + rare, 8, 8))), labels)
    write_parquet(tmp_path / "test-0.parquet", list(map(encoded, pixels(2, 8, 8))), [0, 1])
    with pytest.raises(BadInputError, match="would leave a class without a sample on one of the two sides"):
        load(f"parquet:{tmp_path}", NOWHERE, 0, 0.2)


def test_digits_are_split_as_they_have_always_been():
    data = load("digits", NOWHERE)
    assert data.train.labels[:10].tolist() == [3, 9, 1, 3, 1, 9, 4, 4, 2, 8]


def test_the_original_mnist_is_read_byte_for_byte(shared_data):
    data = load("mnist", shared_data)
    assert (len(data.train), len(data.test), data.classes, data.shape) == (60000, 10000, 10, (1, 28, 28))
    assert data.train.labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert data.train.labels.bincount().tolist() == [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    assert data.train.images.dtype == torch.uint8
    assert int(data.train.images[0].sum()) == 27525


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


def write_idx(data_dir: Path, train: int = 6, test: int = 4) -> dict[str, np.ndarray]:
    """A small MNIST in torchvision's layout."""
    arrays: dict[str, np.ndarray] = {}
    for name in IDX_FILES:
        count = train if name.startswith("train") else test
        arrays[name] = pixels(count, 28, 28, seed=count) if "images" in name else np.arange(count, dtype=np.uint8)
    raw = data_dir / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name, array in arrays.items():
        header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
        (raw / name).write_bytes(header + array.tobytes())
    return arrays


def test_torchvisions_files_are_read_as_they_lie(tmp_path):
    arrays = write_idx(tmp_path)
    data = load("mnist", tmp_path)
    assert np.array_equal(data.train.images[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    assert np.array_equal(data.test.labels.numpy(), arrays["t10k-labels-idx1-ubyte"])
    assert data.classes == 6


def test_a_dataset_is_read_once_in_a_process(tmp_path):
    write_idx(tmp_path)
    first = load("mnist", tmp_path)
    shutil.rmtree(tmp_path)
    assert load("mnist", tmp_path) is first


@pytest.mark.parametrize("kept", [100, 0], ids=["truncated", "empty"])
@pytest.mark.parametrize("name", IDX_FILES)
def test_a_damaged_file_of_torchvisions_is_refused_in_one_sentence(tmp_path, name, kept):
    write_idx(tmp_path, train=200, test=150)
    path = tmp_path / "MNIST" / "raw" / name
    path.write_bytes(path.read_bytes()[:kept])
    assert "MNIST" in refusal("mnist", tmp_path)


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port of this machine that is taken, and where nobody answers."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


@pytest.fixture
def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")


@pytest.mark.usefixtures("direct")
def test_a_missing_dataset_that_can_not_be_downloaded_is_refused_in_one_sentence(tmp_path, closed_port, monkeypatch):
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{closed_port}/"])
    message = refusal("mnist", tmp_path / "data")
    assert message.startswith(f"MNIST is not in '{tmp_path / 'data'}', or damaged, and could not be downloaded (")
    assert message.endswith("put torchvision's files there, or name their folder with --data-dir.")
    assert not [path for path in tmp_path.rglob("*") if path.is_file() and not path.name.startswith(".")]


def test_a_data_folder_that_is_a_file_is_refused_in_one_sentence(tmp_path):
    (tmp_path / "file").write_text("no folder")
    assert "MNIST is not in" in refusal("mnist", tmp_path / "file")


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A small MNIST served from this machine in place of torchvision's mirrors; the folder it is served from."""
    write_idx(tmp_path / "made")
    folder = tmp_path / "mirror"
    folder.mkdir()
    resources = []
    for name in IDX_FILES:
        content = gzip.compress((tmp_path / "made" / "MNIST" / "raw" / name).read_bytes())
        (folder / f"{name}.gz").write_bytes(content)
        resources.append((f"{name}.gz", hashlib.md5(content).hexdigest()))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(MNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    monkeypatch.setattr(MNIST, "resources", resources)
    yield folder
    server.shutdown()
    server.server_close()


@pytest.mark.usefixtures("direct")
def test_a_missing_dataset_is_downloaded(mirror, tmp_path):
    data = load("mnist", tmp_path / "data")
    assert np.array_equal(data.train.images[:, 0].numpy(), pixels(6, 28, 28, seed=6))
    assert len(data.test) == 4


@pytest.mark.usefixtures("direct")
def test_a_download_that_is_not_what_was_promised_is_refused(mirror, tmp_path):
    (mirror / f"{IDX_FILES[2]}.gz").write_bytes(gzip.compress(b"an error page"))
    assert "could not be downloaded" in refusal("mnist", tmp_path / "data")


@pytest.mark.usefixtures("direct")
def test_workers_that_miss_a_dataset_at_once_all_get_it(mirror, tmp_path):
    found: list[int] = []

    def work() -> None:
        # Past the cache, as another process would.
        found.append(len(load.__wrapped__("mnist", tmp_path / "data").train))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [6] * 4


# Parquet folders


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


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


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


# Image folders


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


# What every dataset can do


def test_bytes_become_numbers_from_0_to_1_and_stay_bytes_themselves():
    images = torch.tensor([0, 51, 255], dtype=torch.uint8)
    for dtype in (torch.float32, torch.float64):
        scaled = to_float(images, dtype)
        assert scaled.dtype == dtype
        assert torch.equal(scaled, torch.tensor([0, 0.2, 1], dtype=dtype))
    assert images.tolist() == [0, 51, 255]


def test_a_moved_split_is_the_same_split(tiny):
    moved = tiny.test.to("cpu")
    assert isinstance(moved, Split)
    assert torch.equal(moved.images, tiny.test.images)
    assert torch.equal(moved.labels, tiny.test.labels)


def test_outsiders_take_the_channels_and_the_size_of_the_dataset():
    grey = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16)
    colour = match_shape(grey, (3, 16, 16))
    assert colour.shape == (1, 3, 16, 16)
    assert (colour == grey).all()
    # Luminance of pure red, green and blue, by the weights of ITU-R 601.
    pure = torch.zeros(3, 3, 4, 4, dtype=torch.uint8)
    pure[[0, 1, 2], [0, 1, 2]] = 255
    assert match_shape(pure, (1, 4, 4))[:, 0, 0, 0].tolist() == pytest.approx(
        [0.2989 * 255, 0.587 * 255, 0.114 * 255], abs=1
    )
    flat = torch.full((2, 1, 28, 28), 77, dtype=torch.uint8)
    assert match_shape(flat, (3, 32, 32)).unique().tolist() == [77]


def test_photos_are_tiles_that_do_not_overlap_and_lie_in_a_package():
    tiles = ood_images("photos", Path("nowhere"), (3, 28, 28))
    assert tiles.shape == (2 * (427 // 28) * (640 // 28), 3, 28, 28)
    photo = torch.from_numpy(load_sample_images().images[0].copy()).permute(2, 0, 1)
    assert (tiles[0] == photo[:, :28, :28]).all()
    assert (tiles[1] == photo[:, :28, 28:56]).all()
    assert (tiles[640 // 28] == photo[:, 28:56, :28]).all()


def write_tiny_imagenet(folder: Path) -> None:
    """Two classes of Tiny ImageNet in its authors' layout, one image of them grey, told apart by their brightness."""
    (folder / "val" / "images").mkdir(parents=True)
    (folder / "wnids.txt").write_text("n2\nn1\n")
    for wnid, brightness in (("n1", 50), ("n2", 200)):
        (folder / "train" / wnid / "images").mkdir(parents=True)
        for number, mode in ((0, "RGB"), (1, "L")):
            image = Image.new(mode, (64, 64), (brightness,) * 3 if mode == "RGB" else brightness)
            image.save(folder / "train" / wnid / "images" / f"{wnid}_{number}.JPEG")
        image.save(folder / "val" / "images" / f"val_{wnid}.JPEG")
    (folder / "val" / "val_annotations.txt").write_text("val_n2.JPEG\tn2\t0\t0\t9\t9\nval_n1.JPEG\tn1\t0\t0\t9\t9\n")


def test_tiny_imagenet_is_read_as_its_authors_lay_it_out(tmp_path):
    write_tiny_imagenet(tmp_path / "tiny-imagenet-200")
    data = load("tiny_imagenet", tmp_path)
    assert data.shape == (3, 64, 64)
    assert data.classes == 2
    for split, labels in ((data.train, [0, 0, 1, 1]), (data.test, [1, 0])):
        assert split.labels.tolist() == labels
        brightness = split.images.float().mean(dim=(1, 2, 3)).round().tolist()
        assert brightness == [[50, 200][label] for label in labels]


def test_a_missing_tiny_imagenet_is_refused_in_one_sentence(tmp_path):
    assert "tiny-imagenet-200" in refusal("tiny_imagenet", tmp_path)
