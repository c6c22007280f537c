"""The simulated event camera: fixed, or looking through the simulated mirrors, at the shared world."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.clock import Clock
from foveate.device import DeviceInfo
from foveate.errors import StateError
from foveate.messages import Events, Stamp
from foveate.node import Unit
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.rigid import invert, transform
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.events.base import EventCamera
from foveate_drivers.events.pixel_model import Fired, PixelModel
from foveate_drivers.events.readout import Readout, joined
from foveate_drivers.mirrors.sim import SimMirror
from foveate_drivers.world.base import World
from foveate_drivers.world.scene import Pixels

_CELL_NS = 10_000_000  # the world is looked at at least this often, on a grid that does not depend on packets
_LOOKS = 16  # places of the mirror in a cell, to see that it moved and came back
_MOST_MOVE_PX = 1.0  # of the view in one step: texture that passes faster is not seen between two images

_CAPABILITIES = {
    "bias_diff_on": Capability("bias_diff_on", "", 0.2, 5.0),
    "bias_diff_off": Capability("bias_diff_off", "", 0.2, 5.0),
    "rate_limit": Capability("rate_limit", "Hz", 1e3, 1e9),
}


class SimEventCamera(EventCamera):
    """Renders the world as often as the light changes, and lets every pixel fire by `PixelModel`.

    A step between two renderings changes no pixel by more than one threshold, unless that would take more than `steps`
    of them in 10 ms: such steps are counted as `coarse`, and events within them keep their number, not their times.
    Packets whose length divides or is a multiple of 10 ms cut one and the same stream; others add steps at their ends,
    which shifts single events by a part of a step. A reader late by more than `buffers` packets loses the oldest:
    their events are counted in `lost_before`, from one coarse step.
    """

    def __init__(
        self,
        *,
        address: str,
        world: World,
        through: SimMirror | None = None,
        width: Annotated[int, Unit("px"), Ge(16), Le(4096)] = 320,
        height: Annotated[int, Unit("px"), Ge(16), Le(4096)] = 240,
        field: Annotated[float, Unit("rad"), Gt(0.001), Le(2.5)] = 0.0419,
        offset: Annotated[float, Unit("m")] = 0.0,
        packet: Annotated[float, Unit("s"), Ge(1e-4), Le(1)] = 0.01,
        threshold: Annotated[float, Ge(0.02), Le(2)] = 0.2,
        threshold_sigma: Annotated[float, Ge(0), Le(0.5)] = 0.03,
        bandwidth: Annotated[float, Unit("Hz"), Ge(0), Le(1e6)] = 3000.0,
        leak: Annotated[float, Unit("Hz"), Ge(0), Le(1000)] = 0.1,
        shot_noise: Annotated[float, Unit("Hz"), Ge(0), Le(1000)] = 1.0,
        refractory: Annotated[float, Unit("s"), Ge(0), Le(0.1)] = 100e-6,
        rate_limit: Annotated[float, Unit("Hz"), Ge(1e3), Le(1e9)] = 20e6,
        queue: Annotated[int, Ge(1), Le(10_000_000)] = 20_000,
        steps: Annotated[int, Ge(1), Le(1024)] = 32,
        buffers: Annotated[int, Ge(1)] = 20,
        seed: int = 1,
    ) -> None:
        """`field`: full horizontal angle of view; `offset`: a fixed camera's place along the rig's x.

        `threshold`: change of ln(intensity) that makes an event; `bandwidth`: of a pixel at white, 0 = unlimited;
        `leak`, `shot_noise`: events/s of a pixel, the latter in the dark; `queue`: events the arbiter can keep waiting.
        """
        self._world = world
        self._mirror = through
        self._lens = self.pinhole = Pinhole.from_field(width, height, field)
        self.width, self.height = width, height
        self.rig_from_camera = None if through is not None else transform(np.eye(3), np.array([offset, 0.0, 0.0]))
        if self.rig_from_camera is not None and world.viewer is None:
            world.viewer = (self._lens, self.rig_from_camera)
        self._packet_ns = round(packet * 1e9)
        self._finest_ns = _CELL_NS / steps
        self._pixels = PixelModel(
            width, height, threshold=threshold, threshold_sigma=threshold_sigma, bandwidth_hz=bandwidth,
            leak_hz=leak, shot_hz=shot_noise, refractory_ns=round(refractory * 1e9), seed=seed,
        )  # fmt: skip
        self._queue = queue
        self._settings = {"bias_diff_on": 1.0, "bias_diff_off": 1.0, "rate_limit": float(rate_limit)}
        self._buffers = buffers
        self._readout = Readout(rate_limit, queue)
        self._started = False
        self._begin_ns = 0  # of the next packet
        self._told_lost = 0
        self._coarse = self._rendered = 0

    def open(self, clock: Clock) -> None:
        if self._clock is not None:
            raise StateError(self.uri, "open", "it is open already")
        self._clock = clock
        self._readout = Readout(self._settings["rate_limit"], self._queue)
        self._told_lost = self._coarse = self._rendered = 0
        self._started = False
        self.start()

    def close(self) -> None:
        self._clock = None
        self._started = False

    def start(self) -> None:
        """Reset all pixels at the present light, and listen from now on."""
        clock = self._running("start")
        if not self._started:
            self._begin_ns = clock.now_ns()
            self._pixels.start(self._render(self._begin_ns), self._begin_ns)
            self._started = True

    def stop(self) -> None:
        self._started = False
        self._told_lost = self._readout.drop()

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", "sim", simulated=True)

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """A simulated camera is where a rig says it is: nothing to be found."""
        return []

    def capabilities(self) -> Mapping[str, Capability]:
        return _CAPABILITIES

    @property
    def streaming(self) -> bool:
        return self._started

    def health(self) -> Health:
        readout = self._readout
        counters = {
            "made": readout.made, "received": readout.given, "lost": readout.lost, "waiting": readout.waiting,
            "rendered": self._rendered, "coarse": self._coarse,
        }  # fmt: skip
        return Health("ok", "", counters)

    def _read(self, name: str) -> Value:
        self._running(f"get {name}")
        return self._settings[name]

    def _write(self, name: str, value: Value) -> None:
        self._running(f"set {name}")
        self._settings[name] = float(value)
        self._readout.set_rate(self._settings["rate_limit"])
        self._pixels.set_factors(self._settings["bias_diff_on"], self._settings["bias_diff_off"])

    def due_ns(self) -> int:
        return self._begin_ns + self._packet_ns

    def read(self, timeout_s: float) -> Events:
        clock = self._running()
        self.start()
        self._await(timeout_s, "packet")
        now_ns = clock.now_ns()
        self._pass_over((now_ns - self.due_ns()) // self._packet_ns - self._buffers + 1)
        begin_ns, self._begin_ns = self._begin_ns, self.due_ns()
        self._readout.add(self._until(self._begin_ns))
        events = self._readout.take(self._begin_ns)
        lost, self._told_lost = self._readout.lost - self._told_lost, self._readout.lost
        stamp = Stamp((begin_ns + self._begin_ns) // 2, self._packet_ns)
        row, column = np.divmod(events.pixel, self.width)
        return Events(
            stamp, events.t_ns, column.astype(np.uint16), row.astype(np.uint16), events.polarity,
            self.width, self.height, lost,
        )  # fmt: skip

    def _pass_over(self, packets: int) -> None:
        """Lose packets that nobody read: one step shows how many events they had."""
        if packets <= 0:
            return
        self._begin_ns += packets * self._packet_ns
        fired = self._pixels.step(self._render(self._begin_ns), self._begin_ns)
        self._coarse += 1
        self._readout.lose(len(fired.t_ns))

    def _until(self, end_ns: int) -> Fired:
        """What fires from where the pixels are to `end_ns`, cell by cell."""
        parts = []
        while self._pixels.t_ns < end_ns:
            edge_ns = (self._pixels.t_ns // _CELL_NS + 1) * _CELL_NS
            parts += self._cell(min(edge_ns, end_ns))
        return joined(parts)

    def _cell(self, end_ns: int) -> list[Fired]:
        """Halves the time to `end_ns` until no pixel changes by more than a threshold in a step (ESIM's rule)."""
        pixels = self._pixels
        ahead = [(end_ns, self._render(end_ns))]
        fired = []
        while ahead:
            t_ns, image = ahead[-1]
            if pixels.change(image) > pixels.least_threshold or self._moves(pixels.t_ns, t_ns):
                if t_ns - pixels.t_ns >= 2 * self._finest_ns:
                    middle_ns = (pixels.t_ns + t_ns) // 2
                    ahead.append((middle_ns, self._render(middle_ns)))
                    continue
                self._coarse += 1
            fired.append(pixels.step(image, t_ns))
            ahead.pop()
        return fired

    def _moves(self, begin_ns: int, end_ns: int) -> bool:
        """Whether the view moves by more than a pixel: what it passes over would not be seen at the ends."""
        if self._mirror is None:
            return False
        angles = [self._mirror.true_angle(t / 1e9) for t in np.linspace(begin_ns, end_ns, _LOOKS)]
        return bool(2 * np.ptp(angles, axis=0).max() * self._lens.focal_px > _MOST_MOVE_PX)

    def _render(self, t_ns: int) -> Pixels:
        self._rendered += 1
        if self._world.street is not None and self.rig_from_camera is not None:
            return self._world.street.see(self._lens, self._world.time_s(t_ns), self.rig_from_camera)[0]
        scene = self._world.scene
        image_from_plane = self._lens.image_from_plane(self._camera_from_rig(t_ns), self._world.range_m)
        return scene.render(image_from_plane, self.width, self.height, False, self._world.time_s(t_ns))

    def _camera_from_rig(self, t_ns: int) -> NDArray[np.float64]:
        if self._mirror is None:
            assert self.rig_from_camera is not None
            return invert(self.rig_from_camera)
        assert self._mirror.geometry is not None
        return self._mirror.geometry.camera_from_rig(self._mirror.true_angle(t_ns / 1e9))
