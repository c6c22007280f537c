"""What an ONNX file says of itself, read from its protobuf wire form: inputs, outputs, operators, files beside it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from foveate.errors import ModelError
from foveate_drivers.backends.base import TensorInfo

_MOST_DEPTH = 64  # of graphs within graphs
_TYPES = {
    1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64", 8: "string", 9: "bool",
    10: "float16", 11: "double", 12: "uint32", 13: "uint64", 16: "bfloat16", 21: "uint4", 22: "int4",
}  # fmt: skip
# Where tensors and graphs hide, by the field numbers of onnx.proto: message -> {field: message within}
_INSIDE = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
}


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """Of a model's outermost graph; `nodes` are (name, operator)."""

    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    nodes: tuple[tuple[str, str], ...]


def look(model: Path) -> OnnxFile:
    """Raises ModelError for a file that is no ONNX."""
    data = _read(model)
    try:
        graph = next(value for number, value in _fields(data) if number == 7)
        nodes, weights = [], set()
        faces: dict[int, list[TensorInfo]] = {11: [], 12: []}
        for number, value in _fields(graph):
            if number == 1:
                parts = dict(_fields(value))
                nodes.append((_text(parts.get(3)), _text(parts.get(4))))
            elif number == 5:
                weights.add(next((_text(v) for n, v in _fields(value) if n == 8), ""))
            elif number in faces:
                faces[number].append(_face(value))
    except (ValueError, StopIteration):
        raise ModelError(str(model), "load", "not an ONNX file, or a part of one; restore or re-export it") from None
    inputs = tuple(item for item in faces[11] if item.name not in weights)  # old files list weights as inputs too
    return OnnxFile(inputs, tuple(faces[12]), tuple(nodes))


def refuse_escapes(model: Path) -> None:
    """Raises ModelError where weights are to come from a file outside the model's own folder, or from no file."""
    data = _read(model)
    try:
        places = sorted(set(_external(data, "model", 0)))
    except ValueError:
        raise ModelError(str(model), "load", "not an ONNX file, or a part of one; restore or re-export it") from None
    folder = Path(os.path.realpath(model.parent))
    for place in places:
        why = _escape(place, folder)
        if why:
            shown = place if len(place) <= 80 else place[:77] + "..."
            text = f"its weights are to come from {shown!r}, {why}; they must lie in the model's folder"
            raise ModelError(str(model), "load", text)


def _escape(place: str, folder: Path) -> str:
    """Why a location may not be read; empty where it may."""
    if "://" in place or place.startswith("file:"):
        return "which is an address"
    if "\0" in place or "\\" in place or not place:
        return "which is no file's name"
    if Path(place).is_absolute():
        return "an absolute path"
    if ".." in Path(place).parts:
        return "which climbs out of it"
    path = folder / place
    if not Path(os.path.realpath(path)).is_relative_to(folder):
        return "a link that leads out of it"
    return "" if path.is_file() else "which is not there"


def _external(data: memoryview, kind: str, depth: int) -> Iterator[str]:
    """Locations of all tensors whose data lie elsewhere."""
    if depth > _MOST_DEPTH:
        raise ValueError("too deep")
    inside = _INSIDE[kind]
    for number, value in _fields(data):
        within = inside.get(number)
        if within == "tensor":
            yield from _locations(value)
        elif within is not None:
            yield from _external(value, within, depth + 1)


def _locations(tensor: memoryview) -> Iterator[str]:
    elsewhere, found = False, ""
    for number, value in _fields(tensor):
        if number == 13:  # external_data: entries of key and value
            elsewhere = True
            entry = dict(_fields(value))
            if _text(entry.get(1)) == "location":
                found = _text(entry.get(2))
        elif number == 14:
            elsewhere = elsewhere or value.tobytes() == b"\1"
    if elsewhere:
        yield found


def _face(value: memoryview) -> TensorInfo:
    """A ValueInfoProto; what is no tensor has the type ''."""
    parts = dict(_fields(value))
    tensor = dict(_fields(dict(_fields(parts.get(2, memoryview(b"")))).get(1, memoryview(b""))))
    shape: list[int | None] = []
    for number, dimension in _fields(tensor.get(2, memoryview(b""))):
        if number == 1:
            size = dict(_fields(dimension)).get(1)
            shape.append(None if size is None else _varint(size, 0)[0])
    code = _varint(tensor[1], 0)[0] if 1 in tensor else 0
    return TensorInfo(_text(parts.get(1)), tuple(shape), f"tensor({_TYPES.get(code, '')})")


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """(field number, its bytes); of a number that is no message, the bytes of its wire form. Raises ValueError."""
    at, end = 0, len(data)
    while at < end:
        key, at = _varint(data, at)
        number, wire, begin = key >> 3, key & 7, at
        if wire == 0:
            _, at = _varint(data, at)
        elif wire == 2:
            length, begin = _varint(data, at)
            at = begin + length
        elif wire in (1, 5):
            at += 8 if wire == 1 else 4
        else:
            raise ValueError("no protobuf")
        if at > end or number == 0:
            raise ValueError("cut off")
        yield number, data[begin:at]


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("cut off")
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def _text(value: memoryview | None) -> str:
    return "" if value is None else value.tobytes().decode("utf-8", "replace")


def _read(model: Path) -> memoryview:
    try:
        return memoryview(model.read_bytes())
    except OSError as error:
        raise ModelError(str(model), "load", f"{error.strerror or error}") from None
