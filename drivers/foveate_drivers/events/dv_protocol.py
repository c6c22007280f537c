"""The network stream of dv-processing: a head as in AEDAT4 files, then packets, each compressed by itself if at all."""

from __future__ import annotations

from foveate_logbook.formats.events import aedat4_format as form

MOST_PACKET = 1 << 26  # bytes: two million events; a longer one is a damaged length
_MARK_AT = form.PACKET_HEAD.size
_NAME_AT = form.PACKET_HEAD.size + 8  # of an uncompressed packet: behind its size and the root's place


def endpoint(text: str) -> tuple[str, int] | None:
    """Host and port of `127.0.0.1:7777` or `[::1]:7777`; None where it is neither."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or len(port) > 5 or not 0 <= int(port) <= 65535:
        return None
    return host.strip("[]"), int(port)


def plausible(data: bytes | bytearray, place: int, head: form.Head) -> bool | None:
    """Whether a packet begins there; None where too little has arrived to tell."""
    if len(data) < place + _NAME_AT + 4:
        return None
    number, length = form.PACKET_HEAD.unpack_from(data, place)
    kinds = {stream.id: stream.kind for stream in head.streams}
    if number not in kinds or not 8 <= length <= MOST_PACKET:
        return False
    mark = bytes(data[place + _MARK_AT : place + _MARK_AT + 4])
    if head.compression.startswith("LZ4"):
        return mark == form.LZ4_MAGIC
    if head.compression.startswith("ZSTD"):
        return mark == form.ZSTD_MAGIC
    name = bytes(data[place + _NAME_AT : place + _NAME_AT + 4])
    return name == kinds[number].encode() and int.from_bytes(mark, "little") == length - 4


def skipped(data: bytearray, head: form.Head) -> int:
    """Bytes before the next place at which a packet may begin, 0 where one begins at once."""
    place = 0
    while plausible(data, place, head) is False:
        place += 1
    return place
