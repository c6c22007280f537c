"""Cameras behind a maker's GenTL producer, through Harvesters (`gentl:/opt/maker/producer.cti#SERIAL`)."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt, Le

from foveate.catalog import optional
from foveate.clock import Clock, process_ns
from foveate.device import DeviceInfo
from foveate.errors import (
    BackendMissing,
    Busy,
    DeviceError,
    Disconnected,
    NotFound,
    NotSupported,
    ProtocolError,
    Timeout,
)
from foveate.node import Unit
from foveate_drivers.adjustable import Value
from foveate_drivers.cameras.genicam import Agreed, Block, GenicamCamera

_SEARCH_PATH = "GENICAM_GENTL64_PATH"  # where makers' installers put their producers (EMVA GenTL 1.6, section 4.1.3)
_KINDS = {
    "IInteger": "int", "IFloat": "float", "IEnumeration": "enum", "IBoolean": "bool", "ICommand": "command",
    "IString": "string",
}  # fmt: skip
_WRITE_ONLY, _READ_ONLY, _READ_WRITE = 2, 3, 4  # EAccessMode
_SILENT_NS = 300_000_000  # after which, and between which, a silent camera is asked for a node
_SHORTEST_S = 1e-6  # Harvesters takes a timeout of 0 for none at all


class _Producers:
    """Opened producers. One serves all its cameras: a process can open it only once."""

    def __init__(self) -> None:
        self._open: dict[Path, tuple[Any, int]] = {}

    def take(self, uri: str, file: Path) -> Any:
        """A Harvester with that producer alone; its list of devices is from when the first was taken."""
        harvester, users = self._open.get(file, (None, 0))
        if harvester is None:
            harvester = optional("harvesters.core", uri, "gentl").Harvester()
            try:
                harvester.add_file(str(file), check_existence=True, check_validity=True)
            except OSError as error:
                raise ProtocolError(
                    uri, "open", f"{file.name} is no GenTL producer for this computer: {error}"
                ) from None
            harvester.update()  # only now: looking for devices again pulls those in use away (Harvesters 1.4.3)
        self._open[file] = harvester, users + 1
        return harvester

    def give_back(self, file: Path) -> None:
        harvester, users = self._open.pop(file)
        if users > 1:
            self._open[file] = harvester, users - 1
        else:
            harvester.reset()


_producers = _Producers()


class GentlNodes:
    """The features of a camera by their GenICam names, through GenApi."""

    def __init__(self, uri: str, node_map: Any) -> None:
        self._uri = uri
        self._map = node_map
        self._genapi = optional("genicam.genapi", uri, "gentl")

    def _node(self, node: str) -> Any:
        try:
            return self._map.get_node(node)
        except self._genapi.LogicalErrorException:
            return None

    @contextlib.contextmanager
    def _using(self, node: str) -> Any:
        """Whatever GenApi raises becomes an error of our tree."""
        genapi, doing = self._genapi, f"use node {node}"
        try:
            yield self._node(node)
        except genapi.TimeoutException as error:
            raise Timeout(self._uri, doing, str(error)) from None
        except (genapi.AccessException, genapi.OutOfRangeException) as error:
            raise NotSupported(self._uri, doing, " ".join(str(error).split())) from None
        except Exception as error:  # GenApi's and the producer's trees have no common root
            raise ProtocolError(self._uri, doing, " ".join(str(error).split())) from None

    def kind(self, node: str) -> str:
        with self._using(node) as found:
            if found is None or found.get_access_mode() not in (_WRITE_ONLY, _READ_ONLY, _READ_WRITE):
                return ""
            return _KINDS.get(type(found).__name__, "")

    def writable(self, node: str) -> bool:
        with self._using(node) as found:
            return bool(found.get_access_mode() in (_WRITE_ONLY, _READ_WRITE))

    def get(self, node: str) -> Value:
        with self._using(node) as found:
            value: Value = found.value
            return value

    def code(self, node: str) -> int:
        with self._using(node) as found:
            return int(found.get_int_value())

    def set(self, node: str, value: Value) -> None:
        kind = self.kind(node)
        with self._using(node) as found:
            if kind == "command":
                found.execute()
            else:
                found.value = {"int": int, "float": float, "bool": bool}.get(kind, str)(value)

    def bounds(self, node: str) -> tuple[float, float, float | None]:
        with self._using(node) as found:
            has_step = type(found).__name__ == "IInteger" or found.has_inc()
            return found.min, found.max, found.inc if has_step else None

    def choices(self, node: str) -> tuple[str, ...]:
        with self._using(node) as found:
            return tuple(found.symbolics)

    def ask_anew(self, node: str) -> None:
        """Read a node from the camera, not from what GenApi remembers."""
        with self._using(node) as found:
            found.node.invalidate_node()
            _ = found.value


class GentlCamera(GenicamCamera):
    """A camera by `PRODUCER.cti#DEVICE`; DEVICE is an id, a serial number, or left out where there is one.

    Each image is copied or converted once: the producer has a fixed number of buffers, and who holds ten frames
    must not stop it. Harvesters drops incomplete frames; they are counted as lost.
    """

    _id_modulus = 2**64 - 1

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
        buffers: Annotated[int, Ge(3), Le(1000)] = 8,
        stamped: Literal["exposure_start", "exposure_end"] = "exposure_start",
    ) -> None:
        """As `GigeCamera`. What is not given stays as the camera has it, but for `trigger`, which is off then."""
        wanted = {"width": width, "height": height, "offset_x": offset_x, "offset_y": offset_y, "rate": rate,
                  "exposure": exposure, "gain": gain, "encoding": encoding}  # fmt: skip
        super().__init__(wanted, trigger, field, offset, buffers, keep_bits, "drop", stamped)
        self._file_text, _, self._device_text = address.partition("#")
        self._file: Path | None = None
        self._acquirer: Any = None
        self._filled: Any = None  # the producer's buffer whose bytes were given last
        self._asked_ns = 0
        self._info: DeviceInfo | None = None

    def open(self, clock: Clock) -> None:
        file = _found(self.uri, self._file_text)
        harvester = _producers.take(self.uri, file)
        self._file = file
        try:
            self._acquirer = self._opened(harvester)
            nodes = GentlNodes(self.uri, self._acquirer.remote_device.node_map)
            self._acquirer.num_buffers = max(self._buffers, self._acquirer.min_num_buffers)
            self._ready(clock, nodes)
        except BaseException:
            self.close()
            raise

    def _opened(self, harvester: Any) -> Any:
        known = {_text(item, "id_"): item for item in harvester.device_info_list}
        wanted = [key for key, item in known.items() if self._device_text in ("", key, _text(item, "serial_number"))]
        if len(wanted) != 1:
            raise NotFound(self.uri, "open", f"write the producer and one of: {', '.join(known) or 'no device'}")
        item = known[wanted[0]]
        vendor, model, serial = (_text(item, name) for name in ("vendor", "model", "serial_number"))
        self._info = DeviceInfo(self.uri, vendor, model, serial)
        try:
            return harvester.create({"id_": wanted[0]})
        except Exception as error:
            what = type(error).__name__
            kind = Busy if what in ("AccessDeniedException", "ResourceInUseException") else ProtocolError
            raise kind(self.uri, "open", " ".join(str(error).split())) from None

    def close(self) -> None:
        self._close_stream()
        if self._acquirer is not None:
            acquirer, self._acquirer = self._acquirer, None
            with contextlib.suppress(Exception):  # a device that went away cannot be closed
                acquirer.destroy()
        if self._file is not None:
            file, self._file = self._file, None
            _producers.give_back(file)

    def info(self) -> DeviceInfo:
        return self._info or DeviceInfo(self.uri)

    @classmethod
    def probe(cls) -> list[DeviceInfo]:
        """Cameras of the producers that are installed as GenTL has it; none is opened."""
        found = []
        for file in _installed():
            uri = f"gentl:{file}"
            try:
                harvester = _producers.take(uri, file)
            except BackendMissing:
                return []
            except DeviceError:
                continue
            for item in harvester.device_info_list:
                vendor, model, serial = (_text(item, name) for name in ("vendor", "model", "serial_number"))
                found.append(DeviceInfo(f"{uri}#{_text(item, 'id_')}", vendor, model, serial))
            _producers.give_back(file)
        return found

    def _begin(self, agreed: Agreed) -> None:
        try:
            self._acquirer.start()
        except Exception as error:
            raise ProtocolError(self.uri, "start", " ".join(str(error).split())) from None

    def _end(self) -> None:
        self._requeue()
        with contextlib.suppress(Exception):  # a device that went away cannot be stopped
            self._acquirer.stop()

    def _requeue(self) -> None:
        filled, self._filled = self._filled, None
        if filled is not None:
            filled.parent.queue_buffer(filled)

    def _pop(self, timeout_ns: int) -> Block | None:
        try:
            self._requeue()
            filled = self._acquirer.try_fetch(timeout=max(timeout_ns / 1e9, _SHORTEST_S), is_raw=True)
        except Exception as error:
            raise Disconnected(self.uri, "read", self._lost(" ".join(str(error).split()))) from None
        if filled is None:
            return None
        self._filled = filled
        offset = _told(filled, "image_offset")
        data = np.frombuffer(filled.raw_buffer, np.uint8, offset=offset)
        return Block(
            int(filled.frame_id), _device_ns(filled), 0, data, 0, _told(filled, "width"), _told(filled, "height"),
            _told(filled, "pixel_format"), borrowed=True,
        )  # fmt: skip

    def _check_alive(self, silent_ns: int) -> None:
        if self._lost_why:
            raise Disconnected(self.uri, "read", self._lost_why)
        now_ns = process_ns()
        if silent_ns < max(_SILENT_NS, 3 * (self.period_ns or 0)) or now_ns - self._asked_ns < _SILENT_NS:
            return
        self._asked_ns = now_ns
        try:
            assert isinstance(self._nodes, GentlNodes)
            self._nodes.ask_anew("Width")
        except DeviceError as error:
            raise Disconnected(self.uri, "read", self._lost(f"it is silent, and {error.hint}")) from None


def _text(item: Any, name: str) -> str:
    """A property of a device; "" where its producer does not have it."""
    try:
        return str(getattr(item, name) or "")
    except Exception:
        return ""


def _told(buffer: Any, name: str) -> int:
    """A property of a buffer; 0 where its producer does not have it."""
    try:
        return int(getattr(buffer, name))
    except Exception:
        return 0


def _device_ns(buffer: Any) -> int:
    """When the camera took it, on its clock; 0 where it gives no time."""
    exact = _told(buffer, "timestamp_ns")
    if exact:
        return exact
    try:
        return round(int(buffer.timestamp) * 1e9 / int(buffer.parent.parent.timestamp_frequency))
    except Exception:
        return 0


def _installed() -> list[Path]:
    folders = [Path(text) for text in os.environ.get(_SEARCH_PATH, "").split(os.pathsep) if text]
    return sorted(file for folder in folders for file in folder.glob("*.cti"))


def _found(uri: str, text: str) -> Path:
    """The producer's file: a path, or a name among those installed or within the genicam package (viky.cti)."""
    if Path(text).is_file():
        return Path(text).resolve()
    spec = importlib.util.find_spec("genicam")
    own = [Path(place) / text for place in (spec.submodule_search_locations or [])] if spec is not None else []
    for file in [*_installed(), *own]:
        if file.name == text and file.is_file():
            return file.resolve()
    if spec is None:
        optional("genicam", uri, "gentl")
    raise NotFound(uri, "open", f"there is no producer {text or '(write FILE.cti)'}, nor on {_SEARCH_PATH}")
