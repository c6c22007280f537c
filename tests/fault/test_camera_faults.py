"""Cameras under faults: pulled cables, frozen pictures, silence (CAM1, CAM2); pictures of another size are CAM3."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import numpy as np
import pytest

from foveate import Run, load_graph
from foveate.clock import LiveClock, VirtualClock, process_ns
from foveate.errors import Disconnected, NodeFailed, NotFound, ProtocolError, StaleData, Timeout
from foveate.messages import Frame, Stamp
from foveate_drivers.cameras.base import Camera as CameraDevice
from foveate_drivers.cameras.files import ImageFolder
from foveate_drivers.cameras.sim import SimCamera
from foveate_drivers.world.base import World
from foveate_nodes.devices.camera import Camera
from tests.conformance.test_cameras import Flat

RATE_HZ = 400.0


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def files() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.heavy
def test_cam1_a_hundred_pulled_cables_are_noticed_at_once_and_cost_nothing() -> None:
    world = World()
    world._scene = Flat()  # type: ignore[assignment]
    camera, clock = SimCamera(address="x", world=world, width=64, height=48, rate=RATE_HZ, readout=0.001), LiveClock()
    clock.start()
    slowest_loss_s = slowest_return_s = 0.0
    before = (threading.active_count(), files())
    resident = 0
    for cycle in range(100):
        camera.open(clock)
        first = [camera.read(1.0) for _ in range(2)]
        assert first[1].seq == first[0].seq + 1, "the invariant before the fault"
        camera.cable.unplug()
        begun = process_ns()
        with pytest.raises(Disconnected):
            while True:
                camera.read(0.1)
        slowest_loss_s = max(slowest_loss_s, (process_ns() - begun) / 1e9)
        assert camera.health().state == "lost"
        camera.close()
        with pytest.raises(NotFound):
            camera.open(clock)
        camera.cable.replug()
        begun = process_ns()
        camera.open(clock)
        again = [camera.read(1.0) for _ in range(2)]
        slowest_return_s = max(slowest_return_s, (process_ns() - begun) / 1e9)
        assert again[1].seq == again[0].seq + 1, "the invariant after recovery"
        camera.close()
        if cycle == 20:
            resident = resident_bytes()
    print(f"noticed after {slowest_loss_s * 1e3:.1f} ms, frames again after {slowest_return_s * 1e3:.0f} ms at most")
    assert slowest_loss_s <= 1 / RATE_HZ + 0.1 and slowest_return_s <= 2.0
    assert (threading.active_count(), files()) == before
    assert resident_bytes() - resident < 5_000_000


GRAPH = """\
foveate: 1
rig:
  world:  {uri: "sim:town", scene: procedural, seed: 1, range: 150.0, field: 0.2, vehicles: 2, people: 0}
  eye:    {uri: "sim:eye", world: "${rig.world}", width: 32, height: 32, rate: 100.0}
nodes:
  eye: {use: camera, device: "${rig.eye}", on_fault: restart}
"""


def test_cam1_a_graph_survives_a_pulled_cable(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(GRAPH)
    run = Run(load_graph(path))
    camera = run.devices["eye"]
    assert isinstance(camera, SimCamera)
    seen: list[int] = []

    def pull() -> None:
        while not run.stop.wait(0.005):
            produced = run.stations["eye"].stats.steps
            if len(seen) == 0 and produced >= 20:
                seen.append(produced)
                camera.cable.unplug()
            elif len(seen) == 1 and run.stations["eye"].supervisor.faults:
                camera.cable.replug()
                seen.append(produced)
            elif len(seen) == 2 and produced >= seen[1] + 20:
                run.stop.set()

    thread = threading.Thread(target=pull)
    thread.start()
    result = run.execute(duration_ns=20_000_000_000)
    run.stop.set()
    thread.join()
    assert result.failure is None and result.balanced and len(seen) == 2
    assert result.stations["eye"].supervisor.restarts >= 1
    assert any("unplugged" in note for note in result.notes)


class Scripted(CameraDevice):
    """Gives what it is told to; sets its own pace, as hardware does."""

    def __init__(self, frames: list[Frame | None]) -> None:
        self.uri = "test:scripted"
        self._frames = frames

    def read(self, timeout_s: float) -> Frame:
        frame = self._frames.pop(0)
        if frame is None:
            raise Timeout(self.uri, "read", f"no frame within {timeout_s:g} s")
        return frame


def picture(value: int, seq: int) -> Frame:
    return Frame(Stamp(seq * 10_000_000), np.full((40, 40), value, np.uint8), "Mono8", seq)


def test_cam2_a_frozen_picture_is_stale_within_three_periods() -> None:
    node = Camera(device=Scripted([picture(1, 1), *(picture(7, i) for i in range(2, 9))]), repeats=3)
    assert node.step() is not None and node.step() is not None, "the invariant before the fault"
    assert node.step() is not None and node.step() is not None
    with pytest.raises(StaleData, match="4 equal images in a row: it is frozen"):
        node.step()
    node = Camera(device=Scripted([picture(i % 2, i) for i in range(1, 9)]), repeats=3)
    assert all(node.step() is not None for _ in range(8)), "pictures that change are no fault"


def test_cam2_silence_is_stale_and_a_triggered_camera_may_be_silent() -> None:
    frames: list[Frame | None] = [picture(1, 1), *[None] * 3, picture(2, 2), *[None] * 30]
    node = Camera(device=Scripted(list(frames)), silence=0.5)
    assert [node.step() is not None for _ in range(9)] == [True, False, False, False, True, False, False, False, False]
    with pytest.raises(StaleData, match=r"no frame for 0\.5 s"):
        node.step()
    node = Camera(device=Scripted(list(frames)), silence=0.0)
    assert sum(node.step() is not None for _ in range(35)) == 2


def test_cam3_a_picture_of_another_size_is_refused_with_both(tmp_path: Path) -> None:
    import cv2

    for i, width in enumerate((64, 64, 80)):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((48, width), 9, np.uint8))
    camera, clock = ImageFolder(address=tmp_path, field=0.5), VirtualClock()
    camera.open(clock)
    for _ in range(2):
        clock.advance(camera.due_ns())
        camera.read(0.0)
    clock.advance(camera.due_ns())
    with pytest.raises(ProtocolError, match="picture 2 has 80 x 48 pixels, not 64 x 48"):
        camera.read(0.0)


def test_a_failed_camera_ends_a_graph_that_says_so(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(GRAPH.replace(", on_fault: restart", ""))
    run = Run(load_graph(path), "virtual")
    camera = run.devices["eye"]
    assert isinstance(camera, SimCamera)
    camera.cable.unplug()
    result = run.execute(1_000_000_000)
    assert isinstance(result.failure, NotFound | NodeFailed) and "unplugged" in str(result.failure)
    camera.cable.replug()
    fresh = Run(load_graph(path), "virtual").execute(1_000_000_000)
    assert fresh.failure is None
