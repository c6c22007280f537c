"""Producer and consumer for dora-rs 1.1: `dora_node.py producer|consumer TRIAL array|raw RESULT`."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from dora import Node
from numpy.typing import NDArray
from trial import END, Arrivals, Trial

HEADER = 8  # bytes: in raw mode the clock travels in front of the image, as metadata are fixed before it is filled


def arrow(image: NDArray[np.uint8]) -> pa.Array:
    """One element of fixed_size_binary: no validity bitmap, so an image grows by 392 bytes, not by an eighth."""
    return pa.Array.from_buffers(pa.binary(image.nbytes), 1, [None, pa.py_buffer(image)])


def send_raw(node: Any, size: int, seq: int) -> None:
    """The slot is asked for and sent, only its header is written: what rendering straight into it would cost."""
    sent_ns = time.monotonic_ns()
    sample = node.send_output_raw("frame", size + HEADER, {"seq": seq})
    view = sample.as_memoryview()
    view[:HEADER] = sent_ns.to_bytes(HEADER, "little")
    view.release()
    sample.send()


def produce(trial: Trial, raw: bool) -> None:
    node = Node()
    image = trial.array()
    data = arrow(image)
    for seq in trial.sequence():
        if raw:
            send_raw(node, image.nbytes, seq)
        else:
            node.send_output("frame", data, {"seq": seq, "sent_ns": time.monotonic_ns()})
    time.sleep(0.5)  # what is under way arrives
    node.send_output("frame", pa.array([0], pa.uint8()), {"seq": END})
    time.sleep(0.5)


def receive(event: Mapping[str, Any], trial: Trial, raw: bool, arrivals: Arrivals) -> None:
    value, metadata = event["value"], event["metadata"]
    if raw:
        data = value.to_numpy()
        sent_ns = int.from_bytes(data[:HEADER].tobytes(), "little")
        view = data[HEADER:].reshape(trial.shape)
    else:
        sent_ns = metadata["sent_ns"]
        size = value.type.byte_width
        view = np.frombuffer(value.buffers()[1], np.uint8, size, value.offset * size).reshape(trial.shape)
    arrivals.take(metadata["seq"], sent_ns, view)


def consume(trial: Trial, raw: bool, result: Path) -> None:
    node, arrivals = Node(), Arrivals(trial)
    until = time.monotonic() + trial.longest_s
    while time.monotonic() < until:
        event = node.next(timeout=1.0)
        if event is None:
            break
        if event["type"] == "STOP" or (event["type"] == "INPUT" and event["metadata"]["seq"] == END):
            break
        if event["type"] == "INPUT":
            receive(event, trial, raw, arrivals)
    arrivals.save(result)


def main() -> None:
    role, text, mode, result = sys.argv[1:]
    trial = Trial.from_text(text)
    if role == "producer":
        produce(trial, mode == "raw")
    else:
        consume(trial, mode == "raw", Path(result))


if __name__ == "__main__":
    main()
