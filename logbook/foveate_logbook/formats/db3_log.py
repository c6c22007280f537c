"""ROS 2 bags in SQLite, read without rosbag2's metadata: it may be missing, odd or wrong."""

from __future__ import annotations

import heapq
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from foveate.errors import RecordingError
from foveate_logbook.formats.channels import Channel, ChannelLog, Decoder, one_line
from foveate_logbook.formats.ros_types import ros_decoder

MAGIC = b"SQLite format 3\0"
# on damaged pages sqlite3 also fails to decode its own error, and rows have values of other types
_BROKEN = (sqlite3.Error, UnicodeDecodeError, TypeError, ValueError, OverflowError)


class Db3Log(ChannelLog):
    """One or several `.db3` files read as one log."""

    def __init__(self, path: Path, parts: list[Path] | None = None) -> None:
        """`parts`: the files of a split bag, `path` then its folder. Raises RecordingError, BackendMissing."""
        super().__init__(path)
        self._parts: list[_Part] = []
        self._decoders: dict[tuple[str, str, str, str], Decoder] = {}
        self.metadata = {"format": "rosbag2 sqlite3"}
        try:
            for part in parts or [path]:
                self._open(part, parts is not None)
            if not self._parts:
                raise RecordingError(f"{path}: {self.problems['']}")
            times = [part.range_ns for part in self._parts if part.counts]
            self.start_ns = min((first for first, _ in times), default=0)
            self.end_ns = max((last for _, last in times), default=0)
            self._describe()
        except BaseException:
            self.close()
            raise

    def _open(self, path: Path, split: bool) -> None:
        try:
            part = _Part(path)
        except RecordingError as error:
            if not split:
                raise
            self._trouble(str(error))  # the other parts of a split bag can be read
            return
        self._parts.append(part)
        if part.problem:
            self._trouble(f"{path.name}: {part.problem}" if split else part.problem)
        number = len(self._parts) - 1
        for key, name, schema, encoding in part.topics:
            form, definition = part.definitions.get(schema, ("", ""))
            known = (encoding, schema, form, definition)
            if known not in self._decoders:
                self._decoders[known] = self._new_decoder(*known)
            channel = Channel(name, schema, part.counts.get(key, 0), self._decoders[known])
            self._channels[number, key] = channel

    def _new_decoder(self, encoding: str, schema: str, form: str, definition: str) -> Decoder:
        if encoding != "cdr":
            return Decoder(None, f"messages encoded as '{encoding}' are not read, cdr is")
        return ros_decoder(str(self.path), encoding, schema, form, definition)

    def _raw(self, keys: Collection[Any]) -> Iterator[tuple[Any, int, bytes]]:
        wanted: dict[int, list[int]] = {}
        for number, key in keys:
            wanted.setdefault(number, []).append(key)
        rows = [self._rows(number, wanted[number]) for number in sorted(wanted)]
        yield from heapq.merge(*rows, key=lambda row: row[1])

    def _rows(self, number: int, topics: list[int]) -> Iterator[tuple[Any, int, bytes]]:
        part = self._parts[number]
        last_ns = part.range_ns[0]
        try:
            for key, time_ns, data in part.rows(topics):
                if time_ns < last_ns:
                    self._trouble(f"{part.path.name} is damaged: its index of times does not fit its messages")
                last_ns = max(time_ns, last_ns)
                yield (number, key), last_ns, data
        except sqlite3.ProgrammingError:
            raise RecordingError(f"{self.path}: cannot read: it is closed") from None
        except _BROKEN as error:
            self._trouble(f"{part.path.name} is damaged ({one_line(error)}); what could be read before was")

    def close(self) -> None:
        for part in self._parts:
            part.close()


class _Part:
    """One database."""

    def __init__(self, path: Path) -> None:
        """Raises RecordingError."""
        self.path = path
        self.problem = ""
        self.topics: list[tuple[int, str, str, str]] = []
        self.definitions: dict[str, tuple[str, str]] = {}
        self.counts: dict[int, int] = {}
        self.range_ns = (0, 0)
        self._order: list[tuple[int, int, int]] | None = None  # time, row, topic: of a damaged file
        self._base = _connect(path)
        try:
            missing = 0 if _wal(path) else _missing_bytes(path)
            if missing > 0:
                self.problem = f"the file is cut off: its last {missing} bytes are missing"
            self._read_topics()
            try:
                query = "SELECT topic_id, count(*), min(timestamp), max(timestamp) FROM messages GROUP BY topic_id"
                self._counted(self._base.execute(query).fetchall())
            except _BROKEN as error:
                self._salvage(error)
        except _BROKEN as error:
            self.close()
            why = one_line(error)
            raise RecordingError(f"{path}: a damaged SQLite file: {why}; try 'sqlite3 {path.name} .recover'") from None
        except BaseException:
            self.close()
            raise

    def _read_topics(self) -> None:
        tables = {row[0] for row in self._base.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"topics", "messages"} <= tables:
            raise RecordingError(f"{self.path}: an SQLite file, but no ROS 2 bag: it has no tables topics and messages")
        query = "SELECT id, name, type, serialization_format FROM topics ORDER BY id"
        self.topics = [(int(key), str(n), str(t), str(s)) for key, n, t, s in self._base.execute(query)]
        if "message_definitions" in tables:
            query = "SELECT topic_type, encoding, encoded_message_definition FROM message_definitions"
            self.definitions = {str(name): (str(form), str(text)) for name, form, text in self._base.execute(query)}

    def _counted(self, rows: list[tuple[int, int, int, int]]) -> None:
        if not all(isinstance(value, int) for row in rows for value in row):
            raise ValueError("times that are no numbers")
        self.counts = {key: count for key, count, _, _ in rows}
        if rows:
            self.range_ns = min(row[2] for row in rows), max(row[3] for row in rows)

    def _salvage(self, error: Exception) -> None:
        """Row by row until the first that cannot be read."""
        self._order = []
        try:
            for row, key, time_ns in self._base.execute("SELECT id, topic_id, timestamp FROM messages NOT INDEXED"):
                if isinstance(time_ns, int) and isinstance(key, int):
                    self._order.append((time_ns, row, key))
        except _BROKEN:
            pass
        if not self._order:
            raise error
        self.problem = f"the file is damaged ({one_line(error)}); its first {len(self._order)} messages were found"
        self._order.sort()
        for _, _, key in self._order:
            self.counts[key] = self.counts.get(key, 0) + 1
        self.range_ns = self._order[0][0], self._order[-1][0]

    def rows(self, topics: list[int]) -> Iterator[tuple[int, int, bytes]]:
        """(topic, time, bytes), oldest first. Raises sqlite3.Error."""
        if self._order is None:
            marks = ",".join("?" * len(topics))
            query = f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) ORDER BY timestamp, id"
            for key, time_ns, data in self._base.execute(query, topics):
                yield key, time_ns, bytes(data)
            return
        for time_ns, row, key in self._order:
            if key in topics:
                for (data,) in self._base.execute("SELECT data FROM messages WHERE id = ?", (row,)):
                    yield key, time_ns, bytes(data)

    def close(self) -> None:
        self._base.close()


def _wal(path: Path) -> Path | None:
    """The write-ahead log of a database, where it has content."""
    wal = path.with_name(path.name + "-wal")
    return wal if wal.is_file() and wal.stat().st_size > 0 else None


def _missing_bytes(path: Path) -> int:
    """By how much a database is shorter than its header says (https://sqlite.org/fileformat.html, 1.3)."""
    with path.open("rb") as stream:
        head = stream.read(100)
    if len(head) < 100 or head[24:28] != head[92:96]:  # the size is valid only with the change it was written in
        return 0
    page = int.from_bytes(head[16:18], "big")
    return int.from_bytes(head[28:32], "big") * (65536 if page == 1 else page) - path.stat().st_size


def _connect(path: Path) -> sqlite3.Connection:
    """The database, never written to: with a write-ahead log that has content SQLite must see it, else it need not."""
    wal = _wal(path)
    mode = "mode=ro" if wal else "mode=ro&immutable=1"
    base = sqlite3.connect(f"{path.absolute().as_uri()}?{mode}", uri=True, check_same_thread=False)
    try:
        base.text_factory = lambda raw: raw.decode("utf-8", "replace")
        base.execute("PRAGMA trusted_schema = OFF")
        base.execute("SELECT count(*) FROM sqlite_master").fetchone()
    except _BROKEN as error:
        base.close()
        hint = f"; its newest messages are in {wal.name}: copy both to a folder you can write to" if wal else ""
        raise RecordingError(f"{path}: cannot read: {one_line(error)}{hint}") from None
    return base
