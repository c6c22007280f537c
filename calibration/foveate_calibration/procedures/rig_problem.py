"""A steered camera, a steered laser and boards that stood still, as one problem of least squares.

Residuals: of board corners, in pixels; of stripe points, the distance in pixels across the stripe between where light
was seen on the board and where the laser's plane meets it. The readings of the mirrors in an image have errors that all
its points share: they are the image's nuisances. Left out, the parameters' sigmas would be several times too small.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate_calibration import galvanometer, lens, steered_laser
from foveate_calibration.least_squares import Block
from foveate_calibration.rigid import skew, stepped
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviations."""

    corner_px: float = 0.1
    stripe_px: float = 0.15
    camera_rad: float = 10e-6  # of a reading of the camera's mirror, each axis, mechanical
    laser_rad: float = 10e-6


@dataclass(frozen=True, slots=True, eq=False)
class RigProblem:
    """The state of the fit: parameters are the camera's mirrors, its lens, then the laser's sheet and mirror."""

    camera: SteeredCamera
    laser: SteeredLaser | None
    rig_from_board: tuple[Array, ...]  # 4 x 4, by placement
    views: tuple[BoardView, ...]
    noise: Noise

    @property
    def names(self) -> tuple[str, ...]:
        """Of the shared parameters."""
        mirrors = [f"mirror_{k + 1}.{n}" for k in range(len(self.camera.mirrors)) for n in galvanometer.PARAMETERS]
        names = [f"camera.{name}" for name in (*mirrors, *lens.PARAMETERS)]
        if self.laser is not None:
            names += [f"laser.{n}" for n in steered_laser.PARAMETERS]
            names += [f"laser.mirror.{n}" for n in galvanometer.PARAMETERS]
        return tuple(names)

    def stepped(self, shared: Array, own: Array) -> RigProblem:
        """After a step of the parameters and of the boards' poses (placements x 6)."""
        mirror_count = 9 * len(self.camera.mirrors)
        camera = self.camera.stepped(shared[:mirror_count], shared[mirror_count : mirror_count + 18])
        laser = self.laser if self.laser is None else self.laser.stepped(shared[mirror_count + 18 :])
        poses = tuple(stepped(pose, step) for pose, step in zip(self.rig_from_board, own, strict=True))
        return replace(self, camera=camera, laser=laser, rig_from_board=poses)

    def blocks(self) -> list[Block]:
        """One for each view."""
        return [self.block(view) for view in self.views]

    def block(self, view: BoardView) -> Block:
        """The residuals of a view in sigmas: x and y of its corners, then its stripe."""
        assert view.angle_rad is not None
        pose = self.rig_from_board[view.placement]
        turned = view.board_m @ pose[:3, :3].T
        points, lit = turned + pose[:3, 3], np.zeros((0, 3))
        if self.laser is not None and view.stripe_px is not None and view.laser_rad is not None:
            lit = on_plane(self.camera, view.stripe_px, view.angle_rad, board_plane(pose))
        seen, by_point, by_mirror, by_lens, by_angle = self.camera.linearize(np.vstack([points, lit]), view.angle_rad)
        count, by_camera = len(points), np.concatenate([by_mirror, by_lens], axis=2)
        own = np.concatenate([-by_point[:count] @ _skews(turned), by_point[:count]], axis=2)
        residual = (seen[:count] - view.pixel).reshape(2 * count)
        flat = (2 * count, -1)
        parts = (residual, by_camera[:count].reshape(flat), own.reshape(flat), by_angle[:count].reshape(flat))
        residual, shared, own, angle = (part / self.noise.corner_px for part in parts)
        measurement = np.arange(2 * count) // 2
        if self.laser is None:
            return Block(residual, shared, own, view.placement, measurement, angle * self.noise.camera_rad)
        shared, angle = _widened(shared, 12), _widened(angle * self.noise.camera_rad, 1)
        if len(lit):
            more = self._stripe(view, lit, by_point[count:], by_camera[count:], by_angle[count:])
            both = zip((residual, shared, own, angle), more, strict=True)
            residual, shared, own, angle = (np.concatenate(pair) for pair in both)
            measurement = np.concatenate([measurement, count + np.arange(len(lit))])
        return Block(residual, shared, own, view.placement, measurement, angle)

    def _stripe(
        self, view: BoardView, points: Array, by_point: Array, by_camera: Array, by_angle: Array
    ) -> tuple[Array, Array, Array, Array]:
        """Where the rays of stripe pixels meet the board (N x 3): how far is that from the laser's plane?

        Such a point stays on its ray and on the board: (by_point; normal) dX = -(by_camera; tip of the board).
        """
        assert self.laser is not None and view.laser_rad is not None
        pose = self.rig_from_board[view.placement]
        normal, origin = pose[:3, 2], pose[:3, 3]
        plane, by_laser, by_command = self.laser.linearize(view.laser_rad)
        system = np.concatenate([by_point, np.broadcast_to(normal, (len(points), 1, 3))], axis=1)
        slope = np.einsum("i,nij->nj", plane[:3], np.linalg.inv(system))  # of the distance by pixel (2) and board (1)
        sigma = self.noise.stripe_px * np.linalg.norm(slope[:, :2], axis=1)
        over = -slope[:, None, :2] / sigma[:, None, None]
        light = (points @ by_laser[:, :3].T - by_laser[:, 3]) / sigma[:, None]
        tip = np.column_stack([np.cross(points - origin, normal), np.broadcast_to(normal, points.shape)])
        own = tip * (slope[:, 2] / sigma)[:, None]
        angle = (over @ by_angle)[:, 0] * self.noise.camera_rad
        turn = (points @ by_command[:3] - by_command[3]) / sigma * self.noise.laser_rad
        residual = (points @ plane[:3] - plane[3]) / sigma
        return residual, np.column_stack([(over @ by_camera)[:, 0], light]), own, np.column_stack([angle, turn])


def board_plane(pose: Array) -> Array:
    """(n, d) of a board by its pose."""
    return np.append(pose[:3, 2], pose[:3, 2] @ pose[:3, 3])


def _widened(matrix: Array, columns: int) -> Array:
    """With so many columns of zeros more."""
    return np.concatenate([matrix, np.zeros((len(matrix), columns))], axis=1)


def on_plane(camera: SteeredCamera, pixels: Array, angle_rad: Array, plane: Array) -> Array:
    """Points (N x 3) where the rays of pixels meet a plane (n, d)."""
    origin, rays = camera.rays(pixels, angle_rad)
    return origin + rays * ((plane[3] - plane[:3] @ origin) / (rays @ plane[:3]))[:, None]


def start_poses(views: Sequence[BoardView], camera: SteeredCamera) -> tuple[Array, ...]:
    """Pose (4 x 4) of each placement's board in the rig, from its view with most points; identity where it has none.

    Raises CalibrationError.
    """
    best: dict[int, BoardView] = {}
    for view in views:
        if view.placement not in best or len(view.pixel) > len(best[view.placement].pixel):
            best[view.placement] = view
    return tuple(rig_pose(best[k], camera) if k in best else np.eye(4) for k in range(max(best) + 1))


def rig_pose(view: BoardView, camera: SteeredCamera) -> Array:
    """rig_from_board (4 x 4) from one view. Raises CalibrationError."""
    from foveate_calibration.procedures.board_pose import pose_of_rays  # OpenCV, which triangulating does not need

    assert view.angle_rad is not None
    rig_from_virtual = camera.rig_from_virtual(view.angle_rad)
    flip = np.diag([np.sign(np.linalg.det(rig_from_virtual[:3, :3])), 1.0, 1.0, 1.0])  # one mirror shows a mirror image
    return rig_from_virtual @ flip @ pose_of_rays(view, camera.lens.rays(view.pixel) @ flip[:3, :3])


def _skews(vectors: Array) -> Array:
    """Cross-product matrices (N x 3 x 3) of vectors (N x 3)."""
    return np.einsum("ni,ijk->njk", vectors, np.stack([skew(axis) for axis in np.eye(3)]))
