"""Survey a folder of Parquet files as Hugging Face lays them out.

They are `train-*.parquet` and `test-*.parquet`, in the folder or in `data/`.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from study.data import labels
from study.data.listing import Listing, list_folder
from study.data.survey import TEST_NAMES, Part, Survey, plural, unread
from study.errors import BadInputError

LABELS = ("label", "fine_label", "labels")
"""The known names of label columns; the first that is there is taken."""
NO_LABELS = (
    *("id", "idx", "index", "image_id", "width", "height", "size", "path", "url", "filename", "file_name"),
    *("caption", "text", "md5", "sha256", "hash", "fold", "split", "source", "license", "uuid"),
    *("image_path", "image_url", "image_file_path", "filepath", "file_path", "mode", "format", "channels"),
    *("__index_level_0__", "unnamed: 0", "level_0"),  # rows, as pandas numbers them
)
"""Columns that are never taken for labels, in lower case."""
IMAGES = ("image", "img")
"""The known names of columns of encoded images, where these are no structs."""
ROWS_AT_ONCE = 16
"""How many encoded images are in memory at once."""
SHARD = re.compile(r"(\d+)(?:-of-(\d+)(-[0-9a-f]+)?)?")
"""What numbers a file of a split, and says of how many, in Hugging Face's names; a hash may follow."""

T = TypeVar("T")


@dataclass(frozen=True)
class Columns:
    """What is read of Parquet files.

    Attributes:
        image: the column of encoded images.
        label: the column of labels.
        guessed: whether no column has a known name of labels.
        classes: the names of the classes in the file's metadata, by number; empty if it has none.
    """

    image: str
    label: str
    guessed: bool
    classes: tuple[str, ...]

    def __str__(self) -> str:
        """Return in words what was taken."""
        guess = ", the only one that can be" if self.guessed else ""
        return f"images from column {self.image!r}, labels from {self.label!r}{guess}"


def survey(folder: Path) -> Survey:
    """Find the files and the columns of a Parquet dataset, read its labels, and number its classes.

    Raises:
        BadInputError: files are missing, of several exports or no Parquet; it is not clear which columns are the images
            and the labels; or the labels can't be used.
    """
    listing = list_folder(folder)
    names, parts = ("train", *TEST_NAMES), []
    for uses in (names[:1], names[1:]):
        parts.append(_shards(listing, uses))
    (_, train_files), (test_name, test_files) = parts
    columns = _columns([listing.path(file) for file in train_files + test_files])
    values = [_labels([listing.path(file) for file in files], columns) for files in (train_files, test_files)]
    if columns.guessed:
        _check_guess(columns.label, values[0].values, str(listing.path(train_files[0])))
    if not columns.classes:
        values = list(labels.without_spelling(*values))
    train, test, classes = labels.number(values[0], values[1], columns.classes, str(folder))
    order = {
        "numbers": "in the order of their numbers",
        "true or false": "false before true",
        "text": "in the order of their names",
    }[values[0].kind]
    if columns.classes:
        order = "as the file's metadata name them"
    return Survey(
        _part(listing, "train", train_files, train, columns),
        _part(listing, test_name, test_files, test, columns),
        classes,
        f"{columns}, {order}",
        unread(listing, train_files, test_files),
    )


def _part(listing: Listing, name: str, files: Sequence[PurePosixPath], numbered: np.ndarray, columns: Columns) -> Part:
    paths = [listing.path(file) for file in files]
    return Part(f"{plural(len(files), 'file')} {name}-*", numbered, lambda: _encoded(paths, columns.image))


def _shards(listing: Listing, names: Sequence[str]) -> tuple[str, list[PurePosixPath]]:
    """Return the name and the files of the first of these splits that is there.

    Raises:
        BadInputError: there is none, one of its files is missing, or they are of more than one export.
    """
    for name in names:
        files = [file for file in listing.files if len(file.parts) <= 2 and file.match(f"{name}-*.parquet")]
        files = [file for file in files if str(file.parent) in (".", "data")]
        if files:
            _check_complete(listing, name, files)
            return name, files
    patterns = " or ".join(f"{name}-*.parquet" for name in names)
    others = [str(file) for file in listing.files if file.suffix == ".parquet"]
    hint = f"; it has {', '.join(others[:3])}{', ...' * (len(others) > 3)}" if others else ""
    raise BadInputError(f"{str(listing.folder)!r} holds no {patterns}{hint}.")


def _check_complete(listing: Listing, split: str, files: Sequence[PurePosixPath]) -> None:
    """Refuse files of a split that are of more than one export, or not all of one."""
    shards = [shard for file in files if (shard := SHARD.fullmatch(file.stem.removeprefix(f"{split}-")))]
    numbers, counts = [int(shard[1]) for shard in shards], {shard[2] for shard in shards}
    # Where no name is a number, the files are of a form of their own, and all are taken.
    of_one_form = len(shards) in (0, len(files)) and len(counts) <= 1 and len(set(numbers)) == len(numbers)
    if not of_one_form or len({file.parent for file in files}) > 1:
        raise BadInputError(
            f"{str(listing.folder)!r} has files of more than one export of {split}: {_some(files)}; keep one export."
        )
    if not shards:
        return
    count = counts.pop()
    expected = _expected(numbers, int(count) if count else None)
    missing = sorted(set(expected).difference(numbers))
    if missing:
        end = f"-of-{count}{'-*' * bool(shards[0][3])}" if count else ""
        names = [f"{split}-{number:0{len(shards[0][1])}}{end}.parquet" for number in missing]
        raise BadInputError(
            f"{str(listing.folder)!r} has not all files of {split}: {', '.join(names[:4])}{', ...' * (len(names) > 4)} "
            f"{'is' if len(names) == 1 else 'are'} missing; fetch what is missing."
        )
    if not set(numbers) <= set(expected):
        raise BadInputError(
            f"{str(listing.folder)!r} has {len(numbers)} files of {split} that are numbered as {int(count)}: "
            f"{_some(files)}; fetch them anew."
        )


def _expected(numbers: Sequence[int], count: int | None) -> range:
    """Return the numbers that the files of a split should have; some count from 1."""
    if count is None:
        return range(min(numbers), max(numbers) + 1)
    first = int(0 not in numbers and max(numbers) == count)
    return range(first, first + count)


def _some(files: Sequence[PurePosixPath]) -> str:
    return ", ".join(map(str, files[:4])) + ", ..." * (len(files) > 4)


def _columns(files: Sequence[Path]) -> Columns:
    """Return what is to be read of files, which must be the same in all.

    Raises:
        BadInputError: a file is no Parquet, it is not clear which column is which, or files differ.
    """
    chosen = [_choose(_reading(file, pq.read_schema), str(file)) for file in files]
    for file, columns in zip(files, chosen, strict=True):
        if columns != chosen[0]:
            raise BadInputError(
                f"{str(files[0])!r} and {str(file)!r} differ in their columns or in the names of their classes "
                f"({chosen[0]}; {columns}); write them by one export."
            )
    return chosen[0]


def _choose(schema: pa.Schema, file: str) -> Columns:
    def refusal() -> BadInputError:
        return BadInputError(
            f"{file!r} must have one image column, a struct with 'bytes' or binary, and a column 'label'; "
            f"it has {', '.join(schema.names)}."
        )

    twice = next((name for name in schema.names if schema.names.count(name) > 1), None)
    if twice is not None:
        raise BadInputError(f"{file!r} has two columns {twice!r}; rename or drop one.")
    known = next((name for name in LABELS if name in schema.names), None)
    images = [field.name for field in schema if _is_image_struct(field.type)]
    if not images:
        binary = [field.name for field in schema if _is_binary(field.type) and field.name != known]
        images = [name for name in binary if name in IMAGES] or binary
    if len(images) != 1:
        raise refusal()
    guesses = [
        field.name
        for field in schema
        if field.name not in images and field.name.lower() not in NO_LABELS and labels.may_be_labels(field.type)
    ]
    if known is None and len(guesses) != 1:
        raise refusal()
    label = known or guesses[0]
    return Columns(images[0], label, known is None, _class_names(schema, label))


def _is_image_struct(of: pa.DataType) -> bool:
    return pa.types.is_struct(of) and of.get_field_index("bytes") >= 0 and _is_binary(of.field("bytes").type)


def _is_binary(of: pa.DataType) -> bool:
    if pa.types.is_dictionary(of):
        of = of.value_type
    return of in (pa.binary(), pa.large_binary(), pa.binary_view())


def _class_names(schema: pa.Schema, label: str) -> tuple[str, ...]:
    """Return the names that Hugging Face's metadata give the classes of a column, by number; none if they don't."""
    try:
        feature = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"][label]
        return tuple(map(str, feature["names"])) if feature["_type"] == "ClassLabel" else ()
    except (KeyError, TypeError, ValueError):
        return ()


def _labels(files: Sequence[Path], columns: Columns) -> labels.Values:
    """Read the labels of files."""
    parts = []
    for file in files:
        table = _reading(file, lambda path: pq.ParquetFile(path).read(columns=[columns.label]))
        parts.append(labels.read_values(table[columns.label], f"column {columns.label!r} of {str(file)!r}"))
        if parts[-1].kind != parts[0].kind:
            raise BadInputError(
                f"column {columns.label!r} holds {parts[0].kind} in {str(files[0])!r} and {parts[-1].kind} in "
                f"{str(file)!r}; write them by one export."
            )
    values = np.concatenate([part.values for part in parts])
    if not len(values):
        raise BadInputError(f"{str(files[0])!r} holds no images.")
    return labels.Values(parts[0].kind, values)


def _check_guess(label: str, values: np.ndarray, file: str) -> None:
    """Refuse to take a column for labels that numbers the images."""
    if len(values) > 2 and len(set(values.tolist())) == len(values):
        raise BadInputError(
            f"column {label!r} of {file!r} differs from image to image, so it holds no labels; name the column of "
            "labels 'label'."
        )


def _encoded(files: Sequence[Path], image: str) -> Iterator[tuple[str, bytes]]:
    """Yield the name of each image and its bytes, a few rows at a time: a column may not fit Arrow's 2 GiB."""
    for file in files:
        row = 0
        for batch in _batches(file, image):
            for cell in batch.column(image).to_pylist():
                content = cell["bytes"] if isinstance(cell, dict) else cell
                name = f"{str(file)!r}, row {row},"
                if content is None:
                    raise BadInputError(f"{name} has no image, but at most its path; write the images into the file.")
                yield name, content
                row += 1


def _batches(file: Path, column: str) -> Iterator[pa.RecordBatch]:
    with _reading(file, lambda path: pq.ParquetFile(path, buffer_size=2**20)) as opened:
        batches = opened.iter_batches(ROWS_AT_ONCE, columns=[column], use_threads=False)
        while (batch := _reading(file, lambda _: next(batches, None))) is not None:
            yield batch


def _reading(file: Path, read: Callable[[Path], T]) -> T:
    """Return what is read of a file.

    Raises:
        BadInputError: it can't be read as Parquet.
    """
    try:
        return read(file)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0].rstrip(".")
        raise BadInputError(f"{str(file)!r} can't be read as Parquet: {reason}; fetch or write it anew.") from None
