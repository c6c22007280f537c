"""How long a question to a mirror takes: foveate's drivers beside a bare write and read, and beside plain pyserial.

An emulated board answers behind a pty from a process of its own; what it takes to answer is in every figure. All ways
send the same bytes and wait for the same reply; only the driver checks numbers, checksums and plausibility, notes
the reading and keeps its guardian informed. Ways take turns in blocks of 100 questions; numbers are over all blocks,
ratios are medians of each block's ratio to the bare way in the same turn.

    python benchmarks/mirrors.py                about 1 minute
    python benchmarks/mirrors.py --quick        5 turns instead of 100
"""

from __future__ import annotations

import argparse
import json
import os
import select
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import tty
from collections.abc import Callable
from pathlib import Path

import numpy as np
import serial

from foveate.clock import LiveClock
from foveate_drivers import dac_protocol
from foveate_drivers.mirrors import mre2_protocol
from foveate_drivers.mirrors.dac import DacMirror
from foveate_drivers.mirrors.etherdream_link import Link
from foveate_drivers.mirrors.mre2 import Mre2Mirror
from foveate_drivers.mirrors.wired import WiredMirror

BLOCK = 100
Ask = Callable[[], object]
_REGISTERS = [*list(mre2_protocol.ROUTING)[:3], "feedback_x", "feedback_y", "status", "feedback_x", "feedback_y"]
# case: emulator, driver's options, question, what ends the reply, how often that comes in it
CASES: dict[str, tuple[str, dict[str, str], bytes, bytes, int]] = {
    "mre2 pro position": ("mre2", {"mode": "pro"}, mre2_protocol.get_frame(_REGISTERS), b"~", 2),
    "mre2 simple goto": ("mre2", {"mode": "simple"}, b"xy= 0.1000;0.0000\r\n", b"\n", 1),
    "dac position": ("dac", {}, dac_protocol.line(7, "pos"), b"\n", 1),
    "dac goto": ("dac", {}, dac_protocol.line(7, "move", 100, 100, "now", 0), b"\n", 1),
}


def bare(path: Path, question: bytes, end: bytes, times: int) -> Ask:
    """The least there is: one write, reads until the end is there."""
    fd = os.open(path, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
    tty.setraw(fd)
    poller = select.poll()
    poller.register(fd, select.POLLIN)

    def ask() -> bytes:
        os.write(fd, question)
        reply = b""
        while reply.count(end) < times:
            if not poller.poll(1000):
                raise TimeoutError(path)
            reply += os.read(fd, 4096)
        return reply

    return ask


def plain(path: Path, question: bytes, end: bytes, times: int) -> Ask:
    """As pyserial's manual has it: write, then read up to the end of the reply."""
    port = serial.Serial(str(path), timeout=1)

    def ask() -> bytes:
        port.write(question)
        return b"".join(port.read_until(end) for _ in range(times))

    return ask


def driven(case: str, mirror: WiredMirror) -> Ask:
    """The driver's own way."""
    if case.endswith("goto"):
        return lambda: mirror.goto(np.array([0.002, 0.002]))
    return mirror.position


def block_us(ask: Ask) -> list[float]:
    taken = []
    for _ in range(BLOCK):
        begun = time.perf_counter_ns()
        ask()
        taken.append((time.perf_counter_ns() - begun) / 1e3)
    return taken


def measure(case: str, turns: int) -> dict[str, dict[str, float]]:
    """Median, p99 and ratio to the bare way, microseconds, by way."""
    emulator, options, question, end, times = CASES[case]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / emulator
        server = subprocess.Popen(
            [sys.executable, "-m", "foveate", "emulate", emulator, "--link", str(path)], stdout=subprocess.PIPE
        )
        try:
            assert server.stdout is not None
            server.stdout.readline()
            kind: type[WiredMirror] = Mre2Mirror if emulator == "mre2" else DacMirror
            mirror = kind(address=str(path), deadline=0.0, rate=1e9, timeout=1.0, **options)  # type: ignore[call-arg]
            mirror.uri = f"{emulator}:{path}"
            clock = LiveClock()
            clock.start()
            with mirror:
                mirror.open(clock)
                ways = {
                    "bare": bare(path, question, end, times),
                    "foveate": driven(case, mirror),
                    "pyserial": plain(path, question, end, times),
                }
                blocks: dict[str, list[list[float]]] = {way: [] for way in ways}
                for _ in range(turns):
                    for way, ask in ways.items():
                        blocks[way].append(block_us(ask))
        finally:
            server.terminate()
            server.wait()
    return {way: summary(blocks[way], blocks["bare"]) for way in blocks}


def dac_ways() -> dict[str, Callable[[str], Ask]]:
    """A ping to an Ether Dream at HOST:PORT; it serves one client at a time, so each way gets one of its own."""

    def bare_socket(address: str) -> Ask:
        host, _, port = address.rpartition(":")
        wire = socket.create_connection((host, int(port)), timeout=1.0)
        wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

        def reply() -> bytes:
            data = b""
            while len(data) < 22:
                data += wire.recv(22 - len(data))
            return data

        reply()  # unasked, on connecting
        return lambda: (wire.send(b"?"), reply())

    def link(address: str) -> Ask:
        made = Link(f"etherdream:{address}", address, 1.0)
        return lambda: made.exchange(b"?")

    return {"bare": bare_socket, "foveate": link}


def measure_ping(turns: int) -> dict[str, dict[str, float]]:
    """As `measure`, for the Ether Dream's ping over TCP."""
    servers, ways = [], {}
    try:
        for way, make in dac_ways().items():
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            command = [sys.executable, "-m", "foveate", "emulate", "etherdream", f"port={port}", "announce=0"]
            servers.append(subprocess.Popen(command, stdout=subprocess.PIPE))
            assert servers[-1].stdout is not None
            servers[-1].stdout.readline()
            ways[way] = make(f"127.0.0.1:{port}")
        blocks: dict[str, list[list[float]]] = {way: [] for way in ways}
        for _ in range(turns):
            for way, ask in ways.items():
                blocks[way].append(block_us(ask))
    finally:
        for server in servers:
            server.terminate()
            server.wait()
    return {way: summary(blocks[way], blocks["bare"]) for way in blocks}


def summary(blocks: list[list[float]], base: list[list[float]]) -> dict[str, float]:
    every = np.concatenate(blocks)
    ratios = [statistics.median(a) / statistics.median(b) for a, b in zip(blocks, base, strict=True)]
    return {
        "median_us": float(np.median(every)), "p99_us": float(np.percentile(every, 99)),
        "ratio_to_bare": statistics.median(ratios),
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--json", type=Path, help="write the figures here too")
    options = parser.parse_args()
    results = {}
    print(f"{'':20} {'way':10} {'median us':>10} {'p99 us':>8} {'x bare':>7}")
    turns = 5 if options.quick else 100
    for case in (*CASES, "etherdream ping"):
        results[case] = measure(case, turns) if case in CASES else measure_ping(turns)
        for way, figures in results[case].items():
            print(f"{case:20} {way:10} {figures['median_us']:10.0f} {figures['p99_us']:8.0f} "
                  f"{figures['ratio_to_bare']:7.2f}")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps(results, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
