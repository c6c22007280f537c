"""A topic of a recording that somebody else made as a camera (`log:drive.bag`, `log:tum_fr1`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import EndOfStream, ProtocolError
from foveate.messages import Frame, Message
from foveate.node import Folder, Unit
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.rigid import transform
from foveate_drivers import log_topic
from foveate_drivers.cameras.base import Camera
from foveate_logbook.formats.base import Log


class LogCamera(Camera):
    """Gives a log's frames at the times they were taken, counted from the first; what is missing is not made up."""

    def __init__(
        self, *, address: Annotated[Path, Folder(or_file=True)], topic: str | None = None, loop: bool = False,
        field: Annotated[float, Unit("rad"), Gt(0.001), Le(2.5)] | None = None,
        width: Annotated[int, Unit("px"), Ge(1)] | None = None,
        height: Annotated[int, Unit("px"), Ge(1)] | None = None,
        offset: Annotated[float, Unit("m")] = 0.0, rate: Annotated[float, Unit("Hz"), Gt(0)] | None = None,
    ) -> None:  # fmt: skip
        """`topic`: may be left out where the log has one topic of images.

        What a log does not say: `field`, the camera's full horizontal angle of view; for nodes that aim with it `width`
        and `height`, too, which the images must have then, and `rate`, at which it was recorded; `offset`, the place
        along the rig's x.
        """
        self.period_ns = round(1e9 / rate) if rate is not None else None
        self._field = field
        if field is not None and width is not None and height is not None:
            self.pinhole = Pinhole.from_field(width, height, field)
        self.rig_from_camera = transform(np.eye(3), np.array([offset, 0.0, 0.0]))
        self._path = address
        self._topic = topic
        self._loop = loop
        self._log: Log | None = None
        self._frames: Iterator[tuple[str, int, Message]] = iter(())
        self._next: Frame | None = None
        self._shift_ns = 0  # the log's clock to the pipeline's, in this turn of the loop
        self._last_ns = 0
        self._step_ns = 33_333_333  # between the last two frames, and from the last to the first again
        self._count = 0  # of the last frame, over all turns
        self._turn = 0  # count before this turn

    def open(self, clock: Clock) -> None:
        self._log = log_topic.opened(self.uri, self._path)
        try:
            self._topic = log_topic.chosen(self.uri, self._log, Frame, "images", self._topic)
            self._begin(clock.now_ns())
            self._clock = clock
        except BaseException:
            self.close()
            raise

    def _begin(self, now_ns: int) -> None:
        """Start at the first frame, which is due at `now_ns`."""
        assert self._log is not None and self._topic is not None
        self._frames = self._log.messages([self._topic])
        self._turn = self._count
        self._next = self._fetched()
        if self._next is None:
            raise ProtocolError(self.uri, "open", f"no image of topic '{self._topic}' can be decoded")
        height, width = self._next.image.shape[:2]
        if self.pinhole is not None and (width, height) != (self.pinhole.width, self.pinhole.height):
            wanted = f"{self.pinhole.width} x {self.pinhole.height} as options 'width' and 'height' say"
            raise ProtocolError(self.uri, "open", f"its images have {width} x {height} pixels, not {wanted}")
        if self._field is not None:
            self.pinhole = Pinhole.from_field(width, height, self._field)
        self._shift_ns = now_ns - self._next.stamp.t_ns
        self._last_ns = now_ns - 1

    def _fetched(self) -> Frame | None:
        for _, _, message in self._frames:
            if isinstance(message, Frame):
                return message
        return None

    def due_ns(self) -> int:
        if self._next is None:
            return self._last_ns
        # stamps of a log may stand still or go back; frames of a camera do not
        return max(self._next.stamp.t_ns + self._shift_ns, self._last_ns + 1)

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, model=f"{self._path.name} {self._topic or ''}".rstrip())

    def read(self, timeout_s: float) -> Frame:
        clock = self._running()
        if self._next is None:
            raise EndOfStream
        due_ns = self.due_ns()
        self._await(timeout_s)
        frame = replace(self._next, stamp=replace(self._next.stamp, t_ns=due_ns), seq=self._turn + self._next.seq)
        if self._count > self._turn:
            self._step_ns = due_ns - self._last_ns
        self._last_ns, self._count = due_ns, frame.seq
        self._next = self._fetched()
        if self._next is None and self._loop:
            self._begin(due_ns + self._step_ns)
        return replace(frame, received_ns=clock.now_ns())

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = self._clock = None
        self._frames, self._next = iter(()), None
