"""Edges by the repository's network, the exact edges it learnt from, and how its chances become lines."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from foveate.errors import FoveateError, ModelError
from foveate_drivers.backends.manifest import Manifest
from foveate_drivers.world import room_paint
from foveate_drivers.world.room import Sight
from foveate_nodes.odometry import training_views as edges
from foveate_nodes.odometry.network_edges import NetworkEdges, thinned
from foveate_nodes.odometry.odometry import Odometry

MODELS = Path(__file__).parents[2] / "launch" / "models"
MODEL = MODELS / "edges.onnx"
DEFAULTS = {"edges": "canny", "model": None, "backend": "onnx", "threads": 1}


@pytest.fixture(scope="module")
def network() -> NetworkEdges:
    return NetworkEdges(MODEL)


@pytest.fixture(scope="module")
def held_out() -> edges.EdgeViews:
    """Two views of a room that no training saw."""
    return edges.edge_views(1, 2, 9, look=edges.Look())


def test_the_repositorys_network_gives_its_golden_output_and_is_small() -> None:
    onnx = pytest.importorskip("onnx", reason="needs the extra 'train'")
    manifest = Manifest.beside(MODEL)
    assert manifest is not None and manifest.classes == ("edge",)
    graph = onnx.load(str(MODEL)).graph
    numbers = sum(math.prod(tensor.dims) for tensor in graph.initializer)
    assert 20_000 < numbers <= 60_000
    assert MODEL.stat().st_size < 150_000


def test_it_finds_the_exact_edges_of_a_room_and_little_else(network: NetworkEdges, held_out: edges.EdgeViews) -> None:
    for image, label in zip(held_out.images, held_out.labels, strict=True):
        mask = network(image)
        from_edge, from_mark = (
            cv2.distanceTransform(np.where(where, 0, 1).astype(np.uint8), cv2.DIST_L2, 5)
            for where in (label != 0, mask > 0)
        )
        assert (from_edge[mask > 0] <= 2).mean() > 0.7
        assert (from_mark[label == 1] <= 2).mean() > 0.6


@pytest.mark.parametrize("level", [0, 90, 255])
def test_it_finds_nothing_in_a_blank_image(network: NetworkEdges, level: int) -> None:
    assert not network(np.full((120, 160), level, np.uint8)).any()


def test_a_smooth_change_of_light_is_no_edge(network: NetworkEdges) -> None:
    shade = np.tile(np.linspace(60, 190, 320, dtype=np.float32), (240, 1))
    noise = np.random.default_rng(1).normal(0, 2, shade.shape)
    assert network(np.clip(shade + noise, 0, 255).astype(np.uint8)).mean() < 0.5


@settings(max_examples=12, deadline=None)
@given(st.integers(9, 90), st.integers(9, 90))
def test_images_of_any_size_give_masks_of_that_size(network: NetworkEdges, height: int, width: int) -> None:
    gray = np.full((height, width), 60, np.uint8)
    gray[:, width // 2 :] = 180
    mask = network(gray)
    assert mask.shape == gray.shape and mask.dtype == np.uint8 and set(np.unique(mask)) <= {0, 255}


@settings(max_examples=100, deadline=None)
@given(st.floats(0, math.pi), st.floats(-8, 8), st.floats(0.8, 2.0))
def test_a_straight_crest_becomes_one_thin_unbroken_line(angle: float, shift: float, wide: float) -> None:
    y, x = np.mgrid[-30:31, -30:31]
    away = x * math.cos(angle) + y * math.sin(angle) - shift
    whole = thinned(np.exp(-0.5 * (away / wide) ** 2).astype(np.float32), 0.5, 0.25) > 0
    mask, away = whole[2:-2, 2:-2], away[2:-2, 2:-2]  # at the frame a line's end leans
    rows, columns = np.nonzero(mask)
    assert len(rows) >= 35
    assert np.abs(away[rows, columns]).max() <= 1.0
    assert not (mask[:-1, :-1] & mask[1:, :-1] & mask[:-1, 1:] & mask[1:, 1:]).any()
    assert cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)[0] == 2


def test_a_weak_line_stays_only_where_it_hangs_on_a_strong_one() -> None:
    chance = np.zeros((40, 60), np.float32)
    chance[10, 5:55], chance[30, 5:55] = 0.5, 0.5
    chance[10, 20:25] = 1.0
    mask = thinned(chance, 0.5, 0.15) > 0
    assert mask[10, 6:54].all() and not mask[30].any()


def sight(face: NDArray[np.int32], albedo: NDArray[np.floating], light: NDArray[np.floating]) -> Sight:
    color = [np.repeat(part[..., None], 3, axis=2).astype(np.float32) for part in (light, albedo)]
    return Sight(color[0], np.ones(face.shape, np.float32), np.zeros((*face.shape, 3), np.float32), color[1], face)


def test_edges_are_borders_and_steps_of_paint_but_no_shadows() -> None:
    face = np.zeros((60, 80), np.int32)
    face[:, 20:] = 7
    albedo, light = np.full((60, 80), 0.3), np.ones((60, 80))
    albedo[:, 45:] = 0.7
    light[40:] = 0.2
    drawn = np.full(12, room_paint.palette()["poster"][0])
    label = edges.exact_edges(sight(face, albedo, light * albedo), drawn)
    assert (label[:, 19:21] == 1).all()
    assert ((label[5:-5, 43:47] == 1).sum(axis=1) == 1).all()
    assert (label[40:][:, [5, 10, 30, 60, 70]] == 0).all() and (label[:, 25:40] == 0).all()


def test_grain_is_no_edge() -> None:
    rng = np.random.default_rng(2)
    albedo = np.clip(0.3 + 0.05 * rng.standard_normal((60, 80)), 0, 1)
    carpet = np.full(6, room_paint.palette()["carpet"][0])
    assert not edges.exact_edges(sight(np.zeros((60, 80), np.int32), albedo, albedo), carpet).any()


def test_an_edge_without_contrast_is_unclear() -> None:
    face = np.zeros((60, 80), np.int32)
    face[:, 20:] = 7
    same = np.full((60, 80), 0.4)
    label = edges.Look().labels(sight(face, same, same), np.zeros(12, np.int64))
    assert (label[:, 19:21] == edges.UNCLEAR).all() and not label[:, 30:].any()


@pytest.mark.parametrize(
    ("name", "said"),
    [("nowhere.onnx", "no such file"), ("bare.onnx", "no manifest"), ("other.onnx", "restore or re-export"),
     ("regions.onnx", "has the class 'edge'")],
)  # fmt: skip
def test_a_model_that_cannot_be_used_is_said_in_one_line(tmp_path: Path, name: str, said: str) -> None:
    shutil.copy(MODEL, tmp_path / "bare.onnx")
    shutil.copy(MODEL, tmp_path / "other.onnx")
    text = json.loads(MODEL.with_suffix(".json").read_text())
    (tmp_path / "other.json").write_text(json.dumps({**text, "sha256": "0" * 64}))
    for suffix in (".onnx", ".json", ".golden.npz"):
        shutil.copy(MODELS / f"regions{suffix}", tmp_path)
    with pytest.raises(ModelError, match=said) as caught:
        NetworkEdges(tmp_path / name)
    assert "\n" not in str(caught.value) and name in str(caught.value)


def test_the_node_takes_the_network_and_says_what_is_missing() -> None:
    assert list(Odometry.check(**DEFAULTS)) == []
    assert list(Odometry.check(**{**DEFAULTS, "edges": "network", "model": MODEL})) == []
    missing = list(Odometry.check(**{**DEFAULTS, "edges": "network"}))
    assert len(missing) == 1 and "model: models/edges.onnx" in str(missing[0])
    with pytest.raises(FoveateError, match=r"model: models/edges\.onnx"):
        Odometry(edges="network").open()


@pytest.mark.heavy
@pytest.mark.timeout(300)
@pytest.mark.filterwarnings("default")
def test_a_network_trained_briefly_learns_and_is_taken(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs the extra 'train'")
    from foveate_nodes.models.export import export
    from foveate_nodes.odometry import train_edges

    def trained(steps: int, losses: list[float]) -> tuple[object, NDArray[np.uint8]]:
        return train_edges.train_edges(
            steps=steps, seed=3, scenes=1, start=None, progress=lambda i, n, loss: losses.append(loss)
        )

    losses: list[float] = []
    network, calibration = trained(40, losses)
    assert np.mean(losses[-8:]) < 0.85 * np.mean(losses[:4])
    path = tmp_path / "e.onnx"
    assert isinstance(network, torch.nn.Module)
    export(network, calibration[:8], path, dict(train_edges.MANIFEST), any_size=True)
    assert NetworkEdges(path)(calibration[0, 0]).any()
    again: list[float] = []
    trained(2, again)
    assert len(again) == 2 and again[0] == losses[0]
