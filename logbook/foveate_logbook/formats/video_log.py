"""A video file as a log of one topic."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from foveate.catalog import optional
from foveate.errors import RecordingError
from foveate.messages import Frame, Message, Stamp
from foveate_logbook.formats.base import Log, Topic

SUFFIXES = {".avi", ".mp4", ".m4v", ".mov", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".ogv"}
TOPIC = "/video"


class VideoLog(Log):
    """The frames of a video, timed by its rate: the times in the file itself are rounded by most formats."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError, BackendMissing."""
        super().__init__(path)
        self._cv2 = optional("cv2", str(path), "vision")
        capture = self._capture()
        rate = float(capture.get(self._cv2.CAP_PROP_FPS))
        self._count = max(int(capture.get(self._cv2.CAP_PROP_FRAME_COUNT)), 0)
        whole = bool(capture.grab())
        capture.release()
        if not whole:
            raise RecordingError(f"{path}: a video without a frame that OpenCV can decode")
        if not 0 < rate < 100_000:
            self.problems[""] = f"it tells no frame rate ({rate:g}): 25 Hz is taken"
            rate = 25.0
        self._rate = rate
        self.end_ns = self._time_ns(max(self._count - 1, 0))
        self.topics = [Topic(TOPIC, "video", self._count, Frame)]
        self.metadata = {"format": "video", "rate": f"{rate:g} Hz"}

    def _capture(self) -> Any:
        capture = self._cv2.VideoCapture(str(self.path))
        if not capture.isOpened():
            raise RecordingError(f"{self.path}: not a video that OpenCV can decode")
        return capture

    def _time_ns(self, number: int) -> int:
        return round(number * 1e9 / self._rate)

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, Message]]:
        unknown = sorted(set(topics or ()) - {TOPIC})
        if unknown:
            raise RecordingError(f"{self.path}: has no topic '{unknown[0]}'; it has {TOPIC}")
        if topics is not None and TOPIC not in topics:
            return
        capture = self._capture()
        number = 0
        try:
            while True:
                good, image = capture.read()
                if not good:
                    break
                t_ns = self._time_ns(number)
                number += 1
                yield TOPIC, t_ns, Frame(Stamp(t_ns), image, "Mono8" if image.ndim == 2 else "BGR8", number)
        finally:
            capture.release()
        if number < self._count:
            self.problems[TOPIC] = f"{self._count - number} of {self._count} frames could not be decoded"
