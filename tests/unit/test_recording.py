"""The recording's file: what was written comes back, to us and to others; damage costs what it hit and is counted."""

from __future__ import annotations

import gc
import io
import os
import random
import struct
import tracemalloc
import warnings
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import NonSeekingReader, make_reader
from mcap.records import Attachment, Message, Metadata
from mcap.stream_reader import StreamReader

from foveate import codec
from foveate.errors import EndOfStream, RecordingError
from foveate.graph import Graph, Record
from foveate.messages import Frame, ProbabilityMap, Stamp
from foveate.node import Node
from foveate.queues import Policy
from foveate.recording import McapRecorder, Recording
from foveate.recording import mcap_format as mcap
from foveate.recording.mcap_file import McapFile, RawMessage
from foveate.recording.seal import provenance
from foveate.recording.writer import ChannelSpec, McapWriter
from foveate.run import Result, Run
from tests.conftest import graph_of, number, value_of

Plain = tuple[int, int, int, int, bytes]  # channel, sequence, log time, publish time, data
SCHEMA = b'{"type": "object"}'


def specs(count: int) -> list[ChannelSpec]:
    return [ChannelSpec(f"/n{i}.out", "json", {"type": "None"}, f"test.n{i}", "jsonschema", SCHEMA)
            for i in range(1, count + 1)]  # fmt: skip


@dataclass
class Written:
    """A file of raw messages, with the place of every batch."""

    path: Path
    batches: list[list[Plain]] = field(default_factory=list)
    begins: list[int] = field(default_factory=list)  # offset of each batch record
    ends: list[int] = field(default_factory=list)  # offset behind each chunk
    data_end: int = 0

    @property
    def messages(self) -> list[Plain]:
        return [message for batch in self.batches for message in batch]


def write(
    path: Path, batches: Sequence[Sequence[Plain]], channels: int, *, closed: bool = True,
    attachments: dict[str, tuple[str, bytes]] | None = None,
) -> Written:  # fmt: skip
    """One batch after the other; every message is counted as accepted, as the recorder does."""
    made = Written(path)
    writer = McapWriter(path, specs(channels), attachments or {}, {"foveate.run": {"graph": "test"}})
    for batch in batches:
        if not batch:
            continue
        made.batches.append(list(batch))
        made.begins.append(path.stat().st_size)
        for channel, sequence, log_ns, publish_ns, data in batch:
            writer.tally[mcap.TALLY_COUNTERS * (channel - 1)] += 1
            cut = len(data) // 3
            writer.add(channel, sequence, log_ns, publish_ns, [data[:cut], memoryview(data)[cut:]])
        writer.flush()
        made.ends.append(chunk_end(path, made.begins[-1]))
    made.data_end = path.stat().st_size
    if closed:
        writer.finish({"end.json": ("application/json", b"{}")})
    writer.close()
    return made


def chunk_end(path: Path, at: int) -> int:
    with path.open("rb") as stream:
        stream.seek(at)
        batch = mcap.Batch.parse(stream.read(mcap.BATCH_BYTES))
    assert batch is not None
    return at + mcap.BATCH_BYTES + batch.chunk_bytes


def plain(raw: RawMessage) -> Plain:
    return (raw.channel, raw.sequence, raw.log_ns, raw.publish_ns, bytes(raw.data))


def read(path: Path) -> tuple[McapFile, list[Plain]]:
    file = McapFile(path)
    try:
        return file, [plain(raw) for raw in file.messages()]
    finally:
        file.close()


def small_batches(rng: random.Random, batches: int, each: int, channels: int, size: int = 24) -> list[list[Plain]]:
    """Batches of small messages with random content; the numbers of each channel count from 1."""
    counts: Counter[int] = Counter()
    made, t_ns = [], 0
    for _ in range(batches):
        batch = []
        for _ in range(each):
            channel = rng.randint(1, channels)
            counts[channel] += 1
            t_ns += rng.randint(0, 1000)
            batch.append((channel, counts[channel], t_ns, max(t_ns - 7, 0), rng.randbytes(rng.randint(0, size))))
        made.append(batch)
    return made


# Round trip -----------------------------------------------------------------------------------------------------

SIZES = st.one_of(
    st.integers(0, 40), st.sampled_from([16383, 16384, 16385, 49151, 49152, 65536]), st.integers(0, 300_000)
)
MESSAGE = st.tuples(st.integers(1, 6), SIZES, st.integers(0, 2**32 - 1), st.integers(0, 10**18))


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(MESSAGE, max_size=8), max_size=6), st.booleans(), st.binary(max_size=300))
def test_what_is_written_comes_back_to_us_and_to_stock_readers(
    tmp_path: Path, plan: list[list[tuple[int, int, int, int]]], closed: bool, note: bytes
) -> None:
    path = tmp_path / "a.mcap"
    path.unlink(missing_ok=True)
    batches = [
        [(c, n, t, t // 2, random.Random(n).randbytes(size)) for c, size, n, t in batch] for batch in plan
    ]  # fmt: skip
    made = write(path, batches, 6, closed=closed, attachments={"note.bin": ("application/octet-stream", note)})
    file, got = read(path)
    assert got == made.messages
    assert (file.closed, file.damages, file.torn_bytes) == (closed, [], 0)
    assert file.attachments["note.bin"] == note
    counts = Counter(message[0] for message in made.messages)
    assert [kept for _, _, kept in file.tally] == [counts[c] for c in range(1, 7)]
    records = list(StreamReader(io.BytesIO(path.read_bytes()), validate_crcs=True).records) if closed else []
    if closed:
        assert file.counts == {c: counts[c] for c in range(1, 7)}
        assert [of_stock(r) for r in records if isinstance(r, Message)] == got
        assert [r.data for r in records if isinstance(r, Attachment)] == [note, b"{}"]
        assert [r.metadata for r in records if isinstance(r, Metadata)] == [{"graph": "test"}]
        check_stock(path, got)


def of_stock(message: Message) -> Plain:
    return (message.channel_id, message.sequence, message.log_time, message.publish_time, message.data)


def check_stock(path: Path, expected: list[Plain]) -> None:
    """`make_reader` seeks by our index, the other one reads from the front; both check every checksum."""
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert summary.statistics.message_count == len(expected)
        assert {c.topic for c in summary.channels.values()} == {f"/n{i}.out" for i in range(1, 7)}
        assert [of_stock(m) for _, _, m in reader.iter_messages(log_time_order=False)] == expected
        assert [m.log_time for _, _, m in reader.iter_messages()] == sorted(m[2] for m in expected)
        assert [a.name for a in reader.iter_attachments()] == ["note.bin", "end.json"]
    with path.open("rb") as stream:
        front = NonSeekingReader(stream, validate_crcs=True)
        assert sorted(of_stock(m) for _, _, m in front.iter_messages(log_time_order=False)) == sorted(expected)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sets(st.integers(1, 70), max_size=4), st.integers(0, 60_000), st.integers(0, 60_000), st.booleans())
def test_messages_of_some_channels_and_times(
    seventy: dict[bool, Written], chosen: set[int], begin: int, end: int, closed: bool
) -> None:
    made = seventy[closed]
    file = McapFile(made.path)
    got = [plain(raw) for raw in file.messages(chosen, begin, end)]
    file.close()
    assert got == [m for m in made.messages if m[0] in chosen and begin <= m[2] < end]


@pytest.fixture(scope="module")
def seventy(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Written]:
    """Files of 70 channels: more than a batch has bits for."""
    folder = tmp_path_factory.mktemp("seventy")
    batches = small_batches(random.Random(4), 30, 4, 70)
    return {closed: write(folder / f"{closed}.mcap", batches, 70, closed=closed) for closed in (True, False)}


@pytest.mark.filterwarnings("ignore")
def test_an_existing_file_is_not_written_over(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mcap", [[(1, 1, 1, 1, b"x")]], 1).path
    before = path.read_bytes()
    with pytest.raises(FileExistsError):
        McapWriter(path, specs(1), {}, {})
    assert path.read_bytes() == before


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_refused_file_leaves_nothing_open(tmp_path: Path) -> None:
    (tmp_path / "a.mcap").touch()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with pytest.raises(FileExistsError):
            McapWriter(tmp_path / "a.mcap", specs(1), {}, {})
        gc.collect()
    assert [str(w.message) for w in caught if issubclass(w.category, ResourceWarning)] == []


# Memory ---------------------------------------------------------------------------------------------------------


def peak_bytes(work: Iterator[None]) -> int:
    """Most memory that Python and numpy held at once during `work`, above what they held before."""
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for _ in work:
            pass
        return tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


def test_memory_does_not_grow_with_the_messages(tmp_path: Path) -> None:
    def writing(path: Path, batches: int) -> Iterator[None]:
        writer = McapWriter(path, specs(2), {}, {})
        data = bytes(100)
        for batch in range(batches):
            for i in range(20):
                writer.add(1 + i % 2, batch * 20 + i, batch, batch, [data])
            writer.flush()
            yield
        writer.finish({})
        writer.close()

    def reading(path: Path, expected: int) -> Iterator[None]:
        file = McapFile(path)
        assert sum(1 for _ in file.messages()) == expected
        file.close()
        yield

    peaks = {}
    for batches in (300, 1500):  # 6,000 and 30,000 messages; the larger index leaves memory for a file
        path = tmp_path / f"{batches}.mcap"
        peaks[batches] = (peak_bytes(writing(path, batches)), peak_bytes(reading(path, batches * 20)))
    print(f"peak bytes of writing and reading 6,000 messages {peaks[300]}, 30,000 {peaks[1500]}")
    assert peaks[1500][0] < peaks[300][0] + 1_200_000, "more than the index's 1-MB spool"
    assert peaks[1500][1] < peaks[300][1] + 1200 * 50 + 2**20, "more than five numbers a batch and a block of the index"


FRAME = np.zeros((1080, 1920, 3), np.uint8)  # 6.2 MB


class Film(Node):
    """Gives one frame again and again."""

    class Outputs:
        out: Frame

    def __init__(self) -> None:
        self.next = 0

    def due_ns(self) -> int:
        return self.next * 10_000_000

    def step(self) -> Frame:
        if self.next == 5:
            raise EndOfStream
        self.next += 1
        return Frame(Stamp(self.due_ns()), FRAME, "BGR8", self.next)


def test_a_frame_is_not_copied_on_its_way_to_the_file(tmp_path: Path) -> None:
    frame = Frame(Stamp(5), FRAME, "BGR8", 1)
    pieces = codec.codec_of(Frame).encode(frame)
    assert any(np.shares_memory(np.frombuffer(piece, np.uint8), FRAME) for piece in pieces if len(piece))
    nodes = {"film": Film()}
    graph = graph_of(nodes, [], record=("film.out",))

    def recording() -> Iterator[None]:
        result = record(graph, nodes, tmp_path / "film.mcap")
        assert result.balanced and not result.unrecorded
        yield

    peak = peak_bytes(recording())
    print(f"peak while five frames of {FRAME.nbytes} bytes were recorded: {peak} bytes")
    assert peak < FRAME.nbytes / 2
    with Recording(tmp_path / "film.mcap") as log:
        frames = [m for _, m in log.messages("film.out", Frame)]
    assert len(frames) == 5 and all(np.array_equal(f.image, FRAME) for f in frames)  # type: ignore[attr-defined]


# What the recorder counts ---------------------------------------------------------------------------------------


def record(graph: Graph, nodes: dict[str, Node], path: Path) -> Result:
    """A run in simulated time with its recording, ended as the command ends it."""
    from foveate.commands.run import end_facts

    run = Run(graph, "virtual", replace=nodes)
    recorder = McapRecorder(path, graph, provenance(graph, "virtual"))
    run.add_recorder(recorder)
    result = run.execute()
    recorder.end(end_facts(result))
    return result


class Burst(Node):
    """Twelve numbers at one moment: they all come before the recorder has its turn."""

    class Outputs:
        out: ProbabilityMap

    def __init__(self) -> None:
        self.next = 0

    def due_ns(self) -> int:
        return 1000

    def step(self) -> ProbabilityMap:
        self.next += 1
        if self.next > 12:
            raise EndOfStream
        return number(self.next, 1000)


@pytest.mark.parametrize(
    ("policy", "kept", "dropped"),
    [
        ("latest", [12], {"replaced": 11}),
        ("fifo(5)", [8, 9, 10, 11, 12], {"full": 7}),
        ("fifo(99)", list(range(1, 13)), {}),
        ("every(5)", [11], {"skipped": 9, "replaced": 2}),
    ],
)
def test_numbers_tell_which_messages_the_recorders_queue_dropped(
    policy: str, kept: list[int], dropped: dict[str, int], tmp_path: Path
) -> None:
    nodes = {"a": Burst()}
    streams = (("a", "out", Policy.parse(policy)),)
    graph = replace(graph_of(nodes, []), record=Record(Path("logs"), streams))
    result = record(graph, nodes, tmp_path / "a.mcap")
    wire = next(w for w in result.wires if w.wire == "a.out -> record.a.out")
    assert wire.dropped == dropped and wire.produced == 12
    with Recording(tmp_path / "a.mcap") as log:
        assert [raw.sequence for raw in log.raw("/a.out")] == kept
        assert [value_of(m) for _, m in log.messages("a.out", ProbabilityMap)] == kept  # type: ignore[arg-type]
        assert log.file.tally[0] == (12, 12 - len(kept), len(kept))
        assert log.lost() == {} and log.notes() == []
        drops = [(d.sequence, d.reason) for d in log.decisions() if hasattr(d, "reason")]
        assert sorted(number for number, _ in drops) == [n for n in range(1, 13) if n not in kept]
        assert Counter(reason for _, reason in drops) == dropped


def test_what_a_killed_run_lost_is_said_by_stream(tmp_path: Path) -> None:
    path = tmp_path / "k.mcap"
    writer = McapWriter(path, specs(3), {}, {})
    for channel, accepted, dropped, written in ((1, 10, 2, 5), (2, 4, 0, 4), (3, 1, 0, 0)):
        writer.tally[3 * channel - 3 : 3 * channel - 1] = memoryview(struct.pack("<2Q", accepted, dropped)).cast("Q")
        for n in range(written):
            writer.add(channel, n + 1, n, n, [b"data"])
    writer.flush()
    whole = path.stat().st_size
    writer.close()
    with path.open("ab") as stream:
        stream.write(torn_batch_of(path))
    torn = path.stat().st_size - whole
    with Recording(path) as log:
        assert log.lost() == {"n1.out": 3, "n3.out": 1}
        assert log.notes() == [
            f"{path}: was not closed in order: recovered 9 messages; {torn} bytes of a torn batch discarded",
            f"{path}: accepted for recording and not in the file: n1.out 3, n3.out 1",
        ]


def torn_batch_of(path: Path) -> bytes:
    """The first 70 bytes of another batch."""
    data = path.read_bytes()
    return data[data.index(mcap.MARKER) - mcap.RECORD_HEAD.size :][:70]


def test_damage_is_said_with_its_place_and_its_count(tmp_path: Path) -> None:
    for closed in (True, False):
        made = write(tmp_path / f"{closed}.mcap", small_batches(random.Random(1), 5, 7, 2), 2, closed=closed)
        flip(made.path, made.ends[2] - 1)
        with Recording(made.path) as log:
            assert sum(log.counts.values()) == 28 or closed
            assert len(list(log.file.messages())) == 28
            lost = Counter(f"n{message[0]}.out" for message in made.batches[2])
            assert log.lost() == dict(lost) and len(lost) == 2
            at = made.begins[2] + mcap.BATCH_BYTES
            assert log.notes()[-2:] == [
                f"{made.path}: a chunk's checksum does not fit at byte {at}: 7 messages lost",
                f"{made.path}: accepted for recording and not in the file: "
                f"n1.out {lost['n1.out']}, n2.out {lost['n2.out']}",
            ]
            assert len(log.notes()) == (2 if closed else 3)


def flip(path: Path, at: int, mask: int = 0x40) -> None:
    with path.open("r+b") as stream:
        stream.seek(at)
        value = stream.read(1)[0]
        stream.seek(at)
        stream.write(bytes([value ^ mask]))


# REC2: truncation -----------------------------------------------------------------------------------------------


def test_rec2_every_truncation_gives_the_exact_prefix(tmp_path: Path) -> None:
    made = write(tmp_path / "whole.mcap", small_batches(random.Random(2), 5, 4, 2, 12), 2)
    data, cut_path = made.path.read_bytes(), tmp_path / "cut.mcap"
    _, whole = read(made.path)
    assert whole == made.messages and len(data) >= 600
    for cut in range(len(data) + 1):
        cut_path.write_bytes(data[:cut])
        if cut < len(mcap.MAGIC):
            with pytest.raises(RecordingError):
                McapFile(cut_path)
            continue
        file, got = read(cut_path)
        kept = [m for batch, end in zip(made.batches, made.ends, strict=True) if end <= cut for m in batch]
        assert got == kept, cut
        assert file.closed == (cut == len(data)), cut
        if cut >= made.begins[0]:  # the tally is whole
            assert sum(k for _, _, k in file.tally) == len(made.messages)
            torn = [begin for begin, end in zip(made.begins, made.ends, strict=True) if begin < cut < end]
            assert file.torn_bytes == (cut - torn[0] if torn else file.torn_bytes if cut > made.data_end else 0), cut
            assert all(d.messages == 0 for d in file.damages), cut
            with Recording(cut_path) as log:
                assert sum(log.lost().values()) == len(made.messages) - len(kept), cut
        if kept:
            assert [c.topic for c in file.channels.values()] == ["/n1.out", "/n2.out"]
    print(f"{len(data) + 1} truncations: the exact prefix each time")


# REC3: corruption -----------------------------------------------------------------------------------------------


@pytest.fixture
def sixty(tmp_path: Path) -> dict[bool, Written]:
    batches = small_batches(random.Random(3), 12, 5, 3)
    attachments = {"graph.yaml": ("application/yaml", b"foveate: 1\n" * 10)}
    return {closed: write(tmp_path / f"{closed}.mcap", batches, 3, closed=closed, attachments=attachments)
            for closed in (True, False)}  # fmt: skip


def corruptions(made: Written, count: int, seed: int) -> Iterator[tuple[int, McapFile, list[Plain]]]:
    """The file with one byte changed at a random place, opened and read to its end; then as it was again."""
    rng = random.Random(seed)
    size = made.path.stat().st_size
    original = made.path.read_bytes()
    handle = os.open(made.path, os.O_RDWR)
    for _ in range(count):
        at = rng.randrange(len(mcap.MAGIC), size)
        os.pwrite(handle, bytes([original[at] ^ rng.randint(1, 255)]), at)
        yield at, *read(made.path)
        os.pwrite(handle, original[at : at + 1], at)
    os.close(handle)
    assert made.path.read_bytes() == original


def batch_at(made: Written, at: int) -> int | None:
    """Number of the batch that an offset belongs to; None in front of them and behind."""
    if not made.begins[0] <= at < made.data_end:
        return None
    return max(i for i, begin in enumerate(made.begins) if begin <= at)


@pytest.mark.parametrize("closed", [True, False])
def test_rec3_one_wrong_byte_costs_its_batch_at_most_and_is_counted(closed: bool, sixty: dict[bool, Written]) -> None:
    made = sixty[closed]
    file, got = read(made.path)
    assert got == made.messages and not file.damages and len(made.batches) >= 10
    hits = lost = unknown = 0
    for at, file, got in corruptions(made, 5000, 30 + closed):
        hit = batch_at(made, at)
        rest = [m for i, batch in enumerate(made.batches) if i != hit for m in batch]
        assert got in (made.messages, rest), f"byte {at}: wrong or too few messages"
        missing = len(made.messages) - len(got)
        hits += missing > 0
        lost += missing
        said = [d.messages for d in file.damages]
        unknown += None in said
        first = not closed and made.begins[0] <= at < made.begins[0] + mcap.BATCH_BYTES  # has a test of its own
        if None not in said and not first:
            assert sum(n for n in said if n is not None) == missing, f"byte {at}"
        if at >= made.begins[0]:
            assert {n: (c.topic, c.schema_name) for n, c in file.channels.items()} == {
                i: (f"/n{i}.out", f"test.n{i}") for i in (1, 2, 3)
            }, f"byte {at}"
    print(f"closed {closed}: 5000 corruptions, {hits} cost a batch, {lost} messages, count unknown {unknown} times")
    assert hits > 500 and unknown == 0


def test_rec3_the_first_batchs_damaged_head_is_counted(sixty: dict[bool, Written]) -> None:
    made = sixty[False]
    flip(made.path, made.begins[0] + 50)
    file, got = read(made.path)
    assert got == [message for batch in made.batches[1:] for message in batch]
    assert [d.messages for d in file.damages] == [5]


@pytest.mark.parametrize("closed", [True, False])
def test_rec3_a_damaged_preamble_costs_no_message(closed: bool, sixty: dict[bool, Written]) -> None:
    """One bit in every byte before the first batch, and every fifth value of the low bytes of each record's length."""
    made = sixty[closed]
    data = made.path.read_bytes()
    cases = [(at, data[at] ^ 0x40) for at in range(len(mcap.MAGIC), made.begins[0])]
    at = len(mcap.MAGIC)
    while at < made.begins[0]:
        cases += [(at + byte, value) for byte in (1, 2) for value in range(0, 256, 5)]
        at += mcap.RECORD_HEAD.size + mcap.RECORD_HEAD.unpack_from(data, at)[1]
    wrong = []
    handle = os.open(made.path, os.O_RDWR)
    for at, value in cases:
        os.pwrite(handle, bytes([value]), at)
        _, got = read(made.path)
        os.pwrite(handle, data[at : at + 1], at)
        if got != made.messages:
            wrong.append((at, value, len(got)))
    os.close(handle)
    assert not wrong, f"{len(wrong)} of {len(cases)} changes cost messages; byte, value, messages left: {wrong[:5]}"


@pytest.mark.parametrize("closed", [True, False])
def test_rec3_a_damaged_preamble_hides_no_stream(closed: bool, sixty: dict[bool, Written]) -> None:
    """The streams by their names, as a replay asks for them; a second description of each is under a checksum."""
    made = sixty[closed]
    original = made.path.read_bytes()
    wrong = []
    for at in range(len(mcap.MAGIC), made.begins[0]):
        flip(made.path, at)
        with Recording(made.path) as log:
            for channel in (1, 2, 3):
                expected = [m for m in made.messages if m[0] == channel]
                if [plain(raw) for raw in log.raw(f"/n{channel}.out")] != expected:
                    wrong.append((at, f"/n{channel}.out"))
            if [s.topic for s in log.streams()] != ["/n1.out", "/n2.out", "/n3.out"]:
                wrong.append((at, "streams"))
        made.path.write_bytes(original)
    assert not wrong, f"{len(wrong)}: {wrong[:6]}"


@pytest.mark.parametrize("part", ["chunk", "batch", "index"])
def test_a_file_whose_checksums_were_made_to_fit_raises_typed_errors_only(
    part: str, sixty: dict[bool, Written]
) -> None:
    """Somebody has changed the file on purpose."""
    made, rng = sixty[part == "index"], random.Random(9)
    data = made.path.read_bytes()
    untyped: Counter[str] = Counter()
    for _ in range(600):
        made.path.write_bytes(forged(data, made, part, rng))
        try:
            with Recording(made.path) as log:
                sum(len(raw.data) for raw in log.file.messages())
                assert log.lost() is not None and log.notes() is not None and log.streams() is not None
        except RecordingError:
            pass
        except Exception as error:
            untyped[f"{type(error).__name__}: {str(error)[:40]}"] += 1
    assert not untyped, f"{untyped.total()} of 600: {untyped.most_common(5)}"


def forged(data: bytes, made: Written, part: str, rng: random.Random) -> bytes:
    """One to three bytes changed in a chunk, a batch record or the index, and its checksum made right again."""
    out = bytearray(data)
    number = rng.choice([0, rng.randrange(len(made.begins))])
    batch_at, chunk_at = made.begins[number], made.begins[number] + mcap.BATCH_BYTES
    foot = len(data) - mcap.FOOTER_BYTES
    index_at = struct.unpack_from("<Q", data, foot + mcap.RECORD_HEAD.size)[0]
    begin, end, crc_at, crc_from = {
        "chunk": (chunk_at + mcap.CHUNK_HEAD.size, made.ends[number], chunk_at + 33, chunk_at + mcap.CHUNK_HEAD.size),
        "batch": (batch_at + 25, chunk_at - 4, chunk_at - 4, batch_at + mcap.RECORD_HEAD.size),
        "index": (index_at, foot, foot + 25, index_at),
    }[part]
    for _ in range(rng.randint(1, 3)):
        out[rng.randrange(begin, end)] = rng.choice([0, 255, rng.randrange(256)])
    covered = out[crc_from : crc_at if part == "index" else end]
    struct.pack_into("<I", out, crc_at, zlib.crc32(covered))
    return bytes(out)


def test_a_file_of_something_else_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.mcap"
    cases = {
        b"": "not an MCAP file", b"\x89MCAP": "not an MCAP file", b"\x89PNG\r\n\x1a\n": "not an MCAP file",
        b"\x89MCAP1\r\n" + bytes(100): "a version that is not known here (b'1')",
    }  # fmt: skip
    for content, text in cases.items():
        path.write_bytes(content)
        with pytest.raises(RecordingError) as caught:
            Recording(path)
        assert text in str(caught.value) and str(path) in str(caught.value)
    with pytest.raises(RecordingError, match="cannot read"):
        Recording(tmp_path)
    with pytest.raises(RecordingError, match="cannot read"):
        Recording(tmp_path / "none.mcap")
