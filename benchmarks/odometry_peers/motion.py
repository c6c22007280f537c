"""When a camera has moved so far from its keyframe that a new one is due."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FAR_M, FAR_RAD = 0.10, 0.14  # about a tenth of the depth of a room's near things; 8 degrees, a seventh of the view


def is_far(motion: NDArray[np.float64]) -> bool:
    """Whether a rigid motion (4 x 4) shifts or turns more than that."""
    turn = np.arccos(np.clip((np.trace(motion[:3, :3]) - 1) / 2, -1, 1))
    return bool(np.linalg.norm(motion[:3, 3]) > FAR_M or turn > FAR_RAD)
