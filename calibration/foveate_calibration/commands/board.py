"""`foveate calibrate board` and `detect`: a board to print, and what is found of one in an image."""

from __future__ import annotations

import argparse
import struct
import zlib
from pathlib import Path

from foveate_calibration import arguments
from foveate_calibration.errors import CalibrationError

_EXAMPLES = """  foveate calibrate board charuco:17x13:30mm:22mm:DICT_5X5_250 -o board.svg
  foveate calibrate board apriltag:6x6:24mm:7.2mm:tag36h11 -o board.png --dpi 600"""


def add(actions: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Their arguments."""
    parser = arguments.action(actions, "board", "a board to print, in true size", _EXAMPLES)
    parser.add_argument("board", metavar="BOARD", help=arguments.BOARD_HELP)
    parser.add_argument("-o", "--output", type=Path, default=Path("board.svg"), metavar="FILE",
                        help=".svg (exact) or .png (default: board.svg)")  # fmt: skip
    parser.add_argument("--dpi", type=float, default=300.0, help="of a .png (default: 300)")
    parser.set_defaults(run=run)
    parser = arguments.action(actions, "detect", "draw what is found of a board in an image")
    parser.add_argument("image", type=Path, metavar="IMAGE")
    arguments.add_board(parser)
    parser.add_argument("--mirrored", action="store_true", help="the camera looks by way of one mirror")
    parser.add_argument("-o", "--output", type=Path, default=Path("detected.png"), metavar="FILE.png")
    parser.set_defaults(run=detect)


def run(options: argparse.Namespace) -> int:
    """Write the board."""
    from foveate_calibration.boards import Board

    board = Board.parse(options.board)
    if options.output.suffix == ".svg":
        options.output.write_text(board.svg(), encoding="utf-8")
    elif options.output.suffix == ".png":
        if not 20 <= options.dpi <= 2400:
            raise CalibrationError(f"--dpi {options.dpi:g}: 20 to 2400 are printed")
        options.output.write_bytes(_png(board.picture(options.dpi / 0.0254), options.dpi / 0.0254))
    else:
        raise CalibrationError(f"{options.output}: .svg or .png is written")
    width, height = 1e3 * (board.sheet_m[2:] - board.sheet_m[:2])
    print(f"{options.output}: {width:.0f} x {height:.0f} mm, {len(board.points_m)} points")
    print("print at 100 %, glue it to something flat, and measure it: all lengths follow the board's")
    if board.ambiguous:
        print("it looks the same upside down: fine for one camera, not for stereo, hand-eye or a rig")
    return 0


def _png(image, px_per_m: float) -> bytes:  # type: ignore[no-untyped-def]
    """A grey PNG that knows its scale (the chunk pHYs), which OpenCV does not write."""
    import cv2

    done, data = cv2.imencode(".png", image)
    assert done
    text = data.tobytes()
    body = b"pHYs" + struct.pack(">IIB", round(px_per_m), round(px_per_m), 1)
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return text[:33] + chunk + text[33:]  # after the signature (8 bytes) and IHDR (25)


def detect(options: argparse.Namespace) -> int:
    """Find and draw."""
    import cv2
    import numpy as np

    from foveate_calibration.boards import Board
    from foveate_calibration.reading import read_image

    board, image = Board.parse(options.board), read_image(options.image)
    found = board.detect(image, options.mirrored)
    drawn = cv2.cvtColor(image, cv2.COLOR_GRAY2BGR)
    if found is None:
        from foveate_calibration.reading import read_views

        read_views(board, [str(options.image)], mirrored=options.mirrored)  # raises, and says what it may be instead
        return 1
    ids, pixels = found
    for number, (x, y) in zip(ids.tolist(), np.rint(pixels * 16).astype(int), strict=True):
        share = number / max(len(board.points_m) - 1, 1)
        color = (int(255 * share), 60, int(255 * (1 - share)))  # red where the numbers begin, blue where they end
        cv2.circle(drawn, (int(x), int(y)), 5 * 16, color, 1, cv2.LINE_AA, 4)
    try:
        written = cv2.imwrite(str(options.output), drawn)
    except cv2.error:
        raise CalibrationError(f"{options.output}: OpenCV knows no such kind of image; .png is one") from None
    if not written:
        raise CalibrationError(f"{options.output}: cannot be written")
    print(f"{options.output}: {len(ids)} of {len(board.points_m)} points, red the first, blue the last")
    return 0
