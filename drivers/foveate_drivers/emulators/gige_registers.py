"""The registers of an emulated GigE Vision camera and the GenICam description that names them.

Bootstrap registers: AIA GigE Vision 1.2, section 28. Names: EMVA SFNC 2.7. All numbers are big-endian.
"""

from __future__ import annotations

import ipaddress
import struct

MANUFACTURER, MODEL, VERSION = "foveate", "GigE emulator", "1"
TICKS_PER_S = 125_000_000  # of the timestamp: 8 ns, as cameras with a 125 MHz crystal have it
LARGEST_PACKET = 8036  # bytes with IP, UDP and GVSP headers: 8,000 bytes of image

HEARTBEAT_MS, CONTROL = 0x0938, 0x0A00
TIMESTAMP_CONTROL, TIMESTAMP_VALUE = 0x0944, 0x0948
STREAM_PORT, STREAM_PACKET, STREAM_DELAY, STREAM_ADDRESS = 0x0D00, 0x0D04, 0x0D08, 0x0D18
FIRE_TEST = 1 << 31

WIDTH, HEIGHT, OFFSET_X, OFFSET_Y, PIXEL_FORMAT, PAYLOAD_SIZE = range(0x10000, 0x10018, 4)
TRIGGER_SELECTOR, TRIGGER_MODE, TRIGGER_SOURCE, TRIGGER_SOFTWARE = range(0x10020, 0x10030, 4)
ACQUISITION_START, ACQUISITION_STOP, ACQUISITION_MODE = range(0x10030, 0x1003C, 4)
OFFSET_X_MAX, OFFSET_Y_MAX, WIDTH_MAX, HEIGHT_MAX = range(0x10040, 0x10050, 4)
EXPOSURE, GAIN, RATE, EXPOSURE_MAX, RATE_MAX, TEMPERATURE = range(0x10080, 0x100B0, 8)  # doubles
XML_AT = 0x20000
SIZE = 0x10100

_DISCOVERY_BYTES = 0xF8
_CAPABILITIES = 1 << 0 | 1 << 1 | 1 << 2 | 1 << 30  # several registers at once, write memory, resend, serial number
_READ_ONLY = {PIXEL_FORMAT, PAYLOAD_SIZE, EXPOSURE_MAX, RATE_MAX, TEMPERATURE, WIDTH_MAX, HEIGHT_MAX, OFFSET_X_MAX,
              OFFSET_Y_MAX}  # fmt: skip


def _integer(name: str, at: int, access: str = "RW", bounds: str = "", bits: str = "") -> str:
    kind = "MaskedIntReg" if bits else "IntReg"
    return (
        f'<Integer Name="{name}" NameSpace="Standard"><pValue>{name}Reg</pValue>{bounds}</Integer>'
        f'<{kind} Name="{name}Reg"><Address>0x{at:x}</Address><Length>4</Length><AccessMode>{access}</AccessMode>'
        f"<pPort>Device</pPort>{bits}<Sign>Unsigned</Sign><Endianess>BigEndian</Endianess></{kind}>"
    )


def _float(name: str, at: int, unit: str, bounds: str = "", access: str = "RW") -> str:
    return (
        f'<Float Name="{name}" NameSpace="Standard"><pValue>{name}Reg</pValue>{bounds}<Unit>{unit}</Unit></Float>'
        f'<FloatReg Name="{name}Reg"><Address>0x{at:x}</Address><Length>8</Length><AccessMode>{access}</AccessMode>'
        f"<pPort>Device</pPort><Endianess>BigEndian</Endianess></FloatReg>"
    )


def _choice(name: str, at: int, values: dict[str, int], access: str = "RW") -> str:
    entries = "".join(
        f'<EnumEntry Name="{key}" NameSpace="Standard"><Value>{value}</Value></EnumEntry>'
        for key, value in values.items()
    )
    return (
        f'<Enumeration Name="{name}" NameSpace="Standard">{entries}<pValue>{name}Reg</pValue></Enumeration>'
        f'<IntReg Name="{name}Reg"><Address>0x{at:x}</Address><Length>4</Length><AccessMode>{access}</AccessMode>'
        f"<pPort>Device</pPort><Sign>Unsigned</Sign><Endianess>BigEndian</Endianess></IntReg>"
    )


def _command(name: str, at: int, value: int = 1) -> str:
    return (
        f'<Command Name="{name}" NameSpace="Standard"><pValue>{name}Reg</pValue><CommandValue>{value}</CommandValue>'
        f'</Command><IntReg Name="{name}Reg"><Address>0x{at:x}</Address><Length>4</Length><AccessMode>WO</AccessMode>'
        f"<pPort>Device</pPort><Sign>Unsigned</Sign><Endianess>BigEndian</Endianess></IntReg>"
    )


def _text(name: str, at: int, length: int) -> str:
    return (
        f'<StringReg Name="{name}" NameSpace="Standard"><Address>0x{at:x}</Address><Length>{length}</Length>'
        "<AccessMode>RO</AccessMode><pPort>Device</pPort></StringReg>"
    )


_CATEGORIES = {
    "DeviceControl": "DeviceVendorName DeviceModelName DeviceVersion DeviceSerialNumber DeviceTemperature "
                     "TimestampLatch TimestampLatchValueHigh TimestampLatchValueLow GevTimestampTickFrequency",
    "ImageFormatControl": "WidthMax HeightMax Width Height OffsetX OffsetY PixelFormat",
    "AcquisitionControl": "AcquisitionMode AcquisitionStart AcquisitionStop ExposureTime AcquisitionFrameRate "
                          "TriggerSelector TriggerMode TriggerSource TriggerSoftware",
    "AnalogControl": "Gain",
    "TransportLayerControl": "PayloadSize GevSCPSPacketSize GevSCPSFireTestPacket GevHeartbeatTimeout",
}  # fmt: skip


def description(pixel_format: str, code: int, least: dict[int, float], gain_max_db: float) -> bytes:
    """The GenICam XML. `least`: lower bounds of exposure (us) and rate (Hz) by register."""
    first, last = "<Min>{}</Min><pMax>{}</pMax>", "<Min>{}</Min><Max>{}</Max>"
    nodes = [
        _text("DeviceVendorName", 0x48, 32), _text("DeviceModelName", 0x68, 32), _text("DeviceVersion", 0x88, 32),
        _text("DeviceSerialNumber", 0xD8, 16),
        _integer("WidthMax", WIDTH_MAX, "RO"), _integer("HeightMax", HEIGHT_MAX, "RO"),
        _integer("OffsetXMax", OFFSET_X_MAX, "RO"), _integer("OffsetYMax", OFFSET_Y_MAX, "RO"),
        _integer("Width", WIDTH, bounds=first.format(4, "WidthMax") + "<Inc>4</Inc>"),
        _integer("Height", HEIGHT, bounds=first.format(4, "HeightMax") + "<Inc>1</Inc>"),
        _integer("OffsetX", OFFSET_X, bounds=first.format(0, "OffsetXMax") + "<Inc>1</Inc>"),
        _integer("OffsetY", OFFSET_Y, bounds=first.format(0, "OffsetYMax") + "<Inc>1</Inc>"),
        _choice("PixelFormat", PIXEL_FORMAT, {pixel_format: code}, "RO"),
        _integer("PayloadSize", PAYLOAD_SIZE, "RO"),
        _choice("AcquisitionMode", ACQUISITION_MODE, {"Continuous": 0}),
        _command("AcquisitionStart", ACQUISITION_START), _command("AcquisitionStop", ACQUISITION_STOP),
        _float("ExposureTimeMax", EXPOSURE_MAX, "us", access="RO"),
        _float("AcquisitionFrameRateMax", RATE_MAX, "Hz", access="RO"),
        _float("ExposureTime", EXPOSURE, "us", first.format(least[EXPOSURE], "ExposureTimeMax")),
        _float("AcquisitionFrameRate", RATE, "Hz", first.format(least[RATE], "AcquisitionFrameRateMax")),
        _float("Gain", GAIN, "dB", last.format(0, gain_max_db)),
        _float("DeviceTemperature", TEMPERATURE, "C", access="RO"),
        _choice("TriggerSelector", TRIGGER_SELECTOR, {"FrameStart": 0}),
        _choice("TriggerMode", TRIGGER_MODE, {"Off": 0, "On": 1}),
        _choice("TriggerSource", TRIGGER_SOURCE, {"Software": 0}), _command("TriggerSoftware", TRIGGER_SOFTWARE),
        _command("TimestampLatch", TIMESTAMP_CONTROL, 2),
        _integer("TimestampLatchValueHigh", TIMESTAMP_VALUE, "RO"),
        _integer("TimestampLatchValueLow", TIMESTAMP_VALUE + 4, "RO"),
        _integer("GevTimestampTickFrequency", 0x0940, "RO"), _integer("GevHeartbeatTimeout", HEARTBEAT_MS),
        _integer("GevSCPSPacketSize", STREAM_PACKET, bounds=last.format(220, LARGEST_PACKET) + "<Inc>4</Inc>",
                 bits="<LSB>31</LSB><MSB>16</MSB>"),
        _command("GevSCPSFireTestPacket", STREAM_PACKET, FIRE_TEST),
    ]  # fmt: skip
    groups = "".join(
        f'<Category Name="{name}" NameSpace="Standard">'
        + "".join(f"<pFeature>{item}</pFeature>" for item in items.split())
        + "</Category>"
        for name, items in _CATEGORIES.items()
    )
    root = "".join(f"<pFeature>{name}</pFeature>" for name in _CATEGORIES)
    return (
        '<?xml version="1.0" encoding="UTF-8"?><RegisterDescription ModelName="emulator" VendorName="foveate" '
        'ToolTip="" StandardNameSpace="GEV" SchemaMajorVersion="1" SchemaMinorVersion="1" SchemaSubMinorVersion="0" '
        'MajorVersion="1" MinorVersion="0" SubMinorVersion="0" ProductGuid="8f2d1c64-93d0-4b57-9e58-0c6f2a5be001" '
        'VersionGuid="8f2d1c64-93d0-4b57-9e58-0c6f2a5be002" xmlns="http://www.genicam.org/GenApi/Version_1_1">'
        f'<Category Name="Root" NameSpace="Standard">{root}</Category>{groups}{"".join(nodes)}<Port Name="Device"/>'
        "</RegisterDescription>"
    ).encode()


class Registers:
    """The memory of the camera; addresses are those of the wire."""

    def __init__(self, address: str, serial: str, xml: bytes) -> None:
        self._memory = bytearray(SIZE)
        self._xml = xml
        self[0x0000] = 0x0001_0002  # GigE Vision 1.2
        self[0x0004] = 1 << 31 | 1  # big-endian, UTF-8
        self[0x0008], self[0x000C] = 0x0200, int.from_bytes(serial.encode()[-4:], "big")  # a local MAC address
        self[0x0010] = self[0x0014] = 1 << 0 | 1 << 2
        self[0x0024], self[0x0034] = int(ipaddress.IPv4Address(address)), 0xFF00_0000
        for at, length, text in ((0x48, 32, MANUFACTURER), (0x68, 32, MODEL), (0x88, 32, VERSION), (0xD8, 16, serial),
                                 (0x200, 512, f"Local:foveate_emulator.xml;{XML_AT:x};{len(xml):x}")):  # fmt: skip
            self._memory[at : at + length] = text.encode()[: length - 1].ljust(length, b"\0")
        self[0x0600], self[0x0904], self[0x0934] = 1, 1, _CAPABILITIES
        self[0x093C], self[0x0940] = divmod(TICKS_PER_S, 1 << 32)
        self[HEARTBEAT_MS], self[STREAM_PACKET] = 3000, 1500

    def __getitem__(self, at: int) -> int:
        return int.from_bytes(self._memory[at : at + 4], "big")

    def __setitem__(self, at: int, value: int) -> None:
        self._memory[at : at + 4] = (value & 0xFFFF_FFFF).to_bytes(4, "big")

    def number(self, at: int) -> float:
        return float(struct.unpack_from(">d", self._memory, at)[0])

    def set_number(self, at: int, value: float) -> None:
        struct.pack_into(">d", self._memory, at, value)

    def read(self, at: int, count: int) -> bytes | None:
        """Bytes at an address; None where there are none. Beyond the description's end they are 0."""
        if at >= 0 and at + count <= SIZE:
            return bytes(self._memory[at : at + count])
        if at >= XML_AT and at + count <= XML_AT + len(self._xml) + 1024:
            return self._xml[at - XML_AT : at - XML_AT + count].ljust(count, b"\0")
        return None

    @property
    def discovery(self) -> bytes:
        return bytes(self._memory[:_DISCOVERY_BYTES])

    def writable(self, at: int) -> bool:
        """Whether an application may write there at all."""
        known = at >= WIDTH or at in (HEARTBEAT_MS, CONTROL, TIMESTAMP_CONTROL) or STREAM_PORT <= at <= STREAM_ADDRESS
        return known and at + 4 <= SIZE and at not in _READ_ONLY and at & 3 == 0
