"""Messages to bytes and back without loss, in schemas that Foxglove and Rerun show where they exist."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from foveate.messages import Boxes, DepthFrame, Frame, Message, ProbabilityMap, Stamp
from foveate.protobuf_schema import Schema, field_types, is_array, without_none

_WELL_KNOWN = {Frame: "RawImage", DepthFrame: "RawImage", ProbabilityMap: "RawImage", Boxes: "ImageAnnotations"}
_ENCODINGS = {"Mono8": "mono8", "BGR8": "bgr8", "RGB8": "rgb8", "BGRa8": "bgra8", "Mono16": "mono16"}
_CARRIED = {Frame: "image", DepthFrame: "depth", ProbabilityMap: "expected"}  # the array in RawImage.data
_NO_ENCODING = {DepthFrame: "16UC1", ProbabilityMap: "32FC1"}  # what RawImage calls arrays without an encoding
_DATA_TAG = 6 << 3 | 2  # RawImage.data: field 6, length-delimited
_COLORS = [(1.0, 0.8, 0.1), (0.2, 0.9, 1.0), (0.6, 1.0, 0.3), (1.0, 0.4, 0.6)]


class Codec:
    """Writes and reads one message type."""

    encoding = "protobuf"

    def __init__(self, cls: type[Message]) -> None:
        self._cls = cls
        well_known = next((name for kind, name in _WELL_KNOWN.items() if issubclass(cls, kind)), "")
        self._schema = Schema(cls, well_known)
        self._carried = next((name for kind, name in _CARRIED.items() if issubclass(cls, kind)), "")
        self._wrapped = bool(well_known)
        self.schema_name = self._schema.name
        self.schema_data = self._schema.descriptor_set

    def encode(self, message: Message, wall_start_ns: int = 0) -> list[bytes | memoryview]:
        """The message as bytes in pieces; pixels are a piece of their own, uncopied.

        `wall_start_ns` turns the stamp into the viewer's time.
        """
        out = self._schema.message()
        _fill(out.foveate if self._wrapped else out, message, self._carried)
        if self._wrapped:
            out.timestamp.FromNanoseconds(wall_start_ns + message.stamp.t_ns)
        if isinstance(message, Boxes):
            _annotate(out, message)
        if not self._carried:
            return [out.SerializeToString()]
        array = np.ascontiguousarray(getattr(message, self._carried))
        _picture(out, array, getattr(message, "encoding", _NO_ENCODING.get(self._cls, "")))
        return [out.SerializeToString(), bytes([_DATA_TAG]) + _varint(array.nbytes), array.data.cast("B")]

    def decode(self, data: bytes | memoryview) -> Message:
        """The message in `data`. Raises google.protobuf.message.DecodeError, ValueError."""
        carried: bytes | memoryview = b""
        if self._carried:
            carried, data = _split(memoryview(data))
        outer = self._schema.message.FromString(bytes(data))
        result = _read(outer.foveate if self._wrapped else outer, self._cls, self._carried, carried)
        assert isinstance(result, Message)
        return result


def _varint(value: int) -> bytes:
    """A length as protobuf writes it."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at `at` and where it ends. Raises ValueError."""
    value = shift = 0
    while at < len(data) and shift < 64:
        value |= (data[at] & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 0x80:
            return value, at
    raise ValueError("a message ends within a number")


def _split(data: memoryview) -> tuple[memoryview, bytes]:
    """The pixels of a RawImage, uncopied, and the rest of it. Raises ValueError."""
    pixels, rest, at = data[:0], bytearray(), 0
    while at < len(data):
        start = at
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if kind == 0:
            _, at = _read_varint(data, at)
        elif kind == 2:
            size, begin = _read_varint(data, at)
            at = begin + size
            if tag == _DATA_TAG:
                pixels = data[begin:at]
                start = at
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:
            raise ValueError(f"a message holds a field of the unknown kind {kind}")
        if at > len(data):
            raise ValueError("a message ends within a field")
        rest += data[start:at]
    return pixels, bytes(rest)


@cache
def codec_of(cls: type[Message]) -> Codec:
    """The codec of a message type; made once."""
    return Codec(cls)


_SET, _ARRAY, _TUPLE, _INNER = range(4)


@cache
def _plan(cls: type) -> tuple[tuple[str, int], ...]:
    """What to do with each field. Kept: asking each time cost a quarter of a small message's encoding."""
    kinds = []
    for name, hint in field_types(cls).items():
        plain = _SET if hint in (int, float, str, bool) else _INNER
        kinds.append((name, _ARRAY if is_array(hint) else _TUPLE if hint == tuple[str, ...] else plain))
    return tuple(kinds)


def _fill(out: Any, value: Any, carried: str = "") -> None:
    """Copy a dataclass into its protobuf message; the array `carried` leaves its shape only."""
    for name, kind in _plan(type(value)):  # type: ignore[arg-type]
        item = getattr(value, name)
        if kind == _SET:
            setattr(out, name, item)
        elif item is None:
            continue
        elif kind == _ARRAY:
            _put_array(getattr(out, name), item, name != carried)
        elif kind == _TUPLE:
            getattr(out, name).extend(item)
        else:
            target = getattr(out, name)
            target.SetInParent()
            _fill(target, item)


def _put_array(out: Any, array: np.ndarray, content: bool) -> None:
    out.dtype = array.dtype.str.replace(">", "<")
    out.shape.extend(array.shape)
    if not content:
        return
    if array.dtype == np.float64:
        out.values.extend(array.ravel().tolist())
    else:
        out.data = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()


def _get_array(part: Any, carried: bytes | memoryview | None) -> np.ndarray:
    dtype, shape = np.dtype(part.dtype), tuple(part.shape)
    if dtype.hasobject or dtype.itemsize > 16 or any(size < 0 for size in shape):
        raise ValueError(f"an array of type {part.dtype!r} and shape {shape} in a recording")
    if carried is None and dtype == np.float64:
        return np.array(part.values, np.float64).reshape(shape)
    return np.frombuffer(part.data if carried is None else carried, dtype).reshape(shape)


def _read(part: Any, cls: type, carried_name: str = "", carried: bytes | memoryview = b"") -> Any:
    values: dict[str, Any] = {}
    for name, hint in field_types(cls).items():
        if is_array(hint):
            values[name] = _get_array(getattr(part, name), carried if name == carried_name else None)
        elif hint in (int, float, str, bool):
            values[name] = getattr(part, name)
        elif hint == tuple[str, ...]:
            values[name] = tuple(getattr(part, name))
        else:
            inner = without_none(hint)
            values[name] = _read(getattr(part, name), inner) if part.HasField(name) or inner is Stamp else None
    return cls(**values)


def _picture(out: Any, array: np.ndarray, encoding: str) -> None:
    out.height, out.width = array.shape[:2]
    out.encoding = _ENCODINGS.get(encoding, encoding)
    out.step = array.strides[0]


def _annotate(out: Any, boxes: Boxes) -> None:
    """Outlines and labels over the image."""
    for corners, score, label in zip(boxes.box_px.tolist(), boxes.score.tolist(), boxes.label.tolist(), strict=True):
        x0, y0, x1, y1 = corners
        shape = out.points.add(type=2, thickness=1.5)
        for x, y in ((x0, y0), (x1, y0), (x1, y1), (x0, y1)):
            shape.points.add(x=x, y=y)
        red, green, blue = _COLORS[label % len(_COLORS)]
        for color in (shape.outline_color,):
            color.r, color.g, color.b, color.a = red, green, blue, 1.0
        name = boxes.names[label] if label < len(boxes.names) else str(label)
        text = out.texts.add(text=f"{name} {score:.2f}", font_size=10.0)
        text.position.x, text.position.y = x0, y0
        text.text_color.r = text.text_color.g = text.text_color.b = text.text_color.a = 1.0
