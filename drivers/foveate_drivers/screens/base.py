"""The screen interface: pictures by name, of which only the newest counts."""

from __future__ import annotations

import re
import threading

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import NotSupported, StateError
from foveate.messages import Frame
from foveate_drivers.adjustable import Adjustable

ENCODINGS = ("Mono8", "BGR8")
MOST_PICTURES = 16
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Screen(Adjustable):
    """Shows the newest picture of each name to whoever looks. Never blocks: a slow looker misses pictures.

    Drivers say in `_started` and `_ended` how people come to see them; `_lock` tells who waits that there is a new one.
    """

    family = "screen"

    def __init__(self) -> None:
        self._open = False
        self._lock = threading.Condition()
        self._newest: dict[str, tuple[int, Frame]] = {}  # the number of the picture counts up

    def open(self, clock: Clock) -> None:
        if self._open:
            raise StateError(self.uri, "open", "it is open already")
        with self._lock:
            self._newest = {}
        self._started()
        self._open = True

    def close(self) -> None:
        if self._open:
            self._open = False
            self._ended()

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", "screen")

    def show(self, name: str, frame: Frame) -> None:
        """Put a picture (Mono8 or BGR8) in the place of the one before of that name. Raises NotSupported, StateError.

        `name`: up to 64 letters, digits, `_`, `.` and `-`; 16 names at most.
        """
        operation = f"show {name[:64]!r}"
        if not self._open:
            raise StateError(self.uri, operation, "it is not open")
        if not _NAME.fullmatch(name):
            raise NotSupported(self.uri, operation, "a name is up to 64 letters, digits, '_', '.' and '-'")
        shape = {"Mono8": 2, "BGR8": 3}.get(frame.encoding)
        if frame.image.ndim != shape or not frame.image.size or frame.image.shape[2:] not in ((), (3,)):
            text = f"it takes {' and '.join(ENCODINGS)}, this is {frame.encoding} of shape {frame.image.shape}"
            raise NotSupported(self.uri, operation, text)
        with self._lock:
            number, _ = self._newest.get(name, (0, None))
            if not number and len(self._newest) == MOST_PICTURES:
                raise NotSupported(self.uri, operation, f"it has {MOST_PICTURES} pictures already")
            self._newest[name] = (number + 1, frame)
            self._lock.notify_all()

    def newest(self, name: str) -> Frame | None:
        """The picture that is shown under a name; None where there is none."""
        with self._lock:
            return self._newest[name][1] if name in self._newest else None

    def names(self) -> list[str]:
        """Of the pictures, in the order that they first came."""
        with self._lock:
            return list(self._newest)

    def _started(self) -> None:
        """Begin to show."""

    def _ended(self) -> None:
        """Let go of everything within two seconds, whoever looks; never raises."""
