"""Lenses out of calibration files."""

from __future__ import annotations

from pathlib import Path

from foveate_calibration.document import Calibration
from foveate_calibration.errors import CalibrationError
from foveate_calibration.lens import Lens


def lens_of(text: str, preferred: str = "camera") -> Lens:
    """The lens of `FILE` or `FILE:NAME`: the only one there, or `preferred`. Raises CalibrationError."""
    name, colon, model = text.rpartition(":")
    path, wanted = (Path(name), model) if colon and not Path(text).exists() else (Path(text), "")
    calibration = Calibration.load(path)
    lenses = {key: found for key, found in calibration.models.items() if isinstance(found, Lens)}
    if wanted:
        return calibration.model(wanted, Lens)
    if preferred in lenses:
        return lenses[preferred]
    if len(lenses) != 1:
        raise CalibrationError(f"{path}: which lens? {path}:NAME, one of {', '.join(lenses) or 'none that it has'}")
    return next(iter(lenses.values()))
