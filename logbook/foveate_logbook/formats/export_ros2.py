"""Streams as a ROS 2 bag."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from foveate.errors import BackendMissing, RecordingError
from foveate.messages import CameraInfo, DepthFrame, Frame, Imu, Message, Pose
from foveate.recording import Recording
from foveate_logbook.formats.export_streams import Progress, appearing, counted, in_order, kinds_of, place_of

_IMAGE, _INFO, _IMU = "sensor_msgs/msg/Image", "sensor_msgs/msg/CameraInfo", "sensor_msgs/msg/Imu"
_TYPES: dict[type[Message], str] = {
    Frame: _IMAGE, DepthFrame: _IMAGE, CameraInfo: _INFO, Imu: _IMU, Pose: "geometry_msgs/msg/PoseStamped",
}  # fmt: skip


def fitting(kinds: Mapping[str, type[Message]]) -> list[str]:
    """Streams that are written where none are named: what has a ROS type."""
    return [name for name, kind in kinds.items() if place_of(kind, _TYPES)]


def write(log: Recording, streams: list[str], to: Path, progress: Progress) -> list[str]:
    """`to`: NAME.mcap or NAME.db3 for one file, else a folder as `ros2 bag play` takes it, in MCAP.

    `node.output` becomes topic /node/output; depth becomes 16UC1 in millimetres. Returns lines saying what was written.
    Raises RecordingError, BackendMissing.
    """
    try:
        from rosbags.rosbag2 import StoragePlugin, Writer
        from rosbags.typesys import Stores, get_typestore
    except ImportError:
        raise BackendMissing(str(to), "rosbags", "ros") from None
    kinds = kinds_of(log, streams)
    chosen = {name: kinds[name] for name in fitting(kinds)}
    types = {name: _TYPES[base] for name, kind in chosen.items() if (base := place_of(kind, _TYPES))}
    if not chosen:
        raise RecordingError(f"{log.path}: none of {', '.join(streams)} has a ROS type")
    suffix = to.suffix.lower()
    storage = StoragePlugin.SQLITE3 if suffix == ".db3" else StoragePlugin.MCAP
    store = get_typestore(Stores.ROS2_HUMBLE)
    made = _Maker(store)
    counts = dict.fromkeys(chosen, 0)
    with appearing(to) as place:
        bag = place.with_suffix("") if suffix in (".mcap", ".db3") else place
        with Writer(bag, version=9, storage_plugin=storage) as writer:
            topics = {n: writer.add_connection(_topic(n), ros, typestore=store) for n, ros in types.items()}
            for name, t_ns, message in in_order(log, chosen, progress):
                ros = made.of(name, message, log.wall_start_ns)
                data = store.serialize_cdr(ros, types[name])
                writer.write(topics[name], max(log.wall_start_ns + t_ns, 0), data)
                counts[name] += 1
        if bag != place:
            next(item for item in bag.iterdir() if item.suffix == suffix).rename(place)
    lines = [f"{to}: {_topic(n)} {ros}, {counted(counts[n], 'message')}" for n, ros in types.items()]
    lines += [f"{name}: depth rounded to millimetres" for name in sorted(made.rounded)]
    return lines + [f"{n}: left out, {k.__name__} has no ROS type" for n, k in kinds.items() if n not in chosen]


def _topic(stream: str) -> str:
    return "/" + stream.replace(".", "/")


class _Maker:
    """ROS messages of foveate's."""

    def __init__(self, store: Any) -> None:
        self._types = store.types
        self._makers: dict[type[Message], Callable[[Any, Any], Any]] = {
            Frame: self._frame, DepthFrame: self._depth, CameraInfo: self._info, Imu: self._imu, Pose: self._pose,
        }  # fmt: skip
        self._name = ""
        self.rounded: set[str] = set()  # streams whose depth is not in whole millimetres

    def of(self, stream: str, message: Message, start_ns: int) -> Any:
        self._name = stream
        frame = message.parent if isinstance(message, Pose) else stream.rpartition(".")[0].rpartition("/")[2]
        seconds, nanoseconds = divmod(start_ns + message.stamp.t_ns, 1_000_000_000)
        header = self._new("std_msgs/msg/Header", self._new("builtin_interfaces/msg/Time", seconds, nanoseconds), frame)
        base = place_of(type(message), self._makers)
        assert base is not None, "only what fits is given"
        return self._makers[base](message, header)

    def _new(self, name: str, *values: Any) -> Any:
        return self._types[name](*values)

    def _image(self, header: Any, encoding: str, pixels: Any) -> Any:
        height, width = pixels.shape[:2]
        flat = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
        return self._new(_IMAGE, header, height, width, encoding, 0, flat.size // height, flat)

    def _frame(self, m: Frame, header: Any) -> Any:
        return self._image(header, "mono8" if m.image.ndim == 2 else "bgr8", m.image)

    def _depth(self, m: DepthFrame, header: Any) -> Any:
        depth = m.depth
        if m.scale_m != 0.001:
            exact = m.depth * (m.scale_m * 1000)
            whole = np.rint(exact)
            if np.abs(exact - whole).max(initial=0) > 1e-6 or whole.max(initial=0) > 65535:
                self.rounded.add(self._name)
            depth = np.where(whole <= 65535, whole, 0).astype(np.uint16)
        return self._image(header, "16UC1", depth.astype("<u2", copy=False))

    def _info(self, m: CameraInfo, header: Any) -> Any:
        k = m.camera_matrix
        projection = np.hstack([k, np.zeros((3, 1))]).reshape(-1)
        region = self._new("sensor_msgs/msg/RegionOfInterest", 0, 0, 0, 0, False)
        return self._new(
            _INFO, header, m.height, m.width, m.model, m.distortion.copy(), k.reshape(-1).copy(),
            np.eye(3).reshape(-1), projection, 0, 0, region,
        )  # fmt: skip

    def _vector(self, name: str, v: Any) -> Any:
        return self._new(f"geometry_msgs/msg/{name}", *(float(x) for x in v))

    def _imu(self, m: Imu, header: Any) -> Any:
        unknown = np.zeros(9)
        unknown[0] = -1.0  # sensor_msgs/Imu: the sensor gives no orientation
        return self._new(
            _IMU, header, self._vector("Quaternion", (0, 0, 0, 1)), unknown,
            self._vector("Vector3", m.angular_velocity_rad_s), np.zeros(9),
            self._vector("Vector3", m.acceleration_m_s2), np.zeros(9),
        )  # fmt: skip

    def _pose(self, m: Pose, header: Any) -> Any:
        position, turn = self._vector("Point", m.position_m), self._vector("Quaternion", m.orientation)
        pose = self._new("geometry_msgs/msg/Pose", position, turn)
        return self._new("geometry_msgs/msg/PoseStamped", header, pose)
