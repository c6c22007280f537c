"""The simulated event camera does what every event camera does: behind a moving mirror, in simulated and real time."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from foveate.clock import Clock, LiveClock, VirtualClock
from foveate_drivers.conformance import events as suite
from foveate_drivers.conformance.suite import Bench, Check, checks
from foveate_drivers.events.sim import SimEventCamera
from foveate_drivers.mirrors.sim import SimMirror
from foveate_drivers.world.base import World
from tests.unit.test_event_simulator import Stripes


class Scanning(SimMirror):
    """To and fro for ever, twenty times a second, whoever asks."""

    def true_angle(self, t_s: float) -> np.ndarray:
        return np.array([0.01 * np.sin(40 * np.pi * t_s), 0.0])


@cache
def scanning() -> SimMirror:
    return Scanning()


def bench(clock: Clock) -> Bench[SimEventCamera]:
    world = World(range=10.0)
    world._scene = Stripes()  # type: ignore[assignment]

    def make() -> SimEventCamera:
        camera = SimEventCamera(address="stripes", world=world, through=scanning(), width=32, height=24, field=0.1)
        camera.uri = "sim-events:stripes"
        return camera

    return Bench(make, clock)


@pytest.mark.parametrize("check", checks(suite), ids=lambda check: check.__name__)
@pytest.mark.parametrize("time", ["simulated", pytest.param("real", marks=pytest.mark.heavy)])
def test_what_every_event_camera_does(time: str, check: Check) -> None:
    check(bench(VirtualClock() if time == "simulated" else LiveClock()))
