"""The simulated world that all twins of a rig share: one scene, one clock, one truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Protocol

import numpy as np
from annotated_types import Ge, Gt, Le
from numpy.typing import NDArray

from foveate.catalog import optional
from foveate.clock import Clock
from foveate.device import Device, DeviceInfo
from foveate.errors import EndOfStream, NotFound, NotSupported
from foveate.messages import Objects, Pose, Stamp
from foveate.node import Unit
from foveate_calibration.pinhole import Pinhole
from foveate_calibration.rigid import invert
from foveate_drivers.world.beam import Light
from foveate_logbook.formats.listed import quaternion_of

if TYPE_CHECKING:
    from foveate_drivers.world.bench import Bench
    from foveate_drivers.world.eye import Eye
    from foveate_drivers.world.room_stage import Stage
    from foveate_drivers.world.scene import Pixels, Scene
    from foveate_drivers.world.street import Street

Array = NDArray[np.float64]
_SMEAR_PX = 0.25  # movement in the exposure below which one rendering is exact enough
_MOST_PARTS = 9  # renderings averaged for a frame that smears


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Something on a bench whose shape is known, in the rig's frame; its own z points away from the rig."""

    name: str
    kind: Literal["plane", "block", "sphere", "free_form"]
    index: int  # for Surface.distance_of
    center_m: Array  # (3,): of a plane's face, of a block's foot on its plate, of a sphere or a free form
    rotation: Array  # 3 x 3, rig from part
    size_m: Array  # (3,) along its own axes
    height_m: float = 0.0  # of a block's top above its plate: the top's middle is center_m - height_m rotation[:, 2]
    radius_m: float = 0.0  # of a sphere
    plate: int | None = None  # which of the parts it stands on


class Surface(Protocol):
    """The true surfaces of a scene at one moment."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """What can be measured."""

    def distance(self, points_m: Array) -> Array:
        """(N,) signed metres from points (N x 3, rig frame) to the nearest surface, outside positive."""

    def distance_of(self, index: int, points_m: Array) -> Array:
        """The same to the one part that has this `index`."""


@dataclass(frozen=True, slots=True, eq=False)
class Classes:
    """What every pixel of one camera shows."""

    label: NDArray[np.uint8]  # H x W, index into names
    names: tuple[str, ...]


class View(Protocol):
    """A simulated camera, as a world draws for it."""

    pinhole: Pinhole
    encoding: str

    @property
    def eye(self) -> Eye:
        """Its true lens and mirrors; raises BackendMissing, NotSupported."""

    def angles(self, times_s: Sequence[float], middle_ns: int) -> list[Array]:
        """Where its mirrors truly stand at moments of the exposure around `middle_ns`; of no axes where it has none."""

    def camera_from_rig(self, angle_rad: Array) -> Array:
        """4 x 4."""


class TruthSource(Device):
    """Who knows where the objects really are; on a real rig nobody does."""

    family = "truth"

    def objects(self, t_ns: int) -> Objects | None:
        """Every object at `t_ns`, or None where nothing is known."""
        raise NotImplementedError

    def surface(self, t_ns: int) -> Surface | None:
        """The surfaces at `t_ns`, or None where nobody knows them."""
        return None

    def classes(self, t_ns: int) -> Classes | None:
        """What the pixels of the camera that `world` knows as its viewer show, or None where nobody knows."""
        return None

    def pose(self, t_ns: int) -> Pose | None:
        """world_from_rig at `t_ns`, which is world_from_camera of a camera at the rig's origin; None of a rig that
        nobody has measured, or that stands still."""
        return None


class NoTruth(TruthSource):
    """`none:` on a rig without a simulated world."""

    def __init__(self) -> None:
        pass

    def objects(self, t_ns: int) -> Objects | None:
        raise EndOfStream


class World(TruthSource):
    """What is before the rig: a plane at `range_m` with a town, a photograph or a video; or a bench of solids; or a
    room or a street, through which the rig moves."""

    viewer: tuple[Pinhole, Array] | None = None  # the camera whose pixels' classes are told, and its rig_from_camera
    _street: Street | None = None

    def __init__(
        self,
        *,
        address: str = "world",
        scene: Literal["procedural", "photo", "video", "bench", "room", "street"] = "procedural",
        seed: Annotated[int, Ge(0)] = 1,
        range: Annotated[float, Unit("m"), Gt(0.2), Le(10_000)] = 150.0,
        field: Annotated[float, Unit("rad"), Gt(0.01), Le(2.0)] = 0.8378,
        vehicles: Annotated[int, Ge(0), Le(200)] = 16,
        people: Annotated[int, Ge(0), Le(400)] = 22,
        image: Path | None = None,
        boxes: Path | None = None,
        video: Path | None = None,
        tracks: Path | None = None,
        width: Annotated[float, Unit("m"), Gt(0.05), Le(10)] = 1.1,
        height: Annotated[float, Unit("m"), Gt(0.05), Le(10)] = 1.3,
        depth: Annotated[float, Unit("m"), Gt(0.05), Le(5)] = 0.65,
        distance: Annotated[float, Unit("m"), Gt(0.3), Le(10)] = 2.0,
        columns: Annotated[int, Ge(1), Le(12)] = 5,
        rows: Annotated[int, Ge(1), Le(12)] = 5,
        board: str = "charuco:17x13:30mm:14mm:DICT_5X5_250",
        boards: Annotated[int, Ge(0), Le(1000)] = 0,
        dwell: Annotated[float, Unit("s"), Gt(0)] = 1.0,
        ambient: Annotated[float, Ge(0), Le(255)] = 45.0,
        speckle: Annotated[float, Ge(0), Le(1)] = 0.25,
        grain: Annotated[float, Unit("px"), Gt(0.5), Le(32)] = 2.0,
        sequence: str = "desk",
    ) -> None:
        """`field`: the full horizontal angle in which objects are; a photograph or video fills it. `sequence`: names a
        room, a way through it and how it is lit, as in world/room_sequences.py. The others are the bench's: a volume
        `width` x `height` x `depth` with its middle at `distance`, `columns` x `rows` of solids in it; before them
        `boards` placements of a `board` for `dwell` each; `ambient`: grey levels of white without the laser;
        `speckle`: its contrast, and the size of its `grain` in the image."""
        self._scene_kind = scene
        self._seed = seed
        self.range_m = range
        self.field_rad = field
        self._counts = (vehicles, people)
        self._files = (image, boxes, video, tracks)
        self._bench_options = {
            "seed": seed, "size_m": np.array([width, height, depth]), "center_m": np.array([0.0, 0.0, distance]),
            "columns": columns, "rows": rows, "boards": boards, "dwell_s": dwell, "board": board, "ambient": ambient,
            "contrast": speckle, "grain_px": grain,
        }  # fmt: skip
        self.lights: list[Light] = []  # the lasers that shine here
        self._sequence = sequence
        self._stage: Stage | None = None
        self._bench: Bench | None = None
        self._scene: Scene | None = None
        self._start_ns = 0

    def open(self, clock: Clock) -> None:
        if self._scene_kind not in ("bench", "room", "street"):
            self.load()
        _ = self.bench, self.stage, self.street
        self._start_ns = clock.now_ns()

    def load(self) -> Scene:
        """The scene, made on first use (a second or two of work)."""
        if self._scene is None:
            self._scene = self._make()
        return self._scene

    @property
    def bench(self) -> Bench | None:
        """The bench, made on first use; None where the scene is another. Raises BackendMissing."""
        if self._bench is None and self._scene_kind == "bench":
            optional("numba", self.uri, "scan")
            from foveate_drivers.world.bench import Bench

            self._bench = Bench(**self._bench_options)  # type: ignore[arg-type]
        return self._bench

    @property
    def stage(self) -> Stage | None:
        """The room and the rig's way through it, made on first use (some seconds of work); None where the scene is
        another. Raises BackendMissing, NotFound."""
        if self._stage is None and self._scene_kind == "room":
            optional("numba", self.uri, "odometry")
            from foveate_drivers.world.room_stage import Stage, named

            self._stage = Stage(named(self._sequence, self.uri))
            _ = self._stage.room.model  # here, not in a camera's first frame
        return self._stage

    @property
    def street(self) -> Street | None:
        """The street that the rig drives along, made on first use; None where the scene is another. Raises
        BackendMissing."""
        if self._street is None and self._scene_kind == "street":
            optional("numba", self.uri, "segmentation")
            from foveate_drivers.world.street import Street

            self._street = Street(self._seed)
        return self._street

    @property
    def scene(self) -> Scene:
        """The plane's scene of an open world."""
        if self._scene_kind == "bench":
            raise NotSupported(self.uri, "show a bench", "only a camera of the scheme sim sees one")
        if self._scene_kind == "room":
            raise NotSupported(self.uri, "show a room", "only cameras and depth cameras of the scheme sim see one")
        if self._scene_kind == "street":
            raise NotSupported(
                self.uri, "show a street", "only fixed cameras of the schemes sim and sim-events see one"
            )
        assert self._scene is not None, "the world is not open"
        return self._scene

    def _make(self) -> Scene:
        width_m = 2 * self.range_m * math.tan(self.field_rad / 2)
        image, boxes, video, tracks = self._files
        if self._scene_kind == "procedural":
            from foveate_drivers.world.procedural import ProceduralScene

            active = (width_m, width_m * 9 / 16)
            vehicles, people = self._counts
            return ProceduralScene(
                seed=self._seed, width_m=width_m * 1.15, height_m=active[1] * 1.15, active_m=active,
                vehicles=vehicles, people=people,
            )  # fmt: skip
        if self._scene_kind == "photo":
            from foveate_drivers.world.photo import PhotoScene

            if image is None:
                raise NotFound(self.uri, "show a photograph", "give its path: --set rig.world.image=FILE")
            return PhotoScene(image, boxes, width_m=width_m)
        from foveate_drivers.world.video import VideoScene

        if video is None:
            raise NotFound(self.uri, "show a video", "give its path: --set rig.world.video=FILE")
        return VideoScene(video, tracks, width_m=width_m)

    def info(self) -> DeviceInfo:
        return DeviceInfo(self.uri, "foveate", self._scene_kind, simulated=True)

    def time_s(self, t_ns: int) -> float:
        """Scene time of a moment on the pipeline's clock."""
        return max(t_ns - self._start_ns, 0) / 1e9

    def picture(self, view: View, middle_ns: int, exposure_ns: int) -> Pixels | NDArray[np.float32]:
        """The light of one exposure without noise: grey levels (H x W or H x W x 3), averaged where a view moved. Of a
        room they are the root of the light, as an image for a screen is.

        Of a bench as float32 (H x W) without an upper end, of a plane as uint8.
        """
        middle_s, half_s = middle_ns / 1e9, exposure_ns / 2e9
        if self.stage is not None:
            place = invert(view.camera_from_rig(view.angles([middle_s], middle_ns)[0]))
            sight = self.stage.sight(view.pinhole, self.time_s(middle_ns), exposure_ns / 1e9, place)
            return sight.image(color=view.encoding == "BGR8")
        if self.street is not None:
            place = invert(view.camera_from_rig(view.angles([middle_s], middle_ns)[0]))
            grey, _ = self.street.see(view.pinhole, self.time_s(middle_ns), place)
            return np.repeat(grey[..., None], 3, axis=2) if view.encoding == "BGR8" else grey
        times = [middle_s - half_s, middle_s, middle_s + half_s]
        ends = view.angles(times, middle_ns)
        smear_px = 2 * np.ptp(ends, axis=0).max(initial=0.0) * view.pinhole.focal_px
        for light in self.lights:
            smear_px = max(smear_px, 2 * light.smear_rad(times[0], times[-1]) * view.pinhole.focal_px)
        parts = int(np.clip(np.ceil(smear_px / (2 * _SMEAR_PX)), 1, _MOST_PARTS))
        moments = np.linspace(-half_s, half_s, parts) if parts > 1 else np.zeros(1)
        angles = [ends[1]] if parts == 1 else view.angles([middle_s + float(m) for m in moments], middle_ns)
        if self.bench is not None:
            beams = [light.beams([middle_s + float(m) for m in moments], middle_ns) for light in self.lights]
            placement = self.bench.placement(self.time_s(middle_ns))
            return self.bench.picture(view.eye, np.array(angles), [beam for beam in beams if beam], placement)
        t_s = self.time_s(middle_ns)
        if parts == 1:
            return self._plane(view, angles[0], t_s)
        from foveate_drivers.world.scene import averaged

        return averaged(self._plane(view, angle, t_s) for angle in angles)

    def _plane(self, view: View, angle_rad: Array, t_s: float) -> Pixels:
        image_from_plane = view.pinhole.image_from_plane(view.camera_from_rig(angle_rad), self.range_m)
        lens = view.pinhole
        return self.scene.render(image_from_plane, lens.width, lens.height, view.encoding == "BGR8", t_s)

    def surface(self, t_ns: int) -> Surface | None:
        if self.bench is None:
            return None
        return self.bench.surface(self.bench.placement(self.time_s(t_ns)))

    def classes(self, t_ns: int) -> Classes | None:
        if self.street is None or self.viewer is None:
            return None
        _, label = self.street.see(self.viewer[0], self.time_s(t_ns), self.viewer[1])
        return Classes(label, self.street.classes)

    def pose(self, t_ns: int) -> Pose | None:
        moving = self.stage or self.street
        if moving is None:
            return None
        matrix = moving.world_from_rig(self.time_s(t_ns))
        return Pose(Stamp(t_ns), matrix[:3, 3].copy(), quaternion_of(matrix[:3, :3]), "world", "camera")

    def objects(self, t_ns: int) -> Objects | None:
        if self._scene_kind in ("bench", "room", "street"):
            return None
        truth = self.scene.truth(self.time_s(t_ns))
        count = len(truth.ids)
        return Objects(
            Stamp(t_ns), truth.ids.copy(), truth.labels.copy(), np.arctan(truth.center_m / self.range_m),
            np.zeros((count, 2)), truth.size_m / self.range_m, np.ones(count),
            np.zeros(count, np.int32), self.scene.names,
        )  # fmt: skip
