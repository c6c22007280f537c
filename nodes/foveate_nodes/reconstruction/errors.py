"""What goes wrong in making and judging surfaces."""

from __future__ import annotations

from foveate.errors import FoveateError


class SurfaceError(FoveateError):
    """A cloud or mesh that cannot be read, made or measured: names the thing, the value and the way out."""
