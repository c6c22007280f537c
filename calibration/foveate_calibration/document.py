"""A calibration as a file: models in YAML with units, what the fit left, where it came from, and a checksum.

The checksum is the SHA-256 of everything else as canonical JSON: a value changed by hand or by a bad copy is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self, TypeVar

import numpy as np
import yaml
from numpy.typing import NDArray

from foveate import yaml_source
from foveate.errors import GraphError
from foveate.messages import Message
from foveate_calibration.depth_camera import DepthCamera
from foveate_calibration.errors import CalibrationError
from foveate_calibration.lens import Lens
from foveate_calibration.rigid import rigid_of
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import LaserPlane, SteeredLaser

VERSION = 1
UNITS = {"length": "m", "angle": "rad", "image": "px", "time": "s"}


@dataclass(frozen=True, slots=True, eq=False)
class Transform:
    """A rigid transform, 4 x 4, named as in `world_from_camera`."""

    matrix: NDArray[np.float64]

    def plain(self) -> dict[str, Any]:
        """Values for a file."""
        return {"matrix": self.matrix[:3].tolist()}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises KeyError, TypeError, ValueError."""
        return cls(rigid_of(plain["matrix"]))


@dataclass(frozen=True, slots=True)
class TimeOffset:
    """Time of a mirror's readings and of images: t_mirror = t_camera + offset + drift (t_camera - since)."""

    offset_s: float
    drift: float = 0.0  # seconds a second
    since_ns: int = 0

    def plain(self) -> dict[str, Any]:
        """Values for a file."""
        return {"offset_s": self.offset_s, "drift": self.drift, "since_ns": self.since_ns}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Self:
        """The inverse of `plain`. Raises KeyError, TypeError, ValueError."""
        return cls(float(plain["offset_s"]), float(plain["drift"]), int(plain["since_ns"]))


Model = Lens | SteeredCamera | LaserPlane | SteeredLaser | DepthCamera | Transform | TimeOffset
M = TypeVar("M", bound="Model")
T = TypeVar("T")
MODELS: dict[str, type[Model]] = {
    "lens": Lens, "steered_camera": SteeredCamera, "laser_plane": LaserPlane, "steered_laser": SteeredLaser,
    "depth_camera": DepthCamera, "transform": Transform, "time_offset": TimeOffset,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Calibration:
    """Models by name, with what the fit says of itself."""

    models: Mapping[str, Model]
    residuals: Mapping[str, Mapping[str, float]] = field(default_factory=dict)  # by quantity: rms, max, count ...
    sigmas: Mapping[str, float] = field(default_factory=dict)  # of parameters, by "model.parameter"
    weak: tuple[str, ...] = ()  # directions that the data did not determine, in words
    origin: Mapping[str, str] = field(default_factory=dict)  # procedure, data and their hashes, options

    def model(self, name: str, kind: type[M]) -> M:
        """A model by name. Raises CalibrationError naming what there is."""
        found = self.models.get(name)
        if not isinstance(found, kind):
            there = ", ".join(f"{key} ({_name_of(value)})" for key, value in self.models.items()) or "nothing"
            wanted = next(key for key, value in MODELS.items() if value is kind)
            raise CalibrationError(f"the calibration has no {wanted} named '{name}'; it has {there}")
        return found

    def text(self) -> str:
        """The file's text."""
        body = self._body()
        return yaml.safe_dump({**body, "checksum": _checksum(body)}, sort_keys=False, width=120)

    def _body(self) -> dict[str, Any]:
        return {
            "foveate_calibration": VERSION, "units": dict(UNITS), "origin": dict(self.origin),
            "models": {name: {"model": _name_of(model), **model.plain()} for name, model in self.models.items()},
            "residuals": {name: dict(values) for name, values in self.residuals.items()},
            "sigmas": dict(self.sigmas), "weak": list(self.weak),
        }  # fmt: skip

    def save(self, path: Path) -> None:
        """Write the file at once: a reader sees the old one or the new one."""
        part = path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        part.write_text(self.text(), encoding="utf-8")
        part.replace(path)

    @classmethod
    def load(cls, path: Path, check: bool = True) -> Calibration:
        """Read a file. Raises CalibrationError; `check`: also where the checksum is not that of the content."""
        try:
            data = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise CalibrationError(f"{path}: cannot be read: {error}") from None
        return cls.parse(data, str(path), check)

    @classmethod
    def parse(cls, text: str, name: str, check: bool = True) -> Calibration:
        """Of a file's text; `name` is for errors."""
        try:
            plain = yaml_source.read_text(text, name).plain()
        except GraphError as error:
            raise CalibrationError(str(error)) from None
        if not isinstance(plain, dict) or plain.get("foveate_calibration") != VERSION:
            raise CalibrationError(f"{name}: not a calibration (needs 'foveate_calibration: {VERSION}')")
        if plain.get("units") != UNITS:
            raise CalibrationError(f"{name}: units are {plain.get('units')}, not {UNITS}")
        said = plain.pop("checksum", None)
        try:
            found = _checksum(plain)
        except ValueError:
            raise CalibrationError(f"{name}: a number is not finite") from None
        if check and said != found:
            hint = f"if you changed it on purpose: foveate calibrate seal {name}"
            raise CalibrationError(f"{name}: the content is not that of its checksum; copy it again; {hint}")
        return cls(
            {key: _model(value, f"{name}: models.{key}") for key, value in _part(plain, "models", dict, name).items()},
            _part(plain, "residuals", dict, name), _part(plain, "sigmas", dict, name),
            tuple(_part(plain, "weak", list, name)), _part(plain, "origin", dict, name),
        )  # fmt: skip


@dataclass(frozen=True, slots=True, eq=False)
class RigCalibration(Message):
    """A calibration on a wire, so that a recording carries what its points were made with."""

    text: str  # of the file

    def calibration(self) -> Calibration:
        """The calibration. Raises CalibrationError."""
        return Calibration.parse(self.text, "the calibration in the stream")


def _name_of(model: Model) -> str:
    return next(name for name, kind in MODELS.items() if type(model) is kind)


def _checksum(body: Mapping[str, Any]) -> str:
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def _part(plain: Mapping[str, Any], key: str, kind: type[T], name: str) -> T:
    found = plain.get(key, kind())
    if not isinstance(found, kind):
        raise CalibrationError(f"{name}: '{key}' must be a {kind.__name__}")
    return found


def _model(plain: Any, name: str) -> Model:
    if not isinstance(plain, dict) or plain.get("model") not in MODELS:
        raise CalibrationError(f"{name}: needs 'model', one of {', '.join(MODELS)}")
    try:
        return MODELS[plain["model"]].from_plain(plain)
    except KeyError as error:
        raise CalibrationError(f"{name}: {error.args[0]!r} is missing") from None
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{name}: {error}") from None
