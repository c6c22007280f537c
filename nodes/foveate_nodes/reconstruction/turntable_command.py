"""`foveate turntable FILES`: a lens and a laser's plane as other programs keep them, made a calibration file."""

from __future__ import annotations

import argparse
import hashlib
import warnings
from pathlib import Path

import numpy as np

from foveate import yaml_source
from foveate.errors import GraphError
from foveate_calibration.document import Calibration
from foveate_calibration.errors import CalibrationError
from foveate_calibration.lens import Lens
from foveate_calibration.steered_laser import LaserPlane, unit_plane

_AXES = {"x": (0, 1), "-x": (0, -1), "y": (1, 1), "-y": (1, -1), "z": (2, 1), "-z": (2, -1)}


def main(arguments: list[str]) -> int:
    """Write a calibration of a fixed camera and a fixed laser, and print where it is."""
    parser = argparse.ArgumentParser(
        prog="foveate turntable", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Make a calibration file of a lens (YAML: camera_matrix, dist_coeff) and a laser's plane (.npy:\n"
        "a, b, c, d with a x + b y + c z + d = 0, metres), for the graph 'turntable'.",
        epilog="examples:\n"
        "  foveate turntable --lens calibration4.yaml --plane LaserPlane4.npy --size 640x480 \\\n"
        "      --axes x,-y,-z --output bench.yaml\n"
        "  foveate run turntable --data . --set images=$PWD/DataOffline --set calibration=$PWD/bench.yaml",
    )  # fmt: skip
    parser.add_argument("--lens", type=Path, required=True, metavar="FILE.yaml")
    parser.add_argument("--plane", type=Path, required=True, metavar="FILE.npy")
    parser.add_argument("--size", required=True, metavar="WxH", help="of the images, pixels")
    parser.add_argument(
        "--axes", default="x,y,z",
        help="of the plane's frame in the camera's (x right, y down, z on); x,-y,-z: y up, z back, as OpenGL has it",
    )  # fmt: skip
    parser.add_argument("--output", type=Path, required=True, metavar="FILE.yaml")
    options = parser.parse_args(arguments)
    width, _, height = options.size.partition("x")
    axes = options.axes.split(",")
    if not (width.isdigit() and height.isdigit()):
        parser.error(f"--size {options.size}: write it as 640x480")
    if sorted(axis.strip("-") for axis in axes) != ["x", "y", "z"] or not set(axes) <= set(_AXES):
        parser.error(f"--axes {options.axes}: name each of x, y, z once, as in x,-y,-z")
    imported(options.lens, options.plane, int(width), int(height), tuple(axes)).save(options.output)
    print(options.output)
    return 0


def imported(lens: Path, plane: Path, width: int, height: int, axes: tuple[str, ...] = ("x", "y", "z")) -> Calibration:
    """A calibration with `camera` and `laser` from two files. Raises CalibrationError."""
    try:
        plain = yaml_source.read_text(lens.read_text(encoding="utf-8"), str(lens)).plain()
        matrix = np.array(plain["camera_matrix"], np.float64).reshape(3, 3)
        distortion = np.array(plain.get("dist_coeff", []), np.float64).ravel()
        if len(distortion) > 14:
            raise ValueError(f"{len(distortion)} coefficients of distortion; at most 14 are known")
    except (OSError, GraphError, KeyError, TypeError, ValueError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{lens}: no lens (camera_matrix 3 x 3, dist_coeff): {_line(error)}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # numpy warns of files that Python 2 wrote; the numbers are the same
            sheet = np.array(np.load(plane), np.float64).reshape(4)
        there = np.zeros((3, 3))
        for row, axis in enumerate(axes):
            column, sign = _AXES[axis]
            there[column, row] = sign
        found = unit_plane(np.append(there @ sheet[:3], -sheet[3]))
    except (OSError, ValueError) as error:
        raise CalibrationError(f"{plane}: no plane (four numbers a, b, c, d): {_line(error)}") from None
    origin = {"procedure": "import", "axes": ",".join(axes)}
    origin |= {path.name: "sha256:" + _sha256(path) for path in (lens, plane)}
    return Calibration(
        {"camera": Lens.from_matrix(matrix, distortion, width, height), "laser": LaserPlane(found)}, origin=origin
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _line(error: BaseException) -> str:
    return str(error).splitlines()[0][:200] if str(error) else type(error).__name__
