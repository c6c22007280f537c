"""Conformance: what every device of a family must do, as checks that run on twins, emulators and real hardware.

A check is a function whose one argument is a bench; its docstring is what it holds. It raises `Failed` where
the device does not do it and `Skipped` where the bench cannot find out. `foveate devices test URI` and the tests
run the same checks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Generic, Literal, TypeVar

from foveate.clock import Clock, LiveClock, VirtualClock, process_ns
from foveate.device import Device
from foveate.errors import FoveateError

D = TypeVar("D", bound=Device)


class Failed(Exception):
    """The device does not do what its family promises."""


class Skipped(Exception):
    """The check cannot be made on this device; says why."""


@dataclass
class Bench(Generic[D]):
    """A device on the bench: how to make it anew, and what the tester can do to it."""

    make: Callable[[], D]  # constructed, not open, with its URI
    clock: Clock = field(default_factory=VirtualClock)
    unplug: Callable[[], None] | None = None  # pulls the cable; None where the tester cannot
    replug: Callable[[], None] | None = None
    patience_s: float = 2.0  # how long a live device may take to give its next data
    finite: bool = False  # a file: ends by itself

    def open(self) -> D:
        """A new open device; the clock runs."""
        device = self.make()
        if isinstance(self.clock, LiveClock) and not self.clock.started:
            self.clock.start()
        device.open(self.clock)
        return device

    def wait(self, device: Device) -> None:
        """Let time pass until the device's next data are due, where it knows."""
        due_ns = device.due_ns()
        if due_ns is not None:
            self.clock.wait_until(due_ns, threading.Event())

    def pass_time(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.wait_until(self.clock.now_ns() + round(seconds * 1e9), threading.Event())


Check = Callable[[Bench], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one check found."""

    name: str
    promise: str
    verdict: Literal["passed", "failed", "skipped"]
    why: str
    took_ns: int


def checks(suite: ModuleType) -> list[Check]:
    """The checks of a family: those of every device, of the modules it `INCLUDES`, and its own, in their order."""
    from foveate_drivers.conformance import common

    parts = (common, *getattr(suite, "INCLUDES", ()), suite)
    return [item for part in parts for name, item in vars(part).items() if name.startswith("check_")]


def run(suite: ModuleType, bench: Bench) -> Iterator[Outcome]:
    """Make every check of a family on a bench; one that fails does not keep the others from being made."""
    for check in checks(suite):
        begun = process_ns()
        verdict: Literal["passed", "failed", "skipped"] = "passed"
        why = ""
        try:
            check(bench)
        except Skipped as reason:
            verdict, why = "skipped", str(reason)
        except (Failed, FoveateError) as reason:
            verdict, why = "failed", " ".join(str(reason).split())
        except Exception as error:  # a driver that raises outside the tree breaks its promise too
            verdict, why = "failed", f"{type(error).__name__}: {' '.join(str(error).split())}"
        name = check.__name__.removeprefix("check_")
        yield Outcome(name, " ".join((check.__doc__ or "").split()), verdict, why, process_ns() - begun)


def expect(condition: object, why: str) -> None:
    """Raises Failed unless the condition holds."""
    if not condition:
        raise Failed(why)


def expect_error(kind: type[FoveateError], act: Callable[[], object], what: str) -> FoveateError:
    """The error of that kind which `act` raises; Failed if it raises none or another one."""
    try:
        act()
    except kind as error:
        expect("\n" not in str(error), f"{what}: the error is not one line: {error}")
        return error
    except FoveateError as error:
        raise Failed(f"{what} raised {type(error).__name__} ({error}), not {kind.__name__}") from error
    raise Failed(f"{what} raised nothing, not {kind.__name__}")
