"""Protobuf schemas made from message dataclasses, so that every message type records itself.

Fields are numbered in the order of the dataclass. `foveate.Array` keeps float64 as packed doubles (a
plotter can read them) and everything else as little-endian bytes.
"""

from __future__ import annotations

import types
import typing
from dataclasses import fields, is_dataclass
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

_Field = descriptor_pb2.FieldDescriptorProto
_SCALARS = {int: _Field.TYPE_INT64, float: _Field.TYPE_DOUBLE, str: _Field.TYPE_STRING, bool: _Field.TYPE_BOOL}
_EXTRA = 100  # field number of foveate's own content inside a well-known schema

# name: number, type, repeated, message type. Field numbers are those of Foxglove's published schemas.
_FOXGLOVE: dict[str, list[tuple[str, int, int, bool, str]]] = {
    "Point2": [("x", 1, _Field.TYPE_DOUBLE, False, ""), ("y", 2, _Field.TYPE_DOUBLE, False, "")],
    "Color": [(name, i + 1, _Field.TYPE_DOUBLE, False, "") for i, name in enumerate("rgba")],
    "RawImage": [
        ("timestamp", 1, _Field.TYPE_MESSAGE, False, ".google.protobuf.Timestamp"),
        ("width", 2, _Field.TYPE_FIXED32, False, ""), ("height", 3, _Field.TYPE_FIXED32, False, ""),
        ("encoding", 4, _Field.TYPE_STRING, False, ""), ("step", 5, _Field.TYPE_FIXED32, False, ""),
        ("data", 6, _Field.TYPE_BYTES, False, ""), ("frame_id", 7, _Field.TYPE_STRING, False, ""),
    ],
    "PointsAnnotation": [
        ("timestamp", 1, _Field.TYPE_MESSAGE, False, ".google.protobuf.Timestamp"),
        ("type", 2, _Field.TYPE_ENUM, False, ".foxglove.PointsAnnotation.Type"),
        ("points", 3, _Field.TYPE_MESSAGE, True, ".foxglove.Point2"),
        ("outline_color", 4, _Field.TYPE_MESSAGE, False, ".foxglove.Color"),
        ("outline_colors", 5, _Field.TYPE_MESSAGE, True, ".foxglove.Color"),
        ("fill_color", 6, _Field.TYPE_MESSAGE, False, ".foxglove.Color"),
        ("thickness", 7, _Field.TYPE_DOUBLE, False, ""),
    ],
    "TextAnnotation": [
        ("timestamp", 1, _Field.TYPE_MESSAGE, False, ".google.protobuf.Timestamp"),
        ("position", 2, _Field.TYPE_MESSAGE, False, ".foxglove.Point2"),
        ("text", 3, _Field.TYPE_STRING, False, ""), ("font_size", 4, _Field.TYPE_DOUBLE, False, ""),
        ("text_color", 5, _Field.TYPE_MESSAGE, False, ".foxglove.Color"),
        ("background_color", 6, _Field.TYPE_MESSAGE, False, ".foxglove.Color"),
    ],
    "ImageAnnotations": [
        ("points", 2, _Field.TYPE_MESSAGE, True, ".foxglove.PointsAnnotation"),
        ("texts", 3, _Field.TYPE_MESSAGE, True, ".foxglove.TextAnnotation"),
        ("timestamp", 5, _Field.TYPE_MESSAGE, False, ".google.protobuf.Timestamp"),
    ],
}  # fmt: skip
_LINE_LOOP = ("UNKNOWN", "POINTS", "LINE_LOOP", "LINE_STRIP", "LINE_LIST")


class Schema:
    """The protobuf form of one message dataclass, alone or inside a well-known schema."""

    def __init__(self, cls: type, well_known: str = "") -> None:
        """`well_known`: a Foxglove schema that carries the message in field `foveate`."""
        files = _files(cls, well_known)
        pool = descriptor_pool.DescriptorPool()
        for file in files.file:
            pool.Add(file)
        self.name = f"foxglove.{well_known}" if well_known else f"foveate.{cls.__name__}"
        self.descriptor_set = files.SerializeToString()
        self.message: Any = message_factory.GetMessageClass(pool.FindMessageTypeByName(self.name))


@cache
def _files(cls: type, well_known: str) -> descriptor_pb2.FileDescriptorSet:
    files = descriptor_pb2.FileDescriptorSet()
    timestamp_pb2.DESCRIPTOR.CopyToProto(files.file.add())
    own = files.file.add(name=f"foveate/{cls.__name__}.proto", package="foveate", syntax="proto3")
    array = own.message_type.add(name="Array")
    _add(array, "dtype", 1, _Field.TYPE_STRING)
    _add(array, "shape", 2, _Field.TYPE_INT64, repeated=True)
    _add(array, "values", 3, _Field.TYPE_DOUBLE, repeated=True)
    _add(array, "data", 4, _Field.TYPE_BYTES)
    _add_dataclass(own, cls, set())
    if well_known:
        outer = files.file.add(
            name=f"foxglove/{well_known}.proto", package="foxglove", syntax="proto3",
            dependency=["google/protobuf/timestamp.proto", own.name],
        )  # fmt: skip
        for name, columns in _FOXGLOVE.items():
            message = outer.message_type.add(name=name)
            for column in columns:
                _add(message, column[0], column[1], column[2], repeated=column[3], kind=column[4])
            if name == "PointsAnnotation":
                values = message.enum_type.add(name="Type")
                for number, value in enumerate(_LINE_LOOP):
                    values.value.add(name=value, number=number)
            if name == well_known:
                _add(message, "foveate", _EXTRA, _Field.TYPE_MESSAGE, kind=f".foveate.{cls.__name__}")
    return files


def _add(message: Any, name: str, number: int, type_: int, *, repeated: bool = False, kind: str = "") -> None:
    label = _Field.LABEL_REPEATED if repeated else _Field.LABEL_OPTIONAL
    message.field.add(name=name, number=number, type=type_, label=label, type_name=kind or None)


def _add_dataclass(file: Any, cls: type, done: set[str]) -> None:
    """Declare `cls` and the dataclasses it holds. Raises TypeError for a field that has no protobuf form."""
    if cls.__name__ in done:
        return
    done.add(cls.__name__)
    message = file.message_type.add(name=cls.__name__)
    for number, (name, hint) in enumerate(field_types(cls).items(), 1):
        if hint in _SCALARS:
            _add(message, name, number, _SCALARS[hint])
        elif is_array(hint):
            _add(message, name, number, _Field.TYPE_MESSAGE, kind=".foveate.Array")
        elif hint == tuple[str, ...]:
            _add(message, name, number, _Field.TYPE_STRING, repeated=True)
        elif isinstance(inner := without_none(hint), type) and is_dataclass(inner):
            _add_dataclass(file, inner, done)
            _add(message, name, number, _Field.TYPE_MESSAGE, kind=f".foveate.{inner.__name__}")
        else:
            raise TypeError(f"{cls.__name__}.{name}: {hint} cannot be recorded")


@cache
def field_types(cls: type) -> dict[str, Any]:
    """Field names and resolved types of a message dataclass, in order."""
    hints = typing.get_type_hints(cls)
    return {item.name: hints[item.name] for item in fields(cls)}


def is_array(hint: Any) -> bool:
    """Whether a type is `NDArray[...]`."""
    return typing.get_origin(hint) is np.ndarray


def without_none(hint: Any) -> Any:
    """`X` of `X | None`."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        kinds = [part for part in typing.get_args(hint) if part is not type(None)]
        return kinds[0] if len(kinds) == 1 else hint
    return hint
