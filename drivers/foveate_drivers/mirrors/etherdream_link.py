"""One connection to an Ether Dream: a command, then its response."""

from __future__ import annotations

import socket

from foveate.clock import process_ns
from foveate.errors import Disconnected, NotFound, ProtocolError
from foveate_drivers.mirrors import etherdream_protocol as wire

_CONNECT_S = 1.0


class Link:
    """Not for two threads at once. After an error the connection is closed."""

    def __init__(self, uri: str, address: str, timeout_s: float) -> None:
        """Connect to HOST or HOST:PORT and take the response that the DAC gives unasked.

        Raises NotFound, Disconnected, ProtocolError.
        """
        self._uri = uri
        host, _, digits = address.partition(":")
        port = int(digits) if digits.isdecimal() else wire.TCP_PORT
        if not host or (digits and not digits.isdecimal()) or port > 65535:
            raise NotFound(uri, "open", f"'{address}' is not HOST or HOST:PORT")
        try:
            self._socket = socket.create_connection((host, port), timeout=_CONNECT_S)
        except UnicodeError:
            raise NotFound(uri, "open", f"'{host}' is no name of a host") from None
        except OSError as error:
            why = error.strerror or str(error) or "no answer"
            raise NotFound(uri, "open", f"nothing answers at {host}:{port}: {why}") from None
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.greeting = self._response(wire.PING, "open")
        self._socket.settimeout(timeout_s)

    def close(self) -> None:
        self._socket.close()

    def exchange(self, command: bytes) -> wire.Response:
        """Send a command; its response. Raises Disconnected where none comes in time, ProtocolError."""
        try:
            self._socket.sendall(command)
        except OSError as error:
            self.close()
            raise Disconnected(self._uri, "send", error.strerror or "it takes nothing more") from None
        return self._response(command[0], f"send {chr(command[0])!r}")

    def _response(self, command: int, operation: str) -> wire.Response:
        got = b""
        try:
            while len(got) < wire.RESPONSE_BYTES:
                part = self._socket.recv(wire.RESPONSE_BYTES - len(got))
                if not part:
                    self.close()
                    raise Disconnected(self._uri, operation, "it ended the connection")
                got += part
            response = wire.Response.unpack(got)
            if response.command != command:
                raise ValueError(f"an answer to {response.command:#x}, not to {command:#x}")
        except OSError as error:
            limit_s = self._socket.gettimeout()
            self.close()
            why = f"no answer within {limit_s:g} s" if isinstance(error, TimeoutError) else error.strerror
            raise Disconnected(self._uri, operation, why or "it is gone") from None
        except ValueError as error:
            self.close()
            raise ProtocolError(self._uri, operation, str(error)) from None
        return response


def announced(wait_s: float) -> dict[str, wire.Broadcast]:
    """The DACs that broadcast within `wait_s`, by host; none where somebody else listens already."""
    found = {}
    end_ns = process_ns() + round(wait_s * 1e9)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            heard.bind(("", wire.UDP_PORT))
            while (left_ns := end_ns - process_ns()) > 0:
                heard.settimeout(left_ns / 1e9)
                packet, (host, _) = heard.recvfrom(1024)
                try:
                    found[host] = wire.Broadcast.unpack(packet)
                except ValueError:
                    continue
        except OSError:  # the time is over, or the port is taken
            pass
    return found
