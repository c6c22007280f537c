"""Messages to bytes and back without loss, in schemas that Foxglove and Rerun show where they exist."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from foveate.messages import Boxes, Frame, Message, ProbabilityMap, Stamp
from foveate.protobuf_schema import Schema, field_types, is_array, without_none

_WELL_KNOWN = {Frame: "RawImage", ProbabilityMap: "RawImage", Boxes: "ImageAnnotations"}
_ENCODINGS = {"Mono8": "mono8", "BGR8": "bgr8", "RGB8": "rgb8"}
_CARRIED = {Frame: "image", ProbabilityMap: "expected"}  # the array that travels in RawImage.data
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

    def encode(self, message: Message, wall_start_ns: int = 0) -> bytes:
        """The message as bytes; `wall_start_ns` turns its stamp into the viewer's time."""
        out = self._schema.message()
        _fill(out.foveate if self._wrapped else out, message, self._carried)
        if self._wrapped:
            out.timestamp.FromNanoseconds(wall_start_ns + message.stamp.t_ns)
        if isinstance(message, Boxes):
            _annotate(out, message)
        elif self._carried:
            _picture(out, getattr(message, self._carried), getattr(message, "encoding", "32FC1"))
        return out.SerializeToString()  # type: ignore[no-any-return]

    def decode(self, data: bytes) -> Message:
        """The message in `data`. Raises google.protobuf.message.DecodeError, ValueError."""
        outer = self._schema.message.FromString(data)
        carried = outer.data if self._carried else b""
        result = _read(outer.foveate if self._wrapped else outer, self._cls, self._carried, carried)
        assert isinstance(result, Message)
        return result


@cache
def codec_of(cls: type[Message]) -> Codec:
    """The codec of a message type; made once."""
    return Codec(cls)


def _fill(out: Any, value: Any, carried: str = "") -> None:
    """Copy a dataclass into its protobuf message; the array `carried` leaves its shape only."""
    for name, hint in field_types(type(value)).items():  # type: ignore[arg-type]
        item = getattr(value, name)
        if item is None:
            continue
        if isinstance(item, np.ndarray):
            _put_array(getattr(out, name), item, name != carried)
        elif isinstance(item, tuple):
            getattr(out, name).extend(item)
        elif hint in (int, float, str, bool):
            setattr(out, name, item)
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


def _get_array(part: Any, carried: bytes | None) -> np.ndarray:
    dtype, shape = np.dtype(part.dtype), tuple(part.shape)
    if dtype.hasobject or dtype.itemsize > 16 or any(size < 0 for size in shape):
        raise ValueError(f"an array of type {part.dtype!r} and shape {shape} in a recording")
    if carried is None and dtype == np.float64:
        return np.array(part.values, np.float64).reshape(shape)
    return np.frombuffer(part.data if carried is None else carried, dtype).reshape(shape)


def _read(part: Any, cls: type, carried_name: str = "", carried: bytes = b"") -> Any:
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
    out.step = array.strides[0] if array.flags.c_contiguous else array.itemsize * array[0].size
    out.data = array.tobytes()


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
