"""Where a scan looks: all of the volume, closely where there is something, and never while a mirror moves."""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveate.errors import EndOfStream, StateError
from foveate.messages import Frame, Gaze, MirrorState, Stamp
from foveate_calibration.document import Calibration, RigCalibration
from foveate_calibration.galvanometer import Galvanometer
from foveate_calibration.lens import Lens
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.steered_camera import SteeredCamera
from foveate_calibration.steered_laser import SteeredLaser
from foveate_calibration.two_mirror import TwoMirror
from foveate_drivers.cameras.base import Camera
from foveate_drivers.lasers.base import LineLaser
from foveate_drivers.mirrors.base import Mirror
from foveate_nodes.reconstruction import scan_pattern
from foveate_nodes.reconstruction.messages import Stripe
from foveate_nodes.reconstruction.scan_looks import Scan, Tour
from foveate_nodes.reconstruction.scan_planner import ScanPlanner

Array = NDArray[np.float64]

VOLUME = np.array([[-0.55, 0.55], [-0.65, 0.65], [1.675, 2.325]])
SMALL = (-0.2, 0.2, -0.15, 0.15, 1.9, 2.1)
PITCH = 4e-3
PERIOD_NS, EXPOSURE_NS = 8_333_333, 1_000_000
ERRORS = np.array([2e-3, -1e-3, 4e-4, -3e-4, 1e-3, 2e-4, 4e-3, 0.02, 1e-3])
DRAWN_LASER = Galvanometer(
    np.array([0.0, 1.0, 0.0]), np.array([0.8, 0.0, 0.0]), np.array([-(0.5**0.5), 0.0, 0.5**0.5])
)  # fmt: skip


def camera(errors: float = 1.0) -> SteeredCamera:
    drawn = TwoMirror()
    lens = Lens.from_matrix(
        np.array([[10_000.0, 0, 639.5], [0, 10_000.0, 511.5], [0, 0, 1]]), np.zeros(0), 1280, 1024
    )  # fmt: skip
    return SteeredCamera(
        lens, drawn.rig_from_bare_camera, tuple(m.stepped(errors * ERRORS) for m in drawn.galvanometers())
    )  # fmt: skip


def laser(errors: float = 1.0) -> SteeredLaser:
    return SteeredLaser(np.array([0.0, 0.0, 1.0, 0.0]), DRAWN_LASER.stepped(errors * ERRORS))


places = st.tuples(st.floats(-0.55, 0.55), st.floats(-0.65, 0.65), st.floats(1.675, 2.325)).map(np.array)


@settings(max_examples=30, deadline=None)
@given(places)
def test_aims_and_lights_are_on_the_point(place: Array) -> None:
    angle = scan_pattern.aim(camera(), place)
    assert np.allclose(camera().project(place[None], angle), [[639.5, 511.5]], atol=1e-5)
    light = scan_pattern.laser_angles(laser(), place)
    plane = laser().plane(light)
    assert abs(plane[:3] @ place - plane[3]) < 1e-9 and abs(light[0]) < 0.4
    assert np.allclose(scan_pattern.aim(camera(0.0), place), TwoMirror().aim(*place), atol=1e-9)
    assert scan_pattern.laser_angles(laser(0.0), place)[0] == pytest.approx(np.arctan2(place[0] - 0.8, place[2]) / 2)


def test_every_point_is_in_a_view_and_near_a_plane_that_is_seen_in_it() -> None:
    built, light = camera(), laser()
    points = np.random.default_rng(1).uniform(VOLUME[:, 0], VOLUME[:, 1], (3000, 3))
    points[:500] = np.where(points[:500] > VOLUME.mean(axis=1), VOLUME[:, 1], VOLUME[:, 0])  # corners
    missing = np.full(len(points), np.inf)
    for view in scan_pattern.views(built, VOLUME, 0.1):
        sweep = scan_pattern.sweep(built, light, view, VOLUME, PITCH)
        pixels = built.project(points, view)
        inside = ((pixels >= 0) & (pixels <= [1279, 1023])).all(axis=1)
        planes = np.array([light.plane(sweep.angle(n)) for n in range(sweep.first, sweep.last + 1)])
        off = np.abs(points[inside] @ planes[:, :3].T - planes[:, 3]).min(axis=1)
        missing[inside] = np.minimum(missing[inside], off)
    assert missing.max() <= PITCH / 2 * 1.01  # infinite for a point that no view holds


def test_planes_are_as_far_apart_as_asked_at_the_far_end() -> None:
    step = scan_pattern.pitch_step(laser(), VOLUME, PITCH)
    far = np.array([[-0.55, 0.0, 2.325]])
    angle = scan_pattern.laser_angles(laser(), far)
    plane = laser().plane(angle + step)
    assert 0.9 * PITCH < abs(far[0] @ plane[:3] - plane[3]) <= PITCH


@pytest.mark.parametrize("every", [1, 3, 8])
def test_coarse_and_fine_numbers_are_all_numbers(every: int) -> None:
    sweep = scan_pattern.Sweep(np.zeros(2), -37, 12, 1e-3)
    coarse = sweep.coarse(every)
    assert coarse[0] <= -37 and coarse[-1] >= 12 and set(np.diff(coarse)) <= {every}
    fine = sweep.fine(every, set(coarse))
    assert not set(fine) & set(coarse)
    assert set(range(-37, 13)) <= set(fine) | set(coarse)
    assert sweep.fine(every, set()) == []
    around = sweep.fine(8, {-16})
    assert around == [n for n in range(-23, -8) if n != -16]


def surface(depth: Callable[[Array, Array], Array]) -> Callable[[SteeredCamera, Array, Array], int]:
    """How many rows of a view see the light on the surface z = depth(x, y), nan = nothing there."""

    def rows(seen_by: SteeredCamera, view: Array, light: Array) -> int:
        plane = laser().plane(light)
        y = np.linspace(-0.7, 0.7, 1500)
        x = np.zeros_like(y)
        for _ in range(8):  # where the plane meets the surface
            z = depth(x, y)
            x = (plane[3] - plane[1] * y - plane[2] * z) / plane[0]
        points = np.column_stack([x, y, depth(x, y)])
        points = points[np.isfinite(points).all(axis=1)]
        pixels = seen_by.project(points, view) if len(points) else np.zeros((0, 2))
        return int(((pixels >= 0) & (pixels <= [1279, 1023])).all(axis=1).sum())

    return rows


def test_a_scan_looks_closely_only_where_there_is_a_surface() -> None:
    volume = np.array(SMALL).reshape(3, 2)

    def plate(x: Array, y: Array) -> Array:
        return np.where((x > -0.1) & (x < 0.0) & (np.abs(y) < 0.1), 2.0, np.nan)

    count = surface(lambda x, y: np.full_like(x, 2.0))
    built = camera()
    scan = Scan(built, laser(), volume, PITCH, 8, 0.1)
    done: dict[str, list[tuple[Array, Array]]] = {"coarse": [], "fine": []}
    while not scan.done:
        look = scan.next()
        if look is None:
            continue
        done[look.reason].append((look.view_rad, look.light_rad))
        if look.reason == "coarse":
            plane = laser().plane(look.light_rad)
            x = (plane[3] - plane[2] * 2.0) / plane[0]
            scan.saw(look.key, bool(-0.1 < x < 0.0) and count(built, look.view_rad, look.light_rad) > 20)
    everything = sum(s.last - s.first + 1 for s in scan.sweeps)
    assert 0 < len(done["fine"]) < 0.7 * everything
    assert len(done["coarse"]) < 0.25 * everything
    for x in np.linspace(-0.09, -0.01, 9):  # each place of the plate is near a plane that was shone there
        point = np.array([x, 0.0, plate(np.array([x]), np.array([0.0]))[0]])
        off = []
        for view, light in done["coarse"] + done["fine"]:
            pixel = built.project(point[None], view)[0]
            if (pixel >= 0).all() and (pixel <= [1279, 1023]).all():
                plane = laser().plane(light)
                off.append(abs(point @ plane[:3] - plane[3]))
        assert min(off) <= PITCH / 2 * 1.01


def test_what_a_coarse_sweep_did_not_hear_of_counts_as_seen() -> None:
    scan = Scan(camera(), laser(), np.array(SMALL).reshape(3, 2), PITCH, 8, 0.1)
    looks = []
    for _ in range(20_000):
        if scan.done:
            break
        looks.append(scan.next())
    fine = sum(look is not None and look.reason == "fine" for look in looks)
    coarse = sum(look is not None and look.reason == "coarse" for look in looks)
    assert scan.done and fine + coarse >= sum(s.last - s.first + 1 for s in scan.sweeps)


def test_a_tour_stays_where_the_board_is() -> None:
    built = camera()
    board = np.array([0.25, -0.3, 2.1])
    tour = Tour(built, laser(), VOLUME, 15)
    tour.begin(0)
    shown, looks = [], []
    for _ in range(200):
        look = tour.next()
        if look is None:
            break
        pixel = built.project(board[None], look.view_rad)[0]
        # a board of 0.5 x 0.4 m: 2,400 x 1,900 pixels
        sees = abs(pixel[0] - 640) < 640 + 800 and abs(pixel[1] - 512) < 512 + 600
        looks.append(look)
        shown.append(sees)
        tour.noted(look.key, 20.0 if sees else 1.0, 6.0)
    assert 15 <= sum(shown) <= 17 and len(looks) < 60
    angles = np.array([look.view_rad for look, sees in zip(looks, shown, strict=True) if sees])
    assert len(np.unique(angles.round(6), axis=0)) >= 9  # from many sides, not one picture again and again
    assert not shown[-1]  # and then it looks away
    tour.begin(1)
    assert tour.next() is not None


class Lensed(Camera):
    uri = "test:camera"

    def __init__(self) -> None:
        self.pinhole = Pinhole.from_field(1280, 1024, 0.1279)
        self.period_ns = PERIOD_NS


class Galvo(Mirror):
    """Settles in 0.5 ms and 10 ms a radian."""

    uri = "test:mirror"

    def __init__(self, axes: int, limit: float = 0.35) -> None:
        self.axes = axes
        self.limit_rad = np.full(axes, limit)
        if axes == 2:
            self.geometry = TwoMirror()
            self.galvanometers = self.geometry.galvanometers()
        else:
            self.galvanometers = (DRAWN_LASER,)

    def settle_s(self, step_rad: Array) -> Array:
        return 5e-4 + 0.2 * np.asarray(step_rad)


class Light(LineLaser):
    uri = "test:laser"
    sheet = np.array([0.0, 0.0, 1.0, 0.0])


def planner(**parameters: object) -> ScanPlanner:
    kept = {"volume": SMALL, "pitch": 0.01, **parameters}
    return ScanPlanner(camera=Lensed(), mirror=Galvo(2), laser=Light(), laser_mirror=Galvo(1), **kept)  # type: ignore[arg-type]


class Bench:
    """Moves mirrors as they are told, and shows what a camera over them would see; frame k arrives before k + 1."""

    def __init__(self, node: ScanPlanner, board: Callable[[int, Array], bool] | None = None) -> None:
        self.node, self.board = node, board
        self.at = {"view": np.zeros(2), "light": np.zeros(1)}
        self.moves: list[tuple[int, str, Gaze]] = []
        self.reasons: list[str] = []
        self.exposed: list[tuple[int, Array, Array, bool]] = []
        self.stripe: Stripe | None = None
        self.over = False  # the planner has ended the run
        self.rows = surface(lambda x, y: np.full_like(x, 2.0))

    def run(self, frames: int, calibration: RigCalibration | None = None, from_seq: int = 0) -> None:
        for seq in range(from_seq, from_seq + frames):
            t_ns = seq * PERIOD_NS
            begin, end = t_ns - EXPOSURE_NS // 2, t_ns + EXPOSURE_NS // 2
            smeared = False
            for start, name, gaze in list(self.moves):
                if start < end:
                    step = np.abs(gaze.angle_rad - self.at[name]).max()
                    rest = start + round(float(Galvo(2).settle_s(step)) * 1e9) if step else start
                    smeared |= rest > begin
                    self.at[name] = gaze.angle_rad
                    self.moves.remove((start, name, gaze))
            self.exposed.append((t_ns, self.at["view"], self.at["light"], smeared))
            try:
                self._arrive(seq, t_ns, smeared, calibration)
            except EndOfStream:
                self.over = True
                return

    def _arrive(self, seq: int, t_ns: int, smeared: bool, calibration: RigCalibration | None) -> None:
        seen = self.board is not None and self.board(t_ns, self.at["view"])
        image = np.full((64, 64), 20 if seen else 1, np.uint8)
        mirror = MirrorState(Stamp(t_ns), self.at["view"], smeared, "readback")
        gazes = self.node.step(
            Frame(Stamp(t_ns, EXPOSURE_NS), image, "Mono8", seq, mirror=mirror), self.stripe, calibration
        )
        count = 0 if smeared else self.rows(camera(0.0), self.at["view"], self.at["light"])
        self.stripe = Stripe(
            Stamp(t_ns), np.zeros((count, 2)), np.zeros(count, np.float32), np.zeros((count, 2), np.float32),
            np.zeros(count, np.float32), np.zeros(count, np.uint8), 1280, 1024, seq, mirror,
        )  # fmt: skip
        for name, gaze in (gazes or {}).items():
            self.moves.append((gaze.not_before_ns, name, gaze))
            self.reasons.append(gaze.reason)


def test_mirrors_rest_in_every_exposure_that_counts() -> None:
    bench = Bench(planner(boards=0))
    bench.run(900)
    assert {"coarse", "fine"} <= set(bench.reasons)
    smeared = sum(exposed[3] for exposed in bench.exposed)
    # a move from view to view takes longer than the 7.3 ms between exposures: one frame is lost there
    views = len({tuple(exposed[1]) for exposed in bench.exposed})
    assert smeared <= 2 * views


def test_a_scan_ends_says_so_once_and_ends_the_run() -> None:
    bench = Bench(planner(boards=0))
    bench.run(2500)
    assert bench.over
    assert bench.reasons.count("done") == 2 and bench.reasons[-1] == "done"  # one for each mirror
    assert np.array_equal(bench.at["view"], np.zeros(2)) and not bench.moves
    assert set(bench.reasons) <= {"coarse", "fine", "hold", "done"}


def test_a_tour_goes_on_until_there_is_a_calibration() -> None:
    built = camera(0.0)

    def board(t_ns: int, view: Array) -> bool:
        pixel = built.project(np.array([[0.1, 0.05, 2.0]]), view)[0]
        return t_ns < 2e9 and bool(np.abs(pixel - [640, 512]).max() < 1400)

    bench = Bench(planner(boards=2, dwell=1.0, looks=12), board)
    bench.run(360)
    assert set(bench.reasons) == {"tour", "hold"}
    good = [e for e in bench.exposed if not e[3] and board(e[0], e[1])]
    assert len(good) >= 24
    known = RigCalibration(Stamp(0), Calibration({"camera": camera(), "laser": laser()}).text())
    bench.run(100, known, 360)
    assert "coarse" in bench.reasons


def test_mirrors_at_rest_are_told_again_before_they_park() -> None:
    node = planner(boards=1, dwell=1e-3)  # its only placement is over at the second frame
    told: list[int] = []
    for seq in range(2, 60):
        gazes = node.step(
            Frame(Stamp(seq * PERIOD_NS, EXPOSURE_NS), np.zeros((16, 16), np.uint8), "Mono8", seq), None, None
        )
        told += [seq * PERIOD_NS] if gazes and "view" in gazes else []
    deadline_ns = Galvo(2).deadline_s * 1e9
    assert len(told) > 3 and max(np.diff(told)) < 0.6 * deadline_ns


def test_a_restarted_planner_goes_on_where_it_was() -> None:
    first = Bench(planner(boards=0))
    first.run(60)
    other = planner(boards=0)
    other.load_state_dict(copy.deepcopy(first.node.state_dict()))
    frame = Frame(Stamp(60 * PERIOD_NS, EXPOSURE_NS), np.zeros((16, 16), np.uint8), "Mono8", 60)
    one, two = first.node.step(frame, first.stripe, None), other.step(frame, first.stripe, None)
    assert (one is None) == (two is None)
    for name in one or {}:
        assert two is not None and np.array_equal(one[name].angle_rad, two[name].angle_rad)  # type: ignore[index]


def test_a_volume_beyond_the_mirrors_is_refused() -> None:
    node = ScanPlanner(
        camera=Lensed(), mirror=Galvo(2, 0.05), laser=Light(), laser_mirror=Galvo(1),
        volume=tuple(VOLUME.ravel()), boards=0,
    )  # fmt: skip
    with pytest.raises(StateError, match=r"scan the whole volume.*has \[0.05, 0.05\] rad"):
        node.step(Frame(Stamp(0), np.zeros((16, 16), np.uint8), "Mono8", 0), None, None)
    assert [p.parameter for p in ScanPlanner.check(volume=(0.0, 1.0))] == ["volume"]
    assert "z0" in next(iter(ScanPlanner.check(volume=(0.0, 1.0, 0.0, 1.0, -1.0, 1.0)))).text
