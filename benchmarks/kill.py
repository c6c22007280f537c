"""What is left of a recording whose writer is killed (SIGKILL) at a random moment: foveate beside mcap and foxglove.

A child writes small messages, and a frame now and then, in batches of 1 to 20, and acknowledges each batch over a
pipe once the writer has taken it; foveate's once `flush` has returned. After 1 to 500 ms it is killed. Lost: what
was acknowledged and is not read back, byte for byte. mcap's files are read by make_reader, and where that refuses by
StreamReader. foveate's child is the one of tests/fault/test_recording_faults.py.

    python benchmarks/kill.py                   500 kills of foveate, 30 of each peer: about 4 minutes
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.fault.test_recording_faults import Runner, check_prefix, message_of

from foveate.recording import Recording


def write_mcap(path: str, seed: int, flushed: bool) -> None:
    """The Writer of the `mcap` package; `flushed`: without chunks, and every batch is handed to the kernel."""
    from mcap.writer import Writer

    with Path(path).open("wb") as file:
        writer = Writer(file, use_chunking=not flushed)
        writer.start()
        channels = [writer.register_channel(f"/n{i}", "json", 0) for i in (1, 2, 3)]
        load(seed, lambda n, channel, data: writer.add_message(channels[channel - 1], n, data, n, n),
             file.flush if flushed else lambda: None)  # fmt: skip


def write_foxglove(path: str, seed: int, flushed: bool) -> None:
    """foxglove-sdk; `flushed`: its own `flush` after every batch."""
    from foxglove import Channel, Context, open_mcap

    context = Context()
    writer = open_mcap(path, context=context)
    channels = [Channel(f"/n{i}", message_encoding="json", context=context) for i in (1, 2, 3)]
    load(seed, lambda number, channel, data: channels[channel - 1].log(data, log_time=number),
         writer.flush if flushed else lambda: None)  # fmt: skip
    writer.close()


def load(seed: int, add: Callable[[int, int, bytes], None], flush: Callable[[], None]) -> None:
    """The same load as of foveate's child, until it is killed."""
    rng, number = random.Random(seed), 0
    while True:
        for _ in range(rng.randint(1, 20)):
            channel, data = message_of(seed, number)
            add(number, channel, data)
            number += 1
        flush()
        os.write(1, f"{number}\n".encode())
        time.sleep(0.002)


CHILDREN: dict[str, Callable[[str, int], None]] = {
    "mcap, default": lambda path, seed: write_mcap(path, seed, False),
    "mcap, no chunks, each batch flushed": lambda path, seed: write_mcap(path, seed, True),
    "foxglove-sdk, default": lambda path, seed: write_foxglove(path, seed, False),
    "foxglove-sdk, each batch flushed": lambda path, seed: write_foxglove(path, seed, True),
}


def read_back(path: Path, seed: int) -> tuple[bool, int]:
    """Whether make_reader opens it, and how many messages from the first on it or StreamReader gives."""
    from mcap.reader import make_reader
    from mcap.records import Message
    from mcap.stream_reader import StreamReader

    count, opened = 0, True
    with path.open("rb") as file:
        try:
            for _ in make_reader(file).iter_messages():
                pass
        except Exception:
            opened = False
        file.seek(0)
        try:
            for record in StreamReader(file, record_size_limit=None).records:
                if isinstance(record, Message):
                    if record.data != message_of(seed, count)[1]:
                        break
                    count += 1
        except Exception:  # OverflowError, EndOfFile, zstd's own: the file ends there
            pass
    return opened, count


def kill_peer(name: str, path: Path, seed: int, seconds: float) -> dict[str, Any]:
    """One kill of a peer, `seconds` after its first acknowledgement."""
    command = [sys.executable, __file__, "--child", name, str(path), str(seed)]
    child = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert child.stdout is not None
    first = child.stdout.readline()
    time.sleep(seconds)
    child.send_signal(signal.SIGKILL)
    rest = child.stdout.read()
    child.wait()
    acknowledged = int((first + rest).split(b"\n")[-2])
    opened, count = read_back(path, seed)
    return {"opened": opened, "acknowledged": acknowledged, "lost": max(acknowledged - count, 0)}


def kill_foveate(runner: Runner, path: Path, seed: int, seconds: float) -> dict[str, Any]:
    """One kill of foveate's writer, `seconds` after it was forked."""
    child = runner.start("write", path, seed)
    runner.listen(seconds)
    os.kill(child, signal.SIGKILL)
    runner.end()
    acknowledged = runner.acknowledged
    if not path.exists() or path.stat().st_size < 8:  # not a byte was written: nothing to open
        return {"opened": not acknowledged, "acknowledged": acknowledged, "lost": acknowledged}
    with Recording(path):
        count = check_prefix(path, seed, 0)
    return {"opened": True, "acknowledged": acknowledged, "lost": max(acknowledged - count, 0)}


def measure(runs: int, peer_runs: int) -> dict[str, list[dict[str, Any]]]:
    """All kills; foveate's spread between those of the peers."""
    rng, found = random.Random(7), {name: [] for name in ("foveate", *CHILDREN)}  # type: ignore[var-annotated]
    runner = Runner()
    with tempfile.TemporaryDirectory(dir="build") as folder:
        for run in range(max(runs, peer_runs)):
            for name, results in found.items():
                if run >= (runs if name == "foveate" else peer_runs):
                    continue
                path, seconds = Path(folder) / "killed.mcap", rng.uniform(0.001, 0.5)
                path.unlink(missing_ok=True)
                results.append(
                    kill_foveate(runner, path, run, seconds) if name == "foveate"
                    else kill_peer(name, path, run, seconds)
                )  # fmt: skip
    runner.close()
    return found


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        CHILDREN[sys.argv[2]](sys.argv[3], int(sys.argv[4]))
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500, help="of foveate")
    parser.add_argument("--peer-runs", type=int, default=30)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every single kill there")
    options = parser.parse_args()
    Path("build").mkdir(exist_ok=True)
    found = measure(options.runs, options.peer_runs)
    print("| | kills | acknowledged | lost of them | runs with a loss | lost in a run, median | most | opens |")
    print("|---|---|---|---|---|---|---|---|")
    for name, results in found.items():
        lost = [result["lost"] for result in results]
        print(f"| {name} | {len(lost)} | {sum(r['acknowledged'] for r in results):,} | {sum(lost):,} "
              f"| {sum(n > 0 for n in lost)} | {statistics.median(lost):.0f} | {max(lost)} "
              f"| {sum(r['opened'] for r in results)} |")  # fmt: skip
    total = sum(result["lost"] for result in found["foveate"])
    print(f"target no acknowledged message of foveate lost: {total} lost, {'missed' if total else 'met'}")
    if options.json:
        options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
