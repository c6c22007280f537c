"""Hand-eye calibration: the camera's place is found within what is said of it, and bad motions are named."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveate.cli import main
from foveate_calibration.document import Calibration, Transform
from foveate_calibration.errors import CalibrationError
from foveate_calibration.poses import paired, quaternion, read_poses
from foveate_calibration.procedures.handeye import HandEyeProblem, fit_hand_eye, park_martin
from foveate_calibration.rigid import invert, rotation_from, stepped, transform, vector_from

NOISE_RAD, NOISE_M = 1e-3, 1e-3


def somewhere(rng: np.random.Generator, turn_rad: float, reach_m: float) -> np.ndarray:
    axis = rng.normal(size=3)
    axis *= turn_rad * rng.uniform(0.4, 1) / np.linalg.norm(axis)
    return transform(rotation_from(axis), rng.uniform(-reach_m, reach_m, 3))


def rig(
    seed: int, eye_in_hand: bool = True, count: int = 15, noise: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """World_from_hand (N x 4 x 4), camera_from_board (N x 4 x 4), X, Y."""
    rng = np.random.default_rng(seed)
    x, y = somewhere(rng, 3.0, 0.1), somewhere(rng, 3.0, 1.0)
    world = np.stack([somewhere(rng, 1.2, 0.5) for _ in range(count)])
    hand = world if eye_in_hand else np.stack([invert(pose) for pose in world])
    seen = np.stack([invert(pose @ x) @ y for pose in hand])
    for pose in seen:
        pose[:3, :3] = rotation_from(rng.normal(0, noise * NOISE_RAD, 3)) @ pose[:3, :3]
        pose[:3, 3] += rng.normal(0, noise * NOISE_M, 3)
    return world, seen, x, y


def off(found: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return np.concatenate([vector_from(found[:3, :3] @ truth[:3, :3].T), found[:3, 3] - truth[:3, 3]])


@pytest.mark.parametrize("eye_in_hand", [True, False])
def test_twenty_rigs_are_found_within_their_sigmas(eye_in_hand: bool) -> None:
    errors = []
    for seed in range(20):
        world, seen, x, y = rig(seed, eye_in_hand)
        fit = fit_hand_eye(world, seen, eye_in_hand=eye_in_hand)
        assert not fit.removed
        errors.append(np.concatenate([off(fit.x, x), off(fit.y, y)]) / fit.solution.sigma)
        assert fit.solution.scale == pytest.approx(1.08, abs=0.12)  # 78 of 90 are spare
    rms = np.sqrt(np.mean(np.square(errors), axis=0))
    assert (rms > 0.5).all() and (rms < 1.7).all()
    assert np.abs(errors).max() < 5


def test_without_noise_it_is_exact() -> None:
    world, seen, x, y = rig(0, noise=0.0)
    assert np.allclose(park_martin(world, seen), x, atol=1e-9)
    fit = fit_hand_eye(world, seen)
    assert np.allclose(fit.x, x, atol=1e-9) and np.allclose(fit.y, y, atol=1e-9)


@pytest.mark.skipif(not hasattr(cv2, "calibrateHandEye"), reason="OpenCV 5 has no calibrateHandEye")
def test_opencv_agrees() -> None:
    for seed in range(5):
        world, seen, _, _ = rig(seed)
        fit = fit_hand_eye(world, seen)
        turn, shift = cv2.calibrateHandEye(
            list(world[:, :3, :3]), list(world[:, :3, 3]), list(seen[:, :3, :3]), list(seen[:, :3, 3]),
            method=cv2.CALIB_HAND_EYE_PARK,
        )  # fmt: skip
        theirs = transform(np.asarray(turn), np.ravel(shift))
        assert (np.abs(off(fit.x, theirs)) < 4 * fit.solution.sigma[:6]).all()
        assert np.allclose(park_martin(world, seen)[:3, :3], turn, atol=3e-3)


def test_derivatives_are_those_of_finite_differences() -> None:
    world, seen, x, y = rig(1)
    rng = np.random.default_rng(0)
    moved = stepped(x, rng.normal(0, 0.1, 6))
    problem = HandEyeProblem(world, seen, moved, stepped(y, rng.normal(0, 0.1, 6)), 1e-3, 1e-3)
    slope = np.concatenate([block.by_shared for block in problem.blocks()])
    for k in range(12):
        step = np.zeros(12)
        step[k] = 1e-6
        ends = [np.concatenate([b.residual for b in problem.stepped(s * step, np.zeros((1, 0))).blocks()])
                for s in (1, -1)]  # fmt: skip
        assert np.allclose((ends[0] - ends[1]) / 2e-6, slope[:, k], atol=1e-5 * np.abs(slope).max())


def test_poses_that_contradict_are_left_out_and_named() -> None:
    world, seen, x, _ = rig(2)
    seen[4] = somewhere(np.random.default_rng(9), 2.0, 1.0)
    seen[11, :3, 3] += 0.05
    fit = fit_hand_eye(world, seen)
    assert [line.split(":")[0] for line in sorted(fit.removed)] == ["pose 12", "pose 5"]
    assert (np.abs(off(fit.x, x)) < 4.5 * fit.solution.sigma[:6]).all()


def test_turning_mostly_about_one_axis_is_told_as_weak() -> None:
    world, _, x, y = rig(3)
    rng = np.random.default_rng(0)
    world = np.stack([transform(rotation_from(np.append(rng.normal(0, 0.08, 2), rng.uniform(-0.9, 0.9))), pose[:3, 3])
                      for pose in world])  # fmt: skip
    seen = np.stack([invert(pose @ x) @ y for pose in world])
    seen[:, :3, 3] += rng.normal(0, NOISE_M, (15, 3))
    fit = fit_hand_eye(world, seen)
    (words,) = fit.weak()
    along = np.array([float(v) for v in words.split("(")[1].split(")")[0].split(",")])
    assert abs(along[2]) > 0.9 and "add motions that turn about other axes" in words
    assert fit.calibration({}).weak == fit.weak()


def test_bad_motions_are_refused() -> None:
    world, seen, x, y = rig(0)
    with pytest.raises(CalibrationError, match="3 poses are too few; at least 4"):
        fit_hand_eye(world[:3], seen[:3])
    axis = np.array([0.0, 0.6, 0.8])
    one = np.stack([transform(rotation_from(axis * a), world[k, :3, 3]) for k, a in enumerate(np.linspace(-1, 1, 15))])
    with pytest.raises(CalibrationError, match=r"about one axis, \([+-]0.00, [+-]0.60, [+-]0.80\) of the hand.* along"):
        fit_hand_eye(one, np.stack([invert(pose @ x) @ y for pose in one]))
    still = np.stack([transform(np.eye(3), pose[:3, 3]) for pose in world])
    with pytest.raises(CalibrationError, match="the hand hardly turned"):
        fit_hand_eye(still, np.stack([invert(pose @ x) @ y for pose in still]))
    with pytest.raises(CalibrationError, match=r"do not fit|agree"):
        fit_hand_eye(world, np.stack([invert(pose) for pose in seen]))
    with pytest.raises(CalibrationError, match=r"do not fit|agree"):
        fit_hand_eye(world, seen, eye_in_hand=False)


def tum(poses: np.ndarray, begin_s: float = 0.0, comma: bool = False) -> str:
    lines = ["# t x y z qx qy qz qw"]
    for k, pose in enumerate(poses):
        vector = vector_from(pose[:3, :3])
        angle = float(np.linalg.norm(vector))
        parts = np.append(np.sin(angle / 2) * vector / max(angle, 1e-12), np.cos(angle / 2))
        numbers = [begin_s + 0.1 * k, *pose[:3, 3], *parts]
        lines.append((", " if comma else " ").join(f"{value:.12g}" for value in numbers))
    return "\n".join(lines) + "\n"


def test_poses_from_files(tmp_path: Path) -> None:
    world, _, _, _ = rig(5)
    (tmp_path / "a.tum").write_text(tum(world))
    (tmp_path / "a.csv").write_text("t,x,y,z,qx,qy,qz,qw\n" + tum(world, comma=True))
    rows = [{"t_s": 0.1 * k, "matrix": pose[:3].tolist()} for k, pose in enumerate(world)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    for name in ("a.tum", "a.csv", "a.json"):
        read = read_poses(str(tmp_path / name))
        assert np.allclose(read.matrices, world, atol=1e-9) and read.time_s[3] == pytest.approx(0.3)
    late = replace(read, time_s=read.time_s + 0.004, matrices=read.matrices[::1])
    one, other = paired(read, replace(late, time_s=late.time_s[2:], matrices=late.matrices[2:]), 0.01)
    assert np.allclose(one, world[2:]) and np.allclose(other, world[2:])
    with pytest.raises(CalibrationError, match=r"no pose of a.json .* is within 0.001 s of one of"):
        paired(read, late, 0.001)
    assert np.allclose(quaternion([0, 0, np.sqrt(0.5), np.sqrt(0.5)]), [[0, -1, 0], [1, 0, 0], [0, 0, 1]])


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.tum", "", "holds no poses"),
        ("a.tum", "0 0 0 0 0 0 0 1\n1 2 3\n", "a.tum:2: no pose (3 numbers)"),
        ("a.tum", "0 0 0 0 0 0 0 1\n1 0 0 nan 0 0 0 1\n", "a.tum:2: no pose"),
        ("a.tum", "0 0 0 0 0 0 0 5\n", "a quaternion of length 5"),
        ("a.tum", "1 0 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n", "time goes back at pose 2"),
        ("a.json", "{", "write t x y z"),
        ("a.json", '[{"matrix": [[2,0,0,0],[0,1,0,0],[0,0,1,0]]}]', "the matrix of pose 1 is no rotation"),
        ("a.json", '[{"pose": 1}]', "KeyError"),
    ],
)
def test_a_file_of_poses_that_cannot_be_read_is_refused(tmp_path: Path, name: str, content: str, says: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(CalibrationError) as caught:
        read_poses(str(tmp_path / name))
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world, seen, x, _ = rig(0)
    hand, board, out = (str(tmp_path / name) for name in ("hand.tum", "board.tum", "hand.yaml"))
    Path(hand).write_text(tum(world))
    Path(board).write_text(tum(seen, 0.002))
    page = tmp_path / "hand.html"
    arguments = ["calibrate", "handeye", "--hand", hand, "--board-poses", board, "-o", out]
    assert main([*arguments, "--report", str(page)]) == 0
    assert "hand_from_camera" in capsys.readouterr().out
    assert np.abs(off(Calibration.load(Path(out)).model("hand_from_camera", Transform).matrix, x)).max() < 5e-3
    assert "Rotation" in page.read_text() and "Translation" in page.read_text()
    Path(out).unlink()
    assert main([*arguments, "--apart", "0.001"]) == 1
    assert "--by-number" in capsys.readouterr().err and not Path(out).exists()
    assert main([*arguments, "--apart", "0.001", "--by-number"]) == 0
    assert main(["calibrate", "handeye", "--hand", hand, "-o", out]) == 1
    assert "the board's poses are wanted once" in capsys.readouterr().err


def test_poses_that_are_none_are_refused_in_a_line(tmp_path: Path) -> None:
    path = tmp_path / "hand.json"
    rows = [{"t_s": 0.0, "matrix": [[1, 0, 0, float("nan")], [0, 1, 0, 0], [0, 0, 1, 0]]}]
    path.write_text(json.dumps(rows), encoding="utf-8")
    with pytest.raises(CalibrationError, match="pose 1 has numbers that are not finite"):
        read_poses(str(path))
