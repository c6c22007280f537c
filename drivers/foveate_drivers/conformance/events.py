"""What every event camera must do."""

from __future__ import annotations

import itertools

import numpy as np

from foveate.clock import LiveClock, process_ns
from foveate.errors import EndOfStream, Timeout
from foveate.messages import Events
from foveate_drivers.conformance import streams
from foveate_drivers.conformance.streams import take
from foveate_drivers.conformance.suite import Bench, Skipped, expect
from foveate_drivers.events.base import EventCamera

_ARRAYS = {"t_ns": np.int64, "x": np.uint16, "y": np.uint16, "polarity": np.uint8}

_TRIES = 5  # of what a pause of the computer can spoil

INCLUDES = (streams,)  # whose checks are made as well


def _copies(events: Events) -> list[np.ndarray]:
    return [getattr(events, name).copy() for name in _ARRAYS]


def _same(events: Events, copies: list[np.ndarray]) -> bool:
    return all(np.array_equal(getattr(events, name), copy) for name, copy in zip(_ARRAYS, copies, strict=True))


def _ends(events: Events) -> tuple[int, int]:
    begin = events.stamp.t_ns - events.stamp.exposure_ns // 2
    return begin, begin + events.stamp.exposure_ns


def _steady(packets: list[Events]) -> bool:
    """Whether the packets cover intervals of one length, as a driver with a packet option makes them."""
    lengths = {packet.stamp.exposure_ns for packet in packets}
    return len(lengths) == 1 and 0 not in lengths


def check_it_gives_events(bench: Bench[EventCamera]) -> None:
    """Within twenty packets there is an event: the bench has something that changes before the camera."""
    with bench.open() as camera:
        count = sum(packet.t_ns.size for packet in take(bench, camera, 20))
    expect(count > 0, "no event in 20 packets")


def check_arrays_are_of_one_length_and_the_right_type(bench: Bench[EventCamera]) -> None:
    """Times are int64, columns and rows uint16, polarities uint8, one of each for every event."""
    with bench.open() as camera:
        for packet in take(bench, camera, 6):
            for name, dtype in _ARRAYS.items():
                array = getattr(packet, name)
                expect(array.dtype == dtype, f"{name} is {array.dtype}, not {np.dtype(dtype)}")
                expect(array.shape == packet.t_ns.shape and array.ndim == 1, f"{name} has shape {array.shape}")


def check_events_are_in_the_order_of_time(bench: Bench[EventCamera]) -> None:
    """Times never decrease, within packets and from one to the next."""
    with bench.open() as camera:
        times = [packet.t_ns for packet in take(bench, camera, 12)]
    steps = np.diff(np.concatenate(times))
    expect((steps >= 0).all(), f"time goes back by {-steps.min() if steps.size else 0} ns")


def check_events_are_within_the_sensor(bench: Bench[EventCamera]) -> None:
    """Columns and rows lie within width and height, and polarity is 0 or 1."""
    with bench.open() as camera:
        for packet in take(bench, camera, 12):
            if packet.t_ns.size:
                expect(packet.x.max() < packet.width, f"column {packet.x.max()} of {packet.width}")
                expect(packet.y.max() < packet.height, f"row {packet.y.max()} of {packet.height}")
                expect(packet.polarity.max() <= 1, f"polarity {packet.polarity.max()}")


def check_the_size_is_known_when_open(bench: Bench[EventCamera]) -> None:
    """An open camera knows its width and height, and packets say the same."""
    with bench.open() as camera:
        size = (camera.width, camera.height)
        expect(min(size) > 0, f"the size is {size}")
        for packet in take(bench, camera, 4):
            expect((packet.width, packet.height) == size, f"a packet of {packet.width} x {packet.height}, not {size}")


def check_the_stamp_covers_the_packet(bench: Bench[EventCamera]) -> None:
    """Every event lies in the interval that the packet's stamp tells, and sigma is no less than 0."""
    with bench.open() as camera:
        for packet in take(bench, camera, 12):
            begin, end = _ends(packet)
            expect(packet.stamp.exposure_ns >= 0 and packet.stamp.sigma_ns >= 0, f"the stamp is {packet.stamp}")
            if packet.t_ns.size:
                first, last = int(packet.t_ns[0]), int(packet.t_ns[-1])
                expect(begin - 1 <= first and last <= end + 1, f"events {first} to {last}, stamp {begin} to {end}")


def check_times_are_not_in_the_future(bench: Bench[EventCamera]) -> None:
    """No event was seen after it was read."""
    with bench.open() as camera:
        for _ in range(8):
            for packet in take(bench, camera, 1):
                now_ns = bench.clock.now_ns()
                expect(not packet.t_ns.size or packet.t_ns[-1] <= now_ns, "an event lies in the future")


def check_no_packet_comes_twice(bench: Bench[EventCamera]) -> None:
    """Packets follow each other: none begins before the last event of the one before, none is given again."""
    with bench.open() as camera:
        packets = [packet for packet in take(bench, camera, 12) if packet.t_ns.size]
    for a, b in itertools.pairwise(packets):
        expect(b.t_ns[0] >= a.t_ns[-1], f"a packet begins {a.t_ns[-1] - b.t_ns[0]} ns before the end of the last")
        expect(not _same(b, _copies(a)), "a packet came twice")


def check_silence_is_told(bench: Bench[EventCamera]) -> None:
    """Where packets cover intervals, these touch each other: one without events gives an empty packet."""
    with bench.open() as camera:
        packets = take(bench, camera, 20)
    if not _steady(packets):
        raise Skipped("its packets are of the sender's making")
    for a, b in itertools.pairwise(packets):
        gap = _ends(b)[0] - _ends(a)[1]
        expect(abs(gap) <= 2 or _ends(a) == _ends(b), f"{gap} ns between two packets are not told of")


def check_arrays_are_read_only(bench: Bench[EventCamera]) -> None:
    """Nobody can write into events that others hold too."""
    with bench.open() as camera:
        for packet in take(bench, camera, 3):
            for name in _ARRAYS:
                expect(not getattr(packet, name).flags.writeable, f"{name} can be written to")


def check_events_stay_as_they_were(bench: Bench[EventCamera]) -> None:
    """A packet that is held stays as it was while twenty more are read, and after the camera is closed."""
    with bench.open() as camera:
        first = next((p for p in take(bench, camera, 10) if p.t_ns.size), None)
        if first is None:
            raise Skipped("no event in ten packets")
        copies = _copies(first)
        try:
            take(bench, camera, 20)
        except EndOfStream:
            pass
        expect(_same(first, copies), "events changed while they were held")
    expect(_same(first, copies), "events changed when the camera was closed")


def check_many_packets_can_be_held(bench: Bench[EventCamera]) -> None:
    """Who holds eight packets still gets new ones, and all eight stay as they were."""
    with bench.open() as camera:
        held = take(bench, camera, 8)
        copies = [_copies(packet) for packet in held]
        try:
            take(bench, camera, 2)
        except EndOfStream:
            pass
        expect(all(_same(p, c) for p, c in zip(held, copies, strict=True)), "a packet that was held changed")


def check_losses_are_counted_forward(bench: Bench[EventCamera]) -> None:
    """`lost_before` and `epoch` are no less than 0, and the epoch never falls."""
    with bench.open() as camera:
        packets = take(bench, camera, 12)
    expect(all(packet.lost_before >= 0 for packet in packets), "a negative number of lost events")
    epochs = [packet.epoch for packet in packets]
    expect(epochs == sorted(epochs) and epochs[0] >= 0, f"epochs {epochs}")


def check_counters_balance(bench: Bench[EventCamera]) -> None:
    """Where it counts, events received are no fewer than those read, and lost ones no fewer than told."""
    with bench.open() as camera:
        packets = take(bench, camera, 8)
        counters = camera.health().counters
    if "received" not in counters:
        raise Skipped("it does not count events")
    read = sum(packet.t_ns.size for packet in packets)
    expect(counters["received"] >= read, f"received {counters['received']}, read {read}")
    told = sum(packet.lost_before for packet in packets)
    if "lost" in counters:
        expect(counters["lost"] >= told, f"lost {counters['lost']}, told {told}")


def check_timeouts_are_kept(bench: Bench[EventCamera]) -> None:
    """`read` before a packet is due ends with Timeout, within 20 % (and 50 ms) of the time given."""
    with bench.open() as camera:
        take(bench, camera, 1)
        for _ in range(_TRIES):
            due_ns = camera.due_ns()
            if due_ns is None:
                raise Skipped("when its next packet comes is not known")
            wait_s = 0.4 * (due_ns - bench.clock.now_ns()) / 1e9
            if wait_s <= 0:
                raise Skipped("its next packet is due already")
            begun = process_ns()
            try:
                camera.read(wait_s)
            except Timeout as error:
                expect("\n" not in str(error), f"a timeout is not one line: {error}")
                break
            early = f"a read of {wait_s:.4f} s before the packet is due raised nothing, not Timeout"
            expect(bench.clock.now_ns() >= due_ns, early)  # or the computer paused until it was due: try the next
        else:
            expect(False, f"{early}, {_TRIES} times")
        took_s = (process_ns() - begun) / 1e9
    if isinstance(bench.clock, LiveClock):
        expect(0.8 * wait_s <= took_s <= 1.2 * wait_s + 0.05, f"a timeout of {wait_s:.3f} s took {took_s:.3f} s")


def check_a_slow_reader_is_told_what_it_lost(bench: Bench[EventCamera]) -> None:
    """After a pause of a hundred packets what comes is in order; an interval left out is told in `lost_before`."""
    with bench.open() as camera:
        before = take(bench, camera, 4)
        if bench.finite:
            raise Skipped("a file waits for its reader")
        span_s = max(before[-1].stamp.exposure_ns / 1e9, 0.001)
        bench.pass_time(min(100 * span_s, 2.0))
        packets = [before[-1], *take(bench, camera, 8)]
    times = np.concatenate([packet.t_ns for packet in packets])
    expect((np.diff(times) >= 0).all(), "time goes back after a pause")
    if not _steady([*before, *packets]):
        return
    for a, b in itertools.pairwise(packets):
        if _ends(b)[0] - _ends(a)[1] > 2:
            expect(b.lost_before > 0, "intervals were left out, and no event of them is told to be lost")


def check_a_limited_rate_is_kept(bench: Bench[EventCamera]) -> None:
    """At the lowest `rate_limit` no more events come than it allows, and what is left out is told."""
    with bench.open() as camera:
        item = camera.capabilities().get("rate_limit")
        if item is None or not item.writable or item.lo is None:
            raise Skipped("its rate cannot be limited")
        take(bench, camera, 2)
        before = camera.get("rate_limit")
        limit = float(camera.set("rate_limit", item.lo))
        packets = take(bench, camera, 12)[2:]
        camera.set("rate_limit", before)
    span_s = (_ends(packets[-1])[1] - _ends(packets[0])[0]) / 1e9
    count = sum(packet.t_ns.size for packet in packets)
    expect(count <= 1.1 * limit * span_s + 10, f"{count} events in {span_s:.3f} s at a limit of {limit:g} a second")


def check_a_file_says_the_same_twice(bench: Bench[EventCamera]) -> None:
    """A file that is opened again gives the same events, at the same times after its opening."""
    if not bench.finite:
        raise Skipped("a camera sees something else each time")
    seen = []
    for _ in range(2):
        with bench.open() as camera:
            packets = take(bench, camera, 8)
        origin = packets[0].t_ns[0] if packets[0].t_ns.size else 0
        columns = (np.concatenate([getattr(packet, name) for packet in packets]) for name in _ARRAYS)
        seen.append([column - origin if number == 0 else column for number, column in enumerate(columns)])
    expect(all(np.array_equal(a, b) for a, b in zip(*seen, strict=True)), "the second time it gave other events")
