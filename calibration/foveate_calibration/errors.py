"""What goes wrong in calibrating."""

from __future__ import annotations

from foveate.errors import FoveateError


class CalibrationError(FoveateError):
    """A calibration that cannot be made, read or trusted: names the thing, the value and the way out."""
