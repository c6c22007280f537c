"""Every screen passes the suite that ships; the page is looked at with a real HTTP client."""

from __future__ import annotations

import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from http.client import HTTPResponse

import cv2
import numpy as np
import pytest

from foveate.clock import VirtualClock
from foveate.errors import Busy, NotSupported
from foveate.messages import Frame
from foveate_drivers.conformance import screens as suite
from foveate_drivers.conformance.screens import picture
from foveate_drivers.conformance.suite import Bench, Check, Failed, checks
from foveate_drivers.screens.base import Screen
from foveate_drivers.screens.page import PageScreen
from foveate_drivers.screens.sim import SimScreen

TIMEOUT_S = 5.0


def made(kind: type[Screen], address: str) -> Screen:
    screen = kind(address=address)
    screen.uri = f"{kind.__name__}:{address}"
    return screen


MAKERS = {"sim": lambda: made(SimScreen, "screen"), "page": lambda: made(PageScreen, "127.0.0.1:0")}


@pytest.mark.parametrize("check", checks(suite), ids=lambda check: check.__name__)
@pytest.mark.parametrize("driver", MAKERS)
def test_conformance(driver: str, check: Check) -> None:
    check(Bench(MAKERS[driver], VirtualClock()))


def test_making_a_page_takes_no_port() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen(1)
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        screen = made(PageScreen, address)
        with pytest.raises(Busy, match="another port"):
            screen.open(VirtualClock())


class Hoards(SimScreen):
    """Keeps the first picture of each name."""

    def show(self, name: str, frame: Frame) -> None:
        if self.newest(name) is None:
            super().show(name, frame)


def test_the_suite_finds_a_screen_that_shows_old_pictures() -> None:
    bench = Bench(lambda: made(Hoards, "screen"), VirtualClock())
    failed = []
    for check in checks(suite):
        try:
            check(bench)
        except Failed:
            failed.append(check.__name__)
    assert "check_the_newest_is_shown" in failed


@pytest.fixture
def page() -> Iterator[PageScreen]:
    with made(PageScreen, "127.0.0.1:0") as screen:
        screen.open(VirtualClock())
        assert isinstance(screen, PageScreen)
        yield screen


def get(url: str, **headers: str) -> HTTPResponse:
    return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=TIMEOUT_S)


def part(stream: HTTPResponse) -> np.ndarray:
    """The next picture of a multipart stream."""
    length = 0
    while (line := stream.readline().strip()) or not length:
        if line.lower().startswith(b"content-length:"):
            length = int(line.split(b":")[1])
    return cv2.imdecode(np.frombuffer(stream.read(length), np.uint8), cv2.IMREAD_COLOR)


def test_the_page_names_its_pictures_and_gives_them(page: PageScreen) -> None:
    with get(page.url) as answer:
        assert answer.headers["Content-Type"].startswith("text/html") and b"/stream/" in answer.read()
    page.show("top_view", picture(200))
    with get(page.url + "names") as answer:
        assert json.load(answer) == ["top_view"]
    with get(page.url + "picture/top_view?1") as answer:
        image = cv2.imdecode(np.frombuffer(answer.read(), np.uint8), cv2.IMREAD_COLOR)
    assert image.shape == (24, 32, 3) and abs(int(image.mean()) - 200) <= 2
    for path in ("picture/other", "stream/other", "../etc/passwd", "favicon.ico"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(page.url + path)


def test_a_stream_gives_new_pictures_and_skips_those_nobody_waited_for(page: PageScreen) -> None:
    page.show("view", picture(10))
    with get(page.url + "stream/view") as stream:
        assert "multipart/x-mixed-replace" in stream.headers["Content-Type"]
        assert abs(int(part(stream).mean()) - 10) <= 2
        for level in (60, 120, 240):
            page.show("view", picture(level))
        levels = [int(part(stream).mean())]
        while abs(levels[-1] - 240) > 2:
            levels.append(int(part(stream).mean()))
        assert levels == sorted(levels) and len(levels) <= 3


def test_a_browser_that_does_not_read_holds_up_nobody(page: PageScreen) -> None:
    noise = np.random.default_rng(1).integers(0, 255, (480, 640, 3), dtype=np.uint8)
    page.show("view", Frame(picture(1).stamp, noise, "BGR8", 1))
    host, port = page.url[7:-1].split(":")
    with socket.create_connection((host, int(port)), TIMEOUT_S) as deaf:
        deaf.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        deaf.sendall(b"GET /stream/view HTTP/1.1\r\nHost: localhost\r\n\r\n")
        for number in range(200):  # more than any buffer holds
            page.show("view", Frame(picture(1).stamp, noise, "BGR8", number))
        assert page.newest("view").seq == 199  # type: ignore[union-attr]
        with get(page.url + "picture/view") as answer:
            assert len(answer.read()) > 1000


def test_the_page_ends_with_the_run_though_somebody_looks() -> None:
    screen = made(PageScreen, "localhost:0")
    screen.open(VirtualClock())
    assert isinstance(screen, PageScreen)
    url = screen.url
    screen.show("view", picture(1))
    before = {thread.ident for thread in threading.enumerate()}
    with get(url + "stream/view") as stream:
        part(stream)
        screen.close()
        assert stream.read() == b"\r\n--picture\r\n"  # it ends; else this would time out
    assert screen.url == ""
    with pytest.raises(urllib.error.URLError):
        get(url)
    for thread in threading.enumerate():
        if thread.ident not in before or thread.name == screen.uri:
            thread.join(TIMEOUT_S)
            assert not thread.is_alive()


def test_names_that_lead_here_from_elsewhere_are_refused(page: PageScreen) -> None:
    page.show("view", picture(1))
    for host in ("evil.example", "evil.example:80", "127.0.0.1.evil.example", "192.168.1.7"):
        with pytest.raises(urllib.error.HTTPError, match="403"):
            get(page.url + "picture/view", Host=host)
    for host in ("localhost:9", "127.0.0.1", "[::1]:80"):
        get(page.url + "picture/view", Host=host).close()


@pytest.mark.parametrize("address", ["0.0.0.0:8010", "192.168.1.7", "example.org:80", "[::]:1", "0:8010"])
def test_other_addresses_are_refused_in_one_line(address: str) -> None:
    with pytest.raises(NotSupported, match="this computer alone") as refused:
        PageScreen(address=address)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("address", ["127.0.0.1:x", "127.0.0.1:70000", "localhost:-1"])
def test_what_is_no_port_is_refused(address: str) -> None:
    with pytest.raises(NotSupported, match="port"):
        PageScreen(address=address)
