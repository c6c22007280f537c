"""Calibrates a scanner while the graph runs: from boards that are shown to it, or from a file of an earlier time."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Ge, Gt

from foveate.catalog import optional
from foveate.messages import Frame, MirrorState
from foveate.node import Node, Unit
from foveate_calibration.board_stripes import scanner_view
from foveate_calibration.boards import Board
from foveate_calibration.document import Calibration, RigCalibration
from foveate_calibration.drawing import drawn_camera, drawn_laser
from foveate_calibration.errors import CalibrationError
from foveate_calibration.placements import Placements
from foveate_calibration.procedures.rig import fit_rig
from foveate_calibration.procedures.rig_document import rig_document
from foveate_calibration.views import BoardView
from foveate_drivers.cameras.base import Camera
from foveate_drivers.lasers.base import LineLaser
from foveate_drivers.mirrors.base import Mirror
from foveate_nodes.reconstruction.messages import Stripe


class RigCalibrationNode(Node):
    """Gives a calibration once: after the last of `boards` placements has gone, or at once from `file`.

    Needs frames with the mirror's angles, their stripes and the readings of the laser's mirror, matched in time.
    Raises CalibrationError where the boards do not determine the rig.
    """

    cost_ns = 2_000_000

    class Outputs:
        calibration: RigCalibration

    def __init__(
        self, *, camera: Camera, mirror: Mirror, laser: LineLaser, laser_mirror: Mirror,
        board: str = "charuco:17x13:30mm:14mm:DICT_5X5_250", boards: Annotated[int, Ge(4)] = 24,
        gone: Annotated[float, Unit("s"), Gt(0)] = 1.0, patience: Annotated[float, Unit("s"), Gt(0)] = 10.0,
        file: Path | None = None,
    ) -> None:  # fmt: skip
        """`board`: what is shown; `gone`: without it for so long after the last placement, nothing more is to come;
        `patience`: the same before the last one: what was seen by then must do; `file`: a calibration of before."""
        self._camera = drawn_camera(camera, mirror)
        self._laser = drawn_laser(laser, laser_mirror)
        self._board = Board.parse(board)
        self._board_text = board
        self._wanted = boards
        self._gone_ns, self._patience_ns = round(gone * 1e9), round(patience * 1e9)
        self._file = file
        self._placements = Placements(self._camera)
        self._views: list[BoardView] = []
        self._seen_ns: int | None = None
        self._done = False

    def open(self) -> None:
        optional("cv2", "calibrate", "vision")

    def step(self, frame: Frame, stripe: Stripe, light: MirrorState) -> RigCalibration | None:
        if self._done:
            return None
        if self._file is not None:
            return self._given(frame, Calibration.load(self._file))
        view = self._look(frame, stripe, light)
        if view is not None:
            self._views.append(view)
            self._seen_ns = frame.stamp.t_ns
        if self._seen_ns is None:  # the first frame: patience begins
            self._seen_ns = frame.stamp.t_ns
        allowed_ns = self._gone_ns if self._placements.count >= self._wanted else self._patience_ns
        return self._given(frame, self._fitted()) if frame.stamp.t_ns - self._seen_ns > allowed_ns else None

    def _given(self, frame: Frame, calibration: Calibration) -> RigCalibration:
        self._done, self._views = True, []
        return RigCalibration(frame.stamp, calibration.text())

    def _look(self, frame: Frame, stripe: Stripe, light: MirrorState) -> BoardView | None:
        """What a frame shows of the board; None where it shows too little, or a mirror moved."""
        if frame.mirror is None or frame.mirror.moved or light.moved:
            return None
        view = scanner_view(self._board, frame.image, stripe.point_px, stripe.saturated > 0)
        if view is None:
            return None
        named = replace(view, name=f"frame {frame.seq}", t_ns=frame.stamp.t_ns)
        return self._placements.numbered(replace(named, angle_rad=frame.mirror.angle_rad, laser_rad=light.angle_rad))

    def _fitted(self) -> Calibration:
        if not self._views:
            raise CalibrationError(f"no board {self._board_text} was seen for {self._patience_ns / 1e9:g} s")
        fit = fit_rig(self._views, self._camera, self._laser)
        frames = f"{len(self._views)} frames of {self._placements.count} placements"
        return rig_document(fit, {"procedure": "rig", "board": self._board_text, "data": frames})

    def state_dict(self) -> Any:
        return None  # half a set of views is of no use to a node that starts anew
