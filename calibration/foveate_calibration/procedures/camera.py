"""A camera's lens from images of a board: Zhang's start, views and points that do not fit left out, then all jointly.

Zhang 2000, A flexible new technique for camera calibration. The covariance is that of the joint fit with the boards'
poses eliminated, scaled by what the residuals are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.document import Calibration
from foveate_calibration.errors import CalibrationError
from foveate_calibration.least_squares import Solution
from foveate_calibration.lens import COEFFICIENTS, PARAMETERS, Lens
from foveate_calibration.procedures.board_checks import check_tilts, coverage, parallel, usable
from foveate_calibration.procedures.board_problem import BoardProblem, Freedom, Seen, fit, spread_px
from foveate_calibration.rigid import rotation_from, transform
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
Tell = Callable[[str], None]

PLAIN = ("k1", "k2", "p1", "p2", "k3")
RATIONAL, PRISM, TILT = ("k4", "k5", "k6"), ("s1", "s2", "s3", "s4"), ("tx", "ty")
_FEWEST, _FEWEST_DISTORTED = 3, 5
_VIEW_OFF, _VIEW_OFF_PX = 3.0, 0.05  # times the median view's residual; below the second no view is doubted
_POINT_OFF = 6.0  # sigmas
_ONE_WAY_RAD = 0.15  # between normals of boards, below which it is that they are parallel that leaves the lens open
_CHANGED = 5.0  # sigmas between the halves of the views
_LEAST_SHARE = 0.6  # of the views must fit
# How far a coefficient may be from 0: real lenses stay within, and a direction that the data leave open stays bounded.
_LIKELY = {"k": 10.0, "p": 1.0, "s": 1.0, "t": 0.5}


@dataclass(frozen=True, slots=True, eq=False)
class CameraFit:
    """A lens and what the views say of it."""

    lens: Lens
    solution: Solution[BoardProblem]
    views: tuple[BoardView, ...]  # that were used, without the points that did not fit
    residual_px: tuple[Array, ...]  # N x 2 of each view, seen minus projected
    sigma_px: float  # of a corner, each axis
    covered: float  # share of the image with points
    removed: tuple[str, ...]  # views and points, and why
    change: tuple[str, ...]  # a word where the halves of the views contradict each other
    direction_sigma_px: Array  # 9 x 12 over the image: what is not known of a ray's direction

    @property
    def rms_px(self) -> float:
        """Root mean square of the residuals, each axis."""
        return float(np.sqrt(np.mean(np.concatenate(self.residual_px) ** 2)))

    def weak(self) -> tuple[str, ...]:
        """What the data did not determine, in words."""
        return (
            weak_lens(self.lens, self.solution, 0, "")
            + unsure_border(self.direction_sigma_px, self.covered)
            + self.change
        )

    def calibration(self, origin: Mapping[str, str]) -> Calibration:
        """The file's content; the lens is the model 'camera'."""
        residuals = {"reprojection_px": summary(self.residual_px)}
        for view, left in zip(self.views, self.residual_px, strict=True):
            residuals[f"view {view.name}"] = summary([left])
        residuals["unsure_direction_px"] = {
            "middle": float(self.direction_sigma_px[4, 5:7].mean()), "worst": float(self.direction_sigma_px.max()),
        }  # fmt: skip
        sigmas = {f"camera.{name[2:]}": sigma for name, sigma in self.solution.sigmas().items()}
        told = {"procedure": "camera", **origin, "left_out": "; ".join(self.removed) or "nothing"}
        return Calibration({"camera": self.lens}, residuals, sigmas, self.weak(), told)


def fit_camera(
    views: Sequence[BoardView], width: int, height: int, *, coefficients: Sequence[str] = PLAIN,
    fix_aspect: bool = False, mirrored: bool = False, tell: Tell = lambda text: None,
) -> CameraFit:  # fmt: skip
    """Fit a lens to views of a board. `coefficients`: those of the distortion that are free, of lens.COEFFICIENTS.

    Raises CalibrationError: too few views, all parallel, a flipped board, views that contradict each other.
    """
    unknown = [name for name in coefficients if name not in COEFFICIENTS]
    if unknown:
        raise CalibrationError(f"unknown coefficient '{unknown[0]}'; known: {', '.join(COEFFICIENTS)}")
    kept, removed = usable(views, mirrored)
    needed = _FEWEST_DISTORTED if coefficients else _FEWEST
    _enough(kept, needed, removed)
    check_tilts(kept, width, height)
    names = ("fx", "fy", "cx", "cy", *coefficients)
    total = len(kept)
    while True:
        tell(f"fitting {len(names)} parameters to {len(kept)} views")
        problem = start(kept, width, height, names, fix_aspect)
        solution = fit(problem, priors(problem))
        kept, gone, again = _left(kept, solution.problem.residual_px())
        removed += gone
        for line in gone:
            tell(f"left out: {line}")
        if not again:
            break
        if len(kept) < _LEAST_SHARE * total:
            raise CalibrationError(f"only {len(kept)} of {total} views agree with each other; {removed[-1]}; "
                                   "is it the board that was named, and the same zoom and focus in all?")  # fmt: skip
        _enough(kept, needed, removed)
    lens, residual = solution.problem.lenses[0], tuple(solution.problem.residual_px())
    result = CameraFit(lens, solution, tuple(kept), residual, spread_px(residual), coverage(kept, width, height),
                       tuple(removed), changed(kept, width, height, names, fix_aspect),
                       unsure_px(lens, solution, 0))  # fmt: skip
    _trust(result)
    return result


def changed(
    views: Sequence[BoardView], width: int, height: int, names: Sequence[str], fix_aspect: bool
) -> tuple[str, ...]:
    """A word where the first and the second half of the views, in their order, are of different lenses.

    A fit of both hides that well: the poses of the boards take up most of it.
    """
    if len(views) < 2 * _FEWEST_DISTORTED:
        return ()
    halves = []
    for part in (views[: len(views) // 2], views[len(views) // 2 :]):
        try:
            check_tilts(part, width, height)
            problem = start(part, width, height, names, fix_aspect)
            halves.append(fit(problem, priors(problem)))
        except CalibrationError:
            return ()  # a half that says too little contradicts nobody
    one, other = (half.problem.lenses[0].values for half in halves)
    worst, word = 0.0, ""
    for k, name in enumerate(halves[0].names):
        if name[2:] in ("fx", "fy", "cx", "cy"):
            at = PARAMETERS.index(name[2:])
            apart = float(other[at] - one[at])
            sigmas = abs(apart) / float(np.hypot(halves[0].sigma[k], halves[1].sigma[k]))
            if sigmas > worst:
                worst, word = sigmas, f"{apart:+.1f} px in {name[2:]}, {sigmas:.1f} sigmas"
    if worst < _CHANGED:
        return ()
    return (f"the first and the second half of the views contradict each other ({word}): the board is not flat, or the "
            "camera, its zoom or its focus changed; the standard deviations are too small",)  # fmt: skip


def _enough(views: Sequence[BoardView], needed: int, removed: Sequence[str]) -> None:
    if len(views) < needed:
        why = f" ({'; '.join(removed[:3])})" if removed else ""
        raise CalibrationError(f"{len(views)} views of the board are too few{why}; at least {needed} are needed, "
                               "10 to 20 with the board tilted each way and in every corner are good")  # fmt: skip


def start(
    views: Sequence[BoardView], width: int, height: int, names: Sequence[str], fix_aspect: bool = False
) -> BoardProblem:
    """Where a fit of one camera begins: OpenCV's calibration with as much of the distortion as is free."""
    import cv2

    flags = 0
    if not {"p1", "p2"} & set(names):
        flags |= cv2.CALIB_ZERO_TANGENT_DIST
    for name, flag in (("k1", cv2.CALIB_FIX_K1), ("k2", cv2.CALIB_FIX_K2), ("k3", cv2.CALIB_FIX_K3)):
        if name not in names:
            flags |= flag
    if fix_aspect:
        flags |= cv2.CALIB_FIX_ASPECT_RATIO
    boards = [view.board_m.astype(np.float32) for view in views]
    pixels = [view.pixel.astype(np.float32) for view in views]
    try:
        _, matrix, distortion, turns, shifts = cv2.calibrateCamera(
            boards, pixels, (width, height), np.eye(3), np.zeros(5), flags=flags
        )
    except cv2.error as error:
        raise CalibrationError(
            f"no start for a fit is found from {len(views)} views ({str(error).splitlines()[0][:80]}); add views with "
            "the board tilted by 30 degrees"
        ) from None
    lens = Lens.from_matrix(np.asarray(matrix), np.ravel(distortion)[:5], width, height)
    poses = tuple(
        transform(rotation_from(np.ravel(turn).astype(np.float64)), np.ravel(shift).astype(np.float64))
        for turn, shift in zip(turns, shifts, strict=True)
    )
    seen = tuple(Seen(0, k, view.board_m, view.pixel) for k, view in enumerate(views))
    return BoardProblem((lens,), (Freedom.of(names, lens, fix_aspect),), (np.eye(4),), poses, seen)


def priors(problem: BoardProblem) -> Array:
    """Sigma of each shared parameter before the data speak: coefficients of real lenses are bounded."""
    found = []
    for name in problem.names:
        word = name.partition(".")[2]
        found.append(_LIKELY[word[0]] if word in COEFFICIENTS else np.inf)
    return np.array(found)


def _left(views: list[BoardView], residuals: Sequence[Array]) -> tuple[list[BoardView], list[str], bool]:
    """(views that stay, what goes and why, whether anything went): the worst view, or single points of all views."""
    most = np.array([spread_px([left]) for left in residuals])  # of most of a view's points: a few may be wrong
    middle = float(np.median(most))
    worst = int(np.argmax(most))
    if most[worst] > max(_VIEW_OFF * middle, _VIEW_OFF_PX):
        why = f"{views[worst].name}: residual {most[worst]:.2f} px, {most[worst] / middle:.1f} times that of most views"
        return [v for k, v in enumerate(views) if k != worst], [why], True
    limit = max(_POINT_OFF * spread_px(residuals), _VIEW_OFF_PX)
    kept, gone = [], []
    for view, left in zip(views, residuals, strict=True):
        off = np.linalg.norm(left, axis=1)
        good = off <= limit
        if not good.all():
            gone.append(f"{view.name}: {int((~good).sum())} points, up to {off.max():.2f} px off")
            view = replace(view, board_m=view.board_m[good], pixel=view.pixel[good])
        kept.append(view)
    return kept, gone, bool(gone)


def unsure_px(lens: Lens, solution: Solution[BoardProblem], camera: int) -> Array:
    """9 x 12 standard deviations over the image (px, the larger axis) of where a given direction is seen.

    The turn of the camera that keeps the middle half in place is taken out: a board's pose would take it up as well.
    """
    rows, columns = 9, 12
    x, y = np.meshgrid((np.arange(columns) + 0.5) / columns * lens.width, (np.arange(rows) + 0.5) / rows * lens.height)
    rays = lens.rays(np.column_stack([x.ravel(), y.ravel()]))
    _, by_point, by_lens = lens.linearize(rays)
    turn = by_point @ np.einsum("ni,ijk->njk", rays, _CROSS)
    at = sum(len(f.names) for f in solution.problem.freedoms[:camera])
    freedom = solution.problem.freedoms[camera]
    own = slice(at, at + len(freedom.names))
    slope = (by_lens @ freedom.basis).reshape(2 * len(rays), -1)
    basis = turn.reshape(2 * len(rays), 3)
    middle = (np.abs(x.ravel() / lens.width - 0.5) < 0.25) & (np.abs(y.ravel() / lens.height - 0.5) < 0.25)
    rows_there = np.repeat(middle, 2)
    slope = slope - basis @ np.linalg.lstsq(basis[rows_there], slope[rows_there], rcond=None)[0]
    variance = np.einsum("ij,jk,ik->i", slope, solution.covariance[own, own], slope)
    return np.asarray(np.sqrt(np.maximum(variance.reshape(rows, columns, 2).max(axis=2), 0.0)))


_CROSS = np.array([[[0, 0, 0], [0, 0, -1], [0, 1, 0]], [[0, 0, 1], [0, 0, 0], [-1, 0, 0]],
                   [[0, -1, 0], [1, 0, 0], [0, 0, 0]]], np.float64)  # fmt: skip


def weak_lens(lens: Lens, solution: Solution[BoardProblem], camera: int, who: str) -> tuple[str, ...]:
    """What the views leave open of a lens, in words; `who` begins each, such as 'left: '."""
    sigma = {n.partition(".")[2]: s for n, s in solution.sigmas().items() if n.startswith(f"{camera + 1}.")}
    value = dict(zip(PARAMETERS, lens.values.tolist(), strict=True))
    found = []
    if "fx" in sigma and sigma["fx"] > 0.005 * value["fx"]:
        found.append(f"{who}the focal length and the distance of the boards: sigma {sigma['fx']:.1f} px "
                     f"({sigma['fx'] / value['fx']:.1%}); add views with the board tilted by 30 degrees")  # fmt: skip
    shift = max(sigma.get("cx", 0.0), sigma.get("cy", 0.0))
    if shift > 0.01 * lens.width:
        found.append(f"{who}the principal point and the tilt of the boards: sigma {shift:.1f} px; add views with the "
                     "board tilted the other way and turned by 90 degrees in the image")  # fmt: skip
    for name in (n for n in COEFFICIENTS if n in sigma):
        if sigma[name] > 0.5 * _LIKELY[name[0]]:
            found.append(f"{who}{name}: sigma {sigma[name]:.2g}, the data say nothing of it; leave it out")
    return tuple(found)


def unsure_border(sigma_px: Array, covered: float, who: str = "") -> tuple[str, ...]:
    """A word where directions near the border of the image are unsure."""
    if sigma_px.max() < 1.0:
        return ()
    return (f"{who}directions near the border of the image: sigma up to {sigma_px.max():.1f} px; the points cover "
            f"{covered:.0%} of the image, add views that reach into its corners",)  # fmt: skip


def _trust(result: CameraFit) -> None:
    """Raises CalibrationError where the fit is none."""
    focal, sigma = result.lens.values[0], result.solution.sigma[0]
    lens = result.lens
    if not np.isfinite(focal) or focal <= 0 or sigma > 0.1 * focal:
        normals = np.array([pose[:3, 2] for pose in result.solution.problem.first_from_board])
        widest = float(np.arccos(np.clip(normals @ normals.T, -1, 1)).max())
        if widest < _ONE_WAY_RAD:
            raise parallel(len(normals), widest)
        raise CalibrationError(
            f"the focal length is not determined ({focal:.0f} px, sigma {sigma:.0f} px): it and the distance of the "
            "boards cannot be told apart; add views with the board tilted by 30 degrees"
        )
    if not (0 < lens.values[2] < lens.width and 0 < lens.values[3] < lens.height):
        raise CalibrationError(
            f"the principal point ({lens.values[2]:.0f}, {lens.values[3]:.0f}) is outside the image of {lens.width} x "
            f"{lens.height}; is the image cropped, or the board not flat? Add views in every corner"
        )


def summary(residuals: Sequence[Array]) -> dict[str, float]:
    """rms (each axis), rms_point (of the distance, OpenCV's number), max (of the distance), count of points."""
    every = np.concatenate(residuals)
    lengths = np.linalg.norm(every, axis=1)
    return {
        "rms": float(np.sqrt(np.mean(every**2))), "rms_point": float(np.sqrt(np.mean(lengths**2))),
        "max": float(lengths.max()), "count": float(len(every)),
    }  # fmt: skip
