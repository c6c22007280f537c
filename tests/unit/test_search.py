"""The search's own rules: Bayes, fusion, timing, tiles, scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from foveate.messages import Boxes, Frame, MirrorState, Objects, ProbabilityMap, Stamp
from foveate_calibration.pinhole import Pinhole
from foveate_drivers.cameras.base import Camera
from foveate_drivers.mirrors.sim import SimMirror
from foveate_nodes.detection.detect import suppress
from foveate_nodes.detection.gaze_scheduler import GazeScheduler
from foveate_nodes.detection.grid import Grid
from foveate_nodes.detection.object_map import ObjectMap
from foveate_nodes.detection.probability_map import ProbabilityMapNode
from foveate_nodes.detection.raster_gaze import RasterGaze
from foveate_nodes.detection.scoring import score
from foveate_nodes.detection.steered_view import SteeredView
from foveate_nodes.devices.look_timing import LookTiming

FIELD, PERIOD_NS, EXPOSURE_NS = 0.0419, 8_333_333, 1_000_000


class Lens(Camera):
    """A camera of which only the geometry matters."""

    def __init__(self) -> None:
        self.pinhole = Pinhole.from_field(256, 256, FIELD)
        self.period_ns = PERIOD_NS


RIG = {"camera": Lens(), "mirror": SimMirror()}
VIEW = SteeredView(RIG["camera"], RIG["mirror"], 150.0)  # type: ignore[arg-type]
directions = st.tuples(st.floats(-0.38, 0.38), st.floats(-0.2, 0.2)).map(np.array)


def look(
    direction: np.ndarray, found: list[tuple[float, float]], t_ns: int, score: float = 0.9, size: float = 20.0
) -> Boxes:
    """Detections at rig directions `found`, seen from a look at `direction`."""
    angle = VIEW.aim(direction)
    center = VIEW.center(angle)
    pixels = np.array([127.5 + (np.array(f) - center) * VIEW.pinhole.focal_px for f in found]).reshape(-1, 2)
    box = np.hstack([pixels - size / 2, pixels + size / 2]).astype(np.float32)
    n = len(found)
    return Boxes(
        Stamp(t_ns, EXPOSURE_NS), box, np.full((n, 4), 2.0, np.float32), np.full(n, score, np.float32),
        np.zeros(n, np.int32), ("thing",), 256, 256, 1, MirrorState(Stamp(t_ns), angle, False, "readback"),
    )  # fmt: skip


@given(directions, st.floats(-100, 100), st.floats(-100, 100))
def test_pixels_and_directions_agree(direction: np.ndarray, dx: float, dy: float) -> None:
    angle = VIEW.aim(direction)
    assert np.allclose(VIEW.center(angle), direction, atol=1e-9)
    there = VIEW.directions(np.array([[127.5 + dx, 127.5 + dy]]), angle)[0]
    assert np.allclose(VIEW.center(VIEW.aim(there)), there, atol=1e-9)


@given(directions)
def test_a_look_that_finds_nothing_lowers_the_map_there_and_nowhere_else(direction: np.ndarray) -> None:
    node = ProbabilityMapNode(**RIG)  # type: ignore[arg-type]
    before = node.step(look(np.array([0.4, 0.2]), [], 0), None, None).expected
    after = node.step(look(direction, [], 1), None, None).expected
    grid = Grid.over(0.838, 0.471, 0.007)
    rows, columns = grid.window(direction, np.array([FIELD / 2, FIELD / 2]) - 0.004)
    inside = np.zeros(after.shape, bool)
    inside[rows, columns] = True
    assert (after[inside] < 0.5 * before[inside]).all()
    rows, columns = grid.window(direction, np.array([FIELD / 2, FIELD / 2]) + 0.008)
    near = np.zeros(after.shape, bool)
    near[rows, columns] = True
    assert np.allclose(after[~near], before[~near], rtol=0.05)
    assert ((after >= 0) & (after <= 1)).all()


def test_the_map_follows_bayes_and_returns_to_the_prior() -> None:
    pd, pf, p = 0.85, 0.01, 0.02
    node = ProbabilityMapNode(**RIG, return_time=1.0, detection=pd, false_alarm=pf)  # type: ignore[arg-type]
    node.step(look(np.zeros(2), [], 0), None, None)
    grid = Grid.over(0.838, 0.471, 0.007)
    row, column = (int(v[0]) for v in grid.cells(np.zeros((1, 2))))
    got = node.step(look(np.array([0.3, 0.2]), [], 1), None, None).expected[row, column]
    after = p
    for power in (pd * 0.45, pd * 0.55):  # the view, then its inner part
        after = after * (1 - power) / (after * (1 - power) + (1 - after) * (1 - pf))
    assert np.isclose(got, after, rtol=1e-3)
    later = node.step(look(np.array([0.3, 0.2]), [], 10_000_000_000), None, None).expected[row, column]
    assert np.isclose(later, p, rtol=1e-2)


@given(directions, st.integers(2, 12), st.integers(0, 2**31))
def test_looks_at_a_still_object_fuse_by_inverse_variance(place: np.ndarray, count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    still = ObjectMap(**RIG, speed=1e-9, acceleration=1e-9, model_sigma=0.0)  # type: ignore[arg-type]
    sigma = 2.0 / VIEW.pinhole.focal_px
    seen = [place + rng.normal(0, sigma / 3, 2) for _ in range(count)]
    objects = None
    for k, at in enumerate(seen):
        objects = still.step(look(place, [tuple(at)], k * PERIOD_NS))  # type: ignore[list-item]
    assert objects is not None and len(objects.id) == 1 and objects.looks[0] == count
    assert np.allclose(objects.direction_rad[0], np.mean(seen, axis=0), atol=2e-5)
    assert np.allclose(objects.sigma_rad[0], sigma / np.sqrt(count), rtol=0.01)


def test_two_far_objects_stay_two_and_a_vanished_one_is_forgotten() -> None:
    node = ObjectMap(**RIG)  # type: ignore[arg-type]
    for k in range(3):
        objects = node.step(look(np.zeros(2), [(-0.01, 0.0), (0.01, 0.0)], k * PERIOD_NS))
    assert len(objects.id) == 2 and (objects.probability > 0.9).all()
    for k in range(3, 12):
        objects = node.step(look(np.zeros(2), [(-0.01, 0.0)], k * PERIOD_NS))
    sure = objects.probability > 0.5
    assert sure.sum() == 1 and abs(objects.direction_rad[sure][0, 0] + 0.01) < 1e-3


def test_parts_of_a_large_object_become_one() -> None:
    node = ObjectMap(**RIG)  # type: ignore[arg-type]
    for k, x in enumerate((0.0, FIELD)):
        boxes = look(np.array([x, 0.0]), [(x, 0.0)], k * PERIOD_NS)
        wide = np.array([[0.0, 110.0, 255.0, 145.0]], np.float32)
        boxes = Boxes(
            boxes.stamp, wide, boxes.sigma_px, boxes.score, boxes.label, boxes.names, 256, 256, 1, boxes.mirror
        )
        objects = node.step(boxes)
    assert len(objects.id) == 1
    assert np.isclose(objects.extent_rad[0, 0], 2 * FIELD, rtol=0.05)


def strobe(k: int) -> Frame:
    return Frame(Stamp(k * PERIOD_NS, EXPOSURE_NS), np.zeros((2, 2), np.uint8), "Mono8", k)


def test_the_search_looks_where_most_is_expected_and_moves_in_the_readout() -> None:
    node = GazeScheduler(**RIG)  # type: ignore[arg-type]
    grid = Grid.over(0.838, 0.471, 0.007)
    expected = np.full((grid.rows, grid.columns), 1e-4, np.float32)
    row, column = (int(v[0]) for v in grid.cells(np.array([[0.1, -0.05]])))
    expected[row, column] = 0.5
    map_ = ProbabilityMap(Stamp(0), expected, grid.left_rad, grid.top_rad, grid.cell_rad)
    gaze = node.step(strobe(10), map_, None)
    assert gaze is not None and gaze.reason == "search"
    assert (np.abs(VIEW.center(gaze.angle_rad) - [0.1, -0.05]) < FIELD / 2).all()
    assert gaze.not_before_ns == 11 * PERIOD_NS + EXPOSURE_NS // 2
    again = node.step(strobe(11), map_, None)  # the result is still on its way: somewhere else
    while again is None:
        again = node.step(strobe(12), map_, None)
    assert (np.abs(VIEW.center(again.angle_rad) - VIEW.center(gaze.angle_rad)) > 0.01).any()


def test_a_long_move_costs_whole_frames() -> None:
    slow = SimMirror(scanner="voicecoil15")
    timing = LookTiming(RIG["camera"], slow)  # type: ignore[arg-type]
    assert timing.hold(np.array([0.001, 0.0]), EXPOSURE_NS) == 1 and timing.due()
    assert timing.hold(np.array([0.2, 0.0]), EXPOSURE_NS) == 2
    assert [timing.due(), timing.due()] == [False, True]


@settings(max_examples=20)
@given(st.floats(0, 0.45))
def test_raster_tiles_cover_the_field(overlap: float) -> None:
    tiles = RasterGaze(**RIG, overlap=overlap)._tiles  # type: ignore[arg-type]
    points = np.stack(np.meshgrid(np.linspace(-0.418, 0.418, 50), np.linspace(-0.235, 0.235, 25)), -1).reshape(-1, 2)
    gaps = np.abs(points[:, None] - tiles[None]).max(axis=2).min(axis=1)
    assert gaps.max() <= FIELD / 2 + 1e-9


def _objects(t_ns: int, places: list[tuple[float, float]], probability: float = 1.0) -> Objects:
    n = len(places)
    return Objects(
        Stamp(t_ns), np.arange(n, dtype=np.int64), np.zeros(n, np.int32), np.array(places, float).reshape(-1, 2),
        np.zeros((n, 2)), np.full((n, 2), 0.01), np.full(n, probability), np.ones(n, np.int32), ("thing",),
    )  # fmt: skip


def test_scores_count_each_object_once_and_every_false_report() -> None:
    truth = [_objects(t, [(0.0, 0.0), (0.1, 0.0)]) for t in (0, 10**9, 2 * 10**9)]
    found = [
        _objects(0, []), _objects(5 * 10**8, [(0.001, 0.0)]), _objects(6 * 10**8, [(0.001, 0.0), (0.3, 0.0)]),
        _objects(10**9, [(0.0, 0.0), (0.1, 0.004), (0.3, 0.0)]),
    ]  # fmt: skip
    result = score(found, truth)
    assert result.total == 2 and result.found_s == {0: 0.5, 1: 1.0} and result.recall == 1.0
    assert result.time_to(0.5) == 0.5 and result.time_to(0.9) == 1.0
    assert score([_objects(0, [(0.0, 0.0)], probability=0.4)], truth).recall == 0.0
    assert score([], truth).time_to(0.9) is None


def test_suppression_keeps_the_best_of_each_class() -> None:
    box = np.array([[0, 0, 10, 10], [1, 1, 11, 11], [0, 0, 10, 10], [50, 50, 60, 60]], np.float32)
    kept = suppress(box, np.array([0.9, 0.8, 0.7, 0.6]), np.array([0, 0, 1, 0]), 0.5)
    assert sorted(kept.tolist()) == [0, 2, 3]


def test_maps_of_different_grids_are_refused_by_size() -> None:
    node = ProbabilityMapNode(**RIG)  # type: ignore[arg-type]
    prior = ProbabilityMap(Stamp(0), np.zeros((3, 4), np.float32), 0.0, 0.0, 0.1)
    with pytest.raises(ValueError, match="the prior is 3 x 4 cells"):
        node.step(look(np.zeros(2), [], 0), prior, None)
