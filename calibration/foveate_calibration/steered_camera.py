"""A camera that looks over one or two galvanometer mirrors: a virtual camera for each pair of angles; or over none.

Points are reflected in the mirrors, last first, until they are before the real camera; so the view has no single centre
of projection, and one mirror leaves it a mirror image (Manakov et al., VMV 2011). All in the frame of the rig.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.galvanometer import Galvanometer, reflection_derivatives, reflection_in
from foveate_calibration.lens import Lens
from foveate_calibration.residual_map import ResidualMap
from foveate_calibration.rigid import invert, rigid_of

Array = NDArray[np.float64]


@dataclass(frozen=True, slots=True, eq=False)
class SteeredCamera:
    """Rays and pixels at mirror angles (axes,), commanded mechanical radians; `mirrors` from the camera outwards."""

    lens: Lens
    rig_from_camera: Array  # 4 x 4, of the real camera
    mirrors: tuple[Galvanometer, ...]  # 0 to 2
    residual: ResidualMap | None = None  # what the physical model leaves, in pixels

    def rig_from_virtual(self, angle_rad: Array) -> Array:
        """4 x 4 from the virtual camera to the rig; of determinant -1 with one mirror."""
        pose = self.rig_from_camera
        for mirror, angle in zip(self.mirrors, angle_rad, strict=True):
            pose = mirror.reflection(float(angle)) @ pose
        return pose

    def virtual_from_rig(self, angle_rad: Array) -> Array:
        """The inverse of `rig_from_virtual`."""
        return invert(self.rig_from_virtual(angle_rad))

    def project(self, points_m: Array, angle_rad: Array) -> Array:
        """Pixels (N x 2) of points (N x 3, rig frame)."""
        pose = self.virtual_from_rig(angle_rad)
        pixels = self.lens.project(np.asarray(points_m).reshape(-1, 3) @ pose[:3, :3].T + pose[:3, 3])
        return pixels if self.residual is None else pixels + self.residual.offset_px(pixels, angle_rad)

    def rays(self, pixels: NDArray[np.floating], angle_rad: Array) -> tuple[Array, Array]:
        """(virtual centre (3,) in metres, unit directions (N x 3)) of `pixels` (N x 2), rig frame."""
        pixels = np.asarray(pixels, np.float64).reshape(-1, 2)
        if self.residual is not None:
            pixels = self.residual.removed(pixels, angle_rad)
        pose = self.rig_from_virtual(angle_rad)
        return pose[:3, 3], self.lens.rays(pixels) @ pose[:3, :3].T

    def linearize(self, points_m: Array, angle_rad: Array) -> tuple[Array, Array, Array, Array, Array]:
        """Pixels (N x 2) and their derivatives: by the points (N x 2 x 3), by steps of the mirrors (N x 2 x 9 axes), by
        the lens (N x 2 x 18), and by the angles (N x 2 x axes). The slopes leave the residual map out.
        """
        points_m = np.asarray(points_m, np.float64).reshape(-1, 3)
        linear = [mirror.linearize(float(a)) for mirror, a in zip(self.mirrors, angle_rad, strict=True)]
        reflections = [reflection_in(plane) for plane, _ in linear]
        camera_from_rig = invert(self.rig_from_camera)
        before, slopes = camera_from_rig, []  # camera from the rig's side of each mirror
        for k, (plane, by) in enumerate(linear):
            behind = np.linalg.multi_dot([np.eye(4), np.eye(4), *reflections[k + 1 :]])
            slopes.append(before @ reflection_derivatives(plane, by) @ behind)
            before = before @ reflections[k]
        seen = points_m @ before[:3, :3].T + before[:3, 3]
        pixels, by_seen, by_lens = self.lens.linearize(seen)
        slope = np.concatenate([*slopes, np.zeros((0, 4, 4))])  # 9 axes x 4 x 4
        moved = np.einsum("pij,nj->nip", slope[:, :3, :3], points_m) + slope[:, :3, 3].T
        by_mirror = by_seen @ moved
        by_angle = np.empty((len(points_m), 2, len(self.mirrors)))
        for k, (mirror, a) in enumerate(zip(self.mirrors, angle_rad, strict=True)):
            by_angle[:, :, k] = by_mirror[:, :, 9 * k + 8] * (mirror.gain + 3 * mirror.cubic * float(a) ** 2)
        if self.residual is not None:
            pixels = pixels + self.residual.offset_px(pixels, angle_rad)
        return pixels, by_seen @ before[:3, :3], by_mirror, by_lens, by_angle

    def stepped(self, mirror_step: Array, lens_step: Array | None = None) -> SteeredCamera:
        """After a step of the mirrors (9 axes,) and of the lens (18,)."""
        mirrors = tuple(m.stepped(mirror_step[9 * k : 9 * k + 9]) for k, m in enumerate(self.mirrors))
        lens = self.lens if lens_step is None else self.lens.stepped(lens_step)
        return replace(self, lens=lens, mirrors=mirrors)

    def plain(self) -> dict[str, Any]:
        """Values for a file."""
        plain = {
            "lens": self.lens.plain(), "rig_from_camera": self.rig_from_camera[:3].tolist(),
            "mirrors": [mirror.plain() for mirror in self.mirrors],
        }  # fmt: skip
        return plain if self.residual is None else {**plain, "residual": self.residual.plain()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises KeyError, TypeError, ValueError."""
        pose = rigid_of(plain["rig_from_camera"])
        mirrors = tuple(Galvanometer.from_plain(item) for item in plain["mirrors"])
        if len(mirrors) > 2:
            raise ValueError("has more than two mirrors")
        residual = ResidualMap.from_plain(plain["residual"]) if "residual" in plain else None
        return cls(Lens.from_plain(plain["lens"]), pose, mirrors, residual)
