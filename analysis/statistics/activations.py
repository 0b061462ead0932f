"""What the activations of a network's layers tell of its classes (Galloway et al., 2019, Figures 1, 4 and 7)."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.load import KEY
from study.record.results import Results

CLASS_SPREAD, NEIGHBOUR_ACC = "class_spread", "neighbour_acc"
TWO_UNITS, MIXED = 3, 14
"""The layers that the paper is about, by their number from the input: that of two units, and one of a deep network."""


def layer_points(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return the rows of `activations` of some members with `place`, a layer's number from the input, which is 0."""
    rows = results.read(sweep, "activations", trials=set(members["trial"])).to_pandas()
    rows = members[[*KEY, "norm", "seed", "model"]].merge(rows, on=KEY)
    # A network's layers are recorded in their order.
    place = rows.groupby([*KEY, "epoch"])["layer"].transform(lambda layer: pd.factorize(layer)[0])
    return rows.assign(place=place.astype(int))


def with_activations(sweep: str, members: pd.DataFrame, results: Results) -> pd.DataFrame:
    """Return the members with `CLASS_SPREAD` and `NEIGHBOUR_ACC` before training, missing without such a layer."""
    points = layer_points(sweep, members, results)
    before = points[points["epoch"] == 0]
    found = []
    for key, of_member in before.groupby(KEY):
        layers = dict(iter(of_member.groupby("place")))
        row = dict(zip(KEY, key, strict=True))
        for name, measure, place in ((CLASS_SPREAD, class_spread, TWO_UNITS), (NEIGHBOUR_ACC, neighbour_acc, MIXED)):
            if place in layers:
                layer = layers[place]
                row[name] = measure(layer[["x", "y"]].to_numpy(float), layer["label"].to_numpy())
        found.append(row)
    columns = [*KEY, CLASS_SPREAD, NEIGHBOUR_ACC]
    return members.merge(pd.DataFrame(found, columns=columns), on=KEY, how="left")


def class_spread(points: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return how far the classes lie apart: the root mean square distance of their means from the mean of these.

    Args:
        points: [N, 2].
        labels: [N].

    Example:
        >>> class_spread(np.array([[0.0, 0], [2, 0], [0, 4], [2, 4]]), np.array([0, 0, 1, 1]))
        2.0
    """
    means = np.stack([points[labels == label].mean(axis=0) for label in np.unique(labels)])
    return float(np.sqrt(((means - means.mean(axis=0)) ** 2).sum(axis=1).mean()))


def neighbour_acc(points: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Return the share of samples whose nearest other sample is of their class.

    Args:
        points: [N, 2].
        labels: [N].

    Example:
        >>> neighbour_acc(np.array([[0.0, 0], [1, 0], [9, 0], [8, 0]]), np.array([0, 0, 1, 0]))
        0.5
    """
    distance = ((points[:, None] - points[None]) ** 2).sum(axis=2)
    np.fill_diagonal(distance, np.inf)
    return float((labels[distance.argmin(axis=1)] == labels).mean())
