"""Events from the network (`dv:HOST:PORT`): what dv-processing's NetworkWriter and DV send over TCP."""

from __future__ import annotations

import socket
from collections import Counter

import numpy as np

from foveate.catalog import optional
from foveate.clock import Clock, process_ns
from foveate.device import DeviceInfo
from foveate.errors import Disconnected, NotFound, NotSupported, ProtocolError, StateError, Timeout
from foveate.messages import Events, Stamp
from foveate_drivers.adjustable import Health
from foveate_drivers.device_clock import DeviceClock, Mapped
from foveate_drivers.events import dv_protocol as wire
from foveate_drivers.events.base import EventCamera
from foveate_logbook.formats.events import aedat4_format as form
from foveate_logbook.formats.events.flatbuffer import Malformed
from foveate_logbook.formats.events.sequence import DISORDER, OUTSIDE, Sequence

_CONNECT_S = 3.0
_SLICE_S = 0.05  # a read that waits looks this often whether it was closed
_MOST_SIZE = 1 << 15


class DvStream(EventCamera):
    """One packet a packet of the sender; an empty one where it sends an empty one.

    The sender's clock (Unix time in most) is mapped to the pipeline's by when packets arrive. Packets that were
    damaged on the way are left out and counted as `garbled`: how many events they held is not known.
    """

    def __init__(self, *, address: str) -> None:
        """`address`: `HOST:PORT`."""
        self._address = address
        self._socket: socket.socket | None = None
        self._clock: Clock | None = None
        self._head = form.Head("NONE", -1, ())
        self._stream: form.Stream | None = None
        self._buffer = bytearray()
        self._device = DeviceClock()
        self._last_ns: int | None = None
        self._counts: Counter[str] = Counter()
        self._gone = ""  # why there is no connection any more

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """None: senders do not announce themselves."""
        return []

    def open(self, clock: Clock) -> None:
        where = wire.endpoint(self._address)
        if where is None:
            raise NotFound(self.uri, "open", f"'{self._address}' is no HOST:PORT, such as 127.0.0.1:7777")
        if self._socket is not None:
            raise StateError(self.uri, "open", "it is open already")
        try:
            self._socket = socket.create_connection(where, timeout=_CONNECT_S)
        except TimeoutError:
            raise NotFound(self.uri, "open", f"nobody answers there within {_CONNECT_S:g} s") from None
        except OSError as error:
            raise NotFound(self.uri, "open", f"no sender listens there ({error.strerror or error})") from None
        self._clock = clock
        self._buffer.clear()
        self._counts.clear()
        self._device, self._last_ns, self._gone = DeviceClock(), None, ""
        try:
            self._greet()
        except BaseException:
            self.close()
            raise

    def _greet(self) -> None:
        """Read the head and choose the stream of events."""
        until_ns = process_ns() + round(_CONNECT_S * 1e9)
        while len(self._buffer) < 4 or len(self._buffer) < 4 + int.from_bytes(self._buffer[:4], "little"):
            if len(self._buffer) >= 4 and int.from_bytes(self._buffer[:4], "little") > form.MOST_HEAD:
                raise ProtocolError(self.uri, "open", "what it sends first is no head of AEDAT4: another service?")
            if not self._receive(until_ns):
                raise Timeout(self.uri, "open", f"it sent no head within {_CONNECT_S:g} s")
        size = 4 + int.from_bytes(self._buffer[:4], "little")
        try:
            self._head = form.head_of(bytes(self._buffer[:size]))
        except Malformed as error:
            raise ProtocolError(self.uri, "open", f"what it sends first is no head of AEDAT4: {error}") from None
        del self._buffer[:size]
        if (package := form.PACKAGES.get(self._head.compression)) is not None:
            optional(package, self.uri, "events")
        self._stream = next((stream for stream in self._head.streams if stream.kind == "EVTS"), None)
        if self._stream is None:
            kinds = ", ".join(stream.kind for stream in self._head.streams) or "nothing"
            raise NotSupported(self.uri, "open", f"it sends no events, but {kinds}")
        self.width, self.height = self._stream.width or _MOST_SIZE, self._stream.height or _MOST_SIZE

    def _receive(self, until_ns: int) -> bool:
        """Wait for bytes until a moment of process time; False where none came. Raises Disconnected, StateError."""
        while True:
            connection = self._socket
            if connection is None:
                raise StateError(self.uri, "read", "it was closed")
            left_s = (until_ns - process_ns()) / 1e9
            try:
                connection.settimeout(min(max(left_s, 0.0), _SLICE_S))
                data = connection.recv(1 << 18)
            except (TimeoutError, BlockingIOError):
                if left_s <= _SLICE_S:
                    return False
                continue
            except OSError as error:
                if self._socket is None:
                    raise StateError(self.uri, "read", "it was closed") from None
                self._gone = error.strerror or str(error)
                raise Disconnected(self.uri, "read", f"the connection broke: {self._gone}") from None
            if not data:
                if self._socket is None:
                    raise StateError(self.uri, "read", "it was closed")
                self._gone = "the sender closed the connection"
                raise Disconnected(self.uri, "read", self._gone)
            self._buffer += data
            return True

    def read(self, timeout_s: float) -> Events:
        if self._socket is None or self._clock is None:
            raise StateError(self.uri, "read", "it is not open")
        until_ns, waited = process_ns() + round(timeout_s * 1e9), False
        while True:
            events = self._next()
            if events is not None:
                return events
            if self._gone:
                raise Disconnected(self.uri, "read", self._gone)
            # a sender of nothing but noise is never silent
            if (waited and process_ns() >= until_ns) or not self._receive(until_ns):
                raise Timeout(self.uri, "read", f"no packet within {timeout_s:g} s")
            waited = True

    def _next(self) -> Events | None:
        """The events of the oldest whole packet that has arrived; others and damaged ones are passed over."""
        assert self._stream is not None
        while True:
            if noise := wire.skipped(self._buffer, self._head):
                self._counts["noise_bytes"] += noise
                self._counts["garbled"] += 1
                del self._buffer[:noise]
            if wire.plausible(self._buffer, 0, self._head) is None:
                return None
            number, length = form.PACKET_HEAD.unpack_from(self._buffer)
            end = form.PACKET_HEAD.size + length
            if len(self._buffer) < end:
                return None
            data = bytes(self._buffer[form.PACKET_HEAD.size : end])
            try:
                events = self._decoded(data) if number == self._stream.id else None
            except Malformed:  # cut short: the next packet may begin within
                self._counts["garbled"] += 1
                del self._buffer[: form.PACKET_HEAD.size]
                continue
            del self._buffer[:end]
            if events is not None:
                return events

    def _decoded(self, data: bytes) -> Events:
        assert self._clock is not None
        arrived_ns = self._clock.now_ns()
        sequence = Sequence(self.width, self.height)  # of this packet alone: the device's clock sees jumps between them
        block = sequence.put(form.events_of(form.unpacked(data, self._head.compression)))
        self._counts["packets"] += 1
        self._counts["received"] += block.t_ns.size
        lost = sequence.counts[OUTSIDE]
        self._counts["outside"] += lost
        self._counts["disorder"] += sequence.counts[DISORDER]
        if block.t_ns.size:
            mapped = self._device.map(int(block.t_ns[-1]), arrived_ns)
            times = block.t_ns + (mapped.t_ns - int(block.t_ns[-1]))
        else:
            mapped = Mapped(arrived_ns, 0, self._device.epoch)
            times = block.t_ns
        if self._last_ns is not None and times.size and times[0] < self._last_ns:
            times = np.maximum(times, self._last_ns)
        self._last_ns = int(times[-1]) if times.size else self._last_ns
        first, last = (int(times[0]), int(times[-1])) if times.size else (mapped.t_ns, mapped.t_ns)
        stamp = Stamp((first + last) // 2, last - first, mapped.sigma_ns)
        epoch = mapped.epoch + sequence.epoch
        return Events(stamp, times, *block[1:], self.width, self.height, lost, epoch)

    def info(self) -> DeviceInfo:
        if self._stream is None:
            return DeviceInfo(self.uri)
        return DeviceInfo(self.uri, "dv", self._stream.source or self._stream.name or "events")

    def health(self) -> Health:
        """Lost once the connection is gone, degraded where packets arrived damaged."""
        counts = {name: self._counts[name] for name in ("packets", "received", "garbled", "outside", "disorder")}
        if self._gone:
            return Health("lost", self._gone, counts)
        garbled = counts["garbled"]
        return Health("degraded" if garbled else "ok", f"{garbled} packets garbled" if garbled else "", counts)

    def close(self) -> None:
        connection, self._socket, self._clock = self._socket, None, None
        if connection is not None:
            connection.close()
