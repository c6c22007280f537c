"""One stream of frames as a video."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foveate.catalog import optional
from foveate.errors import RecordingError
from foveate.messages import Frame, Message
from foveate.recording import Recording
from foveate_logbook.formats.export_streams import Progress, appearing, counted, in_order, kinds_of

_CODECS = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}


def fitting(kinds: Mapping[str, type[Message]]) -> list[str]:
    """Streams that are written where none are named: frames."""
    return [name for name, kind in kinds.items() if kind is Frame]


def write(log: Recording, streams: list[str], to: Path, progress: Progress) -> list[str]:
    """`to`: .mp4, .mov, .mkv (MPEG-4) or .avi (Motion JPEG). Both lose detail; `images` loses none.

    A video has one rate: the median of the times between frames. Returns lines saying what was written.
    Raises RecordingError, BackendMissing.
    """
    cv2 = optional("cv2", str(to), "vision")
    codec = _CODECS.get(to.suffix.lower())
    if codec is None:
        raise RecordingError(f"{to}: no video format known by that name; use {', '.join(_CODECS)}")
    kinds = kinds_of(log, streams)
    if len(streams) != 1 or kinds[streams[0]] is not Frame:
        told = ", ".join(f"{name} ({kind.__name__})" for name, kind in kinds.items())
        raise RecordingError(f"{to}: a video takes one stream of Frame, not {told or 'none'}")
    times = [message.stamp.t_ns for _, _, message in in_order(log, kinds)]
    if not times:
        raise RecordingError(f"{log.path}: {streams[0]} has no frames")
    gaps = np.diff(times)
    rate = 1e9 / float(np.median(gaps)) if gaps.size and np.median(gaps) > 0 else 25.0
    with appearing(to) as place:
        width, height = _write(cv2, log, kinds, place, codec, rate, progress)
        capture = cv2.VideoCapture(str(place))
        held = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        capture.release()
        if held != len(times):  # VideoWriter does not tell of a full disk
            raise RecordingError(f"{to}: cannot write: {held} of {len(times)} frames are in the video")
    spread = f", times between frames were {gaps.min() / 1e6:.1f} to {gaps.max() / 1e6:.1f} ms" if gaps.size else ""
    return [f"{to}: {counted(len(times), 'frame')} of {width}x{height} at {rate:.3f} Hz{spread}"]


def _write(
    cv2: Any, log: Recording, kinds: dict[str, type[Message]], place: Path, codec: str, rate: float, progress: Progress
) -> tuple[int, int]:
    """Width and height. Raises RecordingError."""
    writer = None
    size = (0, 0)
    try:
        for _, _, message in in_order(log, kinds, progress):
            assert isinstance(message, Frame)
            image = message.image
            if writer is None:
                size = (image.shape[1], image.shape[0])
                writer = cv2.VideoWriter(str(place), cv2.VideoWriter.fourcc(*codec), rate, size)
                if not writer.isOpened():
                    raise RecordingError(f"{place.name}: OpenCV cannot write {codec} of {size[0]}x{size[1]} here")
            if image.shape[1::-1] != size:
                told = f"{image.shape[1]}x{image.shape[0]}, not {size[0]}x{size[1]} as the first"
                raise RecordingError(f"{place.name}: frame {message.seq} is {told}")
            writer.write(image if image.ndim == 3 else cv2.cvtColor(image, cv2.COLOR_GRAY2BGR))
    finally:
        if writer is not None:
            writer.release()
    return size
