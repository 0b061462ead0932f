"""Fog and snow."""

import numpy as np

from study.corruptions.blur import along_lines, zoomed
from study.corruptions.colour import luma
from study.corruptions.pixels import Bytes, Numbers, Streams, to_bytes, to_numbers

ROUGHEST = 100.0
"""How far apart neighbours in a cloud are where the grid is coarsest."""


def fog(images: Bytes, cloud: tuple[float, float], streams: Streams) -> Bytes:
    """Return images in a cloud of that thickness, darkened so that none is brighter than its brightest pixel was."""
    thickness, smoothness = cloud
    height, width = images.shape[2:]
    side = 1 << (max(height, width) - 1).bit_length()
    pixels = to_numbers(images)
    brightest = pixels.max(axis=(1, 2, 3), keepdims=True)
    pixels += thickness * clouds(side, smoothness, streams)[:, None, :height, :width]
    return to_bytes(pixels * brightest / (brightest + thickness))


def clouds(side: int, smoothness: float, streams: Streams) -> Numbers:
    """Return random heights from 0 to 1, [N, side, side], by the diamond-square algorithm on a torus.

    A grid of points is made twice as fine, again and again: a new point is the mean of its four neighbours and a random
    number, whose range is divided by the smoothness at each turn.

    Args:
        side: a power of two.
        smoothness: above 1.
        streams: those of N images.
    """
    drawn = streams.uniform(side * side - 1) * 2 - 1
    heights, used = np.zeros((len(drawn), side, side)), 0
    step, rough = side, ROUGHEST

    def near(neighbours: Numbers) -> Numbers:
        """Return new points from the sums of four neighbours."""
        nonlocal used
        count = neighbours[0].size
        numbers = drawn[:, used : used + count].reshape(neighbours.shape)
        used += count
        # The range is of the square of the roughness, as in the script.
        return neighbours / 4 + rough * rough * numbers

    while step >= 2:
        half = step // 2
        corners = heights[:, ::step, ::step]
        rows = corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, half::step] = near(rows + np.roll(rows, -1, axis=2))
        centers = heights[:, half::step, half::step]
        of_rows = centers + np.roll(centers, 1, axis=1) + corners + np.roll(corners, -1, axis=2)
        heights[:, ::step, half::step] = near(of_rows)
        of_columns = centers + np.roll(centers, 1, axis=2) + corners + np.roll(corners, -1, axis=1)
        heights[:, half::step, ::step] = near(of_columns)
        step, rough = half, rough / smoothness
    heights -= heights.min(axis=(1, 2), keepdims=True)
    return np.asarray(heights / heights.max(axis=(1, 2), keepdims=True))


def snow(images: Bytes, flakes: tuple[float, float, float, float, int, float, float], streams: Streams) -> Bytes:
    """Return images in falling snow, and paler.

    Args:
        images: bytes.
        flakes: the mean and the standard deviation of noise, by how much it is enlarged, below what it is no flake, the
            radius and sigma of the lines along which flakes fall, and how much of the image is not pale.
        streams: those of the images.
    """
    mean, spread, enlarged, least, radius, sigma, kept = flakes
    noise = zoomed(mean + spread * streams.normal(*images.shape[2:]), enlarged)
    noise[noise < least] = 0
    angles = np.pi / 2 * (streams.uniform() - 1.5)
    layer = np.rint(along_lines(to_bytes(noise)[:, None].astype(np.float64), radius, sigma, angles)) / 255
    pixels = to_numbers(images)
    pale = np.maximum(pixels, luma(pixels) * 1.5 + 0.5)
    return to_bytes(kept * pixels + (1 - kept) * pale + layer + layer[:, :, ::-1, ::-1])
