"""What a physical model leaves, as a smooth function of pixel and mirror angles: a polynomial or a Gaussian process.

It is fitted to the residuals of the physical model, so it is small. Where there were no data a Gaussian process falls
back to nothing, and a polynomial must not be trusted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Kind = Literal["polynomial", "gaussian_process"]

_MOST_CENTERS = (
    400  # of a Gaussian process: a subset of the data, its cost is their cube once and their number for each pixel
)


@dataclass(frozen=True, slots=True, eq=False)
class ResidualMap:
    """Pixels (N x 2) to add to what the physical model projects, at the model's pixels and the mirror's angles."""

    kind: Kind
    middle: Array  # (2 + axes,) of pixel and angles
    half: Array  # (2 + axes,) by which the variables are divided
    weights: Array  # K x 2: of the terms, or of the centres
    degree: int = 3  # of a polynomial
    centers: Array | None = None  # K x (2 + axes), scaled, of a Gaussian process
    length: float = 1.0  # of the Gaussian process's kernel, in scaled units

    def offset_px(self, pixels: Array, angle_rad: Array) -> Array:
        """N x 2."""
        return self._features(_scaled(pixels, angle_rad, self.middle, self.half)) @ self.weights

    def removed(self, pixels: Array, angle_rad: Array) -> Array:
        """The model's pixels (N x 2) of seen ones: the inverse of adding the offset, by iteration."""
        ideal = pixels
        for _ in range(4):  # the offset changes by less than 1 % of itself over its own length
            ideal = pixels - self.offset_px(ideal, angle_rad)
        return ideal

    def _features(self, scaled: Array) -> Array:
        if self.kind == "polynomial":
            return _terms(scaled, self.degree)
        assert self.centers is not None
        return _kernel(scaled, self.centers, self.length)

    @classmethod
    def polynomial(
        cls, pixels: Array, angles_rad: Array, residuals_px: Array, degree: int = 3, ridge: float = 1e-3
    ) -> Self:
        """The least-squares polynomial of total `degree`; `angles_rad`: N x axes."""
        middle, half = _box(np.column_stack([pixels, angles_rad]))
        terms = _terms(_scaled(pixels, angles_rad, middle, half), degree)
        normal = terms.T @ terms + ridge * len(terms) * 1e-3 * np.eye(terms.shape[1])
        weights = np.asarray(np.linalg.solve(normal, terms.T @ residuals_px), np.float64)
        return cls("polynomial", middle, half, weights, degree)

    @classmethod
    def gaussian_process(
        cls, pixels: Array, angles_rad: Array, residuals_px: Array, noise_px: float, length: float = 0.8, seed: int = 0
    ) -> Self:
        """The posterior mean with squared-exponential kernels, on a subset of regressors.

        Quinonero-Candela and Rasmussen 2005, section 4.
        """
        variables = np.column_stack([pixels, angles_rad])
        middle, half = _box(variables)
        scaled = (variables - middle) / half
        chosen = np.random.default_rng(seed).permutation(len(scaled))[:_MOST_CENTERS]
        centers = scaled[np.sort(chosen)]
        across, within = _kernel(scaled, centers, length), _kernel(centers, centers, length)
        signal = max(float(np.mean(residuals_px**2)) - noise_px**2, (0.1 * noise_px) ** 2)
        normal = across.T @ across + noise_px**2 / signal * within + 1e-8 * np.eye(len(centers))
        weights = np.asarray(np.linalg.solve(normal, across.T @ residuals_px), np.float64)
        return cls("gaussian_process", middle, half, weights, 0, centers, length)

    def plain(self) -> dict[str, Any]:
        """Values for a file."""
        plain: dict[str, Any] = {
            "kind": self.kind, "middle": self.middle.tolist(), "half": self.half.tolist(),
            "weights_px": self.weights.tolist(),
        }  # fmt: skip
        if self.centers is None:
            return {**plain, "degree": self.degree}
        return {**plain, "centers": self.centers.tolist(), "length": self.length}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises KeyError, TypeError, ValueError."""
        kind = plain["kind"]
        if kind not in ("polynomial", "gaussian_process"):
            raise ValueError(f"unknown kind {kind!r}")
        middle, half = np.array(plain["middle"], np.float64), np.array(plain["half"], np.float64)
        weights = np.array(plain["weights_px"], np.float64).reshape(-1, 2)
        if middle.ndim != 1 or middle.shape != half.shape or not 3 <= len(middle) <= 4 or not (half > 0).all():
            raise ValueError("middle and half need a number above 0 for column, row and each axis")
        if kind == "polynomial":
            degree = int(plain["degree"])
            if not 0 <= degree <= 9 or math.comb(len(middle) + degree, degree) != len(weights):
                raise ValueError(f"{len(weights)} weights are not those of a polynomial of degree {degree}")
            return cls(kind, middle, half, weights, degree)
        centers = np.array(plain["centers"], np.float64).reshape(len(weights), len(middle))
        length = float(plain["length"])
        if not length > 0:
            raise ValueError("length must be above 0")
        return cls(kind, middle, half, weights, 0, centers, length)


def _box(variables: Array) -> tuple[Array, Array]:
    low, high = variables.min(axis=0), variables.max(axis=0)
    return (low + high) / 2, np.maximum((high - low) / 2, 1e-9)


def _scaled(pixels: Array, angle_rad: Array, middle: Array, half: Array) -> Array:
    angles = np.broadcast_to(np.atleast_2d(angle_rad), (len(pixels), len(middle) - 2))
    return (np.column_stack([pixels, angles]) - middle) / half


def _terms(scaled: Array, degree: int) -> Array:
    columns = [np.ones(len(scaled))]
    for order in range(1, degree + 1):
        for chosen in combinations_with_replacement(range(scaled.shape[1]), order):
            columns.append(np.prod(scaled[:, chosen], axis=1))
    return np.column_stack(columns)


def _kernel(a: Array, b: Array, length: float) -> Array:
    """Half of it a sum over the variables, for an axis errs by its own angle; half of all variables together."""
    squared = np.zeros((len(a), len(b)))
    alone = np.zeros((len(a), len(b)))
    for k in range(a.shape[1]):
        off = ((a[:, k, None] - b[:, k]) / length) ** 2
        squared += off
        alone += np.exp(-0.5 * off)
    return 0.5 * alone / a.shape[1] + 0.5 * np.exp(-0.125 * squared)
