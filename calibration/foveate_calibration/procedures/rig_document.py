"""A fitted rig as a calibration file: models, what the fit left, how well each parameter is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.document import Calibration, Model
from foveate_calibration.procedures.rig import RigFit
from foveate_calibration.steered_camera import SteeredCamera

CAMERA, LASER = "camera", "laser"
_BELIEVED = 0.3  # least weight of a corner that counts: it is within 8 sigmas


def rig_document(fit: RigFit, origin: Mapping[str, str], camera: SteeredCamera | None = None) -> Calibration:
    """The calibration of a rig; `camera`: with a residual map, in place of the physical model."""
    problem, noise, held = fit.problem, fit.problem.noise, fit.held_out
    models: dict[str, Model] = {CAMERA: camera or problem.camera}
    if problem.laser is not None:
        models[LASER] = problem.laser
    parts = zip(problem.views, fit.solution.residuals, fit.solution.weights, strict=True)
    pairs = [(r[: 2 * len(v.pixel)], w[: 2 * len(v.pixel)] > _BELIEVED) for v, r, w in parts]
    corners = np.concatenate([residual[believed] for residual, believed in pairs])
    strays = sum(int((~believed).sum()) // 2 for _, believed in pairs)
    residuals = {
        "corner_px": {**_spread(corners * noise.corner_px), "noise": noise.corner_px, "strays": float(strays)},
        "held_out_px": {**_spread(held.raw_px), "floor": held.floor_px, "strays": float(held.strays)},
        "held_out_in_image_px": {**_spread(held.own_px), "floor": held.own_floor_px},
        "camera_reading_rad": {"noise": noise.camera_rad},
    }
    if problem.laser is not None:
        residuals["stripe_plane_m"] = {**_spread(held.stripe_m), "noise_px": noise.stripe_px}
        residuals["laser_reading_rad"] = {"noise": noise.laser_rad}
    residuals["views"] = {
        "used": float(len(problem.views)), "held_out": float(len(held.views)),
        "left_out": float(len(fit.removed)), "placements": float(len({view.placement for view in problem.views})),
    }  # fmt: skip
    return Calibration(models, residuals, fit.solution.sigmas(), tuple(fit.solution.weak()), dict(origin))


def _spread(values: NDArray[np.float64]) -> dict[str, float]:
    if not values.size:
        return {"count": 0.0}
    flat = np.ravel(values)
    return {"rms": float(np.sqrt(np.mean(flat**2))), "max": float(np.abs(flat).max()), "count": float(flat.size)}
