"""Producer and consumer of a hop through dora-rs: `python -m peers.dora_node copy|loan|take PLAN`.

copy: a prepared array is sent as fixed_size_binary (a uint8 array would grow by 12.5 % on the wire).
loan: `send_output_raw` lends a buffer, the producer writes only a header into it. take: the consumer.
"""

from __future__ import annotations

import signal
import struct
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
from dora import Node
from numpy.typing import NDArray

from peers.plan import END, FLOOD, PACED, Plan, Tally

OUTPUT = "payload"
_HEADER = struct.Struct("<qq")  # phase, time of sending
Send = Callable[[int], None]


def copier(node: Any, payload: NDArray[np.uint8]) -> Send:
    """Sends the payload by `send_output`, which copies it into shared memory."""
    array = pa.FixedSizeBinaryArray.from_buffers(pa.binary(payload.size), 1, [None, pa.py_buffer(payload)])

    def send(phase: int) -> None:
        node.send_output(OUTPUT, array, {"phase": phase, "sent": time.monotonic_ns()})

    return send


def lender(node: Any, size: int) -> Send:
    """Sends a buffer of dora's own; the clock is read when the buffer is there, before it is sent."""

    def send(phase: int) -> None:
        with node.send_output_raw(OUTPUT, size) as buffer, memoryview(buffer) as view:
            _HEADER.pack_into(view, 0, phase, time.monotonic_ns())

    return send


def produce(plan: Plan, node: Any, send: Send) -> None:
    """Paced messages, then as fast as they go."""
    time.sleep(plan.settle_s)
    start = time.monotonic_ns()
    for index in range(plan.total):
        due_ns = start + int(index * 1e9 / plan.rate_hz)
        time.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
        send(PACED)
    time.sleep(0.2)
    sent, until = 0, time.monotonic() + plan.flood_s
    while time.monotonic() < until:
        send(FLOOD)
        sent += 1
    for _ in range(3):  # the queue may drop one
        time.sleep(0.2)
        node.send_output(OUTPUT, b"end", {"phase": END, "sent": sent})


def consume(plan: Plan, node: Any) -> None:
    """Count until the producer says that it has ended."""
    tally = Tally(plan.warm, plan.size)
    until = time.monotonic() + plan.limit_s
    while time.monotonic() < until:
        event = node.next(timeout=1.0)
        if event is None:
            continue
        if event["type"] == "STOP":
            break
        if event["type"] != "INPUT":
            continue
        metadata, value = event["metadata"], event["value"]
        if metadata.get("phase") == END:
            tally.sent = metadata["sent"]
            break
        view = np.frombuffer(value.buffers()[1], np.uint8)
        phase, sent_ns = metadata.get("phase"), metadata.get("sent")
        if phase is None:
            phase, sent_ns = _HEADER.unpack_from(view)
        tally.take(view, phase, sent_ns)
        del event, value, view
    tally.save(plan.out)


def main() -> None:
    role, plan = sys.argv[1], Plan.load(sys.argv[2])
    signal.alarm(round(plan.limit_s))  # ends this process whatever holds it
    node = Node()
    if role == "take":
        consume(plan, node)
    else:
        produce(plan, node, copier(node, plan.payload()) if role == "copy" else lender(node, plan.size))


if __name__ == "__main__":
    main()
