"""Decode images as a viewer shows them: the one decoder of whatever comes as encoded images.

A picture is turned as its EXIF says, and what is transparent lies on white. An image of more than 8 bits a channel, or
of several frames, is refused: what of it is meant is not known.
"""

import io
import re
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFile, ImageOps, UnidentifiedImageError
from torch import Tensor

from study.data.dataset import Split
from study.data.survey import Part
from study.errors import BadInputError

GREY = ("1", "L")
"""Pillow's modes of images of one channel."""
_DEEP = re.compile(r";16[BLNS]+$")
"""What ends Pillow's name of pixels with 16 bits a channel, of which it keeps the upper 8."""
_AVIF_DEPTH = re.compile(rb"av1C(...)", re.DOTALL)
"""The description of a picture coded as AV1, of which Pillow keeps the upper 8 bits too."""


def decode_part(part: Part) -> Split:
    """Decode the images of a training or test set.

    Raises:
        BadInputError: see `decode`.
    """
    return Split(decode(part.encoded(), len(part.labels)), torch.from_numpy(part.labels))


def decode(encoded: Iterable[tuple[str, bytes]], count: int, mode: str | None = None) -> Tensor:
    """Decode images of one size, one at a time.

    Args:
        encoded: the name of each image in a message, and its bytes in any format that Pillow reads.
        count: how many they are, at least one.
        mode: Pillow's mode of the result; None is one channel where every image is grey, and else three.

    Returns:
        uint8 [N, C, H, W].

    Raises:
        BadInputError: an image can't be used, or they differ in size.
    """
    images: NDArray[np.uint8] = np.empty((count, 0, 0, 0), dtype=np.uint8)
    first, size = "", (0, 0)
    for position, (name, content) in enumerate(encoded):
        image = decode_image(name, content)
        if mode:
            image = image.convert(mode)
        if position == 0:
            first, size = name, image.size
            images = np.empty((count, len(image.getbands()), *size[::-1]), dtype=np.uint8)
        elif image.size != size:
            sizes = ", ".join(map(str, sorted({image.size, size})))
            raise BadInputError(f"{first} and {name} differ in size: {sizes}; crop or scale all images to one size.")
        if len(image.getbands()) > images.shape[1]:  # the first with colour among grey ones
            images = np.repeat(images, 3, axis=1)
        images[position] = np.atleast_3d(np.asarray(image)).transpose(2, 0, 1)
    return torch.from_numpy(images)


def decode_image(name: str, content: bytes) -> Image.Image:
    """Return an image as a viewer shows it, of mode `L` or `RGB`.

    Raises:
        BadInputError: it can't be decoded, has more than 8 bits a channel, or several frames.
    """
    try:
        image = Image.open(io.BytesIO(content))
        fault = _fault(image, content)
        if fault is None:
            return _as_shown(image)
    except UnidentifiedImageError:
        fault = "is no image of a known format" if content else "is empty"
        fault += "; remove it, or put the whole image there"
    except Exception as error:  # what Pillow raises on a broken file depends on the format
        fault = f"can't be decoded: {str(error).rstrip('.')}; remove it, or put the whole image there"
    raise BadInputError(f"{name} {fault}.")


def _fault(image: ImageFile.ImageFile, content: bytes) -> str | None:
    """Return why an image that has been opened can't be used; None if it can."""
    if _is_deep(image, content):
        return "has more than 8 bits a channel; convert it to 8"
    # A phone's JPEG may have further pictures behind the one that is shown.
    frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
    return f"has {frames} frames; keep the one that is meant" if frames > 1 else None


def _is_deep(image: ImageFile.ImageFile, content: bytes) -> bool:
    """Return whether an image has more than 8 bits a channel, most of which Pillow drops without a word."""
    if image.mode.startswith(("I", "F")):
        return True
    arguments = [tile[3] if isinstance(tile[3], tuple) else (tile[3],) for tile in image.tile]
    match image.format:
        case "PPM":  # the largest value comes after the name of the pixels
            return any(isinstance(each, int) and each > 255 for every in arguments for each in every[1:])
        case "AVIF":  # a flag in the third byte that describes the coded picture
            return any(found[1][2] & 0x40 for found in _AVIF_DEPTH.finditer(content))
        case "JPEG2000":  # each channel has three bytes, whose first is the depth less 1, below a sign
            sizes = content[content.find(b"\xff\x4f\xff\x51") + 40 :]
            return any(depth & 0x7F > 7 for depth in sizes[2 : 2 + 3 * int.from_bytes(sizes[:2]) : 3])
    return any(_DEEP.search(str(every[0])) for every in arguments if every)


def _as_shown(image: ImageFile.ImageFile) -> Image.Image:
    image.load()
    mode = "L" if image.mode in GREY or _is_grey_gif(image) else "RGB"
    ImageOps.exif_transpose(image, in_place=True)
    if image.has_transparency_data:
        drawn = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", drawn.size, "white"), drawn).convert(mode)
    return image.convert(mode)


def _is_grey_gif(image: ImageFile.ImageFile) -> bool:
    """Return whether all colours of a GIF are grey: it has no other way to be an image of one channel."""
    if image.format != "GIF":
        return False
    colours = np.asarray(image.convert("RGB"))
    return bool((colours == colours[..., :1]).all())
