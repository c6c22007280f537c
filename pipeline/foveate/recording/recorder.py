"""The recorder of a run: streams, decisions and health into one file, acknowledged batch by batch."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from foveate import codec, decisions, health
from foveate.clock import process_ns
from foveate.graph import Graph
from foveate.messages import Message
from foveate.queues import Drop, Ledger
from foveate.recording import mcap_format as mcap
from foveate.recording.seal import GRAPH_NAME, SEAL_NAME, clock_reading, complete
from foveate.recording.writer import ChannelSpec, McapWriter, Unwritten
from foveate.station import RECORDER, Recorder

if TYPE_CHECKING:
    from foveate.run import Run

DECISIONS, HEALTH, END_NAME = "/foveate/decisions", "/foveate/health", "end.json"
BATCH_AGE_S = 0.02  # a message waits no longer in memory
_BATCH_BYTES = 256 * 1024  # from here on a batch is written at once
_SYNC_NS = 1_000_000_000  # the disk is asked to keep what was written this often
_HEALTH_NS = 500_000_000
_SIMULATED_DECISIONS = 256  # records; by count, so that two simulated runs write the same bytes
_LOG = logging.getLogger("foveate")


def channels_of(graph: Graph) -> tuple[list[ChannelSpec], dict[str, codec.Codec]]:
    """The channels of a recording: its streams, then foveate's own two; and the codec of each stream."""
    assert graph.record is not None
    specs, coders = [], {}
    for node, output, _ in graph.record.streams:
        kind = graph.nodes[node].schema.outputs[output].type
        coder = coders[f"{node}.{output}"] = codec.codec_of(kind)  # type: ignore[arg-type]
        specs.append(
            ChannelSpec(f"/{node}.{output}", coder.encoding, {"type": kind.__name__}, coder.schema_name,
                        coder.encoding, coder.schema_data)
        )  # fmt: skip
    specs.append(ChannelSpec(DECISIONS, "protobuf", {}, decisions.SCHEMA_NAME, "protobuf", decisions.schema_data()))
    specs.append(ChannelSpec(HEALTH, "json", {}, "foveate.Health", "jsonschema", b'{"type": "object"}'))
    return specs, coders


class McapRecorder(Recorder):
    """Writes every message it is given to one MCAP file: a channel a stream, named `/node.output`.

    Messages are collected for at most 20 ms and written as one batch; frames go at once. A disk that is full
    does not stop the run: what could not be written is in the ledger of its wire as `unwritten`.
    """

    def __init__(self, path: Path, graph: Graph, facts: Mapping[str, Any], *, owns_ledgers: bool = True) -> None:
        """`facts`: the seal as far as it is known before devices are open (`seal.provenance`);
        `owns_ledgers`: keep the sums of the recorder's wires in the file (not for a part of a run)."""
        self._owns_ledgers = owns_ledgers
        self.path = path
        self._graph = graph
        self._facts = facts
        self._run: Run | None = None
        self._writer: McapWriter | None = None
        self._lock = threading.Lock()  # of the writer
        self._opened = threading.Event()  # a batch has been begun
        self._closing = threading.Event()
        self._flusher: threading.Thread | None = None
        self._streams: list[str] = []
        self._synced_ns = self._healthy_ns = 0
        self._records = 0
        self._broken: Exception | None = None  # what ended the thread that flushes
        self._told = self._unsynced = False
        self.lost_own = 0  # batches of decisions, and states, that the disk did not take

    def connect(self, run: Run) -> None:
        self._run = run

    def open(self) -> None:
        assert self._run is not None
        specs, self._coders = channels_of(self._graph)
        self._streams = list(self._coders)
        self._channel = {name: number for number, name in enumerate(self._streams, 1)}
        seal = complete(self._facts, self._run.devices.values(), self._run.clock)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        summary = {"graph": self._graph.name, "wall_start_ns": str(self._run.clock.wall_start_ns)}
        summary |= {"executor": str(self._facts.get("executor", "")), **self._facts.get("versions", {})}
        self._writer = McapWriter(
            self.path, specs,
            {GRAPH_NAME: ("application/yaml", self._graph.text.encode()), SEAL_NAME: ("application/json", seal)},
            {"foveate.run": summary},
        )  # fmt: skip
        for number, inlet in enumerate(self._run.stations[RECORDER].inlets if self._owns_ledgers else ()):
            inlet.queue.ledger = TalliedLedger(self._writer.tally, mcap.TALLY_COUNTERS * number)
        self._synced_ns = process_ns()
        self._flusher = threading.Thread(target=self._flush_until_closed, name="flusher", daemon=True)
        self._flusher.start()

    def record(self, stream: str, message: Message, now_ns: int, sequence: int) -> None:
        assert self._writer is not None and self._run is not None
        if self._broken is not None:
            raise self._broken
        start_ns = self._run.clock.wall_start_ns
        pieces = self._coders[stream].encode(message, start_ns)
        with self._lock:
            writer = self._writer
            if not self._owns_ledgers:
                writer.tally[mcap.TALLY_COUNTERS * (self._channel[stream] - 1)] += 1
            writer.add(
                self._channel[stream], sequence, start_ns + now_ns, max(start_ns + message.stamp.t_ns, 0), pieces
            )
            self._records += 1
            if self._run.clock.kind == "simulated" and self._records % _SIMULATED_DECISIONS == 0:
                self._tell_decisions()
            if writer.pending_bytes >= _BATCH_BYTES:
                self._flush()
            elif writer.pending == 1:
                self._opened.set()

    def decide(self, steps: list[decisions.Step], drops: list[Drop]) -> None:
        """Decisions from before the file was begun."""
        with self._lock:
            self._add_own(DECISIONS, decisions.encode(steps, drops))

    def _add_own(self, topic: str, data: bytes) -> None:
        """A message of foveate's own; the lock is held."""
        assert self._writer is not None and self._run is not None
        place = len(self._streams) + (topic == HEALTH)
        self._writer.tally[mcap.TALLY_COUNTERS * place] += 1
        now_ns = self._run.clock.wall_start_ns + self._run.clock.now_ns()
        self._writer.add(place + 1, self._writer.tally[mcap.TALLY_COUNTERS * place], now_ns, now_ns, [data])

    def _tell_decisions(self) -> None:
        """Write down what the scheduler has decided since the last time; the lock is held."""
        assert self._run is not None
        steps, drops = self._run.log.drain()
        if steps or drops:
            self._add_own(DECISIONS, decisions.encode(steps, drops))

    def _flush(self) -> None:
        """Write what is waiting, with the decisions made so far; the lock is held."""
        assert self._writer is not None and self._run is not None
        if self._run.clock.kind != "simulated":
            self._tell_decisions()
        try:
            self._writer.flush()
            self._run.stations[RECORDER].stats.problem = ""
        except Unwritten as error:
            self._lose(error)

    def _lose(self, error: Unwritten) -> None:
        assert self._run is not None
        station = self._run.stations[RECORDER]
        for channel, count in error.lost.items():
            if channel > len(self._streams):
                self.lost_own += count
                continue
            for _ in range(count):
                station.inlets[channel - 1].queue.ledger.revoke("unwritten")
        station.stats.problem = f"cannot write: {error.error.strerror or error.error}"
        if not self._told:  # once: on a full disk a small batch may fit now and then
            self._told = True
            _LOG.error("%s: %s; the run goes on, what is lost is counted as 'unwritten'",
                       self.path, station.stats.problem)  # fmt: skip

    def _flush_until_closed(self) -> None:
        try:
            self._flush_in_time()
        except Exception as error:  # the next message ends the run with it: nobody must record into the void
            self._broken = error

    def _flush_in_time(self) -> None:
        """Nothing waits longer than the batch's age; the disk is asked to keep things once a second."""
        while not self._closing.is_set():
            if self._opened.wait(_HEALTH_NS / 1e9):
                self._closing.wait(BATCH_AGE_S)
                self._opened.clear()
            with self._lock:
                self._tell_health()
                self._flush()
            now = process_ns()
            if now - self._synced_ns >= _SYNC_NS and self._writer is not None:
                self._synced_ns = now
                try:
                    self._writer.sync()
                except OSError as error:
                    if not self._unsynced:
                        _LOG.error("%s: the disk does not keep it: %s", self.path, error.strerror)
                    self._unsynced = True

    @property
    def files(self) -> list[Path]:
        """What was written."""
        return [self.path] if self.path.exists() else []

    def _tell_health(self) -> None:
        assert self._run is not None
        if process_ns() - self._healthy_ns < _HEALTH_NS or self._run.clock.kind == "simulated":
            return
        self._healthy_ns = process_ns()
        clock = self._run.clock
        picture = {**health.snapshot(self._run.stations, clock.now_ns()), "clock": clock_reading(clock)}
        self._add_own(HEALTH, json.dumps(picture).encode())

    def close(self) -> None:
        """The file stays open for `end`, which the run's owner calls when the ledger is known."""

    def end(self, facts: Mapping[str, Any]) -> None:
        """What is only known when the run is over: costs of steps, the ledger.

        A disk that does not take the index costs nothing else: the file is recovered when it is opened.
        """
        if self._flusher is not None:
            self._closing.set()
            self._opened.set()
            self._flusher.join()
        if self._writer is None:
            return
        assert self._run is not None
        try:
            self._tell_decisions()
            self._flush()
            ending = {**facts, "lost_own": self.lost_own, "clock": clock_reading(self._run.clock)}
            self._writer.finish({END_NAME: ("application/json", json.dumps(ending).encode())})
        except Unwritten as error:
            self._lose(error)
        except OSError as error:
            if not self._told:
                _LOG.error("%s: has no index: %s; it is recovered when it is opened", self.path, error.strerror)
        finally:
            for inlet in self._run.stations[RECORDER].inlets if self._owns_ledgers else ():
                inlet.queue.ledger = Ledger.copy(inlet.queue.ledger)
            self._writer.close()
            self._writer = None


class TalliedLedger(Ledger):
    """A ledger whose sums lie in the file: they tell what was lost even after the process was killed."""

    __slots__ = ("_at", "_tally")

    def __init__(self, tally: memoryview, at: int) -> None:
        self._tally = tally
        self._at = at
        self.delivered = 0
        self.dropped = {}

    @property
    def produced(self) -> int:  # type: ignore[override]
        return int(self._tally[self._at])

    @produced.setter
    def produced(self, value: int) -> None:
        self._tally[self._at] = value

    def drop(self, reason: str) -> None:
        super().drop(reason)
        self._tally[self._at + 1] += 1
