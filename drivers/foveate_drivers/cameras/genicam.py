"""What all GenICam cameras share, whatever carries their bytes: settings, frames, times and counts."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from foveate.clock import Clock, process_ns
from foveate.errors import DeviceError, NotSupported, ProtocolError, StateError, Timeout
from foveate.messages import Frame
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.rigid import transform
from foveate_drivers.adjustable import Capability, Health, Value
from foveate_drivers.cameras.base import Camera
from foveate_drivers.cameras.frame_ids import FrameIds
from foveate_drivers.cameras.frame_times import FrameTimes, Reading
from foveate_drivers.cameras.genicam_names import GenicamSettings, Nodes
from foveate_drivers.cameras.pixels import Decoder, name_of

_SLICE_NS = 50_000_000  # after which a wait looks whether the camera was closed or died
_LOOK_NS = 10_000_000_000  # between looks at the temperature, and at an exposure that the camera controls itself


@dataclass(frozen=True, slots=True)
class Block:
    """What a transport delivers as one frame."""

    wire_id: int  # as sent
    device_ns: int  # on the camera's clock; 0 = it gives none
    wall_ns: int  # Unix time at which its first packet came; 0 = not known
    data: NDArray[np.uint8]  # (n,), as sent; holds its buffer
    missing_bytes: int
    width: int  # px, as the frame itself says; 0 = it does not
    height: int
    pixel_format: int  # PFNC code; 0 = it does not say
    whole: bool = True  # all packets came, those around the image too
    borrowed: bool = False  # the data are overwritten when the next block is taken


@dataclass(slots=True)
class Agreed:
    """What the camera said its frames would be when the stream was started."""

    width: int
    height: int
    code: int
    decoder: Decoder
    own_exposure: bool  # the camera controls its exposure itself


class GenicamCamera(Camera):
    """A camera that is a tree of nodes and a stream of blocks; a transport adds how to reach both.

    The device's time is that of the start of the exposure, as SFNC has it (ChunkTimestamp); with
    `stamped: exposure_end` that of its end.
    """

    _id_modulus = 65535
    _remedy = ""  # for incomplete frames

    def __init__(
        self, wanted: Mapping[str, Value | None], trigger: str | None, field: float | None, offset: float, buffers: int,
        keep_bits: bool, incomplete: str, stamped: Literal["exposure_start", "exposure_end"],
    ) -> None:  # fmt: skip
        self._wanted = dict(wanted)
        self._wanted_trigger = trigger
        self._field = field
        self._buffers = buffers
        self._keep_bits = keep_bits
        self._keep_incomplete = incomplete == "keep"
        self._stamped = stamped
        rate, width, height = (wanted.get(name) for name in ("rate", "width", "height"))
        if rate is not None and trigger in (None, "off"):
            self.period_ns = round(1e9 / float(rate))
        if field is not None and width is not None and height is not None:
            self.pinhole = Pinhole.from_field(int(width), int(height), field)
        self.rig_from_camera = transform(np.eye(3), np.array([offset, 0.0, 0.0]))
        self._clock: Clock | None = None
        self._turn = threading.Lock()  # held while a block is waited for, so that `close` does not pull it away
        self._settings: GenicamSettings | None = None
        self._nodes: Nodes | None = None
        self._agreed: Agreed | None = None  # while frames flow
        self._trigger = "off"
        self._lost_why = ""
        self._temperature_c: float | None = None
        self._forget()

    def _forget(self) -> None:
        self._ids: FrameIds | None = None
        self._shift = 0  # numbers of this stream to those given out, which go on through a stop
        self._last_wire = self._last_seq = self._gap = 0
        self._times = FrameTimes(self._stamped == "exposure_end")
        self._gain_db = 0.0
        self._looked_ns = process_ns()
        self._counts = dict.fromkeys(("received", "lost", "incomplete", "repeated"), 0)

    # what a transport adds

    def _begin(self, agreed: Agreed) -> None:
        """Start the stream of blocks."""
        raise NotImplementedError

    def _end(self) -> None:
        """Stop the stream of blocks."""
        raise NotImplementedError

    def _pop(self, timeout_ns: int) -> Block | None:
        """The oldest block; None after the timeout."""
        raise NotImplementedError

    def _check_alive(self, silent_ns: int) -> None:
        """Called again and again while no block comes. Raises Disconnected."""

    # opening

    def _ready(self, clock: Clock, nodes: Nodes) -> None:
        """Configure an open camera as was wanted; what is not given stays as it is, but for the trigger."""
        self._forget()
        self._lost_why = ""
        self._nodes = nodes
        self._settings = GenicamSettings(self.uri, nodes)
        self._clock = clock
        known = self._settings
        for size, offset in (("width", "offset_x"), ("height", "offset_y")):
            if self._wanted.get(size) is not None and offset in known:
                known.write(offset, 0)  # the size's upper bound is what the offset leaves
        self._take(["encoding", "width", "height", "offset_x", "offset_y"])
        exposure = self._wanted.get("exposure")
        fits = exposure is None or float(exposure) <= (self._capability("exposure", "open").hi or 0.0)
        self._take([*(["exposure", "rate"] if fits else ["rate", "exposure"]), "gain"])  # each bounds the other
        trigger = self._wanted_trigger or "off"
        if "trigger" in known:
            self.set("trigger", trigger)
        elif trigger != "off":
            raise NotSupported(self.uri, f"set trigger to {trigger}", "the camera cannot be triggered")
        self._note_exposure()
        self._note_rate()
        if self._field is not None and "width" in known and "height" in known:
            self.pinhole = Pinhole.from_field(int(known.read("width")), int(known.read("height")), self._field)

    def _take(self, names: list[str]) -> None:
        """Configure what is wanted of these, but for what the camera has anyway and cannot change."""
        wanted = {name: self._wanted[name] for name in names if self._wanted.get(name) is not None}
        for name in list(wanted):
            if not self._capability(name, "open").writable and self._read(name) == wanted[name]:
                del wanted[name]
        self.configure(wanted)

    def _note_exposure(self) -> None:
        known = self._known_settings
        if "exposure" in known:
            self._times.exposed(round(float(known.read("exposure")) * 1e9))
        if "gain" in known:
            self._gain_db = float(known.read("gain"))
        if "temperature" in known:
            self._temperature_c = float(known.read("temperature"))

    def _note_rate(self) -> None:
        known = self._known_settings
        self._trigger = str(known.read("trigger")) if "trigger" in known else "off"
        rate = float(known.read("rate")) if "rate" in known and self._trigger == "off" else 0.0
        self.period_ns = round(1e9 / rate) if rate > 0 else None

    @property
    def _known_settings(self) -> GenicamSettings:
        if self._settings is None or self._clock is None:
            raise StateError(self.uri, "use a setting", "it is not open")
        return self._settings

    # settings

    def capabilities(self) -> Mapping[str, Capability]:
        return self._known_settings.all()

    def _capability(self, name: str, operation: str) -> Capability:
        return self._known_settings.capability(name)  # only this one: each bound is a question on the wire

    def _read(self, name: str) -> Value:
        return self._known_settings.read(name)

    def _write(self, name: str, value: Value) -> None:
        self._known_settings.write(name, value)
        if name in ("exposure", "gain", "rate", "trigger"):
            self._note_exposure()
            self._note_rate()

    def health(self) -> Health:
        counts = dict(self._counts)
        if self._lost_why:
            return Health("lost", self._lost_why, counts, self._temperature_c)
        if counts["incomplete"] > 0.01 * counts["received"] + 3:
            detail = f"{counts['incomplete']} frames came incomplete, {counts['received']} whole{self._remedy}"
            return Health("degraded", detail, counts, self._temperature_c)
        return Health("ok", "", counts, self._temperature_c)

    # streaming

    @property
    def streaming(self) -> bool:
        return self._agreed is not None

    def start(self) -> None:
        clock = self._running("start")
        if self._agreed is not None:
            return
        known, nodes = self._known_settings, self._nodes
        assert nodes is not None
        name = str(known.read("encoding"))
        auto = bool(nodes.kind("ExposureAuto")) and nodes.get("ExposureAuto") != "Off"
        agreed = Agreed(int(known.read("width")), int(known.read("height")), nodes.code("PixelFormat"),
                        Decoder(self.uri, name, self._keep_bits), auto)  # fmt: skip
        self._note_exposure()
        self._begin(agreed)
        self._ids = None
        self._agreed = agreed
        self._heard_ns = process_ns()
        self._look(self._heard_ns, clock)

    def stop(self) -> None:
        with self._turn:
            if self._agreed is not None:
                self._agreed = None
                self._end()

    def trigger(self) -> None:
        if self._trigger != "software":
            super().trigger()
        assert self._nodes is not None
        self._nodes.set("TriggerSoftware", True)

    def read(self, timeout_s: float) -> Frame:
        self.start()
        end_ns = process_ns() + round(max(timeout_s, 0.0) * 1e9)
        while True:
            with self._turn:
                clock = self._running()
                if self._agreed is None:
                    raise StateError(self.uri, "read", "it was stopped by another thread")
                block = self._pop(max(min(_SLICE_NS, end_ns - process_ns()), 0))
                frame = self._frame(block, clock) if block is not None else None
                now_ns = process_ns()
                if frame is not None:
                    self._look(now_ns, clock)  # it asks the camera, which `close` must not pull away meanwhile
                    return frame
            if block is not None:
                continue
            self._check_alive(now_ns - self._heard_ns)
            if now_ns >= end_ns:
                raise Timeout(self.uri, "read", self._why_nothing(timeout_s))

    def _why_nothing(self, timeout_s: float) -> str:
        why = f"no frame within {timeout_s:g} s"
        if self._trigger != "off":
            why += f", trigger is '{self._trigger}'"
        elif self._counts["incomplete"]:
            why += f", {self._counts['incomplete']} came incomplete"
        return why

    def _clock_reading(self, clock: Clock) -> Reading | None:
        """The camera's clock, asked now; None where it cannot be."""
        return None

    def _look(self, now_ns: int, clock: Clock) -> None:
        """Now and then, right after a frame: what the camera changes by itself, and its clock."""
        try:
            self._times.compare(self._clock_reading, clock)
            own = self._agreed is None or self._agreed.own_exposure
            if now_ns - self._looked_ns > (_LOOK_NS // 20 if own else _LOOK_NS):
                self._looked_ns = now_ns
                self._note_exposure()
        except DeviceError:
            pass  # the next read that fails says more

    # from blocks to frames

    def _frame(self, block: Block, clock: Clock) -> Frame | None:
        """The frame in a block; None where it is to be passed over."""
        agreed = self._agreed
        assert agreed is not None
        self._heard_ns = process_ns()
        if self._is_headless(block):
            return None
        seq, lost = self._number(block.wire_id)
        self._counts["lost"] += lost
        received_ns, stamp, epoch = self._times.of(block.device_ns, block.wall_ns, clock, self.period_ns)
        if block.missing_bytes:
            self._counts["incomplete"] += 1
            if not self._keep_incomplete:
                self._gap += lost + 1
                return None
        else:
            self._counts["received"] += 1
        self._hold_to_what_was_agreed(block, agreed)
        image = agreed.decoder(block.data, agreed.width, agreed.height)
        if block.borrowed and agreed.decoder.is_view:
            image = image.copy()
        frame = Frame(
            stamp, image, agreed.decoder.encoding, seq, lost + self._gap, missing_bytes=block.missing_bytes,
            device_ns=block.device_ns, epoch=epoch, received_ns=received_ns, gain_db=self._gain_db,
        )  # fmt: skip
        self._gap = 0
        return frame

    def _is_headless(self, block: Block) -> bool:
        """Whether the block is a frame whose first packet was lost, or one that was given before.

        The first packet brings number and time: without it the buffer still says 0, or what its last frame was. Such
        a frame counts as lost, by the gap it leaves. A whole block with an older number: the camera counts anew.
        """
        if not block.whole and block.wire_id == 0:
            return True
        if self._ids is None:
            return False
        ahead = (block.wire_id - self._last_wire) % self._id_modulus
        if 0 < ahead <= self._id_modulus // 2:
            return False
        if ahead == 0 and block.whole:
            self._counts["repeated"] += 1
        elif block.whole:
            self._ids = None
            return False
        return True

    def _number(self, wire_id: int) -> tuple[int, int]:
        if self._ids is None:  # a new stream counts from anywhere; what was given out goes on
            self._ids = FrameIds(self._id_modulus)
            seq, lost = self._ids.unwrap(wire_id)
            self._shift = self._last_seq + 1 - seq if self._last_seq else 0
        else:
            seq, lost = self._ids.unwrap(wire_id)
        self._last_wire, self._last_seq = wire_id, seq + self._shift
        return self._last_seq, lost

    def _hold_to_what_was_agreed(self, block: Block, agreed: Agreed) -> None:
        """Raises ProtocolError where the frame is of another size or format than the stream was started with."""
        if block.width and (block.width, block.height, block.pixel_format) != (
            agreed.width,
            agreed.height,
            agreed.code,
        ):
            raise ProtocolError(
                self.uri, "read", f"the frame is {block.width} x {block.height} {name_of(block.pixel_format)}, agreed "
                f"were {agreed.width} x {agreed.height} {name_of(agreed.code)}; stop and start it after such changes"
            )  # fmt: skip
        needed = agreed.decoder.size(agreed.width, agreed.height)
        if len(block.data) < needed:
            raise ProtocolError(self.uri, "read", f"the frame has {len(block.data)} bytes, agreed were {needed}")

    def _close_stream(self) -> None:
        """For `close`: whatever state the stream is in."""
        self._clock = None  # a `read` that waits sees it within a slice
        with self._turn:
            if self._agreed is not None:
                self._agreed = None
                self._end()
        self._settings = self._nodes = None

    def _lost(self, why: str) -> str:
        """Keep for `health` why the camera is gone."""
        self._lost_why = why
        return why
