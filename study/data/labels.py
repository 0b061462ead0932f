"""Number the classes of a label column from 0, in a stated order.

The classes are those that occur in the training set, unless the file's own metadata name them: whole numbers by size,
false before true, and text by its characters, or by number where all of it is whole numbers. Where they are named, a
number is a place among the names, from 0, and text is one of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from study.errors import BadInputError


@dataclass(frozen=True)
class Values:
    """What a label column holds: whole numbers, or text.

    Attributes:
        kind: `numbers`, `true or false`, or `text`.
        values: int64 [N], or objects.
    """

    kind: str
    values: NDArray[np.int64] | NDArray[np.object_]


def may_be_labels(of: pa.DataType) -> bool:
    """Return whether a column of that type can hold labels."""
    while pa.types.is_dictionary(of):
        of = of.value_type
    return bool(pa.types.is_integer(of) or pa.types.is_floating(of) or pa.types.is_boolean(of) or _is_text(of))


def read_values(column: pa.ChunkedArray, name: str) -> Values:
    """Return the labels of a column; `name` stands for it in a message.

    Raises:
        BadInputError: a label is missing, or they are of a type that labels can't have.
    """
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    if column.null_count:
        row = column.is_null().index(True).as_py()
        raise BadInputError(f"{name} is null in row {row}; give every image a label, or remove the row.")
    if not may_be_labels(column.type):
        raise BadInputError(f"{name} is {column.type}; labels are whole numbers, true or false, or text.")
    try:
        if not _is_text(column.type):
            kind = "true or false" if pa.types.is_boolean(column.type) else "numbers"
            return Values(kind, np.asarray(column.cast(pa.int64())))
        text = column.cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise BadInputError(f"{name} has what is no label: {str(error).splitlines()[0]}; number the classes.") from None
    if pc.any(pc.equal(pc.utf8_trim_whitespace(text), "")).as_py():
        raise BadInputError(f"{name} is empty in a row; give every image a label, or remove the row.")
    return Values("text", np.asarray(text.to_pylist(), dtype=object))


def without_spelling(train: Values, test: Values) -> tuple[Values, Values]:
    """Return the labels of both sets as numbers where they are text that is all whole numbers, else as they are."""
    parts = train, test
    if not all(part.kind == "text" and all(map(_is_whole_number, part.values.tolist())) for part in parts):
        return parts
    # As objects, for they may be larger than int64 takes.
    numbers = [np.asarray([int(text) for text in part.values.tolist()], dtype=object) for part in parts]
    return Values("numbers", numbers[0]), Values("numbers", numbers[1])


def number(
    train: Values, test: Values, named: Sequence[str], source: str
) -> tuple[NDArray[np.int64], NDArray[np.int64], Sequence[str]]:
    """Number the classes, and return the labels of the training and the test set, and the names of the classes.

    Args:
        train: what the labels of the training set are.
        test: the same of the test set.
        named: the names of all classes in the file's metadata, by number; empty if it has none.
        source: where they are from, in a message.

    Raises:
        BadInputError: a number is below 0 or has no name, text is no name, or the test set has a class of its own.
    """
    if train.kind != test.kind:
        raise BadInputError(f"{source}: labels are {train.kind} in the training set and {test.kind} in the test set.")
    occurring = sorted(set(train.values.tolist()))
    own = sorted(set(test.values.tolist()).difference(occurring))
    if train.kind == "text":
        _check_names([*occurring, *own], named, source)
    else:
        _check_range([*occurring, *own], named, source)
    if own:
        raise BadInputError(
            f"{source}: the test set has a class of its own, {own[0]}; remove it, or put images of it into the "
            "training set as well."
        )
    if named and train.kind != "text":
        return _int64(train.values), _int64(test.values), named
    place = {value: label for label, value in enumerate(named or occurring)}
    labels = [_int64([place[value] for value in part.values.tolist()]) for part in (train, test)]
    truth = train.kind == "true or false"
    return labels[0], labels[1], named or [str(bool(value)).lower() if truth else str(value) for value in occurring]


def _check_names(values: Sequence[str], named: Sequence[str], source: str) -> None:
    unknown = next((value for value in values if named and value not in named), None)
    if unknown is not None:
        raise BadInputError(
            f"{source}: a label is {unknown!r}, which is none of the {len(named)} classes that the file's metadata "
            "name; correct either."
        )


def _check_range(values: Sequence[int], named: Sequence[str], source: str) -> None:
    if min(values) < 0:
        raise BadInputError(
            f"{source}: labels must run from 0 up, but one is {min(values)}; remove images without a label, or number "
            "the classes anew."
        )
    if named and max(values) >= len(named):
        raise BadInputError(
            f"{source}: a label is {max(values)}, but the file's metadata name {len(named)} classes; correct either."
        )


def _is_text(of: pa.DataType) -> bool:
    return of in (pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary(), pa.binary_view())


def _is_whole_number(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and text == str(int(text))


def _int64(values: Sequence[int] | NDArray[np.int64] | NDArray[np.object_]) -> NDArray[np.int64]:
    return np.asarray(values, dtype=np.int64)
