"""Clouds and triangle meshes as PLY files (Turk 1994, The PLY Polygon File Format), binary or text.

Points are written as x, y, z (float32, metres), then nx, ny, nz, then red, green, blue (uchar), then scalars by their
names: the order that other programs read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate_nodes.reconstruction.errors import SurfaceError

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2", "ushort": "u2",
    "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4", "float": "f4", "float32": "f4",
    "double": "f8", "float64": "f8",
}  # fmt: skip
_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": "="}
_POINT, _NORMAL, _COLOR = ("x", "y", "z"), ("nx", "ny", "nz"), ("red", "green", "blue")
_MOST_HEADER = 65_536  # bytes


@dataclass(frozen=True, slots=True, eq=False)
class Ply:
    """Points with what is known of each, and the triangles between them, if any."""

    point_m: NDArray[np.floating]  # N x 3; kept as float32
    normal: NDArray[np.floating] | None = None  # N x 3, unit
    color: NDArray[np.uint8] | None = None  # N x 3: red, green, blue
    scalar: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)  # N each
    triangle: NDArray[np.int32] | None = None  # M x 3, counter-clockwise seen from outside


@dataclass(slots=True)
class _Element:
    name: str
    count: int
    properties: list[tuple[str, str]] = field(default_factory=list)  # name, type; of a list: "list COUNT ITEM"


def write(path: Path, ply: Ply, text: bool = False) -> None:
    """Write the file at once: a reader sees the old one or the new one."""
    vertex = _vertices(ply)
    lines = ["ply", f"format {'ascii' if text else 'binary_little_endian'} 1.0", "comment metres; made by foveate"]
    lines.append(f"element vertex {len(vertex)}")
    kinds = {"f4": "float", "u1": "uchar"}
    lines += [f"property {kinds[vertex.dtype[name].str[1:]]} {name}" for name in vertex.dtype.names or ()]
    if ply.triangle is not None:
        lines += [f"element face {len(ply.triangle)}", "property list uchar int vertex_indices"]
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(("\n".join([*lines, "end_header"]) + "\n").encode("ascii"))
        if text:
            file.writelines((" ".join(_shown(value) for value in row) + "\n").encode("ascii") for row in vertex)
            if ply.triangle is not None:
                file.writelines(f"3 {a} {b} {c}\n".encode("ascii") for a, b, c in ply.triangle.tolist())
        else:
            file.write(vertex.tobytes())
            if ply.triangle is not None:
                face = np.empty(len(ply.triangle), [("count", "u1"), ("index", "<i4", 3)])
                face["count"], face["index"] = 3, ply.triangle
                file.write(face.tobytes())
    part.replace(path)


def _shown(value: np.generic) -> str:
    return str(value) if isinstance(value, np.integer) else f"{value:.9g}"  # 9 digits: a float32 comes back the same


def _vertices(ply: Ply) -> NDArray[np.void]:
    """One record a point."""
    columns: dict[str, NDArray] = dict(zip(_POINT, np.asarray(ply.point_m, "<f4").reshape(-1, 3).T, strict=True))
    if ply.normal is not None:
        columns |= zip(_NORMAL, np.asarray(ply.normal, "<f4").T, strict=True)
    if ply.color is not None:
        columns |= zip(_COLOR, np.asarray(ply.color, "u1").T, strict=True)
    for name, values in ply.scalar.items():
        if not name.isidentifier() or name in columns:
            raise SurfaceError(f"'{name}' cannot name a scalar in a PLY file; take a word that is not yet used")
        columns[name] = np.asarray(values, "<f4")
    vertex = np.empty(len(ply.point_m), [(name, values.dtype) for name, values in columns.items()])
    for name, values in columns.items():
        if len(values) != len(vertex):
            raise SurfaceError(f"the cloud has {len(vertex)} points but {len(values)} values of '{name}'")
        vertex[name] = values
    return vertex


def read(path: Path) -> Ply:
    """Points and triangles of a PLY file of either kind. Raises SurfaceError; a polygon that is no triangle is one."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SurfaceError(f"{path}: cannot be read: {error.strerror}") from None
    order, elements, start = _header(data, str(path))
    columns: dict[str, NDArray] = {}
    triangle = None
    body = _Text(data[start:], str(path)) if order == "=" else _Binary(data, start, order, str(path))
    for element in elements:
        found = body.element(element)
        if element.name == "vertex":
            columns = {name: np.asarray(values) for name, values in found.items()}
        elif element.name == "face":
            triangle = next((v for k, v in found.items() if k in ("vertex_indices", "vertex_index")), None)
    if not set(_POINT) <= set(columns):
        raise SurfaceError(f"{path}: has no points: the element 'vertex' needs x, y and z")
    count = len(columns["x"])
    if triangle is not None and len(triangle) and (triangle.min() < 0 or triangle.max() >= count):
        raise SurfaceError(f"{path}: a triangle names a point that is not there; there are {count}")

    def taken(names: tuple[str, ...], kind: type) -> NDArray | None:
        there = set(names) <= set(columns)
        return np.stack([columns.pop(name) for name in names], axis=1).astype(kind) if there else None

    point, normal, color = taken(_POINT, np.float32), taken(_NORMAL, np.float32), taken(_COLOR, np.uint8)
    assert point is not None
    scalar = {name: values.astype(np.float32) for name, values in columns.items() if values.ndim == 1}
    return Ply(point, normal, color, scalar, None if triangle is None else triangle.astype(np.int32))


def _header(data: bytes, name: str) -> tuple[str, list[_Element], int]:
    """Byte order, elements, and where the body begins."""
    end = data.find(b"end_header", 0, _MOST_HEADER)
    line_end = data.find(b"\n", end)
    if not data.startswith(b"ply") or end < 0 or line_end < 0:
        raise SurfaceError(f"{name}: not a PLY file: it must begin with 'ply' and have a line 'end_header'")
    order, elements = "", list[_Element]()
    for line in data[:end].decode("ascii", "replace").splitlines()[1:]:
        match line.split():
            case ["format", kind, "1.0"] if kind in _ORDERS:
                order = _ORDERS[kind]
            case ["element", what, count] if count.isdigit():
                elements.append(_Element(what, int(count)))
            case ["property", "list", size, kind, what] if elements and {size, kind} <= set(_TYPES):
                elements[-1].properties.append((what, f"list {size} {kind}"))
            case ["property", kind, what] if elements and kind in _TYPES:
                elements[-1].properties.append((what, kind))
            case [] | ["comment" | "obj_info", *_]:
                pass
            case _:
                raise SurfaceError(f"{name}: cannot understand '{line[:80]}' in the head")
    if not order:
        raise SurfaceError(f"{name}: the head has no line 'format'")
    return order, elements, line_end + 1


def _lists(element: _Element) -> list[tuple[str, str]]:
    return [item for item in element.properties if item[1].startswith("list")]


class _Binary:
    """A binary body; lists must all hold three, as those of triangles do."""

    def __init__(self, data: bytes, start: int, order: str, name: str) -> None:
        self._data, self._at, self._order, self._name = data, start, order, name

    def element(self, element: _Element) -> dict[str, NDArray]:
        layout: list[tuple] = []
        for what, kind in element.properties:
            if kind.startswith("list"):
                _, size, item = kind.split()
                layout += [(f"{what} count", self._order + _TYPES[size]), (what, self._order + _TYPES[item], 3)]
            else:
                layout.append((what, self._order + _TYPES[kind]))
        dtype = np.dtype(layout)
        if len(self._data) - self._at < element.count * dtype.itemsize and not _lists(element):
            raise SurfaceError(f"{self._name}: ends before its {element.count} of '{element.name}'; copy it again")
        have = min(element.count, (len(self._data) - self._at) // max(dtype.itemsize, 1))
        rows = np.frombuffer(self._data, dtype, have, self._at) if have else np.zeros(0, dtype)
        for what, _ in _lists(element):
            if (rows[f"{what} count"] != 3).any() or have < element.count:
                raise SurfaceError(f"{self._name}: '{element.name}' holds other polygons than triangles, or is cut off")
        self._at += have * dtype.itemsize
        return {what: rows[what] for what, _ in element.properties}


class _Text:
    """A body of numbers in text."""

    def __init__(self, data: bytes, name: str) -> None:
        self._lines: Iterator[bytes] = (line for line in data.splitlines() if line.strip())
        self._name = name

    def element(self, element: _Element) -> dict[str, NDArray]:
        lists = _lists(element)
        if lists and len(element.properties) > 1:
            raise SurfaceError(f"{self._name}: '{element.name}' holds more than one list; save the file as binary")
        width = 4 if lists else len(element.properties)
        rows = [line.split() for _, line in zip(range(element.count), self._lines, strict=False)]
        if len(rows) < element.count or any(len(row) != width for row in rows):
            what = "triangles" if lists else f"rows of {width} numbers"
            raise SurfaceError(f"{self._name}: '{element.name}' is not {element.count} {what}")
        try:
            values = np.array(rows, np.float64).reshape(element.count, width)
        except ValueError as error:
            raise SurfaceError(f"{self._name}: '{element.name}': {error}") from None
        if lists:
            if (values[:, 0] != 3).any():
                raise SurfaceError(f"{self._name}: '{element.name}' holds other polygons than triangles")
            return {lists[0][0]: values[:, 1:].astype(np.int64)}
        return {what: values[:, i] for i, (what, _) in enumerate(element.properties)}
