"""The log player: topics of somebody's log as the outputs of one source, at the times they were received."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from foveate.errors import EndOfStream, FoveateError
from foveate.messages import CameraInfo, DepthFrame, Events, Frame, Imu, Message, Pose
from foveate.node import Folder, Node, Problem
from foveate_logbook.formats.base import Log
from foveate_logbook.formats.opening import open_log

_KINDS: dict[str, type[Message]] = {
    "frame": Frame, "depth": DepthFrame, "info": CameraInfo, "imu": Imu, "pose": Pose, "events": Events,
}  # fmt: skip


class LogPlayer(Node):
    """Each output gives one topic of a ROS bag, an MCAP, a TUM RGB-D folder or a video; stamps count from its start.

    A topic that is not named gives nothing. What cannot be decoded is left out and counted by the log.
    """

    class Outputs:
        frame: Frame
        depth: DepthFrame
        info: CameraInfo
        imu: Imu
        pose: Pose
        events: Events

    def __init__(
        self, *, log: Annotated[Path, Folder(or_file=True)], frame: str | None = None, depth: str | None = None,
        info: str | None = None, imu: str | None = None, pose: str | None = None, events: str | None = None,
    ) -> None:  # fmt: skip
        """`frame` and so on: the topic that the output gives."""
        self._path = log
        named = {"frame": frame, "depth": depth, "info": info, "imu": imu, "pose": pose, "events": events}
        self._outputs = {topic: output for output, topic in named.items() if topic is not None}
        self._log: Log | None = None
        self._messages: Iterator[tuple[str, int, Message]] = iter(())
        self._next: tuple[str, int, Message] | None = None

    @classmethod
    def check(cls, **parameters: Any) -> Iterator[Problem]:
        path = parameters.pop("log")
        named = {output: topic for output, topic in parameters.items() if topic is not None}
        try:
            with open_log(path) as log:
                topics = {topic.name: topic for topic in log.topics}
        except FoveateError as error:
            yield Problem("log", str(error))
            return
        for output, name in named.items():
            topic, kind = topics.get(name), _KINDS[output]
            if topic is None or topic.kind is not kind:
                fitting = ", ".join(sorted(t.name for t in topics.values() if t.kind is kind)) or "none"
                why = "is not in the log" if topic is None else topic.reason or f"is {topic.schema}"
                yield Problem(output, f"topic '{name}' {why}; topics of {kind.__name__}: {fitting}")
        if not named:
            yield Problem("log", f"name a topic for an output; it has {', '.join(sorted(topics)) or 'none'}")

    def open(self) -> None:
        self._log = open_log(self._path)
        self._messages = self._log.messages(list(self._outputs))
        self._next = next(self._messages, None)

    def due_ns(self) -> int:
        if self._next is None:
            raise EndOfStream
        return max(self._next[1], 0)

    def step(self) -> dict[str, Message]:
        assert self._next is not None
        topic, _, message = self._next
        self._next = next(self._messages, None)
        return {self._outputs[topic]: replace(message, stamp=replace(message.stamp, clock="log"))}

    def close(self) -> None:
        if self._log is not None:
            self._log.close()
            self._log = None
