"""Images of a laser's stripe on a board, for a camera and a laser that are both fixed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from foveate_calibration.board_stripes import scanner_view
from foveate_calibration.boards import Board
from foveate_calibration.errors import CalibrationError
from foveate_calibration.lens import Lens
from foveate_calibration.reading import image_files, read_image
from foveate_calibration.stripes.detectors import Steger
from foveate_calibration.stripes.points import Light
from foveate_calibration.views import BoardView

_CHANNELS = ("blue", "green", "red")
_THINNEST_PX, _WIDEST_PX = 1.5, 100.0


def read_stripes(
    board: Board, sources: Sequence[str], lens: Lens, *, width_px: float = 6.0, channel: str = "gray",
    tell: Callable[[str], None] = lambda text: None, progress: Callable[[float], None] = lambda share: None,
) -> list[BoardView]:  # fmt: skip
    """Board and stripe in each image (files, folders, patterns). Raises CalibrationError where no image shows both.

    `width_px`: of the stripe at half height; `channel`: gray | red | green | blue, where the stripe is looked for.
    """
    if not _THINNEST_PX <= width_px <= _WIDEST_PX:
        raise CalibrationError(f"a stripe {width_px:g} px wide is not found; {_THINNEST_PX} to {_WIDEST_PX} px are")
    files = image_files(sources)
    detector = Steger(width_px, 0.58 * width_px, 10.0, True, Light(2.0, 40.0))

    def look(path: Path) -> BoardView | None:
        image = read_image(path, channel != "gray")
        if image.shape[:2] != (lens.height, lens.width):
            size = f"{image.shape[1]} x {image.shape[0]}"
            raise CalibrationError(f"{path}: {size} pixels; the camera was calibrated at {lens.width} x {lens.height}")
        points = detector.find(_plane(image, channel))
        view = scanner_view(board, image, points.point_px, points.saturated, 1.8 * width_px)
        return None if view is None else replace(view, name=path.name)

    views: list[BoardView] = []
    with ThreadPoolExecutor(2) as pool:
        for done, (path, view) in enumerate(zip(files, pool.map(look, files), strict=True), 1):
            if view is None or view.stripe_px is None:
                tell(f"{path.name}: {'no board' if view is None else 'no stripe on white of the board'}")
            else:
                views.append(view)
            progress(done / len(files))
    if not views:
        raise CalibrationError(f"board {board.text} and stripe are together in none of {len(files)} images")
    return views


def _plane(image: NDArray[np.uint8], channel: str) -> NDArray[np.uint8]:
    if image.ndim == 2:
        return image
    return np.ascontiguousarray(image[:, :, _CHANNELS.index(channel)])
