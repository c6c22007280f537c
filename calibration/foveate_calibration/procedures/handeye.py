"""Where a camera is on a robot: AX = XB from poses of the hand and of a board.

Start: Park and Martin 1994, Robot sensor calibration: solving AX = XB on the Euclidean group. Then rotation and
translation of both unknowns are fitted jointly to the poses of the board, with a robust loss and a covariance.

Eye in hand: X = hand_from_camera, Y = world_from_board, and world_from_hand X camera_from_board = Y. Eye to hand: with
the hand's poses inverted the same equation gives X = world_from_camera and Y = hand_from_board.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.document import Calibration, Transform
from foveate_calibration.errors import CalibrationError
from foveate_calibration.least_squares import Block, Solution, solve
from foveate_calibration.rigid import invert, skew, stepped, transform, vector_from

Array = NDArray[np.float64]
Tell = Callable[[str], None]

_FEWEST = 4
_LEAST_TURN_RAD = 0.03  # of a motion, to count
_LEAST_SECOND = 0.05  # turning about a second axis, as a share of that about the first
_OFF, _OFF_RAD, _OFF_M = 6.0, 1e-4, 1e-5  # sigmas of a pose's residual; below the others no pose is doubted
_MOST_PAIRS = 2000
_LEAST_SHARE = 0.6


@dataclass(frozen=True, slots=True, eq=False)
class HandEyeProblem:
    """The state of the fit: six parameters of X, six of Y; the errors are those of the board's poses."""

    hand: Array  # N x 4 x 4: fixed_from_moving of the robot
    camera_from_board: Array  # N x 4 x 4
    x: Array  # 4 x 4
    y: Array
    sigma_rad: float
    sigma_m: float

    def stepped(self, shared: Array, own: Array) -> HandEyeProblem:
        """After a step of both."""
        return replace(self, x=stepped(self.x, shared[:6]), y=stepped(self.y, shared[6:]))

    def residual(self) -> Array:
        """N x 6: rotation vector (rad) and shift (m) from the board measured to the expected, in the camera's frame."""
        found = []
        for hand, seen in zip(self.hand, self.camera_from_board, strict=True):
            expected = invert(hand @ self.x) @ self.y
            turn = vector_from(expected[:3, :3] @ seen[:3, :3].T)
            found.append(np.concatenate([turn, expected[:3, 3] - seen[:3, 3]]))
        return np.array(found)

    def blocks(self) -> list[Block]:
        """One for each pose; a pose's rotation is doubted as one, and its shift."""
        blocks, sigma = [], np.repeat([self.sigma_rad, self.sigma_m], 3)
        for hand, left in zip(self.hand, self.residual(), strict=True):
            camera_from_fixed = invert(hand @ self.x)
            back, turn = self.x[:3, :3].T, camera_from_fixed[:3, :3]
            board_in_hand = invert(hand)[:3, :3] @ self.y[:3, 3] + invert(hand)[:3, 3]
            slope = np.zeros((6, 12))
            log = _log_slope(left[:3])
            slope[:3, :3] = -log @ back
            slope[3:, :3] = back @ skew(board_in_hand - self.x[:3, 3])
            slope[3:, 3:6] = -back
            slope[:3, 6:9] = log @ turn
            slope[3:, 9:] = turn
            measured = np.repeat([0, 1], 3)
            blocks.append(Block(left / sigma, slope / sigma[:, None], np.zeros((6, 0)), 0, measured))
        return blocks


@dataclass(frozen=True, slots=True, eq=False)
class HandEyeFit:
    """Where the camera is, and where the board."""

    x: Array  # 4 x 4: hand_from_camera, or world_from_camera
    y: Array  # 4 x 4: world_from_board, or hand_from_board
    eye_in_hand: bool
    solution: Solution[HandEyeProblem]
    residual: Array  # N x 6: rad, m
    used: NDArray[np.int64]  # numbers of the poses, from 0
    removed: tuple[str, ...]

    @property
    def names(self) -> tuple[str, str]:
        """Of the two transforms."""
        return (
            ("hand_from_camera", "world_from_board") if self.eye_in_hand else ("world_from_camera", "hand_from_board")
        )

    def weak(self) -> tuple[str, ...]:
        """What the motions did not determine, in words: any direction three times less sure than the surest."""
        values, vectors = np.linalg.eigh(self.solution.covariance[3:6, 3:6])
        sigma = np.sqrt(np.maximum(values, 0.0))
        if sigma[-1] < 3 * sigma[0] or sigma[-1] < 1e-4:
            return ()
        along = ", ".join(f"{v:+.2f}" for v in vectors[:, -1])
        frame = "hand" if self.eye_in_hand else "world"
        return (f"the camera's position along ({along}) of the {frame}: sigma {1e3 * sigma[-1]:.2g} mm, "
                f"{sigma[-1] / sigma[0]:.0f} times that across; add motions that turn about other axes",)  # fmt: skip

    def calibration(self, origin: Mapping[str, str]) -> Calibration:
        """The file's content: the two transforms by name."""
        residuals = {
            "rotation_rad": _spread(self.residual[:, :3]), "translation_m": _spread(self.residual[:, 3:]),
        }  # fmt: skip
        sigmas = {name: float(s) for name, s in zip(self.solution.names, self.solution.sigma, strict=True)}
        models = {self.names[0]: Transform(self.x), self.names[1]: Transform(self.y)}
        told = {"procedure": "handeye", **origin, "left_out": "; ".join(self.removed) or "nothing"}
        return Calibration(models, residuals, sigmas, self.weak(), told)


def fit_hand_eye(
    world_from_hand: Array, camera_from_board: Array, *, eye_in_hand: bool = True, tell: Tell = lambda text: None
) -> HandEyeFit:
    """Fit to poses (N x 4 x 4 each) of the same moments. Raises CalibrationError: too few motions, about one axis only,
    poses that contradict each other."""
    hand = world_from_hand if eye_in_hand else np.stack([invert(pose) for pose in world_from_hand])
    count = len(hand)
    if count < _FEWEST:
        raise CalibrationError(f"{count} poses are too few; at least {_FEWEST} are needed, 10 to 20 are good")
    _check_axes(hand, "hand" if eye_in_hand else "robot's base")
    used = np.arange(count)
    removed: list[str] = []
    names = ("hand_from_camera", "world_from_board") if eye_in_hand else ("world_from_camera", "hand_from_board")
    while True:
        tell(f"fitting to {len(used)} poses")
        solution = _fit(hand[used], camera_from_board[used], names)
        residual = solution.problem.residual()
        off = np.column_stack([np.linalg.norm(part, axis=1) for part in (residual[:, :3], residual[:, 3:])])
        ratio = (off / np.maximum(_OFF * np.array(_sigmas(residual)), (_OFF_RAD, _OFF_M))).max(axis=1)
        worst = int(np.argmax(ratio))
        if ratio[worst] <= 1:
            break
        removed.append(f"pose {used[worst] + 1}: {np.degrees(off[worst, 0]):.2f} degrees and "
                       f"{1e3 * off[worst, 1]:.1f} mm off")  # fmt: skip
        tell(f"left out: {removed[-1]}")
        used = np.delete(used, worst)
        fewest = max(_FEWEST, round(_LEAST_SHARE * count))
        if len(used) < fewest:
            where = "on the hand" if eye_in_hand else "fixed and the board on the hand"
            raise CalibrationError(f"fewer than {fewest} of {count} poses agree; {removed[0]}; are they "
                                   f"of the same moments, and is the camera {where}?")  # fmt: skip
        _check_axes(hand[used], "hand" if eye_in_hand else "robot's base")
    _check_fit(residual)
    return HandEyeFit(solution.problem.x, solution.problem.y, eye_in_hand, solution, residual, used, tuple(removed))


def _fit(hand: Array, seen: Array, names: tuple[str, str]) -> Solution[HandEyeProblem]:
    x = park_martin(hand, seen)
    ends = [pose @ x @ board for pose, board in zip(hand, seen, strict=True)]
    apart = [float(np.median([np.linalg.norm(a[:3, 3] - b[:3, 3]) for b in ends])) for a in ends]
    problem = HandEyeProblem(hand, seen, x, ends[int(np.argmin(apart))], 1.0, 1.0)
    parts = ("turn_x", "turn_y", "turn_z", "shift_x", "shift_y", "shift_z")
    labels = [f"{name}.{part}" for name in names for part in parts]
    for _ in range(4):  # how sure rotations are against translations follows from what is left of them
        turn, shift = _sigmas(problem.residual())
        problem = replace(problem, sigma_rad=turn, sigma_m=shift)
        solution = solve(problem, labels, np.full(12, np.inf), 1, 0)
        problem = solution.problem
    return solution


def _sigmas(residual: Array) -> tuple[float, float]:
    """Standard deviations of an axis (rad, m), with lengths beyond three times the median counted as that."""
    found = []
    for part in (residual[:, :3], residual[:, 3:]):
        lengths = np.linalg.norm(part, axis=1)
        found.append(float(np.sqrt(np.mean(np.minimum(lengths, 3 * np.median(lengths)) ** 2) / 3)))
    return max(found[0], 1e-9), max(found[1], 1e-9)


def park_martin(hand: Array, seen: Array) -> Array:
    """X (4 x 4) of A X = X B over pairs of poses, in closed form."""
    turns: list[tuple[Array, Array]] = []
    motions: list[tuple[Array, Array]] = []
    for i, j in _pairs(len(hand)):
        a, b = invert(hand[j]) @ hand[i], seen[j] @ invert(seen[i])
        alpha, beta = vector_from(a[:3, :3]), vector_from(b[:3, :3])
        motions.append((a, b))
        if _LEAST_TURN_RAD < np.linalg.norm(alpha) < 3.0:  # near half a turn the axis may point either way
            turns.append((alpha, beta))
    if len(turns) < 2:
        raise CalibrationError("no two poses differ by a turn between 2 and 170 degrees; turn the hand by 30 degrees")
    # The nearest rotation that carries the axes seen onto those of the hand: Park and Martin's square root, by an SVD.
    u, _, vt = np.linalg.svd(sum(np.outer(alpha, beta) for alpha, beta in turns))
    turn = u @ np.diag([1.0, 1.0, float(np.linalg.det(u @ vt))]) @ vt
    left = np.concatenate([a[:3, :3] - np.eye(3) for a, _ in motions])
    right = np.concatenate([turn @ b[:3, 3] - a[:3, 3] for a, b in motions])
    return transform(turn, np.linalg.lstsq(left, right, rcond=None)[0])


def _pairs(count: int) -> list[tuple[int, int]]:
    every = [(i, j) for i in range(count) for j in range(i)]
    return every[:: len(every) // _MOST_PAIRS + 1]


def _check_axes(hand: Array, frame: str) -> None:
    """Raises CalibrationError where the hand turned too little, or about one axis only: that leaves X open."""
    turns = np.array([vector_from((invert(hand[j]) @ hand[i])[:3, :3]) for i, j in _pairs(len(hand))])
    values, axes = np.linalg.eigh(turns.T @ turns / len(turns))
    sizes = np.sqrt(np.maximum(values[::-1], 0.0))
    if sizes[0] < _LEAST_TURN_RAD:
        raise CalibrationError(
            f"the {frame} hardly turned (by {np.degrees(sizes[0]):.1f} degrees in the mean); turn it by 30 degrees and "
            "more about two axes"
        )
    if sizes[1] < _LEAST_SECOND * sizes[0]:
        only, other = (", ".join(f"{v:+.2f}" for v in axes[:, k]) for k in (2, 1))
        raise CalibrationError(
            f"all turns are about one axis, ({only}) of the {frame}: the camera's position along it is open; add poses "
            f"turned about another, such as ({other}), by 30 degrees"
        )


def _check_fit(residual: Array) -> None:
    turn, shift = (float(np.sqrt(np.mean(part**2))) for part in (residual[:, :3], residual[:, 3:]))
    if turn > 0.1:
        raise CalibrationError(
            f"the poses do not fit (residual {np.degrees(turn):.0f} degrees, {1e3 * shift:.0f} mm); is one of the "
            "trajectories the inverse (wanted: world_from_hand, camera_from_board), or the camera not where you said?"
        )


def _log_slope(vector: Array) -> Array:
    """Of the rotation vector of exp(d) R(vector) by d at 0 (3 x 3): the inverse left Jacobian of rotations."""
    angle = float(np.linalg.norm(vector))
    cross = skew(vector)
    if angle < 1e-4:
        return np.eye(3) - 0.5 * cross + cross @ cross / 12
    factor = 1 / angle**2 - (1 + np.cos(angle)) / (2 * angle * np.sin(angle))
    return np.asarray(np.eye(3) - 0.5 * cross + factor * cross @ cross)


def _spread(part: Array) -> dict[str, float]:
    lengths = np.linalg.norm(part, axis=1)
    return {"rms": float(np.sqrt(np.mean(part**2))), "max": float(lengths.max()), "count": float(len(part))}
