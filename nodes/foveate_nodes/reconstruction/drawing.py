"""A scanner as its rig was drawn: where a calibration starts, and what a scan is planned with before there is one."""

from __future__ import annotations

import numpy as np

from foveate.errors import StateError
from foveate_calibration.lens import Lens
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser
from foveate_drivers.cameras.base import Camera
from foveate_drivers.lasers.base import LineLaser
from foveate_drivers.mirrors.base import Mirror


def drawn_camera(camera: Camera, mirror: Mirror) -> SteeredCamera:
    """The steered camera without errors. Raises StateError where the rig does not say how it sees."""
    if camera.pinhole is None:
        raise StateError(camera.uri, "calibrate", "the rig must give its angle of view (option 'field')")
    if mirror.geometry is None or not mirror.galvanometers:
        raise StateError(mirror.uri, "calibrate", "the rig must give its geometry (option 'spacing')")
    lens = Lens.from_matrix(camera.pinhole.matrix, np.zeros(0), camera.pinhole.width, camera.pinhole.height)
    return SteeredCamera(lens, mirror.geometry.rig_from_bare_camera, mirror.galvanometers)


def drawn_laser(laser: LineLaser, mirror: Mirror) -> SteeredLaser:
    """The steered laser without errors. Raises StateError where the rig does not say how it shines."""
    if laser.sheet is None or len(mirror.galvanometers) != 1:
        raise StateError(laser.uri, "calibrate", "the rig must give the laser's sheet and its one-axis mirror")
    return SteeredLaser(laser.sheet, mirror.galvanometers[0])
