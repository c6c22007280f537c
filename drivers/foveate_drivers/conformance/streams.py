"""What everything that is read again and again must do: cameras, depth cameras, event cameras."""

from __future__ import annotations

import threading
from typing import Any

from foveate.clock import LiveClock, process_ns
from foveate.errors import DeviceError, Disconnected, EndOfStream, StateError, Timeout
from foveate_drivers.conformance.suite import Bench, Skipped, expect, expect_error

_LONG_S = 3.0  # after which a device has not noticed


def take(bench: Bench[Any], device: Any, count: int) -> list[Any]:
    """What the next reads give, each waited for as long as the bench allows; fewer where a file ends."""
    taken: list[Any] = []
    for _ in range(count):
        bench.wait(device)
        try:
            taken.append(device.read(bench.patience_s))
        except EndOfStream:
            if not bench.finite or not taken:
                raise
            break
    return taken


def check_reading_a_closed_device_is_an_error(bench: Bench[Any]) -> None:
    """`read` before `open` and after `close` raises StateError."""
    device = bench.make()
    expect_error(StateError, lambda: device.read(0.01), "reading before open")
    device = bench.open()
    take(bench, device, 1)
    device.close()
    expect_error(StateError, lambda: device.read(0.01), "reading after close")


def check_a_read_that_must_not_wait_does_not(bench: Bench[Any]) -> None:
    """`read` with a timeout of 0 gives what is there or raises Timeout, at once."""
    with bench.open() as device:
        take(bench, device, 2)
        begun = process_ns()
        try:
            device.read(0.0)
        except (Timeout, EndOfStream):
            pass
        took_s = (process_ns() - begun) / 1e9
    expect(took_s < 0.25, f"it took {took_s:.3f} s")


def check_starts_and_stops(bench: Bench[Any]) -> None:
    """`start` and `stop` may be called twice, and data come again after a stop."""
    with bench.open() as device:
        device.start()
        device.start()
        take(bench, device, 2)
        device.stop()
        device.stop()
        device.start()
        expect(take(bench, device, 2), "nothing came after the second start")


def check_settings_that_stop_the_stream_are_refused_while_it_runs(bench: Bench[Any]) -> None:
    """A setting that is not live raises StateError while data flow, and can be set after `stop`."""
    with bench.open() as device:
        fixed = [c for c in device.capabilities().values() if c.writable and not c.live]
        if not fixed:
            raise Skipped("all its settings are live")
        take(bench, device, 1)
        name = fixed[0].name
        value = device.get(name)
        expect_error(StateError, lambda: device.set(name, value), f"set {name} while data flow")
        device.stop()
        device.set(name, value)


def check_a_close_by_another_thread_ends_a_read(bench: Bench[Any]) -> None:
    """A device that is closed while somebody waits in `read` ends that wait, in the error tree."""
    if not isinstance(bench.clock, LiveClock):
        raise Skipped("time is simulated, and it does not wait")
    device = bench.open()
    seen: list[BaseException] = []

    def read_on() -> None:
        try:
            while True:
                try:
                    device.read(5.0)
                except Timeout:
                    pass
        except BaseException as error:
            seen.append(error)

    thread = threading.Thread(target=read_on)
    thread.start()
    bench.pass_time(0.2)
    device.close()
    thread.join(_LONG_S)
    expect(not thread.is_alive(), f"read did not return within {_LONG_S:g} s of close")
    expect(isinstance(seen[0], DeviceError | EndOfStream), f"it raised {seen[0]!r}")


def _noticed_s(bench: Bench[Any], device: Any) -> float:
    """Pull the cable and read until that is noticed; the seconds it took."""
    assert bench.unplug is not None
    bench.unplug()
    begun = process_ns()
    while True:
        try:
            device.read(0.1)
        except Timeout:
            pass
        except Disconnected:
            return (process_ns() - begun) / 1e9
        expect(process_ns() - begun < _LONG_S * 1e9, f"not noticed for {_LONG_S:g} s")


def check_a_pulled_cable_is_noticed(bench: Bench[Any]) -> None:
    """Within a second of the cable being pulled `read` raises Disconnected, after what had arrived, and again."""
    if bench.unplug is None or bench.replug is None:
        raise Skipped("the tester cannot pull the cable")
    device = bench.open()
    try:
        take(bench, device, 3)
        took_s = _noticed_s(bench, device)
        expect(took_s <= 1.0, f"noticed after {took_s:.2f} s")
        expect_error(Disconnected, lambda: device.read(0.1), "reading on")
        expect(device.health().state == "lost", f"health is {device.health().state} without the device")
    finally:
        device.close()
        bench.replug()


def check_it_works_again_when_the_cable_is_back(bench: Bench[Any]) -> None:
    """After the cable is back, closing and opening the same object gives data again."""
    if bench.unplug is None or bench.replug is None:
        raise Skipped("the tester cannot pull the cable")
    device = bench.open()
    try:
        take(bench, device, 2)
        _noticed_s(bench, device)
        device.close()
        bench.replug()
        device.open(bench.clock)
        expect(take(bench, device, 3), "nothing came after the cable was back")
    finally:
        device.close()


def check_an_ended_file_stays_ended(bench: Bench[Any]) -> None:
    """A file raises EndOfStream after its last data, again and again."""
    if not bench.finite:
        raise Skipped("a device does not end")
    with bench.open() as device:
        for _ in range(100_000):
            bench.wait(device)
            try:
                device.read(bench.patience_s)
            except EndOfStream:
                break
        for _ in range(2):
            expect_error(EndOfStream, lambda: device.read(0.01), "a read after the end")
