"""ROS message definitions and bytes, by `rosbags`, which is imported only when a log needs it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from foveate.errors import BackendMissing
from foveate.messages import Message
from foveate_logbook.formats.channels import Arrival, Decoder, Undecodable, one_line
from foveate_logbook.formats.ros_messages import CONVERTERS

ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_MAX_UNPACKED = 1 << 30
_RULE = "=" * 80 + "\n"
# not in the distributions' standard set, and bags of ROS 2 before Iron carry no definitions
_EXTRA = {
    "event_camera_msgs/msg/EventPacket": "std_msgs/Header header\nuint32 height\nuint32 width\nuint64 seq\n"
    "uint64 time_base\nstring encoding\nbool is_bigendian\nuint8[] events\n",
}


def import_typesys(uri: str) -> Any:
    """`rosbags.typesys`, or BackendMissing naming the extra."""
    try:
        from rosbags import typesys
    except ImportError:
        raise BackendMissing(uri, "rosbags", "ros") from None
    return typesys


def type_name(name: str) -> str:
    """`sensor_msgs/Image` of ROS 1 and `sensor_msgs::msg::dds_::Image_` of DDS as `sensor_msgs/msg/Image`."""
    parts = [part for part in name.replace("::", "/").split("/") if part and part != "dds_"]
    last = parts[-1].removesuffix("_") if "::" in name else parts[-1] if parts else ""
    return "/".join([parts[0], "msg", last]) if len(parts) == 2 else "/".join([*parts[:-1], last])


def ros_decoder(uri: str, encoding: str, schema: str, form: str, definition: str) -> Decoder:
    """How to read messages of a ROS type.

    `encoding`: "cdr" | "ros1"; `form`: "ros2msg" | "ros2idl" | "ros1msg" and the `definition` as the log has them,
    both empty where it has none. Raises BackendMissing when rosbags is needed and absent.
    """
    name = type_name(schema)
    known = CONVERTERS.get(name)
    if known is None:
        if not definition and not _is_standard(uri, name, encoding):
            return Decoder(None, f"no definition of {name} in the file")
        return Decoder(None, f"{name} has no counterpart in foveate")
    try:
        store = _store(uri, encoding, name, form, definition)
    except BackendMissing:
        raise
    except Exception as error:  # the parser is given text of others
        return Decoder(None, f"the definition of {name} cannot be read: {one_line(error)}")
    read = store.deserialize_cdr if encoding == "cdr" else store.deserialize_ros1

    def decode(data: bytes, at: Arrival) -> Iterable[Message]:
        return known.convert(read(unpacked(data), name), at)

    return Decoder(known.kind, "", decode, known.look)


def unpacked(data: bytes) -> bytes:
    """The content of a message that rosbag2 packed with zstd; other bytes as they are (CDR begins with a zero)."""
    if data[:4] != ZSTD_MAGIC:
        return data
    import zstandard

    try:
        return zstandard.ZstdDecompressor().decompressobj().decompress(data)
    except (zstandard.ZstdError, MemoryError) as error:
        raise Undecodable(f"packed with zstd and damaged: {error}") from None


def _is_standard(uri: str, name: str, encoding: str) -> bool:
    try:
        typesys = import_typesys(uri)
    except BackendMissing:
        return False  # no message of the topic will be decoded: its exact reason is not worth a package
    return name in _standard(typesys, encoding).fielddefs


def _standard(typesys: Any, encoding: str) -> Any:
    stores = typesys.Stores
    return typesys.get_typestore(stores.LATEST if encoding == "cdr" else stores.ROS1_NOETIC)


def _store(uri: str, encoding: str, name: str, form: str, definition: str) -> Any:
    """A store of the type and what it is made of, from the log's own definition where there is one.

    One store a type: two parts of a log may define a type differently.
    """
    typesys = import_typesys(uri)
    if not definition:
        store = _standard(typesys, encoding)
        if name in _EXTRA and name not in store.fielddefs:
            store.register(typesys.get_types_from_msg(_EXTRA[name], name))
        return store
    types: dict[str, Any] = {}
    if form == "ros2idl" or definition.startswith(f"{_RULE}IDL: "):
        parts = definition.split(_RULE)[1:] if definition.startswith(f"{_RULE}IDL: ") else [f"\n{definition}"]
        for part in parts:
            types.update(typesys.get_types_from_idl(part.split("\n", 1)[1]))
    else:
        types.update(typesys.get_types_from_msg(definition.replace("\r\n", "\n"), name))
    store = typesys.get_typestore(typesys.Stores.EMPTY)
    store.register(types)
    return store
