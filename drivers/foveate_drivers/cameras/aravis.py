"""Aravis, the library of Debian that speaks GigE Vision (libaravis-0.8), by ctypes: what `gige:` needs of it.

Aravis receives, reassembles and resends in a C thread of its own, so a busy interpreter costs no packets.
"""

from __future__ import annotations

import ctypes
import ctypes.util
from ctypes import POINTER, byref, c_char_p, c_double, c_int, c_int64, c_size_t, c_uint, c_uint32, c_uint64, c_void_p
from functools import cache
from typing import Any

from foveate.errors import BackendMissing, Busy, DeviceError, NotFound, NotSupported, ProtocolError, Timeout
from foveate_drivers.adjustable import Value

_LIBRARY = "aravis-0.8"
_SONAME = "libaravis-0.8.so.0"

COMPLETE = 0  # ArvBufferStatus
_NEVER_ADJUST = 0  # ArvGvPacketSizeAdjustment
_READ_ONLY = 0  # ArvGcAccessMode


class _Error(ctypes.Structure):
    """GError."""

    _fields_ = (("domain", c_uint32), ("code", c_int), ("message", c_char_p))


_ErrorSlot = POINTER(POINTER(_Error))

# name: (result, arguments); a "!" at the end of the name stands for a last argument of GError **
_FUNCTIONS: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "arv_update_device_list": (None, ()),
    "arv_get_n_devices": (c_uint, ()),
    "arv_get_device_id": (c_char_p, (c_uint,)),
    "arv_get_device_vendor": (c_char_p, (c_uint,)),
    "arv_get_device_model": (c_char_p, (c_uint,)),
    "arv_get_device_serial_nbr": (c_char_p, (c_uint,)),
    "arv_get_device_address": (c_char_p, (c_uint,)),
    "arv_get_device_protocol": (c_char_p, (c_uint,)),
    "arv_camera_new!": (c_void_p, (c_char_p,)),
    "arv_camera_get_device": (c_void_p, (c_void_p,)),
    "arv_camera_is_gv_device": (c_int, (c_void_p,)),
    "arv_camera_create_stream!": (c_void_p, (c_void_p, c_void_p, c_void_p)),
    "arv_camera_get_payload!": (c_uint, (c_void_p,)),
    "arv_camera_gv_auto_packet_size!": (c_uint, (c_void_p,)),
    "arv_camera_gv_set_packet_size!": (None, (c_void_p, c_int)),
    "arv_camera_gv_get_packet_size!": (c_uint, (c_void_p,)),
    "arv_camera_gv_set_packet_size_adjustment": (None, (c_void_p, c_int)),
    "arv_gv_device_is_controller": (c_int, (c_void_p,)),
    "arv_gv_device_get_device_address": (c_void_p, (c_void_p,)),
    "arv_device_get_feature": (c_void_p, (c_void_p, c_char_p)),
    "arv_device_is_feature_available!": (c_int, (c_void_p, c_char_p)),
    "arv_device_get_feature_access_mode": (c_int, (c_void_p, c_char_p)),
    "arv_device_get_integer_feature_value!": (c_int64, (c_void_p, c_char_p)),
    "arv_device_set_integer_feature_value!": (None, (c_void_p, c_char_p, c_int64)),
    "arv_device_get_integer_feature_bounds!": (None, (c_void_p, c_char_p, POINTER(c_int64), POINTER(c_int64))),
    "arv_device_get_integer_feature_increment!": (c_int64, (c_void_p, c_char_p)),
    "arv_device_get_float_feature_value!": (c_double, (c_void_p, c_char_p)),
    "arv_device_set_float_feature_value!": (None, (c_void_p, c_char_p, c_double)),
    "arv_device_get_float_feature_bounds!": (None, (c_void_p, c_char_p, POINTER(c_double), POINTER(c_double))),
    "arv_device_get_float_feature_increment!": (c_double, (c_void_p, c_char_p)),
    "arv_device_get_boolean_feature_value!": (c_int, (c_void_p, c_char_p)),
    "arv_device_set_boolean_feature_value!": (None, (c_void_p, c_char_p, c_int)),
    "arv_device_get_string_feature_value!": (c_char_p, (c_void_p, c_char_p)),
    "arv_device_set_string_feature_value!": (None, (c_void_p, c_char_p, c_char_p)),
    "arv_device_execute_command!": (None, (c_void_p, c_char_p)),
    "arv_device_dup_available_enumeration_feature_values_as_strings!": (
        POINTER(c_char_p), (c_void_p, c_char_p, POINTER(c_uint))),
    "arv_device_read_register!": (c_int, (c_void_p, c_uint64, POINTER(c_uint32))),
    "arv_device_write_register!": (c_int, (c_void_p, c_uint64, c_uint32)),
    "arv_device_set_register_cache_policy": (None, (c_void_p, c_int)),
    "arv_buffer_new_allocate": (c_void_p, (c_size_t,)),
    "arv_buffer_get_status": (c_int, (c_void_p,)),
    "arv_buffer_get_data": (c_void_p, (c_void_p, POINTER(c_size_t))),
    "arv_buffer_get_frame_id": (c_uint64, (c_void_p,)),
    "arv_buffer_get_timestamp": (c_uint64, (c_void_p,)),
    "arv_buffer_get_system_timestamp": (c_uint64, (c_void_p,)),
    "arv_buffer_get_image_width": (c_int, (c_void_p,)),
    "arv_buffer_get_image_height": (c_int, (c_void_p,)),
    "arv_buffer_get_image_pixel_format": (c_uint32, (c_void_p,)),
    "arv_stream_push_buffer": (None, (c_void_p, c_void_p)),
    "arv_stream_timeout_pop_buffer": (c_void_p, (c_void_p, c_uint64)),
    "arv_stream_get_statistics": (None, (c_void_p, POINTER(c_uint64), POINTER(c_uint64), POINTER(c_uint64))),
    "arv_gv_stream_get_statistics": (None, (c_void_p, POINTER(c_uint64), POINTER(c_uint64))),
    "arv_debug_enable": (c_int, (c_char_p,)),
    "g_type_name_from_instance": (c_char_p, (c_void_p,)),
    "g_inet_address_to_string": (c_void_p, (c_void_p,)),
    "g_inet_socket_address_get_address": (c_void_p, (c_void_p,)),
    "g_object_set": (None, (c_void_p, c_char_p)),  # and a value, and None
    "g_object_unref": (None, (c_void_p,)),
    "g_free": (None, (c_void_p,)),
    "g_clear_error": (None, (_ErrorSlot,)),
}  # fmt: skip

_KINDS = {
    "ArvGcIntegerNode": "int", "ArvGcIntRegNode": "int", "ArvGcMaskedIntRegNode": "int", "ArvGcIntConverterNode": "int",
    "ArvGcIntSwissKnifeNode": "int", "ArvGcStructEntryNode": "int", "ArvGcFloatNode": "float",
    "ArvGcFloatRegNode": "float", "ArvGcConverterNode": "float", "ArvGcSwissKnifeNode": "float",
    "ArvGcEnumeration": "enum", "ArvGcBoolean": "bool", "ArvGcCommand": "command", "ArvGcStringRegNode": "string",
    "ArvGcStringNode": "string",
}  # fmt: skip

# ArvDeviceError: what it is in our tree
_MEANINGS: dict[int, type[DeviceError]] = {5: Timeout, 6: NotFound, 10: Busy, 17: Busy, 18: Busy}


@cache
def _library() -> Any:
    """The loaded library with all signatures set; None where it is not installed."""
    for name in (ctypes.util.find_library(_LIBRARY), _SONAME):
        try:
            library = ctypes.CDLL(name) if name else None
        except OSError:
            continue
        if library is not None:
            break
    else:
        return None
    for name, (result, arguments) in _FUNCTIONS.items():
        function = getattr(library, name.rstrip("!"))  # GLib's come with it: dlsym looks in what a library needs
        function.restype = result
        function.argtypes = [*arguments, _ErrorSlot] if name.endswith("!") else list(arguments)
    library.arv_debug_enable(b"all:0")  # every failed access is an error of ours, not a line on the terminal
    return library


def installed() -> bool:
    """Whether libaravis can be loaded here."""
    return _library() is not None


class LibraryMissing(BackendMissing):
    """A library that pip does not have, but the operating system's packages do."""

    def __init__(self, uri: str, library: str, apt_package: str) -> None:
        DeviceError.__init__(self, uri, f"load {library}", f"apt install {apt_package}")


class Aravis:
    """The library for one camera's URI: calls raise errors of our tree that name it."""

    def __init__(self, uri: str) -> None:
        """Raises BackendMissing where the library is not installed."""
        self.uri = uri
        self.c = _library()
        if self.c is None:
            raise LibraryMissing(uri, _SONAME, "libaravis-0.8-0")

    def call(self, name: str, *arguments: Any, doing: str) -> Any:
        """Call a function that reports by GError; raises what the error means."""
        slot = POINTER(_Error)()
        result = getattr(self.c, name)(*arguments, byref(slot))
        if slot:
            code, text = slot.contents.code, (slot.contents.message or b"").decode(errors="replace")
            self.c.g_clear_error(byref(slot))
            raise _MEANINGS.get(code, ProtocolError)(self.uri, doing, text or f"Aravis' error {code}")
        return result


class AravisNodes:
    """The features of an open camera by their GenICam names."""

    def __init__(self, aravis: Aravis, device: int) -> None:
        self._aravis = aravis
        self._device = device
        aravis.c.arv_device_set_register_cache_policy(device, 0)  # a value that is read is the camera's

    def _call(self, name: str, node: str, *arguments: Any) -> Any:
        return self._aravis.call(
            f"arv_device_{name}", self._device, node.encode(), *arguments, doing=f"use node {node}"
        )

    def kind(self, node: str) -> str:
        """int, float, enum, bool, string or command; "" where the camera has no such node now."""
        c = self._aravis.c
        found = c.arv_device_get_feature(self._device, node.encode())
        if not found or not self._call("is_feature_available", node):
            return ""
        return _KINDS.get(c.g_type_name_from_instance(found).decode(), "")

    def writable(self, node: str) -> bool:
        return bool(self._aravis.c.arv_device_get_feature_access_mode(self._device, node.encode()) != _READ_ONLY)

    def get(self, node: str) -> Value:
        kind = self.kind(node)
        if kind == "int":
            return int(self._call("get_integer_feature_value", node))
        if kind == "float":
            return float(self._call("get_float_feature_value", node))
        if kind == "bool":
            return bool(self._call("get_boolean_feature_value", node))
        if kind in ("enum", "string"):
            return str((self._call("get_string_feature_value", node) or b"").decode(errors="replace"))
        raise NotSupported(self._aravis.uri, f"read node {node}", "it has no value")

    def code(self, node: str) -> int:
        """The number behind an enumeration's present choice."""
        return int(self._call("get_integer_feature_value", node))

    def set(self, node: str, value: Value) -> None:
        kind = self.kind(node)
        if kind == "int":
            self._call("set_integer_feature_value", node, int(value))
        elif kind == "float":
            self._call("set_float_feature_value", node, float(value))
        elif kind == "bool":
            self._call("set_boolean_feature_value", node, int(bool(value)))
        elif kind in ("enum", "string"):
            self._call("set_string_feature_value", node, str(value).encode())
        elif kind == "command":
            self._call("execute_command", node)
        else:
            raise NotSupported(self._aravis.uri, f"set node {node}", "it takes no value")

    def bounds(self, node: str) -> tuple[float, float, float | None]:
        """(lowest, highest, step) of a number as the camera gives them now; the step None where there is none."""
        kind = "integer" if self.kind(node) == "int" else "float"
        number: Any = c_int64 if kind == "integer" else c_double
        lo, hi = number(), number()
        self._call(f"get_{kind}_feature_bounds", node, byref(lo), byref(hi))
        try:
            step = self._call(f"get_{kind}_feature_increment", node)
        except ProtocolError:  # the description names none
            return lo.value, hi.value, None
        return lo.value, hi.value, step if step > 1e-300 else None  # DBL_MIN stands for none too

    def choices(self, node: str) -> tuple[str, ...]:
        count = c_uint()
        values = self._call("dup_available_enumeration_feature_values_as_strings", node, byref(count))
        names = tuple(values[i].decode() for i in range(count.value))
        self._aravis.c.g_free(ctypes.cast(values, c_void_p))
        return names
