"""GigE Vision's stream protocol (GVSP, AIA GigE Vision 1.2) as a camera sends it: cut up, kept, sent again."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass

from foveate.clock import process_ns
from foveate_drivers.emulators.faults import FaultPlan

_LEADER, _TRAILER, _PAYLOAD = 1, 2, 3
_IMAGE = 0x0001  # payload type
_UNAVAILABLE = 0x800C
_HEADERS = 36  # of IP, UDP and GVSP
_KEPT = 8  # blocks that can be sent again
_LINK_BYTES_PER_S = 1.25e9  # 10 Gbit/s
_BURST_BYTES = 65536  # sent at once, then as the link allows: a receiver has 208 kB where nobody raised rmem_max
_head = struct.Struct(">HHI").pack


@dataclass(frozen=True, slots=True)
class Sent:
    """One block as it is cut up: packet 0 is the leader, the last the trailer."""

    number: int
    leader: bytes
    image: memoryview
    payload: int  # bytes of the image a packet
    trailer: bytes

    @property
    def last(self) -> int:
        return -(-len(self.image) // self.payload) + 1

    def packet(self, i: int) -> tuple[bytes, bytes | memoryview]:
        """Header and content of packet `i`."""
        if i == 0:
            return _head(0, self.number, _LEADER << 24), self.leader
        if i == self.last:
            return _head(0, self.number, _TRAILER << 24 | i), self.trailer
        return _head(0, self.number, _PAYLOAD << 24 | i), self.image[(i - 1) * self.payload : i * self.payload]


class Sender:
    """The stream channel of a camera."""

    def __init__(self, address: str, faults: FaultPlan, counts: Counter[str]) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 << 20)
        self._socket.bind((address, 0))
        self._faults = faults
        self._counts = counts
        self._kept: deque[Sent] = deque(maxlen=_KEPT)
        self.target = ("", 0)
        self.packet_size = 1500

    def close(self) -> None:
        self._socket.close()

    def forget(self) -> None:
        """Nothing sent before can be had again."""
        self._kept.clear()

    def block(self, number: int, ticks: int, code: int, region: tuple[int, int, int, int], image: memoryview) -> None:
        """Send a picture. `region`: width, height, x, y."""
        leader = struct.pack(">HHQ5IHH", 0, _IMAGE, ticks, code, *region, 0, 0)
        trailer = struct.pack(">HHI", 0, _IMAGE, region[1])
        sent = Sent(number, leader, image, self.packet_size - _HEADERS, trailer)
        self._kept.append(sent)
        self._counts["frames"] += 1
        self._send(sent, range(sent.last + 1))

    def again(self, number: int, first: int, last: int) -> None:
        """Send packets of a block once more, or say that they are gone."""
        for sent in list(self._kept):
            if sent.number == number:
                wanted = range(first, min(last, sent.last) + 1)
                self._counts["packets sent again"] += len(wanted)
                self._send(sent, wanted)
                return
        with contextlib.suppress(OSError):  # nobody listens there, or no stream was asked for yet
            self._socket.sendto(_head(_UNAVAILABLE, number, _PAYLOAD << 24 | first), self.target)

    def fire_test(self, size: int) -> None:
        """A packet of that size (with IP and UDP), to find out whether the network carries it."""
        try:
            self._socket.sendto(bytes(max(size - 28, 0)), self.target)
        except OSError:
            pass  # too large for this network: it does not arrive, which is the answer

    def _send(self, sent: Sent, wanted: Iterable[int]) -> None:
        begun_ns, burst = process_ns(), 0
        for i in wanted:
            if self._faults.hits(self._faults.drop):
                self._counts["packets dropped"] += 1
                continue
            content = sent.packet(i)
            try:
                self._socket.sendmsg(content, [], 0, self.target)
            except OSError:
                self._counts["packets not sent"] += 1  # the receiver is gone
            burst += len(content[1])
            if burst >= _BURST_BYTES:
                while process_ns() - begun_ns < burst / _LINK_BYTES_PER_S * 1e9:
                    pass  # some 50 us: no sleep is that short
                begun_ns, burst = process_ns(), 0
