"""The head of Prophesee's files: lines of text that begin with `% `.

Keywords: Prophesee's documentation, "RAW file format" and "DAT file format".
"""

from __future__ import annotations

import re
from pathlib import Path

from foveate.errors import RecordingError

_MOST_HEAD = 1 << 16
# sensors by what plugins and generations are called, where an old head gives no geometry
_SENSORS = (
    ("genx320", 320, 320), ("imx636", 1280, 720), ("gen4", 1280, 720), ("gen_4", 1280, 720), ("gen3", 640, 480),
    ("3.0", 640, 480), ("3.1", 640, 480), ("4.0", 1280, 720), ("4.1", 1280, 720), ("4.2", 1280, 720),
)  # fmt: skip


def head_of(path: Path) -> tuple[dict[str, str], int]:
    """Keywords and values of a head, and where the data begin. Raises RecordingError where it has no end."""
    with path.open("rb") as stream:
        data = stream.read(_MOST_HEAD)
    values: dict[str, str] = {}
    place = 0
    while data[place : place + 1] == b"%":
        end = data.find(b"\n", place)
        if end < 0:
            raise RecordingError(f"{path}: its head of '%' lines has no end in {_MOST_HEAD} bytes; is it cut short?")
        text = data[place + 1 : end].decode("ascii", "replace").strip()
        place = end + 1
        if text == "end":
            break
        if text.lower().startswith("data file containing"):
            values["Data file containing"] = text[len("data file containing") :].strip()
            continue
        key, _, value = text.partition(" ")
        if key:
            values[key] = value.strip()
        # binary data may begin with '%' where the head has no end mark: a head's second character is a blank
        if data[place : place + 1] == b"%" and data[place + 1 : place + 2] not in (b" ", b"\t"):
            break
    return values, place


def format_of(head: dict[str, str]) -> str:
    """`EVT2`, `EVT3`, `EVT21`, ..., `DAT`, or nothing where the head does not say."""
    named = head.get("format", "").partition(";")[0].strip().upper()
    if named:
        return named.replace(".", "")
    if "evt" in head:
        return {"2.0": "EVT2", "2.1": "EVT21", "3.0": "EVT3", "4.0": "EVT4"}.get(head["evt"], f"EVT {head['evt']}")
    lower = {key.lower() for key in head}
    return "DAT" if "data file containing" in lower or "version" in lower else ""


def size_of_sensor(head: dict[str, str]) -> tuple[int, int]:
    """Width and height in pixels; zeros where neither head nor sensor's name tells."""
    lower = {key.lower(): value for key, value in head.items()}
    for item in lower.get("format", "").split(";")[1:]:
        key, _, value = item.partition("=")
        lower[key.strip().lower()] = value.strip()
    width, _, height = lower.get("geometry", "").lower().partition("x")
    for pair in ((width, height), (lower.get("width", ""), lower.get("height", ""))):
        if all(re.fullmatch(r"\s*[0-9]{1,4}\s*", size) and 0 < int(size) <= 4096 for size in pair):
            return int(pair[0]), int(pair[1])
    names = " ".join(lower.get(key, "") for key in ("plugin_name", "sensor_name", "sensor_generation", "generation"))
    return next(((w, h) for name, w, h in _SENSORS if name in names.lower()), (0, 0))
