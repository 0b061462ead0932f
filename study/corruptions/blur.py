"""Blur: of a lens, of frosted glass, of motion and of a zoom."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from study.corruptions.pixels import Bytes, Numbers, Streams, to_bytes, to_numbers


def gaussian(images: Bytes, sigma: float, _: Streams) -> Bytes:
    """Return images smoothed by a Gaussian."""
    return to_bytes(_smooth(to_numbers(images), sigma))


def _smooth(images: Numbers, sigma: float) -> Numbers:
    smoothed: Numbers = ndimage.gaussian_filter(images, (0, 0, sigma, sigma), mode="nearest")
    return smoothed


def defocus(images: Bytes, disk: tuple[float, float], _: Streams) -> Bytes:
    """Return images each of whose points is spread over a disk, of a radius and with an edge softened by a Gaussian."""
    return to_bytes(ndimage.correlate(to_numbers(images), disk_kernel(*disk)[None, None], mode="mirror"))


def disk_kernel(radius: float, softness: float) -> Numbers:
    """Return the weights of a disk of at most 1.5 pixels, [5, 5], smoothed over the next pixels."""
    at = np.arange(-2, 3)
    disk = np.where(at**2 + at[:, None] ** 2 <= radius**2, 1.0, 0.0)
    beside = np.exp(-1 / (2 * softness**2))
    weights = np.array([beside, 1.0, beside]) / (1 + 2 * beside)
    for axis in (0, 1):
        disk = ndimage.correlate1d(disk, weights, axis, mode="constant")
    return np.asarray(disk / disk.sum())


def glass(images: Bytes, frosted: tuple[float, int], streams: Streams) -> Bytes:
    """Return images smoothed, of whose pixels each takes the place of a neighbour so many times, and smoothed again.

    The script means to exchange neighbours. But of two views of one array, its exchange copies the one and leaves the
    other; and each copy is from pixels that are yet to come. So a pixel is the old one there, or left of it or above.
    """
    sigma, times = frosted
    height, width = images.shape[2:]
    moved = to_bytes(_smooth(to_numbers(images), sigma))
    rows, columns = np.arange(2, height)[:, None], np.arange(2, width)
    image, channel = np.arange(len(images))[:, None, None, None], np.arange(images.shape[1])[:, None, None]
    for left, up in streams.coins(times, 2, height - 2, width - 2).transpose(1, 2, 0, 3, 4):
        moved[:, :, 2:, 2:] = moved[image, channel, (rows - up)[:, None], (columns - left)[:, None]]
    return to_bytes(_smooth(to_numbers(moved), sigma))


def motion(images: Bytes, path: tuple[int, float], streams: Streams) -> Bytes:
    """Return images moved along a line within 45 degrees of the horizontal; see `along_lines`."""
    angles = np.pi / 2 * (streams.uniform() - 0.5)
    return np.rint(along_lines(images.astype(np.float64), *path, angles)).astype(np.uint8)


def along_lines(images: Numbers, radius: int, sigma: float, angles: Numbers) -> Numbers:
    """Return images each of whose pixels is the mean over those on a line from it, with the weights of half a Gaussian.

    So ImageMagick does it, but for how it rounds: a point of the line is the pixel nearest to it, and beyond an edge
    the image goes on as its last pixel.

    Args:
        images: [N, C, H, W].
        radius: half the number of points, less one half.
        sigma: the Gaussian's standard deviation, in pixels.
        angles: of each image's line, in radians from the right to below, [N].
    """
    height, width = images.shape[2:]
    at = np.arange(2 * radius + 1)
    weights = np.exp(-(at**2) / (2 * sigma**2))
    weights /= weights.sum()
    steps = np.ceil(at[:, None, None] * np.stack([np.sin(angles), np.cos(angles)], axis=1) - 0.5).astype(int)
    margin = 2 * radius
    padded = np.pad(images, ((0, 0), (0, 0), (margin, margin), (margin, margin)), mode="edge")
    blurred = np.zeros_like(images)
    for weight, step in zip(weights, steps, strict=True):
        # Few steps differ, so that images are taken together by their step.
        for down, right in np.unique(step, axis=0):
            of = np.flatnonzero((step == (down, right)).all(axis=1))
            top, left = margin + down, margin + right
            blurred[of] += weight * padded[of, :, top : top + height, left : left + width]
    return blurred


def zoom(images: Bytes, end: float, _: Streams) -> Bytes:
    """Return the mean of images and of their enlargements, each larger by a hundredth, up to the end."""
    pixels = to_numbers(images).astype(np.float32)
    # As these are rounded, the end is among the first two severities' factors and not among the others'.
    factors = [float(factor) for factor in np.arange(1, end, 0.01)]
    rows, columns = (
        np.stack([zoom_matrix(side, factor) for factor in factors]).astype(np.float32) for side in images.shape[2:]
    )
    height, width = images.shape[2:]
    # All enlargements are one product, of columns side by side, and another, which sums over them as it does the rows.
    wide = pixels @ columns.reshape(-1, width).T
    tall = wide.reshape(*pixels.shape[:3], len(factors), width).swapaxes(2, 3).reshape(*pixels.shape[:2], -1, width)
    return to_bytes((pixels + rows.swapaxes(0, 1).reshape(height, -1) @ tall) / (len(factors) + 1))


@cache
def zoom_matrix(side: int, factor: float) -> Numbers:
    """Return the matrix that enlarges a line of pixels about its middle by a factor, [side, side].

    Enlarging is linear, so that the matrix is the lines of the identity, enlarged.
    """
    cropped = int(np.ceil(side / factor))
    first = (side - cropped) // 2
    identity = np.eye(side)[first : first + cropped]
    enlarged: Numbers = ndimage.zoom(identity, (factor, 1), order=1)
    first = (len(enlarged) - side) // 2
    return enlarged[first : first + side]


def zoomed(images: NDArray[Any], factor: float) -> Numbers:
    """Return images [..., H, W] enlarged about their middle by a factor."""
    rows, columns = (zoom_matrix(side, factor) for side in images.shape[-2:])
    return np.asarray(rows @ (images @ columns.T))
