"""Noise in each pixel and channel by itself."""

import numpy as np

from study.corruptions.pixels import Bytes, Streams, to_bytes, to_numbers


def gaussian(images: Bytes, spread: float, streams: Streams) -> Bytes:
    """Return images with normal noise of that standard deviation, as of a sensor in poor light."""
    return to_bytes(to_numbers(images) + spread * streams.normal(*images.shape[1:]))


def speckle(images: Bytes, spread: float, streams: Streams) -> Bytes:
    """Return images with normal noise that is in proportion to the pixel."""
    pixels = to_numbers(images)
    return to_bytes(pixels + pixels * spread * streams.normal(*images.shape[1:]))


def shot(images: Bytes, photons: float, streams: Streams) -> Bytes:
    """Return images in which a white pixel is that many photons, on average."""
    return to_bytes(streams.poisson(to_numbers(images) * photons) / photons)


def impulse(images: Bytes, amount: float, streams: Streams) -> Bytes:
    """Return images of whose values that share is black or white, with equal chances."""
    struck, white = streams.uniform(2, *images.shape[1:]).swapaxes(0, 1)
    return np.where(struck < amount, np.where(white < 0.5, 255, 0), images).astype(np.uint8)
