"""A scanner as its rig was drawn: where a calibration starts, and what a scan is planned with before there is one."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from foveate.errors import StateError
from foveate_calibration.galvanometer import Galvanometer
from foveate_calibration.lens import Lens
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser
from foveate_calibration.two_mirror import TwoMirror


class DrawnCamera(Protocol):
    """A camera driver, as far as it is drawn."""

    uri: str
    pinhole: Pinhole | None


class DrawnMirror(Protocol):
    """A mirror driver, as far as it is drawn."""

    uri: str
    geometry: TwoMirror | None
    galvanometers: tuple[Galvanometer, ...]


class DrawnLaser(Protocol):
    """A laser driver, as far as it is drawn."""

    uri: str
    sheet: NDArray[np.float64] | None


def drawn_camera(camera: DrawnCamera, mirror: DrawnMirror) -> SteeredCamera:
    """The steered camera without errors. Raises StateError where the rig does not say how it sees."""
    if camera.pinhole is None:
        raise StateError(camera.uri, "calibrate", "the rig must give its angle of view (option 'field')")
    if mirror.geometry is None or not mirror.galvanometers:
        raise StateError(mirror.uri, "calibrate", "the rig must give its geometry (option 'spacing')")
    lens = Lens.from_matrix(camera.pinhole.matrix, np.zeros(0), camera.pinhole.width, camera.pinhole.height)
    return SteeredCamera(lens, mirror.geometry.rig_from_bare_camera, mirror.galvanometers)


def drawn_laser(laser: DrawnLaser, mirror: DrawnMirror) -> SteeredLaser:
    """The steered laser without errors. Raises StateError where the rig does not say how it shines."""
    if laser.sheet is None or len(mirror.galvanometers) != 1:
        raise StateError(laser.uri, "calibrate", "the rig must give the laser's sheet and its one-axis mirror")
    return SteeredLaser(laser.sheet, mirror.galvanometers[0])
