"""What cameras and files do to images: JPEG and coarse pixels."""

from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image

from study.corruptions.pixels import Bytes, Streams


def jpeg(images: Bytes, quality: int, _: Streams) -> Bytes:
    """Return images as they are after they were saved in a JPEG file of that quality."""

    def saved(image: Image.Image) -> Image.Image:
        file = BytesIO()
        image.save(file, "JPEG", quality=quality)
        return Image.open(file)

    return _each(images, saved)


def pixelate(images: Bytes, share: float, _: Streams) -> Bytes:
    """Return images made smaller to that share of their width and height, and large again, by means over boxes."""
    height, width = images.shape[2:]
    small = int(width * share), int(height * share)
    box = Image.Resampling.BOX
    return _each(images, lambda image: image.resize(small, box).resize((width, height), box))


def _each(images: Bytes, change: Callable[[Image.Image], Image.Image]) -> Bytes:
    """Return what Pillow makes of each image."""
    changed = np.empty_like(images)
    for image, into in zip(images, changed, strict=True):
        # Pillow has the channels last, and of one channel no axis.
        as_pillow = Image.fromarray(image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0)))
        pixels = np.asarray(change(as_pillow))
        into[:] = pixels[None] if pixels.ndim == 2 else pixels.transpose(2, 0, 1)
    return changed
