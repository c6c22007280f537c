"""Holds the outputs of a replay against the recording, and names the first message that differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from foveate import codec
from foveate.comparing import Difference, difference
from foveate.decisions import Step
from foveate.errors import RecordingError
from foveate.graph import Graph
from foveate.messages import Message
from foveate.recording.mcap_file import RawMessage
from foveate.recording.recording import Recording


@dataclass(slots=True)
class StreamVerdict:
    """How one stream compares."""

    compared: int = 0
    equal: int = 0  # byte for byte
    close: int = 0  # different, within the tolerance
    different: int = 0
    missing: int = 0  # recorded, not given this time
    extra: int = 0  # given, not recorded
    tolerance: float = 0.0

    @property
    def good(self) -> bool:
        return not (self.different or self.missing or self.extra)

    def __str__(self) -> str:
        parts = [f"{self.equal} equal"]
        if self.close:
            parts.append(f"{self.close} within {self.tolerance:g}")
        for name in ("different", "missing", "extra"):
            if getattr(self, name):
                parts.append(f"{getattr(self, name)} {name}")
        return ", ".join(parts)


@dataclass(slots=True)
class First:
    """The first message that differs, in the order in which steps were repeated."""

    stream: str
    number: int
    text: str
    step: Step
    inputs: list[str] = field(default_factory=list)


class Verifier:
    """Watches a replay. Streams that were not recorded are not compared."""

    def __init__(self, log: Recording, graph: Graph, tolerances: Mapping[str, float]) -> None:
        """`tolerances`: absolute, by stream; the others must be equal byte for byte. Raises RecordingError."""
        self.streams: dict[str, StreamVerdict] = {}
        self.first: First | None = None
        self._ended = False
        recorded = {stream.name for stream in log.streams()}
        for name in tolerances:
            if name not in recorded:
                raise RecordingError(f"{log.path}: a tolerance for '{name}', which was not recorded")
        self._log = log
        self._kinds: dict[str, type[Message]] = {}
        self._expected: dict[str, Iterator[RawMessage]] = {}
        self._next: dict[str, RawMessage | None] = {}
        self._wires = [entry["wire"] for entry in log.seal.get("wires", [])]
        for stream in log.streams():
            node, _, output = stream.name.rpartition(".")
            if node in graph.nodes and output in graph.nodes[node].schema.outputs:
                self._kinds[stream.name] = graph.nodes[node].schema.outputs[output].type
                self.streams[stream.name] = StreamVerdict(tolerance=tolerances.get(stream.name, 0.0))

    def leave_out(self, node: str) -> None:
        """A node whose outputs come from the recording itself."""
        for stream in [name for name in self.streams if name.rpartition(".")[0] == node]:
            del self.streams[stream]

    def watch(self, node: str, step: Step, output: str, number: int, message: Message | None) -> None:
        """See following.Watcher."""
        stream = f"{node}.{output}"
        verdict = self.streams.get(stream)
        if verdict is None:
            return
        if not number:
            verdict.extra += 1
            self._note(stream, 0, "came, and the recorded run gave nothing", step)
            return
        raw = self._recorded(stream, number)
        if raw is None:  # the recorder's queue let it fall, or the wire keeps every n-th only
            return
        verdict.compared += 1
        if message is None:
            verdict.missing += 1
            self._note(stream, number, "did not come; the recorded run gave it", step)
            return
        coder = codec.codec_of(self._kinds[stream])  # type: ignore[arg-type]
        if b"".join(coder.encode(message, self._log.wall_start_ns)) == raw.data:
            verdict.equal += 1
            return
        found = self._difference(coder, message, raw, verdict.tolerance)
        if found is None:
            verdict.close += 1
            return
        verdict.different += 1
        self._note(stream, number, f"differs in {found.told('recorded', 'replayed')}", step)

    @staticmethod
    def _difference(coder: codec.Codec, message: Message, raw: RawMessage, tolerance: float) -> Difference | None:
        try:
            recorded = coder.decode(raw.data)
        except Exception as error:
            return Difference("content", (f"{type(error).__name__}", "a message"))
        found = difference(recorded, message, tolerance)
        if found is None and not tolerance:
            return Difference("encoding", ("the same values", "in other bytes"), 0.0)
        return found

    def _recorded(self, stream: str, number: int) -> RawMessage | None:
        """Message `number` of a recorded stream; earlier ones are passed over as missing."""
        if stream not in self._expected:
            self._expected[stream] = self._log.raw(f"/{stream}")
            self._next[stream] = next(self._expected[stream], None)
        while (raw := self._next[stream]) is not None and raw.sequence < number & 0xFFFFFFFF:
            self.streams[stream].missing += 1
            self._next[stream] = next(self._expected[stream], None)
        if raw is None or raw.sequence != number & 0xFFFFFFFF:
            return None
        self._next[stream] = next(self._expected[stream], None)
        return raw

    def _note(self, stream: str, number: int, text: str, step: Step) -> None:
        if self.first is not None:
            return
        inputs = []
        for wire, sequence in zip(step.inputs[::2], step.inputs[1::2], strict=True):
            source, _, target = self._wires[wire].partition(" -> ")
            inputs.append(f"{target.rpartition('.')[2]} = {source} #{sequence}" if sequence else f"{target} = nothing")
        self.first = First(stream, number, text, step, inputs)

    def finish(self, ended: bool, closed: bool) -> None:
        """Count recorded messages that no step of the replay gave.

        `ended`: the replay came to its end; `closed`: so did the run (of a killed one the last have no decision).
        """
        self._ended = ended
        for stream, verdict in self.streams.items():
            if stream not in self._expected:
                self._recorded(stream, 0)
            rest = self._next.get(stream)
            while rest is not None and closed:
                verdict.missing += 1
                rest = next(self._expected[stream], None)

    @property
    def good(self) -> bool:
        return self._ended and self.compared > 0 and all(verdict.good for verdict in self.streams.values())

    @property
    def compared(self) -> int:
        """Messages that could be compared."""
        return sum(verdict.compared for verdict in self.streams.values())

    def lines(self) -> list[str]:
        """The verdict on every stream, then the first difference with its step and inputs."""
        width = max(map(len, self.streams), default=0)
        lines = [f"{name.ljust(width)}  {verdict}" for name, verdict in sorted(self.streams.items())]
        if self.first is not None:
            f = self.first
            node = f.stream.rpartition(".")[0]
            which = f"{f.stream} #{f.number}" if f.number else f"a message of {f.stream}"
            lines.append(f"first difference: {which} {f.text}")
            lines.append(f"  made by {node} in step {f.step.number} at {f.step.begun_ns / 1e9:.6f} s")
            lines.append(f"  from {', '.join(f.inputs) or 'no input'}")
        if self.good:
            return [*lines, "verified: the replay gave what was recorded"]
        why = "" if self.compared else ": there was nothing to compare"
        return [*lines, f"NOT VERIFIED{why if self._ended else ': the replay did not come to its end'}"]
