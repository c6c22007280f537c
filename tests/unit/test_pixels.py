"""Pixel formats of cameras: codes and packings against another reader's, colours against what was painted."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from foveate.errors import NotSupported
from foveate_drivers.cameras.pixels import FORMATS, Decoder, name_of

WIDTH, HEIGHT = 20, 12
MONO = sorted(name for name in FORMATS if name.startswith("Mono"))


def samples(depth: int, seed: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1 << depth, (HEIGHT, WIDTH), np.uint16)


def pack(image: np.ndarray, name: str) -> np.ndarray:
    """As a camera sends it: bits laid out one by one, to be sure."""
    item, flat = FORMATS[name], [int(v) for v in image.ravel()]
    if item.packing == "16":
        return image.astype("<u2").ravel().view(np.uint8)
    if item.packing == "":
        return image.astype(np.uint8).ravel()
    if item.packing == "p":
        bits = [value >> i & 1 for value in flat for i in range(item.depth)]
        return np.packbits(np.array(bits, np.uint8), bitorder="little")
    low = item.depth - 8
    octets = []
    for a, b in zip(flat[::2], flat[1::2], strict=True):
        mask = (1 << low) - 1
        octets += [a >> low, (a & mask) | (b & mask) << 4, b >> low]
    return np.array(octets, np.uint8)


@pytest.mark.parametrize("name", MONO)
def test_grey_keeps_its_upper_bits_or_all_of_them(name: str) -> None:
    depth = FORMATS[name].depth
    image = samples(depth)
    data = pack(image, name)
    decoder = Decoder("gige:x", name, keep_bits=False)
    assert decoder.encoding == "Mono8" and decoder.size(WIDTH, HEIGHT) == len(data)
    assert np.array_equal(decoder(data, WIDTH, HEIGHT), (image >> (depth - 8)).astype(np.uint8))
    deep = Decoder("gige:x", name, keep_bits=True)
    assert np.array_equal(deep(data, WIDTH, HEIGHT), image)
    assert deep.encoding == ("Mono16" if depth > 8 else "Mono8")


@pytest.mark.parametrize("name", ["Mono10p", "Mono12p", "Mono10Packed", "Mono12Packed", "Mono12"])
def test_packings_are_read_as_harvesters_reads_them(name: str) -> None:
    pfnc = pytest.importorskip("harvesters.util.pfnc", reason="Harvesters is not installed")
    data = np.random.default_rng(2).integers(0, 256, 240 * FORMATS[name].bits // 8, np.uint8)
    theirs = pfnc.Dictionary.get_proxy(symbolic=name).expand(data)
    ours = Decoder("gige:x", name, keep_bits=True)(data, WIDTH, HEIGHT).ravel()
    assert np.array_equal(ours, theirs)


def test_codes_are_those_of_pfnc() -> None:
    pfnc = pytest.importorskip("harvesters.util.pfnc", reason="Harvesters is not installed")
    for name, item in FORMATS.items():
        assert name_of(item.code) == name
        if name != "Mono14p":  # newer than their table
            assert pfnc.symbolics.get(item.code) == name
    assert name_of(0x0180FFFF) == "0x0180FFFF"


@pytest.mark.parametrize("name", sorted(n for n in FORMATS if n.startswith("Bayer")))
def test_mosaics_give_the_colours_they_were_made_of(name: str) -> None:
    """An evenly coloured scene seen through the mosaic is that colour everywhere."""
    item = FORMATS[name]
    color = {"R": 200, "G": 120, "B": 40}
    first = name.removeprefix("Bayer")[:2]
    second = {"RG": "GB", "GR": "BG", "BG": "GR", "GB": "RG"}[first]
    mosaic = np.zeros((HEIGHT, WIDTH), np.uint16)
    for y, row in enumerate((first, second)):
        for x, letter in enumerate(row):
            mosaic[y::2, x::2] = color[letter] << (item.depth - 8)
    decoder = Decoder("gige:x", name, keep_bits=False)
    image = decoder(pack(mosaic, name), WIDTH, HEIGHT)
    assert decoder.encoding == "BGR8" and image.shape == (HEIGHT, WIDTH, 3)
    assert np.array_equal(np.unique(image.reshape(-1, 3), axis=0), [[40, 120, 200]])


@pytest.mark.parametrize(
    ("name", "order"), [("RGB8", [2, 1, 0]), ("BGR8", [0, 1, 2]), ("RGBa8", [2, 1, 0, 3]), ("BGRa8", [0, 1, 2, 3])]
)
def test_channels_are_put_in_our_order(name: str, order: list[int]) -> None:
    bgra = np.random.default_rng(3).integers(0, 256, (HEIGHT, WIDTH, 4), np.uint8)
    image = Decoder("gige:x", name, keep_bits=True)(bgra[..., order].ravel(), WIDTH, HEIGHT)
    assert np.array_equal(image, bgra[..., :3])


@pytest.mark.parametrize(("name", "luma"), [("YUV422_8", 0), ("YUV422_8_UYVY", 1), ("YCbCr422_8_CbYCrY", 1)])
def test_yuv_keeps_brightness_and_hue(name: str, luma: int) -> None:
    painted = np.full((HEIGHT, WIDTH, 3), (40, 120, 200), np.uint8)
    yuv = cv2.cvtColor(painted, cv2.COLOR_BGR2YUV_I420)
    y, u, v = int(yuv[0, 0]), int(yuv[HEIGHT, 0]), int(yuv[HEIGHT + HEIGHT // 4, 0])
    pair = [y, u, y, v] if luma == 0 else [u, y, v, y]
    data = np.tile(np.array(pair, np.uint8), WIDTH * HEIGHT // 2)
    image = Decoder("gige:x", name, keep_bits=False)(data, WIDTH, HEIGHT)
    assert np.abs(image.astype(int) - painted).max() <= 3


def test_what_needs_no_work_is_not_copied() -> None:
    data = np.zeros(WIDTH * HEIGHT * 3, np.uint8)
    for name in ("Mono8", "BGR8"):
        decoder = Decoder("gige:x", name, keep_bits=False)
        assert decoder.is_view and np.shares_memory(decoder(data, WIDTH, HEIGHT), data)
    for name in ("RGB8", "Mono12", "Mono16"):
        decoder = Decoder("gige:x", name, keep_bits=False)
        assert not decoder.is_view and not np.shares_memory(decoder(data, WIDTH, HEIGHT // 2), data)


def test_an_odd_number_of_packed_pixels_loses_none() -> None:
    image = samples(12)[:3, :5]
    data = pack(np.append(image.ravel(), 0), "Mono12Packed")
    decoder = Decoder("gige:x", "Mono12Packed", keep_bits=False)
    assert decoder.size(5, 3) == 23
    assert np.array_equal(decoder(data[:23], 5, 3), (image >> 4).astype(np.uint8))
    deep = Decoder("gige:x", "Mono12Packed", keep_bits=True)
    assert np.array_equal(deep(data[:23], 5, 3), image)


def test_unknown_formats_are_named_with_what_can_be_had() -> None:
    with pytest.raises(NotSupported, match="decode pixel format Coord3D_C16: set 'encoding' to one of: Mono8, "):
        Decoder("gige:x", "Coord3D_C16", keep_bits=False)
