"""Controls of a Linux video device, asked of the kernel itself: bounds, and what was really set.

Numbers and layouts: linux/videodev2.h and linux/v4l2-controls.h (user-space API, stable).
"""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

EXPOSURE_AUTO, EXPOSURE_ABSOLUTE = 0x009A0901, 0x009A0902
AUTOGAIN, GAIN, ANALOGUE_GAIN = 0x00980912, 0x00980913, 0x009E0903
EXPOSURE_UNIT_S = 1e-4  # of EXPOSURE_ABSOLUTE
MANUAL = 1  # of EXPOSURE_AUTO

CAPABILITY = struct.Struct("=16s32s32sIII12x")  # v4l2_capability
QUERY = struct.Struct("=II32siiiiI8x")  # v4l2_queryctrl
CONTROL = struct.Struct("=Ii")  # v4l2_control
_READ, _WRITE = 2, 1


def request(direction: int, number: int, size: int) -> int:
    """The number of an ioctl of the type 'V' (asm-generic/ioctl.h)."""
    return direction << 30 | size << 16 | ord("V") << 8 | number


QUERY_CAPABILITY = request(_READ, 0, CAPABILITY.size)
GET_CONTROL = request(_READ | _WRITE, 27, CONTROL.size)
SET_CONTROL = request(_READ | _WRITE, 28, CONTROL.size)
QUERY_CONTROL = request(_READ | _WRITE, 36, QUERY.size)

_DISABLED, _READ_ONLY = 0x0001, 0x0004
_VIDEO_CAPTURE, _MULTIPLANAR, _DEVICE_CAPABILITIES = 0x1, 0x1000, 0x80000000


@dataclass(frozen=True, slots=True)
class Range:
    """What a control takes, in its own units."""

    lo: int
    hi: int
    step: int
    writable: bool


class Controls:
    """A video device beside whoever streams from it: V4L2 lets any opener set controls."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._file = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._file)

    def _ask(self, number: int, data: bytes) -> bytes:
        return fcntl.ioctl(self._file, number, data)

    def is_camera(self) -> bool:
        """Whether frames can be captured from it: a camera has other nodes too, for its metadata."""
        try:
            told = CAPABILITY.unpack(self._ask(QUERY_CAPABILITY, bytes(CAPABILITY.size)))
        except OSError:
            return False
        able = told[5] if told[4] & _DEVICE_CAPABILITIES else told[4]
        return bool(able & (_VIDEO_CAPTURE | _MULTIPLANAR))

    def range(self, control: int) -> Range | None:
        """Bounds and step; None where the device has no such control."""
        try:
            told = QUERY.unpack(self._ask(QUERY_CONTROL, QUERY.pack(control, 0, b"", 0, 0, 0, 0, 0)))
        except OSError:
            return None
        _, _, _, lo, hi, step, _, flags = told
        return None if flags & _DISABLED else Range(lo, hi, max(step, 1), not flags & _READ_ONLY)

    def get(self, control: int) -> int:
        """Raises OSError."""
        return int(CONTROL.unpack(self._ask(GET_CONTROL, CONTROL.pack(control, 0)))[1])

    def set(self, control: int, value: int) -> None:
        """Raises OSError: the driver refuses it."""
        self._ask(SET_CONTROL, CONTROL.pack(control, value))


def devices(root: Path = Path("/sys/class/video4linux")) -> list[tuple[Path, str]]:
    """(path under /dev, name) of every video device that sysfs lists."""
    found = []
    for entry in sorted(root.glob("video*"), key=lambda item: int("0" + item.name.removeprefix("video"))):
        try:
            name = (entry / "name").read_text(encoding="utf-8", errors="replace").strip()
        except OSError:
            name = ""
        found.append((Path("/dev") / entry.name, name))
    return found
