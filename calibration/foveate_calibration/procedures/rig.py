"""A steered camera and a steered laser from boards that stood still: mirrors, then laser, then everything jointly.

Parameters may be off from the drawing by what machining allows, and where the data leave a direction open that keeps it
near the drawing. Some are always open: a common shift of all virtual centres, a small turn of everything. By convention
they stay as drawn, so the frame of the rig may be a millimetre or two from the drawing's. Shapes do not depend on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from foveate_calibration import lens
from foveate_calibration.errors import CalibrationError
from foveate_calibration.least_squares import Solution, solve
from foveate_calibration.procedures.held_out import HeldOut, judge, split
from foveate_calibration.procedures.rig_problem import Noise, RigProblem, start_poses
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser
from foveate_calibration.views import BoardView

Array = NDArray[np.float64]
Tell = Callable[[str], None]

# What machining, glueing and a data sheet leave open: standard deviations in the order of galvanometer.PARAMETERS.
MACHINED = np.array([5e-3, 5e-3, 1.5e-3, 1.5e-3, 3e-3, 1e-3, 0.02, 0.05, 5e-3])
SHEET = np.array([5e-3, 5e-3, 2e-3])  # of a laser module in its mount: two tilts, the distance
LENS_SHARE, CENTER_PX, DISTORTION = 0.02, 30.0, 0.3  # of the focal length, of the principal point, of each coefficient
_HUBER = (300.0, 30.0, 2.5)  # sigmas; first nearly everything is believed, for the drawing may be off by 100 px
_FEWEST_PLACEMENTS, _FEWEST_VIEWS, _LEAST_TILT_RAD = 4, 12, 0.1
_STRAY_PX = 5.0  # median distance to the nearest pose: distortion that is still unknown stays below
_MOST_OFF = 6.0  # median residual of a view, in sigmas, beyond which it is left out


@dataclass(frozen=True, slots=True, eq=False)
class RigFit:
    """What came of the fit."""

    solution: Solution[RigProblem]
    removed: tuple[str, ...]  # views that do not fit, and why
    held_out: HeldOut

    @property
    def problem(self) -> RigProblem:
        """The fitted state."""
        return self.solution.problem


def fit_rig(
    views: Sequence[BoardView], camera: SteeredCamera, laser: SteeredLaser | None = None, *, noise: Noise | None = None,
    machined: float = 1.0, free_lens: Sequence[str] = ("fx", "fy", "cx", "cy", "k1"), hold_camera: bool = False,
    tell: Tell = lambda text: None,
) -> RigFit:  # fmt: skip
    """Fit mirrors, lens, laser and the boards' poses. `camera`, `laser`: as drawn, where it starts.

    `hold_camera`: it is calibrated already. `machined` scales MACHINED and SHEET, 0 holds what they are of.
    In views of one `placement` the board stood still.
    Raises CalibrationError for too few boards, boards that are all parallel, and views that do not show the board.
    """
    views = _renumbered(views)
    check_views(views, laser is not None)
    views, removed = _without_strays(views, camera, tell)
    kept, held = split(views)
    problem = RigProblem(camera, None, start_poses(kept, camera), tuple(kept), noise or Noise())
    _check_tilts(problem)
    prior = expected_errors(camera, laser, machined, free_lens)
    camera_only = prior[: len(problem.names)]  # a view: what is held here is held in `prior`
    if hold_camera:
        camera_only[:] = 0.0
    solution, more = _trimmed(_annealed(problem, camera_only))
    problem, shift = solution.problem, solution.shift
    tell(f"mirrors and lens from {len(problem.views)} views of {len(problem.rig_from_board)} boards")
    if laser is not None:
        problem, shift = replace(problem, laser=laser), np.append(shift, np.zeros(len(prior) - len(shift)))
        only_laser = np.where(np.arange(len(prior)) < len(camera_only), 0.0, prior)
        solution = _annealed(problem, only_laser, shift)
        problem, shift = solution.problem, solution.shift
        tell("the laser's sheet and mirror from its stripes on the boards")
    solution, late = _trimmed(_with_measured_noise(problem, prior, shift, tell))
    if late:
        solution = _with_measured_noise(solution.problem, prior, solution.shift, tell)
    for text in (*more, *late):
        tell(f"left out {text}")
    return RigFit(solution, (*removed, *more, *late), judge(solution.problem, held))


def expected_errors(
    camera: SteeredCamera, laser: SteeredLaser | None, machined: float, free_lens: Sequence[str]
) -> Array:
    """How far each parameter may be from the drawing, in the order of RigProblem.names; 0 = held."""
    check_free(free_lens)
    of_lens = np.full(len(lens.PARAMETERS), DISTORTION)
    of_lens[:2], of_lens[2:4] = LENS_SHARE * camera.lens.values[:2], CENTER_PX
    of_lens[[name not in free_lens for name in lens.PARAMETERS]] = 0.0
    parts = [MACHINED * machined] * len(camera.mirrors) + [of_lens]
    if laser is not None:
        parts += [SHEET * machined, MACHINED * machined]
    return np.concatenate(parts)


def check_free(names: Sequence[str]) -> None:
    """Raises CalibrationError for a name that is no parameter of a lens."""
    unknown = sorted(set(names) - set(lens.PARAMETERS))
    if unknown:
        raise CalibrationError(f"the lens has no parameter '{unknown[0]}'; it has {', '.join(lens.PARAMETERS)}")


def check_views(views: Sequence[BoardView], with_laser: bool) -> None:
    """Raises CalibrationError where the views cannot determine a rig whatever they hold."""
    placements = {view.placement for view in views}
    if len(placements) < _FEWEST_PLACEMENTS or len(views) < _FEWEST_VIEWS:
        raise CalibrationError(
            f"{len(views)} views of {len(placements)} boards are too few; at least {_FEWEST_VIEWS} views of "
            f"{_FEWEST_PLACEMENTS} places are needed, 150 of 30 are good"
        )
    if with_laser and sum(view.stripe_px is not None for view in views) < _FEWEST_VIEWS:
        count = sum(view.stripe_px is not None for view in views)
        raise CalibrationError(f"the laser's stripe is on the board in {count} views; {_FEWEST_VIEWS} are needed")


def _check_tilts(problem: RigProblem) -> None:
    normals = np.array([problem.rig_from_board[k][:3, 2] for k in sorted({view.placement for view in problem.views})])
    middle = normals.mean(axis=0) / np.linalg.norm(normals.mean(axis=0))
    spread = float(np.arccos(np.clip(normals @ middle, -1, 1)).max())
    if spread < _LEAST_TILT_RAD:
        raise CalibrationError(
            f"all {len(normals)} boards are parallel within {np.degrees(spread):.1f} degrees: distances and focal "
            "length cannot be told apart; tilt some boards by 20 to 40 degrees, to different sides"
        )


def _without_strays(
    views: Sequence[BoardView], camera: SteeredCamera, tell: Tell
) -> tuple[list[BoardView], tuple[str, ...]]:
    """Leave out views that no pose of a flat board explains; raises CalibrationError where most do not."""
    why = [_stray(replace(view, placement=0), camera) for view in views]
    removed = tuple(text for text in why if text)
    if 2 * len(removed) > len(views):
        raise CalibrationError(f"{removed[0]} (as {len(removed) - 1} more); is the board the one that was named?")
    for text in removed:
        tell(f"left out {text}")
    fits = _renumbered([view for view, text in zip(views, why, strict=True) if not text])
    check_views(fits, False)
    return fits, removed


def _stray(view: BoardView, camera: SteeredCamera) -> str:
    """Why no pose of a flat board explains a view; "" where one does."""
    try:
        pose = start_poses([view], camera)
    except CalibrationError as error:
        return str(error)
    noise = Noise()
    off = RigProblem(camera, None, pose, (view,), noise).block(view).residual * noise.corner_px
    if np.median(np.abs(off)) > _STRAY_PX:
        return f"{view.name}: no pose of the board explains its points ({np.median(np.abs(off)):.0f} px off)"
    return ""


def _solved(
    problem: RigProblem, prior: Array, huber: float, shift: Array | None, enough: float = 1e-7
) -> Solution[RigProblem]:
    groups = len(problem.rig_from_board)
    return solve(problem, problem.names, prior, groups, 6, huber=huber, shift=shift, enough=enough)


def _annealed(problem: RigProblem, prior: Array, shift: Array | None = None) -> Solution[RigProblem]:
    solution = _solved(problem, prior, _HUBER[0], shift, 1e-3)
    for huber in _HUBER[1:]:
        solution = _solved(solution.problem, prior, huber, solution.shift, 1e-3)
    return solution


def _with_measured_noise(problem: RigProblem, prior: Array, shift: Array, tell: Tell) -> Solution[RigProblem]:
    """Fit jointly, and estimate the noise of corners, stripes and readings from what is left.

    By expectation-maximisation: an image's points leave the errors of its readings a known variance.
    """
    solution = _solved(problem, prior, _HUBER[-1], shift)
    for _ in range(6):
        noise = measured_noise(solution)
        before = np.array([getattr(solution.problem.noise, name) for name in _NOISES])
        after = np.array([getattr(noise, name) for name in _NOISES])
        solution = _solved(replace(solution.problem, noise=noise), prior, _HUBER[-1], solution.shift)
        if np.abs(after / before - 1).max() < 0.02:
            break
    noise = solution.problem.noise
    tell(
        f"jointly: corners {noise.corner_px:.3f} px, stripes {noise.stripe_px:.3f} px, "
        f"readings {noise.camera_rad * 1e6:.1f} and {noise.laser_rad * 1e6:.1f} urad"
    )
    return solution


_NOISES = ("corner_px", "stripe_px", "camera_rad", "laser_rad")


def measured_noise(solution: Solution[RigProblem]) -> Noise:
    """Standard deviations as the residuals and the images' nuisances show them."""
    problem = solution.problem
    sums = np.zeros((4, 2))  # squares and numbers, by _NOISES
    fitted = 6 * len(problem.rig_from_board) + int((solution.prior_sigma > 0).sum())
    spare = max(1.0 - fitted / sum(map(len, solution.residuals)), 0.05)
    parts = zip(
        problem.views, solution.residuals, solution.weights, solution.nuisances, solution.nuisance_variance, strict=True
    )
    for view, residual, weight, nuisance, variance in parts:
        corners = 2 * len(view.pixel)
        squares, spread = weight * residual**2, nuisance**2 + variance
        sums[0] += squares[:corners].sum(), weight[:corners].sum()
        sums[1] += squares[corners:].sum(), weight[corners:].sum()
        sums[2] += spread[: len(problem.camera.mirrors)].sum(), len(problem.camera.mirrors)
        sums[3] += spread[len(problem.camera.mirrors) :].sum(), len(spread) - len(problem.camera.mirrors)
    factor = np.sqrt(sums[:, 0] / np.maximum(sums[:, 1], 1e-9) / [spare, spare, 1.0, 1.0])
    now = [getattr(problem.noise, name) for name in _NOISES]
    return Noise(*(float(n * f) if s[1] > 0 else n for n, f, s in zip(now, factor, sums, strict=True)))


def _trimmed(solution: Solution[RigProblem]) -> tuple[Solution[RigProblem], tuple[str, ...]]:
    """Without the views that are too far off to be noise: in their points, or in what their readings had to be."""
    errors = np.array([np.abs(nuisance).max() for nuisance in solution.nuisances])
    most = _MOST_OFF * max(1.0, 1.4826 * float(np.median(errors)))
    kept, removed = [], []
    for view, residual, error in zip(solution.problem.views, solution.residuals, errors, strict=True):
        off = float(np.median(np.abs(residual)))
        if off > _MOST_OFF:
            removed.append(f"{view.name}: its points are typically {off:.0f} sigmas off; the board may have moved")
        elif error > most:
            removed.append(f"{view.name}: its readings would be {error:.0f} sigmas off; board or mirror may have moved")
        else:
            kept.append(view)
    if not removed:
        return solution, ()
    return replace(solution, problem=replace(solution.problem, views=tuple(kept))), tuple(removed)


def _renumbered(views: Sequence[BoardView]) -> list[BoardView]:
    """With placements counted from 0 without gaps."""
    order = {placement: k for k, placement in enumerate(sorted({view.placement for view in views}))}
    return [replace(view, placement=order[view.placement]) for view in views]
