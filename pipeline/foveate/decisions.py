"""What the scheduler decided: which messages each step consumed, when it ran, what was dropped and why.

It is the one source of lineage: an output names its step, the step names what it consumed, those name their
steps. Recorded, it lets a replay run every step on the same messages again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from foveate.queues import Drop

SCHEMA_NAME = "foveate.Decisions"
_Field = descriptor_pb2.FieldDescriptorProto


class Step(NamedTuple):
    """One step of a node."""

    node: int  # place among the graph's nodes
    number: int  # from 1
    since_ns: int  # when the oldest message that triggered it was put on its wire
    begun_ns: int
    done_ns: int  # when it had returned, and its outputs were on their wires
    inputs: tuple[int, ...] = ()  # wire, sequence number, wire, ...: what it consumed; 0 = nothing was there
    outputs: tuple[int, ...] = ()  # output (place among the node's), sequence number, time put, output, ...
    fault: str = ""  # what it raised
    notices: tuple[str, ...] = ()  # what it was told before the step: of upstream nodes; ". word", its own decision


class StepLog:
    """Steps and drops of a run as they happen; any thread adds, one drains."""

    def __init__(self) -> None:
        self.keeps = False  # somebody drains it; without, steps are only told to the listeners
        self._steps: deque[Step] = deque()
        self.drops: deque[Drop] = deque()
        self.listeners: list[Callable[[Step], None]] = []

    def add(self, step: Step) -> None:
        if self.keeps:
            self._steps.append(step)
        for listener in self.listeners:
            listener(step)

    def drain(self) -> tuple[list[Step], list[Drop]]:
        """What was added since the last time."""
        steps = [self._steps.popleft() for _ in range(len(self._steps))]
        return steps, [self.drops.popleft() for _ in range(len(self.drops))]


@cache
def _schema() -> tuple[bytes, Any]:
    """The file descriptor set and the message class."""
    files = descriptor_pb2.FileDescriptorSet()
    file = files.file.add(name="foveate/Decisions.proto", package="foveate", syntax="proto3")
    kinds = {"i": _Field.TYPE_SINT64, "u": _Field.TYPE_UINT64, "s": _Field.TYPE_STRING}
    layout = {
        "Step": "node:u number:u since_ns:i begun_ns:i done_ns:i inputs:u* outputs:u* fault:s notices:s*",
        "Drop": "wire:u sequence:u reason:s t_ns:i",
    }
    for name, columns in layout.items():
        message = file.message_type.add(name=name)
        for number, column in enumerate(columns.split(), 1):
            field, _, kind = column.partition(":")
            label = _Field.LABEL_REPEATED if kind.endswith("*") else _Field.LABEL_OPTIONAL
            message.field.add(name=field, number=number, type=kinds[kind[0]], label=label)
    outer = file.message_type.add(name="Decisions")
    for number, name in enumerate(layout, 1):
        outer.field.add(name=name.lower() + "s", number=number, type=_Field.TYPE_MESSAGE,
                        label=_Field.LABEL_REPEATED, type_name=f".foveate.{name}")  # fmt: skip
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return files.SerializeToString(), message_factory.GetMessageClass(pool.FindMessageTypeByName(SCHEMA_NAME))


def schema_data() -> bytes:
    """The schema for the recording."""
    return _schema()[0]


def encode(steps: list[Step], drops: list[Drop]) -> bytes:
    """Steps and drops as one message."""
    out = _schema()[1]()
    for s in steps:
        out.steps.add(
            node=s.node, number=s.number, since_ns=s.since_ns, begun_ns=s.begun_ns, done_ns=s.done_ns,
            inputs=s.inputs, outputs=s.outputs, fault=s.fault, notices=s.notices,
        )  # fmt: skip
    for d in drops:
        out.drops.add(wire=d.wire, sequence=d.sequence, reason=d.reason, t_ns=d.t_ns)
    return bytes(out.SerializeToString())


def decode(data: bytes | memoryview) -> Iterator[Step | Drop]:
    """What `encode` wrote. Raises google.protobuf.message.DecodeError."""
    message = _schema()[1].FromString(bytes(data))
    for s in message.steps:
        yield Step(
            s.node, s.number, s.since_ns, s.begun_ns, s.done_ns, tuple(s.inputs), tuple(s.outputs), s.fault,
            tuple(s.notices),
        )  # fmt: skip
    for d in message.drops:
        yield Drop(d.wire, d.sequence, d.reason, d.t_ns)
