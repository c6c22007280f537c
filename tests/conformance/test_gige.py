"""`gige:` against cameras of GigE Vision: Aravis' fake, and our own emulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from foveate.clock import LiveClock
from foveate_drivers.cameras.aravis import installed
from foveate_drivers.cameras.gige import GigeCamera
from foveate_drivers.conformance import cameras
from foveate_drivers.conformance.suite import Bench, Check, Skipped, checks

from .live_cameras import FakeCamera, gige_port

pytestmark = pytest.mark.skipif(not installed(), reason="libaravis is not installed (apt install libaravis-0.8-0)")


def camera(**options: object) -> GigeCamera:
    made = GigeCamera(
        **{"address": "127.0.0.1", "width": 64, "height": 48, "rate": 100.0, "exposure": 0.005, **options}
    )  # type: ignore[arg-type]
    made.uri = "gige:127.0.0.1"
    return made


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    with gige_port():
        yield


@pytest.fixture(scope="module")
def fake() -> Iterator[FakeCamera]:
    with FakeCamera() as process:
        yield process


@pytest.mark.parametrize("check", checks(cameras), ids=lambda check: check.__name__.removeprefix("check_"))
def test_aravis_fake_camera_conforms(check: Check, fake: FakeCamera) -> None:
    bench = Bench(camera, LiveClock(), fake.stop, fake.start)
    try:
        check(bench)
    except Skipped as reason:
        pytest.skip(str(reason))
