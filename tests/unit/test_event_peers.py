"""Event formats and the network stream against programs and recordings that the project did not make."""

from __future__ import annotations

import contextlib
import itertools
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from foveate.clock import LiveClock, process_ns
from foveate.errors import Disconnected, FoveateError, NotFound, NotSupported, ProtocolError, Timeout
from foveate.messages import Events, Frame, Imu
from foveate_drivers.emulators.dv_stream import DvStreamEmulator, EventPattern
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.events.dv import DvStream
from foveate_drivers.events.files import EventFile
from foveate_logbook.formats.events import aedat4_write, dat, es, evt2, evt3, recognise
from foveate_logbook.formats.events.base import Block, block_of, joined
from foveate_logbook.formats.opening import open_log

pytestmark = pytest.mark.live

WIDTH, HEIGHT = 640, 480


def made(count: int = 20_000, begin_us: int = 1_000_000) -> Block:
    random = np.random.default_rng(5)
    t = begin_us + np.cumsum(random.exponential(30, count)).astype(np.int64)
    x, y, sign = (random.integers(0, size, count) for size in (WIDTH, HEIGHT, 2))
    return block_of(t * 1000, x, y, sign)


def read(path: Path) -> Block:
    reader = recognise.reader_of(path)
    assert reader is not None
    block = joined(list(reader.blocks()))
    assert not reader.lost
    return block


def same(block: Block, t_us: Any, x: Any, y: Any, sign: Any) -> bool:
    pairs = zip((block.t_ns // 1000, block.x, block.y, block.polarity), (t_us, x, y, sign), strict=True)
    return all(np.array_equal(ours, np.asarray(theirs).astype(np.int64)) for ours, theirs in pairs)


def vectors(seed: int) -> np.ndarray:
    """Words of EVT3 with vectors and singles; each time is told whole, so that no rule of a decoder is in doubt."""
    random = np.random.default_rng(seed)
    words: list[int] = []
    for i in range(2000):
        t = 5000 + 37 * i
        words += [0x8000 | (t >> 12 & 0xFFF), 0x6000 | (t & 0xFFF), int(random.integers(0, HEIGHT))]
        sign = int(random.integers(2)) << 11
        if i % 2:
            words += [
                0x3000 | sign | int(random.integers(0, 600)),
                0x4000 | int(random.integers(1, 4096)),
                0x5000 | 0x81,
            ]
        else:
            words.append(0x2000 | sign | int(random.integers(0, WIDTH)))
    return np.array(words, "<u2")


# --- files: others read ours, and decode as we do ---------------------------------------------------------------------


def test_evt3_decodes_our_words_and_others_as_we_do(tmp_path: Path) -> None:
    peer = pytest.importorskip("evt3", reason="evt3 is a test oracle (MIT)")
    path = tmp_path / "a.raw"
    for words in (evt3.encode(made()), vectors(1).tobytes(), vectors(2).tobytes()):
        path.write_bytes(evt3.head(WIDTH, HEIGHT) + words)
        found = peer.decode_file(str(path))
        assert len(found.t) > 2000 and same(read(path), found.t, found.x, found.y, found.p)


@pytest.mark.parametrize("kind", ["evt2.raw", "evt3.raw", "dat", "es", "aedat4"])
def test_faery_reads_what_we_write_and_as_we_do(kind: str, tmp_path: Path) -> None:
    faery = pytest.importorskip("faery", reason="faery is a test oracle (LGPL)")
    block = made()
    path = tmp_path / f"a.{kind}"
    parts = [block.part(slice(i, i + 900)) for i in range(0, 20_000, 900)]
    path.write_bytes({
        "evt2.raw": evt2.head(WIDTH, HEIGHT) + evt2.encode(block),
        "evt3.raw": evt3.head(WIDTH, HEIGHT) + evt3.encode(block),
        "dat": dat.head(WIDTH, HEIGHT) + dat.encode(block),
        "es": es.head(WIDTH, HEIGHT) + es.encode(block, HEIGHT),
        "aedat4": aedat4_write.file(parts, WIDTH, HEIGHT, "LZ4"),
    }[kind])  # fmt: skip
    found = np.concatenate(list(faery.events_stream_from_file(str(path))))
    assert same(block, found["t"], found["x"], found["y"], found["on"]) and same(read(path), *by_name(found))


def by_name(found: Any) -> tuple[Any, Any, Any, Any]:
    return found["t"], found["x"], found["y"], found["on"]


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
def test_aedat_reads_what_we_write(compression: str, tmp_path: Path) -> None:
    aedat = pytest.importorskip("aedat", reason="aedat is a test oracle (MIT)")
    block = made()
    path = tmp_path / "a.aedat4"
    path.write_bytes(aedat4_write.file([block], WIDTH, HEIGHT, compression))
    packets = [packet["events"] for packet in aedat.Decoder(str(path)) if "events" in packet]
    found = np.concatenate(packets)
    assert same(block, found["t"], found["x"], found["y"], found["on"])


@pytest.mark.parametrize("compression", ["NONE", "LZ4", "ZSTD"])
def test_files_of_dv_processing_are_read(compression: str, tmp_path: Path) -> None:
    dv = pytest.importorskip("dv_processing", reason="dv-processing is a test oracle (Apache-2)")
    path = tmp_path / "a.aedat4"
    config = dv.io.MonoCameraWriter.Config("TEST", getattr(dv.CompressionType, compression))
    config.addEventStream((WIDTH, HEIGHT))
    config.addImuStream()
    writer = dv.io.MonoCameraWriter(str(path), config)
    block = made(3000, 1_700_000_000_000_000)
    for begin in range(0, 3000, 500):
        store = dv.EventStore()
        for t, x, y, sign in zip(*(c[begin : begin + 500].tolist() for c in block), strict=True):
            store.push_back(t // 1000, x, y, bool(sign))
        writer.writeEvents(store)
    del writer
    assert same(read(path), block.t_ns // 1000, block.x, block.y, block.polarity)
    with open_log(path) as log:
        packets = [m for _, _, m in log.messages(["/events"]) if isinstance(m, Events)]
        assert not log.problems and log.start_ns == block.t_ns[0]
    assert np.array_equal(np.concatenate([m.t_ns for m in packets]), block.t_ns - block.t_ns[0])


# --- recordings of real cameras ---------------------------------------------------------------------------------------


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "count"),
    [("faery_testdata/evt2.raw", 521_252), ("faery_testdata/dvs.es", 473_225),
     ("faery_testdata/davis346.aedat4", 78_830), ("tonic/sample.aedat4", 111_954)],
)  # fmt: skip
def test_recordings_are_read_as_faery_reads_them(name: str, count: int, shared_data: Path) -> None:
    faery = pytest.importorskip("faery", reason="faery is a test oracle (LGPL)")
    path = shared_data / "events" / name
    found = np.concatenate(list(faery.events_stream_from_file(str(path))))
    block = read(path)
    assert block.t_ns.size == count and same(block, *by_name(found))


@pytest.mark.data
def test_frames_and_samples_of_a_davis_are_read_as_aedat_reads_them(shared_data: Path) -> None:
    aedat = pytest.importorskip("aedat", reason="aedat is a test oracle (MIT)")
    path = shared_data / "events/faery_testdata/davis346.aedat4"
    frames: list[Any] = []
    samples: list[Any] = []
    for packet in aedat.Decoder(str(path)):
        frames += [packet["frame"]] if "frame" in packet else []
        samples += list(packet["imus"]) if "imus" in packet else []
    with open_log(path) as log:
        ours = [m for _, _, m in log.messages(["/frames"]) if isinstance(m, Frame)]
        motion = [m for _, _, m in log.messages(["/imu"]) if isinstance(m, Imu)]
        start_us = log.start_ns // 1000
    assert len(ours) == len(frames) == 59 and len(motion) == len(samples) > 2000
    for one, other in zip(ours, frames, strict=True):
        assert np.array_equal(one.image, other["pixels"]) and one.stamp.t_ns // 1000 + start_us == other["t"]
    for mine, theirs in list(zip(motion, samples, strict=True))[::100]:
        assert mine.stamp.t_ns // 1000 + start_us == theirs["t"]
        assert np.allclose(mine.acceleration_m_s2 / 9.80665, [theirs[f"accelerometer_{a}"] for a in "xyz"], atol=1e-6)
        assert np.allclose(
            np.degrees(mine.angular_velocity_rad_s), [theirs[f"gyroscope_{a}"] for a in "xyz"], atol=1e-6
        )
    assert 8 < np.linalg.norm(np.mean([m.acceleration_m_s2 for m in motion], axis=0)) < 11  # gravity


@pytest.mark.data
def test_other_recordings_are_read_and_look_right(shared_data: Path) -> None:
    cars = read(shared_data / "events/tonic/sample_ncars.dat")
    assert cars.t_ns.size == 2009 and cars.t_ns[-1] == 99_952_000 and cars.x.max() < 120 and cars.y.max() < 100
    path = shared_data / "events/slider_depth_chunk/slider_depth/events_chunk.txt"
    slider = read(path)
    table = np.loadtxt(path)
    assert slider.t_ns.size == 50_000 and np.array_equal(slider.x, table[:, 1].astype(np.uint16))
    assert np.abs(slider.t_ns - table[:, 0] * 1e9).max() < 1


# --- the network ------------------------------------------------------------------------------------------------------

_WRITER = """
import sys, time, dv_processing as dv
writer = dv.io.NetworkWriter("127.0.0.1", int(sys.argv[1]), dv.io.Stream.EventStream(0, "events", "TEST", (640, 480)))
print("listening", flush=True)
while writer.getClientCount() == 0:
    time.sleep(0.01)
for number in range(40):
    store, begin = dv.EventStore(), 1_700_000_000_000_000 + number * 1000
    for i in range(100):
        store.push_back(begin + i, i, number, bool(i % 2))
    writer.writeEvents(store)
    time.sleep(0.005)
sys.stdin.readline()
"""
_READER = """
import sys, time, dv_processing as dv
reader = dv.io.NetworkReader("127.0.0.1", int(sys.argv[1]))
print(*reader.getEventResolution(), flush=True)
got = 0
end = time.monotonic() + 10
while got < 20 and time.monotonic() < end:
    batch = reader.getNextEventBatch()
    if batch is None:
        time.sleep(0.002)
        continue
    got += 1
    all = batch.numpy()
    print(len(all), all["timestamp"].min(), all["timestamp"].max(), all["x"].max(), all["y"].max(), flush=True)
"""


@contextmanager
def process(code: str, port: str) -> Iterator[subprocess.Popen[str]]:
    """A peer in a process of its own: dv-processing holds the interpreter while it connects."""
    pytest.importorskip("dv_processing", reason="dv-processing is a test oracle (Apache-2)")
    pipe = subprocess.PIPE
    made_ = subprocess.Popen([sys.executable, "-c", code, port], stdin=pipe, stdout=pipe, text=True)
    try:
        yield made_
    finally:
        made_.kill()
        made_.communicate()


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def opened(uri: str) -> tuple[DvStream, LiveClock]:
    camera, clock = DvStream(address=uri.removeprefix("dv:")), LiveClock()
    camera.uri = uri
    clock.start()
    camera.open(clock)
    return camera, clock


def test_events_of_dv_processing_arrive() -> None:
    port = free_port()
    with process(_WRITER, port) as peer:
        assert peer.stdout is not None and peer.stdout.readline() == "listening\n"
        camera, clock = opened(f"dv:127.0.0.1:{port}")
        packets = [camera.read(5.0) for _ in range(40)]
        assert (camera.width, camera.height, camera.info().model) == (640, 480, "TEST")
        camera.close()
    for number, packet in enumerate(packets):
        assert packet.x.tolist() == list(range(100)) and set(packet.y.tolist()) == {number}
        assert packet.polarity.tolist() == [0, 1] * 50 and (np.diff(packet.t_ns) == 1000).all()
        assert packet.t_ns[-1] <= clock.now_ns()


def test_dv_processing_reads_the_emulator() -> None:
    emulator = DvStreamEmulator(address="127.0.0.1:0")
    with emulator, process(_READER, emulator.uri.rpartition(":")[2]) as peer:
        assert peer.stdout is not None
        assert peer.stdout.readline().split() == ["320", "240"]
        rows = [[int(word) for word in peer.stdout.readline().split()] for _ in range(20)]
    for count, first, last, x, y in rows:
        assert count == 4800 and 9_000 < last - first < 10_000 and x < 320 and y < 240
    assert all(b[1] - a[1] == 10_000 for a, b in itertools.pairwise(rows))


def test_a_recording_goes_over_the_network_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    path.write_bytes(evt2.head(WIDTH, HEIGHT) + evt2.encode(made(5000)))
    emulator = DvStreamEmulator(events=EventFile(address=path, packet=0.005), address="127.0.0.1:0")
    with emulator:
        camera, _ = opened(emulator.uri)
        packets = [camera.read(2.0) for _ in range(20)]
        camera.close()
    t = np.concatenate([p.t_ns for p in packets])
    x = np.concatenate([p.x for p in packets])
    everything = made(5000)
    begin = next(i for i in range(5000) if np.array_equal(everything.x[i : i + x.size], x))
    steps = np.diff(everything.t_ns[begin : begin + x.size])
    assert x.size > 1000 and np.abs(np.diff(t) - steps).max() < 3_000_000  # the map moves between packets only


# --- faults on the wire -----------------------------------------------------------------------------------------------


def drained(camera: DvStream, count: int) -> list[Events]:
    return [camera.read(2.0) for _ in range(count)]


def test_dropped_packets_leave_gaps_and_nothing_else() -> None:
    with DvStreamEmulator(events=EventPattern(2), address="127.0.0.1:0", faults=FaultPlan(drop=0.3)) as emulator:
        camera, _ = opened(emulator.uri)
        packets = drained(camera, 40)
        camera.close()
        assert emulator.counters()["dropped"] > 0
    assert all(p.t_ns.size == 960 for p in packets) and camera.health().counters["garbled"] == 0


def test_garbage_costs_packets_and_is_counted() -> None:
    with DvStreamEmulator(events=EventPattern(2), address="127.0.0.1:0", faults=FaultPlan(garbage=0.3)) as emulator:
        camera, _ = opened(emulator.uri)
        packets = drained(camera, 60)
        health = camera.health()
        camera.close()
    t = np.concatenate([p.t_ns for p in packets])
    assert (np.diff(t) >= 0).all() and health.state == "degraded" and health.counters["garbled"] > 0
    assert sum(p.t_ns.size == 960 for p in packets) >= 50


def test_delayed_packets_keep_their_order_and_the_clock_finds_the_delay() -> None:
    plan = FaultPlan(delay_s=0.01, delay=0.1)
    with DvStreamEmulator(events=EventPattern(2), address="127.0.0.1:0", faults=plan) as emulator:
        camera, _ = opened(emulator.uri)
        packets = drained(camera, 80)
        camera.close()
    t = np.concatenate([p.t_ns for p in packets])
    assert (np.diff(t) >= 0).all() and {p.epoch for p in packets} == {0}
    late = np.diff([int(p.t_ns[0]) for p in packets[40:]])
    assert np.abs(late - 2_000_000).max() < 1_500_000  # the sender's clock, not the arrivals


@pytest.mark.parametrize("jump_s", [-5.0, 5.0])
def test_a_clock_that_jumps_is_a_new_epoch(jump_s: float) -> None:
    plan = FaultPlan(clock_jump_at_s=0.15, clock_jump_s=jump_s)
    with DvStreamEmulator(events=EventPattern(2), address="127.0.0.1:0", faults=plan) as emulator:
        camera, clock = opened(emulator.uri)
        packets = drained(camera, 150)
        camera.close()
    epochs = [p.epoch for p in packets]
    assert epochs[0] == 0 and epochs[-1] == 1
    t = np.concatenate([p.t_ns for p in packets])
    assert (np.diff(t) >= 0).all() and np.diff(t).max() < 1_000_000_000 and t[-1] <= clock.now_ns()


def test_a_sender_that_goes_and_comes_back() -> None:
    plan = FaultPlan(unplug_s=0.1, replug_s=0.1)
    with DvStreamEmulator(events=EventPattern(2), address="127.0.0.1:0", faults=plan) as emulator:
        camera, clock = opened(emulator.uri)
        with pytest.raises(Disconnected, match="the sender closed the connection"):
            while True:
                camera.read(1.0)
        assert camera.health().state == "lost"
        camera.close()
        end_ns = process_ns() + 5_000_000_000
        while True:
            try:
                camera.open(clock)
                break
            except NotFound:
                assert process_ns() < end_ns
        assert drained(camera, 5)[-1].t_ns.size == 960
        camera.close()


def test_a_client_that_does_not_read_does_not_hold_up_others() -> None:
    with DvStreamEmulator(events=EventPattern(2), address="127.0.0.1:0") as emulator:
        idle, _ = opened(emulator.uri)
        busy, _ = opened(emulator.uri)
        drained(busy, 100)
        assert emulator.counters()["clients"] == 2
        idle.close()
        drained(busy, 5)
        busy.close()


def test_what_is_no_sender_of_events_is_named() -> None:
    for address, words in (("nowhere", "no HOST:PORT"), (f"127.0.0.1:{free_port()}", "no sender listens there")):
        camera = DvStream(address=address)
        camera.uri = f"dv:{address}"
        with pytest.raises(NotFound, match=f"dv:{address}: cannot open: .*{words}"):
            camera.open(LiveClock())
    head = aedat4_write.head(10, 10, "x").replace(b">EVTS<", b">FRME<")
    for greeting, kind, words in (
        (b"SSH-2.0-OpenSSH_9.6\r\n", ProtocolError, "no head of AEDAT4"),
        (head, NotSupported, "it sends no events, but FRME"),
        (head[:-5] + b"!!!!!", ProtocolError, "no head of AEDAT4"),
    ):
        with socket.socket() as server:
            server.bind(("127.0.0.1", 0))
            server.listen()
            camera = DvStream(address=f"127.0.0.1:{server.getsockname()[1]}")

            def greet(server: socket.socket = server, greeting: bytes = greeting) -> None:
                connection, _ = server.accept()
                connection.sendall(greeting)
                connection.close()

            thread = threading.Thread(target=greet)
            thread.start()
            with pytest.raises((kind, Disconnected)) as caught:
                camera.open(LiveClock())
            thread.join()
            assert isinstance(caught.value, Disconnected) or words in str(caught.value)
            camera.close()


def test_the_emulator_listens_on_loopback_only() -> None:
    for address in ("0.0.0.0:7777", "nowhere", "192.168.0.1:7777"):
        with pytest.raises(FoveateError, match=r"takes 127\.0\.0\.1:PORT"):
            DvStreamEmulator(address=address)


def test_a_silent_sender_is_a_timeout() -> None:
    with DvStreamEmulator(events=EventPattern(2), address="127.0.0.1:0", faults=FaultPlan(drop=1.0)) as emulator:
        camera, _ = opened(emulator.uri)
        with pytest.raises(Timeout, match=r"no packet within 0\.1 s"):
            camera.read(0.1)
        camera.close()


def test_a_sender_of_nothing_but_noise_is_a_timeout_too() -> None:
    """It fills the connection faster than noise can be searched."""
    noise, stopped = np.random.default_rng(0).bytes(1 << 20), threading.Event()
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()

        def send() -> None:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(aedat4_write.head(320, 240, "x"))
                while not stopped.is_set():
                    connection.sendall(noise)

        thread = threading.Thread(target=send)
        thread.start()
        camera = DvStream(address=f"127.0.0.1:{server.getsockname()[1]}")
        camera.open(LiveClock())
        closing = threading.Timer(5.0, camera.close)
        closing.start()
        try:
            with pytest.raises(Timeout):
                camera.read(0.1)
            assert camera.health().state == "degraded"
        finally:
            closing.cancel()
            closing.join()
            stopped.set()
            camera.close()
            thread.join()
