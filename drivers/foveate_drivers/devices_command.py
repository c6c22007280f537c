"""`foveate devices`: what is connected or emulated, what it can do, and whether it keeps its family's promises."""

from __future__ import annotations

import argparse
import json
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from foveate import catalog
from foveate.clock import LiveClock
from foveate.device import Device, DeviceInfo
from foveate.errors import FoveateError
from foveate.messages import Events, Frame, LaserState, Message, MirrorState
from foveate_drivers.adjustable import Adjustable
from foveate_drivers.cameras.base import Camera
from foveate_drivers.conformance.suite import Bench, Outcome, run
from foveate_drivers.depth.base import DepthCamera
from foveate_drivers.emulators.running import running
from foveate_drivers.events.base import EventCamera
from foveate_drivers.lasers.base import LineLaser
from foveate_drivers.mirrors.base import Mirror
from foveate_drivers.rigs import device_of, family_of, load_devices
from foveate_drivers.screens.base import Screen

_FAMILIES: dict[str, type[Adjustable]] = {
    "camera": Camera, "depth": DepthCamera, "events": EventCamera, "mirror": Mirror, "laser": LineLaser,
    "screen": Screen,
}  # fmt: skip
_SUITES = {
    "camera": "cameras", "depth": "depth", "events": "events", "mirror": "mirrors", "laser": "lasers",
    "screen": "screens",
}  # fmt: skip
_EXAMPLES = """examples:
  foveate devices                                 everything found, with settings and a test grab
  foveate devices list --quick                    only names; nothing is opened
  foveate devices show gige:127.0.0.1 --save grab.png
  foveate devices test mre2:/dev/ttyACM0          the conformance suite on your own device
  foveate devices test sim:x --family mirror --set limit=0.2
  foveate devices test --rig launch/rigs/sim_procedural.yaml search
"""


def main(arguments: list[str]) -> int:
    """Do an action; returns its exit code."""
    options = _parser().parse_args(arguments or ["list"])
    actions = {"list": _list, "show": _show, "test": _test}
    try:
        return actions[options.action](options)
    finally:
        while _held:
            _held.pop().close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="foveate devices", formatter_class=argparse.RawDescriptionHelpFormatter, epilog=_EXAMPLES,
        description="What is connected or emulated, what it can do, and whether it keeps its family's promises.",
    )  # fmt: skip
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    found = actions.add_parser("list", help="everything found (the default)")
    found.add_argument("--family", choices=sorted(_FAMILIES), help="only these")
    found.add_argument("--quick", action="store_true", help="do not open what is found")
    found.add_argument("--json", action="store_true")
    show = actions.add_parser("show", help="one device: settings, health, a test grab")
    test = actions.add_parser("test", help="run the conformance suite of its family; exit code 1 if a check fails")
    for action in (show, test):
        action.add_argument("device", metavar="URI", help="such as gige:127.0.0.1; with --rig a name in the rig")
        action.add_argument("--family", choices=sorted(_FAMILIES), help="where the URI may be several")
        action.add_argument("--rig", type=Path, metavar="FILE", help="take the device and its options from a rig file")
        action.add_argument("--set", action="append", default=[], dest="settings", metavar="OPTION=VALUE")
        action.add_argument("--json", action="store_true")
    show.add_argument("--save", type=Path, metavar="FILE.png", help="keep the grabbed image")
    test.add_argument("--cable", action="store_true", help="ask for the cable to be pulled and put back")
    test.add_argument("--report", type=Path, metavar="FILE.json", help="write the report to a file")
    return parser


def _list(options: argparse.Namespace) -> int:
    rows = []
    for family, info, note in _found(options.family):
        row: dict[str, Any] = {"uri": info.uri, "family": family, "vendor": info.vendor, "model": info.model,
                               "serial": info.serial, "note": note}  # fmt: skip
        if not options.quick:
            try:
                row |= _looked_at(_opened(device_of(info.uri, _FAMILIES[family], {})), None)
            except FoveateError as error:
                row["problem"] = str(error)
        rows.append(row)
    if options.json:
        print(json.dumps(rows, indent=2))
        return 0
    for row in rows:
        _print(row)
    if not rows:
        print("no devices found; 'foveate emulate' makes some, 'foveate list drivers' says what can be driven")
    return 0


def _found(only: str | None) -> list[tuple[str, DeviceInfo, str]]:
    """(family, what it says of itself, a note) of all that the drivers see and of the emulators that run."""
    found: list[tuple[str, DeviceInfo, str]] = []
    for key in catalog.listing("drivers"):
        family = key.split(".", 1)[0]
        if family not in _FAMILIES or only not in (None, family):
            continue
        try:
            probe = getattr(catalog.load("drivers", key), "probe", None)
            found += [(family, info, "") for info in (probe() if probe else [])]
        except FoveateError:
            continue  # a driver whose library is not installed sees nothing
    known = {info.uri for _, info, _ in found}
    for note in running():
        if note.uri not in known and only in (None, note.family) and note.family in _FAMILIES:
            found.append((note.family, DeviceInfo(note.uri), f"emulated by process {note.pid}"))
    return found


def _device(options: argparse.Namespace) -> tuple[str, Device]:
    """The family and the device that the command line names."""
    if options.rig is None:
        family = family_of(options.device, options.family or "")
        pairs = dict(text.partition("=")[::2] for text in options.settings)
        return family, device_of(options.device, _FAMILIES[family], pairs)
    settings = [f"rig.{options.device}.{text}" for text in options.settings]
    problems = []
    for family in [options.family] if options.family else _FAMILIES:
        try:
            devices = load_devices(options.rig, {options.device: _FAMILIES[family]}, settings)
            for name, device in devices.items():
                if name != options.device:  # what it looks through or at stays open for all checks
                    _held.append(_opened(device))
            return family, devices[options.device]
        except FoveateError as error:
            problems.append(error)
    raise problems[0]


_clock = LiveClock()
_held: list[Device] = []  # devices of a rig that the one in question needs


def _opened(device: Device) -> Device:
    if not _clock.started:
        _clock.start()
    device.open(_clock)
    return device


def _show(options: argparse.Namespace) -> int:
    _, device = _device(options)
    row = {"uri": device.uri, **_looked_at(_opened(device), options.save)}
    if options.json:
        print(json.dumps(row, indent=2))
    else:
        _print(row)
    return 0


def _looked_at(device: Device, save: Path | None) -> dict[str, Any]:
    """Identity, settings, health and one grab of an open device; closes it."""
    assert isinstance(device, Adjustable)
    with device:
        settings: dict[str, Any] = {}
        for name, item in device.capabilities().items():
            try:
                settings[name] = {"value": device.get(name), "range": str(item)}
            except FoveateError as error:
                settings[name] = {"value": None, "range": str(error)}
        info = device.info()
        try:
            grab = _grabbed(device, save)
        except FoveateError as error:
            grab = f"no test grab: {error}"
        health = device.health()
    return {
        "vendor": info.vendor, "model": info.model, "serial": info.serial, "simulated": info.simulated,
        "settings": settings, "grab": grab, "health": health.state,
    }  # fmt: skip


def _grabbed(device: Adjustable, save: Path | None) -> str:
    """What one reading gave, in words."""
    message: Message
    if isinstance(device, Mirror):
        message = device.position()
    elif isinstance(device, LineLaser):
        message = device.state()
    elif isinstance(device, Camera | EventCamera):
        message = device.read(3.0)
    elif isinstance(device, DepthCamera):
        message = device.read(3.0)[0]
    else:
        return ""
    if isinstance(message, Frame):
        image = message.image
        if save is not None:
            catalog.optional("cv2", device.uri, "vision").imwrite(str(save), image)
        size = f"{image.shape[1]} x {image.shape[0]} {message.encoding}"
        return f"{size}, frame {message.seq}, grey {image.mean():.0f} ({image.min()} to {image.max()})"
    if isinstance(message, Events):
        return f"{len(message.t_ns)} events of {message.width} x {message.height} pixels"
    if isinstance(message, MirrorState):
        return f"angle {(np.round(message.angle_rad, 5) + 0.0).tolist()} rad ({message.source})"
    if isinstance(message, LaserState):
        return f"{'emitting' if message.emitting else 'dark'}{f', {message.interlock}' if message.interlock else ''}"
    return type(message).__name__


def _print(row: dict[str, Any]) -> None:
    name = " ".join(part for part in (row.get("vendor"), row.get("model"), row.get("serial")) if part)
    marks = [mark for mark in ("simulated" if row.get("simulated") else "", row.get("note", "")) if mark]
    print(f"{row['uri']}  {name}{f'  ({chr(44).join(marks)})' if marks else ''}")
    if "problem" in row:
        print(f"    {row['problem']}")
    for setting, item in row.get("settings", {}).items():
        value = f"{item['value']:g}" if isinstance(item["value"], float) else item["value"]
        print(f"    {setting:<14} {value!s:<12} {item['range']}")
    if row.get("grab"):
        print(f"    test grab      {row['grab']}; health {row['health']}")


def _test(options: argparse.Namespace) -> int:
    family, device = _device(options)
    assert isinstance(device, Adjustable)
    if not _clock.started:
        _clock.start()
    finite = device.uri.partition(":")[0] in ("file", "images", "log", "evt")
    bench: Bench[Any] = Bench(lambda: _again(options, device), _clock, finite=finite)
    if options.cable:
        bench.unplug, bench.replug = (lambda: _ask("Pull the cable"), lambda: _ask("Put the cable back"))
    suite = import_module(f"foveate_drivers.conformance.{_SUITES[family]}")
    outcomes = []
    for outcome in run(suite, bench):
        outcomes.append(outcome)
        if not options.json:
            _print_outcome(outcome)
    return _told(options, device.uri, outcomes)


def _again(options: argparse.Namespace, device: Device) -> Device:
    """The device constructed anew; one of a rig is used again, for others hold it."""
    return device if options.rig is not None else _device(options)[1]


def _ask(what: str) -> None:
    input(f"{what}, then press Enter: ")


def _print_outcome(outcome: Outcome) -> None:
    mark = {"passed": "pass", "failed": "FAIL", "skipped": "skip"}[outcome.verdict]
    print(f"{mark}  {outcome.promise}", flush=True)
    if outcome.why:
        print(f"      {outcome.why}")


def _told(options: argparse.Namespace, uri: str, outcomes: list[Outcome]) -> int:
    count = {kind: sum(o.verdict == kind for o in outcomes) for kind in ("passed", "failed", "skipped")}
    report = {
        "uri": uri, **count,
        "checks": [
            {"name": o.name, "promise": o.promise, "verdict": o.verdict, "why": o.why, "ms": round(o.took_ns / 1e6, 1)}
            for o in outcomes
        ],
    }  # fmt: skip
    if options.json:
        print(json.dumps(report, indent=2))
    else:
        print(f"{uri}: {count['passed']} passed, {count['failed']} failed, {count['skipped']} could not be made")
    if options.report is not None:
        options.report.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if count["failed"] else 0
