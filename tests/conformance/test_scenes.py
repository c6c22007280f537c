"""Every scene passes this suite; the truth is where the pixels are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from foveate.errors import NotFound, ProtocolError
from foveate_drivers.world.photo import PhotoScene, read_boxes
from foveate_drivers.world.procedural import ProceduralScene
from foveate_drivers.world.scene import Scene
from foveate_drivers.world.video import VideoScene, read_tracks


def procedural(folder: Path) -> Scene:
    return ProceduralScene(seed=5, width_m=70.0, height_m=40.0, active_m=(60.0, 34.0), vehicles=5, people=6)


def photo(folder: Path) -> Scene:
    image = np.full((90, 160, 3), 100, np.uint8)
    image[40:50, 60:80] = 250
    cv2.imwrite(str(folder / "a.png"), image)
    (folder / "a.txt").write_text("0 0.4375 0.5 0.125 0.1111\n")
    return PhotoScene(folder / "a.png", None, width_m=160.0)


def video(folder: Path) -> Scene:
    writer = cv2.VideoWriter(str(folder / "v.avi"), cv2.VideoWriter.fourcc(*"MJPG"), 10.0, (160, 96))
    for i in range(6):
        image = np.full((96, 160, 3), 60, np.uint8)
        image[40:56, 20 + 10 * i : 36 + 10 * i] = 250
        writer.write(image)
    writer.release()
    frames = "".join(
        f'<frame number="{i}"><objectlist><object id="7">'
        f'<box xc="{28 + 10 * i}" yc="48" w="16" h="16"/></object></objectlist></frame>'
        for i in range(6)
    )
    (folder / "v.xml").write_text(f"<dataset>{frames}</dataset>")
    return VideoScene(folder / "v.avi", folder / "v.xml", width_m=160.0)


makers = pytest.mark.parametrize("make", [procedural, photo, video])


def view(x: float, y: float, width_m: float, side: int) -> np.ndarray:
    scale = side / width_m
    return np.array([[scale, 0, side / 2 - scale * x], [0, scale, side / 2 - scale * y], [0, 0, 1.0]])


@makers
def test_the_same_moment_gives_the_same_pixels(make: Callable[[Path], Scene], tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    one, two = make(tmp_path), make(tmp_path / "other")
    for color in (False, True):
        a, b = (scene.render(view(3.0, 2.0, 20.0, 96), 96, 96, color, 0.2) for scene in (one, two))
        assert np.array_equal(a, b) and a.shape == ((96, 96, 3) if color else (96, 96)) and a.dtype == np.uint8


@makers
def test_an_object_is_drawn_where_the_truth_says(make: Callable[[Path], Scene], tmp_path: Path) -> None:
    scene = make(tmp_path)
    truth = scene.truth(0.25)
    assert len(truth.ids) >= 1 and len(set(truth.ids.tolist())) == len(truth.ids)
    assert set(truth.labels.tolist()) <= set(range(len(scene.names)))
    if isinstance(scene, ProceduralScene):
        empty = ProceduralScene(seed=5, width_m=70.0, height_m=40.0, active_m=(60.0, 34.0), vehicles=5, people=6)
        empty.movers.clear()
        for center, size in zip(truth.center_m, truth.size_m, strict=True):
            look = view(*center, 3 * size.max(), 120)
            change = (
                np.abs(
                    scene.render(look, 120, 120, False, 0.25).astype(int) - empty.render(look, 120, 120, False, 0.25)
                )
                > 12
            )
            inside = change[60 - int(18 * size[1] / size.max()) : 60 + int(18 * size[1] / size.max()), 42:78]
            assert inside.mean() > 0.25, "the object's box is mostly empty"
    else:
        (x, y), (w, _) = truth.center_m[0], truth.size_m[0]
        image = scene.render(view(x, y, 2 * w, 64), 64, 64, False, 0.25)
        assert image[28:36, 28:36].mean() > 200 and image[:6, :6].mean() < 130


def test_objects_move_as_time_goes_and_stay_in_the_active_area() -> None:
    scene = procedural(Path())
    places = np.array([scene.truth(t).center_m for t in np.linspace(0, 60, 40)])
    assert np.ptp(places, axis=0).max() > 5
    assert (np.abs(places) <= [32.0, 19.0]).all()


def test_bad_box_files_are_named_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "b.txt"
    path.write_text("0 0.5 0.5 0.1 0.1\n0 0.5 x 0.1 0.1\n")
    with pytest.raises(ProtocolError, match=r"b.txt:2: cannot read boxes: not 'class x y width height'"):
        read_boxes(path)
    with pytest.raises(NotFound, match="no readable image"):
        PhotoScene(path, None, width_m=10.0)


def test_track_files_that_could_explode_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "t.xml"
    for text in ('<!DOCTYPE a [<!ENTITY b "c">]><a/>', "<a><frame number='x'/></a>", "<a>"):
        path.write_text(text)
        with pytest.raises(ProtocolError, match="cannot read tracks"):
            read_tracks(path)
