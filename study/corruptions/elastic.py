"""Images warped: by an affine map, and by a smooth field of random displacements."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from study.corruptions.pixels import Bytes, Numbers, Streams, to_bytes, to_numbers

SUBPIXELS = 32
"""Into how many parts OpenCV divides a pixel where it interpolates, with which the published files were made."""
FIXED_POINT = 1024
"""Into how many it does where it maps a position."""
Index = NDArray[np.int64]


def elastic(images: Bytes, warp: tuple[float, float, float], streams: Streams) -> Bytes:
    """Return images stretched like rubber.

    Args:
        images: bytes.
        warp: how far pixels are displaced, how smoothly, and how far three points are that fix an affine map before;
            each as a share of the image's side, for here lengths grow with it.
        streams: those of the images.
    """
    height, width = images.shape[2:]
    distance, sigma, affine = (share * min(height, width) for share in warp)
    pixels = affine_warp(to_numbers(images).astype(np.float32), affine * (2 * streams.uniform(3, 2) - 1))
    across, down = (_field(streams.uniform(height, width), distance, sigma) for _ in range(2))
    return to_bytes(_interpolate(pixels, np.arange(height)[:, None] + down, np.arange(width) + across, _reflected))


def _field(uniform: Numbers, distance: float, sigma: float) -> Numbers:
    """Return smooth displacements from numbers in [0, 1), [N, H, W]."""
    smooth: Numbers = ndimage.gaussian_filter(2 * uniform - 1, (0, sigma, sigma), mode="reflect", truncate=3)
    return (smooth * distance).astype(np.float32).astype(np.float64)


def affine_warp(pixels: NDArray[np.float32], moved: Numbers) -> NDArray[np.float32]:
    """Return images under the affine map that moves three of their points so far, as OpenCV's `warpAffine` does it.

    Args:
        pixels: [N, C, H, W].
        moved: by how much x and y of each point grow, [N, 3, 2]. The points lie about the middle, as three corners of a
            square.
    """
    height, width = pixels.shape[2:]
    away = min(height, width) // 3
    corners = np.array([[away, away], [away, -away], [-away, -away]]) + np.array([width // 2, height // 2])
    # OpenCV is given these points in float32.
    to = (corners.astype(np.float32) + moved.astype(np.float32)).astype(np.float64)
    known = np.concatenate([to, np.ones((len(to), 3, 1))], axis=2)
    back = np.linalg.solve(known, np.broadcast_to(corners.astype(np.float64), to.shape)).transpose(0, 2, 1)
    x, y = ((back[:, row], np.arange(width), np.arange(height)[:, None]) for row in (0, 1))
    return _interpolate(pixels, _position(*y), _position(*x), _mirrored)


def _position(row: Numbers, x: Index, y: Index) -> Numbers:
    """Return a coordinate of where each pixel comes from, [N, H, W], with OpenCV's roundings."""
    of_x, of_y, offset = row.T[:, :, None, None]
    across, down = np.rint(of_x * x * FIXED_POINT), np.rint((of_y * y + offset) * FIXED_POINT)
    finer = FIXED_POINT // SUBPIXELS
    return np.asarray(np.floor((across + down + finer // 2) / finer) / SUBPIXELS)


def _interpolate(
    pixels: NDArray[np.float32], rows: Numbers, columns: Numbers, fold: Callable[[Index, int], Index]
) -> NDArray[np.float32]:
    """Return images at other positions, by the four pixels around each.

    Args:
        pixels: [N, C, H, W].
        rows: [N, H, W].
        columns: [N, H, W].
        fold: gives the index that stands for one beyond the edges.
    """
    count, channels, height, width = pixels.shape
    flat = pixels.reshape(count, channels, -1)
    top, left = np.floor(rows).astype(np.int64), np.floor(columns).astype(np.int64)
    down, right = (rows - top).astype(np.float32), (columns - left).astype(np.float32)
    found: Any = 0
    for row, of_row in ((top, 1 - down), (top + 1, down)):
        for column, of_column in ((left, 1 - right), (left + 1, right)):
            at = (fold(row, height) * width + fold(column, width)).reshape(count, 1, -1)
            weight = (of_row * of_column).reshape(count, 1, -1)
            found = found + weight * np.take_along_axis(flat, at, axis=2)
    result: NDArray[np.float32] = found.reshape(pixels.shape)
    return result


def _mirrored(index: Index, count: int) -> Index:
    """Return the index for one beyond the edges, where the edge itself is the mirror: 2 1 | 0 1 2."""
    index = np.abs(index) % (2 * count - 2)
    return np.minimum(index, 2 * count - 2 - index)


def _reflected(index: Index, count: int) -> Index:
    """Return the same where the edge pixel comes twice: 1 0 | 0 1 2."""
    index = index % (2 * count)
    return np.minimum(index, 2 * count - 1 - index)
