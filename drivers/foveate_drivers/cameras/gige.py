"""GigE Vision cameras through Aravis (`gige:SERIAL`, `gige:Vendor-Serial`, `gige:192.168.0.5`)."""

from __future__ import annotations

import ctypes
import ipaddress
import threading
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le

from foveate.clock import Clock, process_ns
from foveate.device import DeviceInfo
from foveate.errors import Busy, DeviceError, Disconnected, NotFound
from foveate.node import Unit
from foveate_drivers.adjustable import Health
from foveate_drivers.cameras import gvcp
from foveate_drivers.cameras.aravis import Aravis, AravisNodes, installed
from foveate_drivers.cameras.aravis_stream import AravisStream
from foveate_drivers.cameras.frame_times import Reading
from foveate_drivers.cameras.genicam import Agreed, Block, GenicamCamera
from foveate_drivers.cameras.genicam_names import nodes_info

_HEADERS = 36  # bytes of IP, UDP and GVSP before the image in a packet
_SILENT_PERIODS = 3  # after which a camera that should send is asked whether it is there
_SILENT_NS = (100_000_000, 500_000_000)  # bounds of that; the upper where nobody knows when it will send
_ANSWER_NS, _TRIES = 100_000_000, 3  # with the slices of `read` at most 0.9 s from the last frame to Disconnected
_SIMULATED = (("foveate", "GigE emulator"), ("Aravis", "Fake"))  # cameras that are programs; logs shall say so
_HELD = "another program controls it; a camera whose program died is free after 3 s"


class GigeCamera(GenicamCamera):
    """A GigE Vision camera by its serial number, device id or IP address.

    Incomplete frames are dropped, and counted in the next one's `lost_before` and in `health`: nothing after the
    camera looks at `missing_bytes`, and half an image passes for a whole one. With `incomplete: keep` they come,
    black where bytes are missing.
    """

    _remedy = "; raise net.core.rmem_max, or lower the rate or packet_size"

    def __init__(
        self,
        *,
        address: str,
        width: Annotated[int, Unit("px"), Ge(1)] | None = None,
        height: Annotated[int, Unit("px"), Ge(1)] | None = None,
        offset_x: Annotated[int, Unit("px"), Ge(0)] | None = None,
        offset_y: Annotated[int, Unit("px"), Ge(0)] | None = None,
        rate: Annotated[float, Unit("Hz"), Gt(0)] | None = None,
        exposure: Annotated[float, Unit("s"), Gt(0)] | None = None,
        gain: Annotated[float, Unit("dB")] | None = None,
        encoding: str | None = None,
        keep_bits: bool = False,
        trigger: str | None = None,
        field: Annotated[float, Unit("rad"), Gt(0.001), Le(2.5)] | None = None,
        offset: Annotated[float, Unit("m")] = 0.0,
        buffers: Annotated[int, Ge(2), Le(1000)] = 8,
        packet_size: Annotated[int, Unit("B"), Ge(220), Le(16404)] | None = None,
        incomplete: Literal["drop", "keep"] = "drop",
        stamped: Literal["exposure_start", "exposure_end"] = "exposure_start",
    ) -> None:
        """What is not given stays as the camera has it, but for `trigger`, which is off then.

        `encoding`: PFNC name of what the camera sends; frames are Mono8 or BGR8, with `keep_bits` Mono16.
        `packet_size`: None finds the largest that the network carries. `stamped`: what the camera's times mean.
        """
        wanted = {"width": width, "height": height, "offset_x": offset_x, "offset_y": offset_y, "rate": rate,
                  "exposure": exposure, "gain": gain, "encoding": encoding}  # fmt: skip
        super().__init__(wanted, trigger, field, offset, buffers, keep_bits, incomplete, stamped)
        self._address = address
        self._packet_size = packet_size
        self._aravis: Aravis | None = None
        self._camera = 0
        self._stream: AravisStream | None = None
        self._pulse: gvcp.Pulse | None = None
        self._info: DeviceInfo | None = None
        self._packets = (0, 0, 0)

    def open(self, clock: Clock) -> None:
        aravis = self._aravis = Aravis(self.uri)
        self._camera = self._found(aravis)
        try:
            device = aravis.c.arv_camera_get_device(self._camera)
            if not aravis.c.arv_camera_is_gv_device(self._camera):
                raise NotFound(self.uri, "open", f"'{self._address}' is no GigE Vision camera")
            if not aravis.c.arv_gv_device_is_controller(device):
                raise Busy(
                    self.uri, "open", "another program controls it; a camera whose program died is free after 3 s"
                )
            nodes = AravisNodes(aravis, device)
            told = nodes_info(self.uri, nodes)
            self._info = replace(told, simulated=(told.vendor, told.model) in _SIMULATED)
            wide = nodes.kind("GevGVSPExtendedIDMode") and nodes.get("GevGVSPExtendedIDMode") == "On"
            self._id_modulus = 2**64 - 1 if wide else 65535
            aravis.c.arv_camera_gv_set_packet_size_adjustment(self._camera, 0)  # it is set below, once
            if self._packet_size is None:
                aravis.call("arv_camera_gv_auto_packet_size", self._camera, doing="find a packet size")
            else:
                aravis.call("arv_camera_gv_set_packet_size", self._camera, self._packet_size, doing="set packet_size")
            self._pulse = gvcp.Pulse(_ip_address(aravis, device), _ANSWER_NS, _TRIES)
            self._ready(clock, nodes)
        except BaseException:
            self.close()
            raise

    def _check_free(self) -> None:
        """Ask at an IP address first: Aravis takes 2.5 s to find nobody there, or somebody else in control."""
        try:
            pulse = gvcp.Pulse(str(ipaddress.IPv4Address(self._address)), _ANSWER_NS, _TRIES)
        except (ValueError, OSError):
            return
        held = pulse.held()
        pulse.close()
        if held is None:
            raise NotFound(self.uri, "open", f"no camera answers to '{self._address}'")
        if held:
            raise Busy(self.uri, "open", _HELD)

    def _found(self, aravis: Aravis) -> int:
        """The camera of that name. Takes 1 s where it is not an IP address and Aravis has not seen it before."""
        self._check_free()
        name = self._listed(aravis) or self._address.encode()
        try:
            return int(aravis.call("arv_camera_new", name, doing="open"))
        except DeviceError as error:  # Aravis has just looked around, but it does not know serial numbers alone
            listed = self._listed(aravis)
            if listed is None or listed == name:
                raise NotFound(self.uri, "open", f"no camera answers to '{self._address}' ({error.hint})") from None
            return int(aravis.call("arv_camera_new", listed, doing="open"))

    def _listed(self, aravis: Aravis) -> bytes | None:
        """Aravis' id of the camera with that serial number, if it saw one when it last looked around."""
        c = aravis.c
        numbers = range(c.arv_get_n_devices())
        found = (c.arv_get_device_id(i) for i in numbers if c.arv_get_device_serial_nbr(i) == self._address.encode())
        return next(found, None)

    def close(self) -> None:
        self._close_stream()
        if self._pulse is not None:
            self._pulse.close()
            self._pulse = None
        if self._camera:
            camera, self._camera = self._camera, 0
            assert self._aravis is not None
            self._let_go(partial(self._aravis.c.g_object_unref, camera))

    def _let_go(self, release: Callable[[], None]) -> None:
        """Of a dead camera by a thread: Aravis waits 8 s for answers to its farewell, and none is to be blind then."""
        if self._lost_why:
            threading.Thread(target=release, name=f"release {self.uri}", daemon=True).start()
        else:
            release()

    def info(self) -> DeviceInfo:
        return self._info or DeviceInfo(self.uri)

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """Cameras that answer on the networks of this computer; none is opened. Takes 1 s."""
        if not installed():
            return []
        c = Aravis("gige:").c
        c.arv_update_device_list()
        found = []
        for i in range(c.arv_get_n_devices()):
            if c.arv_get_device_protocol(i) == b"GigEVision":
                serial, vendor, model, address = (
                    (getattr(c, f"arv_get_device_{what}")(i) or b"").decode(errors="replace")
                    for what in ("serial_nbr", "vendor", "model", "address")
                )
                simulated = (vendor, model) in _SIMULATED
                found.append(DeviceInfo(f"gige:{serial or address}", vendor, model, serial, simulated))
        return found

    def _begin(self, agreed: Agreed) -> None:
        assert self._aravis is not None and self._nodes is not None
        payload = self._aravis.call("arv_camera_get_payload", self._camera, doing="start")
        packet_bytes = None
        if self._keep_incomplete:
            packet_bytes = self._aravis.call("arv_camera_gv_get_packet_size", self._camera, doing="start") - _HEADERS
        self._stream = AravisStream(self._aravis, self._camera, payload, self._buffers, packet_bytes)
        try:
            self._nodes.set("AcquisitionStart", True)
        except DeviceError:
            self._stream.close()
            self._stream = None
            raise

    def _end(self) -> None:
        assert self._stream is not None and self._nodes is not None
        try:
            if not self._lost_why:  # each write to a dead camera takes 2.5 s
                self._nodes.set("AcquisitionStop", True)
        except DeviceError:
            pass  # it goes away, and with it what it sends
        finally:
            self._packets = self._stream.packets()
            stream, self._stream = self._stream, None
            self._let_go(stream.close)

    def _pop(self, timeout_ns: int) -> Block | None:
        assert self._stream is not None and self._pulse is not None
        block = self._stream.pop(timeout_ns)
        if block is not None:
            self._pulse.rest()
        return block

    def _clock_reading(self, clock: Clock) -> Reading | None:
        """By the bootstrap registers that GigE Vision asks of every camera; some leave them 0."""
        assert self._aravis is not None
        ticks_per_s = self._wide_register(gvcp.TICKS_PER_S)
        before_ns = clock.now_ns()
        device = self._aravis.c.arv_camera_get_device(self._camera)
        self._aravis.call(
            "arv_device_write_register", device, gvcp.TIMESTAMP_CONTROL, gvcp.LATCH, doing="read its clock"
        )
        after_ns = clock.now_ns()
        ticks = self._wide_register(gvcp.TIMESTAMP_VALUE)
        return (ticks * 1_000_000_000 // ticks_per_s, before_ns, after_ns) if ticks and ticks_per_s else None

    def _wide_register(self, address: int) -> int:
        assert self._aravis is not None
        device, half, value = self._aravis.c.arv_camera_get_device(self._camera), ctypes.c_uint32(), 0
        for at in (address, address + 4):
            self._aravis.call("arv_device_read_register", device, at, ctypes.byref(half), doing="read its clock")
            value = value << 32 | half.value
        return value

    def _check_alive(self, silent_ns: int) -> None:
        if self._lost_why:
            raise Disconnected(self.uri, "read", self._lost_why)
        low_ns, high_ns = _SILENT_NS
        limit_ns = high_ns if self.period_ns is None else min(max(_SILENT_PERIODS * self.period_ns, low_ns), high_ns)
        if silent_ns > limit_ns and self._pulse is not None:
            why = self._pulse.lost(process_ns())
            if why:
                raise Disconnected(self.uri, "read", self._lost(why))

    def health(self) -> Health:
        health = super().health()
        stream = self._stream
        resent, missing, underruns = stream.packets() if stream is not None else self._packets
        counters = {**health.counters, "resent": resent, "missing_packets": missing, "packets_unbuffered": underruns}
        return Health(health.state, health.detail, counters, health.temperature_c)


def _ip_address(aravis: Aravis, device: int) -> str:
    """Where the camera is, as Aravis found it."""
    c = aravis.c
    text = c.g_inet_address_to_string(c.g_inet_socket_address_get_address(c.arv_gv_device_get_device_address(device)))
    try:
        return (ctypes.string_at(text) or b"").decode()
    finally:
        c.g_free(text)
