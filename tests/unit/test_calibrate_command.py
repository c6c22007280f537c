"""`foveate calibrate` from image files: boards that are rendered, read, fitted, reported; or refused with no file."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest

from foveate.cli import main
from foveate.errors import EndOfStream, RecordingError
from foveate.messages import Frame, Stamp
from foveate.node import Node
from foveate_calibration import report, report_charts
from foveate_calibration.boards import Board
from foveate_calibration.document import Calibration
from foveate_calibration.errors import CalibrationError
from foveate_calibration.lens import Lens
from foveate_calibration.reading import image_files, read_views
from foveate_calibration.rigid import rotation_from, transform
from tests.conftest import graph_of
from tests.unit.test_hand_eye import off, tum
from tests.unit.test_recording import record

BOARD = "charuco:8x6:30mm:22mm:DICT_5X5_250"
SIZE = (640, 480)
MATRIX = np.array([[600.0, 0, 310], [0, 600, 250], [0, 0, 1]])
RIGHT_FROM_LEFT = transform(rotation_from(np.array([0.0, 0.02, 0.01])), np.array([-0.07, 0, 0]))


def poses(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(4)
    found = []
    for _ in range(count):
        turn = rotation_from(np.append(rng.uniform(-0.5, 0.5, 2), rng.uniform(-0.3, 0.3)))
        middle = np.array([rng.uniform(-0.1, 0.1), rng.uniform(-0.08, 0.08), rng.uniform(0.4, 0.55)])
        found.append(transform(turn, middle - turn @ np.array([0.12, 0.09, 0.0])))
    return found


def render(board: Board, camera_from_board: np.ndarray, seed: int = 0) -> np.ndarray:
    """A view of a board, no lens distortion, 2 grey levels of noise."""
    to_image = MATRIX @ camera_from_board[:3, [0, 1, 3]] @ np.linalg.inv(board.picture_from_board(3000.0))
    fine = np.array([[3.0, 0, 1], [0, 3, 1], [0, 0, 1]])
    large = cv2.warpPerspective(board.picture(3000.0), fine @ to_image, (1920, 1440), borderValue=130)
    image = cv2.resize(large, SIZE, interpolation=cv2.INTER_AREA).astype(float)
    return (image * 0.8 + 20 + np.random.default_rng(seed).normal(0, 2, image.shape)).clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Left and right images of eight boards."""
    folder, board = tmp_path_factory.mktemp("shots"), Board.parse(BOARD)
    for k, pose in enumerate(poses(8)):
        cv2.imwrite(str(folder / f"left{k}.png"), render(board, pose, k))
        cv2.imwrite(str(folder / f"right{k}.png"), render(board, RIGHT_FROM_LEFT @ pose, k + 50))
    return folder


def test_a_camera_from_files(shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "camera.yaml", tmp_path / "camera.html"
    arguments = ["calibrate", "camera", str(shots / "left*.png"), "--board", BOARD, "--distortion", "k1"]
    assert main([*arguments, "-o", str(out), "--report", str(page)]) == 0
    told = capsys.readouterr()
    assert "focal length" in told.out and str(page) in told.out and "8 of 8 images" in told.err
    calibration = Calibration.load(out)
    lens = calibration.model("camera", Lens)
    for value, truth, name in zip(lens.values, (600, 600, 310, 250), ("fx", "fy", "cx", "cy"), strict=False):
        assert abs(value - truth) < max(4 * calibration.sigmas[f"camera.{name}"], 0.3)
    assert calibration.residuals["reprojection_px"]["rms"] < 0.1
    assert calibration.origin["board"] == BOARD and len(calibration.origin["sha256"]) == 64
    text = page.read_text()
    assert "http" not in re.sub(r'xmlns="[^"]*"', "", text) and "<script" not in text
    for drawn in re.findall(r"<svg.*?</svg>", text):
        ElementTree.fromstring(drawn)
    assert text.count("<svg") == 6 and "left3.png" in text

    assert main(["calibrate", "check", str(out)]) == 0
    told = capsys.readouterr()
    assert "the checksum is right" in told.out and re.search(r"fx +\d+\.\d+ +sigma", told.out)
    out.write_text(out.read_text().replace("cx: 3", "cx: 4"))
    assert main(["calibrate", "check", str(out)]) == 1
    assert "foveate calibrate seal" in capsys.readouterr().err
    assert main(["calibrate", "seal", str(out)]) == 0
    assert main(["calibrate", "check", str(out)]) == 0


def test_a_pair_from_files(shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, page = tmp_path / "stereo.yaml", tmp_path / "stereo.html"
    arguments = ["calibrate", "stereo", "--left", str(shots / "left*.png"), "--right", str(shots / "right*.png"),
                 "--board", BOARD, "--distortion", "k1", "-o", str(out), "--report", str(page)]  # fmt: skip
    assert main(arguments) == 0
    assert "baseline" in capsys.readouterr().out
    matrix = Calibration.load(out).models["right_from_left"].matrix  # type: ignore[union-attr]
    assert np.linalg.norm(matrix[:3, 3]) == pytest.approx(0.07, abs=3e-4)
    assert page.read_text().count("<svg") == 12
    out.unlink()
    assert main([*arguments[:7], "chessboard:7x5:30mm", *arguments[8:]]) == 1
    assert "looks the same upside down" in capsys.readouterr().err and not out.exists()
    assert main([*arguments, "--lenses", "one.yaml"]) == 1
    assert "LEFT,RIGHT" in capsys.readouterr().err


def test_a_hand_eye_from_images(shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lens = tmp_path / "lens.yaml"
    Calibration({"camera": Lens.from_matrix(MATRIX, np.zeros(5), *SIZE)}).save(lens)
    x, y = (
        transform(rotation_from(np.array([0.1, 0, 1.5])), np.array([0.05, 0, 0.02])),
        transform(np.eye(3), np.ones(3)),
    )
    world = np.stack([y @ np.linalg.inv(x @ pose) for pose in poses(8)])
    (tmp_path / "hand.tum").write_text(tum(world))
    out = tmp_path / "hand.yaml"
    arguments = ["calibrate", "handeye", "--hand", str(tmp_path / "hand.tum"), "--board", BOARD, "--lens", str(lens),
                 "-o", str(out), "--images"]  # fmt: skip
    assert main([*arguments, str(shots / "left*.png")]) == 0
    found = Calibration.load(out).models["hand_from_camera"].matrix  # type: ignore[union-attr]
    assert np.abs(off(found, x)).max() < 2e-3
    out.unlink()
    assert main([*arguments, str(shots / "left[0-4].png")]) == 1
    assert "5 images and 8 poses" in capsys.readouterr().err and not out.exists()
    (tmp_path / "hand.tum").write_text(tum(world[::2]))
    assert main([*arguments, str(shots / "left*.png"), "--every", "2"]) == 0
    found = Calibration.load(out).models["hand_from_camera"].matrix  # type: ignore[union-attr]
    assert np.abs(off(found, x)).max() < 5e-3


def test_what_cannot_be_calibrated_leaves_no_file(
    shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "none.yaml"
    empty = tmp_path / "empty"
    empty.mkdir()
    mirrored, small, torn = (tmp_path / name for name in ("mirrored.png", "small.png", "torn.png"))
    image = cv2.imread(str(shots / "left0.png"), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(mirrored), image[:, ::-1])
    cv2.imwrite(str(small), image[:200])
    torn.write_bytes(b"no image")
    left = str(shots / "left*.png")
    cases = [
        ([str(shots / "left0.png")], BOARD, "1 views of the board are too few"),
        ([str(mirrored)], BOARD, "the board appears flipped"),
        ([left, str(small)], BOARD, "small.png is 640 x 200 and the images before are 640 x 480"),
        ([str(torn)], BOARD, "cannot be read as an image"),
        ([str(empty)], BOARD, "a folder without images"),
        ([str(tmp_path / "nothing*.png")], BOARD, "no such file, folder or pattern"),
        ([left], "charuco:8x6:30mm:22mm:DICT_4X4_250", "foveate calibrate detect"),
        ([left], "checkers:9x6", "unknown board 'checkers:9x6'"),
    ]
    for images, board, says in cases:
        assert main(["calibrate", "camera", *images, "--board", board, "-o", str(out)]) == 1
        told = capsys.readouterr().err.strip().splitlines()
        assert says in told[-1] and told[-1].startswith("foveate: ")
        assert not out.exists()
    assert main(["calibrate", "camera", left, "--board", BOARD, "-o", str(tmp_path), "--distortion", "k1"]) == 1
    assert "is a folder; name a file" in capsys.readouterr().err
    assert main(["calibrate", "camera", left, "--board", BOARD, "-o", str(out), "--distortion", "q7"]) == 1
    assert "unknown coefficient 'q7'" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["calibrate", "camera", left, "--board", BOARD, "--every", "0"])


@pytest.mark.heavy
def test_a_chessboard_that_is_another_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for k, pose in enumerate(poses(1)):
        cv2.imwrite(str(tmp_path / f"{k}.png"), render(Board.parse("chessboard:9x6:25mm"), pose, k))
    for asked in ("9x7", "8x6"):
        assert main(["calibrate", "camera", str(tmp_path), "--board", f"chessboard:{asked}:25mm"]) == 1
        assert re.search(r"9x6 inner corners.*name the board so", capsys.readouterr().err)


def test_a_board_to_print_and_what_is_found_of_one(
    tmp_path: Path, shots: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page, picture, drawn = tmp_path / "b.svg", tmp_path / "b.png", tmp_path / "d.png"
    assert main(["calibrate", "board", BOARD, "-o", str(page)]) == 0
    ElementTree.fromstring(page.read_text())
    assert main(["calibrate", "board", BOARD, "-o", str(picture), "--dpi", "254"]) == 0
    assert "270 x 210 mm" in capsys.readouterr().out
    assert b"pHYs\x00\x00\x27\x10\x00\x00\x27\x10\x01" in picture.read_bytes()  # 10,000 pixels a metre
    image = cv2.imread(str(picture), cv2.IMREAD_GRAYSCALE)
    assert image is not None and image.shape == (2100, 2700)
    assert main(["calibrate", "board", BOARD, "-o", str(tmp_path / "b.doc")]) == 1
    assert main(["calibrate", "detect", str(shots / "left0.png"), "--board", BOARD, "-o", str(drawn)]) == 0
    assert "of 35 points" in capsys.readouterr().out and drawn.exists()
    assert main(["calibrate", "detect", str(shots / "left0.png"), "--board", "chessboard:9x6:25mm"]) == 1


def test_images_of_one_name_in_two_folders_stay_apart(tmp_path: Path, shots: Path) -> None:
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        (tmp_path / side / "0.png").write_bytes((shots / f"{side}0.png").read_bytes())
    reading = read_views(Board.parse(BOARD), [str(tmp_path / "left"), str(tmp_path / "right")])
    assert len({view.name for view in reading.views}) == 2


def test_files_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for name in ("shot10.png", "shot2.png", "notes.txt"):
        (tmp_path / name).write_bytes(b"")
    assert [path.name for path in image_files([str(tmp_path)])] == ["shot2.png", "shot10.png"]
    assert [path.name for path in image_files([str(tmp_path / "shot*.png")])] == ["shot2.png", "shot10.png"]


class Film(Node):
    """Gives the frames that it was given."""

    class Outputs:
        frame: Frame

    def __init__(self, frames: list[Frame]) -> None:
        self.frames = list(frames)

    def due_ns(self) -> int:
        return self.frames[0].stamp.t_ns if self.frames else 10**9

    def step(self) -> Frame:
        if not self.frames:
            raise EndOfStream
        return self.frames.pop(0)


def test_frames_of_a_recording(tmp_path: Path, shots: Path) -> None:
    images = [cv2.imread(str(shots / f"left{k}.png"), cv2.IMREAD_GRAYSCALE) for k in range(4)]
    frames = [Frame(Stamp(1_000_000 * (k + 1)), image, "Mono8", k) for k, image in enumerate(images)]
    log, nodes = tmp_path / "film.mcap", {"film": Film(frames)}
    record(graph_of(nodes, [], record=("film.frame",)), dict(nodes), log)
    reading = read_views(Board.parse(BOARD), [str(log)], every=2)
    assert [view.name for view in reading.views] == ["film.frame#0", "film.frame#2"]
    assert reading.views[1].t_ns == 3_000_000
    direct = read_views(Board.parse(BOARD), [str(shots / "left2.png")])
    assert np.array_equal(direct.views[0].pixel, reading.views[1].pixel)
    with pytest.raises(CalibrationError, match=r"has no stream 'a.b'; it has film.frame"):
        read_views(Board.parse(BOARD), [str(log)], stream="a.b")
    with pytest.raises(CalibrationError, match="give one recording alone"):
        read_views(Board.parse(BOARD), [str(log), str(shots / "left2.png")])
    torn = tmp_path / "torn.mcap"
    torn.write_bytes(b"nothing")
    with pytest.raises(RecordingError):
        read_views(Board.parse(BOARD), [str(torn)])


def test_the_verdict_names_what_is_wrong() -> None:
    rng = np.random.default_rng(0)
    at = rng.uniform((0, 0), SIZE, (2000, 2))
    noise = rng.normal(0, 0.1, (2000, 2))
    calibration = Calibration({})

    def says(values: np.ndarray) -> str:
        parts = [values[:1000], values[1000:]]
        shown = report.residuals_of("reprojection", "px", parts, ["a", "b"], [at[:1000], at[1000:]], SIZE)
        return " ".join(report.verdict(calibration, [shown]))

    assert says(noise) == "Nothing speaks against using it."
    tails = noise.copy()
    tails[::20] *= 20
    assert "some points are wrong" in says(tails)
    bent = noise + 0.05 * np.sin(at / 80)
    assert "the model is too simple" in says(bent) and "some points are wrong" not in says(bent)
    text = report.page(calibration, "<b>", [report.residuals_of("depth", "mm", [noise[:, :1]], ["<i>"])])
    assert "<b>" not in text.split("<style>")[0] and "<i>" not in text


def test_ticks_are_round_numbers() -> None:
    assert report_charts.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert report_charts.ticks(-0.37, 0.41) == [-0.2, 0, 0.2, 0.4]
    assert report_charts.ticks(0, 640) == [0, 200, 400, 600]


def test_a_drawing_of_no_known_kind_is_refused(tmp_path: Path, shots: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "found.xyz"
    assert main(["calibrate", "detect", str(shots / "left0.png"), "--board", BOARD, "-o", str(out)]) == 1
    assert "found.xyz: OpenCV knows no such kind of image" in capsys.readouterr().err and not out.exists()
