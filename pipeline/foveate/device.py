"""The root of all hardware interfaces; a family of drivers adds its own methods to it."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import ClassVar, Self

from foveate.clock import Clock


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device says of itself."""

    uri: str
    vendor: str = ""
    model: str = ""
    serial: str = ""
    simulated: bool = False


class Device:
    """Something with a URI that is opened, used and closed; its constructor is its option schema.

    The constructor touches no hardware. `open` may be called once; `close` any number of times.
    """

    family: ClassVar[str] = ""
    uri: str = ""  # set by whoever made the device from a rig

    def open(self, clock: Clock) -> None:
        """Connect. Raises NotFound, Busy, BackendMissing."""

    def close(self) -> None:
        """Bring the hardware to rest and let go of it."""

    def info(self) -> DeviceInfo:
        """Identity; cheap, no I/O."""
        return DeviceInfo(self.uri)

    def due_ns(self) -> int | None:
        """When the next data will be ready, on the clock; None where only the hardware knows."""
        return None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
