"""Producer and consumer for ezmsg 3.9: `ezmsg_units.py TRIAL two|one PORT RESULT` (two processes, or one)."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ezmsg.core as ez
import numpy as np
from ezmsg.core.graphserver import GraphService
from numpy.typing import NDArray
from trial import END, Arrivals, Trial


@dataclass(slots=True)
class Picture:
    seq: int
    sent_ns: int
    image: NDArray[np.uint8]


class Settings(ez.Settings):
    trial: Trial
    result: str


class Producer(ez.Unit):
    SETTINGS = Settings
    OUTPUT = ez.OutputStream(Picture)

    @ez.publisher(OUTPUT)
    async def produce(self) -> AsyncGenerator[tuple[Any, Picture], None]:
        trial = self.SETTINGS.trial
        image = trial.array()
        start_ns = time.monotonic_ns()
        for seq in range(trial.warmup + trial.paced):
            await asyncio.sleep(max(0, start_ns + trial.pace_ns(seq) - time.monotonic_ns()) / 1e9)
            yield self.OUTPUT, Picture(seq, time.monotonic_ns(), image)
        await asyncio.sleep(0.2)
        for seq in trial.flood():
            yield self.OUTPUT, Picture(seq, time.monotonic_ns(), image)
        await asyncio.sleep(0.3)
        yield self.OUTPUT, Picture(END, 0, image[:1])
        await asyncio.sleep(0.3)
        raise ez.NormalTermination


class Consumer(ez.Unit):
    SETTINGS = Settings
    INPUT = ez.InputStream(Picture)

    async def initialize(self) -> None:
        self.arrivals = Arrivals(self.SETTINGS.trial)

    @ez.subscriber(INPUT)
    async def consume(self, message: Picture) -> None:
        if message.seq == END:
            self.arrivals.save(Path(self.SETTINGS.result))
            raise ez.NormalTermination
        self.arrivals.take(message.seq, message.sent_ns, message.image)


def main() -> None:
    text, processes, port, result = sys.argv[1:]
    settings = Settings(trial=Trial.from_text(text), result=result)
    producer, consumer = Producer(settings), Consumer(settings)
    address = ("127.0.0.1", int(port))
    server = GraphService(address).create_server()  # on a port of this trial: the default one may be somebody else's
    try:
        ez.run(
            PRODUCER=producer,
            CONSUMER=consumer,
            connections=((producer.OUTPUT, consumer.INPUT),),
            process_components=(producer, consumer) if processes == "two" else None,
            graph_address=address,
            force_single_process=processes == "one",
        )
    finally:
        server.stop()


if __name__ == "__main__":
    main()
