"""Corruptions against what they are defined by, OpenCV and scikit-image, image by image and with the same numbers."""

import io
import math
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import skimage
from PIL import Image
from scipy import ndimage

from study.corruptions.compute import COMPUTED_BY, corrupt
from study.corruptions.names import SEVERITIES
from study.corruptions.pixels import Streams
from tests.study.corruptions.pictures import pictures

ROUNDING = 1e-3
"""How far, in levels of 255, two ways to compute in float32 may be apart: where that is past a whole number, by one."""


def smooth(x: np.ndarray, sigma: float, **options: Any) -> np.ndarray:
    return skimage.filters.gaussian(x, sigma=sigma, **{"channel_axis": -1, **options})


def levels(x: np.ndarray) -> np.ndarray:
    return np.clip(x, 0, 1) * 255


def gaussian_noise(x, scale, streams):
    return levels(x / 255 + streams.normal(3, *x.shape[:2])[0].transpose(1, 2, 0) * scale)


def speckle_noise(x, scale, streams):
    return levels(x / 255 * (1 + streams.normal(3, *x.shape[:2])[0].transpose(1, 2, 0) * scale))


def gaussian_blur(x, sigma, streams):
    return levels(smooth(x / 255, sigma))


def defocus_blur(x, parameter, streams):
    radius, softness = parameter
    at = np.arange(-8, 9)
    disk = (at**2 + at[:, None] ** 2 <= radius**2).astype(np.float32)
    kernel = cv2.GaussianBlur(disk / disk.sum(), ksize=(3, 3), sigmaX=softness)
    return levels(np.dstack([cv2.filter2D(x[:, :, channel] / 255, -1, kernel) for channel in range(3)]))


def glass_blur(x, parameter, streams):
    sigma, times = parameter
    height, width = x.shape[:2]
    x = np.uint8(smooth(x / 255, sigma) * 255)
    coins = streams.coins(times, 2, height - 2, width - 2)[0]
    for turn in range(times):
        for row in range(height - 1, 1, -1):
            for column in range(width - 1, 1, -1):
                left, up = coins[turn, :, row - 2, column - 2]
                there = row - up, column - left
                # As in the script: these are views, so that the second pixel is given what the first has by then.
                x[row, column], x[there] = x[there], x[row, column]
    return levels(smooth(x / 255, sigma))


def on_a_line(x: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """ImageMagick's motion blur, as one kernel of two dimensions."""
    reach = 2 * radius
    kernel = np.zeros((2 * reach + 1, 2 * reach + 1))
    for i in range(2 * radius + 1):
        down, right = (math.ceil(i * of(math.radians(degrees)) - 0.5) for of in (math.sin, math.cos))
        kernel[reach + down, reach + right] += math.exp(-(i**2) / (2 * sigma**2))
    blurred = cv2.filter2D(x.astype(np.float64), -1, kernel / kernel.sum(), borderType=cv2.BORDER_REPLICATE)
    return np.rint(blurred).astype(np.uint8)


def motion_blur(x, parameter, streams):
    return on_a_line(x, *parameter, -45 + 90 * streams.uniform()[0])


def clipped_zoom(x: np.ndarray, factor: float) -> np.ndarray:
    side = len(x)
    kept = math.ceil(side / factor)
    top = (side - kept) // 2
    x = ndimage.zoom(x[top : top + kept, top : top + kept], (factor, factor, 1), order=1)
    top = (len(x) - side) // 2
    return x[top : top + side, top : top + side]


def zoom_blur(x, end, streams):
    x = (x / 255).astype(np.float32)
    factors = np.arange(1, end, 0.01)
    return levels((x + sum(clipped_zoom(x, factor) for factor in factors)) / (len(factors) + 1))


def cloud(side: int, smoothness: float, drawn: list[float]) -> np.ndarray:
    """Diamond-square, point by point on a torus."""
    heights, step, rough = np.zeros((side, side)), side, 100.0

    def mean(row: int, column: int, reach: int, diagonal: bool) -> float:
        ways = [(-1, -1), (-1, 1), (1, -1), (1, 1)] if diagonal else [(-1, 0), (1, 0), (0, -1), (0, 1)]
        near = [heights[(row + down * reach) % side, (column + right * reach) % side] for down, right in ways]
        return sum(near) / 4 + rough * (2 * drawn.pop(0) - 1) * rough

    while step >= 2:
        half = step // 2
        for top, left, diagonal in ((half, half, True), (0, half, False), (half, 0, False)):
            for row in range(top, side, step):
                for column in range(left, side, step):
                    heights[row, column] = mean(row, column, half, diagonal)
        step, rough = half, rough / smoothness
    return (heights - heights.min()) / (heights.max() - heights.min())


def fog(x, parameter, streams):
    thickness, smoothness = parameter
    side = 2 ** math.ceil(math.log2(len(x)))
    drawn = streams.uniform(side * side - 1)[0].tolist()
    heights = cloud(side, smoothness, drawn)[: len(x), : len(x)]
    brightest = x.max() / 255
    return levels((x / 255 + thickness * heights[:, :, None]) * brightest / (brightest + thickness))


def snow(x, parameter, streams):
    mean, spread, enlarged, least, radius, sigma, kept = parameter
    layer = clipped_zoom((mean + spread * streams.normal(*x.shape[:2])[0])[:, :, None], enlarged)
    layer[layer < least] = 0
    layer = (
        on_a_line(np.uint8(levels(layer))[:, :, 0], radius, sigma, -135 + 90 * streams.uniform()[0])[:, :, None] / 255
    )
    x = (x / 255).astype(np.float32)
    grey = cv2.cvtColor(x, cv2.COLOR_RGB2GRAY)[:, :, None]
    return levels(kept * x + (1 - kept) * np.maximum(x, grey * 1.5 + 0.5) + layer + np.rot90(layer, k=2))


def contrast(x, share, streams):
    means = (x / 255).mean(axis=(0, 1), keepdims=True)
    return levels((x / 255 - means) * share + means)


def brightness(x, more, streams):
    hsv = skimage.color.rgb2hsv(x / 255)
    hsv[:, :, 2] = np.clip(hsv[:, :, 2] + more, 0, 1)
    return levels(skimage.color.hsv2rgb(hsv))


def saturate(x, parameter, streams):
    hsv = skimage.color.rgb2hsv(x / 255)
    hsv[:, :, 1] = np.clip(hsv[:, :, 1] * parameter[0] + parameter[1], 0, 1)
    return levels(skimage.color.hsv2rgb(hsv))


def jpeg_compression(x, quality, streams):
    file = io.BytesIO()
    Image.fromarray(x).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file))


def pixelate(x, share, streams):
    side = len(x)
    small = Image.fromarray(x).resize((int(side * share), int(side * share)), Image.Resampling.BOX)
    return np.array(small.resize((side, side), Image.Resampling.BOX))


def elastic_transform(x, parameter, streams):
    side = len(x)
    distance, sigma, affine = (share * side for share in parameter)
    middle, away = side // 2, side // 3
    points = np.float32(
        [[middle + away, middle + away], [middle + away, middle - away], [middle - away, middle - away]]
    )
    moved = points + (affine * (2 * streams.uniform(3, 2)[0] - 1)).astype(np.float32)
    x = (x / 255).astype(np.float32)
    x = cv2.warpAffine(x, cv2.getAffineTransform(points, moved), (side, side), borderMode=cv2.BORDER_REFLECT_101)
    across, down = (
        smooth(2 * streams.uniform(side, side)[0] - 1, sigma, mode="reflect", truncate=3, channel_axis=None) * distance
        for _ in range(2)
    )
    rows, columns, channels = np.meshgrid(np.arange(side), np.arange(side), np.arange(3), indexing="ij")
    at = rows + down[:, :, None], columns + across[:, :, None], channels
    return levels(ndimage.map_coordinates(x, at, order=1, mode="reflect"))


ORACLES: dict[str, Callable[[np.ndarray, Any, Streams], np.ndarray]] = {
    "gaussian_noise": gaussian_noise,
    "defocus_blur": defocus_blur,
    "glass_blur": glass_blur,
    "motion_blur": motion_blur,
    "zoom_blur": zoom_blur,
    "snow": snow,
    "fog": fog,
    "brightness": brightness,
    "contrast": contrast,
    "elastic_transform": elastic_transform,
    "pixelate": pixelate,
    "jpeg_compression": jpeg_compression,
    "speckle_noise": speckle_noise,
    "gaussian_blur": gaussian_blur,
    "saturate": saturate,
}
BY_LAW = {"shot_noise", "impulse_noise"}
"""Those of which the law is held, in the tests of noise: their libraries draw in another order."""


def test_every_family_that_is_computed_is_held_against_something():
    assert ORACLES.keys() | BY_LAW == COMPUTED_BY.keys()
    assert not ORACLES.keys() & BY_LAW


@pytest.mark.parametrize("side", [28, 32, 64])
@pytest.mark.parametrize("family", ORACLES)
def test_a_family_is_what_its_libraries_make_of_the_same_numbers(family, side):
    images = pictures(4, 3, side)
    for severity in SEVERITIES:
        ours = corrupt(images, family, severity, [3, 1, 4, 15])
        for image, sample, found in zip(images, [3, 1, 4, 15], ours, strict=True):
            parameter = COMPUTED_BY[family].parameters[severity - 1]
            theirs = ORACLES[family](image.transpose(1, 2, 0).copy(), parameter, Streams(family, severity, [sample]))
            found = found.transpose(1, 2, 0)
            if theirs.dtype == np.uint8:
                np.testing.assert_array_equal(found, theirs, f"severity {severity}, sample {sample}")
            else:
                assert (found >= np.floor(theirs - ROUNDING)).all(), (severity, sample)
                assert (found <= np.floor(theirs + ROUNDING)).all(), (severity, sample)
