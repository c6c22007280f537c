"""How good a search was: found objects against the truth, over time."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from foveate.messages import Objects

SURE = 0.5  # probability from which an object counts as reported


@dataclass(slots=True)
class Score:
    """Results of one run against the truth."""

    total: int  # objects in the truth
    found_s: dict[int, float] = field(default_factory=dict)  # object -> seconds from its appearance to its first report
    labels: dict[int, str] = field(default_factory=dict)
    error_rad: list[float] = field(default_factory=list)  # of every matched report, each truth moment
    reported: int = 0  # objects reported, summed over truth moments
    right: int = 0  # of these, matched
    moments: list[tuple[float, float, float]] = field(default_factory=list)  # t, share held now, precision now

    @property
    def recall(self) -> float:
        """Share of all objects found at any time."""
        return len(self.found_s) / self.total if self.total else float("nan")

    @property
    def precision(self) -> float:
        """Share of reports that are of a real object."""
        return self.right / self.reported if self.reported else float("nan")

    def time_to(self, share: float) -> float | None:
        """Seconds after their appearance within which `share` of all objects were found; None if never."""
        need = int(np.ceil(share * self.total - 1e-9))
        times = sorted(self.found_s.values())
        return times[need - 1] if 0 < need <= len(times) else None

    def error_mrad(self, quantile: float = 0.5) -> float:
        """A quantile of the position error."""
        return float(np.quantile(self.error_rad, quantile) * 1e3) if self.error_rad else float("nan")

    def curve(self, until_s: float, points: int = 200) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(seconds since an object appeared, share of objects found by then)."""
        times = np.linspace(0, until_s, points)
        found = np.sort(list(self.found_s.values()))
        return times, np.searchsorted(found, times, side="right") / max(self.total, 1)


def judged(found: Objects, truth: Objects) -> NDArray[np.int64]:
    """Rows of the reports that the truth can judge: probable, and of a class that it labels.

    A photograph whose vehicles are labelled says nothing about people. A detector that shares no class
    name with the truth is judged without regard to classes.
    """
    sure = found.probability >= SURE
    if set(found.names) & set(truth.names):
        sure &= np.array([found.names[label] in truth.names for label in found.label], bool)
    return np.flatnonzero(sure)


def match(found: Objects, truth: Objects) -> list[tuple[int, int]]:
    """(row of found, row of truth): the report's direction lies within the object's own box.

    Boxes smaller than 1 mrad count as that; each object and each report is used once, nearest first.
    Where both know class names, the names must agree.
    """
    rows = judged(found, truth)
    if not len(rows) or not len(truth.id):
        return []
    gap = np.abs(found.direction_rad[rows][:, None] - truth.direction_rad[None])
    half = np.maximum(truth.extent_rad / 2, 1e-3)
    inside = (gap <= half[None]).all(axis=2)
    common = set(found.names) & set(truth.names)
    if common:
        mine = np.array([found.names[label] for label in found.label[rows]])
        theirs = np.array([truth.names[label] for label in truth.label])
        inside &= mine[:, None] == theirs[None]
    distance = np.where(inside, np.hypot(gap[..., 0], gap[..., 1]), np.inf)
    pairs = []
    for flat in np.argsort(distance, axis=None):
        i, j = np.unravel_index(int(flat), distance.shape)
        if not np.isfinite(distance[i, j]):
            break
        pairs.append((int(rows[i]), int(j)))
        distance[i, :] = np.inf
        distance[:, j] = np.inf
    return pairs


def score(found: Iterable[Objects], truth: Iterable[Objects]) -> Score:
    """Compare reports with the truth at the same moments; both ordered by time.

    A report is compared with the truth interpolated to its own time. An object's clock starts when the
    truth first names it, so one that walks in late is not late to be found.
    """
    truths = list(truth)
    result = Score(0)
    everyone: dict[int, str] = {}
    since_ns: dict[int, int] = {}
    for moment in truths:
        for identity, label in zip(moment.id.tolist(), moment.label.tolist(), strict=True):
            everyone.setdefault(identity, moment.names[label])
            since_ns.setdefault(identity, moment.stamp.t_ns)
    result.total, result.labels = len(everyone), everyone
    if not truths:
        return result
    times = np.array([moment.stamp.t_ns for moment in truths])
    for k, report in enumerate(found):
        t_ns = report.stamp.t_ns
        here = _at(truths, times, t_ns)
        pairs = match(report, here)
        for _, j in pairs:
            identity = int(here.id[j])
            result.found_s.setdefault(identity, max(t_ns - since_ns[identity], 0) / 1e9)
        if k % 6 == 0:
            sure = len(judged(report, here))
            result.reported += sure
            result.right += len(pairs)
            for i, j in pairs:
                gap = report.direction_rad[i] - here.direction_rad[j]
                result.error_rad.append(float(np.hypot(*gap)))
            held = len(pairs) / max(len(here.id), 1)
            result.moments.append((t_ns / 1e9, held, len(pairs) / sure if sure else 1.0))
    return result


def _at(truths: list[Objects], times: NDArray[np.int64], t_ns: int) -> Objects:
    """The truth at `t_ns`: between two moments that name the same objects, interpolated."""
    after = int(np.searchsorted(times, t_ns))
    if after == 0 or after >= len(truths):
        return truths[min(after, len(truths) - 1)]
    first, second = truths[after - 1], truths[after]
    if not np.array_equal(first.id, second.id):
        return first
    weight = (t_ns - times[after - 1]) / max(times[after] - times[after - 1], 1)
    direction = first.direction_rad + weight * (second.direction_rad - first.direction_rad)
    return Objects(
        first.stamp, first.id, first.label, direction, first.sigma_rad, first.extent_rad,
        first.probability, first.looks, first.names,
    )  # fmt: skip
