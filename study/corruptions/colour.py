"""Brightness, contrast and saturation.

An image of one channel is taken as three equal ones, and what becomes of them is made grey again.
"""

import numpy as np

from study.corruptions.pixels import Bytes, Numbers, Streams, to_bytes, to_numbers

RED, BLUE = 0.299, 0.114
"""How bright red and blue are; green is the rest of 1."""


def brightness(images: Bytes, more: float, _: Streams) -> Bytes:
    """Return images with that much added to each pixel's value, the largest of its channels."""
    value, saturation, place = _hsv(to_numbers(images))
    return to_bytes(_from_hsv(np.clip(value + more, 0, 1), saturation, place))


def contrast(images: Bytes, share: float, _: Streams) -> Bytes:
    """Return images that keep that share of each pixel's distance from its channel's mean."""
    pixels = to_numbers(images)
    # Of whole numbers the sum is exact, and so does not depend on the order.
    means = images.sum(axis=(2, 3), keepdims=True, dtype=np.int64) / (255 * images[0, 0].size)
    return to_bytes((pixels - means) * share + means)


def saturate(images: Bytes, change: tuple[float, float], _: Streams) -> Bytes:
    """Return images with the saturation times the first number plus the second; what is grey takes on red."""
    times, more = change
    pixels = to_numbers(images)
    value, saturation, place = _hsv(np.repeat(pixels, 3, axis=1) if pixels.shape[1] == 1 else pixels)
    coloured = _from_hsv(value, np.clip(saturation * times + more, 0, 1), place)
    return to_bytes(luma(coloured) if pixels.shape[1] == 1 else coloured)


def luma(pixels: Numbers) -> Numbers:
    """Return how bright the pixels [N, C, H, W] are, [N, 1, H, W]."""
    if pixels.shape[1] == 1:
        return pixels
    red, green, blue = (pixels[:, channel : channel + 1] for channel in range(3))
    return green + RED * (red - green) + BLUE * (blue - green)  # exact for grey


def _hsv(pixels: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Return value and saturation, [N, 1, H, W], and instead of the hue each channel's place, [N, C, H, W].

    The place is 0 for the largest channel, 1 for the smallest, and between them in proportion. The hue of grey is red.
    """
    value = pixels.max(axis=1, keepdims=True)
    spread = value - pixels.min(axis=1, keepdims=True)
    saturation = np.divide(spread, value, out=np.zeros_like(value), where=value > 0)
    red = np.arange(pixels.shape[1])[:, None, None] > 0
    place = np.divide(value - pixels, spread, out=np.broadcast_to(red, pixels.shape).astype(float), where=spread > 0)
    return value, saturation, place


def _from_hsv(value: Numbers, saturation: Numbers, place: Numbers) -> Numbers:
    return value * (1 - saturation * place)
