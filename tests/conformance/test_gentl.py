"""`gentl:` against viky, the simulated GenTL producer that comes with the genicam package."""

from __future__ import annotations

import importlib.util
import itertools

import numpy as np
import pytest

from foveate.clock import LiveClock
from foveate.errors import Busy, NotFound, NotSupported, OutOfRange
from foveate.messages import Frame
from foveate_drivers.cameras.gentl import GentlCamera
from foveate_drivers.conformance import cameras
from foveate_drivers.conformance.suite import Bench, Check, checks

pytestmark = pytest.mark.heavy

pytest.importorskip("harvesters", reason="Harvesters is not installed (pip install 'foveate[gentl]')")
pytest.importorskip("genicam", reason="the genicam package is not installed (pip install 'foveate[gentl]')")


def camera(**options: object) -> GentlCamera:
    wanted = {"address": "viky.cti#VikyTL_DEV_red", "width": 160, "height": 120, "rate": 200.0, **options}
    made = GentlCamera(**wanted)  # type: ignore[arg-type]
    made.uri = f"gentl:{wanted['address']}"
    return made


@pytest.mark.parametrize("check", checks(cameras), ids=lambda check: check.__name__.removeprefix("check_"))
def test_viky_conforms(check: Check) -> None:
    check(Bench(camera, LiveClock()))


def frames_of(made: GentlCamera, count: int) -> list[Frame]:
    with made:
        clock = LiveClock()
        clock.start()
        made.open(clock)
        return [made.read(2.0) for _ in range(count)]


def test_colors_come_as_bgr_and_greys_as_they_are() -> None:
    color = frames_of(camera(encoding="RGBa8"), 2)[-1]
    grey = frames_of(camera(encoding="Mono8"), 2)[-1]
    assert (color.encoding, color.image.shape) == ("BGR8", (120, 160, 3))
    assert (grey.encoding, grey.image.shape) == ("Mono8", (120, 160))


def test_every_frame_is_numbered_once_and_none_is_lost() -> None:
    frames = frames_of(camera(), 60)
    assert all(b.seq == a.seq + 1 and b.lost_before == 0 for a, b in itertools.pairwise(frames))


def test_two_cameras_of_one_producer_work_at_the_same_time() -> None:
    red, blue = camera(), camera(address="viky.cti#VikyTL_DEV_blue")
    clock = LiveClock()
    clock.start()
    with red, blue:
        red.open(clock)
        blue.open(clock)
        assert {item.info().serial for item in (red, blue)} == {"0", "2"}
        for _ in range(3):
            assert np.any(red.read(2.0).image) and np.any(blue.read(2.0).image)


def test_a_camera_that_is_open_is_busy() -> None:
    clock = LiveClock()
    clock.start()
    with camera() as first:
        first.open(clock)
        with pytest.raises(Busy, match="viky"):
            camera().open(clock)
        assert first.read(2.0).image.shape[:2] == (120, 160)


def test_what_the_camera_cannot_do_is_refused_before_a_frame() -> None:
    clock = LiveClock()
    clock.start()
    for options, kind, text in (
        ({"width": 99}, OutOfRange, "within 100 to 800 px"),
        ({"encoding": "BayerRG8"}, NotSupported, "it takes RGBa8, Mono8"),
        ({"trigger": "software"}, NotSupported, "cannot be triggered"),
        ({"exposure": 0.01}, NotSupported, "it has: rate, "),
    ):
        with pytest.raises(kind, match=text):
            camera(**options).open(clock)


def test_what_is_not_there_is_named() -> None:
    clock = LiveClock()
    with pytest.raises(NotFound, match=r"no producer nothing\.cti"):
        camera(address="nothing.cti#0").open(clock)
    with pytest.raises(NotFound, match="VikyTL_DEV_green"):
        camera(address="viky.cti#purple").open(clock)
    with pytest.raises(NotFound, match="VikyTL_DEV_green"):
        camera(address="viky.cti").open(clock)


def test_producers_that_are_installed_are_looked_through(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = importlib.util.find_spec("genicam")
    assert spec is not None and spec.submodule_search_locations
    monkeypatch.setenv("GENICAM_GENTL64_PATH", spec.submodule_search_locations[0])
    found = GentlCamera.probe()
    assert [item.serial for item in found] == ["0", "1", "2"]
    assert all(
        item.uri.endswith(f"viky.cti#VikyTL_DEV_{color}")
        for item, color in zip(found, ("red", "green", "blue"), strict=True)
    )
    assert all(item.model == "Viky" for item in found)
