"""Settings of hardware: what can be set, within which bounds, and what was read back."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from foveate.catalog import did_you_mean
from foveate.device import Device
from foveate.errors import NotSupported, OutOfRange, StateError

Value = float | int | bool | str


@dataclass(frozen=True, slots=True)
class Capability:
    """One setting of a device."""

    name: str
    unit: str = ""  # SI: s, Hz, px, rad, W; dB for gain
    lo: float | None = None  # bounds of a number, as the device gives them now
    hi: float | None = None
    step: float | None = None  # between two values the device takes
    choices: tuple[str, ...] = ()  # of a name
    writable: bool = True
    live: bool = True  # may change while data flow

    def __str__(self) -> str:
        unit = f" {self.unit}" if self.unit else ""
        if self.choices:
            text = " | ".join(self.choices)
        elif self.lo is None or self.hi is None:
            text = unit.strip() or "any"
        else:
            text = f"{self.lo:g} to {self.hi:g}{unit}" + (f" in steps of {self.step:g}" if self.step else "")
        notes = [
            note for note, said in (("read only", not self.writable), ("not while data flow", not self.live)) if said
        ]
        return text + (f" ({', '.join(notes)})" if notes else "")


@dataclass(frozen=True, slots=True)
class Health:
    """How a device is doing; known without asking it."""

    state: Literal["ok", "degraded", "lost"] = "ok"
    detail: str = ""
    counters: Mapping[str, int] = field(default_factory=dict)  # sent, received, lost, incomplete, retried ...
    temperature_c: float | None = None


class Adjustable(Device):
    """A device with settings. A driver says what it has in `capabilities` and moves values in `_read` and `_write`."""

    def capabilities(self) -> Mapping[str, Capability]:
        """Settings by name, with the bounds that hold now. Raises StateError where the device must be open."""
        return {}

    def health(self) -> Health:
        """State and counters; cheap, no I/O."""
        return Health()

    def get(self, name: str) -> Value:
        """The device's present value, asked of the device. Raises NotSupported."""
        self._capability(name, f"get '{name}'")
        return self._read(name)

    def set(self, name: str, value: Value) -> Value:
        """Set, and return what the device reads back. Raises OutOfRange, NotSupported, StateError: nothing is set."""
        operation = f"set {name} to {value}"
        capability = self._capability(name, operation)
        if not capability.writable:
            raise NotSupported(self.uri, operation, "it can only be read")
        if not capability.live and self.streaming:
            raise StateError(self.uri, operation, "stop the stream first")
        if capability.choices:
            if value not in capability.choices:
                raise NotSupported(self.uri, operation, f"it takes {', '.join(capability.choices)}")
        elif capability.lo is not None or capability.hi is not None:
            lo, hi = -math.inf if capability.lo is None else capability.lo, capability.hi
            hi = math.inf if hi is None else hi
            if isinstance(value, str) or not lo <= value <= hi:  # NaN is not within any bounds
                raise OutOfRange(self.uri, name, value, lo, hi, capability.unit)
        self._write(name, value)
        return self._read(name)

    def configure(self, wanted: Mapping[str, Value | None]) -> None:
        """Set what is not None and hold what the device reads back against it: 1 %, or one step.

        Raises NotSupported naming both values where the device took something else.
        """
        for name, value in wanted.items():
            if value is None:
                continue
            operation = f"set {name} to {value}"
            writable = self._capability(name, operation).writable
            got = self.set(name, value) if writable else self._read(name)  # fixed, and perhaps just so
            if isinstance(value, str) or isinstance(got, str):
                same = got == value
            else:
                same = abs(got - value) <= max(0.01 * abs(value), self.capabilities()[name].step or 0.0)
            if not same:
                why = f"the device made it {got}" if writable else f"it can only be read, and is {got}"
                raise NotSupported(self.uri, operation, why)

    @property
    def streaming(self) -> bool:
        """Whether data flow, so that settings that are not live stay as they are."""
        return False

    def _capability(self, name: str, operation: str) -> Capability:
        known = self.capabilities()
        if name not in known:
            raise NotSupported(self.uri, operation, f"it has no such setting{did_you_mean(name, known)}")
        return known[name]

    def _read(self, name: str) -> Value:
        """The value of a known setting, asked of the device."""
        raise NotImplementedError

    def _write(self, name: str, value: Value) -> None:
        """Send a checked value."""
        raise NotImplementedError
