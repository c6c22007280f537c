"""Slices of events: cuts depend on the events alone, nothing is lost or doubled, and what nodes make of them fits."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="slices are cut by loops that numba compiles (extra segmentation)")
pytest.importorskip("cv2", reason="label pictures are drawn by OpenCV")

from foveate.cli import main
from foveate.messages import Events, Frame, Stamp
from foveate.recording import Recording
from foveate_logbook.formats.events import evt3
from foveate_logbook.formats.events.base import block_of
from foveate_nodes.segmentation.canvas import Canvas
from foveate_nodes.segmentation.classes import SIX, palette, seen_as
from foveate_nodes.segmentation.event_count import EventCount
from foveate_nodes.segmentation.event_frame import EventFrame
from foveate_nodes.segmentation.label_picture import LabelPicture
from foveate_nodes.segmentation.labelled import UNLABELLED
from foveate_nodes.segmentation.messages import EventSlices, EventTensor, LabelImage
from foveate_nodes.segmentation.scores import Confusion
from foveate_nodes.segmentation.slice_events import SliceEvents
from foveate_nodes.segmentation.slicing import By
from foveate_nodes.segmentation.time_surface import TimeSurface
from foveate_nodes.segmentation.voxel_grid import VoxelGrid

MS = 1_000_000
WIDTH, HEIGHT = 40, 24
MODES: tuple[By, ...] = ("time", "count", "adaptive")
Columns = tuple[Any, Any, Any, Any]


def node(by: By = "time", **changed: Any) -> SliceEvents:
    """Slices of 5 ms, of 30 events, or of 6 in an area."""
    return SliceEvents(**{"by": by, "duration": 0.005, "count": 30, "area": 6, "most": 1000, **changed})


def packet(
    columns: Columns, begin_ns: int | None = None, end_ns: int | None = None, size: tuple[int, int] = (WIDTH, HEIGHT),
    epoch: int = 0,
) -> Events:  # fmt: skip
    """Events with a stamp that covers an interval; without one, the events."""
    t = np.asarray(columns[0], np.int64)
    begin = int(t[0]) if begin_ns is None else begin_ns
    end = int(t[-1]) if end_ns is None else end_ns
    x, y = (np.asarray(column, np.uint16) for column in columns[1:3])
    stamp = Stamp((begin + end) // 2, end - begin)
    return Events(stamp, t, x, y, np.asarray(columns[3], np.uint8), *size, 0, epoch)


def at(*times_ms: float) -> Columns:
    """Events at these times, at places of no importance."""
    count = len(times_ms)
    t = (np.array(times_ms, float) * MS).round().astype(np.int64)
    return t, np.arange(count) % WIDTH, np.arange(count) % HEIGHT, np.arange(count) % 2


def made(seed: int, count: int, end_ns: int) -> Columns:
    """In bursts, many at the same time and on borders of slices, some off the sensor."""
    random = np.random.default_rng(seed)
    t = random.choice([1, 1000, MS, 5 * MS], count) * random.integers(0, 1 + end_ns // MS, count)
    t = np.sort(np.minimum(t, end_ns - 1)).astype(np.int64)
    x, y = random.integers(0, WIDTH + 6, count), random.integers(0, HEIGHT + 4, count)
    return t, x.astype(np.uint16), y.astype(np.uint16), random.integers(0, 2, count).astype(np.uint8)


def packed(columns: Columns, edges: Sequence[int]) -> Iterator[Events]:
    """A packet for each interval, silent ones too."""
    for begin, end in pairwise(edges):
        part = slice(*np.searchsorted(columns[0], [begin, end]))
        yield packet(tuple(column[part] for column in columns), begin, end)  # type: ignore[arg-type]


def cut(slicer: SliceEvents, packets: Any) -> list[EventSlices]:
    return [found for events in packets if (found := slicer.step(events)) is not None]


def flat(found: list[EventSlices]) -> list[tuple[Any, ...]]:
    """Every slice with its begin, end and events."""
    return [
        (int(each.begin_ns[i]), int(each.end_ns[i]), *(column.tolist() for column in each.events_of(i)))
        for each in found
        for i in range(len(each))
    ]


def waiting(slicer: SliceEvents) -> int:
    return slicer._slicer._held_count


def sound(found: list[EventSlices], by: By) -> None:
    """What holds of any slices: bounds, times, stamps, one after the other."""
    before_ns = None
    for each in found:
        slices = len(each)
        assert slices and each.bound[0] == 0 and each.bound[-1] == len(each.t_ns) == len(each.x) == len(each.polarity)
        assert len(each.bound) == slices + 1 == len(each.end_ns) + 1 and (np.diff(each.bound) >= 0).all()
        assert (each.begin_ns[1:] == each.end_ns[:-1]).all() and (each.begin_ns <= each.end_ns).all()
        assert each.stamp.t_ns == each.end_ns[-1] and each.stamp.exposure_ns == each.end_ns[-1] - each.begin_ns[-1]
        assert (each.t_ns.dtype, each.x.dtype, each.polarity.dtype) == (np.int64, np.uint16, np.uint8)
        assert each.bound.dtype == each.begin_ns.dtype == each.end_ns.dtype == np.int64
        if not each.fresh and not each.skipped:
            assert before_ns == each.begin_ns[0]
        before_ns = int(each.end_ns[-1])
        for i in range(slices):
            t, begin, end = each.events_of(i)[0], each.begin_ns[i], each.end_ns[i]
            if by == "time":
                assert end - begin == 5 * MS and begin % (5 * MS) == 0 and ((t >= begin) & (t < end)).all()
            else:
                assert len(t) and ((t >= begin) & (t <= end)).all() and t[-1] == end


@st.composite
def streams(draw: Any) -> tuple[Columns, list[int], list[int]]:
    """Events of 60 ms and two ways to pack them."""
    end_ns = 60 * MS
    columns = made(draw(st.integers(0, 10_000)), draw(st.integers(0, 400)), end_ns)
    places = st.lists(st.integers(1, end_ns - 1) | st.integers(1, 59).map(lambda ms: ms * MS), max_size=12, unique=True)
    return columns, [0, *sorted(draw(places)), end_ns], [0, *sorted(draw(places)), end_ns]


# --- cuts


@pytest.mark.parametrize("by", MODES)
@settings(max_examples=80)
@given(streams())
def test_cuts_depend_on_the_events_and_not_on_their_packets(by: By, made: tuple[Columns, list[int], list[int]]) -> None:
    columns, *ways = made
    nodes = [node(by) for _ in ways]
    found = [cut(each, packed(columns, edges)) for each, edges in zip(nodes, ways, strict=True)]
    assert flat(found[0]) == flat(found[1]) and waiting(nodes[0]) == waiting(nodes[1])
    for each, slicer in zip(found, nodes, strict=True):
        sound(each, by)
        assert [slices.fresh for slices in each] == [True, *[False] * (len(each) - 1)][: len(each)]
        assert sum(len(part.t_ns) for part in each) + waiting(slicer) == len(columns[0])
        for k, name in enumerate(("t_ns", "x", "y", "polarity")):
            ours = [value for part in each for value in getattr(part, name).tolist()]
            assert ours == columns[k][: len(ours)].tolist()


@pytest.mark.parametrize("by", MODES)
@settings(max_examples=40)
@given(streams(), st.integers(1, 4))
def test_of_too_many_slices_the_newest_are_kept_and_the_others_counted(
    by: By, made: tuple[Columns, list[int], list[int]], most: int
) -> None:
    columns, edges, _ = made
    all_ = flat(cut(node(by), packed(columns, edges)))
    slicer = node(by, most=most)
    found = cut(slicer, packed(columns, edges))
    sound(found, by)
    place = 0
    for each in found:
        assert len(each) <= most and (len(each) == most or not each.skipped)
        place += each.skipped
        assert flat([each]) == all_[place : place + len(each)]
        place += len(each)
    assert place == len(all_)
    left_out = len(columns[0]) - sum(len(each[2]) for each in all_)
    assert waiting(slicer) == left_out


def test_adaptive_cuts_are_those_of_a_slow_count() -> None:
    columns = made(3, 3000, 400 * MS)
    expected: list[tuple[int, int, int]] = []
    counts: dict[tuple[int, int], int] = {}
    begin, first = int(columns[0][0]), 0
    for i, (t, x, y) in enumerate(zip(*(column.tolist() for column in columns[:3]), strict=True)):
        area = (y // 16, x // 16)
        if x < WIDTH and y < HEIGHT:
            counts[area] = counts.get(area, 0) + 1
        if t - begin >= 5 * MS or (x < WIDTH and y < HEIGHT and counts[area] >= 6):
            expected.append((begin, t, i + 1 - first))
            counts, begin, first = {}, t, i + 1
    found = flat(cut(node("adaptive"), packed(columns, range(0, 401 * MS, MS))))
    assert len(expected) > 100 and [(*each[:2], len(each[2])) for each in found] == expected


def test_silence_has_slices_by_time_and_none_otherwise() -> None:
    silent = [packet(at(), k * 10 * MS, (k + 1) * 10 * MS) for k in range(4)]
    found = cut(node(), silent)
    sound(found, "time")
    assert [each[:2] for each in flat(found)] == [(k * 5 * MS, (k + 1) * 5 * MS) for k in range(8)]
    for by in ("count", "adaptive"):
        slicer = node(by, count=2, area=1)
        assert cut(slicer, silent) == []
        (one,) = cut(slicer, [packet(at(43, 44))])
        assert one.fresh and one.begin_ns[0] == 43 * MS  # the silence before belongs to no slice


def test_a_packet_of_an_odd_length_ends_its_slices_too() -> None:
    """A stamp's middle is rounded down; its end is not."""
    (found,) = cut(SliceEvents(duration=0.000_100_001), [packet(at(0.01), 0, 100_001)])
    assert found.end_ns.tolist() == [100_001]


def test_an_event_on_a_border_begins_the_next_slice() -> None:
    slicer = node()
    (found,) = cut(slicer, [packet(at(0, 4.999999, 5, 5))])
    assert [each[2] for each in flat([found])] == [[0, 4_999_999]] and waiting(slicer) == 2


def test_times_below_zero_are_times() -> None:
    found = cut(node(), [packet(at(-7, -5, -1, 0, 6))])
    sound(found, "time")
    assert [(each[0] // MS, len(each[2])) for each in flat(found)] == [(-10, 1), (-5, 2), (0, 1)]


def test_a_stamp_that_covers_more_than_came_loses_and_doubles_nothing() -> None:
    """A device may say more of its interval than it gives at once."""
    times = np.arange(0, 20, 0.25)
    packets = [packet(at(*part), 0, 20 * MS) for part in np.array_split(times, 7)] + [packet(at(31), 20 * MS, 40 * MS)]
    for by in MODES:
        slicer = node(by)
        found = cut(slicer, packets)
        given_ = np.concatenate([each.t_ns for each in found])
        assert np.array_equal(given_ / MS, [*times, 31][: len(given_)])
        assert len(given_) + waiting(slicer) == 81 and (np.diff([each.stamp.t_ns for each in found]) >= 0).all()
        assert sum(each.fresh for each in found) == 1
        if by == "count":
            sound(found, by)
    slicer = node()
    cut(slicer, [packet(at(1), 0, 1000 * MS)])
    assert flat(cut(slicer, [packet(at(2, 3), 2 * MS, 3 * MS)])) == [] and waiting(slicer) == 2


# --- what does not follow


def test_when_time_goes_back_it_begins_anew() -> None:
    for by in MODES:
        slicer = node(by, count=2, area=3)
        first = cut(slicer, [packet(at(100, 103, 103, 106, 112, 113, 114))])
        lost = waiting(slicer)
        again = cut(slicer, [packet(at(50)), packet(at(50, 57, 57, 63))])
        assert lost and [each.fresh for each in first + again] == [True, True]
        sound(again, by)
        assert len(again[0].t_ns) + waiting(slicer) == 5 and again[0].t_ns[0] == 50 * MS


def test_an_equal_time_does_not_go_back() -> None:
    slicer = node("count", count=2)
    found = cut(slicer, [packet(at(1, 2, 3)), packet(at(3, 3, 3))])
    assert [each.fresh for each in found] == [True, False] and waiting(slicer) == 0


@pytest.mark.parametrize("changed", [{"epoch": 1}, {"size": (64, HEIGHT)}, {"size": (WIDTH, 64)}])
@pytest.mark.parametrize("by", MODES)
def test_another_epoch_or_sensor_is_fresh(by: By, changed: dict[str, Any]) -> None:
    slicer = node(by, count=4)
    cut(slicer, [packet(at(*range(7)))])
    assert waiting(slicer)
    later = packet(at(*np.linspace(8, 20, 9)), **changed)
    found = cut(slicer, [later, replace(later, t_ns=later.t_ns + 20 * MS)])
    assert [each.fresh for each in found] == [True, False] and found[0].t_ns[0] == 8 * MS
    assert (found[0].width, found[0].height) == changed.get("size", (WIDTH, HEIGHT))
    if by == "adaptive":  # counts of areas began anew
        assert flat(found) == flat(cut(node(by), [later, replace(later, t_ns=later.t_ns + 20 * MS)]))


def test_what_waits_is_not_fresh_news_until_a_slice_ends() -> None:
    slicer = node()
    assert slicer.step(packet(at(1, 2))) is None and slicer.step(packet(at(), 2 * MS, 3 * MS)) is None
    assert slicer.step(packet(at(1), epoch=1)) is None
    found = slicer.step(packet(at(6), epoch=1))
    assert found is not None and found.fresh and found.t_ns.tolist() == [MS]


# --- much at once


@pytest.mark.parametrize("by", MODES)
def test_an_hour_of_silence_takes_no_memory(by: By) -> None:
    slicer = SliceEvents(by=by, duration=1e-4, count=2, area=2, most=8)
    hour = 3600 * 1000
    cut(slicer, [packet(at(0.01, 0.05)), packet(at(0.06))])
    tracemalloc.start()
    found = cut(slicer, [packet(at(hour, hour + 0.01)), packet(at(10**12))])
    assert tracemalloc.get_traced_memory()[1] < 1_000_000
    tracemalloc.stop()
    if by == "time":
        assert [len(each) for each in found] == [8, 8] and found[0].skipped == 36_000_000 - 8
        assert found[0].end_ns[-1] == hour * MS and found[0].t_ns.size == 0 and found[1].t_ns.size == 0
        assert found[1].skipped == 10**13 - 36_000_000 - 8
    else:
        assert found[0].skipped == 0 and found[0].t_ns[-1] >= hour * MS


@pytest.mark.parametrize("by", MODES)
def test_a_burst_in_one_packet_is_cut_at_once(by: By) -> None:
    """Ten million events; slices are views of the packet."""
    count = 10_000_000
    random = np.random.default_rng(1)
    t = np.arange(count, dtype=np.int64) * 100  # a second
    place = random.integers(0, 1280, count, np.uint16), random.integers(0, 720, count, np.uint16)
    events = packet((t, *place, place[0].astype(np.uint8) & 1), 0, int(t[-1]) + 100, (1280, 720))
    slicer = SliceEvents(by=by, duration=0.05, count=32_000, area=500, most=8)
    slicer.step(packet(at(-50), -50 * MS, 0, (1280, 720)))  # compiles
    tracemalloc.start()
    found = slicer.step(events)
    memory = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found is not None and len(found) == 8 and found.skipped > 10 and found.t_ns[-1] > t[-1] - 50 * MS
    assert waiting(slicer) + len(found.t_ns) < count and memory < 40_000_000
    if by == "time":
        assert np.diff(found.bound).tolist() == [500_000] * 8 and found.skipped == 12
    if by == "count":
        assert np.diff(found.bound).tolist() == [32_000] * 8 and found.skipped == (count + 1) // 32_000 - 8


@pytest.mark.parametrize("by", MODES)
def test_a_slice_that_is_long_in_the_making_is_put_together_once(by: By, monkeypatch: pytest.MonkeyPatch) -> None:
    """Thousands of small packets: nothing that waits is copied again with each of them."""
    slicer = SliceEvents(by=by, count=300_000, area=10**6, duration=3.0)
    joined, join = 0, np.concatenate

    def counted(parts: Any, *more: Any, **others: Any) -> Any:
        nonlocal joined
        joined += sum(len(part) for part in parts)
        return join(parts, *more, **others)

    monkeypatch.setattr(np, "concatenate", counted)
    part = at(*np.arange(0, 1, 0.01))
    found = cut(slicer, (packet((part[0] + k * MS, *part[1:])) for k in range(3001)))
    assert joined < 5 * 300_000 and len(found) == 1
    assert len(found[0].t_ns) >= 300_000 and waiting(slicer) == 300_100 - len(found[0].t_ns)
    assert (np.diff(found[0].t_ns) >= 0).all()


def test_slices_do_not_keep_the_memory_of_others() -> None:
    """What waits is in memory of its own: the packet's may be large, or used again."""
    slicer = node("count", count=3)
    events = packet(at(1, 2, 3, 4))
    slicer.step(events)
    assert not any(np.shares_memory(column, events.t_ns) for held in slicer._slicer._held for column in held)


# --- what nodes make of slices


def some(fresh: bool = True, **changed: Any) -> EventSlices:
    """Two slices; an event of the first is off the sensor, two of the second."""
    events = packet((
        np.array([0, 1, 2, 3, 4, 5, 6, 7]) * MS, [0, 39, 40, 3, 3, 65_535, 7, 8], [0, 23, 2, 5, 5, 2, 24, 9],
        [1, 0, 1, 1, 1, 0, 1, 0],
    ))  # fmt: skip
    values = {"bound": np.array([0, 4, 8]), "begin_ns": np.array([0, 4 * MS]), "end_ns": np.array([4 * MS, 8 * MS])}
    fields = {name: getattr(events, name) for name in ("t_ns", "x", "y", "polarity")}
    whole: dict[str, Any] = {**fields, **values, "width": WIDTH, "height": HEIGHT, "skipped": 3, "fresh": fresh}
    return EventSlices(Stamp(8 * MS, 4 * MS), **{**whole, **changed})


@pytest.mark.parametrize(
    ("kind", "channels", "changed"),
    [("voxel_grid", 5, {}), ("voxel_grid", 3, {"bins": 3, "normalise": False}), ("time_surface", 2, {}),
     ("event_count", 2, {})],
)  # fmt: skip
def test_a_tensor_says_what_its_slices_say(kind: str, channels: int, changed: dict[str, Any]) -> None:
    makers: dict[str, Any] = {"voxel_grid": VoxelGrid, "time_surface": TimeSurface, "event_count": EventCount}
    slices = some()
    tensor = makers[kind](**changed).step(slices)
    assert tensor.kind == kind and tensor.value.shape == (2, channels, HEIGHT, WIDTH)
    assert tensor.value.dtype == np.float32 and np.isfinite(tensor.value).all()
    assert tensor.stamp == slices.stamp and tensor.outside == 3 and (tensor.skipped, tensor.fresh) == (3, True)
    assert np.array_equal(tensor.begin_ns, slices.begin_ns) and np.array_equal(tensor.end_ns, slices.end_ns)
    with pytest.raises(ValueError, match="read-only"):
        tensor.value[:] = 0


def test_counts_are_of_their_slice() -> None:
    value = EventCount().step(some()).value
    assert value.sum(axis=(1, 2, 3)).tolist() == [3, 2]
    assert value[0, 1, 5, 3] == value[1, 1, 5, 3] == value[0, 0, 23, 39] == value[1, 0, 9, 8] == 1


def test_a_time_surface_goes_on_until_time_begins_anew() -> None:
    surface = TimeSurface(decay=0.004)
    first = surface.step(some()).value
    assert first[1, 1, 0, 0] == pytest.approx(np.exp(-2)) and first[0, 0, 0, 0] == 0
    later = {"t_ns": np.zeros(0, np.int64), "x": np.zeros(0, np.uint16), "y": np.zeros(0, np.uint16),
             "polarity": np.zeros(0, np.uint8), "bound": np.zeros(2, np.int64),
             "begin_ns": np.array([8 * MS]), "end_ns": np.array([12 * MS])}  # fmt: skip
    assert surface.step(some(fresh=False, **later)).value[0, 1, 0, 0] == pytest.approx(np.exp(-3))
    assert not surface.step(some(fresh=True, **later)).value.any()
    surface.step(some())
    assert surface.step(some(fresh=False, width=41, **later)).value.shape == (1, 2, HEIGHT, 41)


def test_silent_slices_are_empty_tensors() -> None:
    (slices,) = cut(node(), [packet(at(), 0, 10 * MS)])
    for maker in (VoxelGrid(), TimeSurface(), EventCount()):
        assert not maker.step(slices).value.any()
    assert (EventFrame().step(slices).image == 128).all()


def test_a_voxel_grid_on_a_canvas() -> None:
    """Half as wide; what is beside the sensor is not on the canvas either, though there is room."""
    grid = VoxelGrid(bins=1, normalise=False, width=20, height=40).step(some())
    assert grid.value.shape == (2, 1, 40, 20) and grid.outside == 3
    assert grid.value[0, 0, 0, 0] == 1 and grid.value[0, 0, 11, 19] == -1 and grid.value[0, 0, 2, 1] == 1
    assert np.abs(grid.value).sum() == 5
    one = VoxelGrid(bins=1, normalise=False, width=WIDTH + 10).step(some())
    assert one.value.shape == (2, 1, HEIGHT, WIDTH + 10) and one.outside == 3
    tiny = VoxelGrid(bins=1, normalise=False, width=1, height=1).step(some())
    assert tiny.value.ravel().tolist() == [1, 0] and tiny.outside == 3


def test_frames_show_the_newest_slice_and_are_numbered() -> None:
    frames = EventFrame(contrast=1)
    image = frames.step(some())
    assert image.image.shape == (HEIGHT, WIDTH) and image.image.dtype == np.uint8 and image.stamp.t_ns == 8 * MS
    assert image.image[5, 3] == 255 and image.image[9, 8] == 1 and image.image[0, 0] == 128
    assert [frames.step(some()).seq for _ in range(2)] == [1, 2]


@pytest.mark.parametrize("size", [(24, 40), (1, 1), (700, 900)])
@pytest.mark.parametrize("names", [SIX, ("a class with a name that is longer than the picture is wide",) * 12, ()])
def test_label_pictures_of_any_size_and_classes(size: tuple[int, int], names: tuple[str, ...]) -> None:
    label = np.full(size, UNLABELLED, np.uint8)
    label[0, 0] = 0
    events = Frame(Stamp(1), np.full(size, 128, np.uint8), "Mono8", 0)
    picture = LabelPicture()
    for k, frame in enumerate((None, events, Frame(Stamp(1), np.zeros((5, 5), np.uint8), "Mono8", 0))):
        found = picture.step(LabelImage(Stamp(5), label, names), frame)
        assert found.encoding == "BGR8" and found.seq == k and found.stamp.t_ns == 5
        assert found.image.shape[1:] == (size[1], 3) and found.image.shape[0] > size[0]
        assert found.image.dtype == np.uint8
    assert not found.image[size[0] - 1, size[1] - 1].any() or size == (1, 1)  # nobody says: black


_GRAPH = """
foveate: 1
rig: {events: {uri: "evt:a.raw", loop: true}}
nodes:
  camera: {use: event_camera, device: "${rig.events}"}
  slices: {use: slice_events, inputs: {events: {from: camera.events, queue: block(64)}}, params: {by: BY, count: 700}}
  grid: {use: voxel_grid, inputs: {slices: {from: slices.slices, queue: block(8)}}, params: {width: 20, height: 15}}
  surface: {use: time_surface, inputs: {slices: {from: slices.slices, queue: block(8)}}}
  counts: {use: event_count, inputs: {slices: {from: slices.slices, queue: block(8)}}}
  frame: {use: event_frame, inputs: {slices: {from: slices.slices, queue: block(8)}}}
record:
  to: logs
  streams: [camera.events, slices.slices, grid.tensor, surface.tensor, counts.tensor, frame.frame]
"""


@pytest.mark.parametrize("by", MODES)
def test_all_of_it_is_recorded_and_replayed(by: By, in_tmp: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that begins anew again and again; what is on the wires is in the recording, and again in the replay."""
    random = np.random.default_rng(4)
    t, count = np.sort(random.integers(0, 120, 4000)) * MS, 4000
    block = block_of(t, *(random.integers(0, most, count) for most in (WIDTH, HEIGHT, 2)))
    Path("a.raw").write_bytes(evt3.head(WIDTH, HEIGHT) + evt3.encode(block))
    Path("g.yaml").write_text(_GRAPH.replace("BY", by))
    run = ["run", "g.yaml", "--executor", "virtual", "--duration", "500ms", "--output", "out", "--quiet"]
    assert main(run) == 0, capsys.readouterr()
    assert "every message accounted for" in capsys.readouterr().out
    with Recording(Path("out/run.mcap")) as log:
        slices = [m for _, m in log.messages("slices.slices", EventSlices) if isinstance(m, EventSlices)]
        grids = [m for _, m in log.messages("grid.tensor", EventTensor) if isinstance(m, EventTensor)]
    assert len(grids) == len(slices) > 3 and sum(each.fresh for each in slices) >= 3
    for tensor, each in zip(grids, slices, strict=True):
        assert tensor.value.shape == (len(each), 5, 15, 20) and tensor.fresh == each.fresh
    assert main(["replay", "out/run.mcap", "--verify", "--output", "again"]) == 0, capsys.readouterr()


# --- from a sensor to a canvas and back

sides = st.integers(1, 90)
canvases = st.tuples(st.tuples(sides, sides), st.tuples(sides, sides))
KNOWN = [((346, 260), (144, 108)), ((346, 200), (352, 200)), ((640, 440), (144, 108)), ((1280, 720), (144, 108)),
         ((304, 240), (144, 108)), ((128, 128), (144, 108)), ((3, 1000), (5, 7)), ((144, 108), (144, 108))]  # fmt: skip


def consistent(sensor: tuple[int, int], size: tuple[int, int]) -> None:
    canvas = Canvas(sensor, size)
    (width, height), (used_width, used_height) = sensor, canvas.used
    assert 1 <= used_width <= size[0] and 1 <= used_height <= size[1]
    assert used_width == size[0] or used_height == size[1]
    y, x = (side.ravel().astype(np.uint16) for side in np.mgrid[:height, :width])
    column, row = canvas.place(x, y)
    assert column.dtype == row.dtype == np.uint16 and column.max() < used_width and row.max() < used_height
    # each pixel's class is that of the canvas pixel where its events fall: up to 89 x 89 labels, told apart by two
    for label in (np.arange(size[0])[None] % 251 + 0 * np.arange(size[1])[:, None],
                  np.arange(size[1])[:, None] % 251 + 0 * np.arange(size[0])[None]):  # fmt: skip
        wide = canvas.widen(label.astype(np.uint8))
        assert wide.shape == (height, width) and wide.dtype == np.uint8
        assert np.array_equal(wide[y, x], label[row, column])
        if canvas.scale <= 1:
            assert np.array_equal(canvas.shrink(wide)[:used_height, :used_width], label[:used_height, :used_width])
    fine = (np.arange(width)[None] * 7 + np.arange(height)[:, None] * 13) % 251
    small = canvas.shrink(fine.astype(np.uint8))
    assert small.shape == size[::-1] and (small[:used_height, :used_width] != UNLABELLED).all()
    assert (small[used_height:] == UNLABELLED).all() and (small[:, used_width:] == UNLABELLED).all()
    if canvas.scale >= 1:
        assert np.array_equal(canvas.widen(small), fine)
    # columns and rows that are not whole lie where whole ones do, up to the rounding of halves
    between = canvas.place(x.astype(np.float32), y.astype(np.float32))
    for whole, floating in zip((column, row), between, strict=True):
        assert floating.dtype == np.float32
        assert (np.abs(floating - whole) <= 0.5 + 1e-3).all()


@pytest.mark.parametrize(("sensor", "size"), KNOWN)
def test_known_sensors_on_canvases_are_consistent(sensor: tuple[int, int], size: tuple[int, int]) -> None:
    consistent(sensor, size)


@given(canvases)
def test_any_sensor_on_any_canvas_is_consistent(both: tuple[tuple[int, int], tuple[int, int]]) -> None:
    consistent(*both)


@given(canvases)
def test_what_is_beside_the_sensor_is_beside_the_canvas(both: tuple[tuple[int, int], tuple[int, int]]) -> None:
    (width, height), size = both
    canvas = Canvas((width, height), size)
    x = np.array([0, width, 0, 65_535, width - 1, width + 1])
    y = np.array([height, 0, 65_535, 0, height + 1, 0])
    for kind in (np.uint16, np.float32):
        column, row = canvas.place(x.astype(kind), y.astype(kind))
        assert ((column >= size[0]) | (row >= size[1])).all()
    nan = np.array([np.nan, 0.0], np.float32)
    column, row = canvas.place(nan, nan[::-1].copy())
    assert np.isnan([column[0], row[1]]).all()
    column, _ = canvas.place(np.array([-1.0, -0.5], np.float32), np.zeros(2, np.float32))
    assert not -1 < column[0] < size[0] and column[1] > -1
    assert canvas.place(np.zeros(0, np.uint16), np.zeros(0, np.uint16))[0].size == 0


# --- scores and classes


@settings(max_examples=50)
@given(st.integers(0, 10_000), st.integers(1, 7))
def test_a_confusion_is_that_of_a_slow_count(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    confusion, pairs = Confusion(classes), []
    for _ in range(3):
        truth, found = random.integers(0, classes, (2, 6, 5)).astype(np.uint8)
        truth[random.random(truth.shape) < 0.3] = UNLABELLED
        confusion.add(truth, found)
        pairs += [(t, f) for t, f in zip(truth.ravel().tolist(), found.ravel().tolist(), strict=True) if t != 255]
    expected = []
    for c in range(classes):
        both, either = sum(t == c and f == c for t, f in pairs), sum(c in pair for pair in pairs)
        expected.append(both / either if either else np.nan)
        assert confusion.pixels[c].sum() == sum(t == c for t, _ in pairs)
    assert np.allclose(confusion.iou, expected, equal_nan=True)
    assert confusion.miou == pytest.approx(np.nanmean(expected))
    assert confusion.accuracy == pytest.approx(np.mean([t == f for t, f in pairs]))


def test_what_is_nowhere_is_no_number_and_not_in_the_mean() -> None:
    confusion = Confusion(4)
    assert np.isnan(confusion.iou).all() and np.isnan(confusion.miou) and confusion.accuracy == 0
    confusion.add(np.full((3, 3), UNLABELLED, np.uint8), np.zeros((3, 3), np.uint8))
    assert np.isnan(confusion.miou) and confusion.pixels.sum() == 0
    confusion.add(np.array([0, 0, 1, 255], np.uint8), np.array([0, 2, 1, 3], np.uint8))
    assert confusion.iou[:3].tolist() == [0.5, 1.0, 0.0] and np.isnan(confusion.iou[3])  # 2 was given, so it counts
    assert confusion.miou == pytest.approx(0.5) and confusion.accuracy == pytest.approx(2 / 3)


def test_classes_are_seen_as_others() -> None:
    from foveate_drivers.world.street_layout import CLASSES as STREET
    from foveate_nodes.segmentation.ddd17 import CLASSES as DDD17
    from foveate_nodes.segmentation.dsec import CLASSES as DSEC

    assert DDD17 == SIX
    for names in (STREET, DSEC):
        table = seen_as(names, SIX)
        assert table is not None and table.dtype == np.uint8 and (table[len(names) :] == UNLABELLED).all()
        seen = {name: SIX[table[i]] for i, name in enumerate(names)}
        assert seen["road"] == seen["sidewalk"] == "flat" and seen["sky"] == "background" and seen["pole"] == "object"
        assert seen["person"] == "human" and seen["vehicle"] == "vehicle" and seen["vegetation"] == "vegetation"
        same = seen_as(names, names)
        assert same is not None and same[:11].tolist() == list(range(11))
    both = seen_as(DSEC, STREET), seen_as(STREET, DSEC)
    assert all(table is not None and table[:11].tolist() == list(range(11)) for table in both)
    assert seen_as(SIX, STREET) is None and seen_as(("a ship",), SIX) is None
    assert seen_as(("b", "a"), ("a", "b", "c")) is not None and (seen_as((), SIX) == UNLABELLED).all()  # type: ignore[union-attr]
    for names in (STREET, DSEC, SIX):
        colors = palette(names)
        assert not colors[UNLABELLED].any() and colors[: len(names)].any(axis=1).all()
        assert np.array_equal(colors, palette(names))
