"""Files that stand in for datasets, and images to fill them with."""

import io
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from study.data.load import load
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


def write_images(
    folder: Path, parts: Sequence[str] = ("train", "test"), seed: int = 0, contents: Sequence[bytes] = ()
) -> Path:
    """An image folder of two classes with two images each, by default grey ones of 8x8."""
    images = iter(contents or list(map(encoded, pixels(4 * len(parts), 8, 8, seed=seed))))
    for part in parts:
        for name in ("cat/0", "cat/1", "dog/0", "dog/1"):
            path = folder / part / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(next(images))
    return folder


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


def truncate(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
