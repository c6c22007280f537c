"""The drivers that docs/driver.md shows pass the whole suite of their family."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from foveate.clock import LiveClock
from foveate_drivers.conformance import cameras, mirrors
from foveate_drivers.conformance.suite import Bench, Check, checks

pytestmark = pytest.mark.heavy

PAGE = Path(__file__).resolve().parents[2] / "docs/driver.md"


def shown(name: str) -> dict[str, Any]:
    """What the page's listing `name` defines."""
    found = re.search(rf"```python\n# {name}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    names: dict[str, Any] = {"__name__": name.removesuffix(".py")}
    exec(compile(found[1], name, "exec"), names)
    return names


def length(name: str) -> int:
    """Lines of code of the listing's class."""
    found = re.search(rf"```python\n# {name}\n.*?(class .*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert found is not None
    return len([line for line in found[1].splitlines() if line.strip()])


class Server:
    """A network device on loopback; `unplug` closes its socket, `replug` opens it at the same port."""

    def __init__(self, kind: int) -> None:
        self._kind = kind
        self._made: list[socket.socket] = []
        self._stop = threading.Event()
        self._threads: list[threading.Thread] = []
        self.port = 0
        self.replug()

    def replug(self) -> None:
        self._stop = threading.Event()
        listener = socket.socket(socket.AF_INET, self._kind)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        listener.settimeout(0.02)
        if self._kind == socket.SOCK_STREAM:
            listener.listen()
        self.port = listener.getsockname()[1]
        thread = threading.Thread(target=self.serve, args=(listener, self._stop), daemon=True)
        self._threads.append(thread)
        thread.start()

    def unplug(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(5)
        self._threads.clear()

    def serve(self, listener: socket.socket, stop: threading.Event) -> None:
        raise NotImplementedError


class MjpegServer(Server):
    """Sends a small picture every 5 ms to everybody."""

    def serve(self, listener: socket.socket, stop: threading.Event) -> None:
        clients: list[socket.socket] = []
        with listener:
            for i in range(1_000_000):
                if stop.wait(0.005):
                    break
                listener.settimeout(0.0)
                try:
                    clients.append(listener.accept()[0])
                except BlockingIOError:
                    pass
                picture = cv2.imencode(".jpg", np.full((24, 32, 3), i % 200, np.uint8))[1].tobytes()
                for client in list(clients):
                    try:
                        client.settimeout(0.05)
                        client.sendall(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + picture + b"\r\n")
                    except OSError:
                        client.close()
                        clients.remove(client)
            for client in clients:
                client.close()


class UdpController(Server):
    """Is at once where it was told to be."""

    def serve(self, listener: socket.socket, stop: threading.Event) -> None:
        place = [b"0", b"0"]
        with listener:
            while not stop.is_set():
                try:
                    data, sender = listener.recvfrom(64)
                except TimeoutError:
                    continue
                number, *angle = data.split()
                place = angle or place
                listener.sendto(b" ".join([number, *place]), sender)


@contextmanager
def bench_of(name: str, server: Server, scheme: str) -> Iterator[Bench[Any]]:
    kind = next(item for key, item in shown(name).items() if key in ("MjpegCamera", "UdpMirror"))

    def make() -> Any:
        device = kind(address=f"127.0.0.1:{server.port}")
        device.uri = f"{scheme}:127.0.0.1:{server.port}"
        return device

    try:
        yield Bench(make, LiveClock(), server.unplug, server.replug, patience_s=2.0)
    finally:
        server.unplug()


@pytest.mark.parametrize("check", checks(cameras), ids=lambda check: check.__name__)
def test_the_camera_of_the_page(check: Check) -> None:
    with bench_of("mjpeg.py", MjpegServer(socket.SOCK_STREAM), "mjpeg") as bench:
        check(bench)


@pytest.mark.parametrize("check", checks(mirrors), ids=lambda check: check.__name__)
def test_the_mirror_of_the_page(check: Check) -> None:
    with bench_of("udp_mirror.py", UdpController(socket.SOCK_DGRAM), "udp") as bench:
        check(bench)


def test_they_are_as_short_as_the_page_says() -> None:
    assert length("mjpeg.py") <= 40 and length("udp_mirror.py") <= 40, (length("mjpeg.py"), length("udp_mirror.py"))
