import io
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from study.data.decoding import decode, decode_image
from study.data.load import load
from study.data.ood import ood_images
from study.errors import BadInputError
from tests.study.data.sources import NOWHERE, encoded, pixels, write_images, write_parquet

RAMP = np.arange(0, 240, 5, dtype=np.uint8).reshape(6, 8)


def saved(image: Image.Image | np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    sink = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(sink, format, **options)
    return sink.getvalue()


def shown(content: bytes) -> NDArray[np.uint8]:
    return np.asarray(decode_image("'x'", content))


def refusal_of(content: bytes) -> str:
    with pytest.raises(BadInputError) as caught:
        decode_image("'some.png'", content)
    return str(caught.value)


# Orientation: how a camera was held when it stored the upright picture's pixels

STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def oriented(upright: np.ndarray, orientation: int, format: str = "PNG") -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(np.ascontiguousarray(STORED[orientation](upright)), format, exif=exif)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_a_picture_is_turned_as_its_exif_says(orientation: int, format: str):
    assert np.array_equal(shown(oriented(RAMP, orientation, format)), RAMP)


def test_an_orientation_that_is_none_turns_nothing():
    exif = Image.Exif()
    exif[0x0112] = 9
    assert np.array_equal(shown(saved(RAMP, exif=exif)), RAMP)


def test_a_photograph_that_was_stored_turned_is_of_the_size_that_is_shown():
    upright = np.zeros((16, 24, 3), dtype=np.uint8)
    upright[:8] = 200
    images = decode([("a", oriented(upright, 6, "JPEG")), ("b", saved(upright, "JPEG"))], 2).numpy()
    assert images.shape == (2, 3, 16, 24)
    assert abs(images[0].astype(int) - images[1]).max() < 8


# Transparency: on white


def test_a_drawing_in_the_alpha_channel_is_black_on_white():
    drawing = np.zeros((8, 8, 4), dtype=np.uint8)
    drawing[2:6, 2:6, 3] = 255
    expected = np.full((8, 8, 3), 255)
    expected[2:6, 2:6] = 0
    assert np.array_equal(shown(saved(drawing)), expected)


def test_what_is_half_transparent_is_half_white():
    drawing = np.full((8, 8, 4), (255, 0, 0, 128), dtype=np.uint8)
    assert shown(saved(drawing))[0, 0].tolist() == pytest.approx([255, 127, 127], abs=1)


def test_what_is_opaque_keeps_its_colours():
    colours = pixels(1, 16, 16, 3)[0]
    opaque = np.dstack([colours, np.full((16, 16), 255, dtype=np.uint8)])
    assert np.array_equal(shown(saved(opaque)), colours)


def palette_image() -> Image.Image:
    image = Image.fromarray(np.tile(np.array([0, 1], dtype=np.uint8), (8, 4)), "P")
    image.putpalette([0, 0, 0, 255, 0, 0])
    return image


TRANSPARENT: dict[str, tuple[bytes, list[Any]]] = {
    "grey and alpha": (saved(Image.merge("LA", [Image.new("L", (8, 8), 9), Image.new("L", (8, 8), 0)])), [[255] * 3]),
    "a palette": (saved(palette_image(), transparency=0), [[255, 255, 255], [255, 0, 0]]),
    "a palette by bytes": (saved(palette_image(), transparency=b"\x00\xff"), [[255, 255, 255], [255, 0, 0]]),
    "a GIF": (saved(palette_image(), "GIF", transparency=0), [[255, 255, 255], [255, 0, 0]]),
    "a grey that is none": (saved(np.tile(np.array([0, 9], dtype=np.uint8), (8, 4)), transparency=0), [255, 9]),
    "a colour that is none": (saved(np.zeros((8, 8, 3), dtype=np.uint8), transparency=(0, 0, 0)), [[255] * 3]),
    "WebP": (saved(np.zeros((8, 8, 4), dtype=np.uint8), "WEBP", lossless=True, exact=True), [[255] * 3]),
}


@pytest.mark.parametrize(("content", "first"), TRANSPARENT.values(), ids=TRANSPARENT)
def test_whatever_is_transparent_lies_on_white(content: bytes, first: list[Any]):
    assert shown(content)[0, : len(first)].tolist() == first


# Depth: 8 bits a channel


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def deep_png(kind: int, channels: int) -> bytes:
    """A PNG of 8x8 with 16 bits a channel, whose values are those of 12 bits."""
    values = np.linspace(0, 4095, 64 * channels).astype(">u2").reshape(8, -1)
    header = struct.pack(">IIBBBBB", 8, 8, 16, kind, 0, 0, 0)
    rows = zlib.compress(b"".join(b"\0" + row.tobytes() for row in values))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def deep_tiff() -> bytes:
    """An uncompressed TIFF of 8x8 in colour with 16 bits a channel."""
    values = np.linspace(0, 4095, 192).astype("<u2").tobytes()
    tags = [(256, 3, 1, 8), (257, 3, 1, 8), (258, 3, 3, 200), (259, 3, 1, 1), (262, 3, 1, 2)]
    tags += [(273, 4, 1, 256), (277, 3, 1, 3), (278, 3, 1, 8), (279, 4, 1, len(values))]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
    return head.ljust(200, b"\0") + struct.pack("<HHH", 16, 16, 16).ljust(56, b"\0") + values


def said_to_be_deep(format: str, *changes: tuple[bytes, int, bytes]) -> bytes:
    """An image in colour of a format that Pillow writes with 8 bits alone, whose header says otherwise."""
    whole = bytearray(saved(Image.new("RGB", (8, 8)), format))
    for after, distance, new in changes:
        place = whole.index(after) + distance
        whole[place : place + len(new)] = new
    return bytes(whole)


DEEP = {
    "PPM": b"P6 8 8 1023\n" + np.zeros(192, dtype=">u2").tobytes(),
    "PPM in text": b"P3 8 8 65535\n" + b"300 " * 192,
    "AVIF": said_to_be_deep("AVIF", (b"av1C", 6, b"\x4c"), (b"pixi", 9, b"\x0a" * 3)),
    "JPEG 2000": said_to_be_deep("JPEG2000", (b"\xff\x4f\xff\x51", 45, b"\x0f")),
    "a grey JPEG 2000": saved(Image.fromarray(np.zeros((8, 8), dtype=np.uint16)), "JPEG2000"),
    "grey": deep_png(0, 1),
    "colour": deep_png(2, 3),
    "grey and alpha": deep_png(4, 2),
    "colour and alpha": deep_png(6, 4),
    "a TIFF": deep_tiff(),
    "a grey TIFF": saved(Image.fromarray(np.zeros((8, 8), dtype=np.uint16)), "TIFF"),
    "fractions": saved(Image.new("F", (8, 8), 0.5), "TIFF"),
    "whole numbers": saved(Image.new("I", (8, 8), 5), "TIFF"),
    "PGM": b"P5 8 8 4095\n" + np.zeros(64, dtype=">u2").tobytes(),
}


@pytest.mark.parametrize("content", DEEP.values(), ids=DEEP)
def test_more_than_8_bits_a_channel_are_refused_rather_than_cut(content: bytes):
    assert refusal_of(content) == "'some.png' has more than 8 bits a channel; convert it to 8."


@pytest.mark.parametrize("format", ["AVIF", "JPEG2000", "PPM", "TIFF", "TGA", "WEBP", "BMP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_8_bits_a_channel_are_taken_of_every_format(format: str, mode: str):
    colours = pixels(1, 16, 16, *[3] * (mode == "RGB"))[0]
    assert shown(saved(colours, format)).shape[:2] == (16, 16)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_fewer_bits_of_grey_go_from_black_to_white(bits: int):
    grey = np.tile(np.array([0, 2**bits - 1], dtype=np.uint8), (8, 4))
    header = struct.pack(">IIBBBBB", 8, 8, bits, 0, 0, 0, 0)
    packed = [np.packbits(np.unpackbits(row[:, None], axis=1)[:, -bits:].reshape(-1)).tobytes() for row in grey]
    rows = zlib.compress(b"".join(b"\0" + row for row in packed))
    content = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert np.array_equal(shown(content), np.tile([0, 255], (8, 4)))


# Frames, colours, and what is no image


def frames(format: str, mode: str = "L") -> bytes:
    first, second = (Image.new(mode, (8, 8), value) for value in ("black", "white"))
    return saved(first, format, save_all=True, append_images=[second])


@pytest.mark.parametrize("format", ["PNG", "GIF", "TIFF", "WEBP"])
def test_several_frames_are_refused_rather_than_the_first_be_taken(format: str):
    assert refusal_of(frames(format, "RGB")) == "'some.png' has 2 frames; keep the one that is meant."


def test_of_a_phones_jpeg_with_a_further_picture_the_shown_one_is_taken():
    assert shown(frames("MPO")).max() < 8


def test_a_gif_in_grey_is_an_image_of_one_channel_and_one_in_colour_of_three():
    assert np.array_equal(shown(saved(pixels(1, 8, 8)[0], "GIF")), pixels(1, 8, 8)[0])
    assert shown(saved(palette_image(), "GIF")).shape == (8, 8, 3)


def test_inks_become_colours():
    content = saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG")
    assert shown(content)[0, 0].tolist() == pytest.approx([255, 0, 0], abs=4)


NO_IMAGES = {
    "empty": (b"", "'some.png' is empty;"),
    "text": (b"not found", "'some.png' is no image of a known format;"),
    "cut short": (saved(pixels(1, 8, 8)[0])[:60], "'some.png' can't be decoded: image file is truncated;"),
}


@pytest.mark.parametrize(("content", "said"), NO_IMAGES.values(), ids=NO_IMAGES)
def test_what_is_no_image_is_refused_by_its_name(content: bytes, said: str):
    assert refusal_of(content).startswith(said)


def named(contents: Sequence[bytes]) -> list[tuple[str, bytes]]:
    return [(f"'{number}.png'", content) for number, content in enumerate(contents)]


def test_images_of_two_sizes_are_refused_by_the_names_of_both():
    contents = [encoded(pixels(1, *shape)[0]) for shape in ((8, 8), (8, 8), (8, 9))]
    with pytest.raises(BadInputError, match=r"^'0.png' and '2.png' differ in size: \(8, 8\), \(9, 8\); crop"):
        decode(named(contents), 3)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_one_colour_image_among_grey_ones_makes_all_of_them_colour(place: int):
    grey, colour = pixels(2, 8, 8), pixels(1, 8, 8, 3)[0]
    contents = [encoded(image) for image in grey]
    contents.insert(place, encoded(colour))
    images = list(decode(named(contents), 3).numpy())
    assert np.array_equal(images.pop(place).transpose(1, 2, 0), colour)
    for image, expected in zip(images, grey, strict=True):
        assert all(np.array_equal(channel, expected) for channel in image)


def test_every_source_has_the_same_decoder(tmp_path: Path):
    """An image folder and Parquet, for D and for D*, of drawings in an alpha channel that were stored turned."""
    drawing = np.zeros((6, 8, 4), dtype=np.uint8)
    drawing[:3, :, 3] = 255
    content = oriented(drawing, 6)
    write_images(tmp_path / "images", contents=[content] * 8)
    for part in ("train", "test"):
        write_parquet(tmp_path / "tables" / f"{part}-0.parquet", [content] * 4, [0, 0, 1, 1])
    expected = np.full((4, 3, 6, 8), 255)
    expected[:, :, :3] = 0
    for name in (f"imagefolder:{tmp_path / 'images'}", f"parquet:{tmp_path / 'tables'}"):
        assert np.array_equal(load(name, NOWHERE).train.images.numpy(), expected)
        assert np.array_equal(ood_images(name, NOWHERE, (3, 6, 8)).numpy(), expected)
