"""ROS message types and what they become; the messages come as objects with ROS's field names.

A TFMessage gives one Pose for each of its transforms, all on its own topic: `parent` and `child` tell them apart.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from foveate.messages import CameraInfo, Events, Frame, Imu, Message, Pose
from foveate_logbook.formats import event_packets, pixels
from foveate_logbook.formats.channels import Arrival, Undecodable


@dataclass(frozen=True, slots=True)
class Converter:
    """How a ROS type becomes messages."""

    kind: type[Message]
    convert: Callable[[Any, Arrival], Iterable[Message]]
    look: bool = False  # a Frame or a DepthFrame, which only the messages tell


def time_ns(time: Any) -> int:
    """A ROS time as Unix nanoseconds."""
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def _stamp_of(message: Any, at: Arrival) -> Any:
    return at.stamp(time_ns(message.header.stamp))


def _image(m: Any, at: Arrival) -> Iterable[Message]:
    return [pixels.raw_image(m.data, m.width, m.height, m.step, m.encoding, bool(m.is_bigendian), at, _stamp_of(m, at))]


def _packed_image(m: Any, at: Arrival) -> Iterable[Message]:
    """`format` is "jpeg", "png", or as image_transport writes it: "16UC1; compressedDepth png"."""
    stamp, form = _stamp_of(m, at), m.format
    encoding, _, how = form.partition(";")
    if "compresseddepth" in form.lower():
        if "rvl" in form.lower():
            raise Undecodable(f"images packed as '{form}' are not read, PNG is")
        return [pixels.packed_depth(m.data, encoding.strip(), at, stamp)]
    known = encoding.strip().lower() if how else ""
    return [pixels.packed_image(m.data, at, stamp, encoding=known, swapped="compressed rgb" in how)]


def _camera_info(m: Any, at: Arrival) -> Iterable[Message]:
    """ROS 1 writes the matrices in capitals."""
    matrix = getattr(m, "k", None) if hasattr(m, "k") else m.K
    distortion = m.d if hasattr(m, "d") else m.D
    return [
        CameraInfo(
            _stamp_of(m, at), int(m.width), int(m.height), m.distortion_model or "none",
            np.array(matrix, np.float64).reshape(3, 3), np.array(distortion, np.float64).reshape(-1),
        )
    ]  # fmt: skip


def _vector(v: Any) -> Any:
    return np.array([v.x, v.y, v.z], np.float64)


def _imu(m: Any, at: Arrival) -> Iterable[Message]:
    return [Imu(_stamp_of(m, at), _vector(m.angular_velocity), _vector(m.linear_acceleration))]


def _pose(header: Any, position: Any, turn: Any, child: str, at: Arrival) -> Pose:
    orientation = np.array([turn.x, turn.y, turn.z, turn.w], np.float64)
    norm = math.hypot(*orientation)  # numpy warns of the numbers in damaged messages
    if not math.isfinite(norm) or norm < 1e-6:
        raise Undecodable(f"the orientation {orientation.tolist()} is no rotation")
    if abs(norm - 1) > 1e-9:
        orientation = orientation / norm
    parent = header.frame_id.lstrip("/") or "world"
    return Pose(at.stamp(time_ns(header.stamp)), _vector(position), orientation, parent, child.lstrip("/"))


def _pose_stamped(m: Any, at: Arrival) -> Iterable[Message]:
    return [_pose(m.header, m.pose.position, m.pose.orientation, "", at)]


def _pose_with_covariance(m: Any, at: Arrival) -> Iterable[Message]:
    return [_pose(m.header, m.pose.pose.position, m.pose.pose.orientation, getattr(m, "child_frame_id", ""), at)]


def _transform(m: Any, at: Arrival) -> Iterable[Message]:
    return [_pose(m.header, m.transform.translation, m.transform.rotation, m.child_frame_id, at)]


def _transforms(m: Any, at: Arrival) -> Iterable[Message]:
    return [pose for item in m.transforms for pose in _transform(item, at)]


def _event_packet(m: Any, at: Arrival) -> Iterable[Message]:
    if m.encoding not in event_packets.DECODERS:
        known = ", ".join(event_packets.DECODERS)
        raise Undecodable(f"events packed as '{m.encoding}' are not read; those that are: {known}")
    decoder = at.memory.get(m.encoding)
    if decoder is None:
        decoder = at.memory[m.encoding] = event_packets.DECODERS[m.encoding](m.width, m.height)
    # event_camera_msgs: the header tells when the first event of the packet was seen, the packet sensor time only
    return decoder.events(m.events, at.stamp(time_ns(m.header.stamp)).t_ns, int(m.time_base))  # type: ignore[no-any-return]


CONVERTERS: dict[str, Converter] = {
    "sensor_msgs/msg/Image": Converter(Frame, _image, look=True),
    "sensor_msgs/msg/CompressedImage": Converter(Frame, _packed_image, look=True),
    "sensor_msgs/msg/CameraInfo": Converter(CameraInfo, _camera_info),
    "sensor_msgs/msg/Imu": Converter(Imu, _imu),
    "geometry_msgs/msg/PoseStamped": Converter(Pose, _pose_stamped),
    "geometry_msgs/msg/PoseWithCovarianceStamped": Converter(Pose, _pose_with_covariance),
    "geometry_msgs/msg/TransformStamped": Converter(Pose, _transform),
    "nav_msgs/msg/Odometry": Converter(Pose, _pose_with_covariance),
    "tf2_msgs/msg/TFMessage": Converter(Pose, _transforms),
    "tf/msg/tfMessage": Converter(Pose, _transforms),
    "event_camera_msgs/msg/EventPacket": Converter(Events, _event_packet),
}
