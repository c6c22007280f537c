"""The twin of a light-section scanner: pictures against rays, distances against hits, speckle against its law."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("numba", reason="the bench is traced by numba (extra scan)")

from foveate.catalog import load
from foveate.clock import VirtualClock
from foveate.errors import NotSupported, OutOfRange
from foveate_calibration.steered_laser import SteeredLaser
from foveate_calibration.two_mirror import TwoMirror
from foveate_drivers.cameras.sim import SimCamera
from foveate_drivers.lasers.sim import SimLaser
from foveate_drivers.mirrors.imperfect import Imperfections
from foveate_drivers.mirrors.sim import SimMirror
from foveate_drivers.world import bench as bench_file
from foveate_drivers.world import solids, speckle
from foveate_drivers.world.base import Part, World
from foveate_drivers.world.bench import Bench
from foveate_drivers.world.bench_layout import stations
from foveate_drivers.world.eye import normalised
from tests.scanner_rig import aim_camera, aim_laser

# 10 s, and as much again to compile; the scan report holds the same solids in every run
pytestmark = pytest.mark.heavy

SIZE, CENTER = np.array([1.1, 1.3, 0.65]), np.array([0.0, 0.0, 2.0])


class Rig:
    """A world, both mirrors, the laser and a camera that sees a part of what the scanner's does, as machined."""

    def __init__(self, *, width: int = 320, height: int = 256, blur: float = 0.8, **world: object) -> None:
        self.world = World(**{"scene": "bench", "boards": 8, "speckle": 0.0, **world})  # type: ignore[arg-type]
        self.head = SimMirror(seed=11, misalignment=1, scanner="galvo10", limit=0.2)
        self.turn = SimMirror(axes=1, seed=12, misalignment=1, scanner="galvo10", limit=0.35)
        self.laser = SimLaser(world=self.world, through=self.turn, misalignment=1, seed=13, level=240.0)
        self.camera = SimCamera(
            address="scan", world=self.world, through=self.head, width=width, height=height, blur=blur,
            field=2 * float(np.arctan(width / 2 / 1e4)), misalignment=1, seed=14, vignetting=0.0,
        )  # fmt: skip
        self.clock = VirtualClock()

    @property
    def bench(self) -> Bench:
        assert self.world.bench is not None
        return self.world.bench

    def aim(self, point_m: np.ndarray, beside_m: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Commands that put a point in the middle of the image, and the light beside it."""
        light = aim_laser(self.laser.true_laser, point_m + [beside_m, 0, 0])
        return aim_camera(self.camera.true_camera, point_m), np.array([light])

    def light(self, view: np.ndarray, light: np.ndarray | None = None, placement: int | None = None) -> np.ndarray:
        """The picture without noise."""
        beams = [] if light is None else [[self.laser.beam(light, 0.5)]]
        return self.bench.picture(self.camera.eye, view[None], beams, placement)

    def start(self) -> None:
        for device in (self.world, self.head, self.turn, self.laser, self.camera):
            device.open(self.clock)

    def frame(self, view: np.ndarray, light: np.ndarray, power: float) -> np.ndarray:
        """The next frame whose exposure begins when both mirrors have come to rest."""
        moved_ns = self.clock.now_ns()
        while True:
            self.head.goto(view), self.turn.goto(light), self.laser.emit(power)
            self.clock.advance(self.camera.due_ns())
            frame = self.camera.read(0.0)
            if frame.stamp.t_ns > moved_ns + 10_000_000:
                return frame.image


@cache
def rig(contrast: float = 0.0, grain: float = 2.0) -> Rig:
    return Rig(speckle=contrast, grain=grain)


@cache
def layout() -> bench_file.Layout:
    return stations(1, SIZE, CENTER, 5, 5)


def parts(kind: str) -> list[Part]:
    return [part for part in rig().bench.layout.parts if part.kind == kind]


# geometry of the solids


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6))
def test_rays_end_on_the_surface_and_nowhere_before(seed: int) -> None:
    table, capsules = layout().table, layout().capsules
    rng = np.random.default_rng(seed)
    origins = rng.uniform([-0.2, -0.2, -0.1], [0.9, 0.2, 0.1], (20, 3))
    targets = np.array([part.center_m for part in layout().parts])[rng.integers(0, len(layout().parts), 20)]
    targets[:6] = next(part.center_m for part in layout().parts if part.kind == "free_form")
    rays = targets + rng.normal(0, 0.05, (20, 3)) - origins
    rays /= np.linalg.norm(rays, axis=1, keepdims=True)
    found, far = np.empty(20, np.int64), np.empty(20)
    solids.hits(table, capsules, origins, rays, found, far)
    assert (found >= 0).all() and (far < 10).all()  # at the latest the wall
    surface = rig().bench.surface(None)
    assert np.abs(surface.distance(origins + far[:, None] * rays)).max() < 1e-6
    for share in np.linspace(0.5, 0.999, 25):
        assert (surface.distance(origins + share * far[:, None] * rays) > 0).all()


def test_the_distance_to_the_free_form_is_that_to_its_nearest_point() -> None:
    (form,) = parts("free_form")
    surface = rig().bench.surface(None)
    rng = np.random.default_rng(1)
    away = rng.normal(size=(20000, 3))
    away /= np.linalg.norm(away, axis=1, keepdims=True)
    found, far = np.empty(len(away), np.int64), np.empty(len(away))
    table = layout().table[form.index : form.index + 1]
    solids.hits(table, layout().capsules, form.center_m + 0.3 * away, -away, found, far)
    skin = (form.center_m + (0.3 - far)[:, None] * away)[found == 0]
    some = skin[::97]
    for off in (-0.004, 0.004, 0.015):  # along the normal, found by differences
        slope = np.stack([surface.distance_of(form.index, some + 1e-5 * e) for e in np.eye(3)], axis=1) / 1e-5
        points = some + off * slope / np.linalg.norm(slope, axis=1, keepdims=True)
        told = surface.distance_of(form.index, points)
        nearest = np.array([np.linalg.norm(skin - point, axis=1).min() for point in points])
        assert (np.abs(told) <= nearest + 2e-6).all()  # never further than the skin
        if abs(off) > 0.005:
            continue  # so far away it is a bound
        assert np.median(nearest - np.abs(told)) < 2e-4
        assert (np.sign(told) == np.sign(off)).mean() > 0.95 and np.abs(np.abs(told) - abs(off)).max() < 2e-3


def test_distances_say_what_the_parts_say() -> None:
    surface = load("drivers", "truth.sim")(scene="bench").surface(0)  # as a report makes it: never opened
    assert surface is not None
    kinds = {part.kind for part in surface.parts}
    assert kinds == {"plane", "block", "sphere", "free_form"} and len(surface.parts) == 1 + 2 * 24
    heights = {round(part.height_m, 6) for part in surface.parts if part.kind == "block"}
    assert heights == {0.005, 0.010, 0.020, 0.050, 0.100}
    for part in surface.parts:
        if part.kind == "block":
            top = part.center_m - part.rotation[:, 2] * part.height_m
            assert abs(surface.distance(top[None])[0]) < 1e-12
            assert part.plate is not None
            plate = surface.parts[part.plate]
            beside = plate.center_m + plate.rotation[:, 0] * 0.04
            assert abs(surface.distance(beside[None])[0]) < 1e-12
            assert np.isclose(surface.distance_of(plate.index, top[None])[0], part.height_m)
        if part.kind == "sphere":
            over = part.center_m - part.rotation[:, 2] * (part.radius_m + 0.003)
            assert np.isclose(surface.distance_of(part.index, over[None])[0], 0.003)
    assert World(scene="bench", boards=2).surface(0).parts[0].name == "board"  # type: ignore[union-attr]


@pytest.mark.parametrize("seed", range(4))
def test_the_solids_fill_the_volume_and_do_not_hide_each_other(seed: int) -> None:
    made = stations(seed, SIZE, CENTER, 5, 5)
    plates = [part for part in made.parts if part.kind == "plane"]
    centers = np.array([part.center_m for part in plates])
    assert (np.ptp(centers, axis=0) > [0.9, 1.05, 0.45]).all()
    assert (np.abs(centers - CENTER) + [0.06, 0.07, 0] < SIZE / 2).all()
    surface = bench_file.BenchSurface(made, made.parts)
    for part in plates:
        corners = [
            part.center_m + part.rotation[:, :2] @ (part.size_m[:2] * s / 2.2) for s in ([1, 1], [-1, 1], [1, -1])
        ]
        for origin in (np.zeros(3), np.array([0.8, 0, 0])):
            for corner in corners:
                way = origin + np.linspace(0.5, 0.98, 60)[:, None] * (corner - origin)
                others = [p.index for p in plates if p is not part]
                assert min(surface.distance_of(k, way).min() for k in others) > 0
    assert len(surface.parts) == 49


# pictures


@pytest.mark.parametrize("placement", range(3))
def test_corners_are_in_the_picture_where_the_board_has_them(placement: int) -> None:
    board, pose = rig().bench.board, rig().bench.rig_from_board(placement)
    assert board is not None
    x0, y0, x1, y1 = board.sheet_m
    big = Rig(width=640, height=512)
    view, _ = big.aim(pose[:3, :3] @ [(x0 + x1) / 2, (y0 + y1) / 2, 0] + pose[:3, 3])
    found = board.detect(np.clip(5 * big.light(view, placement=placement), 0, 255).astype(np.uint8))
    assert found is not None
    points = board.points_m[found[0]] @ pose[:3, :3].T + pose[:3, 3]
    off = found[1] - big.camera.true_camera.project(points, view)
    assert len(off) >= 6
    assert np.abs(off.mean(axis=0)).max() < 0.02 and np.linalg.norm(off, axis=1).mean() < 0.035, off


def centers_of(image: np.ndarray, background: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of a bright line, by the centre of gravity, without noise."""
    light = np.clip(image - background - 0.2, 0, None).astype(float)
    rows = np.flatnonzero(light.max(axis=1) > 20)
    return rows, (light[rows] @ np.arange(image.shape[1])) / light[rows].sum(axis=1)


def on_surface(made: Rig, view: np.ndarray, pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points and indices of the solids that pixels look at, each by a ray of its own."""
    origin, rays = made.camera.true_camera.rays(pixels, view)
    found, far = np.empty(len(rays), np.int64), np.empty(len(rays))
    here = made.bench.layout
    solids.hits(here.table, here.capsules, np.tile(origin, (len(rays), 1)), rays, found, far)
    return origin + far[:, None] * rays, found


@pytest.mark.parametrize("kind", ["plane", "sphere", "free_form"])
def test_the_stripe_lies_where_the_lasers_plane_meets_the_solid(kind: str) -> None:
    for part in parts(kind)[:4]:
        beside = part.rotation[:, :2] @ [0.0, part.size_m[1] * 0.4] if kind == "plane" else np.zeros(3)
        view, light = rig().aim(part.center_m + beside, 0.002)
        rows, columns = centers_of(rig().light(view, light), rig().light(view))
        assert len(rows) > 60
        points, on = on_surface(rig(), view, np.column_stack([columns, rows]))
        plane = rig().laser.true_laser.plane(light)
        off = points[on == part.index] @ plane[:3] - plane[3]
        assert len(off) > 40 and np.abs(np.median(off)) < 1e-5 and np.quantile(np.abs(off), 0.7) < 3e-5


def test_only_the_pixels_near_the_stripe_are_traced_and_none_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    for part in [*parts("block")[:5], *parts("sphere")[:2], *parts("free_form")]:
        view, light = rig().aim(part.center_m, 0.01)
        near = rig().light(view, light)
        seen.append(float(rig().camera.eye.mask.mean()))
        with monkeypatch.context() as patch:
            patch.setattr(bench_file.stripe_light, "mark", lambda *args: args[-1].fill(1))
            everything = rig().light(view, light)
        traced = rig().camera.eye.light  # cleared after use
        assert traced.max() == 0
        lit = everything - rig_dim(view)
        missed = np.abs(everything - near)[(near < everything - 0.5) & (lit > 0.5)]
        assert len(missed) == 0 or missed.max() < 0.5, part.name
    assert max(seen) < 0.35


def rig_dim(view: np.ndarray) -> np.ndarray:
    """The whole picture without the laser, every pixel traced."""
    made = rig()
    height, width = made.camera.eye.light.shape
    pixels = (
        np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), 2).reshape(-1, 2).astype(np.int32)
    )
    return made.bench._seen(made.camera.eye, made.bench.layout, view, pixels, None).dim.reshape(height, width)


def test_a_block_hides_its_plate_from_the_laser_and_from_the_camera() -> None:
    block = next(part for part in parts("block") if part.height_m == 0.1)
    side = block.size_m[0] / 2
    dark = lit = 0
    for across in np.linspace(-2.3, 2.3, 15) * side:
        spot = block.center_m + block.rotation[:, 0] * across
        view, light = rig().aim(spot)
        beam = rig().laser.beam(light, 0.5)
        stripe = rig().light(view, light) - rig_dim(view)
        pixel = np.rint(rig().camera.true_camera.project(spot[None], view)[0]).astype(int)
        points, on = on_surface(rig(), view, pixel[None].astype(float))
        if np.linalg.norm(points[0] - spot) > 1e-3:
            assert on[0] == block.index  # the camera looks at the block, not at what is behind it
            continue
        way = points[0] + np.linspace(1e-4, 0.2, 4000)[:, None] * (beam.source_m - points[0])
        blocked = bool((rig().bench.surface(None).distance_of(block.index, way) < 0).any())
        level = stripe[pixel[1] - 1 : pixel[1] + 2, pixel[0] - 1 : pixel[0] + 2].max()
        assert level < 2 if blocked else level > 20, (across, level)
        dark, lit = dark + blocked, lit + (not blocked)
    assert dark >= 2 and lit >= 3


def test_light_falls_with_incidence_and_distance_and_ends_at_255() -> None:
    plates = parts("plane")[:8]
    for part in plates:
        spot = part.center_m + part.rotation[:, 1] * part.size_m[1] * 0.4
        view, light = rig().aim(spot)
        beam = rig().laser.beam(light, 0.5)
        way = beam.source_m - spot
        r = float(np.linalg.norm(way))
        albedo = rig().bench.layout.table[part.index, solids.ALBEDO]
        spread = beam.waist_m * np.hypot(1, (r - beam.waist_at_m) / beam.rayleigh_m)
        wanted = beam.level * beam.waist_at_m / r * beam.waist_m / spread * albedo * abs(way @ part.rotation[:, 2]) / r
        peak = (rig().light(view, light) - rig_dim(view))[118:138].max()
        assert 0.9 * wanted < peak <= 1.001 * wanted  # the lens' blur takes 5 % of a line 6 px wide
    frame = rig().camera.shot(view, [rig().laser.beam(light, 40.0)])
    assert frame.max() == 255 and (frame == 255).sum() > 500


# speckle


def test_speckle_has_the_contrast_and_the_grain_that_were_asked_for() -> None:
    for contrast in (0.25, 0.4, 0.5, 1.0):
        field = speckle.field(contrast, 3)
        assert field.mean() == pytest.approx(1, abs=0.01) and field.std() == pytest.approx(contrast, rel=0.04)
        skew = float(((field - 1) ** 3).mean()) / contrast**3
        assert skew == pytest.approx(2 * contrast, rel=0.2)  # of a gamma distribution
        power = np.abs(np.fft.fft2(field - field.mean())) ** 2
        likeness = np.fft.ifft2(power).real
        likeness /= likeness[0, 0]
        half = speckle.PER_GRAIN // 2  # the width at half height is one grain: half of it either side
        assert likeness[0, half] == pytest.approx(0.5, abs=0.06) and likeness[half, 0] == pytest.approx(0.5, abs=0.06)
    assert (speckle.field(0.0, 3) == 1).all()


def steger_error_px(contrast: float, grain: float, sigma: float = 3.5) -> float:
    """Of Steger's line detector over some plates, against the same line without speckle and noise."""
    made, off = rig(contrast, grain), []
    taps = np.arange(-14, 15)
    smooth = np.exp(-0.5 * (taps / sigma) ** 2)
    smooth /= smooth.sum()
    first, second = taps / sigma**2 * smooth, ((taps / sigma**2) ** 2 - 1 / sigma**2) * smooth
    for part in parts("plane")[:6]:
        spot = part.center_m + part.rotation[:, 1] * part.size_m[1] * 0.36
        view, light = made.aim(spot)
        for step in (-4e-4, 0.0, 4e-4):
            beam = made.laser.beam(light + step, 0.5)
            found = []
            for image in (
                made.camera.shot(view, [beam], index=len(off)).astype(np.float32),
                rig().bench.picture(rig().camera.eye, view[None], [[beam]]),
            ):
                by_x, by_xx = (cv2.sepFilter2D(image, cv2.CV_32F, kernel, smooth)[40:200] for kernel in (first, second))
                column = by_xx[:, 20:-20].argmin(axis=1) + 20
                rows = np.arange(len(column))
                found.append(column - by_x[rows, column] / by_xx[rows, column])
            off.append(found[0] - found[1])
    errors = np.concatenate(off)
    return float(errors[np.abs(errors) < 3].std())


def test_speckle_decides_how_well_a_line_is_found() -> None:
    """Measured elsewhere for 16 looks (contrast 0.25): 0.065, 0.12 and 0.20 px for grains of 1, 2 and 4 px."""
    without = steger_error_px(0.0, 2.0)
    found = [steger_error_px(0.25, grain) for grain in (1.0, 2.0, 4.0)]
    print("Steger, px:", without, found)
    assert without < 0.03
    assert found == pytest.approx([0.065, 0.12, 0.20], rel=0.35)


def test_the_grain_stays_until_something_moves() -> None:
    made = rig(0.5)
    part = parts("plane")[0]
    view, light = made.aim(part.center_m + part.rotation[:, 1] * part.size_m[1] * 0.4)
    light = np.round(light / 1e-4) * 1e-4
    smooth = rig().light(view, light)

    def grain(view: np.ndarray, light: np.ndarray, clean: np.ndarray) -> np.ndarray:
        return ((made.light(view, light) - clean) / np.maximum(clean, 1))[100:156]

    first = grain(view, light, smooth)
    seen = np.abs(first).max(axis=0) > 0.1
    assert (first == grain(view, light, smooth)).all()  # again: it does not average out
    trembled = grain(view + 1e-6, light + 3e-6, rig().light(view + 1e-6, light + 3e-6))
    assert np.corrcoef(first[:, seen].ravel(), trembled[:, seen].ravel())[0, 1] > 0.9
    moved = grain(view, light + 1e-4, rig().light(view, light + 1e-4))
    assert np.corrcoef(first[:, seen].ravel(), moved[:, seen].ravel())[0, 1] < 0.3


# the devices


def test_the_same_seed_gives_the_same_bytes_and_another_another() -> None:
    def run(**world: object) -> list[np.ndarray]:
        made = Rig(boards=1, dwell=0.05, **world)
        made.start()
        spot = parts("plane")[0].center_m
        view, light = made.aim(spot)
        return [made.frame(view, light + 1e-4 * k, 0.6) for k in range(4)]

    first, again = run(speckle=0.5), run(speckle=0.5)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert all((a != b).any() for a, b in zip(first, run(speckle=0.5, seed=2), strict=True))
    assert all((a != b).any() for a, b in pairwise(first))


def test_a_frame_is_what_a_shot_at_the_same_angles_is() -> None:
    made = Rig(boards=0)
    made.start()
    view, light = made.aim(parts("plane")[0].center_m)
    frame = made.frame(view, light, 0.5).astype(float)
    shot = made.camera.shot(view, [made.laser.beam(light, 0.5)]).astype(float)
    assert np.abs(frame.mean(axis=0).argmax() - shot.mean(axis=0).argmax()) <= 1
    assert np.abs(cv2.blur(frame - shot, (9, 9))).mean() < 1.0
    dark = made.frame(view, light, 0.0)
    assert dark.max() < frame.max() - 60


def test_what_moves_in_the_exposure_smears() -> None:
    made = rig()
    board_view, _ = made.aim(
        made.bench.rig_from_board(1)[:3, :3] @ [0.24, 0.18, 0] + made.bench.rig_from_board(1)[:3, 3]
    )
    still = made.light(board_view, placement=1)
    swept = np.linspace(-2e-4, 2e-4, 9)[:, None] * [1, 0] + board_view
    smeared = made.bench.picture(made.camera.eye, swept, (), 1)
    assert np.abs(np.diff(smeared, axis=1)).max() < 0.5 * np.abs(np.diff(still, axis=1)).max()
    view, light = made.aim(parts("plane")[0].center_m + parts("plane")[0].rotation[:, 1] * 0.07)
    beams = [[made.laser.beam(light + step, 0.5) for step in np.linspace(-4e-4, 4e-4, 9)]]
    line, wide = made.light(view, light), made.bench.picture(made.camera.eye, view[None], beams)
    assert wide.max() < 0.6 * line.max()
    assert (wide - rig_dim(view)).sum() == pytest.approx((line - rig_dim(view)).sum(), rel=0.1)


def test_the_drawing_and_the_truth_are_as_far_apart_as_machining_leaves_them() -> None:
    drawn = SimMirror(axes=1)
    assert drawn.true_mirrors == drawn.galvanometers and drawn.limit_rad.shape == (1,)
    plane = SteeredLaser(np.array([0, 0, 1.0, 0]), drawn.galvanometers[0]).plane(np.zeros(1))
    assert plane / plane[0] == pytest.approx([1, 0, 0, 0.8])  # straight ahead at rest
    rest = {"jitter": 0.0, "drift": 0.0, "drift_s": 1.0, "ripple": 0.0}
    made = [Imperfections(TwoMirror().galvanometers(), seed, misalignment=1, **rest).mirrors for seed in range(60)]
    errors = np.array([[m.bias_rad / 2e-3, (m.gain - 1) / 5e-3, m.offset_m / 0.3e-3] for pair in made for m in pair])
    assert errors.std(axis=0) == pytest.approx(1, abs=0.3)
    ahead = SimLaser(world=World(scene="bench"), through=drawn).beam(np.zeros(1)).ahead
    assert ahead == pytest.approx([0, 0, 1])


def test_a_sensor_on_the_shaft_sees_jitter_but_neither_drift_nor_ripple() -> None:
    mirror, clock = (
        SimMirror(jitter=1e-4, drift=5e-4, ripple=1e-4, readback_noise=0.0, repeatability=0.0),
        VirtualClock(),
    )
    mirror.uri = "sim:galvo"
    mirror.open(clock)
    times = np.arange(200) * 1_000_000_000
    clock.advance(int(times[-1]))
    told = np.array([mirror.reading(int(t), 0).angle_rad for t in times])
    true = np.array([mirror.light_angles([t / 1e9], int(t))[0] for t in times])
    assert told.std() == pytest.approx(1e-4, rel=0.15)
    unseen = true - told
    assert 2e-4 < np.abs(unseen).max() <= 6e-4 and abs(np.corrcoef(told[:, 0], unseen[:, 0])[0, 1]) < 0.3
    assert np.abs(np.diff(unseen, axis=0)).max() < 3.5e-4  # slow, but for the ripple
    assert (mirror.reading(int(times[5]), 0).angle_rad == told[5]).all()


def test_pixels_look_where_the_lens_says() -> None:
    camera = SimCamera(
        address="x", world=World(scene="bench"), width=96, height=64, field=1.2,
        distortion=(-0.25, 0.06, 1e-3, -2e-3, 0.01), tilt=(0.03, -0.05),
    )  # fmt: skip
    lens = camera.true_camera.lens
    looks = normalised(lens)
    y, x = np.mgrid[0:64, 0:96]
    seen = lens.project(np.column_stack([looks.reshape(-1, 2), np.ones(64 * 96)])).reshape(64, 96, 2)
    assert np.abs(seen - np.stack([x, y], 2)).max() < 1e-6


def test_what_a_twin_cannot_do_is_refused_by_name() -> None:
    world, turn = World(scene="bench"), SimMirror(axes=1)
    with pytest.raises(NotSupported, match="needs a mirror of two axes"):
        SimCamera(address="x", world=world, through=turn)
    with pytest.raises(NotSupported, match="world and through go together"):
        SimLaser(world=world)
    with pytest.raises(NotSupported, match="drawn in grey"):
        SimCamera(address="x", world=world, encoding="BGR8").open(VirtualClock())
    with pytest.raises(OutOfRange, match="distortion"):
        SimCamera(address="x", world=world, distortion=(0.0,) * 6)
    with pytest.raises(NotSupported, match="scene: bench"):
        SimCamera(address="x", world=World(), misalignment=1).open(VirtualClock())
    with pytest.raises(NotSupported, match="only a camera of the scheme sim"):
        _ = world.scene


def test_a_dark_laser_was_lit_when_it_was_lit() -> None:
    laser, clock = SimLaser(deadline=0.1), VirtualClock()
    laser.uri = "sim:laser"
    laser.open(clock)
    laser.emit(0.5)
    clock.advance(40_000_000)
    laser.emit(0.7)
    clock.advance(50_000_000)
    laser.off()
    assert [laser.power_at(t * 1_000_000) for t in (10, 45, 60)] == [0.5, 0.7, 0.0]
