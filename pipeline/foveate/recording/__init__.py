"""Recordings: written so that a killed process loses nothing it had acknowledged, read back by type."""

from foveate.recording.recorder import McapRecorder
from foveate.recording.recording import Recording

__all__ = ["McapRecorder", "Recording"]
