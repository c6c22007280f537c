"""How fast foveate records, opens, reads and replays: beside mcap, foxglove-sdk and the bare disk.

Every trial is a process of its own; all rows of a table take turns inside every run, in alternating order. Numbers
are medians over the runs with their range, ratios are medians of each run's ratio. Frames are a smooth scene with
a sensor's noise, four different ones in turn (noise decides how fast zstd is). The peers get bytes that are ready
to be written; foveate's recorder gets messages and encodes them, and alone asks the disk to keep what it wrote.
Before each trial a file of the same size is written and deleted, else the first touch of memory decides.

    python benchmarks/recorder.py                     all parts, about 20 minutes
    python benchmarks/recorder.py write --runs 7      one part of: write, memory, open, read, replay
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from trials import Part, options_of, report, verdict

from foveate import codec
from foveate.errors import EndOfStream
from foveate.graph import Graph, NodeSpec, Record
from foveate.messages import Frame, Message, MirrorState, Stamp
from foveate.node import Node, schema_of
from foveate.queues import Policy
from foveate.recording import McapRecorder, Recording
from foveate.recording.seal import provenance
from foveate.recording.writer import ChannelSpec, McapWriter
from foveate.run import Run

SHAPES = {"64 B": None, "0.92 MB": (480, 640, 3), "6.22 MB": (1080, 1920, 3)}
GIGABYTE = 1_000_000_000
SMALL_MESSAGES, FRAME_BYTES = 500_000, 600_000_000  # of one trial
BATCH_BYTES = 256 * 1024  # the recorder's
Items = list[tuple[Message, bytes]]  # messages, and as they lie in a file


def items_of(size: str) -> Items:
    """The messages of a trial, which are written again and again."""
    shape, rng = SHAPES[size], np.random.default_rng(1)
    made: list[Message] = []
    for seq in range(4):
        stamp = Stamp(seq, 1_000_000)
        if shape is None:
            made.append(MirrorState(stamp, rng.normal(size=2), True, "readback+checked"))
            continue
        y, x, c = np.ogrid[: shape[0], : shape[1], : shape[2]]
        scene = 110 + 50 * np.sin(x / 97 + seq) * np.cos(y / 61) + 20 * c
        noise = rng.integers(0, 9, shape, np.uint8) + rng.integers(0, 9, shape, np.uint8)  # sigma 3.7 grey levels
        made.append(Frame(stamp, (scene.astype(np.uint8) + noise).astype(np.uint8), "BGR8", seq))
    return [(message, b"".join(codec.codec_of(type(message)).encode(message))) for message in made]


def specs_of(items: Items) -> list[ChannelSpec]:
    coder = codec.codec_of(type(items[0][0]))
    return [ChannelSpec("/camera.out", "protobuf", {}, coder.schema_name, "protobuf", coder.schema_data)]


# Writers: each makes a file with `count` of the items, from its opening to its close ---------------------------------


class Frames(Node):
    """A source that is never run: the recorder needs its port."""

    class Outputs:
        out: Frame

    def step(self) -> Frame:
        raise EndOfStream


class Mirrors(Node):
    """The same for small messages."""

    class Outputs:
        out: MirrorState

    def step(self) -> MirrorState:
        raise EndOfStream


def foveate_recorder(path: Path, items: Items, count: int) -> None:
    """McapRecorder as a live run uses it: encodes, batches, a flushing thread, fdatasync once a second."""
    node = Frames() if isinstance(items[0][0], Frame) else Mirrors()
    spec = NodeSpec("camera", "camera", type(node), schema_of(type(node)), {}, {})
    record = Record(path.parent, (("camera", "out", Policy("fifo", 256)),))
    graph = Graph("bench", Path("bench.yaml"), {"camera": spec}, (), record=record)
    run = Run(graph, "live", replace={"camera": node})
    recorder = McapRecorder(path, graph, provenance(graph, "live"))
    run.add_recorder(recorder)
    run.clock.start()  # type: ignore[union-attr]
    recorder.open()
    for number in range(count):
        recorder.record("camera.out", items[number % len(items)][0], number, number + 1)
    recorder.end({})


def foveate_writer(path: Path, items: Items, count: int, batch_bytes: int = BATCH_BYTES, finish: bool = True) -> None:
    """McapWriter with ready bytes; without `finish` the file is as a killed process leaves it."""
    writer = McapWriter(path, specs_of(items), {}, {})
    for number in range(count):
        writer.add(1, number, number, number, [items[number % len(items)][1]])
        if writer.pending_bytes >= batch_bytes:
            writer.flush()
    if finish:
        writer.finish({})
    writer.close()
    if not finish:
        os.truncate(path, path.stat().st_size - 1000)


def stock(encode: bool = False, **options: Any) -> Callable[[Path, Items, int], None]:
    """The Writer of the `mcap` package; `encode`: it gets messages, as foveate's recorder does."""

    def write(path: Path, items: Items, count: int) -> None:
        from mcap.writer import CompressionType, Writer

        chosen = {k: CompressionType[v] if k == "compression" else v for k, v in options.items()}
        writer, spec = Writer(str(path), **chosen), specs_of(items)[0]
        writer.start()
        schema = writer.register_schema(spec.schema_name, spec.schema_encoding, spec.schema_data)
        channel = writer.register_channel(spec.topic, spec.encoding, schema)
        coder = codec.codec_of(type(items[0][0]))
        for number in range(count):
            message, data = items[number % len(items)]
            writer.add_message(channel, number, b"".join(coder.encode(message)) if encode else data, number, number)
        writer.finish()

    return write


def foxglove(**options: Any) -> Callable[[Path, Items, int], None]:
    """open_mcap and a Channel of foxglove-sdk, which is Rust."""

    def write(path: Path, items: Items, count: int) -> None:
        from foxglove import Channel, Context, Schema, open_mcap
        from foxglove.mcap import MCAPWriteOptions

        context, spec = Context(), specs_of(items)[0]
        schema = Schema(name=spec.schema_name, encoding=spec.schema_encoding, data=spec.schema_data)
        with open_mcap(path, context=context, writer_options=MCAPWriteOptions(**options)):
            channel = Channel(spec.topic, schema=schema, message_encoding=spec.encoding, context=context)
            for number in range(count):
                channel.log(items[number % len(items)][1], log_time=number)

    return write


def bare_write(path: Path, items: Items, count: int) -> None:
    """The limit: os.write of the same bytes."""
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL)
    for number in range(count):
        os.write(handle, items[number % len(items)][1])
    os.close(handle)


def summed_write(path: Path, items: Items, count: int) -> None:
    """The limit for whoever keeps a checksum of what he writes."""
    handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL)
    for number in range(count):
        zlib.crc32(items[number % len(items)][1])
        os.write(handle, items[number % len(items)][1])
    os.close(handle)


def buffered_write(path: Path, items: Items, count: int) -> None:
    """The limit for small messages: Python's own file, which joins them."""
    with path.open("xb") as file:
        for number in range(count):
            file.write(items[number % len(items)][1])


def disk_dump(path: Path, items: Items, count: int) -> None:
    """dd with blocks of a message's size; its zeros come from the kernel."""
    command = ["dd", "if=/dev/zero", f"of={path}", f"bs={len(items[0][1])}", f"count={count}", "status=none"]
    subprocess.run(command, check=True)


LIMIT, DEFAULT = "os.write, the limit", "mcap, default"
WRITERS: dict[str, Callable[[Path, Items, int], None]] = {
    "foveate, McapRecorder": foveate_recorder,
    "foveate, McapWriter": foveate_writer,
    DEFAULT: stock(),
    "mcap, default, encoding too": stock(encode=True),
    "mcap, no compression": stock(compression="NONE"),
    "mcap, no chunks, no checksums": stock(use_chunking=False, enable_crcs=False),
    "foxglove-sdk, default": foxglove(),
    "foxglove-sdk, no compression": foxglove(compression=None),
    "foxglove-sdk, no chunks, no checksums": foxglove(
        compression=None, use_chunks=False, calculate_data_section_crc=False, calculate_summary_section_crc=False
    ),
    LIMIT: bare_write,
    "os.write and CRC-32": summed_write,
    "Python's buffered file": buffered_write,
    "dd": disk_dump,
}


def write_trial(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Seconds from opening a file to its close."""
    size, _, place = case.partition(", ")
    items = items_of(size)
    count = SMALL_MESSAGES if SHAPES[size] is None else FRAME_BYTES // len(items[0][1])
    path = folders[place] / f"{os.getpid()}.mcap"
    for warm, messages in ((WRITERS[engine], 20), (bare_write, count)):
        warm(path, items, messages)
        path.unlink()
    begun = time.perf_counter()
    WRITERS[engine](path, items, count)
    took = time.perf_counter() - begun
    written = path.stat().st_size
    path.unlink()
    moved = count * len(items[0][1])
    value = {"value": count / took / 1e3, "unit": "1000/s"} if SHAPES[size] is None else {
        "value": moved / took / 1e6, "unit": "MB/s"}  # fmt: skip
    return {**value, "message_bytes": len(items[0][1]), "file_to_content": written / moved}


def memory_trial(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    """How far the resident set grew above what it was before."""
    items, path = items_of("6.22 MB"), folders["disk"] / f"{os.getpid()}.mcap"
    for name in ("mcap.writer", "zstandard", "foxglove.mcap"):
        import_module(name)
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = status_kb("VmRSS")
    WRITERS[engine](path, items, 2 * GIGABYTE // len(items[0][1]))
    path.unlink()
    return {"value": (status_kb("VmHWM") - before) / 1e3, "unit": "MB"}


def status_kb(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name))


# Readers -------------------------------------------------------------------------------------------------------------

FILES = {"frames": ("6.22 MB", True), "frames, killed": ("6.22 MB", False), "small": ("64 B", True),
         "small, killed": ("64 B", False)}  # fmt: skip


def prepare(folder: Path) -> None:
    """1 GB each of frames and of small messages (1 KB, in batches of 16 KB), closed and killed; frames by mcap."""
    for name, (size, closed) in FILES.items():
        items = items_of(size) if size != "64 B" else [(items_of(size)[0][0], os.urandom(1000))]
        foveate_writer(folder / name, items, GIGABYTE // len(items[0][1]), 16_000, closed)
    stock()(folder / "mcap", items_of("6.22 MB"), GIGABYTE // len(items_of("6.22 MB")[0][1]))


def open_foveate(path: Path) -> int:
    with Recording(path) as log:
        return len(log.file)


def open_mcap(path: Path) -> int:
    from mcap.reader import make_reader

    with path.open("rb") as file:
        summary = make_reader(file).get_summary()
        assert summary is not None
        return len(summary.chunk_indexes)


def read_foveate(path: Path) -> int:
    """Every message as bytes, each under a checksum that fits."""
    with Recording(path) as log:
        return sum(len(raw.data) for raw in log.raw("/camera.out"))


def read_typed(path: Path) -> int:
    with Recording(path) as log:
        return sum(frame.image.nbytes for _, frame in log.messages("camera.out", Frame))  # type: ignore[attr-defined]


def read_mcap(path: Path, **options: Any) -> int:
    from mcap.reader import make_reader

    with path.open("rb") as file:
        return sum(len(message.data) for _, _, message in make_reader(file, **options).iter_messages())


def read_stream(path: Path) -> int:
    """What mcap gives of a file without an end: its StreamReader, until it fails."""
    from mcap.exceptions import McapError
    from mcap.records import Message as Record_
    from mcap.stream_reader import StreamReader

    total = 0
    with path.open("rb") as file:
        try:
            for record in StreamReader(file, record_size_limit=None).records:
                total += len(record.data) if isinstance(record, Record_) else 0
        except McapError:
            pass
    return total


OPENERS = {"foveate": open_foveate, "mcap": open_mcap}
READERS: dict[str, Callable[[Path], int]] = {
    "foveate": read_foveate,
    "foveate, as Frame": read_typed,
    "mcap": read_mcap,
    "mcap, checksums": lambda path: read_mcap(path, validate_crcs=True),
    "mcap, its own file (zstd)": lambda path: read_mcap(path.with_name("mcap")),
    "mcap, StreamReader": read_stream,
}


def open_trial(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    OPENERS[engine](folders["files"] / "small")  # what is to be imported is
    begun = time.perf_counter()
    OPENERS[engine](folders["files"] / case)
    return {"value": (time.perf_counter() - begun) * 1e3, "unit": "ms"}


def read_trial(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    for name in ("mcap.reader", "mcap.stream_reader"):
        import_module(name)
    begun = time.perf_counter()
    total = READERS[engine](folders["files"] / case)
    return {"value": total / (time.perf_counter() - begun) / 1e6, "unit": "MB/s", "share_read": total / GIGABYTE}


def replay_trial(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    """`foveate replay` of ten recorded seconds, its start included."""
    log = folders["live"] / "run.mcap"
    before, begun = os.times(), time.perf_counter()
    command = [sys.executable, "-m", "foveate", "replay", str(log), *engine.split()[1:]]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took, after = time.perf_counter() - begun, os.times()
    with Recording(log) as recording:
        seconds = recording.time_range_ns[1] / 1e9
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return {"value": seconds / took, "unit": "recorded s / s", "cpu_s": cpu}


# The parts -----------------------------------------------------------------------------------------------------------

KILLED = tuple(name for name in FILES if "killed" in name)
PARTS = (
    Part("write", "Recording: MB of content a second, thousands of messages a second",
         tuple(f"{size}, {place}" for place in ("disk", "memory") for size in SHAPES), tuple(WRITERS), write_trial,
         (DEFAULT, LIMIT)),
    Part("memory", "Growth of the resident set while 2 GB of frames are recorded", ("6.22 MB",),
         tuple(list(WRITERS)[:-3]), memory_trial, (DEFAULT,)),
    Part("open", "Opening 1 GB", tuple(FILES), tuple(OPENERS), open_trial, ("mcap",),
         frozenset((name, "mcap") for name in KILLED)),
    Part("read", "Reading 1 GB, all of it", tuple(FILES), tuple(READERS), read_trial, ("mcap",),
         frozenset([(name, engine) for name in KILLED for engine in READERS if engine.startswith("mcap") and
                    "Stream" not in engine]
                   + [(name, "foveate, as Frame") for name in FILES if "small" in name]
                   + [(name, "mcap, its own file (zstd)") for name in FILES if name != "frames"]
                   + [(name, "mcap, StreamReader") for name in FILES if name not in KILLED])),
    Part("replay", "Replaying ten seconds of the wide-area search", ("wide_area",),
         ("replay --no-record", "replay --no-record --verify"), replay_trial),
)  # fmt: skip


def main() -> None:
    options = options_of(__doc__ or "", PARTS)
    options.disk.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(dir=options.disk) as disk,
        tempfile.TemporaryDirectory(dir=options.memory) as memory,
    ):
        folders = {"disk": Path(disk), "memory": Path(memory), "files": Path(memory) / "files", "live": Path(disk)}
        if not options.parts or {"open", "read"} & set(options.parts):
            folders["files"].mkdir()
            prepare(folders["files"])
        if not options.parts or "replay" in options.parts:
            command = [sys.executable, "-m", "foveate", "run", "wide_area", "--duration", "10s", "--output", disk]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        found = report(PARTS, options, folders)
    if "write" in found:
        part, write = PARTS[0], found["write"]
        for place in ("disk", "memory"):
            case = f"6.22 MB, {place}"
            for engine in list(WRITERS)[:2]:
                print(verdict(f"{engine} at {case} at least 3x {DEFAULT}",
                              part.ratios(write, case, engine, DEFAULT), lambda r: r >= 3))  # fmt: skip
                print(verdict(f"{engine} at {case} within 1.5x of the limit (share of it at least 0.67)",
                              part.ratios(write, case, engine, LIMIT), lambda r: r >= 1 / 1.5))  # fmt: skip


if __name__ == "__main__":
    main()
