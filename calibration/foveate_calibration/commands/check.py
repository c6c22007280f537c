"""`foveate calibrate check` and `seal`."""

from __future__ import annotations

import argparse
from pathlib import Path

from foveate_calibration import arguments
from foveate_calibration.document import MODELS, Calibration
from foveate_calibration.report import numbers


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Their arguments."""
    parser = arguments.action(actions, "check", "what a calibration holds, and whether it is as it was written")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.set_defaults(run=run, needs_vision=False)
    parser = arguments.action(actions, "seal", "a new checksum, after an edit on purpose")
    parser.add_argument("file", type=Path, metavar="FILE")
    parser.set_defaults(run=seal, needs_vision=False)


def run(options: argparse.Namespace) -> int:
    """Print it."""
    calibration = Calibration.load(options.file)
    for name, text in calibration.origin.items():
        print(f"{name:<18} {text}")
    for name, model in calibration.models.items():
        kind = next(key for key, cls in MODELS.items() if type(model) is cls)
        print(f"\n{name} ({kind})")
        for key, value in numbers(model.plain()):
            sigma = calibration.sigmas.get(f"{name}.{key}")
            print(f"  {key:<24} {value:>14.8g}" + ("" if sigma is None else f"  sigma {sigma:.3g}"))
    print("\nresiduals")
    for name, values in calibration.residuals.items():
        print(f"  {name:<24} " + ", ".join(f"{key} {value:.4g}" for key, value in values.items()))
    shown = {f"{name}.{key}" for name, model in calibration.models.items() for key, _ in numbers(model.plain())}
    others = {name: sigma for name, sigma in calibration.sigmas.items() if name not in shown}
    if others:
        print("\nstandard deviations of steps")
        for name, sigma in others.items():
            print(f"  {name:<36} {sigma:.3g}")
    print("\nweak directions" + ("" if calibration.weak else ": none"))
    for line in calibration.weak:
        print(f"  {line}")
    print("\nthe checksum is right")
    return 0


def seal(options: argparse.Namespace) -> int:
    """Write it again with the checksum of what it holds."""
    Calibration.load(options.file, check=False).save(options.file)
    print(f"{options.file}: sealed")
    return 0
