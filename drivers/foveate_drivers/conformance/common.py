"""What all families promise: opening, closing, settings. Each family's suite takes these in."""

from __future__ import annotations

import math
from functools import partial

from foveate.errors import FoveateError, NotSupported, OutOfRange, StateError
from foveate_drivers.adjustable import Adjustable, Capability
from foveate_drivers.conformance.suite import Bench, Skipped, expect, expect_error


def _numbers(device: Adjustable) -> list[Capability]:
    return [c for c in device.capabilities().values() if c.writable and c.lo is not None and c.hi is not None]


def check_says_who_it_is(bench: Bench[Adjustable]) -> None:
    """`info` gives the URI and whether it is simulated, open or not."""
    device = bench.make()
    expect(device.info().uri == device.uri, f"info().uri is {device.info().uri!r}, the device's URI {device.uri!r}")
    with bench.open() as device:
        expect(device.info().uri == device.uri, "info() of the open device names another URI")
        expect(device.info().vendor or device.info().model, "an open device names neither vendor nor model")


def check_making_it_touches_nothing(bench: Bench[Adjustable]) -> None:
    """Two can be constructed at once: only `open` takes hold of the hardware."""
    bench.make()
    bench.make()
    bench.open().close()


def check_closes_twice(bench: Bench[Adjustable]) -> None:
    """`close` may be called twice, and on a device that was never opened."""
    bench.make().close()
    device = bench.open()
    device.close()
    device.close()


def check_opens_again_after_close(bench: Bench[Adjustable]) -> None:
    """A closed device lets go of the hardware: it can be opened again, by the same object and by another."""
    device = bench.open()
    device.close()
    device.open(bench.clock)
    device.close()
    bench.open().close()


def check_health_is_ok_when_open(bench: Bench[Adjustable]) -> None:
    """A freshly opened device is in good health, and its counters are not negative."""
    with bench.open() as device:
        health = device.health()
        expect(health.state == "ok", f"health is {health.state}: {health.detail}")
        expect(all(count >= 0 for count in health.counters.values()), f"counters {dict(health.counters)}")


def check_capabilities_are_whole(bench: Bench[Adjustable]) -> None:
    """Every setting is under its own name, with bounds in order and a positive step."""
    with bench.open() as device:
        for name, item in device.capabilities().items():
            expect(name == item.name, f"setting {name!r} calls itself {item.name!r}")
            if item.lo is not None and item.hi is not None:
                expect(item.lo <= item.hi, f"{name}: bounds {item.lo} to {item.hi}")
            expect(item.step is None or item.step > 0, f"{name}: step {item.step}")


def check_every_setting_can_be_read(bench: Bench[Adjustable]) -> None:
    """`get` gives a value for every setting, of its choices or within its bounds."""
    with bench.open() as device:
        for name, item in device.capabilities().items():
            value = device.get(name)
            if item.choices:
                expect(value in item.choices, f"{name} is {value!r}, its choices are {item.choices}")
            elif item.lo is not None and item.hi is not None and not isinstance(value, str):
                slack = 1e-6 * max(abs(item.lo), abs(item.hi), 1e-9)
                expect(item.lo - slack <= value <= item.hi + slack, f"{name} is {value}, bounds {item.lo} to {item.hi}")


def check_set_returns_what_was_read_back(bench: Bench[Adjustable]) -> None:
    """`set` to a value within bounds gives what the device then has: `get` says the same."""
    with bench.open() as device:
        numbers = _numbers(device)
        if not numbers:
            raise Skipped("it has no number to set")
        for item in numbers:
            before = device.get(item.name)
            got = device.set(item.name, before)
            again = device.get(item.name)
            expect(got == again, f"set {item.name} returned {got}, get {again}")
            step = item.step or 0.01 * max(abs(float(before)), 1e-9)
            expect(abs(float(got) - float(before)) <= step, f"{item.name} was {before}, set to that it became {got}")


def check_out_of_range_is_refused(bench: Bench[Adjustable]) -> None:
    """A value beyond the bounds raises OutOfRange with the bounds, and the setting stays as it was."""
    with bench.open() as device:
        numbers = [c for c in _numbers(device) if math.isfinite(c.hi or math.inf)]
        if not numbers:
            raise Skipped("it has no number to set")
        for item in numbers:
            assert item.lo is not None and item.hi is not None
            before = device.get(item.name)
            for bad in (item.hi + max(1.0, abs(item.hi)), 1e308, item.lo - max(1.0, abs(item.lo))):
                error = expect_error(OutOfRange, partial(device.set, item.name, bad), f"set {item.name} to {bad:g}")
                assert isinstance(error, OutOfRange)
                expect(
                    (error.lo, error.hi) == (item.lo, item.hi), f"{item.name}: the error's bounds are not the setting's"
                )
            expect(device.get(item.name) == before, f"{item.name} changed although the value was refused")


def check_nan_and_infinity_are_refused(bench: Bench[Adjustable]) -> None:
    """NaN and infinity are out of every range."""
    with bench.open() as device:
        numbers = _numbers(device)
        if not numbers:
            raise Skipped("it has no number to set")
        for item in numbers:
            for bad in (math.nan, math.inf, -math.inf):
                expect_error(OutOfRange, partial(device.set, item.name, bad), f"set {item.name} to {bad}")


def check_unknown_settings_are_named(bench: Bench[Adjustable]) -> None:
    """A setting it does not have raises NotSupported that names it, for `get` and `set`."""
    with bench.open() as device:
        for act in (lambda: device.get("no_such_setting"), lambda: device.set("no_such_setting", 1)):
            error = expect_error(NotSupported, act, "an unknown setting")
            expect("no_such_setting" in str(error), f"the error does not name the setting: {error}")


def check_wrong_choices_are_refused(bench: Bench[Adjustable]) -> None:
    """A name that is not among the choices raises NotSupported that lists them."""
    with bench.open() as device:
        named = [c for c in device.capabilities().values() if c.choices and c.writable]
        if not named:
            raise Skipped("it has no setting with choices")
        for item in named:
            if not item.live:
                continue
            error = expect_error(NotSupported, partial(device.set, item.name, "nonsense"), f"set {item.name}")
            expect(item.choices[0] in str(error), f"the error does not list the choices: {error}")


def check_read_only_settings_stay(bench: Bench[Adjustable]) -> None:
    """A setting that can only be read refuses to be set."""
    with bench.open() as device:
        fixed = [c for c in device.capabilities().values() if not c.writable]
        if not fixed:
            raise Skipped("all its settings can be set")
        for item in fixed:
            value = device.get(item.name)
            expect_error(FoveateError, partial(device.set, item.name, value), f"set {item.name}")


def check_settings_need_an_open_device(bench: Bench[Adjustable]) -> None:
    """Once closed, reading a setting of the device raises StateError."""
    with bench.open() as device:
        names = list(device.capabilities())
    if not names:
        raise Skipped("it has no settings")
    expect_error(StateError, lambda: device.get(names[0]), f"get {names[0]} of a closed device")
