"""Event files: round trips, damage, clocks, detection, what the commands and the driver make of them."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from foveate.cli import main
from foveate.clock import VirtualClock
from foveate.errors import EndOfStream, FoveateError, NotFound, ProtocolError, RecordingError
from foveate.messages import Events
from foveate_drivers.events.files import EventFile
from foveate_drivers.events.log import LogEventCamera
from foveate_logbook.formats import event_packets
from foveate_logbook.formats.events import (
    aedat4,
    aedat4_format,
    aedat4_write,
    dat,
    es,
    evt2,
    evt3,
    recognise,
    sequence,
    text,
)  # fmt: skip
from foveate_logbook.formats.events.base import Block, EventReader, block_of, joined
from foveate_logbook.formats.opening import open_log

WIDTH, HEIGHT = 640, 480
S = 1_000_000_000


def made(seed: int = 1, count: int = 5000, step_us: float = 40.0, begin_us: int = 1_000_000) -> Block:
    """Events in the order of time, in whole microseconds."""
    random = np.random.default_rng(seed)
    t = begin_us + np.cumsum(random.exponential(step_us, count)).astype(np.int64)
    x, y, sign = (random.integers(0, size, count) for size in (WIDTH, HEIGHT, 2))
    return block_of(t * 1000, x, y, sign)


def pieces(block: Block, size: int = 700) -> list[Block]:
    return [block.part(slice(i, i + size)) for i in range(0, max(block.t_ns.size, 1), size)]


WRITERS: dict[str, Callable[[Block], bytes]] = {
    "EVT2": lambda b: evt2.head(WIDTH, HEIGHT) + evt2.encode(b),
    "EVT3": lambda b: evt3.head(WIDTH, HEIGHT) + evt3.encode(b),
    "DAT": lambda b: dat.head(WIDTH, HEIGHT) + dat.encode(b),
    "Event Stream": lambda b: es.head(WIDTH, HEIGHT) + es.encode(b, HEIGHT),
    "AEDAT4": lambda b: aedat4_write.file(pieces(b), WIDTH, HEIGHT),
    "AEDAT4 LZ4": lambda b: aedat4_write.file(pieces(b), WIDTH, HEIGHT, "LZ4"),
    "AEDAT4 ZSTD": lambda b: aedat4_write.file(pieces(b), WIDTH, HEIGHT, "ZSTD_HIGH"),
    "text": lambda b: b"640 480\n" + text.encode(b),
    "text us": lambda b: b"# t x y p\n" + text.encode(b, "us"),
}
every_format = pytest.mark.parametrize("kind", WRITERS)


def written(folder: Path, kind: str, block: Block) -> EventReader:
    path = folder / "recording"  # no suffix: only what it holds tells
    path.write_bytes(WRITERS[kind](block))
    reader = recognise.reader_of(path)
    assert reader is not None
    return reader


def whole(reader: EventReader) -> Block:
    return joined(list(reader.blocks()))


def same(a: Block, b: Block) -> bool:
    return all(np.array_equal(one, other) for one, other in zip(a, b, strict=True))


# --- reading what was written -----------------------------------------------------------------------------------------


@every_format
@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1), count=st.integers(1, 3000), begin_us=st.integers(0, 2**33),
    step_us=st.sampled_from([0.01, 1.0, 50.0, 5000.0]),
)  # fmt: skip
def test_what_was_written_is_read(
    kind: str, seed: int, count: int, begin_us: int, step_us: float, tmp_path: Path
) -> None:
    begin_us %= {"Event Stream": 2**24, "DAT": 2**31, "EVT3": 2**23}.get(kind, 2**33)  # before the clock's first wrap
    block = made(seed, count, step_us, begin_us)
    reader = written(tmp_path, kind, block)
    assert same(whole(reader), block) and not reader.lost
    assert reader.name == kind.split()[0] or kind == "Event Stream"
    assert same(whole(reader), block)  # once more


@pytest.mark.parametrize(
    ("kind", "span_us"), [("EVT2", 1 << 34), ("EVT3", 1 << 24), ("DAT", 1 << 32)], ids=["EVT2", "EVT3", "DAT"]
)
def test_clocks_that_wrap_go_on(kind: str, span_us: int, tmp_path: Path) -> None:
    block = made(3, 4000, 40.0, span_us - 80_000)
    assert block.t_ns[0] // 1000 < span_us < block.t_ns[-1] // 1000
    reader = written(tmp_path, kind, block)
    assert same(whole(reader), block)
    with open_log(reader.path) as log:
        assert not log.problems and log.end_ns - log.start_ns == block.t_ns[-1] - block.t_ns[0]


def test_evt3_wraps_again_and_again(tmp_path: Path) -> None:
    t = np.arange(0, 100_000_000, 3_000) * 1000  # 100 s: six wraps of 16.8 s
    block = block_of(t, t % WIDTH, t % HEIGHT, t % 2)
    assert same(whole(written(tmp_path, "EVT3", block)), block)


words_of_evt3 = st.lists(
    st.one_of(
        st.integers(0, 0xFFFF),
        st.builds(lambda kind, value: kind << 12 | value, st.sampled_from([0, 2, 3, 4, 5, 6, 8]), st.integers(0, 4095)),
    ),
    max_size=400,
)


@given(words=words_of_evt3, cut=st.integers(1, 100))
def test_compiled_and_vectorised_decoders_of_evt3_are_one(words: list[int], cut: int) -> None:
    pytest.importorskip("numba", reason="the compiled decoder is an extra")
    data = np.array(words, np.uint16)
    slow, fast = evt3.Evt3Words(), evt3.Evt3Words(fast=True)
    assert fast._fast is not None
    for begin in range(0, data.size, cut):
        part = data[begin : begin + cut]
        assert same(slow.decode(part), fast.decode(part))
        assert slow.early == fast.early and slow.strange == fast.strange
        assert np.array_equal(slow.state[[0, 2]], fast.state[[0, 2]])


def test_a_board_without_numba_decodes_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evt3, "compiled", lambda: None)
    block = made(5)
    path = tmp_path / "a.raw"
    path.write_bytes(WRITERS["EVT3"](block))
    assert same(whole(evt3.Evt3File(path, fast=True)), block)


def test_chunks_do_not_show(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate_logbook.formats.events import base

    block = made(6, 3000)
    for kind in WRITERS:
        reader = written(tmp_path, kind, block)
        for size in (7, 64, 1001):
            monkeypatch.setattr(base, "CHUNK_BYTES", size)
            monkeypatch.setattr(es, "CHUNK_BYTES", size)
            monkeypatch.setattr(text, "_CHUNK", max(size, 64))
            assert same(whole(reader), block), (kind, size)


def test_a_large_file_is_never_in_memory(tmp_path: Path) -> None:
    block = made(7, 3_000_000, 1.0)
    path = tmp_path / "a.raw"
    path.write_bytes(WRITERS["EVT2"](block))
    assert path.stat().st_size > 12_000_000
    camera = EventFile(address=path)
    tracemalloc.start()
    clock, count = VirtualClock(), 0
    camera.open(clock)
    try:
        while True:
            clock.advance(camera.due_ns())
            count += camera.read(0.1).t_ns.size
    except EndOfStream:
        pass
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    camera.close()
    assert count == 3_000_000
    assert peak < 8_000_000, f"{peak} bytes"


# --- damage -----------------------------------------------------------------------------------------------------------


def everything(path: Path) -> list[Events]:
    with open_log(path) as log:
        packets = [message for _, _, message in log.messages() if isinstance(message, Events)]
    for packet in packets:
        assert (np.diff(packet.t_ns) >= 0).all() and packet.t_ns.size
        assert packet.x.max() < packet.width and packet.y.max() < packet.height and packet.polarity.max() <= 1
    for a, b in itertools.pairwise(packets):
        assert b.t_ns[0] >= a.t_ns[-1] and b.epoch >= a.epoch
    return packets


def spoiled(data: bytes, random: np.random.Generator) -> bytes:
    """Bits flipped, bytes cut out or put in, the end cut off."""
    changed = bytearray(data)
    for _ in range(int(random.integers(1, 12))):
        place = int(random.integers(len(changed)))
        kind = int(random.integers(4))
        if kind == 0:
            changed[place] ^= 1 << int(random.integers(8))
        elif kind == 1:
            del changed[place : place + int(random.integers(1, 40))]
        elif kind == 2:
            changed[place:place] = random.integers(0, 256, int(random.integers(1, 40)), np.uint8).tobytes()
        else:
            del changed[max(place, 20) :]
        if not changed:
            break
    return bytes(changed)


@every_format
@pytest.mark.parametrize("seed", range(40))
def test_damaged_files_give_what_they_can_and_typed_errors(kind: str, seed: int, tmp_path: Path) -> None:
    random = np.random.default_rng(seed)
    path = tmp_path / "a"
    path.write_bytes(spoiled(WRITERS[kind](made(seed, 1500)), random))
    try:
        everything(path)
    except FoveateError as error:
        assert "\n" not in str(error) and str(path) in str(error)
    camera, clock = EventFile(address=path), VirtualClock()
    camera.uri = "evt:a"
    try:
        camera.open(clock)
        for _ in range(30):
            clock.advance(camera.due_ns())
            camera.read(0.1)
    except EndOfStream:
        pass
    except FoveateError as error:
        assert str(error).startswith("evt:a: cannot open")
    camera.close()


@every_format
@given(data=st.binary(max_size=300))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_noise_behind_a_head_is_survived(kind: str, data: bytes, tmp_path: Path) -> None:
    block = made(1, 1)
    head = WRITERS[kind](block)
    path = tmp_path / "a"
    path.write_bytes(head + data)
    try:
        everything(path)
    except FoveateError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    ("kind", "cut", "lost"),
    [
        ("EVT2", 3, "1 bytes at the end that make no whole word"), ("EVT3", 1, "1 bytes at the end that make no whole"),
        ("DAT", 3, "5 bytes at the end that make no whole event"), ("AEDAT4 LZ4", 9, "bytes of damaged packets"),
        ("Event Stream", 2, "3 bytes at the end that make no whole event"),
    ],
)  # fmt: skip
def test_what_is_cut_off_is_told(kind: str, cut: int, lost: str, tmp_path: Path) -> None:
    reader = written(tmp_path, kind, made(2, 3000))
    reader.path.write_bytes(reader.path.read_bytes()[:-cut])
    with open_log(reader.path) as log:
        count = sum(m.t_ns.size for _, _, m in log.messages() if isinstance(m, Events))
        assert 2000 <= count < 3000 and any(lost in text for text in log.problems.values()), log.problems


def test_a_spoiled_packet_of_aedat4_takes_only_itself(tmp_path: Path) -> None:
    for compression in ("NONE", "LZ4", "ZSTD"):
        block = made(4, 7000)
        data = bytearray(aedat4_write.file(pieces(block), WIDTH, HEIGHT, compression))
        begin = len(aedat4_format.MAGIC) + len(aedat4_write.head(WIDTH, HEIGHT, "foveate", compression))
        third = begin
        for _ in range(2):
            third += 8 + int.from_bytes(data[third + 4 : third + 8], "little")
        for place, value in (
            (third + 4, 0x7F),
            (third + 7, 0x70),
            (third, 0x55),
            (third + 40, data[third + 40] ^ 0xFF),
        ):
            spoilt = bytearray(data)
            spoilt[place] = value
            path = tmp_path / "a"
            path.write_bytes(spoilt)
            reader = aedat4.Aedat4File(path)
            got = sum(part.t_ns.size for part in reader.blocks())
            assert got >= 6300 - 700 * (place != third + 40), (compression, place - third, got)


def test_a_packet_that_unpacks_to_too_much_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    zeros = np.zeros(60_000, np.int64)
    large = block_of(zeros, zeros, zeros, zeros)
    for compression in ("LZ4", "ZSTD"):
        path = tmp_path / "bomb"
        path.write_bytes(aedat4_write.file([made(1, 10), large, made(3, 10)], WIDTH, HEIGHT, compression))
        reader = aedat4.Aedat4File(path)
        monkeypatch.setattr(aedat4_format, "MOST_PACKET", 1 << 19)
        assert [part.t_ns.size for part in reader.blocks()] == [10, 10]
        assert any("256 MB" in reason for reason in reader.lost)
        monkeypatch.undo()


# --- order, place, clock ----------------------------------------------------------------------------------------------


def test_events_outside_the_sensor_are_left_out_and_told(tmp_path: Path) -> None:
    block = made(1, 1000)
    block.x[100:103] = 700
    block.y[500] = 480
    packets = everything(written(tmp_path, "EVT2", block).path)
    assert sum(p.t_ns.size for p in packets) == 996 and sum(p.lost_before for p in packets) == 4
    with open_log(tmp_path / "recording") as log:
        assert log.problems == {"/events": "4 events outside the sensor"}


def test_disorder_is_mended_and_counted() -> None:
    ordering = sequence.Sequence(10, 10)
    t = np.array([5, 7, 6, 9, 8, 8, 10], np.int64) * 1000
    zeros = np.zeros(7, int)
    first = ordering.put(block_of(t, zeros, zeros, zeros))
    assert (first.t_ns // 1000).tolist() == [5, 7, 7, 9, 9, 9, 10]
    second = ordering.put(block_of(np.array([9_000, 11_000]), zeros[:2], zeros[:2], zeros[:2]))
    assert (second.t_ns // 1000).tolist() == [10, 11]
    assert ordering.counts == {sequence.DISORDER: 4} and ordering.epoch == 0


@pytest.mark.parametrize("jump_s", [-100, -0.6, 4000, 10**7])
def test_a_clock_that_jumps_is_a_new_epoch_and_time_goes_on(jump_s: float) -> None:
    ordering = sequence.Sequence(10, 10)
    t = np.arange(10, dtype=np.int64) * 1_000_000 + 10**15
    t[5:] += round(jump_s * 1e9)
    zeros = np.zeros(10, int)
    out = ordering.put(block_of(t, zeros, zeros, zeros))
    assert (np.diff(out.t_ns) == [10**6] * 4 + [0] + [10**6] * 4).all()
    later = ordering.put(block_of(t[-1:] + 10**6, zeros[:1], zeros[:1], zeros[:1]))
    assert later.t_ns[0] == out.t_ns[-1] + 10**6
    assert ordering.epoch == 1 and ordering.counts == {sequence.JUMPS: 1}


def test_packets_cut_the_stream_without_loss(tmp_path: Path) -> None:
    block = made(9, 4000, 100.0)
    reader = written(tmp_path, "EVT3", block)
    for packet_ns in (10_000, 1_000_000, 10_000_000, 10 * S):
        for empty in (False, True):
            made_ = list(sequence.packets(reader, sequence.Sequence(WIDTH, HEIGHT), packet_ns, empty))
            t = np.concatenate([p.t_ns for p in made_])
            assert np.array_equal(t, block.t_ns - block.t_ns[0])
            begins = [p.stamp.t_ns - packet_ns // 2 for p in made_]
            assert all(b % packet_ns == 0 for b in begins)
            assert all(
                (p.t_ns >= b).all() and (p.t_ns < b + packet_ns).all() for p, b in zip(made_, begins, strict=True)
            )
            if empty:
                assert np.array_equal(np.diff(begins), [packet_ns] * (len(begins) - 1))
            else:
                assert all(p.t_ns.size for p in made_)


def test_a_crowded_interval_gives_several_packets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from foveate_logbook.formats.events import base

    monkeypatch.setattr(sequence, "MOST_EVENTS", 1000)
    monkeypatch.setattr(base, "CHUNK_BYTES", 400)
    block = made(9, 5000, 0.1)
    reader = written(tmp_path, "EVT2", block)
    parts = list(sequence.packets(reader, sequence.Sequence(WIDTH, HEIGHT), S))
    assert len(parts) >= 4 and max(p.t_ns.size for p in parts) <= 1100
    begins = [p.stamp.t_ns - p.stamp.exposure_ns // 2 for p in parts]
    assert begins[0] == 0 and all(b >= a.t_ns[-1] - 1 for a, b in zip(parts, begins[1:], strict=False))  # each its part
    assert np.array_equal(np.concatenate([p.x for p in parts]), block.x)


# --- text -------------------------------------------------------------------------------------------------------------

ONE, TWO = (1_500_000, 3, 4, 1), (2_500_000, 5, 6, 0)
TEXTS = {
    "0.0015 3 4 1\n0.0025 5 6 0\n": "txyp s",
    "1500 3 4 1\n2500 5 6 0\n": "txyp us",
    "1500,3,4,1\r\n2500,5,6,0\r\n": "txyp us",
    "1500\t3\t4\t1\n2500\t5\t6\t-1\n": "txyp us",
    "3,4,1,1500\n5,6,0,2500\n": "xypt us",
    "x,y,p,t\n3,4,1,1500\n5,6,0,2500\n": "xypt us",
    "timestamp,x,y,polarity\n1500,3,4,True\n2500,5,6,False\n": "txyp us",
    "t_ns;x;y;p\n1500000;3;4;1\n2500000;5;6;0\n": "txyp ns",
    "# a comment\n% another\n\n1.5e-3 3 4 1\n2.5e-3 5 6 0\n": "txyp s",
    "x y id p time\n3 4 99 1 0.0015\n5 6 99 0 0.0025\n": "xy_pt s",
    "10 20\n0.001500000 3.0 4.0 1.0\n0.0025 5.0 6.0 0.0": "txyp s",
}


@pytest.mark.parametrize("content", TEXTS, ids=range(len(TEXTS)))
def test_texts_are_read_as_they_are_laid_out(content: str, tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_text(content)
    reader = recognise.reader_of(path)
    assert isinstance(reader, text.TextFile)
    order, unit = TEXTS[content].split()
    assert reader.about["columns"].startswith(order) and reader.about["times"] == unit
    block = whole(reader)
    assert [tuple(map(int, row)) for row in zip(*block, strict=True)] == [ONE, TWO] and not reader.lost


def test_times_of_a_text_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1468941032.229165001 1 2 1\n1468941032.229165002 1 2 0\n")
    reader = recognise.reader_of(path)
    assert reader is not None and whole(reader).t_ns.tolist() == [1468941032229165001, 1468941032229165002]


def test_a_unit_can_be_forced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("1500 3 4 1\n2500 5 6 0\n")
    for unit, factor in (("s", 10**9), ("ms", 10**6), ("us", 1000), ("ns", 1)):
        reader = recognise.reader_of(path, unit)
        assert reader is not None and whole(reader).t_ns.tolist() == [1500 * factor, 2500 * factor]
        assert reader.about["times"] == f"{unit}, as asked"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    rows=st.lists(
        st.tuples(
            st.integers(-(10**12), 10**15), st.integers(0, 12), st.integers(-3, 70000), st.integers(-1, 1),
            st.sampled_from(["", "bad line", "1 2 3", "nan 1 2 1", "1 1e999 2 1", f"{'9' * 5000} 1 2 1"]),
        ), min_size=1, max_size=30,
    )
)  # fmt: skip
@example(rows=[(230584301, 10, 0, 0, "")])  # more places than nanoseconds have, and more digits than 2^61
def test_fast_and_careful_text_agree(rows: list[tuple[int, int, int, int, str]], tmp_path: Path) -> None:
    lines = [f"{t}.{'7' * places} {x} 4 {p}" if places else f"{t} {x} 4 {p}" for t, places, x, p, _ in rows]
    path = tmp_path / "a.txt"
    path.write_text("0.1 1 2 1\n")
    reader = text.TextFile(path)
    fast = reader._parsed(("\n".join(lines) + "\n").encode())
    slow = reader._line_by_line("\n".join(lines))
    assert same(fast, slow)
    mixed = [line for pair in zip(lines, (row[4] for row in rows), strict=True) for line in pair]
    assert same(reader._parsed(("\n".join(mixed) + "\n").encode()), slow)
    assert reader.lost_events == sum(1 for row in rows if row[4])


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.raw", b"% evt 2.1\n% end\n", "events in EVT21: of Prophesee's formats EVT2, EVT3 and DAT are read"),
        ("a.raw", b"% format EVT4;width=1;height=1\n% end\n", "events in EVT4"),
        ("a.es", es.MAGIC + bytes((2, 0, 0, 2, 1, 1, 1, 1)), "ATIS events: DVS events are read"),
        ("a.es", es.MAGIC + bytes((1, 0, 0, 1)), "version 1.0.0: 2 is read"),
        ("a.aedat", b"#!AER-DAT3.1\r\n", "an AEDAT file of version 3.1: 4 is read; dv-processing converts it"),
        ("a.bs2", bytes(range(1, 51)), "events of N-MNIST"),
        ("a.h5", b"\x89HDF\r\n\x1a\n", "HDF5"),
        ("a.dat", dat.head(10, 10)[:-2], "ends within its head"),
        ("a.dat", dat.head(10, 10)[:-2] + bytes((14, 8)), "external triggers"),
        ("a.dat", dat.head(10, 10, 7), "version 7"),
        ("a.aedat4", aedat4_format.MAGIC + b"\xff\xff\xff\x7f", "claims 2147483647 bytes"),
        ("a.aedat4", aedat4_format.MAGIC + b"\x10", "ends within its head"),
        ("a.raw", evt3.head(10, 10), "without an event that can be decoded"),
        ("a.raw", b"% " + b"x" * 70_000, "has no end"),
    ],
)  # fmt: skip
def test_what_is_not_read_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(RecordingError, match=words) as caught:
        open_log(path).close()
    assert str(caught.value).startswith(f"{path}: ") and "\n" not in str(caught.value)


@pytest.mark.data
def test_real_files_of_other_kinds_are_named(shared_data: Path) -> None:
    folder = shared_data / "events"
    for name, words in {
        "faery_testdata/generic.es": "generic events", "tonic/sample_aedat_header.aedat": "version 2.0",
        "tonic/sample_nmnist.bin": "N-MNIST", "nmnist_small/NMNISTsmall/1.bs2": "N-MNIST",
        "tonic/sample_stmnist.mat": "MATLAB",
    }.items():  # fmt: skip
        with pytest.raises(RecordingError, match=words):
            open_log(folder / name)


def test_heads_give_the_sensor(tmp_path: Path) -> None:
    for head, size in {
        "% evt 3.0\n% geometry 1280x720\n% end\n": (1280, 720),
        "% evt 3.0\n% format EVT3;height=320;width=300\n": (300, 320),
        "% evt 3.0\n% plugin_name hal_plugin_gen31_fx3\n": (640, 480),
        "% evt 3.0\n% plugin_name hal_plugin_imx636_evk4\n": (1280, 720),
        "% evt 3.0\n% sensor_generation 4.2\n": (1280, 720),
        "% evt 3.0\n% geometry 0x99999\n": (0, 0),
    }.items():
        path = tmp_path / "a"
        path.write_bytes(head.encode() + evt3.encode(made(1, 10)))
        reader = recognise.reader_of(path)
        assert reader is not None and (reader.width, reader.height) == size
        assert whole(reader).t_ns.size == 10


# --- packets of ROS ---------------------------------------------------------------------------------------------------


def test_packets_of_every_encoding_give_the_same_events() -> None:
    block = made(8, 300)
    base_ns = int(block.t_ns[0]) - 7000
    dt = (block.t_ns - base_ns).astype(np.uint64)
    sign, y, x = (column.astype(np.uint64) for column in (block.polarity, block.y, block.x))
    mono = (sign << np.uint64(63) | y << np.uint64(48) | x << np.uint64(32) | dt).astype("<u8").tobytes()
    caer = np.stack([x << np.uint64(17) | y << np.uint64(2) | sign << np.uint64(1) | np.uint64(1), dt // 1000], axis=1)
    data = {"evt3": evt3.encode(block), "evt2": evt2.encode(block), "mono": mono,
            "libcaer": caer.astype("<u4").tobytes()}  # fmt: skip
    for encoding, content in data.items():
        decoder = event_packets.DECODERS[encoding](WIDTH, HEIGHT)
        (packet,) = decoder.events(content, 5 * S, base_ns)
        got = Block(packet.t_ns, packet.x, packet.y, packet.polarity)
        assert same(got, block._replace(t_ns=block.t_ns - block.t_ns[0] + 5 * S)), encoding
        assert decoder.events(content[:0], 6 * S, base_ns) == []


# --- commands ---------------------------------------------------------------------------------------------------------


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    code = main([str(argument) for argument in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_the_commands_read_event_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = made(1, 5000)
    path = written(tmp_path, "EVT3", block).path
    code, out, err = run(capsys, "log", "info", path)
    assert (
        (code, err) == (0, "") and "640 x 480 px" in out and "5,000, " in out and "recorded" not in out.split("\n")[1]
    )
    code, out, _ = run(capsys, "log", "info", path, "--json")
    facts = json.loads(out)
    assert facts["about"]["format"] == "EVT3" and facts["topics"][0]["becomes"] == "Events"
    for name in ("/events", "events", "events.events"):
        code, out, err = run(capsys, "log", "cat", path, name, "--count", 2)
        rows = [json.loads(line) for line in out.splitlines()]
        assert (code, err) == (0, "") and [row["number"] for row in rows] == [1, 2] and rows[0]["width"] == 640
    code, out, _ = run(capsys, "log", "cat", path, "events", "--from", "100ms", "--to", "120ms")
    assert code == 0 and [json.loads(line)["t_s"] for line in out.splitlines()] == [0.1, 0.11]
    code, _, err = run(capsys, "log", "cat", path, "evnts")
    assert code == 1 and "did you mean 'events'?" in err
    code, out, _ = run(capsys, "log", "ls", path)
    assert code == 0 and "events.events" in out
    code, out, _ = run(capsys, "log", "export", path, "csv", tmp_path / "out", "--streams", "events")
    assert code == 0 and "5000 rows, one an event" in out
    table = np.loadtxt(tmp_path / "out" / "events.events.csv", np.int64, delimiter=",", skiprows=1)
    assert np.array_equal(table[:, 1], block.t_ns) and np.array_equal(table[:, 2], block.x)
    assert same(whole(text.TextFile(tmp_path / "out" / "events.events.csv")), Block(table[:, 0], *block[1:]))


def test_an_event_file_is_plotted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("matplotlib", reason="plots are an extra")
    path = written(tmp_path, "DAT", made(1, 5000)).path
    code, out, _ = run(capsys, "log", "plot", path, tmp_path / "a.png")
    assert code == 0 and "2 panels" in out and (tmp_path / "a.png").stat().st_size > 10_000


def test_an_event_file_is_imported_and_damage_costs_an_exit_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "EVT2", made(1, 5000)).path
    assert run(capsys, "log", "import", path, tmp_path / "a.mcap")[0] == 0
    path.write_bytes(path.read_bytes() + b"x")
    code, _, err = run(capsys, "log", "import", path, tmp_path / "b.mcap")
    assert code == 3 and "1 bytes at the end that make no whole word" in err


# --- the driver -------------------------------------------------------------------------------------------------------


def played(camera: EventFile, count: int = 10**6) -> list[Events]:
    clock, packets = VirtualClock(), []
    clock.advance(77)
    camera.open(clock)
    try:
        for _ in range(count):
            clock.advance(camera.due_ns())
            packets.append(camera.read(0.1))
    except EndOfStream:
        pass
    camera.close()
    return packets


def test_the_driver_keeps_the_recorded_pace_or_another(tmp_path: Path) -> None:
    block = made(1, 3000)
    path = written(tmp_path, "EVT3", block).path
    for rate in (1.0, 4.0, 0.5, 1 / 3, 0.7071):
        packets = played(EventFile(address=path, rate=rate, packet=0.002))
        t = np.concatenate([p.t_ns for p in packets])
        assert np.abs(t - 77 - (block.t_ns - block.t_ns[0]) / rate).max() <= 1 + 1e-6 * (t[-1] - 77)
        for packet in packets:
            begin = packet.stamp.t_ns - 1_000_000
            assert ((packet.t_ns >= begin) & (packet.t_ns < begin + 2_000_000)).all()
        assert all(p.stamp.exposure_ns == 2_000_000 for p in packets)


def test_a_loop_goes_on_in_time_with_a_new_epoch(tmp_path: Path) -> None:
    path = written(tmp_path, "Event Stream", made(1, 500)).path
    packets = played(EventFile(address=path, loop=True), 12)
    assert len(packets) == 12 and {p.epoch for p in packets} >= {0, 1, 2}
    assert np.array_equal(np.diff([p.stamp.t_ns for p in packets]), [10_000_000] * 11)


def test_a_log_of_events_that_loops_keeps_its_pace(tmp_path: Path) -> None:
    block = made(1, 3000)
    camera, clock = LogEventCamera(address=written(tmp_path, "EVT2", block).path, loop=True), VirtualClock()
    camera.open(clock)
    t, epochs = [], []
    while len(t) < 2.5 * block.t_ns.size:
        clock.advance(camera.due_ns())
        packet = camera.read(1.0)
        t.extend(packet.t_ns.tolist())
        epochs.append(packet.epoch)
    camera.close()
    span = np.ptp(block.t_ns)
    for turn in (0, 1):
        begin = turn * block.t_ns.size
        assert np.ptp(t[begin : begin + block.t_ns.size]) == pytest.approx(span, abs=2000)
    assert epochs == sorted(epochs) and set(epochs) == {0, 1, 2}


def test_a_size_that_the_file_does_not_say_is_found_or_given(tmp_path: Path) -> None:
    path = written(tmp_path, "text us", made(1, 500)).path
    found = played(EventFile(address=path))[0]
    assert 600 < found.width <= 640 and 440 < found.height <= 480
    given_ = played(EventFile(address=path, width=320, height=480))
    assert given_[0].width == 320 and sum(p.lost_before for p in given_) > 100


def test_the_driver_names_what_it_cannot_read(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(b"% evt 2.1\n% end\n")
    (tmp_path / "b.raw").write_bytes(bytes(range(256)))
    for name, kind, words in (
        ("gone", NotFound, "there is no file"), ("a.raw", ProtocolError, "cannot open: events in EVT21"),
        ("b.raw", ProtocolError, "b.raw is not a file of events; read are events in EVT2"),
    ):  # fmt: skip
        camera = EventFile(address=tmp_path / name)
        camera.uri = f"evt:{name}"
        with pytest.raises(kind, match=words):
            camera.open(VirtualClock())


def test_small_packets_do_not_hold_large_blocks(tmp_path: Path) -> None:
    path = written(tmp_path, "EVT2", made(1, 60_000, 10.0)).path
    for packet in played(EventFile(address=path, packet=0.001)):
        for column in (packet.t_ns, packet.x, packet.y, packet.polarity):
            assert column.base is None or column.base.nbytes < 8 * max(column.nbytes, 100)


@pytest.mark.parametrize("executor", ["virtual", "live"])
def test_a_graph_takes_events_from_a_file(executor: str, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    block = made(1, 3000)
    (in_tmp / "a.raw").write_bytes(WRITERS["EVT3"](block))
    (in_tmp / "rig.yaml").write_text("foveate: 1\ndevices:\n  dvs: {uri: 'evt:a.raw', packet: 0.005}\n")
    (in_tmp / "g.yaml").write_text(
        "foveate: 1\nrig: rig.yaml\nnodes:\n  dvs: {use: event_camera, device: '${rig.dvs}'}\n"
        "record: {to: logs, streams: [dvs.events]}\n"
    )
    code, out, _ = run(capsys, "run", "g.yaml", "--executor", executor, "--json")
    assert code == 0 and json.loads(out)["balanced"]
    (recording,) = in_tmp.glob("logs/*/run.mcap")
    code, _, _ = run(capsys, "log", "export", recording, "csv", "out")
    table = np.loadtxt(in_tmp / "out" / "dvs.events.csv", np.int64, delimiter=",", skiprows=1)
    assert code == 0 and np.array_equal(table[:, 2], block.x)
    assert np.array_equal(np.diff(table[:, 0]), np.diff(block.t_ns))


def test_nothing_heavy_is_imported_before_it_is_needed() -> None:
    code = (
        "import sys, foveate_drivers.events.files, foveate_drivers.events.dv, foveate_drivers.events.log\n"
        "print([name for name in ('numba', 'rosbags', 'cv2', 'dv_processing') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
