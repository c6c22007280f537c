"""An Ether Dream laser DAC as the source of a galvanometer's position (`etherdream:HOST`, `etherdream:HOST:PORT`).

The DAC plays points from a ring; it is kept a few milliseconds full, with the same point again while the mirror stands
still. What parks the mirror, and when (dac.c of the firmware: a stop of any kind puts out 0 V on all channels):

- nobody calls `goto` for `deadline`: the feeder plays the way to rest; it is under way before 100 ms are over;
- the process is killed, stopped, or holds the interpreter's lock: nobody feeds, the ring runs dry after `ring` seconds
  at most, and the DAC stops, which parks; no process need watch over it;
- the cable is pulled or the connection ends: the same;
- the DAC loses power: its outputs are no longer driven, and the mirror is in the hands of its amplifier.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.clock import Clock, process_ns
from foveate.device import DeviceInfo
from foveate.errors import Busy, DataLoss, FoveateError, Interlock, OutOfRange, ProtocolError, StateError
from foveate.messages import MirrorState, Stamp
from foveate.node import Unit
from foveate_calibration.two_mirror import TwoMirror
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.mirrors import etherdream_protocol as wire
from foveate_drivers.mirrors.base import Angles, Mirror
from foveate_drivers.mirrors.dynamics import CLASSES, SettleTable
from foveate_drivers.mirrors.etherdream_link import Link, announced
from foveate_drivers.mirrors.guard import Guard
from foveate_drivers.mirrors.point_path import PlayClock, PlayedMoves, PointPath

_TICK_S = 0.0005
# Python's default lets a busy thread keep the feeder waiting 5 ms, three times for each packet: the ring ran dry even
# with 30 ms. With 0.1 ms, as live runs have it, 8 ms held against one such thread.
_SWITCH_S = 1e-4
_POLL_S = 0.01  # while the DAC is stopped
_MOST_REFUSALS = 20  # one after the other
_REST_WAIT_S = 0.5  # at most, for the mirror to come to rest on close


@cache
def _settling(scanner: str, tolerance_rad: float, largest_rad: float) -> SettleTable:
    return SettleTable(CLASSES[scanner], tolerance_rad, largest_rad)  # takes 0.1 s


class EtherDreamMirror(Mirror):
    """Two axes on the X and Y outputs of an Ether Dream; the light outputs stay at zero.

    `reading` is of a model of the mirror moved by the points that were played: the DAC measures nothing.
    """

    def __init__(
        self,
        *,
        address: str,
        full_scale: Annotated[float, Unit("rad"), Gt(0), Le(0.6)] = 0.26,
        limit: Annotated[float, Unit("rad"), Gt(0), Le(0.5)] = 0.24,
        scanner: Literal["galvo5", "galvo10", "saccade30", "voicecoil15"] = "saccade30",
        move: Literal["profile", "step"] = "profile",
        points: Annotated[int, Unit("Hz"), Ge(1000), Le(wire.MOST_RATE)] = 30_000,
        ring: Annotated[float, Unit("s"), Ge(0.0005), Le(0.05)] = 0.008,
        delay: Annotated[float, Unit("s"), Ge(0), Le(0.1)] = 100e-6,
        tolerance: Annotated[float, Unit("rad"), Gt(0)] = 25e-6,
        deadline: Annotated[float, Unit("s"), Ge(0), Le(60)] = 0.09,
        rate: Annotated[float, Unit("Hz"), Gt(0)] = 1000.0,
        duty: Annotated[float, Gt(0), Le(1)] = 1.0,
        timeout: Annotated[float, Unit("s"), Gt(0), Le(5)] = 0.04,
        spacing: Annotated[float, Unit("m"), Gt(0)] = 0.045,
        camera_distance: Annotated[float, Unit("m"), Gt(0)] = 0.08,
    ) -> None:
        """`full_scale`: mechanical angle at 32767 of the DAC; `points`: played a second; `ring`: seconds of them ahead.

        `move`: points along the fastest profile that the scanner can follow, or one step, for amplifiers that limit
        it themselves; `delay`: from the DAC's output to the mirror; `timeout`: for an answer, then it is gone.
        """
        if limit > full_scale:
            raise OutOfRange(f"etherdream:{address}", "option 'limit'", limit, 0, full_scale, "rad")
        self._address = address
        self._full_scale = full_scale
        self.limit_rad = np.array([limit, limit])
        self.tolerance_rad = tolerance
        self.deadline_s = deadline
        self.geometry = TwoMirror(spacing, camera_distance)
        self._dynamics = [CLASSES[scanner]] * 2
        self._settle = _settling(scanner, tolerance, 2 * limit)
        self._in_steps = move == "step"
        self._points = points
        self._ahead = max(2, round(ring * points))
        self._delay_ns = round(delay * 1e9)
        self._bounds = (rate, duty)
        self._timeout_s = timeout
        self._link: Link | None = None
        self._clock: Clock | None = None
        self._thread: threading.Thread | None = None
        self._stopping = threading.Event()
        # Of the path and the wire, held by the feeder. A thread that commands without a pause would starve it of a
        # lock, so commands do not take it: they go to the feeder through `_inbox`.
        self._lock = threading.RLock()
        self._inbox: deque[Callable[[], None]] = deque()
        self._reset()

    def _reset(self) -> None:
        self._guard = Guard(self.uri, self.limit_rad, self._dynamics, rate_hz=self._bounds[0], duty=self._bounds[1])
        self._moves = PlayedMoves(self._dynamics, self.tolerance_rad)
        self._path = PointPath(self._dynamics, in_steps=self._in_steps)
        self._inbox.clear()
        self._counts: Counter[str] = Counter(points=0, underruns=0, refused=0, full=0)
        self._failure: FoveateError | None = None
        self._loss: DataLoss | None = None
        self._played = PlayClock(self._points)
        self._refusals = 0
        self._status = wire.Status()

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """DACs that announced themselves within 1.2 s."""
        heard = announced(1.2).items()
        return [DeviceInfo(f"etherdream:{host}", "Ether Dream", "Ether Dream", it.mac.hex(":")) for host, it in heard]

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "Ether Dream", "Ether Dream")

    def open(self, clock: Clock) -> None:
        if self._link is not None:
            raise StateError(self.uri, "open", "it is open already")
        self._reset()
        self._link = Link(self.uri, self._address, self._timeout_s)
        try:
            self._status = self._link.greeting.status
            if self._status.playback_state == wire.PLAYING:
                raise Busy(self.uri, "open", "it plays somebody else's points")
            if self._status.light_engine_state == wire.LIGHT_ESTOP:
                self._guard.stopped = True  # for `clear` to end
            else:
                self._restart()
        except BaseException:
            self._link.close()
            self._link = None
            raise
        self._clock = clock
        self._stopping.clear()
        self._switch_s = sys.getswitchinterval()
        sys.setswitchinterval(min(self._switch_s, _SWITCH_S))
        self._thread = threading.Thread(target=self._feed, name=f"points for {self.uri}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Play the way to rest, then stop the DAC and hang up."""
        link, clock = self._link, self._clock
        if link is None:
            return
        if self._failure is None and clock is not None and not self._dac_stopped:
            self._inbox.append(partial(self._path.goto, np.zeros(2), process_ns(), None))
            end_ns = process_ns() + round(_REST_WAIT_S * 1e9)
            while self._failure is None and process_ns() < end_ns and not self._at_rest():
                self._stopping.wait(0.001)
        self._stopping.set()
        if self._thread is not None:
            self._thread.join(2.0)
            self._thread = None
            sys.setswitchinterval(self._switch_s)
        if self._failure is None:
            try:
                link.exchange(bytes([wire.STOP]))
            except FoveateError:
                pass
        link.close()
        self._link = self._clock = None

    def goto(self, angle_rad: Angles, not_before_ns: int = 0) -> MirrorState:
        clock = self._ready("move")
        now_ns = clock.now_ns()
        angle = self._guard.admit(angle_rad, now_ns)
        begin_ns = process_ns() + max(not_before_ns - now_ns, 0)
        self._command(partial(self._path.goto, angle, begin_ns, self._park_ns(begin_ns)))
        return MirrorState(Stamp(now_ns), angle, True, "command")

    def stream(self, times_s: Sequence[float], angle_rad: NDArray[np.float64]) -> None:
        clock = self._ready("stream a waveform")
        places = np.array([self._guard.checked(place) for place in np.atleast_2d(angle_rad)]).reshape(-1, self.axes)
        times = np.asarray(times_s, np.float64)
        if len(times) == 0 or times.shape != (len(places),):
            raise OutOfRange(self.uri, "waveform times", f"{len(times)} numbers", len(places), len(places))
        if not (np.isfinite(times).all() and times[0] >= 0 and times[-1] <= 3600 and (np.diff(times) > 0).all()):
            raise OutOfRange(self.uri, "waveform times", "numbers that do not grow", 0, 3600, "s")
        speed = np.abs(np.diff(places, axis=0)) / np.diff(times)[:, None]
        most = self._dynamics[0].velocity_rad_s
        if speed.size and speed.max() > most:
            raise OutOfRange(self.uri, "waveform speed", float(speed.max()), 0, most, "rad/s")
        self._guard.admit(places[0], clock.now_ns())
        begin_ns = process_ns() + self._ahead_ns  # points before this are on their way
        times_ns = begin_ns + np.rint(times * 1e9).astype(np.int64)
        self._command(partial(self._path.follow, times_ns, places, begin_ns, self._park_ns(int(times_ns[-1]))))

    def _command(self, begin: Callable[[], None]) -> None:
        """Hand it to the feeder, which passes over what an emergency stop overtook."""
        self._inbox.append(lambda: None if self._guard.stopped else begin())

    def park(self) -> None:
        self._ready("park")
        self._inbox.append(partial(self._path.goto, np.zeros(2), process_ns(), None))

    def estop(self) -> None:
        """Play the way to rest and refuse commands; the DAC's own stop would put 0 V on the mirror at once."""
        self._guard.stopped = True
        self.park()

    def clear(self) -> None:
        self._ready("clear", stopped=True)
        assert self._link is not None
        with self._lock:
            if self._dac_stopped:
                self._status = self._link.exchange(bytes([wire.CLEAR])).status
                if self._dac_stopped:
                    raise Interlock(self.uri, "clear", f"its light engine is {self._light()}")
                self._path.reset(process_ns())
                self._restart()
            self._guard.stopped = False

    def _park_ns(self, from_ns: int) -> int | None:
        return from_ns + round(self.deadline_s * 1e9) if self.deadline_s > 0 else None

    def reading(self, t_ns: int, exposure_ns: int) -> MirrorState:
        clock = self._ready("read", stopped=True)
        offset_ns = process_ns() - clock.now_ns()  # the model lives in process time, as the feeder does
        state = self._moves.at(t_ns + offset_ns - self._delay_ns, exposure_ns)
        return MirrorState(Stamp(t_ns, exposure_ns), state.angle_rad, state.moved, state.source)

    def position(self) -> MirrorState:
        return self.reading(self._ready("read", stopped=True).now_ns(), 0)

    def settle_s(self, step_rad: Angles) -> Angles:
        """With the points that are played before a move that is to begin at once."""
        return self._settle(step_rad) + (self._ahead_ns + self._delay_ns) / 1e9 + 2 * _TICK_S

    def settled(self) -> bool:
        self._ready("read", stopped=True)
        return self._at_rest()

    def _at_rest(self) -> bool:
        with self._lock:
            now_ns = process_ns()
            return not self._inbox and not self._path.waiting(now_ns) and self._moves.settled(now_ns - self._delay_ns)

    def capabilities(self) -> Mapping[str, Capability]:
        return {
            "limit": Capability("limit", "rad", writable=False),
            "deadline": Capability("deadline", "s", 0.0, 60.0),
            "points": Capability("points", "Hz", writable=False),
            "age": Capability("age", "s", 0.0, 0.1, writable=False),  # of a position between here and the output
        }

    def _read(self, name: str) -> Value:
        self._ready(f"get {name}", stopped=True)
        age_s = self._status.fullness / self._points
        values = {"limit": self.limit_rad[0], "deadline": self.deadline_s, "points": self._points, "age": age_s}
        return float(values[name])

    def _write(self, name: str, value: Value) -> None:
        self._ready(f"set {name}", stopped=True)
        self.deadline_s = float(value)

    def health(self) -> Health:
        counters = dict(self._counts) | {"commands refused": self._guard.refused}
        if self._failure is not None:
            return Health("lost", str(self._failure), counters)
        detail = f"light engine {self._light()}, playback flags {self._status.playback_flags:#x}"
        return Health("degraded" if self._guard.stopped else "ok", detail if self._guard.stopped else "", counters)

    def _light(self) -> str:
        return wire.STATE_NAMES[self._status.light_engine_state]

    def _ready(self, operation: str, stopped: bool = False) -> Clock:
        """The clock of an open mirror. Raises StateError, what the feeder met, and once what was lost."""
        if self._link is None or self._clock is None:
            raise StateError(self.uri, operation, "it is not open")
        if self._failure is not None:
            raise type(self._failure)(self.uri, operation, getattr(self._failure, "hint", str(self._failure)))
        if not stopped and self._dac_stopped:
            raise Interlock(self.uri, operation, f"its light engine is {self._light()}; clear it first")
        if not stopped and self._loss is not None:
            loss, self._loss = self._loss, None
            raise loss
        return self._clock

    @property
    def _dac_stopped(self) -> bool:
        return self._status.light_engine_state != wire.READY

    @property
    def _ahead_ns(self) -> int:
        return round(self._ahead * 1e9 / self._points)

    def _feed(self) -> None:
        try:
            while not self._stopping.wait(_POLL_S if self._dac_stopped else _TICK_S):
                with self._lock:
                    self._top_up()
        except FoveateError as error:
            self._failure = error
        except Exception as error:
            self._failure = ProtocolError(self.uri, "feed points", f"{type(error).__name__}: {error}")

    def _top_up(self) -> None:
        assert self._link is not None
        if self._dac_stopped:
            self._heard(self._link.exchange(bytes([wire.PING])))
            return
        missing = self._ahead - self._played.waiting()
        if missing > 0:
            self._heard(self._link.exchange(self._block(min(missing, self._ahead))))

    def _block(self, count: int) -> bytes:
        """The next points as a command; tells the model what begins with them."""
        while self._inbox:
            self._inbox[0]()
            self._inbox.popleft()
        times_ns = self._played.times_of_next(count)
        places = self._path.at(times_ns)
        for what, t_ns, target in self._path.begun:
            self._moves.plan(target, max(t_ns, int(times_ns[0])))
            if what == "park":
                self._guard.parked()
                self._counts["parked by silence"] += 1
        self._path.begun.clear()
        x, y = wire.counts(places, self._full_scale).T
        return wire.data(x, y)

    def _heard(self, response: wire.Response) -> None:
        """Follow the DAC's clock, and what went wrong."""
        before, self._status = self._status, response.status
        status = response.status
        if status.light_engine_state != wire.READY:
            if before.light_engine_state == wire.READY:
                self._at_zero()
            self._guard.stopped = True
            return
        if before.light_engine_state != wire.READY:
            self._status = before  # it is well again, but nothing moves before `clear`
            return
        if status.playback_state != wire.PLAYING:
            self._ran_dry()
            return
        if response.command == wire.DATA and response.answer != wire.ACK:
            self._counts["full" if response.answer == wire.FULL else "refused"] += 1
            self._refusals += 1
            if self._refusals > _MOST_REFUSALS:
                raise ProtocolError(self.uri, "feed points", f"it refused {self._refusals} packets in a row")
        else:
            self._refusals = 0
        self._counts["points"] += self._played.follow(status.point_count, status.fullness)

    def _ran_dry(self) -> None:
        self._counts["underruns"] += 1
        if self._inbox or self._path.waiting(process_ns()) or self._moves.away:
            why = "the ring ran dry and the mirror went to rest; feed it in time, or raise option 'ring'"
            self._loss = DataLoss(self.uri, "hold the mirror", why)
        self._at_zero()
        self._restart()

    def _at_zero(self) -> None:
        """The DAC stopped: 0 V, wherever the mirror was."""
        now_ns = process_ns()
        self._inbox.clear()
        self._path.reset(now_ns)
        self._moves.stop(now_ns)
        self._guard.parked()

    def _restart(self) -> None:
        """Prepare the DAC, fill its ring and play."""
        assert self._link is not None
        link = self._link
        for _ in range(_MOST_REFUSALS):
            if link.exchange(bytes([wire.PREPARE])).answer != wire.ACK:
                link.exchange(bytes([wire.STOP]))  # it may be prepared already
                continue
            self._played = PlayClock(self._points)
            filled = link.exchange(self._block(self._ahead))
            answer = link.exchange(wire.begin(self._points))
            self._status = answer.status
            if filled.answer == answer.answer == wire.ACK and self._status.playback_state == wire.PLAYING:
                self._played.follow(self._status.point_count, self._status.fullness)
                return
            if self._status.light_engine_state != wire.READY:
                break
        raise ProtocolError(self.uri, "play", f"it does not start; its light engine is {self._light()}")
