"""How far an estimated trajectory is from the true one, by the conventions of the TUM RGB-D benchmark.

Sturm et al., "A Benchmark for the Evaluation of RGB-D SLAM Systems", IROS 2012: absolute trajectory error after
alignment, relative pose error over a fixed step. Poses are world_from_camera, N x 4 x 4; times are seconds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foveate.errors import FoveateError
from foveate_calibration.poses import Poses

Array = NDArray[np.float64]
Indices = NDArray[np.int64]
Align = Literal["se3", "sim3", "first", "none"]
Unit = Literal["frames", "s", "m", "rad"]
_STRAIGHT = 1e-9  # share of the variance beside a line below which a path is one: 1 mm of 30 m
_STILL_M = 1e-6  # rms spread of a path that goes nowhere: files keep no less than this
_STEP_OFF = 0.1  # most that a pair may miss the step it is made for, as a share of it
_SHARES = (0.1, 0.2, 0.3, 0.4, 0.5)  # of the path: lengths over which drift is told (Zhang and Scaramuzza, IROS 2018)
_OFF_DEG = 3.0  # mean turn of an estimate against the truth that is worth a word where it hardly changes
_MIRRORED = 0.2  # a mirror image that leaves less than this share of the error is what was meant


class TrajectoryError(FoveateError):
    """Trajectories that cannot be compared: names them, the number and the way out."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """Of a set of errors, all in one unit."""

    rmse: float
    mean: float
    median: float
    std: float
    min: float
    max: float
    count: int

    @classmethod
    def of(cls, values: Array) -> Statistics:
        """Of at least one value; `std` divides by n, not n - 1, as TUM's tools have it."""
        return cls(
            float(np.sqrt(np.mean(values**2))), float(values.mean()), float(np.median(values)), float(values.std()),
            float(values.min()), float(values.max()), len(values),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class Alignment:
    """How an estimate is laid on the truth: x -> scale * R x + t."""

    scale: float
    matrix: Array  # 4 x 4, rigid: R and t
    note: str  # what the paths leave open, "" = nothing

    def applied(self, poses: Array) -> Array:
        """Poses (N x 4 x 4) in the truth's world."""
        moved = poses.copy()
        moved[:, :3, 3] *= self.scale
        aligned: Array = self.matrix @ moved
        return aligned


def associated(estimate_s: Array, truth_s: Array, tolerance_s: float) -> tuple[Indices, Indices]:
    """Indices of poses of one moment: within `tolerance_s`, the nearest pairs first, each pose once; in order of time.

    That is the rule of the benchmark's associate.py; both times must be sorted.
    """
    low = np.searchsorted(truth_s, estimate_s - tolerance_s, "left")
    counts = np.searchsorted(truth_s, estimate_s + tolerance_s, "right") - low
    mine = np.repeat(np.arange(len(estimate_s)), counts)
    theirs = np.arange(len(mine)) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(low, counts)
    off = np.abs(estimate_s[mine] - truth_s[theirs])
    keep = off < tolerance_s
    mine, theirs, off = mine[keep], theirs[keep], off[keep]
    free_mine, free_theirs = np.ones(len(estimate_s), bool), np.ones(len(truth_s), bool)
    found = []
    for k in np.lexsort((estimate_s[mine], truth_s[theirs], off)).tolist():
        i, j = mine[k], theirs[k]
        if free_mine[i] and free_theirs[j]:
            free_mine[i] = free_theirs[j] = False
            found.append((i, j))
    pairs = np.array(sorted(found), np.int64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def covered(estimate_s: Array, truth_s: Array, tolerance_s: float) -> float:
    """Share of the truth's poses, 0 to 1, with a pose of the estimate near in time.

    Near is `tolerance_s`, or one and a half of the estimate's own interval where that is longer.
    """
    near_s = max(tolerance_s, 1.5 * float(np.median(np.diff(estimate_s))) if len(estimate_s) > 1 else 0.0)
    after = np.searchsorted(estimate_s, truth_s).clip(0, len(estimate_s) - 1)
    off = np.minimum(np.abs(estimate_s[after] - truth_s), np.abs(estimate_s[(after - 1).clip(0)] - truth_s))
    return float((off <= near_s).mean())


def fitted(estimate_m: Array, truth_m: Array, scaled: bool, mirrored: bool = False) -> tuple[float, Array]:
    """(Scale, 4 x 4) of least squares that lays points (N x 3) on points: Umeyama, PAMI 13(4), 1991, eq. 40 to 42.

    `mirrored`: by a reflection in the place of a rotation.
    """
    mean_e, mean_t = estimate_m.mean(axis=0), truth_m.mean(axis=0)
    e, t = estimate_m - mean_e, truth_m - mean_t
    left, sizes, right = np.linalg.svd(t.T @ e / len(e))
    signs = np.ones(3)
    if (np.linalg.det(left) * np.linalg.det(right) < 0) != mirrored:
        signs[2] = -1.0
    turn = left * signs @ right
    scale = float(sizes @ signs / np.mean(np.sum(e**2, axis=1))) if scaled else 1.0
    matrix = np.eye(4)
    matrix[:3, :3] = turn
    matrix[:3, 3] = mean_t - scale * turn @ mean_e
    return scale, matrix


def alignment(estimate: Array, truth: Array, how: Align) -> Alignment:
    """Of poses of the same moments (N x 4 x 4 each). Raises TrajectoryError where they do not determine it."""
    if how == "none":
        return Alignment(1.0, np.eye(4), "")
    if how == "first":
        return Alignment(1.0, truth[0] @ np.linalg.inv(estimate[0]), "")
    if len(estimate) < 3:
        text = f"alignment {how} needs 3 poses, there {'are' if len(estimate) > 1 else 'is'} {len(estimate)}"
        raise TrajectoryError(f"{text}; --align first needs one")
    e, t = estimate[:, :3, 3], truth[:, :3, 3]
    shape = max(_shape(e), _shape(t), key=len)
    if shape and how == "sim3":
        raise TrajectoryError(f"alignment sim3 is not determined: {shape}; use --align se3 or first")
    scale, matrix = fitted(e, t, how == "sim3")
    if how == "sim3" and not scale > 0:
        raise TrajectoryError("alignment sim3 gives no scale above 0: the paths have nothing in common")
    return Alignment(scale, matrix, f"{shape}: the turn of the alignment is a guess" if shape else _mirror(e, t))


def _shape(points: Array) -> str:
    """What is degenerate about a path (N x 3), "" where nothing is."""
    sizes = np.linalg.svd(points - points.mean(axis=0), compute_uv=False) ** 2 / len(points)
    if np.sqrt(sizes.sum()) < _STILL_M:
        return "a path stays at one place"
    return "a path is a straight line" if sizes[1] < _STRAIGHT * sizes[0] else ""


def _mirror(estimate_m: Array, truth_m: Array) -> str:
    left = []
    for mirrored in (False, True):
        scale, matrix = fitted(estimate_m, truth_m, True, mirrored)
        moved = scale * estimate_m @ matrix[:3, :3].T + matrix[:3, 3]
        left.append(float(np.sqrt(np.mean(np.sum((moved - truth_m) ** 2, axis=1)))))
    if left[1] < _MIRRORED * left[0]:
        return (
            "the estimate is a mirror image of the truth: one of them counts an axis the other way (ICL-NUIM's y "
            "points up; name its folder as the truth, or turn the axis in the file)"
        )
    return ""


def turn_rad(rotations: Array) -> Array:
    """Angles (N,) of rotations (N x 3 x 3): by the chord, as the cosine says nothing of small ones."""
    chord = np.linalg.norm(rotations - np.eye(3), axis=(1, 2)) / np.sqrt(8.0)
    angle: Array = 2.0 * np.arcsin(chord.clip(0.0, 1.0))
    return angle


def progress(truth: Array, time_s: Array, unit: Unit) -> Array:
    """How far a trajectory (N x 4 x 4) has come at each pose (N,): frames, seconds, metres or radians gone."""
    if unit == "frames":
        return np.arange(len(truth), dtype=np.float64)
    if unit == "s":
        return time_s - time_s[0]
    if unit == "m":
        steps = np.linalg.norm(np.diff(truth[:, :3, 3], axis=0), axis=1)
    else:
        steps = turn_rad(np.swapaxes(truth[:-1, :3, :3], 1, 2) @ truth[1:, :3, :3])
    return np.concatenate([[0.0], np.cumsum(steps)])


def pairs_of(gone: Array, delta: float, consecutive: bool) -> tuple[Indices, Indices]:
    """Indices (from, to) of poses that are `delta` apart by `gone` (N,), to within a tenth of it.

    Each pose with the nearest that is so far ahead; or, `consecutive`, each pair beginning where the one before ended.
    """
    after = np.searchsorted(gone, gone + delta).clip(0, len(gone) - 1)
    before = (after - 1).clip(0)
    to = np.where(np.abs(gone[before] - gone - delta) < np.abs(gone[after] - gone - delta), before, after)
    inside = gone + delta <= gone[-1] + 1e-9  # near the end no pose is so far ahead: the last would be too near
    fits = inside & (np.abs(gone[to] - gone - delta) <= _STEP_OFF * delta) & (to > np.arange(len(gone)))
    begin = np.nonzero(fits)[0]
    if not consecutive:
        return begin, to[begin]
    chain, at = [], 0
    while (k := int(np.searchsorted(begin, at))) < len(begin):
        chain.append(begin[k])
        at = to[begin[k]]
    chosen = np.array(chain, np.int64)
    return chosen, to[chosen]


def relative_errors(estimate: Array, truth: Array, begin: Indices, end: Indices) -> tuple[Array, Array]:
    """(Metres, radians) that each step of the estimate is off: (Q_i^-1 Q_j)^-1 (P_i^-1 P_j), Sturm et al., eq. 1."""
    q = np.linalg.inv(truth[begin]) @ truth[end]
    p = np.linalg.inv(estimate[begin]) @ estimate[end]
    error = np.linalg.inv(q) @ p
    return np.linalg.norm(error[:, :3, 3], axis=1), turn_rad(error[:, :3, :3])


def matched(estimate: Poses, truth: Poses, tolerance_s: float, offset_s: float) -> tuple[Indices, Indices]:
    """Indices of poses of one moment, `offset_s` added to the estimate's times. Raises TrajectoryError."""
    mine, theirs = associated(estimate.time_s + offset_s, truth.time_s, tolerance_s)
    if len(mine) >= 2:
        return mine, theirs
    spans = [f"{poses.time_s[0] + off:.3f} to {poses.time_s[-1] + off:.3f} s"
             for poses, off in ((estimate, offset_s), (truth, 0.0))]  # fmt: skip
    raise TrajectoryError(
        f"{estimate.name}: {len(mine) or 'none'} of {len(estimate)} poses within {tolerance_s:g} s of one of "
        f"{truth.name}: it has {spans[0]}, the truth {spans[1]}; --offset moves the estimate, --tolerance widens"
    )


@dataclass(frozen=True, slots=True)
class How:
    """What is compared, and in what way."""

    align: Align = "se3"
    tolerance_s: float = 0.02
    offset_s: float = 0.0  # added to the estimate's times
    delta: float = 1.0
    unit: Unit = "s"
    consecutive: bool = False
    backward: bool = False  # steps seen from their end, as evaluate_rpe.py has them


@dataclass(frozen=True, slots=True, eq=False)
class Evaluation:
    """One estimate against the truth."""

    name: str
    poses: int  # of the estimate
    pairs: int  # of them with a true pose of the moment
    covered: float  # share of the truth's poses with an estimate near, 0 to 1
    duration_s: float  # from the first pair to the last
    path_m: float  # length of the true path through the pairs
    scale: float  # of the alignment: the estimate's metres times it
    ate_m: Statistics
    ate_deg: Statistics  # of the orientation after the alignment
    rpe_m: Statistics | None  # None: no two poses are a step apart
    rpe_deg: Statistics | None
    drift_percent: float | None  # metres lost per metre gone, mean over pieces of 10 to 50 % of the path
    drift_deg_m: float | None
    notes: tuple[str, ...]
    time_s: Array  # (N,) of the pairs, as the truth tells it
    error_m: Array  # (N,)
    aligned_m: Array  # N x 3, positions of the estimate in the truth's world
    step_m: Array  # (S,) errors of the steps
    pieces: tuple[tuple[float, Array], ...]  # (share of path_m, errors in metres) of pieces of the path


def evaluated(estimate: Poses, truth: Poses, how: How) -> Evaluation:
    """Compare; where an estimate is only of a part of the time, its errors are of that part. Raises TrajectoryError."""
    mine, theirs = matched(estimate, truth, how.tolerance_s, how.offset_s)
    e, t, time_s = estimate.matrices[mine], truth.matrices[theirs], truth.time_s[theirs]
    try:
        fit = alignment(e, t, how.align)
    except TrajectoryError as error:
        raise TrajectoryError(f"{estimate.name}: {error}") from None
    laid = fit.applied(e)
    error_m = np.linalg.norm(laid[:, :3, 3] - t[:, :3, 3], axis=1)
    turned = turn_rad(np.swapaxes(t[:, :3, :3], 1, 2) @ laid[:, :3, :3])
    begin, end = pairs_of(progress(t, time_s, how.unit), how.delta, how.consecutive)
    if how.backward:
        begin, end = end, begin
    step_m, step_rad = relative_errors(laid, t, begin, end)
    gone = progress(t, time_s, "m")
    pieces, drift = _drift(laid, t, gone)
    notes = [note for note in (estimate.note, fit.note) if note]
    ate_deg = Statistics.of(np.degrees(turned))
    if ate_deg.mean > max(_OFF_DEG, 3 * ate_deg.std):
        notes.append(_turned(ate_deg.mean, how.align))
    if not len(step_m):
        notes.append(f"no two poses are {how.delta:g} {how.unit} apart (to a tenth of it), so there is no RPE")
    return Evaluation(
        estimate.name, len(estimate), len(mine),
        covered(estimate.time_s + how.offset_s, truth.time_s, how.tolerance_s), float(time_s[-1] - time_s[0]),
        float(gone[-1]), fit.scale, Statistics.of(error_m), ate_deg,
        Statistics.of(step_m) if len(step_m) else None, Statistics.of(np.degrees(step_rad)) if len(step_m) else None,
        *drift, tuple(notes), time_s, error_m, laid[:, :3, 3], step_m, pieces,
    )  # fmt: skip


def _turned(mean_deg: float, align: Align) -> str:
    why = "the poses are of another part of the device than the truth's, or of other axes"
    if align in ("se3", "sim3"):
        why = f"the alignment looks at positions alone, and a short or straight path tells it little; or {why}"
    return f"orientations are off by the same {mean_deg:.1f} degrees all along: {why}"


def _drift(
    estimate: Array, truth: Array, gone: Array
) -> tuple[tuple[tuple[float, Array], ...], tuple[float | None, float | None]]:
    """Errors over pieces of the path, and (percent, degrees a metre) over all of them."""
    pieces, percent, degrees = [], [], []
    for share in _SHARES:
        length = share * float(gone[-1])
        begin, end = pairs_of(gone, length, False) if length > _STILL_M else (np.zeros(0, np.int64),) * 2
        if len(begin):
            metres, radians = relative_errors(estimate, truth, begin, end)
            pieces.append((share, metres))
            percent.append(100 * metres / length)
            degrees.append(np.degrees(radians) / length)
    if not pieces:
        return (), (None, None)
    return tuple(pieces), (float(np.concatenate(percent).mean()), float(np.concatenate(degrees).mean()))
