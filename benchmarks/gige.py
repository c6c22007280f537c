"""Frames a second and CPU a frame through `gige:`, beside Aravis' own test client; and how well clocks are mapped.

Part 1: Debian's fake camera (arv-fake-gv-camera-0.8) and our emulator stream at a rate that both can keep, at three
sizes, in packets of 8,000 bytes, each a process of its own. Clients take turns in every repetition. The CPU of ours is
that of its process while it streams, the receiving thread's included; Aravis' client is counted whole, for it starts
within 20 ms of CPU. Numbers are medians over the repetitions, ratios are medians of each repetition's ratio. Aravis'
test client receives nothing by packet sockets on the loopback interface, so both are compared by UDP sockets; `gige:`
as root, who gets a packet socket, is given beside that. Needs apt packages aravis-tools, aravis-tools-cli.

Part 2, simulated: 120 frames a second, a camera's clock 40 ppm fast that wanders, delays of at least 1.5 ms with 1 ms
exponential jitter and 15 ms more in 1 % of frames. Errors of the mapped time without their mean, which is the least
delay and can be calibrated.

    python benchmarks/gige.py                   about 7 minutes
    python benchmarks/gige.py --quick           one repetition, two sizes
    python benchmarks/gige.py --clocks          only the clocks
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import re
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np

from foveate.clock import LiveClock
from foveate_drivers.cameras import gvcp
from foveate_drivers.cameras.gige import GigeCamera
from foveate_drivers.device_clock import DeviceClock
from foveate_drivers.emulators.gige import GigeEmulator
from foveate_drivers.emulators.gige_pattern import TestPattern

FAKE, PEER = "arv-fake-gv-camera-0.8", "arv-camera-test-0.8"
PACKET = 8000
RATE_HZ = {512: 200, 1024: 60, 2048: 20}
LONG_S = 6
NO_PACKET_SOCKET = 1  # ArvGvStreamOption
QUIET = subprocess.DEVNULL


def serve(size: int) -> None:
    """The emulator, until its standard input ends."""
    with GigeEmulator(camera=pattern(size)) as emulator:
        sys.stdin.read()
    print(emulator.counters(), file=sys.stderr)


def pattern(size: int) -> TestPattern:
    made = TestPattern(size, size, rate_hz=10.0)
    clock = LiveClock()
    clock.start()
    made.open(clock)  # so that the emulator leaves its life to us
    made.set("exposure", 1e-5)
    return made


def client(size: int, seconds: float, packet_socket: bool) -> None:
    """`gige:` as a process of its own; prints frames, losses and its CPU time."""
    camera = GigeCamera(
        address="127.0.0.1", width=size, height=size, rate=RATE_HZ[size], exposure=1e-4, packet_size=PACKET, buffers=50
    )
    camera.uri = "gige:127.0.0.1"
    clock = LiveClock()
    clock.start()
    with camera:
        camera.open(clock)
        if not packet_socket:
            set_options = camera._aravis.c.arv_camera_gv_set_stream_options
            set_options.argtypes = [ctypes.c_void_p, ctypes.c_int]
            set_options(camera._camera, NO_PACKET_SOCKET)
        camera.start()
        begun = resource.getrusage(resource.RUSAGE_SELF)
        end = time.perf_counter() + seconds
        frames = 0
        while time.perf_counter() < end:
            camera.read(2.0)
            frames += 1
        now, counters = resource.getrusage(resource.RUSAGE_SELF), camera.health().counters
    cpu_s = now.ru_utime + now.ru_stime - begun.ru_utime - begun.ru_stime
    print(json.dumps({"frames": frames, "lost": counters["lost"] + counters["incomplete"], "cpu_s": cpu_s}))


def answers() -> bool:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.settimeout(0.1)
        probe.connect(("127.0.0.1", gvcp.PORT))
        try:
            probe.send(gvcp.HEADER.pack(gvcp.COMMAND_KEY, gvcp.ACK_REQUIRED, gvcp.DISCOVERY, 0, 1))
            return len(probe.recv(512)) > 8
        except OSError:
            return False


@contextmanager
def camera_process(kind: str, size: int) -> Iterator[str]:
    """A camera at 127.0.0.1, alone in its process; gives the name that Aravis knows it by."""
    if kind == "fake":
        command, name = [FAKE, "-i", "127.0.0.1", "-s", "GV01"], "Aravis-Fake-GV01"
    else:
        command, name = [sys.executable, __file__, "--serve", str(size)], "foveate-FOV001"
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=QUIET, stderr=QUIET)
    try:
        end = time.perf_counter() + 10
        while not answers():
            if time.perf_counter() > end or process.poll() is not None:
                raise SystemExit(f"{command[0]} does not serve 127.0.0.1:{gvcp.PORT}; is another camera there?")
            time.sleep(0.05)
        yield name
    finally:
        process.terminate()
        process.wait()


def timed(command: list[str]) -> tuple[str, float]:
    """(output, CPU seconds of the process)."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, check=True, capture_output=True, text=True, stdin=QUIET)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def ours(name: str, size: int, seconds: float, packet_socket: bool = False) -> tuple[int, int, float]:
    kind = ["--packet-socket"] if packet_socket else []
    text, _ = timed([sys.executable, __file__, "--client", str(size), "--seconds", str(seconds), *kind])
    told = json.loads(text)
    return told["frames"], told["lost"], told["cpu_s"]


def theirs(name: str, size: int, seconds: float) -> tuple[int, int, float]:
    text, cpu_s = timed([
        PEER, "-n", name, "-w", str(size), "-h", str(size), "-f", str(RATE_HZ[size]), "-e", "100", "-i", str(PACKET),
        "--no-packet-socket", "-a", "-j", "never", f"--duration={seconds:.0f}",
    ])  # fmt: skip
    numbers = {key: int(value) for key, value in re.findall(r"(n_\w+)\s*=\s*(\d+)", text)}
    return numbers["n_completed_buffers"], numbers["n_failures"] + numbers["n_missing_frames"], cpu_s


def measure(client_of: Callable[[str, int, float], tuple[int, int, float]], kind: str, size: int) -> dict[str, float]:
    """Frames a second, frames lost, and CPU microseconds of a frame."""
    with camera_process(kind, size) as name:
        frames, lost, cpu_s = client_of(name, size, LONG_S)
    return {"fps": frames / LONG_S, "lost": lost, "cpu_us": 1e6 * cpu_s / max(frames, 1)}


def streaming(sizes: list[int], repetitions: int) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for kind in ("fake", "emulator"):
        for size in sizes:
            kinds = {"ours": ours, "aravis": theirs, "root": partial(ours, packet_socket=True)}
            runs = [{who: measure(act, kind, size) for who, act in kinds.items()} for _ in range(repetitions)]
            row: dict[str, object] = {"camera": kind, "size": size, "wanted_fps": RATE_HZ[size]}
            for who in kinds:
                row |= {f"{who}_{key}": statistics.median(run[who][key] for run in runs) for key in runs[0][who]}
            row["cpu_ratio"] = statistics.median(run["ours"]["cpu_us"] / run["aravis"]["cpu_us"] for run in runs)
            rows.append(row)
            print(
                f"{kind:9} {size:5} px, {RATE_HZ[size]} fps wanted: gige: {row['ours_fps']:.1f}, Aravis' client "
                f"{row['aravis_fps']:.1f}; CPU a frame {row['ours_cpu_us']:.0f} us, Aravis' {row['aravis_cpu_us']:.0f} "
                f"(x{row['cpu_ratio']:.2f}), as root {row['root_cpu_us']:.0f}; "
                f"lost {row['ours_lost']:.0f}, {row['aravis_lost']:.0f}, {row['root_lost']:.0f}",
                flush=True,
            )
    return rows


def ownership(sizes: list[int]) -> None:
    """What a copy of a frame would cost, as memory that a reader keeps a while and as memory used at once again."""
    for size in sizes:
        image = np.zeros((size, size), np.uint8)
        kept: deque[np.ndarray] = deque(maxlen=10)
        fresh_us, warm_us, target = [], [], np.empty_like(image)
        for _ in range(60):
            begun = time.perf_counter_ns()
            kept.append(image.copy())
            fresh_us.append((time.perf_counter_ns() - begun) / 1e3)
            begun = time.perf_counter_ns()
            np.copyto(target, image)
            warm_us.append((time.perf_counter_ns() - begun) / 1e3)
        print(f"a copy at {size:5} px: {statistics.median(fresh_us):7.1f} us, "
              f"into warm memory {statistics.median(warm_us):6.1f} us")  # fmt: skip


def clocks(seed: int, seconds: float = 180.0) -> dict[str, float]:
    """Standard deviation of each mapping's error, in microseconds, after the first 30 s."""
    rng = np.random.default_rng(seed)
    count = round(120 * seconds)
    true_ns = np.arange(count) * 1e9 / 120
    wander_ppm = np.cumsum(rng.normal(0, 0.002, count))
    device_ns = true_ns + np.cumsum((40 + wander_ppm) * 1e-6 * 1e9 / 120)
    delay_ns = 1.5e6 + rng.exponential(1e6, count) + np.where(rng.random(count) < 0.01, 15e6, 0)
    arrived_ns = true_ns + delay_ns
    clock = DeviceClock()
    hull = np.array([clock.map(int(d), int(a)).t_ns for d, a in zip(device_ns, arrived_ns, strict=True)])
    window, regressed = 3600, np.zeros(count)  # 30 s
    for i in range(window, count):
        x, y = (
            device_ns[i - window : i + 1] - device_ns[i],
            arrived_ns[i - window : i + 1] - device_ns[i - window : i + 1],
        )
        _, offset = np.polyfit(x, y, 1)
        regressed[i] = device_ns[i] + offset
    after = slice(window, None)
    errors = {"raw": arrived_ns, "regression": regressed, "DeviceClock": hull}
    found = {}
    for name, mapped in errors.items():
        error_us = (mapped - true_ns)[after] / 1e3
        found[name] = float(np.std(error_us))
        found[f"{name}_p99"] = float(np.percentile(np.abs(error_us - np.median(error_us)), 99))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--clocks", action="store_true")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--client", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--packet-socket", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=LONG_S, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    if options.client:
        client(options.client, options.seconds, options.packet_socket)
        return
    found = [clocks(seed) for seed in ((1,) if options.quick else (1, 2, 3))]
    mapping = {name: statistics.median(run[name] for run in found) for name in found[0]}
    for name in ("raw", "regression", "DeviceClock"):
        print(f"clock by {name:12} error {mapping[name]:8.1f} us, 99 % within {mapping[name + '_p99']:8.1f} us")
    rows: list[dict[str, object]] = []
    if not options.clocks:
        missing = [program for program in (FAKE, PEER) if shutil.which(program) is None]
        if missing:
            raise SystemExit(f"{', '.join(missing)}: apt install aravis-tools aravis-tools-cli")
        sizes = [512, 2048] if options.quick else [512, 1024, 2048]
        ownership(sizes)
        rows = streaming(sizes, 1 if options.quick else 3)
    if options.json:
        options.json.write_text(json.dumps({"clocks": mapping, "streaming": rows, "cores": os.cpu_count()}, indent=1))


if __name__ == "__main__":
    main()
