"""Foxglove's schemas in protobuf and JSON; foveate's own recordings carry them too."""

from __future__ import annotations

import base64
import binascii
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from foveate import messages
from foveate.codec import Codec
from foveate.messages import CameraInfo, Events, Frame, Message, Pose
from foveate_logbook.formats import pixels
from foveate_logbook.formats.channels import Arrival, Decoder, Undecodable, one_line

_FORMATS = ("jpeg", "jpg", "png", "webp")


@dataclass(frozen=True, slots=True)
class _Converter:
    kind: type[Message]
    convert: Callable[[Any, Arrival], Iterable[Message]]
    look: bool = False


class _Json:
    """A JSON object with its members as attributes; one that is absent is protobuf's default."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        value = self._values.get(name)
        if name == "timestamp":
            return _Time(value or {})
        if name == "data":
            return base64.b64decode(value or "", validate=True)
        if isinstance(value, dict):
            return _Json(value)
        if value is None:
            return _Json({}) if name in _OBJECTS else 0 if name in _NUMBERS else [] if name in _LISTS else ""
        return value


_OBJECTS = {"pose", "position", "orientation", "translation", "rotation"}
_NUMBERS = {"width", "height", "step", "x", "y", "z", "w"}
_LISTS = {"K", "D", "R", "P"}


class _Time:
    """A time as JSON has it: {sec, nsec}."""

    def __init__(self, values: dict[str, Any]) -> None:
        self.seconds = int(values.get("sec", 0))
        self.nanos = int(values.get("nsec", values.get("nanosec", 0)))


def protobuf_decoder(name: str, descriptors: bytes) -> Decoder:
    """How to read protobuf messages of schema `name`, whose file descriptor set the log carries."""
    if name.startswith("foveate."):
        return _own(name)
    known = _CONVERTERS.get(name)
    if known is None:
        return Decoder(None, f"{name} has no counterpart in foveate")
    try:
        kind = _message_class(name, descriptors)
    except Exception as error:  # the descriptors are bytes of others
        return Decoder(None, f"the definition of {name} cannot be read: {one_line(error)}")

    def decode(data: bytes, at: Arrival) -> Iterable[Message]:
        return known.convert(kind.FromString(data), at)

    return Decoder(known.kind, "", decode, known.look)


def _own(name: str) -> Decoder:
    """How to read a message of foveate's own that Foxglove has no schema for, such as events: on the log's clock."""
    kind = getattr(messages, name.removeprefix("foveate."), None)
    if not (isinstance(kind, type) and issubclass(kind, Message)):
        return Decoder(None, f"{name} is not a message of this foveate")
    codec = Codec(kind)

    def decode(data: bytes, at: Arrival) -> Iterable[Message]:
        message = codec.decode(data)
        shift_ns = at.memory.setdefault("shift_ns", at.stamp().t_ns - message.stamp.t_ns)  # of the run's clock
        if isinstance(message, Events):
            message = replace(message, t_ns=message.t_ns + shift_ns)
        return [replace(message, stamp=replace(message.stamp, t_ns=message.stamp.t_ns + shift_ns))]

    return Decoder(kind, "", decode)


def json_decoder(name: str) -> Decoder:
    """How to read JSON messages of schema `name`."""
    known = _CONVERTERS.get(name)
    if known is None:
        return Decoder(None, f"{name} has no counterpart in foveate")

    def decode(data: bytes, at: Arrival) -> Iterable[Message]:
        try:
            values = json.loads(data)
            if not isinstance(values, dict):
                raise Undecodable(f"a JSON {type(values).__name__}, not an object")
            return known.convert(_Json(values), at)
        except (UnicodeDecodeError, json.JSONDecodeError) as error:
            raise Undecodable(f"no JSON: {error}") from None
        except binascii.Error as error:
            raise Undecodable(f"its data are not base64: {error}") from None

    return Decoder(known.kind, "", decode, known.look)


def _message_class(name: str, descriptors: bytes) -> Any:
    """The class of a message in a pool of its own: two logs may define a type differently."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    waiting = list(descriptor_pb2.FileDescriptorSet.FromString(descriptors).file)
    names = {file.name for file in waiting}
    done: set[str] = set()
    while waiting:  # a file can be added only after those it imports
        ready = [file for file in waiting if all(part in done or part not in names for part in file.dependency)]
        if not ready:
            raise Undecodable("its files import each other")
        for file in ready:
            pool.Add(file)
            done.add(file.name)
        waiting = [file for file in waiting if file.name not in done]
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))


def _ns(time: Any) -> int:
    return int(time.seconds) * 1_000_000_000 + int(time.nanos)


def _raw_image(m: Any, at: Arrival) -> Iterable[Message]:
    """Foxglove's pixels are little-endian."""
    stamp = at.stamp(_ns(m.timestamp))
    return [pixels.raw_image(m.data, int(m.width), int(m.height), int(m.step), m.encoding, False, at, stamp)]


def _packed_image(m: Any, at: Arrival) -> Iterable[Message]:
    if m.format.lower() not in _FORMATS:
        raise Undecodable(f"images packed as '{m.format}' are not read; {', '.join(_FORMATS)} are")
    return [pixels.packed_image(m.data, at, at.stamp(_ns(m.timestamp)))]


def _calibration(m: Any, at: Arrival) -> Iterable[Message]:
    matrix = np.array(list(m.K), np.float64)
    if matrix.size != 9:
        raise Undecodable(f"a camera matrix of {matrix.size} numbers, not 9")
    stamp, model = at.stamp(_ns(m.timestamp)), m.distortion_model or "none"
    distortion = np.array(list(m.D), np.float64)
    return [CameraInfo(stamp, int(m.width), int(m.height), model, matrix.reshape(3, 3), distortion)]


def _pose(m: Any, at: Arrival) -> Iterable[Message]:
    return [_placed(m, m.pose.position, m.pose.orientation, m.frame_id, "", at)]


def _transform(m: Any, at: Arrival) -> Iterable[Message]:
    return [_placed(m, m.translation, m.rotation, m.parent_frame_id, m.child_frame_id, at)]


def _placed(m: Any, place: Any, turn: Any, parent: str, child: str, at: Arrival) -> Pose:
    orientation = np.array([turn.x, turn.y, turn.z, turn.w], np.float64)
    norm = math.hypot(*orientation)  # numpy warns of the numbers in damaged messages
    if not math.isfinite(norm) or norm < 1e-6:
        raise Undecodable(f"the orientation {orientation.tolist()} is no rotation")
    position = np.array([place.x, place.y, place.z], np.float64)
    return Pose(at.stamp(_ns(m.timestamp)), position, orientation / norm, parent or "world", child)


_CONVERTERS: dict[str, _Converter] = {
    "foxglove.RawImage": _Converter(Frame, _raw_image, look=True),
    "foxglove.CompressedImage": _Converter(Frame, _packed_image, look=True),
    "foxglove.CameraCalibration": _Converter(CameraInfo, _calibration),
    "foxglove.PoseInFrame": _Converter(Pose, _pose),
    "foxglove.FrameTransform": _Converter(Pose, _transform),
}
