"""The camera of an RGB-D frame at each level of its pyramid."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PinholeLevel:
    """A pinhole without distortion, pixel centres at integers; each level has every second pixel of the finer one."""

    width: int
    height: int
    fx: float
    fy: float
    cx: float
    cy: float

    @classmethod
    def of(cls, matrix: NDArray[np.float64], width: int, height: int) -> Self:
        """The finest level of a camera with a 3 x 3 matrix."""
        return cls(width, height, matrix[0, 0].item(), matrix[1, 1].item(), matrix[0, 2].item(), matrix[1, 2].item())

    def coarser(self) -> Self:
        """Pixel (x, y) of the coarser level lies on pixel (2 x, 2 y) of this one, as cv2.pyrDown has it."""
        return type(self)(
            (self.width + 1) // 2, (self.height + 1) // 2, self.fx / 2, self.fy / 2, self.cx / 2, self.cy / 2
        )

    @property
    def numbers(self) -> NDArray[np.float64]:
        """fx, fy, cx, cy."""
        return np.array([self.fx, self.fy, self.cx, self.cy])

    @property
    def matrix(self) -> NDArray[np.float64]:
        """3 x 3."""
        return np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])
