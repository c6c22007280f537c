"""Robust least squares for calibration: many images, few parameters that they share, a few that each group has.

Levenberg-Marquardt on the normal equations. The groups' own parameters (poses of boards) and each image's nuisances
(errors of its mirror angles) are eliminated by Schur complements, so the cost grows with the number of images, not with
its cube. Huber's loss is by iterated weights (Triggs et al. 2000, Bundle Adjustment, sections 3 and 6).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.errors import CalibrationError

Array = NDArray[np.float64]
_MOST_STEPS = 30


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """Residuals of one image at the current parameters, in units of their standard deviation, and their derivatives."""

    residual: Array  # (m,)
    by_shared: Array  # m x shared
    by_own: Array  # m x own
    group: int  # whose own parameters
    measurement: NDArray[np.int64] | None = None  # (m,) residuals of one measurement (x and y) are doubted as one
    by_nuisance: Array | None = None  # m x k, by nuisances in units of their standard deviation, of this image alone


class Problem(Protocol):
    """What is to be fitted: a state that can be linearised and stepped."""

    def blocks(self) -> Sequence[Block]:
        """The residuals of all images."""
        ...

    def stepped(self, shared: Array, own: Array) -> Self:
        """The state after a step of the shared parameters (shared,) and of each group's own (groups x own)."""
        ...


P = TypeVar("P", bound=Problem)


@dataclass(frozen=True, slots=True, eq=False)
class Solution(Generic[P]):
    """The fitted state and what the data say of it."""

    problem: P
    names: tuple[str, ...]  # of the shared parameters
    covariance: Array  # shared x shared, with the priors; 0 where a parameter was held
    prior_sigma: Array  # (shared,): inf = none, 0 = held
    scale: float  # root of the variance factor: 1 where the residuals are what their sigmas say
    weights: tuple[Array, ...]  # of each block's residuals, 1 = fully believed
    residuals: tuple[Array, ...]  # of each block, in sigmas, after its nuisances
    nuisances: tuple[Array, ...]  # of each block, in sigmas
    nuisance_variance: tuple[Array, ...]  # of these, 1 = the image says nothing
    shift: Array  # (shared,) steps from where the priors have their means
    steps: int

    @property
    def sigma(self) -> Array:
        """(shared,) standard deviations."""
        return np.sqrt(np.diag(self.covariance))

    def sigmas(self) -> dict[str, float]:
        """Standard deviations by name, of the parameters that were fitted."""
        return {name: float(s) for name, s, p in zip(self.names, self.sigma, self.prior_sigma, strict=True) if p > 0}

    def weak(self, expected: Array | None = None, share: float = 0.5) -> list[str]:
        """Directions in which the data say little: their sigma is above `share` of the expected one (the prior's).

        Each is told as the parameters that take part in it most, the strongest first.
        """
        scale = self.prior_sigma if expected is None else expected
        free = np.flatnonzero((self.prior_sigma > 0) & np.isfinite(scale) & (scale > 0))
        if not len(free):
            return []
        scaled = self.covariance[np.ix_(free, free)] / np.outer(scale[free], scale[free])
        values, vectors = np.linalg.eigh((scaled + scaled.T) / 2)
        found = []
        for value, vector in zip(values[::-1], vectors.T[::-1], strict=True):
            ratio = float(np.sqrt(max(value, 0.0)))
            if ratio < share:
                break
            leading = np.argsort(-np.abs(vector))[:4]
            parts = [f"{vector[i]:+.2f} {self.names[free[i]]}" for i in leading if abs(vector[i]) > 0.2]
            what = "the data do not determine" if ratio > 0.97 else f"sigma {ratio:.0%} of what was assumed before:"
            found.append(f"{what} {' '.join(parts)}")
        return found


@dataclass(slots=True, eq=False)
class _Normal:
    """Normal equations with the groups' own parameters apart."""

    shared: Array  # S x S
    shared_side: Array  # (S,)
    cross: Array  # G x S x O
    own: Array  # G x O x O
    own_side: Array  # G x O
    cost: float
    weights: list[Array]
    residuals: list[Array]
    nuisances: list[Array]
    nuisance_variance: list[Array]

    def step(self, damping: float) -> tuple[Array, Array]:
        """The damped Gauss-Newton step of the shared and of the own parameters."""
        own = self.own + damping * _diagonal(self.own) + 1e-12 * np.eye(self.own.shape[1])
        carried = np.linalg.solve(own, np.concatenate([self.cross.transpose(0, 2, 1), self.own_side[:, :, None]], 2))
        system = self.shared + damping * np.diag(np.diag(self.shared))
        system = system - np.einsum("gso,got->st", self.cross, carried[:, :, :-1])
        side = self.shared_side - np.einsum("gso,go->s", self.cross, carried[:, :, -1])
        shared = -_solved(system, side)
        return shared, -(carried[:, :, -1] + carried[:, :, :-1] @ shared)

    def reduced(self) -> Array:
        """The information (S x S) of the shared parameters alone."""
        own = self.own + 1e-12 * np.eye(self.own.shape[1])
        carried = np.linalg.solve(own, self.cross.transpose(0, 2, 1))
        return self.shared - np.einsum("gso,got->st", self.cross, carried)


def solve(
    problem: P, names: Sequence[str], prior_sigma: Array, groups: int, own: int, *, huber: float = 2.5,
    enough: float = 1e-9, shift: Array | None = None, on_step: Callable[[int, float], None] | None = None,
) -> Solution[P]:  # fmt: skip
    """Fit. `prior_sigma` (shared,): how far a parameter may be from its start, inf = anywhere, 0 = held there.

    `enough`: relative decrease of the cost at which it has converged;
    `shift`: how far the start already is from where the priors have their means;
    `huber`: sigmas from which on a measurement counts less. Raises CalibrationError where the data leave a
    parameter open that has no prior.
    """
    free = prior_sigma > 0
    tight = np.where(free & np.isfinite(prior_sigma), 1.0 / np.where(free, prior_sigma, 1.0) ** 2, 0.0)
    shift = np.zeros(len(prior_sigma)) if shift is None else shift
    at = _normal(problem.blocks(), shift, tight, free, groups, own, huber)
    damping, count = 1e-3, 0
    for count in range(1, _MOST_STEPS + 1):
        step_shared, step_own = at.step(damping)
        step_shared = np.where(free, step_shared, 0.0)
        moved = problem.stepped(step_shared, step_own)
        there = _normal(moved.blocks(), shift + step_shared, tight, free, groups, own, huber)
        if on_step is not None:
            on_step(count, there.cost)
        if np.isfinite(there.cost) and there.cost <= at.cost * (1 + 1e-12):
            gained = at.cost - there.cost
            problem, shift, at, damping = moved, shift + step_shared, there, max(damping / 10, 1e-12)
            if gained <= enough * max(at.cost, 1e-300):
                break
        else:
            damping *= 10
            if damping > 1e10:
                break
    return _told(problem, tuple(names), prior_sigma, at, shift, groups * own, count)


def _told(
    problem: P, names: tuple[str, ...], prior: Array, at: _Normal, shift: Array, own: int, steps: int
) -> Solution[P]:
    free = prior > 0
    measured = sum(len(r) for r in at.residuals)
    free_count = int(free.sum())
    spare = measured - own - free_count + int((free & np.isfinite(prior)).sum())
    if spare <= 0:
        raise CalibrationError(f"{measured} measurements cannot determine {own + free_count} parameters; add views")
    squares = sum(float(np.sum(w * r * r)) for w, r in zip(at.weights, at.residuals, strict=True))
    believed = sum(float(np.sum(w)) for w in at.weights) / max(measured, 1)
    scale = float(np.sqrt(squares / max(spare * believed, 1e-9)))
    chosen = np.flatnonzero(free)
    information = at.reduced()[np.ix_(chosen, chosen)]
    unit = 1.0 / np.sqrt(np.maximum(np.diag(information), 1e-300))  # parameters come in pixels, metres, radians
    values, vectors = np.linalg.eigh(information * np.outer(unit, unit))
    if len(values) and values[0] <= 1e-13 * values[-1]:
        leading = np.argsort(-np.abs(vectors[:, 0]))[:3]
        open_names = ", ".join(names[chosen[i]] for i in leading)
        raise CalibrationError(f"the data do not determine {open_names}; add views that differ in them, or hold them")
    covariance = np.zeros((len(prior), len(prior)))
    covariance[np.ix_(chosen, chosen)] = (vectors / values) @ vectors.T * np.outer(unit, unit) * scale**2
    return Solution(problem, names, covariance, prior, scale, tuple(at.weights), tuple(at.residuals),
                    tuple(at.nuisances), tuple(at.nuisance_variance), shift, steps)  # fmt: skip


def _normal(
    blocks: Sequence[Block], shift: Array, tight: Array, free: NDArray[np.bool_], groups: int, own: int, huber: float
) -> _Normal:
    shared_count = len(shift)
    out = _Normal(
        np.diag(tight), tight * shift, np.zeros((groups, shared_count, own)), np.zeros((groups, own, own)),
        np.zeros((groups, own)), 0.5 * float(tight @ shift**2), [], [], [], [],
    )  # fmt: skip
    for block in blocks:
        _add(out, block, huber)
    held = ~free
    out.shared[held] = out.shared[:, held] = 0.0
    out.shared[held, held] = 1.0
    out.shared_side[held] = 0.0
    out.cross[:, held] = 0.0
    return out


def _add(out: _Normal, block: Block, huber: float) -> None:
    """Add one image to the normal equations."""
    residual, count = block.residual, len(block.residual)
    nuisance = block.by_nuisance if block.by_nuisance is not None else np.zeros((count, 0))
    measurement = block.measurement if block.measurement is not None else np.arange(count)
    inner = np.eye(nuisance.shape[1])
    weights, left, length = np.ones(count), residual, np.zeros(0)
    variance, found = np.array(inner, np.float64), np.zeros(len(inner))
    for last in (False, True):  # the nuisances of the believed residuals, and from what is then left who is believed
        variance[:] = np.linalg.inv((nuisance * weights[:, None]).T @ nuisance + inner)
        found = variance @ (nuisance.T @ (weights * residual))
        left = residual - nuisance @ found
        length = np.sqrt(np.bincount(measurement, left**2))
        weights = weights if last else np.minimum(1.0, huber / np.maximum(length, 1e-300))[measurement]
    out.cost += float(np.where(length <= huber, 0.5 * length**2, huber * (length - 0.5 * huber)).sum())
    out.cost += 0.5 * float(found @ found)
    both = np.concatenate([block.by_shared, block.by_own], axis=1)
    weighted = both * weights[:, None]
    mixed = weighted.T @ nuisance @ variance
    product = weighted.T @ both - mixed @ (nuisance.T @ weighted)
    side = weighted.T @ residual - mixed @ (nuisance.T @ (weights * residual))
    s, g = block.by_shared.shape[1], block.group
    out.shared += product[:s, :s]
    out.shared_side += side[:s]
    out.cross[g] += product[:s, s:]
    out.own[g] += product[s:, s:]
    out.own_side[g] += side[s:]
    out.weights.append(weights)
    out.residuals.append(left)
    out.nuisances.append(-found)
    out.nuisance_variance.append(np.diag(variance).copy())


def _diagonal(stack: Array) -> Array:
    """Of each matrix in a stack, its diagonal as a matrix."""
    return stack * np.eye(stack.shape[1])


def _solved(system: Array, side: Array) -> Array:
    """The solution of a symmetric system, of least norm where it is singular; scaled to unit diagonal first."""
    diagonal = np.diag(system)
    scale = 1.0 / np.sqrt(np.maximum(diagonal, 1e-20 * float(diagonal.max(initial=1e-300))))
    try:
        return scale * np.linalg.solve(system * np.outer(scale, scale), scale * side)
    except np.linalg.LinAlgError:
        return scale * np.linalg.lstsq(system * np.outer(scale, scale), scale * side, rcond=1e-12)[0]
