"""Kernels for batch norm, max-pooling and ReLU in one pass over memory each way, compiled on first use.

A narrow network on a CPU spends as long on moving feature maps through memory as on arithmetic: torch reads or writes
them some ten times between one convolution and the next. Here the forward pass reads them twice (once for the moments)
and writes a quarter, and the backward pass reads them once and writes their gradient.

All kernels take features with channels last, [N, H, W, C] or flat as [rows, C], in float32 or float64, and run on one
thread. NaN and infinity come out as NaN, as in torch: the compiler may reorder sums, but not assume that numbers are
finite.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Features = NDArray[Any]

compiled: Callable[..., Any] = numba.njit(cache=True, nogil=True, fastmath={"nsz", "reassoc", "contract", "arcp"})

BLOCK = 32
"""The rows that are added up in the features' own precision; the sums of blocks are added up in float64."""
OFF = 4
"""Stands for the position of a window's largest value where ReLU lets nothing through."""


@compiled
def moments(features: Features, mean: Features, variance: Features) -> None:
    """Compute the mean and the biased variance of each channel over all rows, as sums of distances to the first row.

    Args:
        features: [rows, C].
        mean: [C], filled.
        variance: [C], filled.
    """
    rows, channels = features.shape
    origin = features[0].copy()
    block, squares = np.zeros_like(origin), np.zeros_like(origin)
    total, total_squares = np.zeros(channels), np.zeros(channels)
    for start in range(0, rows, BLOCK):
        block[:] = 0
        squares[:] = 0
        for row in range(start, min(start + BLOCK, rows)):
            for c in range(channels):
                distance = features[row, c] - origin[c]
                block[c] += distance
                squares[c] += distance * distance
        for c in range(channels):
            total[c] += block[c]
            total_squares[c] += squares[c]
    for c in range(channels):
        shift = total[c] / rows
        mean[c] = origin[c] + shift
        variance[c] = total_squares[c] / rows - shift * shift


@compiled
def pool(
    features: Features,
    scale: Features,
    shift: Features,
    largest: Features,
    where: Features | None,
    source: Features | None,
) -> None:
    """Compute ReLU of the largest of scale * x + shift in each window of 2 x 2 pixels.

    What is None is left out of the compiled code.

    Args:
        features: [N, H, W, C], H and W even.
        scale: [C].
        shift: [C].
        largest: [N, H/2, W/2, C], filled with the result.
        where: uint8 of the same shape, filled with the position in its window of the x that the result comes from, row
            by row; `OFF` where ReLU lets nothing through.
        source: of the same shape, filled with that x.
    """
    images, height, width, channels = largest.shape
    zero = features.dtype.type(0)
    for n in range(images):
        for i in range(height):
            for j in range(width):
                x0, x1 = features[n, 2 * i, 2 * j], features[n, 2 * i, 2 * j + 1]
                x2, x3 = features[n, 2 * i + 1, 2 * j], features[n, 2 * i + 1, 2 * j + 1]
                best_of = largest[n, i, j]
                if where is not None:
                    at = where[n, i, j]
                if source is not None:
                    from_x = source[n, i, j]
                for c in range(channels):
                    best, x, position = scale[c] * x0[c] + shift[c], x0[c], np.uint8(0)
                    # As torch does it, the first of equal ones wins, and a NaN wins over any number.
                    other = scale[c] * x1[c] + shift[c]
                    if other > best or other != other:
                        best, x, position = other, x1[c], np.uint8(1)
                    other = scale[c] * x2[c] + shift[c]
                    if other > best or other != other:
                        best, x, position = other, x2[c], np.uint8(2)
                    other = scale[c] * x3[c] + shift[c]
                    if other > best or other != other:
                        best, x, position = other, x3[c], np.uint8(3)
                    # Not `max`: a NaN must stay one.
                    if best <= 0:
                        best, position = zero, np.uint8(OFF)
                    best_of[c] = best
                    if where is not None:
                        at[c] = position
                    if source is not None:
                        from_x[c] = x


@compiled
def sum_gradient(
    gradient: Features, source: Features, where: Features, mean: Features, total: Features, projection: Features
) -> None:
    """Sum over rows the gradient that ReLU lets through, and its product with x - mean.

    Args:
        gradient: [rows, C], at the result of `pool`.
        source: [rows, C], from `pool`.
        where: uint8 [rows, C], from `pool`.
        mean: [C].
        total: [C], filled with the sum of the gradient.
        projection: [C], filled with the sum of the product.
    """
    rows, channels = gradient.shape
    zero = gradient.dtype.type(0)
    block, product = np.zeros_like(mean), np.zeros_like(mean)
    sums, products = np.zeros(channels), np.zeros(channels)
    for start in range(0, rows, BLOCK):
        block[:] = 0
        product[:] = 0
        for row in range(start, min(start + BLOCK, rows)):
            for c in range(channels):
                through = gradient[row, c] if where[row, c] < OFF else zero
                block[c] += through
                product[c] += through * (source[row, c] - mean[c])
        for c in range(channels):
            sums[c] += block[c]
            products[c] += product[c]
    for c in range(channels):
        total[c] = sums[c]
        projection[c] = products[c]


@compiled
def spread_gradient(
    features: Features,
    gradient: Features,
    where: Features,
    mean: Features,
    scale: Features,
    slope: Features,
    offset: Features,
    result: Features,
) -> None:
    """Compute the gradient at the features: slope * (x - mean) + offset, plus scale * gradient where results come from.

    Args:
        features: [N, H, W, C].
        gradient: [N, H/2, W/2, C], at the result of `pool`.
        where: uint8 of the same shape, from `pool`.
        mean: [C].
        scale: [C].
        slope: [C].
        offset: [C].
        result: [N, H, W, C], filled.
    """
    images, height, width, channels = gradient.shape
    zero = gradient.dtype.type(0)
    for n in range(images):
        for i in range(height):
            for j in range(width):
                from_above, at = gradient[n, i, j], where[n, i, j]
                for position in range(4):
                    row, column = 2 * i + position // 2, 2 * j + position % 2
                    x, into = features[n, row, column], result[n, row, column]
                    for c in range(channels):
                        through = scale[c] * from_above[c] if at[c] == position else zero
                        into[c] = (x[c] - mean[c]) * slope[c] + offset[c] + through


@compiled
def spread_fixed(gradient: Features, where: Features, scale: Features, result: Features) -> None:
    """Compute the gradient at the features under a fixed scale and shift: scale * gradient where results come from.

    Args:
        gradient: [N, H/2, W/2, C], at the result of `pool`.
        where: uint8 of the same shape, from `pool`.
        scale: [C].
        result: [N, H, W, C], filled.
    """
    images, height, width, channels = gradient.shape
    zero = gradient.dtype.type(0)
    for n in range(images):
        for i in range(height):
            for j in range(width):
                from_above, at = gradient[n, i, j], where[n, i, j]
                for position in range(4):
                    into = result[n, 2 * i + position // 2, 2 * j + position % 2]
                    for c in range(channels):
                        into[c] = scale[c] * from_above[c] if at[c] == position else zero
