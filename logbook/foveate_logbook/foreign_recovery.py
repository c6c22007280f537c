"""Mends MCAP files that other programs wrote: every message of a whole chunk goes to a new, indexed file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from foveate.errors import RecordingError
from foveate.recording.mcap_format import MAGIC

_MOST_RECORD = 1 << 32


def is_mcap(path: Path) -> bool:
    """Whether a file begins as an MCAP. Raises OSError."""
    with path.open("rb") as stream:
        return stream.read(len(MAGIC)) == MAGIC


def recover(path: Path, to: Path, progress: Callable[[float], None]) -> tuple[int, list[str]]:
    """Copy what is whole; the number of messages, and what was wrong, a line each. Raises RecordingError."""
    from mcap.writer import Writer

    if to.exists():
        raise RecordingError(f"{to}: exists already; choose another name")
    size = path.stat().st_size
    part = to.with_name(f".{to.name}.part")
    copier = _Copier()
    problems: list[str] = []
    try:
        with path.open("rb") as source, part.open("wb") as sink:
            writer: Any = Writer(sink)
            try:
                for record in _records(source):
                    copier.copy(writer, record, problems)
                    progress(source.tell() / max(size, 1))
            except OSError:
                raise
            except Exception as error:  # the reader knows many ways to say that a file is damaged
                what = f"{type(error).__name__} {error}".strip()
                problems.append(f"cannot be read from byte {source.tell()} of {size} on: {what}")
            copier.start(writer)
            writer.finish()
        part.rename(to)
    except OSError as error:
        raise RecordingError(f"{to}: cannot write: {error.strerror}") from None
    finally:
        part.unlink(missing_ok=True)
    return copier.messages, problems


def _records(source: Any) -> Any:
    from mcap.stream_reader import StreamReader

    return StreamReader(source, emit_chunks=True, record_size_limit=_MOST_RECORD).records


class _Copier:
    """What has been copied so far, with the numbers that schemas and channels have in the new file."""

    def __init__(self) -> None:
        self.messages = 0
        self._profile = ""
        self._started = False
        self._schemas: dict[int, int] = {0: 0}
        self._channels: dict[int, int] = {}

    def start(self, writer: Any) -> None:
        if not self._started:
            writer.start(profile=self._profile, library="foveate log recover")
            self._started = True

    def copy(self, writer: Any, record: Any, problems: list[str]) -> None:
        """One record of the old file; of a damaged chunk nothing is taken."""
        from mcap.stream_reader import breakup_chunk

        kind = type(record).__name__
        if kind == "Header":
            self._profile = record.profile
            return
        self.start(writer)
        if kind == "Chunk":
            try:
                inner = breakup_chunk(record, validate_crc=True)
            except Exception as error:
                problems.append(f"a chunk of {len(record.data)} bytes is damaged: {type(error).__name__}")
                return
            for item in inner:
                self.copy(writer, item, problems)
        elif kind == "Schema" and record.id not in self._schemas:
            self._schemas[record.id] = writer.register_schema(record.name, record.encoding, record.data)
        elif kind == "Channel" and record.id not in self._channels:
            self._channels[record.id] = writer.register_channel(
                record.topic, record.message_encoding, self._schemas.get(record.schema_id, 0), dict(record.metadata)
            )
        elif kind == "Message" and record.channel_id in self._channels:
            writer.add_message(
                self._channels[record.channel_id], record.log_time, record.data, record.publish_time, record.sequence
            )
            self.messages += 1
        elif kind == "Attachment":
            writer.add_attachment(record.create_time, record.log_time, record.name, record.media_type, record.data)
        elif kind == "Metadata":
            writer.add_metadata(record.name, dict(record.metadata))
