"""What odometry cannot work with."""

from __future__ import annotations

from foveate.errors import FoveateError


class OdometryError(FoveateError):
    """Input that is no RGB-D stream, or options that contradict it."""
