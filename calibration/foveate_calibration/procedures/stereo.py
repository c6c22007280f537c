"""Two cameras from images of the same board at the same time: both lenses and the transform between them, jointly."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.document import Calibration, Model, Transform
from foveate_calibration.errors import CalibrationError
from foveate_calibration.least_squares import Solution
from foveate_calibration.lens import Lens
from foveate_calibration.procedures.board_problem import BoardProblem, Freedom, Seen, fit, spread_px
from foveate_calibration.procedures.camera import (
    PLAIN,
    CameraFit,
    fit_camera,
    priors,
    summary,
    unsure_border,
    unsure_px,
    weak_lens,
)  # fmt: skip
from foveate_calibration.rigid import invert, skew, vector_from
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
Tell = Callable[[str], None]
Pair = tuple[BoardView, BoardView]

_FEWEST = 3
_PAIR_OFF, _PAIR_OFF_PX = 3.0, 0.05  # as for single views in `camera`
_HELD = 3.0  # times the noise of corners that lenses may be off which are held as they are
_SIDES = ("left", "right")


@dataclass(frozen=True, slots=True, eq=False)
class StereoFit:
    """Two lenses, where the second camera is, and what the pairs say of it."""

    left: Lens
    right: Lens
    right_from_left: Array  # 4 x 4
    baseline_m: float
    baseline_sigma_m: float
    solution: Solution[BoardProblem]
    pairs: tuple[Pair, ...]
    residual_px: tuple[tuple[Array, Array], ...]  # of each pair, left and right, N x 2
    epipolar_px: tuple[Array, ...]  # of each pair: distance (N,) of right points from the epipolar lines of left ones
    covered: tuple[float, float]
    removed: tuple[str, ...]
    direction_sigma_px: tuple[Array, Array]  # as of a CameraFit

    def weak(self) -> tuple[str, ...]:
        """What the data did not determine, in words."""
        found: list[str] = []
        for k, (lens, who) in enumerate(zip((self.left, self.right), _SIDES, strict=True)):
            found += weak_lens(lens, self.solution, k, f"{who}: ")
            found += unsure_border(self.direction_sigma_px[k], self.covered[k], f"{who}: ")
        if self.baseline_sigma_m > 0.005 * self.baseline_m:
            share = self.baseline_sigma_m / self.baseline_m
            found.append(f"the baseline: sigma {1e3 * self.baseline_sigma_m:.2g} mm ({share:.1%}); add pairs with the "
                         "board near and tilted")  # fmt: skip
        return tuple(found)

    def calibration(self, origin: Mapping[str, str]) -> Calibration:
        """The file's content: lenses 'left' and 'right', transform 'right_from_left'."""
        residuals = {
            "left_px": summary([a for a, _ in self.residual_px]),
            "right_px": summary([b for _, b in self.residual_px]),
        }
        if any(len(e) for e in self.epipolar_px):
            every = np.concatenate(self.epipolar_px)
            residuals["epipolar_px"] = {"rms": float(np.sqrt(np.mean(every**2))), "max": float(np.abs(every).max()),
                                        "count": float(len(every))}  # fmt: skip
        for (view, _), both in zip(self.pairs, self.residual_px, strict=True):
            residuals[f"pair {view.name}"] = summary(both)
        residuals["baseline_m"] = {"value": self.baseline_m, "sigma": self.baseline_sigma_m}
        sigmas = {}
        for name, sigma in self.solution.sigmas().items():
            who, _, what = name.partition(".")
            joint = what.startswith(("turn", "shift"))
            sigmas[f"{'right_from_left' if joint else _SIDES[int(who) - 1]}.{what}"] = sigma
        models: dict[str, Model] = {
            "left": self.left,
            "right": self.right,
            "right_from_left": Transform(self.right_from_left),
        }
        told = {"procedure": "stereo", **origin, "left_out": "; ".join(self.removed) or "nothing"}
        return Calibration(models, residuals, sigmas, self.weak(), told)


def paired(left: Sequence[BoardView], right: Sequence[BoardView], tolerance_s: float = 0.005) -> list[Pair]:
    """Views of the same moment: by stamps where both have them, else by the numbers in the names.

    Raises CalibrationError where a number occurs twice, or nothing fits.
    """
    if all(view.t_ns for view in (*left, *right)):
        times = np.array([view.t_ns for view in right], np.int64)
        pairs = []
        for view in left:
            off = np.abs(times - view.t_ns)
            near = int(np.argmin(off)) if len(off) else 0
            if len(off) and off[near] <= tolerance_s * 1e9:
                pairs.append((view, right[near]))
        if not pairs:
            raise CalibrationError(f"no two of {len(left)} left and {len(right)} right views are within "
                                   f"{1e3 * tolerance_s:g} ms; are both stamped by one clock?")  # fmt: skip
        return pairs
    numbered = [_numbered(views) for views in (left, right)]
    common = [key for key in numbered[0] if key in numbered[1]]
    if not common:
        raise CalibrationError(
            f"no left image has the number of a right one (left: {_some(left)}; right: {_some(right)}); number them "
            "such as left01.png and right01.png"
        )
    return [(numbered[0][key], numbered[1][key]) for key in common]


def _numbered(views: Sequence[BoardView]) -> dict[tuple[str, ...], BoardView]:
    found: dict[tuple[str, ...], BoardView] = {}
    for view in views:
        key = tuple(number.lstrip("0") for number in re.findall(r"\d+", view.name.rsplit("/", 1)[-1]))
        if key in found:
            raise CalibrationError(f"{view.name} and {found[key].name} have the same number; a pair needs one of each")
        found[key] = view
    return found


def _some(views: Sequence[BoardView]) -> str:
    return ", ".join(view.name for view in views[:3]) + (" ..." if len(views) > 3 else "")


def fit_stereo(
    pairs: Sequence[Pair], left_size: tuple[int, int], right_size: tuple[int, int], *,
    coefficients: Sequence[str] = PLAIN, fix_aspect: bool = False, lenses: tuple[Lens, Lens] | None = None,
    tell: Tell = lambda text: None,
) -> StereoFit:  # fmt: skip
    """Fit both cameras. `lenses`: known ones, which are then held. Raises CalibrationError."""
    if len(pairs) < _FEWEST:
        raise CalibrationError(f"{len(pairs)} pairs of views are too few; at least {_FEWEST} are needed, 10 are good")
    singles = []
    for k, size in enumerate((left_size, right_size)):
        tell(f"the {_SIDES[k]} camera alone")
        try:
            options = {"coefficients": coefficients, "fix_aspect": fix_aspect, "tell": tell}
            singles.append(fit_camera([pair[k] for pair in pairs], *size, **options))  # type: ignore[arg-type]
        except CalibrationError as error:
            raise CalibrationError(f"{_SIDES[k]} camera: {error}") from None
    removed = [f"{side}: {line}" for side, fitted in zip(_SIDES, singles, strict=True) for line in fitted.removed]
    by_name = [{view.name: k for k, view in enumerate(fitted.views)} for fitted in singles]
    kept = [(by_name[0][a.name], by_name[1][b.name]) for a, b in pairs if a.name in by_name[0] and b.name in by_name[1]]
    alone = max(fitted.sigma_px for fitted in singles) * (1.0 if lenses is None else _HELD)
    while True:
        if len(kept) < _FEWEST:
            raise CalibrationError(f"only {len(kept)} pairs agree with each other, {_FEWEST} are needed; "
                                   f"{removed[-1] if removed else 'are the images of the same moments?'}")  # fmt: skip
        tell(f"both cameras, {len(kept)} pairs")
        problem = _start(singles, kept, lenses)
        prior = priors(problem)
        if lenses is not None:
            prior[: sum(len(freedom.names) for freedom in problem.freedoms)] = 0.0
        solution = fit(problem, prior)
        left = solution.problem.residual_px()
        both = [(left[2 * k], left[2 * k + 1]) for k in range(len(kept))]
        off = np.array([spread_px(pair) for pair in both])
        limit = max(_PAIR_OFF * alone, _PAIR_OFF_PX)
        worst = int(np.argmax(off))
        if off[worst] <= limit:
            return _told(singles, kept, solution, both, removed)
        if np.median(off) > limit:
            raise CalibrationError(f"most of {len(kept)} pairs contradict each other (by {np.median(off):.1f} px, each "
                                   f"camera alone by {alone:.2f} px); are the images of the same moments?")  # fmt: skip
        name = singles[0].views[kept[worst][0]].name
        removed.append(f"pair {name}: residual {off[worst]:.2f} px, {off[worst] / alone:.1f} times that of each "
                       "camera alone; did the board move between the images?")  # fmt: skip
        tell(f"left out: {removed[-1]}")
        kept.pop(worst)


def _start(
    singles: Sequence[CameraFit], kept: Sequence[tuple[int, int]], lenses: tuple[Lens, Lens] | None
) -> BoardProblem:
    """From the cameras alone; between them the transform of the pair that the others agree with best."""
    first, second = (fitted.solution.problem for fitted in singles)
    between = [second.first_from_board[b] @ invert(first.first_from_board[a]) for a, b in kept]
    apart = [[np.linalg.norm(p[:3, 3] - q[:3, 3]) + np.linalg.norm(vector_from(p[:3, :3].T @ q[:3, :3])) for q in
              between] for p in between]  # fmt: skip
    middle = between[int(np.argmin(np.median(np.array(apart), axis=1)))]
    seen = []
    for placement, (a, b) in enumerate(kept):
        for camera, view in ((0, singles[0].views[a]), (1, singles[1].views[b])):
            seen.append(Seen(camera, placement, view.board_m, view.pixel))
    used = lenses or (first.lenses[0], second.lenses[0])
    freedoms = (first.freedoms[0], second.freedoms[0])
    if lenses is not None:
        freedoms = tuple(Freedom.of(f.names, lens) for f, lens in zip(freedoms, lenses, strict=True))  # type: ignore[assignment]
    poses = tuple(first.first_from_board[a] for a, _ in kept)
    return BoardProblem(used, freedoms, (np.eye(4), middle), poses, tuple(seen))


def _told(
    singles: Sequence[CameraFit], kept: Sequence[tuple[int, int]], solution: Solution[BoardProblem],
    both: list[tuple[Array, Array]], removed: list[str],
) -> StereoFit:  # fmt: skip
    problem = solution.problem
    matrix = problem.camera_from_first[1]
    shift = matrix[:3, 3]
    baseline = float(np.linalg.norm(shift))
    along = shift / max(baseline, 1e-12)
    sigma = float(np.sqrt(along @ solution.covariance[-3:, -3:] @ along))
    pairs = [(singles[0].views[a], singles[1].views[b]) for a, b in kept]
    epipolar = tuple(epipolar_px(a, b, problem.lenses[0], problem.lenses[1], matrix) for a, b in pairs)
    unsure = (unsure_px(problem.lenses[0], solution, 0), unsure_px(problem.lenses[1], solution, 1))
    return StereoFit(problem.lenses[0], problem.lenses[1], matrix, baseline, sigma, solution, tuple(pairs), tuple(both),
                     epipolar, (singles[0].covered, singles[1].covered), tuple(removed), unsure)  # fmt: skip


def epipolar_px(left: BoardView, right: BoardView, one: Lens, other: Lens, other_from_one: Array) -> Array:
    """How far (N,) the right pixels of points that both see are from the planes of the left ones' rays, in pixels."""
    keys = [[tuple(point) for point in np.round(view.board_m * 1e7).astype(np.int64)] for view in (left, right)]
    where = {key: k for k, key in enumerate(keys[1])}
    common = [(k, where[key]) for k, key in enumerate(keys[0]) if key in where]
    if not common:
        return np.zeros(0)
    a, b = np.array(common).T
    normals = one.rays(left.pixel[a]) @ (skew(other_from_one[:3, 3]) @ other_from_one[:3, :3]).T
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    return np.asarray(np.sum(normals * other.rays(right.pixel[b]), axis=1) * other.values[0])
