"""Events as text: a line each, of time, column, row and polarity, as datasets and spreadsheets have them.

Columns are found by their names where a first line gives any, else by what they hold (`t x y p` or `x y p t`). Times
with a point are seconds, whole ones microseconds, or nanoseconds where they are beyond 10^17.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from foveate.errors import RecordingError
from foveate_logbook.formats.events.base import MOST_NS, Block, EventReader, block_of

UNITS = {"s": 9, "ms": 6, "us": 3, "ns": 0}  # decimal places down to a nanosecond
_NAMES = {
    "t": "t", "ts": "t", "time": "t", "timestamp": "t", "timestamps": "t", "t_ns": "t", "t_us": "t", "t_s": "t",
    "x": "x", "y": "y", "p": "p", "pol": "p", "polarity": "p", "on": "p", "sign": "p",
}  # fmt: skip
_SPLIT = re.compile(r"[\s,;]+")
_NUMBER = re.compile(
    r"(?=.{1,40}$)[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?"
)  # of a bounded length, as int() is
_CHUNK = 1 << 20
_SAMPLE = 1 << 16
_NANOSECONDS_FROM = 10**17  # 1973 in nanoseconds of Unix time, the year 5138 in microseconds
_MOST_DIGITS = 18  # of a number in 64 bits
_POWERS = 10 ** np.arange(_MOST_DIGITS + 1, dtype=np.int64)
_TRUE, _FALSE = {"true", "on"}, {"false", "off"}
_BLANKS = bytes.maketrans(b",;\t\r", b"    ")
_OTHER = "lines that are no event"


class _Layout(NamedTuple):
    """What the first lines tell."""

    order: str  # letters of t, x, y, p, and _ for columns of something else
    unit: str
    skip: int  # bytes before the first event
    width: int
    height: int
    delimiter: str


class TextFile(EventReader):
    """A text file of events."""

    name = "text"

    def __init__(self, path: Path, unit: str | None = None) -> None:
        """`unit`: of the times, where it is not to be found out. Raises RecordingError."""
        super().__init__(path)
        with path.open("rb") as stream:
            layout = layout_of(stream.read(_SAMPLE))
        if layout is None:
            raise RecordingError(f"{path}: no events in this text: lines of time, column, row and polarity are wanted")
        self._layout = layout if unit is None else layout._replace(unit=unit)
        self.width, self.height = layout.width, layout.height
        said = "" if unit is None else ", as asked"
        self.about = {"columns": f"{layout.order} apart by {layout.delimiter}", "times": f"{self._layout.unit}{said}"}

    def blocks(self) -> Iterator[Block]:
        self._begin()
        left = b""
        with self.path.open("rb") as stream:
            stream.seek(self._layout.skip)
            while data := stream.read(_CHUNK):
                self.consumed += len(data)
                data = left + data
                end = data.rfind(b"\n") + 1
                left = data[end:]
                if len(left) > _CHUNK:  # no line is as long
                    self._lose("bytes without an end of line", len(left))
                    left = b""
                if end:
                    yield self._parsed(data[:end])
        if left.strip():
            yield self._parsed(left + b"\n")

    def tail(self) -> Block | None:
        with self.path.open("rb") as stream:
            stream.seek(max(self.path.stat().st_size - _SAMPLE, self._layout.skip))
            data = stream.read(_SAMPLE)
        return self._parsed(data[data.find(b"\n") + 1 : data.rfind(b"\n") + 1])

    def _parsed(self, data: bytes) -> Block:
        columns = len(self._layout.order)
        fast = _regular(data, columns, self._layout.order[0] == "t")
        if fast is None:
            fast = _columns(np.frombuffer(data, np.uint8), columns)
        if fast is None:
            return self._line_by_line(data.decode("ascii", "replace"))
        values, places = fast
        at = {name: self._layout.order.index(name) for name in "txyp"}
        t = _scaled(values[:, at["t"]], places[:, at["t"]], UNITS[self._layout.unit])
        x, y = (np.clip(_scaled(values[:, at[n]], places[:, at[n]], 0), -1, 0xFFFF) for n in "xy")
        return block_of(t, x % 0x10000, y % 0x10000, values[:, at["p"]] > 0)

    def _line_by_line(self, text: str) -> Block:
        """For what is not plain decimal numbers in lines of one length."""
        rows: list[tuple[int, int, int, int]] = []
        wrong = 0
        for line in text.splitlines():
            words = _SPLIT.split(line.strip(" \t,;"))
            if words == [""] or line.lstrip().startswith(("#", "%")):
                continue
            row = self._row(words) if len(words) == len(self._layout.order) else None
            if row is None:
                wrong += 1
            else:
                rows.append(row)
        self._lose(_OTHER, wrong, events=True)
        table = np.array(rows, np.int64).reshape(-1, 4)
        return block_of(table[:, 0], table[:, 1] % 0x10000, table[:, 2] % 0x10000, table[:, 3])

    def _row(self, words: list[str]) -> tuple[int, int, int, int] | None:
        at = {name: words[self._layout.order.index(name)] for name in "txyp"}
        if not all(_NUMBER.fullmatch(at[name]) for name in "txy"):
            return None
        scale = UNITS[self._layout.unit]
        t_ns = _exact(at["t"], scale) if "e" not in at["t"].lower() else round(float(at["t"]) * 10**scale)
        x, y = (min(max(int(float(at[name])), -1), 0xFFFF) for name in "xy")
        sign = at["p"].lower()
        if sign not in _TRUE | _FALSE and not _NUMBER.fullmatch(sign):
            return None
        positive = sign in _TRUE or (sign not in _FALSE and float(sign) > 0)
        return min(max(t_ns, -MOST_NS), MOST_NS), x, y, int(positive)


def layout_of(sample: bytes) -> _Layout | None:
    """How a text has its events; None where it has none."""
    if b"\0" in sample:
        return None
    names: list[str] = []
    width = height = skip = 0
    rows: list[list[str]] = []
    lines = sample.split(b"\n")
    for line in lines[: -1 if len(sample) == _SAMPLE else None]:
        text = line.decode("ascii", "replace").strip()
        words = [word for word in _SPLIT.split(text.lstrip("#%").strip()) if word]
        numeric = bool(words) and all(_NUMBER.fullmatch(w) or w.lower() in _TRUE | _FALSE for w in words)
        if not rows and not (numeric and len(words) >= 4 and not text.startswith(("#", "%"))):
            if [_NAMES.get(word.lower(), "") for word in words if word.lower() in _NAMES]:
                names = words
            elif numeric and len(words) == 2 and all(word.isdigit() for word in words):
                width, height = (int(word) if int(word) <= 4096 else 0 for word in words)
            elif words and not text.startswith(("#", "%")):
                return None
            skip += len(line) + 1
        elif numeric:
            rows.append(words)
    if not rows:
        return None
    order = _order(names, rows)
    if order is None:
        return None
    times = [row[order.index("t")] for row in rows if len(row) == len(order)]
    first = sample[skip:].split(b"\n")[0]
    delimiter = next((name for mark, name in ((b",", "commas"), (b";", "semicolons")) if mark in first), "blanks")
    return _Layout(order, _unit(names, order, times), skip, width, height, delimiter)


def _order(names: list[str], rows: list[list[str]]) -> str | None:
    """The columns' letters: as they are named, or as what they hold lets them be."""
    length = len(rows[0])
    if len(names) == length:
        order = "".join(_NAMES.get(name.lower(), "_") for name in names)
        return order if all(order.count(letter) == 1 for letter in "txyp") else None
    if length != 4:
        return None
    whole = [row for row in rows if len(row) == length]
    for order in ("txyp", "xypt"):
        signs = {row[order.index("p")].lower() for row in whole}
        times = [row[order.index("t")] for row in whole]
        numbers = all(_NUMBER.fullmatch(time) for time in times)
        grow = numbers and sum(float(b) < float(a) for a, b in itertools.pairwise(times)) <= len(times) // 4
        if grow and signs <= {"0", "1", "-1", "+1", "0.0", "1.0", "-1.0"} | _TRUE | _FALSE:
            return order
    return None


def _unit(names: list[str], order: str, times: list[str]) -> str:
    if len(names) == len(order):
        named = names[order.index("t")].lower().rpartition("_")[2]
        if named in UNITS:
            return named
    if any("." in time or "e" in time.lower() for time in times):
        return "s"
    return "ns" if any(abs(int(time)) >= _NANOSECONDS_FROM for time in times) else "us"


def _regular(data: bytes, columns: int, time_first: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """As `_columns`, twice as fast, for whole numbers, and for a time in front that always has as many places."""
    data = data.translate(_BLANKS)
    places = 0
    if b"." in data:
        found = _places(np.frombuffer(data, np.uint8)) if time_first else None
        if found is None:
            return None
        places, data = found, data.replace(b".", b"")
    if data.translate(None, b"0123456789- \n") or not data.strip():
        return None
    try:
        values = np.loadtxt(io.BytesIO(data), np.int64, comments=None, ndmin=2)
    except ValueError:  # lines of several lengths, numbers of more than 64 bits
        return None
    if values.shape[1] != columns:
        return None
    decimal = np.zeros(values.shape, np.int64)
    decimal[:, 0] = places
    return values, decimal


def _places(data: NDArray[np.uint8]) -> int | None:
    """Decimal places of each line's first number, where all have as many and no other number has any; else None."""
    points, ends, blanks = (np.flatnonzero(data == mark) for mark in (0x2E, 0x0A, 0x20))
    if points.size != ends.size or not blanks.size:
        return None
    begins = np.concatenate([[0], ends[:-1] + 1])
    after = blanks[np.minimum(np.searchsorted(blanks, begins), blanks.size - 1)] - points
    if not ((points > begins) & (points < ends) & (after == after[0])).all() or after[0] < 1:
        return None
    return int(after[0]) - 1


def _columns(data: NDArray[np.uint8], columns: int) -> tuple[NDArray[np.int64], NDArray[np.int64]] | None:
    """All numbers as whole ones, and how many decimal places they had: lines x columns. None: it needs more care."""
    digit = data - 48  # what is below '0' becomes large
    is_digit = digit <= 9
    point, minus = data == 0x2E, data == 0x2D
    apart = (data == 0x20) | (data == 0x0A) | (data == 0x2C) | (data == 0x0D) | (data == 0x09) | (data == 0x3B)
    if not (is_digit | point | minus | apart).all():
        return None
    within = ~apart
    edges = np.flatnonzero(np.diff(np.concatenate([[False], within, [False]])))
    starts, ends = edges[::2], edges[1::2]
    newlines = np.flatnonzero(data == 0x0A)
    lengths = np.diff(np.searchsorted(starts, newlines), prepend=0)
    if not ((lengths == columns) | (lengths == 0)).all() or starts.size == 0:
        return None
    passed = np.cumsum(is_digit, dtype=np.int32)
    total = passed[ends - 1]
    size = ends - starts
    right = np.repeat(total, size) - passed[within]  # digits that follow in the number
    if int(right.max()) >= _MOST_DIGITS:
        return None
    parts = np.where(is_digit[within], digit[within], 0) * _POWERS[right]
    first = np.concatenate([[0], np.cumsum(size)[:-1]])
    values = np.add.reduceat(parts, first)
    at_point = np.flatnonzero(point)
    owner = np.searchsorted(ends, at_point, side="right")
    places = np.zeros(starts.size, np.int64)
    places[owner] = total[owner] - passed[at_point]
    negative = minus[starts]
    # a number has one point at most, a sign in front only, and a digit
    odd = at_point.size > 1 and bool((np.diff(owner) == 0).any())
    if odd or int(minus.sum()) != int(negative.sum()) or bool((size - negative - _counts(owner, size.size) < 1).any()):
        return None
    values[negative] *= -1
    return values.reshape(-1, columns), places.reshape(-1, columns)


def _counts(owner: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    return np.bincount(owner, minlength=size)


def _scaled(values: NDArray[np.int64], places: NDArray[np.int64], scale: int) -> NDArray[np.int64]:
    """Numbers with decimal places, times ten to the power of `scale`, cut to whole ones and kept within 73 years."""
    if places.size and (same := int(places[0])) <= scale and (places == same).all():
        factor = 10 ** (scale - same)
        if int(np.abs(values).max()) <= MOST_NS // factor:
            return values * factor if factor > 1 else values
    power = scale - places
    up, down = _POWERS[np.clip(power, 0, _MOST_DIGITS)], _POWERS[np.clip(-power, 0, _MOST_DIGITS)]
    size = np.abs(values)
    grown = np.where(size > MOST_NS // up, MOST_NS, np.minimum(size, MOST_NS // up) * up)
    scaled = np.where(power >= 0, grown, np.minimum(size // down, MOST_NS))
    return np.asarray(np.where(values < 0, -scaled, scaled), np.int64)


def _exact(text: str, scale: int) -> int:
    """A decimal number times ten to the power of `scale`, without rounding on the way."""
    negative = text.startswith("-")
    whole, _, part = text.lstrip("+-").partition(".")
    value = int((whole or "0") + part[:scale].ljust(scale, "0"))
    return -value if negative else value


def encode(block: Block, unit: str = "s") -> bytes:
    """Lines `t x y p`, times in seconds with nine decimal places or in whole microseconds."""
    times = (
        (f"{t // 10**9}.{t % 10**9:09d}" for t in block.t_ns.tolist()) if unit == "s"
        else (str(t // 1000) for t in block.t_ns.tolist())
    )  # fmt: skip
    rows = zip(times, block.x.tolist(), block.y.tolist(), block.polarity.tolist(), strict=True)
    return "".join(f"{t} {x} {y} {p}\n" for t, x, y, p in rows).encode()
