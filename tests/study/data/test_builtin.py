import gzip
import hashlib
import socket
import threading
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision.datasets import MNIST

from study.data.catalog import DATASETS
from study.data.load import _load, load
from study.errors import BadInputError
from tests.study.data.sources import IDX_FILES, NOWHERE, pixels, refusal, write_idx


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


def test_torchvisions_files_are_read_as_they_lie(tmp_path):
    arrays = write_idx(tmp_path)
    data = load("mnist", tmp_path)
    assert np.array_equal(data.train.images[:, 0].numpy(), arrays["train-images-idx3-ubyte"])
    assert np.array_equal(data.test.labels.numpy(), arrays["t10k-labels-idx1-ubyte"])
    assert data.classes == 6


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
        found.append(len(_load.__wrapped__("mnist", str(tmp_path / "data"), 0, 0.0, 0, 0).train))

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [6] * 4


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


def test_the_spheres_are_two_circles_with_as_many_points_each(tmp_path):
    data = load("spheres", tmp_path)
    assert (len(data.train), len(data.test), data.shape, data.classes) == (1_000, 20_000, (2, 1, 1), 2)
    for split in (data.train, data.test):
        radii = split.images.flatten(1).norm(dim=1)
        for label, radius in enumerate((1.0, 1.3)):
            of_class = split.labels == label
            assert of_class.sum() == len(split) / 2
            torch.testing.assert_close(radii[of_class], torch.full((int(of_class.sum()),), radius))
            # All around: the mean point of a circle is its centre, here within five standard errors.
            centre = split.images[of_class].flatten(1).mean(dim=0)
            assert centre.abs().max() < 5 * radius / (2 * of_class.sum()) ** 0.5


def test_threes_and_sevens_are_those_of_the_digits_with_labels_0_and_1(tmp_path):
    whole, two = load("digits", tmp_path), load("digits_3_7", tmp_path)
    for of_ten, of_two in ((whole.train, two.train), (whole.test, two.test)):
        for label, digit in enumerate((3, 7)):
            assert torch.equal(of_two.images[of_two.labels == label], of_ten.images[of_ten.labels == digit])
        assert len(of_two) == torch.isin(of_ten.labels, torch.tensor([3, 7])).sum()
    row = DATASETS["digits_3_7"]
    assert (row.train, row.test, row.classes) == (len(two.train), len(two.test), two.classes)


def test_enlarged_images_have_each_pixel_many_times(tmp_path):
    plain, enlarged = load("digits", tmp_path), load("digits", tmp_path, resize=56)
    assert (enlarged.shape, enlarged.enlarged) == ((1, 56, 56), 2)
    for row, column in ((0, 0), (0, 1), (1, 1)):
        assert torch.equal(enlarged.test.images[..., row::2, column::2], plain.test.images)
    with pytest.raises(BadInputError, match="28x28: 50 is no multiple"):
        load("digits", tmp_path, resize=50)
