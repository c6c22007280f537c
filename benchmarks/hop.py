"""How long a message takes from one node to the next, and how many get through: foveate beside its peers.

Latency: from the producer's clock just before it publishes an array that exists already, until the
consumer holds a readable numpy view of it (CLOCK_MONOTONIC); 30 messages a second. Rate: what the
consumer gets while the producer sends as fast as it can. All engines take turns inside every
repetition; numbers are medians over the repetitions, ratios are medians of each repetition's ratio.

    python benchmarks/hop.py                    about 7 minutes; installs the peers under build/peers
    python benchmarks/hop.py --quick            one short repetition
    python benchmarks/hop.py --engines foveate,queue --repetitions 9
"""

from __future__ import annotations

import argparse
import os
import queue
import statistics
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from peers.launch import PACKAGES, PeerFailed, install, trial
from peers.plan import END, FLOOD, PACED, Plan, Tally

from foveate.errors import EndOfStream
from foveate.graph import Graph, NodeSpec, Wire
from foveate.messages import Message, Stamp
from foveate.node import Node, schema_of
from foveate.queues import Policy
from foveate.run import Run

SIZES = {"64 B": 64, "0.92 MB": 640 * 480 * 3, "6.22 MB": 1920 * 1080 * 3}
LARGEST = "6.22 MB"
TIMES_BELOW_PEERS = 20.0
TIMES_QUEUE = 3.0


@dataclass(frozen=True, slots=True, eq=False)
class Payload(Message):
    """A prepared array and when it was sent (CLOCK_MONOTONIC); `stamp` is the same moment."""

    array: NDArray[np.uint8]


class Produce(Node):
    """The same prepared array again and again: paced, or for `flood_s` as fast as the wire takes it."""

    class Outputs:
        out: Payload

    def __init__(self, *, plan: Plan, phase: int) -> None:
        self.plan, self.phase, self.sent, self.until = plan, phase, 0, 0.0
        self.array = plan.payload()

    def due_ns(self) -> int | None:
        return int(self.sent * 1e9 / self.plan.rate_hz) if self.phase == PACED else None

    def step(self) -> Payload:
        if self.phase == PACED:
            if self.sent >= self.plan.total:
                raise EndOfStream
        elif not self.sent:
            self.until = time.monotonic() + self.plan.flood_s
        elif time.monotonic() > self.until:
            raise EndOfStream
        self.sent += 1
        return Payload(Stamp(time.monotonic_ns()), self.array)


class Consume(Node):
    """Hands what comes to the tally."""

    def __init__(self, *, tally: Tally, phase: int) -> None:
        self.tally, self.phase = tally, phase

    def step(self, payload: Payload) -> None:
        self.tally.take(payload.array, self.phase, payload.stamp.t_ns)


def foveate(plan: Plan) -> dict[str, Any]:
    """The live executor with a graph of two nodes."""
    tally = Tally(plan.warm, plan.size)
    for phase, policy in ((PACED, "latest"), (FLOOD, "block(8)")):
        produce = Produce(plan=plan, phase=phase)
        nodes: dict[str, Node] = {"produce": produce, "consume": Consume(tally=tally, phase=phase)}
        specs = {name: NodeSpec(name, name, type(node), schema_of(type(node)), {}, {}) for name, node in nodes.items()}
        wire = Wire("produce", "out", "consume", "payload", Policy.parse(policy))
        run = Run(Graph("hop", Path("hop.yaml"), specs, (wire,)), "live", replace=nodes)
        result = run.execute(round(plan.limit_s * 1e9))
        if result.failure is not None:
            raise result.failure
        if not result.balanced:
            raise PeerFailed("a message is not accounted for")
        tally.sent = produce.sent if phase == FLOOD else 0
    return tally.result()


def threads(plan: Plan, wire: queue.SimpleQueue[Any] | queue.Queue[Any]) -> dict[str, Any]:
    """Two threads and a queue, arrays by reference."""
    tally, array, limit_s = Tally(plan.warm, plan.size), plan.payload(), plan.limit_s

    def produce() -> None:
        start = time.monotonic_ns()
        for index in range(plan.total):
            time.sleep(max(0, start + int(index * 1e9 / plan.rate_hz) - time.monotonic_ns()) / 1e9)
            wire.put((PACED, time.monotonic_ns(), array))
        time.sleep(0.1)
        until = time.monotonic() + plan.flood_s
        while time.monotonic() < until:
            wire.put((FLOOD, time.monotonic_ns(), array), timeout=limit_s)
            tally.sent += 1
        wire.put((END, 0, array))

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    while True:
        phase, sent_ns, view = wire.get(timeout=limit_s)
        if phase == END:
            break
        tally.take(view, phase, sent_ns)
    producer.join(limit_s)
    return tally.result()


@dataclass(frozen=True)
class Engine:
    """A row of the table: how it runs, and from which peer it comes."""

    key: str
    title: str
    run: Callable[[Plan, Mapping[str, Path]], dict[str, Any]]
    peer: str = ""


def engines() -> list[Engine]:
    """Every row, foveate first."""

    def of_peer(key: str, title: str, peer: str, mode: str) -> Engine:
        return Engine(key, title, lambda plan, pythons: trial(pythons[peer], mode, plan), peer)

    return [
        Engine("foveate", "foveate, live executor", lambda plan, _: foveate(plan)),
        Engine("queue", "bare SimpleQueue, two threads", lambda plan, _: threads(plan, queue.SimpleQueue())),
        Engine("queue8", "bare Queue(8), two threads", lambda plan, _: threads(plan, queue.Queue(8))),
        of_peer("dora", "dora-rs 1.1.0, two processes, 256 MiB pool", "dora", "copy"),
        of_peer("dora-loan", "dora-rs 1.1.0, `send_output_raw` (loan)", "dora", "loan"),
        of_peer("ezmsg", "ezmsg 3.9.0, two processes", "ezmsg", "two"),
        of_peer("ezmsg-one", "ezmsg 3.9.0, one process", "ezmsg", "one"),
    ]


class Results:
    """Outcomes by engine and size, one entry a repetition: values, or None where the trial failed."""

    def __init__(self) -> None:
        self._runs: dict[tuple[str, str], list[dict[str, Any] | None]] = {}
        self.reasons: dict[str, str] = {}  # of an engine's last failure

    def add(self, engine: str, size: str, outcome: dict[str, Any] | None) -> None:
        self._runs.setdefault((engine, size), []).append(outcome)

    def median(self, engine: str, size: str, value: str) -> float | None:
        """Over the repetitions that gave a value; None without any."""
        got = [run[value] for run in self._runs.get((engine, size), []) if run is not None]
        return statistics.median(got) if got else None

    def ratios(self, over: str, under: str, size: str, value: str) -> list[float]:
        """`over` / `under` in each repetition in which both worked."""
        pairs = zip(self._runs.get((over, size), []), self._runs.get((under, size), []), strict=False)
        return [a[value] / b[value] for a, b in pairs if a is not None and b is not None]


def measure(chosen: list[Engine], plans: Mapping[str, Plan], repetitions: int, folder: Path) -> Results:
    """All trials, engines interleaved; what fails is noted, and the rest goes on."""
    results, pythons = Results(), {}
    for peer in PACKAGES:
        if any(engine.peer == peer for engine in chosen):
            try:
                pythons[peer] = install(peer, folder)
            except (PeerFailed, OSError) as error:
                for engine in chosen:
                    if engine.peer == peer:
                        results.reasons[engine.key] = f"not installed: {error}"
    for repetition in range(1, repetitions + 1):
        for size, plan in plans.items():
            for engine in chosen:
                if engine.peer and engine.peer not in pythons:
                    continue
                try:
                    outcome: dict[str, Any] | None = engine.run(plan, pythons)
                except Exception as error:  # any fault of one engine is a line of its own, not the end
                    results.reasons[engine.key] = f"{size}: {error}"
                    outcome = None
                results.add(engine.key, size, outcome)
                print(f"  {repetition} {size} {engine.title}: {said(outcome)}", file=sys.stderr, flush=True)
    return results


def said(outcome: dict[str, Any] | None) -> str:
    """One trial as a progress line."""
    if outcome is None:
        return "failed"
    return f"{outcome['p50_us']:.0f} / {outcome['p99_us']:.0f} us, {outcome['rate']:.0f}/s"


def table(results: Results, chosen: list[Engine], sizes: list[str]) -> None:
    """Absolute numbers and their ratios to foveate."""
    print("\nIn brackets: times foveate's.\n")
    print("| engine | payload | p50, µs | p99, µs | messages/s | lost at that rate |")
    print("|---|---|---|---|---|---|")
    for size in sizes:
        for engine in chosen:
            if results.median(engine.key, size, "p50_us") is None:
                print(f"| {engine.title} | {size} | {results.reasons.get(engine.key, 'did not run')} | | | |")
                continue
            cells = [with_ratio(results, engine.key, size, value) for value in ("p50_us", "p99_us", "rate")]
            lost = results.median(engine.key, size, "lost") or 0.0
            print(f"| {engine.title} | {size} | {' | '.join(cells)} | {lost:.0%} |")
    print()
    for key, reason in results.reasons.items():
        print(f"failed trial: {key}: {reason}")


def with_ratio(results: Results, engine: str, size: str, value: str) -> str:
    """`120 (x4.0)`; the number alone where foveate did not run."""
    number = results.median(engine, size, value)
    ratios = results.ratios(engine, "foveate", size, value)
    text = f"{number:,.0f}".replace(",", " ")
    if not ratios:
        return text
    middle = statistics.median(ratios)
    return f"{text} (x{middle:.{0 if middle >= 10 else 1 if middle >= 1 else 3}f})"


def judge(results: Results, sizes: list[str]) -> None:
    """One line a target."""
    for peer in ("dora", "ezmsg"):
        ratios = results.ratios(peer, "foveate", LARGEST, "p50_us")
        name = {"dora": "dora-rs 1.1.0 (tuned, copy)", "ezmsg": "ezmsg 3.9.0 (two processes)"}[peer]
        claim = f"foveate's p50 at {LARGEST} at least {TIMES_BELOW_PEERS:.0f}x below {name}"
        print(verdict(claim, ratios, lambda ratio: ratio >= TIMES_BELOW_PEERS, results.reasons.get(peer, "")))
    for size in sizes:
        ratios = results.ratios("foveate", "queue", size, "p50_us")
        claim = f"foveate's p50 at {size} within {TIMES_QUEUE:.0f}x of the bare queue"
        print(verdict(claim, ratios, lambda ratio: ratio <= TIMES_QUEUE))


def verdict(claim: str, ratios: list[float], holds: Callable[[float], bool], reason: str = "") -> str:
    """The line of one target: the median ratio, its range over the repetitions, met or missed."""
    if not ratios:
        return f"target {claim}: missed, not measured{': ' * bool(reason)}{reason}"
    middle = statistics.median(ratios)
    span = f"{middle:.1f}x ({min(ratios):.1f} to {max(ratios):.1f})"
    return f"target {claim}: {span}, {'met' if holds(middle) else 'missed'}"


def main() -> None:
    known = engines()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition of 20 messages, to see that all runs")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--messages", type=int, default=60, help="at 30 a second, after 15 that do not count")
    parser.add_argument("--flood", type=float, default=1.0, metavar="S", help="how long the rate is measured")
    parser.add_argument("--peers", type=Path, default=Path("build/peers"), help="folder of the peers' environments")
    parser.add_argument("--engines", help=f"some of {','.join(engine.key for engine in known)}; all if not given")
    options = parser.parse_args()
    if options.quick:
        options.repetitions, options.messages, options.flood = 1, 20, 0.3
    wanted = options.engines.split(",") if options.engines else [engine.key for engine in known]
    if unknown := set(wanted) - {engine.key for engine in known}:
        parser.error(f"unknown engine {', '.join(sorted(unknown))}")
    if options.repetitions < 1 or options.messages < 2 or not 0 < options.flood <= 10:
        parser.error("needs a repetition, two messages and a flood of at most 10 s")
    chosen = [engine for engine in known if engine.key in wanted]
    plans = {name: Plan(size, 15, options.messages, flood_s=options.flood) for name, size in SIZES.items()}
    before = os.getloadavg()[0]
    results = measure(chosen, plans, options.repetitions, options.peers)
    table(results, chosen, list(SIZES))
    print(f"load average before {before:.1f}, after {os.getloadavg()[0]:.1f}, on {os.cpu_count()} cores\n")
    judge(results, list(SIZES))


if __name__ == "__main__":
    main()
