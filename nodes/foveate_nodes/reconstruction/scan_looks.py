"""Which look comes next: around a volume for a board, then over it for its surfaces. No clock, no devices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser
from foveate_nodes.reconstruction import scan_pattern
from foveate_nodes.reconstruction.scan_pattern import Sweep

Array = NDArray[np.float64]
Stop = tuple[Array, float, tuple[int, int]]  # a view, where the light crosses it, a key

_SPARSE = -0.4  # overlap of the views that look for a board: one of half a metre reaches from one to the next
_BESIDE = (0.0, 0.35, -0.35)  # of a view: where else the light crosses it
_PATIENCE = 12  # looks that a coarse sweep is waited for; what has not come by then counts as seen


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """Angles of both mirrors, and what for."""

    view_rad: Array  # (axes,)
    light_rad: Array  # (1,)
    reason: str  # "tour" | "coarse" | "fine"
    key: tuple[int, int]  # view and number in it


class Tour:
    """Looks for one placement of a board after the other: a sweep over the volume, then around where something was."""

    state = ("placement", "_queue", "_content", "_good", "_around", "_away")

    def __init__(self, camera: SteeredCamera, laser: SteeredLaser, volume_m: Array, wanted: int) -> None:
        self._camera, self._laser, self._wanted = camera, laser, wanted
        self._middle_m = float(volume_m[2].mean())
        self._views = scan_pattern.views(camera, volume_m, _SPARSE)
        self._size = np.arctan(np.array([camera.lens.width, camera.lens.height]) / 2 / camera.lens.values[:2])
        self.begin(-1)

    def begin(self, placement: int) -> None:
        """The board has a new place: nothing is known."""
        self.placement = placement
        self._queue = self._sweep()
        self._content: dict[int, float] = {}  # of views of the sweep: mean grey level
        self._good = 0  # looks that had something
        self._around = 0  # rounds around what was found
        self._away = False  # it has been seen often enough, and is looked at no more

    def noted(self, key: tuple[int, int], gray: float, least: float) -> None:
        """What a look showed."""
        self._good += gray >= least
        if key[1] == 0 and gray >= least:
            self._content[key[0]] = gray

    def next(self) -> Look | None:
        """None: enough of this placement has been seen, and the view is where nothing is."""
        if self._good >= self._wanted:
            empty = next((k for k in range(len(self._views)) if k not in self._content), 0)
            if self._away:
                return None
            self._away = True
            return Look(self._views[empty], self._light(self._views[empty], 0.0), "tour", (-1, -1))
        if not self._queue:
            self._queue = self._closer() if self._content else self._sweep()
            self._around += 1
        view, beside, key = self._queue.pop(0)
        return Look(view, self._light(view, beside), "tour", key)

    def _sweep(self) -> list[Stop]:
        return [(view, _BESIDE[k % len(_BESIDE)], (k, 0)) for k, view in enumerate(self._views)]

    def _closer(self) -> list[Stop]:
        """Views half a view beside those that had something, in lines; the light crosses them elsewhere each round."""
        steps = [np.array([x, y]) for y in (-0.5, 0.0, 0.5) for x in (-0.5, 0.0, 0.5)]
        found = {}
        for index in self._content:
            for step in steps:
                view = self._views[index] + (step * self._size)[: len(self._views[index])]
                found[tuple(np.round(view / self._size[: len(view)] * 4).astype(int).tolist())] = view
        cells = sorted(found, key=lambda cell: (cell[-1], cell[0] if cell[-1] % 4 else -cell[0]))
        return [
            (found[cell], _BESIDE[(k + self._around) % len(_BESIDE)], (k, 1 + self._around))
            for k, cell in enumerate(cells)
        ]

    def _light(self, view: Array, beside: float) -> Array:
        """The laser's angle for a column of the image at mid-depth; a view is so wide that it stays in it at others."""
        lens = self._camera.lens
        pixel = np.array([[(0.5 + beside) * (lens.width - 1), (lens.height - 1) / 2]])
        center, rays = self._camera.rays(pixel, view)
        point = center + rays[0] * (self._middle_m - center[2]) / rays[0, 2]
        return scan_pattern.laser_angles(self._laser, point)


class Scan:
    """Covers a volume view by view: planes far apart, then close ones beside those that met a surface."""

    state = ("_view", "_stage", "_queue", "_open", "_seen", "_waited")

    def __init__(
        self, camera: SteeredCamera, laser: SteeredLaser, volume_m: Array, pitch_m: float, every: int, overlap: float
    ) -> None:
        self.every = every
        self.sweeps: list[Sweep] = [
            scan_pattern.sweep(camera, laser, view, volume_m, pitch_m)
            for view in scan_pattern.views(camera, volume_m, overlap)
        ]
        self._view = -1
        self._stage = "fine"
        self._queue: list[int] = []
        self._open: set[int] = set()  # coarse numbers whose frames have not come
        self._seen: set[int] = set()  # those that met a surface
        self._waited = 0
        self._advance()

    @property
    def done(self) -> bool:
        """Whether every view has been seen."""
        return self._view >= len(self.sweeps)

    def saw(self, key: tuple[int, int], surface: bool) -> None:
        """What a coarse look met."""
        if key[0] == self._view and key[1] in self._open:
            self._open.discard(key[1])
            if surface:
                self._seen.add(key[1])

    def next(self) -> Look | None:
        """None: wait for what the looks so far have seen, or it is `done`."""
        while not self.done:
            if self._queue:
                return self._look(self._queue.pop(0))
            if self._stage == "coarse" and self._open and self._waited < _PATIENCE:
                self._waited += 1
                return None
            self._advance()
        return None

    def _look(self, number: int) -> Look:
        sweep = self.sweeps[self._view]
        if self._stage == "coarse":
            self._open.add(number)
        return Look(sweep.view_rad, sweep.angle(number), self._stage, (self._view, number))

    def _advance(self) -> None:
        if self._view >= 0 and self._stage == "coarse":
            self._stage = "fine"
            self._queue = self.sweeps[self._view].fine(self.every, self._seen | self._open)[::-1]  # on the way back
            return
        self._view += 1
        self._stage = "coarse"
        self._queue = [] if self.done else self.sweeps[self._view].coarse(self.every)
        self._open, self._seen, self._waited = set(), set(), 0


def state_of(plan: Tour | Scan | None) -> dict[str, Any] | None:
    """What a plan needs to go on after a restart."""
    return None if plan is None else {name: getattr(plan, name) for name in plan.state}


def resumed(plan: Tour | Scan, state: dict[str, Any] | None) -> None:
    """Take over what `state_of` gave."""
    for name, value in (state or {}).items():
        setattr(plan, name, value)
