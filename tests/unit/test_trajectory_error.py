"""Errors of trajectories: against an independent program, against geometry, and where they cannot be told."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.cli import main
from foveate.errors import FoveateError
from foveate.messages import Message, Pose, Stamp
from foveate_calibration.poses import Poses, read_poses
from foveate_calibration.rigid import rotation_from, transform
from foveate_logbook.formats.base import Log, Topic
from foveate_logbook.formats.listed import quaternion_of
from foveate_logbook.importing import import_log
from foveate_nodes.odometry.messages import EdgeMap, PoseEstimate
from foveate_nodes.odometry.trajectory_error import (
    Evaluation,
    How,
    TrajectoryError,
    alignment,
    associated,
    evaluated,
    fitted,
    pairs_of,
    relative_errors,
    turn_rad,
)
from foveate_nodes.odometry.trajectory_files import read_trajectory

DATA = Path(__file__).resolve().parents[1] / "data/trajectories"
TRUTH, SLAM = DATA / "freiburg1_xyz-groundtruth.txt", DATA / "freiburg1_xyz-rgbdslam.txt"


def walk(seed: int, count: int = 60, name: str = "truth", step_s: float = 0.1) -> Poses:
    """A smooth path that goes every way."""
    rng = np.random.default_rng(seed)
    turns = np.cumsum(rng.normal(0, 0.05, (count, 3)), axis=0)
    places = np.cumsum(rng.normal(0.03, 0.05, (count, 3)), axis=0)
    matrices = np.stack([transform(rotation_from(r), p) for r, p in zip(turns, places, strict=True)])
    return Poses(step_s * np.arange(count), matrices, name)


def shaken(poses: Poses, seed: int, sigma_m: float = 0.01) -> Poses:
    rng = np.random.default_rng(seed)
    noise = [transform(rotation_from(rng.normal(0, 0.01, 3)), rng.normal(0, sigma_m, 3)) for _ in poses.time_s]
    return Poses(poses.time_s, poses.matrices @ np.stack(noise), "estimate")


def moved(poses: Poses, motion: np.ndarray) -> Poses:
    return Poses(poses.time_s, motion @ poses.matrices, poses.name)


def positions(*places: tuple[float, float, float]) -> Poses:
    matrices = np.stack([transform(np.eye(3), np.array(place)) for place in places])
    return Poses(np.arange(len(places), dtype=np.float64), matrices, "path")


def numbers(found: Evaluation) -> list[float]:
    assert found.rpe_m is not None and found.rpe_deg is not None and found.drift_percent is not None
    return [found.ate_m.rmse, found.ate_m.median, found.rpe_m.rmse, found.rpe_deg.rmse, found.drift_percent]


motions = st.builds(
    lambda turn, shift: transform(rotation_from(np.array(turn)), np.array(shift)),
    st.lists(st.floats(-1.8, 1.8), min_size=3, max_size=3), st.lists(st.floats(-20, 20), min_size=3, max_size=3),
)  # fmt: skip
seeds = st.integers(0, 10_000)


# --- against an independent program ---------------------------------------------------------------------------------


def expected() -> dict[str, Any]:
    found: dict[str, Any] = json.loads((DATA / "expected.json").read_text())
    return found


def same(found: Any, wanted: dict[str, float]) -> None:
    for name, value in wanted.items():
        assert getattr(found, name) == pytest.approx(value, rel=1e-6, abs=1e-6), name


@pytest.mark.parametrize("align", ["se3", "sim3", "first"])
def test_absolute_errors_are_those_of_evo(align: Any) -> None:
    found = evaluated(read_poses(str(SLAM)), read_poses(str(TRUTH)), How(align=align))
    wanted = expected()[align]
    assert found.pairs == wanted["pairs"] and found.scale == pytest.approx(wanted["scale"])
    same(found.ate_m, wanted["ate_m"])
    same(found.ate_deg, wanted["ate_deg"])


@pytest.mark.parametrize("pairs", ["all", "consecutive"])
def test_relative_errors_are_those_of_evo(pairs: str) -> None:
    how = How(delta=4, unit="frames", consecutive=pairs == "consecutive")
    found = evaluated(read_poses(str(SLAM)), read_poses(str(TRUTH)), how)
    same(found.rpe_m, expected()[f"frames 4 {pairs}"]["rpe_m"])
    same(found.rpe_deg, expected()[f"frames 4 {pairs}"]["rpe_deg"])


def test_random_trajectories_have_the_errors_that_evo_tells() -> None:
    """Where the package is installed: it is no dependency."""
    core = pytest.importorskip("evo.core")
    from evo.core import metrics, trajectory

    assert core is not None
    for seed in range(4):
        truth, estimate = walk(seed), shaken(walk(seed), seed + 50)
        theirs = [trajectory.PoseTrajectory3D(poses_se3=list(p.matrices), timestamps=p.time_s)
                  for p in (truth, moved(estimate, transform(rotation_from(np.ones(3)), np.ones(3))))]  # fmt: skip
        scale = theirs[1].align(theirs[0], correct_scale=True)[2]
        ape = metrics.APE(metrics.PoseRelation.translation_part)
        ape.process_data(tuple(theirs))
        found = evaluated(estimate, truth, How(align="sim3"))
        assert found.scale == pytest.approx(scale)
        assert found.ate_m.rmse == pytest.approx(ape.get_all_statistics()["rmse"])


# --- geometry -------------------------------------------------------------------------------------------------------


@settings(max_examples=25, deadline=None)
@given(seeds, motions, motions)
def test_errors_do_not_change_when_either_world_is_moved(seed: int, one: np.ndarray, other: np.ndarray) -> None:
    truth = walk(seed)
    estimate = shaken(truth, seed + 1)
    before = evaluated(estimate, truth, How())
    after = evaluated(moved(estimate, one), moved(truth, other), How())
    assert numbers(after) == pytest.approx(numbers(before), rel=1e-6, abs=1e-9)


@settings(max_examples=25, deadline=None)
@given(seeds, motions, st.floats(0.05, 20))
def test_sim3_recovers_a_scale_and_se3_does_not_hide_it(seed: int, motion: np.ndarray, scale: float) -> None:
    truth = walk(seed)
    shrunk = truth.matrices.copy()
    shrunk[:, :3, 3] /= scale
    estimate = moved(Poses(truth.time_s, shrunk, "small"), motion)
    found = evaluated(estimate, truth, How(align="sim3"))
    assert found.scale == pytest.approx(scale) and found.ate_m.max < 1e-7 and found.ate_deg.max < 1e-4
    spread = np.sqrt(np.mean(np.sum((truth.matrices[:, :3, 3] - truth.matrices[:, :3, 3].mean(axis=0)) ** 2, axis=1)))
    left = evaluated(estimate, truth, How(align="se3")).ate_m.rmse
    assert left == pytest.approx(abs(1 - 1 / scale) * spread, rel=1e-6, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(seeds, st.lists(st.floats(-1, 1), min_size=7, max_size=7))
def test_no_alignment_nearby_is_better(seed: int, step: list[float]) -> None:
    rng = np.random.default_rng(seed)
    points, wanted = rng.normal(size=(12, 3)), rng.normal(size=(12, 3))

    def left(scale: float, matrix: np.ndarray) -> float:
        return float(np.sum((scale * points @ matrix[:3, :3].T + matrix[:3, 3] - wanted) ** 2))

    for scaled in (False, True):
        scale, matrix = fitted(points, wanted, scaled)
        assert np.linalg.det(matrix[:3, :3]) == pytest.approx(1)
        for size in (1.0, 1e-2):
            change = size * np.array(step)
            other = transform(rotation_from(change[:3]) @ matrix[:3, :3], matrix[:3, 3] + change[3:6])
            factor = scale * np.exp(change[6]) if scaled else 1.0
            assert left(scale, matrix) <= left(factor, other) + 1e-9


@pytest.mark.parametrize("consecutive", [False, True])
def test_a_known_drift_gives_known_errors(consecutive: bool) -> None:
    """2 % too far straight on, and 0.1 degrees a pose of turning that is not there."""
    count = 201
    truth = positions(*((0.05 * k, 0.0, 0.0) for k in range(count)))
    long = positions(*((0.051 * k, 0.0, 0.0) for k in range(count)))
    found = evaluated(long, truth, How(delta=1, unit="m", align="first", consecutive=consecutive))
    assert found.rpe_m is not None and found.rpe_m.min == pytest.approx(0.02) == found.rpe_m.max
    assert found.rpe_m.count == (10 if consecutive else 181)
    assert found.path_m == pytest.approx(10) and found.drift_percent == pytest.approx(2)
    assert found.ate_m.max == pytest.approx(0.2) and found.ate_deg.max == pytest.approx(0, abs=1e-6)
    turned = truth.matrices.copy()
    turned[:, :3, :3] = [rotation_from(np.radians([0, 0.1 * k, 0])) for k in range(count)]
    turning = Poses(truth.time_s, turned, "turning")
    for delta, unit, wanted in ((10, "frames", 1.0), (2, "s", 0.2), (0.5, "m", 1.0)):
        found = evaluated(turning, truth, How(delta=delta, unit=unit, align="none", consecutive=consecutive))  # type: ignore[arg-type]
        assert found.rpe_deg is not None and found.rpe_deg.rmse == pytest.approx(wanted)
    assert found.drift_deg_m == pytest.approx(2.0)
    back = evaluated(truth, turning, How(delta=np.radians(1), unit="rad", align="none", consecutive=consecutive))
    assert back.rpe_deg is not None and back.rpe_deg.max == pytest.approx(1.0)


def test_steps_seen_from_their_end_are_those_of_the_benchmarks_tool() -> None:
    """Its error is (P_j^-1 P_i)^-1 (Q_j^-1 Q_i): the norm of its shift differs where the turns do."""
    truth = walk(3)
    estimate = shaken(truth, 4)
    begin, end = np.arange(40), np.arange(40) + 12
    metres, radians = relative_errors(estimate.matrices, truth.matrices, end, begin)
    for k in (0, 7, 39):
        p_i, p_j, q_i, q_j = (m[at[k]] for m in (estimate.matrices, truth.matrices) for at in (begin, end))
        error = np.linalg.inv(np.linalg.inv(p_j) @ p_i) @ (np.linalg.inv(q_j) @ q_i)
        assert metres[k] == pytest.approx(float(np.linalg.norm(error[:3, 3])))
        assert radians[k] == pytest.approx(float(np.arccos((np.trace(error[:3, :3]) - 1) / 2)))
    one = evaluated(estimate, truth, How()).rpe_m
    other = evaluated(estimate, truth, How(backward=True)).rpe_m
    assert one is not None and other is not None and one.count == other.count and one.rmse != other.rmse


@settings(max_examples=50)
@given(st.floats(1e-9, 3.14), st.integers(0, 2))
def test_small_turns_are_told_as_well_as_large_ones(angle: float, axis: int) -> None:
    vector = np.zeros(3)
    vector[axis] = angle
    assert turn_rad(rotation_from(vector)[None])[0] == pytest.approx(angle, rel=1e-6, abs=1e-12)


# --- pairs ----------------------------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.lists(st.integers(0, 400), min_size=1, max_size=25, unique=True),
       st.lists(st.integers(0, 400), min_size=1, max_size=25, unique=True), st.integers(1, 40))  # fmt: skip
def test_the_nearest_pairs_are_taken_first_and_each_pose_once(one: list[int], other: list[int], most: int) -> None:
    mine, theirs = np.array(sorted(one)) * 0.001, np.array(sorted(other)) * 0.001
    every = sorted((abs(a - b), b, a, i, j) for i, a in enumerate(mine) for j, b in enumerate(theirs))
    wanted: list[tuple[int, int]] = []
    for off, _, _, i, j in every:
        if off < 0.001 * most and i not in [a for a, _ in wanted] and j not in [b for _, b in wanted]:
            wanted.append((i, j))
    found = associated(mine, theirs, 0.001 * most)
    assert list(zip(*(side.tolist() for side in found), strict=True)) == sorted(wanted)


@settings(max_examples=60)
@given(st.lists(st.floats(0.01, 1), min_size=2, max_size=40), st.floats(0.1, 5), st.booleans())
def test_pairs_are_a_step_apart_and_chains_do_not_overlap(steps: list[float], delta: float, chained: bool) -> None:
    gone = np.concatenate([[0.0], np.cumsum(steps)])
    begin, end = pairs_of(gone, delta, chained)
    assert (end > begin).all() and (np.abs(gone[end] - gone[begin] - delta) <= 0.1 * delta + 1e-12).all()
    if chained:
        assert (begin[1:] >= end[:-1]).all()


def test_time_is_paired_with_an_offset_and_what_is_covered_is_told() -> None:
    truth = walk(1, 100)
    late = Poses(truth.time_s[:50] + 7, truth.matrices[:50], "late")
    found = evaluated(late, truth, How(offset_s=-7.0))
    assert found.pairs == 50 and found.ate_m.max < 1e-9
    assert found.covered == pytest.approx(0.51, abs=0.011) and found.duration_s == pytest.approx(4.9)
    kept = np.r_[0:30, 70:100]  # lost in between
    found = evaluated(Poses(truth.time_s[kept], truth.matrices[kept], "gap"), truth, How())
    assert found.covered == pytest.approx(0.62, abs=0.01)
    assert found.rpe_m is not None and found.rpe_m.max < 1e-9
    assert found.rpe_m.count == 41  # 20 on either side of the gap; one more ends before it, a tenth of the step short


# --- what cannot be told --------------------------------------------------------------------------------------------


LINE = positions(*((float(k), 2.0 * k, 0.0) for k in range(6)))
PLACE = positions(*((1.0, 2.0, 3.0) for _ in range(6)))


@pytest.mark.parametrize(("estimate", "truth", "align", "words"), [
    (positions((0, 0, 0), (1, 0, 0)), positions((0, 0, 0), (1, 0, 0)), "se3", "path: alignment se3 needs 3 poses"),
    (LINE, LINE, "sim3", "sim3 is not determined: a path is a straight line; use --align se3 or first"),
    (PLACE, LINE, "sim3", "sim3 is not determined: a path stays at one place"),
    (Poses(LINE.time_s + 100, LINE.matrices, "late"), LINE, "se3", r"late: none of 6 poses within 0.02 s of one of "
     r"path: it has 100.000 to 105.000 s, the truth 0.000 to 5.000 s; --offset moves"),
])  # fmt: skip
def test_what_does_not_determine_an_alignment_is_refused(estimate: Poses, truth: Poses, align: Any, words: str) -> None:
    with pytest.raises(TrajectoryError, match=words):
        evaluated(estimate, truth, How(align=align))


def test_a_line_and_a_place_can_be_compared_without_a_scale_and_it_is_said() -> None:
    found = evaluated(LINE, LINE, How(unit="frames"))
    assert found.ate_m.max < 1e-9 and "straight line: the turn of the alignment is a guess" in found.notes[0]
    found = evaluated(shaken(PLACE, 1), PLACE, How())
    assert 0.001 < found.ate_m.rmse < 0.05 and found.drift_percent is None and "one place" in found.notes[0]
    found = evaluated(LINE, LINE, How(delta=1, unit="rad"))
    assert found.rpe_m is None and "no two poses are 1 rad apart" in found.notes[-1]


def test_a_mirror_image_is_named() -> None:
    truth = walk(8)
    mirror = np.diag([1.0, -1.0, 1.0, 1.0])
    notes = evaluated(Poses(truth.time_s, mirror @ truth.matrices @ mirror, "icl"), truth, How()).notes
    assert any("mirror image" in note for note in notes)
    assert not evaluated(shaken(truth, 1), truth, How()).notes


def test_orientations_of_other_axes_are_named() -> None:
    truth = walk(9)
    body = Poses(truth.time_s, truth.matrices @ transform(rotation_from(np.array([0, 0.5, 0])), np.zeros(3)), "body")
    assert any("off by the same 28.6 degrees" in note for note in evaluated(body, truth, How()).notes)


def test_an_alignment_that_is_not_fitted_is_what_it_says() -> None:
    truth, motion = walk(2), transform(rotation_from(np.array([0.3, 0.2, 0.1])), np.array([1.0, 2, 3]))
    fit = alignment(moved(truth, motion).matrices, truth.matrices, "first")
    assert np.allclose(fit.matrix @ motion, np.eye(4))
    assert evaluated(moved(truth, motion), truth, How(align="none")).ate_m.min > 1


# --- files ----------------------------------------------------------------------------------------------------------


def tum_text(poses: Poses, begin_s: float = 0.0, comma: bool = False) -> str:
    rows = [
        [t + begin_s, *m[:3, 3], *quaternion_of(m[:3, :3])] for t, m in zip(poses.time_s, poses.matrices, strict=True)
    ]
    return "\n".join(("," if comma else " ").join(f"{value:.12g}" for value in row) for row in rows) + "\n"


class Held(Log):
    """Poses as a log."""

    def __init__(self, poses: Poses, start_ns: int, device_ns: int) -> None:
        super().__init__(Path("held"))
        self.start_ns, self._poses, self._device_ns = start_ns, poses, device_ns
        self.topics = [Topic("/vo", "", len(poses), PoseEstimate), Topic("/truth", "", len(poses), Pose)]

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, Message]]:
        for time_s, matrix in zip(self._poses.time_s, self._poses.matrices, strict=True):
            t_ns = round(time_s * 1e9)
            values = (Stamp(t_ns), matrix[:3, 3].copy(), quaternion_of(matrix[:3, :3]))
            yield "/vo", t_ns, PoseEstimate(*values, device_ns=self._device_ns and self._device_ns + t_ns)
            yield "/truth", t_ns, Pose(*values)


def recorded(to: Path, poses: Poses, start_ns: int, device_ns: int = 0) -> Path:
    log = Held(poses, start_ns, device_ns)
    import_log(log, to, log.topics, lambda share: None)
    return to


def test_every_form_gives_the_same_trajectory(tmp_path: Path) -> None:
    poses = walk(5, 20)
    (tmp_path / "a.txt").write_text("# times, in seconds\n" + tum_text(poses))
    (tmp_path / "a.csv").write_text("t,x,y,z,qx,qy,qz,qw\n" + tum_text(poses, comma=True))
    rows = [{"t_s": t, "matrix": m.tolist()} for t, m in zip(poses.time_s, poses.matrices, strict=True)]
    (tmp_path / "a.json").write_text(json.dumps(rows))
    (tmp_path / "tum").mkdir()
    (tmp_path / "tum/groundtruth.txt").write_text(tum_text(poses))
    mcap = recorded(tmp_path / "a.mcap", poses, 0)
    for text in ("a.txt", "a.csv", "a.json", "tum", "a.mcap:vo.message", "a.mcap:truth.pose"):
        found = read_trajectory(str(tmp_path / text))
        assert np.allclose(found.time_s, poses.time_s, atol=1e-8) and np.allclose(found.matrices, poses.matrices)
    with pytest.raises(FoveateError, match=r"no poses in 'vo.pose'; known: .*name one of its streams of poses"):
        read_trajectory(f"{mcap}:vo.pose")


def test_recordings_tell_the_time_of_the_camera_or_of_their_own_run(tmp_path: Path) -> None:
    mcap = recorded(tmp_path / "run.mcap", walk(5, 20), 1_700_000_000 * 10**9, 1_305_031_102 * 10**9)
    assert read_trajectory(f"{mcap}:vo.message").time_s[0] == pytest.approx(1_305_031_102)
    assert read_trajectory(f"{mcap}:truth.pose").time_s[0] == pytest.approx(1_700_000_000)
    assert read_trajectory(f"{mcap}:vo.message", of_run=True).time_s[0] == 0
    assert main(["evaluate", "trajectory", f"{mcap}:vo.message", f"{mcap}:truth.pose"]) == 0


class Tracked(Held):
    """The same with what odometry says besides, and without the truth where `truth` is False."""

    def __init__(self, poses: Poses, truth: bool) -> None:
        super().__init__(poses, 1_700_000_000 * 10**9, 1_305_031_102 * 10**9)
        self.topics.append(Topic("/edges", "", 1, EdgeMap))
        self._truth = truth

    def messages(self, topics: Collection[str] | None = None) -> Iterator[tuple[str, int, Message]]:
        yield "/edges", 0, EdgeMap(Stamp(0), np.zeros((2, 3), np.float32), np.zeros(2, np.uint8), 7)
        yield from (item for item in super().messages(topics) if self._truth or item[0] != "/truth")


def test_what_odometry_records_can_be_shown_and_exported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    poses = walk(5, 20)
    for name, truth in (("run", True), ("alone", False)):
        log = Tracked(poses, truth)
        import_log(log, tmp_path / f"{name}.mcap", log.topics, lambda share: None)
    run, alone, out = (str(tmp_path / name) for name in ("run.mcap", "alone.mcap", "out.txt"))
    assert main(["log", "cat", run, "edges.message", "--count", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["keyframe"] == 7
    assert main(["log", "export", run, "tum", out, "--streams", "vo.message"]) == 0
    assert f"{out}: times are the camera's or log's own (device_ns)" in capsys.readouterr().out
    found = read_trajectory(out)  # at the times that the dataset has
    assert np.allclose(found.time_s, 1_305_031_102 + poses.time_s) and np.allclose(found.matrices, poses.matrices)
    for log_name, form, written, left in (
        (run, "tum", "truth.pose", "edges.message (EdgeMap), vo.message (PoseEstimate)"),  # the truth comes first
        (alone, "tum", "vo.message", "edges.message (EdgeMap), truth.pose (empty)"),
        (run, "ros2", "/vo/message geometry_msgs/msg/PoseStamped", "edges.message (EdgeMap)"),
        (alone, "csv", "edges.message.csv", "truth.pose (empty)"),
    ):
        place = tmp_path / f"{form} of {Path(log_name).stem}"
        assert main(["log", "export", log_name, form, str(place)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert any(written in line for line in lines[:-1]) and lines[-1] == f"left out of {form}: {left}"
    assert read_trajectory(str(tmp_path / "tum of run")).time_s[0] == pytest.approx(1_700_000_000)
    assert main(["log", "export", run, "tum", f"{out}2", "--streams", "vo.message,truth.pose"]) == 1
    assert "a TUM folder has one stream of Pose: leave out" in capsys.readouterr().err
    assert main(["log", "export", run, "images", f"{out}2"]) == 1
    assert "nothing to write: left out of images: edges.message (EdgeMap), truth.pose" in capsys.readouterr().err


def test_what_published_files_have_is_mended_and_counted(tmp_path: Path) -> None:
    """TUM's fr2/desk has a time twice; trackers that are lost write nan."""
    path = tmp_path / "a.txt"
    path.write_text("2 1 0 0 0 0 0 1\n1 0 0 0 0 0 0 1\n2 5 0 0 0 0 0 1\n3 nan 0 0 0 0 0 1\n4 9 0 0 0 0 0 1\n")
    found = read_trajectory(str(path))
    assert found.time_s.tolist() == [1, 2, 4] and found.matrices[:, 0, 3].tolist() == [0, 5, 9]
    assert found.note == "1 of 5 poses left out, not finite, 1 of 5 poses left out, of a time that comes again"
    path.write_text("1 nan 0 0 0 0 0 1\n")
    with pytest.raises(FoveateError, match="none of its 1 poses is finite"):
        read_trajectory(str(path))


def test_lost_poses_lengths_a_little_off_and_a_cut_end_are_mended_and_counted(tmp_path: Path) -> None:
    """TUM's tools read all of these."""
    path = tmp_path / "a.txt"
    path.write_text("1 0 0 0 0 0 0 1\n2 0 0 0 0 0 0 0\n3 5 0 0 0 0 0.6 0.816\n4 1 0 0 0 0 0 1\n5 1 0 0 0.1")
    found = read_trajectory(str(path))
    assert found.time_s.tolist() == [1, 3, 4] and found.matrices[:, 0, 3].tolist() == [0, 5, 1]
    assert found.matrices[1, :3, :3] @ found.matrices[1, :3, :3].T == pytest.approx(np.eye(3))
    assert found.note == (
        "1 of 4 poses left out, lost (quaternion 0), 1 of 3 quaternions made unit length, "
        "the last line left out, it is cut"
    )
    for text, words in (
        ("1 0 0 0 0 0 0 1\n2 1 0 0\n3 0 0 0 0 0 0 1\n", r"a.txt:2: no pose \(4 numbers\)"),
        ("1 0 0 0 0 0 0 1\n2 0 0 0 0 0 0 1.2\n", r"a.txt:2: no pose \(a quaternion of length 1.2\)"),
        ("1 0 0 0 0 0 0 0\n", r"holds no poses \(1 of 1 poses left out, lost"),
    ):
        path.write_text(text)
        with pytest.raises(FoveateError, match=words):
            read_trajectory(str(path))
    for line in ("2 0 0 0 0 0 0 0", "2 0 0 0 0 0 0 1.05", "2 0 0"):  # for a calibration all are errors
        path.write_text(f"1 0 0 0 0 0 0 1\n{line}")
        with pytest.raises(FoveateError, match=r"a\.txt:2: no pose"):
            read_poses(str(path))


# --- the command ----------------------------------------------------------------------------------------------------


def test_the_command_compares_estimates_in_a_table_a_page_and_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = walk(6)
    for name, poses in (("a", shaken(truth, 1)), ("b", shaken(truth, 2, 0.05))):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}/poses.txt").write_text(tum_text(poses))
    (tmp_path / "truth.txt").write_text(tum_text(truth))
    one, other, real = (str(tmp_path / name) for name in ("a/poses.txt", "b/poses.txt", "truth.txt"))
    page, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    options = ["--report", str(page), "--json", str(numbers), "--align", "sim3", "--unit", "m"]
    assert main(["evaluate", "trajectory", one, other, real, *options]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "estimate" and lines[1].startswith(one) and lines[2].startswith(other)
    told = json.loads(numbers.read_text())["estimates"]
    assert [each["name"] for each in told] == [one, other]
    assert told[0]["ate_m"]["rmse"] < told[1]["ate_m"]["rmse"] and f"{told[0]['ate_m']['rmse']:.6f}" in lines[1]
    text = page.read_text()
    assert text.count("<svg") == 5 and "http" not in text and "nan" not in text.lower().replace("nanosecond", "")
    assert one in text and f"{told[1]['scale']:.6f}" in text


def test_of_several_estimates_one_that_fails_has_a_row_with_the_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    truth = walk(6)
    for name, poses, begin_s in (("truth", truth, 0), ("good", shaken(truth, 1), 0), ("late", truth, 500)):
        (tmp_path / f"{name}.txt").write_text(tum_text(poses, begin_s))
    (tmp_path / "cut.txt").write_text("1 2 3\n4 0 0 0 0 0 0 1\n")
    late, cut, good, real = (str(tmp_path / f"{name}.txt") for name in ("late", "cut", "good", "truth"))
    page, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    arguments = [late, cut, good, real, "--json", str(numbers), "--report", str(page)]
    assert main(["evaluate", "trajectory", *arguments]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].startswith("good.txt") and "60/60" in lines[1] and len({line[:3] for line in lines[2:4]}) == 1
    rows = {line.split()[0]: line for line in lines[2:4]}
    assert "none of 60 poses within 0.02 s" in rows[late] and "cut.txt:1: no pose (3 numbers)" in rows[cut]
    told = json.loads(numbers.read_text())
    assert [each["name"] for each in told["estimates"]] == ["good.txt"] and set(told["failed"]) == {late, cut}
    assert "none of 60 poses within" in page.read_text() and "From above" not in page.read_text()
    page.unlink()
    assert main(["evaluate", "trajectory", late, cut, real, "--report", str(page)]) == 1
    assert "none of 60 poses" in capsys.readouterr().out and not page.exists()


def test_a_command_that_fails_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = walk(6)
    (tmp_path / "truth.txt").write_text(tum_text(truth))
    (tmp_path / "late.txt").write_text(tum_text(truth, 500))
    out = tmp_path / "numbers.json"
    arguments = [str(tmp_path / name) for name in ("late.txt", "truth.txt")]
    assert main(["evaluate", "trajectory", *arguments, "--json", str(out), "--report", str(tmp_path / "p.html")]) != 0
    assert "late.txt: none of 60 poses within 0.02 s" in capsys.readouterr().err
    assert not out.exists() and not (tmp_path / "p.html").exists()
    assert (
        main(["evaluate", "trajectory", arguments[1], arguments[1], "--json", str(tmp_path), "--report", str(out)]) != 0
    )
    assert f"{tmp_path}: cannot write: it is a folder" in capsys.readouterr().err and not out.exists()
    offsets = (["--offset", "nan"], ["--offset", "inf"])
    for wrong in (["--tolerance", "0"], ["--delta", "-1"], ["--align", "se2"], *offsets):
        with pytest.raises(SystemExit):
            main(["evaluate", "trajectory", *arguments, *wrong])
    capsys.readouterr()


def test_evaluate_lists_what_it_can(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    assert "trajectory" in capsys.readouterr().out


@pytest.mark.data
@pytest.mark.parametrize(("name", "count"), [("tum_fr1_rpy", 160), ("7scenes_redkitchen", 300), ("apc_box", 30)])
def test_folders_of_datasets_are_truths(shared_data: Path, name: str, count: int) -> None:
    found = read_trajectory(str(shared_data / "rgbd" / name))
    assert len(found) == count
    assert evaluated(found, found, How(unit="frames")).ate_m.max < 1e-9
