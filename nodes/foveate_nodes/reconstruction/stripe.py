"""The stripe node: where a laser's line runs through an image, to a fraction of a pixel."""

from __future__ import annotations

import math
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.errors import StateError
from foveate.messages import Frame
from foveate.node import Node, Unit
from foveate_calibration.stripes.points import Detector, Light, Points, joined, lopsided, rows_to_end
from foveate_nodes.reconstruction.messages import Stripe as StripeMessage

_SKEW_SIGMA_PER_WIDTH = 0.30  # finer smoothing lets speckle through, coarser hides that half is missing
_SIGMA_PER_WIDTH = 0.58  # twice Steger's least, w / sqrt(3) of half the width: speckle is averaged over more pixels


class Stripe(Node):
    """The centre line of the stripe in each frame, at most one point a row; a frame without one gives no points.

    A row where two candidates are alike has no point: a reflection cannot be told from the line there.
    """

    cost_ns = 2_000_000

    class Outputs:
        stripe: StripeMessage

    def __init__(
        self, *, method: Literal["steger", "centroid"] = "steger", along: Literal["rows", "columns"] = "rows",
        channel: Literal["gray", "red", "green", "blue"] = "gray",
        width: Annotated[float, Unit("px"), Ge(2), Le(60)] = 6.0,
        sigma: Annotated[float, Unit("px"), Ge(0), Le(40)] = 0.0,
        threshold: Annotated[float, Gt(0), Le(255)] = 10.0, gate: bool = True,
        alike: Annotated[float, Gt(0), Le(1)] = 0.75, neighbours: Annotated[int, Ge(0), Le(10)] = 3,
        trim: Annotated[int, Ge(0), Le(50)] = 3, skew: Annotated[float, Gt(0), Le(9)] = 0.25,
        shortest: Annotated[int, Ge(0), Le(500)] = 0,
        read_noise: Annotated[float, Ge(0)] = 2.0, electrons: Annotated[float, Gt(0)] = 40.0,
        speckle: Annotated[float, Le(2)] = -1.0, grain: Annotated[float, Unit("px"), Le(60)] = -1.0,
    ) -> None:  # fmt: skip
        """`along`: rows for a stripe from top to bottom; `channel` of colour frames; `width`: of the stripe at half
        its height; `sigma`: of the smoothing, 0 = 0.58 of the width; `threshold`: least height, grey levels; `gate`:
        False looks at every pixel; `alike`: a second candidate this strong makes a row useless; `neighbours`: fewer in
        the 10 rows around make a point isolated; `trim`: points at each end of a piece that go, for what is beyond the
        edge moves them; `skew`: a stripe this lopsided (third derivative by second) is cut lengthwise by an edge, and
        its points go; `shortest`: points of a piece, fewer may be a dot and no line, 0 = 4 sigma; `read_noise`: grey
        levels; `electrons` a grey level; `speckle`: its contrast, `grain`: its size, negative = told from the image."""
        self._method, self._along, self._channel, self._gate = method, along, channel, gate
        self._width_px, self._sigma_px, self._threshold = width, sigma or _SIGMA_PER_WIDTH * width, threshold
        self._alike, self._neighbours, self._trim, self._skew = alike, neighbours, trim, skew
        self._shortest = shortest or math.ceil(4 * self._sigma_px)
        self._border = math.ceil(4 * self._sigma_px) if method == "steger" else 0
        reach = range(self._border)
        self._share = np.array([0.5 + 0.5 * math.erf(k / self._sigma_px / math.sqrt(2)) for k in reach] or [1.0])
        known = speckle if speckle >= 0 else None, grain if grain > 0 else None
        self._light = Light(read_noise, electrons, *known)
        self._detector: Detector | None = None

    def open(self) -> None:
        """Compile, so that the first frame is not late. Raises BackendMissing without numba."""
        optional("numba", "stripe", "scan")
        from foveate_calibration.stripes import detectors, skew

        width, threshold, light = self._width_px, self._threshold, self._light
        if self._method == "steger":
            self._detector = detectors.Steger(width, self._sigma_px, threshold, self._gate, light)
        else:
            self._detector = detectors.Centroid(width, threshold, light)
        self._detector.find(np.zeros((64, 64), np.uint8))
        skew.derivatives(np.zeros((1, 1), np.uint8), np.zeros(1, np.int64), np.zeros(1), np.ones(1), np.zeros((1, 2)))

    def step(self, frame: Frame) -> StripeMessage:
        assert self._detector is not None
        image = self._plane(frame)
        if self._along == "columns":
            image = np.ascontiguousarray(image.T)
        points = self._detector.find(image)
        points = points.kept(points.second < self._alike)
        points = points.kept(joined(points, self._neighbours))
        points = points.kept(~self._lopsided(image, points))
        end, length = rows_to_end(points, image.shape[0], self._border)
        inside = (end >= self._trim) & (length >= self._shortest)
        return self._message(frame, points.kept(inside), end[inside])

    def _lopsided(self, image: NDArray[np.uint8], points: Points) -> NDArray[np.bool_]:
        """Which points (N) are of a stripe that is lopsided along its rows."""
        from foveate_calibration.stripes import skew

        upright = np.maximum(points.normal_px[:, 0], 0.5)
        column = points.point_px[:, 0] - (points.row - points.point_px[:, 1]) * points.normal_px[:, 1] / upright
        out = np.empty((points.row.size, 2))
        skew.derivatives(image, points.row, column, _SKEW_SIGMA_PER_WIDTH * self._width_px / upright, out)
        return lopsided(points, out, self._skew)

    def _message(self, frame: Frame, points: Points, end: NDArray[np.int64]) -> StripeMessage:
        # near an end only a share of the rows that are smoothed over has light: the variance is that much larger
        share = self._share[np.minimum(end, self._share.size - 1)]
        sigma = (points.sigma_px / np.sqrt(share)).astype(np.float32)
        point, normal = points.point_px, points.normal_px
        if self._along == "columns":
            point, normal = point[:, ::-1], normal[:, ::-1]
        return StripeMessage(
            frame.stamp, np.ascontiguousarray(point), sigma, normal.astype(np.float32),
            points.peak.astype(np.float32), points.saturated.astype(np.uint8), frame.image.shape[1],
            frame.image.shape[0], frame.seq, frame.mirror,
        )  # fmt: skip

    def _plane(self, frame: Frame) -> NDArray[np.uint8]:
        """Grey levels (H x W), contiguous. Raises StateError for an encoding it does not know."""
        if frame.encoding == "Mono8":
            return np.ascontiguousarray(frame.image)
        if frame.encoding != "BGR8":
            raise StateError("stripe", "find a line", f"frames are {frame.encoding}; it takes Mono8 and BGR8")
        if self._channel != "gray":
            return np.ascontiguousarray(frame.image[:, :, ("blue", "green", "red").index(self._channel)])
        from foveate_calibration.stripes import gate

        plane = np.empty(frame.image.shape[:2], np.uint8)
        gate.gray(frame.image, plane)
        return plane
