"""How fast slices of events become what networks take: foveate beside tonic, dv-processing and plain numpy.

Every engine makes the same slices into its arrays on one thread; engines take turns, and each turn is one call to warm
up and three that are timed, as slices of a stream follow one another. Numbers are millions of events a second, medians
over all calls; the ratio in brackets is how many times the engine's time ours takes less, the median over the turns.
tonic's voxel grid is not normalised, and dv-processing's frames and surfaces are bytes: both have less to do. Its
events are put into its store before the clock starts, at most a million of them. A real recording is that of
../shared/data/events, left out where it is absent.

    pip install tonic dv-processing                          the peers
    python benchmarks/event_representations.py               about 4 minutes
    python benchmarks/event_representations.py --events 50000 --rounds 21
"""

from __future__ import annotations

import argparse
import gc
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from trials import verdict

from foveate_logbook.formats.events import recognise
from foveate_nodes.segmentation import representations as ours

RECORDING = Path(__file__).resolve().parents[2] / "shared" / "data" / "events" / "faery_testdata" / "evt2.raw"
BINS, DECAY_NS = 5, 1e7
TARGET = 20.0  # Mev/s
STORED = 1_000_000  # events that go into dv-processing's store one by one
CALLS = 3  # timed, a turn
Engine = Callable[[], Any]


@dataclass(frozen=True)
class Slice:
    """One slice: columns sorted by time (ns), and the sensor's size."""

    name: str
    t: Any
    x: Any
    y: Any
    p: Any
    width: int
    height: int

    @property
    def columns(self) -> tuple[Any, Any, Any, Any]:
        return self.t, self.x, self.y, self.p


def edges(count: int, width: int, height: int) -> Slice:
    """50 ms of twelve rings that move, and a tenth of noise."""
    random = np.random.default_rng(1)
    t = np.sort(random.integers(10**9, 10**9 + 50_000_000, count))
    ring, angle = random.integers(0, 12, count), random.uniform(0, 2 * np.pi, count)
    middle, speed = random.uniform(0.2, 0.8, (2, 12)), random.uniform(-40, 40, 12)
    radius = random.uniform(0.03, 0.12, 12)[ring] * width + random.normal(0, 0.7, count)
    x = middle[0, ring] * width + radius * np.cos(angle) + speed[ring] * (t - t[0]) / 5e7
    y = middle[1, ring] * height + radius * np.sin(angle)
    noise = random.random(count) < 0.1
    x, y = np.where(noise, random.uniform(0, width, count), x), np.where(noise, random.uniform(0, height, count), y)
    x, y = (np.clip(each, 0, size - 1).astype(np.uint16) for each, size in ((x, width), (y, height)))
    name = f"{count:,} at {width} x {height}"
    return Slice(name, t, x, y, random.integers(0, 2, count).astype(np.uint8), width, height)


def recorded() -> list[Slice]:
    """The whole of the recording, and 32,000 events of it."""
    if not RECORDING.is_file():
        print(f"{RECORDING.name}: not there, left out")
        return []
    reader = recognise.reader_of(RECORDING)
    assert reader is not None
    blocks = list(reader.blocks())
    t, x, y, p = (np.concatenate([getattr(block, name) for block in blocks]) for name in ("t_ns", "x", "y", "polarity"))
    width, height = reader.width or 1280, reader.height or 720
    return [
        Slice(f"{RECORDING.name}, {part.stop - part.start:,} at {width} x {height}", t[part], x[part], y[part], p[part],
              width, height)
        for part in (slice(0, len(t)), slice(0, min(32_000, len(t))))
    ]  # fmt: skip


def foveate(events: Slice) -> dict[str, dict[str, Engine]]:
    t, x, y, p = events.columns
    random = np.random.default_rng(2)
    shape = (events.height, events.width)
    apart = [(each + random.uniform(-0.9, 0.9, len(t))).astype(np.float32) for each in (x, y)]
    grid, count = np.empty((BINS, *shape), np.float32), np.empty((2, *shape), np.float32)
    frame, last = np.empty(shape, np.uint8), np.full((2, *shape), ours.NEVER)

    def surface(out: Any) -> Any:
        ours.last_times(t, x, y, p, last)
        return ours.time_surface(last, int(t[-1]), DECAY_NS, out=out)

    return {
        "voxel grid": {
            "foveate": lambda: ours.voxel_grid(t, x, y, p, grid.shape, out=grid),
            "foveate, no `out`": lambda: ours.voxel_grid(t, x, y, p, grid.shape),
            "foveate, not normalised": lambda: ours.voxel_grid(t, x, y, p, grid.shape, False, out=grid),
            "foveate, rectified": lambda: ours.voxel_grid(t, *apart, p, grid.shape, out=grid),
        },
        "event count": {
            "foveate": lambda: ours.event_count(x, y, p, shape, out=count),
            "foveate, no `out`": lambda: ours.event_count(x, y, p, shape),
        },
        "event frame": {
            "foveate": lambda: ours.event_frame(x, y, p, shape, out=frame),
            "foveate, no `out`": lambda: ours.event_frame(x, y, p, shape),
        },
        "time surface": {"foveate": lambda: surface(count), "foveate, no `out`": lambda: surface(None)},
    }


def plain(events: Slice) -> dict[str, dict[str, Engine]]:
    """numpy: `add.at` as most code has it, and `bincount`."""
    t, x, y, p = events.columns
    height, width = events.height, events.width
    last = np.full((2, height, width), -np.inf)

    def shares() -> Any:
        at = (BINS - 1) * (t - t[0]) / max(t[-1] - t[0], 1)
        low = np.minimum(at.astype(np.int64), BINS - 2)
        sign = 2.0 * p - 1
        cell = (low * height + y) * width + x
        return cell, cell + height * width, sign * (1 - (at - low)), sign * (at - low)

    def normalised(grid: Any) -> Any:
        cells = grid != 0
        grid[cells] = (grid[cells] - grid[cells].mean()) / grid[cells].std(ddof=1)
        return grid

    def voxel_add() -> Any:
        one, other, early, late = shares()
        grid = np.zeros(BINS * height * width, np.float32)
        np.add.at(grid, one, early.astype(np.float32))
        np.add.at(grid, other, late.astype(np.float32))
        return normalised(grid)

    def voxel_bincount() -> Any:
        one, other, early, late = shares()
        size = BINS * height * width
        return normalised(np.bincount(one, early, size) + np.bincount(other, late, size))

    def count_add() -> Any:
        count = np.zeros((2, height, width), np.float32)
        np.add.at(count, (p, y, x), 1)
        return count

    def count_bincount() -> Any:
        cell = (p * np.int64(height) + y) * width + x
        return np.bincount(cell, minlength=2 * height * width).astype(np.float32).reshape(2, height, width)

    def frame() -> Any:
        count = count_bincount()
        return np.clip(128 + (count[1] - count[0]) * (127 / 3), 0, 255).astype(np.uint8)

    def surface() -> Any:
        last[p, y, x] = t
        return np.exp((last - t[-1]) / DECAY_NS)

    return {
        "voxel grid": {"numpy.add.at": voxel_add, "numpy.bincount": voxel_bincount},
        "event count": {"numpy.add.at": count_add, "numpy.bincount": count_bincount},
        "event frame": {"numpy.bincount": frame},
        "time surface": {"numpy": surface},
    }


def tonic(events: Slice) -> dict[str, dict[str, Engine]]:
    import tonic.functional as peer

    t, x, y, p = events.columns
    size = (events.width, events.height, 2)
    kind = [("t", np.int64), ("x", np.int16), ("y", np.int16), ("p", np.int8)]
    signs, flags = (
        np.rec.fromarrays([t // 1000, x, y, each], dtype=kind).view(np.ndarray) for each in (2.0 * p - 1, p)
    )
    whole_us = int(t[-1] - t[0]) // 1000 + 1
    return {
        "voxel grid": {"tonic": lambda: peer.to_voxel_grid_numpy(signs, size, BINS)},
        "event count": {"tonic": lambda: peer.to_frame_numpy(flags, size, n_event_bins=1)},
        "time surface": {
            "tonic": lambda: peer.to_timesurface_numpy(flags, size, whole_us, DECAY_NS / 1e3, include_incomplete=True)
        },
    }


def dv_processing(events: Slice) -> dict[str, dict[str, Engine]]:
    import dv_processing as dv

    if len(events.t) > STORED:
        return {}
    store, size = dv.EventStore(), (events.width, events.height)
    for t, x, y, p in zip(*(column.tolist() for column in events.columns), strict=True):
        store.push_back(t // 1000, x, y, bool(p))

    def through(made: Any) -> Engine:
        def run() -> Any:
            made.accept(store)
            return made.generateFrame()

        return run

    def accumulated() -> Any:  # a new one each time: an accumulator does not take the same events again
        made = dv.Accumulator(size)
        made.accept(store)
        return made.generateFrame()

    return {
        "event frame": {"dv.Accumulator": accumulated, "dv.EdgeMapAccumulator": through(dv.EdgeMapAccumulator(size))},
        "time surface": {
            "dv.TimeSurface": through(dv.TimeSurface(size)),
            "dv.SpeedInvariantTimeSurface": through(dv.SpeedInvariantTimeSurface(size)),
        },
    }


PEERS = {"tonic": tonic, "dv_processing": dv_processing}


def measure(engines: dict[str, Engine], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds of each timed call, by engine and turn; the order turns round from turn to turn."""
    found: dict[str, list[list[float]]] = {name: [] for name in engines}
    for turn in range(-1, rounds):  # the first compiles, and is not kept
        for name in list(engines)[:: -1 if turn % 2 else 1]:
            run, times = engines[name], []
            run()
            for _ in range(CALLS if turn >= 0 else 0):
                begun = time.perf_counter()
                run()
                times.append(time.perf_counter() - begun)
            if turn >= 0:
                found[name].append(times)
    return found


def compare(events: Slice, peers: list[str], rounds: int, table: dict[str, dict[str, dict[str, str]]]) -> list[float]:
    """Fill in this slice's column of every table; our speeds (Mev/s) by representation."""
    made = [foveate(events), plain(events), *(PEERS[name](events) for name in peers)]
    speeds = []
    for kind in made[0]:
        engines = {name: run for each in made for name, run in each.get(kind, {}).items()}
        times = measure(engines, rounds)
        base = [statistics.median(turn) for turn in times["foveate"]]
        for name, turns in times.items():
            speed = len(events.t) / statistics.median(chain.from_iterable(turns)) / 1e6
            ratio = statistics.median(statistics.median(turn) / own for turn, own in zip(turns, base, strict=True))
            said = f"{speed:.1f}" if name == "foveate" else f"{speed:.1f} ({ratio:.2g}x)"
            table.setdefault(kind, {}).setdefault(name, {})[events.name] = said
            if name == "foveate":
                speeds.append(speed)
    gc.collect()
    return speeds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, help="one slice of so many events at 640 x 480 instead of all")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each engine (slices of a million and more: 3)")
    options = parser.parse_args()
    peers = [name for name in PEERS if importlib.util.find_spec(name)]
    for name in PEERS.keys() - set(peers):
        print(f"{name}: not installed, left out")
    sizes = [(options.events, 640, 480)] if options.events else [
        (32_000, 346, 260), (32_000, 640, 480), (100_000, 640, 480), (1_000_000, 640, 480), (10_000_000, 640, 480)
    ]  # fmt: skip
    cases: list[Callable[[], Slice]] = [lambda size=size: edges(*size) for size in sizes]
    cases += [lambda events=events: events for events in ([] if options.events else recorded())]
    table: dict[str, dict[str, dict[str, str]]] = {}
    names, slowest = [], []
    for case in cases:
        events = case()
        rounds = min(options.rounds, 3) if len(events.t) >= 1_000_000 else options.rounds
        speeds = compare(events, peers, rounds, table)
        names.append(events.name)
        slowest.append((events.name, min(speeds)))
    for kind, rows in table.items():
        print(f"\n| {kind}, Mev/s | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
        for name, cells in rows.items():
            print(f"| {name} | {' | '.join(cells.get(each, '-') for each in names)} |")
    print()
    for name, speed in slowest:
        print(verdict(f"{name}: each more than {TARGET:.0f} Mev/s", [speed], lambda value: value > TARGET))


if __name__ == "__main__":
    main()
