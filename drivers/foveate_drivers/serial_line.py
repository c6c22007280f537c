"""A serial port as drivers use it: bounded waits, raw reads, and an error that says what happened to it."""

from __future__ import annotations

import errno
import os
import select
from typing import Any

from foveate.catalog import optional
from foveate.clock import process_ns
from foveate.device import DeviceInfo
from foveate.errors import Busy, Disconnected, NotFound, StateError, Timeout

_WRITE_S = 0.25


class SerialLine:
    """One port, held exclusively. pyserial sets it up; bytes go by the descriptor itself.

    A question of a DAC board's position takes 141 us this way and 228 us by pyserial's own (benchmarks/mirrors.py).
    """

    def __init__(self, uri: str, port: str, baud: int = 115_200) -> None:
        self.uri = uri
        self.port = port
        self._baud = baud
        self._serial: Any = None
        self._fd = -1

    def open(self) -> None:
        """Raises NotFound, Busy, BackendMissing."""
        serial = optional("serial", self.uri, "serial")
        try:
            self._serial = serial.Serial(self.port, self._baud, timeout=0, write_timeout=0, exclusive=True)
        except (serial.SerialException, OSError) as error:
            raise self._opening_error(error) from None
        self._fd = self._serial.fileno()
        self._in = select.poll()
        self._in.register(self._fd, select.POLLIN)
        self._out = select.poll()
        self._out.register(self._fd, select.POLLOUT)

    def _opening_error(self, error: OSError) -> Exception:
        number = error.errno
        if "exclusively lock" in str(error) or number in (errno.EBUSY, errno.EAGAIN):
            return Busy(self.uri, f"open {self.port}", "another program holds it; close that one")
        if number == errno.EACCES:
            return NotFound(self.uri, f"open {self.port}", "no permission; add the user to the group of the port")
        if number in (errno.ENOENT, errno.ENODEV, errno.ENXIO, errno.EIO):
            return NotFound(self.uri, f"open {self.port}", "there is no such port; see 'foveate devices'")
        return NotFound(self.uri, f"open {self.port}", " ".join(str(error).split())[:200])

    def fileno(self) -> int:
        """The descriptor; raises StateError when closed."""
        if self._fd < 0:
            raise StateError(self.uri, "talk", "it is not open")
        return self._fd

    def write(self, data: bytes) -> None:
        """Send all of it. Raises Disconnected, and Timeout where the other side takes nothing for 0.25 s."""
        fd = self.fileno()
        until_ns = 0
        while data:
            try:
                data = data[os.write(fd, data) :]
                continue
            except BlockingIOError:
                pass
            except OSError as error:
                raise self.gone(error) from None
            until_ns = until_ns or process_ns() + round(_WRITE_S * 1e9)
            left_ms = (until_ns - process_ns()) / 1e6
            if left_ms <= 0 or not self._out.poll(left_ms):
                raise Timeout(self.uri, "send", f"it took no byte for {_WRITE_S:g} s")

    def read(self, until_ns: int) -> bytes:
        """What has come, waited for until `until_ns` of `process_ns`; empty = nothing. Raises Disconnected."""
        left_ms = (until_ns - process_ns()) / 1e6
        fd = self.fileno()
        if not self._in.poll(max(left_ms, 0)):
            return b""
        try:
            data = os.read(fd, 4096)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise self.gone(error) from None
        if not data:
            raise self.gone(None)
        return data

    def gone(self, error: OSError | None) -> Disconnected:
        """The error of a port that has gone."""
        why = f" ({error.strerror})" if error is not None else ""
        return Disconnected(self.uri, "talk", f"{self.port} has gone{why}; plug it in, then close and open it")

    def close(self) -> None:
        """Let go of the port; may be called twice."""
        if self._serial is not None:
            self._fd = -1
            try:
                self._serial.close()
            except OSError:
                pass  # it was unplugged
            self._serial = None


def ports(scheme: str, vendor: str, model: str, ids: set[tuple[int, int]]) -> list[DeviceInfo]:
    """Ports whose USB vendor and product numbers are among `ids`; none where pyserial is not installed."""
    try:
        listing = optional("serial.tools.list_ports", scheme, "serial")
    except Exception:
        return []
    found = [port for port in listing.comports() if (port.vid, port.pid) in ids]
    return [DeviceInfo(f"{scheme}:{port.device}", vendor, model, port.serial_number or "") for port in found]
