"""`foveate calibrate rig`, `mirror`, `laser` and `time` as they are called: on simulated recordings, or refused."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("numba", reason="stripes are found by numba (extra scan)")

from foveate.cli import main
from foveate_calibration.boards import Board
from foveate_calibration.commands.rig import lines, shown
from foveate_calibration.document import Calibration, TimeOffset, Transform
from foveate_calibration.errors import CalibrationError
from foveate_calibration.lens import Lens
from foveate_calibration.procedures.rig import fit_rig
from foveate_calibration.rigid import rotation_from, transform
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import LaserPlane, SteeredLaser
from foveate_calibration.stripe_reading import read_stripes
from tests import scanner_rig

SHOWN = "charuco:6x5:40mm:14mm:DICT_5X5_250"
LENS = Lens.from_matrix(np.array([[900.0, 0, 320], [0, 900, 240], [0, 0, 1]]), np.zeros(5), 640, 480)
SHEET = np.array([np.cos(0.3), 0.0, -np.sin(0.3), -0.5 * np.sin(0.3)])  # leaves 0.5 m before the camera's axis


def shot(k: int, channel: int, light: float = 140.0) -> np.ndarray:
    """A board (BGR) that the sheet of light crosses, in one channel alone."""
    board = Board.parse(SHOWN)
    turn = rotation_from(np.array([0.25 * np.cos(2.4 * k), 0.35 * np.sin(2.4 * k), 0.1 * k]))
    pose = transform(turn, np.array([0, 0, 0.42 + 0.02 * k]) - turn @ np.array([0.12, 0.1, 0]))
    to_image = LENS.matrix @ pose[:3, [0, 1, 3]] @ np.linalg.inv(board.picture_from_board(3000.0))
    seen = cv2.warpPerspective(board.picture(3000.0), to_image, (640, 480), flags=cv2.INTER_AREA, borderValue=255)
    image = np.repeat((0.4 * seen)[:, :, None], 3, axis=2)
    y, x = np.mgrid[:480, :640]
    rays = LENS.rays(np.column_stack([x.ravel(), y.ravel()]))
    depth = (pose[:3, 2] @ pose[:3, 3]) / (rays @ pose[:3, 2])
    off = (rays * depth[:, None]) @ SHEET[:3] - SHEET[3]
    image[:, :, channel] += light * np.exp(-0.5 * (off.reshape(480, 640) / 0.0012) ** 2)
    return np.clip(image, 0, 255).astype(np.uint8)


@pytest.fixture(scope="module")
def shots(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight images of a red stripe on a board."""
    folder = tmp_path_factory.mktemp("stripes")
    for k in range(8):
        cv2.imwrite(str(folder / f"shot{k}.png"), shot(k, 2))
    Calibration({"camera": LENS}).save(folder / "camera.yaml")
    return folder


def laser(*words: str) -> int:
    return main(["calibrate", "laser", "--board", SHOWN, "--width", "5", *words])


@pytest.mark.parametrize("channel", ["red", "gray"])
def test_a_fixed_laser_from_images(shots: Path, tmp_path: Path, channel: str, capsys: pytest.CaptureFixture) -> None:  # type: ignore[type-arg]
    out, page = tmp_path / "laser.yaml", tmp_path / "laser.html"
    assert laser(str(shots), "--camera", str(shots / "camera.yaml"), "--channel", channel, "-o", str(out),
                 "--report", str(page)) == 0, capsys.readouterr().err  # fmt: skip
    found = Calibration.load(out).model("laser", LaserPlane).sheet
    assert np.abs(found - SHEET * np.sign(found @ SHEET)).max() < 2e-3
    assert "mm over" in capsys.readouterr().out and "Stripe off the plane" in page.read_text()


def test_the_stripe_is_looked_for_in_the_channel_that_was_named(shots: Path) -> None:
    board = Board.parse(SHOWN)
    assert len(read_stripes(board, [str(shots)], LENS, width_px=5, channel="red")) >= 4
    with pytest.raises(CalibrationError, match="together in none of 8"):
        read_stripes(board, [str(shots)], LENS, width_px=5, channel="blue")


def test_images_whose_stripe_is_clipped_are_refused(
    shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "shot.png"), shot(0, 2, 900.0))
    out, camera = tmp_path / "laser.yaml", str(shots / "camera.yaml")
    assert laser(str(tmp_path / "shot.png"), "--camera", camera, "--channel", "red", "-o", str(out)) == 1
    assert "of the stripe on the board is clipped" in capsys.readouterr().err.splitlines()[-1]
    assert not out.exists()


def lenses(folder: Path) -> Path:
    Calibration({"left": LENS, "right": LENS}).save(folder / "two.yaml")
    return folder / "two.yaml"


def bare(folder: Path) -> Path:
    Calibration({"hand": Transform(np.eye(4))}).save(folder / "none.yaml")
    return folder / "none.yaml"


@pytest.mark.parametrize(
    ("camera", "more", "said"),
    [
        (bare, [], "which lens"),
        (lenses, [], "one of left, right"),
        (lambda folder: folder / "gone.yaml", [], "cannot be read"),
        (lambda folder: f"{lenses(folder)}:middle", [], "no lens named 'middle'"),
        (lambda folder: f"{lenses(folder)}:left", ["--width", "0"], "a stripe 0 px wide"),
        (lambda folder: f"{lenses(folder)}:left", ["--channel", "blue"], "together in none of 8 images"),
    ],
    ids=["no lens", "two lenses", "no file", "no such lens", "no width", "wrong channel"],
)
def test_a_fixed_laser_is_refused_in_a_line(  # type: ignore[no-untyped-def]
    shots: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], camera, more, said
) -> None:
    out = tmp_path / "laser.yaml"
    assert laser(str(shots), "--camera", str(camera(tmp_path)), "-o", str(out), *more) == 1
    said_last = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in said_last and said_last.startswith("foveate: ")
    assert not out.exists()


@pytest.mark.parametrize("option", ["--machined", "--width"])
@pytest.mark.parametrize("value", ["-1", "nan", "inf", "much"])
def test_numbers_that_mean_nothing_are_refused(option: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["calibrate", "laser", "x.mcap", "--camera", "c.yaml", "--board", SHOWN, f"{option}={value}"])
    assert "is no number from 0 on" in capsys.readouterr().err


def test_a_rig_with_no_view_held_out_is_told_as_such() -> None:
    camera, steered = scanner_rig.made(3)
    fit = fit_rig(scanner_rig.views(camera, steered, 3, placements=4, each=4, stripes=False), scanner_rig.drawn()[0])
    assert lines(fit)["held out"].startswith("nothing: fewer than 5 views of each place")
    assert [kind.name for kind in shown(fit)] == ["corners"]


HELD_UP = "charuco:17x13:30mm:14mm:DICT_5X5_250"
LAUNCH = Path(__file__).parents[2] / "launch"
GRAPH = """
foveate: 1
params: {boards: 5, dwell: 1.0, power: 0.6}
rig: RIG
nodes:
  camera: {use: camera, device: "${rig.camera}", mirror: "${rig.mirror}"}
  laser:  {use: line_laser, device: "${rig.laser}", params: {power: "${params.power}"}}
  light:  {use: mirror_reading, device: "${rig.laser_mirror}", inputs: {frame: {from: camera.frame, queue: fifo(16)}}}
  stripe: {use: stripe, inputs: {frame: {from: camera.frame, queue: fifo(16)}}}
  plan:
    use: scan_planner
    camera: ${rig.camera}
    mirror: ${rig.mirror}
    laser: ${rig.laser}
    laser_mirror: ${rig.laser_mirror}
    inputs: {strobe: camera.frame, stripe: stripe.stripe, calibration: calibrate.calibration}
    params: {boards: "${params.boards}", dwell: "${params.dwell}"}
  calibrate:
    use: rig_calibration
    camera: ${rig.camera}
    mirror: ${rig.mirror}
    laser: ${rig.laser}
    laser_mirror: ${rig.laser_mirror}
    inputs: {frame: camera.frame, stripe: stripe.stripe, light: light.state}
    sync: {reference: frame, match: {stripe: exact, light: exact}}
    params: {board: "charuco:17x13:30mm:14mm:DICT_5X5_250", boards: 99}
  mirror:       {use: mirror, device: "${rig.mirror}", inputs: {target: {from: plan.view, queue: fifo(4)}}}
  laser_mirror: {use: mirror, device: "${rig.laser_mirror}", inputs: {target: {from: plan.light, queue: fifo(4)}}}
record: {to: logs, streams: [camera.frame, light.state]}
"""


def recorded(folder: Path, duration: str, *settings: str, code: int = 0) -> Path:
    """A recording of the simulated scanner before boards; `code`: that the run is to end with."""
    graph = folder / "boards.yaml"
    graph.write_text(GRAPH.replace("RIG", str(LAUNCH / "rigs" / "sim_scanner.yaml")), encoding="utf-8")
    sets = [word for setting in settings for word in ("--set", setting)]
    words = [str(graph), "--executor", "virtual", "--duration", duration, "--output", str(folder / "log"), *sets]
    assert main(["run", *words]) == code
    return folder / "log" / "run.mcap"


@pytest.fixture(scope="module")
def glimpse(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fifth of a second before one board."""
    return recorded(tmp_path_factory.mktemp("glimpse"), "0.2s")


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["rig", "--frames", "camera.fram"], "no stream 'camera.fram'; it has camera.frame, light.state"),
        (["rig", "--light", "camera.frame"], "stream 'camera.frame' is of Frame; of MirrorState is light.state"),
        (["mirror", "--frames", "light.state"], "stream 'light.state' is of MirrorState; of Frame is camera.frame"),
        (["rig", "--board", "charuco:6x5:40mm:14mm:DICT_4X4_50"], "is in none of "),
        (["rig"], "boards are too few"),
        (["time", "--readings", "light.state", "--camera", "NONE"], "cannot be read"),
        (["laser", "--camera", "NONE"], "cannot be read"),
    ],
    ids=["no stream", "frames for light", "readings for frames", "no board", "few boards", "no camera", "no camera"],
)
def test_a_recording_that_says_too_little_is_refused(  # type: ignore[no-untyped-def]
    glimpse: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words, said
) -> None:
    out, page = tmp_path / "out.yaml", tmp_path / "out.html"
    board = [] if "--board" in words else ["--board", HELD_UP]
    assert main(["calibrate", words[0], str(glimpse), *words[1:], *board, "-o", str(out), "--report", str(page)]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in last and last.startswith("foveate: ")
    assert not out.exists() and not page.exists()


@pytest.mark.heavy
def test_a_stripe_that_is_clipped_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = recorded(tmp_path, "0.2s", "power=1.0", "rig.laser.level=5000", code=1)  # the graph refuses it as well
    assert "of the stripe on the board is clipped" in capsys.readouterr().out
    out = tmp_path / "out.yaml"
    assert main(["calibrate", "rig", str(log), "--board", HELD_UP, "-o", str(out)]) == 1
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert "of the stripe on the board is clipped" in last and "lower the laser's power" in last
    assert not out.exists()


@pytest.mark.heavy
def test_a_recording_without_a_laser_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lines = (LAUNCH / "rigs" / "sim_scanner.yaml").read_text(encoding="utf-8").splitlines()
    (tmp_path / "rig.yaml").write_text("\n".join(line for line in lines if not line.startswith("  laser: ")) + "\n")
    graph = tmp_path / "boards.yaml"
    graph.write_text(
        """
foveate: 1
rig: rig.yaml
nodes:
  camera: {use: camera, device: "${rig.camera}", mirror: "${rig.mirror}"}
  light:  {use: mirror_reading, device: "${rig.laser_mirror}", inputs: {frame: {from: camera.frame, queue: fifo(16)}}}
record: {to: logs, streams: [camera.frame, light.state]}
""",
        encoding="utf-8",
    )
    words = [str(graph), "--executor", "virtual", "--duration", "0.05s", "--output", str(tmp_path / "log")]
    assert main(["run", *words]) == 0
    out = tmp_path / "out.yaml"
    assert main(["calibrate", "rig", str(tmp_path / "log" / "run.mcap"), "--board", HELD_UP, "-o", str(out)]) == 1
    assert "the recorded rig has 0 lasers; one is needed" in capsys.readouterr().err.strip().splitlines()[-1]
    assert not out.exists()


@pytest.fixture(scope="module")
def boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five seconds before five boards: half a minute of work."""
    return recorded(tmp_path_factory.mktemp("boards"), "5s")


@pytest.mark.heavy
def test_a_scanner_from_recordings(boards: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def calibrated(what: str, log: Path, *words: str) -> Calibration:
        out, page = tmp_path / f"{what}.yaml", tmp_path / f"{what}.html"
        words = (what, str(log), "--board", HELD_UP, *words, "-o", str(out), "--report", str(page))
        assert main(["calibrate", *words]) == 0, capsys.readouterr().err
        assert "</html>" in page.read_text(encoding="utf-8")
        return Calibration.load(out)

    rig = calibrated("rig", boards)
    assert len(rig.model("camera", SteeredCamera).mirrors) == 2
    assert abs(rig.model("laser", SteeredLaser).mirror.gain - 1) < 0.1
    assert rig.residuals["held_out_in_image_px"]["rms"] < 1.2 * rig.residuals["held_out_in_image_px"]["floor"]
    assert rig.residuals["stripe_plane_m"]["rms"] < 2e-4
    mirror = calibrated("mirror", boards)
    noises = [found.residuals["corner_px"]["noise"] for found in (mirror, rig)]
    assert noises[0] < 1.2 * noises[1], "the laser's light pulls no corners, whether the laser counts or not"
    laser = calibrated("laser", boards, "--camera", str(tmp_path / "mirror.yaml"))
    assert laser.residuals["stripe_plane_m"]["rms"] < 3e-4
    words = [
        "--executor",
        "virtual",
        "--duration",
        "5s",
        "--set",
        "rig.world.dwell=60",
        "--output",
        str(tmp_path / "s"),
    ]
    assert main(["run", str(LAUNCH / "graphs" / "time_offset.yaml"), *words]) == 0
    time = calibrated("time", tmp_path / "s" / "run.mcap", "--camera", str(tmp_path / "rig.yaml"),
                      "--readings", "poll.state")  # fmt: skip
    assert abs(time.model("time", TimeOffset).offset_s) < 5 * time.sigmas["time.offset_s"] < 0.005
