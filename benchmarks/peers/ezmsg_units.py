"""Producer and consumer of a hop through ezmsg: `python -m peers.ezmsg_units two|one PLAN` (processes)."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any

import ezmsg.core as ez
import numpy as np
from ezmsg.core.graphserver import GraphService
from numpy.typing import NDArray

from peers.plan import END, FLOOD, PACED, Plan, Tally

IN_FLIGHT = 8  # buffers, like the blocking queue of the others


@dataclass
class Payload:
    """One message."""

    phase: int
    sent: int  # time of sending; at the end the number of fast messages
    array: NDArray[np.uint8]


class PlanSettings(ez.Settings):
    plan: Plan


class Produce(ez.Unit):
    """Paced messages, then as fast as they go."""

    SETTINGS = PlanSettings
    OUT = ez.OutputStream(Payload, num_buffers=IN_FLIGHT, buf_size=2**23)

    @ez.publisher(OUT)
    async def send(self) -> AsyncGenerator[Any, None]:
        plan: Plan = self.SETTINGS.plan
        array = plan.payload()
        await asyncio.sleep(plan.settle_s)
        start = time.monotonic_ns()
        for index in range(plan.total):
            due_ns = start + int(index * 1e9 / plan.rate_hz)
            await asyncio.sleep(max(0, due_ns - time.monotonic_ns()) / 1e9)
            yield self.OUT, Payload(PACED, time.monotonic_ns(), array)
        await asyncio.sleep(0.2)
        sent, until = 0, time.monotonic() + plan.flood_s
        while time.monotonic() < until:
            yield self.OUT, Payload(FLOOD, time.monotonic_ns(), array)
            sent += 1
        yield self.OUT, Payload(END, sent, array[:1])


class Consume(ez.Unit):
    """Counts until the producer says that it has ended."""

    SETTINGS = PlanSettings
    IN = ez.InputStream(Payload)

    async def initialize(self) -> None:
        plan: Plan = self.SETTINGS.plan
        self.tally = Tally(plan.warm, plan.size)

    @ez.subscriber(IN)
    async def take(self, message: Payload) -> None:
        if message.phase == END:
            self.tally.sent = message.sent
            self.tally.save(self.SETTINGS.plan.out)
            raise ez.NormalTermination
        self.tally.take(message.array, message.phase, message.sent)


def main() -> None:
    processes, plan = sys.argv[1], Plan.load(sys.argv[2])
    signal.alarm(round(plan.limit_s))  # ends this process whatever holds it
    server = GraphService(("127.0.0.1", 0)).create_server()  # any free port of loopback
    produce, consume = Produce(PlanSettings(plan)), Consume(PlanSettings(plan))
    ez.run(
        components={"PRODUCE": produce, "CONSUME": consume},
        connections=((produce.OUT, consume.IN),),
        process_components=(produce, consume) if processes == "two" else None,
        force_single_process=processes == "one",
        graph_address=server.address,
    )
    server.stop()


if __name__ == "__main__":
    main()
