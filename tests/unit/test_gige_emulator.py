"""The emulated GigE Vision camera, asked packet by packet by a socket of our own."""

from __future__ import annotations

import gc
import itertools
import socket
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from foveate.clock import process_ns
from foveate.errors import Busy
from foveate_drivers.cameras import gvcp
from foveate_drivers.emulators import gige_registers as reg
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.emulators.gige import GigeEmulator
from foveate_drivers.emulators.gige_pattern import TestPattern, number_in

pytestmark = pytest.mark.live

ADDRESS = "127.0.0.71"  # of nobody else: these tests need not wait for others
ACCESS_DENIED, INVALID_PARAMETER, INVALID_ADDRESS, WRITE_PROTECT = 0x8006, 0x8002, 0x8003, 0x8004


class Application:
    """One end of the control channel."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.socket.settimeout(2.0)
        self.ids = itertools.count(1)

    def ask(self, command: int, body: bytes = b"", flags: int = gvcp.ACK_REQUIRED) -> tuple[int, bytes]:
        """(status, content) of the reply."""
        number = next(self.ids)
        packet = gvcp.HEADER.pack(gvcp.COMMAND_KEY, flags, command, len(body), number) + body
        self.socket.sendto(packet, (ADDRESS, gvcp.PORT))
        reply = self.socket.recv(2048)
        status, answer, length, replied = gvcp.ACK_HEADER.unpack_from(reply)
        assert (answer, replied, length) == (command + 1, number, len(reply) - 8)
        return status, reply[8:]

    def read(self, at: int) -> int:
        status, content = self.ask(gvcp.READ_REGISTER, struct.pack(">I", at))
        assert status == 0
        return int.from_bytes(content, "big")

    def write(self, at: int, value: int) -> int:
        return self.ask(gvcp.WRITE_REGISTER, struct.pack(">II", at, value))[0]

    def write_number(self, at: int, value: float) -> int:
        return self.ask(gvcp.WRITE_MEMORY, struct.pack(">Id", at, value))[0]

    def memory(self, at: int, count: int) -> bytes:
        parts = []
        for start in range(at, at + count, 512):
            step = min(512, at + count - start)
            status, content = self.ask(gvcp.READ_MEMORY, struct.pack(">IHH", start, 0, step))
            assert status == 0 and content[:4] == struct.pack(">I", start)
            parts.append(content[4:])
        return b"".join(parts)

    def close(self) -> None:
        self.socket.close()


@pytest.fixture
def emulator() -> Iterator[GigeEmulator]:
    with GigeEmulator(address=ADDRESS, camera=None, serial="S1", faults=FaultPlan()) as made:
        yield made


@pytest.fixture
def application() -> Iterator[Application]:
    made = Application()
    yield made
    made.close()


def test_it_says_who_it_is(emulator: GigeEmulator, application: Application) -> None:
    status, content = application.ask(gvcp.DISCOVERY)
    assert status == 0 and len(content) == 0xF8
    assert content[0x48:0x50] == b"foveate\0" and content[0xD8:0xDB] == b"S1\0"
    assert socket.inet_ntoa(content[0x24:0x28]) == ADDRESS


def test_its_description_is_well_formed_and_complete(emulator: GigeEmulator, application: Application) -> None:
    url = application.memory(0x200, 512).split(b"\0")[0].decode()
    place, at, length = url.removeprefix("Local:").split(";")
    root = ET.fromstring(application.memory(int(at, 16), int(length, 16)))
    space = "{http://www.genicam.org/GenApi/Version_1_1}"
    names = {node.get("Name") for node in root}
    wanted = {item.text for item in root.iter() if item.tag in (f"{space}pFeature", f"{space}pValue", f"{space}pMax")}
    assert place.endswith(".xml") and wanted <= names
    assert {"Width", "ExposureTime", "TriggerSoftware", "DeviceTemperature", "TimestampLatch"} <= names


def test_only_who_controls_it_may_write(emulator: GigeEmulator, application: Application) -> None:
    other = Application()
    assert application.write(reg.WIDTH, 320) == ACCESS_DENIED
    assert application.write(reg.CONTROL, 2) == 0
    assert application.write(reg.WIDTH, 320) == 0
    assert other.write(reg.CONTROL, 2) == ACCESS_DENIED
    assert other.write(reg.WIDTH, 160) == ACCESS_DENIED
    assert other.read(reg.WIDTH) == 320  # but all may read
    assert application.write(reg.CONTROL, 0) == 0
    assert other.write(reg.CONTROL, 2) == 0
    other.close()


def test_control_ends_without_a_heartbeat(emulator: GigeEmulator, application: Application) -> None:
    other = Application()
    assert application.write(reg.CONTROL, 2) == 0 and application.write(reg.HEARTBEAT_MS, 100) == 0
    end_ns = process_ns() + 3_000_000_000
    while other.write(reg.CONTROL, 2) != 0:
        assert process_ns() < end_ns, "control was not given up"
    assert application.write(reg.WIDTH, 320) == ACCESS_DENIED
    assert emulator.counters()["heartbeats missed"] == 1
    other.close()


def test_it_refuses_what_it_cannot_do(emulator: GigeEmulator, application: Application) -> None:
    assert application.write(reg.CONTROL, 2) == 0
    assert application.write(reg.WIDTH, 4000) == INVALID_PARAMETER
    assert application.write_number(reg.EXPOSURE, 1e9) == INVALID_PARAMETER
    assert application.write_number(reg.EXPOSURE, float("nan")) == INVALID_PARAMETER
    assert application.write(reg.PAYLOAD_SIZE, 1) == WRITE_PROTECT
    assert application.write(0x00F0_0000, 1) == INVALID_ADDRESS
    assert application.ask(gvcp.READ_REGISTER, struct.pack(">I", 0x00F0_0000))[0] == INVALID_ADDRESS
    assert application.ask(0x00C0)[0] == 0x8001
    assert application.write_number(reg.EXPOSURE, 1234.5) == 0
    assert struct.unpack(">d", application.memory(reg.EXPOSURE, 8)) == (1234.5,)


def test_its_clock_is_that_of_a_crystal_that_is_a_little_fast(emulator: GigeEmulator, application: Application) -> None:
    application.write(reg.CONTROL, 2)
    seen = []
    for _ in range(2):
        before_ns = emulator.clock.now_ns()
        assert application.write(reg.TIMESTAMP_CONTROL, 2) == 0
        after_ns = emulator.clock.now_ns()
        ticks = application.read(reg.TIMESTAMP_VALUE) << 32 | application.read(reg.TIMESTAMP_VALUE + 4)
        assert application.read(0x0940) == reg.TICKS_PER_S
        seen.append((before_ns, ticks * 8 - 3_000_000_000_000, after_ns))
    for before_ns, device_ns, after_ns in seen:
        assert before_ns <= device_ns / (1 + 40e-6) + 10 and device_ns / (1 + 40e-6) - 10 <= after_ns


def stream_of(application: Application, packet_size: int, size: tuple[int, int]) -> socket.socket:
    """A socket that the camera streams to, from now on."""
    receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    receiver.bind(("127.0.0.1", 0))
    receiver.settimeout(2.0)
    writes = [(reg.CONTROL, 2), (reg.WIDTH, size[0]), (reg.HEIGHT, size[1]), (reg.STREAM_PACKET, packet_size),
              (reg.STREAM_PORT, receiver.getsockname()[1]), (reg.STREAM_ADDRESS, 0x7F000001),
              (reg.ACQUISITION_START, 1)]  # fmt: skip
    assert [application.write(at, value) for at, value in writes] == [0] * len(writes)
    return receiver


def test_a_frame_is_leader_packets_and_trailer(emulator: GigeEmulator, application: Application) -> None:
    with stream_of(application, 1036, (200, 21)) as receiver:
        packets = [receiver.recv(9000) for _ in range(7)]  # 4,200 bytes of image in 1,000 a packet
    heads = [struct.unpack_from(">HHI", packet) for packet in packets]
    assert [(status, number) for status, number, _ in heads] == [(0, 1)] * 7
    assert [place >> 24 for _, _, place in heads] == [1, 3, 3, 3, 3, 3, 2]
    assert [place & 0xFFFFFF for _, _, place in heads] == list(range(7))
    kind, _, code, width, height = struct.unpack_from(">HQIII", packets[0], 10)
    assert (kind, code, width, height) == (1, 0x01080001, 200, 21)
    image = np.frombuffer(b"".join(packet[8:] for packet in packets[1:6]), np.uint8).reshape(21, 200)
    assert number_in(image) == 1
    assert [len(packet) - 8 for packet in packets[1:6]] == [1000] * 4 + [200]
    assert struct.unpack_from(">HHI", packets[6], 8) == (0, 1, 21)


def test_packets_can_be_had_again_while_they_are_kept(emulator: GigeEmulator, application: Application) -> None:
    with stream_of(application, 1036, (200, 21)) as receiver:
        first = [receiver.recv(9000) for _ in range(7)]
        application.write(reg.ACQUISITION_STOP, 1)
        receiver.settimeout(0.2)
        try:
            while True:
                receiver.recv(9000)
        except TimeoutError:
            pass
        receiver.settimeout(2.0)
        for block, span in ((1, (2, 4)), (999, (2, 2))):
            body = struct.pack(">HHII", 0, block, *span)
            packet = gvcp.HEADER.pack(gvcp.COMMAND_KEY, 0, gvcp.RESEND, len(body), 7) + body
            application.socket.sendto(packet, (ADDRESS, gvcp.PORT))
        again = [receiver.recv(9000) for _ in range(4)]
    assert again[:3] == first[2:5]
    assert struct.unpack_from(">HH", again[3]) == (0x800C, 999)


def test_an_unplugged_camera_is_silent_and_comes_back_as_new(emulator: GigeEmulator, application: Application) -> None:
    application.write(reg.CONTROL, 2)
    application.write(reg.WIDTH, 320)
    emulator.unplug()
    application.socket.settimeout(0.1)
    with pytest.raises(TimeoutError):
        application.read(reg.WIDTH)
    emulator.replug()
    application.socket.settimeout(2.0)
    assert application.read(reg.WIDTH) == 640 and application.read(reg.CONTROL) == 0


def test_an_address_that_is_taken_is_busy(emulator: GigeEmulator) -> None:
    with pytest.raises(Busy, match=rf"cannot serve: {ADDRESS}:3956"):
        GigeEmulator(address=ADDRESS).start()


def test_what_is_asked_of_no_stream_does_not_stop_it(emulator: GigeEmulator, application: Application) -> None:
    """Packets of a block before a stream has an address, and test packets shorter than their own headers."""
    assert application.write(reg.CONTROL, 2) == 0
    resend = struct.pack(">HHII", 0, 1, 1, 2)
    packet = gvcp.HEADER.pack(gvcp.COMMAND_KEY, 0, gvcp.RESEND, len(resend), 7) + resend
    application.socket.sendto(packet, (ADDRESS, gvcp.PORT))
    assert application.ask(gvcp.DISCOVERY)[0] == 0
    assert application.write(reg.STREAM_PACKET, reg.FIRE_TEST | 5) == 0
    assert application.ask(gvcp.DISCOVERY)[0] == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.one_of(
        st.binary(max_size=600),
        st.builds(
            lambda flags, command, length, body: struct.pack(">BBHHH", 0x42, flags, command, length, 9) + body,
            st.integers(0, 255), st.sampled_from([2, 0x40, 0x80, 0x82, 0x84, 0x86, 0x89]), st.integers(0, 600),
            st.binary(max_size=600),
        ),
    )
)  # fmt: skip
def test_no_packet_stops_it(emulator: GigeEmulator, application: Application, data: bytes) -> None:
    application.socket.sendto(data, (ADDRESS, gvcp.PORT))
    other = Application()
    assert other.ask(gvcp.DISCOVERY)[0] == 0
    other.close()


def test_the_pattern_tells_its_number() -> None:
    pattern = TestPattern(width=160, height=16)
    for number in (1, 2, 255, 256, 40000):
        assert number_in(pattern._picture(number)) == number
    assert number_in(np.full((16, 160), 77, np.uint8)) == -1
    assert number_in(np.zeros((4, 4), np.uint8)) == -1


def test_a_pulse_that_finds_no_way_leaves_no_socket_open() -> None:
    with pytest.raises(OSError):
        gvcp.Pulse("255.255.255.255", 1, 1)  # everybody: a socket must be told that it may
    gc.collect()  # an open one were a warning here
