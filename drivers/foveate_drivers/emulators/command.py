"""`foveate emulate`: devices on real wires with no hardware, one alone or a whole simulated rig."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from foveate import catalog
from foveate.catalog import did_you_mean
from foveate.clock import LiveClock, process_ns
from foveate.device import Device
from foveate.errors import FoveateError
from foveate.node import parameters_of
from foveate.quantity import parse_duration_ns
from foveate_drivers.cameras.base import Camera
from foveate_drivers.emulators.base import Emulator
from foveate_drivers.emulators.faults import FaultPlan
from foveate_drivers.emulators.running import Note, announced
from foveate_drivers.events.base import EventCamera
from foveate_drivers.lasers.base import LineLaser
from foveate_drivers.mirrors.base import Mirror
from foveate_drivers.rigs import load_devices

_FAMILIES: dict[str, type[Device]] = {"camera": Camera, "mirror": Mirror, "events": EventCamera, "laser": LineLaser}
_EXAMPLES = """examples:
  foveate emulate mre2 --link /tmp/mre2           a mirror: use mre2:/tmp/mre2 in a rig
  foveate emulate gige address=127.0.0.2          a GigE Vision camera with a test pattern
  foveate emulate mre2 --fault garbage=0.3 --fault delay=20ms --fault unplug=5s --fault replug=2s
  foveate emulate launch/rigs/sim_procedural.yaml mirror=mre2,link=/tmp/foveate-mre2 \\
      search=gige,address=127.0.0.1 wide=gige,address=127.0.0.2
                                                  a whole rig: its twins see and move behind real wires
  foveate run wide_area --rig emulated            then this, elsewhere; docs/hardware.md says more
"""


def main(arguments: list[str]) -> int:
    """Serve until Ctrl-C, SIGTERM or --duration; returns the exit code."""
    options = _parser().parse_args(arguments)
    duration_ns = None if options.duration is None else _duration(options.duration)
    faults = FaultPlan.parse(options.fault)
    known = catalog.listing("emulators")
    if options.what in known:
        link = {} if options.link is None else {"link": str(options.link)}
        emulators = [_emulator(options.what, {**link, **_pairs(options.parts)}, None, faults)]
        devices: list[Device] = []
    elif Path(options.what).is_file():
        emulators, devices = _rig(Path(options.what), options.parts, options.settings, faults)
    else:
        hint = did_you_mean(options.what, known)
        raise FoveateError(f"'{options.what}' is neither an emulator nor a rig file{hint}")
    return _serve(emulators, devices, duration_ns, options.json)


def _parser() -> argparse.ArgumentParser:
    kinds = ", ".join(sorted(catalog.listing("emulators")))
    parser = argparse.ArgumentParser(
        prog="foveate emulate", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EXAMPLES,
        description="Emulate devices on their real wires (pty, TCP, UDP on loopback), with the twins' physics behind\n"
        f"them, so that drivers and rigs can be tried with no hardware. Emulators: {kinds}.",
    )  # fmt: skip
    parser.add_argument("what", metavar="EMULATOR | RIG.yaml", help="one emulator, or a rig of twins to serve from")
    parser.add_argument(
        "parts", nargs="*", metavar="NAME=VALUE",
        help="of an emulator: its options; of a rig: DEVICE=EMULATOR[,OPTION=VALUE...]",
    )  # fmt: skip
    parser.add_argument(
        "--fault", action="append", default=[], metavar="NAME=VALUE",
        help="what goes wrong: drop, delay, garbage, nak (0 to 1); delay_s, unplug, replug, clock_jump_at, clock_jump, "
        "underrun (times such as 20ms); first_id, temperature_c, seed",
    )  # fmt: skip
    parser.add_argument("--link", type=Path, metavar="PATH", help="a link to the pty, so that its name is known before")
    parser.add_argument("--set", action="append", default=[], dest="settings", metavar="rig.DEVICE.OPTION=VALUE")
    parser.add_argument("--duration", metavar="TIME", help="stop after this long, such as 20s")
    parser.add_argument("--json", action="store_true", help="print the URIs and, at the end, the counters as JSON")
    return parser


def _duration(text: str) -> int:
    try:
        return parse_duration_ns(text)
    except ValueError as error:
        raise FoveateError(f"--duration: {error}") from None


def _pairs(parts: Sequence[str]) -> dict[str, str]:
    pairs = {}
    for part in parts:
        name, equals, value = part.partition("=")
        if not equals:
            raise FoveateError(f"'{part}': write it as NAME=VALUE")
        pairs[name] = value
    return pairs


def _emulator(kind: str, options: dict[str, str], twin: Device | None, faults: FaultPlan) -> Emulator:
    """The emulator, constructed; options are held against its constructor."""
    from pydantic import TypeAdapter, ValidationError

    cls: type[Emulator] = catalog.load("emulators", kind)
    schema = parameters_of(cls)  # type: ignore[arg-type]
    values: dict[str, Any] = {"faults": replace(faults)} if "faults" in schema else {}  # each notes what has happened
    for name, text in options.items():
        plain = {key for key in schema if key not in ("faults", cls.twin)}
        if name not in plain:
            raise FoveateError(f"the emulator '{kind}' has no option '{name}'{did_you_mean(name, plain)}")
        try:
            values[name] = TypeAdapter(schema[name].annotation).validate_python(text)
        except ValidationError as error:
            reason = error.errors(include_url=False, include_input=False)[0]["msg"]
            raise FoveateError(f"the emulator '{kind}': option {name} = {text!r}: {reason.lower()}") from None
    if twin is not None:
        values[cls.twin] = twin
    return cls(**values)


def _rig(
    rig: Path, parts: Sequence[str], settings: list[str], faults: FaultPlan
) -> tuple[list[Emulator], list[Device]]:
    """Emulators for devices of a rig, and all devices behind them in the order to open them."""
    chosen = {}
    for name, text in _pairs(parts).items():
        kind, *rest = text.split(",")
        if kind not in catalog.listing("emulators"):
            raise FoveateError(f"no emulator '{kind}' for '{name}'{did_you_mean(kind, catalog.listing('emulators'))}")
        named = {"serial": name} if "serial" in parameters_of(catalog.load("emulators", kind)) else {}
        chosen[name] = kind, {**named, **_pairs(rest)}
    if not chosen:
        raise FoveateError(f"{rig}: say which devices to serve, such as mirror=mre2 search=gige")
    families = {name: _FAMILIES[catalog.load("emulators", kind).twin] for name, (kind, _) in chosen.items()}
    devices = load_devices(rig, families, settings)
    emulators = [_emulator(kind, options, devices[name], faults) for name, (kind, options) in chosen.items()]
    return emulators, list(devices.values())


def _serve(emulators: list[Emulator], devices: list[Device], duration_ns: int | None, as_json: bool) -> int:
    clock, stop = LiveClock(), threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    clock.start()
    started: list[Emulator] = []
    opened: list[Device] = []
    try:
        for device in devices:
            device.open(clock)
            opened.append(device)
        for emulator in emulators:
            emulator.clock = clock
            emulator.start()
            started.append(emulator)
        with announced([Note(os.getpid(), type(e).__name__, e.twin, e.uri) for e in started]):
            _say({"emulators": [e.uri for e in started]}, as_json, "ready: " + "  ".join(e.uri for e in started))
            until = None if duration_ns is None else process_ns() + duration_ns
            while not stop.wait(0.1) and (until is None or process_ns() < until):
                pass
    finally:
        for emulator in reversed(started):
            emulator.stop()
        for device in reversed(opened):
            device.close()
    for emulator in started:
        counts = emulator.counters()
        _say({"uri": emulator.uri, "counters": counts}, as_json,
             f"{emulator.uri}: " + (", ".join(f"{n} {v}" for n, v in counts.items()) or "nothing"))  # fmt: skip
    return 0


def _say(thing: dict[str, Any], as_json: bool, text: str) -> None:
    print(json.dumps(thing) if as_json else text, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
