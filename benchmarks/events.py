"""How fast event files become arrays: foveate beside evt3, faery, dv-processing (Rust, C++), aedat and numpy.

Every engine decodes a whole file from the page cache and gives it out as arrays; `foveate packets` also holds every
event against sensor and clock and cuts the stream into packets of 10 ms, which is what a driver gives. Each trial is a
process of its own: one pass to warm up (and to load the compiled decoder), then the median of five. The engines take
turns; numbers are medians over the runs, ratios are medians of each run's ratio. Real recordings are those of
../shared/data/events, left out where they are absent.

    pip install evt3 faery dv-processing aedat          the peers
    python benchmarks/events.py                         about 8 minutes
    python benchmarks/events.py synthetic --cases EVT3 --runs 3
"""

from __future__ import annotations

import importlib.util
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from trials import Part, options_of, report, verdict

from foveate_logbook.formats.bag_log import BagLog
from foveate_logbook.formats.events import aedat4_write, dat, es, evt2, evt3, recognise, sequence, text
from foveate_logbook.formats.events.base import Block, EventReader, block_of

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "events"
WIDTH, HEIGHT = 1280, 720
LARGE = 10_000_000
PASSES = 5


def scene(count: int) -> Block:
    """A random scene of 10 million events a second."""
    random = np.random.default_rng(1)
    t = 5_000 + np.cumsum(random.exponential(0.1, count)).astype(np.int64)
    x, y, sign = (random.integers(0, size, count) for size in (WIDTH, HEIGHT, 2))
    return block_of(t * 1000, x, y, sign)


def edges(count: int) -> bytes:
    """EVT3 as a sensor writes it of moving edges: rows of vectors of 12 and 8 columns."""
    random = np.random.default_rng(2)
    rows = count // 10
    t = 5_000 + np.arange(rows)
    words = np.zeros((rows, 6), np.int64)
    words[:, 0], words[:, 1] = 0x8000 | (t >> 12 & 0xFFF), 0x6000 | (t & 0xFFF)
    words[:, 2] = random.integers(0, HEIGHT, rows)
    words[:, 3] = 0x3000 | random.integers(0, 2, rows) << 11 | random.integers(0, 1200, rows)
    words[:, 4], words[:, 5] = 0x4000 | random.integers(1, 4096, rows), 0x5000 | random.integers(1, 256, rows)
    kept = np.ones(words.shape, bool)
    kept[1:, 0] = np.diff(t >> 12) != 0
    return evt3.head(WIDTH, HEIGHT) + words[kept].astype("<u2").tobytes()


def prepare(folder: Path) -> None:
    """Write the synthetic files, and the real EVT3 of a ROS bag as a .raw file."""
    block = scene(LARGE)
    parts = [block.part(slice(i, i + 10_000)) for i in range(0, LARGE, 10_000)]
    small = block.part(slice(0, LARGE // 5))
    (folder / "EVT2.raw").write_bytes(evt2.head(WIDTH, HEIGHT) + evt2.encode(block))
    (folder / "EVT3 singles.raw").write_bytes(evt3.head(WIDTH, HEIGHT) + evt3.encode(block))
    (folder / "EVT3 vectors.raw").write_bytes(edges(LARGE))
    (folder / "DAT.dat").write_bytes(dat.head(WIDTH, HEIGHT) + dat.encode(block))
    (folder / "Event Stream.es").write_bytes(es.head(WIDTH, HEIGHT) + es.encode(small, HEIGHT))
    (folder / "AEDAT4 LZ4.aedat4").write_bytes(aedat4_write.file(parts, WIDTH, HEIGHT, "LZ4"))
    (folder / "text.csv").write_bytes(b"t x y p\n" + text.encode(small, "us"))
    bag = DATA / "event_camera_py" / "test_events_1.bag"
    if bag.is_file() and importlib.util.find_spec("rosbags"):
        (folder / "bag.raw").write_bytes(evt3.head(640, 480) + words_of(bag))


def words_of(bag: Path) -> bytes:
    """The bytes of all event packets of a bag, in a row."""
    kept: list[bytes] = []

    class Keep:
        def __init__(self, width: int, height: int) -> None:
            pass

        def events(self, data: Any, t_ns: int, base_ns: int) -> list[Any]:
            kept.append(bytes(data))
            return []

    from foveate_logbook.formats import event_packets

    event_packets.DECODERS["evt3"] = Keep  # type: ignore[assignment]
    with BagLog(bag) as log:
        for _ in log.messages():
            pass
    return b"".join(kept)


def reader_of(path: Path) -> EventReader:
    reader = recognise.reader_of(path)
    assert reader is not None
    return reader


def foveate(path: Path) -> int:
    reader = evt3.Evt3File(path, fast=True) if "EVT3" in path.name or path.name == "bag.raw" else reader_of(path)
    return sum(block.t_ns.size for block in reader.blocks())


def foveate_numpy(path: Path) -> int:
    return sum(block.t_ns.size for block in evt3.Evt3File(path, fast=False).blocks())


def foveate_packets(path: Path) -> int:
    reader = evt3.Evt3File(path, fast=True) if "EVT3" in path.name or path.name == "bag.raw" else reader_of(path)
    order = sequence.Sequence(reader.width or WIDTH, reader.height or HEIGHT)
    return sum(packet.t_ns.size for packet in sequence.packets(reader, order, 10_000_000))


def peer_evt3(path: Path) -> int:
    import evt3 as peer

    return len(peer.decode_file(str(path)).t)


def peer_faery(path: Path) -> int:
    import faery

    return sum(len(part) for part in faery.events_stream_from_file(str(path)))


def peer_dv(path: Path) -> int:
    import dv_processing as dv

    recording = dv.io.MonoCameraRecording(str(path))
    count = 0
    while (batch := recording.getNextEventBatch()) is not None:
        count += len(batch.numpy())
    return count


def peer_aedat(path: Path) -> int:
    import aedat

    return sum(len(packet["events"]) for packet in aedat.Decoder(str(path)) if "events" in packet)


def peer_loadtxt(path: Path) -> int:
    return len(np.loadtxt(path, np.int64, skiprows=1))


ENGINES: dict[str, Callable[[Path], int]] = {
    "foveate": foveate, "foveate numpy": foveate_numpy, "foveate packets": foveate_packets, "evt3": peer_evt3,
    "faery": peer_faery, "dv-processing": peer_dv, "aedat": peer_aedat, "numpy.loadtxt": peer_loadtxt,
}  # fmt: skip
READS = {
    "foveate numpy": ("EVT3",), "evt3": ("EVT3",), "faery": ("EVT", "DAT", "Event Stream", "AEDAT4"),
    "dv-processing": ("AEDAT4",), "aedat": ("AEDAT4",), "numpy.loadtxt": ("text",),
}  # fmt: skip
SYNTHETIC = {name: f"{name}.{suffix}" for name, suffix in (
    ("EVT2", "raw"), ("EVT3 singles", "raw"), ("EVT3 vectors", "raw"), ("DAT", "dat"), ("Event Stream", "es"),
    ("AEDAT4 LZ4", "aedat4"), ("text", "csv"),
)}  # fmt: skip
REAL = {
    "EVT2, Gen3": "faery_testdata/evt2.raw", "EVT3, SilkyEv": "bag.raw",
    "Event Stream, 320 x 240": "faery_testdata/dvs.es",
    "AEDAT4, DAVIS346": "faery_testdata/davis346.aedat4", "AEDAT4, DVXplorer": "tonic/sample.aedat4",
}  # fmt: skip
REAL_FILES = {name: file for name, file in REAL.items() if DATA.is_dir()}


def trial(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    """Millions of events a second."""
    name = SYNTHETIC[case] if "real" not in folders else REAL[case]
    path = next(place for place in (folders["files"] / name, DATA / name) if place.is_file())
    count, times = ENGINES[engine](path), []
    for _ in range(PASSES):
        begun = time.perf_counter()
        assert ENGINES[engine](path) == count
        times.append(time.perf_counter() - begun)
    return {"value": count / statistics.median(times) / 1e6, "unit": "Mev/s", "events": count}


def real_trial(case: str, engine: str, folders: Mapping[str, Path]) -> dict[str, Any]:
    return trial(case, engine, {**folders, "real": DATA})


def skips(cases: Mapping[str, str]) -> frozenset[tuple[str, str]]:
    """Engines that do not read a format, or are not installed."""
    modules = {"evt3": "evt3", "faery": "faery", "dv-processing": "dv_processing", "aedat": "aedat"}
    absent = {engine for engine, module in modules.items() if importlib.util.find_spec(module) is None}
    return frozenset(
        (case, engine) for case in cases for engine in ENGINES
        if engine in absent or (engine in READS and not case.startswith(READS[engine]))
    )  # fmt: skip


BASES = ("evt3", "faery", "dv-processing")
PARTS = (
    Part("synthetic", "Large synthetic files", tuple(SYNTHETIC), tuple(ENGINES), trial, BASES, skips(SYNTHETIC)),
    Part("real", "Recordings of real cameras", tuple(REAL_FILES), tuple(ENGINES), real_trial, BASES, skips(REAL)),
)


def main() -> None:
    options = options_of(__doc__ or "", PARTS)
    with tempfile.TemporaryDirectory(dir=options.memory) as folder:
        prepare(Path(folder))
        found = report(PARTS, options, {"files": Path(folder)})
    for case in ("EVT3 singles", "EVT3 vectors"):
        outcomes = found.get("synthetic", {})
        speeds = [run["value"] for run in outcomes.get(case, {}).get("foveate", []) if run is not None]
        print(verdict(f"{case}: more than 100 Mev/s", speeds, lambda speed: speed > 100))
        ratios = PARTS[0].ratios(outcomes, case, "foveate", "evt3")
        print(verdict(f"{case}: at least half of evt3", ratios, lambda ratio: ratio >= 0.5))


if __name__ == "__main__":
    main()
