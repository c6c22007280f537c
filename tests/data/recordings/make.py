"""Makes the recordings of this folder, good and damaged, and what a reader must say of them: `python make.py`.

What is expected is worked out from what was written and where it was damaged, not by reading the files.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from foveate.recording import mcap_format as mcap
from foveate.recording.writer import ChannelSpec, McapWriter

HERE = Path(__file__).resolve().parent
TOPICS = ("/left.frame", "/right.frame", "/find.boxes")
SIZES = (5, 3, 8, 1, 6, 4)  # messages of each batch
GRAPH = b"foveate: 1\nnodes: {}\n"
SEAL = json.dumps({"format": 1, "graph": "conformance", "executor": "virtual", "nodes": [], "wires": []}).encode()
END = json.dumps({"stopped_by": "end"}).encode()

Message = tuple[int, int, int, int, bytes]  # channel, sequence, log time, publish time, content


def messages() -> list[list[Message]]:
    """The batches: JSON texts of 25 to 60 bytes, channels in turn, times that go up by an uneven step."""
    batches, number, counts = [], 0, [0, 0, 0]
    for size in SIZES:
        batch = []
        for _ in range(size):
            channel = 1 + (number * 7 // 3) % 3
            counts[channel - 1] += 1
            text = hashlib.sha256(str(number).encode()).hexdigest()[:8] * (number % 5)
            data = json.dumps({"number": number, "text": text}).encode()
            t_ns = 1_000_000_000 + number * 8_333_333
            batch.append((channel, counts[channel - 1], t_ns, t_ns - 4_000_000, data))
            number += 1
        batches.append(batch)
    return batches


@dataclass
class Made:
    """A file while it is made: its bytes, where its batches are, what is to be expected."""

    data: bytearray
    batches: list[list[Message]]
    begins: list[int]  # of the batch records
    ends: list[int]  # of the chunks behind them
    data_end: int  # behind the last message index
    closed: bool
    readable: set[int] = field(default_factory=set)  # numbers of batches
    torn_bytes: int = 0
    damages: list[dict[str, Any]] = field(default_factory=list)
    lost: dict[str, int] = field(default_factory=dict)
    attachments: list[str] = field(default_factory=list)

    def flip(self, at: int, mask: int = 0x10) -> None:
        self.data[at] ^= mask

    def damage(self, at: int, count: int) -> None:
        self.damages.append({"at": at, "messages": count})

    def lose(self, batch: int) -> None:
        """Damage costs this batch."""
        self.readable.discard(batch)
        for channel, *_ in self.batches[batch]:
            name = TOPICS[channel - 1].removeprefix("/")
            self.lost[name] = self.lost.get(name, 0) + 1

    def cut(self, size: int, acknowledged: bool = False) -> None:
        """The writer was killed when the file had this size; or the power was cut, and all had been `acknowledged`."""
        del self.data[size:]
        for batch, end in enumerate(self.ends):
            if end > size and batch in self.readable:
                self.lose(batch)
                for channel, *_ in self.batches[batch] if not acknowledged else ():
                    self.count_down(channel)

    def count_down(self, channel: int) -> None:
        """One message fewer was acknowledged on this channel."""
        at = record_at(self, mcap.TALLY) + mcap.TALLY_COUNTERS_AT + 8 * (mcap.TALLY_COUNTERS * (channel - 1) + 2)
        struct.pack_into("<Q", self.data, at, struct.unpack_from("<Q", self.data, at)[0] - 1)

    def expected(self) -> dict[str, Any]:
        streams = {}
        for number, topic in enumerate(TOPICS, 1):
            kept = [m for b in sorted(self.readable) for m in self.batches[b] if m[0] == number]
            streams[topic] = {"messages": len(kept), "sha256": digest(m[1:] for m in kept)}
        return {
            "closed": self.closed, "torn_bytes": self.torn_bytes, "streams": streams, "damages": self.damages,
            "lost": dict(sorted(self.lost.items())), "attachments": sorted(self.attachments),
        }  # fmt: skip


def digest(stream: Iterable[tuple[int, int, int, bytes]]) -> str:
    """SHA-256 over all messages: sequence (uint32), log and publish time, size (uint64 each), content."""
    total = hashlib.sha256()
    for sequence, log_ns, publish_ns, data in stream:
        total.update(struct.pack("<IQQQ", sequence, log_ns, publish_ns, len(data)) + data)
    return total.hexdigest()


def write(path: Path, batches: Sequence[list[Message]], *, closed: bool) -> Made:
    """An undamaged file, ended in order or left by a killed process."""
    specs = [ChannelSpec(topic, "json", {"type": "None"}, f"conformance.{i}", "jsonschema", b'{"type": "object"}')
             for i, topic in enumerate(TOPICS)]  # fmt: skip
    attachments = {"graph.yaml": ("application/yaml", GRAPH), "seal.json": ("application/json", SEAL)}
    path.unlink(missing_ok=True)
    writer = McapWriter(path, specs, attachments, {"foveate.run": {"graph": "conformance"}})
    begins, ends = [], []
    for batch in batches:
        begins.append(path.stat().st_size)
        for channel, sequence, log_ns, publish_ns, data in batch:
            writer.tally[mcap.TALLY_COUNTERS * (channel - 1)] += 1
            writer.add(channel, sequence, log_ns, publish_ns, [data])
        writer.flush()
        head = mcap.Batch.parse(path.read_bytes()[begins[-1] :])
        assert head is not None
        ends.append(begins[-1] + mcap.BATCH_BYTES + head.chunk_bytes)
    data_end = path.stat().st_size
    if closed:
        writer.finish({"end.json": ("application/json", END)})
    writer.close()
    made = Made(bytearray(path.read_bytes()), list(batches), begins, ends, data_end, closed, set(range(len(batches))))
    made.attachments = ["graph.yaml", "seal.json", *(["end.json"] if closed else [])]
    return made


def damaged_chunk(made: Made) -> None:
    made.flip(made.ends[2] - 40)
    made.damage(made.begins[2] + mcap.BATCH_BYTES, len(made.batches[2]))
    made.lose(2)


def damaged_first_chunk(made: Made) -> None:
    made.flip(made.ends[0] - 40)
    made.damage(made.begins[0] + mcap.BATCH_BYTES, len(made.batches[0]))
    made.lose(0)


def damaged_batch(made: Made) -> None:
    made.flip(made.begins[3] + 50)
    made.damage(made.begins[3], len(made.batches[3]))
    made.lose(3)


def damaged_first_batch(made: Made) -> None:
    made.flip(made.begins[0] + 50)
    made.damage(made.begins[0], len(made.batches[0]))
    made.lose(0)


def damaged_marker(made: Made) -> None:
    made.flip(made.begins[1] + mcap.RECORD_HEAD.size)
    made.damage(made.begins[1], len(made.batches[1]))
    made.lose(1)


def damaged_last_batch(made: Made) -> None:
    """Only the tally says how many messages it held."""
    made.flip(made.begins[5] + 50)
    made.damage(made.begins[5], len(made.batches[5]))
    made.lose(5)


def damaged_batch_of_a_closed_file(made: Made) -> None:
    """The index leads to the chunk without it."""
    made.flip(made.begins[3] + 50)


def damaged_index(made: Made) -> None:
    made.flip(len(made.data) - mcap.FOOTER_BYTES - 200)
    made.damage(len(made.data) - mcap.FOOTER_BYTES, 0)
    made.closed = False


def damaged_end_magic(made: Made) -> None:
    """As if the file had no index."""
    made.flip(len(made.data) - 1)
    made.closed = False


def record_at(made: Made, opcode: int) -> int:
    """Offset of the first record of a kind, from the front."""
    at = len(mcap.MAGIC)
    while made.data[at] != opcode:
        at += mcap.RECORD_HEAD.size + mcap.RECORD_HEAD.unpack_from(made.data, at)[1]
    return at


def damaged_topic(made: Made) -> None:
    """The first chunk describes the channels again, under its checksum."""
    made.flip(record_at(made, mcap.CHANNEL) + mcap.RECORD_HEAD.size + 12, 0x03)


def damaged_channel_number(made: Made) -> None:
    made.flip(record_at(made, mcap.CHANNEL) + mcap.RECORD_HEAD.size, 0x40)


def damaged_preamble_length(made: Made) -> None:
    """The header says that it ends within the second chunk; the first batch can still be found by its marker."""
    at = record_at(made, mcap.HEADER) + 1
    struct.pack_into("<Q", made.data, at, made.ends[1] - 30 - at - 8)
    made.damages, made.attachments = [], []


def damaged_attachment(made: Made) -> None:
    at = record_at(made, mcap.ATTACHMENT)
    made.flip(at + mcap.RECORD_HEAD.size + 50)
    made.damage(at, 0)
    made.attachments.remove("graph.yaml")


def damaged_tally(made: Made) -> None:
    """It says that it is of more channels than it has room for; without damage elsewhere nobody needs it."""
    at = record_at(made, mcap.TALLY)
    made.flip(at + mcap.RECORD_HEAD.size + 5, 0xFF)
    made.damage(at, 0)


def damaged_tally_of_a_closed_file(made: Made) -> None:
    made.flip(record_at(made, mcap.TALLY) + mcap.TALLY_COUNTERS_AT, 0xFF)


def two_damages(made: Made) -> None:
    damaged_batch(made)
    made.flip(made.ends[1] - 40)
    made.damage(made.begins[1] + mcap.BATCH_BYTES, len(made.batches[1]))
    made.lose(1)


def two_batches_in_a_row(made: Made) -> None:
    """One hole: the next whole batch says how many messages came before it."""
    made.flip(made.begins[2] + 60)
    made.flip(made.begins[3] + 60)
    made.damage(made.begins[2], len(made.batches[2]) + len(made.batches[3]))
    made.lose(2)
    made.lose(3)


def torn_batch(made: Made) -> None:
    size = made.ends[5] - 33
    made.torn_bytes = size - made.begins[5]
    made.cut(size)


def torn_head(made: Made) -> None:
    size = made.begins[4] + 40
    made.torn_bytes = size - made.begins[4]
    made.cut(size)


def torn_message_index(made: Made) -> None:
    """What is behind a chunk is not needed to read it."""
    made.cut(made.ends[5] + 11)


def torn_index(made: Made) -> None:
    """Killed while it wrote the index: all messages and the last attachment are there."""
    made.cut(len(made.data) - 100)
    made.closed = False


def torn_and_damaged(made: Made) -> None:
    torn_batch(made)
    damaged_chunk(made)


def power_cut(made: Made) -> None:
    """The end of what was acknowledged never reached the disk; the tally did."""
    size = made.ends[5] - 33
    made.torn_bytes = size - made.begins[5]
    made.cut(size, acknowledged=True)


def power_cut_and_damaged(made: Made) -> None:
    power_cut(made)
    damaged_chunk(made)


# name: closed, with messages, what is done to it
FILES: dict[str, tuple[bool, bool, Callable[[Made], None] | None]] = {
    "good": (True, True, None),
    "empty": (True, False, None),
    "killed": (False, True, None),
    "killed_empty": (False, False, None),
    "torn_batch": (False, True, torn_batch),
    "torn_head": (False, True, torn_head),
    "torn_message_index": (False, True, torn_message_index),
    "torn_index": (True, True, torn_index),
    "torn_and_damaged": (False, True, torn_and_damaged),
    "power_cut": (False, True, power_cut),
    "power_cut_and_damaged": (False, True, power_cut_and_damaged),
    "damaged_chunk": (True, True, damaged_chunk),
    "damaged_chunk_killed": (False, True, damaged_chunk),
    "damaged_first_chunk_killed": (False, True, damaged_first_chunk),
    "damaged_batch": (True, True, damaged_batch_of_a_closed_file),
    "damaged_batch_killed": (False, True, damaged_batch),
    "damaged_first_batch_killed": (False, True, damaged_first_batch),
    "damaged_marker_killed": (False, True, damaged_marker),
    "damaged_last_batch_killed": (False, True, damaged_last_batch),
    "damaged_index": (True, True, damaged_index),
    "damaged_end_magic": (True, True, damaged_end_magic),
    "damaged_topic_killed": (False, True, damaged_topic),
    "damaged_channel_number": (True, True, damaged_channel_number),
    "damaged_channel_number_killed": (False, True, damaged_channel_number),
    "damaged_preamble_length_killed": (False, True, damaged_preamble_length),
    "damaged_attachment": (True, True, damaged_attachment),
    "damaged_tally": (True, True, damaged_tally_of_a_closed_file),
    "damaged_tally_killed": (False, True, damaged_tally),
    "two_damages_killed": (False, True, two_damages),
    "two_batches_in_a_row_killed": (False, True, two_batches_in_a_row),
}


def make(folder: Path) -> None:
    """All files and `expected.json` into `folder`."""
    expected = {}
    for name, (closed, filled, change) in FILES.items():
        path = folder / f"{name}.mcap"
        made = write(path, messages() if filled else [], closed=closed)
        if change is not None:
            change(made)
            path.write_bytes(made.data)
        expected[path.name] = made.expected()
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    make(HERE)
