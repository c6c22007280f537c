"""Depth topics of a recording that somebody else made as a depth camera (`log:tum_fr1`, `log:drive.bag`)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from annotated_types import Gt, Le

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import EndOfStream, NotSupported, ProtocolError
from foveate.messages import CameraInfo, DepthFrame, Frame, Message, Stamp
from foveate.node import Folder, Unit
from foveate_calibration.pinhole import Pinhole
from foveate_drivers import log_topic
from foveate_drivers.adjustable import Health
from foveate_drivers.depth.base import DepthCamera
from foveate_logbook.formats.base import Log
from foveate_logbook.formats.intrinsics import Intrinsics, intrinsics_of

_LOG = logging.getLogger("foveate")
_WORDS: dict[type[Message], tuple[str, str]] = {  # what a topic of it has, and the option that names it
    DepthFrame: ("depth", "topic"), Frame: ("images", "image"), CameraInfo: ("intrinsics", "info"),
}  # fmt: skip
_OLDER_NS = 1_000_000_000  # a stamp may be before the log's start: that is when the log received its first message


class LogDepthCamera(DepthCamera):
    """Gives a log's depth frames at the times they were taken, counted from the log's start as by every node that plays
    it (from the first, where stamps are on another clock than the log), each with the image nearest to it; `device_ns`
    tells when the log has them. Intrinsics are those of a topic, of `camera` or of `field`; what the log does not have
    is not made up. What cannot be decoded is warned of: the first of it by name, all by number in `health` and at the
    end."""

    def __init__(
        self,
        *,
        address: Annotated[Path, Folder(or_file=True)],
        topic: str | None = None,
        image: str | None = None,
        info: str | None = None,
        camera: str | None = None,
        field: Annotated[float, Unit("rad"), Gt(0.01), Le(2.5)] | None = None,
        unit: Annotated[float, Unit("m"), Gt(0), Le(0.1)] | None = None,
        window: Annotated[float, Unit("s"), Gt(0), Le(1)] = 0.02,
    ) -> None:
        """`topic`, `image`, `info`: of depth, images and intrinsics; each may be left out where the log has one, and
        `none` says that no image, or no intrinsics, are wanted; `camera`: intrinsics by hand, `fx fy cx cy` and if need
        be `k1 k2 p1 p2 [k3]`, pixels; `field`: full horizontal angle, where nothing else tells them; `unit`: metres a
        unit of depth, where the log has another than it says; `window`: most between depth and image."""
        self._path = address
        self._topics = {DepthFrame: topic, Frame: image, CameraInfo: info}
        self._camera = camera
        self._field = field
        self._unit_m = unit
        self._window_ns = round(window * 1e9)
        self._log: Log | None = None
        self._frames: Iterator[Message] = iter(())
        self._images: Iterator[Message] = iter(())
        self._next: DepthFrame | None = None
        self._by_hand: Intrinsics | None = None
        self._near: list[Frame] = []  # images around the next depth frame
        self._shift_ns = self._last_ns = 0
        self._told: dict[str, int] = {}  # by topic that is played, depth first: reasons of the log that were told

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """A log is where a rig says it is: nothing to be found."""
        return []

    def open(self, clock: Clock) -> None:
        self._by_hand = self._parsed()
        self._log = log_topic.opened(self.uri, self._path)
        try:
            self._told = {}
            self._frames = self._of(self._log, DepthFrame, needed=True)
            self._images = self._of(self._log, Frame, needed=False)
            infos = self._of(self._log, CameraInfo, needed=False)
            self._info = next((item for item in infos if isinstance(item, CameraInfo)), None)
            self._near = []
            self._next = self._fetched()
            if self._next is None:
                topic = next(iter(self._told))
                why = self._log.reasons.get(topic) or [self._log.problems.get(topic, "the topic has no messages")]
                raise ProtocolError(self.uri, "open", f"no depth frame can be decoded: {why[-1]}")
        except BaseException:
            self.close()
            raise
        self._shape = self._next.depth.shape
        first_ns, span_ns = self._next.stamp.t_ns, self._log.end_ns - self._log.start_ns
        self._shift_ns = clock.now_ns() - (0 if -_OLDER_NS <= first_ns <= span_ns else first_ns)
        self._last_ns = clock.now_ns() - _OLDER_NS - 1
        self._clock = clock
        self._warn()

    def _parsed(self) -> Intrinsics | None:
        """Option `camera`. Raises ProtocolError."""
        if self._camera is None:
            return None
        try:
            return intrinsics_of(tuple(float(word) for word in self._camera.replace(",", " ").split()), "camera")
        except ValueError as error:
            what = f"option 'camera' is '{self._camera[:60]}': {error}; write 'fx fy cx cy', pixels"
            raise ProtocolError(self.uri, "open", what) from None

    def _of(self, log: Log, kind: type[Message], needed: bool) -> Iterator[Message]:
        """The messages of the topic that was named, or of the only one there is; none where that is not clear."""
        name, (what, option) = self._topics[kind], _WORDS[kind]
        if not needed and name is None:
            fitting = [item.name for item in log.topics if item.kind is kind]
            name = fitting[0] if len(fitting) == 1 else "none"
        if not needed and name == "none":
            return iter(())
        name = log_topic.chosen(self.uri, log, kind, what, name, option)
        self._told[name] = 0
        return (message for _, _, message in log.messages([name]))

    def _warn(self) -> None:
        """Name what could not be decoded since the last call, as far as the log keeps it."""
        found = {} if self._log is None else self._log.reasons  # another thread may have closed it
        for topic, told in self._told.items():
            reasons = found.get(topic, [])
            for reason in reasons[told:]:
                _LOG.warning("%s: %s: left out: %s", self.uri, topic, reason)
            self._told[topic] = len(reasons)

    def _problems(self) -> list[str]:
        """What is wrong with the topics that are played, with the number that could not be decoded."""
        problems = {} if self._log is None else self._log.problems
        return [f"{topic}: {problems[topic]}" for topic in self._told if topic in problems]

    def health(self) -> Health:
        """Degraded where depth, images or intrinsics could not be decoded."""
        problems = self._problems()
        return Health("degraded" if problems else "ok", "; ".join(problems))

    def _fetched(self) -> DepthFrame | None:
        return next((item for item in self._frames if isinstance(item, DepthFrame)), None)

    def close(self) -> None:
        if self._clock is not None:
            for problem in self._problems():
                _LOG.warning("%s: %s", self.uri, problem)
        if self._log is not None:
            self._log.close()
        self._log = self._clock = self._next = None
        self._frames, self._images, self._near = iter(()), iter(()), []

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, model=self._path.name)

    def due_ns(self) -> int:
        if self._next is None:
            return self._last_ns
        # stamps of a log may stand still or go back; frames of a camera do not
        return max(self._next.stamp.t_ns + self._shift_ns, self._last_ns + 1)

    def read(self, timeout_s: float) -> tuple[DepthFrame, Frame | None]:
        clock = self._running("read")
        if self._next is None:
            raise EndOfStream
        self._await(timeout_s)
        due_ns, found = self.due_ns(), self._next
        image = self._nearest(found.stamp.t_ns)
        now_ns = clock.now_ns()
        depth = replace(
            found, stamp=replace(found.stamp, t_ns=due_ns), received_ns=now_ns, device_ns=self._log_ns(found),
            scale_m=self._unit_m or found.scale_m,
        )  # fmt: skip
        if image is not None:
            t_ns = min(image.stamp.t_ns + self._shift_ns, now_ns)
            stamp = replace(image.stamp, t_ns=t_ns)
            image = replace(image, stamp=stamp, received_ns=now_ns, device_ns=self._log_ns(image))
        self._last_ns = due_ns
        self._next = self._fetched()
        self._warn()
        return depth, image

    def _log_ns(self, message: DepthFrame | Frame) -> int:
        """When the log has it: nanoseconds of Unix time, or since the log's own beginning. 0 would say 'none': 1."""
        assert self._log is not None
        return message.device_ns or max(self._log.start_ns + message.stamp.t_ns, 1)

    def _nearest(self, t_ns: int) -> Frame | None:
        """The image nearest to a moment, within the window; taken out, with all before it."""
        while not self._near or self._near[-1].stamp.t_ns <= t_ns + self._window_ns:
            image = next((item for item in self._images if isinstance(item, Frame)), None)
            if image is None:
                break
            self._near.append(image)
        self._near = [item for item in self._near if item.stamp.t_ns >= t_ns - self._window_ns]
        if not self._near:
            return None
        best = min(range(len(self._near)), key=lambda i: abs(self._near[i].stamp.t_ns - t_ns))
        if abs(self._near[best].stamp.t_ns - t_ns) > self._window_ns:
            return None
        image = self._near[best]
        del self._near[: best + 1]
        return image

    def intrinsics(self) -> CameraInfo:
        """Raises NotSupported where nothing tells them."""
        clock = self._running("read intrinsics")
        height, width = self._shape
        if (hand := self._by_hand) is not None:
            return CameraInfo(Stamp(clock.now_ns()), width, height, "plumb_bob", hand.matrix, hand.distortion)
        if self._info is not None:
            return replace(self._info, stamp=Stamp(clock.now_ns()))
        if self._field is None:
            way = "name a topic with option 'info', give option 'camera' (fx fy cx cy), or option 'field'"
            raise NotSupported(self.uri, "read intrinsics", way)
        matrix = Pinhole.from_field(width, height, self._field).matrix
        return CameraInfo(Stamp(clock.now_ns()), width, height, "plumb_bob", matrix, np.zeros(5))
