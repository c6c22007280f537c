"""Every error foveate raises on purpose.

FoveateError
├── GraphError            faults found in a graph before anything moved; carries all of them
├── NodeFailed            a node raised: names the node, the message it worked on, the cause
├── RecordingError        a recording that cannot be read or written
│   └── NotOurs           a file that foveate did not record
├── EndOfStream           a source has nothing more to give, or a node has done what the run was for
└── DeviceError           names the device, the operation and the way out
    ├── NotFound
    ├── Busy
    ├── NotSupported
    ├── StateError        not open, already open
    ├── OutOfRange        carries the bounds
    ├── Timeout
    ├── Disconnected
    ├── ProtocolError
    ├── DataLoss
    ├── StaleData
    ├── Interlock
    ├── ModelError        a model file that does not fit its manifest or its use
    └── BackendMissing    names the package to install
"""

from __future__ import annotations

from dataclasses import dataclass


class FoveateError(Exception):
    """The root of the tree."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing wrong in a graph, and where: lines and columns count from 1."""

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}: {self.text}"


class GraphError(FoveateError):
    """All faults found in a graph."""

    def __init__(self, faults: list[Fault]) -> None:
        self.faults = sorted(set(faults))
        super().__init__("\n".join(str(fault) for fault in self.faults))


class NodeFailed(FoveateError):
    """A node raised while it worked on a message."""

    def __init__(self, node: str, doing: str, cause: BaseException, why: str = "") -> None:
        """`why`: what else led to the end of the run."""
        self.node = node
        self.doing = doing
        self.cause = cause
        kind = "" if isinstance(cause, FoveateError) else f"{type(cause).__name__}: "
        text = " ".join(str(cause).split()) or "no message"
        super().__init__(f"node '{node}' failed in {doing}: {kind}{text}{f' ({why})' if why else ''}")


class RecordingError(FoveateError):
    """A recording that cannot be read or written."""


class NotOurs(RecordingError):
    """A file that somebody else wrote, where a recording of foveate is wanted."""


class EndOfStream(FoveateError):
    """A source has nothing more to give; of another node: the run has done what it was for, and ends."""


class DeviceError(FoveateError):
    """A device did not do what was asked."""

    def __init__(self, uri: str, operation: str, hint: str) -> None:
        self.uri = uri
        self.operation = operation
        self.hint = hint
        super().__init__(f"{uri}: cannot {operation}: {hint}")


class NotFound(DeviceError):
    """No such device or file."""


class Busy(DeviceError):
    """Somebody else holds the device."""


class NotSupported(DeviceError):
    """The device has no such feature."""


class StateError(DeviceError):
    """The operation does not fit the device's present state."""


class OutOfRange(DeviceError):
    """A value beyond the device's bounds."""

    def __init__(self, uri: str, name: str, value: object, lo: float, hi: float, unit: str = "") -> None:
        self.lo = lo
        self.hi = hi
        tail = f" {unit}" if unit else ""
        super().__init__(uri, f"set {name} to {value}{tail}", f"it must be within {lo:g} to {hi:g}{tail}")


class Timeout(DeviceError):
    """The device did not answer in time."""


class Disconnected(DeviceError):
    """The device went away."""


class ProtocolError(DeviceError):
    """The device or file said something it should not."""


class DataLoss(DeviceError):
    """Data were lost on the way from the device."""


class StaleData(DeviceError):
    """The newest data are older than asked for."""


class Interlock(DeviceError):
    """A safety device forbids the operation."""


class ModelError(DeviceError):
    """A model file that does not fit its manifest or its use."""


class BackendMissing(DeviceError):
    """An optional package that is needed here is not installed."""

    def __init__(self, uri: str, package: str, extra: str) -> None:
        super().__init__(uri, f"import {package}", f"pip install 'foveate[{extra}]'")
