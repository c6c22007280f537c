"""A fitted rig as a calibration file: models, what the fit left, how well each parameter is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.document import Calibration, Model
from foveate_calibration.procedures.rig import RigFit
from foveate_calibration.steered_camera import SteeredCamera

CAMERA, LASER = "camera", "laser"


def rig_document(fit: RigFit, origin: Mapping[str, str], camera: SteeredCamera | None = None) -> Calibration:
    """The calibration of a rig; `camera`: with a residual map, in place of the physical model."""
    problem, noise = fit.problem, fit.problem.noise
    models: dict[str, Model] = {CAMERA: camera or problem.camera}
    if problem.laser is not None:
        models[LASER] = problem.laser
    corners = np.concatenate(
        [r[: 2 * len(v.pixel)] for v, r in zip(problem.views, fit.solution.residuals, strict=True)]
    )
    residuals = {
        "corner_px": {**_spread(corners * noise.corner_px), "noise": noise.corner_px},
        "held_out_px": {**_spread(fit.held_out), "floor": fit.floor_px},
        "held_out_in_image_px": {**_spread(fit.in_image), "floor": fit.in_image_floor_px},
        "camera_reading_rad": {"noise": noise.camera_rad},
    }
    if problem.laser is not None:
        residuals["stripe_plane_m"] = {**_spread(fit.stripe_m), "noise_px": noise.stripe_px}
        residuals["laser_reading_rad"] = {"noise": noise.laser_rad}
    residuals["views"] = {
        "used": float(len(problem.views)), "held_out": float(len(fit.held_views)),
        "left_out": float(len(fit.removed)), "placements": float(len({view.placement for view in problem.views})),
    }  # fmt: skip
    return Calibration(models, residuals, fit.solution.sigmas(), tuple(fit.solution.weak()), dict(origin))


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    if not values.size:
        return {"count": 0.0}
    flat = np.ravel(values)
    return {"rms": float(np.sqrt(np.mean(flat**2))), "max": float(np.abs(flat).max()), "count": float(flat.size)}
