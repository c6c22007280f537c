"""Lenses, the poses of cameras and the poses of boards that they see, as one problem of least squares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.least_squares import Block, Solution, solve
from foveate_calibration.lens import PARAMETERS, Lens
from foveate_calibration.rigid import skew, stepped

Array = NDArray[np.float64]
_HUBER = 2.5


@dataclass(frozen=True, slots=True, eq=False)
class Seen:
    """Points of a board in one image of one camera."""

    camera: int
    placement: int  # images of the same placement see the same board at rest
    board_m: Array  # N x 3
    pixel: Array  # N x 2


@dataclass(frozen=True, slots=True, eq=False)
class Freedom:
    """What of a lens may change: one parameter for each name."""

    names: tuple[str, ...]
    basis: Array  # 18 x K: how the lens's parameters follow them

    @classmethod
    def of(cls, names: Sequence[str], lens: Lens, fix_aspect: bool = False) -> Freedom:
        """These parameters of the lens; `fix_aspect`: fy follows fx at the ratio that they have."""
        kept = tuple(n for n in names if not (fix_aspect and n == "fy"))
        basis = np.zeros((len(PARAMETERS), len(kept)))
        for column, name in enumerate(kept):
            basis[PARAMETERS.index(name), column] = 1.0
            if fix_aspect and name == "fx":
                basis[1, column] = lens.values[1] / lens.values[0]
        return cls(kept, basis)


@dataclass(frozen=True, slots=True, eq=False)
class BoardProblem:
    """The state of the fit; shared parameters: of each lens, then six of each camera after the first."""

    lenses: tuple[Lens, ...]
    freedoms: tuple[Freedom, ...]
    camera_from_first: tuple[Array, ...]  # 4 x 4; of the first the identity
    first_from_board: tuple[Array, ...]  # 4 x 4, by placement
    seen: tuple[Seen, ...]
    sigma_px: float = 1.0

    @property
    def names(self) -> tuple[str, ...]:
        """Of the shared parameters, such as `1.fx` or `2.shift_x`."""
        names = [f"{k}.{name}" for k, freedom in enumerate(self.freedoms, 1) for name in freedom.names]
        steps = ("turn_x", "turn_y", "turn_z", "shift_x", "shift_y", "shift_z")
        return tuple(names + [f"{k}.{name}" for k in range(2, len(self.lenses) + 1) for name in steps])

    def stepped(self, shared: Array, own: Array) -> BoardProblem:
        """After a step of the parameters and of the boards' poses (placements x 6)."""
        lenses, at = [], 0
        for lens, freedom in zip(self.lenses, self.freedoms, strict=True):
            lenses.append(lens.stepped(freedom.basis @ shared[at : at + len(freedom.names)]))
            at += len(freedom.names)
        cameras = [self.camera_from_first[0]]
        for pose in self.camera_from_first[1:]:
            cameras.append(stepped(pose, shared[at : at + 6]))
            at += 6
        boards = tuple(stepped(pose, step) for pose, step in zip(self.first_from_board, own, strict=True))
        return replace(self, lenses=tuple(lenses), camera_from_first=tuple(cameras), first_from_board=boards)

    def projected(self, seen: Seen) -> Array:
        """Where the model sees the points of an image (N x 2)."""
        pose = self.camera_from_first[seen.camera] @ self.first_from_board[seen.placement]
        return self.lenses[seen.camera].project(seen.board_m @ pose[:3, :3].T + pose[:3, 3])

    def residual_px(self) -> list[Array]:
        """Seen minus projected (N x 2), of each image."""
        return [seen.pixel - self.projected(seen) for seen in self.seen]

    def blocks(self) -> list[Block]:
        """One for each image."""
        return [self._block(seen) for seen in self.seen]

    def _block(self, seen: Seen) -> Block:
        board, camera = self.first_from_board[seen.placement], self.camera_from_first[seen.camera]
        turned = seen.board_m @ board[:3, :3].T
        in_first = turned + board[:3, 3]
        carried = in_first @ camera[:3, :3].T
        pixel, by_point, by_lens = self.lenses[seen.camera].linearize(carried + camera[:3, 3])
        by_first = by_point @ camera[:3, :3]
        own = np.concatenate([-by_first @ _skews(turned), by_first], axis=2)
        rows, count = 2 * len(pixel), sum(len(f.names) for f in self.freedoms)
        shared = np.zeros((len(pixel), 2, count + 6 * (len(self.lenses) - 1)))
        at = sum(len(f.names) for f in self.freedoms[: seen.camera])
        freedom = self.freedoms[seen.camera]
        shared[:, :, at : at + len(freedom.names)] = by_lens @ freedom.basis
        if seen.camera:
            at = count + 6 * (seen.camera - 1)
            shared[:, :, at : at + 6] = np.concatenate([-by_point @ _skews(carried), by_point], axis=2)
        residual = (pixel - seen.pixel).reshape(rows) / self.sigma_px
        shared, own = shared.reshape(rows, -1) / self.sigma_px, own.reshape(rows, 6) / self.sigma_px
        return Block(residual, shared, own, seen.placement, np.arange(rows) // 2)


def fit(problem: BoardProblem, prior_sigma: Array) -> Solution[BoardProblem]:
    """Fit with the noise of the corners estimated from the residuals themselves: twice suffices."""
    for _ in range(2):
        problem = replace(problem, sigma_px=spread_px(problem.residual_px()))
        solution = solve(
            problem, problem.names, prior_sigma, len(problem.first_from_board), 6, huber=_HUBER
        )  # fmt: skip
        problem = solution.problem
    return solution


def spread_px(residuals: Sequence[Array]) -> float:
    """Standard deviation (each axis, pixels) of most residuals, whatever the worst are; 1e-6 px at least."""
    lengths = np.concatenate([np.linalg.norm(r, axis=1) for r in residuals])
    return max(float(np.median(lengths)) / 1.1774, 1e-6)  # the median of Rayleigh's distribution


def _skews(vectors: Array) -> Array:
    return np.einsum("ni,ijk->njk", vectors, np.stack([skew(axis) for axis in np.eye(3)]))
