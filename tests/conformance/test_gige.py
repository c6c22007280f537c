"""`gige:` against cameras of GigE Vision: Aravis' fake camera, and our own emulator."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from foveate.clock import LiveClock
from foveate_drivers.cameras.aravis import installed
from foveate_drivers.cameras.gige import GigeCamera
from foveate_drivers.conformance import cameras
from foveate_drivers.conformance.suite import Bench, Check, Skipped, checks
from foveate_drivers.emulators.gige import GigeEmulator

from .live_cameras import FakeCamera, gige_port

pytestmark = pytest.mark.skipif(not installed(), reason="libaravis is not installed (apt install libaravis-0.8-0)")

every_check = pytest.mark.parametrize("check", checks(cameras), ids=lambda check: check.__name__.removeprefix("check_"))


def camera(**options: object) -> GigeCamera:
    """A small quick camera, not open."""
    wanted = {"address": "127.0.0.1", "width": 64, "height": 48, "rate": 100.0, "exposure": 0.005, **options}
    made = GigeCamera(**wanted)  # type: ignore[arg-type]
    made.uri = f"gige:{wanted['address']}"
    return made


def passes(check: Check, bench: Bench) -> None:
    try:
        check(bench)
    except Skipped as reason:
        pytest.skip(str(reason))


@pytest.fixture(scope="module", autouse=True)
def alone() -> Iterator[None]:
    with gige_port():
        yield


@pytest.fixture(scope="class")
def fake() -> Iterator[FakeCamera]:
    with FakeCamera() as process:
        yield process


@pytest.fixture(scope="class")
def emulator() -> Iterator[GigeEmulator]:
    with GigeEmulator() as made:
        yield made


class TestAravisFakeCamera:
    @every_check
    def test_conforms(self, check: Check, fake: FakeCamera) -> None:
        passes(check, Bench(camera, LiveClock(), fake.stop, fake.start))


class TestEmulator:
    @every_check
    def test_conforms(self, check: Check, emulator: GigeEmulator) -> None:
        passes(check, Bench(camera, LiveClock(), emulator.unplug, emulator.replug))
