"""An emulated DAC board on a pseudo terminal: a mirror and a laser, with their twins behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

import numpy as np

from foveate.errors import DeviceError
from foveate_drivers import dac_protocol as protocol
from foveate_drivers.emulators.board import MirrorBoard
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.lasers.sim import SimLaser
from foveate_drivers.mirrors.base import Angles
from foveate_drivers.mirrors.sim import SimMirror

_FULL_RAD = 0.349066  # 20 degrees
_MEMORY = 256  # points of a waveform
_LOGGED = 1000
_STILL_RAD = 5e-5  # in a millisecond


class DacEmulator(MirrorBoard):
    """Speaks `dac_protocol`; `strobe` is the camera's exposure that has ended, `laser.interlock` the door.

    Where a simulated camera looks through the twin, its exposures strobe by themselves.

    `log` holds the last 1000 commanded angles as (ns, x, y in radians), `largest` the farthest of all, `accepted`
    their number, `triggers` when the camera was released, `light` the last 1000 commands to the laser as (ns, power);
    nanoseconds of the emulator's clock.
    """

    name = "dac"

    def __init__(
        self, *, mirror: SimMirror | None = None, link: Path | None = None, faults: FaultPlan | None = None,
        sensor: bool = True,
    ) -> None:  # fmt: skip
        """`sensor`: the board measures where the mirror is."""
        super().__init__(mirror or SimMirror(scanner="galvo5", limit=0.35, rate=1e6), link, faults)
        self.laser = SimLaser()
        self.laser.uri = "sim:dac"
        self.log: deque[tuple[int, float, float]] = deque(maxlen=_LOGGED)
        self.triggers: deque[int] = deque(maxlen=_LOGGED)
        self.light: deque[tuple[int, float]] = deque(maxlen=_LOGGED)
        self.largest = 0.0
        self._sensor = sensor
        self._data = b""

    def _power_on(self) -> None:
        self.laser.open(self.clock)
        self._reset()

    def stop(self) -> None:
        super().stop()
        self.laser.close()

    def _reset(self) -> None:
        """As after power on."""
        self.mirror.set("deadline", 0.1)
        self.laser.set("deadline", 0.1)
        self._code = np.zeros(2, int)
        self._waiting: Angles | None = None
        self._begun_ns = self.clock.now_ns()
        self._stopped = False
        self._wave: list[tuple[int, Angles]] = []

    def strobe(self) -> None:
        """An exposure has ended: what waits for that begins now."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            self._go(waiting)

    def _heard(self, data: bytes) -> None:
        *raws, self._data = (self._data + data).split(b"\n")
        self._data = self._data[-protocol.LONGEST :]
        for raw in raws:
            if raw.strip():
                self._asked += 1
                self._send(self._reply(raw))

    def _reply(self, raw: bytes) -> bytes:
        line = protocol.parse(raw)
        if line is None or not line.words:
            self._refused += 1
            return protocol.line(0, "err", 1, "crc")
        word, *texts = line.words
        try:
            if self.faults.hits(self.faults.nak):
                raise _Refused(9)
            act = self._acts().get(word)
            if act is None:
                raise _Refused(2)
            return protocol.line(line.seq, "ok", *act(texts))
        except _Refused as refused:
            code = refused.code
        except (ValueError, IndexError):
            code = 3
        except DeviceError:
            code = protocol.RANGE
        self._refused += 1
        return protocol.line(line.seq, "err", code, protocol.ERRORS[code])

    def _acts(self) -> dict[str, Callable[[list[str]], tuple[object, ...]]]:
        return {
            "hello": self._hello, "move": self._do_move, "pos": self._do_position, "wave": self._do_wave,
            "go": self._do_go, "park": self._do_park, "stop": self._do_stop, "clear": self._do_clear,
            "watch": self._do_watch, "laser": self._do_laser, "state": self._do_state,
        }  # fmt: skip

    @staticmethod
    def _hello(texts: list[str]) -> tuple[object, ...]:
        full_urad = round(_FULL_RAD * 1e6)
        return protocol.VERSION, 2, 1, 1, 1, full_urad, full_urad, "emulated"

    def _codes(self, texts: list[str]) -> Angles:
        if self._stopped:
            raise _Refused(protocol.STOP)
        codes = np.array([int(text) for text in texts[:2]])
        if len(codes) != 2:
            raise _Refused(3)
        if np.abs(codes).max() > protocol.FULL:
            raise _Refused(protocol.RANGE)
        return codes * (_FULL_RAD / protocol.FULL)

    def _do_move(self, texts: list[str]) -> tuple[object, ...]:
        angle = self._codes(texts)
        when, trigger_us = texts[2], int(texts[3])
        if when not in ("now", "strobe") or trigger_us < 0:
            raise _Refused(3)
        self._note(angle)
        self._waiting = None
        if when == "strobe" and self.mirror.exposure_end_ns is not None:  # a simulated camera looks through it
            self._begun_ns = self.mirror.exposure_end_ns(self.clock.now_ns())
            self.mirror.goto(angle, self._begun_ns)
        elif when == "strobe":
            self._waiting = angle
        else:
            self._go(angle)
        if trigger_us and when == "now":
            self.triggers.append(self.clock.now_ns() + trigger_us * 1000)
        return tuple(int(text) for text in texts[:2])

    def _note(self, angle: Angles) -> None:
        self.log.append((self.clock.now_ns(), float(angle[0]), float(angle[1])))
        self.largest = max(self.largest, float(np.abs(angle).max()))
        self.accepted += 1

    def _go(self, angle: Angles) -> None:
        self.mirror.goto(angle)
        self._begun_ns = self.clock.now_ns()

    def _do_position(self, texts: list[str]) -> tuple[object, ...]:
        codes = np.round(self.mirror.position().angle_rad * (protocol.FULL / _FULL_RAD)).astype(int)
        age_us = (self.clock.now_ns() - self._begun_ns) // 1000
        now_s = self.clock.now_ns() / 1e9
        drift = np.abs(self.mirror.true_angle(now_s) - self.mirror.true_angle(now_s - 1e-3)).max()
        state = (
            protocol.SETTLED * (self.mirror.settled() and bool(drift < _STILL_RAD))
            | protocol.WAITING * (self._waiting is not None or age_us < 0)
            | protocol.MEASURED * self._sensor
        )
        return int(codes[0]), int(codes[1]), state, max(age_us, 0)

    def _do_wave(self, texts: list[str]) -> tuple[object, ...]:
        if texts == ["clear"]:
            self._wave = []
            return (_MEMORY,)
        angle, at_us = self._codes(texts[1:]), int(texts[0])
        if self._wave and self._wave[-1][0] == at_us:
            self._wave.pop()  # the same again, for its reply was lost
        if at_us <= (self._wave[-1][0] if self._wave else 0) or len(self._wave) >= _MEMORY:
            raise _Refused(5 if len(self._wave) >= _MEMORY else protocol.RANGE)
        self._wave.append((at_us, angle))
        self._note(angle)
        return (_MEMORY - len(self._wave),)

    def _do_go(self, texts: list[str]) -> tuple[object, ...]:
        if self._stopped:
            raise _Refused(protocol.STOP)
        if self._wave:
            wave, self._wave = self._wave, []
            self.mirror.stream([at_us / 1e6 for at_us, _ in wave], np.array([angle for _, angle in wave]))
            self._begun_ns = self.clock.now_ns()
        return ()

    def _do_park(self, texts: list[str]) -> tuple[object, ...]:
        self._waiting = None
        self.mirror.park()
        self._begun_ns = self.clock.now_ns()
        return ()

    def _do_stop(self, texts: list[str]) -> tuple[object, ...]:
        self._stopped = True
        self.laser.off()
        return self._do_park(texts)

    def _do_clear(self, texts: list[str]) -> tuple[object, ...]:
        self._stopped = False
        return ()

    def _do_watch(self, texts: list[str]) -> tuple[object, ...]:
        kind, ms = texts[0], int(texts[1])
        if not 0 <= ms <= 60_000 or kind not in ("mirror", "laser"):
            raise _Refused(protocol.RANGE)
        device = self.mirror if kind == "mirror" else self.laser
        device.set("deadline", max(ms / 1e3, 0.0 if kind == "mirror" else 0.001))
        return (ms,)

    def _do_laser(self, texts: list[str]) -> tuple[object, ...]:
        power = int(texts[0])
        self.laser.off()
        if not 0 <= power <= protocol.FULL_POWER:
            raise _Refused(protocol.RANGE)
        if power and self._stopped:
            raise _Refused(protocol.STOP)
        if power and (self.laser.interlock or self._hot()):
            raise _Refused(protocol.LOCKED if self.laser.interlock else 9)
        self.laser.emit(power / protocol.FULL_POWER)
        self.light.append((self.clock.now_ns(), power / protocol.FULL_POWER))
        return power, int(power > 0), self._faults()

    def _hot(self) -> bool:
        return self.faults.temperature_c is not None and self.faults.temperature_c >= 70

    def _faults(self) -> int:
        return (
            protocol.INTERLOCK * bool(self.laser.interlock)
            | protocol.STOPPED * self._stopped
            | protocol.HOT * self._hot()
        )

    def _do_state(self, texts: list[str]) -> tuple[object, ...]:
        state = self.laser.state()
        tenths = round((self.faults.temperature_c or 30.0) * 10)
        return round(state.power * protocol.FULL_POWER), int(state.emitting), self._faults(), tenths


class _Refused(Exception):
    """The board refuses with an error code."""

    def __init__(self, code: int) -> None:
        self.code = code
        super().__init__(protocol.ERRORS[code])
