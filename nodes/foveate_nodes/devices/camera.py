"""The camera node: any camera driver, with the steering mirror's angles where one is in the path."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import numpy as np
from annotated_types import Ge

from foveate.errors import StaleData, Timeout
from foveate.messages import Frame
from foveate.node import Node, Unit
from foveate_drivers.cameras.base import Camera as CameraDevice
from foveate_drivers.mirrors.base import Mirror as MirrorDevice

_TIMEOUT_S = 0.1


class Camera(Node):
    """Frames of a camera; with `mirror`, each carries the mirror's angles at mid-exposure.

    A camera that falls silent or repeats itself fails the node; its `on_fault` says what then.
    """

    class Outputs:
        frame: Frame

    def __init__(
        self, *, device: CameraDevice, mirror: MirrorDevice | None = None,
        silence: Annotated[float, Unit("s"), Ge(0)] = 1.0, repeats: Annotated[int, Ge(0)] = 0,
    ) -> None:  # fmt: skip
        """`silence`: without a frame for this long it is stale, 0 = never (a triggered camera);
        `repeats`: so many equal images in a row are a frozen camera, 0 = do not look."""
        self.device = device
        self.mirror = mirror
        self._most_silent = silence
        self._most_repeats = repeats
        self._silent_s = 0.0
        self._repeated = 0
        self._last: Frame | None = None

    def due_ns(self) -> int | None:
        return self.device.due_ns()

    def step(self) -> Frame | None:
        try:
            frame = self.device.read(_TIMEOUT_S)
        except Timeout:
            self._hush()
            return None
        self._silent_s = 0.0
        if self._most_repeats:
            self._compare(frame)
        if self.mirror is None:
            return frame
        return replace(frame, mirror=self.mirror.reading(frame.stamp.t_ns, frame.stamp.exposure_ns))

    def _hush(self) -> None:
        """Count the time without a frame of a camera that sets its own pace. Raises StaleData."""
        if self.device.due_ns() is not None:  # a twin or a file knows when it has something
            return
        self._silent_s += _TIMEOUT_S
        if self._most_silent and self._silent_s >= self._most_silent - 1e-9:
            silent_s, self._silent_s = self._silent_s, 0.0
            hint = f"no frame for {silent_s:.1f} s; a triggered camera needs the parameter silence: 0"
            raise StaleData(self.device.uri, "read", hint)

    def _compare(self, frame: Frame) -> None:
        """Count images that are equal to the one before. Raises StaleData."""
        last, self._last = self._last, frame
        same = last is not None and np.array_equal(last.image[::16], frame.image[::16])  # rarely equal: a quick look
        self._repeated = self._repeated + 1 if same and np.array_equal(last.image, frame.image) else 0  # type: ignore[union-attr]
        if self._repeated >= self._most_repeats:
            self._repeated = 0
            raise StaleData(self.device.uri, "read", f"{self._most_repeats + 1} equal images in a row: it is frozen")
