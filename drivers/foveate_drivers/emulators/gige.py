"""A GigE Vision camera on UDP of this computer, with any camera of foveate behind it or a test pattern."""

from __future__ import annotations

import contextlib
import ipaddress
import math
import select
import socket
import threading
from collections import Counter, deque
from typing import Any

import numpy as np

from foveate.clock import LiveClock, process_ns
from foveate.errors import Busy, DeviceError, EndOfStream, Timeout
from foveate.messages import Frame
from foveate_drivers.cameras import gvcp
from foveate_drivers.cameras.base import Camera
from foveate_drivers.cameras.pixels import FORMATS
from foveate_drivers.emulators import gige_registers as reg
from foveate_drivers.emulators.base import Emulator, serve
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.emulators.gige_control import INVALID_PARAMETER, NOT_IMPLEMENTED, OK, Control
from foveate_drivers.emulators.gige_pattern import TestPattern
from foveate_drivers.emulators.gige_stream import Sender

_SKEW = 40e-6  # of the camera's crystal
_BOOTED_NS = 3_000_000_000_000  # what the camera's clock says when the emulator's starts
_SLICE_S, _TRIGGER_SLICE_S = 0.02, 0.001  # a wait for the twin: within it the camera hears of changes


class GigeEmulator(Emulator):
    """A camera that answers discovery and control, streams, sends lost packets again, and breaks as it is told to.

    One application controls it, by the privilege register and a heartbeat; others may read. Its cable carries
    its power too: a camera that was unplugged starts from its defaults. Width, height and offsets cut the twin's
    picture; exposure, gain, rate and trigger are the twin's.
    """

    twin = "camera"

    def __init__(
        self, *, camera: Camera | None = None, address: str = "127.0.0.1", serial: str = "FOV001",
        faults: FaultPlan | None = None,
    ) -> None:  # fmt: skip
        self.faults = faults or FaultPlan()
        self.clock = LiveClock()
        self.uri = f"gige:{address}"
        self._camera: Camera = camera or TestPattern()
        self._own_camera = camera is None
        self._address, self._serial = address, serial
        self._counts: Counter[str] = Counter()
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._wake = threading.Event()  # the stream's thread has something to do
        self._plugged = True
        self._channel = Control(self, self.faults, self._counts)
        self._streaming = False
        self._changes: dict[str, float | str] = {}  # settings for the twin, made by the stream's thread
        self._triggers: deque[None] = deque()  # by software, that the stream's thread is to pass on
        self._started_ns = 0
        self._next_id = 1

    # life

    def start(self) -> None:
        if self._threads:
            return
        self._stopping.clear()
        self._sockets = [self._bound(self._address)]
        for everybody in ("255.255.255.255", "127.255.255.255"):  # where discovery is asked of all at once
            with contextlib.suppress(Busy):  # a program that will not share it: then it is found by its address only
                self._sockets.append(self._bound(everybody, shared=True))
        if not self.clock.started:
            self.clock.start()
        if self._camera._clock is None:
            self._camera.open(self.clock)
        self._sender = Sender(self._address, self.faults, self._counts)
        self._describe()
        self._power_on()
        self._next_id = self.faults.first_id or 1
        self._started_ns = process_ns()
        self._threads = [serve("gige control", self._control), serve("gige stream", self._stream)]

    def _bound(self, address: str, shared: bool = False) -> socket.socket:
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        if shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            bound.bind((address, gvcp.PORT))
        except OSError as error:
            bound.close()
            raise Busy(f"gige:{address}", "serve", f"{address}:{gvcp.PORT}: {error.strerror}") from None
        bound.setblocking(False)
        return bound

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            thread.join()
        if self._threads:
            self._threads = []
            for item in self._sockets:
                item.close()
            self._sender.close()
            if self._own_camera:
                self._camera.close()

    def unplug(self) -> None:
        self._plugged = False
        self._streaming = False

    def replug(self) -> None:
        self._power_on()
        self._plugged = True

    def counters(self) -> dict[str, int]:
        return dict(self._counts)

    def _twin_value(self, name: str, otherwise: Any) -> Any:
        return self._camera.get(name) if name in self._camera.capabilities() else otherwise

    def _describe(self) -> None:
        """Take from the twin what it is; makes the GenICam description."""
        known = self._camera.capabilities()
        encoding, width, height = (self._twin_value(name, None) for name in ("encoding", "width", "height"))
        if encoding is None or width is None or height is None:  # a file or a log: its first picture tells
            frame = self._camera.read(5.0)
            encoding, (height, width) = frame.encoding, frame.image.shape[:2]
        self._full = int(width), int(height)
        self._format = str(encoding)
        self._pixel_bytes = FORMATS[self._format].bits // 8
        self._triggered = "trigger" in known and "software" in known["trigger"].choices
        self._before = {name: float(self._twin_value(name, value)) for name, value in (
            ("exposure", 0.005), ("gain", 0.0), ("rate", 1e9 / (self._camera.period_ns or 1e9 / 30)))}  # fmt: skip
        exposure, gain, rate = (known.get(name) for name in ("exposure", "gain", "rate"))
        self._least = {
            reg.EXPOSURE: 1e6 * (exposure.lo or 1e-6) if exposure else 1.0,
            reg.RATE: (rate.lo or 0.1) if rate else 0.1,
        }
        self._gain_max_db = (gain.hi or 0.0) if gain else 0.0
        self._rate_max = (rate.hi or 1000.0) if rate else self._before["rate"]
        self._xml = reg.description(self._format, FORMATS[self._format].code, self._least, self._gain_max_db)

    def _power_on(self) -> None:
        registers = reg.Registers(self._address, self._serial, self._xml)
        width, height = self._full
        registers[reg.WIDTH_MAX], registers[reg.HEIGHT_MAX] = width, height
        registers[reg.WIDTH], registers[reg.HEIGHT] = width, height
        registers[reg.PIXEL_FORMAT] = FORMATS[self._format].code
        for at, value in ((reg.EXPOSURE, 1e6 * self._before["exposure"]), (reg.GAIN, self._before["gain"]),
                          (reg.RATE, self._before["rate"])):  # fmt: skip
            registers.set_number(at, value)
        self.registers = registers
        self._channel.release()
        self._changes |= {**self._before, "trigger": "off"}
        self._note_bounds()

    def _note_bounds(self) -> None:
        """Registers that follow from others."""
        registers = self.registers
        width, height = registers[reg.WIDTH], registers[reg.HEIGHT]
        registers[reg.OFFSET_X_MAX], registers[reg.OFFSET_Y_MAX] = self._full[0] - width, self._full[1] - height
        registers[reg.PAYLOAD_SIZE] = width * height * self._pixel_bytes
        exposure_us, rate = registers.number(reg.EXPOSURE), registers.number(reg.RATE)
        registers.set_number(reg.EXPOSURE_MAX, math.floor(1e6 / rate) - 1)
        registers.set_number(reg.RATE_MAX, max(min(1e6 / (exposure_us + 1), self._rate_max), rate))

    # the control channel

    def _control(self) -> None:
        while not self._stopping.is_set():
            self._keep_time()
            ready, _, _ = select.select(self._sockets, [], [], 0.02)
            for item in ready:
                try:
                    packet, sender = item.recvfrom(2048)
                except OSError:  # the last reply found nobody
                    continue
                local = ipaddress.ip_address(sender[0]).is_loopback or sender[0] == self._address
                asked = len(packet) >= 8 and packet[0] == gvcp.COMMAND_KEY
                to_me = item is self._sockets[0] or packet[2:4] == gvcp.DISCOVERY.to_bytes(2, "big")
                if self._plugged and local and asked and to_me:
                    self._counts["commands"] += 1
                    reply = self._channel.answer(packet, sender)
                    if reply is not None:
                        self._reply(reply, sender)

    def _keep_time(self) -> None:
        """What happens by the clock: the plan's cable faults, and the end of control without a heartbeat."""
        passed_s = (process_ns() - self._started_ns) / 1e9
        faults = self.faults
        if faults.unplug_s is not None and passed_s >= faults.unplug_s:
            if faults.replug_s is not None and passed_s >= faults.unplug_s + faults.replug_s:
                faults.unplug_s = None
                self.replug()
            elif self._plugged:
                self.unplug()
        self._channel.check_heartbeat()

    def _reply(self, reply: bytes, sender: tuple[str, int]) -> None:
        faults = self.faults
        if faults.hits(faults.drop):
            self._counts["replies dropped"] += 1
            return
        if faults.delay_s and faults.hits(faults.delay):
            self._stopping.wait(faults.delay_s)
        if faults.hits(faults.garbage):
            self._counts["replies spoiled"] += 1
            reply = faults.spoil(reply)
        with contextlib.suppress(OSError):
            self._sockets[0].sendto(reply, sender)
            self._counts["replies"] += 1

    # the registers, for the control channel

    def refresh(self) -> None:
        temperature = self.faults.temperature_c
        self.registers.set_number(reg.TEMPERATURE, 41.5 if temperature is None else temperature)

    def released(self) -> None:
        self._streaming = False

    def send_again(self, block: int, first: int, last: int) -> None:
        self._sender.again(block, first, last)

    def write(self, at: int, value: int) -> int:
        registers, (full_width, full_height) = self.registers, self._full
        sizes = {
            reg.WIDTH: (4, full_width),
            reg.HEIGHT: (4, full_height),
            reg.OFFSET_X: (0, registers[reg.OFFSET_X_MAX]),
            reg.OFFSET_Y: (0, registers[reg.OFFSET_Y_MAX]),
        }
        if at in sizes:
            lo, hi = sizes[at]
            if not lo <= value <= hi or (at in (reg.WIDTH, reg.HEIGHT) and self._streaming):
                return INVALID_PARAMETER
            registers[at] = value
            self._note_bounds()
        elif at == reg.STREAM_PACKET:
            size = min(max(value & 0xFFFF, 220), reg.LARGEST_PACKET)
            registers[at] = value & 0x4000_0000 | size
            if value & reg.FIRE_TEST:
                self._aim()
                self._sender.fire_test(value & 0xFFFF or size)
        else:
            return self._act(at, value)
        return OK

    def _act(self, at: int, value: int) -> int:
        """Commands, and registers that no check holds for."""
        registers = self.registers
        if at == reg.ACQUISITION_START:
            self._aim()
            self._next_id = self._next_id if self._counts["frames"] == 0 else 1
            self._triggers.clear()
            self._streaming = True
            self._wake.set()
        elif at == reg.ACQUISITION_STOP:
            self._streaming = False
        elif at == reg.TRIGGER_SOFTWARE:
            if not self._triggered:
                return NOT_IMPLEMENTED
            if self._streaming:
                self._triggers.append(None)
        elif at == reg.TIMESTAMP_CONTROL:
            registers[reg.TIMESTAMP_VALUE], registers[reg.TIMESTAMP_VALUE + 4] = divmod(
                self._ticks(self.clock.now_ns()), 1 << 32
            )
        else:
            if at == reg.TRIGGER_MODE:
                if value and not self._triggered:
                    return NOT_IMPLEMENTED
                self._changes["trigger"] = "software" if value else "off"
            registers[at] = value
        return OK

    def write_number(self, at: int, value: float) -> int:
        registers = self.registers
        bounds = {
            reg.EXPOSURE: (self._least[reg.EXPOSURE], registers.number(reg.EXPOSURE_MAX)),
            reg.RATE: (self._least[reg.RATE], registers.number(reg.RATE_MAX)),
            reg.GAIN: (0.0, self._gain_max_db),
        }
        lo, hi = bounds[at]
        if not lo <= value <= hi:
            return INVALID_PARAMETER
        registers.set_number(at, value)
        self._note_bounds()
        name, factor = {reg.EXPOSURE: ("exposure", 1e-6), reg.GAIN: ("gain", 1.0), reg.RATE: ("rate", 1.0)}[at]
        self._changes[name] = value * factor
        return OK

    def _aim(self) -> None:
        """Send the stream where the registers say."""
        address = socket.inet_ntoa(self.registers[reg.STREAM_ADDRESS].to_bytes(4, "big"))
        self._sender.target = (address, self.registers[reg.STREAM_PORT] & 0xFFFF)
        self._sender.packet_size = self.registers[reg.STREAM_PACKET] & 0xFFFF

    # the stream channel

    def _stream(self) -> None:
        flowing = False
        while not self._stopping.is_set():
            if not self._streaming:
                flowing = False
                self._wake.wait(0.1)
                self._wake.clear()
                continue
            if not flowing:  # what the twin saw before the start is not sent
                self._camera.stop()
                self._sender.forget()
                flowing = True
            self._change_twin()
            if self._triggers:
                self._triggers.popleft()
                self._camera.trigger()
            try:
                frame = self._camera.read(_TRIGGER_SLICE_S if self.registers[reg.TRIGGER_MODE] else _SLICE_S)
            except Timeout:
                continue
            except (EndOfStream, DeviceError) as error:
                self._counts[f"the twin ended: {error}"] += 1
                self._streaming = False
                continue
            if self._streaming and self._plugged:
                self._show(frame)

    def _change_twin(self) -> None:
        """Make the settings that came over the wire, as far as the twin has them."""
        known = self._camera.capabilities()
        while self._changes:
            name, value = self._changes.popitem()
            if name in known and self._camera.get(name) != value:
                if not known[name].live:
                    self._camera.stop()
                with contextlib.suppress(DeviceError):  # beyond what the twin can: it stays as it is
                    self._camera.set(name, value)

    def _show(self, frame: Frame) -> None:
        registers = self.registers
        width, height, x, y = (registers[at] for at in (reg.WIDTH, reg.HEIGHT, reg.OFFSET_X, reg.OFFSET_Y))
        image = np.ascontiguousarray(frame.image[y : y + height, x : x + width])
        begin_ns = frame.stamp.t_ns - frame.stamp.exposure_ns // 2
        number = (self._next_id - 1 + frame.lost_before) % 0xFFFF + 1
        self._next_id = number % 0xFFFF + 1
        ticks = self._ticks(begin_ns)
        code = registers[reg.PIXEL_FORMAT]
        self._sender.block(number, ticks, code, (width, height, x, y), image.reshape(-1).data)

    def _ticks(self, t_ns: int) -> int:
        """The camera's clock at a moment of the emulator's."""
        device_ns = _BOOTED_NS + t_ns * (1 + _SKEW)
        jump_at_s = self.faults.clock_jump_at_s
        if jump_at_s is not None and t_ns >= jump_at_s * 1e9:
            device_ns += self.faults.clock_jump_s * 1e9
        return max(round(device_ns * reg.TICKS_PER_S / 1e9), 0)
