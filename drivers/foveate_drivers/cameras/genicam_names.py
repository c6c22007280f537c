"""Settings by foveate's names over GenICam nodes: SFNC 2 names first, then those that older cameras have.

EMVA: GenICam Standard Features Naming Convention (SFNC) 2.7. Nodes count in microseconds, settings in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from foveate.device import DeviceInfo
from foveate.errors import NotSupported
from foveate_drivers.adjustable import Capability, Value

NODE = "node:"  # before the name of a vendor's node


class Nodes(Protocol):
    """The nodes of an open camera. What they raise is of foveate's error tree."""

    def kind(self, node: str) -> str:
        """int, float, enum, bool, string or command; "" where the camera has no such node now."""

    def writable(self, node: str) -> bool: ...

    def get(self, node: str) -> Value: ...

    def set(self, node: str, value: Value) -> None: ...

    def code(self, node: str) -> int:
        """The number behind an enumeration's present choice."""

    def bounds(self, node: str) -> tuple[float, float, float | None]:
        """(lowest, highest, step) of a number as the camera gives them now."""

    def choices(self, node: str) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True)
class Name:
    """One setting, the nodes that may hold it and what has to be so before it can be written."""

    unit: str
    nodes: tuple[str, ...]
    factor: float = 1.0  # setting = node x factor
    live: bool = True
    before: tuple[tuple[str, Value], ...] = ()


NAMES: dict[str, Name] = {
    "exposure": Name("s", ("ExposureTime", "ExposureTimeAbs"), 1e-6,
                     before=(("ExposureAuto", "Off"), ("ExposureMode", "Timed"))),
    "gain": Name("dB", ("Gain", "GainAbs"), before=(("GainAuto", "Off"),)),
    "gain_raw": Name("", ("GainRaw",), before=(("GainAuto", "Off"),)),  # steps that only the datasheet gives in dB
    "rate": Name("Hz", ("AcquisitionFrameRate", "AcquisitionFrameRateAbs"),
                 before=(("AcquisitionFrameRateAuto", "Off"), ("AcquisitionFrameRateEnable", True),
                         ("AcquisitionFrameRateEnabled", True))),
    "offset_x": Name("px", ("OffsetX",)),
    "offset_y": Name("px", ("OffsetY",)),
    "width": Name("px", ("Width",), live=False),
    "height": Name("px", ("Height",), live=False),
    "encoding": Name("", ("PixelFormat",), live=False),
    "temperature": Name("degC", ("DeviceTemperature", "DeviceTemperatureRaw", "TemperatureAbs")),
}  # fmt: skip

_UNBOUNDED = 2.0**62  # beyond it a bound is the largest number of its type
_TRIGGER_NODES = ("TriggerMode", "TriggerSource")


class GenicamSettings:
    """Translates between settings and the nodes of one open camera."""

    def __init__(self, uri: str, nodes: Nodes) -> None:
        self._uri = uri
        self._nodes = nodes
        self._found = {
            name: node for name, item in NAMES.items() for node in item.nodes[::-1] if nodes.kind(node)
        }  # the first in a setting's list wins: it is seen last
        self._sources = {source.lower(): source for source in self._trigger_sources()}

    def __contains__(self, name: str) -> bool:
        return name in self._found or (name == "trigger" and bool(self._sources))

    def _trigger_sources(self) -> tuple[str, ...]:
        if not all(self._nodes.kind(node) for node in _TRIGGER_NODES):
            return ()
        able = bool(self._nodes.kind("TriggerSoftware"))
        return tuple(s for s in self._nodes.choices("TriggerSource") if able or s != "Software")

    def all(self) -> Mapping[str, Capability]:
        """What can be set and read, with the bounds that hold now."""
        names = [*self._found, *(["trigger"] if self._sources else [])]
        return {name: self.capability(name) for name in names}

    def capability(self, name: str) -> Capability:
        """One setting, asked of the camera now. Raises NotSupported where it has none of the name."""
        if name.startswith(NODE):
            return self._node_capability(name, name.removeprefix(NODE), Name("", ()))
        if name == "trigger" and self._sources:
            return Capability(name, choices=("off", *self._sources), live=False)
        if name not in self._found:
            raise NotSupported(self._uri, f"use '{name}'", f"it has: {', '.join(self._found)} and {NODE}NAME")
        return self._node_capability(name, self._found[name], NAMES[name])

    def _node_capability(self, name: str, node: str, item: Name) -> Capability:
        kind = self._nodes.kind(node)
        if not kind:
            raise NotSupported(self._uri, f"use '{name}'", f"the camera has no node {node}, or not now")
        writable = name != "temperature" and self._nodes.writable(node)
        if kind == "enum":
            return Capability(name, choices=self._nodes.choices(node), writable=writable, live=item.live)
        if kind in ("int", "float"):
            lo, hi, step = (
                None if x is None or abs(x) > _UNBOUNDED else x * item.factor for x in self._nodes.bounds(node)
            )
            return Capability(name, item.unit, lo, hi, step, writable=writable, live=item.live)
        return Capability(name, writable=writable, live=item.live)

    def read(self, name: str) -> Value:
        """The value in the setting's unit, asked of the camera."""
        if name == "trigger":
            return "off" if self._nodes.get("TriggerMode") == "Off" else str(self._nodes.get("TriggerSource")).lower()
        if name.startswith(NODE):
            node = name.removeprefix(NODE)
            return True if self._nodes.kind(node) == "command" else self._nodes.get(node)
        value, factor = self._nodes.get(self._found[name]), NAMES[name].factor
        return value if isinstance(value, str) or factor == 1 else value * factor

    def write(self, name: str, value: Value) -> None:
        """Set a value that `capability` allows."""
        if name == "trigger":
            self._write_trigger(str(value))
        elif name.startswith(NODE):
            self._nodes.set(name.removeprefix(NODE), value)
        else:
            item, node = NAMES[name], self._found[name]
            self._prepare(item)
            self._nodes.set(node, value if isinstance(value, str) else self._nearest(node, float(value) / item.factor))

    def _prepare(self, item: Name) -> None:
        for node, value in item.before:
            kind = self._nodes.kind(node)
            usable = bool(kind) and (kind != "enum" or value in self._nodes.choices(node))
            if usable and self._nodes.get(node) != value:
                self._nodes.set(node, value)

    def _nearest(self, node: str, value: float) -> float | int:
        """The nearest value the node takes: what rounding left beyond its bounds is brought back."""
        lo, hi, step = self._nodes.bounds(node)
        if step is not None:
            value = lo + round((value - lo) / step) * step
        value = min(max(value, lo), hi)
        return round(value) if self._nodes.kind(node) == "int" else value

    def _write_trigger(self, value: str) -> None:
        """One trigger for each frame, or none at all: cameras may be left waiting for a start of acquisition too."""
        selectors = self._nodes.choices("TriggerSelector") if self._nodes.kind("TriggerSelector") else ()
        frame = "FrameStart" if "FrameStart" in selectors else "AcquisitionStart"
        for selector in sorted(selectors, key=lambda s: s == frame):  # the frame's last, so that it stays selected
            self._nodes.set("TriggerSelector", selector)
            self._nodes.set("TriggerMode", "Off")
        if value != "off" or not selectors:
            self._nodes.set("TriggerSource", self._sources.get(value, self._nodes.get("TriggerSource")))
            self._nodes.set("TriggerMode", "Off" if value == "off" else "On")


def nodes_info(uri: str, nodes: Nodes) -> DeviceInfo:
    """What the camera's nodes say of its maker, model and serial number."""

    def first(*names: str) -> str:
        return next((str(nodes.get(node)) for node in names if nodes.kind(node)), "")

    return DeviceInfo(uri, first("DeviceVendorName"), first("DeviceModelName"), first("DeviceSerialNumber", "DeviceID"))
