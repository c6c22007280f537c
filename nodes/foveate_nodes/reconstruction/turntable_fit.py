"""Where a turntable stands and how it turned, from square markers on it whose size and places nobody measured.

Up to scale the markers say everything: their plane, the axis, the angle of every picture. One length makes it metric:
the laser's stripe on the empty table lies in both the laser's plane and the table's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.errors import CalibrationError
from foveate_calibration.least_squares import Block, Solution, solve
from foveate_calibration.lens import Lens
from foveate_calibration.rigid import rotation_from, transform

Array = NDArray[np.float64]
_CORNER_PX = 0.15  # standard deviation of a marker's corner; only its ratio to Huber's limit counts
_PLACE = 6  # of the table: a turn about x, y, z of the table, and a shift in the camera's frame


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Markers in one picture."""

    number: NDArray[np.int64]  # K
    corner_px: Array  # K x 4 x 2, in the order of the marker's own corners


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A turntable: its axis is z, up from the side that the camera sees, and the markers lie in z = 0."""

    camera_from_table: Array  # 4 x 4, at angle 0
    marker: dict[int, Array]  # 4 x 2 corners by number (metres), at angle 0
    angle_rad: Array  # (pictures,), of those that it was found from; positive is counter-clockwise seen from above

    @property
    def radius_m(self) -> float:
        """From the axis to the outermost corner."""
        return max(float(np.linalg.norm(corner, axis=1).max()) for corner in self.marker.values())

    def scaled(self, scale: float) -> Table:
        """The table with all lengths multiplied."""
        pose = transform(self.camera_from_table[:3, :3], self.camera_from_table[:3, 3] * scale)
        return replace(self, camera_from_table=pose, marker={k: v * scale for k, v in self.marker.items()})

    def at(self, angle_rad: float) -> Array:
        """4 x 4, from the table's frame to the camera's when the table has turned."""
        return self.camera_from_table @ transform(rotation_from(np.array([0, 0, angle_rad])), np.zeros(3))

    def met(self, lens: Lens, pixels: NDArray[np.floating]) -> Array:
        """Where rays through pixels (N x 2) meet the markers' plane: N x 2, table's frame."""
        rays = lens.rays(pixels) @ self.camera_from_table[:3, :3]
        center = -self.camera_from_table[:3, :3].T @ self.camera_from_table[:3, 3]
        return center[:2] - rays[:, :2] * (center[2] / rays[:, 2])[:, None]

    def angle(self, lens: Lens, seen: Seen, most_off: float = 0.03) -> tuple[float, int, float]:
        """How far it has turned (radians), from how many markers, and the corners' rms off their places (metres).

        Markers that are off by more than `most_off` of the radius are left out. Raises CalibrationError where no other
        is known.
        """
        known = [k for k, number in enumerate(seen.number.tolist()) if number in self.marker]
        if not known:
            raise CalibrationError(f"no marker of the table is seen; it has {sorted(self.marker)}")
        there = np.stack([self.met(lens, seen.corner_px[k]) for k in known])
        home = np.stack([self.marker[int(seen.number[k])] for k in known])
        for _ in range(2):  # of a half-hidden marker the corners lie anywhere
            cosine, sine = (there * home).sum(), (home[..., 0] * there[..., 1] - home[..., 1] * there[..., 0]).sum()
            angle = float(np.arctan2(sine, cosine))
            turn = rotation_from(np.array([0, 0, angle]))[:2, :2]
            off = np.sqrt(((there - home @ turn.T) ** 2).sum(axis=2).mean(axis=1))
            good = off <= max(most_off * self.radius_m, 1.5 * float(np.median(off)) if len(off) > 2 else 0.0)
            if good.all() or not good.any():
                break
            there, home = there[good], home[good]
        if off.min() > most_off * self.radius_m:
            raise CalibrationError(
                f"markers lie {off.min() * 1e3:.1f} mm off their places: this is another table, or it moved"
            )
        return angle, len(there), float(np.sqrt((off**2).mean()))


@dataclass(frozen=True, slots=True, eq=False)
class _Problem:
    """The table up to scale: shared are its place, one side of all markers, and each marker's radius, bearing, turn."""

    lens: Lens
    pictures: Sequence[Seen]
    number: tuple[int, ...]
    camera_from_table: Array
    side: float
    place: Array  # markers x 3: radius, bearing, turn
    angle: Array  # (pictures,)
    square: Array = field(default_factory=lambda: np.array([[-0.5, 0.5], [0.5, 0.5], [0.5, -0.5], [-0.5, -0.5]]))

    def corners(self, k: int) -> Array:
        radius, bearing, turn = self.place[k]
        corners = self.side * self.square @ _turn(turn).T
        return corners + radius * np.array([np.cos(bearing), np.sin(bearing)])

    def blocks(self) -> list[Block]:
        where = {number: k for k, number in enumerate(self.number)}
        return [
            self._block(i, [(where[n], seen.corner_px[j]) for j, n in enumerate(seen.number.tolist()) if n in where])
            for i, seen in enumerate(self.pictures)
        ]

    def _block(self, picture: int, markers: list[tuple[int, Array]]) -> Block:
        turn = _turn(self.angle[picture])
        quarter = np.array([[0.0, -1.0], [1.0, 0.0]])
        rotation = self.camera_from_table[:3, :3]
        size, shared = 8 * len(markers), _PLACE + 1 + 3 * len(self.number)
        residual, by_shared, by_own = np.empty(size), np.zeros((size, shared)), np.empty((size, 1))
        for j, (k, pixels) in enumerate(markers):
            rows = slice(8 * j, 8 * j + 8)
            home = self.corners(k)
            flat = home @ turn.T
            table = np.column_stack([flat, np.zeros(4)])
            image, by_point, _ = self.lens.linearize(table @ rotation.T + self.camera_from_table[:3, 3])
            residual[rows] = (image - pixels).ravel()
            by_table = by_point @ rotation  # 4 x 2 x 3, by the point in the table's frame
            for axis in range(3):
                by_shared[rows, axis] = np.einsum("nij,nj->ni", by_table, np.cross(np.eye(3)[axis], table)).ravel()
            by_shared[rows, 3:_PLACE] = by_point.reshape(8, 3)
            radius, bearing, _ = self.place[k]
            outward = np.array([np.cos(bearing), np.sin(bearing)])
            around = home - radius * outward
            moves = [
                around / self.side,
                np.tile(outward, (4, 1)),
                np.tile(radius * quarter @ outward, (4, 1)),
                around @ quarter.T,
            ]
            columns = [_PLACE, *range(_PLACE + 1 + 3 * k, _PLACE + 4 + 3 * k)]
            for column, move in zip(columns, moves, strict=True):
                by_shared[rows, column] = np.einsum("nij,nj->ni", by_table[:, :, :2], move @ turn.T).ravel()
            by_own[rows, 0] = np.einsum("nij,nj->ni", by_table[:, :, :2], flat @ quarter.T).ravel()
        measurement = np.repeat(np.arange(size // 2), 2)
        return Block(residual / _CORNER_PX, by_shared / _CORNER_PX, by_own / _CORNER_PX, picture, measurement)

    def stepped(self, shared: Array, own: Array) -> _Problem:
        rotation = self.camera_from_table[:3, :3] @ rotation_from(shared[:3])
        pose = transform(rotation, self.camera_from_table[:3, 3] + shared[3:_PLACE])
        place = self.place + shared[_PLACE + 1 :].reshape(-1, 3)
        return replace(
            self, camera_from_table=pose, side=self.side + shared[_PLACE], place=place, angle=self.angle + own[:, 0]
        )


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """A table up to scale (its centre is 1 before the camera), and what the fit says of itself."""

    table: Table
    rms_px: float  # of corners
    sigma_tilt_rad: float  # of the axis
    sigma_angle_rad: float  # of one picture's angle, about


def fit(lens: Lens, pictures: Sequence[Seen]) -> Fit:
    """The table from pictures between which it turned. Raises CalibrationError for too few markers or turns."""
    counts: dict[int, int] = {}
    for seen in pictures:
        for number in seen.number.tolist():
            counts[number] = counts.get(number, 0) + 1
    numbers = tuple(sorted(n for n, count in counts.items() if count >= 0.5 * len(pictures)))
    if len(numbers) < 2 or len(pictures) < 3:
        raise CalibrationError(
            f"{len(pictures)} pictures show {len(numbers)} markers in most of them; the table needs 3 and 2"
        )
    start = _start(lens, pictures, numbers)
    names = ["turn_x", "turn_y", "turn_z", "x", "y", "z", "side"]
    names += [f"{what}_{number}" for number in numbers for what in ("radius", "bearing", "turn")]
    prior = np.full(len(names), np.inf)
    prior[[2, 5, 8]] = 0.0  # nobody knows the scale, or which angle is 0
    solution = solve(start, names, prior, len(pictures), 1, huber=4.0)
    return _told(solution)


def _told(solution: Solution[_Problem]) -> Fit:
    found = solution.problem
    table = Table(found.camera_from_table, {n: found.corners(k) for k, n in enumerate(found.number)}, found.angle)
    residual = np.concatenate([r * w for r, w in zip(solution.residuals, solution.weights, strict=True)]) * _CORNER_PX
    arm = np.median([np.linalg.norm(corner.mean(axis=0)) for corner in table.marker.values()])
    blocks = found.blocks()
    angle = [solution.scale / float(np.linalg.norm(block.by_own)) for block in blocks]
    assert arm > 0
    return Fit(
        table, float(np.sqrt((residual**2).mean())), float(np.linalg.norm(solution.sigma[:2])), float(np.median(angle))
    )


def _start(lens: Lens, pictures: Sequence[Seen], numbers: tuple[int, ...]) -> _Problem:
    """A table near enough for the fit."""
    normal = _normal(lens, pictures, numbers)
    x = np.cross([0.0, 1.0, 0.0], normal)
    x /= np.linalg.norm(x)
    turn = np.stack([x, np.cross(normal, x), normal], axis=1)

    def flat(pixels: Array) -> Array:
        rays = lens.rays(pixels) @ turn
        return rays[:, :2] / -rays[:, 2:]  # on the plane at distance 1

    places = [
        {n: flat(seen.corner_px[k]) for k, n in enumerate(seen.number.tolist()) if n in numbers} for seen in pictures
    ]
    first = max(range(len(places)), key=lambda i: len(places[i]))
    angle, center = _turns(places, first)
    home: dict[int, Array] = {}
    for picture, known in zip(angle, places, strict=True):
        for number, corners in known.items():
            home.setdefault(number, (corners - center) @ _turn(picture))
    side = float(np.median([np.linalg.norm(np.diff(c, axis=0), axis=1).mean() for c in home.values()]))
    place = []
    for number in numbers:
        middle = home[number].mean(axis=0)
        edge = home[number][1] - home[number][0]
        place.append([np.linalg.norm(middle), np.arctan2(middle[1], middle[0]), np.arctan2(edge[1], edge[0])])
    at = turn @ np.array([*center, -1.0])
    pose, scale = transform(turn, at / at[2]), 1.0 / at[2]
    values = np.array(place) * [scale, 1.0, 1.0]
    return _Problem(lens, pictures, numbers, pose, side * scale, values, angle)


def _turns(places: list[dict[int, Array]], first: int) -> tuple[Array, Array]:
    """Each picture's angle (radians) against the first, and the centre of turning (2,)."""
    angle, rows, sides = np.zeros(len(places)), [], []
    for i, known in enumerate(places):
        shared = [n for n in known if n in places[first]]
        if not shared or i == first:
            continue
        a = np.concatenate([places[first][n] for n in shared])
        b = np.concatenate([known[n] for n in shared])
        ca, cb = a - a.mean(axis=0), b - b.mean(axis=0)
        angle[i] = np.arctan2((ca[:, 0] * cb[:, 1] - ca[:, 1] * cb[:, 0]).sum(), (ca * cb).sum())
        turn = _turn(angle[i])
        rows.append(np.eye(2) - turn)
        sides.append(b.mean(axis=0) - turn @ a.mean(axis=0))
    span = float(np.ptp(angle))
    if span < 0.05:
        raise CalibrationError(
            f"the table turned by {span:.3f} rad over {len(places)} pictures; its axis needs 0.05 at least"
        )
    return angle, np.linalg.lstsq(np.concatenate(rows), np.concatenate(sides), rcond=None)[0]


def _normal(lens: Lens, pictures: Sequence[Seen], numbers: tuple[int, ...]) -> Array:
    """The plane's normal toward the camera, by the poses of single markers; each has two, one of which all share."""
    import cv2

    square = np.array([[-0.5, 0.5, 0], [0.5, 0.5, 0], [0.5, -0.5, 0], [-0.5, -0.5, 0]])
    found = []
    for seen in pictures:
        for number, corners in zip(seen.number.tolist(), seen.corner_px, strict=True):
            if number in numbers:
                rays = lens.rays(corners)
                flat = np.ascontiguousarray(rays[:, :2] / rays[:, 2:])
                turns = cv2.solvePnPGeneric(square, flat, np.eye(3), None, flags=cv2.SOLVEPNP_IPPE_SQUARE)[1]
                found.append([cv2.Rodrigues(np.ravel(turn))[0][:, 2] for turn in turns])
    both = np.array([pair for pair in found if len(pair) == 2])
    candidates = both.reshape(-1, 3)
    nearest = np.max(np.einsum("kij,cj->kic", both, candidates), axis=1)  # per marker and candidate
    best = candidates[int(np.argmax(np.median(nearest, axis=0)))]
    chosen = both[np.arange(len(both)), np.argmax(both @ best, axis=1)]
    normal = np.median(chosen, axis=0)
    normal /= np.linalg.norm(normal)
    return normal if normal[2] < 0 else -normal


def _turn(angle_rad: float) -> Array:
    cosine, sine = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cosine, -sine], [sine, cosine]])
