"""Every event camera driver passes the suite: files, logs, the network, the twin."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from foveate.clock import LiveClock
from foveate.errors import EndOfStream, Timeout
from foveate.messages import Events
from foveate_drivers.conformance import events
from foveate_drivers.conformance.suite import Bench, Check, Failed, checks
from foveate_drivers.emulators.dv_stream import DvStreamEmulator, EventPattern
from foveate_drivers.events.base import EventCamera
from foveate_drivers.events.dv import DvStream
from foveate_drivers.events.files import EventFile
from foveate_drivers.events.log import LogEventCamera
from foveate_drivers.events.sim import SimEventCamera
from foveate_drivers.world.base import World
from foveate_drivers.world.scene import Truth
from foveate_logbook.formats.events import aedat4_write, dat, es, evt2, evt3, text
from foveate_logbook.formats.events.base import Block, block_of

every_check = pytest.mark.parametrize("check", checks(events), ids=lambda check: check.__name__.removeprefix("check_"))


def passes(check: Check, bench: Bench) -> None:
    check(bench)


def block(count: int = 20_000, span_ms: int = 200) -> Block:
    """Events of a sensor of 320 x 240, with silence of 25 ms in the middle."""
    random = np.random.default_rng(7)
    t = np.sort(random.integers(0, span_ms * 1000, count))
    t[t >= span_ms * 500] += 25_000
    x, y, sign = (random.integers(0, size, count) for size in (320, 240, 2))
    return block_of((5_000_000 + t) * 1000, x, y, sign)


def contents(kind: str) -> bytes:
    events_ = block()
    return {
        "evt2": lambda: evt2.head(320, 240) + evt2.encode(events_),
        "evt3": lambda: evt3.head(320, 240) + evt3.encode(events_),
        "dat": lambda: dat.head(320, 240) + dat.encode(events_),
        "es": lambda: es.head(320, 240) + es.encode(events_, 240),
        "aedat4": lambda: aedat4_write.file([events_.part(slice(i, i + 500)) for i in range(0, 20_000, 500)], 320, 240),
        "text": lambda: b"320 240\n" + text.encode(events_),
    }[kind]()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of every format, named so that the name tells nothing."""
    place = tmp_path_factory.mktemp("events")
    for kind in ("evt2", "evt3", "dat", "es", "aedat4", "text"):
        (place / f"{kind}_recording").write_bytes(contents(kind))
    return place


class TestFiles:
    @every_check
    @pytest.mark.parametrize("kind", ["evt2", "evt3", "dat", "es", "aedat4", "text"])
    def test_conforms(self, check: Check, kind: str, folder: Path) -> None:
        def make() -> EventCamera:
            camera = EventFile(address=folder / f"{kind}_recording", packet=0.005)
            camera.uri = f"evt:{kind}_recording"
            return camera

        passes(check, Bench(make, finite=True))

    @every_check
    def test_conforms_in_real_time(self, check: Check, folder: Path) -> None:
        def make() -> EventCamera:
            camera = EventFile(address=folder / "evt3_recording", packet=0.002, rate=2.0)
            camera.uri = "evt:evt3_recording"
            return camera

        passes(check, Bench(make, LiveClock(), finite=True))


class TestLogs:
    @every_check
    def test_conforms(self, check: Check, folder: Path) -> None:
        def make() -> EventCamera:
            camera = LogEventCamera(address=folder / "aedat4_recording")
            camera.uri = "log:aedat4_recording"
            return camera

        passes(check, Bench(make, finite=True))

    @every_check
    @pytest.mark.data
    @pytest.mark.parametrize("name", ["test_events_1.bag", "test_events_1"])
    def test_bags_conform(self, check: Check, name: str, shared_data: Path) -> None:
        pytest.importorskip("rosbags", reason="ROS bags are read with the extra 'ros'")

        def make() -> EventCamera:
            camera = LogEventCamera(address=shared_data / "events/event_camera_py" / name)
            camera.uri = f"log:{name}"
            return camera

        if check.__name__ == "check_an_ended_file_stays_ended" and name == "test_events_1":
            pytest.skip("once is enough: the whole bag is read")
        passes(check, Bench(make, finite=True))


@pytest.fixture(scope="class")
def sender() -> Iterator[DvStreamEmulator]:
    with DvStreamEmulator(events=EventPattern(2), address="127.0.0.1:0") as emulator:
        yield emulator


class TestNetwork:
    @every_check
    def test_conforms(self, check: Check, sender: DvStreamEmulator) -> None:
        def make() -> EventCamera:
            camera = DvStream(address=sender.uri.removeprefix("dv:"))
            camera.uri = sender.uri
            return camera

        passes(check, Bench(make, LiveClock(), sender.unplug, sender.replug))


class Flicker:
    """A scene that goes up and down in brightness, ten times a second, left half and right half in turn."""

    names = ("thing",)
    width_m = height_m = 100.0

    def truth(self, t_s: float) -> Truth:
        return Truth(np.zeros(0, np.int64), np.zeros(0, np.int32), np.zeros((0, 2)), np.zeros((0, 2)))

    def render(self, image_from_plane: np.ndarray, width: int, height: int, color: bool, t_s: float) -> np.ndarray:
        swing = 60 * np.sin(20 * np.pi * t_s)
        image = np.full((height, width), 128 + swing, np.float64)
        image[:, width // 2 :] = 128 - swing
        return image.astype(np.uint8)


class TestTwin:
    @every_check
    def test_conforms(self, check: Check) -> None:
        def make() -> EventCamera:
            world = World()
            world._scene = Flicker()  # type: ignore[assignment]
            camera = SimEventCamera(address="x", world=world, width=32, height=24)
            camera.uri = "sim-events:x"
            return camera

        passes(check, Bench(make))


class Broken(EventFile):
    """A camera with a fault: every packet goes through `spoil`, which knows how many came before."""

    spoil: Callable[[Events, int], Events] = staticmethod(lambda events, number: events)
    number = 0

    def read(self, timeout_s: float) -> Events:
        events_ = super().read(timeout_s)
        self.number += 1
        return self.spoil(events_, self.number)


def repeated(camera: Broken) -> Callable[[Events, int], Events]:
    kept: list[Events] = []

    def spoil(packet: Events, number: int) -> Events:
        kept.append(packet)
        return kept[0]

    return spoil


def in_one_array(camera: Broken) -> Callable[[Events, int], Events]:
    """The driver's own buffer goes out, and is written to again."""
    buffer = np.zeros(10_000, np.uint16)

    def spoil(packet: Events, number: int) -> Events:
        buffer[: packet.x.size] = packet.x
        return replace(packet, x=buffer[: packet.x.size])

    return spoil


def always(change: Callable[[Events, int], Events]) -> Callable[[Broken], Callable[[Events, int], Events]]:
    return lambda camera: change


FAULTS: dict[str, tuple[str, Callable[[Broken], Callable[[Events, int], Events]]]] = {
    "backwards": ("events_are_in_the_order_of_time", always(lambda p, n: replace(p, t_ns=p.t_ns[::-1].copy()))),
    "outside": ("events_are_within_the_sensor", always(lambda p, n: replace(p, x=p.x + np.uint16(320)))),
    "polarity of -1": ("events_are_within_the_sensor", always(lambda p, n: replace(p, polarity=p.polarity * 255))),
    "columns as int32": (
        "arrays_are_of_one_length_and_the_right_type", always(lambda p, n: replace(p, x=p.x.astype(np.int32)))
    ),
    "one column too few": ("arrays_are_of_one_length_and_the_right_type", always(lambda p, n: replace(p, x=p.x[1:]))),
    "another size": ("the_size_is_known_when_open", always(lambda p, n: replace(p, width=p.width + 1))),
    "future": ("times_are_not_in_the_future", always(lambda p, n: replace(p, t_ns=p.t_ns + 10**9))),
    "stamp": (
        "the_stamp_covers_the_packet", always(lambda p, n: replace(p, stamp=replace(p.stamp, t_ns=10**12)))
    ),
    "repeated": ("no_packet_comes_twice", repeated),
    "one buffer": ("events_stay_as_they_were", in_one_array),
    "epoch falls": ("losses_are_counted_forward", always(lambda p, n: replace(p, epoch=9 - n))),
    "nothing seen": ("it_gives_events", always(lambda p, n: replace(p, **{name: getattr(p, name)[:0] for name in
                                                                         ("t_ns", "x", "y", "polarity")}))),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_the_suite_finds_faults(fault: str, folder: Path) -> None:
    name, spoil = FAULTS[fault]
    check = next(check for check in checks(events) if check.__name__ == f"check_{name}")

    def make() -> EventCamera:
        camera = Broken(address=folder / "evt3_recording", packet=0.005)
        camera.spoil = spoil(camera)
        return camera

    with pytest.raises(Failed):
        check(Bench(make, finite=True))


class Silent(EventFile):
    """Leaves out packets without events, and ends with a Timeout."""

    def read(self, timeout_s: float) -> Events:
        while True:
            try:
                packet = super().read(timeout_s)
            except EndOfStream:
                raise Timeout(self.uri, "read", "nothing comes") from None
            if packet.t_ns.size:
                return packet
            assert self._clock is not None
            self._clock.wait_until(self._due_ns, threading.Event())


@pytest.mark.parametrize("name", ["silence_is_told", "an_ended_file_stays_ended"])
def test_the_suite_finds_silence(name: str, folder: Path) -> None:
    check = next(check for check in checks(events) if check.__name__ == f"check_{name}")
    with pytest.raises((Failed, Timeout)):
        check(Bench(lambda: Silent(address=folder / "evt3_recording", packet=0.008), finite=True))
